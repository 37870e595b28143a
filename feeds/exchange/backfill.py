"""Ask REST for the candles that no stream brings, and ask again where an answer does not help.

The stream brings candles as they form and close. REST is asked for what passed before the exchange confirmed a stream,
for a hole that does not close by itself, for a candle whose end has passed and which the stream does not close, and,
ever more seldom, for what the exchange itself had lost: it may have found it since. Each question starts where the
series goes on at that moment, so that only the missing span is fetched.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from feeds.exchange.candles import UNREADABLE_MOST, CandleSeries, Gap
from feeds.exchange.market import ExchangeMarket
from feeds.exchange.recorder import Recorder
from feeds.exchange.venue import Key, Venue
from feeds.fields import Rows
from feeds.intervals import STEP_MS, count_between, next_open
from feeds.model import Candle
from orchestrator.clock import Clock
from orchestrator.errors import ProviderError
from orchestrator.http import HttpRequest, HttpResponse
from orchestrator.retry import Backoff
from orchestrator.upstream import Upstream

log = logging.getLogger(__name__)

HISTORY = 500
HISTORY_ON_DEMAND = 100
"""Rows of a series that a client has started: there may be hundreds of them."""
AT_ONCE = 4
AT_ONCE_ON_DEMAND = 2
STARTS_PER_S = 20.0
"""Questions a second for all series that clients have started; the others wait for their turn."""
STARTS_AT_ONCE = 40

SKEW_ERROR_MS = 500
"""Possible error of what we know of the exchange's clock: REST shows it in whole seconds."""


@dataclass(frozen=True, slots=True)
class BackfillPolicy:
    """How soon REST is asked. Times in seconds."""

    patience_s: float = 2.0
    """How long a candle may be missing before REST is asked: frames overtake each other, and closing one takes time."""
    first_delay_s: float = 1.0
    longest_delay_s: float = 15.0
    """Longest pause after failures. A candle that waits for REST delays all that come after it."""
    hole_longest_s: float = 600.0
    """Longest time between two questions for one candle that REST does not have."""
    gap_first_s: float = 300.0
    """What the exchange has lost is asked for again after this time, then after twice as long each time."""
    gap_longest_s: float = 6 * 3600.0


@dataclass(slots=True)
class _Wait:
    """Something that is missing, and when it is asked for next."""

    lacks: int
    due: float
    delay_s: float


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer, and a time of the exchange's clock at which it was true at the earliest; None if unknown."""

    response: HttpResponse
    rows: Rows[Candle]
    as_of_ms: int | None


class Backfills:
    """Fills every series of a market, in tasks of `group`.

    `ask(request, urgent)` sends a request. `answered(key, candles)` is called with every answer that was applied.
    `exchange_ms()` returns what the exchange's clock shows now, as far as is known. `is_configured(key)` is True for
    the series that the settings name; those that clients have started wait for their turn and are never urgent.
    """

    def __init__(
        self,
        market: ExchangeMarket,
        rest: Upstream,
        ask: Callable[[HttpRequest, bool], Awaitable[HttpResponse]],
        answered: Callable[[Key, Sequence[Candle]], None],
        exchange_ms: Callable[[], int],
        clock: Clock,
        rng: random.Random,
        policy: BackfillPolicy,
        recorder: Recorder | None,
        group: asyncio.TaskGroup,
        is_configured: Callable[[Key], bool] = lambda key: True,
    ) -> None:
        self.market = market
        self.venue: Venue = market.venue
        self.rest = rest
        self.ask = ask
        self.answered = answered
        self.exchange_ms = exchange_ms
        self.clock = clock
        self.rng = rng
        self.policy = policy
        self.recorder = recorder
        self.group = group
        self.is_configured = is_configured
        self.slots_on_demand = asyncio.Semaphore(AT_ONCE_ON_DEMAND)
        self.next_turn = float("-inf")
        self.running: set[Key] = set()
        self.again: set[Key] = set()
        self.slots = asyncio.Semaphore(AT_ONCE)
        self.lacking: dict[Key, _Wait] = {}
        self.lost: dict[tuple[Key, int], _Wait] = {}

    def start(self, key: Key) -> None:
        """Fetch what a series lacks. If that is under way, it is done once more: the question may be too old."""
        if key in self.running:
            self.again.add(key)
        else:
            self.running.add(key)
            self.group.create_task(self._complete(key), name=f"backfill:{key[0]}:{key[1]}")

    async def mend(self) -> None:
        """Look after all series until cancelled."""
        while True:
            await self.clock.sleep(self.policy.patience_s / 4)
            self._look_for_holes(self.clock.now())
            self._look_into_gaps(self.clock.now())

    # --- what is missing now ---

    def _look_for_holes(self, now: float) -> None:
        exchange_ms = self.exchange_ms()
        lacking: dict[Key, _Wait] = {}
        for key, series in self.market.series.items():
            lacks = _lacks(series, exchange_ms)
            if lacks is None:
                continue
            wait = self.lacking.get(key)
            if wait is None or wait.lacks != lacks:
                wait = _Wait(lacks, now + self.policy.patience_s, self.policy.patience_s)
            elif now >= wait.due and key not in self.running:
                wait.delay_s = min(2 * wait.delay_s, self.policy.hole_longest_s)
                wait.due = now + wait.delay_s
                self.start(key)
            lacking[key] = wait
        self.lacking = lacking

    async def _complete(self, key: Key) -> None:
        """Ask until nothing is missing."""
        backoff = Backoff(self.policy.first_delay_s, self.policy.longest_delay_s, self.rng)
        try:
            while await self._turn(key) and (series := self.market.series.get(key)) is not None:
                self.again.discard(key)
                start = series.expected() if series.reached_back else None
                limit = self._limit(key, series, start)
                request = self.venue.rest.candles(*key, limit, start)
                try:
                    answer = await self._fetch(key, request, urgent=self.is_configured(key))
                except ProviderError as error:
                    log_failure(self.rest, "candles", error)
                    if not series.begun and self.market.series.get(key) is series:
                        self._without_history(key, request)
                    await self.clock.sleep(max(backoff.next_delay_s(), self.rest.back_in_s()))
                    continue
                if self.market.series.get(key) is not series:
                    continue  # dropped, and perhaps wanted again, while we asked: that series asks for itself
                self._apply(key, request, answer, start)
                if 0 < series.unreadable < UNREADABLE_MOST:
                    await self.clock.sleep(backoff.next_delay_s())
                    continue
                backoff.reset()
                is_all = start is None or len(answer.rows.good) < limit or series.expected() == start
                if is_all and key not in self.again:
                    return
        finally:
            self.running.discard(key)
            self.again.discard(key)

    async def _turn(self, key: Key) -> bool:
        """Wait until a series may ask, which only those of clients must. Returns True, for a loop's condition."""
        if not self.is_configured(key):
            now = self.clock.now()
            self.next_turn = max(self.next_turn, now - STARTS_AT_ONCE / STARTS_PER_S) + 1 / STARTS_PER_S
            if self.next_turn > now:
                await self.clock.sleep(self.next_turn - now)
        return True

    def _limit(self, key: Key, series: CandleSeries, start: int | None) -> int:
        """Return how many rows to ask for: the missing ones, the forming one, and one that may begin meanwhile."""
        if start is None:
            return HISTORY if self.is_configured(key) else HISTORY_ON_DEMAND
        heard = max(series.live.open_time if series.live else 0, max(series.waiting, default=0))
        passed = (self.exchange_ms() - start) // STEP_MS[series.interval]
        missing = max(count_between(start, heard, series.interval), passed)
        return max(2, min(self.venue.rest.candles_per_answer, missing + 2))

    def _without_history(self, key: Key, request: HttpRequest) -> None:
        """Begin a series without history: what the stream closes must not wait for it."""
        nothing = HttpResponse(200, {}, b"[]", self.clock.wall_ms())
        self._apply(key, request, _Answer(nothing, Rows(), None), None)

    # --- what the exchange has lost ---

    def _look_into_gaps(self, now: float) -> None:
        lost: dict[tuple[Key, int], _Wait] = {}
        for key, series in self.market.series.items():
            for gap in series.gaps:
                wait = self.lost.get((key, gap.start))
                if wait is None:
                    wait = _Wait(gap.start, now + self.policy.gap_first_s, self.policy.gap_first_s)
                elif now >= wait.due:
                    wait.delay_s = min(2 * wait.delay_s, self.policy.gap_longest_s)
                    wait.due = now + wait.delay_s
                    self.group.create_task(self._look_into(key, gap), name=f"gap:{key[0]}:{key[1]}")
                lost[key, gap.start] = wait
        self.lost = lost

    async def _look_into(self, key: Key, gap: Gap) -> None:
        """Ask once more for what was missing; candles that are found are published as corrections."""
        series = self.market.series.get(key)
        request = self.venue.rest.candles(*key, count_between(gap.start, gap.end, key[1]), gap.start, gap.end - 1)
        try:
            answer = await self._fetch(key, request, urgent=False)
        except ProviderError as error:
            log_failure(self.rest, "candles", error)
            return
        if answer.rows.good and series is not None and self.market.series.get(key) is series:
            self._apply(key, request, answer, gap.start)

    # --- asking ---

    async def _fetch(self, key: Key, request: HttpRequest, urgent: bool) -> _Answer:
        async with self.slots if self.is_configured(key) else self.slots_on_demand:
            asked_ms = self.exchange_ms() - SKEW_ERROR_MS
            response = await self.ask(request, urgent)
        # An answer is not older than its question. By our clock alone that is a guess, so the answer's Date must agree.
        as_of_ms = None if response.date_ms is None else min(asked_ms, response.date_ms)
        return _Answer(response, self.venue.rest.read_candles(response, *key), as_of_ms)

    def _apply(self, key: Key, request: HttpRequest, answer: _Answer, start: int | None) -> None:
        if self.recorder is not None:
            self.recorder.answer(request, answer.response, answer.as_of_ms)
        self.market.candles(key, answer.rows, start, answer.response.received_ms, answer.as_of_ms)
        self.answered(key, answer.rows.good)


def _lacks(series: CandleSeries, exchange_ms: int) -> int | None:
    """Return the open time of the candle that a series needs to go on, 0 for all its history, None for none."""
    expected = series.expected()
    if expected is None or not series.begun:
        return 0
    is_over = next_open(expected, series.interval) <= exchange_ms
    return expected if is_over or series.missing_from() is not None else None


def log_failure(rest: Upstream, asked: str, error: ProviderError) -> None:
    """Log that REST could not be asked, with the error of each host."""
    cause = "; ".join(rest.errors()) or error.reason
    log.warning("rest_failed", extra={"provider": rest.name, "asked": asked, "cause": cause})

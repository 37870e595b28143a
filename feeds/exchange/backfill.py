"""Which candles are asked of REST, when, and how often again.

The stream brings candles as they form and close. REST is asked for what passed before the exchange confirmed a stream,
for a hole that does not close by itself, for a candle whose end is over and which the stream does not close, and, ever
more seldom, for what the exchange itself has lost: it may have found it since. A series tells anew each time where it
goes on, so that only the missing span is fetched.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from feeds.exchange.candles import UNREADABLE_MOST, CandleSeries, Gap
from feeds.exchange.market import ExchangeMarket
from feeds.exchange.recorder import Recorder
from feeds.fields import Rows
from feeds.intervals import STEP_MS, count_between, next_open
from feeds.model import Candle
from feeds.venues import binance
from orchestrator.clock import Clock
from orchestrator.errors import ProviderError
from orchestrator.http import HttpRequest, HttpResponse
from orchestrator.retry import Backoff
from orchestrator.upstream import Upstream

log = logging.getLogger(__name__)

HISTORY = 500
HISTORY_ON_DEMAND = 100
"""Rows of a series that a client has started: each one asks for its own, and there may be hundreds of them."""
AT_ONCE = 4
AT_ONCE_ON_DEMAND = 2
STARTS_PER_S = 20.0
"""Questions a second for series that clients have started; more wait for their turn, whoever started them."""
STARTS_AT_ONCE = 40

SKEW_ERROR_MS = 500
"""By so much the exchange's clock may be known wrongly: REST tells it in whole seconds."""

Key = tuple[str, str]
"""Pair symbol and interval."""


@dataclass(frozen=True, slots=True)
class BackfillPolicy:
    """Times in seconds."""

    patience_s: float = 2.0
    """Frames may overtake each other, and a closing frame takes its time: what comes by itself is not asked for."""
    first_delay_s: float = 1.0
    longest_delay_s: float = 15.0
    """A candle that waits for REST holds up all that come after it, so REST is not left alone for long."""
    hole_longest_s: float = 600.0
    """Between two questions for one candle that REST does not tell."""
    gap_first_s: float = 300.0
    """What the exchange has lost is asked for again after this time, and then after ever longer ones."""
    gap_longest_s: float = 6 * 3600.0


@dataclass(slots=True)
class _Wait:
    """Something missing, and when it is asked for next."""

    lacks: int
    due: float
    delay_s: float


@dataclass(frozen=True, slots=True)
class _Told:
    """An answer, and the least time of the exchange's clock at which it is true."""

    response: HttpResponse
    rows: Rows[Candle]
    as_of_ms: int | None


class Backfills:
    """Fills every series of a market, in tasks of `group`.

    `ask(request, urgent)` sends a request. `answered(key, candles)` hears of every answer that was applied.
    `exchange_ms()` is what the exchange's clock shows now, as far as it has told. `is_configured(key)` tells the series
    that the settings name from those that clients have started: the latter wait for a turn, and are never urgent.
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
        """Fetch what a series lacks; once more at once if that is being done, for the question may be too old."""
        if key in self.running:
            self.again.add(key)
        else:
            self.running.add(key)
            self.group.create_task(self._complete(key), name=f"backfill:{key[0]}:{key[1]}")

    async def mend(self) -> None:
        """Watch over all series until cancelled."""
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
                request = binance.klines(*key, limit, start)
                try:
                    told = await self._fetch(key, request, urgent=self.is_configured(key))
                except ProviderError as error:
                    log_failure(self.rest, "klines", error)
                    if not series.begun and self.market.series.get(key) is series:
                        self._without_history(key, request)
                    await self.clock.sleep(max(backoff.next_delay_s(), self.rest.back_in_s()))
                    continue
                if self.market.series.get(key) is not series:
                    continue  # dropped, and perhaps wanted anew, while we asked: that series has questions of its own
                self._apply(key, request, told, start)
                if 0 < series.unreadable < UNREADABLE_MOST:
                    await self.clock.sleep(backoff.next_delay_s())
                    continue
                backoff.reset()
                is_all = start is None or len(told.rows.good) < limit or series.expected() == start
                if is_all and key not in self.again:
                    return
        finally:
            self.running.discard(key)
            self.again.discard(key)

    async def _turn(self, key: Key) -> bool:
        """Wait until a series may ask. Only those that clients have started have to; True, for a loop's condition."""
        if not self.is_configured(key):
            now = self.clock.now()
            self.next_turn = max(self.next_turn, now - STARTS_AT_ONCE / STARTS_PER_S) + 1 / STARTS_PER_S
            if self.next_turn > now:
                await self.clock.sleep(self.next_turn - now)
        return True

    def _limit(self, key: Key, series: CandleSeries, start: int | None) -> int:
        """The missing rows, the one that is forming, and one that may begin while we ask."""
        if start is None:
            return HISTORY if self.is_configured(key) else HISTORY_ON_DEMAND
        heard = max(series.live.open_time if series.live else 0, max(series.waiting, default=0))
        passed = (self.exchange_ms() - start) // STEP_MS[series.interval]
        missing = max(count_between(start, heard, series.interval), passed)
        return max(2, min(binance.MAX_KLINES, missing + 2))

    def _without_history(self, key: Key, request: HttpRequest) -> None:
        """What the stream closes must not wait for a history that cannot be had now."""
        nothing = HttpResponse(200, {}, b"[]", self.clock.wall_ms())
        self._apply(key, request, _Told(nothing, Rows(), None), None)

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
        """Ask once more for what was missing; what is found is said as a correction."""
        series = self.market.series.get(key)
        request = binance.klines(*key, count_between(gap.start, gap.end, key[1]), gap.start, gap.end - 1)
        try:
            told = await self._fetch(key, request, urgent=False)
        except ProviderError as error:
            log_failure(self.rest, "klines", error)
            return
        if told.rows.good and series is not None and self.market.series.get(key) is series:
            self._apply(key, request, told, gap.start)

    # --- asking ---

    async def _fetch(self, key: Key, request: HttpRequest, urgent: bool) -> _Told:
        async with self.slots if self.is_configured(key) else self.slots_on_demand:
            asked_ms = self.exchange_ms() - SKEW_ERROR_MS
            response = await self.ask(request, urgent)
        # It cannot be older than the question. By our clock alone that would be a guess, so its own has to agree.
        as_of_ms = None if response.date_ms is None else min(asked_ms, response.date_ms)
        return _Told(response, binance.read_klines(response, *key), as_of_ms)

    def _apply(self, key: Key, request: HttpRequest, told: _Told, start: int | None) -> None:
        if self.recorder is not None:
            self.recorder.answer(request, told.response, told.as_of_ms)
        self.market.candles(key, told.rows, start, told.response.received_ms, told.as_of_ms)
        self.answered(key, told.rows.good)


def _lacks(series: CandleSeries, exchange_ms: int) -> int | None:
    """The candle that a series cannot go on without, 0 for all its history; None if it lacks nothing."""
    expected = series.expected()
    if expected is None or not series.begun:
        return 0
    is_over = next_open(expected, series.interval) <= exchange_ms
    return expected if is_over or series.missing_from() is not None else None


def log_failure(rest: Upstream, asked: str, error: ProviderError) -> None:
    """Say that REST could not be asked, and what each of its hosts had."""
    cause = "; ".join(rest.errors()) or error.reason
    log.warning("rest_failed", extra={"provider": binance.NAME, "asked": asked, "cause": cause})

"""Fetch the exchange's list of pairs: at the start, when it is old, and soon when something contradicts it.

Without the list no symbol can be split, so the list of an earlier run is kept on disk and used until the exchange
answers.
"""

import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import orjson

from feeds.exchange.backfill import log_failure
from feeds.exchange.doubts import Doubts
from feeds.exchange.market import ExchangeMarket
from feeds.exchange.venue import pair_status
from feeds.model import TRADING, Pair
from orchestrator.clock import Clock
from orchestrator.errors import ProviderError
from orchestrator.http import HttpRequest, HttpResponse
from orchestrator.retry import Backoff
from orchestrator.upstream import Upstream

log = logging.getLogger(__name__)

LOOK_AT_PAIRS_S = 1.0
REST_ITSELF = ""
"""Stands for REST among the pairs that contradict the list."""


@dataclass(frozen=True, slots=True)
class PairListPolicy:
    """How often the list is fetched. Times in seconds; `FeedPolicy` describes them."""

    refresh_s: float
    doubted_refresh_s: float
    doubted_longest_s: float
    first_delay_s: float
    longest_delay_s: float


class PairList:
    """Gives the market its pairs.

    `get(request)` asks REST, `record(request, response)` records an answer that is applied, `is_silent()` returns
    whether a connection to the exchange is open and brings nothing. `on_list()` is called after each new list, and
    `on_change()` after each attempt.
    """

    def __init__(
        self,
        market: ExchangeMarket,
        rest: Upstream,
        get: Callable[[HttpRequest], Awaitable[HttpResponse]],
        record: Callable[[HttpRequest, HttpResponse], None],
        is_silent: Callable[[], bool],
        clock: Clock,
        rng: random.Random,
        policy: PairListPolicy,
        file: Path | None,
        on_list: Callable[[], None],
        on_change: Callable[[], None],
    ) -> None:
        self.market = market
        self.symbols = market.symbols
        self.questions = market.venue.rest
        self.rest = rest
        self.get = get
        self.record = record
        self.is_silent = is_silent
        self.clock = clock
        self.rng = rng
        self.policy = policy
        self.file = file
        self.on_list = on_list
        self.on_change = on_change
        self.doubts = Doubts(policy.doubted_refresh_s, policy.doubted_longest_s)
        self.asked_at = float("-inf")
        self.confirmed = False
        """Whether this run has had the list from the exchange itself."""
        self.contradicted = False
        """REST knows no pair of a name that is on the list."""
        self.failed = False

    def contradict(self) -> None:
        """Note that REST does not know a pair that is on the list."""
        self.contradicted = True

    async def first(self) -> None:
        """Wait for the list of pairs, without which no symbol can be split. An older one on disk is enough."""
        if self._load():
            return
        backoff = Backoff(self.policy.first_delay_s, self.policy.longest_delay_s, self.rng)
        while not await self._fetch():
            await self.clock.sleep(max(backoff.next_delay_s(), self.rest.back_in_s()))

    async def refresh(self) -> None:
        """Fetch the list again when it is old, and soon when something contradicts it."""
        while True:
            await self.clock.sleep(LOOK_AT_PAIRS_S)
            if self._is_doubted(self.clock.now()) and await self._fetch():
                self.on_list()

    def _is_doubted(self, now: float) -> bool:
        """Return whether to fetch the list again: states pass, and only the list shows them."""
        waited_s = now - self.asked_at
        if not self.confirmed and waited_s == float("inf"):
            return True
        if waited_s < self.policy.doubted_refresh_s:
            return False
        return (
            waited_s >= self.policy.refresh_s
            or not self.confirmed
            or self.symbols.unsure
            or self.symbols.halted
            or self.doubts.contradict(self._evidence(), now)
            # An exchange that sends nothing may have halted.
            or (waited_s >= 2 * self.policy.doubted_refresh_s and self.is_silent())
        )

    def _evidence(self) -> set[str]:
        """Return what contradicts the list: the pairs that tick all the same, and REST."""
        return self.market.misjudged | ({REST_ITSELF} if self.contradicted else set())

    async def _fetch(self) -> bool:
        request = self.questions.pairs()
        self.asked_at = self.clock.now()
        try:
            response = await self.get(request)
            pairs = self.questions.read_pairs(response)
        except ProviderError as error:
            log_failure(self.rest, "pairs", error)
            self.failed = True
            self.on_change()
            return False
        evidence = self._evidence()
        self.failed = self.contradicted = False
        self.confirmed = True
        self.record(request, response)
        self.market.pairs(pairs)
        trading = {symbol for symbol in evidence if (pair := self.symbols.listed.get(symbol)) and pair.trading}
        self.doubts.settled(trading)
        self.doubts.overruled(evidence - trading, self.clock.now())
        self._save()
        self.on_change()
        return True

    def _load(self) -> bool:
        if self.file is None:
            return False
        try:
            rows = orjson.loads(self.file.read_bytes())
        except (OSError, ValueError):
            return False
        pairs = [pair for row in rows if (pair := _kept_pair(row)) is not None] if isinstance(rows, list) else []
        if not pairs:
            return False
        self.record(self.questions.pairs(), self.questions.write_pairs(pairs, self.clock.wall_ms()))
        self.market.pairs(pairs)
        return True

    def _save(self) -> None:
        if self.file is None:
            return
        # Pairs that this list lacked are written too: they are served until the next list confirms that, also after a
        # restart.
        rows = [[pair.symbol, pair.base, pair.quote, pair.status] for pair in self.symbols.listed.values()]
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            part = self.file.with_suffix(".part")
            part.write_bytes(orjson.dumps(rows))
            part.replace(self.file)
        except OSError as error:
            log.warning("state_not_saved", extra={"file": str(self.file), "cause": error.strerror})


def _kept_pair(row: object) -> Pair | None:
    """Return a pair as an earlier run wrote it, None for another value. Older files have only whether it trades."""
    match row:
        case [str(symbol), str(base), str(quote), status] if symbol and base and quote:
            if isinstance(status, bool):
                status = TRADING if status else "BREAK"
            return Pair(symbol, base, quote, pair_status(status))
    return None

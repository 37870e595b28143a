"""Ask REST for the prices of all pairs: once at the start, and whenever no stream delivers them."""

import random
from collections.abc import Awaitable, Callable, Sequence

from feeds.exchange.backfill import log_failure
from feeds.exchange.market import ExchangeMarket
from feeds.exchange.slices import SLICE_ROWS, SlicedWork, Work
from feeds.fields import Rows
from feeds.model import Price
from orchestrator.clock import Clock
from orchestrator.errors import ProviderError
from orchestrator.http import HttpRequest, HttpResponse
from orchestrator.provider import Steps
from orchestrator.retry import Backoff
from orchestrator.upstream import Upstream

LOOK_S = 5.0
"""Longest time between two looks at whether the stream still delivers."""

PriceAnswer = tuple[HttpResponse, Rows[Price]]


class PricePoll:
    """Polls every `poll_s` seconds while the stream does not deliver. `failed` is whether the last attempt did.

    `ask(steps)` asks REST, `delivers()` returns whether the stream delivers, `record(request, response)` records an
    answer that is applied. `on_prices(prices)` is called with each answer, `on_failure()` when there was none.
    """

    def __init__(
        self,
        market: ExchangeMarket,
        rest: Upstream,
        ask: Callable[[Steps[PriceAnswer]], Awaitable[PriceAnswer]],
        delivers: Callable[[], bool],
        record: Callable[[HttpRequest, HttpResponse], None],
        on_prices: Callable[[Sequence[Price]], None],
        on_failure: Callable[[], None],
        work: SlicedWork,
        clock: Clock,
        rng: random.Random,
        first_delay_s: float,
        poll_s: float,
    ) -> None:
        self.market = market
        self.questions = market.venue.rest
        self.rest = rest
        self.ask = ask
        self.delivers = delivers
        self.record = record
        self.on_prices = on_prices
        self.on_failure = on_failure
        self.work = work
        self.clock = clock
        self.rng = rng
        self.first_delay_s = first_delay_s
        self.poll_s = poll_s
        self.failed = False

    async def run(self) -> None:
        """Poll until cancelled. The first poll is always made, because the stream brings only pairs that move."""
        backoff = Backoff(self.first_delay_s, self.poll_s, self.rng)
        asked = False
        while True:
            if asked and self.delivers():
                await self.clock.sleep(min(LOOK_S, self.poll_s))
                continue
            try:
                response, rows = await self.ask(self.questions.all_prices())
            except ProviderError as error:
                log_failure(self.rest, "tickers", error)
                self.failed = True
                self.on_failure()
                await self.clock.sleep(max(backoff.next_delay_s(), self.rest.back_in_s()))
                continue
            backoff.reset()
            asked = True
            self.failed = False
            self.work.put(self._take(response, rows.good))
            self.on_prices(rows.good)
            await self.clock.sleep(self.poll_s)

    def _take(self, response: HttpResponse, prices: Sequence[Price]) -> Work:
        """Take the prices of all pairs, some at a time. A price that the stream has brought meanwhile stays."""
        self.record(self.questions.prices(()), response)
        for start in range(0, len(prices), SLICE_ROWS):
            if start:
                yield
            # Rows that could not be read have been counted by the account.
            self.market.tickers(Rows(list(prices[start : start + SLICE_ROWS])), response.received_ms)

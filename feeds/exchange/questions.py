"""Ask the exchange's REST for the feed, in step with its streams, and learn from every answer what its clock shows."""

from collections import deque
from collections.abc import Callable
from statistics import median_high
from typing import TypeVar

from feeds.exchange.market import ExchangeMarket
from feeds.exchange.slices import SlicedWork
from orchestrator.errors import NotFound, ProviderError
from orchestrator.http import HttpRequest, HttpResponse
from orchestrator.provider import Steps
from orchestrator.upstream import Upstream, just

T = TypeVar("T")

SKEWS_KEPT = 15


class Questions:
    """Sends questions and returns their answers once all frames that came before have been worked off.

    `on_unknown()` is called when REST does not know a pair, `on_answer()` after every answer and failure.
    """

    def __init__(
        self,
        rest: Upstream,
        market: ExchangeMarket,
        work: SlicedWork,
        on_unknown: Callable[[], None],
        on_answer: Callable[[], None],
    ) -> None:
        self.rest = rest
        self.market = market
        self.work = work
        self.on_unknown = on_unknown
        self.on_answer = on_answer
        self.ticker_skews_ms: deque[int] = deque(maxlen=SKEWS_KEPT)
        """How far the stamps of the last ticker frames were ahead of our clock."""

    async def get(self, request: HttpRequest, urgent: bool = True) -> HttpResponse:
        """Return the answer to one request. Raises ProviderError."""
        return await self.ask(just(request), urgent)

    async def ask(self, steps: Steps[T], urgent: bool = True) -> T:
        """Return the result of a conversation. Raises ProviderError."""
        try:
            answer = await self.rest.run(steps, urgent=urgent)
        except ProviderError as error:
            if isinstance(error, NotFound):
                self.on_unknown()  # we ask only for what is listed
            await self.work.done()
            raise
        finally:
            self.compare_clocks()
            self.on_answer()
        await self.work.done()  # the caller's use of the answer comes after the frames that came before it
        return answer

    def compare_clocks(self, event_ms: int | None = None, received_ms: int = 0) -> None:
        """Set how far the exchange's clock is ahead of ours: by its answers, else by the stamps of its tickers."""
        skew_ms = self.rest.skew_ms
        if skew_ms is None and event_ms is not None:
            self.ticker_skews_ms.append(event_ms - received_ms)
            skew_ms = median_high(self.ticker_skews_ms)
        if skew_ms is not None:
            self.market.skew_ms = skew_ms

"""Makes the pollers behind the topics: which questions are asked all the time, and how often."""

import random
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from feeds import topics
from feeds.news.articles import LATEST
from feeds.paces import Paces
from feeds.poller import IDLE, Pace, Poller
from feeds.pools.catalogues import CATALOGUE_TTL_S, CataloguePools
from feeds.pools.market import MarketPools
from feeds.pools.news import NewsPools
from feeds.pools.sentiment import SentimentPools
from feeds.queries import CATALOGUE, EVERYTHING, HISTORY_DAYS, TABLE
from feeds.supervisor import Feed
from orchestrator.clock import Clock
from orchestrator.pool import Pool

Q = TypeVar("Q", bound=Hashable)
T = TypeVar("T")


class Pollers:
    """Makes pollers that share paces, a clock and listeners."""

    def __init__(
        self,
        paces: Paces,
        clock: Clock,
        rng: random.Random,
        *,
        listened: Callable[[str], bool],
        on_change: Callable[[], None],
    ) -> None:
        self.paces = paces
        self.clock = clock
        self.rng = rng
        self.listened = listened
        self.on_change = on_change

    def market(self, pools: MarketPools, prices_fail: Callable[[], bool]) -> list[Feed]:
        """Return the pollers of the market. Prices are polled only while the exchange's own fail."""
        paces = self.paces
        return [
            # It stands in for a stream, which never pauses either; and REST clients are no listeners.
            self._poller("prices", pools.quotes, EVERYTHING, paces.market_s, ["price"], due=prices_fail, idle=1.0),
            self._poller("market", pools.table, TABLE, paces.market_s, [topics.MARKET]),
            self._poller("market.global", pools.totals, EVERYTHING, paces.totals_s, [topics.MARKET_GLOBAL]),
        ]

    def sentiment(self, pools: SentimentPools) -> list[Feed]:
        """Return the poller of the Fear & Greed index."""
        every_s = self.paces.index_s
        return [self._poller("fear_greed", pools.fear_greed, HISTORY_DAYS, every_s, [topics.SENTIMENT_GLOBAL])]

    def catalogues(self, pools: CataloguePools) -> list[Feed]:
        """Return the poller of the catalogue of sources. It has no topic, so it always has the pace of an idle one."""
        return [self._poller("catalogue", pools.resources, CATALOGUE, CATALOGUE_TTL_S / IDLE, [])]

    def news(self, pools: NewsPools) -> list[Feed]:
        """Return a poller for each outlet that has its key. The last resort waits until all others fail."""
        return [
            self._poller(
                outlet.pool.name,
                outlet.pool,
                LATEST,
                outlet.poll_s(self.paces.news_s),
                [topics.NEWS],
                due=pools.all_failed if outlet.is_last_resort else _always,
            )
            for outlet in pools.outlets
            if outlet.is_enabled
        ]

    def _poller(
        self,
        name: str,
        pool: Pool[Q, T],
        query: Q,
        every_s: float,
        serves: Sequence[str],
        due: Callable[[], bool] | None = None,
        idle: float = IDLE,
    ) -> Poller[Q, T]:
        """Return a feed that asks every so many seconds, and `idle` times as rarely while no client listens."""
        return Poller(
            name,
            pool,
            query,
            Pace(every_s, idle * every_s),
            serves,
            self.clock,
            self.rng,
            listened=self.listened,
            due=due or _always,
            on_change=self.on_change,
        )


def _always() -> bool:
    return True

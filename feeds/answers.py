"""What follows from the answers of pools: events for clients, matches of coins, and copies for the next start."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from feeds import events
from feeds.chains import Chain
from feeds.exchange.market import ExchangeMarket
from feeds.fields import Rows
from feeds.identity import NO_MATCHING_SOURCE
from feeds.matching import Matching
from feeds.model import ChainStats, Coin, Event, FearGreed, Gas, GlobalMarket, Quote, Resource, Sink
from feeds.pools.catalogues import CataloguePools
from feeds.pools.market import MarketPools
from feeds.pools.sentiment import SentimentPools
from feeds.providers import alternative_me, crypto_api_clean
from feeds.queries import CATALOGUE, EVERYTHING, HISTORY_DAYS, TABLE, MarketQuery
from feeds.slow_answers import SlowAnswers
from orchestrator.fetched import Fetched

TOTALS = "global"
FEAR_GREED = "fear_greed"
RESOURCES = "catalogue"
"""Names of the files that keep slow answers."""


class Answers:
    """Receives every new value of the pools, whether a poller or a client asked for it.

    `prices_fail` tells whether the exchange's stream brings no prices, so that an aggregator's are published.
    """

    def __init__(
        self,
        sink: Sink,
        exchange: ExchangeMarket,
        matching: Matching,
        slow: SlowAnswers,
        prices_fail: Callable[[], bool],
    ) -> None:
        self.sink = sink
        self.exchange = exchange
        self.matching = matching
        self.slow = slow
        self.prices_fail = prices_fail

    def table(self, query: MarketQuery, fetched: Fetched[Rows[Coin]]) -> None:
        """Learn matches from coins; publish them if they are the market table that topics carry."""
        coins = fetched.value.good
        self.matching.learn(coins, fetched.received_ms)
        if query == TABLE and coins:
            oldest_ms = min(coin.ts for coin in coins[: events.TOP_COINS])
            event = events.market(coins, fetched.source, fetched.received_ms)
            self.sink.publish(replace(event, lag_ms=fetched.lag_of(oldest_ms)))

    def quotes(self, query: str, fetched: Fetched[Rows[Quote]]) -> None:
        """Publish the prices of matched coins while the exchange's own fail; else learn matches from them."""
        if not self.prices_fail():
            self.matching.learn(fetched.value.good, fetched.received_ms)
            return
        given = self.matching.quotes(fetched.value.good)
        self.exchange.quotes(given, fetched.source, fetched.received_ms, fetched.skew_ms)
        self.exchange.withhold(self.matching.identities.unmatched(), NO_MATCHING_SOURCE)

    def totals(self, query: str, fetched: Fetched[GlobalMarket]) -> None:
        """Publish and keep the figures of the whole market."""
        self._publish(events.market_global(fetched.value, fetched.source, fetched.received_ms), fetched)
        self.slow.keep(TOTALS, events.global_json(fetched.value), fetched)

    def fear_greed(self, query: int, fetched: Fetched[list[FearGreed]]) -> None:
        """Publish the newest day of the index; keep the usual history."""
        if fetched.value:
            self._publish(events.fear_greed(fetched.value[0], fetched.source, fetched.received_ms), fetched)
        if query == HISTORY_DAYS:
            self.slow.keep(FEAR_GREED, alternative_me.to_json(fetched.value), fetched)

    def gas(self, query: Chain, fetched: Fetched[Gas]) -> None:
        """Publish the fees of a chain."""
        self._publish(events.gas(fetched.value, fetched.source, fetched.received_ms), fetched)

    def chain(self, query: Chain, fetched: Fetched[ChainStats]) -> None:
        """Publish the state of a chain."""
        self._publish(events.chain(fetched.value, fetched.source, fetched.received_ms), fetched)

    def resources(self, query: str, fetched: Fetched[tuple[Resource, ...]]) -> None:
        """Keep the catalogue of data sources."""
        self.slow.keep(RESOURCES, crypto_api_clean.to_json(fetched.value), fetched)

    def _publish(self, event: Event, fetched: Fetched[Any]) -> None:
        """Publish an event that is as old as the provider's own clock and stamp make it."""
        self.sink.publish(replace(event, lag_ms=fetched.lag_ms))

    def restore(self, market: MarketPools, sentiment: SentimentPools, catalogues: CataloguePools) -> None:
        """Give pools the answers of an earlier run, and publish those that have a topic."""
        totals = self.slow.restore(TOTALS, market.totals, EVERYTHING, events.global_from_json)
        if totals is not None:
            self._publish(events.market_global(totals.value, totals.source, totals.received_ms), totals)
        days = self.slow.restore_rows(FEAR_GREED, sentiment.fear_greed, HISTORY_DAYS, alternative_me.from_json, list)
        if days is not None and days.value:
            self._publish(events.fear_greed(days.value[0], days.source, days.received_ms), days)
        self.slow.restore_rows(RESOURCES, catalogues.resources, CATALOGUE, crypto_api_clean.from_json, tuple)

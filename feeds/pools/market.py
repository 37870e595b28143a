"""Pools of the market: its table, prices, candles, totals, trending coins, and the coins that share a ticker."""

from collections.abc import Callable
from dataclasses import dataclass

from feeds.exchange.market import ExchangeMarket
from feeds.fields import Rows
from feeds.matching import Matching
from feeds.model import Candle, Coin, GlobalMarket, Quote, Trending
from feeds.pools import stamps
from feeds.pools.planner import PoolPlanner
from feeds.providers import coingecko, crypto_dt_source
from feeds.queries import CandleQuery, MarketQuery
from orchestrator.fetched import Fetched
from orchestrator.pool import Pool
from orchestrator.provider import Provider, Steps

CANDLES_TTL_S = 2.0
"""The exchange itself sends a forming candle this often."""
SLOWLY = 10
"""Trending coins and candidates live so many times as long as prices."""


@dataclass(frozen=True, slots=True)
class MarketPools:
    """The pools of the market, by what they answer."""

    table: Pool[MarketQuery, Rows[Coin]]
    quotes: Pool[str, Rows[Quote]]
    candles: Pool[CandleQuery, Rows[Candle]]
    totals: Pool[str, GlobalMarket]
    trending: Pool[str, Rows[Trending]]
    candidates: Pool[str, list[Coin]]


def market_pools(
    plan: PoolPlanner,
    exchange: ExchangeMarket,
    matching: Matching,
    *,
    table_received: Callable[[MarketQuery, Fetched[Rows[Coin]]], None],
    quotes_received: Callable[[str, Fetched[Rows[Quote]]], None],
    totals_received: Callable[[str, Fetched[GlobalMarket]], None],
) -> MarketPools:
    """Make the pools. Aggregators come first where market caps matter, the exchange where candles do."""
    symbols, venue = exchange.symbols, exchange.venue
    rest, dt = plan.upstream(venue.name), plan.upstream(crypto_dt_source.NAME)

    def lists(query: MarketQuery) -> bool:
        return symbols.known and (not query.symbols or any(name in symbols.by_base for name in query.symbols))

    def of_the_exchange(query: MarketQuery) -> Steps[Rows[Coin]]:
        by_base = symbols.by_base
        pairs = [by_base[name] for name in query.symbols if name in by_base] if query.symbols else [*by_base.values()]
        return venue.rest.market_rows(pairs, query.limit)

    return MarketPools(
        table=plan.pool(
            "market",
            [
                plan.coingecko(lambda account: account.markets, stamp_of=stamps.newest),
                [Provider(rest, of_the_exchange, serves=lists, stamp_of=stamps.newest)],
                [Provider(dt, crypto_dt_source.markets, stamp_of=stamps.newest)],
            ],
            plan.ttl_s,
            table_received,
        ),
        quotes=plan.pool(
            "price",
            [
                plan.coingecko(lambda account: lambda query: account.all_quotes(), stamp_of=stamps.newest),
                [Provider(dt, lambda query: crypto_dt_source.all_quotes(), stamp_of=stamps.newest)],
            ],
            plan.ttl_s,
            quotes_received,
        ),
        candles=plan.pool(
            "ohlcv",
            [
                [Provider(rest, venue.rest.candle_history)],
                plan.coingecko(lambda account: matching.candles_from(account), serves=coingecko.serves),
                [Provider(dt, crypto_dt_source.candles, serves=crypto_dt_source.serves)],
            ],
            CANDLES_TTL_S,
        ),
        totals=plan.pool(
            "market.global",
            [
                plan.coingecko(
                    lambda account: lambda query: account.global_market(),
                    stamp_of=stamps.stamp,
                    max_lag_s=coingecko.GLOBAL_OUTDATED_MS / 1000,
                )
            ],
            plan.ttl_s,
            totals_received,
            slow=True,
        ),
        trending=plan.pool(
            "trending",
            [
                plan.coingecko(lambda account: lambda query: account.trending()),
                [Provider(dt, lambda query: crypto_dt_source.trending())],
            ],
            SLOWLY * plan.ttl_s,
        ),
        candidates=plan.pool("candidates", [plan.coingecko(lambda account: account.candidates)], SLOWLY * plan.ttl_s),
    )

"""From fetched values to events: what clients see of each value, in topics and in REST answers alike."""

import orjson

from feeds import shapes, topics
from feeds.fields import (
    at_most,
    mapping,
    maybe_amount,
    maybe_mapping,
    maybe_number,
    maybe_positive,
    maybe_whole,
    positive,
    whole,
)
from feeds.model import Article, ChainStats, Coin, Event, FearGreed, Gas, GlobalMarket, Pair, Price, Quote, Sentiment
from orchestrator.persistence import LATEST_MS
from orchestrator.texts import one_line

MAX_SHARES = 100
MAX_SHARE_NAME = 40
TOP_COINS = 100
"""Rows of the topic `market`; REST serves as many as are held."""


def coin_row(coin: Coin) -> shapes.Coin:
    """Return one row of the market table as JSON fields."""
    return {
        "rank": coin.rank,
        "symbol": coin.symbol,
        "id": coin.id,
        "name": coin.name,
        "price": coin.price,
        "change_1h_pct": coin.change_1h_pct,
        "change_24h_pct": coin.change_24h_pct,
        "change_7d_pct": coin.change_7d_pct,
        "high_24h": coin.high_24h,
        "low_24h": coin.low_24h,
        "volume_24h": coin.volume_24h,
        "market_cap": coin.market_cap,
        "circulating_supply": coin.circulating_supply,
        "currency": coin.currency,
        "ts": coin.ts,
    }


def market(coins: list[Coin], source: str, received_ms: int) -> Event:
    """Return the event of topic `market`."""
    rows = [coin_row(coin) for coin in coins[:TOP_COINS]]
    currency = coins[0].currency if coins else "usd"
    ts = max((coin.ts for coin in coins), default=received_ms)
    return Event(topics.MARKET, min(ts, received_ms), received_ms, source, {"currency": currency, "coins": rows})


def global_data(value: GlobalMarket) -> shapes.GlobalMarket:
    """Return the totals of the market as JSON fields."""
    return {
        "currency": "usd",
        "total_market_cap": value.total_market_cap,
        "total_volume_24h": value.total_volume_24h,
        "market_cap_change_24h_pct": value.market_cap_change_24h_pct,
        "btc_dominance_pct": value.btc_dominance_pct,
        "eth_dominance_pct": value.eth_dominance_pct,
        "dominance_pct": dict(value.dominance_pct),
        "active_cryptocurrencies": value.active_cryptocurrencies,
        "markets": value.markets,
    }


def global_json(value: GlobalMarket) -> bytes:
    """Write the totals for the disk; `global_from_json` reads them back."""
    return orjson.dumps(value)


def global_from_json(kept: bytes) -> GlobalMarket:
    """Read what `global_json` wrote; what makes no sense of its decoration is None. Raises ValueError for the rest."""
    row = mapping(orjson.loads(kept))
    shares = maybe_mapping(row, "dominance_pct")
    return GlobalMarket(
        total_market_cap=positive(row, "total_market_cap"),
        total_volume_24h=maybe_positive(row, "total_volume_24h"),
        market_cap_change_24h_pct=maybe_number(row, "market_cap_change_24h_pct"),
        btc_dominance_pct=maybe_amount(row, "btc_dominance_pct"),
        eth_dominance_pct=maybe_amount(row, "eth_dominance_pct"),
        dominance_pct={
            one_line(name, MAX_SHARE_NAME): share
            for name in list(shares)[:MAX_SHARES]
            if (share := maybe_amount({"share": shares[name]}, "share")) is not None
        },
        active_cryptocurrencies=maybe_whole(row, "active_cryptocurrencies"),
        markets=maybe_whole(row, "markets"),
        ts=at_most(LATEST_MS, whole)(row, "ts"),
    )


def market_global(value: GlobalMarket, source: str, received_ms: int) -> Event:
    """Return the event of topic `market.global`."""
    return Event(topics.MARKET_GLOBAL, min(value.ts, received_ms), received_ms, source, global_data(value))


def fear_greed_data(value: FearGreed) -> shapes.FearGreed:
    """Return one day of the index as JSON fields."""
    return {
        "index": "fear_and_greed",
        "value": value.value,
        "classification": value.classification,
        "timestamp": value.ts,
        "next_update_s": value.next_update_s,
    }


def fear_greed(value: FearGreed, source: str, received_ms: int) -> Event:
    """Return the event of topic `sentiment.global`."""
    return Event(topics.SENTIMENT_GLOBAL, min(value.ts, received_ms), received_ms, source, fear_greed_data(value))


def gas_data(value: Gas) -> shapes.Gas:
    """Return a chain's fees as JSON fields."""
    return {
        "chain": value.chain,
        "chain_id": value.chain_id,
        "slow": value.slow,
        "standard": value.standard,
        "fast": value.fast,
        "base_fee": value.base_fee,
        "unit": "gwei",
        "block": value.block,
    }


def gas(value: Gas, source: str, received_ms: int) -> Event:
    """Return the event of topic `gas.<chain>`."""
    return Event(topics.gas(value.chain), min(value.ts, received_ms), received_ms, source, gas_data(value))


def chain_data(value: ChainStats) -> shapes.ChainStats:
    """Return a chain's state as JSON fields."""
    return {
        "chain": value.chain,
        "chain_id": value.chain_id,
        "height": value.height,
        "block_time_s": value.block_time_s,
        "price_usd": value.price_usd,
        "supply": value.supply,
        "utilisation_pct": value.utilisation_pct,
    }


def chain(value: ChainStats, source: str, received_ms: int) -> Event:
    """Return the event of topic `chain.<chain>`."""
    return Event(topics.chain(value.chain), min(value.ts, received_ms), received_ms, source, chain_data(value))


def sentiment_data(value: Sentiment | None) -> shapes.SentimentScore | None:
    """Return the sentiment of an article as JSON fields."""
    return None if value is None else {"label": value.label, "score": value.score, "model": value.model}


def article_data(value: Article, sentiment: Sentiment | None) -> shapes.Article:
    """Return one article as JSON fields."""
    return {
        "id": value.id,
        "title": value.title,
        "url": value.url,
        "outlet": value.outlet,
        "kind": value.kind,
        "published_at": value.published_at,
        "published_estimated": value.published_estimated,
        "summary": value.summary,
        "symbols": list(value.symbols),
        "sentiment": sentiment_data(sentiment),
        "votes": None if value.votes is None else dict(value.votes),
    }


def price_data(value: Price, pair: Pair) -> shapes.Price:
    """Return a streamed price as JSON fields; it has no market cap."""
    return {
        "symbol": pair.base,
        "pair": pair.symbol,
        "quote": pair.quote,
        "price": value.price,
        "open_24h": value.open_24h,
        "high_24h": value.high_24h,
        "low_24h": value.low_24h,
        "change_24h_pct": value.change_24h_pct,
        "volume_24h": value.volume_24h,
        "quote_volume_24h": value.quote_volume_24h,
        "market_cap": None,
    }


def quote_data(value: Quote) -> shapes.Price:
    """Return a polled price in the shape of a streamed one; fields that an aggregator does not have are null."""
    return {
        "symbol": value.symbol,
        "pair": None,
        "quote": value.quote,
        "price": value.price,
        "open_24h": None,
        "high_24h": value.high_24h,
        "low_24h": value.low_24h,
        "change_24h_pct": value.change_24h_pct,
        "volume_24h": None,
        "quote_volume_24h": value.quote_volume_24h,
        "market_cap": value.market_cap,
    }


def quote(value: Quote, source: str, received_ms: int) -> Event:
    """Return the event of topic `price.<SYM>` while prices are polled."""
    return Event(topics.price(value.symbol), min(value.ts, received_ms), received_ms, source, quote_data(value))

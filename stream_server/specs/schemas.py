"""Define the JSON Schemas of values and updates, and the functions that build schemas.

`openapi.py` and `asyncapi.py` use them. They are written by hand, and tests compare them with the messages that are
sent. They allow unlisted fields, because fields may be added at any time.
Source: JSON Schema 2020-12, on which OpenAPI 3.1 is based.
"""

from collections.abc import Iterable
from typing import Any

from feeds import topics
from feeds.chains import CHAINS
from feeds.exchange.market import HALTED
from feeds.identity import NO_MATCHING_SOURCE
from feeds.intervals import INTERVALS
from stream_server.delivery.history import NO_UPDATE

Schema = dict[str, Any]

LABELS = ("positive", "neutral", "negative")


def whole(description: str, **more: Any) -> Schema:
    """Return the schema of a whole number."""
    return {"type": "integer", "description": description, **more}


def number(description: str, **more: Any) -> Schema:
    """Return the schema of a finite number."""
    return {"type": "number", "description": description, **more}


def text(description: str, **more: Any) -> Schema:
    """Return the schema of a text."""
    return {"type": "string", "description": description, **more}


def flag(description: str) -> Schema:
    """Return the schema of a boolean."""
    return {"type": "boolean", "description": description}


def word(choices: Iterable[str], description: str) -> Schema:
    """Return the schema of one of several words."""
    return {"type": "string", "enum": list(choices), "description": description}


def always(value: object, description: str = "") -> Schema:
    """Return the schema of one fixed value, with its type, because client generators ignore the value.

    Some generators turn a boolean constant into a text and then refuse every answer, so a boolean's value is
    stated in the description.
    """
    if isinstance(value, bool):
        return flag(f"Always {str(value).lower()}{'. ' if description else ''}{description}")
    kind = "integer" if isinstance(value, int) else "string"
    return {"type": kind, "const": value, **({"description": description} if description else {})}


def maybe(schema: Schema) -> Schema:
    """Return the schema of a value that may be unknown, so null."""
    if "type" not in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    widened = {**schema, "type": [schema["type"], "null"]}
    return {**widened, "enum": [*schema["enum"], None]} if "enum" in schema else widened


def several(items: Schema, description: str = "", **more: Any) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": items, **({"description": description} if description else {}), **more}


def by_name(values: Schema, description: str) -> Schema:
    """Return the schema of an object whose keys are data and not fields."""
    return {"type": "object", "additionalProperties": values, "description": description}


def record(fields: dict[str, Schema], optional: Iterable[str] = (), **more: Any) -> Schema:
    """Return the schema of an object with these fields; all but the optional ones are required."""
    left_out = set(optional)
    required = [name for name in fields if name not in left_out]
    return {"type": "object", "properties": fields, "required": required, **more}


def open_record(fields: dict[str, Schema], **more: Any) -> Schema:
    """Return the schema of an object that guarantees only these fields; others are for people."""
    return record(fields, additionalProperties=True, **more)


def ref(name: str) -> Schema:
    """Return a reference to a schema of the components."""
    return {"$ref": f"#/components/schemas/{name}"}


def time_ms(description: str) -> Schema:
    """Return the schema of a time in Unix milliseconds."""
    return whole(f"{description}, Unix ms", minimum=0)


SYMBOL = text("Base asset, upper case", examples=["BTC"])
PAIR = maybe(text("The exchange's name of the market; null for an aggregator's price", examples=["BTCUSDT"]))
QUOTE = text("Currency of the price", examples=["USDT", "USD"])
SOURCE = text("The provider; a finer name may follow a colon", examples=["binance", "coingecko", "rss:coindesk"])
ID = text(
    "Id, `<epoch>-<seq>`; one counter numbers the events of all topics",
    examples=["mwrlj8yi92-136"],
    pattern=r"^[^-]+-\d+$",
)
PRICE = number("Last price, in `quote`", exclusiveMinimum=0)
CHANGE = "Change in {}, percent"
CURRENCY = text("Currency of the amounts: `usd`, or `usdt` from an exchange", examples=["usd"])
LABEL = word(LABELS, "The score in one word")
SCORE = number("Score from -1 to 1", minimum=-1, maximum=1)

STALE_REASONS = (NO_UPDATE, HALTED, NO_MATCHING_SOURCE)
"""The causes for which a topic has no value that is true now."""

PRICE_FIELDS: dict[str, Schema] = {
    "symbol": SYMBOL,
    "pair": PAIR,
    "quote": QUOTE,
    "price": PRICE,
    "open_24h": maybe(number("Price 24 h ago")),
    "high_24h": maybe(number("Highest price in 24 h")),
    "low_24h": maybe(number("Lowest price in 24 h")),
    "change_24h_pct": maybe(number(CHANGE.format("24 h"))),
    "volume_24h": maybe(number("Volume of 24 h, in `symbol`")),
    "quote_volume_24h": maybe(number("Volume of 24 h, in `quote`")),
    "market_cap": maybe(number("Market cap, in `quote`; exchanges do not know it")),
}

GAS_FIELDS: dict[str, Schema] = {
    "chain": word((chain.name for chain in CHAINS), "Name of the chain"),
    "chain_id": whole("EIP-155 id of the chain"),
    "slow": maybe(number("Fee for a slow transaction, including the base fee", minimum=0)),
    "standard": maybe(number("Usual fee, including the base fee", minimum=0)),
    "fast": maybe(number("Fee for a fast transaction, including the base fee", minimum=0)),
    "base_fee": maybe(number("Base fee of the next block", minimum=0)),
    "unit": always("gwei", "Never rounded: fees are often below 1"),
    "block": maybe(whole("Block at which the fees were read")),
}

CHAIN_FIELDS: dict[str, Schema] = {
    "chain": GAS_FIELDS["chain"],
    "chain_id": GAS_FIELDS["chain_id"],
    "height": maybe(whole("Number of the newest block")),
    "block_time_s": maybe(number("Mean time between blocks, s")),
    "price_usd": maybe(number("Price of the chain's coin in US dollars")),
    "supply": maybe(number("Total supply of the coin")),
    "utilisation_pct": maybe(number("How full blocks are, percent")),
}

INDEX_FIELDS: dict[str, Schema] = {
    "index": always("fear_and_greed"),
    "value": whole("Index: 0 is extreme fear, 100 extreme greed", minimum=0, maximum=100),
    "classification": maybe(text("The index in words", examples=["Fear"])),
    "timestamp": time_ms("Day of the index"),
    "next_update_s": maybe(whole("Seconds until the next value")),
}

GLOBAL_FIELDS: dict[str, Schema] = {
    "currency": always("usd"),
    "total_market_cap": number("Market cap of all coins, US dollars"),
    "total_volume_24h": maybe(number("Volume of 24 h, US dollars")),
    "market_cap_change_24h_pct": maybe(number(CHANGE.format("24 h"))),
    "btc_dominance_pct": maybe(number("Bitcoin's share of the market cap, percent")),
    "eth_dominance_pct": maybe(number("Ether's share of the market cap, percent")),
    "dominance_pct": by_name(number("Percent"), "Shares of the market cap by symbol"),
    "active_cryptocurrencies": maybe(whole("Number of traded coins")),
    "markets": maybe(whole("Number of exchanges")),
}

SENTIMENT = record({"label": LABEL, "score": SCORE, "model": text("Model that scored", examples=["lexicon"])})

QUANTILES = open_record({"p50": maybe(number("Median")), "p95": maybe(number("95th percentile"))})

PROVIDER = open_record(
    {
        "name": text("Name of the provider"),
        "state": word(
            ("active", "rate_limited", "cooldown", "probing", "blocked", "disabled"), "State of the provider"
        ),
        "reason": maybe(text("Why it is not active; for a disabled one the setting that enables it")),
        "calls": whole("Number of calls"),
        "successes": whole("Number of good answers"),
        "failures": whole("Number of failures, without those that are our own fault"),
        "success_pct": maybe(number("Share of good answers, percent")),
        "latency_ms": QUANTILES,
        "tokens_left": maybe(number("Number of calls allowed now")),
        "open_until": maybe(time_ms("Time of the next call")),
        "last_error": maybe(text("Last error")),
        "last_success_at": maybe(time_ms("Time of the last good answer")),
        "moved_to": maybe(text("New address of a feed that has moved permanently; its setting should name it")),
    },
    title="Provider",
)

VALUES: dict[str, Schema] = {
    "Price": record(
        PRICE_FIELDS,
        description="Last price with statistics of the last 24 h.",
        examples=[
            {
                "symbol": "BTC",
                "pair": "BTCUSDT",
                "quote": "USDT",
                "price": 86366.04,
                "open_24h": 85307.6,
                "high_24h": 87265.15,
                "low_24h": 83003.52,
                "change_24h_pct": 1.240733533706244,
                "volume_24h": 21693.95196,
                "quote_volume_24h": 1868576163.4247837,
                "market_cap": None,
            }
        ],
    ),
    "Candle": record(
        {
            "symbol": SYMBOL,
            "pair": PAIR,
            "quote": QUOTE,
            "interval": word(INTERVALS, "Length of the candle; `1M` is a month"),
            "open_time": time_ms("First instant"),
            "close_time": time_ms("Last instant"),
            "open": number("First price"),
            "high": number("Highest price"),
            "low": number("Lowest price"),
            "close": number("Last price"),
            "volume": maybe(number("Volume, in `symbol`")),
            "quote_volume": maybe(number("Volume, in `quote`")),
            "trades": maybe(whole("Number of trades")),
            "closed": flag("Whether it is final"),
            "state": word(("live", "closed", "corrected"), "`corrected` if the exchange changed a closed candle"),
            "derived_from": text("Finer interval from which it was computed", examples=["30m"]),
        },
        optional=("derived_from",),
        description="A candle. The closed candles of a series follow each other without a hole.",
        examples=[
            {
                "symbol": "BTC",
                "pair": "BTCUSDT",
                "quote": "USDT",
                "interval": "1m",
                "open_time": 1795337400000,
                "close_time": 1795337459999,
                "open": 86375.02,
                "high": 86383.49,
                "low": 86363.02,
                "close": 86365.4,
                "volume": 0.86414,
                "quote_volume": 74638.3894292,
                "trades": 18,
                "closed": False,
                "state": "live",
            }
        ],
    ),
    "Coin": record(
        {
            "rank": maybe(whole("Rank by market cap", minimum=1)),
            "symbol": SYMBOL,
            "id": maybe(text("CoinGecko's id", examples=["bitcoin"])),
            "name": maybe(text("Name of the coin", examples=["Bitcoin"])),
            "price": number("Price, in `currency`", exclusiveMinimum=0),
            "change_1h_pct": maybe(number(CHANGE.format("1 h"))),
            "change_24h_pct": maybe(number(CHANGE.format("24 h"))),
            "change_7d_pct": maybe(number(CHANGE.format("7 days"))),
            "high_24h": maybe(number("Highest price in 24 h")),
            "low_24h": maybe(number("Lowest price in 24 h")),
            "volume_24h": maybe(number("Volume of 24 h, in `currency`")),
            "market_cap": maybe(number("Market cap, in `currency`")),
            "circulating_supply": maybe(number("Coins in circulation")),
            "currency": CURRENCY,
            "ts": time_ms("Time when the row was true at the source"),
        },
        description="A row of the market table.",
    ),
    "Market": record(
        {"currency": CURRENCY, "coins": several(ref("Coin"), "The largest coins by market cap")},
        description="The largest coins by market cap.",
        examples=[
            {
                "currency": "usd",
                "coins": [
                    {
                        "rank": 1,
                        "symbol": "BTC",
                        "id": "bitcoin",
                        "name": "Bitcoin",
                        "price": 86366.0,
                        "change_1h_pct": 0.1,
                        "change_24h_pct": 1.24,
                        "change_7d_pct": -2.5,
                        "high_24h": 87265.1,
                        "low_24h": 83003.5,
                        "volume_24h": 3.1e10,
                        "market_cap": 1.72e12,
                        "circulating_supply": 19950000.0,
                        "currency": "usd",
                        "ts": 1795337400000,
                    }
                ],
            }
        ],
    ),
    "GlobalMarket": record(
        GLOBAL_FIELDS,
        description="Totals of the whole market.",
        examples=[
            {
                "currency": "usd",
                "total_market_cap": 3.1e12,
                "total_volume_24h": 1.2e11,
                "market_cap_change_24h_pct": 0.8,
                "btc_dominance_pct": 55.1,
                "eth_dominance_pct": 12.2,
                "dominance_pct": {"BTC": 55.1, "ETH": 12.2},
                "active_cryptocurrencies": 18211,
                "markets": 1390,
            }
        ],
    ),
    "Article": record(
        {
            "id": text("Id, from the normalised URL; a rewritten article is sent again with the same id"),
            "title": text("Headline, plain text"),
            "url": maybe(text("Address of the article", format="uri")),
            "outlet": text("Short name of the outlet", examples=["coindesk"]),
            "kind": word(("news", "social"), "Article of an outlet, or post"),
            "published_at": time_ms("Time of publication"),
            "published_estimated": flag("Whether `published_at` is the time of receipt, because the outlet gave none"),
            "summary": maybe(text("Summary, plain text")),
            "symbols": several(SYMBOL, "Coins that the article is about"),
            "sentiment": maybe(SENTIMENT),
            "votes": maybe(by_name(whole("Number of votes"), "Votes of readers by kind")),
        },
        description="An article or post with its sentiment score.",
        examples=[
            {
                "id": "b1946ac92492d234",
                "title": "Bitcoin slides after exchange halts withdrawals",
                "url": "https://www.coindesk.com/markets/bitcoin-slides",
                "outlet": "coindesk",
                "kind": "news",
                "published_at": 1795337000000,
                "published_estimated": False,
                "summary": "The largest coin lost three percent within an hour.",
                "symbols": ["BTC"],
                "sentiment": {"label": "negative", "score": -0.61, "model": "lexicon"},
                "votes": None,
            }
        ],
    ),
    "FearGreed": record(
        INDEX_FIELDS,
        description="Today's Fear & Greed index.",
        examples=[
            {
                "index": "fear_and_greed",
                "value": 28,
                "classification": "Fear",
                "timestamp": 1795305600000,
                "next_update_s": 18000,
            }
        ],
    ),
    "CoinSentiment": record(
        {
            "symbol": SYMBOL,
            "score": number("Mean score of its articles; newer ones weigh more", minimum=-1, maximum=1),
            "label": LABEL,
            "articles": whole("Number of articles"),
            "positive": whole("Number of positive articles"),
            "neutral": whole("Number of neutral articles"),
            "negative": whole("Number of negative articles"),
            "window_s": whole("Length of the period, seconds"),
            "model": text("Model that scored; `mixed` if several did"),
        },
        description="Sentiment of a coin's news of the last day.",
        examples=[
            {
                "symbol": "BTC",
                "score": -0.21,
                "label": "negative",
                "articles": 18,
                "positive": 4,
                "neutral": 6,
                "negative": 8,
                "window_s": 86400,
                "model": "lexicon",
            }
        ],
    ),
    "Gas": record(
        GAS_FIELDS,
        description="Fees of a chain, in gwei per unit of gas.",
        examples=[
            {
                "chain": "ethereum",
                "chain_id": 1,
                "slow": 0.0905,
                "standard": 0.1095,
                "fast": 0.172,
                "base_fee": 0.08869,
                "unit": "gwei",
                "block": 21234587,
            }
        ],
    ),
    "ChainStats": record(
        CHAIN_FIELDS,
        description="State of a chain.",
        examples=[
            {
                "chain": "ethereum",
                "chain_id": 1,
                "height": 21234587,
                "block_time_s": 12.04,
                "price_usd": 3120.5,
                "supply": 120450000.0,
                "utilisation_pct": 51.3,
            }
        ],
    ),
    "Provider": PROVIDER,
    "Status": record(
        {
            "server": open_record(
                {
                    "version": text("Version of this service"),
                    "mode": word(("live", "tape"), "`live` on the network, `tape` on a recording"),
                    "started": text("Time when it began to serve", format="date-time"),
                    "now": text("Clock of the server", format="date-time"),
                    "draining": flag("Whether it is shutting down"),
                },
                description="This process",
            ),
            "clients": open_record(
                {
                    "websocket": whole("WebSocket clients connected now"),
                    "sse": whole("SSE clients connected now"),
                    "limit": whole("Maximum number of clients"),
                    "accepted": whole("Clients accepted since the start"),
                    "refused": whole("Clients refused since the start"),
                    "behind": whole("Clients that read slower than values arrive"),
                },
                description="Connected clients",
            ),
            "hub": open_record(
                {
                    "epoch": text("Epoch of this run"),
                    "position": ID,
                    "topics": whole("Topics that have a value"),
                    "stale_topics": whole("Topics that are stale"),
                },
                description="Topics and position",
            ),
            "readiness": by_name(
                maybe(text("`value`, or the failure that prevents one")), "Readiness by category; null while waiting"
            ),
            "feeds": several(
                open_record(
                    {"name": text("Name of the feed"), "state": text("State"), "last_error": maybe(text("Last error"))}
                ),
                "Feeds of events",
            ),
            "providers": several(ref("Provider"), "Providers of data"),
            "pools": several(
                open_record(
                    {
                        "name": text("Name of the pool"),
                        "tiers": several(
                            several(text("Provider")), "Providers by tier, in the order in which they are asked"
                        ),
                        "last_source": maybe(text("Provider that answered last")),
                    }
                ),
                "Pools of providers",
            ),
            "disagreements": several(
                record(
                    {
                        "symbol": SYMBOL,
                        "sources": by_name(number("Price"), "Prices by source"),
                        "difference_pct": number("Difference, percent of the smaller price"),
                    }
                ),
                "Prices on which two sources differ",
            ),
            "identities": maybe(
                record(
                    {
                        "matched": whole("Number of base assets matched to a coin of an aggregator"),
                        "unmatched": whole("Number of base assets without a match"),
                        "unmatched_symbols": several(SYMBOL, "The first 50 unmatched ones"),
                    },
                    description="Coins for which other sources can replace the exchange; null on a tape",
                )
            ),
            "rejected_rows": by_name(whole("Number of rows"), "Unreadable rows by `<provider>.<field>`"),
            "repaired": by_name(
                whole("Number of repairs"),
                "Repairs by `<provider>.<kind>` of a damaged text, or by `<provider>.<field>` that became null",
            ),
        },
        description="Health of the service. It contains more than this schema guarantees.",
        examples=[
            {
                "server": {
                    "version": "0.1.0",
                    "mode": "live",
                    "started": "2026-11-22T06:00:00.123Z",
                    "now": "2026-11-22T08:50:05.127Z",
                    "draining": False,
                },
                "clients": {"websocket": 41, "sse": 3, "limit": 10000, "accepted": 97, "refused": 0, "behind": 1},
                "hub": {"epoch": "mwrlj8yi92", "position": "mwrlj8yi92-152", "topics": 431, "stale_topics": 0},
                "readiness": {"price": "value", "news": "value"},
                "feeds": [{"name": "binance", "state": "live", "last_error": None}],
                "providers": [
                    {
                        "name": "coingecko",
                        "state": "active",
                        "reason": None,
                        "calls": 120,
                        "successes": 119,
                        "failures": 1,
                        "success_pct": 99.2,
                        "latency_ms": {"p50": 180.2, "p95": 410.7},
                        "tokens_left": 24.0,
                        "open_until": None,
                        "last_error": None,
                        "last_success_at": 1795337400000,
                        "moved_to": None,
                    }
                ],
                "pools": [
                    {
                        "name": "market",
                        "tiers": [["coingecko_pro", "coingecko"], ["binance"], ["crypto_dt_source"]],
                        "last_source": "coingecko",
                    }
                ],
                "disagreements": [],
                "identities": {"matched": 1, "unmatched": 1, "unmatched_symbols": ["NEIRO"]},
                "rejected_rows": {},
                "repaired": {"rss:decrypt.encoding": 1},
            }
        ],
    ),
}
"""The data of every topic, by schema name; REST answers refer to them too."""


DATA_OF = {
    "price.<SYM>": "Price",
    "ohlcv.<SYM>.<interval>": "Candle",
    topics.MARKET: "Market",
    topics.MARKET_GLOBAL: "GlobalMarket",
    topics.NEWS: "Article",
    topics.SENTIMENT_GLOBAL: "FearGreed",
    "sentiment.<SYM>": "CoinSentiment",
    "gas.<chain>": "Gas",
    "chain.<chain>": "ChainStats",
    topics.STATUS: "Status",
}
"""The schema name of each topic's value."""


def pattern_of(template: str) -> str:
    """Return the regular expression that matches the topics of a template."""
    words = []
    for part in template.split("."):
        # `sentiment.global` has a shape of its own.
        other = r"(?!global$)[^.]+" if template == "sentiment.<SYM>" else r"[^.]+"
        words.append({"<SYM>": other, "<interval>": f"({'|'.join(INTERVALS)})", "<chain>": r"[a-z]+"}.get(part, part))
    joined = r"\.".join(words)
    return f"^{joined}$"


def update(template: str, data: str) -> Schema:
    """Return the schema of the update messages of a template."""
    is_one = "<" not in template
    fields = {
        "type": always("update"),
        "topic": always(template, "Name of the topic")
        if is_one
        else text("Name of the topic", pattern=pattern_of(template)),
        "id": ID,
        "ts": time_ms("Time when the value was true at the source"),
        "received": time_ms("Time when the value reached this service"),
        "source": SOURCE,
        "data": ref(data),
    }
    return record(fields, description=VALUES[data]["description"])


UPDATES = {f"{data}Update": update(template, data) for template, data in DATA_OF.items()}
SCHEMAS: dict[str, Schema] = {
    **VALUES,
    **UPDATES,
    "Update": {
        "description": "The last message of a topic, as the streams carry it.",
        # Not `oneOf`: only the pattern of `topic` distinguishes the parts, and client generators ignore patterns.
        "anyOf": [ref(name) for name in UPDATES],
    },
}
"""The schemas that both documents share."""

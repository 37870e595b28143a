"""The JSON Schemas of what clients are sent: values, updates, and the few words they are made of.

`openapi.py` and `asyncapi.py` build on them. They are kept by hand beside the code, and tests hold them to what is
really sent. They allow fields that are not listed, because additions are possible at any time.
Source: JSON Schema 2020-12, which OpenAPI 3.1 is built on, too.
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
    """A whole number."""
    return {"type": "integer", "description": description, **more}


def number(description: str, **more: Any) -> Schema:
    """Any finite number."""
    return {"type": "number", "description": description, **more}


def text(description: str, **more: Any) -> Schema:
    """A text."""
    return {"type": "string", "description": description, **more}


def flag(description: str) -> Schema:
    """True or false."""
    return {"type": "boolean", "description": description}


def word(choices: Iterable[str], description: str) -> Schema:
    """One of several words."""
    return {"type": "string", "enum": list(choices), "description": description}


def always(value: object, description: str = "") -> Schema:
    """This and nothing else. Its type is named for generators of clients, which do not look at the value.

    Some make texts of a boolean's only value, and then refuse every answer: so of a boolean it stands in words.
    """
    if isinstance(value, bool):
        return flag(f"Always {str(value).lower()}{'. ' if description else ''}{description}")
    kind = "integer" if isinstance(value, int) else "string"
    return {"type": kind, "const": value, **({"description": description} if description else {})}


def maybe(schema: Schema) -> Schema:
    """The same, or null where it is unknown."""
    if "type" not in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    widened = {**schema, "type": [schema["type"], "null"]}
    return {**widened, "enum": [*schema["enum"], None]} if "enum" in schema else widened


def several(items: Schema, description: str = "", **more: Any) -> Schema:
    """A list."""
    return {"type": "array", "items": items, **({"description": description} if description else {}), **more}


def by_name(values: Schema, description: str) -> Schema:
    """An object whose names are no fields but data."""
    return {"type": "object", "additionalProperties": values, "description": description}


def record(fields: dict[str, Schema], optional: Iterable[str] = (), **more: Any) -> Schema:
    """An object that has all these fields, but for the optional ones."""
    left_out = set(optional)
    required = [name for name in fields if name not in left_out]
    return {"type": "object", "properties": fields, "required": required, **more}


def open_record(fields: dict[str, Schema], **more: Any) -> Schema:
    """An object of which only these fields are promised; what else it has is for people."""
    return record(fields, additionalProperties=True, **more)


def ref(name: str) -> Schema:
    """A schema of the components by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def time_ms(description: str) -> Schema:
    """A time in Unix milliseconds."""
    return whole(f"{description}, Unix ms", minimum=0)


SYMBOL = text("Base asset, upper case", examples=["BTC"])
PAIR = maybe(text("The exchange's name of the market; null for an aggregator's price", examples=["BTCUSDT"]))
QUOTE = text("What a price is in", examples=["USDT", "USD"])
SOURCE = text("The provider; a finer name may follow a colon", examples=["binance", "coingecko", "rss:coindesk"])
ID = text("`<epoch>-<seq>`: one counter for all topics", examples=["mwrlj8yi92-136"], pattern=r"^[^-]+-\d+$")
PRICE = number("Last price, in `quote`", exclusiveMinimum=0)
CHANGE = "Change of {}, percent"
CURRENCY = text("What money is in: `usd`, or `usdt` from an exchange", examples=["usd"])
LABEL = word(LABELS, "What the score says in a word")
SCORE = number("From -1 to 1", minimum=-1, maximum=1)

STALE_REASONS = (NO_UPDATE, HALTED, NO_MATCHING_SOURCE)
"""Why a topic has no value that is true now."""

PRICE_FIELDS: dict[str, Schema] = {
    "symbol": SYMBOL,
    "pair": PAIR,
    "quote": QUOTE,
    "price": PRICE,
    "open_24h": maybe(number("Price 24 h ago")),
    "high_24h": maybe(number("Highest price of 24 h")),
    "low_24h": maybe(number("Lowest price of 24 h")),
    "change_24h_pct": maybe(number(CHANGE.format("24 h"))),
    "volume_24h": maybe(number("Traded in 24 h, in `symbol`")),
    "quote_volume_24h": maybe(number("Traded in 24 h, in `quote`")),
    "market_cap": maybe(number("Market cap, in `quote`; unknown to exchanges")),
}

GAS_FIELDS: dict[str, Schema] = {
    "chain": word((chain.name for chain in CHAINS), "Name of the chain"),
    "chain_id": whole("Its EIP-155 id"),
    "slow": maybe(number("Fee for a slow transaction, base fee included", minimum=0)),
    "standard": maybe(number("Usual fee, base fee included", minimum=0)),
    "fast": maybe(number("Fee for a fast transaction, base fee included", minimum=0)),
    "base_fee": maybe(number("Base fee of the next block", minimum=0)),
    "unit": always("gwei", "Never rounded: fees are often below 1"),
    "block": maybe(whole("The block it was read at")),
}

CHAIN_FIELDS: dict[str, Schema] = {
    "chain": GAS_FIELDS["chain"],
    "chain_id": GAS_FIELDS["chain_id"],
    "height": maybe(whole("Number of the newest block")),
    "block_time_s": maybe(number("Mean time between blocks, s")),
    "price_usd": maybe(number("Price of the chain's coin, US dollars")),
    "supply": maybe(number("Coins there are")),
    "utilisation_pct": maybe(number("How full blocks are, percent")),
}

INDEX_FIELDS: dict[str, Schema] = {
    "index": always("fear_and_greed"),
    "value": whole("0 is extreme fear, 100 extreme greed", minimum=0, maximum=100),
    "classification": maybe(text("The same in words", examples=["Fear"])),
    "timestamp": time_ms("The day it is of"),
    "next_update_s": maybe(whole("Seconds until the next value")),
}

GLOBAL_FIELDS: dict[str, Schema] = {
    "currency": always("usd"),
    "total_market_cap": number("All coins, US dollars"),
    "total_volume_24h": maybe(number("Traded in 24 h, US dollars")),
    "market_cap_change_24h_pct": maybe(number(CHANGE.format("24 h"))),
    "btc_dominance_pct": maybe(number("Bitcoin's share of the cap, percent")),
    "eth_dominance_pct": maybe(number("Ether's share of the cap, percent")),
    "dominance_pct": by_name(number("Percent"), "Shares of the cap by symbol"),
    "active_cryptocurrencies": maybe(whole("Coins that are traded")),
    "markets": maybe(whole("Exchanges")),
}

SENTIMENT = record({"label": LABEL, "score": SCORE, "model": text("Who scored", examples=["lexicon"])})

QUANTILES = open_record({"p50": maybe(number("Half are lower")), "p95": maybe(number("95 of 100 are lower"))})

PROVIDER = open_record(
    {
        "name": text("The provider"),
        "state": word(("active", "rate_limited", "cooldown", "probing", "blocked", "disabled"), "Whether it is asked"),
        "reason": maybe(text("Why it is not active; for a disabled one the setting that enables it")),
        "calls": whole("Questions put to it"),
        "successes": whole("Good answers"),
        "failures": whole("Bad ones; what was our own fault does not count"),
        "success_pct": maybe(number("Percent")),
        "latency_ms": QUANTILES,
        "tokens_left": maybe(number("Calls it allows now")),
        "open_until": maybe(time_ms("When it is asked again")),
        "last_error": maybe(text("In words")),
        "last_success_at": maybe(time_ms("Last good answer")),
        "moved_to": maybe(text("Where a feed has moved for good and is read; its setting should name that place")),
    },
    title="Provider",
)

VALUES: dict[str, Schema] = {
    "Price": record(
        PRICE_FIELDS,
        description="Last price with its statistics of 24 h.",
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
            "interval": word(INTERVALS, "Length; `1M` is a month"),
            "open_time": time_ms("First instant"),
            "close_time": time_ms("Last instant"),
            "open": number("First price"),
            "high": number("Highest price"),
            "low": number("Lowest price"),
            "close": number("Last price"),
            "volume": maybe(number("Traded, in `symbol`")),
            "quote_volume": maybe(number("Traded, in `quote`")),
            "trades": maybe(whole("Number of trades")),
            "closed": flag("Whether it is final"),
            "state": word(("live", "closed", "corrected"), "`corrected` if the exchange changed a closed one"),
            "derived_from": text("The finer interval it was computed from", examples=["30m"]),
        },
        optional=("derived_from",),
        description="A candle. The closed ones of a series follow each other without a hole.",
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
            "rank": maybe(whole("By market cap", minimum=1)),
            "symbol": SYMBOL,
            "id": maybe(text("CoinGecko's id", examples=["bitcoin"])),
            "name": maybe(text("Its name", examples=["Bitcoin"])),
            "price": number("Price, in `currency`", exclusiveMinimum=0),
            "change_1h_pct": maybe(number(CHANGE.format("1 h"))),
            "change_24h_pct": maybe(number(CHANGE.format("24 h"))),
            "change_7d_pct": maybe(number(CHANGE.format("7 days"))),
            "high_24h": maybe(number("Highest price of 24 h")),
            "low_24h": maybe(number("Lowest price of 24 h")),
            "volume_24h": maybe(number("Traded in 24 h, in `currency`")),
            "market_cap": maybe(number("Market cap, in `currency`")),
            "circulating_supply": maybe(number("Coins in circulation")),
            "currency": CURRENCY,
            "ts": time_ms("When it was true at the source"),
        },
        description="A row of the market table.",
    ),
    "Market": record(
        {"currency": CURRENCY, "coins": several(ref("Coin"), "The largest, by market cap")},
        description="The largest coins.",
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
        description="The whole market.",
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
            "id": text("Of its normalised URL: one that is rewritten comes again with the same id"),
            "title": text("Plain text"),
            "url": maybe(text("Where it stands", format="uri")),
            "outlet": text("A short name", examples=["coindesk"]),
            "kind": word(("news", "social"), "Of an outlet, or a post"),
            "published_at": time_ms("When it was published"),
            "published_estimated": flag("The outlet gave no time; that of its receipt stands in"),
            "summary": maybe(text("Plain text")),
            "symbols": several(SYMBOL, "Coins it is about"),
            "sentiment": maybe(SENTIMENT),
            "votes": maybe(by_name(whole("How many"), "Votes of readers by kind")),
        },
        description="A piece of news or a post, with its score.",
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
        description="The Fear & Greed index of today.",
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
            "score": number("Mean score of its articles, newer ones weighing more", minimum=-1, maximum=1),
            "label": LABEL,
            "articles": whole("How many there were"),
            "positive": whole("Of them"),
            "neutral": whole("Of them"),
            "negative": whole("Of them"),
            "window_s": whole("Of how many seconds"),
            "model": text("Who scored; `mixed` if several did"),
        },
        description="What a day's news say of a coin.",
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
        description="What a chain charges, in gwei a unit of gas.",
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
        description="How a chain stands.",
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
                    "version": text("Of this service"),
                    "mode": word(("live", "tape"), "Whether it runs on the network or on a recording"),
                    "started": text("When it began to serve", format="date-time"),
                    "now": text("Its clock", format="date-time"),
                    "draining": flag("It is shutting down"),
                },
                description="This process",
            ),
            "clients": open_record(
                {
                    "websocket": whole("Connected now"),
                    "sse": whole("Connected now"),
                    "limit": whole("How many may be"),
                    "accepted": whole("Since the start"),
                    "refused": whole("Since the start"),
                    "behind": whole("Read slower than values come"),
                },
                description="Who listens",
            ),
            "hub": open_record(
                {
                    "epoch": text("Of this run"),
                    "position": ID,
                    "topics": whole("That have a value"),
                    "stale_topics": whole("Of them"),
                },
                description="What is held",
            ),
            "readiness": by_name(
                maybe(text("`value`, or the failure that stands in its way")), "Each category; null while it waits"
            ),
            "feeds": several(
                open_record({"name": text("The feed"), "state": text("In a word"), "last_error": maybe(text("Why"))}),
                "Who brings events",
            ),
            "providers": several(ref("Provider"), "Who is asked"),
            "pools": several(
                open_record(
                    {
                        "name": text("The pool"),
                        "tiers": several(several(text("Provider")), "Who is asked first, then who"),
                        "last_source": maybe(text("Who answered last")),
                    }
                ),
                "Which of them answer together",
            ),
            "disagreements": several(
                record(
                    {
                        "symbol": SYMBOL,
                        "sources": by_name(number("Price"), "Prices by source"),
                        "difference_pct": number("Percent of the smaller"),
                    }
                ),
                "Prices on which two sources differ",
            ),
            "identities": maybe(
                record(
                    {
                        "matched": whole("Base assets that a coin of an aggregator is known to be"),
                        "unmatched": whole("Base assets that no other source can stand in for"),
                        "unmatched_symbols": several(SYMBOL, "The first 50 of those"),
                    },
                    description="Which coins the failover of prices and candles knows; null on a tape",
                )
            ),
            "rejected_rows": by_name(whole("Rows"), "What could not be read, by `<provider>.<field>`"),
            "repaired": by_name(
                whole("Repairs"),
                "What was repaired: `<provider>.<kind>` of a damaged text, `<provider>.<field>` that became null",
            ),
        },
        description="How the service does. More is said than is promised here.",
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
"""The data of every topic, by the names that REST answers refer to as well."""


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
"""Which value each topic carries."""


def pattern_of(template: str) -> str:
    """The regular expression of the topics that a template means."""
    words = []
    for part in template.split("."):
        # `sentiment.global` has a shape of its own.
        other = r"(?!global$)[^.]+" if template == "sentiment.<SYM>" else r"[^.]+"
        words.append({"<SYM>": other, "<interval>": f"({'|'.join(INTERVALS)})", "<chain>": r"[a-z]+"}.get(part, part))
    joined = r"\.".join(words)
    return f"^{joined}$"


def update(template: str, data: str) -> Schema:
    """The message of an event of the topics that a template means."""
    is_one = "<" not in template
    fields = {
        "type": always("update"),
        "topic": always(template, "Its name") if is_one else text("Its name", pattern=pattern_of(template)),
        "id": ID,
        "ts": time_ms("When it was true at the source"),
        "received": time_ms("When it reached this service"),
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
        # Not `oneOf`: what tells them apart is the pattern of `topic`, which generators of clients do not look at.
        "anyOf": [ref(name) for name in UPDATES],
    },
}
"""What both documents share."""

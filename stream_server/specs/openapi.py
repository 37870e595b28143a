"""`/openapi.json`: every path that answers over HTTP, with what it takes and gives.

Bounds and words come from where they are checked; the rest is written here by hand. Tests hold it to the truth: to the
routes, to the parameters that are read, and to the answers that are given.
Source: OpenAPI 3.1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from feeds import dt_requests
from feeds.catalog import HISTORY_DAYS
from feeds.chains import CHAINS, ETHEREUM
from feeds.identity import NO_MATCHING_SOURCE
from feeds.intervals import INTERVALS
from feeds.providers import crypto_dt_source
from stream_server import __version__
from stream_server.delivery.selectors import MAX_PATTERNS, MAX_TOPICS
from stream_server.delivery.session import MAX_INTERVAL_MS
from stream_server.rest.candles import DEFAULT_CANDLES, MAX_CANDLES
from stream_server.rest.market import MAX_COINS, MAX_SYMBOLS
from stream_server.rest.new_sources import MAX_ROWS
from stream_server.rest.news import DEFAULT_ARTICLES, FILTERS, MAX_ARTICLES
from stream_server.rest.parameters import MAX_NAMES, MAX_TIME_MS, NO, YES
from stream_server.rest.sentiment import MAX_DAYS, MAX_TEXT_CHARS, MAX_TEXTS, MODELS
from stream_server.specs.schemas import (
    CHAIN_FIELDS,
    GAS_FIELDS,
    GLOBAL_FIELDS,
    ID,
    INDEX_FIELDS,
    LABEL,
    PRICE_FIELDS,
    SCHEMAS,
    SCORE,
    SOURCE,
    STALE_REASONS,
    SYMBOL,
    VALUES,
    Schema,
    always,
    by_name,
    flag,
    maybe,
    number,
    open_record,
    record,
    ref,
    several,
    text,
    time_ms,
    whole,
    word,
)
from stream_server.wire.refusals import CODES

DESCRIPTION = """\
Last values, candles, news and the health of their sources. Every answer is in one envelope that says where its data \
come from and how old they are. `position` lets you GET, then subscribe with `since` and miss nothing.

Symbols may be written as `BTC`, `btc`, `BTCUSDT`, `BTC-USDT`, `BTC/USDT` or `bitcoin`. Unknown is `null`, never 0; \
percent is percent. Parameters that are not known are not looked at, and all that are wrong are named at once. \
A list may come with commas, in repeated parameters, or both; anything else is refused if it is given with different \
values.

Fields may be added at any time: ignore those you don't know. For the streams see `/asyncapi.json`.
"""

MARKET, TEXTS, CHAIN = "Market", "News and sentiment", "Chains"
STREAMS, SOURCES, HEALTH, PAGES = "Streams and topics", "New sources", "Health", "Documentation"
TAGS = {
    MARKET: "Prices, candles and the market table.",
    TEXTS: "Articles with their scores, Fear & Greed, and scores of your own texts.",
    CHAIN: "Fees and state of chains.",
    STREAMS: "What can be subscribed, where, and what is held of it.",
    SOURCES: "Crypto API Clean and Crypto DT Source in our shapes, each alone and with fallback.",
    HEALTH: "For people, probes and Prometheus.",
    PAGES: "Pages and machine-readable contracts.",
}

# --- parameters ---


def query(name: str, schema: Schema, *, needed: bool = False, example: object = None) -> Schema:
    """A parameter in the query; the schema describes it."""
    description = schema["description"]
    schema = {key: value for key, value in schema.items() if key != "description"}
    parameter = {"name": name, "in": "query", "description": description, "required": needed, "schema": schema}
    if not needed:
        parameter["allowEmptyValue"] = True
    if schema.get("type") == "array":
        parameter |= {"style": "form", "explode": False}
    return parameter | ({"example": example} if example is not None else {})


def bounded(name: str, description: str, low: int, high: int, default: int | None = None) -> Schema:
    """A whole number within bounds."""
    more = {} if default is None else {"default": default}
    return query(name, whole(description, minimum=low, maximum=high, **more), example=default)


def limit(high: int, default: int, of_what: str) -> Schema:
    """How many."""
    return bounded("limit", f"How many {of_what}", 1, high, default)


def names(most: int) -> Schema:
    """Several symbols."""
    symbols = several(
        {"type": "string"}, "Which coins, with commas between them or in several parameters", maxItems=most
    )
    return query("symbols", symbols, example=["BTC", "ETH"])


def chosen(name: str, choices: Sequence[str], default: str, description: str) -> Schema:
    """One of several words."""
    return query(name, word(choices, description) | {"default": default}, example=default)


SOMETHING = r"\S"
"""A text that is not blank."""

MAX_AGE = query("max_age", number("Seconds; 503 rather than anything older, and 0 asks the sources now", minimum=0))
SYMBOL_NEEDED = query("symbol", text("Which coin", pattern=SOMETHING), needed=True, example="BTC")
STRICT = query(
    "strict",
    word((*YES, *NO), "With 1 a ticker that several coins go by is refused with 409; without, the largest is meant"),
)
INTERVAL_OF = "Length of a candle; case matters, `1M` is a month"
CHAIN_QUERY = query(
    "chain",
    text("A name, an id or a common other name", default=ETHEREUM.name, examples=[each.name for each in CHAINS]),
    example=ETHEREUM.name,
)
PAGE = (
    query("category", text("Only this category"), example="rpc_nodes"),
    limit(MAX_ROWS, MAX_ROWS, "entries"),
    bounded("offset", "How many to skip", 0, 1_000_000, 0),
)
STREAM_INTERVAL = bounded("interval_ms", "At most one value a topic in this time", 0, MAX_INTERVAL_MS, 0)
SINCE = query("since", text("Your position: the last id that you have; `earliest` for all that is held"))
LAST_EVENT_ID = query(
    "last_event_id",
    text(
        "The same, and it wins over `since`; may be spelled `lastEventId`, `lastEventID` or `Last-Event-ID`, of which "
        "the last one counts. Two different values under one name are refused"
    ),
)
LAST_EVENT_ID_HEADER: Schema = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "Your position, as an EventSource sends it; wins over the parameters unless it is empty",
    "required": False,
    "schema": {"type": "string"},
}


def selectors(otherwise: str = "", **more: Any) -> Schema:
    """Topics and patterns."""
    description = (
        f"Topics and patterns, with commas between them or in several parameters; at most {MAX_TOPICS} topics and "
        f"{MAX_PATTERNS} patterns{otherwise}"
    )
    return query("topics", several(text("A topic or a pattern"), description), example=["price.BTC"], **more)


TICKET = query("ticket", text("From `POST /api/ticket`, where headers cannot be set"))

A_TEXT = {"type": "string", "pattern": SOMETHING, "maxLength": MAX_TEXT_CHARS}
MODEL = maybe(word(MODELS, "Who shall score; null for whoever is best here"))

# --- answers ---

STALE_REASON = maybe(word(STALE_REASONS, "Why it is stale; null while it is not"))
STAMPS: dict[str, Schema] = {
    "ts": time_ms("When it was true at the source"),
    "received": time_ms("When it reached this service"),
    "source": SOURCE,
    "stale": flag("Whether it is older than it should be"),
    "reason": STALE_REASON,
}
TS = {"ts": STAMPS["ts"]}
SCORED = record(
    {
        "text": text("Yours"),
        "label": LABEL,
        "score": SCORE,
        "model": text("Who scored", examples=["lexicon"]),
        "confidence": maybe(number("Of the model, 0 to 1", minimum=0, maximum=1)),
    }
)
INDEX = record(
    {
        **INDEX_FIELDS,
        "history": several(
            record({name: INDEX_FIELDS[name] for name in ("value", "classification", "timestamp")}),
            "Days, the newest first",
        ),
    }
)
PRICES = several(ref("PriceRow"))
CANDLES = several(ref("Candle"), "Ascending")
ARTICLES = several(ref("SourcedArticle"))
RESOURCES = several(ref("Resource"))

COUNTS = by_name(whole("Entries"), "How many each category has")
SERVER_OF_CLEAN = record(
    {"answers": flag("Whether it answers"), "status": maybe(text("Its own word")), "reason": maybe(text("Why not"))}
)
HEALTH_WORD = word(("healthy", "stale", "down"), "`stale` if only what was held before can be given")
CLEAN_HEALTH: dict[str, Schema] = {
    "status": HEALTH_WORD,
    "server": SERVER_OF_CLEAN,
    "resources": maybe(whole("Entries held")),
    "categories": maybe(whole("Categories held")),
    "age_ms": maybe(whole("Age of what is held")),
}
DT_HEALTH: dict[str, Schema] = {
    "status": HEALTH_WORD,
    "answers": flag("Whether it answers"),
    "reason": maybe(text("Why not")),
    "service": maybe(text("What it says it is")),
    "version": maybe(text("Of it")),
    "endpoints": maybe(several(text("A path"), "Its paths")),
}
LOADED = maybe(record({"configured": maybe(whole("How many")), "loaded": maybe(whole("Of them"))}))
ENTRY: dict[str, Schema] = {
    "key": text("Its name here"),
    "id": text("Its name on Hugging Face"),
    "description": maybe(text("In words")),
}
READINESS = record(
    {
        "status": word(("ready", "starting", "troubled", "draining"), "In a word"),
        "categories": by_name(
            maybe(text("`value`, or the failure that stands in its way")), "Each category; null while it waits"
        ),
        "trouble": maybe(text("Why no new clients should come")),
    }
)

ANSWER_SCHEMAS: dict[str, Schema] = {
    "Error": record(
        {
            "success": always(False),
            "error": record(
                {
                    "code": word(CODES, "For programs: " + "; ".join(f"`{code}` {why}" for code, why in CODES.items())),
                    "message": text("For people"),
                    "details": {"type": "object", "description": "By parameter what is wrong with it, and more"},
                }
            ),
            "timestamp": text("When", format="date-time"),
            "request_id": text("As in `X-Request-Id`"),
        },
        description="Why there is no answer.",
        examples=[
            {
                "success": False,
                "error": {
                    "code": "invalid_interval",
                    "message": "interval '7m' is not one of 1m, 3m, …",
                    "details": {"interval": "interval '7m' is not one of 1m, 3m, …"},
                },
                "timestamp": "2026-11-22T08:50:05.127Z",
                "request_id": "5f0c2a61d1b7a9e4",
            }
        ],
    ),
    "Attempt": record(
        {
            "provider": text("Who", examples=["coingecko"]),
            "outcome": text("`ok`, or how it failed", examples=["ok", "rate_limited"]),
            "asked": always(False, "There if it was passed over"),
        },
        optional=["asked"],
        description="A provider that was asked, or passed over, for an answer.",
    ),
    "PriceRow": record({**PRICE_FIELDS, **STAMPS}, description="A price with what its message says of it."),
    "SourcedArticle": record(
        {**VALUES["Article"]["properties"], "source": SOURCE}, description="An article, and who brought it."
    ),
    "Trending": record(
        {
            "symbol": SYMBOL,
            "id": text("CoinGecko's id"),
            "name": text("Its name"),
            "rank": maybe(whole("By market cap")),
            "price": maybe(number("US dollars")),
            "change_24h_pct": maybe(number("Change of 24 h, percent")),
        },
        description="A coin that many look for now.",
    ),
    "Resource": record(
        {
            "category": text("Of the catalogue", examples=["rpc_nodes"]),
            "id": text("Its id"),
            "name": text("Its name"),
            "base_url": maybe(text("Where it answers")),
            "auth": text("What it wants to be let in", examples=["none"]),
            "docs_url": maybe(text("Where it is described")),
            "endpoints": {"description": "As the catalogue has them"},
            "notes": maybe(text("In words")),
        },
        description="A source of data.",
    ),
}


def envelope(data: Schema, extra: dict[str, Schema], sometimes: dict[str, Schema]) -> Schema:
    """What every good answer says besides its data."""
    return record(
        {
            "success": always(True),
            "data": data,
            "source": text("The providers, with commas between them", examples=["coingecko"]),
            "timestamp": text("When it was answered", format="date-time"),
            "latency_ms": number("How long it took here", minimum=0),
            "cached": flag("Whether it was held here and not asked for now"),
            "age_ms": whole("Age of the oldest value in it", minimum=0),
            "stale": flag("Whether any value is older than it should be"),
            "attempts": several(ref("Attempt"), "Who was asked for it"),
            "position": ID,
            **extra,
            **sometimes,
        },
        optional=sometimes,
    )


HEADERS: dict[str, Schema] = {
    "X-Request-Id": {"description": "Yours, if it was a sane one, or ours", "schema": {"type": "string"}},
    "ETag": {"description": "Names the data: send it as If-None-Match", "schema": {"type": "string"}},
    "Age": {"description": "Of the oldest value, seconds", "schema": {"type": "integer", "minimum": 0}},
    "Retry-After": {"description": "When to ask again, seconds", "schema": {"type": "integer", "minimum": 1}},
    "WWW-Authenticate": {"description": "How to show who you are", "schema": {"type": "string"}},
    "RateLimit-Limit": {"description": "How many may come at once", "schema": {"type": "integer"}},
    "RateLimit-Remaining": {"description": "How many more now", "schema": {"type": "integer"}},
    "RateLimit-Reset": {"description": "When one more will be taken, seconds", "schema": {"type": "integer"}},
    "RateLimit": {"description": "The same in one line", "schema": {"type": "string"}},
    "RateLimit-Policy": {"description": "The limit", "schema": {"type": "string"}},
    "Upgrade": {"description": "What to speak", "schema": {"type": "string"}},
}
LIMIT_HEADERS = tuple(name for name in HEADERS if name.startswith("RateLimit"))

REFUSALS: dict[int, tuple[tuple[str, ...], tuple[str, ...]]] = {
    400: (("bad_parameter", "invalid_interval", "unknown_topic", "bad_json", "bad_request"), ()),
    401: (("unauthorised",), ("WWW-Authenticate",)),
    403: (("forbidden",), ()),
    404: (("unknown_symbol", "unknown_chain", "not_found"), ()),
    408: (("body_timeout",), ()),
    409: (("ambiguous",), ()),
    413: (("bad_request",), ()),
    415: (("bad_request",), ()),
    426: (("upgrade_required",), ("Upgrade",)),
    429: (("rate_limited", "connection_limit"), ("Retry-After", *LIMIT_HEADERS)),
    500: (("internal",), ()),
    503: (("unavailable", "too_old", "connection_limit", "shutting_down"), ("Retry-After",)),
    504: (("deadline",), ("Retry-After",)),
}
"""For each status the codes it can come with, and its headers."""

CAUSES = {
    "invalid_interval": "interval",
    "unknown_topic": "topics",
    "unknown_symbol": "symbol",
    "unknown_chain": "chain",
    "too_old": "max_age",
    "bad_json": "body",
    "connection_limit": "ticket",
    "shutting_down": "ticket",
    "unavailable": "sources",
}
"""What a path has to have for a code to be met there; the others can be met wherever their status can."""


def refusal(status: int, codes: Sequence[str]) -> Schema:
    """The response of a status with these codes."""
    headers = REFUSALS[status][1]
    code = {"properties": {"error": {"properties": {"code": {"enum": list(codes)}}}}}
    return {
        "description": "; ".join(f"`{code}`: {CODES[code]}" for code in codes),
        "headers": _headers("X-Request-Id", *headers),
        "content": {"application/json": {"schema": {"allOf": [ref("Error"), code]}}},
    }


def _headers(*wanted: str) -> Schema:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in wanted}


# --- endpoints ---

GUARDED = (401, 403, 429, 500)
"""What may befall any request that is not open to everyone."""
ASKS = (400, 503, 504)
"""What may befall one that is answered by sources."""
BODY = (408, 413, 415)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A path and what is said of it. `data` is what the envelope holds; without it `content` gives the media types."""

    path: str
    tag: str
    summary: str
    parameters: Sequence[Schema] = ()
    data: Schema | None = None
    statuses: Sequence[int] = GUARDED
    extra: dict[str, Schema] = field(default_factory=dict)
    """Fields of the envelope that only this answer has."""
    sometimes: dict[str, Schema] = field(default_factory=dict)
    """The same, where there is something to be said."""
    content: dict[str, Schema] | None = None
    method: str = "get"
    body: Schema | None = None
    notes: str = ""
    tagged: bool = True
    """Whether it has an ETag."""
    security: Sequence[Schema] | None = None
    good: str = "200"
    refused: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """With which codes, where that does not follow from what it takes."""
    more: dict[str, Schema] = field(default_factory=dict)
    """Other responses."""

    def operation(self) -> Schema:
        """What stands under the path and method."""
        said: Schema = {
            "operationId": operation_id(self.method, self.path),
            "tags": [self.tag],
            "summary": self.summary,
            **({"description": self.notes} if self.notes else {}),
            **({"parameters": list(self.parameters)} if self.parameters else {}),
            "responses": dict(sorted(self._responses().items())),
        }
        if self.body is not None:
            said["requestBody"] = {"required": True, "content": {"application/json": self.body}}
        if self.security is not None:
            said["security"] = list(self.security)
        return said

    def _responses(self) -> dict[str, Schema]:
        tagged = self.tagged and self.method == "get"
        content = self.content
        if content is None:
            assert self.data is not None  # noqa: S101 - one of the two is there
            schema = envelope(self.data, self.extra, self.sometimes)
            content = {"application/json": {"schema": schema}}
        names = ["X-Request-Id", *(["ETag"] if tagged else []), *(["Age"] if self.data is not None else [])]
        responses = {self.good: {"description": self.summary, "headers": _headers(*names), "content": content}}
        if tagged:
            unchanged = {"description": "You have it: the ETag is that of If-None-Match", "headers": _headers(*names)}
            responses["304"] = unchanged
        responses |= {
            str(status): {"$ref": f"#/components/responses/{name_of(status, self.codes(status))}"}
            for status in self.statuses
        }
        return responses | self.more

    def codes(self, status: int) -> tuple[str, ...]:
        """With which codes this path can give a status."""
        if status in self.refused:
            return self.refused[status]
        has = {each["name"].replace("symbols", "symbol") for each in self.parameters}
        if self.method == "post":
            has.add("body")
        if 504 in self.statuses:
            has.add("sources")
        return tuple(code for code in REFUSALS[status][0] if code not in CAUSES or CAUSES[code] in has)


def name_of(status: int, codes: Sequence[str]) -> str:
    """The response of a status with these codes, in the components."""
    return "-".join([str(status), *codes])


def operation_id(method: str, path: str) -> str:
    """A name for programs: `getMarketPrice`."""
    words = path.removeprefix("/api").replace("/", " ").replace("-", " ").replace(".", " ").split() or ["page"]
    return method + "".join(each[:1].upper() + each[1:] for each in words)


OPEN: tuple[Schema, ...] = ()
TOKEN: tuple[Schema, ...] = ({}, {"token": []})
TOKEN_OR_TICKET: tuple[Schema, ...] = (*TOKEN, {"ticket": []})

CLEAN, DT = "/api/new-sources/crypto-api-clean", "/api/new-sources/crypto-dt-source"
MISSING = {"missing": several(SYMBOL, "Those that nobody knows; absent if there are none")}
REASONS = {"reasons": by_name(word((NO_MATCHING_SOURCE,), "Why it is missing"), "Of missing prices, where known")}
TOTAL = {"total": whole("How many there are in all", minimum=0)}

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "/api/market/price",
        MARKET,
        "Last prices, all of them without `symbols`",
        (names(MAX_NAMES), STRICT, MAX_AGE),
        PRICES,
        (*GUARDED, *ASKS, 404, 409),
        sometimes=MISSING | REASONS,
        notes="From the stream where it has them, else asked for.",
    ),
    Endpoint(
        "/api/market/ohlc",
        MARKET,
        "Candles, ascending",
        (
            SYMBOL_NEEDED,
            chosen("interval", INTERVALS, "1h", INTERVAL_OF),
            limit(MAX_CANDLES, DEFAULT_CANDLES, "candles"),
            bounded("start", "From candles that open then or later, Unix ms", 0, MAX_TIME_MS),
            bounded("end", "To candles that open then or earlier, Unix ms", 0, MAX_TIME_MS),
            MAX_AGE,
        ),
        CANDLES,
        (*GUARDED, *ASKS, 404),
        notes="With `start` the first ones since then, else the last ones. From the series that are kept, else asked.",
    ),
    Endpoint(
        "/api/market",
        MARKET,
        "The largest coins, or those of `symbols` in their order",
        (
            limit(MAX_COINS, 100, "coins"),
            names(MAX_SYMBOLS),
            STRICT,
            MAX_AGE,
        ),
        several(ref("Coin")),
        (*GUARDED, *ASKS, 404, 409),
        sometimes=MISSING,
    ),
    Endpoint(
        "/api/market/global",
        MARKET,
        "The whole market, in US dollars",
        (MAX_AGE,),
        record({**GLOBAL_FIELDS, **TS}),
        (*GUARDED, *ASKS),
    ),
    Endpoint(
        "/api/market/trending",
        MARKET,
        "The coins most looked for, the first one first",
        (limit(50, 50, "coins"), MAX_AGE),
        several(ref("Trending")),
        (*GUARDED, *ASKS),
    ),
    Endpoint(
        "/api/news",
        TEXTS,
        "Articles, newest first; the hottest first for `hot`",
        (
            chosen("filter", FILTERS, FILTERS[0], "`important` leaves out what moved nobody"),
            query("symbol", text("Only articles about this coin"), example="BTC"),
            limit(MAX_ARTICLES, DEFAULT_ARTICLES, "articles"),
            MAX_AGE,
        ),
        ARTICLES,
        (*GUARDED, *ASKS, 404),
    ),
    Endpoint(
        "/api/sentiment/global",
        TEXTS,
        "Fear & Greed of today, and of the last days",
        (limit(MAX_DAYS, HISTORY_DAYS, "days"), MAX_AGE),
        INDEX,
        (*GUARDED, *ASKS),
    ),
    Endpoint(
        "/api/sentiment/analyze",
        TEXTS,
        "A score for each of your texts, in their order",
        (MAX_AGE,),
        several(SCORED),
        (*GUARDED, *ASKS, *BODY),
        method="post",
        body={
            "schema": {
                "anyOf": [
                    record(
                        {"texts": several(A_TEXT, "To be scored", minItems=1, maxItems=MAX_TEXTS), "model": MODEL},
                        optional=["model"],
                        title="Several texts",
                    ),
                    record(
                        {"text": A_TEXT, "texts": {"type": "null"}, "model": MODEL},
                        optional=["texts", "model"],
                        title="One text",
                    ),
                ]
            },
            "example": {"texts": ["Bitcoin climbs to a new high"], "model": None},
        },
    ),
    Endpoint(
        "/api/crypto/blockchain/gas",
        CHAIN,
        "Fees in gwei, never rounded",
        (CHAIN_QUERY, MAX_AGE),
        record({**GAS_FIELDS, **TS}),
        (*GUARDED, *ASKS, 404),
    ),
    Endpoint(
        "/api/crypto/blockchain/stats",
        CHAIN,
        "Height, block time, price, supply, utilisation",
        (CHAIN_QUERY, MAX_AGE),
        record({**CHAIN_FIELDS, **TS}),
        (*GUARDED, *ASKS, 404),
    ),
    Endpoint(
        "/ws",
        STREAMS,
        "The stream over WebSocket",
        (
            selectors(),
            SINCE,
            LAST_EVENT_ID,
            LAST_EVENT_ID_HEADER,
            STREAM_INTERVAL,
            query("batch", word((*YES, *NO), "With 1 send JSON arrays of messages, one for each write")),
            TICKET,
        ),
        statuses=(400, *GUARDED, 426, 503),
        content={},
        good="101",
        refused={400: ("bad_request",)},
        tagged=False,
        notes="The messages are in `/asyncapi.json`. What is wrong with the parameters is said over the WebSocket.",
        security=TOKEN_OR_TICKET,
    ),
    Endpoint(
        "/sse",
        STREAMS,
        "The stream over Server-Sent Events",
        (
            selectors(needed=True),
            STREAM_INTERVAL,
            LAST_EVENT_ID,
            SINCE,
            LAST_EVENT_ID_HEADER,
            TICKET,
        ),
        content={"text/event-stream": {"schema": {"type": "string"}}},
        statuses=(*GUARDED, 400, 503),
        tagged=False,
        notes="The messages are in `/asyncapi.json`. An EventSource reconnects by itself, and resumes. A client "
        "that says `Accept: text/event-stream` is never answered 429, 500 or 503, which would end an EventSource: "
        "it gets a `goodbye` that says when to come back.",
        security=TOKEN_OR_TICKET,
    ),
    Endpoint(
        "/api/ticket",
        STREAMS,
        "Change a token for a ticket that opens one stream",
        (),
        record({"ticket": text("For `?ticket=` of `/ws` or `/sse`, once"), "expires_in_s": whole("Seconds")}),
        (*GUARDED, *BODY),
        method="post",
    ),
    Endpoint(
        "/api/topics",
        STREAMS,
        "What can be subscribed, and what has a value",
        (MAX_AGE,),
        record(
            {
                "templates": several(text("Such as `price.<SYM>`"), "What topics there can be"),
                "kinds": by_name(word(("state", "log", "mixed"), "Of a topic"), "Kind of each template"),
                "patterns": several(text("A pattern"), "Patterns to try"),
                "symbols": several(SYMBOL, "What `<SYM>` may be"),
                "intervals": several(word(INTERVALS, "An interval"), "What `<interval>` may be"),
                "chains": several(GAS_FIELDS["chain"], "What `<chain>` may be"),
                "topics": several(
                    record(
                        {
                            "topic": text("Its name", examples=["price.BTC"]),
                            "kind": word(("state", "log", "mixed"), "Whether only the newest value matters"),
                            "id": ID,
                            "source": SOURCE,
                            "ts": STAMPS["ts"],
                            "received": STAMPS["received"],
                            "age_ms": whole("Age of its value", minimum=0),
                            "ttl_s": maybe(number("When it is stale; null for never")),
                            "stale": flag("Whether it is"),
                            "reason": STALE_REASON,
                            "events": whole("Since the start"),
                            "held_log_events": whole("For those who resume"),
                        }
                    ),
                    "Those that have a value",
                ),
            }
        ),
        (*GUARDED, 400, 503),
    ),
    Endpoint(
        "/api/snapshot",
        STREAMS,
        "The last message of each topic, as the streams carry it",
        (
            selectors("; all topics without"),
            MAX_AGE,
        ),
        several(ref("Update")),
        (*GUARDED, 400, 503),
        extra={
            "stale_topics": several(text("A topic"), "Those that are old"),
            "ttl_s": by_name(maybe(number("Seconds; null for ever")), "How long the value of each topic is good"),
        },
    ),
    Endpoint(
        f"{CLEAN}/health",
        SOURCES,
        "Whether Crypto API Clean answers",
        (MAX_AGE,),
        record(CLEAN_HEALTH),
        (*GUARDED, *ASKS),
    ),
    Endpoint(
        f"{CLEAN}/stats",
        SOURCES,
        "How much its catalogue holds",
        (MAX_AGE,),
        record({"total_resources": whole("Entries"), "total_categories": whole("Categories"), "categories": COUNTS}),
        (*GUARDED, *ASKS),
    ),
    Endpoint(
        f"{CLEAN}/resources",
        SOURCES,
        "Its catalogue of data sources",
        (*PAGE, MAX_AGE),
        RESOURCES,
        (*GUARDED, *ASKS, 404),
        extra=TOTAL,
    ),
    Endpoint(
        f"{CLEAN}/categories",
        SOURCES,
        "Its categories",
        (MAX_AGE,),
        several(record({"name": text("The category"), "count": whole("Entries")})),
        (*GUARDED, *ASKS),
    ),
    Endpoint(
        f"{DT}/health", SOURCES, "Whether Crypto DT Source answers", (MAX_AGE,), record(DT_HEALTH), (*GUARDED, *ASKS)
    ),
    Endpoint(
        f"{DT}/status",
        SOURCES,
        "How it says it is",
        (MAX_AGE,),
        record({"status": text("Its own word"), "models": LOADED, "datasets": LOADED}),
        (*GUARDED, *ASKS),
    ),
    Endpoint(
        f"{DT}/prices",
        SOURCES,
        "Its prices, of the largest coins without `symbols`",
        (
            names(100),
            limit(crypto_dt_source.MAX_COINS, 100, "coins"),
            MAX_AGE,
        ),
        PRICES,
        (*GUARDED, *ASKS, 404),
    ),
    Endpoint(
        f"{DT}/klines",
        SOURCES,
        "Its candles against USDT, ascending",
        (
            SYMBOL_NEEDED,
            chosen("interval", crypto_dt_source.INTERVALS, "1h", INTERVAL_OF),
            limit(crypto_dt_source.MAX_CANDLES, 100, "candles"),
            MAX_AGE,
        ),
        CANDLES,
        (*GUARDED, *ASKS, 404),
    ),
    Endpoint(
        f"{DT}/fear-greed",
        SOURCES,
        "Fear & Greed as it has it",
        (limit(365, 30, "days"), MAX_AGE),
        INDEX,
        (*GUARDED, *ASKS),
    ),
    Endpoint(
        f"{DT}/sentiment",
        SOURCES,
        "What one of its models reads in a text",
        (
            query(
                "text",
                text("The text", pattern=SOMETHING, maxLength=MAX_TEXT_CHARS),
                needed=True,
                example="Bitcoin climbs to a new high",
            ),
            chosen("model", crypto_dt_source.MODELS, crypto_dt_source.MODELS[0], "Which model"),
            MAX_AGE,
        ),
        SCORED,
        (*GUARDED, *ASKS),
    ),
    Endpoint(
        f"{DT}/reddit",
        SOURCES,
        "Posts of a subreddit",
        (
            query(
                "subreddit",
                text("Which one", pattern="^[A-Za-z0-9_]{2,21}$", default="cryptocurrency"),
                example="cryptocurrency",
            ),
            chosen("period", dt_requests.PERIODS, "day", "The best of this time; the newest for `new`"),
            limit(100, 25, "posts"),
            MAX_AGE,
        ),
        ARTICLES,
        (*GUARDED, *ASKS, 404),
    ),
    Endpoint(
        f"{DT}/news",
        SOURCES,
        "Its articles",
        (
            chosen("feed", dt_requests.FEEDS, dt_requests.LATEST, "Of one outlet, or of all"),
            limit(100, 20, "articles"),
            MAX_AGE,
        ),
        ARTICLES,
        (*GUARDED, *ASKS, 404),
    ),
    Endpoint(
        f"{DT}/models",
        SOURCES,
        "Its text models",
        (MAX_AGE,),
        several(record({**ENTRY, "task": maybe(text("What it does")), "loaded": flag("Whether it is in memory")})),
        (*GUARDED, *ASKS),
    ),
    Endpoint(
        f"{DT}/datasets",
        SOURCES,
        "Its data sets",
        (MAX_AGE,),
        several(record({**ENTRY, "loaded": flag("Whether it is in memory")})),
        (*GUARDED, *ASKS),
    ),
    Endpoint(
        "/api/new-sources/prices/unified",
        SOURCES,
        "Prices from whoever has them, the most traded first",
        (names(MAX_NAMES), limit(500, 100, "prices"), MAX_AGE),
        PRICES,
        (*GUARDED, *ASKS, 404),
        sometimes=MISSING | REASONS,
    ),
    Endpoint(
        "/api/new-sources/resources/unified",
        SOURCES,
        "The catalogue; without it the sources of this service",
        (*PAGE, MAX_AGE),
        RESOURCES,
        (*GUARDED, *ASKS, 404),
        extra=TOTAL,
    ),
    Endpoint(
        "/api/new-sources/status",
        SOURCES,
        "How the two sources do, by their own word and by our experience",
        (MAX_AGE,),
        record(
            {
                "crypto_api_clean": record({**CLEAN_HEALTH, "provider": ref("Provider")}),
                "crypto_dt_source": record({**DT_HEALTH, "provider": ref("Provider")}),
            }
        ),
        (*GUARDED, *ASKS),
    ),
    Endpoint(
        "/api/new-sources/test-all",
        SOURCES,
        "Ask every endpoint of the two sources once, at most once a minute",
        (MAX_AGE,),
        record(
            {
                "ok": whole("How many answered"),
                "failed": whole("How many did not"),
                "endpoints": several(
                    record(
                        {
                            "endpoint": text("Path of ours that asks it"),
                            "outcome": text("`ok`, or how it failed"),
                            "reason": maybe(text("Why")),
                            "latency_ms": number("How long it took"),
                            "cached": flag("Whether it was held already"),
                        }
                    ),
                    "Each of them",
                ),
            }
        ),
        (*GUARDED, *ASKS),
    ),
    Endpoint(
        "/api/status",
        HEALTH,
        "Health of feeds, providers and this server, for people",
        (MAX_AGE,),
        ref("Status"),
        (*GUARDED, 400, 503),
    ),
    Endpoint(
        "/health/live",
        HEALTH,
        "The process answers",
        statuses=(500,),
        content={"application/json": {"schema": record({"status": always("live")})}},
        tagged=False,
        security=OPEN,
    ),
    Endpoint(
        "/health/ready",
        HEALTH,
        "Every category has a first value or a known failure",
        statuses=(500,),
        content={"application/json": {"schema": READINESS}},
        tagged=False,
        security=OPEN,
        more={
            "503": {
                "description": "New clients should not come now",
                "headers": _headers("X-Request-Id", "Retry-After"),
                "content": {"application/json": {"schema": READINESS}},
            }
        },
    ),
    Endpoint(
        "/metrics",
        HEALTH,
        "Metrics for Prometheus, in its text or as OpenMetrics",
        content={
            "text/plain": {"schema": {"type": "string"}},
            "application/openmetrics-text": {"schema": {"type": "string"}},
        },
        tagged=False,
    ),
    Endpoint(
        "/",
        PAGES,
        "The demo page",
        statuses=(500,),
        content={"text/html": {"schema": {"type": "string"}}},
        security=OPEN,
    ),
    Endpoint(
        "/docs",
        PAGES,
        "This documentation, to read and to try",
        statuses=(500,),
        content={"text/html": {"schema": {"type": "string"}}},
        security=OPEN,
    ),
    Endpoint(
        "/openapi.json",
        PAGES,
        "The contract of these endpoints",
        statuses=(500,),
        content={
            "application/json": {"schema": open_record({"openapi": text("Version"), "paths": by_name({}, "Paths")})}
        },
        security=OPEN,
    ),
    Endpoint(
        "/asyncapi.json",
        PAGES,
        "The contract of the streams",
        statuses=(500,),
        content={
            "application/json": {
                "schema": open_record({"asyncapi": text("Version"), "channels": by_name({}, "Channels")})
            }
        },
        security=OPEN,
    ),
)


def document() -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, dict[str, Schema]] = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method] = endpoint.operation()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "stream-server",
            "version": __version__,
            "summary": "Live crypto data from many unreliable sources, as one honest service.",
            "description": DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": ".", "description": "Where this document is: a proxy may serve it under any path"}],
        "security": list(TOKEN),
        "tags": [{"name": name, "description": description} for name, description in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS | ANSWER_SCHEMAS,
            "headers": HEADERS,
            "responses": {
                name_of(status, endpoint.codes(status)): refusal(status, endpoint.codes(status))
                for endpoint in ENDPOINTS
                for status in sorted(endpoint.statuses)
            },
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Only where the operator has set `AUTH_TOKENS` or another `AUTH_…` setting",
                },
                "ticket": {"type": "apiKey", "in": "query", "name": "ticket", "description": "Opens one stream"},
            },
        },
    }

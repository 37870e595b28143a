"""Build `/openapi.json`: every path that answers over HTTP, with its parameters and answers.

Bounds and words come from where they are checked; the rest is written here by hand. Tests compare it with the routes,
the parameters that are read, and the answers that are given.
Source: OpenAPI 3.1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from feeds import dt_requests
from feeds.chains import CHAINS, ETHEREUM
from feeds.identity import NO_MATCHING_SOURCE
from feeds.intervals import INTERVALS
from feeds.providers import crypto_dt_source
from feeds.queries import HISTORY_DAYS
from stream_server import __version__
from stream_server.access.parameters import MAX_NAMES, MAX_TIME_MS, NO, YES
from stream_server.delivery.fields import MAX_INTERVAL_MS
from stream_server.delivery.selectors import MAX_PATTERNS, MAX_TOPICS
from stream_server.delivery.shapes import STALE_REASONS
from stream_server.rest.candles import DEFAULT_CANDLES, MAX_CANDLES
from stream_server.rest.market import MAX_COINS, MAX_SYMBOLS
from stream_server.rest.new_sources.crypto_api_clean import MAX_ROWS
from stream_server.rest.news import DEFAULT_ARTICLES, FILTERS, MAX_ARTICLES
from stream_server.rest.sentiment import MAX_DAYS, MAX_TEXT_CHARS, MAX_TEXTS, MODELS
from stream_server.specs.derive import Schema, ref
from stream_server.specs.schemas import (
    ARTICLE_FIELDS,
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
    SYMBOL,
    always,
    by_name,
    flag,
    maybe,
    number,
    open_record,
    record,
    several,
    text,
    time_ms,
    whole,
    word,
)
from stream_server.wire.refusals import CODES

DESCRIPTION = """\
Last values, candles, news and the health of their sources. Every answer has the same envelope, which names the source \
of its data and their age. With `position` you can GET, then subscribe with `since` and miss nothing.

Symbols may be written as `BTC`, `btc`, `BTCUSDT`, `BTC-USDT`, `BTC/USDT` or `bitcoin`. An unknown value is `null`, \
never 0; percent is percent, not a fraction. Unknown parameters are ignored, and all wrong ones are named at once. \
A list may contain commas, be repeated, or both; any other parameter is refused if it is repeated with different \
values.

Fields may be added at any time, so ignore those you don't know. `/asyncapi.json` describes the streams.
"""

MARKET, TEXTS, CHAIN = "Market", "News and sentiment", "Chains"
STREAMS, SOURCES, HEALTH, PAGES = "Streams and topics", "New sources", "Health", "Documentation"
TAGS = {
    MARKET: "Prices, candles and the market table.",
    TEXTS: "Articles with sentiment scores, Fear & Greed, and scores of your own texts.",
    CHAIN: "Fees and state of blockchains.",
    STREAMS: "Streams, the topics you can subscribe to, and their last values.",
    SOURCES: "Crypto API Clean and Crypto DT Source in the shapes of this API, alone and with fallback.",
    HEALTH: "For people, probes and Prometheus.",
    PAGES: "Pages and machine-readable contracts.",
}

# --- parameters ---


def query(name: str, schema: Schema, *, needed: bool = False, example: object = None) -> Schema:
    """Return a query parameter; the schema holds its description."""
    description = schema["description"]
    schema = {key: value for key, value in schema.items() if key != "description"}
    parameter = {"name": name, "in": "query", "description": description, "required": needed, "schema": schema}
    if not needed:
        parameter["allowEmptyValue"] = True
    if schema.get("type") == "array":
        parameter |= {"style": "form", "explode": False}
    return parameter | ({"example": example} if example is not None else {})


def bounded(name: str, description: str, low: int, high: int, default: int | None = None) -> Schema:
    """Return a parameter that is a whole number within bounds."""
    more = {} if default is None else {"default": default}
    return query(name, whole(description, minimum=low, maximum=high, **more), example=default)


def limit(high: int, default: int, of_what: str) -> Schema:
    """Return the parameter that limits the number of rows."""
    return bounded("limit", f"Maximum number of {of_what}", 1, high, default)


def names(most: int) -> Schema:
    """Return the parameter for several symbols."""
    symbols = several({"type": "string"}, "Coins, separated by commas or in several parameters", maxItems=most)
    return query("symbols", symbols, example=["BTC", "ETH"])


def chosen(name: str, choices: Sequence[str], default: str, description: str) -> Schema:
    """Return a parameter that is one of several words."""
    return query(name, word(choices, description) | {"default": default}, example=default)


SOMETHING = r"\S"
"""The pattern of a text that isn't blank."""

MAX_AGE = query(
    "max_age", number("Maximum age in seconds; older data are refused with 503, and 0 asks the sources now", minimum=0)
)
SYMBOL_NEEDED = query("symbol", text("The coin", pattern=SOMETHING), needed=True, example="BTC")
STRICT = query(
    "strict",
    word(
        (*YES, *NO),
        "With 1, a ticker shared by several coins is refused with 409; otherwise it means the largest of them",
    ),
)
INTERVAL_OF = "Length of a candle, case-sensitive: `1M` is a month"
CHAIN_QUERY = query(
    "chain",
    text(
        "Name, id or a common other name of the chain", default=ETHEREUM.name, examples=[each.name for each in CHAINS]
    ),
    example=ETHEREUM.name,
)
PAGE = (
    query("category", text("Only this category"), example="rpc_nodes"),
    limit(MAX_ROWS, MAX_ROWS, "entries"),
    bounded("offset", "Number of entries to skip", 0, 1_000_000, 0),
)
STREAM_INTERVAL = bounded(
    "interval_ms", "At most one value per topic in this time, in milliseconds", 0, MAX_INTERVAL_MS, 0
)
SINCE = query("since", text("Your position: the last id you received; `earliest` replays everything that is held"))
LAST_EVENT_ID = query(
    "last_event_id",
    text(
        "Your position; wins over `since`. May be spelled `lastEventId`, `lastEventID` or `Last-Event-ID`; of several "
        "spellings the last one counts. Two different values under one name are refused"
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
    """Return the parameter for topics and patterns."""
    description = (
        f"Topics and patterns, separated by commas or in several parameters; at most {MAX_TOPICS} topics and "
        f"{MAX_PATTERNS} patterns{otherwise}"
    )
    return query("topics", several(text("A topic or a pattern"), description), example=["price.BTC"], **more)


TICKET = query("ticket", text("A ticket from `POST /api/ticket`, for clients that cannot set headers"))

A_TEXT = {"type": "string", "pattern": SOMETHING, "maxLength": MAX_TEXT_CHARS}
MODEL = maybe(word(MODELS, "The model that scores; null for the best available one"))

# --- answers ---

STALE_REASON = maybe(word(STALE_REASONS, "Cause of staleness; null if not stale"))
STAMPS: dict[str, Schema] = {
    "ts": time_ms("Time when the value was true at the source"),
    "received": time_ms("Time when the value reached this service"),
    "source": SOURCE,
    "stale": flag("Whether the value has outlived its time"),
    "reason": STALE_REASON,
}
TS = {"ts": STAMPS["ts"]}
SCORED = record(
    {
        "text": text("Your text"),
        "label": LABEL,
        "score": SCORE,
        "model": text("Model that scored", examples=["lexicon"]),
        "confidence": maybe(number("Confidence of the model, 0 to 1", minimum=0, maximum=1)),
    }
)
INDEX = record(
    {
        **INDEX_FIELDS,
        "history": several(
            record({name: INDEX_FIELDS[name] for name in ("value", "classification", "timestamp")}),
            "Daily values, newest first",
        ),
    }
)
PRICES = several(ref("PriceRow"))
CANDLES = several(ref("Candle"), "Candles, ascending")
ARTICLES = several(ref("SourcedArticle"))
RESOURCES = several(ref("Resource"))

COUNTS = by_name(whole("Number of entries"), "Number of entries by category")
SERVER_OF_CLEAN = record(
    {"answers": flag("Whether it answers"), "status": maybe(text("Its own report")), "reason": maybe(text("Why not"))}
)
HEALTH_WORD = word(("healthy", "stale", "down"), "`stale` if only earlier data can be returned")
CLEAN_HEALTH: dict[str, Schema] = {
    "status": HEALTH_WORD,
    "server": SERVER_OF_CLEAN,
    "resources": maybe(whole("Number of entries held")),
    "categories": maybe(whole("Number of categories held")),
    "age_ms": maybe(whole("Age of the data held, ms")),
}
DT_HEALTH: dict[str, Schema] = {
    "status": HEALTH_WORD,
    "answers": flag("Whether it answers"),
    "reason": maybe(text("Why not")),
    "service": maybe(text("Its name for itself")),
    "version": maybe(text("Its version")),
    "endpoints": maybe(several(text("A path"), "Its paths")),
}
LOADED = maybe(record({"configured": maybe(whole("Number configured")), "loaded": maybe(whole("Number loaded"))}))
ENTRY: dict[str, Schema] = {
    "key": text("Its name here"),
    "id": text("Its name on Hugging Face"),
    "description": maybe(text("Description")),
}
READINESS = record(
    {
        "status": word(("ready", "starting", "troubled", "draining"), "Readiness in one word"),
        "categories": by_name(
            maybe(text("`value`, or the failure that prevents one")), "Readiness by category; null while waiting"
        ),
        "trouble": maybe(text("Why no new clients should connect")),
    }
)

ANSWER_SCHEMAS: dict[str, Schema] = {
    "Error": record(
        {
            "success": always(False),
            "error": record(
                {
                    "code": word(CODES, "Error code: " + "; ".join(f"`{code}` {why}" for code, why in CODES.items())),
                    "message": text("Explanation for people"),
                    "details": {"type": "object", "description": "The error of each parameter by its name, and more"},
                }
            ),
            "timestamp": text("Time of the answer", format="date-time"),
            "request_id": text("As in `X-Request-Id`"),
        },
        description="The error of a request.",
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
            "provider": text("Name of the provider", examples=["coingecko"]),
            "outcome": text("`ok`, or the kind of failure", examples=["ok", "rate_limited"]),
            "asked": always(False, "Present if the provider was passed over"),
        },
        optional=["asked"],
        description="A provider that was asked or passed over.",
    ),
    "PriceRow": record({**PRICE_FIELDS, **STAMPS}, description="A price with its times, source and state."),
    "SourcedArticle": record({**ARTICLE_FIELDS, "source": SOURCE}, description="An article with its source."),
    "Trending": record(
        {
            "symbol": SYMBOL,
            "id": text("CoinGecko's id"),
            "name": text("Name of the coin"),
            "rank": maybe(whole("Rank by market cap")),
            "price": maybe(number("Price in US dollars")),
            "change_24h_pct": maybe(number("Change in 24 h, percent")),
        },
        description="A coin that many people search for now.",
    ),
    "Resource": record(
        {
            "category": text("Category in the catalogue", examples=["rpc_nodes"]),
            "id": text("Id of the source"),
            "name": text("Name of the source"),
            "base_url": maybe(text("Address of its API")),
            "auth": text("Kind of authentication", examples=["none"]),
            "docs_url": maybe(text("Address of its documentation")),
            "endpoints": {"description": "Endpoints as the catalogue lists them"},
            "notes": maybe(text("Remarks")),
        },
        description="A source of data.",
    ),
}


def envelope(data: Schema, extra: dict[str, Schema], sometimes: dict[str, Schema]) -> Schema:
    """Return the envelope of every successful answer."""
    return record(
        {
            "success": always(True),
            "data": data,
            "source": text("The providers, separated by commas", examples=["coingecko"]),
            "timestamp": text("Time of the answer", format="date-time"),
            "latency_ms": number("Time that the answer took, ms", minimum=0),
            "cached": flag("Whether the answer was already held and no source was asked"),
            "age_ms": whole("Age of the oldest value in the answer, ms", minimum=0),
            "stale": flag("Whether any value has outlived its time"),
            "attempts": several(ref("Attempt"), "The providers that were asked"),
            "position": ID,
            **extra,
            **sometimes,
        },
        optional=sometimes,
    )


HEADERS: dict[str, Schema] = {
    "X-Request-Id": {"description": "Your id if it was valid, else a generated one", "schema": {"type": "string"}},
    "ETag": {"description": "Tag of the data; send it as If-None-Match", "schema": {"type": "string"}},
    "Age": {"description": "Age of the oldest value, seconds", "schema": {"type": "integer", "minimum": 0}},
    "Retry-After": {"description": "Seconds until you may ask again", "schema": {"type": "integer", "minimum": 1}},
    "WWW-Authenticate": {"description": "Scheme to authenticate with", "schema": {"type": "string"}},
    "RateLimit-Limit": {"description": "Maximum number at once", "schema": {"type": "integer"}},
    "RateLimit-Remaining": {"description": "Number still allowed now", "schema": {"type": "integer"}},
    "RateLimit-Reset": {"description": "Seconds until one more is accepted", "schema": {"type": "integer"}},
    "RateLimit": {"description": "The remaining allowance in one line", "schema": {"type": "string"}},
    "RateLimit-Policy": {"description": "The limit", "schema": {"type": "string"}},
    "Upgrade": {"description": "Protocol to use", "schema": {"type": "string"}},
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
"""The error codes and headers of each status."""

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
"""The parameter without which a path cannot return a code; other codes are possible wherever their status is."""


def refusal(status: int, codes: Sequence[str]) -> Schema:
    """Return the response of a status with these codes."""
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
"""Statuses of every request that is not open to everyone."""
ASKS = (400, 503, 504)
"""Further statuses of requests that sources answer."""
BODY = (408, 413, 415)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A path and its description. `data` is the content of the envelope; without it `content` gives the media types."""

    path: str
    tag: str
    summary: str
    parameters: Sequence[Schema] = ()
    data: Schema | None = None
    statuses: Sequence[int] = GUARDED
    extra: dict[str, Schema] = field(default_factory=dict)
    """Fields of the envelope that only this answer has."""
    sometimes: dict[str, Schema] = field(default_factory=dict)
    """The same, but optional."""
    content: dict[str, Schema] | None = None
    method: str = "get"
    body: Schema | None = None
    notes: str = ""
    tagged: bool = True
    """Whether it has an ETag."""
    security: Sequence[Schema] | None = None
    good: str = "200"
    refused: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """The codes of a status, where they do not follow from the parameters."""
    more: dict[str, Schema] = field(default_factory=dict)
    """Other responses."""

    def operation(self) -> Schema:
        """Return the operation object of the path and method."""
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
            unchanged = {"description": "Not modified: the ETag matches If-None-Match", "headers": _headers(*names)}
            responses["304"] = unchanged
        responses |= {
            str(status): {"$ref": f"#/components/responses/{name_of(status, self.codes(status))}"}
            for status in self.statuses
        }
        return responses | self.more

    def codes(self, status: int) -> tuple[str, ...]:
        """Return the codes with which this path can answer a status."""
        if status in self.refused:
            return self.refused[status]
        has = {each["name"].replace("symbols", "symbol") for each in self.parameters}
        if self.method == "post":
            has.add("body")
        if 504 in self.statuses:
            has.add("sources")
        return tuple(code for code in REFUSALS[status][0] if code not in CAUSES or CAUSES[code] in has)


def name_of(status: int, codes: Sequence[str]) -> str:
    """Return the name of that response in the components."""
    return "-".join([str(status), *codes])


def operation_id(method: str, path: str) -> str:
    """Return a name for programs, such as `getMarketPrice`."""
    words = path.removeprefix("/api").replace("/", " ").replace("-", " ").replace(".", " ").split() or ["page"]
    return method + "".join(each[:1].upper() + each[1:] for each in words)


OPEN: tuple[Schema, ...] = ()
TOKEN: tuple[Schema, ...] = ({}, {"token": []})
TOKEN_OR_TICKET: tuple[Schema, ...] = (*TOKEN, {"ticket": []})

CLEAN, DT = "/api/new-sources/crypto-api-clean", "/api/new-sources/crypto-dt-source"
MISSING = {"missing": several(SYMBOL, "Symbols that no source knows; absent if there are none")}
REASONS = {"reasons": by_name(word((NO_MATCHING_SOURCE,), "Why it is missing"), "Causes of missing prices, if known")}
TOTAL = {"total": whole("Total number of entries", minimum=0)}

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "/api/market/price",
        MARKET,
        "Last prices; all of them without `symbols`",
        (names(MAX_NAMES), STRICT, MAX_AGE),
        PRICES,
        (*GUARDED, *ASKS, 404, 409),
        sometimes=MISSING | REASONS,
        notes="Prices come from the stream if it has them, else from other sources.",
    ),
    Endpoint(
        "/api/market/ohlc",
        MARKET,
        "Candles, ascending",
        (
            SYMBOL_NEEDED,
            chosen("interval", INTERVALS, "1h", INTERVAL_OF),
            limit(MAX_CANDLES, DEFAULT_CANDLES, "candles"),
            bounded("start", "Earliest open time, Unix ms", 0, MAX_TIME_MS),
            bounded("end", "Latest open time, Unix ms", 0, MAX_TIME_MS),
            MAX_AGE,
        ),
        CANDLES,
        (*GUARDED, *ASKS, 404),
        notes="With `start` the first candles since then, else the last ones. Series that are not kept are fetched.",
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
        "The coins that are searched for most, most searched first",
        (limit(50, 50, "coins"), MAX_AGE),
        several(ref("Trending")),
        (*GUARDED, *ASKS),
    ),
    Endpoint(
        "/api/news",
        TEXTS,
        "Articles, newest first; with `hot` the hottest first",
        (
            chosen("filter", FILTERS, FILTERS[0], "`important` leaves out articles without impact"),
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
        "Fear & Greed today and on the last days",
        (limit(MAX_DAYS, HISTORY_DAYS, "days"), MAX_AGE),
        INDEX,
        (*GUARDED, *ASKS),
    ),
    Endpoint(
        "/api/sentiment/analyze",
        TEXTS,
        "Sentiment scores of your texts, in their order",
        (MAX_AGE,),
        several(SCORED),
        (*GUARDED, *ASKS, *BODY),
        method="post",
        body={
            "schema": {
                "anyOf": [
                    record(
                        {"texts": several(A_TEXT, "Texts to score", minItems=1, maxItems=MAX_TEXTS), "model": MODEL},
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
            query("batch", word((*YES, *NO), "With 1, messages arrive in JSON arrays, one per write")),
            TICKET,
        ),
        statuses=(400, *GUARDED, 426, 503),
        content={},
        good="101",
        refused={400: ("bad_request",)},
        tagged=False,
        notes="`/asyncapi.json` describes the messages. Wrong parameters are reported over the WebSocket.",
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
        notes="`/asyncapi.json` describes the messages. An EventSource reconnects and resumes by itself. A client that "
        "sends `Accept: text/event-stream` never gets 429, 500 or 503, which would end an EventSource; it gets a "
        "`goodbye` with the time to reconnect.",
        security=TOKEN_OR_TICKET,
    ),
    Endpoint(
        "/api/ticket",
        STREAMS,
        "Exchange a token for a ticket that opens one stream",
        (),
        record({"ticket": text("For `?ticket=` of `/ws` or `/sse`, once"), "expires_in_s": whole("Lifetime, seconds")}),
        (*GUARDED, *BODY),
        method="post",
    ),
    Endpoint(
        "/api/topics",
        STREAMS,
        "Topics you can subscribe to, and those that have a value",
        (MAX_AGE,),
        record(
            {
                "templates": several(text("Template such as `price.<SYM>`"), "Templates of all topics"),
                "kinds": by_name(word(("state", "log", "mixed"), "Kind of a topic"), "Kind of each template"),
                "patterns": several(text("A pattern"), "Patterns to try"),
                "symbols": several(SYMBOL, "Possible values of `<SYM>`"),
                "intervals": several(word(INTERVALS, "An interval"), "Possible values of `<interval>`"),
                "chains": several(GAS_FIELDS["chain"], "Possible values of `<chain>`"),
                "topics": several(
                    record(
                        {
                            "topic": text("Name of the topic", examples=["price.BTC"]),
                            "kind": word(
                                ("state", "log", "mixed"),
                                "`state` if only the newest value matters, `log` if every event counts",
                            ),
                            "id": ID,
                            "source": SOURCE,
                            "ts": STAMPS["ts"],
                            "received": STAMPS["received"],
                            "age_ms": whole("Age of its value, ms", minimum=0),
                            "ttl_s": maybe(number("Seconds without an update until it is stale; null for never")),
                            "stale": flag("Whether it is stale"),
                            "reason": STALE_REASON,
                            "events": whole("Number of events since the start"),
                            "held_log_events": whole("Number of events held for resuming"),
                        }
                    ),
                    "Topics that have a value",
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
            selectors("; all topics if absent"),
            MAX_AGE,
        ),
        several(ref("Update")),
        (*GUARDED, 400, 503),
        extra={
            "stale_topics": several(text("A topic"), "Topics that are stale"),
            "ttl_s": by_name(maybe(number("Seconds; null for forever")), "Lifetime of the value of each topic"),
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
        "Size of its catalogue",
        (MAX_AGE,),
        record(
            {
                "total_resources": whole("Number of entries"),
                "total_categories": whole("Number of categories"),
                "categories": COUNTS,
            }
        ),
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
        several(record({"name": text("Name of the category"), "count": whole("Number of entries")})),
        (*GUARDED, *ASKS),
    ),
    Endpoint(
        f"{DT}/health", SOURCES, "Whether Crypto DT Source answers", (MAX_AGE,), record(DT_HEALTH), (*GUARDED, *ASKS)
    ),
    Endpoint(
        f"{DT}/status",
        SOURCES,
        "Its own report of its state",
        (MAX_AGE,),
        record({"status": text("State in its own words"), "models": LOADED, "datasets": LOADED}),
        (*GUARDED, *ASKS),
    ),
    Endpoint(
        f"{DT}/prices",
        SOURCES,
        "Its prices; those of the largest coins without `symbols`",
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
        "Its Fear & Greed index",
        (limit(365, 30, "days"), MAX_AGE),
        INDEX,
        (*GUARDED, *ASKS),
    ),
    Endpoint(
        f"{DT}/sentiment",
        SOURCES,
        "Score of a text by one of its models",
        (
            query(
                "text",
                text("Text to score", pattern=SOMETHING, maxLength=MAX_TEXT_CHARS),
                needed=True,
                example="Bitcoin climbs to a new high",
            ),
            chosen("model", crypto_dt_source.MODELS, crypto_dt_source.MODELS[0], "Model that scores"),
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
                text("Name of the subreddit", pattern="^[A-Za-z0-9_]{2,21}$", default="cryptocurrency"),
                example="cryptocurrency",
            ),
            chosen("period", dt_requests.PERIODS, "day", "The best posts of this period; `new` gives the newest"),
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
            chosen("feed", dt_requests.FEEDS, dt_requests.LATEST, "One outlet, or all of them"),
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
        several(record({**ENTRY, "task": maybe(text("Task of the model")), "loaded": flag("Whether it is in memory")})),
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
        "Prices from all sources that have them, most traded first",
        (names(MAX_NAMES), limit(500, 100, "prices"), MAX_AGE),
        PRICES,
        (*GUARDED, *ASKS, 404),
        sometimes=MISSING | REASONS,
    ),
    Endpoint(
        "/api/new-sources/resources/unified",
        SOURCES,
        "The catalogue; if it is unavailable, the sources of this service",
        (*PAGE, MAX_AGE),
        RESOURCES,
        (*GUARDED, *ASKS, 404),
        extra=TOTAL,
    ),
    Endpoint(
        "/api/new-sources/status",
        SOURCES,
        "State of the two sources, by their own report and by our measurements",
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
        "Query every endpoint of the two sources once, at most once a minute",
        (MAX_AGE,),
        record(
            {
                "ok": whole("Number of endpoints that answered"),
                "failed": whole("Number of endpoints that failed"),
                "endpoints": several(
                    record(
                        {
                            "endpoint": text("Path in this API that queries it"),
                            "outcome": text("`ok`, or the kind of failure"),
                            "reason": maybe(text("Cause of the failure")),
                            "latency_ms": number("Time that it took, ms"),
                            "cached": flag("Whether the answer was already held"),
                        }
                    ),
                    "Result of each endpoint",
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
                "description": "New clients should not connect now",
                "headers": _headers("X-Request-Id", "Retry-After"),
                "content": {"application/json": {"schema": READINESS}},
            }
        },
    ),
    Endpoint(
        "/metrics",
        HEALTH,
        "Metrics for Prometheus, in its text format or as OpenMetrics",
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
        "This documentation, with requests to try",
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
    """Return the whole document."""
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
        "servers": [{"url": ".", "description": "The folder of this document; a proxy may serve it under any path"}],
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
                    "description": "Required only if the operator has set `AUTH_TOKENS` or another `AUTH_…` setting",
                },
                "ticket": {"type": "apiKey", "in": "query", "name": "ticket", "description": "Opens one stream"},
            },
        },
    }

"""The shapes of REST answers and bodies. `/openapi.json` derives its schemas from them."""

from typing import Annotated, Any, Generic, Literal, NotRequired, TypeVar

from pydantic import Field
from typing_extensions import TypedDict

from feeds.annotations import about, one_of, shape
from feeds.identity import NO_MATCHING_SOURCE
from feeds.intervals import INTERVALS
from feeds.providers import crypto_dt_source, huggingface, lexicon
from feeds.shapes import (
    Article,
    Candle,
    ChainName,
    ChainStats,
    Change24h,
    Classification,
    EventId,
    FearGreed,
    Gas,
    GlobalMarket,
    IndexDay,
    IndexValue,
    Price,
    SentimentScore,
    Source,
    Symbol,
)
from stream_server.delivery.shapes import STALE_REASONS, ReceivedAt, TrueAt
from stream_server.delivery.status_shapes import Provider, Readiness
from stream_server.wire.refusals import CODES

T = TypeVar("T")

MODELS = (*huggingface.MODELS, *crypto_dt_source.MODELS, lexicon.NAME)
"""The models that a client may choose."""
MAX_TEXTS = 50
MAX_TEXT_CHARS = 5000
KINDS = ("state", "log", "mixed")
"""The kinds of topics, as `topics.kind_of` names them."""

StaleReason = Annotated[str, one_of(STALE_REASONS, "Cause of staleness; null if not stale")] | None
DateTime = Annotated[str, about("Time of the answer", keywords={"format": "date-time"})]

# --- the envelope ---


class Attempt(TypedDict):
    """A provider that was asked or passed over."""

    provider: Annotated[str, about("Name of the provider", examples=["coingecko"])]
    outcome: Annotated[str, about("`ok`, or the kind of failure", examples=["ok", "rate_limited"])]
    asked: NotRequired[Annotated[Literal[False], about("Always false. Present if the provider was passed over")]]


class Enveloped(TypedDict, Generic[T]):
    """The envelope of every successful answer."""

    success: Literal[True]
    data: T
    source: Annotated[str, about("The providers, separated by commas", examples=["coingecko"])]
    timestamp: DateTime
    latency_ms: Annotated[float, about("Time that the answer took, ms", ge=0)]
    cached: Annotated[bool, about("Whether the answer was already held and no source was asked")]
    age_ms: Annotated[int, about("Age of the oldest value in the answer, ms", ge=0)]
    stale: Annotated[bool, about("Whether any value has outlived its time")]
    attempts: Annotated[list[Attempt], about("The providers that were asked")]
    position: EventId


class EnvelopedCoins(Enveloped[T], Generic[T]):
    """The envelope of an answer about several coins."""

    missing: NotRequired[Annotated[list[Symbol], about("Symbols that no source knows; absent if there are none")]]


class EnvelopedPrices(EnvelopedCoins[T], Generic[T]):
    """The envelope of prices."""

    reasons: NotRequired[
        Annotated[
            dict[str, Annotated[str, one_of((NO_MATCHING_SOURCE,), "Why it is missing")]],
            about("Causes of missing prices, if known"),
        ]
    ]


class EnvelopedPage(Enveloped[T], Generic[T]):
    """The envelope of a part of a list."""

    total: Annotated[int, about("Total number of entries", ge=0)]


class EnvelopedSnapshot(Enveloped[T], Generic[T]):
    """The envelope of the last messages of topics."""

    stale_topics: Annotated[list[Annotated[str, about("A topic")]], about("Topics that are stale")]
    ttl_s: Annotated[
        dict[str, Annotated[float, about("Seconds; null for forever")] | None],
        about("Lifetime of the value of each topic"),
    ]


class ErrorBody(TypedDict):
    """What was wrong with a request, or why there is no answer."""

    code: Annotated[str, one_of(CODES, "Error code: " + "; ".join(f"`{code}` {why}" for code, why in CODES.items()))]
    message: Annotated[str, about("Explanation for people")]
    details: Annotated[dict[str, Any], about("The error of each parameter by its name, and more")]


@shape(
    example={
        "success": False,
        "error": {
            "code": "invalid_interval",
            "message": "interval '7m' is not one of 1m, 3m, …",
            "details": {"interval": "interval '7m' is not one of 1m, 3m, …"},
        },
        "timestamp": "2026-11-22T08:50:05.127Z",
        "request_id": "5f0c2a61d1b7a9e4",
    }
)
class Error(TypedDict):
    """The error of a request."""

    success: Literal[False]
    error: ErrorBody
    timestamp: DateTime
    request_id: Annotated[str, about("As in `X-Request-Id`")]


# --- market ---


@shape()
class PriceRow(Price):
    """A price with its times, source and state."""

    ts: TrueAt
    received: ReceivedAt
    source: Source
    stale: Annotated[bool, about("Whether the value has outlived its time")]
    reason: StaleReason


@shape()
class GlobalMarketNow(GlobalMarket):
    """Totals of the whole market with their time."""

    ts: TrueAt


Candles = Annotated[list[Candle], about("Candles, ascending")]


class Trending(TypedDict):
    """A coin that many people search for now."""

    symbol: Symbol
    id: Annotated[str, about("CoinGecko's id")]
    name: Annotated[str, about("Name of the coin")]
    rank: Annotated[int, about("Rank by market cap")] | None
    price: Annotated[float, about("Price in US dollars")] | None
    change_24h_pct: Change24h | None


# --- news and sentiment ---


@shape()
class SourcedArticle(Article):
    """An article with its source."""

    source: Source


class FearGreedDay(TypedDict):
    """The index of one day."""

    value: IndexValue
    classification: Classification | None
    timestamp: IndexDay


@shape()
class FearGreedHistory(FearGreed):
    """The Fear & Greed index of today and of earlier days."""

    history: Annotated[list[FearGreedDay], about("Daily values, newest first")]


@shape()
class ScoredText(SentimentScore):
    """A text of yours with its score."""

    text: Annotated[str, about("Your text")]
    confidence: Annotated[float, about("Confidence of the model, 0 to 1", ge=0, le=1)] | None


AText = Annotated[str, Field(max_length=MAX_TEXT_CHARS, pattern=r"\S")]
Model = Annotated[str, one_of(MODELS, "The model that scores; null for the best available one")] | None


@shape(title="Several texts")
class SeveralTexts(TypedDict):
    texts: Annotated[list[AText], about("Texts to score", min_length=1, max_length=MAX_TEXTS)]
    model: NotRequired[Model]


@shape(title="One text")
class OneText(TypedDict):
    text: AText
    texts: NotRequired[None]
    model: NotRequired[Model]


# --- chains ---


@shape()
class GasNow(Gas):
    """Fees of a chain with their time."""

    ts: TrueAt


@shape()
class ChainStatsNow(ChainStats):
    """State of a chain with its time."""

    ts: TrueAt


# --- streams and topics ---


class Ticket(TypedDict):
    """A ticket."""

    ticket: Annotated[str, about("For `?ticket=` of `/ws` or `/sse`, once")]
    expires_in_s: Annotated[int, about("Lifetime, seconds")]


class HeldTopic(TypedDict):
    """A topic that has a value."""

    topic: Annotated[str, about("Name of the topic", examples=["price.BTC"])]
    kind: Annotated[str, one_of(KINDS, "`state` if only the newest value matters, `log` if every event counts")]
    id: EventId
    source: Source
    ts: TrueAt
    received: ReceivedAt
    age_ms: Annotated[int, about("Age of its value, ms", ge=0)]
    ttl_s: Annotated[float, about("Seconds without an update until it is stale; null for never")] | None
    stale: Annotated[bool, about("Whether it is stale")]
    reason: StaleReason
    events: Annotated[int, about("Number of events since the start")]
    held_log_events: Annotated[int, about("Number of events held for resuming")]


class TopicList(TypedDict):
    """The topics of this service."""

    templates: Annotated[
        list[Annotated[str, about("Template such as `price.<SYM>`")]], about("Templates of all topics")
    ]
    kinds: Annotated[dict[str, Annotated[str, one_of(KINDS, "Kind of a topic")]], about("Kind of each template")]
    patterns: Annotated[list[Annotated[str, about("A pattern")]], about("Patterns to try")]
    symbols: Annotated[list[Symbol], about("Possible values of `<SYM>`")]
    intervals: Annotated[
        list[Annotated[str, one_of(INTERVALS, "An interval")]], about("Possible values of `<interval>`")
    ]
    chains: Annotated[list[ChainName], about("Possible values of `<chain>`")]
    topics: Annotated[list[HeldTopic], about("Topics that have a value")]


# --- health ---


class Liveness(TypedDict):
    """The process answers."""

    status: Literal["live"]


class ReadinessReport(TypedDict):
    """Whether new clients should connect."""

    status: Annotated[str, one_of(("ready", "starting", "troubled", "draining"), "Readiness in one word")]
    categories: Readiness
    trouble: Annotated[str, about("Why no new clients should connect")] | None


# --- new sources ---

HealthWord = Annotated[str, one_of(("healthy", "stale", "down"), "`stale` if only earlier data can be returned")]
Answers = Annotated[bool, about("Whether it answers")]
WhyNot = Annotated[str, about("Why not")] | None


class CleanServer(TypedDict):
    """The server of Crypto API Clean."""

    answers: Answers
    status: Annotated[str, about("Its own report")] | None
    reason: WhyNot


class CleanHealth(TypedDict):
    """Health of Crypto API Clean."""

    status: HealthWord
    server: CleanServer
    resources: Annotated[int, about("Number of entries held")] | None
    categories: Annotated[int, about("Number of categories held")] | None
    age_ms: Annotated[int, about("Age of the data held, ms")] | None


class CleanReport(CleanHealth):
    """Health of Crypto API Clean, by its own report and by our measurements."""

    provider: Provider


class CatalogueSize(TypedDict):
    """Size of the catalogue."""

    total_resources: Annotated[int, about("Number of entries")]
    total_categories: Annotated[int, about("Number of categories")]
    categories: Annotated[dict[str, Annotated[int, about("Number of entries")]], about("Number of entries by category")]


class Category(TypedDict):
    """A category of the catalogue."""

    name: Annotated[str, about("Name of the category")]
    count: Annotated[int, about("Number of entries")]


class Resource(TypedDict):
    """A source of data."""

    category: Annotated[str, about("Category in the catalogue", examples=["rpc_nodes"])]
    id: Annotated[str, about("Id of the source")]
    name: Annotated[str, about("Name of the source")]
    base_url: Annotated[str, about("Address of its API")] | None
    auth: Annotated[str, about("Kind of authentication", examples=["none"])]
    docs_url: Annotated[str, about("Address of its documentation")] | None
    endpoints: Annotated[Any, about("Endpoints as the catalogue lists them")]
    notes: Annotated[str, about("Remarks")] | None


class DtHealth(TypedDict):
    """Health of Crypto DT Source."""

    status: HealthWord
    answers: Answers
    reason: WhyNot
    service: Annotated[str, about("Its name for itself")] | None
    version: Annotated[str, about("Its version")] | None
    endpoints: Annotated[list[Annotated[str, about("A path")]], about("Its paths")] | None


class DtReport(DtHealth):
    """Health of Crypto DT Source, by its own report and by our measurements."""

    provider: Provider


class Loaded(TypedDict):
    """How many are loaded."""

    configured: Annotated[int, about("Number configured")] | None
    loaded: Annotated[int, about("Number loaded")] | None


class DtStatus(TypedDict):
    """The state of Crypto DT Source by its own report."""

    status: Annotated[str, about("State in its own words")]
    models: Loaded | None
    datasets: Loaded | None


class Dataset(TypedDict):
    """A data set of Crypto DT Source."""

    key: Annotated[str, about("Its name here")]
    id: Annotated[str, about("Its name on Hugging Face")]
    description: Annotated[str, about("Description")] | None
    loaded: Annotated[bool, about("Whether it is in memory")]


class TextModel(Dataset):
    """A text model of Crypto DT Source."""

    task: Annotated[str, about("Task of the model")] | None


class SourcesReport(TypedDict):
    """State of the two sources."""

    crypto_api_clean: CleanReport
    crypto_dt_source: DtReport


class CheckedEndpoint(TypedDict):
    """Result of querying one endpoint."""

    endpoint: Annotated[str, about("Path in this API that queries it")]
    outcome: Annotated[str, about("`ok`, or the kind of failure")]
    reason: Annotated[str, about("Cause of the failure")] | None
    latency_ms: Annotated[float, about("Time that it took, ms")]
    cached: Annotated[bool, about("Whether the answer was already held")]


class CheckResult(TypedDict):
    """Results of querying every endpoint."""

    ok: Annotated[int, about("Number of endpoints that answered")]
    failed: Annotated[int, about("Number of endpoints that failed")]
    endpoints: Annotated[list[CheckedEndpoint], about("Result of each endpoint")]


# --- documents ---


@shape(is_open=True)
class OpenApi(TypedDict):
    """An OpenAPI document."""

    openapi: Annotated[str, about("Version")]
    paths: Annotated[dict[str, Any], about("Paths")]


@shape(is_open=True)
class AsyncApi(TypedDict):
    """An AsyncAPI document."""

    asyncapi: Annotated[str, about("Version")]
    channels: Annotated[dict[str, Any], about("Channels")]

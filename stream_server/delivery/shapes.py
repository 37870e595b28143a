"""The shapes of the messages between this service and the clients of its streams.

`docs/protocol.md` explains them. The docstring of a shape is its summary in `/asyncapi.json`, which derives its schemas
from this module. The values that updates carry are in `feeds/shapes.py`, the status of the service in
`status_shapes.py`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypeAliasType, TypedDict

from feeds import shapes, topics
from feeds.annotations import TimeMs, about, one_of, shape, time_of
from feeds.exchange.market import HALTED
from feeds.identity import NO_MATCHING_SOURCE
from feeds.intervals import INTERVALS
from feeds.shapes import EventId, Source
from stream_server import PROTOCOL, __version__
from stream_server.delivery.fields import MAX_INTERVAL_MS, MAX_REQ_CHARS
from stream_server.delivery.status_shapes import Status
from stream_server.delivery.topic_history import NO_UPDATE
from stream_server.wire.refusals import CLOSINGS

STALE_REASONS = (NO_UPDATE, HALTED, NO_MATCHING_SOURCE)
"""The causes for which a topic has no value that is true now."""
STREAM_CODES = (
    "bad_json",
    "bad_request",
    "binary_refused",
    "unknown_op",
    "unknown_topic",
    "topic_limit",
    "demand_limit",
    "forbidden",
)
"""The codes that an `error` message can have."""

Topic = Annotated[str, about("Topic in canonical spelling", examples=["price.BTC"])]
Topics = Annotated[list[Topic], about("Topics and patterns in canonical spelling")]
AgeMs = Annotated[int, about("Age of the value, ms", ge=0)]
Req = Annotated[float | str, about("The `req` of your message; absent if it had none")]
TrueAt = Annotated[TimeMs, time_of("Time when the value was true at the source")]
ReceivedAt = Annotated[TimeMs, time_of("Time when the value reached this service")]


EPOCH, HERE = "mwrlj8yi92", "mwrlj8yi92-152"
"""The epoch and the position of the examples."""

# --- updates ---


def pattern_of(template: str) -> str:
    """Return the regular expression that matches the topics of a template."""
    words = []
    for part in template.split("."):
        # `sentiment.global` has a shape of its own.
        other = r"(?!global$)[^.]+" if template == "sentiment.<SYM>" else r"[^.]+"
        words.append({"<SYM>": other, "<interval>": f"({'|'.join(INTERVALS)})", "<chain>": r"[a-z]+"}.get(part, part))
    joined = r"\.".join(words)
    return f"^{joined}$"


def topic_of(template: str) -> Any:
    """Return the annotation of a topic's name, which is one name or any that fits the template."""
    if "<" in template:
        return about("Name of the topic", keywords={"pattern": pattern_of(template)})
    return about("Name of the topic", keywords={"const": template})


class UpdateOfTopic(TypedDict):
    """What the updates of all topics have in common. Their summaries are those of their values."""

    type: Literal["update"]
    id: EventId
    ts: TrueAt
    received: ReceivedAt
    source: Source


class PriceUpdate(UpdateOfTopic):
    topic: Annotated[str, topic_of("price.<SYM>")]
    data: shapes.Price


class CandleUpdate(UpdateOfTopic):
    topic: Annotated[str, topic_of("ohlcv.<SYM>.<interval>")]
    data: shapes.Candle


class MarketUpdate(UpdateOfTopic):
    topic: Annotated[str, topic_of(topics.MARKET)]
    data: shapes.Market


class GlobalMarketUpdate(UpdateOfTopic):
    topic: Annotated[str, topic_of(topics.MARKET_GLOBAL)]
    data: shapes.GlobalMarket


class ArticleUpdate(UpdateOfTopic):
    topic: Annotated[str, topic_of(topics.NEWS)]
    data: shapes.Article


class FearGreedUpdate(UpdateOfTopic):
    topic: Annotated[str, topic_of(topics.SENTIMENT_GLOBAL)]
    data: shapes.FearGreed


class CoinSentimentUpdate(UpdateOfTopic):
    topic: Annotated[str, topic_of("sentiment.<SYM>")]
    data: shapes.CoinSentiment


class GasUpdate(UpdateOfTopic):
    topic: Annotated[str, topic_of("gas.<chain>")]
    data: shapes.Gas


class ChainStatsUpdate(UpdateOfTopic):
    topic: Annotated[str, topic_of("chain.<chain>")]
    data: shapes.ChainStats


class StatusUpdate(UpdateOfTopic):
    topic: Annotated[str, topic_of(topics.STATUS)]
    data: Status


UPDATES: Mapping[str, type] = {
    "price.<SYM>": PriceUpdate,
    "ohlcv.<SYM>.<interval>": CandleUpdate,
    topics.MARKET: MarketUpdate,
    topics.MARKET_GLOBAL: GlobalMarketUpdate,
    topics.NEWS: ArticleUpdate,
    topics.SENTIMENT_GLOBAL: FearGreedUpdate,
    "sentiment.<SYM>": CoinSentimentUpdate,
    "gas.<chain>": GasUpdate,
    "chain.<chain>": ChainStatsUpdate,
    topics.STATUS: StatusUpdate,
}
"""The update of each topic, by the topic's template."""
Update = TypeAliasType(
    "Update",
    Annotated[
        PriceUpdate
        | CandleUpdate
        | MarketUpdate
        | GlobalMarketUpdate
        | ArticleUpdate
        | FearGreedUpdate
        | CoinSentimentUpdate
        | GasUpdate
        | ChainStatsUpdate
        | StatusUpdate,
        about("The last message of a topic, as the streams carry it."),
    ],
)


# --- from the server, over both transports ---


@shape(
    example={
        "type": "hello",
        "protocol": PROTOCOL,
        "server": f"stream-server/{__version__}",
        "epoch": EPOCH,
        "heartbeat_s": 20.0,
        "now": 1795337404500,
    }
)
class Hello(TypedDict):
    """The first message of a connection."""

    type: Literal["hello"]
    protocol: Annotated[int, about("Version of the protocol", keywords={"const": PROTOCOL})]
    server: Annotated[str, about("Name and version of the server")]
    epoch: Annotated[str, about("Epoch of this run; ids of another epoch cannot be resumed")]
    heartbeat_s: Annotated[float, about("Seconds between pings of a WebSocket")]
    now: Annotated[TimeMs, time_of("The server's clock, to compute ages with")]


_SubscribedRange = TypedDict(
    "_SubscribedRange", {"from": Annotated[str, about("The position that the client sent")] | None, "to": EventId}
)


@shape(
    example={
        "type": "subscribed",
        "topics": ["price.BTC", "ohlcv.BTC.1m"],
        "resumed": True,
        "reason": None,
        "from": f"{EPOCH}-120",
        "to": HERE,
        "count": 2,
        "req": 7,
    }
)
class Subscribed(_SubscribedRange):
    """Answers a subscription. `count` values follow, then `synced`."""

    type: Literal["subscribed"]
    topics: Topics
    resumed: Annotated[bool, about("Whether nothing is missing since `from`; if not, a full snapshot follows")]
    reason: (
        Annotated[str, one_of(("no_cursor", "bad_cursor", "epoch", "evicted"), "Why the stream was not resumed")] | None
    )
    count: Annotated[int, about("Number of values that follow", ge=0)]
    req: NotRequired[Req]


@shape(example={"type": "synced", "id": HERE, "req": 7})
class Synced(TypedDict):
    """The snapshot or replay is complete; everything after it is live."""

    type: Literal["synced"]
    id: EventId
    req: NotRequired[Req]


@shape(example={"type": "stale", "topic": "price.BTC", "age_ms": 60250, "reason": "no_update"})
class Stale(TypedDict):
    """A topic has no value that is true now.

    `halted`: the exchange does not trade its pair. `no_matching_source`: the exchange gives no price, and no other
    source is known to have the same coin.
    """

    type: Literal["stale"]
    topic: Topic
    age_ms: AgeMs | None
    reason: Annotated[str, one_of(STALE_REASONS, "Cause")]


@shape(example={"type": "fresh", "topic": "price.BTC", "age_ms": 180, "reason": "update"})
class Fresh(TypedDict):
    """A stale topic has recovered."""

    type: Literal["fresh"]
    topic: Topic
    age_ms: AgeMs
    reason: Annotated[str, about("Cause in one word")]


_GapRange = TypedDict(
    "_GapRange",
    {
        "from": Annotated[str | int, about("After this id, or from this open time")],
        "to": Annotated[str | int, about("Up to this id, or before this open time")],
    },
)


@shape(
    example={"type": "gap", "topic": "ohlcv.BTC.1m", "reason": "evicted", "from": f"{EPOCH}-12", "to": f"{EPOCH}-9120"}
)
class Gap(_GapRange):
    """Events are missing that the server cannot supply.

    `from` and `to` are ids, or Unix ms with reason `upstream`.
    """

    type: Literal["gap"]
    topic: Topic
    id: NotRequired[Annotated[EventId, about("Its place among the events, only with reason `upstream`")]]
    reason: Annotated[str, one_of(("epoch", "evicted", "upstream"), "Why the events are missing")]


@shape(example={"type": "conflated", "skipped": {"price.BTC": 14, "price.ETH": 12}})
class Conflated(TypedDict):
    """This client was slow, and values of state topics were merged."""

    type: Literal["conflated"]
    skipped: Annotated[dict[str, Annotated[int, Field(ge=1)]], about("Number of merged values by topic")]


@shape(example={"type": "pos", "id": f"{EPOCH}-4711"})
class Position(TypedDict):
    """Sent after 30 s of silence, so that your position does not fall behind."""

    type: Literal["pos"]
    id: EventId


@shape(
    example={
        "type": "error",
        "code": "unknown_topic",
        "message": "topic 'price.NOPE': no market for symbol 'NOPE'",
        "topics": ["price.NOPE"],
        "req": 7,
    }
)
class Error(TypedDict):
    """A request was refused; the connection stays open."""

    type: Literal["error"]
    code: Annotated[str, one_of(STREAM_CODES, "Error code")]
    message: Annotated[str, about("Explanation for people")]
    topics: NotRequired[
        Annotated[list[Annotated[str, about("Topic as you spelled it")]], about("Topics that caused the error")]
    ]
    req: NotRequired[Req]


@shape(
    example={
        "type": "goodbye",
        "code": 4001,
        "reason": "the server is shutting down",
        "reconnect": True,
        "after_ms": 1375,
    }
)
class Goodbye(TypedDict):
    """Sent before the server closes the connection."""

    type: Literal["goodbye"]
    code: Annotated[
        int, about("The close code that follows", keywords={"enum": [closing.code for closing in CLOSINGS]})
    ]
    reason: Annotated[str, about("Explanation for people")]
    reconnect: Annotated[bool, about("Whether to reconnect, with your position")]
    after_ms: Annotated[int, about("Time to wait before that, ms", ge=0)]


# --- from the server, in answer to commands ---


@shape(example={"type": "unsubscribed", "topics": ["price.*"], "req": 8})
class Unsubscribed(TypedDict):
    """Answers `unsubscribe`."""

    type: Literal["unsubscribed"]
    topics: Annotated[list[Topic], about("Topics that are no longer subscribed")]
    req: NotRequired[Req]


@shape(example={"type": "snapshot", "id": HERE, "topics": ["price.BTC"], "events": [], "stale": [], "req": 9})
class Snapshot(TypedDict):
    """Answers `snapshot`. A long answer comes in several messages; all but the last have `more`."""

    type: Literal["snapshot"]
    id: EventId
    topics: Topics
    events: Annotated[list[Update], about("The last message of each topic")]
    stale: Annotated[list[Topic], about("Topics that are stale")]
    more: NotRequired[Annotated[bool, about("Whether another message with further topics follows")]]
    req: NotRequired[Req]


@shape(example={"type": "pong", "ts": 1795337404500, "req": 10})
class Pong(TypedDict):
    """Answers `ping`."""

    type: Literal["pong"]
    ts: Annotated[TimeMs, time_of("The server's clock")]
    req: NotRequired[Req]


# --- from WebSocket clients ---

Wanted = Annotated[
    list[Annotated[str, about("`price.btc-usdt` means `price.BTC`")]], about("Topics and patterns", min_length=1)
]
YourReq = Annotated[
    float | Annotated[str, Field(max_length=MAX_REQ_CHARS)] | None, about("A number or text that every answer repeats")
]
IntervalMs = Annotated[
    int,
    about(
        "At most one value per topic in this time, in milliseconds; the newest wins, log events are never held back",
        ge=0,
        le=MAX_INTERVAL_MS,
        keywords={"default": 0},
    ),
]
Since = Annotated[str, about("Your position: the last id you received; `earliest` replays everything that is held")]


@shape(example={"op": "subscribe", "topics": ["price.*"], "since": HERE, "interval_ms": 0, "req": 7})
class Subscribe(TypedDict):
    """Subscribe. An `error` names invalid topics; the others are subscribed."""

    op: Literal["subscribe"]
    topics: Wanted
    since: NotRequired[Since | None]
    interval_ms: NotRequired[IntervalMs | None]
    batch: NotRequired[
        Annotated[bool, about("Whether to send messages in JSON arrays from now on, one per write")] | None
    ]
    req: NotRequired[YourReq]


@shape(example={"op": "unsubscribe", "topics": ["price.*"], "req": 8})
class Unsubscribe(TypedDict):
    """Unsubscribe."""

    op: Literal["unsubscribe"]
    topics: Wanted
    req: NotRequired[YourReq]


@shape(example={"op": "snapshot", "topics": ["price.BTC"], "req": 9})
class AskSnapshot(TypedDict):
    """Ask for the last values without a subscription."""

    op: Literal["snapshot"]
    topics: Wanted
    req: NotRequired[YourReq]


@shape(example={"op": "ping", "req": 10})
class Ping(TypedDict):
    """Ask for a `pong`."""

    op: Literal["ping"]
    req: NotRequired[YourReq]

"""Build `/asyncapi.json`: every message that `/ws` and `/sse` send and accept. `docs/protocol.md` explains them.

Source: AsyncAPI 3.0, with its bindings for WebSockets and HTTP.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from stream_server import PROTOCOL, __version__
from stream_server.access.parameters import NO, YES
from stream_server.delivery.fields import MAX_INTERVAL_MS
from stream_server.delivery.selectors import MAX_PATTERNS, MAX_TOPICS
from stream_server.delivery.session import MAX_MESSAGE_BYTES, OPS_BURST, OPS_PER_S
from stream_server.specs.schemas import (
    DATA_OF,
    ID,
    SCHEMAS,
    STALE_REASONS,
    VALUES,
    Schema,
    always,
    flag,
    maybe,
    number,
    record,
    ref,
    several,
    text,
    time_ms,
    whole,
    word,
)
from stream_server.wire.refusals import CLOSINGS

DESCRIPTION = f"""\
The same JSON is sent as a WebSocket text frame and as the `data:` of a Server-Sent Event.

A connection begins with `hello`. Each subscription is answered by `subscribed`, the values that the client lacks, and \
`synced`; everything after it is live. Keep the last `id`. Sent as `since` or `Last-Event-ID` it resumes the stream \
without a missing event, or with a `gap` that names the missing ones.

A WebSocket client may send {OPS_PER_S:g} messages a second, {OPS_BURST:g} at once, each of up to \
{MAX_MESSAGE_BYTES // 1024} KiB, and have {MAX_TOPICS} topics and {MAX_PATTERNS} patterns. In a pattern `*` matches \
one word and a trailing `>` matches the rest: `price.*`, `ohlcv.BTC.>`.

Fields and messages may be added at any time, so ignore those you don't know.
"""

STREAM_CODES = (
    *(
        "bad_json",
        "bad_request",
        "binary_refused",
        "unknown_op",
        "unknown_topic",
        "topic_limit",
        "demand_limit",
        "forbidden",
    ),
)
"""The codes that an `error` message can have."""

TOPIC = text("Topic in canonical spelling", examples=["price.BTC"])
TOPICS = several(TOPIC, "Topics and patterns in canonical spelling")
WANTED = several(text("`price.btc-usdt` means `price.BTC`"), "Topics and patterns", minItems=1)
AGE = whole("Age of the value, ms", minimum=0)
REQ: Schema = {"type": ["number", "string"], "description": "The `req` of your message; absent if it had none"}
YOUR_REQ: Schema = {
    "type": ["number", "string", "null"],
    "maxLength": 64,
    "description": "A number or text that every answer repeats",
}
SINCE = maybe(text("Your position: the last id you received; `earliest` replays everything that is held"))
INTERVAL = whole(
    "At most one value per topic in this time, in milliseconds; the newest wins, log events are never held back",
    minimum=0,
    maximum=MAX_INTERVAL_MS,
    default=0,
)

EPOCH, HERE = "mwrlj8yi92", "mwrlj8yi92-152"


def said(summary: str, example: dict[str, object], fields: dict[str, Schema], optional: Iterable[str] = ()) -> Schema:
    """Return a control message. On SSE it is an event of this name."""
    kind = example["type"]
    payload = record({"type": always(kind), **fields}, optional)
    return _message(kind, str(kind), summary, payload, [example]) | {"x-sse-event": kind}


def asked(summary: str, example: dict[str, object], fields: dict[str, Schema], optional: Iterable[str] = ()) -> Schema:
    """Return a message of a WebSocket client."""
    op = example["op"]
    return _message(op, str(op), summary, record({"op": always(op), **fields}, optional), [example])


def brought(template: str, topic: str, source: str) -> Schema:
    """Return the update of a topic. On SSE it is a `message` event."""
    data = DATA_OF[template]
    times = {"ts": 1795337404000, "received": 1795337404383}
    head = {"type": "update", "topic": topic, "id": HERE, **times, "source": source}
    examples = [head | {"data": example} for example in VALUES[data].get("examples", [])]
    summary = VALUES[data]["description"]
    return _message("update", template, summary, ref(f"{data}Update"), examples) | {"x-sse-event": "message"}


def _message(name: object, title: str, summary: str, payload: Schema, examples: list[dict[str, object]]) -> Schema:
    message = {"name": name, "title": title, "summary": summary, "contentType": "application/json", "payload": payload}
    return message | ({"examples": [{"payload": example} for example in examples]} if examples else {})


UPDATES = {
    f"{DATA_OF[template]}Update": brought(template, topic, source)
    for template, topic, source in (
        ("price.<SYM>", "price.BTC", "binance"),
        ("ohlcv.<SYM>.<interval>", "ohlcv.BTC.1m", "binance"),
        ("market", "market", "coingecko"),
        ("market.global", "market.global", "coingecko"),
        ("news", "news", "rss:coindesk"),
        ("sentiment.global", "sentiment.global", "alternative_me"),
        ("sentiment.<SYM>", "sentiment.BTC", "stream_server"),
        ("gas.<chain>", "gas.ethereum", "ethereum_rpc"),
        ("chain.<chain>", "chain.ethereum", "etherscan"),
        ("status", "status", "stream_server"),
    )
}

CONTROL = {
    "hello": said(
        "The first message of a connection.",
        {
            "type": "hello",
            "protocol": PROTOCOL,
            "server": f"stream-server/{__version__}",
            "epoch": EPOCH,
            "heartbeat_s": 20.0,
            "now": 1795337404500,
        },
        {
            "protocol": always(PROTOCOL, "Version of the protocol"),
            "server": text("Name and version of the server"),
            "epoch": text("Epoch of this run; ids of another epoch cannot be resumed"),
            "heartbeat_s": number("Seconds between pings of a WebSocket"),
            "now": time_ms("The server's clock, to compute ages with"),
        },
    ),
    "subscribed": said(
        "Answers a subscription. `count` values follow, then `synced`.",
        {
            "type": "subscribed",
            "topics": ["price.BTC", "ohlcv.BTC.1m"],
            "resumed": True,
            "reason": None,
            "from": f"{EPOCH}-120",
            "to": HERE,
            "count": 2,
            "req": 7,
        },
        {
            "topics": TOPICS,
            "resumed": flag("Whether nothing is missing since `from`; if not, a full snapshot follows"),
            "reason": maybe(word(("no_cursor", "bad_cursor", "epoch", "evicted"), "Why the stream was not resumed")),
            "from": maybe(text("The position that the client sent")),
            "to": ID,
            "count": whole("Number of values that follow", minimum=0),
            "req": REQ,
        },
        optional=["req"],
    ),
    "synced": said(
        "The snapshot or replay is complete; everything after it is live.",
        {"type": "synced", "id": HERE, "req": 7},
        {"id": ID, "req": REQ},
        optional=["req"],
    ),
    "stale": said(
        "A topic has no value that is true now. `halted`: the exchange does not trade its pair. `no_matching_source`: "
        "the exchange gives no price, and no other source is known to have the same coin.",
        {"type": "stale", "topic": "price.BTC", "age_ms": 60250, "reason": "no_update"},
        {"topic": TOPIC, "age_ms": maybe(AGE), "reason": word(STALE_REASONS, "Cause")},
    ),
    "fresh": said(
        "A stale topic has recovered.",
        {"type": "fresh", "topic": "price.BTC", "age_ms": 180, "reason": "update"},
        {"topic": TOPIC, "age_ms": AGE, "reason": text("Cause in one word")},
    ),
    "gap": said(
        "Events are missing that the server cannot supply. `from` and `to` are ids, or Unix ms with reason `upstream`.",
        {"type": "gap", "topic": "ohlcv.BTC.1m", "reason": "evicted", "from": f"{EPOCH}-12", "to": f"{EPOCH}-9120"},
        {
            "topic": TOPIC,
            "id": ID | {"description": "Its place among the events, only with reason `upstream`"},
            "reason": word(("epoch", "evicted", "upstream"), "Why the events are missing"),
            "from": {"type": ["string", "integer"], "description": "After this id, or from this open time"},
            "to": {"type": ["string", "integer"], "description": "Up to this id, or before this open time"},
        },
        optional=["id"],
    ),
    "conflated": said(
        "This client was slow, and values of state topics were merged.",
        {"type": "conflated", "skipped": {"price.BTC": 14, "price.ETH": 12}},
        {
            "skipped": {
                "type": "object",
                "additionalProperties": {"type": "integer", "minimum": 1},
                "description": "Number of merged values by topic",
            }
        },
    ),
    "pos": said(
        "Sent after 30 s of silence, so that your position does not fall behind.",
        {"type": "pos", "id": f"{EPOCH}-4711"},
        {"id": ID},
    ),
    "error": said(
        "A request was refused; the connection stays open.",
        {
            "type": "error",
            "code": "unknown_topic",
            "message": "topic 'price.NOPE': no market for symbol 'NOPE'",
            "topics": ["price.NOPE"],
            "req": 7,
        },
        {
            "code": word(STREAM_CODES, "Error code"),
            "message": text("Explanation for people"),
            "topics": several(text("Topic as you spelled it"), "Topics that caused the error"),
            "req": REQ,
        },
        optional=["topics", "req"],
    ),
    "goodbye": said(
        "Sent before the server closes the connection.",
        {
            "type": "goodbye",
            "code": 4001,
            "reason": "the server is shutting down",
            "reconnect": True,
            "after_ms": 1375,
        },
        {
            "code": {
                "type": "integer",
                "enum": [closing.code for closing in CLOSINGS],
                "description": "The close code that follows",
            },
            "reason": text("Explanation for people"),
            "reconnect": flag("Whether to reconnect, with your position"),
            "after_ms": whole("Time to wait before that, ms", minimum=0),
        },
    ),
}

ANSWERS = {
    "unsubscribed": said(
        "Answers `unsubscribe`.",
        {"type": "unsubscribed", "topics": ["price.*"], "req": 8},
        {"topics": several(TOPIC, "Topics that are no longer subscribed"), "req": REQ},
        optional=["req"],
    ),
    "snapshot": said(
        "Answers `snapshot`. A long answer comes in several messages; all but the last have `more`.",
        {"type": "snapshot", "id": HERE, "topics": ["price.BTC"], "events": [], "stale": [], "req": 9},
        {
            "id": ID,
            "topics": TOPICS,
            "events": several(ref("Update"), "The last message of each topic"),
            "stale": several(TOPIC, "Topics that are stale"),
            "more": flag("Whether another message with further topics follows"),
            "req": REQ,
        },
        optional=["more", "req"],
    ),
    "pong": said(
        "Answers `ping`.",
        {"type": "pong", "ts": 1795337404500, "req": 10},
        {"ts": time_ms("The server's clock"), "req": REQ},
        optional=["req"],
    ),
}
"""Answers to commands, which only a WebSocket client can send."""

COMMANDS = {
    "op.subscribe": asked(
        "Subscribe. An `error` names invalid topics; the others are subscribed.",
        {"op": "subscribe", "topics": ["price.*"], "since": HERE, "interval_ms": 0, "req": 7},
        {
            "topics": WANTED,
            "since": SINCE,
            "interval_ms": maybe(INTERVAL),
            "batch": maybe(flag("Whether to send messages in JSON arrays from now on, one per write")),
            "req": YOUR_REQ,
        },
        optional=["since", "interval_ms", "batch", "req"],
    ),
    "op.unsubscribe": asked(
        "Unsubscribe.",
        {"op": "unsubscribe", "topics": ["price.*"], "req": 8},
        {"topics": WANTED, "req": YOUR_REQ},
        optional=["req"],
    ),
    "op.snapshot": asked(
        "Ask for the last values without a subscription.",
        {"op": "snapshot", "topics": ["price.BTC"], "req": 9},
        {"topics": WANTED, "req": YOUR_REQ},
        optional=["req"],
    ),
    "op.ping": asked("Ask for a `pong`.", {"op": "ping", "req": 10}, {"req": YOUR_REQ}, optional=["req"]),
}
REPLIES = {
    "op.subscribe": ("subscribed", "error"),
    "op.unsubscribe": ("unsubscribed", "error"),
    "op.snapshot": ("snapshot", "error"),
    "op.ping": ("pong", "error"),
}

TOPICS_QUERY = text(
    "Topics and patterns, separated by commas; the parameter may be repeated", examples=["price.BTC,news"]
)
SINCE_QUERY = text("Your position: the last id you received")
LAST_EVENT_ID_QUERY = text("Your position; wins over `since`. A `Last-Event-ID` header that isn't empty wins over both")
TICKET_QUERY = text("A ticket from `POST /api/ticket`, for clients that need a token and cannot set headers")
WEBSOCKET_QUERY = record(
    {
        "topics": TOPICS_QUERY,
        "since": SINCE_QUERY,
        "last_event_id": LAST_EVENT_ID_QUERY,
        "interval_ms": INTERVAL,
        "batch": word((*YES, *NO), "With 1, messages arrive in JSON arrays"),
        "ticket": TICKET_QUERY,
    },
    optional=["topics", "since", "last_event_id", "interval_ms", "batch", "ticket"],
)
SSE_QUERY = record(
    {
        "topics": TOPICS_QUERY,
        "interval_ms": INTERVAL,
        "since": SINCE_QUERY,
        "last_event_id": LAST_EVENT_ID_QUERY,
        "ticket": TICKET_QUERY,
    },
    optional=["interval_ms", "since", "last_event_id", "ticket"],
)


def document() -> dict[str, Any]:
    """Return the whole document."""
    to_sse = [*UPDATES, *CONTROL]
    to_websocket = [*to_sse, *ANSWERS]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "stream-server: streams",
            "version": __version__,
            "description": DESCRIPTION,
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "websocket": _server("ws", "WebSocket; `wss` behind a proxy with TLS"),
            "sse": _server("http", "Server-Sent Events; `https` behind a proxy with TLS"),
        },
        "channels": {
            "websocket": {
                "address": "/ws",
                "title": "WebSocket",
                "description": "Text frames of JSON, one message each, or arrays of them with `batch`.",
                "servers": [{"$ref": "#/servers/websocket"}],
                "messages": _refs("components", [*to_websocket, *COMMANDS]),
                "bindings": {"ws": {"method": "GET", "query": WEBSOCKET_QUERY, "bindingVersion": "0.1.0"}},
                "x-close-codes": [
                    {"code": each.code, "reason": each.reason, "reconnect": each.reconnect} for each in CLOSINGS
                ],
            },
            "sse": {
                "address": "/sse",
                "title": "Server-Sent Events",
                "description": "Updates are `message` events; control messages are events of their own names.",
                "servers": [{"$ref": "#/servers/sse"}],
                "messages": _refs("components", to_sse),
            },
        },
        "operations": {
            "sendOverWebSocket": _sends("websocket", to_websocket, "Send events and answers"),
            **{name.removeprefix("op."): _takes(name) for name in COMMANDS},
            "sendOverSse": _sends("sse", to_sse, "Send events")
            | {"bindings": {"http": {"method": "GET", "query": SSE_QUERY, "bindingVersion": "0.3.0"}}},
        },
        "components": {
            "schemas": SCHEMAS,
            "messages": UPDATES | CONTROL | ANSWERS | COMMANDS,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "Required if an `AUTH_…` setting is set"},
                "ticket": {"type": "httpApiKey", "name": "ticket", "in": "query", "description": "Opens one stream"},
            },
        },
    }


def _server(protocol: str, description: str) -> dict[str, object]:
    return {
        "host": "{host}",
        "pathname": "{path}",
        "protocol": protocol,
        "description": description,
        "variables": {
            "host": {"default": "localhost:7860", "description": "Host of this document"},
            "path": {"default": "/", "description": "Folder of this document, if a proxy serves it under another path"},
        },
    }


def _refs(where: str, names: Iterable[str]) -> Mapping[str, object]:
    return {name: {"$ref": f"#/{where}/messages/{name}"} for name in names}


def _sends(channel: str, names: Iterable[str], title: str) -> dict[str, object]:
    messages = [*_refs(f"channels/{channel}", names).values()]
    return {"action": "send", "title": title, "channel": {"$ref": f"#/channels/{channel}"}, "messages": messages}


def _takes(name: str) -> dict[str, object]:
    channel = {"$ref": "#/channels/websocket"}
    return {
        "action": "receive",
        "title": COMMANDS[name]["summary"],
        "channel": channel,
        "messages": [{"$ref": f"#/channels/websocket/messages/{name}"}],
        "reply": {"channel": channel, "messages": [*_refs("channels/websocket", REPLIES[name]).values()]},
    }

"""`/asyncapi.json`: what `/ws` and `/sse` say and take, message by message. `docs/protocol.md` says it in words.

Source: AsyncAPI 3.0, with its bindings for WebSockets and HTTP.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from stream_server import PROTOCOL, __version__
from stream_server.delivery.selectors import MAX_PATTERNS, MAX_TOPICS
from stream_server.delivery.session import MAX_INTERVAL_MS, MAX_MESSAGE_BYTES, OPS_BURST, OPS_PER_S
from stream_server.rest.parameters import NO, YES
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
The same JSON goes out as a WebSocket text frame and as the `data:` of a Server-Sent Event, encoded once an event.

A connection begins with `hello`. Each subscription is answered by `subscribed`, the values that the client lacks, and \
`synced`; everything after it is live. Keep the last `id`: handed back as `since` or `Last-Event-ID` it resumes the \
stream without a missing event, or with a `gap` that says what is missing.

A WebSocket client may send {OPS_PER_S:g} messages a second, {OPS_BURST:g} at once, each of up to \
{MAX_MESSAGE_BYTES // 1024} KiB, and have {MAX_TOPICS} topics and {MAX_PATTERNS} patterns. In a pattern `*` stands for \
one word and a trailing `>` for the rest: `price.*`, `ohlcv.BTC.>`.

Fields and messages may be added at any time: ignore those you don't know.
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
"""Those error codes that an `error` may carry."""

TOPIC = text("As we spell it", examples=["price.BTC"])
TOPICS = several(TOPIC, "Topics and patterns, as we spell them")
WANTED = several(text("`price.btc-usdt` means `price.BTC`"), "Topics and patterns", minItems=1)
AGE = whole("Age of its value", minimum=0)
REQ: Schema = {"type": ["number", "string"], "description": "That of your message; absent if it had none"}
YOUR_REQ: Schema = {
    "type": ["number", "string", "null"],
    "maxLength": 64,
    "description": "A number or text that comes back in each answer",
}
SINCE = maybe(text("Your position: the last id that you have; `earliest` for all that is held"))
INTERVAL = whole(
    "At most one value a topic in this time, the newest; events of logs are never held back",
    minimum=0,
    maximum=MAX_INTERVAL_MS,
    default=0,
)

EPOCH, HERE = "mwrlj8yi92", "mwrlj8yi92-152"


def said(summary: str, example: dict[str, object], fields: dict[str, Schema], optional: Iterable[str] = ()) -> Schema:
    """A control message. On SSE it is an event of this name."""
    kind = example["type"]
    payload = record({"type": always(kind), **fields}, optional)
    return _message(kind, str(kind), summary, payload, [example]) | {"x-sse-event": kind}


def asked(summary: str, example: dict[str, object], fields: dict[str, Schema], optional: Iterable[str] = ()) -> Schema:
    """A message of a WebSocket client."""
    op = example["op"]
    return _message(op, str(op), summary, record({"op": always(op), **fields}, optional), [example])


def brought(template: str, topic: str, source: str) -> Schema:
    """The update of a topic. On SSE it is a `message` event."""
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
        "Comes first.",
        {
            "type": "hello",
            "protocol": PROTOCOL,
            "server": f"stream-server/{__version__}",
            "epoch": EPOCH,
            "heartbeat_s": 20.0,
            "now": 1795337404500,
        },
        {
            "protocol": always(PROTOCOL, "The version of these messages"),
            "server": text("Name and version"),
            "epoch": text("Of this run: ids of another one cannot be resumed"),
            "heartbeat_s": number("How often a WebSocket is pinged"),
            "now": time_ms("The server's clock, to reckon ages by"),
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
            "reason": maybe(word(("no_cursor", "bad_cursor", "epoch", "evicted"), "Why it was not resumed")),
            "from": maybe(text("The position that was handed over")),
            "to": ID,
            "count": whole("How many values follow", minimum=0),
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
        "the exchange gives no price, and no source that can stand in is known to have the same coin.",
        {"type": "stale", "topic": "price.BTC", "age_ms": 60250, "reason": "no_update"},
        {"topic": TOPIC, "age_ms": maybe(AGE), "reason": word(STALE_REASONS, "Why")},
    ),
    "fresh": said(
        "A stale topic has recovered.",
        {"type": "fresh", "topic": "price.BTC", "age_ms": 180, "reason": "update"},
        {"topic": TOPIC, "age_ms": AGE, "reason": text("Why, in a word")},
    ),
    "gap": said(
        "Events are missing that cannot be supplied. `from` and `to` are ids, or with reason `upstream` Unix ms.",
        {"type": "gap", "topic": "ohlcv.BTC.1m", "reason": "evicted", "from": f"{EPOCH}-12", "to": f"{EPOCH}-9120"},
        {
            "topic": TOPIC,
            "id": ID | {"description": "Its place among the events, with reason `upstream`"},
            "reason": word(("epoch", "evicted", "upstream"), "Who has them no more"),
            "from": {"type": ["string", "integer"], "description": "After this id, or from this open time"},
            "to": {"type": ["string", "integer"], "description": "Up to this id, or before this open time"},
        },
        optional=["id"],
    ),
    "conflated": said(
        "This client was slow, and values of states were merged.",
        {"type": "conflated", "skipped": {"price.BTC": 14, "price.ETH": 12}},
        {
            "skipped": {
                "type": "object",
                "additionalProperties": {"type": "integer", "minimum": 1},
                "description": "How many, by topic",
            }
        },
    ),
    "pos": said(
        "Comes every 30 s of silence, so that your position does not fall behind.",
        {"type": "pos", "id": f"{EPOCH}-4711"},
        {"id": ID},
    ),
    "error": said(
        "A request was refused; the connection goes on.",
        {
            "type": "error",
            "code": "unknown_topic",
            "message": "topic 'price.NOPE': no market for symbol 'NOPE'",
            "topics": ["price.NOPE"],
            "req": 7,
        },
        {
            "code": word(STREAM_CODES, "For programs"),
            "message": text("For people"),
            "topics": several(text("As it was asked for"), "Topics at fault"),
            "req": REQ,
        },
        optional=["topics", "req"],
    ),
    "goodbye": said(
        "Comes before we close.",
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
            "reason": text("For people"),
            "reconnect": flag("Whether to come back, with your position"),
            "after_ms": whole("When", minimum=0),
        },
    ),
}

ANSWERS = {
    "unsubscribed": said(
        "Answers `unsubscribe`.",
        {"type": "unsubscribed", "topics": ["price.*"], "req": 8},
        {"topics": several(TOPIC, "What was subscribed, and is no longer"), "req": REQ},
        optional=["req"],
    ),
    "snapshot": said(
        "Answers `snapshot`.",
        {"type": "snapshot", "id": HERE, "topics": ["price.BTC"], "events": [], "stale": [], "req": 9},
        {
            "id": ID,
            "topics": TOPICS,
            "events": several(ref("Update"), "The last message of each topic"),
            "stale": several(TOPIC, "Those that are old"),
            "req": REQ,
        },
        optional=["req"],
    ),
    "pong": said(
        "Answers `ping`.",
        {"type": "pong", "ts": 1795337404500, "req": 10},
        {"ts": time_ms("The server's clock"), "req": REQ},
        optional=["req"],
    ),
}
"""What only a WebSocket client can ask for."""

COMMANDS = {
    "op.subscribe": asked(
        "Subscribe. Topics that can't be had are named in an `error`; the others are subscribed.",
        {"op": "subscribe", "topics": ["price.*"], "since": HERE, "interval_ms": 0, "req": 7},
        {
            "topics": WANTED,
            "since": SINCE,
            "interval_ms": maybe(INTERVAL),
            "batch": maybe(flag("From now on send JSON arrays of messages, one for each write")),
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
        "Ask for last values without a subscription.",
        {"op": "snapshot", "topics": ["price.BTC"], "req": 9},
        {"topics": WANTED, "req": YOUR_REQ},
        optional=["req"],
    ),
    "op.ping": asked("Ask for a sign of life.", {"op": "ping", "req": 10}, {"req": YOUR_REQ}, optional=["req"]),
}
REPLIES = {
    "op.subscribe": ("subscribed", "error"),
    "op.unsubscribe": ("unsubscribed", "error"),
    "op.snapshot": ("snapshot", "error"),
    "op.ping": ("pong", "error"),
}

TOPICS_QUERY = text(
    "Topics and patterns with commas between them; the parameter may be repeated", examples=["price.BTC,news"]
)
SINCE_QUERY = text("Your position, the last id that you have")
LAST_EVENT_ID_QUERY = text("The same; it wins over `since`, and a header `Last-Event-ID` that is not empty over both")
TICKET_QUERY = text("From `POST /api/ticket`, where tokens are asked for and headers cannot be set")
WEBSOCKET_QUERY = record(
    {
        "topics": TOPICS_QUERY,
        "since": SINCE_QUERY,
        "last_event_id": LAST_EVENT_ID_QUERY,
        "interval_ms": INTERVAL,
        "batch": word((*YES, *NO), "With 1 send JSON arrays of messages"),
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
    """The whole document."""
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
                "description": "Updates are `message` events, control messages events of their names.",
                "servers": [{"$ref": "#/servers/sse"}],
                "messages": _refs("components", to_sse),
            },
        },
        "operations": {
            "sendOverWebSocket": _sends("websocket", to_websocket, "Say what is new"),
            **{name.removeprefix("op."): _takes(name) for name in COMMANDS},
            "sendOverSse": _sends("sse", to_sse, "Say what is new")
            | {"bindings": {"http": {"method": "GET", "query": SSE_QUERY, "bindingVersion": "0.3.0"}}},
        },
        "components": {
            "schemas": SCHEMAS,
            "messages": UPDATES | CONTROL | ANSWERS | COMMANDS,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "Where `AUTH_…` settings ask for one"},
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
            "host": {"default": "localhost:7860", "description": "Where this document came from"},
            "path": {"default": "/", "description": "Its folder, where a proxy serves it under another path"},
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

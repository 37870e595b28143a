"""Build `/asyncapi.json`: every message that `/ws` and `/sse` send and accept. `docs/protocol.md` explains them.

The messages and their schemas come from the shapes in `delivery/shapes.py`.
Source: AsyncAPI 3.0, with its bindings for WebSockets and HTTP.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from feeds import topics
from stream_server import __version__
from stream_server.access.parameter_kinds import Parameter
from stream_server.delivery import shapes
from stream_server.delivery.selectors import MAX_PATTERNS, MAX_TOPICS
from stream_server.delivery.session import MAX_MESSAGE_BYTES, OPS_BURST, OPS_PER_S
from stream_server.rest.table import BY_PATH
from stream_server.specs.derive import COMPONENT, Schema, derive, ref
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

CONTROL = (
    shapes.Hello,
    shapes.Subscribed,
    shapes.Synced,
    shapes.Stale,
    shapes.Fresh,
    shapes.Gap,
    shapes.Conflated,
    shapes.Position,
    shapes.Error,
    shapes.Goodbye,
)
"""Control messages. On SSE each is an event of its own name."""
ANSWERS = (shapes.Unsubscribed, shapes.Snapshot, shapes.Pong)
"""Answers to commands, which only a WebSocket client can send."""
COMMANDS = (shapes.Subscribe, shapes.Unsubscribe, shapes.AskSnapshot, shapes.Ping)
"""The messages of WebSocket clients."""
REPLIES = {
    "op.subscribe": ("subscribed", "error"),
    "op.unsubscribe": ("unsubscribed", "error"),
    "op.snapshot": ("snapshot", "error"),
    "op.ping": ("pong", "error"),
}
"""The messages that may answer each command."""
EXAMPLES = {
    "price.<SYM>": ("price.BTC", "binance"),
    "ohlcv.<SYM>.<interval>": ("ohlcv.BTC.1m", "binance"),
    topics.MARKET: ("market", "coingecko"),
    topics.MARKET_GLOBAL: ("market.global", "coingecko"),
    topics.NEWS: ("news", "rss:coindesk"),
    topics.SENTIMENT_GLOBAL: ("sentiment.global", "alternative_me"),
    "sentiment.<SYM>": ("sentiment.BTC", "stream_server"),
    "gas.<chain>": ("gas.ethereum", "ethereum_rpc"),
    "chain.<chain>": ("chain.ethereum", "etherscan"),
    topics.STATUS: ("status", "stream_server"),
}
"""A topic of each template with its source, for the example of its update."""


def update(template: str, name: str, components: Mapping[str, Schema]) -> Schema:
    """Return the update message of a template. On SSE it is a `message` event."""
    schema = components[name]
    topic, source = EXAMPLES[template]
    times = {"ts": 1795337404000, "received": 1795337404383}
    head = {"type": "update", "topic": topic, "id": shapes.HERE, **times, "source": source}
    value = components[schema["properties"]["data"]["$ref"].removeprefix(COMPONENT)]
    examples = [head | {"data": example} for example in value["examples"]]
    return message("update", template, schema["description"], ref(name), examples) | {"x-sse-event": "message"}


def control(name: str, payload: Schema) -> Schema:
    """Return a control message. Its summary and example come with its shape."""
    summary, examples = payload.pop("description"), payload.pop("examples")
    return message(name, name, summary, payload, examples) | {"x-sse-event": name}


def command(name: str, payload: Schema) -> Schema:
    """Return a message of a WebSocket client. Its summary and example come with its shape."""
    summary, examples = payload.pop("description"), payload.pop("examples")
    return message(name, name, summary, payload, examples)


def message(name: str, title: str, summary: str, payload: Schema, examples: Iterable[object]) -> Schema:
    """Return a message object."""
    return {
        "name": name,
        "title": title,
        "summary": summary,
        "contentType": "application/json",
        "payload": payload,
        "examples": [{"payload": example} for example in examples],
    }


def name_of(payload: Schema) -> str:
    """Return the name of a message, which is its `type` or its `op`."""
    properties = payload["properties"]
    name: str = properties.get("type", properties.get("op"))["const"]
    return name


@dataclass(frozen=True, slots=True)
class Messages:
    """The messages by their names in the document, and the schemas that they refer to."""

    updates: Mapping[str, Schema]
    control: Mapping[str, Schema]
    answers: Mapping[str, Schema]
    commands: Mapping[str, Schema]
    schemas: Mapping[str, Schema]


def derive_messages() -> Messages:
    """Return all messages, made from their shapes."""
    inline = {each.__name__: each for each in (*CONTROL, *ANSWERS, *COMMANDS)}
    updates = {each.__name__: each for each in shapes.UPDATES.values()}
    payloads, components = derive({**inline, **updates}, in_place=inline.keys())

    def named(group: Iterable[type]) -> dict[str, Schema]:
        return {name_of(payloads[each.__name__]): payloads[each.__name__] for each in group}

    return Messages(
        updates={each.__name__: update(name, each.__name__, components) for name, each in shapes.UPDATES.items()},
        control={name: control(name, payload) for name, payload in named(CONTROL).items()},
        answers={name: control(name, payload) for name, payload in named(ANSWERS).items()},
        commands={f"op.{name}": command(name, payload) for name, payload in named(COMMANDS).items()},
        schemas=components,
    )


def query_of(path: str) -> Schema:
    """Return the schema of the query of a stream, from the table of endpoints."""
    parameters = BY_PATH[path].parameters
    return {
        "type": "object",
        "properties": {each.name: _described(each) for each in parameters},
        "required": [each.name for each in parameters if each.needed],
    }


def _described(parameter: Parameter[Any]) -> Schema:
    examples = {} if parameter.example is None else {"examples": [parameter.example]}
    return {"description": parameter.description, **parameter.schema(), **examples}


def document() -> dict[str, Any]:
    """Return the whole document."""
    messages = derive_messages()
    to_sse = [*messages.updates, *messages.control]
    to_websocket = [*to_sse, *messages.answers]
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
                "messages": _refs("components", [*to_websocket, *messages.commands]),
                "bindings": {"ws": {"method": "GET", "query": query_of("/ws"), "bindingVersion": "0.1.0"}},
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
            **{name.removeprefix("op."): _takes(name, each["summary"]) for name, each in messages.commands.items()},
            "sendOverSse": _sends("sse", to_sse, "Send events")
            | {"bindings": {"http": {"method": "GET", "query": query_of("/sse"), "bindingVersion": "0.3.0"}}},
        },
        "components": {
            "schemas": messages.schemas,
            "messages": {**messages.updates, **messages.control, **messages.answers, **messages.commands},
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


def _takes(name: str, title: str) -> dict[str, object]:
    channel = {"$ref": "#/channels/websocket"}
    return {
        "action": "receive",
        "title": title,
        "channel": channel,
        "messages": [{"$ref": f"#/channels/websocket/messages/{name}"}],
        "reply": {"channel": channel, "messages": [*_refs("channels/websocket", REPLIES[name]).values()]},
    }

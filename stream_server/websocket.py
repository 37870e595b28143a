"""The WebSocket shell on aiohttp: upgrade, pump messages into the session, answer pings. All else is session and hub.

Most clients take the lighter way in `light.py`; this one serves what that one hands over, and everything when it is
switched off.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import WSMsgType, web

from stream_server import envelope
from stream_server.clients import REFUSALS_WITH_A_CODE, Clients
from stream_server.context import CONTEXT, Context, origin_allowed
from stream_server.envelope import Wire
from stream_server.outbox import Outbox
from stream_server.refusals import CONNECTION_LIMIT, Refusal
from stream_server.session import MAX_MESSAGE_BYTES, Session, check_interval, split_topics
from stream_server.transport import SocketPipe, raw_transport

BINARY = Refusal("binary_refused", "binary frames are refused; send JSON as text")


@dataclass(frozen=True, slots=True)
class Opening:
    """What the URL of a WebSocket asks for, and what of it makes no sense."""

    topics: list[str]
    since: str | None
    interval_ms: int
    batch: bool
    problem: Refusal | None

    @classmethod
    def read(cls, query: Mapping[str, str]) -> "Opening":
        """From `?topics=…&since=…&interval_ms=…&batch=1`."""
        problem = None
        interval_ms = 0
        text = query.get("interval_ms", "0")
        try:
            interval_ms = check_interval(int(text))
        except ValueError:
            problem = Refusal("bad_request", f"interval_ms must be a whole number, not {text[:80]!r}")
        except Refusal as refusal:
            problem = refusal
        batch = query.get("batch") in ("1", "true")
        return cls(split_topics(query.get("topics", "")), query.get("since"), interval_ms, batch, problem)

    def begin(self, talk: Session) -> None:
        """Greet the client, subscribe what it asked for, and name what made no sense."""
        talk.batch(self.batch)
        talk.open(self.topics, self.since, self.interval_ms)
        if self.problem is not None:
            talk.refuse(self.problem)


def may_enter(context: Context, origin: str | None, host: str) -> bool:
    """Whether a new client is simply welcome; if not, the handler below says why."""
    allowed = origin_allowed(origin, host, context.settings.allowed_origins)
    return allowed and not context.draining and not context.clients.full()


async def websocket(request: web.Request) -> web.StreamResponse:
    """`GET /ws?topics=…&since=…&interval_ms=…&batch=1`"""
    context = request.app[CONTEXT]
    clients = context.clients
    if not origin_allowed(request.headers.get("Origin"), request.host, context.settings.allowed_origins):
        raise web.HTTPForbidden(text="this origin may not connect (ALLOWED_ORIGINS)\n")
    full = clients.full()
    if context.draining or (full and clients.refusing >= REFUSALS_WITH_A_CODE):
        clients.refused += 1
        code, message = (
            ("shutting_down", "the server is shutting down")
            if context.draining
            else ("connection_limit", "the server holds as many connections as it may")
        )
        raise Refusal(code, message, status=503, retry_after_s=5)
    # One more than allowed: aiohttp refuses a message that reaches its limit.
    ws = web.WebSocketResponse(
        autoping=False, heartbeat=None, compress=True, max_msg_size=MAX_MESSAGE_BYTES + 1, timeout=2
    )
    await ws.prepare(request)
    pipe = SocketPipe(raw_transport(request))
    if full:
        await _refuse(ws, pipe, clients)
        return ws
    outbox = Outbox(pipe, Wire.WEBSOCKET)
    client = clients.join(outbox)
    # A smaller window than zlib's would need a compressor of its own; such a client gets plain frames.
    talk = context.new_session(outbox, inflates=ws.compress == zlib.MAX_WBITS)
    try:
        Opening.read(request.query).begin(talk)
        while True:
            received = await ws.receive()
            match received.type:
                case WSMsgType.TEXT:
                    talk.receive(received.data)
                case WSMsgType.BINARY:
                    if talk.admit():
                        talk.refuse(BINARY)
                case WSMsgType.PING:
                    if talk.admit():
                        pipe.write(envelope.websocket_frame(0x8A, received.data))
                case WSMsgType.PONG:
                    clients.answered(client)
                case _:
                    break
    finally:
        clients.leave(client)
    return ws


async def _refuse(ws: web.WebSocketResponse, pipe: SocketPipe, clients: Clients) -> None:
    """Tell a client that there is no room by the close code that it can read."""
    clients.refused += 1
    clients.refusing += 1
    try:
        # It was never in the hub, which says goodbye to its members.
        pipe.write(Wire.WEBSOCKET.payload([envelope.goodbye(CONNECTION_LIMIT, 0)]))
        pipe.close(CONNECTION_LIMIT)
        while (await ws.receive()).type in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG):
            pass
    finally:
        clients.refusing -= 1

"""The WebSocket shell: upgrade, pump messages into the session, answer pings. All else is session and hub."""

from aiohttp import WSMsgType, web

from stream_server import envelope, session
from stream_server.clients import REFUSALS_WITH_A_CODE, Clients
from stream_server.context import CONTEXT, origin_allowed
from stream_server.envelope import Wire
from stream_server.outbox import Outbox
from stream_server.refusals import CONNECTION_LIMIT, Refusal
from stream_server.session import Session, check_interval, split_topics
from stream_server.transport import SocketPipe, raw_transport


async def websocket(request: web.Request) -> web.StreamResponse:
    """`GET /ws?topics=…&since=…&interval_ms=…`"""
    context = request.app[CONTEXT]
    clients = context.clients
    if not origin_allowed(request, context.settings.allowed_origins):
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
    interval_ms, bad_interval = _interval(request)
    # One more than allowed: aiohttp refuses a message that reaches its limit.
    ws = web.WebSocketResponse(
        autoping=False, heartbeat=None, compress=False, max_msg_size=session.MAX_MESSAGE_BYTES + 1, timeout=2
    )
    await ws.prepare(request)
    pipe = SocketPipe(raw_transport(request), Wire.WEBSOCKET)
    if full:
        await _refuse(ws, pipe, clients)
        return ws
    outbox = Outbox(pipe, Wire.WEBSOCKET)
    client = clients.join(outbox)
    talk = Session(context.hub, outbox, context.symbols, context.clock, context.settings.heartbeat_s)
    try:
        talk.open(split_topics(request.query.get("topics", "")), request.query.get("since"), interval_ms)
        if bad_interval is not None:
            talk.refuse(bad_interval)
        while True:
            received = await ws.receive()
            match received.type:
                case WSMsgType.TEXT:
                    talk.receive(received.data)
                case WSMsgType.BINARY:
                    if talk.admit():
                        talk.refuse(Refusal("binary_refused", "binary frames are refused; send JSON as text"))
                case WSMsgType.PING:
                    if talk.admit():
                        pipe.write(envelope.websocket_frame(0x8A, received.data))
                case WSMsgType.PONG:
                    client.pinged_at = None
                case _:
                    break
    finally:
        clients.leave(client)
    return ws


def _interval(request: web.Request) -> tuple[int, Refusal | None]:
    text = request.query.get("interval_ms", "0")
    try:
        return check_interval(int(text)), None
    except ValueError:
        return 0, Refusal("bad_request", f"interval_ms must be a whole number, not {text[:80]!r}")
    except Refusal as refusal:
        return 0, refusal


async def _refuse(ws: web.WebSocketResponse, pipe: SocketPipe, clients: Clients) -> None:
    """Tell a client that there is no room by the close code that it can read."""
    clients.refused += 1
    clients.refusing += 1
    try:
        pipe.close(CONNECTION_LIMIT, after_ms=0)
        while (await ws.receive()).type in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG):
            pass
    finally:
        clients.refusing -= 1

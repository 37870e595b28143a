"""Serve a WebSocket client through aiohttp: check the handshake, pass messages to the session, answer pings.

Most clients are served by `light_websocket`. This module serves those that the front hands over to aiohttp, and all of
them with `LIGHT_CONNECTIONS=0`.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from aiohttp import HttpVersion11, WebSocketError, WSMsgType, web
from websockets.typing import Subprotocol

from stream_server.access.door import WEBSOCKET, Caller
from stream_server.access.parameter_kinds import BATCH, INTERVAL_MS
from stream_server.access.parameters import SHOWN_CHARS, Asked, Parameters
from stream_server.connections.aiohttp_connection import inflow_of
from stream_server.connections.callers import caller_of
from stream_server.connections.transport import SocketPipe, raw_transport
from stream_server.context import CONTEXT
from stream_server.delivery.clients import REFUSALS_WITH_A_CODE, Clients
from stream_server.delivery.outbox import Outbox
from stream_server.delivery.session import MAX_MESSAGE_BYTES, Session
from stream_server.wire import messages
from stream_server.wire.headers import members, words
from stream_server.wire.messages import Wire
from stream_server.wire.refusals import CONNECTION_LIMIT, UNAUTHORISED, Closing, Refusal

UPGRADE = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
SUBPROTOCOLS = (Subprotocol("stream-server.v1"), Subprotocol("json"))
"""Names of our protocol that clients may offer; they need not."""
DEFLATE = "permessage-deflate"
BINARY = Refusal("binary_refused", "binary frames are refused; send JSON as text")


@dataclass(frozen=True, slots=True)
class Opening:
    """What the URL of a WebSocket asks for, and the refusal of what is wrong in it."""

    topics: list[str]
    since: str | None
    interval_ms: int
    batch: bool
    problem: Refusal | None

    @classmethod
    def read(cls, asked: Asked, last_event_id: Iterable[str] = ()) -> "Opening":
        """Read `?topics=…&since=…&interval_ms=…&batch=1` and the `Last-Event-ID` headers, which programs may send."""
        parameters = Parameters(asked)
        topics, interval_ms, batch = parameters.topics(), parameters.read(INTERVAL_MS), parameters.read(BATCH)
        since = parameters.cursor(last_event_id)
        parameters.text("ticket")  # the door has read it; a problem with it is reported here
        problem = None
        try:
            parameters.check()
        except Refusal as refusal:
            problem = Refusal("bad_request", refusal.message)
        return cls(topics, since, interval_ms, batch, problem)

    def begin(self, talk: Session) -> None:
        """Greet the client, subscribe to what it asked for, and report what was wrong."""
        talk.batch(self.batch)
        talk.open(self.topics, self.since, self.interval_ms)
        if self.problem is not None:
            talk.refuse(self.problem)


async def websocket(request: web.Request) -> web.StreamResponse:
    """Answer `GET /ws`."""
    check_handshake(request)
    context = request.app[CONTEXT]
    clients = context.clients
    caller = caller_of(context.door, request, reads_ticket=True)
    closing: Closing | None = None
    try:
        claims = context.door.admit(caller, WEBSOCKET)
    except Refusal as refusal:
        closing = _closing_of(refusal, caller)
        if closing is None or clients.refusing >= REFUSALS_WITH_A_CODE:
            raise
        context.refusals[refusal.code] += 1
    # One byte more than we allow, because aiohttp refuses a message that reaches its limit.
    ws = web.WebSocketResponse(
        protocols=SUBPROTOCOLS,
        autoping=False,
        autoclose=False,
        heartbeat=None,
        compress=True,
        max_msg_size=MAX_MESSAGE_BYTES + 1,
        timeout=2,
    )
    await ws.prepare(_handshake_of(request))
    pipe = SocketPipe(raw_transport(request))
    inflow = inflow_of(request)
    inflow.begin(pipe, None)
    if closing is not None:
        batched = Opening.read(request).batch
        await _refuse(ws, pipe, clients, closing, Wire.WEBSOCKET_BATCH if batched else Wire.WEBSOCKET)
        return ws
    outbox = Outbox(pipe, Wire.WEBSOCKET)
    client = context.new_client(outbox, caller.stream_address, claims)
    # A window smaller than zlib's default would need a compressor for this client alone; it gets plain frames.
    talk = context.new_session(outbox, claims, inflates=ws.compress == zlib.MAX_WBITS)
    inflow.begin(pipe, talk)
    try:
        Opening.read(request, request.headers.getall("Last-Event-ID", [])).begin(talk)
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
                        pipe.write(messages.websocket_frame(0x8A, received.data))
                case WSMsgType.PONG:
                    if not clients.answered(client):
                        talk.admit()
                case WSMsgType.ERROR if isinstance(received.data, WebSocketError):
                    outbox.end_with(received.data.code)
                    break
                case _:
                    break
    finally:
        clients.leave(client)
        pipe.end_answered()
    return ws


def check_handshake(request: web.BaseRequest) -> None:
    """Check a handshake by RFC 6455, section 4.2.1, which is stricter than aiohttp. Raises Refusal."""
    headers = request.headers
    if "upgrade" not in words(headers, "Connection") or "websocket" not in words(headers, "Upgrade"):
        raise Refusal("upgrade_required", "this path speaks WebSocket", 426, headers=UPGRADE)
    versions = headers.getall("Sec-WebSocket-Version", [])
    if versions != ["13"]:
        shown = ", ".join(versions)[:SHOWN_CHARS] or "none"
        raise Refusal("upgrade_required", f"WebSocket version {shown} is not 13", 426, headers=UPGRADE)
    keys = headers.getall("Sec-WebSocket-Key", [])
    problems = {
        "an HTTP version of 1.1 at least": request.version < HttpVersion11,
        "one Sec-WebSocket-Key, in base64": len(keys) != 1 or not keys[0].isascii(),
        "no body": "Transfer-Encoding" in headers or headers.get("Content-Length", "0") != "0",
    }
    for problem, found in problems.items():
        if found:
            raise Refusal("bad_request", f"a WebSocket handshake has {problem}")


def subprotocol_of(offered: Iterable[str]) -> Subprotocol | None:
    """Return the first offered subprotocol that is ours. Browsers close the connection if they offered one in vain."""
    return next((ours for each in offered for ours in SUBPROTOCOLS if each == ours), None)


def _handshake_of(request: web.Request) -> web.Request:
    """Return the handshake with only what we choose of each list. aiohttp reads one line, and splits at every comma."""
    headers = {name: request.headers[name] for name in ("Sec-WebSocket-Version", "Sec-WebSocket-Key")}
    headers["Upgrade"] = "websocket"
    subprotocol = subprotocol_of(members(request.headers, "Sec-WebSocket-Protocol"))
    if subprotocol is not None:
        headers["Sec-WebSocket-Protocol"] = subprotocol
    offers = members(request.headers, "Sec-WebSocket-Extensions")
    deflates = [each.replace('"', "") for each in offers if each.partition(";")[0].rstrip() == DEFLATE]
    if deflates:
        headers["Sec-WebSocket-Extensions"] = ", ".join(deflates)
    return request.clone(headers=headers)


def _closing_of(refusal: Refusal, caller: Caller) -> Closing | None:
    """Return the close code of a refusal for clients that cannot read a status; None if the status must do."""
    if refusal.code == "unauthorised" and caller.origin is not None:
        return UNAUTHORISED
    return CONNECTION_LIMIT if refusal.code == "connection_limit" else None


async def _refuse(ws: web.WebSocketResponse, pipe: SocketPipe, clients: Clients, closing: Closing, wire: Wire) -> None:
    """Accept a WebSocket only to end it with a close code that says why."""
    clients.begin_refusal()
    try:
        # The hub says goodbye only to its members.
        pipe.write(wire.payload([messages.goodbye(closing, 0)]))
        pipe.close(closing)
        while (await ws.receive()).type in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG):
            pass
    finally:
        clients.end_refusal()
        pipe.end_answered()

"""Serve a WebSocket client through aiohttp: check the handshake, pass messages to the session, answer pings.

Most clients are served by `light_websocket`. This module serves those that the front hands over to aiohttp, and all of
them with `LIGHT_CONNECTIONS=0`.
"""

import zlib

from aiohttp import WebSocketError, WSMsgType, web

from stream_server.access.door import WEBSOCKET, Caller
from stream_server.access.tokens import Claims
from stream_server.connections.aiohttp_connection import inflow_of
from stream_server.connections.callers import caller_of
from stream_server.connections.handshake import SUBPROTOCOLS, check_handshake, chosen_handshake
from stream_server.connections.opening import Opening
from stream_server.connections.transport import SocketPipe, raw_transport
from stream_server.context import CONTEXT, Context
from stream_server.delivery.clients import REFUSALS_WITH_A_CODE
from stream_server.delivery.outbox import Outbox
from stream_server.delivery.session import MAX_MESSAGE_BYTES
from stream_server.wire import messages
from stream_server.wire.messages import Wire
from stream_server.wire.refusals import CONNECTION_LIMIT, UNAUTHORISED, Closing, Refusal

BINARY = Refusal("binary_refused", "binary frames are refused; send JSON as text")


async def websocket(request: web.Request) -> web.StreamResponse:
    """Answer `GET /ws`."""
    check_handshake(request)
    context = request.app[CONTEXT]
    caller = caller_of(context.door, request, reads_ticket=True)
    try:
        claims = context.door.admit(caller, WEBSOCKET)
    except Refusal as refusal:
        closing = _closing_of(refusal, caller)
        if closing is None or context.clients.refusing >= REFUSALS_WITH_A_CODE:
            raise
        context.refusals[refusal.code] += 1
        return await _refuse(request, context, closing)
    return await _serve(request, context, caller, claims)


async def _upgrade(request: web.Request) -> tuple[web.WebSocketResponse, SocketPipe]:
    """Accept the handshake. Raises ConnectionResetError if the client has left."""
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
    await ws.prepare(chosen_handshake(request))
    return ws, SocketPipe(raw_transport(request))


async def _serve(request: web.Request, context: Context, caller: Caller, claims: Claims) -> web.StreamResponse:
    """Serve a client from its handshake to its end."""
    ws, pipe = await _upgrade(request)
    outbox = Outbox(pipe, Wire.WEBSOCKET)
    client = context.new_client(outbox, caller.stream_address, claims)
    # A window smaller than zlib's default would need a compressor for this client alone; it gets plain frames.
    session = context.new_session(outbox, claims, inflates=ws.compress == zlib.MAX_WBITS)
    inflow_of(request).begin(pipe, session)
    try:
        Opening.read(request, request.headers.getall("Last-Event-ID", [])).begin(session)
        while True:
            received = await ws.receive()
            match received.type:
                case WSMsgType.TEXT:
                    session.receive(received.data)
                case WSMsgType.BINARY:
                    if session.admit():
                        session.refuse(BINARY)
                case WSMsgType.PING:
                    if session.admit():
                        pipe.write(messages.websocket_frame(0x8A, received.data))
                case WSMsgType.PONG:
                    if not context.clients.answered(client):
                        session.admit()
                case WSMsgType.ERROR if isinstance(received.data, WebSocketError):
                    outbox.end_with(received.data.code)
                    break
                case _:
                    break
    finally:
        context.clients.leave(client)
        pipe.end_answered()
    return ws


async def _refuse(request: web.Request, context: Context, closing: Closing) -> web.StreamResponse:
    """Accept a WebSocket only to end it with a close code that says why."""
    ws, pipe = await _upgrade(request)
    inflow_of(request).begin(pipe, None)
    wire = Wire.WEBSOCKET_BATCH if Opening.read(request).batch else Wire.WEBSOCKET
    context.clients.begin_refusal()
    try:
        # The hub says goodbye only to its members.
        pipe.write(wire.payload([messages.goodbye(closing, 0)]))
        pipe.close(closing)
        while (await ws.receive()).type in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG):
            pass
    finally:
        context.clients.end_refusal()
        pipe.end_answered()
    return ws


def _closing_of(refusal: Refusal, caller: Caller) -> Closing | None:
    """Return the close code of a refusal for clients that cannot read a status; None if the status must do."""
    if refusal.code == "unauthorised" and caller.origin is not None:
        return UNAUTHORISED
    return CONNECTION_LIMIT if refusal.code == "connection_limit" else None

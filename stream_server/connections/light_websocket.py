"""Light connections: WebSocket clients without aiohttp's request, task and parser.

The listening socket's first bytes decide. A well-formed upgrade of `/ws` is answered here, its handshake checked by
the `websockets` package, and served by one small protocol object. Everything else, every odd or refused upgrade
included, is handed to aiohttp with the bytes that were read, as if nothing had happened. Both paths end in the same
session and outbox. `LIGHT_CONNECTIONS=0` leaves all of it to aiohttp.

A connection that takes one of the last descriptors of the process is told 503 and closed before anything is read.
"""

import asyncio
import contextlib
import logging
import zlib
from collections.abc import Callable
from typing import cast

from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.http11 import Request
from websockets.server import ServerProtocol
from yarl import URL

from stream_server.access.addresses import SLACK
from stream_server.access.browsers import SERVER
from stream_server.access.door import Caller, enter, ticket_of
from stream_server.access.tokens import Claims
from stream_server.connections.aiohttp_connection import HEAD_WITHIN_S
from stream_server.connections.descriptors import NO_DESCRIPTOR, getting_scarce, scarce
from stream_server.connections.inflow import Inflow, Turnstile
from stream_server.connections.transport import CLOSE_GRACE_S, SocketPipe
from stream_server.connections.websocket import BINARY, SUBPROTOCOLS, Opening, subprotocol_of
from stream_server.context import Context
from stream_server.delivery.clients import Client
from stream_server.delivery.outbox import HIGH_WATER_BYTES, Outbox
from stream_server.delivery.session import MAX_MESSAGE_BYTES
from stream_server.wire import messages
from stream_server.wire.frames import FrameError, FrameReader, Message, Opcode
from stream_server.wire.messages import Wire
from stream_server.wire.refusals import Refusal

log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 16 * 1024
FIRST_BYTE_WITHIN_S = 75.0
FIRST_BYTE_SOON_S = 5.0
"""The same for a connection that is one too many: descriptors are scarce, or its address has its share."""
SILENT_CUT_A_TURN = 16
ENTER_A_TURN = 16
"""A handshake costs some 300 µs."""
_OURS = (b"GET /ws?", b"GET /ws ")
_EVENTS = (b"GET /sse?", b"GET /sse ")
TURNED_AWAY_WITHIN_S = 0.5
TURNED_AWAY_AT_ONCE = 32
"""So many connections that are one too many may show whether they are an EventSource; others are refused at once."""

Factory = Callable[[str], asyncio.Protocol]


def no_room(safe_headers: dict[str, str], status: str = "503 Service Unavailable") -> bytes:
    """Return the answer to a connection that is closed before it could ask."""
    lines = (
        f"HTTP/1.1 {status}",
        "Retry-After: 30",
        "Connection: close",
        "Content-Length: 0",
        *(f"{name}: {value}" for name, value in (SERVER | safe_headers).items()),
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


class Front(asyncio.Protocol):
    """Looks at a new connection's first bytes and hands it to whom it is for."""

    __slots__ = ("buffer", "context", "limit", "peer", "refusal", "since", "stock", "transport", "turnstile")

    def __init__(self, context: Context, stock: Factory, turnstile: Turnstile) -> None:
        self.context = context
        self.stock = stock
        self.turnstile = turnstile
        self.buffer = b""
        self.transport: asyncio.Transport | None = None
        self.limit: asyncio.TimerHandle | None = None
        self.peer = ""
        self.refusal = b""
        self.since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from it
        connections = self.context.connections
        self.peer = connections.enter(transport.get_extra_info("peername"))
        excess = connections.excess(self.peer)
        if scarce(transport, self.context.descriptors):
            self._refuse(NO_DESCRIPTOR, "503 Service Unavailable")
        elif excess > SLACK:
            self._refuse("connection_limit", "429 Too Many Requests")
        else:
            few_left = getting_scarce(transport, self.context.descriptors)
            if few_left:
                self._cut_the_silent()
            self.since = asyncio.get_running_loop().time()
            self.context.silent[self] = None
            self._within(FIRST_BYTE_SOON_S if few_left or excess else FIRST_BYTE_WITHIN_S)

    def _refuse(self, code: str, status: str) -> None:
        assert self.transport is not None  # noqa: S101 - set when the connection was made
        self.context.clients.refused += 1
        self.context.refusals[code] += 1
        self.refusal = no_room(self.context.safe_headers, status)
        self.context.turned_away += 1
        if self.context.turned_away > TURNED_AWAY_AT_ONCE:
            self._turn_away()
        else:
            self.limit = asyncio.get_running_loop().call_later(TURNED_AWAY_WITHIN_S, self._turn_away)

    def _turn_away(self) -> None:
        """Say that there is no room; but hang up on an EventSource, which comes back unless it is given a status."""
        assert self.transport is not None  # noqa: S101 - set when the connection was made
        if not self.buffer.startswith(_EVENTS):
            self.transport.write(self.refusal)
        self.transport.close()

    def _cut_the_silent(self) -> None:
        """End those that have had their time, by what counts when few descriptors are left; the oldest come first."""
        late = asyncio.get_running_loop().time() - FIRST_BYTE_SOON_S
        for front in [front for front, _ in zip(self.context.silent, range(SILENT_CUT_A_TURN), strict=False)]:
            if isinstance(front, Front) and front.since <= late and front.transport is not None:
                front.transport.abort()

    def _within(self, seconds: float) -> None:
        if self.limit is not None:
            self.limit.cancel()
        assert self.transport is not None  # noqa: S101 - set when the connection was made
        self.limit = asyncio.get_running_loop().call_later(seconds, self.transport.abort)

    def connection_lost(self, error: Exception | None) -> None:
        if self.limit is not None:
            self.limit.cancel()
        if self.refusal:
            self.context.turned_away -= 1
        self.context.silent.pop(self, None)
        self.context.connections.leave(self.peer)

    def data_received(self, data: bytes) -> None:
        if self.refusal:
            self.buffer += data
            self._turn_away()
            return
        if not self.buffer:
            self.context.silent.pop(self, None)
            self._within(HEAD_WITHIN_S)
        self.buffer += data
        start = self.buffer[: len(_OURS[0])]
        may_be_ours = self.context.settings.light_connections and any(prefix.startswith(start) for prefix in _OURS)
        if not may_be_ours or b"\r\n\r\n" in self.buffer or len(self.buffer) > MAX_HEAD_BYTES:
            assert self.transport is not None  # noqa: S101 - data came after the connection
            self.transport.pause_reading()
            self.turnstile.queue(self)

    def enter(self) -> None:
        """What has come is enough to know whose it is."""
        assert self.transport is not None  # noqa: S101 - data came after the connection
        if self.transport.is_closing():
            return
        self.transport.resume_reading()
        is_ours = self.context.settings.light_connections and self.buffer.startswith(_OURS)
        if not (is_ours and b"\r\n\r\n" in self.buffer and self._upgrade()):
            self._hand_over()

    def eof_received(self) -> bool:
        return False

    def _hand_over(self) -> None:
        """Let aiohttp have it, from the first byte on."""
        transport, data = self._release()
        stock = self.stock(self.peer)
        transport.set_protocol(stock)
        stock.connection_made(transport)
        if data:
            stock.data_received(data)

    def _release(self) -> tuple[asyncio.Transport, bytes]:
        assert self.transport is not None  # noqa: S101 - the connection has been made
        if self.limit is not None:
            self.limit.cancel()
        data, self.buffer = self.buffer, b""
        return self.transport, data

    def _upgrade(self) -> bool:
        """Take the connection as a light WebSocket; False if aiohttp should answer instead."""
        head, _, rest = self.buffer.partition(b"\r\n\r\n")
        handshake = ServerProtocol(
            extensions=[
                ServerPerMessageDeflateFactory(server_no_context_takeover=True, client_no_context_takeover=True)
            ],
            subprotocols=SUBPROTOCOLS,
            select_subprotocol=lambda _, offered: subprotocol_of(offered),
            logger=_quiet,
        )
        handshake.receive_data(head + b"\r\n\r\n")
        request = next(iter(handshake.events_received()), None)
        if not isinstance(request, Request):
            return False
        response = handshake.accept(request)
        if response.status_code != 101 or len(request.headers.get_all("Host")) != 1:
            return False
        url = URL(request.path, encoded=True)
        assert self.transport is not None  # noqa: S101 - data came after the connection
        peer = self.transport.get_extra_info("peername")
        caller = Caller.read(self.context, peer, request.headers.get_all, ticket_of(url))
        claims = self.context.probe.claims_of(caller.ticket) or self._admit(caller)
        if claims is None:
            return False  # the other shell says why, and counts it
        response.headers["Server"] = SERVER["Server"]
        handshake.send_response(response)
        answer = b"".join(handshake.data_to_send())
        deflate = next((each for each in handshake.extensions if isinstance(each, PerMessageDeflate)), None)
        # A window smaller than zlib's would need a compressor of its own; such a client gets plain frames.
        inflates = deflate is not None and deflate.local_max_window_bits == zlib.MAX_WBITS
        transport, _ = self._release()
        light = LightWebSocket(
            self.context, transport, self.peer, caller, claims, deflates=deflate is not None, inflates=inflates
        )
        transport.set_protocol(light)
        transport.write(answer)
        Opening.read(url, request.headers.get_all("Last-Event-ID")).begin(light.session)
        if rest:
            light.data_received(rest)
        return True

    def _admit(self, caller: Caller) -> Claims | None:
        rates = self.context.rates
        if rates.exhausted(caller.requests):
            return None
        try:
            claims = enter(self.context, caller)
        except Refusal:
            return None
        rates.check(caller.requests)
        return claims


class LightWebSocket(asyncio.Protocol, Inflow):
    """One client after its handshake: bytes to messages to session, and nothing more."""

    __slots__ = ("client", "context", "peer", "reader", "session")

    def __init__(
        self,
        context: Context,
        transport: asyncio.Transport,
        peer: str,
        caller: Caller,
        claims: Claims,
        *,
        deflates: bool,
        inflates: bool,
    ) -> None:
        self.context = context
        self.peer = peer
        self.reader = FrameReader(MAX_MESSAGE_BYTES, deflates)
        Inflow.__init__(self, self.reader, transport, context.messages)
        outbox = Outbox(SocketPipe(transport), Wire.WEBSOCKET)
        outbox.watch(transport.write)
        transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        self.client: Client = context.new_client(outbox, caller.streams, claims)
        self.session = context.new_session(outbox, claims, inflates=inflates)

    def data_received(self, data: bytes) -> None:
        self.put(data)

    def sent_away(self) -> bool:
        return self.client.outbox.closed or self.transport.is_closing()

    def take(self, frame: bytes) -> bool:
        message = self.reader.read(frame)
        if message is None:
            return False
        try:
            self._hear(message)
        except Exception:  # a fault of ours ends this connection, not the loop's callback
            log.exception("connection_crashed")
            self._break_off(1011, "a fault of ours")
        return True

    def _hear(self, message: Message) -> None:
        session = self.session
        match message.opcode:
            case Opcode.TEXT:
                session.receive(message.payload, message.parts)
            case Opcode.PONG:
                if not self.context.clients.answered(self.client):
                    session.admit()
            case Opcode.PING:
                if session.admit():
                    self.client.outbox.pipe.write(messages.websocket_frame(0x8A, message.payload))
            case Opcode.BINARY:
                if session.admit(message.parts):
                    session.refuse(BINARY)
            case _:
                self._end(messages.websocket_frame(0x88, message.payload[:2]))
                self.stop_listening()
                with contextlib.suppress(RuntimeError, OSError):
                    self.transport.close()

    def breach(self, error: FrameError) -> None:
        self._break_off(error.code, error.reason)

    def _break_off(self, code: int, reason: str) -> None:
        """Say what was wrong, and wait a little for the peer to close: see `DROPPED_BYTES`."""
        if not self.client.outbox.closed:
            self.client.outbox.ended_with = code
        self._end(messages.close_frame(code, reason))
        self.stop_listening()
        asyncio.get_running_loop().call_later(CLOSE_GRACE_S, self.transport.abort)
        with contextlib.suppress(RuntimeError, OSError):
            self.transport.write_eof()

    def _end(self, last_frame: bytes) -> None:
        """Count the client out, after one last frame unless we have sent ours."""
        if not self.client.outbox.closed:
            self.client.outbox.pipe.write(last_frame)
        self.context.clients.leave(self.client)

    def pause_writing(self) -> None:
        self.client.outbox.clogged()

    def resume_writing(self) -> None:
        self.client.outbox.cleared()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.stop_listening()
        self.context.connections.leave(self.peer)
        self.peer = ""
        self.context.clients.leave(self.client)


# The library would log each refused handshake; aiohttp answers those.
_quiet = logging.getLogger("stream_server.connections.light_websocket.library")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False
_quiet.setLevel(logging.CRITICAL)

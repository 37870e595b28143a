"""Accept connections: count them, enforce the limits, and hand each to the light layer or to aiohttp.

A connection shows by its first bytes what it is (`sniffing`). A good handshake for `/ws` that the door lets in becomes
a light WebSocket. Everything else goes to aiohttp with the bytes that were read, as if nothing had happened. With
`LIGHT_CONNECTIONS=0` aiohttp gets all of it.

A connection that takes one of the last descriptors of the process, or comes from an address that has far too many, is
answered with a status and closed before anything is read.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from stream_server.access.addresses import SLACK
from stream_server.access.browsers import SERVER
from stream_server.access.door import WEBSOCKET
from stream_server.connections.aiohttp_connection import HEAD_WITHIN_S
from stream_server.connections.callers import ticket_of
from stream_server.connections.descriptors import NO_DESCRIPTOR, getting_scarce, scarce
from stream_server.connections.light_websocket import LightWebSocket
from stream_server.connections.opening import Opening
from stream_server.connections.sniffing import Handshake, asks_for_events, may_become_handshake
from stream_server.connections.turnstile import Turnstile
from stream_server.context import Context

FIRST_BYTE_WITHIN_S = 75.0
FIRST_BYTE_SOON_S = 5.0
"""The same time while descriptors are scarce, and for an address with more connections than its limit."""
ENTER_A_TURN = 16
"""Connections that are handed on in one turn of the loop. A handshake takes about 300 µs."""
TURNED_AWAY_WITHIN_S = 0.5


Factory = Callable[[str], asyncio.Protocol]


def no_room(safe_headers: dict[str, str], status: str = "503 Service Unavailable") -> bytes:
    """Return the answer to a connection that is closed before it sends a request."""
    lines = (
        f"HTTP/1.1 {status}",
        "Retry-After: 30",
        "Connection: close",
        "Content-Length: 0",
        *(f"{name}: {value}" for name, value in (SERVER | safe_headers).items()),
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


class Front(asyncio.Protocol):
    """Accept one connection, and hand it on once its first bytes show what it is."""

    __slots__ = ("buffer", "context", "limit", "peer", "refusal", "since", "stock", "transport", "turnstile")

    def __init__(self, context: Context, stock: Factory, turnstile: Turnstile) -> None:
        self.context = context
        self.stock = stock
        self.turnstile = turnstile
        self.buffer = b""
        self.transport: asyncio.Transport
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
            self.since = asyncio.get_running_loop().time()
            if few_left:
                self.context.newcomers.cut_silent(self.since - FIRST_BYTE_SOON_S)
            self.context.newcomers.wait_for(self)
            self._within(FIRST_BYTE_SOON_S if few_left or excess else FIRST_BYTE_WITHIN_S)

    def _refuse(self, code: str, status: str) -> None:
        self.context.clients.turn_away()
        self.context.refusals[code] += 1
        self.refusal = no_room(self.context.safe_headers, status)
        if self.context.newcomers.refuse():
            self.limit = asyncio.get_running_loop().call_later(TURNED_AWAY_WITHIN_S, self._turn_away)
        else:
            self._turn_away()

    def _turn_away(self) -> None:
        """Answer that there is no room. An EventSource gets no status, because it would not reconnect after one."""
        if not asks_for_events(self.buffer):
            self.transport.write(self.refusal)
        self.transport.close()

    def abort(self) -> None:
        """End the connection at once."""
        self.transport.abort()

    def _within(self, seconds: float) -> None:
        if self.limit is not None:
            self.limit.cancel()
        self.limit = asyncio.get_running_loop().call_later(seconds, self.transport.abort)

    def connection_lost(self, error: Exception | None) -> None:
        if self.limit is not None:
            self.limit.cancel()
        if self.refusal:
            self.context.newcomers.end_refusal()
        self.context.newcomers.forget(self)
        self.context.connections.leave(self.peer)

    def data_received(self, data: bytes) -> None:
        if self.refusal:
            self.buffer += data
            self._turn_away()
            return
        if not self.buffer:
            self.context.newcomers.forget(self)
            self._within(HEAD_WITHIN_S)
        self.buffer += data
        if not (self.context.settings.light_connections and may_become_handshake(self.buffer)):
            self.transport.pause_reading()
            self.turnstile.queue(self)

    def enter(self) -> None:
        """Hand the connection on, now that its first bytes show what it is."""
        if self.transport.is_closing():
            return
        self.transport.resume_reading()
        handshake = Handshake.read(self.buffer) if self.context.settings.light_connections else None
        if handshake is None or not self._upgrade(handshake):
            self._hand_over()

    def eof_received(self) -> bool:
        return False

    def _hand_over(self) -> None:
        """Give the connection to aiohttp, from its first byte on."""
        transport, data = self._release()
        stock = self.stock(self.peer)
        transport.set_protocol(stock)
        stock.connection_made(transport)
        if data:
            stock.data_received(data)

    def _release(self) -> tuple[asyncio.Transport, bytes]:
        if self.limit is not None:
            self.limit.cancel()
        data, self.buffer = self.buffer, b""
        return self.transport, data

    def _upgrade(self, handshake: Handshake) -> bool:
        """Serve the connection as a light WebSocket; return False if aiohttp has to refuse it."""
        url, peer = handshake.url, self.transport.get_extra_info("peername")
        caller = self.context.door.caller(peer, handshake.header, ticket_of(url))
        claims = self.context.door.try_admit(caller, WEBSOCKET)
        if claims is None:
            return False  # the other shell sends the refusal, and counts it
        answer = handshake.answer()
        transport, _ = self._release()
        light = LightWebSocket(
            self.context,
            transport,
            self.peer,
            caller,
            claims,
            deflates=handshake.deflates,
            inflates=handshake.inflates,
        )
        transport.set_protocol(light)
        transport.write(answer)
        Opening.read(url, handshake.header("Last-Event-ID")).begin(light.session)
        if handshake.rest:
            light.data_received(handshake.rest)
        return True

"""The pipe under an outbox: raw bytes onto a connection that aiohttp has accepted and upgraded.

Frames go to the transport as they are, joined, in one write: aiohttp's own writers would frame them again for each
client, and await.
"""

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable

from aiohttp import web

from stream_server.connections.lingering import CLOSE_GRACE_S
from stream_server.wire import messages
from stream_server.wire.refusals import Closing

NOTSENT_LOWAT_BYTES = 16 * 1024

# Python names it only where the headers it was built with did; Linux has had it since 3.12.
_TCP_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", 25 if sys.platform == "linux" else None)


class SocketPipe:
    """One client's connection. `on_close` runs once, when the server has decided to end it."""

    __slots__ = ("closes_by_frame", "ended", "loop", "on_close", "transport")

    def __init__(self, transport: asyncio.Transport, on_close: Callable[[], None] | None = None) -> None:
        """A WebSocket, or with `on_close` the body of a response."""
        self.transport = transport
        self.closes_by_frame = on_close is None
        self.on_close = on_close
        self.loop = asyncio.get_running_loop()
        self.ended = False
        _keep_little_in_the_kernel(transport)

    def write(self, data: bytes) -> None:
        """Hand bytes to the transport. Nothing after the end, and nothing raised for a peer that has gone."""
        if self.ended or self.transport.is_closing():
            return
        # uvloop raises on a transport that closed in this very turn; one dead client must not stop the others.
        with contextlib.suppress(RuntimeError, OSError):
            self.transport.write(data)

    def buffered(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return 0 if self.transport.is_closing() else self.transport.get_write_buffer_size()

    def close(self, closing: Closing, stuck_s: float = CLOSE_GRACE_S) -> None:
        """End the stream in its own way; abort if the peer has taken none of it after `stuck_s`, or has not closed."""
        if self.closes_by_frame:
            self.write(messages.close_frame(closing.code, closing.reason))
        self.ended = True
        # Closing now could reset the connection under the goodbye: the peer's own close, or the time, ends it.
        self.loop.call_later(CLOSE_GRACE_S, self.abort)
        waiting = self.buffered()
        if waiting and stuck_s < CLOSE_GRACE_S:
            self.loop.call_later(stuck_s, self._abort_unless_below, waiting)
        if self.on_close is not None:
            self.on_close()

    def _abort_unless_below(self, waiting: int) -> None:
        if self.buffered() >= waiting:
            self.abort()

    def end_answered(self) -> None:
        """Close the connection if it has ended by a frame of ours: after the peer's answer nothing more is sent."""
        if self.ended and self.closes_by_frame:
            self.transport.close()

    def abort(self) -> None:
        """End the connection now, whatever was still to be sent."""
        if not self.transport.is_closing():
            self.transport.abort()


def raw_transport(request: web.BaseRequest) -> asyncio.Transport:
    """The connection under a request. Raises ConnectionResetError if the peer has gone."""
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client has gone")
    return transport


def _keep_little_in_the_kernel(transport: asyncio.Transport) -> None:
    """Without this the kernel swallows megabytes for a slow client before the write buffer shows a byte."""
    connection = transport.get_extra_info("socket")
    if connection is None or _TCP_NOTSENT_LOWAT is None:
        return
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, NOTSENT_LOWAT_BYTES)

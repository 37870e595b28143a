"""Write the raw bytes of an outbox to the connection of its client.

Frames go to the transport unchanged, joined, in one write. The writers of aiohttp would frame them again for each
client, and would have to be awaited.
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

# Python has this name only if the headers that it was built with had it; Linux has the option since 3.12.
_TCP_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", 25 if sys.platform == "linux" else None)


class SocketPipe:
    """Write to the connection of one client. `on_close` runs once, when the server decides to end the connection."""

    __slots__ = ("closes_by_frame", "ended", "loop", "on_close", "transport")

    def __init__(self, transport: asyncio.Transport, on_close: Callable[[], None] | None = None) -> None:
        """Without `on_close` this is a WebSocket, with it the body of a response."""
        self.transport = transport
        self.closes_by_frame = on_close is None
        self.on_close = on_close
        self.loop = asyncio.get_running_loop()
        self.ended = False
        _keep_little_in_the_kernel(transport)

    def write(self, data: bytes) -> None:
        """Hand bytes to the transport. Write nothing after the end, and raise nothing if the peer has left."""
        if self.ended or self.transport.is_closing():
            return
        # uvloop raises if the transport was closed in this turn. One dead client must not stop the others.
        with contextlib.suppress(RuntimeError, OSError):
            self.transport.write(data)

    def buffered(self) -> int:
        """Return how many bytes the kernel has not taken yet."""
        return 0 if self.transport.is_closing() else self.transport.get_write_buffer_size()

    def close(self, closing: Closing, stuck_s: float = CLOSE_GRACE_S) -> None:
        """End the stream by a close frame or the end of the body.

        Abort the connection if the peer has read nothing after `stuck_s`, or has not closed after `CLOSE_GRACE_S`.
        """
        if self.closes_by_frame:
            self.write(messages.close_frame(closing.code, closing.reason))
        self.ended = True
        # Closing now could reset the connection before the peer has read the goodbye.
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
        """Close the connection if we have sent a close frame, because the peer has answered it."""
        if self.ended and self.closes_by_frame:
            self.transport.close()

    def abort(self) -> None:
        """End the connection now, and drop what was not sent."""
        if not self.transport.is_closing():
            self.transport.abort()


def raw_transport(request: web.BaseRequest) -> asyncio.Transport:
    """Return the transport of a request. Raises ConnectionResetError if the peer has left."""
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client has gone")
    return transport


def _keep_little_in_the_kernel(transport: asyncio.Transport) -> None:
    """Let the kernel hold little unsent data. By default it takes megabytes before the write buffer fills."""
    connection = transport.get_extra_info("socket")
    if connection is None or _TCP_NOTSENT_LOWAT is None:
        return
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, NOTSENT_LOWAT_BYTES)

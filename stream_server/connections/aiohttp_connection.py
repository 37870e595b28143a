"""Change what aiohttp does with a connection in two respects.

A request that is not HTTP gets our envelope and our headers. aiohttp would answer it before any handler or middleware,
with a text that repeats the request. And the frames of a WebSocket are parsed a few at a time. aiohttp would parse all
of them as they arrive, even after the client has been sent away.
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from aiohttp import web
from aiohttp._websocket.reader import WebSocketReader

from stream_server.access.cors import allow_origin
from stream_server.connections.envelope import MALFORMED, keep_safe, new_request_id, refused
from stream_server.connections.inflow import Inflow
from stream_server.connections.transport import SocketPipe
from stream_server.context import Context
from stream_server.delivery.session import MAX_MESSAGE_BYTES, PARTS_AN_OP, Session
from stream_server.wire.frames import FrameError, FrameHeads, Opcode
from stream_server.wire.refusals import Refusal

SHOWN_CHARS = 100


HEAD_WITHIN_S = 15.0
"""The time for the head of a request, from its first byte to its last."""
BREACHES = {1002: b"\x83\x80\0\0\0\0", 1009: b"\x81\xff\x40" + bytes(7)}
"""Frames that make aiohttp's parser end a connection with these codes: a reserved opcode, and far too many bytes."""


class Metered(Inflow):
    """Pass the frames of a WebSocket to aiohttp's parser, a few in a turn as in the light shell."""

    __slots__ = ("close", "parser", "parts", "pipe", "session")

    def __init__(
        self, context: Context, transport: asyncio.Transport, parser: WebSocketReader, close: Callable[[], None]
    ) -> None:
        """`close` ends the connection for aiohttp."""
        # The parser refuses compressed frames if compression was not agreed on.
        super().__init__(FrameHeads(MAX_MESSAGE_BYTES, deflate=True), transport, context.messages)
        self.parser = parser
        self.close = close
        self.pipe: SocketPipe | None = None
        """Set when the handshake is over, like the session."""
        self.session: Session | None = None
        self.parts = 0

    def begin(self, pipe: SocketPipe, session: Session | None) -> None:
        """Set what serves the client, after its handshake; there is no session for one that is refused."""
        self.pipe = pipe
        self.session = session

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take bytes that have arrived. This is the interface of a parser of aiohttp."""
        self.put(data)
        return False, b""

    def feed_eof(self) -> None:
        """Pass on that nothing more will arrive."""
        self.stop_listening()
        self.parser.feed_eof()

    def sent_away(self) -> bool:
        return self.transport.is_closing() or (self.pipe is not None and self.pipe.ended)

    def take(self, frame: bytes) -> bool:
        ended, _ = self.parser.feed_data(frame)
        if ended:
            self.stop_listening()
            self.close()
        is_last = bool(frame[0] & 0x80)
        if frame[0] & 0x0F < Opcode.CLOSE:
            self.parts += 1
            if is_last:
                if self.parts >= PARTS_AN_OP and self.session is not None:
                    self.session.admit(self.parts)
                self.parts = 0
        return is_last

    def breach(self, error: FrameError) -> None:
        self.parser.feed_data(BREACHES[error.code])
        self.close()


class Connection(web.RequestHandler):
    """Handle one connection of aiohttp's server."""

    __slots__ = ("context", "head_limit", "inflow", "peer")

    def __init__(self, context: Context, server: web.Server, peer: str, **options: Any) -> None:
        """`peer` is the key that `Connections` counts the connection by, `options` are those of aiohttp."""
        super().__init__(server, **options)
        self.context = context
        self.peer = peer
        self.head_limit: asyncio.TimerHandle | None = None
        self.inflow: Metered | None = None
        """Set once the connection is a WebSocket."""

    def data_received(self, data: bytes) -> None:
        """Take bytes. The head of a request has a time limit of its own, unlike idle connections and bodies."""
        heads = self._request_count
        super().data_received(data)
        if self._request_count != heads or self._upgraded:
            self._end_limit()
        elif self.head_limit is None and self._current_request is None and self.transport is not None:
            self.head_limit = self._loop.call_later(HEAD_WITHIN_S, self.transport.abort)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._end_limit()
        self.context.connections.leave(self.peer)
        self.peer = ""
        super().connection_lost(exc)

    def _end_limit(self) -> None:
        if self.head_limit is not None:
            self.head_limit.cancel()
            self.head_limit = None

    def set_parser(self, parser: WebSocketReader, data_received_cb: Callable[[], None] | None = None) -> None:
        """Put our flow control before the parser of a WebSocket."""
        assert self.transport is not None  # noqa: S101 - aiohttp has just answered its handshake
        self.inflow = Metered(self.context, self.transport, parser, self.close)
        super().set_parser(cast(WebSocketReader, self.inflow), data_received_cb)

    def log_exception(self, *facts: Any, exc_info: BaseException | None = None, **more: Any) -> None:
        """Log a fault of ours. A body that cannot be read is the client's fault, and was refused."""
        if not isinstance(exc_info, web.RequestPayloadError):
            super().log_exception(*facts, exc_info=exc_info, **more)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Refuse a request that cannot be read, or report a fault of ours that happened outside of a handler."""
        super().handle_error(request, status, exc, message)  # it logs, and raises if an answer has begun
        if status < 500:
            # The first line says what is wrong, the others where in the request.
            said = (message or "").strip().partition("\n")[0].rstrip(":")[:SHOWN_CHARS]
            refusal = Refusal("bad_request", f"this is not an HTTP request: {said}", status)
            self.context.refusals[MALFORMED] += 1
        else:
            refusal = Refusal("internal", "an internal error of the server", status)
            self.context.refusals[refusal.code] += 1
        request_id = new_request_id(self.context)
        response = refused(refusal, self.context.clock.wall_ms(), request_id)
        allow_origin(request, response, self.context.settings.allowed_origins)
        keep_safe(self.context, response, request_id)
        response.force_close()
        return response


def inflow_of(request: web.BaseRequest) -> Metered:
    """Return the frames that a client of `/ws` sends, after its handshake."""
    connection = request.protocol
    assert isinstance(connection, Connection)  # noqa: S101 - `listen` makes no others
    assert connection.inflow is not None  # noqa: S101 - set with the parser
    return connection.inflow

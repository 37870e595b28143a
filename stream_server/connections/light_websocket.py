"""Serve a WebSocket client with one small protocol object, without aiohttp's request, task and parser.

`front` makes one for each client whose handshake it has answered. `websocket` serves the same session through aiohttp.
"""

import asyncio
import logging

from orchestrator.containment import Contained
from stream_server.access.door import Caller
from stream_server.access.tokens import Claims
from stream_server.connections.inflow import Inflow
from stream_server.connections.lingering import close, linger
from stream_server.connections.transport import SocketPipe
from stream_server.connections.websocket import BINARY
from stream_server.context import Context
from stream_server.delivery.clients import Client
from stream_server.delivery.outbox import HIGH_WATER_BYTES, Outbox
from stream_server.delivery.session import MAX_MESSAGE_BYTES
from stream_server.wire import messages
from stream_server.wire.frames import FrameError, FrameReader, Message, Opcode
from stream_server.wire.messages import Wire

log = logging.getLogger(__name__)


class LightWebSocket(asyncio.Protocol, Inflow):
    """Serve one client after its handshake: read its frames, and pass each message to its session."""

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
        self.client: Client = context.new_client(outbox, caller.stream_address, claims)
        self.session = context.new_session(outbox, claims, inflates=inflates)

    def data_received(self, data: bytes) -> None:
        self.put(data)

    def sent_away(self) -> bool:
        return self.client.outbox.closed or self.transport.is_closing()

    def take(self, frame: bytes) -> bool:
        message = self.reader.read(frame)
        if message is None:
            return False
        with Contained() as hearing:  # a fault of ours ends this connection, not the callback of the loop
            self._hear(message)
        if hearing.fault is not None:
            log.error("connection_crashed", exc_info=hearing.fault)
            self._break_off(1011, "an internal error")
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
                close(self.transport)

    def breach(self, error: FrameError) -> None:
        self._break_off(error.code, error.reason)

    def _break_off(self, code: int, reason: str) -> None:
        """Send the close code for what was wrong, and give the peer a moment to read it."""
        if not self.client.outbox.closed:
            self.client.outbox.end_with(code)
        self._end(messages.close_frame(code, reason))
        self.stop_listening()
        linger(self.transport)

    def _end(self, last_frame: bytes) -> None:
        """Count the client out. Send it one last frame first, unless our closing frame has been sent."""
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

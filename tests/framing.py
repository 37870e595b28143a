"""The server's WebSocket framing without a socket: bytes in, messages out, with the code of both frame layers."""

import asyncio
from collections import deque
from typing import cast

from stream_server.connections.inflow import Inflow
from stream_server.connections.turnstile import Entrant, Turnstile
from stream_server.wire.frames import FrameError, FrameReader, Message, Opcode


class OpenTurnstile:
    """A turnstile that lets every message in at once."""

    def __init__(self) -> None:
        self.waiting: deque[Entrant] = deque()

    def arrive(self, entrant: Entrant) -> None:
        entrant.enter()

    def queue(self, entrant: Entrant) -> None:
        self.waiting.append(entrant)


class RecordingTransport(asyncio.Transport):
    """A transport that records whether reading is paused."""

    reading = True

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True


class Framing(Inflow):
    """Parse frames as a connection does; `away` is set after its close frame was sent."""

    def __init__(self, max_bytes: int, deflate: bool) -> None:
        self.reader = FrameReader(max_bytes, deflate)
        self.door = OpenTurnstile()
        self.wire = RecordingTransport()
        super().__init__(self.reader, self.wire, cast(Turnstile, self.door))
        self.messages: list[Message] = []
        self.away = False

    def take(self, frame: bytes) -> bool:
        message = self.reader.read(frame)
        if message is not None:
            self.messages.append(message)
            if message.opcode is Opcode.CLOSE:
                self.stop_listening()
        return message is not None

    def sent_away(self) -> bool:
        return self.away

    def breach(self, error: FrameError) -> None:
        raise error

    def feed(self, data: bytes) -> list[Message]:
        """Parse bytes and return the completed messages. Raises: FrameError; `messages` has those before the fault."""
        self.messages = []
        self.put(data)
        while self.door.waiting:
            self.door.waiting.popleft().enter()
        return self.messages

"""How much of what clients send is worked on in one turn of the event loop, by each of them and by all together.

A limit that is met only after the work is done does not stop anybody: frames wait here, whole, and are read a few at a
time. After a client has been sent away nothing of it is read but the closing frame that answers ours.
"""

import asyncio

from stream_server.connections.turnstile import Turnstile
from stream_server.wire.frames import FrameError, FrameHeads, Opcode

STEPS_A_TURN = 64
"""Messages of all clients together in one turn."""
FRAMES_A_STEP = 32
"""Parts of a message that one client has read in its turn, if that does not end before."""
HEADS_A_STEP = 64
DROPPED_BYTES = 1024 * 1024
"""What a client that was sent away may still send before we stop taking it from the kernel. To leave it there at once
would reset the connection, and some systems then forget what they have not read of ours: the close code."""


class Inflow:
    """The bytes of one WebSocket client that nobody has read yet. What reads its frames inherits from it."""

    __slots__ = ("at", "deaf", "dropped", "heads", "paused", "transport", "turnstile", "unread", "waits")

    def __init__(self, heads: FrameHeads, transport: asyncio.Transport, turnstile: Turnstile) -> None:
        self.heads = heads
        self.transport = transport
        self.turnstile = turnstile
        self.unread = b""
        self.at = 0
        self.waits = False
        self.paused = False
        self.deaf = False
        self.dropped = 0

    def take(self, frame: bytes) -> bool:
        """Read one whole frame with a good head; returns whether a message ends with it. Raises FrameError."""
        raise NotImplementedError

    def breach(self, error: FrameError) -> None:
        """The client broke the protocol: nothing more of it is read."""
        raise NotImplementedError

    def sent_away(self) -> bool:
        """Whether our last word has gone out."""
        raise NotImplementedError

    def put(self, data: bytes) -> None:
        """Take what has come. It is read when its turn comes."""
        if self.sent_away() or self.deaf:
            self.dropped += len(data)
            if self.dropped > DROPPED_BYTES:
                self.stop_listening()
                self._pause()
            if self.deaf:
                return
        self.unread = self.unread[self.at :] + data if self.at < len(self.unread) else data
        self.at = 0
        if not self.waits:
            self.turnstile.arrive(self)

    def stop_listening(self) -> None:
        """Read nothing more, also of what has come already."""
        self.deaf = True
        self.unread, self.at = b"", 0

    def enter(self) -> None:
        """Read a few frames, and wait for another turn if there are more."""
        self.waits = False
        try:
            more = self._skip() if self.sent_away() else self._read()
        except FrameError as error:
            away = self.sent_away()
            self.stop_listening()
            if not away:
                self.breach(error)
            more = False
        if self.at >= len(self.unread):
            self.unread, self.at = b"", 0  # most clients are silent, and shall hold nothing
        if more:
            self.waits = True
            self._pause()
            self.turnstile.queue(self)
        elif self.paused and self.dropped <= DROPPED_BYTES and not self.transport.is_closing():
            self.paused = False
            self.transport.resume_reading()

    def _pause(self) -> None:
        if not self.paused and not self.transport.is_closing():
            self.paused = True
            self.transport.pause_reading()

    def _next(self) -> bytes | None:
        """Cut off the next whole frame."""
        start = self.at
        end = self.heads.end_of(self.unread, start)
        if end is None:
            return None
        self.at = end
        return self.unread[start:end]

    def _read(self) -> bool:
        for _ in range(FRAMES_A_STEP):
            frame = self._next()
            if frame is None:
                return False
            if self.take(frame) or self.deaf:
                break
        return self.at < len(self.unread)

    def _skip(self) -> bool:
        """Look for the frame that closes, by heads alone: nothing is unmasked or inflated."""
        for _ in range(HEADS_A_STEP):
            frame = self._next()
            if frame is None:
                return False
            if frame[0] & 0x0F == Opcode.CLOSE:
                self.take(frame)
                self.stop_listening()
                return False
        return self.at < len(self.unread)

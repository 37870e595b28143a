"""Bound how much of what clients send is read in one turn of the event loop, of each client and of all together.

A limit that is checked after the work does not stop anybody. So whole frames wait here, and are read a few at a time.
After a client has been sent away, only the closing frame that answers ours is read.
"""

import asyncio

from stream_server.connections.turnstile import Turnstile
from stream_server.wire.frames import FrameError, FrameHeads, Opcode

STEPS_A_TURN = 64
"""Messages that are read of all clients together in one turn."""
FRAMES_A_STEP = 32
"""Frames that are read of one client in its turn, unless a message ends before."""
HEADS_A_STEP = 64
DROPPED_BYTES = 1024 * 1024
"""Bytes that a client may still send after it was sent away, before we stop reading from its socket. If we stopped at
once, the connection would be reset, and some systems then drop what they have not read of ours, as the close code."""


class Inflow:
    """Hold the unread bytes of one WebSocket client. A class that reads its frames inherits from this one."""

    __slots__ = ("at", "dropped", "heads", "paused", "stopped", "transport", "turnstile", "unread", "waits")

    def __init__(self, heads: FrameHeads, transport: asyncio.Transport, turnstile: Turnstile) -> None:
        self.heads = heads
        self.transport = transport
        self.turnstile = turnstile
        self.unread = b""
        self.at = 0
        self.waits = False
        self.paused = False
        self.stopped = False
        self.dropped = 0

    def take(self, frame: bytes) -> bool:
        """Read one whole frame with a good head. Return whether a message ends with it. Raises FrameError."""
        raise NotImplementedError

    def breach(self, error: FrameError) -> None:
        """End the connection of a client that broke the protocol; nothing more of it is read."""
        raise NotImplementedError

    def sent_away(self) -> bool:
        """Return whether our closing frame has been sent."""
        raise NotImplementedError

    def put(self, data: bytes) -> None:
        """Take bytes that have arrived. They are read when their turn comes."""
        if self.sent_away() or self.stopped:
            self.dropped += len(data)
            if self.dropped > DROPPED_BYTES:
                self.stop_listening()
                self._pause()
            if self.stopped:
                return
        self.unread = self.unread[self.at :] + data if self.at < len(self.unread) else data
        self.at = 0
        if not self.waits:
            self.turnstile.arrive(self)

    def stop_listening(self) -> None:
        """Read nothing more, not even what has arrived already."""
        self.stopped = True
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
            self.unread, self.at = b"", 0  # most clients are silent, and should hold no memory
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
            if self.take(frame) or self.stopped:
                break
        return self.at < len(self.unread)

    def _skip(self) -> bool:
        """Look for the closing frame by the heads alone: nothing is unmasked or inflated."""
        for _ in range(HEADS_A_STEP):
            frame = self._next()
            if frame is None:
                return False
            if frame[0] & 0x0F == Opcode.CLOSE:
                self.take(frame)
                self.stop_listening()
                return False
        return self.at < len(self.unread)

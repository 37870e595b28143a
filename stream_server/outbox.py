"""What one client still gets, and its bounds. The same for WebSocket and SSE.

A client that keeps up is written to directly, and nothing is kept for it. One whose transport still holds bytes
beyond the high-water mark is *behind*: of each state topic only the newest value is held, log events and answers
queue in order. When its transport has drained it gets all of it in id order, then `conflated`, and is as good as
any other. Past its bounds it is cut: it can resume by id.
"""

from collections.abc import Iterable
from typing import Protocol

from stream_server import envelope
from stream_server.envelope import Frame, Wire
from stream_server.refusals import Closing

HIGH_WATER_BYTES = 64 * 1024
"""In the process, above what the kernel holds (some 16 KiB, see `TCP_NOTSENT_LOWAT` in `transport.py`)."""


class Pipe(Protocol):
    """The transport of one client, already past its handshake."""

    def write(self, data: bytes) -> None:
        """Hand bytes to the transport; never waits, and does nothing on a closed one."""

    def buffered(self) -> int:
        """Bytes that the kernel has not taken yet."""

    def close(self, closing: Closing, after_ms: int) -> None:
        """Say goodbye and close, gracefully as long as the peer reads."""


class Outbox:
    """One client's end of the hub. The hub alone writes to it."""

    __slots__ = (
        "behind",
        "closed",
        "held",
        "held_bytes",
        "last_buffered",
        "pipe",
        "progress_at",
        "queue",
        "skipped",
        "wire",
    )

    def __init__(self, pipe: Pipe, wire: Wire) -> None:
        self.pipe = pipe
        self.wire = wire
        self.behind = False
        self.closed = False
        self.held: dict[str, Frame] = {}
        self.queue: list[tuple[int, Frame]] = []
        self.skipped: dict[str, int] = {}
        self.held_bytes = 0
        self.last_buffered = 0
        self.progress_at = 0.0

    def full(self) -> bool:
        """Whether the transport holds more than a client that keeps up would leave there."""
        return self.pipe.buffered() > HIGH_WATER_BYTES

    def fall_behind(self, now: float) -> None:
        """Begin to hold back."""
        self.behind = True
        self.progress_at = now
        self.last_buffered = self.pipe.buffered()

    def hold(self, frames: Iterable[Frame]) -> None:
        """Keep frames for later: state by newest value, all else in order."""
        for frame in frames:
            if frame.topic and not frame.log:
                old = self.held.get(frame.topic)
                if old is not None:
                    self.skipped[frame.topic] = self.skipped.get(frame.topic, 0) + 1
                    self.held_bytes -= len(old.json)
                self.held[frame.topic] = frame
            else:
                self.queue.append((frame.seq, frame))
            self.held_bytes += len(frame.json)

    def hold_in_order(self, frames: Iterable[Frame], seq: int) -> None:
        """Keep the parts of one answer together: nothing in it is merged or moved."""
        for frame in frames:
            self.queue.append((seq, frame))
            self.held_bytes += len(frame.json)

    def drained(self, now: float) -> bool:
        """Whether the transport has room again. Notes progress on the way there."""
        buffered = self.pipe.buffered()
        if buffered < self.last_buffered:
            self.progress_at = now
        self.last_buffered = buffered
        return buffered == 0

    def catch_up(self) -> None:
        """Send what was held, in id order, and say what was merged."""
        frames = [
            frame
            for _, frame in sorted(
                [*((frame.seq, frame) for frame in self.held.values()), *self.queue],
                key=lambda entry: entry[0],
            )
        ]
        if self.skipped:
            frames.append(envelope.control("conflated", {"skipped": self.skipped}))
        self.forget()
        self.behind = False
        if frames:
            self.pipe.write(self.wire.payload(frames))

    def forget(self) -> None:
        """Drop all that is held."""
        self.held = {}
        self.queue.clear()
        self.skipped = {}
        self.held_bytes = 0

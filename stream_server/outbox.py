"""What one client still gets, and its bounds. The same for WebSocket and SSE.

A client that keeps up is written to directly, and nothing is kept for it. One whose transport still holds bytes
beyond the high-water mark is *behind*: of each state topic only the newest value is held, log events and answers
queue in order. When its transport has drained it gets all of it in id order, then `conflated`, and is as good as
any other. Past its bounds it is cut: it can resume by id.

An empty buffer on our side says little: the peer's kernel takes hundreds of kilobytes for a client that has not read
them, and values grow old there. So a WebSocket client that falls behind again is *paced*: after each portion it is
pinged, and gets the next portion, by then of newer values, when the pong shows that it has read this one.
"""

from collections.abc import Callable, Container, Iterable
from typing import Protocol

from stream_server import envelope
from stream_server.envelope import Frame, Wire
from stream_server.refusals import Closing

HIGH_WATER_BYTES = 64 * 1024
"""In the process, above what the kernel holds (some 16 KiB, see `TCP_NOTSENT_LOWAT` in `transport.py`)."""

PACED_BYTES = 64 * 1024
PACE_AGAIN_S = 30.0
"""Who falls behind twice within this time reads slowly; once may be a hiccup."""
SLOW_PONG_S = 1.0
QUICK_PONG_S = 0.25
QUICK_PONGS = 20

Entry = tuple[int, Frame, bool]
"""What a round sends: its place in the order, the frame, and whether a newer value would have replaced it."""


class Pipe(Protocol):
    """The transport of one client, already past its handshake."""

    def write(self, data: bytes) -> None:
        """Hand bytes to the transport; never waits, and does nothing on a closed one."""

    def buffered(self) -> int:
        """Bytes that the kernel has not taken yet."""

    def close(self, closing: Closing) -> None:
        """End the stream with its reason, gracefully as long as the peer reads; nothing is written after it."""


class Outbox:
    """One client's end of the hub. The hub alone writes to it."""

    __slots__ = (
        "asked_at",
        "behind",
        "caught_up_at",
        "closed",
        "held",
        "held_bytes",
        "last_buffered",
        "paced",
        "pipe",
        "progress_at",
        "queue",
        "quick_pongs",
        "ready",
        "round",
        "skipped",
        "watched",
        "wire",
        "write",
    )

    def __init__(self, pipe: Pipe, wire: Wire) -> None:
        self.pipe = pipe
        self.wire = wire
        self.write: Callable[[bytes], object] = pipe.write
        self.watched = False
        self.ready = False
        self.behind = False
        self.closed = False
        self.held: dict[str, Frame] = {}
        self.queue: list[tuple[int, Frame]] = []
        self.round: list[Entry] = []
        self.skipped: dict[str, int] = {}
        self.held_bytes = 0
        self.last_buffered = 0
        self.progress_at = 0.0
        self.caught_up_at = float("-inf")
        self.paced = False
        self.asked_at: float | None = None
        self.quick_pongs = 0

    def full(self) -> bool:
        """Whether the transport holds more than a client that keeps up would leave there."""
        return self.pipe.buffered() > HIGH_WATER_BYTES

    def watch(self, write: Callable[[bytes], object]) -> None:
        """From now on `clogged` and `cleared` tell of the transport's buffer, so that no write needs to ask.

        `write` may raise RuntimeError or OSError for a peer that has gone.
        """
        self.watched = self.ready = True
        self.write = write

    def clogged(self) -> None:
        """The transport holds more than it should."""
        self.ready = False

    def cleared(self) -> None:
        """The transport has room again."""
        self.ready = self.watched and not self.behind and not self.closed

    def keep_up(self, now: float) -> None:
        """Hold back no longer."""
        self.behind = False
        self.caught_up_at = now
        self.cleared()

    def fall_behind(self, now: float) -> None:
        """Begin to hold back."""
        self.behind = True
        self.ready = False
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
        return buffered == 0 and self.asked_at is None

    def catch_up(self, most_bytes: int | None = None) -> bool:
        """Send what was held, in id order, and say what was merged; True if nothing is held any more.

        With a limit, one portion of it. What is held when the first portion goes is a round of its own: newer values
        wait for the next round, or topics that change all the time would never let the others have their turn.
        """
        if most_bytes is None:
            entries = [*self.round, *self._in_order()]
            self.round = []
        else:
            self.round = self.round or self._in_order()
            size = _portion(self.round, most_bytes)
            entries, self.round = self.round[:size], self.round[size:]
        frames = [frame for _, frame, _ in entries]
        self.held_bytes -= sum(len(frame.json) for frame in frames)
        skipped, self.skipped = self.skipped, {}
        if skipped:
            frames.append(envelope.control("conflated", {"skipped": skipped}))
        if frames:
            self.pipe.write(self.wire.payload(frames))
        return not self.holds_anything()

    def _in_order(self) -> list[Entry]:
        """Take all that is held by value and in the queue, by id."""
        merged = [(frame.seq, frame, True) for frame in self.held.values()]
        queued = [(seq, frame, False) for seq, frame in self.queue]
        self.held, self.queue = {}, []
        return sorted([*merged, *queued], key=lambda entry: entry[0])

    def holds_anything(self) -> bool:
        """Whether something waits for this client."""
        return bool(self.held or self.queue or self.round)

    def drop_values(self, wanted: Container[str]) -> None:
        """Forget held values of topics that are wanted no more."""
        gone = [frame for topic, frame in self.held.items() if topic not in wanted]
        gone += [frame for _, frame, merged in self.round if merged and frame.topic not in wanted]
        self.held = {topic: frame for topic, frame in self.held.items() if topic in wanted}
        self.round = [entry for entry in self.round if not entry[2] or entry[1].topic in wanted]
        self.held_bytes -= sum(len(frame.json) for frame in gone)

    def ask(self, now: float) -> None:
        """Ping, to learn when what was sent before has been read."""
        self.asked_at = now
        self.pipe.write(envelope.PING)

    def answered(self, now: float) -> None:
        """A pong has come back. A run of quick ones shows that there is no need to pace any more."""
        if self.asked_at is None:
            return
        self.quick_pongs = self.quick_pongs + 1 if now - self.asked_at < QUICK_PONG_S else 0
        self.asked_at = None
        self.progress_at = now
        if self.quick_pongs >= QUICK_PONGS:
            self.paced, self.quick_pongs = False, 0

    def forget(self) -> None:
        """Drop all that is held."""
        self.held = {}
        self.queue.clear()
        self.round = []
        self.skipped = {}
        self.held_bytes = 0


def _portion(entries: list[Entry], most_bytes: int) -> int:
    """How many entries one portion holds; at least one, and never a part of an answer."""
    size = 0
    for count, (seq, frame, _) in enumerate(entries):
        size += len(frame.json)
        if size > most_bytes and count and seq != entries[count - 1][0]:
            return count
    return len(entries)

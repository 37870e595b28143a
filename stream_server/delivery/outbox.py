"""What one client still gets, and its bounds. The same for WebSocket and SSE.

A client that keeps up is written to directly, and nothing is kept for it. One whose transport still holds bytes
beyond the high-water mark is *behind*: of each state topic only the newest value is held, log events and answers
queue in order. When its transport has drained it gets all of it in id order, then `conflated`, and is as good as
any other. Past its bounds it is cut: it can resume by id.

An empty buffer on our side says little: the peer's kernel takes hundreds of kilobytes for a client that has not read
them, and values grow old there. So a WebSocket client that falls behind again is *paced*: after each portion it is
pinged, and gets the next portion, by then of newer values, when the pong shows that it has read this one. Portions
are as large as what it reads in less than a second.

Which values go into a portion? Ids rise, so one that is sent bars all with lower ids for good. The newest ones lowest
first would keep to ids, and never come to those who are last in each of a feed's bursts. So topics take turns, and
whoever has its turn may send the value that the newest has just replaced: then what it bars are replaced ones, too.
"""

from collections.abc import Callable, Container, Iterable, Sequence
from typing import Protocol

from stream_server.delivery.meters import Tally
from stream_server.wire import messages
from stream_server.wire.messages import Frame, Wire
from stream_server.wire.refusals import Closing

HIGH_WATER_BYTES = 64 * 1024
"""In the process, above what the kernel holds (some 16 KiB, see `TCP_NOTSENT_LOWAT` in `transport.py`)."""

LEAST_PORTION_BYTES = 8 * 1024
MOST_PORTION_BYTES = 64 * 1024
PORTION_S = 0.25
"""Who reads at a portion for longer gets half as much next time, and who takes half of that time twice as much."""

PACE_AGAIN_S = 30.0
"""Who falls behind twice within this time reads slowly; once may be a hiccup."""
SLOW_PONG_S = 1.0
QUICK_PONG_S = 0.25
QUICK_PONGS = 20

Entry = tuple[int, Frame]
"""A place in the order, and what is sent there."""

UNTOLD = Tally()
"""What goes to those who have not joined is nobody's."""


class Pipe(Protocol):
    """The transport of one client, already past its handshake."""

    def write(self, data: bytes) -> None:
        """Hand bytes to the transport; never waits, and does nothing on a closed one."""

    def buffered(self) -> int:
        """Bytes that the kernel has not taken yet."""

    def close(self, closing: Closing, stuck_s: float) -> None:
        """End the stream with its reason; nothing is written after it. Abort it if nothing is taken for `stuck_s`."""

    def abort(self) -> None:
        """End the connection now, whatever was still to be sent."""


class Outbox:
    """One client's end of the hub. The hub alone writes to it."""

    __slots__ = (
        "account",
        "asked_at",
        "behind",
        "best_pong_s",
        "caught_up_at",
        "closed",
        "ended_with",
        "held",
        "held_bytes",
        "last_buffered",
        "paced",
        "passed",
        "pipe",
        "portion_bytes",
        "progress_at",
        "queue",
        "quick_pongs",
        "ready",
        "skipped",
        "tally",
        "turn_due",
        "watched",
        "wire",
        "write",
    )

    def __init__(self, pipe: Pipe, wire: Wire) -> None:
        self.pipe = pipe
        self.wire = wire
        self.account = ""
        """On whose account its client starts topics; empty for one that is not limited by itself."""
        self.tally = UNTOLD
        self.ended_with: int | None = None
        """The close code that we ended it with; None if the client left by itself."""
        self.write: Callable[[bytes], object] = pipe.write
        self.watched = False
        self.ready = False
        self.behind = False
        self.closed = False
        self.held: dict[str, Frame] = {}
        """The newest value of each topic; who waits longest for its turn comes first."""
        self.passed: dict[str, Frame] = {}
        """What that has replaced last, for a paced client."""
        self.turn_due = False
        self.queue: list[Entry] = []
        self.skipped: dict[str, int] = {}
        self.held_bytes = 0
        self.last_buffered = 0
        self.progress_at = 0.0
        self.caught_up_at = float("-inf")
        self.paced = False
        self.asked_at: float | None = None
        self.quick_pongs = 0
        self.best_pong_s = float("inf")
        self.portion_bytes = LEAST_PORTION_BYTES

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

    def fall_behind(self, now: float, *, paced: bool = False) -> None:
        """Begin to hold back, and pace it if it has lagged before."""
        self.behind = True
        self.ready = False
        self.paced = self.paced or paced
        self.progress_at = now
        self.last_buffered = self.pipe.buffered()

    def hold(self, frames: Iterable[Frame]) -> None:
        """Keep frames for later: state by newest value, all else in order."""
        for frame in frames:
            if frame.topic and not frame.log:
                old = self.held.get(frame.topic)
                if old is not None and self.paced:
                    self._skip(self.passed.get(frame.topic))
                    self.passed[frame.topic] = old
                    self.turn_due = True
                else:
                    self._skip(old)
                self.held[frame.topic] = frame
            else:
                self.queue.append((frame.seq, frame))
            self.held_bytes += len(frame.json)

    def _skip(self, frame: Frame | None) -> None:
        if frame is not None:
            self.skipped[frame.topic] = self.skipped.get(frame.topic, 0) + 1
            self.held_bytes -= len(frame.json)

    def hold_in_order(self, frames: Iterable[Frame], seq: int) -> None:
        """Keep the parts of one answer together: nothing in it is merged or moved."""
        for frame in frames:
            self.queue.append((seq, frame))
            self.held_bytes += len(frame.json)

    def drained(self, now: float) -> bool:
        """Whether the client has read all that it was sent. Notes progress on the way there.

        A client that owes us nothing tests nobody's patience: its time begins with what it is sent next.
        """
        buffered = self.pipe.buffered()
        owes_nothing = buffered == 0 and self.asked_at is None
        if owes_nothing or buffered < self.last_buffered:
            self.progress_at = now
        self.last_buffered = buffered
        return owes_nothing

    def note_buffered(self, buffered: int) -> None:
        """Remember what the transport holds at this look."""
        self.last_buffered = buffered

    def forgive(self, late_s: float, now: float) -> None:
        """Give back the time for which we stood still ourselves, but no more than has passed for this client."""
        self.progress_at = min(now, self.progress_at + late_s)

    def catch_up(self, most_bytes: int | None = None) -> int:
        """Send what is held, in id order, and say what was merged; returns how many values those are.

        With a limit, one portion of it: after new values have come those whose turn it is, then the newest.
        """
        newest = [(frame.seq, frame) for frame in self.held.values()]
        entries = sorted([*newest, *self.queue], key=_place)
        if most_bytes is not None and sum(len(frame.json) for _, frame in entries) > most_bytes:
            if self.turn_due:
                self.turn_due = False
                entries = self._turns(entries, most_bytes)
            entries = entries[: _portion(entries, most_bytes)]
        return self._send(entries)

    def _turns(self, entries: list[Entry], most_bytes: int) -> list[Entry]:
        """The values of those whose turn it is, and of all held `entries` those that may not be passed over then."""
        turn: list[Frame] = []
        size = 0
        for topic, newest in self.held.items():
            frame = self.passed.get(topic, newest)
            size += len(frame.json)
            if size > most_bytes and turn:
                break
            turn.append(frame)
        if not turn:
            return entries
        last = max(frame.seq for frame in turn)
        replaced = [(frame.seq, frame) for frame in turn if self.held[frame.topic].seq > last]
        return sorted([*replaced, *(entry for entry in entries if entry[0] <= last)], key=_place)

    def _send(self, entries: list[Entry]) -> int:
        """Send these, which bars everything with a lower place, and say what was merged into them."""
        frames = [frame for _, frame in entries]
        queued = 0
        for frame in frames:
            self.held_bytes -= len(frame.json)
            if self.held.get(frame.topic) is frame:
                del self.held[frame.topic]
            elif self.passed.get(frame.topic) is frame:
                del self.passed[frame.topic]
                self.held[frame.topic] = self.held.pop(frame.topic)  # its next turn comes after everyone else's
            else:
                queued += 1
        del self.queue[:queued]
        if entries:
            for barred in [frame for frame in self.passed.values() if frame.seq <= entries[-1][0]]:
                self._skip(self.passed.pop(barred.topic))
        # Of topics that are still held it is said with their value: a long list each time would be the larger part.
        sent = [frame.topic for frame in frames] if self.holds_anything() else list(self.skipped)
        skipped = {topic: self.skipped.pop(topic) for topic in sent if topic in self.skipped}
        if skipped:
            frames.append(messages.control("conflated", {"skipped": skipped}))
        if frames:
            self.send(frames)
        return sum(skipped.values())

    def send(self, frames: Sequence[Frame], payload: bytes | None = None) -> None:
        """Hand these to the transport, whatever it holds already."""
        data = payload or self.wire.payload(frames)
        self.tally.add(len(frames), len(data))
        self.put(data)

    def put(self, data: bytes) -> None:
        """Hand bytes to the transport, unless its peer has gone in this very turn."""
        try:
            self.pipe.write(data)
        except (RuntimeError, OSError):
            self.ready = False  # its transport will say so itself

    @property
    def held_messages(self) -> int:
        """How many messages wait for this client."""
        return len(self.held) + len(self.passed) + len(self.queue)

    def holds_anything(self) -> bool:
        """Whether something waits for this client."""
        return bool(self.held or self.queue)

    def drop_values(self, wanted: Container[str]) -> None:
        """Forget held values of topics that are wanted no more."""
        gone = [frame for frame in (*self.held.values(), *self.passed.values()) if frame.topic not in wanted]
        self.held = {topic: frame for topic, frame in self.held.items() if topic in wanted}
        self.passed = {topic: frame for topic, frame in self.passed.items() if topic in wanted}
        self.held_bytes -= sum(len(frame.json) for frame in gone)

    def ask(self, now: float) -> None:
        """Ping, to learn when what was sent before has been read."""
        self.asked_at = now
        self.put(messages.PING)

    def answered(self, now: float) -> None:
        """A pong has come back, which tells how large the next portion may be.

        A run of quick ones shows that there is no need to pace any more.
        """
        if self.asked_at is None:
            return
        took_s = now - self.asked_at
        # The best one tells how long the way alone takes: a distant client is not a slow one.
        self.best_pong_s = min(self.best_pong_s, took_s)
        reading_s = took_s - self.best_pong_s
        if reading_s > PORTION_S:
            self.portion_bytes = max(LEAST_PORTION_BYTES, self.portion_bytes // 2)
        elif reading_s < PORTION_S / 2:
            self.portion_bytes = min(MOST_PORTION_BYTES, self.portion_bytes + LEAST_PORTION_BYTES)
        self.quick_pongs = self.quick_pongs + 1 if took_s < QUICK_PONG_S else 0
        self.asked_at = None
        self.progress_at = now
        if self.quick_pongs >= QUICK_PONGS:
            self.paced, self.quick_pongs = False, 0

    def end_with(self, code: int) -> None:
        """Note the close code that we end it with."""
        self.ended_with = code

    def leave(self) -> None:
        """End: nothing is held and nothing more is sent but a goodbye."""
        self.closed = True
        self.ready = False
        self.behind = False
        self.asked_at = None
        self.held = {}
        self.passed = {}
        self.queue.clear()
        self.skipped = {}
        self.held_bytes = 0


def _place(entry: Entry) -> int:
    return entry[0]


def _portion(entries: list[Entry], most_bytes: int) -> int:
    """How many entries one portion holds; at least one, and never a part of an answer."""
    size = 0
    for count, (seq, frame) in enumerate(entries):
        size += len(frame.json)
        if size > most_bytes and count and seq != entries[count - 1][0]:
            return count
    return len(entries)

"""One client's end of the hub: whether its transport has room, what is held for it, and whether it is paced.

A client that keeps up is written to directly, and nothing is held for it. A client whose transport still holds bytes
beyond the high-water mark *lags*: its frames go to its `Backlog`, and it gets them when its transport has drained.
The same holds for WebSocket and SSE. A client past its bounds is cut: it can resume by id.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from stream_server.delivery.backlog import Backlog
from stream_server.delivery.meters import Tally
from stream_server.delivery.pacing import Pacer
from stream_server.wire import messages
from stream_server.wire.messages import Frame, Wire
from stream_server.wire.refusals import Closing

HIGH_WATER_BYTES = 64 * 1024
"""In the process, above what the kernel holds (some 16 KiB, see `TCP_NOTSENT_LOWAT` in `transport.py`)."""

UNCOUNTED = Tally()
"""Takes the figures of clients that have not joined; nothing reads it."""


class Pipe(Protocol):
    """The transport of one client, already past its handshake."""

    def write(self, data: bytes) -> None:
        """Hand bytes to the transport; never waits, and does nothing on a closed one."""

    def buffered(self) -> int:
        """Return the number of bytes that the kernel has not taken yet."""

    def close(self, closing: Closing, stuck_s: float) -> None:
        """End the stream with its reason; nothing is written after it. Abort it if nothing is taken for `stuck_s`."""

    def abort(self) -> None:
        """End the connection now, whatever was still to be sent."""


class Outbox:
    """Writes to one client, or holds back for it. Only the hub's parts use it."""

    __slots__ = (
        "account",
        "backlog",
        "caught_up_at",
        "closed",
        "ended_with",
        "lagging",
        "last_buffered",
        "pacer",
        "pipe",
        "progress_at",
        "ready",
        "tally",
        "watched",
        "wire",
        "write",
    )

    def __init__(self, pipe: Pipe, wire: Wire) -> None:
        self.pipe = pipe
        self.wire = wire
        self.account = ""
        """The account that pays for the topics its client starts; empty for a client without a limit of its own."""
        self.tally = UNCOUNTED
        self.ended_with: int | None = None
        """The close code that we ended the connection with; None if the client left by itself."""
        self.write: Callable[[bytes], object] = pipe.write
        self.watched = False
        self.ready = False
        """Whether a write needs no question: the transport is watched and has room, and nothing is held."""
        self.lagging = False
        self.closed = False
        self.backlog = Backlog()
        self.pacer = Pacer()
        self.last_buffered = 0
        self.progress_at = 0.0
        """When the client last took something, or owed nothing, in monotonic seconds."""
        self.caught_up_at = float("-inf")

    # --- whose it is ---

    def join(self, tally: Tally) -> None:
        """Count what is sent from now on in a tally; the first one stays."""
        if self.tally is UNCOUNTED:
            self.tally = tally

    def charge_to(self, account: str) -> None:
        """Let an account pay for the topics that the client starts."""
        self.account = account

    def rewire(self, wire: Wire) -> None:
        """Write in another form of the same transport from now on."""
        self.wire = wire

    def end_with(self, code: int) -> None:
        """Note the close code that we end the connection with."""
        self.ended_with = code

    def leave(self) -> None:
        """End: nothing is held, and nothing more is sent but a goodbye."""
        self.closed = True
        self.ready = False
        self.lagging = False
        self.pacer.forget()
        self.backlog.clear()

    # --- the room in its transport ---

    def is_full(self) -> bool:
        """Return whether the transport holds more than a client that keeps up would leave there."""
        return self.pipe.buffered() > HIGH_WATER_BYTES

    def watch(self, write: Callable[[bytes], object]) -> None:
        """Rely on `clogged` and `cleared` for the state of the transport's buffer, so that no write needs to ask.

        `write` may raise RuntimeError or OSError for a peer that has gone.
        """
        self.watched = self.ready = True
        self.write = write

    def clogged(self) -> None:
        """Note that the transport holds more than it should."""
        self.ready = False

    def cleared(self) -> None:
        """Note that the transport has room again."""
        self.ready = self.watched and not self.lagging and not self.closed

    def drained(self, now: float) -> bool:
        """Return whether the client has read all that it was sent, and note progress on the way there.

        A client that owes nothing uses up no patience: its time begins with what it is sent next.
        """
        buffered = self.pipe.buffered()
        owes_nothing = buffered == 0 and not self.pacer.is_waiting
        if owes_nothing or buffered < self.last_buffered:
            self.progress_at = now
        self.last_buffered = buffered
        return owes_nothing

    def note_buffered(self, buffered: int) -> None:
        """Remember what the transport holds at this look."""
        self.last_buffered = buffered

    def forgive(self, late_s: float, now: float) -> None:
        """Give back the time in which our own process stood still, but no more than has passed for this client."""
        self.progress_at = min(now, self.progress_at + late_s)

    # --- lagging ---

    def fall_behind(self, now: float, *, paced: bool = False) -> None:
        """Begin to hold back; with `paced`, pace the client, too."""
        self.lagging = True
        self.ready = False
        if paced:
            self.pacer.begin()
        self.progress_at = now
        self.last_buffered = self.pipe.buffered()

    def keep_up(self, now: float) -> None:
        """Stop holding back."""
        self.lagging = False
        self.caught_up_at = now
        self.cleared()

    def hold(self, frames: Iterable[Frame]) -> None:
        """Keep events for later: state by its newest value, all else in order."""
        self.backlog.hold(frames, in_turns=self.pacer.paced)

    def catch_up(self, most_bytes: int | None = None) -> int:
        """Send what is held, or a portion of about so many bytes; return how many values were merged in it."""
        portion = self.backlog.take(most_bytes)
        if portion.frames:
            self.send(portion.frames)
        return portion.merged

    def ask(self, now: float) -> None:
        """Ping, to learn when what was sent before has been read."""
        self.pacer.ask(now)
        self.put(messages.PING)

    def answered(self, now: float) -> None:
        """Take a pong: the client has read what was sent before the ping."""
        if self.pacer.answered(now):
            self.progress_at = now

    # --- writing ---

    def send(self, frames: Sequence[Frame], payload: bytes | None = None) -> None:
        """Hand frames, whose bytes may be known already, to the transport, whatever it holds."""
        data = payload or self.wire.payload(frames)
        self.tally.add(len(frames), len(data))
        self.put(data)

    def put(self, data: bytes) -> None:
        """Hand bytes to the transport, unless its peer has gone in this very turn."""
        try:
            self.pipe.write(data)
        except (RuntimeError, OSError):
            self.ready = False  # the transport will report the loss itself

    # --- figures ---

    @property
    def held_messages(self) -> int:
        """Number of messages that wait for this client."""
        return len(self.backlog)

    @property
    def held_bytes(self) -> int:
        """Size of what waits for this client."""
        return self.backlog.bytes

    @property
    def paced(self) -> bool:
        """Whether the client is paced."""
        return self.pacer.paced

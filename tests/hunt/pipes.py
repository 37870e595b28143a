"""A client's transport: it keeps what was written and what the client has taken, and raises faults on demand."""

from collections import deque
from collections.abc import Callable

from stream_server.delivery.outbox import HIGH_WATER_BYTES, Outbox
from stream_server.wire.messages import Wire
from stream_server.wire.refusals import Closing
from tests.hunt.wire import Decoder, Message, Piece


class Injected(Exception):
    """A fault of one client's transport."""

    pipe: "HuntPipe"


KINDS: tuple[type[Exception], ...] = (
    ValueError,
    RuntimeError,
    KeyError,
    OSError,
    ConnectionResetError,
    AttributeError,
    MemoryError,
    RecursionError,
    AssertionError,
)
FAULTS = tuple(type(f"Injected{kind.__name__}", (Injected, kind), {}) for kind in KINDS)
EXPECTED = (RuntimeError, OSError)
"""The exceptions of a transport whose peer has gone; it ends by itself soon after."""


class HuntPipe:
    """A `Pipe`. While it flows the client gets at once what is written, otherwise only what `drain` lets through."""

    def __init__(self, wire: Wire, decoder: Decoder, now: Callable[[], float]) -> None:
        self.wire = wire
        self.decoder = decoder
        self.now = now
        self.flowing = True
        self.ballast = 0
        self.unread: deque[tuple[float, Piece]] = deque()
        self.size = 0
        """Bytes in `unread`."""
        self.partly = 0
        """Bytes of the first unread piece that have come through."""
        self.inbox: list[tuple[float, Message]] = []
        self.pings = 0
        self.pinged_at = 0.0
        self.owed_since: float | None = None
        self.taken_at = float("-inf")
        self.closing: Closing | None = None
        self.closed_times = 0
        self.aborted = False
        self.after_the_end = 0
        self.outbox: Outbox | None = None
        self.faults: dict[str, type[Exception]] = {}
        self.raised: list[Injected] = []

    def watched_by(self, outbox: Outbox) -> None:
        """Report the state of the buffer to an outbox, as a transport does to its protocol."""
        self.outbox = outbox
        outbox.watch(self.write)

    def _tell(self) -> None:
        if self.outbox is not None and self.ballast + self.size > HIGH_WATER_BYTES:
            self.outbox.clogged()
        elif self.outbox is not None and self.ballast + self.size <= HIGH_WATER_BYTES // 4:
            self.outbox.cleared()

    def _fail(self, where: str) -> None:
        if where in self.faults:
            fault = self.faults[where](f"injected in {where}")
            assert isinstance(fault, Injected)
            fault.pipe = self
            self.raised.append(fault)
            raise fault

    # --- what the server sees ---

    def write(self, data: bytes) -> None:
        """Take one write."""
        self._fail("write")
        if self.closing is not None or self.aborted:
            return
        now = self.now()
        pieces = self.decoder.pieces(data, self.wire.is_websocket, self.wire is Wire.SSE)
        if self.flowing:
            for piece in pieces:
                self._take(now, piece)
            return
        if self.owed_since is None:
            self.owed_since = now
        self.unread.extend((now, piece) for piece in pieces)
        self.size += len(data)
        self._tell()

    def buffered(self) -> int:
        """Return the number of bytes that the client has not taken."""
        self._fail("buffered")
        return self.ballast + self.size

    def close(self, closing: Closing, stuck_s: float) -> None:
        """Remember why the connection is closed."""
        self.closed_times += 1
        self.closing = self.closing or closing
        self._fail("close")

    def abort(self) -> None:
        """End the connection at once."""
        self.aborted = True
        self._fail("abort")

    # --- what the client does ---

    def _take(self, written_at: float, piece: Piece) -> None:
        for message in piece.messages:
            self.inbox.append((written_at, message))
        if piece.ping:
            if not self.pings:
                self.pinged_at = self.now()
            self.pings += 1

    def pause(self, ballast: int = 0) -> None:
        """Let nothing through from now on; `ballast` bytes are in the buffer already."""
        self.flowing = False
        self.ballast = max(self.ballast, ballast)
        if self.ballast and self.owed_since is None:
            self.owed_since = self.now()
        self._tell()

    def drain(self, size: int | None = None) -> None:
        """Let some bytes through, or all of them; after all of them it flows again."""
        if not self.ballast and not self.size:
            self.flowing = True
            return
        left = self.ballast + self.size if size is None else size
        if left:
            self.taken_at = self.now()
        ballast = min(left, self.ballast)
        self.ballast -= ballast
        left -= ballast
        while self.unread and left:
            written_at, piece = self.unread[0]
            lacking = piece.size - self.partly
            if left < lacking:
                self.partly += left
                self.size -= left
                break
            left -= lacking
            self.size -= lacking
            self.partly = 0
            self.unread.popleft()
            self._take(written_at, piece)
        if not self.ballast and not self.size:
            self.flowing, self.owed_since = True, None
        self._tell()

    @property
    def waits_since(self) -> float | None:
        """The time since which the client has left something unread or a ping unanswered; None if it owes nothing."""
        owed = [since for since in (self.owed_since, self.pinged_at if self.pings else None) if since is not None]
        return max(min(owed), self.taken_at) if owed else None

"""Merge two connections that carry the same streams for a while, so that each event counts once and in order.

Pure. While the old connection lives, its frames count and those of the new one are held back: the new one may run
ahead, and an event that it overtook would be lost. When the old one ends, the held frames that it had not delivered are
released, and from then on the frames of the new one count, except those that it repeats. A stream has *joined* once the
old connection has reached the event with which the new one began: nothing is missing between the two.
"""

from dataclasses import dataclass, field

from feeds.exchange.venue import Opened


@dataclass(frozen=True, slots=True)
class Arrival:
    """A frame that is held back."""

    stream: str
    event_ms: int
    frame: Opened


@dataclass(slots=True)
class Delivered:
    """The newest event time at which a stream was delivered, and its frames of that time."""

    event_ms: int
    frames: set[bytes] = field(default_factory=set)


class Handover:
    """Merges two connections by (stream, event time). On one connection, frames of a stream come in order.

    `all_tickers` is the stream of all pairs, whose rows each server may divide into frames in its own way. `before` is
    the handover by which the present connection came to count, if that connection may still repeat frames.
    """

    def __init__(self, all_tickers: str | None, before: "Handover | None" = None) -> None:
        self.all_tickers = all_tickers
        self.delivered: dict[str, Delivered] = dict(before.delivered) if before is not None else {}
        self.repeats: set[str] = set(self.delivered)
        """Streams on which the connection that counts has not yet reached what another one delivered."""
        self.heard: set[str] = set()
        """Streams that the connection that counts has sent."""
        self.began: dict[str, int] = {}
        """By stream: the event time of the first frame of the new connection."""
        self.held: list[Arrival] = []

    def is_new(self, stream: str, event_ms: int, raw: bytes) -> bool:
        """Take a frame of the connection that counts. Returns False for one that was delivered before."""
        if stream in self.repeats:
            if not self._is_news(stream, event_ms, raw):
                return False
            if event_ms > self.delivered[stream].event_ms:
                self.repeats.discard(stream)
        self.heard.add(stream)
        delivered = self.delivered.get(stream)
        if delivered is None or event_ms > delivered.event_ms:
            self.delivered[stream] = Delivered(event_ms, {raw})
        elif event_ms == delivered.event_ms:
            delivered.frames.add(raw)
        return True

    def hold(self, arrival: Arrival) -> None:
        """Keep a frame of the new connection for later."""
        self.began.setdefault(arrival.stream, arrival.event_ms)
        self.held.append(arrival)

    def joined(self) -> set[str]:
        """Return the streams on which nothing is missing between the two connections."""
        return {stream for stream, ms in self.began.items() if self._reached(stream, ms)}

    def _reached(self, stream: str, event_ms: int) -> bool:
        return stream in self.delivered and self.delivered[stream].event_ms >= event_ms

    def missing(self) -> set[str]:
        """Return the streams that the old connection sends and the new one does not."""
        return self.heard - self.began.keys()

    def release(self) -> list[Arrival]:
        """Let the new connection count from now on. Returns the held frames that are new, in their order."""
        held, self.held = self.held, []
        self.repeats = set(self.delivered)
        return [arrival for arrival in held if self.is_new(arrival.stream, arrival.event_ms, arrival.frame.raw)]

    def _is_news(self, stream: str, event_ms: int, raw: bytes) -> bool:
        if stream == self.all_tickers:
            return True  # the market merges them row by row
        delivered = self.delivered[stream]
        return event_ms > delivered.event_ms or (event_ms == delivered.event_ms and raw not in delivered.frames)

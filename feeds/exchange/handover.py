"""Two connections carry the same streams for a while: which frames of which count, so that each event counts once.

Pure. As long as the old connection lives its frames count, and what the new one brings is held back: it may run ahead,
and an event that it overtook would be lost. When the old one ends, what it had not told yet is let out, and from then
on the new one counts, but for what it says again. A stream has *joined* once the old connection has reached the event
with which the new one began: between the two nothing can be missing.
"""

from dataclasses import dataclass, field

from feeds.venues import binance


@dataclass(frozen=True, slots=True)
class Arrival:
    """A frame that is held back."""

    stream: str
    event_ms: int
    frame: binance.Opened


@dataclass(slots=True)
class Told:
    """The newest moment that the old connection told of a stream, and its frames of that moment."""

    event_ms: int
    frames: set[bytes] = field(default_factory=set)


class Handover:
    """Merges two connections by (stream, event time). Of one connection, frames of a stream come in order.

    `before` is the handover by which the present connection came to count, if it may still repeat what was told then.
    """

    def __init__(self, before: "Handover | None" = None) -> None:
        self.told: dict[str, Told] = dict(before.told) if before is not None else {}
        self.repeats: set[str] = set(self.told)
        """Streams on which the connection that counts has not reached yet what another one told."""
        self.spoke: set[str] = set()
        self.began: dict[str, int] = {}
        """By stream: the event time of the first frame of the new connection."""
        self.held: list[Arrival] = []

    def tell(self, stream: str, event_ms: int, raw: bytes) -> bool:
        """Take a frame of the connection that counts; whether it tells what none has told before."""
        if stream in self.repeats:
            if not self._is_news(stream, event_ms, raw):
                return False
            if event_ms > self.told[stream].event_ms:
                self.repeats.discard(stream)
        self.spoke.add(stream)
        told = self.told.get(stream)
        if told is None or event_ms > told.event_ms:
            self.told[stream] = Told(event_ms, {raw})
        elif event_ms == told.event_ms:
            told.frames.add(raw)
        return True

    def hold(self, arrival: Arrival) -> None:
        """Keep a frame of the new connection for later."""
        self.began.setdefault(arrival.stream, arrival.event_ms)
        self.held.append(arrival)

    def joined(self) -> set[str]:
        """The streams in which nothing lies between what both connections told."""
        return {stream for stream, ms in self.began.items() if stream in self.told and self.told[stream].event_ms >= ms}

    def deaf(self) -> set[str]:
        """The streams on which the old connection speaks and the new one does not."""
        return self.spoke - self.began.keys()

    def release(self) -> list[Arrival]:
        """From now on the new connection counts: what was held back and is yet to be told, in its order."""
        held, self.held = self.held, []
        self.repeats = set(self.told)
        return [arrival for arrival in held if self.tell(arrival.stream, arrival.event_ms, arrival.frame.raw)]

    def _is_news(self, stream: str, event_ms: int, raw: bytes) -> bool:
        if stream == binance.ALL_MINI_TICKERS:
            # Each server may cut the rows of all markets into frames as it likes; row by row the market merges them.
            return True
        told = self.told[stream]
        return event_ms > told.event_ms or (event_ms == told.event_ms and raw not in told.frames)

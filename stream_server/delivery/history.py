"""What the hub remembers of one topic: its last event, a ring of its log events, and how fresh it is."""

from collections import deque
from dataclasses import dataclass

from feeds.model import Event
from stream_server.wire.messages import Frame

NO_UPDATE = "no_update"


@dataclass(slots=True)
class TopicHistory:
    """Positions are sequence numbers; `updated_at` is when `event` was received, in monotonic seconds, and `last` was
    made of it. `evicted` is the newest log event that the ring no longer holds, 0 if it holds all there ever were.
    """

    name: str
    ring: deque[Frame]
    last: Frame | None = None
    updated_at: float = 0.0
    event: Event | None = None
    ttl_s: float | None = None
    stale: bool = False
    stale_reason: str = NO_UPDATE
    """Why it is stale; `no_update` for one that has outlived its time."""
    evicted: int = 0
    interrupted: bool = False
    events: int = 0
    spoke: bool = False
    """Whether anything was ever said on it."""

    def append(self, frame: Frame, event: Event, received_at: float) -> None:
        """Remember an event as the newest."""
        self.events += 1
        self.spoke = True
        self.last = frame
        self.event = event
        self.updated_at = received_at
        if frame.log:
            self.remember(frame)

    def remember(self, frame: Frame) -> None:
        """Keep something that everyone has to be told of, though it is no value."""
        self.spoke = True
        if len(self.ring) == self.ring.maxlen:
            self.evicted = self.ring[0].seq
        self.ring.append(frame)

    def since(self, seq: int) -> list[Frame]:
        """What a client that has seen everything up to `seq` lacks: each log event, and the newest value."""
        frames = [frame for frame in self.ring if frame.seq > seq]
        last = self.last
        if last is not None and last.seq > seq and not last.log:
            frames.append(last)
        return frames

    def misses_after(self, seq: int) -> bool:
        """Whether a log event after `seq` is no longer held, or may never have reached us."""
        return self.interrupted or self.evicted > seq

    def snapshot_skips(self, seq: int) -> bool:
        """Whether someone who stands there and gets only the last event goes without a log event."""
        return self.misses_after(seq) or any(frame.seq > seq and frame is not self.last for frame in self.ring)

    def interrupt(self) -> None:
        """Forget everything: no feed brings this topic now, so that whoever comes back has missed something."""
        self.last = None
        self.event = None
        self.ring.clear()
        self.stale = False
        self.interrupted = True

    def resume_at(self, seq: int) -> None:
        """A feed brings it again; what came before this position is not held."""
        if self.interrupted:
            self.interrupted = False
            self.evicted = seq

    @property
    def true_at(self) -> float:
        """When the last value was true at its source, as far as that is told, in monotonic seconds."""
        event = self.event
        if event is None:
            return self.updated_at
        lag_ms = event.received - event.ts if event.lag_ms is None else event.lag_ms
        return self.updated_at - max(0, lag_ms) / 1000

    def age_ms(self, now: float) -> int:
        """How old the last value is at a monotonic time."""
        return max(0, round((now - self.true_at) * 1000)) if self.event is not None else 0

    def become_stale(self, reason: str) -> bool:
        """Note that the last value is not true any more; False if that was known, for the same reason."""
        was_known = self.stale and self.stale_reason == reason
        self.stale, self.stale_reason = True, reason
        return not was_known

    def become_fresh(self) -> None:
        """Note that the last value is true."""
        self.stale, self.stale_reason = False, NO_UPDATE

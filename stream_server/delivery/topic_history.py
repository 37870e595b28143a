"""What is remembered of one topic: its newest event, a ring of its log events, and how fresh it is."""

from collections import deque
from dataclasses import dataclass

from feeds.model import Event
from stream_server.wire.messages import Frame

NO_UPDATE = "no_update"


@dataclass(slots=True)
class TopicHistory:
    """The memory of one topic. Positions are sequence numbers, times are monotonic seconds."""

    name: str
    ring: deque[Frame]
    last: Frame | None = None
    """The frame of `event`; None before the first event and while no feed brings the topic."""
    updated_at: float = 0.0
    """When `event` was received."""
    event: Event | None = None
    ttl_s: float | None = None
    stale: bool = False
    stale_reason: str = NO_UPDATE
    """Why it is stale; `no_update` if its value has outlived its time."""
    evicted: int = 0
    """The newest log event that the ring no longer holds; 0 if it holds all there ever were."""
    interrupted: bool = False
    """Whether no feed brings the topic now."""
    events: int = 0
    spoke: bool = False
    """Whether anything was ever published on it."""

    @classmethod
    def new(cls, name: str, ring_events: int, ttl_s: float | None, evicted: int) -> "TopicHistory":
        """Return the empty history of a topic whose log events up to `evicted` may be missing."""
        return cls(name, deque(maxlen=ring_events), ttl_s=ttl_s, evicted=evicted)

    # --- events ---

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
        """Add a frame to the ring: a log event, or a `gap` that everybody has to receive."""
        self.spoke = True
        if len(self.ring) == self.ring.maxlen:
            self.evicted = self.ring[0].seq
        self.ring.append(frame)

    def since(self, seq: int) -> list[Frame]:
        """Return what a client lacks that has seen everything up to `seq`: each log event, and the newest value."""
        frames = [frame for frame in self.ring if frame.seq > seq]
        last = self.last
        if last is not None and last.seq > seq and not last.log:
            frames.append(last)
        return frames

    def misses_after(self, seq: int) -> bool:
        """Return whether a log event after `seq` is no longer held, or may never have reached us."""
        return self.interrupted or self.evicted > seq

    def snapshot_skips(self, seq: int) -> bool:
        """Return whether a client at `seq` misses a log event if it gets only the last event."""
        return self.misses_after(seq) or any(frame.seq > seq and frame is not self.last for frame in self.ring)

    # --- interruptions ---

    def interrupt(self) -> None:
        """Forget everything: no feed brings this topic now, so that every client that comes back misses something."""
        self.last = None
        self.event = None
        self.ring.clear()
        self.stale = False
        self.interrupted = True

    def resume_at(self, seq: int) -> None:
        """Note that a feed brings the topic again; what came before this position is not held."""
        if self.interrupted:
            self.interrupted = False
            self.evicted = seq

    # --- freshness ---

    @property
    def true_at(self) -> float:
        """When the last value was true at its source, as far as the source reports it, in monotonic seconds."""
        event = self.event
        if event is None:
            return self.updated_at
        lag_ms = event.received - event.ts if event.lag_ms is None else event.lag_ms
        return self.updated_at - max(0, lag_ms) / 1000

    def age_ms(self, now: float) -> int:
        """Return how old the last value is at a monotonic time."""
        return max(0, round((now - self.true_at) * 1000)) if self.event is not None else 0

    def become_stale(self, reason: str) -> bool:
        """Note that the last value is not true any more; return whether that, or the reason, is new."""
        was_known = self.stale and self.stale_reason == reason
        self.stale, self.stale_reason = True, reason
        return not was_known

    def become_fresh(self) -> None:
        """Note that the last value is true."""
        self.stale, self.stale_reason = False, NO_UPDATE

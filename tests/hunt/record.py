"""Keep what was published as a plain list of facts, and work out what follows from it for a client.

Written from the contract alone (docs/protocol.md): it knows nothing of groups, bursts, budgets or outboxes.
"""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field

EPOCH = "e1"


@dataclass(frozen=True, slots=True)
class Published:
    """One event. A hole (a `gap` with reason `upstream`) counts as a log event, but isn't a value."""

    seq: int
    topic: str
    log: bool
    hole: bool = False


@dataclass(slots=True)
class Topic:
    """The facts of one topic; each list holds sequence numbers, ascending."""

    name: str
    everything: list[int] = field(default_factory=list)
    logs: list[int] = field(default_factory=list)
    states: list[int] = field(default_factory=list)
    published: list[tuple[float, float]] = field(default_factory=list)
    """When each value was published and when it had been received, in monotonic seconds."""
    newest: Published | None = None
    """The last value; None before the first one, and after the feed was dropped."""
    dropped: bool = False
    """Whether its feed was dropped and has not come back."""
    forgotten_at: int = 0
    disowned: bool = False
    """Whether its feed has marked the newest value as not true any more."""
    disowned_ever: bool = False
    fed_again_at: int = 0

    @property
    def was_silent_when_dropped(self) -> bool:
        """Whether the topic had no event yet when its feed came back after a drop."""
        return self.fed_again_at > 0 and (not self.everything or self.everything[0] > self.fed_again_at)

    def log_after(self, seq: int) -> int | None:
        """Return the first log event after a position."""
        index = bisect_right(self.logs, seq)
        return self.logs[index] if index < len(self.logs) else None

    def logs_between(self, seq: int, last: int) -> list[int]:
        """Return the log events after a position, up to another one."""
        return self.logs[bisect_right(self.logs, seq) : bisect_right(self.logs, last)]


class Record:
    """Everything that was published, in order."""

    def __init__(self, ring_events: int, ttl_s: float) -> None:
        self.ring_events = ring_events
        self.ttl_s = ttl_s
        self.published: list[Published] = []
        """The events in order: the one with number `n` is at index `n - 1`."""
        self.topics: dict[str, Topic] = {}
        self.log_topics: dict[str, Topic] = {}

    @property
    def seq(self) -> int:
        """The number of the newest event."""
        return len(self.published)

    @property
    def position(self) -> str:
        """The id of the newest event."""
        return f"{EPOCH}-{self.seq}"

    def topic(self, name: str) -> Topic:
        """Return the facts of a topic, empty ones for a new topic."""
        if name not in self.topics:
            self.topics[name] = Topic(name)
        return self.topics[name]

    def publish(self, name: str, log: bool, now: float, received_at: float) -> Published:
        """Note a value."""
        topic = self.topic(name)
        published = self._add(topic, log, hole=False)
        topic.newest, topic.disowned = published, False
        topic.published.append((now, received_at))
        if not log:
            topic.states.append(published.seq)
        return published

    def hole(self, name: str) -> Published:
        """Note that the source has nothing for some time."""
        return self._add(self.topic(name), log=True, hole=True)

    def _add(self, topic: Topic, log: bool, hole: bool) -> Published:
        published = Published(self.seq + 1, topic.name, log, hole)
        self.published.append(published)
        topic.everything.append(published.seq)
        if log:
            topic.logs.append(published.seq)
            self.log_topics[topic.name] = topic
        return published

    def at(self, seq: int) -> Published | None:
        """Return the event with a number."""
        return self.published[seq - 1] if 0 < seq <= len(self.published) else None

    def forget(self, name: str) -> None:
        """Note that no feed brings a topic any more."""
        topic = self.topic(name)
        topic.newest, topic.dropped, topic.forgotten_at, topic.disowned = None, True, self.seq, False

    def disown(self, name: str) -> None:
        """Note that the newest value of a topic isn't true any more."""
        topic = self.topic(name)
        topic.disowned = topic.disowned_ever = True

    def feed_again(self, name: str) -> None:
        """Note that a feed brings a topic again."""
        topic = self.topic(name)
        if topic.dropped:
            topic.dropped, topic.fed_again_at = False, self.seq

    # --- what follows ---

    def ring(self, topic: Topic) -> list[int]:
        """Return the log events that the service promises to hold."""
        return [seq for seq in topic.logs[-self.ring_events :] if seq > topic.forgotten_at]

    def cannot_resume(self, topic: Topic, seq: int) -> bool:
        """Return whether a log event after a position is no longer held, or may never have been received."""
        if topic.dropped or seq < topic.fed_again_at:
            return True
        lacking = topic.logs_between(seq, self.seq)
        return len(lacking) > len([each for each in self.ring(topic) if each > seq])

    def ages(self, name: str) -> bool:
        """Return whether the values of a topic become stale with time."""
        return name != "news"

    def is_stale(self, name: str, now: float) -> bool:
        """Return whether the newest value of a topic is stale."""
        topic = self.topics.get(name)
        if topic is None or topic.newest is None:
            return False
        if topic.disowned or not self.ages(name):
            return topic.disowned
        return now - topic.published[-1][1] >= self.ttl_s

    def was_ever_stale(self, name: str, at: float) -> bool:
        """Return whether, up to a time, a value of a topic was stale before the next one came."""
        topic = self.topics.get(name)
        if topic is not None and topic.disowned_ever:
            return True
        if topic is None or not self.ages(name):
            return False
        ends = [published for published, _ in topic.published[1:]] + [at]
        return any(
            min(end, at) - received >= self.ttl_s for (_, received), end in zip(topic.published, ends, strict=False)
        )

    def was_ever_fresh(self, name: str, at: float) -> bool:
        """Return whether, up to a time, a value of a topic was fresh when it was published."""
        topic = self.topics.get(name)
        return topic is not None and any(
            published <= at and published - received < self.ttl_s for published, received in topic.published
        )

    def newest_of(self, names: Iterable[str]) -> list[Published]:
        """Return the last values of topics by id."""
        held = [topic.newest for name in names if (topic := self.topics.get(name)) and topic.newest]
        return sorted(held, key=lambda published: published.seq)

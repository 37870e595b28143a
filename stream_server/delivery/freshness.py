"""Find the values that have outlived their time, and announce which topics become stale and fresh."""

from collections.abc import Callable

from orchestrator.clock import Clock
from stream_server.delivery.topic_history import NO_UPDATE, TopicHistory
from stream_server.wire import messages
from stream_server.wire.messages import Frame

IN_ORDER_S = 1.0
"""A value that was received at most this long ago is not sorted in: it is found stale too late by this at most."""


class Freshness:
    """Watches the values that age. Each topic is announced as stale or fresh once."""

    def __init__(self, clock: Clock, announce: Callable[[str, Frame], None]) -> None:
        """`announce` sends a message to the clients that listen to a topic."""
        self.clock = clock
        self.announce = announce
        self.aged = 0
        """Number of times that a value went stale or was forgotten."""
        self.expiring: dict[float, dict[str, TopicHistory]] = {}
        """By TTL, the topics with a good value, the one received first at the front unless the TTL is `disordered`."""
        self.disordered: set[float] = set()
        self.expired_at = clock.now()

    def renew(self, topic: TopicHistory, waited_s: float) -> bool:
        """Watch a new value that was received some time ago; return False if it has outlived its time already."""
        ttl_s = topic.ttl_s
        if ttl_s is None:
            return True
        name = topic.name
        bucket = self.expiring.setdefault(ttl_s, {})
        bucket.pop(name, None)
        if waited_s >= ttl_s:
            return False
        bucket[name] = topic
        if waited_s > IN_ORDER_S:
            self.disordered.add(ttl_s)
        return True

    def forget(self, topic: TopicHistory) -> None:
        """Stop watching a topic, because its value has been dropped."""
        self.aged += 1
        if topic.ttl_s is not None:
            self.expiring.get(topic.ttl_s, {}).pop(topic.name, None)

    def expire(self) -> None:
        """Mark the values that have outlived their time as stale."""
        self.expired_at = now = self.clock.now()
        for ttl_s in self.disordered:
            in_order = sorted(self.expiring[ttl_s].items(), key=lambda entry: entry[1].updated_at)
            self.expiring[ttl_s] = dict(in_order)
        self.disordered.clear()
        for ttl_s, bucket in self.expiring.items():
            while bucket:
                topic = next(iter(bucket.values()))
                if now - topic.updated_at < ttl_s:
                    break
                del bucket[topic.name]
                self.outlive(topic)

    def outlive(self, topic: TopicHistory) -> None:
        """Mark a topic as stale because its value has outlived its time. A reason that is known already stays."""
        if not topic.stale:
            self.make_stale(topic, NO_UPDATE)

    def make_stale(self, topic: TopicHistory, reason: str) -> None:
        """Mark a topic as stale, and announce it unless it is stale for the same reason already."""
        if topic.become_stale(reason):
            self.aged += 1
            self.announce(topic.name, self.message(topic, "stale", reason))

    def make_fresh(self, topic: TopicHistory) -> None:
        """Mark a topic as fresh after a new value, and announce it."""
        topic.become_fresh()
        self.announce(topic.name, self.message(topic, "fresh", "update"))

    def message(self, topic: TopicHistory, kind: str, reason: str) -> Frame:
        """Return the `stale` or `fresh` message of a topic; its age is null for a topic without a value."""
        age_ms = topic.age_ms(self.clock.now()) if topic.event is not None else None
        return messages.control(kind, {"topic": topic.name, "age_ms": age_ms, "reason": reason})

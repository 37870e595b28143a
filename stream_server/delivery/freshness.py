"""Which values have outlived their time, found in the order in which they were received."""

from collections.abc import Callable

from orchestrator.clock import Clock
from stream_server.delivery.history import TopicHistory

IN_ORDER_S = 1.0
"""A value that was received no longer ago is not sorted in: it is found stale by so much too late at most."""


class Freshness:
    """Watches the values that age."""

    def __init__(self, clock: Clock, outlived: Callable[[TopicHistory], None]) -> None:
        """`outlived` is called with a topic whose value has outlived its time."""
        self.clock = clock
        self.outlived = outlived
        self.expiring: dict[float, dict[str, TopicHistory]] = {}
        """By TTL: the topics with a good value, the longest received first, but for those of `disordered`."""
        self.disordered: set[float] = set()
        self.expired_at = clock.now()

    def renew(self, topic: TopicHistory, waited_s: float) -> bool:
        """Watch a new value, received so long ago. False if it has outlived its time already."""
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
        """Watch a topic no longer."""
        if topic.ttl_s is not None:
            self.expiring.get(topic.ttl_s, {}).pop(topic.name, None)

    def expire(self) -> None:
        """Find the values that have outlived their time."""
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
                self.outlived(topic)

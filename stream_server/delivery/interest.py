"""Count which topics clients name, and ask the feeds for them."""

import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from orchestrator.clock import Clock
from orchestrator.containment import Contained

log = logging.getLogger(__name__)


class Demand(Protocol):
    """The side of the feeds that is asked for topics."""

    def want(self, topic: str) -> None:
        """Bring a topic: the first client has subscribed to it by name."""

    def drop(self, topic: str) -> bool:
        """Drop a topic to which no client has listened for a while; return whether it is no longer brought."""

    def is_full(self) -> bool:
        """Return whether no further topic may be started on demand."""

    def charge(self, topics: Iterable[str], account: str) -> list[str]:
        """Charge an account for what these topics start upstream; return those that may not be started now."""


class Interest:
    """Counts the clients that name each topic. A feed that fails when it is asked harms no client."""

    def __init__(self, clock: Clock, demand: Demand, idle_topic_s: float, is_listened: Callable[[str], bool]) -> None:
        """A topic that no client names and that nobody `is_listened` to is dropped after `idle_topic_s`."""
        self.clock = clock
        self.demand = demand
        self.idle_topic_s = idle_topic_s
        self.is_listened = is_listened
        self.counts: dict[str, int] = {}
        self.idle_since: dict[str, float] = {}

    def gain(self, topic: str) -> bool:
        """Count one more client; return whether the topic has to be brought again, because it was not even idle."""
        count = self.counts.get(topic, 0)
        self.counts[topic] = count + 1
        return not count and self.idle_since.pop(topic, None) is None

    def want(self, topic: str) -> None:
        """Ask the feeds for a topic, if this client is the first."""
        if self.counts.get(topic) != 1:
            return
        with Contained() as asking:  # a fault of a feed must not harm the client
            self.demand.want(topic)
        if asking.fault is not None:
            log.error("want_failed", extra={"topic": topic}, exc_info=asking.fault)

    def lose(self, topics: Iterable[str]) -> None:
        """Count one client less for each of these topics."""
        for topic in topics:
            count = self.counts.get(topic)
            if count == 1:
                del self.counts[topic]
                self.idle_since[topic] = self.clock.now()
            elif count is not None:
                self.counts[topic] = count - 1

    def drop(self, topic: str) -> bool:
        """Let the feeds drop a topic; return whether it is no longer brought."""
        self.idle_since.pop(topic, None)
        with Contained() as asking:  # a fault of a feed must not stop the housekeeping
            return self.demand.drop(topic)
        log.error("drop_failed", extra={"topic": topic}, exc_info=asking.fault)
        return False

    def drop_idle(self, now: float) -> list[str]:
        """Drop the topics that have been idle for too long; return those that are no longer brought."""
        idle = [
            topic
            for topic, since in self.idle_since.items()
            if now - since >= self.idle_topic_s and not self.is_listened(topic)
        ]
        return [topic for topic in idle if self.drop(topic)]

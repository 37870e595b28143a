"""The topics that are known, and the history of each. Topics that no feed brings any more are forgotten in time."""

from collections.abc import Iterable, Sequence

from feeds import topics
from stream_server.delivery.groups import Groups
from stream_server.delivery.policy import HubPolicy
from stream_server.delivery.topic_history import TopicHistory

DROPPED_KEPT = 1000
"""Number of dropped topics with events that are kept, so that a client learns that it has missed something."""


class TopicStore:
    """Keeps the history of each topic. Clients choose some of the names, so the number of those is bounded."""

    def __init__(self, policy: HubPolicy, groups: Groups) -> None:
        self.policy = policy
        self.groups = groups
        self.by_name: dict[str, TopicHistory] = {}
        self.dropped: dict[str, None] = {}
        """Topics that no feed brings any more, the one dropped longest ago first."""
        self.forgotten_at = -1
        """The position at which a topic was last forgotten: a client from before may lack its events."""

    def of(self, name: str) -> TopicHistory:
        """Return the history of a topic, an empty one for a new topic."""
        topic = self.by_name.get(name)
        if topic is None:
            # A log topic may be one of those that were forgotten.
            evicted = 0 if topics.kind_of(name) == "state" else self.forgotten_at + 1
            topic = TopicHistory.new(name, self.policy.ring_events, self.policy.ttl_s(name), evicted)
            self.by_name[name] = topic
            self.groups.topic_appeared(name)
        return topic

    def selected(self, selectors: Iterable[str]) -> list[TopicHistory]:
        """Return the topics with a value among those selected, by id."""
        found: dict[str, TopicHistory] = {}
        for selector in selectors:
            if topics.is_pattern(selector):
                found |= {name: self.by_name[name] for name in self.groups.appeared.matching(selector)}
            elif selector in self.by_name:
                found[selector] = self.by_name[selector]
        held = [(topic.last.seq, topic) for topic in found.values() if topic.last is not None]
        return [topic for _, topic in sorted(held, key=lambda entry: entry[0])]

    def may_lack(self, added: Iterable[TopicHistory], gained: Sequence[str], seq: int) -> bool:
        """Return whether a client that has seen everything up to `seq` may lack log events that are not held.

        `added` are the topics the client gets from now on, `gained` the names it has selected.
        """
        if any(topic.misses_after(seq) for topic in added):
            return True
        return seq <= self.forgotten_at and any(
            name not in self.by_name and topics.kind_of(name) != "state" for name in gained
        )

    def interrupt(self, name: str) -> TopicHistory:
        """Drop what is held of a topic that no feed brings any more, because it would only grow old; return the topic.

        A topic that never had an event is noted, too: while no feed brings it, an event may be missed.
        """
        topic = self.of(name)
        topic.interrupt()
        self.dropped.pop(name, None)
        self.dropped[name] = None
        return topic

    def bring_again(self, name: str, seq: int) -> None:
        """Note that a feed brings a topic again, from this position on."""
        self.dropped.pop(name, None)
        topic = self.by_name.get(name)
        if topic is not None:
            topic.resume_at(seq)

    def forget_dropped(self, seq: int) -> None:
        """Forget dropped topics that never had an event, and of the others those dropped longest ago.

        Call it only while nothing is being written: what is written refers to topics by number.
        """
        silent = [name for name in self.dropped if not self.by_name[name].spoke]
        spoken = [name for name in self.dropped if self.by_name[name].spoke]
        for name in [*silent, *spoken[:-DROPPED_KEPT]]:
            del self.dropped[name]
            if self.by_name[name].last is None and not self.groups.is_listened(name):
                del self.by_name[name]
                self.groups.topic_vanished(name)
                self.forgotten_at = seq

"""The hub of one process: it gives all events one order, and connects the parts that remember and deliver them.

Nothing here waits. `publish` costs one encoding and one append, however many clients listen: the rounds write to them.
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from feeds.model import Event
from orchestrator.clock import Clock
from stream_server.delivery.beats import Beats
from stream_server.delivery.faults import Faults
from stream_server.delivery.freshness import Freshness
from stream_server.delivery.group import Group
from stream_server.delivery.groups import Groups
from stream_server.delivery.interest import Demand, Interest
from stream_server.delivery.laggards import Laggards
from stream_server.delivery.members import Members
from stream_server.delivery.meters import Tally
from stream_server.delivery.outbox import Outbox
from stream_server.delivery.policy import PAUSED_S, HubPolicy, Scheduler
from stream_server.delivery.rounds import Rounds
from stream_server.delivery.subscriptions import Subscriptions
from stream_server.delivery.topic_history import TopicHistory
from stream_server.delivery.topic_store import TopicStore
from stream_server.wire import messages
from stream_server.wire.messages import MAX_EVENT_BYTES, Frame
from stream_server.wire.refusals import FAULT

__all__ = ["Demand", "Hub", "HubPolicy", "Scheduler"]

log = logging.getLogger(__name__)

POS_AFTER_S = 30.0


class Hub:
    """Publishes events and answers subscriptions. It is the `Sink` of the feeds.

    Everything about the connection of one client is in `members`.
    """

    def __init__(self, epoch: str, clock: Clock, scheduler: Scheduler, demand: Demand, policy: HubPolicy) -> None:
        self.epoch = epoch
        self.clock = clock
        self.policy = policy
        self.seq = 0
        self.holes = 0
        """Number of holes that feeds have reported."""
        self.beats = Beats(clock, scheduler, lambda group: self.rounds.give_turn(group))
        self.groups = Groups(self.beats.expect)
        self.store = TopicStore(policy, self.groups)
        self.topics = self.store.by_name
        self.freshness = Freshness(clock, self.broadcast_control)
        self.interest = Interest(clock, demand, policy.idle_topic_s, self.groups.is_listened)
        self.faults = Faults(scheduler.soon, lambda outbox: self.members.close(outbox, FAULT))
        self.laggards = Laggards(
            clock, scheduler, policy, self.faults, lambda outbox, closing: self.members.close(outbox, closing)
        )
        self.rounds = Rounds(clock, scheduler, self.groups, self.laggards, self.faults)
        self.members = Members(
            self,
            clock,
            policy,
            self.groups,
            self.beats,
            self.rounds,
            self.laggards,
            self.faults,
            unwanted=self.interest.lose,
        )
        self.subscriptions = Subscriptions(
            self, self.store, self.freshness, self.interest, self.members, self._drop_idle
        )
        self.resumes = self.subscriptions.resumes

    # --- figures ---

    @property
    def position(self) -> str:
        """The id of the newest event."""
        return f"{self.epoch}-{self.seq}"

    @property
    def delivered(self) -> int:
        """Number of messages that were handed to clients' connections."""
        return sum(tally.messages for tally in self.sent.values())

    @property
    def sent(self) -> Mapping[str, Tally]:
        """What was sent, by transport."""
        return self.rounds.sent

    @property
    def lagging(self) -> Collection[Outbox]:
        """The clients that lag."""
        return self.laggards.lagging

    @property
    def conflated(self) -> int:
        """Number of values that were merged for clients that lag."""
        return self.laggards.conflated

    @property
    def gaps(self) -> Counter[str]:
        """Number of gaps by reason: `upstream` once for each hole, the others once for each client and topic."""
        return Counter(upstream=self.holes) + self.subscriptions.gaps

    def sizes(self) -> dict[str, int]:
        """Return the size of each map whose keys clients choose."""
        groups = self.groups
        return {
            "topics": len(self.topics),
            "interest": len(self.interest.counts),
            "idle": len(self.interest.idle_since),
            "dropped": len(self.store.dropped),
            "groups": len(groups.by_key),
            "listeners": len(groups.listeners),
            "numbers": len(groups.numbers),
            "members": len(self.members.by_outbox),
        }

    # --- what feeds publish ---

    def publish(self, event: Event) -> None:
        """Give an event its id, remember it, and let every group that listens have it."""
        now = self.clock.now()
        if now - self.freshness.expired_at >= PAUSED_S:
            self.freshness.expire()  # after a standstill values expire before new events from the sockets come
        name = event.topic
        self.seq = seq = self.seq + 1
        frame = messages.update(event, f"{self.epoch}-{seq}", seq)
        if len(frame.json) > MAX_EVENT_BYTES:
            # A fault of ours: readers of upstreams bound their values. The topic goes stale; clients stay connected.
            log.error("event_too_long", extra={"topic": name, "source": event.source, "bytes": len(frame.json)})
            return
        topic = self.topics.get(name) or self.store.of(name)
        # An event from before a restart, or one that had to be scored first, was received earlier than now.
        waited_ms = self.clock.wall_ms() - event.received
        waited_s = waited_ms / 1000 if waited_ms > 0 else 0.0
        topic.append(frame, event, now - waited_s)
        is_good = self.freshness.renew(topic, waited_s)
        listeners = self.groups.listeners[name]
        if listeners.patterns or listeners.naming:  # `if listeners` would take one more call
            self.rounds.publish(name, frame)
        if not is_good:
            self.freshness.outlive(topic)
        elif topic.stale:
            self.freshness.make_fresh(topic)

    def stale(self, topic: str, reason: str) -> None:
        """Mark a topic as stale until its next value. A topic that is unknown and that nobody names stays unknown."""
        if topic in self.topics or topic in self.interest.counts:
            self.freshness.make_stale(self.store.of(topic), reason)

    def gap(self, topic: str, start_ms: int, end_ms: int) -> None:
        """Publish that the source has nothing between two times. The feed publishes its newest value after that."""
        self.holes += 1
        self.seq += 1
        frame = messages.hole(topic, self.position, self.seq, start_ms, end_ms)
        self.store.of(topic).remember(frame)
        if self.groups.listeners[topic]:
            self.rounds.publish(topic, frame)

    def refuse(self, topic: str, reason: str) -> None:
        """Send an error to the clients that name a topic that no feed can bring, and unsubscribe them from it."""
        message = f"topic {topic!r}: {reason}"
        for outbox in [outbox for group in self.groups.naming(topic) for outbox in group.members]:
            fields = {"code": "unknown_topic", "message": message, "topics": [topic]}
            self.members.send_to(outbox, [messages.control("error", fields)])
            self.unsubscribe(outbox, [topic])
        self.interest.drop(topic)

    def broadcast_control(self, topic: str, frame: Frame) -> None:
        """Send a control message to the clients that listen to a topic. It takes no id, and is not remembered."""
        frame.stand_after(self.seq)
        if self.groups.listeners.get(topic):
            self.rounds.publish(topic, frame)

    def is_listened(self, topic: str) -> bool:
        """Return whether somebody would get an event of this topic now."""
        return self.groups.is_listened(topic)

    # --- what clients ask for ---

    def subscribe(
        self,
        outbox: Outbox,
        selectors: Sequence[str],
        since: str | None = None,
        interval_ms: int = 0,
        req: object = None,
    ) -> None:
        """Add canonical selectors to a client's selection and send it what it lacks, up to now."""
        self.subscriptions.subscribe(outbox, selectors, since, interval_ms, req)

    def unsubscribe(self, outbox: Outbox, selectors: Iterable[str]) -> list[str]:
        """Remove selectors from a client's selection; return those that were in it."""
        return self.subscriptions.unsubscribe(outbox, selectors)

    def current_topics(self) -> Mapping[str, TopicHistory]:
        """Return all topics that are known, by name, with their freshness brought up to date."""
        self.expire()
        return self.topics

    def snapshot(self, selectors: Iterable[str]) -> list[TopicHistory]:
        """Return the selected topics that have a value, by id, with their freshness brought up to date."""
        self.expire()
        return self.store.selected(selectors)

    # --- housekeeping, about four times a second ---

    def tick(self) -> None:
        """Expire values, drop idle topics, and send positions to clients that have been quiet for long."""
        now = self.clock.now()
        self.expire()
        self._drop_idle(now)
        if self.store.dropped and self.rounds.is_idle:
            self.store.forget_dropped(self.seq)
        self.laggards.review_full()
        for group in list(self.groups.by_key.values()):
            if now - group.last_sent >= POS_AFTER_S:
                self._send_position(group)

    def _send_position(self, group: Group) -> None:
        """Send its position to a group that has got nothing for long, unless something is still held for it."""
        self.rounds.pick(group)
        group.learn()
        if group.listens and not group.holds_anything():
            position = messages.control("pos", {"id": self.position}, cursor=self.position)
            position.stand_after(self.seq)
            group.add(position)
        if group.pending:
            self.rounds.give_turn(group)

    def expire(self) -> None:
        """Mark the values that have outlived their time as stale, and announce it."""
        self.freshness.expire()

    def _drop_idle(self, now: float) -> None:
        for name in self.interest.drop_idle(now):
            self.freshness.forget(self.store.interrupt(name))

"""Topic → clients: the one order of all events, what is remembered of them, and who gets which.

Nothing here waits. `publish` costs one encode and one append, however many listen; `subscribe` is one synchronous
block that registers, reads the snapshot and its position, and enqueues both. No event can fall between snapshot and
live, nor into both, because nothing else runs in that block: a property test holds it.
"""

import contextlib
import logging
import math
from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from feeds import topics
from feeds.model import Event
from orchestrator.clock import Clock
from stream_server.delivery import resume
from stream_server.delivery.beats import Beats
from stream_server.delivery.faults import Faults
from stream_server.delivery.freshness import Freshness
from stream_server.delivery.groups import Group, Groups, ThrottledGroup
from stream_server.delivery.history import NO_UPDATE, TopicHistory
from stream_server.delivery.interest import Demand, Interest
from stream_server.delivery.laggards import Laggards
from stream_server.delivery.meters import Tally
from stream_server.delivery.outbox import UNTOLD, Outbox
from stream_server.delivery.policy import FAREWELL_S, PAUSED_S, HubPolicy, Scheduler
from stream_server.delivery.resume import Cursor
from stream_server.delivery.rounds import Rounds
from stream_server.delivery.word_trees import PatternTree
from stream_server.wire import messages
from stream_server.wire.messages import MAX_MESSAGE_BYTES, Frame, Wire
from stream_server.wire.refusals import FAULT, TOO_SLOW, Closing

__all__ = ["Demand", "Hub", "HubPolicy", "Member", "Scheduler"]

log = logging.getLogger(__name__)

POS_AFTER_S = 30.0
NAMED_IN_AN_ERROR = 10
DROPPED_KEPT = 1000
"""Topics with a past that no feed brings any more, of which it is still known when that began."""


@dataclass(slots=True)
class Member:
    """A connected client's selection (selector → interval in ms) and group."""

    selection: dict[str, int] = field(default_factory=dict)
    group: Group | None = None


class Hub:
    """The pub/sub heart of one process. A feed's `Sink`."""

    def __init__(self, epoch: str, clock: Clock, scheduler: Scheduler, demand: Demand, policy: HubPolicy) -> None:
        self.epoch = epoch
        self.clock = clock
        self.scheduler = scheduler
        self.policy = policy
        self.seq = 0
        self.aged = 0
        """How often a value went stale or was forgotten: with `seq` it names the state of everything that is held."""
        self.topics: dict[str, TopicHistory] = {}
        self.beats = Beats(clock, scheduler, lambda group: self.rounds.give_turn(group))
        self.groups = Groups(self.beats.expect)
        self.faults = Faults(scheduler.soon, lambda outbox: self.close(outbox, FAULT))
        self.laggards = Laggards(clock, scheduler, policy, self.faults, self.close)
        self.rounds = Rounds(clock, scheduler, self.groups, self.laggards, self.faults)
        self.members: dict[Outbox, Member] = {}
        self.interest = Interest(clock, demand, policy.idle_topic_s, self.groups.is_listened)
        self.freshness = Freshness(clock, self._outlived)
        self.dropped: dict[str, None] = {}
        """Topics that were dropped, the longest ago first."""
        self.forgotten_at = -1
        """The position at which a topic was last forgotten. A cursor from before may lack events of an unknown one."""
        self.cut = 0
        self.resumes: Counter[str] = Counter()
        """How subscriptions with a cursor came out: `resumed`, or the reason why not."""
        self.gaps: Counter[str] = Counter()
        """By reason: `upstream` once for each hole, the others once for each client and topic."""

    @property
    def position(self) -> str:
        """The id of the newest event."""
        return f"{self.epoch}-{self.seq}"

    @property
    def delivered(self) -> int:
        """Messages handed to clients' connections."""
        return sum(tally.messages for tally in self.sent.values())

    @property
    def sent(self) -> Mapping[str, Tally]:
        """What went out, by transport."""
        return self.rounds.sent

    @property
    def behind(self) -> Collection[Outbox]:
        """The clients that lag."""
        return self.laggards.behind

    @property
    def conflated(self) -> int:
        """How many values were merged for clients that lag."""
        return self.laggards.conflated

    def sizes(self) -> dict[str, int]:
        """How many names each map holds whose keys clients choose."""
        groups = self.groups
        return {
            "topics": len(self.topics),
            "interest": len(self.interest.counts),
            "idle": len(self.interest.idle_since),
            "dropped": len(self.dropped),
            "groups": len(groups.by_key),
            "listeners": len(groups.listeners),
            "numbers": len(groups.numbers),
            "members": len(self.members),
        }

    def is_listened(self, topic: str) -> bool:
        """Whether somebody would get an event of this topic now."""
        return self.groups.is_listened(topic)

    # --- what feeds say ---

    def publish(self, event: Event) -> None:
        """Give an event its place in the order, for every group that listens."""
        now = self.clock.now()
        if now - self.freshness.expired_at >= PAUSED_S:
            self.expire()  # what waited in the sockets comes before housekeeping: first say what has grown old
        name = event.topic
        self.seq = seq = self.seq + 1
        frame = messages.update(event, f"{self.epoch}-{seq}", seq)
        if len(frame.json) > MAX_MESSAGE_BYTES:
            # A fault of ours: readers of upstreams bound what they let in. The topic goes stale, the clients stay.
            log.error("event_too_long", extra={"topic": name, "source": event.source, "bytes": len(frame.json)})
            return
        topic = self.topics.get(name) or self._topic(name)
        # An event from before a restart, or one that had to be scored first, was received earlier than now.
        waited_ms = self.clock.wall_ms() - event.received
        waited_s = waited_ms / 1000 if waited_ms > 0 else 0.0
        topic.append(frame, event, now - waited_s)
        is_good = self.freshness.renew(topic, waited_s)
        listeners = self.groups.listeners[name]
        if listeners.patterns or listeners.naming:  # asking for its truth would take a call more
            self.rounds.publish(name, frame)
        if not is_good:
            self._outlived(topic)
        elif topic.stale:
            topic.stale, topic.stale_reason = False, NO_UPDATE
            self._tell_freshness(topic, "fresh", "update")

    def _outlived(self, topic: TopicHistory) -> None:
        if not topic.stale:
            self._become_stale(topic, NO_UPDATE)

    def _become_stale(self, topic: TopicHistory, reason: str) -> None:
        if topic.become_stale(reason):
            self.aged += 1
            self._tell_freshness(topic, "stale", reason)

    def stale(self, topic: str, reason: str) -> None:
        """Mark a topic as stale until its next value; one that nobody has heard of or waits for stays unknown."""
        if topic in self.topics or topic in self.interest.counts:
            self._become_stale(self._topic(topic), reason)

    def gap(self, topic: str, start_ms: int, end_ms: int) -> None:
        """Tell listeners that the source has nothing between two times; the feed says what it has newest after it."""
        self.gaps["upstream"] += 1
        self.seq += 1
        frame = messages.hole(topic, self.position, self.seq, start_ms, end_ms)
        self._topic(topic).remember(frame)
        if self.groups.listeners[topic]:
            self.rounds.publish(topic, frame)

    def refuse(self, topic: str, reason: str) -> None:
        """Tell those who wait for a topic that nobody can feed it, and take it off their selections."""
        message = f"topic {topic!r}: {reason}"
        for outbox in [outbox for group in self.groups.naming(topic) for outbox in group.members]:
            fields = {"code": "unknown_topic", "message": message, "topics": [topic]}
            self.post(outbox, [messages.control("error", fields)])
            self.unsubscribe(outbox, [topic])
        self.interest.drop(topic)

    def _topic(self, name: str) -> TopicHistory:
        topic = self.topics.get(name)
        if topic is None:
            topic = self.topics[name] = TopicHistory(
                name, deque(maxlen=self.policy.ring_events), ttl_s=self.policy.ttl_s(name)
            )
            if topics.kind_of(name) != "state":
                topic.evicted = self.forgotten_at + 1  # it may be one of those that were forgotten
            self.groups.topic_appeared(name)
        return topic

    def tell(self, topic: str, frame: Frame) -> None:
        """Send a control message to those who listen to a topic. It takes no id, and is not remembered."""
        frame.seq = self.seq
        if self.groups.listeners.get(topic):
            self.rounds.publish(topic, frame)

    def _tell_freshness(self, topic: TopicHistory, kind: str, reason: str) -> None:
        self.tell(topic.name, self._freshness(topic, kind, reason))

    def _freshness(self, topic: TopicHistory, kind: str, reason: str) -> Frame:
        age_ms = topic.age_ms(self.clock.now()) if topic.event is not None else None
        return messages.control(kind, {"topic": topic.name, "age_ms": age_ms, "reason": reason})

    # --- what clients do ---

    def join(self, outbox: Outbox) -> None:
        """Take in a client that has no subscriptions yet."""
        if outbox in self.members or outbox.closed:
            return
        self.members[outbox] = Member()
        if outbox.tally is UNTOLD:
            outbox.tally = self.rounds.sent[outbox.wire.transport]

    def leave(self, outbox: Outbox) -> None:
        """Forget a client. Safe to call twice."""
        member = self.members.pop(outbox, None)
        if member is not None:
            self._leave_group(outbox, member)
            self.interest.lose(member.selection)
        self.laggards.forget(outbox)  # last, because its group's farewell may have found it behind

    def selection_of(self, outbox: Outbox) -> Mapping[str, int]:
        """Return what a client has selected, with intervals in ms; nothing for one that has left."""
        member = self.members.get(outbox)
        return member.selection if member is not None else {}

    def subscribe(
        self,
        outbox: Outbox,
        selectors: Sequence[str],
        since: str | None = None,
        interval_ms: int = 0,
        req: object = None,
    ) -> None:
        """Add canonical selectors to a client's selection and send it what it lacks, up to now.

        Topics that it receives already are not sent again. The answer is `subscribed`, values, `synced`.
        """
        member = self.members.get(outbox)
        if member is None:
            return
        self.expire()
        selectors = self._within_demand(outbox, member, selectors, req)
        cursor = Cursor.read(since, self.epoch, self.seq)
        known = self._heard_by(member)
        before = member.selection
        selection = before | dict.fromkeys(selectors, interval_ms)
        gained = [s for s in selectors if s not in before and topics.is_fed(s)]
        group = self._change_selection(outbox, member, selection)
        added = [self.topics[name] for name in group.listens if name not in known and name in self.topics]
        reason = cursor.reason
        if reason is None and cursor.seq is not None and self._may_lack(added, gained, cursor.seq):
            reason = "evicted"
        resumed = reason is None
        if reason != "no_cursor":
            self.resumes[reason or "resumed"] += 1
        if resumed or since == resume.EARLIEST:
            updates = resume.since(added, group.listens, self.epoch, cursor.or_start)
        else:
            updates = [topic.last for topic in added if topic.last is not None]
        updates.sort(key=lambda frame: frame.seq)
        answer = {
            "topics": list(selectors),
            "resumed": resumed,
            "reason": reason,
            "from": since,
            "to": self.position,
            "count": sum(not frame.event for frame in updates),
            "req": req,
        }
        frames = [messages.control("subscribed", answer)]
        if reason in ("epoch", "evicted"):
            patterns: PatternTree[str] = PatternTree()
            for selector in filter(topics.is_pattern, before):
                patterns.put(selector, selector)
            unheard = [name for name in gained if name not in self.topics and not patterns.matching(name)]
            firsts = resume.first_after_gap(added, unheard, cursor, self.position, self.forgotten_at)
            self.gaps[reason] += len(firsts)
            frames += [
                messages.control("gap", {"topic": name, "reason": reason, "from": since, "to": first})
                for name, first in firsts.items()
            ]
        frames += updates
        frames += [self._freshness(topic, "stale", topic.stale_reason) for topic in added if topic.stale]
        frames.append(self._synced(req))
        self.post(outbox, frames)
        self._gain_interest(gained)

    def _within_demand(self, outbox: Outbox, member: Member, selectors: Sequence[str], req: object) -> Sequence[str]:
        """Return the selectors without those that would start too much upstream; an error names these."""
        new = [selector for selector in selectors if selector not in member.selection and topics.is_fed(selector)]
        if self.interest.demand.is_full():
            self._drop_idle(math.inf)
        refused = self.interest.demand.charge(new, outbox.account)
        if not refused:
            return selectors
        named = ", ".join(map(repr, refused[:NAMED_IN_AN_ERROR])) + (", …" if len(refused) > NAMED_IN_AN_ERROR else "")
        message = f"no more topics are started on demand now; not subscribed: {named}"
        fields = {"code": "demand_limit", "message": message, "topics": refused, "req": req}
        self.post(outbox, [messages.control("error", fields)])
        left_out = set(refused)
        return [selector for selector in selectors if selector not in left_out]

    def unsubscribe(self, outbox: Outbox, selectors: Iterable[str]) -> list[str]:
        """Take selectors off a client's selection; returns those that were on it."""
        member = self.members.get(outbox)
        if member is None:
            return []
        gone = {selector: None for selector in selectors if selector in member.selection}
        if gone:
            rest = {selector: ms for selector, ms in member.selection.items() if selector not in gone}
            group = self._change_selection(outbox, member, rest)
            outbox.drop_values(group.listens)
            self.interest.lose(gone)
        return list(gone)

    def reach(self, outbox: Outbox) -> int:
        """Return how many topics a client gets: a change of its selection has to look at them all."""
        member = self.members.get(outbox)
        return len(member.group.listens) if member is not None and member.group is not None else 0

    def rewire(self, outbox: Outbox, wire: Wire) -> None:
        """From now on write to this client in another form of its transport."""
        if outbox.wire is wire:
            return
        member = self.members.get(outbox)
        if member is None or member.group is None:
            outbox.wire = wire
            return
        self.rounds.settle(member.group)
        outbox.wire = wire
        self._change_selection(outbox, member, member.selection)

    def let_out(self, outbox: Outbox) -> None:
        """Send a client what is held for its beats: it is about to be given a position, which must not pass over it."""
        member = self.members.get(outbox)
        if member is None or member.group is None:
            return
        group = member.group
        self.rounds.settle(group)
        self.laggards.hand(outbox, group.unseen_by(outbox))
        if group.holds_anything():
            group.newcomers[outbox] = self.seq

    def current_topics(self) -> Mapping[str, TopicHistory]:
        """Return every topic that is known, by name, its freshness brought up to date."""
        self.expire()
        return self.topics

    def snapshot(self, selectors: Iterable[str]) -> list[TopicHistory]:
        """Return the topics with a value among those selected, by id, their freshness brought up to date."""
        self.expire()
        found: dict[str, TopicHistory] = {}
        for selector in selectors:
            if topics.is_pattern(selector):
                found |= {name: self.topics[name] for name in self.groups.spoken.matching(selector)}
            elif selector in self.topics:
                found[selector] = self.topics[selector]
        held = [(topic.last.seq, topic) for topic in found.values() if topic.last is not None]
        return [topic for _, topic in sorted(held, key=lambda entry: entry[0])]

    def post(self, outbox: Outbox, frames: Sequence[Frame]) -> None:
        """Send frames to one client, after all that its group was given before."""
        member = self.members.get(outbox)
        if member is None:
            return
        if member.group is not None:
            self.rounds.settle(member.group)
        self.laggards.answer(outbox, frames, self.seq)

    # --- positions ---

    def _may_lack(self, added: Sequence[TopicHistory], gained: Sequence[str], seq: int) -> bool:
        """Whether a client that has seen everything up to `seq` may lack log events that are not held."""
        if any(topic.misses_after(seq) for topic in added):
            return True
        return seq <= self.forgotten_at and any(
            name not in self.topics and topics.kind_of(name) != "state" for name in gained
        )

    def _synced(self, req: object) -> Frame:
        return messages.control("synced", {"id": self.position, "req": req}, cursor=self.position)

    # --- groups ---

    def _change_selection(self, outbox: Outbox, member: Member, selection: Mapping[str, int]) -> Group:
        old = member.group
        unseen: list[Frame] = []
        if old is not None:
            unseen = self._leave_group(outbox, member)
        now = self.clock.now()
        group = self.groups.of(outbox.wire, selection, now, self.rounds.place)
        self.rounds.settle(group)
        group.members[outbox] = None
        group.learn()
        if group.holds_anything():
            group.newcomers[outbox] = self.seq
        member.group, member.selection = group, dict(selection)
        wanted = [frame for frame in unseen if frame.topic in group.listens]
        self.laggards.hand(outbox, wanted)
        return group

    def _leave_group(self, outbox: Outbox, member: Member) -> list[Frame]:
        """Take a client out of its group; returns what the group held back that this client has not seen."""
        group, member.group = member.group, None
        if group is None:
            return []
        self.rounds.settle(group)
        unseen = group.unseen_by(outbox)
        group.newcomers.pop(outbox, None)
        group.members.pop(outbox, None)
        if self.groups.dissolve_if_empty(group) and isinstance(group, ThrottledGroup):
            self.beats.discard(group)
        return unseen

    def _heard_by(self, member: Member) -> set[str]:
        """Return the topics that a client receives already."""
        if member.group is None:
            return set()
        member.group.learn()
        return set(member.group.listens)

    def _gain_interest(self, selectors: Iterable[str]) -> None:
        for name in selectors:
            if self.interest.gain(name):
                self.dropped.pop(name, None)
                topic = self.topics.get(name)
                if topic is not None:
                    topic.resume_at(self.seq)
            self.interest.want(name)

    # --- clients and their connections ---

    def write(self, outbox: Outbox, data: bytes) -> None:
        """Write bytes that are no message, such as a ping."""
        if not outbox.closed:
            try:
                outbox.put(data)
            except Exception as error:  # of one client, which must not harm the others
                self.faults.blame(outbox, error)

    def answered(self, outbox: Outbox) -> None:
        """Take a client's pong: it has read all that was sent before the ping."""
        if outbox in self.members:
            self.laggards.answered(outbox)

    def pace(self, outbox: Outbox) -> None:
        """Pace a client that took long to answer a ping: what it is sent grows old on the way."""
        if outbox in self.members and not outbox.behind:
            self.laggards.fall_behind(outbox, paced=True)

    def close(self, outbox: Outbox, closing: Closing, after_ms: int = 0) -> None:
        """End a client's connection; it hears nothing after its goodbye."""
        if outbox.closed:
            return
        if closing is TOO_SLOW:
            self.cut += 1
        outbox.end_with(closing.code)
        self.leave(outbox)
        try:
            outbox.send([messages.goodbye(closing, after_ms)])
            outbox.pipe.close(closing, self.policy.farewell_s if closing is TOO_SLOW else FAREWELL_S)
        except Exception:  # of one client, which must not harm the others
            log.exception("close_failed", extra={"code": closing.code})
            with contextlib.suppress(Exception):
                outbox.pipe.abort()

    def dismiss(self, outbox: Outbox, closing: Closing, after_ms: int) -> None:
        """As `close`, for a client that has done nothing wrong: what is held back for it comes first, if it reads."""
        member = self.members.get(outbox)
        if member is not None:
            self.laggards.hand(outbox, self._leave_group(outbox, member))
            self.laggards.let_out(outbox)
        self.close(outbox, closing, after_ms)

    # --- housekeeping, about four times a second ---

    def tick(self) -> None:
        """Expire values, drop idle topics, keep quiet clients' cursors fresh, find clients that are stuck."""
        now = self.clock.now()
        self.expire()
        self._drop_idle(now)
        self._forget_dropped()
        self.laggards.look_at_swamped()
        for group in list(self.groups.by_key.values()):
            if now - group.last_sent >= POS_AFTER_S:
                self._say_position(group)

    def _say_position(self, group: Group) -> None:
        """Tell a group that has heard nothing for long how far we are, unless it lacks what is held for it."""
        self.rounds.pick(group)
        group.learn()
        if group.listens and not group.holds_anything():
            position = messages.control("pos", {"id": self.position}, cursor=self.position)
            position.seq = self.seq
            group.pending.append(position)
        if group.pending:
            self.rounds.give_turn(group)

    def expire(self) -> None:
        """Mark the values that have outlived their time, and say so."""
        self.freshness.expire()

    def _drop_idle(self, now: float) -> None:
        for name in self.interest.drop_idle(now):
            self._interrupt(name)

    def _interrupt(self, name: str) -> None:
        """No feed brings this topic any more: what is held of it would only grow old."""
        topic = self._topic(name)  # also one that never spoke: while nobody brings it, something may be missed
        topic.interrupt()
        self.aged += 1
        self.freshness.forget(topic)
        self.dropped.pop(name, None)
        self.dropped[name] = None

    def _forget_dropped(self) -> None:
        """Forget dropped topics that never spoke, and of the others those dropped longest ago.

        Clients choose these names, so without an end there is no bound to them.
        """
        if not self.dropped or not self.rounds.is_idle:
            return  # what is being written refers to topics by number
        silent = [name for name in self.dropped if not self.topics[name].spoke]
        spoken = [name for name in self.dropped if self.topics[name].spoke]
        for name in [*silent, *spoken[:-DROPPED_KEPT]]:
            del self.dropped[name]
            if self.topics[name].last is None and not self.is_listened(name):
                del self.topics[name]
                self.groups.topic_vanished(name)
                self.forgotten_at = self.seq

    def find_stuck(self) -> None:
        """Hold back for clients whose transport has not drained since the last look; called once a second."""
        for outbox in self.members:
            self.laggards.find_stuck(outbox)

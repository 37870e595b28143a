"""Topic → clients: the one order of all events, what is remembered of them, and who gets which.

Nothing here waits. `publish` costs one encode and one append, however many listen; `subscribe` is one synchronous
block that registers, reads the snapshot and its position, and enqueues both. No event can fall between snapshot and
live, nor into both, because nothing else runs in that block: a property test holds it.
"""

import logging
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from feeds import topics
from feeds.model import Event
from orchestrator.clock import Clock
from stream_server import envelope
from stream_server.delivery.beats import Beats
from stream_server.delivery.bursts import Burst
from stream_server.delivery.groups import Group, Groups, ThrottledGroup
from stream_server.delivery.word_trees import PatternTree
from stream_server.envelope import Frame, Wire
from stream_server.history import NO_UPDATE, TopicHistory
from stream_server.meters import Tally
from stream_server.outbox import PACE_AGAIN_S, UNTOLD, Outbox
from stream_server.refusals import TOO_SLOW, Closing

log = logging.getLogger(__name__)

POS_AFTER_S = 30.0
RETRY_BEHIND_S = 0.02
READS_S = 1.0
"""A client that is behind and has taken nothing for longer gets a goodbye alone."""
FAREWELL_S = 2.0
"""How long a client has to begin to read its goodbye."""
FAREWELL_SHARE = 0.25
PAUSED_S = 1.0
"""Housekeeping this late says that the whole process stood still."""
IN_ORDER_S = 1.0
"""A value that was received no longer ago is not sorted in: it is found stale by so much too late at most."""
DROPPED_KEPT = 1000
"""Topics with a past that no feed brings any more, of which it is still known when that began."""
WRITES_A_TURN = 500
"""A write costs some 8 µs: this many hold up the loop, and with it everyone's requests, for 4 ms."""

ALL_WRITES = 1 << 40
BYTES_A_WRITE = 8 * 1024
"""What a write may carry at that price; a bigger one counts for more."""
EFFORT_A_WRITE = 64
"""How many topics or frames a group may look at for the price of a write."""

EARLIEST = "earliest"
_CURSOR = re.compile(r"([0-9a-z]{1,20})-([0-9]{1,18})", re.ASCII)


class Scheduler(Protocol):
    """Runs things later, on the thread of the hub."""

    def soon(self, call: Callable[[], None]) -> None:
        """In the next turn of the loop."""

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """After a delay."""


class Demand(Protocol):
    """Who is told which topics somebody listens to."""

    def want(self, topic: str) -> None:
        """The first client has subscribed to this very topic."""

    def drop(self, topic: str) -> bool:
        """No client has listened to it for a while; True if it is no longer brought from now on."""


@dataclass(frozen=True, slots=True)
class HubPolicy:
    """Bounds and times of the hub."""

    ttl_s: Callable[[str], float | None]
    """How long a value of a topic is fresh without an update; None for ever."""
    ring_events: int = 500
    outbox_bytes: int = 4 * 1024 * 1024
    stall_s: float = 30.0
    idle_topic_s: float = 60.0
    outbox_total_bytes: int = 512 * 1024 * 1024
    """What may be held for all clients together, with what their transports have not been able to send."""

    @property
    def farewell_s(self) -> float:
        """The last part of `stall_s`: what is left to a client after its goodbye, should it read again."""
        return min(FAREWELL_S, FAREWELL_SHARE * self.stall_s)


@dataclass(slots=True)
class Member:
    """A connected client's selection (selector → interval in ms) and group."""

    selection: dict[str, int] = field(default_factory=dict)
    group: Group | None = None


@dataclass(slots=True)
class Delivery:
    """One joined write on its way to the members a group had when it was joined."""

    group: Group
    frames: list[Frame]
    payload: bytes
    outboxes: list[Outbox]
    newcomers: dict[Outbox, int]
    done: int = 0


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a client stands: a position, or the reason why that is not known."""

    seq: int | None
    reason: str | None


class Hub:
    """The pub/sub heart of one process. A feed's `Sink`."""

    def __init__(self, epoch: str, clock: Clock, scheduler: Scheduler, demand: Demand, policy: HubPolicy) -> None:
        self.epoch = epoch
        self.clock = clock
        self.scheduler = scheduler
        self.demand = demand
        self.policy = policy
        self.seq = 0
        self.aged = 0
        """How often a value went stale or was forgotten: with `seq` it names the state of everything that is held."""
        self.topics: dict[str, TopicHistory] = {}
        self.beats = Beats(clock, scheduler, self._flush_later)
        self.groups = Groups(self.beats.expect)
        self.members: dict[Outbox, Member] = {}
        self.behind: dict[Outbox, None] = {}
        self.swamped: dict[Outbox, None] = {}
        """Not behind, but an answer such as a snapshot has filled their transports."""
        self.interest: dict[str, int] = {}
        self.idle_since: dict[str, float] = {}
        self.dropped: dict[str, None] = {}
        """Topics that were dropped, the longest ago first."""
        self.forgotten_at = -1
        """The position at which a topic was last forgotten. A cursor from before may lack events of an unknown one."""
        self.expiring: dict[float, dict[str, TopicHistory]] = {}
        """By TTL: the topics with a good value, the longest received first, but for those of `disordered`."""
        self.disordered: set[float] = set()
        self.expired_at = clock.now()
        self.retried_at = 0.0
        self.burst = Burst(0, self.groups.numbers)
        """What has been said since the last flush began."""
        self.round = self.burst
        """What is being written: `due` are the groups that have not had their part of it."""
        self.due: dict[Group, None] = {}
        self.dirty: dict[Group, None] = {}
        """The groups that have something else pending."""
        self.delivery: Delivery | None = None
        self.flush_due = False
        self.retry_due = False
        self.sent = {"websocket": Tally(), "sse": Tally()}
        """What went out, by transport."""
        self.conflated = 0
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

    def sizes(self) -> dict[str, int]:
        """How many names each map holds whose keys clients choose."""
        groups = self.groups
        return {
            "topics": len(self.topics),
            "interest": len(self.interest),
            "idle": len(self.idle_since),
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
        if now - self.expired_at >= PAUSED_S:
            self.expire()  # what waited in the sockets comes before housekeeping: first say what has grown old
        self.seq += 1
        frame = envelope.update(event, f"{self.epoch}-{self.seq}", self.seq)
        if len(frame.json) > envelope.MAX_MESSAGE_BYTES:
            # A fault of ours: readers of upstreams bound what they let in. The topic goes stale, the clients stay.
            log.error("event_too_long", extra={"topic": event.topic, "source": event.source, "bytes": len(frame.json)})
            return
        topic = self._topic(event.topic)
        topic.append(frame)
        topic.event = event
        topic.updated_at = now
        if topic.ttl_s is not None:
            bucket = self.expiring.setdefault(topic.ttl_s, {})
            bucket.pop(event.topic, None)
            bucket[event.topic] = topic
        # One from before a restart, or that had to be scored first, was received earlier than now.
        waited_s = (self.clock.wall_ms() - event.received) / 1000
        is_good = waited_s <= 0 or self._is_still_good(topic, waited_s)
        self._spread(event.topic, frame)
        if not is_good:
            self._outlived(topic)
        elif topic.stale:
            topic.stale, topic.stale_reason = False, NO_UPDATE
            self._tell_freshness(topic, "fresh", "update")

    def _spread(self, name: str, frame: Frame) -> None:
        """Publish a frame to every group that listens to its topic."""
        if self.groups.listeners[name]:
            self._put_into_burst(name, frame)

    def _is_still_good(self, topic: TopicHistory, waited_s: float) -> bool:
        """Count the age of a new value from its receipt. False if it has outlived its time already."""
        topic.updated_at -= waited_s
        ttl_s = topic.ttl_s
        if ttl_s is None:
            return True
        if waited_s >= ttl_s:
            del self.expiring[ttl_s][topic.name]
            return False
        if waited_s > IN_ORDER_S:
            self.disordered.add(ttl_s)
        return True

    def _outlived(self, topic: TopicHistory) -> None:
        if not topic.stale:
            self._become_stale(topic, NO_UPDATE)

    def _become_stale(self, topic: TopicHistory, reason: str) -> None:
        if topic.become_stale(reason):
            self.aged += 1
            self._tell_freshness(topic, "stale", reason)

    def stale(self, topic: str, reason: str) -> None:
        """Mark a topic as stale until its next value; one that nobody has heard of or waits for stays unknown."""
        if topic in self.topics or topic in self.interest:
            self._become_stale(self._topic(topic), reason)

    def gap(self, topic: str, start_ms: int, end_ms: int) -> None:
        """Tell listeners that the source has nothing between two times; the feed says what it has newest after it."""
        self.gaps["upstream"] += 1
        self.seq += 1
        frame = envelope.hole(topic, self.position, self.seq, start_ms, end_ms)
        self._topic(topic).remember(frame)
        self._spread(topic, frame)

    def refuse(self, topic: str, reason: str) -> None:
        """Tell those who wait for a topic that nobody can feed it, and take it off their selections."""
        message = f"topic {topic!r}: {reason}"
        for outbox in [outbox for group in self.groups.naming(topic) for outbox in group.members]:
            fields = {"code": "unknown_topic", "message": message, "topics": [topic]}
            self.post(outbox, [envelope.control("error", fields)])
            self.unsubscribe(outbox, [topic])
        self.idle_since.pop(topic, None)

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
            self._put_into_burst(topic, frame)

    def _put_into_burst(self, topic: str, frame: Frame) -> None:
        if self.burst.began_at is None:
            self.burst.began_at = self.clock.now()
        self.burst.add(topic, frame)
        if not self.flush_due:
            self._flush_soon()

    def _tell_freshness(self, topic: TopicHistory, kind: str, reason: str) -> None:
        self.tell(topic.name, self._freshness(topic, kind, reason))

    def _freshness(self, topic: TopicHistory, kind: str, reason: str) -> Frame:
        age_ms = topic.age_ms(self.clock.now()) if topic.event is not None else None
        return envelope.control(kind, {"topic": topic.name, "age_ms": age_ms, "reason": reason})

    # --- what clients do ---

    def join(self, outbox: Outbox) -> None:
        """Take in a client that has no subscriptions yet."""
        self.members[outbox] = Member()
        if outbox.tally is UNTOLD:
            outbox.tally = self.sent[outbox.wire.transport]

    def leave(self, outbox: Outbox) -> None:
        """Forget a client. Safe to call twice."""
        member = self.members.pop(outbox, None)
        if member is not None:
            self._leave_group(outbox, member)
            self._lose_interest(member.selection)
        # Last, because its group's farewell may have found it behind.
        self.behind.pop(outbox, None)
        self.swamped.pop(outbox, None)
        outbox.closed = True
        outbox.ready = False
        outbox.forget()

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
        member = self.members[outbox]
        self.expire()
        cursor = self._cursor(since)
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
        if resumed or since == EARLIEST:
            updates = self._since(added, group, cursor.seq or 0)
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
        frames = [envelope.control("subscribed", answer)]
        if reason in ("epoch", "evicted"):
            patterns: PatternTree[str] = PatternTree()
            for selector in filter(topics.is_pattern, before):
                patterns.put(selector, selector)
            unheard = [name for name in gained if name not in self.topics and not patterns.matching(name)]
            frames += self._gaps(added, unheard, reason, since, cursor)
        frames += updates
        frames += [self._freshness(topic, "stale", topic.stale_reason) for topic in added if topic.stale]
        frames.append(self._synced(req))
        self.post(outbox, frames)
        self._gain_interest(gained)

    def unsubscribe(self, outbox: Outbox, selectors: Iterable[str]) -> list[str]:
        """Take selectors off a client's selection; returns those that were on it."""
        member = self.members[outbox]
        gone = {selector: None for selector in selectors if selector in member.selection}
        if gone:
            rest = {selector: ms for selector, ms in member.selection.items() if selector not in gone}
            group = self._change_selection(outbox, member, rest)
            outbox.drop_values(group.listens)
            self._lose_interest(gone)
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
        self._settle(member.group)
        outbox.wire = wire
        self._change_selection(outbox, member, member.selection)

    def snapshot(self, selectors: Iterable[str]) -> list[TopicHistory]:
        """The topics with a value among those selected, by id."""
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
            self._settle(member.group)
        self._put(outbox, frames)

    # --- positions ---

    def _cursor(self, since: str | None) -> Cursor:
        if since is None or since == "":
            return Cursor(None, "no_cursor")
        if since == EARLIEST:
            return Cursor(0, "no_cursor")
        match = _CURSOR.fullmatch(since)
        if match is None:
            return Cursor(None, "bad_cursor")
        if match[1] != self.epoch:
            return Cursor(None, "epoch")
        seq = int(match[2])
        return Cursor(None, "bad_cursor") if seq > self.seq else Cursor(seq, None)

    def _may_lack(self, added: Sequence[TopicHistory], gained: Sequence[str], seq: int) -> bool:
        """Whether a client that has seen everything up to `seq` may lack log events that are not held."""
        if any(topic.misses_after(seq) for topic in added):
            return True
        return seq <= self.forgotten_at and any(
            name not in self.topics and topics.kind_of(name) != "state" for name in gained
        )

    def _since(self, added: Sequence[TopicHistory], group: Group, seq: int) -> list[Frame]:
        frames: list[Frame] = []
        for topic in added:
            lacking = topic.since(seq)
            # A throttled value may have been waiting, below the cursor, when the connection broke.
            last = topic.last
            if not lacking and last is not None and not last.log and group.listens[topic.name]:
                lacking = [last]
            frames += lacking
        return frames

    def _gaps(
        self, added: Sequence[TopicHistory], unheard: Iterable[str], reason: str, since: str | None, cursor: Cursor
    ) -> list[Frame]:
        """For each topic of which a log event may be missing, those among them that have not spoken in this epoch."""
        firsts = {
            topic.name: topic.last.cursor if topic.last is not None else self.position
            for topic in added
            if cursor.seq is None or topic.snapshot_skips(cursor.seq)
        }
        if cursor.seq is None or cursor.seq <= self.forgotten_at:
            firsts |= dict.fromkeys(unheard, self.position)
        firsts = {name: first for name, first in firsts.items() if topics.kind_of(name) != "state"}
        self.gaps[reason] += len(firsts)
        return [
            envelope.control("gap", {"topic": name, "reason": reason, "from": since, "to": first})
            for name, first in firsts.items()
        ]

    def _synced(self, req: object) -> Frame:
        return envelope.control("synced", {"id": self.position, "req": req}, cursor=self.position)

    # --- groups ---

    def _change_selection(self, outbox: Outbox, member: Member, selection: Mapping[str, int]) -> Group:
        old = member.group
        unseen: list[Frame] = []
        if old is not None:
            unseen = self._leave_group(outbox, member)
        now = self.clock.now()
        group = self.groups.of(outbox.wire, selection, now, self.burst.end)
        self._settle(group)
        group.members[outbox] = None
        group.learn()
        if group.holds_anything():
            group.newcomers[outbox] = self.seq
        member.group, member.selection = group, dict(selection)
        wanted = [frame for frame in unseen if frame.topic in group.listens]
        if wanted:
            self._put(outbox, wanted)
        return group

    def _leave_group(self, outbox: Outbox, member: Member) -> list[Frame]:
        """Take a client out of its group; returns what the group held back that this client has not seen."""
        group, member.group = member.group, None
        if group is None:
            return []
        self._settle(group)
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
        for topic in selectors:
            count = self.interest.get(topic, 0)
            self.interest[topic] = count + 1
            if not count:
                if self.idle_since.pop(topic, None) is None:
                    self.dropped.pop(topic, None)
                    history = self.topics.get(topic)
                    if history is not None:
                        history.resume_at(self.seq)
                self.demand.want(topic)

    def _lose_interest(self, selectors: Iterable[str]) -> None:
        for topic in selectors:
            count = self.interest.get(topic)
            if count == 1:
                del self.interest[topic]
                self.idle_since[topic] = self.clock.now()
            elif count is not None:
                self.interest[topic] = count - 1

    # --- delivery ---

    def _flush_later(self, group: Group) -> None:
        if self.burst.began_at is None:
            self.burst.began_at = self.clock.now()
        self.dirty[group] = None
        if not self.flush_due:
            self._flush_soon()

    def _flush_soon(self) -> None:
        self.flush_due = True
        self.scheduler.soon(self.flush)

    def _pick(self, group: Group) -> None:
        """Make pending all that has been said for a group."""
        group.pick(self.round)
        group.pick(self.burst)

    def flush(self) -> None:
        """Write to every client what has gathered for it, some hundred clients a loop turn."""
        self.flush_due = False
        budget = WRITES_A_TURN
        for tally in self.sent.values():
            tally.begin()
        if self.delivery is not None:
            budget -= self._deliver(self.delivery, budget)
        if self.delivery is None and not self.due:
            if budget < WRITES_A_TURN:
                self._time()
            # What is said from now on waits for the next round: so this one ends, and everybody has a turn in it.
            self.round, self.burst = self.burst, Burst(self.burst.end, self.groups.numbers)
            self.due, self.dirty = self.dirty | self.groups.wanting(self.round), {}
        while self.due and budget > 0:
            group, _ = self.due.popitem()
            if len(group.members) == 1 and not group.newcomers:
                budget -= self._deliver_alone(group)
            else:
                group.pick(self.round)
                delivery = self._gathered(group)
                budget -= 1 if delivery is None else self._deliver(delivery, budget)
            if group.effort:
                budget -= group.effort // EFFORT_A_WRITE
                group.effort = 0
        self._time()
        if self.delivery is not None or self.due or self.dirty or self.burst.frames:
            self._flush_soon()

    def _time(self) -> None:
        """Note how long what has been written of this round had to wait."""
        if self.round.began_at is not None:
            waited_s = self.clock.now() - self.round.began_at
            for tally in self.sent.values():
                tally.end(waited_s)

    def _deliver_alone(self, group: Group) -> int:
        """The same for the only member of a group. Returns how many writes that was worth."""
        (outbox,) = group.members
        joined = group.joined(self.round) if outbox.ready else None
        if joined is not None:
            payload, count = joined
        else:
            group.pick(self.round)
            frames = group.gather()
            if not frames:
                return 1
            payload, count = group.key.wire.payload(frames), len(frames)
        group.last_sent = self.clock.now()
        size = len(payload)
        if outbox.ready:
            tally, write = outbox.tally, outbox.write
            tally.messages += count  # a call would take longer than both
            tally.bytes += size
            try:
                write(payload)
            except (RuntimeError, OSError):
                outbox.ready = False  # gone in this very turn; its transport will say so
        else:
            self._write_or_hold(outbox, frames, payload)
        return 1 + size // BYTES_A_WRITE

    def _settle(self, group: Group) -> None:
        """Deliver all that has gathered for a group now: its membership changes, or one member gets more."""
        if self.delivery is not None and self.delivery.group is group:
            self._deliver(self.delivery, ALL_WRITES)
        self._pick(group)
        delivery = self._gathered(group)
        if delivery is not None:
            interrupted, self.delivery = self.delivery, None
            self._deliver(delivery, ALL_WRITES)
            self.delivery = interrupted

    def _gathered(self, group: Group) -> "Delivery | None":
        """Take what has gathered, joined once for all members."""
        frames = group.gather()
        if not frames or not group.members:
            return None
        group.last_sent = self.clock.now()
        newcomers = dict(group.newcomers)
        if newcomers and not group.holds_anything():
            group.newcomers.clear()
        return Delivery(group, frames, group.key.wire.payload(frames), list(group.members), newcomers)

    def _deliver(self, delivery: "Delivery", most: int) -> int:
        """Write to the next members, `most` writes' worth; the rest waits in `self.delivery`. Returns what it was."""
        start = delivery.done
        worth = 1 + len(delivery.payload) // BYTES_A_WRITE
        delivery.done = end = min(start + max(1, most // worth), len(delivery.outboxes))
        self.delivery = delivery if end < len(delivery.outboxes) else None
        payload, newcomers = delivery.payload, delivery.newcomers
        aside = 0
        for outbox in delivery.outboxes[start:end]:
            if newcomers and outbox in newcomers:
                aside += 1
                seen = newcomers[outbox]
                frames = [frame for frame in delivery.frames if not frame.topic or frame.seq > seen]
                self._write_or_hold(outbox, frames)
            elif outbox.ready:
                write = outbox.write  # called through the slot it would be looked up the slow way
                try:
                    write(payload)
                except (RuntimeError, OSError):
                    outbox.ready = False  # gone in this very turn; its transport will say so
            else:
                aside += 1
                self._write_or_hold(outbox, delivery.frames, payload)
        written = end - start - aside
        delivery.outboxes[0].tally.add(written * len(delivery.frames), written * len(payload))
        return (end - start) * worth

    def _write_or_hold(self, outbox: Outbox, frames: Sequence[Frame], payload: bytes | None = None) -> None:
        """For a client of which it is not known that it keeps up."""
        if not frames:
            return
        if not outbox.behind and outbox.full():
            self._fall_behind(outbox, self.clock.now())
        if outbox.behind:
            outbox.hold(frames)
        else:
            outbox.send(frames, payload)

    def _put(self, outbox: Outbox, frames: Sequence[Frame]) -> None:
        if not frames:
            return
        if not outbox.behind and outbox.full():
            self._fall_behind(outbox, self.clock.now())
        if outbox.behind:
            outbox.hold_in_order(frames, self.seq)
        else:
            outbox.send(frames)
            if outbox.full():
                self.swamped[outbox] = None

    # --- clients that are behind ---

    def _fall_behind(self, outbox: Outbox, now: float) -> None:
        if outbox.wire.is_websocket and now - outbox.caught_up_at < PACE_AGAIN_S:
            outbox.paced = True
        outbox.fall_behind(now)
        self.behind[outbox] = None
        self._retry_later()

    def _retry_later(self) -> None:
        if not self.retry_due:
            self.retry_due = True
            self.retried_at = self.clock.now()
            self.scheduler.later(RETRY_BEHIND_S, self.retry_behind)

    def retry_behind(self) -> None:
        """Let those catch up whose transport has drained; cut those past their bounds."""
        self.retry_due = False
        now = self.clock.now()
        late_s = now - self.retried_at - RETRY_BEHIND_S
        patience_s = self.policy.stall_s - self.policy.farewell_s
        self.retried_at = now
        for outbox in list(self.behind):
            if late_s >= PAUSED_S:
                outbox.progress_at += late_s  # nobody could take anything while we stood still
            if outbox.drained(now):
                self._catch_up(outbox, now)
            elif outbox.held_bytes > self.policy.outbox_bytes or now - outbox.progress_at >= patience_s:
                self.close(outbox, TOO_SLOW)
        self._shed()
        if self.behind:
            self._retry_later()

    def _shed(self) -> None:
        """Cut those that cost most memory, until what is kept for all is within its bound."""
        costs = {outbox: outbox.held_bytes + outbox.pipe.buffered() for outbox in (*self.behind, *self.swamped)}
        excess = sum(costs.values()) - self.policy.outbox_total_bytes
        for outbox in sorted(costs, key=costs.__getitem__, reverse=True) if excess > 0 else ():
            excess -= costs[outbox]
            self.close(outbox, TOO_SLOW)
            outbox.pipe.abort()  # a goodbye would wait behind what must go now
            if excess <= 0:
                return

    def _catch_up(self, outbox: Outbox, now: float) -> None:
        if outbox.paced:
            if outbox.holds_anything():
                self.conflated += outbox.catch_up(outbox.portion_bytes)
                outbox.ask(now)
            return
        del self.behind[outbox]
        outbox.keep_up(now)
        self.conflated += outbox.catch_up()

    def answered(self, outbox: Outbox) -> None:
        """A client's pong has come: it has read all that was sent before the ping."""
        now = self.clock.now()
        outbox.answered(now)
        if outbox.behind and outbox.drained(now):
            self._catch_up(outbox, now)

    def pace(self, outbox: Outbox) -> None:
        """This client took long to answer a ping: what it is sent grows old on the way."""
        if outbox in self.members and not outbox.behind:
            outbox.paced = True
            self._fall_behind(outbox, self.clock.now())

    def close(self, outbox: Outbox, closing: Closing, after_ms: int = 0) -> None:
        """End a client's connection; it hears nothing after its goodbye."""
        if closing is TOO_SLOW:
            self.cut += 1
        outbox.ended_with = closing.code
        self.leave(outbox)
        outbox.send([envelope.goodbye(closing, after_ms)])
        outbox.pipe.close(closing, self.policy.farewell_s if closing is TOO_SLOW else FAREWELL_S)

    def dismiss(self, outbox: Outbox, closing: Closing, after_ms: int) -> None:
        """As `close`, for a client that has done nothing wrong: what is held back for it comes first, if it reads."""
        member = self.members.get(outbox)
        if member is not None:
            self._put(outbox, self._leave_group(outbox, member))
        if outbox.behind and self.clock.now() - outbox.progress_at < READS_S:
            self.conflated += outbox.catch_up()
        self.close(outbox, closing, after_ms)

    # --- housekeeping, about four times a second ---

    def tick(self) -> None:
        """Expire values, drop idle topics, keep quiet clients' cursors fresh, find clients that are stuck."""
        now = self.clock.now()
        self.expire()
        self._drop_idle(now)
        self._forget_dropped()
        self.swamped = {outbox: None for outbox in self.swamped if not outbox.behind and outbox.full()}
        if self.swamped:
            self._shed()
        for group in list(self.groups.by_key.values()):
            if now - group.last_sent >= POS_AFTER_S:
                self._say_position(group)

    def _say_position(self, group: Group) -> None:
        """Tell a group that has heard nothing for long how far we are, unless it lacks what is held for it."""
        self._pick(group)
        group.learn()
        if group.listens and not group.holds_anything():
            position = envelope.control("pos", {"id": self.position}, cursor=self.position)
            position.seq = self.seq
            group.pending.append(position)
        if group.pending:
            self._flush_later(group)

    def expire(self) -> None:
        """Mark the values that have outlived their time, and say so."""
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
                self._outlived(topic)

    def _drop_idle(self, now: float) -> None:
        for topic, since in list(self.idle_since.items()):
            if now - since < self.policy.idle_topic_s or self.groups.is_listened(topic):
                continue
            del self.idle_since[topic]
            if self.demand.drop(topic):
                self._interrupt(topic)

    def _interrupt(self, name: str) -> None:
        """No feed brings this topic any more: what is held of it would only grow old."""
        topic = self._topic(name)  # also one that never spoke: while nobody brings it, something may be missed
        topic.interrupt()
        self.aged += 1
        if topic.ttl_s is not None:
            self.expiring.get(topic.ttl_s, {}).pop(name, None)
        self.dropped.pop(name, None)
        self.dropped[name] = None

    def _forget_dropped(self) -> None:
        """Forget dropped topics that never spoke, and of the others those dropped longest ago.

        Clients choose these names, so without an end there is no bound to them.
        """
        if not self.dropped or self.due or self.burst.frames:
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
        now = self.clock.now()
        for outbox in self.members:
            buffered = outbox.pipe.buffered()
            if buffered and outbox.last_buffered and not outbox.behind:
                self._fall_behind(outbox, now)
            elif not outbox.behind:
                outbox.last_buffered = buffered

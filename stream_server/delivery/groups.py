"""Subscription sets that share one joined write.

Clients with the same transport form and the same selection are one group: what it gets in a round is joined once and
written once to each member. A client with a selection of its own is a group of one and pays no more than that.

There are two kinds. A `PickingGroup` sends what it picks from a burst at once, and may do so from the burst's table.
A `ThrottledGroup` holds values for the beat of their interval; it knows no way around that.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter

from feeds import topics
from stream_server.delivery.bursts import Burst, Numbers
from stream_server.delivery.outbox import Outbox
from stream_server.delivery.word_trees import PatternTree, TopicTree
from stream_server.wire.messages import Frame, Wire

PHASES = 8
"""Members of a throttled group share its beat. A new one joins the phase that has just passed, so that after its
snapshot it waits at least 7/8 of its interval."""

HELD_EFFORT = 3
"""Holding a value takes this many times as long as picking it."""


@dataclass(frozen=True, slots=True)
class GroupKey:
    """What members have in common: form, selection with its intervals in ms, and the phase of each interval."""

    wire: Wire
    selection: frozenset[tuple[str, int]]
    phases: tuple[tuple[int, int], ...]


@dataclass(slots=True, eq=False)
class Pattern:
    """A pattern that some group has, and the topics that have spoken and match it, in the order in which they did."""

    text: str
    topics: list[str]
    groups: dict["Group", None] = field(default_factory=dict)


class Share:
    """One group's part in a pattern: its interval there, and how many of the pattern's topics it has learnt of."""

    __slots__ = ("interval_ms", "learnt", "pattern")

    def __init__(self, pattern: Pattern, interval_ms: int) -> None:
        self.pattern = pattern
        self.interval_ms = interval_ms
        self.learnt = 0


class Group(ABC):
    """Clients that get the same bytes. `pending` goes out with the next write.

    `place` is where among all bursts it stands: what was published before that it has picked. `listens` holds the
    topics it wants, with their interval in ms; of its patterns those it has learnt of. `effort` counts the topics and
    frames it has looked at since its last turn.
    """

    __slots__ = (
        "effort",
        "exact",
        "key",
        "known",
        "last_sent",
        "listens",
        "members",
        "newcomers",
        "pending",
        "place",
        "shares",
    )

    def __init__(self, key: GroupKey, last_sent: float, place: int, patterns: Mapping[str, Pattern]) -> None:
        """`patterns` holds those of the selection, by their text."""
        self.key = key
        self.last_sent = last_sent
        self.place = place
        self.members: dict[Outbox, None] = {}
        self.pending: list[Frame] = []
        self.newcomers: dict[Outbox, int] = {}
        """Who joined while something was held, and has it already from its snapshot, up to a position."""
        self.exact = {name: interval for name, interval in key.selection if name not in patterns}
        self.shares = [Share(patterns[name], interval) for name, interval in key.selection if name in patterns]
        self.listens = dict(self.exact)
        self.effort = 0
        self.known = -1
        """How many topics had spoken when it last asked what its patterns match."""
        self.learn()

    def learn(self) -> bool:
        """Listen to the topics of its patterns that have appeared since; True if there were any."""
        learnt = 0
        for share in self.shares:
            names = share.pattern.topics
            if share.learnt < len(names):
                learnt += len(names) - share.learnt
                self._listen(names[share.learnt :], share.interval_ms)
                share.learnt = len(names)
        self.effort += learnt
        return learnt > 0

    def _listen(self, names: Iterable[str], interval_ms: int) -> None:
        """Listen at this interval; of several the shortest counts."""
        listens = self.listens
        for name in names:
            if listens.get(name, interval_ms) >= interval_ms:
                listens[name] = interval_ms

    @abstractmethod
    def pick(self, burst: Burst) -> None:
        """Take what it wants of a burst and has not taken yet."""

    def joined(self, burst: Burst) -> tuple[bytes, int] | None:
        """Return all that it wants of a burst as one write, and how many frames that is; None if `pick` has to look.

        Only of a burst to which no more is added.
        """
        return None

    def gather(self) -> list[Frame]:
        """Take what is pending."""
        frames, self.pending = self.pending, []
        return frames

    def holds_anything(self) -> bool:
        """Whether something waits for a beat."""
        return False

    def unseen_by(self, outbox: Outbox) -> list[Frame]:
        """Return what is held and this member does not have yet, by id."""
        return []


class PickingGroup(Group):
    """A group without intervals: what it picks is pending at once."""

    __slots__ = ("numbered", "picker", "silent")

    def __init__(self, key: GroupKey, last_sent: float, place: int, patterns: Mapping[str, Pattern]) -> None:
        self.picker: Callable[[list[bytes]], tuple[bytes, ...]] | None = None
        """Takes what it wants from a table by topic number, at once; None until it is made."""
        self.silent: frozenset[str] = frozenset()
        """The topics that had not spoken when the picker was made."""
        self.numbered = 0
        """How many topics had spoken by then."""
        super().__init__(key, last_sent, place, patterns)

    def learn(self) -> bool:
        if not super().learn():
            return False
        self.picker = None
        return True

    def pick(self, burst: Burst) -> None:
        count = len(burst.frames)
        end = burst.first + count  # the property would take longer
        if self.place < end:
            if self.known != burst.numbers.given:
                self.known = burst.numbers.given
                self.learn()
            self.effort += count >> 2
            frames = burst.wanted(self.listens, self.place)
            if self.pending:
                self.pending += frames
            else:
                self.pending = frames
            self.place = end

    def joined(self, burst: Burst) -> tuple[bytes, int] | None:
        if self.known != burst.numbers.given:
            self.known = burst.numbers.given
            self.learn()
        if 4 * len(burst.frames) < len(self.listens):
            return None  # few of many: looking at each frame is quicker
        if not burst.rising or self.pending or self.place > burst.first or self.key.wire is not Wire.WEBSOCKET:
            return None
        picker = self.picker
        if picker is None or self.silent:
            picker = self._picker_of(burst)
            if picker is None:
                return None
        parts = picker(burst.by_number())
        self.place = burst.end
        return b"".join(parts), len(parts) - parts.count(b"")

    def _picker_of(self, burst: Burst) -> Callable[[list[bytes]], tuple[bytes, ...]] | None:
        spoken = burst.numbers.given
        if self.silent and self.numbered < spoken:
            self.effort += len(self.silent)
            self.numbered = spoken
            if not self.silent.isdisjoint(burst.numbers):
                self.picker = None
        if self.picker is None:
            numbers = burst.numbers
            self.effort += len(self.listens)
            self.silent = frozenset([topic for topic in self.exact if topic not in numbers])
            self.numbered = spoken
            wanted = sorted([numbers[topic] for topic in self.listens if topic in numbers])
            if len(wanted) > 1:  # of a single one it would not make a tuple
                self.picker = itemgetter(*wanted)
        return self.picker


class ThrottledGroup(Group):
    """A group of whose topics some have an interval: their values are `held` for the next beat of it."""

    __slots__ = ("beaten", "beats", "expect", "held", "interval_ms", "intervals", "mixed", "ripe")

    def __init__(
        self,
        key: GroupKey,
        last_sent: float,
        place: int,
        patterns: Mapping[str, Pattern],
        expect: Callable[["ThrottledGroup", int], None],
    ) -> None:
        """`expect` is called with an interval when something waits for its next beat."""
        self.expect = expect
        self.held: dict[int, dict[str, Frame]] = {}
        self.ripe: set[int] = set()
        """The intervals whose beat has come: what is held for them goes out with the group's next turn."""
        self.beats: dict[int, object] = {}
        """By interval, the beat that is to come."""
        self.beaten: dict[int, int] = {}
        """By interval, the number of the last beat."""
        self.intervals = frozenset([interval for _, interval in key.selection])
        self.mixed = len(self.intervals) > 1
        self.interval_ms = max(self.intervals)
        """The interval of all its topics, unless they are `mixed`."""
        super().__init__(key, last_sent, place, patterns)

    def pick(self, burst: Burst) -> None:
        end = burst.first + len(burst.frames)  # the property would take longer
        if self.place >= end:
            return
        if self.known != burst.numbers.given:
            self.known = burst.numbers.given
            self.learn()
        newest = None if self.mixed or self.place > burst.first else burst.newest_values()
        if newest is None:
            self._take_each(burst)
        else:
            self._take_newest(newest)
        self.place = end

    def _take_each(self, burst: Burst) -> None:
        frames = burst.wanted(self.listens, self.place)
        self.effort += (len(burst.frames) >> 2) + HELD_EFFORT * len(frames)
        for frame in frames:
            if frame.log or not frame.topic:
                self.release()  # what may not wait must not overtake lower ids either
                self.pending.append(frame)
            elif interval_ms := self.listens[frame.topic]:
                self.hold(frame, interval_ms)
            else:
                self.pending.append(frame)

    def _take_newest(self, newest: Mapping[str, Frame]) -> None:
        """Hold at once what a group with one interval would hold in the end."""
        listens = self.listens
        fewer, others = (newest, listens) if len(newest) < len(listens) else (listens, newest)
        self.effort += len(fewer)
        interval_ms = self.interval_ms
        held = self.held.get(interval_ms)
        if held is not None:
            for topic in fewer:
                if topic in others:
                    held[topic] = newest[topic]
        elif frames := {topic: newest[topic] for topic in fewer if topic in others}:
            self._begin_to_hold(interval_ms, frames)

    def hold(self, frame: Frame, interval_ms: int) -> None:
        """Keep the newest value of a topic for the next beat."""
        if self.mixed:
            frame.overtaken = True
        held = self.held.get(interval_ms)
        if held is None:
            self._begin_to_hold(interval_ms, {frame.topic: frame})
        else:
            held[frame.topic] = frame

    def _begin_to_hold(self, interval_ms: int, frames: dict[str, Frame]) -> None:
        self.held[interval_ms] = frames
        if interval_ms not in self.ripe:
            self.expect(self, interval_ms)

    def release(self, interval_ms: int | None = None) -> None:
        """Make pending what is held (for one interval, or all), in id order."""
        chosen = list(self.held) if interval_ms is None else [interval_ms]
        frames = [frame for each in chosen for frame in self.held.pop(each, {}).values()]
        self.effort += HELD_EFFORT * len(frames)
        self.pending += sorted(frames, key=_seq)

    def gather(self) -> list[Frame]:
        """Take what is pending, with what is held for the beats that have come."""
        if not self.ripe and not self.pending:
            return []
        for interval_ms in self.ripe:
            self.release(interval_ms)
        self.ripe.clear()
        return super().gather()

    def holds_anything(self) -> bool:
        return bool(self.held)

    def unseen_by(self, outbox: Outbox) -> list[Frame]:
        seen = self.newcomers.get(outbox, 0)
        unseen = [frame for held in self.held.values() for frame in held.values() if frame.seq > seen]
        return sorted(unseen, key=_seq)


class Listeners:
    """Who listens to one topic: the groups that name it, and once it has spoken the patterns that match it."""

    __slots__ = ("naming", "patterns")

    def __init__(self) -> None:
        self.naming: dict[Group, None] = {}
        self.patterns: dict[Pattern, None] = {}

    def __bool__(self) -> bool:
        return bool(self.naming or self.patterns)


class Groups:
    """All groups, and for each topic who listens to it.

    A topic meets the patterns when it first speaks. That costs the few steps of a search in a tree: the groups of
    those patterns learn of it when they next have a turn.
    """

    def __init__(self, expect: Callable[[ThrottledGroup, int], None]) -> None:
        """`expect` is told which throttled group waits for the next beat of which interval."""
        self.expect = expect
        self.by_key: dict[GroupKey, Group] = {}
        self.listeners: dict[str, Listeners] = {}
        self.numbers = Numbers()
        self.spoken = TopicTree()
        self.patterns: PatternTree[Pattern] = PatternTree()

    def of(self, wire: Wire, selection: Mapping[str, int], now: float, place: int = 0) -> Group:
        """Return the group with this selection (selector → interval in ms); a new one begins at a place."""
        intervals = sorted({interval for interval in selection.values() if interval})
        phases = tuple((interval, phase(now, interval)) for interval in intervals)
        key = GroupKey(wire, frozenset(selection.items()), phases)
        group = self.by_key.get(key)
        if group is None:
            group = self.by_key[key] = self._founded(key, now, place)
        return group

    def _founded(self, key: GroupKey, now: float, place: int) -> Group:
        patterns = {name: self._pattern(name) for name, _ in key.selection if topics.is_pattern(name)}
        group: Group
        if key.phases:
            group = ThrottledGroup(key, now, place, patterns, self.expect)
        else:
            group = PickingGroup(key, now, place, patterns)
        for pattern in patterns.values():
            pattern.groups[group] = None
        for topic in group.exact:
            self._listeners(topic).naming[group] = None
        return group

    def _pattern(self, text: str) -> Pattern:
        pattern = self.patterns.get(text)
        if pattern is None:
            pattern = Pattern(text, self.spoken.matching(text))
            self.patterns.put(text, pattern)
            for topic in pattern.topics:
                self.listeners[topic].patterns[pattern] = None
        return pattern

    def _listeners(self, topic: str) -> Listeners:
        listeners = self.listeners.get(topic)
        if listeners is None:
            listeners = self.listeners[topic] = Listeners()
        return listeners

    def topic_appeared(self, topic: str) -> None:
        """Let a topic that speaks for the first time join the patterns that match it."""
        if topic in self.numbers:
            return
        self.numbers.give(topic)
        self.spoken.add(topic)
        listeners = self._listeners(topic)
        for pattern in self.patterns.matching(topic):
            pattern.topics.append(topic)
            listeners.patterns[pattern] = None

    def topic_vanished(self, topic: str) -> None:
        """Forget a topic to which no group listens."""
        if topic in self.numbers and not self.is_listened(topic):
            self.numbers.take_back(topic)
            self.spoken.remove(topic)
            del self.listeners[topic]

    def is_listened(self, topic: str) -> bool:
        """Whether somebody would get an event of this topic."""
        if self.listeners.get(topic):
            return True
        return topic not in self.numbers and bool(self.patterns.matching(topic))

    def naming(self, topic: str) -> list[Group]:
        """Return the groups that have selected this very topic."""
        listeners = self.listeners.get(topic)
        return list(listeners.naming) if listeners is not None else []

    def wanting(self, burst: Burst) -> dict[Group, None]:
        """Return the groups that may want something of a burst."""
        told: list[dict[Group, None]] = []
        patterns: dict[Pattern, None] = {}
        for topic in dict.fromkeys(burst.topics):
            listeners = self.listeners.get(topic)
            if listeners is not None:
                told.append(listeners.naming)
                if listeners.patterns:
                    patterns.update(listeners.patterns)
        told += [pattern.groups for pattern in patterns]
        if sum(map(len, told)) >= len(self.by_key):
            return dict.fromkeys(self.by_key.values())  # each once; asking who exactly would cost more
        found: dict[Group, None] = {}
        for groups in told:
            found.update(groups)
        return found

    def dissolve_if_empty(self, group: Group) -> bool:
        """Forget a group without members; True if it had none."""
        if group.members or self.by_key.get(group.key) is not group:
            return False
        del self.by_key[group.key]
        for topic in group.exact:
            listeners = self.listeners[topic]
            listeners.naming.pop(group, None)
            if not listeners and topic not in self.numbers:
                del self.listeners[topic]
        for share in group.shares:
            self._leave_pattern(share.pattern, group)
        return True

    def _leave_pattern(self, pattern: Pattern, group: Group) -> None:
        pattern.groups.pop(group, None)
        if not pattern.groups:
            self.patterns.remove(pattern.text)
            for topic in pattern.topics:
                self.listeners[topic].patterns.pop(pattern, None)


def phase(now: float, interval_ms: int) -> int:
    """Return the phase whose beat was last."""
    return int(now / (interval_ms / 1000 / PHASES)) % PHASES


def _seq(frame: Frame) -> int:
    return frame.seq

"""Subscription sets that share one joined write.

Clients with the same transport form and the same selection are one group: what it gets in a loop turn is joined once
and written once to each member. A client with a selection of its own is a group of one and pays no more than that.

An event is not handed to the groups that want it: with thousands of them that would hold up the loop. It is put into
a burst, and when its turn to be written comes, each group picks its own out of that. Only a group with an interval is
handed each event, because it has to be held for its beat.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter

from feeds import topics
from stream_server.envelope import Frame, Wire
from stream_server.outbox import Outbox

PHASES = 8
"""Members of a throttled group share its beat. A new one joins the phase that has just passed, so that after its
snapshot it waits at least 7/8 of its interval."""


@dataclass(frozen=True, slots=True)
class GroupKey:
    """What members have in common: form, selection with its intervals in ms, and the phase of each interval."""

    wire: Wire
    selection: frozenset[tuple[str, int]]
    phases: tuple[tuple[int, int], ...]


@dataclass(slots=True, eq=False)
class Group:
    """`pending` goes out with the next flush, `held` with the next beat of its interval.

    A group without intervals `picks` from bursts, and has all it wants of what was said up to its `place`.
    `newcomers` joined while something was held, and have it already from their snapshot, up to a position.
    """

    key: GroupKey
    last_sent: float
    place: int = 0
    members: dict[Outbox, None] = field(default_factory=dict)
    listens: dict[str, int] = field(default_factory=dict)
    pending: list[Frame] = field(default_factory=list)
    held: dict[int, dict[str, Frame]] = field(default_factory=dict)
    newcomers: dict[Outbox, int] = field(default_factory=dict)
    picks: bool = field(init=False)
    picker: Callable[[list[bytes]], tuple[bytes, ...]] | None = None
    """Takes what it wants from a table by topic number, at once; None until it is made."""
    exact: dict[str, int] = field(init=False)
    patterns: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.picks = not self.key.phases
        self.exact, self.patterns = {}, {}
        for selector, interval in self.key.selection:
            (self.patterns if topics.is_pattern(selector) else self.exact)[selector] = interval

    def interval_of(self, topic: str) -> int | None:
        """The shortest interval, in ms, that the selection asks for this topic; None if it does not want it."""
        wanted = [interval for pattern, interval in self.patterns.items() if topics.matches(pattern, topic)]
        if topic in self.exact:
            wanted.append(self.exact[topic])
        return min(wanted, default=None)

    def gather(self) -> list[Frame]:
        """Take what is pending."""
        frames, self.pending = self.pending, []
        return frames

    def pick(self, burst: "Burst") -> None:
        """Make pending what it wants of a burst and has not taken yet."""
        if self.picks and self.place < burst.end:
            self.pending += burst.wanted(self.listens, self.place)
            self.place = burst.end

    def hold(self, frame: Frame, interval: int) -> bool:
        """Keep the newest value of a topic for the next beat; True if it is the first to wait for that beat."""
        held = self.held.get(interval)
        if held is None:
            self.held[interval] = {frame.topic: frame}
            return True
        held[frame.topic] = frame
        return False

    def release(self, interval: int | None = None) -> None:
        """Let what is held (for one interval, or all) out with the next flush, in id order."""
        chosen = list(self.held) if interval is None else [interval]
        frames = [frame for each in chosen for frame in self.held.pop(each, {}).values()]
        self.pending += sorted(frames, key=lambda frame: frame.seq)


class Numbers(dict[str, int]):
    """The number of each topic. A topic that is forgotten gives its number to the next new one.

    A `dict` itself, because a burst looks up the number of every event.
    """

    def __init__(self) -> None:
        super().__init__()
        self.free: list[int] = []

    @property
    def size(self) -> int:
        """One more than the highest number in use."""
        return len(self) + len(self.free)

    def give(self, topic: str) -> None:
        """Number a topic, if it has no number yet."""
        if topic not in self:
            self[topic] = self.free.pop() if self.free else len(self)

    def take_back(self, topic: str) -> None:
        """Free the number of a topic."""
        number = self.pop(topic, None)
        if number is not None:
            self.free.append(number)


class Burst:
    """What was said one after another while nothing was written. A place in it counts from the start of all bursts.

    Topics have numbers in the order in which they first spoke. A feed that tells them in the same order again makes a
    `rising` burst, of which a group takes its own from a table by number: neither searched nor sorted.
    """

    __slots__ = ("began_at", "first", "frames", "highest", "numbers", "placed", "places", "rising", "table", "topics")

    def __init__(self, first: int, numbers: Numbers) -> None:
        self.first = first
        self.began_at: float | None = None
        """When the first of what is written with it was said; None while there is nothing."""
        self.numbers = numbers
        self.frames: list[Frame] = []
        self.topics: list[str] = []
        self.rising = True
        self.highest = -1
        self.places: dict[str, list[int]] = {}
        self.placed = 0
        self.table: list[bytes] = []

    @property
    def end(self) -> int:
        """The place after the last one."""
        return self.first + len(self.frames)

    def add(self, topic: str, frame: Frame) -> None:
        """Say something to all who listen to a topic."""
        number = self.numbers.get(topic, -1)
        self.rising = self.rising and number > self.highest
        self.highest = number
        self.frames.append(frame)
        self.topics.append(topic)

    def wanted(self, listens: Mapping[str, int], place: int) -> list[Frame]:
        """The frames from a place on whose topics somebody listens to, in order."""
        start = max(0, place - self.first)
        frames = self.frames
        if start or len(frames) <= 2 * len(listens):
            told = zip(self.topics[start:], frames[start:], strict=True)
            return [frame for topic, frame in told if topic in listens]
        places = self._places()
        return [frames[each] for each in sorted([each for topic in listens for each in places.get(topic, ())])]

    def _places(self) -> dict[str, list[int]]:
        """Where in the frames each topic is."""
        for index in range(self.placed, len(self.topics)):
            self.places.setdefault(self.topics[index], []).append(index)
        self.placed = len(self.topics)
        return self.places

    def joined(self, group: Group) -> tuple[bytes, int] | None:
        """All that a group wants as one write, and how many frames that is; None if it takes a closer look.

        Only of a burst to which no more is added.
        """
        few = 4 * len(self.frames) < len(group.listens)
        if few or not self.rising or group.place > self.first or group.key.wire is not Wire.WEBSOCKET:
            return None
        picker = group.picker or self._picker(group)
        if picker is None:
            return None
        if len(self.table) < self.numbers.size:
            self.table = [b""] * self.numbers.size
            for topic, frame in zip(self.topics, self.frames, strict=True):
                self.table[self.numbers[topic]] = frame.websocket()
        parts = picker(self.table)
        return b"".join(parts), len(parts) - parts.count(b"")

    def _picker(self, group: Group) -> Callable[[list[bytes]], tuple[bytes, ...]] | None:
        numbers = sorted([self.numbers[topic] for topic in group.listens if topic in self.numbers])
        if len(numbers) > 1:  # of a single one it would not make a tuple
            group.picker = itemgetter(*numbers)
        return group.picker


class Listeners:
    """The groups that listen to one topic: those that pick from bursts, and those that are handed each event."""

    __slots__ = ("handed", "picking")

    def __init__(self) -> None:
        self.picking: dict[Group, None] = {}
        self.handed: dict[Group, int] = {}
        """With the interval in ms at which they want it, 0 for at once."""

    def add(self, group: Group, interval: int) -> None:
        """A group begins to listen."""
        if group.picks:
            self.picking[group] = None
        else:
            self.handed[group] = interval

    def discard(self, group: Group) -> None:
        """A group listens no longer."""
        self.picking.pop(group, None)
        self.handed.pop(group, None)

    def __bool__(self) -> bool:
        return bool(self.picking or self.handed)


class Groups:
    """All groups, and for each topic those that listen to it."""

    def __init__(self) -> None:
        self.by_key: dict[GroupKey, Group] = {}
        self.listeners: dict[str, Listeners] = {}
        self.numbers = Numbers()
        """Of each topic that has appeared, in that order."""

    def of(self, wire: Wire, selection: Mapping[str, int], now: float, place: int = 0) -> Group:
        """The group with this selection (selector → interval in ms); a new one begins at a place among the bursts."""
        intervals = sorted({interval for interval in selection.values() if interval})
        phases = tuple((interval, phase(now, interval)) for interval in intervals)
        key = GroupKey(wire, frozenset(selection.items()), phases)
        group = self.by_key.get(key)
        if group is None:
            group = self.by_key[key] = Group(key, last_sent=now, place=place)
            for topic in group.exact:
                self._of_topic(topic)
            known = self.listeners if group.patterns else ()
            for topic in {*group.exact, *known}:
                self._listen(group, topic)
        return group

    def topic_appeared(self, topic: str) -> None:
        """Let a new topic join the groups whose pattern matches it; those that name it wait for it already."""
        self.numbers.give(topic)
        self._of_topic(topic)
        for group in self.listeners[topic].picking:
            group.picker = None

    def topic_vanished(self, topic: str) -> None:
        """Forget a topic that no group listens to."""
        self.numbers.take_back(topic)
        if not self.listeners.get(topic, True):
            del self.listeners[topic]

    def _of_topic(self, topic: str) -> None:
        """Know a topic, from its first event or from the first who names it, whichever is earlier."""
        if topic not in self.listeners:
            self.listeners[topic] = Listeners()
            for group in self.by_key.values():
                if group.patterns:
                    self._listen(group, topic)

    def _listen(self, group: Group, topic: str) -> None:
        interval = group.interval_of(topic)
        if interval is not None:
            group.listens[topic] = interval
            self.listeners[topic].add(group, interval)

    def picking(self, burst: Burst) -> dict[Group, None]:
        """The groups that may want something of a burst."""
        told = [self.listeners[topic].picking for topic in dict.fromkeys(burst.topics) if topic in self.listeners]
        if sum(map(len, told)) >= len(self.by_key):
            return dict.fromkeys(self.by_key.values())  # each once; asking who exactly would cost more
        found: dict[Group, None] = {}
        for groups in told:
            found.update(groups)
        return found

    def dissolve_if_empty(self, group: Group) -> None:
        """Forget a group without members."""
        if not group.members and self.by_key.get(group.key) is group:
            del self.by_key[group.key]
            for topic in group.listens:
                listeners = self.listeners[topic]
                listeners.discard(group)
                if not listeners and topic not in self.numbers:
                    del self.listeners[topic]


def phase(now: float, interval_ms: int) -> int:
    """The phase whose beat was last."""
    return int(now / (interval_ms / 1000 / PHASES)) % PHASES


def next_beat(now: float, interval_ms: int, its_phase: int) -> float:
    """When a group of this interval and phase beats next, after `now`."""
    interval = interval_ms / 1000
    start = its_phase * interval / PHASES
    return start + (int((now - start) / interval) + 1) * interval

"""Subscription sets that share one joined write.

Clients with the same transport form and the same selection are one group: an event is appended once to the group,
and what has gathered by the end of the loop turn is joined once and written once to each member. A client with a
selection of its own is a group of one and pays no more than that.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

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

    `newcomers` joined while something was held, and have it already from their snapshot, up to a position.
    """

    key: GroupKey
    last_sent: float
    members: dict[Outbox, None] = field(default_factory=dict)
    listens: dict[str, int] = field(default_factory=dict)
    pending: list[Frame] = field(default_factory=list)
    held: dict[int, dict[str, Frame]] = field(default_factory=dict)
    newcomers: dict[Outbox, int] = field(default_factory=dict)
    exact: dict[str, int] = field(init=False)
    patterns: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
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
        """Take what is pending. The list itself stays, because listeners hold its `append`."""
        frames = self.pending.copy()
        self.pending.clear()
        return frames

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


class Listeners:
    """The groups that listen to one topic: those that get each value at once, and those that wait for a beat.

    `appends` holds the bound `append` of each instant group's pending list: with a thousand groups that each want
    an event, finding the method costs more than calling it.
    """

    __slots__ = ("appends", "instant", "throttled")

    def __init__(self) -> None:
        self.instant: dict[Group, None] = {}
        self.throttled: dict[Group, int] = {}
        self.appends: list[Callable[[Frame], None]] | None = []

    def add(self, group: Group, interval: int) -> None:
        """A group begins to listen."""
        if interval:
            self.throttled[group] = interval
        else:
            self.instant[group] = None
            self.appends = None

    def discard(self, group: Group) -> None:
        """A group listens no longer."""
        self.throttled.pop(group, None)
        self.instant.pop(group, None)
        self.appends = None

    def bound(self) -> list[Callable[[Frame], None]]:
        """The `append` of each instant group's pending list."""
        if self.appends is None:
            self.appends = [group.pending.append for group in self.instant]
        return self.appends

    def __iter__(self) -> Iterator[Group]:
        yield from self.instant
        yield from self.throttled

    def __bool__(self) -> bool:
        return bool(self.instant or self.throttled)


class Groups:
    """All groups, and for each topic those that listen to it."""

    def __init__(self) -> None:
        self.by_key: dict[GroupKey, Group] = {}
        self.listeners: dict[str, Listeners] = {}
        self.appeared: set[str] = set()

    def of(self, wire: Wire, selection: Mapping[str, int], now: float) -> Group:
        """The group with this selection (selector → interval in ms), made if there is none."""
        intervals = sorted({interval for interval in selection.values() if interval})
        phases = tuple((interval, phase(now, interval)) for interval in intervals)
        key = GroupKey(wire, frozenset(selection.items()), phases)
        group = self.by_key.get(key)
        if group is None:
            group = self.by_key[key] = Group(key, last_sent=now)
            for topic in group.exact:
                self._of_topic(topic)
            known = self.listeners if group.patterns else ()
            for topic in {*group.exact, *known}:
                self._listen(group, topic)
        return group

    def topic_appeared(self, topic: str) -> None:
        """Let a new topic join the groups whose pattern matches it; those that name it wait for it already."""
        self.appeared.add(topic)
        self._of_topic(topic)

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

    def dissolve_if_empty(self, group: Group) -> None:
        """Forget a group without members."""
        if not group.members and self.by_key.get(group.key) is group:
            del self.by_key[group.key]
            for topic in group.listens:
                listeners = self.listeners[topic]
                listeners.discard(group)
                if not listeners and topic not in self.appeared:
                    del self.listeners[topic]


def phase(now: float, interval_ms: int) -> int:
    """The phase whose beat was last."""
    return int(now / (interval_ms / 1000 / PHASES)) % PHASES


def next_beat(now: float, interval_ms: int, its_phase: int) -> float:
    """When a group of this interval and phase beats next, after `now`."""
    interval = interval_ms / 1000
    start = its_phase * interval / PHASES
    return start + (int((now - start) / interval) + 1) * interval

"""Keep all groups, and for each topic what listens to it."""

from collections.abc import Callable, Mapping

from feeds import topics
from stream_server.delivery.bursts import Burst, Numbers
from stream_server.delivery.group import Group, GroupKey, Pattern
from stream_server.delivery.picking import PickingGroup
from stream_server.delivery.throttling import ThrottledGroup, phase
from stream_server.delivery.word_trees import PatternTree, TopicTree
from stream_server.wire.messages import Wire


class Listeners:
    """The listeners of one topic: the groups that name it, and after its first event the patterns that match it."""

    __slots__ = ("naming", "patterns")

    def __init__(self) -> None:
        self.naming: dict[Group, None] = {}
        self.patterns: dict[Pattern, None] = {}

    def __bool__(self) -> bool:
        return bool(self.naming or self.patterns)


class Groups:
    """Finds the group of a selection, and the groups that want something of a burst.

    A topic *appears* with its first event, and meets the patterns then. That takes the few steps of a search in a tree;
    the groups of those patterns learn of the topic at their next turn.
    """

    def __init__(self, expect: Callable[[ThrottledGroup, int], None]) -> None:
        """`expect` is called when a throttled group waits for the next beat of an interval."""
        self.expect = expect
        self.by_key: dict[GroupKey, Group] = {}
        self.listeners: dict[str, Listeners] = {}
        self.numbers = Numbers()
        self.appeared = TopicTree()
        self.patterns: PatternTree[Pattern] = PatternTree()

    # --- groups ---

    def of(self, wire: Wire, selection: Mapping[str, int], now: float, place: int = 0) -> Group:
        """Return the group with this selection (selector → interval in ms); a new one begins at a place."""
        intervals = sorted({interval for interval in selection.values() if interval})
        phases = tuple((interval, phase(now, interval)) for interval in intervals)
        key = GroupKey(wire, frozenset(selection.items()), phases)
        group = self.by_key.get(key)
        if group is None:
            group = self.by_key[key] = self._new(key, now, place)
        return group

    def _new(self, key: GroupKey, now: float, place: int) -> Group:
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
            pattern = Pattern(text, self.appeared.matching(text))
            self.patterns.put(text, pattern)
            for topic in pattern.topics:
                self.listeners[topic].patterns[pattern] = None
        return pattern

    def _listeners(self, topic: str) -> Listeners:
        listeners = self.listeners.get(topic)
        if listeners is None:
            listeners = self.listeners[topic] = Listeners()
        return listeners

    def dissolve_if_empty(self, group: Group) -> bool:
        """Forget a group without members; return whether it had none."""
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

    # --- topics ---

    def topic_appeared(self, topic: str) -> None:
        """Let a topic with its first event join the patterns that match it."""
        if topic in self.numbers:
            return
        self.numbers.give(topic)
        self.appeared.add(topic)
        listeners = self._listeners(topic)
        for pattern in self.patterns.matching(topic):
            pattern.topics.append(topic)
            listeners.patterns[pattern] = None

    def topic_vanished(self, topic: str) -> None:
        """Forget a topic to which no group listens."""
        if topic in self.numbers and not self.is_listened(topic):
            self.numbers.take_back(topic)
            self.appeared.remove(topic)
            del self.listeners[topic]

    def is_listened(self, topic: str) -> bool:
        """Return whether somebody would get an event of this topic."""
        if self.listeners.get(topic):
            return True
        return topic not in self.numbers and bool(self.patterns.matching(topic))

    def naming(self, topic: str) -> list[Group]:
        """Return the groups that have selected a topic by its name."""
        listeners = self.listeners.get(topic)
        return list(listeners.naming) if listeners is not None else []

    def wanting(self, burst: Burst) -> dict[Group, None]:
        """Return the groups that may want something of a burst."""
        listening: list[dict[Group, None]] = []
        patterns: dict[Pattern, None] = {}
        for topic in dict.fromkeys(burst.topics):
            listeners = self.listeners.get(topic)
            if listeners is not None:
                listening.append(listeners.naming)
                if listeners.patterns:
                    patterns.update(listeners.patterns)
        listening += [pattern.groups for pattern in patterns]
        if sum(map(len, listening)) >= len(self.by_key):
            return dict.fromkeys(self.by_key.values())  # each once; finding the exact ones would cost more
        found: dict[Group, None] = {}
        for groups in listening:
            found.update(groups)
        return found

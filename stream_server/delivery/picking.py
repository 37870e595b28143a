"""Groups without intervals: they send what they pick from a burst at once."""

from collections.abc import Callable, Mapping
from operator import itemgetter

from stream_server.delivery.bursts import Burst
from stream_server.delivery.group import Group, GroupKey, Pattern
from stream_server.wire.messages import Wire

Picker = Callable[[list[bytes]], tuple[bytes, ...]]
"""Takes the frames that a group wants from a table by topic number, in one call."""


class PickingGroup(Group):
    """A group without intervals: what it picks is pending at once."""

    __slots__ = ("numbered", "picker", "silent")

    def __init__(self, key: GroupKey, last_sent: float, place: int, patterns: Mapping[str, Pattern]) -> None:
        self.picker: Picker | None = None
        """None until it is made, and again after the group has learnt of new topics."""
        self.silent: frozenset[str] = frozenset()
        """The topics by name that had not appeared when the picker was made."""
        self.numbered = 0
        """Number of topics that had appeared by then."""
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

    def _picker_of(self, burst: Burst) -> Picker | None:
        """Return a picker for all topics that have appeared; None for fewer than two topics."""
        appeared = burst.numbers.given
        if self.silent and self.numbered < appeared:
            self.effort += len(self.silent)
            self.numbered = appeared
            if not self.silent.isdisjoint(burst.numbers):
                self.picker = None
        if self.picker is None:
            numbers = burst.numbers
            self.effort += len(self.listens)
            self.silent = frozenset([topic for topic in self.exact if topic not in numbers])
            self.numbered = appeared
            wanted = sorted([numbers[topic] for topic in self.listens if topic in numbers])
            if len(wanted) > 1:  # `itemgetter` makes a tuple only of two or more
                self.picker = itemgetter(*wanted)
        return self.picker

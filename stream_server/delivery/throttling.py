"""Groups with intervals: they hold the newest value of each topic for the next beat."""

from collections.abc import Callable, Mapping

from stream_server.delivery.bursts import Burst
from stream_server.delivery.group import Group, GroupKey, Pattern
from stream_server.delivery.outbox import Outbox
from stream_server.wire.messages import Frame

PHASES = 8
"""The members of a throttled group share its beat. A client joins the phase that has just passed, so that after its
snapshot it waits at least 7/8 of its interval."""

HELD_EFFORT = 3
"""Holding a value takes this many times as long as picking it."""


class ThrottledGroup(Group):
    """A group with an interval for some of its topics: values of these are held for the next beat of the interval."""

    __slots__ = ("beaten", "expect", "held", "interval_ms", "intervals", "mixed", "ripe")

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
        """By interval in ms, the newest value of each topic."""
        self.ripe: set[int] = set()
        """The intervals whose beat has come: what is held for them goes out with the group's next turn."""
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
        """Hold the newest values of a whole burst at once. Only for a group with one interval."""
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
            frame.be_overtaken()
        held = self.held.get(interval_ms)
        if held is None:
            self._begin_to_hold(interval_ms, {frame.topic: frame})
        else:
            held[frame.topic] = frame

    def _begin_to_hold(self, interval_ms: int, frames: dict[str, Frame]) -> None:
        self.held[interval_ms] = frames
        if interval_ms not in self.ripe:
            self.expect(self, interval_ms)

    def ripen(self, interval_ms: int, number: int) -> None:
        """Let what is held for an interval go out with the next turn: the beat with this number has come."""
        self.beaten[interval_ms] = number
        self.ripe.add(interval_ms)

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


def phase(now: float, interval_ms: int) -> int:
    """Return the phase whose beat was last."""
    return int(now / (interval_ms / 1000 / PHASES)) % PHASES


def _seq(frame: Frame) -> int:
    return frame.seq

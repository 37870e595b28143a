"""The beats of throttled groups: when what is held for an interval goes out.

A group and interval have at most one beat to come, which ends with the group. A few timers serve all of them. A timer
may fire early; what is due is let out at its time or after it, and never twice for one beat.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from orchestrator.clock import Clock
from stream_server.delivery.throttling import PHASES, ThrottledGroup

LONGEST_SLEEP_S = 1.0
"""Timers cannot be taken back: short ones do not gather while clients change their intervals."""
SHORTEST_SLEEP_S = 0.001
SAME_TIME_S = 1e-6
"""Times that differ by less differ by rounding."""
DEAD_KEPT = 64
"""Beats whose group has gone stay in the heap until there are more of them than this and than others."""


class Timers(Protocol):
    """Calls back later."""

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Call after a delay."""


@dataclass(slots=True, order=True)
class Beat:
    """The beat of one group and interval; without a `group` it is of no use any more."""

    due: float
    order: int
    group: ThrottledGroup | None = field(compare=False)
    interval_ms: int = field(compare=False)
    number: int = field(compare=False)


class Beats:
    """Tells each group when what it holds for an interval is ripe."""

    def __init__(self, clock: Clock, timers: Timers, ripen: Callable[[ThrottledGroup], None]) -> None:
        """`ripen` gives a group its turn to write what is ripe. It is called once a beat, and must be quick."""
        self.clock = clock
        self.timers = timers
        self.ripen = ripen
        self.heap: list[Beat] = []
        self.count = 0
        self.dead = 0
        self.wakeups: list[float] = []
        """When the timers fire that are on their way."""

    def __len__(self) -> int:
        """Return how many beats are to come."""
        return len(self.heap) - self.dead

    def expect(self, group: ThrottledGroup, interval_ms: int) -> None:
        """Let this group have its next beat of an interval. It is one beat, however often it is asked for."""
        if interval_ms in group.beats:
            return
        its_phase = dict(group.key.phases)[interval_ms]
        number = next_beat(self.clock.now(), interval_ms, its_phase)
        last = group.beaten.get(interval_ms)
        if last is not None and number <= last:
            number = last + 1
        self.count += 1
        beat = Beat(time_of(number, interval_ms, its_phase), self.count, group, interval_ms, number)
        group.beats[interval_ms] = beat
        heapq.heappush(self.heap, beat)
        self._schedule()

    def discard(self, group: ThrottledGroup) -> None:
        """Forget the beats of a group that is no more."""
        for beat in group.beats.values():
            if isinstance(beat, Beat):
                beat.group = None
                self.dead += 1
        group.beats.clear()
        if self.dead > max(DEAD_KEPT, len(self.heap) // 2):
            self.heap = [beat for beat in self.heap if beat.group is not None]
            heapq.heapify(self.heap)
            self.dead = 0

    def wake(self, at: float) -> None:
        """Take the beats that are due. A timer that was set for this time has fired, perhaps early."""
        if at in self.wakeups:
            self.wakeups.remove(at)
        self.take_due()

    def take_due(self) -> None:
        """Ripen what is due, also before its timer has fired."""
        now = self.clock.now()
        try:
            while self.heap and self.heap[0].due <= now + SAME_TIME_S:
                beat = heapq.heappop(self.heap)
                group = beat.group
                if group is None:
                    self.dead -= 1
                    continue
                del group.beats[beat.interval_ms]
                group.beaten[beat.interval_ms] = beat.number
                group.ripe.add(beat.interval_ms)
                self.ripen(group)
        finally:
            self._schedule()

    def _schedule(self) -> None:
        if not self.heap:
            return
        now = self.clock.now()
        delay_s = min(LONGEST_SLEEP_S, max(SHORTEST_SLEEP_S, self.heap[0].due - now))
        if not self.wakeups or min(self.wakeups) > now + delay_s + SAME_TIME_S:
            self.timers.later(delay_s, partial(self.wake, now + delay_s))
            self.wakeups.append(now + delay_s)


def next_beat(now: float, interval_ms: int, its_phase: int) -> int:
    """Return the number of the next beat of an interval and phase after `now`."""
    interval_s = interval_ms / 1000
    return int((now - its_phase * interval_s / PHASES) / interval_s) + 1


def time_of(number: int, interval_ms: int, its_phase: int) -> float:
    """Return when a beat is due."""
    return (number + its_phase / PHASES) * interval_ms / 1000

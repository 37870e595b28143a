"""The beats of throttled groups: the times at which values that are held for an interval go out.

A group has at most one beat to come for each interval, and it ends with the group. A few timers serve all beats. A
timer may fire early; values go out at the time of their beat or after it, and never twice for one beat.
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
"""Dead beats stay in the heap until there are more than this many and more of them than of the others."""


class Timers(Protocol):
    """Calls back later."""

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Call after a delay."""


@dataclass(slots=True, order=True)
class Beat:
    """The beat of one group and interval. It is dead once its group is gone."""

    due: float
    order: int
    group: ThrottledGroup | None = field(compare=False)
    interval_ms: int = field(compare=False)
    number: int = field(compare=False)

    def die(self) -> None:
        """Let go of the group: a dead beat must not keep it in memory."""
        self.group = None


class Beats:
    """Calls each group when the values it holds for an interval may go out."""

    def __init__(self, clock: Clock, timers: Timers, give_turn: Callable[[ThrottledGroup], None]) -> None:
        """`give_turn` lets a group write what is ripe. It is called once a beat, and must be quick."""
        self.clock = clock
        self.timers = timers
        self.give_turn = give_turn
        self.heap: list[Beat] = []
        self.to_come: dict[ThrottledGroup, dict[int, Beat]] = {}
        """By group and interval in ms, the beat that is to come."""
        self.count = 0
        self.dead = 0
        """Number of dead beats in the heap."""
        self.wakeups: list[float] = []
        """When the timers fire that are set."""

    def __len__(self) -> int:
        """Return how many beats are to come."""
        return len(self.heap) - self.dead

    def expect(self, group: ThrottledGroup, interval_ms: int) -> None:
        """Schedule the next beat of a group and interval. It is one beat, however often it is asked for."""
        beats = self.to_come.setdefault(group, {})
        if interval_ms in beats:
            return
        its_phase = dict(group.key.phases)[interval_ms]
        number = next_beat(self.clock.now(), interval_ms, its_phase)
        last = group.beaten.get(interval_ms)
        if last is not None and number <= last:
            number = last + 1
        self.count += 1
        beat = Beat(time_of(number, interval_ms, its_phase), self.count, group, interval_ms, number)
        beats[interval_ms] = beat
        heapq.heappush(self.heap, beat)
        self._schedule()

    def discard(self, group: ThrottledGroup) -> None:
        """Forget the beats of a group that is gone."""
        for beat in self.to_come.pop(group, {}).values():
            beat.die()
            self.dead += 1
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
        """Take the beats that are due, also before their timer has fired."""
        now = self.clock.now()
        try:
            while self.heap and self.heap[0].due <= now + SAME_TIME_S:
                beat = heapq.heappop(self.heap)
                group = beat.group
                if group is None:
                    self.dead -= 1
                    continue
                self._remove(group, beat.interval_ms)
                group.ripen(beat.interval_ms, beat.number)
                self.give_turn(group)
        finally:
            self._schedule()

    def _remove(self, group: ThrottledGroup, interval_ms: int) -> None:
        beats = self.to_come[group]
        del beats[interval_ms]
        if not beats:
            del self.to_come[group]

    def _schedule(self) -> None:
        """Set a timer for the next beat, unless one that is set fires early enough."""
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

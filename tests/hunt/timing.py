"""A clock and scheduler that a program turns, with timers that fire early, on time or late."""

import heapq
from bisect import bisect_left
from collections.abc import Callable

START_MS = 1_795_305_600_000
EARLY_S = 0.0009
"""uvloop rounds to whole milliseconds, so a timer may fire up to one too early."""
TURNS_AT_ONCE = 20_000


class Endless(Exception):
    """The loop never came to rest."""


class HuntClock:
    """A `Clock` and a `Scheduler`. `run` guards each callback; `lags` has when one ran late, and by how much."""

    def __init__(self) -> None:
        self.seconds = 5000.0
        self.run: Callable[[Callable[[], None]], None] = lambda call: call()
        self.timers: list[tuple[float, int, Callable[[], None]]] = []
        self.soon_calls: list[tuple[float, Callable[[], None]]] = []
        self.count = 0
        self.turns = 0
        self.lags: list[tuple[float, float]] = []

    def now(self) -> float:
        return self.seconds

    def wall_ms(self) -> int:
        return START_MS + round((self.seconds - 5000.0) * 1000)

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError("the hub never waits")

    def soon(self, call: Callable[[], None]) -> None:
        """Run a call at the next turn."""
        self.soon_calls.append((self.seconds, call))

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Run a call after a delay."""
        self.count += 1
        heapq.heappush(self.timers, (self.seconds + max(0.0, delay_s), self.count, call))

    @property
    def pending(self) -> int:
        """Number of timers that wait."""
        return len(self.timers)

    def turn(self) -> None:
        """Run one turn of the loop."""
        self.turns += 1
        calls, self.soon_calls = self.soon_calls, []
        for since, call in calls:
            self._note(since)
            self.run(call)

    def rest(self) -> None:
        """Turn until nothing is left to do at this time."""
        for _ in range(TURNS_AT_ONCE):
            if not self.soon_calls:
                return
            self.turn()
        raise Endless("the loop turns without end")

    def jump(self, seconds: float) -> None:
        """Let time go by while nothing runs: the process stands still."""
        self.seconds += seconds

    def advance(self, seconds: float, off_s: float = 0.0) -> None:
        """Let time go by; each timer fires `off_s` after its time, or before it if that is negative."""
        end = self.seconds + seconds
        self.rest()
        while self.timers and self.timers[0][0] + off_s <= end:
            due, _, call = heapq.heappop(self.timers)
            self.seconds = max(self.seconds, due + off_s)
            self._note(due)
            self.run(call)
            self.rest()
        self.seconds = max(self.seconds, end)

    def _note(self, due: float) -> None:
        if self.seconds - due > EARLY_S:
            self.lags.append((self.seconds, self.seconds - due))

    def lag_since(self, start: float) -> float:
        """Return by how much the latest callback since a time was late."""
        found = self.lags[bisect_left(self.lags, (start, 0.0)) :]
        return max((lag for _, lag in found), default=0.0)

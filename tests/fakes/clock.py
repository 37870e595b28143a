"""A clock that a test advances."""

import asyncio
import heapq
from collections.abc import Callable

START_MS = 1_795_305_600_000
"""2026-11-22 00:00 UTC."""


class ManualClock:
    """A `Clock` that stands still until `advance` is called, which also wakes its sleepers.

    It is a hub `Scheduler` too: `turn()` runs calls of `soon`; `advance` runs those of `later` that are due.
    """

    def __init__(self, wall_ms: int = START_MS) -> None:
        self.seconds = 1000.0
        self.started_ms = wall_ms
        self.sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self.calls: list[tuple[float, int, Callable[[], None]]] = []
        self.next_turn: list[Callable[[], None]] = []
        self.number = 0

    def now(self) -> float:
        return self.seconds

    def wall_ms(self) -> int:
        return self.started_ms + round((self.seconds - 1000.0) * 1000)

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.number += 1
        heapq.heappush(self.sleepers, (self.seconds + max(0.0, seconds), self.number, woken))
        await woken

    def soon(self, call: Callable[[], None]) -> None:
        """Run a call at the next turn."""
        self.next_turn.append(call)

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Run a call when the clock has advanced by `delay_s`."""
        self.number += 1
        heapq.heappush(self.calls, (self.seconds + delay_s, self.number, call))

    def turn(self) -> None:
        """Run the calls of `soon`, like one turn of an event loop."""
        calls, self.next_turn = self.next_turn, []
        for call in calls:
            call()

    def advance(self, seconds: float) -> None:
        """Advance the clock; run every call at its due time, and wake sleepers whose time has come."""
        end = self.seconds + seconds
        self.turn()
        while self.calls and self.calls[0][0] <= end:
            due, _, call = heapq.heappop(self.calls)
            self.seconds = max(self.seconds, due)
            call()
            self.turn()
        self.seconds = end
        while self.sleepers and self.sleepers[0][0] <= end:
            _, _, woken = heapq.heappop(self.sleepers)
            if not woken.done():
                woken.set_result(None)

"""Time that a test turns by hand."""

import asyncio
import heapq
from collections.abc import Callable

START_MS = 1_795_305_600_000
"""2026-11-22 00:00 UTC."""


class ManualClock:
    """A `Clock` that stands still until `advance` is called; who sleeps on it is woken then.

    It is a hub `Scheduler` too: `soon` runs at `turn()`, `later` when its time has come and `advance` turns.
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
        """Run it at the next turn."""
        self.next_turn.append(call)

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Run it once the clock has been advanced that far."""
        self.number += 1
        heapq.heappush(self.calls, (self.seconds + delay_s, self.number, call))

    def turn(self) -> None:
        """One turn of the loop: run what was asked for `soon`."""
        calls, self.next_turn = self.next_turn, []
        for call in calls:
            call()

    def advance(self, seconds: float) -> None:
        """Turn the hands, running what falls due on the way at its own time, and wake who has slept enough."""
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

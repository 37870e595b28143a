"""Time is given: whatever waits or measures takes a `Clock`, so that tests can turn the hands."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock for durations, and a wall clock for stamps."""

    def now(self) -> float:
        """Return the seconds on a clock that never jumps; only differences mean anything."""

    def wall_ms(self) -> int:
        """Return the Unix time in milliseconds."""

    async def sleep(self, seconds: float) -> None:
        """Wait; not at all for a negative duration."""


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> float:
        return time.monotonic()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))

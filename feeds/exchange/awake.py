"""Measure time without the pauses of this process, because a stalled loop receives nothing from a living stream.

The clock is read at least every second by the judge of silence; between two readings it advances by a second at most.
"""

from dataclasses import dataclass, field

from orchestrator.clock import Clock

STOOD_STILL_S = 1.0
"""A reading that comes later than this after the last one shows that the loop stood still."""


@dataclass(slots=True)
class AwakeTime:
    """Counts monotonic seconds without the pauses of this process, and the pauses."""

    clock: Clock
    pauses: int = 0
    read_at: float = field(init=False)
    awake_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.read_at = self.awake_s = self.clock.now()

    def now(self) -> float:
        """Return the time, which has advanced by a second at most since the last reading."""
        now = self.clock.now()
        passed_s, self.read_at = now - self.read_at, now
        if passed_s > STOOD_STILL_S + 1e-6:
            self.pauses += 1
        self.awake_s += min(passed_s, STOOD_STILL_S)
        return self.awake_s

"""Time that leaves out what this process slept through: a stalled loop hears nobody, which says nothing of a stream.

Whoever judges silence reads it at least every second; between two readings no more than that passes.
"""

from dataclasses import dataclass, field

from orchestrator.clock import Clock

STOOD_STILL_S = 1.0
"""A reading that comes so late after the last one tells that the loop stood still, not that time was busy."""


@dataclass(slots=True)
class AwakeTime:
    """Monotonic seconds, without the pauses of this process. `pauses` counts them."""

    clock: Clock
    pauses: int = 0
    read_at: float = field(init=False)
    awake_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.read_at = self.awake_s = self.clock.now()

    def now(self) -> float:
        """Return the time, which has gone on by a second at most since it was read last."""
        now = self.clock.now()
        passed_s, self.read_at = now - self.read_at, now
        if passed_s > STOOD_STILL_S + 1e-6:
            self.pauses += 1
        self.awake_s += min(passed_s, STOOD_STILL_S)
        return self.awake_s

"""How late the event loop runs, and how long it stood still."""

import logging
from collections import deque
from dataclasses import dataclass, field

from orchestrator.clock import Clock
from stream_server.delivery.meters import ANSWER_BOUNDS_S, Histogram

log = logging.getLogger(__name__)

TURN_S = 0.1
TURNS_KEPT = 600
"""Those of one minute."""
STOOD_STILL_S = 1.0
"""A lag from this on is not load: the loop was blocked, or the whole process was paused."""
TROUBLE_S = 10.0
"""How long the process is not ready after it stood still."""


@dataclass(slots=True)
class LoopMonitor:
    """Measures the lag of the event loop. `paused_s` is the time that it stood still in all."""

    clock: Clock
    lags_s: deque[float] = field(default_factory=lambda: deque(maxlen=TURNS_KEPT))
    """The lags of the last minute."""
    lags: Histogram = field(default_factory=lambda: Histogram(ANSWER_BOUNDS_S))
    """All lags since the start."""
    paused_s: float = 0.0
    paused_at: float = float("-inf")
    last_pause_s: float = 0.0

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            due = self.clock.now() + TURN_S
            await self.clock.sleep(TURN_S)
            self.note(max(0.0, self.clock.now() - due))

    def note(self, lag_s: float) -> None:
        """Note how late the loop called a timer."""
        self.lags_s.append(lag_s)
        self.lags.observe(lag_s)
        if lag_s >= STOOD_STILL_S:
            self.paused_s += lag_s
            self.paused_at, self.last_pause_s = self.clock.now(), lag_s
            log.warning("stood_still", extra={"seconds": round(lag_s, 2)})

    def trouble(self) -> str | None:
        """Return why this process should get no new clients now; None if it should."""
        if self.clock.now() - self.paused_at < TROUBLE_S:
            return f"stood still for {self.last_pause_s:.1f} s"
        return None

    def report(self) -> dict[str, object]:
        """Return the lags of the last minute and the time it stood still, for people."""
        lags = sorted(self.lags_s) or [0.0]
        return {
            "loop_lag_ms": {
                "p50": _ms(lags[len(lags) // 2]),
                "p99": _ms(lags[min(len(lags) - 1, len(lags) * 99 // 100)]),
                "max": _ms(lags[-1]),
            },
            "paused_s": round(self.paused_s, 2),
        }


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)

"""How the process itself does: how late its event loop turns, how long it stood still, and which of its loops fell."""

import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from orchestrator.clock import Clock
from orchestrator.retry import Backoff
from stream_server.delivery.meters import ANSWER_BOUNDS_S, Histogram

log = logging.getLogger(__name__)

TURN_S = 0.1
TURNS_KEPT = 600
"""A minute's."""
STOOD_STILL_S = 1.0
"""Later than this is no load any more: the loop was blocked, or the whole process was paused."""
TROUBLE_S = 10.0
"""For how long after it the process is not ready."""
STEADY_S = 60.0


@dataclass(slots=True)
class Pulse:
    """`paused_s` is how long it stood still in all; `down` names the background loops that wait to be restarted."""

    clock: Clock
    rng: random.Random
    lags_s: deque[float] = field(default_factory=lambda: deque(maxlen=TURNS_KEPT))
    paused_s: float = 0.0
    paused_at: float = float("-inf")
    last_pause_s: float = 0.0
    lags: Histogram = field(default_factory=lambda: Histogram(ANSWER_BOUNDS_S))
    """Since the start; `lags_s` are those of the last minute."""
    crashes: dict[str, int] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)

    async def run(self) -> None:
        """Measure for ever."""
        while True:
            due = self.clock.now() + TURN_S
            await self.clock.sleep(TURN_S)
            self.turned(max(0.0, self.clock.now() - due))

    def turned(self, lag_s: float) -> None:
        """The loop came to us this late."""
        self.lags_s.append(lag_s)
        self.lags.observe(lag_s)
        if lag_s >= STOOD_STILL_S:
            self.paused_s += lag_s
            self.paused_at, self.last_pause_s = self.clock.now(), lag_s
            log.warning("stood_still", extra={"seconds": round(lag_s, 2)})

    async def keep(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run a background loop for ever: one that falls is restarted, ever later, and loudly."""
        backoff = Backoff(0.25, 30.0, self.rng)
        while True:
            started = self.clock.now()
            try:
                await run()
            except Exception:  # a fault of ours must not end heartbeats or freshness for everyone
                self.crashes[name] = self.crashes.get(name, 0) + 1
                log.exception("background_crashed", extra={"task": name})
            if self.clock.now() - started > STEADY_S:
                backoff.reset()
            self.down.add(name)
            await self.clock.sleep(backoff.next_delay_s())
            self.down.discard(name)

    def trouble(self) -> str | None:
        """Why this process should get no new clients now."""
        if self.down:
            return f"restarting {', '.join(sorted(self.down))}"
        if self.clock.now() - self.paused_at < TROUBLE_S:
            return f"stood still for {self.last_pause_s:.1f} s"
        return None

    def report(self) -> dict[str, object]:
        """For people."""
        lags = sorted(self.lags_s) or [0.0]
        return {
            "loop_lag_ms": {
                "p50": _ms(lags[len(lags) // 2]),
                "p99": _ms(lags[min(len(lags) - 1, len(lags) * 99 // 100)]),
                "max": _ms(lags[-1]),
            },
            "paused_s": round(self.paused_s, 2),
            "crashes": dict(self.crashes),
            "restarting": sorted(self.down),
            "trouble": self.trouble(),
        }


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)

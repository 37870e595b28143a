"""What is known of a provider's answers so far: outcomes, latencies, the last error, and what its answers had wrong."""

import contextlib
import logging
from collections import Counter, deque
from collections.abc import Iterator

from orchestrator import repairs
from orchestrator.clock import Clock
from orchestrator.errors import ProviderError

log = logging.getLogger(__name__)

LATENCIES_KEPT = 256
EWMA_SHARE = 0.2
OUR_FAULTS = ("bad_query", "not_found")
"""Outcomes that do not count against the provider."""


class TrackRecord:
    """Counts what became of one provider's conversations. Times are Unix ms, latencies ms."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self.clock = clock
        self.requests = 0
        self.outcomes: Counter[str] = Counter()
        self.repaired: Counter[str] = Counter()
        """What was repaired in its answers, by kind of damage or by the field that became null."""
        self.rejected: Counter[str] = Counter()
        """Rows of its answers that could not be read, by the field at fault."""
        self.latencies_ms: deque[float] = deque(maxlen=LATENCIES_KEPT)
        self.ewma_ms: float | None = None
        self.last_error: str | None = None
        self.last_error_ms: int | None = None
        self.last_success_ms: int | None = None

    def request(self) -> None:
        """Count a request that is sent."""
        self.requests += 1

    def succeeded(self, latency_s: float) -> None:
        """Count a conversation that came to its value."""
        self.outcomes["ok"] += 1
        self.last_success_ms = self.clock.wall_ms()
        latency_ms = latency_s * 1000
        self.latencies_ms.append(latency_ms)
        self.ewma_ms = latency_ms if self.ewma_ms is None else self.ewma_ms + (latency_ms - self.ewma_ms) * EWMA_SHARE

    def failed(self, error: ProviderError) -> None:
        """Count a conversation that ended in an error. Errors of ours do not become the provider's last error."""
        self.outcomes[error.outcome] += 1
        if error.outcome not in OUR_FAULTS:
            self.last_error = error.reason
            self.last_error_ms = self.clock.wall_ms()

    @contextlib.contextmanager
    def noting(self) -> Iterator[None]:
        """Count what readers repair and reject in the block. The first of each kind is logged."""
        with repairs.noted() as notes:
            try:
                yield
            finally:
                for what, count in notes.repaired.items():
                    if not self.repaired[what]:
                        log.warning("upstream_repaired", extra={"provider": self.name, "what": what, "count": count})
                    self.repaired[what] += count
                for name, count in notes.rejected.items():
                    if not self.rejected[name]:
                        facts = {"provider": self.name, "reason": f"bad field {name!r}", "rows": count}
                        log.warning("upstream_rejected", extra=facts)
                    self.rejected[name] += count

    def report(self) -> dict[str, object]:
        """Return the counts, rates and times as `/api/providers` shows them."""
        judged = sum(count for outcome, count in self.outcomes.items() if outcome not in OUR_FAULTS)
        ordered = sorted(self.latencies_ms)
        return {
            "calls": sum(self.outcomes.values()),
            "requests": self.requests,
            "successes": self.outcomes["ok"],
            "failures": judged - self.outcomes["ok"],
            "outcomes": dict(self.outcomes),
            "success_pct": round(100 * self.outcomes["ok"] / judged, 1) if judged else None,
            "latency_ms": {
                "p50": _quantile(ordered, 0.5),
                "p95": _quantile(ordered, 0.95),
                "ewma": None if self.ewma_ms is None else round(self.ewma_ms, 1),
            },
            "last_error": self.last_error,
            "last_error_at": self.last_error_ms,
            "last_success_at": self.last_success_ms,
        }


def _quantile(ordered: list[float], share: float) -> float | None:
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 1) if ordered else None

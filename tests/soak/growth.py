"""Samples of a process over time, and a test of whether it grows that ignores how many clients are connected."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

WARM_UP = 0.2
"""The first share of a soak, in which caches, rings and the allocator fill up."""
WINDOW = 0.2


@dataclass(frozen=True, slots=True)
class Sample:
    """The service at one moment; `cpu_s` is its CPU time so far."""

    at_s: float
    rss_bytes: int
    tasks: int
    descriptors: int
    threads: int
    clients: int
    topics: int
    groups: int
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Bound:
    """How much a reading may rise from the first window to the last: by a share of it, plus `more`."""

    reading: str
    unit: str
    share: float
    more: float
    floor: bool
    """Compare the minima of the windows, which a leak raises, and not the medians, which follow the crowd."""


BOUNDS = (
    Bound("rss_bytes", "bytes", 0.03, 2_000_000, floor=False),
    Bound("tasks", "tasks", 0.0, 4, floor=True),
    Bound("descriptors", "descriptors", 0.0, 8, floor=True),
    Bound("threads", "threads", 0.0, 2, floor=True),
    Bound("topics", "topics", 0.05, 2, floor=True),
)


@dataclass(frozen=True, slots=True)
class Trend:
    """A reading in its first and last window, and its rise an hour."""

    bound: Bound
    first: float
    last: float
    per_hour: float

    @property
    def grows(self) -> bool:
        """Whether it rose by more than its bound."""
        return self.last > self.first * (1 + self.bound.share) + self.bound.more

    def __str__(self) -> str:
        b = self.bound
        return f"{b.reading}: {self.first:,.0f} → {self.last:,.0f} {b.unit}, {self.per_hour:+,.0f} an hour"


def trends(samples: Sequence[Sample]) -> list[Trend]:
    """Return the trend of every bounded reading, after the warm-up."""
    start, end = samples[0].at_s, samples[-1].at_s
    span = end - start
    first = [each for each in samples if WARM_UP <= (each.at_s - start) / span < WARM_UP + WINDOW]
    last = [each for each in samples if (each.at_s - start) / span >= 1 - WINDOW]
    steady = [each for each in samples if (each.at_s - start) / span >= WARM_UP]
    found = []
    for bound in BOUNDS:
        of = min if bound.floor else median
        before, after = (float(of(getattr(each, bound.reading) for each in window)) for window in (first, last))
        slope = _slope([(each.at_s, float(getattr(each, bound.reading))) for each in steady])
        found.append(Trend(bound, before, after, slope * 3600))
    return found


def _slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the least-squares line."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0

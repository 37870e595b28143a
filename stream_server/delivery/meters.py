"""Count and time what the hot paths do, for `/metrics`, in plain numbers: a lock for each message would show."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

DELIVERY_BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
ANSWER_BOUNDS_S = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS"})
"""The methods that are counted by name; those that clients invent would be labels without bounds."""


class Histogram:
    """Counts of values by their upper bounds, and their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` ascend; values above the last one have a count of their own."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value that was seen a number of times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    @property
    def count(self) -> int:
        """Number of values."""
        return sum(self.counts)

    def buckets(self) -> list[tuple[str, float]]:
        """Return how many values were not above each bound, with bounds as Prometheus writes them."""
        total = 0
        rows = []
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            total += count
            rows.append((bound, float(total)))
        return rows


@dataclass(slots=True)
class Tally:
    """What was sent on one transport: messages, their bytes, and how long events waited for it, in seconds.

    One reading of the clock serves all writes of a flush, which takes some 4 ms at most. So a time may be too long by
    that, and is never too short.
    """

    messages: int = 0
    bytes: int = 0
    waited: Histogram = field(default_factory=lambda: Histogram(DELIVERY_BOUNDS_S))
    timed: int = 0

    def add(self, messages: int, size: int) -> None:
        """Count one write."""
        self.messages += messages
        self.bytes += size

    def begin(self) -> None:
        """Begin to time messages."""
        self.timed = self.messages

    def end(self, waited_s: float) -> None:
        """Record how long all messages since `begin` have waited."""
        if self.messages > self.timed:
            self.waited.observe(waited_s, self.messages - self.timed)
            self.timed = self.messages


@dataclass(slots=True)
class Requests:
    """HTTP requests that were answered, by the template of their path. Streams are not counted here."""

    counts: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    took: dict[str, Histogram] = field(default_factory=dict)

    def add(self, method: str, path: str, status: int, took_s: float) -> None:
        """Count one answer and the seconds it took."""
        self.counts[method if method in METHODS else "other", path, status] += 1
        if path not in self.took:
            self.took[path] = Histogram(ANSWER_BOUNDS_S)
        self.took[path].observe(took_s)

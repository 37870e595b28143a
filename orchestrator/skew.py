"""What a provider's clock shows, by the times in its answers.

It is reckoned against our monotonic clock, so that a corrected wall clock of ours makes nothing that a provider says
old. Each answer bounds the truth: its `Date`, cut to the second, was written between our question and its receipt,
and so was a time in its body, to the millisecond. What most of the last answers agree on is believed, so one wrong
`Date` changes nothing, and neither does an answer that a cache repeats with the `Date` it had.
"""

from collections import deque
from collections.abc import Collection
from itertools import pairwise

from orchestrator.clock import Clock

ANSWERS_KEPT = 8
STEP_MS = 5_000.0
"""Clocks that moved against each other by more than this were set, or stood still; it is no noise."""


class TheirClock:
    """One provider's clock. Times in its own and our clock are Unix ms, those of `heard` monotonic seconds."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.answers: deque[tuple[float, float]] = deque(maxlen=ANSWERS_KEPT)
        """From each answer: how far, at the least and at the most, their clock is ahead of our monotonic one."""
        self.ahead_ms: float | None = None
        self.ours_ahead_ms = 0.0
        """How far our wall clock was when `ahead_ms` was found."""

    def heard(self, said_ms: int, asked_at: float, received_at: float, grain_ms: float = 1000.0) -> None:
        """Take the time in an answer, which may have been up to `grain_ms` later: a `Date` is cut to the second."""
        answer = (said_ms - received_at * 1000, said_ms + grain_ms - asked_at * 1000)
        ours_ms = self.clock.wall_ms() - received_at * 1000
        slept_ms = ours_ms - self.ours_ahead_ms
        if self.ahead_ms is not None and abs(slept_ms) > STEP_MS:
            moved_ms = sum(answer) / 2 - self.ahead_ms
            if abs(moved_ms - slept_ms) < STEP_MS:
                # Both wall clocks went on while our monotonic one stood: the machine slept, and both clocks are right.
                self.answers.clear()
                self.ahead_ms = None
        self.answers.append(answer)
        span = _agreed(self.answers, self.ahead_ms)
        if span is not None:
            # Where our own clock may be right it is: most are, and a `Date` has no more than the second.
            self.ahead_ms = ours_ms if span[0] <= ours_ms <= span[1] else sum(span) / 2
        self.ours_ahead_ms = ours_ms

    def now_ms(self) -> int:
        """Return what it shows now; ours, as long as it is unknown."""
        return self.clock.wall_ms() if self.ahead_ms is None else round(self.clock.now() * 1000 + self.ahead_ms)

    @property
    def skew_ms(self) -> int | None:
        """Return how far it is ahead of our wall clock; None as long as it is unknown."""
        return None if self.ahead_ms is None else self.now_ms() - self.clock.wall_ms()


def _agreed(answers: Collection[tuple[float, float]], believed: float | None) -> tuple[float, float] | None:
    """Return the span that most answers allow, of several such spans the one next to what is believed.

    None if no two agree and something is believed. Source: Marzullo, "Maintaining the Time in a Distributed System".
    """
    edges = sorted([(low, 1) for low, _ in answers] + [(high, -1) for _, high in answers], key=lambda edge: edge[0])
    spans: list[tuple[int, float, float]] = []
    count = 0
    for (start, step), (end, _) in pairwise(edges):
        count += step
        if step > 0:
            spans.append((count, start, end))
    most = max(spans)[0]
    if most == 1 and believed is not None:
        return None
    best = [(start, end) for count, start, end in spans if count == most]
    return min(best, key=lambda span: abs(sum(span) / 2 - believed)) if believed is not None else best[0]

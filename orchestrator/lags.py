"""How old a value was when it came, by its provider's own stamp, or by a mark that has not changed."""

from collections.abc import Hashable
from typing import Generic, TypeVar

from orchestrator.bounded import put_newest
from orchestrator.clock import Clock
from orchestrator.errors import Outdated
from orchestrator.provider import Provider

Q = TypeVar("Q", bound=Hashable)
T = TypeVar("T")


class Lags(Generic[Q, T]):
    """Remembers the marks of up to `size` providers and questions."""

    def __init__(self, size: int, clock: Clock) -> None:
        self.size = size
        self.clock = clock
        self.marks: dict[tuple[str, Q], tuple[int, float]] = {}
        """By provider and question: the last mark, and when it was first seen."""

    def check(self, provider: Provider[Q, T], query: Q, value: T) -> None:
        """Raise Outdated if the provider's own stamp or mark shows that it repeats an old value."""
        mark = provider.mark_of(value) if provider.mark_of is not None else None
        if mark is not None:
            known = self.marks.get((provider.name, query))
            if known is None or known[0] != mark:
                known = (mark, self.clock.now())
            put_newest(self.marks, (provider.name, query), known, self.size)
        lag_s = self.lag_s(provider, query, value)
        if lag_s > provider.max_lag_s:
            raise Outdated(provider.name, f"its newest value is {lag_s:.0f} s old by its own account")

    def lag_s(self, provider: Provider[Q, T], query: Q, value: T) -> float:
        """Return the age of a value that has just come; 0 if its provider does not stamp it."""
        stamp_ms = provider.stamp_of(value) if provider.stamp_of is not None else None
        lag_s = 0.0 if stamp_ms is None else (provider.upstream.their_ms() - stamp_ms) / 1000
        known = self.marks.get((provider.name, query)) if provider.mark_of is not None else None
        still_s = 0.0 if known is None else self.clock.now() - known[1]
        return max(0.0, lag_s, still_s)

"""What comes of a question: a value with its source and age, or the reasons why no provider answered."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One provider that was considered. `outcome` of one that was not asked is the reason for that."""

    provider: str
    outcome: str
    asked: bool = True

    def report(self) -> dict[str, object]:
        """Return the attempt as it is in an answer's envelope."""
        facts: dict[str, object] = {"provider": self.provider, "outcome": self.outcome}
        return facts if self.asked else facts | {"asked": False}


class Exhausted(Exception):
    """No provider could answer; `retry_after_s` is when one may be asked again."""

    def __init__(self, pool: str, attempts: Sequence[Attempt], retry_after_s: float, late: bool = False) -> None:
        tried = ", ".join(f"{attempt.provider} {attempt.outcome}" for attempt in attempts) or "none is enabled"
        super().__init__(f"no provider of {pool} can answer ({tried})")
        self.attempts = tuple(attempts)
        self.retry_after_s = retry_after_s
        self.late = late
        """The deadline passed while providers were still being asked."""


@dataclass(frozen=True, slots=True)
class Fetched(Generic[T]):
    """A value and its origin. `age_ms` counts from when it was true at its source, as far as that is known."""

    value: T
    source: str
    received_ms: int
    age_ms: int
    cached: bool
    stale: bool
    attempts: tuple[Attempt, ...]
    version: int
    """Changes with every newly received value of the pool."""
    lag_ms: int = 0
    """How old it was on its receipt, by the provider's own stamp and clock."""
    skew_ms: int = 0
    """How far the provider's clock was ahead of ours then."""

    def lag_of(self, stamp_ms: int) -> int:
        """Return how old a part with this stamp of the provider was on its receipt."""
        return max(0, self.received_ms + self.skew_ms - stamp_ms)

    def age_of(self, stamp_ms: int) -> int:
        """Return how old that part is now."""
        return self.age_ms - self.lag_ms + max(self.lag_ms, self.lag_of(stamp_ms))

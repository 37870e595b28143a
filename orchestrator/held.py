"""What a pool holds, by question: the last good values and the last failures, and how long each of them counts."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from orchestrator.bounded import put_newest
from orchestrator.clock import Clock
from orchestrator.errors import BadQuery, NotFound, ProviderError
from orchestrator.fetched import Attempt, Exhausted, Fetched

Q = TypeVar("Q", bound=Hashable)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PoolPolicy:
    """The times for which answers live, and the time that a question may take. In seconds."""

    ttl_s: float = 60.0
    stale_while_revalidate_s: float = 0.0
    """For this long after its TTL a value is still served at once, marked stale, while one refresh runs."""
    stale_if_error_s: float = 3600.0
    deadline_s: float = 20.0
    attempt_s: float = 8.0
    negative_ttl_s: float = 1.0
    """A question that failed is not asked again within this time."""
    unknown_ttl_s: float = 300.0
    """A question whose answer a source does not know is not asked again within this time."""
    patience_s: float = 1.5
    """A second round is worth waiting for if a provider may be asked again within this time."""
    size: int = 256


@dataclass(slots=True)
class Held(Generic[T]):
    """A value and its origin. `at` is the monotonic time of its receipt, `lag_s` its age at that time."""

    value: T
    source: str
    received_ms: int
    at: float
    attempts: tuple[Attempt, ...]
    version: int
    lag_s: float = 0.0
    skew_ms: int = 0


@dataclass(slots=True)
class Failure:
    """The error of a question, when it came, and whether it was asked for the service itself (`urgent`)."""

    error: Exception
    at: float
    urgent: bool

    @property
    def is_unknown(self) -> bool:
        """Whether a source has answered that it does not know this."""
        return isinstance(self.error, NotFound | BadQuery)


class HeldAnswers(Generic[Q, T]):
    """Values and failures, at most `policy.size` of each."""

    def __init__(self, policy: PoolPolicy, clock: Clock) -> None:
        self.policy = policy
        self.clock = clock
        self.values: dict[Q, Held[T]] = {}
        self.failures: dict[Q, Failure] = {}

    def keep(self, query: Q, held: Held[T]) -> None:
        """Hold a new value; an earlier failure counts no more."""
        put_newest(self.values, query, held, self.policy.size)
        self.failures.pop(query, None)

    def fail(self, query: Q, error: Exception, urgent: bool) -> None:
        """Hold a failure."""
        put_newest(self.failures, query, Failure(error, self.clock.now(), urgent), self.policy.size)

    def is_fresh(self, held: Held[T], max_age_s: float | None, within_s: float | None = None) -> bool:
        """Whether a value can be given without asking: it is within its TTL and the bounds of the caller."""
        return self._is_within(held, self.policy.ttl_s, max_age_s, within_s)

    def is_good_enough(self, held: Held[T], max_age_s: float | None, within_s: float | None) -> bool:
        """Whether a value may be given, marked as stale, because no provider answers."""
        return self._is_within(held, self.policy.stale_if_error_s, max_age_s, within_s)

    def is_served_while_asking(self, held: Held[T]) -> bool:
        """Whether a value is given at once while a newer one is fetched."""
        return self.clock.now() - held.at <= self.policy.ttl_s + self.policy.stale_while_revalidate_s

    def _is_within(self, held: Held[T], limit_s: float, max_age_s: float | None, within_s: float | None) -> bool:
        since_s = self.clock.now() - held.at
        if since_s > (limit_s if within_s is None else min(limit_s, within_s)):
            return False
        return max_age_s is None or held.lag_s + since_s <= max_age_s

    def failed_lately(self, query: Q, urgent: bool) -> Exception | None:
        """Return the error of a question that is not to be asked again yet.

        The service's own (`urgent`) question may succeed where a client's failed: it has a part of each allowance.
        """
        failure = self.failures.get(query)
        if failure is None or (urgent and not failure.urgent and not failure.is_unknown):
            return None
        ttl_s = self.policy.unknown_ttl_s if failure.is_unknown else self.policy.negative_ttl_s
        return None if self.clock.now() - failure.at > ttl_s else failure.error

    def last_attempts(self, query: Q) -> tuple[Attempt, ...]:
        """Return the attempts of the last time that this was asked; none if it never was."""
        failure = self.failures.get(query)
        if failure is not None:
            error = failure.error
            if isinstance(error, ProviderError):
                return (Attempt(error.provider, error.outcome),)
            return error.attempts if isinstance(error, Exhausted) else ()
        held = self.values.get(query)
        return () if held is None else held.attempts

    def fetched(
        self, held: Held[T], *, cached: bool, stale: bool = False, attempts: tuple[Attempt, ...] | None = None
    ) -> Fetched[T]:
        """Return a value as an answer, with its age of now."""
        age_s = max(0.0, self.clock.now() - held.at)
        return Fetched(
            held.value,
            held.source,
            held.received_ms,
            round((held.lag_s + age_s) * 1000),
            cached,
            stale or age_s > self.policy.ttl_s,
            held.attempts if attempts is None else attempts,
            held.version,
            round(held.lag_s * 1000),
            held.skew_ms,
        )

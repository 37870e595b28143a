"""Whether a provider may be asked now, by the outcomes of its calls so far.

A breaker is closed while all is well. It opens after failures in a row, or when too many of the calls of a window
failed or were slow, and then admits nobody before a cooldown is over, and after that one probe at a time. What counts
as a failure is the caller's decision; limits and bans are the limiter's.
"""

import random
from collections import deque
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.clock import Clock

JITTER = 0.25
"""A cooldown is up to so much longer than its nominal length, and never shorter."""

CALLS_KEPT = 256
"""The most calls a window remembers, however many there were."""


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When to give a provider up, and for how long. Rates are shares of the window's calls."""

    window_s: float = 60.0
    minimum_calls: int = 10
    """Rates mean nothing before the window has so many calls."""
    failure_rate: float = 0.5
    slow_rate: float = 0.8
    """Of calls that were slow or failed."""
    slow_s: float = 5.0
    """A success that took so long is slow."""
    consecutive: int = 5
    """So many failures in a row open it at once."""
    cooldown_s: float = 15.0
    """The first; each further one is twice as long."""
    longest_cooldown_s: float = 600.0


class CircuitState(StrEnum):
    """Where a breaker stands. An open one whose cooldown is over stays open until its probe is out."""

    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


class Breaker:
    """Admits calls as `Pass`es, which report how the calls went. Time is the monotonic clock's."""

    def __init__(self, policy: BreakerPolicy, clock: Clock, rng: random.Random) -> None:
        self.policy = policy
        self.clock = clock
        self.rng = rng
        self.open_until: float | None = None
        """When the cooldown ends, on the monotonic clock; None while closed."""
        self.openings = 0
        """How often it opened since it was last stable."""
        self.consecutive = 0
        """Failures in a row."""
        self._term = 0
        """Counts openings and closings: a pass of an earlier term is of no consequence."""
        self._probe: Pass | None = None
        self._window: deque[_Outcome] = deque(maxlen=CALLS_KEPT)
        self._closed_at = clock.now()
        self._cooldown_s = 0.0

    # --- may it be asked? ---

    @property
    def state(self) -> CircuitState:
        """Return the state of the circuit."""
        if self.open_until is None:
            return CircuitState.CLOSED
        return CircuitState.OPEN if self._probe is None else CircuitState.PROBING

    def may_ask(self) -> bool:
        """Whether `admit` would give a pass. Changes nothing."""
        if self.open_until is None:
            return True
        return self._probe is None and self.clock.now() >= self.open_until

    def wait_s(self) -> float:
        """Return the seconds until the cooldown is over; 0 if it is, even if a probe is out."""
        return 0.0 if self.open_until is None else max(0.0, self.open_until - self.clock.now())

    @property
    def badness(self) -> tuple[int, float]:
        """Return a key that sorts open breakers, the most promising first."""
        return self.openings, self.open_until or 0.0

    @property
    def calls(self) -> int:
        """Count the calls in the window."""
        self._forget()
        return len(self._window)

    @property
    def failures(self) -> int:
        """Count the failed calls in the window."""
        self._forget()
        return sum(outcome.failed for outcome in self._window)

    # --- asking ---

    def admit(self) -> "Pass | None":
        """Return a place for one call, or None if it may not be asked now."""
        return self.probe() if self.may_ask() else None

    def probe(self) -> "Pass | None":
        """Return a place even before the cooldown is over, for when every provider is out.

        None while a probe is out.
        """
        if self.open_until is None:
            return Pass(self, self._term)
        if self._probe is not None:
            return None
        self._probe = Pass(self, self._term)
        return self._probe

    # --- outcomes, which passes report ---

    def _settled(self, settled: "Pass", failed: bool, slow: bool) -> None:
        if settled is self._probe:
            self._probe = None
            if not (failed or slow):
                self._close()
            elif self.wait_s() == 0:
                self._open()
            # One that was forced through and failed has only confirmed the cooldown: it does not lengthen it.
        elif self.open_until is None and settled.term == self._term:
            self._count(failed, slow)

    def _released(self, released: "Pass") -> None:
        if released is self._probe:
            self._probe = None

    def _count(self, failed: bool, slow: bool) -> None:
        self._forget()
        self._window.append(_Outcome(self.clock.now(), failed, slow))
        self.consecutive = self.consecutive + 1 if failed else 0
        if (failed or slow) and (self.consecutive >= self.policy.consecutive or self._too_many()):
            if self.clock.now() - self._closed_at >= max(self.policy.window_s, self._cooldown_s):
                self.openings = 0
            self._open()

    def _too_many(self) -> bool:
        calls = len(self._window)
        failures = sum(outcome.failed for outcome in self._window)
        bad = sum(outcome.failed or outcome.slow for outcome in self._window)
        policy = self.policy
        return calls >= policy.minimum_calls and (
            failures >= policy.failure_rate * calls or bad >= policy.slow_rate * calls
        )

    def _forget(self) -> None:
        oldest = self.clock.now() - self.policy.window_s
        while self._window and self._window[0].at <= oldest:
            self._window.popleft()

    def _open(self) -> None:
        policy = self.policy
        doubled_s = policy.cooldown_s * 2.0 ** min(self.openings, 32)
        self._cooldown_s = min(policy.longest_cooldown_s, doubled_s) * (1 + JITTER * self.rng.random())
        self.openings += 1
        self.open_until = self.clock.now() + self._cooldown_s
        self._begin_term()

    def _close(self) -> None:
        # `openings` stays: a provider that comes and goes must earn its short cooldowns back by a stable time.
        self.open_until = None
        self._closed_at = self.clock.now()
        self._begin_term()

    def _begin_term(self) -> None:
        self._term += 1
        self._window.clear()
        self.consecutive = 0


@dataclass(frozen=True, slots=True)
class _Outcome:
    at: float
    failed: bool
    slow: bool


class Pass:
    """The permission for one call. Report once how it went; later reports change nothing."""

    __slots__ = ("_breaker", "_said", "term")

    def __init__(self, breaker: Breaker, term: int) -> None:
        self.term = term
        self._breaker = breaker
        self._said = False

    def succeeded(self, latency_s: float) -> None:
        """Note that the call was answered, in so many seconds."""
        if self._first():
            self._breaker._settled(self, failed=False, slow=latency_s >= self._breaker.policy.slow_s)

    def failed(self) -> None:
        """Note that the call failed by the provider's fault."""
        if self._first():
            self._breaker._settled(self, failed=True, slow=False)

    def released(self) -> None:
        """Note that the call was cancelled or failed by a fault of ours, which does not count against the provider."""
        if self._first():
            self._breaker._released(self)

    def _first(self) -> bool:
        first, self._said = not self._said, True
        return first

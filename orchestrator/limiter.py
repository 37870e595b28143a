"""When the next request may be sent: a token bucket for our clients, and a limiter for our upstreams.

The two differ in what they promise. A bucket bounds an average, and may give twice its burst within the time that
fills it; that is fine towards our own clients. A provider counts what arrives in a minute, so towards it no minute,
wherever it begins, may hold more than allowed.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from orchestrator.clock import Clock


@dataclass(slots=True)
class TokenBucket:
    """`rate` tokens a second, `burst` at most; full at the start."""

    rate: float
    burst: float
    clock: Clock
    tokens: float = field(init=False)
    at: float = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = self.burst
        self.at = self.clock.now()

    def take(self, weight: float = 1.0) -> bool:
        """Take tokens if there are enough of them."""
        self._refill()
        if self.tokens < weight:
            return False
        self.tokens -= weight
        return True

    def wait_s(self, weight: float = 1.0) -> float:
        """Return how long until `take` would succeed."""
        self._refill()
        return max(0.0, (weight - self.tokens) / self.rate)

    def _refill(self) -> None:
        now = self.clock.now()
        self.tokens = min(self.burst, self.tokens + max(0.0, now - self.at) * self.rate)
        self.at = now


SHARE_S = 3600.0
GRAINS = 100
"""Maximum number of parts of a window; calls that are given within one part come back at once."""

EPSILON = 1e-9
"""Below this, a difference of weights or seconds is rounding."""

LONG_S = 6 * 3600.0
"""An allowance of at least this is remembered over a restart."""

UNSAID_RESET_S = 60.0
"""How long a provider's remaining calls count if it does not say until when, and has no allowance."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """A provider lets through `weight` in any `per_s` seconds. Raises ValueError unless both are above 0."""

    weight: float
    per_s: float

    def __post_init__(self) -> None:
        if not (0 < self.weight < math.inf and 0 < self.per_s < math.inf):
            raise ValueError(f"an allowance is above 0: {self.weight} in {self.per_s} s")

    @property
    def held_s(self) -> float:
        """Return how long what was given counts: longer than `per_s`, because requests travel unequally fast."""
        return self.per_s + min(0.5, self.per_s / 5)


def spread(weight: float, per_s: float) -> tuple[Allowance, Allowance]:
    """Return an allowance of a day or a month, and the even share of it for each hour.

    Without the share all of it could go in the first hours, and nothing would be left until its end. Where less than
    one call comes free in an hour, the share is one call in the time that one takes.
    """
    share_s = min(per_s, max(SHARE_S, per_s / weight))
    return Allowance(weight, per_s), Allowance(weight * share_s / per_s, share_s)


class Limiter:
    """Keeps several allowances at once, none of them exceeded in any window. With none it gives without limit.

    The provider's own words correct it, but only to our disadvantage: what was said can be out of date by the calls
    under way. `reserve` is the part of each allowance, from 0 to 1, that only urgent calls may use.
    """

    def __init__(self, allowances: Sequence[Allowance], clock: Clock, reserve: float = 0.0) -> None:
        self.clock = clock
        self.reserve = reserve
        self.cooldown_until = clock.now()
        """Nothing is given before this time of the monotonic clock."""
        self._windows = [_Window(allowance) for allowance in allowances]
        self._left = math.inf
        """The calls that the provider last reported as left, less those given since; until `_left_until`."""
        self._left_until = self.cooldown_until

    def take(self, weight: float = 1.0, urgent: bool = False) -> bool:
        """Take so much of every allowance, if all of them have it."""
        if self.wait_s(weight, urgent) > 0:
            return False
        now = self.clock.now()
        for window in self._windows:
            window.add(now, weight)
        self._left -= weight
        return True

    def wait_s(self, weight: float = 1.0, urgent: bool = False) -> float:
        """Return how long until `take` would succeed; infinite for more than an allowance holds."""
        now = self._forget()
        wait_s = self.cooldown_until - now
        if self._left < weight - EPSILON:
            wait_s = max(wait_s, self._left_until - now)
        for window in self._windows:
            wait_s = max(wait_s, window.wait_s(now, weight, 0.0 if urgent else self.reserve))
        return wait_s if wait_s > EPSILON else 0.0

    def tokens_left(self) -> float:
        """Return what an urgent call may weigh now; 0 during a cooldown, infinite without any limit."""
        now = self._forget()
        if self.cooldown_until > now:
            return 0.0
        return max(0.0, min([self._left, *(window.left for window in self._windows)]))

    # --- what the provider says ---

    def used(self, used_weight: float, of: int = 0) -> None:
        """Note what the provider has counted in the window of allowance number `of`, from all its callers."""
        if of < len(self._windows):
            now = self._forget()
            self._windows[of].at_least(now, used_weight)

    def remaining(self, left: float, reset_s: float | None = None) -> None:
        """Note that the provider lets through `left` more, until it begins to count again in `reset_s`.

        Without `reset_s` that is the shortest of the allowances: asking too early costs one refusal, waiting the
        longest could cost a day.
        """
        now = self._forget()
        if reset_s is None:
            reset_s = min((window.allowance.per_s for window in self._windows), default=UNSAID_RESET_S)
        if left <= self._left and reset_s > 0:
            self._left = left
            self._left_until = max(self._left_until, now + reset_s)

    def cool_down(self, seconds: float) -> None:
        """Give nothing for so long. A longer cooldown that was asked for before stays."""
        self.cooldown_until = max(self.cooldown_until, self.clock.now() + seconds)

    # --- over a restart ---

    @property
    def lasts_long(self) -> bool:
        """Whether an allowance lasts for hours, so that a restart must not give it again."""
        return self._longest is not None

    @property
    def _longest(self) -> "_Window | None":
        longest = max(self._windows, key=lambda window: window.allowance.per_s, default=None)
        return longest if longest is not None and longest.allowance.per_s >= LONG_S else None

    def long_given(self) -> list[tuple[float, float]]:
        """Return what was given of the longest allowance: seconds until it comes back, and weight."""
        now = self._forget()
        return [] if self._longest is None else [(each.until - now, each.weight) for each in self._longest.given]

    def restore_long(self, given: Sequence[tuple[float, float]]) -> None:
        """Take what an earlier run has used of the longest allowance, as `long_given` returned it."""
        window, now = self._longest, self.clock.now()
        if window is not None:
            # A clock may have been set: no call comes back later than one that is given now.
            held_s = window.allowance.held_s
            rows = sorted((min(back_s, held_s), weight) for back_s, weight in given if back_s > 0)
            window.given.extend(
                _Grain(now + back_s - held_s, now + back_s, weight) for back_s, weight in rows[-GRAINS:]
            )

    def _forget(self) -> float:
        """Let go of what has run out; returns the time."""
        now = self.clock.now()
        if self._left_until <= now:
            self._left = math.inf
        for window in self._windows:
            window.forget(now)
        return now


@dataclass(slots=True)
class _Grain:
    """What was given from `began` on, coming back all at `until`."""

    began: float
    until: float
    weight: float


@dataclass(slots=True)
class _Window:
    """What was given of one allowance and has not come back, oldest first."""

    allowance: Allowance
    given: deque[_Grain] = field(default_factory=deque)

    @property
    def left(self) -> float:
        return self.allowance.weight - sum(grain.weight for grain in self.given)

    def forget(self, now: float) -> None:
        while self.given and self.given[0].until <= now:
            self.given.popleft()

    def add(self, now: float, weight: float) -> None:
        until = now + self.allowance.held_s
        last = self.given[-1] if self.given else None
        if last is not None and now - last.began < self.allowance.held_s / GRAINS:
            last.until = until
            last.weight += weight
        else:
            self.given.append(_Grain(now, until, weight))

    def at_least(self, now: float, used: float) -> None:
        """Note that more was used than we gave: others used the rest, at the latest now."""
        others = used - (self.allowance.weight - self.left)
        if others > EPSILON:
            self.add(now, others)

    def wait_s(self, now: float, weight: float, reserve: float) -> float:
        """Return the seconds until `weight` fits beside the reserve; one that is too large for that waits for an empty
        window.
        """
        if weight > self.allowance.weight + EPSILON:
            return math.inf
        excess = sum(grain.weight for grain in self.given) + weight - self.allowance.weight * (1 - reserve)
        wait_s = 0.0
        for grain in self.given:
            if excess <= EPSILON:
                break
            excess -= grain.weight
            wait_s = grain.until - now
        return wait_s

"""When may it be asked next? A token bucket on an injected clock."""

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
        """How long until `take` would succeed."""
        self._refill()
        return max(0.0, (weight - self.tokens) / self.rate)

    def _refill(self) -> None:
        now = self.clock.now()
        self.tokens = min(self.burst, self.tokens + max(0.0, now - self.at) * self.rate)
        self.at = now

"""The limits of one provider, and how long we wait for it."""

from dataclasses import dataclass, field

from orchestrator.breaker import BreakerPolicy
from orchestrator.limiter import Allowance


@dataclass(frozen=True, slots=True)
class UpstreamPolicy:
    """The limits of one provider, and how long we wait for it. Times in seconds."""

    timeout_s: float = 8.0
    """The time for one request, all hosts together."""
    allowances: tuple[Allowance, ...] = ()
    reserve: float = 0.0
    """The part of the allowance that only urgent requests may use: the service's own, not its clients'."""
    floor_s: float = 0.0
    """Clients who want a newer answer than the one that is held do not get the provider asked again before this."""
    hosts_share_limits: bool = True
    """A refusal for asking too often counts for all hosts; not so where they belong to different people."""
    reset_unit_s: float = 1.0
    """The unit of `X-RateLimit-Reset` where it is a duration; the unit of a Unix time is known by its size."""
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)
    local: bool = False
    """Its answers are computed in this process. One that fails or takes long does not predict the next one, so
    its circuit stays closed."""

"""Chooses which host of a provider to ask next: the first that is not cooling down.

A host cools down after a failure: for as long as it asked (429, 418), for an hour when it blocks us (451, 403). The
others are tried in turn, and the choice stays with the one that works.
"""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from orchestrator.clock import Clock
from orchestrator.errors import Banned, Blocked, ProviderError, RateLimited, Unauthorized

BLOCKED_COOLDOWN_S = 3600.0
RATE_LIMITED_COOLDOWN_S = 30.0
BANNED_COOLDOWN_S = 120.0


@dataclass(slots=True)
class Host:
    """One base URL and what we know of it. Times are wall milliseconds for people, `cooldown_until` monotonic."""

    url: str
    name: str
    state: str = "unknown"
    cooldown_until: float = 0.0
    successes: int = 0
    failures: int = 0
    last_error: str | None = None
    last_error_ms: int | None = None
    last_success_ms: int | None = None
    latency_ms: float | None = None


@dataclass(slots=True)
class Hosts:
    """An ordered list of hosts, with a place in it. Raises ValueError if there are none."""

    urls: list[str]
    clock: Clock
    all: list[Host] = field(init=False)
    place: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        if not self.urls:
            raise ValueError("at least one host is needed")
        self.all = [Host(url, urlsplit(url).netloc.rpartition("@")[2]) for url in self.urls]

    def in_turn(self) -> list[Host]:
        """Return every host that may be asked now, the preferred one first."""
        now = self.clock.now()
        order = [self.all[(self.place + step) % len(self.all)] for step in range(len(self.all))]
        return [host for host in order if host.cooldown_until <= now]

    def wait_s(self) -> float:
        """Return the seconds until some host may be asked; 0 if one may be asked now."""
        return max(0.0, min(host.cooldown_until for host in self.all) - self.clock.now())

    def worked(self, host: Host, latency_ms: float | None = None) -> None:
        """Note an answer and stay with this host."""
        host.state = "active"
        host.successes += 1
        host.last_error = None
        host.last_success_ms = self.clock.wall_ms()
        if latency_ms is not None:
            host.latency_ms = round(latency_ms, 1)
        self.place = self.all.index(host)

    def failed(self, host: Host, error: ProviderError) -> None:
        """Note a failure, let the host rest if that is what it means, and move on to the next."""
        host.failures += 1
        host.last_error = error.reason
        host.last_error_ms = self.clock.wall_ms()
        host.state, cooldown_s = _consequence(error)
        host.cooldown_until = max(host.cooldown_until, self.clock.now() + cooldown_s)
        self.place = (self.all.index(host) + 1) % len(self.all)

    def errors(self) -> list[str]:
        """Return a phrase for each host that failed last time."""
        return [f"{host.name}: {host.last_error}" for host in self.all if host.last_error is not None]

    def report(self) -> list[dict[str, object]]:
        """Return the state of each host as `/api/providers` shows it."""
        now = self.clock.now()
        return [
            {
                "host": host.name,
                "state": host.state,
                "rests_s": round(max(0.0, host.cooldown_until - now), 1),
                "successes": host.successes,
                "failures": host.failures,
                "latency_ms": host.latency_ms,
                "last_error": host.last_error,
                "last_error_at": host.last_error_ms,
                "last_success_at": host.last_success_ms,
            }
            for host in self.all
        ]


def _consequence(error: ProviderError) -> tuple[str, float]:
    match error:
        case RateLimited(retry_after_s=asked):
            return "rate_limited", max(1.0, RATE_LIMITED_COOLDOWN_S if asked is None else asked)
        case Banned(retry_after_s=asked):
            return "banned", max(1.0, BANNED_COOLDOWN_S if asked is None else asked)
        case Blocked() | Unauthorized():
            return "blocked", BLOCKED_COOLDOWN_S
        case _:
            return "unreachable", 0.0

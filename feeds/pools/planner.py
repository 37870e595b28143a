"""Makes pools by the policy of the sources: how long answers live, and which account of a provider is asked."""

import random
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from feeds.providers import coingecko
from feeds.upstreams import DAY_S, HOUR_S, Upstreams
from orchestrator.clock import Clock
from orchestrator.fetched import Fetched
from orchestrator.held import PoolPolicy
from orchestrator.pool import Pool
from orchestrator.provider import Provider, Steps, anything
from orchestrator.upstream import Upstream

Q = TypeVar("Q", bound=Hashable)
T = TypeVar("T")

SLOW_STALE_S = 30 * DAY_S
"""How long an old answer to a slow question is given when no provider answers."""
PRO_WEIGHT = 3
"""Questions that CoinGecko's Pro account gets for each one of the free account."""


class PoolPlanner:
    """Makes the pools of all subjects."""

    def __init__(self, upstreams: Upstreams, clock: Clock, rng: random.Random) -> None:
        self.upstreams = upstreams
        self.clock = clock
        self.rng = rng
        self.ttl_s = upstreams.policy.cache_ttl_s
        self.stale_s = upstreams.policy.stale_if_error_s

    def upstream(self, name: str) -> Upstream:
        """Return the upstream of a provider."""
        return self.upstreams[name]

    def key(self, setting: str) -> str:
        """Return the key of a setting; empty if it has none."""
        return self.upstreams.key(setting)

    def pool(
        self,
        name: str,
        tiers: Sequence[Sequence[Provider[Q, T]]],
        ttl_s: float,
        received: Callable[[Q, Fetched[T]], None] = lambda query, fetched: None,
        *,
        slow: bool = False,
        deadline_s: float = 20.0,
        attempt_s: float = 8.0,
        size: int = 256,
    ) -> Pool[Q, T]:
        """Make a pool. The answers of a `slow` one change rarely, so old ones are given for longer."""
        stale_s = self.stale_s if self.stale_s is not None else (SLOW_STALE_S if slow else HOUR_S)
        return Pool(
            name,
            tiers,
            self.clock,
            self.rng,
            PoolPolicy(
                ttl_s=ttl_s,
                stale_while_revalidate_s=ttl_s if slow else 0.0,
                stale_if_error_s=stale_s,
                deadline_s=deadline_s,
                attempt_s=attempt_s,
                size=size,
            ),
            received=received,
        )

    def coingecko(
        self,
        ask: Callable[[coingecko.CoinGecko], Callable[[Q], Steps[T]]],
        serves: Callable[[Q], bool] = anything,
        stamp_of: Callable[[T], int | None] | None = None,
        max_lag_s: float = 600.0,
    ) -> list[Provider[Q, T]]:
        """Return a tier of both accounts: Pro gets most questions, the free one enough to be known to work."""
        pro = coingecko.CoinGecko(coingecko.NAME_PRO, self.key("COINGECKO_PRO_API_KEY"))
        free = coingecko.CoinGecko(coingecko.NAME, self.key("COINGECKO_DEMO_API_KEY"))
        return [
            Provider(
                self.upstream(each.name),
                ask(each),
                weight=weight,
                serves=serves,
                stamp_of=stamp_of,
                max_lag_s=max_lag_s,
            )
            for each, weight in ((pro, PRO_WEIGHT), (free, 1))
        ]

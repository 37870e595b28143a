"""Chooses which providers of a pool are asked, in which order, and says why the others are not."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Generic, TypeVar

from orchestrator.bounded import put_newest
from orchestrator.breaker import CircuitState
from orchestrator.clock import Clock
from orchestrator.fetched import Attempt
from orchestrator.held import PoolPolicy
from orchestrator.provider import Provider
from orchestrator.rotation import Rotation
from orchestrator.upstream import ProviderState

Q = TypeVar("Q", bound=Hashable)
T = TypeVar("T")

FORCED_PROBE_EVERY_S = 5.0
"""When every circuit is open, one provider is asked all the same this often."""
UNKNOWN_RETRY_S = 60.0
"""When to ask again if no provider can say when it may be asked."""


class Choice(Generic[Q, T]):
    """Chooses among the providers of some tiers. A provider's place is its number, counted through all tiers."""

    def __init__(self, tiers: Sequence[Sequence[Provider[Q, T]]], policy: PoolPolicy, clock: Clock) -> None:
        self.providers = [provider for tier in tiers for provider in tier]
        self.tier_of = [number for number, tier in enumerate(tiers) for _ in tier]
        self.rotation = Rotation([[provider.weight for provider in tier] for tier in tiers])
        self.policy = policy
        self.clock = clock
        self.last_forced = -math.inf
        self.answered: dict[tuple[str, Q], float] = {}
        """By provider and question: when it last answered."""

    def serves(self, query: Q) -> bool:
        """Whether some provider that is not switched off could answer this question at all."""
        enabled = (each for each in self.providers if each.upstream.state is not ProviderState.DISABLED)
        return any(provider.serves(query) for provider in enabled)

    def order(self, query: Q, urgent: bool) -> list[int]:
        """Return the places of the providers that may be asked now, the best first."""
        return self.rotation.order(lambda place: self.may_ask(place, query, urgent))

    def may_ask(self, place: int, query: Q, urgent: bool) -> bool:
        """Whether a provider may be asked now. Only `urgent` questions may ask it again within its floor."""
        provider = self.providers[place]
        if not urgent and self._floor_left_s(provider, query) > 0:
            return False
        return provider.upstream.may_ask(urgent=urgent) and provider.serves(query)

    def note_answer(self, provider: Provider[Q, T], query: Q) -> None:
        """Note that a provider has answered: its floor begins."""
        put_newest(self.answered, (provider.name, query), self.clock.now(), self.policy.size)

    def _floor_left_s(self, provider: Provider[Q, T], query: Q) -> float:
        """Return the seconds until a client may have a provider asked again, although its last answer is fresh."""
        answered_at = self.answered.get((provider.name, query))
        if answered_at is None:
            return 0.0
        return answered_at + min(provider.upstream.policy.floor_s, self.policy.ttl_s) - self.clock.now()

    # --- when none may be asked ---

    def least_bad(self, query: Q) -> list[int]:
        """Return one provider whose circuit is open, now and then, so that never all of them are given up."""
        if self._forced_in_s() > 0:
            return []
        broken = [place for place, provider in enumerate(self.providers) if self._is_broken(provider, query)]
        if not broken:
            return []
        self.last_forced = self.clock.now()
        return [min(broken, key=lambda place: self.providers[place].upstream.breaker.badness)]

    def _is_broken(self, provider: Provider[Q, T], query: Q) -> bool:
        """Whether nothing but its open circuit keeps it from being asked."""
        upstream = provider.upstream
        return provider.serves(query) and upstream.wait_s() <= 0 and upstream.breaker.state is CircuitState.OPEN

    def _forced_in_s(self) -> float:
        return max(0.0, self.last_forced + FORCED_PROBE_EVERY_S - self.clock.now())

    def soonest_s(self, query: Q) -> float:
        """Return the seconds until the first provider may be asked; infinite if none ever may."""
        waits = [
            max(provider.upstream.back_in_s(), self._floor_left_s(provider, query))
            for provider in self.providers
            if provider.serves(query)
        ]
        return min(waits, default=math.inf)

    def retry_after_s(self, query: Q) -> float:
        """Return the seconds after which the question is worth asking again; at least 1."""
        retry_s = self.soonest_s(query)
        if any(self._is_broken(provider, query) for provider in self.providers):
            retry_s = min(retry_s, self._forced_in_s())
        return max(1.0, retry_s) if math.isfinite(retry_s) else UNKNOWN_RETRY_S

    # --- those that are not asked ---

    def passed_over(self, query: Q, order: Sequence[int]) -> dict[int, Attempt]:
        """Return why the other providers are not asked, by place, without those that could never answer this."""
        return {
            place: self.why_not(place)
            for place, provider in enumerate(self.providers)
            if place not in order and provider.upstream.state is not ProviderState.DISABLED and provider.serves(query)
        }

    def why_not(self, place: int) -> Attempt:
        """Return why a provider is not asked. One that is fine has only used up its allowance."""
        provider = self.providers[place]
        state = provider.upstream.state
        outcome = "rate_limited" if state is ProviderState.ACTIVE else str(state)
        return Attempt(provider.name, outcome, asked=False)

    def ranked(self, passed: Mapping[int, Attempt], answered: int | None = None) -> list[Attempt]:
        """Return those passed over, the best first, without those that would have come after the one that answered."""
        last = math.inf if answered is None else self.tier_of[answered]
        return [passed[place] for place in sorted(passed) if self.tier_of[place] <= last]

    def by_tier(self, attempts: Sequence[Attempt]) -> list[Attempt]:
        """Return attempts sorted by tier; inside a tier those passed over come before those asked, in their order."""
        tiers = {provider.name: tier for provider, tier in zip(self.providers, self.tier_of, strict=True)}
        return sorted(attempts, key=lambda attempt: tiers[attempt.provider])

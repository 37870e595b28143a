"""One category's providers as one: rotation, failover, cache, and an honest account of how an answer came to be.

`fetch` answers from the cache while that is fresh; otherwise one upstream call serves all who ask the same. Providers
are tried in the order that `Choice` gives, each at most once a round. When none answers, the last good value is given
within `stale_if_error_s`, marked as stale, else `Exhausted` says when to come back.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from orchestrator import provider_log
from orchestrator.choice import Choice
from orchestrator.clock import Clock
from orchestrator.errors import BadQuery, NotFound, ProviderError
from orchestrator.fetched import Attempt, Exhausted, Fetched
from orchestrator.held import Held, HeldAnswers, PoolPolicy
from orchestrator.lags import Lags
from orchestrator.provider import Provider

log = logging.getLogger(__name__)

Q = TypeVar("Q", bound=Hashable)
T = TypeVar("T")

LEAST_TIME_S = 0.2
"""A provider is not asked with less time than this, because its timeout would count as a failure of the provider."""
SECOND_ROUND_JITTER_S = 0.1
"""A second round begins up to so much later than it could, so that many questions do not begin it together."""


@dataclass(frozen=True, slots=True)
class _Flight(Generic[T]):
    """A call upstream that is under way."""

    task: "asyncio.Task[Held[T]]"
    urgent: bool


@dataclass(slots=True)
class Counts:
    """Counts of questions, by their outcome."""

    asked: int = 0
    cache_hits: int = 0
    stale_served: int = 0
    upstream: int = 0
    failovers: int = 0
    exhausted: int = 0


class Pool(Generic[Q, T]):
    """Answers the questions of one category. `received` is called with every new value."""

    def __init__(
        self,
        name: str,
        tiers: Sequence[Sequence[Provider[Q, T]]],
        clock: Clock,
        rng: random.Random,
        policy: PoolPolicy | None = None,
        *,
        received: Callable[[Q, Fetched[T]], None] = lambda query, fetched: None,
    ) -> None:
        self.name = name
        self.tiers = [list(tier) for tier in tiers]
        self.clock = clock
        self.rng = rng
        self.policy = policy or PoolPolicy()
        self.received = received
        self.choice = Choice(self.tiers, self.policy, clock)
        self.held: HeldAnswers[Q, T] = HeldAnswers(self.policy, clock)
        self.lags: Lags[Q, T] = Lags(self.policy.size, clock)
        self.in_flight: dict[Q, _Flight[T]] = {}
        self.counts = Counts()
        self.last_source: str | None = None
        self.version = 0

    @property
    def providers(self) -> list[Provider[Q, T]]:
        """Return all providers, tier by tier."""
        return self.choice.providers

    # --- asking ---

    async def fetch(
        self, query: Q, *, max_age_s: float | None = None, within_s: float | None = None, urgent: bool = False
    ) -> Fetched[T]:
        """Return the answer to a question.

        A held one must be younger than `max_age_s`, and received `within_s`, where those are given. Otherwise a
        provider is asked, and its answer is given as it is: it may be older by its own stamp. `urgent` questions are
        the service's own; they may use the part of an allowance that clients cannot.

        Raises Exhausted, or the NotFound or BadQuery that all who were asked agree on.
        """
        self.counts.asked += 1
        held = self.held.values.get(query)
        if held is not None and self.held.is_fresh(held, max_age_s, within_s):
            self.counts.cache_hits += 1
            return self.held.fetched(held, cached=True)
        any_age_will_do = max_age_s is None and within_s is None
        if held is not None and any_age_will_do and self.held.is_served_while_asking(held):
            self.counts.cache_hits += 1
            self.counts.stale_served += 1
            if self.held.failed_lately(query, urgent) is None:
                self._refresh(query, urgent)
            return self.held.fetched(held, cached=True)
        try:
            return self.held.fetched(await self._ask_once(query, urgent), cached=False)
        except Exhausted as error:
            held = self.held.values.get(query)
            if held is None or not self.held.is_good_enough(held, max_age_s, within_s):
                raise
            self.counts.stale_served += 1
            return self.held.fetched(held, cached=True, stale=True, attempts=error.attempts)

    def serves(self, query: Q) -> bool:
        """Whether some provider that is not switched off could answer this question at all."""
        return self.choice.serves(query)

    def would_ask(self, query: Q, max_age_s: float | None = None, within_s: float | None = None) -> bool:
        """Whether `fetch` would begin a call upstream that its caller waits for."""
        if query in self.in_flight or self.held.failed_lately(query, urgent=False) is not None:
            return False
        held = self.held.values.get(query)
        if held is None:
            return True
        if max_age_s is not None or within_s is not None:
            return not self.held.is_fresh(held, max_age_s, within_s)
        return not self.held.is_served_while_asking(held)

    def last_attempts(self, query: Q) -> tuple[Attempt, ...]:
        """Return the attempts of the last time that this was asked; none if it never was."""
        return self.held.last_attempts(query)

    def peek(self, query: Q) -> Fetched[T] | None:
        """Return the value that is held, however old, without asking."""
        held = self.held.values.get(query)
        return None if held is None else self.held.fetched(held, cached=True)

    # --- one call for all who ask the same ---

    async def _ask_once(self, query: Q, urgent: bool) -> Held[T]:
        """Join the call in flight or begin one. It belongs to no single caller: one that leaves does not end it."""
        error = self.held.failed_lately(query, urgent)
        if error is not None:
            # Raised many times over: without this its traceback would grow by each.
            raise error.with_traceback(None)
        flight = self.in_flight.get(query)
        if flight is not None and urgent and not flight.urgent:
            # What a client began may fail for want of an allowance of which the service's own questions have a part.
            with contextlib.suppress(Exhausted):
                return await asyncio.shield(flight.task)
        return await asyncio.shield(self._refresh(query, urgent))

    def _refresh(self, query: Q, urgent: bool) -> "asyncio.Task[Held[T]]":
        flight = self.in_flight.get(query)
        if flight is None or flight.task.done():  # one that has ended in this very turn has nothing new to give
            task = asyncio.create_task(self._ask(query, urgent), name=f"pool:{self.name}")
            flight = self.in_flight[query] = _Flight(task, urgent)
            task.add_done_callback(lambda done: self._landed(query, done, urgent))
        return flight.task

    def _landed(self, query: Q, task: "asyncio.Task[Held[T]]", urgent: bool) -> None:
        if query in self.in_flight and self.in_flight[query].task is task:
            del self.in_flight[query]
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, (Exhausted, ProviderError)):
            self.held.fail(query, error, urgent)
        elif error is not None:  # a fault of ours, which would stay unseen if no caller waits for the answer
            log.error("fetch_crashed", extra={"pool": self.name}, exc_info=error)

    async def close(self) -> None:
        """Cancel the calls in flight."""
        tasks = [flight.task for flight in self.in_flight.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- rounds through the providers ---

    async def _ask(self, query: Q, urgent: bool) -> Held[T]:
        choice = self.choice
        attempts: list[Attempt] = []
        ours: ProviderError | None = None
        failed = False
        passed: dict[int, Attempt] = {}
        deadline = self.clock.now() + self.policy.deadline_s
        for again in (False, True):
            order = choice.order(query, urgent)
            forced = not order
            if forced:
                order = choice.least_bad(query)
            passed = choice.passed_over(query, order)
            for place in order:
                left_s = deadline - self.clock.now()
                if left_s < LEAST_TIME_S:
                    break
                provider = choice.providers[place]
                if not forced and not choice.may_ask(place, query, urgent):  # no more, since others were asked first
                    passed[place] = choice.why_not(place)
                    continue
                try:
                    value = await self._attempt(provider, query, min(self.policy.attempt_s, left_s), urgent, forced)
                except ProviderError as error:
                    self.counts.upstream += error.asked
                    attempts.append(Attempt(provider.name, error.outcome, error.asked))
                    if isinstance(error, (BadQuery, NotFound)):
                        ours = error
                    else:
                        failed = True
                else:
                    attempts = [*choice.ranked(passed, place), *attempts, Attempt(provider.name, "ok")]
                    return self._receive(query, provider, value, choice.by_tier(attempts))
            if again or attempts:
                break
            wait_s = choice.soonest_s(query)
            if wait_s > min(self.policy.patience_s, deadline - self.clock.now()):
                break
            await self.clock.sleep(wait_s + self.rng.random() * SECOND_ROUND_JITTER_S)
        if ours is not None and not failed:
            raise ours.with_traceback(None)
        late = deadline - self.clock.now() < LEAST_TIME_S
        raise self._exhausted(query, choice.by_tier([*choice.ranked(passed), *attempts]), late)

    async def _attempt(self, provider: Provider[Q, T], query: Q, timeout_s: float, urgent: bool, forced: bool) -> T:
        return await provider.upstream.run(
            provider.ask(query),
            timeout_s=timeout_s,
            urgent=urgent,
            heavy=provider.heavy,
            forced=forced,
            check=lambda value: self.lags.check(provider, query, value),
        )

    def _receive(self, query: Q, provider: Provider[Q, T], value: T, attempts: Sequence[Attempt]) -> Held[T]:
        self.counts.upstream += 1
        if len(attempts) > 1:
            self.counts.failovers += 1
        if self.last_source != provider.name:
            passed = [f"{attempt.provider} {attempt.outcome}" for attempt in attempts[:-1]]
            provider_log.rotated(self.name, self.last_source, provider.name, passed)
            self.last_source = provider.name
        self.version += 1
        held = Held(
            value,
            provider.source_of(value) if provider.source_of is not None else provider.name,
            self.clock.wall_ms(),
            self.clock.now(),
            tuple(attempts),
            self.version,
            self.lags.lag_s(provider, query, value),
            provider.upstream.skew_ms or 0,
        )
        self.held.keep(query, held)
        self.choice.note_answer(provider, query)
        self.received(query, self.held.fetched(held, cached=False))
        return held

    def _exhausted(self, query: Q, attempts: Sequence[Attempt], late: bool) -> Exhausted:
        self.counts.exhausted += 1
        provider_log.exhausted(self.name, [f"{attempt.provider} {attempt.outcome}" for attempt in attempts])
        return Exhausted(self.name, attempts, self.choice.retry_after_s(query), late)

    # --- across restarts ---

    def restore(self, query: Q, value: T, source: str, received_ms: int) -> None:
        """Hold a value from before a restart, as old as it is; a newer one that is held stays."""
        if query in self.held.values:
            return
        age_s = (self.clock.wall_ms() - received_ms) / 1000
        if age_s < 0:  # a clock was set: its age is unknown, so it is not fresh
            age_s = self.policy.ttl_s + 1
        giver = next((provider for provider in self.providers if provider.name == source), None)
        stamp_ms = giver.stamp_of(value) if giver is not None and giver.stamp_of is not None else None
        lag_s = 0.0 if stamp_ms is None else max(0.0, (received_ms - stamp_ms) / 1000)
        self.version += 1
        self.held.keep(query, Held(value, source, received_ms, self.clock.now() - age_s, (), self.version, lag_s))

    # --- for people ---

    def report(self) -> dict[str, object]:
        """Return the pool's counts and last source as `/api/providers` shows them."""
        counts = self.counts
        return {
            "name": self.name,
            "tiers": [[provider.name for provider in tier] for tier in self.tiers],
            "asked": counts.asked,
            "cache_hits": counts.cache_hits,
            "stale_served": counts.stale_served,
            "upstream_calls": counts.upstream,
            "failovers": counts.failovers,
            "exhausted": counts.exhausted,
            "last_source": self.last_source,
        }

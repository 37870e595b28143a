"""One category's providers as one: rotation, failover, cache, and an honest account of how an answer came to be.

`fetch` answers from the cache while that is fresh; otherwise one upstream call serves all who ask the same. Providers
are tried in the order `Rotation` gives, each at most once a round. When none answers, the last good value is given
within `stale_if_error_s`, marked as stale, else `Exhausted` says when to come back.
"""

import asyncio
import contextlib
import logging
import math
import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from orchestrator import provider_log
from orchestrator.breaker import CircuitState
from orchestrator.clock import Clock
from orchestrator.errors import BadQuery, NotFound, Outdated, ProviderError
from orchestrator.provider import Provider
from orchestrator.rotation import Rotation
from orchestrator.upstream import ProviderState

log = logging.getLogger(__name__)

Q = TypeVar("Q", bound=Hashable)
T = TypeVar("T")

FORCED_PROBE_EVERY_S = 5.0
LEAST_TIME_S = 0.2
"""Nobody is asked with less time than this: that it was not enough would be held against the provider."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One provider that was thought of. One that was not asked says by its state why."""

    provider: str
    outcome: str
    asked: bool = True

    def report(self) -> dict[str, object]:
        """As an answer's envelope has it."""
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
    """A value and where it came from. `age_ms` counts from when it was true at its source, as far as that is told."""

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
        """How old a part of it, stamped by the provider, was on its receipt."""
        return max(0, self.received_ms + self.skew_ms - stamp_ms)

    def age_of(self, stamp_ms: int) -> int:
        """How old that part is now."""
        return self.age_ms - self.lag_ms + max(self.lag_ms, self.lag_of(stamp_ms))


@dataclass(frozen=True, slots=True)
class PoolPolicy:
    """How long answers live and how long a question may take. Times in seconds."""

    ttl_s: float = 60.0
    stale_while_revalidate_s: float = 0.0
    """For this long after its TTL a value is still served at once, marked stale, while one refresh runs."""
    stale_if_error_s: float = 3600.0
    deadline_s: float = 20.0
    attempt_s: float = 8.0
    negative_ttl_s: float = 1.0
    """Nobody asks again so soon after a failure."""
    unknown_ttl_s: float = 300.0
    """Nobody asks again so soon for what a source has said it does not know."""
    patience_s: float = 1.5
    """A second round is worth waiting for if a provider may be asked again within this time."""
    size: int = 256


@dataclass(slots=True)
class _Held(Generic[T]):
    value: T
    source: str
    received_ms: int
    at: float
    attempts: tuple[Attempt, ...]
    version: int
    lag_s: float = 0.0
    skew_ms: int = 0


@dataclass(slots=True)
class _Failure:
    error: Exception
    at: float
    urgent: bool


@dataclass(frozen=True, slots=True)
class _Flight(Generic[T]):
    """A call upstream that is under way."""

    task: "asyncio.Task[_Held[T]]"
    urgent: bool


@dataclass(slots=True)
class Counts:
    """What became of the questions."""

    asked: int = 0
    cache_hits: int = 0
    stale_served: int = 0
    upstream: int = 0
    failovers: int = 0
    exhausted: int = 0


class Pool(Generic[Q, T]):
    """Answers the questions of one category. `received` hears of every new value, whoever asked for it."""

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
        self.providers = [provider for tier in self.tiers for provider in tier]
        self.tier_of = [number for number, tier in enumerate(self.tiers) for _ in tier]
        self.rotation = Rotation([[provider.weight for provider in tier] for tier in self.tiers])
        self.clock = clock
        self.rng = rng
        self.policy = policy or PoolPolicy()
        self.received = received
        self.held: dict[Q, _Held[T]] = {}
        self.failures: dict[Q, _Failure] = {}
        self.in_flight: dict[Q, _Flight[T]] = {}
        self.counts = Counts()
        self.last_source: str | None = None
        self.version = 0
        self.last_forced = -math.inf
        self.marks: dict[tuple[str, Q], tuple[int, float]] = {}
        """By provider and question: the last mark, and when it was first seen."""
        self.answered: dict[tuple[str, Q], float] = {}
        """By provider and question: when it last answered."""

    # --- asking ---

    async def fetch(
        self, query: Q, *, max_age_s: float | None = None, within_s: float | None = None, urgent: bool = False
    ) -> Fetched[T]:
        """The answer to a question. One that is held must be younger than `max_age_s`, and received `within_s`, where
        that is given; else somebody is asked anew, whose answer is given as it is: it may be older, by its own stamp.

        Raises Exhausted, or the NotFound or BadQuery that all who were asked agree on.
        """
        self.counts.asked += 1
        held = self.held.get(query)
        asked_anew = max_age_s is not None or within_s is not None
        if held is not None and self._is_fresh(held, max_age_s, within_s):
            self.counts.cache_hits += 1
            return self._told(held, cached=True)
        allowed_s = self.policy.ttl_s + self.policy.stale_while_revalidate_s
        if held is not None and not asked_anew and self.clock.now() - held.at <= allowed_s:
            self.counts.cache_hits += 1
            self.counts.stale_served += 1
            if self._failed_lately(query, urgent) is None:
                self._refresh(query, urgent)
            return self._told(held, cached=True)
        try:
            return self._told(await self._ask_once(query, urgent), cached=False)
        except Exhausted as error:
            held = self.held.get(query)
            if held is None or not self._within(held, self.policy.stale_if_error_s, max_age_s, within_s):
                raise
            self.counts.stale_served += 1
            return self._told(held, cached=True, stale=True, attempts=error.attempts)

    def serves(self, query: Q) -> bool:
        """Whether some provider that is not switched off could answer this question at all."""
        enabled = (each for each in self.providers if each.upstream.state is not ProviderState.DISABLED)
        return any(provider.serves(query) for provider in enabled)

    def would_ask(self, query: Q, max_age_s: float | None = None, within_s: float | None = None) -> bool:
        """Whether `fetch` would begin a call upstream that its caller waits for."""
        if query in self.in_flight or self._failed_lately(query, urgent=False) is not None:
            return False
        held = self.held.get(query)
        if held is None:
            return True
        if max_age_s is not None or within_s is not None:
            return not self._is_fresh(held, max_age_s, within_s)
        return self.clock.now() - held.at > self.policy.ttl_s + self.policy.stale_while_revalidate_s

    def _is_fresh(self, held: _Held[T], max_age_s: float | None, within_s: float | None = None) -> bool:
        """Whether a held value needs no asking: its time is not over, and neither is the caller's."""
        return self._within(held, self.policy.ttl_s, max_age_s, within_s)

    def _within(self, held: _Held[T], limit_s: float, max_age_s: float | None, within_s: float | None) -> bool:
        since_s = self.clock.now() - held.at
        if since_s > (limit_s if within_s is None else min(limit_s, within_s)):
            return False
        return max_age_s is None or held.lag_s + since_s <= max_age_s

    def last_attempts(self, query: Q) -> tuple[Attempt, ...]:
        """What came of asking this the last time; nothing if that was never done."""
        failure = self.failures.get(query)
        if failure is not None:
            error = failure.error
            if isinstance(error, ProviderError):
                return (Attempt(error.provider, error.outcome),)
            return error.attempts if isinstance(error, Exhausted) else ()
        held = self.held.get(query)
        return () if held is None else held.attempts

    def peek(self, query: Q) -> Fetched[T] | None:
        """The value that is held, however old; asks nobody."""
        held = self.held.get(query)
        return None if held is None else self._told(held, cached=True)

    def _told(
        self, held: _Held[T], *, cached: bool, stale: bool = False, attempts: tuple[Attempt, ...] | None = None
    ) -> Fetched[T]:
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

    async def _ask_once(self, query: Q, urgent: bool) -> _Held[T]:
        """Join the call in flight or begin one. It belongs to no single caller: one that leaves does not end it."""
        error = self._failed_lately(query, urgent)
        if error is not None:
            # Raised many times over: without this its traceback would grow by each.
            raise error.with_traceback(None)
        flight = self.in_flight.get(query)
        if flight is not None and urgent and not flight.urgent:
            # What a client began may fail for want of an allowance of which the service's own questions have a part.
            with contextlib.suppress(Exhausted):
                return await asyncio.shield(flight.task)
        return await asyncio.shield(self._refresh(query, urgent))

    def _failed_lately(self, query: Q, urgent: bool) -> Exception | None:
        failure = self.failures.get(query)
        if failure is None:
            return None
        is_unknown = isinstance(failure.error, NotFound | BadQuery)
        if urgent and not failure.urgent and not is_unknown:
            return None
        ttl_s = self.policy.unknown_ttl_s if is_unknown else self.policy.negative_ttl_s
        return None if self.clock.now() - failure.at > ttl_s else failure.error

    def _refresh(self, query: Q, urgent: bool) -> "asyncio.Task[_Held[T]]":
        flight = self.in_flight.get(query)
        if flight is None or flight.task.done():  # one that has ended in this very turn has nothing new to say
            task = asyncio.create_task(self._ask(query, urgent), name=f"pool:{self.name}")
            flight = self.in_flight[query] = _Flight(task, urgent)
            task.add_done_callback(lambda done: self._landed(query, done, urgent))
        return flight.task

    def _landed(self, query: Q, task: "asyncio.Task[_Held[T]]", urgent: bool) -> None:
        if query in self.in_flight and self.in_flight[query].task is task:
            del self.in_flight[query]
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, (Exhausted, ProviderError)):
            self.failures.pop(query, None)
            self.failures[query] = _Failure(error, self.clock.now(), urgent)
            while len(self.failures) > self.policy.size:
                del self.failures[next(iter(self.failures))]
        elif error is not None:  # a fault of ours, which nobody hears of if nobody waits for the answer
            log.error("fetch_crashed", extra={"pool": self.name}, exc_info=error)

    async def _ask(self, query: Q, urgent: bool) -> _Held[T]:
        attempts: list[Attempt] = []
        ours: ProviderError | None = None
        failed = False
        passed: dict[int, Attempt] = {}
        deadline = self.clock.now() + self.policy.deadline_s
        for again in (False, True):
            order = self.rotation.order(lambda place: self._may(place, query, urgent))
            forced = not order
            if forced:
                order = self._least_bad(query)
            passed = self._passed_over(query, order)
            for place in order:
                left_s = deadline - self.clock.now()
                if left_s < LEAST_TIME_S:
                    break
                provider = self.providers[place]
                if not forced and not self._may(place, query, urgent):  # no more, since others were asked first
                    passed[place] = _why_not(provider)
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
                    attempts = [*self._ranked(passed, place), *attempts, Attempt(provider.name, "ok")]
                    return self._received(query, provider, value, self._by_tier(attempts))
            if again or attempts:
                break
            wait_s = self._soonest_s(query)
            if wait_s > min(self.policy.patience_s, deadline - self.clock.now()):
                break
            await self.clock.sleep(wait_s + self.rng.random() * 0.1)
        if ours is not None and not failed:
            raise ours.with_traceback(None)
        late = deadline - self.clock.now() < LEAST_TIME_S
        raise self._exhausted(self._by_tier([*self._ranked(passed), *attempts]), query, late)

    def _by_tier(self, attempts: Sequence[Attempt]) -> list[Attempt]:
        """The first tier first; inside one those that were passed over, then those that were asked, in their order."""
        tiers = {provider.name: tier for provider, tier in zip(self.providers, self.tier_of, strict=True)}
        return sorted(attempts, key=lambda attempt: tiers[attempt.provider])

    async def _attempt(self, provider: Provider[Q, T], query: Q, timeout_s: float, urgent: bool, forced: bool) -> T:
        return await provider.upstream.run(
            provider.ask(query),
            timeout_s=timeout_s,
            urgent=urgent,
            heavy=provider.heavy,
            forced=forced,
            check=lambda value: self._check_age(provider, query, value),
        )

    def _received(self, query: Q, provider: Provider[Q, T], value: T, attempts: Sequence[Attempt]) -> _Held[T]:
        self.counts.upstream += 1
        if len(attempts) > 1:
            self.counts.failovers += 1
        if self.last_source != provider.name:
            passed = [f"{attempt.provider} {attempt.outcome}" for attempt in attempts[:-1]]
            provider_log.rotated(self.name, self.last_source, provider.name, passed)
            self.last_source = provider.name
        self.version += 1
        source = provider.source_of(value) if provider.source_of is not None else provider.name
        held = _Held(
            value,
            source,
            self.clock.wall_ms(),
            self.clock.now(),
            tuple(attempts),
            self.version,
            self._lag_s(provider, query, value),
            provider.upstream.skew_ms or 0,
        )
        self._hold(query, held)
        self.answered.pop((provider.name, query), None)
        self.answered[provider.name, query] = self.clock.now()
        while len(self.answered) > self.policy.size:
            del self.answered[next(iter(self.answered))]
        self.received(query, self._told(held, cached=False))
        return held

    def _check_age(self, provider: Provider[Q, T], query: Q, value: T) -> None:
        """Raises Outdated if the provider's own stamp or mark says that it repeats itself."""
        mark = provider.mark_of(value) if provider.mark_of is not None else None
        if mark is not None:
            known = self.marks.pop((provider.name, query), None)
            if known is None or known[0] != mark:
                known = (mark, self.clock.now())
            self.marks[provider.name, query] = known
            while len(self.marks) > self.policy.size:
                del self.marks[next(iter(self.marks))]
        lag_s = self._lag_s(provider, query, value)
        if lag_s > provider.max_lag_s:
            raise Outdated(provider.name, f"its newest value is {lag_s:.0f} s old by its own account")

    def _lag_s(self, provider: Provider[Q, T], query: Q, value: T) -> float:
        """How old a value is that has just come; 0 if its provider tells nothing of it."""
        stamp_ms = provider.stamp_of(value) if provider.stamp_of is not None else None
        lag_s = 0.0 if stamp_ms is None else (provider.upstream.their_ms() - stamp_ms) / 1000
        known = self.marks.get((provider.name, query)) if provider.mark_of is not None else None
        still_s = 0.0 if known is None else self.clock.now() - known[1]
        return max(0.0, lag_s, still_s)

    def _hold(self, query: Q, held: _Held[T]) -> None:
        self.held.pop(query, None)
        self.held[query] = held
        self.failures.pop(query, None)
        while len(self.held) > self.policy.size:
            del self.held[next(iter(self.held))]

    async def close(self) -> None:
        """End what is in flight: nobody waits for it any more."""
        tasks = [flight.task for flight in self.in_flight.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- whom to ask ---

    def _may(self, place: int, query: Q, urgent: bool) -> bool:
        provider = self.providers[place]
        if not urgent and self._floor_left_s(provider, query) > 0:
            return False
        return provider.upstream.may_ask(urgent=urgent) and provider.serves(query)

    def _floor_left_s(self, provider: Provider[Q, T], query: Q) -> float:
        """Seconds until a client may have a provider asked again for an answer that is fresh by the pool's own rule."""
        answered_at = self.answered.get((provider.name, query))
        if answered_at is None:
            return 0.0
        return answered_at + min(provider.upstream.policy.floor_s, self.policy.ttl_s) - self.clock.now()

    def _least_bad(self, query: Q) -> list[int]:
        """One provider whose circuit is open, now and then, when there is nobody else: never give all of them up."""
        if self._forced_in_s() > 0:
            return []
        broken = [place for place, provider in enumerate(self.providers) if self._broken(provider, query)]
        if not broken:
            return []
        self.last_forced = self.clock.now()
        return [min(broken, key=lambda place: self.providers[place].upstream.breaker.badness)]

    def _broken(self, provider: Provider[Q, T], query: Q) -> bool:
        """Whether nothing but its open circuit keeps it from being asked."""
        upstream = provider.upstream
        return provider.serves(query) and upstream.wait_s() <= 0 and upstream.breaker.state is CircuitState.OPEN

    def _forced_in_s(self) -> float:
        return max(0.0, self.last_forced + FORCED_PROBE_EVERY_S - self.clock.now())

    def _passed_over(self, query: Q, order: Sequence[int]) -> dict[int, Attempt]:
        """Why the others are not asked. One that is switched off, or could not answer this, is not worth a word."""
        return {
            place: _why_not(provider)
            for place, provider in enumerate(self.providers)
            if place not in order and provider.upstream.state is not ProviderState.DISABLED and provider.serves(query)
        }

    def _ranked(self, passed: Mapping[int, Attempt], answered: int | None = None) -> list[Attempt]:
        """Those passed over, the best first; not those that would have come after the one that answered."""
        last = math.inf if answered is None else self.tier_of[answered]
        return [passed[place] for place in sorted(passed) if self.tier_of[place] <= last]

    def _soonest_s(self, query: Q) -> float:
        waits = [
            max(provider.upstream.back_in_s(), self._floor_left_s(provider, query))
            for provider in self.providers
            if provider.serves(query)
        ]
        return min(waits, default=math.inf)

    def _exhausted(self, attempts: Sequence[Attempt], query: Q, late: bool) -> Exhausted:
        self.counts.exhausted += 1
        provider_log.exhausted(self.name, [f"{attempt.provider} {attempt.outcome}" for attempt in attempts])
        retry_s = self._soonest_s(query)
        if any(self._broken(provider, query) for provider in self.providers):
            retry_s = min(retry_s, self._forced_in_s())
        return Exhausted(self.name, attempts, max(1.0, retry_s) if math.isfinite(retry_s) else 60.0, late)

    # --- across restarts ---

    def restore(self, query: Q, value: T, source: str, received_ms: int) -> None:
        """Take a value from before a restart, as old as it is; a newer one that is held stays."""
        age_s = (self.clock.wall_ms() - received_ms) / 1000
        if age_s < 0:  # a clock was set: nobody knows how old it is, so it is not fresh
            age_s = self.policy.ttl_s + 1
        if query not in self.held:
            self.version += 1
            at = self.clock.now() - age_s
            giver = next((provider for provider in self.providers if provider.name == source), None)
            stamp_ms = giver.stamp_of(value) if giver is not None and giver.stamp_of is not None else None
            lag_s = 0.0 if stamp_ms is None else max(0.0, (received_ms - stamp_ms) / 1000)
            self._hold(query, _Held(value, source, received_ms, at, (), self.version, lag_s))

    # --- for people ---

    def report(self) -> dict[str, object]:
        """How the pool does."""
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


def _why_not(provider: Provider[Q, T]) -> Attempt:
    """Nothing is wrong with one that only has no allowance left."""
    state = provider.upstream.state
    return Attempt(provider.name, "rate_limited" if state is ProviderState.ACTIVE else str(state), asked=False)

"""Sends requests to one provider as far as its limits allow, and knows its health.

Decides whether it may be asked now (switched off, resting after a refusal, out of allowance, circuit open), classifies
every answer, corrects the allowance by the provider's own headers, and counts. Which provider to ask is `Pool`'s
decision; what to ask is a generator's (`provider.Steps`).
"""

import asyncio
import contextlib
import logging
import math
import random
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from orchestrator import provider_log
from orchestrator.bans import Bans, NoBans
from orchestrator.breaker import Breaker, CircuitState, Pass
from orchestrator.clock import Clock
from orchestrator.containment import Contained
from orchestrator.errors import (
    BadQuery,
    Banned,
    Blocked,
    Malformed,
    NotFound,
    ProviderError,
    RateLimited,
    TimedOut,
    Unauthorized,
    Unavailable,
)
from orchestrator.hosts import BANNED_COOLDOWN_S, RATE_LIMITED_COOLDOWN_S, Host, Hosts
from orchestrator.http import HttpRequest, HttpResponse, Transport, refusal
from orchestrator.limiter import Limiter
from orchestrator.sender import Sender, Throttled, no_correction, no_time, note_beginning
from orchestrator.spending import NoSpending, Spending
from orchestrator.track_record import TrackRecord
from orchestrator.upstream_policy import UpstreamPolicy

log = logging.getLogger(__name__)

T = TypeVar("T")

LONG_BODY_BYTES = 1024 * 1024
"""A longer body is read off the event loop: damaged, it takes a second."""


class ProviderState(StrEnum):
    """The state of a provider, in the words of the contract."""

    ACTIVE = "active"
    RATE_LIMITED = "rate_limited"
    COOLDOWN = "cooldown"
    PROBING = "probing"
    BLOCKED = "blocked"
    DISABLED = "disabled"


class Upstream:
    """A provider as this process knows it. `disabled` names what would enable it."""

    def __init__(
        self,
        name: str,
        hosts: Hosts | None,
        transport: Transport,
        clock: Clock,
        rng: random.Random,
        policy: UpstreamPolicy | None = None,
        *,
        refusal: Callable[[str, HttpResponse], ProviderError | None] = refusal,
        correct: Callable[[HttpResponse, Limiter], None] = no_correction,
        time_in: Callable[[HttpResponse], int | None] = no_time,
        disabled: str | None = None,
        keyed: bool = False,
        limiter: Limiter | None = None,
        bans: Bans | None = None,
        spending: Spending | None = None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.clock = clock
        self.policy = policy or UpstreamPolicy()
        self.disabled = disabled
        self.keyed = keyed
        self.limiter = limiter or Limiter(self.policy.allowances, clock, self.policy.reserve)
        self.breaker = Breaker(self.policy.breaker, clock, rng)
        self.bans = bans or NoBans()
        self.on_change = on_change
        self.record = TrackRecord(name, clock)
        spending = spending or NoSpending()
        spending.restore(name, self.limiter)
        self.sender = Sender(
            name,
            hosts,
            transport,
            clock,
            self.policy,
            self.limiter,
            self.record,
            spending,
            refusal=refusal,
            correct=correct,
            time_in=time_in,
        )
        self.shown: ProviderState | None = None
        self._cool_down_after_a_restart()

    def _cool_down_after_a_restart(self) -> None:
        left_s = (self.bans.until_ms(self.name) - self.clock.wall_ms()) / 1000
        if left_s > 0:
            self.limiter.cool_down(left_s)

    @property
    def hosts(self) -> Hosts | None:
        """Return the provider's hosts; None for one that computes its answers in this process."""
        return self.sender.hosts

    @property
    def repaired(self) -> Counter[str]:
        """Return what was repaired in its answers, by kind of damage or by the field that became null."""
        return self.record.repaired

    @property
    def rejected(self) -> Counter[str]:
        """Return the number of rows of its answers that could not be read, by the field at fault."""
        return self.record.rejected

    # --- may it be asked? ---

    @property
    def state(self) -> ProviderState:
        """Return the provider's state."""
        if self.disabled is not None:
            return ProviderState.DISABLED
        if self.hosts is not None and self.hosts.wait_s() > 0:
            blocked = all(host.state == "blocked" for host in self.hosts.all)
            return ProviderState.BLOCKED if blocked else ProviderState.RATE_LIMITED
        if self.limiter.cooldown_until > self.clock.now():
            return ProviderState.RATE_LIMITED
        if self.breaker.state is CircuitState.PROBING:
            return ProviderState.PROBING
        if self.breaker.state is CircuitState.OPEN:
            return ProviderState.COOLDOWN
        return ProviderState.ACTIVE

    def may_ask(self, weight: float = 1.0, urgent: bool = False) -> bool:
        """Whether a request would be sent now."""
        return self.wait_s(weight, urgent) <= 0 and self.breaker.may_ask()

    def wait_s(self, weight: float = 1.0, urgent: bool = False) -> float:
        """Return the seconds until it may be asked as far as limits go; infinite for one that is switched off."""
        if self.disabled is not None:
            return math.inf
        hosts_s = self.hosts.wait_s() if self.hosts is not None else 0.0
        return max(hosts_s, self.limiter.wait_s(weight, urgent))

    def back_in_s(self) -> float:
        """Return the seconds until it may be asked, its circuit included."""
        return max(self.wait_s(), self.breaker.wait_s())

    # --- asking ---

    async def run(
        self,
        steps: Generator[HttpRequest, HttpResponse, T],
        *,
        timeout_s: float | None = None,
        urgent: bool = False,
        heavy: bool = False,
        forced: bool = False,
        check: Callable[[T], None] = lambda value: None,
    ) -> T:
        """Hold a conversation to its end. `forced` sends a probe through an open circuit; `check` may yet refuse.

        Raises a ProviderError of this provider; Throttled if the allowance would not let it go on. A caller that is
        cancelled leaves no trace in the provider's record.
        """
        if self.disabled is not None:
            raise Unauthorized(self.name, self.disabled)
        admitted = self.breaker.probe() if forced else self.breaker.admit()
        if admitted is None:
            raise Unavailable(self.name, "resting after failures")
        self._show()
        started = self.clock.now()
        try:
            value = await self._converse_within(timeout_s, steps, urgent, heavy, check)
        except ProviderError as failure:
            self._failed(admitted, failure)
            raise
        else:
            self._succeeded(admitted, self.clock.now() - started)
            return value
        finally:
            admitted.released()
            with contextlib.suppress(ValueError):  # a thread may still be reading an answer that no caller waits for
                steps.close()
            self._show()

    async def get(self, request: HttpRequest, urgent: bool = False) -> HttpResponse:
        """Ask one thing and take its 2xx as it is. Raises as `run`."""
        return await self.run(just(request), urgent=urgent)

    async def _converse_within(
        self,
        timeout_s: float | None,
        steps: Generator[HttpRequest, HttpResponse, T],
        urgent: bool,
        heavy: bool,
        check: Callable[[T], None],
    ) -> T:
        """Hold a conversation to its end. Raises a ProviderError, also if it takes too long or our code crashes."""
        limit_s = math.inf if timeout_s is None else timeout_s
        try:
            with Contained(ProviderError, TimeoutError) as asking:
                async with asyncio.timeout(timeout_s):
                    value = await self._converse(steps, min(limit_s, self.policy.timeout_s), urgent, heavy, check)
        except TimeoutError:
            raise TimedOut(self.name, f"no complete answer within {limit_s:.3g} s") from None
        self._raise_crash(asking)
        return value

    def _raise_crash(self, asking: Contained) -> None:
        """Log a fault of ours, such as a reader that met what it did not foresee, and fail this attempt only."""
        # Taken out: a traceback that refers to itself would keep an answer of megabytes until the collector comes.
        fault, asking.fault = asking.fault, None
        if fault is not None:
            log.error("reader_crashed", extra={"provider": self.name}, exc_info=fault)
            raise Malformed(self.name, f"unreadable ({type(fault).__name__})")

    async def _converse(
        self,
        steps: Generator[HttpRequest, HttpResponse, T],
        request_s: float,
        urgent: bool,
        heavy: bool,
        check: Callable[[T], None],
    ) -> T:
        request: HttpRequest | None = None
        response: HttpResponse | None = None
        host: Host | None = None
        while True:
            try:
                with Contained(ProviderError) as reading, self.record.noting():
                    if heavy or (response is not None and len(response.body) > LONG_BODY_BYTES):
                        step = await asyncio.to_thread(_advance, steps, response)
                    else:
                        step = _advance(steps, response)
                    if isinstance(step, _Done):
                        check(step.value)
                self._raise_crash(reading)
            except (BadQuery, NotFound):
                raise
            except ProviderError as error:
                if request is not None and response is not None:
                    note_beginning(error, request, response)
                self.sender.blame(host, error)
                raise
            if isinstance(step, _Done):
                return step.value
            request = step
            try:
                response, host = await self.sender.send(request, request_s, urgent)
            except Throttled as error:
                error.asked = response is not None
                raise

    def their_ms(self) -> int:
        """Return what the provider's clock shows now (Unix ms); ours, as long as it is unknown."""
        return self.sender.their_clock.now_ms()

    @property
    def skew_ms(self) -> int | None:
        """Return how far the provider's clock is ahead of ours; None as long as it is unknown."""
        return self.sender.their_clock.skew_ms

    # --- what it came to ---

    def _succeeded(self, admitted: Pass, latency_s: float) -> None:
        admitted.succeeded(0.0 if self.policy.local else latency_s)
        self.record.succeeded(latency_s)

    def _failed(self, admitted: Pass, error: ProviderError) -> None:
        if isinstance(error, Throttled):
            return  # it is our own limit, not a failure of the provider
        self.record.failed(error)
        if isinstance(error, (BadQuery, NotFound)):
            return  # an error of ours does not count against the provider
        provider_log.failed(self.name, error)
        match error:
            case RateLimited(retry_after_s=asked):
                self._cool_down(RATE_LIMITED_COOLDOWN_S if asked is None else max(1.0, asked))
            case Banned(retry_after_s=asked):
                self._cool_down(BANNED_COOLDOWN_S if asked is None else max(1.0, asked))
            case Unauthorized() if self.keyed:
                self.disabled = f"refused our key: {error.reason}"
            case _ if self.policy.local:
                pass
            case Blocked() | Unauthorized() if self.hosts is not None and self.hosts.wait_s() > 0:
                pass  # every host rests
            case _:
                admitted.failed()

    def _cool_down(self, wait_s: float) -> None:
        """Leave the provider alone, unless its hosts belong to different people: then `Hosts` does so for the one."""
        if self.policy.hosts_share_limits or self.hosts is None:
            self.limiter.cool_down(wait_s)
            self.bans.keep(self.name, self.clock.wall_ms() + math.ceil(wait_s * 1000))

    def _show(self) -> None:
        state = self.state
        if state is not self.shown:
            if self.shown is not None:
                cause = None if state is ProviderState.ACTIVE else self.record.last_error
                provider_log.changed(self.name, str(self.shown), str(state), cause)
            self.shown = state
            self.on_change()

    # --- for people ---

    def errors(self) -> list[str]:
        """Return a phrase for each host that failed last time."""
        return self.hosts.errors() if self.hosts is not None else []

    def report(self) -> dict[str, object]:
        """Return the provider's state and track record as `/api/providers` shows them. Times are Unix ms."""
        self._show()
        now, wall_ms = self.clock.now(), self.clock.wall_ms()
        back_s = self.back_in_s()
        return {
            "name": self.name,
            "state": str(self.state),
            "reason": self.disabled if self.disabled is not None else self._reason(),
            **self.record.report(),
            "tokens_left": self._tokens_left(),
            "open_until": wall_ms + round(back_s * 1000) if 0 < back_s < math.inf else None,
            "clock_skew_ms": self.skew_ms,
            "moved_to": self.sender.moved_to,
            "rests_s": round(max(0.0, self.limiter.cooldown_until - now), 1),
            "hosts": self.hosts.report() if self.hosts is not None else [],
        }

    def _reason(self) -> str | None:
        return None if self.state is ProviderState.ACTIVE else self.record.last_error

    def _tokens_left(self) -> float | None:
        left = self.limiter.tokens_left()
        return round(left, 1) if math.isfinite(left) else None


@dataclass(frozen=True, slots=True)
class _Done(Generic[T]):
    """A conversation has come to its value."""

    value: T


def _advance(steps: Generator[HttpRequest, HttpResponse, T], response: HttpResponse | None) -> "HttpRequest | _Done[T]":
    try:
        return next(steps) if response is None else steps.send(response)
    except StopIteration as done:  # must not cross into a Future
        return _Done(done.value)


def just(request: HttpRequest) -> Generator[HttpRequest, HttpResponse, HttpResponse]:
    """Yield the conversation of one request, whose answer is taken as it is."""
    return (yield request)

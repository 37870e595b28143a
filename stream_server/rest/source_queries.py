"""Ask the pools of sources on behalf of clients: within limits, and with a refusal that explains a missing answer.

A pool answers most questions from the values it holds. The questions that clients can cause upstream are limited by
address and by pool. In addition every upstream keeps a share of its allowance for the pollers (`feeds/upstreams.py`).
"""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
from aiohttp import web

from feeds.catalog import Sources
from orchestrator.clock import Clock
from orchestrator.errors import BadQuery, NotFound
from orchestrator.fetched import Exhausted, Fetched
from orchestrator.limiter import TokenBucket
from orchestrator.pool import Pool
from orchestrator.upstream import ProviderState
from stream_server.access.addresses import ADDRESS, RequestRates, is_loopback
from stream_server.context import CONTEXT, Context
from stream_server.rest.answers import Answer, too_old
from stream_server.wire.refusals import Refusal

Q = TypeVar("Q", bound=Hashable)
T = TypeVar("T")

ASKS_PER_S = {"ohlcv": 10.0}
"""A question about candles costs 2 of Binance's 6000 weights a minute, so this rate is a fifth of the budget."""
OTHER_ASKS_PER_S = 2.0
BURST = 30.0
ADDRESS_BURST_S = 30.0
"""The burst of a quiet address, in seconds of its rate: a page that opens asks for everything it shows at once."""
WITHIN_S = 25.0
"""The longest wait for an answer. The question goes on after it, for the next client that asks."""


class AskLimits:
    """Limits of the questions that clients cause upstream: by pool for all clients, and by address for all pools."""

    def __init__(self, ask_rate_per_s: float, clock: Clock) -> None:
        self.clock = clock
        self.pools: dict[str, TokenBucket] = {}
        self.addresses = RequestRates(ask_rate_per_s, clock, ADDRESS_BURST_S, "questions that only a source can answer")

    def of_pool(self, name: str) -> TokenBucket:
        """Return the bucket of a pool."""
        bucket = self.pools.get(name)
        if bucket is None:
            bucket = self.pools[name] = TokenBucket(ASKS_PER_S.get(name, OTHER_ASKS_PER_S), BURST, self.clock)
        return bucket

    def take(self, pool: str, address: str) -> None:
        """Count one question upstream. Raises Refusal 429 over a limit. This machine's own address has no limit."""
        if not is_loopback(address):
            self.addresses.check(address)
        if not self.of_pool(pool).take():
            message = f"too many requests that only the sources of {pool} can answer"
            raise Refusal("rate_limited", message, 429, retry_after_s=self.of_pool(pool).wait_s())


@dataclass(frozen=True, slots=True)
class Asking:
    """Asks the sources on behalf of one client. A tape has no sources."""

    context: Context
    limits: AskLimits
    address: str

    @property
    def sources(self) -> Sources:
        """The sources. Raises Refusal on a tape."""
        if self.context.sources is None:
            raise Refusal("unavailable", "not on this tape: it has no sources to ask", status=503, retry_after_s=60)
        return self.context.sources

    async def fetch(
        self,
        pool: Pool[Q, T],
        query: Q,
        max_age_ms: float | None = None,
        *,
        within_s: float = WITHIN_S,
        received_s: float | None = None,
    ) -> Fetched[T]:
        """Return the answer to a question, if possible not older than `max_age_ms` and received within `received_s`.

        Raises Refusal: 429 over a limit, 503 or 504 with `attempts` if no source can answer, 404 or 400 if that is the
        answer.
        """
        max_age_s = None if max_age_ms is None else max_age_ms / 1000
        if pool.would_ask(query, max_age_s, received_s):
            try:
                self.limits.take(pool.name, self.address)
            except Refusal:
                held = pool.peek(query)
                wants_new = max_age_s is not None or received_s is not None
                if held is None or wants_new or held.age_ms > pool.policy.stale_if_error_s * 1000:
                    raise
                return held
        try:
            async with asyncio.timeout(within_s):
                return await pool.fetch(query, max_age_s=max_age_s, within_s=received_s)
        except TimeoutError:
            message = f"no source of {pool.name} has answered within {within_s:g} s; it is still being asked"
            raise Refusal("deadline", message, 504, retry_after_s=5) from None
        except Exhausted as error:
            raise _refusal_of(error, pool, query, max_age_s) from None
        except NotFound as error:
            raise Refusal("not_found", f"not found: {error}", 404) from None
        except BadQuery as error:
            raise Refusal("bad_parameter", f"refused by the source: {error}", 400) from None

    def answer(
        self,
        parts: Sequence[tuple[Pool[Any, Any], Fetched[Any]]],
        make: Callable[[], object],
        max_age_ms: float | None = None,
        *,
        row_ages_ms: Iterable[int] = (),
        **extra: object,
    ) -> Answer:
        """Return the answer with values from pools, in most cases from one. `make` returns the data.

        `row_ages_ms` are the ages of the rows in the answer, if the rows of a value have times of their own.
        """
        age_ms = max((*(fetched.age_ms for _, fetched in parts), *row_ages_ms), default=0)
        versions = ".".join(f"{pool.name}{fetched.version}{'s' * fetched.stale}" for pool, fetched in parts)
        return Answer(
            lambda: orjson.dumps(make()),
            source=",".join(dict.fromkeys(fetched.source for _, fetched in parts)),
            true_at=self.context.clock.now() - age_ms / 1000,
            stale=any(fetched.stale for _, fetched in parts),
            cached=all(fetched.cached for _, fetched in parts),
            attempts=[attempt.report() for _, fetched in parts for attempt in fetched.attempts],
            extra=extra,
            version=f"{self.context.hub.epoch}-{versions}",
            max_age_ms=max_age_ms,
        )

    def without_source(self, refusal: Refusal, source: str) -> Answer:
        """Return the envelope of an answer that is given although the source refused. The caller sets the data."""
        return Answer(
            lambda: b"null",
            source=source,
            true_at=self.context.clock.now(),
            cached=False,
            attempts=attempts_of(refusal),
        )


def _refusal_of(error: Exhausted, pool: Pool[Q, T], query: Q, max_age_s: float | None) -> Refusal:
    attempts = [attempt.report() for attempt in error.attempts]
    held = pool.peek(query)
    if held is not None and max_age_s is not None:
        return too_old(held.age_ms, attempts, error.retry_after_s)
    details: dict[str, object] = {"attempts": attempts}
    disabled = {
        each.name: each.upstream.disabled for each in pool.providers if each.upstream.state is ProviderState.DISABLED
    }
    if disabled:
        details["disabled"] = disabled
    code, status = ("deadline", 504) if error.late else ("unavailable", 503)
    return Refusal(code, str(error), status, details, error.retry_after_s)


def attempts_of(refusal: Refusal) -> list[dict[str, object]]:
    """Return the attempts that failed, for an answer that is given nevertheless."""
    attempts = refusal.details.get("attempts")
    return attempts if isinstance(attempts, list) else []


ASK_LIMITS: web.AppKey[AskLimits] = web.AppKey("ask_limits", AskLimits)


def asking_of(request: web.Request) -> Asking:
    """Return what asks the sources on behalf of the sender of a request."""
    return Asking(request.app[CONTEXT], request.app[ASK_LIMITS], request.get(ADDRESS, ""))

"""Sends the requests of one provider within its allowance, to its hosts in turn, and learns from headers of answers."""

import logging
from collections.abc import Callable

from orchestrator.clock import Clock
from orchestrator.errors import BadQuery, Banned, Malformed, NotFound, ProviderError, RateLimited
from orchestrator.hosts import Host, Hosts
from orchestrator.http import HttpRequest, HttpResponse, Transport, excerpt
from orchestrator.judgement import judge
from orchestrator.limit_headers import correct_by_headers, header_number
from orchestrator.limiter import Limiter
from orchestrator.skew import TheirClock
from orchestrator.spending import Spending
from orchestrator.track_record import TrackRecord
from orchestrator.upstream_policy import UpstreamPolicy

log = logging.getLogger(__name__)

LONGEST_CACHED_S = 24 * 3600.0
SHORT_WAIT_S = 1.4
"""A conversation waits this long for its allowance instead of ending: some limits are by the second, which the
limiter holds for somewhat longer."""


class Throttled(RateLimited):
    """Our own allowance is used up."""

    asked = False


def no_correction(response: HttpResponse, limiter: Limiter) -> None:
    """Correct nothing: the provider says nothing about its limits beyond the usual headers."""


def no_time(response: HttpResponse) -> int | None:
    """Return None: the provider gives its time in `Date` alone."""
    return None


class Sender:
    """Sends requests; `refusal` classifies answers, `correct` and `time_in` read what only this provider says."""

    def __init__(
        self,
        name: str,
        hosts: Hosts | None,
        transport: Transport,
        clock: Clock,
        policy: UpstreamPolicy,
        limiter: Limiter,
        record: TrackRecord,
        spending: Spending,
        *,
        refusal: Callable[[str, HttpResponse], ProviderError | None],
        correct: Callable[[HttpResponse, Limiter], None],
        time_in: Callable[[HttpResponse], int | None],
    ) -> None:
        self.name = name
        self.hosts = hosts
        self.transport = transport
        self.clock = clock
        self.policy = policy
        self.limiter = limiter
        self.record = record
        self.spending = spending
        self.refusal = refusal
        self.correct = correct
        self.time_in = time_in
        """Reads the provider's own time (Unix ms) from an answer that has it."""
        self.their_clock = TheirClock(clock)
        self.moved_to: str | None = None
        """The place to which answers led us for good, without a query; a setting should name that place."""

    async def send(self, request: HttpRequest, timeout_s: float, urgent: bool) -> tuple[HttpResponse, Host | None]:
        """Send a request to the hosts in turn until one answers; return the answer and its host.

        Raises a ProviderError, and Throttled if our allowance does not let it go.
        """
        if request.base_url is not None or self.hosts is None:
            return await self._exchange(request, request.base_url or "", None, timeout_s, urgent), None
        turn = self.hosts.in_turn()
        error: ProviderError = Throttled(self.name, self.hosts.wait_s())
        for host in turn:
            try:
                return await self._exchange(request, host.url, host, timeout_s / len(turn), urgent), host
            except (BadQuery, NotFound, Throttled):
                raise
            except ProviderError as failure:
                self.hosts.failed(host, failure)
                error = failure
                if isinstance(failure, (RateLimited, Banned)) and self.policy.hosts_share_limits:
                    break
        raise error

    async def _exchange(
        self, request: HttpRequest, base_url: str, host: Host | None, timeout_s: float, urgent: bool
    ) -> HttpResponse:
        patience_ends = self.clock.now() + SHORT_WAIT_S
        while not self.limiter.take(request.weight, urgent):
            wait_s = self.limiter.wait_s(request.weight, urgent)
            if self.clock.now() + wait_s > patience_ends:
                raise Throttled(self.name, wait_s)
            await self.clock.sleep(wait_s)
        self.record.request()
        self.spending.note(self.name, self.limiter)
        if request.referred:
            self._follows(base_url + request.path)
        started = self.clock.now()
        response = await self.transport.send(self.name, base_url, request, timeout_s)
        if not request.referred and 200 <= response.status < 300:
            self.moved_to = None
        latency_ms = (self.clock.now() - started) * 1000
        self._learn(response, started)
        with self.record.noting():
            refused = None if response.status in request.may_be else self.refusal(self.name, response)
            if refused is not None:
                refused = judge(self.name, response, refused)
        fine = refused is None or isinstance(refused, (BadQuery, NotFound))
        if fine and host is not None and self.hosts is not None:
            self.hosts.worked(host, latency_ms)
        if refused is not None:
            note_beginning(refused, request, response)
            raise refused
        return response

    def blame(self, host: Host | None, error: ProviderError) -> None:
        """Note that a host's answer is of no use, so that another host comes next."""
        if host is not None and self.hosts is not None:
            self.hosts.failed(host, error)

    def _follows(self, place: str) -> None:
        if place != self.moved_to:
            log.warning("upstream_moved", extra={"provider": self.name, "to": place})
            self.moved_to = place

    def _learn(self, response: HttpResponse, asked_at: float) -> None:
        """Read the provider's clock and our allowance from headers."""
        exact_ms = self.time_in(response)
        if exact_ms is not None:
            self.their_clock.heard(exact_ms, asked_at, self.clock.now(), grain_ms=1.0)
        elif response.date_ms is not None:
            # What a cache gives has the `Date` of then, or that of the cache: it may be so much later by now.
            cached_s = min(header_number(response.headers, "age") or 0.0, LONGEST_CACHED_S)
            self.their_clock.heard(response.date_ms, asked_at, self.clock.now(), 1000 * (1 + cached_s))
        correct_by_headers(response, self.limiter, self.policy.reset_unit_s)
        self.correct(response, self.limiter)


def note_beginning(error: Exception, request: HttpRequest, response: HttpResponse) -> None:
    """Attach the beginning of an answer that could not be read to its error."""
    if isinstance(error, Malformed) and response.body:
        error.began = excerpt(request, response)

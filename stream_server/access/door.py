"""The door: decide whether a caller may have what it came for, before anything is done for it.

The light WebSocket, the WebSocket on aiohttp, `/sse` and REST all ask `Door.admit`. It checks in one order, and the
first check that fails is the answer:

1. rate: how much the caller's address asks;
2. origin, of what a page could send without being allowed to read the answer: WebSockets and POST;
3. room, of streams: whether we are shutting down, are full, or are full for this address;
4. metrics: whether they are for this machine alone;
5. credentials: who the caller is;
6. rights: whether that one may read what is asked for.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from stream_server.access import origins
from stream_server.access.addresses import (
    Network,
    RequestRates,
    address_of,
    is_exempt,
    is_loopback,
    rate_headers,
    scheme_of,
)
from stream_server.access.tokens import Access, Claims
from stream_server.wire.refusals import Refusal

log = logging.getLogger(__name__)

FULL_AGAIN_S = 30.0
DRAINING_AGAIN_S = 5.0
RELAYED = ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via")
"""Headers that proxies add to a request of somebody else."""


@dataclass(frozen=True, slots=True)
class DoorPolicy:
    """What the settings say about callers."""

    allowed_origins: Sequence[str] = (origins.ANY,)
    trusted_proxies: Sequence[Network] = ()
    metrics_open: bool = False
    """Whether everybody may read the metrics where no token is needed."""
    spares_near_streams: bool = True
    """Whether private addresses have no limit of streams, as where nobody has set one."""
    spares_near_requests: bool = True
    """The same for the limit of requests."""


class Room(Protocol):
    """Knows how many streams are open."""

    per_address: int

    def full(self) -> bool:
        """Return whether no further stream may be opened."""

    def full_for(self, address: str) -> bool:
        """Return whether this address may open no further stream."""

    def turn_away(self) -> None:
        """Count a stream that was refused."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as far as the connection and the headers tell."""

    address: str
    """The address that limits count by."""
    stream_address: str
    """The same for the limit of streams; empty if that does not apply."""
    request_address: str
    """The same for the limit of requests."""
    is_local: bool
    """Whether the caller is on this machine, and not behind a proxy on it."""
    scheme: str
    """What its page was asked for by, as far as a trusted proxy says so; we speak HTTP without TLS."""
    origin: str | None
    host: str
    authorization: str | None
    ticket: str | None
    request_id: str = ""
    """For the log."""


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a caller came for."""

    cost: int = 1
    """How many requests it counts as."""
    is_stream: bool = False
    """Whether it takes one of the places for streams."""
    is_open_to_pages: bool = True
    """Whether a page of any origin may send it. If not, `ALLOWED_ORIGINS` decides."""
    may_be_probe: bool = False
    """Whether our own probe comes this way."""
    is_metrics: bool = False
    reads: Callable[[], Sequence[str]] = tuple
    """Returns the topics and patterns that it reads, for a token that may not read everything."""


WEBSOCKET = Purpose(is_stream=True, is_open_to_pages=False, may_be_probe=True)
"""A WebSocket names its topics later, in messages. No rule of browsers keeps a foreign page from opening one."""


class Door:
    """Decide whom to let in. `own_claims` knows the ticket of our own probe, which passes all checks."""

    def __init__(
        self,
        policy: DoorPolicy,
        access: Access,
        rates: RequestRates,
        room: Room,
        is_draining: Callable[[], bool],
        own_claims: Callable[[str | None], Claims | None],
    ) -> None:
        self.policy = policy
        self.access = access
        self.rates = rates
        self.room = room
        self.is_draining = is_draining
        self.own_claims = own_claims

    def caller(
        self, peer: object, headers: Callable[[str], Sequence[str]], ticket: str | None, request_id: str = ""
    ) -> Caller:
        """Return who asks. `peer` is the connection's peer name, `headers` returns all values of a header."""

        def joined(name: str) -> str | None:
            # Joined, two values are not a valid one: which of them another server would take is anybody's guess.
            values = headers(name)
            return ", ".join(values) if values else None

        policy, host = self.policy, str(peer[0]) if isinstance(peer, tuple) else ""
        address = address_of(host, headers("X-Forwarded-For"), policy.trusted_proxies)
        is_spared = is_exempt(host, address, policy.trusted_proxies)
        is_relayed = any(headers(name) for name in RELAYED)
        return Caller(
            address,
            stream_address="" if is_spared and policy.spares_near_streams else address,
            request_address="" if is_spared and policy.spares_near_requests else address,
            is_local=is_loopback(address) and not (is_relayed and address == address_of(host, (), ())),
            scheme=scheme_of(host, headers("X-Forwarded-Proto"), policy.trusted_proxies),
            origin=joined("Origin"),
            host=joined("Host") or "",
            authorization=joined("Authorization"),
            ticket=ticket,
            request_id=request_id,
        )

    def admit(self, caller: Caller, purpose: Purpose) -> Claims:
        """Return what the caller may read. Raises Refusal, and logs one that somebody should look at.

        The ticket of a caller that is let in is spent.
        """
        own = self.own_claims(caller.ticket) if purpose.may_be_probe else None
        if own is not None:
            return own
        try:
            self.rates.check(caller.request_address, purpose.cost)
            return self._check(caller, purpose)
        except Refusal as refusal:
            if purpose.is_stream:
                self.room.turn_away()
            if refusal.code == "unauthorised":
                facts = {"address": caller.address, "cause": refusal.message, "request_id": caller.request_id}
                log.warning("unauthorised", extra=facts)
            raise

    def try_admit(self, caller: Caller, purpose: Purpose) -> Claims | None:
        """Return what the caller may read; None, with nothing counted or logged, where `admit` would refuse.

        For a shell that leaves refusals to another one, which asks `admit` again.
        """
        own = self.own_claims(caller.ticket) if purpose.may_be_probe else None
        if own is not None:
            return own
        if self.rates.exhausted(caller.request_address):
            return None
        try:
            claims = self._check(caller, purpose)
        except Refusal:
            return None
        self.rates.check(caller.request_address, purpose.cost)
        return claims

    def _check(self, caller: Caller, purpose: Purpose) -> Claims:
        """Make the checks that come after the rate. Raises Refusal."""
        if not purpose.is_open_to_pages:
            self._check_origin(caller)
        if purpose.is_stream:
            self._check_room(caller.stream_address)
        if purpose.is_metrics and self.access.is_open and not (caller.is_local or self.policy.metrics_open):
            raise Refusal("forbidden", "only this machine may read the metrics (METRICS_OPEN)", 403)
        claims = self.access.claims_of(caller.authorization, caller.ticket)
        if not claims.everything:
            _check_rights(claims, purpose.reads())
        return claims

    def _check_origin(self, caller: Caller) -> None:
        """Refuse a page that is not ours and not allowed; other programs send no Origin. Raises Refusal."""
        allowed = self.policy.allowed_origins
        if caller.origin is None or origins.ANY in allowed or origins.is_allowed(caller.origin, allowed):
            return
        if not origins.is_same(caller.origin, caller.scheme, caller.host):
            raise Refusal("forbidden", "pages of this origin may not connect (ALLOWED_ORIGINS)", 403)

    def _check_room(self, address: str) -> None:
        """Raise Refusal: 503 if there is no room for another stream, 429 if this address may open no other."""
        if self.is_draining():
            raise Refusal("shutting_down", "the server is shutting down", 503, retry_after_s=DRAINING_AGAIN_S)
        if self.room.full():
            message = "the server has reached its limit of connections"
            raise Refusal("connection_limit", message, 503, retry_after_s=FULL_AGAIN_S)
        if self.room.full_for(address):
            limit = self.room.per_address
            message = f"your address has {limit} connections, the most that are allowed"
            headers = rate_headers("streams", limit, FULL_AGAIN_S, 'qu="concurrent-requests"')
            raise Refusal("connection_limit", message, 429, retry_after_s=FULL_AGAIN_S, headers=headers)


def _check_rights(claims: Claims, selectors: Sequence[str]) -> None:
    """Raise Refusal 403 that names what may not be read."""
    denied = [selector for selector in selectors if not claims.allow(selector)]
    if denied:
        details: dict[str, object] = {"topics": denied, "allowed": list(claims.topics)}
        raise Refusal("forbidden", f"this token may not read {', '.join(denied)[:200]}", 403, details)

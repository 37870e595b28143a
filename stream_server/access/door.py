"""The door: what a request or a new stream has to pass before anything is done for it.

In this order: how often its address may ask, whether pages of its origin may, whether there is room, who it is, and
what that one may read. Both WebSocket shells and the middleware of all other paths ask here.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from feeds import topics
from feeds.chains import UnknownChainError, chain_named
from feeds.symbols import Symbols
from stream_server.access import origins
from stream_server.access.addresses import ADDRESS, address_of, is_exempt, is_loopback, rate_headers, scheme_of
from stream_server.access.parameters import Asked, Parameters
from stream_server.access.tokens import TICKET_S, Claims
from stream_server.connections.bodies import check_body
from stream_server.connections.envelope import REQUEST_ID
from stream_server.context import CLAIMS, CONTEXT, Context
from stream_server.delivery.selectors import extra_cost, resolve
from stream_server.rest.answers import OURS, Answer, respond
from stream_server.rest.sentiment import MAX_BODY_BYTES
from stream_server.wire.refusals import Refusal

log = logging.getLogger(__name__)

FULL_AGAIN_S = 30.0
DRAINING_AGAIN_S = 5.0

PUBLIC = frozenset(
    {
        "/",
        "/favicon.ico",
        "/static/{name}",
        "/health/live",
        "/health/ready",
        "/docs",
        "/openapi.json",
        "/asyncapi.json",
    }
)
"""Paths, as they are mounted, that need no token. Every other one does, also one that is added later."""

RELAYED = ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via")
"""What proxies add to a request of somebody else."""
EVERYTHING = [">"]
Reads = Callable[[Parameters, Symbols], list[str]]


@dataclass(frozen=True, slots=True)
class Caller:
    """What a request says of who asks.

    `address` is the one that limits count by. For those of streams and of requests it is empty where they do not apply.
    """

    address: str
    streams: str
    requests: str
    is_local: bool
    """Whether it comes from this machine itself, and not through a proxy on it."""
    scheme: str
    """What its page was asked for by, as far as a trusted proxy says so; we speak HTTP without TLS."""
    origin: str | None
    host: str
    authorization: str | None
    ticket: str | None

    @classmethod
    def read(
        cls,
        context: Context,
        peer: object,
        headers: Callable[[str], Sequence[str]],
        ticket: str | None,
    ) -> "Caller":
        """From a connection's peer name and all values of each header."""

        def only(name: str) -> str | None:
            # Two of them are none that we know: which one another server would take is anybody's guess.
            values = headers(name)
            return ", ".join(values) if values else None

        host = str(peer[0]) if isinstance(peer, tuple) else ""
        settings = context.settings
        trusted = settings.trusted_proxies or ()
        address = address_of(host, headers("X-Forwarded-For"), trusted)
        exempt = is_exempt(host, address, trusted)
        streams = "" if exempt and settings.max_connections_per_ip is None else address
        requests = "" if exempt and settings.rest_rate_per_s is None else address
        relayed = any(headers(name) for name in RELAYED)
        is_local = is_loopback(address) and not (relayed and address == address_of(host, (), ()))
        scheme = scheme_of(host, headers("X-Forwarded-Proto"), trusted)
        return cls(
            address,
            streams,
            requests,
            is_local,
            scheme,
            only("Origin"),
            only("Host") or "",
            only("Authorization"),
            ticket,
        )


def caller_of(context: Context, request: web.BaseRequest, *, reads_ticket: bool = False) -> Caller:
    """Return who sent a request to aiohttp, with the ticket in its URL only where `reads_ticket`."""
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    ticket = ticket_of(request) if reads_ticket else None
    return Caller.read(context, peer, lambda name: request.headers.getall(name, []), ticket)


def ticket_of(asked: Asked) -> str | None:
    """The ticket in a URL. Two different ones are none that we know."""
    return Parameters(asked).text("ticket") or None


def enter(context: Context, caller: Caller) -> Claims:
    """Let a new WebSocket in. Raises Refusal; a ticket is spent only by one that enters."""
    check_origin(context, caller)
    check_room(context, caller.streams)
    return context.access.claims_of(caller.authorization, caller.ticket)


def check_origin(context: Context, caller: Caller) -> None:
    """Refuse what comes from a page that is not ours nor allowed. What is no page sends no Origin. Raises Refusal."""
    allowed = context.settings.allowed_origins
    if caller.origin is None or origins.ANY in allowed or origins.is_allowed(caller.origin, allowed):
        return
    if not origins.is_same(caller.origin, caller.scheme, caller.host):
        raise Refusal("forbidden", "pages of this origin may not connect (ALLOWED_ORIGINS)", 403)


def check_room(context: Context, address: str) -> None:
    """Raises Refusal: 503 if nobody more may connect, 429 if nobody more from this address may."""
    clients = context.clients
    if context.draining:
        raise Refusal("shutting_down", "the server is shutting down", 503, retry_after_s=DRAINING_AGAIN_S)
    if clients.full():
        message = "the server holds as many connections as it may"
        raise Refusal("connection_limit", message, 503, retry_after_s=FULL_AGAIN_S)
    if clients.full_for(address):
        limit = clients.per_address
        message = f"your address has {limit} connections, the most that are allowed"
        headers = rate_headers("streams", limit, FULL_AGAIN_S, 'qu="concurrent-requests"')
        raise Refusal("connection_limit", message, 429, retry_after_s=FULL_AGAIN_S, headers=headers)


def told(caller: Caller, refusal: Refusal, request_id: str) -> Refusal:
    """The refusal, after the log has heard of one that somebody should look at."""
    if refusal.code == "unauthorised":
        facts = {"address": caller.address, "cause": refusal.message, "request_id": request_id}
        log.warning("unauthorised", extra=facts)
    return refusal


NAMES_TOPICS = ("/sse", "/api/snapshot")
"""Paths whose work grows with the topics and patterns that are named."""
TAKES_BODY = {"/api/sentiment/analyze": MAX_BODY_BYTES, "/api/ticket": 1024}
"""The most bytes of a body by the path that takes one. Some libraries send an empty object with every POST."""


@web.middleware
async def only_wanted_bodies(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse bodies where none is taken, on any path. What has no path or method here is refused for that."""
    resource = request.match_info.route.resource
    if request.match_info.http_exception is None:
        check_body(request, TAKES_BODY.get(resource.canonical) if resource is not None else None)
    return await handler(request)


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every path but the public ones and `/ws`, whose handler asks by itself because it can answer in two ways."""
    resource = request.match_info.route.resource
    path = resource.canonical if resource is not None else ""
    if path in PUBLIC or path == "/ws" or request.method == "OPTIONS":
        return await handler(request)
    context = request.app[CONTEXT]
    # Where headers can be set, a URL that ends up in logs is not the place for credentials.
    caller = caller_of(context, request, reads_ticket=path == "/sse")
    request[ADDRESS] = caller.address
    request[CLAIMS] = _admit(context, request, caller, path)
    # After a pause requests come before housekeeping, and would find old values that look fresh.
    context.hub.expire()
    if path not in TAKES_BODY:
        return await handler(request)
    async with context.bodies.reading(request, caller.address, TAKES_BODY[path]):
        return await handler(request)


def _admit(context: Context, request: web.Request, caller: Caller, path: str) -> Claims:
    extra = extra_cost(Parameters(request).topics()) if path in NAMES_TOPICS else 0
    context.rates.check(caller.requests, 1 + extra)
    if request.method == "POST":
        # A page may send a text without asking first, and need not be able to read the answer.
        check_origin(context, caller)
    if path == "/metrics" and context.access.is_open and not (caller.is_local or context.settings.metrics_open):
        raise Refusal("forbidden", "metrics are given to this machine alone (METRICS_OPEN)", 403)
    try:
        claims = context.access.claims_of(caller.authorization, caller.ticket)
    except Refusal as refusal:
        raise told(caller, refusal, request[REQUEST_ID]) from None
    if not claims.everything and path != "/sse":
        check_rights(claims, READS.get(path, _everything)(Parameters(request), context.symbols))
    return claims


def check_rights(claims: Claims, selectors: Sequence[str]) -> None:
    """Raises Refusal 403 that names what may not be read."""
    denied = [selector for selector in selectors if not claims.allow(selector)]
    if denied:
        details: dict[str, object] = {"topics": denied, "allowed": list(claims.topics)}
        raise Refusal("forbidden", f"this token may not read {', '.join(denied)[:200]}", 403, details)


async def issue_ticket(request: web.Request) -> web.Response:
    """`POST /api/ticket`: lets `/ws` or `/sse` be opened once, where a browser cannot set headers."""
    context = request.app[CONTEXT]
    body = {"ticket": context.access.issue_ticket(request[CLAIMS]), "expires_in_s": TICKET_S}
    answer = Answer(lambda: orjson.dumps(body), source=OURS, true_at=context.clock.now(), cached=False)
    response = respond(request, context, answer)
    response.headers["Cache-Control"] = "no-store"
    return response


# --- which topics a REST path reads; one that is not listed reads everything ---


def _everything(asked: Parameters, symbols: Symbols) -> list[str]:
    return EVERYTHING


def _only(*selectors: str) -> Reads:
    return lambda asked, symbols: list(selectors)


def _resolved(selectors: Sequence[str], symbols: Symbols) -> list[str]:
    try:
        good, bad = resolve(selectors, symbols)
    except Refusal:
        return EVERYTHING
    return EVERYTHING if bad else good


def _prices(asked: Parameters, symbols: Symbols) -> list[str]:
    named = asked.names("symbols")
    prices = _resolved([topics.price(name) for name in named], symbols) if named else ["price.*"]
    # The candidates that it names come with their prices and values, from the market table.
    return [*prices, topics.MARKET] if asked.flag("strict") else prices


def _candles(asked: Parameters, symbols: Symbols) -> list[str]:
    return _resolved([topics.ohlcv(asked.text("symbol"), asked.text("interval", "1h"))], symbols)


def _snapshot(asked: Parameters, symbols: Symbols) -> list[str]:
    return _resolved(asked.topics() or EVERYTHING, symbols)


def _of_chain(topic: Callable[[str], str]) -> Reads:
    def read(asked: Parameters, symbols: Symbols) -> list[str]:
        try:
            return [topic(chain_named(asked.text("chain", "ethereum")).name)]
        except UnknownChainError:
            return EVERYTHING

    return read


READS: Mapping[str, Reads] = {
    "/api/market": _only(topics.MARKET),
    "/api/market/trending": _only(topics.MARKET),
    "/api/market/global": _only(topics.MARKET_GLOBAL),
    "/api/market/price": _prices,
    "/api/market/ohlc": _candles,
    "/api/news": _only(topics.NEWS),
    "/api/sentiment/global": _only(topics.SENTIMENT_GLOBAL),
    "/api/sentiment/analyze": _only(),
    "/api/crypto/blockchain/gas": _of_chain(topics.gas),
    "/api/crypto/blockchain/stats": _of_chain(topics.chain),
    "/api/snapshot": _snapshot,
    "/api/topics": _only(),
    "/api/status": _only(topics.STATUS),
    "/metrics": _only(topics.STATUS),
    "/api/ticket": _only(),
}

"""The guard of all paths of HTTP: bodies only where they are wanted, and nothing before the door has let the caller in.

What a path needs stands in the tables below: whether it is public, which topics it reads, and how long a body it takes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Handler

from feeds import topics
from feeds.chains import UnknownChainError, chain_named
from feeds.symbols import Symbols
from stream_server.access.addresses import ADDRESS
from stream_server.access.door import Purpose
from stream_server.access.parameters import Parameters
from stream_server.connections.bodies import check_body
from stream_server.connections.callers import CALLER, caller_of
from stream_server.context import CLAIMS, CONTEXT, Context
from stream_server.delivery.selectors import extra_cost, resolve
from stream_server.rest.sentiment import MAX_BODY_BYTES
from stream_server.wire.refusals import Refusal

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
ASKS_BY_ITSELF = "/ws"
"""The path whose handler asks the door, because it can refuse in two ways."""
STREAMS = ("/sse",)
NAMES_TOPICS = ("/sse", "/api/snapshot")
"""Paths whose work grows with the topics and patterns that are named."""
TAKES_BODY = {"/api/sentiment/analyze": MAX_BODY_BYTES, "/api/ticket": 1024}
"""The most bytes of a body by the path that takes one. Some libraries send an empty object with every POST."""
EVERYTHING = [">"]
Reads = Callable[[Parameters, Symbols], list[str]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What the guard has to know about a path."""

    is_guarded: bool
    is_stream: bool
    is_metrics: bool
    names_topics: bool
    reads: Reads
    max_body_bytes: int | None
    """None for a path that takes no body."""


def endpoint_of(request: web.Request) -> Endpoint:
    """Return what the guard has to know about the path of a request."""
    resource = request.match_info.route.resource
    path = resource.canonical if resource is not None else ""
    return Endpoint(
        is_guarded=path not in PUBLIC and path != ASKS_BY_ITSELF,
        is_stream=path in STREAMS,
        is_metrics=path == "/metrics",
        names_topics=path in NAMES_TOPICS,
        reads=READS.get(path, _everything),
        max_body_bytes=TAKES_BODY.get(path),
    )


@web.middleware
async def only_wanted_bodies(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse a body where none is taken, on any path. A path or method that does not exist is refused for that."""
    if request.match_info.http_exception is None:
        check_body(request, endpoint_of(request).max_body_bytes)
    return await handler(request)


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Ask the door about every request, except on public paths and on `/ws`, whose handler asks by itself."""
    endpoint = endpoint_of(request)
    if not endpoint.is_guarded or request.method == "OPTIONS":
        return await handler(request)
    context = request.app[CONTEXT]
    # A client that can set headers does not put credentials into a URL, which ends up in logs.
    caller = caller_of(context.door, request, reads_ticket=endpoint.is_stream)
    request[CALLER], request[ADDRESS] = caller, caller.address
    request[CLAIMS] = context.door.admit(caller, purpose_of(request, endpoint, context))
    # After a pause requests come before housekeeping, and would find old values that look fresh.
    context.hub.expire()
    if endpoint.max_body_bytes is None:
        return await handler(request)
    async with context.bodies.reading(request, caller.address, endpoint.max_body_bytes):
        return await handler(request)


def purpose_of(request: web.Request, endpoint: Endpoint, context: Context) -> Purpose:
    """Return what a request asks for, as the door sees it."""
    extra = extra_cost(Parameters(request).topics()) if endpoint.names_topics else 0
    return Purpose(
        cost=1 + extra,
        is_stream=endpoint.is_stream,
        # A page may send a text without asking first, and need not be able to read the answer.
        is_open_to_pages=request.method != "POST",
        is_metrics=endpoint.is_metrics,
        reads=lambda: endpoint.reads(Parameters(request), context.symbols),
    )


# --- which topics a path reads; one that is not listed reads everything ---


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


def _stream(asked: Parameters, symbols: Symbols) -> list[str]:
    # The handler names what is wrong with topics; such a stream does not begin.
    selectors = asked.selectors(symbols)
    return [] if asked.problems else selectors


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
    "/sse": _stream,
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

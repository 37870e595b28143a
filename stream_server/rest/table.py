"""The table of all endpoints, and the router that is made from it."""

import re

from aiohttp import web

from stream_server.access.cors import vary
from stream_server.context import CONTEXT
from stream_server.rest import (
    candles,
    chain,
    documents,
    market,
    metrics,
    news,
    page,
    prices,
    sentiment,
    snapshot,
    status,
    streams,
    topic_list,
)
from stream_server.rest.answers import ANSWERS, AnswerCache
from stream_server.rest.endpoints import Endpoint
from stream_server.rest.new_sources import crypto_api_clean, crypto_dt_source, unified
from stream_server.rest.new_sources import status as sources_status
from stream_server.rest.source_queries import ASK_LIMITS, AskLimits
from stream_server.wire.headers import members

ENDPOINTS: tuple[Endpoint, ...] = (
    *prices.ENDPOINTS,
    *candles.ENDPOINTS,
    *market.ENDPOINTS,
    *news.ENDPOINTS,
    *sentiment.ENDPOINTS,
    *chain.ENDPOINTS,
    *streams.ENDPOINTS,
    *topic_list.ENDPOINTS,
    *snapshot.ENDPOINTS,
    *crypto_api_clean.ENDPOINTS,
    *crypto_dt_source.ENDPOINTS,
    *unified.ENDPOINTS,
    *sources_status.ENDPOINTS,
    *status.ENDPOINTS,
    *metrics.ENDPOINTS,
    *page.ENDPOINTS,
    *documents.ENDPOINTS,
)
"""Every endpoint. The documents have them in this order."""
BY_PATH = {re.sub(r":[^}]*}", "}", endpoint.path): endpoint for endpoint in ENDPOINTS}
"""The endpoints by the canonical paths of their routes."""
PREFLIGHTS = ("/api/{rest:.*}", "/sse", "/health/{rest:.*}", "/metrics", "/openapi.json", "/asyncapi.json")
"""The paths where browsers may ask before they send a request from another origin."""
USUAL_HEADERS = ("Authorization", "Last-Event-ID", "If-None-Match", "Content-Type", "X-Request-Id")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}", re.ASCII)
"""Source: RFC 9110, section 5.1."""


def endpoint_of(request: web.Request) -> Endpoint | None:
    """Return the endpoint that a request matched; None if it matched none."""
    resource = request.match_info.route.resource
    return BY_PATH.get(resource.canonical) if resource is not None else None


def add_routes(app: web.Application) -> None:
    """Mount every endpoint of the table, and create what the handlers share."""
    context = app[CONTEXT]
    app[ANSWERS] = AnswerCache(context.hub)
    app[ASK_LIMITS] = AskLimits(context.settings.ask_rate_per_s, context.clock)
    app[sources_status.ENDPOINT_CHECK] = sources_status.EndpointCheck(context)
    for endpoint in ENDPOINTS:
        if endpoint.method == "GET":
            app.router.add_get(endpoint.path, endpoint.handler, allow_head=not endpoint.is_stream)
        else:
            app.router.add_route(endpoint.method, endpoint.path, endpoint.handler)
    for path in PREFLIGHTS:
        app.router.add_route("OPTIONS", path, preflight)


async def preflight(request: web.Request) -> web.Response:
    """Answer a browser that asks before it sends. Any header may be sent: libraries add their own to every request."""
    asked = [name for name in members(request.headers, "Access-Control-Request-Headers") if _NAME.fullmatch(name)]
    endpoint = BY_PATH.get(request.path)
    headers = {
        "Access-Control-Allow-Methods": f"{endpoint.method if endpoint is not None else 'GET'}, OPTIONS",
        "Access-Control-Allow-Headers": ", ".join(asked or USUAL_HEADERS),
        "Access-Control-Max-Age": "86400",
    }
    response = web.Response(status=204, headers=headers)
    vary(response, "Access-Control-Request-Headers")
    return response

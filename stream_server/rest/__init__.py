"""REST: the same values as on the streams. One file a theme."""

import re

from aiohttp import web

from stream_server.context import Context, vary
from stream_server.rest import candles, chain, hub, market, metrics, new_sources, news, sentiment, status
from stream_server.rest.answers import VIEWS, Views
from stream_server.rest.source_queries import ASK_LIMITS, AskLimits
from stream_server.rest.status import status_report
from stream_server.wire.headers import members

__all__ = ["add_routes", "status_report"]

ANALYZE = "/api/sentiment/analyze"
TICKET = "/api/ticket"
"""Where a token is changed for a ticket; who may, the guard decides."""
POSTED = (ANALYZE, TICKET)


USUAL_HEADERS = ("Authorization", "Last-Event-ID", "If-None-Match", "Content-Type", "X-Request-Id")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}", re.ASCII)
"""Source: RFC 9110, section 5.1."""


async def preflight(request: web.Request) -> web.Response:
    """Answer a browser that asks before it sends. Any header may be sent: libraries add their own to every request."""
    asked = [name for name in members(request.headers, "Access-Control-Request-Headers") if _NAME.fullmatch(name)]
    headers = {
        "Access-Control-Allow-Methods": "POST, OPTIONS" if request.path in POSTED else "GET, OPTIONS",
        "Access-Control-Allow-Headers": ", ".join(asked or USUAL_HEADERS),
        "Access-Control-Max-Age": "86400",
    }
    response = web.Response(status=204, headers=headers)
    vary(response, "Access-Control-Request-Headers")
    return response


def add_routes(app: web.Application, context: Context) -> None:
    """Mount every endpoint."""
    app[VIEWS] = Views(context.hub)
    app[ASK_LIMITS] = AskLimits(context.settings.ask_rate_per_s, context.clock)
    for path, handler in {
        "/api/market": market.market,
        "/api/market/global": market.market_global,
        "/api/market/trending": market.trending,
        "/api/market/price": market.market_price,
        "/api/market/ohlc": candles.ohlc,
        "/api/news": news.news,
        "/api/sentiment/global": sentiment.fear_and_greed,
        "/api/crypto/blockchain/gas": chain.gas,
        "/api/crypto/blockchain/stats": chain.stats,
        "/api/snapshot": hub.snapshot,
        "/api/topics": hub.list_topics,
        "/api/status": status.status,
        "/health/live": status.live,
        "/health/ready": status.ready,
        "/metrics": metrics.metrics,
    }.items():
        app.router.add_get(path, handler)
    app.router.add_post(ANALYZE, sentiment.analyze)
    new_sources.add_routes(app)
    for path in ("/api/{rest:.*}", "/sse", "/health/{rest:.*}", "/metrics", "/openapi.json", "/asyncapi.json"):
        app.router.add_route("OPTIONS", path, preflight)

"""The headers that let pages of allowed origins read an answer (CORS)."""

from collections.abc import Sequence

from aiohttp import web

from stream_server.access import origins

EXPOSED = (
    "ETag, Age, Retry-After, RateLimit, RateLimit-Policy, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, "
    "WWW-Authenticate, X-Request-Id"
)
"""The headers of an answer that a page may read."""


def allow_origin(request: web.BaseRequest, response: web.StreamResponse, allowed: Sequence[str]) -> None:
    """Let pages of the allowed origins read this answer; those that are named one by one may send cookies.

    `*` stands for pages that send none. Behind a proxy that knows its users by cookies, any page could otherwise read
    what they may.
    """
    if any(each != origins.ANY for each in allowed) or not allowed:
        vary(response, "Origin")
    origin = request.headers.get("Origin")
    if origin is not None and origins.is_allowed(origin, allowed):
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Allow-Credentials"] = "true"
    elif origins.ANY in allowed:
        response.headers["Access-Control-Allow-Origin"] = origins.ANY
    response.headers["Access-Control-Expose-Headers"] = EXPOSED


def vary(response: web.StreamResponse, header: str) -> None:
    """Note for caches that this answer depends on a header of the request."""
    others = response.headers.get("Vary")
    response.headers["Vary"] = header if others is None else f"{others}, {header}"

"""`/docs`, `/openapi.json` and `/asyncapi.json`: what this service takes and gives, for people and for programs."""

from collections.abc import Callable, Mapping
from functools import cache

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from stream_server.context import CONTEXT
from stream_server.rest import page
from stream_server.rest.assets import Asset
from stream_server.specs import asyncapi, openapi


def add_routes(app: web.Application) -> None:
    """Mount the page and the two documents that it shows."""
    app.router.add_get("/docs", page.serving("docs.html", app[CONTEXT]))
    app.router.add_get("/openapi.json", _serving(openapi.document))
    app.router.add_get("/asyncapi.json", _serving(asyncapi.document))


@cache
def _asset(document: Callable[[], Mapping[str, object]]) -> Asset:
    """Return a document as it is sent; it stays the same while the process lives, and takes long to derive."""
    return Asset.of(orjson.dumps(document()), "application/json")


def _serving(document: Callable[[], Mapping[str, object]]) -> Handler:
    """Return the handler of a document."""
    asset = _asset(document)

    async def serve(request: web.Request) -> web.Response:
        return asset.answer(request, {"Cache-Control": "no-cache"})

    return serve

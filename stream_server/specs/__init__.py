"""`/docs`, `/openapi.json` and `/asyncapi.json`: what this service takes and gives, for people and for programs."""

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
    app.router.add_get("/openapi.json", _serving(orjson.dumps(openapi.document())))
    app.router.add_get("/asyncapi.json", _serving(orjson.dumps(asyncapi.document())))


def _serving(document: bytes) -> Handler:
    """Return the handler of a document that stays the same while the process lives."""
    asset = Asset.of(document, "application/json")

    async def serve(request: web.Request) -> web.Response:
        return asset.answer(request, {"Cache-Control": "no-cache"})

    return serve

"""`/docs`, `/openapi.json` and `/asyncapi.json`: what this service takes and gives, for people and for programs."""

import hashlib

import orjson
from aiohttp import web

from stream_server import page
from stream_server.context import CONTEXT
from stream_server.rest.answers import Handler
from stream_server.specs import asyncapi, openapi


def add_routes(app: web.Application) -> None:
    """Mount the page and the two documents that it shows."""
    html = page.static_folder() / "docs.html"
    headers = page.headers_of(app[CONTEXT])

    async def docs(request: web.Request) -> web.FileResponse:
        return web.FileResponse(html, headers=headers)

    app.router.add_get("/docs", docs)
    app.router.add_get("/openapi.json", _serving(orjson.dumps(openapi.document())))
    app.router.add_get("/asyncapi.json", _serving(orjson.dumps(asyncapi.document())))


def _serving(document: bytes) -> Handler:
    """Gives a document that stays the same as long as the process lives."""
    tag = f'"{hashlib.blake2b(document, digest_size=9).hexdigest()}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}

    async def serve(request: web.Request) -> web.Response:
        known = request.headers.get("If-None-Match", "")
        if tag in [each.strip().removeprefix("W/") for each in known.split(",")]:
            return web.Response(status=304, headers=headers)
        return web.Response(body=document, content_type="application/json", headers=headers)

    return serve

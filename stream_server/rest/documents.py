"""Serve the API documents, which `specs` builds and publishes here when the service starts."""

from collections.abc import Mapping

from aiohttp import web

from stream_server.rest.assets import Asset
from stream_server.rest.endpoints import Endpoint, Tag
from stream_server.rest.shapes import AsyncApi, OpenApi

DOCUMENTS = web.AppKey("documents", Mapping[str, Asset])
"""The documents by their paths."""


async def document(request: web.Request) -> web.Response:
    """Answer with the document of this path. Documents stay the same while the process lives."""
    return request.app[DOCUMENTS][request.path].answer(request, {"Cache-Control": "no-cache"})


ENDPOINTS = (
    Endpoint(
        path="/openapi.json",
        handler=document,
        summary="The contract of these endpoints",
        tag=Tag.PAGES,
        answer=OpenApi,
        is_public=True,
        headers=("ETag",),
    ),
    Endpoint(
        path="/asyncapi.json",
        handler=document,
        summary="The contract of the streams",
        tag=Tag.PAGES,
        answer=AsyncApi,
        is_public=True,
        headers=("ETag",),
    ),
)

"""The API documents, for people and for programs: `/openapi.json` and `/asyncapi.json`."""

import functools
from collections.abc import Mapping

import orjson
from aiohttp import web

from stream_server.rest.assets import Asset
from stream_server.rest.documents import DOCUMENTS
from stream_server.specs import asyncapi, openapi


def publish(app: web.Application) -> None:
    """Give the application the documents that its endpoints serve."""
    app[DOCUMENTS] = documents()


@functools.cache
def documents() -> Mapping[str, Asset]:
    """Build the documents by their paths. They depend on the code alone, so one process builds them once."""
    built = {"/openapi.json": openapi.document(), "/asyncapi.json": asyncapi.document()}
    return {path: Asset.of(orjson.dumps(document), "application/json") for path, document in built.items()}

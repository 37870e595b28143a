"""Check every request before its handler runs, by the entry of its endpoint in the table.

A request that matches no endpoint needs the rights to everything, so that an unknown path needs a token too.
"""

from aiohttp import web

from stream_server.access.addresses import ADDRESS
from stream_server.access.door import Purpose
from stream_server.access.parameters import Parameters
from stream_server.connections.bodies import check_body
from stream_server.connections.callers import CALLER, caller_of
from stream_server.context import CLAIMS, CONTEXT, Context
from stream_server.delivery.selectors import extra_cost
from stream_server.rest.endpoints import Endpoint, Handler
from stream_server.rest.rights import EVERYTHING
from stream_server.rest.table import endpoint_of


@web.middleware
async def only_wanted_bodies(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse a body if the endpoint takes none. An unknown path or method is refused for that instead."""
    endpoint = endpoint_of(request)
    if request.match_info.http_exception is None:
        check_body(request, endpoint.max_body_bytes if endpoint is not None else None)
    return await handler(request)


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Ask the door about a request, unless its endpoint is public or asks by itself. Raises Refusal."""
    endpoint = endpoint_of(request)
    is_open = endpoint is not None and (endpoint.is_public or endpoint.guards_itself)
    if is_open or request.method == "OPTIONS":
        return await handler(request)
    context = request.app[CONTEXT]
    # A client that can set headers does not put credentials into a URL, which ends up in logs.
    caller = caller_of(context.door, request, reads_ticket=endpoint is not None and endpoint.is_stream)
    request[CALLER], request[ADDRESS] = caller, caller.address
    request[CLAIMS] = context.door.admit(caller, purpose_of(request, endpoint, context))
    # After a pause of the process requests come before housekeeping, and would find old values that look fresh.
    context.hub.expire()
    if endpoint is None or endpoint.body is None:
        return await handler(request)
    async with context.bodies.reading(request, caller.address, endpoint.body.max_bytes):
        return await handler(request)


def purpose_of(request: web.Request, endpoint: Endpoint | None, context: Context) -> Purpose:
    """Return what a request asks for, as the door sees it."""
    # A page may send a text without asking first, although it may not read the answer.
    is_open_to_pages = request.method != "POST"
    if endpoint is None:
        return Purpose(is_open_to_pages=is_open_to_pages, reads=lambda: EVERYTHING)
    extra = extra_cost(Parameters(request).topics()) if endpoint.names_topics else 0
    return Purpose(
        cost=1 + extra,
        is_stream=endpoint.is_stream,
        is_open_to_pages=is_open_to_pages,
        is_metrics=endpoint.is_private,
        reads=lambda: endpoint.reads(Parameters(request), context.symbols),
    )

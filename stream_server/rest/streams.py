"""Declare the endpoints that open streams, and serve `/api/ticket`, which exchanges a token for a ticket."""

import orjson
from aiohttp import web

from feeds.symbols import Symbols
from stream_server.access.parameter_kinds import (
    BATCH,
    INTERVAL_MS,
    LAST_EVENT_ID,
    SINCE,
    TICKET,
    TOPICS,
    TOPICS_NEEDED,
)
from stream_server.access.parameters import Parameters
from stream_server.access.tokens import TICKET_S
from stream_server.connections.sse import PATH as SSE
from stream_server.connections.sse import sse
from stream_server.connections.websocket import websocket
from stream_server.context import CLAIMS, CONTEXT
from stream_server.rest.answers import OURS, Answer, respond
from stream_server.rest.endpoints import Body, Endpoint, Tag
from stream_server.rest.rights import only
from stream_server.rest.shapes import Enveloped, Ticket


async def issue_ticket(request: web.Request) -> web.Response:
    """Answer with a ticket that opens `/ws` or `/sse` once, for clients that cannot set headers."""
    context = request.app[CONTEXT]
    body: Ticket = {"ticket": context.access.issue_ticket(request[CLAIMS]), "expires_in_s": TICKET_S}
    answer = Answer(lambda: orjson.dumps(body), source=OURS, true_at=context.clock.now(), cached=False)
    response = respond(request, context, answer)
    response.headers["Cache-Control"] = "no-store"
    return response


def _reads(parameters: Parameters, symbols: Symbols) -> list[str]:
    selectors = parameters.selectors(symbols)
    # The handler reports what is wrong with them, and no stream begins.
    return [] if parameters.problems else selectors


ENDPOINTS = (
    Endpoint(
        path="/ws",
        handler=websocket,
        summary="The stream over WebSocket",
        tag=Tag.STREAMS,
        parameters=(TOPICS, SINCE, LAST_EVENT_ID, INTERVAL_MS, BATCH, TICKET),
        notes="`/asyncapi.json` describes the messages. Wrong parameters are reported over the WebSocket.",
        guards_itself=True,
        is_stream=True,
        refuses=(426,),
        status=101,
        media=(),
        headers=(),
    ),
    Endpoint(
        path=SSE,
        handler=sse,
        summary="The stream over Server-Sent Events",
        tag=Tag.STREAMS,
        answer=str,
        parameters=(TOPICS_NEEDED, INTERVAL_MS, LAST_EVENT_ID, SINCE, TICKET),
        notes="`/asyncapi.json` describes the messages. An EventSource reconnects and resumes by itself. A client that "
        "sends `Accept: text/event-stream` never gets 429, 500 or 503, which would end an EventSource; it gets a "
        "`goodbye` with the time to reconnect.",
        reads=_reads,
        is_stream=True,
        media=("text/event-stream",),
        headers=(),
    ),
    Endpoint(
        path="/api/ticket",
        handler=issue_ticket,
        summary="Exchange a token for a ticket that opens one stream",
        tag=Tag.STREAMS,
        answer=Enveloped[Ticket],
        method="POST",
        body=Body(1024),
        reads=only(),
        headers=("Age",),
    ),
)

"""`POST /api/ticket`: exchange a token for a ticket that opens one stream, where a browser cannot set headers."""

import orjson
from aiohttp import web

from stream_server.access.tokens import TICKET_S
from stream_server.context import CLAIMS, CONTEXT
from stream_server.rest.answers import OURS, Answer, respond


async def issue_ticket(request: web.Request) -> web.Response:
    """Answer with a ticket that opens `/ws` or `/sse` once."""
    context = request.app[CONTEXT]
    body = {"ticket": context.access.issue_ticket(request[CLAIMS]), "expires_in_s": TICKET_S}
    answer = Answer(lambda: orjson.dumps(body), source=OURS, true_at=context.clock.now(), cached=False)
    response = respond(request, context, answer)
    response.headers["Cache-Control"] = "no-store"
    return response

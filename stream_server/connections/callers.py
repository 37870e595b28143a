"""Read who sent a request to aiohttp, for the door."""

from aiohttp import web

from stream_server.access.door import Caller, Door
from stream_server.access.parameters import Asked, Parameters
from stream_server.connections.envelope import REQUEST_ID

CALLER = web.RequestKey("caller", Caller)
"""Who sent a request that the guard has let in."""


def caller_of(door: Door, request: web.BaseRequest, *, reads_ticket: bool = False) -> Caller:
    """Return who sent a request, with the ticket in its URL only where `reads_ticket`."""
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    ticket = ticket_of(request) if reads_ticket else None
    return door.caller(peer, lambda name: request.headers.getall(name, []), ticket, request[REQUEST_ID])


def ticket_of(asked: Asked) -> str | None:
    """Return the ticket in a URL. Two different ones are joined, which is not a ticket that we know."""
    return Parameters(asked).text("ticket") or None

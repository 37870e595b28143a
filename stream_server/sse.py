"""The SSE shell: headers, where the client stands, and then the same outbox as a WebSocket's."""

from aiohttp import HttpVersion11, web
from aiohttp_sse import EventSourceResponse

from stream_server.context import CONTEXT
from stream_server.envelope import Wire
from stream_server.guard import CLAIMS, caller_of, check_rights, check_room
from stream_server.outbox import Outbox
from stream_server.refusals import Refusal
from stream_server.rest.parameters import Parameters
from stream_server.session import hello
from stream_server.transport import SocketPipe, raw_transport

NEVER_S = 1e9
KERNEL_LATER_S = 5.0
"""The kernel gives up a peer that takes nothing for longer than STALL_S by this: it says no goodbye, the hub does."""
RETRY_MS = (1000, 4000)
"""Each client gets its own delay, so that a restart does not bring them all back at once."""


async def sse(request: web.Request) -> web.StreamResponse:
    """`GET /sse?topics=…&interval_ms=…`; the position comes from `Last-Event-ID`, header or parameter, or `since`."""
    context = request.app[CONTEXT]
    clients = context.clients
    claims = request[CLAIMS]
    parameters = Parameters(request)
    selectors = parameters.selectors(context.symbols)
    interval_ms = parameters.interval_ms()
    since = parameters.cursor(_header_of(request))
    parameters.check()
    check_rights(claims, selectors)
    address = caller_of(context, request).address
    try:
        check_room(context, address)
    except Refusal:
        clients.refused += 1
        raise
    # aiohttp-sse gives the headers, the wait for the end, and a kernel that notices a host that has vanished
    # (TCP_USER_TIMEOUT); pings come from the one heartbeat of all clients.
    response = EventSourceResponse(ping_interval=NEVER_S, send_timeout=context.settings.stall_s + KERNEL_LATER_S)
    response.headers["Cache-Control"] = "no-store"
    raw_transport(request)  # what follows takes for granted that there is one
    await response.prepare(request)
    wire = Wire.SSE if request.version >= HttpVersion11 else Wire.SSE_UNCHUNKED
    async with response:  # it has a task by now, that only leaving this block ends
        # Through aiohttp once, which sends the headers with it; from here on bytes go straight to the transport.
        greeting = hello(context.hub.epoch, context.settings.heartbeat_s, context.clock.wall_ms()).sse()
        await response.write(b"retry: %d\n%b" % (context.rng.randint(*RETRY_MS), greeting))
        outbox = Outbox(SocketPipe(raw_transport(request), on_close=response.stop_streaming), wire)
        client = context.new_client(outbox, address, claims)
        try:
            context.hub.join(outbox)
            context.hub.subscribe(outbox, selectors, since, interval_ms)
            await response.wait()
        finally:
            clients.leave(client)
    return response


def _header_of(request: web.Request) -> list[str]:
    # What is not UTF-8 arrives as lone surrogates, which no answer could repeat.
    values = request.headers.getall("Last-Event-ID", [])
    return [value.encode(errors="surrogateescape").decode(errors="replace") for value in values]

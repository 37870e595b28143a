"""Serve `/sse`: read the parameters, send the headers, and attach the client to the hub through an outbox.

An EventSource gives up for good at any status but 200. So a refusal that does not last is sent to it as a stream that
says when to reconnect, and ends.
"""

from aiohttp import HttpVersion11, web
from aiohttp.typedefs import Handler
from aiohttp_sse import EventSourceResponse

from stream_server.access.parameter_kinds import INTERVAL_MS
from stream_server.access.parameters import Parameters
from stream_server.connections.callers import CALLER
from stream_server.connections.transport import SocketPipe, raw_transport
from stream_server.context import CLAIMS, CONTEXT, Context
from stream_server.delivery.outbox import Outbox
from stream_server.delivery.session import hello
from stream_server.wire import messages
from stream_server.wire.headers import words
from stream_server.wire.messages import Wire
from stream_server.wire.refusals import SHUTTING_DOWN, TOO_MANY_REQUESTS

NEVER_S = 1e9
KERNEL_LATER_S = 5.0
"""The kernel drops a peer that reads nothing this much later than STALL_S, because the hub says goodbye first."""
RETRY_MS = (1000, 4000)
"""Each client gets its own delay, so that a restart does not bring them all back at once."""
FAULT_AGAIN_S = 5.0
PATH = "/sse"
HEADERS = {
    # No proxy may hold an event back to compress it with the next ones.
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
    # Source: RFC 10036.
    "Incremental": "?1",
}


async def sse(request: web.Request) -> web.StreamResponse:
    """Answer `GET /sse`. The position comes from `Last-Event-ID`, as a header or a parameter, or from `since`."""
    context = request.app[CONTEXT]
    parameters = Parameters(request)
    selectors = parameters.selectors(context.symbols)
    interval_ms = parameters.read(INTERVAL_MS)
    since = parameters.cursor(_header_of(request))
    parameters.text("ticket")  # the door has read it; a problem with it is reported here
    parameters.check()
    # aiohttp-sse sets the headers, waits for the end, and lets the kernel notice a host that has vanished
    # (TCP_USER_TIMEOUT). The comments that keep the stream alive come from the one heartbeat of all clients.
    response = EventSourceResponse(ping_interval=NEVER_S, send_timeout=context.settings.stall_s + KERNEL_LATER_S)
    response.headers.update(HEADERS)
    raw_transport(request)  # raises if the client has left
    await response.prepare(request)
    wire = Wire.SSE if request.version >= HttpVersion11 else Wire.SSE_UNCHUNKED
    async with response:  # it has a task, which ends only with this block
        # aiohttp sends the headers together with this. Everything after it goes straight to the transport.
        greeting = hello(context.hub.epoch, context.settings.heartbeat_s, context.clock.wall_ms()).sse()
        await response.write(b"retry: %d\n%b" % (context.rng.randint(*RETRY_MS), greeting))
        outbox = Outbox(SocketPipe(raw_transport(request), on_close=response.stop_streaming), wire)
        client = context.new_client(outbox, request[CALLER].stream_address, request[CLAIMS])
        try:
            context.hub.members.join(outbox)
            context.hub.subscribe(outbox, selectors, since, interval_ms)
            await response.wait()
        finally:
            context.clients.leave(client)
    return response


# --- refusals that an EventSource comes back from ---


@web.middleware
async def keep_event_sources(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let an EventSource reconnect after a refusal that does not last: too many, shutting down, or a fault of ours."""
    response = await handler(request)
    lasts = response.status != 429 and response.status < 500
    if lasts or response.prepared or request.path != PATH or not _is_event_source(request):
        return response
    context = request.app[CONTEXT]
    again_s = max(float(response.headers.get("Retry-After", FAULT_AGAIN_S)), _drained_in_s(context))
    again_ms = round(again_s * 1000) + context.rng.randint(*RETRY_MS)
    farewell = messages.goodbye(SHUTTING_DOWN if context.draining else TOO_MANY_REQUESTS, again_ms)
    body = b"retry: %d\n%b" % (again_ms, farewell.sse())
    ended = web.Response(body=body, content_type="text/event-stream", headers=HEADERS)
    ended.force_close()
    return ended


def _is_event_source(request: web.Request) -> bool:
    """Return whether the client accepts streams of events, as the standard demands; other clients read the status."""
    return "text/event-stream" in words(request.headers, "Accept")


def _drained_in_s(context: Context) -> float:
    """Return how long this process still answers if it is shutting down; 0 if it is not."""
    if not context.draining:
        return 0.0
    gone_by = context.clients.gone_by
    return context.settings.shutdown_s if gone_by is None else max(0.0, gone_by - context.clock.now())


def _header_of(request: web.Request) -> list[str]:
    # Bytes that are not UTF-8 arrive as lone surrogates, which no answer could repeat.
    values = request.headers.getall("Last-Event-ID", [])
    return [value.encode(errors="surrogateescape").decode(errors="replace") for value in values]

"""Send every error over HTTP in one envelope, and set the headers of every answer.

Errors of handlers, refusals, and requests that aiohttp cannot read all leave in the same shape.
"""

import logging
import math
import re
import time
from datetime import UTC, datetime

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from orchestrator.containment import Contained
from stream_server.access.browsers import SERVER
from stream_server.access.cors import allow_origin
from stream_server.connections.bodies import is_body_behind_upgrade
from stream_server.context import CONTEXT, Context
from stream_server.wire.refusals import Refusal

log = logging.getLogger(__name__)

STARTED = web.RequestKey("started", float)
"""The time when work on a request began, by `time.perf_counter`."""
REQUEST_ID = web.RequestKey("request_id", str)
_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
MALFORMED = "malformed_request"
"""The code that counts requests which are not HTTP; other bad requests have the codes of their refusals."""


def refused(refusal: Refusal, now_ms: int, request_id: str) -> web.Response:
    """Return the answer that carries a refusal."""
    # A message may repeat a header, in which bytes that are not UTF-8 are lone surrogates. JSON cannot hold those.
    message = refusal.message.encode(errors="replace").decode()
    error = {"code": refusal.code, "message": message, "details": refusal.details}
    headers = {"Cache-Control": "no-store"}
    headers.update(refusal.headers)
    if refusal.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(refusal.retry_after_s)))
    body = {"success": False, "error": error, "timestamp": iso_time(now_ms), "request_id": request_id}
    response = web.Response(
        status=refusal.status, body=orjson.dumps(body), content_type="application/json", headers=headers
    )
    if headers.get("Connection") == "close":
        response.force_close()  # the header alone would not end it
    return response


def iso_time(ms: int) -> str:
    """Return Unix milliseconds as ISO 8601 in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@web.middleware
async def envelope_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Send every error in the envelope, with the id of its request and without a traceback."""
    request[STARTED] = time.perf_counter()
    context = request.app[CONTEXT]
    request[REQUEST_ID] = request_id = _id_of(request, context)
    refusal: Refusal | None = None
    try:
        with Contained(Refusal, web.HTTPException, ConnectionResetError) as handling:
            response = await handler(request)
        if handling.fault is not None:
            log.error(
                "request_crashed", extra={"path": request.path, "request_id": request_id}, exc_info=handling.fault
            )
            refusal = Refusal("internal", "an internal error of the server", status=500)
    except Refusal as error:
        refusal = error
    except web.HTTPException as error:
        if error.status < 400:
            raise
        refusal = _refusal_of(error, request)
    except ConnectionResetError:
        # The client left before its stream began. This answer reaches nobody; without it aiohttp would log a fault.
        return web.Response(status=499)
    if refusal is not None:
        context.refusals[refusal.code] += 1
        response = refused(refusal, context.clock.wall_ms(), request_id)
    if not response.prepared:
        resource = request.match_info.route.resource
        path = resource.canonical if resource is not None else "unknown"
        context.requests.add(request.method, path, response.status, time.perf_counter() - request[STARTED])
    return response


async def finish(request: web.Request, response: web.StreamResponse) -> None:
    """Set the headers of every answer, including streams and the answers that aiohttp gives by itself.

    The `X-Request-Id` is that of the request if it had one. Pages of allowed origins may read the answer.
    """
    if response.status == 101:
        response.headers.update(SERVER)
        return
    context = request.app[CONTEXT]
    if is_body_behind_upgrade(request):
        response.force_close()
        response.headers["Connection"] = "close"
    allow_origin(request, response, context.settings.allowed_origins)
    keep_safe(context, response, request.get(REQUEST_ID) or _id_of(request, context))


def keep_safe(context: Context, response: web.StreamResponse, request_id: str) -> None:
    """Set the request id and the headers that restrict browsers. A page of ours keeps its own policy."""
    response.headers["X-Request-Id"] = request_id
    response.headers.update(SERVER)
    for name, value in context.safe_headers.items():
        response.headers.setdefault(name, value)


def _id_of(request: web.Request, context: Context) -> str:
    given = request.headers.get("X-Request-Id")
    return given if given is not None and _SANE_ID.fullmatch(given) else new_request_id(context)


def new_request_id(context: Context) -> str:
    """Return an id for a request that has none."""
    return f"{context.rng.getrandbits(64):016x}"


def _refusal_of(error: web.HTTPException, request: web.Request) -> Refusal:
    # A path that only answers preflights does not exist for other methods.
    only_preflight = isinstance(error, web.HTTPMethodNotAllowed) and error.allowed_methods == {"OPTIONS"}
    if error.status == 404 or only_preflight:
        return Refusal("not_found", f"no such path: {request.path[:200]}", status=404)
    if error.status == 405:
        message = f"{request.path[:200]} does not take {request.method}"
        return Refusal("method_not_allowed", message, status=405, headers={"Allow": error.headers["Allow"]})
    return Refusal("bad_request", (error.text or error.reason).strip()[:200], status=error.status)

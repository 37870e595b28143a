"""One envelope for every answer and every error, and the text of answers that were given before.

Nothing is encoded for a client that has the answer already, nor twice for two clients that ask the same.
"""

import hashlib
import logging
import math
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import orjson
from aiohttp import web

from stream_server.access.browsers import SERVER
from stream_server.connections.bodies import is_body_behind_upgrade
from stream_server.context import CONTEXT, Context
from stream_server.delivery.history import TopicHistory
from stream_server.delivery.hub import Hub
from stream_server.wire.headers import is_known
from stream_server.wire.refusals import Refusal

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

STARTED = web.RequestKey("started", float)
REQUEST_ID = web.RequestKey("request_id", str)
_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
MALFORMED = "malformed_request"
"""What requests are counted by that are no HTTP, so that they are told from those that could be read."""
OURS = "stream_server"
"""The source of what is known or computed here."""
VIEWS_KEPT = 64
SHOWN_CHARS = 40
"""Of a client's own words in an error."""


@dataclass(slots=True)
class Answer:
    """What one answer says. `make` gives the JSON text of `data`; it is called once at most.

    `true_at` is when the oldest value in it was true at its source (monotonic seconds), `max_age_ms` how old the
    client wants it at most. `version` names the data where that is known without reading it; equal versions mean
    equal data.
    """

    make: Callable[[], bytes]
    source: str
    true_at: float
    stale: bool = False
    cached: bool = True
    attempts: Sequence[dict[str, object]] = ()
    extra: dict[str, object] = field(default_factory=dict)
    version: str = ""
    max_age_ms: float | None = None
    written: bytes | None = None

    @property
    def data(self) -> bytes:
        """The JSON text of the data."""
        if self.written is None:
            self.written = self.make()
        return self.written

    @property
    def tag(self) -> str:
        """Its ETag."""
        version = self.version or hashlib.blake2b(self.data, digest_size=9).hexdigest()
        return f'W/"{version}{"-stale" if self.stale else ""}"'

    def age_ms(self, now: float) -> int:
        """How old its oldest value is."""
        return max(0, round((now - self.true_at) * 1000))

    def is_too_old(self, now: float) -> bool:
        """Whether the client wants no value so old."""
        if self.max_age_ms is None:
            return False
        # Nothing is of no age: 0 asks for what the sources say now, however old that is by their own account.
        is_bound = self.cached or self.max_age_ms > 0
        return is_bound and self.age_ms(now) > self.max_age_ms


def respond(request: web.Request, context: Context, answer: Answer) -> web.Response:
    """Wrap an answer. 503 if it is older than the client allows, 304 if the client has it.

    The header `Age` tells the age of what a 304 confirms, too: in whole seconds, and never too few.
    """
    now = context.clock.now()
    age_ms = answer.age_ms(now)
    if answer.is_too_old(now):
        raise too_old(age_ms, answer.attempts)
    headers = {"Cache-Control": "no-cache", "Age": str(-(-age_ms // 1000))}
    if request.method != "POST":
        headers["ETag"] = tag = answer.tag
        if is_known(request.headers, tag):
            return web.Response(status=304, headers=headers)
    body = {
        "success": True,
        "data": orjson.Fragment(answer.data),
        "source": answer.source,
        "timestamp": iso_time(context.clock.wall_ms()),
        "latency_ms": round((time.perf_counter() - request[STARTED]) * 1000, 2),
        "cached": answer.cached,
        "age_ms": age_ms,
        "stale": answer.stale,
        "attempts": answer.attempts,
        "position": context.hub.position,
        **answer.extra,
    }
    return web.Response(body=orjson.dumps(body), content_type="application/json", headers=headers)


def too_old(age_ms: int, attempts: Sequence[dict[str, object]] = (), retry_after_s: float = 1.0) -> Refusal:
    """The refusal to give anything older than `max_age`."""
    message = f"the newest answer is {age_ms / 1000:.1f} s old, older than max_age allows"
    details: dict[str, object] = {"age_ms": age_ms}
    if attempts:
        details["attempts"] = list(attempts)
    return Refusal("too_old", message, status=503, details=details, retry_after_s=retry_after_s)


def refused(refusal: Refusal, now_ms: int, request_id: str) -> web.Response:
    """The envelope of an error."""
    # It may repeat a header, in which what is not UTF-8 is a lone surrogate, and no JSON.
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
    """Unix milliseconds as ISO 8601 in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- errors ---


@web.middleware
async def envelope_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error leaves in the envelope, none with a traceback, and says the id of its request."""
    request[STARTED] = time.perf_counter()
    context = request.app[CONTEXT]
    request[REQUEST_ID] = request_id = _id_of(request, context)
    refusal: Refusal | None = None
    try:
        response = await handler(request)
    except Refusal as error:
        refusal = error
    except web.HTTPException as error:
        if error.status < 400:
            raise
        refusal = _refusal_of(error, request)
    except ConnectionResetError:
        # The client went before its stream began. Raised on, aiohttp would log a fault; this reaches nobody.
        return web.Response(status=499)
    except Exception:
        log.exception("request_crashed", extra={"path": request.path, "request_id": request_id})
        refusal = Refusal("internal", "a fault of ours", status=500)
    if refusal is not None:
        context.refusals[refusal.code] += 1
        response = refused(refusal, context.clock.wall_ms(), request_id)
    if not response.prepared:
        resource = request.match_info.route.resource
        path = resource.canonical if resource is not None else "unknown"
        context.requests.add(request.method, path, response.status, time.perf_counter() - request[STARTED])
    return response


async def finish(request: web.Request, response: web.StreamResponse) -> None:
    """What every answer carries, streams and those that aiohttp gives by itself among them.

    Its `X-Request-Id` is the one that came with the request if there was one. Allowed origins may read it.
    """
    if response.status == 101:
        response.headers.update(SERVER)
        return
    context = request.app[CONTEXT]
    if is_body_behind_upgrade(request):
        response.force_close()
        response.headers["Connection"] = "close"
    context.allow_origin(request, response)
    keep_safe(context, response, request.get(REQUEST_ID) or _id_of(request, context))


def keep_safe(context: Context, response: web.StreamResponse, request_id: str) -> None:
    """Name the request, and keep a browser from taking the answer for anything else; a page has its own policy."""
    response.headers["X-Request-Id"] = request_id
    response.headers.update(SERVER)
    for name, value in context.safe_headers.items():
        response.headers.setdefault(name, value)


def _id_of(request: web.Request, context: Context) -> str:
    given = request.headers.get("X-Request-Id")
    return given if given is not None and _SANE_ID.fullmatch(given) else new_request_id(context)


def new_request_id(context: Context) -> str:
    """For a request that brought none."""
    return f"{context.rng.getrandbits(64):016x}"


def _refusal_of(error: web.HTTPException, request: web.Request) -> Refusal:
    # Where only a preflight would be answered, there is nothing behind it.
    only_preflight = isinstance(error, web.HTTPMethodNotAllowed) and error.allowed_methods == {"OPTIONS"}
    if error.status == 404 or only_preflight:
        return Refusal("not_found", f"no such path: {request.path[:200]}", status=404)
    if error.status == 405:
        message = f"{request.path[:200]} does not take {request.method}"
        return Refusal("method_not_allowed", message, status=405, headers={"Allow": error.headers["Allow"]})
    return Refusal("bad_request", (error.text or error.reason).strip()[:200], status=error.status)


# --- what the hub holds ---


def answer_of_topics(hub: Hub, held: Sequence[TopicHistory], make: Callable[[], bytes], now: float) -> Answer:
    """What the envelope says of these topics.

    Any update of any of them gives the newest id, so that with their number it names their content.
    """
    sources: set[str] = set()
    newest, stale, true_at = 0, 0, now
    for topic in held:
        event, last = topic.event, topic.last
        if event is not None:
            sources.add(event.source)
            true_at = min(true_at, topic.true_at)
        if last is not None and last.seq > newest:
            newest = last.seq
        stale += topic.stale
    return Answer(
        make,
        source=",".join(sorted(sources)),
        true_at=true_at,
        stale=stale > 0,
        version=f"{hub.epoch}-{newest}.{len(held)}.{stale}",
    )


class Views:
    """The answers to the most recent questions: whole while the hub has not moved, their text while it is the same."""

    def __init__(self, hub: Hub, size: int = VIEWS_KEPT) -> None:
        self.hub = hub
        self.size = size
        self.kept: dict[tuple[object, ...], tuple[tuple[int, int] | None, Answer]] = {}

    def get(self, question: tuple[object, ...]) -> Answer | None:
        """The answer to this question, if nothing has happened since it was given."""
        kept = self.kept.get(question)
        return kept[1] if kept is not None and kept[0] == (self.hub.seq, self.hub.aged) else None

    def put(self, question: tuple[object, ...], answer: Answer) -> Answer:
        """Remember an answer that holds until the hub moves."""
        return self._keep(question, answer, (self.hub.seq, self.hub.aged))

    def share(self, question: tuple[object, ...], answer: Answer) -> Answer:
        """Remember the text of an answer that is none of the hub's."""
        return self._keep(question, answer, None)

    def _keep(self, question: tuple[object, ...], answer: Answer, state: tuple[int, int] | None) -> Answer:
        before = self.kept.pop(question, None)
        if before is not None and answer.version and before[1].version == answer.version:
            answer.written = before[1].written if answer.written is None else answer.written
        self.kept[question] = (state, answer)
        if len(self.kept) > self.size:
            del self.kept[next(iter(self.kept))]
        return answer


VIEWS: web.AppKey[Views] = web.AppKey("views", Views)

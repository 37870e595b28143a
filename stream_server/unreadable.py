"""What is no HTTP is refused in the same words as everything else: the envelope, and what keeps browsers in bounds.

aiohttp answers such requests itself, before any handler or middleware, with a text that repeats them.
"""

from typing import Any

from aiohttp import web

from stream_server.context import Context
from stream_server.refusals import Refusal
from stream_server.rest.answers import keep_safe, new_request_id, refused

SHOWN_CHARS = 100
MALFORMED = "malformed_request"
"""What such requests are counted by, so that they are told from those that could be read."""


class Connection(web.RequestHandler):
    """aiohttp's end of a connection."""

    __slots__ = ("context",)

    def __init__(self, context: Context, server: web.Server, **options: Any) -> None:
        """`options` are those of aiohttp."""
        super().__init__(server, **options)
        self.context = context

    def log_exception(self, *facts: Any, exc_info: BaseException | None = None, **more: Any) -> None:
        """A body that cannot be read is a client's fault and was refused; what is left of it is nobody's."""
        if not isinstance(exc_info, web.RequestPayloadError):
            super().log_exception(*facts, exc_info=exc_info, **more)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Refuse a request that cannot be read, or own up to a fault of ours that no handler has seen."""
        super().handle_error(request, status, exc, message)  # it logs, and raises if an answer has begun
        if status < 500:
            # The first line says what is wrong, those after it where in the request.
            said = (message or "").strip().partition("\n")[0].rstrip(":")[:SHOWN_CHARS]
            refusal = Refusal("bad_request", f"this is no HTTP request: {said}", status)
            self.context.refusals[MALFORMED] += 1
        else:
            refusal = Refusal("internal", "a fault of ours", status)
            self.context.refusals[refusal.code] += 1
        request_id = new_request_id(self.context)
        response = refused(refusal, self.context.clock.wall_ms(), request_id)
        self.context.allow_origin(request, response)
        keep_safe(self.context, response, request_id)
        response.force_close()
        return response

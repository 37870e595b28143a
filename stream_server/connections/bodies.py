"""Read the bodies of requests within limits of size and time, and within a budget for all of them together.

A body is read as it was sent, never inflated, and only if the endpoint takes one. Otherwise only the part is held that
aiohttp buffers for each connection.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from stream_server.wire.headers import members
from stream_server.wire.refusals import Refusal

BODY_WITHIN_S = 10.0
BUSY_AGAIN_S = 2.0
IN_FLIGHT_BYTES = 32 * 1024 * 1024
"""The most bytes held of bodies that are still arriving or being answered, for all clients together."""
IN_FLIGHT_BYTES_OF_ADDRESS = IN_FLIGHT_BYTES // 4
BODY = web.RequestKey("body", bytes)
CLOSES = {"Connection": "close"}


def check_body(request: web.BaseRequest, most_bytes: int | None) -> None:
    """Refuse a body by its headers. `most_bytes` is None if the endpoint takes no body. Raises Refusal."""
    if is_body_behind_upgrade(request):
        message = "a request with an Upgrade header takes no body; send it without that header"
        raise Refusal("bad_request", message, headers=CLOSES)
    if not request.body_exists:
        return
    codings = ", ".join(each for each in members(request.headers, "Content-Encoding") if each.lower() != "identity")
    if codings:
        message = f"a body in Content-Encoding {codings[:40]!r} is not taken; send it as it is"
        raise Refusal("bad_request", message, 415, headers={"Accept-Encoding": "identity", **CLOSES})
    if not request.can_read_body:
        return
    if most_bytes is None:
        raise Refusal("bad_request", f"{request.method} {request.path[:200]} takes no body", headers=CLOSES)
    if (request.content_length or 0) > most_bytes:
        raise too_big(most_bytes)


def is_body_behind_upgrade(request: web.BaseRequest) -> bool:
    """Return whether aiohttp would read the body of this request as the next request, because of its Upgrade header."""
    upgrades = "Upgrade" in request.headers
    return upgrades and (request.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in request.headers)


def too_big(most_bytes: int) -> Refusal:
    """Return the refusal of a body over its limit."""
    return Refusal("bad_request", f"the body has more than {most_bytes} bytes", 413, headers=CLOSES)


@dataclass(slots=True)
class Bodies:
    """Count the bytes of bodies that are held now."""

    held_bytes: int = 0
    by_address: Counter[str] = field(default_factory=Counter)

    @asynccontextmanager
    async def reading(self, request: web.Request, address: str, most_bytes: int) -> AsyncIterator[None]:
        """Read the whole body into `request[BODY]`, and count it until the request is answered. Raises Refusal.

        aiohttp itself would wait for a body forever.
        """
        parts: list[bytes] = []
        size = 0
        try:
            try:
                async with asyncio.timeout(BODY_WITHIN_S):
                    while part := await request.content.readany():
                        size += len(part)
                        self._hold(address, len(part))
                        if size > most_bytes:
                            raise too_big(most_bytes)
                        parts.append(part)
            except web.RequestPayloadError:
                raise Refusal("bad_request", "the body is not what its headers say", headers=CLOSES) from None
            except TimeoutError:
                message = f"the body did not come within {BODY_WITHIN_S:g} s"
                raise Refusal("body_timeout", message, 408, headers=CLOSES) from None
            request[BODY] = b"".join(parts)
            parts.clear()
            yield
        finally:
            self._release(address, size)

    def _hold(self, address: str, size: int) -> None:
        self.held_bytes += size
        self.by_address[address] += size
        if self.held_bytes > IN_FLIGHT_BYTES or self.by_address[address] > IN_FLIGHT_BYTES_OF_ADDRESS:
            message = "too much is being sent to this server at the moment"
            raise Refusal("rate_limited", message, 429, retry_after_s=BUSY_AGAIN_S, headers=CLOSES)

    def _release(self, address: str, size: int) -> None:
        self.held_bytes -= size
        self.by_address[address] -= size
        if not self.by_address[address]:
            del self.by_address[address]

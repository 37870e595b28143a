"""One HTTP question and its answer. The border where the library's exceptions become ours."""

import asyncio
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import aiohttp
import orjson

from orchestrator.clock import Clock
from orchestrator.errors import (
    BadQuery,
    Banned,
    Blocked,
    Malformed,
    NotFound,
    ProviderError,
    RateLimited,
    Unauthorized,
    Unavailable,
)
from orchestrator.hosts import Hosts
from orchestrator.retry import http_date_ms, retry_after_s

MAX_BODY_BYTES = 32 * 1024 * 1024
"""Counted after decompression. Binance's full exchangeInfo is the largest honest body, some 15 MB."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A GET, relative to a provider's base URL."""

    path: str
    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A whole answer; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    received_ms: int

    @property
    def date_ms(self) -> int | None:
        """The sender's own clock when it answered, to the second; None if it did not say."""
        return http_date_ms(self.headers.get("date"))


class Transport(Protocol):
    """Sends a request to a base URL."""

    async def get(self, provider: str, base_url: str, request: HttpRequest) -> HttpResponse:
        """Raises Unavailable or Malformed; any HTTP status is an answer, not an error."""


class AiohttpTransport:
    """Asks over aiohttp: capped bodies, bounded times, no redirects."""

    def __init__(self, session: aiohttp.ClientSession, clock: Clock, timeout_s: float = 10.0) -> None:
        self.session = session
        self.clock = clock
        self.timeout_s = timeout_s

    async def get(self, provider: str, base_url: str, request: HttpRequest) -> HttpResponse:
        try:
            async with (
                asyncio.timeout(self.timeout_s),
                self.session.get(
                    base_url.rstrip("/") + request.path, params=request.params, allow_redirects=False
                ) as answer,
            ):
                body = await self._read(provider, answer)
                headers = {name.lower(): value for name, value in answer.headers.items()}
                return HttpResponse(answer.status, headers, body, self.clock.wall_ms())
        except TimeoutError:
            raise Unavailable(provider, f"no complete answer within {self.timeout_s:g} s") from None
        # `from None` and a text of our own: aiohttp's messages hold whole URLs, and keys travel in those.
        except aiohttp.ClientSSLError as error:
            raise Unavailable(provider, f"TLS failed ({type(error).__name__})") from None
        except aiohttp.ClientConnectorError as error:
            raise Unavailable(provider, f"cannot connect ({os_words(error.os_error)})") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unavailable(provider, f"connection failed ({type(error).__name__})") from None

    async def _read(self, provider: str, answer: aiohttp.ClientResponse) -> bytes:
        chunks: list[bytes] = []
        size = 0
        async for chunk in answer.content.iter_chunked(64 * 1024):
            size += len(chunk)
            if size > MAX_BODY_BYTES:
                answer.close()
                raise Malformed(provider, f"body over {MAX_BODY_BYTES} bytes")
            chunks.append(chunk)
        return b"".join(chunks)


def os_words(error: OSError) -> str:
    """What the system said, without the addresses that a library's text may hold."""
    if isinstance(error, socket.gaierror):
        return "host name not found"
    return error.strerror or type(error).__name__


def refusal(provider: str, response: HttpResponse) -> ProviderError | None:
    """The error that a status means, or None for 2xx."""
    status = response.status
    if 200 <= status < 300:
        return None
    if status in (429, 418):
        wait_s = retry_after_s(response.headers.get("retry-after"), response.headers.get("date"), response.received_ms)
        return RateLimited(provider, wait_s) if status == 429 else Banned(provider, wait_s)
    if status in (403, 451):
        return Blocked(provider, f"blocked with status {status}")
    if status == 401:
        return Unauthorized(provider, "status 401")
    if status == 404:
        return NotFound(provider, "status 404")
    if status in (400, 422):
        return BadQuery(provider, f"status {status}")
    if status >= 500:
        return Unavailable(provider, f"status {status}")
    return Malformed(provider, f"unexpected status {status}")


def json_body(provider: str, response: HttpResponse) -> object:
    """The parsed body. Raises Malformed for anything that is not strict JSON, an empty body included."""
    try:
        return orjson.loads(response.body)
    except orjson.JSONDecodeError:
        if not response.body:
            raise Malformed(provider, "empty body") from None
        kind = "HTML" if response.body.lstrip()[:1] == b"<" else "no JSON"
        raise Malformed(provider, f"{kind} instead of JSON") from None


async def get_in_turn(
    transport: Transport,
    hosts: Hosts,
    provider: str,
    request: HttpRequest,
    refusal: Callable[[str, HttpResponse], ProviderError | None] = refusal,
) -> HttpResponse:
    """Ask each host that may be asked, once, until one gives a 2xx.

    Raises the last host's error. An answer that puts the fault on our question (BadQuery, NotFound) ends the round.
    With every host at rest nothing is sent, and RateLimited tells the time until the first is back.
    """
    error: ProviderError = RateLimited(provider, hosts.wait_s())
    for host in hosts.in_turn():
        started = time.perf_counter()
        try:
            response = await transport.get(provider, host.url, request)
            refused = refusal(provider, response)
            if refused is None:
                hosts.worked(host, (time.perf_counter() - started) * 1000)
                return response
            raise refused
        except (BadQuery, NotFound):
            hosts.worked(host)
            raise
        except ProviderError as failure:
            hosts.failed(host, failure)
            error = failure
    raise error

"""Sends one HTTP request and reads its answer. Exceptions of the library become ours here."""

import asyncio
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

import aiohttp
from aiohttp.helpers import is_ip_address

from orchestrator import charsets, tolerant
from orchestrator.addresses import PublicResolver, is_public_address
from orchestrator.clock import Clock
from orchestrator.errors import (
    BadQuery,
    Banned,
    Blocked,
    Malformed,
    NotFound,
    ProviderError,
    RateLimited,
    TimedOut,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from orchestrator.retry import http_date_ms, retry_after_s

MAX_BODY_BYTES = 8 * 1024 * 1024
"""Counted after decompression. A request whose honest answer is larger has a limit of its own."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request, relative to a provider's base URL. Keys go into `headers` or `secrets`, which no text of it shows."""

    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Query parameters that are keys; apart, so that nothing logs or records them."""
    body: bytes | None = field(default=None, repr=False)
    base_url: str | None = None
    """Instead of the provider's own, where one step of a conversation goes elsewhere."""
    weight: float = 1.0
    """The part of the provider's allowance that it costs."""
    may_be: tuple[int, ...] = ()
    """Statuses beside 2xx that are answers to this request, such as 304."""
    max_body_bytes: int | None = None
    """Instead of MAX_BODY_BYTES, for an answer that is larger."""
    referred: bool = False
    """An answer led to this address, not a setting: it is asked only if it is public."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A whole answer; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    received_ms: int
    parsed: list[object] = field(default_factory=list, init=False, repr=False, compare=False)
    """The value of its JSON once that has been read: refusals and readers look at the same body."""

    @property
    def charset(self) -> str | None:
        """Return the charset that its Content-Type declares; None if it declares none that is in use."""
        return charsets.declared(self.headers.get("content-type"))

    @property
    def date_ms(self) -> int | None:
        """Return the sender's own clock when it answered, to the second; None if it did not say."""
        return http_date_ms(self.headers.get("date"))


class Transport(Protocol):
    """Sends a request to a base URL."""

    async def send(self, provider: str, base_url: str, request: HttpRequest, timeout_s: float) -> HttpResponse:
        """Send a request and return its answer, of whatever status. Raises Unavailable, TimedOut or TooLarge."""


class AiohttpTransport:
    """Asks over aiohttp: capped bodies, bounded times, no redirects. `is_public` judges the addresses of strangers."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        clock: Clock,
        is_public: Callable[[str], bool] = is_public_address,
    ) -> None:
        self.session = session
        self.clock = clock
        self.is_public = is_public

    async def send(self, provider: str, base_url: str, request: HttpRequest, timeout_s: float) -> HttpResponse:
        if not request.referred:
            return await self._send(self.session, provider, base_url, request, timeout_s)
        # Names are resolved here and not by a proxy, so that the address that is judged is the one that is asked.
        connector = aiohttp.TCPConnector(resolver=PublicResolver(self.is_public), use_dns_cache=False)
        async with aiohttp.ClientSession(
            connector=connector, headers=self.session.headers, cookie_jar=aiohttp.DummyCookieJar()
        ) as session:
            host = urlsplit(base_url).hostname or ""
            if is_ip_address(host) and not self.is_public(host):
                raise Unavailable(provider, "led to an address that isn't public")
            return await self._send(session, provider, base_url, request, timeout_s)

    async def _send(
        self, session: aiohttp.ClientSession, provider: str, base_url: str, request: HttpRequest, timeout_s: float
    ) -> HttpResponse:
        try:
            async with (
                asyncio.timeout(timeout_s),
                session.request(
                    request.method,
                    base_url.rstrip("/") + request.path,
                    params={**request.params, **request.secrets},
                    headers=request.headers,
                    data=request.body,
                    allow_redirects=False,
                ) as answer,
            ):
                body = await self._read(provider, answer, request.max_body_bytes or MAX_BODY_BYTES)
                headers = {name.lower(): value for name, value in answer.headers.items()}
                return HttpResponse(answer.status, headers, body, self.clock.wall_ms())
        except TimeoutError:
            raise TimedOut(provider, f"no complete answer within {timeout_s:g} s") from None
        # `from None` and a text of our own: aiohttp's messages hold whole URLs, and keys travel in those.
        except aiohttp.ClientSSLError as error:
            raise Unavailable(provider, f"TLS failed ({type(error).__name__})") from None
        except aiohttp.ClientConnectorError as error:
            raise Unavailable(provider, f"cannot connect ({os_words(error.os_error)})") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unavailable(provider, f"connection failed ({type(error).__name__})") from None
        except RuntimeError as error:
            # uvloop refuses a new socket whose number it still knows from a connection that failed in its handshake.
            if "is used by transport" not in str(error):
                raise
            raise Unavailable(provider, "cannot connect (descriptor in use)") from None

    async def _read(self, provider: str, answer: aiohttp.ClientResponse, max_bytes: int) -> bytes:
        chunks: list[bytes] = []
        size = 0
        async for chunk in answer.content.iter_chunked(64 * 1024):
            size += len(chunk)
            if size > max_bytes:
                answer.close()
                raise TooLarge(provider, f"body over {max_bytes} bytes")
            chunks.append(chunk)
        return b"".join(chunks)


UNPAID_COOLDOWN_S = 3600.0
"""Payment Required: credits are used up, for an unknown time."""
EXCERPT_BYTES = 200
_MAYBE_A_KEY = re.compile(r"[A-Za-z0-9_+/=-]{16,}")
SHORTEST_SECRET = 4


def excerpt(request: HttpRequest, response: HttpResponse) -> str:
    """Return how a body begins, for a log: one line of printable characters, without what the request kept secret.

    What is long enough to be a key is blotted out, too: a page may repeat ours in another spelling, or hold a new one.
    """
    text = response.body[: 20 * EXCERPT_BYTES].decode(errors="replace")
    kept = {*request.secrets.values(), *request.headers.values()}
    words = {word for value in kept for word in (value, *value.split()) if len(word) >= SHORTEST_SECRET}
    for word in sorted(words, key=len, reverse=True):
        text = text.replace(word, "…")
    text = _MAYBE_A_KEY.sub("…", text)
    shown = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text[:EXCERPT_BYTES])
    return shown.encode()[:EXCERPT_BYTES].decode(errors="ignore")


def os_words(error: OSError) -> str:
    """Return what the system said, without the addresses that a library's text may hold."""
    if isinstance(error, socket.gaierror):
        return "host name not found"
    return error.strerror or type(error).__name__


def refusal(provider: str, response: HttpResponse) -> ProviderError | None:
    """Return the error that a status means, or None for 2xx."""
    status = response.status
    if 200 <= status < 300:
        return None
    if status in (429, 418):
        wait_s = retry_after_s(response.headers.get("retry-after"), response.headers.get("date"), response.received_ms)
        return RateLimited(provider, wait_s) if status == 429 else Banned(provider, wait_s)
    if status == 402:
        return RateLimited(provider, UNPAID_COOLDOWN_S)
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
    """Return the parsed body, repaired where it is damaged. Raises Malformed for what is not JSON, empty bodies too."""
    try:
        return _json(response)
    except ValueError:
        if not response.body:
            raise Malformed(provider, "empty body") from None
        reason = "HTML instead of JSON" if begins(response) == b"<" else "the body is not JSON"
        raise Malformed(provider, reason) from None


def maybe_json(response: HttpResponse, most_bytes: int = MAX_BODY_BYTES) -> object:
    """Return the parsed body; None for null, for what is not JSON, and for a body longer than `most_bytes`."""
    if len(response.body) > most_bytes:
        return None
    try:
        return _json(response)
    except ValueError:
        return None


def _json(response: HttpResponse) -> object:
    if not response.parsed:
        response.parsed.append(tolerant.read_json(response.body, response.charset))
    return response.parsed[0]


def begins(response: HttpResponse) -> bytes:
    """Return the first character of a body, behind what may stand before it."""
    return tolerant.begins(response.body)

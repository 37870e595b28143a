"""The errors that CoinGecko or its CDN answers with, in a status or inside a body."""

import re
from collections.abc import Mapping

from orchestrator import http
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
from orchestrator.http import HttpResponse, begins, maybe_json
from orchestrator.retry import retry_after_s

NAME = "coingecko"
NAME_PRO = "coingecko_pro"
KEY_CODES = {10002, 10005, 10010, 10011}
"""The key is missing or wrong, its plan has not this endpoint, or it belongs to the other host."""
_CDN_CODE = re.compile(rb"error code: (1\d{3})")
_SECRET = re.compile(r"CG-\w+|\?\S*")


def refusal(provider: str, response: HttpResponse) -> ProviderError | None:
    """Return the error of an answer, refined by what CoinGecko or its CDN writes in the body."""
    error = http.refusal(provider, response)
    first = begins(response)
    if error is None and first != b"{":
        # Portals and proxies say 200 too.
        return None if first == b"[" else Malformed(provider, "HTML instead of JSON" if first == b"<" else "not JSON")
    if error is not None:
        blocked = _CDN_CODE.search(response.body[:2000])
        if blocked is not None:
            # 1015 is the CDN's own rate limit.
            return _limited(provider, response) if blocked[1] == b"1015" else Blocked(provider, "blocked by its CDN")
    body = maybe_json(response, most_bytes=4096)  # errors are short; a long object is an answer
    said = error_in(provider, body, response) if isinstance(body, dict) else None
    if isinstance(error, (Banned, RateLimited)) or said is None:
        if isinstance(error, NotFound):
            return Malformed(provider, "status 404 of something else")
        return Unavailable(provider, "status 408") if response.status == 408 else error
    return said


def _limited(provider: str, response: HttpResponse) -> RateLimited:
    after, date = response.headers.get("retry-after"), response.headers.get("date")
    return RateLimited(provider, retry_after_s(after, date, response.received_ms))


def error_in(provider: str, body: Mapping[str, object], response: HttpResponse) -> ProviderError | None:
    """Return the error that a body reports: `{"status": {…}}`, `{"error": {"status": {…}}}` or `{"error": text}`."""
    error = body.get("error")
    told = error.get("status") if isinstance(error, dict) else body.get("status")
    code = told.get("error_code") if isinstance(told, dict) else told
    if isinstance(code, int) and code:
        return _of_code(provider, code, told, response)
    if isinstance(error, str):
        return _of_status(provider, response.status, error, response)
    return None


def _of_code(provider: str, code: int, told: object, response: HttpResponse) -> ProviderError:
    words = told.get("error_message") if isinstance(told, dict) else ""
    if code in KEY_CODES:
        return Unauthorized(provider, f"error {code}")
    if code == 1020:
        return Blocked(provider, "blocked by its CDN")
    return _of_status(provider, code, words if isinstance(words, str) else "", response)


def _of_status(provider: str, status: int, words: str, response: HttpResponse) -> ProviderError:
    """Return the error that a status means, as it is in a body or comes with a text."""
    shown = _SECRET.sub("…", words)[:120]
    if status == 429:
        return _limited(provider, response)
    if status == 401:
        return Unauthorized(provider, "status 401")
    if status in (403, 451):
        return Blocked(provider, f"blocked with status {status}")
    if status == 404 or "not found" in words.lower():
        return NotFound(provider, shown)
    if status in (400, 422) or "parameter" in words.lower():
        return BadQuery(provider, shown)
    return Unavailable(provider, shown or f"error {status}")

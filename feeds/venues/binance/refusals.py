"""Read what Binance means when it refuses: by the status, and by its error body (`{"code": -1121, "msg": …}`). Pure.

Source: binance-spot-api-docs, snapshot of 2026-07-21 (rest-api, errors).
"""

import re
from collections.abc import Mapping

from feeds.venues.binance.fields import NAME
from orchestrator import http
from orchestrator.errors import (
    BadQuery,
    Banned,
    Blocked,
    Malformed,
    NotFound,
    ProviderError,
    RateLimited,
    Unavailable,
)
from orchestrator.http import HttpResponse, begins, maybe_json
from orchestrator.retry import MAX_RETRY_AFTER_S


def refusal(provider: str, response: HttpResponse) -> ProviderError | None:
    """Return the error of an answer, sharpened by what Binance's own body says (`{"code": -1121, "msg": …}`)."""
    error = http.refusal(provider, response)
    if error is None:
        # Portals and proxies answer 200 too; found here, the next host gets its turn.
        return None if begins(response) in (b"{", b"[") else Malformed(NAME, "no JSON in the body")
    if isinstance(error, RateLimited | Banned | Blocked):
        if isinstance(error, Banned) and error.retry_after_s is None:
            return _stated_error(response) or error
        return error
    if isinstance(error, NotFound):
        # Binance says 400 of what it does not have; a 404 is not Binance, or not its API.
        error = Malformed(NAME, "status 404")
    return _stated_error(response) or error


def _stated_error(response: HttpResponse) -> ProviderError | None:
    body = maybe_json(response)
    now_ms = response.date_ms or response.received_ms
    return _body_error(body, now_ms) if isinstance(body, dict) else None


_BANNED_UNTIL = re.compile(r"banned until (\d{13})")


def _body_error(body: Mapping[str, object], now_ms: int) -> ProviderError | None:
    code = body.get("code")
    if not isinstance(code, int) or "msg" not in body:
        return None
    text = str(body["msg"])[:200]
    if code == -1003:
        until = _BANNED_UNTIL.search(text)
        if until is not None:
            return Banned(NAME, min(max(0.0, (int(until[1]) - now_ms) / 1000), MAX_RETRY_AFTER_S))
        return RateLimited(NAME, None)
    if code == -1121:
        return NotFound(NAME, text)
    if code in (-1000, -1001, -1006, -1007, -1008):
        return Unavailable(NAME, text)
    return BadQuery(NAME, f"{code} {text}")


def raise_if_error(body: Mapping[str, object], now_ms: int) -> None:
    error = _body_error(body, now_ms)
    if error is not None:
        raise error

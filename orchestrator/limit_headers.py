"""Reads what the usual headers of an answer say about an allowance."""

import math
from collections.abc import Mapping

from orchestrator.http import HttpResponse
from orchestrator.limiter import Limiter

LONGEST_RESET_S = 3600.0
"""A header about an allowance is not trusted beyond this; a refusal is."""


def correct_by_headers(response: HttpResponse, limiter: Limiter, reset_unit_s: float) -> None:
    """Correct a limiter by `X-RateLimit-Remaining` and its cousins: what is left, and when it is filled again.

    The reset is a Unix time, which tells its unit by its size, or a duration in `reset_unit_s`.
    """
    left = header_number(response.headers, "x-ratelimit-remaining", "ratelimit-remaining")
    if left is None:
        return
    reset = header_number(response.headers, "x-ratelimit-reset", "ratelimit-reset")
    if reset is None:
        limiter.remaining(left)
        return
    if reset > 1e9:
        reset_s = (reset if reset > 1e11 else reset * 1000) / 1000 - response.received_ms / 1000
    else:
        reset_s = reset * reset_unit_s
    limiter.remaining(left, min(max(0.0, reset_s), LONGEST_RESET_S))


def header_number(headers: Mapping[str, str], *names: str) -> float | None:
    """Return the first of these headers that is a finite number of 0 or more; None if none is."""
    for name in names:
        try:
            value = float(headers[name])
        except (KeyError, ValueError):
            continue
        if math.isfinite(value) and value >= 0:
            return value
    return None

"""Alternative.me: the Fear & Greed index, once a day. What to ask, how to read it, and when to ask again. Pure.

The label is the provider's own: its cut-offs are not published, so none is computed from the value. `date_format` and
`format=csv` are never asked for: they turn stamps and rows into texts of several spellings.

Source: alternative.me/crypto/api, "Fear and Greed Index". The provider wants to be named next to the data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import orjson

from feeds.fields import (
    BadFieldError,
    Rows,
    at_most,
    mapping,
    maybe_amount,
    maybe_text,
    maybe_whole,
    rows,
    some_rows,
    whole,
)
from feeds.model import FearGreed
from orchestrator import http
from orchestrator.errors import Malformed, NotFound, Outdated, ProviderError, RateLimited, Unavailable
from orchestrator.http import HttpRequest, HttpResponse, json_body, maybe_json
from orchestrator.persistence import LATEST_MS
from orchestrator.provider import Steps

NAME = "alternative_me"
PATH = "/fng/"
"""With its last slash: without it the provider redirects."""

DAY_MS = 24 * 3600 * 1000
FIRST_DAY_MS = 1_517_443_200_000
"""2018-02-01, where the index begins."""

MAX_LABEL = 40
OUTDATED_AFTER_MS = 3 * DAY_MS
"""The index is late by hours now and then and has missed a day; after three it is no index of now."""


def fear_greed(limit: int = 1) -> Steps[list[FearGreed]]:
    """Ask for the last `limit` days (0: all since 2018), newest first.

    Raises: Malformed if no row can be read, Outdated if the newest is days old, RateLimited or Unavailable if the
    provider says an error inside its 200.
    """
    response = yield HttpRequest(PATH, {"limit": str(limit)})
    days = read_fear_greed(response).good
    return days[:limit] if limit > 0 else days


def read_fear_greed(response: HttpResponse) -> Rows[FearGreed]:
    """Read the body of `/fng/`: newest first, each day once. Bad rows are left out and counted.

    Raises: as `fear_greed`.
    """
    refused = refusal(NAME, response)
    if refused is not None:
        raise refused
    body = json_body(NAME, response)
    raw = body.get("data") if isinstance(body, dict) else None
    if not isinstance(raw, list):
        raise Malformed(NAME, "no list of days")
    now_ms = response.received_ms if response.date_ms is None else response.date_ms
    found = some_rows(NAME, raw, lambda row: _day(mapping(row), now_ms))
    if not found.good:
        raise Malformed(NAME, "no day given")
    by_stamp: dict[int, FearGreed] = {}
    for day in found.good:
        by_stamp.setdefault(day.ts, day)
    found.good = sorted(by_stamp.values(), key=lambda day: day.ts, reverse=True)
    # Only the newest day has the time of the next update; on another row it would be a leftover.
    found.good[1:] = [replace(day, next_update_s=None) for day in found.good[1:]]
    if now_ms - found.good[0].ts > OUTDATED_AFTER_MS:
        raise Outdated(NAME, f"newest day is {(now_ms - found.good[0].ts) // DAY_MS} days old")
    return found


def refusal(provider: str, response: HttpResponse) -> ProviderError | None:
    """Return the error of an answer, also of a 200 with a `metadata.error`."""
    error = http.refusal(provider, response)
    if isinstance(error, NotFound):
        return Unavailable(provider, "status 404")  # there is one question only, and it exists
    if error is not None:
        return error
    body = maybe_json(response)
    metadata = body.get("metadata") if isinstance(body, dict) else None
    said = metadata.get("error") if isinstance(metadata, dict) else None
    if not said:
        return None
    words = str(said).lower()
    if "rate" in words or "too many" in words:
        return RateLimited(provider, None)
    return Unavailable(provider, f"says: {str(said)[:100]}")


def to_json(days: Sequence[FearGreed]) -> bytes:
    """Write days for the disk; `from_json` reads them back."""
    return orjson.dumps(list(days))


def from_json(kept: bytes) -> Rows[FearGreed]:
    """Read what `to_json` wrote, day by day. Raises ValueError for what is no list."""
    body = orjson.loads(kept)
    if not isinstance(body, list):
        raise ValueError("no list of days")
    return rows(body, _kept_day)


def _day(row: Mapping[str, object], now_ms: int) -> FearGreed:
    ts = whole(row, "timestamp") * 1000
    if not FIRST_DAY_MS <= ts <= now_ms + DAY_MS:
        raise BadFieldError("timestamp")
    return FearGreed(_value(row), _label(row, "value_classification"), ts, _until_update_s(row))


def _kept_day(kept: object) -> FearGreed:
    row = mapping(kept)
    ts = at_most(LATEST_MS, whole)(row, "ts")
    return FearGreed(_value(row), _label(row, "classification"), ts, maybe_whole(row, "next_update_s"))


def _value(row: Mapping[str, object]) -> int:
    value = whole(row, "value")
    if value > 100:
        raise BadFieldError("value")
    return value


def _label(row: Mapping[str, object], name: str) -> str | None:
    return maybe_text(row, name, MAX_LABEL)


def _until_update_s(row: Mapping[str, object]) -> int | None:
    """Return the seconds until the next update; None for an announcement that makes no sense."""
    announced_s = maybe_amount(row, "time_until_update")
    return None if announced_s is None or announced_s * 1000 > 7 * DAY_MS else int(announced_s)

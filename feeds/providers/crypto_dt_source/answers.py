"""Requests and bodies of Crypto DT Source, and the errors that its answers mean."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import orjson

from feeds.fields import (
    Rows,
    some_rows,
)
from feeds.intervals import MINUTE_MS
from orchestrator import http
from orchestrator.errors import (
    BadQuery,
    Malformed,
    NotFound,
    ProviderError,
    RateLimited,
    Unavailable,
)
from orchestrator.http import HttpRequest, HttpResponse, begins, json_body, maybe_json
from orchestrator.provider import Steps

T = TypeVar("T")
NAME = "crypto_dt_source"
OUTDATED_MS = 10 * MINUTE_MS


def get(path: str, params: Mapping[str, str] | None = None) -> HttpRequest:
    """Return a GET request."""
    return HttpRequest(path, params or {})


def post(path: str, body: Mapping[str, object]) -> HttpRequest:
    """Return a POST request with a JSON body."""
    headers = {"content-type": "application/json"}
    return HttpRequest(path, method="POST", headers=headers, body=orjson.dumps(body))


def answered_object(path: str) -> Steps[dict[str, object]]:
    """Ask a path and return the object of its answer."""
    response = yield get(path)
    return checked(response)


def checked(response: HttpResponse) -> dict[str, object]:
    """Return the body's object. Raises the error that the body reports."""
    refused = refusal(NAME, response)
    if refused is not None:
        raise refused
    body = json_body(NAME, response)
    if not isinstance(body, dict):
        raise Malformed(NAME, "the answer is not an object")
    if "detail" in body and "data" not in body:
        raise _of_detail(response.status, body["detail"])
    if body.get("success") is False:
        raise Unavailable(NAME, "reports that it failed")
    return body


def _data(response: HttpResponse) -> object:
    body = checked(response)
    if "data" not in body:
        raise Malformed(NAME, "no data in the answer")
    return body["data"]


def rows_in(response: HttpResponse) -> list[object]:
    """Return the list under the answer's `data`. Raises Malformed if there is none."""
    data = _data(response)
    if not isinstance(data, list):
        raise Malformed(NAME, "data is not a list")
    return data


def first_rows(listed: Sequence[object], read: Callable[[object], T | None], limit: int) -> Rows[T]:
    """Return the first `limit` rows that can be read. Raises Malformed if there are rows and none can."""
    found = some_rows(NAME, listed, read)
    del found.good[limit:]
    return found


def answered_ms(response: HttpResponse) -> int:
    """Return when it was answered by the sender's clock, where that is known: ours may be wrong."""
    return response.date_ms or response.received_ms


def refusal(provider: str, response: HttpResponse) -> ProviderError | None:
    """Return the error of an answer. A page of HTML, with whatever status, is the host waking the service up."""
    error = http.refusal(provider, response)
    page = begins(response) == b"<"
    if error is None:
        return Unavailable(provider, "a page instead of an answer: it is waking up") if page else None
    if isinstance(error, RateLimited):
        return error
    body = maybe_json(response)
    detail = body.get("detail") if isinstance(body, dict) else None
    if detail is not None:
        return _of_detail(response.status, detail)
    # What is not JSON comes from the host, which also answers 404 for a service that is gone.
    return Unavailable(provider, f"status {response.status}") if response.status in (404, 405) else error


def _of_detail(status: int, detail: object) -> ProviderError:
    """Return the error that FastAPI's `detail` means. Its words may hold addresses, so none of them is passed on."""
    said = detail if isinstance(detail, str) else ""
    if status == 422:
        return BadQuery(NAME, f"refused parameter {_refused_parameter(detail)}")
    # The status of an inner failure comes as text inside a 503.
    inner = re.match(r"(\d{3}): ", said)
    meant = int(inner[1]) if inner else status
    if "Invalid symbol" in said or "Symbol not found" in said:
        return NotFound(NAME, "no such symbol")
    if "Unknown feed" in said:
        return BadQuery(NAME, "no such feed")
    if status in (404, 405):
        return Unavailable(NAME, f"its build lacks this endpoint (status {status})")
    if status == 400:
        return BadQuery(NAME, "status 400")
    return Unavailable(NAME, f"status {status}" if meant == status else f"status {status}, its own source said {meant}")


def _refused_parameter(detail: object) -> str:
    first = detail[0] if isinstance(detail, list) and detail else None
    where = first.get("loc") if isinstance(first, dict) else None
    return str(where[-1])[:40] if isinstance(where, list) and where else "(unnamed)"

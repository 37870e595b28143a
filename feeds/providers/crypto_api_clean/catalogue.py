"""What to ask Crypto API Clean, and how to read its categories and resources."""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import orjson

from feeds.fields import (
    BadFieldError,
    Rows,
    flag,
    mapping,
    maybe,
    maybe_text,
    maybe_whole,
    rows,
    some_rows,
    text,
)
from feeds.model import Resource
from feeds.providers.crypto_api_clean.keys import (
    AUTH_KIND,
    MAX_DEPTH,
    MAX_TEXT_CHARS,
    scrubbed,
    secrets_in,
    without_keys,
)
from orchestrator import http, repairs
from orchestrator.errors import BadQuery, Malformed, NotFound, ProviderError, Unavailable
from orchestrator.http import HttpRequest, HttpResponse, begins, json_body
from orchestrator.provider import Steps

log = logging.getLogger(__name__)
NAME = "crypto_api_clean"
BASE_URL = "https://really-amin-crypto-api-clean-fixed.hf.space"
MAX_CATEGORIES = 50
MAX_ROWS = 1000
"""Maximum number of rows that are read of a category; the largest has 106."""
MAX_ENDPOINTS_BYTES = 32 * 1024
"""Maximum size of the endpoints of one row, as JSON."""
COSTS_ITSELF = (400, 404, 500)
"""Statuses of a category's call that say nothing of the others."""
_CATEGORY = re.compile(r"[A-Za-z0-9_\-]{1,64}")


@dataclass(frozen=True, slots=True)
class Health:
    """What the server reports about itself."""

    status: str
    resources_loaded: bool | None
    categories: int | None


@dataclass(frozen=True, slots=True)
class Stats:
    """The number of rows that the server counts, duplicates included."""

    resources: int
    categories: Mapping[str, int]


def catalogue() -> Steps[tuple[Resource, ...]]:
    """Ask for the whole catalogue, in the server's order, each (category, id) once: one call for the names, one a
    category.

    A category that fails alone is left out and logged (`catalogue_incomplete`).
    Raises: Unavailable while the Space sleeps or starts, Malformed if no category can be read.
    """
    response = yield HttpRequest("/api/categories")
    names = read_categories(response)
    raw: list[tuple[str, object]] = []
    missing: dict[str, str] = {}
    for name in names:
        response = yield HttpRequest(f"/api/resources/category/{quote(name)}", may_be=COSTS_ITSELF)
        try:
            raw.extend((name, row) for row in _category_rows(response))
        except (NotFound, BadQuery, Malformed, Unavailable) as error:
            missing[name] = error.reason
    found = read_rows(raw)
    if not found.good:
        raise Malformed(NAME, "no category has a readable row")
    if missing or found.rejected:
        log.warning(
            "catalogue_incomplete",
            extra={"provider": NAME, "missing": missing, "rejected": dict(found.rejected), "rows": len(found.good)},
        )
    return tuple(found.good)


def health() -> Steps[Health]:
    """Ask what the server reports about itself. Raises: Unavailable while it sleeps, Malformed."""
    response = yield HttpRequest("/health")
    body = _object(response)
    try:
        status, categories = text(body, "status"), maybe_whole(body, "total_categories")
    except BadFieldError as error:
        raise Malformed(NAME, str(error)) from None
    return Health(status[:40], maybe(flag, body, "resources_loaded"), categories)


def stats() -> Steps[Stats]:
    """Ask for the server's own counts. Raises: Unavailable while it sleeps, Malformed."""
    response = yield HttpRequest("/api/resources/stats")
    body = _object(response)
    counts = body.get("categories")
    try:
        counted = mapping(counts, "categories")
        categories = {
            name: count
            for name in list(counted)[:MAX_CATEGORIES]
            if _CATEGORY.fullmatch(name) and (count := maybe_whole({"count": counted[name]}, "count")) is not None
        }
        total = maybe_whole(body, "total_resources")
    except BadFieldError as error:
        raise Malformed(NAME, str(error)) from None
    return Stats(sum(categories.values()) if total is None else total, categories)


def refusal(provider: str, response: HttpResponse) -> ProviderError | None:
    """Return the error of an answer. A Space that sleeps or starts shows a page, also with status 200 or 404."""
    error = http.refusal(provider, response)
    if isinstance(error, NotFound):
        return Unavailable(provider, "status 404")
    if error is None and begins(response) == b"<":
        return Unavailable(provider, "shows a page: asleep or starting")
    return error


def read_categories(response: HttpResponse) -> list[str]:
    """Return the names of the categories. Raises: Unavailable while the Space sleeps, Malformed if there is no name."""
    listed = _object(response).get("categories")
    if not isinstance(listed, list):
        raise Malformed(NAME, "no list of categories")
    names = dict.fromkeys(some_rows(NAME, listed, _category_name).good)
    names.pop("metadata", None)  # listed by mistake at times; the server answers 400
    if not names:
        raise Malformed(NAME, "no category is named")
    return list(names)[:MAX_CATEGORIES]


def _category_name(row: object) -> str:
    name = text(mapping(row), "name")
    if not _CATEGORY.fullmatch(name):
        raise BadFieldError("name")
    return name


def read_rows(raw: Sequence[tuple[str, object]]) -> Rows[Resource]:
    """Make resources of raw rows, each with its category: without keys, each (category, id) once."""
    secrets = secrets_in(row for _, row in raw)
    found = rows(raw, lambda each: _resource(each[0], mapping(each[1]), secrets))
    first: dict[tuple[str, str], Resource] = {}
    for resource in found.good:
        first.setdefault((resource.category, resource.id), resource)
    found.good = list(first.values())
    return found


def to_json(resources: Iterable[Resource]) -> bytes:
    """Write resources for the disk; `from_json` reads them back."""
    return orjson.dumps(list(resources))


def from_json(kept: bytes) -> Rows[Resource]:
    """Read what `to_json` wrote, row by row. Raises ValueError for what is no list."""
    body = orjson.loads(kept)
    if not isinstance(body, list):
        raise ValueError("no list of resources")
    return rows(body, _kept)


def _kept(kept: object) -> Resource:
    row = mapping(kept)
    return Resource(
        category=text(row, "category"),
        id=text(row, "id"),
        name=text(row, "name"),
        base_url=maybe_text(row, "base_url", MAX_TEXT_CHARS),
        auth=maybe_text(row, "auth") or "unknown",
        docs_url=maybe_text(row, "docs_url", MAX_TEXT_CHARS),
        endpoints=_endpoints(row, None),
        notes=maybe_text(row, "notes", MAX_TEXT_CHARS),
    )


def _object(response: HttpResponse) -> Mapping[str, object]:
    refused = refusal(NAME, response)
    if refused is not None:
        raise refused
    body = json_body(NAME, response)
    if not isinstance(body, dict):
        raise Malformed(NAME, "not a JSON object")
    return body


def _category_rows(response: HttpResponse) -> list[object]:
    listed = _object(response).get("resources")
    if not isinstance(listed, list):
        raise Malformed(NAME, "no list of resources")
    return listed[:MAX_ROWS]


def _resource(category: str, row: Mapping[str, object], secrets: re.Pattern[str] | None) -> Resource:
    identifier = _id(row)
    auth = row.get("auth")
    kind = auth.get("type") if isinstance(auth, dict) else (auth if auth is not None else row.get("auth_type"))
    name = maybe_text(row, "name")

    def shown(name: str) -> str | None:
        value = maybe_text(row, name, MAX_TEXT_CHARS)
        return None if value is None else scrubbed(value, secrets)

    return Resource(
        category=category,
        id=scrubbed(identifier, secrets),
        name=scrubbed(name or identifier, secrets),
        base_url=_link(shown("base_url"), "http://", "https://", "ws://", "wss://", "{"),
        auth="none" if kind is None else kind if isinstance(kind, str) and AUTH_KIND.fullmatch(kind) else "unknown",
        docs_url=_link(shown("docs_url"), "http://", "https://"),
        endpoints=_endpoints(row, secrets),
        notes=shown("notes"),
    )


def _id(row: Mapping[str, object]) -> str:
    value = row.get("id")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return text(row, "id").strip()


def _endpoints(row: Mapping[str, object], secrets: re.Pattern[str] | None) -> object:
    found = without_keys(row.get("endpoints"), secrets, MAX_DEPTH)
    if len(orjson.dumps(found)) > MAX_ENDPOINTS_BYTES:
        repairs.repaired("endpoints")
        return None
    return found


def _link(value: str | None, *beginnings: str) -> str | None:
    """Return an address of a kind that may be shown as a link; a template counts. None for others (`javascript:`)."""
    return value if value is not None and value.lower().startswith(beginnings) else None

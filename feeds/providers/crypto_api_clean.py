"""Crypto API Clean: a catalogue of data sources, put together category by category, without other people's keys. Pure.

Rows of the catalogue hold keys that are nobody's to pass on: in `auth.key`, in the queries and paths of addresses, in
headers and notes. Before a row becomes a Resource, `{key}` replaces whatever stands under a name that means a key and
whatever has the shape of one; and what stood under such a name anywhere is replaced in every text of the catalogue.

Source: the server's code, github.com/nimazasinich/crypto-dt-source, Space copy of 2025-12-13.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote

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
from orchestrator import http, repairs
from orchestrator.errors import BadQuery, Malformed, NotFound, ProviderError, Unavailable
from orchestrator.http import HttpRequest, HttpResponse, begins, json_body
from orchestrator.provider import Steps
from orchestrator.texts import one_line

log = logging.getLogger(__name__)

NAME = "crypto_api_clean"
BASE_URL = "https://really-amin-crypto-api-clean-fixed.hf.space"

MAX_CATEGORIES = 50
MAX_ROWS = 1000
"""Of one category; there are 106 in the largest."""

MAX_TEXT_CHARS = 2000
MAX_ENDPOINTS = 200
MAX_DEPTH = 6
MAX_ENDPOINTS_BYTES = 32 * 1024
"""Of one row, as JSON."""

COSTS_ITSELF = (400, 404, 500)
"""Statuses of a category's call that say nothing of the others."""

_CATEGORY = re.compile(r"[A-Za-z0-9_\-]{1,64}")


@dataclass(frozen=True, slots=True)
class Health:
    """What the server says of itself."""

    status: str
    resources_loaded: bool | None
    categories: int | None


@dataclass(frozen=True, slots=True)
class Stats:
    """How many rows the server counts, duplicates included."""

    resources: int
    categories: Mapping[str, int]


def catalogue() -> Steps[tuple[Resource, ...]]:
    """The whole catalogue, in the server's order, each (category, id) once: one call for the names, one a category.

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
    """What the server says of itself. Raises: Unavailable while it sleeps, Malformed."""
    response = yield HttpRequest("/health")
    body = _object(response)
    try:
        status, categories = text(body, "status"), maybe_whole(body, "total_categories")
    except BadFieldError as error:
        raise Malformed(NAME, str(error)) from None
    return Health(status[:40], maybe(flag, body, "resources_loaded"), categories)


def stats() -> Steps[Stats]:
    """The server's own counts. Raises: Unavailable while it sleeps, Malformed."""
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
    """The error of an answer. A Space that sleeps or starts shows a page, also with status 200 or 404."""
    error = http.refusal(provider, response)
    if isinstance(error, NotFound):
        return Unavailable(provider, "status 404")
    if error is None and begins(response) == b"<":
        return Unavailable(provider, "shows a page: asleep or starting")
    return error


def read_categories(response: HttpResponse) -> list[str]:
    """The names of the categories. Raises: Unavailable while the Space sleeps, Malformed if there is no name."""
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
    secrets = _secrets_in(row for _, row in raw)
    found = rows(raw, lambda each: _resource(each[0], mapping(each[1]), secrets))
    first: dict[tuple[str, str], Resource] = {}
    for resource in found.good:
        first.setdefault((resource.category, resource.id), resource)
    found.good = list(first.values())
    return found


def to_json(resources: Iterable[Resource]) -> bytes:
    """For keeping on disk; `from_json` reads it back."""
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


# --- answers ---


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
        return None if value is None else _scrubbed(value, secrets)

    return Resource(
        category=category,
        id=_scrubbed(identifier, secrets),
        name=_scrubbed(name or identifier, secrets),
        base_url=_link(shown("base_url"), "http://", "https://", "ws://", "wss://", "{"),
        auth="none" if kind is None else kind if isinstance(kind, str) and _AUTH_KIND.fullmatch(kind) else "unknown",
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
    found = _without_keys(row.get("endpoints"), secrets, MAX_DEPTH)
    if len(orjson.dumps(found)) > MAX_ENDPOINTS_BYTES:
        repairs.repaired("endpoints")
        return None
    return found


def _link(value: str | None, *beginnings: str) -> str | None:
    """An address of a kind that may be shown as a link; a template counts. None for others (`javascript:`)."""
    return value if value is not None and value.lower().startswith(beginnings) else None


# --- keys ---

PLACEHOLDER = "{key}"

_AUTH_KIND = re.compile(
    r"none|(apiKey(Query|Header|Path)|bearer|basic|oauth2?|token|header|query|path)(Optional)?|apiKey|api_key", re.I
)
_NAME_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_KEY_WORDS = re.compile(
    r"(?:api)?keys?|tokens?|secrets?|password|passwd|pass|pwd|authorization|auth|bearer|credentials?|cookie|"
    r"signature|sig|jwt"
)
_KEY_NAME = (
    r"(?:[\w\-]*(?:api|access|auth|secret|private|client|session|project|subscription)[_\-\s]?(?:key|token|secret|id)s?"
    r"|[\w\-]*(?:key|token|secret|passwd|password|pwd|authorization|signature|jwt|appid|app_id))"
)
_STAND_IN = re.compile(
    r"\{[A-Za-z_][\w\s\-]{0,40}\}|<[A-Za-z_][\w\s\-]{0,40}>|\[[A-Za-z_][\w\s\-]{0,40}\]|\$\{?[A-Z_]{1,40}\}?|"
    r"YOUR[_\-A-Z]{0,40}|[xX]{2,}|\*{2,}|\.{2,}"
)
"""What documentation writes where a key belongs."""

_HARMLESS = re.compile(
    r"required|optional|needed|necessary|none|free|no|yes|true|false|recommended|unlimited|based|only|available|"
    r"authentication|header|query|path|null|not",
    re.I,
)
_ASSIGNED = re.compile(
    rf"(?P<name>(?<![\w\-]){_KEY_NAME})(?P<sign>[\"'\\]{{0,2}}\s*(?:=|%3D|:|%3A)\s*[\"'\\]{{0,2}})"
    r"(?P<value>(?:(?:bearer|basic|token)\s+)?[^\s\"'\\&#<>,;)]+)",
    re.I,
)
_SCHEME = re.compile(r"\b(?P<name>bearer|basic)(?P<sign>\s+)(?P<value>[^\s\"'\\&#<>,;)]{6,})", re.I)
_SCHEME_WORD = re.compile(r"(?:bearer|basic|token)\s+", re.I)
_USER_IN_URL = re.compile(r"(?<=://)[^/\s@?#\"']+@")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_RUN = re.compile(r"eyJ[\w\-]{8,}(?:\.[\w\-]*){0,2}|[\w\-]{15,}", re.ASCII)
_PREFIXED = re.compile(r"(?:(?:hf|sk|pk|ghp|gho|pat|pub|proapi|rnd|xox[bp]|CG)[_\-]|AIza|AKIA)(?P<rest>[\w\-]{12,})")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SHORTEST_SECRET = 6
_LONGEST_SECRET = 400
"""What is longer is no key, and looking for it in every text would take seconds."""
_MOST_SECRETS = 5000
_OF_AUTH = ("type", "param_name", "header_name", "name", "in")
"""What describes a key and is none."""


def _without_keys(value: object, secrets: re.Pattern[str] | None, depth: int, under_key: bool = False) -> object:
    """A copy of a JSON value in which no text holds a key, and nothing under a key's name is left but stand-ins."""
    if value is None or isinstance(value, bool) or depth <= 0:
        return value if isinstance(value, bool) else None
    if isinstance(value, str | int | float):
        if under_key and _may_be_a_key(value):
            return PLACEHOLDER
        return _scrubbed(value, secrets) if isinstance(value, str) else value
    if isinstance(value, list):
        return [_without_keys(each, secrets, depth - 1, under_key) for each in value[:MAX_ENDPOINTS]]
    if isinstance(value, dict):
        return {
            _scrubbed(name, secrets): _without_keys(inner, secrets, depth - 1, _passes_on(name, inner, under_key))
            for name, inner in list(value.items())[:MAX_ENDPOINTS]
        }
    return None


def _scrubbed(value: str, secrets: re.Pattern[str] | None) -> str:
    """A text without keys and control characters, cut to a sane length."""
    result = one_line(value, 4 * MAX_TEXT_CHARS)
    if secrets is not None:
        result = secrets.sub(PLACEHOLDER, result)
    result = _USER_IN_URL.sub("", result)
    result = _ASSIGNED.sub(_stand_in, result)
    result = _SCHEME.sub(_stand_in, result)
    result = _RUN.sub(lambda found: PLACEHOLDER if _looks_like_a_key(found[0]) else found[0], result)
    return result[:MAX_TEXT_CHARS]


def _stand_in(found: re.Match[str]) -> str:
    value = found["value"]
    # A colon is prose too: "API key: required".
    prose = ":" in found["sign"] and _HARMLESS.fullmatch(value.strip(".")) is not None
    kept = _STAND_IN.fullmatch(value) is not None or prose
    return found[0] if kept else f"{found['name']}{found['sign']}{PLACEHOLDER}"


def _looks_like_a_key(word: str) -> bool:
    """Whether a run of letters and digits is one that nobody would have chosen as a name."""
    if word.startswith("eyJ") or _UUID.search(word):
        return True
    if _ADDRESS.fullmatch(word):
        return False  # of an account or contract: public, and often the point of the row
    digits = sum(map(str.isdigit, word))
    prefixed = _PREFIXED.fullmatch(word)
    longest = max((prefixed["rest"] if prefixed else word).replace("-", "_").split("_"), key=len)
    if prefixed and len(longest) >= (12 if digits else 16):
        return True
    if len(word) >= 24 and digits >= 4 and word != word.lower() and word != word.upper():
        return True
    return len(longest) >= 16 and sum(map(str.isdigit, longest)) >= 2 and sum(map(str.isalpha, longest)) >= 2


def _means_a_key(name: str) -> bool:
    """Whether a key stands under this name: `api_key`, `X-Api-Key`, `accessToken`; not `token_balance`."""
    parts = _NAME_PARTS.findall(name)
    return bool(parts) and _KEY_WORDS.fullmatch(parts[-1].lower()) is not None


def _passes_on(name: str, value: object, under_key: bool) -> bool:
    """Whether what stands under this name stands under a key's name: its own, or one further out."""
    if name in _OF_AUTH or (name == "auth" and isinstance(value, dict)):
        return False
    return under_key or _means_a_key(name)


def _may_be_a_key(value: str | float) -> bool:
    """Endpoints are called `token` or `auth` too, but have a path."""
    if not isinstance(value, str):
        return True
    return not (
        not value
        or _STAND_IN.fullmatch(value)
        or value.startswith(("/", "?", "http://", "https://", "ws://", "wss://"))
    )


def _secrets_in(raw: Iterable[object]) -> re.Pattern[str] | None:
    """What finds every value that stands under a key's name anywhere in these rows, plain or percent-encoded."""
    found: set[str] = set()
    for row in raw:
        for value in _values_under_key_names(row, MAX_DEPTH):
            word = _SCHEME_WORD.sub("", value)  # of "Bearer abc" the abc
            if " " in word or len(word) > 2 * _LONGEST_SECRET:
                continue  # prose
            harmless = _HARMLESS.fullmatch(word) or _STAND_IN.fullmatch(word) or _AUTH_KIND.fullmatch(word)
            if _SHORTEST_SECRET <= len(word) <= _LONGEST_SECRET and not harmless:
                found.update((word, quote(word, safe=""), unquote(word)))
    if not found:
        return None
    longest_first = sorted(found, key=len, reverse=True)[:_MOST_SECRETS]
    return re.compile("|".join(re.escape(each) for each in longest_first))


def _values_under_key_names(value: object, depth: int, under_key: bool = False) -> Iterator[str]:
    if depth <= 0:
        return
    if isinstance(value, list):
        for each in value:
            yield from _values_under_key_names(each, depth - 1, under_key)
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _values_under_key_names(inner, depth - 1, _passes_on(name, inner, under_key))
    elif under_key and isinstance(value, str | int) and not isinstance(value, bool) and _may_be_a_key(value):
        yield str(value).strip()

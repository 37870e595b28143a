"""Finds keys and passwords in the catalogue's rows and replaces them: a key in a public list belongs to a person."""

import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, unquote

from orchestrator.texts import one_line

MAX_TEXT_CHARS = 2000
MAX_ENDPOINTS = 200
MAX_DEPTH = 6
PLACEHOLDER = "{key}"
AUTH_KIND = re.compile(
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
"""Words that documentation writes in place of a key."""
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
"""A longer value is not a key, and a search for it in every text would take seconds."""
_MOST_SECRETS = 5000
_OF_AUTH = ("type", "param_name", "header_name", "name", "in")
"""Words that describe a key."""


def without_keys(value: object, secrets: re.Pattern[str] | None, depth: int, under_key: bool = False) -> object:
    """Return a copy of a JSON value without keys: what stands under a key's name becomes a stand-in."""
    if value is None or isinstance(value, bool) or depth <= 0:
        return value if isinstance(value, bool) else None
    if isinstance(value, str | int | float):
        if under_key and _may_be_a_key(value):
            return PLACEHOLDER
        return scrubbed(value, secrets) if isinstance(value, str) else value
    if isinstance(value, list):
        return [without_keys(each, secrets, depth - 1, under_key) for each in value[:MAX_ENDPOINTS]]
    if isinstance(value, dict):
        return {
            scrubbed(name, secrets): without_keys(inner, secrets, depth - 1, _passes_on(name, inner, under_key))
            for name, inner in list(value.items())[:MAX_ENDPOINTS]
        }
    return None


def scrubbed(value: str, secrets: re.Pattern[str] | None) -> str:
    """Return a text without keys and control characters, cut to a sane length."""
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
    """Whether a run of letters and digits is too random to be a name."""
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
    """Whether a value under a key's name may be a key: endpoints are called `token` or `auth` too, but have a path."""
    if not isinstance(value, str):
        return True
    return not (
        not value
        or _STAND_IN.fullmatch(value)
        or value.startswith(("/", "?", "http://", "https://", "ws://", "wss://"))
    )


def secrets_in(raw: Iterable[object]) -> re.Pattern[str] | None:
    """Return a pattern that finds every value that stands under a key's name anywhere in these rows, plain or percent-
    encoded.
    """
    found: set[str] = set()
    for row in raw:
        for value in _values_under_key_names(row, MAX_DEPTH):
            word = _SCHEME_WORD.sub("", value)  # of "Bearer abc" the abc
            if " " in word or len(word) > 2 * _LONGEST_SECRET:
                continue  # prose
            harmless = _HARMLESS.fullmatch(word) or _STAND_IN.fullmatch(word) or AUTH_KIND.fullmatch(word)
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

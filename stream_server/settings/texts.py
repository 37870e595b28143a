"""How the value of a setting is read from a text, and written as one: a type for each kind of value.

A reader raises ValueError with what is wrong; the caller names the setting. `accepts` in the schema of a type says what
would be right, and `hidden` that a text may hold a key and must not be repeated.
"""

import hashlib
import importlib.util
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, PlainSerializer
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from feeds.intervals import INTERVALS
from feeds.symbols import LONGEST_NAME, MARKS
from feeds.venues.binance.hosts import site_of
from stream_server.access import jwks, origins

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_SYMBOL = re.compile(rf"[^\W_]+(?:[{re.escape(''.join(MARKS))}][^\W_]+)*")
"""Letters and digits of any script, with single marks between them."""
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?\.?|[0-9a-f:.]+(?:%[\w.-]+)?", re.IGNORECASE)
_ANCESTOR = re.compile(
    r"\*|https?:|(?:https?://)?(?:\*\.)?[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::(?P<port>\*|[0-9]{1,5}))?", re.IGNORECASE
)
SHORTEST_SECRET = 32
"""HS256 needs a key of at least the size of its hash. Source: RFC 7518, section 3.2."""


def _from_text(read: Callable[[str], object]) -> BeforeValidator:
    """Read a text with `read`; a value that is not a text stays as it is."""
    return BeforeValidator(lambda value: read(value) if isinstance(value, str) else value)


def _to_text(write: Callable[..., str]) -> PlainSerializer:
    return PlainSerializer(write, return_type=str, when_used="json-unless-none")


_JOINED = _to_text(",".join)


# --- numbers and words ---


@dataclass(frozen=True, slots=True)
class ZeroOr:
    """Bounds of a number that may also be 0, which switches off what it bounds."""

    low: float
    high: float

    def check(self, number: float) -> float:
        """Return the number. Raises: PydanticCustomError if it is out of bounds."""
        if number and not self.low <= number <= self.high:
            raise PydanticCustomError("zero_or", "out of bounds")
        return number

    def __get_pydantic_core_schema__(self, source: type[float], handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(schema) | {"zero_or": self.low, "maximum": self.high}


Seconds = Annotated[float, Field(allow_inf_nan=False, json_schema_extra={"unit": "seconds"})]


def _event_loop(text: str) -> str:
    if text.lower() == "uvloop" and importlib.util.find_spec("uvloop") is None:
        raise ValueError("needs the package uvloop: pip install 'stream-server[speed]'")
    return text.lower()


EventLoop = Annotated[Literal["auto", "uvloop", "asyncio"], _from_text(_event_loop)]
LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], _from_text(str.upper)]
LogFormat = Annotated[Literal["text", "json"], _from_text(str.lower)]


# --- lists of names ---


def _list(text: str) -> tuple[str, ...]:
    """Return the entries of a list, each once. No error repeats an entry, which may be a key."""
    if not text.isprintable():
        raise ValueError("contains a character that cannot be printed")
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise ValueError("has no entry")
    return names


def _symbols(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.upper() for name in _list(text)))
    if "*" in names:
        if len(names) > 1:
            raise ValueError("must be either * or a list of symbols")
        return ()
    for name in names:
        if len(name) > LONGEST_NAME or not _SYMBOL.fullmatch(name):
            raise ValueError(f"{name!r} is not a symbol")
    return names


def _bases(text: str) -> tuple[str, ...]:
    if text.strip() == "*":
        raise ValueError("must list its symbols: candles of every pair would be too many streams")
    if text.lower() == "none":
        return ()
    names = _symbols(text)
    if "NONE" in names:
        raise ValueError("must be either none or a list of symbols")
    return names


def _intervals(text: str) -> tuple[str, ...]:
    names = _list(text)
    for name in names:
        if name not in INTERVALS:
            raise ValueError(f"{name!r} is not one of {', '.join(INTERVALS)}")
    return names


Names = Annotated[
    tuple[str, ...], _from_text(_list), _JOINED, Field(json_schema_extra={"accepts": "a list: one,another"})
]
SymbolNames = Annotated[
    tuple[str, ...],
    _from_text(_symbols),
    _to_text(lambda names: ",".join(names) or "*"),
    Field(json_schema_extra={"accepts": "* or a list of bases and pairs: BTC,ETH-USDT"}),
]
BaseNames = Annotated[
    tuple[str, ...],
    _from_text(_bases),
    _to_text(lambda names: ",".join(names) or "none"),
    Field(json_schema_extra={"accepts": "none or a list of bases and pairs: BTC,ETH-USDT"}),
]
Intervals = Annotated[
    tuple[str, ...],
    _from_text(_intervals),
    _JOINED,
    Field(json_schema_extra={"accepts": f"a list of {', '.join(INTERVALS)}"}),
]


# --- places ---


def _folder(text: str) -> Path:
    if not text.isprintable():
        raise ValueError("contains a character that cannot be printed")
    return Path(text)


def _urls(text: str, *schemes: str) -> tuple[str, ...]:
    urls = tuple(dict.fromkeys(url.rstrip("/") for url in _list(text)))
    for number, url in enumerate(urls, 1):
        if not _is_url(url, schemes):
            raise ValueError(f"{_shown(url) or f'entry {number}'} is not a {' or '.join(schemes)} URL")
    return urls


def _is_url(url: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna").decode() if ":" not in (parts.hostname or "") else parts.hostname
        port = parts.port
    except ValueError:
        return False
    return parts.scheme in schemes and " " not in url and bool(_HOST.fullmatch(host or "")) and port != 0


def _shown(url: str) -> str | None:
    """Return a URL without what may be a key, its user, path and query; None if it has no scheme."""
    scheme, found, rest = url.partition("://")
    return f"'{scheme}://{re.split('[/?#]', rest)[0].rpartition('@')[2]}'" if found and scheme.isalpha() else None


def _web(text: str) -> tuple[str, ...]:
    return _urls(text, "http", "https")


def _of_one_exchange(urls: tuple[str, ...]) -> tuple[str, ...]:
    if len({site_of(url) for url in urls}) > 1:
        raise ValueError("mixes exchanges: the sister exchanges of Binance have prices of their own")
    return urls


def _outlets(text: str) -> dict[str, str]:
    outlets: dict[str, str] = {}
    if text.lower() == "none":
        return outlets
    for number, part in enumerate(_list(text), 1):
        name, found, url = part.partition("=")
        name, url = name.strip().lower(), url.strip().rstrip("/")
        if not found or not name.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"entry {number} is not name=url")
        if name in outlets:
            raise ValueError(f"has two outlets called {name!r}")
        if not _is_url(url, ("http", "https")):
            raise ValueError(f"the entry {name!r} does not have a http or https URL")
        outlets[name] = url
    return outlets


Folder = Annotated[Path, _from_text(_folder), Field(json_schema_extra={"accepts": "a path"})]
WebUrls = Annotated[
    tuple[str, ...],
    _from_text(_web),
    _JOINED,
    Field(json_schema_extra={"accepts": "a list of http or https URLs", "hidden": True}),
]
BinanceRestUrls = Annotated[
    tuple[str, ...],
    _from_text(lambda text: _of_one_exchange(_web(text))),
    _JOINED,
    Field(json_schema_extra={"accepts": "a list of http or https URLs of one exchange", "hidden": True}),
]
BinanceSocketUrls = Annotated[
    tuple[str, ...],
    _from_text(lambda text: _of_one_exchange(_urls(text, "ws", "wss"))),
    _JOINED,
    Field(json_schema_extra={"accepts": "a list of ws or wss URLs of one exchange", "hidden": True}),
]
Outlets = Annotated[
    Mapping[str, str],
    _from_text(_outlets),
    _to_text(lambda outlets: ",".join(f"{name}={url}" for name, url in outlets.items()) or "none"),
    Field(json_schema_extra={"accepts": "none or a list: name=url,name=url", "hidden": True}),
]


# --- who may read ---


def _origins(text: str) -> tuple[str, ...]:
    if text.lower() == "none":
        return ()
    return tuple(dict.fromkeys(origins.read_allowed(origin) for origin in _list(text)))


def _ancestors(text: str) -> tuple[str, ...]:
    """Read the sources of `frame-ancestors`, with blanks or commas between them.

    `self` and `none` may lack their quotes, and `docker run --env-file` leaves the double ones of a file in the value.
    """
    sources = tuple(dict.fromkeys(_ancestor(word) for word in re.split(r"[\s,\"]+", text) if word))
    if not sources:
        raise ValueError("has no entry")
    if "'none'" in sources and len(sources) > 1:
        raise ValueError("must be either 'none' or a list")
    return sources


def _ancestor(word: str) -> str:
    bare = word.strip("'").lower()
    if bare in ("self", "none"):
        return f"'{bare}'"
    # The value becomes part of a header, so nothing but the letters of an origin is accepted.
    found = _ANCESTOR.fullmatch(word)
    if not found or int((found["port"] or "*").replace("*", "1")) not in range(1, 65536):
        raise ValueError(f"{word!r} is not 'self', 'none', * or an origin such as https://*.example.org")
    return word.lower()


def _tokens(text: str) -> dict[str, bytes]:
    tokens: dict[str, bytes] = {}
    for number, part in enumerate(_list(text), 1):
        name, found, token = part.partition(":")
        name = name.strip()
        if not found or not token or not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name):
            raise ValueError("must be name:token,name:token… with names of letters, digits, '-', '_' and '.'")
        if name in tokens:
            raise ValueError(f"entry {number} has the name of another entry")
        digest = hashlib.sha256(_key(token.strip()).encode()).digest()
        if digest in tokens.values():
            raise ValueError(f"entry {number} has the token of another entry")
        tokens[name] = digest
    return tokens


def _key(text: str) -> str:
    if not text.isprintable() or " " in text or not text.isascii():
        raise ValueError("must be one word of printable ASCII")
    return text


def _secret(text: str) -> str:
    if len(_key(text)) < SHORTEST_SECRET:
        raise ValueError(f"must have at least {SHORTEST_SECRET} characters")
    return text


def _key_file(text: str) -> Path:
    path = _folder(text)
    jwks.read_keys(path)
    return path


def _networks(text: str) -> tuple[Network, ...]:
    networks = []
    for part in _list(text):
        try:
            networks.append(ipaddress.ip_network(part, strict=False))
        except ValueError:
            raise ValueError(f"{part!r} is not an address or network such as 10.0.0.0/8") from None
    return tuple(networks)


Origins = Annotated[
    tuple[str, ...],
    _from_text(_origins),
    _to_text(lambda names: ",".join(names) or "none"),
    Field(json_schema_extra={"accepts": "*, none or a list of origins: https://example.org,https://*.example.org"}),
]
FrameAncestors = Annotated[
    tuple[str, ...],
    _from_text(_ancestors),
    _to_text(lambda sources: ",".join(source.strip("'") for source in sources)),
    Field(json_schema_extra={"accepts": "self, none, * or a list of origins: self,https://*.example.org"}),
]
Tokens = Annotated[
    Mapping[str, bytes],
    _from_text(_tokens),
    Field(json_schema_extra={"accepts": "a list: name:token,name:token", "hidden": True}),
]
Secret = Annotated[
    str,
    _from_text(_secret),
    Field(json_schema_extra={"accepts": f"at least {SHORTEST_SECRET} characters of ASCII", "hidden": True}),
]
ApiKey = Annotated[str, _from_text(_key), Field(json_schema_extra={"accepts": "a key without spaces", "hidden": True})]
KeyFile = Annotated[Path, _from_text(_key_file), Field(json_schema_extra={"accepts": "the path of a JWKS file"})]
Networks = Annotated[
    tuple[Network, ...],
    _from_text(_networks),
    Field(json_schema_extra={"accepts": "a list of addresses and networks: 127.0.0.1,10.0.0.0/8"}),
]

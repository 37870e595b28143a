"""Give each origin of a page one spelling, and decide which origins a list allows. Source: RFC 6454."""

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

ANY = "*"
_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9_.:\-\[\]]+")


def canonical(text: str) -> str:
    """Return an origin as browsers spell it: in lower case, without the port that its scheme implies.

    Raises: ValueError for anything else.
    """
    parts = urlsplit(text.strip())
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    elif not host.isascii():
        host = host.encode("idna").decode()
    port = parts.port
    beyond = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
    if not parts.scheme or not _HOST.fullmatch(host) or beyond or text != text.strip():
        raise ValueError("is not an origin")
    return f"{parts.scheme}://{host}" + ("" if port in (None, _PORTS.get(parts.scheme)) else f":{port}")


def read_allowed(text: str) -> str:
    """Return an entry of a list in canonical spelling: `*`, an origin, or `https://*.example.org` for all subdomains.

    Raises: ValueError that says what would be right.
    """
    if text == ANY:
        return ANY
    scheme, found, rest = text.partition("://*.")
    try:
        read = canonical(f"{scheme}://{rest}" if found else text)
    except ValueError:
        raise ValueError(f"{text!r} is not an origin such as https://example.org or https://*.example.org") from None
    return read.replace("://", "://*.", 1) if found else read


def is_allowed(origin: str, allowed: Sequence[str]) -> bool:
    """Return whether an entry other than `*` matches this origin."""
    try:
        origin = canonical(origin)
    except ValueError:
        return False
    return origin in allowed or any(_is_below(origin, entry) for entry in allowed)


def is_same(origin: str, scheme: str, host: str) -> bool:
    """Return whether an origin is our own: `host` is the Host header of the request, `scheme` that of its URL."""
    try:
        return canonical(origin) == canonical(f"{scheme}://{host}")
    except ValueError:
        return False


def _is_below(origin: str, entry: str) -> bool:
    scheme, found, suffix = entry.partition("://*.")
    own_scheme, _, host = origin.partition("://")
    return bool(found) and scheme == own_scheme and host.endswith(f".{suffix}") and len(host) > len(suffix) + 1

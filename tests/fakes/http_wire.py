"""HTTP/1.1 for fake servers: parse request heads, format replies. It knows no provider."""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request head; `path` and `query` are decoded."""

    method: str
    target: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: dict[str, str]  # names in lower case

    @property
    def wants_websocket(self) -> bool:
        return self.headers.get("upgrade", "").lower() == "websocket"

    @property
    def body_bytes(self) -> int:
        return int(self.headers.get("content-length", "0"))


def parse_request(head: bytes) -> HttpRequest:
    """Parse a request head, up to and including its empty line.

    Raises: ValueError if it is not HTTP.
    """
    request_line, *lines = head.decode("latin-1").split("\r\n")
    method, target, version = request_line.split(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError(version)
    headers: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
    url = urlsplit(target)
    query = tuple(parse_qsl(url.query, keep_blank_values=True))
    return HttpRequest(method, target, unquote(url.path), query, headers)


def http_date(now_ms: int) -> str:
    """Return the value of a `Date` header."""
    return formatdate(now_ms / 1000, usegmt=True)


def http_response(status: int, headers: dict[str, str], body: bytes, now_ms: int) -> tuple[bytes, bytes]:
    """Return head and body of a reply; the given headers override the default ones."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:  # a test may invent a status
        phrase = "Unknown"
    usual = {
        "Content-Type": "application/json;charset=UTF-8",
        "Content-Length": str(len(body)),
        "Date": http_date(now_ms),
        "Server": "nginx",
        "Connection": "keep-alive",
    }
    given = {name.lower() for name in headers}
    merged = {name: value for name, value in usual.items() if name.lower() not in given} | headers
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in merged.items())]
    return "\r\n".join((*lines, "", "")).encode("latin-1"), body

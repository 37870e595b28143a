"""Check a WebSocket handshake that aiohttp has read, and choose from what it offers. Source: RFC 6455, section 4."""

from collections.abc import Iterable

from aiohttp import HttpVersion11, web
from websockets.typing import Subprotocol

from stream_server.access.parameters import SHOWN_CHARS
from stream_server.wire.headers import members, words
from stream_server.wire.refusals import Refusal

UPGRADE = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
SUBPROTOCOLS = (Subprotocol("stream-server.v1"), Subprotocol("json"))
"""Names of our protocol that clients may offer; they need not."""
DEFLATE = "permessage-deflate"


def check_handshake(request: web.BaseRequest) -> None:
    """Check a handshake by RFC 6455, section 4.2.1, which is stricter than aiohttp. Raises Refusal."""
    headers = request.headers
    if "upgrade" not in words(headers, "Connection") or "websocket" not in words(headers, "Upgrade"):
        raise Refusal("upgrade_required", "this path speaks WebSocket", 426, headers=UPGRADE)
    versions = headers.getall("Sec-WebSocket-Version", [])
    if versions != ["13"]:
        shown = ", ".join(versions)[:SHOWN_CHARS] or "none"
        raise Refusal("upgrade_required", f"WebSocket version {shown} is not 13", 426, headers=UPGRADE)
    keys = headers.getall("Sec-WebSocket-Key", [])
    problems = {
        "an HTTP version of 1.1 at least": request.version < HttpVersion11,
        "one Sec-WebSocket-Key, in base64": len(keys) != 1 or not keys[0].isascii(),
        "no body": "Transfer-Encoding" in headers or headers.get("Content-Length", "0") != "0",
    }
    for problem, found in problems.items():
        if found:
            raise Refusal("bad_request", f"a WebSocket handshake has {problem}")


def subprotocol_of(offered: Iterable[str]) -> Subprotocol | None:
    """Return the first offered subprotocol that is ours. Browsers close the connection if they offered one in vain."""
    return next((ours for each in offered for ours in SUBPROTOCOLS if each == ours), None)


def chosen_handshake(request: web.Request) -> web.Request:
    """Return the handshake with only what we choose of each list. aiohttp reads one line, and splits at every comma."""
    headers = {name: request.headers[name] for name in ("Sec-WebSocket-Version", "Sec-WebSocket-Key")}
    headers["Upgrade"] = "websocket"
    subprotocol = subprotocol_of(members(request.headers, "Sec-WebSocket-Protocol"))
    if subprotocol is not None:
        headers["Sec-WebSocket-Protocol"] = subprotocol
    offers = members(request.headers, "Sec-WebSocket-Extensions")
    deflates = [each.replace('"', "") for each in offers if each.partition(";")[0].rstrip() == DEFLATE]
    if deflates:
        headers["Sec-WebSocket-Extensions"] = ", ".join(deflates)
    return request.clone(headers=headers)

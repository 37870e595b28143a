"""Tests of requests at the edge of HTTP and of the WebSocket handshake, and of the headers that restrict browsers."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from stream_server.connections import front
from stream_server.rest import page
from tests.harness import Running, running, until

KEY = b"Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n"
VERSION = b"Sec-WebSocket-Version: 13\r\n"
UPGRADE = b"Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
SAFE = {
    "server": "stream-server",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Heard:
    """The first answer to raw bytes."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """Return the code of an error in the envelope."""
        return str(json.loads(self.body)["error"]["code"])


async def said(service: Running, data: bytes) -> Heard:
    """Send bytes; return the head of the first answer, and its body up to its declared length."""
    host, _, port = service.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        async with asyncio.timeout(30):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            if head[0].endswith(" 100 Continue"):
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
            has_none = data.startswith(b"HEAD ")
            body = b"" if has_none else await reader.readexactly(int(headers.get("content-length", "0")))
    finally:
        writer.transport.abort()
    return Heard(int(head[0].split()[1]), headers, body)


def request(line: bytes, *headers: bytes) -> bytes:
    """Return a request with a Host."""
    return line + b" HTTP/1.1\r\nHost: stream.example\r\n" + b"".join(headers) + b"\r\n"


@pytest.fixture(params=["light", "aiohttp"])
async def service(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Running]:
    """Run a service without an exchange, with each of the two WebSocket layers."""
    settings = {"LIGHT_CONNECTIONS": str(int(request.param == "light")), "ALLOWED_ORIGINS": "https://good.example"}
    async with running(None, tmp_path, None, **settings) as running_service:
        yield running_service


HANDSHAKES = {
    "plain": (request(b"GET /ws"), 426),
    "no Connection": (request(b"GET /ws", b"Upgrade: websocket\r\n", KEY, VERSION), 426),
    "another protocol": (request(b"GET /ws", b"Connection: Upgrade\r\nUpgrade: h2c\r\n", KEY, VERSION), 426),
    "no version": (request(b"GET /ws", UPGRADE, KEY), 426),
    "version 8": (request(b"GET /ws", UPGRADE, KEY, b"Sec-WebSocket-Version: 8\r\n"), 426),
    "version 0x0d": (request(b"GET /ws", UPGRADE, KEY, b"Sec-WebSocket-Version: 0x0d\r\n"), 426),
    "two versions": (request(b"GET /ws", UPGRADE, KEY, VERSION, VERSION), 426),
    "no key": (request(b"GET /ws", UPGRADE, VERSION), 400),
    "two keys": (request(b"GET /ws", UPGRADE, VERSION, KEY, KEY), 400),
    "a key of 15 bytes": (request(b"GET /ws", UPGRADE, VERSION, b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA\r\n"), 400),
    "a key that is none": (request(b"GET /ws", UPGRADE, VERSION, b"Sec-WebSocket-Key: =\r\n"), 400),
    "a body": (request(b"GET /ws", UPGRADE, VERSION, KEY, b"Content-Length: 2\r\n") + b"{}", 400),
    "an empty chunked body": (
        request(b"GET /ws", UPGRADE, VERSION, KEY, b"Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n",
        400,
    ),
    "HTTP/1.0": (b"GET /ws HTTP/1.0\r\nHost: x\r\n" + UPGRADE + VERSION + KEY + b"\r\n", 400),
    "no Host": (b"GET /ws HTTP/1.1\r\n" + UPGRADE + VERSION + KEY + b"\r\n", 400),
    "two Hosts": (request(b"GET /ws", b"Host: other.example\r\n", UPGRADE, VERSION, KEY), 400),
    "POST": (request(b"POST /ws", UPGRADE, VERSION, KEY), 405),
    "HEAD": (request(b"HEAD /ws", UPGRADE, VERSION, KEY), 405),
    "two origins, one of them good": (
        request(b"GET /ws", UPGRADE, VERSION, KEY, b"Origin: https://good.example\r\nOrigin: https://evil.example\r\n"),
        403,
    ),
}


async def test_an_incorrect_handshake_is_refused_with_what_would_be_right(service: Running) -> None:
    for name, (data, status) in HANDSHAKES.items():
        heard = await said(service, data)
        assert heard.status == status, name
        assert heard.body or name == "HEAD", name
        assert_safe(heard, name)
        if status == 426:
            assert heard.code == "upgrade_required"
            assert (heard.headers["upgrade"], heard.headers["sec-websocket-version"]) == ("websocket", "13")
    assert not service.context.clients.connected
    good = await said(service, request(b"GET /ws", UPGRADE, VERSION, KEY, b"Origin: https://good.example\r\n"))
    assert (good.status, good.headers["sec-websocket-accept"]) == (101, "HSmrc0sMlYUkAGmm5OPpG2HaGWk=")
    assert good.headers["server"] == "stream-server"


HANDSHAKE = (VERSION, KEY, b"Origin: https://good.example\r\n")
SOUND = {
    "Connection on two lines": (b"Connection: keep-alive\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n", {}),
    "the other way round": (b"Connection: Upgrade\r\nConnection: keep-alive\r\nUpgrade: WebSocket\r\n", {}),
    "empty members": (b"Connection: , keep-alive,,Upgrade,\r\nUpgrade: websocket\r\n", {}),
    "a subprotocol of ours": (UPGRADE + b"Sec-WebSocket-Protocol: mqtt, json\r\n", {"protocol": "json"}),
    "the first one of ours": (
        UPGRADE + b"Sec-WebSocket-Protocol: stream-server.v1,json\r\n",
        {"protocol": "stream-server.v1"},
    ),
    "subprotocols on two lines": (
        UPGRADE + b"Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Protocol: json\r\n",
        {"protocol": "json"},
    ),
    "none of ours": (UPGRADE + b"Sec-WebSocket-Protocol: mqtt, JSON\r\n", {}),
    "extensions on two lines": (
        UPGRADE + b"Sec-WebSocket-Extensions: x-nope\r\nSec-WebSocket-Extensions: permessage-deflate\r\n",
        {"extensions": "permessage-deflate"},
    ),
}


async def test_lists_of_a_handshake_may_stand_on_several_lines(service: Running) -> None:
    for name, (headers, answered) in SOUND.items():
        heard = await said(service, request(b"GET /ws?topics=status", headers, *HANDSHAKE))
        assert heard.status == 101, name
        assert chosen(heard) == {"protocol": None, "extensions": None} | answered, name


OFFERS = {
    "Connection": ("keep-alive", "Upgrade"),
    "Upgrade": ("h2c", "websocket", "TLS/1.0"),
    "Sec-WebSocket-Protocol": ("mqtt", "json", "v12.stomp"),
    "Sec-WebSocket-Extensions": ('x-nope; a="b, c"', 'permessage-deflate; server_max_window_bits="15"', "x-more"),
}
"""For each list of a handshake members of which we choose exactly one."""
DECOYS = {
    "Connection": ('"x, Upgrade, y"', "Upgraded", "close"),
    "Upgrade": ('"x, websocket, y"', "websockets", "websoc\u212aet"),
    "Sec-WebSocket-Protocol": ('"x, json, y"', "json2", "JSON"),
    "Sec-WebSocket-Extensions": ('x-nope; a="x, permessage-deflate, y"', "permessage-deflate2"),
}
"""For each list members that look like the one that we choose, and are not."""


def lines_of(header: str, members: tuple[str, ...]) -> Iterator[bytes]:
    """Yield the ways to write a list."""
    for order in (members, members[::-1], members[1:], (*members[1:], *members[:1])):
        for between in (", ", ",", " ,\t", ",, ,", f"\r\n{header}: ", f",\r\n{header}:,"):
            yield f"{header}: {between.join(order)}\r\n".encode()
            if header in ("Connection", "Upgrade"):
                yield f"{header.upper()}:{between.join(order).upper()}\r\n".encode()


def chosen(heard: Heard) -> dict[str, str | None]:
    """Return what the answer to a handshake chose of each list, without parameters."""
    answered = {name: heard.headers.get(f"sec-websocket-{name}") for name in ("protocol", "extensions")}
    return {name: text and text.partition(";")[0] for name, text in answered.items()}


async def test_every_list_of_a_handshake_is_read_as_a_list(service: Running) -> None:
    plain = {"Connection": b"Connection: Upgrade\r\n", "Upgrade": b"Upgrade: websocket\r\n"}
    answers: dict[str, dict[str, str | None]] = {
        "Sec-WebSocket-Protocol": {"protocol": "json"},
        "Sec-WebSocket-Extensions": {"extensions": "permessage-deflate"},
    }
    nothing: dict[str, str | None] = {"protocol": None, "extensions": None}
    for header in OFFERS:
        for line in lines_of(header, OFFERS[header]):
            heard = await said(service, request(b"GET /ws", *(plain | {header: line}).values(), *HANDSHAKE))
            assert (heard.status, chosen(heard)) == (101, nothing | answers.get(header, {})), line
        for decoy in DECOYS[header]:
            line = f"{header}: {decoy}\r\n".encode()
            heard = await said(service, request(b"GET /ws", *(plain | {header: line}).values(), *HANDSHAKE))
            assert (heard.status, chosen(heard)) == (426 if header in plain else 101, nothing), line
    await until(lambda: not service.context.clients.connected)


async def test_a_client_that_offers_other_protocols_too_is_served_as_any_other(service: Running) -> None:
    host, _, port = service.url.removeprefix("http://").partition(":")
    for line in (b"Upgrade: h2c, websocket\r\n", b"Upgrade: websocket\r\nUpgrade: h2c\r\n"):
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(request(b"GET /ws", b"Connection: Upgrade\r\n", line, *HANDSHAKE))
            async with asyncio.timeout(20):
                assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
                writer.write(b"\x81\x8d" + bytes(4) + b'{"op":"ping"}')
                await reader.readuntil(b'"pong"')
                writer.write(b"\x88\x82" + bytes(4) + b"\x03\xe8")
                assert (await reader.read()).endswith(b"\x88\x02\x03\xe8"), "the connection ends with our answer"
        finally:
            writer.transport.abort()


@pytest.mark.parametrize("authority", ["stream.example", "stream.example:7860"])
async def test_a_handshake_may_name_the_whole_address(service: Running, authority: str) -> None:
    for scheme in ("http", "https", "ws", "wss"):
        line = f"GET {scheme}://{authority}/ws?topics=status HTTP/1.1\r\nHost: {authority}\r\n".encode()
        for number, origin in enumerate((b"", b"Origin: http://%b\r\n" % authority.encode())):
            heard = await said(service, line + UPGRADE + VERSION + KEY + origin + b"\r\n")
            assert heard.status == 101, (scheme, number)


async def test_a_client_that_has_the_answer_gets_304_in_every_spelling_of_its_tag(service: Running) -> None:
    # Without an exchange these answers do not change.
    for path in (
        b"/api/snapshot?topics=price.BTC",
        b"/openapi.json",
        b"/asyncapi.json",
        b"/static/client.js",
        b"/docs",
    ):
        first = await said(service, request(b"GET " + path))
        assert first.status == 200, path
        tag = first.headers["etag"].encode()
        bare = tag.removeprefix(b"W/")
        for known in (
            *(tag, bare, b"W/" + bare, b"*", b'"other", ' + tag, b'W/"other",W/' + bare + b' , "more"'),
            b'"other"\r\nIf-None-Match: ' + bare,
            b"W/" + bare + b'\r\nIf-None-Match: "other"',
        ):
            heard = await said(service, request(b"GET " + path, b"If-None-Match: %b\r\n" % known))
            assert (heard.status, heard.body, heard.headers["etag"].encode()) == (304, b"", tag), (path, known)
        for unknown in (b'"other"', b'W/"other"\r\nIf-None-Match: "more"', b"", bare.strip(b'"'), b'"x, *, y"'):
            heard = await said(service, request(b"GET " + path, b"If-None-Match: %b\r\n" % unknown))
            assert heard.status == 200, (path, unknown)


async def test_two_tokens_in_one_request_are_refused(tmp_path: Path) -> None:
    async with running(None, tmp_path, AUTH_TOKENS="alice:sesame-of-alice") as guarded:
        token = b"Authorization: Bearer sesame-of-alice\r\n"
        assert (await said(guarded, request(b"GET /api/topics", token))).status == 200
        for other in (token, b"Authorization: Bearer other\r\n"):
            assert (await said(guarded, request(b"GET /api/topics", token, other))).status == 401
            assert (await said(guarded, request(b"GET /ws", UPGRADE, VERSION, KEY, token, other))).status == 401


UNREADABLE = {
    "two lengths": request(b"POST /api/ticket", b"Content-Length: 2\r\nContent-Length: 3\r\n") + b"{}",
    "length and chunks": request(b"POST /api/ticket", b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n") + b"{}",
    "a signed length": request(b"POST /api/ticket", b"Content-Length: +2\r\n") + b"{}",
    "a space before the colon": request(b"POST /api/ticket", b"Transfer-Encoding : chunked\r\n") + b"0\r\n\r\n",
    "another coding": request(b"POST /api/ticket", b"Transfer-Encoding: chunked, identity\r\n") + b"0\r\n\r\n",
    "a chunk that overflows": request(b"POST /api/ticket", b"Transfer-Encoding: chunked\r\n") + b"f" * 17 + b"\r\n",
    "a folded line": request(b"GET /api/topics", b"X: a\r\n b\r\n"),
    "NUL in a header": request(b"GET /api/topics", b"X: a\x00b\r\n"),
    "NUL in the path": request(b"GET /api/\x00"),
    "a method of its own": request(b"BREW /static/<script>alert(1)</script>"),
    "bare line feeds": b"GET /api/topics HTTP/1.1\nHost: x\n\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


async def test_a_request_that_is_not_http_is_refused_in_the_envelope_without_its_bytes(service: Running) -> None:
    for name, data in UNREADABLE.items():
        heard = await said(service, data)
        assert (heard.status, heard.code) == (400, "bad_request"), name
        assert b"<script" not in heard.body
        assert_safe(heard, name)


ANSWERS = {
    "the page": (request(b"GET /"), 200),
    "its script": (request(b"GET /static/app.js"), 200),
    "its library": (request(b"HEAD /static/vendor/lightweight-charts.js"), 200),
    "a range": (request(b"GET /static/app.js", b"Range: bytes=0-3\r\n"), 206),
    "a range that is none": (request(b"GET /static/app.js", b"Range: bytes=9-1\r\n"), 416),
    "no such file": (request(b"GET /static/nothing.js"), 404),
    "the folder": (request(b"GET /static/"), 404),
    "a stream": (request(b"GET /sse?topics=price.BTC"), 200),
    "no stream": (request(b"GET /sse?topics=nothing"), 400),
    "the head of a stream": (request(b"HEAD /sse?topics=price.BTC"), 405),
    "REST": (request(b"GET /api/topics"), 200),
    "a preflight": (request(b"OPTIONS /api/topics", b"Origin: https://good.example\r\n"), 204),
    "nowhere": (request(b"GET /%2e%2e/%00/%ff"), 404),
    "a method": (request(b"DELETE /api/topics"), 405),
    "a ticket by GET": (request(b"GET /api/ticket"), 405),
    "live": (request(b"GET /health/live"), 200),
    "figures": (request(b"HEAD /metrics"), 200),
    "an expectation": (request(b"GET /api/topics", b"Expect: tea\r\n"), 417),
    "a bad origin": (request(b"GET /ws", UPGRADE, VERSION, KEY, b"Origin: null\r\n"), 403),
}


async def test_every_answer_forbids_browsers_to_sniff_frame_or_send_referrers(service: Running) -> None:
    for name, (data, status) in ANSWERS.items():
        heard = await said(service, data)
        assert heard.status == status, name
        assert_safe(heard, name)
        assert heard.headers["x-request-id"], name
        assert heard.headers.get("access-control-allow-origin") != "*"
    refused = await said(service, request(b"GET /api/topics", b"Origin: https://good.example\r\nExpect: tea\r\n"))
    assert refused.headers["access-control-allow-origin"] == "https://good.example"


BY_DEFAULT = ("'self' https://huggingface.co https://*.hf.space", None)
FRAMING = {
    "": BY_DEFAULT,
    "none": ("'none'", "DENY"),
    "self": ("'self'", "SAMEORIGIN"),
    "*": ("*", None),
    "self,https://*.example.org": ("'self' https://*.example.org", None),
}
"""A setting, and the policy and the `X-Frame-Options` that follow from it."""


@pytest.mark.parametrize("setting", FRAMING)
async def test_every_answer_names_the_pages_that_may_frame_it_in_headers_that_agree(
    tmp_path: Path, setting: str
) -> None:
    async with running(None, tmp_path, ALLOWED_ORIGINS="https://good.example", FRAME_ANCESTORS=setting) as service:
        for name, (data, _) in (ANSWERS | HANDSHAKES).items():
            assert_safe(await said(service, data), name, FRAMING[setting])
        for name, data in UNREADABLE.items():
            assert_safe(await said(service, data), name, FRAMING[setting])
        for path in (b"/docs", b"/openapi.json", b"/favicon.ico"):
            assert_safe(await said(service, request(b"GET " + path)), path.decode(), FRAMING[setting])
        assert_safe(answer_without_room(service), "no room", FRAMING[setting])


def answer_without_room(service: Running) -> Heard:
    """Return the answer to a connection that takes one of the last descriptors."""
    answer = front.no_room(service.context.safe_headers)
    assert answer.endswith(b"\r\n\r\n")
    head = answer.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
    return Heard(503, headers, b"")


def assert_safe(heard: Heard, name: str, framing: tuple[str, str | None] = BY_DEFAULT) -> None:
    assert SAFE.items() <= heard.headers.items(), name
    policy, _, ancestors = heard.headers["content-security-policy"].partition("; frame-ancestors ")
    assert not any(word in policy for word in ("unsafe", "http:", "https:", "*")), name
    assert (ancestors, heard.headers.get("x-frame-options")) == framing, name


async def test_requests_before_and_after_a_refused_upgrade_get_their_answers(service: Running) -> None:
    host, _, port = service.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    probe = request(b"GET /health/live")
    try:
        writer.write(request(b"GET /ws", UPGRADE, VERSION) + probe + request(b"GET /ws?topics=price.BTC", UPGRADE, KEY))
        writer.write(probe + request(b"GET /ws", UPGRADE, VERSION, KEY) + b"\x81\x8d" + bytes(4) + b'{"op":"ping"}')
        data = b""
        async with asyncio.timeout(30):
            while b'"pong"' not in data:
                more = await reader.read(65536)
                assert more, data
                data += more
    finally:
        writer.transport.abort()
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", data)]
    assert statuses == [400, 200, 426, 200, 101]


FRONT = [path for path in page.static_folder().rglob("*") if path.suffix in (".js", ".html", ".css")]


@pytest.mark.parametrize("path", FRONT, ids=lambda path: str(path.name))
def test_our_pages_never_turn_text_into_html_and_have_no_inline_code(path: Path) -> None:
    text = path.read_text()
    html = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser|srcdoc|setHTML"
    code = r"\beval\(|new Function|javascript:|\bimport\([^)]*http|set(?:Timeout|Interval)\(\s*[\"'`]"
    assert not re.findall(f"{html}|{code}", text)
    if path.suffix == ".html":
        assert not re.findall(
            r"<script(?![^>]*\bsrc=)|\son\w+\s*=|\sstyle\s*=|<style|<iframe|<object|<embed|<base", text
        )

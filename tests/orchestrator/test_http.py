"""The border to HTTP: capped, bounded in time, and silent about secrets."""

import asyncio
import gzip
import logging
import socket
import struct
import traceback
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from orchestrator import http
from orchestrator.errors import (
    BadQuery,
    Banned,
    Blocked,
    Malformed,
    NotFound,
    ProviderError,
    RateLimited,
    Unauthorized,
    Unavailable,
)
from orchestrator.http import AiohttpTransport, HttpRequest, json_body, refusal
from tests.fakes.clock import ManualClock
from tests.feeding import answer

CANARY = "CANARY-0123456789"
REQUEST = HttpRequest("/api/v3/klines", {"symbol": "BTCUSDT", "apikey": CANARY})

Writes = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """A raw TCP server: each connection's request head is kept, then the script answers."""

    def __init__(self, script: Writes, unasked: bytes) -> None:
        self.script = script
        self.unasked = unasked
        self.heads: list[bytes] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(self.unasked)
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            await self.script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(script: Writes, unasked: bytes = b"") -> AsyncIterator[Server]:
    served = Server(script, unasked)
    listening = await asyncio.start_server(served.serve, "127.0.0.1", 0)
    served.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield served
    finally:
        listening.close()


def sends(*parts: bytes) -> Writes:
    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()

    return script


def hangs_after(part: bytes) -> Writes:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(part)
        await reader.read()  # until the client gives up

    return script


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(head(length=1000))
    gone = asyncio.create_task(reader.read())
    while not gone.done():
        writer.write(b" ")
        await asyncio.sleep(0.02)


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.write(head(length=1000) + b"[1,")
    await writer.drain()
    writer.transport.abort()


def head(length: int | None = None, status: str = "200 OK", **headers: str) -> bytes:
    fields = {"Content-Type": "application/json", "Connection": "close", **headers}
    if length is not None:
        fields["Content-Length"] = str(length)
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in fields.items())]
    return "\r\n".join((*lines, "", "")).encode()


@asynccontextmanager
async def transport(resolver: AbstractResolver | None = None) -> AsyncIterator[AiohttpTransport]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=resolver)) as session:
        yield AiohttpTransport(session, ManualClock())


async def failure(script: Writes, timeout_s: float = 5.0) -> ProviderError:
    """How a question to such a server fails. Whatever is told of it holds no query."""
    async with serving(script) as server, transport() as asking:
        with pytest.raises(ProviderError) as failed:
            await asking.send("binance", server.url, REQUEST, timeout_s)
    assert CANARY.encode() in server.heads[0]
    assert CANARY not in "".join(traceback.format_exception(failed.value))
    return failed.value


# --- the transport ---


async def test_an_answer_is_whole_with_lower_case_headers_and_our_time_of_receipt() -> None:
    async with (
        serving(sends(head(7, X_MBX_USED_WEIGHT_1M="42", Date="Sun, 22 Nov 2026 00:00:09 GMT") + b"[1,2,3]")) as server,
        transport() as asking,
    ):
        response = await asking.send("binance", server.url + "/", REQUEST, 5.0)
    assert (response.status, response.body) == (200, b"[1,2,3]")
    assert response.headers["x-mbx-used-weight-1m"] == "42"
    assert response.received_ms == ManualClock().wall_ms()
    assert response.date_ms == ManualClock().wall_ms() + 9000
    assert server.heads[0].startswith(f"GET /api/v3/klines?symbol=BTCUSDT&apikey={CANARY} HTTP/1.1\r\n".encode())


@pytest.mark.parametrize("status", ["404 Not Found", "418 I'm a teapot", "500 Oops", "204 No Content"])
async def test_any_status_is_an_answer(status: str) -> None:
    async with serving(sends(head(0, status=status))) as server, transport() as asking:
        response = await asking.send("binance", server.url, REQUEST, 5.0)
    assert response.status == int(status[:3])
    assert response.body == b""


async def test_a_redirect_is_not_followed() -> None:
    async with serving(sends(head(2, "200 OK") + b"{}")) as elsewhere:
        script = sends(head(0, status="302 Found", Location=elsewhere.url))
        async with serving(script) as server, transport() as asking:
            response = await asking.send("binance", server.url, REQUEST, 5.0)
    assert response.status == 302
    assert elsewhere.heads == []
    assert isinstance(refusal("binance", response), Malformed)


@pytest.mark.parametrize(
    "script",
    [
        hangs_after(b""),
        hangs_after(b"HTTP/1.1 200"),
        hangs_after(head(1000)),
        hangs_after(head(1000) + b"[1,2"),
        drip,
    ],
    ids=["before the head", "in the head", "after the head", "in the body", "dripping"],
)
async def test_an_answer_that_does_not_end_in_time_is_given_up(script: Writes) -> None:
    failed = await failure(script, timeout_s=0.2)
    assert isinstance(failed, Unavailable)
    assert failed.reason == "no complete answer within 0.2 s"


@pytest.mark.parametrize(
    "script",
    [sends(head(1000) + b"[1,2"), sends(b"nonsense\r\n\r\n"), sends(b""), reset],
    ids=["truncated", "no HTTP", "closed", "reset"],
)
async def test_a_connection_that_breaks_is_unavailable(script: Writes) -> None:
    failed = await failure(script)
    assert isinstance(failed, Unavailable)
    assert failed.reason.startswith("connection failed")


async def test_a_body_that_lies_about_its_compression_is_unavailable() -> None:
    failed = await failure(sends(head(9, Content_Encoding="gzip") + b"not gzip!"))
    assert isinstance(failed, Unavailable)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
async def test_a_body_that_is_too_big_is_cut_off_and_never_held(packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_BODY_BYTES", 1_000_000)
    body = b" " * 60_000_000
    if packed:
        raw = gzip.compress(body, 1)
        script = sends(head(len(raw), Content_Encoding="gzip"), raw)
    else:
        script = sends(head(len(body)), *[body[:1_000_000]] * 60)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        failed = await failure(script)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(failed, Malformed)
    assert failed.reason == "body over 1000000 bytes"
    assert peak - before < 8_000_000


async def test_a_body_just_under_the_cap_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_BODY_BYTES", 100_000)
    async with serving(sends(head(100_000), b" " * 100_000)) as server, transport() as asking:
        response = await asking.send("binance", server.url, REQUEST, 5.0)
    assert len(response.body) == 100_000


class NoSuchHost(AbstractResolver):
    """A resolver that knows nobody."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def close(self) -> None:
        pass


async def test_a_host_without_an_address_is_unavailable() -> None:
    async with transport(resolver=NoSuchHost()) as asking:
        with pytest.raises(Unavailable) as failed:
            await asking.send("binance", "http://api.nowhere.example", REQUEST, 5.0)
    assert "host name not found" in failed.value.reason
    assert CANARY not in "".join(traceback.format_exception(failed.value))


class SameDescriptor(NoSuchHost):
    """Fails as uvloop does when a socket's number still belongs to a connection that broke in its handshake."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        raise RuntimeError("File descriptor 13 is used by transport <TCPTransport closed=False>")


async def test_a_descriptor_that_is_not_free_yet_is_the_connections_failure_not_a_fault_of_ours() -> None:
    async with transport(resolver=SameDescriptor()) as asking:
        with pytest.raises(Unavailable) as failed:
            await asking.send("binance", "http://api.nowhere.example", REQUEST, 5.0)
    assert failed.value.reason == "cannot connect (descriptor in use)"


async def test_a_closed_port_is_unavailable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening
        async with transport() as asking:
            with pytest.raises(Unavailable) as failed:
                await asking.send("binance", f"http://127.0.0.1:{taken.getsockname()[1]}", REQUEST, 5.0)
    assert failed.value.reason.startswith("cannot connect (")
    assert CANARY not in "".join(traceback.format_exception(failed.value))


async def test_a_server_that_speaks_no_tls_is_unavailable() -> None:
    async with serving(sends(b""), unasked=b"220 ready\r\n") as server, transport() as asking:
        with pytest.raises(Unavailable) as failed:
            await asking.send("binance", server.url.replace("http:", "https:"), REQUEST, 5.0)
    assert "TLS" in failed.value.reason
    assert CANARY not in "".join(traceback.format_exception(failed.value))


@pytest.mark.parametrize("url", ["http://", "nowhere", "http://[", "ftp://127.0.0.1"])
async def test_an_address_that_is_none_is_unavailable(url: str) -> None:
    async with transport() as asking:
        with pytest.raises(Unavailable) as failed:
            await asking.send("binance", url, REQUEST, 5.0)
    assert CANARY not in "".join(traceback.format_exception(failed.value))


# --- what an answer means ---


@pytest.mark.parametrize(
    ("status", "kind"),
    [(200, None), (204, None), (301, Malformed), (400, BadQuery), (401, Unauthorized), (403, Blocked), (404, NotFound),
     (409, Malformed), (418, Banned), (422, BadQuery), (429, RateLimited), (451, Blocked), (500, Unavailable),
     (503, Unavailable), (599, Unavailable)],
)  # fmt: skip
def test_a_status_means_one_class(status: int, kind: type[ProviderError] | None) -> None:
    refused = refusal("binance", answer(b"", status))
    assert (type(refused) if refused is not None else None) is kind


def test_a_limit_tells_how_long_to_wait_counted_from_the_answers_date() -> None:
    limited = refusal("binance", answer(b"", 429, retry_after="7"))
    assert isinstance(limited, RateLimited)
    assert limited.retry_after_s == 7.0
    dated = answer(b"", 418, retry_after="Sun, 22 Nov 2026 01:02:00 GMT", date="Sun, 22 Nov 2026 01:00:00 GMT")
    banned = refusal("binance", dated)
    assert isinstance(banned, Banned)
    assert banned.retry_after_s == 120.0
    assert str(banned) == "binance: banned for 120 s"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty body"),
        (b"  <!doctype html>", "HTML instead of JSON"),
        (b"nope", "the body is not JSON"),
        (b'{"a":1', "the body is not JSON"),
        (b"[" * 200_000, "the body is not JSON"),
    ],
)
def test_a_body_without_the_outline_of_json_is_malformed(body: bytes, reason: str) -> None:
    with pytest.raises(Malformed) as bad:
        json_body("binance", answer(body))
    assert bad.value.reason == reason


def test_reading_answers_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        refusal("binance", answer(b"<html>", 403))
    assert caplog.records == []

"""Tests of clients that break rules: each is refused or closed, and no other client notices.

Faults that need no socket are in `test_session.py`, `test_frames.py`, `test_clients.py`, `test_service_websocket.py`
and `test_service_sse.py`.
"""

import asyncio
import io
import json
import logging
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import pytest
from aiohttp import web
from aiohttp_sse import EventSourceResponse

from stream_server.connections import aiohttp_connection, bodies, front, transport, turnstile
from stream_server.observing import logs
from tests.clients import serving, sse, websocket
from tests.fakes.binance import FakeBinance, synthetic_pairs
from tests.harness import Running, running, until

UPGRADE = (
    b"GET /ws%b HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Raw:
    """A client that sends raw bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def frame(self, head: int, payload: bytes = b"") -> None:
        """Send a frame with a mask of zeros, so that the payload is readable."""
        assert len(payload) < 126
        self.send(bytes([head, 0x80 | len(payload)]) + bytes(4) + payload)

    async def rest(self) -> bytes:
        """Return all that still arrives until the server ends the connection."""
        data = b""
        async with asyncio.timeout(30):
            try:
                while chunk := await self.reader.read(65536):
                    data += chunk
            except ConnectionError:
                pass
        return data

    async def status(self) -> int:
        """Return the status of the next answer."""
        async with asyncio.timeout(30):
            return int((await self.reader.readuntil(b"\r\n")).split()[1])


@asynccontextmanager
async def raw(service: Running, buffer_bytes: int | None = None) -> AsyncIterator[Raw]:
    host, _, port = service.url.removeprefix("http://").partition(":")
    plug = socket.socket()
    if buffer_bytes is not None:
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    plug.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plug, (host, int(port)))
    # The limit is so low that the stream reader does not read ahead.
    reader, writer = await asyncio.open_connection(sock=plug, limit=65536 if buffer_bytes is None else 2048)
    try:
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def raw_websocket(service: Running, query: bytes = b"", buffer_bytes: int | None = None) -> AsyncIterator[Raw]:
    async with raw(service, buffer_bytes) as client:
        client.send(UPGRADE % query)
        assert await client.status() == 101
        yield client


@pytest.fixture(params=["light", "aiohttp"])
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Running]:
    """Run a service without an exchange, with each of the two WebSocket layers."""
    async with running(None, tmp_path, LIGHT_CONNECTIONS=str(int(request.param == "light"))) as service:
        yield service


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(None, tmp_path) as running_service:
        yield running_service


def closed_with(data: bytes, code: int) -> bool:
    """Return whether the last frame is a close frame with this code."""
    return any(data[at + 2 : at + 4] == code.to_bytes(2, "big") for at in range(len(data)) if data[at] == 0x88)


# --- clients that do not read


SSE = b"GET /sse%b HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    ("opening", "light", "word"),
    [
        pytest.param(UPGRADE, "1", b"", id="C1-light"),
        pytest.param(UPGRADE, "1", b"\x81\x8d" + bytes(4) + b'{"op":"ping"}', id="C2-light"),
        pytest.param(UPGRADE, "0", b"\x81\x8d" + bytes(4) + b'{"op":"ping"}', id="C2-aiohttp"),
        pytest.param(SSE, "1", b"", id="C1-sse"),
        pytest.param(SSE, "1", SSE % b"?topics=price.BTC", id="C2-sse"),
    ],
)
async def test_a_client_that_never_reads_is_cut_after_stall_s_even_if_it_sends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opening: bytes, light: str, word: bytes
) -> None:
    # This client never reads, so the time that it would have to read a goodbye is as short as can be.
    monkeypatch.setattr(transport, "CLOSE_GRACE_S", 3600.0)
    async with (
        FakeBinance(synthetic_pairs(400)) as exchange,
        serving(exchange, tmp_path, STALL_S="1", SYMBOLS="*", LIGHT_CONNECTIONS=light) as service,
        raw(service, buffer_bytes=4096) as deaf,
    ):
        deaf.send(opening % b"?topics=price.*")
        clients, hub = service.context.clients, service.context.hub
        await until(lambda: len(hub.members.by_outbox) == 1 and next(iter(hub.members.by_outbox.values())).selection)
        (stuck,) = hub.members.by_outbox
        pipe = stuck.pipe
        assert isinstance(pipe, transport.SocketPipe)
        async with websocket(service, "topics=price.BTC") as brisk:
            await brisk.until("synced")
            deadline, held = time.monotonic() + 30, 0
            while len(clients.connected) > 1 or not pipe.transport.is_closing():
                assert time.monotonic() < deadline
                deaf.send(word)
                exchange.advance(1)
                await brisk.until("update", topic="price.BTC", ts=exchange.now_ms)
                held = max(held, stuck.held_bytes + pipe.buffered())
                await asyncio.sleep(0.2)
        assert hub.members.cut == 1
    assert held < 1_000_000, "of 400 prices only the newest need be held"


async def test_a_half_closed_client_is_dropped_and_frees_what_it_had(either: Running) -> None:
    async with raw_websocket(either, b"?topics=price.BTC") as client:
        await until(lambda: len(either.context.clients.connected) == 1)
        client.writer.write_eof()
        await until(lambda: not either.context.clients.connected)
    assert not either.context.hub.members.by_outbox


# --- frames


async def test_a_frame_that_declares_2_to_the_62_bytes_is_refused_by_its_head(either: Running) -> None:
    async with raw_websocket(either) as client:
        client.send(b"\x81\xff" + (1 << 62).to_bytes(8, "big") + bytes(4))
        assert closed_with(await client.rest(), 1009)


async def test_a_message_that_never_ends_in_empty_parts_is_refused(service: Running) -> None:
    async with raw_websocket(service) as client:
        client.frame(0x01)
        client.send((b"\x00\x80" + bytes(4)) * 1100)
        assert closed_with(await client.rest(), 1009)


async def test_a_frame_without_a_mask_is_a_breach_of_protocol(service: Running) -> None:
    async with raw_websocket(service) as client:
        client.send(b"\x81\x02{}")
        assert closed_with(await client.rest(), 1002)


async def test_a_flood_of_pongs_that_nobody_asked_for_ends_with_4013(either: Running) -> None:
    async with raw_websocket(either) as client:
        for _ in range(200):
            client.frame(0x8A)
        assert closed_with(await client.rest(), 4013)


# --- connections


async def test_a_storm_of_connections_is_refused_at_once_and_clients_go_on(tmp_path: Path) -> None:
    async with (
        FakeBinance() as exchange,
        serving(exchange, tmp_path, MAX_CONNECTIONS="5") as service,
        websocket(service, "topics=price.BTC") as inside,
    ):
        await inside.until("synced")

        async def knock() -> int:
            async with raw(service) as client:
                client.send(UPGRADE % b"")
                status = await client.status()
                if status == 101:
                    await client.rest()
                return status

        storm = [asyncio.create_task(knock()) for _ in range(400)]
        worst_s = 0.0
        while not all(task.done() for task in storm):
            said = time.monotonic()
            exchange.advance(1)
            await inside.until("update", topic="price.BTC", ts=exchange.now_ms)
            worst_s = max(worst_s, time.monotonic() - said)
            await asyncio.sleep(0.05)
            # Those that got in would stay.
            for client in list(service.context.clients.connected)[1:]:
                client.outbox.pipe.transport.abort()  # type: ignore[attr-defined]
        statuses = {status: sum(1 for task in storm if task.result() == status) for status in (101, 503)}
        await inside.send(op="ping")
        await inside.one("pong")
    assert sum(statuses.values()) == 400
    assert statuses[503] > 100
    assert worst_s < 30.0


@dataclass
class Newcomer:
    """Waits to enter, and may raise."""

    entered: list[int]
    stumbles: bool = False

    def enter(self) -> None:
        self.entered.append(1)
        if self.stumbles:
            raise RuntimeError("stumbled")


async def test_of_many_connections_at_once_a_few_enter_in_each_turn_of_the_loop() -> None:
    loop, stumbled = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: stumbled.append(context))
    entered: list[int] = []
    entry = turnstile.Turnstile(front.ENTER_A_TURN)
    for number in range(500):
        entry.queue(Newcomer(entered, stumbles=number == 100))
    turns = [0]
    while len(entered) < 500:
        await asyncio.sleep(0)
        turns.append(len(entered))
        assert turns[-1] - turns[-2] <= front.ENTER_A_TURN
    entry.queue(Newcomer(entered))
    await asyncio.sleep(0)
    assert len(entered) == 501
    assert len(stumbled) == 1


async def test_a_request_whose_head_or_body_never_ends_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setattr(aiohttp_connection, "HEAD_WITHIN_S", 0.4)
    monkeypatch.setattr(front, "HEAD_WITHIN_S", 0.4)
    monkeypatch.setattr(front, "FIRST_BYTE_WITHIN_S", 0.4)
    monkeypatch.setattr(bodies, "BODY_WITHIN_S", 0.4)

    async def dripped(service: Running, start: bytes) -> bytes:
        """Send a byte of a header every 50 ms, forever."""
        async with raw(service) as client:
            client.send(start)
            rest = asyncio.create_task(client.rest())
            while start and not rest.done():
                client.send(b"x")
                await asyncio.sleep(0.05)
            return await rest

    body = b"POST /api/ticket HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
    async with running(None, tmp_path) as service:
        began = time.monotonic()
        idle, head, second, upgrade, posted = await asyncio.gather(
            dripped(service, b""),
            dripped(service, b"GET /api/topics HTTP/1.1\r\nX: "),
            dripped(service, b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\nGET /api/topics HTTP/1.1\r\nX: "),
            dripped(service, b"GET /ws HTTP/1.1\r\nX: "),
            dripped(service, body),
        )
        took_s = time.monotonic() - began
    assert (idle, head, upgrade) == (b"", b"", b"")
    assert second.count(b"HTTP/1.1 200 ") == 1
    assert posted.startswith(b"HTTP/1.1 408 ")
    assert b"body_timeout" in posted
    assert took_s < 30


# --- requests


async def test_no_path_leads_out_of_the_static_folder(service: Running) -> None:
    tries = [
        b"/static/../pyproject.toml", b"/static/%2e%2e/pyproject.toml", b"/static/..%2fpyproject.toml",
        b"/static/....//pyproject.toml", b"/static//etc/passwd", b"/static/%00", b"/static/..\\pyproject.toml",
        b"//etc/passwd", b"/static/%252e%252e/pyproject.toml", b"/static/panels", b"/static/", b"/health/../api/status",
    ]  # fmt: skip
    for path in tries:
        async with raw(service) as client:
            client.send(b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path)
            answer = await client.rest()
        assert answer.split()[1] in (b"400", b"403", b"404"), path
        assert b"Traceback" not in answer


CURSORS = [
    b"garbage", b"", b"-", b"x-", b"-1", b"zzzz-1", b"0-99999999999999999999", b"\xff\xfe", b"x" * 8000,
    "²-²".encode(), b"mx4k2-1 ", b"null", b"%0d%0a",
]  # fmt: skip


async def test_any_odd_last_event_id_gets_a_snapshot(service: Running) -> None:
    for cursor in CURSORS:
        async with raw(service) as client:
            client.send(b"GET /sse?topics=price.BTC HTTP/1.1\r\nHost: x\r\nLast-Event-ID: %b\r\n\r\n" % cursor)
            assert await client.status() == 200, cursor
            async with asyncio.timeout(30):
                head = await client.reader.readuntil(b"\r\n\r\n")
                assert b"text/event-stream" in head
                while b"event: synced" not in (line := await client.reader.readline()):
                    assert line, cursor
    future = f"{service.context.hub.epoch}-999999"
    async with sse(service, "topics=price.BTC", Last_Event_ID=future) as stream:
        subscribed = (await stream.one("subscribed")).json
    assert (subscribed["resumed"], subscribed["reason"]) == (False, "bad_cursor")


async def test_the_same_garbage_as_since_of_a_websocket_is_a_bad_cursor(either: Running) -> None:
    for cursor in (b"%ff%fe", b"x" * 7000, b"%0d%0a", b"%00"):
        async with raw_websocket(either, b"?topics=price.BTC&since=" + cursor) as client:
            data = b""
            async with asyncio.timeout(30):
                while b'"synced"' not in data:
                    data += await client.reader.read(65536)
        assert b"bad_cursor" in data


@pytest.mark.parametrize("moment", ["prepare", "write"])
async def test_an_sse_client_that_leaves_before_its_first_byte_leaves_no_task_and_no_traceback(
    service: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, moment: str
) -> None:
    of_aiohttp, left = getattr(EventSourceResponse, moment), []

    async def gone(self: EventSourceResponse, argument: object) -> object:
        assert isinstance(self, EventSourceResponse)
        request = argument if isinstance(argument, web.BaseRequest) else self._req
        assert request is not None
        if request.transport is not None:
            request.transport.abort()
        left.append(request)
        return await of_aiohttp(self, argument)

    monkeypatch.setattr(EventSourceResponse, moment, gone)

    def streams() -> list[str]:
        return [task.get_name() for task in asyncio.all_tasks() if "EventSourceResponse" in repr(task.get_coro())]

    lines = tmp_path / "log"
    with lines.open("w") as stream, logged_to(stream, monkeypatch):
        async with raw(service) as client:
            client.send(b"GET /sse?topics=price.BTC HTTP/1.1\r\nHost: x\r\n\r\n")
            await client.rest()
        await until(lambda: left and not streams())
    assert "Traceback" not in lines.read_text()
    assert not service.context.clients.connected


@pytest.mark.parametrize(
    "header", [b"Sec-WebSocket-Version: 1\xff3", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub2\x80jZQ==", b"Upgrade: \xe9"]
)
async def test_a_handshake_with_odd_bytes_in_its_headers_is_a_bad_request(service: Running, header: bytes) -> None:
    name = header.partition(b":")[0]
    kept = [line for line in (UPGRADE % b"").split(b"\r\n") if line and not line.startswith(name)]
    async with raw(service) as client:
        client.send(b"\r\n".join([*kept, header, b"", b""]))
        assert await client.status() in (400, 426)


async def test_a_request_that_is_too_big_is_refused_and_a_flood_of_them_is_one_line_in_the_log(
    service: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = tmp_path / "log"
    with lines.open("w") as stream, logged_to(stream, monkeypatch):
        for request in [
            b"GET /api/topics?" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /api/topics HTTP/1.1\r\n" + b"".join(b"H%d: x\r\n" % each for each in range(200)) + b"\r\n",
            b"GET /api/topics HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
            *[b"GET /api/topics HTTP/9.9\r\nno colon\r\n\r\n"] * 40,
        ]:
            async with raw(service) as client:
                client.send(request)
                assert await client.status() == 400
    told = [line for line in lines.read_text().splitlines() if "provider" not in line and "poll" not in line]
    assert sum("WARNING malformed_request" in line for line in told) == 1, told
    assert not [line for line in told if "Traceback" in line]


@contextmanager
def logged_to(stream: TextIO, monkeypatch: pytest.MonkeyPatch, form: str = "text") -> Iterator[None]:
    """Set up the log as the command does, and restore it afterwards."""
    monkeypatch.setattr(sys, "stderr", stream)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logs.set_up("INFO", form)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        for name in ("aiohttp.server", "asyncio"):
            logging.getLogger(name).filters.clear()
            logging.getLogger(name).setLevel(logging.NOTSET)


async def test_a_body_that_is_too_big_is_413(service: Running) -> None:
    big = b"x" * (2 * 1024 * 1024)
    async with service.http.post(service.url + "/api/ticket", data=io.BytesIO(big)) as answer:
        assert answer.status == 413
        assert (await answer.json())["success"] is False
    assert (await service.get("/api/topics"))[0] == 200


# --- reconnecting


async def test_clients_get_different_times_to_reconnect(service: Running) -> None:
    retries = set()
    for _ in range(12):
        async with sse(service, "topics=price.BTC") as stream:
            event = await stream.next()
            assert event.retry is not None
            retries.add(event.retry)
    assert len(retries) > 8
    assert 1000 <= min(retries) <= max(retries) <= 4000
    async with websocket(service) as first, websocket(service) as second:
        await first.until("hello")
        await second.until("hello")
        await service.context.clients.dismiss(within_s=1)
        delays = {json.dumps((await each.end())[0][-1]["after_ms"]) for each in (first, second)}
    assert len(delays) == 2

"""Tests of `/sse` with the clients of strangers: EventSource, curl, HTTP libraries."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import httpx_sse
import pytest

from stream_server.connections.transport import SocketPipe
from stream_server.delivery import clients
from stream_server.wire.refusals import SHUTTING_DOWN
from tests.clients import SseClient, last_ts, seq_of, serving, sse
from tests.fakes.binance import INTERVALS, FakeBinance, synthetic_pairs
from tests.harness import Running, running, until

KLINES = "btcusdt@kline_1m"
TOO_MANY_PATTERNS = ",".join(["price.*", ">", *(f"ohlcv.*.{name}" for name in INTERVALS if name != "1s")])


@pytest.fixture
async def exchange() -> AsyncIterator[FakeBinance]:
    async with FakeBinance() as running_exchange:
        yield running_exchange


@pytest.fixture
async def service(exchange: FakeBinance, tmp_path: Path) -> AsyncIterator[Running]:
    async with serving(exchange, tmp_path) as running_service:
        yield running_service


async def test_the_stream_is_hello_with_a_retry_subscribed_values_with_ids_synced_and_live(
    service: Running, exchange: FakeBinance
) -> None:
    async with sse(service, "topics=price.*,ohlcv.BTC.1m") as client:
        hello, subscribed, *snapshot, synced = await client.until("synced")
        exchange.advance(1)
        live = await client.one("update", topic="price.BTC", ts=exchange.now_ms)

    assert [each.event for each in (hello, subscribed, synced)] == ["hello", "subscribed", "synced"]
    assert hello.retry is not None
    assert 500 <= hello.retry <= 10_000
    assert hello.json["epoch"] == service.context.hub.epoch
    assert {each.event for each in [*snapshot, live]} == {"message"}
    assert all(each.id == each.json["id"] for each in [*snapshot, synced, live])
    ids = [seq_of(each.json) for each in snapshot]
    assert ids == sorted(set(ids))
    assert subscribed.json["count"] == len(snapshot)
    assert subscribed.id is None


async def test_the_data_is_byte_for_byte_what_a_websocket_gets(service: Running) -> None:
    async with (
        service.http.ws_connect(service.ws_url + "/ws?topics=price.BTC") as ws,
        sse(service, "topics=price.BTC") as client,
    ):
        event = await client.one("update")
        texts = [(await ws.receive(timeout=30)).data for _ in range(3)]
    assert event.data[0] in texts


async def test_the_headers_keep_proxies_and_caches_out_of_the_way(service: Running) -> None:
    async with sse(service, "topics=price.BTC", Origin="https://anywhere.example") as client:
        headers = client.headers
    assert headers["Content-Type"] == "text/event-stream"
    assert headers["Cache-Control"] == "no-store, no-transform"
    assert headers["Incremental"] == "?1"
    assert headers["X-Accel-Buffering"] == "no"
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert "Content-Encoding" not in headers
    assert "Content-Length" not in headers


async def test_httpx_sse_reads_every_event(service: Running, exchange: FakeBinance) -> None:
    kinds: list[str] = []
    ids: list[str] = []
    async with (
        httpx.AsyncClient(trust_env=False, timeout=30) as http,
        httpx_sse.aconnect_sse(http, "GET", f"{service.url}/sse?topics=price.BTC,ohlcv.BTC.1m") as source,
    ):
        async for event in source.aiter_sse():
            message = json.loads(event.data)
            kinds.append(event.event)
            assert event.event in (message["type"], "message")
            if message["type"] == "synced":
                exchange.advance(61)
            elif message["type"] == "update":
                assert event.id == message["id"]
                ids.append(event.id)
                if message["topic"] == "price.BTC" and message["ts"] == exchange.now_ms and "synced" in kinds:
                    break
    assert kinds[:2] == ["hello", "subscribed"]
    numbers = [int(each.rpartition("-")[2]) for each in ids]
    assert numbers == sorted(set(numbers))
    assert len(numbers) > 60


async def test_httpx_reads_no_decoded_garbage_when_it_accepts_compression(service: Running) -> None:
    async with (
        httpx.AsyncClient(trust_env=False, timeout=30, headers={"Accept-Encoding": "gzip, br, zstd"}) as http,
        http.stream("GET", f"{service.url}/sse?topics=price.BTC") as answer,
    ):
        async for line in answer.aiter_lines():
            if line.startswith("event: synced"):
                break
    assert "content-encoding" not in answer.headers


# --- resuming


async def test_last_event_id_brings_what_was_missed_and_nothing_else(service: Running, exchange: FakeBinance) -> None:
    async with sse(service, "topics=price.BTC,ohlcv.BTC.1m") as client:
        await client.until("synced")
        seen = client.last_event_id
    exchange.advance(125)
    await until(lambda: last_ts(service, "price.BTC") == exchange.now_ms)

    async with sse(service, "topics=price.BTC,ohlcv.BTC.1m", Last_Event_ID=str(seen)) as client:
        _, subscribed, *missed, _ = await client.until("synced")

    assert (subscribed.json["resumed"], subscribed.json["from"]) == (True, seen)
    states = [each.json["data"]["state"] for each in missed if each.json["topic"] == "ohlcv.BTC.1m"]
    assert states == ["closed", "closed", "live"]


async def test_the_header_wins_over_last_event_id_which_wins_over_since(service: Running) -> None:
    here = service.context.hub.position

    async def cursor_taken(query: str, **headers: str) -> object:
        async with sse(service, f"topics=price.BTC{query}", **headers) as client:
            return (await client.one("subscribed")).json["from"]

    assert await cursor_taken(f"&since={here}") == here
    assert await cursor_taken(f"&last_event_id={here}&since=other-1") == here
    assert await cursor_taken("&last_event_id=other-1&since=other-2", Last_Event_ID=here) == here


async def test_synced_and_pos_move_the_cursor_so_that_a_quiet_stream_resumes_too(service: Running) -> None:
    async with sse(service, "topics=status") as client:
        synced = await client.one("synced")
        assert client.last_event_id == synced.json["id"]


@pytest.mark.parametrize("cursor", ["rubbish", "x" * 4000, "a-b-c", "ö-1", "0-99999999999999999999999"])
async def test_a_bad_cursor_gets_a_snapshot_and_never_an_error(service: Running, cursor: str) -> None:
    async with sse(service, "topics=price.BTC", Last_Event_ID=cursor) as client:
        _, subscribed, update, _ = await client.until("synced")
    assert subscribed.json["resumed"] is False
    assert subscribed.json["reason"] in ("bad_cursor", "epoch")
    assert update.json["topic"] == "price.BTC"


# --- refusals before the stream begins


@pytest.mark.parametrize(
    ("query", "code", "named"),
    [
        ("", "bad_parameter", ["topics"]),
        ("topics=", "bad_parameter", ["topics"]),
        ("topics=,,", "bad_parameter", ["topics"]),
        ("topics=price.NOPE", "unknown_topic", ["price.NOPE"]),
        ("topics=price.BTC,ohlcv.BTC.7m,weather", "unknown_topic", ["ohlcv.BTC.7m", "weather"]),
        ("topics=price.BTC&interval_ms=soon", "bad_parameter", ["interval_ms", "soon"]),
        ("topics=price.BTC&interval_ms=-5", "bad_parameter", ["interval_ms", "-5"]),
        ("topics=nope&interval_ms=soon", "bad_parameter", ["nope", "interval_ms"]),
        (f"topics={TOO_MANY_PATTERNS}", "bad_parameter", ["patterns"]),
    ],
)
async def test_a_bad_request_gets_400_with_all_that_is_wrong_instead_of_a_stream(
    service: Running, query: str, code: str, named: list[str]
) -> None:
    status, body = await service.get(f"/sse?{query}")
    assert (status, body["success"]) == (400, False)
    error = body["error"]
    assert isinstance(error, dict)
    assert error["code"] == code
    for name in named:
        assert name in error["message"]


async def test_a_full_server_answers_503_with_retry_after_and_has_room_when_one_leaves(tmp_path: Path) -> None:
    async with running(None, tmp_path, MAX_CONNECTIONS="1") as service:
        async with (
            sse(service, "topics=price.BTC"),
            service.http.get(f"{service.url}/sse?topics=price.BTC") as refused,
        ):
            assert refused.status == 503
            assert int(refused.headers["Retry-After"]) > 0
            assert (await refused.json())["error"]["code"] == "connection_limit"
        await until(lambda: not service.context.clients.connected)
        async with sse(service, "topics=price.BTC") as client:
            await client.until("hello")


async def test_head_and_post_open_no_stream(service: Running) -> None:
    async with service.http.post(f"{service.url}/sse?topics=price.BTC") as answer:
        assert answer.status == 405
    async with asyncio.timeout(30), service.http.head(f"{service.url}/sse?topics=price.BTC") as answer:
        await answer.read()
    await until(lambda: not service.context.clients.connected)


# --- the connection


async def test_silence_is_broken_by_a_comment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "SSE_HEARTBEAT_S", 0.2)
    async with running(None, tmp_path, HEARTBEAT_S="1") as service, sse(service, "topics=price.BTC") as client:
        await client.until("synced")
        assert (await client.next()).comment
        assert (await client.next()).comment


async def test_a_client_that_leaves_while_nothing_happens_is_noticed(tmp_path: Path) -> None:
    async with running(None, tmp_path) as service:
        async with sse(service, "topics=price.BTC") as client:
            await client.until("synced")
            assert service.context.clients.count() == {"websocket": 0, "sse": 1}
        await until(lambda: not service.context.clients.connected)
        assert not service.context.hub.members.by_outbox


async def test_a_half_closed_sse_client_is_dropped(tmp_path: Path) -> None:
    async with running(None, tmp_path) as service:
        reader, writer = await _raw_get(service, "/sse?topics=price.BTC", "HTTP/1.1")
        await reader.readuntil(b"\r\n\r\n")
        await until(lambda: service.context.clients.connected)
        writer.write_eof()
        await until(lambda: not service.context.clients.connected)
        writer.close()


async def test_an_http_1_0_client_gets_the_stream_without_chunks(service: Running, exchange: FakeBinance) -> None:
    reader, writer = await _raw_get(service, "/sse?topics=price.BTC", "HTTP/1.0")
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    client = SseClient(reader.readline)
    await client.until("synced")
    exchange.advance(1)
    await client.one("update", topic="price.BTC", ts=exchange.now_ms)
    writer.close()
    assert "200" in head.splitlines()[0]
    assert "transfer-encoding" not in head


async def test_a_second_request_on_the_same_connection_is_not_mixed_into_the_stream(service: Running) -> None:
    """A pipelining client must not find bytes of another answer amid its events."""
    reader, writer = await _raw_get(
        service, "/sse?topics=price.BTC", "HTTP/1.1", "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    await reader.readuntil(b"event: synced")
    await until(lambda: service.context.clients.connected)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await reader.readuntil(b"HTTP/1.1")
    writer.close()


async def _raw_get(
    service: Running, target: str, version: str, more: str = ""
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = service.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {target} {version}\r\nHost: {host}\r\n\r\n{more}".encode())
    return reader, writer


async def test_interval_ms_merges_values_here_too(service: Running, exchange: FakeBinance) -> None:
    async with sse(service, "topics=price.BTC&interval_ms=400") as client:
        await client.until("synced")
        for _ in range(10):
            exchange.advance(1)
        heard = await client.until("update", ts=exchange.now_ms)
    assert len(heard) == 1


async def test_an_sse_client_that_does_not_read_is_cut_with_a_goodbye_and_another_goes_on(tmp_path: Path) -> None:
    async with (
        FakeBinance(synthetic_pairs(400)) as exchange,
        serving(exchange, tmp_path, STALL_S="2") as service,
        sse(service, "topics=price.BTC") as brisk,
    ):
        reader, writer = await _raw_get(service, "/sse?topics=price.*", "HTTP/1.0")
        try:
            await brisk.until("synced")
            await until(lambda: len(service.context.clients.connected) == 2)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            deadline = time.monotonic() + 30
            while not service.context.hub.members.cut:
                assert time.monotonic() < deadline
                exchange.advance(1)
                await brisk.one("update", topic="price.BTC", ts=exchange.now_ms)
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            async with asyncio.timeout(30):
                told = await reader.read()
            exchange.advance(1)
            await brisk.one("update", topic="price.BTC", ts=exchange.now_ms)
        finally:
            writer.close()
    last = told.decode().rstrip().rpartition("\n\n")[2].splitlines()
    assert last[0] == "event: goodbye"
    goodbye = json.loads(last[-1].removeprefix("data: "))
    assert (goodbye["code"], goodbye["reconnect"]) == (4008, True)


async def test_the_hub_says_goodbye_to_a_stuck_client_before_the_kernel_cuts_it(
    tmp_path: Path,
) -> None:
    async with (
        FakeBinance() as exchange,
        serving(exchange, tmp_path, STALL_S="3") as service,
        sse(service, "topics=price.BTC") as client,
    ):
        await client.until("synced")
        (outbox,) = service.context.hub.members.by_outbox
        assert isinstance(outbox.pipe, SocketPipe)
        connection = outbox.pipe.transport.get_extra_info("socket")
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) > 3000


async def test_a_stream_that_the_server_ends_has_a_proper_end(service: Running) -> None:
    """A chunked body without its last chunk is an error to every client library."""
    async with service.http.get(f"{service.url}/sse?topics=price.BTC") as answer:
        await answer.content.readuntil(b"event: synced")
        context = service.context
        context.hub.members.close(next(iter(context.clients.connected)).outbox, SHUTTING_DOWN, 1)
        rest = await answer.content.read()
    assert b"event: goodbye" in rest

"""Tests of `/ws` with a WebSocket library that is not ours."""

import asyncio
import base64
import itertools
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from stream_server import __version__
from stream_server.connections import websocket as websocket_shell
from stream_server.delivery import clients, session
from tests.clients import Message, WebSocketClient, last_ts, seq_of, serving, sse, updates, websocket
from tests.fakes.binance import FakeBinance, synthetic_pairs
from tests.harness import Running, running, until

KLINES = "btcusdt@kline_1m"
FLOOD = 200
"""More messages than a client may send, also when a busy machine takes seconds to send them."""

PRICE_FIELDS = {
    *("symbol", "pair", "quote", "price", "open_24h", "high_24h", "low_24h"),
    *("change_24h_pct", "volume_24h", "quote_volume_24h", "market_cap"),
}
CANDLE_FIELDS = {
    *("symbol", "pair", "quote", "interval", "open_time", "close_time", "open", "high", "low", "close"),
    *("volume", "quote_volume", "trades", "closed", "state"),
}


@pytest.fixture
async def exchange() -> AsyncIterator[FakeBinance]:
    async with FakeBinance() as running_exchange:
        yield running_exchange


@pytest.fixture
async def service(exchange: FakeBinance, tmp_path: Path) -> AsyncIterator[Running]:
    async with serving(exchange, tmp_path) as running_service:
        yield running_service


@pytest.fixture(params=["1", "0"], ids=["light", "aiohttp"])
async def either(exchange: FakeBinance, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    """Run the service, with each of the two WebSocket layers."""
    async with serving(exchange, tmp_path, LIGHT_CONNECTIONS=request.param) as running_service:
        yield running_service


@pytest.fixture
async def alone(tmp_path: Path) -> AsyncIterator[Running]:
    """Run the service without an exchange: it accepts any plausible symbol, and publishes nothing."""
    async with running(None, tmp_path) as running_service:
        yield running_service


# --- the life of a stream


async def test_a_stream_is_hello_subscribed_the_snapshot_by_id_synced_and_then_live(
    either: Running, exchange: FakeBinance
) -> None:
    async with websocket(either, "topics=price.*,ohlcv.BTC.1m") as client:
        beginning = await client.until("synced")
        exchange.advance(2)
        live = await client.one("update", topic="ohlcv.BTC.1m")

    hello, subscribed, *snapshot, synced = beginning
    epoch = either.context.hub.epoch
    assert hello["type"] == "hello"
    assert (hello["server"], hello["epoch"]) == (f"stream-server/{__version__}", epoch)
    assert {"protocol", "heartbeat_s"} <= hello.keys()
    assert subscribed == {
        "type": "subscribed",
        "topics": ["price.*", "ohlcv.BTC.1m"],
        "resumed": False,
        "reason": "no_cursor",
        "from": None,
        "to": synced["id"],
        "count": len(snapshot),
    }
    assert [message["type"] for message in snapshot] == ["update"] * len(snapshot)
    assert {message["topic"] for message in snapshot} >= {"price.BTC", "price.ETH", "ohlcv.BTC.1m"}
    ids = [seq_of(message) for message in snapshot]
    assert ids == sorted(set(ids))
    assert seq_of(live) > seq_of(synced) >= ids[-1]
    assert live["id"].rpartition("-")[0] == epoch


async def test_an_update_has_the_fields_of_the_contract_and_no_others(service: Running, exchange: FakeBinance) -> None:
    async with websocket(service, "topics=price.BTC,ohlcv.BTC.1m") as client:
        await client.until("synced")
        exchange.advance(1)
        price = await client.one("update", topic="price.BTC", ts=exchange.now_ms)
        exchange.advance(2)
        candle = await client.one("update", topic="ohlcv.BTC.1m")

    assert list(price) == ["type", "topic", "id", "ts", "received", "source", "data"] == list(candle)
    assert price["data"].keys() == PRICE_FIELDS
    assert candle["data"].keys() == CANDLE_FIELDS
    assert (price["source"], price["ts"]) == ("binance", exchange.now_ms - 2000)
    assert price["data"]["pair"] == "BTCUSDT"
    truth = exchange.candles("BTCUSDT", "1m")[-1]
    assert (candle["data"]["open_time"], candle["data"]["state"]) == (truth.open_ms, "live")
    assert candle["data"]["open"] == float(truth.open)


async def test_subscriptions_may_come_by_message_and_each_answer_repeats_its_req(
    service: Running, exchange: FakeBinance
) -> None:
    async with websocket(service) as client:
        assert (await client.next())["type"] == "hello"
        await client.send(op="subscribe", topics=["price.BTC"], req=7)
        answer = await client.until("synced")
        await client.send(op="ping", req="mine")
        pong = await client.next()
        await client.send(op="snapshot", topics=["price.ETH"], req=8)
        snapshot = await client.next()
        await client.send(op="unsubscribe", topics=["price.BTC", "price.SOL"], req=9)
        unsubscribed = await client.next()
        await client.send(op="dance", req=10)
        error = await client.next()

    assert [message.get("req") for message in answer if message["type"] != "update"] == [7, 7]
    assert [message["topic"] for message in updates(answer)] == ["price.BTC"]
    assert (pong["type"], pong["req"]) == ("pong", "mine")
    assert (snapshot["type"], snapshot["req"]) == ("snapshot", 8)
    assert [event["topic"] for event in snapshot["events"]] == ["price.ETH"]
    assert unsubscribed == {"type": "unsubscribed", "topics": ["price.BTC"], "req": 9}
    assert (error["code"], error["req"]) == ("unknown_op", 10)


async def test_after_unsubscribe_nothing_of_that_topic_arrives(service: Running, exchange: FakeBinance) -> None:
    async with websocket(service, "topics=price.BTC,price.ETH") as client:
        await client.until("synced")
        await client.send(op="unsubscribe", topics=["price.BTC"])
        await client.until("unsubscribed")
        exchange.advance(3)
        await client.one("update", topic="price.ETH", ts=exchange.now_ms)
        exchange.advance(1)
        heard = await client.until("update", topic="price.ETH", ts=exchange.now_ms)
    assert not updates(heard, "price.BTC")


async def test_usual_spellings_of_a_symbol_are_understood(service: Running) -> None:
    async with websocket(service) as client:
        for spelling in ("price.btc", "price.BTCUSDT", "price.BTC-USDT", "price.BTC/USDT", "price.bitcoin"):
            await client.send(op="subscribe", topics=[spelling])
            assert (await client.one("subscribed"))["topics"] == ["price.BTC"], spelling


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("price.*", "price.ETH"),
        ("ohlcv.BTC.>", "ohlcv.BTC.1m"),
        ("ohlcv.*.1m", "ohlcv.BTC.1m"),
        ("ohlcv.BTC.*", "ohlcv.BTC.1m"),
        (">", "status"),
    ],
)
async def test_a_pattern_brings_the_topics_it_matches(service: Running, pattern: str, wanted: str) -> None:
    async with websocket(service, f"topics={pattern}") as client:
        heard = updates(await client.until("synced"))
    assert wanted in {message["topic"] for message in heard}
    if pattern != ">":
        assert {message["topic"].partition(".")[0] for message in heard} == {wanted.partition(".")[0]}


async def test_a_topic_in_two_subscriptions_arrives_once(service: Running, exchange: FakeBinance) -> None:
    async with websocket(service, "topics=price.BTC,price.*,price.BTC") as client:
        await client.send(op="subscribe", topics=["price.BTC", ">"])
        first = await client.until("synced")
        second = await client.until("synced")
        exchange.advance(1)
        live = await client.until("update", topic="price.BTC", ts=exchange.now_ms)
        live += await client.so_far()
    for topic in ("price.BTC", "price.ETH"):
        assert len(updates(first + second, topic)) == 1
    assert len(updates(live, "price.BTC")) == 1


# --- resuming


async def test_a_client_that_missed_nothing_resumes_with_nothing(service: Running) -> None:
    async with websocket(service, "topics=price.BTC") as client:
        position = (await client.one("synced"))["id"]
    async with websocket(service, f"topics=price.BTC&since={position}") as client:
        _, subscribed, synced = await client.until("synced")
    assert (subscribed["resumed"], subscribed["reason"], subscribed["count"]) == (True, None, 0)
    assert (subscribed["from"], subscribed["to"]) == (position, synced["id"])


async def test_a_resuming_client_gets_the_newest_value_and_every_closed_candle_in_order(
    service: Running, exchange: FakeBinance
) -> None:
    async with websocket(service, "topics=price.BTC,ohlcv.BTC.1m") as client:
        position = (await client.one("synced"))["id"]
    exchange.advance(185)
    await until(lambda: last_ts(service, "price.BTC") == exchange.now_ms)

    async with websocket(service, f"topics=price.BTC,ohlcv.BTC.1m&since={position}") as client:
        _, subscribed, *missed, _ = await client.until("synced")

    assert subscribed["resumed"] is True
    assert subscribed["count"] == len(missed)
    assert [message["ts"] for message in updates(missed, "price.BTC")] == [exchange.now_ms]
    states = [message["data"]["state"] for message in updates(missed, "ohlcv.BTC.1m")]
    assert states == ["closed", "closed", "closed", "live"]
    opened = [message["data"]["open_time"] for message in updates(missed, "ohlcv.BTC.1m")]
    assert opened == [candle.open_ms for candle in exchange.candles("BTCUSDT", "1m")[-4:]]
    assert [seq_of(message) for message in missed] == sorted(seq_of(message) for message in missed)


async def test_a_cursor_whose_events_are_gone_gets_a_gap_and_a_whole_snapshot(
    exchange: FakeBinance, tmp_path: Path
) -> None:
    async with serving(exchange, tmp_path, RING_EVENTS="2") as service:
        async with websocket(service, "topics=ohlcv.BTC.1m") as client:
            position = (await client.one("synced"))["id"]
        exchange.advance(305)
        await until(lambda: last_ts(service, "price.BTC") == exchange.now_ms)
        async with websocket(service, f"topics=price.BTC,ohlcv.BTC.1m&since={position}") as client:
            _, subscribed, gap, *snapshot, _ = await client.until("synced")
    assert (subscribed["resumed"], subscribed["reason"]) == (False, "evicted")
    assert (gap["type"], gap["topic"], gap["reason"]) == ("gap", "ohlcv.BTC.1m", "evicted")
    assert {message["topic"] for message in updates(snapshot)} == {"price.BTC", "ohlcv.BTC.1m"}


async def test_a_cursor_of_another_epoch_gets_a_snapshot_with_the_reason(service: Running) -> None:
    async with websocket(service, "topics=price.BTC&since=other1-5") as client:
        _, subscribed, *snapshot, _ = await client.until("synced")
    assert (subscribed["resumed"], subscribed["reason"], subscribed["from"]) == (False, "epoch", "other1-5")
    assert len(updates(snapshot, "price.BTC")) == 1


@pytest.mark.parametrize("since", ["rubbish", "-", "a-b", "-5", "%00", "9" * 400, "{epoch}-999999999", "{epoch}--1"])
async def test_a_bad_cursor_gets_a_snapshot_with_the_reason(service: Running, since: str) -> None:
    cursor = since.format(epoch=service.context.hub.epoch)
    async with websocket(service, f"topics=price.BTC&since={cursor}") as client:
        _, subscribed, update, _ = await client.until("synced")
    assert (subscribed["resumed"], subscribed["reason"]) == (False, "bad_cursor")
    assert update["topic"] == "price.BTC"


async def test_earliest_replays_all_that_is_held(service: Running, exchange: FakeBinance) -> None:
    exchange.advance(125)
    await until(lambda: last_ts(service, "price.BTC") == exchange.now_ms)
    async with websocket(service, "topics=ohlcv.BTC.1m&since=earliest") as client:
        heard = updates(await client.until("synced"))
    closed = [message["data"]["open_time"] for message in heard if message["data"]["closed"]]
    assert closed[-2:] == [candle.open_ms for candle in exchange.candles("BTCUSDT", "1m")[-3:-1]]
    assert closed == sorted(set(closed))


# --- refusals


NONSENSE = [
    ("{", "bad_json", "{"),
    ("", "bad_json", "not JSON"),
    ("NaN", "bad_json", "NaN"),
    ("[1]", "bad_request", "[1]"),
    ('"subscribe"', "bad_request", "subscribe"),
    ("null", "bad_request", "null"),
    ("{}", "unknown_op", "null"),
    ('{"op":"dance"}', "unknown_op", "dance"),
    ('{"op":["subscribe"]}', "unknown_op", "subscribe"),
    ('{"op":"subscribe"}', "bad_request", "topics"),
    ('{"op":"subscribe","topics":[]}', "bad_request", "topics"),
    ('{"op":"subscribe","topics":"price.BTC"}', "bad_request", "price.BTC"),
    ('{"op":"subscribe","topics":[1]}', "bad_request", "1"),
    ('{"op":"subscribe","topics":["price.BTC"],"since":5}', "bad_request", "since"),
    ('{"op":"subscribe","topics":["price.BTC"],"interval_ms":-1}', "bad_request", "-1"),
    ('{"op":"subscribe","topics":["price.BTC"],"interval_ms":0.5}', "bad_request", "interval_ms"),
    ('{"op":"subscribe","topics":["price.BTC"],"interval_ms":true}', "bad_request", "true"),
    ('{"op":"subscribe","topics":["price.BTC"],"interval_ms":3600001}', "bad_request", "3600001"),
    ('{"op":"subscribe","topics":["price.NOPE"]}', "unknown_topic", "price.NOPE"),
    ('{"op":"subscribe","topics":["ohlcv.BTC.7m"]}', "unknown_topic", "7m"),
    ('{"op":"subscribe","topics":["weather.BTC"]}', "unknown_topic", "weather.BTC"),
    ('{"op":"subscribe","topics":["weather.*"]}', "unknown_topic", "weather.*"),
    ('{"op":"subscribe","topics":["price.B*"]}', "unknown_topic", "price.B*"),
    ('{"op":"subscribe","topics":[">.BTC"]}', "unknown_topic", ">.BTC"),
    ('{"op":"subscribe","topics":[""]}', "unknown_topic", "''"),
    ('{"op":"subscribe","topics":["price.' + "X" * 200 + '"]}', "unknown_topic", "XXX"),
    ('{"op":"unsubscribe"}', "bad_request", "topics"),
    ('{"op":"snapshot","topics":["nope"]}', "unknown_topic", "nope"),
    ('{"op":"ping","req":[1]}', "bad_request", "[1]"),
    ('{"op":"ping","req":"' + "r" * 65 + '"}', "bad_request", "req"),
    ("[" * 8000, "bad_json", "[["),
    ('{"op":"ping","req":1e400}', "bad_json", "1e400"),
    ('{"op":"\\ud800"}', "bad_json", "ud800"),
]
"""Message, the error's code, and what its text must name."""


async def test_a_message_that_makes_no_sense_gets_an_error_that_names_it_and_nothing_else_happens(
    either: Running,
) -> None:
    async with websocket(either) as client:
        await client.until("hello")
        for text, code, named in NONSENSE:
            await client.connection.send(text)
            error = await client.next()
            assert (error["type"], error["code"]) == ("error", code), text
            assert named in error["message"], text
        await client.send(op="subscribe", topics=["price.BTC"])
        await client.until("synced")


async def test_an_unknown_topic_is_refused_by_name_while_the_others_are_served(
    service: Running, exchange: FakeBinance
) -> None:
    async with websocket(service) as client:
        await client.send(op="subscribe", topics=["price.NOPE", "price.BTC", "ohlcv.BTC.9z"], req=3)
        answers = await client.until("synced")
        exchange.advance(1)
        await client.one("update", topic="price.BTC", ts=exchange.now_ms)
    error, subscribed = answers[1:3]
    assert (error["code"], error["req"]) == ("unknown_topic", 3)
    assert "price.NOPE" in error["message"]
    assert "ohlcv.BTC.9z" in error["message"]
    assert (subscribed["topics"], subscribed["req"]) == (["price.BTC"], 3)


async def test_candles_asked_for_before_the_exchange_was_known_are_refused_when_it_lists_no_such_market(
    exchange: FakeBinance, tmp_path: Path
) -> None:
    await exchange.kill()
    async with (
        running(exchange, tmp_path) as service,
        websocket(service, "topics=ohlcv.NOPE.1m,ohlcv.SOL.1m") as client,
    ):
        await client.until("synced")
        await exchange.revive()
        error = await client.one("error")
        await client.one("update", topic="ohlcv.SOL.1m")
    assert error["code"] == "unknown_topic"
    assert "ohlcv.NOPE.1m" in error["message"]


async def test_a_binary_frame_is_refused_and_the_connection_goes_on(either: Running) -> None:
    async with websocket(either) as client:
        await client.until("hello")
        await client.connection.send(b'{"op":"ping"}')
        error = await client.next()
        await client.send(op="ping", req=1)
        assert (await client.next())["type"] == "pong"
    assert error["code"] == "binary_refused"


async def test_a_message_of_16_kib_is_taken_and_one_byte_more_is_not(either: Running) -> None:
    async with websocket(either) as client:
        await client.until("hello")
        await client.connection.send(json.dumps({"op": "ping", "req": 1}).ljust(16 * 1024))
        assert (await client.next())["type"] == "pong"
        await client.connection.send(json.dumps({"op": "ping", "req": 1}).ljust(16 * 1024 + 1))
        _, code = await client.end()
    assert code == 1009


async def test_a_message_in_fragments_is_one_message_and_their_sum_is_limited(either: Running) -> None:
    async with websocket(either) as client:
        await client.until("hello")
        await client.connection.send(['{"op":"pi', 'ng","re', 'q":1}'])
        assert (await client.next())["req"] == 1
        await client.connection.send(["x" * 8192, "x" * 8192, "x"])
        _, code = await client.end()
    assert code == 1009


async def test_too_many_operations_a_second_end_the_connection_with_4013(either: Running) -> None:
    async with websocket(either) as client:
        await client.until("hello")
        with suppress(ConnectionClosed):
            for number in range(FLOOD):
                await client.send(op="ping", req=number)
        heard, code = await client.end()
    *pongs, goodbye = heard
    assert code == 4013
    assert len(pongs) >= 50
    assert (goodbye["type"], goodbye["code"], goodbye["reconnect"]) == ("goodbye", 4013, True)
    assert goodbye["after_ms"] > 0


async def test_pings_of_the_frame_layer_count_as_operations(either: Running) -> None:
    async with websocket(either) as client:
        await client.until("hello")
        with suppress(ConnectionClosed):
            for _ in range(FLOOD):
                await client.connection.ping()
        _, code = await client.end()
    assert code == 4013


async def test_a_hundred_bad_messages_end_the_connection_with_4501(
    either: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "MAX_STRIKES", 5)
    async with websocket(either) as client:
        await client.until("hello")
        for _ in range(4):
            await client.connection.send("{")
        await client.send(op="ping")  # a good message resets the count
        for _ in range(5):
            await client.connection.send("{")
        heard, code = await client.end()
    assert code == 4501
    assert [message["type"] for message in heard] == ["error"] * 4 + ["pong"] + ["error"] * 5 + ["goodbye"]
    assert heard[-1]["reconnect"] is False


@pytest.mark.parametrize(
    ("allowed", "one_more"),
    [
        ([f"price.A{number}" for number in range(1000)], "price.B"),
        ([f"ohlcv.A{number}.*" for number in range(16)], "price.*"),
    ],
    ids=["topics", "patterns"],
)
async def test_as_many_topics_and_patterns_as_allowed_and_one_more_ends_with_4505(
    alone: Running, allowed: list[str], one_more: str
) -> None:
    async with websocket(alone) as client:
        for start in range(0, len(allowed), 500):
            await client.send(op="subscribe", topics=allowed[start : start + 500])
            await client.until("synced")
        await client.send(op="subscribe", topics=[one_more], req=4)
        heard, code = await client.end()
    error, goodbye = heard[-2:]
    assert code == 4505
    assert (error["type"], error["code"], error["req"]) == ("error", "topic_limit", 4)
    assert (goodbye["type"], goodbye["code"], goodbye["reconnect"]) == ("goodbye", 4505, False)


async def test_messages_may_be_deflated_both_ways(either: Running, exchange: FakeBinance) -> None:
    async with websocket(either, "topics=price.*", compression="deflate") as client:
        await client.until("synced")
        await client.send(op="subscribe", topics=["ohlcv.BTC.1m"], req="x" * 60)
        await client.until("synced")
        exchange.advance(1)
        await client.one("update", topic="price.BTC", ts=exchange.now_ms)


async def test_a_small_deflated_message_that_is_huge_inside_is_refused(either: Running) -> None:
    async with websocket(either, compression="deflate") as client:
        await client.until("hello")
        await client.connection.send(json.dumps({"op": "ping", "req": 1}).ljust(4_000_000))
        _, code = await client.end()
    assert code in (1009, 1002)


async def test_the_kernel_holds_no_message_back_until_the_one_before_is_acknowledged(either: Running) -> None:
    async with websocket(either, "topics=price.BTC") as client, sse(either, "topics=price.BTC") as events:
        await client.until("synced")
        await events.until("synced")
        assert len(either.context.clients.connected) == 2
        for connected in either.context.clients.connected:
            transport = connected.outbox.pipe.transport  # type: ignore[attr-defined]
            assert transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# --- heartbeat


async def test_a_ping_is_answered_with_its_own_payload(either: Running) -> None:
    async with websocket(either) as client, asyncio.timeout(30):
        await (await client.connection.ping(b"are you there?"))


async def test_a_client_that_answers_pings_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "PONG_WITHIN_S", 0.75)
    async with running(None, tmp_path, HEARTBEAT_S="1") as service, raw_websocket(service) as raw:
        for _ in range(2):
            assert await raw.frame(opcode=9) == b""
            raw.send(0xA, b"")
        raw.send(1, b'{"op":"ping","req":1}')
        assert b"pong" in await raw.frame(opcode=1, having=b'"req"')


async def test_a_client_that_does_not_answer_a_ping_is_cut_with_4012_even_if_it_sends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "PONG_WITHIN_S", 0.3)
    async with running(None, tmp_path, HEARTBEAT_S="1") as service, raw_websocket(service) as raw:
        await raw.frame(opcode=9)
        raw.send(1, b'{"op":"ping"}')
        goodbye = json.loads(await raw.frame(opcode=1, having=b"goodbye"))
        close = await raw.frame(opcode=8)
    assert (goodbye["code"], goodbye["reconnect"]) == (4012, True)
    assert int.from_bytes(close[:2], "big") == 4012


class RawWebSocket:
    """A client that sends raw frames, and answers nothing by itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, opcode: int, payload: bytes, *, head: int = 0x80, mask: bool = True) -> None:
        assert len(payload) < 126
        key = b"\1\2\3\4" if mask else b""
        body = bytes(byte ^ key[i % 4] for i, byte in enumerate(payload)) if mask else payload
        self.writer.write(bytes([head | opcode, len(payload) | (0x80 if mask else 0)]) + key + body)

    async def frame(self, opcode: int, having: bytes = b"") -> bytes:
        """Return the payload of the next frame of this kind that contains these bytes."""
        async with asyncio.timeout(30):
            while True:
                head, size = await self.reader.readexactly(2)
                if size >= 126:
                    size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
                payload = await self.reader.readexactly(size)
                if head & 0xF == opcode and having in payload:
                    return payload


@asynccontextmanager
async def raw_websocket(service: Running) -> AsyncIterator[RawWebSocket]:
    host, _, port = service.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [
        "GET /ws HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
    ]
    writer.write("\r\n".join([*lines, f"Sec-WebSocket-Key: {key}", "", ""]).encode())
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    yield RawWebSocket(reader, writer)
    writer.close()


# --- clients that trouble no other client


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ({"opcode": 1, "payload": b"\xff\xfe"}, 1007),
        ({"opcode": 1, "payload": b"{}", "head": 0xC0}, 1002),
        ({"opcode": 3, "payload": b""}, 1002),
        ({"opcode": 0, "payload": b"no beginning"}, 1002),
        ({"opcode": 9, "payload": b"", "head": 0}, 1002),
    ],
    ids=["bad UTF-8", "reserved bit", "reserved opcode", "continuation of nothing", "fragmented ping"],
)
async def test_a_broken_frame_ends_its_own_connection_by_the_rfc_and_no_other(
    either: Running, exchange: FakeBinance, frame: dict[str, Any], code: int
) -> None:
    async with websocket(either, "topics=price.BTC") as other, raw_websocket(either) as raw:
        await other.until("synced")
        raw.send(**frame)
        close = await raw.frame(opcode=8)
        exchange.advance(1)
        await other.one("update", topic="price.BTC", ts=exchange.now_ms)
    assert int.from_bytes(close[:2], "big") == code


async def test_clients_that_vanish_are_counted_out(either: Running) -> None:
    async with websocket(either, "topics=price.*") as client:
        await client.until("synced")
        assert len(either.context.clients.connected) == 1
        client.connection.transport.abort()
        await until(lambda: not either.context.clients.connected)
    assert not either.context.hub.members.by_outbox


@pytest.fixture
async def crowded() -> AsyncIterator[FakeBinance]:
    """Run an exchange with enough symbols to fill the buffers of a client that does not read."""
    async with FakeBinance(synthetic_pairs(400)) as running_exchange:
        yield running_exchange


@asynccontextmanager
async def lazy_reader(service: Running, query: str) -> AsyncIterator[WebSocketClient]:
    """Open a client with small buffers that reads only on demand."""
    host, _, port = service.url.removeprefix("http://").partition(":")
    plug = socket.socket()
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plug.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plug, (host, int(port)))
    async with websocket(service, query, sock=plug, max_queue=1, close_timeout=0.1) as client:
        yield client


async def test_a_client_that_does_not_read_is_cut_with_4008_and_another_goes_on_undisturbed(
    crowded: FakeBinance, tmp_path: Path
) -> None:
    async with (
        serving(crowded, tmp_path, STALL_S="2", SYMBOLS="*") as service,
        lazy_reader(service, "topics=price.*") as lazy,
        websocket(service, "topics=price.BTC") as brisk,
    ):
        await brisk.until("synced")
        hub = service.context.hub
        brisk_heard = 0
        while not hub.members.cut:
            crowded.advance(1)
            brisk_heard += len(await brisk.until("update", topic="price.BTC", ts=crowded.now_ms))
        heard, code = await lazy.end()
        crowded.advance(1)
        after = await brisk.until("update", topic="price.BTC", ts=crowded.now_ms)

    assert code == 4008
    assert (heard[-1]["type"], heard[-1]["code"], heard[-1]["reconnect"]) == ("goodbye", 4008, True)
    assert {message["type"] for message in after} == {"update"}
    assert brisk_heard > 1


async def test_more_than_the_outbox_may_hold_cuts_with_4008_before_any_stall(
    crowded: FakeBinance, tmp_path: Path
) -> None:
    async with (
        serving(crowded, tmp_path, STALL_S="3600", OUTBOX_BYTES="65536") as service,
        lazy_reader(service, "topics=price.*") as lazy,
    ):
        while not service.context.hub.members.cut:
            crowded.advance(1)
            await until(lambda: last_ts(service, "price.BTC") == crowded.now_ms)
        heard, code = await lazy.end()
    assert code == 4008
    assert heard[-1]["type"] == "goodbye"


async def test_a_client_that_was_slow_gets_the_newest_values_by_id_and_the_counts_of_merged_ones(
    crowded: FakeBinance, tmp_path: Path
) -> None:
    async with serving(crowded, tmp_path) as service, lazy_reader(service, "topics=price.*") as lazy:
        hub = service.context.hub
        while not hub.lagging:
            crowded.advance(1)
            await until(lambda: last_ts(service, "price.BTC") == crowded.now_ms)
        crowded.advance(20)
        await until(lambda: last_ts(service, "price.BTC") == crowded.now_ms)
        heard = await lazy.until("conflated")
        crowded.advance(1)
        await lazy.one("update", topic="price.BTC", ts=crowded.now_ms)

    prices = updates(heard, "price.BTC")
    assert heard[-1]["skipped"]["price.BTC"] > 10
    assert prices[-1]["ts"] == crowded.now_ms - 1000
    ids = [seq_of(message) for message in updates(heard)]
    assert ids == sorted(set(ids))


# --- admission


async def test_one_connection_too_many_is_closed_with_4504_until_another_leaves(tmp_path: Path) -> None:
    async with running(None, tmp_path, MAX_CONNECTIONS="1") as service:
        async with websocket(service) as first:
            await first.until("hello")
            async with websocket(service) as second:
                heard, code = await second.end()
            await first.send(op="ping")
            assert (await first.next())["type"] == "pong"
        await until(lambda: not service.context.clients.connected)
        async with websocket(service) as third:
            assert (await third.next())["type"] == "hello"
    assert code == 4504
    assert [(each["type"], each["code"], each["reconnect"]) for each in heard] == [("goodbye", 4504, False)]


async def test_a_storm_of_connections_too_many_gets_503_instead_of_an_upgrade(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket_shell, "REFUSALS_WITH_A_CODE", 0)
    async with running(None, tmp_path, MAX_CONNECTIONS="1") as service, websocket(service) as first:
        await first.until("hello")
        with pytest.raises(InvalidStatus) as refused:
            async with websocket(service):
                pass
    assert refused.value.response.status_code == 503
    assert int(refused.value.response.headers["Retry-After"]) > 0


@pytest.mark.parametrize(
    ("origin", "admitted"),
    [
        (None, True),
        ("https://good.example", True),
        ("{own}", True),
        ("https://evil.example", False),
        ("http://good.example", False),
        ("https://good.example.evil.example", False),
        ("null", False),
    ],
)
async def test_a_page_may_connect_only_from_an_allowed_origin_or_our_own(
    tmp_path: Path, origin: str | None, admitted: bool
) -> None:
    async with running(None, tmp_path, ALLOWED_ORIGINS="https://good.example") as service:
        sent = origin.format(own=service.url) if origin is not None else None
        if admitted:
            async with websocket(service, origin=sent) as client:
                assert (await client.next())["type"] == "hello"
        else:
            with pytest.raises(InvalidStatus) as refused:
                async with websocket(service, origin=sent):
                    pass
            assert refused.value.response.status_code == 403


async def test_a_plain_get_of_ws_is_refused_in_the_envelope_with_426(service: Running) -> None:
    status, body = await service.get("/ws")
    assert (status, body["success"]) == (426, False)


# --- pace


async def test_interval_ms_lets_one_value_through_a_beat_and_it_is_the_newest(
    service: Running, exchange: FakeBinance
) -> None:
    async with websocket(service, "topics=price.BTC,price.ETH&interval_ms=400") as client:
        await client.until("synced")
        loop = asyncio.get_running_loop()
        beats: list[float] = []
        heard: list[Message] = []
        for _ in range(3):
            for _ in range(10):
                exchange.advance(1)
            await until(lambda: last_ts(service, "price.BTC") == exchange.now_ms)
            heard += await client.until("update", topic="price.BTC", ts=exchange.now_ms)
            beats.append(loop.time())
    assert len(updates(heard, "price.BTC")) == 3
    assert all(later - earlier > 0.3 for earlier, later in itertools.pairwise(beats))


async def test_log_events_are_never_held_back_by_interval_ms(service: Running, exchange: FakeBinance) -> None:
    async with websocket(service, "topics=ohlcv.BTC.1m&interval_ms=3600000") as client:
        await client.until("synced")
        exchange.advance(125)
        heard = await client.until("update", topic="ohlcv.BTC.1m")
        while sum(message["data"]["closed"] for message in updates(heard)) < 2:
            heard.append(await client.next())
    closed = [message["data"]["open_time"] for message in updates(heard) if message["data"]["closed"]]
    assert closed == [candle.open_ms for candle in exchange.candles("BTCUSDT", "1m")[-3:-1]]
    ids = [seq_of(message) for message in updates(heard)]
    assert ids == sorted(set(ids))


@pytest.mark.parametrize("value", ["soon", "-1", "1.5", "3600001"])
async def test_a_bad_interval_in_the_url_is_an_error_that_names_it(service: Running, value: str) -> None:
    async with websocket(service, f"topics=price.BTC&interval_ms={value}") as client:
        heard = await client.until("error")
    assert heard[-1]["code"] == "bad_request"
    assert "interval_ms" in heard[-1]["message"]


# --- candles on demand


async def test_candles_start_upstream_when_first_wanted_and_stop_when_idle(
    exchange: FakeBinance, tmp_path: Path
) -> None:
    stream = "solusdt@kline_5m"
    async with serving(exchange, tmp_path, IDLE_TOPIC_S="1") as service:
        assert not exchange.subscribed(stream)
        async with websocket(service, "topics=ohlcv.SOL.5m") as client:
            await exchange.until(lambda: exchange.subscribed(stream))
            candle = (await client.one("update", topic="ohlcv.SOL.5m"))["data"]
            async with websocket(service, "topics=ohlcv.SOL.5m") as second:
                await second.until("synced")
            exchange.advance(4)
            later = (await client.one("update", topic="ohlcv.SOL.5m"))["data"]
        await exchange.until(lambda: not exchange.subscribed(stream))
        assert exchange.subscribed(KLINES), "candles of the settings are never idle"
        async with websocket(service, "topics=ohlcv.SOL.5m") as client:
            await client.one("update", topic="ohlcv.SOL.5m")
            await exchange.until(lambda: exchange.subscribed(stream))  # REST may well be quicker
    closed, running_one = exchange.candles("SOLUSDT", "5m")[-2:]
    assert (candle["open_time"], candle["state"]) == (closed.open_ms, "closed")
    assert (later["open_time"], later["state"]) == (running_one.open_ms, "live")
    assert not exchange.violations


async def test_candles_that_were_dropped_meanwhile_are_never_resumed_with_a_hole(
    exchange: FakeBinance, tmp_path: Path
) -> None:
    async with serving(exchange, tmp_path, IDLE_TOPIC_S="1") as service:
        async with websocket(service, "topics=ohlcv.SOL.1m") as client:
            await client.one("update", topic="ohlcv.SOL.1m")
            await exchange.until(lambda: exchange.subscribed("solusdt@kline_1m"))
            exchange.advance(61)
            position = (await client.one("update", topic="ohlcv.SOL.1m"))["id"]
        await exchange.until(lambda: not exchange.subscribed("solusdt@kline_1m"))
        exchange.advance(300)
        async with websocket(service, f"topics=ohlcv.SOL.1m&since={position}") as client:
            subscribed = await client.one("subscribed")
    assert (subscribed["resumed"], subscribed["reason"]) == (False, "evicted")


CLOSE = 0x88


async def after_our_close(service: Running, headers: str, leave: Callable[[], Awaitable[object]]) -> tuple[int, bytes]:
    """Answer the server's close frame as a browser does; return its code, and what arrived before the end."""
    port = int(service.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    key = base64.b64encode(bytes(16)).decode()
    request = f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    writer.write(f"{request}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{headers}\r\n".encode())
    try:
        async with asyncio.timeout(30):
            await reader.readuntil(b"\r\n\r\n")
            leaving = asyncio.ensure_future(leave())
            opcode, payload = 0, b""
            while opcode != CLOSE:
                opcode, length = await reader.readexactly(2)
                if length == 126:
                    length = int.from_bytes(await reader.readexactly(2))
                payload = await reader.readexactly(length)
            writer.write(bytes([CLOSE, 0x82, 0, 0, 0, 0]) + payload[:2])
            rest = await reader.read()
            await leaving
    finally:
        writer.close()
    return int.from_bytes(payload[:2]), rest


async def test_after_our_close_and_the_clients_answer_the_server_sends_nothing_more(either: Running) -> None:
    async def dismissed() -> None:
        await until(lambda: either.context.clients.connected)
        await either.context.clients.dismiss(within_s=0.1)

    assert await after_our_close(either, "", dismissed) == (4001, b"")


async def test_a_page_without_a_token_gets_one_close(tmp_path: Path) -> None:
    async with running(None, tmp_path, AUTH_TOKENS="desk:" + "t" * 32) as service:
        origin = f"Origin: {service.url}\r\n"
        assert await after_our_close(service, origin, lambda: asyncio.sleep(0)) == (4500, b"")

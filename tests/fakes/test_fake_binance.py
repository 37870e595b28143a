"""Tests that the fake Binance behaves as Binance documents, and misbehaves only on request."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from functools import partial
from urllib.parse import quote

import aiohttp
import orjson
import pytest
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus

from tests.fakes import binance_market
from tests.fakes.binance import (
    GEO_BLOCK_BODY,
    INTERVALS,
    START_MS,
    Candle,
    Connection,
    FakeBinance,
    Hang,
    Limits,
    Pair,
    RestFault,
    Rule,
    Spoil,
    Stall,
    Status,
    SubscribeFault,
    Swap,
    duplicate,
    reverse,
    silence,
    synthetic_pairs,
    withhold_closes,
)
from tests.fakes.binance_market import DAY_MS, HOUR_MS, MINUTE_MS, Market, next_open, open_of

KLINES = "btcusdt@kline_1m"


@pytest.fixture
async def exchange() -> AsyncIterator[FakeBinance]:
    async with FakeBinance() as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def connect(exchange: FakeBinance, *streams: str, path: str = "/stream") -> websockets.connect:
    """Open a combined connection with these streams."""
    query = f"?streams={'/'.join(map(quote, streams))}" if streams else ""
    return websockets.connect(
        exchange.ws_url + path + query, proxy=None, ping_interval=None, compression=None, close_timeout=0.5
    )


async def ask(client: ClientConnection, method: str, params: list[object] | None = None, id_: object = 1) -> None:
    request: dict[str, object] = {"method": method, "id": id_}
    await client.send(orjson.dumps(request if params is None else request | {"params": params}).decode())


async def raw_until_fence(client: ClientConnection) -> list[bytes]:
    """Return every frame sent before the answer to a request made now."""
    await ask(client, "LIST_SUBSCRIPTIONS", id_="fence")
    frames: list[bytes] = []
    async with asyncio.timeout(30):
        while True:
            frame = await client.recv(decode=False)
            if frame.endswith(b'"id":"fence"}'):
                return frames
            frames.append(frame)


async def events_so_far(client: ClientConnection, stream: str | None = None) -> list[dict[str, object]]:
    """Return the combined events sent so far (of one stream)."""
    events = [orjson.loads(frame) for frame in await raw_until_fence(client)]
    return [event for event in events if stream in (None, event.get("stream"))]


async def klines_so_far(client: ClientConnection, stream: str = KLINES) -> list[dict[str, object]]:
    return [event["data"]["k"] for event in await events_so_far(client, stream)]  # type: ignore[index]


async def get(http: aiohttp.ClientSession, exchange: FakeBinance, path: str, **query: str) -> tuple[int, object]:
    async with http.get(f"{exchange.rest_url}/api/v3/{path}", params=query) as response:
        return response.status, await response.json()


def kline_of(candle: Candle) -> dict[str, object]:
    return candle.event(0)["k"]  # type: ignore[return-value]


@asynccontextmanager
async def refused(status: int) -> AsyncIterator[pytest.ExceptionInfo[InvalidStatus]]:
    with pytest.raises(InvalidStatus) as caught:
        yield caught
    assert caught.value.response.status_code == status


# The market


@pytest.mark.parametrize("symbol", ["BTCUSDT", "PEPEUSDT", "MATICUSDT"])
def test_history_agrees_with_itself_at_every_interval(symbol: str) -> None:
    market = Market()
    for interval, parts in (("1m", "1s"), ("1h", "1m"), ("1d", "1h"), ("1w", "1d"), ("1M", "1d"), ("15m", "5m")):
        whole = market.candles(symbol, interval, limit=3)[0]
        pieces = market.candles(symbol, parts, start_ms=whole.open_ms, end_ms=whole.close_ms)
        assert whole.closed
        assert (whole.open, whole.close) == (pieces[0].open, pieces[-1].close)
        assert float(whole.high) == max(float(piece.high) for piece in pieces)
        assert float(whole.low) == min(float(piece.low) for piece in pieces)
        assert whole.trades == sum(piece.trades for piece in pieces)
        for name in ("volume", "quote_volume", "taker_volume", "taker_quote"):
            total = sum(binance_market.atoms_of(getattr(piece, name)) for piece in pieces)
            assert getattr(whole, name) == binance_market.decimal(total)


@pytest.mark.parametrize("interval", ["1s", "1m", "1h", "1d"])
def test_the_average_price_of_every_candle_is_between_its_low_and_high(interval: str) -> None:
    for symbol in ("BTCUSDT", "ETHBTC", "XRPUSDT"):
        for candle in Market().candles(symbol, interval)[:-1]:
            average = float(candle.quote_volume) / float(candle.volume)
            assert float(candle.low) * 0.99999 <= average <= float(candle.high) * 1.00001


def test_live_trades_agree_at_every_interval_across_the_start() -> None:
    start_ms = START_MS + 17 * MINUTE_MS + 23_000
    market, unwatched = Market(start_ms=start_ms), Market(start_ms=start_ms)
    for interval in INTERVALS:
        market.watch("BTCUSDT", interval)
    for _ in range(10 * 60):
        market.step(only=["BTCUSDT"])
        unwatched.step(only=["BTCUSDT"])
    for interval in ("15m", "1h", "1d", "1w", "1M"):
        whole = market.candles("BTCUSDT", interval)[-1]
        assert unwatched.candles("BTCUSDT", interval)[-1] == whole
        if interval in ("15m", "1h"):
            seconds = market.candles("BTCUSDT", "1s", start_ms=whole.open_ms, limit=3600)
            assert whole.trades == sum(second.trades for second in seconds)
            assert float(whole.high) == max(float(second.high) for second in seconds if second.trades)
            assert whole.open == seconds[0].open


@pytest.mark.parametrize("interval", INTERVALS)
def test_every_interval_has_an_unbroken_history(interval: str) -> None:
    candles = Market().candles("ETHUSDT", interval)
    assert len(candles) == {"1w": 484, "1M": 112}.get(interval, 1000)
    for earlier, later in itertools.pairwise(candles):
        assert next_open(interval, earlier.open_ms) == later.open_ms == earlier.close_ms + 1
        assert earlier.last_trade_id + 1 == later.first_trade_id or not later.trades
    assert [candle.closed for candle in candles] == [True] * (len(candles) - 1) + [False]


def test_the_same_seed_makes_the_same_market_and_another_seed_a_different_one() -> None:
    def story(seed: int) -> list[Candle]:
        market = Market(seed=seed)
        for _ in range(90):
            market.step()
        return [candle for symbol in market.instruments for candle in market.candles(symbol, "1m", limit=5)]

    assert story(7) == story(7)
    assert story(7) != story(8)


def test_weeks_open_on_monday_and_months_on_the_first() -> None:
    monday = 1_795_392_000_000  # 2026-11-23
    assert open_of("1w", monday - 1) == monday - 7 * DAY_MS
    assert open_of("1w", monday) == monday
    assert next_open("1M", 1_795_305_600_000 - 21 * DAY_MS) == 1_795_305_600_000 + 9 * DAY_MS


def test_fifteen_hundred_pairs_tick_quickly() -> None:
    market = Market(synthetic_pairs(1500))
    assert len(market.instruments) == 1500
    traded = {trade.symbol for _ in range(3) for trade in market.step().trades}
    assert 400 < len(traded) < 1499


async def test_a_pair_can_be_listed_and_stopped_while_it_runs(
    exchange: FakeBinance, http: aiohttp.ClientSession
) -> None:
    async with connect(exchange, "newusdt@kline_1m", "btcusdt@kline_1m") as client:
        exchange.advance(30)
        exchange.list_pair(Pair("NEWUSDT", "NEW", "USDT", "2.5", listed_ms=exchange.now_ms))
        exchange.advance(90)
        events = await events_so_far(client, "newusdt@kline_1m")
        first = exchange.candles("NEWUSDT", "1m")[0]
        assert (first.open_ms, first.trades) == (START_MS, 30)
        assert kline_of(first) in [event["data"]["k"] for event in events]  # type: ignore[index]

        exchange.set_status("BTCUSDT", Status.BREAK)
        exchange.advance(120)
        assert await events_so_far(client, "btcusdt@kline_1m") == []
    assert exchange.candles("BTCUSDT", "1m")[-1].open_ms == START_MS + MINUTE_MS
    _, info = await get(http, exchange, "exchangeInfo", symbols='["BTCUSDT","NEWUSDT"]')
    assert [row["status"] for row in info["symbols"]] == ["BREAK", "TRADING"]  # type: ignore[index]


# Streams


async def test_a_raw_stream_sends_bare_events_and_a_combined_one_wraps_them(exchange: FakeBinance) -> None:
    async with connect(exchange, path=f"/ws/{KLINES}") as raw, connect(exchange, KLINES) as combined:
        exchange.advance(2)
        (bare,) = await raw_until_fence(raw)
        (wrapped,) = await raw_until_fence(combined)
    assert orjson.loads(wrapped) == {"stream": KLINES, "data": orjson.loads(bare)}


async def test_events_have_the_fields_of_the_documented_samples(exchange: FakeBinance) -> None:
    streams = {
        "btcusdt@miniTicker": {"e", "E", "s", "c", "o", "h", "l", "v", "q"},
        "btcusdt@kline_1h": {"e", "E", "s", "k"},
        "btcusdt@aggTrade": {"e", "E", "s", "a", "p", "q", "f", "l", "T", "m", "M"},
        "btcusdt@bookTicker": {"u", "s", "b", "B", "a", "A"},
    }
    async with connect(exchange, *streams) as client:
        exchange.advance(2)
        events = await events_so_far(client)
    for stream, keys in streams.items():
        event = next(event["data"] for event in events if event["stream"] == stream)
        assert isinstance(event, dict)
        assert event.keys() == keys
    kline = next(event["data"] for event in events if event["stream"] == "btcusdt@kline_1h")["k"]  # type: ignore[index]
    assert kline.keys() == set("tTsifLocHhlvnxqVQB") - {"H"}


async def test_the_array_contains_only_pairs_that_changed(exchange: FakeBinance) -> None:
    exchange.quiet("ETHUSDT")
    async with connect(exchange, "!miniTicker@arr") as client:
        exchange.advance(1)
        exchange.advance(1, only=["币安人生USDT"])
        exchange.advance(1, only=[])
        first, second = await events_so_far(client)
    symbols = {row["s"] for row in first["data"]}  # type: ignore[attr-defined]
    assert "BTCUSDT" in symbols
    assert symbols.isdisjoint({"ETHUSDT", "MATICUSDT"})
    assert [row["s"] for row in second["data"]] == ["币安人生USDT"]  # type: ignore[attr-defined]


async def test_klines_come_every_two_seconds_and_a_final_one_at_the_close(exchange: FakeBinance) -> None:
    async with connect(exchange, KLINES) as client:
        exchange.advance(64)
        klines = await klines_so_far(client)
    assert len(klines) == 29 + 1 + 2  # 29 updates, the close (the 30th update), and 2 updates of the next candle
    assert [kline["x"] for kline in klines] == [False] * 29 + [True] + [False] * 2
    assert klines[29] == kline_of(exchange.candles("BTCUSDT", "1m")[-2])
    assert klines[-1] == kline_of(exchange.candles("BTCUSDT", "1m")[-1])


@pytest.mark.parametrize("interval", INTERVALS)
async def test_every_interval_streams_and_closes(interval: str) -> None:
    start_ms = next_open(interval, open_of(interval, START_MS)) - 2_000
    stream = f"ethusdt@kline_{interval}"
    async with FakeBinance(start_ms=start_ms) as exchange, connect(exchange, stream) as client:
        exchange.advance(4)
        klines = await klines_so_far(client, stream)
        closed = [kline for kline in klines if kline["x"]]
        assert closed
        assert closed[-1]["T"] == (start_ms + 2_000 if interval != "1s" else start_ms + 4_000) - 1
        truth = {candle.open_ms: kline_of(candle) for candle in exchange.candles("ETHUSDT", interval, limit=9)}
        assert all(truth[int(str(kline["t"]))] == kline for kline in closed)


async def test_a_quiet_pair_closes_flat_candles(exchange: FakeBinance) -> None:
    exchange.quiet("BTCUSDT")
    async with connect(exchange, KLINES) as client:
        exchange.advance(120)
        first, second = await klines_so_far(client)
    assert first["x"] is second["x"] is True
    assert second["n"] == 0
    assert second["o"] == second["c"] == exchange.price("BTCUSDT")


async def test_a_long_step_still_closes_every_candle_in_order(exchange: FakeBinance) -> None:
    async with connect(exchange, KLINES) as client:
        exchange.advance(3600, step_s=600)
        closed = [kline for kline in await klines_so_far(client) if kline["x"]]
    assert [kline["t"] for kline in closed] == [START_MS + n * MINUTE_MS for n in range(60)]
    assert closed == [kline_of(candle) for candle in exchange.candles("BTCUSDT", "1m")[-61:-1]]


async def test_a_trade_made_by_the_test_appears_on_every_stream(exchange: FakeBinance) -> None:
    async with connect(exchange, "btcusdt@aggTrade", "btcusdt@miniTicker", KLINES) as client:
        exchange.trade("BTCUSDT", "99999.99", "0.5")
        exchange.advance(2, only=[])
        events = {str(event["stream"]): event["data"] for event in await events_so_far(client)}
    assert events["btcusdt@aggTrade"]["p"] == "99999.99000000"  # type: ignore[index]
    assert events["btcusdt@miniTicker"]["c"] == "99999.99000000"  # type: ignore[index]
    assert events[KLINES]["k"]["h"] == "99999.99000000"  # type: ignore[index]
    assert exchange.candles("BTCUSDT", "1d")[-1].high == "99999.99000000"


async def test_unknown_but_well_formed_streams_are_accepted_and_silent(exchange: FakeBinance) -> None:
    async with connect(exchange) as client:
        await ask(client, "SUBSCRIBE", ["nopeusdt@kline_1m", "BTCUSDT@kline_1m", "btcusdt@kline_7m", "x"])
        assert orjson.loads(await client.recv()) == {"result": None, "id": 1}
        exchange.advance(60)
        assert await events_so_far(client) == []


async def test_control_messages_are_acknowledged_unwrapped_between_events(exchange: FakeBinance) -> None:
    async with connect(exchange, "ethusdt@kline_1m") as client:
        await ask(client, "SUBSCRIBE", [KLINES], id_="a-1")
        await exchange.until(lambda: exchange.subscribed(KLINES))
        exchange.advance(2)
        await ask(client, "UNSUBSCRIBE", ["ethusdt@kline_1m"], id_=-5)
        await exchange.until(lambda: not exchange.subscribed("ethusdt@kline_1m"))
        exchange.advance(2)
        await ask(client, "LIST_SUBSCRIPTIONS", id_=9)
        events = [orjson.loads(await client.recv()) for _ in range(6)]
    assert [event.get("stream", event.get("id")) for event in events] == [
        "a-1", "ethusdt@kline_1m", KLINES, -5, KLINES, 9,
    ]  # fmt: skip
    assert events[-1] == {"result": [KLINES], "id": 9}


async def test_combined_wrapping_is_a_property(exchange: FakeBinance) -> None:
    async with connect(exchange, path=f"/ws/{KLINES}") as client:
        await ask(client, "GET_PROPERTY", ["combined"], id_=1)
        await ask(client, "SET_PROPERTY", ["combined", True], id_=2)
        assert [orjson.loads(await client.recv()) for _ in range(2)] == [
            {"result": False, "id": 1},
            {"result": None, "id": 2},
        ]
        exchange.advance(2)
        assert [event["stream"] for event in await events_so_far(client)] == [KLINES]


@pytest.mark.parametrize(
    ("request_text", "code"),
    [
        ('{"method":"SET_PROPERTY","params":["nope",true],"id":7}', 0),
        ('{"method":"SET_PROPERTY","params":["combined","yes"],"id":7}', 1),
        ('{"method":"SET_PROPERTY","params":[5,true],"id":7}', 2),
        ('{"method":"SUBSCRIB","params":["a@b"],"id":7}', 2),
        ('{"method":"SUBSCRIBE","params":["a@b"],"id":1.5}', 2),
        ('{"method":"SUBSCRIBE","params":[],"id":1}', 2),
        ('{"params":["a@b"],"id":7}', 2),
        ("not json", 3),
    ],
)
async def test_a_bad_request_gets_an_error_and_the_connection_lives(
    exchange: FakeBinance, request_text: str, code: int
) -> None:
    async with connect(exchange, KLINES) as client:
        await client.send(request_text)
        assert orjson.loads(await client.recv())["code"] == code
        exchange.advance(2)
        assert len(await events_so_far(client)) == 1


# Limits


async def test_a_sixth_message_in_a_second_disconnects(exchange: FakeBinance) -> None:
    async with connect(exchange) as client:
        for number in range(5):
            await ask(client, "LIST_SUBSCRIPTIONS", id_=number)
        for _ in range(5):
            await client.recv()
        await client.ping()
        with pytest.raises(ConnectionClosedError) as closed:
            await client.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008
    assert [violation.rule for violation in exchange.violations] == [Rule.MESSAGES_PER_SECOND]
    assert exchange.busiest_second == 6


async def test_five_messages_in_every_second_are_allowed(exchange: FakeBinance) -> None:
    async with connect(exchange) as client:
        for _ in range(3):
            for number in range(5):
                await ask(client, "LIST_SUBSCRIPTIONS", id_=number)
                await client.recv()
            exchange.pass_time(1)
    assert exchange.violations == []
    assert exchange.busiest_second == 5


async def test_a_connection_accepts_1024_streams_and_no_more(exchange: FakeBinance) -> None:
    names: list[object] = [f"s{number}@kline_1m" for number in range(1024)]
    async with connect(exchange) as client:
        await ask(client, "SUBSCRIBE", names)
        assert orjson.loads(await client.recv())["result"] is None
        await ask(client, "SUBSCRIBE", [KLINES], id_=2)
        assert orjson.loads(await client.recv())["code"] == 2
    assert [violation.rule for violation in exchange.violations] == [Rule.STREAMS_PER_CONNECTION]


async def test_too_many_connection_attempts_are_refused_until_time_has_passed() -> None:
    async with FakeBinance(limits=Limits(handshakes=2)) as exchange:
        async with connect(exchange), connect(exchange):
            async with refused(429) as caught:
                await connect(exchange)
            assert 299 <= int(caught.value.response.headers["Retry-After"]) <= 300
            exchange.pass_time(300)
            async with connect(exchange):
                pass
        assert [handshake.status for handshake in exchange.handshakes] == [101, 101, 429, 101]
        assert exchange.handshakes_refused == 1


async def test_it_pings_every_twenty_seconds_and_counts_the_pongs(exchange: FakeBinance) -> None:
    async with connect(exchange):
        (connection,) = exchange.connections
        for count in (1, 2, 3, 4):
            exchange.pass_time(20)
            await exchange.until(partial(has_pongs, connection, count))
        assert exchange.connections == [connection]


def has_pongs(connection: Connection, count: int) -> bool:
    return len(connection.pongs) == count


async def test_a_client_without_pongs_is_dropped_after_sixty_seconds(exchange: FakeBinance) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", exchange.port)
    writer.write(
        b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    await reader.readuntil(b"\r\n\r\n")
    for _ in range(3):
        exchange.pass_time(20)
    assert len(exchange.connections) == 1
    exchange.pass_time(20)
    assert exchange.connections == []
    assert [violation.rule for violation in exchange.violations] == [Rule.PONG]
    writer.close()
    await writer.wait_closed()


async def test_a_scaled_clock_pings_by_itself() -> None:
    async with FakeBinance(limits=Limits(time_scale=1000)) as exchange, connect(exchange):
        (connection,) = exchange.connections
        await exchange.until(lambda: len(connection.pongs) >= 2)


async def test_a_connection_lives_24_hours(exchange: FakeBinance) -> None:
    async with connect(exchange) as client:
        exchange.pass_time(86_399)
        assert len(exchange.connections) == 1
        exchange.pass_time(1)
        with pytest.raises(ConnectionClosed):
            await client.recv()
    assert exchange.violations == []


async def test_a_reader_that_is_too_slow_for_its_backlog_is_disconnected() -> None:
    async with FakeBinance(limits=Limits(backlog_bytes=100_000)) as exchange, connect(exchange, KLINES):
        exchange.flood(KLINES, 100_000)
        await exchange.until(lambda: not exchange.connections)
        assert exchange.violations[0].rule is Rule.BACKLOG


# REST


async def test_rest_streams_and_the_market_agree(exchange: FakeBinance, http: aiohttp.ClientSession) -> None:
    async with connect(exchange, KLINES) as client:
        exchange.advance(200)
        closed = [kline for kline in await klines_so_far(client) if kline["x"]]
    _, rows = await get(http, exchange, "klines", symbol="BTCUSDT", interval="1m", limit="4")
    assert rows == [candle.row() for candle in exchange.candles("BTCUSDT", "1m", limit=4)]
    assert isinstance(rows, list)
    names = ("t", "o", "h", "l", "c", "v", "T", "q", "n", "V", "Q")
    assert [row[:11] for row in rows[:-1]] == [[kline[name] for name in names] for kline in closed]


async def test_klines_are_paged_from_a_start_or_back_from_now(
    exchange: FakeBinance, http: aiohttp.ClientSession
) -> None:
    async def opens(**query: str) -> list[int]:
        status, rows = await get(http, exchange, "klines", symbol="BTCUSDT", interval="1h", **query)
        assert status == 200
        assert isinstance(rows, list)
        assert all(len(row) == 12 for row in rows)
        return [row[0] for row in rows]

    now = open_of("1h", exchange.now_ms)
    assert await opens() == list(range(now - 499 * HOUR_MS, now + 1, HOUR_MS))
    assert len(await opens(limit="5000")) == 1000
    start = now - 2000 * HOUR_MS
    assert await opens(startTime=str(start + 1), limit="2") == [start + HOUR_MS, start + 2 * HOUR_MS]
    assert await opens(endTime=str(start), limit="2") == [start - HOUR_MS, start]
    assert await opens(startTime=str(start), endTime=str(start)) == [start]
    assert await opens(startTime=str(now + HOUR_MS)) == []
    assert len(exchange.requests_to("klines", startTime=str(start))) == 1


@pytest.mark.parametrize(
    ("path", "query", "code"),
    [
        ("klines", {"symbol": "NOPE", "interval": "1m"}, -1121),
        ("klines", {"symbol": "btcusdt", "interval": "1m"}, -1100),
        ("klines", {"symbol": "BTCUSDT", "interval": "7m"}, -1120),
        ("klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": "x"}, -1100),
        ("klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": "0"}, -1130),
        ("klines", {"symbol": "BTCUSDT"}, -1102),
        ("klines", {"interval": "1m"}, -1102),
        ("klines", {"symbol": "BTCUSDT", "interval": "1m", "nope": "1"}, -1104),
        ("ticker/price", {"symbols": '["BTCUSDT","NOPE"]'}, -1121),
        ("ticker/price", {"symbols": '["BTCUSDT", "ETHUSDT"]'}, -1100),
        ("ticker/price", {"symbols": "BTCUSDT"}, -1100),
        ("ticker/24hr", {"symbol": "BTCUSDT", "symbols": '["ETHUSDT"]'}, -1128),
        ("exchangeInfo", {"symbol": "MATICUSDT", "symbolStatus": "TRADING"}, -1220),
    ],
)
async def test_a_bad_request_gets_binances_own_error(
    exchange: FakeBinance, http: aiohttp.ClientSession, path: str, query: dict[str, str], code: int
) -> None:
    status, body = await get(http, exchange, path, **query)
    assert (status, body["code"]) == (400, code)  # type: ignore[index]
    assert exchange.requests[-1].status == 400


async def test_exchange_info_lists_dead_and_non_ascii_pairs(exchange: FakeBinance, http: aiohttp.ClientSession) -> None:
    _, info = await get(http, exchange, "exchangeInfo")
    assert isinstance(info, dict)
    pairs = {row["symbol"]: row for row in info["symbols"]}
    assert pairs["MATICUSDT"]["status"] == "BREAK"
    assert (pairs["币安人生USDT"]["baseAsset"], pairs["币安人生USDT"]["quoteAsset"]) == ("币安人生", "USDT")
    assert info["rateLimits"][0] == {
        "rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000,
    }  # fmt: skip
    _, one = await get(http, exchange, "exchangeInfo", symbol="1INCHUSDT")
    assert [row["baseAsset"] for row in one["symbols"]] == ["1INCH"]  # type: ignore[index]
    _, alive = await get(http, exchange, "exchangeInfo", symbolStatus="TRADING", showPermissionSets="false")
    assert "MATICUSDT" not in {row["symbol"] for row in alive["symbols"]}  # type: ignore[index]


async def test_one_symbol_answers_an_object_and_many_an_array(
    exchange: FakeBinance, http: aiohttp.ClientSession
) -> None:
    _, one = await get(http, exchange, "ticker/24hr", symbol="BTCUSDT")
    _, many = await get(http, exchange, "ticker/24hr", symbols='["ETHBTC","BTCUSDT"]', type="MINI")
    _, every = await get(http, exchange, "ticker/price")
    assert isinstance(one, dict)
    assert isinstance(many, list)
    assert isinstance(every, list)
    assert one["lastPrice"] == many[1]["lastPrice"] == exchange.price("BTCUSDT")
    assert "priceChangePercent" in one
    assert "priceChangePercent" not in many[0]
    assert len(every) == len(exchange.market.instruments)
    _, dead = await get(http, exchange, "ticker/24hr", symbol="MATICUSDT")
    assert (dead["openPrice"], dead["count"]) == ("0.00000000", 0)  # type: ignore[index]


async def test_the_24_hour_window_covers_history_and_live_trading(
    exchange: FakeBinance, http: aiohttp.ClientSession
) -> None:
    exchange.advance(600)
    _, day = await get(http, exchange, "ticker/24hr", symbol="ETHUSDT")
    hours = exchange.candles("ETHUSDT", "1h", limit=25)
    assert isinstance(day, dict)
    assert day["openPrice"] == hours[0].open
    assert float(day["volume"]) == pytest.approx(sum(float(hour.volume) for hour in hours))
    assert day["count"] == sum(hour.trades for hour in hours)


async def test_weight_is_counted_as_binance_counts_it(exchange: FakeBinance, http: aiohttp.ClientSession) -> None:
    used = 0
    start_minute(exchange)
    for path, query, weight in (
        ("ping", "", 1),
        ("time", "", 1),
        ("exchangeInfo", "", 20),
        ("klines", "?symbol=BTCUSDT&interval=1m", 2),
        ("ticker/24hr", "?symbol=BTCUSDT", 2),
        ("ticker/24hr", "", 80),
        ("ticker/price", "?symbol=BTCUSDT", 2),
        ("ticker/price", "", 4),
    ):
        used += weight
        async with http.get(f"{exchange.rest_url}/api/v3/{path}{query}") as response:
            assert response.headers["X-MBX-USED-WEIGHT-1M"] == str(used)


def start_minute(exchange: FakeBinance) -> None:
    """Advance the clock to a new minute, so that the test does not cross a minute in real time."""
    exchange.pass_time(60 - exchange.clock_s % 60)


async def test_over_the_limit_requests_get_429_then_418_until_time_has_passed() -> None:
    limits = Limits(weight_per_minute=40, refusals_before_ban=2)
    async with FakeBinance(limits=limits) as exchange, aiohttp.ClientSession() as http:
        start_minute(exchange)
        seen = []
        for _ in range(5):
            async with http.get(f"{exchange.rest_url}/api/v3/exchangeInfo") as response:
                seen.append((response.status, int(response.headers.get("Retry-After", 0))))
                last = await response.json()
        assert [status for status, _ in seen] == [200, 200, 429, 429, 418]
        assert 55 <= seen[2][1] <= 60
        assert 119 <= seen[4][1] <= 120
        assert last["code"] == -1003
        assert "IP banned until" in last["msg"]
        exchange.pass_time(121)
        assert (await get(http, exchange, "ping"))[0] == 200


async def test_the_date_header_is_market_time(exchange: FakeBinance, http: aiohttp.ClientSession) -> None:
    exchange.advance(90)
    async with http.get(f"{exchange.rest_url}/api/v3/time") as response:
        server_ms = (await response.json())["serverTime"]
        date = parsedate_to_datetime(response.headers["Date"])
    assert server_ms == exchange.now_ms == START_MS + 90_000
    assert date.timestamp() * 1000 == server_ms


# Handshakes and connections that fail


async def test_the_next_handshakes_are_refused_with_status_headers_and_body(exchange: FakeBinance) -> None:
    exchange.refuse_handshakes(429, times=1, retry_after=7)
    exchange.refuse_handshakes(451, times=1, body=GEO_BLOCK_BODY)
    async with refused(429) as caught:
        await connect(exchange)
    assert caught.value.response.headers["Retry-After"] == "7"
    async with refused(451) as caught:
        await connect(exchange)
    assert b"restricted location" in caught.value.response.body
    async with connect(exchange):
        assert [handshake.status for handshake in exchange.handshakes] == [429, 451, 101]


async def test_refusals_can_last_until_they_are_stopped(exchange: FakeBinance) -> None:
    with exchange.refuse_handshakes(503):
        for _ in range(3):
            async with refused(503):
                await connect(exchange)
    async with connect(exchange):
        pass


@pytest.mark.parametrize("code", [None, 1013])
async def test_a_connection_can_be_accepted_and_then_closed(exchange: FakeBinance, code: int | None) -> None:
    exchange.close_on_accept(code, times=1)
    with pytest.raises((ConnectionClosed, ConnectionError, websockets.InvalidMessage)) as caught:
        async with connect(exchange) as client:
            await client.recv()
    if code is not None and isinstance(caught.value, ConnectionClosed):
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == code
    assert [handshake.status for handshake in exchange.handshakes] == [101]


async def test_a_handshake_can_hang(exchange: FakeBinance) -> None:
    exchange.hang_handshakes(times=1)
    attempt = asyncio.create_task(connect(exchange).__aenter__())
    await exchange.until(lambda: exchange.handshakes)
    assert exchange.handshakes[0].status == 0
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 1013])
async def test_it_closes_with_a_given_code(exchange: FakeBinance, code: int) -> None:
    async with connect(exchange) as client:
        exchange.close_all(code, "because")
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, "because")


@pytest.mark.parametrize("how", ["abort", "1006", "mid_frame"])
async def test_a_reset_reaches_the_client_without_a_close_frame(exchange: FakeBinance, how: str) -> None:
    async with connect(exchange) as client:
        (connection,) = exchange.connections
        acts: dict[str, Callable[[], None]] = {
            "abort": connection.abort,
            "1006": lambda: connection.close(1006),
            "mid_frame": connection.reset_mid_frame,
        }
        acts[how]()
        with pytest.raises(ConnectionClosedError) as closed:
            await client.recv()
        assert closed.value.rcvd is None
        assert isinstance(closed.value.__cause__, ConnectionResetError)


async def test_the_whole_exchange_goes_down_and_comes_back_on_its_port(
    exchange: FakeBinance, http: aiohttp.ClientSession
) -> None:
    async with connect(exchange, KLINES) as client:
        await exchange.kill()
        with pytest.raises(ConnectionClosedError):
            await client.recv()
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await connect(exchange)
    with pytest.raises(aiohttp.ClientConnectorError):
        await get(http, exchange, "ping")
    exchange.advance(180)

    await exchange.revive()
    async with connect(exchange, KLINES) as client:
        exchange.advance(2)
        assert len(await klines_so_far(client)) == 1
    _, rows = await get(http, exchange, "klines", symbol="BTCUSDT", interval="1m", limit="4")
    assert isinstance(rows, list)
    assert [row[0] for row in rows] == [START_MS + n * MINUTE_MS for n in range(4)]


async def test_it_can_go_down_and_come_back_many_times(exchange: FakeBinance) -> None:
    for _ in range(5):
        async with connect(exchange):
            await exchange.kill()
        await exchange.revive()


async def test_a_stall_of_data_still_answers_pings(exchange: FakeBinance) -> None:
    async with connect(exchange, KLINES) as client:
        exchange.stall = Stall.DATA
        exchange.advance(60)
        await asyncio.wait_for(await client.ping(), 30)
        assert await events_so_far(client) == []
        exchange.stall = Stall.NONE
        exchange.advance(2)
        assert len(await events_so_far(client)) == 1


async def test_a_full_stall_sends_nothing(exchange: FakeBinance) -> None:
    async with connect(exchange, KLINES) as client:
        (connection,) = exchange.connections
        connection.stall = Stall.ALL
        pong = asyncio.ensure_future(await client.ping())
        await exchange.until(lambda: connection.pings)
        exchange.advance(60)
        assert not pong.done()
        connection.stall = Stall.NONE
        exchange.advance(2)
        assert len(await events_so_far(client)) == 1


async def test_a_shutdown_is_announced_as_each_connection_reads(exchange: FakeBinance) -> None:
    async with connect(exchange) as combined, connect(exchange, path="/ws") as raw:
        exchange.announce_shutdown()
        event = {"e": "serverShutdown", "E": exchange.now_ms}
        assert orjson.loads(await raw.recv()) == event
        assert orjson.loads(await combined.recv()) == {"stream": "!serverShutdown", "data": event}


# Subscriptions and frames that fail


@pytest.mark.parametrize(
    ("fault", "acked", "data"),
    [
        (SubscribeFault.SWALLOW, False, False),
        (SubscribeFault.NO_ACK, False, True),
        (SubscribeFault.PRETEND, True, False),
        (SubscribeFault.DENY, True, False),
    ],
)
async def test_a_subscribe_can_fail(exchange: FakeBinance, fault: SubscribeFault, acked: bool, data: bool) -> None:
    async with connect(exchange) as client:
        (connection,) = exchange.connections
        exchange.break_subscribe(fault)
        await ask(client, "SUBSCRIBE", [KLINES])
        await exchange.until(lambda: connection.controls)
        exchange.advance(2)
        frames = [orjson.loads(frame) for frame in await raw_until_fence(client)]
    assert any(frame.get("id") == 1 for frame in frames) is acked
    assert any("code" in frame for frame in frames) is (fault is SubscribeFault.DENY)
    assert any("stream" in frame for frame in frames) is data


async def test_one_symbol_can_be_silent_while_others_stream(exchange: FakeBinance) -> None:
    async with connect(exchange, KLINES, "ethusdt@kline_1m", "!miniTicker@arr") as client:
        with exchange.tamper(silence("BTCUSDT")):
            exchange.advance(2)
        text = b"".join(await raw_until_fence(client))
        assert b"BTCUSDT" not in text
        assert b"ETHUSDT" in text
        exchange.advance(2)
        assert b"BTCUSDT" in b"".join(await raw_until_fence(client))


async def test_closing_frames_can_be_withheld_from_one_connection(exchange: FakeBinance) -> None:
    async with connect(exchange, KLINES) as deprived, connect(exchange, KLINES) as other:
        exchange.connections[0].tamper(withhold_closes)
        exchange.advance(62)
        assert [kline["x"] for kline in await klines_so_far(other)].count(True) == 1
        klines = await klines_so_far(deprived)
        assert [kline["x"] for kline in klines].count(True) == 0
        assert klines[-1]["t"] == START_MS + MINUTE_MS


async def test_frames_can_be_duplicated_and_reordered_at_the_same_time(exchange: FakeBinance) -> None:
    exchange.advance(58)
    async with connect(exchange, KLINES) as client:
        exchange.tamper(Swap())
        exchange.tamper(duplicate)
        exchange.tamper(reverse)
        exchange.advance(4)
        klines = await klines_so_far(client)
        assert [(kline["x"], kline["t"]) for kline in klines] == [
            (True, START_MS),
            (True, START_MS),
            (False, START_MS + MINUTE_MS),
            (False, START_MS + MINUTE_MS),
        ]
        exchange.heal()
        exchange.advance(2)
        assert len(await klines_so_far(client)) == 1


async def test_two_batches_can_be_swapped(exchange: FakeBinance) -> None:
    exchange.advance(58)
    async with connect(exchange, KLINES) as client:
        exchange.tamper(Swap())
        exchange.advance(4)
        assert [kline["x"] for kline in await klines_so_far(client)] == [False, True]


@pytest.mark.parametrize("kind", [kind for kind in Spoil if kind not in (Spoil.BAD_UTF8, Spoil.TOO_BIG)])
async def test_one_frame_can_be_bad_and_the_next_is_good(exchange: FakeBinance, kind: Spoil) -> None:
    async with connect(exchange, KLINES, "!miniTicker@arr", "btcusdt@aggTrade") as client:
        exchange.spoil(kind, KLINES)
        exchange.advance(4)
        frames = await raw_until_fence(client)
    marks = {
        Spoil.BAD_JSON: b"",
        Spoil.HTML: b"<html>",
        Spoil.EMPTY: b"",
        Spoil.NAN_TEXT: b'"c":"NaN"',
        Spoil.NAN_LITERAL: b'"c":NaN',
        Spoil.NEGATIVE: b'"c":"-1.00000000"',
        Spoil.HUGE: b'"c":"1e400"',
        Spoil.MISSING_FIELD: KLINES.encode(),
        Spoil.WRONG_TYPE: b'"c":[1,2]',
        Spoil.NULL: b'"c":null',
        Spoil.UNKNOWN_EVENT: b'"e":"somethingNew"',
    }
    good = [frame for frame in frames if well_formed(frame)]
    assert len(frames) - len(good) == 1
    (bad,) = (frame for frame in frames if not well_formed(frame))
    assert marks[kind] in bad


def well_formed(frame: bytes) -> bool:
    """Whether a combined frame has what Binance documents, as far as `Spoil` breaks it."""
    try:
        event = orjson.loads(frame)["data"]
    except orjson.JSONDecodeError:
        return False
    row = event[0] if isinstance(event, list) else event
    fields = row.get("k", row)
    price = fields.get("c", fields.get("p"))
    return (
        isinstance(price, str)
        and price.replace(".", "").isdigit()
        and row["e"] in ("kline", "24hrMiniTicker", "aggTrade")
    )


@pytest.mark.parametrize(("kind", "code"), [(Spoil.BAD_UTF8, 1007), (Spoil.TOO_BIG, 1009)])
async def test_a_frame_can_break_the_protocol(exchange: FakeBinance, kind: Spoil, code: int) -> None:
    async with connect(exchange, KLINES) as client:
        exchange.spoil(kind)
        exchange.advance(2)
        with pytest.raises(ConnectionClosedError) as closed:
            await client.recv()
        assert closed.value.sent is not None
        assert closed.value.sent.code == code


async def test_anything_can_be_injected(exchange: FakeBinance) -> None:
    async with connect(exchange, KLINES) as client, connect(exchange, path=f"/ws/{KLINES}") as raw:
        exchange.inject("hello")
        exchange.inject_event(KLINES, {"e": "kline", "odd": 1})
        assert await raw_until_fence(raw) == [b"hello", b'{"e":"kline","odd":1}']
        assert (await raw_until_fence(client))[1].startswith(b'{"stream":"btcusdt@kline_1m","data":{"e"')


async def test_a_closed_candle_can_be_corrected_late(exchange: FakeBinance, http: aiohttp.ClientSession) -> None:
    exchange.advance(120)
    async with connect(exchange, KLINES) as client:
        corrected = exchange.correct("BTCUSDT", "1m", START_MS, close="1.5")
        (kline,) = await klines_so_far(client)
    assert (kline["t"], kline["c"], kline["x"]) == (START_MS, "1.50000000", True)
    _, rows = await get(http, exchange, "klines", symbol="BTCUSDT", interval="1m", startTime=str(START_MS))
    assert rows[0] == corrected.row()  # type: ignore[index]


async def test_a_flood_arrives_completely(exchange: FakeBinance) -> None:
    async with connect(exchange, "!miniTicker@arr") as client:
        exchange.flood("!miniTicker@arr", 2_000)
        assert len(await raw_until_fence(client)) == 2_000


# REST that fails


async def test_the_exchange_can_have_a_hole_of_its_own(exchange: FakeBinance, http: aiohttp.ClientSession) -> None:
    exchange.lose_candles("BTCUSDT", START_MS - 3 * MINUTE_MS, START_MS - MINUTE_MS)
    _, rows = await get(http, exchange, "klines", symbol="BTCUSDT", interval="1m", limit="3")
    assert [row[0] for row in rows] == [START_MS + n * MINUTE_MS for n in (-4, -1, 0)]  # type: ignore[attr-defined]


async def test_a_path_can_fail_for_a_number_of_requests(exchange: FakeBinance, http: aiohttp.ClientSession) -> None:
    refusal = {"code": -1003, "msg": "Too much request weight used"}
    exchange.break_rest("klines", RestFault(status=429, headers={"Retry-After": "7"}, body=refusal), times=2)
    seen = [await get(http, exchange, "klines", symbol="BTCUSDT", interval="1m", limit="1") for _ in range(3)]
    assert [status for status, _ in seen] == [429, 429, 200]
    assert seen[0][1] == refusal
    assert (await get(http, exchange, "ping"))[0] == 200


async def test_a_true_body_can_be_changed(exchange: FakeBinance, http: aiohttp.ClientSession) -> None:
    def without_close_times(rows: object) -> object:
        return [row[:6] for row in rows] if isinstance(rows, list) else rows

    with exchange.break_rest("*", RestFault(change=without_close_times)):
        _, rows = await get(http, exchange, "klines", symbol="BTCUSDT", interval="1m")
    assert {len(row) for row in rows} == {6}  # type: ignore[attr-defined]


async def test_a_body_can_be_replaced_by_anything(exchange: FakeBinance, http: aiohttp.ClientSession) -> None:
    html = RestFault(body="<html>", headers={"Content-Type": "text/html"})
    for fault, body in ((html, b"<html>"), (RestFault(body=b""), b""), (RestFault(body="[1,"), b"[1,")):
        exchange.break_rest("ping", fault, times=1)
        async with http.get(f"{exchange.rest_url}/api/v3/ping") as response:
            assert response.status == 200
            assert await response.read() == body


@pytest.mark.parametrize("reset", [False, True])
async def test_a_body_can_be_cut(exchange: FakeBinance, http: aiohttp.ClientSession, reset: bool) -> None:
    exchange.break_rest("exchangeInfo", RestFault(cut_at=100, reset=reset))
    with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientOSError)):
        await get(http, exchange, "exchangeInfo")


@pytest.mark.parametrize("hang", [Hang.BEFORE_HEAD, Hang.AFTER_HEAD, Hang.IN_BODY])
async def test_a_reply_can_hang(exchange: FakeBinance, http: aiohttp.ClientSession, hang: Hang) -> None:
    exchange.break_rest("time", RestFault(hang=hang), times=1)
    request = asyncio.create_task(get(http, exchange, "time"))
    await exchange.until(lambda: exchange.requests_to("time"))
    assert exchange.requests[0].status == (0 if hang is Hang.BEFORE_HEAD else 200)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert (await get(http, exchange, "time"))[0] == 200


async def test_a_reply_can_be_late_and_slow(exchange: FakeBinance, http: aiohttp.ClientSession) -> None:
    exchange.break_rest("time", RestFault(delay_s=0.05, drip_s=0.002))
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    status, body = await get(http, exchange, "time")
    assert (status, body) == (200, {"serverTime": exchange.now_ms})
    assert loop.time() - started_s >= 0.05 + 28 * 0.002


# The tool itself


async def test_a_wait_that_times_out_reports_what_the_exchange_received(exchange: FakeBinance) -> None:
    with pytest.raises(TimeoutError, match=r"0 handshakes .* 0 open connections"):
        await exchange.until(lambda: exchange.connections, timeout_s=0.01)


async def test_it_runs_by_itself_in_real_time(exchange: FakeBinance) -> None:
    async with connect(exchange, KLINES) as client:
        running = asyncio.create_task(exchange.run(speed=200))
        await exchange.until(lambda: exchange.now_ms >= START_MS + 62_000)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert [kline["x"] for kline in await klines_so_far(client)].count(True) == 1


async def test_a_disconnected_client_is_forgotten(exchange: FakeBinance) -> None:
    async with connect(exchange, KLINES):
        assert exchange.streams == {KLINES}
    await exchange.until(lambda: not exchange.streams)
    assert exchange.connections == []
    assert list(exchange.all_connections[0].streams) == [KLINES]
    exchange.advance(2)


async def test_several_exchanges_run_side_by_side() -> None:
    pairs = [Pair("AAABBB", "AAA", "BBB", "1.5")]
    async with FakeBinance(pairs) as one, FakeBinance() as two:
        assert one.port != two.port
        assert len(one.market.instruments) == 1


def test_the_fake_works_on_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def journey() -> None:
        async with FakeBinance() as exchange, aiohttp.ClientSession() as http:
            async with connect(exchange, KLINES) as client:
                exchange.advance(2)
                assert len(await klines_so_far(client)) == 1
                exchange.connections[0].reset_mid_frame()
                with pytest.raises(ConnectionClosedError) as closed:
                    await client.recv()
                assert isinstance(closed.value.__cause__, ConnectionResetError)
            assert (await get(http, exchange, "ping"))[0] == 200
            for _ in range(3):
                await exchange.kill()
                await exchange.revive()
            async with connect(exchange, KLINES) as client:
                exchange.advance(2)
                assert len(await klines_so_far(client)) == 1

    uvloop.run(journey())

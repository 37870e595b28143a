"""Tests of upstream faults as clients see them: they stay connected and get every candle once."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

import orjson
import pytest

from tests.clients import Message, WebSocketClient, last_ts, seq_of, serving, sse, updates, websocket
from tests.fakes.binance import FakeBinance, Frame, Spoil, Swap, duplicate, reverse, synthetic_pairs
from tests.fakes.binance_faults import Tamper
from tests.fakes.binance_market import MINUTE_MS
from tests.harness import Running, running, until

KLINES = "btcusdt@kline_1m"


@pytest.fixture
async def exchange() -> AsyncIterator[FakeBinance]:
    async with FakeBinance() as running_exchange:
        yield running_exchange


def closed_in(messages: list[Message], topic: str = "ohlcv.BTC.1m") -> list[tuple[int, float, float, int]]:
    """Return the closed candles among messages."""
    return [
        (data["open_time"], data["close"], data["volume"], data["trades"])
        for data in (message["data"] for message in updates(messages, topic))
        if data["state"] == "closed"
    ]


def truth_of(exchange: FakeBinance, first_ms: int, symbol: str = "BTCUSDT") -> list[tuple[int, float, float, int]]:
    """Return the exchange's candles that have closed since."""
    candles = exchange.candles(symbol, "1m", start_ms=first_ms)
    return [(each.open_ms, float(each.close), float(each.volume), each.trades) for each in candles if each.closed]


async def received_until_closed(client: WebSocketClient, exchange: FakeBinance) -> list[Message]:
    """Return every message up to the newest candle that has closed."""
    newest = exchange.candles("BTCUSDT", "1m")[-2].open_ms
    received: list[Message] = []
    while not any(open_time == newest for open_time, *_ in closed_in(received)):
        received.append(await client.next())
    return received


# --- many symbols


async def test_each_update_of_400_symbols_arrives_once_and_in_order(tmp_path: Path) -> None:
    async with (
        FakeBinance(synthetic_pairs(400)) as exchange,
        serving(exchange, tmp_path) as service,
    ):
        bases = {pair.symbol: pair.base for pair in synthetic_pairs(400) if pair.quote == "USDT"}
        sent: dict[str, list[int]] = {base: [] for base in bases.values()}
        _record_tickers(exchange, sent, bases)
        async with websocket(service, "topics=price.*") as client:
            await client.until("synced")
            for times in sent.values():
                times.clear()
            received: list[Message] = []
            for _ in range(180):
                exchange.advance(1)
                received += await client.until("update", topic="price.BTC", ts=exchange.now_ms)
            # A long frame is published in slices, of which the one with BTC is the first.
            while len(received) < sum(len(times) for times in sent.values()):
                received.append(await client.next())

    got: dict[str, list[int]] = {base: [] for base in sent}
    for message in received:
        got[message["data"]["symbol"]].append(message["ts"])
    assert {message["type"] for message in received} == {"update"}
    assert got == sent
    ids = [seq_of(message) for message in received]
    assert all(later > earlier for earlier, later in itertools.pairwise(ids))
    assert len(received) > 20_000


def _record_tickers(exchange: FakeBinance, sent: dict[str, list[int]], bases: dict[str, str]) -> None:
    """Record the event time of every ticker that the exchange sends."""

    def look(frames: Sequence[Frame]) -> Iterable[Frame]:
        for frame in frames:
            if frame.stream == "!miniTicker@arr":
                for row in orjson.loads(frame.payload):
                    if row["s"] in bases:
                        sent[bases[row["s"]]].append(row["E"])
        return frames

    exchange.tamper(look)


# --- outages of the exchange


async def test_after_an_outage_of_the_exchange_candles_are_complete_and_all_clients_still_connected(
    exchange: FakeBinance, tmp_path: Path
) -> None:
    first = exchange.now_ms
    async with (
        serving(exchange, tmp_path, SNAPSHOT_TTL_S="1") as service,
        websocket(service, "topics=ohlcv.BTC.1m,price.BTC") as client,
        sse(service, "topics=ohlcv.BTC.1m") as events,
    ):
        await client.until("synced")
        await events.until("synced")
        exchange.advance(130)
        received = await received_until_closed(client, exchange)

        await exchange.kill()
        received += await client.until("stale", topic="price.BTC")
        exchange.advance(10 * 60)
        await exchange.revive()
        await exchange.until(lambda: exchange.subscribed(KLINES))
        received += await received_until_closed(client, exchange)
        exchange.advance(65)
        received += await received_until_closed(client, exchange)
        received += await client.so_far()
        from_sse = [each.json for each in await events.until("update", id=_newest_closed_id(received))]

    kinds = [(message["type"], message.get("topic")) for message in received]
    for topic in ("price.BTC", "ohlcv.BTC.1m"):
        assert kinds.index(("stale", topic)) < kinds.index(("fresh", topic))
    assert "gap" not in {kind for kind, _ in kinds}
    assert "goodbye" not in {kind for kind, _ in kinds}
    truth = truth_of(exchange, first)
    assert len(truth) >= 13
    assert closed_in(received) == truth
    assert closed_in(from_sse) == truth


def _newest_closed_id(received: list[Message]) -> object:
    return next(message["id"] for message in reversed(updates(received, "ohlcv.BTC.1m")) if message["data"]["closed"])


async def test_a_client_that_subscribes_while_the_exchange_is_down_gets_the_old_value_and_its_stale(
    exchange: FakeBinance, tmp_path: Path
) -> None:
    async with serving(exchange, tmp_path, SNAPSHOT_TTL_S="1") as service:
        await exchange.kill()
        await until(lambda: service.context.hub.topics["price.BTC"].stale)
        async with websocket(service, "topics=price.BTC") as client:
            _, _, update, stale, _ = await client.until("synced")
    assert (update["topic"], stale["topic"]) == ("price.BTC", "price.BTC")
    assert (update["type"], stale["type"]) == ("update", "stale")
    assert stale["age_ms"] >= 1000


async def test_a_client_that_was_disconnected_during_an_outage_resumes_without_a_hole(
    exchange: FakeBinance, tmp_path: Path
) -> None:
    async with serving(exchange, tmp_path) as service:
        async with websocket(service, "topics=ohlcv.BTC.1m") as client:
            position = (await client.one("synced"))["id"]
        first = exchange.now_ms // MINUTE_MS * MINUTE_MS
        await exchange.kill()
        exchange.advance(5 * 60)
        await exchange.revive()
        await exchange.until(lambda: exchange.subscribed(KLINES))
        newest = exchange.candles("BTCUSDT", "1m")[-2].open_ms
        series = service.context.exchange.series["BTCUSDT", "1m"]
        await until(lambda: series.closed[-1].open_time == newest)
        async with websocket(service, f"topics=ohlcv.BTC.1m&since={position}") as client:
            received = await client.until("synced")
    assert received[1]["resumed"] is True
    assert closed_in(received) == truth_of(exchange, first)


async def test_a_hole_of_the_exchange_itself_is_a_gap_and_no_candle_is_invented(
    exchange: FakeBinance, tmp_path: Path
) -> None:
    async with serving(exchange, tmp_path) as service, websocket(service, "topics=ohlcv.BTC.1m") as client:
        await client.until("synced")
        first = exchange.now_ms // MINUTE_MS * MINUTE_MS
        await exchange.kill()
        exchange.advance(10 * 60)
        exchange.lose_candles("BTCUSDT", first + 3 * MINUTE_MS, first + 5 * MINUTE_MS)
        await exchange.revive()
        received = await received_until_closed(client, exchange)
    gaps = [message for message in received if message["type"] == "gap"]
    assert [(gap["reason"], gap["from"], gap["to"]) for gap in gaps] == [
        ("upstream", first + 3 * MINUTE_MS, first + 5 * MINUTE_MS)
    ]
    opened = [open_time for open_time, *_ in closed_in(received)]
    assert opened == [first + n * MINUTE_MS for n in range(10) if n not in (3, 4)]


@pytest.mark.parametrize("how", ["abort", "close 1001", "serverShutdown", "close 1008"])
async def test_a_lost_connection_is_replaced_without_a_hole(exchange: FakeBinance, tmp_path: Path, how: str) -> None:
    async with serving(exchange, tmp_path) as service, websocket(service, "topics=ohlcv.BTC.1m") as client:
        await client.until("synced")
        first = exchange.now_ms // MINUTE_MS * MINUTE_MS
        made = len(exchange.all_connections)
        match how:
            case "abort":
                exchange.abort_all()
            case "serverShutdown":
                exchange.announce_shutdown()
            case _:
                exchange.close_all(int(how.split()[1]))
        exchange.advance(125)
        await exchange.until(lambda: len(exchange.all_connections) > made and exchange.subscribed(KLINES))
        exchange.advance(60)
        received = await received_until_closed(client, exchange)
    assert closed_in(received) == truth_of(exchange, first)


async def test_an_open_but_silent_connection_makes_its_topics_stale(exchange: FakeBinance, tmp_path: Path) -> None:
    async with (
        serving(exchange, tmp_path, SNAPSHOT_TTL_S="1") as service,
        websocket(service, "topics=price.BTC") as client,
    ):
        await client.until("synced")
        stale = await client.one("stale")
        exchange.advance(1)
        update, fresh = await client.until("fresh")
    assert (stale["topic"], stale["reason"]) == ("price.BTC", "no_update")
    assert (update["topic"], fresh["topic"]) == ("price.BTC", "price.BTC")


@pytest.mark.parametrize("tamper", ["doubled", "reversed", "swapped"])
async def test_doubled_and_disordered_frames_give_each_closed_candle_once_and_in_order(
    exchange: FakeBinance, tmp_path: Path, tamper: str
) -> None:
    async with (
        serving(exchange, tmp_path) as service,
        websocket(service, "topics=ohlcv.BTC.1m,price.BTC") as client,
    ):
        await client.until("synced")
        first = exchange.now_ms // MINUTE_MS * MINUTE_MS
        tampers: dict[str, Tamper] = {"doubled": duplicate, "reversed": reverse, "swapped": Swap()}
        exchange.tamper(tampers[tamper])
        exchange.advance(242)
        received = await received_until_closed(client, exchange)
        received += await client.so_far()
    assert closed_in(received) == truth_of(exchange, first)
    stamps = [message["ts"] for message in updates(received, "price.BTC")]
    assert stamps == sorted(set(stamps))


# --- malformed frames


@pytest.mark.parametrize("stream", ["!miniTicker@arr", KLINES])
@pytest.mark.parametrize("kind", [kind for kind in Spoil if kind is not Spoil.TOO_BIG])
async def test_a_bad_frame_loses_only_itself(exchange: FakeBinance, tmp_path: Path, kind: Spoil, stream: str) -> None:
    async with serving(exchange, tmp_path) as service, websocket(service, "topics=price.*,ohlcv.BTC.1m") as client:
        await client.until("synced")
        made = len(exchange.all_connections)
        exchange.spoil(kind, stream)
        exchange.advance(3)
        received = await client.until("update", topic="price.BTC", ts=exchange.now_ms)
        exchange.advance(2)
        received += await client.until("update", topic="price.BTC", ts=exchange.now_ms)
        report = service.context.supervisor.feeds[0].report()
        prices = [message["data"]["price"] for message in updates(received) if "price" in message["data"]]
        assert len(exchange.all_connections) == made, "the connection stays open"
    assert all(isinstance(price, float) and price > 0 for price in prices)
    assert {message["type"] for message in received} == {"update"}
    # A damaged text is read with the damage replaced; an unknown event is ignored.
    assert report["rejected"] or kind in (Spoil.UNKNOWN_EVENT, Spoil.BAD_UTF8)


async def test_the_service_survives_a_frame_of_megabytes(exchange: FakeBinance, tmp_path: Path) -> None:
    async with serving(exchange, tmp_path) as service, websocket(service, "topics=price.BTC") as client:
        await client.until("synced")
        exchange.spoil(Spoil.TOO_BIG)
        exchange.advance(1)
        await exchange.until(lambda: exchange.subscribed(KLINES))
        exchange.advance(2)
        await client.one("update", topic="price.BTC", ts=exchange.now_ms)


@pytest.mark.parametrize("text", ["", "null", "0", "[]", "{}", '{"stream":5,"data":7}', '{"data":{}}', "[" * 5000])
async def test_the_service_survives_frames_of_any_shape(exchange: FakeBinance, tmp_path: Path, text: str) -> None:
    async with serving(exchange, tmp_path) as service:
        made = len(exchange.all_connections)
        exchange.inject(text)
        exchange.advance(1)
        await until(lambda: last_ts(service, "price.BTC") == exchange.now_ms)
        assert len(exchange.all_connections) == made


# --- refusals of the exchange


@pytest.mark.parametrize("status", [451, 403, 418, 429, 500])
async def test_when_the_exchange_refuses_handshakes_clients_get_prices_polled_by_rest(
    exchange: FakeBinance, tmp_path: Path, status: int
) -> None:
    exchange.refuse_handshakes(status)
    async with running(exchange, tmp_path) as service, websocket(service, "topics=price.BTC") as client:
        price = await client.one("update", topic="price.BTC")
        await until(lambda: service.context.supervisor.feeds[0].report()["last_error"])
        report = service.context.supervisor.feeds[0].report()
    assert price["data"]["price"] == float(exchange.price("BTCUSDT"))
    assert str(exchange.port) in str(report["last_error"])


async def test_clients_that_come_and_go_leave_nothing_behind(exchange: FakeBinance, tmp_path: Path) -> None:
    async with serving(exchange, tmp_path) as service:

        async def visit(number: int) -> None:
            async with websocket(service, f"topics=price.*,ohlcv.BTC.1m&interval_ms={number % 3 * 100}") as client:
                await client.until("synced")
                await client.one("update")

        visits = [asyncio.create_task(visit(number)) for number in range(40)]
        while not all(task.done() for task in visits):
            exchange.advance(1)
            await asyncio.sleep(0.01)
        await asyncio.gather(*visits)
        hub = service.context.hub
        await until(lambda: not service.context.clients.connected)
        _assert_empty(service)
        assert not hub.lagging


def _assert_empty(service: Running) -> None:
    hub = service.context.hub
    assert not hub.members.by_outbox
    assert not hub.groups.by_key
    assert not hub.interest.counts

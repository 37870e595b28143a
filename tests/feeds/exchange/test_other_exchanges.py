"""Exchanges that differ from the one we follow: what a description may say, tried on the fake exchange."""

from collections.abc import Sequence
from dataclasses import replace

import orjson

from feeds.exchange.venue import Ack, Act, Address, Command, FrameReader, Opened, Shutdown
from feeds.venues.binance import streams
from feeds.venues.binance.description import BINANCE
from feeds.venues.binance.streams import ALL_MINI_TICKERS, kline_stream
from tests.fakes.binance import FakeBinance, Frame, Limits, Stall
from tests.feeding import limits, live, with_rules
from tests.feeds.exchange.test_stream_socket import world
from tests.harness import until
from tests.lab import lab

MINUTE_MS = 60_000
KLINES = [kline_stream(symbol, "1m") for symbol in ("BTCUSDT", "ETHUSDT", "BNBUSDT")]


def without_streams(base_url: str, wanted: object) -> Address:
    """The address of an exchange that is asked for streams by messages alone."""
    return Address(streams.address(base_url, []).url.removesuffix("?streams="), frozenset())


def one_each(act: Act, wanted: list[str], number: int) -> Command:
    """The message of an exchange that takes one stream a message."""
    return streams.command(act, wanted[:1], number)


async def test_streams_are_subscribed_by_messages_alone_one_a_message() -> None:
    async with FakeBinance(limits=Limits(time_scale=1e-6)) as exchange, world(exchange) as it:
        it.venue = with_rules({"address": without_streams, "command": one_each})
        socket = it.socket(*KLINES)
        await it.until(lambda: set(KLINES) <= it.confirmed.keys())
        socket.drop(KLINES[0])
        await it.until(lambda: exchange.streams == set(KLINES[1:]))
        asked = [(each.request["method"], each.request["params"]) for each in exchange.connections[0].controls]
        assert asked == [
            *(("SUBSCRIBE", [stream]) for stream in sorted(KLINES)),
            ("UNSUBSCRIBE", [KLINES[0]]),
        ]


async def test_an_exchange_may_answer_for_single_streams() -> None:
    def control_of(opened: Opened) -> Ack | Shutdown | None:
        control = BINANCE.frames.control_of(opened)
        if isinstance(control, Ack) and control.request_id == 1:
            return replace(control, streams=frozenset(KLINES[:2]))
        return control

    async with FakeBinance(limits=Limits(time_scale=1e-6)) as exchange, world(exchange) as it:
        frames: FrameReader = replace(BINANCE.frames, control_of=control_of)
        it.venue = replace(with_rules({"address": without_streams}), frames=frames)
        socket = it.socket(*KLINES)
        await it.until(lambda: set(KLINES[:2]) <= it.confirmed.keys())
        assert KLINES[2] not in it.confirmed, "this one is not answered yet"
        assert socket.report.last_error is None
        await it.until(lambda: KLINES[2] in it.confirmed, most_s=60.0)
        assert [it.confirmed[stream] for stream in KLINES] == [1, 1, 1]


async def test_a_silent_exchange_is_asked_by_a_message_of_its_own() -> None:
    message = orjson.dumps({"method": "LIST_SUBSCRIPTIONS", "id": 77})
    async with FakeBinance(limits=Limits(time_scale=1e-6)) as exchange, world(exchange) as it:
        it.venue = with_rules({"idle_message": message})
        socket = it.socket(ALL_MINI_TICKERS)
        await it.until(lambda: it.confirmed[ALL_MINI_TICKERS])
        await it.pass_time(60.0)
        assert socket.report.connects == 1, "it answers, so that it lives"
        asked = [each.request["method"] for each in exchange.connections[0].controls]
        assert asked.count("LIST_SUBSCRIPTIONS") >= 5
        assert not exchange.connections[0].pings
        exchange.connections[0].stall = Stall.ALL
        await it.until(lambda: socket.report.connects == 2)
        assert "no sign of life" in (socket.report.last_error or "")


async def test_candles_that_no_stream_brings_come_by_rest() -> None:
    async with (
        FakeBinance(limits=limits()) as exchange,
        live(exchange, candle_stream=lambda symbol, interval: None) as it,
    ):
        await until(lambda: it.market.series and all(series.reached_back for series in it.market.series.values()))
        assert exchange.streams == {ALL_MINI_TICKERS}
        exchange.advance(60)
        await until(lambda: it.sink.opens("ohlcv.BTC.1m"))
        exchange.advance(120)
        await until(lambda: len(it.sink.opens("ohlcv.BTC.1m")) >= 3)
        opens = it.sink.opens("ohlcv.BTC.1m")
        assert opens == [opens[0] + minute * MINUTE_MS for minute in range(len(opens))]
        assert it.sink.gaps == []
        assert {event.source for event in it.sink.events} == {"binance"}


async def test_prices_come_by_one_stream_a_pair_where_no_stream_has_them_all() -> None:
    async with lab(all_tickers=None) as it:
        symbols = it.it.market.symbols
        tickers = {f"{symbol.lower()}@miniTicker" for symbol in symbols.by_symbol}
        assert it.exchange.streams == {*tickers, KLINES[0]}
        before = len(it.it.sink.of("price.ETH"))
        await it.pass_time(5.0)
        assert len(it.it.sink.of("price.ETH")) >= before + 4
        assert it.it.feed.report()["state"] == "live"

        def silent(frames: Sequence[Frame]) -> list[Frame]:
            return [frame for frame in frames if frame.stream != "ethusdt@miniTicker"]

        with it.exchange.tamper(silent):
            await it.until(lambda: ["ethusdt@miniTicker"] in it.asked_anew, most_s=20.0)
        assert ["btcusdt@miniTicker"] not in it.asked_anew, "only the dead one is subscribed again"
        it.check()

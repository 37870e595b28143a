"""From what the exchange says to events."""

import logging
import math
import time
from dataclasses import replace

import orjson
import pytest

from feeds.exchange.candles import CandleState
from feeds.exchange.market import HALTED, ExchangeMarket, candle_data
from feeds.exchange.venue import Ack, Shutdown, Venue
from feeds.fields import Rows
from feeds.model import Event, Pair, Price
from feeds.symbols import Symbols
from feeds.venues.binance.description import BINANCE
from tests.feeding import BTC, ETH, RecordingSink, candle

START = 1_795_305_600_000
NEW = Pair("NEWUSDT", "NEW", "USDT")
KEY = ("BTCUSDT", "1m")
TOPIC = "ohlcv.BTC.1m"


class World:
    """A market that knows two pairs, what it published, and short ways to feed it."""

    def __init__(self, venue: Venue = BINANCE) -> None:
        self.sink = RecordingSink()
        self.market = ExchangeMarket(self.sink, Symbols(), venue)
        self.market.pairs([BTC, ETH])

    def say(self, message: object, received_ms: int = START) -> object:
        return self.take(orjson.dumps(message), received_ms)

    def take(self, raw: bytes, received_ms: int) -> object:
        return self.market.part(BINANCE.frames.open(raw, received_ms))

    def tick(self, price: float, ts: int, symbol: str = "BTCUSDT", **fields: object) -> None:
        self.say([ticker(price, ts, symbol) | fields], ts + 50)

    def poll(self, price: float, ts: int) -> None:
        self.market.tickers(Rows([Price("BTCUSDT", price, ts)]), ts + 100)

    def book(self, price: float, ts: int) -> None:
        book = {"u": 1, "s": "BTCUSDT", "b": str(price), "a": str(price), "E": ts}
        self.say({"stream": "btcusdt@bookTicker", "data": book}, ts + 50)

    def trade(self, price: float, ts: int) -> None:
        self.say({"e": "aggTrade", "E": ts, "s": "BTCUSDT", "p": str(price)}, ts + 50)

    def said(self) -> list[object]:
        """The BTC prices said, in order."""
        return [event.data["price"] for event in self.sink.of("price.BTC")]


def ticker(price: float, ts: int, symbol: str = "BTCUSDT") -> dict[str, object]:
    return {
        "e": "24hrMiniTicker", "E": ts, "s": symbol, "c": str(price), "o": "80.0", "h": "120.0", "l": "70.0",
        "v": "5.0", "q": "500.0",
    }  # fmt: skip


def kline(open_time: int, closed: bool, event_time: int, trades: int = 3, symbol: str = "BTCUSDT") -> dict[str, object]:
    k = {
        "t": open_time, "T": open_time + 59_999, "s": symbol, "i": "1m", "o": "100.0", "c": "101.0", "h": "102.0",
        "l": "99.0", "v": "2.5", "n": trades, "x": closed, "q": "251.0",
    }  # fmt: skip
    return {"e": "kline", "E": event_time, "s": symbol, "k": k}


# --- prices ---


def test_a_price_event_holds_exactly_the_fields_of_the_contract() -> None:
    world = World()
    world.tick(100.0, START)
    assert world.sink.events == [
        Event(
            topic="price.BTC",
            ts=START,
            received=START + 50,
            source="binance",
            data={
                "symbol": "BTC",
                "pair": "BTCUSDT",
                "quote": "USDT",
                "price": 100.0,
                "open_24h": 80.0,
                "high_24h": 120.0,
                "low_24h": 70.0,
                "change_24h_pct": 25.0,
                "volume_24h": 5.0,
                "quote_volume_24h": 500.0,
                "market_cap": None,
            },
            log=False,
        )
    ]


@pytest.mark.parametrize(("opened", "change"), [("80.0", 25.0), ("125.0", -20.0), ("0", None), ("1e-320", None)])
def test_the_change_is_in_percent_and_unknown_where_it_cannot_be_told(opened: str, change: float | None) -> None:
    world = World()
    world.tick(100.0, START, o=opened)
    assert world.sink.events[0].data["change_24h_pct"] == change


def test_a_trade_has_no_statistics_and_says_null_not_zero() -> None:
    world = World()
    world.trade(100.0, START)
    (event,) = world.sink.events
    assert event.source == "binance:trade"
    unknown = ("open_24h", "high_24h", "low_24h", "change_24h_pct", "volume_24h", "quote_volume_24h", "market_cap")
    assert all(event.data[name] is None for name in unknown)


def test_a_price_that_was_overtaken_is_not_said_and_one_said_twice_is_said_once() -> None:
    world = World()
    world.tick(100.0, START)
    world.tick(100.0, START)
    world.tick(102.0, START + 2000)
    world.tick(101.0, START + 1000)
    world.tick(103.0, START + 2000)
    assert world.said() == [100.0, 102.0, 103.0]


def test_the_same_price_at_a_later_time_is_news() -> None:
    world = World()
    world.tick(100.0, START)
    world.tick(100.0, START + 1000)
    assert world.said() == [100.0, 100.0]


def test_rest_speaks_first_and_the_stream_is_believed_over_it_whatever_its_stamp() -> None:
    world = World()
    world.poll(100.0, START)
    world.tick(101.0, START - 500)
    world.poll(102.0, START - 500)
    world.poll(103.0, START - 400)
    assert world.said() == [100.0, 101.0, 103.0], "REST after the stream only with what is later"


def test_polls_follow_each_other_in_time() -> None:
    world = World()
    world.poll(100.0, START)
    world.poll(99.0, START - 1)
    world.poll(101.0, START + 30_000)
    assert world.said() == [100.0, 101.0]


def test_a_better_kind_of_price_ends_the_lesser_ones() -> None:
    world = World()
    world.book(100.0, START)
    world.trade(101.0, START + 10)
    world.book(102.0, START + 20)
    world.tick(103.0, START + 30)
    world.trade(104.0, START + 40)
    assert world.said() == [100.0, 101.0, 103.0]
    assert [event.source for event in world.sink.events] == ["binance:book", "binance:trade", "binance"]


def test_a_new_connection_tells_its_own_time() -> None:
    world = World()
    world.tick(100.0, START)
    world.market.new_connection()
    world.tick(101.0, START - 3000)
    assert world.said() == [100.0, 101.0]


def test_an_event_that_rest_or_a_new_connection_brings_again_is_said_once() -> None:
    world = World()
    world.market.tickers(Rows([Price("BTCUSDT", 100.0, START, 80.0, 120.0, 70.0, 5.0, 500.0)]), START + 40)
    world.say([ticker(100.0, START)], START + 50)
    world.market.new_connection()
    world.say([ticker(100.0, START)], START + 60)
    assert world.said() == [100.0]

    world.tick(100.0, START + 1000)
    assert world.said() == [100.0, 100.0], "the same price a second later is news"


def test_a_stamp_from_the_far_future_does_not_silence_all_that_follow() -> None:
    world = World()
    world.say([ticker(100.0, START + 400 * 86_400_000)], START)
    world.tick(101.0, START + 1000)
    assert world.said() == [101.0]
    assert world.market.rejected == {"E": 1}

    world.market.follow(KEY)
    ahead = START + 400 * 86_400_000
    assert world.say(kline(ahead, False, ahead + 5), START) is None
    world.say(kline(START, False, START + 5), START + 60)
    assert world.sink.opens(TOPIC, "live") == [START]


def test_an_hour_between_two_clocks_is_no_reason_to_refuse() -> None:
    world = World()
    world.say([ticker(100.0, START + 3_600_000)], START)
    assert world.said() == [100.0]


def test_a_symbol_that_is_not_listed_is_noted_and_one_that_is_not_served_is_not() -> None:
    world = World()
    world.market.pairs([BTC, Pair("BTCEUR", "BTC", "EUR")])
    world.tick(1.0, START, symbol="NEWUSDT")
    world.tick(1.0, START, symbol="BTCEUR")
    assert world.market.misjudged == {"NEWUSDT"}
    assert world.market.dropped == {"unlisted": 1}
    assert world.sink.events == []

    world.market.pairs([BTC, NEW])
    assert world.market.misjudged == set()
    world.tick(2.0, START + 1000, symbol="NEWUSDT")
    assert [event.topic for event in world.sink.events] == ["price.NEW"]


def test_unlisted_symbols_cannot_fill_the_memory() -> None:
    world = World()
    world.say([ticker(1.0, START, f"X{number}USDT") for number in range(3000)])
    assert len(world.market.misjudged) == 1000
    assert world.market.dropped == {"unlisted": 3000}


def test_a_bad_row_costs_itself_and_is_counted_by_its_field(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            world.say([ticker(1.0, START) | {"c": "NaN"}, ticker(2.0, START, "ETHUSDT")])
            world.say("garbage")
            assert world.take(b"<html>", START) is None
    assert len(world.sink.of("price.ETH")) == 1
    assert world.sink.of("price.BTC") == []
    assert world.market.rejected == {"c": 3, "frame": 6}
    assert len(caplog.records) == 2, "only the first of its kind is logged, the counter has the rest"


def test_a_foreign_venue_is_named_in_the_source() -> None:
    world = World(replace(BINANCE, site="us"))
    world.market.follow(KEY).begin()
    world.market.price_from_candles = True
    world.book(100.0, START)
    world.say(kline(START, False, START + 5), START + 60)
    world.tick(101.0, START + 50)
    assert [event.source for event in world.sink.events] == [
        "binance:us.book", "binance:us.candle", "binance:us", "binance:us",
    ]  # fmt: skip


def test_acks_and_shutdowns_are_handed_back() -> None:
    world = World()
    assert world.say({"result": None, "id": 7}) == Ack(7, None)
    assert world.say({"e": "serverShutdown", "E": START}) == Shutdown()
    assert world.sink.events == []


# --- candles ---


def test_a_candle_event_holds_exactly_the_fields_of_the_contract() -> None:
    world = World()
    world.market.follow(KEY).begin()
    world.say(kline(START, False, START + 5000), START + 5060)
    world.say(kline(START, True, START + 60_004, trades=4), START + 60_070)
    live, closed = world.sink.events
    assert live == Event(
        topic=TOPIC,
        ts=START + 5000,
        received=START + 5060,
        source="binance",
        data={
            "symbol": "BTC",
            "pair": "BTCUSDT",
            "quote": "USDT",
            "interval": "1m",
            "open_time": START,
            "close_time": START + 59_999,
            "open": 100.0,
            "high": 102.0,
            "low": 99.0,
            "close": 101.0,
            "volume": 2.5,
            "quote_volume": 251.0,
            "trades": 3,
            "closed": False,
            "state": "live",
        },
        log=False,
    )
    assert (closed.log, closed.data["state"], closed.data["closed"]) == (True, "closed", True)


def test_a_correction_is_a_log_event_of_its_own() -> None:
    world = World()
    world.market.follow(KEY).begin()
    world.say(kline(START, True, START + 60_004, trades=4))
    world.say(kline(START, True, START + 70_000, trades=5))
    assert [(event.data["state"], event.log) for event in world.sink.events] == [("closed", True), ("corrected", True)]


def test_candles_that_nobody_follows_say_nothing() -> None:
    world = World()
    world.say(kline(START, False, START + 5))
    world.market.follow(KEY)
    world.market.unfollow(KEY)
    world.say(kline(START, False, START + 6))
    world.market.candles(KEY, Rows([candle(START)]), None, START)
    assert world.sink.events == []


def test_a_hole_of_the_exchange_is_told_as_a_gap_of_the_topic() -> None:
    world = World()
    world.market.follow(KEY)
    world.market.candles(KEY, Rows([candle(START), candle(START + 60_000)]), None, START)
    world.say(kline(START + 240_000, True, START + 300_000))
    world.market.candles(KEY, Rows([candle(START + 240_000), candle(START + 300_000)]), START + 60_000, START + 300_100)
    assert world.sink.gaps == [(TOPIC, START + 60_000, START + 240_000)]


def test_history_is_read_as_clients_see_it_in_events() -> None:
    data = candle_data(candle(START), BTC, CandleState.CLOSED)
    assert list(data) == [
        "symbol", "pair", "quote", "interval", "open_time", "close_time", "open", "high", "low", "close", "volume",
        "quote_volume", "trades", "closed", "state",
    ]  # fmt: skip


def test_nothing_that_is_said_is_ever_infinite() -> None:
    world = World()
    world.tick(1e18, START, o="1e-300", q="1e18")
    (event,) = world.sink.events
    assert all(math.isfinite(value) for value in event.data.values() if isinstance(value, float))


def test_a_frame_of_all_tickers_costs_no_more_a_row_when_there_are_many() -> None:
    def cost(pairs: int) -> float:
        world = World()
        world.market.pairs([Pair(f"C{number}USDT", f"C{number}", "USDT") for number in range(pairs)])
        best = math.inf
        for second in range(3):
            rows = [ticker(1.0, START + second, f"C{number}USDT") for number in range(pairs)]
            raw = orjson.dumps(rows)
            started = time.process_time()
            world.take(raw, START)
            best = min(best, (time.process_time() - started) / pairs)
        return best

    assert cost(4000) < 6 * cost(200)


def test_the_last_price_of_a_pair_that_rests_is_said_once_however_often_rest_repeats_it() -> None:
    world = World()
    world.market.pairs([replace(BTC, status="HALT"), ETH])
    for seconds in range(0, 60, 5):
        world.poll(100.0, START + seconds * 1000)
    assert world.said() == [100.0]
    assert world.sink.staled == [("price.BTC", HALTED)] * 2, "when it halts, and behind its last price"
    world.poll(101.0, START + 60_000)
    assert world.said() == [100.0, 101.0], "its last trade was not known yet"
    world.market.pairs([BTC, ETH])
    world.poll(101.0, START + 70_000)
    assert world.said() == [100.0, 101.0, 101.0], "it trades again"

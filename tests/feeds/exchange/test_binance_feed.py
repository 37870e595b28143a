"""The live feed against the fake exchange: what REST adds to the stream, and when."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from feeds.exchange.backfill import HISTORY, HISTORY_ON_DEMAND
from feeds.exchange.link import SocketPolicy
from feeds.intervals import INTERVALS
from feeds.symbols import Symbols
from feeds.venues.binance.description import BINANCE
from feeds.venues.binance.streams import ALL_MINI_TICKERS, kline_stream
from tests.fakes.binance import (
    START_MS,
    FakeBinance,
    Hang,
    Pair,
    RestFault,
    Spoil,
    Stall,
    Status,
    duplicate,
    reverse,
    silence,
    synthetic_pairs,
    withhold_closes,
)
from tests.feeding import Live, MarketClock, limits, live, series_in_backfill
from tests.harness import until

MINUTE = 60_000
KLINES = "btcusdt@kline_1m"
TOPIC = "ohlcv.BTC.1m"


@pytest.fixture
async def exchange() -> AsyncIterator[FakeBinance]:
    async with FakeBinance(limits=limits()) as running:
        yield running


async def ready(exchange: FakeBinance, it: Live, stream: str = KLINES) -> None:
    """The stream is subscribed, and its history has arrived."""
    await exchange.until(lambda: exchange.subscribed(stream))
    await until(lambda: it.market.series and all(series.reached_back for series in it.market.series.values()))


async def trade_on(exchange: FakeBinance, seconds: int) -> None:
    """Market time passes in steps that arrive one by one."""
    for _ in range(seconds // 10):
        exchange.advance(10)
        await asyncio.sleep(0.001)


def check_closed(exchange: FakeBinance, it: Live, topic: str = TOPIC, symbol: str = "BTCUSDT") -> list[int]:
    """Said closed: each once, in order, without a hole, and true. Returns their open times."""
    interval = topic.rpartition(".")[2]
    said = it.sink.rows(topic, "closed")
    opens = [int(str(row["open_time"])) for row in said]
    assert opens
    truth = {row.open_ms: row for row in exchange.candles(symbol, interval, start_ms=opens[0]) if row.closed}
    assert opens == [open_ms for open_ms in truth if open_ms <= opens[-1]], "no hole, no double"
    for row in said:
        true = truth[int(str(row["open_time"]))]
        for name in ("open", "high", "low", "close", "volume", "quote_volume"):
            assert row[name] == float(getattr(true, name)), (row, true)
        assert row["trades"] == true.trades
    assert it.sink.rows(topic, "corrected") == []
    series = it.market.series[symbol, interval]
    held = [each.open_time for each in series.closed]
    assert held == sorted(set(held))
    return opens


async def closes(exchange: FakeBinance, it: Live, open_ms: int, topic: str = TOPIC) -> None:
    await until(lambda: open_ms in it.sink.opens(topic))


# --- the beginning ---


async def test_prices_come_from_rest_before_the_stream_has_spoken(exchange: FakeBinance) -> None:
    async with live(exchange) as it:
        await until(lambda: it.sink.of("price.BTC"))
        first = it.sink.of("price.BTC")[0]
        assert first.data["price"] == float(exchange.price("BTCUSDT"))
        assert {event.topic for event in it.sink.events if event.topic.startswith("price.")} == {
            f"price.{base}"
            for base in ("BTC", "ETH", "BNB", "SOL", "XRP", "1INCH", "USDC", "BTCUP", "PEPE", "币安人生")
        }
        await exchange.until(lambda: exchange.subscribed(ALL_MINI_TICKERS))
        exchange.advance(1)
        await until(lambda: len(it.sink.of("price.BTC")) == 2)
        assert it.sink.of("price.BTC")[1].data["price"] == float(exchange.price("BTCUSDT"))
        assert it.feed.report()["state"] == "live"
        await until(lambda: it.feed.readiness() == {"price": "value", "ohlcv": "value"})


async def test_while_the_stream_delivers_rest_is_not_polled_and_when_it_falls_silent_it_is(
    exchange: FakeBinance,
) -> None:
    async with live(exchange, poll_s=10.0, silence_s=20.0) as it:
        await exchange.until(lambda: exchange.subscribed(ALL_MINI_TICKERS))
        for _ in range(60):
            exchange.advance(1)
            await asyncio.sleep(0.01)
        polls = len(exchange.requests_to("ticker/24hr"))
        assert polls <= 2
        exchange.stall = Stall.DATA
        exchange.advance(5)
        await exchange.until(lambda: len(exchange.requests_to("ticker/24hr")) > polls)
        await until(lambda: it.sink.of("price.BTC")[-1].data["price"] == float(exchange.price("BTCUSDT")))
        assert it.sink.of("price.BTC")[-1].source == "binance"


async def test_history_is_asked_after_the_subscription_and_becomes_the_series(exchange: FakeBinance) -> None:
    async with live(exchange) as it:
        await ready(exchange, it)
        (asked,) = exchange.requests_to("klines", symbol="BTCUSDT", interval="1m")
        assert asked.query["limit"] == str(HISTORY)
        assert "startTime" not in asked.query
        series = it.market.series["BTCUSDT", "1m"]
        assert len(series.closed) == HISTORY - 1
        assert series.live is not None
        assert series.live.open_time == START_MS
        assert it.sink.opens(TOPIC) == [START_MS - MINUTE]
        await trade_on(exchange, 200)
        await closes(exchange, it, START_MS + 2 * MINUTE)
        check_closed(exchange, it)
        assert len(exchange.requests_to("klines")) == 1


async def test_candles_go_on_without_history_which_then_arrives(exchange: FakeBinance) -> None:
    dead = exchange.break_rest("klines", RestFault(status=503))
    async with live(exchange) as it:
        await exchange.until(lambda: exchange.subscribed(KLINES) and exchange.requests_to("klines"))
        await until(lambda: it.market.series["BTCUSDT", "1m"].begun)
        await trade_on(exchange, 190)
        await closes(exchange, it, START_MS + 2 * MINUTE)
        assert it.sink.opens(TOPIC)[0] == START_MS

        dead.stop()
        await until(lambda: it.market.series["BTCUSDT", "1m"].reached_back)
        series = it.market.series["BTCUSDT", "1m"]
        assert series.closed[0].open_time <= START_MS - 400 * MINUTE
        assert [each.open_time for each in series.closed] == [
            row.open_ms for row in exchange.candles("BTCUSDT", "1m", start_ms=series.closed[0].open_time) if row.closed
        ]
        check_closed(exchange, it)


async def test_nothing_is_known_while_rest_is_down_and_then_all_begins(exchange: FakeBinance) -> None:
    dead = exchange.break_rest("*", RestFault(status=503))
    async with live(exchange) as it:
        await exchange.until(lambda: len(exchange.requests_to("exchangeInfo")) >= 3)
        assert "status 503" in str(it.feed.readiness()["price"])
        exchange.advance(2)
        await asyncio.sleep(0.02)
        assert it.sink.events == [], "no symbol can be split by guessing"
        dead.stop()
        await ready(exchange, it)


async def test_a_pair_that_does_not_move_has_a_price_from_rest_even_if_the_stream_was_quicker(
    exchange: FakeBinance,
) -> None:
    exchange.quiet("XRPUSDT")
    exchange.break_rest("ticker/24hr", RestFault(delay_s=0.2), times=1)
    async with live(exchange) as it:
        await exchange.until(lambda: exchange.subscribed(ALL_MINI_TICKERS) and exchange.requests_to("ticker/24hr"))
        exchange.advance(2)
        await until(lambda: it.sink.of("price.XRP"))
        streamed = it.sink.of("price.BTC")
        assert [event.ts for event in streamed] == [START_MS + 1000, START_MS + 2000], "there the stream is believed"
        assert it.sink.of("price.XRP")[0].data["price"] == float(exchange.price("XRPUSDT"))


async def test_a_poll_that_fails_is_made_up_for_although_the_stream_delivers_by_then(exchange: FakeBinance) -> None:
    exchange.quiet("XRPUSDT")
    exchange.break_rest("ticker/24hr", RestFault(status=503), times=1)
    async with live(exchange) as it:
        await exchange.until(lambda: exchange.subscribed(ALL_MINI_TICKERS) and exchange.requests_to("ticker/24hr"))
        for _ in range(300):
            exchange.advance(1)
            await asyncio.sleep(0.01)
            if it.sink.of("price.XRP"):
                break
        assert it.sink.of("price.XRP")


# --- losing and finding again ---


async def test_an_exchange_that_dies_for_minutes_leaves_no_hole_and_no_double(exchange: FakeBinance) -> None:
    async with live(exchange, clock=MarketClock(exchange)) as it:
        await ready(exchange, it)
        await trade_on(exchange, 150)
        await closes(exchange, it, START_MS + MINUTE)
        before = len(exchange.requests_to("klines"))
        await exchange.kill()
        exchange.advance(7 * 60)
        await exchange.revive()
        await exchange.until(lambda: exchange.subscribed(KLINES, ALL_MINI_TICKERS))
        await closes(exchange, it, START_MS + 8 * MINUTE)
        await trade_on(exchange, 120)
        await closes(exchange, it, START_MS + 10 * MINUTE)
        check_closed(exchange, it)
        assert it.sink.gaps == []
        asked = [request for request in exchange.requests_to("klines")[before:] if request.status == 200]
        starts = [int(request.query["startTime"]) for request in asked]
        assert starts[0] == START_MS + 2 * MINUTE
        assert starts == sorted(set(starts)), (
            "nothing is fetched twice, even if a slow machine asks about later candles"
        )
        assert int(asked[0].query["limit"]) <= 8 + 2, "the missing span and no more"


async def test_what_waited_while_the_process_was_paused_is_not_told_as_new(exchange: FakeBinance) -> None:
    async with live(exchange, clock=MarketClock(exchange), socket=SocketPolicy(paused_s=30.0)) as it:
        await ready(exchange, it)
        await trade_on(exchange, 70)
        await closes(exchange, it, START_MS)
        made, said = len(exchange.all_connections), len(it.sink.events)
        for _ in range(90):
            exchange.advance(1)  # nothing else runs meanwhile
        resumed_ms = exchange.now_ms
        await exchange.until(
            lambda: len(exchange.all_connections) > made and exchange.subscribed(KLINES, ALL_MINI_TICKERS)
        )
        await closes(exchange, it, START_MS + MINUTE)
        await trade_on(exchange, 120)
        await closes(exchange, it, START_MS + 3 * MINUTE)
        check_closed(exchange, it)
    prices = [event for event in it.sink.events[said:] if event.topic.startswith("price.")]
    assert prices
    assert min(event.ts for event in prices) >= resumed_ms


async def test_resets_at_any_moment_leave_no_hole_and_no_double(exchange: FakeBinance) -> None:
    async with live(exchange) as it:
        await ready(exchange, it)
        for second in range(0, 600, 13):
            if second % 3 == 0:
                exchange.abort_all()
            exchange.advance(13)
            await asyncio.sleep(0.015)
        await exchange.until(lambda: exchange.subscribed(KLINES, ALL_MINI_TICKERS))
        exchange.advance(60)
        await closes(exchange, it, START_MS + 9 * MINUTE)
        check_closed(exchange, it)
        assert it.sink.gaps == []


async def test_an_answer_that_is_late_is_overtaken_by_the_stream_and_corrects_nothing(exchange: FakeBinance) -> None:
    async with live(exchange) as it:
        await ready(exchange, it)
        exchange.advance(50)
        exchange.break_rest("klines", RestFault(delay_s=0.3), times=1)
        exchange.abort_all()
        await exchange.until(lambda: len(exchange.requests_to("klines")) == 2)
        exchange.advance(20)  # candle 0 closes while the answer, in which it is forming, is on its way
        await closes(exchange, it, START_MS)
        await until(lambda: not series_in_backfill(it))
        check_closed(exchange, it)


async def test_a_withheld_closing_frame_is_mended_by_a_backfill(exchange: FakeBinance) -> None:
    async with live(exchange) as it:
        await ready(exchange, it)
        with exchange.tamper(withhold_closes):
            await trade_on(exchange, 70)
            await closes(exchange, it, START_MS)
        (_, mended) = exchange.requests_to("klines")
        assert mended.query["startTime"] == str(START_MS)
        assert int(mended.query["limit"]) <= 2 + 2, "what closed, what forms, and no more than two besides"
        check_closed(exchange, it)
        assert it.sink.gaps == []


async def test_doubled_and_reordered_frames_change_nothing(exchange: FakeBinance) -> None:
    async with live(exchange) as it:
        await ready(exchange, it)
        with exchange.tamper(duplicate), exchange.tamper(reverse):
            await trade_on(exchange, 300)
            await closes(exchange, it, START_MS + 4 * MINUTE)
        check_closed(exchange, it)
        lives = it.sink.rows(TOPIC, "live")
        order = [(int(str(row["open_time"])), int(str(row["trades"]))) for row in lives]
        assert order == sorted(order), "the forming candle never goes back"


async def test_bad_frames_and_bad_answers_cost_only_themselves(exchange: FakeBinance) -> None:
    async with live(exchange) as it:
        await ready(exchange, it)
        for kind in Spoil:
            exchange.spoil(kind, KLINES)
            exchange.spoil(kind, ALL_MINI_TICKERS)
            exchange.advance(10)
            await asyncio.sleep(0.001)
        await trade_on(exchange, 60)
        await closes(exchange, it, START_MS + 2 * MINUTE)
        check_closed(exchange, it)
        assert len(exchange.handshakes) == 1
        assert it.market.rejected["frame"] >= 4
        assert it.market.rejected["c"] >= 4


@pytest.mark.parametrize(
    "fault",
    [
        RestFault(body="<html>captcha</html>"),
        RestFault(body=b""),
        RestFault(body={"code": -1003, "msg": "slow down"}),
        RestFault(cut_at=20),
        RestFault(reset=True, cut_at=5),
        RestFault(status=500),
        RestFault(hang=Hang.IN_BODY),
    ],
    ids=["html", "empty", "error in 200", "truncated", "reset", "500", "hang"],
)
async def test_a_backfill_that_fails_is_asked_again(exchange: FakeBinance, fault: RestFault) -> None:
    exchange.break_rest("klines", fault, times=1)
    async with live(exchange) as it:
        it.feed.rest.policy = replace(it.feed.rest.policy, timeout_s=0.3)
        await ready(exchange, it)
        assert len(exchange.requests_to("klines")) == 2
        assert len(it.market.series["BTCUSDT", "1m"].closed) == HISTORY - 1


async def test_what_the_exchange_has_lost_becomes_one_gap(exchange: FakeBinance) -> None:
    async with live(exchange) as it:
        await ready(exchange, it)
        await trade_on(exchange, 60)
        await closes(exchange, it, START_MS)
        exchange.lose_candles("BTCUSDT", START_MS + MINUTE, START_MS + 4 * MINUTE)
        await trade_on(exchange, 310)
        await until(lambda: it.sink.gaps)
        await trade_on(exchange, 120)
        await closes(exchange, it, START_MS + 6 * MINUTE)
        assert it.sink.gaps == [(TOPIC, START_MS + MINUTE, START_MS + 4 * MINUTE)]
        check_closed(exchange, it)


async def test_a_gap_is_told_at_once_and_not_asked_for_again_and_again(exchange: FakeBinance) -> None:
    async with live(exchange) as it:
        await ready(exchange, it)
        exchange.lose_candles("BTCUSDT", START_MS, START_MS + 4 * MINUTE)
        await trade_on(exchange, 250)
        await until(lambda: it.sink.gaps)
        assert it.sink.opens(TOPIC) == [START_MS - MINUTE], "the candle after the hole is still forming"
        asked = len(exchange.requests_to("klines"))
        await asyncio.sleep(1.5)  # thirty seconds of the feed
        assert len(exchange.requests_to("klines")) == asked


async def test_a_corrected_candle_is_said_as_such(exchange: FakeBinance) -> None:
    async with live(exchange) as it:
        await ready(exchange, it)
        await trade_on(exchange, 130)
        await closes(exchange, it, START_MS + MINUTE)
        exchange.correct("BTCUSDT", "1m", START_MS, close="1.5", low="1.5")
        await until(lambda: it.sink.rows(TOPIC, "corrected"))
        (row,) = it.sink.rows(TOPIC, "corrected")
        assert (row["open_time"], row["close"], row["closed"]) == (START_MS, 1.5, True)


async def test_an_announced_shutdown_is_followed_by_a_new_connection(exchange: FakeBinance) -> None:
    async with live(exchange) as it:
        await ready(exchange, it)
        exchange.announce_shutdown()
        await exchange.until(lambda: len(exchange.handshakes) == 2 and exchange.subscribed(KLINES))
        await trade_on(exchange, 120)
        await closes(exchange, it, START_MS + MINUTE)
        check_closed(exchange, it)


# --- on demand ---


async def test_candles_start_when_wanted_and_stop_when_dropped(exchange: FakeBinance) -> None:
    async with live(exchange) as it:
        await ready(exchange, it)
        it.feed.want("ohlcv.ETH.5m")
        await ready(exchange, it, "ethusdt@kline_5m")
        await trade_on(exchange, 320)
        await closes(exchange, it, START_MS, "ohlcv.ETH.5m")
        check_closed(exchange, it, "ohlcv.ETH.5m", "ETHUSDT")

        assert it.feed.drop("ohlcv.ETH.5m")
        await exchange.until(lambda: not exchange.subscribed("ethusdt@kline_5m"))
        assert ("ETHUSDT", "5m") not in it.market.series
        said = len(it.sink.of("ohlcv.ETH.5m"))
        await trade_on(exchange, 20)
        assert len(it.sink.of("ohlcv.ETH.5m")) == said
        assert len(exchange.handshakes) == 1


async def test_what_the_settings_ask_for_is_not_dropped(exchange: FakeBinance) -> None:
    async with live(exchange) as it:
        await ready(exchange, it)
        assert not it.feed.drop(TOPIC)
        assert not it.feed.drop("price.BTC")
        assert exchange.subscribed(KLINES)


async def test_a_wish_before_the_pairs_are_known_is_remembered_and_an_impossible_one_refused(
    exchange: FakeBinance,
) -> None:
    slow = exchange.break_rest("exchangeInfo", RestFault(status=503))
    async with live(exchange) as it:
        it.feed.want("ohlcv.SOL.5m")
        it.feed.want("ohlcv.NOPE.5m")
        it.feed.want("price.NOPE")
        slow.stop()
        await ready(exchange, it, "solusdt@kline_5m")
        assert it.sink.refused == [
            ("ohlcv.NOPE.5m", "no market for symbol 'NOPE'"),
            ("price.NOPE", "no market for symbol 'NOPE'"),
        ]
        it.feed.want("ohlcv.MATIC.1m")
        assert it.sink.refused[2:] == []
        assert it.sink.staled == [("ohlcv.MATIC.1m", "halted")], "it is listed, and rests"


async def test_dropped_and_wanted_in_one_breath_goes_on_with_history(exchange: FakeBinance) -> None:
    async with live(exchange) as it:
        it.feed.want("ohlcv.ETH.1m")
        await ready(exchange, it, "ethusdt@kline_1m")
        it.feed.drop("ohlcv.ETH.1m")
        it.feed.want("ohlcv.ETH.1m")
        await ready(exchange, it, "ethusdt@kline_1m")
        await trade_on(exchange, 120)
        await closes(exchange, it, START_MS + MINUTE, "ohlcv.ETH.1m")
        assert len(it.market.series["ETHUSDT", "1m"].closed) >= HISTORY_ON_DEMAND - 1


async def test_dropped_and_wanted_during_a_backfill_asks_anew_and_nothing_is_lost(exchange: FakeBinance) -> None:
    async with live(exchange) as it:
        it.feed.want("ohlcv.ETH.1m")
        await ready(exchange, it, "ethusdt@kline_1m")
        exchange.break_rest("klines", RestFault(delay_s=0.2), times=2)
        exchange.abort_all()
        exchange.advance(120)
        before = len(exchange.requests_to("klines", symbol="ETHUSDT"))
        await exchange.until(lambda: len(exchange.requests_to("klines", symbol="ETHUSDT")) > before)
        it.feed.drop("ohlcv.ETH.1m")
        it.feed.want("ohlcv.ETH.1m")
        await ready(exchange, it, "ethusdt@kline_1m")
        assert len(it.market.series["ETHUSDT", "1m"].closed) >= HISTORY_ON_DEMAND - 1, (
            "not only what the old series lacked"
        )


async def test_dropped_during_a_backfill_stays_dropped(exchange: FakeBinance) -> None:
    async with live(exchange) as it:
        await ready(exchange, it)
        exchange.break_rest("klines", RestFault(delay_s=0.1))
        it.feed.want("ohlcv.ETH.1m")
        await exchange.until(lambda: exchange.requests_to("klines", symbol="ETHUSDT"))
        it.feed.drop("ohlcv.ETH.1m")
        await until(lambda: not series_in_backfill(it))
        assert ("ETHUSDT", "1m") not in it.market.series
        assert it.sink.of("ohlcv.ETH.1m") == []
        assert len(exchange.requests_to("klines", symbol="ETHUSDT")) == 1


async def test_streams_are_spread_so_that_no_socket_holds_too_many() -> None:
    pairs = synthetic_pairs(100)
    async with FakeBinance(pairs, limits=limits()) as exchange:
        exchange.break_rest("klines", RestFault(status=451))
        bases = [pair.base for pair in pairs if pair.quote == "USDT" and pair.status is Status.TRADING]
        async with live(exchange, candle_bases=bases, candle_intervals=INTERVALS) as it:
            wanted = {kline_stream(f"{base}USDT", interval) for base in bases for interval in INTERVALS}
            await exchange.until(lambda: wanted <= exchange.streams)
            sizes = sorted(len(connection.streams) for connection in exchange.connections)
            most = BINANCE.streams.streams_per_connection
            assert sizes == [len(wanted) + 1 - most, most]
            assert sum(connection.streams.keys() >= {ALL_MINI_TICKERS} for connection in exchange.connections) == 1
            report = it.feed.report()
            assert report["candle_series"] == len(wanted)


# --- pairs ---


async def test_pairs_are_kept_on_disk_and_serve_when_rest_is_down(exchange: FakeBinance, tmp_path: Path) -> None:
    async with live(exchange, tmp_path) as it:
        await ready(exchange, it)
    assert ["BTCUSDT", "BTC", "USDT", "TRADING"] in orjson.loads((tmp_path / "pairs.json").read_bytes())

    exchange.break_rest("*", RestFault(status=503))
    async with live(exchange, tmp_path) as it:
        await exchange.until(lambda: exchange.subscribed(KLINES, ALL_MINI_TICKERS))
        exchange.advance(2)
        await until(lambda: it.sink.of("price.BTC") and it.sink.of(TOPIC))


@pytest.mark.parametrize("content", [b"", b"nonsense", b"[]", b"{}", b"[1,2]", b'[["A"]]', b"\xff"])
async def test_a_spoiled_file_of_pairs_is_as_good_as_none(
    exchange: FakeBinance, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "pairs.json").write_bytes(content)
    async with live(exchange, tmp_path) as it:
        await ready(exchange, it)
        assert it.market.symbols.known


async def test_a_state_directory_that_cannot_be_written_hurts_nobody(exchange: FakeBinance, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    async with live(exchange, tmp_path / "file") as it:
        await ready(exchange, it)


async def test_a_new_listing_is_noticed_by_its_ticker(exchange: FakeBinance) -> None:
    async with live(exchange, doubted_refresh_s=10.0) as it:
        await ready(exchange, it)
        exchange.list_pair(Pair("NEWUSDT", "NEW", "USDT", "1.5", listed_ms=exchange.now_ms))
        exchange.advance(2)
        await exchange.until(lambda: len(exchange.requests_to("exchangeInfo")) >= 2)
        await until(lambda: "NEW" in it.market.symbols.by_base)
        exchange.advance(2)
        await until(lambda: it.sink.of("price.NEW"))


async def test_only_what_the_settings_name_is_served(exchange: FakeBinance) -> None:
    async with live(exchange, symbols=Symbols(("ETH", "BTCEUR"))) as it:
        await until(lambda: it.sink.of("price.ETH"))
        exchange.advance(2)
        topics = {event.topic for event in it.sink.events if event.topic.startswith("price.")}
        assert topics == {"price.ETH", "price.BTC"}
        assert it.sink.of("price.BTC")[0].data["pair"] == "BTCEUR"


# --- the rest ---


async def test_one_dead_pair_does_not_touch_the_others(exchange: FakeBinance) -> None:
    async with live(exchange, candle_bases=("BTC", "ETH")) as it:
        await ready(exchange, it, "ethusdt@kline_1m")
        with exchange.tamper(silence("BTCUSDT")):
            await trade_on(exchange, 70)
            await closes(exchange, it, START_MS, "ohlcv.ETH.1m")
        await trade_on(exchange, 60)
        await closes(exchange, it, START_MS + MINUTE)
        check_closed(exchange, it)


async def test_prices_never_come_from_the_future_and_never_go_back(exchange: FakeBinance) -> None:
    async with live(exchange, poll_s=2.0, silence_s=20.0) as it:
        await exchange.until(lambda: exchange.subscribed(ALL_MINI_TICKERS))
        with exchange.tamper(duplicate), exchange.tamper(reverse):
            for second in range(60):
                if second % 20 == 10:
                    exchange.abort_all()
                exchange.advance(1)
                await asyncio.sleep(0.02)
        stamps = [event.ts for event in it.sink.of("price.BTC")]
        assert len(stamps) > 10
        assert stamps == sorted(stamps)
        assert all(event.ts <= event.received for event in it.sink.of("price.BTC"))


async def test_a_stopped_feed_leaves_no_task_and_no_connection(exchange: FakeBinance) -> None:
    before = asyncio.all_tasks()
    async with live(exchange) as it:
        await ready(exchange, it)
    await exchange.until(lambda: not exchange.connections)
    left = {task for task in asyncio.all_tasks() - before if not task.done()}
    assert left == set()

"""States of pairs through the whole service: what rests is not gone, what ticks is not resting, what is gone ends."""

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest

from feeds.exchange.doubts import Doubts
from tests.chaos import virtual
from tests.fakes.binance import DEFAULT_PAIRS, START_MS, FakeBinance, Pair, RestFault, Status
from tests.marketplace import Marketplace, marketplace, play

PAIRS = tuple(replace(pair, trades_per_s=1, listed_ms=START_MS - 3_600_000) for pair in DEFAULT_PAIRS[:4])
NEW = Pair("NEWUSDT", "NEW", "USDT", "1.5", listed_ms=START_MS - 600_000)
SOON_S = 32.0
"""The list is fetched again at most every 30 s."""


def price_of(market: Marketplace, base: str) -> object:
    topic = market.context.hub.topics.get(f"price.{base}")
    return topic is not None and topic.event is not None and not topic.stale


@pytest.mark.parametrize("status", [Status.HALT, Status.BREAK, Status.CANCEL_ONLY])
def test_an_exchange_that_is_halted_at_the_start_is_reported_and_comes_back_by_itself(
    tmp_path: Path, status: Status
) -> None:
    async def story(market: Marketplace) -> None:
        exchange = market.exchange
        for pair in PAIRS:
            exchange.set_status(pair.symbol, status)
        await asyncio.sleep(10)
        code, ready = await market.get("/health/ready")
        assert code == 200, "a known failure"
        assert "halted" in ready["categories"]["ohlcv"]
        feed = await market.feed()
        assert (feed["state"], feed["pair_states"]) == ("halted", {status.value: 4})
        async with market.listener("price.ETH", "ohlcv.ETH.1m", "ohlcv.BTC.>") as listener:
            assert listener.of("error") == []
            await asyncio.sleep(1)
            told = {(each["topic"], each["reason"]) for each in listener.of("stale")}
            assert {("price.ETH", "halted"), ("ohlcv.ETH.1m", "halted")} <= told
            for pair in PAIRS:
                exchange.set_status(pair.symbol, Status.TRADING)
            await market.until(lambda: listener.of("fresh", "price.ETH"), SOON_S)
            await market.until(lambda: listener.of("update", "ohlcv.ETH.1m"), SOON_S)
        _, ready = await market.get("/health/ready")
        assert set(ready["categories"].values()) >= {"value"}
        assert ready["categories"]["ohlcv"] == "value"
        assert (await market.feed())["pair_states"] == {"TRADING": 4}

    async def run() -> None:
        async with FakeBinance(PAIRS) as exchange:
            for pair in PAIRS:
                exchange.set_status(pair.symbol, status)
            async with marketplace(exchange, tmp_path) as market:
                await story(market)

    virtual.run(run())


@pytest.mark.parametrize("listed", [Status.HALT, Status.BREAK, None])
@pytest.mark.parametrize("of", ["one", "all"])
def test_a_pair_that_trades_whatever_its_list_said_has_a_price_within_half_a_minute(
    tmp_path: Path, listed: Status | None, of: str
) -> None:
    if listed is None and of == "all":
        return  # an empty list is none

    async def run() -> None:
        async with FakeBinance(PAIRS) as exchange:
            exchange.list_as(listed, *(["SOLUSDT"] if of == "one" else []))
            async with marketplace(exchange, tmp_path) as market:
                await asyncio.sleep(20)
                assert not price_of(market, "SOL")
                dropped = (await market.feed())["dropped_ticks"]
                assert dropped["unlisted" if listed is None else "resting"] > 10
                async with market.http.get(market.url + "/metrics") as answer:
                    assert "stream_server_ticks_dropped_total{reason=" in await answer.text()
                exchange.list_truly()
                await market.until(lambda: price_of(market, "SOL"), SOON_S)
                status, body = await market.get("/api/market/price?symbols=SOL")
                assert (status, body["stale"], body["source"]) == (200, False, "binance")

    virtual.run(run())


def test_a_pair_that_is_listed_later_has_a_price_at_its_first_ticks(tmp_path: Path) -> None:
    async def story(market: Marketplace) -> None:
        await asyncio.sleep(45)
        market.exchange.list_pair(NEW)
        took_s = await market.until(lambda: price_of(market, "NEW"), SOON_S)
        assert took_s < 5.0, "the last list is older than half a minute"

    play(tmp_path, story, PAIRS)


def test_an_odd_pair_that_ticks_although_it_rests_asks_for_the_list_ever_later(tmp_path: Path) -> None:
    async def story(market: Marketplace) -> None:
        await asyncio.sleep(200)
        assert len(market.exchange.requests_to("exchangeInfo")) == 5, "at the start, after 30 s, then every 60 s"
        market.exchange.list_truly()
        await market.until(lambda: price_of(market, "SOL"), 2 * SOON_S)

    async def run() -> None:
        async with FakeBinance(PAIRS[2:]) as exchange:
            exchange.list_as(Status.HALT, "SOLUSDT")
            async with marketplace(exchange, tmp_path, OHLCV_SYMBOLS="BNB") as market:
                await story(market)

    virtual.run(run())


def test_an_overruled_pair_waits_twice_as_long_each_time_up_to_a_bound() -> None:
    doubts = Doubts(30.0, 300.0)
    now, waits = 0.0, []
    for _ in range(7):
        assert doubts.contradict({"SOLUSDT"}, now)
        doubts.overruled({"SOLUSDT"}, now)
        began = now
        while not doubts.contradict({"SOLUSDT"}, now):
            now += 1.0
        waits.append(now - began)
    assert waits == [30, 60, 120, 240, 300, 300, 300]
    assert doubts.contradict({"SOLUSDT", "NEWUSDT"}, began), "another pair does not wait for it"
    doubts.settled({"SOLUSDT"})
    assert doubts.contradict({"SOLUSDT"}, began)
    doubts.overruled([f"X{number}USDT" for number in range(5000)], now)
    assert len(doubts.pairs) == 1000


def test_a_pair_that_is_halted_amid_trading_is_stale_and_goes_on_without_a_false_candle(tmp_path: Path) -> None:
    async def story(market: Marketplace) -> None:
        exchange = market.exchange
        async with market.listener("price.ETH", "ohlcv.ETH.1m") as listener:
            await asyncio.sleep(100)
            exchange.set_status("ETHUSDT", Status.HALT)
            exchange.list_pair(NEW)  # whose tick asks for a new list
            await market.until(lambda: listener.of("stale", "price.ETH"), SOON_S)
            assert listener.of("stale", "price.ETH")[0]["reason"] == "halted"
            await asyncio.sleep(100)
            _, body = await market.get("/api/market/price?symbols=ETH")
            assert body["stale"] is True
            exchange.set_status("ETHUSDT", Status.TRADING)
            await market.until(lambda: listener.of("fresh", "price.ETH"), SOON_S)
            await asyncio.sleep(100)
            closed = {
                each["data"]["open_time"] for each in listener.of("update", "ohlcv.ETH.1m") if each["data"]["closed"]
            }
            truth = {each.open_ms for each in exchange.candles("ETHUSDT", "1m", start_ms=min(closed)) if each.closed}
            assert closed == truth, "each candle that there was, and no other"
            assert len(listener.of("gap", "ohlcv.ETH.1m")) == 1

    play(tmp_path, story, PAIRS)


def test_a_pair_that_is_delisted_leaves_nothing_once_its_listeners_are_told_or_gone(tmp_path: Path) -> None:
    async def story(market: Marketplace) -> None:
        exchange = market.exchange
        hub = market.context.hub
        async with market.listener("price.ETH", "ohlcv.ETH.5m") as listener:
            await market.until(lambda: exchange.subscribed("ethusdt@kline_5m"), 10)
            exchange.delist("ETHUSDT")
            exchange.list_pair(NEW)
            await market.until(lambda: len(listener.of("error")) == 2, 2 * SOON_S + 40)
            assert {each["code"] for each in listener.of("error")} == {"unknown_topic"}
            await market.until(lambda: not exchange.subscribed("ethusdt@kline_5m"), 10)
            asked = len(exchange.requests_to("klines", symbol="ETHUSDT"))
            await asyncio.sleep(60)
            assert len(exchange.requests_to("klines", symbol="ETHUSDT")) == asked
        assert ("ETHUSDT", "5m") not in market.context.exchange.series
        assert "ohlcv.ETH.5m" not in hub.interest.counts
        status, _ = await market.get("/api/market/ohlc?symbol=ETH&interval=1m")
        assert status == 404

    play(tmp_path, story, PAIRS)


def test_a_list_that_is_cut_short_once_ends_nothing(tmp_path: Path) -> None:
    async def story(market: Marketplace) -> None:
        exchange = market.exchange
        async with market.listener("price.ETH", "ohlcv.ETH.1m", "ohlcv.BTC.1m") as listener:
            await asyncio.sleep(40)
            exchange.list_as(None, "ETHUSDT", "BTCUSDT")
            exchange.list_pair(NEW)
            await market.until(lambda: len(exchange.requests_to("exchangeInfo")) == 2, SOON_S)
            exchange.list_truly()
            await market.until(lambda: len(exchange.requests_to("exchangeInfo")) == 3, SOON_S)
            await asyncio.sleep(5)
            assert listener.of("error") == []
            assert price_of(market, "ETH")
            assert exchange.subscribed("ethusdt@kline_1m", "btcusdt@kline_1m")

    play(tmp_path, story, PAIRS)


def test_after_a_restart_the_list_on_disk_is_checked_until_the_exchange_has_answered(tmp_path: Path) -> None:
    async def run() -> None:
        async with FakeBinance(PAIRS) as exchange:
            exchange.list_as(Status.BREAK, "SOLUSDT")
            async with marketplace(exchange, tmp_path):
                await exchange.until(lambda: exchange.requests_to("exchangeInfo"))
                await asyncio.sleep(1)
            exchange.list_truly()
            dead = exchange.break_rest("exchangeInfo", RestFault(status=503), times=4)
            async with marketplace(exchange, tmp_path) as market:
                await market.until(lambda: price_of(market, "BTC"), 10)
                assert not price_of(market, "SOL")
                await market.until(lambda: price_of(market, "SOL"), 200)
            dead.stop()

    virtual.run(run())


def test_a_pair_that_one_list_lacked_is_served_after_a_restart_until_the_next_list(tmp_path: Path) -> None:
    async def run() -> None:
        async with FakeBinance(PAIRS) as exchange:
            async with marketplace(exchange, tmp_path) as market:
                await asyncio.sleep(40)
                exchange.list_as(None, "ETHUSDT")
                exchange.list_pair(NEW)  # ticks, and so has the list fetched again
                await market.until(lambda: len(exchange.requests_to("exchangeInfo")) == 2, SOON_S)
                await asyncio.sleep(1)
            exchange.list_truly()
            dead = exchange.break_rest("exchangeInfo", RestFault(status=503), times=3)
            async with (
                marketplace(exchange, tmp_path) as market,
                market.listener("price.ETH", "ohlcv.ETH.1m") as listener,
            ):
                await market.until(lambda: price_of(market, "ETH"), 200)
                assert listener.of("error") == []
            dead.stop()

    virtual.run(run())


@pytest.mark.parametrize("base", ["A-B", "A_B", "A.B", "1.2-3_4"])
def test_a_base_with_marks_is_served_under_every_spelling_through_every_entry(tmp_path: Path, base: str) -> None:
    pair = Pair(f"{base}USDT", base, "USDT", "1.5", listed_ms=START_MS - 600_000)

    async def story(market: Marketplace) -> None:
        await market.until(lambda: price_of(market, base), 10)
        for name in (base.lower(), f"{base}USDT", f"{base}-USDT", f"{base}_USDT", quote(f"{base}/USDT", safe="")):
            wanted = (f"price.{name}", f"ohlcv.{name}.1m", f"ohlcv.{name}.>", "ohlcv.*.3m")
            async with market.listener(*wanted) as listener:
                assert listener.of("error") == []
                assert listener.of("subscribed")[0]["topics"] == [
                    f"price.{base}", f"ohlcv.{base}.1m", f"ohlcv.{base}.>", "ohlcv.*.3m",
                ]  # fmt: skip
                await market.until(partial(listener.of, "update", f"ohlcv.{base}.1m"), 10)
            for path in (f"price?symbols={name}", f"ohlc?symbol={name}&interval=1m&limit=3"):
                status, body = await market.get(f"/api/market/{path}")
                assert (status, body["data"][0]["symbol"]) == (200, base)
            for topics in (f"price.{name}", f"ohlcv.{name}.>"):
                status, body = await market.get(f"/api/snapshot?topics={topics}")
                assert (status, len(body["data"])) == (200, 1)

    play(tmp_path, story, (*PAIRS[:1], pair), OHLCV_SYMBOLS="none")


def with_doubles(rows: object) -> object:
    """An answer that holds some of its rows twice."""
    assert isinstance(rows, list)
    return [*rows, *rows[-3:], rows[0]]


def test_a_candle_that_rest_gives_twice_is_one_candle(tmp_path: Path) -> None:
    async def story(market: Marketplace) -> None:
        market.exchange.break_rest("klines", RestFault(change=with_doubles))
        await asyncio.sleep(1)
        for interval in ("1m", "3m"):
            _, body = await market.get(f"/api/market/ohlc?symbol=ETH&interval={interval}&limit=20")
            opens = [row["open_time"] for row in body["data"]]
            assert opens == sorted(set(opens)) and len(opens) >= 19
        async with market.listener("ohlcv.SOL.1m") as listener:
            await asyncio.sleep(130)
            closed = [each["data"]["open_time"] for each in listener.of("update") if each["data"]["closed"]]
            assert closed == sorted(set(closed)) and len(closed) >= 2

    play(tmp_path, story, PAIRS)

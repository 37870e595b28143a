"""A long frame leaves room for others between its rows, and nothing overtakes it."""

import asyncio
import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import orjson
import pytest

from feeds.exchange.market import ExchangeMarket
from feeds.exchange.playback import TapeClock, TapeFeed
from feeds.exchange.recorder import Recorder
from feeds.exchange.slices import SLICE_ROWS, SlicedWork, Work
from feeds.exchange.tape import open_tape
from feeds.exchange.venue import Opened
from feeds.model import Event, Pair
from feeds.symbols import Symbols
from feeds.venues.binance import frames, rest, streams
from feeds.venues.binance.description import BINANCE
from tests.fakes.binance import FakeBinance
from tests.fakes.clock import START_MS, ManualClock
from tests.feeding import Live, RecordingSink, limits, live

ALL = streams.ALL_MINI_TICKERS
PAIRS = [Pair(f"C{number}USDT", f"C{number}", "USDT") for number in range(1500)]


def tickers(price: float, at_ms: int = START_MS) -> list[dict[str, object]]:
    return [{"e": "24hrMiniTicker", "E": at_ms, "s": pair.symbol, "c": str(price)} for pair in PAIRS]


def frame(price: float, at_ms: int = START_MS) -> Opened:
    raw = orjson.dumps({"stream": ALL, "data": tickers(price, at_ms)})
    return frames.open_frame(raw, at_ms)


def said(events: list[Event]) -> list[tuple[object, object]]:
    return [(event.data["symbol"], event.data["price"]) for event in events if event.topic.startswith("price.C")]


def each_once(*prices: float) -> list[tuple[object, object]]:
    return [(pair.base, price) for price in prices for pair in PAIRS]


@pytest.mark.parametrize("seed", range(20))
async def test_pieces_are_done_one_after_the_other_whenever_they_come(seed: int) -> None:
    rng = random.Random(seed)
    work = SlicedWork()
    done: list[tuple[int, int]] = []

    def piece(number: int, slices: int) -> Work:
        for place in range(slices):
            if place:
                yield
            done.append((number, place))
            if rng.random() < 0.2:
                work.finish()  # from within a slice: nothing may get in between

    lengths = [rng.randint(1, 6) for _ in range(30)]
    running = asyncio.create_task(work.run())
    for number, length in enumerate(lengths):
        was_done = work.is_done
        work.put(piece(number, length))
        assert not was_done or (number, 0) in done, "what waits for nothing is begun at once"
        if rng.random() < 0.1:
            work.finish()
            assert work.is_done
        for _ in range(rng.randint(0, 8)):
            await asyncio.sleep(0)
    await work.done()
    running.cancel()
    assert done == [(number, place) for number, length in enumerate(lengths) for place in range(length)]


async def test_a_piece_that_fails_ends_by_itself_and_says_so() -> None:
    work = SlicedWork()

    def bad() -> Iterator[None]:
        yield
        raise RuntimeError("a fault")

    done: list[str] = []

    def good() -> Iterator[None]:
        done.append("good")
        yield from ()

    work.put(bad())
    work.put(good())
    with pytest.raises(RuntimeError, match="a fault"):
        await work.run()
    work.finish()
    assert done == ["good"]


async def test_no_turn_of_the_loop_has_both_a_slice_and_the_writes_that_follow_from_one() -> None:
    loop = asyncio.get_running_loop()
    work = SlicedWork()
    turn = 0
    sliced: list[int] = []
    written: list[int] = []

    def next_turn() -> None:
        nonlocal turn
        turn += 1
        loop.call_soon(next_turn)

    def piece() -> Work:
        for place in range(10):
            if place:
                yield
            sliced.append(turn)
            loop.call_soon(lambda: written.append(turn))  # as the hub has the writes of what is published

    loop.call_soon(next_turn)
    running = asyncio.create_task(work.run())
    work.put(piece())
    await work.done()
    await asyncio.sleep(0)
    running.cancel()
    assert len(sliced) == len(written) == len({*sliced, *written}) / 2


async def running(exchange: FakeBinance, it: Live) -> None:
    """Wait until a feed streams, and give it all pairs."""
    await exchange.until(lambda: exchange.subscribed(ALL) and it.feed.pairs.confirmed and it.feed.sockets[0].active)
    await exchange.until(lambda: it.feed.judge.busiest and it.feed.work.is_done)
    it.market.pairs(PAIRS)


async def test_others_have_a_turn_between_the_rows_of_a_frame() -> None:
    async with FakeBinance(limits=limits()) as exchange, live(exchange, candle_bases=()) as it:
        await running(exchange, it)
        counts: list[int] = []

        async def neighbour() -> None:
            while not counts or counts[-1] < 2 * len(PAIRS):
                await asyncio.sleep(0)
                counts.append(len(said(it.sink.events)))

        exchange.inject_event(ALL, tickers(1.0, exchange.now_ms))
        exchange.inject_event(ALL, tickers(2.0, exchange.now_ms + 1))
        await asyncio.wait_for(neighbour(), 30)
        steps = [later - sooner for sooner, later in pairwise(counts)]
        assert max(steps) <= SLICE_ROWS
        assert said(it.sink.events) == each_once(1.0, 2.0)


async def test_a_connection_that_ends_amid_a_frame_loses_none_of_its_rows() -> None:
    async with FakeBinance(limits=limits()) as exchange, live(exchange, candle_bases=()) as it:
        await running(exchange, it)
        link = it.feed.sockets[0].link
        assert link is not None
        exchange.inject_event(ALL, tickers(1.0, exchange.now_ms))
        while not said(it.sink.events):  # noqa: ASYNC110 - the very turn counts
            await asyncio.sleep(0)
        assert len(said(it.sink.events)) < len(PAIRS)
        link.task.cancel()
        await exchange.until(lambda: len(said(it.sink.events)) == len(PAIRS))
        assert said(it.sink.events) == each_once(1.0)


@pytest.mark.parametrize("cause", ["frame", "subscribed", "answer", "connection", "demand"])
async def test_whatever_reaches_the_market_amid_a_frame_comes_after_it_live_and_on_the_tape(
    tmp_path: Path, cause: str
) -> None:
    recorder = Recorder(tmp_path / "tape", "ws://127.0.0.1", START_MS)
    async with FakeBinance(limits=limits()) as exchange, live(exchange, recorder=recorder, candle_bases=()) as it:
        await running(exchange, it)
        recorder.answer(rest.exchange_info(), rest.as_exchange_info(PAIRS, exchange.now_ms))
        feed, now_ms = it.feed, exchange.now_ms
        feed.work.put(feed._frame(frame(1.0, now_ms)))
        assert len(said(it.sink.events)) == SLICE_ROWS
        match cause:
            case "frame":
                feed.work.put(feed._frame(frame(2.0, now_ms)))
                assert len(said(it.sink.events)) == SLICE_ROWS
            case "subscribed":
                feed._subscribed({ALL})
            case "answer":
                await feed.questions.get(rest.tickers_24h(["BTCUSDT"]))
            case "connection":
                feed._connection("a", "host", "a test")
            case "demand":
                feed.want("ohlcv.C7.1m")
        if cause != "frame":
            assert len(said(it.sink.events)) == len(PAIRS)
            feed.work.put(feed._frame(frame(2.0, now_ms)))
        await feed.work.done()
        assert said(it.sink.events) == each_once(1.0, 2.0)
        told = list(it.sink.events)
    recorder.close()
    assert said(await played(tmp_path / "tape")) == said(told)


async def played(path: Path) -> list[Event]:
    """What a tape says."""
    sink = RecordingSink()
    market = ExchangeMarket(sink, Symbols(), BINANCE)
    feed = TapeFeed(open_tape(path), market, TapeClock(ManualClock()), 0.0, lambda: None)
    playing = asyncio.create_task(feed.run())
    async with asyncio.timeout(30):
        while feed.state != "ended":  # noqa: ASYNC110 - it never waits
            await asyncio.sleep(0)
    playing.cancel()
    return sink.events

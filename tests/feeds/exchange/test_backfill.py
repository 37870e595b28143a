"""What REST adds to the stream's candles: how soon, how many rows, how often again, and what is never made up."""

import asyncio

import pytest

from feeds.exchange.backfill import BackfillPolicy
from feeds.intervals import MINUTE_MS
from tests.fakes.binance import RestFault, SubscribeFault, withhold_closes
from tests.lab import TOPIC, Lab, lab

ETH = "ethusdt@kline_1m"


async def until_second(it: Lab, second: int) -> None:
    """Let the market trade until a minute is so old."""
    await it.until(lambda: it.exchange.now_ms % MINUTE_MS == second * 1000)


def without_last(rows: object) -> object:
    """An answer before the newest candle has had a trade."""
    assert isinstance(rows, list)
    return rows[:-1]


def newest(it: Lab, topic: str = TOPIC) -> int | None:
    """The open time of the candle that was said closed last."""
    return it.it.sink.opens(topic)[-1] if it.it.sink.opens(topic) else None


def rows_of(it: Lab, since: int) -> int:
    """How many rows REST has given at most in the requests from there on."""
    return sum(int(request.query["limit"]) for request in it.exchange.requests_to("klines")[since:])


async def test_a_quiet_candle_whose_closing_frame_is_lost_is_closed_from_rest_within_three_seconds() -> None:
    async with lab(candle_cadence_s=600.0) as it:
        await until_second(it, 50)
        it.exchange.quiet("BTCUSDT")
        it.exchange.tamper(withhold_closes)
        it.exchange.break_rest("klines", RestFault(change=without_last))
        before = len(it.exchange.requests_to("klines"))
        open_ms = it.exchange.candles("BTCUSDT", "1m")[-1].open_ms
        await it.pass_time(10.0)
        late_s = await it.until(lambda: newest(it) == open_ms)
        assert 1.5 <= late_s <= 3.25
        assert rows_of(it, before) <= 1 + 2, "one is missing"
        await it.pass_time(120.0)
        it.check()
        last = it.it.sink.rows(TOPIC, "closed")[-1]
        assert (last["trades"], last["volume"]) == (0, 0.0), "it came from REST, it was not made up"
        delays = it.it.feed.report()["close_delay_ms"]
        assert isinstance(delays, dict)
        assert 1500 <= delays["1m"]["p50"] <= delays["1m"]["p95"] <= delays["1m"]["max"] <= 3250


async def test_a_forming_candle_is_never_closed_before_its_end_even_if_rest_has_nothing_newer() -> None:
    async with lab(candle_cadence_s=600.0) as it:
        it.exchange.tamper(withhold_closes)
        it.exchange.break_rest("klines", RestFault(change=without_last))
        it.exchange.abort_all()
        await it.pass_time(150.0)
        it.check()


async def test_how_late_candles_close_is_measured_for_each_interval() -> None:
    async with lab() as it:
        it.it.feed.want("ohlcv.ETH.3m")
        await it.pass_time(200.0, step_s=0.5)
        delays = it.it.feed.report()["close_delay_ms"]
        assert isinstance(delays, dict)
        assert delays.keys() == {"1m", "3m"}
        assert all(0 <= each["p50"] <= each["p95"] <= each["max"] <= 1000 for each in delays.values())


async def test_a_row_that_cannot_be_read_is_no_gap_and_is_asked_for_again() -> None:
    async with lab() as it:
        await until_second(it, 30)

        def spoil(rows: object) -> object:
            assert isinstance(rows, list)
            rows[0][4] = "NaN"
            return rows

        it.exchange.abort_all()
        await it.settle()
        it.exchange.advance(200)
        it.exchange.break_rest("klines", RestFault(change=spoil), times=2)
        await it.until(lambda: newest(it) == it.exchange.candles("BTCUSDT", "1m")[-2].open_ms)
        it.check()
        assert it.it.market.rejected["c"] >= 1
        assert it.it.sink.gaps == []


async def test_what_the_exchange_had_lost_is_asked_for_again_seldom_and_said_as_a_correction() -> None:
    async with lab(backfill=BackfillPolicy(gap_first_s=60.0)) as it:
        await until_second(it, 30)
        start_ms = it.exchange.now_ms // MINUTE_MS * MINUTE_MS
        instrument = it.exchange.market.instruments["BTCUSDT"]
        it.exchange.lose_candles("BTCUSDT", start_ms, start_ms + 2 * MINUTE_MS)
        await it.until(lambda: it.it.sink.gaps == [(TOPIC, start_ms, start_ms + 2 * MINUTE_MS)], most_s=200.0)
        assert it.it.feed.report()["upstream_gaps"] == 1

        def asked() -> int:
            return len(
                it.exchange.requests_to("klines", startTime=str(start_ms), endTime=str(start_ms + 2 * MINUTE_MS - 1))
            )

        await it.pass_time(160.0, step_s=1.0)
        assert asked() == 1, "after 60 s, and then after 120 more"
        instrument.holes.clear()
        await it.pass_time(40.0, step_s=1.0)
        assert asked() == 2
        assert it.it.sink.opens(TOPIC, "corrected") == [start_ms, start_ms + MINUTE_MS]
        assert it.it.feed.report()["upstream_gaps"] == 0
        await it.pass_time(260.0, step_s=1.0)
        assert asked() == 2, "nothing is missing any more"
        opens = [each.open_time for each in it.it.market.series["BTCUSDT", "1m"].closed]
        assert opens == list(range(opens[0], opens[-1] + 1, MINUTE_MS))
        assert len(it.it.sink.gaps) == 1


@pytest.mark.parametrize("fault", [SubscribeFault.NO_ACK, SubscribeFault.SWALLOW])
async def test_history_does_not_wait_for_an_exchange_that_does_not_answer_a_subscription(fault: SubscribeFault) -> None:
    async with lab() as it:
        it.exchange.quiet("ETHUSDT")
        it.exchange.break_subscribe(fault)
        it.it.feed.want("ohlcv.ETH.1m")
        took_s = await it.until(lambda: it.it.market.series["ETHUSDT", "1m"].reached_back)
        assert took_s <= 3.0, "the answer is waited for 10 s"
        it.exchange.lively("ETHUSDT")
        await it.pass_time(100.0)
        await it.until(lambda: it.exchange.subscribed(ETH))
        it.check("ohlcv.ETH.1m", "ETHUSDT")


async def test_a_connection_lost_during_a_backfill_has_another_asked_at_once_after_it() -> None:
    async with lab() as it:
        await until_second(it, 30)
        it.exchange.break_rest("klines", RestFault(delay_s=0.2), times=1)
        before = len(it.exchange.requests_to("klines"))
        it.exchange.abort_all()
        while len(it.exchange.requests_to("klines")) == before:
            it.exchange.advance(0.25)
            it.clock.advance(0.25)
            await asyncio.sleep(0.002)
        it.it.feed.sockets[0].backoff.reset()
        it.exchange.abort_all()
        while len(it.exchange.all_connections) < 3:
            it.clock.advance(0.25)
            await asyncio.sleep(0.002)
        assert len(it.exchange.requests_to("klines")) == before + 1, "the first is still on its way"
        await it.settle()
        await it.settle()
        assert len(it.exchange.requests_to("klines")) == before + 2
        await it.pass_time(70.0)
        it.check()

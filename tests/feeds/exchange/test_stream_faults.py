"""Faults of the exchange's streams as the whole feed meets them: what it notices, how soon, and what is lost.

What one socket can notice by itself is in test_stream_socket.py, what a series does with disorder in test_candles.py,
and how the whole process goes through a proxy in test_process_faults.py.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import orjson
import pytest

from feeds.exchange import venue
from feeds.exchange.link import SocketPolicy
from feeds.exchange.market import ExchangeMarket
from feeds.exchange.venue import Opened, Prices
from feeds.intervals import MINUTE_MS
from feeds.model import Candle
from feeds.venues.binance import frames
from feeds.venues.binance.streams import ALL_MINI_TICKERS, kline_stream
from orchestrator import tolerant
from tests.fakes.binance import FakeBinance, Frame, Stall, SubscribeFault, silence
from tests.lab import KLINES, TOPIC, lab


def lost(*streams: str) -> Callable[[Sequence[Frame]], Iterable[Frame]]:
    """These streams say nothing, all others go on."""
    return lambda frames: [frame for frame in frames if frame.stream not in streams]


def repeated(stream: str) -> Callable[[Sequence[Frame]], Iterable[Frame]]:
    """A stream that says the same over and over."""
    first: list[Frame] = []

    def tamper(frames: Sequence[Frame]) -> Iterable[Frame]:
        for frame in frames:
            if frame.stream == stream:
                first.append(frame)
                yield first[0]
            else:
                yield frame

    return tamper


# --- a silent stall ---


async def test_a_connection_that_goes_silent_is_succeeded_within_three_cadences() -> None:
    async with lab() as it:
        (old,) = it.exchange.connections
        last = it.it.sink.of("price.BTC")[-1].ts
        old.stall = Stall.DATA
        took_s = await it.until(lambda: len(it.exchange.handshakes) == 2)
        assert took_s <= 3.0, "tickers come each second"
        await it.until(lambda: not old.is_open, most_s=3.0)
        blind_s = (next(each.ts for each in it.it.sink.of("price.BTC") if each.ts > last) - last) / 1000
        assert blind_s <= 5.0
        await it.pass_time(70.0)
        it.check()
        assert len(it.exchange.handshakes) == 2


async def test_one_dead_stream_is_asked_for_anew_within_three_cadences_and_its_connection_kept() -> None:
    async with lab() as it:
        fault = it.exchange.connections[0].tamper(lost(KLINES))
        took_s = await it.until(lambda: it.asked_anew == [[KLINES]])
        assert took_s <= 6.0, "candles come every two seconds"
        fault.stop()
        await it.pass_time(70.0)
        it.check()
        assert len(it.exchange.handshakes) == 1
        assert it.asked_anew == [[KLINES]]
        assert it.it.feed.sockets[0].report.last_error is None


async def test_where_asking_anew_does_not_help_the_connection_is_succeeded() -> None:
    async with lab() as it:
        it.exchange.connections[0].tamper(lost(KLINES))
        await it.until(lambda: len(it.exchange.handshakes) == 2)
        assert it.asked_anew == [[KLINES]]
        assert it.exchange.connections[0].is_open, "the old one is kept until the new one delivers"
        await it.until(lambda: len(it.exchange.connections) == 1, most_s=15.0)
        await it.pass_time(70.0)
        it.check()
        prices = [event.ts for event in it.it.sink.of("price.BTC")[1:]]
        assert prices == list(range(prices[0], prices[-1] + 1, 1000)), "the other streams never noticed"


@pytest.mark.parametrize("fault", ["one symbol", "repeats"])
async def test_a_symbol_that_is_dead_in_every_stream_or_repeats_itself_is_found_out(fault: str) -> None:
    async with lab() as it:
        staged = it.exchange.connections[0].tamper(silence("BTCUSDT") if fault == "one symbol" else repeated(KLINES))
        took_s = await it.until(lambda: it.asked_anew == [[KLINES]])
        assert took_s <= (6.0 if fault == "one symbol" else 8.0), "the first repetition is news"
        staged.stop()
        await it.pass_time(70.0)
        it.check()


async def test_a_stream_that_is_confirmed_and_never_speaks_is_asked_for_anew() -> None:
    async with lab() as it:
        eth = kline_stream("ETHUSDT", "1m")
        it.exchange.break_subscribe(SubscribeFault.PRETEND)
        it.it.feed.want("ohlcv.ETH.1m")
        await it.until(lambda: eth in it.it.feed.sockets[0].active)
        took_s = await it.until(lambda: it.asked_anew == [[eth]])
        assert took_s <= 6.0
        await it.until(lambda: it.exchange.subscribed(eth))
        await it.pass_time(70.0)
        it.check("ohlcv.ETH.1m", "ETHUSDT")


async def test_a_quiet_symbol_and_a_market_at_rest_restart_nothing() -> None:
    async with lab() as it:
        it.exchange.quiet("BTCUSDT")
        asked = len(it.exchange.requests)
        await it.pass_time(300.0, step_s=1.0)
        await it.pass_time(120.0, trading=False, step_s=1.0)
        it.exchange.lively("BTCUSDT")
        await it.pass_time(90.0, step_s=1.0)
        assert len(it.exchange.handshakes) == 1
        assert it.asked_anew == []
        assert len(it.exchange.requests) - asked <= 40, "a question each, ever more seldom"
        it.check()


async def test_with_rest_dead_too_silence_is_believed_in_the_end() -> None:
    async with lab(others=1) as it:
        await it.exchange.kill()
        it.exchange.hang_handshakes()
        await it.until(lambda: it.exchanges[1].subscribed(KLINES, ALL_MINI_TICKERS))
        it.exchanges[1].stall = Stall.DATA
        took_s = await it.until(lambda: len(it.exchanges[1].handshakes) == 2, most_s=40.0)
        assert took_s <= 25.0


# --- half-open ---


async def test_a_half_open_connection_is_succeeded_as_soon_as_a_silent_one() -> None:
    async with lab() as it:
        (old,) = it.exchange.connections
        old.stall = Stall.ALL
        assert await it.until(lambda: len(it.exchange.handshakes) == 2) <= 3.0
        await it.until(lambda: not old.is_open, most_s=3.0)
        await it.pass_time(70.0)
        it.check()


# --- the end that is known beforehand ---


class Witness:
    """Notes what leaves the exchange, each event once."""

    def __init__(self, exchange: FakeBinance) -> None:
        self.prices: list[tuple[int, float]] = []
        self.candles: list[tuple[int, int, bool]] = []
        exchange.tamper(self)

    def __call__(self, frames: Sequence[Frame]) -> Iterable[Frame]:
        for frame in frames:
            event = orjson.loads(frame.payload)
            if frame.stream == ALL_MINI_TICKERS:
                self.prices += [(row["E"], float(row["c"])) for row in event if row["s"] == "BTCUSDT"]
            elif frame.stream == KLINES:
                self.candles.append((event["k"]["t"], event["k"]["n"], event["k"]["x"]))
        return frames


def behind(pushes: int) -> Callable[[Sequence[Frame]], Iterable[Frame]]:
    """A connection that hears everything late."""
    held: list[list[Frame]] = []

    def tamper(frames: Sequence[Frame]) -> Iterable[Frame]:
        held.append(list(frames))
        return held.pop(0) if len(held) > pushes else []

    return tamper


async def test_fifty_rotations_lose_no_event_and_double_none_and_parse_each_frame_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parsed = 0
    reached_the_market: Counter[type] = Counter()

    def counted(raw: bytes) -> object:
        nonlocal parsed
        parsed += 1
        return tolerant.read_json(raw)

    take = ExchangeMarket.part

    def part(self: ExchangeMarket, opened: Opened, start: int = 0, end: int | None = None) -> venue.Frame | None:
        taken = take(self, opened, start, end)
        reached_the_market[type(taken)] += 1
        return taken

    monkeypatch.setattr(frames, "read_json", counted)
    monkeypatch.setattr(ExchangeMarket, "part", part)
    # Every other connection is a second behind, so candles may well come three seconds apart.
    quick = SocketPolicy(life_jitter_s=3.0, overlap_s=6.0)
    async with lab(socket=quick, life_s=8.0, candle_cadence_s=2.5) as it:
        witness = Witness(it.exchange)
        await it.pass_time(1.0)
        first_price, first_candle = len(it.it.sink.of("price.BTC")), len(it.it.sink.of(TOPIC))
        witness.prices.clear()
        witness.candles.clear()
        report = it.it.feed.sockets[0].report
        seen: set[int] = set()
        while report.rotations < 50:
            await it.pass_time(1.0, step_s=0.5)
            for connection in it.exchange.connections:
                if connection.number not in seen:
                    seen.add(connection.number)
                    connection.tamper(behind(len(seen) % 2))
        it.exchange.heal()
        await it.settle()
        told = [(event.ts, event.data["price"]) for event in it.it.sink.of("price.BTC")[first_price:]]
        late = len(witness.prices) - len(told)
        assert 0 <= late <= 2, "what the last connection has not delivered yet"
        assert told == witness.prices[: len(told)]
        candles = [
            (event.data["open_time"], event.data["trades"], event.data["closed"])
            for event in it.it.sink.of(TOPIC)[first_candle:]
        ]
        assert candles == witness.candles[: len(candles)]
        assert len(witness.candles) - len(candles) <= 2
        it.check()
        assert len(it.exchange.requests_to("klines")) == 1, "nothing was ever missing"
        assert Counter(each.status for each in it.exchange.handshakes) == {101: report.connects}
        assert it.exchange.violations == []
        assert parsed == report.frames > 100
        assert reached_the_market.keys() == {Prices, Candle}, "answers to messages end in the link"


async def test_an_announced_shutdown_costs_neither_an_event_nor_a_second() -> None:
    async with lab(others=1) as it:
        witness = Witness(it.exchange)
        await it.pass_time(2.0)
        (old,) = it.exchange.connections
        it.exchange.announce_shutdown()
        await it.until(lambda: not old.is_open)
        assert it.exchanges[1].subscribed(KLINES, ALL_MINI_TICKERS), "the other host serves now"
        stamps = [event.ts for event in it.it.sink.of("price.BTC")]
        await it.pass_time(5.0)
        assert [event.ts for event in it.it.sink.of("price.BTC")][len(stamps)] == stamps[-1] + 1000
        assert witness.prices
        assert it.it.feed.sockets[0].report.last_rotation == "its server shuts down"


async def test_a_connection_can_be_rotated_on_request() -> None:
    async with lab() as it:
        it.it.feed.sockets[0].rotate("asked to")
        await it.until(lambda: it.it.feed.sockets[0].report.rotations == 1, most_s=5.0)
        assert it.it.feed.sockets[0].report.last_rotation == "asked to"


# --- torn off ---


async def test_a_connection_torn_off_in_mid_frame_costs_the_missing_rows_and_no_more() -> None:
    async with lab() as it:
        await it.until(lambda: it.exchange.now_ms % MINUTE_MS == 50_000)
        before = len(it.exchange.requests_to("klines"))
        it.exchange.connections[0].reset_mid_frame()
        it.exchange.refuse_handshakes(503, times=4)
        await it.until(lambda: it.exchange.subscribed(KLINES))
        await it.until(lambda: it.it.sink.opens(TOPIC)[-1:] == [it.exchange.candles("BTCUSDT", "1m")[-2].open_ms])
        await it.pass_time(70.0)
        it.check()
        for request in it.exchange.requests_to("klines")[before:]:
            missing = (it.exchange.now_ms - int(request.query["startTime"])) // MINUTE_MS
            assert int(request.query["limit"]) <= missing + 2

"""What every description of an exchange must hold, so that the feed, a tape and a market can rely on it.

A new exchange passes this file by one more entry in CASES.
"""

import copy
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.exchange.market import ExchangeMarket
from feeds.exchange.venue import ALL_PAIRS, Ack, Act, CandleAnswer, Prices, Shutdown, StreamName, Unused, Venue
from feeds.fields import BadFieldError, Rows
from feeds.intervals import INTERVALS, STEP_MS
from feeds.model import Candle, Pair
from feeds.symbols import Symbols
from feeds.venues.binance.description import BINANCE
from orchestrator import repairs
from orchestrator.errors import Banned, Blocked, Malformed, ProviderError, RateLimited, Unavailable
from tests.feeding import RecordingSink, answer, read_frame

ROOT = Path(__file__).parents[3]
SAMPLES = ROOT / "tests/samples"
RECEIVED_MS = 1_795_305_601_291
LONGEST_URL = 8192
MOST_BODY_BYTES = 64 * 1024


@dataclass(frozen=True)
class Case:
    """An exchange with samples of what it sends. A frame is its JSON.

    `ticker(symbol, price)` makes a frame with one ticker, `ack(number)` the answer to the message of that number.
    """

    venue: Venue
    hosts: tuple[str, ...]
    tickers: Any
    candles: tuple[Any, ...]
    acks: tuple[Any, ...]
    refusals: tuple[Any, ...]
    shutdowns: tuple[Any, ...]
    unused: tuple[Any, ...]
    pairs: Any
    prices: Any
    candle_rows: Any
    ticker: Callable[[str, str], Any]
    ack: Callable[[int], Any]
    rows_of: Callable[[Any], list[dict[str, Any]]]
    most_streams_per_message: int

    def __str__(self) -> str:
        return self.venue.name

    @property
    def market_frames(self) -> tuple[Any, ...]:
        return (self.tickers, *self.candles)

    @property
    def all_frames(self) -> tuple[Any, ...]:
        return (*self.market_frames, *self.acks, *self.refusals, *self.shutdowns, *self.unused)


def binance_case() -> Case:
    def sample(name: str) -> Any:
        return orjson.loads((SAMPLES / "binance" / f"{name}.json").read_bytes())

    control = sample("ws_control")
    tickers = sample("ws_mini_tickers_combined")
    tickers["data"][1]["E"] += 5
    return Case(
        BINANCE,
        ("wss://stream.binance.com:9443", "wss://stream.binance.com:9443/ws/", "ws://127.0.0.1:9/stream"),
        tickers,
        (
            sample("ws_kline_combined"),
            {"stream": "btcusdt@kline_1m", "data": sample("ws_kline_closed")},
        ),
        tuple(control["done"]),
        tuple(control["refused"]),
        tuple(control["shutdown"]),
        tuple(sample("ws_unused")),
        sample("rest_exchange_info"),
        sample("rest_tickers_mini"),
        sample("rest_klines"),
        lambda symbol, price: {
            "stream": "!miniTicker@arr",
            "data": [{"e": "24hrMiniTicker", "E": RECEIVED_MS, "s": symbol, "c": price}],
        },
        lambda number: {"result": None, "id": number},
        lambda frame: frame["data"],
        200,
    )


CASES = [binance_case()]
CASE = pytest.mark.parametrize("case", CASES, ids=str)


def test_every_exchange_is_tried_here() -> None:
    described = {path.stem for path in (ROOT / "feeds/venues").iterdir() if not path.name.startswith("__")}
    assert {case.venue.name for case in CASES} == described


def market_of(case: Case) -> tuple[ExchangeMarket, RecordingSink]:
    """A market that knows every pair of the samples, and follows every candle series of them."""
    sink = RecordingSink()
    market = ExchangeMarket(sink, Symbols(quotes=("USDT", "BTC", "USD", "EUR")), case.venue)
    symbols = {price.symbol for price in prices_of(case, case.tickers)}
    market.pairs([Pair(symbol, f"C{number}", "USDT") for number, symbol in enumerate(sorted(symbols))])
    for frame in case.candles:
        candle = read(case, frame)
        assert isinstance(candle, Candle)
        market.follow((candle.symbol, candle.interval)).begin()
    return market, sink


def raw(frame: Any) -> bytes:
    return json.dumps(frame).encode()


def read(case: Case, frame: Any) -> object:
    return read_frame(raw(frame), RECEIVED_MS, case.venue)


def prices_of(case: Case, frame: Any) -> list[Any]:
    prices = read(case, frame)
    assert isinstance(prices, Prices)
    return prices.rows.good


# --- frames ---


@CASE
def test_every_frame_is_read_into_the_one_vocabulary(case: Case) -> None:
    assert len(prices_of(case, case.tickers)) >= 2
    assert all(isinstance(read(case, frame), Candle) for frame in case.candles)
    for frame in case.acks:
        ack = read(case, frame)
        assert isinstance(ack, Ack)
        assert ack.error is None
    for frame in case.refusals:
        ack = read(case, frame)
        assert isinstance(ack, Ack)
        assert ack.error
    assert all(isinstance(read(case, frame), Shutdown) for frame in case.shutdowns)
    assert all(isinstance(read(case, frame), Unused) for frame in case.unused)


@CASE
def test_only_frames_about_a_connection_end_in_the_link(case: Case) -> None:
    frames = case.venue.frames
    for frame in (*case.acks, *case.refusals, *case.shutdowns):
        opened = frames.open(raw(frame), RECEIVED_MS)
        assert frames.control_of(opened) == frames.read(opened)
        assert frames.event_of(opened) is None
    for frame in (*case.market_frames, *case.unused):
        assert frames.control_of(frames.open(raw(frame), RECEIVED_MS)) is None


@CASE
def test_a_frame_with_market_data_names_a_stream_that_can_be_subscribed_to(case: Case) -> None:
    frames, streams = case.venue.frames, case.venue.streams
    event = frames.event_of(frames.open(raw(case.tickers), RECEIVED_MS))
    assert event is not None
    assert event[0] == streams.all_tickers
    assert event[1] == max(price.ts for price in prices_of(case, case.tickers))
    for frame in case.candles:
        candle = read(case, frame)
        assert isinstance(candle, Candle)
        stream = streams.candle_stream(candle.symbol, candle.interval)
        assert frames.event_of(frames.open(raw(frame), RECEIVED_MS)) == (stream, candle.ts)


@CASE
def test_the_candles_are_seen_forming_and_closed(case: Case) -> None:
    candles = [read(case, frame) for frame in case.candles]
    assert {candle.closed for candle in candles if isinstance(candle, Candle)} == {False, True}


@CASE
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_slices_of_a_frame_make_the_whole_of_it(case: Case, size: int) -> None:
    frames = case.venue.frames
    frame = copy.deepcopy(case.tickers)
    rows = case.rows_of(frame)
    rows[:] = [*rows, {}, *rows, 5, *rows]  # type: ignore[list-item]
    opened = frames.open(raw(frame), RECEIVED_MS)
    assert opened.rows == len(rows)
    whole = frames.read(opened)
    assert isinstance(whole, Prices)
    good, rejected = [], Counter[str]()
    for start in range(0, opened.rows, size):
        part = frames.read(opened, start, start + size)
        assert isinstance(part, Prices)
        good += part.rows.good
        rejected += part.rows.rejected
    assert good == whole.rows.good
    assert rejected == whole.rows.rejected
    assert rejected.total() == 2


@CASE
@given(
    digits=st.text("0123456789", min_size=1, max_size=15).filter(lambda text: int(text) > 0), place=st.integers(0, 15)
)
def test_a_price_of_fifteen_digits_is_the_number_that_its_text_means(case: Case, digits: str, place: int) -> None:
    text = f"{digits[:place] or '0'}.{digits[place:] or '0'}"
    (price,) = prices_of(case, case.ticker("BTCUSDT", text))
    assert Decimal(repr(price.price)) == Decimal(text)


@CASE
def test_times_are_unix_milliseconds(case: Case) -> None:
    year_2020, year_2100 = 1_577_836_800_000, 4_102_444_800_000
    for price in prices_of(case, case.tickers):
        assert isinstance(price.ts, int)
        assert year_2020 < price.ts < year_2100
    for frame in case.candles:
        candle = read(case, frame)
        assert isinstance(candle, Candle)
        assert year_2020 < candle.open_time < candle.close_time < year_2100
        assert candle.open_time % STEP_MS[candle.interval] == 0
        assert candle.close_time == candle.open_time + STEP_MS[candle.interval] - 1


# --- odd frames ---


def renamed(value: Any) -> Iterator[Any]:
    """Yield the same document with one key renamed, for every key in it."""
    if isinstance(value, dict):
        for key in value:
            yield {("renamed" if each == key else each): value[each] for each in value}
            for inner in renamed(value[key]):
                yield value | {key: inner}
    elif isinstance(value, list):
        for place, each in enumerate(value[:2]):
            for inner in renamed(each):
                yield [*value[:place], inner, *value[place + 1 :]]


@CASE
def test_a_frame_of_which_any_key_is_renamed_is_read_or_counted_and_loses_nothing_else(case: Case) -> None:
    for frame in case.market_frames:
        for odd in renamed(frame):
            market, sink = market_of(case)
            opened = case.venue.frames.open(raw(odd), RECEIVED_MS)
            taken = market.part(opened)
            assert taken is not None or market.rejected.total() == 1, "counted"
            if isinstance(taken, Prices):
                rows = len(case.rows_of(odd)) if frame is case.tickers else 1
                assert len(taken.rows.good) + taken.rows.rejected.total() == rows
            before = len(sink.events)
            market.part(case.venue.frames.open(raw(case.ticker("BTCUSDT", "86251.5")), RECEIVED_MS))
            assert len(sink.events) == before + 1, "the next frame is taken as ever"


@CASE
def test_a_row_that_cannot_be_read_costs_itself_alone(case: Case) -> None:
    sound = prices_of(case, case.tickers)
    for key in case.rows_of(case.tickers)[0]:
        frame = copy.deepcopy(case.tickers)
        row = case.rows_of(frame)[0]
        row["renamed"] = row.pop(key)
        opened = case.venue.frames.open(raw(frame), RECEIVED_MS)
        with repairs.noted():
            prices = case.venue.frames.read(opened)
        assert isinstance(prices, Prices)
        assert prices.rows.good[-len(sound) + 1 :] == sound[1:]
        assert len(prices.rows.good) + prices.rows.rejected.total() == len(sound)


@CASE
def test_a_damaged_frame_is_counted_and_harms_nothing(case: Case) -> None:
    for frame in case.all_frames:
        whole = raw(frame)
        for cut in {1, len(whole) // 2, len(whole) - 1}:
            for damaged in (whole[:cut], b"\xff" + whole[:cut], b"<html>" + whole):
                market, sink = market_of(case)
                opened = case.venue.frames.open(damaged, RECEIVED_MS)
                assert case.venue.frames.event_of(opened) is None
                assert market.part(opened) is None
                assert market.rejected.total() == 1
                assert sink.events == []


@CASE
@pytest.mark.parametrize("odd", [None, True, 5, 1.5, "text", [], {}, [[]], [5], {"a": 1}, [{"a": 1}]])
def test_json_of_no_known_kind_is_an_error_of_ours_or_unused(case: Case, odd: object) -> None:
    frames = case.venue.frames
    opened = frames.open(raw(odd), RECEIVED_MS)
    assert frames.control_of(opened) is None
    assert frames.event_of(opened) is None
    try:
        taken = frames.read(opened)
    except (Malformed, BadFieldError):
        return
    assert isinstance(taken, Unused) or (isinstance(taken, Prices) and not taken.rows.good)


# --- streams ---


@CASE
@pytest.mark.parametrize("act", Act)
@pytest.mark.parametrize("count", [1, 7, 1000])
def test_messages_cover_every_stream_once_and_within_the_limits(case: Case, act: Act, count: int) -> None:
    rules = case.venue.streams
    left = [f"{rules.candle_stream(f'C{number}USDT', '1m')}" for number in range(count)]
    covered: list[str] = []
    for number in itertools.count(1):
        command = rules.command(act, left, number)
        assert 0 < len(command.streams) <= case.most_streams_per_message
        assert len(command.message) <= MOST_BODY_BYTES
        orjson.loads(command.message)
        covered += command.streams
        left = [stream for stream in left if stream not in command.streams]
        if not left:
            break
    assert len(covered) == len(set(covered)) == count


@CASE
def test_an_answer_belongs_to_the_message_of_its_number(case: Case) -> None:
    for number in (1, 2, 10_000):
        opened = case.venue.frames.open(raw(case.ack(number)), RECEIVED_MS)
        ack = case.venue.frames.control_of(opened)
        assert isinstance(ack, Ack)
        assert ack.request_id == number or ack.streams is not None


@CASE
@pytest.mark.parametrize("count", [0, 1, 1000])
def test_an_address_is_on_the_host_and_brings_some_of_the_streams(case: Case, count: int) -> None:
    rules = case.venue.streams
    wanted = [f"{rules.candle_stream(f'币C{number}USDT', '1m')}" for number in range(count)]
    for host in case.hosts:
        address = rules.address(host, wanted)
        assert address.url.startswith(host.split("//")[0] + "//" + host.split("/")[2] + "/")
        assert address.url.isascii()
        assert len(address.url) <= LONGEST_URL
        assert address.streams <= set(wanted)


@CASE
def test_intervals_are_mapped_both_ways(case: Case) -> None:
    venue = case.venue
    assert venue.intervals.keys() <= set(INTERVALS)
    assert len(set(venue.intervals.values())) == len(venue.intervals)
    names = set()
    for interval in venue.intervals:
        stream = venue.streams.candle_stream("BTCUSDT", interval)
        if stream is not None:
            names.add(stream)
            name = venue.streams.parse_name(stream)
            assert (name.symbol, name.interval) == ("BTCUSDT", interval)
        request = venue.rest.candles("BTCUSDT", interval, 2, start=0)
        answered = venue.rest.read_answer(request, answer(case.candle_rows))
        assert isinstance(answered, CandleAnswer)
        assert (answered.key, answered.start) == (("BTCUSDT", interval), 0)
        assert {candle.interval for candle in answered.rows.good} == {interval}
    assert len(names) in (0, len(venue.intervals)), "each of them, or none"
    for stream, symbol in venue.streams.price_streams(["BTCUSDT"]).items():
        name = venue.streams.parse_name(stream)
        assert name.interval is None
        assert name.symbol == symbol or symbol == ALL_PAIRS
    assert venue.streams.parse_name(venue.streams.ticker_stream("BTCUSDT")) == StreamName("BTCUSDT", None)


@CASE
def test_the_limits_make_sense(case: Case) -> None:
    rules, rest = case.venue.streams, case.venue.rest
    assert rules.streams_per_connection >= 1
    assert rules.command_gap_s > 0
    assert rules.life_s > 60
    assert 0 < rules.ticker_cadence_s <= 60
    assert 0 < rules.candle_cadence_s <= 60
    assert rest.candles_per_answer >= 2
    assert rest.policy.allowances
    most = min(allowance.weight for allowance in rest.policy.allowances)
    for request in (rest.pairs(), rest.prices(()), rest.prices(["BTCUSDT"]), rest.candles("BTCUSDT", "1m", 1)):
        assert 0 < request.weight <= most


# --- REST ---


@CASE
def test_an_answer_is_read_the_same_by_its_reader_and_by_its_request(case: Case) -> None:
    rest = case.venue.rest
    pairs, prices = answer(case.pairs), answer(case.prices)
    assert rest.read_answer(rest.pairs(), pairs) == rest.read_pairs(pairs)
    assert rest.read_answer(rest.prices(()), prices) == rest.read_prices(prices)
    key = ("BTCUSDT", "1m")
    candles = rest.read_candles(answer(case.candle_rows), *key)
    assert rest.read_answer(rest.candles(*key, 5), answer(case.candle_rows)) == CandleAnswer(key, None, candles)
    assert isinstance(candles, Rows)
    opens = [candle.open_time for candle in candles.good]
    assert len(opens) >= 2
    assert opens == sorted(set(opens))
    assert not any(candle.closed for candle in candles.good)


@CASE
def test_pairs_that_were_written_are_read_back_as_they_were(case: Case) -> None:
    rest = case.venue.rest
    pairs = rest.read_pairs(answer(case.pairs))
    assert {pair.trading for pair in pairs} == {True, False}
    assert rest.read_pairs(rest.write_pairs(pairs, RECEIVED_MS)) == pairs


@CASE
@pytest.mark.parametrize("body", [b"", b"<html>captcha</html>", b"nope", b"null", b"5", b"NaN", b'"text"'])
def test_a_body_of_another_kind_is_the_providers_error(case: Case, body: bytes) -> None:
    rest = case.venue.rest
    readers: list[Callable[[Any], object]] = [
        rest.read_pairs,
        rest.read_prices,
        lambda response: rest.read_candles(response, "BTCUSDT", "1m"),
    ]
    for reader in readers:
        with pytest.raises(ProviderError):
            reader(answer(body))


REFUSED: Mapping[int, type[ProviderError]] = {
    418: Banned, 429: RateLimited, 403: Blocked, 451: Blocked, 500: Unavailable, 503: Unavailable,
}  # fmt: skip


@CASE
@pytest.mark.parametrize("status", REFUSED)
def test_a_refusal_means_whose_fault_it_is(case: Case, status: int) -> None:
    refused = case.venue.rest.refusal(case.venue.name, answer(b"", status))
    assert isinstance(refused, REFUSED[status])


@CASE
def test_data_is_never_refused(case: Case) -> None:
    for body in (case.pairs, case.prices, case.candle_rows):
        assert case.venue.rest.refusal(case.venue.name, answer(body)) is None


# --- its name ---


@CASE
def test_what_is_published_names_the_exchange(case: Case) -> None:
    market, sink = market_of(case)
    for frame in case.market_frames:
        market.part(case.venue.frames.open(raw(frame), RECEIVED_MS))
    assert sink.events
    assert {event.source for event in sink.events} == {case.venue.name}

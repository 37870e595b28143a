"""What Binance says, read: every documented shape, and every way in which one may be broken."""

import copy
import json
import math
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import cast

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from feeds.exchange.venue import Ack, Act, Frame, Prices, Shutdown, Unused
from feeds.fields import BadFieldError, Rows
from feeds.model import Candle, Pair, Price
from feeds.venues.binance import rest, streams
from feeds.venues.binance.refusals import refusal
from orchestrator.errors import (
    BadQuery,
    Banned,
    Blocked,
    Malformed,
    NotFound,
    ProviderError,
    RateLimited,
    Unauthorized,
    Unavailable,
)
from orchestrator.http import HttpRequest, HttpResponse
from orchestrator.retry import MAX_RETRY_AFTER_S
from orchestrator.tolerant import read_json
from tests.feeding import answer, read_frame

SAMPLES = Path(__file__).parents[2] / "samples" / "binance"
EVENT_MS = 1_795_305_601_234
RECEIVED_MS = EVENT_MS + 57


@cache
def raw_sample(name: str) -> bytes:
    return (SAMPLES / f"{name}.json").read_bytes()


def sample(name: str) -> object:
    return orjson.loads(raw_sample(name))


def frame(value: object) -> Frame:
    return read_frame(orjson.dumps(value), RECEIVED_MS)


def only_price(value: object) -> Price:
    read = frame(value)
    assert isinstance(read, Prices)
    (price,) = read.rows.good
    return price


BITCOIN = Price("BTCUSDT", 86250.12, EVENT_MS, 85000.0, 87000.0, 84500.5, 18234.5, 1565000000.25)


# --- stream frames ---


def test_all_mini_tickers_come_as_one_array_of_prices() -> None:
    read = frame(sample("ws_mini_tickers_combined"))
    assert isinstance(read, Prices)
    assert read.finer is None
    assert [price.symbol for price in read.rows.good] == ["BTCUSDT", "币安人生USDT"]
    assert read.rows.good[0] == BITCOIN
    assert not read.rows.rejected


@pytest.mark.parametrize("name", ["ws_mini_ticker", "ws_ticker_24hr"])
def test_one_ticker_alone_is_a_price_too(name: str) -> None:
    assert only_price(sample(name)) == BITCOIN


def test_a_kline_is_a_forming_or_a_closed_candle() -> None:
    forming = frame(sample("ws_kline_combined"))
    assert forming == Candle(
        "BTCUSDT", "1m", 1795305600000, 1795305659999, 86240.0, 86260.0, 86230.1, 86250.12,
        3.25, 280312.5, 42, False, EVENT_MS,
    )  # fmt: skip
    closed = frame(sample("ws_kline_closed"))
    assert isinstance(closed, Candle)
    assert (closed.closed, closed.trades, closed.ts) == (True, 57, 1795305660004)


@pytest.mark.parametrize(
    ("name", "finer", "price", "ts"),
    [
        ("ws_agg_trade_combined", "trade", 2815.4, EVENT_MS),
        ("ws_trade", "trade", 2815.4, EVENT_MS),
        ("ws_book_ticker_combined", "book", 2815.4, RECEIVED_MS),
        ("ws_book_ticker_timed", "book", 2815.4, EVENT_MS),
        ("ws_book_ticker", "book", 2815.4, RECEIVED_MS),
    ],
)
def test_trades_and_books_are_prices_that_name_where_they_come_from(
    name: str, finer: str, price: float, ts: int
) -> None:
    read = frame(sample(name))
    assert isinstance(read, Prices)
    assert (read.finer, read.rows.good) == (finer, [Price("ETHUSDT", price, ts)])


def test_frames_of_which_nothing_is_made_are_no_errors() -> None:
    for each in cast("list[object]", sample("ws_unused")):
        assert isinstance(frame(each), Unused)


def test_the_documented_example_of_a_kline_is_read_although_its_low_lies_above_its_open() -> None:
    kline = cast("dict[str, dict[str, object]]", sample("ws_kline_closed"))
    fields = kline["k"] | {"o": "0.0010", "c": "0.0020", "h": "0.0025", "l": "0.0015"}
    read = frame(kline | {"k": fields})
    assert isinstance(read, Candle)
    assert (read.open, read.low) == (0.001, 0.0015)


def test_control_answers_say_whether_it_was_done() -> None:
    control = cast("dict[str, list[dict[str, object]]]", sample("ws_control"))
    for each in control["done"]:
        assert frame(each) == Ack(each["id"], None)
    for each in control["refused"]:
        read = frame(each)
        assert isinstance(read, Ack)
        assert read.request_id == each.get("id")
        assert read.error is not None
        assert "Invalid" in read.error or "Unknown" in read.error
    for each in control["shutdown"]:
        assert frame(each) == Shutdown()


@pytest.mark.parametrize(
    "raw",
    [b"", b"<html>", b"nope", b"1", b'"text"', b"null", b"{}", b'{"a":1}', b'{"x":NaN}',
     b'{"stream":"btcusdt@kline_1m","data":null}', b'{"stream":"btcusdt@kline_1m","data":5}',
     b"[" * 5000, b'{"c":1e400}'],
)  # fmt: skip
def test_a_frame_of_no_known_outline_is_malformed(raw: bytes) -> None:
    with pytest.raises(Malformed):
        read_frame(raw, RECEIVED_MS)


def test_sixteen_digit_times_are_microseconds() -> None:
    row = cast("dict[str, object]", sample("ws_mini_ticker"))
    assert only_price(row | {"E": EVENT_MS * 1000 + 999}).ts == EVENT_MS
    kline = cast("dict[str, dict[str, object]]", sample("ws_kline_closed"))
    fields = kline["k"] | {"t": 1795305600000000, "T": 1795305659999999}
    read = frame(kline | {"E": 1795305660004123, "k": fields})
    assert isinstance(read, Candle)
    assert (read.open_time, read.close_time, read.ts) == (1795305600000, 1795305659999, 1795305660004)


@pytest.mark.parametrize(
    ("field", "value", "blamed"),
    [("h", "86000.0", "l"), ("l", "86299.0", "l"), ("T", 1795305600000, "T"), ("i", "7m", "i"), ("x", "true", "x"),
     ("x", 1, "x"), ("t", 1795305700000, "t")],
)  # fmt: skip
def test_a_candle_that_contradicts_itself_is_none(field: str, value: object, blamed: str) -> None:
    kline = cast("dict[str, dict[str, object]]", sample("ws_kline_combined"))
    kline["data"]["k"] = cast("dict[str, object]", kline["data"]["k"]) | {field: value}
    with pytest.raises(BadFieldError) as bad:
        frame(kline)
    assert bad.value.name == blamed


def test_a_book_that_is_crossed_or_adds_up_to_nothing_finite_is_no_price() -> None:
    book = cast("dict[str, object]", sample("ws_book_ticker"))
    for changed in ({"b": "2815.6"}, {"b": "1.7e308", "a": "1.7e308"}, {"b": "0"}):
        with pytest.raises(BadFieldError):
            frame(book | changed)


# --- REST answers ---


def test_exchange_info_tells_pairs_and_which_of_them_trade() -> None:
    pairs = rest.read_exchange_info(answer(sample("rest_exchange_info")))
    assert pairs[:4] == [
        Pair("BTCUSDT", "BTC", "USDT"),
        Pair("ETHBTC", "ETH", "BTC"),
        Pair("USDCUSDT", "USDC", "USDT"),
        Pair("1INCHUSDT", "1INCH", "USDT"),
    ]
    assert [pair.symbol for pair in pairs if not pair.trading] == ["MATICUSDT", "XYZUSDT"]


def test_pairs_that_were_written_down_are_read_back_as_they_were() -> None:
    pairs = rest.read_exchange_info(answer(sample("rest_exchange_info")))
    assert rest.read_exchange_info(rest.as_exchange_info(pairs, RECEIVED_MS)) == pairs


def test_day_tickers_are_prices_but_not_of_a_pair_that_does_not_trade() -> None:
    rows = rest.read_tickers_24h(answer(sample("rest_tickers_mini")))
    assert rows.good[0] == BITCOIN
    assert [price.symbol for price in rows.good] == ["BTCUSDT", "ETHBTC"]
    assert not rows.rejected, "a delisted pair isn't a fault of the answer"
    assert rest.read_tickers_24h(answer(sample("rest_ticker_full"))).good == [BITCOIN]


def test_klines_come_ascending_and_say_nothing_of_being_closed() -> None:
    body = cast("list[object]", sample("rest_klines"))
    rows = rest.read_klines(answer(body[::-1], received_ms=RECEIVED_MS), "BTCUSDT", "1m").good
    assert [row.open_time for row in rows] == [1795305480000, 1795305540000, 1795305600000]
    assert rows[0] == Candle(
        "BTCUSDT", "1m", 1795305480000, 1795305539999, 86240.0, 86260.0, 86230.1, 86250.12,
        3.25, 280312.5, 42, False, 1795305539999,
    )  # fmt: skip
    assert rows[-1].ts == RECEIVED_MS, "a candle that is still forming was true when it was received"


@pytest.mark.parametrize("body", [b"", b"<html>captcha</html>", b"{}", b"[]", b"nope", b"null", b"5", b"NaN"])
def test_an_answer_of_another_shape_is_malformed_or_empty(body: bytes) -> None:
    with pytest.raises(Malformed):
        rest.read_exchange_info(answer(body))
    for read in (rest.read_tickers_24h, lambda response: rest.read_klines(response, "BTCUSDT", "1m")):
        try:
            assert read(answer(body)).good == []
        except Malformed:
            assert body != b"[]"


def test_an_error_inside_a_200_is_that_error() -> None:
    errors = cast("dict[str, object]", sample("rest_errors"))
    with pytest.raises(RateLimited):
        rest.read_klines(answer(errors["too_much_weight"]), "BTCUSDT", "1m")
    with pytest.raises(Banned):
        rest.read_tickers_24h(answer(errors["banned"], received_ms=EVENT_MS))
    with pytest.raises(Unavailable):
        rest.read_exchange_info(answer(errors["busy"]))


# --- refusals ---


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, "bad_symbol", NotFound),
        (400, "bad_interval", BadQuery),
        (400, "bad_parameter", BadQuery),
        (400, b"", BadQuery),
        (401, b"{}", Unauthorized),
        (403, b"<html>WAF</html>", Blocked),
        (404, b"<html>not here</html>", Malformed),
        (418, "banned", Banned),
        (429, "too_much_weight", RateLimited),
        (429, b"<html>", RateLimited),
        (451, "geo_block", Blocked),
        (500, b"", Unavailable),
        (503, "busy", Unavailable),
        (504, "timeout", Unavailable),
        (502, b"<html>bad gateway</html>", Unavailable),
        (302, b"", Malformed),
        (200, b"<html>captcha</html>", Malformed),
        (200, b"", Malformed),
        (200, b"   ", Malformed),
    ],
)
def test_a_status_and_its_body_mean_one_kind_of_error(
    status: int, body: str | bytes, kind: type[ProviderError]
) -> None:
    errors = cast("dict[str, object]", sample("rest_errors"))
    refused = refusal("binance", answer(body if isinstance(body, bytes) else errors[body], status))
    assert type(refused) is kind


def test_an_answer_with_json_is_not_refused() -> None:
    assert refusal("binance", answer(b" [1]")) is None
    assert refusal("binance", answer(b'\r\n {"serverTime":1}')) is None


def test_how_long_to_wait_is_what_the_header_says_else_what_the_ban_says() -> None:
    banned = cast("dict[str, object]", sample("rest_errors"))["banned"]
    said = refusal("binance", answer(banned, 418, EVENT_MS, retry_after="120"))
    assert isinstance(said, Banned)
    assert said.retry_after_s == 120.0

    unsaid = refusal("binance", answer(banned, 418, EVENT_MS))
    assert isinstance(unsaid, Banned)
    assert unsaid.retry_after_s == 300.0

    over = refusal("binance", answer(banned, 418, EVENT_MS + 10**9))
    assert isinstance(over, Banned)
    assert over.retry_after_s == 0.0

    for_ever = {"code": -1003, "msg": "IP banned until 9999999999999."}
    clamped = refusal("binance", answer(for_ever, 418, EVENT_MS))
    assert isinstance(clamped, Banned)
    assert clamped.retry_after_s == MAX_RETRY_AFTER_S


def test_a_ban_is_counted_by_the_exchanges_clock_not_by_ours() -> None:
    banned = cast("dict[str, object]", sample("rest_errors"))["banned"]
    refused = refusal("binance", answer(banned, 418, EVENT_MS + 3_600_000, date="Sun, 22 Nov 2026 00:00:01 GMT"))
    assert isinstance(refused, Banned)
    assert refused.retry_after_s == pytest.approx(300.234)


# --- questions ---


def test_questions_are_asked_as_documented() -> None:
    assert rest.klines("BTCUSDT", "1m", 5000, start=1, end=2) == HttpRequest(
        "/api/v3/klines",
        {"symbol": "BTCUSDT", "interval": "1m", "limit": "1000", "startTime": "1", "endTime": "2"},
        weight=2,
    )
    assert rest.klines("BTCUSDT", "1M", 500).params == {"symbol": "BTCUSDT", "interval": "1M", "limit": "500"}
    assert streams.kline_stream("BTCUSDT", "1M") == "btcusdt@kline_1M"
    assert streams.kline_stream("币安人生USDT", "1m") == "币安人生usdt@kline_1m"
    command = streams.command(Act.SUBSCRIBE, ["a", "b"], 7)
    assert command.streams == ("a", "b")
    assert orjson.loads(command.message) == {"method": "SUBSCRIBE", "params": ["a", "b"], "id": 7}


# --- mutations ---

BAD_VALUES: list[object] = [
    None, True, False, [], {}, [1, 2], {"a": 1}, "", " ", "NaN", "nan", "Infinity", "-Infinity", "1e400", "-1", "0",
    "1e-400", "9" * 400, "0x10", "12,5", "null", -1, 0, 1.5, 10**18, 10**30, -(10**18), 1e308, 5e-324,
    "1e308", "\x00", "💥",
]  # fmt: skip
LITERALS = ["NaN", "Infinity", "-Infinity", "1e400", "9" * 400, "-0", "1.0E+2"]
MARK = "@literal@"
MISSING = object()


def places(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every value in a JSON document."""
    yield path
    if isinstance(value, dict):
        for name, each in value.items():
            yield from places(each, (*path, name))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from places(each, (*path, index))


def mutated(document: object, path: tuple[str | int, ...], new: object) -> object:
    if not path:
        return None if new is MISSING else new
    document = copy.deepcopy(document)
    parent = document
    for step in path[:-1]:
        parent = parent[step]  # type: ignore[index]
    if new is MISSING:
        del parent[path[-1]]  # type: ignore[attr-defined]
    else:
        parent[path[-1]] = new  # type: ignore[index]
    return document


@st.composite
def mutations(draw: st.DrawFn, names: tuple[str, ...]) -> tuple[str, bytes]:
    """A sample with one value missing, replaced, or turned into something that isn't JSON."""
    name = draw(st.sampled_from(names))
    document = sample(name)
    path = draw(st.sampled_from(list(places(document))))
    literal = draw(st.none() | st.sampled_from(LITERALS))
    if literal is not None:
        return name, json.dumps(mutated(document, path, MARK)).replace(f'"{MARK}"', literal).encode()
    new = draw(st.just(MISSING) | st.sampled_from(BAD_VALUES) | st.text(max_size=5) | st.integers() | st.floats())
    return name, json.dumps(mutated(document, path, new)).encode()


def check_price(price: Price) -> None:
    assert 0 < price.price < math.inf
    for value in (price.open_24h, price.high_24h, price.low_24h, price.volume_24h, price.quote_volume_24h):
        assert value is None or 0 <= value < math.inf
    assert 0 < price.ts < 10**15
    assert price.symbol


def check_candle(candle: Candle) -> None:
    assert 0 < candle.low <= candle.high < math.inf
    assert 0 < candle.open < math.inf
    assert 0 < candle.close < math.inf
    for value in (candle.volume, candle.quote_volume, candle.trades):
        if value is None:
            continue
        assert 0 <= value < math.inf
    assert 0 < candle.open_time < candle.close_time


FRAMES = (
    "ws_mini_tickers_combined", "ws_mini_ticker", "ws_ticker_24hr", "ws_kline_combined", "ws_kline_closed",
    "ws_agg_trade_combined", "ws_trade", "ws_book_ticker_combined", "ws_book_ticker_timed", "ws_book_ticker",
)  # fmt: skip


@settings(max_examples=500)
@given(mutation=mutations(FRAMES))
@example(("ws_book_ticker", b'{"u":1,"s":"X","b":"1.7e308","a":"1.7e308"}'))
def test_no_broken_frame_does_worse_than_to_be_refused(mutation: tuple[str, bytes]) -> None:
    _, raw = mutation
    try:
        read = read_frame(raw, RECEIVED_MS)
    except (Malformed, BadFieldError):
        return
    match read:
        case Prices(rows):
            for price in rows.good:
                check_price(price)
        case Candle():
            check_candle(read)


@settings(max_examples=300)
@given(data=st.data())
def test_a_broken_row_costs_only_itself(data: st.DataObject) -> None:
    document = sample("ws_mini_tickers_combined")
    inside = [path for path in places(document) if path[:2] == ("data", 1)]
    new = data.draw(st.just(MISSING) | st.sampled_from(BAD_VALUES) | st.text(max_size=5) | st.integers())
    read = read_frame(json.dumps(mutated(document, data.draw(st.sampled_from(inside)), new)).encode(), RECEIVED_MS)
    assert isinstance(read, Prices)
    assert read.rows.good[0] == BITCOIN
    assert len(read.rows.good) + read.rows.rejected.total() in (1, 2)


def klines_of(response: HttpResponse) -> Rows[Candle]:
    return rest.read_klines(response, "BTCUSDT", "1m")


ANSWERS: dict[str, Callable[[HttpResponse], object]] = {
    "rest_exchange_info": rest.read_exchange_info,
    "rest_klines": klines_of,
    "rest_tickers_mini": rest.read_tickers_24h,
    "rest_ticker_full": rest.read_tickers_24h,
}


@settings(max_examples=500)
@given(mutation=mutations(tuple(ANSWERS)))
def test_no_broken_answer_does_worse_than_to_be_refused_and_costs_only_its_row(mutation: tuple[str, bytes]) -> None:
    name, raw = mutation
    try:
        read = ANSWERS[name](answer(raw, received_ms=RECEIVED_MS))
    except ProviderError:
        return
    if isinstance(read, Rows):
        document = read_json(raw)
        rows = document if isinstance(document, list) else [document]
        lasts = [row.get("lastPrice") for row in rows if isinstance(row, dict)]
        untraded = sum(1 for last in lasts if isinstance(last, str) and last and not last.strip("0."))
        assert len(read.good) + read.rejected.total() == len(rows) - untraded
        if name == "rest_klines" and isinstance(document, list) and len(document) == 3:
            assert len(read.good) >= 2
        for each in read.good:
            if isinstance(each, Candle):
                check_candle(each)
            else:
                check_price(each)
    else:
        assert all(pair.symbol and pair.base and pair.quote for pair in cast("list[Pair]", read))


@settings(max_examples=300)
@given(status=st.integers(100, 599), body=st.binary(max_size=60), header=st.text(max_size=12))
def test_any_status_with_any_body_is_an_error_of_ours_or_none(status: int, body: bytes, header: str) -> None:
    refused = refusal("binance", HttpResponse(status, {"retry-after": header}, body, RECEIVED_MS))
    assert refused is None or isinstance(refused, ProviderError)
    assert (refused is None) <= (200 <= status < 300)

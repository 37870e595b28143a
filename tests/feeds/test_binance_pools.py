"""What Binance's REST gives where it stands beside other providers: a market table, prices and candles."""

import orjson
import pytest

from feeds.model import Candle, Coin, Pair
from feeds.queries import CandleQuery
from feeds.venues.binance import rest
from orchestrator.errors import Malformed, NotFound, Outdated, RateLimited
from tests.conversations import answered, drive
from tests.fakes.clock import START_MS

PAIRS = [Pair("BTCUSDT", "BTC", "USDT"), Pair("ETHUSDT", "ETH", "USDT"), Pair("SOLUSDT", "SOL", "USDT")]


def row(symbol: str, price: str = "110", volume: str = "5000", closed_ms: int = START_MS) -> dict[str, object]:
    """The 24 h statistics of a pair that opened at 100."""
    return {
        "symbol": symbol, "openPrice": "100", "highPrice": "120.5", "lowPrice": "99", "lastPrice": price,
        "volume": "50", "quoteVolume": volume, "openTime": closed_ms - 86_400_000, "closeTime": closed_ms,
        "firstId": 1, "lastId": 2, "count": 2,
    }  # fmt: skip


def kline(open_time: int, price: str = "10") -> list[object]:
    return [open_time, price, "12", "9", "11", "1.5", open_time + 59_999, "15", 3, "1", "10", "0"]


def test_the_most_traded_pairs_make_a_market_table() -> None:
    steps = rest.market_rows(PAIRS, limit=2)
    request = next(steps)
    assert (request.path, request.params, request.weight) == ("/api/v3/ticker/24hr", {"type": "MINI"}, 80)
    with pytest.raises(StopIteration) as done:
        steps.send(
            answered(
                [row("BTCUSDT"), row("XYZUSDT", volume="9e9"), row("ETHUSDT", "90", "7000"), row("SOLUSDT", volume="1")]
            )
        )
    ether, bitcoin = done.value.value.good
    assert ether.symbol == "ETH"
    assert bitcoin == Coin(
        "BTC", None, None, None, 110.0, None, 10.0, None, 120.5, 99.0, 5000.0, None, None, "usdt", START_MS
    )


@pytest.mark.parametrize(("count", "weight", "named"), [(1, 2, True), (20, 2, True), (21, 40, True), (100, 40, True),
                                                        (101, 80, False)])  # fmt: skip
def test_statistics_weigh_by_the_number_of_pairs_and_for_many_all_are_asked(
    count: int, weight: float, named: bool
) -> None:
    symbols = [f"C{n}USDT" for n in range(count)]
    request = rest.tickers_24h(symbols)
    assert request.weight == weight
    assert ("symbols" in request.params) is named
    if named:
        assert " " not in request.params["symbols"]
        assert orjson.loads(request.params["symbols"]) == symbols


def test_the_other_questions_have_their_documented_weights() -> None:
    assert rest.exchange_info().weight == 20
    assert rest.tickers_24h().weight == 80
    assert rest.klines("BTCUSDT", "1m", 1000).weight == 2


def test_statistics_of_none_of_the_pairs_are_not_found_or_malformed() -> None:
    with pytest.raises(NotFound):
        drive(rest.market_rows(PAIRS), answered([row("XYZUSDT")]))
    with pytest.raises(Malformed, match="lastPrice"):
        drive(rest.market_rows(PAIRS), answered([row("BTCUSDT", "NaN")]))
    with pytest.raises(RateLimited):
        drive(rest.market_rows(PAIRS), answered({"code": -1003, "msg": "Too much request weight used"}))


def test_many_pairs_that_have_all_stopped_are_outdated_but_a_few_quiet_ones_are_not() -> None:
    pairs = [Pair(f"C{n}USDT", f"C{n}", "USDT") for n in range(20)]
    old = START_MS - 11 * 60_000
    rows = [row(pair.symbol, closed_ms=old) for pair in pairs]
    with pytest.raises(Outdated, match="11 min"):
        drive(rest.market_rows(pairs), answered(rows))
    assert drive(rest.market_rows(pairs), answered([*rows[1:], row("C0USDT")])).good
    assert drive(rest.market_rows(pairs[:19]), answered(rows)).good


def test_prices_of_every_pair_that_have_all_stopped_are_no_prices() -> None:
    rows = [row(f"C{n}USDT", closed_ms=START_MS - 11 * 60_000) for n in range(20)]
    with pytest.raises(Outdated, match="11 min"):
        drive(rest.all_prices(), answered(rows))
    response, read = drive(rest.all_prices(), answered([*rows, row("BTCUSDT")]))
    assert (response.status, len(read.good)) == (200, 21)


def test_candles_are_closed_when_their_time_was_over_by_the_exchanges_clock() -> None:
    steps = rest.candles(CandleQuery("BTC", "BTCUSDT", "1m", 2, start=START_MS - 60_000))
    assert next(steps).params == {
        "symbol": "BTCUSDT", "interval": "1m", "limit": "2", "startTime": str(START_MS - 60_000),
    }  # fmt: skip
    with pytest.raises(StopIteration) as done:
        steps.send(answered([kline(START_MS - 60_000), kline(START_MS)], at_ms=START_MS + 30_000))
    closed, forming = done.value.value.good
    assert closed == Candle(
        "BTCUSDT", "1m", START_MS - 60_000, START_MS - 1, 10.0, 12.0, 9.0, 11.0, 1.5, 15.0, 3, True, START_MS - 1
    )
    assert not forming.closed


def test_a_pair_without_candles_in_that_time_has_none_and_unreadable_ones_are_an_error() -> None:
    question = CandleQuery("BTC", "BTCUSDT", "1m", 2)
    assert drive(rest.candles(question), answered([])).good == []
    with pytest.raises(Malformed, match="bad o"):
        drive(rest.candles(question), answered([kline(START_MS, "-1")]))
    with pytest.raises(NotFound):
        drive(rest.candles(question), answered({"code": -1121, "msg": "Invalid symbol."}))

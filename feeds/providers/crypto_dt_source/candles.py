"""Candles of Binance. An answer of another interval than the one asked for is refused, whatever it calls itself."""

from collections.abc import Mapping

from feeds.candle_rules import sane
from feeds.derive import asked_for, regular
from feeds.fields import (
    BadFieldError,
    Rows,
    mapping,
    maybe_amount,
    positive,
    whole,
)
from feeds.intervals import MINUTE_MS, STEP_MS
from feeds.model import Candle
from feeds.providers.crypto_dt_source.answers import NAME, OUTDATED_MS, answered_ms, first_rows, get, rows_in
from feeds.queries import CandleQuery
from orchestrator.errors import (
    Malformed,
    NotFound,
    Outdated,
)
from orchestrator.http import HttpResponse
from orchestrator.provider import Steps

INTERVALS = ("1m", "5m", "15m", "30m", "1h", "4h", "1d", "1w")
"""For any other interval it silently gives hours."""
MAX_CANDLES = 1000


def serves(query: CandleQuery) -> bool:
    """Whether it has candles of that interval and market; it knows pairs with USDT only."""
    return query.interval in INTERVALS and query.pair == f"{query.base}USDT"


def candles(query: CandleQuery) -> Steps[Rows[Candle]]:
    """Ask for Binance's candles, ascending, the last one perhaps still forming. `/binance/klines`.

    The newest 1000 at most, whatever time is asked for. `quote_volume` and `trades` are unknown.

    Raises: NotFound if it has none, Malformed if they are not spaced by the interval.
    """
    limit = _candle_limit(query)
    response = yield get(
        "/api/v1/binance/klines",
        {"symbol": query.pair, "timeframe": query.interval, "interval": query.interval, "limit": limit},
    )
    return _read_candles(response, query)


def _candle_limit(query: CandleQuery) -> str:
    """Return how many candles to ask for: at least 2, which show the spacing; all if the query names a time."""
    timed = query.start is not None or query.end is not None
    return str(MAX_CANDLES if timed else max(2, min(query.limit, MAX_CANDLES)))


def _read_candles(response: HttpResponse, query: CandleQuery) -> Rows[Candle]:
    answered = answered_ms(response)
    symbol = f"{query.base}USDT"
    read = first_rows(
        rows_in(response), lambda row: _candle(mapping(row), symbol, query.interval, answered), MAX_CANDLES
    )
    by_open = {candle.open_time: candle for candle in read.good}
    opens = sorted(by_open)
    if not opens:
        raise NotFound(NAME, f"no candles of {symbol}")
    if not regular(opens, query.interval):
        raise Malformed(NAME, f"candles are not spaced by {query.interval}")
    if opens[-1] < answered - 2 * STEP_MS[query.interval] - OUTDATED_MS:
        raise Outdated(NAME, f"the newest candle opened {(answered - opens[-1]) / 60_000:.0f} min ago")
    wanted = asked_for([by_open[open_time] for open_time in opens], query)
    if not wanted:
        raise NotFound(NAME, f"no candle of {symbol} in the time asked for")
    return Rows(wanted, read.rejected)


def _candle(row: Mapping[str, object], symbol: str, interval: str, answered_ms: int) -> Candle:
    open_time = whole(row, "timestamp")
    close_time = open_time + STEP_MS[interval] - 1
    if not 10**12 <= open_time <= answered_ms + MINUTE_MS:
        raise BadFieldError("timestamp")
    first, high, low, last = (positive(row, name) for name in ("open", "high", "low", "close"))
    volume = maybe_amount(row, "volume")
    candle = Candle(
        symbol=symbol,
        interval=interval,
        open_time=open_time,
        close_time=close_time,
        open=first,
        high=high,
        low=low,
        close=last,
        # Without a trade no price moves.
        volume=None if volume == 0 and low < high else volume,
        quote_volume=None,
        trades=None,
        closed=close_time < answered_ms,
        ts=min(close_time, answered_ms),
    )
    return sane(candle)

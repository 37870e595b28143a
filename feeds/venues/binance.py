"""Binance Spot: what to ask, and how to read the answers and stream frames. Pure.

Source: binance-spot-api-docs, snapshot of 2026-07-21 (web-socket-streams, rest-api).
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import orjson

from feeds.fields import (
    BadFieldError,
    Rows,
    mapping,
    maybe,
    maybe_amount,
    maybe_whole,
    positive,
    some_rows,
    text,
)
from feeds.fields import rows as rows_of
from feeds.intervals import STEP_MS
from feeds.model import TRADING, Candle, Coin, Pair, Price
from feeds.queries import CandleQuery
from orchestrator import http, repairs
from orchestrator.errors import (
    BadQuery,
    Banned,
    Blocked,
    Malformed,
    NotFound,
    Outdated,
    ProviderError,
    RateLimited,
    Unavailable,
)
from orchestrator.http import HttpRequest, HttpResponse, begins, json_body, maybe_json
from orchestrator.provider import Steps
from orchestrator.retry import MAX_RETRY_AFTER_S
from orchestrator.texts import one_line
from orchestrator.tolerant import read_json

NAME = "binance"
ALL_MINI_TICKERS = "!miniTicker@arr"
MAX_KLINES = 1000
MAX_STREAMS_PER_SOCKET = 1024
MAX_SYMBOL = 60

T = TypeVar("T")


# --- questions ---


def exchange_info() -> HttpRequest:
    """Every listed pair. Weight 20; some 15 MB when all is told."""
    return HttpRequest(
        "/api/v3/exchangeInfo", {"showPermissionSets": "false"}, weight=20, max_body_bytes=32 * 1024 * 1024
    )


def tickers_24h(symbols: Sequence[str] = ()) -> HttpRequest:
    """24 h statistics of some pairs, of every pair if none is named. Weight 2 up to 20 pairs, 40 up to 100, then 80.

    A name that is not listed has the whole question refused.
    """
    if not 0 < len(symbols) <= 100:
        return HttpRequest("/api/v3/ticker/24hr", {"type": "MINI"}, weight=80)
    names = orjson.dumps(list(symbols)).decode()
    return HttpRequest(
        "/api/v3/ticker/24hr", {"type": "MINI", "symbols": names}, weight=2 if len(symbols) <= 20 else 40
    )


def klines(symbol: str, interval: str, limit: int, start: int | None = None, end: int | None = None) -> HttpRequest:
    """Candles, ascending; with `start` the oldest from there on, else the newest. Weight 2."""
    params = {"symbol": symbol, "interval": interval, "limit": str(min(limit, MAX_KLINES))}
    if start is not None:
        params["startTime"] = str(start)
    if end is not None:
        params["endTime"] = str(end)
    return HttpRequest("/api/v3/klines", params, weight=2)


def kline_stream(symbol: str, interval: str) -> str:
    """The stream of one candle series; the symbol is lower case there, the interval is not."""
    return f"{symbol.lower()}@kline_{interval}"


def command(method: str, streams: Sequence[str], request_id: int) -> bytes:
    """A SUBSCRIBE or UNSUBSCRIBE message."""
    return orjson.dumps({"method": method, "params": list(streams), "id": request_id})


# --- conversations ---


def market_rows(pairs: Sequence[Pair], limit: int = 100) -> Steps[Rows[Coin]]:
    """The `limit` most traded of these pairs, the largest quote volume first: a market table as an exchange knows it.

    It has neither rank, market cap, supply nor changes of another time than 24 h. `currency` is the quote asset. The
    statistics of all pairs are asked for, whose weight is that of a hundred. Raises: NotFound if none is there,
    Outdated if none has moved for long.
    """
    response = yield tickers_24h()
    found, rejected = _statistics(response, pairs)
    coins = [
        Coin(
            symbol=pair.base,
            id=None,
            name=None,
            rank=None,
            price=price.price,
            change_1h_pct=None,
            change_24h_pct=_change_pct(price),
            change_7d_pct=None,
            high_24h=price.high_24h,
            low_24h=price.low_24h,
            volume_24h=price.quote_volume_24h,
            market_cap=None,
            circulating_supply=None,
            currency=pair.quote.lower(),
            ts=price.ts,
        )
        for pair, price in found
    ]
    coins.sort(key=lambda coin: coin.volume_24h or 0.0, reverse=True)
    return Rows(coins[:limit], rejected)


def candles(query: CandleQuery) -> Steps[Rows[Candle]]:
    """The candles of `query.pair`, ascending; those whose time was over when it answered are closed.

    Raises: NotFound if nobody goes by that pair, Malformed if there are rows and none can be read.
    """
    response = yield klines(query.pair, query.interval, query.limit, query.start, query.end)
    read = read_klines(response, query.pair, query.interval)
    answered = response.date_ms or response.received_ms
    closed = [replace(candle, closed=candle.close_time < answered) for candle in read.good]
    return Rows(closed, read.rejected)


def all_prices() -> Steps[tuple[HttpResponse, Rows[Price]]]:
    """The statistics of every pair, with the answer they came in. Raises: Outdated if none has moved for long."""
    response = yield tickers_24h()
    read = read_tickers_24h(response)
    _be_fresh(response, read.good)
    return response, read


OUTDATED_MS = 10 * 60_000
MANY_PAIRS = 20
"""A few quiet pairs may have had no trade for long; of so many, one has had."""


def _be_fresh(response: HttpResponse, prices: Sequence[Price]) -> None:
    if len(prices) < MANY_PAIRS:
        return
    age_ms = (response.date_ms or response.received_ms) - max(price.ts for price in prices)
    if age_ms > OUTDATED_MS:
        raise Outdated(NAME, f"the newest statistics are {age_ms / 60_000:.0f} min old")


def _statistics(response: HttpResponse, pairs: Sequence[Pair]) -> tuple[list[tuple[Pair, Price]], Counter[str]]:
    """The statistics of the pairs asked for, and what could not be read of all."""
    read = read_tickers_24h(response)
    by_symbol = {price.symbol: price for price in read.good}
    found = [(pair, by_symbol[pair.symbol]) for pair in pairs if pair.symbol in by_symbol]
    if not found:
        raise NotFound(NAME, "no statistics of the pairs asked for")
    _be_fresh(response, [price for _, price in found])
    return found, read.rejected


def _change_pct(price: Price) -> float | None:
    """From the opening price, as for the stream's tickers."""
    if not price.open_24h:
        return None
    change = (price.price - price.open_24h) / price.open_24h * 100
    return change if math.isfinite(change) else None


# --- answers ---


def read_exchange_info(response: HttpResponse) -> list[Pair]:
    """Read the body of `/exchangeInfo`. Rows that make no pair are left out.

    Raises: ProviderError if the body is none of it.
    """
    body = _object(response)
    rows = body.get("symbols")
    if not isinstance(rows, list):
        raise Malformed(NAME, "exchangeInfo without a list of symbols")
    pairs = some_rows(NAME, rows, _pair).good
    if not pairs:
        raise Malformed(NAME, "exchangeInfo lists no pair")
    return pairs


def _pair(row: object) -> Pair:
    fields = mapping(row)
    symbol, base, quote = (text(fields, name, MAX_SYMBOL) for name in ("symbol", "baseAsset", "quoteAsset"))
    return Pair(symbol, base, quote, pair_status(fields.get("status", TRADING)))


_STATUS = re.compile(r"[A-Z_]{1,30}", re.ASCII)


def pair_status(value: object) -> str:
    """Return the state of a pair, `UNKNOWN` for what is not the name of one."""
    return value if isinstance(value, str) and _STATUS.fullmatch(value) else "UNKNOWN"


_SERVER_TIME = re.compile(rb'"serverTime":\s*(\d{13})\b')


def server_time(response: HttpResponse) -> int | None:
    """The exchange's clock (Unix ms) at the head of `/exchangeInfo`; the body is long, and not read for it."""
    found = _SERVER_TIME.search(response.body, 0, 200)
    return int(found[1]) if found is not None else None


def as_exchange_info(pairs: Iterable[Pair], now_ms: int) -> HttpResponse:
    """The answer of `/exchangeInfo` that would have told these pairs: for a tape, which knows nothing of our disk."""
    rows = [
        {
            "symbol": pair.symbol,
            "status": pair.status,
            "baseAsset": pair.base,
            "quoteAsset": pair.quote,
        }
        for pair in pairs
    ]
    return HttpResponse(200, {}, orjson.dumps({"symbols": rows}), now_ms)


def read_tickers_24h(response: HttpResponse) -> Rows[Price]:
    """Read the body of `/ticker/24hr`, MINI or FULL, one or many.

    Raises: ProviderError if the body is none of it.
    """
    body = json_body(NAME, response)
    if isinstance(body, dict):
        _raise_if_error(body, response.received_ms)
        body = [body]
    if not isinstance(body, list):
        raise Malformed(NAME, "24 h statistics are no list")
    traded = [row for row in body if not _untraded(row)]
    answered_ms = response.date_ms or response.received_ms
    return some_rows(NAME, traded, lambda row: _rest_ticker(row, answered_ms))


def read_klines(response: HttpResponse, symbol: str, interval: str) -> Rows[Candle]:
    """Read the body of `/klines`, ascending by open time, each candle once. The last row may still be forming.

    `closed` is False throughout: the rows do not say it. Raises: ProviderError if the body is no list of rows.
    """
    body = json_body(NAME, response)
    if isinstance(body, dict):
        _raise_if_error(body, response.received_ms)
    if not isinstance(body, list):
        raise Malformed(NAME, "klines are no list")
    rows = some_rows(NAME, body, lambda row: _rest_candle(row, symbol, interval, response.received_ms))
    # Of a candle that stands there twice the later row is the newer one, like everything the exchange says.
    by_open = {candle.open_time: candle for candle in rows.good}
    return replace(rows, good=[by_open[open_time] for open_time in sorted(by_open)])


def refusal(provider: str, response: HttpResponse) -> ProviderError | None:
    """The error of an answer, sharpened by what Binance's own body says (`{"code": -1121, "msg": …}`)."""
    error = http.refusal(provider, response)
    if error is None:
        # Portals and proxies say 200 too; told here, the next host gets its turn.
        return None if begins(response) in (b"{", b"[") else Malformed(NAME, "no JSON in the body")
    if isinstance(error, RateLimited | Banned | Blocked):
        if isinstance(error, Banned) and error.retry_after_s is None:
            return _spoken(response) or error
        return error
    if isinstance(error, NotFound):
        # Binance says 400 of what it does not have; a 404 is not Binance, or not its API.
        error = Malformed(NAME, "status 404")
    return _spoken(response) or error


def _spoken(response: HttpResponse) -> ProviderError | None:
    body = maybe_json(response)
    now_ms = response.date_ms or response.received_ms
    return _body_error(body, now_ms) if isinstance(body, dict) else None


_BANNED_UNTIL = re.compile(r"banned until (\d{13})")


def _body_error(body: Mapping[str, object], now_ms: int) -> ProviderError | None:
    code = body.get("code")
    if not isinstance(code, int) or "msg" not in body:
        return None
    text = str(body["msg"])[:200]
    if code == -1003:
        until = _BANNED_UNTIL.search(text)
        if until is not None:
            return Banned(NAME, min(max(0.0, (int(until[1]) - now_ms) / 1000), MAX_RETRY_AFTER_S))
        return RateLimited(NAME, None)
    if code == -1121:
        return NotFound(NAME, text)
    if code in (-1000, -1001, -1006, -1007, -1008):
        return Unavailable(NAME, text)
    return BadQuery(NAME, f"{code} {text}")


def _raise_if_error(body: Mapping[str, object], now_ms: int) -> None:
    error = _body_error(body, now_ms)
    if error is not None:
        raise error


def _object(response: HttpResponse) -> dict[str, object]:
    body = json_body(NAME, response)
    if not isinstance(body, dict):
        raise Malformed(NAME, "not a JSON object")
    _raise_if_error(body, response.received_ms)
    return body


# --- stream frames ---


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of one stream frame; `finer` names the stream they come from, None for the tickers."""

    rows: Rows[Price]
    finer: str | None = None


@dataclass(frozen=True, slots=True)
class Ack:
    """The answer to a control message; `error` is None if it was done."""

    request_id: object
    error: str | None


@dataclass(frozen=True, slots=True)
class Shutdown:
    """The server is about to close this connection."""


@dataclass(frozen=True, slots=True)
class Unused:
    """A well-formed frame of a stream that nothing is made of."""

    stream: str


Frame = Prices | Candle | Ack | Shutdown | Unused


@dataclass(frozen=True, slots=True)
class Opened:
    """A stream frame whose JSON has been parsed, and whose rows have not been read yet.

    `stream` is empty for a frame without the combined outline (`{"stream": …, "data": …}`), `message` is its data.
    `repaired` counts what was repaired in its JSON; `fault` says why it could not be parsed, None if it was.
    """

    raw: bytes
    received_ms: int
    stream: str = ""
    message: object = None
    repaired: Counter[str] = field(default_factory=Counter)
    fault: str | None = None

    @property
    def rows(self) -> int:
        """How many rows it has; 1 for a frame that is no list."""
        return len(self.message) if isinstance(self.message, list) else 1


def open_frame(raw: bytes, received_ms: int) -> Opened:
    """Parse the JSON of a stream frame, combined or bare."""
    try:
        with repairs.noted() as notes:
            message = read_json(raw)
    except ValueError:
        return Opened(raw, received_ms, fault="frame is not JSON")
    stream = ""
    if isinstance(message, dict) and "stream" in message and "data" in message:
        stream, message = str(message["stream"]), message["data"]
    return Opened(raw, received_ms, stream, message, notes.repaired)


def control_of(opened: Opened) -> Ack | Shutdown | None:
    """Return what a frame says about its connection; None for a frame about a market, or one of no known kind."""
    message = opened.message
    if not isinstance(message, dict):
        return None
    event = message.get("e")
    if event == "serverShutdown":
        return Shutdown()
    is_answer = event is None and not opened.stream and ("id" in message or "code" in message or "result" in message)
    return _ack(message) if is_answer else None


def read_opened(opened: Opened, start: int = 0, end: int | None = None) -> Frame:
    """Read an opened frame; of a frame of many rows only those from `start` up to, but not at, `end`.

    Raises: Malformed if it has no known outline, BadFieldError if a field of it is bad.
    """
    if opened.fault is not None:
        raise Malformed(NAME, opened.fault)
    stream, message = opened.stream, opened.message
    if isinstance(message, list):
        return Prices(rows_of(message[start:end], _mini_ticker))
    if not isinstance(message, dict):
        raise Malformed(NAME, "frame is neither object nor array")
    control = control_of(opened)
    if control is not None:
        return control
    event = message.get("e")
    if event is None and not stream:
        if "lastUpdateId" in message:
            return Unused("depth")
        if "b" not in message or "a" not in message:
            raise Malformed(NAME, "frame of no known kind")
    match event:
        case "kline":
            return _stream_candle(message)
        case "24hrMiniTicker" | "24hrTicker":
            return Prices(_one(_mini_ticker(message)))
        case "aggTrade" | "trade":
            return Prices(_one(_trade(message)), finer="trade")
    if (event in (None, "bookTicker")) and stream.endswith("@bookTicker"):
        return Prices(_one(_book(message, opened.received_ms)), finer="book")
    if event is None and not stream and "u" in message and "s" in message:
        return Prices(_one(_book(message, opened.received_ms)), finer="book")
    return Unused(stream or str(event))


def read_frame(raw: bytes, received_ms: int) -> Frame:
    """Parse and read one stream frame. Raises: as `read_opened`."""
    opened = open_frame(raw, received_ms)
    for what, count in opened.repaired.items():
        repairs.repaired(what, count)
    return read_opened(opened)


def event_of(opened: Opened) -> tuple[str, int] | None:
    """Return the stream and event time of a combined frame with market data, the newest time if it has many rows.

    None for all else: answers to commands, announcements, and what cannot be read.
    """
    data = opened.message
    rows = [row for row in (data if isinstance(data, list) else [data]) if isinstance(row, dict)]
    times = [row["E"] for row in rows if isinstance(row.get("E"), int) and row.get("e") != "serverShutdown"]
    return (opened.stream, max(times)) if opened.stream and times else None


def _ack(message: Mapping[str, object]) -> Ack:
    if "code" in message:
        return Ack(message.get("id"), one_line(f"{message['code']} {message.get('msg', '')}"))
    error = message.get("error")
    return Ack(message.get("id"), None if error is None else one_line(str(error)))


def _one(price: Price) -> Rows[Price]:
    return Rows([price])


def _mini_ticker(row: object) -> Price:
    if not isinstance(row, dict):
        raise BadFieldError("row")
    return Price(
        symbol=_symbol(row, "s"),
        price=positive(row, "c"),
        ts=_ms(row, "E"),
        open_24h=maybe_amount(row, "o"),
        high_24h=maybe_amount(row, "h"),
        low_24h=maybe_amount(row, "l"),
        volume_24h=maybe_amount(row, "v"),
        quote_volume_24h=maybe_amount(row, "q"),
    )


def _untraded(row: object) -> bool:
    """Whether it is the row of a pair that nobody has traded: delisted ones stay on the list with a price of 0."""
    last = row.get("lastPrice") if isinstance(row, dict) else None
    return isinstance(last, str) and last != "" and not last.strip("0.")


def _rest_ticker(row: object, answered_ms: int) -> Price:
    if not isinstance(row, dict):
        raise BadFieldError("row")
    return Price(
        symbol=_symbol(row, "symbol"),
        price=positive(row, "lastPrice"),
        # A pair that has not traded says 0; the statistics are then as of the answer itself.
        ts=(maybe(_ms, row, "closeTime") if row.get("closeTime") else None) or answered_ms,
        open_24h=maybe_amount(row, "openPrice"),
        high_24h=maybe_amount(row, "highPrice"),
        low_24h=maybe_amount(row, "lowPrice"),
        volume_24h=maybe_amount(row, "volume"),
        quote_volume_24h=maybe_amount(row, "quoteVolume"),
    )


def _trade(row: Mapping[str, object]) -> Price:
    return Price(symbol=_symbol(row, "s"), price=positive(row, "p"), ts=_ms(row, "E"))


def _book(row: Mapping[str, object], received_ms: int) -> Price:
    # Nobody has traded at the middle of the book, which is why such a price names the book as its source.
    bid, ask = positive(row, "b"), positive(row, "a")
    if ask < bid:
        raise BadFieldError("a")
    middle = float(f"{(bid + ask) / 2:.12g}")
    if not 0 < middle < math.inf:
        raise BadFieldError("a")
    return Price(symbol=_symbol(row, "s"), price=middle, ts=_ms(row, "E") if "E" in row else received_ms)


def _stream_candle(message: Mapping[str, object]) -> Candle:
    k = message.get("k")
    if not isinstance(k, dict):
        raise BadFieldError("k")
    interval = k.get("i")
    if not isinstance(interval, str) or interval not in STEP_MS:
        raise BadFieldError("i")
    closed = k.get("x")
    if not isinstance(closed, bool):
        raise BadFieldError("x")
    candle = Candle(
        symbol=_symbol(k if "s" in k else message, "s"),
        interval=interval,
        open_time=_ms(k, "t"),
        close_time=_ms(k, "T"),
        open=positive(k, "o"),
        high=positive(k, "h"),
        low=positive(k, "l"),
        close=positive(k, "c"),
        volume=maybe_amount(k, "v"),
        quote_volume=maybe_amount(k, "q"),
        trades=maybe_whole(k, "n"),
        closed=closed,
        ts=_ms(message, "E"),
    )
    if candle.ts < candle.open_time:
        raise BadFieldError("t")  # nothing is known of a candle before it opens
    return _sane(candle)


def _rest_candle(row: object, symbol: str, interval: str, received_ms: int) -> Candle:
    if not isinstance(row, list) or len(row) < 9:
        raise BadFieldError("row")
    fields = dict(zip(("t", "o", "h", "l", "c", "v", "T", "q", "n"), row, strict=False))
    close_time = _ms(fields, "T")
    candle = Candle(
        symbol=symbol,
        interval=interval,
        open_time=_ms(fields, "t"),
        close_time=close_time,
        open=positive(fields, "o"),
        high=positive(fields, "h"),
        low=positive(fields, "l"),
        close=positive(fields, "c"),
        volume=maybe_amount(fields, "v"),
        quote_volume=maybe_amount(fields, "q"),
        trades=maybe_whole(fields, "n"),
        closed=False,
        ts=min(close_time, received_ms),
    )
    return _sane(candle)


def _sane(candle: Candle) -> Candle:
    # No more than this: in Binance's own documented example the low lies above the open.
    if candle.low > candle.high:
        raise BadFieldError("l")
    if candle.close_time <= candle.open_time:
        raise BadFieldError("T")
    return candle


# --- fields ---


def _symbol(row: Mapping[str, object], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_SYMBOL or not value.isprintable():
        raise BadFieldError(name)
    return value


def _ms(row: Mapping[str, object], name: str) -> int:
    """Unix milliseconds; 16 digits are the microseconds that `timeUnit=MICROSECOND` gives."""
    value = row.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 10**17:
        raise BadFieldError(name)
    return value // 1000 if value >= 10**15 else value

"""Read Binance's stream frames, combined (`{"stream": …, "data": …}`) or bare. Pure.

Source: binance-spot-api-docs, snapshot of 2026-07-21 (web-socket-streams).
"""

import math
from collections.abc import Mapping

from feeds.exchange.venue import Ack, Frame, FrameReader, Opened, Prices, Shutdown, Unused
from feeds.fields import BadFieldError, Rows, maybe_amount, maybe_whole, positive
from feeds.fields import rows as rows_of
from feeds.intervals import STEP_MS
from feeds.model import Candle, Price
from feeds.venues.binance.fields import NAME, read_ms, read_symbol, sane
from orchestrator import repairs
from orchestrator.errors import Malformed
from orchestrator.texts import one_line
from orchestrator.tolerant import read_json


def open_frame(raw: bytes, received_ms: int) -> Opened:
    """Parse the JSON of a stream frame."""
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


def event_of(opened: Opened) -> tuple[str, int] | None:
    """Return the stream and event time of a combined frame with market data, the newest time if it has many rows.

    None for all else: answers to commands, announcements, and what cannot be read.
    """
    data = opened.message
    rows = [row for row in (data if isinstance(data, list) else [data]) if isinstance(row, dict)]
    times = [row["E"] for row in rows if isinstance(row.get("E"), int) and row.get("e") != "serverShutdown"]
    return (opened.stream, max(times)) if opened.stream and times else None


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
            return _candle(message)
        case "24hrMiniTicker" | "24hrTicker":
            return Prices(_one(_mini_ticker(message)))
        case "aggTrade" | "trade":
            return Prices(_one(_trade(message)), finer="trade")
    if (event in (None, "bookTicker")) and stream.endswith("@bookTicker"):
        return Prices(_one(_book(message, opened.received_ms)), finer="book")
    if event is None and not stream and "u" in message and "s" in message:
        return Prices(_one(_book(message, opened.received_ms)), finer="book")
    return Unused(stream or str(event))


FRAMES = FrameReader(open=open_frame, control_of=control_of, event_of=event_of, read=read_opened)


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
        symbol=read_symbol(row, "s"),
        price=positive(row, "c"),
        ts=read_ms(row, "E"),
        open_24h=maybe_amount(row, "o"),
        high_24h=maybe_amount(row, "h"),
        low_24h=maybe_amount(row, "l"),
        volume_24h=maybe_amount(row, "v"),
        quote_volume_24h=maybe_amount(row, "q"),
    )


def _trade(row: Mapping[str, object]) -> Price:
    return Price(symbol=read_symbol(row, "s"), price=positive(row, "p"), ts=read_ms(row, "E"))


def _book(row: Mapping[str, object], received_ms: int) -> Price:
    # Nobody has traded at the middle of the book, which is why such a price names the book as its source.
    bid, ask = positive(row, "b"), positive(row, "a")
    if ask < bid:
        raise BadFieldError("a")
    middle = float(f"{(bid + ask) / 2:.12g}")
    if not 0 < middle < math.inf:
        raise BadFieldError("a")
    return Price(symbol=read_symbol(row, "s"), price=middle, ts=read_ms(row, "E") if "E" in row else received_ms)


def _candle(message: Mapping[str, object]) -> Candle:
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
        symbol=read_symbol(k if "s" in k else message, "s"),
        interval=interval,
        open_time=read_ms(k, "t"),
        close_time=read_ms(k, "T"),
        open=positive(k, "o"),
        high=positive(k, "h"),
        low=positive(k, "l"),
        close=positive(k, "c"),
        volume=maybe_amount(k, "v"),
        quote_volume=maybe_amount(k, "q"),
        trades=maybe_whole(k, "n"),
        closed=closed,
        ts=read_ms(message, "E"),
    )
    if candle.ts < candle.open_time:
        raise BadFieldError("t")  # nothing is known of a candle before it opens
    return sane(candle)

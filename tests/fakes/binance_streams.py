"""The words of the fake Binance's WebSocket: stream names, event payloads, replies to requests. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

import orjson

from tests.fakes.binance_faults import Frame
from tests.fakes.binance_market import INTERVALS, Candle, Instrument, Trade, decimal
from tests.fakes.binance_wire import websocket_frame

MINI_TICKERS = "!miniTicker@arr"
METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")


@dataclass(frozen=True, slots=True)
class Topic:
    """What a well-formed stream name asks for."""

    kind: str
    symbol: str
    interval: str = ""


def read_stream(name: str) -> Topic | None:
    """The topic behind a stream name; None for a name that never sends anything."""
    if name == MINI_TICKERS:
        return Topic("miniTickers", "")
    symbol, _, kind = name.partition("@")
    if symbol != symbol.lower():
        return None
    if kind in ("miniTicker", "aggTrade", "bookTicker"):
        return Topic(kind, symbol.upper())
    if kind.startswith("kline_") and kind[6:] in INTERVALS:
        return Topic("kline", symbol.upper(), kind[6:])
    return None


def stream_of(candle: Candle) -> str:
    return f"{candle.symbol.lower()}@kline_{candle.interval}"


def mini_ticker(instrument: Instrument, now_ms: int) -> dict[str, object]:
    """The payload of `<symbol>@miniTicker`."""
    day = instrument.day_window(now_ms)
    return {
        "e": "24hrMiniTicker",
        "E": now_ms,
        "s": instrument.pair.symbol,
        "c": decimal(day.close),
        "o": decimal(day.open),
        "h": decimal(day.high),
        "l": decimal(day.low),
        "v": decimal(day.volume),
        "q": decimal(day.quote),
    }


def agg_trade(trade: Trade) -> dict[str, object]:
    """The payload of `<symbol>@aggTrade`; here every aggregate holds one trade."""
    return {
        "e": "aggTrade",
        "E": trade.at_ms,
        "s": trade.symbol,
        "a": trade.trade_id,
        "p": decimal(trade.price),
        "q": decimal(trade.quantity),
        "f": trade.trade_id,
        "l": trade.trade_id,
        "T": trade.at_ms,
        "m": trade.buyer_is_maker,
        "M": True,
    }


def book_ticker(instrument: Instrument, trade: Trade) -> dict[str, object]:
    """The payload of `<symbol>@bookTicker`: one tick either side of the last price."""
    return {
        "u": trade.trade_id,
        "s": trade.symbol,
        "b": decimal(trade.price - instrument.tick),
        "B": decimal(trade.quantity),
        "a": decimal(trade.price + instrument.tick),
        "A": decimal(trade.quantity),
    }


def decimal_text(value: str) -> str:
    """A decimal string with Binance's eight decimals."""
    whole, _, fraction = value.partition(".")
    return f"{whole}.{fraction:0<8}"


class Encoded:
    """A frame as bytes: made when first needed, the same object for all connections."""

    __slots__ = ("_combined", "_frame", "_raw")

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._raw: bytes | None = None
        self._combined: bytes | None = None

    def for_one(self, combined: bool) -> bytes:
        frame = self._frame
        if combined and frame.text is None:
            if self._combined is None:
                name = orjson.dumps(frame.stream)
                self._combined = websocket_frame(b'{"stream":' + name + b',"data":' + frame.payload + b"}")
            return self._combined
        if self._raw is None:
            self._raw = websocket_frame(frame.payload if frame.text is None else frame.text)
        return self._raw


def legal_id(request_id: object) -> bool:
    """A signed 64-bit integer, an alphanumeric string of at most 36, or null."""
    match request_id:
        case None:
            return True
        case bool():
            return False
        case int():
            return -(2**63) <= request_id < 2**63
        case str():
            return re.fullmatch(r"[0-9A-Za-z_-]{1,36}", request_id) is not None
        case _:
            return False


def complaint(code: int, message: str, request_id: object = None) -> dict[str, object]:
    """An error body of Binance."""
    body: dict[str, object] = {"code": code, "msg": message}
    return body if request_id is None else body | {"id": request_id}


def property_reply(combined: bool, method: str, params: list[object], ok: dict[str, object]) -> dict[str, object]:
    """Answer SET_PROPERTY and GET_PROPERTY; `combined` is the only property."""
    if not params or not isinstance(params[0], str):
        return complaint(2, "Invalid request: property name must be a string")
    if len(params) > (2 if method == "SET_PROPERTY" else 1):
        return complaint(2, "Invalid request: too many parameters")
    if params[0] != "combined":
        return complaint(0, "Unknown property", ok["id"])
    if method == "GET_PROPERTY":
        return ok | {"result": combined}
    if len(params) < 2 or not isinstance(params[1], bool):
        return complaint(1, "Invalid value type: expected Boolean")
    return ok

"""The REST answers of the fake Binance: (market, path, query) in, status and body out. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import orjson

from tests.fakes.binance_market import (
    ATOMS,
    DAY_MS,
    INTERVALS,
    Instrument,
    Market,
    Pair,
    Status,
    decimal,
)

SYMBOL_RANGE = r"^[\w\-._&&[^a-z]]{1,50}$"
ARRAY_RANGE = r'^\[("[\w\-._&&[^a-z]]{1,50}"(,"[\w\-._&&[^a-z]]{1,50}"){0,}){0,1}\]$'
NUMBER_RANGE = r"^[0-9]{1,20}$"


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint says, and what asking cost."""

    status: int
    body: object
    weight: int


class BadRequestError(Exception):
    """A request Binance answers with 400 and an error body."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def answer(market: Market, weight_limit: int, path: str, query: tuple[tuple[str, str], ...]) -> Answer | None:
    """Return the true answer to a GET; None if there is no such endpoint."""
    endpoint = ENDPOINTS.get(path)
    if endpoint is None:
        return None
    asked = Asked(market, weight_limit, query)
    try:
        body = endpoint(asked)
        asked.all_read()
    except BadRequestError as refusal:
        return Answer(400, {"code": refusal.code, "msg": refusal.message}, asked.weight)
    return Answer(200, body, asked.weight)


class Asked:
    """The parameters of one request, read with Binance's own complaints."""

    def __init__(self, market: Market, weight_limit: int, query: tuple[tuple[str, str], ...]) -> None:
        self.market = market
        self.weight_limit = weight_limit
        self.weight = 1
        self._query = dict(query)
        self._read: set[str] = set()
        self._twice = next((name for name, _ in query if sum(name == other for other, _ in query) > 1), None)

    def text(self, name: str) -> str | None:
        if name == self._twice:
            raise BadRequestError(-1101, f"Duplicate values for parameter '{name}'.")
        self._read.add(name)
        value = self._query.get(name)
        if value == "":
            raise BadRequestError(-1105, f"Parameter '{name}' was empty.")
        return value

    def mandatory(self, name: str) -> str:
        value = self._query.get(name)
        if not value:
            raise BadRequestError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
        return self.text(name) or value

    def number(self, name: str) -> int | None:
        value = self.text(name)
        if value is None:
            return None
        if not re.fullmatch(r"[0-9]{1,20}", value):
            raise BadRequestError(
                -1100, f"Illegal characters found in parameter '{name}'; legal range is '{NUMBER_RANGE}'."
            )
        return int(value)

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        value = self.text(name)
        if value is not None and value not in choices:
            raise BadRequestError(-1139 if name == "type" else -1122, f"Invalid {name}.")
        return value or default

    def instrument(self, symbol: str, name: str = "symbol") -> Instrument:
        if not legal_symbol(symbol):
            legal = SYMBOL_RANGE if name == "symbol" else ARRAY_RANGE
            raise BadRequestError(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'.")
        instrument = self.market.instruments.get(symbol)
        if instrument is None:
            raise BadRequestError(-1121, "Invalid symbol.")
        return instrument

    def chosen(self) -> tuple[list[Instrument], bool]:
        """The instruments asked for, and whether exactly one was asked by `symbol`."""
        symbol, symbols = self.text("symbol"), self.text("symbols")
        if symbol is not None and symbols is not None:
            raise BadRequestError(-1128, "Combination of optional parameters invalid.")
        if symbol is not None:
            return [self.instrument(symbol)], True
        if symbols is None:
            return list(self.market.instruments.values()), False
        illegal = BadRequestError(
            -1100, f"Illegal characters found in parameter 'symbols'; legal range is '{ARRAY_RANGE}'."
        )
        if " " in symbols:
            raise illegal
        try:
            names = orjson.loads(symbols)
        except orjson.JSONDecodeError:
            raise illegal from None
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise illegal
        return [self.instrument(name, "symbols") for name in dict.fromkeys(names)], False

    @property
    def asks_for_all(self) -> bool:
        return "symbol" not in self._query and "symbols" not in self._query

    def all_read(self) -> None:
        if len(self._query) > len(self._read & self._query.keys()):
            read, sent = len(self._read & self._query.keys()), len(self._query)
            raise BadRequestError(
                -1104,
                f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{sent}'.",
            )


def legal_symbol(symbol: str) -> bool:
    """Letters of any script, but no lower-case Latin ones."""
    return re.fullmatch(r"[\w\-.]{1,50}", symbol) is not None and not re.search("[a-z]", symbol)


def ping(_asked: Asked) -> object:
    return {}


def time(asked: Asked) -> object:
    return {"serverTime": asked.market.now_ms}


def exchange_info(asked: Asked) -> object:
    asked.weight = 20
    instruments, _ = asked.chosen()
    permissions = asked.text("permissions")
    show_sets = asked.choice("showPermissionSets", ("true", "false"), "true") == "true"
    status = asked.text("symbolStatus")
    if status is not None:
        if status not in tuple(Status):
            raise BadRequestError(-1122, "Invalid symbolStatus.")
        if asked.asks_for_all:
            instruments = [each for each in instruments if each.pair.status == status]
        elif any(each.pair.status != status for each in instruments):
            raise BadRequestError(-1220, "The symbol's status does not match the requested symbolStatus.")
    if permissions is not None and "SPOT" not in permissions:
        instruments = []
    return {
        "timezone": "UTC",
        "serverTime": asked.market.now_ms,
        "rateLimits": [
            {
                "rateLimitType": "REQUEST_WEIGHT",
                "interval": "MINUTE",
                "intervalNum": 1,
                "limit": asked.weight_limit,
            },
            {"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": 300_000},
        ],
        "exchangeFilters": [],
        "symbols": [
            described(pair, show_sets) for each in instruments if (pair := _as_listed(asked, each)) is not None
        ],
    }


def _as_listed(asked: Asked, instrument: Instrument) -> Pair | None:
    """Return a pair with its state on the list, which may not be the true one; None if it is left out."""
    pair = instrument.pair
    listed_as = asked.market.listed_as.get(pair.symbol, pair.status)
    return None if listed_as is None else replace(pair, status=listed_as)


def described(pair: Pair, show_sets: bool) -> dict[str, object]:
    """A pair as `exchangeInfo` describes it."""
    return {
        "symbol": pair.symbol,
        "status": pair.status,
        "baseAsset": pair.base,
        "baseAssetPrecision": 8,
        "quoteAsset": pair.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT"],
        "icebergAllowed": True,
        "ocoAllowed": True,
        "otoAllowed": True,
        "opoAllowed": True,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": True,
        "cancelReplaceAllowed": True,
        "amendAllowed": True,
        "pegInstructionsAllowed": True,
        "isSpotTradingAllowed": pair.status is Status.TRADING,
        "isMarginTradingAllowed": False,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": pair.tick,
                "maxPrice": "1000000.00000000",
                "tickSize": pair.tick,
            },
            {
                "filterType": "LOT_SIZE",
                "minQty": pair.lot,
                "maxQty": "9000000.00000000",
                "stepSize": pair.lot,
            },
        ],
        "permissions": [],
        "permissionSets": [["SPOT"]] if show_sets else [],
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": ["EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"],
    }


def klines(asked: Asked) -> object:
    asked.weight = 2
    instrument = asked.instrument(asked.mandatory("symbol"))
    interval = asked.mandatory("interval")
    if interval not in INTERVALS:
        raise BadRequestError(-1120, "Invalid interval.")
    start_ms, end_ms = asked.number("startTime"), asked.number("endTime")
    limit = asked.number("limit")
    if limit == 0:
        raise BadRequestError(-1130, "Data sent for parameter 'limit' is not valid.")
    zone = asked.text("timeZone")
    if zone not in (None, "0", "0:00", "00:00", "+00:00"):
        raise BadRequestError(-1000, "This fake only knows UTC candles.")
    candles = asked.market.candles(instrument.pair.symbol, interval, start_ms, end_ms, min(1000, limit or 500))
    return [candle.row() for candle in candles]


def ticker_24hr(asked: Asked) -> object:
    instruments, one = asked.chosen()
    count = len(instruments)
    asked.weight = 80 if asked.asks_for_all or count > 100 else 40 if count > 20 else 2
    mini = asked.choice("type", ("FULL", "MINI"), "FULL") == "MINI"
    rows = [day_ticker(each, asked.market.now_ms, mini) for each in instruments]
    return rows[0] if one else rows


def day_ticker(instrument: Instrument, now_ms: int, mini: bool) -> dict[str, object]:
    """The row of `/api/v3/ticker/24hr`; all zero for a pair that does not trade, as on Binance."""
    pair = instrument.pair
    zero = decimal(0)
    if not instrument.trading:
        end_ms = pair.stopped_ms or now_ms
        small: dict[str, object] = {
            "symbol": pair.symbol,
            "openPrice": zero,
            "highPrice": zero,
            "lowPrice": zero,
            "lastPrice": zero,
            "volume": zero,
            "quoteVolume": zero,
            "openTime": end_ms - DAY_MS,
            "closeTime": end_ms,
            "firstId": -1,
            "lastId": -1,
            "count": 0,
        }
        opened = last = average = bid = ask = 0
    else:
        day = instrument.day_window(now_ms)
        opened, last = day.open, day.close
        average = day.quote * ATOMS // day.volume if day.volume else 0
        bid, ask = last - instrument.tick, last + instrument.tick
        small = {
            "symbol": pair.symbol,
            "openPrice": decimal(opened),
            "highPrice": decimal(day.high),
            "lowPrice": decimal(day.low),
            "lastPrice": decimal(last),
            "volume": decimal(day.volume),
            "quoteVolume": decimal(day.quote),
            "openTime": day.open_ms,
            "closeTime": now_ms,
            "firstId": day.first_id,
            "lastId": day.last_id,
            "count": day.trades,
        }
    if mini:
        return small
    quantity = decimal(instrument.last_quantity if instrument.trading else 0)
    return small | {
        "priceChange": decimal(last - opened),
        "priceChangePercent": f"{(last - opened) / opened * 100:.3f}" if opened else "0.000",
        "weightedAvgPrice": decimal(average),
        "prevClosePrice": decimal(opened),
        "lastQty": quantity,
        "bidPrice": decimal(bid),
        "bidQty": quantity,
        "askPrice": decimal(ask),
        "askQty": quantity,
    }


def ticker_price(asked: Asked) -> object:
    instruments, one = asked.chosen()
    asked.weight = 2 if one else 4
    rows = [{"symbol": each.pair.symbol, "price": decimal(each.price)} for each in instruments]
    return rows[0] if one else rows


ENDPOINTS: dict[str, Callable[[Asked], object]] = {
    "/api/v3/ping": ping,
    "/api/v3/time": time,
    "/api/v3/exchangeInfo": exchange_info,
    "/api/v3/klines": klines,
    "/api/v3/ticker/24hr": ticker_24hr,
    "/api/v3/ticker/price": ticker_price,
}

"""Ask Binance's REST, and read its answers. Pure.

Source: binance-spot-api-docs, snapshot of 2026-07-21 (rest-api).
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import orjson

from feeds.exchange.venue import Answer, CandleAnswer, RestRules, pair_status
from feeds.fields import BadFieldError, Rows, mapping, maybe, maybe_amount, maybe_whole, positive, some_rows, text
from feeds.model import TRADING, Candle, Coin, Pair, Price
from feeds.queries import CandleQuery
from feeds.venues.binance.fields import MAX_SYMBOL, NAME, read_ms, read_symbol, sane
from feeds.venues.binance.refusals import raise_if_error, refusal
from orchestrator.breaker import BreakerPolicy
from orchestrator.errors import (
    Malformed,
    NotFound,
    Outdated,
)
from orchestrator.http import HttpRequest, HttpResponse, json_body
from orchestrator.limiter import Allowance, Limiter
from orchestrator.provider import Steps
from orchestrator.upstream_policy import UpstreamPolicy

MAX_KLINES = 1000
OUTDATED_MS = 10 * 60_000
MANY_PAIRS = 20
"""A few quiet pairs may have had no trade for long; of this many, one has had."""
EXCHANGE_INFO, TICKERS_24H, KLINES = "/api/v3/exchangeInfo", "/api/v3/ticker/24hr", "/api/v3/klines"

POLICY = UpstreamPolicy(
    timeout_s=10.0,
    # 6000 a minute are allowed to the address; other programs may share it.
    allowances=(Allowance(5400, 60.0),),
    # Half of it is the feed's own, so that clients' questions never keep its candles from being whole.
    reserve=0.5,
    floor_s=0.5,
    # The feed has a backoff of its own and must be back soon after the exchange is.
    breaker=BreakerPolicy(minimum_calls=20, consecutive=10, cooldown_s=2.0, longest_cooldown_s=30.0),
)

# --- questions ---


def exchange_info() -> HttpRequest:
    """Ask for every listed pair. Weight 20; the body is up to some 15 MB."""
    return HttpRequest(EXCHANGE_INFO, {"showPermissionSets": "false"}, weight=20, max_body_bytes=32 * 1024 * 1024)


def tickers_24h(symbols: Sequence[str] = ()) -> HttpRequest:
    """Ask for the 24 h statistics of some pairs, or of every pair. Weight 2 up to 20 pairs, 40 up to 100, then 80.

    One name that is not listed has the whole question refused.
    """
    if not 0 < len(symbols) <= 100:
        return HttpRequest(TICKERS_24H, {"type": "MINI"}, weight=80)
    names = orjson.dumps(list(symbols)).decode()
    return HttpRequest(TICKERS_24H, {"type": "MINI", "symbols": names}, weight=2 if len(symbols) <= 20 else 40)


def klines(symbol: str, interval: str, limit: int, start: int | None = None, end: int | None = None) -> HttpRequest:
    """Ask for candles, ascending; with `start` the oldest from there on, else the newest. Weight 2."""
    params = {"symbol": symbol, "interval": interval, "limit": str(min(limit, MAX_KLINES))}
    if start is not None:
        params["startTime"] = str(start)
    if end is not None:
        params["endTime"] = str(end)
    return HttpRequest(KLINES, params, weight=2)


# --- conversations ---


def market_rows(pairs: Sequence[Pair], limit: int = 100) -> Steps[Rows[Coin]]:
    """Return the `limit` most traded of these pairs, the largest quote volume first.

    The exchange knows no rank, market cap, supply, and no change but that of 24 h. `currency` is the quote asset. The
    statistics of all pairs are asked for, which weighs as much as a hundred. Raises: NotFound if there is none of these
    pairs, Outdated if none has moved for long.
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
            change_24h_pct=price.change_24h_pct,
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
    """Return the candles of `query.pair`, ascending; those whose end had passed when it answered are closed.

    Raises: NotFound if there is no such pair, Malformed if there are rows and none can be read.
    """
    response = yield klines(query.pair, query.interval, query.limit, query.start, query.end)
    read = read_klines(response, query.pair, query.interval)
    answered = response.date_ms or response.received_ms
    closed = [replace(candle, closed=candle.close_time < answered) for candle in read.good]
    return Rows(closed, read.rejected)


def all_prices() -> Steps[tuple[HttpResponse, Rows[Price]]]:
    """Return the statistics of every pair and the answer they came in. Raises: Outdated if none has moved for long."""
    response = yield tickers_24h()
    read = read_tickers_24h(response)
    _check_fresh(response, read.good)
    return response, read


def _check_fresh(response: HttpResponse, prices: Sequence[Price]) -> None:
    if len(prices) < MANY_PAIRS:
        return
    age_ms = (response.date_ms or response.received_ms) - max(price.ts for price in prices)
    if age_ms > OUTDATED_MS:
        raise Outdated(NAME, f"the newest statistics are {age_ms / 60_000:.0f} min old")


def _statistics(response: HttpResponse, pairs: Sequence[Pair]) -> tuple[list[tuple[Pair, Price]], Counter[str]]:
    """Return the statistics of the pairs asked for, and the fields at fault of all rows that could not be read."""
    read = read_tickers_24h(response)
    by_symbol = {price.symbol: price for price in read.good}
    found = [(pair, by_symbol[pair.symbol]) for pair in pairs if pair.symbol in by_symbol]
    if not found:
        raise NotFound(NAME, "no statistics of the pairs asked for")
    _check_fresh(response, [price for _, price in found])
    return found, read.rejected


# --- answers ---


def read_exchange_info(response: HttpResponse) -> list[Pair]:
    """Read the body of `/exchangeInfo`. Rows that make no pair are left out.

    Raises: ProviderError if the body has no pairs.
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


_SERVER_TIME = re.compile(rb'"serverTime":\s*(\d{13})\b')


def server_time(response: HttpResponse) -> int | None:
    """Return the exchange's clock (Unix ms) from the head of `/exchangeInfo`, whose long body is not parsed for it."""
    found = _SERVER_TIME.search(response.body, 0, 200)
    return int(found[1]) if found is not None else None


def as_exchange_info(pairs: Iterable[Pair], now_ms: int) -> HttpResponse:
    """Return the answer of `/exchangeInfo` that `read_exchange_info` reads as these pairs."""
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

    Raises: ProviderError if the body has no statistics.
    """
    body = json_body(NAME, response)
    if isinstance(body, dict):
        raise_if_error(body, response.received_ms)
        body = [body]
    if not isinstance(body, list):
        raise Malformed(NAME, "24 h statistics are not a list")
    traded = [row for row in body if not _is_untraded(row)]
    answered_ms = response.date_ms or response.received_ms
    return some_rows(NAME, traded, lambda row: _ticker(row, answered_ms))


def _is_untraded(row: object) -> bool:
    """Return whether nobody has traded the pair of a row: delisted pairs stay on the list with a price of 0."""
    last = row.get("lastPrice") if isinstance(row, dict) else None
    return isinstance(last, str) and last != "" and not last.strip("0.")


def _ticker(row: object, answered_ms: int) -> Price:
    if not isinstance(row, dict):
        raise BadFieldError("row")
    return Price(
        symbol=read_symbol(row, "symbol"),
        price=positive(row, "lastPrice"),
        # A pair that has not traded says 0; the statistics are then as of the answer itself.
        ts=(maybe(read_ms, row, "closeTime") if row.get("closeTime") else None) or answered_ms,
        open_24h=maybe_amount(row, "openPrice"),
        high_24h=maybe_amount(row, "highPrice"),
        low_24h=maybe_amount(row, "lowPrice"),
        volume_24h=maybe_amount(row, "volume"),
        quote_volume_24h=maybe_amount(row, "quoteVolume"),
    )


def read_klines(response: HttpResponse, symbol: str, interval: str) -> Rows[Candle]:
    """Read the body of `/klines`, ascending by open time, each candle once. The last row may still be forming.

    `closed` is False throughout: the rows do not say it. Raises: ProviderError if the body is not a list of rows.
    """
    body = json_body(NAME, response)
    if isinstance(body, dict):
        raise_if_error(body, response.received_ms)
    if not isinstance(body, list):
        raise Malformed(NAME, "klines are not a list")
    rows = some_rows(NAME, body, lambda row: _candle(row, symbol, interval, response.received_ms))
    # Of a candle that stands there twice the later row is the newer one, like everything the exchange says.
    by_open = {candle.open_time: candle for candle in rows.good}
    return replace(rows, good=[by_open[open_time] for open_time in sorted(by_open)])


def _candle(row: object, symbol: str, interval: str, received_ms: int) -> Candle:
    if not isinstance(row, list) or len(row) < 9:
        raise BadFieldError("row")
    fields = dict(zip(("t", "o", "h", "l", "c", "v", "T", "q", "n"), row, strict=False))
    close_time = read_ms(fields, "T")
    candle = Candle(
        symbol=symbol,
        interval=interval,
        open_time=read_ms(fields, "t"),
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
    return sane(candle)


def read_answer(request: HttpRequest, response: HttpResponse) -> Answer:
    """Read an answer by the request it belongs to.

    Raises: ProviderError for a body that can't be used, ValueError or KeyError for a request of no known kind.
    """
    match "/" + request.path.rpartition("/")[2]:
        case "/exchangeInfo":
            return read_exchange_info(response)
        case "/24hr":
            return read_tickers_24h(response)
        case "/klines":
            params = request.params
            key = (params["symbol"], params["interval"])
            start = int(params["startTime"]) if "startTime" in params else None
            return CandleAnswer(key, start, read_klines(response, *key))
    raise ValueError(f"no known question has the path {request.path}")


def _object(response: HttpResponse) -> dict[str, object]:
    body = json_body(NAME, response)
    if not isinstance(body, dict):
        raise Malformed(NAME, "not a JSON object")
    raise_if_error(body, response.received_ms)
    return body


def correct_weight(response: HttpResponse, limiter: Limiter) -> None:
    """Count what this address has used by the exchange's own account: other programs may share it."""
    used = response.headers.get("x-mbx-used-weight-1m", "")
    if used.isascii() and used.isdigit():
        limiter.used(float(used[:9]))


REST = RestRules(
    policy=POLICY,
    pairs=exchange_info,
    read_pairs=read_exchange_info,
    write_pairs=as_exchange_info,
    prices=tickers_24h,
    read_prices=read_tickers_24h,
    all_prices=all_prices,
    candles=klines,
    read_candles=read_klines,
    candles_per_answer=MAX_KLINES,
    read_answer=read_answer,
    market_rows=market_rows,
    candle_history=candles,
    refusal=refusal,
    server_time=server_time,
    correct=correct_weight,
)

"""Reads the rows of CoinGecko's answers: coins, candles, shares of the market, trending coins."""

from collections.abc import Mapping

from feeds.candle_rules import holds_its_body
from feeds.fields import (
    BadFieldError,
    mapping,
    maybe_amount,
    maybe_mapping,
    maybe_number,
    maybe_positive,
    maybe_stamp,
    maybe_text,
    maybe_whole,
    positive,
    text,
)
from feeds.intervals import DAY_MS, STEP_MS
from feeds.model import Candle, Coin, Trending
from orchestrator.texts import one_line

MAX_SHARES = 100
"""Maximum number of coins whose part of the market is read; CoinGecko sends ten."""
MAX_SYMBOL = 40
CLOCKS_DIFFER_MS = DAY_MS
"""A stamp further ahead than this is nonsense."""


def read_coin(row: Mapping[str, object], answered_ms: int) -> Coin:
    """Read one row of `/coins/markets`. Raises BadFieldError."""
    updated = maybe_stamp(row, "last_updated", answered_ms + CLOCKS_DIFFER_MS)
    day = maybe_number(row, "price_change_percentage_24h_in_currency")
    return Coin(
        symbol=text(row, "symbol").strip().upper(),
        id=text(row, "id"),
        name=maybe_text(row, "name"),
        rank=maybe_whole(row, "market_cap_rank"),
        price=positive(row, "current_price"),
        change_1h_pct=maybe_number(row, "price_change_percentage_1h_in_currency"),
        change_24h_pct=maybe_number(row, "price_change_percentage_24h") if day is None else day,
        change_7d_pct=maybe_number(row, "price_change_percentage_7d_in_currency"),
        high_24h=maybe_positive(row, "high_24h"),
        low_24h=maybe_positive(row, "low_24h"),
        volume_24h=maybe_amount(row, "total_volume"),
        market_cap=maybe_amount(row, "market_cap") or None,
        circulating_supply=maybe_amount(row, "circulating_supply") or None,
        currency="usd",
        ts=answered_ms if updated is None else updated,
    )


def read_shares(said: Mapping[str, object]) -> dict[str, float]:
    """Read the percentages of the market by upper-case symbol, the first MAX_SHARES that make sense."""
    shares: dict[str, float] = {}
    for symbol in list(said)[:MAX_SHARES]:
        shown = one_line(symbol, MAX_SYMBOL).upper()
        share = maybe_amount({"market_cap_percentage": said[symbol]}, "market_cap_percentage")
        if shown and share is not None and share <= 100:
            shares[shown] = share
    return shares


def read_candle(row: object, symbol: str, grain: str) -> Candle:
    """Read one row of `/coins/{id}/ohlc`, which is stamped by its end. Raises BadFieldError."""
    if not isinstance(row, list) or len(row) < 5:
        raise BadFieldError("row")
    fields = dict(zip(("stamp", "open", "high", "low", "close"), row, strict=False))
    stamp = fields["stamp"]
    if not isinstance(stamp, int) or isinstance(stamp, bool) or not 10**12 <= stamp < 10**14:
        raise BadFieldError("stamp")
    if stamp % STEP_MS[grain]:
        raise BadFieldError("stamp")  # the last point may be stamped with the moment instead of its candle's end
    first, high, low, last = (positive(fields, name) for name in ("open", "high", "low", "close"))
    candle = Candle(
        symbol=symbol,
        interval=grain,
        open_time=stamp - STEP_MS[grain],
        close_time=stamp - 1,
        open=first,
        high=high,
        low=low,
        close=last,
        volume=None,
        quote_volume=None,
        trades=None,
        closed=True,
        ts=stamp - 1,
    )
    return holds_its_body(candle)


def read_trending(row: object) -> Trending:
    """Read one row of `/search/trending`. Raises BadFieldError."""
    item = mapping(mapping(row).get("item"), "item")
    data = maybe_mapping(item, "data")  # only newer answers have it
    return Trending(
        symbol=text(item, "symbol").strip().upper(),
        id=text(item, "id"),
        name=maybe_text(item, "name") or text(item, "symbol"),
        rank=maybe_whole(item, "market_cap_rank"),
        price=_spelled_price(data),
        change_24h_pct=maybe_number(maybe_mapping(data, "price_change_percentage_24h"), "usd"),
    )


def _spelled_price(data: Mapping[str, object]) -> float | None:
    """Return a number, or text such as `$1,234.5`; None for what is spelled for eyes only (`$0.0₅9`)."""
    price = data.get("price")
    if not isinstance(price, str):
        return maybe_positive(data, "price")
    return maybe_positive({"price": price.strip().removeprefix("$").replace(",", "")}, "price")


def seconds(row: Mapping[str, object], name: str) -> int:
    """Read Unix seconds as milliseconds."""
    return int(positive(row, name) * 1000)

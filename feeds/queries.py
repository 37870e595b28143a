"""The questions that several providers can answer: what a pool of them is asked. Hashable: equal ones are one."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MarketQuery:
    """The market table: the `limit` largest coins, or those of `symbols` (upper-case base assets)."""

    limit: int = 100
    symbols: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CandleQuery:
    """Candles of a base asset, ascending: with `start` the oldest that open from there on, else the newest.

    `pair` is the exchange's own name of the market. Times are Unix ms; a candle that opens at `end` is included.
    """

    base: str
    pair: str
    interval: str
    limit: int = 500
    start: int | None = None
    end: int | None = None

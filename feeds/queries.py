"""The questions that pools are asked, and those that are asked all the time. Hashable: equal ones are one question."""

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


TABLE = MarketQuery(limit=250)
"""The market table that everybody gets; shorter ones are cut from it."""
HISTORY_DAYS = 30
"""Days of the Fear & Greed index that are always asked for."""
EVERYTHING = "all"
"""The question to a pool that answers only one."""
CATALOGUE = "catalogue"
"""The question for the catalogue of data sources."""
HEALTH, STATS = "health", "stats"
"""What Crypto API Clean reports about itself."""

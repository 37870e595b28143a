"""The words of the market.

Prices and volumes are floats: upstream decimal strings hold at most 15-17 digits, which a double gives back
exactly in its shortest text. Times are Unix milliseconds, as integers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Pair:
    """A market: `symbol` is the exchange's own name of it (`BTCUSDT`)."""

    symbol: str
    base: str
    quote: str
    trading: bool = True


@dataclass(frozen=True, slots=True)
class Price:
    """A last price, with the statistics of the last 24 h where the source has them."""

    symbol: str
    price: float
    ts: int
    open_24h: float | None = None
    high_24h: float | None = None
    low_24h: float | None = None
    volume_24h: float | None = None
    quote_volume_24h: float | None = None


@dataclass(frozen=True, slots=True)
class Candle:
    """One candle of one market. `ts` is when the source said so; it is no part of the candle's value."""

    symbol: str
    interval: str
    open_time: int
    close_time: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float
    trades: int
    closed: bool
    ts: int

    def same_values(self, other: "Candle") -> bool:
        """Whether both tell the same of the same span."""
        return (
            self.open_time == other.open_time
            and self.open == other.open
            and self.high == other.high
            and self.low == other.low
            and self.close == other.close
            and self.volume == other.volume
            and self.quote_volume == other.quote_volume
            and self.trades == other.trades
        )


@dataclass(frozen=True, slots=True)
class Event:
    """What a feed says. `log` events all count; of the others only the newest of a topic does."""

    topic: str
    ts: int
    received: int
    source: str
    data: Mapping[str, object]
    log: bool = False


class Sink(Protocol):
    """Where a feed's events go. No method waits, so that no consumer can hold up a reader."""

    def publish(self, event: Event) -> None:
        """Hand on one event."""

    def gap(self, topic: str, start_ms: int, end_ms: int) -> None:
        """Say that the source itself has nothing between two times."""

    def refuse(self, topic: str, reason: str) -> None:
        """Say that a topic somebody waits for cannot be fed after all."""

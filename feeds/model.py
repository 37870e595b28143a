"""The words of the market.

Prices and volumes are floats: upstream decimal strings hold at most 15-17 digits, which a double gives back
exactly in its shortest text. Times are Unix milliseconds, as integers.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

TRADING = "TRADING"
UNLISTED = "UNLISTED"
"""The status of a pair that the newest list lacks for the first time: a list may be cut short, so the next one decides.
"""


@dataclass(frozen=True, slots=True)
class Pair:
    """A market: `symbol` is the exchange's own name of it (`BTCUSDT`), `status` its state in the exchange's words.

    A state passes (`TRADING`, `HALT`, `BREAK`, `CANCEL_ONLY`): a pair that rests exists all the same.
    """

    symbol: str
    base: str
    quote: str
    status: str = TRADING

    @property
    def trading(self) -> bool:
        """Whether it trades now, as far as the exchange has said."""
        return self.status == TRADING


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

    @property
    def change_24h_pct(self) -> float | None:
        """Return the change since the price of 24 h ago in percent; None if that price is unknown."""
        if not self.open_24h:
            return None
        change = (self.price - self.open_24h) / self.open_24h * 100
        return change if math.isfinite(change) else None


@dataclass(frozen=True, slots=True)
class Candle:
    """One candle of one market. `ts` is the time of this value at its source; it is not part of the candle's value.

    A source that knows no volume leaves it None. `derived_from` names the finer interval it was computed from.
    """

    symbol: str
    interval: str
    open_time: int
    close_time: int
    open: float
    high: float
    low: float
    close: float
    volume: float | None
    quote_volume: float | None
    trades: int | None
    closed: bool
    ts: int
    derived_from: str | None = None

    def same_values(self, other: "Candle") -> bool:
        """Whether both have the same values for the same span."""
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

    def filled_from(self, other: "Candle") -> "Candle":
        """Return it with what it doesn't know of its trades taken from another account of the same span."""
        if None not in (self.volume, self.quote_volume, self.trades):
            return self
        return replace(
            self,
            volume=other.volume if self.volume is None else self.volume,
            quote_volume=other.quote_volume if self.quote_volume is None else self.quote_volume,
            trades=other.trades if self.trades is None else self.trades,
        )


@dataclass(frozen=True, slots=True)
class Quote:
    """The price of a coin as an aggregator gives it, in US dollars, with its statistics of the last 24 h.

    `id` is the aggregator's own name of the coin, which no other coin has; a ticker may name several.
    """

    symbol: str
    price: float
    ts: int
    change_24h_pct: float | None = None
    high_24h: float | None = None
    low_24h: float | None = None
    quote_volume_24h: float | None = None
    market_cap: float | None = None
    quote: str = "USD"
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Coin:
    """One row of the market table. Money in `currency` (`usd`, or `usdt` from an exchange); unknown is None."""

    symbol: str
    id: str | None
    name: str | None
    rank: int | None
    price: float
    change_1h_pct: float | None
    change_24h_pct: float | None
    change_7d_pct: float | None
    high_24h: float | None
    low_24h: float | None
    volume_24h: float | None
    market_cap: float | None
    circulating_supply: float | None
    currency: str
    ts: int

    def as_quote(self) -> Quote:
        """Return its price alone."""
        return Quote(
            symbol=self.symbol,
            price=self.price,
            ts=self.ts,
            change_24h_pct=self.change_24h_pct,
            high_24h=self.high_24h,
            low_24h=self.low_24h,
            quote_volume_24h=self.volume_24h,
            market_cap=self.market_cap,
            quote=self.currency.upper(),
            id=self.id,
        )


@dataclass(frozen=True, slots=True)
class GlobalMarket:
    """The whole market, in US dollars."""

    total_market_cap: float
    total_volume_24h: float | None
    market_cap_change_24h_pct: float | None
    btc_dominance_pct: float | None
    eth_dominance_pct: float | None
    dominance_pct: Mapping[str, float]
    """By upper-case symbol."""
    active_cryptocurrencies: int | None
    markets: int | None
    ts: int


@dataclass(frozen=True, slots=True)
class Trending:
    """A coin many people search for now."""

    symbol: str
    id: str
    name: str
    rank: int | None
    price: float | None
    change_24h_pct: float | None


@dataclass(frozen=True, slots=True)
class FearGreed:
    """One day's Fear & Greed index, 0 (extreme fear) to 100."""

    value: int
    classification: str | None
    ts: int
    next_update_s: int | None = None


@dataclass(frozen=True, slots=True)
class Article:
    """A piece of news or a post. Texts are plain: no markup, no control characters."""

    id: str
    """A hash of the normalised URL; of the source's own name of the row, or of title and time, where there is none or
    where the source gives several articles one URL."""
    title: str
    url: str | None
    outlet: str
    """A short name such as `coindesk`."""
    kind: str
    """`news` or `social`."""
    published_at: int
    summary: str | None = None
    symbols: tuple[str, ...] = ()
    votes: Mapping[str, int] | None = None
    published_estimated: bool = False
    """The source gave no time; the time of receipt stands in."""
    key: tuple[str, str] | None = field(default=None, compare=False)
    """The source of the row, and a hash of its lasting name there: a feed's guid, a post's id. Not sent to clients."""


@dataclass(frozen=True, slots=True)
class Sentiment:
    """What a model reads in a text: a score from -1 to 1, and the model's own confidence (0 to 1) if it has one."""

    label: str
    """`positive`, `neutral` or `negative`."""
    score: float
    model: str
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Gas:
    """Gas prices in gwei: total fee a unit of gas, base fee included. Never rounded."""

    chain: str
    chain_id: int
    slow: float | None
    standard: float | None
    fast: float | None
    base_fee: float | None
    block: int | None
    ts: int


@dataclass(frozen=True, slots=True)
class ChainStats:
    """The state of a chain. Supply in whole coins."""

    chain: str
    chain_id: int
    height: int | None
    block_time_s: float | None
    price_usd: float | None
    supply: float | None
    utilisation_pct: float | None
    ts: int


@dataclass(frozen=True, slots=True)
class Resource:
    """One entry of a catalogue of data sources. `auth` names the kind of key it wants; keys themselves are stripped."""

    category: str
    id: str
    name: str
    base_url: str | None
    auth: str
    docs_url: str | None
    endpoints: object
    notes: str | None


@dataclass(frozen=True, slots=True)
class Event:
    """What a feed publishes. `log` events all count; of the others only the newest of a topic does."""

    topic: str
    ts: int
    received: int
    source: str
    data: Mapping[str, object]
    log: bool = False
    lag_ms: int | None = field(default=None, compare=False)
    """The age on receipt, where the feed knows it better than by `ts`: the source's clock is off, or the value is
    true for a while, as the index of a day is. No part of what is said."""


class Sink(Protocol):
    """The receiver of a feed's events. No method waits, so that no consumer can hold up a reader."""

    def publish(self, event: Event) -> None:
        """Hand on one event."""

    def gap(self, topic: str, start_ms: int, end_ms: int) -> None:
        """Publish that the source itself has nothing between two times."""

    def stale(self, topic: str, reason: str) -> None:
        """Publish that a topic has no true value now; its next value makes it fresh again."""

    def refuse(self, topic: str, reason: str) -> None:
        """Publish that a topic for which clients wait cannot be fed."""

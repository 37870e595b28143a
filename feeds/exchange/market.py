"""From Binance's frames and answers to events: one state machine for the live feed and for a tape.

Everything enters through `frame` or `part`, `pairs`, `tickers` and `candles`, with its time of receipt; nothing here
waits, asks or looks at a clock. The same input therefore gives the same events.
"""

import logging
import math
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from feeds import events, topics
from feeds.exchange.candles import KEEP, CandleSeries, Gap, Outcome, Said, State
from feeds.fields import BadFieldError, Rows
from feeds.model import Candle, Event, Pair, Price, Quote, Sink
from feeds.symbols import DOLLARS, Symbols, is_plausible
from feeds.venues import binance
from orchestrator import repairs
from orchestrator.errors import Malformed

log = logging.getLogger(__name__)

FUTURE_MS = 366 * 24 * 3600 * 1000
"""A stamp more than a year ahead is nonsense, and would outrank all that comes after it."""

JUMP = 100.0
"""A price that is so many times the last one, or a part of it so small, waits for a second tick that agrees."""

AGREES = 2.0

RANK = {None: 2, "trade": 1, "candle": 1, "book": 0}
"""Which stream's price wins: a ticker's over the last trade, alone or as a candle's close, over the book's middle."""


DELAYS_KEPT = 256
MISJUDGED_KEPT = 1000
HALTED = "halted"
"""Why a topic is stale whose pair the exchange lists but does not trade."""


@dataclass(frozen=True, slots=True)
class LastPrice:
    """The price of a base that was published last, and what it may be replaced by."""

    price: Price
    rank: int
    polled: bool = False

    def supersedes(self, last: "LastPrice") -> bool:
        """Whether this one is news after `last`: not worse in kind, not overtaken on its way, not said twice."""
        if self.rank != last.rank:
            return self.rank > last.rank
        if self.polled == last.polled:
            return self.price.ts >= last.price.ts and self.price != last.price
        # Stream and REST stamp by different rules: the stream always knows better, REST only what is later.
        return last.polled or self.price.ts > last.price.ts


class ExchangeMarket:
    """What we know of the exchange's markets, and what follows from each thing it says.

    `venue` goes behind the provider's name in `source` (`binance:us`) where the data is not of binance.com.
    """

    def __init__(self, sink: Sink, symbols: Symbols, venue: str = "") -> None:
        self.sink = sink
        self.symbols = symbols
        self.venue = venue
        self.series: dict[tuple[str, str], CandleSeries] = {}
        self.prices: dict[str, LastPrice] = {}
        self.told: dict[str, tuple[Price, int]] = {}
        """By base: the last event that was published, and its rank."""
        self.told_ms = 0
        """When the exchange last gave a price that was published, in Unix ms."""
        self.last: dict[str, float] = {}
        """By base: the last price that was believed, whoever gave it."""
        self.doubted: dict[str, float] = {}
        self.price_from_candles = False
        self.rejected: Counter[str] = Counter()
        self.repaired: Counter[str] = Counter()
        """What was repaired in frames, by kind of damage or by the field that became null."""
        self.dropped: Counter[str] = Counter()
        """Good ticks that were not published: `unlisted`, of pairs that the list lacks, `resting`, of such as rest."""
        self.misjudged: set[str] = set()
        """The pairs that these ticks are of: evidence against the list."""
        self.close_delays_ms: dict[str, deque[int]] = {}
        """By interval: how long after its end, by the exchange's clock, each of the last candles was said closed."""
        self.skew_ms = 0
        """How far the exchange's clock is ahead of ours, as far as is known."""

    # --- what is followed ---

    def follow(self, key: tuple[str, str], keep: int = KEEP) -> CandleSeries:
        """Keep the candles of (pair symbol, interval) from now on, the newest `keep` closed ones."""
        series = self.series.get(key)
        if series is None:
            series = self.series[key] = CandleSeries(key[1], keep)
        return series

    def unfollow(self, key: tuple[str, str]) -> None:
        """Forget a series."""
        self.series.pop(key, None)

    def series_of(self, base: str, interval: str) -> CandleSeries | None:
        """The series of a base asset's pair, if it is followed."""
        pair = self.symbols.by_base.get(base)
        return self.series.get((pair.symbol, interval)) if pair else None

    # --- what the exchange says ---

    def pairs(self, pairs: Sequence[Pair]) -> None:
        """Take the exchange's list of pairs."""
        before = self.symbols.by_base
        self.symbols.learn(pairs)
        self.misjudged.clear()
        now = self.symbols.by_base
        for base in before.keys() - now.keys():
            for known in (self.prices, self.told, self.last, self.doubted):
                known.pop(base, None)
            self.sink.refuse(topics.price(base), f"no market for symbol {base!r} any more")
        for base, pair in now.items():
            if not pair.trading and base in before and before[base].trading:
                self.sink.stale(topics.price(base), HALTED)

    def new_connection(self) -> None:
        """A new socket tells its own time: its first prices are taken whatever their stamps."""
        self.prices.clear()

    def frame(self, raw: bytes, received_ms: int) -> binance.Frame | None:
        """Take one stream frame as a whole; see `part`."""
        return self.part(binance.open_frame(raw, received_ms))

    def part(self, opened: binance.Opened, start: int = 0, end: int | None = None) -> binance.Frame | None:
        """Take the rows of a frame from `start` up to `end`, or a frame without rows. A bad one costs only itself.

        Returns what was taken; None for what could not be read, which is counted.
        """
        received_ms = opened.received_ms
        if not start:
            self._count_repairs(opened.repaired)
        try:
            with repairs.noted() as notes:
                frame = binance.read_opened(opened, start, end)
        except Malformed as error:
            self._reject("frame", error.reason)
            return None
        except BadFieldError as error:
            self._reject(error.name, str(error))
            return None
        finally:
            self._count_repairs(notes.repaired)
        match frame:
            case binance.Prices(rows, finer):
                self._count(rows.rejected)
                for price in rows.good:
                    self._price(LastPrice(price, RANK[finer]), received_ms, finer)
            case Candle():
                if frame.ts - received_ms > FUTURE_MS:
                    self._reject("E", "event time in the future")
                    return None
                self._candle(frame, received_ms)
        return frame

    def tickers(self, rows: Rows[Price], received_ms: int) -> None:
        """Take the 24 h statistics of REST."""
        self._count(rows.rejected)
        for price in rows.good:
            self._price(LastPrice(price, RANK[None], polled=True), received_ms, None)

    def quotes(self, quotes: Sequence[Quote], source: str, received_ms: int, skew_ms: int = 0) -> None:
        """Take the prices of an aggregator, while the exchange gives none; its clock is `skew_ms` ahead of ours."""
        for quote in quotes:
            known, wanted = self.symbols.known, self.symbols.wanted
            if quote.symbol not in self.symbols.by_base if known else wanted and quote.symbol not in wanted:
                continue
            if not is_plausible(quote.symbol) or not self._believes(quote.symbol, quote.price):
                continue
            # Whatever the exchange says next is news again.
            self.prices.pop(quote.symbol, None)
            self.told.pop(quote.symbol, None)
            lag_ms = received_ms + skew_ms - quote.ts
            self.sink.publish(replace(events.quote(quote, source, received_ms), lag_ms=lag_ms))

    def withhold(self, bases: Iterable[str], reason: str) -> None:
        """Say why nobody gives a price of these while the exchange gives none."""
        for base in bases:
            # Whatever the exchange says next is news again.
            self.prices.pop(base, None)
            self.told.pop(base, None)
            self.sink.stale(topics.price(base), reason)

    def exchange_price(self, base: str) -> float | None:
        """The exchange's last price of a base in dollars; None if it has none, or somebody else has spoken since."""
        told, pair = self.told.get(base), self.symbols.by_base.get(base)
        return told[0].price if told is not None and pair is not None and pair.quote in DOLLARS else None

    def candles(
        self,
        key: tuple[str, str],
        rows: Rows[Candle],
        start: int | None,
        received_ms: int,
        as_of_ms: int | None = None,
    ) -> None:
        """Take a backfill of one series, true as of a time of the exchange's clock; no rows: none could be had."""
        self._count(rows.rejected)
        series = self.series.get(key)
        if series is not None:
            begun = series.begun
            outcomes = series.backfill(rows.good, start, as_of_ms, whole=not rows.rejected)
            self._say(key, outcomes, received_ms, timed=begun)

    # --- what follows ---

    def _price(self, new: "LastPrice", received_ms: int, finer: str | None) -> None:
        price = new.price
        if price.ts - received_ms > FUTURE_MS:
            self._reject("E", "event time in the future")
            return
        pair = self.symbols.by_symbol.get(price.symbol)
        if pair is None or not (pair.trading or new.polled):
            self._drop(price.symbol, polled=new.polled)
            return
        last = self.prices.get(pair.base)
        if last is not None and not new.supersedes(last):
            return
        if self._has_told(pair.base, new) or not self._believes(pair.base, price.price):
            return
        if not pair.trading and self._has_told_price(pair.base, price.price):
            return  # a later stamp makes the last price of a pair that rests no fresher
        self.prices[pair.base] = new
        self.told[pair.base] = (price, new.rank)
        self.told_ms = received_ms
        topic = topics.price(pair.base)
        change = (price.price - price.open_24h) / price.open_24h * 100 if price.open_24h else math.inf
        self.sink.publish(
            Event(
                topic=topic,
                ts=price.ts,
                received=received_ms,
                source=self._source(finer),
                data={
                    "symbol": pair.base,
                    "pair": pair.symbol,
                    "quote": pair.quote,
                    "price": price.price,
                    "open_24h": price.open_24h,
                    "high_24h": price.high_24h,
                    "low_24h": price.low_24h,
                    "change_24h_pct": change if math.isfinite(change) else None,
                    "volume_24h": price.volume_24h,
                    "quote_volume_24h": price.quote_volume_24h,
                    "market_cap": None,
                },
                lag_ms=self._lag_ms(price.ts, received_ms),
            )
        )
        if not pair.trading:
            self.sink.stale(topic, HALTED)  # its last price, and no more than that

    def _drop(self, symbol: str, polled: bool) -> None:
        """Count a tick that is not published. That the stream ticks is evidence; REST tells of pairs that rest, too."""
        listed = symbol in self.symbols.listed
        if polled or (listed and symbol not in self.symbols.by_symbol):
            return  # of a market that is not ours
        self.dropped["resting" if listed else "unlisted"] += 1
        if len(self.misjudged) < MISJUDGED_KEPT:
            self.misjudged.add(symbol)

    def _has_told(self, base: str, new: LastPrice) -> bool:
        """Whether this very event was published last: another connection or REST brings it again."""
        told = self.told.get(base)
        # Whole events are compared only where their times agree: this is asked of every one.
        return told is not None and told[0].ts == new.price.ts and told == (new.price, new.rank)

    def _has_told_price(self, base: str, price: float) -> bool:
        told = self.told.get(base)
        return told is not None and told[0].price == price

    def _believes(self, base: str, price: float) -> bool:
        """Whether a price is no leap, or one that a second tick has confirmed."""
        last = self.last.get(base)
        if last is not None and not last / JUMP < price < last * JUMP:
            doubted = self.doubted.get(base)
            if doubted is None or not doubted / AGREES < price < doubted * AGREES:
                self.doubted[base] = price
                self._reject("jump", f"price of {base} leapt from {last:g} to {price:g}")
                return False
        self.doubted.pop(base, None)
        self.last[base] = price
        return True

    def _candle(self, candle: Candle, received_ms: int) -> None:
        key = (candle.symbol, candle.interval)
        series = self.series.get(key)
        if series is None:
            return
        if self.price_from_candles:
            close = Price(candle.symbol, candle.close, candle.ts)
            self._price(LastPrice(close, RANK["candle"]), received_ms, "candle")
        self._say(key, series.apply(candle), received_ms)

    def _say(self, key: tuple[str, str], outcomes: Sequence[Outcome], received_ms: int, timed: bool = True) -> None:
        pair = self.symbols.listed.get(key[0])
        if pair is None:
            return
        topic = topics.ohlcv(pair.base, key[1])
        for outcome in outcomes:
            match outcome:
                case Said(candle, state):
                    if timed and state is State.CLOSED:
                        delays = self.close_delays_ms.setdefault(key[1], deque(maxlen=DELAYS_KEPT))
                        delays.append(max(0, received_ms + self.skew_ms - candle.close_time))
                    self.sink.publish(
                        Event(
                            topic=topic,
                            ts=candle.ts,
                            received=received_ms,
                            source=self._source(None),
                            data=candle_data(candle, pair, state),
                            log=state is not State.LIVE,
                            lag_ms=self._lag_ms(candle.ts, received_ms),
                        )
                    )
                case Gap(start, end):
                    log.warning("candle_gap", extra={"topic": topic, "start": start, "end": end})
                    self.sink.gap(topic, start, end)

    def _lag_ms(self, ts: int, received_ms: int) -> int | None:
        """How old a value was on receipt, if the stamps do not tell; one that we stamped ourselves was new."""
        return received_ms + self.skew_ms - ts if self.skew_ms and ts != received_ms else None

    def _source(self, finer: str | None) -> str:
        detail = ".".join(part for part in (self.venue, finer) if part)
        return f"{binance.NAME}:{detail}" if detail else binance.NAME

    def _count_repairs(self, repaired: Counter[str]) -> None:
        for what, count in repaired.items():
            if not self.repaired[what]:
                log.warning("upstream_repaired", extra={"provider": binance.NAME, "what": what, "count": count})
            self.repaired[what] += count

    def _count(self, rejected: Counter[str]) -> None:
        if rejected:
            for name, count in rejected.items():
                self._reject(name, f"bad field {name!r}", count)

    def _reject(self, name: str, reason: str, count: int = 1) -> None:
        # The first of its kind is worth a line; the counter tells the rest.
        if not self.rejected[name]:
            log.warning("upstream_rejected", extra={"provider": binance.NAME, "reason": reason})
        self.rejected[name] += count


def candle_data(candle: Candle, pair: Pair, state: State) -> dict[str, object]:
    """A candle as clients see it, in events and in REST answers alike."""
    return {
        "symbol": pair.base,
        "pair": pair.symbol,
        "quote": pair.quote,
        "interval": candle.interval,
        "open_time": candle.open_time,
        "close_time": candle.close_time,
        "open": candle.open,
        "high": candle.high,
        "low": candle.low,
        "close": candle.close,
        "volume": candle.volume,
        "quote_volume": candle.quote_volume,
        "trades": candle.trades,
        "closed": candle.closed,
        "state": state.value,
    }

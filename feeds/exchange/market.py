"""Turn an exchange's frames and answers into events: one state machine for the live feed and for a tape.

Everything enters through `part`, `pairs`, `tickers` and `candles`, with its time of receipt; nothing here waits, asks
or looks at a clock. The same input therefore gives the same events.
"""

import logging
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from feeds import events, shapes, topics
from feeds.exchange.candles import KEEP, CandleSeries, CandleState, Gap, Outcome, Published
from feeds.exchange.venue import ALL_PAIRS, Frame, Key, Opened, Prices, Venue
from feeds.fields import BadFieldError, Rows
from feeds.model import Candle, Event, Pair, Price, Quote, Sink
from feeds.symbols import DOLLARS, Symbols, is_plausible
from orchestrator import repairs
from orchestrator.errors import Malformed

log = logging.getLogger(__name__)

FUTURE_MS = 366 * 24 * 3600 * 1000
"""A stamp more than a year ahead is nonsense, and would outrank every later one."""

JUMP = 100.0
"""A price that is this many times the last one, or less than this part of it, waits for a second tick that agrees."""

AGREES = 2.0

RANK = {None: 2, "trade": 1, "candle": 1, "book": 0}
"""The higher rank wins: a ticker's price over a trade's or a candle's close, and those over the middle of the book."""

DELAYS_KEPT = 256
MISJUDGED_KEPT = 1000
HALTED = "halted"
"""Why a topic is stale whose pair the exchange lists but does not trade."""


@dataclass(frozen=True, slots=True)
class LastPrice:
    """The price of a base that was published last, with what decides which one may replace it."""

    price: Price
    rank: int
    polled: bool = False

    def supersedes(self, last: "LastPrice") -> bool:
        """Return whether this price is news after `last`: not of a lower rank, not overtaken, not a repetition."""
        if self.rank != last.rank:
            return self.rank > last.rank
        if self.polled == last.polled:
            return self.price.ts >= last.price.ts and self.price != last.price
        # Stream and REST stamp by different rules: a streamed price always replaces a polled one, not the reverse.
        return last.polled or self.price.ts > last.price.ts


class ExchangeMarket:
    """Keeps what is known of the markets of an exchange, and publishes what follows from each frame and answer."""

    def __init__(self, sink: Sink, symbols: Symbols, venue: Venue) -> None:
        self.sink = sink
        self.symbols = symbols
        self.venue = venue
        self.series: dict[Key, CandleSeries] = {}
        self.prices: dict[str, LastPrice] = {}
        self.published: dict[str, tuple[Price, int]] = {}
        """By base: the last price of the exchange that was published, and its rank."""
        self.published_ms = 0
        """Time of receipt of the last price of the exchange that was published, in Unix ms."""
        self.last: dict[str, float] = {}
        """By base: the last plausible price of any source."""
        self.doubted: dict[str, float] = {}
        self.price_from_candles = False
        self.rejected: Counter[str] = Counter()
        self.repaired: Counter[str] = Counter()
        """Repairs of frames, by kind of damage or by the field that became null."""
        self.dropped: Counter[str] = Counter()
        """Good ticks that were not published: `unlisted` of pairs that the list lacks, `resting` of pairs that rest."""
        self.misjudged: set[str] = set()
        """The pairs of these ticks: evidence against the list."""
        self.close_delays_ms: dict[str, deque[int]] = {}
        """By interval: how long after its end, by the exchange's clock, each of the last candles came closed."""
        self.skew_ms = 0
        """How far the exchange's clock is ahead of ours, as far as is known."""

    # --- what is followed ---

    def follow(self, key: Key, keep: int = KEEP) -> CandleSeries:
        """Follow the candles of a series from now on, and keep the newest `keep` closed ones."""
        series = self.series.get(key)
        if series is None:
            series = self.series[key] = CandleSeries(key[1], keep)
        return series

    def unfollow(self, key: Key) -> None:
        """Forget a series."""
        self.series.pop(key, None)

    def series_of(self, base: str, interval: str) -> CandleSeries | None:
        """Return the series of a base asset's pair; None if it is not followed."""
        pair = self.symbols.by_base.get(base)
        return self.series.get((pair.symbol, interval)) if pair else None

    # --- what comes from the exchange ---

    def pairs(self, pairs: Sequence[Pair]) -> None:
        """Take the exchange's list of pairs."""
        before = self.symbols.by_base
        self.symbols.learn(pairs)
        self.misjudged.clear()
        now = self.symbols.by_base
        for base in before.keys() - now.keys():
            for known in (self.prices, self.published, self.last, self.doubted):
                known.pop(base, None)
            self.sink.refuse(topics.price(base), f"no market for symbol {base!r} any more")
        for base, pair in now.items():
            if not pair.trading and base in before and before[base].trading:
                self.sink.stale(topics.price(base), HALTED)

    def new_connection(self, symbol: str = ALL_PAIRS) -> None:
        """Take the first price of a new connection whatever its stamp: another server has a clock of its own."""
        pair = self.symbols.by_symbol.get(symbol)
        if symbol == ALL_PAIRS:
            self.prices.clear()
        elif pair is not None:
            self.prices.pop(pair.base, None)

    def part(self, opened: Opened, start: int = 0, end: int | None = None) -> Frame | None:
        """Take the rows of a frame from `start` up to, but not at, `end`; or a frame without rows.

        A bad row costs only itself. Returns what was taken; None for a frame that could not be read, which is counted.
        """
        received_ms = opened.received_ms
        if not start:
            self._count_repairs(opened.repaired)
        try:
            with repairs.noted() as notes:
                frame = self.venue.frames.read(opened, start, end)
        except Malformed as error:
            self._reject("frame", error.reason)
            return None
        except BadFieldError as error:
            self._reject(error.name, str(error))
            return None
        finally:
            self._count_repairs(notes.repaired)
        match frame:
            case Prices(rows, finer):
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
        """Publish the prices of an aggregator while the exchange gives none; its clock is `skew_ms` ahead of ours."""
        for quote in quotes:
            known, wanted = self.symbols.known, self.symbols.wanted
            if quote.symbol not in self.symbols.by_base if known else wanted and quote.symbol not in wanted:
                continue
            if not is_plausible(quote.symbol) or not self._is_plausible_price(quote.symbol, quote.price):
                continue
            self._forget_price(quote.symbol)
            lag_ms = received_ms + skew_ms - quote.ts
            self.sink.publish(replace(events.quote(quote, source, received_ms), lag_ms=lag_ms))

    def withhold(self, bases: Iterable[str], reason: str) -> None:
        """Mark the prices of these as stale, with the reason, while neither the exchange nor another source has one."""
        for base in bases:
            self._forget_price(base)
            self.sink.stale(topics.price(base), reason)

    def _forget_price(self, base: str) -> None:
        """Let whatever the exchange sends next be news again."""
        self.prices.pop(base, None)
        self.published.pop(base, None)

    def exchange_price(self, base: str) -> float | None:
        """Return the exchange's last dollar price of a base; None if it has none, or another source has a later one."""
        published, pair = self.published.get(base), self.symbols.by_base.get(base)
        return published[0].price if published is not None and pair is not None and pair.quote in DOLLARS else None

    def candles(
        self,
        key: Key,
        rows: Rows[Candle],
        start: int | None,
        received_ms: int,
        as_of_ms: int | None = None,
    ) -> None:
        """Take a backfill of one series, true as of a time of the exchange's clock; without rows there are none."""
        self._count(rows.rejected)
        series = self.series.get(key)
        if series is not None:
            begun = series.begun
            outcomes = series.backfill(rows.good, start, as_of_ms, whole=not rows.rejected)
            self._publish_candles(key, outcomes, received_ms, timed=begun)

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
        if self._has_published(pair.base, new) or not self._is_plausible_price(pair.base, price.price):
            return
        if not pair.trading and self._has_published_price(pair.base, price.price):
            return  # a later stamp makes the last price of a pair that rests no fresher
        self.prices[pair.base] = new
        self.published[pair.base] = (price, new.rank)
        self.published_ms = received_ms
        topic = topics.price(pair.base)
        self.sink.publish(
            Event(
                topic=topic,
                ts=price.ts,
                received=received_ms,
                source=self.venue.source(finer),
                data=events.price_data(price, pair),
                lag_ms=self._lag_ms(price.ts, received_ms),
            )
        )
        if not pair.trading:
            self.sink.stale(topic, HALTED)  # this is its last price, not a present one

    def _drop(self, symbol: str, polled: bool) -> None:
        """Count a tick that is not published. A streamed one is evidence; REST has pairs that rest, too."""
        listed = symbol in self.symbols.listed
        if polled or (listed and symbol not in self.symbols.by_symbol):
            return  # of a market that is not ours
        self.dropped["resting" if listed else "unlisted"] += 1
        if len(self.misjudged) < MISJUDGED_KEPT:
            self.misjudged.add(symbol)

    def _has_published(self, base: str, new: LastPrice) -> bool:
        """Return whether this very price was published last: another connection or REST brings it again."""
        published = self.published.get(base)
        # Whole prices are compared only if their times agree, because this is asked for every row.
        return published is not None and published[0].ts == new.price.ts and published == (new.price, new.rank)

    def _has_published_price(self, base: str, price: float) -> bool:
        published = self.published.get(base)
        return published is not None and published[0].price == price

    def _is_plausible_price(self, base: str, price: float) -> bool:
        """Return whether a price is near the last one, or far from it and confirmed by a second tick."""
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
        key = candle.symbol, candle.interval
        series = self.series.get(key)
        if series is None:
            return
        if self.price_from_candles:
            close = Price(candle.symbol, candle.close, candle.ts)
            self._price(LastPrice(close, RANK["candle"]), received_ms, "candle")
        self._publish_candles(key, series.apply(candle), received_ms)

    def _publish_candles(self, key: Key, outcomes: Sequence[Outcome], received_ms: int, timed: bool = True) -> None:
        pair = self.symbols.listed.get(key[0])
        if pair is None:
            return
        topic = topics.ohlcv(pair.base, key[1])
        for outcome in outcomes:
            match outcome:
                case Published(candle, state):
                    if timed and state is CandleState.CLOSED:
                        delays = self.close_delays_ms.setdefault(key[1], deque(maxlen=DELAYS_KEPT))
                        delays.append(max(0, received_ms + self.skew_ms - candle.close_time))
                    self.sink.publish(
                        Event(
                            topic=topic,
                            ts=candle.ts,
                            received=received_ms,
                            source=self.venue.source(),
                            data=candle_data(candle, pair, state),
                            log=state is not CandleState.LIVE,
                            lag_ms=self._lag_ms(candle.ts, received_ms),
                        )
                    )
                case Gap(start, end):
                    log.warning("candle_gap", extra={"topic": topic, "start": start, "end": end})
                    self.sink.gap(topic, start, end)

    def _lag_ms(self, ts: int, received_ms: int) -> int | None:
        """Return the age of a value on receipt if its stamp misleads; None if it doesn't, as with a stamp of ours."""
        return received_ms + self.skew_ms - ts if self.skew_ms and ts != received_ms else None

    def _count_repairs(self, repaired: Counter[str]) -> None:
        for what, count in repaired.items():
            if not self.repaired[what]:
                log.warning("upstream_repaired", extra={"provider": self.venue.name, "what": what, "count": count})
            self.repaired[what] += count

    def _count(self, rejected: Counter[str]) -> None:
        if rejected:
            for name, count in rejected.items():
                self._reject(name, f"bad field {name!r}", count)

    def _reject(self, name: str, reason: str, count: int = 1) -> None:
        # Only the first of its kind is logged; the counter has the rest.
        if not self.rejected[name]:
            log.warning("upstream_rejected", extra={"provider": self.venue.name, "reason": reason})
        self.rejected[name] += count


def candle_data(candle: Candle, pair: Pair, state: CandleState) -> shapes.Candle:
    """Return a candle as clients see it, in events and in REST answers alike."""
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

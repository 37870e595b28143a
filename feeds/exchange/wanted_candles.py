"""Decide which candle series are followed: those that the settings name, and those that clients listen to."""

import logging
from collections.abc import Callable, Sequence

from feeds import topics
from feeds.exchange.candles import KEEP
from feeds.exchange.market import HALTED, ExchangeMarket
from feeds.exchange.venue import Key

log = logging.getLogger(__name__)

KEEP_ON_DEMAND = 200
"""Closed candles of a series that a client has started; older ones are fetched from the exchange when asked for."""


class WantedCandles:
    """The wanted topics, and the series that serve them.

    `bases` and `intervals` are what the settings name. `begin(key, is_new)` is called to bring a series, `end(key)` to
    stop it; `before_change()` is called before either changes the market.
    """

    def __init__(
        self,
        market: ExchangeMarket,
        bases: Sequence[str],
        intervals: Sequence[str],
        begin: Callable[[Key, bool], None],
        end: Callable[[Key], None],
        before_change: Callable[[], None],
    ) -> None:
        self.market = market
        self.venue = market.venue
        self.symbols = market.symbols
        self.bases = bases
        self.intervals = intervals
        self.begin = begin
        self.end = end
        self.before_change = before_change
        self.wanted: set[str] = set()
        """Topics that clients listen to."""
        self.always: set[str] = set()
        """Topics that the settings name and the exchange has."""
        self.keys: dict[str, Key] = {}
        """Each series that is followed, by its topic; also of a pair that is not listed any more."""
        self.warned: set[str] = set()

    @property
    def on_demand(self) -> int:
        """The number of series that only clients want."""
        return len(self.keys.keys() - self.always)

    def want(self, topic: str) -> None:
        """Bring the candles of this topic; before the pairs are known the topic is remembered."""
        base = topics.base_of(topic)
        if base is None:
            return
        self.wanted.add(topic)
        pair = self.symbols.by_base.get(base)
        if pair is None:
            if self.symbols.known:
                self._unfollow(topic)
                self._refuse(topic, f"no market for symbol {base!r}")
            return
        if not pair.trading:
            self.market.sink.stale(topic, HALTED)
        candle = topics.candle_topic(topic)
        if candle is None:
            self.wanted.discard(topic)  # prices of every pair come anyway
        elif candle.interval not in self.venue.intervals:
            self._refuse(topic, f"{self.venue.name} has no candles of {candle.interval}")
        else:
            self._follow(topic, (pair.symbol, candle.interval))

    def want_all(self) -> None:
        """Want what the settings name and what clients listen to. A name that the exchange lacks is logged once."""
        before = self.always
        listed = [base for base in self.bases if base in self.symbols.by_base]
        self.always = {topics.ohlcv(base, interval) for base in listed for interval in self.intervals}
        for base in set(self.bases) - set(listed) - self.warned:
            log.warning("candles_unlisted", extra={"symbol": base})
        self.warned = set(self.bases) - set(listed)
        for topic in sorted(self.always | self.wanted | (before - self.always)):
            self.want(topic)

    def starts(self, topic: str) -> bool:
        """Return whether bringing this topic starts a stream: one of candles that the settings do not name."""
        candle = topics.candle_topic(topic)
        return candle is not None and (candle.base not in self.bases or candle.interval not in self.intervals)

    def drop(self, topic: str) -> bool:
        """Stop candles that nobody listens to. Returns False for a topic that goes on: prices, and set candles."""
        if topic not in self.always:
            self.wanted.discard(topic)
        if topics.candle_topic(topic) is None or topic in self.always:
            return False
        self._unfollow(topic)
        return True

    def is_configured(self, key: Key) -> bool:
        """Return whether the settings name a series."""
        pair = self.symbols.listed.get(key[0])
        return pair is not None and topics.ohlcv(pair.base, key[1]) in self.always

    def have_begun(self) -> bool:
        """Return whether each series that the settings name has its history. Those of clients wait for their turn."""
        configured = [self.market.series.get(key) for topic, key in self.keys.items() if topic in self.always]
        return all(series is not None and series.begun for series in configured)

    def _refuse(self, topic: str, reason: str) -> None:
        self.wanted.discard(topic)
        self.market.sink.refuse(topic, reason)

    def _follow(self, topic: str, key: Key) -> None:
        self.before_change()
        if self.keys.get(topic, key) != key:
            self._unfollow(topic)  # another pair serves this base now
        self.keys[topic] = key
        is_new = key not in self.market.series
        self.market.follow(key, KEEP if topic in self.always else KEEP_ON_DEMAND)
        self.begin(key, is_new)

    def _unfollow(self, topic: str) -> None:
        """End the series of a topic, if it is followed."""
        key = self.keys.pop(topic, None)
        if key is not None:
            self.before_change()
            self.market.unfollow(key)
            self.end(key)

"""Judge which streams are dead, by what other streams and REST report, and have them subscribed again."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from feeds.exchange.awake import AwakeTime
from feeds.exchange.backfill import log_failure
from feeds.exchange.stream_socket import StreamSocket
from feeds.exchange.venue import ALL_PAIRS, Key, Venue
from feeds.exchange.watchdog import LONGEST_CADENCE_S, Watchdog
from feeds.model import Candle, Price
from feeds.symbols import Symbols
from orchestrator.clock import Clock
from orchestrator.errors import ProviderError
from orchestrator.http import HttpRequest, HttpResponse
from orchestrator.upstream import Upstream

log = logging.getLogger(__name__)

TICKERS_COMPARED = 20
"""This many of the most traded pairs show whether anything happens at all; more would cost more of the allowance."""


@dataclass(frozen=True, slots=True)
class JudgePolicy:
    """Times in seconds; `FeedPolicy` describes them."""

    silence_s: float
    watch_s: float
    first_delay_s: float


class StreamJudge:
    """Follows the confirmed streams of all `sockets`.

    `followed` has the candle series, and `price_streams` the pairs, by the name of their stream. `get(request, urgent)`
    asks REST.
    """

    def __init__(
        self,
        venue: Venue,
        sockets: Sequence[StreamSocket],
        followed: Mapping[str, Key],
        price_streams: Mapping[str, str],
        symbols: Symbols,
        rest: Upstream,
        get: Callable[[HttpRequest, bool], Awaitable[HttpResponse]],
        clock: Clock,
        awake: AwakeTime,
        policy: JudgePolicy,
    ) -> None:
        self.venue = venue
        self.sockets = sockets
        self.followed = followed
        self.price_streams = price_streams
        self.symbols = symbols
        self.rest = rest
        self.get = get
        self.clock = clock
        self.awake = awake
        self.policy = policy
        self.watchdog = Watchdog()
        self.busiest: list[str] = []
        """The most traded pairs: if anything is traded, one of these is."""
        self.seen: dict[str, Price] = {}
        """By pair symbol: the last known price of any source since the tickers were subscribed."""

    def begin(self) -> None:
        """Forget all streams."""
        self.watchdog = Watchdog()

    def subscribed(self, stream: str) -> None:
        """Follow a stream that the exchange has confirmed."""
        now = self.awake.now()
        key, symbol = self.followed.get(stream), self.price_streams.get(stream)
        rules = self.venue.streams
        if symbol == ALL_PAIRS:
            self.seen = {}
            self.watchdog.follow(stream, ALL_PAIRS, rules.ticker_cadence_s, self.policy.silence_s, now)
        elif symbol is not None:
            self.seen.pop(symbol, None)
            self.watchdog.follow(stream, symbol, rules.ticker_cadence_s, LONGEST_CADENCE_S, now)
        elif key is not None:
            self.watchdog.follow(stream, key[0], rules.candle_cadence_s, LONGEST_CADENCE_S, now)

    def is_lively(self, stream: str, within_s: float) -> bool:
        """Return whether a stream will send something within that time."""
        return self.watchdog.is_lively(stream, within_s, self.awake.now())

    def polled(self, prices: Sequence[Price]) -> None:
        """Learn the most traded pairs from the statistics of all."""
        by_volume = sorted(prices, key=lambda price: price.quote_volume_24h or 0.0, reverse=True)
        listed = (price.symbol for price in by_volume if price.symbol in self.symbols.by_symbol)
        self.busiest = list(islice(listed, TICKERS_COMPARED))

    def heard_prices(self, stream: str, prices: Sequence[Price], event_ms: int) -> bool:
        """Take the prices of a frame of tickers. Returns whether any of it is new."""
        now = self.awake.now()
        followed = stream if stream in self.price_streams else self.venue.streams.all_tickers
        is_news = followed is not None and self.watchdog.heard(followed, (event_ms,), event_ms, now)
        if is_news:
            for price in prices:
                self.seen[price.symbol] = price
                self.watchdog.ticked(price.symbol, price.price, price.volume_24h or 0.0, price.ts, now)
        return is_news

    def heard_candle(self, candle: Candle) -> None:
        """Take a candle of a stream."""
        stream = self.venue.streams.candle_stream(candle.symbol, candle.interval)
        if stream is None:
            return
        now = self.awake.now()
        known = self.watchdog.known(stream)
        is_news = self.watchdog.heard(stream, _mark(candle), candle.ts, now)
        if is_news and known is not None and _trades_since(known, [candle]):
            self.watchdog.traded(candle.symbol, min(candle.ts, candle.close_time), now)

    def answered(self, key: Key, candles: Sequence[Candle]) -> None:
        """Compare the candles of an answer of REST with the stream, which owes every trade in them."""
        stream = self.venue.streams.candle_stream(*key)
        if stream is None:
            return
        known = self.watchdog.known(stream)
        if known is not None and _trades_since(known, candles):
            self.watchdog.missed(stream, self.awake.now())
        elif known is None and candles:
            self.watchdog.may_know(stream, _mark(candles[-1]))

    # --- streams that died ---

    async def watch(self) -> None:
        """Subscribe to a dead stream again; if that does not help, or all is silent, leave its connection."""
        while True:
            pauses = self.awake.pauses
            await self.clock.sleep(self.policy.watch_s)
            now = self.awake.now()
            if self.awake.pauses > pauses:
                continue  # first read what came while we stood still
            for stream in self.watchdog.dead(now):
                socket = self._socket_of(stream)
                if socket is None:
                    continue  # it is about to be subscribed again anyway
                is_first_time = not self.watchdog.streams[stream].renewed
                self.watchdog.treated(stream, now)
                if is_first_time and socket.silent_s() < self.venue.streams.candle_cadence_s:
                    log.warning("stream_dead", extra={"socket": socket.name, "stream": stream, "cure": "renew"})
                    socket.renew(stream)
                else:
                    log.warning("stream_dead", extra={"socket": socket.name, "stream": stream, "cure": "rotate"})
                    socket.rotate(f"{stream} is dead", elsewhere=True)

    async def question(self) -> None:
        """Ask REST whether a stream that sends nothing had anything to send."""
        while True:
            await self.clock.sleep(self.policy.watch_s)
            for stream in self.watchdog.suspects(self.awake.now()):
                missed, pause_s = None, 0.0
                if self._socket_of(stream) is not None:
                    try:
                        missed = await self._has_missed(stream)
                    except ProviderError as error:
                        log_failure(self.rest, f"about {stream}", error)
                        pause_s = min(max(self.policy.first_delay_s, self.rest.back_in_s()), self.policy.silence_s / 3)
                now = self.awake.now()
                if self.price_streams.get(stream) == ALL_PAIRS and missed is None:
                    # In all markets together something trades each second.
                    missed = self.watchdog.silent_s(stream, now) >= self.policy.silence_s or None
                if missed is None:
                    self.watchdog.unsure(stream, now)
                elif missed:
                    self.watchdog.missed(stream, now)
                else:
                    self.watchdog.quiet(stream, now)
                await self.clock.sleep(pause_s)

    def _socket_of(self, stream: str) -> StreamSocket | None:
        """Return the socket that brings a stream now; None for a stream that none brings."""
        return next((socket for socket in self.sockets if stream in socket.active), None)

    async def _has_missed(self, stream: str) -> bool | None:
        """Return whether a stream kept something back; None if there is nothing to compare with yet."""
        symbol = self.price_streams.get(stream)
        if symbol is not None:
            return await self._tickers_have_missed(self.busiest if symbol == ALL_PAIRS else [symbol])
        key = self.followed.get(stream)
        if key is None:
            return None
        known = self.watchdog.known(stream)
        response = await self.get(self.venue.rest.candles(*key, 2), False)
        candles = self.venue.rest.read_candles(response, *key).good
        if known is None and candles:
            self.watchdog.may_know(stream, _mark(candles[-1]))
        return _trades_since(known, candles) if known is not None else None

    async def _tickers_have_missed(self, symbols: Sequence[str]) -> bool | None:
        listed = [symbol for symbol in symbols if symbol in self.symbols.by_symbol]
        if not listed:
            return None
        response = await self.get(self.venue.rest.prices(listed), False)
        rows = self.venue.rest.read_prices(response).good
        then = [self.seen.setdefault(row.symbol, row) for row in rows]
        if all(row is old for row, old in zip(rows, then, strict=True)):
            return None
        return any(
            row.price != old.price or (row.volume_24h or 0.0) > (old.volume_24h or 0.0)
            for row, old in zip(rows, then, strict=True)
        )


def _mark(candle: Candle) -> tuple[int, ...]:
    """Return how far a candle stream has come; a later mark is greater."""
    return candle.open_time, candle.trades or 0, int(candle.closed)


def _trades_since(known: tuple[int, ...], candles: Sequence[Candle]) -> bool:
    """Return whether these candles hold a trade that came after a mark."""
    open_time, trades, *_ = known
    return any(
        (each.open_time == open_time and (each.trades or 0) > trades) or (each.open_time > open_time and each.trades)
        for each in candles
    )

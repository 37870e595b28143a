"""Judge which streams are dead, by what the others and REST say, and have them brought again."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from feeds.exchange.awake import AwakeTime
from feeds.exchange.backfill import Key, log_failure
from feeds.exchange.stream_socket import StreamSocket
from feeds.exchange.watchdog import LONGEST_CADENCE_S, Watchdog
from feeds.model import Candle, Price
from feeds.symbols import Symbols
from feeds.venues import binance
from orchestrator.clock import Clock
from orchestrator.errors import ProviderError
from orchestrator.http import HttpRequest, HttpResponse
from orchestrator.upstream import Upstream

log = logging.getLogger(__name__)

ALL_MARKETS = ""
"""What the ticker stream tells of."""
TICKERS_COMPARED = 20
"""So many of the most traded pairs tell whether anything happens at all; more would weigh more."""


@dataclass(frozen=True, slots=True)
class JudgePolicy:
    """Times in seconds."""

    ticker_cadence_s: float
    candle_cadence_s: float
    silence_s: float
    watch_s: float
    first_delay_s: float


class StreamJudge:
    """Follows the confirmed streams of all `sockets`.

    `followed` are the candle series by the name of their stream. `get(request, urgent)` asks REST.
    """

    def __init__(
        self,
        sockets: Sequence[StreamSocket],
        followed: Mapping[str, Key],
        symbols: Symbols,
        rest: Upstream,
        get: Callable[[HttpRequest, bool], Awaitable[HttpResponse]],
        clock: Clock,
        awake: AwakeTime,
        policy: JudgePolicy,
    ) -> None:
        self.sockets = sockets
        self.followed = followed
        self.symbols = symbols
        self.rest = rest
        self.get = get
        self.clock = clock
        self.awake = awake
        self.policy = policy
        self.watchdog = Watchdog()
        self.busiest: list[str] = []
        """The most traded pairs: if anything happens, it happens there."""
        self.seen: dict[str, Price] = {}
        """By pair symbol: what was last known, by whomever, since the tickers were subscribed."""

    def begin(self) -> None:
        """Forget all streams."""
        self.watchdog = Watchdog()

    def subscribed(self, stream: str) -> None:
        """Follow a stream that the exchange has confirmed."""
        now = self.awake.now()
        key = self.followed.get(stream)
        if stream == binance.ALL_MINI_TICKERS:
            self.seen = {}
            self.watchdog.follow(stream, ALL_MARKETS, self.policy.ticker_cadence_s, self.policy.silence_s, now)
        elif key is not None:
            self.watchdog.follow(stream, key[0], self.policy.candle_cadence_s, LONGEST_CADENCE_S, now)

    def is_lively(self, stream: str, within_s: float) -> bool:
        """Return whether a stream is going to speak within that time."""
        return self.watchdog.is_lively(stream, within_s, self.awake.now())

    def polled(self, prices: Sequence[Price]) -> None:
        """Learn from the statistics of all pairs which are traded most."""
        by_volume = sorted(prices, key=lambda price: price.quote_volume_24h or 0.0, reverse=True)
        listed = (price.symbol for price in by_volume if price.symbol in self.symbols.by_symbol)
        self.busiest = list(islice(listed, TICKERS_COMPARED))

    def heard_prices(self, prices: Sequence[Price], event_ms: int) -> bool:
        """Take the prices of a frame of tickers. Returns whether it told anything new."""
        now = self.awake.now()
        is_news = self.watchdog.heard(binance.ALL_MINI_TICKERS, (event_ms,), event_ms, now)
        if is_news:
            for price in prices:
                self.seen[price.symbol] = price
                self.watchdog.ticked(price.symbol, price.price, price.volume_24h or 0.0, price.ts, now)
        return is_news

    def heard_candle(self, candle: Candle) -> None:
        """Take a candle of a stream."""
        now = self.awake.now()
        stream = binance.kline_stream(candle.symbol, candle.interval)
        told = self.watchdog.known(stream)
        is_news = self.watchdog.heard(stream, _mark(candle), candle.ts, now)
        if is_news and told is not None and _trades_since(told, [candle]):
            self.watchdog.traded(candle.symbol, min(candle.ts, candle.close_time), now)

    def answered(self, key: Key, candles: Sequence[Candle]) -> None:
        """REST has told candles: a stream that has not told what traded in them owes it."""
        stream = binance.kline_stream(*key)
        told = self.watchdog.known(stream)
        if told is not None and _trades_since(told, candles):
            self.watchdog.missed(stream, self.awake.now())
        elif told is None and candles:
            self.watchdog.may_know(stream, _mark(candles[-1]))

    # --- streams that died ---

    async def watch(self) -> None:
        """Ask anew for a dead stream; if that does not help, or all is silent, leave its connection for another."""
        while True:
            pauses = self.awake.pauses
            await self.clock.sleep(self.policy.watch_s)
            now = self.awake.now()
            if self.awake.pauses > pauses:
                continue  # first read what has come while we stood still
            for stream in self.watchdog.dead(now):
                socket = self._socket_of(stream)
                if socket is None:
                    continue  # it is about to be subscribed anew anyway
                is_first_time = not self.watchdog.streams[stream].renewed
                self.watchdog.treated(stream, now)
                if is_first_time and socket.silent_s() < self.policy.candle_cadence_s:
                    log.warning("stream_dead", extra={"socket": socket.name, "stream": stream, "cure": "renew"})
                    socket.renew(stream)
                else:
                    log.warning("stream_dead", extra={"socket": socket.name, "stream": stream, "cure": "rotate"})
                    socket.rotate(f"{stream} is dead", elsewhere=True)

    async def question(self) -> None:
        """Ask REST whether there was anything to tell for a stream that tells nothing."""
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
                if stream == binance.ALL_MINI_TICKERS and missed is None:
                    # Somewhere something trades each second.
                    missed = self.watchdog.silent_s(stream, now) >= self.policy.silence_s or None
                if missed is None:
                    self.watchdog.unsure(stream, now)
                elif missed:
                    self.watchdog.missed(stream, now)
                else:
                    self.watchdog.quiet(stream, now)
                await self.clock.sleep(pause_s)

    def _socket_of(self, stream: str) -> StreamSocket | None:
        """The socket that brings a stream now."""
        return next((socket for socket in self.sockets if stream in socket.active), None)

    async def _has_missed(self, stream: str) -> bool | None:
        """Whether a stream has not told something; None if there is nothing to compare with yet."""
        if stream == binance.ALL_MINI_TICKERS:
            return await self._tickers_have_missed()
        key = self.followed.get(stream)
        if key is None:
            return None
        told = self.watchdog.known(stream)
        response = await self.get(binance.klines(*key, 2), False)
        candles = binance.read_klines(response, *key).good
        if told is None and candles:
            self.watchdog.may_know(stream, _mark(candles[-1]))
        return _trades_since(told, candles) if told is not None else None

    async def _tickers_have_missed(self) -> bool | None:
        busiest = [symbol for symbol in self.busiest if symbol in self.symbols.by_symbol]
        if not busiest:
            return None
        response = await self.get(binance.tickers_24h(busiest), False)
        rows = binance.read_tickers_24h(response).good
        then = [self.seen.setdefault(row.symbol, row) for row in rows]
        if all(row is old for row, old in zip(rows, then, strict=True)):
            return None
        return any(
            row.price != old.price or (row.volume_24h or 0.0) > (old.volume_24h or 0.0)
            for row, old in zip(rows, then, strict=True)
        )


def _mark(candle: Candle) -> tuple[int, ...]:
    """How far a candle stream has come."""
    return candle.open_time, candle.trades or 0, int(candle.closed)


def _trades_since(told: tuple[int, ...], candles: Sequence[Candle]) -> bool:
    """Whether these candles hold a trade that is not in what was told."""
    open_time, trades, *_ = told
    return any(
        (each.open_time == open_time and (each.trades or 0) > trades) or (each.open_time > open_time and each.trades)
        for each in candles
    )

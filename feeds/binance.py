"""The live Binance feed: which streams are wanted, what REST must add, and when to ask it.

The stream carries everything it can. REST gives what a stream cannot: the list of pairs, prices before the first
frame, and the candles that passed while nobody listened. Answers and frames alike go to `BinanceMarket`.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import orjson

from feeds import topics
from feeds.intervals import count_between
from feeds.market import BinanceMarket
from feeds.model import Candle, Pair
from feeds.providers import binance
from feeds.tape import Recorder
from feeds.websocket import SocketPolicy, StreamSocket
from orchestrator.clock import Clock
from orchestrator.errors import Malformed, ProviderError
from orchestrator.hosts import Hosts
from orchestrator.http import HttpRequest, HttpResponse, Transport, get_in_turn
from orchestrator.retry import Backoff

log = logging.getLogger(__name__)

HISTORY = 500
BACKFILLS_AT_ONCE = 4
QUIET_SILENCE_S = 300.0


@dataclass(frozen=True, slots=True)
class BinancePolicy:
    """What the feed carries and how often REST is asked. Times in seconds."""

    candle_bases: Sequence[str] = ()
    candle_intervals: Sequence[str] = ()
    poll_s: float = 30.0
    """Between two polls of all prices while no stream delivers."""
    pairs_refresh_s: float = 3600.0
    unlisted_refresh_s: float = 300.0
    """A pair that the stream names and we don't know asks for a new list, but not more often than this."""
    hole_patience_s: float = 2.0
    """Frames may overtake each other; a hole that closes by itself within this time needs no backfill."""
    first_delay_s: float = 1.0
    longest_delay_s: float = 60.0
    socket: SocketPolicy = field(default_factory=SocketPolicy)


class BinanceFeed:
    """Runs until cancelled. `want` and `drop` start and stop candles that somebody listens to."""

    name = "binance"

    def __init__(
        self,
        market: BinanceMarket,
        stream_hosts: Hosts,
        rest_hosts: Hosts,
        transport: Transport,
        clock: Clock,
        rng: random.Random,
        policy: BinancePolicy,
        pairs_file: Path | None = None,
        recorder: Recorder | None = None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.market = market
        self.symbols = market.symbols
        self.stream_hosts = stream_hosts
        self.rest_hosts = rest_hosts
        self.transport = transport
        self.clock = clock
        self.rng = rng
        self.policy = policy
        self.pairs_file = pairs_file
        self.recorder = recorder
        self.on_change = on_change
        self.sockets: list[StreamSocket] = []
        self.wanted: set[str] = set()
        self.always: set[str] = set()
        self.backfilling: set[tuple[str, str]] = set()
        self.backfill_slots = asyncio.Semaphore(BACKFILLS_AT_ONCE)
        self.group: asyncio.TaskGroup | None = None
        self.pairs_failed = False
        self.tickers_failed = False
        self.last_prices = float("-inf")
        self.pairs_from_disk = False

    # --- what is wanted ---

    def want(self, topic: str) -> None:
        """Bring the candles of this topic; before the pairs are known it is remembered."""
        base = topics.base_of(topic)
        if base is None:
            return
        self.wanted.add(topic)
        pair = self.symbols.by_base.get(base)
        if pair is None:
            if self.symbols.known:
                self.wanted.discard(topic)
                self.market.sink.refuse(topic, f"no market for symbol {base!r}")
            return
        candle = topics.candle_topic(topic)
        if candle is None:
            self.wanted.discard(topic)  # prices of every pair come anyway
            return
        key = (pair.symbol, candle.interval)
        is_new = key not in self.market.series
        self.market.follow(key)
        if is_new and self.recorder is not None:
            # Now and not with the exchange's word: frames may come before it, and count from here on.
            self.recorder.subscribed([binance.kline_stream(*key)], self.clock.wall_ms())
        if self.group is not None:
            stream = binance.kline_stream(*key)
            socket = self._socket_for(stream)
            socket.want(stream)
            if is_new and stream in socket.active:
                self._subscribed({stream})  # dropped a moment ago, and the exchange has not been told yet

    def drop(self, topic: str) -> bool:
        """Stop candles that nobody listens to; True if they are no longer brought. Prices and set candles go on."""
        candle = topics.candle_topic(topic)
        if topic not in self.always:
            self.wanted.discard(topic)
        if candle is None or topic in self.always:
            return False
        pair = self.symbols.by_base.get(candle.base)
        if pair is not None:
            key = (pair.symbol, candle.interval)
            self.market.unfollow(key)
            if self.recorder is not None:
                self.recorder.dropped(binance.kline_stream(*key), self.clock.wall_ms())
            for socket in self.sockets:
                socket.drop(binance.kline_stream(*key))
        return True

    def _socket_for(self, stream: str) -> StreamSocket:
        for socket in self.sockets:
            if stream in socket.wanted:
                return socket
        for socket in self.sockets:
            if len(socket.wanted | socket.active) < binance.MAX_STREAMS_PER_SOCKET:
                return socket
        return self._open_socket()

    def _open_socket(self) -> StreamSocket:
        socket: StreamSocket

        def on_frame(raw: bytes, received_ms: int) -> bool:
            return self._frame(socket, raw, received_ms)

        def on_subscribed(streams: set[str]) -> None:
            self._subscribed(streams)

        socket = StreamSocket(
            f"binance-{len(self.sockets) + 1}",
            self.stream_hosts,
            self.clock,
            self.rng,
            on_frame,
            on_subscribed,
            # Only the first carries the tickers of all pairs; candles alone may well be quiet for a while.
            self.policy.socket if not self.sockets else replace(self.policy.socket, silence_s=QUIET_SILENCE_S),
            self.on_change,
        )
        self.sockets.append(socket)
        if self.group is not None:
            self.group.create_task(socket.run(), name=socket.name)
        return socket

    # --- running ---

    async def run(self) -> None:
        """Learn the pairs and stream; REST fills in. Upstream failures are met here, none gets out."""
        self.sockets.clear()
        self.backfilling.clear()
        async with asyncio.TaskGroup() as group:
            self.group = group
            try:
                self._open_socket().want(binance.ALL_MINI_TICKERS)
                await self._first_pairs()
                self._want_all()
                group.create_task(self._poll_prices(), name="binance:prices")
                group.create_task(self._refresh_pairs(), name="binance:pairs")
                group.create_task(self._mend_holes(), name="binance:holes")
                await asyncio.Event().wait()  # the sockets run for ever
            finally:
                self.group = None

    def _want_all(self) -> None:
        """Want what the settings name and what clients have asked for; what the exchange lacks is said once."""
        for base in self.policy.candle_bases:
            if base not in self.symbols.by_base:
                log.warning("candles_unlisted", extra={"symbol": base})
                continue
            for interval in self.policy.candle_intervals:
                self.always.add(topics.ohlcv(base, interval))
        for topic in sorted(self.always | self.wanted):
            self.want(topic)

    async def _first_pairs(self) -> None:
        """Wait for the list of pairs: without it no symbol can be split. An older one on disk will do at once."""
        if self._load_pairs():
            return
        backoff = Backoff(self.policy.first_delay_s, self.policy.longest_delay_s, self.rng)
        while not await self._fetch_pairs():
            await self.clock.sleep(max(backoff.next_delay_s(), self.rest_hosts.wait_s()))

    async def _refresh_pairs(self) -> None:
        asked = self.clock.now()
        if self.pairs_from_disk:
            await self._fetch_pairs()
        while True:
            await self.clock.sleep(self.policy.unlisted_refresh_s)
            due = self.clock.now() - asked >= self.policy.pairs_refresh_s
            if due or self.market.unlisted:
                asked = self.clock.now()
                if await self._fetch_pairs():
                    self._want_all()

    async def _fetch_pairs(self) -> bool:
        request = binance.exchange_info()
        try:
            response = await self._get(request)
            pairs = binance.read_exchange_info(response)
        except ProviderError as error:
            self._failed("pairs", error)
            self.pairs_failed = True
            self.on_change()
            return False
        self.pairs_failed = False
        self._record(request, response)
        self.market.pairs(pairs)
        self._save_pairs(pairs)
        self.on_change()
        return True

    def _load_pairs(self) -> bool:
        if self.pairs_file is None:
            return False
        try:
            rows = orjson.loads(self.pairs_file.read_bytes())
            pairs = [Pair(str(s), str(b), str(q), bool(t)) for s, b, q, t in rows]
        except (OSError, ValueError, TypeError):
            return False
        if not pairs:
            return False
        self._record(binance.exchange_info(), binance.as_exchange_info(pairs, self.clock.wall_ms()))
        self.market.pairs(pairs)
        self.pairs_from_disk = True
        return True

    def _save_pairs(self, pairs: Sequence[Pair]) -> None:
        if self.pairs_file is None:
            return
        rows = [[pair.symbol, pair.base, pair.quote, pair.trading] for pair in pairs]
        try:
            self.pairs_file.parent.mkdir(parents=True, exist_ok=True)
            part = self.pairs_file.with_suffix(".part")
            part.write_bytes(orjson.dumps(rows))
            part.replace(self.pairs_file)
        except OSError as error:
            log.warning("state_not_saved", extra={"file": str(self.pairs_file), "cause": error.strerror})

    # --- prices by REST while no stream delivers ---

    async def _poll_prices(self) -> None:
        """Ask for all prices once, as the stream tells only of pairs that move; again whenever it has fallen silent."""
        backoff = Backoff(self.policy.first_delay_s, self.policy.poll_s, self.rng)
        asked = False
        while True:
            if asked and self._stream_delivers():
                await self.clock.sleep(min(5.0, self.policy.poll_s))
                continue
            request = binance.tickers_24h()
            try:
                response = await self._get(request)
                rows = binance.read_tickers_24h(response)
            except ProviderError as error:
                self._failed("tickers", error)
                self.tickers_failed = True
                self.on_change()
                await self.clock.sleep(max(backoff.next_delay_s(), self.rest_hosts.wait_s()))
                continue
            backoff.reset()
            asked = True
            self.tickers_failed = False
            self._record(request, response)
            self.market.tickers(rows, response.received_ms)  # where the stream has spoken meanwhile, it is believed
            await self.clock.sleep(self.policy.poll_s)

    def _stream_delivers(self) -> bool:
        socket = self.sockets[0] if self.sockets else None
        quiet_s = self.clock.now() - self.last_prices
        return socket is not None and socket.delivers() and quiet_s < self.policy.socket.silence_s / 2

    # --- candles by REST ---

    def _subscribed(self, streams: set[str]) -> None:
        """The exchange now sends these: fetch what passed before."""
        if self.recorder is not None:
            self.recorder.subscribed(sorted(streams), self.clock.wall_ms())
        if binance.ALL_MINI_TICKERS in streams:
            self.market.new_connection()
        for key in list(self.market.series):
            if binance.kline_stream(*key) in streams:
                self._backfill(key)
        self.on_change()

    def _backfill(self, key: tuple[str, str]) -> None:
        if key not in self.backfilling and self.group is not None:
            self.backfilling.add(key)
            self.group.create_task(self._run_backfill(key), name=f"backfill:{key[0]}:{key[1]}")

    async def _run_backfill(self, key: tuple[str, str]) -> None:
        """Fetch until nothing is missing. The series is asked anew each time, so only the missing span is fetched."""
        backoff = Backoff(self.policy.first_delay_s, self.policy.longest_delay_s, self.rng)
        try:
            while (series := self.market.series.get(key)) is not None:
                start = series.expected() if series.reached_back else None
                newest = max(
                    series.live.open_time if series.live else 0,
                    max(series.waiting, default=0),
                    self.clock.wall_ms(),
                )
                limit = HISTORY
                if start is not None:
                    limit = max(2, min(binance.MAX_KLINES, count_between(start, newest, key[1]) + 2))
                request = binance.klines(*key, limit, start)
                try:
                    async with self.backfill_slots:
                        response = await self._get(request)
                    rows = binance.read_klines(response, *key)
                except ProviderError as error:
                    self._failed("klines", error)
                    if not series.begun and self.market.series.get(key) is series:
                        self._without_history(key, request)
                    await self.clock.sleep(max(backoff.next_delay_s(), self.rest_hosts.wait_s()))
                    continue
                backoff.reset()
                if self.market.series.get(key) is not series:
                    continue  # dropped, and perhaps wanted anew, while we asked: that series has questions of its own
                self._record(request, response)
                self.market.candles(key, rows, start, response.received_ms)
                if len(rows.good) < binance.MAX_KLINES or series.expected() == start:
                    return
        finally:
            self.backfilling.discard(key)

    def _without_history(self, key: tuple[str, str], request: HttpRequest) -> None:
        """What the stream closes must not wait for a history that cannot be had now."""
        nothing = HttpResponse(200, {}, b"[]", self.clock.wall_ms())
        self._record(request, nothing)
        self.market.candles(key, binance.Rows(), None, nothing.received_ms)

    async def _mend_holes(self) -> None:
        """Backfill series that have had a hole for longer than frames take to overtake each other."""
        since: dict[tuple[str, str], tuple[int, float]] = {}
        while True:
            await self.clock.sleep(self.policy.hole_patience_s / 2)
            now = self.clock.now()
            holes = {key: series.missing_from() for key, series in self.market.series.items()}
            for key, hole in holes.items():
                if hole is None:
                    since.pop(key, None)
                elif key not in since or since[key][0] != hole:
                    since[key] = (hole, now)
                elif now - since[key][1] >= self.policy.hole_patience_s:
                    since[key] = (hole, now + 10.0)  # asked now; not again for a while
                    self._backfill(key)

    async def history(self, pair: Pair, interval: str, limit: int, start: int | None, end: int | None) -> list[Candle]:
        """Candles straight from REST, for what no series holds. Raises ProviderError.

        A candle is closed when its time is over by the exchange's own clock, the `Date` of its answer.
        """
        response = await self._get(binance.klines(pair.symbol, interval, limit, start, end))
        rows = binance.read_klines(response, pair.symbol, interval)
        if not rows.good and rows.rejected:
            raise Malformed(binance.NAME, f"no readable candle (bad {', '.join(rows.rejected)})")
        now_ms = response.date_ms or response.received_ms
        return [replace(row, closed=row.close_time < now_ms) for row in rows.good]

    # --- how it goes ---

    def readiness(self) -> dict[str, str | None]:
        """For each category what it has first: a value, a known failure, or None for neither yet."""
        streaming, known = self._stream_delivers(), self.symbols.known
        errors = [*self.rest_hosts.errors(), *self.stream_hosts.errors()]
        failure = "; ".join(errors) if errors and (self.pairs_failed or self.tickers_failed or not known) else None
        begun = known and all(series.begun for series in self.market.series.values())
        return {
            "price": "value" if self.market.prices or streaming else failure,
            "ohlcv": "value" if begun and bool(self.sockets) else failure,
        }

    def report(self) -> dict[str, object]:
        """What a person wants to know of this feed."""
        states = {socket.report.state for socket in self.sockets}
        if self._stream_delivers():
            state = "live"
        elif self.market.prices and not self.tickers_failed:
            state = "polling"
        else:
            state = next((name for name in ("connecting", "waiting", "live") if name in states), "starting")
        errors = [*self.stream_hosts.errors(), *self.rest_hosts.errors()]
        return {
            "name": self.name,
            "state": state,
            "last_error": "; ".join(errors) or None,
            "pairs": len(self.symbols.by_base),
            "candle_series": len(self.market.series),
            "sockets": [
                {"name": socket.name, "streams": len(socket.wanted), **asdict(socket.report)} for socket in self.sockets
            ],
            "stream_hosts": self.stream_hosts.report(),
            "rest_hosts": self.rest_hosts.report(),
            "rejected": dict(self.market.rejected),
        }

    # --- plumbing ---

    async def _get(self, request: HttpRequest) -> HttpResponse:
        try:
            return await get_in_turn(self.transport, self.rest_hosts, binance.NAME, request, binance.refusal)
        finally:
            self.on_change()

    def _record(self, request: HttpRequest, response: HttpResponse) -> None:
        """Only what is applied goes on a tape, in the order it is applied."""
        if self.recorder is not None:
            self.recorder.answer(request, response)

    def _frame(self, socket: StreamSocket, raw: bytes, received_ms: int) -> bool:
        if self.recorder is not None:
            self.recorder.frame(raw, received_ms)
        frame = self.market.frame(raw, received_ms)
        match frame:
            case binance.Prices():
                self.last_prices = self.clock.now()
                return True
            case binance.Ack():
                socket.acknowledged(frame)
            case binance.Shutdown():
                socket.reconnect()
        return isinstance(frame, Candle)

    def _failed(self, what: str, error: ProviderError) -> None:
        cause = "; ".join(self.rest_hosts.errors()) or error.reason
        log.warning("rest_failed", extra={"provider": binance.NAME, "asked": what, "cause": cause})

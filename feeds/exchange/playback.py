"""Run the whole service on a tape, in its own time."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator

from feeds import topics
from feeds.exchange.market import ExchangeMarket
from feeds.exchange.slices import SLICE_ROWS
from feeds.exchange.tape import Connection, Record, Tape
from feeds.intervals import STEP_MS
from feeds.symbols import QUOTES, split_by_quote
from feeds.venues import binance
from orchestrator.clock import Clock
from orchestrator.errors import ProviderError
from orchestrator.http import HttpRequest, HttpResponse

log = logging.getLogger(__name__)


class TapeClock:
    """Time as it was on the tape: the last record's stamp, plus what has passed since.

    Durations stay real, so that heartbeats and timeouts towards clients are not those of the past.
    """

    def __init__(self, real: Clock) -> None:
        self.real = real
        self.at_ms = 0
        self.since = real.now()

    def turn_to(self, at_ms: int) -> None:
        """Say where on the tape we are; never backwards."""
        self.at_ms = max(at_ms, self.wall_ms() if self.at_ms else 0)
        self.since = self.real.now()

    def now(self) -> float:
        return self.real.now()

    def wall_ms(self) -> int:
        if not self.at_ms:
            return self.real.wall_ms()
        return self.at_ms + int((self.real.now() - self.since) * 1000)

    async def sleep(self, seconds: float) -> None:
        await self.real.sleep(seconds)


class TapeFeed:
    """Plays a tape into a market, at `speed` times its own pace; 0 is as fast as can be."""

    name = "tape"

    def __init__(
        self, tape: Tape, market: ExchangeMarket, clock: TapeClock, speed: float, on_change: Callable[[], None]
    ) -> None:
        self.tape = tape
        self.market = market
        self.clock = clock
        self.speed = speed
        self.on_change = on_change
        self.played = 0
        self.state = "waiting"
        self.connections: dict[str, Connection] = {}
        """By socket of the recording: what was last said of it."""

    def want(self, topic: str) -> None:
        """A tape has what it has: refuse what is not on it."""
        candle = topics.candle_topic(topic)
        if candle is not None:
            missing = self.market.series_of(candle.base, candle.interval) is None
        else:
            missing = topics.category_of(topic) not in ("price", topics.STATUS)
        if missing:
            self.market.sink.refuse(topic, "not on this tape")

    def drop(self, topic: str) -> bool:
        """Nothing to stop."""
        return False

    async def run(self) -> None:
        """Play to the end, then keep serving what was played."""
        self.state = "playing"
        if self.tape.foreign:
            self._announce()
        first_ms: int | None = None
        started = self.clock.now()
        self.on_change()
        for record in self.tape.records():
            if first_ms is None:
                first_ms = record.at
            if self.speed:
                due = started + (record.at - first_ms) / 1000 / self.speed
                if due > self.clock.now():
                    await self.clock.sleep(due - self.clock.now())
            elif self.played % 100 == 0:
                await asyncio.sleep(0)
            self.clock.turn_to(record.at)
            if record.frame is not None:
                await self._frame(record.frame, record.at)
            else:
                self._play(record)
            self.played += 1
        self.state = "ended"
        log.info("tape_ended", extra={"file": str(self.tape.path), "records": self.played})
        self.on_change()
        await asyncio.Event().wait()

    def readiness(self) -> dict[str, str | None]:
        """A tape is ready when it plays."""
        return {"tape": None if self.state == "waiting" else self.state}

    def report(self) -> dict[str, object]:
        """How far the tape is."""
        return {
            "name": self.name,
            "state": self.state,
            "file": self.tape.path.name,
            "speed": self.speed,
            "played": self.played,
            "skipped": self.tape.skipped,
            "at": self.clock.wall_ms() if self.played else None,
            "last_error": "; ".join(f"{each.host}: {each.cause}" for each in self._lost()) or None,
            "sockets": [
                {"name": each.socket, "state": "live" if each.cause is None else "waiting", "host": each.host}
                for each in self.connections.values()
            ],
            "rejected": dict(self.market.rejected),
        }

    def _lost(self) -> list[Connection]:
        """The sockets that had no connection at this point of the recording."""
        return [each for each in self.connections.values() if each.cause is not None]

    def _announce(self) -> None:
        """Learn pairs and series from the stream names, as such a tape has no exchangeInfo."""
        pairs = {}
        for stream in self.tape.streams:
            pair = split_by_quote(stream.partition("@")[0].upper(), QUOTES)
            if pair is not None:
                pairs[pair.symbol] = pair
        self.market.pairs(list(pairs.values()))
        self.market.price_from_candles = True
        for key in self._series_in(self.tape.streams):
            self.market.follow(key).begin()

    def _series_in(self, streams: Iterable[str]) -> Iterator[tuple[str, str]]:
        spelled = {symbol.lower(): symbol for symbol in self.market.symbols.listed}
        for stream in streams:
            symbol, _, interval = stream.partition("@kline_")
            if interval in STEP_MS and symbol in spelled:
                yield spelled[symbol], interval

    async def _frame(self, raw: bytes, received_ms: int) -> None:
        """Take one frame, some rows at a time."""
        frame = binance.open_frame(raw, received_ms)
        for start in range(0, max(1, frame.rows), SLICE_ROWS):
            if start:
                await asyncio.sleep(0)
            self.market.part(frame, start, start + SLICE_ROWS)

    def _play(self, record: Record) -> None:
        if record.answer is not None:
            self._answer(*record.answer)
        elif record.connection is not None:
            self.connections[record.connection.socket] = record.connection
            if self.speed:  # without a pace of its own nothing lasts, and how often it were told would be chance
                self.on_change()
        elif record.dropped is not None:
            for key in self._series_in([record.dropped]):
                self.market.unfollow(key)
        else:
            if binance.ALL_MINI_TICKERS in record.subscribed:
                self.market.new_connection()
            for key in self._series_in(record.subscribed):
                self.market.follow(key)

    def _answer(self, request: HttpRequest, response: HttpResponse, as_of_ms: int | None) -> None:
        params = request.params
        try:
            match request.path.rpartition("/")[2]:
                case "exchangeInfo":
                    self.market.pairs(binance.read_exchange_info(response))
                case "24hr":
                    self.market.tickers(binance.read_tickers_24h(response), response.received_ms)
                case "klines":
                    key = (params["symbol"], params["interval"])
                    start = int(params["startTime"]) if "startTime" in params else None
                    rows = binance.read_klines(response, *key)
                    self.market.candles(key, rows, start, response.received_ms, as_of_ms)
        except (ProviderError, KeyError, ValueError) as error:
            log.warning("tape_answer_skipped", extra={"path": request.path, "cause": str(error)})

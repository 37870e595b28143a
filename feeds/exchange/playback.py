"""Run the whole service on a tape, in the tape's own time."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator

from feeds import topics
from feeds.exchange.market import ExchangeMarket
from feeds.exchange.slices import SLICE_ROWS
from feeds.exchange.tape import Connection, Record, Tape
from feeds.exchange.venue import CandleAnswer, Key
from feeds.fields import Rows
from feeds.symbols import QUOTES, split_by_quote
from orchestrator.clock import Clock
from orchestrator.errors import ProviderError
from orchestrator.http import HttpRequest, HttpResponse

log = logging.getLogger(__name__)


class TapeClock:
    """Shows the time of the tape: the last record's stamp, plus the real time since it was played.

    Durations stay real, so that heartbeats and timeouts of clients are those of the present.
    """

    def __init__(self, real: Clock) -> None:
        self.real = real
        self.at_ms = 0
        self.since = real.now()

    def turn_to(self, at_ms: int) -> None:
        """Set the time to that of a record; it never goes backwards."""
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
    """Plays a tape into a market, at `speed` times its own pace; 0 is as fast as possible."""

    name = "tape"

    def __init__(
        self, tape: Tape, market: ExchangeMarket, clock: TapeClock, speed: float, on_change: Callable[[], None]
    ) -> None:
        self.tape = tape
        self.market = market
        self.venue = market.venue
        self.clock = clock
        self.speed = speed
        self.on_change = on_change
        self.played = 0
        self.state = "waiting"
        self.connections: dict[str, Connection] = {}
        """The last record of each socket of the recording, by its name."""

    def want(self, topic: str) -> None:
        """Refuse a topic that is not on the tape."""
        candle = topics.candle_topic(topic)
        if candle is not None:
            missing = self.market.series_of(candle.base, candle.interval) is None
        else:
            missing = topics.category_of(topic) not in ("price", topics.STATUS)
        if missing:
            self.market.sink.refuse(topic, "not on this tape")

    def drop(self, topic: str) -> bool:
        """Return False: playing goes on."""
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
        """Return the state of the tape; None before it plays."""
        return {"tape": None if self.state == "waiting" else self.state}

    def report(self) -> dict[str, object]:
        """Return how far the tape has been played, and what became of its sockets."""
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
        """Return the sockets that had no connection at this point of the recording."""
        return [each for each in self.connections.values() if each.cause is not None]

    def _announce(self) -> None:
        """Learn pairs and series from the stream names, as such a tape has no list of pairs."""
        pairs = {}
        for stream in self.tape.streams:
            pair = split_by_quote(self.venue.streams.parse_name(stream).symbol, QUOTES)
            if pair is not None:
                pairs[pair.symbol] = pair
        self.market.pairs(list(pairs.values()))
        self.market.price_from_candles = True
        for key in self._series_in(self.tape.streams):
            self.market.follow(key).begin()

    def _series_in(self, streams: Iterable[str]) -> Iterator[Key]:
        for stream in streams:
            name = self.venue.streams.parse_name(stream)
            if name.interval is None or name.interval not in self.venue.intervals:
                continue
            if name.symbol in self.market.symbols.listed:
                yield name.symbol, name.interval

    async def _frame(self, raw: bytes, received_ms: int) -> None:
        """Take one frame, some rows at a time."""
        frame = self.venue.frames.open(raw, received_ms)
        for start in range(0, max(1, frame.rows), SLICE_ROWS):
            if start:
                await asyncio.sleep(0)
            self.market.part(frame, start, start + SLICE_ROWS)

    def _play(self, record: Record) -> None:
        if record.answer is not None:
            self._answer(*record.answer)
        elif record.connection is not None:
            self.connections[record.connection.socket] = record.connection
            if self.speed:  # at full speed no state lasts, and which of them would be seen is chance
                self.on_change()
        elif record.dropped is not None:
            for key in self._series_in([record.dropped]):
                self.market.unfollow(key)
        else:
            for stream in record.subscribed:
                self._take_new_prices(stream)
            for key in self._series_in(record.subscribed):
                self.market.follow(key)

    def _take_new_prices(self, stream: str) -> None:
        """Let a stream of prices that begins again bring prices of any stamp."""
        name = self.venue.streams.parse_name(stream)
        if stream == self.venue.streams.all_tickers:
            self.market.new_connection()
        elif name.interval is None:
            self.market.new_connection(name.symbol)

    def _answer(self, request: HttpRequest, response: HttpResponse, as_of_ms: int | None) -> None:
        try:
            answer = self.venue.rest.read_answer(request, response)
        except (ProviderError, KeyError, ValueError) as error:
            log.warning("tape_answer_skipped", extra={"path": request.path, "cause": str(error)})
            return
        match answer:
            case CandleAnswer(key, start, rows):
                self.market.candles(key, rows, start, response.received_ms, as_of_ms)
            case Rows():
                self.market.tickers(answer, response.received_ms)
            case _:
                self.market.pairs(answer)

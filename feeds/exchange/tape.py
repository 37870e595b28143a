"""Record raw upstream traffic, and run the whole service on a recording.

A tape is JSON lines. The first tells what it is: `{"tape": 1, "recorded_at": ms, "url": …}`. Each further line has
`at`, the time of receipt in milliseconds, and one of

- `frame`: the text of a stream frame (`frame_b64` if it was not UTF-8),
- `answer`: `{"path", "params", "body"}` of a REST answer that was applied, with `as_of`, the least time of the
  exchange's clock at which it is true, where that matters,
- `subscribed`: the streams that are followed from here on, or `dropped`: one that is no longer followed,
- `opened`: `{"socket", "host"}` of a connection that counts from here on, or `lost`: the same with the `cause` why
  there is none.

Recordings of cryptofeed's outline load as well: `{"url": …}` first, then `{"received_at": seconds, "raw": text}`. They
hold no list of pairs, so there alone symbols are split by known quote assets. Both may be gzipped.
"""

import asyncio
import base64
import gzip
import logging
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import parse_qs, unquote, urlsplit

import orjson

from feeds import topics
from feeds.exchange.market import BinanceMarket
from feeds.exchange.slices import SLICE_ROWS
from feeds.intervals import STEP_MS
from feeds.symbols import QUOTES, split_by_quote
from feeds.venues import binance
from orchestrator.clock import Clock
from orchestrator.errors import ProviderError
from orchestrator.http import HttpRequest, HttpResponse

log = logging.getLogger(__name__)

VENUES = {"binance.us": "us", "trbinance.com": "tr"}


class TapeError(Exception):
    """A file that is no tape; the text names it and says why."""


def venue_of(url: str) -> str:
    """Which exchange of Binance's name a host belongs to: empty for binance.com, whose prices are its own."""
    host = urlsplit(url).hostname or ""
    return next((venue for domain, venue in VENUES.items() if host == domain or host.endswith("." + domain)), "")


# --- recording ---


class Recorder:
    """Appends to a tape. A disk that fails ends the recording, never the service."""

    def __init__(self, path: Path, url: str, now_ms: int) -> None:
        """Raises OSError if the file cannot be written."""
        self.path = path
        self.file: IO[bytes] | gzip.GzipFile | None
        self.file = gzip.open(path, "wb") if path.suffix == ".gz" else path.open("wb")  # noqa: SIM115 - closed below
        self.lines = 0
        self._write({"tape": 1, "recorded_at": now_ms, "url": url})

    def frame(self, raw: bytes, received_ms: int) -> None:
        """Record a stream frame as it came."""
        try:
            self._write({"at": received_ms, "frame": raw.decode()})
        except UnicodeDecodeError:
            self._write({"at": received_ms, "frame_b64": base64.b64encode(raw).decode()})

    def answer(self, request: HttpRequest, response: HttpResponse, as_of_ms: int | None = None) -> None:
        """Record a REST answer that is applied now."""
        body = response.body.decode(errors="replace")
        answer: dict[str, object] = {"path": request.path, "params": dict(request.params), "body": body}
        if as_of_ms is not None:
            answer["as_of"] = as_of_ms
        self._write({"at": response.received_ms, "answer": answer})

    def subscribed(self, streams: list[str], now_ms: int) -> None:
        """Record which streams are followed from here on."""
        self._write({"at": now_ms, "subscribed": streams})

    def dropped(self, stream: str, now_ms: int) -> None:
        """Record that a stream is no longer followed."""
        self._write({"at": now_ms, "dropped": stream})

    def connection(self, socket: str, host: str, cause: str | None, now_ms: int) -> None:
        """Record that a connection counts from here on, or why there is none."""
        known: dict[str, object] = {"socket": socket, "host": host}
        self._write(
            {"at": now_ms, "opened": known} if cause is None else {"at": now_ms, "lost": known | {"cause": cause}}
        )

    def close(self) -> None:
        """Finish the file."""
        if self.file is not None:
            try:
                self.file.close()
            except OSError as error:
                log.error("recording_incomplete", extra={"file": str(self.path), "cause": error.strerror})
            self.file = None

    def _write(self, line: dict[str, object]) -> None:
        if self.file is None:
            return
        try:
            self.file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
            self.lines += 1
        except OSError as error:
            log.error("recording_stopped", extra={"file": str(self.path), "cause": error.strerror})
            self.close()


# --- playing ---


@dataclass(frozen=True, slots=True)
class Connection:
    """What became of a socket of the recording; `cause` says why it has no connection, None where it has."""

    socket: str
    host: str
    cause: str | None


@dataclass(frozen=True, slots=True)
class Record:
    """One line of a tape."""

    at: int
    frame: bytes | None = None
    answer: tuple[HttpRequest, HttpResponse, int | None] | None = None
    subscribed: tuple[str, ...] = ()
    dropped: str | None = None
    connection: Connection | None = None


@dataclass(slots=True)
class Tape:
    """An opened tape: its header is read, its records are read as they are played."""

    path: Path
    url: str
    foreign: bool
    skipped: int = 0
    streams: tuple[str, ...] = field(default=())

    def records(self) -> Iterator[Record]:
        """Every record in order. A line that cannot be read is skipped, counted and logged by its number."""
        with _open(self.path) as lines:
            try:
                for number, line in enumerate(lines, 1):
                    if number == 1 or not line.strip():
                        continue
                    try:
                        yield _foreign_record(line) if self.foreign else _record(line)
                    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
                        self.skipped += 1
                        cause = f"{type(error).__name__}: {error}"
                        log.warning(
                            "tape_line_skipped",
                            extra={"file": str(self.path), "line": number, "cause": cause},
                        )
            except (EOFError, OSError, zlib.error) as error:
                # A recorder that was killed leaves a gzip file without its end: what came before is good.
                log.warning("tape_cut_short", extra={"file": str(self.path), "cause": str(error)})


def open_tape(path: Path) -> Tape:
    """Read a tape's first line. Raises TapeError."""
    try:
        with _open(path) as lines:
            first = lines.readline(1 << 20)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TapeError(f"tape {path}: {reason}") from None
    try:
        header = orjson.loads(first)
    except orjson.JSONDecodeError:
        raise TapeError(f"tape {path}: its first line is not JSON") from None
    if not isinstance(header, dict) or ("tape" not in header and "url" not in header):
        raise TapeError(f'tape {path}: its first line has neither "tape" nor "url"')
    if header.get("tape", 1) != 1:
        raise TapeError(f"tape {path}: version {header['tape']!r} is newer than this service")
    url = str(header.get("url", ""))
    return Tape(path, url, foreign="tape" not in header, streams=_streams_of(url))


def _streams_of(url: str) -> tuple[str, ...]:
    parts = urlsplit(url)
    # Old recorders wrote raw streams into the path; parse_qs would take a '+' in a name for a space.
    joined = parse_qs(parts.query.replace("+", "%2B")).get("streams", [""])[0]
    return tuple(unquote(stream) for stream in joined.split("/") if stream)


def _open(path: Path) -> IO[bytes] | gzip.GzipFile:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if zipped else path.open("rb")


def _record(line: bytes) -> Record:
    row = orjson.loads(line)
    at = int(row["at"])
    if "frame" in row:
        return Record(at, frame=str(row["frame"]).encode())
    if "frame_b64" in row:
        return Record(at, frame=base64.b64decode(row["frame_b64"], validate=True))
    if "answer" in row:
        answer = row["answer"]
        request = HttpRequest(str(answer["path"]), {str(k): str(v) for k, v in answer["params"].items()})
        as_of_ms = int(answer["as_of"]) if "as_of" in answer else None
        return Record(at, answer=(request, HttpResponse(200, {}, str(answer["body"]).encode(), at), as_of_ms))
    if "subscribed" in row:
        return Record(at, subscribed=tuple(str(stream) for stream in row["subscribed"]))
    if "dropped" in row:
        return Record(at, dropped=str(row["dropped"]))
    for kind in ("opened", "lost"):
        if kind in row:
            told = row[kind]
            cause = str(told["cause"]) if kind == "lost" else None
            return Record(at, connection=Connection(str(told["socket"]), str(told["host"]), cause))
    raise ValueError("a line of no known kind")


def _foreign_record(line: bytes) -> Record:
    row = orjson.loads(line)
    raw = row["raw"]
    frame = raw.encode() if isinstance(raw, str) else orjson.dumps(raw)
    return Record(int(float(row["received_at"]) * 1000), frame=frame)


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
        self, tape: Tape, market: BinanceMarket, clock: TapeClock, speed: float, on_change: Callable[[], None]
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

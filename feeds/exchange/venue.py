"""Describe one exchange: what a feed must know to follow it, as values and pure functions.

`feeds.exchange` follows any exchange and imports none: it is given a `Venue`, which is the one file (or folder) of an
exchange in `feeds.venues`. A description opens no connection, keeps no state and reads no clock, so a test or a tape
uses it exactly as the live feed does. Frames and answers are read into the words of this module and of `feeds.model`.

Exchanges differ, and each difference has its place here:

- Streams are named in the URL, by messages, or both: `StreamRules.address` takes what fits into the URL, `command` the
  rest, as many streams a message as the exchange allows.
- An answer to a message covers the whole message or single streams: `Ack.streams`.
- A silent connection is tested by a WebSocket ping or by the exchange's own message: `StreamRules.idle_message`.
- Heartbeats are frames that only show life: `Unused`.
- Tickers come in one stream of all pairs, or in one a pair: `all_tickers` and `ticker_stream`.
- An exchange without a stream of candles, or of some interval, has its candles by REST: `candle_stream` returns None.
- A stream that doesn't say when a candle is closed leaves `closed` False: REST closes it after its end.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from feeds.fields import Rows
from feeds.model import Candle, Coin, Pair, Price
from feeds.queries import CandleQuery
from orchestrator.errors import ProviderError
from orchestrator.http import HttpRequest, HttpResponse
from orchestrator.limiter import Limiter
from orchestrator.provider import Steps
from orchestrator.upstream_policy import UpstreamPolicy

Key = tuple[str, str]
"""A candle series: pair symbol and interval."""

ALL_PAIRS = ""
"""Stands for the symbol of a pair where all of them are meant."""

# --- streams ---


class Act(StrEnum):
    """What a message asks for."""

    SUBSCRIBE = "SUBSCRIBE"
    UNSUBSCRIBE = "UNSUBSCRIBE"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a connection is opened, and the streams that it brings without being asked again."""

    url: str
    streams: frozenset[str]


@dataclass(frozen=True, slots=True)
class Command:
    """A message of ours, and the streams that it covers."""

    message: bytes
    streams: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StreamName:
    """The parts of a stream's name: the symbol of its pair, and the interval of a stream of candles."""

    symbol: str
    interval: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRules:
    """How streams are named and asked for, and how often they send. Times in seconds."""

    all_tickers: str | None
    """The stream with the tickers of all pairs; None for an exchange that has only streams of single pairs."""
    ticker_stream: Callable[[str], str]
    """Return the stream with the ticker of one pair."""
    candle_stream: Callable[[str, str], str | None]
    """Return the stream of the candles of a pair (symbol, interval); None if these candles aren't streamed."""
    parse_name: Callable[[str], StreamName]
    """Return the parts of a stream's name."""
    address: Callable[[str, Sequence[str]], Address]
    """Return where to connect, from the base URL of a host and the wanted streams in order."""
    command: Callable[[Act, Sequence[str], int], Command]
    """Return the message that covers as many of these streams as one message may, the first of them at least.

    The number is the id by which the exchange's answer names the message.
    """
    idle_message: bytes | None = None
    """The message that has a silent server answer, where the exchange has one of its own; else it is pinged."""
    streams_per_connection: int
    command_gap_s: float
    """Least time between two messages of ours."""
    life_s: float
    """A connection is replaced at about this age, before the exchange ends it."""
    ticker_cadence_s: float
    """Shortest time between two ticker frames, as documented; a quiet market makes it longer."""
    candle_cadence_s: float
    """The same of two frames of a forming candle."""

    def price_streams(self, symbols: Iterable[str]) -> dict[str, str]:
        """Return the streams with the prices of these pairs, each with its pair: `ALL_PAIRS` for the one of all."""
        if self.all_tickers is not None:
            return {self.all_tickers: ALL_PAIRS}
        return {self.ticker_stream(symbol): symbol for symbol in symbols}


# --- frames ---


@dataclass(frozen=True, slots=True)
class Opened:
    """A stream frame whose JSON has been parsed, and whose rows have not been read yet.

    `stream` is empty for a frame that doesn't name its stream, `message` is its data.
    `repaired` counts what was repaired in its JSON; `fault` says why it could not be parsed, None if it was.
    """

    raw: bytes
    received_ms: int
    stream: str = ""
    message: object = None
    repaired: Counter[str] = field(default_factory=Counter)
    fault: str | None = None

    @property
    def rows(self) -> int:
        """The number of its rows; 1 for a frame that isn't a list."""
        return len(self.message) if isinstance(self.message, list) else 1


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of one stream frame; `finer` names the stream they come from, None for the tickers."""

    rows: Rows[Price]
    finer: str | None = None


@dataclass(frozen=True, slots=True)
class Ack:
    """The exchange's answer to a message of ours; `error` is None if it was done.

    `streams` are those that it is about; None if it answers the whole message.
    """

    request_id: object
    error: str | None
    streams: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Shutdown:
    """The server is about to close this connection."""


@dataclass(frozen=True, slots=True)
class Unused:
    """A well-formed frame that no event is made of."""

    stream: str


Frame = Prices | Candle | Ack | Shutdown | Unused


class ReadFrame(Protocol):
    """Reads an opened frame; of a frame of many rows only those from `start` up to, but not at, `end`.

    Raises: Malformed if it has no known outline, BadFieldError if a field of it is bad.
    """

    def __call__(self, opened: Opened, start: int = 0, end: int | None = None) -> Frame: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameReader:
    """How the bytes of a stream frame become a `Frame`, in two steps: its JSON is parsed once, its rows in slices."""

    open: Callable[[bytes, int], Opened]
    """Parse the JSON of a frame that was received at a time (Unix ms). Never raises."""
    control_of: Callable[[Opened], Ack | Shutdown | None]
    """Return what a frame says about its connection; None for one about a market, or of no known kind."""
    event_of: Callable[[Opened], tuple[str, int] | None]
    """Return stream and event time (Unix ms) of a frame with market data, the newest time of many rows; else None."""
    read: ReadFrame


# --- REST ---


@dataclass(frozen=True, slots=True)
class CandleAnswer:
    """The candles of one series. `start` is where the question began, None if it asked for the newest."""

    key: Key
    start: int | None
    rows: Rows[Candle]


Answer = list[Pair] | Rows[Price] | CandleAnswer
"""What a REST answer holds: the list of pairs, the statistics of pairs, or candles."""


class AskCandles(Protocol):
    """Makes the question for candles, ascending: with `start` the oldest from there on, else the newest.

    `limit` is at most `RestRules.candles_per_answer`; `start` and `end` (inclusive) are open times in Unix ms.
    """

    def __call__(
        self, symbol: str, interval: str, limit: int, start: int | None = None, end: int | None = None
    ) -> HttpRequest: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RestRules:
    """What is asked of REST, and how answers are read. Every reader raises ProviderError for a body it can't use."""

    policy: UpstreamPolicy
    pairs: Callable[[], HttpRequest]
    """Ask for every listed pair."""
    read_pairs: Callable[[HttpResponse], list[Pair]]
    write_pairs: Callable[[Iterable[Pair], int], HttpResponse]
    """Return the answer that `read_pairs` would read as these pairs: a tape starts with the list we had on disk."""
    prices: Callable[[Sequence[str]], HttpRequest]
    """Ask for the 24 h statistics of some pairs, of every pair if none is named."""
    read_prices: Callable[[HttpResponse], Rows[Price]]
    all_prices: Callable[[], Steps[tuple[HttpResponse, Rows[Price]]]]
    """Ask for the statistics of every pair; return the answer too. Raises Outdated if no pair has moved for long."""
    candles: AskCandles
    read_candles: Callable[[HttpResponse, str, str], Rows[Candle]]
    """Read the candles of (symbol, interval), ascending, each once. `closed` is False: the last may still form."""
    candles_per_answer: int
    read_answer: Callable[[HttpRequest, HttpResponse], Answer]
    """Read an answer on a tape by the request it belongs to. Raises ProviderError, KeyError or ValueError."""
    market_rows: Callable[[Sequence[Pair], int], Steps[Rows[Coin]]]
    """Ask for the market table of the most traded of these pairs, at most so many rows."""
    candle_history: Callable[[CandleQuery], Steps[Rows[Candle]]]
    """Ask for the candles that a client wants; those whose end had passed when it was answered are closed."""
    refusal: Callable[[str, HttpResponse], ProviderError | None]
    """Return the error that an answer means; None for one with data."""
    server_time: Callable[[HttpResponse], int | None]
    """Return the exchange's clock (Unix ms), where an answer shows it more exactly than its Date does."""
    correct: Callable[[HttpResponse, Limiter], None]
    """Correct our account of the allowance by what an answer says of it."""


# --- an exchange ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Venue:
    """An exchange. `name` is in `source`, in logs, in reports and in the names of its files.

    `site` tells sister exchanges of one name apart, whose prices are their own; empty for the main one.
    `intervals` are the candles it has, by our name of the interval, with its own.
    """

    name: str
    site: str = ""
    intervals: Mapping[str, str]
    streams: StreamRules
    frames: FrameReader
    rest: RestRules

    def source(self, finer: str | None = None) -> str:
        """Return how events name this exchange, and the finer stream a price comes from: `name:site.finer`."""
        detail = ".".join(part for part in (self.site, finer) if part)
        return f"{self.name}:{detail}" if detail else self.name


_STATUS = re.compile(r"[A-Z_]{1,30}", re.ASCII)


def pair_status(value: object) -> str:
    """Return the state of a pair, `UNKNOWN` for a value that isn't the name of one."""
    return value if isinstance(value, str) and _STATUS.fullmatch(value) else "UNKNOWN"

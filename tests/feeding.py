"""A recording sink, builders of values, and a live feed on the fake exchange, for the tests of feeds."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import aiohttp
import orjson

from feeds.exchange.account import exchange_account
from feeds.exchange.feed import ExchangeFeed, FeedPolicy
from feeds.exchange.link import SocketPolicy
from feeds.exchange.market import ExchangeMarket
from feeds.exchange.recorder import Recorder
from feeds.exchange.venue import Frame, StreamRules, Venue
from feeds.intervals import next_open
from feeds.model import Candle, Event, Pair
from feeds.symbols import Symbols
from feeds.venues.binance.description import BINANCE
from orchestrator import repairs
from orchestrator.clock import Clock
from orchestrator.hosts import Hosts
from orchestrator.http import AiohttpTransport, HttpRequest, HttpResponse, Transport
from orchestrator.upstream import Upstream
from tests.fakes.binance import FakeBinance, Limits
from tests.fakes.clock import START_MS

SCALE = 20.0
"""Seconds of the feed's and of the exchange's connection clock in a real second."""

PATIENT = {"ticker_cadence_s": 6000.0, "candle_cadence_s": 6000.0, "silence_s": 6000.0}
"""For tests in which the market pauses: the watchdog never checks a silent stream."""
STREAM_RULES = {each.name for each in fields(StreamRules)}

BTC = Pair("BTCUSDT", "BTC", "USDT")
ETH = Pair("ETHUSDT", "ETH", "USDT")


def candle(
    open_time: int, *, interval: str = "1m", closed: bool = True, close: float = 10.0, trades: int = 5, ts: int = 0
) -> Candle:
    """Return a candle of BTCUSDT, stamped with its end unless `ts` is given."""
    close_time = next_open(open_time, interval) - 1
    high, low = max(10.0, close), min(10.0, close)
    return Candle(
        "BTCUSDT", interval, open_time, close_time, 10.0, high, low, close, 1.0, 10.0, trades, closed, ts or close_time
    )


def answer(body: object, status: int = 200, received_ms: int = START_MS, **headers: str) -> HttpResponse:
    """Return an HTTP answer; a body that isn't bytes becomes JSON."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return HttpResponse(status, {name.replace("_", "-"): value for name, value in headers.items()}, raw, received_ms)


@dataclass(slots=True)
class RecordingSink:
    """A `Sink` that records its calls in order."""

    events: list[Event] = field(default_factory=list)
    gaps: list[tuple[str, int, int]] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    staled: list[tuple[str, str]] = field(default_factory=list)

    def publish(self, event: Event) -> None:
        self.events.append(event)

    def gap(self, topic: str, start_ms: int, end_ms: int) -> None:
        self.gaps.append((topic, start_ms, end_ms))

    def stale(self, topic: str, reason: str) -> None:
        self.staled.append((topic, reason))

    def refuse(self, topic: str, reason: str) -> None:
        self.refused.append((topic, reason))

    def of(self, topic: str) -> list[Event]:
        return [event for event in self.events if event.topic == topic]

    def rows(self, topic: str, state: str) -> list[dict[str, object]]:
        """Return the published candles of a topic in one state."""
        return [dict(event.data) for event in self.of(topic) if event.data["state"] == state]

    def opens(self, topic: str, state: str = "closed") -> list[int]:
        return [int(str(row["open_time"])) for row in self.rows(topic, state)]


class ScaledClock:
    """A clock that runs `SCALE` times faster than real time; its wall time is the market's."""

    def __init__(self, exchange: FakeBinance) -> None:
        self.exchange = exchange

    def now(self) -> float:
        return asyncio.get_running_loop().time() * SCALE

    def wall_ms(self) -> int:
        return self.exchange.now_ms

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds) / SCALE)


class MarketClock(ScaledClock):
    """A `ScaledClock` that also advances when a test advances the exchange in one step."""

    def __init__(self, exchange: FakeBinance) -> None:
        super().__init__(exchange)
        self.began_ms = exchange.now_ms

    def now(self) -> float:
        return super().now() + (self.exchange.now_ms - self.began_ms) / 1000


def limits(**changes: float) -> Limits:
    """Return the exchange's limits, on the time scale of `ScaledClock`."""
    return replace(Limits(), time_scale=SCALE, **changes)  # type: ignore[arg-type]


def rest_of(urls: list[str], transport: Transport, clock: Clock) -> Upstream:
    """Return Binance's REST account as in the service, with a shorter timeout."""
    policy = replace(BINANCE.rest.policy, timeout_s=5.0)
    return exchange_account(BINANCE, Hosts(urls, clock), transport, clock, random.Random(1), policy=policy)


def read_frame(raw: bytes, received_ms: int, venue: Venue = BINANCE) -> Frame:
    """Parse and read one stream frame as a whole. Raises: as `FrameReader.read`."""
    opened = venue.frames.open(raw, received_ms)
    for what, count in opened.repaired.items():
        repairs.repaired(what, count)
    return venue.frames.read(opened)


def with_rules(rules: Mapping[str, object], venue: Venue = BINANCE) -> Venue:
    """Return the same exchange with other rules of its streams."""
    return replace(venue, streams=replace(venue.streams, **rules))  # type: ignore[arg-type]


class CountingTransport:
    """A `Transport` that counts the requests in flight."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.in_flight = 0

    async def send(self, provider: str, base_url: str, request: HttpRequest, timeout_s: float) -> HttpResponse:
        self.in_flight += 1
        try:
            return await self.transport.send(provider, base_url, request, timeout_s)
        finally:
            self.in_flight -= 1


@dataclass(slots=True)
class Live:
    """A running feed and what it published."""

    feed: ExchangeFeed
    market: ExchangeMarket
    sink: RecordingSink
    clock: Clock
    transport: CountingTransport


def series_in_backfill(it: Live) -> set[tuple[str, str]]:
    """Return the series that are being fetched."""
    return it.feed.backfills.running if it.feed.backfills is not None else set()


@asynccontextmanager
async def live(
    exchange: FakeBinance,
    state_dir: Path | None = None,
    recorder: Recorder | None = None,
    symbols: Symbols | None = None,
    hosts: Sequence[str] = (),
    clock: Clock | None = None,
    **policy: object,
) -> AsyncIterator[Live]:
    """Run a feed on the fake exchange and other stream `hosts`. Fails at the end if the feed has crashed.

    `policy` has settings of `FeedPolicy` and rules of the exchange's streams.
    """
    clock = clock or ScaledClock(exchange)
    sink = RecordingSink()
    # Time passes in steps here, and a loaded machine is slow: neither counts as a pause of the service.
    socket = SocketPolicy(paused_s=6000.0)
    settings = {"candle_bases": ("BTC",), "candle_intervals": ("1m",), "socket": socket, **PATIENT, **policy}
    rules = {name: value for name, value in settings.items() if name in STREAM_RULES}
    market = ExchangeMarket(sink, symbols or Symbols(), with_rules(rules))
    async with aiohttp.ClientSession() as session:
        feed = ExchangeFeed(
            market,
            Hosts([exchange.ws_url, *hosts], clock),
            rest_of([exchange.rest_url], transport := CountingTransport(AiohttpTransport(session, clock)), clock),
            clock,
            random.Random(1),
            FeedPolicy(**{name: value for name, value in settings.items() if name not in rules}),  # type: ignore[arg-type]
            state_dir / "pairs.json" if state_dir is not None else None,
            recorder,
        )
        task = asyncio.create_task(feed.run())
        try:
            yield Live(feed, market, sink, clock, transport)
            assert not task.done(), "the feed crashed"
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

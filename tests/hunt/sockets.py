"""Judge what real sockets bring: the whole service on asyncio or uvloop, and clients that come and go.

Real time is not drawn from a seed, so a failure may not come again; what clients do is.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import orjson
import uvloop
import websockets
from websockets.asyncio.client import connect

from feeds.model import Event
from stream_server.delivery.hub import Hub
from stream_server.delivery.outbox import Outbox
from tests.harness import Running, running
from tests.hunt.judge import Judge, Selectors, Violation
from tests.hunt.record import EPOCH, Record
from tests.hunt.timing import HuntClock
from tests.hunt.wire import Message, Undecodable, messages

LOOPS = ("asyncio", "uvloop")
CLIENTS = 16
BURSTS = 40
RING = 400
WITHIN_S = 180.0
PRICES = tuple(f"price.{name}" for name in ("BTC", "ETH", "BNB", "SOL", "XRP", "ADA", "DOGE", "DOT"))
CANDLES = ("ohlcv.BTC.1m", "ohlcv.ETH.1m")
SELECTIONS = (
    ("price.*",),
    ("price.*", "ohlcv.*.1m"),
    ("ohlcv.>",),
    ("price.BTC",),
    ("price.BTC", "price.ETH", "news"),
    ("news",),
)
INTERVALS = (0, 0, 0, 100, 250)


class Loose(HuntClock):
    """A clock for a judge that cannot know when something was written: any time may lie between two receipts."""

    def lag_since(self, start: float) -> float:
        return float("inf")


@dataclass(slots=True)
class Kind:
    """How a client connects."""

    transport: str
    batch: bool
    selection: tuple[str, ...]
    interval: int
    pauses: bool


class Crowd:
    """Clients of one service, and what was published there."""

    def __init__(self, server: Running, rng: random.Random) -> None:
        self.server = server
        self.rng = rng
        self.hub: Hub = server.context.hub
        self.hub.epoch = EPOCH
        self.record = Record(RING, ttl_s=1e9)
        for _ in range(self.hub.seq):
            self.record.publish("status", False, 0.0, 0.0)
        self.clock = Loose()
        self.asking: dict[int, Judge] = {}
        """By `req`, which no two requests share: a request of a connection that has ended may still be under way."""
        self.asked = 0
        self.opening = asyncio.Lock()
        self.opened: Judge | None = None
        """The client that is about to subscribe by its URL."""
        self.over = asyncio.Event()
        self.living = 0
        """Number of clients that have not got everything yet."""
        self._listen_in()

    def _listen_in(self) -> None:
        """Note what is published, and what has to be answered, at the moment at which the hub does it."""
        publish, gap, subscribe = self.hub.publish, self.hub.gap, self.hub.subscribe

        def published(event: Event) -> None:
            self.record.publish(event.topic, event.log, 0.0, 0.0)
            publish(event)

        def missed(topic: str, start_ms: int, end_ms: int) -> None:
            self.record.hole(topic)
            gap(topic, start_ms, end_ms)

        def subscribed(
            outbox: Outbox, selectors: list[str], since: str | None, interval_ms: int, req: object = None
        ) -> None:
            judge = self.asking.get(req) if isinstance(req, int) else self.opened
            if judge is not None:
                judge.expect(Selectors(tuple(selectors), interval_ms, since))
            subscribe(outbox, selectors, since, interval_ms, req)

        self.hub.publish = published  # type: ignore[method-assign]
        self.hub.gap = missed  # type: ignore[method-assign]
        self.hub.subscribe = subscribed  # type: ignore[method-assign,assignment]

    # --- what feeds do ---

    async def pour(self) -> None:
        """Publish bursts of prices, with log events among them."""
        for _ in range(BURSTS):
            for _ in range(self.rng.choice((1, 4, 40, 150))):
                topic = self.rng.choice((*PRICES, *PRICES, *CANDLES, "news"))
                self._say(topic, topic == "news" or (topic in CANDLES and self.rng.random() < 0.4))
            await asyncio.sleep(self.rng.choice((0.0, 0.01, 0.05, 0.15)))
        self.over.set()
        while self.living:  # so that those who wait for one more message get it
            for topic in (*PRICES, *CANDLES, "news"):
                self._say(topic, topic == "news")
            await asyncio.sleep(0.1)

    def _say(self, topic: str, log: bool) -> None:
        number = self.record.seq + 1
        now_ms = self.server.context.clock.wall_ms()
        data = {"n": number, "pad": "x" * self.rng.choice((0, 100))}
        self.hub.publish(Event(topic, now_ms, now_ms, "test", data, log))

    # --- what clients do ---

    async def live(self, judge: Judge, kind: Kind, rng: random.Random) -> None:
        """Connect, read, break off and come back, with the last position or an earlier one; in the end stay."""
        by = self._by_websocket if kind.transport == "websocket" else self._by_sse
        while True:
            last = self.over.is_set()
            most = None if last else rng.randint(1, 400)
            # What the old connection has sent may still be handled while the new one is being opened.
            self.asking = {req: other for req, other in self.asking.items() if other is not judge}
            judge.come_back(None if last or rng.random() < 0.6 else rng.randrange(10_000))
            judge.was_slow = kind.pauses
            if not judge.known.unfinished:
                judge.note("asked", Selectors(kind.selection, kind.interval, None))
            with contextlib.suppress(aiohttp.ClientError, websockets.WebSocketException, ConnectionError):
                async for message in by(judge, kind):
                    if message.kind != "hello":
                        judge.read([(0.0, message)])
                    most = most - 1 if most is not None else None
                    if most is not None and most <= 0:
                        break
                    if kind.pauses and rng.random() < 0.02:
                        await asyncio.sleep(0.2)
                    if last and not judge.expected and judge.answer is None and self._has_all(judge):
                        self.living -= 1
                        return

    def _has_all(self, judge: Judge) -> bool:
        with contextlib.suppress(Violation):
            judge.has_everything(freshness=False)
            return True
        return False

    async def _by_websocket(self, judge: Judge, kind: Kind) -> AsyncIterator[Message]:
        compression = "deflate" if kind.batch else None
        url = f"{self.server.ws_url}/ws" + ("?batch=1" if kind.batch else "")
        async with connect(url, compression=compression, close_timeout=0.1) as ws:
            for asked in list(judge.known.unfinished):
                self.asked += 1
                self.asking[self.asked] = judge
                body = {"op": "subscribe", "topics": asked.names, "interval_ms": asked.interval, "since": asked.since}
                await ws.send(orjson.dumps(body | {"req": self.asked}).decode())
            try:
                async for text in ws:
                    for message in messages(text.encode() if isinstance(text, str) else text):
                        yield message
            finally:
                ws.transport.abort()

    async def _by_sse(self, judge: Judge, kind: Kind) -> AsyncIterator[Message]:
        (asked,) = judge.known.unfinished
        url = f"{self.server.url}/sse?topics={','.join(asked.names)}&interval_ms={asked.interval}"
        headers = {"Last-Event-ID": asked.since} if asked.since else {}
        async with self.opening:
            self.opened = judge
            try:
                answer = await self.server.http.get(url, headers=headers)
            finally:
                self.opened = None
        try:
            async for line in answer.content:
                if line.startswith(b"data: "):
                    for message in messages(line[6:]):
                        yield message
        finally:
            answer.close()

    async def run(self) -> None:
        """Run all clients until each has everything."""
        async with asyncio.timeout(WITHIN_S), asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                kind = Kind(
                    self.rng.choice(("websocket", "websocket", "sse")),
                    self.rng.random() < 0.4,
                    self.rng.choice(SELECTIONS),
                    self.rng.choice(INTERVALS),
                    self.rng.random() < 0.2,
                )
                judge = Judge(f"client {number} ({kind})", self.record, self.clock, remembers=True)
                self.living += 1
                group.create_task(self.live(judge, kind, random.Random(self.rng.random())))
            group.create_task(self.pour())


async def crowd(seed: int, state: Path) -> None:
    """Serve a crowd. Raises Violation."""
    async with running(None, state, OHLCV_SYMBOLS="none", RING_EVENTS=str(RING), SNAPSHOT_TTL_S="3600") as server:
        await Crowd(server, random.Random(seed)).run()


def hunt(seed: int, loop: str) -> str | None:
    """Run the crowd of a seed on a loop; return what is wrong, or None."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = uvloop.new_event_loop if loop == "uvloop" else None
    with TemporaryDirectory() as folder, asyncio.Runner(loop_factory=factory) as runner:
        try:
            runner.run(crowd(seed, Path(folder)))
        except BaseExceptionGroup as group:
            found = group.subgroup((Violation, Undecodable, TimeoutError))
            if found is None:
                raise
            return f"sockets on {loop}, seed {seed}: {found.exceptions[0]}"
        except TimeoutError:
            return f"sockets on {loop}, seed {seed}: not everybody has everything after {WITHIN_S:g} s"
    return None

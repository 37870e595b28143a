"""Clients that follow docs/protocol.md and write down what they are told; they share no code with the service.

Each keeps its position and comes back with it. A hole in a candle series, whether a `gap` spoke of it or it shows, is
filled from `/api/market/ohlc`, as the protocol says. A restless client leaves without a word and comes back, again and
again.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
import websockets
from websockets.asyncio.client import connect

STEP_MS = {"1m": 60_000, "3m": 180_000}
RETRY_S = (0.2, 1.5)
STAYS_S = (3.0, 60.0)
IS_AWAY_S = (0.0, 40.0)
AT_THE_MINUTE_S = (-1.0, 0.9)
"""When half of the visits of a restless client end: around the moment at which candles close."""
ASK_AGAIN_S = 2.0


@dataclass(frozen=True, slots=True)
class Mood:
    """What kind of client it is."""

    transport: str
    """`ws` or `sse`."""
    restless: bool = False
    """Whether it leaves and comes back, again and again."""
    wants_history: bool = False
    """Whether it asks REST for what closed before the first candle that it is told."""

    @property
    def name(self) -> str:
        """For findings."""
        return f"{'restless' if self.restless else 'steady'} {self.transport}"


@dataclass(frozen=True, slots=True)
class Heard:
    """One message as it came."""

    at_ms: int
    text: bytes
    message: dict[str, Any]

    @property
    def kind(self) -> str:
        """Its type."""
        return str(self.message["type"])

    @property
    def topic(self) -> str:
        """The topic it is about; empty if none."""
        return str(self.message.get("topic", ""))

    @property
    def data(self) -> bytes:
        """The data of an update, byte for byte."""
        return self.text[self.text.index(b'"data":') + 7 : -1]


@dataclass(slots=True)
class Visit:
    """One connection: what was asked with, and all that was said on it."""

    since: str | None
    heard: list[Heard] = field(default_factory=list)
    is_open: bool = True


@dataclass(slots=True)
class Told:
    """All that one client was told in its life."""

    name: str
    topics: tuple[str, ...]
    restless: bool = False
    visits: list[Visit] = field(default_factory=list, repr=False)
    closed: dict[str, dict[int, bytes]] = field(default_factory=dict, repr=False)
    """By topic and open time: each closed candle as the client holds it, with what it asked of REST."""
    absent: dict[str, set[int]] = field(default_factory=dict, repr=False)
    """By topic: the open times of candles that the exchange itself has not, as far as the client was told."""

    @property
    def present_until_ms(self) -> int | None:
        """When a client that comes and goes last heard anything, if it is away at the end; None for all others."""
        if not self.restless or not self.visits or self.visits[-1].is_open:
            return None
        return max((visit.heard[-1].at_ms for visit in self.visits if visit.heard), default=None)

    @property
    def position(self) -> str | None:
        """The id of the last message that had one."""
        for visit in reversed(self.visits):
            for heard in reversed(visit.heard):
                if "id" in heard.message:
                    return str(heard.message["id"])
        return None


class Client:
    """One client over all its connections to `url`; `now_ms()` tells what time it is."""

    def __init__(
        self,
        mood: Mood,
        topics: tuple[str, ...],
        url: str,
        http: aiohttp.ClientSession,
        now_ms: Callable[[], int],
        rng: random.Random,
    ) -> None:
        self.mood = mood
        self.told = Told(mood.name, topics, mood.restless)
        self.url = url
        self.http = http
        self.now_ms = now_ms
        self.rng = rng
        self.first_ms: dict[str, int] = {}
        """By topic: the open time of the first candle it heard of."""
        self.lacking: set[str] = set()
        self.lacks = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._fill())
            while True:
                visit = Visit(self.told.position)
                self.told.visits.append(visit)
                with contextlib.suppress(aiohttp.ClientError, websockets.WebSocketException, OSError):
                    async with asyncio.timeout(self._stays_s() if self.mood.restless else None):
                        async for text in (
                            self._by_websocket(visit) if self.mood.transport == "ws" else self._by_sse(visit)
                        ):
                            self._take(visit, text)
                visit.is_open = False
                if self.mood.restless and self.rng.random() < 0.5:
                    await asyncio.sleep(self.rng.uniform(*IS_AWAY_S) * self.rng.random())
                await asyncio.sleep(self.rng.uniform(*RETRY_S))

    def _stays_s(self) -> float:
        if self.rng.random() < 0.5:
            return self.rng.uniform(*STAYS_S)
        return 60.0 - self.now_ms() / 1000 % 60.0 + self.rng.uniform(*AT_THE_MINUTE_S)

    async def _by_websocket(self, visit: Visit) -> AsyncIterator[bytes]:
        query = f"topics={','.join(self.told.topics)}" + (f"&since={visit.since}" if visit.since else "")
        url = f"{self.url.replace('http', 'ws', 1)}/ws?{query}"
        async with connect(url, compression=None, proxy=None, ping_interval=None, max_queue=None) as connection:
            try:
                while True:
                    yield await connection.recv(decode=False)
            finally:
                connection.transport.abort()

    async def _by_sse(self, visit: Visit) -> AsyncIterator[bytes]:
        headers = {"Last-Event-ID": visit.since} if visit.since else {}
        url = f"{self.url}/sse?topics={','.join(self.told.topics)}"
        async with self.http.get(url, headers=headers, timeout=aiohttp.ClientTimeout(total=None)) as answer:
            answer.raise_for_status()
            try:
                async for line in answer.content:
                    if line.startswith(b"data: "):
                        yield line[6:].rstrip(b"\n")
            finally:
                answer.close()

    def _take(self, visit: Visit, text: bytes) -> None:
        heard = Heard(self.now_ms(), text, orjson.loads(text))
        visit.heard.append(heard)
        if heard.kind == "update" and heard.topic.startswith("ohlcv."):
            open_ms = int(heard.message["data"]["open_time"])
            self.first_ms.setdefault(heard.topic, open_ms)
            if not heard.message["data"]["closed"]:
                return
            known = self.told.closed.setdefault(heard.topic, {})
            known[open_ms] = heard.data
            if self._holes(heard.topic) or (self.mood.wants_history and len(known) == 1):
                self._miss(heard.topic)
        elif heard.kind == "gap" and heard.message["reason"] == "upstream":
            step_ms = STEP_MS[heard.topic.rpartition(".")[2]]
            absent = range(int(heard.message["from"]), int(heard.message["to"]), step_ms)
            self.told.absent.setdefault(heard.topic, set()).update(absent)
        elif heard.kind == "gap" and heard.topic in self.first_ms:
            self._miss(heard.topic)

    # --- holes ---

    def _miss(self, topic: str) -> None:
        self.lacking.add(topic)
        self.lacks.set()

    async def _fill(self) -> None:
        """Ask REST for what is missing until nothing is."""
        while True:
            await self.lacks.wait()
            self.lacks.clear()
            for topic in sorted(self.lacking):
                with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                    if await self._ask(topic):
                        self.lacking.discard(topic)
            if self.lacking:
                await asyncio.sleep(ASK_AGAIN_S)
                self.lacks.set()

    async def _ask(self, topic: str) -> bool:
        """One question; whether the answer left no hole but such as the exchange has itself."""
        _, symbol, interval = topic.split(".")
        known = self.told.closed.setdefault(topic, {})
        step_ms = STEP_MS[interval]
        following_ms = max(known) + step_ms if known else self.first_ms[topic]
        start_ms = min(self._holes(topic), default=following_ms)
        start = "" if self.mood.wants_history else f"&start={start_ms}"
        url = f"{self.url}/api/market/ohlc?symbol={symbol}&interval={interval}{start}"
        async with self.http.get(url, timeout=aiohttp.ClientTimeout(total=10)) as answer:
            if answer.status != 200:
                return False
            body = orjson.loads(await answer.read())
        told = {int(row["open_time"]): orjson.dumps(row) for row in body["data"] if row["closed"]}
        for open_ms, row in told.items():
            known.setdefault(open_ms, row)
        if not body["stale"]:
            newest = max((int(row["open_time"]) for row in body["data"]), default=0)
            first = start_ms if start else min(told, default=newest)
            self.told.absent.setdefault(topic, set()).update(set(range(first, newest, step_ms)) - told.keys())
        return not body["stale"] and not self._holes(topic)

    def _holes(self, topic: str) -> list[int]:
        step_ms = STEP_MS[topic.rpartition(".")[2]]
        absent = self.told.absent.get(topic, set())
        return [each for each in holes(self.told.closed.get(topic, {}), step_ms) if each not in absent]


def holes(known: dict[int, bytes], step_ms: int) -> list[int]:
    """The open times that are missing between the first and the last."""
    return [each for each in range(min(known), max(known), step_ms) if each not in known] if known else []

"""Clients that follow docs/protocol.md and record what they receive; they share no code with the service.

A client keeps its position and resumes from it. It fills a hole in a candle series, announced by a `gap` or not, from
`/api/market/ohlc`, as the protocol says. A restless client disconnects and reconnects all the time.
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
"""Half of the visits of a restless client end around the moment at which candles close."""
ASK_AGAIN_S = 2.0


@dataclass(frozen=True, slots=True)
class Profile:
    """How a client behaves."""

    transport: str
    """`ws` or `sse`."""
    restless: bool = False
    """Whether it keeps disconnecting and reconnecting."""
    wants_history: bool = False
    """Whether it fetches the candles before the first one of the stream by REST."""

    @property
    def name(self) -> str:
        """The client's name in findings."""
        return f"{'restless' if self.restless else 'steady'} {self.transport}"


@dataclass(frozen=True, slots=True)
class Message:
    """One message, as it was received."""

    at_ms: int
    text: bytes
    fields: dict[str, Any]

    @property
    def kind(self) -> str:
        """The type of the message."""
        return str(self.fields["type"])

    @property
    def topic(self) -> str:
        """The topic of the message; empty if it has none."""
        return str(self.fields.get("topic", ""))

    @property
    def data(self) -> bytes:
        """The bytes of an update's `data`."""
        return self.text[self.text.index(b'"data":') + 7 : -1]


@dataclass(slots=True)
class Visit:
    """One connection: the cursor it started with and the messages it received."""

    since: str | None
    messages: list[Message] = field(default_factory=list)
    is_open: bool = True


@dataclass(slots=True)
class Transcript:
    """Everything that one client received, over all its connections."""

    name: str
    topics: tuple[str, ...]
    restless: bool = False
    visits: list[Visit] = field(default_factory=list, repr=False)
    closed: dict[str, dict[int, bytes]] = field(default_factory=dict, repr=False)
    """The client's closed candles by topic and open time, with those fetched by REST."""
    absent: dict[str, set[int]] = field(default_factory=dict, repr=False)
    """Open times, by topic, of candles that the exchange lacks according to a gap or to REST."""

    @property
    def present_until_ms(self) -> int | None:
        """Time of the last message of a restless client that is disconnected at the end; None for all others."""
        if not self.restless or not self.visits or self.visits[-1].is_open:
            return None
        return max((visit.messages[-1].at_ms for visit in self.visits if visit.messages), default=None)

    @property
    def position(self) -> str | None:
        """The id of the last message with an id."""
        for visit in reversed(self.visits):
            for message in reversed(visit.messages):
                if "id" in message.fields:
                    return str(message.fields["id"])
        return None


class Client:
    """One client and all its connections to `url`; `now_ms()` returns the time."""

    def __init__(
        self,
        profile: Profile,
        topics: tuple[str, ...],
        url: str,
        http: aiohttp.ClientSession,
        now_ms: Callable[[], int],
        rng: random.Random,
    ) -> None:
        self.profile = profile
        self.transcript = Transcript(profile.name, topics, profile.restless)
        self.url = url
        self.http = http
        self.now_ms = now_ms
        self.rng = rng
        self.first_ms: dict[str, int] = {}
        """Open time of the first candle received, by topic."""
        self.lacking: set[str] = set()
        self.lacks = asyncio.Event()

    async def run(self) -> None:
        """Connect, receive and reconnect until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._fill())
            while True:
                visit = Visit(self.transcript.position)
                self.transcript.visits.append(visit)
                with contextlib.suppress(aiohttp.ClientError, websockets.WebSocketException, OSError):
                    async with asyncio.timeout(self._stays_s() if self.profile.restless else None):
                        async for text in (
                            self._by_websocket(visit) if self.profile.transport == "ws" else self._by_sse(visit)
                        ):
                            self._take(visit, text)
                visit.is_open = False
                if self.profile.restless and self.rng.random() < 0.5:
                    await asyncio.sleep(self.rng.uniform(*IS_AWAY_S) * self.rng.random())
                await asyncio.sleep(self.rng.uniform(*RETRY_S))

    def _stays_s(self) -> float:
        if self.rng.random() < 0.5:
            return self.rng.uniform(*STAYS_S)
        return 60.0 - self.now_ms() / 1000 % 60.0 + self.rng.uniform(*AT_THE_MINUTE_S)

    async def _by_websocket(self, visit: Visit) -> AsyncIterator[bytes]:
        query = f"topics={','.join(self.transcript.topics)}" + (f"&since={visit.since}" if visit.since else "")
        url = f"{self.url.replace('http', 'ws', 1)}/ws?{query}"
        async with connect(url, compression=None, proxy=None, ping_interval=None, max_queue=None) as connection:
            try:
                while True:
                    yield await connection.recv(decode=False)
            finally:
                connection.transport.abort()

    async def _by_sse(self, visit: Visit) -> AsyncIterator[bytes]:
        headers = {"Last-Event-ID": visit.since} if visit.since else {}
        url = f"{self.url}/sse?topics={','.join(self.transcript.topics)}"
        async with self.http.get(url, headers=headers, timeout=aiohttp.ClientTimeout(total=None)) as answer:
            answer.raise_for_status()
            try:
                async for line in answer.content:
                    if line.startswith(b"data: "):
                        yield line[6:].rstrip(b"\n")
            finally:
                answer.close()

    def _take(self, visit: Visit, text: bytes) -> None:
        message = Message(self.now_ms(), text, orjson.loads(text))
        visit.messages.append(message)
        if message.kind == "update" and message.topic.startswith("ohlcv."):
            open_ms = int(message.fields["data"]["open_time"])
            self.first_ms.setdefault(message.topic, open_ms)
            if not message.fields["data"]["closed"]:
                return
            known = self.transcript.closed.setdefault(message.topic, {})
            known[open_ms] = message.data
            if self._holes(message.topic) or (self.profile.wants_history and len(known) == 1):
                self._miss(message.topic)
        elif message.kind == "gap" and message.fields["reason"] == "upstream":
            step_ms = STEP_MS[message.topic.rpartition(".")[2]]
            absent = range(int(message.fields["from"]), int(message.fields["to"]), step_ms)
            self.transcript.absent.setdefault(message.topic, set()).update(absent)
        elif message.kind == "gap" and message.topic in self.first_ms:
            self._miss(message.topic)

    # --- holes ---

    def _miss(self, topic: str) -> None:
        self.lacking.add(topic)
        self.lacks.set()

    async def _fill(self) -> None:
        """Fetch missing candles by REST whenever there are any."""
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
        """Fetch candles once; return whether no hole is left but those of the exchange itself."""
        _, symbol, interval = topic.split(".")
        known = self.transcript.closed.setdefault(topic, {})
        step_ms = STEP_MS[interval]
        following_ms = max(known) + step_ms if known else self.first_ms[topic]
        start_ms = min(self._holes(topic), default=following_ms)
        start = "" if self.profile.wants_history else f"&start={start_ms}"
        url = f"{self.url}/api/market/ohlc?symbol={symbol}&interval={interval}{start}"
        async with self.http.get(url, timeout=aiohttp.ClientTimeout(total=10)) as answer:
            if answer.status != 200:
                return False
            body = orjson.loads(await answer.read())
        fetched = {int(row["open_time"]): orjson.dumps(row) for row in body["data"] if row["closed"]}
        for open_ms, row in fetched.items():
            known.setdefault(open_ms, row)
        if not body["stale"]:
            newest = max((int(row["open_time"]) for row in body["data"]), default=0)
            first = start_ms if start else min(fetched, default=newest)
            self.transcript.absent.setdefault(topic, set()).update(set(range(first, newest, step_ms)) - fetched.keys())
        return not body["stale"] and not self._holes(topic)

    def _holes(self, topic: str) -> list[int]:
        step_ms = STEP_MS[topic.rpartition(".")[2]]
        absent = self.transcript.absent.get(topic, set())
        return [each for each in holes(self.transcript.closed.get(topic, {}), step_ms) if each not in absent]


def holes(known: dict[int, bytes], step_ms: int) -> list[int]:
    """Return the open times that are missing between the first and the last."""
    return [each for each in range(min(known), max(known), step_ms) if each not in known] if known else []

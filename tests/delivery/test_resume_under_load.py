"""Tests with many clients that are cut at random and resume by id, on both transports, while events pour in."""

import asyncio
import contextlib
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import websockets
from websockets.asyncio.client import connect

from feeds.model import Event
from tests.harness import Running, running

LOG = "ohlcv.BTC.1m"
STATES = [f"price.S{number}" for number in range(20)]
LAST = "price.END"

PATIENT: dict[str, Any] = {
    "compression": None, "close_timeout": 0.1, "open_timeout": None, "ping_interval": None, "proxy": None,
}  # fmt: skip
"""All clients together have one deadline, so that a busy machine fails none of them."""


@dataclass(slots=True)
class Reader:
    """One client over all its connections: what it has, and what it received."""

    rng: random.Random
    position: str | None = None
    numbers: list[int] = field(default_factory=list)
    values: dict[str, int] = field(default_factory=dict)
    resumed: list[bool] = field(default_factory=list)
    holes: int = 0
    done: bool = False

    def take(self, message: dict[str, object]) -> None:
        """Read one message as docs/protocol.md says a client should."""
        match message["type"]:
            case "subscribed":
                if self.position is not None:
                    self.resumed.append(bool(message["resumed"]))
            case "synced" | "pos":
                self.position = str(message["id"])
            case "gap":
                self.holes += 1
            case "update":
                self.position = str(message["id"])
                data = message["data"]
                assert isinstance(data, dict)
                if message["topic"] == LOG:
                    self.numbers.append(int(data["n"]))
                else:
                    self.values[str(message["topic"])] = int(data["n"])
                self.done = self.done or message["topic"] == LAST

    async def by_websocket(self, server: Running) -> None:
        """One connection, until the end or until it is cut."""
        cut_after = self.rng.randint(1, 90)
        query = f"topics={LOG},price.*" + (f"&since={self.position}" if self.position else "")
        async with connect(f"{server.ws_url}/ws?{query}", **PATIENT) as ws:
            async for text in ws:
                self.take(orjson.loads(text))
                cut_after -= 1
                if self.done or cut_after <= 0:
                    break
            ws.transport.abort()

    async def by_sse(self, server: Running) -> None:
        """The same over SSE, as an EventSource reads it."""
        cut_after = self.rng.randint(1, 90)
        headers = {"Last-Event-ID": self.position} if self.position else {}
        url = f"{server.url}/sse?topics={LOG},price.*"
        async with server.http.get(url, headers=headers) as answer:
            async for line in answer.content:
                if line.startswith(b"data: "):
                    self.take(orjson.loads(line[6:]))
                    cut_after -= 1
                if self.done or cut_after <= 0:
                    answer.close()
                    return

    async def until_done(self, server: Running, websocket: bool, pause: int) -> None:
        """Reconnect until the last event, each time when `pause` more events have passed or all have."""
        hub = server.context.hub
        while not self.done:
            back_at = hub.seq + pause
            while hub.seq < back_at and LAST not in hub.topics:  # noqa: ASYNC110 - the hub has no such event
                await asyncio.sleep(0.005)
            with contextlib.suppress(aiohttp.ClientError, websockets.WebSocketException, ConnectionError):
                await (self.by_websocket(server) if websocket else self.by_sse(server))


async def pour(server: Running, rng: random.Random, events: int, crowd: int) -> None:
    """Publish numbered log events among values, each while at least `crowd` clients are connected."""
    hub = server.context.hub
    for number in range(events):
        while len(server.context.clients.connected) < crowd:  # noqa: ASYNC110 - they come back one by one
            await asyncio.sleep(0.002)
        hub.publish(Event(LOG, 1, 1, "test", {"n": number}, log=True))
        for topic in rng.sample(STATES, 3):
            hub.publish(Event(topic, 1, 1, "test", {"n": number}))
        await asyncio.sleep(0.005)
    for topic in STATES:
        hub.publish(Event(topic, 1, 1, "test", {"n": events}))
    hub.publish(Event(LAST, 1, 1, "test", {"n": events}))


async def readers_of(
    server: Running, count: int, events: int, seed: int, crowd: int = 0, pause: int = 0
) -> list[Reader]:
    """Let `count` clients read while events pour, until each has seen the last."""
    rng = random.Random(seed)
    readers = [Reader(random.Random(rng.random())) for _ in range(count)]
    server.context.hub.publish(Event(LOG, 1, 1, "test", {"n": -1}, log=True))
    async with asyncio.timeout(180), asyncio.TaskGroup() as group:
        for number, reader in enumerate(readers):
            group.create_task(reader.until_done(server, number % 2 == 0, pause))
        group.create_task(pour(server, rng, events, crowd))
    return readers


async def test_many_clients_cut_at_random_miss_nothing_and_see_nothing_twice(tmp_path: Path) -> None:
    events = 40
    async with running(None, tmp_path, OHLCV_SYMBOLS="none") as server:
        readers = await readers_of(server, count=120, events=events, seed=1, crowd=100)
    assert sum(len(reader.resumed) for reader in readers) > 400
    for reader in readers:
        assert all(reader.resumed)
        # One that was cut before it had any position begins where it came back.
        assert reader.numbers == list(range(reader.numbers[0], events))
        assert all(reader.values[topic] == events for topic in STATES)


async def test_with_a_short_memory_each_client_gets_a_gap_when_it_has_missed_something(tmp_path: Path) -> None:
    events = 40
    async with running(None, tmp_path, RING_EVENTS="3", OHLCV_SYMBOLS="none") as server:
        readers = await readers_of(server, count=100, events=events, seed=2, pause=20)
    told = 0
    for reader in readers:
        numbers = reader.numbers
        assert numbers == sorted(set(numbers)), "no log event twice, none out of order"
        missing = numbers != list(range(numbers[0], events))
        refused = reader.resumed.count(False)
        told += refused
        assert reader.holes <= refused  # it may have been cut before it read the gap
        if missing:
            assert refused, "a hole that nobody spoke of"
    assert told, "the ring was meant to be too short for some"

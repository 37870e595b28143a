"""The whole service and a fake exchange on virtual time, so that an hour passes in seconds."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from websockets.asyncio.client import connect

from stream_server.app import Run, service
from stream_server.connections.listener import listen
from stream_server.context import Context
from stream_server.serving import runner_of
from stream_server.settings import Settings
from tests.chaos import virtual
from tests.fakes.binance import FakeBinance, Pair
from tests.harness import ELSEWHERE

Message = dict[str, Any]


@dataclass(slots=True)
class Listener:
    """A WebSocket client that records its messages."""

    messages: list[Message] = field(default_factory=list)
    send: Callable[[Message], Any] = lambda message: None

    def of(self, kind: str, topic: str | None = None) -> list[Message]:
        """Return the messages of one type (and topic)."""
        return [each for each in self.messages if each["type"] == kind and topic in (None, each.get("topic"))]


@dataclass(slots=True)
class Marketplace:
    """A running service and its exchange, which trades in real (virtual) time."""

    exchange: FakeBinance
    url: str
    http: aiohttp.ClientSession
    context: Context

    async def get(self, path: str) -> tuple[int, Message]:
        """GET a path; return the status and the parsed body."""
        async with self.http.get(self.url + path) as answer:
            return answer.status, orjson.loads(await answer.read())

    async def until(self, holds: Callable[[], object], within_s: float) -> float:
        """Wait until a condition holds; return the seconds it took. Fails after `within_s`."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not holds():
            assert loop.time() - began <= within_s, "the condition did not hold in time"
            await asyncio.sleep(0.05)
        return loop.time() - began

    async def feed(self) -> Message:
        """Return the exchange's feed in `/api/status`."""
        _, body = await self.get("/api/status")
        found: Message = next(each for each in body["data"]["feeds"] if each["name"] == "binance")
        return found

    @asynccontextmanager
    async def listener(self, *topics: str) -> AsyncIterator[Listener]:
        """Connect a client that subscribes to topics."""
        listener = Listener()
        url = f"{self.url.replace('http', 'ws', 1)}/ws?topics={','.join(topics)}"
        async with connect(url, proxy=None, ping_interval=None, max_queue=None) as connection:

            async def record() -> None:
                async for text in connection:
                    listener.messages.append(orjson.loads(text))

            async def send(message: Message) -> None:
                await connection.send(orjson.dumps(message).decode())

            listener.send = send
            writing = asyncio.create_task(record())
            try:
                await self.until(lambda: listener.of("synced") or listener.of("error") or not topics, 5.0)
                yield listener
            finally:
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
                connection.transport.abort()


@asynccontextmanager
async def marketplace(exchange: FakeBinance, state_dir: Path, **settings: str) -> AsyncIterator[Marketplace]:
    """Run service and market. Needs a virtual loop (`tests.chaos.virtual.run`)."""
    values = {
        **ELSEWHERE,
        "HOST": "127.0.0.1",
        "PORT": "0",
        "STATE_DIR": str(state_dir),
        "PROBE_S": "0",
        "OHLCV_SYMBOLS": "BTC",
        "OHLCV_INTERVALS": "1m",
        "BINANCE_WS_URLS": exchange.ws_url,
        "BINANCE_REST_URLS": exchange.rest_url,
        **settings,
    }
    async with contextlib.AsyncExitStack() as stack:
        clock = virtual.VirtualClock(exchange.now_ms)
        app, context = await stack.enter_async_context(service(Settings.parse(values), Run(), clock))
        runner = runner_of(app)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        listener = await listen(runner, context)
        stack.callback(listener.close)
        pump = asyncio.create_task(exchange.run(1.0))
        stack.callback(pump.cancel)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield Marketplace(exchange, f"http://127.0.0.1:{listener.sockname[1]}", http, context)


def play(tmp_path: Path, story: Callable[[Marketplace], Any], pairs: Sequence[Pair], **settings: str) -> None:
    """Run a scenario on a new marketplace."""

    async def run() -> None:
        async with FakeBinance(pairs) as exchange, marketplace(exchange, tmp_path, **settings) as market:
            await story(market)

    virtual.run(run())

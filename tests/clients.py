"""WebSocket and SSE clients for tests; they share no code with the service."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import websockets
from websockets.asyncio.client import ClientConnection

from tests.fakes.binance import FakeBinance
from tests.harness import Running, running, until

Message = dict[str, Any]

PATIENCE_S = 30.0


def market_start() -> int:
    """Return the current full minute, for tests in which the service compares the market's time with its own."""
    return int(time.time()) // 60 * 60_000


class WebSocketClient:
    """A WebSocket client that reads messages in order."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def next(self) -> Message:
        """Return the next message."""
        async with asyncio.timeout(PATIENCE_S):
            text = await self.connection.recv()
        assert isinstance(text, str), "messages are text frames"
        message = json.loads(text)
        assert isinstance(message, dict)
        return message

    async def until(self, kind: str, **fields: object) -> list[Message]:
        """Return every message up to and including the next one of this type with these fields."""
        received = []
        while True:
            message = await self.next()
            received.append(message)
            if message["type"] == kind and fields.items() <= message.items():
                return received

    async def one(self, kind: str, **fields: object) -> Message:
        """Return the next message of this type with these fields; skip others."""
        return (await self.until(kind, **fields))[-1]

    async def send(self, **message: object) -> None:
        await self.connection.send(json.dumps(message))

    async def so_far(self) -> list[Message]:
        """Return every message that the server sends before it answers a ping."""
        fence = f"fence-{time.monotonic_ns()}"
        await self.send(op="ping", req=fence)
        return (await self.until("pong", req=fence))[:-1]

    async def end(self) -> tuple[list[Message], int]:
        """Return the remaining messages, and the server's close code."""
        received = []
        try:
            while True:
                received.append(await self.next())
        except websockets.ConnectionClosed as closed:
            assert closed.rcvd is not None, "the connection ended without a close frame"
            return received, closed.rcvd.code


@asynccontextmanager
async def websocket(service: Running, query: str = "", **options: Any) -> AsyncIterator[WebSocketClient]:
    """Open `/ws` with the `websockets` library."""
    url = service.ws_url + "/ws" + (f"?{query}" if query else "")
    settings = {
        "proxy": None, "compression": None, "ping_interval": None, "open_timeout": PATIENCE_S, "close_timeout": 0.5,
        "max_queue": None,
    }  # fmt: skip
    async with websockets.connect(url, **(settings | options)) as connection:
        yield WebSocketClient(connection)


@dataclass(slots=True)
class SseEvent:
    """One event as a browser dispatches it, or a comment."""

    event: str = "message"
    data: list[str] = field(default_factory=list)
    id: str | None = None
    retry: int | None = None
    comment: bool = False

    @property
    def json(self) -> Message:
        message = json.loads("\n".join(self.data))
        assert isinstance(message, dict)
        return message


class SseClient:
    """Parse `text/event-stream` as the HTML standard defines it."""

    def __init__(self, lines: Callable[[], Any], headers: Any = None) -> None:
        self.lines = lines
        self.headers = headers
        self.last_event_id: str | None = None

    async def next(self) -> SseEvent:
        """Return the next event or comment."""
        event = SseEvent()
        while True:
            async with asyncio.timeout(PATIENCE_S):
                line = (await self.lines()).decode()
            assert line, "the stream ended"
            line = line.removesuffix("\n")
            if line == "":
                if event.comment or event.data or event.retry is not None:
                    return event
                continue
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match name:
                case "":
                    event.comment = True
                case "event":
                    event.event = value
                case "data":
                    event.data.append(value)
                case "id":
                    event.id = self.last_event_id = value
                case "retry":
                    event.retry = int(value)

    async def until(self, kind: str, **fields: object) -> list[SseEvent]:
        """Return every event, without comments, up to and including the next one of this type with these fields."""
        received = []
        while True:
            event = await self.next()
            if event.comment:
                continue
            received.append(event)
            message = event.json
            if message["type"] == kind and fields.items() <= message.items():
                return received

    async def one(self, kind: str, **fields: object) -> SseEvent:
        return (await self.until(kind, **fields))[-1]


@asynccontextmanager
async def sse(service: Running, query: str, **headers: str) -> AsyncIterator[SseClient]:
    """Open `/sse`; header names have underscores."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with service.http.get(
        f"{service.url}/sse?{query}", headers=sent, timeout=aiohttp.ClientTimeout(total=None)
    ) as answer:
        assert answer.status == 200, await answer.text()
        yield SseClient(answer.content.readline, answer.headers)


def seq_of(message: Message) -> int:
    """Return the number in an id."""
    return int(message["id"].rpartition("-")[2])


def updates(messages: list[Message], topic: str | None = None) -> list[Message]:
    """Return the updates (of one topic) among messages."""
    return [each for each in messages if each["type"] == "update" and topic in (None, each["topic"])]


@asynccontextmanager
async def serving(exchange: FakeBinance, state_dir: Path, **settings: str) -> AsyncIterator[Running]:
    """Run the service on an exchange, with `ohlcv.BTC.1m` as its only fixed candles; yield when it has first values."""
    values = {"OHLCV_SYMBOLS": "BTC", "OHLCV_INTERVALS": "1m", **settings}
    async with running(exchange, state_dir, None, **values) as service:
        await streaming(exchange, service, "btcusdt@kline_1m")
        yield service


async def streaming(exchange: FakeBinance, service: Running, *streams: str) -> None:
    """Wait until the service streams from the exchange and has a first price and candles; advances by a second."""
    hub = service.context.hub
    await until(lambda: exchange.subscribed("!miniTicker@arr", *streams))
    wanted = [stream.partition("@kline_") for stream in streams]
    topics = [f"ohlcv.{symbol.upper().removesuffix('USDT')}.{interval}" for symbol, _, interval in wanted]
    await until(lambda: all(topic in hub.topics for topic in topics))
    exchange.advance(1)
    await until(lambda: last_ts(service, "price.BTC") == exchange.now_ms)


def last_ts(service: Running, topic: str) -> int:
    """Return the `ts` of the newest value of a topic; 0 without one."""
    history = service.context.hub.topics.get(topic)
    return history.event.ts if history is not None and history.event is not None else 0


def write_tape(path: Path) -> Path:
    """Write a tape of four minutes of one market of Binance.US, in cryptofeed's format, with one broken line."""
    stream = "compusdt@kline_1m"
    lines: list[object] = [{"url": f"wss://stream.binance.us:9443/stream?streams={stream}"}]
    for number in range(4):
        opened = 1_633_998_240_000 + number * 60_000
        for closed in (False, True):
            candle = {
                "t": opened, "T": opened + 59_999, "s": "COMPUSDT", "i": "1m", "f": 1, "L": 2, "n": 2, "x": closed,
                "o": "297.1", "c": f"29{number}.5", "h": "299.9", "l": "280.0", "v": "1.5", "q": "440.0", "V": "1",
                "Q": "2", "B": "0",
            }  # fmt: skip
            at = opened + (59_999 if closed else 1000)
            event = {"e": "kline", "E": at, "s": "COMPUSDT", "k": candle}
            lines.append({"received_at": at / 1000, "raw": json.dumps({"stream": stream, "data": event})})
    text = [json.dumps(line) for line in lines]
    text.insert(3, '{"received_at": broken')
    path.write_text("\n".join(text) + "\n")
    return path

"""Steady, restless and slow clients that follow docs/protocol.md; they share no code with the service."""

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator

import aiohttp
import orjson
import websockets
from websockets.asyncio.client import connect

from tests.soak.history import History

STAYS_S = (1.0, 60.0)
IS_AWAY_S = (0.0, 30.0)
RETRY_S = (0.2, 1.0)


class Client:
    """One client and all its connections. A restless one keeps disconnecting and reconnecting."""

    def __init__(
        self,
        history: History,
        transport: str,
        url: str,
        http: aiohttp.ClientSession,
        rng: random.Random,
        *,
        restless: bool = False,
        batch: bool = False,
        message_s: float = 0.0,
        is_away_s: tuple[float, float] = IS_AWAY_S,
    ) -> None:
        """`message_s` is how long a slow client takes for each message, `is_away_s` how long a restless one is away."""
        self.history = history
        self.transport = transport
        self.url = url
        self.http = http
        self.rng = rng
        self.restless = restless
        self.batch = batch
        self.message_s = message_s
        self.is_away_s = is_away_s

    async def run(self) -> None:
        """Connect, receive and reconnect until cancelled."""
        while True:
            since = self.history.begin()
            try:
                async with asyncio.timeout(self.rng.uniform(*STAYS_S) if self.restless else None):
                    async for text in self._by_websocket(since) if self.transport == "ws" else self._by_sse(since):
                        parsed = orjson.loads(text)
                        for message in parsed if isinstance(parsed, list) else [parsed]:
                            self.history.take(message)
                        if self.message_s:
                            await asyncio.sleep(self.message_s)
            except TimeoutError:
                self.history.counts["left"] += 1
            except (aiohttp.ClientError, websockets.WebSocketException, OSError) as error:
                self.history.counts[f"lost:{type(error).__name__}"] += 1
            self.history.end()
            if self.restless:
                await asyncio.sleep(self.rng.uniform(*self.is_away_s))
            await asyncio.sleep(self.rng.uniform(*RETRY_S))

    async def _by_websocket(self, since: str | None) -> AsyncIterator[bytes]:
        query = f"topics={','.join(self.history.topics)}" + (f"&since={since}" if since else "")
        query += "&batch=1" if self.batch else ""
        async with connect(
            f"{self.url.replace('http', 'ws', 1)}/ws?{query}",
            sock=self._narrow() if self.message_s else None,
            compression="deflate" if self.batch else None,
            proxy=None,
            ping_interval=None,
            max_queue=1 if self.message_s else 1024,
            max_size=None,
        ) as connection:
            try:
                while True:
                    yield await connection.recv(decode=False)
            finally:
                connection.transport.abort()

    def _narrow(self) -> socket.socket:
        """Connect with a small receive buffer, so that unread bytes stay with the service and not in the kernel."""
        plug = socket.socket()
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        plug.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            plug.connect(("127.0.0.1", int(self.url.rpartition(":")[2])))
        return plug

    async def _by_sse(self, since: str | None) -> AsyncIterator[bytes]:
        headers = {"Last-Event-ID": since} if since else {}
        url = f"{self.url}/sse?topics={','.join(self.history.topics)}"
        async with self.http.get(url, headers=headers, timeout=aiohttp.ClientTimeout(total=None)) as answer:
            if answer.status != 200:
                self.history.counts[f"refused:{answer.status}"] += 1
                return
            try:
                async for line in answer.content:
                    if line.startswith(b"data: "):
                        yield line[6:].rstrip(b"\n")
            finally:
                answer.close()


async def mixed_requests(url: str, http: aiohttp.ClientSession, rng: random.Random, history: History) -> None:
    """Send valid and invalid REST requests forever; check that answers have the promised shape and are never a 500."""
    while True:
        path = rng.choice(PATHS)
        try:
            async with http.get(url + path, timeout=aiohttp.ClientTimeout(total=40)) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            history.wrong(f"{path}: {error!r}")
        else:
            history.counts[f"rest:{answer.status}"] += 1
            problem = _problem(path, answer.status, answer.content_type, body)
            if problem is not None:
                history.wrong(f"{path}: {answer.status} {problem}: {body[:200]!r}")
        await asyncio.sleep(rng.expovariate(4.0))


def _problem(path: str, status: int, content_type: str, body: bytes) -> str | None:
    if status not in (200, 400, 404, 409, 429, 503, 504):
        return "is not a documented status"
    if content_type != "application/json":
        return None if path == "/metrics" and status == 200 else "is not JSON"
    with contextlib.suppress(orjson.JSONDecodeError):
        answer = orjson.loads(body)
        if path.startswith("/health"):
            return None
        if answer.get("success") is (status == 200) and ("data" in answer) is (status == 200):
            return _disorder(answer["data"]) if "/ohlc" in path and status == 200 else None
    return "is not in the envelope"


def _disorder(candles: list[dict[str, int]]) -> str | None:
    opened = [candle["open_time"] for candle in candles]
    return None if opened == sorted(set(opened)) else "has candles out of order"


PATHS = (
    "/api/market?limit=20",
    "/api/market/global",
    "/api/market/price?symbols=BTC,ETH",
    "/api/market/price?symbols=BTC&max_age=5",
    "/api/market/ohlc?symbol=BTC&interval=1m&limit=50",
    "/api/market/ohlc?symbol=ETH&interval=1h&limit=500",
    "/api/market/ohlc?symbol=DOGE&interval=7m",
    "/api/news?limit=10",
    "/api/news?filter=hot&symbol=BTC",
    "/api/sentiment/global?limit=7",
    "/api/crypto/blockchain/gas",
    "/api/crypto/blockchain/stats?chain=ethereum",
    "/api/status",
    "/api/topics",
    "/api/snapshot?topics=price.*,news",
    "/api/snapshot?topics=nonsense",
    "/api/new-sources/prices/unified?symbols=BTC",
    "/api/new-sources/status",
    "/api/new-sources/crypto-api-clean/stats",
    "/api/new-sources/crypto-dt-source/fear-greed",
    "/health/live",
    "/health/ready",
    "/metrics",
    "/api/nowhere",
    "/static/..%2f..%2fetc/passwd",
)

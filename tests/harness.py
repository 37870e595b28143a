"""The whole service, in this process and on a real port, for tests that connect as clients."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from stream_server.app import Run, service
from stream_server.connections.listener import listen
from stream_server.context import Context
from stream_server.serving import runner_of
from stream_server.settings import Settings
from tests.fakes.binance import FakeBinance

NOWHERE = "http://127.0.0.1:9"
"""A URL where nobody listens: providers that a test doesn't need are down, and no test reaches the internet."""

ELSEWHERE = {
    **{
        name.upper(): NOWHERE
        for name in Settings.model_fields
        if name.endswith(("_url", "_urls")) and not name.startswith("binance")
    },
    "RSS_FEEDS": "none",
}


@dataclass(slots=True)
class Running:
    """A running service: its URLs, an HTTP client, and its context for what a client cannot see."""

    url: str
    http: aiohttp.ClientSession
    context: Context

    @property
    def ws_url(self) -> str:
        return self.url.replace("http", "ws", 1)

    async def get(self, path: str, **headers: str) -> tuple[int, dict[str, object]]:
        """GET a path; return the status and the parsed body."""
        async with self.http.get(self.url + path, headers=headers) as answer:
            body = await answer.json()
            assert isinstance(body, dict)
            return answer.status, body


@asynccontextmanager
async def running(
    exchange: FakeBinance | None, state_dir: Path, run: Run | None = None, **settings: str
) -> AsyncIterator[Running]:
    """Run the service with these settings. Without an exchange, Binance is down."""
    ws_url = exchange.ws_url if exchange is not None else "ws://127.0.0.1:9"
    rest_url = exchange.rest_url if exchange is not None else NOWHERE
    values = {
        "HOST": "127.0.0.1",
        "PORT": "0",
        **ELSEWHERE,
        "STATE_DIR": str(state_dir),
        "PROBE_S": "0",
        "BINANCE_WS_URLS": ws_url,
        "BINANCE_REST_URLS": rest_url,
        **settings,
    }
    async with service(Settings.parse(values), run or Run()) as (app, context):
        runner = runner_of(app)
        await runner.setup()
        try:
            listener = await listen(runner, context)
            try:
                port = listener.sockname[1]
                async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
                    yield Running(f"http://127.0.0.1:{port}", http, context)
            finally:
                # Also after a failed test: uvloop waits forever for a server that isn't closed.
                context.draining = True
                listener.close()
            await context.clients.dismiss(within_s=1.0)
        finally:
            await runner.cleanup()


async def until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Wait until a condition holds; fail after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.01)

"""Restart the service many times under EventSources of a browser and of Node: all of them must reconnect.

    python -m tests.restarts [--restarts 50] [--sources 10] [--node-modules FOLDER]

FOLDER is a node_modules folder with npm's `eventsource`; without it only Chromium is tested. At every restart a
WebSocket client that never closes keeps the service draining, so that sources reconnect during the drain too.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from playwright.async_api import Page, async_playwright

from bench.processes import free_port
from tests.browser import NoBrowserError, launch
from tests.harness import ELSEWHERE

WITHIN_S = 60.0
OPEN_SOURCES = """
const states = () => [0, 1, 2].map((state) => sources.filter((source) => source.readyState === state).length);
const sources = Array.from({length: count}, () => new EventSource(url));
"""
ON_NODE = f"""
const {{EventSource}} = require("eventsource");
const [count, url] = [Number(process.argv[2]), process.argv[3]];
{OPEN_SOURCES}
setInterval(() => console.log(JSON.stringify(states())), 100);
"""
ON_A_PAGE = f"""([count, url]) => {{ {OPEN_SOURCES} window.states = states; }}"""


@dataclass(slots=True)
class SourceGroup:
    """A group of sources; `ask` returns how many are connecting, open and closed for good."""

    name: str
    ask: Callable[[], "asyncio.Future[list[int]]"]
    slowest_s: float = 0.0
    lost: int = 0


@dataclass(slots=True)
class Service:
    """The process that is restarted, always on the same port."""

    port: int
    folder: Path
    process: asyncio.subprocess.Process | None = field(default=None)

    async def start(self) -> None:
        settings = {
            **ELSEWHERE,
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "SHUTDOWN_S": "5",
            "PROBE_S": "0",
            "STATE_DIR": str(self.folder),
            "LOG_DIR": str(self.folder),
            "MAX_CONNECTIONS_PER_IP": "0",
            "BINANCE_WS_URLS": "ws://127.0.0.1:9",
            "BINANCE_REST_URLS": "http://127.0.0.1:9",
        }
        with (self.folder / "service.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "stream_server"), env=os.environ | settings, stdout=log, stderr=log
            )
        deadline = time.monotonic() + WITHIN_S
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                return
            if time.monotonic() > deadline:
                raise RuntimeError("the service does not listen")
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            await self.process.wait()


@asynccontextmanager
async def lingering_client(port: int) -> AsyncIterator[None]:
    """Connect a WebSocket client that ignores its goodbye."""
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"ws://127.0.0.1:{port}/ws?topics=status", autoclose=False),
    ):
        yield


@asynccontextmanager
async def node(modules: Path, count: int, url: str, folder: Path) -> AsyncIterator[SourceGroup]:
    """Open sources of npm's `eventsource`."""
    script = folder / "sources.cjs"
    script.write_text(ON_NODE)
    process = await asyncio.create_subprocess_exec(
        *("node", str(script), str(count), url),
        env=os.environ | {"NODE_PATH": str(modules)},
        stdout=asyncio.subprocess.PIPE,
    )
    states: list[int] = [count, 0, 0]

    async def listen() -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            states[:] = json.loads(line)

    async def ask() -> list[int]:
        return list(states)

    listening = asyncio.create_task(listen())
    try:
        yield SourceGroup("npm eventsource", lambda: asyncio.ensure_future(ask()))
    finally:
        process.kill()
        await process.wait()
        await listening


@asynccontextmanager
async def chromium(count: int, url: str) -> AsyncIterator[SourceGroup]:
    """Open sources in several pages; a browser opens only six connections to a host."""
    async with async_playwright() as playwright:
        browser = await launch(playwright)
        pages: list[Page] = []
        for first in range(0, count, 5):
            context = await browser.new_context()
            pages.append(await context.new_page())
            await pages[-1].evaluate(ON_A_PAGE, [min(5, count - first), url])

        async def ask() -> list[int]:
            each = [await page.evaluate("states()") for page in pages]
            return [sum(states) for states in zip(*each, strict=True)]

        try:
            yield SourceGroup("Chromium", lambda: asyncio.ensure_future(ask()))
        finally:
            await browser.close()


async def run(options: argparse.Namespace) -> bool:
    """Restart as often as asked, and print how the sources reconnect; return whether all did."""
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        service = Service(free_port(), folder)
        await service.start()
        stack.push_async_callback(service.stop)
        url = f"http://127.0.0.1:{service.port}/sse?topics=status"
        groups = []
        try:
            groups.append(await stack.enter_async_context(chromium(options.sources, url)))
        except NoBrowserError as problem:
            print(problem)
        if options.node_modules is not None:
            groups.append(await stack.enter_async_context(node(options.node_modules, options.sources, url, folder)))
        for number in range(options.restarts + 1):
            if number:
                async with lingering_client(service.port):
                    await service.stop()
                await service.start()
            began = time.monotonic()
            for group in groups:
                states = await group.ask()
                while states[1] + states[2] < options.sources and time.monotonic() - began < WITHIN_S:
                    await asyncio.sleep(0.1)
                    states = await group.ask()
                group.slowest_s = max(group.slowest_s, time.monotonic() - began)
                group.lost = options.sources - states[1]
            print(
                f"{number}: " + ", ".join(f"{each.name} {options.sources - each.lost} open" for each in groups),
                flush=True,
            )
            if any(group.lost for group in groups):
                break
        for group in groups:
            print(f"{group.name}: {group.lost} of {options.sources} lost, the slowest back in {group.slowest_s:.1f} s")
        return not any(group.lost for group in groups)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--restarts", type=int, default=50)
    parser.add_argument("--sources", type=int, default=10)
    parser.add_argument("--node-modules", type=Path)
    sys.exit(0 if asyncio.run(run(parser.parse_args())) else 1)


if __name__ == "__main__":
    main()

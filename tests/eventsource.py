"""An EventSource that reconnects and gives up as the HTML standard defines.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#sse-processing-model
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum

import aiohttp

from tests.clients import Message, SseClient, SseEvent

FIRST_RETRY_MS = 3000


class State(StrEnum):
    """The `readyState` of a source."""

    CONNECTING = "connecting"
    OPEN = "open"
    CLOSED = "closed"


@dataclass(slots=True)
class EventSource:
    """An EventSource, kept open by a task; `waits_ms` are its delays before each reconnect."""

    http: aiohttp.ClientSession
    url: str
    pause: Callable[[float], Awaitable[None]]
    headers: dict[str, str] = field(default_factory=dict)
    state: State = State.CONNECTING
    last_event_id: str = ""
    retry_ms: int = FIRST_RETRY_MS
    opened: int = 0
    statuses: list[int] = field(default_factory=list)
    waits_ms: list[int] = field(default_factory=list)
    events: list[SseEvent] = field(default_factory=list)

    async def run(self) -> None:
        """Connect and reconnect until the server answers with a status or content type that ends the stream."""
        while True:
            with contextlib.suppress(aiohttp.ClientError, ConnectionError, TimeoutError, AssertionError):
                if not await self._connect():
                    self.state = State.CLOSED
                    return
            self.state = State.CONNECTING
            self.waits_ms.append(self.retry_ms)
            await self.pause(self.retry_ms / 1000)

    async def _connect(self) -> bool:
        sent = {"Accept": "text/event-stream", "Cache-Control": "no-store", **self.headers}
        if self.last_event_id:
            sent["Last-Event-ID"] = self.last_event_id
        async with self.http.get(self.url, headers=sent, timeout=aiohttp.ClientTimeout(total=None)) as answer:
            self.statuses.append(answer.status)
            if answer.status != 200 or answer.content_type != "text/event-stream":
                return False
            self.state = State.OPEN
            self.opened += 1
            stream = SseClient(answer.content.readline)
            while not answer.content.at_eof():
                event = await stream.next()
                self.last_event_id = stream.last_event_id or self.last_event_id
                self.retry_ms = self.retry_ms if event.retry is None else event.retry
                if not event.comment:
                    self.events.append(event)
            return True

    @property
    def heard(self) -> list[Message]:
        """The messages received."""
        return [event.json for event in self.events]


@asynccontextmanager
async def event_source(
    http: aiohttp.ClientSession, url: str, pause: Callable[[float], Awaitable[None]] = asyncio.sleep, **headers: str
) -> AsyncIterator[EventSource]:
    """Open a source, and close it at the end. `pause` waits before each new connection."""
    source = EventSource(http, url, pause, headers)
    task = asyncio.create_task(source.run())
    try:
        yield source
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

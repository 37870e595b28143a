"""The service with its frame layers and settings, and a session that echoes messages.

Tests of a frame layer need an echo, and `/ws` has a protocol of its own. Everything below the session is the real code.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path

from stream_server.access.tokens import Claims
from stream_server.app import Run, service
from stream_server.connections.listener import listen
from stream_server.context import CONTEXT, Context
from stream_server.delivery.outbox import Outbox
from stream_server.delivery.session import Session
from stream_server.serving import runner_of
from stream_server.settings import Settings
from stream_server.wire import messages
from stream_server.wire.refusals import Refusal
from tests.harness import ELSEWHERE


class EchoSession(Session):
    """Echo each text; limits and refusals are those of every session."""

    __slots__ = ()

    def open(self, selectors: Sequence[str], since: str | None, interval_ms: int) -> None:
        self.hub.members.join(self.outbox)

    def batch(self, wanted: bool) -> None:
        pass

    def receive(self, text: str | bytes, parts: int = 1) -> None:
        if self.admit(parts):
            self.outbox.pipe.write(messages.websocket_frame(0x81, text.encode() if isinstance(text, str) else text))

    def refuse(self, refusal: Refusal, req: object = None) -> None:
        self.outbox.pipe.write(messages.websocket_frame(0x81, refusal.code.encode()))


class EchoContext(Context):
    """The context of the service, with echo sessions."""

    def new_session(self, outbox: Outbox, claims: Claims, *, inflates: bool) -> Session:
        return EchoSession(self.hub, outbox, self.symbols, self.clock, self.settings.heartbeat_s, inflates)


@asynccontextmanager
async def echoing(state_dir: Path, *, light: bool) -> AsyncIterator[int]:
    """Run an echo server on one of the two frame layers; yield its port."""
    values = {
        "HOST": "127.0.0.1",
        "PORT": "0",
        **ELSEWHERE,
        "STATE_DIR": str(state_dir),
        "BINANCE_WS_URLS": "ws://127.0.0.1:9",
        "BINANCE_REST_URLS": "http://127.0.0.1:9",
        "LIGHT_CONNECTIONS": str(int(light)),
    }
    async with service(Settings.parse(values), Run()) as (app, inner):
        context = EchoContext(**{each.name: getattr(inner, each.name) for each in fields(inner) if each.init})
        app[CONTEXT] = context
        runner = runner_of(app)
        await runner.setup()
        try:
            listener = await listen(runner, context)
            try:
                yield int(listener.sockname[1])
            finally:
                context.draining = inner.draining = True
                listener.close()
            await context.clients.dismiss(within_s=1.0)
        finally:
            await runner.cleanup()

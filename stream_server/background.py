"""The loops behind the requests: feeds, heartbeats, housekeeping, status and what watches the process itself."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from orchestrator.keep_alive import RestartPolicy
from stream_server.context import CONTEXT, Context
from stream_server.rest.status_topic import StatusTopic

log = logging.getLogger(__name__)

RESTARTS = RestartPolicy(first_s=0.25, longest_s=30.0)
"""Heartbeats and freshness of all clients wait for these loops."""
HOUSEKEEPING_S = 0.25
STUCK_EVERY = 4
"""Rounds of housekeeping between two looks for clients whose transport does not drain."""


def run_with(app: web.Application, status: StatusTopic) -> None:
    """Run the loops from the start of the application to its clean-up."""

    async def background(app: web.Application) -> AsyncIterator[None]:
        context = app[CONTEXT]
        # The one task without a group: aiohttp resumes this generator in a task of its own choice.
        loops = asyncio.create_task(context.background.run(_loops(context, status)), name="service")
        try:
            yield
        finally:
            loops.cancel()
            await asyncio.gather(loops, return_exceptions=True)
            if context.sources is not None:
                await context.sources.close()

    app.cleanup_ctx.append(background)


def log_crash(name: str, fault: BaseException) -> None:
    """Log that a loop has crashed."""
    log.error("background_crashed", extra={"task": name}, exc_info=fault)


def _loops(context: Context, status: StatusTopic) -> dict[str, Callable[[], Awaitable[None]]]:
    loops: dict[str, Callable[[], Awaitable[None]]] = {
        "supervisor": context.supervisor.run,
        "heartbeat": context.clients.heartbeat,
        "housekeeping": lambda: _housekeeping(context),
        "status": lambda: status.run(context),
        "loop_monitor": context.loop_monitor.run,
    }
    if context.probe.every_s:
        loops["probe"] = context.probe.run
    return loops


async def _housekeeping(context: Context) -> None:
    turn = 0
    while True:
        await context.clock.sleep(HOUSEKEEPING_S)
        turn += 1
        context.hub.tick()
        if turn % STUCK_EVERY == 0:
            context.hub.members.find_stuck()

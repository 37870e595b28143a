"""The topic `status`: how the service does, published when a feed or a provider changes its state."""

import asyncio
import contextlib

from feeds import topics
from feeds.model import Event
from orchestrator.clock import Clock
from stream_server.context import Context
from stream_server.rest.status import status_report

STATUS_EVERY_S = 10.0
STATUS_SETTLE_S = 0.25
"""The shortest time between two reports: one change often brings others."""


class StatusTopic:
    """Publishes `status` after a change, and with `refresh` every few seconds as well.

    A tape gets it only after changes, because the same tape must give the same events.
    """

    def __init__(self, clock: Clock, refresh: bool) -> None:
        self.clock = clock
        self.refresh = refresh
        self.changed = asyncio.Event()

    def touch(self) -> None:
        """Look soon whether the state of a feed or a provider has changed."""
        self.changed.set()

    async def run(self, context: Context) -> None:
        """Publish until cancelled."""
        shown: object = None
        published = float("-inf")
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STATUS_EVERY_S):
                    await self.changed.wait()
            self.changed.clear()
            states = _states(context)
            due = self.refresh and self.clock.now() - published >= STATUS_EVERY_S
            if states == shown and not due:
                continue
            shown, published = states, self.clock.now()
            now_ms = self.clock.wall_ms()
            context.hub.publish(Event(topics.STATUS, now_ms, now_ms, "stream_server", status_report(context)))
            await asyncio.sleep(STATUS_SETTLE_S)


def _states(context: Context) -> list[object]:
    """Return the states whose change is worth a new report."""
    feeds: list[object] = [(feed.get("state"), feed.get("last_error")) for feed in context.supervisor.report()]
    providers = context.sources.upstreams.values() if context.sources is not None else ()
    return feeds + [(provider.name, provider.state) for provider in providers]

"""Keeps feeds running, whatever happens to one of them, and tells how they do."""

import asyncio
import logging
import random
from collections.abc import Sequence
from typing import Protocol

from orchestrator.clock import Clock
from orchestrator.retry import Backoff

log = logging.getLogger(__name__)


class Feed(Protocol):
    """Something that runs for ever and publishes events."""

    name: str

    async def run(self) -> None:
        """Feed until cancelled. Upstream failures are its own business."""

    def want(self, topic: str) -> None:
        """Somebody listens to this topic."""

    def drop(self, topic: str) -> bool:
        """Nobody has listened to this topic for a while; True if it is no longer brought from now on."""

    def readiness(self) -> dict[str, str | None]:
        """For each category its first value or known failure; None for neither yet."""

    def report(self) -> dict[str, object]:
        """How it goes, for people."""


class Supervisor:
    """Runs every feed in a task of its own; one that crashes is restarted, ever later, and loudly."""

    def __init__(self, feeds: Sequence[Feed], clock: Clock, rng: random.Random) -> None:
        self.feeds = feeds
        self.clock = clock
        self.rng = rng
        self.crashes: dict[str, int] = {}
        self.down: set[str] = set()
        """Those that have fallen and wait to be restarted."""

    async def run(self) -> None:
        """Keep every feed alive until cancelled."""
        async with asyncio.TaskGroup() as group:
            for feed in self.feeds:
                group.create_task(self._keep_alive(feed), name=f"feed:{feed.name}")

    async def _keep_alive(self, feed: Feed) -> None:
        backoff = Backoff(1.0, 60.0, self.rng)
        while True:
            started = self.clock.now()
            try:
                await feed.run()
            except Exception:  # a fault of ours: be loud, keep the others serving
                self.crashes[feed.name] = self.crashes.get(feed.name, 0) + 1
                self.down.add(feed.name)
                log.exception("feed_crashed", extra={"feed": feed.name})
            if self.clock.now() - started > 60:
                backoff.reset()
            await self.clock.sleep(backoff.next_delay_s())
            self.down.discard(feed.name)

    def trouble(self) -> str | None:
        """Which feeds wait to be restarted, by a fault of ours: what is new here should get no clients then."""
        return f"restarting {', '.join(sorted(self.down))}" if self.down else None

    def want(self, topic: str) -> None:
        """Tell every feed that somebody listens; each knows which topics are its own."""
        for feed in self.feeds:
            feed.want(topic)

    def drop(self, topic: str) -> bool:
        """Tell every feed that nobody listens any more; True if one of them no longer brings the topic."""
        dropped = [feed.drop(topic) for feed in self.feeds]  # all of them are told
        return any(dropped)

    def readiness(self) -> dict[str, str | None]:
        """For each category `value`, a known failure, or None for neither yet. One feed with a value is enough."""
        words: dict[str, list[str | None]] = {}
        for feed in self.feeds:
            for category, word in feed.readiness().items():
                words.setdefault(category, []).append(word)
        return {category: _together(said) for category, said in words.items()}

    def report(self) -> list[dict[str, object]]:
        """How each feed does."""
        return [feed.report() | {"crashes": self.crashes.get(feed.name, 0)} for feed in self.feeds]


def _together(words: list[str | None]) -> str | None:
    if "value" in words:
        return "value"
    return None if None in words else "; ".join(dict.fromkeys(word for word in words if word is not None))

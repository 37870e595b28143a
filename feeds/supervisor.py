"""Keep feeds running, whatever happens to one of them, and report their state."""

import logging
import random
from collections.abc import Sequence
from typing import Protocol

from orchestrator.clock import Clock
from orchestrator.keep_alive import KeepAlive, RestartPolicy

log = logging.getLogger(__name__)

RESTARTS = RestartPolicy(first_s=1.0, longest_s=60.0)


class Feed(Protocol):
    """Something that runs until it is cancelled, and publishes events."""

    name: str

    async def run(self) -> None:
        """Publish until cancelled. The feed deals with failures of its upstreams itself."""

    def want(self, topic: str) -> None:
        """Bring this topic, because somebody listens to it."""

    def drop(self, topic: str) -> bool:
        """Drop this topic, because nobody has listened to it for a while; True if the feed stops bringing it."""

    def readiness(self) -> dict[str, str | None]:
        """Return `value`, a known failure, or None for neither yet, by category."""

    def report(self) -> dict[str, object]:
        """Return the state of the feed, for people."""


class Supervisor:
    """Runs every feed in a task of its own, and restarts one that crashes."""

    def __init__(self, feeds: Sequence[Feed], clock: Clock, rng: random.Random) -> None:
        self.feeds = feeds
        self.kept = KeepAlive(RESTARTS, clock, rng, _log_crash)

    async def run(self) -> None:
        """Keep every feed alive until cancelled."""
        await self.kept.run({feed.name: feed.run for feed in self.feeds})

    def trouble(self) -> str | None:
        """Return which feeds wait to be restarted after a crash: a faulty new version should get no clients then."""
        return self.kept.trouble()

    def want(self, topic: str) -> None:
        """Ask every feed for a topic that somebody listens to; each feed knows its own topics."""
        for feed in self.feeds:
            feed.want(topic)

    def drop(self, topic: str) -> bool:
        """Drop a topic that nobody listens to any more; True if a feed has stopped bringing it."""
        dropped = [feed.drop(topic) for feed in self.feeds]  # a list, because `any` would stop at the first
        return any(dropped)

    def readiness(self) -> dict[str, str | None]:
        """Return `value`, a known failure, or None for neither yet, by category. One feed with a value is enough."""
        words: dict[str, list[str | None]] = {}
        for feed in self.feeds:
            for category, word in feed.readiness().items():
                words.setdefault(category, []).append(word)
        return {category: _together(parts) for category, parts in words.items()}

    def report(self) -> list[dict[str, object]]:
        """Return the state of each feed, for people."""
        return [feed.report() | {"crashes": self.kept.crashes.get(feed.name, 0)} for feed in self.feeds]


def _log_crash(name: str, fault: BaseException) -> None:
    log.error("feed_crashed", extra={"feed": name}, exc_info=fault)


def _together(words: list[str | None]) -> str | None:
    if "value" in words:
        return "value"
    return None if None in words else "; ".join(dict.fromkeys(word for word in words if word is not None))

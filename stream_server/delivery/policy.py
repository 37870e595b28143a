"""The bounds and times of the hub, and the scheduler it runs on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

FAREWELL_S = 2.0
"""How long a client has to begin to read its goodbye."""
FAREWELL_SHARE = 0.25
PAUSED_S = 1.0
"""Housekeeping this late means that the whole process stood still."""


class Scheduler(Protocol):
    """Runs calls later, on the thread of the hub."""

    def soon(self, call: Callable[[], None]) -> None:
        """Run a call in the next turn of the loop."""

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Run a call after a delay."""


@dataclass(frozen=True, slots=True)
class HubPolicy:
    """Bounds and times of the hub."""

    ttl_s: Callable[[str], float | None]
    """How long a value of a topic is fresh without an update; None forever."""
    ring_events: int = 500
    outbox_bytes: int = 4 * 1024 * 1024
    stall_s: float = 30.0
    idle_topic_s: float = 60.0
    outbox_total_bytes: int = 512 * 1024 * 1024
    """Bound of what is held for all clients together, with the bytes that their transports could not send yet."""

    @property
    def farewell_s(self) -> float:
        """The last part of `stall_s`: the time in which a client that reads again can still get its goodbye."""
        return min(FAREWELL_S, FAREWELL_SHARE * self.stall_s)

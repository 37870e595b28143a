"""What the parts of delivery need from outside: bounds, times, and something that runs things later."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

FAREWELL_S = 2.0
"""How long a client has to begin to read its goodbye."""
FAREWELL_SHARE = 0.25
PAUSED_S = 1.0
"""Housekeeping this late says that the whole process stood still."""


class Scheduler(Protocol):
    """Runs things later, on the thread of the hub."""

    def soon(self, call: Callable[[], None]) -> None:
        """Run it in the next turn of the loop."""

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Run it after a delay."""


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
    """What may be held for all clients together, with what their transports have not been able to send."""

    @property
    def farewell_s(self) -> float:
        """The last part of `stall_s`: what is left to a client after its goodbye, should it read again."""
        return min(FAREWELL_S, FAREWELL_SHARE * self.stall_s)

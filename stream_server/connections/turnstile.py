"""Spread work over turns of the event loop: in each turn a few of those that wait may enter.

The front uses one turnstile for handshakes, and all WebSocket clients share another for the messages that they send.
"""

import asyncio
from collections import deque
from typing import Protocol

TURN_S = 0.005
"""Seconds that all entrants of one turn may hold up the loop; further ones wait for the next turn."""


class Entrant(Protocol):
    """Something that waits at a turnstile."""

    def enter(self) -> None:
        """Do the work of one turn."""


class Turnstile:
    """Let a few enter in each turn of the loop. Thousands in one turn would delay every client."""

    __slots__ = ("due", "left", "loop", "most", "spent_s", "waiting")

    def __init__(self, most: int) -> None:
        """`most` may enter in a turn, and fewer if they take longer than `TURN_S`."""
        self.loop = asyncio.get_running_loop()
        self.most = self.left = most
        self.spent_s = 0.0
        self.waiting: deque[Entrant] = deque()
        self.due = False

    def arrive(self, entrant: Entrant) -> None:
        """Let it enter now if nobody waits and this turn has room, or else when its turn comes."""
        if self.waiting or not self._has_room():
            self.queue(entrant)
            return
        self._be_due()
        self._let_in(entrant)

    def queue(self, entrant: Entrant) -> None:
        """Let it enter when its turn comes, in the next turn of the loop at the earliest."""
        self.waiting.append(entrant)
        self._be_due()

    def turn(self) -> None:
        """Begin the next turn, and let in those who waited."""
        self.left, self.spent_s, self.due = self.most, 0.0, False
        try:
            for _ in range(min(self.most, len(self.waiting))):
                if not self._has_room():
                    break
                self._let_in(self.waiting.popleft())
        finally:  # an exception in one of them must not block the others
            if self.waiting:
                self._be_due()

    def _has_room(self) -> bool:
        return self.left > 0 and self.spent_s < TURN_S

    def _let_in(self, entrant: Entrant) -> None:
        self.left -= 1
        began_s = self.loop.time()
        try:
            entrant.enter()
        finally:
            self.spent_s += self.loop.time() - began_s

    def _be_due(self) -> None:
        if not self.due:
            self.due = True
            self.loop.call_soon(self.turn)

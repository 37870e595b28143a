"""Joined writes on their way to the members of a group, some hundred writes a turn of the loop.

A delivery that a turn had no time to finish waits in order for the next turn. A client whose connection raises
something harms neither its group nor the round.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from stream_server.delivery.faults import GONE, Faults
from stream_server.delivery.group import Group
from stream_server.delivery.laggards import Laggards
from stream_server.delivery.outbox import Outbox
from stream_server.wire.messages import Frame

ALL_WRITES = 1 << 40
BYTES_A_WRITE = 8 * 1024
"""What a write may carry at the price of one; a bigger one counts for more."""


@dataclass(slots=True, eq=False)
class Delivery:
    """One joined write for the members that a group had when it was joined; the first `done` of them have it."""

    group: Group
    frames: list[Frame]
    payload: bytes
    outboxes: list[Outbox]
    newcomers: dict[Outbox, int]
    done: int = 0

    @property
    def worth(self) -> int:
        """How many writes each of its writes counts for."""
        return 1 + len(self.payload) // BYTES_A_WRITE

    @property
    def is_done(self) -> bool:
        """Whether all members have it."""
        return self.done >= len(self.outboxes)


class Deliveries:
    """Writes to the clients that keep up, and hands the others to the laggards."""

    def __init__(self, laggards: Laggards, faults: Faults) -> None:
        self.laggards = laggards
        self.faults = faults
        self.unfinished: deque[Delivery] = deque()
        """Deliveries that a turn had no time to finish, in order."""

    def start(self, delivery: Delivery, budget: int) -> int:
        """Write to the members of a group as far as the budget goes; return how many writes that was worth."""
        worth = self._deliver(delivery, budget)
        if not delivery.is_done:
            self.unfinished.append(delivery)
        return worth

    def go_on(self, budget: int) -> int:
        """Go on with what is unfinished as far as the budget goes; return what is left of the budget."""
        while self.unfinished and budget > 0:
            delivery = self.unfinished[0]
            budget -= self._deliver(delivery, budget)
            if delivery.is_done:
                self.unfinished.popleft()
        return budget

    def finish(self, group: Group) -> None:
        """Finish what is unfinished for a group, whatever it costs."""
        for delivery in [each for each in self.unfinished if each.group is group]:
            self._deliver(delivery, ALL_WRITES)
            self.unfinished.remove(delivery)

    def write(self, outboxes: Sequence[Outbox], payload: bytes) -> list[Outbox]:
        """Write to the clients that keep up; return the others. A fault of one connection does not reach the others."""
        others: list[Outbox] = []
        for outbox in outboxes:
            if outbox.ready:
                write = outbox.write  # called through the slot it would be looked up the slow way
                try:
                    write(payload)
                except GONE:
                    outbox.clogged()
                except Exception as error:  # a `with` block for each write would show in the time of a round
                    self.faults.blame(outbox, error)
            else:
                others.append(outbox)
        return others

    def _deliver(self, delivery: Delivery, most: int) -> int:
        """Write to the next members, at most for so many writes; return how many writes that was worth."""
        start, worth = delivery.done, delivery.worth
        delivery.done = end = min(start + max(1, most // worth), len(delivery.outboxes))
        outboxes = delivery.outboxes[start:end]
        newcomers = delivery.newcomers
        aside: list[Outbox] = []
        if newcomers:
            aside = [outbox for outbox in outboxes if outbox in newcomers]
            outboxes = [outbox for outbox in outboxes if outbox not in newcomers]
        aside += self.write(outboxes, delivery.payload)
        for outbox in aside:
            self._send_or_hold(delivery, outbox)
        written = end - start - len(aside)
        delivery.outboxes[0].tally.add(written * len(delivery.frames), written * len(delivery.payload))
        return (end - start) * worth

    def _send_or_hold(self, delivery: Delivery, outbox: Outbox) -> None:
        """Send to a member that may lag, or that has seen a part of the delivery in its snapshot."""
        seen = delivery.newcomers.get(outbox)
        if seen is None:
            self.laggards.send_or_hold(outbox, delivery.frames, delivery.payload)
        else:
            unseen = [frame for frame in delivery.frames if not frame.topic or frame.seq > seen]
            self.laggards.send_or_hold(outbox, unseen)

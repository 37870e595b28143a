"""Rounds of writes: what was published goes to every group that wants it, some hundred writes a turn of the loop.

What is published while a round is written waits for the next one, so that a round ends and everybody has a turn in it.
A client whose connection raises something harms neither its group nor the round.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.clock import Clock
from orchestrator.containment import Contained
from stream_server.delivery.bursts import Burst
from stream_server.delivery.faults import GONE, Faults
from stream_server.delivery.group import Group
from stream_server.delivery.groups import Groups
from stream_server.delivery.laggards import Laggards
from stream_server.delivery.meters import Tally
from stream_server.delivery.outbox import Outbox
from stream_server.delivery.policy import Scheduler
from stream_server.wire.messages import Frame

WRITES_A_TURN = 500
"""A write costs some 8 µs: this many hold up the loop, and with it everyone's requests, for 4 ms."""
ALL_WRITES = 1 << 40
BYTES_A_WRITE = 8 * 1024
"""What a write may carry at that price; a bigger one counts for more."""
EFFORT_A_WRITE = 64
"""How many topics or frames a group may look at for the price of a write."""


@dataclass(slots=True, eq=False)
class Delivery:
    """One joined write on its way to the members a group had when it was joined; `done` have it."""

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
        """Whether everybody has it."""
        return self.done >= len(self.outboxes)


class Rounds:
    """Writes to all clients that keep up, and hands the rest to the laggards."""

    def __init__(self, clock: Clock, scheduler: Scheduler, groups: Groups, laggards: Laggards, faults: Faults) -> None:
        self.clock = clock
        self.scheduler = scheduler
        self.groups = groups
        self.laggards = laggards
        self.faults = faults
        self.burst = Burst(0, groups.numbers)
        """What has been published since the last round began."""
        self.round = self.burst
        """What is being written: `due` are the groups that have not had their part of it."""
        self.due: dict[Group, None] = {}
        self.dirty: dict[Group, None] = {}
        """The groups that have something else pending."""
        self.unfinished: deque[Delivery] = deque()
        """Deliveries that a turn had no time to finish, in order."""
        self.flush_due = False
        self.sent = {"websocket": Tally(), "sse": Tally()}
        """What went out, by transport."""

    @property
    def place(self) -> int:
        """The place among all bursts of what is published next."""
        return self.burst.end

    @property
    def is_idle(self) -> bool:
        """Whether nothing that was published is still to be written."""
        return not (self.due or self.unfinished or self.burst.frames)

    def publish(self, topic: str, frame: Frame) -> None:
        """Let every group that listens to a topic have a frame in the next round."""
        burst = self.burst
        if burst.began_at is None:
            burst.begin(self.clock.now())
        burst.add(topic, frame)
        if not self.flush_due:
            self._flush_soon()

    def give_turn(self, group: Group) -> None:
        """Let a group have a turn in the next round: it has something pending that is its own."""
        if self.burst.began_at is None:
            self.burst.begin(self.clock.now())
        self.dirty[group] = None
        if not self.flush_due:
            self._flush_soon()

    def pick(self, group: Group) -> None:
        """Let a group take all that has been published for it."""
        group.pick(self.round)
        group.pick(self.burst)

    def deliver_now(self, group: Group) -> None:
        """Deliver all that has gathered for a group now: its membership changes, or one member gets more."""
        for delivery in [each for each in self.unfinished if each.group is group]:
            self._deliver(delivery, ALL_WRITES)
            self.unfinished.remove(delivery)
        self.pick(group)
        gathered = self._gathered(group)
        if gathered is not None:
            self._deliver(gathered, ALL_WRITES)

    # --- the round ---

    def _flush_soon(self) -> None:
        self.scheduler.soon(self.flush)
        self.flush_due = True

    def flush(self) -> None:
        """Write to every client what has gathered for it, as much as one turn of the loop may take."""
        self.flush_due = False
        try:
            self._write(WRITES_A_TURN)
        finally:
            if self.unfinished or self.due or self.dirty or self.burst.frames:
                self._flush_soon()

    def _write(self, budget: int) -> None:
        for tally in self.sent.values():
            tally.begin()
        while self.unfinished and budget > 0:
            delivery = self.unfinished[0]
            budget -= self._deliver(delivery, budget)
            if delivery.is_done:
                self.unfinished.popleft()
        if not self.unfinished and not self.due:
            if budget < WRITES_A_TURN:
                self._record_wait()
            self._begin_round()
        while self.due and budget > 0:
            with Contained() as writing:  # around all groups, because a block for each would cost too much
                while self.due and budget > 0:
                    group, _ = self.due.popitem()
                    if len(group.members) == 1 and not group.newcomers:
                        budget -= self._write_alone(group)
                    else:
                        budget -= self._write_joined(group, budget)
                    if group.effort:
                        budget -= group.take_effort() // EFFORT_A_WRITE
            if writing.fault is not None:  # what this group was to get is lost: its members have to resume
                for outbox in group.members:
                    self.faults.blame(outbox, writing.fault)
        self._record_wait()

    def _begin_round(self) -> None:
        self.round, self.burst = self.burst, Burst(self.burst.end, self.groups.numbers)
        self.due, self.dirty = self.dirty | self.groups.wanting(self.round), {}

    def _record_wait(self) -> None:
        """Note how long what has been written of this round had to wait."""
        if self.round.began_at is None:
            return
        untimed = [tally for tally in self.sent.values() if tally.messages > tally.timed]
        if untimed:
            waited_s = self.clock.now() - self.round.began_at
            for tally in untimed:
                tally.end(waited_s)

    def _write_joined(self, group: Group, budget: int) -> int:
        """Write to the members of a group, as far as the budget goes. Returns how many writes that was worth."""
        group.pick(self.round)
        delivery = self._gathered(group)
        if delivery is None:
            return 1
        worth = self._deliver(delivery, budget)
        if not delivery.is_done:
            self.unfinished.append(delivery)
        return worth

    def _write_alone(self, group: Group) -> int:
        """Write to the only member of a group. Returns how many writes that was worth."""
        (outbox,) = group.members
        frames: Sequence[Frame] = ()
        joined = group.joined(self.round) if outbox.ready else None
        if joined is not None:
            payload, count = joined
            if not count:
                return 1
        else:
            group.pick(self.round)
            frames = group.gather()
            if not frames:
                return 1
            payload, count = group.key.wire.payload(frames), len(frames)
        group.note_sent(self.clock.now())
        size = len(payload)
        if self._put((outbox,), payload):
            self.laggards.send_or_hold(outbox, frames, payload)
        else:
            tally = outbox.tally
            tally.messages += count  # a call would take longer than both
            tally.bytes += size
        return 1 + size // BYTES_A_WRITE

    def _gathered(self, group: Group) -> Delivery | None:
        """Take what has gathered, joined once for all members."""
        frames = group.gather()
        if not frames or not group.members:
            return None
        group.note_sent(self.clock.now())
        payload = group.key.wire.payload(frames)
        return Delivery(group, frames, payload, list(group.members), group.take_newcomers())

    def _deliver(self, delivery: Delivery, most: int) -> int:
        """Write to the next members, `most` writes' worth. Returns what it was."""
        start, worth = delivery.done, delivery.worth
        delivery.done = end = min(start + max(1, most // worth), len(delivery.outboxes))
        outboxes = delivery.outboxes[start:end]
        newcomers = delivery.newcomers
        aside: list[Outbox] = []
        if newcomers:
            aside = [outbox for outbox in outboxes if outbox in newcomers]
            outboxes = [outbox for outbox in outboxes if outbox not in newcomers]
        aside += self._put(outboxes, delivery.payload)
        for outbox in aside:
            self._hand(delivery, outbox)
        written = end - start - len(aside)
        delivery.outboxes[0].tally.add(written * len(delivery.frames), written * len(delivery.payload))
        return (end - start) * worth

    def _hand(self, delivery: Delivery, outbox: Outbox) -> None:
        """Hand what is delivered to a member that may lag, or that has a part of it already."""
        seen = delivery.newcomers.get(outbox)
        if seen is None:
            self.laggards.send_or_hold(outbox, delivery.frames, delivery.payload)
        else:
            fresh = [frame for frame in delivery.frames if not frame.topic or frame.seq > seen]
            self.laggards.send_or_hold(outbox, fresh)

    def _put(self, outboxes: Sequence[Outbox], payload: bytes) -> list[Outbox]:
        """Write to those who keep up; returns the others. What one connection raises does not reach the others."""
        others: list[Outbox] = []
        for outbox in outboxes:
            if outbox.ready:
                write = outbox.write  # called through the slot it would be looked up the slow way
                try:
                    write(payload)
                except GONE:
                    outbox.clogged()
                except Exception as error:
                    self.faults.blame(outbox, error)
            else:
                others.append(outbox)
        return others

"""Rounds of writes: what was published goes to every group that wants it, some hundred writes a turn of the loop.

What is published while a round is written waits for the next one, so that each round ends and every group has a turn
in it.
"""

from collections.abc import Sequence

from orchestrator.clock import Clock
from orchestrator.containment import Contained
from stream_server.delivery.bursts import Burst
from stream_server.delivery.deliveries import ALL_WRITES, BYTES_A_WRITE, Deliveries, Delivery
from stream_server.delivery.faults import Faults
from stream_server.delivery.group import Group
from stream_server.delivery.groups import Groups
from stream_server.delivery.laggards import Laggards
from stream_server.delivery.meters import Tally
from stream_server.delivery.policy import Scheduler
from stream_server.wire.messages import Frame

WRITES_A_TURN = 500
"""A write costs some 8 µs: this many hold up the loop, and with it all requests, for 4 ms."""
EFFORT_A_WRITE = 64
"""How many topics or frames a group may look at for the price of a write."""


class Rounds:
    """Gives every group that wants something its turn, within the budget of one turn of the loop."""

    def __init__(self, clock: Clock, scheduler: Scheduler, groups: Groups, laggards: Laggards, faults: Faults) -> None:
        self.clock = clock
        self.scheduler = scheduler
        self.groups = groups
        self.laggards = laggards
        self.faults = faults
        self.deliveries = Deliveries(laggards, faults)
        self.burst = Burst(0, groups.numbers)
        """What has been published since the last round began."""
        self.round = self.burst
        """The burst that is being written."""
        self.due: dict[Group, None] = {}
        """The groups that have not had their turn in this round."""
        self.dirty: dict[Group, None] = {}
        """The groups that have something of their own pending for the next round."""
        self.flush_due = False
        self.sent = {"websocket": Tally(), "sse": Tally()}
        """What was sent, by transport."""

    @property
    def place(self) -> int:
        """The place among all bursts of what is published next."""
        return self.burst.end

    @property
    def is_idle(self) -> bool:
        """Whether everything that was published is written."""
        return not (self.due or self.deliveries.unfinished or self.burst.frames)

    def publish(self, topic: str, frame: Frame) -> None:
        """Let every group that listens to a topic have a frame in the next round."""
        burst = self.burst
        if burst.began_at is None:
            burst.begin(self.clock.now())
        burst.add(topic, frame)
        if not self.flush_due:
            self._flush_soon()

    def give_turn(self, group: Group) -> None:
        """Let a group have a turn in the next round: it has something of its own pending."""
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
        """Deliver all that has gathered for a group, because its membership changes or one member gets more."""
        self.deliveries.finish(group)
        self.pick(group)
        gathered = self._gathered(group)
        if gathered is not None:
            self.deliveries.start(gathered, ALL_WRITES)

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
            if self.deliveries.unfinished or self.due or self.dirty or self.burst.frames:
                self._flush_soon()

    def _write(self, budget: int) -> None:
        for tally in self.sent.values():
            tally.begin()
        budget = self.deliveries.go_on(budget)
        if not self.deliveries.unfinished and not self.due:
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
        """Record how long what has been written of this round had to wait."""
        began_at, waited_s = self.round.began_at, None
        if began_at is None:
            return
        for tally in self.sent.values():
            if tally.messages > tally.timed:
                if waited_s is None:  # rounds that only fill throttled groups need no clock
                    waited_s = self.clock.now() - began_at
                tally.end(waited_s)

    def _write_joined(self, group: Group, budget: int) -> int:
        """Write to the members of a group as far as the budget goes; return how many writes that was worth."""
        group.pick(self.round)
        delivery = self._gathered(group)
        return 1 if delivery is None else self.deliveries.start(delivery, budget)

    def _write_alone(self, group: Group) -> int:
        """Write to the only member of a group; return how many writes that was worth."""
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
        if self.deliveries.write((outbox,), payload):
            self.laggards.send_or_hold(outbox, frames, payload)
        else:
            tally = outbox.tally
            tally.messages += count  # a call would take longer than both
            tally.bytes += size
        return 1 + size // BYTES_A_WRITE

    def _gathered(self, group: Group) -> Delivery | None:
        """Take what has gathered for a group, joined once for all members."""
        frames = group.gather()
        if not frames or not group.members:
            return None
        group.note_sent(self.clock.now())
        payload = group.key.wire.payload(frames)
        return Delivery(group, frames, payload, list(group.members), group.take_newcomers())

"""The connected clients: what each has selected, which group it is in, and how its connection ends."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from orchestrator.clock import Clock
from orchestrator.containment import Contained
from stream_server.delivery.beats import Beats
from stream_server.delivery.faults import Faults
from stream_server.delivery.group import Group
from stream_server.delivery.groups import Groups
from stream_server.delivery.laggards import Laggards
from stream_server.delivery.outbox import Outbox
from stream_server.delivery.policy import FAREWELL_S, HubPolicy
from stream_server.delivery.rounds import Rounds
from stream_server.delivery.throttling import ThrottledGroup
from stream_server.wire import messages
from stream_server.wire.messages import Frame, Wire
from stream_server.wire.refusals import TOO_SLOW, Closing

log = logging.getLogger(__name__)


class Order(Protocol):
    """The order of all events."""

    seq: int
    """The number of the newest event."""
    epoch: str

    @property
    def position(self) -> str:
        """Return the id of the newest event."""


@dataclass(slots=True)
class Member:
    """A connected client's selection (selector → interval in ms) and group."""

    selection: dict[str, int] = field(default_factory=dict)
    group: Group | None = None


class Members:
    """Takes clients in, moves them between groups, and lets them go. An unknown client is ignored everywhere."""

    def __init__(
        self,
        order: Order,
        clock: Clock,
        policy: HubPolicy,
        groups: Groups,
        beats: Beats,
        rounds: Rounds,
        laggards: Laggards,
        faults: Faults,
        unwanted: Callable[[Iterable[str]], None],
    ) -> None:
        """`unwanted` is called with the selectors of a client that leaves."""
        self.order = order
        self.clock = clock
        self.policy = policy
        self.groups = groups
        self.beats = beats
        self.rounds = rounds
        self.laggards = laggards
        self.faults = faults
        self.unwanted = unwanted
        self.by_outbox: dict[Outbox, Member] = {}
        self.cut = 0
        """Number of clients that were closed as too slow."""

    # --- membership ---

    def join(self, outbox: Outbox) -> None:
        """Take in a client that has no subscriptions yet."""
        if outbox in self.by_outbox or outbox.closed:
            return
        self.by_outbox[outbox] = Member()
        outbox.join(self.rounds.sent[outbox.wire.transport])

    def leave(self, outbox: Outbox) -> None:
        """Forget a client. Safe to call twice."""
        member = self.by_outbox.pop(outbox, None)
        if member is not None:
            self._leave_group(outbox, member)
            self.unwanted(member.selection)
        self.laggards.forget(outbox)  # last, because delivering to its group may have found it lagging

    def selection_of(self, outbox: Outbox) -> Mapping[str, int]:
        """Return what a client has selected, with intervals in ms; nothing for one that has left."""
        member = self.by_outbox.get(outbox)
        return member.selection if member is not None else {}

    def reach(self, outbox: Outbox) -> int:
        """Return the number of topics that a client gets, which is the work of changing its selection."""
        member = self.by_outbox.get(outbox)
        return len(member.group.listens) if member is not None and member.group is not None else 0

    def heard_by(self, outbox: Outbox) -> set[str]:
        """Return the topics that a client receives already."""
        member = self.by_outbox.get(outbox)
        if member is None or member.group is None:
            return set()
        member.group.learn()
        return set(member.group.listens)

    # --- groups ---

    def select(self, outbox: Outbox, selection: Mapping[str, int]) -> Group:
        """Move a client to the group with this selection, and first send it what its old group still holds for it.

        Raises KeyError for a client that is not here.
        """
        member = self.by_outbox[outbox]
        unseen = self._leave_group(outbox, member)
        group = self.groups.of(outbox.wire, selection, self.clock.now(), self.rounds.place)
        if isinstance(group, ThrottledGroup):
            # A beat whose timer is late belongs to the members that waited for it, not to a client that joins now.
            self.beats.take_due()
        self.rounds.deliver_now(group)
        group.join(outbox, self.order.seq)
        group.learn()
        member.group, member.selection = group, dict(selection)
        wanted = [frame for frame in unseen if frame.topic in group.listens]
        self.laggards.send_or_hold(outbox, wanted)
        return group

    def _leave_group(self, outbox: Outbox, member: Member) -> list[Frame]:
        """Take a client out of its group; return what the group holds and the client has not seen."""
        group, member.group = member.group, None
        if group is None:
            return []
        self.rounds.deliver_now(group)
        unseen = group.unseen_by(outbox)
        group.leave(outbox)
        if self.groups.dissolve_if_empty(group) and isinstance(group, ThrottledGroup):
            self.beats.discard(group)
        return unseen

    def rewire(self, outbox: Outbox, wire: Wire) -> None:
        """Write to this client in another form of its transport from now on."""
        if outbox.wire is wire:
            return
        member = self.by_outbox.get(outbox)
        if member is None or member.group is None:
            outbox.rewire(wire)
            return
        self.rounds.deliver_now(member.group)
        outbox.rewire(wire)
        self.select(outbox, member.selection)

    # --- messages ---

    def send_to(self, outbox: Outbox, frames: Sequence[Frame]) -> None:
        """Send frames to one client, after everything that was published for its group before."""
        member = self.by_outbox.get(outbox)
        if member is None:
            return
        if member.group is not None:
            self.rounds.deliver_now(member.group)
        self.laggards.send_or_hold(outbox, frames, as_answer_at=self.order.seq)

    def let_out(self, outbox: Outbox) -> None:
        """Send a client what is held for its beats, because it is about to get a position past that."""
        member = self.by_outbox.get(outbox)
        if member is None or member.group is None:
            return
        group = member.group
        self.rounds.deliver_now(group)
        self.laggards.send_or_hold(outbox, group.unseen_by(outbox))
        group.has_seen(outbox, self.order.seq)

    def write(self, outbox: Outbox, data: bytes) -> None:
        """Write bytes that are not a message, such as a ping."""
        if not outbox.closed:
            with self.faults.contained(outbox):
                outbox.put(data)

    # --- how well a client reads ---

    def answered(self, outbox: Outbox) -> None:
        """Take a client's pong: the client has read all that was sent before the ping."""
        if outbox in self.by_outbox:
            self.laggards.answered(outbox)

    def pace(self, outbox: Outbox) -> None:
        """Pace a client that took long to answer a ping, because values grow old on the way to it."""
        if outbox in self.by_outbox and not outbox.lagging:
            self.laggards.fall_behind(outbox, paced=True)

    def find_stuck(self) -> None:
        """Hold back for clients whose transport has not drained since the last look; called once a second."""
        for outbox in self.by_outbox:
            self.laggards.find_stuck(outbox)

    # --- the end ---

    def close(self, outbox: Outbox, closing: Closing, after_ms: int = 0) -> None:
        """Close a client's connection with a goodbye. Nothing is sent after it."""
        if outbox.closed:
            return
        if closing is TOO_SLOW:
            self.cut += 1
        outbox.end_with(closing.code)
        self.leave(outbox)
        with Contained() as ending:  # a fault of one connection must not harm the other clients
            outbox.send([messages.goodbye(closing, after_ms)])
            outbox.pipe.close(closing, self.policy.farewell_s if closing is TOO_SLOW else FAREWELL_S)
        if ending.fault is not None:
            log.error("close_failed", extra={"code": closing.code}, exc_info=ending.fault)
            with Contained():
                outbox.pipe.abort()

    def dismiss(self, outbox: Outbox, closing: Closing, after_ms: int) -> None:
        """Close the connection of a client that has done nothing wrong. If it reads, it first gets what is held."""
        member = self.by_outbox.get(outbox)
        if member is not None:
            self.laggards.send_or_hold(outbox, self._leave_group(outbox, member))
            self.laggards.let_out(outbox)
        self.close(outbox, closing, after_ms)

"""A group: clients with the same transport form and the same selection, which get the same bytes.

What a group gets in a round is joined once and written once to each member. A client with a selection of its own is a
group of one, and costs no more than that.

There are two kinds. A `PickingGroup` sends at once what it picks from a burst. A `ThrottledGroup` holds values for the
beat of their interval, and knows no way around that.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from stream_server.delivery.bursts import Burst
from stream_server.delivery.outbox import Outbox
from stream_server.wire.messages import Frame, Wire


@dataclass(frozen=True, slots=True)
class GroupKey:
    """What the members of a group share: form, selection with intervals in ms, and the phase of each interval."""

    wire: Wire
    selection: frozenset[tuple[str, int]]
    phases: tuple[tuple[int, int], ...]


@dataclass(slots=True, eq=False)
class Pattern:
    """A pattern that some group has selected, and the topics that match it, in the order of their first event."""

    text: str
    topics: list[str]
    groups: dict["Group", None] = field(default_factory=dict)


class Share:
    """One group's part in a pattern: the interval it wants, and the topics it has not learnt of yet."""

    __slots__ = ("interval_ms", "learnt", "pattern")

    def __init__(self, pattern: Pattern, interval_ms: int) -> None:
        self.pattern = pattern
        self.interval_ms = interval_ms
        self.learnt = 0

    def new_topics(self) -> list[str]:
        """Return the topics of the pattern that have appeared since the last call."""
        names = self.pattern.topics
        if self.learnt == len(names):
            return []
        new = names[self.learnt :]
        self.learnt = len(names)
        return new


class Group(ABC):
    """Clients that get the same bytes.

    `place` is its position in the sequence of all bursts: it has picked everything that was published before.
    `listens` holds the topics it wants with their interval in ms, as far as it has learnt of them.
    """

    __slots__ = (
        "effort",
        "exact",
        "key",
        "known",
        "last_sent",
        "listens",
        "members",
        "newcomers",
        "pending",
        "place",
        "shares",
    )

    def __init__(self, key: GroupKey, last_sent: float, place: int, patterns: Mapping[str, Pattern]) -> None:
        """`patterns` holds the patterns of the selection, by their text."""
        self.key = key
        self.last_sent = last_sent
        self.place = place
        self.members: dict[Outbox, None] = {}
        self.pending: list[Frame] = []
        """The frames that go out with the next write."""
        self.newcomers: dict[Outbox, int] = {}
        """Members that joined while something was held, and have seen it up to a position, in their snapshot."""
        self.exact = {name: interval for name, interval in key.selection if name not in patterns}
        self.shares = [Share(patterns[name], interval) for name, interval in key.selection if name in patterns]
        self.listens = dict(self.exact)
        self.effort = 0
        """Number of topics and frames it has looked at since the last `take_effort`."""
        self.known = -1
        """Number of topics that had appeared when it last learnt."""
        self.learn()

    # --- members ---

    def join(self, outbox: Outbox, seq: int) -> None:
        """Take in a member that has seen everything up to a position. Everything published before is picked."""
        self.members[outbox] = None
        self.has_seen(outbox, seq)

    def leave(self, outbox: Outbox) -> None:
        """Take out a member."""
        self.newcomers.pop(outbox, None)
        self.members.pop(outbox, None)

    def has_seen(self, outbox: Outbox, seq: int) -> None:
        """Note that a member has seen what is held, up to a position."""
        if self.holds_anything():
            self.newcomers[outbox] = seq

    def take_newcomers(self) -> dict[Outbox, int]:
        """Return the newcomers. They are members like all others once nothing is held that they have seen."""
        newcomers = dict(self.newcomers)
        if newcomers and not self.holds_anything():
            self.newcomers.clear()
        return newcomers

    # --- topics ---

    def learn(self) -> bool:
        """Listen to the topics of its patterns that have appeared since; return whether there were any."""
        learnt = 0
        for share in self.shares:
            new = share.new_topics()
            if new:
                learnt += len(new)
                self._listen(new, share.interval_ms)
        self.effort += learnt
        return learnt > 0

    def _listen(self, names: Iterable[str], interval_ms: int) -> None:
        """Listen at this interval; the shortest of several counts."""
        listens = self.listens
        for name in names:
            if listens.get(name, interval_ms) >= interval_ms:
                listens[name] = interval_ms

    # --- frames ---

    @abstractmethod
    def pick(self, burst: Burst) -> None:
        """Take the frames of a burst that it wants and has not taken yet."""

    def joined(self, burst: Burst) -> tuple[bytes, int] | None:
        """Return all it wants of a burst as one write, with the number of frames; None if `pick` has to look.

        Call it only for a burst to which nothing more is added.
        """
        return None

    def add(self, frame: Frame) -> None:
        """Let a frame go out with the next write."""
        self.pending.append(frame)

    def gather(self) -> list[Frame]:
        """Take what is pending."""
        frames, self.pending = self.pending, []
        return frames

    def holds_anything(self) -> bool:
        """Return whether something waits for a beat."""
        return False

    def unseen_by(self, outbox: Outbox) -> list[Frame]:
        """Return what is held and a member has not seen, by id."""
        return []

    # --- turns ---

    def note_sent(self, now: float) -> None:
        """Note that something is written to its members now."""
        self.last_sent = now

    def take_effort(self) -> int:
        """Return the effort since the last call."""
        effort, self.effort = self.effort, 0
        return effort

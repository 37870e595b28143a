"""Judge what one client receives over all its connections: whether each message keeps the contract.

`Known` is what a client has to keep to come back: it changes by entries only, so that what a client knew at any
earlier message can be worked out by replaying them. `Judge` checks messages and turns them into entries.
"""

import re
from bisect import bisect_left, bisect_right
from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import TypeVar

from feeds import topics
from tests.hunt.record import EPOCH, Published, Record, Topic
from tests.hunt.timing import HuntClock
from tests.hunt.wire import Message

Entry = tuple[object, ...]

SLACK_S = 0.002
"""The time by which a value may come too early: there may be two timers, of which the second is early."""
AFTER_SNAPSHOT = 7 / 8
"""The share of an interval that passes at least between a snapshot and the next value (see docs/protocol.md)."""
SHORT_MS = 2000
"""A program does not wait for the last value of longer intervals."""


class Violation(Exception):
    """The contract is broken."""


@dataclass(frozen=True, slots=True)
class Selectors:
    """A part of a selection that was asked for at once, from the position `since`."""

    names: tuple[str, ...]
    interval: int
    since: str | None


@dataclass(slots=True)
class Known:
    """What a client has received, and its position."""

    selection: dict[str, int] = field(default_factory=dict)
    unfinished: list[Selectors] = field(default_factory=list)
    """The parts that were asked for and whose answer is not complete."""
    values: dict[str, int] = field(default_factory=dict)
    logs: dict[str, int] = field(default_factory=dict)
    """By topic, the position up to which it has every log event."""
    stale: dict[str, str] = field(default_factory=dict)
    """By topic that is stale, the reason."""
    at: int = 0
    """The last id that is a position; 0 if the position is `begun`."""
    begun: str | None = None
    """The position that the first subscription of the connection was asked from."""

    @property
    def position(self) -> str | None:
        """The position that the client comes back with."""
        return f"{EPOCH}-{self.at}" if self.at else self.begun

    def apply(self, entry: Entry) -> None:
        """Change by one entry."""
        match entry:
            case ("value", str(topic), int(seq)):
                self.values[topic] = seq
            case ("position", int(seq)):
                self.at = seq
            case ("log", str(topic), int(seq)):
                self.logs[topic] = seq
            case ("asked", Selectors() as asked):
                self.unfinished.append(asked)
            case ("selected", Selectors() as asked):
                self.unfinished.remove(asked)
                self.selection |= dict.fromkeys(asked.names, asked.interval)
            case ("begun", Selectors() as asked):
                self.at, self.begun = 0, asked.since
            case ("unsure", str(topic)):
                self.logs.pop(topic, None)
            case ("forgot", str(topic)):
                self.values.pop(topic, None)
                self.logs.pop(topic, None)
                self.stale.pop(topic, None)
            case ("unselected", tuple(names)):
                for name in names:
                    self.selection.pop(name, None)
            case ("stale", str(topic), str(reason)):
                self.stale[topic] = reason
            case ("fresh", str(topic)):
                self.stale.pop(topic, None)
            case ("connected",):
                self._ask_again()
            case _:
                raise AssertionError(entry)

    def _ask_again(self) -> None:
        """Begin a new connection: all that was complete is asked for from the position."""
        parts: dict[int, list[str]] = {}
        for name, interval in self.selection.items():
            parts.setdefault(interval, []).append(name)
        complete = [Selectors(tuple(names), interval, self.position) for interval, names in parts.items()]
        self.unfinished = complete + self.unfinished
        self.selection = {}


@dataclass(slots=True)
class Asked:
    """A subscription that was sent, and what its answer has to be."""

    asked: Selectors
    reason: str | None
    to: int
    added: set[str]
    required: set[int]
    optional: set[int]
    must_gap: set[str]
    may_gap: set[str]
    stale: set[str]
    newest: dict[str, Published]
    """The last value of each topic at that time."""
    other: "Asked | None" = None
    """Another answer that would be true, too."""


@dataclass(slots=True)
class Unsubscribed:
    """An `unsubscribe` that was sent."""

    names: tuple[str, ...]


@dataclass(slots=True)
class Snapshot:
    """A `snapshot` that was sent, and what its answer has to be."""

    position: int
    events: list[int]
    stale: set[str]


@dataclass(slots=True)
class Refused:
    """A topic that no feed can bring, and that the client does not select any more."""

    topic: str


Expected = Asked | Unsubscribed | Snapshot | Refused
Kind = TypeVar("Kind", Asked, Unsubscribed, Snapshot, Refused)


@cache
def means(selector: str, topic: str) -> bool:
    """Return whether a selector matches a topic: `*` is one word, `>` at the end one word or more."""
    words = [{"*": "[^.]+", ">": ".+"}.get(word, re.escape(word)) for word in selector.split(".")]
    return re.fullmatch(r"\.".join(words), topic) is not None


def covers(selection: Collection[str], topic: str) -> bool:
    """Return whether a selection matches a topic."""
    return any(means(selector, topic) for selector in selection)


class Judge:
    """Checks what one client receives. With `remembers` every position is kept, so that it can come back to it."""

    def __init__(self, name: str, record: Record, clock: HuntClock, remembers: bool) -> None:
        self.name = name
        self.record = record
        self.clock = clock
        self.remembers = remembers
        self.known = Known()
        self.trail: list[Entry] = []
        self.positions: list[int] = []
        """Places in `trail` at which the client has a position it may come back to."""
        self.begin()

    def fail(self, text: str) -> None:
        raise Violation(f"{self.name}: {text}")

    # --- connections ---

    def begin(self) -> None:
        """Forget what belongs to one connection."""
        self.server: dict[str, int] = {}
        """The selection as the server has it."""
        self.expected: deque[Expected] = deque()
        self.answer: Asked | None = None
        self.first = True
        """Whether the next answer is the first: only there are ids positions before `synced`."""
        self.gaps: list[str] = []
        self.stale_listed: dict[str, str] = {}
        self.answered: list[Published] = []
        self.place = 0
        """The last id in the answer."""
        self.high = 0
        """The highest id; with several intervals `highs` has those of each."""
        self.highs: dict[int, int] = {}
        self.last: dict[str, int] = {}
        self.next_of: dict[str, int] = {}
        """By topic, the index of the event that has to come next, if the client gets all events."""
        self.paced_at: dict[str, tuple[float, str]] = {}
        self.rewired_at = 0.0
        self.intervals: dict[str, int | None] = {}
        self.was_slow = False
        self.over = False
        """Whether a goodbye has come."""
        self.broken = False
        self.broken_at = 0
        """Whether its transport has raised something: the contract promises nothing to it any more."""
        self.uncounted = False
        self.got: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.counted_from: dict[str, int] = {}
        self._selected()

    def note(self, *entry: object) -> None:
        """Learn something."""
        self.known.apply(entry)
        if self.remembers:
            self.trail.append(entry)

    def move_to(self, seq: int) -> None:
        """Take an id as the position."""
        self.known.at = seq
        if self.remembers:
            self.trail.append(("position", seq))
            self.positions.append(len(self.trail))
        logs = self.known.logs
        for name, topic in self.record.log_topics.items():
            had = logs.get(name)
            if had is None or topic.logs[-1] <= had or self.interval_of(name) is None:
                continue
            lacking = topic.log_after(had)
            if lacking is not None and lacking <= seq:
                self.fail(f"id {seq} passes over {lacking} of {topic.name}, which has not come")

    def come_back(self, choice: int | None) -> None:
        """Begin a new connection, with all that was known at an earlier position (None: now)."""
        if choice is not None and self.positions:
            end = self.positions[choice % len(self.positions)]
            known = Known()
            for entry in self.trail[:end]:
                known.apply(entry)
            self.known = known
            del self.trail[end:]
            self.positions = [place for place in self.positions if place <= end]
        self.note("connected")
        self.begin()

    # --- what the client asks ---

    def expect(self, asked: Selectors) -> None:
        """Note what the answer to a subscription has to be that is sent now."""
        before, asks = self.at_server, selection_of(dict.fromkeys(asked.names, asked.interval))
        wanted = self.server | dict.fromkeys(asked.names, asked.interval)
        names = [name for name in self.record.topics if interval_among(before, name) is None]
        facts = [self.record.topics[name] for name in names if interval_among(asks, name) is not None]
        since, reason = self._cursor(asked.since)
        lacking = [topic for topic in facts if reason is None and self.record.cannot_resume(topic, since)]
        if any(topic.everything for topic in lacking):
            reason, lacking = "evicted", []
        expected = self._answer(asked, facts, since, reason, selection_of(wanted))
        unheard = [topic for topic in facts if topic.was_silent_when_dropped and topic.fed_again_at >= since]
        if reason is None and (lacking or unheard):
            # The hub may forget a dropped topic that never had an event. Then a client at the position where the topic
            # came back may have been there before the drop or after it.
            expected.other = self._answer(asked, facts, since, "evicted", selection_of(wanted))
        self.server = wanted
        self._selected()
        self.expected.append(expected)
        if asked not in self.known.unfinished:
            self.note("asked", asked)

    def _answer(
        self, asked: Selectors, facts: list[Topic], since: int, reason: str | None, wanted: frozenset[tuple[str, int]]
    ) -> Asked:
        record = self.record
        required: set[int] = set()
        optional: set[int] = set()
        for topic in facts:
            newest = topic.newest
            if reason is None or asked.since == "earliest":
                required |= {seq for seq in record.ring(topic) if seq > since}
                if newest is not None and not newest.log and newest.seq > since:
                    required.add(newest.seq)
                elif newest is not None and not newest.log and interval_among(wanted, topic.name):
                    optional.add(newest.seq)  # it may have been held back when the connection broke
            elif newest is not None:
                required.add(newest.seq)
        must_gap, may_gap = self._gaps_due(asked, facts, since, reason, required)
        now = self.clock.now()
        return Asked(
            asked,
            reason,
            record.seq,
            {topic.name for topic in facts},
            required,
            optional,
            must_gap,
            may_gap,
            {topic.name for topic in facts if record.is_stale(topic.name, now)},
            {topic.name: topic.newest for topic in facts if topic.newest is not None},
        )

    def _gaps_due(
        self, asked: Selectors, facts: list[Topic], since: int, reason: str | None, required: set[int]
    ) -> tuple[set[str], set[str]]:
        """Return the topics that must have a `gap` in the answer, and those that may have one."""
        spoken = {topic.name for topic in facts if topic.everything}
        named = {name for name in asked.names if not topics.is_pattern(name)}
        named = {name for name in named if interval_among(self.at_server, name) is None}
        logs = {name for name in {topic.name for topic in facts} | named if topics.kind_of(name) != "state"}
        match reason:
            case "evicted":
                lost = {t.name for t in facts if not set(t.logs_between(since, self.record.seq)) <= required}
                return lost, logs
            case "epoch":
                return {name for name in logs if name in spoken or name in named}, logs
        return set(), set()

    def _cursor(self, since: str | None) -> tuple[int, str | None]:
        if since is None or since == "earliest":
            return 0, "no_cursor"
        epoch, dash, digits = since.partition("-")
        if not dash or not digits.isdigit():
            return 0, "bad_cursor"
        if epoch != EPOCH:
            return 0, "epoch"
        return (int(digits), None) if int(digits) <= self.record.seq else (0, "bad_cursor")

    def expect_unsubscribed(self, names: Sequence[str]) -> None:
        """Note that the server has removed selectors, as it was asked to."""
        for name in names:
            del self.server[name]
        self._selected()
        self.expected.append(Unsubscribed(tuple(names)))
        self.uncounted = True

    def expect_snapshot(self, names: Collection[str]) -> None:
        """Note what the answer to a `snapshot` has to be."""
        now = self.clock.now()
        held = self.record.newest_of(name for name in self.record.topics if covers(names, name))
        stale = {published.topic for published in held if self.record.is_stale(published.topic, now)}
        self.expected.append(Snapshot(self.record.seq, [published.seq for published in held], stale))

    def expect_refusal(self, topic: str) -> None:
        """Note that the server has refused a topic and removed it."""
        del self.server[topic]
        self._selected()
        self.expected.append(Refused(topic))
        self.uncounted = True

    # --- intervals ---

    def interval_of(self, topic: str) -> int | None:
        """Return the interval of a topic in the acknowledged selection; None if it is not subscribed."""
        if topic not in self.intervals:
            self.intervals[topic] = interval_among(self.selected, topic)
        return self.intervals[topic]

    def _selected(self) -> None:
        """Note that the selection has changed, at the server or as acknowledged."""
        self.selected = frozenset(self.known.selection.items())
        self.at_server = frozenset(self.server.items())
        self.throttles = {*self.server.values(), *self.known.selection.values()}
        """All intervals of this connection, also those whose answer is under way."""

    # --- messages ---

    def read(self, inbox: list[tuple[float, Message]]) -> None:
        """Check messages, each with the time at which it was written."""
        if self.broken:
            return
        # A message that may not wait takes the values along that were held back.
        released = {at for at, message in inbox if message.kind != "update" or self._is_log(message)}
        for at, message in inbox:
            if self.over:
                self.fail(f"{message.kind} after the goodbye")
            if message.kind == "update":
                self._update(message, at, at in released)
            else:
                self._control(message, at)

    def _is_log(self, message: Message) -> bool:
        published = self.record.at(message.seq)
        return published is not None and published.log

    def _published(self, message: Message) -> Published:
        published = self.record.at(message.number or message.seq)
        if published is None or published.topic != message.topic:
            self.fail(f"{message.body} was never published")
            raise AssertionError
        if message.seq != published.seq and not self._is_under_the_cursor(message, published):
            self.fail(f"{message.seq} carries the value of {message.number}")
        return published

    def _is_under_the_cursor(self, message: Message, published: Published) -> bool:
        """Return whether a value has the client's own position as its id, because it was held back before."""
        asked = self.answer
        return asked is not None and published.seq in asked.optional and f"{EPOCH}-{message.seq}" == asked.asked.since

    def _update(self, message: Message, at: float, released: bool) -> None:
        published = self._published(message)
        if self.answer is not None:
            self._answered(published, message.seq, at)
            return
        topic, seq = published.topic, published.seq
        interval = self.interval_of(topic)
        if interval is None:
            self.fail(f"{topic} is not subscribed to, but {seq} came")
            return
        if seq <= self.last.get(topic, 0):
            self.fail(f"{seq} of {topic} after {self.last[topic]}: doubled or out of order")
        if len(self.throttles) == 1:
            if seq <= self.high:
                self.fail(f"ids fall: {seq} of {topic} after {self.high}")
        elif seq <= self.highs.get(interval, 0):
            self.fail(f"ids fall within one interval: {seq} of {topic} after {self.highs[interval]}")
        self.high = max(self.high, seq)
        self.highs[interval] = max(seq, self.highs.get(interval, 0))
        self.last[topic] = seq
        facts = self.record.topics[topic]
        if not self.was_slow and interval == 0:
            self._next(facts, seq)
        if published.log:
            self._log(facts, seq)
        if not published.hole:
            if not published.log:
                self.got[topic] += 1
                if interval and not self.was_slow:
                    self._spacing(topic, interval, at, released)
            self.known.values[topic] = seq
            if self.remembers:
                self.trail.append(("value", topic, seq))
        self.move_to(seq)

    def _next(self, topic: Topic, seq: int) -> None:
        """Check that a client that keeps up gets each event, and each value."""
        index = self.next_of.get(topic.name)
        if index is None:  # the first event since it is asked for without an interval
            index = 0 if topic.name not in self.last else bisect_left(topic.everything, seq)
        if topic.everything[index] != seq:
            self.fail(f"lost {topic.everything[index]} of {topic.name}: {seq} came instead")
        self.next_of[topic.name] = index + 1

    def _log(self, topic: Topic, seq: int) -> None:
        lacking = topic.log_after(self.known.logs.get(topic.name, 0))
        if lacking != seq:
            self.fail(f"lost {lacking} of {topic.name}, a log event: {seq} came instead")
        self.note("log", topic.name, seq)

    def _spacing(self, topic: str, interval: int, at: float, released: bool) -> None:
        before, how = self.paced_at.get(topic, (float("-inf"), "beat"))
        self.paced_at[topic] = (at, "released" if released else "answer" if at == self.rewired_at else "beat")
        if released or how == "released":
            return  # a log event took along what was held
        share = AFTER_SNAPSHOT if how == "answer" else 1.0
        least_s = share * interval / 1000 - SLACK_S
        if at - before < least_s and at - before < least_s - self.clock.lag_since(before - interval / 1000):
            self.fail(f"two values of {topic} within {at - before:.4f} s at interval_ms={interval}")

    def _control(self, message: Message, at: float) -> None:
        topic = message.topic
        match message.kind:
            case "subscribed":
                self._begin_answer(message)
            case "gap" if message.body["reason"] == "upstream":
                self._update(message, at, True)
            case "gap":
                self._gap(message)
            case "synced":
                self._end_answer(message, at)
            case "stale" if self.answer is not None:
                self.stale_listed[topic] = str(message.body["reason"])
            case "stale":
                reason = str(message.body["reason"])
                if self.interval_of(topic) is None or self.known.stale.get(topic) == reason:
                    self.fail(f"stale of {topic}, which is not subscribed to or is stale already")
                if not self.record.was_ever_stale(topic, at):
                    self.fail(f"stale of {topic} is not true")
                self.note("stale", topic, reason)
            case "fresh":
                if topic not in self.known.stale or self.answer is not None:
                    self.fail(f"fresh of {topic}, which was not stale")
                if not self.record.was_ever_fresh(topic, at):
                    self.fail(f"fresh of {topic} is not true")
                self.note("fresh", topic)
            case "conflated":
                self._conflated(message)
            case "pos":
                self._pos(message)
            case "unsubscribed":
                self._unsubscribed(message)
            case "snapshot":
                self._snapshot(message)
            case "error":
                self._error(message)
            case "goodbye":
                self.over = True
            case kind:
                self.fail(f"unexpected {kind}")

    def _conflated(self, message: Message) -> None:
        if not self.was_slow:
            self.fail("conflated, though it kept up")
        skipped = message.body["skipped"]
        if not isinstance(skipped, dict) or not skipped:
            self.fail(f"conflated without counts: {message.body}")
        else:
            self.skipped.update(skipped)

    def _pos(self, message: Message) -> None:
        if self.answer is not None:
            self.fail("pos within an answer")
        if message.seq < self.high and len(self.throttles) == 1:
            self.fail(f"ids fall: pos {message.seq} after {self.high}")
        self.high = max(self.high, message.seq)
        self.move_to(message.seq)

    def _unsubscribed(self, message: Message) -> None:
        expected = self._pop(Unsubscribed)
        if message.body["topics"] != list(expected.names):
            self.fail(f"{message.body} answers unsubscribe {expected.names}")
        self._deselect(expected.names)

    def _error(self, message: Message) -> None:
        expected = self._pop(Refused)
        if message.body["topics"] != [expected.topic]:
            self.fail(f"{message.body} refuses {expected.topic}")
        self._deselect((expected.topic,))

    def _deselect(self, names: tuple[str, ...]) -> None:
        self.note("unselected", names)
        self._reselected()
        for topic in self.record.topics:
            if self.interval_of(topic) is None:
                self.note("forgot", topic)
                self.last.pop(topic, None)

    def _reselected(self) -> None:
        """Note that another selection is in force: a throttled value may come as early as after a snapshot."""
        self.paced_at = {t: (at, how if how == "released" else "answer") for t, (at, how) in self.paced_at.items()}
        before = self.selected
        self._selected()
        for topic in list(self.next_of):
            if interval_among(before, topic) != interval_among(self.selected, topic):
                del self.next_of[topic]
        if any(interval_among(before, topic) != interval_among(self.selected, topic) for topic in self.counted_from):
            self.uncounted = True  # what was merged while it was throttled is in no `conflated`
        self.intervals = {}

    def rewired(self) -> None:
        """Note that the form of the connection changes: values that are held back come before that."""
        self.paced_at = {topic: (at, "released") for topic, (at, _) in self.paced_at.items()}
        self.rewired_at = self.clock.now()

    def _snapshot(self, message: Message) -> None:
        expected = self._pop(Snapshot)
        body = message.body
        events = body["events"]
        assert isinstance(events, list)
        seqs = [event["data"]["n"] for event in events]
        if message.seq != expected.position or seqs != expected.events:
            self.fail(f"snapshot at {message.seq} of {seqs}, not at {expected.position} of {expected.events}")
        listed = body["stale"]
        assert isinstance(listed, list)
        if set(listed) != expected.stale:
            self.fail(f"snapshot says stale of {sorted(listed)}, true is {sorted(expected.stale)}")
        for event in events:
            topic, seq = event["topic"], event["data"]["n"]
            published = self.record.at(seq)
            if published is not None and not published.log and self.interval_of(topic) is not None:
                self.note("value", topic, max(seq, self.known.values.get(topic, 0)))
        self.high = max(self.high, message.seq - 1)  # what was held back may be the newest event itself
        self.move_to(message.seq)

    def _pop(self, kind: type[Kind]) -> Kind:
        found = self.expected.popleft() if self.expected else None
        if not isinstance(found, kind):
            self.fail(f"an answer came, {kind.__name__}, but {found} was asked")
            raise AssertionError
        return found

    # --- answers to subscriptions ---

    def _begin_answer(self, message: Message) -> None:
        asked = self._pop(Asked)
        if self.answer is not None:
            self.fail("an answer within an answer")
        body = message.body
        if asked.other is not None and body["reason"] == asked.other.reason:
            asked = asked.other
        count = body["count"]
        assert isinstance(count, int)
        values = {seq for seq in asked.required if not self.record.published[seq - 1].hole}
        true = {
            "topics": list(asked.asked.names),
            "resumed": asked.reason is None,
            "reason": asked.reason,
            "from": asked.asked.since,
            "to": f"{EPOCH}-{asked.to}",
        }
        if {key: body[key] for key in true} != true:
            self.fail(f"{body} is not the answer {true}")
        if not len(values) <= count <= len(values) + len(asked.optional):
            self.fail(f"count is {count}, of {len(values)} that are lacking")
        self.answer = asked
        self.answered, self.gaps, self.stale_listed, self.place = [], [], {}, 0
        if self.first:
            self.note("selected", asked.asked)
            self.note("begun", asked.asked)
            self._selected()
            self.intervals = {}
            for name in asked.added if asked.reason is not None else ():
                self.note("unsure", name)

    def _gap(self, message: Message) -> None:
        if self.answer is None or self.answered:
            self.fail(f"{message.body} outside of an answer, or after its values")
        elif message.body["reason"] != self.answer.reason:
            self.fail(f"{message.body} in an answer with reason {self.answer.reason}")
        self.gaps.append(message.topic)

    def _answered(self, published: Published, place: int, at: float) -> None:
        asked = self.answer
        assert asked is not None
        seq = published.seq
        if seq not in asked.required and seq not in asked.optional:
            self.fail(f"{seq} of {published.topic} in the answer to {asked.asked}: not lacking, or another client's")
        if self.answered and place <= self.place and not (place == self.place and seq in asked.optional):
            self.fail(f"{place} after {self.place} in an answer")
        self.answered.append(published)
        self.place = place
        self.paced_at[published.topic] = (at, "answer")
        if self.first:
            self._keep(published)
            position = self.known.position
            if (
                position
                and asked.reason is None
                and len(self.throttles) == 1
                and place < int(position.partition("-")[2])
            ):
                self.fail(f"ids fall: {place} of {published.topic} came on a resume from {asked.asked.since}")
            self.move_to(place)

    def _keep(self, published: Published) -> None:
        """Note one event of an answer as received."""
        if published.log and self.answer is not None and self.answer.reason is None:
            self._resumed_log(published)
            self.note("log", published.topic, published.seq)
        if not published.hole:
            self.note("value", published.topic, published.seq)

    def _resumed_log(self, published: Published) -> None:
        """Check that the log events of a resume go on where the client had stopped."""
        asked = self.answer
        had = self.known.logs.get(published.topic)
        if asked is None or had is None:
            return
        lacking = self.record.topics[published.topic].log_after(had)
        if lacking != published.seq:
            how = "doubled" if published.seq <= had else f"{lacking} is lost"
            self.fail(f"resume from {asked.asked.since}: {published.seq} of {published.topic} after {had}: {how}")

    def _end_answer(self, message: Message, at: float) -> None:
        asked = self.answer
        if asked is None or message.seq != asked.to:
            self.fail(f"{message.body} ends the answer {asked}")
            return
        seqs = {published.seq for published in self.answered}
        if not asked.required <= seqs:
            self.fail(f"the answer to {asked.asked} lacks {sorted(asked.required - seqs)}")
        if not asked.must_gap <= set(self.gaps) <= asked.may_gap or len(self.gaps) != len(set(self.gaps)):
            self.fail(f"gaps of {sorted(self.gaps)}, true is {sorted(asked.must_gap)} (allowed {asked.may_gap})")
        if sorted(self.stale_listed) != sorted(asked.stale):
            self.fail(f"the answer says stale of {sorted(self.stale_listed)}, true is {sorted(asked.stale)}")
        if not self.first:
            for published in self.answered:
                self._keep(published)
            self.note("selected", asked.asked)
            self._reselected()
        self.first = False
        for name in asked.added:
            self._start(name, asked)
        self.answer = None
        self.high = max(self.high, asked.to)
        self.move_to(asked.to)

    def _start(self, name: str, asked: Asked) -> None:
        """Begin to expect every event of a topic."""
        topic, to = self.record.topics[name], asked.to
        had = self.known.logs.get(name)
        if asked.reason is None and had is not None:
            lacking = topic.log_after(had)
            if lacking is not None and lacking <= to:
                self.fail(f"resume from {asked.asked.since}: {lacking} of {name}, a log event, was lost")
        self.note("log", name, to)
        newest = asked.newest.get(name)
        had_value = self.known.values.get(name)
        if asked.reason is None and newest is not None and not newest.log and (had_value or newest.seq) < newest.seq:
            self.fail(f"resume from {asked.asked.since}: {newest.seq} of {name}, its value, was lost")
        if newest is not None and name not in self.known.values:
            self.note("value", name, newest.seq)  # by its cursor it has claimed to have what came before
        if name in asked.stale:
            self.note("stale", name, self.stale_listed[name])
        else:
            self.note("fresh", name)
        index = bisect_right(topic.everything, to)
        self.next_of[name] = index
        self.last[name] = to
        self.counted_from[name] = to

    # --- in the end ---

    def has_everything(self, values: bool = True, freshness: bool = True, at: float | None = None) -> None:
        """Check that nothing is owed to a client that has read all that was sent; `at` is when values last expired."""
        if self.broken or self.over:
            return
        checked_at = self.clock.now() if at is None else at
        if self.expected or self.answer is not None:
            self.fail(f"no answer came to {self.answer or self.expected[0]}")
        for name, topic in self.record.topics.items():
            interval = self.interval_of(name)
            if interval is None:
                continue
            lacking = topic.log_after(self.known.logs.get(name, 0))
            if lacking is not None:
                self.fail(f"{lacking} of {name}, a log event, never came")
            newest = topic.newest
            known = self.known.values.get(name, 0)
            if values and newest is not None and interval <= SHORT_MS and known < newest.seq:
                self.fail(f"{newest.seq} of {name}, its newest value, never came")
            if freshness and (name in self.known.stale) is not self.record.is_stale(name, checked_at):
                self.fail(f"{name} is known as stale: {name in self.known.stale}, which is not true")
        if self.was_slow and not self.uncounted and self.throttles == {0}:
            self._counts()

    def _counts(self) -> None:
        for name, topic in self.record.topics.items():
            if self.interval_of(name) is None:
                continue
            owed = len(topic.states) - bisect_right(topic.states, self.counted_from.get(name, 0))
            if self.got[name] + self.skipped[name] != owed:
                self.fail(f"{owed} values of {name}: {self.got[name]} came and {self.skipped[name]} were counted")


def selection_of(wanted: Mapping[str, int]) -> frozenset[tuple[str, int]]:
    """Return a selection in a form that can be looked up."""
    return frozenset(wanted.items())


@lru_cache(maxsize=1 << 18)
def interval_among(selection: frozenset[tuple[str, int]], topic: str) -> int | None:
    """Return the shortest interval in ms of a topic in a selection; None if the selection does not match it."""
    return min((ms for selector, ms in selection if means(selector, topic)), default=None)

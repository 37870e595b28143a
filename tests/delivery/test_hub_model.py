"""The hub under random interleavings, beside a model of what every client must have received.

The model knows all events. Each client behaves as the documentation asks: it remembers the id of the last live
update, `pos` or `synced`, and comes back with it; an answer that was cut off it asks for again. A browser's
EventSource is simpler: one subscription, and the last `id:` it has seen. Every message is checked when it is read,
and `settle` proves that nothing is owed once all pipes have drained.

`HUB_MODEL_EXAMPLES=5000 pytest tests/delivery/test_hub_model.py` looks further, in other places each time.
"""

import os
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from feeds import topics
from feeds.model import Event
from stream_server.delivery.hub import Hub, HubPolicy
from stream_server.delivery.outbox import Outbox
from stream_server.delivery.pacing import LEAST_PORTION_BYTES
from stream_server.wire import messages
from stream_server.wire.messages import Wire
from stream_server.wire.refusals import TOO_SLOW
from tests.fakes.clock import ManualClock
from tests.fakes.pipe import FakePipe, Received

EPOCH = "e1"
RING = 3
TTL_S = 10.0
IDLE_S = 20.0
STALL_S = 25.0

PRICES = ("price.A", "price.B")
CANDLES = ("ohlcv.A.1m", "ohlcv.B.1m")
TOPICS = PRICES + CANDLES
ON_DEMAND = "ohlcv.B.1m"


def covered(selection: Sequence[str]) -> set[str]:
    """The topics that a selection means."""
    return {topic for topic in TOPICS for selector in selection if topics.matches(selector, topic)}


def seq_of(event_id: object) -> int:
    """The place of an id in the order."""
    epoch, _, number = str(event_id).partition("-")
    assert epoch == EPOCH
    return int(number)


@dataclass(frozen=True)
class Said:
    """An event as the model keeps it: where, and whether it may be merged."""

    seq: int
    log: bool
    hole: bool = False
    """The `gap` of a source, which is not a value."""


@dataclass
class Topic:
    """Everything that was published on a topic. `forgotten` is the position at which its feed was dropped last."""

    said: list[Said] = field(default_factory=list)
    fed: bool = True
    dropped: bool = False
    forgotten: int = 0
    fed_again_at: int = 0
    updated_at: float = 0.0
    stale: bool = False

    @property
    def last(self) -> Said | None:
        """The newest value: a hole is none."""
        values = (said for said in reversed(self.said) if not said.hole and said.seq > self.forgotten)
        return next(values, None)

    def logs_after(self, seq: int) -> list[int]:
        """Return every log event after a position, held or not."""
        return [said.seq for said in self.said if said.log and said.seq > seq]

    def ring(self) -> list[int]:
        """The log events that a hub with this ring still holds."""
        return [seq for seq in self.logs_after(0)[-RING:] if seq > self.forgotten]

    def misses_after(self, seq: int) -> bool:
        """Return whether an event after this position is no longer held, or may never have arrived."""
        return self.dropped or seq < self.fed_again_at or not set(self.logs_after(seq)) <= set(self.ring())

    def changed_since(self, seq: int) -> list[int]:
        """Return what a client at this position lacks."""
        changed = [each for each in self.ring() if each > seq]
        if self.last is not None and not self.last.log and self.last.seq > seq:
            changed.append(self.last.seq)
        return changed


@dataclass
class Asked:
    """A request whose answer is under way. `added` are topics that it makes the client receive."""

    selectors: dict[str, int]
    since: str | None
    reason: str | None
    position: int
    added: set[str]
    updates: list[tuple[int, str]]
    must_gap: set[str]
    may_gap: set[str]
    stale: set[str]


@dataclass
class Unsubscribed:
    """Topics whose updates may still arrive until the confirmation comes."""

    selectors: list[str]


class Client:
    """A correct client, which checks all that it gets. `intervals` are those it may ask for."""

    def __init__(
        self,
        name: str,
        model: "HubModel",
        wire: Wire,
        intervals: tuple[int, ...],
        patient: bool,
        watched: bool = False,
        portion_bytes: int = LEAST_PORTION_BYTES,
    ) -> None:
        self.name = name
        self.watched = watched
        self.portion_bytes = portion_bytes
        self.model = model
        self.wire = wire
        self.intervals = intervals
        self.patient = patient
        self.cursor: str | None = None
        self.selection: dict[str, int] = {}
        self.again: list[tuple[dict[str, int], str | None]] = []
        self.logs_seen: dict[str, int] = {}
        self.values: dict[str, int] = {}
        self.stale: set[str] = set()
        self.outbox: Outbox | None = None
        self.hang_up()

    # --- connection ---

    @property
    def ordered(self) -> bool:
        """Whether ids have to rise: with several intervals, held values come after newer ones."""
        return len(self.intervals) == 1

    def connect(self) -> None:
        self.pipe = FakePipe(self.wire)
        self.outbox = Outbox(self.pipe, self.wire)
        self.outbox.pacer.portion_bytes = self.portion_bytes
        if self.watched:
            self.pipe.watched_by(self.outbox)
        self.model.hub.members.join(self.outbox)

    def hang_up(self) -> None:
        """Forget what belongs to one connection."""
        if self.outbox is not None:
            self.model.hub.members.leave(self.outbox)
        self.outbox = None
        self.pipe = FakePipe(self.wire)
        self.pending: deque[Asked | Unsubscribed] = deque()
        self.answer: Asked | None = None
        self.answered: list[tuple[int, str]] = []
        self.answer_gaps: list[str] = []
        self.answer_stale: set[str] = set()
        self.at_server: dict[str, int] = {}
        self.last_live = 0
        self.was_slow = False
        self.owed: Counter[str] = Counter()
        self.got: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.uncounted: set[str] = set()

    def lose_connection(self) -> None:
        """Keep in mind what is unanswered, and what of an answer came through."""
        unfinished = [self.answer] if self.answer is not None else []
        if self.wire is not Wire.WEBSOCKET and self.answer is not None and self.answered:
            self.keep_part_of(self.answer)
            unfinished = []
        for each in [*unfinished, *self.pending]:
            match each:
                case Asked():
                    self.again.append((each.selectors, each.since))
                case Unsubscribed():
                    self.drop(each.selectors)
                    again = [({k: v for k, v in s.items() if k not in each.selectors}, c) for s, c in self.again]
                    self.again = [(selectors, since) for selectors, since in again if selectors]
        self.hang_up()

    def keep_part_of(self, asked: Asked) -> None:
        """An EventSource is as far as its last id: whatever an answer brings later has a higher one."""
        assert self.answered == asked.updates[: len(self.answered)]
        self.selection |= asked.selectors
        for topic in asked.added:
            self.logs_seen[topic] = seq_of(self.cursor)
            if asked.reason is None and topic not in self.values:
                self.values[topic] = seq_of(asked.since)
        for seq, topic in self.answered:
            self.values[topic] = seq

    # --- reading ---

    def read(self) -> None:
        """Take all that has come through, and check it."""
        received, self.pipe.reader.received = self.pipe.reader.received, []
        for each in received:
            if self.wire is not Wire.WEBSOCKET:
                self.check_sse(each)
            self.take(each)

    def check_sse(self, received: Received) -> None:
        kind = received.message["type"]
        assert received.event == ("" if kind == "update" else kind)
        assert received.cursor == received.message.get("id", "")

    def take(self, received: Received) -> None:
        message = received.message
        topic = str(message.get("topic"))
        match message["type"]:
            case "subscribed":
                self.begin_answer(message)
            case "gap" if self.answer is not None and message["reason"] != "upstream":
                assert message["reason"] == self.answer.reason
                assert not self.answered, "gaps come before the values"
                self.answer_gaps.append(topic)
            case "update" | "gap" if self.answer is not None:
                self.answered.append((seq_of(message["id"]), topic))
                if self.wire is not Wire.WEBSOCKET:
                    self.cursor = str(message["id"])
            case "update" | "gap":
                self.live(seq_of(message["id"]), topic)
            case "stale" if self.answer is not None:
                self.answer_stale.add(topic)
            case "synced":
                self.end_answer(str(message["id"]))
            case "stale":
                assert topic in covered(list(self.selection)) and topic not in self.stale
                self.stale.add(topic)
            case "fresh":
                assert self.answer is None and topic in self.stale
                self.stale.discard(topic)
            case "conflated":
                assert self.was_slow, f"{self.name} always kept up"
                skipped = message["skipped"]
                assert isinstance(skipped, dict) and skipped
                self.skipped.update(skipped)
            case "pos":
                assert not self.ordered or seq_of(message["id"]) >= self.last_live
                self.move_to(str(message["id"]))
            case "unsubscribed":
                asked = self.pending.popleft()
                assert isinstance(asked, Unsubscribed)
                self.drop(asked.selectors)
            case "goodbye":
                assert self.was_slow and message["code"] == TOO_SLOW.code
            case kind:
                raise AssertionError(f"unexpected {kind}")

    def begin_answer(self, message: dict[str, object]) -> None:
        asked = self.pending.popleft()
        assert isinstance(asked, Asked) and self.answer is None
        assert message["topics"] == list(asked.selectors)
        assert message["reason"] == asked.reason
        assert message["resumed"] is (asked.reason is None)
        assert message["from"] == asked.since
        assert message["to"] == f"{EPOCH}-{asked.position}"
        holes = self.model.holes
        assert message["count"] == len([seq for seq, _ in asked.updates if seq not in holes])
        self.answer = asked
        self.answered, self.answer_gaps, self.answer_stale = [], [], set()

    def end_answer(self, position: str) -> None:
        asked, self.answer = self.answer, None
        assert asked is not None and seq_of(position) == asked.position
        assert self.answered == asked.updates
        assert len(self.answer_gaps) == len(set(self.answer_gaps))
        assert asked.must_gap <= set(self.answer_gaps) <= asked.may_gap
        assert self.answer_stale == asked.stale
        self.selection |= asked.selectors
        for topic in asked.added:
            self.logs_seen[topic] = asked.position
            if asked.reason is None and topic not in self.values:
                self.values[topic] = seq_of(asked.since)  # by its cursor it has claimed to have what came before
        for seq, topic in self.answered:
            self.values[topic] = seq
        self.stale = (self.stale - asked.added) | asked.stale
        self.move_to(position)

    def live(self, seq: int, topic: str) -> None:
        assert topic in covered(list(self.selection)), f"{topic} is not subscribed to"
        assert seq > self.last_live or not self.ordered
        assert seq > self.values.get(topic, 0), "told twice, or old after new"
        said = next(said for said in self.model.topics[topic].said if said.seq == seq)
        if said.log:
            assert seq == self.model.topics[topic].logs_after(self.logs_seen[topic])[0], "a log event was lost"
            self.logs_seen[topic] = seq
        else:
            self.got[topic] += 1
        self.values[topic] = seq
        self.last_live = seq
        self.move_to(f"{EPOCH}-{seq}")

    def move_to(self, position: str) -> None:
        """Take a position as ours: that is safe only if no log event before it is outstanding."""
        self.cursor = position
        for topic in covered(list(self.selection)):
            outstanding = self.model.topics[topic].logs_after(self.logs_seen[topic])
            assert not outstanding or outstanding[0] > seq_of(position), "the position passes over a log event"

    def drop(self, selectors: Sequence[str]) -> None:
        for selector in selectors:
            self.selection.pop(selector, None)
        asked = [selectors for selectors, _ in self.again]
        asked += [each.selectors for each in self.pending if isinstance(each, Asked)]
        wanted = [*self.selection, *(selector for selectors in asked for selector in selectors)]
        for topic in set(TOPICS) - covered(wanted):
            self.logs_seen.pop(topic, None)
            self.values.pop(topic, None)
            self.stale.discard(topic)

    def has_everything(self) -> None:
        """Prove, with all pipes drained, that nothing is owed."""
        assert not self.pending and self.answer is None
        assert covered(list(self.selection)) == covered(list(self.at_server))
        for topic in covered(list(self.selection)):
            known = self.model.topics[topic]
            assert not known.logs_after(self.logs_seen[topic]), "a log event never came"
            if known.last is not None:
                assert self.values[topic] >= known.last.seq, "the newest value never came"
            assert (topic in self.stale) is known.stale
        if self.intervals == (0,):
            for topic in set(TOPICS) - self.uncounted:
                assert self.got[topic] + self.skipped[topic] == self.owed[topic], "merged values were not counted"


class HubModel(RuleBasedStateMachine):
    """The rules are what feeds, clients, networks and time do; each ends with reading what came through."""

    slow_ones = ("slow", "slow twin", "paced", "throttled", "throttled twin", "mixed", "browser", "throttled browser")
    clients_of = st.sampled_from(("fast", *slow_ones))
    may_be_slow = st.sampled_from(slow_ones)
    # Few and alike, so that clients share groups and topics overlap.
    selectors = st.sampled_from(
        (["price.*"], ["ohlcv.>"], [">"], list(CANDLES), ["ohlcv.B.1m", "price.A"], ["price.A"])
    )
    bursts = st.lists(st.tuples(st.sampled_from(TOPICS), st.booleans()), min_size=2, max_size=8)

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.topics = {topic: Topic(fed=topic != ON_DEMAND) for topic in TOPICS}
        policy = HubPolicy(lambda _: TTL_S, ring_events=RING, stall_s=STALL_S, idle_topic_s=IDLE_S)
        self.hub = Hub(EPOCH, self.clock, self.clock, self, policy)
        made = (
            Client("fast", self, Wire.WEBSOCKET, (0,), patient=False, watched=True),
            Client("slow", self, Wire.WEBSOCKET, (0,), patient=True, watched=True),
            Client("slow twin", self, Wire.WEBSOCKET, (0,), patient=True),
            Client("paced", self, Wire.WEBSOCKET, (0,), patient=True, watched=True, portion_bytes=1),
            Client("throttled", self, Wire.WEBSOCKET, (400,), patient=True),
            Client("throttled twin", self, Wire.WEBSOCKET, (400,), patient=True),
            Client("mixed", self, Wire.WEBSOCKET, (0, 400, 1000), patient=True),
            Client("browser", self, Wire.SSE, (0,), patient=True),
            Client("throttled browser", self, Wire.SSE, (400,), patient=True),
        )
        self.clients = {client.name: client for client in made}
        self.holes: set[int] = set()

    # --- the hub's demand ---

    def want(self, topic: str) -> None:
        known = self.topics[topic]
        known.fed = True
        if known.dropped:
            known.dropped = False
            known.fed_again_at = self.hub.seq if topic in self.hub.topics else self.hub.store.forgotten_at + 1

    def is_full(self) -> bool:
        return False

    def charge(self, names: Iterable[str], account: str) -> list[str]:
        return []

    def drop(self, topic: str) -> bool:
        if topic != ON_DEMAND:
            return False
        listening = [client for client in self.clients.values() if client.pipe.closing is None]
        assert all(topic not in covered(list(client.at_server)) for client in listening)
        known = self.topics[topic]
        known.fed, known.dropped, known.stale = False, True, False
        known.forgotten = self.hub.seq
        return True

    # --- what feeds do ---

    @rule(topic=st.sampled_from(TOPICS), log=st.booleans())
    def publish(self, topic: str, log: bool) -> None:
        known = self.topics[topic]
        log = log and topic in CANDLES
        if known.fed:
            self.appear(topic)
            now_ms = self.clock.wall_ms()
            known.said.append(Said(self.hub.seq + 1, log))
            known.updated_at, known.stale = self.clock.now(), False
            for client in self.clients.values():
                if not log and topic in covered(list(client.at_server)):
                    client.owed[topic] += 1
            self.hub.publish(Event(topic, now_ms, now_ms, "binance", {"n": len(known.said)}, log))
            assert self.hub.seq == known.said[-1].seq
        self.read()

    @rule(burst=bursts)
    def publish_many(self, burst: list[tuple[str, bool]]) -> None:
        for topic, log in burst:
            self.publish(topic, log)

    @rule(topic=st.sampled_from(CANDLES))
    def miss(self, topic: str) -> None:
        known = self.topics[topic]
        if known.last is None:
            return  # a hole needs an edge
        known.said.append(Said(self.hub.seq + 1, log=True, hole=True))
        self.holes.add(self.hub.seq + 1)
        self.hub.gap(topic, 60_000, 120_000)
        self.read()

    # --- what clients do ---

    def ask(self, client: Client, wanted: dict[str, int], since: str | None) -> None:
        """Subscribe with one interval, and write down what has to come back."""
        for interval in sorted(set(wanted.values())):
            selectors = {selector: ms for selector, ms in wanted.items() if ms == interval}
            asked = self.expect(client, selectors, since)
            client.pending.append(asked)
            client.at_server |= selectors
            assert client.outbox is not None
            self.hub.subscribe(client.outbox, list(selectors), since, interval)

    def appear(self, topic: str) -> None:
        """Note that an event is about to be published on a topic that the hub may not know, or not any more."""
        if topic in CANDLES and topic not in self.hub.topics:
            self.topics[topic].fed_again_at = self.hub.store.forgotten_at + 1

    def lacks(self, topic: str, cursor: int, selectors: dict[str, int]) -> bool:
        """Return whether a client at this position may lack an event of a topic that is not held."""
        if topic not in self.hub.topics:
            return topic in selectors and topic in CANDLES and cursor <= self.hub.store.forgotten_at
        return self.topics[topic].misses_after(cursor)

    def expect(self, client: Client, selectors: dict[str, int], since: str | None) -> Asked:
        added = covered(list(selectors)) - covered(list(client.at_server))
        cursor, reason = None, "no_cursor"
        if since == "earliest":
            cursor = 0
        elif since is not None:
            epoch, dash, number = since.partition("-")
            if not dash or not number.isdigit() or (epoch == EPOCH and int(number) > self.hub.seq):
                reason = "bad_cursor"
            elif epoch != EPOCH:
                reason = "epoch"
            else:
                cursor = int(number)
                missed = any(self.lacks(topic, cursor, selectors) for topic in added)
                reason = "evicted" if missed else ""
        updates = []
        for topic in added:
            known = self.topics[topic]
            last = [known.last.seq] if known.last is not None else []
            if since == "earliest" or not reason:
                assert cursor is not None
                changed = known.changed_since(cursor)
                intervals = client.at_server | selectors
                throttled = min(ms for selector, ms in intervals.items() if topics.matches(selector, topic)) > 0
                if not changed and throttled and known.last is not None and not known.last.log and cursor:
                    frame = self.hub.topics[topic].last
                    if frame is not None and frame.overtaken:  # it may have been held back when a connection broke
                        changed = [cursor]
            else:
                changed = last
            updates += [(seq, topic) for seq in changed]
        told = {seq for seq, _ in updates}
        may_gap = added & set(CANDLES) if reason in ("evicted", "epoch") else set()
        # Of what a pattern means and has not spoken yet nobody knows.
        must_gap = {topic for topic in may_gap if topic in selectors or self.topics[topic].said}
        if reason == "evicted":
            assert cursor is not None
            must_gap = {topic for topic in may_gap if not set(self.topics[topic].logs_after(cursor)) <= told}
            may_gap = must_gap | {topic for topic in may_gap if self.lacks(topic, cursor, selectors)}
        return Asked(
            selectors,
            since,
            reason or None,
            self.hub.seq,
            added,
            sorted(updates),
            must_gap,
            may_gap,
            {topic for topic in added if self.topics[topic].stale},
        )

    def resume(self, client: Client) -> None:
        """Connect again, and ask for all that was wanted: what was complete from the cursor, the rest as before."""
        client.connect()
        again, client.again = client.again, []
        if client.wire is not Wire.WEBSOCKET:
            wanted = dict(client.selection)
            for selectors, _ in again:
                wanted |= selectors
            again = [(wanted, client.cursor)]
        else:
            again = [(client.selection, client.cursor), *again]
        client.selection = {}
        for selectors, since in again:
            self.ask(client, selectors, since)

    @rule(
        name=clients_of,
        chosen=selectors,
        since=st.sampled_from(("none", "own", "earlier", "other epoch", "garbage", "future", "earliest")),
        data=st.data(),
    )
    def subscribe(self, name: str, chosen: list[str], since: str, data: st.DataObject) -> None:
        client = self.clients[name]
        if client.outbox is None:
            self.resume(client)
        if client.wire is not Wire.WEBSOCKET and client.at_server:
            return  # one subscription is all that an EventSource has
        cursor = {
            "none": None,
            "own": client.cursor,
            "other epoch": "e0-1",
            "garbage": "e1-1x",
            "future": f"{EPOCH}-{self.hub.seq + 1}",
            "earliest": "earliest",
        }.get(since)
        if since == "earlier":
            cursor = f"{EPOCH}-{data.draw(st.integers(0, self.hub.seq), label='cursor')}"
        interval = data.draw(st.sampled_from(client.intervals), label="interval_ms")
        self.ask(client, dict.fromkeys(chosen, interval), cursor)
        self.read()

    @rule(name=clients_of, chosen=selectors)
    def unsubscribe(self, name: str, chosen: list[str]) -> None:
        client = self.clients[name]
        if client.outbox is None or client.wire is not Wire.WEBSOCKET:
            return
        gone = self.hub.unsubscribe(client.outbox, chosen)
        assert gone == [selector for selector in chosen if selector in client.at_server]
        for selector in gone:
            del client.at_server[selector]
        if gone:
            client.pending.append(Unsubscribed(gone))
            self.hub.members.send_to(client.outbox, [messages.control("unsubscribed", {"topics": gone})])
            # What was held of these is rightly not delivered any more.
            client.uncounted |= set(TOPICS) - covered(list(client.at_server))
        self.read()

    @rule(name=clients_of)
    def lose_connection(self, name: str) -> None:
        client = self.clients[name]
        if client.outbox is not None:
            client.lose_connection()

    @rule(name=clients_of)
    def come_back(self, name: str) -> None:
        client = self.clients[name]
        if client.outbox is None:
            self.resume(client)
        self.read()

    @rule(name=clients_of, burst=bursts, idle=st.booleans())
    def be_away(self, name: str, burst: list[tuple[str, bool]], idle: bool) -> None:
        """Lose the connection, miss something, and come back; perhaps so late that a topic was dropped."""
        for client in self.clients.values():
            if client.outbox is not None and (idle or client.name == name):
                client.lose_connection()
        if idle:
            self.advance(31.0)
        for topic, log in burst:
            self.publish(topic, log)
        self.come_back(name)

    # --- what networks do ---

    @rule(name=may_be_slow, clogged=st.booleans())
    def stop_reading(self, name: str, clogged: bool) -> None:
        client = self.clients[name]
        assert client.patient
        client.was_slow = client.outbox is not None
        if clogged:
            client.pipe.clog()
        else:
            client.pipe.pause()

    @rule(name=may_be_slow, size=st.sampled_from((1, 150, 400, 70_000, None)))
    def read_some(self, name: str, size: int | None) -> None:
        self.clients[name].pipe.drain(size)
        self.read()

    @rule()
    def pace(self) -> None:
        """A pong that took long."""
        client = self.clients["paced"]
        if client.outbox is not None:
            client.was_slow = True
            client.outbox.pacer.portion_bytes = client.portion_bytes
            self.hub.members.pace(client.outbox)

    @rule(name=may_be_slow)
    def pong(self, name: str) -> None:
        """Answer a ping, if one has been read."""
        client = self.clients[name]
        if client.pipe.reader.pings and client.outbox is not None:
            client.pipe.reader.pings = 0
            self.hub.members.answered(client.outbox)
            self.read()

    # --- what time does ---

    @rule()
    def turn(self) -> None:
        self.clock.turn()
        self.read()

    @rule(seconds=st.sampled_from((0.02, 0.1, 0.4, 1.0, 4.0, TTL_S, STALL_S, 31.0)))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        now = self.clock.now()
        for topic in self.topics.values():
            if topic.last is not None and now - topic.updated_at >= TTL_S:
                topic.stale = True
        self.hub.tick()
        self.hub.members.find_stuck()
        self.read()

    @rule()
    def settle(self) -> None:
        """Drain all pipes and let time pass, and check that each connected client has everything."""
        for client in self.clients.values():
            client.pipe.drain()
        self.advance(1.1)
        self.clock.turn()
        self.read()
        while any(client.pipe.reader.pings for client in self.clients.values()):
            for name in self.clients:
                self.pong(name)
        for client in self.clients.values():
            if client.outbox is not None:
                client.has_everything()

    def read(self) -> None:
        for client in self.clients.values():
            client.read()
            if client.pipe.closing is not None:
                assert client.pipe.closing is TOO_SLOW and client.was_slow
                client.lose_connection()

    def teardown(self) -> None:
        for client in self.clients.values():
            if client.outbox is None:
                self.resume(client)
        self.settle()


TestHubModel = HubModel.TestCase
TestHubModel.settings = settings(
    max_examples=int(os.environ.get("HUB_MODEL_EXAMPLES", "120")),
    stateful_step_count=50,
    suppress_health_check=list(HealthCheck),
)

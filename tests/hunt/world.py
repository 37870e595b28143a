"""Run a program: a hub, its clients, and the steps. After every step the messages that came are checked.

A program is a list of steps of plain numbers, which mean something whatever steps stand before them: so steps can be
dropped from one that fails, and it can be printed and pasted.
"""

import gc
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import orjson

from feeds import topics
from feeds.model import Event, Pair
from feeds.symbols import Symbols
from orchestrator.limiter import TokenBucket
from stream_server.delivery.hub import Hub, HubPolicy
from stream_server.delivery.outbox import HIGH_WATER_BYTES, Outbox
from stream_server.delivery.session import Session
from stream_server.wire import messages
from stream_server.wire.messages import Wire
from stream_server.wire.refusals import NO_PONG, SHUTTING_DOWN, TOO_SLOW, UNAUTHORISED
from tests.hunt.judge import Judge, Selectors, Violation
from tests.hunt.pipes import EXPECTED, FAULTS, HuntPipe, Injected
from tests.hunt.record import EPOCH, Record
from tests.hunt.timing import HuntClock
from tests.hunt.wire import Decoder, Message

TTL_S = 10.00005
"""A time between two milliseconds, so that no value outlives it exactly at the time of a check."""
LONG_TTL_S = 50.00005
"""Longer than `POSITION_S`, so that values may still be fresh when a position is due."""
STALL_S = 12.0
IDLE_S = 20.0
ON_DEMAND = "ohlcv.D.1m"
CANDLES = ("ohlcv.S0.1m", "ohlcv.S1.1m")
TICK_S = 0.25
STUCK_TICKS = 4
RETRY_S = 0.03
"""Longer than the hub waits until it looks after lagging clients again."""
POSITION_S = 30.0
"""A connection that was quiet for this long is sent its position."""
SLOW_PONG_S = 1.0
CUT_WITHIN_S = 8.0
"""The time after `STALL_S` until it is found that a client takes nothing, and until housekeeping runs."""
WIRES = (Wire.WEBSOCKET, Wire.WEBSOCKET_BATCH, Wire.WEBSOCKET_DEFLATE, Wire.SSE, Wire.SSE_UNCHUNKED)
HOUR_MS = 3_600_000

Step = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Config:
    """The conditions under which a program runs."""

    prices: int = 6
    ring: int = 4
    writes_a_turn: int = 500
    bytes_a_write: int = 8192
    outbox_bytes: int = 4 * 1024 * 1024
    total_bytes: int = 512 * 1024 * 1024
    names: int = 40
    """Number of prices in the longest list of names."""
    ttl_s: float = TTL_S


@dataclass(slots=True)
class Client:
    """One client, which may have had many connections."""

    judge: Judge
    wire: Wire
    intervals: tuple[int, ...]
    watched: bool
    prompt: bool
    """Whether it reads everything at once and answers each ping at once."""
    portion_bytes: int
    pipe: HuntPipe | None = None
    outbox: Outbox | None = None
    leaving: bool = False

    @property
    def connected(self) -> bool:
        return self.outbox is not None

    @property
    def websocket(self) -> bool:
        return self.wire.is_websocket


class Untaxed(TokenBucket):
    """A token bucket that never empties: the rate of a client's requests is not tested here."""

    def take(self, tokens: float = 1.0) -> bool:
        return True


def delivery_modules() -> list[object]:
    """Return the modules in which the hub's constants may be."""
    return [module for name, module in sys.modules.items() if name.startswith("stream_server")]


@contextmanager
def budgets(config: Config) -> Iterator[None]:
    """Give the hub the budgets of a program."""
    wanted = {"WRITES_A_TURN": config.writes_a_turn, "BYTES_A_WRITE": config.bytes_a_write}
    kept = [
        (module, name, getattr(module, name))
        for module in delivery_modules()
        for name in wanted
        if hasattr(module, name)
    ]
    missing = set(wanted) - {name for _, name, _ in kept}
    if missing:
        raise RuntimeError(f"the hub has no {missing} any more: name what bounds its writes in world.budgets")
    try:
        for module, name, _ in kept:
            setattr(module, name, wanted[name])
        yield
    finally:
        for module, name, value in kept:
            setattr(module, name, value)


class World:
    """Runs the steps of one program."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.clock = HuntClock()
        self.clock.run = lambda call: self.call(None, call)
        self.record = Record(config.ring, config.ttl_s)
        policy = HubPolicy(
            lambda name: config.ttl_s if self.record.ages(name) else None,
            ring_events=config.ring,
            outbox_bytes=config.outbox_bytes,
            stall_s=STALL_S,
            idle_topic_s=IDLE_S,
            outbox_total_bytes=config.total_bytes,
        )
        self.patience_s = STALL_S - policy.farewell_s
        self.hub = Hub(EPOCH, self.clock, self.clock, self, policy)
        self.decoder = Decoder()
        self.symbols = Symbols()
        self.symbols.learn([Pair(f"S{n}USDT", f"S{n}", "USDT") for n in range(config.prices)])
        self.clients: list[Client] = []
        self.refusing = False
        self.departed: list[Client] = []
        """Connections that have ended, as they were."""
        self.ticked_at = self.clock.now()
        self.ticks = 0
        self.stood_still_at = float("-inf")
        self.timers_at_most = 0
        self.situations: Counter[str] = Counter()
        """Which situations the program has brought about."""
        self.prices = [f"price.S{n}" for n in range(config.prices)]
        self.everything = (*self.prices, *CANDLES, "news")
        self.selections: list[tuple[str, ...]] = [
            ("price.*",),
            (">",),
            ("price.*", "ohlcv.>"),
            ("ohlcv.>",),
            ("price.S0",),
            ("price.S0", "price.S1", "price.S2"),
            ("price.S1", "ohlcv.S0.1m"),
            ("ohlcv.S0.1m",),
            ("news",),
            tuple(self.prices[: config.names]),
            ("news", "price.*"),
            (ON_DEMAND, "price.S0"),
            ("price.S0", "ohlcv.S1.1m"),
            ("news", "ohlcv.S0.1m"),
            ("price.S1", "news"),
        ]

    # --- the hub's demand ---

    def want(self, topic: str) -> None:
        self.record.feed_again(topic)

    def drop(self, topic: str) -> bool:
        if topic == ON_DEMAND and not self.refusing:
            self.record.forget(topic)
        return topic == ON_DEMAND

    def is_full(self) -> bool:
        return False

    def charge(self, topics: Iterable[str], account: str) -> list[str]:
        return []

    # --- guarded calls ---

    def call(self, client: Client | None, call: Callable[[], object]) -> None:
        """Call the hub for a client, or for none. Raises Violation if the fault of another client comes out."""
        try:
            call()
        except Injected as fault:
            if client is None or fault.pipe is not client.pipe:
                raise Violation(f"{fault!r} of one client came out of a call that is not its own") from fault
        except Violation:
            raise
        except Exception as error:
            raise Violation(f"the hub raised {error!r}") from error

    # --- a program ---

    def run(self, program: Sequence[Step], observe: Callable[[int], None] | None = None) -> None:
        """Run all steps and the end. Raises Violation."""
        with budgets(self.config):
            self._warm_up()
            baseline = footprint(self.hub)
            for number, (name, *arguments) in enumerate(program):
                if observe is not None:
                    observe(number)
                getattr(self, f"do_{name}")(*arguments)
                self._read()
            self._finish()
            self._check_size(baseline)

    def _warm_up(self) -> None:
        """Publish on every topic and make every selection once, so that kept names do not count as growth."""
        for name in self.everything:
            self._publish(name, log=False)
        for selection in range(len(self.selections)):
            for interval in (0, 400):
                self.do_client(0, selection, interval, 1, 1, 8192, 0, 1)
        self._read()
        for client in self.clients:
            self._leave(client)
        self.clients, self.departed = [], []
        self._settle()
        self.situations.clear()

    def _finish(self) -> None:
        for client in self.clients:
            if not client.connected:
                self._resume(client, None)
        self._settle()
        for client in self.clients:
            if client.outbox is not None:
                self._leave(client)
        # The last burst is kept until the next one.
        self.do_client(0, 8, 0, 1, 1, 8192, 0, 1)
        self._publish("news", True)
        self.clock.rest()
        self._leave(self.clients[-1])
        self.clock.rest()

    def _check_size(self, baseline: int) -> None:
        size = footprint(self.hub)
        # Marks of topics that are idle, unsorted or stale.
        allowed = baseline + 3 * len(self.record.topics) + 60
        if size > allowed:
            raise Violation(f"{size} things are kept though all clients have left; there were {baseline}")
        if self.clock.pending > 40:
            raise Violation(f"{self.clock.pending} timers wait though all clients have left")

    def _check_growth(self) -> None:
        """Check that nothing grows with the number of events while clients stay."""
        self.timers_at_most = max(self.timers_at_most, self.clock.pending)
        if self.clock.pending > 40 + 4 * len(self.clients):
            raise Violation(f"{self.clock.pending} timers for {len(self.clients)} clients")

    # --- clients ---

    def do_client(
        self,
        wire: int,
        selection: int,
        interval: int,
        watched: int,
        prompt: int,
        portion: int,
        remembers: int,
        count: int,
    ) -> None:
        """Let a number of equal clients connect and subscribe."""
        for _ in range(count):
            form = WIRES[wire % len(WIRES)]
            name = f"client {len(self.clients)} ({form}, {interval} ms)"
            judge = Judge(name, self.record, self.clock, bool(remembers))
            client = Client(judge, form, (interval,), bool(watched), bool(prompt), portion)
            self.clients.append(client)
            self._connect(client)
            self._subscribe(client, self.selections[selection % len(self.selections)], interval, None)

    def _connect(self, client: Client) -> None:
        pipe = HuntPipe(client.wire, self.decoder, self.clock.now)
        outbox = Outbox(pipe, client.wire)
        outbox.pacer.portion_bytes = client.portion_bytes
        if client.watched:
            pipe.watched_by(outbox)
        client.pipe, client.outbox, client.leaving = pipe, outbox, False
        client.judge.come_back(None)
        self.call(client, lambda: self.hub.members.join(outbox))

    def _subscribe(self, client: Client, names: tuple[str, ...], interval: int, since: str | None) -> None:
        outbox = client.outbox
        assert outbox is not None
        judge = client.judge
        if judge.over or (client.pipe is not None and client.pipe.closing is not None):
            return
        judge.expect(Selectors(names, interval, since))
        self.call(client, lambda: self.hub.subscribe(outbox, names, since, interval))

    def _resume(self, client: Client, choice: int | None) -> None:
        judge = client.judge
        pipe = HuntPipe(client.wire, self.decoder, self.clock.now)
        outbox = Outbox(pipe, client.wire)
        outbox.pacer.portion_bytes = client.portion_bytes
        if client.watched:
            pipe.watched_by(outbox)
        client.pipe, client.outbox, client.leaving = pipe, outbox, False
        judge.come_back(choice)
        self.call(client, lambda: self.hub.members.join(outbox))
        for asked in list(judge.known.unfinished):
            judge.expect(asked)
            self.call(client, partial(self.hub.subscribe, outbox, asked.names, asked.since, asked.interval))

    def _pick(self, number: int, connected: bool | None = None) -> Client | None:
        chosen = [c for c in self.clients if connected is None or c.connected is connected]
        return chosen[number % len(chosen)] if chosen else None

    def _leave(self, client: Client) -> None:
        """End a connection."""
        outbox = client.outbox
        assert outbox is not None
        self.call(client, lambda: self.hub.members.leave(outbox))
        self.departed = [*self.departed[-11:], replace(client)]
        client.outbox = None

    def do_lose(self, number: int) -> None:
        """Break a connection; what was under way is lost."""
        if (client := self._pick(number, True)) is not None:
            self._leave(client)

    def do_resume(self, number: int, choice: int | None) -> None:
        """Let a client come back, with its last position or an earlier one."""
        client = self._pick(number, False)
        if client is not None:
            self._resume(client, choice)
            self.situations["resumed"] += 1

    def do_bounce(self, number: int, choice: int | None) -> None:
        """Break a connection; the client comes back at once."""
        client = self._pick(number, True)
        if client is not None:
            self._leave(client)
            self._resume(client, choice)
            self.situations["resumed"] += 1

    def do_deserted(self, seconds: int, back: int) -> None:
        """Break every connection; some clients come back so late that idle topics were dropped."""
        for client in self.clients:
            if client.connected:
                self._leave(client)
        self._pass(float(seconds), 0)
        for client in self.clients[: back % (len(self.clients) + 1)]:
            self._resume(client, None)
        self.situations["deserted"] += 1

    def do_subscribe(self, number: int, selection: int, interval: int, since: str) -> None:
        """Let a client ask for more, or for the same at another interval."""
        client = self._pick(number, True)
        if client is None or not client.websocket or self._is_ending(client):
            return
        own = client.judge.known.position
        cursor = {"own": own, "epoch": "e0-5", "garbage": "e1-1x", "future": f"{EPOCH}-{self.record.seq + 9}"}.get(
            since
        )
        if since == "earliest":
            cursor = since
        if since == "any":
            cursor = f"{EPOCH}-{(number * 7919) % (self.record.seq + 1)}"
        self._subscribe(client, self.selections[selection % len(self.selections)], interval, cursor)

    def do_unsubscribe(self, number: int, selection: int) -> None:
        """Let a client remove selectors."""
        client = self._pick(number, True)
        if client is None or not client.websocket or self._is_ending(client):
            return
        outbox, judge = client.outbox, client.judge
        assert outbox is not None
        names = self.selections[selection % len(self.selections)]
        gone = [name for name in names if name in judge.server]

        def ask() -> None:
            if self.hub.unsubscribe(outbox, names) != gone:
                judge.fail(f"unsubscribe {names} did not take off {gone}")

        self.call(client, ask)
        judge.expect_unsubscribed(gone)
        self.call(
            client, lambda: self.hub.members.send_to(outbox, [messages.control("unsubscribed", {"topics": gone})])
        )

    def do_snapshot(self, number: int, selection: int) -> None:
        """Let a client ask for values by the op `snapshot`."""
        client = self._pick(number, True)
        if client is None or not client.websocket or self._is_ending(client):
            return
        outbox = client.outbox
        assert outbox is not None
        names = self.selections[selection % len(self.selections)]
        names = tuple(name for name in names if name != ON_DEMAND)
        session = Session(self.hub, outbox, self.symbols, self.clock, 20.0)
        session.bucket = Untaxed(1.0, 1.0, self.clock)
        client.judge.expect_snapshot(names)
        self.call(client, lambda: session.receive(orjson.dumps({"op": "snapshot", "topics": names})))
        self.situations["snapshot"] += 1

    def do_rewire(self, number: int, batch: int) -> None:
        """Let a client ask for arrays, or for single messages."""
        client = self._pick(number, True)
        if client is None or not client.websocket or self._is_ending(client):
            return
        outbox = client.outbox
        assert outbox is not None
        wire = WIRES[batch % 3]
        if wire is client.wire:
            return
        client.judge.rewired()
        self.call(client, lambda: self.hub.members.rewire(outbox, wire))
        client.wire = wire

    def do_refuse(self, selection: int) -> None:
        """Refuse a topic that had an event just now."""
        topic = self.selections[selection % len(self.selections)][0]
        if topics.is_pattern(topic) or any(self._is_ending(c) for c in self.clients if c.connected):
            return
        self._publish(topic, log=True)
        for client in self.clients:
            if client.connected and topic in client.judge.server:
                client.judge.expect_refusal(topic)
        self.refusing = True
        self.call(None, lambda: self.hub.refuse(topic, "no market"))
        self.refusing = False

    def _is_ending(self, client: Client) -> bool:
        return client.pipe is None or client.pipe.closing is not None or client.judge.broken

    # --- events ---

    def _publish(self, name: str, log: bool, pad: int = 0, waited_ms: int = 0) -> None:
        topic = self.record.topics.get(name)
        if name == ON_DEMAND and (topic is None or topic.dropped):
            return
        log = (log and topics.kind_of(name) != "state") or name == "news"
        now, wall_ms = self.clock.now(), self.clock.wall_ms()
        published = self.record.publish(name, log, now, now - waited_ms / 1000)
        data = {"n": published.seq, "pad": "x" * pad}
        event = Event(name, wall_ms - waited_ms, wall_ms - waited_ms, "binance", data, log)
        self.call(None, lambda: self.hub.publish(event))
        if self.hub.position != self.record.position:
            raise Violation(f"{self.hub.position} was given to event {published}")

    def do_publish(self, number: int, log: int, pad: int, waited_ms: int = 0) -> None:
        """Publish one event."""
        names = (*self.everything, ON_DEMAND)
        self._publish(names[number % len(names)], bool(log), pad, waited_ms)

    def do_appear(self, pad: int) -> None:
        """Publish a new price, which comes again with the others from now on."""
        self.prices.append(f"price.N{len(self.prices)}")
        self._publish(self.prices[-1], False, pad)

    def do_log(self, number: int) -> None:
        """Publish one log event."""
        names = (*CANDLES, "news", ON_DEMAND)
        self._publish(names[number % len(names)], True)

    def do_hole(self, number: int) -> None:
        """Publish that the source has nothing for a while."""
        name = CANDLES[number % len(CANDLES)]
        self.record.hole(name)
        self.call(None, lambda: self.hub.gap(name, 60_000, 120_000))

    def do_stale(self, number: int) -> None:
        """Mark a value as stale for another reason than its age."""
        name = self.everything[number % len(self.everything)]
        self.record.disown(name)
        self.call(None, lambda: self.hub.stale(name, "no_matching_source"))

    def do_burst(self, start: int, count: int, style: int, log_every: int, pad: int) -> None:
        """Publish many prices at once: in order, in reverse, mixed or of one topic, with log events among them."""
        chosen = [self.prices[(start + n) % len(self.prices)] for n in range(count)]
        match style % 4:
            case 0:
                chosen = sorted(dict.fromkeys(chosen), key=self.prices.index)
            case 1:
                chosen = sorted(chosen, key=self.prices.index, reverse=True)
            case 2:
                chosen = [chosen[(n * 7919) % len(chosen)] for n in range(count)]
            case 3:
                chosen = chosen[:1] * count
        for number, name in enumerate(chosen):
            self._publish(name, False, pad)
            if log_every and number % log_every == log_every - 1:
                self._publish(CANDLES[number % 2], True, pad)

    def do_feed(self, every: int, pad: int, delivered: int = 1) -> None:
        """Publish the prices (all, or every second or third) as a feed does, in one burst of their own."""
        self.clock.rest()
        for name in self.prices[::every]:
            self._publish(name, False, pad)
        if delivered:
            self.clock.rest()

    def do_quiet(self, every: int) -> None:
        """Publish a burst, wait until positions are due, and let housekeeping and a burst come in one turn."""
        self.do_feed(every, 0)
        self.do_standstill(round(POSITION_S * 1000))
        self.call(None, self.hub.tick)
        for name in self.prices[::every]:
            self._publish(name, False)

    def do_ticks(self, count: int, every_ms: int, width: int, off: int) -> None:
        """Publish prices again and again, as a feed does."""
        for _ in range(count):
            for name in self.prices[:width]:
                self._publish(name, False)
            self._pass(every_ms / 1000, off)
            self._read()

    def do_hammer(self, count: int, number: int) -> None:
        """Publish a value and a log event in turn, many times."""
        for _ in range(count):
            self._publish(self.prices[number % len(self.prices)], False)
            self._publish(CANDLES[0], True)
            self.clock.rest()
            self._check_growth()
        size, bound = footprint(self.hub), 0
        bound = 3000 + 40 * len(self.clients) * (len(self.record.topics) + 10)
        if size > bound:
            raise Violation(f"{size} things are kept for {len(self.clients)} clients")

    def do_churn(self, number: int, count: int) -> None:
        """Let a client change its interval again and again while values come."""
        client = self._pick(number, True)
        if client is None or not client.websocket or self._is_ending(client):
            return
        before = footprint(self.hub)
        for each in range(count):
            self._subscribe(client, ("price.S0", "price.S1"), HOUR_MS - each, None)
            self._publish("price.S0", False)
            self.clock.rest()
        self._subscribe(client, ("price.S0", "price.S1"), 0, None)
        self.clock.rest()
        grown = footprint(self.hub) - before
        if grown > 120 + 2 * len(self.record.topics):  # some beats of groups that are gone may wait
            raise Violation(f"{count} changes of an interval leave {grown} more things")
        self._check_growth()

    # --- networks ---

    def do_pause(self, number: int, clogged: int) -> None:
        """Let a client stop reading."""
        client = self._pick(number, True)
        if client is not None and not client.prompt and client.pipe is not None and not self._is_ending(client):
            client.judge.was_slow = True
            client.pipe.pause(HIGH_WATER_BYTES + 1 if clogged else 0)
            self.situations["stopped reading"] += 1

    def do_drain(self, number: int, size: int | None) -> None:
        """Let a client read some bytes, or all."""
        client = self._pick(number, True)
        if client is not None and client.pipe is not None:
            client.pipe.drain(size)

    def do_pace(self, number: int) -> None:
        """Pace a client, as after a pong that took long."""
        client = self._pick(number, True)
        if client is None or client.outbox is None or not client.websocket or self._is_ending(client):
            return
        outbox = client.outbox
        client.judge.was_slow = True
        outbox.pacer.portion_bytes = client.portion_bytes
        self.call(client, lambda: self.hub.members.pace(outbox))
        self.situations["paced"] += 1

    def do_pong(self, number: int) -> None:
        """Let a client answer a ping."""
        client = self._pick(number, True)
        if client is not None and client.pipe is not None and client.pipe.pings:
            self._pong(client)

    def _pong(self, client: Client) -> None:
        assert client.pipe is not None and client.outbox is not None
        outbox, pipe = client.outbox, client.pipe
        late = self.clock.now() - pipe.pinged_at > SLOW_PONG_S
        pipe.pings, pipe.taken_at = 0, self.clock.now()
        if late:
            client.judge.was_slow = True
            self.call(client, lambda: self.hub.members.pace(outbox))
        self.call(client, lambda: self.hub.members.answered(outbox))

    def do_fault(self, number: int, where: int, kind: int) -> None:
        """Let a client's transport raise something from now on."""
        client = self._pick(number, True)
        if client is None or client.pipe is None or client.prompt:
            return
        place = ("write", "buffered", "write", "close", "abort")[where % 5]
        client.pipe.faults[place] = FAULTS[kind % len(FAULTS)]
        client.judge.was_slow = True
        self.situations[f"{place} raises"] += 1

    # --- endings ---

    def do_close(self, number: int, code: int) -> None:
        """Let the service close a connection."""
        client = self._pick(number, True)
        if client is None or client.outbox is None or client.prompt or self._is_ending(client):
            return
        closing = (NO_PONG, UNAUTHORISED)[code % 2]
        client.leaving = True
        outbox = client.outbox
        self.call(client, lambda: self.hub.members.close(outbox, closing))

    def do_dismiss(self, number: int) -> None:
        """Dismiss a client, as before a stop: if it reads, it gets what is held back for it, then its goodbye."""
        client = self._pick(number, True)
        if client is None or client.outbox is None or client.pipe is None or self._is_ending(client):
            return
        self._read()
        outbox, pipe = client.outbox, client.pipe
        reads = pipe.flowing and not pipe.pings and not pipe.faults and not client.leaving
        client.leaving = True
        self.call(client, lambda: self.hub.members.dismiss(outbox, SHUTTING_DOWN, 100))
        client.judge.read(self._taken(client))
        if reads:
            if not client.judge.over:
                client.judge.fail("no goodbye")
            client.judge.over = False
            client.judge.has_everything(freshness=False)
            client.judge.over = True
        self.situations["dismissed"] += 1

    def do_after(self, number: int, what: int) -> None:
        """Call the hub for a client whose connection has ended, or is ending."""
        ended = [*self.departed, *(c for c in self.clients if c.pipe is not None and c.pipe.closing and c.outbox)]
        if not ended:
            return
        client = ended[number % len(ended)]
        outbox = client.outbox
        assert outbox is not None
        hub = self.hub
        calls: list[Callable[[], object]] = [
            lambda: hub.members.answered(outbox),
            lambda: hub.members.answered(outbox),
            lambda: hub.members.pace(outbox),
            lambda: hub.members.leave(outbox),
            lambda: hub.unsubscribe(outbox, ["price.S0"]),
            lambda: hub.subscribe(outbox, ["price.S0"]),
            lambda: hub.members.send_to(outbox, [messages.control("pong", {})]),
            lambda: hub.members.rewire(outbox, Wire.WEBSOCKET_BATCH),
            lambda: hub.members.dismiss(outbox, SHUTTING_DOWN, 0),
            lambda: hub.members.close(outbox, NO_PONG),
            outbox.cleared,
            outbox.clogged,
        ]
        counted = client.pipe.closed_times if client.pipe is not None else 0
        self.call(client, calls[what % len(calls)])
        if client.pipe is not None and client.pipe.closed_times > max(counted, 1):
            raise Violation("a connection was closed twice")
        self.situations["called after the end"] += 1

    # --- time ---

    def do_turn(self, count: int) -> None:
        """Run some turns of the loop."""
        for _ in range(count):
            self.clock.turn()

    def do_rest(self) -> None:
        """Run turns until nothing is left to do."""
        self.clock.rest()

    def do_advance(self, milliseconds: int, off: int) -> None:
        """Let time pass, with housekeeping; timers fire in time, early (1) or late."""
        self._pass(milliseconds / 1000, off)

    def _pass(self, seconds: float, off: int) -> None:
        off_s = {0: 0.0, 1: -0.0009, 2: -0.0004, 3: 0.003, 4: 0.04}.get(off, 0.0)
        end = self.clock.now() + seconds
        while (left := end - self.clock.now()) > 1e-9:
            due = self.ticked_at + TICK_S - self.clock.now()
            if due > left:
                self.clock.advance(left, off_s)
                break
            self.clock.advance(max(0.0, due), off_s)
            self._tick()
            self._read()

    def _tick(self) -> None:
        self.ticked_at = self.clock.now()
        self.ticks += 1
        self.call(None, self.hub.tick)
        if self.ticks % STUCK_TICKS == 0:
            self.call(None, self.hub.members.find_stuck)
        self.clock.rest()

    def do_standstill(self, milliseconds: int) -> None:
        """Pause the whole process; what waited comes in any order afterwards."""
        self.clock.jump(milliseconds / 1000)
        self.stood_still_at = self.clock.now()
        self.situations["stood still"] += 1

    def do_woken(self, milliseconds: int, number: int, selection: int) -> None:
        """Pause the whole process; the first thing afterwards is a request for a snapshot."""
        self.do_standstill(milliseconds)
        self.do_snapshot(number, selection)

    # --- reading ---

    def _taken(self, client: Client) -> list[tuple[float, Message]]:
        assert client.pipe is not None
        inbox, client.pipe.inbox = client.pipe.inbox, []
        return inbox

    def _read(self) -> None:
        for client in self.clients:
            pipe = client.pipe
            if client.outbox is None or pipe is None:
                continue
            if pipe.raised:
                self._broken(client, pipe)
            for _ in range(50):
                if pipe.inbox:
                    client.judge.read(self._taken(client))
                if not (client.prompt and pipe.pings and pipe.closing is None):
                    break
                self._pong(client)
            self._look_at_end(client, pipe)
        self._check_growth()

    def _broken(self, client: Client, pipe: HuntPipe) -> None:
        judge = client.judge
        if not judge.broken:
            judge.broken, judge.broken_at = True, self.clock.turns
            return
        if self.clock.turns < judge.broken_at + 2:
            return
        # By now the hub has ended it, or its transport says that the peer has gone.
        unexpected = [fault for fault in pipe.raised if not isinstance(fault, EXPECTED)]
        if unexpected and pipe.closing is None and not pipe.aborted and {"write", "buffered"} & set(pipe.faults):
            judge.fail(f"its transport raised {unexpected[0]!r}, and it is still connected")
        self._leave(client)

    def _look_at_end(self, client: Client, pipe: HuntPipe) -> None:
        now = self.clock.now()
        waits_since = pipe.waits_since
        judge = client.judge
        if (pipe.closing or pipe.aborted) and not client.leaving and not judge.broken:
            client.leaving = True
            code = pipe.closing.code if pipe.closing is not None else None
            if code != TOO_SLOW.code or not judge.was_slow:
                judge.fail(f"was cut with {code}, though it did nothing wrong")
            roomy = self.config.outbox_bytes > 1 << 20 and self.config.total_bytes > 1 << 26
            if client.prompt and roomy:
                judge.fail("was cut as too slow, though it reads everything")
            waited_s = now - waits_since if waits_since is not None else 0.0
            if roomy and waited_s < self.patience_s - 0.1:
                judge.fail(f"was cut as too slow after {waited_s:.2f} s of taking nothing")
            self.situations["cut"] += 1
        elif (
            waits_since is not None
            and client.outbox is not None
            and not client.leaving
            and not pipe.faults
            and not judge.broken
            and now - max(waits_since, self.stood_still_at) > STALL_S + CUT_WITHIN_S
        ):
            judge.fail(f"has taken nothing for {now - waits_since:.1f} s, and is still connected")
        if client.leaving and pipe.flowing and client.outbox is not None and pipe.closing is not None:
            self._leave(client)  # it has read its goodbye

    def do_settle(self) -> None:
        """Let all clients read everything, and check that each connected client has everything."""
        self._settle()

    def _settle(self) -> None:
        self.clock.rest()
        for _ in range(2):
            for client in self.clients:
                if client.pipe is not None and client.outbox is not None:
                    client.pipe.drain()
            self._answer_pings()
            self._pass(1.1, 0)
        self._read()
        self._tick()
        ticked_at = self.clock.now()
        self.clock.advance(RETRY_S)  # what housekeeping has announced is held for a paced client until then
        self._answer_pings()
        for client in self.clients:
            if client.connected and not client.leaving:
                client.judge.has_everything(at=ticked_at)

    def _answer_pings(self) -> None:
        """Let clients answer their pings until none is left."""
        self._read()
        for _ in range(400):
            pinged = [c for c in self.clients if c.connected and c.pipe and c.pipe.pings and not c.pipe.closing]
            for client in pinged:
                self._pong(client)
            self._read()
            if not pinged:
                break


CONTAINERS = (dict, list, set, tuple, Counter)


def footprint(hub: Hub) -> int:
    """Count the entries of all containers that are reachable from a hub, without what is kept of each topic."""
    seen: set[int] = set()
    total = 0
    waiting: list[object] = [hub]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        kind = type(thing)
        if kind.__module__.startswith("stream_server") and kind.__name__ not in ("TopicHistory", "Frame", "HubPolicy"):
            waiting += gc.get_referents(thing)
        elif (
            hasattr(thing, "__len__")
            and kind.__module__ in ("builtins", "collections")
            and not isinstance(thing, str | bytes | type)
        ):
            if kind.__name__ in ("module", "mappingproxy"):
                continue
            total += len(thing)
            waiting += gc.get_referents(thing)
    return total

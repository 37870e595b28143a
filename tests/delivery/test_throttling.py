"""Tests of throttling: at most one value a topic and interval on every path, and the beats that let values out."""

import gc
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stream_server.delivery.deliveries import Deliveries
from stream_server.delivery.hub import Hub, HubPolicy
from stream_server.delivery.laggards import Laggards
from stream_server.delivery.picking import PickingGroup
from stream_server.delivery.rounds import Rounds
from stream_server.delivery.throttling import ThrottledGroup
from stream_server.wire.messages import Wire
from tests.fakes.clock import ManualClock
from tests.fakes.pipe import FakeDemand, HubClient, HubRig

PATHS = {
    "table": (PickingGroup, "joined"),
    "pick": (PickingGroup, "pick"),
    "newest": (ThrottledGroup, "_take_newest"),
    "each": (ThrottledGroup, "_take_each"),
    "alone": (Rounds, "_write_alone"),
    "together": (Deliveries, "_deliver"),
    "aside": (Laggards, "send_or_hold"),
}
"""Every way on which a value may go out, and the method that takes it."""


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Count how often each path was taken: a call that returns None has left the work to another path."""
    counts: Counter[str] = Counter()

    def counted(name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            result = plain(*arguments, **named)
            counts[name] += result is not None or name in ("pick", "newest", "each", "aside")
            return result

        return call

    for name, (owner, method) in PATHS.items():
        monkeypatch.setattr(owner, method, counted(name, getattr(owner, method)))
    yield counts


class Watched:
    """A client with the times at which each topic's live values came."""

    def __init__(self, client: HubClient, intervals: dict[str, int]) -> None:
        self.client = client
        self.intervals = intervals
        self.times: dict[str, list[float]] = {}
        self.newest: dict[str, str] = {}

    def read(self, now: float) -> None:
        for message in self.client.take():
            if message["type"] == "update":
                self.times.setdefault(str(message["topic"]), []).append(now)
                self.newest[str(message["topic"])] = str(message["id"])

    def check(self, resolution_s: float = 0.0) -> None:
        for topic, times in self.times.items():
            interval_s = self.intervals[topic] / 1000
            apart = [after - before for before, after in itertools.pairwise(times)]
            assert not apart or min(apart) >= interval_s - resolution_s - 1e-6, topic


@pytest.mark.parametrize("seed", range(12))
def test_at_most_one_value_a_topic_and_interval_comes_on_every_path(seed: int, taken: Counter[str]) -> None:
    rng = random.Random(seed)
    rig = HubRig()
    names = [f"price.T{number}" for number in range(rng.randint(2, 6))]
    for name in names:
        rig.publish(name)
    rig.clock.turn()
    everyone = []
    wires = [Wire.WEBSOCKET, Wire.WEBSOCKET_BATCH, Wire.SSE]
    for _ in range(8):
        client = rig.client(rng.choice(wires), watched=rng.random() < 0.7)
        intervals: dict[str, int] = {}
        for interval_ms in rng.sample([0, 300, 1000], rng.choice((1, 1, 2))):
            wanted = rng.sample(names, rng.randint(1, len(names)))
            fresh = [name for name in wanted if name not in intervals]
            if fresh:
                client.subscribe(*fresh, interval_ms=interval_ms)
            intervals |= dict.fromkeys(fresh, interval_ms)
        client.take()
        everyone.append(Watched(client, intervals))
    patterned = rig.client(watched=True)
    patterned.subscribe("price.*", interval_ms=1000)
    patterned.take()
    everyone.append(Watched(patterned, dict.fromkeys(names, 1000)))
    order = list(names)
    for tick in range(60):
        if tick % 7 == 3:
            rng.shuffle(order)
        for name in order if tick % 5 else rng.sample(names, rng.randint(1, len(names))):
            rig.publish(name)
        rig.clock.turn()
        for watched in everyone:
            watched.read(rig.clock.now())
        if tick == 30:  # joins a group that holds values already, perhaps
            late = rig.client(watched=True)
            late.subscribe("price.*", interval_ms=1000)
            late.take()
            everyone.append(Watched(late, dict.fromkeys(names, 1000)))
        rig.clock.advance(0.1)
        for watched in everyone:
            watched.read(rig.clock.now())
    rig.clock.advance(1.0)
    for watched in everyone:
        watched.read(rig.clock.now())
        watched.check()
        for topic in watched.intervals:
            topic_history = rig.hub.topics[topic]
            assert topic_history.last is not None
            assert watched.newest[topic] == topic_history.last.cursor
    unreached = set(PATHS) - {path for path, count in taken.items() if count}
    assert not unreached - {"pick", "each", "aside", "together", "table"}, "this seed reaches too little"
    _reached.update(taken)


_reached: Counter[str] = Counter()


def test_the_sweep_has_reached_every_path() -> None:
    if _reached:  # not when this test runs alone
        assert set(PATHS) <= set(+_reached)


@pytest.mark.parametrize("others", [0, 1, 5])
@pytest.mark.parametrize("named", [["price.A", "price.B", "price.C"], ["price.*"]])
def test_a_throttled_client_beside_unthrottled_ones_gets_one_value_a_second(others: int, named: list[str]) -> None:
    rig = HubRig()
    for name in ("price.A", "price.B", "price.C"):
        rig.publish(name)
    rig.clock.turn()
    throttled = rig.client(watched=True)
    throttled.subscribe(*named, interval_ms=1000)
    for _ in range(others):
        rig.client(watched=True).subscribe(*named)
    throttled.take()
    for _ in range(100):
        for name in ("price.A", "price.B", "price.C"):
            rig.publish(name)
        rig.clock.advance(0.1)
    counts = Counter(str(message["topic"]) for message in throttled.take())
    assert set(counts.values()) <= {10, 11}


# --- beats ---


def test_a_group_has_one_beat_an_interval_however_many_log_events_release_it() -> None:
    rig = HubRig()
    rig.listener("price.A", "ohlcv.A.1m", interval_ms=60_000)
    rig.listener("price.A", "ohlcv.A.1m", interval_ms=1000)
    for _ in range(1000):
        rig.publish("price.A")
        rig.publish("ohlcv.A.1m", log=True)
        rig.clock.turn()
    assert len(rig.hub.beats) <= 2
    assert len(rig.hub.beats.heap) <= 2
    assert len(rig.clock.calls) <= 4


@pytest.mark.parametrize("step", [1, -1], ids=["ever longer", "ever shorter"])
def test_a_client_that_changes_its_interval_again_and_again_leaves_nothing_behind(step: int) -> None:
    rig = HubRig()
    client = rig.client()
    for number in range(600)[::step]:
        client.subscribe("price.A", "price.B", interval_ms=3_000_000 + number)
        rig.publish("price.A")
        rig.clock.turn()
        if number % 50 == 0:
            rig.clock.advance(1.0)
    client.take()
    assert len(rig.hub.groups.by_key) == 1
    assert len(rig.hub.beats) <= 1
    assert len(rig.hub.beats.heap) <= 130
    rig.clock.advance(2.0)
    assert len(rig.clock.calls) <= 4
    gc.collect()
    assert sum(isinstance(each, ThrottledGroup) and each.key.phases[0][0] > 2e6 for each in gc.get_objects()) == 1


def test_after_everyone_has_left_nothing_of_them_is_kept() -> None:
    rig = HubRig()
    clients = [rig.client() for _ in range(20)]
    for number, client in enumerate(clients):
        client.subscribe("price.*", f"ohlcv.{number}.>", f"price.X{number}", interval_ms=100 * (number % 4))
        rig.publish("price.A")
    rig.clock.turn()
    for client in clients:
        rig.hub.members.leave(client.outbox)
    rig.pass_time(100)
    hub = rig.hub
    assert (
        not hub.members.by_outbox and not hub.groups.by_key and not hub.interest.counts and not hub.interest.idle_since
    )
    assert not len(hub.beats) and not hub.lagging and not hub.laggards.full
    assert not hub.groups.patterns.root.children, "no pattern is left in the tree"
    assert not any(hub.groups.listeners.values())
    assert set(hub.groups.listeners) <= set(hub.topics)


class EarlyClock(ManualClock):
    """Timers that fire up to a millisecond too early, as those of uvloop may."""

    def __init__(self) -> None:
        super().__init__()
        self.rng = random.Random(7)

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        super().later(max(0.0, delay_s - self.rng.random() * 0.001), call)


class LateClock(ManualClock):
    """Timers that fire late, now and then by more than an interval."""

    def __init__(self) -> None:
        super().__init__()
        self.rng = random.Random(7)

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        super().later(delay_s + self.rng.choice((0.0, 0.002, 0.03, 0.17)), call)


@pytest.mark.parametrize(("clock_of", "resolution_s"), [(ManualClock, 0.0), (EarlyClock, 0.0011)])
@pytest.mark.parametrize("interval_ms", [2, 7, 100, 333, 1000])
def test_a_beat_lets_one_value_out_however_early_its_timer_fires(
    interval_ms: int, clock_of: Callable[[], ManualClock], resolution_s: float
) -> None:
    rig = HubRig()
    rig.clock = clock_of()
    rig.hub = Hub("e1", rig.clock, rig.clock, FakeDemand(), HubPolicy(lambda topic: None))
    watched = Watched(rig.listener("price.A", "price.B", interval_ms=interval_ms), {"price.A": interval_ms})
    step_s = interval_ms / 1000 / 40
    rig.clock.advance(step_s / 3)  # so that no beat falls on the end of a step
    for _ in range(200 * 40):
        rig.publish("price.A")
        rig.clock.advance(step_s)
        watched.read(rig.clock.now())
    watched.check(resolution_s and resolution_s + step_s)
    assert 190 <= len(watched.times["price.A"]) <= 201


def test_late_timers_let_every_topic_out_once_and_lose_nothing() -> None:
    rig = HubRig()
    rig.clock = LateClock()
    rig.hub = Hub("e1", rig.clock, rig.clock, FakeDemand(), HubPolicy(lambda topic: None))
    listener = rig.listener("price.A", interval_ms=100)
    last = ""
    for _ in range(500):
        last = rig.publish("price.A")
        rig.clock.advance(0.01)
    rig.clock.advance(1.0)
    ids = listener.outline()
    assert ids[-1] == last and len(ids) == len(set(ids)) <= 51

"""A fault of one client's connection, and clients that have left: neither harms anybody else."""

import inspect
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any

import pytest

from stream_server.delivery.hub import Hub
from stream_server.delivery.members import Members
from stream_server.wire import messages
from stream_server.wire.messages import Wire
from stream_server.wire.refusals import SHUTTING_DOWN
from tests.fakes.pipe import CLOGGED_BYTES, FakeDemand, FakePipe, HubClient, HubRig


class Faulty(FakePipe):
    """A pipe of which one method raises, from some call on."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire)
        self.broken = ""
        self.error: Exception = ValueError("broken")
        self.aborted = 0

    def write(self, data: bytes) -> None:
        self._check("write")
        super().write(data)

    def buffered(self) -> int:
        self._check("buffered")
        return super().buffered()

    def close(self, closing: Any, stuck_s: float) -> None:
        self._check("close")
        super().close(closing, stuck_s)

    def abort(self) -> None:
        self.aborted += 1
        self._check("abort")
        super().abort()

    def _check(self, method: str) -> None:
        if self.broken == method:
            raise self.error


def faulty_client(rig: HubRig, wire: Wire = Wire.WEBSOCKET, *, watched: bool) -> tuple[HubClient, Faulty]:
    client = rig.client(wire)
    pipe = Faulty(wire)
    client.outbox.pipe = client.pipe = pipe
    client.outbox.write = pipe.write
    if watched:
        pipe.watched_by(client.outbox)
    return client, pipe


def pass_time(rig: HubRig, seconds: float) -> None:
    for _ in range(round(seconds / 0.25)):
        rig.clock.advance(0.25)
        rig.hub.tick()
        rig.hub.members.find_stuck()
        rig.clock.turn()


STATES = ("keeps up", "lags", "paced", "full", "throttled", "newcomer")
ERRORS = [ValueError("broken"), KeyError("x"), RuntimeError("gone"), OSError("gone")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("method", ["write", "buffered"])
@pytest.mark.parametrize("watched", [True, False], ids=["watched", "asked"])
@pytest.mark.parametrize("state", STATES)
def test_whatever_a_connection_raises_everybody_else_gets_everything(
    state: str, watched: bool, method: str, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    rig = HubRig()
    rig.publish("price.A")
    rig.clock.turn()
    twin = rig.client(watched=True)
    loner = rig.client(watched=True)
    slow = rig.client()
    offender, pipe = faulty_client(rig, watched=watched)
    interval_ms = 300 if state in ("throttled", "newcomer") else 0
    names = ("price.A", "ohlcv.A.1m")
    for each in (twin, slow):
        each.subscribe(*names, interval_ms=interval_ms)
    loner.subscribe(*names, "price.B")
    if state == "newcomer":
        rig.publish("price.A")
        rig.clock.turn()
    offender.subscribe(*names, interval_ms=interval_ms)
    slow.pipe.clog(CLOGGED_BYTES)
    match state:
        case "lags" | "full":
            pipe.clog(CLOGGED_BYTES)
        case "paced":
            rig.hub.members.pace(offender.outbox)
    rig.publish("price.A")
    rig.clock.turn()
    for each in (twin, loner):
        each.take()
    pipe.broken, pipe.error = method, error
    ids = []
    for number in range(6):
        if number == 3 and method == "write":
            pipe.drain()
        ids += [rig.publish("price.A"), rig.publish("ohlcv.A.1m", log=True)]
        pass_time(rig, 0.5)
    slow.pipe.drain()
    pass_time(rig, 1.0)
    assert loner.outline() == ids
    assert [each for each in twin.outline() if each in ids] == ids
    heard = [str(message.get("id")) for message in slow.take()]
    assert [each for each in ids[1::2] if each in heard] == ids[1::2], "the timer of those who lag goes on"
    ended = offender.outbox not in rig.hub.members.by_outbox
    is_gone = isinstance(error, RuntimeError | OSError) and method == "write"
    if not is_gone and (method == "write" or state in ("lags", "paced") or not watched):
        assert ended and rig.hub.faults.count == 1
        assert offender.outbox.ended_with == 1011
        assert sum(record.getMessage() == "delivery_fault" for record in caplog.records) == 1
    elif is_gone:
        assert rig.hub.faults.count == 0


def test_the_offender_gets_1011_if_it_can_be_reached() -> None:
    rig = HubRig()
    offender, pipe = faulty_client(rig, watched=True)
    offender.subscribe("price.A")
    offender.take()
    pipe.broken = "write"
    rig.publish("price.A")
    rig.clock.turn()
    pipe.broken = ""
    rig.clock.turn()
    assert offender.outline() == ["goodbye"]
    assert offender.pipe.close_code() == 1011


@pytest.mark.parametrize("method", ["write", "close", "abort"])
def test_a_connection_that_cannot_even_be_closed_stops_nobody(method: str) -> None:
    rig = HubRig()
    clients = [faulty_client(rig, watched=True) for _ in range(3)]
    for client, pipe in clients:
        client.subscribe("price.A")
        pipe.broken = method
    rig.publish("price.A")
    pass_time(rig, 1)
    for client, _ in clients:
        rig.hub.members.close(client.outbox, SHUTTING_DOWN)
    assert not rig.hub.members.by_outbox


class BrokenDemand(FakeDemand):
    """Feeds that fail when they are asked for a topic."""

    def want(self, topic: str) -> None:
        super().want(topic)
        raise ValueError(topic)

    def drop(self, topic: str) -> bool:
        super().drop(topic)
        raise ValueError(topic)


def test_a_feed_that_fails_on_demand_harms_neither_the_client_nor_the_housekeeping() -> None:
    rig = HubRig()
    rig.demand = rig.hub.interest.demand = BrokenDemand()
    client = rig.client()
    client.subscribe("price.A", "price.B")
    assert rig.demand.wanted == ["price.A", "price.B"]
    assert client.outline()[-1] == "synced"
    rig.hub.members.leave(client.outbox)
    other = rig.listener("news")
    rig.pass_time(70)
    assert sorted(rig.demand.dropped) == ["price.A", "price.B"]
    rig.publish("news", log=True)
    rig.pass_time(1)
    assert other.outline()


def test_a_group_whose_bytes_cannot_be_made_is_ended_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = HubRig()
    doomed = [rig.listener("price.A", wire=Wire.WEBSOCKET_DEFLATE) for _ in range(2)]
    other = rig.listener("price.A")

    def fail(payload: bytes) -> bytes:
        raise MemoryError

    monkeypatch.setattr(messages, "deflated_frame", fail)
    said = rig.publish("price.A")
    rig.clock.turn()
    monkeypatch.undo()
    rig.clock.turn()
    assert other.outline() == [said]
    assert [client.pipe.close_code() for client in doomed] == [1011, 1011]


# --- clients that have left ---

ARGUMENTS: dict[str, Any] = {
    "selectors": ["price.A", "price.*"],
    "since": "e1-1",
    "interval_ms": 100,
    "req": 1,
    "wire": Wire.WEBSOCKET_BATCH,
    "frames": [messages.control("pong", {})],
    "closing": SHUTTING_DOWN,
    "after_ms": 1,
    "data": b"x",
}


def entry_points() -> Iterator[str]:
    """Yield each public method of the hub and of its members that takes a client, by its path from the hub.

    `select` is not for callers outside: it is given only clients that are here.
    """
    for part, path in ((Hub, ""), (Members, "members.")):
        for name, method in inspect.getmembers(part, inspect.isfunction):
            if name[0] != "_" and name != "select" and "outbox" in inspect.signature(method).parameters:
                yield path + name


def leave(rig: HubRig, client: HubClient) -> None:
    rig.hub.members.leave(client.outbox)


def say_goodbye(rig: HubRig, client: HubClient) -> None:
    rig.hub.members.close(client.outbox, SHUTTING_DOWN)


def fall_behind_and_leave(rig: HubRig, client: HubClient) -> None:
    rig.hub.members.pace(client.outbox)
    client.pipe.clog()
    rig.publish("price.A")
    rig.clock.turn()
    rig.hub.members.leave(client.outbox)


@pytest.mark.parametrize("entry", list(entry_points()))
@pytest.mark.parametrize("go", [leave, say_goodbye, fall_behind_and_leave])
def test_every_entry_point_is_nothing_for_a_client_that_has_left(
    entry: str, go: Callable[[HubRig, HubClient], None]
) -> None:
    rig = HubRig()
    rig.publish("price.A")
    client = rig.client()
    client.subscribe("price.A", "price.*", interval_ms=1000)
    rig.publish("price.A")
    rig.clock.turn()
    go(rig, client)
    before = (client.pipe.writes, client.pipe.closed_times, rig.hub.members.cut)
    method = attrgetter(entry)(rig.hub)
    wanted = list(inspect.signature(method).parameters)
    method(client.outbox, *(ARGUMENTS[name] for name in wanted if name != "outbox"))
    rig.publish("price.A")
    pass_time(rig, 2)
    assert (client.pipe.writes, client.pipe.closed_times, rig.hub.members.cut) == before
    hub = rig.hub
    assert not hub.members.by_outbox and not hub.groups.by_key and not hub.interest.counts and not hub.lagging
    assert not hub.laggards.full and not len(hub.beats)


def test_the_sweep_knows_the_entry_points() -> None:
    known = {"answered", "pace", "close", "dismiss", "send_to", "rewire", "leave", "let_out", "join", "write"}
    assert {"subscribe", "unsubscribe", *(f"members.{name}" for name in known)} <= set(entry_points())


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_client_whose_buffer_cannot_be_read_is_ended_when_it_is_to_be_paced(error: Exception) -> None:
    rig = HubRig()
    client, pipe = faulty_client(rig, watched=False)
    client.subscribe("price.A")
    pipe.broken, pipe.error = "buffered", error
    rig.hub.members.pace(client.outbox)
    pipe.broken = ""
    pass_time(rig, 0.5)
    assert client.outbox.closed

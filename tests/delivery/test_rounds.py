"""Tests of rounds: big groups, big bursts and small budgets, in every order in which deliveries are interrupted."""

import random

import pytest

from stream_server.delivery import deliveries, rounds
from stream_server.wire.messages import Wire
from tests.fakes.pipe import HubClient, HubRig


def test_a_delivery_that_is_interrupted_while_another_waits_reaches_everybody() -> None:
    rig = HubRig()
    many = [rig.client(watched=True) for _ in range(60)]
    two = [rig.client(watched=True) for _ in range(2)]
    for client in many:
        client.subscribe("price.*", "ohlcv.>")
    for client in two:
        client.subscribe(">")
    for client in (*many, *two):
        client.take()
    for number in range(400):
        rig.publish(f"price.S{number}", "x" * 150)
    candle = rig.publish("ohlcv.BTC.1m", log=True)
    while rig.clock.next_turn:
        rig.clock.turn()
    assert {client.outline()[-1] for client in (*many, *two)} == {candle}


class Follower:
    """A client that checks that it gets what it has asked for: all of it, once and in order."""

    def __init__(self, client: HubClient, names: list[str], joined_after: int) -> None:
        self.client = client
        self.names = names
        self.joined_after = joined_after
        self.heard: list[str] = []
        client.subscribe(*names)
        client.take()

    def check(self, events: list[tuple[str, str]]) -> None:
        self.heard += self.client.outline()
        assert self.heard == [event_id for event_id, name in events[self.joined_after :] if name in self.names]


@pytest.mark.parametrize("seed", range(25))
def test_every_event_reaches_every_member_once_and_in_order_however_little_a_turn_may_write(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr(rounds, "WRITES_A_TURN", rng.choice((1, 2, 3, 7, 20)))
    bytes_a_write = rng.choice((50, 300, 2000))
    for module in (rounds, deliveries):
        monkeypatch.setattr(module, "BYTES_A_WRITE", bytes_a_write)
    rig = HubRig()
    names = [f"price.T{number}" for number in range(5)] + ["ohlcv.A.1m"]
    followers: list[Follower] = []
    events: list[tuple[str, str]] = []
    choices = [rng.sample(names, rng.randint(1, 6)) for _ in range(4)]

    def come() -> None:
        client = rig.client(rng.choice((Wire.WEBSOCKET, Wire.WEBSOCKET_BATCH, Wire.SSE)), watched=rng.random() < 0.8)
        followers.append(Follower(client, rng.choice(choices), len(events)))

    for _ in range(14):
        come()
    for _ in range(60):
        match rng.randrange(7):
            case 0 | 1 | 2:
                for name in rng.sample(names, rng.randint(1, 6)):
                    said = rig.publish(name, "x" * rng.randint(0, 200), log=name.startswith("ohlcv"))
                    events += [(said, name)]
            case 3 | 4:
                rig.clock.turn()
            case 5:
                come()
            case 6 if len(followers) > 4:
                gone = followers.pop(rng.randrange(len(followers)))
                rig.hub.members.leave(gone.client.outbox)
                gone.check(events)
        if rng.random() < 0.3:
            asking = rng.choice(followers)
            rig.hub.members.send_to(asking.client.outbox, [])
            asking.check(events)
    while rig.clock.next_turn:
        rig.clock.turn()
    for follower in followers:
        follower.check(events)


def test_a_flush_that_fails_goes_on_in_the_next_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = HubRig()
    listener = rig.listener("price.A")
    said = rig.publish("price.A")
    with monkeypatch.context() as broken:
        broken.setattr(rounds.Rounds, "_write", lambda self, budget: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            rig.clock.turn()
    rig.clock.turn()
    assert listener.outline() == [said]

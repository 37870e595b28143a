"""Tests of positions: ids never fall for a client, and from each id it has seen it resumes without loss or doubles."""

import random

import pytest

from stream_server.wire.messages import Wire
from tests.fakes.pipe import HubClient, HubRig


def seq(event_id: object) -> int:
    return int(str(event_id).rpartition("-")[2])


class Browser:
    """A client with one interval that is cut off anywhere, and comes back from the last id that it has seen."""

    def __init__(self, rig: HubRig, wire: Wire, interval_ms: int, names: list[str]) -> None:
        self.rig = rig
        self.wire = wire
        self.interval_ms = interval_ms
        self.names = names
        self.position: str | None = None
        self.logs: list[int] = []
        self.values: dict[str, int] = {}
        self.client = self.connect()

    def connect(self) -> HubClient:
        self.client = self.rig.client(self.wire)
        self.client.subscribe(*self.names, since=self.position, interval_ms=self.interval_ms)
        return self.client

    def read(self, most: int | None = None) -> None:
        """Take so many of the messages that have come, or all of them."""
        for message in self.client.take()[:most]:
            event_id = message.get("id")
            if message["type"] == "subscribed" and self.position is not None:
                assert message["reason"] is None, "nothing was evicted"
            if event_id is None:
                continue
            assert self.position is None or seq(event_id) >= seq(self.position), "ids fall"
            self.position = str(event_id)
            if message["type"] != "update":
                continue
            topic = str(message["topic"])
            if topic.startswith("ohlcv"):
                assert seq(event_id) > self.values.get(topic, 0), "told twice"
                self.logs.append(seq(event_id))
            else:
                assert seq(event_id) >= self.values.get(topic, 0)
            self.values[topic] = seq(event_id)

    def lose_connection(self, after: int) -> None:
        """Read so many messages more, and come back."""
        self.read(after)
        self.rig.hub.members.leave(self.client.outbox)
        self.connect()


@pytest.mark.parametrize("wire", [Wire.WEBSOCKET, Wire.WEBSOCKET_BATCH, Wire.SSE])
@pytest.mark.parametrize("interval_ms", [0, 300, 2000])
@pytest.mark.parametrize("seed", range(4))
def test_a_client_resumes_from_any_id_and_loses_and_doubles_nothing(seed: int, interval_ms: int, wire: Wire) -> None:
    rng = random.Random(seed)
    rig = HubRig()
    names = ["price.A", "price.B", "price.C", "ohlcv.A.1m", "ohlcv.B.1m"]
    for name in names[:3]:
        rig.publish(name)
    rig.listener("price.*", interval_ms=interval_ms)  # holds the same values in a group of its own
    mixed = rig.client()
    mixed.subscribe("price.A", interval_ms=1000)
    mixed.subscribe("price.B")
    browser = Browser(rig, wire, interval_ms, names)
    browser.read()
    logs: list[int] = []
    newest: dict[str, int] = {}
    for _ in range(120):
        name = rng.choice(names)
        said = seq(rig.publish(name, log=name.startswith("ohlcv")))
        newest[name] = said
        if name.startswith("ohlcv"):
            logs.append(said)
        if rng.random() < 0.5:
            rig.clock.advance(rng.choice((0.01, 0.1, 0.4)))
        if rng.random() < 0.3:
            browser.lose_connection(rng.randrange(6))
    rig.pass_time(40)
    browser.read()
    assert browser.logs == logs
    for name, event in newest.items():
        assert browser.values[name] >= event


@pytest.mark.parametrize("how", ["snapshot", "another subscription"])
@pytest.mark.parametrize("companions", [0, 2])
def test_what_is_held_comes_before_an_answer_that_has_a_position(how: str, companions: int) -> None:
    rig = HubRig()
    client = rig.listener("price.A", "price.B", interval_ms=60_000)
    others = [rig.listener("price.A", "price.B", interval_ms=60_000) for _ in range(companions)]
    held = [rig.publish("price.A"), rig.publish("price.B")]
    rig.publish("news")
    rig.clock.turn()
    assert client.take() == []
    if how == "snapshot":
        rig.hub.members.let_out(client.outbox)
    else:
        client.subscribe("news", interval_ms=60_000)
    assert client.outline()[:2] == held
    later = rig.publish("price.A")
    rig.clock.advance(61)
    assert client.outline() == [later]
    assert all(other.outline() == [held[1], later] for other in others)


def test_a_value_that_one_interval_alone_holds_is_not_sent_again_on_resume() -> None:
    rig = HubRig()
    client = rig.listener("price.A", "price.B", interval_ms=1000)
    rig.publish("price.A")
    newest = rig.publish("price.B")
    rig.clock.advance(1.0)
    assert client.outline()[-1] == newest
    rig.hub.members.leave(client.outbox)
    again = rig.client()
    again.subscribe("price.A", "price.B", since=newest, interval_ms=1000)
    assert again.outline() == ["subscribed", "synced"]


def test_the_value_that_later_ids_have_overtaken_is_sent_whichever_interval_comes_back_first() -> None:
    rig = HubRig()
    client = rig.client()
    client.subscribe("price.A", interval_ms=60_000)
    client.subscribe("price.B")
    rig.publish("price.A", "held")
    cursor = rig.publish("price.B")
    rig.clock.turn()
    assert client.outline()[-1] == cursor
    rig.hub.members.leave(client.outbox)
    again = rig.client()
    again.subscribe("price.A", since=cursor, interval_ms=60_000)
    again.subscribe("price.B", since=cursor)
    values = [message for message in again.take() if message["type"] == "update"]
    assert [(value["topic"], value["id"], value["data"]) for value in values] == [
        ("price.A", cursor, {"value": "held"})
    ]

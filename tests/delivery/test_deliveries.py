"""Tests of joined writes: as far as a budget goes, in order, and to every member once."""

from stream_server.delivery.deliveries import ALL_WRITES, BYTES_A_WRITE, Deliveries, Delivery
from stream_server.delivery.group import Group
from stream_server.delivery.groups import Groups
from stream_server.delivery.outbox import Outbox
from stream_server.wire import messages
from stream_server.wire.messages import Wire
from tests.fakes.pipe import FakePipe, HubRig


class Rig:
    """Deliveries of a hub to groups of clients that a test makes."""

    def __init__(self) -> None:
        hub = HubRig().hub
        self.deliveries = Deliveries(hub.laggards, hub.faults)
        self.groups = Groups(lambda group, interval_ms: None)

    def group(self, topic: str, size: int) -> tuple[Group, list[FakePipe]]:
        """Return a group with so many clients that keep up, and their pipes."""
        group = self.groups.of(Wire.WEBSOCKET, {topic: 0}, 1000.0)
        pipes = [FakePipe() for _ in range(size)]
        for pipe in pipes:
            outbox = Outbox(pipe, Wire.WEBSOCKET)
            pipe.watched_by(outbox)
            group.join(outbox, 0)
        return group, pipes


def delivery_to(group: Group, number: int, payload_bytes: int = 0) -> Delivery:
    frames = [messages.control("pos", {"id": f"e1-{number}", "pad": "x" * payload_bytes})]
    payload = group.key.wire.payload(frames)
    return Delivery(group, frames, payload, list(group.members), group.take_newcomers())


def numbers(pipe: FakePipe) -> list[int]:
    return [int(str(message["id"])[3:]) for message in pipe.messages]


def test_a_delivery_goes_as_far_as_its_budget_and_then_on_in_order() -> None:
    rig = Rig()
    group, pipes = rig.group("price.A", 5)
    assert rig.deliveries.start(delivery_to(group, 1), 3) == 3
    assert [pipe.writes for pipe in pipes] == [1, 1, 1, 0, 0]
    assert rig.deliveries.go_on(10) == 8
    assert [numbers(pipe) for pipe in pipes] == [[1]] * 5
    assert not rig.deliveries.unfinished
    assert rig.deliveries.go_on(10) == 10


def test_two_unfinished_deliveries_reach_everybody_in_order() -> None:
    rig = Rig()
    (first, some), (second, others) = rig.group("price.A", 4), rig.group("price.B", 4)
    for group in (first, second):
        rig.deliveries.start(delivery_to(group, 1), 1)
    rig.deliveries.start(delivery_to(first, 2), 1)
    while rig.deliveries.unfinished:
        rig.deliveries.go_on(1)
    assert [numbers(pipe) for pipe in others] == [[1]] * 4
    assert [sorted(numbers(pipe)) for pipe in some] == [[1, 2]] * 4


def test_a_large_payload_counts_for_more_and_still_moves() -> None:
    rig = Rig()
    group, pipes = rig.group("price.A", 3)
    assert rig.deliveries.start(delivery_to(group, 1, payload_bytes=3 * BYTES_A_WRITE), 2) == 4
    assert [pipe.writes for pipe in pipes] == [1, 0, 0]


def test_finishing_a_group_leaves_the_others_unfinished() -> None:
    rig = Rig()
    (first, some), (second, others) = rig.group("price.A", 3), rig.group("price.B", 3)
    for group in (first, second):
        rig.deliveries.start(delivery_to(group, 1), 1)
    rig.deliveries.finish(second)
    assert [pipe.writes for pipe in others] == [1, 1, 1]
    assert [pipe.writes for pipe in some] == [1, 0, 0]
    assert [each.group for each in rig.deliveries.unfinished] == [first]


def test_a_client_that_does_not_keep_up_is_returned_and_not_written_to() -> None:
    rig = Rig()
    group, pipes = rig.group("price.A", 3)
    slow = list(group.members)[1]
    slow.clogged()
    assert rig.deliveries.write(list(group.members), b"x") == [slow]
    assert [pipe.writes for pipe in pipes] == [1, 0, 1]


def test_all_writes_finish_any_delivery() -> None:
    rig = Rig()
    group, pipes = rig.group("price.A", 50)
    rig.deliveries.start(delivery_to(group, 1, payload_bytes=BYTES_A_WRITE), ALL_WRITES)
    assert {pipe.writes for pipe in pipes} == {1}
    assert not rig.deliveries.unfinished

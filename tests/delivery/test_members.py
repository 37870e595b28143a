"""Tests of membership: clients join, move between groups and leave. Faults are in `test_delivery_faults.py`."""

import pytest

from stream_server.wire import messages
from stream_server.wire.messages import Wire
from stream_server.wire.refusals import NO_PONG, SHUTTING_DOWN, TOO_SLOW, Closing
from tests.fakes.pipe import HubRig


def test_clients_with_the_same_selection_are_in_one_group_until_one_of_them_changes_it() -> None:
    rig = HubRig()
    first, second = rig.listener("price.A"), rig.listener("price.A")
    (group,) = rig.hub.groups.by_key.values()
    assert set(group.members) == {first.outbox, second.outbox}
    second.subscribe("price.B")
    assert {len(each.members) for each in rig.hub.groups.by_key.values()} == {1}
    assert rig.hub.members.selection_of(second.outbox) == {"price.A": 0, "price.B": 0}


def test_a_client_that_joins_twice_is_counted_once() -> None:
    rig = HubRig()
    client = rig.listener("price.A")
    rig.hub.members.join(client.outbox)
    assert rig.hub.members.selection_of(client.outbox) == {"price.A": 0}
    assert len(rig.hub.members.by_outbox) == 1


def test_a_client_that_was_closed_does_not_join_again() -> None:
    rig = HubRig()
    client = rig.listener("price.A")
    rig.hub.members.close(client.outbox, NO_PONG)
    rig.hub.members.join(client.outbox)
    assert not rig.hub.members.by_outbox


def test_what_a_client_selected_is_unwanted_once_it_has_left_and_its_group_is_gone() -> None:
    rig = HubRig()
    client = rig.listener("price.A", "price.*")
    for _ in range(2):
        rig.hub.members.leave(client.outbox)
    assert list(rig.hub.interest.idle_since) == ["price.A"]
    assert not rig.hub.groups.by_key


def test_a_changed_selection_sends_first_what_the_old_group_still_held() -> None:
    rig = HubRig()
    client = rig.listener("price.A", interval_ms=60_000)
    said = rig.publish("price.A")
    rig.clock.turn()
    assert client.outline() == []
    client.subscribe("price.B")
    assert client.outline() == [said, "subscribed", "synced"]


@pytest.mark.parametrize("wire", [Wire.WEBSOCKET_BATCH, Wire.WEBSOCKET_DEFLATE])
def test_what_was_published_before_a_change_of_form_still_goes_in_the_old_one(wire: Wire) -> None:
    rig = HubRig()
    client = rig.listener("price.A")
    before = rig.publish("price.A")
    rig.hub.members.rewire(client.outbox, wire)
    after = rig.publish("price.A")
    rig.clock.turn()
    assert client.outline() == [before, after]
    (group,) = rig.hub.groups.by_key.values()
    assert group.key.wire is client.outbox.wire is wire


def test_a_message_to_one_client_comes_after_all_that_was_published_before() -> None:
    rig = HubRig()
    client, other = rig.listener("price.A"), rig.listener("price.A")
    said = rig.publish("price.A")
    rig.hub.members.send_to(client.outbox, [messages.control("pong", {})])
    assert client.outline() == [said, "pong"]
    rig.clock.turn()
    assert (client.outline(), other.outline()) == ([], [said])


def test_what_waits_for_a_beat_is_let_out_once_when_a_client_gets_a_position() -> None:
    rig = HubRig()
    client, other = rig.listener("price.A", interval_ms=1000), rig.listener("price.A", interval_ms=1000)
    said = rig.publish("price.A")
    rig.hub.members.let_out(client.outbox)
    assert (client.outline(), other.outline()) == ([said], [])
    rig.clock.advance(1.0)
    assert (client.outline(), other.outline()) == ([], [said])


@pytest.mark.parametrize(("closing", "cut"), [(TOO_SLOW, 1), (SHUTTING_DOWN, 0)])
def test_a_connection_is_closed_once_with_a_goodbye_and_counted_if_it_was_too_slow(closing: Closing, cut: int) -> None:
    rig = HubRig()
    client = rig.listener("price.A")
    for _ in range(2):
        rig.hub.members.close(client.outbox, closing)
    assert client.outline() == ["goodbye"]
    assert rig.hub.members.cut == cut


def test_a_dismissed_client_gets_what_is_held_for_its_beat_before_the_goodbye() -> None:
    rig = HubRig()
    client = rig.listener("price.A", interval_ms=60_000)
    said = rig.publish("price.A")
    rig.hub.members.dismiss(client.outbox, SHUTTING_DOWN, 100)
    assert client.outline() == [said, "goodbye"]


def test_nothing_is_written_to_a_connection_after_its_goodbye() -> None:
    rig = HubRig()
    client = rig.listener("price.A")
    rig.hub.members.close(client.outbox, NO_PONG)
    client.take()
    writes = client.pipe.writes
    rig.hub.members.write(client.outbox, messages.PING)
    rig.hub.members.send_to(client.outbox, [messages.control("pong", {})])
    assert client.pipe.writes == writes

"""Tests of the patience with lagging clients, which is measured only while a client owes something."""

import pytest

from stream_server.wire.refusals import SHUTTING_DOWN
from tests.fakes.pipe import HubClient, HubRig


def quick(rig: HubRig, client: HubClient, seconds: float, step_s: float = 0.1) -> None:
    """Let time pass for a client that reads all at once, and answers its pings."""
    for _ in range(round(seconds / step_s)):
        rig.clock.advance(step_s)
        rig.hub.tick()
        rig.hub.members.find_stuck()
        if client.pipe.reader.pings:
            client.pipe.reader.pings = 0
            rig.hub.members.answered(client.outbox)


@pytest.mark.parametrize("quiet_s", [1.0, 5.0, 28.0, 29.9, 45.0, 300.0])
def test_a_paced_client_that_reads_everything_is_never_cut_however_long_it_was_quiet(quiet_s: float) -> None:
    rig = HubRig()
    client = rig.listener("price.A", "ohlcv.A.1m")
    rig.hub.members.pace(client.outbox)
    ids = []
    for _ in range(3):
        ids.append(rig.publish("ohlcv.A.1m", log=True))
        quick(rig, client, quiet_s)
    assert client.pipe.closing is None
    assert [each for each in client.outline() if each in ids] == ids


@pytest.mark.parametrize("quiet_s", [0.0, 40.0])
def test_a_paced_client_that_reads_nothing_is_cut_when_stall_s_is_over_and_not_before(quiet_s: float) -> None:
    rig = HubRig()
    client = rig.listener("ohlcv.A.1m")
    rig.hub.members.pace(client.outbox)
    quick(rig, client, quiet_s)
    rig.publish("ohlcv.A.1m", log=True)
    rig.clock.advance(27.5)
    assert client.pipe.closing is None
    rig.clock.advance(3.0)
    assert client.pipe.close_code() == 4008


def test_a_lagging_client_that_takes_a_little_of_what_it_owes_now_and_then_is_kept_after_a_quiet_time() -> None:
    rig = HubRig()
    client = rig.listener("ohlcv.A.1m")
    quick(rig, client, 100)
    client.pipe.clog()
    said = rig.publish("ohlcv.A.1m", log=True)
    for _ in range(6):
        rig.clock.advance(20.0)
        client.pipe.drain(1000)
    client.pipe.drain()
    rig.clock.advance(1.0)
    assert client.pipe.closing is None
    assert said in client.outline()


@pytest.mark.parametrize("quiet_s", [0.5, 2.0, 60.0])
def test_a_quiet_paced_client_gets_what_is_held_back_for_it_before_it_is_dismissed(quiet_s: float) -> None:
    rig = HubRig()
    client = rig.listener("price.A", "ohlcv.A.1m")
    rig.hub.members.pace(client.outbox)
    rig.publish("price.A")
    quick(rig, client, quiet_s)
    client.take()
    said = rig.publish("ohlcv.A.1m", log=True)
    rig.hub.members.dismiss(client.outbox, SHUTTING_DOWN, 1000)
    assert client.outline() == [said, "goodbye"]


def test_a_client_that_fell_behind_after_a_standstill_is_not_forgiven_for_it() -> None:
    rig = HubRig()
    early = rig.listener("ohlcv.A.1m")
    early.pipe.clog()
    rig.publish("ohlcv.A.1m", log=True)
    rig.clock.turn()
    rig.clock.seconds += 11.0  # a standstill: the timer has not fired yet
    late = rig.listener("ohlcv.A.1m")
    late.pipe.clog()
    rig.publish("ohlcv.A.1m", log=True)
    rig.clock.turn()
    rig.clock.advance(29.0)
    assert late.pipe.close_code() == 4008

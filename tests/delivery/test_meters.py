"""Tests of what `/metrics` counts and times: each message once, by its transport, from its publication on."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from stream_server.delivery.meters import Histogram, Requests
from stream_server.delivery.rounds import WRITES_A_TURN
from stream_server.observing import loop_monitor
from stream_server.wire.messages import Wire
from tests.clients import websocket
from tests.fakes.pipe import FakePipe, HubRig
from tests.harness import running, until


def written(pipe: FakePipe) -> Callable[[], int]:
    """Counts the bytes that a pipe is given from now on."""
    sizes: list[int] = []
    write = pipe.write

    def counting(data: bytes) -> None:
        sizes.append(len(data))
        write(data)

    pipe.write = counting  # type: ignore[method-assign]
    if pipe.watcher is not None:
        pipe.watcher.write = counting
    return lambda: sum(sizes)


def test_a_histogram_counts_up_to_and_with_each_bound() -> None:
    histogram = Histogram((0.1, 1.0))
    for value, times in ((0.1, 1), (0.2, 3), (5.0, 1)):
        histogram.observe(value, times)
    assert histogram.buckets() == [("0.1", 1.0), ("1.0", 4.0), ("+Inf", 5.0)]
    assert histogram.count == 5
    assert histogram.sum == pytest.approx(5.7)


def test_a_method_or_path_that_a_client_makes_up_is_no_label() -> None:
    requests = Requests()
    for number in range(100):
        requests.add(f"MADE-UP-{number}", "unknown", 405, 0.001)
    assert requests.counts == {("other", "unknown", 405): 100}


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("same", [False, True], ids=["each its own", "all the same"])
def test_each_message_is_counted_once_with_its_bytes_whatever_way_it_takes(same: bool, watched: bool) -> None:
    rig = HubRig()
    clients = [rig.client(watched=watched) for _ in range(3)]
    sizes = [written(client.pipe) for client in clients]
    streams = [rig.client(Wire.SSE) for _ in range(2)]
    sizes_sse = [written(stream.pipe) for stream in streams]
    for number, client in enumerate([*clients, *streams]):
        client.subscribe("price.*", *([] if same else [f"ohlcv.A{number}.1m"]))
    for _ in range(4):
        rig.publish("price.A")
        rig.publish("price.B")
        rig.clock.turn()
    for kind, members, counted in (("websocket", clients, sizes), ("sse", streams, sizes_sse)):
        tally = rig.hub.sent[kind]
        assert tally.messages == sum(len(client.pipe.messages) for client in members)
        assert tally.bytes == sum(size() for size in counted)
        assert tally.waited.count == 8 * len(members), "answers are not timed"


def test_a_message_waits_from_its_publication_until_it_is_handed_over() -> None:
    rig = HubRig()
    rig.listener("price.*")
    rig.publish("price.A")
    rig.clock.seconds += 0.003
    rig.publish("price.B")
    rig.clock.turn()
    assert rig.hub.sent["websocket"].waited.buckets()[3:5] == [("0.005", 2.0), ("0.01", 2.0)]
    assert rig.hub.sent["websocket"].waited.sum == pytest.approx(0.006)
    assert rig.hub.sent["sse"].waited.count == 0


def test_a_client_late_in_a_round_of_many_has_waited_longer() -> None:
    rig = HubRig()
    for _ in range(WRITES_A_TURN + 10):
        rig.listener("price.A")
    rig.publish("price.A")
    rig.clock.turn()
    rig.publish("price.A")
    rig.clock.seconds += 0.2
    rig.clock.turn()
    rig.clock.seconds += 0.2
    rig.clock.turn()
    rig.clock.turn()
    waited = rig.hub.sent["websocket"].waited
    within = dict(waited.buckets())
    assert waited.count == 2 * (WRITES_A_TURN + 10)
    assert within["0.0005"] == WRITES_A_TURN
    assert within["0.25"] == 2 * WRITES_A_TURN, "the last ten of the first round, and most of the second"
    assert within["0.5"] == waited.count
    assert waited.sum == pytest.approx(WRITES_A_TURN * 0.2 + 20 * 0.4)


def test_a_throttled_value_waits_from_its_beat() -> None:
    rig = HubRig()
    listener = rig.listener("price.A", interval_ms=1000)
    rig.publish("price.A")
    rig.clock.advance(2)
    assert listener.pipe.of_type("update")
    assert rig.hub.sent["websocket"].waited.buckets()[0] == ("0.0005", 1.0)


def test_a_client_that_has_a_part_already_is_counted_for_the_rest_alone() -> None:
    rig = HubRig()
    first = rig.client()
    first.subscribe("price.*", interval_ms=1000)
    rig.publish("price.A")
    rig.publish("price.B")
    late = rig.client()
    late.subscribe("price.*", interval_ms=1000)
    assert len(rig.hub.groups.by_key) == 1
    rig.publish("price.A")
    rig.clock.advance(2)
    assert (len(first.pipe.of_type("update")), len(late.pipe.of_type("update"))) == (2, 3)
    assert rig.hub.sent["websocket"].messages == len(first.pipe.messages) + len(late.pipe.messages)


def test_what_is_held_counts_when_it_is_sent_and_not_as_late() -> None:
    rig = HubRig()
    listener = rig.listener("price.A")
    tally = rig.hub.sent["websocket"]
    before = tally.messages
    listener.pipe.clog()
    for _ in range(3):
        rig.publish("price.A")
        rig.clock.turn()
    assert (tally.messages, listener.outbox.held_messages) == (before, 1)
    listener.pipe.drain()
    rig.clock.advance(0.1)
    assert [each["type"] for each in listener.pipe.take()] == ["update", "conflated"]
    assert (tally.messages, listener.outbox.held_messages) == (before + 2, 0)
    assert tally.waited.count == 0


def test_resumes_and_gaps_are_counted_by_what_became_of_them() -> None:
    rig = HubRig(ring_events=2)
    start = rig.publish("news", log=True)
    rig.listener("news").subscribe("price.*", since=start)
    for _ in range(4):
        rig.publish("news", log=True)
    for since in (start, "other-1", "nonsense", None):
        client = rig.client()
        client.subscribe("news", since=since)
    rig.hub.gap("ohlcv.A.1m", 1, 2)
    assert rig.hub.resumes == {"resumed": 1, "evicted": 1, "epoch": 1, "bad_cursor": 1}
    assert rig.hub.gaps == {"evicted": 1, "epoch": 1, "upstream": 1}


async def test_connections_are_counted_by_how_they_ended(tmp_path: Path) -> None:
    async with running(None, tmp_path) as service:
        ended = service.context.clients.ended
        async with websocket(service, "topics=status") as client:
            await client.until("synced")
        await until(lambda: ended["websocket", None] == 1)
        async with websocket(service, "topics=status") as client:
            await client.connection.send("x" * 20_000)
            assert (await client.end())[1] == 1009
        await until(lambda: ended["websocket", 1009] == 1)
        async with websocket(service, "topics=status") as client:
            for _ in range(60):
                await client.send(op="ping")
            assert (await client.end())[1] == 4013
        await until(lambda: ended["websocket", 4013] == 1)
        async with service.http.get(f"{service.url}/sse?topics=status") as stream:
            await stream.content.readline()
        await until(lambda: ended["sse", None] == 1)
    assert service.context.clients.count() == {"websocket": 0, "sse": 0}
    assert sum(ended.values()) == service.context.clients.accepted == 4


async def test_a_blocked_loop_and_a_fallen_one_show_in_the_metrics(tmp_path: Path) -> None:
    async with running(None, tmp_path) as service:
        service.context.loop_monitor.note(loop_monitor.STOOD_STILL_S + 1)
        service.context.background.crashes["heartbeat"] = 1
        service.context.background.down.add("heartbeat")
        async with service.http.get(f"{service.url}/metrics") as answer:
            text = await answer.text()
        status, _ = await service.get("/health/ready")
    assert status == 503
    assert "stream_server_ready 0.0" in text
    assert "stream_server_paused_seconds_total 2.0" in text
    assert "stream_server_loop_lag_max_seconds 2.0" in text
    assert 'stream_server_background_crashes_total{task="heartbeat"} 1.0' in text
    assert "stream_server_background_down 1.0" in text
    lags = {bound: float(count) for bound, count in re.findall(r'loop_lag_seconds_bucket{le="(.*)"} (.*)', text)}
    assert lags["2.5"] - lags["1.0"] == 1

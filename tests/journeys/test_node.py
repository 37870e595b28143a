"""Tests of machine faults: signals, pauses, a blocked loop, full disks, few descriptors, clock jumps, crashed tasks.

The command's own tests are in `test_process.py`.
"""

import asyncio
import contextlib
import errno
import fcntl
import json
import logging
import os
import random
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import aiohttp
import pytest

from feeds.model import Event
from orchestrator.clock import SystemClock
from orchestrator.persistence import check_writable
from stream_server import app
from stream_server.connections import descriptors
from stream_server.delivery import clients
from stream_server.delivery.clients import Clients
from stream_server.delivery.hub import Hub, HubPolicy
from stream_server.delivery.outbox import Outbox
from stream_server.observing import logs, loop_monitor, memory_limit
from stream_server.observing.loop_monitor import LoopMonitor
from stream_server.wire.messages import Wire
from stream_server.wire.refusals import SHUTTING_DOWN, Closing
from tests.clients import last_ts, serving, updates, websocket
from tests.fakes.binance import FakeBinance, synthetic_pairs
from tests.fakes.clock import ManualClock
from tests.harness import running, until
from tests.journeys.test_process import MODULE, NOWHERE, Started, connected, environment, never_reading_client, started

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux' limits and signals")


def live_settings(exchange: FakeBinance) -> dict[str, str]:
    return {"BINANCE_WS_URLS": exchange.ws_url, "BINANCE_REST_URLS": exchange.rest_url, "OHLCV_SYMBOLS": "none"}


async def server_report(service: Started) -> dict[str, object]:
    data = (await service.get("/api/status"))[1]["data"]
    assert isinstance(data, dict)
    report = data["server"]
    assert isinstance(report, dict)
    return report


class FakeTransport:
    """A transport that accepts everything, or keeps everything in its buffer."""

    def __init__(self, stuck: bool = True) -> None:
        self.stuck = stuck
        self.size = 0
        self.written: list[bytes] = []
        self.codes: list[int] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)
        self.size += len(data) if self.stuck else 0

    def buffered(self) -> int:
        return self.size

    def close(self, closing: Closing, stuck_s: float) -> None:
        self.codes.append(closing.code)

    def abort(self) -> None: ...


class NoInterest:
    def want(self, topic: str) -> None: ...

    def drop(self, topic: str) -> bool:
        return False

    def is_full(self) -> bool:
        return False

    def charge(self, topics: Iterable[str], account: str) -> list[str]:
        return []


def hub_of(clock: ManualClock, **bounds: float) -> Hub:
    return Hub("e", clock, clock, NoInterest(), HubPolicy(lambda topic: 60.0, **bounds))  # type: ignore[arg-type]


def publish(hub: Hub, topic: str, size: int = 1, log: bool = False) -> None:
    hub.publish(Event(topic, 1, 1, "test", {"text": "x" * size}, log=log))


def joined(hub: Hub, topic: str, plug: FakeTransport) -> Outbox:
    outbox = Outbox(plug, Wire.WEBSOCKET)
    hub.members.join(outbox)
    hub.subscribe(outbox, [topic])
    return outbox


# --- ends


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_sigterm_with_200_clients_of_which_20_never_read_loses_no_event_and_ends_in_time(
    tmp_path: Path,
) -> None:
    async with FakeBinance(synthetic_pairs(300)) as exchange, contextlib.AsyncExitStack() as stack:
        service = await stack.enter_async_context(started(tmp_path, **live_settings(exchange), STALL_S="3600"))
        await exchange.until(lambda: exchange.subscribed("!miniTicker@arr"))
        readers = [await stack.enter_async_context(connected(service, "topics=price.BTC")) for _ in range(90)]
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        streams = [await http.get(f"{service.url}/sse?topics=price.BTC") for _ in range(90)]
        plugs = [
            never_reading_client(service, path)
            for path in ("/ws?topics=price.*", "/sse?topics=price.*")
            for _ in range(10)
        ]
        try:
            deadline = time.monotonic() + 30
            while True:
                exchange.advance(5)
                data = (await service.get("/api/status"))[1]["data"]
                if data["clients"]["behind"] >= 20:  # type: ignore[index]
                    break
                assert time.monotonic() < deadline
            newest = (await service.get("/api/snapshot?topics=price.BTC"))[1]["data"][0]["id"]  # type: ignore[index]
            stopping = asyncio.create_task(service.stop())
            ends = await asyncio.gather(*(client.end() for client in readers))
            texts = await asyncio.gather(*(stream.text() for stream in streams))
            code, took_s = await stopping
        finally:
            for plug in plugs:
                plug.close()
    assert code == 0
    assert took_s < 60, "those that never read would stay for an hour"
    assert {end for _, end in ends} == {4001}
    streams_received = [received for received, _ in ends]
    streams_received += [
        [json.loads(line[5:]) for line in text.splitlines() if line.startswith("data:")] for text in texts
    ]
    assert {each[-1]["type"] for each in streams_received} == {"goodbye"}
    assert len({each[-1]["after_ms"] for each in streams_received}) > 100
    # What the exchange sent last may have been on its way when the snapshot was taken: then all of them have that, too.
    (last,) = {updates(each)[-1]["id"] for each in streams_received}
    assert int(last.split("-")[1]) >= int(newest.split("-")[1])
    assert service.events()[-1] == "stopped"


def test_a_dismissed_client_gets_its_held_back_updates_before_its_goodbye() -> None:
    clock = ManualClock()
    hub = hub_of(clock)
    slow, stuck, throttled = FakeTransport(), FakeTransport(), FakeTransport(stuck=False)
    outboxes = {plug: joined(hub, "price.A", plug) for plug in (slow, stuck)}
    outboxes[throttled] = Outbox(throttled, Wire.WEBSOCKET)
    hub.members.join(outboxes[throttled])
    hub.subscribe(outboxes[throttled], ["price.A"], interval_ms=60_000)
    for _ in range(3):
        publish(hub, "price.A", 100_000)
        clock.advance(0.1)
    clock.advance(5)
    slow.size -= 1000
    clock.advance(0.1)
    counts = [len(plug.written) for plug in outboxes]
    for outbox in outboxes.values():
        hub.members.dismiss(outbox, SHUTTING_DOWN, 1000)
    rest = [b"".join(plug.written[count:]) for plug, count in zip(outboxes, counts, strict=True)]
    assert [hub.position.encode() in each for each in rest] == [True, False, True]
    assert all(b"goodbye" in each for each in rest)
    assert rest[0].index(hub.position.encode()) < rest[0].index(b"goodbye")


class StuckTransport(FakeTransport):
    """A transport that never closes by itself."""

    aborted = 0

    def abort(self) -> None:
        self.aborted += 1


async def test_a_client_that_does_not_leave_in_time_is_aborted() -> None:
    clock = ManualClock()
    hub = hub_of(clock)
    registry = Clients(hub, clock, random.Random(1), 10, 20.0)
    plug = StuckTransport(stuck=False)
    outbox = Outbox(plug, Wire.WEBSOCKET)
    hub.members.join(outbox)
    hub.subscribe(outbox, ["price.A"], interval_ms=60_000)
    registry.join(outbox)
    for _ in range(2):
        publish(hub, "price.A")
        clock.turn()
    assert hub.position.encode() not in plug.written[-1]
    leaving = asyncio.create_task(registry.dismiss(within_s=4.0))
    await until(lambda: plug.codes)
    clock.advance(3.9)
    assert plug.aborted == 0
    clock.advance(0.2)
    await leaving
    assert (plug.codes, plug.aborted) == ([4001], 1)
    assert hub.position.encode() in b"".join(plug.written)


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_while_draining_probes_report_it_and_new_clients_are_refused(tmp_path: Path) -> None:
    async with started(tmp_path, SHUTDOWN_S="10") as service:
        plug = never_reading_client(service, "/ws?topics=status")
        await _until_clients(service, 1)
        service.process.send_signal(signal.SIGTERM)
        await until(lambda: "stopping" in service.events())
        ready, body = await service.get("/health/ready")
        refused, _ = await service.get("/sse?topics=status")
        await service.process.wait()
        plug.close()
    assert (ready, body["status"]) == (503, "draining")
    assert refused == 503


async def _until_clients(service: Started, count: int) -> None:
    deadline = time.monotonic() + 30
    while (await service.get("/api/status"))[1]["data"]["clients"]["websocket"] < count:  # type: ignore[index]
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_after_a_kill_a_client_that_resumes_gets_reason_epoch_and_a_full_snapshot(
    tmp_path: Path,
) -> None:
    async with FakeBinance() as exchange:
        async with started(tmp_path, **live_settings(exchange)) as service:
            await exchange.until(lambda: exchange.subscribed("!miniTicker@arr"))
            async with connected(service, "topics=price.BTC") as client:
                exchange.advance(1)
                position = (await client.one("update", topic="price.BTC"))["id"]
            assert (await service.stop(signal.SIGKILL))[0] == -signal.SIGKILL
        async with started(tmp_path, **live_settings(exchange)) as service:
            await exchange.until(lambda: exchange.subscribed("!miniTicker@arr"))
            exchange.advance(1)
            async with connected(service, f"topics=price.BTC&since={position}") as client:
                subscribed = await client.one("subscribed")
                await client.one("update", topic="price.BTC")
    assert (subscribed["resumed"], subscribed["reason"]) == (False, "epoch")


# --- pauses and a blocked loop


@linux
@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_after_a_pause_longer_than_the_ttl_stale_is_the_first_message(tmp_path: Path) -> None:
    async with FakeBinance() as exchange, contextlib.AsyncExitStack() as stack:
        settings = live_settings(exchange) | {"SNAPSHOT_TTL_S": "1", "HEARTBEAT_S": "1"}
        service = await stack.enter_async_context(started(tmp_path, **settings))
        await exchange.until(lambda: exchange.subscribed("!miniTicker@arr"))
        async with connected(service, "topics=price.BTC,price.ETH") as client:
            exchange.advance(1)
            await client.one("update", topic="price.ETH", ts=exchange.now_ms)
            await client.so_far()
            service.process.send_signal(signal.SIGSTOP)
            exchange.advance(1)  # stays in the socket until the service goes on
            await asyncio.sleep(2.5)
            service.process.send_signal(signal.SIGCONT)
            received = await client.until("update", topic="price.ETH", ts=exchange.now_ms)
        report = await server_report(service)
        ready, body = await service.get("/health/ready")
    by_topic = [(each["type"], each["topic"]) for each in received if "topic" in each]
    assert {by_topic[0], by_topic[1]} == {("stale", "price.BTC"), ("stale", "price.ETH")}, by_topic
    assert ("fresh", "price.BTC") in by_topic[2:]
    assert isinstance(report["paused_s"], float)
    assert 2 < report["paused_s"] < 60
    assert (ready, body["status"]) == (503, "troubled")
    assert "stood still" in str(body["trouble"])
    assert "stood_still" in service.events()


async def test_a_blocked_loop_is_reported_and_closes_no_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "PONG_WITHIN_S", 1.5)
    async with running(None, tmp_path, HEARTBEAT_S="1") as service, websocket(service, "topics=status") as client:
        await client.until("synced")
        (connection,) = service.context.clients.connected
        connection.pinged_at = service.context.clock.now()
        time.sleep(1.6)  # noqa: ASYNC251 - the fault under test
        await until(lambda: service.context.loop_monitor.paused_s > 1)
        await asyncio.sleep(0.3)  # one heartbeat
        assert connection.pinged_at is not None
        await client.connection.pong()
        await client.so_far()
        waiting = [each for each in service.context.clients.connected if each.pinged_at is not None]
        assert not waiting
        _, status = await service.get("/api/status")
        ready, _ = await service.get("/health/ready")
        report = service.context.loop_monitor.report()
        assert service.context.clients.connected
    assert ready == 503
    lag_ms = report["loop_lag_ms"]
    assert isinstance(lag_ms, dict)
    assert lag_ms["max"] > 1000
    assert status["data"]["server"]["loop_lag_ms"].keys() == {"p50", "p99", "max"}  # type: ignore[index]


async def test_readiness_returns_after_a_pause_and_lag_is_reported_by_percentile() -> None:
    clock = ManualClock()
    health = LoopMonitor(clock)
    for _ in range(98):
        health.note(0.001)
    health.note(0.5)
    assert health.trouble() is None
    assert health.report()["loop_lag_ms"] == {"p50": 1.0, "p99": 500.0, "max": 500.0}
    health.note(2.0)
    assert health.trouble() == "stood still for 2.0 s"
    clock.advance(loop_monitor.TROUBLE_S)
    assert health.trouble() is None


def test_a_pause_does_not_count_against_clients_that_were_behind() -> None:
    clock = ManualClock()
    hub = hub_of(clock, stall_s=30.0)
    plug = FakeTransport()
    joined(hub, "price.A", plug)
    publish(hub, "price.A", 100_000)
    clock.advance(0.1)
    publish(hub, "price.A")
    clock.turn()
    assert hub.lagging
    clock.seconds += 100  # nothing runs meanwhile
    clock.advance(0.05)
    assert plug.codes == []
    clock.advance(27)
    assert plug.codes == []
    clock.advance(2)
    assert plug.codes == [4008]


async def test_pongs_that_arrive_during_a_pause_count() -> None:
    clock = ManualClock()
    hub = hub_of(clock)
    registry = Clients(hub, clock, random.Random(1), 10, 20.0)
    plug = FakeTransport(stuck=False)
    client = registry.join(joined(hub, "price.A", plug))
    beating = asyncio.create_task(registry.heartbeat())
    for _ in range(21):
        await asyncio.sleep(0)
        clock.advance(1)
    await asyncio.sleep(0)
    assert client.pinged_at is not None
    clock.advance(60)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert plug.codes == []
    for _ in range(11):
        clock.advance(1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert plug.codes == [4012]
    beating.cancel()


# --- disks, descriptors, memory


def small_files_only() -> None:
    """Forbid writing files, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


@linux
@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_a_full_disk_loses_only_logs_and_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _each_child(monkeypatch, small_files_only)
    async with FakeBinance() as exchange, contextlib.AsyncExitStack() as stack:
        settings = live_settings(exchange) | {"LOG_DIR": "diaries", "STATE_DIR": "kept"}
        service = await stack.enter_async_context(started(tmp_path, **settings))
        await exchange.until(lambda: exchange.subscribed("!miniTicker@arr"))
        async with connected(service, "topics=price.BTC") as client:
            exchange.advance(1)
            await client.one("update", topic="price.BTC", ts=exchange.now_ms)
        await until(lambda: {"state_not_saved", "diary_not_written"} <= set(service.events()))
        code, _ = await service.stop()
    assert code == 0
    assert not [line for line in service.log if "Traceback" in str(line)]
    assert service.events().count("diary_not_written") <= 3, "once for each diary"


def _each_child(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Make child processes call `act` when they start."""
    start = asyncio.create_subprocess_exec

    async def starting(*arguments: str, **options: object) -> asyncio.subprocess.Process:
        return await start(*arguments, preexec_fn=act, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", starting)


@linux
@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_with_few_descriptors_new_clients_are_refused_and_connected_ones_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop: str
) -> None:
    _each_child(monkeypatch, lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200)))
    async with FakeBinance() as exchange, contextlib.AsyncExitStack() as stack:
        service = await stack.enter_async_context(started(tmp_path, **live_settings(exchange), STREAM_SERVER_LOOP=loop))
        await exchange.until(lambda: exchange.subscribed("!miniTicker@arr"))
        inside = await stack.enter_async_context(connected(service, "topics=price.BTC"))
        await inside.until("synced")
        plugs = []
        for _ in range(400):
            plug = socket.socket()
            plug.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                plug.connect(_address(service))
            plugs.append(plug)
        for _ in range(3):
            exchange.advance(1)
            await inside.one("update", topic="price.BTC", ts=exchange.now_ms)
        await until(lambda: "connections_capped" in service.events())
        open_ones = open_descriptors(service)
        for plug in plugs:
            plug.close()
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError, Exception):
                if (await service.get("/health/live"))[0] == 200:
                    break
            assert time.monotonic() < deadline, "the service did not recover"
        await service.stop()
    assert open_ones < 195, "no descriptors are left for anything else"
    # Lines about upstreams that do not answer grow with the time that the test takes.
    lines = [line for line in service.log if not str(line.get("logger", "")).startswith(("orchestrator", "feeds"))]
    assert len(lines) < 60, "too many log lines"
    assert not [line for line in service.log if "Traceback" in str(line)]


def open_descriptors(service: Started) -> int:
    return len(list(Path(f"/proc/{service.process.pid}/fd").iterdir()))


def _address(service: Started) -> tuple[str, int]:
    host, _, port = service.url.removeprefix("http://").partition(":")
    return host, int(port)


def test_the_connection_limit_follows_the_descriptor_limit_and_keeps_a_reserve() -> None:
    assert descriptors.connections_within(None, 10_000) == 10_000
    assert descriptors.connections_within(20_000, 10_000) == 10_000
    assert descriptors.connections_within(1024, 10_000) == 1024 - 192
    assert descriptors.connections_within(64, 10_000) == 32


def test_over_the_total_outbox_limit_the_clients_with_most_bytes_are_closed_first() -> None:
    clock = ManualClock()
    hub = hub_of(clock, outbox_total_bytes=700_000, outbox_bytes=10_000_000)
    plugs = {size: FakeTransport() for size in (100_000, 200_000, 300_000)}
    for size, plug in plugs.items():
        joined(hub, f"price.A{size}", plug)
        publish(hub, f"price.A{size}", 100_000)
    clock.advance(0.1)
    for size in plugs:
        publish(hub, f"price.A{size}", size)
    clock.advance(0.1)
    assert {size: plug.codes for size, plug in plugs.items()} == {100_000: [], 200_000: [], 300_000: [4008]}
    assert sum(outbox.held_bytes + outbox.pipe.buffered() for outbox in hub.lagging) <= 700_000


def test_clients_that_do_not_read_their_snapshots_are_closed_before_they_count_as_behind() -> None:
    clock = ManualClock()
    hub = hub_of(clock, outbox_total_bytes=1_000_000)
    publish(hub, "price.A", 300_000)
    plugs = [FakeTransport() for _ in range(5)]
    for plug in plugs:
        joined(hub, "price.A", plug)
    assert not hub.lagging
    hub.tick()
    assert sorted(plug.codes for plug in plugs) == [[], [], [], [4008], [4008]]


def test_the_state_folder_is_checked_at_the_start_and_a_full_disk_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_writable(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write there") as refused:
        check_writable(tmp_path / "file")
    assert refused.value.filename == str(tmp_path / "file")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    check_writable(tmp_path / "other")


def test_slow_clients_get_a_share_of_the_memory_limit_of_the_container(tmp_path: Path) -> None:
    membership, groups = tmp_path / "cgroup", tmp_path / "groups"
    assert memory_limit.limit_bytes(groups, membership) is None
    newer, older = groups / "system.slice" / "it", groups / "memory" / "box"
    newer.mkdir(parents=True)
    older.mkdir(parents=True)
    (newer / "memory.max").write_text("max\n")
    (older / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    membership.write_text("4:cpu,cpuacct:/\n3:memory:/box\n0::/system.slice/it\n")
    assert memory_limit.limit_bytes(groups, membership) is None
    (newer.parent / "memory.max").write_text("400000000\n")
    (older / "memory.limit_in_bytes").write_text("500000000\n")
    assert memory_limit.limit_bytes(groups, membership) == 400_000_000
    membership.write_text("0::/the/path/on/the/host\n")
    (groups / "memory.max").write_text("300000000\n")
    assert memory_limit.limit_bytes(groups, membership) == 300_000_000
    assert memory_limit.outboxes_within(512_000_000, 400_000_000) == 100_000_000
    assert memory_limit.outboxes_within(50_000_000, 400_000_000) == 50_000_000
    assert memory_limit.outboxes_within(512_000_000, None) == 512_000_000


@linux
def test_a_log_does_not_wait_for_a_reader_that_has_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    try:
        with os.fdopen(write, "w") as stream:
            lines = logs.NonBlockingStderr(stream)
            lines.setFormatter(logs.TextLines())
            for number in range(200):
                lines.handle(logging.makeLogRecord({"msg": f"line_{number}", "text": "x" * 100}))
            lines_read = os.read(read, 1 << 16).decode().splitlines()
            lines.handle(logging.makeLogRecord({"msg": "again"}))
            after = os.read(read, 1 << 16).decode().splitlines()
    finally:
        os.close(read)
    assert 0 < len(lines_read) < 200
    assert len(after) == 1
    assert after[0].endswith(f"again lost={200 - len(lines_read)}")


@linux
@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_full_or_closed_standard_streams_lose_only_log_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def spoil() -> None:
        os.dup2(os.open("/dev/full", os.O_WRONLY), 2)
        os.close(0)
        os.close(1)

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    values = environment(HOST="127.0.0.1", PORT=str(port), **NOWHERE)
    process = await asyncio.create_subprocess_exec(*MODULE, cwd=tmp_path, env=values, preexec_fn=spoil)
    service = Started(process, f"http://127.0.0.1:{port}", [])
    try:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                await service.until_ready()
                break
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        code, _ = await service.stop()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    assert code == 0


# --- clocks and crashes


async def test_a_wall_clock_that_jumps_by_an_hour_makes_nothing_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jump_ms = 0

    class Jumping(SystemClock):
        def wall_ms(self) -> int:
            return super().wall_ms() + jump_ms

    monkeypatch.setattr(app, "SystemClock", Jumping)
    async with FakeBinance() as exchange, serving(exchange, tmp_path, SNAPSHOT_TTL_S="30") as service:
        async with websocket(service, "topics=price.BTC") as client:
            await client.until("synced")
            for by_ms in (3_600_000, -3_600_000):
                jump_ms = by_ms
                await asyncio.sleep(0.3)
                exchange.advance(1)
                await until(lambda: last_ts(service, "price.BTC") == exchange.now_ms)
                received = await client.so_far()
                assert {each["type"] for each in received} == {"update"}
                assert updates(received)[-1]["ts"] == exchange.now_ms
            _, answer = await service.get("/api/market/price?symbols=BTC")
        assert answer["stale"] is False
        assert isinstance(answer["age_ms"], int)
        assert answer["age_ms"] >= 0
        assert service.context.loop_monitor.paused_s < 1800, "only a machine under load pauses here"


async def test_a_crashed_background_task_is_restarted_logged_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    faults = {"heartbeat": 1, "tick": 2}
    beat, tick = Clients.heartbeat, Hub.tick
    beats: list[bool] = []

    async def heartbeat(self: Clients) -> None:
        if faults["heartbeat"]:
            faults["heartbeat"] -= 1
            raise RuntimeError("a fault of ours")
        beats.append(True)
        await beat(self)

    def ticking(self: Hub) -> None:
        if faults["tick"]:
            faults["tick"] -= 1
            raise RuntimeError("a fault of ours")
        tick(self)

    monkeypatch.setattr(Clients, "heartbeat", heartbeat)
    monkeypatch.setattr(Hub, "tick", ticking)
    async with running(None, tmp_path, HEARTBEAT_S="1") as service:
        await until(lambda: service.context.background.down)
        ready, body = await service.get("/health/ready")
        assert (ready, body["status"] in ("starting", "troubled")) == (503, True)
        await until(lambda: service.context.background.crashes == {"heartbeat": 1, "housekeeping": 2})
        await until(lambda: not service.context.background.down)
        _, status = await service.get("/api/status")
        async with websocket(service, "topics=status") as client:
            await client.until("synced")
            await client.so_far()
        service.context.supervisor.kept.down.add("chains")
        ready, body = await service.get("/health/ready")
        assert (ready, body["trouble"]) == (503, "restarting chains")
    assert beats
    assert status["data"]["server"]["crashes"] == {"heartbeat": 1, "housekeeping": 2}  # type: ignore[index]
    crashed = [record for record in caplog.records if record.getMessage() == "background_crashed"]
    assert len(crashed) == 3
    assert all(record.exc_info for record in crashed)

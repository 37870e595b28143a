"""Tests of the command as a process: its command line, environment, signals and exit status."""

import asyncio
import contextlib
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import websockets

from stream_server import __version__
from tests.clients import WebSocketClient, updates, write_tape
from tests.conftest import LOOPS
from tests.fakes.binance import FakeBinance, synthetic_pairs
from tests.harness import ELSEWHERE, until
from tests.journeys.forked import Forked

ROOT = Path(__file__).resolve().parents[2]
MODULE = (sys.executable, "-m", "stream_server")
SCRIPT = (str(Path(sys.executable).with_name("stream-server")),)
NOWHERE = {**ELSEWHERE, "BINANCE_WS_URLS": "ws://127.0.0.1:9", "BINANCE_REST_URLS": "http://127.0.0.1:9"}


def environment(**settings: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    return kept | {"PYTHONPATH": str(ROOT)} | settings


def run(
    *arguments: str, cwd: Path, command: tuple[str, ...] = MODULE, settings: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [*command, *arguments], cwd=cwd, env=environment(**(settings or {})), capture_output=True, text=True, timeout=60
    )


@pytest.fixture(params=[MODULE, SCRIPT], ids=["module", "script"])
def command(request: pytest.FixtureRequest) -> tuple[str, ...]:
    chosen: tuple[str, ...] = request.param
    if not Path(chosen[0]).exists():
        pytest.skip("the package is not installed, so there is no console script")
    return chosen


@pytest.fixture(scope="session")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forked]:
    """A process that runs the command as `run` does, without importing it each time."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.journeys.forked"],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Forked(process, tmp_path_factory.mktemp("forked"))


# --- starting


def test_help_explains_options_settings_and_addresses(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = run("--help", command=command, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("--tape", "--record", "--speed", "--env-file", ".env.example", "/ws", "/sse", "7860"):
        assert word in done.stdout


def test_version_is_printed(tmp_path: Path, command: tuple[str, ...]) -> None:
    assert run("--version", command=command, cwd=tmp_path).stdout == f"stream-server {__version__}\n"


def test_every_bad_setting_is_named_at_once_and_the_status_is_2(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("HEARTBEAT_S=never\nPORT=1\n")
    done = run(
        cwd=tmp_path,
        settings={"PORT": "http", "LOG_LEVEL": "loud", "OHLCV_INTERVALS": "1m,7m", "BINANCE_WS_URLS": "https://x"},
    )
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 5
    for name in ("PORT", "LOG_LEVEL", "OHLCV_INTERVALS", "BINANCE_WS_URLS", "HEARTBEAT_S"):
        # A URL may contain a key, so its value is not repeated.
        mark = ":" if "URL" in name else "="
        assert sum(f"{name}{mark}" in line for line in lines) == 1, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--sped", "2"),
        ("--speed", "fast"),
        ("--speed", "-1"),
        ("--speed", "nan"),
        ("--speed", "inf"),
        ("--speed", "2"),
        ("--speed", "1", "--record", "b"),
        ("--tape", "a", "--record", "b"),
        ("now",),
    ],
    ids=" ".join,
)
def test_a_bad_command_line_is_explained_with_status_2(
    tmp_path: Path, forked: Forked, arguments: tuple[str, ...]
) -> None:
    done = forked.run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "usage: stream-server" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "No such file"),
        (b"", "not JSON"),
        (b"hello\n", "not JSON"),
        (b"[]\n", "neither"),
        (b'{"tape": 99}\n', "99"),
        (b"\x1f\x8bnot really gzip", "tape"),
    ],
    ids=["missing", "empty", "text", "list", "newer", "broken gzip"],
)
def test_a_file_that_is_not_a_tape_is_refused_in_one_line(
    tmp_path: Path, forked: Forked, content: bytes | None, expected: str
) -> None:
    tape = tmp_path / "the.tape"
    if content is not None:
        tape.write_bytes(content)
    done = forked.run("--tape", str(tape), cwd=tmp_path, settings={"PORT": "0"})
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "the.tape" in done.stderr
    assert expected in done.stderr


def test_a_recording_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path, forked: Forked) -> None:
    done = forked.run(
        "--record", str(tmp_path / "no" / "such" / "folder.tape"), cwd=tmp_path, settings={"PORT": "0", **NOWHERE}
    )
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "folder.tape" in done.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "*", "::", "[::]"])
def test_a_port_in_use_gives_one_clear_line_a_status_other_than_0_and_no_request_to_a_source(
    tmp_path: Path, forked: Forked, host: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as source:
        source.settimeout(0)
        port, url = taken.getsockname()[1], f"127.0.0.1:{source.getsockname()[1]}"
        sources = {"BINANCE_WS_URLS": f"ws://{url}", "BINANCE_REST_URLS": f"http://{url}"}
        done = forked.run(cwd=tmp_path, settings={"HOST": host, "PORT": str(port), **NOWHERE, **sources})
        with pytest.raises(BlockingIOError):
            source.accept()
    assert done.returncode not in (0, -signal.SIGTERM)
    (line,) = done.stderr.splitlines()
    assert f"{host}:{port}" in line or f"[{host}]:{port}" in line
    assert "in use" in line.lower()


def test_an_unknown_host_gives_one_clear_line(tmp_path: Path, forked: Forked) -> None:
    for host in ("a..b", "x" * 99):  # names that no resolver is asked about
        done = forked.run(cwd=tmp_path, settings={"HOST": host, "PORT": "0", **NOWHERE})
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert host in line


def test_an_unusable_state_folder_gives_one_clear_line_and_status_2(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run(cwd=tmp_path, settings={"HOST": "127.0.0.1", "PORT": "0", "STATE_DIR": "file", **NOWHERE})
    assert done.returncode == 2
    assert done.stderr == "stream-server: cannot start: file: cannot write there (File exists)\n"


# --- running


@dataclass(slots=True)
class Started:
    """A running service and where it listens."""

    process: asyncio.subprocess.Process
    url: str
    log: list[dict[str, object]]

    async def get(self, path: str) -> tuple[int, dict[str, object]]:
        async with aiohttp.ClientSession() as http, http.get(self.url + path) as answer:
            return answer.status, await answer.json()

    async def until_ready(self) -> None:
        deadline = time.monotonic() + 30
        while (await self.get("/health/ready"))[0] != 200:
            assert time.monotonic() < deadline, self.log
            await asyncio.sleep(0.02)

    async def stop(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Send a signal; return the exit status and the seconds until the exit."""
        began = time.monotonic()
        self.process.send_signal(number)
        async with asyncio.timeout(60):
            return await self.process.wait(), time.monotonic() - began

    def events(self) -> list[object]:
        return [line.get("event") for line in self.log]


@asynccontextmanager
async def started(cwd: Path, *arguments: str, **settings: str) -> AsyncIterator[Started]:
    """Start the service on a free port, and kill it at the end if it still runs."""
    values = {"HOST": "127.0.0.1", "PORT": "0", "LOG_FORMAT": "json", **NOWHERE, **settings}
    process = await asyncio.create_subprocess_exec(
        *MODULE, *arguments, cwd=cwd, env=environment(**values), stderr=asyncio.subprocess.PIPE
    )
    log: list[dict[str, object]] = []
    serving: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def read() -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            entry = json.loads(line) if line.startswith(b"{") else {"text": line.decode()}
            log.append(entry)
            if entry.get("event") == "serving":
                serving.set_result(str(entry["url"]))
        if not serving.done():
            serving.set_exception(AssertionError(f"the service did not start: {log}"))

    reading = asyncio.create_task(read())
    try:
        async with asyncio.timeout(30):
            url = await serving
        yield Started(process, url, log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await reading


async def test_without_a_network_it_stays_up_and_names_the_hosts_it_cannot_reach(tmp_path: Path) -> None:
    hosts = {
        "BINANCE_WS_URLS": "ws://127.0.0.1:9,ws://localhost:9",
        "BINANCE_REST_URLS": "http://127.0.0.1:9,http://127.0.0.2:9",
    }
    async with started(tmp_path, **hosts) as service:
        await service.until_ready()
        status, ready = await service.get("/health/ready")
        rest: dict[str, str | None] = {}
        deadline = time.monotonic() + 30
        while len(rest) < 2 or not all(rest.values()):
            assert time.monotonic() < deadline, rest
            rest = await rest_hosts(service)
        assert service.process.returncode is None
        code, _ = await service.stop()
    assert status == 200
    assert "cannot connect" in json.dumps(ready)
    assert rest.keys() == {"127.0.0.1:9", "127.0.0.2:9"}
    assert code == 0
    assert not [line for line in service.log if "traceback" in line or line.get("level") == "error"]


async def rest_hosts(service: Started) -> dict[str, str | None]:
    """Return the last error of each REST host."""
    data = (await service.get("/api/status"))[1]["data"]
    assert isinstance(data, dict)
    return {host["host"]: host["last_error"] for host in data["feeds"][0]["rest_hosts"]}


async def test_the_service_keeps_its_state_in_state_dir(tmp_path: Path) -> None:
    async with FakeBinance() as exchange:
        settings = {"BINANCE_WS_URLS": exchange.ws_url, "BINANCE_REST_URLS": exchange.rest_url, "STATE_DIR": "kept"}
        async with started(tmp_path, **settings, OHLCV_SYMBOLS="BTC", OHLCV_INTERVALS="1m") as service:
            await exchange.until(lambda: exchange.subscribed("!miniTicker@arr"))
            async with connected(service, "topics=price.BTC") as client:
                exchange.advance(1)
                await client.one("update", topic="price.BTC", ts=exchange.now_ms)
            assert (await service.stop(signal.SIGINT))[0] == 0
    assert (tmp_path / "kept" / "binance_pairs.json").exists()
    assert service.events().count("serving") == 1
    assert service.events()[-1] == "stopped"


def has_loaded(library: str, pid: int) -> bool:
    """Whether a process has loaded this library."""
    return library in Path(f"/proc/{pid}/maps").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows which libraries a process has loaded")
@pytest.mark.parametrize("loop", [None, "asyncio"])
async def test_it_runs_on_uvloop_where_installed_and_on_asyncio_when_configured(
    tmp_path: Path, loop: str | None
) -> None:
    settings = {"STREAM_SERVER_LOOP": loop} if loop is not None else {}
    async with started(tmp_path, **settings) as service:
        loaded = has_loaded("uvloop", service.process.pid)
        assert (await service.get("/health/live"))[0] == 200
        assert (await service.stop())[0] == 0
    assert loaded is (loop is None and "uvloop" in LOOPS)


@asynccontextmanager
async def connected(service: Started, query: str, **options: object) -> AsyncIterator[WebSocketClient]:
    url = f"{service.url.replace('http', 'ws', 1)}/ws?{query}"
    async with websockets.connect(
        url,
        proxy=None,
        compression=None,
        open_timeout=30,
        close_timeout=0.2,
        **options,  # type: ignore[arg-type]
    ) as connection:
        yield WebSocketClient(connection)


# --- stopping


async def test_sigterm_sends_each_client_a_goodbye_with_its_own_delay_and_exits_0(tmp_path: Path) -> None:
    async with started(tmp_path) as service, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(service, "topics=price.BTC")) for _ in range(20)]
        for client in clients:
            await client.until("synced")
        http = await stack.enter_async_context(aiohttp.ClientSession())
        stream = await http.get(f"{service.url}/sse?topics=price.BTC")
        await stream.content.readuntil(b"event: synced")
        service.process.send_signal(signal.SIGTERM)
        ends = await asyncio.gather(*(client.end() for client in clients))
        rest = await stream.content.read()
        async with asyncio.timeout(30):
            code = await service.process.wait()
    assert code == 0
    assert {end for _, end in ends} == {4001}
    goodbyes = [received[-1] for received, _ in ends]
    assert {(each["type"], each["code"], each["reconnect"]) for each in goodbyes} == {("goodbye", 4001, True)}
    assert len({each["after_ms"] for each in goodbyes}) > 10
    assert b"event: goodbye" in rest


async def test_sigterm_with_clients_that_never_read_exits_0_within_shutdown_s(tmp_path: Path) -> None:
    async with FakeBinance(synthetic_pairs(300)) as exchange, contextlib.AsyncExitStack() as stack:
        settings = {"BINANCE_WS_URLS": exchange.ws_url, "BINANCE_REST_URLS": exchange.rest_url, "SHUTDOWN_S": "5"}
        service = await stack.enter_async_context(
            started(tmp_path, **settings, OHLCV_SYMBOLS="none", STALL_S="3600", MAX_CONNECTIONS="50")
        )
        await exchange.until(lambda: exchange.subscribed("!miniTicker@arr"))
        plugs = [
            never_reading_client(service, path)
            for path in ("/ws?topics=price.*", "/sse?topics=price.*")
            for _ in range(5)
        ]
        deadline = time.monotonic() + 30
        while True:
            exchange.advance(5)
            clients = (await service.get("/api/status"))[1]["data"]["clients"]  # type: ignore[index]
            if clients["behind"] >= 10:
                break
            assert time.monotonic() < deadline, clients
        code, took_s = await service.stop()
        for plug in plugs:
            plug.close()
    assert code == 0
    assert took_s < 60, "they would stay for an hour"
    assert service.events()[-1] == "stopped"


def never_reading_client(service: Started, path: str) -> socket.socket:
    """Connect a client that never reads."""
    host, _, port = service.url.removeprefix("http://").partition(":")
    plug = socket.socket()
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plug.connect((host, int(port)))
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    extra = upgrade + key if path.startswith("/ws") else ""
    plug.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{extra}\r\n".encode())
    return plug


async def test_a_second_signal_stops_at_once_and_still_exits_0(tmp_path: Path) -> None:
    async with started(tmp_path, SHUTDOWN_S="600") as service:
        plugs = [never_reading_client(service, "/ws?topics=price.BTC") for _ in range(3)]
        deadline = time.monotonic() + 30
        while (await service.get("/api/status"))[1]["data"]["clients"]["websocket"] < 3:  # type: ignore[index]
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        service.process.send_signal(signal.SIGTERM)
        await until(lambda: "stopping" in service.events())
        code, took_s = await service.stop(signal.SIGINT)
        for plug in plugs:
            plug.close()
    assert code == 0
    assert took_s < 60, "not after ten minutes"
    assert not [line for line in service.log if "Traceback" in str(line)]


async def test_after_a_kill_and_a_restart_clients_get_a_new_epoch(tmp_path: Path) -> None:
    async with started(tmp_path) as service, connected(service, "topics=status") as client:
        position = (await client.one("synced"))["id"]
        service.process.kill()
        with pytest.raises(websockets.ConnectionClosed):
            while True:
                await client.next()
    async with started(tmp_path) as service, connected(service, f"topics=status&since={position}") as client:
        hello, subscribed = (await client.until("subscribed"))[-2:]
    assert hello["epoch"] != position.rpartition("-")[0]
    assert (subscribed["resumed"], subscribed["reason"]) == (False, "epoch")


# --- tapes


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    return write_tape(tmp_path / "market.jsonl")


def zipped(tape: Path) -> Path:
    """Return a gzipped copy of a tape."""
    path = tape.with_suffix(".gz")
    path.write_bytes(gzip.compress(tape.read_bytes()))
    return path


async def played(cwd: Path, tape: Path) -> list[dict[str, object]]:
    """Play a tape; return all its events, as a client with `since=earliest` gets them."""
    async with started(cwd, "--tape", str(tape), "--speed", "0") as service:
        await until(lambda: "tape_ended" in service.events())
        _, status = await service.get("/api/status")
        _, candles = await service.get("/api/market/ohlc?symbol=COMP&interval=1m&limit=4")
        async with connected(service, "topics=price.*,ohlcv.>&since=earliest") as client:
            received = updates(await client.until("synced"))
        assert (await service.stop())[0] == 0
    data = status["data"]
    assert isinstance(data, dict)
    assert data["server"]["mode"] == "tape"
    assert data["feeds"][0]["skipped"] == 1
    rows = candles["data"]
    assert isinstance(rows, list)
    assert [row["close"] for row in rows] == [290.5, 291.5, 292.5, 293.5]
    return [{name: value for name, value in message.items() if name not in ("id",)} for message in received]


async def test_a_tape_gives_the_same_events_each_time_it_is_played(tmp_path: Path, tape: Path) -> None:
    first = await played(tmp_path, tape)
    second = await played(tmp_path, zipped(tape))
    assert first == second
    closed = [event for event in first if isinstance(event["data"], dict) and event["data"].get("state") == "closed"]
    assert len(closed) == 4
    assert {event["source"] for event in closed} == {"binance:us"}
    assert "price.COMP" in {event["topic"] for event in first}


async def test_a_tape_plays_at_the_given_speed(tmp_path: Path, tape: Path) -> None:
    async with started(tmp_path, "--tape", str(tape), "--speed", "240") as service:
        began = time.monotonic()
        await until(lambda: "tape_ended" in service.events())
        took_s = time.monotonic() - began
    assert 0.4 < took_s < 60  # the tape lasts 239 seconds


async def test_a_recording_plays_back_as_the_same_events(tmp_path: Path) -> None:
    recording = tmp_path / "recorded.tape.gz"
    async with FakeBinance() as exchange:
        settings = {"BINANCE_WS_URLS": exchange.ws_url, "BINANCE_REST_URLS": exchange.rest_url}
        settings |= {"OHLCV_SYMBOLS": "BTC", "OHLCV_INTERVALS": "1m"}
        async with started(tmp_path, "--record", str(recording), **settings) as service:
            await exchange.until(lambda: exchange.subscribed("!miniTicker@arr", "btcusdt@kline_1m"))
            async with connected(service, "topics=price.BTC,ohlcv.BTC.1m") as client:
                await client.one("update", topic="ohlcv.BTC.1m")
                for _ in range(130):
                    exchange.advance(1)
                await client.one("update", topic="price.BTC", ts=exchange.now_ms)
            async with connected(service, "topics=price.*,ohlcv.>&since=earliest") as client:
                live = updates(await client.until("synced"))
            assert (await service.stop())[0] == 0
    async with started(tmp_path, "--tape", str(recording), "--speed", "0") as service:
        await until(lambda: "tape_ended" in service.events())
        async with connected(service, "topics=price.*,ohlcv.>&since=earliest") as client:
            again = updates(await client.until("synced"))

    def content(messages: list[dict[str, object]]) -> list[tuple[object, ...]]:
        return [(each["topic"], each["ts"], each["received"], each["source"], each["data"]) for each in messages]

    assert content(again) == content(live)
    assert len(live) > 5

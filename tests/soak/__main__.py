"""`python -m tests.soak`: run the service as a process on failing fake upstreams, under many clients, for long.

A seed decides everything: the faults of the exchange and of all other upstreams, when restless clients leave, and what
hostile ones send. Clients record what they receive (`history.py`), and samples of the process show whether it grows
(`growth.py`). The report names every finding; the exit status is 1 if there is one.
"""

import argparse
import asyncio
import contextlib
import csv
import json
import os
import random
import re
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp

from feeds.venues.binance.streams import ALL_MINI_TICKERS, kline_stream
from tests.chaos.faults import Fault, fault_tape
from tests.chaos.player import Player
from tests.chaos.proxy import ChaosProxy
from tests.fakes.__main__ import configured_fakes, inject_faults, settings_of
from tests.fakes.binance import FakeBinance, synthetic_pairs
from tests.soak.clients import Client, mixed_requests
from tests.soak.growth import Sample, trends
from tests.soak.history import History, behind, missing, number_of
from tests.soak.hostile import attack_forever, connection_storms

ROOT = Path(__file__).resolve().parent.parent.parent
PAIRS = 40
BASES = ("BTC", "ETH", "SOL")
CALM_S = 20.0
"""Idle time before the crowd connects and after it has left; the two states are compared."""
HEAL_S = 60.0
SAMPLE_S = 5.0
STOPS_WITHIN_S = 10.0
MORE_TASKS, MORE_DESCRIPTORS = 4, 12
"""How many more are allowed than before the crowd; connections to upstreams come and go."""

SETTINGS = {
    "HOST": "127.0.0.1",
    "LOG_FORMAT": "json",
    "OHLCV_SYMBOLS": ",".join(BASES),
    "OHLCV_INTERVALS": "1m,3m",
    "SYMBOLS": "*",
    # Short times and small buffers, so that everything expires and fills up many times.
    "SNAPSHOT_TTL_S": "10",
    "CACHE_TTL_S": "5",
    "RING_EVENTS": "3",
    "HEARTBEAT_S": "5",
    "STALL_S": "5",
    "IDLE_TOPIC_S": "10",
    "OUTBOX_BYTES": "500000",
    "MAX_CONNECTIONS": "150",
    "MARKET_POLL_S": "5",
    "NEWS_POLL_S": "10",
    "SENTIMENT_POLL_S": "15",
    "GAS_POLL_S": "5",
}


@dataclass(slots=True)
class Service:
    """The process under test."""

    process: asyncio.subprocess.Process
    url: str
    port: int
    log: Path
    samples: list[Sample] = field(default_factory=list)

    async def sample(self, http: aiohttp.ClientSession, began: float) -> Sample:
        """Sample the process (from `/proc`) and the service (from `/metrics` and `/api/status`)."""
        folder = Path(f"/proc/{self.process.pid}")
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        async with http.get(f"{self.url}/metrics") as answer:
            text = await answer.text()

        def reading(name: str) -> int:
            found = re.findall(rf"^stream_server_{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
            return round(sum(float(value) for value in found))

        async with http.get(f"{self.url}/api/status") as answer:
            groups = (await answer.json())["data"]["hub"]["groups"]
        return Sample(
            time.monotonic() - began,
            int(status["VmRSS"].split()[0]) * 1024,
            reading("tasks"),
            len(list((folder / "fd").iterdir())),
            int(status["Threads"]),
            reading("clients"),
            reading("topics"),
            groups,
            ticks / os.sysconf("SC_CLK_TCK"),
        )


@asynccontextmanager
async def started(settings: dict[str, str], folder: Path) -> AsyncIterator[Service]:
    """Start the service as an operator does; kill it at the end if it still runs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    log = folder / "service.log"
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    environment = {**kept, "PYTHONPATH": str(ROOT), "STATE_DIR": str(folder / "state"), "LOG_DIR": str(folder / "logs")}
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "stream_server",
            cwd=folder,
            env={**environment, **settings, "PORT": str(port)},
            stdout=output,
            stderr=output,
        )
    try:
        yield Service(process, f"http://127.0.0.1:{port}", port, log)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def crowd(url: str, http: aiohttp.ClientSession, rng: random.Random) -> list[Client]:
    """Return the clients that follow the protocol; the first ones stay connected and subscribe to everything."""

    def client(name: str, topics: tuple[str, ...], transport: str, **behaviour: object) -> Client:
        return Client(History(name, topics), transport, url, http, random.Random(rng.random()), **behaviour)  # type: ignore[arg-type]

    everything = (">",)
    some = ("price.*", "news", "ohlcv.BTC.1m", "ohlcv.ETH.1m", "ohlcv.SOL.3m", "market", "gas.ethereum")
    members = [
        client("steady ws", everything, "ws"),
        client("steady ws in batches", everything, "ws", batch=True),
        client("steady sse", everything, "sse"),
    ]
    for number in range(24):
        own = tuple(rng.sample(some, rng.randint(2, len(some))))
        transport = "sse" if number % 3 == 0 else "ws"
        members.append(client(f"restless {transport} {number}", own, transport, restless=True, batch=number % 4 == 1))
    # The only clients of their topics, so the service starts and drops these feeds as they come and go.
    alone = [client(f"alone {number}", (f"ohlcv.S000{number}.1m",), "ws", restless=True) for number in range(3)]
    # Away for longer than the rings reach back.
    wander = [
        client(f"wanderer {number}", ("ohlcv.*.1m", "price.BTC"), "ws", restless=True, is_away_s=(150.0, 300.0))
        for number in range(3)
    ]
    topics = ("price.*", "ohlcv.BTC.1m", "news")
    slow = [client(f"slow {number}", topics, "ws" if number else "sse", message_s=0.08) for number in range(4)]
    return [*members, *alone, *wander, *slow]


def faults_of(seed: int, span_s: float) -> tuple[Fault, ...]:
    """Return the faults of the exchange, with at most one block: the service avoids a blocked host for an hour."""
    streams = (ALL_MINI_TICKERS, *(kline_stream(f"{base}USDT", span) for base in BASES for span in ("1m", "3m")))
    tape = fault_tape(seed, span_s, streams)
    blocks = [fault for fault in tape if fault.status == 451]
    return tuple(fault for fault in tape if fault not in blocks[1:])


async def keep_sampling(service: Service, http: aiohttp.ClientSession, began: float) -> None:
    while True:
        await asyncio.sleep(SAMPLE_S)
        service.samples.append(await service.sample(http, began))
        if len(service.samples) % 24 == 0:
            now = service.samples[-1]
            log(f"{now.at_s:6.0f} s: {now.rss_bytes / 1e6:.1f} MB, {now.tasks} tasks, {now.descriptors} descriptors, "
                f"{now.clients} clients, {now.topics} topics, {now.cpu_s:.0f} s of CPU")  # fmt: skip


def log(what: str) -> None:
    print(what, flush=True)


@dataclass(slots=True)
class Outcome:
    """Result of a soak."""

    findings: list[str] = field(default_factory=list)
    histories: list[History] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    before: Sample | None = None
    after: Sample | None = None
    stopped_in_s: float = 0.0
    faults: int = 0


async def soak(minutes: float, seed: int, folder: Path) -> Outcome:
    """Run a soak and return its outcome. Raises: RuntimeError if the service does not start."""
    rng = random.Random(f"soak:{seed}")
    outcome = Outcome()
    span_s = minutes * 60
    async with contextlib.AsyncExitStack() as stack:
        exchange = await stack.enter_async_context(
            FakeBinance(
                synthetic_pairs(PAIRS, seed), seed=seed, start_ms=time.time_ns() // 1_000_000, seconds_kept=1_000
            )
        )
        proxy = await stack.enter_async_context(ChaosProxy(exchange.port, seed=seed))
        upstream_fakes = configured_fakes()
        for each in upstream_fakes:
            await stack.enter_async_context(each.fake)
        tape = faults_of(seed, max(0.0, span_s - HEAL_S))
        outcome.faults = len(tape)
        player = Player(exchange, tape, proxy)
        settings = {
            **settings_of(upstream_fakes, exchange),
            **SETTINGS,
            "BINANCE_WS_URLS": f"{player.ws_url},{player.ws_url.replace('127.0.0.1', 'localhost')}",
            "BINANCE_REST_URLS": player.rest_url,
        }
        market = asyncio.create_task(exchange.run(1.0))
        stack.callback(market.cancel)
        service = await stack.enter_async_context(started(settings, folder))
        http = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar())
        )
        await _ready(service, http)
        began = time.monotonic()
        await asyncio.sleep(CALM_S)
        outcome.before = await service.sample(http, began)
        log(f"seed {seed}, {minutes:g} minutes, {len(tape)} faults of the exchange; the service is process "
            f"{service.process.pid}, {outcome.before.rss_bytes / 1e6:.1f} MB")  # fmt: skip

        since_ms = exchange.now_ms
        clients = crowd(service.url, http, rng)
        rest = History("rest", ())
        outcome.histories = [*(client.history for client in clients), rest]
        good_clients = [asyncio.create_task(client.run(), name=client.history.name) for client in clients]
        good_clients.append(asyncio.create_task(mixed_requests(service.url, http, rng, rest), name="rest"))
        hostile_clients = [
            asyncio.create_task(attack_forever(service.port, random.Random(rng.random()))) for _ in range(8)
        ]
        hostile_clients.append(asyncio.create_task(connection_storms(service.port, rng, every_s=40.0)))
        upstream_faults = asyncio.create_task(inject_faults(upstream_fakes, rng))
        faults = asyncio.create_task(player.run())
        watching = asyncio.create_task(keep_sampling(service, http, began))
        everyone = [*good_clients, *hostile_clients, upstream_faults, faults, watching]
        try:
            await _wait_while_alive(everyone, faults, span_s, service)
            upstream_faults.cancel()
            for client_task in hostile_clients:
                client_task.cancel()
            outcome.findings += await _check_at_the_end(service, http, exchange, market, outcome.histories, since_ms)
        finally:
            for task in everyone:
                task.cancel()
            ends = await asyncio.gather(*everyone, return_exceptions=True)
        outcome.findings += [f"the soak itself failed: {end!r}" for end in ends if isinstance(end, Exception)]
        outcome.samples = service.samples
        market = asyncio.create_task(exchange.run(1.0))  # trade as before the crowd
        stack.callback(market.cancel)
        await asyncio.sleep(CALM_S)
        outcome.after = await service.sample(http, began)
        outcome.stopped_in_s, status = await _stopped(service)
        if status != 0:
            outcome.findings.append(f"SIGTERM ended the service with {status} after {outcome.stopped_in_s:.1f} s")
        outcome.findings += faults_logged(service.log)
    return outcome


async def _ready(service: Service, http: aiohttp.ClientSession) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(aiohttp.ClientError):
            async with http.get(f"{service.url}/health/ready") as answer:
                if answer.status == 200:
                    return
        await asyncio.sleep(0.2)
    raise RuntimeError(f"the service was not ready in 30 s: {service.log.read_text(errors='replace')[-2000:]}")


async def _wait_while_alive(
    tasks: list[asyncio.Task[None]], may_end: asyncio.Task[None], span_s: float, service: Service
) -> None:
    """Wait for `span_s`. Raises if the service or a task ends early."""
    ending = asyncio.create_task(service.process.wait())
    try:
        done, _ = await asyncio.wait(
            [*(task for task in tasks if task is not may_end), ending],
            timeout=span_s,
            return_when=asyncio.FIRST_COMPLETED,
        )
    finally:
        ending.cancel()
    if ending in done:
        raise RuntimeError(f"the service ended with {service.process.returncode}")
    for task in done:
        task.result()


async def _check_at_the_end(
    service: Service,
    http: aiohttp.ClientSession,
    exchange: FakeBinance,
    market: asyncio.Task[None],
    histories: list[History],
    since_ms: int,
) -> list[str]:
    """Check that clients have the newest values and every log event, and that candles agree with the exchange."""
    market.cancel()
    await asyncio.sleep(1.0)
    async with http.get(f"{service.url}/api/status") as answer:
        position = (await answer.json())["data"]["hub"]["position"]
    await asyncio.sleep(2.0)
    quick = [history for history in histories if not history.name.startswith("slow")]
    found = behind(quick, number_of(position)[1]) + missing(histories)
    for history in histories:
        found += history.findings
        if history.found > len(history.findings):
            found.append(f"{history.name}: and {history.found - len(history.findings)} more")
    for topic in [f"ohlcv.{base}.{span}" for base in BASES for span in ("1m", "3m")]:
        found += _untrue(topic, exchange, histories[0], since_ms)
    return found


def _untrue(topic: str, exchange: FakeBinance, history: History, since_ms: int) -> list[str]:
    """Return closed candles that a client lacks, or has differently from the exchange."""
    _, base, span = topic.split(".")
    truth = {each.open_ms: each for each in exchange.candles(f"{base}USDT", span, limit=1000) if each.closed}
    received = history.closed.get(topic, {})
    found = []
    for open_ms, data in received.items():
        true = truth.get(open_ms)
        if true is None or (float(true.close), true.trades) != (data["close"], data["trades"]):
            found.append(f"{history.name}: {topic} {open_ms}: received {data}, true is {true}")
    lacking = [open_ms for open_ms in truth if open_ms >= since_ms and open_ms not in received]
    return found + ([f"{history.name}: {topic}: never received {lacking}"] if lacking else [])


async def _stopped(service: Service) -> tuple[float, int | None]:
    """Send SIGTERM; return the seconds until the exit, and the exit status."""
    began = time.monotonic()
    service.process.send_signal(signal.SIGTERM)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STOPS_WITHIN_S):
            await service.process.wait()
    return time.monotonic() - began, service.process.returncode


def faults_logged(log: Path) -> list[str]:
    """Return errors that the service logged, and uncaught tracebacks."""
    errors: Counter[str] = Counter()
    for line in log.read_text(errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            errors[f"a line that is not JSON: {line[:200]}"] += 1
            continue
        if entry.get("level") in ("error", "critical"):
            errors[line[:600]] += 1
    return [f"the service logged, {count} times: {line}" for line, count in errors.most_common(20)]


def report(outcome: Outcome, minutes: float) -> list[str]:
    """Print the figures and return all findings."""
    before, after, samples = outcome.before, outcome.after, outcome.samples
    assert before is not None
    assert after is not None
    found = list(outcome.findings)
    counts: Counter[str] = Counter()
    for history in outcome.histories:
        counts.update(history.counts)
    log("\nwhat clients saw: " + ", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    log(f"the service: {max(each.clients for each in samples)} clients at most, "
        f"{(samples[-1].cpu_s - before.cpu_s) / (samples[-1].at_s - before.at_s):.0%} of a core, "
        f"stopped in {outcome.stopped_in_s:.1f} s")  # fmt: skip
    for trend in trends(samples):
        log(f"  {trend}{'  GROWS' if trend.grows else ''}")
        if trend.grows:
            found.append(f"the service grows: {trend}")
    log(f"  before the crowd and after it: {before.rss_bytes / 1e6:.1f} → {after.rss_bytes / 1e6:.1f} MB, "
        f"{before.tasks} → {after.tasks} tasks, {before.descriptors} → {after.descriptors} descriptors, "
        f"{after.clients} clients and {after.groups} groups left")  # fmt: skip
    if after.tasks > before.tasks + MORE_TASKS:
        found.append(f"the crowd left {after.tasks - before.tasks} tasks behind")
    if after.descriptors > before.descriptors + MORE_DESCRIPTORS:
        found.append(f"the crowd left {after.descriptors - before.descriptors} descriptors behind")
    if after.clients or after.groups > before.groups:
        found.append(f"{after.clients} clients and {after.groups} groups are still there")
    log(f"{minutes:g} minutes, {counts['update']} updates to {len(outcome.histories) - 1} clients, "
        f"{counts['connections']} connections, {counts['resumed']} resumes, {outcome.faults} faults of the exchange: "
        + (f"{len(found)} findings" if found else "nothing found"))  # fmt: skip
    for finding in found:
        log(f"  {finding}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description="Run the service under faults and crowds."
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--out", type=Path, help="folder for the samples and the service's log (default: a temporary one)"
    )
    options = parser.parse_args()
    with TemporaryDirectory() as scratch:
        folder = (options.out or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        outcome = asyncio.run(soak(options.minutes, options.seed, folder))
        with (folder / "samples.csv").open("w") as file:
            rows = csv.DictWriter(file, asdict(outcome.samples[0]))
            rows.writeheader()
            rows.writerows(asdict(sample) for sample in outcome.samples)
        return 1 if report(outcome, options.minutes) else 0


if __name__ == "__main__":
    sys.exit(main())

"""Measure the time from a frame on the upstream's socket to the last byte of the last client."""

import http.client
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from bench import trace
from bench.measure import Effort, Target, load
from bench.processes import Failed, check, free_port, running, scratch_folder, wait_for_port
from bench.scenarios import Scenario
from bench.studies.study import Findings, Lab, Study, Verdict, number

PAIRS = 1500
READY_WITHIN_S = 20.0
MARKER = ["--marker", '"quote_volume_24h":', "--unit-ns", "1000"]
STALL_GOAL_MS = 10.0


@dataclass(frozen=True, slots=True)
class Form:
    """The wire form that the clients ask for."""

    name: str
    query: str
    more: tuple[str, ...] = ()


FORMS = (
    Form("a frame a message", "topics=price.*"),
    Form("an array a flush", "topics=price.*&batch=1"),
    Form("the same, compressed", "topics=price.*&batch=1", ("--deflate",)),
)


@contextmanager
def service(lab: Lab, pairs: int, *, still: bool, command: list[str], candles: str = "none") -> Iterator[Target]:
    """Run the real service on a fake upstream until it has all prices. `TRACE` in the command becomes a file."""
    with scratch_folder() as folder:
        upstream_port, port = free_port(), free_port()
        upstream = [sys.executable, "-m", "bench.upstream", "--port", str(upstream_port), "--pairs", str(pairs)]
        upstream += ["--still"] if still else []
        settings = {
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "STATE_DIR": str(folder / "state"),
            "LOG_LEVEL": "WARNING",
            "BINANCE_WS_URLS": f"ws://127.0.0.1:{upstream_port}",
            "BINANCE_REST_URLS": f"http://127.0.0.1:{upstream_port}",
            "SYMBOLS": "*",
            "OHLCV_SYMBOLS": candles,
            "OHLCV_INTERVALS": "1h",
            "SNAPSHOT_TTL_S": "86400",
            "MAX_CONNECTIONS": "20000",
        }
        command = [text.replace("TRACE", str(folder / "trace")) for text in command]
        with running(upstream, lab.cores.load, folder / "upstream.log", {}) as exchange:
            wait_for_port(exchange, upstream_port, folder / "upstream.log")
            log = folder / "server.log"
            with running(command, lab.cores.server, log, settings) as process:
                wait_for_port(process, port, log)
                target = Target(process, port, "ws", folder, log)
                _wait_for_prices(target, pairs)
                yield target


def get(port: int, path: str, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
    """Return one answer of a server on loopback, with header names in lower case."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def _wait_for_prices(target: Target, pairs: int) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while True:
        status, _, body = get(target.port, "/api/market/price")
        if status == 200 and len(json.loads(body)["data"]) == pairs:
            ready, _, _ = get(target.port, "/health/ready")
            if ready == 200:
                return
        check(target.process, target.log)
        if time.monotonic() > deadline:
            raise Failed(f"the service did not have all {pairs} prices in {READY_WITHIN_S:.0f} s")
        time.sleep(0.2)


def run(lab: Lab) -> Findings:
    """Measure the numbers of clients in each of three wire forms."""
    head = ["clients", "form", "a client has all: p50, ms", "p99, ms", "the last has all: p50, ms", "p99, ms"]
    stages = ["parse, ms", "publish", "flush", "the rest", "CPU a frame, ms", "load", "KB a client"]
    found = Findings([*head, *stages, "longest stall, ms", "on the clock", ""])
    effort = Effort(lab.seconds(4.0, 3.0), lab.seconds(20.0, 6.0))
    for clients in (200,) if lab.quick else (200, 1000):
        for form in FORMS:
            _one(lab, found, clients, form, effort)
    return found


def _one(lab: Lab, found: Findings, clients: int, form: Form, effort: Effort) -> None:
    scenario = Scenario("End to end", "", topics=PAIRS, each=PAIRS, connections=clients)
    command = [sys.executable, "-m", "bench.whole", "--trace", "TRACE"]
    with service(lab, PAIRS, still=False, command=command) as target:
        (seen,) = load(target, scenario, effort, lab.cores, *MARKER, *form.more, query=form.query)
        window = (target.folder / "trace", seen["began_ns"], seen["ended_ns"])
        frames, stalls = _lines(*window, "frame"), _lines(*window, "stall")
    if not frames or not seen["messages"]:
        raise Failed("no messages came")
    parse, publish, flush = (mean(line[key] for line in frames) * 1e3 for key in ("parse_s", "publish_s", "flush_s"))
    cpu = seen["server_cpu_s"] / len(frames) * 1e3
    stall_ms = max((line["cpu_s"] for line in stalls), default=0.0) * 1e3
    clock_ms = max((line["late_s"] for line in stalls), default=0.0) * 1e3
    remarks = [f"{seen['dead']:.0f} died"] if seen["dead"] else []
    expected = seen["ticks"] * PAIRS * clients
    if seen["messages"] != expected:
        remarks.append(f"{seen['messages'] / expected:.1%} of all values came")
    if seen["own_cpu_s"] > 0.9 * seen["seconds"]:
        remarks.append("the load generator was at its limit")
    times = [seen[key] / 1e3 for key in ("tick_p50_us", "tick_p99_us", "crowd_p50_us", "crowd_p99_us")]
    costs = [parse, publish, flush, cpu - parse - publish - flush, cpu]
    lab.report(f"{clients} clients, {form.name}: last byte p99 {times[3]:.0f} ms; " + ", ".join(map(number, costs)))
    row = [str(clients), form.name, *map(number, times + costs), f"{seen['server_cpu_s'] / seen['seconds']:.0%}"]
    row.append(number(seen["bytes"] / seen["ticks"] / clients / 1024))
    found.rows.append([*row, number(stall_ms), number(clock_ms), "; ".join(remarks)])
    found.raw.append({"clients": clients, "form": form.name, "frames": len(frames), **seen})
    text = f"longest stall with {clients} clients and {form.name}"
    shown = f"{stall_ms:.0f} ms ({clock_ms:.0f} on the clock)"
    found.verdicts.append(Verdict(text, f"≤ {STALL_GOAL_MS:g} ms", shown, stall_ms <= STALL_GOAL_MS))


def _lines(file: Path, began_ns: float, ended_ns: float, kind: str) -> list[dict[str, float]]:
    return trace.read(file, kind, began_ns, ended_ns)


STUDY = Study(
    "End to end",
    f"from an upstream frame of {PAIRS} tickers to the last client's last byte",
    f"The whole service reads a fake exchange that sends `!miniTicker@arr` with {PAIRS} pairs every second; every "
    "client subscribes to `price.*`. Times run from just before the frame is sent until one client, or the last of "
    "all, has read all of its values. CPU milliseconds of the server's main thread by stage: parse is decoding the "
    "frame; publish is comparing, encoding, ids and history; flush is joining frames and handing them to the "
    "transports; the rest is the kernel's part of the writes, reading the frame from its socket, and the loop. A "
    "stall is the CPU time of the loop's thread while a timer waited; on the clock it may be longer when another "
    "process had the core.",
    run,
)

"""Compare REST with the same handlers on FastAPI and uvicorn, under wrk."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench import tools
from bench.measure import Target
from bench.processes import Failed, check, cpu_s_of, free_port, output_of, running, scratch_folder, wait_for_port
from bench.servers import OURS
from bench.studies.end_to_end import get, service
from bench.studies.study import Findings, Lab, Study, Verdict, number
from bench.tools import Absent

PAIRS = 300
CONNECTIONS = 32
PATHS = {"/api/snapshot": "snapshot of 300 topics", "/api/market/ohlc?symbol=BTC&interval=1h&limit=500": "500 candles"}
DICT, ORJSON = "FastAPI, dict", "FastAPI, orjson"
GOAL = 2.0
RATE = re.compile(r"Requests/sec:\s+([\d.]+)")
COUNT = re.compile(r"(\d+) requests in")
P99 = re.compile(r"99%\s+([\d.]+)(us|ms|s)")
UNIT_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True, slots=True)
class Run:
    """The result of wrk for one request."""

    per_s: float
    p99_ms: float
    cpu_us: float
    bytes_each: int
    status: int


def run(lab: Lab) -> Findings:
    """Send each request to each server, without and with the tag of the answer that the client has."""
    wrk = tools.wrk()
    found = Findings(["", "", "requests/s", "p99, ms", "CPU, µs a request", "of ours", "status", "body, bytes"])
    seen: dict[tuple[str, bool, str], Run] = {}
    absent: dict[str, str] = {}
    for tagged in (False, True):
        for name in (OURS, DICT, ORJSON):
            try:
                with _served(lab, name, still=tagged) as target:
                    for path in PATHS:
                        seen[path, tagged, name] = one = _ask(lab, wrk, target, path, tagged)
                        found.raw.append({"path": path, "tagged": tagged, "server": name, "per_s": one.per_s})
                        lab.report(f"{name}, {PATHS[path]}{', known' if tagged else ''}: {one.per_s:,.0f}/s")
            except Absent as problem:
                absent[name] = str(problem)
    for path, what in PATHS.items():
        for tagged in (False, True):
            ours = seen[path, tagged, OURS]
            label = f"{what}{', which the client has' if tagged else ''}"
            for name in (OURS, DICT, ORJSON):
                found.rows += _rows(label, name, seen.get((path, tagged, name)), ours)
            for rival in (DICT, ORJSON):
                other = seen.get((path, tagged, rival))
                if other is not None:
                    ratio = ours.per_s / other.per_s
                    text = f"{label}: requests/s against {rival}"
                    found.verdicts.append(Verdict(text, f"≥ {GOAL:g}×", f"{ratio:.2g}×", ratio >= GOAL))
    found.remarks += [f"{name} is absent: {reason}" for name, reason in absent.items()]
    return found


def _rows(label: str, name: str, one: Run | None, ours: Run) -> list[list[str]]:
    if one is None:
        return []
    row = [label, name, number(one.per_s), number(one.p99_ms), number(one.cpu_us)]
    return [[*row, f"{one.cpu_us / ours.cpu_us:.2f}×", str(one.status), f"{one.bytes_each:,}"]]


@contextmanager
def _served(lab: Lab, name: str, still: bool) -> Iterator[Target]:
    if name == OURS:
        command = [sys.executable, "-m", "stream_server"]
        with service(lab, PAIRS, still=still, command=command, candles="BTC") as target:
            yield target
        return
    for package in ("uvicorn", "httptools", "uvloop", "orjson"):
        tools.python_peer(package)
    python = tools.python_peer("fastapi")
    port = free_port()
    command = [str(python), "-m", "bench.peers.fastapi_server", "--port", str(port), "--topics", str(PAIRS)]
    command += ["--form", "dict" if name == DICT else "orjson"]
    command += ["--still"] if still else []
    with scratch_folder() as folder:
        log = folder / "server.log"
        with running(command, lab.cores.server, log, {}) as process:
            wait_for_port(process, port, log)
            yield Target(process, port, "http", folder, log)


def _ask(lab: Lab, wrk: str, target: Target, path: str, tagged: bool) -> Run:
    status, headers, body = get(target.port, path)
    if status != 200:
        raise Failed(f"{path} answered {status}")
    command = [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{lab.seconds(6, 2):.0f}s", "--latency"]
    if tagged:
        tag = headers.get("etag", "")
        command += ["-H", f"If-None-Match: {tag}"]
        status, _, body = get(target.port, path, {"If-None-Match": tag})
        if status != 304:
            raise Failed(f"{path} answered {status} to its own tag")
    before = cpu_s_of(target.process.pid)
    text = output_of([*command, f"http://127.0.0.1:{target.port}{path}"], lab.cores.load, 60)
    cpu_s = cpu_s_of(target.process.pid) - before
    check(target.process, target.log)
    rate, count, p99 = RATE.search(text), COUNT.search(text), P99.search(text)
    if rate is None or count is None or p99 is None or "Socket errors" in text or (not tagged and "Non-2xx" in text):
        raise Failed(f"wrk printed: {text.strip().splitlines()[-1]}")
    per_request_us = cpu_s / int(count[1]) * 1e6
    return Run(float(rate[1]), float(p99[1]) * UNIT_MS[p99[2]], per_request_us, len(body), status)


STUDY = Study(
    "REST",
    "REST beside FastAPI",
    "One process each, 32 connections of wrk. FastAPI runs on uvicorn with uvloop and httptools and does the same "
    "work: it reads the same parameters, wraps the same values in the same envelope and tags them by a version. It "
    "returns a dict, as most applications do, or the bytes of orjson, as fast ones do. Without a tag all values "
    "change every second; with a tag nothing changes, and all answers are 304.",
    run,
)

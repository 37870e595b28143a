"""One measurement: start a server on its core, let the load generator look at it from another, end both."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import tools
from bench.scenarios import Figure, Scenario
from bench.servers import ROOT, Place, Server

READY_WITHIN_S = 20.0
LOADGEN_TIMEOUT_S = 100.0


class Failed(Exception):
    """A measurement that gave no figure; the text says why."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long one measurement looks, after how long."""

    warm_s: float
    window_s: float


@dataclass(frozen=True, slots=True)
class Cores:
    """Where things run; None where the machine has but one core, or none may be chosen."""

    server: int | None
    load: int | None

    @classmethod
    def of_this_machine(cls) -> "Cores":
        """Two different ones if there are two."""
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        if len(cores) < 2 or shutil.which("taskset") is None:
            return cls(None, None)
        return cls(cores[0], cores[1])


@dataclass(frozen=True, slots=True)
class Sample:
    """What one measurement saw."""

    figure: float
    messages: int
    messages_per_s: float
    bytes_per_message: float
    messages_per_read: float
    load: float
    p50_ms: float
    p99_ms: float
    remarks: tuple[str, ...]


def measure(server: Server, scenario: Scenario, effort: Effort, cores: Cores) -> Sample:
    """Take one sample. Raises Absent or Failed; whatever was started has ended either way."""
    loadgen = tools.compiled("loadgen")
    with ExitStack() as stack:
        tools.BUILD.mkdir(exist_ok=True)
        scratch = TemporaryDirectory(dir=tools.BUILD, prefix="run-", ignore_cleanup_errors=True)
        folder = Path(stack.enter_context(scratch))
        place = Place(_free_port(), _free_port(), folder)
        launch = server.launch(scenario, place)
        log = folder / "server.log"
        process = stack.enter_context(_running(launch.command, cores.server, log, launch.environment))
        _wait_for_port(process, place.port, log)
        if launch.publisher is not None:
            command = [text.replace("PID", str(process.pid)) for text in launch.publisher]
            stack.enter_context(_running(command, cores.load, folder / "publisher.log", {}))
        command = [
            str(loadgen),
            *("--port", str(place.port), "--kind", launch.kind or scenario.kind, "--pid", str(process.pid)),
            *("--connections", str(scenario.connections)),
            *("--per-tick", str(0 if scenario.idle else scenario.messages_per_tick)),
            *("--warm", str(effort.warm_s), "--seconds", str(effort.window_s)),
            *_choices(scenario, folder),
        ]
        return _sample(scenario, _load(command, cores.load, process, log))


def _choices(scenario: Scenario, folder: Path) -> list[str]:
    choices = [",".join(topics) for topics in scenario.choices()]
    paths, subjects = folder / "paths", folder / "subjects"
    paths.write_text("".join(f"/{scenario.kind}?topics={choice}\n" for choice in choices))
    subjects.write_text("".join(f"{choice}\n" for choice in choices))
    return ["--paths", str(paths), "--subjects", str(subjects)]


def _load(command: list[str], core: int | None, server: subprocess.Popen[bytes], log: Path) -> dict[str, float]:
    load = subprocess.Popen(
        _pinned(command, core), stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        output, errors = load.communicate(timeout=LOADGEN_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise Failed("the load generator did not end in time") from None
    finally:
        _end(load)
    if server.poll() is not None:
        raise Failed(f"the server ended: {_last_line(log)}")
    if load.returncode != 0:
        lines = errors.decode(errors="replace").strip().splitlines()
        raise Failed(lines[-1] if lines else f"the load generator ended with {load.returncode}")
    seen: dict[str, float] = json.loads(output)
    return seen


def _sample(scenario: Scenario, seen: dict[str, float]) -> Sample:
    messages, elapsed_s = int(seen["messages"]), seen["seconds"]
    remarks = []
    if seen["dead"]:
        remarks.append(f"{seen['dead']:.0f} connections died")
    if scenario.figure is not Figure.KB_PER_CONNECTION:
        if not messages:
            raise Failed("no messages came")
        expected = int(seen["ticks"]) * scenario.messages_per_tick * scenario.connections
        if not seen["whole_ticks"] or messages != expected:
            remarks.append(f"not all clients had all messages ({messages / expected:.1%})")
        if seen["out_of_order"]:
            remarks.append(f"{seen['out_of_order']:.0f} messages out of order")
        if seen["own_cpu_s"] > 0.9 * elapsed_s:
            remarks.append("the load generator was at its limit")
    match scenario.figure:
        case Figure.CPU_PER_MILLION:
            figure = seen["server_cpu_s"] / messages * 1e6
        case Figure.P99_MS:
            figure = seen["p99_us"] / 1000
        case Figure.TICK_P99_MS:
            figure = seen["tick_p99_us"] / 1000
        case Figure.KB_PER_CONNECTION:
            figure = (seen["rss_kb"] - seen["rss_first_tenth_kb"]) / (scenario.connections * 0.9)
    return Sample(
        figure=figure,
        messages=messages,
        messages_per_s=messages / elapsed_s,
        bytes_per_message=seen["bytes"] / messages if messages else 0.0,
        messages_per_read=messages / seen["reads"] if seen["reads"] else 0.0,
        load=seen["server_cpu_s"] / elapsed_s,
        p50_ms=seen["p50_us"] / 1000,
        p99_ms=seen["p99_us"] / 1000,
        remarks=tuple(remarks),
    )


# --- processes ---


@contextmanager
def _running(
    command: list[str], core: int | None, log: Path, environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            _pinned(command, core),
            cwd=ROOT,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        # Its own session, so this is it and its children, and nothing else.
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=10)


def _pinned(command: list[str], core: int | None) -> list[str]:
    """On its core, and dead when we are: even a killed benchmark leaves nothing behind. Both keep the pid."""
    prefix = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    if core is not None:
        prefix += ["taskset", "--cpu-list", str(core)]
    return [*prefix, *command]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_port(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Until it listens. Connecting would show too, but some count their connections."""
    deadline = time.monotonic() + READY_WITHIN_S
    while not _listens(port):
        if process.poll() is not None:
            raise Failed(f"the server ended: {_last_line(log)}")
        if time.monotonic() > deadline:
            raise Failed(f"the server did not listen in {READY_WITHIN_S:.0f} s: {_last_line(log)}")
        time.sleep(0.05)


def _listens(port: int) -> bool:
    listening = "0A"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == listening and int(fields[1].rpartition(":")[2], 16) == port:
                return True
    return False


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "it said nothing"

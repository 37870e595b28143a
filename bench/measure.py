"""Take one measurement: start a server on one core, run the load generator on another, end both."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import tools
from bench.processes import (
    Cores,
    Failed,
    check,
    free_port,
    output_of,
    running,
    scratch_folder,
    wait_for_port,
)
from bench.scenarios import Figure, Scenario
from bench.servers import Place, Server

LOADGEN_TIMEOUT_S = 100.0


@dataclass(frozen=True, slots=True)
class Effort:
    """The length of one measurement, and of its warm-up."""

    warm_s: float
    window_s: float


@dataclass(frozen=True, slots=True)
class Sample:
    """The result of one measurement."""

    figure: float
    messages: int
    messages_per_s: float
    bytes_per_message: float
    messages_per_read: float
    load: float
    p50_ms: float
    p99_ms: float
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """A running server that listens."""

    process: subprocess.Popen[bytes]
    port: int
    kind: str
    folder: Path
    log: Path


@contextmanager
def serving(server: Server, scenario: Scenario, cores: Cores) -> Iterator[Target]:
    """Run a server with its publisher, and end both afterwards. Raises Absent or Failed."""
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        place = Place(free_port(), free_port(), folder)
        launch = server.launch(scenario, place)
        log = folder / "server.log"
        process = stack.enter_context(running(launch.command, cores.server, log, launch.environment))
        wait_for_port(process, place.port, log)
        if launch.publisher is not None:
            command = [text.replace("PID", str(process.pid)) for text in launch.publisher]
            stack.enter_context(running(command, cores.load, folder / "publisher.log", {}))
        yield Target(process, place.port, launch.kind or scenario.kind, folder, log)


def load(
    target: Target,
    scenario: Scenario,
    effort: Effort,
    cores: Cores,
    *more: str,
    query: str | None = None,
    within_s: float = LOADGEN_TIMEOUT_S,
) -> list[dict[str, float]]:
    """Connect the clients, with `query` if given, and return their results for each window. Raises Failed."""
    command = [
        str(tools.compiled("loadgen")),
        *("--port", str(target.port), "--kind", target.kind, "--pid", str(target.process.pid)),
        *("--connections", str(scenario.connections)),
        *("--per-tick", str(0 if scenario.idle else scenario.messages_per_tick)),
        *("--warm", str(effort.warm_s), "--seconds", str(effort.window_s)),
        *_choices(scenario, target.folder, query),
        *more,
    ]
    output = output_of(command, cores.load, within_s)
    check(target.process, target.log)
    return [json.loads(line) for line in output.splitlines()]


def measure(server: Server, scenario: Scenario, effort: Effort, cores: Cores) -> Sample:
    """Take one sample. Raises Absent or Failed."""
    with serving(server, scenario, cores) as target:
        (seen,) = load(target, scenario, effort, cores)
    return _sample(scenario, seen)


def _choices(scenario: Scenario, folder: Path, query: str | None) -> list[str]:
    choices = [",".join(topics) for topics in scenario.choices()]
    queries = [f"topics={choice}" for choice in choices] if query is None else [query]
    paths, subjects = folder / "paths", folder / "subjects"
    paths.write_text("".join(f"/{scenario.kind}?{each}\n" for each in queries))
    subjects.write_text("".join(f"{choice}\n" for choice in choices))
    return ["--paths", str(paths), "--subjects", str(subjects)]


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

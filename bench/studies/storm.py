"""Measure ten thousand clients that connect at once, and their effect on the clients inside."""

import json
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import trace
from bench.measure import Effort, Target, load, serving
from bench.processes import Failed, running, scratch_folder
from bench.scenarios import Scenario
from bench.servers import OURS, SERVERS, Launch, Place, Server
from bench.studies.study import Findings, Lab, Study, Verdict, number

STORM = 10_000
PROCESSES = 4
INSIDE = Scenario("Storm", "50 topics, ten times a second", 50, 50, period_s=0.1, connections=500)
STALL_GOAL_MS = 25.0
FEW_DESCRIPTORS = 4096
WAIT_S = 60.0
KEPT = 128
"""Descriptors that the service always keeps for itself."""


@dataclass(frozen=True, slots=True)
class Kind:
    """The limits that the storm meets: clients and descriptors."""

    name: str
    most: int
    descriptors: int | None = None


KINDS = (
    Kind("room for all", 20_000),
    Kind("room for 2000", 2000),
    Kind(f"{FEW_DESCRIPTORS} descriptors", 20_000, FEW_DESCRIPTORS),
)


@dataclass(slots=True)
class Storm:
    """The answers to its processes, and the maximum of descriptors that the server had open."""

    answers: list[dict[str, Any]] = field(default_factory=list)
    descriptors: int = 0


def run(lab: Lab) -> Findings:
    """Measure the same clients inside without a storm and with one of each kind."""
    found = Findings(["", "taken", "refused", "otherwise", "all answered in, s", "p99, ms", "p99 of those inside, ms"])
    found.head += ["without the storm", "longest stall of ours, ms", "descriptors", "RSS, MB"]
    effort = Effort(3.0, lab.seconds(12.0, 8.0))
    for kind in KINDS[:2] if lab.quick else KINDS:
        with serving(_server(kind), INSIDE, lab.cores) as target:
            (quiet,) = load(target, INSIDE, effort, lab.cores, within_s=60)
            with _storm(lab, target, effort) as storm:
                (seen,) = load(target, INSIDE, effort, lab.cores, within_s=90)
            stalls = trace.read(target.folder / "trace", "stall", seen["began_ns"], seen["ended_ns"])
        stall_ms = max((line["cpu_s"] for line in stalls), default=0.0) * 1e3
        counts: Counter[str] = sum((Counter(each["counts"]) for each in storm.answers), Counter())
        taken, refused = counts.pop("101", 0), counts.pop("503", 0)
        refused += counts.pop("4504", 0)
        otherwise = ", ".join(f"{many} {what}" for what, many in counts.items() if many)
        seconds, p99_ms = (max(each[name] for each in storm.answers) for name in ("seconds", "p99_ms"))
        calm_ms, stormy_ms = quiet["p99_us"] / 1e3, seen["p99_us"] / 1e3
        lab.report(f"{kind.name}: {taken} taken, {refused} refused in {seconds:.1f} s; p99 inside {stormy_ms:.1f} ms")
        row = [kind.name, f"{taken:,}", f"{refused:,}", otherwise or "0", number(seconds), number(p99_ms)]
        row += [number(stormy_ms), number(calm_ms), number(stall_ms)]
        found.rows.append([*row, str(storm.descriptors), number(seen["rss_kb"] / 1024)])
        found.raw.append(
            {
                "kind": kind.name,
                "quiet": quiet,
                "stormy": seen,
                "answers": storm.answers,
                "descriptors": storm.descriptors,
            }
        )
        text = f"{STORM} at once, {kind.name}:"
        answered, dead = taken + refused, seen["dead"]
        found.verdicts += [
            Verdict(f"{text} taken or refused", str(STORM), str(answered), answered == STORM),
            Verdict(f"{text} of those inside died", "0", f"{dead:.0f}", not dead),
            Verdict(
                f"{text} longest stall", f"≤ {STALL_GOAL_MS:g} ms", f"{stall_ms:.0f} ms", stall_ms <= STALL_GOAL_MS
            ),
        ]
        if kind.descriptors is not None:
            left = kind.descriptors - storm.descriptors
            found.verdicts.append(Verdict(f"{text} descriptors left", f"≥ {KEPT}", str(left), left >= KEPT))
    return found


def _server(kind: Kind) -> Server:
    (plain,) = (server for server in SERVERS if server.name == OURS)

    def launch(scenario: Scenario, place: Place) -> Launch:
        command = [*plain.launch(scenario, place).command, "--max-connections", str(kind.most)]
        command += ["--trace", str(place.folder / "trace")]
        if kind.descriptors is not None:
            prlimit = shutil.which("prlimit")
            if prlimit is None:
                raise Failed("prlimit, which limits descriptors, is not installed")
            command = [prlimit, f"--nofile={kind.descriptors}:{kind.descriptors}", *command]
        return Launch(command)

    return Server(plain.name, plain.what, launch)


@contextmanager
def _storm(lab: Lab, target: Target, effort: Effort) -> Iterator[Storm]:
    """Run the storm while the clients inside are measured; its answers are complete afterwards."""
    storm, over = Storm(), threading.Event()
    open_now = Path(f"/proc/{target.process.pid}/fd")

    def watch() -> None:
        while not over.wait(0.02):
            storm.descriptors = max(storm.descriptors, sum(1 for _ in open_now.iterdir()))

    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        outputs = [folder / str(number) for number in range(PROCESSES)]
        for place, path in enumerate(outputs):
            command = [sys.executable, "-m", "bench.studies.storm_clients", "--port", str(target.port)]
            command += ["--source", f"127.0.0.{place + 2}", "--count", str(STORM // PROCESSES)]
            command += ["--after", str(effort.warm_s + 1.0), "--hold", "600"]
            stack.enter_context(running(command, lab.cores.load, path, {}))
        watching = threading.Thread(target=watch)
        watching.start()
        stack.callback(watching.join)
        stack.callback(over.set)
        yield storm
        deadline = time.monotonic() + WAIT_S
        while not all(path.read_text().endswith("}\n") for path in outputs):
            if time.monotonic() > deadline:
                raise Failed("the storm did not pass")
            time.sleep(0.1)
        storm.answers = [json.loads(path.read_text()) for path in outputs]


STUDY = Study(
    "Storm",
    f"{STORM} clients come at once",
    f"{INSIDE.connections} clients get 50 topics ten times a second. Then {STORM} more connect from {PROCESSES} "
    "processes and as many addresses, as fast as they can, on the core of the load generator but at lower priority. "
    "The server accepts or refuses each: with 503 before the upgrade, or, a hundred at a time, with close code 4504, "
    "which pages can read. The p99 of the clients inside includes their own core, which the storm shares; a stall is "
    "the CPU time of the server's loop while one of its timers waited.",
    run,
)

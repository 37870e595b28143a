"""Measure delivery beside its peers: `python -m bench`, or `python -m bench --quick` for daily use."""

import argparse
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import report, tools
from bench.measure import Effort, measure
from bench.processes import Cores, Failed, allow_many_sockets
from bench.scenarios import QUICK as QUICK_SCENARIOS
from bench.scenarios import SCENARIOS, Figure, Scenario
from bench.servers import QUICK as QUICK_SERVERS
from bench.servers import SERVERS, Server
from bench.studies import STUDIES
from bench.studies.study import Findings, Lab, Study
from bench.tools import Absent

FULL_EFFORT, FULL_ROUNDS = Effort(warm_s=1.5, window_s=3.0), 3
QUICK_EFFORT, QUICK_ROUNDS = Effort(warm_s=0.8, window_s=1.5), 2
KEYS = [*(scenario.key for scenario in SCENARIOS), *(study.key for study in STUDIES)]
OUTPUT = tools.HERE.parent / "docs" / "benchmarks"


def main() -> int:
    """Run the benchmark and return the exit status."""
    options = _options()
    if sys.platform != "linux":
        print("bench: the benchmark reads CPU time and sockets from /proc, which only Linux has", file=sys.stderr)
        return 1
    try:
        tools.compiled("loadgen")
        tools.compiled("fanlimit")
    except Absent as absent:
        print(f"bench: {absent}", file=sys.stderr)
        return 1
    allow_many_sockets()
    # Exit handlers end the started processes, so a stop signal has to become an exit.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it otherwise
    scenarios = [scenario for scenario in SCENARIOS if scenario.key in options.scenarios]
    studies = [study for study in STUDIES if study.key in options.scenarios]
    servers = [server for server in SERVERS if server.name in options.servers]
    results = report.Results(scenarios, servers, options.rounds, options.quick)
    effort = QUICK_EFFORT if options.quick else FULL_EFFORT
    began = time.monotonic()
    try:
        _measure_all(results, effort)
        for study in studies:
            results.studies[study.key] = (study, _run_study(study, options.quick, options.minutes))
    except KeyboardInterrupt:
        print("\nbench: interrupted; nothing was written", file=sys.stderr)
        return 130
    _summarise(results)
    print(f"\n{time.monotonic() - began:.0f} s")
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        _write(results, options.output)
    return 0


def _write(results: report.Results, folder: Path) -> None:
    files: dict[str, Callable[[report.Results], str]] = {}
    if results.scenarios:
        files |= {"delivery.md": report.page, "delivery.svg": report.picture, "delivery.json": report.raw}
    if results.studies:
        files |= {"service.md": report.studies_page, "service.json": report.studies_raw}
    for name, text in files.items():
        (folder / name).write_text(text(results))
    print(f"written to {folder}: {', '.join(files)}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the main scenarios and rivals only; writes nothing")
    parser.add_argument("--scenarios", type=_names(KEYS), metavar="A,B", help="only these")
    parser.add_argument("--servers", type=_names([s.name for s in SERVERS], ";"), metavar="A;B", help="only these")
    parser.add_argument("--rounds", type=int, help="number of measurements of each")
    parser.add_argument(
        "--minutes", type=float, default=0.0, help="watch memory among stuck clients for at least this long"
    )
    parser.add_argument("--output", type=Path, help=f"folder of the report (default, if all are measured: {OUTPUT})")
    options = parser.parse_args()
    complete = not (options.quick or options.scenarios or options.servers)
    options.scenarios = options.scenarios or (list(QUICK_SCENARIOS) if options.quick else KEYS)
    options.servers = options.servers or (list(QUICK_SERVERS) if options.quick else [s.name for s in SERVERS])
    options.rounds = options.rounds or (QUICK_ROUNDS if options.quick else FULL_ROUNDS)
    if complete and options.output is None:
        options.output = OUTPUT
    return options


def _names(known: Sequence[str], separator: str = ",") -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        names = [name.strip() for name in text.split(separator)]
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is not one of {separator.join(known)}")
        return names

    return read


def _measure_all(results: report.Results, effort: Effort) -> None:
    cores = Cores.of_this_machine()
    if cores.server is None:
        print("bench: there are no two cores to pin to; figures will be noisy", file=sys.stderr)
    for scenario in results.scenarios:
        # Rounds alternate between the servers, so that a noisy minute affects all of them.
        rounds = results.rounds if scenario.figure is not Figure.KB_PER_CONNECTION else 1
        for turn in range(rounds):
            for server in results.servers:
                if server.takes_part(scenario) and server.name not in results.absent:
                    _measure_one(results, server, scenario, effort, cores, f"{turn + 1}/{rounds}")


def _measure_one(
    results: report.Results, server: Server, scenario: Scenario, effort: Effort, cores: Cores, turn: str
) -> None:
    label = f"{scenario.key:10} {turn} {server.name:18}"
    try:
        sample = measure(server, scenario, effort, cores)
    except Absent as absent:
        results.absent[server.name] = str(absent)
        print(f"{label} absent: {absent}", flush=True)
        return
    except Failed as failed:
        results.cell(scenario.key, server.name).failures.append(str(failed))
        print(f"{label} failed: {failed}", flush=True)
        return
    results.cell(scenario.key, server.name).samples.append(sample)
    parts = [f"{report.number(sample.figure):>7} {scenario.figure}"]
    if sample.messages:
        parts.append(f"{sample.messages_per_s:,.0f} messages/s at {sample.load:.0%} load")
    print(f"{label} {', '.join([*parts, *sample.remarks])}", flush=True)


def _run_study(study: Study, quick: bool, minutes: float) -> Findings:
    lab = Lab(Cores.of_this_machine(), quick, lambda text: print(f"{study.key:14} {text}", flush=True), minutes)
    try:
        return study.run(lab)
    except (Absent, Failed) as problem:
        print(f"{study.key:14} {problem}", flush=True)
        return Findings([""], remarks=[f"No figures: {problem}"])


def _summarise(results: report.Results) -> None:
    if results.cells:
        print()
        print("\n".join(report.overview(results, lambda scenario: scenario.figure is Figure.CPU_PER_MILLION)))
        print("(CPU seconds a million delivered messages: median, minimum–maximum)\n")
        print("\n".join(report.goals(results)))
    for study, found in results.studies.values():
        print(f"\n{study.key}: {study.title}\n")
        print("\n".join([*report.table(found.head, found.rows), *found.remarks]))
    print()
    print("\n".join(report.study_goals(results)))


if __name__ == "__main__":
    sys.exit(main())

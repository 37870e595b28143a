"""Measure delivery beside its peers: `python -m bench`, or `python -m bench --quick` for daily use."""

import argparse
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import report, tools
from bench.measure import Cores, Effort, Failed, measure
from bench.scenarios import QUICK as QUICK_SCENARIOS
from bench.scenarios import SCENARIOS, Figure, Scenario
from bench.servers import QUICK as QUICK_SERVERS
from bench.servers import SERVERS, Server
from bench.tools import Absent

FULL_EFFORT, FULL_ROUNDS = Effort(warm_s=1.5, window_s=3.0), 3
QUICK_EFFORT, QUICK_ROUNDS = Effort(warm_s=0.8, window_s=1.5), 2
OUTPUT = tools.HERE.parent / "docs" / "benchmarks"


def main() -> int:
    """Run it. Returns the exit status."""
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
    # What was started is ended on the way out, so a request to stop has to be a way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs would ignore it
    scenarios = [scenario for scenario in SCENARIOS if scenario.key in options.scenarios]
    servers = [server for server in SERVERS if server.name in options.servers]
    results = report.Results(scenarios, servers, options.rounds)
    effort = QUICK_EFFORT if options.quick else FULL_EFFORT
    began = time.monotonic()
    try:
        _measure_all(results, effort)
    except KeyboardInterrupt:
        print("\nbench: interrupted; nothing was written", file=sys.stderr)
        return 130
    _summarise(results)
    print(f"\n{time.monotonic() - began:.0f} s")
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "delivery.md").write_text(report.page(results))
        (options.output / "delivery.svg").write_text(report.picture(results))
        (options.output / "delivery.json").write_text(report.raw(results))
        print(f"written to {options.output}/delivery.md")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the main scenarios and rivals only; writes nothing")
    parser.add_argument("--scenarios", type=_names([s.key for s in SCENARIOS]), metavar="A,B", help="only these")
    parser.add_argument("--servers", type=_names([s.name for s in SERVERS], ";"), metavar="A;B", help="only these")
    parser.add_argument("--rounds", type=int, help="how often each is measured")
    parser.add_argument("--output", type=Path, help=f"folder of the report (default, if all are measured: {OUTPUT})")
    options = parser.parse_args()
    complete = not (options.quick or options.scenarios or options.servers)
    options.scenarios = options.scenarios or (list(QUICK_SCENARIOS) if options.quick else [s.key for s in SCENARIOS])
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
        # Rounds alternate between the servers, so that a noisy minute hits all of them.
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
    said = [f"{report.number(sample.figure):>7} {scenario.figure}"]
    if sample.messages:
        said.append(f"{sample.messages_per_s:,.0f} messages/s at {sample.load:.0%} load")
    print(f"{label} {', '.join([*said, *sample.remarks])}", flush=True)


def _summarise(results: report.Results) -> None:
    print()
    print("\n".join(report.overview(results, lambda scenario: scenario.figure is Figure.CPU_PER_MILLION)))
    print("(CPU seconds a million delivered messages: median, minimum–maximum)\n")
    print("\n".join(report.goals(results)))


if __name__ == "__main__":
    sys.exit(main())

"""Measure continuity beside others: `python -m bench.continuity`, or `--quick` in under two minutes."""

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench import tools
from bench.continuity import page, trials
from bench.continuity.contestants import CONTESTANTS, Contestant
from bench.continuity.page import ContestantFigures, Results
from bench.continuity.trials import TRIALS, Effort, Figure
from bench.processes import ROOT, Failed, scratch_folder
from bench.tools import Absent

FULL_EFFORT, FULL_SEEDS = Effort(tape_s=420.0, calm_s=130.0, rotations=10, watched_s=150.0, settle_s=30.0), (1, 2, 3)
QUICK_EFFORT, QUICK_SEEDS = Effort(tape_s=65.0, calm_s=65.0, rotations=4, watched_s=60.0, settle_s=15.0), (1,)
AT_ONCE, REST_S = 4, 3.0
"""Number of clients started at once, and the quiet time before the faults begin."""
MOST_BEHIND_MS = 2000
"""With an exchange later than this, the figures would measure the exchange instead of the client."""
OUTPUT = ROOT / "docs" / "benchmarks"


def main() -> int:
    """Run the benchmark and return the exit status."""
    options = _options()
    if sys.platform == "win32":
        print("bench: the benchmark needs POSIX processes", file=sys.stderr)
        return 1
    # Exit handlers end the started processes, so a stop signal has to become an exit.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it otherwise
    present, absent = _available()
    effort = QUICK_EFFORT if options.quick else FULL_EFFORT
    seeds = options.seeds or (QUICK_SEEDS if options.quick else FULL_SEEDS)
    began = time.monotonic()
    try:
        with scratch_folder() as folder:
            seen = asyncio.run(_measure(present, seeds, effort, folder))
    except KeyboardInterrupt:
        print("\nbench: interrupted; nothing was written", file=sys.stderr)
        return 130
    command = "make bench-continuity" if seeds == FULL_SEEDS else "python -m bench.continuity " + " ".join(sys.argv[1:])
    results = Results(effort, seeds, seen, absent, command, options.quick)
    print("\n" + "\n".join(page.short(results)))
    print(f"\n{time.monotonic() - began:.0f} s")
    if failures := [f"{name}: {failure}" for name, each in seen.items() for failure in each.failures]:
        print("\nbench: " + "; ".join(failures) + "; nothing was written", file=sys.stderr)
        return 1
    output = options.output or (None if options.quick or options.seeds else OUTPUT)
    if output is not None:
        _write(results, output)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.continuity", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed and a short tape; writes nothing")
    parser.add_argument("--seeds", type=_numbers, metavar="1,2", help="the seeds of the faults")
    parser.add_argument("--output", type=Path, help=f"folder of the report (default, if all is measured: {OUTPUT})")
    return parser.parse_args()


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _available() -> tuple[list[Contestant], dict[str, str]]:
    """Install missing libraries; return those available, and the others with the reason."""
    absent: dict[str, str] = {}
    for each in CONTESTANTS:
        try:
            if each.package is not None:
                tools.client_library(each.package)
        except Absent as reason:
            absent[each.name] = str(reason)
            print(f"{each.name} is absent: {reason}", file=sys.stderr)
    return [each for each in CONTESTANTS if each.name not in absent], absent


async def _measure(
    contestants: Sequence[Contestant], seeds: Sequence[int], effort: Effort, folder: Path
) -> dict[str, ContestantFigures]:
    """Run all trials at once; they compute little and wait for the same clock."""
    todo = [(kind, seed, contestant) for kind in TRIALS for seed in seeds for contestant in contestants]
    start_ms = trials.wall_ms() // 1000 * 1000
    ready = asyncio.Barrier(len(todo))
    starting = asyncio.Semaphore(AT_ONCE)

    async def one(kind: str, seed: int, contestant: Contestant) -> Figure | Failed:
        label = f"{kind:10} {seed} {contestant.name}"
        place = folder / f"{kind}-{seed}-{contestant.name}"
        place.mkdir()
        has_begun = False
        try:
            async with trials.running_trial(contestant, seed, place, start_ms, starting) as it:
                has_begun = True
                await ready.wait()
                await asyncio.sleep(REST_S)
                it.behind_ms = 0
                figure = await TRIALS[kind](it, effort)
                if it.behind_ms > MOST_BEHIND_MS:
                    raise Failed(f"the machine was too busy: its exchange was {it.behind_ms / 1000:.1f} s late")
        except (Failed, TimeoutError) as failed:
            print(f"{label} failed: {failed}", flush=True)
            if not has_begun:
                await ready.wait()  # so that the others do not wait
            return Failed(str(failed))
        print(f"{label}: {figure}", flush=True)
        return figure

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(*each)) for each in todo]
    seen = {contestant.name: ContestantFigures() for contestant in contestants}
    for (kind, seed, contestant), task in zip(todo, tasks, strict=True):
        figure = task.result()
        if isinstance(figure, Failed):
            seen[contestant.name].failures.append(f"{kind} of seed {seed}: {figure}")
        else:
            getattr(seen[contestant.name], kind).append(figure)
    return seen


def _write(results: Results, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "continuity.md").write_text(page.page(results))
    (folder / "continuity.json").write_text(json.dumps(page.raw(results), indent=1) + "\n")
    print(f"written to {folder}: continuity.md, continuity.json")


if __name__ == "__main__":
    sys.exit(main())

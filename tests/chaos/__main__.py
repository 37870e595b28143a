"""`python -m tests.chaos`: run the whole service under seeded faults and report what went wrong."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.faults import dump, load
from tests.chaos.runner import Plan, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the seeds and return the exit status: 1 if there were findings."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description="Run the whole service under seeded faults, in virtual time, and check what its clients received.",
    )
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="number of seeds, from --first on")
    parser.add_argument("--first", type=int, default=1, metavar="SEED")
    parser.add_argument("--seed", type=int, help="run only this seed")
    parser.add_argument(
        "--span", type=float, default=300.0, metavar="S", help="seconds of market time in which faults happen"
    )
    parser.add_argument("--faults", type=Path, metavar="FILE", help="play this tape of faults instead of the seed's")
    parser.add_argument("--dump", type=Path, metavar="FILE", help="write the tape of faults of --seed and exit")
    parser.add_argument("-v", "--verbose", action="store_true", help="print the faults of each seed")
    options = parser.parse_args(arguments)
    faults = load(options.faults) if options.faults is not None else None
    seeds = [options.seed] if options.seed is not None else range(options.first, options.first + options.seeds)
    if options.dump is not None:
        dump(Plan(seeds[0], options.span).tape, options.dump)
        return 0
    began, messages, unclean = time.monotonic(), 0, []
    for seed in seeds:
        plan = Plan(seed, options.span, faults)
        if options.verbose:
            print(
                f"seed {seed}, market {plan.market}, clock off by {plan.skew_ms} ms:",
                *plan.tape,
                sep="\n  ",
                flush=True,
            )
        outcome = run(plan)
        messages += outcome.messages
        if outcome.findings:
            unclean.append(seed)
            print(f"seed {seed}: {len(outcome.findings)} findings", *outcome.findings[:20], sep="\n  ", flush=True)
    took_s = time.monotonic() - began
    print(f"{len(seeds)} seeds, {messages} messages checked in {took_s:.0f} s: ", end="")
    print(f"findings in {len(unclean)}: {', '.join(map(str, unclean))}" if unclean else "clean")
    for seed in unclean[:3]:
        print(f"  again: python -m tests.chaos --seed {seed} --span {options.span:g} -v")
    return 1 if unclean else 0


if __name__ == "__main__":
    sys.exit(main())

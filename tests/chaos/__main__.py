"""`python -m tests.chaos`: seeds of trouble, each through the whole service, and a report of what went wrong."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.faults import dump, load
from tests.chaos.runner import Plan, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 if there were findings."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description="Seeded faults through the whole service, at speed; clients are asked what they heard.",
    )
    parser.add_argument("--seeds", type=int, default=20, metavar="N", help="so many seeds, from --first on")
    parser.add_argument("--first", type=int, default=1, metavar="SEED")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--span", type=float, default=300.0, metavar="S", help="seconds of market in which faults come")
    parser.add_argument("--faults", type=Path, metavar="FILE", help="a tape of faults instead of the seed's own")
    parser.add_argument("--dump", type=Path, metavar="FILE", help="write the tape of faults of --seed, and run nothing")
    parser.add_argument("-v", "--verbose", action="store_true", help="tell the faults of each seed")
    told = parser.parse_args(arguments)
    faults = load(told.faults) if told.faults is not None else None
    seeds = [told.seed] if told.seed is not None else range(told.first, told.first + told.seeds)
    if told.dump is not None:
        dump(Plan(seeds[0], told.span).tape, told.dump)
        return 0
    began, messages, unclean = time.monotonic(), 0, []
    for seed in seeds:
        plan = Plan(seed, told.span, faults)
        if told.verbose:
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
        print(f"  again: python -m tests.chaos --seed {seed} --span {told.span:g} -v")
    return 1 if unclean else 0


if __name__ == "__main__":
    sys.exit(main())

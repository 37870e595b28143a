"""`python -m tests.hunt`: random programs against the hub for as long as you like; the exit status is 1 if one fails.

Each program has a seed, and `--seed N --programs 1` runs it again. On the way, the same judge reads what real sockets
bring on asyncio and on uvloop. `--mutants` breaks the hub on purpose and tells which breakages are found.
"""

import argparse
import logging
import secrets
import sys
import time
from collections import Counter

from tests.hunt import mutants, programs, sockets

SOCKETS_EVERY_S = 20.0
FAILURES_SHOWN = 10


def main() -> int:
    """Hunt until the time is over, and report."""
    parser = argparse.ArgumentParser(prog="python -m tests.hunt", description=__doc__.split("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, help="the first program's; those after it count on")
    parser.add_argument("--programs", type=int, help="stop after so many")
    parser.add_argument("--profile", choices=list(programs.PROFILES), help="draw only programs of this kind")
    parser.add_argument("--no-sockets", action="store_true", help="leave out the real sockets")
    parser.add_argument("--quick", action="store_true", help="end with the first failure, and do not make it shorter")
    parser.add_argument("--mutants", nargs="*", metavar="NAME", help="break the hub on purpose: all ways, or these")
    options = parser.parse_args()
    # The faults are planted, so what the service logs about them would only hide what the hunt finds.
    logging.getLogger().addHandler(logging.NullHandler())
    if options.mutants is not None:
        return mutants.report(options.mutants, options.minutes * 60)
    first = secrets.randbelow(10**9) if options.seed is None else options.seed
    print(f"hunting for {options.minutes:g} min from seed {first}", flush=True)
    return hunt(options, first)


def hunt(options: argparse.Namespace, first: int) -> int:
    """Run one program after the other; return the exit status."""
    until = time.monotonic() + options.minutes * 60
    sockets_at = time.monotonic()
    ran: Counter[str] = Counter()
    failures = 0
    seed = first
    while time.monotonic() < until and (options.programs is None or ran.total() < options.programs):
        if not options.no_sockets and time.monotonic() >= sockets_at:
            for loop in sockets.LOOPS:
                failures += _show(sockets.hunt(seed, loop))
                ran[f"sockets on {loop}"] += 1
            sockets_at = time.monotonic() + SOCKETS_EVERY_S
        if options.profile in (None, programs.profile_of(seed)):
            failures += _show(programs.hunt(seed, shrink=not options.quick))
            ran[programs.profile_of(seed)] += 1
        if failures >= (1 if options.quick else FAILURES_SHOWN):
            break
        seed += 1
    kinds = ", ".join(f"{count} {name}" for name, count in sorted(ran.items()))
    print(f"{ran.total()} programs ({kinds}), seeds {first} to {seed - 1}: {failures} failed")
    return 1 if failures else 0


def _show(failure: object) -> int:
    if failure is None:
        return 0
    print(failure, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.fuzz [--minutes N] [TARGET…]`: fuzz each target in a process of its own, guided by coverage.

atheris, which `make fuzz` installs, measures coverage. Where it isn't available, Hypothesis draws mutations without
coverage. Failing inputs are written to `--out`; `--again FILE` runs one again.
"""

import argparse
import contextlib
import importlib.util
import subprocess
import sys
import time
from pathlib import Path

from hypothesis import given, settings

atheris = importlib.import_module("atheris") if importlib.util.find_spec("atheris") else None
READERS = ["stream_server", "feeds", "orchestrator", "feedparser", "email"]
"""Packages to instrument, which happens while they are imported."""

with atheris.instrument_imports(include=READERS) if atheris else contextlib.nullcontext():
    from tests.fuzz.mutations import mutated
    from tests.fuzz.targets import TARGETS

OUT = Path("build/fuzz")
SLOW_S = 10
"""An input that takes this long is a finding."""
MEMORY_MB = 2048


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz the parsers of input from outside.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--minutes", type=float, default=5.0, help="minutes for each target")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the corpus and failing inputs")
    parser.add_argument("--again", type=Path, metavar="FILE", help="run one target on this file only")
    parser.add_argument("--alone", action="store_true", help="fuzz one target in this process")
    options = parser.parse_args()
    names = options.targets or list(TARGETS)
    if unknown := set(names) - set(TARGETS):
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    if options.again is not None:
        TARGETS[names[0]].run(options.again.read_bytes())
        return 0
    if options.alone:
        _alone(names[0], options.minutes * 60, options.out)
        return 0
    failed = []
    for name in names:
        print(f"--- {name}: {options.minutes:g} minutes, {'atheris' if atheris else 'Hypothesis'}", flush=True)
        command = [sys.executable, "-m", "tests.fuzz", "--alone", "--minutes", str(options.minutes), name]
        if subprocess.run([*command, "--out", str(options.out)], check=False).returncode != 0:
            failed.append(name)
    print(f"findings in {', '.join(failed)}" if failed else f"nothing found in {', '.join(names)}")
    return 1 if failed else 0


def _alone(name: str, seconds: float, out: Path) -> None:
    target = TARGETS[name]
    if atheris is None:
        _unguided(name, seconds)
        return
    corpus = out / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    flags = [
        f"-max_total_time={round(seconds)}",
        f"-max_len={target.most_bytes}",
        f"-timeout={SLOW_S}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-artifact_prefix={out}/{name}-",
        "-print_final_stats=1",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], target.run)
    atheris.Fuzz()


def _unguided(name: str, seconds: float) -> None:
    deadline, count = time.monotonic() + seconds, 0

    @settings(max_examples=2000, deadline=None, database=None)
    @given(mutated(TARGETS[name]))
    def hunt(data: bytes) -> None:
        TARGETS[name].run(data)

    while time.monotonic() < deadline:
        hunt()
        count += 2000
    print(f"{count} examples")


if __name__ == "__main__":
    sys.exit(main())

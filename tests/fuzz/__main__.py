"""`python -m tests.fuzz [--minutes N] [TARGET…]`: each target in a process of its own, guided by coverage.

Coverage comes from atheris, which `make fuzz` installs. Where there is none for this machine, Hypothesis draws
mutations without a guide. What fails is written to `--out`, to be run again with `--again FILE`.
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
"""What is instrumented, which has to happen while it is imported."""

with atheris.instrument_imports(include=READERS) if atheris else contextlib.nullcontext():
    from tests.fuzz.mutations import mutated
    from tests.fuzz.targets import TARGETS

OUT = Path("build/fuzz")
SLOW_S = 10
"""An input that takes this long is a finding."""
MEMORY_MB = 2048


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz what reads the words of strangers.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--minutes", type=float, default=5.0, help="for each target")
    parser.add_argument("--out", type=Path, default=OUT, help="corpus and findings")
    parser.add_argument("--again", type=Path, metavar="FILE", help="run one target on this file alone")
    parser.add_argument("--alone", action="store_true", help="in this process")
    told = parser.parse_args()
    names = told.targets or list(TARGETS)
    if unknown := set(names) - set(TARGETS):
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    if told.again is not None:
        TARGETS[names[0]].run(told.again.read_bytes())
        return 0
    if told.alone:
        _alone(names[0], told.minutes * 60, told.out)
        return 0
    failed = []
    for name in names:
        print(f"--- {name}: {told.minutes:g} minutes, {'atheris' if atheris else 'Hypothesis'}", flush=True)
        command = [sys.executable, "-m", "tests.fuzz", "--alone", "--minutes", str(told.minutes), name]
        if subprocess.run([*command, "--out", str(told.out)], check=False).returncode != 0:
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

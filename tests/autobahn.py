"""`python -m tests.autobahn WSTEST`: run the Autobahn test suite on both frame layers, as `make autobahn` does.

Its client needs an echo server, which `tests/echo.py` provides with the frame layers and limits of `/ws`. Every case
that does not end as the suite expects must be one of DEVIATIONS, and is printed with its reason.
"""

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from stream_server.connections import light_websocket, websocket
from stream_server.delivery.session import MAX_MESSAGE_BYTES
from tests.echo import echoing

SECTIONS = ("1", "2", "3", "4", "5", "6", "7", "10")
"""Framing, pings, reserved bits, opcodes, fragments, UTF-8, closing, splitting. Section 9 tests speed, 12 and 13 test
compression, of which we accept only the part that needs no memory between messages."""

FINE = frozenset({"OK", "INFORMATIONAL"})
BINARY = "binary: clients of /ws send JSON as text, so a binary frame is answered with an error"
TOO_BIG = f"limit: a message over {MAX_MESSAGE_BYTES} bytes is closed with 1009; no valid request is that long"
UTF8_LATE = "late: text is checked when its message is complete, after at most 16 KiB, and closed with 1007"
ABNORMAL = "aiohttp accepts the code 1006 in a close frame; the connection ends all the same"

ON_BOTH: Mapping[str, str] = {
    **{f"1.2.{number}": BINARY for number in range(1, 9)},
    **dict.fromkeys(("1.1.6", "1.1.7", "1.1.8", "10.1.1"), TOO_BIG),
    **{f"6.4.{number}": UTF8_LATE for number in range(1, 5)},
}
DEVIATIONS: Mapping[str, Mapping[str, str]] = {"light": ON_BOTH, "aiohttp": {**ON_BOTH, "7.9.5": ABNORMAL}}
"""Why a case does not end as the suite expects, by frame layer and case."""


async def run(wstest: Path, out: Path, sections: tuple[str, ...]) -> None:
    """Run the suite on both layers and write its report to `out`. Raises: OSError if it cannot start."""
    with TemporaryDirectory() as folder:
        async with echoing(Path(folder) / "a", light=True) as ours, echoing(Path(folder) / "b", light=False) as theirs:
            spec = {
                "outdir": str(out),
                "servers": [
                    {"agent": "light", "url": f"ws://127.0.0.1:{ours}/ws"},
                    {"agent": "aiohttp", "url": f"ws://127.0.0.1:{theirs}/ws"},
                ],
                "cases": [f"{section}.*" for section in sections],
                "exclude-cases": [],
                "exclude-agent-cases": {},
            }
            file = Path(folder) / "spec.json"
            file.write_text(json.dumps(spec))
            suite = await asyncio.create_subprocess_exec(
                wstest, "-m", "fuzzingclient", "-s", str(file), stdout=asyncio.subprocess.DEVNULL
            )
            await suite.wait()


def report_deviations(out: Path, raised: bool) -> bool:
    """Print the cases that did not end as the suite expects; return whether all of them are known deviations."""
    results = json.loads((out / "index.json").read_text())
    fine = True
    for layer, cases in sorted(results.items()):
        others: dict[str, list[str]] = {}
        for case, seen in sorted(cases.items(), key=lambda entry: [int(part) for part in entry[0].split(".")]):
            if seen["behavior"] in FINE and seen["behaviorClose"] in FINE:
                continue
            reason = DEVIATIONS[layer].get(case)
            known = reason is not None and not (raised and reason == TOO_BIG)
            fine = fine and known
            words = reason if reason is not None and known else f"UNKNOWN: {seen}"
            others.setdefault(words, []).append(case)
        good = len(cases) - sum(map(len, others.values()))
        print(f"{layer}: {good} of {len(cases)} cases end as the suite expects")
        for words, numbers in others.items():
            print(f"  {', '.join(numbers)}\n    {words}")
    return fine


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.autobahn", description="Run the Autobahn suite on /ws.")
    parser.add_argument("wstest", type=Path, help="the suite's command")
    parser.add_argument("--out", type=Path, default=Path("build/autobahn"), help="folder for the report")
    parser.add_argument(
        "--limit-bytes", type=int, help="accept messages of this size, to show that only the limit refuses them"
    )
    parser.add_argument("--sections", default=",".join(SECTIONS))
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)  # the upstreams of this service do not exist, and it would log so
    if options.limit_bytes:
        for module in (light_websocket, websocket):
            vars(module)["MAX_MESSAGE_BYTES"] = options.limit_bytes
    options.out.mkdir(parents=True, exist_ok=True)
    asyncio.run(run(options.wstest, options.out.resolve(), tuple(options.sections.split(","))))
    return 0 if report_deviations(options.out, bool(options.limit_bytes)) else 1


if __name__ == "__main__":
    sys.exit(main())

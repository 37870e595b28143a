"""`python -m tests.autobahn WSTEST`: the Autobahn test suite against both frame layers, as `make autobahn` runs it.

Its client wants an echo, which `tests/echo.py` gives; frame layers and limits are those of `/ws`. Every case that does
not end as the suite wants must be one of DEVIATIONS, and is printed with its reason.
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
"""Framing, pings, reserved bits, opcodes, fragments, UTF-8, closing, splitting. 9 is about speed, 12 and 13 are
about compression, of which we take what costs no memory."""

FINE = frozenset({"OK", "INFORMATIONAL"})
BINARY = "binary: a client of /ws talks JSON as text, so binary frames are answered with an error"
TOO_BIG = f"limit: a message over {MAX_MESSAGE_BYTES} bytes ends with 1009; no sensible one is that long"
UTF8_LATE = "late: text is checked once its message is whole, which is never later than 16 KiB; it ends with 1007"
ABNORMAL = "aiohttp takes the code 1006 in a close frame for a good one; the connection ends all the same"

ON_BOTH: Mapping[str, str] = {
    **{f"1.2.{number}": BINARY for number in range(1, 9)},
    **dict.fromkeys(("1.1.6", "1.1.7", "1.1.8", "10.1.1"), TOO_BIG),
    **{f"6.4.{number}": UTF8_LATE for number in range(1, 5)},
}
DEVIATIONS: Mapping[str, Mapping[str, str]] = {"light": ON_BOTH, "aiohttp": {**ON_BOTH, "7.9.5": ABNORMAL}}
"""By frame layer and case, why it does not end as the suite wants."""


async def run(wstest: Path, out: Path, sections: tuple[str, ...]) -> None:
    """Let the suite's client loose on both layers; its report goes to `out`. Raises OSError if it cannot start."""
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


def judged(out: Path, raised: bool) -> bool:
    """Print what did not end as the suite wants; whether all of it is known."""
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
            words = reason if reason is not None and known else f"NOT KNOWN: {seen}"
            others.setdefault(words, []).append(case)
        good = len(cases) - sum(map(len, others.values()))
        print(f"{layer}: {good} of {len(cases)} cases end as the suite wants")
        for words, numbers in others.items():
            print(f"  {', '.join(numbers)}\n    {words}")
    return fine


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.autobahn", description="The Autobahn suite on /ws.")
    parser.add_argument("wstest", type=Path, help="the suite's command")
    parser.add_argument("--out", type=Path, default=Path("build/autobahn"), help="where its report goes")
    parser.add_argument(
        "--limit-bytes", type=int, help="take messages of this size, to see that nothing but the limit refuses them"
    )
    parser.add_argument("--sections", default=",".join(SECTIONS))
    told = parser.parse_args()
    logging.disable(logging.CRITICAL)  # the upstreams of this service are nowhere, and it would say so
    if told.limit_bytes:
        for module in (light_websocket, websocket):
            vars(module)["MAX_MESSAGE_BYTES"] = told.limit_bytes
    told.out.mkdir(parents=True, exist_ok=True)
    asyncio.run(run(told.wstest, told.out.resolve(), tuple(told.sections.split(","))))
    return 0 if judged(told.out, bool(told.limit_bytes)) else 1


if __name__ == "__main__":
    sys.exit(main())

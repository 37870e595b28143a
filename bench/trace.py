"""Write and read a server's notes on itself: JSON lines with CLOCK_MONOTONIC, selected by window."""

import asyncio
import json
import time
from pathlib import Path

LOOK_EVERY_S = 0.002
WORTH_A_LINE_S = 0.003


class Trace:
    """Writes the lines of a trace."""

    def __init__(self, file: Path) -> None:
        self.lines = file.open("w", buffering=1)

    def note(self, kind: str, **values: float) -> None:
        """Write one line."""
        self.lines.write(json.dumps({"kind": kind, "at_ns": time.monotonic_ns(), **values}) + "\n")

    def watch_the_loop(self) -> None:
        """Record how late a timer fires from now on; call it inside the loop.

        `cpu_s` is the CPU time of this thread in between: a stall without it comes from another process on our core.
        """
        loop = asyncio.get_running_loop()
        began, cpu = time.monotonic(), time.thread_time()

        def look() -> None:
            nonlocal began, cpu
            late_s = time.monotonic() - began - LOOK_EVERY_S
            if late_s > WORTH_A_LINE_S:
                self.note("stall", late_s=late_s, cpu_s=time.thread_time() - cpu)
            began, cpu = time.monotonic(), time.thread_time()
            loop.call_later(LOOK_EVERY_S, look)

        look()


def read(file: Path, kind: str, began_ns: float, ended_ns: float) -> list[dict[str, float]]:
    """Return the lines of a kind within a window; a truncated last line is ignored."""
    lines = []
    for text in file.read_text().splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if line["kind"] == kind and began_ns <= line["at_ns"] <= ended_ns:
            lines.append(line)
    return lines

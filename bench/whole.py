"""Run the whole service, fed by an upstream, and measure its three stages.

Parse is opening and reading a frame (`FrameReader`). Publish is the rest until the events of a frame are in the burst:
comparing, encoding, ids, history. Flush is joining frames and handing them to the transports. The kernel's part of the
writes comes at the end of the loop's turn, outside of all three.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from bench.trace import Trace
from feeds.exchange.market import ExchangeMarket
from feeds.exchange.venue import Frame, Opened, Prices
from feeds.venues.binance import description
from stream_server import __main__ as command
from stream_server import serving
from stream_server.connections.listener import Listener, listen
from stream_server.delivery.rounds import Rounds

P = ParamSpec("P")
R = TypeVar("R")


class Stages:
    """Counts CPU seconds of each stage and writes a line for each frame of tickers."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.spent_s: dict[str, float] = {}

    def timed(self, stage: str, function: Callable[P, R]) -> Callable[P, R]:
        """Return the same function with its CPU time counted."""
        self.spent_s[stage] = 0.0

        @wraps(function)
        def run(*arguments: P.args, **named: P.kwargs) -> R:
            began = time.thread_time()
            result = function(*arguments, **named)
            self.spent_s[stage] += time.thread_time() - began
            return result

        return run

    def write_line(self) -> None:
        """Write the line of a handled frame of tickers; its flush time is counted since the previous line."""
        spent = self.spent_s
        parse_s, publish_s = spent["open"] + spent["read"], spent["part"] - spent["read"]
        self.trace.note("frame", parse_s=parse_s, publish_s=publish_s, flush_s=spent["flush"])
        self.spent_s = dict.fromkeys(spent, 0.0)


def main() -> int:
    """Run the service until it is ended, and return the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trace", type=Path, required=True)
    trace = Trace(parser.parse_args().trace)
    stages = Stages(trace)
    frames = description.BINANCE.frames
    timed = replace(frames, open=stages.timed("open", frames.open), read=stages.timed("read", frames.read))
    description.BINANCE = replace(description.BINANCE, frames=timed)
    # These functions are looked up by name at each call, so the service needs no hooks for this.
    take_part = stages.timed("part", ExchangeMarket.part)

    def part(self: ExchangeMarket, opened: Opened, start: int = 0, end: int | None = None) -> Frame | None:
        taken = take_part(self, opened, start, end)
        if isinstance(taken, Prices) and (end is None or end >= opened.rows):
            stages.write_line()
        return taken

    ExchangeMarket.part = part  # type: ignore[method-assign]
    Rounds.flush = stages.timed("flush", Rounds.flush)  # type: ignore[method-assign]

    async def listen_and_watch(*of: object) -> Listener:
        trace.watch_the_loop()
        return await listen(*of)  # type: ignore[arg-type]

    serving.listen = listen_and_watch  # type: ignore[attr-defined, assignment]
    return command.main([])


if __name__ == "__main__":
    sys.exit(main())

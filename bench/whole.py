"""The service as it is started in earnest, fed by an upstream, with clocks at its three stages.

Parse is `read_frame`; publish is what else a frame costs until its events lie in the burst: comparing, encoding, ids,
history; flush is joining and handing over to the transports. The kernel's part of the writes comes at the end of the
loop's turn, outside of all three.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from aiohttp import web

from bench.trace import Trace
from feeds.exchange.market import BinanceMarket
from feeds.venues import binance
from stream_server import __main__ as command
from stream_server import app
from stream_server.context import Context
from stream_server.delivery.rounds import Rounds

P = ParamSpec("P")
R = TypeVar("R")


class Stages:
    """CPU seconds of each stage since the last frame of tickers; a line for each of those."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.spent_s: dict[str, float] = {}

    def timed(self, stage: str, function: Callable[P, R]) -> Callable[P, R]:
        """The same function, with its time counted."""
        self.spent_s[stage] = 0.0

        @wraps(function)
        def run(*arguments: P.args, **named: P.kwargs) -> R:
            began = time.thread_time()
            result = function(*arguments, **named)
            self.spent_s[stage] += time.thread_time() - began
            if stage == "frame" and isinstance(result, binance.Prices):
                self.say()
            return result

        return run

    def say(self) -> None:
        """A frame of tickers has been handled; the flush in this line is that since the one before."""
        spent = self.spent_s
        self.trace.note(
            "frame", parse_s=spent["parse"], publish_s=spent["frame"] - spent["parse"], flush_s=spent["flush"]
        )
        self.spent_s = dict.fromkeys(spent, 0.0)


def main() -> int:
    """Run the service until it is ended. Returns the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trace", type=Path, required=True)
    trace = Trace(parser.parse_args().trace)
    stages = Stages(trace)
    # Looked up by their names at each call, so that the service itself needs no hooks for this.
    binance.read_frame = stages.timed("parse", binance.read_frame)
    BinanceMarket.frame = stages.timed("frame", BinanceMarket.frame)  # type: ignore[method-assign]
    Rounds.flush = stages.timed("flush", Rounds.flush)  # type: ignore[method-assign]
    listen = app.listen

    async def listen_and_watch(runner: web.AppRunner, context: Context) -> asyncio.Server:
        trace.watch_the_loop()
        return await listen(runner, context)

    app.listen = listen_and_watch
    return command.main([])


if __name__ == "__main__":
    sys.exit(main())

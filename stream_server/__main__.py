"""Parse the command line, and run the service: `python -m stream_server`, also installed as `stream-server`."""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Literal

from feeds.exchange.tape import TapeError, open_tape
from orchestrator.persistence import check_writable
from stream_server import __version__
from stream_server.app import Run
from stream_server.connections.listener import authority
from stream_server.observing import logs
from stream_server.serving import serve
from stream_server.settings import Settings, SettingsError

EPILOG = """\
Settings come from the environment or a .env file; .env.example lists them all.
The service listens on HOST:PORT (0.0.0.0:7860) and serves
  /            the demo page           /api/…      REST
  /ws          WebSocket               /health/…   probes
  /sse         Server-Sent Events
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the service. Returns the exit status: 0 after an orderly stop, 2 for a bad start."""
    _open_standard_streams()
    options = _options(arguments)
    try:
        settings = Settings.load(options.env_file)
        run = _run(options)
    except SettingsError as error:
        for problem in error.problems:
            print(f"stream-server: bad setting {problem}", file=sys.stderr)
        return 2
    except TapeError as error:
        print(f"stream-server: {error}", file=sys.stderr)
        return 2
    logs.set_up(settings.log_level, settings.log_format, settings.log_dir)
    try:
        if run.tape is None and settings.state_dir != Settings().state_dir:
            check_writable(settings.state_dir)
        _loop_runner(settings.stream_server_loop)(serve(settings, run))
    except OSError as error:
        where = error.filename or authority(settings.host, settings.port)
        print(f"stream-server: cannot start: {where}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass
    return 0


def _open_standard_streams() -> None:
    """Open standard input, output and error if the launcher has closed them.

    A socket would otherwise get the number of a closed one. Prints would be written to it, and libuv treats closing it
    as a fault and aborts.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number is this one


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="stream-server",
        description="Live crypto data as one honest stream: WebSocket, SSE and REST.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"stream-server {__version__}")
    parser.add_argument("--env-file", type=Path, metavar="FILE", help="settings (default: .env)")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--record",
        type=Path,
        metavar="FILE",
        help="write raw upstream traffic to a tape (compressed if FILE ends in .gz)",
    )
    source.add_argument("--tape", type=Path, metavar="FILE", help="run on a recorded tape instead of the network")
    parser.add_argument(
        "--speed", type=_speed, metavar="N", help="play the tape N times as fast; 0: as fast as possible"
    )
    options = parser.parse_args(arguments)
    if options.speed is not None and options.tape is None:
        parser.error("argument --speed: needs --tape FILE")
    return options


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = -1.0
    if not 0 <= speed < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 up")
    return speed


def _run(options: argparse.Namespace) -> Run:
    tape = open_tape(options.tape) if options.tape is not None else None
    return Run(tape, 1.0 if options.speed is None else options.speed, options.record)


def _loop_runner(loop: Literal["auto", "uvloop", "asyncio"]) -> Callable[[Coroutine[object, object, None]], None]:
    """Return what runs a coroutine on the event loop of the settings."""
    if loop != "asyncio":
        try:
            import uvloop
        except ImportError:
            pass
        else:
            return uvloop.run
    return asyncio.run


if __name__ == "__main__":
    sys.exit(main())

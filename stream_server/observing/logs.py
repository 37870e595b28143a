"""Write log events as lines: text for people or JSON for machines. A message is a constant name; facts are in `extra`.

The three logs of the providers are also written to rotated files of their own. A flood of equal lines is cut short,
because lines that clients can cause as often as they like must not fill the disk.
"""

import json
import logging
import logging.handlers
import math
import os
import re
import select
import sys
import time
from pathlib import Path
from typing import TextIO

import orjson
from aiohttp.http import HttpProcessingError

from orchestrator import provider_log
from orchestrator.containment import Contained

FILE_BYTES = 5 * 1024 * 1024
OLD_FILES_KEPT = 3
LINES_A_BURST = 50
BURST_S = 10.0
NAMES_KEPT = 1000
FACT_CHARS = 500
"""A longer text, such as a path that a client has made up, is cut, so that lines are bounded too."""

PIPE_BYTES = 4096
"""A pipe that is ready takes at least this much without a wait."""

_UNSEEN = re.compile(r"[^\n -~]")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def facts_of(record: logging.LogRecord) -> dict[str, object]:
    """Return what a log call passed in `extra`."""
    return {name: _cut(value) for name, value in vars(record).items() if name not in _STANDARD}


class TextLines(logging.Formatter):
    """Formats a record as `2026-11-22T06:00:00.123Z INFO stream_connected socket=binance-1 host=…`."""

    def format(self, record: logging.LogRecord) -> str:
        facts = " ".join(f"{name}={_text(value)}" for name, value in facts_of(record).items())
        message = _escape(record.getMessage().replace("\n", "\\n"))
        line = f"{_stamp(record)} {record.levelname:<7} {message} {facts}".rstrip()
        if record.exc_info:
            line += "\n" + _escape(self.formatException(record.exc_info))
        return line


class JsonLines(logging.Formatter):
    """Formats a record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _stamp(record),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
            **facts_of(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        try:
            return _escape(orjson.dumps(line, default=str).decode())
        except TypeError:  # half a surrogate pair, or a number beyond 64 bits: orjson takes neither
            return json.dumps(line, default=str)


class FloodFilter(logging.Filter):
    """Lets `lines` of one name through in `per_s`. The next line after that says in `more` how many were dropped."""

    def __init__(self, lines: int = LINES_A_BURST, per_s: float = BURST_S) -> None:
        super().__init__()
        self.lines = lines
        self.per_s = per_s
        self.windows: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is written."""
        name = (record.name, str(record.msg).partition("\n")[0])
        began, count = self.windows.get(name, (-math.inf, 0))
        if record.created - began >= self.per_s or record.created < began:
            if count > self.lines:
                record.more = count - self.lines
            began, count = record.created, 0
            if len(self.windows) >= NAMES_KEPT:
                self.windows.clear()
        self.windows[name] = (began, count + 1)
        return count < self.lines


class ShortTraceback(logging.Filter):
    """Replaces the traceback that aiohttp logs for each malformed request by what is wrong with the request."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Shorten the record, and let it through."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            record.msg, record.args, record.exc_info = "malformed_request", (), None
            record.cause = type(error).__name__
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True


class NonBlockingStderr(logging.StreamHandler[TextIO]):
    """Writes lines to standard error without waiting for a reader.

    A line that cannot be written at once is lost: the disk is full, the pipe is closed, or its reader has stopped
    reading. The next line says in `lost` how many there were.
    """

    lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or as much of it as can be written at once."""
        try:
            number = self.stream.fileno()
        except (AttributeError, OSError, ValueError):
            super().emit(record)
            return
        if self.lost:
            record.lost = self.lost
        with Contained() as writing:  # a fact may fail to be a text in any way
            line = (self.format(record) + self.terminator).encode(errors="backslashreplace")
            for start in range(0, len(line), PIPE_BYTES):
                if not _is_ready(number):
                    raise BlockingIOError
                os.write(number, line[start : start + PIPE_BYTES])
        if writing.fault is None:
            self.lost = 0
        else:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """Count the line as lost: there is nowhere else to report it."""
        self.lost += 1


def _is_ready(number: int) -> bool:
    """Return whether a descriptor takes `PIPE_BYTES` without a wait; True where that cannot be known."""
    if not hasattr(select, "poll"):
        return True
    poll = select.poll()
    poll.register(number, select.POLLOUT)
    return bool(poll.poll(0))


class RotatingLog(logging.handlers.RotatingFileHandler):
    """Writes a rotated file. A disk that fails costs lines, never the service, and is reported once."""

    failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """Report the first line that cannot be written."""
        if not self.failed:
            self.failed = True
            cause = type(sys.exc_info()[1]).__name__
            logging.getLogger(__name__).error("diary_not_written", extra={"file": self.baseFilename, "cause": cause})


def set_up(level: str, form: str, folder: Path | None = None) -> None:
    """Write every log line to standard error, and the logs of the providers to files in `folder` too."""
    formatter = JsonLines() if form == "json" else TextLines()
    handler = NonBlockingStderr(sys.stderr)
    handler.setFormatter(formatter)
    handler.addFilter(FloodFilter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    if folder is not None:
        _open_provider_logs(folder, formatter)
    logging.getLogger("aiohttp.server").filters[:] = [ShortTraceback(), FloodFilter(1)]
    logging.getLogger("asyncio").filters[:] = [FloodFilter(3)]
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def _open_provider_logs(folder: Path, formatter: logging.Formatter) -> None:
    for name in (provider_log.ROTATION, provider_log.FAILURES, provider_log.HEALTH):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = RotatingLog(folder / f"{name}.log", maxBytes=FILE_BYTES, backupCount=OLD_FILES_KEPT, delay=True)
        except OSError as error:
            extra = {"file": str(folder / f"{name}.log"), "cause": error.strerror}
            logging.getLogger(__name__).error("diary_not_written", extra=extra)
            continue
        file.setFormatter(formatter)
        logger.handlers[:] = [file]
        # A change of a provider's state is worth a line of the service's own log; single attempts are not.
        logger.propagate = name == provider_log.HEALTH


def _stamp(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


def _cut(value: object) -> object:
    return value if not isinstance(value, str) or len(value) <= FACT_CHARS else value[:FACT_CHARS] + "…"


def _escape(text: str) -> str:
    """Escape the characters that a terminal or a log viewer acts upon, such as control characters."""
    return _UNSEEN.sub(lambda found: _escaped(found[0]), text)


def _escaped(character: str) -> str:
    return character if character.isprintable() else json.dumps(character)[1:-1]


def _text(value: object) -> str:
    text = str(value)
    # A text from outside may hold line breaks, which would make lines of their own.
    return text if text and text.isprintable() and " " not in text else repr(text)

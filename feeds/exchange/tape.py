"""Read a recording of raw upstream traffic.

A tape is JSON lines. The first is a header: `{"tape": 1, "recorded_at": ms, "url": …}`. Each further line has `at`, the
time of receipt in milliseconds, and one of

- `frame`: the text of a stream frame (`frame_b64` if it was not UTF-8),
- `answer`: `{"path", "params", "body"}` of a REST answer that was applied, with `as_of`, a time of the exchange's clock
  at which it was true at the earliest, where that matters,
- `subscribed`: the streams that are followed from here on, or `dropped`: one that is no longer followed,
- `opened`: `{"socket", "host"}` of a connection that counts from here on, or `lost`: the same with the `cause` of its
  end.

Recordings made by cryptofeed load as well: `{"url": …}` first, then `{"received_at": seconds, "raw": text}`. They have
no list of pairs, so symbols are split by known quote assets. Both kinds may be gzipped.
"""

import base64
import gzip
import logging
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import parse_qs, unquote, urlsplit

import orjson

from orchestrator.http import HttpRequest, HttpResponse

log = logging.getLogger(__name__)


class TapeError(Exception):
    """A file isn't a tape; the text names it and the reason."""


@dataclass(frozen=True, slots=True)
class Connection:
    """The state of a socket of the recording; `cause` says why it has no connection, None if it has one."""

    socket: str
    host: str
    cause: str | None


@dataclass(frozen=True, slots=True)
class Record:
    """One line of a tape."""

    at: int
    frame: bytes | None = None
    answer: tuple[HttpRequest, HttpResponse, int | None] | None = None
    subscribed: tuple[str, ...] = ()
    dropped: str | None = None
    connection: Connection | None = None


@dataclass(slots=True)
class Tape:
    """An opened tape: its header has been read, its records are read as they are played."""

    path: Path
    url: str
    foreign: bool
    skipped: int = 0
    streams: tuple[str, ...] = field(default=())

    def records(self) -> Iterator[Record]:
        """Yield every record in order. A line that cannot be read is skipped, counted and logged by its number."""
        with _open(self.path) as lines:
            try:
                for number, line in enumerate(lines, 1):
                    if number == 1 or not line.strip():
                        continue
                    try:
                        yield _foreign_record(line) if self.foreign else _record(line)
                    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
                        self.skipped += 1
                        cause = f"{type(error).__name__}: {error}"
                        log.warning(
                            "tape_line_skipped",
                            extra={"file": str(self.path), "line": number, "cause": cause},
                        )
            except (EOFError, OSError, zlib.error) as error:
                # A recorder that was killed leaves a gzip file without its end: what came before is good.
                log.warning("tape_cut_short", extra={"file": str(self.path), "cause": str(error)})


def open_tape(path: Path) -> Tape:
    """Read the first line of a tape. Raises TapeError."""
    try:
        with _open(path) as lines:
            first = lines.readline(1 << 20)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TapeError(f"tape {path}: {reason}") from None
    try:
        header = orjson.loads(first)
    except orjson.JSONDecodeError:
        raise TapeError(f"tape {path}: its first line is not JSON") from None
    if not isinstance(header, dict) or ("tape" not in header and "url" not in header):
        raise TapeError(f'tape {path}: its first line has neither "tape" nor "url"')
    if header.get("tape", 1) != 1:
        raise TapeError(f"tape {path}: version {header['tape']!r} is newer than this service")
    url = str(header.get("url", ""))
    return Tape(path, url, foreign="tape" not in header, streams=_streams_of(url))


def _streams_of(url: str) -> tuple[str, ...]:
    parts = urlsplit(url)
    # Old recorders wrote raw streams into the path; parse_qs would take a '+' in a name for a space.
    joined = parse_qs(parts.query.replace("+", "%2B")).get("streams", [""])[0]
    return tuple(unquote(stream) for stream in joined.split("/") if stream)


def _open(path: Path) -> IO[bytes] | gzip.GzipFile:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if zipped else path.open("rb")


def _record(line: bytes) -> Record:
    row = orjson.loads(line)
    at = int(row["at"])
    if "frame" in row:
        return Record(at, frame=str(row["frame"]).encode())
    if "frame_b64" in row:
        return Record(at, frame=base64.b64decode(row["frame_b64"], validate=True))
    if "answer" in row:
        answer = row["answer"]
        request = HttpRequest(str(answer["path"]), {str(k): str(v) for k, v in answer["params"].items()})
        as_of_ms = int(answer["as_of"]) if "as_of" in answer else None
        return Record(at, answer=(request, HttpResponse(200, {}, str(answer["body"]).encode(), at), as_of_ms))
    if "subscribed" in row:
        return Record(at, subscribed=tuple(str(stream) for stream in row["subscribed"]))
    if "dropped" in row:
        return Record(at, dropped=str(row["dropped"]))
    for kind in ("opened", "lost"):
        if kind in row:
            known = row[kind]
            cause = str(known["cause"]) if kind == "lost" else None
            return Record(at, connection=Connection(str(known["socket"]), str(known["host"]), cause))
    raise ValueError("a line of no known kind")


def _foreign_record(line: bytes) -> Record:
    row = orjson.loads(line)
    raw = row["raw"]
    frame = raw.encode() if isinstance(raw, str) else orjson.dumps(raw)
    return Record(int(float(row["received_at"]) * 1000), frame=frame)

"""Files that survive a restart, among them the last good answers of slow questions.

Small JSON files, written whole beside their place and then moved there, so that a kill leaves the old one or the new
one. A disk that fails costs the memory, never the service.
"""

import contextlib
import errno
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from orchestrator.texts import one_line

log = logging.getLogger(__name__)


LATEST_MS = 10**14
"""Later times in a file were not written by us."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""Errors of a disk that may pass."""


def check_writable(folder: Path) -> None:
    """Check that files can be kept in a folder. Raises OSError, which names it; a full disk is no error."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if error.errno not in FULL:
            raise OSError(error.errno, f"cannot write there ({error.strerror})", str(folder)) from None


def write_whole(path: Path, text: bytes) -> None:
    """Replace a file in one step. A failure is logged, not raised."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_bytes(text)
        part.replace(path)
    except OSError as error:
        log.warning("state_not_saved", extra={"file": str(path), "cause": error.strerror})


def read_state(path: Path) -> object:
    """Return what an earlier run wrote; None if there is nothing. A file that is not JSON is renamed and logged."""
    try:
        return orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("state_unreadable", extra={"file": str(path), "cause": type(error).__name__})
    except ValueError as error:
        set_aside(path, type(error).__name__)
    return None


def set_aside(path: Path, cause: str) -> None:
    """Rename a file that cannot be read, for a person to look at, and log it."""
    log.warning("state_unreadable", extra={"file": str(path), "cause": cause})
    with contextlib.suppress(OSError):
        path.replace(path.with_name(f"{path.name}.bad"))


def entries_skipped(path: Path, skipped: Mapping[str, int]) -> None:
    """Log how many entries of a file could not be read, by the field at fault; nothing if all could."""
    if skipped:
        log.warning("state_entries_unreadable", extra={"file": str(path), "fields": dict(skipped)})


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer of an earlier run: its JSON text, its source, and the time of its receipt (Unix ms)."""

    text: bytes
    source: str
    received_ms: int


class AnswerStore:
    """Stores last good answers, one file for each name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """Return where an answer is kept."""
        return self.folder / f"{name}.json"

    def put(self, name: str, kept: StoredAnswer) -> None:
        """Keep an answer."""
        row = {"source": kept.source, "received_ms": kept.received_ms, "value": orjson.Fragment(kept.text)}
        write_whole(self.path(name), orjson.dumps(row))

    def get(self, name: str) -> StoredAnswer | None:
        """Return the answer that was kept, or None. What `put` did not write is set aside."""
        row = read_state(self.path(name))
        if row is None:
            return None
        match row:
            case {"source": str(source), "received_ms": int(received_ms), "value": value}:
                if source == one_line(source) != "" and 0 < received_ms <= LATEST_MS:
                    return StoredAnswer(orjson.dumps(value), source, received_ms)
        set_aside(self.path(name), "no kept answer")
        return None

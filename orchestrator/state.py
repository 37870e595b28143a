"""What survives a restart: until when a provider must be left alone, and the last good answers of slow questions.

Small JSON files, written whole beside their place and then moved there, so that a kill leaves the old one or the new
one. A disk that fails costs the memory, never the service.
"""

import errno
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

import orjson

from orchestrator.clock import Clock
from orchestrator.retry import MAX_RETRY_AFTER_S

log = logging.getLogger(__name__)


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""What ails a disk that may be well again."""


def check_writable(folder: Path) -> None:
    """Raises OSError, which names the folder, if nothing can ever be kept there. A full disk costs no start."""
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


class BanFile:
    """Until when each provider has shut us out, in Unix milliseconds."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self.clock = clock
        self.untils = self._load()

    def _load(self) -> dict[str, int]:
        try:
            rows = orjson.loads(self.path.read_bytes())
            return {str(name): int(until) for name, until in rows.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            log.warning("state_unreadable", extra={"file": str(self.path), "cause": type(error).__name__})
            return {}

    def until_ms(self, name: str) -> int:
        """When it may be asked again; 0 if nothing forbids it. No ban is believed to last longer than any known one."""
        longest = self.clock.wall_ms() + round(MAX_RETRY_AFTER_S * 1000)
        return min(self.untils.get(name, 0), longest)

    def keep(self, name: str, until_ms: int) -> None:
        """Remember a ban; never a shorter one than is known."""
        if until_ms <= self.untils.get(name, 0):
            return
        now_ms = self.clock.wall_ms()
        self.untils = {each: until for each, until in self.untils.items() if until > now_ms}
        self.untils[name] = until_ms
        write_whole(self.path, orjson.dumps(self.untils))


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer from before: its JSON text, who gave it, and when (Unix ms)."""

    text: bytes
    source: str
    received_ms: int


class Shelf:
    """Last good answers, one file a name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, name: str, kept: Kept) -> None:
        """Keep an answer."""
        row = {"source": kept.source, "received_ms": kept.received_ms, "value": orjson.Fragment(kept.text)}
        write_whole(self.folder / f"{name}.json", orjson.dumps(row))

    def get(self, name: str) -> Kept | None:
        """The answer that was kept, or None."""
        path = self.folder / f"{name}.json"
        try:
            row = orjson.loads(path.read_bytes())
            return Kept(orjson.dumps(row["value"]), str(row["source"]), int(row["received_ms"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.warning("state_unreadable", extra={"file": str(path), "cause": type(error).__name__})
            return None

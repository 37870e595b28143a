"""Until when each provider has shut us out, also over a restart."""

from pathlib import Path
from typing import Protocol

import orjson

from orchestrator.clock import Clock
from orchestrator.persistence import entries_skipped, read_state, set_aside, write_whole
from orchestrator.retry import MAX_RETRY_AFTER_S


class Bans(Protocol):
    """Remembers until when a provider must not be asked."""

    def until_ms(self, name: str) -> int:
        """Return the end of a provider's ban in Unix milliseconds; 0 for one that may be asked."""

    def keep(self, name: str, until_ms: int) -> None:
        """Remember a ban; never raises."""


class NoBans:
    """Remembers nothing."""

    def until_ms(self, name: str) -> int:
        """Return 0: every provider may be asked."""
        return 0

    def keep(self, name: str, until_ms: int) -> None:
        """Do nothing."""


class BanFile:
    """Remembers bans in a JSON file: the end of each by provider, in Unix milliseconds."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self.clock = clock
        self.untils = self._load()

    def _load(self) -> dict[str, int]:
        rows = read_state(self.path)
        if rows is None:
            return {}
        if not isinstance(rows, dict):
            set_aside(self.path, "not an object")
            return {}
        untils = {name: until for name, until in rows.items() if type(until) is int and until > 0}
        entries_skipped(self.path, {"until": len(rows) - len(untils)} if len(untils) < len(rows) else {})
        return untils

    def until_ms(self, name: str) -> int:
        """Return the end of a provider's ban, at most MAX_RETRY_AFTER_S from now; 0 if there is none."""
        longest = self.clock.wall_ms() + round(MAX_RETRY_AFTER_S * 1000)
        return min(self.untils.get(name, 0), longest)

    def keep(self, name: str, until_ms: int) -> None:
        """Remember a ban, unless a longer one is known."""
        if until_ms <= self.untils.get(name, 0):
            return
        now_ms = self.clock.wall_ms()
        self.untils = {each: until for each, until in self.untils.items() if until > now_ms}
        self.untils[name] = until_ms
        write_whole(self.path, orjson.dumps(self.untils))

"""What was used of allowances that last for hours, also over a restart: a day's calls are not given twice."""

from pathlib import Path
from typing import Protocol

import orjson

from orchestrator.clock import Clock
from orchestrator.limiter import Limiter
from orchestrator.persistence import entries_skipped, read_state, set_aside, write_whole

SAVE_EVERY_S = 60.0
"""A kill costs the memory of at most so much time."""


class Spending(Protocol):
    """Remembers what was used of each provider's longest allowance."""

    def restore(self, name: str, limiter: Limiter) -> None:
        """Take from a new limiter what an earlier run has used."""

    def note(self, name: str, limiter: Limiter) -> None:
        """Remember what was used, now and then; never raises."""


class NoSpending:
    """Remembers nothing."""

    def restore(self, name: str, limiter: Limiter) -> None:
        """Do nothing."""

    def note(self, name: str, limiter: Limiter) -> None:
        """Do nothing."""


class SpendingFile:
    """Keeps, by provider, rows of the time at which calls come back (Unix ms) and their weight."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self.clock = clock
        self.saved_at: dict[str, float] = {}
        self.rows = self._load()

    def _load(self) -> dict[str, list[tuple[int, float]]]:
        found = read_state(self.path)
        if found is None:
            return {}
        if not isinstance(found, dict):
            set_aside(self.path, "not an object")
            return {}
        rows = {name: read for name, listed in found.items() if (read := _rows(listed)) is not None}
        entries_skipped(self.path, {"rows": len(found) - len(rows)} if len(rows) < len(found) else {})
        return rows

    def restore(self, name: str, limiter: Limiter) -> None:
        """Take from a new limiter what an earlier run has used and has not come back."""
        wall_ms = self.clock.wall_ms()
        limiter.restore_long([((until_ms - wall_ms) / 1000, weight) for until_ms, weight in self.rows.get(name, [])])

    def note(self, name: str, limiter: Limiter) -> None:
        """Save what was used of an allowance of hours, at most once a minute for each provider."""
        if not limiter.lasts_long or self.clock.now() - self.saved_at.get(name, float("-inf")) < SAVE_EVERY_S:
            return
        self.saved_at[name] = self.clock.now()
        wall_ms = self.clock.wall_ms()
        self.rows[name] = [(wall_ms + round(back_s * 1000), weight) for back_s, weight in limiter.long_given()]
        write_whole(self.path, orjson.dumps(self.rows))


def _rows(listed: object) -> list[tuple[int, float]] | None:
    """Read the rows of one provider; None for anything that `note` did not write."""
    if not isinstance(listed, list):
        return None
    rows = []
    for row in listed:
        match row:
            case [int(until_ms), int(weight) | float(weight)] if until_ms > 0 and weight > 0:
                rows.append((until_ms, float(weight)))
            case _:
                return None
    return rows

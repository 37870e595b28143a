"""When a value was true at its source: the stamps by which pools judge its age. Unix milliseconds."""

from collections.abc import Sequence
from typing import Protocol

from feeds.fields import Rows
from feeds.intervals import DAY_MS
from feeds.model import Coin, FearGreed, Quote

ETHEREUM_BLOCK_MS = 12_000
INDEX_LATE_S = 2 * DAY_MS / 1000
"""An index of a day is outdated so long after its day. It is late by hours now and then, and has missed a day."""


class Stamped(Protocol):
    """A value that its provider stamps (Unix ms)."""

    @property
    def ts(self) -> int: ...


def stamp(value: Stamped) -> int:
    """Return the provider's own stamp."""
    return value.ts


def newest(rows: Rows[Coin] | Rows[Quote]) -> int | None:
    """Return the stamp of the newest row; None without rows."""
    return max((row.ts for row in rows.good), default=None)


def until_the_next_block(value: Stamped) -> int:
    """Return when the next block of Ethereum is due: its values are true until then."""
    return value.ts + ETHEREUM_BLOCK_MS


def end_of_day(days: Sequence[FearGreed]) -> int | None:
    """Return the end of the newest day: the index of a day is true until then. None without days."""
    return days[0].ts + DAY_MS if days else None


def of_any(value: object) -> int | None:
    """Return the stamp of an answer of Crypto DT Source; None for those that do not age."""
    match value:
        case [FearGreed(ts=ts), *_]:
            return ts + DAY_MS
        case Rows(good=[Quote(), *_]):
            return newest(value)
    return None

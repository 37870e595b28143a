"""Notes what was repaired in the answers of one conversation, and which rows were lost.

Readers are pure functions deep inside a conversation, and a repair is not part of the value they return. They note it
here; the driver of the conversation (`Upstream`, or the market that takes a stream's frames) collects the notes of its
own task or thread. A note that nobody collects is dropped.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Notes:
    """Counts by what was repaired (`bom`, or the name of a field that became null) and by the field that cost a row."""

    repaired: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)


_notes: ContextVar[Notes | None] = ContextVar("repairs", default=None)


@contextmanager
def noted() -> Iterator[Notes]:
    """Collect what is noted inside the block, in this task and in threads that it waits for."""
    notes = Notes()
    token = _notes.set(notes)
    try:
        yield notes
    finally:
        _notes.reset(token)


def repaired(what: str, count: int = 1) -> None:
    """Note a repair. `what` is a name from our own code, never a text of the upstream: each name is kept forever."""
    notes = _notes.get()
    if notes is not None:
        notes.repaired[what] += count


def rejected(field_name: str, count: int = 1) -> None:
    """Note rows that were lost for one field."""
    notes = _notes.get()
    if notes is not None:
        notes.rejected[field_name] += count

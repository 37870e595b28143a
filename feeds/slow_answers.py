"""Keeps the last good answers of slow questions over a restart, and gives them back to their pools."""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from feeds.fields import Rows
from orchestrator.clock import Clock
from orchestrator.fetched import Fetched
from orchestrator.persistence import AnswerStore, StoredAnswer, entries_skipped, set_aside
from orchestrator.pool import Pool

Q = TypeVar("Q", bound=Hashable)
T = TypeVar("T")


class SlowAnswers:
    """Stores answers by name. Without a store it keeps nothing."""

    def __init__(self, store: AnswerStore | None, clock: Clock) -> None:
        self.store = store
        self.clock = clock

    def keep(self, name: str, text: bytes, fetched: Fetched[Any]) -> None:
        """Store an answer as JSON text, with its source and time of receipt."""
        if self.store is not None:
            self.store.put(name, StoredAnswer(text, fetched.source, fetched.received_ms))

    def restore(self, name: str, pool: Pool[Q, T], query: Q, decode: Callable[[bytes], T]) -> Fetched[T] | None:
        """Give a pool its stored answer.

        Returns the answer with its age, or None if there is none, or if it is from the future and so of unknown age.
        """
        stored = self.store.get(name) if self.store is not None else None
        if self.store is None or stored is None:
            return None
        try:
            value = decode(stored.text)
        except ValueError as error:
            set_aside(self.store.path(name), str(error))
            return None
        pool.restore(query, value, stored.source, stored.received_ms)
        return pool.peek(query) if stored.received_ms <= self.clock.wall_ms() else None

    def restore_rows(
        self,
        name: str,
        pool: Pool[Q, T],
        query: Q,
        decode: Callable[[bytes], Rows[Any]],
        collect: Callable[[list[Any]], T],
    ) -> Fetched[T] | None:
        """Give a pool its stored list, without the entries that cannot be read; the log names those."""

        def readable(text: bytes) -> T:
            read = decode(text)
            if self.store is not None:
                entries_skipped(self.store.path(name), read.rejected)
            if not read.good:
                raise ValueError("no readable entry")
            return collect(read.good)

        return self.restore(name, pool, query, readable)

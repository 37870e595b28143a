"""Keeps recent answers by key and joins identical questions in flight, so that one call serves all who ask the same."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from orchestrator.bounded import put_newest
from orchestrator.clock import Clock

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Answers kept for `ttl_s`, at most `size` of them; identical questions in flight share one call.

    The call belongs to no single caller: one that is cancelled leaves it running for the others. An error goes to
    all who waited and is not kept.
    """

    def __init__(self, ttl_s: float, size: int, clock: Clock) -> None:
        self.ttl_s = ttl_s
        self.size = size
        self.clock = clock
        self.kept: dict[K, tuple[float, V]] = {}
        self.in_flight: dict[K, asyncio.Task[V]] = {}

    def fresh(self, key: K, within_s: float = math.inf) -> V | None:
        """Return the answer that is kept and younger than `ttl_s` and `within_s`."""
        kept = self.kept.get(key)
        return kept[1] if kept is not None and self.clock.now() - kept[0] < min(self.ttl_s, within_s) else None

    async def get(self, key: K, ask: Callable[[], Awaitable[V]], within_s: float = math.inf) -> V:
        """Return the kept answer, or that of the one call in flight. Raises whatever the call raises."""
        kept = self.fresh(key, within_s)
        if kept is not None:
            return kept
        task = self.in_flight.get(key)
        if task is None:
            task = asyncio.create_task(self._ask(key, ask))
            self.in_flight[key] = task
            task.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(task)

    async def _ask(self, key: K, ask: Callable[[], Awaitable[V]]) -> V:
        answer = await ask()
        put_newest(self.kept, key, (self.clock.now(), answer), self.size)
        return answer

    def _landed(self, key: K, task: "asyncio.Task[V]") -> None:
        self.in_flight.pop(key, None)
        if not task.cancelled():
            task.exception()  # read, because asyncio logs an error that no caller has read

"""Keep loops alive: log one that crashes, and restart it after a delay that grows with each crash.

This is the one restart policy of the service. The supervisor keeps feeds alive with it, the application its background
loops.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from orchestrator.clock import Clock
from orchestrator.containment import Contained
from orchestrator.retry import Backoff


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Delays before a restart, in seconds, each jittered to between half and the whole of its value."""

    first_s: float
    longest_s: float
    steady_s: float = 60.0
    """A loop that ran for longer than this starts again with the shortest delay."""


class KeepAlive:
    """Runs loops until cancelled, whatever happens to one of them.

    `crashes` counts the crashes of each loop; `down` names the loops that have crashed and wait to be restarted.
    """

    def __init__(
        self,
        policy: RestartPolicy,
        clock: Clock,
        rng: random.Random,
        crashed: Callable[[str, BaseException], None],
    ) -> None:
        """`crashed` is called with the name of a loop and what it raised."""
        self.policy = policy
        self.clock = clock
        self.rng = rng
        self.crashed = crashed
        self.crashes: dict[str, int] = {}
        self.down: set[str] = set()

    async def run(self, loops: Mapping[str, Callable[[], Awaitable[None]]]) -> None:
        """Run each loop in a task of its own, called as the loop is, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name, loop in loops.items():
                group.create_task(self._keep(name, loop), name=name)

    async def _keep(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        backoff = Backoff(self.policy.first_s, self.policy.longest_s, self.rng)
        while True:
            started = self.clock.now()
            fault = await _end_of(loop)
            if fault is not None:
                self.crashes[name] = self.crashes.get(name, 0) + 1
                self.down.add(name)
                self.crashed(name, fault)
            if self.clock.now() - started > self.policy.steady_s:
                backoff.reset()
            await self.clock.sleep(backoff.next_delay_s())
            self.down.discard(name)

    def trouble(self) -> str | None:
        """Return which loops wait to be restarted after a crash; None if all of them run."""
        return f"restarting {', '.join(sorted(self.down))}" if self.down else None


async def _end_of(loop: Callable[[], Awaitable[None]]) -> BaseException | None:
    """Run a loop to its end, and return what it crashed with; None if it ended by itself."""
    try:
        with Contained() as life:
            await loop()
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # Something that the loop waited for was cancelled, not the loop. Raised on, it would end the loop unseen.
        return error
    return life.fault

"""Ask a pool on a schedule: with jitter, faster while somebody listens, and more slowly while no provider answers.

The poller does not handle the answers. The pool passes each new value to its listener (`Pool.received`), which
publishes it once, whether a poller or a REST client has asked for it.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from orchestrator.clock import Clock
from orchestrator.errors import ProviderError
from orchestrator.fetched import Exhausted
from orchestrator.pool import Pool
from orchestrator.retry import Backoff
from orchestrator.waiting import first_of

log = logging.getLogger(__name__)

Q = TypeVar("Q", bound=Hashable)
T = TypeVar("T")


STANDING_BY = "standing by"
IDLE = 5.0
"""How many times more slowly to ask while nobody listens: values stay fairly young at a fraction of the calls."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often to ask, in seconds."""

    every_s: float
    """While somebody listens."""
    idle_s: float
    """While nobody does."""
    jitter: float = 0.1
    """Each wait grows by up to this part, so that many servers do not ask in step."""


class Poller(Generic[Q, T]):
    """A feed that asks one question. `serves` names the topics that it brings."""

    def __init__(
        self,
        name: str,
        pool: Pool[Q, T],
        query: Q,
        pace: Pace,
        serves: Sequence[str],
        clock: Clock,
        rng: random.Random,
        *,
        listened: Callable[[str], bool],
        due: Callable[[], bool] = lambda: True,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.pool = pool
        self.query = query
        self.pace = pace
        self.serves = tuple(serves)
        self.clock = clock
        self.rng = rng
        self.listened = listened
        self.due = due
        """Whether asking makes sense now; a fallback has nothing to do while what it stands in for works."""
        self.on_change = on_change
        self.state = "starting"
        self.last_error: str | None = None
        self.answered_at: float | None = None
        self.asked_at = float("-inf")
        self.woken = asyncio.Event()

    def want(self, topic: str) -> None:
        """Note that somebody listens: from now on ask at the pace of a listened topic."""
        if topic in self.serves:
            self.woken.set()

    def drop(self, topic: str) -> bool:
        """Return False: the poller goes on asking, more slowly."""
        return False

    async def run(self) -> None:
        """Ask until cancelled."""
        backoff = Backoff(min(2.0, self.pace.every_s), max(self.pace.every_s, 60.0), self.rng)
        while True:
            if not self.due():
                self._become(STANDING_BY, None)
                await self._rest(self.pace.every_s)
                continue
            self.asked_at = self.clock.now()
            try:
                await self.pool.fetch(self.query, within_s=self._every_s() * 0.8, urgent=True)
            except (Exhausted, ProviderError) as error:
                self._become("failing", str(error))
                wait_s = error.retry_after_s if isinstance(error, Exhausted) else 0.0
                # A provider may ask for hours of rest. The pool is asked again before that, as another may be back.
                await self._rest(max(backoff.next_delay_s(), min(wait_s, self.pace.every_s)))
                continue
            backoff.reset()
            self.answered_at = self.clock.now()
            self._become("polling", None)
            await self._rest(self._every_s() * (1 + self.rng.random() * self.pace.jitter))

    def _every_s(self) -> float:
        return self.pace.every_s if self._is_listened() else self.pace.idle_s

    def _is_listened(self) -> bool:
        return any(self.listened(topic) for topic in self.serves)

    async def _rest(self, seconds: float) -> None:
        """Sleep, but no longer than the pace of a listened topic once somebody begins to listen."""
        due = self.clock.now() + seconds
        had_listeners = self._is_listened()
        while (left_s := due - self.clock.now()) > 0:
            # A pattern starts nothing and so calls no `want`: look at the end of each nap, too.
            await self._nap(min(left_s, self.pace.every_s))
            if not had_listeners and self._is_listened():
                had_listeners = True
                due = min(due, self.asked_at + self.pace.every_s)

    async def _nap(self, seconds: float) -> None:
        """Sleep until `want` is called, or for this long."""
        self.woken.clear()
        await first_of(self.clock.sleep(seconds), self.woken.wait())

    def _become(self, state: str, error: str | None) -> None:
        if (state, error) != (self.state, self.last_error):
            if error is not None and self.last_error is None:
                log.warning("poll_failed", extra={"feed": self.name, "cause": error})
            elif error is None and self.last_error is not None:
                log.info("poll_recovered", extra={"feed": self.name})
            self.state, self.last_error = state, error
            self.on_change()

    def readiness(self) -> dict[str, str | None]:
        """Return `value`, a known failure, or None for neither yet, by topic; nothing while it stands by."""
        if self.state == STANDING_BY:
            return {}
        word = "value" if self.answered_at is not None else self.last_error
        return dict.fromkeys(self.serves, word)

    def report(self) -> dict[str, object]:
        """Return the state of the poller, for people."""
        answered_s = None if self.answered_at is None else round(self.clock.now() - self.answered_at, 1)
        return {
            "name": self.name,
            "state": self.state,
            "last_error": self.last_error,
            "topics": list(self.serves),
            "every_s": self._every_s(),
            "answered_s_ago": answered_s,
            "source": self.pool.last_source,
        }

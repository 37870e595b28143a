"""Feeds `gas.<chain>` and `chain.<chain>`: Ethereum always, any other chain while clients listen."""

import asyncio
import random
from collections.abc import Callable

from feeds import topics
from feeds.chains import ETHEREUM, Chain, chain_named
from feeds.model import ChainStats, Gas, Sink
from feeds.paces import Paces
from feeds.poller import IDLE, Pace, Poller
from orchestrator.clock import Clock
from orchestrator.pool import Pool


class ChainFeed:
    """Runs a poller for each topic of a chain that clients want."""

    name = "chains"

    def __init__(
        self,
        sink: Sink,
        gas: Pool[Chain, Gas],
        stats: Pool[Chain, ChainStats],
        paces: Paces,
        clock: Clock,
        rng: random.Random,
        *,
        listened: Callable[[str], bool],
        on_change: Callable[[], None],
    ) -> None:
        self.sink = sink
        self.gas = gas
        self.stats = stats
        self.paces = paces
        self.clock = clock
        self.rng = rng
        self.listened = listened
        self.on_change = on_change
        self.pollers: dict[str, Poller[Chain, Gas] | Poller[Chain, ChainStats]] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.group: asyncio.TaskGroup | None = None
        for topic in (topics.gas(ETHEREUM.name), topics.chain(ETHEREUM.name)):
            self.pollers[topic] = self._poller(topic, ETHEREUM)

    def _poller(self, topic: str, chain: Chain) -> "Poller[Chain, Gas] | Poller[Chain, ChainStats]":
        if topic == topics.gas(chain.name):
            pace = Pace(self.paces.gas_s, IDLE * self.paces.gas_s)
            return Poller(
                topic,
                self.gas,
                chain,
                pace,
                [topic],
                self.clock,
                self.rng,
                listened=self.listened,
                on_change=self.on_change,
            )
        pace = Pace(self.paces.stats_s, IDLE * self.paces.stats_s)
        return Poller(
            topic,
            self.stats,
            chain,
            pace,
            [topic],
            self.clock,
            self.rng,
            listened=self.listened,
            on_change=self.on_change,
        )

    def want(self, topic: str) -> None:
        """Poll this topic, or refuse it if no provider can answer for its chain."""
        name = topics.chain_of(topic)
        if name is None:
            return
        if topic in self.pollers:
            self.pollers[topic].want(topic)
            return
        chain = chain_named(name)
        pool = self.gas if topic == topics.gas(name) else self.stats
        if not pool.serves(chain):
            self.sink.refuse(topic, f"no provider here serves chain {name!r}; ETHERSCAN_API_KEY would add some")
            return
        self.pollers[topic] = self._poller(topic, chain)
        self._start(topic)

    def drop(self, topic: str) -> bool:
        """Stop polling a topic, unless it is Ethereum's."""
        task = self.tasks.get(topic)
        if task is None or topics.chain_of(topic) == ETHEREUM.name:
            return False
        task.cancel()
        del self.tasks[topic], self.pollers[topic]
        return True

    def _start(self, topic: str) -> None:
        if self.group is not None:
            self.tasks[topic] = self.group.create_task(self.pollers[topic].run(), name=f"poll:{topic}")

    async def run(self) -> None:
        """Poll until cancelled."""
        async with asyncio.TaskGroup() as group:
            self.group = group
            try:
                for topic in self.pollers:
                    self._start(topic)
                await asyncio.Event().wait()
            finally:
                self.group = None

    def readiness(self) -> dict[str, str | None]:
        """Return the readiness of Ethereum's topics; those of other chains come and go."""
        words: dict[str, str | None] = {}
        for topic, poller in self.pollers.items():
            if topics.chain_of(topic) == ETHEREUM.name:
                words |= poller.readiness()
        return words

    def report(self) -> dict[str, object]:
        """Return the state of each topic's poller."""
        errors = [poller.last_error for poller in self.pollers.values() if poller.last_error is not None]
        return {
            "name": self.name,
            "state": "failing" if errors else "polling",
            "last_error": "; ".join(errors) or None,
            "pollers": [poller.report() for poller in self.pollers.values()],
        }

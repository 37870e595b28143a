"""Decide what a server under test publishes and how often, alike for all servers. Uses only the standard library.

A server publishes at a fixed period, or as often as keeps its core busy for a given share of the time. The latter
compares slow and fast servers fairly: none of them is driven into its queues, and the cost of a message does not depend
on the speed of the server.
"""

import argparse
import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

SHORTEST_PERIOD_S = 0.005
LONGEST_PERIOD_S = 2.0
FIRST_PERIOD_S = 0.25
RECENT_TICKS = 3
PAYLOAD_BYTES = 171


@dataclass(frozen=True, slots=True)
class Plan:
    """The work of one server: at each tick `repeat` messages in each topic. Without period or load, nothing."""

    port: int
    topics: tuple[str, ...]
    repeat: int
    period_s: float
    load: float

    @classmethod
    def from_arguments(cls) -> "Plan":
        """Read the plan from the arguments that the driver passes to every server."""
        parser = argparse.ArgumentParser()
        parser.add_argument("--port", type=int, required=True)
        parser.add_argument("--topics", type=int, required=True)
        parser.add_argument("--repeat", type=int, default=1)
        parser.add_argument("--period", type=float, default=0.0)
        parser.add_argument("--load", type=float, default=0.0)
        # External publishers read their own options.
        options, _ = parser.parse_known_args()
        return cls(options.port, topic_names(options.topics), options.repeat, options.period, options.load)


def topic_names(count: int) -> tuple[str, ...]:
    """Return the topics of a scenario; their bases are made up."""
    return tuple(f"price.T{number:03d}" for number in range(count))


def topics_of(path: str) -> list[str]:
    """Return the topics that a client names in its URL (`/ws?topics=a,b`)."""
    return path.partition("topics=")[2].split(",")


class Pacer:
    """Decides when the next tick is due."""

    def __init__(self, plan: Plan, cpu_s: Callable[[], float] = time.process_time) -> None:
        self.plan = plan
        self.cpu_s = cpu_s
        self.spent_s = deque([FIRST_PERIOD_S * plan.load] * RECENT_TICKS, RECENT_TICKS)
        self.tick_began = time.monotonic()
        self.tick_cpu = cpu_s()

    def next_wait_s(self) -> float:
        """Begin the wait after a tick; the CPU time until the next one is the cost of a tick."""
        if self.plan.period_s:
            wait = self.plan.period_s
        else:
            # The median, because one tick during handshakes or without a subscriber means nothing.
            price = sorted(self.spent_s)[RECENT_TICKS // 2]
            wait = min(max(SHORTEST_PERIOD_S, price / self.plan.load), LONGEST_PERIOD_S)
        return max(0.0, self.tick_began + wait - time.monotonic())

    def begin_tick(self) -> int:
        """End the wait and return the stamp of the new tick."""
        cpu = self.cpu_s()
        self.spent_s.append(cpu - self.tick_cpu)
        self.tick_cpu = cpu
        self.tick_began = time.monotonic()
        return time.monotonic_ns()


async def publish_by(plan: Plan, publish: Callable[[str, int], None]) -> None:
    """Call `publish(topic, stamp)` for every message, forever."""
    if not plan.period_s and not plan.load:
        return
    pacer = Pacer(plan)
    while True:
        await asyncio.sleep(pacer.next_wait_s())
        stamp = pacer.begin_tick()
        for topic in plan.topics:
            for _ in range(plan.repeat):
                publish(topic, stamp)


def text(topic: str, stamp: int) -> str:
    """Return a message as the peers send it, as long as ours with its envelope."""
    head = f'{{"t":{stamp},"topic":"{topic}","x":"'
    return head + "x" * (PAYLOAD_BYTES - len(head) - 2) + '"}'

"""Define what is measured: how many clients, their topics, how often these change, and which figure counts."""

import random
from dataclasses import dataclass
from enum import StrEnum

from bench.pacing import topic_names

LOAD = 0.45
"""Share of its core for which a server is kept busy when costs are compared."""


class Figure(StrEnum):
    """The figure that judges a scenario; less is always better."""

    CPU_PER_MILLION = "CPU seconds a million messages"
    P99_MS = "p99 latency, ms"
    TICK_P99_MS = "p99 until a client has all of a burst, ms"
    KB_PER_CONNECTION = "KB an idle connection"


@dataclass(frozen=True, slots=True)
class Scenario:
    """`repeat` messages per tick in each of `topics`; a client subscribes to `each` of them.

    Without `period_s` the server's load sets the pace. `servers` restricts who takes part.
    """

    key: str
    title: str
    topics: int
    each: int
    own_choice: bool = False
    repeat: int = 1
    kind: str = "ws"
    period_s: float = 0.0
    idle: bool = False
    figure: Figure = Figure.CPU_PER_MILLION
    connections: int = 1000

    @property
    def messages_per_tick(self) -> int:
        """What each client gets."""
        return self.each * self.repeat

    def choices(self) -> list[list[str]]:
        """Yield the topics of each client, alike in every run."""
        names = topic_names(self.topics)
        if not self.own_choice:
            return [list(names[: self.each])]
        rng = random.Random(20261122)
        return [rng.sample(names, self.each) for _ in range(self.connections)]


SCENARIOS = (
    Scenario("S1", "one message a tick to all", topics=1, each=1),
    Scenario("S1b", "ten messages a tick to all", topics=1, each=1, repeat=10),
    Scenario("S2 same", "300 topics burst, all clients want the same 50", topics=300, each=50),
    Scenario("S2 random", "300 topics burst, each client wants its own 50", topics=300, each=50, own_choice=True),
    Scenario("SSE", "as S2 same, over Server-Sent Events", topics=300, each=50, kind="sse"),
    Scenario(
        "S2 latency",
        "one burst of 300 topics a second, each client wants its own 50",
        topics=300,
        each=50,
        own_choice=True,
        period_s=1.0,
        figure=Figure.TICK_P99_MS,
    ),
    Scenario("S4", "one message to all, 20 times a second", topics=1, each=1, period_s=0.05, figure=Figure.P99_MS),
    Scenario(
        "Memory",
        "2000 idle connections",
        topics=1,
        each=1,
        idle=True,
        figure=Figure.KB_PER_CONNECTION,
        connections=2000,
    ),
)
QUICK = ("S1", "S1b", "S2 same", "S2 random")

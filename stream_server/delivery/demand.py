"""Limit the topics that clients start upstream, in all and for each address.

What the feeds bring anyway costs nothing and is not counted: prices, and candles that the settings name. Any other
series that a client names starts a stream and asks for its history, or is a name that was invented while the exchange's
list cannot be had. A topic is on the account of the address that started it until the feeds drop it.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol


class Feeds(Protocol):
    """The feeds, which bring topics."""

    def want(self, topic: str) -> None:
        """Bring a topic, because somebody listens to it."""

    def drop(self, topic: str) -> bool:
        """Drop a topic to which nobody listens any more; return whether it is no longer brought."""


@dataclass(slots=True)
class Demands:
    """The hub's end of the feeds. The feeds need the hub themselves, so `feeds` is set a little later.

    `starts(topic)` returns whether bringing a topic takes something upstream that is not brought anyway.
    """

    most: int
    """Number of topics that may be started on demand in all."""
    most_an_address: int = 0
    """Number of topics that one address may start; 0 for no limit."""
    feeds: Feeds | None = None
    starts: Callable[[str], bool] = lambda topic: False
    started: dict[str, str] = field(default_factory=dict)
    """By topic, the account that started it; empty for one without a limit of its own."""
    by_account: Counter[str] = field(default_factory=Counter)
    refused: int = 0

    def want(self, topic: str) -> None:
        """Bring a topic."""
        if self.feeds is not None:
            self.feeds.want(topic)

    def drop(self, topic: str) -> bool:
        """Drop a topic; return whether it is no longer brought."""
        account = self.started.pop(topic, None)
        if account:
            self.by_account[account] -= 1
            if not self.by_account[account]:
                del self.by_account[account]
        return self.feeds.drop(topic) if self.feeds is not None else False

    def is_full(self) -> bool:
        """Return whether no further topic may be started now."""
        return len(self.started) >= self.most

    def charge(self, topics: Iterable[str], account: str) -> list[str]:
        """Charge an account for what these topics start; return those that may not be started now."""
        refused = []
        for topic in topics:
            if topic in self.started or not self.starts(topic):
                continue
            over = account and 0 < self.most_an_address <= self.by_account[account]
            if over or self.is_full():
                refused.append(topic)
                continue
            self.started[topic] = account
            if account:
                self.by_account[account] += 1
        self.refused += len(refused)
        return refused

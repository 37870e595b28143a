"""Which topics clients have started upstream, on whose account, and how many more may be started.

What the feeds bring anyway costs nothing and is not counted: prices, and candles that the settings name. Any other
series that a client names starts a stream and asks for its history, or is a name that was invented while the exchange's
list cannot be had. A topic is on the account of the address that started it until the feeds drop it.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol


class Feeds(Protocol):
    """Who brings topics."""

    def want(self, topic: str) -> None:
        """Somebody listens to this topic."""

    def drop(self, topic: str) -> bool:
        """Nobody listens any more; True if it is no longer brought."""


@dataclass(slots=True)
class Demands:
    """The hub's end of the feeds, which need the hub themselves: `feeds` are there a little later.

    `starts(topic)` tells whether bringing a topic takes something upstream that is not brought anyway.
    """

    most: int
    """Topics on demand in all."""
    most_an_address: int = 0
    """Topics on demand that one address may have started; 0 for no limit."""
    feeds: Feeds | None = None
    starts: Callable[[str], bool] = lambda topic: False
    started: dict[str, str] = field(default_factory=dict)
    """By topic: the account of who started it, empty for one that is not limited by itself."""
    by_account: Counter[str] = field(default_factory=Counter)
    refused: int = 0

    def want(self, topic: str) -> None:
        """Bring a topic."""
        if self.feeds is not None:
            self.feeds.want(topic)

    def drop(self, topic: str) -> bool:
        """Bring it no longer; True if that ends it."""
        account = self.started.pop(topic, None)
        if account:
            self.by_account[account] -= 1
            if not self.by_account[account]:
                del self.by_account[account]
        return self.feeds.drop(topic) if self.feeds is not None else False

    def is_full(self) -> bool:
        """Whether no further topic may be started now."""
        return len(self.started) >= self.most

    def charge(self, topics: Iterable[str], account: str) -> list[str]:
        """Put on an account what these topics start. Returns those that may not be started now."""
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

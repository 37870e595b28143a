"""How often the questions behind topics are polled, and how long a value is good when no new one comes."""

from dataclasses import dataclass

from feeds import topics
from feeds.news.desk import WINDOW_S
from feeds.poller import IDLE

MISSED_POLLS = 3
"""A polled value is stale when so many polls of a quiet time have brought no other."""
TOTALS_SLOWER = 10
"""The figures of the whole market are polled so many times more slowly than the market table."""
STATS_SLOWER = 4
"""The state of a chain is polled so many times more slowly than its fees, because supply and price move less."""


@dataclass(frozen=True, slots=True)
class Paces:
    """Seconds between two polls while a client listens, by subject."""

    market_s: float
    news_s: float
    index_s: float
    gas_s: float

    @property
    def totals_s(self) -> float:
        """Return the pace of the figures of the whole market."""
        return TOTALS_SLOWER * self.market_s

    @property
    def stats_s(self) -> float:
        """Return the pace of the state of a chain."""
        return STATS_SLOWER * self.gas_s

    def good_for_s(self, topic: str) -> float:
        """Return how long a value of a polled topic is good; 0 for topics that are not polled.

        The score of a coin is good for as long as its articles count.
        """
        category = topics.category_of(topic)
        if category == "sentiment" and topic != topics.SENTIMENT_GLOBAL:
            return WINDOW_S
        paces = {
            topics.MARKET: self.market_s,
            topics.MARKET_GLOBAL: self.totals_s,
            topics.SENTIMENT_GLOBAL: self.index_s,
            topics.NEWS: self.news_s,
            "gas": self.gas_s,
            "chain": self.stats_s,
        }
        return MISSED_POLLS * IDLE * paces.get(topic, paces.get(category, 0.0))

"""Pools of news: one for each outlet, because their articles add up. Only the last resort stands in for others."""

from collections.abc import Callable
from dataclasses import dataclass

from feeds.fields import Rows
from feeds.identity import Identities
from feeds.model import Article
from feeds.news.articles import LATEST, NewsQuery
from feeds.pools.planner import PoolPlanner
from feeds.providers import crypto_dt_source, cryptopanic, newsapi, reddit
from orchestrator.clock import Clock
from orchestrator.fetched import Fetched
from orchestrator.pool import Pool
from orchestrator.provider import Provider
from orchestrator.upstream import ProviderState, Upstream

LAST_RESORT = crypto_dt_source.NAME
"""The outlet that is asked only when no other one has articles: it repeats what they publish."""
SCARCE = newsapi.NAME
"""The outlet whose calls are counted by the half day: only its poller asks it, and rarely."""
SCARCE_POLL_S = 900.0


@dataclass(frozen=True, slots=True)
class Outlet:
    """One source of articles."""

    pool: Pool[NewsQuery, Rows[Article]]

    @property
    def upstream(self) -> Upstream:
        """Return the upstream of its one provider."""
        return self.pool.providers[0].upstream

    @property
    def is_enabled(self) -> bool:
        """Whether it has the key that it needs."""
        return self.upstream.state is not ProviderState.DISABLED

    @property
    def is_last_resort(self) -> bool:
        """Whether it is asked only when no other outlet has articles."""
        return self.upstream.name == LAST_RESORT

    @property
    def is_asked_for_clients(self) -> bool:
        """Whether a client that wants newer articles may have it asked."""
        return self.is_enabled and not self.is_last_resort and self.upstream.name != SCARCE

    def poll_s(self, usual_s: float) -> float:
        """Return the seconds between two polls."""
        return max(SCARCE_POLL_S, usual_s) if self.upstream.name == SCARCE else usual_s


@dataclass(frozen=True, slots=True)
class NewsPools:
    """All outlets, in a fixed order."""

    outlets: tuple[Outlet, ...]

    def all_failed(self) -> bool:
        """Whether outlets were asked and none has articles: time for the last resort."""
        others = [outlet.pool for outlet in self.outlets if not outlet.is_last_resort]
        tried = any(pool.counts.upstream for pool in others)
        return tried and all(pool.peek(LATEST) is None for pool in others)


def news_pools(
    plan: PoolPlanner,
    identities: Identities,
    clock: Clock,
    received: Callable[[NewsQuery, Fetched[Rows[Article]]], None],
) -> NewsPools:
    """Make a pool for each outlet."""
    upstreams = plan.upstreams
    panic = cryptopanic.CryptoPanic(plan.key("CRYPTOPANIC_API_KEY"), upstreams.cryptopanic_plan, identities.is_another)
    posts = reddit.Reddit(
        plan.key("REDDIT_CLIENT_ID"), plan.key("REDDIT_CLIENT_SECRET"), clock, upstreams.reddit_tokens_url
    )
    providers: list[Provider[NewsQuery, Rows[Article]]] = [
        Provider(upstreams[cryptopanic.NAME], panic.articles),
        Provider(upstreams[newsapi.NAME], newsapi.NewsApi(plan.key("NEWS_API_KEY")).articles),
        Provider(upstreams[reddit.NAME], posts.articles),
        *(Provider(upstreams[feed.name], feed.articles, heavy=True) for feed in upstreams.rss),
        Provider(upstreams[crypto_dt_source.NAME], crypto_dt_source.news),
    ]
    return NewsPools(
        tuple(Outlet(plan.pool(f"news:{each.name}", [[each]], plan.ttl_s, received)) for each in providers)
    )

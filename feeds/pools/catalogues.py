"""Pools of two sources that are also asked by themselves: Crypto API Clean's catalogue, and Crypto DT Source."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from feeds import dt_requests
from feeds.dt_requests import DtQuery
from feeds.model import Resource
from feeds.pools import stamps
from feeds.pools.planner import PoolPlanner
from feeds.providers import crypto_api_clean, crypto_dt_source
from feeds.providers.crypto_api_clean import Health, Stats
from feeds.queries import HEALTH
from feeds.upstreams import HOUR_S
from orchestrator.fetched import Fetched
from orchestrator.pool import Pool
from orchestrator.provider import Provider, Steps

CATALOGUE_TTL_S = 6 * HOUR_S


@dataclass(frozen=True, slots=True)
class CataloguePools:
    """The pools of both sources, by what they answer."""

    resources: Pool[str, tuple[Resource, ...]]
    clean_facts: Pool[str, Health | Stats]
    dt_requests: Pool[DtQuery, Any]


def catalogue_pools(
    plan: PoolPlanner, *, resources_received: Callable[[str, Fetched[tuple[Resource, ...]]], None]
) -> CataloguePools:
    """Make the pools. The catalogue is long, so it may take more than a minute."""
    clean, dt = plan.upstream(crypto_api_clean.NAME), plan.upstream(crypto_dt_source.NAME)
    return CataloguePools(
        resources=plan.pool(
            "catalogue",
            [[Provider(clean, lambda query: crypto_api_clean.catalogue(), heavy=True)]],
            CATALOGUE_TTL_S,
            resources_received,
            slow=True,
            deadline_s=90.0,
            attempt_s=80.0,
        ),
        clean_facts=plan.pool(
            "crypto_api_clean", [[Provider(clean, _clean_facts)]], plan.ttl_s, deadline_s=15.0, attempt_s=12.0, size=2
        ),
        dt_requests=plan.pool(
            "crypto_dt_source",
            [[Provider(dt, dt_requests.ask, stamp_of=stamps.of_any, max_lag_s=stamps.INDEX_LATE_S)]],
            plan.ttl_s,
            deadline_s=20.0,
            attempt_s=18.0,
        ),
    )


def _clean_facts(query: str) -> Steps[Health | Stats]:
    if query == HEALTH:
        return (yield from crypto_api_clean.health())
    return (yield from crypto_api_clean.stats())

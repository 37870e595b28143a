"""Pools of the chains: fees, and the state of a chain. Keyed explorers come first, then nodes, then a public page."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from feeds.chains import Chain
from feeds.model import ChainStats, Gas
from feeds.pools import stamps
from feeds.pools.planner import PoolPlanner
from feeds.providers import blockscout, ethereum_rpc, etherscan
from orchestrator.fetched import Fetched
from orchestrator.pool import Pool
from orchestrator.provider import Provider, Steps

T = TypeVar("T")

CHAIN_TTL_S = 10.0
"""A block comes every twelve seconds."""
BLOCK_STANDS_S = 180.0
"""A source that names the same block for so long does not follow its chain."""


@dataclass(frozen=True, slots=True)
class ChainPools:
    """The pools of the chains, by what they answer."""

    gas: Pool[Chain, Gas]
    stats: Pool[Chain, ChainStats]


def chain_pools(
    plan: PoolPlanner,
    *,
    gas_received: Callable[[Chain, Fetched[Gas]], None],
    stats_received: Callable[[Chain, Fetched[ChainStats]], None],
) -> ChainPools:
    """Make the pools."""
    nodes, page, scout = plan.upstream(ethereum_rpc.NAME), plan.upstream(blockscout.NAME), blockscout.Blockscout()
    ttl_s = min(plan.ttl_s, CHAIN_TTL_S)
    return ChainPools(
        gas=plan.pool(
            "gas",
            [
                *_explorers(plan, lambda explorer: explorer.gas, lambda value: value.block),
                [Provider(nodes, ethereum_rpc.gas, serves=ethereum_rpc.serves, stamp_of=stamps.until_the_next_block)],
                [Provider(page, scout.gas, serves=scout.serves, stamp_of=stamps.stamp)],
            ],
            ttl_s,
            gas_received,
        ),
        stats=plan.pool(
            "chain",
            [
                *_explorers(plan, lambda explorer: explorer.stats, lambda value: value.height),
                [Provider(nodes, ethereum_rpc.stats, serves=ethereum_rpc.serves, stamp_of=stamps.until_the_next_block)],
                [Provider(page, scout.stats, serves=scout.serves, stamp_of=stamps.stamp)],
            ],
            ttl_s,
            stats_received,
        ),
    )


def _explorers(
    plan: PoolPlanner,
    ask: Callable[[etherscan.Etherscan], Callable[[Chain], Steps[T]]],
    mark_of: Callable[[T], int | None],
) -> list[list[Provider[Chain, T]]]:
    """Return a tier for each of Etherscan's two keys: the second one is asked only when the first one fails."""
    explorers = (
        etherscan.Etherscan(plan.key("ETHERSCAN_API_KEY"), etherscan.NAME),
        etherscan.Etherscan(plan.key("ETHERSCAN_BACKUP_API_KEY"), etherscan.BACKUP_NAME),
    )
    return [
        [Provider(plan.upstream(each.name), ask(each), serves=each.serves, mark_of=mark_of, max_lag_s=BLOCK_STANDS_S)]
        for each in explorers
    ]

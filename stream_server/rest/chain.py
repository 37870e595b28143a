"""`/api/crypto/blockchain/…`: what a chain charges, and how it stands."""

from collections.abc import Callable
from typing import TypeVar

from aiohttp import web

from feeds import events
from feeds.chains import ETHEREUM, Chain, UnknownChainError, chain_named
from feeds.model import ChainStats, Gas
from orchestrator.pool import Pool
from orchestrator.upstream import ProviderState
from stream_server.access.parameters import Parameters
from stream_server.context import CONTEXT
from stream_server.rest.answers import VIEWS, respond
from stream_server.rest.source_queries import asking_of
from stream_server.wire.refusals import Refusal

T = TypeVar("T", Gas, ChainStats)


async def gas(request: web.Request) -> web.Response:
    """`GET /api/crypto/blockchain/gas?chain=ethereum`: fees in gwei."""
    return await _told(request, asking_of(request).sources.chain.gas, lambda value: events.gas_data(value))


async def stats(request: web.Request) -> web.Response:
    """`GET /api/crypto/blockchain/stats?chain=ethereum`: height, block time, price, supply, utilisation."""
    return await _told(request, asking_of(request).sources.chain.stats, lambda value: events.chain_data(value))


async def _told(request: web.Request, pool: Pool[Chain, T], data_of: Callable[[T], dict[str, object]]) -> web.Response:
    context, asking = request.app[CONTEXT], asking_of(request)
    parameters = Parameters(request)
    name = parameters.text("chain") or ETHEREUM.name
    max_age_ms = parameters.max_age_ms()
    parameters.check()
    try:
        chain = chain_named(name)
    except UnknownChainError as error:
        raise Refusal("unknown_chain", str(error), 404, {"chain": str(error)}) from None
    if not pool.serves(chain):
        raise _not_here(pool, chain)
    fetched = await asking.fetch(pool, chain, max_age_ms)
    value = fetched.value
    answer = asking.answer([(pool, fetched)], lambda: data_of(value) | {"ts": value.ts}, max_age_ms)
    return respond(request, context, request.app[VIEWS].share((pool.name, chain.name), answer))


def _not_here(pool: Pool[Chain, T], chain: Chain) -> Refusal:
    """The chain exists, and nobody here reads it."""
    disabled = {
        each.name: each.upstream.disabled
        for each in pool.providers
        if each.upstream.state is ProviderState.DISABLED and each.serves(chain)
    }
    reasons = "; ".join(f"{name}: {reason}" for name, reason in disabled.items())
    reasons = reasons or "ETHERSCAN_API_KEY of a free plan does not read it, and no other source does"
    details: dict[str, object] = {"chain": chain.name, "disabled": disabled}
    return Refusal("unavailable", f"no provider here serves chain {chain.name!r} ({reasons})", 503, details, 3600)

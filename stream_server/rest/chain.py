"""Serve `/api/crypto/blockchain/…`: the fees and the state of a chain."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from aiohttp import web

from feeds import events, topics
from feeds.chains import CHAINS, ETHEREUM, Chain, UnknownChainError, chain_named
from feeds.model import ChainStats, Gas
from feeds.symbols import Symbols
from orchestrator.pool import Pool
from orchestrator.upstream import ProviderState
from stream_server.access.parameter_kinds import MAX_AGE, Text
from stream_server.access.parameters import Parameters
from stream_server.context import CONTEXT
from stream_server.rest.answers import ANSWERS, respond
from stream_server.rest.endpoints import Endpoint, Tag
from stream_server.rest.rights import EVERYTHING, Reads
from stream_server.rest.shapes import ChainStatsNow, Enveloped, GasNow
from stream_server.rest.source_queries import asking_of
from stream_server.wire.refusals import Refusal

T = TypeVar("T", Gas, ChainStats)

CHAIN = Text(
    "chain",
    "Name, id or a common other name of the chain",
    default=ETHEREUM.name,
    examples=[each.name for each in CHAINS],
)


async def gas(request: web.Request) -> web.Response:
    """Answer with the fees of a chain in gwei."""
    return await _answer(request, asking_of(request).sources.chain.gas, lambda value: events.gas_data(value))


async def stats(request: web.Request) -> web.Response:
    """Answer with the height, block time, price, supply and utilisation of a chain."""
    return await _answer(request, asking_of(request).sources.chain.stats, lambda value: events.chain_data(value))


async def _answer(
    request: web.Request, pool: Pool[Chain, T], data_of: Callable[[T], Mapping[str, object]]
) -> web.Response:
    context, asking = request.app[CONTEXT], asking_of(request)
    parameters = Parameters(request)
    name = parameters.read(CHAIN)
    max_age_ms = parameters.read(MAX_AGE)
    parameters.check()
    try:
        chain = chain_named(name)
    except UnknownChainError as error:
        raise Refusal("unknown_chain", str(error), 404, {"chain": str(error)}) from None
    if not pool.serves(chain):
        raise _not_served(pool, chain)
    fetched = await asking.fetch(pool, chain, max_age_ms)
    value = fetched.value
    answer = asking.answer([(pool, fetched)], lambda: {**data_of(value), "ts": value.ts}, max_age_ms)
    return respond(request, context, request.app[ANSWERS].share((pool.name, chain.name), answer))


def _not_served(pool: Pool[Chain, T], chain: Chain) -> Refusal:
    """Return the refusal of a chain that exists and that no enabled provider reads."""
    disabled = {
        each.name: each.upstream.disabled
        for each in pool.providers
        if each.upstream.state is ProviderState.DISABLED and each.serves(chain)
    }
    reasons = "; ".join(f"{name}: {reason}" for name, reason in disabled.items())
    reasons = reasons or "ETHERSCAN_API_KEY of a free plan does not read it, and no other source does"
    details: dict[str, object] = {"chain": chain.name, "disabled": disabled}
    return Refusal("unavailable", f"no provider here serves chain {chain.name!r} ({reasons})", 503, details, 3600)


def _reads(topic: Callable[[str], str]) -> Reads:
    """Return a function that names the topic of the chain that a request names."""

    def read(parameters: Parameters, symbols: Symbols) -> list[str]:
        try:
            return [topic(chain_named(parameters.read(CHAIN)).name)]
        except UnknownChainError:
            return EVERYTHING

    return read


ENDPOINTS = (
    Endpoint(
        path="/api/crypto/blockchain/gas",
        handler=gas,
        summary="Fees in gwei, never rounded",
        tag=Tag.CHAIN,
        answer=Enveloped[GasNow],
        parameters=(CHAIN, MAX_AGE),
        reads=_reads(topics.gas),
        asks_sources=True,
        refuses=(404,),
    ),
    Endpoint(
        path="/api/crypto/blockchain/stats",
        handler=stats,
        summary="Height, block time, price, supply, utilisation",
        tag=Tag.CHAIN,
        answer=Enveloped[ChainStatsNow],
        parameters=(CHAIN, MAX_AGE),
        reads=_reads(topics.chain),
        asks_sources=True,
        refuses=(404,),
    ),
)

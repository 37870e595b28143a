"""Chains: Ethereum always, others while somebody listens, and a refusal by name where nobody can answer."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from feeds import events
from feeds.chain_feed import ChainFeed
from feeds.chains import ETHEREUM, Chain
from feeds.model import ChainStats, Gas
from feeds.paces import Paces
from orchestrator.held import PoolPolicy
from orchestrator.http import HttpRequest
from orchestrator.pool import Pool
from orchestrator.provider import Provider, Steps
from orchestrator.upstream import Upstream
from tests.fakes.clock import ManualClock
from tests.fakes.transport import ScriptedTransport, reply
from tests.feeding import RecordingSink


class World:
    """A feed of chains on one provider that serves every chain, or Ethereum only."""

    def __init__(self, every_chain: bool = True) -> None:
        self.clock = ManualClock()
        self.sink = RecordingSink()
        self.transport = ScriptedTransport(self.clock, lambda asked: reply(self.clock))
        upstream = Upstream("prov", None, self.transport, self.clock, random.Random(1))
        policy = PoolPolicy(ttl_s=1.0)

        def serves(chain: Chain) -> bool:
            return every_chain or chain == ETHEREUM

        gas: Pool[Chain, Gas] = Pool(
            "gas",
            [[Provider(upstream, self.gas, serves=serves)]],
            self.clock,
            random.Random(1),
            policy,
            received=lambda query, got: self.sink.publish(events.gas(got.value, got.source, got.received_ms)),
        )
        stats: Pool[Chain, ChainStats] = Pool(
            "chain",
            [[Provider(upstream, self.stats, serves=serves)]],
            self.clock,
            random.Random(1),
            policy,
            received=lambda query, got: self.sink.publish(events.chain(got.value, got.source, got.received_ms)),
        )
        self.feed = ChainFeed(
            self.sink,
            gas,
            stats,
            Paces(market_s=30.0, news_s=120.0, index_s=600.0, gas_s=10.0),
            self.clock,
            random.Random(1),
            listened=lambda topic: True,
            on_change=lambda: None,
        )

    def gas(self, chain: Chain) -> Steps[Gas]:
        response = yield HttpRequest(f"/gas/{chain.name}")
        return Gas(chain.name, chain.chain_id, 0.1, 0.2, 0.3, 0.05, 1, response.received_ms)

    def stats(self, chain: Chain) -> Steps[ChainStats]:
        response = yield HttpRequest(f"/stats/{chain.name}")
        return ChainStats(chain.name, chain.chain_id, 1, 12.0, 3000.0, None, 50.0, response.received_ms)

    def asked(self, path: str) -> int:
        return sum(1 for each in self.transport.asked if each.request.path == path)

    async def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.advance(1.0)
            for _ in range(12):
                await asyncio.sleep(0)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.feed.run())
        await self.pass_time(1)
        try:
            yield
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_ethereum_is_polled_without_being_asked_for_its_state_more_slowly_than_its_fees() -> None:
    world = World()
    async with world.running():
        await world.pass_time(85)
    assert world.asked("/gas/ethereum") in (8, 9)
    assert world.asked("/stats/ethereum") in (2, 3)
    assert world.sink.of("gas.ethereum")[0].data["base_fee"] == 0.05
    assert world.sink.of("chain.ethereum")[0].data["block_time_s"] == 12.0
    assert world.feed.readiness() == {"gas.ethereum": "value", "chain.ethereum": "value"}


async def test_another_chain_is_polled_from_the_first_listener_to_the_last() -> None:
    world = World()
    async with world.running():
        world.feed.want("gas.polygon")
        await world.pass_time(25)
        assert world.asked("/gas/polygon") == 3
        assert world.asked("/stats/polygon") == 0
        assert world.feed.drop("gas.polygon")
        await world.pass_time(25)
        assert world.asked("/gas/polygon") == 3
        world.feed.want("gas.polygon")
        await world.pass_time(1)
        assert world.asked("/gas/polygon") == 4
        assert not world.feed.drop("gas.ethereum")
        assert not world.feed.drop("chain.linea")
    assert world.sink.refused == []


async def test_a_chain_that_no_provider_serves_is_refused_by_name_with_what_would_help() -> None:
    world = World(every_chain=False)
    async with world.running():
        world.feed.want("gas.base")
    ((topic, reason),) = world.sink.refused
    assert topic == "gas.base"
    assert "'base'" in reason
    assert "ETHERSCAN_API_KEY" in reason
    assert world.asked("/gas/base") == 0


async def test_a_chain_that_is_wanted_before_the_feed_runs_is_polled_when_it_does() -> None:
    world = World()
    world.feed.want("chain.polygon")
    async with world.running():
        assert world.asked("/stats/polygon") == 1


async def test_topics_of_other_feeds_are_none_of_its_business() -> None:
    world = World()
    world.feed.want("price.BTC")
    assert world.sink.refused == []

"""A poller: how often it asks, what wakes it, and what it says of itself."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from feeds.poller import Pace, Poller
from orchestrator.errors import ProviderError, Unavailable
from orchestrator.fetched import Fetched
from orchestrator.held import PoolPolicy
from orchestrator.http import HttpRequest, HttpResponse
from orchestrator.pool import Pool
from orchestrator.provider import Provider, Steps
from orchestrator.upstream import Upstream
from tests.fakes.clock import ManualClock
from tests.fakes.transport import Asked, ScriptedTransport, reply


class World:
    """One poller on a pool of one provider."""

    def __init__(self, every_s: float = 10.0, idle_s: float = 50.0) -> None:
        self.clock = ManualClock()
        self.down = False
        self.listened = False
        self.due = True
        self.transport = ScriptedTransport(self.clock, self.answer)
        upstream = Upstream("prov", None, self.transport, self.clock, random.Random(1))
        self.received: list[bytes] = []
        self.pool: Pool[str, bytes] = Pool(
            "pool",
            [[Provider(upstream, self.ask)]],
            self.clock,
            random.Random(1),
            PoolPolicy(ttl_s=60.0, negative_ttl_s=0.5),
            received=self.hear,
        )
        self.changes = 0
        self.poller = Poller(
            "poll",
            self.pool,
            "question",
            Pace(every_s, idle_s, jitter=0.0),
            ["topic"],
            self.clock,
            random.Random(1),
            listened=lambda topic: self.listened,
            due=lambda: self.due,
            on_change=self.changed,
        )

    def changed(self) -> None:
        self.changes += 1

    def hear(self, query: str, fetched: Fetched[bytes]) -> None:
        self.received.append(fetched.value)

    def ask(self, query: str) -> Steps[bytes]:
        response = yield HttpRequest("/")
        return response.body

    def answer(self, asked: Asked) -> HttpResponse | ProviderError:
        return Unavailable("prov", "down") if self.down else reply(self.clock, b"x")

    @property
    def times(self) -> list[float]:
        """When the provider was asked, in seconds from the start."""
        return [round(each.at - 1000.0, 1) for each in self.transport.asked]

    async def settle(self) -> None:
        for _ in range(12):
            await asyncio.sleep(0)

    async def pass_time(self, seconds: float, step_s: float = 0.5) -> None:
        for _ in range(int(seconds / step_s)):
            self.clock.advance(step_s)
            await self.settle()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.poller.run())
        await self.settle()
        try:
            yield
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_it_asks_at_once_and_then_slowly_while_nobody_listens() -> None:
    world = World()
    async with world.running():
        await world.pass_time(120)
    assert world.times == [0.0, 50.0, 100.0]
    assert len(world.received) == 3


async def test_it_asks_faster_while_somebody_listens() -> None:
    world = World()
    world.listened = True
    async with world.running():
        await world.pass_time(35)
    assert world.times == [0.0, 10.0, 20.0, 30.0]


async def test_somebody_who_begins_to_listen_wakes_it_but_not_more_often_than_its_pace() -> None:
    world = World()
    async with world.running():
        await world.pass_time(4)
        world.poller.want("topic")
        await world.pass_time(16)
        world.listened = True
        world.poller.want("another")
        await world.settle()
        assert world.times == [0.0]
        world.poller.want("topic")
        await world.settle()
        assert world.times == [0.0, 20.0]


@pytest.mark.parametrize("named", [True, False], ids=["named", "by a pattern"])
@pytest.mark.parametrize("after_s", [0.5, 4.0, 9.5, 10.0, 12.0, 33.0, 49.0])
async def test_a_new_listener_never_waits_for_an_idle_poll(after_s: float, named: bool) -> None:
    world = World()
    async with world.running():
        await world.pass_time(after_s)
        world.listened = True
        if named:
            world.poller.want("topic")
            await world.settle()
        await world.pass_time(10.0)
        assert world.times[0] == 0.0
        assert world.times[1] == max(10.0, after_s) if named else world.times[1] <= after_s + 10.0
        await world.pass_time(25.0)
        assert {after - before for before, after in itertools.pairwise(world.times[1:])} == {10.0}


async def test_listeners_who_come_and_go_do_not_make_it_ask_faster_than_its_pace() -> None:
    world = World()
    async with world.running():
        for _ in range(100):
            world.listened = not world.listened
            world.poller.want("topic")
            await world.pass_time(1.5)
    assert min(after - before for before, after in itertools.pairwise(world.times)) >= 10.0


async def test_a_new_listener_does_not_make_a_failing_one_ask_faster_than_its_pace() -> None:
    world = World()
    world.down = True
    async with world.running():
        await world.pass_time(200)
        before = world.times[-1]
        world.listened = True
        world.poller.want("topic")
        await world.pass_time(60)
        assert next(each for each in world.times if each > before) >= before + 10.0


async def test_a_failure_is_told_and_asked_again_ever_later_but_never_faster_than_its_backoff() -> None:
    world = World()
    world.down = True
    async with world.running():
        assert world.poller.readiness() == {"topic": world.poller.last_error}
        assert "prov unavailable" in str(world.poller.last_error)
        await world.pass_time(120)
        gaps = [after - before for before, after in zip(world.times, world.times[1:], strict=False)]
        assert min(gaps) >= 1.0
        assert world.poller.report()["state"] == "failing"
        world.down = False
        await world.pass_time(120)
        assert world.poller.report()["state"] == "polling"
        assert world.poller.readiness() == {"topic": "value"}
    assert world.changes >= 2


async def test_before_its_first_answer_it_is_neither_ready_nor_failed() -> None:
    assert World().poller.readiness() == {"topic": None}


async def test_a_fallback_asks_only_when_it_is_due() -> None:
    world = World()
    world.due = False
    async with world.running():
        await world.pass_time(40)
        assert world.times == []
        assert world.poller.state == "standing by"
        assert world.poller.readiness() == {}, "what it stands in for tells how things are"
        world.due = True
        await world.pass_time(11)
        assert len(world.times) == 1


async def test_an_answer_that_somebody_else_just_got_is_not_asked_for_again() -> None:
    world = World()
    world.listened = True
    await world.pool.fetch("question")
    async with world.running():
        await world.settle()
        assert len(world.transport.asked) == 1
        assert world.poller.readiness() == {"topic": "value"}

"""Feeds are kept running, whatever happens to one of them."""

import asyncio
import logging
import random
from collections.abc import Callable

import pytest

from feeds.supervisor import Supervisor
from tests.fakes.clock import ManualClock


class Fallible:
    """A feed that does as it is told, each time it runs."""

    def __init__(self, name: str, act: Callable[[], None] = lambda: None) -> None:
        self.name = name
        self.act = act
        self.runs = 0
        self.lives_on = asyncio.Event()

    async def run(self) -> None:
        self.runs += 1
        self.act()
        await self.lives_on.wait()

    def want(self, topic: str) -> None:
        pass

    def drop(self, topic: str) -> bool:
        return False

    def readiness(self) -> dict[str, str | None]:
        return {}

    def report(self) -> dict[str, object]:
        return {"name": self.name, "state": "live"}


def crash() -> None:
    raise ZeroDivisionError("a fault of ours")


async def pass_time(clock: ManualClock, seconds: float, step_s: float = 0.25) -> None:
    for _ in range(int(seconds / step_s)):
        clock.advance(step_s)
        for _ in range(4):
            await asyncio.sleep(0)


async def stop(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


async def test_a_feed_that_crashes_is_logged_and_restarted_after_growing_delays(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = ManualClock()
    fallen, well = Fallible("fallen", crash), Fallible("well")
    supervisor = Supervisor([fallen, well], clock, random.Random(1))
    task = asyncio.create_task(supervisor.run())
    with caplog.at_level(logging.ERROR):
        await pass_time(clock, 60.0)
        assert 5 <= fallen.runs <= 8
        after_a_minute = fallen.runs
        await pass_time(clock, 240.0)
        assert 4 <= fallen.runs - after_a_minute <= 8, "every half to whole minute"
    assert well.runs == 1
    assert supervisor.trouble() == "restarting fallen"
    records = [record for record in caplog.records if record.getMessage() == "feed_crashed"]
    assert len(records) == fallen.runs
    assert records[0].exc_info is not None
    assert supervisor.report() == [
        {"name": "fallen", "state": "live", "crashes": fallen.runs},
        {"name": "well", "state": "live", "crashes": 0},
    ]
    await stop(task)


async def test_a_feed_that_ends_by_itself_is_started_again_but_not_at_once() -> None:
    clock = ManualClock()
    feed = Fallible("short")
    feed.lives_on.set()
    task = asyncio.create_task(Supervisor([feed], clock, random.Random(1)).run())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert feed.runs == 1
    await pass_time(clock, 1.0)
    assert feed.runs == 2
    await stop(task)


async def test_a_feed_that_ran_well_for_a_while_is_soon_back() -> None:
    clock = ManualClock()
    feed = Fallible("often", crash)
    task = asyncio.create_task(Supervisor([feed], clock, random.Random(1)).run())
    await pass_time(clock, 100.0)
    feed.act = lambda: None
    await pass_time(clock, 200.0)
    runs = feed.runs
    feed.lives_on.set()
    await pass_time(clock, 1.25)
    assert feed.runs > runs
    await stop(task)


async def test_a_crash_of_many_at_once_is_a_crash_like_others() -> None:
    def crash_as_a_group() -> None:
        raise ExceptionGroup("several", [ValueError("one"), KeyError("two")])

    clock = ManualClock()
    feed = Fallible("group", crash_as_a_group)
    supervisor = Supervisor([feed], clock, random.Random(1))
    task = asyncio.create_task(supervisor.run())
    await pass_time(clock, 5.0)
    assert feed.runs >= 2
    assert not task.done()
    await stop(task)


@pytest.mark.parametrize("seconds", [0.0, 5.0])
async def test_it_stops_when_told_also_while_a_feed_waits_to_come_back(seconds: float) -> None:
    clock = ManualClock()
    feeds = [Fallible("fallen", crash), Fallible("well")]
    task = asyncio.create_task(Supervisor(feeds, clock, random.Random(1)).run())
    await pass_time(clock, seconds)
    await asyncio.sleep(0)
    await stop(task)
    assert {each.get_name() for each in asyncio.all_tasks()}.isdisjoint({"fallen", "well"})

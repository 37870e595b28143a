"""Loops are kept alive by one policy, and faults are contained in one place."""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable

import pytest

from orchestrator.containment import Contained
from orchestrator.errors import Malformed, ProviderError
from orchestrator.keep_alive import KeepAlive, RestartPolicy
from tests.fakes.clock import ManualClock

POLICY = RestartPolicy(first_s=1.0, longest_s=8.0, steady_s=60.0)
Loop = Callable[[], Awaitable[None]]


class Kept:
    """Loops on a clock that a test turns."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.crashes: list[tuple[str, str]] = []
        self.keeper = KeepAlive(POLICY, self.clock, random.Random(1), self.note)
        self.task: asyncio.Task[None] | None = None

    def run(self, **loops: Loop) -> None:
        self.task = asyncio.create_task(self.keeper.run(loops))

    def note(self, name: str, fault: BaseException) -> None:
        self.crashes.append((name, type(fault).__name__))

    async def turn(self, seconds: float) -> None:
        for _ in range(int(seconds * 4)):
            self.clock.advance(0.25)
            for _ in range(4):
                await asyncio.sleep(0)

    async def stop(self) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        assert self.task.cancelled()


def crashing(at: list[float], clock: Callable[[], float], fault: BaseException) -> Loop:
    async def loop() -> None:
        at.append(clock())
        raise fault

    return loop


async def forever() -> None:
    await asyncio.Event().wait()


async def a_cancelled_wait() -> None:
    """Wait for a future that somebody else cancels."""
    waiting = asyncio.get_running_loop().create_future()
    waiting.cancel()
    await waiting


@pytest.mark.parametrize(
    "fault", [ZeroDivisionError(), ExceptionGroup("several", [KeyError()]), RecursionError(), TimeoutError(), OSError()]
)
async def test_a_loop_that_crashes_is_reported_and_restarted_after_growing_delays(fault: Exception) -> None:
    times: list[float] = []
    kept = Kept()
    kept.run(fallen=crashing(times, kept.clock.now, fault), well=forever)
    await kept.turn(60.0)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    for gap, longest in zip(gaps, [1, 2, 4, *[8] * 20], strict=False):
        assert longest / 2 <= gap <= longest + 0.25
    assert len(gaps) >= 6
    assert kept.crashes == [("fallen", type(fault).__name__)] * len(times)
    assert kept.keeper.crashes == {"fallen": len(times)}
    assert kept.keeper.trouble() == "restarting fallen"
    await kept.stop()


async def test_a_loop_whose_wait_was_cancelled_by_others_is_restarted_too() -> None:
    kept = Kept()
    kept.run(fallen=a_cancelled_wait, well=forever)
    await kept.turn(20.0)
    assert len(kept.crashes) >= 3, "it would end unseen: a group takes no notice of a task that was cancelled"
    assert set(kept.crashes) == {("fallen", "CancelledError")}
    await kept.stop()


async def test_a_loop_that_ends_by_itself_is_started_again_and_is_no_trouble() -> None:
    runs: list[None] = []

    async def short() -> None:
        runs.append(None)

    kept = Kept()
    kept.run(short=short)
    await kept.turn(10.0)
    assert 3 <= len(runs) <= 6
    assert kept.keeper.trouble() is None
    assert not kept.crashes
    await kept.stop()


async def test_a_loop_that_ran_for_a_while_starts_with_the_shortest_delay_again() -> None:
    times: list[float] = []
    lives = [0.0] * 6 + [100.0] + [0.0] * 9
    kept = Kept()

    async def loop() -> None:
        times.append(kept.clock.now())
        await kept.clock.sleep(lives.pop(0))
        raise ZeroDivisionError

    kept.run(fallen=loop)
    await kept.turn(170.0)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    long = next(index for index, gap in enumerate(gaps) if gap > 90)
    assert gaps[long - 1] >= 4
    assert gaps[long] <= 101.5
    assert gaps[long + 1] <= 2.25
    await kept.stop()


@pytest.mark.parametrize("seconds", [0.0, 5.0])
async def test_all_loops_end_when_they_are_cancelled(seconds: float) -> None:
    kept = Kept()
    kept.run(fallen=a_cancelled_wait, well=forever)
    await kept.turn(seconds)
    await asyncio.sleep(0)
    await kept.stop()
    assert {task.get_name() for task in asyncio.all_tasks()}.isdisjoint({"fallen", "well"})


# --- containment ---


@pytest.mark.parametrize("fault", [ValueError("x"), ExceptionGroup("several", [KeyError()]), TimeoutError()])
def test_a_fault_ends_its_block_and_goes_no_further(fault: Exception) -> None:
    reached = []
    with Contained() as block:
        raise fault
    with Contained() as other:
        reached.append(True)
    assert block.fault is fault
    assert other.fault is None
    assert reached


@pytest.mark.parametrize("fault", [asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(0), Malformed("a", "b")])
def test_what_is_expected_or_ends_the_process_leaves_the_block(fault: BaseException) -> None:
    with pytest.raises(type(fault)), Contained(ProviderError) as block:
        raise fault
    assert block.fault is None

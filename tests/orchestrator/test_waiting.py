"""Waiting for the first of several things leaves nothing running."""

import asyncio

import pytest

from orchestrator.waiting import first_of, until_one_ends


class Loops:
    """Coroutines that note how they end."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.go = asyncio.Event()

    async def wait(self, name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # an end that takes a turn of the loop is waited for
            self.ended.append(name)

    async def crash(self) -> None:
        await self.go.wait()
        raise ZeroDivisionError

    async def end(self) -> None:
        await self.go.wait()


async def test_the_first_to_end_ends_the_wait_and_the_other_coroutines() -> None:
    loops = Loops()
    future = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(loops.wait("task"))
    loops.go.set()
    await first_of(loops.end(), loops.wait("other"), future, task)
    assert loops.ended == ["other"]
    assert not future.done()
    assert not task.done(), "a task belongs to somebody else"
    task.cancel()


async def test_a_cancelled_wait_ends_its_coroutines_too() -> None:
    loops = Loops()
    for wait in (
        first_of(loops.wait("a"), loops.wait("b")),
        until_one_ends({"a": loops.wait("a"), "b": loops.wait("b")}),
    ):
        task = asyncio.create_task(wait)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert sorted(loops.ended) == ["a", "a", "b", "b"]


async def test_what_the_first_loop_raised_is_raised_once_the_others_have_ended() -> None:
    loops = Loops()
    loops.go.set()
    with pytest.raises(ZeroDivisionError):
        await until_one_ends({"fallen": loops.crash(), "well": loops.wait("well")})
    assert loops.ended == ["well"]
    await until_one_ends({"done": loops.end(), "well": loops.wait("well")})
    assert loops.ended == ["well", "well"]

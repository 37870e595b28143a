"""One upstream call serves all who ask the same."""

import asyncio

import pytest

from orchestrator.errors import Unavailable
from orchestrator.recent import Recent
from tests.fakes.clock import ManualClock
from tests.harness import until


class Upstream:
    """Answers when the test lets it; counts how often it was asked."""

    def __init__(self) -> None:
        self.calls = 0
        self.go = asyncio.Event()
        self.error: Exception | None = None

    async def ask(self) -> int:
        self.calls += 1
        call = self.calls
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return call


def recent(clock: ManualClock | None = None, size: int = 8) -> Recent[str, int]:
    return Recent(10.0, size, clock or ManualClock())


async def test_a_thousand_identical_questions_make_one_call() -> None:
    answers, upstream = recent(), Upstream()
    asked = [asyncio.create_task(answers.get("key", upstream.ask)) for _ in range(1000)]
    await asyncio.sleep(0)
    upstream.go.set()
    assert await asyncio.gather(*asked) == [1] * 1000
    assert upstream.calls == 1
    assert not answers.in_flight


async def test_an_answer_is_kept_for_its_time_and_no_longer() -> None:
    clock = ManualClock()
    answers, upstream = recent(clock), Upstream()
    upstream.go.set()
    assert await answers.get("key", upstream.ask) == 1
    clock.advance(9.9)
    assert await answers.get("key", upstream.ask) == 1
    assert answers.fresh("key") == 1

    clock.advance(0.1)
    assert answers.fresh("key") is None
    assert await answers.get("key", upstream.ask) == 2


async def test_different_questions_are_asked_apart() -> None:
    answers, upstream = recent(), Upstream()
    upstream.go.set()
    assert await asyncio.gather(*(answers.get(key, upstream.ask) for key in "ab")) == [1, 2]


@pytest.mark.parametrize("leaver", [0, 1, 2])
async def test_a_caller_that_leaves_takes_the_answer_from_no_other(leaver: int) -> None:
    answers, upstream = recent(), Upstream()
    asked = [asyncio.create_task(answers.get("key", upstream.ask)) for _ in range(3)]
    await asyncio.sleep(0)
    asked[leaver].cancel()
    await asyncio.sleep(0)
    upstream.go.set()
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(results.pop(leaver), asyncio.CancelledError)
    assert results == [1, 1]
    assert upstream.calls == 1


async def test_an_error_goes_to_all_who_waited_and_is_not_kept() -> None:
    answers, upstream = recent(), Upstream()
    upstream.error = Unavailable("binance", "down")
    asked = [asyncio.create_task(answers.get("key", upstream.ask)) for _ in range(3)]
    await asyncio.sleep(0)
    upstream.go.set()
    assert await asyncio.gather(*asked, return_exceptions=True) == [upstream.error] * 3

    upstream.error = None
    assert await answers.get("key", upstream.ask) == 2


async def test_an_error_that_no_caller_waits_for_is_not_logged() -> None:
    noise: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
    answers, upstream = recent(), Upstream()
    upstream.error = Unavailable("binance", "down")
    asked = asyncio.create_task(answers.get("key", upstream.ask))
    await asyncio.sleep(0)
    asked.cancel()
    upstream.go.set()
    await asyncio.gather(asked, return_exceptions=True)
    await until(lambda: not answers.in_flight)
    assert noise == []


async def test_no_more_answers_are_kept_than_it_was_given_room_for() -> None:
    answers, upstream = recent(size=2), Upstream()
    upstream.go.set()
    for key in ("a", "b", "a", "c"):
        await answers.get(key, upstream.ask)
    assert list(answers.kept) == ["b", "c"]

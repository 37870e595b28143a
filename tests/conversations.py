"""Recorded answers and conversations over loopback, for the tests of providers."""

import random
from collections.abc import Callable, Mapping
from email.utils import formatdate, parsedate_to_datetime

import aiohttp
import orjson

from orchestrator.errors import ProviderError
from orchestrator.hosts import Hosts
from orchestrator.http import AiohttpTransport, HttpResponse
from orchestrator.provider import Steps
from orchestrator.upstream import T, Upstream
from tests.fakes.clock import START_MS, ManualClock
from tests.fakes.upstream import FakeUpstream


def answered(
    body: object, status: int = 200, at_ms: int = START_MS, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    """Return an answer with this `Date`, received 40 ms later. A body that isn't bytes becomes JSON."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    dated = {"date": formatdate(at_ms / 1000, usegmt=True), **(headers or {})}
    return HttpResponse(status, dated, raw, at_ms + 40)


def date_ms(text: str) -> int:
    """Parse an HTTP date into Unix milliseconds."""
    return int(parsedate_to_datetime(text).timestamp() * 1000)


def drive(steps: Steps[T], *answers: HttpResponse) -> T:
    """Run a conversation on given answers and return its value.

    Raises what the steps raise, and ValueError if they send more requests than there are answers.
    """
    given = list(answers)
    try:
        next(steps)
        while given:
            steps.send(given.pop(0))
    except StopIteration as done:
        value: T = done.value
        return value
    raise ValueError("the conversation sends more requests than there are answers")


async def asked(
    fake: FakeUpstream,
    steps: Steps[T],
    refusal: Callable[[str, HttpResponse], ProviderError | None],
    name: str = "tested",
    timeout_s: float = 5.0,
) -> T:
    """Run a conversation with a fake as the service does, and return its result."""
    clock = ManualClock(fake.wall_ms())
    async with aiohttp.ClientSession() as session:
        transport = AiohttpTransport(session, clock)
        upstream = Upstream(name, Hosts([fake.url], clock), transport, clock, random.Random(1), refusal=refusal)
        return await upstream.run(steps, timeout_s=timeout_s)

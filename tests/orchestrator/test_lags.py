"""How old a value is judged to be when it comes."""

import random

import pytest

from orchestrator.errors import Outdated
from orchestrator.hosts import Hosts
from orchestrator.http import HttpRequest, HttpResponse
from orchestrator.lags import Lags
from orchestrator.provider import Provider, Steps
from orchestrator.upstream import Upstream
from tests.fakes.clock import START_MS, ManualClock
from tests.fakes.transport import ScriptedTransport


def ask(query: str) -> Steps[int]:
    response = yield HttpRequest(f"/{query}")
    return len(response.body)


def provider_of(clock: ManualClock, **how: object) -> Provider[str, int]:
    transport = ScriptedTransport(clock, lambda asked: HttpResponse(200, {}, b"", START_MS))
    upstream = Upstream("prov", Hosts(["https://a.example"], clock), transport, clock, random.Random(1))
    return Provider(upstream, ask, max_lag_s=60.0, **how)  # type: ignore[arg-type]


def test_a_value_without_stamp_or_mark_is_as_new_as_its_answer() -> None:
    clock = ManualClock()
    lags: Lags[str, int] = Lags(8, clock)
    lags.check(provider_of(clock), "q", 5)
    clock.advance(1000.0)
    assert lags.lag_s(provider_of(clock), "q", 5) == 0.0


def test_a_stamp_gives_the_age_and_one_beyond_the_limit_is_refused() -> None:
    clock = ManualClock()
    lags: Lags[str, int] = Lags(8, clock)
    provider = provider_of(clock, stamp_of=lambda value: value)
    assert lags.lag_s(provider, "q", clock.wall_ms() - 59_000) == 59.0
    lags.check(provider, "q", clock.wall_ms() - 59_000)
    with pytest.raises(Outdated, match="61 s old"):
        lags.check(provider, "q", clock.wall_ms() - 61_000)
    assert lags.lag_s(provider, "q", clock.wall_ms() + 5_000) == 0.0


def test_a_mark_that_stands_still_makes_a_value_old_and_a_new_one_makes_it_young() -> None:
    clock = ManualClock()
    lags: Lags[str, int] = Lags(8, clock)
    provider = provider_of(clock, mark_of=lambda value: value)
    lags.check(provider, "q", 7)
    clock.advance(59.0)
    lags.check(provider, "q", 7)
    assert lags.lag_s(provider, "q", 7) == 59.0
    clock.advance(2.0)
    with pytest.raises(Outdated, match="61 s old"):
        lags.check(provider, "q", 7)
    lags.check(provider, "q", 8)
    assert lags.lag_s(provider, "q", 8) == 0.0


def test_marks_are_kept_for_each_question_and_for_so_many_only() -> None:
    clock = ManualClock()
    lags: Lags[str, int] = Lags(3, clock)
    provider = provider_of(clock, mark_of=lambda value: value)
    for query in "pqrst":
        lags.check(provider, query, 7)
    assert [query for _, query in lags.marks] == ["r", "s", "t"]

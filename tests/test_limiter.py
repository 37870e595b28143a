"""A token bucket on a clock that we turn."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.limiter import TokenBucket
from tests.fakes.clock import ManualClock


def test_a_full_bucket_gives_its_burst_and_then_its_rate() -> None:
    clock = ManualClock()
    bucket = TokenBucket(rate=2.0, burst=4.0, clock=clock)
    assert [bucket.take() for _ in range(5)] == [True] * 4 + [False]

    clock.advance(0.5)
    assert bucket.take()
    assert not bucket.take()


def test_it_tells_how_long_until_it_gives_again() -> None:
    clock = ManualClock()
    bucket = TokenBucket(rate=2.0, burst=1.0, clock=clock)
    assert bucket.wait_s() == 0.0
    bucket.take()
    assert bucket.wait_s() == pytest.approx(0.5)

    clock.advance(0.5)
    assert bucket.wait_s() == 0.0
    assert bucket.take()


def test_rest_never_saves_more_than_the_burst() -> None:
    clock = ManualClock()
    bucket = TokenBucket(rate=10.0, burst=3.0, clock=clock)
    clock.advance(3600.0)
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]


def test_a_refused_question_costs_nothing() -> None:
    bucket = TokenBucket(rate=1.0, burst=2.0, clock=ManualClock())
    assert not bucket.take(3.0)
    assert bucket.take(2.0)


@given(steps=st.lists(st.tuples(st.floats(0, 5), st.floats(0.1, 4)), max_size=60))
def test_over_any_time_it_gives_no_more_than_burst_and_rate_allow(steps: list[tuple[float, float]]) -> None:
    clock = ManualClock()
    bucket = TokenBucket(rate=3.0, burst=5.0, clock=clock)
    given_out = 0.0
    for pause_s, weight in steps:
        clock.advance(pause_s)
        wait_s = bucket.wait_s(weight)
        took = bucket.take(weight)
        assert took == (wait_s == 0.0)
        given_out += weight if took else 0.0
        assert given_out <= 5.0 + 3.0 * (clock.now() - 1000.0) + 1e-6

"""A token bucket and a limiter, on a clock that we turn."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from orchestrator.limiter import GRAINS, Allowance, Limiter, TokenBucket, spread
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


# --- what we may ask of a provider ---

MINUTE = Allowance(30, 60.0)


def test_an_allowance_is_given_at_once_and_then_not_before_its_window_is_over() -> None:
    clock = ManualClock()
    limiter = Limiter([MINUTE], clock)
    assert [limiter.take() for _ in range(31)] == [True] * 30 + [False]
    assert limiter.tokens_left() == 0.0
    clock.advance(60.0)
    assert not limiter.take(), "requests that travel faster than earlier ones must not meet them in one window"
    assert limiter.wait_s() == pytest.approx(0.5)
    clock.advance(limiter.wait_s())
    assert [limiter.take() for _ in range(31)] == [True] * 30 + [False]


def test_without_allowances_it_gives_without_limit() -> None:
    limiter = Limiter([], ManualClock())
    assert all(limiter.take(1000.0) for _ in range(1000))
    assert limiter.tokens_left() == math.inf
    limiter.used(1e9)
    assert limiter.take()


def test_every_one_of_several_allowances_is_kept() -> None:
    clock = ManualClock()
    limiter = Limiter([Allowance(2, 1.0), Allowance(3, 60.0)], clock)
    assert [limiter.take() for _ in range(3)] == [True, True, False]
    clock.advance(1.2)
    assert [limiter.take() for _ in range(2)] == [True, False]
    clock.advance(1.2)
    assert limiter.tokens_left() == 0.0
    assert limiter.wait_s() == pytest.approx(60.5 - 2.4)


def test_a_weight_that_no_window_holds_is_never_given() -> None:
    limiter = Limiter([MINUTE], ManualClock())
    assert limiter.wait_s(31.0, urgent=True) == math.inf
    assert not limiter.take(31.0, urgent=True)
    assert limiter.take(30.0)


def test_calls_that_can_wait_leave_a_reserve_to_those_that_cannot() -> None:
    limiter = Limiter([Allowance(10, 60.0)], ManualClock(), reserve=0.3)
    assert [limiter.take() for _ in range(8)] == [True] * 7 + [False]
    assert limiter.wait_s() > 0
    assert limiter.wait_s(urgent=True) == 0
    assert [limiter.take(urgent=True) for _ in range(4)] == [True] * 3 + [False]


def test_a_reserve_does_not_starve_calls_that_are_as_large_as_the_allowance() -> None:
    clock = ManualClock()
    limiter = Limiter([Allowance(1, 1.0)], clock, reserve=0.5)
    assert limiter.take()
    assert not limiter.take(urgent=True)
    clock.advance(limiter.wait_s())
    assert limiter.take()


@pytest.mark.parametrize(("weight", "per_s"), [(0, 1), (-1, 1), (1, 0), (float("nan"), 1), (1, float("inf"))])
def test_an_allowance_of_nothing_is_refused(weight: float, per_s: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Allowance(weight, per_s)


def test_it_remembers_no_more_than_it_needs_however_fast_it_is_asked() -> None:
    clock = ManualClock()
    limiter = Limiter([Allowance(100_000, 60.0)], clock)
    for _ in range(20_000):
        limiter.take(0.01)
        clock.advance(0.01)
    assert all(len(window.given) <= GRAINS + 1 for window in limiter._windows)


def test_what_is_given_in_small_parts_does_not_come_back_before_the_last_of_them() -> None:
    clock = ManualClock()
    limiter = Limiter([Allowance(10, 86_400.0)], clock)
    limiter.take()
    clock.advance(800.0)
    limiter.take(9.0)
    clock.advance(86_400.0 - 1.0)
    assert not limiter.take(10.0)
    assert limiter.wait_s() == pytest.approx(1.5)


# --- what the provider says of it ---


def test_nothing_is_given_before_a_retry_after_is_over() -> None:
    clock = ManualClock()
    limiter = Limiter([MINUTE], clock)
    limiter.cool_down(7.0)
    assert limiter.tokens_left() == 0.0
    given_at = []
    for _ in range(100):
        if limiter.take(urgent=True):
            given_at.append(clock.now())
        clock.advance(0.1)
    assert min(given_at) >= 1007.0
    assert min(given_at) == pytest.approx(1007.0, abs=0.11)


def test_a_rest_is_only_ever_made_longer() -> None:
    clock = ManualClock()
    limiter = Limiter([], clock)
    limiter.cool_down(120.0)
    for seconds in (7.0, 0.0, -5.0, math.nan):
        limiter.cool_down(seconds)
    assert limiter.cooldown_until == clock.now() + 120.0
    clock.advance(100.0)
    limiter.cool_down(30.0)
    assert limiter.wait_s() == 30.0


def test_what_others_used_of_the_same_address_is_taken_off() -> None:
    clock = ManualClock()
    limiter = Limiter([Allowance(6000, 60.0)], clock)
    limiter.take(40.0)
    limiter.used(5000.0)
    assert limiter.tokens_left() == 1000.0
    limiter.used(20.0)  # an answer that was overtaken
    limiter.used(math.nan)
    limiter.used(-3.0)
    assert limiter.tokens_left() == 1000.0
    limiter.used(10**9)
    assert limiter.tokens_left() == 0.0
    clock.advance(60.5)
    assert limiter.tokens_left() == 6000.0


def test_the_headers_of_each_window_correct_that_window() -> None:
    limiter = Limiter([Allowance(5, 1.0), Allowance(1000, 86_400.0)], ManualClock())
    limiter.used(998.0, of=1)
    assert limiter.tokens_left() == 2.0
    limiter.used(4.0, of=0)
    assert limiter.tokens_left() == 1.0


def test_when_nothing_is_left_nothing_is_given_before_the_reset() -> None:
    clock = ManualClock()
    limiter = Limiter([MINUTE], clock)
    limiter.remaining(0.0, 42.0)
    assert limiter.tokens_left() == 0.0
    assert limiter.wait_s(urgent=True) == 42.0
    clock.advance(41.9)
    assert not limiter.take(urgent=True)
    clock.advance(0.1)
    assert limiter.take()
    assert limiter.tokens_left() == 29.0


def test_a_reset_that_turns_out_to_be_later_is_believed_and_an_earlier_one_is_not() -> None:
    clock = ManualClock()
    limiter = Limiter([MINUTE], clock)
    for reset_s in (5.0, 42.0, 10.0):
        limiter.remaining(0.0, reset_s)
    assert limiter.wait_s() == 42.0


def test_what_is_said_to_be_left_is_used_up_by_what_is_given_and_never_raised() -> None:
    limiter = Limiter([MINUTE], ManualClock())
    limiter.remaining(3.0, 60.0)
    assert limiter.take()
    for left in (3.0, 1000.0, math.nan):
        limiter.remaining(left, 60.0)
    assert limiter.tokens_left() == 2.0
    assert [limiter.take() for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize(
    ("allowances", "seconds"), [([], 60.0), ([Allowance(5, 1.0), Allowance(1000, 86_400.0)], 1.0)], ids=["none", "two"]
)
def test_a_remainder_without_a_reset_holds_for_the_shortest_window(allowances: list[Allowance], seconds: float) -> None:
    limiter = Limiter(allowances, ManualClock())
    limiter.remaining(-1.0)
    assert limiter.wait_s() == seconds


@pytest.mark.parametrize("reset_s", [0.0, -5.0, math.nan])
def test_a_remainder_whose_time_is_over_is_no_news(reset_s: float) -> None:
    limiter = Limiter([MINUTE], ManualClock())
    limiter.remaining(0.0, reset_s)
    assert limiter.take()


class AnyTraffic(RuleBasedStateMachine):
    """Calls of any weight at any time, and a provider that says anything: it never gives more than it may."""

    @initialize(
        allowances=st.lists(
            st.builds(Allowance, st.integers(1, 40), st.sampled_from([1.0, 10.0, 60.0])), min_size=1, max_size=3
        ),
        reserve=st.sampled_from([0.0, 0.25, 0.9]),
    )
    def begin(self, allowances: list[Allowance], reserve: float) -> None:
        self.clock = ManualClock()
        self.allowances = allowances
        self.limiter = Limiter(allowances, self.clock, reserve)
        self.given: list[tuple[float, float]] = []
        self.cooldown_until = 0.0
        self.nothing_before = 0.0

    @rule(weight=st.sampled_from([0.5, 1.0, 2.0, 7.0, 40.0]), urgent=st.booleans(), times=st.integers(1, 30))
    def ask(self, weight: float, urgent: bool, times: int) -> None:
        now = self.clock.now()
        for _ in range(times):
            wait_s, left = self.limiter.wait_s(weight, urgent), self.limiter.tokens_left()
            took = self.limiter.take(weight, urgent)
            assert took == (wait_s == 0)
            if not took:
                assert self.limiter.tokens_left() == left, "a refused call costs nothing"
                break
            assert self.limiter.wait_s(weight, urgent=True) <= self.limiter.wait_s(weight)
            assert now >= self.cooldown_until - 1e-6
            assert now >= self.nothing_before - 1e-6
            self.given.append((now, weight))

    @rule(weight=st.sampled_from([1.0, 3.0]), urgent=st.booleans())
    def ask_when_it_says(self, weight: float, urgent: bool) -> None:
        wait_s = self.limiter.wait_s(weight, urgent)
        if math.isfinite(wait_s):
            if wait_s > 0.01:
                self.clock.advance(wait_s - 0.01)
                assert not self.limiter.take(weight, urgent), "it could have been asked earlier than it said"
            self.clock.advance(min(wait_s, 0.01))
            assert self.limiter.take(weight, urgent)
            self.given.append((self.clock.now(), weight))
        else:
            assert weight > min(allowance.weight for allowance in self.allowances)

    @rule(seconds=st.sampled_from([0.01, 0.3, 0.99, 7.0, 59.9, 61.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(seconds=st.one_of(st.sampled_from([-1.0, 0.0, 7.0, 120.0]), st.floats(-10, 100)))
    def asked_to_wait(self, seconds: float) -> None:
        before = self.limiter.cooldown_until
        self.limiter.cool_down(seconds)
        assert self.limiter.cooldown_until >= before
        self.cooldown_until = max(self.cooldown_until, self.clock.now() + seconds)

    @rule(left=st.sampled_from([-1.0, 0.0, 1.0, 5.0, 1e9]), reset_s=st.sampled_from([None, 0.0, 0.5, 30.0]))
    def told_what_is_left(self, left: float, reset_s: float | None) -> None:
        before = self.limiter.tokens_left()
        self.limiter.remaining(left, reset_s)
        assert self.limiter.tokens_left() <= before
        if reset_s:
            assert self.limiter.tokens_left() <= max(0.0, left)
            if left <= 0:
                self.nothing_before = max(self.nothing_before, self.clock.now() + reset_s)

    @rule(used=st.sampled_from([-1.0, 0.0, 3.0, 25.0, 1e9]), of=st.integers(0, 3))
    def told_what_is_used(self, used: float, of: int) -> None:
        before = self.limiter.tokens_left()
        self.limiter.used(used, of)
        assert self.limiter.tokens_left() <= before
        if of < len(self.allowances):
            assert self.limiter.tokens_left() <= max(0.0, self.allowances[of].weight - used) + 1e-6

    @invariant()
    def no_window_holds_more_than_its_allowance(self) -> None:
        for allowance in self.allowances:
            # The fullest window ends with a call: it is enough to look back from the last one.
            end = self.given[-1][0] if self.given else 0.0
            total = sum(weight for at, weight in self.given if at > end - allowance.per_s - 1e-6)
            assert total <= allowance.weight + 1e-6

    def teardown(self) -> None:
        """Whatever was said, it gives again one day."""
        if hasattr(self, "limiter"):
            self.clock.advance(self.limiter.wait_s())
            assert self.limiter.take()


AnyTraffic.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
TestAnyTraffic = AnyTraffic.TestCase


@given(weight=st.floats(1, 1e6), per_s=st.floats(2 * 3600, 31 * 24 * 3600))
def test_an_allowance_for_long_lasts_to_its_end(weight: float, per_s: float) -> None:
    whole, share = spread(weight, per_s)
    assert (whole.weight, whole.per_s) == (weight, per_s)
    assert share.weight / share.per_s == pytest.approx(weight / per_s), "the same pace"
    assert share.weight >= 1 - 1e-9, "one call fits"
    assert share.per_s == 3600 or share.weight == pytest.approx(1) or share.per_s == per_s


def test_a_day_of_calls_that_anybody_takes_leaves_every_hour_its_share() -> None:
    clock = ManualClock()
    limiter = Limiter(spread(1000, 86_400.0), clock)
    by_hour = []
    for _ in range(24):
        taken = 0
        for _ in range(360):
            taken += limiter.take()
            clock.advance(10.0)
        by_hour.append(taken)
    assert max(by_hour) <= 42
    assert min(by_hour) >= 41

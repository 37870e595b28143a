"""When a provider is given up, and how it is tried again."""

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from orchestrator.breaker import CALLS_KEPT, JITTER, Breaker, BreakerPolicy, CircuitState, Pass
from tests.fakes.clock import ManualClock

POLICY = BreakerPolicy(
    window_s=60.0,
    minimum_calls=10,
    failure_rate=0.5,
    slow_rate=0.8,
    slow_s=5.0,
    consecutive=5,
    cooldown_s=15.0,
    longest_cooldown_s=600.0,
)


def given(clock: ManualClock, seed: int = 1, policy: BreakerPolicy = POLICY) -> Breaker:
    return Breaker(policy, clock, random.Random(seed))


def admitted(breaker: Breaker) -> Pass:
    one = breaker.admit()
    assert one is not None
    return one


def opened(clock: ManualClock) -> Breaker:
    breaker = given(clock)
    for _ in range(5):
        admitted(breaker).failed()
    assert breaker.state is CircuitState.OPEN
    return breaker


def state_of(breaker: Breaker) -> CircuitState:
    """As a call, so that a type checker does not take it for unchanged since the last look."""
    return breaker.state


# --- opening ---


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    breaker = given(ManualClock())
    for _ in range(4):
        admitted(breaker).failed()
    admitted(breaker).succeeded(0.1)
    for failures in range(5):
        assert (breaker.consecutive, breaker.state) == (failures, CircuitState.CLOSED)
        admitted(breaker).failed()
    assert state_of(breaker) is CircuitState.OPEN
    assert not breaker.may_ask()
    assert breaker.admit() is None


def test_it_opens_when_half_of_the_windows_calls_failed_but_not_on_a_handful() -> None:
    breaker = given(ManualClock())
    for _ in range(4):
        admitted(breaker).failed()
        admitted(breaker).succeeded(0.1)
    assert (breaker.calls, breaker.failures, breaker.state) == (8, 4, CircuitState.CLOSED)
    admitted(breaker).succeeded(0.1)
    admitted(breaker).failed()
    assert state_of(breaker) is CircuitState.OPEN


def test_failures_that_left_the_window_count_no_more() -> None:
    clock = ManualClock()
    breaker = given(clock)
    for _ in range(4):
        admitted(breaker).failed()
    admitted(breaker).succeeded(0.1)
    clock.advance(60.0)
    assert (breaker.calls, breaker.failures) == (0, 0)
    for _ in range(8):
        admitted(breaker).succeeded(0.1)
    admitted(breaker).failed()
    assert state_of(breaker) is CircuitState.CLOSED


def test_slow_answers_open_it_though_each_of_them_succeeds() -> None:
    clock = ManualClock()
    breaker = given(clock)
    for calls in range(1, 11):
        one = admitted(breaker)
        clock.advance(5.0)
        one.succeeded(5.0)
        assert breaker.state is (CircuitState.OPEN if calls == 10 else CircuitState.CLOSED)


def test_quick_answers_never_open_it_however_many() -> None:
    clock = ManualClock()
    breaker = given(clock)
    for _ in range(5000):
        admitted(breaker).succeeded(4.99)
        clock.advance(0.001)
    assert state_of(breaker) is CircuitState.CLOSED
    assert breaker.calls == CALLS_KEPT


def test_a_burst_of_500s_costs_a_handful_of_calls_and_one_probe_brings_it_back() -> None:
    """Twenty calls are needed; all of them would fail."""
    clock = ManualClock()
    breaker = given(clock)
    asked = 0
    for _ in range(20):
        one = breaker.admit()
        if one is not None:
            asked += 1
            one.failed()
        clock.advance(0.1)
    assert asked == 5

    clock.advance(breaker.wait_s())
    probe = admitted(breaker)
    assert state_of(breaker) is CircuitState.PROBING
    assert [breaker.admit() for _ in range(20)] == [None] * 20
    probe.succeeded(0.2)
    assert state_of(breaker) is CircuitState.CLOSED
    assert breaker.open_until is None
    assert all(breaker.admit() is not None for _ in range(20))


# --- our own faults and limits ---


def test_what_is_released_counts_for_nothing() -> None:
    """A 429 rests the limiter, and the breaker hears only that the place is free again."""
    breaker = given(ManualClock())
    for _ in range(100):
        admitted(breaker).released()
    assert (breaker.state, breaker.calls, breaker.consecutive) == (CircuitState.CLOSED, 0, 0)


def test_only_the_first_word_about_a_call_counts() -> None:
    breaker = given(ManualClock())
    one = admitted(breaker)
    one.succeeded(0.1)
    for _ in range(10):
        one.failed()
        one.released()
    assert (breaker.calls, breaker.failures) == (1, 0)


# --- open ---


def test_nobody_is_admitted_before_the_cooldown_is_over() -> None:
    clock = ManualClock()
    breaker = opened(clock)
    wait_s = breaker.wait_s()
    assert 15.0 <= wait_s <= 15.0 * (1 + JITTER)
    clock.advance(wait_s - 0.01)
    assert breaker.admit() is None
    clock.advance(0.01)
    assert (breaker.wait_s(), breaker.state, breaker.may_ask()) == (0.0, CircuitState.OPEN, True)
    assert breaker.admit() is not None


def test_a_cancelled_probe_frees_its_place() -> None:
    clock = ManualClock()
    breaker = opened(clock)
    clock.advance(breaker.wait_s())
    admitted(breaker).released()
    assert state_of(breaker) is CircuitState.OPEN
    admitted(breaker).succeeded(0.1)
    assert state_of(breaker) is CircuitState.CLOSED


@pytest.mark.parametrize("how", ["failed", "slow"])
def test_each_lost_probe_doubles_the_cooldown_up_to_the_longest(how: str) -> None:
    clock = ManualClock()
    breaker = opened(clock)
    for nominal_s in (30.0, 60.0, 120.0, 240.0, 480.0, 600.0, 600.0):
        clock.advance(breaker.wait_s())
        probe = admitted(breaker)
        if how == "failed":
            probe.failed()
        else:
            probe.succeeded(5.0)
        assert nominal_s <= breaker.wait_s() <= nominal_s * (1 + JITTER)


def test_calls_from_before_it_opened_neither_close_it_nor_lengthen_the_cooldown() -> None:
    clock = ManualClock()
    breaker = given(clock)
    late = [admitted(breaker) for _ in range(4)]
    for _ in range(5):
        admitted(breaker).failed()
    until = breaker.open_until
    clock.advance(3.0)
    late[0].succeeded(3.0)
    late[1].failed()
    assert (breaker.state, breaker.open_until) == (CircuitState.OPEN, until)

    clock.advance(breaker.wait_s())
    probe = admitted(breaker)
    late[2].succeeded(20.0)
    assert state_of(breaker) is CircuitState.PROBING
    probe.succeeded(0.1)
    late[3].failed()
    assert (breaker.state, breaker.calls, breaker.consecutive) == (CircuitState.CLOSED, 0, 0)


# --- forced probes ---


def test_a_probe_can_be_forced_through_before_the_cooldown_is_over_but_only_one() -> None:
    breaker = opened(ManualClock())
    probe = breaker.probe()
    assert probe is not None
    assert state_of(breaker) is CircuitState.PROBING
    assert breaker.probe() is None
    assert breaker.admit() is None
    probe.succeeded(0.1)
    assert state_of(breaker) is CircuitState.CLOSED


def test_a_forced_probe_that_fails_changes_nothing() -> None:
    clock = ManualClock()
    breaker = opened(clock)
    until, badness = breaker.open_until, breaker.badness
    for _ in range(2):
        clock.advance(5.0)
        probe = breaker.probe()
        assert probe is not None
        probe.failed()
        assert (breaker.state, breaker.open_until, breaker.badness) == (CircuitState.OPEN, until, badness)


def test_forcing_a_closed_one_is_an_ordinary_call() -> None:
    breaker = given(ManualClock())
    first, second = breaker.probe(), breaker.probe()
    assert first is not None
    assert second is not None
    first.failed()
    assert (breaker.state, breaker.failures) == (CircuitState.CLOSED, 1)


def test_the_least_bad_opened_least_often_and_is_back_first() -> None:
    clock = ManualClock()
    twice = opened(clock)
    clock.advance(twice.wait_s())
    admitted(twice).failed()
    earlier = opened(clock)
    clock.advance(10.0)
    later = opened(clock)
    assert sorted([twice, later, earlier], key=lambda breaker: breaker.badness) == [earlier, later, twice]


# --- coming and going ---


def flapping(minutes: int) -> tuple[list[int], int]:
    """One call a second to a provider that alternates: how often the breaker switched in each minute, and calls."""
    clock = ManualClock()
    breaker = given(clock)
    switches, calls, was_closed = [0] * minutes, 0, True
    for second in range(minutes * 60):
        one = breaker.admit()
        if one is not None:
            calls += 1
            if second % 2:
                one.failed()
            else:
                one.succeeded(0.1)
        closed = breaker.state is CircuitState.CLOSED
        switches[second // 60] += closed is not was_closed
        was_closed = closed
        clock.advance(1.0)
    return switches, calls


def test_a_provider_that_comes_and_goes_is_used_less_and_less() -> None:
    switches, calls = flapping(minutes=60)
    assert max(switches) <= 4
    assert sum(switches[:10]) <= 10
    assert sum(switches[30:]) <= 8
    assert calls < 3600 * 0.1


def test_one_success_does_not_bring_short_cooldowns_back_but_a_stable_time_does() -> None:
    clock = ManualClock()
    breaker = opened(clock)
    clock.advance(breaker.wait_s())
    admitted(breaker).succeeded(0.1)
    clock.advance(59.0)
    for _ in range(5):
        admitted(breaker).failed()
    assert breaker.wait_s() >= 30.0

    clock.advance(breaker.wait_s())
    admitted(breaker).succeeded(0.1)
    clock.advance(61.0)
    for _ in range(5):
        admitted(breaker).failed()
    assert breaker.wait_s() <= 15.0 * (1 + JITTER)


def test_after_a_long_cooldown_stable_means_just_as_long() -> None:
    clock = ManualClock()
    breaker = opened(clock)
    for _ in range(4):
        clock.advance(breaker.wait_s())
        admitted(breaker).failed()
    clock.advance(breaker.wait_s())
    admitted(breaker).succeeded(0.1)
    clock.advance(239.0)
    for _ in range(5):
        admitted(breaker).failed()
    assert breaker.wait_s() >= 480.0


def test_breakers_that_opened_together_do_not_probe_together() -> None:
    clock = ManualClock()
    waits = set()
    for seed in range(10):
        breaker = given(clock, seed)
        for _ in range(5):
            admitted(breaker).failed()
        waits.add(breaker.wait_s())
    assert len(waits) == 10


# --- any history ---


class AnyHistory(RuleBasedStateMachine):
    """Calls come, go and are lost in any order and at any time; the rules of the matrix hold throughout."""

    @initialize(
        seed=st.integers(0, 99),
        consecutive=st.integers(1, 4),
        minimum_calls=st.integers(1, 6),
        cooldown_s=st.sampled_from([0.5, 15.0, 600.0]),
    )
    def begin(self, seed: int, consecutive: int, minimum_calls: int, cooldown_s: float) -> None:
        self.clock = ManualClock()
        self.policy = BreakerPolicy(
            consecutive=consecutive, minimum_calls=minimum_calls, cooldown_s=cooldown_s, longest_cooldown_s=600.0
        )
        self.breaker = given(self.clock, seed, self.policy)
        self.out: list[Pass] = []
        self.probe: Pass | None = None
        self.provider_failed = False

    def say(self, how: str, place: int) -> None:
        """Tell how one of the calls under way went, and check what that may change."""
        breaker = self.breaker
        one = self.out.pop(place % len(self.out))
        before, until = breaker.state, breaker.open_until
        was_probe = one is self.probe
        if how == "released":
            one.released()
        elif how == "failed":
            one.failed()
        else:
            one.succeeded(9.0 if how == "slow" else 0.1)
        opened_now = breaker.open_until is not None and breaker.open_until != until
        if was_probe:
            self.probe = None
            assert breaker.state is (CircuitState.CLOSED if how == "ok" else CircuitState.OPEN)
            assert how != "released" or breaker.open_until == until
        elif before is not CircuitState.CLOSED:
            assert (breaker.state, breaker.open_until) == (before, until)
        if opened_now:
            assert how in ("failed", "slow")
            cooldown_s = breaker.wait_s()
            assert self.policy.cooldown_s - 1e-6 <= cooldown_s
            assert cooldown_s <= self.policy.longest_cooldown_s * (1 + JITTER) + 1e-6

    @rule()
    def ask(self) -> None:
        may, wait_s, state = self.breaker.may_ask(), self.breaker.wait_s(), self.breaker.state
        one = self.breaker.admit()
        assert (one is not None) == may
        if wait_s > 0:
            assert one is None, "admitted before the cooldown was over"
        if one is not None:
            if state is not CircuitState.CLOSED:
                assert self.probe is None, "two probes at once"
                self.probe = one
            self.out.append(one)

    @rule()
    def force(self) -> None:
        state = self.breaker.state
        one = self.breaker.probe()
        assert (one is None) == (state is CircuitState.PROBING)
        if one is not None:
            if state is not CircuitState.CLOSED:
                assert self.probe is None, "two probes at once"
                self.probe = one
            self.out.append(one)

    @precondition(lambda self: self.out)
    @rule(how=st.sampled_from(["ok", "slow", "failed", "released"]), place=st.integers(0, 9))
    def hear(self, how: str, place: int) -> None:
        self.say(how, place)

    @precondition(lambda self: self.breaker.state is CircuitState.CLOSED)
    @rule(calls=st.integers(1, 8))
    def fail_in_a_row(self, calls: int) -> None:
        for _ in range(calls):
            one = self.breaker.admit()
            if one is None:
                break
            one.failed()

    @precondition(lambda self: self.out)
    @rule(times=st.integers(1, 3))
    def repeat(self, times: int) -> None:
        one = self.out[0]
        self.say("ok", 0)
        before = (self.breaker.state, self.breaker.open_until, self.breaker.calls)
        for _ in range(times):
            one.failed()
            one.succeeded(0.1)
            one.released()
        assert (self.breaker.state, self.breaker.open_until, self.breaker.calls) == before

    @rule(seconds=st.sampled_from([0.25, 5.0, 16.0, 61.0, 800.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def its_numbers_agree(self) -> None:
        breaker = self.breaker
        assert (breaker.open_until is None) == (breaker.state is CircuitState.CLOSED)
        assert (breaker.state is CircuitState.PROBING) == (self.probe is not None)
        assert 0 <= breaker.failures <= breaker.calls <= CALLS_KEPT
        assert 0.0 <= breaker.wait_s() <= self.policy.longest_cooldown_s * (1 + JITTER) + 1e-6
        if breaker.may_ask():
            assert breaker.wait_s() == 0

    def teardown(self) -> None:
        """However it stands: calls end and time passes, and one good probe closes it."""
        if not hasattr(self, "breaker"):
            return
        for one in self.out:
            one.released()
        self.clock.advance(self.breaker.wait_s() + 0.001)
        one = admitted(self.breaker)
        one.succeeded(0.1)
        assert self.breaker.state is CircuitState.CLOSED


class OurOwnFaults(RuleBasedStateMachine):
    """As long as no fault is the provider's, it stays closed."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.breaker = given(self.clock, policy=BreakerPolicy(consecutive=1, minimum_calls=1))
        self.out: list[Pass] = []

    @rule()
    def ask(self) -> None:
        self.out.append(admitted(self.breaker))

    @precondition(lambda self: self.out)
    @rule(ours=st.booleans(), latency_s=st.floats(0, 4.9))
    def hear(self, ours: bool, latency_s: float) -> None:
        one = self.out.pop()
        if ours:
            one.released()
        else:
            one.succeeded(latency_s)
        self.clock.advance(latency_s)

    @invariant()
    def it_is_closed(self) -> None:
        assert self.breaker.state is CircuitState.CLOSED


AnyHistory.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
OurOwnFaults.TestCase.settings = settings(max_examples=20, stateful_step_count=20)
TestAnyHistory = AnyHistory.TestCase
TestOurOwnFaults = OurOwnFaults.TestCase

"""Tests of pacing: the time until a pong sizes the portions of a slow client, and ends its pacing."""

import pytest

from stream_server.delivery.pacing import (
    LEAST_PORTION_BYTES,
    MOST_PORTION_BYTES,
    QUICK_PONG_S,
    QUICK_PONGS,
    Pacer,
)


def pong_after(pacer: Pacer, seconds: float) -> int:
    pacer.ask(100.0)
    assert pacer.answered(100.0 + seconds)
    return pacer.portion_bytes


def test_a_portion_grows_with_quick_pongs_and_is_halved_by_one_that_took_long() -> None:
    pacer = Pacer()
    assert [pong_after(pacer, 0.01) for _ in range(3)] == [LEAST_PORTION_BYTES * size for size in (2, 3, 4)]
    assert pong_after(pacer, 0.2) == 4 * LEAST_PORTION_BYTES
    assert pong_after(pacer, 0.3) == 2 * LEAST_PORTION_BYTES
    assert [pong_after(pacer, 9.0) for _ in range(3)] == [LEAST_PORTION_BYTES] * 3
    assert [pong_after(pacer, 0.01) for _ in range(10)][-1] == MOST_PORTION_BYTES


def test_a_distant_client_is_not_taken_for_a_slow_one() -> None:
    pacer = Pacer()
    assert [pong_after(pacer, 0.9) for _ in range(10)][-1] == MOST_PORTION_BYTES


@pytest.mark.parametrize("slow_s", [QUICK_PONG_S, 9.0])
def test_a_run_of_quick_pongs_ends_the_pacing_and_a_slow_one_begins_the_count_again(slow_s: float) -> None:
    pacer = Pacer()
    pacer.begin()
    quick = [0.1] * (QUICK_PONGS - 1)
    for seconds in [*quick, slow_s, *quick]:
        pong_after(pacer, seconds)
        assert pacer.paced
    pong_after(pacer, 0.1)
    assert not pacer.paced


def test_a_pong_that_nobody_asked_for_changes_nothing() -> None:
    pacer = Pacer()
    assert not pacer.answered(5.0)
    assert (pacer.portion_bytes, pacer.quick_pongs) == (LEAST_PORTION_BYTES, 0)


def test_a_pong_is_expected_from_the_ping_until_it_comes_or_is_given_up() -> None:
    pacer = Pacer()
    waiting = [pacer.is_waiting]
    for step in (lambda: pacer.ask(1.0), lambda: pacer.answered(2.0), lambda: pacer.ask(3.0), pacer.forget):
        step()
        waiting.append(pacer.is_waiting)
    assert waiting == [False, True, False, True, False]

"""Run fixed programs of the hunt (`tests/hunt/`), which together take every way through the hub that has a name."""

import pytest

from tests.hunt import mutants, paths, programs

SEEDS = (*range(21), 2_000_031, 145_818_358, 904_630_573)
"""The program of 2000031 joins a throttled group whose beat is due and has not fired yet. In that of 145818358 a topic
is dropped before its first event, fed again, and resumed by another client from the very position at which it was fed.
In that of 904630573 a value expires just before the end, and a paced client has yet to get the message.
"""


@pytest.mark.parametrize("seed", SEEDS)
def test_the_hub_keeps_the_contract_under_the_program_of_a_seed(seed: int) -> None:
    failure = programs.hunt(seed, shrink=False)
    assert failure is None, str(failure)


def test_a_seed_draws_the_same_program_again() -> None:
    assert [programs.drawn(seed) for seed in SEEDS] == [programs.drawn(seed) for seed in SEEDS]


def test_every_way_through_the_hub_is_taken() -> None:
    reached, situations = paths.reached_by([*range(2, 21), 40])
    assert not reached.untaken(), "no program takes these ways: nobody checks them"
    assert not paths.SITUATIONS - set(situations)


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)
def test_every_breakage_of_the_hunt_applies_to_the_source(mutant: mutants.Mutant) -> None:
    source = mutants.ROOT / "stream_server" / mutant.file
    assert mutant.broken(source.read_text(encoding="utf-8"))

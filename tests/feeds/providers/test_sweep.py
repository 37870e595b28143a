"""Nonsense in any one field of any provider's answer costs no row that still means something, and is counted."""

import pkgutil

import pytest

from feeds import providers, venues
from tests.sweep import Case, cases, sweep

NOT_UPSTREAMS = {"fields", "lexicon"}


def test_every_provider_is_swept() -> None:
    modules = {each.name for package in (providers, venues) for each in pkgutil.iter_modules(package.__path__)}
    assert modules - NOT_UPSTREAMS == {case.provider for case in cases()}


@pytest.mark.parametrize("case", cases(), ids=str)
def test_nonsense_in_one_field_costs_no_more_than_it_must(case: Case) -> None:
    figures = sweep(case)
    assert figures.findings == []
    assert figures.mutations > 0

"""What the accounts with all providers have in common: shares for the pollers, and long allowances spread."""

import pytest

from orchestrator.limiter import Allowance
from tests.orchestrator.test_judgement import ACCOUNTS

HOUR_S = 3600.0


@pytest.mark.parametrize("name", ACCOUNTS)
def test_every_account_reserves_a_share_for_its_pollers(name: str) -> None:
    policy = ACCOUNTS[name].policy
    assert policy.allowances
    assert 0 < policy.reserve < 1
    assert ACCOUNTS[name].limiter.reserve == policy.reserve


@pytest.mark.parametrize("name", ACCOUNTS)
def test_no_allowance_of_a_day_or_a_month_can_be_used_up_in_its_first_hours(name: str) -> None:
    allowances = ACCOUNTS[name].policy.allowances
    for each in allowances:
        if each.per_s > 2 * HOUR_S:
            shares = [other for other in allowances if other.per_s < each.per_s / 2]
            assert any(_pace(share) <= _pace(each) * 1.01 for share in shares), each


@pytest.mark.parametrize("name", ACCOUNTS)
def test_every_source_that_is_polled_has_a_floor(name: str) -> None:
    # Texts to score are a new question each, so that nothing is asked for again.
    assert ACCOUNTS[name].policy.floor_s > 0 or name == "huggingface"


def _pace(allowance: Allowance) -> float:
    return allowance.weight / allowance.per_s

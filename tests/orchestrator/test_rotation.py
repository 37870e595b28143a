"""The order in which providers are tried."""

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.rotation import Rotation

WEIGHTS = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def anyone(_: int) -> bool:
    return True


def all_but(*places: int) -> Callable[[int], bool]:
    return lambda place: place not in places


def test_turns_are_spread_out_by_weight() -> None:
    rotation = Rotation([[3, 1]])
    assert [rotation.order(anyone)[0] for _ in range(8)] == [0, 0, 1, 0, 0, 0, 1, 0]


def test_members_are_numbered_through_all_tiers_and_every_one_is_in_the_order() -> None:
    rotation = Rotation([[1, 1], [], [1]])
    assert [rotation.order(anyone) for _ in range(3)] == [[0, 1, 2], [1, 0, 2], [0, 1, 2]]


def test_the_next_tier_is_tried_when_none_of_the_first_may_be_asked() -> None:
    rotation = Rotation([[1, 1], [1, 1]])
    assert rotation.order(all_but(0)) == [1, 2, 3]
    assert rotation.order(all_but(0, 1)) == [3, 2]
    assert rotation.order(all_but(0, 1, 2, 3)) == []


def test_who_was_away_gets_no_burst_of_turns_when_it_is_back() -> None:
    rotation = Rotation([[1, 1]])
    for _ in range(100):
        assert rotation.order(all_but(0)) == [1]
    assert [rotation.order(anyone)[0] for _ in range(4)] == [0, 1, 0, 1]


def test_each_member_is_asked_once_whether_it_may() -> None:
    asked: Counter[int] = Counter()

    def may(place: int) -> bool:
        asked[place] += 1
        return True

    Rotation([[1, 2], [1]]).order(may)
    assert asked == {0: 1, 1: 1, 2: 1}


@pytest.mark.parametrize("weight", [0, -1])
def test_a_weight_below_one_is_refused(weight: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Rotation([[1, weight]])


@given(weights=WEIGHTS, cycles=st.integers(1, 3))
def test_everyone_gets_exactly_its_share_in_each_cycle_and_never_much_more_before(
    weights: list[int], cycles: int
) -> None:
    rotation, total = Rotation([weights]), sum(weights)
    turns: Counter[int] = Counter()
    for count in range(1, cycles * total + 1):
        turns[rotation.order(anyone)[0]] += 1
        for place, weight in enumerate(weights):
            assert abs(turns[place] - count * weight / total) <= (1 if len(weights) <= 4 else 1.2)
        if count % total == 0:
            assert [turns[place] * total / count for place in range(len(weights))] == weights


@settings(max_examples=60)
@given(tiers=st.lists(WEIGHTS, max_size=3), data=st.data())
def test_whoever_may_be_asked_the_order_is_theirs_tier_by_tier_and_no_debt_grows(
    tiers: list[list[int]], data: st.DataObject
) -> None:
    rotation = Rotation(tiers)
    tier_of = [number for number, tier in enumerate(tiers) for _ in tier]
    present = st.sets(st.sampled_from(range(len(tier_of)))) if tier_of else st.just(set[int]())
    for members in data.draw(st.lists(present, max_size=20)):
        order = rotation.order(members.__contains__)
        assert set(order) == members
        assert len(order) == len(members)
        assert [tier_of[place] for place in order] == sorted(tier_of[place] for place in order)
        for places, weights in zip(rotation.tiers, tiers, strict=True):
            credit = [rotation.credit[place] for place in places]
            assert sum(credit) == 0
            assert all(abs(each) <= len(weights) * sum(weights) for each in credit)

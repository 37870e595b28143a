"""Tests of the soak's checks: the faults that they must find, and correct histories."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.soak.growth import Sample, trends
from tests.soak.history import MINUTE_MS, History, behind, matches, missing

TOPIC = "ohlcv.BTC.1m"
HELLO = {"type": "hello", "epoch": "e"}


def subscribed(count: int = 0, resumed: bool = False, reason: str | None = "no_cursor") -> dict[str, Any]:
    return {"type": "subscribed", "resumed": resumed, "reason": None if resumed else reason, "count": count}


def synced(number: int) -> dict[str, Any]:
    return {"type": "synced", "id": f"e-{number}"}


def closed(number: int, minute: int, state: str = "closed") -> dict[str, Any]:
    data = {"open_time": minute * MINUTE_MS, "closed": True, "state": state}
    return {"type": "update", "topic": TOPIC, "id": f"e-{number}", "data": data}


def price(number: int, topic: str = "price.BTC") -> dict[str, Any]:
    return {"type": "update", "topic": topic, "id": f"e-{number}", "data": {"price": 1.0}}


def gap(topic: str = TOPIC) -> dict[str, Any]:
    return {"type": "gap", "topic": topic, "reason": "evicted"}


def history_of(
    *visits: Sequence[dict[str, Any]], name: str = "one", topics: tuple[str, ...] = (TOPIC, "price.*")
) -> History:
    """Return the history of a client that received these messages, one list for each connection."""
    history = History(name, topics)
    for number, visit in enumerate(visits):
        if number:
            history.end()
        history.begin()
        for message in visit:
            history.take(message)
    return history


BEGIN = [HELLO, subscribed(1), closed(1, 1), synced(1)]
RESUMED = [HELLO, subscribed(1, resumed=True)]


def test_a_correct_history_has_no_findings() -> None:
    evicted = [HELLO, subscribed(1, reason="evicted"), gap(), closed(20, 9), synced(20), closed(21, 10)]
    whole = history_of(
        [*BEGIN, price(2), closed(3, 2)], [*RESUMED, closed(4, 3), synced(4)], evicted, [HELLO, subscribed(0, True)]
    )
    assert whole.findings == []
    assert whole.spans == [(1, 4), (20, 21)]


@pytest.mark.parametrize(
    ("messages", "finding_words"),
    [
        ([*BEGIN, closed(3, 3)], "without a gap"),
        ([*BEGIN, closed(3, 1)], "closed after"),
        ([*BEGIN, price(2), price(2)], "came after number"),
        ([*BEGIN, price(2, "price.x.y")], "without a subscription"),
        ([HELLO, subscribed(2), closed(1, 1), synced(1)], "did not come before synced"),
        ([{"type": "hello", "epoch": "f"}, subscribed(), price(3)], "in epoch"),
        ([*BEGIN, {"type": "error", "code": "bad_json"}], "was refused"),
        ([HELLO, subscribed(0, reason="epoch"), synced(3)], "without a cursor"),
    ],
)
def test_each_wrong_message_is_found(messages: list[dict[str, Any]], finding_words: str) -> None:
    (finding,) = history_of(messages).findings
    assert finding_words in finding


@pytest.mark.parametrize(
    ("again", "finding_words"),
    [
        ([*RESUMED, closed(3, 3), synced(3)], "without a gap"),
        ([*RESUMED, closed(1, 1), synced(2)], "sent again after a resume"),
        ([HELLO, subscribed(1, reason="bad_cursor"), closed(1, 1), synced(3)], "was not resumed"),
        ([HELLO, subscribed(1, reason="evicted"), closed(7, 7), synced(7)], "without a gap"),
    ],
)
def test_each_wrong_message_after_a_reconnect_is_found(again: list[dict[str, Any]], finding_words: str) -> None:
    (finding,) = history_of([*BEGIN, price(2)], again).findings
    assert finding_words in finding


def test_a_snapshot_cut_off_before_its_gap_excuses_only_the_first_hole() -> None:
    broken = [HELLO, subscribed(3, reason="evicted")]
    history = history_of(BEGIN, broken, [*RESUMED, closed(9, 9), synced(9), closed(11, 11)])
    assert len(history.findings) == 1, "the lost gap may explain the first hole, not the second"
    assert history.spans == [(1, 1), (9, 11)]


def test_a_client_that_missed_a_log_event_is_named() -> None:
    one = history_of([*BEGIN, closed(3, 2), closed(5, 3)])
    other = history_of([*BEGIN, closed(5, 3)], name="other")
    later = history_of([HELLO, subscribed(), synced(4), closed(5, 3)], name="later")
    assert missing([one, other, later]) == [f"other: {TOPIC}: never received [3] (1 in all)"]


def test_a_client_with_an_old_value_at_the_end_is_named_unless_it_has_left() -> None:
    ahead, late, left = history_of([*BEGIN, price(2), price(9)]), history_of([*BEGIN, price(2)]), history_of([*BEGIN])
    left.end()
    late.name = "late"
    assert behind([ahead, late, left], 9) == ["late: price.BTC: has 2, the newest is 9"]
    assert behind([ahead, late, left], 8) == []


@pytest.mark.parametrize(
    ("selector", "topic", "meant"),
    [
        (">", "price.BTC", True),
        ("price.*", "price.BTC", True),
        ("price.*", "price", False),
        ("ohlcv.BTC.>", "ohlcv.BTC.1m", True),
        ("ohlcv.BTC.>", "ohlcv.BTC", False),
        ("ohlcv.*.1m", "ohlcv.ETH.5m", False),
        ("news", "news", True),
    ],
)
def test_patterns_match_as_the_protocol_says(selector: str, topic: str, meant: bool) -> None:
    assert matches([selector], topic) is meant


FLAT = Sample(0.0, 80_000_000, 60, 50, 11, 30, 90, 5, 0.0)


def test_a_leak_is_growth_and_a_fluctuation_is_not() -> None:
    fluctuating = [
        replace(FLAT, at_s=5.0 * number, tasks=60 + number % 40, rss_bytes=80_000_000 + number % 7 * 300_000)
        for number in range(200)
    ]
    assert [trend.bound.reading for trend in trends(fluctuating) if trend.grows] == []
    leaking = [
        replace(each, tasks=each.tasks + number // 20, rss_bytes=each.rss_bytes + number * 50_000)
        for number, each in enumerate(fluctuating)
    ]
    assert [trend.bound.reading for trend in trends(leaking) if trend.grows] == ["rss_bytes", "tasks"]

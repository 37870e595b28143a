"""Open times, also of weeks and months."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.intervals import DAY_MS, INTERVALS, MINUTE_MS, STEP_MS, count_between, next_open
from tests.fakes import binance_market


def ms(year: int, month: int, day: int = 1) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp() * 1000)


def test_a_minute_and_a_month_differ_by_case_alone() -> None:
    assert (STEP_MS["1m"], STEP_MS["1M"]) == (MINUTE_MS, 30 * DAY_MS)
    assert INTERVALS[0] == "1m"
    assert INTERVALS[-2:] == ("1w", "1M")


@pytest.mark.parametrize(
    ("opened", "following"),
    [
        (ms(2026, 1), ms(2026, 2)),
        (ms(2026, 2), ms(2026, 3)),
        (ms(2024, 2), ms(2024, 3)),
        (ms(2026, 12), ms(2027, 1)),
        (ms(2028, 2), ms(2028, 3)),
    ],
)
def test_months_have_their_own_lengths(opened: int, following: int) -> None:
    assert next_open(opened, "1M") == following


def test_a_week_opens_on_monday_and_so_does_the_next() -> None:
    monday = ms(2026, 11, 16)
    assert datetime.fromtimestamp(next_open(monday, "1w") / 1000, UTC) == datetime(2026, 11, 23, tzinfo=UTC)
    assert datetime.fromtimestamp(next_open(monday, "1w") / 1000, UTC).weekday() == 0


@given(interval=st.sampled_from(INTERVALS), at=st.datetimes(datetime(2017, 8, 17), datetime(2040, 1, 1)))
def test_the_next_open_is_that_of_the_exchange(interval: str, at: datetime) -> None:
    at_ms = int(at.replace(tzinfo=UTC).timestamp() * 1000)
    opened = binance_market.open_of(interval, at_ms)
    assert next_open(opened, interval) == binance_market.next_open(interval, opened)


@given(
    interval=st.sampled_from(INTERVALS),
    at=st.datetimes(datetime(2017, 8, 17), datetime(2030, 1, 1)),
    count=st.integers(0, 200),
)
def test_the_count_between_two_opens_is_never_short(interval: str, at: datetime, count: int) -> None:
    start = binance_market.open_of(interval, int(at.replace(tzinfo=UTC).timestamp() * 1000))
    end = start
    for _ in range(count):
        end = next_open(end, interval)
    told = count_between(start, end, interval)
    assert told >= count
    if interval != "1M":
        assert told == count
        assert count_between(start, end + 1, interval) == count + 1
    else:
        assert told <= count * 1.02 + 2


def test_nothing_lies_between_a_time_and_an_earlier_one() -> None:
    now = ms(2026, 11, 22)
    assert count_between(now, now, "1m") == 0
    assert count_between(now, now - int(timedelta(hours=1).total_seconds() * 1000), "1M") == 0

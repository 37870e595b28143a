"""Longer candles are made of whole runs of shorter ones, and of nothing else."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.derive import asked_for, derive, regular
from feeds.intervals import DAY_MS, HOUR_MS, MINUTE_MS, STEP_MS
from feeds.model import Candle
from feeds.queries import CandleQuery

MIDNIGHT_MS = 1_795_305_600_000
PAIRS = [("30m", "1h"), ("30m", "2h"), ("4h", "8h"), ("4h", "12h"), ("4h", "1d"), ("1m", "1d")]


def candle(open_time: int, interval: str = "30m", **changes: object) -> Candle:
    """A closed candle from 10 to 11, up to 12 and down to 9."""
    end = open_time + STEP_MS[interval] - 1
    made = Candle("BTCUSD", interval, open_time, end, 10.0, 12.0, 9.0, 11.0, 1.5, 15.0, 3, True, end)
    return replace(made, **changes)  # type: ignore[arg-type]


def test_an_hour_is_made_of_its_two_halves() -> None:
    first = candle(MIDNIGHT_MS, open=10.0, high=12.0, low=9.0, close=11.0)
    second = candle(MIDNIGHT_MS + 30 * MINUTE_MS, open=11.0, high=15.0, low=10.5, close=14.0)
    assert derive([second, first], "30m", "1h") == [
        Candle(
            "BTCUSD", "1h", MIDNIGHT_MS, MIDNIGHT_MS + HOUR_MS - 1, 10.0, 15.0, 9.0, 14.0,
            3.0, 30.0, 6, True, MIDNIGHT_MS + HOUR_MS - 1, "30m",
        )
    ]  # fmt: skip


def test_an_hour_of_which_a_half_is_missing_forming_or_of_another_grid_is_not_made() -> None:
    first, second = candle(MIDNIGHT_MS), candle(MIDNIGHT_MS + 30 * MINUTE_MS)
    for other in (None, replace(second, closed=False), replace(second, interval="15m"),
                  replace(second, open_time=second.open_time + MINUTE_MS)):  # fmt: skip
        assert derive([first, *([other] if other else [])], "30m", "1h") == []


def test_halves_of_two_hours_make_no_hour() -> None:
    assert derive([candle(MIDNIGHT_MS + 30 * MINUTE_MS), candle(MIDNIGHT_MS + HOUR_MS)], "30m", "1h") == []


def test_what_one_part_does_not_know_the_whole_does_not_know() -> None:
    first, second = candle(MIDNIGHT_MS), candle(MIDNIGHT_MS + 30 * MINUTE_MS)
    (whole,) = derive([first, replace(second, volume=None, quote_volume=None, trades=None)], "30m", "1h")
    assert (whole.volume, whole.quote_volume, whole.trades) == (None, None, None)


@pytest.mark.parametrize(
    ("finer", "longer"),
    [("30m", "30m"), ("1h", "30m"), ("4h", "6h"), ("4h", "3d"), ("1d", "1w"), ("1d", "1M"), ("30m", "1M")],
)
def test_only_whole_multiples_within_a_day_can_be_made(finer: str, longer: str) -> None:
    with pytest.raises(ValueError, match="cannot be made"):
        derive([], finer, longer)


@settings(max_examples=120)
@given(data=st.data())
def test_each_derived_candle_tells_what_its_parts_tell_and_none_lacks_a_part(data: st.DataObject) -> None:
    finer, longer = data.draw(st.sampled_from(PAIRS[:5]))
    step, whole = STEP_MS[finer], STEP_MS[longer]
    offsets = data.draw(st.sets(st.integers(0, 60), max_size=61))
    start = MIDNIGHT_MS - data.draw(st.integers(0, 50)) * step
    prices = st.floats(1e-9, 1e9)
    parts = []
    for offset in data.draw(st.permutations(sorted(offsets))):
        first, last = data.draw(prices), data.draw(prices)
        low, high = min(first, last) / 1.01, max(first, last) * 1.01
        volume = data.draw(st.none() | st.floats(0, 1e12))
        parts.append(candle(start + offset * step, finer, open=first, close=last, low=low, high=high, volume=volume))
    by_open = {part.open_time: part for part in parts}
    made = derive(parts, finer, longer)
    assert [each.open_time for each in made] == sorted({each.open_time for each in made})
    for each in made:
        assert each.open_time % whole == 0
        inside = [by_open[each.open_time + index * step] for index in range(whole // step)]
        assert (each.open, each.close) == (inside[0].open, inside[-1].close)
        assert (each.high, each.low) == (max(p.high for p in inside), min(p.low for p in inside))
        known = [part.volume for part in inside if part.volume is not None]
        assert each.volume == (math.fsum(known) if len(known) == len(inside) else None)
        assert (each.interval, each.derived_from, each.closed) == (longer, finer, True)
        assert each.close_time == inside[-1].close_time
    complete = {
        open_time - open_time % whole
        for open_time in by_open
        if all(open_time - open_time % whole + index * step in by_open for index in range(whole // step))
    }
    assert {each.open_time for each in made} == complete


def test_the_grid_of_an_interval_is_recognised() -> None:
    assert regular([MIDNIGHT_MS, MIDNIGHT_MS + HOUR_MS], "1h")
    assert regular([MIDNIGHT_MS, MIDNIGHT_MS + HOUR_MS, MIDNIGHT_MS + 5 * HOUR_MS], "1h"), "holes are no other grid"
    assert not regular([MIDNIGHT_MS, MIDNIGHT_MS + 4 * HOUR_MS], "1h"), "four hours apart is another interval"
    assert not regular([MIDNIGHT_MS, MIDNIGHT_MS + 30 * MINUTE_MS], "1h")
    assert not regular([MIDNIGHT_MS], "1h"), "one alone proves nothing"
    assert not regular([], "1h")


def test_weeks_begin_on_mondays() -> None:
    monday = MIDNIGHT_MS - 6 * DAY_MS  # 2026-11-22 is a Sunday
    assert regular([monday - 7 * DAY_MS, monday], "1w")
    assert not regular([MIDNIGHT_MS - 7 * DAY_MS, MIDNIGHT_MS], "1w")


def test_a_query_gets_the_newest_or_with_a_start_the_oldest_from_there() -> None:
    candles = [candle(MIDNIGHT_MS + index * HOUR_MS, "1h") for index in range(10)]

    def opens(**query: int) -> list[int]:
        found = asked_for(candles, CandleQuery("BTC", "BTCUSDT", "1h", **query))
        return [(each.open_time - MIDNIGHT_MS) // HOUR_MS for each in found]

    assert opens(limit=3) == [7, 8, 9]
    assert opens(limit=3, start=MIDNIGHT_MS + 2 * HOUR_MS) == [2, 3, 4]
    assert opens(limit=3, end=MIDNIGHT_MS + 2 * HOUR_MS) == [0, 1, 2]
    assert opens(limit=9, start=MIDNIGHT_MS + 1, end=MIDNIGHT_MS + 2 * HOUR_MS) == [1, 2]

"""How long we wait before trying again."""

import os
import random
import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.retry import MAX_RETRY_AFTER_S, Backoff, http_date_ms, retry_after_s

NOW_MS = 1_795_305_600_000
DATE = formatdate(NOW_MS / 1000, usegmt=True)


def date_in(seconds: float) -> str:
    return formatdate(NOW_MS / 1000 + seconds, usegmt=True)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("99999999", MAX_RETRY_AFTER_S),
        ("9" * 400, MAX_RETRY_AFTER_S),
        ("-5", None),
        ("1.5", None),
        ("٧", None),
        ("soon", None),
        ("", None),
        ("7, 9", None),
        (date_in(90), 90.0),
        (date_in(-90), 0.0),
        (date_in(10**8), MAX_RETRY_AFTER_S),
        ("Sun, 99 Nov 2026 08:00:00 GMT", None),
        ("Sun, 22 Nov 99999999999999999999 08:00:00 GMT", None),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 0.0),
        ("Sun, 22 Nov 2026 00:01:30 +0000", 90.0),
        ("Sunday, 22-Nov-26 00:01:30 GMT", 90.0),
        ("Sun Nov 22 00:01:30 2026", 90.0),
        ("2026-11-22T00:01:30Z", None),
        ("inf", None),
        ("1e3", None),
        ("0x10", None),
        ("7 s", None),
    ],
)
def test_retry_after_is_read_in_both_forms_and_nonsense_is_none(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, DATE, NOW_MS) == seconds


@pytest.mark.parametrize("skew_ms", [-3_600_000, 0, 300_000])
def test_a_date_is_counted_from_the_answers_own_date_whatever_our_clock_says(skew_ms: int) -> None:
    assert retry_after_s(date_in(45), DATE, NOW_MS + skew_ms) == 45.0


@pytest.mark.parametrize("date", [None, "", "yesterday"])
def test_without_a_readable_date_our_own_clock_counts(date: str | None) -> None:
    assert retry_after_s(date_in(45), date, NOW_MS + 15_000) == 30.0


@given(value=st.one_of(st.none(), st.text()), date=st.one_of(st.none(), st.text()))
def test_no_header_makes_it_fail_or_wait_forever(value: str | None, date: str | None) -> None:
    wait_s = retry_after_s(value, date, NOW_MS)
    assert wait_s is None or 0 <= wait_s <= MAX_RETRY_AFTER_S


@given(seconds=st.integers(0, 10**400))
def test_seconds_are_kept_to_the_letter_and_nonsense_is_clamped(seconds: int) -> None:
    assert retry_after_s(str(seconds), DATE, NOW_MS) == min(seconds, MAX_RETRY_AFTER_S)
    assert seconds == 0 or retry_after_s(f"-{seconds}", DATE, NOW_MS) is None


@given(ahead_s=st.integers(-(10**9), 10**9), skew_ms=st.integers(-(10**8), 10**8))
def test_a_date_means_the_time_between_the_two_dates_of_the_answer(ahead_s: int, skew_ms: int) -> None:
    wait_s = retry_after_s(date_in(ahead_s), DATE, NOW_MS + skew_ms)
    assert wait_s == min(max(0, ahead_s), MAX_RETRY_AFTER_S)


@given(data=st.data(), both=st.booleans())
def test_a_damaged_date_is_never_an_error(data: st.DataObject, both: bool) -> None:
    place = data.draw(st.integers(0, len(DATE)))
    damaged = DATE[:place] + data.draw(st.text(max_size=6)) + DATE[place + data.draw(st.integers(0, 9)) :]
    wait_s = retry_after_s(damaged, damaged if both else DATE, NOW_MS)
    assert wait_s is None or 0 <= wait_s <= MAX_RETRY_AFTER_S


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="no time zones to set here")
def test_a_date_without_a_zone_is_utc_wherever_we_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert http_date_ms("Sun, 22 Nov 2026 00:00:00") == NOW_MS
        assert http_date_ms("Sun, 22 Nov 2026 00:00:00 -0000") == NOW_MS
    finally:
        monkeypatch.undo()
        time.tzset()


@given(seed=st.integers(), first_s=st.floats(0.01, 10), growth=st.integers(0, 12))
def test_delays_double_up_to_the_cap_and_keep_at_least_half(seed: int, first_s: float, growth: int) -> None:
    cap_s = first_s * 2**growth
    backoff = Backoff(first_s, cap_s, random.Random(seed))
    for attempt in range(growth + 5):
        whole_s = min(cap_s, first_s * 2**attempt)
        assert whole_s / 2 <= backoff.next_delay_s() <= whole_s
    assert backoff.attempts == growth + 5


def test_a_reset_begins_again_with_the_shortest_delay() -> None:
    backoff = Backoff(1.0, 60.0, random.Random(1))
    for _ in range(5):
        backoff.next_delay_s()
    backoff.reset()
    assert backoff.next_delay_s() <= 1.0
    assert backoff.next_delay_s() <= 2.0


def test_it_keeps_answering_after_thousands_of_failures() -> None:
    backoff = Backoff(1.0, 60.0, random.Random(1))
    assert all(backoff.next_delay_s() <= 60.0 for _ in range(5000))


def test_two_clients_with_the_same_history_do_not_come_back_together() -> None:
    first = Backoff(1.0, 60.0, random.Random(1))
    second = Backoff(1.0, 60.0, random.Random(2))
    assert [first.next_delay_s() for _ in range(5)] != [second.next_delay_s() for _ in range(5)]

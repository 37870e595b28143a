"""A restart does not give again what was used of an allowance of a day."""

from pathlib import Path

import pytest

from orchestrator.limiter import Allowance, Limiter, spread
from orchestrator.spending import SAVE_EVERY_S, SpendingFile
from tests.fakes.clock import ManualClock

DAY_S = 24 * 3600.0


def used(limiter: Limiter, calls: int) -> None:
    for _ in range(calls):
        assert limiter.take(urgent=True)


def restarted(folder: Path, clock: ManualClock, *allowances: Allowance) -> Limiter:
    limiter = Limiter(allowances, clock)
    SpendingFile(folder / "allowances.json", clock).restore("provider", limiter)
    return limiter


def test_the_calls_of_a_day_are_not_given_twice_and_come_back_in_their_time(tmp_path: Path) -> None:
    clock = ManualClock()
    day = Allowance(100, DAY_S)
    limiter, file = Limiter([day], clock), SpendingFile(tmp_path / "allowances.json", clock)
    used(limiter, 70)
    file.note("provider", limiter)
    clock.advance(3600.0)
    assert restarted(tmp_path, clock, day).tokens_left() == 30
    clock.advance(DAY_S)
    assert restarted(tmp_path, clock, day).tokens_left() == 100


def test_after_many_restarts_no_day_holds_more_than_it_may(tmp_path: Path) -> None:
    clock = ManualClock()
    calls = 0
    for _ in range(48):
        limiter, file = Limiter(spread(48, DAY_S), clock), SpendingFile(tmp_path / "allowances.json", clock)
        file.restore("provider", limiter)
        while limiter.take(urgent=True):
            calls += 1
            file.note("provider", limiter)
            clock.advance(SAVE_EVERY_S)
        clock.advance(900.0)
    assert clock.now() - 1000.0 < DAY_S
    assert calls <= 48


def test_a_file_is_written_once_a_minute_and_only_for_allowances_of_hours(tmp_path: Path) -> None:
    clock = ManualClock()
    file = SpendingFile(tmp_path / "allowances.json", clock)
    short = Limiter([Allowance(100, 60.0)], clock)
    used(short, 5)
    file.note("short", short)
    assert not (tmp_path / "allowances.json").exists()
    long = Limiter([Allowance(100, DAY_S)], clock)
    used(long, 1)
    file.note("provider", long)
    used(long, 9)
    file.note("provider", long)
    assert restarted(tmp_path, clock, Allowance(100, DAY_S)).tokens_left() == 99
    clock.advance(SAVE_EVERY_S)
    file.note("provider", long)
    assert restarted(tmp_path, clock, Allowance(100, DAY_S)).tokens_left() == 90


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"nonsense", b'{"provider": 5}', b'{"provider": [[1]]}', b'{"provider": [["a", 1]]}',
     b'{"provider": [[-1, 1]]}', b'{"provider": [[9999999999999, -5]]}', b'{"other": [[9999999999999, 5]]}'],
)  # fmt: skip
def test_a_file_that_we_have_not_written_takes_nothing(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "allowances.json").write_bytes(text)
    assert restarted(tmp_path, ManualClock(), Allowance(100, DAY_S)).tokens_left() == 100


def test_a_clock_that_was_set_back_holds_nothing_for_longer_than_the_allowance(tmp_path: Path) -> None:
    clock = ManualClock()
    (tmp_path / "allowances.json").write_bytes(b'{"provider": [[99999999999999, 100]]}')
    limiter = restarted(tmp_path, clock, Allowance(100, DAY_S))
    assert limiter.tokens_left() == 0
    assert limiter.wait_s() <= DAY_S + 1

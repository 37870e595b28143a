"""Tests of the scores of `bench/continuity`: missing, wrong, doubled, blind, noticed and survived."""

import json
from collections.abc import Iterable

import pytest

from bench.continuity.score import (
    CANDLE_MS,
    Closed,
    Continuity,
    Price,
    Receipts,
    Tick,
    Truth,
    Window,
    back_after_s,
    continuity,
    read,
    survived,
)

BTC, ETH = "BTCUSDT", "ETHUSDT"
BEGAN = 1_795_305_600_000
WINDOW = Window(BEGAN, BEGAN + 3 * CANDLE_MS + 1)
VALUES = (1.0, 2.0, 0.5, 1.5, 10.0)
OPENS = [BEGAN + number * CANDLE_MS for number in range(3)]


def truth(pairs: Iterable[str] = (BTC,), down: Iterable[int] = ()) -> Truth:
    """Return three candles, and a tick of two trades a second for ten seconds."""
    ticks = [Tick(BEGAN + second * 1000, 2 * second, 2 * second + 1) for second in range(10)]
    candles = {(pair, open_time): VALUES for pair in pairs for open_time in OPENS}
    return Truth(candles, dict.fromkeys(pairs, ticks), frozenset(down))


def closed_at(open_time: int, values: tuple[float, ...] = VALUES, *, corrected: bool = False) -> Closed:
    return Closed(open_time + CANDLE_MS + 40, BTC, open_time, values, corrected)


def every_second(pair: str = BTC, seconds: Iterable[int] = range(10)) -> list[Price]:
    return [Price(BEGAN + second * 1000 + 30, pair, BEGAN + second * 1000) for second in seconds]


def score(candles: Iterable[Closed] = (), prices: Iterable[Price] = (), down: Iterable[int] = ()) -> Continuity:
    return continuity(truth(down=down), Receipts(list(prices), list(candles)), WINDOW)


# --- candles ---


def test_a_client_that_gets_every_candle_once_misses_nothing() -> None:
    found = score(map(closed_at, OPENS), every_second())
    assert (found.candles, found.missing, found.wrong, found.doubled) == (3, 0, 0, 0)
    assert (found.doubled_prices, found.blind_s) == (0, 0)
    assert found.late_s == 0.04


def test_a_candle_never_reported_as_closed_is_missing() -> None:
    assert score([closed_at(OPENS[0])]).missing == 2


def test_a_candle_counts_in_the_window_in_which_it_ends() -> None:
    window = Window(OPENS[0] + 1, OPENS[2])  # up to, but not at, the end of the second
    found = continuity(truth(), Receipts([], [closed_at(OPENS[0])]), window)
    assert (found.candles, found.missing) == (1, 0)


def test_values_that_differ_from_the_exchange_are_wrong() -> None:
    assert score([closed_at(OPENS[0], (1.0, 2.0, 0.5, 1.5, 9.0))]).wrong == 1


def test_a_candle_closed_twice_is_doubled_even_with_the_same_values() -> None:
    assert score([closed_at(OPENS[0]), closed_at(OPENS[0]), closed_at(OPENS[1])]).doubled == 1


def test_an_explicit_correction_is_neither_doubled_nor_wrong() -> None:
    found = score([closed_at(OPENS[0], (1.0, 2.0, 0.5, 1.5, 9.0)), closed_at(OPENS[0], corrected=True)])
    assert (found.doubled, found.wrong) == (0, 0)


def test_candles_before_and_after_the_tape_do_not_count() -> None:
    before, after = closed_at(BEGAN - 2 * CANDLE_MS), closed_at(BEGAN + 9 * CANDLE_MS)
    found = score([before, before, after, *map(closed_at, OPENS)])
    assert (found.candles, found.missing, found.doubled) == (3, 0, 0)


def test_the_slowest_candle_is_measured_from_its_end_to_its_first_report() -> None:
    late = Closed(OPENS[1] + CANDLE_MS + 7_000, BTC, OPENS[1], VALUES)
    again = Closed(OPENS[1] + CANDLE_MS + 90_000, BTC, OPENS[1], VALUES)
    assert score([closed_at(OPENS[0]), late, again]).late_s == 7.0


# --- prices ---


def test_a_price_received_twice_is_doubled() -> None:
    assert score(prices=[*every_second(), *every_second(seconds=[4])]).doubled_prices == 1


def test_seconds_without_a_price_are_blind_after_the_grace_time() -> None:
    silent_from_2_to_8 = every_second(seconds=[0, 1, 8, 9])
    assert score(prices=silent_from_2_to_8).blind_s == 4, "those of the seconds 2 to 5; the price at 8 is soon for 6"


def test_a_client_that_receives_nothing_is_blind_all_the_time() -> None:
    assert score().blind_s == 10


def test_no_client_is_blind_while_the_exchange_is_down() -> None:
    assert score(down=[BEGAN + second * 1000 for second in range(10)]).blind_s == 0


def test_blindness_is_the_mean_of_the_markets() -> None:
    found = continuity(truth([BTC, ETH]), Receipts(every_second(BTC), []), WINDOW)
    assert found.blind_s == 5


def test_a_market_that_did_not_trade_is_not_missed() -> None:
    quiet = Truth({}, {BTC: [Tick(BEGAN, 0, 1)]}, frozenset())
    assert continuity(quiet, Receipts(every_second(seconds=[0]), []), WINDOW).blind_s == 0


# --- rotations ---

ROTATIONS = [Window(BEGAN, BEGAN + 5000), Window(BEGAN + 5000, BEGAN + 10_000)]


def test_a_rotation_is_survived_if_every_price_arrives_once() -> None:
    assert survived(truth(), Receipts(every_second(), []), ROTATIONS, by_trade=False) == 2


@pytest.mark.parametrize("seconds", [[0, 1, 2, 3, 4, 5, 6, 8, 9], [0, 1, 2, 3, 4, 5, 6, 7, 7, 8, 9]])
def test_a_lost_or_doubled_price_fails_only_its_rotation(seconds: list[int]) -> None:
    assert survived(truth(), Receipts(every_second(seconds=seconds), []), ROTATIONS, by_trade=False) == 1


def test_each_trade_counts() -> None:
    trades = [Price(BEGAN, BTC, number) for number in range(20)]
    assert survived(truth(), Receipts(trades, []), ROTATIONS, by_trade=True) == 2
    assert survived(truth(), Receipts(trades[:-1], []), ROTATIONS, by_trade=True) == 1


def test_a_candle_that_ends_in_a_rotation_must_arrive_once() -> None:
    rotation = [Window(OPENS[1] - 1000, OPENS[1] + 1000)]
    it = Truth({(BTC, OPENS[0]): VALUES}, {BTC: []}, frozenset())
    for times, expected in ((0, 0), (1, 1), (2, 0)):
        receipts = Receipts([], [closed_at(OPENS[0])] * times)
        assert survived(it, receipts, rotation, by_trade=False) == expected


# --- stalls ---


def test_a_stall_ends_with_the_first_event_after_it() -> None:
    late = Price(BEGAN + 4_600, BTC, BEGAN + 2_000)
    news = Price(BEGAN + 7_100, BTC, BEGAN + 7_000)
    for prices, expected in (([late], None), ([late, news], 4.1)):
        receipts = Receipts(prices, [])
        assert back_after_s(truth().ticks, receipts, BEGAN + 3_000, BEGAN + 2_000, by_trade=False) == expected


def test_for_trades_it_is_over_with_the_first_trade_after_it() -> None:
    for trade, expected in ((5, None), (6, 1.5)):
        receipts = Receipts([Price(BEGAN + 4_500, BTC, trade)], [])
        assert back_after_s(truth().ticks, receipts, BEGAN + 3_000, BEGAN + 2_000, by_trade=True) == expected


# --- reading ---


def test_receipts_are_read_as_they_were_written() -> None:
    rows = [
        ["price", BEGAN, BTC, 7],
        ["closed", BEGAN, BTC, OPENS[0], list(VALUES)],
        ["corrected", BEGAN, BTC, OPENS[0], list(VALUES)],
        ["note", BEGAN, "connection lost"],
    ]
    receipts = read(json.dumps(row) + "\n" for row in rows)
    assert receipts.prices == [Price(BEGAN, BTC, 7)]
    assert [each.corrected for each in receipts.candles] == [False, True]
    assert receipts.candles[0].values == VALUES
    assert receipts.notes == ["connection lost"]


def test_a_line_that_was_being_written_is_left_out() -> None:
    assert read(['["price", 1, "BTCUSDT", 7]\n', '["price", 2, "BTCU']).prices == [Price(1, BTC, 7)]


def test_something_that_is_no_receipt_is_said() -> None:
    with pytest.raises(ValueError, match="no receipt"):
        read(['["surprise", 1]\n'])

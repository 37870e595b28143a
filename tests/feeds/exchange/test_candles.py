"""An unbroken candle series, whatever order, loss, repetition or lateness the exchange's words meet on their way."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.exchange.candles import CandleSeries, CandleState, Gap, Outcome, Published
from feeds.intervals import next_open
from feeds.model import Candle
from tests.feeding import candle

MINUTE = 60_000
START = 1_795_305_600_000


def at(number: int) -> int:
    return START + number * MINUTE


def closed(number: int, close: float = 10.0) -> Candle:
    return candle(at(number), close=close, trades=9)


def forming(number: int, trades: int = 5, close: float = 10.0) -> Candle:
    return candle(at(number), closed=False, close=close, trades=trades, ts=at(number) + trades * 1000)


def rows(*numbers: int) -> list[Candle]:
    """An answer of the exchange, its last row just begun; nothing in it says which candles are closed."""
    return [replace(closed(number), closed=False, trades=9 if number < numbers[-1] else 1) for number in numbers]


def shown(outcomes: Iterable[Outcome]) -> list[str]:
    """Outcomes in short: `closed 3`, `live 4`, `gap 5-7`."""
    words = []
    for outcome in outcomes:
        match outcome:
            case Published(said, state):
                words.append(f"{state} {(said.open_time - START) // MINUTE}")
            case Gap(start, end):
                words.append(f"gap {(start - START) // MINUTE}-{(end - START) // MINUTE}")
    return words


def kept(series: CandleSeries) -> list[int]:
    return [(each.open_time - START) // MINUTE for each in series.closed]


def begun(*numbers: int) -> CandleSeries:
    """A series whose history are these candles; the last number is forming."""
    series = CandleSeries("1m")
    series.backfill(rows(*numbers), None)
    return series


# --- step by step ---


def test_the_first_answer_is_history_and_only_its_last_closed_candle_is_said() -> None:
    series = CandleSeries("1m")
    assert shown(series.backfill(rows(0, 1, 2, 3), None)) == ["closed 2", "live 3"]
    assert kept(series) == [0, 1, 2]
    assert series.expected() == at(3)


def test_a_candle_forms_closes_and_makes_room_for_the_next() -> None:
    series = begun(0, 1)
    assert shown(series.apply(forming(1, trades=6))) == ["live 1"]
    assert shown(series.apply(closed(1))) == ["closed 1"]
    assert shown(series.apply(forming(2))) == ["live 2"]
    assert series.closed[-1].closed


def test_a_closed_candle_is_said_once_however_often_it_comes() -> None:
    series = begun(0, 1)
    assert shown(series.apply(closed(1))) == ["closed 1"]
    assert series.apply(closed(1)) == []
    assert shown(series.backfill(rows(0, 1, 2), at(0))) == ["live 2"]


def test_what_closes_before_the_first_answer_waits_for_it_and_is_then_said_in_order() -> None:
    series = CandleSeries("1m")
    assert shown(series.apply(forming(2))) == ["live 2"]
    assert series.apply(closed(2)) == []
    assert series.apply(closed(3)) == []
    assert shown(series.apply(forming(4))) == ["live 4"]

    answer = series.backfill(rows(0, 1, 2, 3, 4), None)
    assert shown(answer) == ["closed 2", "closed 3", "live 4"]
    assert kept(series) == [0, 1, 2, 3]


def test_an_update_that_was_overtaken_does_not_turn_the_candle_back() -> None:
    series = begun(0, 1)
    series.apply(forming(1, trades=8, close=12.0))
    assert series.apply(forming(1, trades=7, close=11.0)) == []
    assert series.apply(forming(0, trades=5)) == []
    assert series.apply(replace(forming(1, trades=7), ts=at(1) + 50_000)) == [], "fewer trades, whatever the stamp"
    assert series.live is not None
    assert series.live.close == 12.0


def test_an_update_that_says_nothing_new_is_not_said() -> None:
    series = begun(0, 1)
    series.apply(forming(1, trades=8))
    assert series.apply(replace(forming(1, trades=8), ts=at(1) + 9_000)) == []


def test_a_straggler_of_a_closed_candle_is_silent() -> None:
    series = begun(0, 1)
    series.apply(closed(1))
    assert series.apply(forming(1, trades=8)) == []


def test_a_hole_holds_back_what_closes_after_it_until_it_is_filled() -> None:
    series = begun(0, 1)
    assert shown(series.apply(forming(4))) == ["live 4"]
    assert series.missing_from() == at(1)
    assert series.apply(closed(3)) == []

    answer = series.backfill(rows(1, 2, 3, 4), at(1))
    assert shown(answer) == ["closed 1", "closed 2", "closed 3", "live 4"]
    assert series.missing_from() is None


def test_a_hole_that_closes_by_itself_needs_no_answer() -> None:
    series = begun(0, 1)
    assert series.apply(closed(2)) == []
    assert shown(series.apply(closed(1))) == ["closed 1", "closed 2"]


def test_a_hole_that_the_exchange_has_too_becomes_one_gap() -> None:
    series = begun(0, 1)
    assert series.apply(closed(4)) == []
    assert shown(series.backfill(rows(4, 5), at(1))) == ["gap 1-4", "closed 4", "live 5"]
    assert series.missing_from() is None
    assert shown(series.backfill(rows(4, 5), at(1))) == []


def test_a_hole_that_nobody_has_looked_into_is_not_called_a_gap() -> None:
    series = begun(0, 1)
    series.apply(closed(4))
    assert series.backfill(rows(6, 7), at(6)) == [
        Published(replace(rows(7)[0]), CandleState.LIVE)
    ], "this question began behind the hole"  # fmt: skip
    assert series.missing_from() == at(1)


def test_a_candle_that_turns_up_where_a_gap_was_said_is_a_correction() -> None:
    series = begun(0, 1)
    series.apply(closed(4))
    series.backfill(rows(4, 5), at(1))
    assert shown(series.apply(closed(2))) == ["corrected 2", "live 5"]
    assert kept(series) == [0, 2, 4]


def test_a_closed_candle_that_comes_again_with_other_values_is_a_correction() -> None:
    series = begun(0, 1, 2, 3)
    said = series.apply(closed(1, close=12.0))
    assert shown(said) == ["corrected 1", "live 3"], "a snapshot shows what was said last: the forming candle"
    assert series.closed[1].close == 12.0
    assert series.apply(closed(1, close=12.0)) == []


def test_an_answer_corrects_what_it_tells_otherwise() -> None:
    series = begun(0, 1, 2, 3)
    changed = rows(0, 1, 2, 3)
    changed[1] = replace(closed(1, close=12.0), closed=False)
    assert shown(series.backfill(changed, at(0))) == ["corrected 1", "live 3"]


def test_the_last_row_of_a_late_answer_corrects_nothing() -> None:
    series = begun(0, 1)
    late = [closed(0), replace(forming(1, trades=2), volume=0.1)]
    series.apply(closed(1))
    series.apply(forming(2))
    assert series.backfill(late, at(0)) == [], "it was asked while candle 1 was forming"
    assert series.closed[-1] == closed(1)

    waiting = CandleSeries("1m")
    waiting.apply(closed(1))
    waiting.apply(forming(2))
    waiting.backfill(late, None)
    assert waiting.closed[-1] == closed(1)


def test_a_last_row_whose_time_is_well_over_is_closed_and_nothing_is_made_up_after_it() -> None:
    series = begun(0, 1)
    quiet = [replace(closed(1), closed=False, trades=0, volume=0.0)]
    assert shown(series.backfill(quiet, at(1), at(2) + 500)) == [], (
        "the servers that answer may be behind those that trade"
    )
    assert shown(series.backfill(quiet, at(1), at(2) + 2000)) == ["closed 1"]
    assert series.live is None
    assert series.expected() == at(2)
    assert shown(series.apply(forming(2))) == ["live 2"]


def test_an_answer_that_could_not_be_read_as_a_whole_tells_of_no_hole() -> None:
    series = begun(0, 1)
    series.apply(closed(3))
    torn = rows(1, 3, 4)
    assert shown(series.backfill(torn, at(1), whole=False)) == ["closed 1", "live 4"]
    assert series.missing_from() == at(2)
    assert series.gaps == []
    assert shown(series.backfill(rows(2, 3, 4), at(2))) == ["closed 2", "closed 3", "live 4"]


def test_what_can_never_be_read_is_missing_in_the_end() -> None:
    series = begun(0, 1)
    series.apply(closed(3))
    shown_so_far = [shown(series.backfill(rows(1, 3, 4), at(1), whole=False)) for _ in range(3)]
    assert shown_so_far == [["closed 1", "live 4"], [], ["gap 2-3", "closed 3", "live 4"]]


def test_no_series_begins_with_an_answer_that_could_not_be_read_as_a_whole() -> None:
    series = CandleSeries("1m")
    assert series.backfill(rows(0, 2, 3), None, whole=False) == []
    assert series.backfill([], None, whole=False) == []
    assert not series.begun
    assert shown(series.backfill(rows(0, 1, 2, 3), None)) == ["closed 2", "live 3"]


def test_what_is_found_of_a_gap_is_a_correction_and_the_rest_stays_missing() -> None:
    series = begun(0, 1)
    series.apply(closed(6))
    series.backfill(rows(6, 7), at(1))
    assert series.gaps == [Gap(at(1), at(6))]
    assert shown(series.backfill([replace(closed(3), closed=False)], at(1), at(8))) == ["corrected 3", "live 7"]
    assert series.gaps == [Gap(at(1), at(3)), Gap(at(4), at(6))]
    late = [replace(closed(number), closed=False) for number in (1, 2)]
    assert shown(series.backfill(late, at(1), at(8))) == ["corrected 1", "corrected 2", "live 7"]
    assert series.gaps == [Gap(at(4), at(6))]
    assert kept(series) == [0, 1, 2, 3, 6]


def test_a_gap_is_forgotten_with_the_candles_about_it() -> None:
    series = CandleSeries("1m", keep=10)
    series.backfill(rows(0, 1), None)
    series.apply(closed(3))
    series.backfill(rows(3, 4), at(1))
    assert series.gaps == [Gap(at(1), at(3))]
    for number in range(4, 150):
        series.apply(closed(number))
    assert series.gaps == []


def test_older_than_all_we_keep_is_no_correction() -> None:
    series = begun(5, 6, 7)
    assert series.apply(closed(2)) == []
    assert kept(series) == [5, 6]


def test_without_history_what_the_stream_closes_is_said_all_the_same() -> None:
    series = CandleSeries("1m")
    series.apply(forming(4))
    assert series.backfill([], None) == []
    assert shown(series.apply(closed(4))) == ["closed 4"]
    assert not series.reached_back


def test_history_that_arrives_late_joins_what_was_said_meanwhile() -> None:
    series = CandleSeries("1m")
    series.backfill([], None)
    series.apply(closed(4))
    series.apply(forming(5))
    assert shown(series.backfill(rows(2, 3, 4, 5), None)) == []
    assert kept(series) == [2, 3, 4]
    assert series.reached_back


def test_no_more_is_kept_than_it_was_given_room_for() -> None:
    series = CandleSeries("1m", keep=10)
    series.backfill(rows(*range(30)), None)
    assert len(series.closed) <= 11
    for number in range(29, 400):
        series.apply(closed(number))
    assert len(series.closed) <= 110
    assert kept(series)[-10:] == list(range(390, 400))


def utc_ms(year: int, month: int, day: int) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("interval", "first", "second", "third"),
    [
        ("1M", utc_ms(2026, 1, 1), utc_ms(2026, 2, 1), utc_ms(2026, 3, 1)),
        ("1w", utc_ms(2026, 11, 9), utc_ms(2026, 11, 16), utc_ms(2026, 11, 23)),
    ],
)
def test_months_and_weeks_follow_each_other_without_a_hole(interval: str, first: int, second: int, third: int) -> None:
    series = CandleSeries(interval)
    series.backfill([candle(each, interval=interval, closed=False) for each in (first, second)], None)
    said = series.apply(candle(second, interval=interval))
    assert [type(each) for each in said] == [Published]
    series.apply(candle(third, interval=interval, closed=False))
    assert series.expected() == third
    assert series.missing_from() is None


# --- any interleaving ---

STAGES = 3
"""Updates of a forming candle before it closes."""


@dataclass(frozen=True, slots=True)
class Market:
    """What truly happened: candles 0..count-1 closed, candle `count` is forming; some the exchange never made."""

    count: int
    hole: range

    def numbers(self) -> list[int]:
        return [number for number in range(self.count + 1) if number not in self.hole]

    def at_stage(self, number: int, stage: int) -> Candle:
        """A candle after so many updates; after the last of them it is closed."""
        done = stage > STAGES
        return candle(
            at(number),
            closed=done,
            close=10.0 + number / 100 + stage / 1000,
            trades=stage,
            ts=at(number) + (MINUTE - 1 if done else stage * 1000),
        )

    def moments(self) -> list[tuple[int, int]]:
        """(candle, stage) in the order they happened."""
        return [
            (number, stage)
            for number in self.numbers()
            for stage in range(1, STAGES + 2)
            if number < self.count or stage <= STAGES
        ]

    def answer(self, moment: tuple[int, int], start: int | None, limit: int, forming: bool = True) -> list[Candle]:
        """What REST says at a moment: its last row is the candle of that moment, as far as it has come.

        Without `forming` that row is not there yet.
        """
        number, stage = moment
        past = [self.at_stage(each, STAGES + 1) for each in self.numbers() if each < number]
        found = [replace(each, closed=False) for each in (*past, *([self.at_stage(number, stage)] if forming else []))]
        if start is None:
            return found
        return [each for each in found if each.open_time >= start][:limit]

    def time(self, moment: tuple[int, int]) -> int:
        """When that moment was."""
        number, stage = moment
        return at(number) + stage * 1000


@dataclass(frozen=True, slots=True)
class Question:
    """A backfill: asked, answered and delivered at three points of the stream."""

    asked: int
    answered: int
    delivered: int
    forming: bool


@st.composite
def stories(draw: st.DrawFn, shuffled: bool) -> tuple[Market, list[tuple[int, int]], list[Question]]:
    """A market, the moments in the order the stream delivers them, and backfills among them."""
    count = draw(st.integers(2, 7))
    hole_at = draw(st.integers(1, count))
    hole = range(hole_at, min(count, hole_at + draw(st.integers(0, 3))))
    market = Market(count, hole)
    moments = market.moments()
    order: list[tuple[float, tuple[int, int]]] = []
    for place, moment in enumerate(moments):
        copies = range(draw(st.sampled_from((1, 1, 1, 0, 2))))
        order += [(place + (draw(st.floats(0, 12)) if shuffled else 0.0), moment) for _ in copies]
    heard = [moment for _, moment in sorted(order, key=lambda each: each[0])]
    points = st.tuples(*[st.integers(0, len(moments) - 1)] * 3).map(sorted)
    asked = draw(st.lists(st.tuples(points, st.booleans()), max_size=4))
    questions = [Question(at[0], at[1], at[2], forming) for at, forming in asked]
    return market, heard, questions


def ask(series: CandleSeries) -> int | None:
    """Where the feed would begin its question."""
    return series.expected() if series.reached_back else None


def play(
    series: CandleSeries,
    market: Market,
    heard: Sequence[tuple[int, int]],
    questions: Sequence[Question],
    meanwhile: Callable[[int], list[Outcome]] = lambda _: [],
) -> list[Outcome]:
    """Everything the series says: during the story, and until it has been mended at its end."""
    said: list[Outcome] = []
    moments = market.moments()
    starts: dict[int, int | None] = {}
    for place in range(len(moments) + 1):
        said += meanwhile(place)
        for number, question in enumerate(questions):
            if question.asked == place:
                starts[number] = ask(series)
            if question.delivered == place:
                moment = moments[question.answered]
                told_rows = market.answer(moment, starts[number], 3, question.forming)
                if told_rows:
                    said += series.backfill(told_rows, starts[number], market.time(moment))
        if place < len(heard):
            said += series.apply(market.at_stage(*heard[place]))
    for moment in heard[len(moments) + 1 :]:
        said += series.apply(market.at_stage(*moment))
    for _ in range(market.count + 3):
        start = ask(series)
        said += series.backfill(market.answer(moments[-1], start, limit=3), start, market.time(moments[-1]))
    return said


def check(series: CandleSeries, market: Market, said: Sequence[Outcome]) -> list[int]:
    """What holds of every story; returns the numbers of the candles said closed."""
    truth = [market.at_stage(number, STAGES + 1) for number in market.numbers() if number < market.count]
    assert [each.open_time for each in series.closed] == [each.open_time for each in truth], "kept: all, in order, once"
    assert all(mine.same_values(true) for mine, true in zip(series.closed, truth, strict=True))
    assert not any(isinstance(each, Published) and each.state is CandleState.CORRECTED for each in said), (
        "nothing was ever wrong"
    )
    assert series.missing_from() is None

    newest_closed: int | None = None
    newest_live = (0, 0)
    numbers: list[int] = []
    for outcome in said:
        match outcome:
            case Gap(start, end):
                assert (start, end) == (at(market.hole.start), at(market.hole.stop))
                assert newest_closed is None or next_open(newest_closed, "1m") == start
                newest_closed = end - MINUTE
            case Published(each, CandleState.CLOSED):
                assert each.closed
                assert newest_closed is None or each.open_time == next_open(newest_closed, "1m"), "no hole, no double"
                newest_closed = each.open_time
                numbers.append((each.open_time - START) // MINUTE)
            case Published(each, CandleState.LIVE):
                assert newest_closed is None or each.open_time > newest_closed
                now_live = (each.open_time, each.trades or 0)
                assert now_live >= newest_live, "the forming candle never goes back"
                newest_live = now_live
    return numbers


@settings(max_examples=400)
@given(story=stories(shuffled=True))
def test_any_order_loss_and_repetition_gives_the_same_closed_series_each_said_once(
    story: tuple[Market, list[tuple[int, int]], list[Question]],
) -> None:
    market, heard, questions = story
    series = CandleSeries("1m")
    said = play(series, market, heard, questions)
    numbers = check(series, market, said)
    seen_live = {
        (each.candle.open_time - START) // MINUTE
        for each in said
        if isinstance(each, Published) and each.state is CandleState.LIVE
    }
    assert seen_live <= {*numbers, market.count}, "a client that saw a candle forming gets its closed state"
    assert numbers[-1] == market.numbers()[-2]


@settings(max_examples=200)
@given(story=stories(shuffled=False), without_history=st.integers(0, 12))
def test_the_same_holds_when_rest_is_dead_at_first(
    story: tuple[Market, list[tuple[int, int]], list[Question]], without_history: int
) -> None:
    market, heard, questions = story
    series = CandleSeries("1m")
    said = play(
        series, market, heard, questions, lambda place: series.backfill([], None) if place == without_history else []
    )
    check(series, market, said)


def test_a_candle_that_a_late_first_answer_shows_forming_is_fetched_and_not_passed_over() -> None:
    market = Market(count=2, hole=range(1, 1))
    series = CandleSeries("1m")
    late = market.answer((0, 1), None, limit=3)
    assert len(late) == 1
    series.apply(market.at_stage(1, 1))
    series.backfill(late, None)
    assert series.missing_from() == late[0].open_time

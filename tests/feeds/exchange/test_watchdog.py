"""Which streams are dead, by the hands of a clock: what is suspicious, what is evidence, and what is neither."""

import pytest

from feeds.exchange.watchdog import LONGEST_CADENCE_S, Watchdog

A, B, ALL = "a@kline_1m", "a@kline_1h", "!all"
START_MS = 1_795_305_600_000


class Case:
    """Two candle streams of one market and the tickers of all, each sending at its own pace until a test changes it."""

    def __init__(self) -> None:
        self.dog = Watchdog()
        self.now = 0.0
        self.trades = 0
        self.speaking = {A, B, ALL}
        for stream in (A, B):
            self.dog.follow(stream, "a", 2.0, LONGEST_CADENCE_S, self.now)
        self.dog.follow(ALL, "", 1.0, 15.0, self.now)

    @property
    def ms(self) -> int:
        return START_MS + round(self.now * 1000)

    def second(self, traded: bool = True) -> None:
        """One second in which the market trades, and the streams that are alive send it."""
        self.now += 1.0
        self.trades += traded
        if ALL in self.speaking:
            self.dog.heard(ALL, (self.ms,), self.ms, self.now)
            self.dog.ticked("a", float(self.trades), 1.0, self.ms, self.now)
        for stream in (A, B):
            if stream in self.speaking and self.now % 2 == 0 and traded:
                self.dog.heard(stream, (0, self.trades, 0), self.ms, self.now)

    def seconds(self, count: int, traded: bool = True) -> None:
        for _ in range(count):
            self.second(traded)

    def until_dead(self, stream: str) -> float:
        """How long after now it is found dead."""
        began = self.now
        while stream not in self.dog.dead(self.now):
            assert self.now - began < 60
            self.second()
        return self.now - began


def test_all_is_well_while_all_speak() -> None:
    case = Case()
    for _ in range(100):
        case.second()
        assert case.dog.dead(case.now) == []
        assert case.dog.suspects(case.now) == []


def test_a_stream_is_convicted_by_another_of_its_market_within_three_cadences() -> None:
    case = Case()
    case.seconds(20)
    case.speaking.remove(A)
    assert case.until_dead(A) <= 6.0
    assert case.dog.dead(case.now) == [A]


def test_candles_are_evidence_for_each_other_where_tickers_are_silent() -> None:
    case = Case()
    case.seconds(20)
    case.speaking = {B}
    began = case.now
    while A not in case.dog.dead(case.now):
        case.seconds(2)
        case.dog.traded("a", case.ms, case.now)
        assert case.now - began <= 8.0


def test_a_market_that_rests_makes_suspects_and_never_a_dead_stream() -> None:
    case = Case()
    case.seconds(20)
    asked: list[float] = []
    for _ in range(600):
        case.second(traded=False)
        assert case.dog.dead(case.now) == []
        for stream in case.dog.suspects(case.now):
            asked.append(case.now)
            case.dog.quiet(stream, case.now)
    assert len(asked) <= 12, "ever more seldom, and one stream for all of its market"
    case.seconds(4)
    assert case.dog.dead(case.now) == []


def test_statistics_that_change_without_a_trade_are_no_evidence() -> None:
    case = Case()
    case.seconds(4)
    for second in range(60):
        case.now += 1.0
        case.dog.ticked("a", float(case.trades), 1.0 - second / 100, case.ms, case.now)
    assert case.dog.dead(case.now) == []


def test_what_is_told_a_little_later_is_not_owed() -> None:
    case = Case()
    case.seconds(4)
    for _ in range(50):
        case.seconds(10, traded=False)
        case.trades += 1
        case.second(traded=False)
        case.second()
        assert case.dog.dead(case.now) == []


@pytest.mark.parametrize("repeated", [(0, 4, 0), (0, 3, 0)])
def test_a_frame_that_tells_nothing_new_is_silence(repeated: tuple[int, ...]) -> None:
    case = Case()
    case.seconds(4)
    case.speaking.remove(A)
    began = case.now
    while A not in case.dog.dead(case.now):
        assert case.now - began <= 6.0
        case.second()
        assert not case.dog.heard(A, repeated, case.ms, case.now)


def test_the_answer_to_a_question_convicts_after_a_short_grace() -> None:
    case = Case()
    case.seconds(20)
    case.speaking = set()
    began = case.now
    while not (late := case.dog.suspects(case.now)):
        case.now += 0.25
    assert late == [ALL], "it speaks most often"
    case.dog.missed(ALL, case.now)
    while not case.dog.dead(case.now):
        case.now += 0.25
    assert case.now - began <= 3.0
    case.speaking = {ALL}
    case.second()
    assert case.dog.dead(case.now) == [], "it speaks again"


def test_a_slow_stream_is_given_its_own_time_and_learns_no_patience_from_one_stall() -> None:
    case = Case()
    case.speaking = {A}
    for number in range(10):
        case.now += 40.0
        case.dog.heard(A, (0, number + 1, 0), case.ms, case.now)
    assert 30.0 <= case.dog.streams[A].cadence_s <= 41.0
    case.now += 55.0
    assert A not in case.dog.suspects(case.now)
    case.now += 6.0
    assert case.dog.suspects(case.now) != []

    quick = Case()
    quick.seconds(20)
    quick.now += 100.0
    quick.second()
    quick.second()
    assert quick.dog.streams[A].cadence_s <= 4.0


def test_after_a_cure_there_is_time_and_each_time_more() -> None:
    case = Case()
    case.seconds(20)
    case.speaking.remove(A)
    took_s = []
    for _ in range(3):
        took_s.append(case.until_dead(A))
        assert case.dog.streams[A].renewed == (len(took_s) > 1)
        case.dog.treated(A, case.now)
        case.dog.follow(A, "a", 2.0, LONGEST_CADENCE_S, case.now)
    assert took_s == sorted(took_s)
    case.speaking.add(A)
    case.seconds(4)
    assert not case.dog.streams[A].renewed


def test_a_dead_stream_is_not_expected_to_speak_until_it_has() -> None:
    case = Case()
    case.seconds(10)
    case.speaking.remove(A)
    case.until_dead(A)
    case.dog.treated(A, case.now)
    assert not case.dog.is_lively(A, 10.0, case.now), "nobody should wait for it"

    case.speaking.add(A)
    case.seconds(4)
    assert case.dog.is_lively(A, 10.0, case.now)


def test_what_was_missed_before_a_subscription_is_not_owed() -> None:
    case = Case()
    case.dog.may_know(A, (0, 10, 0))
    assert case.dog.known(A) == (0, 10, 0)
    case.dog.may_know(A, (0, 20, 0))
    assert case.dog.known(A) == (0, 10, 0), "the first answer is the line"
    case.dog.follow(A, "a", 2.0, LONGEST_CADENCE_S, case.now)
    assert case.dog.known(A) is None


def test_what_is_not_followed_is_neither_suspect_nor_dead() -> None:
    case = Case()
    case.seconds(10)
    for stream in (A, B, ALL):
        case.dog.forget(stream)
        case.dog.forget(stream)
    case.now += 100
    assert case.dog.suspects(case.now) == case.dog.dead(case.now) == []
    assert case.dog.heard(A, (1, 1, 1), case.ms, case.now)
    for call in (case.dog.missed, case.dog.quiet, case.dog.unsure, case.dog.treated):
        call(A, case.now)
    assert case.dog.known(A) is None
    assert case.dog.silent_s(A, case.now) == 0.0
    assert not case.dog.is_lively(A, 5.0, case.now)
    assert case.dog.of_subject == {}

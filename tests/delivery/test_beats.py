"""Tests of the beats: when the values of a throttled group may go out, and how few timers that takes."""

import pytest

from stream_server.delivery.beats import DEAD_KEPT, Beats
from stream_server.delivery.groups import Groups
from stream_server.delivery.throttling import ThrottledGroup
from stream_server.wire.messages import Wire
from tests.fakes.clock import ManualClock


class Rig:
    """Beats on a clock that the test turns, and the turns that they give."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.turns: list[tuple[float, ThrottledGroup]] = []
        self.beats = Beats(self.clock, self.clock, self._give_turn)
        self.groups = Groups(self.beats.expect)
        self.names = 0

    def _give_turn(self, group: ThrottledGroup) -> None:
        self.turns.append((self.clock.now(), group))

    def group(self, *intervals_ms: int) -> ThrottledGroup:
        """Return a new group with these intervals."""
        selection = {}
        for interval_ms in intervals_ms:
            self.names += 1
            selection[f"price.{self.names}"] = interval_ms
        group = self.groups.of(Wire.WEBSOCKET, selection, self.clock.now())
        assert isinstance(group, ThrottledGroup)
        return group


def test_a_beat_makes_its_interval_ripe_within_one_interval_and_gives_one_turn() -> None:
    rig = Rig()
    group = rig.group(1000)
    for _ in range(3):
        rig.beats.expect(group, 1000)
    assert len(rig.beats) == 1
    rig.clock.advance(1.0)
    assert [each for _, each in rig.turns] == [group]
    assert group.ripe == {1000}
    assert len(rig.beats) == 0


def test_beats_of_one_interval_are_a_whole_number_of_intervals_apart() -> None:
    rig = Rig()
    group = rig.group(300)
    for wait_s in (0.0, 0.05, 0.7, 0.31):
        rig.clock.advance(wait_s)
        rig.beats.expect(group, 300)
        rig.clock.advance(0.3)
    first = rig.turns[0][0]
    assert len(rig.turns) == 4
    for at, _ in rig.turns:
        assert (at - first) / 0.3 == pytest.approx(round((at - first) / 0.3), abs=1e-6)


def test_the_intervals_of_a_group_beat_apart() -> None:
    rig = Rig()
    group = rig.group(100, 1000)
    rig.beats.expect(group, 1000)
    rig.beats.expect(group, 100)
    rig.clock.advance(0.1)
    assert group.ripe == {100}
    rig.clock.advance(0.9)
    assert group.ripe == {100, 1000}


def test_a_timer_that_fires_early_lets_nothing_out() -> None:
    rig = Rig()
    group = rig.group(1000)
    rig.beats.expect(group, 1000)
    due = rig.beats.heap[0].due
    rig.clock.seconds = due - 0.001
    rig.beats.wake(rig.beats.wakeups[0])
    assert (rig.turns, len(rig.beats)) == ([], 1)
    rig.clock.advance(0.002)
    assert [group for _, group in rig.turns] == [group]


def test_a_beat_that_is_asked_for_again_at_the_time_it_was_due_is_the_next_one() -> None:
    rig = Rig()
    group = rig.group(1000)
    rig.beats.expect(group, 1000)
    rig.clock.seconds = rig.beats.heap[0].due - 1e-7  # as the same time, but for rounding
    rig.beats.take_due()
    rig.beats.expect(group, 1000)
    rig.clock.advance(0.5)
    assert len(rig.turns) == 1


def test_a_group_that_is_gone_has_no_beat_and_is_kept_nowhere() -> None:
    rig = Rig()
    gone, other = rig.group(1000), rig.group(1000)
    for group in (gone, other):
        rig.beats.expect(group, 1000)
    rig.beats.discard(gone)
    assert len(rig.beats) == 1
    assert gone not in rig.beats.to_come
    assert all(beat.group is not gone for beat in rig.beats.heap)
    rig.clock.advance(1.0)
    assert [group for _, group in rig.turns] == [other]
    rig.beats.discard(gone)


def test_dead_beats_do_not_fill_the_heap() -> None:
    rig = Rig()
    for _ in range(1000):
        group = rig.group(3_600_000)
        rig.beats.expect(group, 3_600_000)
        rig.beats.discard(group)
    assert len(rig.beats) == 0
    assert len(rig.beats.heap) <= DEAD_KEPT + 1


def test_many_beats_share_few_timers() -> None:
    rig = Rig()
    for number in range(100):
        rig.beats.expect(rig.group(60_000 + number), 60_000 + number)
    assert len(rig.clock.calls) <= 2
    rig.clock.advance(61.0)
    assert len(rig.turns) == 100
    assert len(rig.clock.calls) <= 2

"""Tests of groups: which clients share one, what it listens to, and when it beats."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.model import Event
from stream_server.delivery.beats import next_beat, time_of
from stream_server.delivery.bursts import Burst
from stream_server.delivery.group import Group
from stream_server.delivery.groups import Groups
from stream_server.delivery.outbox import Outbox
from stream_server.delivery.throttling import PHASES, ThrottledGroup, phase
from stream_server.wire import messages
from stream_server.wire.messages import Frame, Wire
from tests.fakes.pipe import FakePipe


def frame(seq: int, topic: str) -> Frame:
    return messages.update(Event(topic, 1, 1, "binance", {}), f"e-{seq}", seq)


class Expected(Groups):
    """Groups that remember which beats they wait for."""

    def __init__(self) -> None:
        self.beats: list[tuple[Group, int]] = []
        super().__init__(lambda group, interval_ms: self.beats.append((group, interval_ms)))


def group_of(groups: Groups, selection: dict[str, int], now: float = 1000.0, wire: Wire = Wire.WEBSOCKET) -> Group:
    return groups.of(wire, selection, now)


def test_the_same_selection_in_any_order_is_the_same_group() -> None:
    groups = Expected()
    assert group_of(groups, {"price.A": 0, "news": 0}) is group_of(groups, {"news": 0, "price.A": 0})


@pytest.mark.parametrize(
    ("selection", "wire"),
    [({"price.A": 100}, Wire.WEBSOCKET), ({"price.B": 0}, Wire.WEBSOCKET), ({"price.A": 0}, Wire.SSE)],
)
def test_another_interval_selection_or_wire_is_another_group(selection: dict[str, int], wire: Wire) -> None:
    groups = Expected()
    assert group_of(groups, {"price.A": 0}) is not group_of(groups, selection, wire=wire)


def test_a_group_listens_to_what_it_names_and_to_what_its_patterns_match_now_and_later() -> None:
    groups = Expected()
    groups.topic_appeared("price.A")
    group = group_of(groups, {"price.*": 500, "price.A": 0, "ohlcv.X.1m": 0})
    assert group.listens == {"price.A": 0, "ohlcv.X.1m": 0}
    groups.topic_appeared("price.B")
    groups.topic_appeared("news")
    group.learn()
    assert group.listens == {"price.A": 0, "ohlcv.X.1m": 0, "price.B": 500}
    assert [groups.is_listened(topic) for topic in ("price.B", "price.A", "news")] == [True, True, False]


def test_a_topic_without_an_event_is_listened_to_by_its_name_or_by_a_pattern() -> None:
    groups = Expected()
    group_of(groups, {"price.*": 0})
    group_of(groups, {"news": 0})
    assert groups.is_listened("price.A")
    assert groups.is_listened("news")
    assert not groups.is_listened("market")


def test_an_empty_group_is_forgotten_and_one_with_members_is_not() -> None:
    groups = Expected()
    group = group_of(groups, {"price.A": 0, "price.*": 0})
    group.members[Outbox(FakePipe(), Wire.WEBSOCKET)] = None
    groups.dissolve_if_empty(group)
    assert groups.by_key
    group.members.clear()
    groups.dissolve_if_empty(group)
    groups.dissolve_if_empty(group)
    assert not groups.by_key
    assert not any(groups.listeners.values())


def throttled(groups: Groups, selection: dict[str, int]) -> ThrottledGroup:
    group = group_of(groups, selection)
    assert isinstance(group, ThrottledGroup)
    return group


def test_the_newest_value_of_a_topic_waits_and_the_first_to_wait_asks_for_the_beat() -> None:
    groups = Expected()
    group = throttled(groups, {"price.*": 500})
    for number, name in enumerate(("price.A", "price.B", "price.A"), 1):
        group.hold(frame(number, name), 500)
    assert groups.beats == [(group, 500)]
    group.release(500)
    assert [each.seq for each in group.pending] == [2, 3]
    group.hold(frame(4, "price.A"), 500)
    assert groups.beats == [(group, 500)] * 2


def test_only_the_values_of_one_interval_are_released_at_its_beat_and_all_before_a_log_event() -> None:
    group = throttled(Expected(), {"price.A": 500, "price.B": 100})
    group.hold(frame(1, "price.A"), 500)
    group.hold(frame(2, "price.B"), 100)
    group.release(100)
    assert [each.seq for each in group.pending] == [2]
    group.hold(frame(3, "price.B"), 100)
    group.release()
    assert [each.seq for each in group.pending] == [2, 1, 3]
    assert group.held == {}


@pytest.mark.parametrize(("selection", "overtaken"), [({"price.*": 500}, False), ({"price.A": 500, "news": 0}, True)])
def test_a_held_value_may_be_overtaken_only_where_intervals_differ(selection: dict[str, int], overtaken: bool) -> None:
    group, held = throttled(Expected(), selection), frame(1, "price.A")
    group.hold(held, 500)
    assert held.overtaken is overtaken


times = st.floats(3600, 1e6, allow_nan=False)
intervals = st.integers(1, 3_600_000)


@given(now=times, interval_ms=intervals, its_phase=st.integers(0, PHASES - 1))
def test_the_next_beat_is_after_now_and_within_one_interval(now: float, interval_ms: int, its_phase: int) -> None:
    wait_s = time_of(next_beat(now, interval_ms, its_phase), interval_ms, its_phase) - now
    assert -1e-6 <= wait_s <= interval_ms / 1000 + 1e-6


@given(now=times, interval_ms=st.integers(100, 3_600_000))
def test_a_newcomer_waits_nearly_an_interval_for_its_first_beat(now: float, interval_ms: int) -> None:
    joined = phase(now, interval_ms)
    wait_s = time_of(next_beat(now, interval_ms, joined), interval_ms, joined) - now
    assert wait_s >= interval_ms / 1000 * (PHASES - 1) / PHASES - 1e-6


# --- bursts ---

NAMES = [f"price.T{number}" for number in range(12)]


def burst_of(groups: Groups, names: list[str], first: int = 0) -> Burst:
    burst = Burst(first, groups.numbers)
    for seq, name in enumerate(names, first + 1):
        groups.topic_appeared(name)
        burst.add(name, frame(seq, name))
    return burst


@settings(max_examples=200)
@given(
    selection=st.sets(st.sampled_from(NAMES), min_size=1),
    said=st.lists(st.sampled_from(NAMES), max_size=40),
    place=st.integers(0, 45),
)
def test_a_group_picks_what_it_listens_to_from_its_place_on_in_order(
    selection: set[str], said: list[str], place: int
) -> None:
    groups = Expected()
    burst = burst_of(groups, said)
    group = groups.of(Wire.WEBSOCKET, dict.fromkeys(sorted(selection), 0), 1000.0, place)
    joined = group.joined(burst)
    if joined is not None:
        group.place = place
    group.pick(burst)
    assert [each.seq for each in group.pending] == [
        seq for seq, name in enumerate(said, 1) if seq > place and name in selection
    ]
    assert joined is None or joined == (Wire.WEBSOCKET.payload(group.pending), len(group.pending))
    group.pick(burst)
    assert len(group.gather()) == len(set(range(place, len(said))) & {i for i, n in enumerate(said) if n in selection})


@pytest.mark.parametrize("said", [NAMES, NAMES[3:9], NAMES[::3]])
def test_what_a_group_wants_of_topics_in_their_usual_order_is_taken_from_a_table(said: list[str]) -> None:
    groups = Expected()
    burst_of(groups, NAMES)
    group = group_of(groups, dict.fromkeys(NAMES[1:9:2], 0))
    burst = burst_of(groups, said)
    wanted = burst.wanted(group.listens, 0)
    assert wanted
    assert group.joined(burst) == (Wire.WEBSOCKET.payload(wanted), len(wanted))


def test_a_topic_that_gets_the_number_of_a_forgotten_one_reaches_the_groups_that_name_it() -> None:
    groups = Expected()
    burst_of(groups, ["price.OLD", *NAMES])
    patterned, exact = group_of(groups, {"price.*": 0}), group_of(groups, {"news": 0, "price.T1": 0, "price.T2": 0})
    assert exact.joined(burst_of(groups, NAMES)) is not None
    groups.dissolve_if_empty(patterned)
    groups.topic_vanished("price.OLD")
    burst = burst_of(groups, ["news", *NAMES])
    exact.place = 0
    assert groups.numbers.size == len(NAMES) + 1
    assert exact.joined(burst) == (Wire.WEBSOCKET.payload([burst.frames[each] for each in (0, 2, 3)]), 3)


def test_a_topic_that_appears_while_a_burst_is_written_is_nothing_in_it() -> None:
    groups = Expected()
    group, other = group_of(groups, {"price.*": 0}), group_of(groups, {"price.T0": 0, "price.NEW": 0})
    burst = burst_of(groups, NAMES)
    assert group.joined(burst) is not None
    groups.topic_appeared("price.NEW")
    group.place = 0
    assert group.joined(burst) == (Wire.WEBSOCKET.payload(burst.frames), len(NAMES))
    assert other.joined(burst) == (Wire.WEBSOCKET.payload(burst.frames[:1]), 1)


@pytest.mark.parametrize("selections", [1, 30])
def test_only_groups_that_listen_are_asked_unless_that_would_cost_more_than_asking_all(selections: int) -> None:
    groups = Expected()
    wanting = [group_of(groups, {"price.T0": 0, f"price.X{number}": 0}) for number in range(selections)]
    idle = [group_of(groups, {f"news.{number}": 0}) for number in range(20)]
    burst = burst_of(groups, NAMES[:2])
    assert set(wanting) <= set(groups.wanting(burst)) <= {*wanting, *idle}
    assert (set(groups.wanting(burst)) == set(wanting)) is (selections < len(idle) + selections)

"""Two connections, whatever their lags and wherever each begins and ends: every event counts once, in order."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.exchange.handover import Arrival, Handover
from feeds.exchange.venue import Opened
from feeds.venues.binance.streams import ALL_MINI_TICKERS

Event = tuple[str, int, bytes]


@dataclass(frozen=True, slots=True)
class Story:
    """What a server says of some streams, and when each of two connections hears it.

    Moments are places in the sequence of events. `lags` are by how many events a connection is behind at each.
    """

    events: list[Event]
    old_lags: list[int]
    new_lags: list[int]
    subscribed: int
    ended: int


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """Streams whose event times may repeat; the new connection begins before the old one has ended."""
    events: list[Event] = []
    clock = dict.fromkeys("abc", 1000)
    for number in range(draw(st.integers(1, 40))):
        stream = draw(st.sampled_from("abc"))
        clock[stream] += draw(st.integers(0, 2))
        events.append((stream, clock[stream], b"%d" % number))
    lags = st.lists(st.integers(0, 6), min_size=len(events), max_size=len(events))
    ended = draw(st.integers(0, len(events)))
    return Story(events, draw(lags), draw(lags), draw(st.integers(0, ended)), ended)


def arrival(stream: str, event_ms: int, raw: bytes) -> Arrival:
    return Arrival(stream, event_ms, Opened(raw, 0))


def heard(events: list[Event], lags: list[int], place: int, so_far: int) -> list[Event]:
    """What a connection hears at a place: all up to its lag that it has not heard yet."""
    return events[so_far : max(so_far, place + 1 - lags[place])]


@settings(max_examples=400)
@given(story=stories())
def test_every_event_counts_once_and_in_order(story: Story) -> None:
    handover = Handover(ALL_MINI_TICKERS)
    counted: list[Event] = []
    old, new = 0, story.subscribed
    took_over = False
    for place in range(len(story.events)):
        if place < story.ended:
            for event in heard(story.events, story.old_lags, place, old):
                old += 1
                if handover.is_new(*event):
                    counted.append(event)
        elif not took_over:
            took_over = True
            joined = handover.joined()
            counted += [(each.stream, each.event_ms, each.frame.raw) for each in handover.release()]
        for event in heard(story.events, story.new_lags, place, new) if place >= story.subscribed else []:
            new += 1
            if not took_over:
                handover.hold(arrival(*event))
            elif handover.is_new(*event):
                counted.append(event)
    if not took_over:
        joined = handover.joined()
        counted += [(each.stream, each.event_ms, each.frame.raw) for each in handover.release()]
    counted += [event for event in story.events[new:] if handover.is_new(*event)]

    for stream in "abc":
        of_stream = [event for event in counted if event[0] == stream]
        truth = [event for event in story.events if event[0] == stream]
        assert of_stream == sorted(set(of_stream), key=truth.index), "once, and in order"
        if stream in joined or old >= story.subscribed:
            assert of_stream == truth, "nothing is missing where the two have met"


def test_a_stream_has_joined_once_the_old_connection_has_reached_the_first_word_of_the_new() -> None:
    handover = Handover(ALL_MINI_TICKERS)
    handover.is_new("a", 10, b"1")
    handover.hold(arrival("a", 12, b"3"))
    assert handover.joined() == set()
    assert handover.missing() == set()
    handover.is_new("a", 11, b"2")
    handover.is_new("a", 12, b"3")
    handover.is_new("b", 12, b"4")
    assert handover.joined() == {"a"}
    assert handover.missing() == {"b"}
    assert handover.release() == []


def test_a_third_connection_does_not_repeat_what_the_first_told_and_the_second_had_yet_to_say() -> None:
    first = Handover(ALL_MINI_TICKERS)
    for ms in (1, 2, 3):
        assert first.is_new("a", ms, b"%d" % ms)
    first.hold(arrival("a", 1, b"1"))
    assert first.release() == []
    second = Handover(ALL_MINI_TICKERS, first)
    assert not second.is_new("a", 2, b"2"), "the second connection is behind"
    for ms in (2, 3, 4):
        second.hold(arrival("a", ms, b"%d" % ms))
    assert [each.event_ms for each in second.release()] == [4]
    assert second.missing() == set()


def test_frames_of_many_rows_are_left_to_the_market_which_merges_rows() -> None:
    handover = Handover(ALL_MINI_TICKERS)
    handover.is_new(ALL_MINI_TICKERS, 10, b"[x]")
    handover.hold(arrival(ALL_MINI_TICKERS, 9, b"[y]"))
    assert [each.frame.raw for each in handover.release()] == [b"[y]"], "its rows may be of other symbols"

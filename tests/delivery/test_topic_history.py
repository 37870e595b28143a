"""Tests of the history of one topic."""

from collections import deque

from feeds.model import Event
from stream_server.delivery.topic_history import TopicHistory
from stream_server.wire import messages
from stream_server.wire.messages import Frame


def event(seq: int, *, log: bool) -> Event:
    return Event("news", 1000, 2000, "rss", {"n": seq}, log)


def frame(seq: int, *, log: bool) -> Frame:
    return messages.update(event(seq, log=log), f"e-{seq}", seq)


def history_of(*frames: Frame, ring: int = 3) -> TopicHistory:
    topic = TopicHistory("news", deque(maxlen=ring))
    for each in frames:
        topic.append(each, event(each.seq, log=each.log), 0.0)
    return topic


def seqs(frames: list[Frame]) -> list[int]:
    return [each.seq for each in frames]


def test_of_state_only_the_newest_value_is_kept() -> None:
    topic = history_of(frame(1, log=False), frame(2, log=False))
    assert seqs(topic.since(0)) == [2]
    assert not topic.misses_after(0)


def test_every_log_event_after_a_position_is_replayed_in_order() -> None:
    topic = history_of(*(frame(seq, log=True) for seq in (2, 5, 7)))
    assert seqs(topic.since(0)) == [2, 5, 7]
    assert seqs(topic.since(2)) == [5, 7]
    assert topic.since(7) == []


def test_a_forming_value_follows_the_log_events_before_it() -> None:
    topic = history_of(frame(1, log=True), frame(2, log=False), frame(3, log=True), frame(4, log=False))
    assert seqs(topic.since(0)) == [1, 3, 4]


def test_a_full_ring_misses_what_it_has_let_go_and_nothing_later() -> None:
    topic = history_of(*(frame(seq, log=True) for seq in (2, 5, 7, 9)))
    assert topic.misses_after(1)
    assert not topic.misses_after(2)
    assert seqs(topic.since(2)) == [5, 7, 9]


def test_a_full_ring_misses_nothing_yet() -> None:
    topic = history_of(*(frame(seq, log=True) for seq in (2, 5, 7)))
    assert not topic.misses_after(0)


def test_an_interrupted_topic_holds_nothing_and_misses_something_after_any_position() -> None:
    topic = history_of(frame(1, log=True))
    topic.stale = True
    topic.interrupt()
    assert (topic.last, topic.event, topic.stale) == (None, None, False)
    assert topic.since(0) == []
    assert topic.misses_after(10**9)


def test_a_resumed_topic_misses_what_came_before_it_was_fed_again() -> None:
    topic = history_of(frame(1, log=True))
    topic.interrupt()
    topic.resume_at(20)
    topic.append(frame(21, log=True), event(21, log=True), 0.0)
    assert topic.misses_after(19)
    assert not topic.misses_after(20)
    assert seqs(topic.since(20)) == [21]


def test_a_topic_that_was_never_interrupted_does_not_lose_anything_by_resuming() -> None:
    topic = history_of(frame(1, log=True))
    topic.resume_at(20)
    assert not topic.misses_after(0)


def test_age_counts_from_the_value_s_own_time_or_its_receipt_whichever_is_longer_ago() -> None:
    topic = history_of()
    topic.updated_at = 10.0
    assert topic.age_ms(13.0) == 0
    topic.event = Event("news", 1000, 2000, "rss", {})
    assert (topic.age_ms(10.0), topic.age_ms(13.0)) == (1000, 4000)
    topic.event = Event("news", 3000, 2000, "rss", {})
    assert (topic.age_ms(10.0), topic.age_ms(13.0)) == (0, 3000)


def test_a_feed_that_knows_the_clock_of_its_source_gives_a_better_age_than_the_stamp() -> None:
    topic = history_of()
    topic.updated_at = 10.0
    topic.event = Event("price.BTC", 1000, 2000, "binance", {}, lag_ms=50)
    assert topic.age_ms(10.0) == 50


def test_age_is_never_negative_whatever_the_clocks_say() -> None:
    topic = history_of()
    topic.updated_at = 10.0
    topic.event = Event("news", 9000, 8000, "rss", {})
    assert (topic.age_ms(10.0), topic.age_ms(9.0)) == (0, 0)

"""Tests of resuming: the position of a client that comes back, and what it lacks."""

import pytest

from feeds.model import Event
from stream_server.delivery import resume
from stream_server.delivery.resume import Cursor
from stream_server.delivery.topic_history import TopicHistory
from stream_server.wire import messages


def history(name: str, *seqs: int, log: bool, ring: int = 5, overtaken: bool = False) -> TopicHistory:
    topic = TopicHistory.new(name, ring, None, 0)
    for seq in seqs:
        event = Event(name, 1, 1, "binance", {"seq": seq}, log)
        frame = messages.update(event, f"e1-{seq}", seq)
        if overtaken:
            frame.be_overtaken()
        topic.append(frame, event, 0.0)
    return topic


@pytest.mark.parametrize(
    ("since", "seq", "reason"),
    [
        (None, None, "no_cursor"),
        ("", None, "no_cursor"),
        ("earliest", 0, "no_cursor"),
        ("e1-7", 7, None),
        ("e1-0", 0, None),
        ("e1-8", None, "bad_cursor"),
        ("e0-7", None, "epoch"),
        ("e1-", None, "bad_cursor"),
        ("e1-7 ", None, "bad_cursor"),
        ("e1--7", None, "bad_cursor"),
        ("e1-٧", None, "bad_cursor"),
        ("7", None, "bad_cursor"),
        ("e1-" + "9" * 19, None, "bad_cursor"),
    ],
)
def test_a_cursor_is_a_position_or_the_reason_why_it_is_none(
    since: str | None, seq: int | None, reason: str | None
) -> None:
    cursor = Cursor.read(since, "e1", 7)
    assert (cursor.seq, cursor.reason) == (seq, reason)
    assert cursor.or_start == (seq or 0)


def test_a_client_lacks_each_later_log_event_and_the_newest_value() -> None:
    added = [history("news", 1, 4, 6, log=True), history("price.A", 2, 5, log=False)]
    lacking = resume.since(added, {"news": 0, "price.A": 0}, "e1", 3)
    assert [frame.seq for frame in lacking] == [4, 6, 5]
    assert resume.since(added, {"news": 0, "price.A": 0}, "e1", 6) == []


@pytest.mark.parametrize(("overtaken", "interval_ms", "ids"), [(True, 500, ["e1-8"]), (True, 0, []), (False, 500, [])])
def test_a_value_that_later_ids_may_have_overtaken_comes_under_the_client_s_own_position(
    overtaken: bool, interval_ms: int, ids: list[str]
) -> None:
    added = [history("price.A", 5, log=False, overtaken=overtaken)]
    lacking = resume.since(added, {"price.A": interval_ms}, "e1", 8)
    assert [frame.cursor for frame in lacking] == ids


def test_a_gap_is_for_each_log_topic_of_which_the_snapshot_skips_something() -> None:
    full = history("news", 1, 2, 3, log=True, ring=2)
    whole = history("ohlcv.A.1m", 4, log=True)
    state = history("price.A", 5, 6, log=False)
    cursor = Cursor.read("e1-0", "e1", 9)
    assert resume.first_after_gap([full, whole, state], [], cursor, "e1-9", -1) == {"news": "e1-3"}


@pytest.mark.parametrize(("forgotten_at", "expected"), [(4, {}), (5, {"news": "e1-9"}), (8, {"news": "e1-9"})])
def test_a_topic_that_is_unknown_may_be_a_forgotten_one_for_a_client_from_before(
    forgotten_at: int, expected: dict[str, str]
) -> None:
    cursor = Cursor.read("e1-5", "e1", 9)
    assert resume.first_after_gap([], ["news", "price.B"], cursor, "e1-9", forgotten_at) == expected


def test_without_a_position_every_log_topic_may_lack_something() -> None:
    cursor = Cursor.read("e0-5", "e1", 9)
    added = [history("ohlcv.A.1m", 4, log=True), history("price.A", 5, log=False)]
    assert resume.first_after_gap(added, ["news"], cursor, "e1-9", -1) == {"ohlcv.A.1m": "e1-4", "news": "e1-9"}

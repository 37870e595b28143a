"""Tests of the backlog: what is held for a lagging client, and in which order and portions it comes out."""

from collections import Counter

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.model import Event
from stream_server.delivery.backlog import Backlog
from stream_server.wire import messages
from stream_server.wire.messages import Frame


def frame(seq: int, topic: str, *, log: bool = False) -> Frame:
    return messages.update(Event(topic, 1, 1, "binance", {}, log), f"e-{seq}", seq)


def control(kind: str, seq: int) -> Frame:
    made = messages.control(kind, {})
    made.seq = seq
    return made


def backlog_of(*frames: Frame, in_turns: bool = False) -> Backlog:
    backlog = Backlog()
    backlog.hold(frames, in_turns=in_turns)
    return backlog


def taken(backlog: Backlog, most_bytes: int | None = None) -> list[str]:
    """Take a portion; return an update by its id and any other message by its type."""
    bodies = [orjson.loads(each.json) for each in backlog.take(most_bytes).frames]
    return [body.get("id", body["type"]) for body in bodies]


def skipped_in(frame: Frame) -> dict[str, int]:
    body: dict[str, dict[str, int]] = orjson.loads(frame.json)
    return body["skipped"]


def test_state_is_merged_to_its_newest_value_and_log_events_are_all_kept() -> None:
    backlog = backlog_of(frame(1, "price.A"), frame(2, "news", log=True), frame(3, "price.A"))
    backlog.hold([frame(4, "news", log=True), frame(5, "price.B")], in_turns=False)
    portion = backlog.take()
    assert [each.seq for each in portion.frames[:-1]] == [2, 3, 4, 5]
    assert skipped_in(portion.frames[-1]) == {"price.A": 1}
    assert portion.merged == 1


def test_taking_everything_leaves_nothing() -> None:
    backlog = backlog_of(frame(1, "price.A"), frame(2, "price.B"), frame(3, "price.A"), in_turns=True)
    assert backlog
    backlog.take()
    assert not backlog
    assert (len(backlog), backlog.bytes, backlog.skipped) == (0, 0, {})


def test_an_empty_backlog_gives_an_empty_portion() -> None:
    portion = Backlog().take()
    assert (portion.frames, portion.merged) == ([], 0)


def test_a_portion_goes_in_id_order_and_never_parts_an_answer() -> None:
    backlog = backlog_of(frame(1, "price.A"), frame(2, "news", log=True))
    backlog.hold_together([control("subscribed", 0), frame(1, "price.B"), control("synced", 0)], 3)
    backlog.hold([frame(4, "price.C")], in_turns=False)
    portions = []
    while backlog:
        portions.append(taken(backlog, 1))
    assert portions == [["e-1"], ["e-2"], ["subscribed", "e-1", "synced"], ["e-4"]]
    assert backlog.bytes == 0


def test_what_has_no_id_comes_after_the_event_it_followed() -> None:
    backlog = backlog_of(
        frame(1, "price.A"), control("stale", 1), frame(2, "price.B"), control("pos", 2), frame(3, "price.C")
    )
    assert taken(backlog) == ["e-1", "stale", "e-2", "pos", "e-3"]


def test_an_answer_stays_whole_whatever_ids_it_holds() -> None:
    backlog = backlog_of(frame(5, "price.A"))
    backlog.hold_together([control("subscribed", 0), frame(2, "price.B"), control("synced", 0)], 7)
    backlog.hold([frame(8, "price.B")], in_turns=False)
    assert taken(backlog) == ["e-5", "subscribed", "e-2", "synced", "e-8"]


def test_topics_take_turns_with_the_value_that_was_replaced_last_and_then_the_newest_go() -> None:
    names = ("price.A", "price.B", "price.C", "price.D")

    def round_of(first: int) -> list[Frame]:
        return [frame(first + number, name) for number, name in enumerate(names)]

    backlog = backlog_of(*round_of(11), *round_of(21), in_turns=True)
    two = 2 * len(frame(10, "price.A").json)
    assert taken(backlog, two) == ["e-11", "e-12"], "A and B have waited longest"
    assert taken(backlog, two) == ["e-21", "e-22"], "no newer value has come, so the newest go"
    backlog.hold(round_of(31), in_turns=True)
    assert taken(backlog, two) == ["e-23", "e-24", "conflated"], "now it is the turn of C and D"
    assert taken(backlog) == ["e-31", "e-32", "e-33", "e-34"]


def test_a_replaced_value_waits_for_a_turn_only_where_topics_take_turns() -> None:
    first, second = frame(1, "price.A"), frame(2, "price.A")
    assert len(backlog_of(first, second, in_turns=True)) == 2
    assert len(backlog_of(first, second)) == 1


def test_what_was_merged_is_counted_with_the_next_value_of_its_topic() -> None:
    backlog = backlog_of(*[frame(seq, topic) for seq, topic in enumerate(["price.A", "price.B"] * 2, 1)])
    assert skipped_in(backlog.take(1).frames[-1]) == {"price.A": 1}
    assert skipped_in(backlog.take(1).frames[-1]) == {"price.B": 1}


def test_values_of_unwanted_topics_are_dropped_and_log_events_stay() -> None:
    backlog = backlog_of(
        frame(1, "price.A"), frame(2, "price.B"), frame(3, "price.A"), frame(4, "news", log=True), in_turns=True
    )
    backlog.keep_only({"price.B"})
    assert taken(backlog) == ["e-2", "e-4"]
    assert backlog.bytes == 0


def test_the_bytes_are_those_of_what_would_be_sent() -> None:
    first, second, log = frame(1, "price.A"), frame(222, "price.A"), frame(3, "news", log=True)
    backlog = backlog_of(first)
    assert backlog.bytes == len(first.json)
    backlog.hold([second, log], in_turns=False)
    assert backlog.bytes == len(second.json) + len(log.json)
    backlog.hold_together([first], 4)
    assert backlog.bytes == len(second.json) + len(log.json) + len(first.json)
    backlog.clear()
    assert (backlog.bytes, len(backlog)) == (0, 0)


topics = st.sampled_from(("price.A", "price.B", "price.C", "price.D", "price.E", "news"))
bursts = st.lists(st.lists(topics, min_size=1, max_size=8), max_size=12)


@settings(max_examples=200)
@given(bursts=bursts, portions=st.lists(st.sampled_from((1, 200, 400, 800)), min_size=12))
def test_whatever_the_portions_ids_rise_no_log_event_is_missed_and_every_newest_value_arrives(
    bursts: list[list[str]], portions: list[int]
) -> None:
    backlog = Backlog()
    topic_of: dict[int, str] = {}
    got: list[int] = []
    merged: Counter[str] = Counter()

    def take(most_bytes: int | None) -> None:
        for each in backlog.take(most_bytes).frames:
            if each.topic:
                got.append(each.seq)
            else:
                merged.update(skipped_in(each))

    for burst, most_bytes in zip(bursts, portions, strict=False):
        for topic in burst:
            seq = len(topic_of) + 1
            topic_of[seq] = topic
            backlog.hold([frame(seq, topic, log=topic == "news")], in_turns=True)
        take(most_bytes)
        newest = {topic: seq for seq, topic in topic_of.items()}
        for topic, seq in newest.items():
            assert seq in got or seq > max(got), f"the newest value of {topic} is barred"
    take(None)
    assert got == sorted(set(got))
    assert {seq for seq, topic in topic_of.items() if topic == "news"} <= set(got)
    assert set({topic: seq for seq, topic in topic_of.items()}.values()) <= set(got)
    assert merged + Counter(topic_of[seq] for seq in got) == Counter(topic_of.values())
    assert backlog.bytes == 0

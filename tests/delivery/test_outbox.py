"""What one slow client still gets. The hub's part of it is in `test_hub.py`."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.model import Event
from stream_server.delivery.outbox import HIGH_WATER_BYTES, LEAST_PORTION_BYTES, MOST_PORTION_BYTES, Outbox
from stream_server.wire import messages
from stream_server.wire.messages import Frame, Wire
from tests.fakes.pipe import FakePipe


def frame(seq: int, topic: str, *, log: bool = False) -> Frame:
    return messages.update(Event(topic, 1, 1, "binance", {}, log), f"e-{seq}", seq)


def control(kind: str, seq: int) -> Frame:
    made = messages.control(kind, {})
    made.seq = seq
    return made


def behind() -> tuple[Outbox, FakePipe]:
    pipe = FakePipe()
    outbox = Outbox(pipe, Wire.WEBSOCKET)
    outbox.fall_behind(0.0)
    return outbox, pipe


def outline(pipe: FakePipe) -> list[object]:
    return [message.get("id", message["type"]) for message in pipe.take()]


def test_an_outbox_is_full_above_the_high_water_mark_and_not_at_it() -> None:
    pipe = FakePipe()
    outbox = Outbox(pipe, Wire.WEBSOCKET)
    pipe.clog(HIGH_WATER_BYTES)
    assert not outbox.full()
    pipe.clog(HIGH_WATER_BYTES + 1)
    assert outbox.full()


def test_state_is_merged_to_its_newest_value_and_log_events_are_all_kept() -> None:
    outbox, pipe = behind()
    outbox.hold([frame(1, "price.A"), frame(2, "news", log=True), frame(3, "price.A")])
    outbox.hold([frame(4, "news", log=True), frame(5, "price.B")])
    outbox.catch_up()
    assert pipe.messages[-1] == {"type": "conflated", "skipped": {"price.A": 1}}
    assert outline(pipe) == ["e-2", "e-3", "e-4", "e-5", "conflated"]


def test_catching_up_is_one_write_and_leaves_nothing_behind() -> None:
    outbox, pipe = behind()
    outbox.hold([frame(1, "price.A"), frame(2, "price.B"), frame(3, "price.A")])
    assert outbox.catch_up() == 1
    assert pipe.writes == 1
    assert (outbox.held, outbox.queue, outbox.skipped, outbox.held_bytes) == ({}, [], {}, 0)


def test_catching_up_with_nothing_writes_nothing() -> None:
    outbox, pipe = behind()
    assert outbox.catch_up() == 0
    assert pipe.writes == 0


def test_a_portion_goes_in_id_order_and_never_parts_an_answer() -> None:
    outbox, pipe = behind()
    outbox.hold([frame(1, "price.A"), frame(2, "news", log=True)])
    outbox.hold_in_order([control("subscribed", 0), frame(1, "price.B"), control("synced", 0)], 3)
    outbox.hold([frame(4, "price.C")])
    portions = []
    while outbox.holds_anything():
        outbox.catch_up(most_bytes=1)
        portions.append(outline(pipe))
    assert portions == [["e-1"], ["e-2"], ["subscribed", "e-1", "synced"], ["e-4"]]
    assert outbox.held_bytes == 0


def test_topics_take_turns_with_the_value_that_was_replaced_last_and_then_the_newest_go() -> None:
    outbox, pipe = behind()
    outbox.paced = True
    size = len(frame(10, "price.A").json)
    outbox.hold([frame(11, "price.A"), frame(12, "price.B"), frame(13, "price.C"), frame(14, "price.D")])
    outbox.hold([frame(21, "price.A"), frame(22, "price.B"), frame(23, "price.C"), frame(24, "price.D")])
    outbox.catch_up(most_bytes=2 * size)
    assert outline(pipe) == ["e-11", "e-12"], "A and B have waited longest"
    outbox.catch_up(most_bytes=2 * size)
    assert outline(pipe) == ["e-21", "e-22"], "nothing new has come, so the newest"
    outbox.hold([frame(31, "price.A"), frame(32, "price.B"), frame(33, "price.C"), frame(34, "price.D")])
    outbox.catch_up(most_bytes=2 * size)
    assert outline(pipe) == ["e-23", "e-24", "conflated"], "now it is the turn of C and D"
    assert outbox.catch_up() == 0
    assert outline(pipe) == ["e-31", "e-32", "e-33", "e-34"]


def test_what_was_merged_is_said_with_the_next_value_of_its_topic() -> None:
    outbox, pipe = behind()
    outbox.hold([frame(seq, topic) for seq, topic in enumerate(["price.A", "price.B"] * 2, 1)])
    outbox.catch_up(most_bytes=1)
    assert pipe.take()[-1] == {"type": "conflated", "skipped": {"price.A": 1}}
    outbox.catch_up(most_bytes=1)
    assert pipe.take()[-1] == {"type": "conflated", "skipped": {"price.B": 1}}


topics = st.sampled_from(("price.A", "price.B", "price.C", "price.D", "price.E", "news"))
bursts = st.lists(st.lists(topics, min_size=1, max_size=8), max_size=12)


@settings(max_examples=200)
@given(bursts=bursts, portions=st.lists(st.sampled_from((1, 200, 400, 800)), min_size=12))
def test_whatever_the_portions_ids_rise_no_log_event_is_missed_and_every_newest_value_arrives(
    bursts: list[list[str]], portions: list[int]
) -> None:
    outbox, pipe = behind()
    outbox.paced = True
    seq, said = 0, {}
    for burst, most_bytes in zip(bursts, portions, strict=False):
        for topic in burst:
            seq += 1
            said[f"e-{seq}"] = topic
            outbox.hold([frame(seq, topic, log=topic == "news")])
        outbox.catch_up(most_bytes)
        got = [int(str(each["id"])[2:]) for each in pipe.of_type("update")]
        for topic, newest in {said[f"e-{number}"]: number for number in range(1, seq + 1)}.items():
            assert newest in got or newest > max(got), f"the newest value of {topic} is barred"
    outbox.catch_up()
    got = [int(str(each["id"])[2:]) for each in pipe.of_type("update")]
    assert got == sorted(set(got))
    assert {number for number in range(1, seq + 1) if said[f"e-{number}"] == "news"} <= set(got)
    assert set({said[f"e-{number}"]: number for number in range(1, seq + 1)}.values()) <= set(got)
    merged: Counter[str] = Counter()
    for message in pipe.of_type("conflated"):
        assert isinstance(message["skipped"], dict)
        merged.update(message["skipped"])
    assert merged + Counter(said[f"e-{number}"] for number in got) == Counter(said.values())
    assert outbox.held_bytes == 0


def test_a_client_that_was_asked_has_no_room_until_it_answers() -> None:
    outbox, pipe = behind()
    outbox.ask(10.0)
    assert pipe.reader.pings == 1
    assert not outbox.drained(10.1)
    outbox.answered(10.2)
    assert outbox.drained(10.3)


def test_a_portion_grows_with_quick_pongs_and_is_halved_by_one_that_took_long() -> None:
    outbox, _ = behind()

    def pong_after(seconds: float) -> int:
        outbox.ask(0.0)
        outbox.answered(seconds)
        return outbox.portion_bytes

    assert [pong_after(0.01) for _ in range(3)] == [LEAST_PORTION_BYTES * size for size in (2, 3, 4)]
    assert pong_after(0.2) == 4 * LEAST_PORTION_BYTES
    assert pong_after(0.3) == 2 * LEAST_PORTION_BYTES
    assert [pong_after(9.0) for _ in range(3)] == [LEAST_PORTION_BYTES] * 3
    assert [pong_after(0.01) for _ in range(10)][-1] == MOST_PORTION_BYTES


def test_a_distant_client_is_not_taken_for_a_slow_one() -> None:
    outbox, _ = behind()
    for _ in range(10):
        outbox.ask(0.0)
        outbox.answered(0.9)
    assert outbox.portion_bytes == MOST_PORTION_BYTES


def test_twenty_quick_pongs_in_a_row_end_the_pacing_and_a_slow_one_begins_the_count_anew() -> None:
    outbox, _ = behind()
    outbox.paced = True
    for number in [*range(19), "slow", *range(19)]:
        outbox.ask(0.0)
        outbox.answered(0.3 if number == "slow" else 0.1)
        assert outbox.paced
    outbox.ask(0.0)
    outbox.answered(0.1)
    assert not outbox.paced


def test_what_has_no_id_comes_after_the_event_it_followed() -> None:
    outbox, pipe = behind()
    outbox.hold([frame(1, "price.A"), control("stale", 1), frame(2, "price.B"), control("pos", 2), frame(3, "price.C")])
    outbox.catch_up()
    assert outline(pipe) == ["e-1", "stale", "e-2", "pos", "e-3"]


def test_an_answer_stays_whole_whatever_ids_it_holds() -> None:
    outbox, pipe = behind()
    outbox.hold([frame(5, "price.A")])
    outbox.hold_in_order([control("subscribed", 0), frame(2, "price.B"), control("synced", 0)], 7)
    outbox.hold([frame(8, "price.B")])
    outbox.catch_up()
    assert outline(pipe) == ["e-5", "subscribed", "e-2", "synced", "e-8"]


def test_the_bytes_held_are_those_of_what_would_be_sent() -> None:
    outbox, _ = behind()
    first, second, log = frame(1, "price.A"), frame(222, "price.A"), frame(3, "news", log=True)
    outbox.hold([first])
    assert outbox.held_bytes == len(first.json)
    outbox.hold([second, log])
    assert outbox.held_bytes == len(second.json) + len(log.json)
    outbox.hold_in_order([first], 4)
    assert outbox.held_bytes == len(second.json) + len(log.json) + len(first.json)
    outbox.leave()
    assert outbox.held_bytes == 0


def test_progress_is_any_byte_that_was_taken_and_room_is_an_empty_buffer() -> None:
    outbox, pipe = behind()
    pipe.clog(1000)
    outbox.fall_behind(10.0)
    assert not outbox.drained(20.0)
    assert outbox.progress_at == 10.0
    pipe.drain(1)
    assert not outbox.drained(30.0)
    assert outbox.progress_at == 30.0
    pipe.drain()
    assert outbox.drained(40.0)

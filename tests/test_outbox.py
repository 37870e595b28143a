"""What one slow client still gets. The hub's part of it is in `test_hub.py`."""

from feeds.model import Event
from stream_server import envelope
from stream_server.envelope import Frame, Wire
from stream_server.outbox import HIGH_WATER_BYTES, Outbox
from tests.fakes.pipe import FakePipe


def frame(seq: int, topic: str, *, log: bool = False) -> Frame:
    return envelope.update(Event(topic, 1, 1, "binance", {}, log), f"e-{seq}", seq)


def control(kind: str, seq: int) -> Frame:
    made = envelope.control(kind, {})
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
    assert outbox.catch_up()
    assert pipe.writes == 1
    assert (outbox.held, outbox.queue, outbox.skipped, outbox.held_bytes) == ({}, [], {}, 0)


def test_catching_up_with_nothing_writes_nothing() -> None:
    outbox, pipe = behind()
    assert outbox.catch_up()
    assert pipe.writes == 0


def test_a_portion_leaves_the_newer_values_for_later_and_never_parts_an_answer() -> None:
    outbox, pipe = behind()
    outbox.hold([frame(1, "price.A"), frame(2, "news", log=True)])
    outbox.hold_in_order([control("subscribed", 0), frame(1, "price.B"), control("synced", 0)], 3)
    outbox.hold([frame(4, "price.C")])
    assert not outbox.catch_up(most_bytes=1)
    assert outline(pipe) == ["e-1"]
    assert not outbox.catch_up(most_bytes=1)
    assert outline(pipe) == ["e-2"]
    outbox.hold([frame(5, "price.C")])
    outbox.hold([frame(6, "price.C")])
    assert not outbox.catch_up(most_bytes=1)
    assert outline(pipe) == ["subscribed", "e-1", "synced", "conflated"]
    assert not outbox.catch_up(most_bytes=1)
    assert outline(pipe) == ["e-4"], "what the round began with comes first, or it would never have its turn"
    assert outbox.catch_up(most_bytes=1)
    assert outline(pipe) == ["e-6"]
    assert outbox.held_bytes == 0


def test_a_client_that_was_asked_has_no_room_until_it_answers() -> None:
    outbox, pipe = behind()
    outbox.ask(10.0)
    assert pipe.reader.pings == 1
    assert not outbox.drained(10.1)
    outbox.answered(10.2)
    assert outbox.drained(10.3)


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
    outbox.forget()
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

"""One client's end: what it knows of its transport, and how it catches up. The hub's part of it is in `test_hub.py`."""

from collections.abc import Callable

import pytest

from feeds.model import Event
from stream_server.delivery.meters import Tally
from stream_server.delivery.outbox import HIGH_WATER_BYTES, Outbox
from stream_server.wire import messages
from stream_server.wire.messages import Frame, Wire
from tests.fakes.pipe import FakePipe


def frame(seq: int, topic: str, *, log: bool = False) -> Frame:
    return messages.update(Event(topic, 1, 1, "binance", {}, log), f"e-{seq}", seq)


def lagging() -> tuple[Outbox, FakePipe]:
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
    assert not outbox.is_full()
    pipe.clog(HIGH_WATER_BYTES + 1)
    assert outbox.is_full()


def test_catching_up_is_one_write_and_leaves_nothing() -> None:
    outbox, pipe = lagging()
    outbox.hold([frame(1, "price.A"), frame(2, "price.B"), frame(3, "price.A")])
    assert outbox.catch_up() == 1
    assert pipe.writes == 1
    assert outline(pipe) == ["e-2", "e-3", "conflated"]
    assert (outbox.held_messages, outbox.held_bytes) == (0, 0)


def test_catching_up_with_nothing_writes_nothing() -> None:
    outbox, pipe = lagging()
    assert outbox.catch_up() == 0
    assert pipe.writes == 0


def test_replaced_values_wait_for_their_turn_only_for_a_paced_client() -> None:
    plain, paced = lagging()[0], lagging()[0]
    paced.fall_behind(0.0, paced=True)
    for outbox in (plain, paced):
        outbox.hold([frame(1, "price.A"), frame(2, "price.A")])
    assert (plain.held_messages, paced.held_messages) == (1, 2)


def test_a_client_that_was_pinged_has_no_room_until_it_answers() -> None:
    outbox, pipe = lagging()
    outbox.ask(10.0)
    assert pipe.reader.pings == 1
    assert not outbox.drained(10.1)
    outbox.answered(10.2)
    assert outbox.drained(10.3)


def test_progress_is_any_byte_that_was_taken_and_room_is_an_empty_buffer() -> None:
    outbox, pipe = lagging()
    pipe.clog(1000)
    outbox.fall_behind(10.0)
    assert not outbox.drained(20.0)
    assert outbox.progress_at == 10.0
    pipe.drain(1)
    assert not outbox.drained(30.0)
    assert outbox.progress_at == 30.0
    pipe.drain()
    assert outbox.drained(40.0)


def test_a_pong_is_progress_and_one_that_nobody_asked_for_is_none() -> None:
    outbox, _ = lagging()
    outbox.answered(5.0)
    assert outbox.progress_at == 0.0
    outbox.ask(10.0)
    outbox.answered(12.0)
    assert outbox.progress_at == 12.0


@pytest.mark.parametrize(("late_s", "progress_at"), [(3.0, 13.0), (50.0, 20.0)])
def test_a_standstill_of_ours_is_forgiven_but_never_into_the_future(late_s: float, progress_at: float) -> None:
    outbox, _ = lagging()
    outbox.fall_behind(10.0)
    outbox.forgive(late_s, 20.0)
    assert outbox.progress_at == progress_at


def test_a_watched_client_is_ready_while_it_has_room_and_does_not_lag() -> None:
    pipe = FakePipe()
    outbox = Outbox(pipe, Wire.WEBSOCKET)

    def ready_after(*steps: Callable[[], None]) -> bool:
        for step in steps:
            step()
        return outbox.ready

    assert not ready_after(outbox.cleared), "nobody reports the state of its transport"
    assert ready_after(lambda: outbox.watch(pipe.write))
    assert not ready_after(outbox.clogged)
    assert not ready_after(lambda: outbox.fall_behind(1.0), outbox.cleared), "what is held comes first"
    assert ready_after(lambda: outbox.keep_up(2.0))
    assert not ready_after(outbox.leave, outbox.cleared), "it has left"


@pytest.mark.parametrize("error", [RuntimeError("gone"), OSError("gone")])
def test_a_peer_that_has_gone_costs_its_readiness_and_raises_nothing(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = FakePipe()
    outbox = Outbox(pipe, Wire.WEBSOCKET)
    outbox.watch(pipe.write)

    def fail(data: bytes) -> None:
        raise error

    monkeypatch.setattr(pipe, "write", fail)
    outbox.put(b"x")
    assert not outbox.ready


def test_the_first_tally_stays() -> None:
    outbox, _ = lagging()
    first, second = Tally(), Tally()
    outbox.join(first)
    outbox.join(second)
    outbox.send([frame(1, "price.A")])
    assert (first.messages, second.messages) == (1, 0)


def test_nothing_is_held_for_a_client_that_has_left() -> None:
    outbox, pipe = lagging()
    outbox.hold([frame(1, "price.A")])
    outbox.leave()
    assert outbox.catch_up() == 0
    assert pipe.writes == 0

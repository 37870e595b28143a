"""The bytes on the wire: frames by RFC 6455, events by the HTML standard, chunks by RFC 9112."""

import orjson
import pytest

from feeds.model import Event
from stream_server.wire import messages
from stream_server.wire.messages import Frame, Wire

EVENT = Event("price.BTC", 1763791200123, 1763791200180, "binance", {"symbol": "BTC", "price": 64250.1})


def test_an_update_carries_exactly_the_fields_of_the_contract_in_its_order() -> None:
    frame = messages.update(EVENT, "mx4k2-1042", 1042)
    assert frame.json == (
        b'{"type":"update","topic":"price.BTC","id":"mx4k2-1042","ts":1763791200123,"received":1763791200180,'
        b'"source":"binance","data":{"symbol":"BTC","price":64250.1}}'
    )
    assert (frame.seq, frame.topic, frame.log, frame.cursor) == (1042, "price.BTC", False, "mx4k2-1042")


def test_numbers_travel_as_the_shortest_text_that_gives_the_double_back() -> None:
    data = {"price": 0.1 + 0.2, "tiny": 1e-8, "whole": 64250.0, "unknown": None}
    frame = messages.update(Event("price.BTC", 1, 2, "binance", data), "e-1", 1)
    assert frame.json.endswith(b'"data":{"price":0.30000000000000004,"tiny":1e-8,"whole":64250.0,"unknown":null}}')
    assert orjson.loads(frame.json)["data"] == data


def test_a_control_message_leaves_req_out_unless_one_was_given() -> None:
    assert messages.control("pong", {"ts": 1, "req": None}).json == b'{"type":"pong","ts":1}'
    assert messages.control("pong", {"ts": 1, "req": 0}).json == b'{"type":"pong","ts":1,"req":0}'
    assert messages.control("pos", {"id": "e-1"}).json == b'{"type":"pos","id":"e-1"}'


@pytest.mark.parametrize(
    ("size", "header"),
    [
        (0, b"\x81\x00"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65_535, b"\x81\x7e\xff\xff"),
        (65_536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_a_websocket_frame_states_its_length_in_the_shortest_form(size: int, header: bytes) -> None:
    frame = Frame(b"x" * size)
    assert frame.websocket() == header + b"x" * size


def test_a_close_frame_carries_code_and_reason() -> None:
    assert messages.close_frame(4008, "too slow") == b"\x88\x0a\x0f\xa8too slow"


def test_a_long_close_reason_is_cut_between_characters_to_what_a_control_frame_holds() -> None:
    frame = messages.close_frame(4008, "é" * 100)
    assert frame[1] == len(frame) - 2 <= 125
    assert frame[4:].decode() == "é" * 60


def test_a_ping_is_an_empty_control_frame() -> None:
    assert messages.PING == b"\x89\x00"


def test_an_update_is_a_default_message_event_with_its_id_on_sse() -> None:
    frame = messages.update(EVENT, "e-7", 7)
    assert frame.sse() == b"id: e-7\ndata: " + frame.json + b"\n\n"


def test_a_control_message_is_a_named_event_without_an_id_on_sse() -> None:
    frame = messages.control("hello", {"protocol": 1})
    assert frame.sse() == b'event: hello\ndata: {"type":"hello","protocol":1}\n\n'


@pytest.mark.parametrize("kind", ["synced", "pos"])
def test_a_control_message_that_moves_the_cursor_has_an_id_on_sse(kind: str) -> None:
    frame = messages.control(kind, {"id": "e-7"}, cursor="e-7")
    assert frame.sse().startswith(b"id: e-7\nevent: " + kind.encode() + b"\ndata: {")


def test_a_line_break_in_the_data_cannot_break_out_of_its_sse_line() -> None:
    data = {"title": "one\ntwo\r\nid: forged\n\n"}
    frame = messages.update(Event("news", 1, 2, "rss", data, log=True), "e-1", 1)
    body = frame.sse()
    assert body.count(b"\n") == 3 and b"\r" not in body
    assert orjson.loads(body.split(b"data: ")[1])["data"] == data


def test_a_chunk_states_its_size_in_hex_and_nothing_is_no_chunk() -> None:
    assert messages.http_chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert messages.http_chunk(b"") == b""


def test_one_write_carries_all_frames_in_order_on_every_wire() -> None:
    frames = [messages.update(EVENT, f"e-{seq}", seq) for seq in (1, 2, 3)]
    events = b"".join(frame.sse() for frame in frames)
    assert Wire.WEBSOCKET.payload(frames) == b"".join(frame.websocket() for frame in frames)
    assert Wire.SSE.payload(frames) == messages.http_chunk(events)
    assert Wire.SSE_UNCHUNKED.payload(frames) == events


def test_the_wire_forms_of_a_frame_are_made_once() -> None:
    frame = messages.update(EVENT, "e-1", 1)
    assert frame.websocket() is frame.websocket()
    assert frame.sse() is frame.sse()


def test_both_transports_carry_the_same_json_bytes() -> None:
    frame = messages.update(EVENT, "e-1", 1)
    assert frame.websocket().endswith(frame.json)
    assert frame.sse().endswith(b"data: " + frame.json + b"\n\n")

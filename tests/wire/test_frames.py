"""The server's half of WebSocket framing, checked against the `websockets` package as the client's half."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame
from websockets.frames import Opcode as Op

from stream_server.wire.frames import FrameError, Message, Opcode, unmask
from tests.framing import Framing

LIMIT = 16 * 1024


def sent(opcode: Op, data: bytes, *, fin: bool = True, rsv1: bool = False) -> bytes:
    """Return a client's frame."""
    frame = bytearray(Frame(opcode, data, fin=fin).serialize(mask=True))
    frame[0] |= 0x40 if rsv1 else 0
    return bytes(frame)


def read(data: bytes, *, deflate: bool = False) -> list[Message]:
    return Framing(LIMIT, deflate).feed(data)


def refusal(data: bytes, *, deflate: bool = False) -> int:
    """The close code that these bytes earn."""
    with pytest.raises(FrameError) as caught:
        read(data, deflate=deflate)
    return caught.value.code


def deflated(data: bytes) -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return (deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
def test_unmasking_is_the_xor_of_each_byte(payload: bytes, mask: bytes) -> None:
    assert unmask(payload, mask) == bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


messages = st.one_of(
    st.text(max_size=400).map(lambda text: (Op.TEXT, text.encode())),
    st.binary(max_size=400).map(lambda data: (Op.BINARY, data)),
    st.binary(max_size=125).map(lambda data: (Op.PING, data)),
    st.binary(max_size=125).map(lambda data: (Op.PONG, data)),
)


@given(st.lists(messages, max_size=6), st.lists(st.integers(1, 60), max_size=60))
def test_messages_come_out_whole_however_the_bytes_are_cut(wanted: list[tuple[Op, bytes]], cuts: list[int]) -> None:
    stream = b"".join(sent(opcode, data) for opcode, data in wanted)
    reader = Framing(LIMIT, deflate=False)
    got: list[Message] = []
    at = 0
    for size in [*cuts, len(stream)]:
        got += reader.feed(stream[at : at + size])
        at += size
    assert [(int(message.opcode), message.payload) for message in got] == [(int(op), data) for op, data in wanted]
    assert reader.unread == b""


@given(st.text(min_size=1, max_size=300), st.integers(1, 20))
def test_a_fragmented_text_may_be_cut_inside_a_character_and_interrupted_by_a_ping(text: str, size: int) -> None:
    data = text.encode()
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    stream = b""
    for number, piece in enumerate(pieces):
        opcode = Op.TEXT if number == 0 else Op.CONT
        stream += sent(opcode, piece, fin=number == len(pieces) - 1) + sent(Op.PING, b"?")
    got = read(stream)
    assert [m.payload for m in got if m.opcode is Opcode.TEXT] == [data]
    assert sum(1 for m in got if m.opcode is Opcode.PING) == len(pieces)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535])
def test_each_length_form_is_read(size: int) -> None:
    reader = Framing(1 << 20, deflate=False)
    assert [len(m.payload) for m in reader.feed(sent(Op.BINARY, b"x" * size))] == [size]


def test_a_message_of_the_limit_is_taken_and_one_byte_more_is_refused() -> None:
    assert len(read(sent(Op.TEXT, b"x" * LIMIT))[0].payload) == LIMIT
    assert refusal(sent(Op.TEXT, b"x" * (LIMIT + 1))) == 1009


def test_a_huge_declared_length_is_refused_before_its_bytes_arrive() -> None:
    assert refusal(b"\x81\xff" + (1 << 62).to_bytes(8, "big")) == 1009


def test_fragments_are_counted_together() -> None:
    assert refusal(sent(Op.TEXT, b"x" * LIMIT, fin=False) + sent(Op.CONT, b"x")) == 1009


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (Frame(Op.TEXT, b"{}").serialize(mask=False), 1002),
        (b"\x83\x80\x00\x00\x00\x00", 1002),
        (b"\x8b\x80\x00\x00\x00\x00", 1002),
        (sent(Op.TEXT, b"{}", rsv1=True), 1002),
        (b"\xa1\x80\x00\x00\x00\x00", 1002),
        (sent(Op.CONT, b"x"), 1002),
        (sent(Op.TEXT, b"x", fin=False) + sent(Op.TEXT, b"x"), 1002),
        (b"\x09\x80\x00\x00\x00\x00", 1002),
        (b"\x89\xfe\x00\x7e\x00\x00\x00\x00", 1002),
        (sent(Op.CLOSE, b"\x03"), 1002),
        (sent(Op.CLOSE, (1005).to_bytes(2, "big")), 1002),
        (sent(Op.CLOSE, (2999).to_bytes(2, "big")), 1002),
        (sent(Op.CLOSE, (1000).to_bytes(2, "big") + b"\xff"), 1007),
        (sent(Op.TEXT, b"\xff\xfe"), 1007),
        (sent(Op.TEXT, b"\xed\xa0\x80"), 1007),
    ],
    ids=[
        "unmasked",
        "reserved data opcode",
        "reserved control opcode",
        "compressed without agreement",
        "RSV2",
        "continuation of nothing",
        "text inside a fragmented text",
        "fragmented ping",
        "long ping",
        "half a close code",
        "close code 1005",
        "close code 2999",
        "close reason that is not UTF-8",
        "text that is not UTF-8",
        "lone surrogate",
    ],
)
def test_what_the_rfc_forbids_ends_with_its_close_code(data: bytes, code: int) -> None:
    assert refusal(data) == code


def test_a_compressed_message_is_inflated_where_agreed() -> None:
    text = b'{"op":"subscribe","topics":["price.BTC"]}' * 20
    assert read(sent(Op.TEXT, deflated(text), rsv1=True), deflate=True)[0].payload == text


def test_a_compression_bomb_stops_at_the_limit() -> None:
    bomb = deflated(b"\0" * 50_000_000)[:LIMIT]
    assert refusal(sent(Op.TEXT, bomb, rsv1=True), deflate=True) == 1009


def test_a_compressed_message_that_does_not_inflate_is_refused() -> None:
    assert refusal(sent(Op.TEXT, b"\xff\xff\xff\xff", rsv1=True), deflate=True) == 1007


def test_an_idle_reader_holds_nothing() -> None:
    reader = Framing(LIMIT, deflate=True)
    reader.feed(sent(Op.TEXT, b"a", fin=False) + sent(Op.CONT, b"b") + sent(Op.PONG, b""))
    assert (reader.unread, reader.reader.payloads, reader.heads.size, reader.heads.opcode) == (b"", None, 0, None)


@given(st.binary(max_size=400), st.booleans())
def test_no_bytes_at_all_raise_anything_but_a_frame_error(data: bytes, deflate: bool) -> None:
    reader = Framing(LIMIT, deflate)
    try:
        for message in reader.feed(data):
            assert len(message.payload) <= LIMIT
    except FrameError as error:
        assert error.code in (1002, 1007, 1009)

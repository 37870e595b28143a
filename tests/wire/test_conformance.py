"""Test what RFC 6455 asks of a server, with bytes to both frame layers of `/ws`.

The sections have the numbers of the Autobahn test suite, whose own cases run by hand with `make autobahn`. A session
that echoes stands above the layers (see `tests/echo.py`). What a layer does in another way than the RFC would have it
is in DEVIATIONS, with the reason.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.echo import echoing

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
MASK = b"\x37\xfa\x21\x3d"
CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FIN = 0x80
LIMIT = 16 * 1024


class Heard(NamedTuple):
    """A frame of the server's: its first byte, and what it carries."""

    head: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Case:
    """What a client sends, at once or in pieces; the frames that answer it, and the code of the server's close frame.

    `agreed` says that the code is the client's own, said back.
    """

    name: str
    sent: bytes
    heard: tuple[Heard, ...] = ()
    code: int | None = 1000
    piece_bytes: int | None = None
    agreed: bool = False


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """Return a client's frame."""
    size = len(payload)
    mask_bit = 0x80 if masked else 0
    if size < 126:
        length = bytes([mask_bit | size])
    elif size < 1 << 16:
        length = bytes([mask_bit | 126]) + size.to_bytes(2, "big")
    else:
        length = bytes([mask_bit | 127]) + size.to_bytes(8, "big")
    head = bytes([(FIN if fin else 0) | rsv << 4 | opcode]) + length
    if not masked:
        return head + payload
    return head + MASK + bytes(byte ^ MASK[at % 4] for at, byte in enumerate(payload))


def closing(code: int | None = 1000, reason: bytes = b"") -> bytes:
    return frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason)


def echo(payload: bytes) -> Heard:
    return Heard(FIN | TEXT, payload)


def pong(payload: bytes = b"") -> Heard:
    return Heard(FIN | PONG, payload)


def texts(*payloads: bytes) -> bytes:
    return b"".join(frame(TEXT, payload) for payload in payloads)


def fragments(*payloads: bytes, between: bytes = b"", opcode: int = TEXT) -> bytes:
    """One message in parts, with something between any two."""
    last = len(payloads) - 1
    parts = [frame(CONT if at else opcode, part, fin=at == last) for at, part in enumerate(payloads)]
    return between.join(parts)


def lengths() -> Iterator[Case]:
    for size in (0, 1, 125, 126, 127, 128, LIMIT - 1, LIMIT):
        data = b"*" * size
        yield Case(f"1.1 a text of {size} bytes", frame(TEXT, data) + closing(), (echo(data),))
    long = b"*" * LIMIT
    yield Case("1.1 a text that comes in pieces of 997 bytes", frame(TEXT, long) + closing(), (echo(long),), 1000, 997)
    short = b'{"op":"ping"}'
    yield Case("1.1 a text that comes byte by byte", frame(TEXT, short) + closing(), (echo(short),), 1000, 1)
    yield Case("1.1 a text one byte over the limit", frame(TEXT, b"*" * (LIMIT + 1)), (), 1009)
    yield Case(
        "1.1 a length in more bytes than it needs",
        frame(TEXT, b"")[:1] + b"\xfe\0\x02" + bytes(4) + b"ok" + closing(),
        (echo(b"ok"),),
    )
    for size in (0, 1, 125, 126, 4000):
        yield Case(f"1.2 {size} bytes of binary", frame(BINARY, b"\xfe" * size) + closing(), (echo(b"binary_refused"),))


def pings() -> Iterator[Case]:
    for payload in (b"", b"Hello, world!", bytes([0x00, 0xFF, 0xFE, 0xFD, 0xFC, 0xFB]), b"\xfe" * 125):
        yield Case(f"2 a ping with {payload[:9]!r}", frame(PING, payload) + closing(), (pong(payload),))
    yield Case("2.5 a ping of 126 bytes", frame(PING, b"\xfe" * 126), (), 1002)
    yield Case("2.6 a ping byte by byte", frame(PING, b"\xfe" * 125) + closing(), (pong(b"\xfe" * 125),), 1000, 1)
    yield Case("2.7 a pong that nobody asked for", frame(PONG) + closing())
    yield Case("2.8 one with something in it", frame(PONG, b"unsolicited") + closing())
    yield Case("2.9 one before a ping", frame(PONG, b"unsolicited") + frame(PING, b"p") + closing(), (pong(b"p"),))
    ten = [b"payload-%d" % number for number in range(10)]
    together = b"".join(frame(PING, each) for each in ten)
    answers = tuple(pong(each) for each in ten)
    yield Case("2.10 ten pings", together + closing(), answers)
    yield Case("2.11 ten pings byte by byte", together + closing(), answers, 1000, 1)


def reserved_bits() -> Iterator[Case]:
    for rsv in range(1, 8):
        broken = frame(TEXT, b"Hello", rsv=rsv)
        yield Case(f"3 RSV {rsv} in a text", broken, (), 1002)
        yield Case(f"3 RSV {rsv} after a good text", texts(b"a") + broken + frame(PING), (echo(b"a"),), 1002)
        yield Case(f"3 RSV {rsv} in pieces", texts(b"a") + broken, (echo(b"a"),), 1002, 1)
        yield Case(f"3 RSV {rsv} in a ping", frame(PING, b"x", rsv=rsv), (), 1002)
        yield Case(f"3 RSV {rsv} in a close", frame(CLOSE, rsv=rsv), (), 1002)


def opcodes() -> Iterator[Case]:
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield Case(f"4 opcode {opcode}", frame(opcode), (), 1002)
        yield Case(f"4 opcode {opcode} with a payload", frame(opcode, b"reserved"), (), 1002)
        after = texts(b"a") + frame(opcode, b"reserved") + frame(PING)
        yield Case(f"4 opcode {opcode} after a good text", after, (echo(b"a"),), 1002)
        yield Case(f"4 opcode {opcode} byte by byte", after, (echo(b"a"),), 1002, 1)


def parts() -> Iterator[Case]:
    for opcode in (PING, PONG):
        yield Case(f"5.1 control frame {opcode} in parts", fragments(b"one", b"two", opcode=opcode), (), 1002)
    whole = echo(b"fragment1fragment2")
    for piece_bytes in (None, 1):
        yield Case(
            "5.3 a text in two parts", fragments(b"fragment1", b"fragment2") + closing(), (whole,), 1000, piece_bytes
        )
        interrupted = fragments(b"fragment1", b"fragment2", between=frame(PING, b"p"))
        yield Case("5.6 a ping between two parts", interrupted + closing(), (pong(b"p"), whole), 1000, piece_bytes)
    yield Case("5.9 a part of nothing", frame(CONT, b"x") + texts(b"a"), (), 1002)
    yield Case("5.11 byte by byte", frame(CONT, b"x") + texts(b"a"), (), 1002, 1)
    yield Case("5.12 one that is not the last", frame(CONT, b"x", fin=False) + texts(b"a"), (), 1002)
    yield Case("5.15 a third part after the end", fragments(b"a", b"b") + frame(CONT, b"c"), (echo(b"ab"),), 1002)
    yield Case("5.18 a new text within another", fragments(b"a", b"b", between=texts(b"c")), (), 1002)
    yield Case("5.18 one of two parts", frame(TEXT, b"a", fin=False) + frame(TEXT, b"b", fin=False), (), 1002)
    five = [b"fragment%d" % number for number in range(5)]
    busy = fragments(*five, between=frame(PING, b"p"))
    yield Case("5.19 five parts and four pings", busy + closing(), (*[pong(b"p")] * 4, echo(b"".join(five))))
    yield Case("5.20 empty parts", fragments(b"", b"a", b"", b"") + closing(), (echo(b"a"),))
    yield Case("5.20 nothing in many parts", fragments(*[b""] * 500) + closing(), (echo(b""),))
    yield Case(
        "5.20 a binary message in parts", fragments(b"a", b"b", opcode=BINARY) + closing(), (echo(b"binary_refused"),)
    )
    half = b"x" * (LIMIT // 2)
    yield Case("5.20 parts over the limit together", fragments(half, half, b"x"), (), 1009)


# Source: RFC 3629: what UTF-8 may look like, its smallest and greatest characters by length, and what it may not.
GOOD_TEXTS = (
    "κόσμε".encode(),
    "Hello-µ@ßöäüàá-UTF-8!!".encode(),
    b"\x00", b"\x7f", b"\xc2\x80", b"\xdf\xbf", b"\xe0\xa0\x80", b"\xed\x9f\xbf", b"\xee\x80\x80",
    b"\xef\xbf\xbd", b"\xef\xbf\xbe", b"\xef\xbf\xbf", b"\xf0\x90\x80\x80", b"\xf0\x9f\xbf\xbe", b"\xf4\x8f\xbf\xbf",
)  # fmt: skip
BAD_TEXTS = {
    "a continuation byte alone": (b"\x80", b"\xbf", b"\x80\xbf\x80"),
    "a beginning alone": (b"\xc2", b"\xdf ", b"\xe0\xa0", b"\xef\xbf ", b"\xf0\x90\x80", b"\xf4\x8f\xbf "),
    "bytes that never occur": (b"\xc0", b"\xc1\xbf", b"\xf5\x80\x80\x80", b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"),
    "a character in more bytes than it needs": (b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xe0\x9f\xbf"),
    "five and six bytes": (b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80", b"\xfd\xbf\xbf\xbf\xbf\xbf"),
    "beyond the last character": (b"\xf4\x90\x80\x80", b"\xf7\xbf\xbf\xbf"),
    "half of a surrogate pair": (
        b"\xed\xa0\x80",
        b"\xed\xaf\xbf",
        b"\xed\xb0\x80",
        b"\xed\xbf\xbf",
        b"\xed\xa0\x80\xed\xb0\x80",
    ),
}


def utf8() -> Iterator[Case]:
    for text in GOOD_TEXTS:
        yield Case(f"6.2 {text!r}", texts(text) + closing(), (echo(text),))
        pieces = [bytes([byte]) for byte in text]
        yield Case(f"6.2 {text!r}, a part for each byte", fragments(*pieces) + closing(), (echo(text),))
    empty = fragments(b"", b"", b"")
    yield Case("6.1 nothing, and nothing in three parts", texts(b"") + empty + closing(), (echo(b""), echo(b"")))
    whole = "κόσμε".encode()
    for size in range(1, len(whole)):
        cut = whole[:size]
        good = len(cut.decode(errors="ignore").encode()) == size
        yield Case(f"6.6 the first {size} bytes of a word", texts(cut) + (closing() if good else b""),
                   (echo(cut),) if good else (), 1000 if good else 1007)  # fmt: skip
    for wrong, examples in BAD_TEXTS.items():
        for text in examples:
            yield Case(f"6.3 {wrong}: {text!r}", texts(b"ok" + text), (), 1007)
    bad = "κόσμε".encode() + b"\xed\xa0\x80edited"
    yield Case("6.3 in parts", fragments(*[bytes([byte]) for byte in bad]), (), 1007)
    yield Case("6.4 in the first of three parts", fragments(b"ok" + b"\xf4\x90\x80\x80", b"a", b"b"), (), 1007)


def closings() -> Iterator[Case]:
    yield Case("7.1 a text, and the end", texts(b"Hello") + closing(), (echo(b"Hello"),))
    yield Case("7.1 two closes", closing() + closing())
    yield Case("7.1 a ping after the close", closing() + frame(PING))
    yield Case("7.1 a text after the close", closing() + texts(b"a"))
    yield Case("7.1 the rest of a text after the close", frame(TEXT, b"a", fin=False) + closing() + frame(CONT, b"b"))
    yield Case("7.3 a close without a code", closing(None), (), None, agreed=True)
    yield Case("7.3 half a code", frame(CLOSE, b"\x03"), (), 1002)
    yield Case("7.3 a code alone", closing(1000))
    yield Case("7.3 a code and a reason", closing(1000, b"Hello World!"))
    yield Case("7.3 the longest reason", closing(1000, b"*" * 123))
    yield Case("7.3 a longer one", closing(1000, b"*" * 124), (), 1002)
    yield Case("7.5 a reason that is no text", closing(1000, b"\xce\xba\xe1\xbd\xb9\xed\xa0\x80"), (), 1007)
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
        yield Case(f"7.7 code {code}", closing(code), (), code, agreed=True)
    for code in (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999):
        yield Case(f"7.9 code {code}", closing(code), (), 1002)
    for code in (5000, 65535):
        yield Case(f"7.13 code {code}", closing(code), (), 1002)


def split() -> Iterator[Case]:
    text = b"*" * (LIMIT - 100)
    pieces = [text[at : at + 1300] for at in range(0, len(text), 1300)]
    yield Case("10.1 a long text in parts of 1300 bytes", fragments(*pieces) + closing(), (echo(text),))
    yield Case("10.1 that come in pieces", fragments(*pieces) + closing(), (echo(text),), 1000, 977)


def masks() -> Iterator[Case]:
    """Frames without a mask. The suite has no section for it, because its client always masks."""
    yield Case("M a text without a mask", frame(TEXT, b"{}", masked=False) + closing(), (), 1002)
    yield Case("M after a good text", texts(b"a") + frame(TEXT, b"{}", masked=False) + closing(), (echo(b"a"),), 1002)
    yield Case("M a ping without a mask", frame(PING, masked=False) + closing(), (), 1002)
    yield Case("M a close without a mask", frame(CLOSE, masked=False), (), 1002)


SECTIONS = (lengths, pings, reserved_bits, opcodes, parts, utf8, closings, split, masks)

DEVIATIONS = {
    "7.9 code 1006": "aiohttp's reader takes this code for a good one",
    "7.13 code 5000": "aiohttp's reader takes every code from 3000 on, which the RFC leaves undefined above 4999",
    "7.13 code 65535": "aiohttp's reader takes every code from 3000 on, which the RFC leaves undefined above 4999",
}
"""Deviations of the layer of aiohttp. The check of these codes protects a peer, not a server."""


class Conversation:
    """A client that sends given bytes, one by one if necessary, and closes as the RFC asks."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, case: Case) -> None:
        if case.piece_bytes is None:
            self.writer.write(case.sent)
        else:
            for at in range(0, len(case.sent), case.piece_bytes):
                if self.writer.is_closing():  # the server has heard enough
                    return
                self.writer.write(case.sent[at : at + case.piece_bytes])
                # The server's turn: it sees each piece alone.
                await asyncio.sleep(0)

    async def hear(self) -> list[Heard]:
        """Return every frame until the server ends the connection; answer a close frame."""
        heard = []
        while True:
            try:
                head = await self.reader.readexactly(2)
                size = head[1] & 0x7F
                if size > 125:
                    size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
                heard.append(Heard(head[0], await self.reader.readexactly(size)))
            except (asyncio.IncompleteReadError, ConnectionError):
                return heard
            assert head[1] & 0x80 == 0, "a server masks nothing"
            if heard[-1].head == FIN | CLOSE and not self.writer.is_closing():
                self.writer.write(closing())
                with contextlib.suppress(OSError, RuntimeError):  # it need not wait for our answer
                    self.writer.write_eof()


async def conversation(port: int, case: Case) -> tuple[list[Heard], int | None]:
    """The frames that answer a case, and the code of the server's close frame."""
    plug = socket.socket()
    plug.setblocking(False)
    plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    await asyncio.get_running_loop().sock_connect(plug, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=plug)
    try:
        async with asyncio.timeout(30):
            writer.write(UPGRADE)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            client = Conversation(reader, writer)
            await client.say(case)
            heard = await client.hear()
    finally:
        writer.transport.abort()
    assert heard, f"{case.name}: the connection ended without a close frame"
    assert heard[-1].head == FIN | CLOSE, f"{case.name}: the connection ended without a close frame"
    last = heard.pop().payload
    return heard, int.from_bytes(last[:2], "big") if last else None


@pytest.fixture(params=["light", "aiohttp"])
def layer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def port(layer: str, tmp_path: Path) -> AsyncIterator[int]:
    async with echoing(tmp_path, light=layer == "light") as its_port:
        yield its_port


async def test_each_layer_answers_as_the_rfc_asks_except_where_a_reason_is_given(layer: str, port: int) -> None:
    wrong, deviating = [], set()
    for section in SECTIONS:
        # aiohttp resets a connection whose client is still talking, and what it said last is lost with it.
        cases = [case for case in section() if layer == "light" or case.piece_bytes is None or case.code == 1000]
        for case, (heard, code) in zip(
            cases, await asyncio.gather(*[conversation(port, case) for case in cases]), strict=True
        ):
            wanted_code = 1000 if case.agreed and layer == "aiohttp" else case.code  # as it answers every good close
            if (heard, code) == (list(case.heard), wanted_code):
                continue
            if layer == "aiohttp" and case.name in DEVIATIONS:
                deviating.add(case.name)
            else:
                wrong.append(
                    f"{case.name}: heard {[(hex(each.head), each.payload[:40]) for each in heard]}, closed with {code}"
                )
    assert not wrong, "\n".join(wrong)
    assert deviating == (set(DEVIATIONS) if layer == "aiohttp" else set()), "what deviates no more need not be excused"


async def test_a_client_that_sends_too_much_can_read_why_it_was_refused_before_the_connection_ends(
    tmp_path: Path,
) -> None:
    async with echoing(tmp_path, light=True) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            async with asyncio.timeout(30):
                writer.write(UPGRADE)
                await reader.readuntil(b"\r\n\r\n")
                writer.write(frame(TEXT, b"*" * 1_000_000))
                heard = await reader.read()  # a connection that is reset raises here
        finally:
            writer.transport.abort()
    assert heard[2:4] == (1009).to_bytes(2, "big")

"""Read what WebSocket clients send: the server's half of RFC 6455's framing, strict and small.

A connection that sends nothing holds no parser, no task and no buffer, which is most of what an idle client costs
elsewhere. Whole messages come out; everything the RFC forbids ends in `FrameError` with the close code it asks for.
"""

import zlib
from dataclasses import dataclass
from enum import IntEnum


class Opcode(IntEnum):
    """Frame kinds. Source: RFC 6455, section 5.2."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message; a TEXT message is valid UTF-8."""

    opcode: Opcode
    payload: bytes
    parts: int = 1
    """Number of frames that it came in."""


class FrameError(Exception):
    """The client has broken the protocol; close with `code`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


RSV1 = 0x40
MAX_PARTS = 1024
"""Bounds the parts of one message, because parts may be empty and the size does not bound their number."""
CLOSE_CODES = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})
_OPCODES = {int(opcode): opcode for opcode in Opcode}
_EMPTY_BLOCK = b"\x00\x00\xff\xff"


class FrameHeads:
    """Finds where frames end and checks their heads, without reading their payload.

    `max_bytes` bounds a message in all its parts.
    """

    __slots__ = ("deflate", "max_bytes", "opcode", "parts", "size")

    def __init__(self, max_bytes: int, deflate: bool) -> None:
        self.max_bytes = max_bytes
        self.deflate = deflate
        self.opcode: Opcode | None = None
        """The kind of the message that has begun; None between two messages."""
        self.size = 0
        self.parts = 0

    def end_of(self, data: bytes, at: int) -> int | None:
        """Return where the frame at `at` ends; None if it is incomplete. Call it once for each whole frame.

        Raises FrameError as soon as its head is wrong; do not call it again then.
        """
        if len(data) - at < 2:
            return None
        first, second = data[at], data[at + 1]
        opcode = self._check_head(first, second)
        length = second & 0x7F
        head = 6
        if length == 126:
            if len(data) - at < 4:
                return None
            length, head = int.from_bytes(data[at + 2 : at + 4], "big"), 8
        elif length == 127:
            if len(data) - at < 10:
                return None
            length, head = int.from_bytes(data[at + 2 : at + 10], "big"), 14
        if self.size + length > self.max_bytes:
            raise FrameError(1009, f"message over {self.max_bytes} bytes")
        end = at + head + length
        if end > len(data):
            return None
        if opcode < Opcode.CLOSE:
            self._count(opcode, length, is_last=bool(first & 0x80))
        return end

    def _count(self, opcode: Opcode, length: int, *, is_last: bool) -> None:
        if is_last:
            self.opcode, self.size, self.parts = None, 0, 0
            return
        if self.parts >= MAX_PARTS:
            raise FrameError(1009, f"message in more than {MAX_PARTS} parts")
        if opcode is not Opcode.CONTINUATION:
            self.opcode = opcode
        self.size += length
        self.parts += 1

    def _check_head(self, first: int, second: int) -> Opcode:
        opcode = _OPCODES.get(first & 0x0F)
        if opcode is None:
            raise FrameError(1002, "reserved opcode")
        if not second & 0x80:
            raise FrameError(1002, "frame without a mask")
        if opcode >= Opcode.CLOSE:
            if not first & 0x80 or first & 0x70 or second & 0x7F > 125:
                raise FrameError(1002, "control frame that is fragmented, too long or has reserved bits")
            return opcode
        allowed = RSV1 if self.deflate and opcode is not Opcode.CONTINUATION else 0
        if first & 0x70 & ~allowed:
            raise FrameError(1002, "reserved bits")
        if (opcode is Opcode.CONTINUATION) is (self.opcode is None):
            raise FrameError(1002, "continuation out of place")
        return opcode


class FrameReader(FrameHeads):
    """Makes messages from whole frames. `max_bytes` bounds a message after inflating, too."""

    __slots__ = ("begun", "compressed", "payloads")

    def __init__(self, max_bytes: int, deflate: bool) -> None:
        super().__init__(max_bytes, deflate)
        self.begun = Opcode.CONTINUATION
        """The kind of the message whose parts are held."""
        self.compressed = False
        self.payloads: list[bytes] | None = None

    def read(self, frame: bytes) -> Message | None:
        """Return the message that ends with a frame that `end_of` has found; None if more parts follow.

        Raises FrameError.
        """
        first, length = frame[0], frame[1] & 0x7F
        mask_at = 2 if length < 126 else 4 if length == 126 else 10
        payload = unmask(frame[mask_at + 4 :], frame[mask_at : mask_at + 4])
        opcode = _OPCODES[first & 0x0F]
        if opcode >= Opcode.CLOSE:
            if opcode is Opcode.CLOSE:
                _check_close(payload)
            return Message(opcode, payload)
        if opcode is not Opcode.CONTINUATION:
            self.begun, self.compressed = opcode, bool(first & RSV1)
        if not first & 0x80:
            if self.payloads is None:
                self.payloads = []
            self.payloads.append(payload)
            return None
        parts = 1
        if self.payloads is not None:
            parts += len(self.payloads)
            payload = b"".join([*self.payloads, payload])
            self.payloads = None
        if self.compressed:
            payload = self._inflate(payload)
        if self.begun is Opcode.TEXT:
            _check_utf8(payload, 1007)
        return Message(self.begun, payload, parts)

    def _inflate(self, payload: bytes) -> bytes:
        # No context is kept between messages: the handshake forbids the client to rely on one.
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            data = inflater.decompress(payload + _EMPTY_BLOCK, self.max_bytes + 1)
        except zlib.error:
            raise FrameError(1007, "message that does not inflate") from None
        if len(data) > self.max_bytes:
            raise FrameError(1009, f"message over {self.max_bytes} bytes")
        return data


def unmask(payload: bytes, mask: bytes) -> bytes:
    """Return the payload XORed with the repeated mask, computed as one big number."""
    size = len(payload)
    if not size:
        return b""
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")


def _check_close(payload: bytes) -> None:
    if not payload:
        return
    if len(payload) == 1:
        raise FrameError(1002, "close frame with half a code")
    code = int.from_bytes(payload[:2], "big")
    if code not in CLOSE_CODES and not 3000 <= code <= 4999:
        raise FrameError(1002, f"close code {code}")
    _check_utf8(payload[2:], 1007)


def _check_utf8(data: bytes, code: int) -> None:
    try:
        data.decode()
    except UnicodeDecodeError:
        raise FrameError(code, "text that is not UTF-8") from None

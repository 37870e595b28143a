"""Decode the bytes of one write as a client does. Written from RFC 6455, RFC 7692 and the HTML standard."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from tests.hunt.record import EPOCH

MEMORY = 4000
"""Number of payloads that are remembered, because all members of a group get the same bytes."""


class Undecodable(Exception):
    """The bytes are not what the protocol promises."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `seq` is the number in its id, 0 without one; `number` is what a value carries."""

    kind: str
    topic: str
    seq: int
    number: int
    body: dict[str, object]


@dataclass(frozen=True, slots=True)
class Piece:
    """A number of bytes, and the messages, the ping or the close that are complete after them."""

    size: int
    messages: tuple[Message, ...] = ()
    ping: bool = False
    close_code: int | None = None


class Decoder:
    """Decodes each distinct write once."""

    def __init__(self) -> None:
        self.known: dict[tuple[bool, bytes], tuple[Piece, ...]] = {}

    def pieces(self, payload: bytes, websocket: bool, chunked: bool) -> tuple[Piece, ...]:
        """Return what one write consists of."""
        key = (websocket, payload)
        found = self.known.get(key)
        if found is None:
            if len(self.known) >= MEMORY:
                self.known.clear()
            found = tuple(_frames(payload) if websocket else _events(payload, chunked))
            self.known[key] = found
        return found


def _frames(payload: bytes) -> Iterator[Piece]:
    place = 0
    while place < len(payload):
        head, size, start = payload[place], payload[place + 1], place + 2
        if size > 127:
            raise Undecodable("a server's frame is masked")
        if size > 125:
            width = 2 if size == 126 else 8
            size = int.from_bytes(payload[start : start + width], "big")
            start += width
        end = start + size
        body = payload[start:end]
        if end > len(payload):
            raise Undecodable("a write ends within a frame")
        match head:
            case 0x81:
                yield Piece(end - place, messages(body))
            case 0xC1:
                text = zlib.decompressobj(-zlib.MAX_WBITS).decompress(body + b"\x00\x00\xff\xff")
                yield Piece(end - place, messages(text))
            case 0x88:
                yield Piece(end - place, close_code=int.from_bytes(body[:2], "big"))
            case 0x89:
                yield Piece(end - place, ping=True)
            case _:
                raise Undecodable(f"frame head {head:#x}")
        place = end


def _events(payload: bytes, chunked: bool) -> Iterator[Piece]:
    overhead, text = 0, payload
    if chunked:
        line, _, rest = payload.partition(b"\r\n")
        size = int(line, 16)
        if not size or rest[size:] != b"\r\n":
            raise Undecodable("a write is not one HTTP chunk")
        overhead, text = len(payload) - size, rest[:size]
    blocks = text.split(b"\n\n")
    if blocks.pop():
        raise Undecodable("a write ends within an event")
    for block in blocks:
        lines = [line for line in block.split(b"\n") if not line.startswith(b":")]
        fields = dict(line.split(b": ", 1) for line in lines)
        size, overhead = len(block) + 2 + overhead, 0
        if not fields:
            yield Piece(size)
            continue
        (message,) = messages(fields[b"data"])
        kind = fields.get(b"event", b"update").decode()
        if kind != message.kind:
            raise Undecodable(f"event {kind!r} carries a message of type {message.kind!r}")
        if fields.get(b"id", b"").decode() != message.body.get("id", ""):
            raise Undecodable(f"the id line {fields.get(b'id')!r} is not the id of {message.body}")
        yield Piece(size, (message,))


def messages(text: bytes) -> tuple[Message, ...]:
    """Return the messages of one JSON text: one, or an array of them."""
    content = orjson.loads(text)
    if isinstance(content, list):
        if not content:
            raise Undecodable("an empty array")
        return tuple(_message(body) for body in content)
    return (_message(content),)


def _message(body: dict[str, object]) -> Message:
    seq = 0
    if "id" in body:
        epoch, _, digits = str(body["id"]).partition("-")
        if epoch != EPOCH or not digits.isdigit():
            raise Undecodable(f"id {body['id']!r}")
        seq = int(digits)
    data = body.get("data")
    number = data["n"] if isinstance(data, dict) else 0
    return Message(str(body["type"]), str(body.get("topic", "")), seq, number, body)

"""The wire format: one JSON text for each event, and its bytes on each transport.

A `Frame` is encoded once, however many clients get it. Its wire forms are made when first asked for and kept.
"""

import zlib
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum

import orjson

from feeds.model import Event
from stream_server.wire.refusals import Closing

MAX_MESSAGE_BYTES = 512 * 1024
"""Bound of any message to a client. Client libraries accept 1 MiB, and close the connection over a longer message."""
MAX_EVENT_BYTES = MAX_MESSAGE_BYTES - 32 * 1024
"""Bound of one event: the rest is for what goes around it, such as the topics that a `snapshot` names."""
MAX_BATCH_BYTES = 256 * 1024
"""Bound of several events in one message."""

MIN_DEFLATE_BYTES = 1024
DEFLATE_LEVEL = 1
"""The names repeat in every message, so that higher levels save a tenth of the bytes for twice the time."""


class Wire(StrEnum):
    """The form in which bytes travel to one kind of client."""

    WEBSOCKET = "websocket"
    WEBSOCKET_BATCH = "websocket-batch"
    """One JSON array a write instead of a frame a message."""
    WEBSOCKET_DEFLATE = "websocket-deflate"
    """The same, compressed once for all clients that get it."""
    SSE = "sse"
    SSE_UNCHUNKED = "sse-unchunked"
    """For HTTP/1.0, which knows no chunks: the body ends with the connection."""

    @property
    def is_websocket(self) -> bool:
        """Whether bytes go in WebSocket frames."""
        return self in (Wire.WEBSOCKET, Wire.WEBSOCKET_BATCH, Wire.WEBSOCKET_DEFLATE)

    @property
    def transport(self) -> str:
        """`websocket` or `sse`."""
        return "websocket" if self.is_websocket else "sse"

    def payload(self, frames: Iterable["Frame"]) -> bytes:
        """Return the bytes of one write that carries all these frames, in order."""
        if self is Wire.WEBSOCKET:
            return b"".join([frame._websocket or frame.websocket() for frame in frames])
        match self:
            case Wire.WEBSOCKET_BATCH:
                return b"".join([websocket_frame(0x81, array) for array in arrays(frames)])
            case Wire.WEBSOCKET_DEFLATE:
                return b"".join([deflated_frame(array) for array in arrays(frames)])
            case Wire.SSE:
                return http_chunk(b"".join([frame._sse or frame.sse() for frame in frames]))
            case Wire.SSE_UNCHUNKED:
                return b"".join([frame.sse() for frame in frames])


class Frame:
    """One message. It has a `topic` if it belongs to a topic's history, and an `event` name if it is not an update.

    `cursor` is the position of a client that has read the message, if it moves the position. A message that was
    `overtaken` was held back where later ids could go out before it.
    """

    __slots__ = ("_sse", "_websocket", "cursor", "event", "json", "log", "overtaken", "seq", "topic")

    def __init__(
        self,
        json: bytes,
        *,
        seq: int = 0,
        topic: str = "",
        log: bool = False,
        event: str = "",
        cursor: str = "",
    ) -> None:
        self.json = json
        self.seq = seq
        self.topic = topic
        self.log = log
        self.event = event
        self.cursor = cursor
        self.overtaken = False
        self._websocket: bytes | None = None
        self._sse: bytes | None = None

    def stand_after(self, seq: int) -> None:
        """Give a message without an id its place in the order: after the event with this number."""
        self.seq = seq

    def be_overtaken(self) -> None:
        """Note that later ids may go out before this frame: a client's position may be past it though it lacks it."""
        self.overtaken = True

    def websocket(self) -> bytes:
        """Return an unmasked text frame. Source: RFC 6455, section 5.2."""
        if self._websocket is None:
            self._websocket = websocket_frame(0x81, self.json)
        return self._websocket

    def sse(self) -> bytes:
        """Return an event of `text/event-stream`. Its JSON holds no line break, so one `data:` line carries it."""
        if self._sse is None:
            cursor = b"id: %b\n" % self.cursor.encode() if self.cursor else b""
            event = b"event: %b\n" % self.event.encode() if self.event else b""
            self._sse = b"%b%bdata: %b\n\n" % (cursor, event, self.json)
        return self._sse


def update(event: Event, event_id: str, seq: int) -> Frame:
    """Return the frame of an event."""
    json = orjson.dumps(
        {
            "type": "update",
            "topic": event.topic,
            "id": event_id,
            "ts": event.ts,
            "received": event.received,
            "source": event.source,
            "data": event.data,
        }
    )
    return Frame(json, seq=seq, topic=event.topic, log=event.log, cursor=event_id)


def control(kind: str, fields: Mapping[str, object], cursor: str = "") -> Frame:
    """Return the frame of a control message; `req` is left out if it is None."""
    body = {"type": kind, **fields}
    if body.get("req", 0) is None:
        del body["req"]
    return Frame(orjson.dumps(body), event=kind, cursor=cursor)


def hole(topic: str, event_id: str, seq: int, start_ms: int, end_ms: int) -> Frame:
    """Return the `gap` of a source. It is a log event, so that a client that was away gets it when it comes back."""
    body = {"type": "gap", "topic": topic, "id": event_id, "reason": "upstream", "from": start_ms, "to": end_ms}
    return Frame(orjson.dumps(body), seq=seq, topic=topic, log=True, event="gap", cursor=event_id)


def goodbye(closing: Closing, after_ms: int) -> Frame:
    """Return the last message before we close."""
    fields = {"code": closing.code, "reason": closing.reason, "reconnect": closing.reconnect, "after_ms": after_ms}
    return control("goodbye", fields)


def websocket_frame(head: int, payload: bytes) -> bytes:
    """Return a whole unmasked WebSocket frame; `head` holds FIN and opcode."""
    size = len(payload)
    if size < 126:
        return b"%c%c%b" % (head, size, payload)
    if size < 1 << 16:
        return b"%c\x7e%b%b" % (head, size.to_bytes(2, "big"), payload)
    return b"%c\x7f%b%b" % (head, size.to_bytes(8, "big"), payload)


def arrays(frames: Iterable[Frame]) -> Iterator[bytes]:
    """Yield JSON arrays that hold all messages in order."""
    for portion in portions(frames):
        yield b"[%b]" % b",".join([frame.json for frame in portion])


def portions(frames: Iterable[Frame]) -> Iterator[list[Frame]]:
    """Yield frames in order, as many at a time as go into one message."""
    portion: list[Frame] = []
    size = 0
    for frame in frames:
        added = len(frame.json) + 1
        if portion and size + added > MAX_BATCH_BYTES:
            yield portion
            portion, size = [], 0
        portion.append(frame)
        size += added
    if portion:
        yield portion


def deflated_frame(payload: bytes) -> bytes:
    """Return a text frame, compressed where that pays. Source: RFC 7692, section 7.2.1.

    Each has a fresh context, so that all clients can share its bytes and none costs us a compressor.
    """
    if len(payload) < MIN_DEFLATE_BYTES:
        return websocket_frame(0x81, payload)
    deflater = zlib.compressobj(DEFLATE_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    data = deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH)
    return websocket_frame(0xC1, data[:-4])


def close_frame(code: int, reason: str = "") -> bytes:
    """Return a WebSocket close frame; the reason is cut to what a control frame holds."""
    text = reason.encode()[:120].decode(errors="ignore").encode()
    return websocket_frame(0x88, code.to_bytes(2, "big") + text)


def http_chunk(payload: bytes) -> bytes:
    """Return one chunk of a chunked HTTP body; no bytes for no payload, because an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(payload), payload) if payload else b""


PING = websocket_frame(0x89, b"")
SSE_HEARTBEAT = b":\n\n"

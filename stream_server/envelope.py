"""The wire format: one JSON text an event, and the bytes it becomes on each transport.

A `Frame` is encoded once, however many clients get it. Its wire forms are made when first asked for and kept.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum

import orjson

from feeds.model import Event


class Wire(StrEnum):
    """How bytes travel to one kind of client."""

    WEBSOCKET = "websocket"
    SSE = "sse"
    SSE_UNCHUNKED = "sse-unchunked"
    """For HTTP/1.0, which knows no chunks: the body ends with the connection."""

    def payload(self, frames: Iterable["Frame"]) -> bytes:
        """The bytes of one write that carries all these frames, in order."""
        match self:
            case Wire.WEBSOCKET:
                return b"".join([frame.websocket() for frame in frames])
            case Wire.SSE:
                return http_chunk(b"".join([frame.sse() for frame in frames]))
            case Wire.SSE_UNCHUNKED:
                return b"".join([frame.sse() for frame in frames])


class Frame:
    """One message. Updates have a `topic`; control messages an `event` name, and a `cursor` if they move it."""

    __slots__ = ("_sse", "_websocket", "cursor", "event", "json", "log", "seq", "topic")

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
        self._websocket: bytes | None = None
        self._sse: bytes | None = None

    def websocket(self) -> bytes:
        """An unmasked text frame. Source: RFC 6455, section 5.2."""
        if self._websocket is None:
            self._websocket = websocket_frame(0x81, self.json)
        return self._websocket

    def sse(self) -> bytes:
        """An event of `text/event-stream`. Its JSON holds no line break, so one `data:` line carries it."""
        if self._sse is None:
            cursor = b"id: %b\n" % self.cursor.encode() if self.cursor else b""
            event = b"event: %b\n" % self.event.encode() if self.event else b""
            self._sse = b"%b%bdata: %b\n\n" % (cursor, event, self.json)
        return self._sse


def update(event: Event, event_id: str, seq: int) -> Frame:
    """The frame of an event."""
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
    """The frame of a control message; `req` is left out where it is None."""
    body = {"type": kind, **fields}
    if body.get("req", 0) is None:
        del body["req"]
    return Frame(orjson.dumps(body), event=kind, cursor=cursor)


def websocket_frame(head: int, payload: bytes) -> bytes:
    """A whole unmasked WebSocket frame; `head` holds FIN and opcode."""
    size = len(payload)
    if size < 126:
        return b"%c%c%b" % (head, size, payload)
    if size < 1 << 16:
        return b"%c\x7e%b%b" % (head, size.to_bytes(2, "big"), payload)
    return b"%c\x7f%b%b" % (head, size.to_bytes(8, "big"), payload)


def close_frame(code: int, reason: str = "") -> bytes:
    """A WebSocket close frame; the reason is cut to what a control frame holds."""
    text = reason.encode()[:120].decode(errors="ignore").encode()
    return websocket_frame(0x88, code.to_bytes(2, "big") + text)


def http_chunk(payload: bytes) -> bytes:
    """One chunk of a chunked HTTP body; empty for nothing, because an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(payload), payload) if payload else b""


PING = websocket_frame(0x89, b"")
SSE_HEARTBEAT = b":\n\n"

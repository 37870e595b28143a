"""A fake transport whose buffer the test drains, and a hub with clients on such transports."""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from feeds.model import Event
from stream_server.delivery.hub import Hub, HubPolicy
from stream_server.delivery.outbox import HIGH_WATER_BYTES, Outbox
from stream_server.wire.messages import Wire
from stream_server.wire.refusals import Closing
from tests.fakes.clock import ManualClock

CLOGGED_BYTES = HIGH_WATER_BYTES + 1

Message = dict[str, object]


@dataclass(slots=True)
class Received:
    """One message as the client received it, on SSE with its `id:` and `event:`."""

    message: Message
    cursor: str = ""
    event: str = ""


@dataclass(slots=True)
class Reader:
    """Decode one client's bytes into messages; incomplete ones wait for more bytes."""

    wire: Wire
    received: list[Received] = field(default_factory=list)
    pings: int = 0
    comments: int = 0
    close_code: int | None = None
    _bytes: bytearray = field(default_factory=bytearray)
    _text: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> None:
        """Decode more bytes."""
        self._bytes += data
        match self.wire:
            case Wire.WEBSOCKET | Wire.WEBSOCKET_BATCH | Wire.WEBSOCKET_DEFLATE:
                while self._frame():
                    pass
            case Wire.SSE:
                while self._chunk():
                    pass
                self._events()
            case Wire.SSE_UNCHUNKED:
                self._text += self._bytes
                self._bytes.clear()
                self._events()

    def _frame(self) -> bool:
        if len(self._bytes) < 2:
            return False
        head, size = self._bytes[0], self._bytes[1]
        assert size < 128, "a server's frame is not masked"
        start = 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(self._bytes[2:start], "big")
        if len(self._bytes) < start + size:
            return False
        payload = bytes(self._bytes[start : start + size])
        del self._bytes[: start + size]
        match head:
            case 0x81:
                self._message(payload)
            case 0xC1:
                self._message(zlib.decompressobj(-zlib.MAX_WBITS).decompress(payload + b"\x00\x00\xff\xff"))
            case 0x88:
                self.close_code = int.from_bytes(payload[:2], "big")
            case 0x89:
                self.pings += 1
            case _:
                raise AssertionError(f"unexpected frame {head:#x}")
        return True

    def _message(self, text: bytes) -> None:
        content = orjson.loads(text)
        self.received += [Received(message) for message in (content if isinstance(content, list) else [content])]

    def _chunk(self) -> bool:
        line, found, rest = self._bytes.partition(b"\r\n")
        if not found:
            return False
        size = int(line, 16)
        assert size, "an empty chunk would end the body"
        if len(rest) < size + 2:
            return False
        assert rest[size : size + 2] == b"\r\n"
        self._text += rest[:size]
        self._bytes = rest[size + 2 :]
        return True

    def _events(self) -> None:
        while True:
            block, found, rest = self._text.partition(b"\n\n")
            if not found:
                return
            self._text = rest
            fields = dict(line.split(b": ", 1) for line in bytes(block).split(b"\n") if not line.startswith(b":"))
            if not fields:
                self.comments += 1
                continue
            cursor, event = fields.get(b"id", b"").decode(), fields.get(b"event", b"").decode()
            self.received.append(Received(orjson.loads(fields[b"data"]), cursor, event))


class FakePipe:
    """A `Pipe`. While `flowing` it delivers at once; a paused or clogged one delivers only through `drain`.

    `ballast` is a number of earlier bytes in the buffer that no client decodes.
    """

    def __init__(self, wire: Wire = Wire.WEBSOCKET) -> None:
        self.reader = Reader(wire)
        self.flowing = True
        self.ballast = 0
        self.unread = bytearray()
        self.writes = 0
        self.closing: Closing | None = None
        self.stuck_s: float | None = None
        self.closed_times = 0
        self.watcher: Outbox | None = None

    def watched_by(self, outbox: Outbox) -> None:
        """Notify an outbox when the buffer is full and when it has room again, as a transport notifies its protocol."""
        self.watcher = outbox
        outbox.watch(self.write)

    def _tell(self) -> None:
        if self.watcher is not None and self.buffered() > HIGH_WATER_BYTES:
            self.watcher.clogged()
        elif self.watcher is not None and self.buffered() <= HIGH_WATER_BYTES // 4:
            self.watcher.cleared()

    # --- the server's side ---

    def write(self, data: bytes) -> None:
        """Accept bytes; drop them after the end, as a real transport does."""
        if self.closing is not None:
            return
        self.writes += 1
        if self.flowing:
            self.reader.feed(data)
        else:
            self.unread += data
            self._tell()

    def buffered(self) -> int:
        """Return the number of bytes that the client has not read."""
        return self.ballast + len(self.unread)

    def close(self, closing: Closing, stuck_s: float) -> None:
        """Record the reason, the number of calls, and how long the client may take to read."""
        self.closing, self.stuck_s = closing, stuck_s
        self.closed_times += 1

    def abort(self) -> None:
        """Close at once."""
        self.flowing = False

    # --- controls for the test ---

    def pause(self) -> None:
        """Stop delivering."""
        self.flowing = False

    def clog(self, ballast: int = CLOGGED_BYTES) -> None:
        """Stop delivering, with more bytes in the buffer than the high-water mark."""
        self.flowing = False
        self.ballast = max(self.ballast, ballast)
        self._tell()

    def drain(self, size: int | None = None) -> None:
        """Deliver so many bytes, or all; an empty buffer flows again."""
        size = self.buffered() if size is None else min(size, self.buffered())
        from_ballast = min(size, self.ballast)
        self.ballast -= from_ballast
        size -= from_ballast
        data = bytes(self.unread[:size])
        del self.unread[:size]
        self.reader.feed(data)
        if not self.buffered():
            self.flowing = True
        self._tell()

    # --- the client's side ---

    @property
    def messages(self) -> list[Message]:
        """Every message received so far."""
        return [received.message for received in self.reader.received]

    def close_code(self) -> int | None:
        """The server's close code; None while the pipe is open."""
        return self.closing.code if self.closing is not None else None

    def of_type(self, kind: str) -> list[Message]:
        """Return the messages of one type."""
        return [message for message in self.messages if message["type"] == kind]

    def take(self) -> list[Message]:
        """Return the messages since the last `take`."""
        messages = self.messages
        self.reader.received.clear()
        return messages


class FakeDemand:
    """Record the hub's demand; `brought` are the topics that `drop` reports as fed."""

    def __init__(self) -> None:
        self.wanted: list[str] = []
        self.dropped: list[str] = []
        self.brought: set[str] = set()

    def want(self, topic: str) -> None:
        self.wanted.append(topic)

    def drop(self, topic: str) -> bool:
        self.dropped.append(topic)
        return topic in self.brought

    def is_full(self) -> bool:
        return False

    def charge(self, topics: Iterable[str], account: str) -> list[str]:
        return []


class HubRig:
    """A hub on a manual clock, and clients on fake pipes."""

    def __init__(self, *, epoch: str = "e1", ttl_s: float | None = None, **policy: Any) -> None:
        self.clock = ManualClock()
        self.demand = FakeDemand()
        self.hub = Hub(epoch, self.clock, self.clock, self.demand, HubPolicy(lambda _: ttl_s, **policy))

    def client(self, wire: Wire = Wire.WEBSOCKET, *, watched: bool = False) -> "HubClient":
        """Connect a client; the pipe of a watched one notifies its outbox when the buffer is full."""
        pipe = FakePipe(wire)
        outbox = Outbox(pipe, wire)
        if watched:
            pipe.watched_by(outbox)
        self.hub.members.join(outbox)
        return HubClient(self.hub, pipe, outbox)

    def listener(self, *selectors: str, interval_ms: int = 0, wire: Wire = Wire.WEBSOCKET) -> "HubClient":
        """Connect a client that has subscribed and read the answer."""
        client = self.client(wire)
        client.subscribe(*selectors, interval_ms=interval_ms)
        client.take()
        return client

    def publish(self, topic: str, value: object = None, *, log: bool = False) -> str:
        """Publish an event; return its id. Clients receive it at `clock.turn()`."""
        now_ms = self.clock.wall_ms()
        self.hub.publish(Event(topic, now_ms, now_ms, "binance", {"value": value}, log))
        return self.hub.position

    def pass_time(self, seconds: float, step_s: float = 0.25) -> None:
        """Advance the clock and run the service's housekeeping."""
        for _ in range(round(seconds / step_s)):
            self.clock.advance(step_s)
            self.hub.tick()
            self.clock.turn()


@dataclass(slots=True)
class HubClient:
    """A connected client."""

    hub: Hub
    pipe: FakePipe
    outbox: Outbox

    def subscribe(self, *selectors: str, since: str | None = None, interval_ms: int = 0, req: object = None) -> None:
        """Subscribe to topics."""
        self.hub.subscribe(self.outbox, selectors, since, interval_ms, req)

    def take(self) -> list[Message]:
        """Return the messages since the last `take`."""
        return self.pipe.take()

    def outline(self) -> list[str]:
        """Return the messages since the last `take` in a word each: an update by its id, others by their type."""
        return [str(message["id"] if message["type"] == "update" else message["type"]) for message in self.take()]

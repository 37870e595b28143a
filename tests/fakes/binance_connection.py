"""One client's connection to the fake Binance, byte by byte: its HTTP, its WebSocket, its manners.

This module decides what a connection hears and says at the protocol's level, and whether the client keeps
Binance's limits. What the words mean is up to the exchange behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, cast

import orjson
from websockets.frames import Frame as WebSocketFrame
from websockets.frames import Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from tests.fakes.binance_faults import HTML_BODY, Hang, RestFault, Staged, Stall, Tamper
from tests.fakes.binance_wire import websocket_frame
from tests.fakes.http_wire import HttpRequest, http_date, http_response, parse_request

CLOSE_GRACE_S = 1.0  # real seconds a client has to answer our close frame
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends RST, not FIN
FAITHFUL = RestFault()  # no fault at all


class Rule(StrEnum):
    """A limit that a client can break."""

    MESSAGES_PER_SECOND = "messages_per_second"
    STREAMS_PER_CONNECTION = "streams_per_connection"
    HANDSHAKES = "handshakes"
    PONG = "pong"
    BACKLOG = "backlog"
    REQUEST_WEIGHT = "request_weight"


@dataclass(frozen=True, slots=True)
class Limits:
    """Binance's limits; times in seconds of the connection clock."""

    messages_per_s: int = 5
    streams: int = 1024
    handshakes: int = 300
    handshakes_within_s: float = 300.0
    ping_every_s: float = 20.0
    pong_within_s: float = 60.0
    life_s: float = 86_400.0
    weight_per_minute: int = 6_000
    refusals_before_ban: int = 10  # 429s ignored in one minute before 418
    ban_s: float = 120.0
    backlog_bytes: int = 64 * 1024 * 1024  # unsent, then a slow reader is cut
    time_scale: float = 1.0  # connection-clock seconds in a real second


@dataclass(frozen=True, slots=True)
class Message:
    """One frame received from a client."""

    at_s: float
    kind: str  # "text", "binary", "ping", "pong"
    payload: bytes

    @property
    def request(self) -> dict[str, object]:
        """The control request in it; empty if it is none."""
        if self.kind != "text":
            return {}
        try:
            request = orjson.loads(self.payload)
        except orjson.JSONDecodeError:
            return {}
        return request if isinstance(request, dict) else {}


@dataclass(frozen=True, slots=True)
class Handshake:
    """One attempt to open a WebSocket; `status` 0 if it was never answered."""

    at_s: float
    target: str
    status: int


@dataclass(frozen=True, slots=True)
class RestRequest:
    """One REST request as it was asked and answered; `status` 0 if it was never answered."""

    at_s: float
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    status: int


@dataclass(frozen=True, slots=True)
class Violation:
    """A limit broken by a client."""

    at_s: float
    rule: Rule
    detail: str


def now_s() -> float:
    """The loop's own clock, in which timers are set."""
    return asyncio.get_running_loop().time()


def busiest_second(moments: Iterable[float]) -> int:
    """The most moments that lie within any one second."""
    window: deque[float] = deque()
    most = 0
    for at_s in sorted(moments):
        window.append(at_s)
        while at_s - window[0] >= 1.0:
            window.popleft()
        most = max(most, len(window))
    return most


class Exchange(Protocol):
    """What a connection needs of the exchange behind it."""

    limits: Limits
    stall: Stall

    @property
    def now_ms(self) -> int: ...
    @property
    def clock_s(self) -> float: ...
    def connected(self, connection: Connection) -> None: ...
    def disconnected(self, connection: Connection) -> None: ...
    def handshake(self, connection: Connection, request: HttpRequest, head: bytes) -> None: ...
    def control(self, connection: Connection, message: Message) -> None: ...
    def rest(self, connection: Connection, request: HttpRequest) -> None: ...
    def violated(self, rule: Rule, detail: str) -> None: ...
    def changed(self) -> None: ...


class Connection(asyncio.Protocol):
    """One TCP connection: HTTP requests, and a WebSocket after a handshake. Also the test's handle on it."""

    def __init__(self, exchange: Exchange, number: int) -> None:
        self.number = number
        self.target = ""
        self.path = ""
        self.combined = False
        self.streams: dict[str, None] = {}
        self.messages: list[Message] = []
        self.stall = Stall.NONE
        self.opened_s: float | None = None
        self.closed = False
        self.close_code: int | None = None  # sent by us, or received from the client if it closed first
        self.frames_sent = 0
        self.tampers: list[Staged[Tamper]] = []
        self._exchange = exchange
        self._transport: asyncio.Transport | None = None
        self._websocket: ServerProtocol | None = None
        self._buffer = b""
        self._replying = False
        self._timers: set[asyncio.TimerHandle] = set()
        self._recent: deque[float] = deque()
        self._fragments: list[bytes] = []
        self._unanswered: dict[bytes, float] = {}
        self.next_ping_s = 0.0

    # What a test may look at

    @property
    def is_open(self) -> bool:
        """Whether it is a WebSocket with an open state."""
        return not self.closed and self._websocket is not None and self._websocket.state is State.OPEN

    @property
    def controls(self) -> list[Message]:
        """The JSON requests received."""
        return [message for message in self.messages if message.request]

    @property
    def pings(self) -> list[Message]:
        return [message for message in self.messages if message.kind == "ping"]

    @property
    def pongs(self) -> list[Message]:
        return [message for message in self.messages if message.kind == "pong"]

    @property
    def busiest_second(self) -> int:
        """The most frames (control, ping, pong) received within any second of the connection clock."""
        return busiest_second(message.at_s for message in self.messages)

    # What a test may do

    def abort(self) -> None:
        """Reset the connection (TCP RST): the client sees 1006."""
        if self._transport is not None and not self.closed:
            raw = self._transport.get_extra_info("socket")
            if raw is not None:
                with contextlib.suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self._transport.abort()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close with a code; a client that does not answer is cut after a second. 1006 is a reset."""
        if code == 1006:
            self.abort()
        elif self.is_open and self._websocket is not None:
            self.close_code = code
            self._websocket.send_close(code, reason)
            self._flush_protocol()
            self.later(CLOSE_GRACE_S, self.abort)
        self._exchange.changed()

    def send_text(self, text: str | bytes) -> None:
        """Send one text frame as it is, valid or not, whether stalled or not."""
        self.send_frame(websocket_frame(text.encode() if isinstance(text, str) else text))

    def send_bytes(self, raw: bytes) -> None:
        """Put raw bytes on the wire."""
        self._write(raw)

    def reset_mid_frame(self) -> None:
        """Promise a frame of 1000 bytes, send 100, reset."""
        self._write(websocket_frame(b'{"e":"' + b"x" * 994)[:104])
        self.abort_when_sent()

    def tamper(self, tamper: Tamper) -> Staged[Tamper]:
        """Change the events of this connection alone."""
        staged = Staged(tamper)
        self.tampers.append(staged)
        return staged

    # TCP

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._exchange.connected(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self.closed = True
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._exchange.disconnected(self)

    def data_received(self, data: bytes) -> None:
        if self._websocket is None:
            self._buffer += data
            self._read_http()
        else:
            self._read_websocket(data)

    def later(self, delay_s: float, act: Callable[[], None]) -> None:
        """Act after real seconds, unless the connection is gone by then."""
        self._timers = {timer for timer in self._timers if not timer.cancelled() and timer.when() > now_s()}
        self._timers.add(asyncio.get_running_loop().call_later(delay_s, act))

    def abort_when_sent(self) -> None:
        """Reset once everything written has left."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size():
            self.later(0.002, self.abort_when_sent)
        else:
            self.later(0.002, self.abort)

    def _write(self, data: bytes) -> None:
        if self.closed or self._transport is None or self._transport.is_closing():
            return
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > self._exchange.limits.backlog_bytes:
            self._exchange.violated(Rule.BACKLOG, f"connection {self.number}")
            self.abort()

    # HTTP

    def _read_http(self) -> None:
        while not self._replying and self._websocket is None and b"\r\n\r\n" in self._buffer:
            head, _, rest = self._buffer.partition(b"\r\n\r\n")
            head += b"\r\n\r\n"
            try:
                request = parse_request(head)
                missing = request.body_bytes - len(rest)
            except ValueError:
                self._buffer = b""
                self.reply(400, {"Connection": "close"}, HTML_BODY.encode())
                return
            if missing > 0:
                return
            self._buffer = rest[request.body_bytes :]
            if request.wants_websocket:
                self._exchange.handshake(self, request, head)
            else:
                self._replying = True
                self._exchange.rest(self, request)

    def reply(self, status: int, headers: dict[str, str], body: bytes, fault: RestFault = FAITHFUL) -> None:
        """Send an HTTP reply, as crooked as `fault` wants it; then read the next request."""
        head, body = http_response(status, headers, body, self._exchange.now_ms)
        if fault.hang is Hang.BEFORE_HEAD:
            return
        if fault.hang is Hang.AFTER_HEAD:
            self._write(head)
            return
        if fault.hang is Hang.IN_BODY:
            self._write(head + body[: len(body) // 2])
            return
        ends = fault.cut_at is not None or fault.reset or headers.get("Connection") == "close"
        if fault.cut_at is not None:
            body = body[: fault.cut_at]
        if fault.drip_s is not None:
            self._write(head)
            self._drip(body, 0, fault.drip_s, ends, fault.reset)
            return
        self._write(head + body)
        self._replied(ends, fault.reset)

    def _drip(self, body: bytes, sent: int, drip_s: float, ends: bool, reset: bool) -> None:
        if sent == len(body):
            self._replied(ends, reset)
            return
        self._write(body[sent : sent + 1])
        self.later(drip_s, lambda: self._drip(body, sent + 1, drip_s, ends, reset))

    def _replied(self, ends: bool, reset: bool) -> None:
        self._replying = False
        if reset:
            self.abort_when_sent()
        elif ends and self._transport is not None:
            self._transport.close()
        else:
            self._read_http()

    # WebSocket

    def open_websocket(self, head: bytes) -> int:
        """Answer a handshake as the protocol demands; returns the status sent."""
        websocket = ServerProtocol(max_size=2**20)
        websocket.receive_data(head)
        events = websocket.events_received()
        if not events or not isinstance(events[0], Request):
            self.reply(400, {"Connection": "close"}, b"")
            return 400
        response = websocket.accept(events[0])
        del response.headers["Date"]
        response.headers["Date"] = http_date(self._exchange.now_ms)
        websocket.send_response(response)
        self._websocket = websocket
        self._flush_protocol()
        return response.status_code

    def read_the_rest(self) -> None:
        """Take in what the client sent right behind its handshake."""
        rest, self._buffer = self._buffer, b""
        if rest:
            self._read_websocket(rest)

    def _flush_protocol(self) -> None:
        """Send what the protocol itself wants to say (pongs, closes)."""
        assert self._websocket is not None
        for data in self._websocket.data_to_send():
            if data:
                self._write(data)
            elif self._transport is not None:
                self._transport.close()

    def _read_websocket(self, data: bytes) -> None:
        websocket = self._websocket
        assert websocket is not None
        if self.closed or websocket.state is State.CLOSED:
            return
        websocket.receive_data(data)
        events = [event for event in websocket.events_received() if isinstance(event, WebSocketFrame)]
        if self.stalled is Stall.ALL:
            websocket.data_to_send()  # the pong and the close we owe are never sent
        else:
            self._flush_protocol()
        for event in events:
            self._received(event)
        self._exchange.changed()

    def _received(self, event: WebSocketFrame) -> None:
        if event.opcode is Opcode.CLOSE:
            if self.close_code is None and self._websocket is not None:
                self.close_code = self._websocket.close_code
            return
        payload = bytes(event.data)
        if event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self._fragments.append(payload)
            if not event.fin:
                return
            payload = b"".join(self._fragments)
            self._fragments.clear()
        kind = {Opcode.PING: "ping", Opcode.PONG: "pong", Opcode.BINARY: "binary"}.get(event.opcode, "text")
        now_s = self._exchange.clock_s
        message = Message(now_s, kind, payload)
        self.messages.append(message)
        if self._too_many(now_s) or self.stalled is Stall.ALL:
            return
        if kind == "pong":
            self._answered(payload)
        elif kind in ("text", "binary"):
            self._exchange.control(self, message)

    def _too_many(self, now_s: float) -> bool:
        self._recent.append(now_s)
        while now_s - self._recent[0] >= 1.0:
            self._recent.popleft()
        if len(self._recent) <= self._exchange.limits.messages_per_s:
            return False
        if self.is_open:
            self._exchange.violated(Rule.MESSAGES_PER_SECOND, f"connection {self.number}")
            self.close(1008, "Too many requests")
        return True

    @property
    def stalled(self) -> Stall:
        """The worse of this connection's stall and the exchange's."""
        return max(self.stall, self._exchange.stall, key=list(Stall).index)

    def send_frame(self, frame: bytes) -> None:
        """Send an encoded frame, if the connection is open."""
        if self.is_open:
            self.frames_sent += 1
            self._write(frame)

    def send_json(self, value: object) -> None:
        self.send_text(orjson.dumps(value))

    # Pings and old age, on the connection clock

    def tend(self, now_s: float) -> None:
        """Ping if it is time; drop the client if it owes a pong for too long, or has lived its day."""
        if not self.is_open or self.opened_s is None or self._websocket is None:
            return
        limits = self._exchange.limits
        if now_s - self.opened_s >= limits.life_s:
            self.close(1001, "24h")
            return
        owed_s = next(iter(self._unanswered.values()), now_s)
        if now_s - owed_s >= limits.pong_within_s:
            self._exchange.violated(Rule.PONG, f"connection {self.number}")
            self.close(1008, "Pong timeout")
            return
        if now_s >= self.next_ping_s:
            self.next_ping_s = now_s + limits.ping_every_s
            if self.stalled is not Stall.ALL:
                self.ping()

    def ping(self) -> None:
        """Send a ping now; its pong is expected within the limit."""
        if self.is_open and self._websocket is not None:
            payload = str(round(self._exchange.clock_s * 1e6) + len(self._unanswered)).encode()
            self._unanswered[payload] = self._exchange.clock_s
            self._websocket.send_ping(payload)
            self._flush_protocol()

    def next_due_s(self) -> float:
        """When `tend` has something to do."""
        limits = self._exchange.limits
        due_s = min(self.next_ping_s, (self.opened_s or 0.0) + limits.life_s)
        for owed_s in self._unanswered.values():
            return min(due_s, owed_s + limits.pong_within_s)
        return due_s

    def _answered(self, payload: bytes) -> None:
        if payload in self._unanswered:
            for earlier in list(self._unanswered):
                del self._unanswered[earlier]
                if earlier == payload:
                    break

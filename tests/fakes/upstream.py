"""A scriptable HTTP server on loopback, the base of the fakes of all HTTP providers.

A provider's fake mounts routes, which give the answers; the script decides how an answer travels: whole, late, damaged
or not at all. Every request is recorded before it is answered.

    async with FakeUpstream() as upstream:
        upstream.on("GET", "/ping", lambda call: Reply(b"{}"))
        upstream.script.append(Fault(status=429, headers={"Retry-After": "7"}))  # the next request only
        upstream.always = Fault(delay_s=5.0)                                     # then every one
        await upstream.kill()                                                    # refuse connections until revived
        await upstream.revive()

Each connection is a protocol with timers and no task, so that a test that ends during a hang leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http
import socket
import struct
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self, cast

import orjson

from tests.fakes.http_wire import HttpRequest, http_response, parse_request

HTML_PAGE = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>Checking you</body></html>"
BOMB_BYTES = 200 * 1024 * 1024
EXCESS_BYTES = 100
"""How many bytes more than it sends `declared_longer` announces."""

RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends RST, not FIN


@dataclass(frozen=True, slots=True)
class Call:
    """One request. A query parameter that is given twice has its last value."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    at: float
    """Seconds on the loop's clock."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A provider's answer; JSON unless its headers say otherwise."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fault:
    """How an answer differs from the true one. All parts are optional and can be combined.

    A `status` above 399 without a `body` replaces the true body by a small JSON error.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers that override those of the answer."""
    body: bytes | None = None
    delay_s: float = 0.0
    """Real seconds before the head."""
    drip_s: float | None = None
    """Real seconds between the bytes of the body, which is sent byte by byte."""
    hang: Literal["before_head", "after_head", "in_body"] | None = None
    """Where the answer stops forever; `in_body` is half way."""
    cut_at: int | None = None
    """Bytes of the body to send before the connection is closed."""
    reset: bool = False
    """Whether to end with a TCP reset: after `cut_at` bytes of the body, or instead of any answer."""
    html: bool = False
    """Whether to send an HTML page, with status 200 unless `status` is set."""
    bomb: bool = False
    """Whether to send less than 1 MB of gzip that unpacks to 200 MB of white space."""
    declared_longer: bool = False
    """Whether to announce more bytes than are sent before the connection is closed."""
    drift: Callable[[bytes], bytes] | None = None
    """A change of the true body; see `in_json`."""


FAITHFUL = Fault()


def in_json(change: Callable[[object], object]) -> Callable[[bytes], bytes]:
    """Return a drift that changes the parsed body, in place or by returning another."""

    def drift(body: bytes) -> bytes:
        parsed = orjson.loads(body)
        changed = change(parsed)
        return orjson.dumps(parsed if changed is None else changed)

    return drift


def wall_clock_ms() -> int:
    """Return the machine's wall time."""
    return time.time_ns() // 1_000_000


class FakeUpstream:
    """A server on a port of 127.0.0.1 for the time of an `async with` block.

    An exception in a route is answered with 500 and raised at the end of the block.
    """

    def __init__(self, wall_ms: Callable[[], int] = wall_clock_ms) -> None:
        self.wall_ms = wall_ms
        """Unix time for the `Date` header and for the timestamps of routes."""
        self.url = ""
        self.port = 0
        """The port to listen on; 0 is any free one."""
        self.calls: list[Call] = []
        self.script: deque[Fault] = deque()
        self.always: Fault | None = None
        self._routes: dict[tuple[str, str], Callable[[Call], Reply]] = {}
        self._connections: set[_Connection] = set()
        self._deserted = asyncio.Event()
        self._deserted.set()
        self._awaited: list[tuple[int, asyncio.Event]] = []
        self._port_holder: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._crashes: list[Exception] = []

    def on(self, method: str, path: str, reply: Callable[[Call], Reply]) -> None:
        """Answer a path with `reply`. A path that ends in `*` is a prefix; the longest match wins."""
        self._routes[method, path] = reply

    async def called(self, times: int, within_s: float = 30.0) -> None:
        """Wait until `times` calls were received in total. Raises: TimeoutError."""
        event = asyncio.Event()
        self._awaited.append((times, event))
        if len(self.calls) < times:
            async with asyncio.timeout(within_s):
                await event.wait()

    @property
    def alive(self) -> bool:
        """Whether connections are accepted."""
        return self._server is not None

    async def kill(self) -> None:
        """Reset all connections and refuse new ones."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for connection in list(self._connections):
            connection.reset()
        await server.wait_closed()
        await self._deserted.wait()  # connections end in the next turns of the loop

    async def revive(self) -> None:
        """Listen again, on the same port."""
        if self._server is None:
            assert self._port_holder is not None, "only inside the `async with` block"
            listening = _bound(self._port_holder.getsockname()[1])
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(lambda: _Connection(self), sock=listening, backlog=1024)

    async def __aenter__(self) -> Self:
        # Bound but not listening: reserves the port while connections are refused.
        self._port_holder = _bound(self.port)
        self.url = f"http://127.0.0.1:{self._port_holder.getsockname()[1]}"
        await self.revive()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.kill()
        if self._port_holder is not None:
            self._port_holder.close()
        if kind is None and self._crashes:
            raise self._crashes[0]

    # Called by connections

    def connected(self, connection: _Connection) -> None:
        self._connections.add(connection)
        self._deserted.clear()

    def disconnected(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._deserted.set()

    def answer(self, call: Call) -> tuple[Reply, Fault]:
        """Record the call; return the answer and its fault."""
        self.calls.append(call)
        for times, event in self._awaited:
            if len(self.calls) >= times:
                event.set()
        fault = self.script.popleft() if self.script else self.always or FAITHFUL
        try:
            return _spoiled(self._true_reply(call), fault), fault
        except Exception as crash:
            self._crashes.append(crash)
            return Reply(b'{"error":"the fake crashed"}', 500), FAITHFUL

    def _true_reply(self, call: Call) -> Reply:
        exact = self._routes.get((call.method, call.path))
        if exact is not None:
            return exact(call)
        beginnings = [
            path
            for method, path in self._routes
            if method == call.method and path.endswith("*") and call.path.startswith(path[:-1])
        ]
        if beginnings:
            return self._routes[call.method, max(beginnings, key=len)](call)
        return Reply(b'{"error":"not found"}', 404)


def _bound(port: int) -> socket.socket:
    """Bind a socket to a port (0: any free one) that other such sockets may share until one listens."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setblocking(False)
    bound.bind(("127.0.0.1", port))
    return bound


def _spoiled(reply: Reply, fault: Fault) -> Reply:
    """Return the answer with the changes of a fault; the connection applies delays and cuts."""
    status = reply.status if fault.status is None else fault.status
    headers = {"Content-Type": "application/json"}
    body = reply.body
    if fault.body is not None:
        body = fault.body
    elif fault.html:
        body = HTML_PAGE
        headers["Content-Type"] = "text/html; charset=utf-8"
        status = fault.status or 200
    elif fault.bomb:
        body = gzip_bomb()
        headers["Content-Encoding"] = "gzip"
    elif fault.status is not None and fault.status >= 400:
        body = orjson.dumps({"error": _phrase(fault.status)})
    else:
        headers = _merged(headers, reply.headers)
    if fault.drift is not None:
        body = fault.drift(body)
    headers = _merged(headers, fault.headers)
    if fault.declared_longer:
        headers = _merged(headers, {"Content-Length": str(len(body) + EXCESS_BYTES)})
    return Reply(body, status, headers)


def _merged(headers: Mapping[str, str], winning: Mapping[str, str]) -> dict[str, str]:
    """Merge headers, ignoring case."""
    names = {name.lower() for name in winning}
    return {name: value for name, value in headers.items() if name.lower() not in names} | dict(winning)


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "unknown"


@functools.cache
def gzip_bomb() -> bytes:
    """Return BOMB_BYTES of white space, gzipped."""
    chunk = b" " * (1024 * 1024)
    packer = zlib.compressobj(level=1, wbits=31)
    parts = [packer.compress(chunk) for _ in range(BOMB_BYTES // len(chunk))]
    return b"".join((*parts, packer.flush()))


class _Connection(asyncio.Protocol):
    """One TCP connection, which answers its requests one after another."""

    def __init__(self, upstream: FakeUpstream) -> None:
        self.upstream = upstream
        self.transport: asyncio.Transport | None = None
        self.loop = asyncio.get_running_loop()
        self.buffer = b""
        self.answering = False
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.upstream.connected(self)
        if not self.upstream.alive:
            self.reset()  # the connection was queued when the listening socket was closed

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        if self.timer is not None:
            self.timer.cancel()
        self.upstream.disconnected(self)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self.next_request()

    def reset(self) -> None:
        """Close with a TCP reset."""
        if self.transport is not None:
            raw = self.transport.get_extra_info("socket")
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self.transport.abort()

    def next_request(self) -> None:
        """Answer the first complete request in the buffer."""
        if self.answering or b"\r\n\r\n" not in self.buffer:
            return
        head, _, rest = self.buffer.partition(b"\r\n\r\n")
        try:
            request = parse_request(head)
            body_bytes = request.body_bytes
        except ValueError:
            self.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self.end()
            return
        if len(rest) < body_bytes:
            return
        self.buffer = rest[body_bytes:]
        self.answering = True
        self.answer(request, rest[:body_bytes])

    def answer(self, request: HttpRequest, sent: bytes) -> None:
        """Get the answer of a request, and send it with the faults of the script."""
        call = Call(request.method, request.path, dict(request.query), request.headers, sent, self.loop.time())
        reply, fault = self.upstream.answer(call)
        if fault.hang == "before_head":
            return
        head, body = http_response(reply.status, dict(reply.headers), reply.body, self.upstream.wall_ms())
        if fault.hang == "after_head":
            body = b""
        elif fault.hang == "in_body":
            body = body[: len(body) // 2]
        elif fault.cut_at is not None:
            body = body[: fault.cut_at]
        closing = "close" in (request.headers.get("connection"), reply.headers.get("Connection"))
        closing = closing or fault.cut_at is not None or fault.declared_longer

        def end() -> None:
            if fault.hang is not None:
                return
            if fault.reset:
                self.reset_when_sent()
            elif closing:
                self.end()
            else:
                self.answering = False
                self.next_request()

        def begin() -> None:
            if fault.reset and fault.cut_at is None:
                self.reset()
            elif fault.drip_s is None:
                self.write(head + body)
                end()
            else:
                self.write(head)
                self.drip(body, fault.drip_s, end)

        if fault.delay_s > 0:
            self.later(fault.delay_s, begin)
        else:
            begin()

    def drip(self, body: bytes, pause_s: float, then: Callable[[], None]) -> None:
        """Send a byte now and the others later."""
        self.write(body[:1])
        if len(body) > 1:
            self.later(pause_s, lambda: self.drip(body[1:], pause_s, then))
        else:
            then()

    def write(self, data: bytes) -> None:
        """Send bytes, unless the client is gone."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def later(self, delay_s: float, act: Callable[[], None]) -> None:
        """Call `act` after real seconds, unless the client is gone by then."""
        if self.transport is not None:
            self.timer = self.loop.call_later(delay_s, act)

    def end(self) -> None:
        """Close when everything is sent."""
        if self.transport is not None:
            self.transport.close()

    def reset_when_sent(self) -> None:
        """Reset when everything is sent and the client had a moment to read it."""
        if self.transport is not None and self.transport.get_write_buffer_size():
            self.later(0.002, self.reset_when_sent)
        else:
            self.later(0.002, self.reset)

"""Hostile clients: attacks drawn from a seed, none of which expects an answer."""

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Awaitable, Callable

UPGRADE = (
    b"GET /ws%b HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
STORM = 150


class RawConnection:
    """A raw TCP connection to the service."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int, buffer_bytes: int | None = None) -> "RawConnection":
        """Connect; with a small receive buffer, unread bytes stay with the server."""
        connection = socket.socket()
        if buffer_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=connection, limit=2048)
        return cls(reader, writer)

    async def upgrade(self, query: bytes = b"") -> None:
        """Send a WebSocket handshake and read the answer."""
        self.writer.write(UPGRADE % query)
        await self.reader.readuntil(b"\r\n\r\n")

    def frame(self, head: int, payload: bytes = b"", *, masked: bool = True) -> None:
        """Send a frame; its mask is zero, so the payload is not changed."""
        if self.writer.is_closing():
            return
        size, bit = len(payload), 0x80 if masked else 0
        length = bytes([bit | size]) if size < 126 else bytes([bit | 127]) + size.to_bytes(8, "big")
        self.writer.write(bytes([head]) + length + (bytes(4) if masked else b"") + payload)

    def close(self, *, reset: bool = False) -> None:
        """Close the connection, with a TCP reset if `reset`."""
        connection = self.writer.get_extra_info("socket")
        if reset and connection is not None and connection.fileno() >= 0:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.writer.transport.abort()


Attack = Callable[[RawConnection, random.Random], Awaitable[None]]


async def _random_bytes(connection: RawConnection, rng: random.Random) -> None:
    connection.writer.write(rng.randbytes(rng.randrange(1, 5000)))
    await asyncio.sleep(rng.random())


async def _half_a_handshake(connection: RawConnection, rng: random.Random) -> None:
    connection.writer.write(UPGRADE[: rng.randrange(1, 100)])
    await asyncio.sleep(rng.uniform(0.0, 12.0))


async def _slow_head(connection: RawConnection, rng: random.Random) -> None:
    for byte in b"GET /api/status HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 30:
        if connection.writer.is_closing():
            return
        connection.writer.write(bytes([byte]))
        await asyncio.sleep(0.3)


async def _slow_body(connection: RawConnection, rng: random.Random) -> None:
    connection.writer.write(b"POST /api/sentiment/analyze HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n{")
    await asyncio.sleep(rng.uniform(1.0, 13.0))


async def _bad_frames(connection: RawConnection, rng: random.Random) -> None:
    await connection.upgrade(b"?topics=price.BTC")
    match rng.randrange(6):
        case 0:
            connection.frame(0x81, b"{}", masked=False)
        case 1:
            connection.frame(0x81, b"x" * 70_000)
        case 2:
            connection.frame(rng.randrange(256), rng.randbytes(rng.randrange(100)))
        case 3:
            connection.writer.write(b"\x81\xff" + (1 << 62).to_bytes(8, "big") + bytes(4))
        case 4:
            connection.frame(0x81, b"\xff\xfe")
        case _:
            connection.writer.write(rng.randbytes(300))
    await asyncio.sleep(rng.random())


async def _nonsense(connection: RawConnection, rng: random.Random) -> None:
    await connection.upgrade()
    for _ in range(rng.randrange(1, 120)):
        connection.frame(0x81, rng.choice(MESSAGES))
        await asyncio.sleep(0.02)


async def _flood(connection: RawConnection, rng: random.Random) -> None:
    await connection.upgrade()
    for number in range(200):
        connection.frame(rng.choice((0x81, 0x89, 0x8A)), b'{"op":"ping","req":%d}' % number)
    await asyncio.sleep(0.5)


async def _many_topics(connection: RawConnection, rng: random.Random) -> None:
    await connection.upgrade()
    names = b",".join(b'"ohlcv.%b.%b"' % (rng.choice(BASES), rng.choice(SPANS)) for _ in range(40))
    connection.frame(0x81, b'{"op":"subscribe","topics":[%b]}' % names)
    await asyncio.sleep(rng.uniform(0.1, 3.0))
    connection.frame(0x81, b'{"op":"unsubscribe","topics":[%b]}' % names)
    await asyncio.sleep(rng.uniform(0.0, 3.0))


async def _bad_cursor(connection: RawConnection, rng: random.Random) -> None:
    cursor = rng.choice((b"x", b"zzzzzz-1", b"%00", b"-1", b"a-99999999999999999", b"1" * 8000, b"%0d%0aX:%20y"))
    path = rng.choice((b"/sse?topics=news&since=", b"/sse?topics=price.BTC&last_event_id="))
    connection.writer.write(b"GET %b%b HTTP/1.1\r\nHost: x\r\nLast-Event-ID: %b\r\n\r\n" % (path, cursor, cursor[:100]))
    await asyncio.sleep(rng.uniform(0.1, 2.0))


async def _many_headers(connection: RawConnection, rng: random.Random) -> None:
    headers = b"".join(b"X-%d: %b\r\n" % (number, b"y" * rng.randrange(200)) for number in range(200))
    connection.writer.write(b"GET /api/status HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n")
    await asyncio.sleep(0.2)


async def _reads_nothing(connection: RawConnection, rng: random.Random) -> None:
    """Read nothing, and perhaps send requests all the time."""
    await connection.upgrade(b"?topics=%3E")
    sends_requests = rng.random() < 0.5
    for _ in range(rng.randrange(5, 40)):
        if sends_requests:
            connection.frame(0x81, b'{"op":"snapshot","topics":["price.*"]}')
        await asyncio.sleep(0.5)


async def _sse_reads_nothing(connection: RawConnection, rng: random.Random) -> None:
    connection.writer.write(b"GET /sse?topics=%3E HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.sleep(rng.uniform(3.0, 25.0))


ATTACKS: tuple[Attack, ...] = (
    _random_bytes,
    _half_a_handshake,
    _slow_head,
    _slow_body,
    _bad_frames,
    _nonsense,
    _flood,
    _many_topics,
    _bad_cursor,
    _many_headers,
    _reads_nothing,
    _sse_reads_nothing,
)
BASES = (b"BTC", b"ETH", b"BNB", b"SOL", b"XRP", b"DOGE", b"NOPE")
SPANS = (b"1m", b"3m", b"5m", b"15m", b"30m", b"1h", b"4h", b"1d", b"7m")
MESSAGES = (
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"op":"x"}',
    b'{"op":"subscribe"}',
    b'{"op":"subscribe","topics":"price.BTC"}',
    b'{"op":"subscribe","topics":["price.BTC"],"since":7}',
    b'{"op":"subscribe","topics":["price.BTC"],"since":"zz-1","interval_ms":1e999}',
    b'{"op":"subscribe","topics":["price.BTC"],"interval_ms":250,"batch":true}',
    b'{"op":"snapshot","topics":[">"],"req":"again"}',
    b"[" * 5000,
)


async def attack_forever(port: int, rng: random.Random) -> None:
    """Run one attack after another, forever."""
    while True:
        attack = rng.choice(ATTACKS)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            connection = await RawConnection.open(
                port, 4096 if attack in (_reads_nothing, _sse_reads_nothing) else None
            )
            try:
                async with asyncio.timeout(45):
                    await attack(connection, rng)
            finally:
                connection.close(reset=rng.random() < 0.5)
        await asyncio.sleep(rng.uniform(0.0, 1.0))


async def connection_storms(port: int, rng: random.Random, every_s: float) -> None:
    """Open many connections at once, again and again, and close them after a moment."""

    async def one() -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            connection = await RawConnection.open(port)
            try:
                async with asyncio.timeout(5):
                    await connection.upgrade(b"?topics=price.*,news")
                    await asyncio.sleep(rng.uniform(0.0, 3.0))
            finally:
                connection.close(reset=rng.random() < 0.5)

    while True:
        await asyncio.sleep(rng.uniform(0.5, 1.5) * every_s)
        await asyncio.gather(*[one() for _ in range(STORM)])

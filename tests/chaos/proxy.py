"""A TCP proxy that injects faults: latency, low bandwidth, small slices, resets, black holes, refusal.

    async with ChaosProxy(exchange.port) as proxy:
        service = start(f"ws://127.0.0.1:{proxy.port}")
        proxy.black_hole()  # open connections carry no more bytes; TCP stays up

It runs in the event loop of the test and draws its randomness from a seed. Bytes keep their order. A fault applies to
the open connections, the settings in `Path` to all, and `down` to new ones.
"""

import asyncio
import contextlib
import random
import socket
import struct
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Self

CHUNK_BYTES = 64 * 1024
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER with a timeout of zero: closing sends a reset."""


class Way(StrEnum):
    """Direction of bytes."""

    TO_CLIENT = "to_client"
    TO_TARGET = "to_target"


BOTH_WAYS = tuple(Way)


@dataclass(slots=True)
class Path:
    """Conditions for every byte. None and 0 mean none."""

    latency_s: float = 0.0
    jitter_s: float = 0.0
    """Random delay on top of `latency_s`, for each piece; no piece overtakes another."""
    bytes_per_s: float | None = None
    slice_bytes: int | None = None
    """Largest piece: bytes are written in pieces of random size, from 1 to this."""


@dataclass(slots=True)
class Lane:
    """One direction of one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    queue: asyncio.Queue[tuple[float, bytes]] = field(default_factory=asyncio.Queue)
    passed: int = 0
    """Bytes that were passed on."""
    hole_at: int | None = None
    """Position after which all bytes are dropped."""
    reset_at: int | None = None
    newest_due: float = 0.0


class Link:
    """One client's connection through the proxy."""

    def __init__(self, lanes: dict[Way, Lane]) -> None:
        self.lanes = lanes
        self.is_open = True

    def black_hole(self, *ways: Way, after_bytes: int = 0) -> None:
        """Drop all bytes after the next `after_bytes`, both ways unless some are named. TCP stays up."""
        for way in ways or BOTH_WAYS:
            lane = self.lanes[way]
            lane.hole_at = lane.passed + after_bytes

    def reset(self, *, after_bytes: int = 0, way: Way = Way.TO_CLIENT) -> None:
        """Reset both ends, now or after `after_bytes` more bytes one way."""
        if after_bytes:
            self.lanes[way].reset_at = self.lanes[way].passed + after_bytes
        else:
            self.end(by_reset=True)

    def half_close(self, way: Way) -> None:
        """Send EOF in one direction and drop its further bytes; the other direction goes on."""
        lane = self.lanes[way]
        lane.hole_at = lane.passed
        if lane.writer.can_write_eof():
            lane.writer.write_eof()

    def end(self, *, by_reset: bool) -> None:
        """Close both sockets: with a reset at once, or after the buffers are flushed."""
        self.is_open = False
        for lane in self.lanes.values():
            if by_reset:
                _reset(lane.writer)
            else:
                lane.writer.close()


class ChaosProxy:
    """Forward connections from a loopback port to `(host, port)`; a context manager."""

    def __init__(self, port: int, host: str = "127.0.0.1", *, seed: int = 0, path: Path | None = None) -> None:
        self.target = (host, port)
        self.rng = random.Random(f"proxy:{seed}")
        self.path = path or Path()
        self.port = 0
        self.links: list[Link] = []
        self.accepted = 0
        self.swallow_new = False
        """Whether new connections are accepted and led nowhere."""
        self._server: asyncio.Server | None = None
        self._reservation: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        # Reserve the port while the proxy is down, so that no other process gets it.
        self._reservation = socket.socket()
        self._reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reservation.bind(("127.0.0.1", 0))
        self.port = self._reservation.getsockname()[1]
        await self.up()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.down()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._reservation is not None:
            self._reservation.close()

    @property
    def open_links(self) -> list[Link]:
        """The open connections."""
        return [link for link in self.links if link.is_open]

    # --- trouble ---

    def black_hole(self, *ways: Way, after_bytes: int = 0) -> None:
        """Drop all bytes on open connections after the next `after_bytes`, both ways unless some are named."""
        for link in self.open_links:
            link.black_hole(*ways, after_bytes=after_bytes)

    def reset(self, *, after_bytes: int = 0, way: Way = Way.TO_CLIENT) -> None:
        """Reset the open connections, now or after `after_bytes` more bytes one way."""
        for link in self.open_links:
            link.reset(after_bytes=after_bytes, way=way)

    def half_close(self, way: Way) -> None:
        """Close one direction of the open connections."""
        for link in self.open_links:
            link.half_close(way)

    async def down(self) -> None:
        """Refuse new connections, and reset the open ones."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        self.reset()

    async def up(self) -> None:
        """Accept again, on the same port."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, reuse_address=True)

    # --- passing on ---

    async def route(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, int] | None:
        """Return the target of a client, or None to close its connection. Proxies with a protocol override it."""
        return self.target

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a client in a task of our own: asyncio reports a cancelled task of its own as an unhandled error."""
        self.accepted += 1
        task = asyncio.create_task(self._handle(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self.swallow_new:
                while await reader.read(CHUNK_BYTES):
                    pass
                return
            target = await self.route(reader, writer)
            if target is not None:
                await self._relay(reader, writer, target)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: tuple[str, int]) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*target)
        except OSError:
            _reset(writer)
            return
        lanes = {Way.TO_CLIENT: Lane(far_reader, writer), Way.TO_TARGET: Lane(reader, far_writer)}
        link = Link(lanes)
        self.links.append(link)
        try:
            async with asyncio.TaskGroup() as group:
                for lane in lanes.values():
                    group.create_task(self._read(lane))
                    group.create_task(self._write(link, lane))
        except* (OSError, _Ended):
            link.end(by_reset=True)
        finally:
            if link.is_open:
                link.end(by_reset=False)
            far_writer.close()

    async def _read(self, lane: Lane) -> None:
        """Read bytes, and queue them with the time at which they are due."""
        clock = asyncio.get_running_loop()
        while True:
            data = await lane.reader.read(CHUNK_BYTES)
            late_s = self.path.latency_s + self.rng.uniform(0.0, self.path.jitter_s)
            lane.newest_due = max(lane.newest_due, clock.time() + late_s)
            lane.queue.put_nowait((lane.newest_due, data))
            if not data:
                return

    async def _write(self, link: Link, lane: Lane) -> None:
        """Write queued bytes when they are due, as fast as the path allows."""
        clock = asyncio.get_running_loop()
        while True:
            due, data = await lane.queue.get()
            if due > clock.time():
                await asyncio.sleep(due - clock.time())
            if not data:
                if lane.hole_at is None and lane.writer.can_write_eof():
                    lane.writer.write_eof()
                return
            while data:
                piece, data = self._cut(lane, data)
                if lane.hole_at is not None and lane.passed >= lane.hole_at:
                    break
                lane.writer.write(piece)
                await lane.writer.drain()
                lane.passed += len(piece)
                if lane.reset_at is not None and lane.passed >= lane.reset_at:
                    raise _Ended
                if self.path.bytes_per_s is not None:
                    await asyncio.sleep(len(piece) / self.path.bytes_per_s)
                elif self.path.slice_bytes is not None:
                    await asyncio.sleep(0)

    def _cut(self, lane: Lane, data: bytes) -> tuple[bytes, bytes]:
        """Split data into the next piece and the rest; a piece ends where a fault begins."""
        size = len(data)
        if self.path.slice_bytes is not None:
            size = min(size, self.rng.randint(1, self.path.slice_bytes))
        if self.path.bytes_per_s is not None:
            size = min(size, max(1, round(self.path.bytes_per_s / 20)))
        for end in (lane.hole_at, lane.reset_at):
            if end is not None and end > lane.passed:
                size = min(size, end - lane.passed)
        return data[:size], data[size:]


class _Ended(Exception):
    """A lane has reached the byte after which its connection is reset."""


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection with a TCP reset."""
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    writer.transport.abort()

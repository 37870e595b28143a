"""Tests of the chaos proxy: how each fault looks at both ends of a connection. Timed tests run on virtual time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from tests.chaos import virtual
from tests.chaos.proxy import ChaosProxy, Path, Way

PAYLOAD = bytes(range(256)) * 40


@dataclass(slots=True)
class Target:
    """The far end of the proxy, which records the bytes it receives, with times, and how connections end."""

    port: int = 0
    pieces: list[tuple[float, bytes]] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def received(self) -> bytes:
        return b"".join(piece for _, piece in self.pieces)

    async def until(self, count: int) -> None:
        """Wait for this many bytes."""
        async with asyncio.timeout(30):
            while len(self.received) < count:
                self.news.clear()
                await self.news.wait()

    async def until_ended(self) -> str:
        async with asyncio.timeout(30):
            while not self.ends:
                self.news.clear()
                await self.news.wait()
        return self.ends[0]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            while data := await reader.read(65_536):
                self.pieces.append((asyncio.get_running_loop().time(), data))
                self.news.set()
            self.ends.append("eof")
        except ConnectionError:
            self.ends.append("reset")
        self.news.set()


@asynccontextmanager
async def target() -> AsyncIterator[Target]:
    made = Target()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for writer in made.writers:
            writer.close()


@asynccontextmanager
async def connected(
    path: Path | None = None, seed: int = 0
) -> AsyncIterator[tuple[Target, ChaosProxy, asyncio.StreamReader, asyncio.StreamWriter]]:
    async with target() as far, ChaosProxy(far.port, seed=seed, path=path) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        try:
            writer.write(b"!")
            await far.until(1)
            yield far, proxy, reader, writer
        finally:
            writer.close()


async def test_bytes_and_eof_pass_unchanged_both_ways() -> None:
    async with connected() as (far, _, reader, writer):
        writer.write(PAYLOAD)
        await far.until(1 + len(PAYLOAD))
        far.writers[0].write(PAYLOAD)
        assert await reader.readexactly(len(PAYLOAD)) == PAYLOAD
        writer.write_eof()
        assert await far.until_ended() == "eof"
        far.writers[0].write(b"last words")
        far.writers[0].close()
        assert await reader.read() == b"last words"
    assert far.received == b"!" + PAYLOAD


async def test_a_reset_reaches_both_ends() -> None:
    async with connected() as (far, proxy, reader, _):
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        assert await far.until_ended() == "reset"
        assert proxy.open_links == []


@pytest.mark.parametrize("way", list(Way))
async def test_a_connection_can_be_reset_at_an_exact_byte(way: Way) -> None:
    async with connected() as (far, proxy, reader, writer):
        proxy.reset(after_bytes=1000, way=way)
        sender = writer if way is Way.TO_TARGET else far.writers[0]
        sender.write(PAYLOAD)
        received = b""
        with pytest.raises(ConnectionResetError):
            while True:
                piece = await reader.read(65_536)
                assert piece, "ended without a reset"
                received += piece
        assert await far.until_ended() == "reset"
        received = far.received[1:] if way is Way.TO_TARGET else received
        assert PAYLOAD[:1000].startswith(received), "a reset may overtake unread bytes, but no byte comes after it"


async def test_a_half_close_ends_one_direction_and_leaves_the_other() -> None:
    async with connected() as (far, proxy, reader, writer):
        proxy.half_close(Way.TO_CLIENT)
        assert await reader.read() == b""
        writer.write(b"still here")
        await far.until(1 + len(b"still here"))
        assert far.ends == []


async def test_a_proxy_that_is_down_refuses_and_serves_again_on_its_port() -> None:
    async with connected() as (far, proxy, reader, _):
        await proxy.down()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", proxy.port)
        await proxy.up()
        _, again = await asyncio.open_connection("127.0.0.1", proxy.port)
        again.write(b"back")
        await far.until(1 + len(b"back"))
        again.close()


async def test_the_proxy_resets_a_client_when_its_target_does_not_listen() -> None:
    async with target() as far:
        pass
    async with ChaosProxy(far.port) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


@pytest.mark.parametrize("way", list(Way))
@pytest.mark.parametrize("after", [0, 1, 1000])
def test_a_black_hole_drops_one_way_from_an_exact_byte_on_without_closing(way: Way, after: int) -> None:
    async def journey() -> None:
        async with connected() as (far, proxy, reader, writer):
            proxy.black_hole(way, after_bytes=after)
            far.writers[0].write(PAYLOAD)
            writer.write(PAYLOAD)
            await asyncio.sleep(3600)
            received = bytes(reader._buffer)  # type: ignore[attr-defined]
            through = PAYLOAD[:after]
            assert received == (through if way is Way.TO_CLIENT else PAYLOAD)
            assert far.received[1:] == (through if way is Way.TO_TARGET else PAYLOAD)
            assert far.ends == []
            assert not reader.at_eof()

    virtual.run(journey())


def test_a_black_hole_applies_to_open_connections_and_swallow_new_to_later_ones() -> None:
    async def journey() -> None:
        async with connected() as (far, proxy, _, writer):
            proxy.black_hole()
            _, second = await asyncio.open_connection("127.0.0.1", proxy.port)
            second.write(b"second")
            await far.until(1 + len(b"second"))
            proxy.swallow_new = True
            third_reader, third = await asyncio.open_connection("127.0.0.1", proxy.port)
            third.write(b"third")
            writer.write(b"first")
            await asyncio.sleep(3600)
            assert far.received == b"!second"
            assert not third_reader.at_eof()
            second.close()
            third.close()

    virtual.run(journey())


def test_latency_and_jitter_delay_each_piece_and_keep_their_order() -> None:
    async def journey() -> list[float]:
        async with connected(Path(latency_s=2.0, jitter_s=1.0), seed=3) as (far, _, _, writer):
            loop = asyncio.get_running_loop()
            sent = []
            for number in range(20):
                sent.append(loop.time())
                writer.write(bytes([number]) * 3)
                await asyncio.sleep(0.25)
            await far.until(61)
            assert far.received[1:] == b"".join(bytes([number]) * 3 for number in range(20))
            came = {number: at for at, piece in far.pieces[1:] for number in piece}
            late = [came[number] - began for number, began in enumerate(sent)]
            assert all(2.0 <= each <= 3.5 for each in late)
            return late

    late = virtual.run(journey())
    assert len(set(late)) > 3, "jitter"
    assert virtual.run(journey()) == late, "the same seed gives the same delays"


def test_a_bandwidth_limit_slows_the_bytes_down() -> None:
    async def journey() -> None:
        async with connected(Path(bytes_per_s=1024)) as (far, _, _, writer):
            began = asyncio.get_running_loop().time()
            writer.write(PAYLOAD)
            await far.until(1 + len(PAYLOAD))
            took_s = asyncio.get_running_loop().time() - began
            assert 9.5 <= took_s <= 10.5
            assert far.received[1:] == PAYLOAD

    virtual.run(journey())


def test_slices_are_small_writes_of_sizes_drawn_from_the_seed() -> None:
    async def journey() -> list[int]:
        async with connected(Path(slice_bytes=7, latency_s=0.1), seed=1) as (far, proxy, _, writer):
            far.pieces.clear()
            proxy.path.bytes_per_s = 1e6  # keep the pieces apart
            writer.write(PAYLOAD[:500])
            await far.until(500)
            assert far.received == PAYLOAD[:500]
            return [len(piece) for _, piece in far.pieces]

    sizes = virtual.run(journey())
    assert max(sizes) <= 7
    assert len(set(sizes)) == 7
    assert virtual.run(journey()) == sizes

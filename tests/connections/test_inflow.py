"""Tests that what clients send is read a little at a time, and not at all after they have been sent away."""

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.intervals import INTERVALS
from stream_server.connections import inflow, lingering, transport
from stream_server.connections.aiohttp_connection import Metered
from stream_server.connections.inflow import STEPS_A_TURN
from stream_server.connections.light_websocket import LightWebSocket
from stream_server.connections.turnstile import TURN_S, Turnstile
from stream_server.wire.frames import Opcode
from tests.connections.test_hostile_clients import Raw, closed_with, raw
from tests.framing import Framing
from tests.harness import Running, running

LIMIT = 16 * 1024
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, deflated: bool = False) -> bytes:
    """Return a client's frame with a mask of zeros."""
    if deflated:
        deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        payload = (deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]
    head = opcode | 0x80 * fin | 0x40 * deflated
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes([head]) + length + bytes(4) + payload


BOMB = frame(0x1, b" " * LIMIT, deflated=True)
"""Forty bytes that inflate to the longest message that is allowed."""


@given(st.lists(st.sampled_from([frame(0x1, b"{}"), frame(0xA), BOMB]), max_size=40), st.integers(1, 500))
def test_frames_after_our_close_frame_are_dropped_unread_up_to_the_close(frames: list[bytes], cut: int) -> None:
    reader = Framing(LIMIT, deflate=True)
    reader.away = True
    stream = b"".join(frames)
    for at in range(0, len(stream), cut):
        assert reader.feed(stream[at : at + cut]) == []
    (close,) = reader.feed(frame(0x8, (1000).to_bytes(2, "big")))
    assert close.opcode is Opcode.CLOSE


def test_the_socket_of_a_client_that_keeps_sending_after_our_close_frame_is_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inflow, "DROPPED_BYTES", 1000)
    reader = Framing(LIMIT, deflate=True)
    reader.away = True
    for sent in range(1, 2000):
        reader.feed(BOMB)
        assert reader.wire.reading is (sent * len(BOMB) <= 1000)
    assert reader.unread == b""


async def test_in_one_turn_few_messages_are_read_of_each_client_and_of_all_together() -> None:
    turnstile, taken = Turnstile(STEPS_A_TURN), [0]
    clients = [Framing(LIMIT, deflate=True) for _ in range(40)]
    for client in clients:
        client.turnstile = turnstile
        client.put(frame(0x1, b"{}") * 50)
    heard: list[int] = []
    while sum(heard) < 40 * 50:
        before = [len(client.messages) for client in clients]
        await asyncio.sleep(0)
        gained = [len(client.messages) - old for client, old in zip(clients, before, strict=True)]
        assert max(gained) <= -(-STEPS_A_TURN // len(clients))
        heard = [len(client.messages) for client in clients]
        taken.append(sum(heard))
        assert taken[-1] - taken[-2] <= STEPS_A_TURN
        # Nothing is added to the bytes that wait.
        assert not any(client.wire.reading for client in clients if client.at < len(client.unread))
    assert all(client.wire.reading for client in clients)


async def test_the_parts_of_one_message_are_read_in_turns_too() -> None:
    client = Framing(LIMIT, deflate=True)
    client.turnstile = Turnstile(STEPS_A_TURN)
    client.put(frame(0x1, fin=False) + frame(0x0, fin=False) * 900 + frame(0x0))
    turns = 0
    while not client.messages:
        parts = client.heads.parts
        await asyncio.sleep(0)
        assert client.heads.parts - parts <= inflow.FRAMES_A_STEP
        turns += 1
    assert turns >= 900 // inflow.FRAMES_A_STEP
    assert client.messages[0].parts == 902


async def test_an_entrant_that_takes_long_ends_the_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    turnstile, entered = Turnstile(STEPS_A_TURN), []
    now = [0.0]

    class Clock:
        time = staticmethod(lambda: now[0])
        call_soon = staticmethod(asyncio.get_running_loop().call_soon)

    monkeypatch.setattr(turnstile, "loop", Clock)

    class Slow:
        def enter(self) -> None:
            entered.append(1)
            now[0] += 2 * TURN_S

    for _ in range(5):
        turnstile.queue(Slow())
    for turn in range(1, 6):
        await asyncio.sleep(0)
        assert len(entered) == turn


# --- every way to be sent away, by both shells


@pytest.fixture(params=["light", "aiohttp"])
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Running]:
    """Run a service without an exchange, with each of the two WebSocket layers."""
    async with running(None, tmp_path, LIGHT_CONNECTIONS=str(int(request.param == "light"))) as service:
        yield service


def op(name: str, **fields: object) -> bytes:
    return frame(0x1, json.dumps({"op": name, **fields}).encode())


PATTERNS = [*(f"ohlcv.*.{each}" for each in INTERVALS), "price.*", "ohlcv.>", "sentiment.*", "gas.*", "chain.*"]
FLOOD = 200
"""Messages; so many exceed the rate also where a busy machine takes a second or two to read them."""
ENDINGS: dict[str, tuple[bytes, int]] = {
    "messages": (op("ping") * FLOOD, 4013),
    "pings": (frame(0x9) * FLOOD, 4013),
    "pongs that nobody asked for": (frame(0xA) * FLOOD, 4013),
    "binary frames": (frame(0x2) * FLOOD, 4013),
    "names": (op("subscribe", topics=[f"price.A{each}" for each in range(900)]) * 7, 4013),
    "deflated messages": (frame(0x1, b'{"op":"ping"}', deflated=True) * FLOOD, 4013),
    "parts": ((frame(0x1, fin=False) + frame(0x0, fin=False) * 1000 + frame(0x0)) * 6, 4013),
    "patterns": (op("subscribe", topics=PATTERNS), 4505),
    "a message too long": (b"\x81\xfe\xff\xff" + bytes(4), 1009),
    "an inflated message too long": (frame(0x1, b" " * (LIMIT + 2), deflated=True), 1009),
    "parts that never end": (frame(0x1, fin=False) + frame(0x0, fin=False) * 1100, 1009),
    "no mask": (b"\x81\x02{}", 1002),
    "what is not UTF-8": (frame(0x1, b"\xff"), 1007),
    "a close": (frame(0x8, (1000).to_bytes(2, "big")), 1000),
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_after_our_close_frame_nothing_more_of_a_client_is_read(
    either: Running, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening, code = ENDINGS[ending]
    for module in (lingering, transport):
        monkeypatch.setattr(module, "CLOSE_GRACE_S", 0.1)
    taken = [0]

    def counted(take: Callable[[Any, bytes], bool]) -> Callable[[Any, bytes], bool]:
        def counts(self: object, frame: bytes) -> bool:
            taken[0] += 1
            return take(self, frame)

        return counts

    for shell in (LightWebSocket, Metered):
        monkeypatch.setattr(shell, "take", counted(shell.take))
    async with raw(either) as client:
        client.send(HANDSHAKE)
        assert await client.status() == 101
        client.send(opening + BOMB * 2000)
        data = await ended(client)
    assert closed_with(data, code), data[-200:]
    # aiohttp's shell decides in a task of its own, a few turns after the frame has been read.
    assert taken[0] <= {"parts": 5010, "parts that never end": 1025}.get(ending, FLOOD) + 8


async def ended(client: Raw) -> bytes:
    """Return all that the service sent until it ended the connection, perhaps by a reset."""
    try:
        return await client.rest()
    except ConnectionError:
        return b""

"""The one heartbeat of all clients, and how clients are counted in and out."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from stream_server.delivery.clients import Client, Clients
from stream_server.wire.messages import Wire
from stream_server.wire.refusals import Closing
from tests.fakes.pipe import HubClient, HubRig

HEARTBEAT_S = 20.0


class Rig(HubRig):
    """A hub whose clients are counted and pinged."""

    def __init__(self, limit: int = 10, heartbeat_s: float = HEARTBEAT_S) -> None:
        super().__init__()
        self.clients = Clients(self.hub, self.clock, random.Random(1), limit, heartbeat_s)

    def connect(self, wire: Wire = Wire.WEBSOCKET) -> tuple[Client, HubClient]:
        connected = self.client(wire)
        return self.clients.join(connected.outbox), connected

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """Run the heartbeat while the block runs."""
        task = asyncio.create_task(self.clients.heartbeat())
        await asyncio.sleep(0)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def pass_seconds(self, seconds: float) -> None:
        """Turn the clock a quarter of a second at a time, and run the tasks that are woken."""
        for _ in range(round(seconds * 4)):
            self.clock.advance(0.25)
            for _ in range(3):
                await asyncio.sleep(0)


async def test_every_websocket_client_is_pinged_once_a_heartbeat() -> None:
    rig = Rig()
    everyone = [rig.connect(wire) for wire in (Wire.WEBSOCKET, Wire.WEBSOCKET_BATCH, Wire.WEBSOCKET_DEFLATE)]
    async with rig.beating():
        await rig.pass_seconds(15)
        for beat in range(3):
            assert [connected.pipe.reader.pings for _, connected in everyone] == [beat] * 3
            await rig.pass_seconds(9)
            for client, _ in everyone:
                client.pinged_at = None
            await rig.pass_seconds(HEARTBEAT_S - 9)


async def test_a_client_without_a_pong_in_ten_seconds_is_closed_with_4012() -> None:
    rig = Rig()
    (_, silent), (answering, alive) = rig.connect(), rig.connect()
    async with rig.beating():
        await rig.pass_seconds(21)
        answering.pinged_at = None
        await rig.pass_seconds(8)
        assert silent.pipe.close_code() is None
        await rig.pass_seconds(3)
    closing = silent.pipe.closing
    assert closing is not None and (closing.code, closing.reconnect, silent.pipe.closed_times) == (4012, True, 1)
    assert alive.pipe.close_code() is None
    assert silent.outbox not in rig.hub.members.by_outbox


async def test_a_pong_in_time_keeps_the_client_forever() -> None:
    rig = Rig()
    client, connected = rig.connect()
    async with rig.beating():
        for _ in range(30):
            await rig.pass_seconds(9)
            client.pinged_at = None
    assert connected.pipe.close_code() is None
    assert connected.pipe.reader.pings == 13


async def test_a_client_that_is_behind_is_not_pinged() -> None:
    rig = Rig()
    client, connected = rig.connect()
    connected.outbox.lagging = True
    async with rig.beating():
        await rig.pass_seconds(50)
        assert (client.pinged_at, connected.pipe.reader.pings) == (None, 0)
        connected.outbox.lagging = False
        await rig.pass_seconds(HEARTBEAT_S)
    assert connected.pipe.reader.pings == 1


@pytest.mark.parametrize("wire", [Wire.SSE, Wire.SSE_UNCHUNKED])
async def test_an_sse_client_gets_a_comment_every_fifteen_seconds_and_no_ping(wire: Wire) -> None:
    rig = Rig()
    client, connected = rig.connect(wire)
    async with rig.beating():
        await rig.pass_seconds(14)
        assert connected.pipe.reader.comments == 0
        await rig.pass_seconds(2)
        assert connected.pipe.reader.comments == 1
        await rig.pass_seconds(30)
    assert connected.pipe.reader.comments == 3
    assert (client.pinged_at, connected.pipe.closing, connected.pipe.messages) == (None, None, [])


async def test_an_sse_client_that_is_behind_gets_no_comment_on_top() -> None:
    rig = Rig()
    _, connected = rig.connect(Wire.SSE)
    connected.outbox.lagging = True
    async with rig.beating():
        await rig.pass_seconds(40)
    assert connected.pipe.writes == 0


async def test_a_heartbeat_of_a_second_beats_every_second() -> None:
    rig = Rig(heartbeat_s=1.0)
    client, connected = rig.connect()
    async with rig.beating():
        for _ in range(10):
            await rig.pass_seconds(1)
            client.pinged_at = None
    assert 8 <= connected.pipe.reader.pings <= 10


def test_clients_are_counted_by_transport_and_up_to_the_limit() -> None:
    rig = Rig(limit=4)
    joined = [rig.connect(wire)[0] for wire in (Wire.WEBSOCKET, Wire.WEBSOCKET_DEFLATE, Wire.SSE)]
    assert rig.clients.count() == {"websocket": 2, "sse": 1}
    assert not rig.clients.full()
    joined.append(rig.connect(Wire.SSE_UNCHUNKED)[0])
    assert rig.clients.full()
    rig.clients.leave(joined[0])
    rig.clients.leave(joined[0])
    assert not rig.clients.full()
    assert rig.clients.count() == {"websocket": 1, "sse": 2}
    assert joined[0].outbox not in rig.hub.members.by_outbox


async def test_dismissed_clients_each_get_4001_with_their_own_time_to_come_back() -> None:
    rig = Rig(limit=100)
    everyone = [rig.connect() for _ in range(50)]
    for client, connected in everyone:
        close = connected.pipe.close

        def close_and_leave(closing: Closing, stuck_s: float, close: Any = close, client: Client = client) -> None:
            close(closing, stuck_s)
            rig.clients.leave(client)

        connected.pipe.close = close_and_leave  # type: ignore[method-assign]
    await rig.clients.dismiss(within_s=5)
    assert {connected.pipe.closing and connected.pipe.closing.code for _, connected in everyone} == {4001}
    delays = [int(str(connected.pipe.of_type("goodbye")[0]["after_ms"])) for _, connected in everyone]
    assert len(set(delays)) > 25
    assert min(delays) >= 250
    assert delays != sorted(delays)

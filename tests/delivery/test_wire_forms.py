"""Tests of every wire form with clients of other projects, on light connections and on those of aiohttp."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection, connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from feeds.model import Event
from stream_server.wire import messages
from stream_server.wire.messages import MAX_BATCH_BYTES, MAX_EVENT_BYTES, MAX_MESSAGE_BYTES, MIN_DEFLATE_BYTES, Frame
from tests.harness import Running, running


@pytest.fixture(params=["1", "0"], ids=["light", "aiohttp"])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Running]:
    async with running(None, tmp_path, LIGHT_CONNECTIONS=request.param, OHLCV_SYMBOLS="none") as served:
        yield served


def publish(server: Running, count: int, padding: str = "x") -> list[str]:
    """Publish values of as many topics in one loop turn; returns their ids."""
    hub = server.context.hub
    now_ms = server.context.clock.wall_ms()
    ids = []
    for number in range(count):
        hub.publish(Event(f"price.S{number}", now_ms, now_ms, "test", {"n": number, "padding": padding}))
        ids.append(hub.position)
    return ids


def types(heard: list[dict[str, object]]) -> list[object]:
    return [message["type"] for message in heard]


async def test_a_frame_a_message_is_the_default_even_where_deflate_was_agreed(server: Running) -> None:
    async with connect(f"{server.ws_url}/ws?topics=price.*") as ws:
        assert [orjson.loads(await ws.recv())["type"] for _ in range(3)] == ["hello", "subscribed", "synced"]
        ids = publish(server, 50)
        assert [orjson.loads(await ws.recv())["id"] for _ in ids] == ids


@pytest.mark.parametrize("compression", ["deflate", None])
async def test_batched_a_write_is_one_json_array(server: Running, compression: str | None) -> None:
    async with connect(f"{server.ws_url}/ws?topics=price.*&batch=1", compression=compression) as ws:
        assert types(orjson.loads(await ws.recv())) == ["hello"]
        assert types(orjson.loads(await ws.recv())) == ["subscribed", "synced"]
        ids = publish(server, 50, padding="y" * 100)
        assert [message["id"] for message in orjson.loads(await ws.recv())] == ids


async def test_batches_are_compressed_once_and_only_where_that_pays(server: Running) -> None:
    sizes: list[int] = []
    async with server.http.ws_connect(f"{server.ws_url}/ws?topics=price.*&batch=1", compress=15) as ws:
        for _ in range(2):
            await ws.receive()
        before = server.context.hub.delivered
        publish(server, 50, padding="y" * 100)
        text = (await ws.receive()).data
        sizes.append(len(text))
        assert server.context.hub.delivered - before == 50
    assert sizes[0] > 10 * MIN_DEFLATE_BYTES
    assert len(orjson.loads(text)) == 50


async def test_a_client_with_a_small_window_gets_plain_frames_that_it_can_read(server: Running) -> None:
    small = ClientPerMessageDeflateFactory(server_max_window_bits=9)
    url = f"{server.ws_url}/ws?topics=price.*&batch=1"
    async with connect(url, compression=None, extensions=[small]) as ws:
        await ws.recv()
        await ws.recv()
        ids = publish(server, 50, padding="y" * 100)
        assert [message["id"] for message in orjson.loads(await ws.recv())] == ids


async def test_a_batch_stays_within_what_clients_take_for_one_message(server: Running) -> None:
    async with connect(f"{server.ws_url}/ws?topics=price.*&batch=1", compression=None) as ws:
        await ws.recv()
        await ws.recv()
        ids = publish(server, 300, padding="z" * 2000)
        got: list[str] = []
        while len(got) < len(ids):
            text = await ws.recv()
            assert len(text) <= MAX_BATCH_BYTES + 1000
            got += [message["id"] for message in orjson.loads(text)]
        assert got == ids


@given(st.lists(st.integers(0, MAX_EVENT_BYTES - 200) | st.integers(0, 3000), max_size=40))
@settings(max_examples=20)
def test_no_array_of_messages_is_longer_than_clients_take(lengths: list[int]) -> None:
    frames = [Frame(b'{"n":%d,"x":"%b"}' % (number, b"x" * length)) for number, length in enumerate(lengths)]
    texts = list(messages.arrays(frames))
    assert all(len(text) <= MAX_MESSAGE_BYTES for text in texts)
    assert [each["n"] for text in texts for each in orjson.loads(text)] == list(range(len(lengths)))


async def test_an_event_that_clients_would_not_take_is_logged_and_the_others_go_on(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    now_ms = server.context.clock.wall_ms()

    def bring(topic: str, length: int) -> str:
        around = len(orjson.dumps(Event(topic, now_ms, now_ms, "test", {"x": ""}))) + 100
        server.context.hub.publish(Event(topic, now_ms, now_ms, "test", {"x": "ü" * ((length - around) // 2)}))
        return server.context.hub.position

    query, limit = "topics=market,news,price.*", MAX_MESSAGE_BYTES
    async with (
        connect(f"{server.ws_url}/ws?{query}", compression=None, max_size=limit) as one,
        connect(f"{server.ws_url}/ws?{query}&batch=1", compression=None, max_size=limit) as arrays,
        connect(f"{server.ws_url}/ws?{query}&batch=1", compression="deflate", max_size=limit) as packed,
        server.http.get(f"{server.url}/sse?{query}", read_bufsize=1 << 20) as events,
    ):
        await asyncio.gather(*(heard_until(client, "synced") for client in (one, arrays, packed)))
        async with asyncio.timeout(10):
            while await events.content.readline() != b"event: synced\n":
                pass
        await events.content.readuntil(b"\n\n")
        ids = [bring("market", MAX_EVENT_BYTES)]
        for topic in ("market", "news", "price.A"):
            bring(topic, MAX_EVENT_BYTES + 1000)
        ids += [bring("news", 1000), bring("price.B", MAX_EVENT_BYTES)]
        for client in (one, arrays, packed):
            heard = await heard_until(client, "update", topic="price.B")
            assert [message["id"] for message in heard] == ids
        assert await ids_until(events, ids[-1]) == ids
    long = [vars(record) for record in caplog.records if record.message == "event_too_long"]
    assert [record["topic"] for record in long] == ["market", "news", "price.A"]
    assert all(record["bytes"] > MAX_EVENT_BYTES for record in long)


async def ids_until(events: aiohttp.ClientResponse, last: str) -> list[str]:
    """Return the ids of a stream up to this one."""
    seen: list[str] = []
    async with asyncio.timeout(10):
        while last not in seen:
            line = await events.content.readline()
            seen += [line[4:-1].decode()] if line.startswith(b"id: ") else []
    return seen


async def heard_until(client: ClientConnection, kind: str, **fields: str) -> list[dict[str, object]]:
    """Return what a client gets up to a message of this type that has these fields, whether in arrays or not."""
    heard: list[dict[str, object]] = []
    async with asyncio.timeout(10):
        while not heard or heard[-1]["type"] != kind or not fields.items() <= heard[-1].items():
            content = orjson.loads(await client.recv())
            heard += content if isinstance(content, list) else [content]
    return heard


async def test_a_client_may_change_to_batches_and_back_on_the_way(server: Running) -> None:
    async with connect(f"{server.ws_url}/ws?topics=price.S0") as ws:
        for _ in range(3):
            await ws.recv()
        await ws.send('{"op":"subscribe","topics":["price.S1"],"batch":true,"req":1}')
        assert types(orjson.loads(await ws.recv())) == ["subscribed", "synced"]
        publish(server, 2)
        assert types(orjson.loads(await ws.recv())) == ["update", "update"]
        await ws.send('{"op":"subscribe","topics":["price.S2"],"batch":false,"req":2}')
        assert orjson.loads(await ws.recv())["type"] == "subscribed"


async def test_a_compressed_request_is_understood(server: Running) -> None:
    async with server.http.ws_connect(f"{server.ws_url}/ws", compress=15) as ws:
        await ws.receive()
        await ws.send_str('{"op":"ping","req":"' + "a" * 60 + '"}', compress=15)
        assert orjson.loads((await ws.receive()).data)["type"] == "pong"


async def test_the_goodbye_comes_in_the_form_of_all_other_messages(server: Running) -> None:
    async with server.http.ws_connect(f"{server.ws_url}/ws?batch=1") as ws:
        await ws.receive()
        with suppress(ConnectionError):
            for _ in range(200):  # fifty are too few on a machine that takes long to send them
                await ws.send_str('{"op":"ping"}')
        last: list[dict[str, object]] = []
        async for message in ws:
            assert message.type is aiohttp.WSMsgType.TEXT
            last = orjson.loads(message.data)
        assert types(last)[-1] == "goodbye"
        assert ws.close_code == 4013

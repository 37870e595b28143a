"""Tests that the scriptable upstream applies exactly the faults of its script."""

import asyncio
import time
import zlib

import aiohttp
import pytest

from tests.fakes.upstream import BOMB_BYTES, Call, FakeUpstream, Fault, Reply, gzip_bomb, in_json

TRUE = b'{"price":"67000.5","symbol":"BTC"}'


class Prices(FakeUpstream):
    """An upstream with one route of data and one that echoes the request."""

    def __init__(self) -> None:
        super().__init__(lambda: 1_795_305_600_000)
        self.on("GET", "/price", lambda call: Reply(TRUE, headers={"X-Used-Weight": "2"}))
        self.on("POST", "/echo", lambda call: Reply(call.body, headers={"Content-Type": "text/plain"}))
        self.on("GET", "/coins/*", lambda call: Reply(call.path.encode()))
        self.on("GET", "/coins/list*", lambda call: Reply(b"the longer one"))


async def get(upstream: FakeUpstream, path: str = "/price") -> tuple[int, bytes]:
    timeout = aiohttp.ClientTimeout(total=0.3)
    async with aiohttp.ClientSession(timeout=timeout) as client, client.get(upstream.url + path) as answer:
        return answer.status, await answer.read()


async def test_it_answers_by_its_routes_and_records_every_call() -> None:
    async with Prices() as upstream, aiohttp.ClientSession() as client:
        async with client.get(upstream.url + "/price", params={"ids": "a b,c"}, headers={"X-Key": "k"}) as answer:
            assert (answer.status, await answer.read()) == (200, TRUE)
            assert answer.headers["Date"] == "Sun, 22 Nov 2026 00:00:00 GMT"
            assert answer.headers["Content-Type"] == "application/json"
            assert answer.headers["X-Used-Weight"] == "2"
        async with client.post(upstream.url + "/echo", data=b"x" * 300_000) as answer:
            assert await answer.read() == b"x" * 300_000
            assert answer.content_type == "text/plain"
        assert await get(upstream, "/coins/bitcoin") == (200, b"/coins/bitcoin")
        assert await get(upstream, "/coins/list/new") == (200, b"the longer one")
        assert await get(upstream, "/nowhere") == (404, b'{"error":"not found"}')

        first = upstream.calls[0]
        assert (first.method, first.path, first.query, first.headers["x-key"]) == (
            "GET",
            "/price",
            {"ids": "a b,c"},
            "k",
        )
        assert [call.path for call in upstream.calls][1:] == ["/echo", "/coins/bitcoin", "/coins/list/new", "/nowhere"]


async def test_requests_on_one_connection_are_answered_in_order() -> None:
    async with Prices() as upstream:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(upstream.url.rpartition(":")[2]))
        writer.write(b"GET /coins/a HTTP/1.1\r\n\r\nGET /coins/b HTTP/1.1\r\nConnection: close\r\n\r\n")
        both = await reader.read()
        assert both.count(b"200 OK") == 2
        assert both.index(b"/coins/a") < both.index(b"/coins/b")
        writer.close()


async def test_each_fault_of_the_script_serves_one_request_and_then_always_applies() -> None:
    async with Prices() as upstream:
        upstream.script.extend(
            [Fault(status=429, headers={"Retry-After": "7"}), Fault(), Fault(status=503, body=b"gone"), Fault(body=b"")]
        )
        upstream.always = Fault(status=500)
        assert await get(upstream) == (429, b'{"error":"Too Many Requests"}')
        assert await get(upstream) == (200, TRUE)
        assert await get(upstream) == (503, b"gone")
        assert await get(upstream) == (200, b"")
        assert await get(upstream) == await get(upstream) == (500, b'{"error":"Internal Server Error"}')
        upstream.always = None
        assert await get(upstream) == (200, TRUE)


async def test_a_body_can_be_changed_or_replaced_by_a_page() -> None:
    async with Prices() as upstream:
        upstream.script.append(Fault(drift=in_json(lambda body: {"renamed": body})))
        assert await get(upstream) == (200, b'{"renamed":' + TRUE + b"}")
        upstream.script.append(Fault(html=True))
        status, page = await get(upstream)
        assert status == 200
        assert page.startswith(b"<!DOCTYPE html>")


@pytest.mark.parametrize("where", ["before_head", "after_head", "in_body"])
async def test_a_hang_lasts_until_the_client_gives_up(where: str) -> None:
    async with Prices() as upstream:
        upstream.always = Fault(hang=where)  # type: ignore[arg-type]
        with pytest.raises(TimeoutError):
            await get(upstream)
        upstream.always = None
        assert await get(upstream) == (200, TRUE)


async def test_a_drip_sends_bytes_steadily_and_still_takes_too_long() -> None:
    async with Prices() as upstream:
        upstream.always = Fault(drip_s=0.05)
        with pytest.raises(TimeoutError):
            await get(upstream)
        upstream.always = Fault(drip_s=0.001)
        assert await get(upstream) == (200, TRUE)


async def test_a_delay_comes_before_the_answer() -> None:
    async with Prices() as upstream:
        upstream.always = Fault(delay_s=0.1)
        started = time.monotonic()
        assert await get(upstream) == (200, TRUE)
        assert time.monotonic() - started >= 0.09


@pytest.mark.parametrize(
    "fault",
    [Fault(cut_at=5), Fault(declared_longer=True), Fault(cut_at=5, reset=True)],
    ids=["cut", "declared_longer", "reset_in_body"],
)
async def test_a_body_that_ends_too_soon_is_a_payload_error(fault: Fault) -> None:
    async with Prices() as upstream:
        upstream.always = fault
        with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientOSError)):
            await get(upstream)


async def test_a_reset_without_an_answer_is_a_lost_connection() -> None:
    async with Prices() as upstream:
        upstream.always = Fault(reset=True)
        with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
            await get(upstream)


async def test_the_bomb_is_small_on_the_wire_and_200_mb_unpacked() -> None:
    async with Prices() as upstream, aiohttp.ClientSession(auto_decompress=False) as client:
        upstream.script.append(Fault(bomb=True))
        async with client.get(upstream.url + "/price") as answer:
            assert answer.headers["Content-Encoding"] == "gzip"
            packed = await answer.read()
    assert packed == gzip_bomb()
    assert len(packed) < 1_000_000
    unpacker, size = zlib.decompressobj(wbits=31), 0
    while chunk := unpacker.decompress(packed, 2**20):
        packed, size = unpacker.unconsumed_tail, size + len(chunk)
    assert size == BOMB_BYTES


async def test_a_killed_upstream_refuses_connections_until_it_is_revived_on_the_same_port() -> None:
    async with Prices() as upstream, aiohttp.ClientSession() as client:
        url = upstream.url
        for _ in range(3):
            assert await (await client.get(url + "/price")).read() == TRUE
            await upstream.kill()
            with pytest.raises(aiohttp.ClientConnectorError):
                await client.get(url + "/price")
            await upstream.revive()
        assert upstream.url == url


async def test_killing_it_resets_the_calls_in_progress() -> None:
    async with Prices() as upstream:
        upstream.always = Fault(hang="before_head")
        calling = asyncio.create_task(get(upstream))
        await upstream.called(1)
        await upstream.kill()
        with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
            await calling


async def test_a_crash_in_a_route_is_a_500_and_fails_the_test() -> None:
    def crash(call: Call) -> Reply:
        raise KeyError(call.path)

    with pytest.raises(KeyError, match="/crash"):
        async with FakeUpstream() as upstream:
            upstream.on("GET", "/crash", crash)
            status, _ = await get(upstream, "/crash")
            assert status == 500


async def test_it_leaves_no_task_and_no_connection_behind() -> None:
    async with Prices() as upstream:
        upstream.always = Fault(hang="in_body", delay_s=0.01)
        calling = [asyncio.create_task(get(upstream)) for _ in range(20)]
        await upstream.called(20)
        assert asyncio.all_tasks() == {asyncio.current_task(), *calling}
    for each in await asyncio.gather(*calling, return_exceptions=True):
        assert isinstance(each, aiohttp.ClientError | OSError)


async def test_a_request_that_is_not_http_is_refused() -> None:
    async with Prices() as upstream:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(upstream.url.rpartition(":")[2]))
        writer.write(b"hello\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()

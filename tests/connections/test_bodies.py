"""Tests of request bodies: which endpoints take one, and the budget for all of them together."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stream_server.app import Run, service
from stream_server.connections import bodies
from stream_server.rest.table import ENDPOINTS
from stream_server.settings import Settings
from tests.connections.test_hostile_clients import raw
from tests.connections.test_hostile_requests import Heard, request, said
from tests.harness import ELSEWHERE, Running, running, until

BOMB = gzip.compress(bytes(4 * 1024 * 1024))
CHUNKED = b"Transfer-Encoding: chunked\r\n"
POST = b"POST /api/sentiment/analyze"

TAKES_BODY = {each.path for each in ENDPOINTS if each.body is not None}


@pytest.fixture
async def running_service(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(None, tmp_path) as service:
        yield service


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def every_route(state_dir: Path) -> list[tuple[bytes, str]]:
    """Return a request line for each route, with its canonical path."""
    found = []
    async with service(Settings.parse({**ELSEWHERE, "STATE_DIR": str(state_dir)}), Run()) as (app, _):
        for route in app.router.routes():
            assert route.resource is not None
            path = route.resource.canonical
            address = path.replace("{name}", "app.js").replace("{rest}", "topics")
            if route.method != "*":
                found.append((f"{route.method} {address}".encode(), path))
    return found


async def test_nothing_that_is_compressed_is_taken_or_inflated_on_any_route_even_before_it_has_ended(
    running_service: Running, tmp_path: Path
) -> None:
    routes = await every_route(tmp_path / "other")
    assert len(routes) > 40
    for line, _ in routes:
        for coding in (b"gzip", b"Deflate", b"br", b"zstd", b"gzip, gzip", b"identity\r\nContent-Encoding: gzip"):
            heard = await said(
                running_service, request(line, b"Content-Encoding: %b\r\n" % coding, CHUNKED) + chunk(BOMB)
            )
            assert heard.status == 415, line
            assert heard.headers["connection"] == "close", line
            assert line.startswith(b"HEAD") or heard.code == "bad_request", line
            if line not in (b"GET /api/topics", POST):
                break
    assert running_service.context.bodies == bodies.Bodies()


async def test_a_body_is_waited_for_only_if_the_endpoint_takes_one(running_service: Running, tmp_path: Path) -> None:
    for line, path in await every_route(tmp_path / "other"):
        for head, start in ((CHUNKED, chunk(b"{")), (b"Content-Length: 1000\r\n", b"{")):
            data = request(line, head) + start
            if path in TAKES_BODY and line.startswith(b"POST"):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await said(running_service, data)
            else:
                heard = await said(running_service, data)
                assert (heard.status, heard.headers["connection"]) == (400, "close"), line
    await until(lambda: running_service.context.bodies == bodies.Bodies())


async def test_an_empty_body_is_allowed_everywhere(running_service: Running) -> None:
    for head, body in ((b"Content-Length: 0\r\n", b""), (CHUNKED, b"0\r\n\r\n"), (b"Content-Encoding: gzip\r\n", b"")):
        assert (await said(running_service, request(b"GET /api/topics", head) + body)).status == 200
    identity = b"Content-Encoding: identity\r\nContent-Length: 20\r\n"
    heard = await said(running_service, request(POST, identity) + b'{"texts":["climbs"]}')
    assert heard.status in (200, 503)
    assert (await said(running_service, request(b"POST /api/ticket", b"Content-Length: 2\r\n") + b"{}")).status == 200


@pytest.mark.parametrize("bound", ["IN_FLIGHT_BYTES", "IN_FLIGHT_BYTES_OF_ADDRESS"])
async def test_bodies_that_do_not_end_have_a_budget_of_all_and_of_each_address(
    running_service: Running, bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, bound, 100_000)
    held = running_service.context.bodies
    async with raw(running_service) as first, raw(running_service) as second:
        for client in (first, second):
            client.send(request(POST, CHUNKED) + chunk(b"x" * 45_000))
        await until(lambda: held.held_bytes == 90_000)
        heard = await said(running_service, request(POST, CHUNKED) + chunk(b"x" * 45_000))
        assert (heard.status, heard.code) == (429, "rate_limited")
        assert int(heard.headers["retry-after"]) >= 1
        await until(lambda: held.held_bytes == 90_000)
    await until(lambda: held == bodies.Bodies())
    heard = await said(running_service, request(POST, b"Content-Length: 2\r\n") + b"{}")
    assert heard.status == 400


@pytest.mark.parametrize("line", [POST, b"GET /api/topics", b"POST /api/nowhere", b"GET /", b"DELETE /api/topics"])
async def test_a_body_behind_an_upgrade_that_is_not_ours_is_never_read_as_the_next_request(
    running_service: Running, line: bytes
) -> None:
    smuggled = request(b"GET /api/topics")
    for head, body in (
        (b"Content-Length: %d\r\n" % len(smuggled), smuggled),
        (CHUNKED, smuggled),
        (CHUNKED, chunk(smuggled) + chunk(b"")),
    ):
        async with raw(running_service) as client:
            client.send(request(line, b"Connection: Upgrade\r\nUpgrade: h2c\r\n", head) + body)
            data = await client.rest()
        assert data.count(b"HTTP/1.") == 1, data
        assert data.split()[1] in (b"400", b"404", b"405")
        assert b"Connection: close" in data or data.startswith(b"HTTP/1.0 ")


async def test_a_body_that_breaks_off_or_breaks_its_coding_is_a_bad_request(
    running_service: Running, caplog: pytest.LogCaptureFixture
) -> None:
    heard: Heard = await said(running_service, request(POST, CHUNKED) + b"zz\r\n")
    assert (heard.status, heard.code) == (400, "bad_request")
    assert not [line for line in caplog.messages if "crashed" in line or "Unhandled" in line]

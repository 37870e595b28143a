"""Tests of the default limits for the connections and requests of one address."""

import asyncio
import ipaddress
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from stream_server.access.addresses import CONNECTIONS_PER_IP, REST_RATE_PER_S, SLACK, Connections, is_exempt
from stream_server.connections import aiohttp_connection, front
from tests.clients import sse, websocket
from tests.connections.test_hostile_clients import UPGRADE, Raw, raw
from tests.fakes.clock import ManualClock
from tests.harness import Running, running, until

FIRST_BYTES = [
    *(b"", b"G", b"GET /ws HTTP/1.1\r\nX: ", UPGRADE % b"", b"\x16\x03\x01", UPGRADE % b"" + b"\x81\x02{}"),
    b"GET /api/topics HTTP/1.1\r\nHost: x\r\n\r\n",
    UPGRADE % b"" + b"\x88\x80" + bytes(4),
]
STRANGER = {"X-Forwarded-For": "198.51.100.7"}
BEHIND = {"TRUSTED_PROXIES": "127.0.0.0/8"}


def test_connections_are_counted_by_peer_from_the_first_to_the_last() -> None:
    connections = Connections(2, [ipaddress.ip_network("203.0.113.0/24")], spares_near=True)
    keys = [connections.enter(("198.51.100.7", 5000 + each)) for each in range(4)]
    assert [connections.excess(key) for key in keys] == [2, 2, 2, 2]
    assert connections.enter(("::ffff:198.51.100.7", 1, 0, 0)) == keys[0]
    networks = {connections.enter((f"2001:db8::{each}", 1, 0, 0)) for each in range(3)}
    assert networks == {"2001:db8::/64"}
    for spared in ("203.0.113.9", "127.0.0.1", "10.1.2.3", "172.17.0.1", "::1", "fd00::1", "fe80::1%eth0", ""):
        assert connections.enter((spared, 1)) == "", spared
    for key in [*keys, keys[0], *["2001:db8::/64"] * 3, ""]:
        connections.leave(key)
    assert not connections.by_peer
    everyone = Connections(2, [], spares_near=False)
    assert everyone.enter(("127.0.0.1", 1)) == "127.0.0.1"
    assert Connections(0, [], spares_near=False).enter(("198.51.100.7", 1)) == ""


@pytest.mark.parametrize(
    ("peer", "address", "exempt"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("10.0.0.7", "10.0.0.7", True),
        ("203.0.113.9", "203.0.113.9", True),  # a trusted proxy that asks for itself
        ("203.0.113.9", "198.51.100.7", False),
        ("203.0.113.9", "10.0.0.7", False),
        ("127.0.0.1", "198.51.100.7", False),
        ("198.51.100.7", "198.51.100.7", False),
        ("2001:db8::1", "2001:db8::/64", False),
    ],
)
def test_default_limits_spare_near_peers_but_not_the_clients_that_they_relay(
    peer: str, address: str, exempt: bool
) -> None:
    assert is_exempt(peer, address, [ipaddress.ip_network("203.0.113.0/24")]) is exempt


async def silent(service: Running, stack: AsyncExitStack, count: int) -> list[Raw]:
    return [await stack.enter_async_context(raw(service)) for _ in range(count)]


@pytest.mark.parametrize("light_too", ["1", "0"])
async def test_silent_connections_count_and_those_far_over_the_limit_are_refused_at_once(
    tmp_path: Path, light_too: str
) -> None:
    async with running(None, tmp_path, MAX_CONNECTIONS_PER_IP="3", LIGHT_CONNECTIONS=light_too) as service:
        connections = service.context.connections
        async with AsyncExitStack() as stack:
            inside = await silent(service, stack, 3)
            await until(lambda: connections.by_peer["127.0.0.1"] == 3)
            await silent(service, stack, SLACK)
            await until(lambda: connections.by_peer["127.0.0.1"] == 3 + SLACK)
            for client in await silent(service, stack, 5):
                answer = await client.rest()
                assert answer.startswith(b"HTTP/1.1 429 ")
                assert b"Retry-After: " in answer
            inside[0].send(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await inside[0].status() == 200
        await until(lambda: not connections.by_peer)
        assert not service.context.newcomers.silent


async def test_a_connection_over_the_limit_has_less_time_for_its_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "FIRST_BYTE_SOON_S", 0.2)
    async with running(None, tmp_path, MAX_CONNECTIONS_PER_IP="2") as service, AsyncExitStack() as stack:
        inside = await silent(service, stack, 2)
        await until(lambda: len(service.context.newcomers.silent) == 2)
        for client in await silent(service, stack, 2):
            assert await client.rest() == b""
        assert len(service.context.newcomers.silent) == 2
        inside[0].send(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await inside[0].status() == 200


@pytest.mark.parametrize("light_too", ["1", "0"])
async def test_however_a_connection_ends_its_place_is_free_again(tmp_path: Path, light_too: str) -> None:
    async with running(None, tmp_path, MAX_CONNECTIONS_PER_IP="9", LIGHT_CONNECTIONS=light_too) as service:
        by_peer = service.context.connections.by_peer
        async with websocket(service) as client, sse(service, "topics=price.BTC") as stream:
            await client.until("hello")
            await stream.until("synced")
            assert by_peer["127.0.0.1"] == 2
        for data in FIRST_BYTES:
            async with raw(service) as client:
                client.send(data)
                await until(lambda: by_peer["127.0.0.1"] >= 1)
        await service.http.close()
        await until(lambda: not by_peer)


async def test_silent_connections_have_less_time_while_descriptors_are_scarce(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "FIRST_BYTE_SOON_S", 0.2)
    async with running(None, tmp_path) as service, raw(service) as early:
        await until(lambda: service.context.newcomers.silent)
        monkeypatch.setattr(front, "getting_scarce", lambda transport, limit: True)
        async with raw(service) as late:
            assert await late.rest() == b""
            assert len(service.context.newcomers.silent) == 1
            async with raw(service):  # the old one is cut when the next one arrives
                assert await early.rest() == b""


async def test_default_limits_apply_to_strangers_and_not_to_this_machine(tmp_path: Path) -> None:
    burst = int(2 * REST_RATE_PER_S)
    async with running(None, tmp_path, None, **BEHIND) as service:
        assert service.context.clients.per_address == CONNECTIONS_PER_IP
        service.context.rates.clock = ManualClock()  # the time stands still, however slow this machine is
        statuses = [(await service.get("/api/topics", **STRANGER))[0] for _ in range(burst + 60)]
        assert statuses[:burst] == [200] * burst
        assert statuses[burst:] == [429] * 60
        assert {(await service.get("/api/topics"))[0] for _ in range(burst + 60)} == {200}
        async with AsyncExitStack() as stack:
            service.context.clients.per_address = 2
            for _ in range(2):
                client = await stack.enter_async_context(
                    websocket(service, additional_headers={"X-Forwarded-For": "198.51.100.8"})
                )
                await client.until("hello")
            async with websocket(service, additional_headers={"X-Forwarded-For": "198.51.100.8"}) as refused:
                assert (await refused.end())[1] == 4504
            for _ in range(4):
                client = await stack.enter_async_context(websocket(service))
                await client.until("hello")


@pytest.mark.parametrize(
    ("settings", "headers", "status"),
    [
        ({}, {}, 200),
        ({}, STRANGER, 403),
        ({}, {"Forwarded": "for=198.51.100.7"}, 403),
        ({}, {"X-Real-IP": "198.51.100.7"}, 403),
        ({}, {"Via": "1.1 cache"}, 403),
        (BEHIND, STRANGER, 403),
        (BEHIND, {"X-Forwarded-For": "10.0.0.7"}, 403),
        ({"METRICS_OPEN": "1"}, STRANGER, 200),
        ({"AUTH_TOKENS": "alice:sesame"}, {}, 401),
        ({"AUTH_TOKENS": "alice:sesame"}, STRANGER | {"Authorization": "Bearer sesame"}, 200),
    ],
)
async def test_metrics_are_for_this_machine_unless_a_setting_or_a_token_says_so(
    tmp_path: Path, settings: dict[str, str], headers: dict[str, str], status: int
) -> None:
    async with running(None, tmp_path, None, **settings) as service:
        async with service.http.get(service.url + "/metrics", headers=headers) as answer:
            assert answer.status == status
        async with service.http.head(service.url + "/metrics", headers=headers) as answer:
            assert answer.status == status


async def test_a_slow_body_has_its_own_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiohttp_connection, "HEAD_WITHIN_S", 0.3)
    async with running(None, tmp_path) as service, raw(service) as client:
        client.send(b"POST /api/ticket HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\n")
        for _ in range(8):
            await asyncio.sleep(0.08)
            client.send(b" ")
        assert await client.status() == 200

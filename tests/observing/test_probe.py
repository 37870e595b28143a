"""The self-probe: it takes the way of every client, is seen by none of them, and its word counts for readiness."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from feeds import topics
from feeds.model import Event
from stream_server.delivery.rounds import Rounds
from stream_server.observing import probe as probing
from stream_server.rest.status import health
from stream_server.rest.status_topic import StatusTopic
from tests.clients import websocket
from tests.harness import Running, running, until

ACCESS = {"AUTH_TOKENS": "alice:sesame"}
FULL = {"MAX_CONNECTIONS": "1", "MAX_CONNECTIONS_PER_IP": "1", "REST_RATE_PER_S": "0.01"}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine of the tests is, what works passes."""
    monkeypatch.setattr(probing, "WITHIN_S", 20.0)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(None, tmp_path) as served:
        yield served


@pytest.mark.parametrize("light", ["1", "0"])
@pytest.mark.parametrize("settings", [{}, ACCESS, FULL], ids=["open", "tokens", "full"])
async def test_a_value_makes_the_round_trip_whoever_else_may_enter(
    tmp_path: Path, settings: dict[str, str], light: str
) -> None:
    async with running(None, tmp_path, None, **settings, LIGHT_CONNECTIONS=light) as service:
        headers = {"Authorization": "Bearer sesame"}
        async with websocket(service, "topics=status", additional_headers=headers) as client:
            await client.until("synced")
            for _ in range(2):
                await service.context.probe.once()
        assert service.context.probe.report() | {"round_trip_ms": 0} == {
            "round_trip_ms": 0, "passed": 2, "failed": 0, "failing": 0,
        }  # fmt: skip
        assert 0 < (service.context.probe.last_s or 0) < probing.WITHIN_S


async def test_nobody_sees_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(StatusTopic, "run", silent)
    async with running(None, tmp_path) as service, websocket(service, "topics=>") as client:
        context, hub = service.context, service.context.hub
        await client.until("synced")
        hub.publish(Event("price.BTC", 1, 1, "test", {"price": 1.0}))
        await client.one("update", topic="price.BTC")
        await client.so_far()

        def seen() -> list[Any]:
            wants = (
                dict(hub.interest.counts),
                dict(hub.interest.idle_since),
                list(hub.topics),
                list(hub.groups.listeners),
            )
            counts = (
                context.clients.accepted,
                context.clients.count(),
                len(hub.groups.by_key),
                len(hub.members.by_outbox),
            )
            return [hub.seq, hub.delivered, hub.sent["websocket"].waited.count, dict(hub.resumes), wants, counts]

        before = seen()
        await context.probe.once()
        await until(lambda: len(hub.members.by_outbox) == 1)
        assert seen() == before
        assert await client.so_far() == []
        assert context.probe.took.count == 1
        _, told = await service.get("/api/topics")
        assert topics.PROBE not in str(told)
    assert sum(context.clients.ended.values()) == 1


async def test_nobody_else_gets_in_by_its_way(tmp_path: Path) -> None:
    async with running(None, tmp_path, None, **ACCESS) as service:
        probe = service.context.probe
        probe.word = "a word of its own"
        for guess in ("", "guess", "%ff", "%D1%8F", "a%20word%20of%20its%20ow"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await service.http.ws_connect(f"{service.ws_url}/ws?ticket={guess}")
            assert refused.value.status == 401
        async with service.http.get(f"{service.url}/sse?topics=status&ticket=a word of its own") as answer:
            assert answer.status == 401
        async with service.http.get(f"{service.url}/api/status?ticket=a word of its own") as answer:
            assert answer.status == 401
        async with websocket(service, "ticket=a%20word%20of%20its%20own&topics=status,news") as client:
            assert (await client.one("error"))["code"] == "forbidden"
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await service.http.ws_connect(f"{service.ws_url}/ws?ticket=a word of its own")


async def test_nobody_can_subscribe_to_its_topic(service: Running) -> None:
    async with websocket(service) as client:
        await client.one("hello")
        for wanted in (topics.PROBE, "$probe.*", "$>"):
            await client.send(op="subscribe", topics=[wanted])
            assert (await client.one("error"))["code"] == "unknown_topic"


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "stream_server.observing.probe"]


async def test_when_three_in_a_row_fail_it_is_said_once_and_the_service_is_not_ready_until_one_passes(
    service: Running, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    probe = service.context.probe
    monkeypatch.setattr(probing, "WITHIN_S", 0.1)
    with monkeypatch.context() as broken:
        broken.setattr(Rounds, "flush", lambda rounds: None)  # publishing goes on, and nobody gets anything
        for times in (1, 2, 3, 4):
            assert (probe.trouble() is None) == (times < 4)
            await probe.once()
        assert health(service.context).word == "troubled"
        status, body = await service.get("/health/ready")
        assert (status, body["status"]) == (503, "troubled")
        assert str(body["trouble"]).startswith("the self-probe fails: nothing came back within")
    service.context.hub.rounds.flush_due = False
    monkeypatch.setattr(probing, "WITHIN_S", 20.0)
    await probe.once()
    assert probe.trouble() is None
    assert (await service.get("/health/ready"))[1]["status"] != "troubled"
    assert lines_of(caplog) == ["probe_failed", "probe_passed"]
    assert probe.report() | {"round_trip_ms": 0} == {"round_trip_ms": 0, "passed": 1, "failed": 4, "failing": 0}


async def test_a_listener_that_is_gone_is_a_failure_and_no_crash(service: Running) -> None:
    probe = service.context.probe
    probe.address = ("127.0.0.1", 9)
    await probe.once()
    assert (probe.failed, probe.cause) == (1, "ConnectionRefusedError")


async def test_one_that_is_not_let_in_says_what_it_was_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(None, tmp_path, None, **ACCESS) as service:
        monkeypatch.setattr(service.context.door, "own_claims", lambda word: None)
        await service.context.probe.once()
        assert service.context.probe.cause == "refused with status 401"


async def test_it_runs_by_itself_and_is_shown(tmp_path: Path) -> None:
    async with running(None, tmp_path, PROBE_S="1") as service:
        await until(lambda: service.context.probe.took.count)
        _, status = await service.get("/api/status")
        async with service.http.get(f"{service.url}/metrics") as answer:
            text = await answer.text()
    assert status["data"]["server"]["probe"]["passed"] >= 1  # type: ignore[index]
    assert 'stream_server_probe_round_trip_seconds_bucket{le="+Inf"}' in text
    assert "stream_server_probe_failing 0.0" in text


def test_addresses_that_stand_for_all_are_reached_by_loopback() -> None:
    probe = probing.Probe.__new__(probing.Probe)
    for name, address in {
        ("0.0.0.0", 80): ("127.0.0.1", 80),
        ("::", 80, 0, 0): ("::1", 80),
        ("10.1.2.3", 80): ("10.1.2.3", 80),
        ("fe80::1%eth0", 80, 0, 2): ("fe80::1%eth0", 80),
    }.items():
        probe.listens(name)
        assert probe.address == address

"""Tests that an EventSource reconnects after a passing refusal, and ends after a lasting one."""

import asyncio
from pathlib import Path

import pytest

from stream_server.connections import front
from tests.eventsource import EventSource, State, event_source
from tests.harness import Running, running, until

SECRET = "s" * 32


class Gate:
    """Hold an event source back from reconnecting until it is let through once."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.turns = asyncio.Semaphore(0)

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        await self.turns.acquire()


async def refused(service: Running, source: EventSource) -> dict[str, object]:
    """Return the goodbye of an event source that is refused; fail if it gave up."""
    await until(lambda: source.waits_ms or source.state is State.CLOSED)
    assert source.state is State.CONNECTING, source.statuses
    goodbye = source.heard[-1]
    assert (goodbye["type"], goodbye["reconnect"]) == ("goodbye", True)
    assert goodbye["after_ms"] == source.waits_ms[-1] == source.retry_ms
    return goodbye


async def test_event_sources_reconnect_during_a_drain_and_are_open_after_the_restart(tmp_path: Path) -> None:
    async with running(None, tmp_path, SHUTDOWN_S="30") as service:
        url, gate = f"{service.url}/sse?topics=status", Gate()
        async with event_source(service.http, url, gate) as source:
            await until(lambda: source.last_event_id)
            here = source.last_event_id
            service.context.draining = True
            await service.context.clients.dismiss(within_s=20.0)
            await until(lambda: gate.asked)
            # It reconnects at once, and gets a `retry:` beyond the end of the drain.
            gate.turns.release()
            await until(lambda: len(gate.asked) > 1)
            goodbye = await refused(service, source)
            assert (goodbye["code"], source.statuses) == (4001, [200, 200])
            assert gate.asked[-1] > 15, "it would come back before the drain is over"
            service.context.draining = False
            gate.turns.release()
            await until(lambda: source.state is State.OPEN and source.heard[-1]["type"] != "goodbye")
    (resumed, *_) = [each for each in source.heard[::-1] if each["type"] == "subscribed"]
    assert (resumed["resumed"], resumed["from"]) == (True, here)


async def test_event_sources_that_a_full_server_refused_get_in_when_there_is_room(tmp_path: Path) -> None:
    async with running(None, tmp_path, MAX_CONNECTIONS="1") as service:
        url, gate = f"{service.url}/sse?topics=status", Gate()
        async with service.http.get(url) as first, event_source(service.http, url, gate) as source:
            goodbye = await refused(service, source)
            assert (goodbye["code"], goodbye["reconnect"]) == (4013, True)
            assert gate.asked[-1] >= 30
            first.close()
            await until(lambda: not service.context.clients.connected)
            gate.turns.release()
            await until(lambda: source.state is State.OPEN and source.last_event_id)


@pytest.mark.parametrize(
    "settings", [{"REST_RATE_PER_S": "1"}, {"MAX_CONNECTIONS_PER_IP": "1"}], ids=["rate", "per address"]
)
async def test_an_event_source_over_the_rate_waits_and_other_programs_get_a_status(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    async with running(None, tmp_path, None, **settings) as service:
        url = f"{service.url}/sse?topics=status"
        async with service.http.get(url) as first, service.http.get(url), service.http.get(url) as program:
            assert (first.status, program.status) == (200, 429)
            assert int(program.headers["Retry-After"]) > 0
            async with event_source(service.http, url, Gate()) as source:
                assert (await refused(service, source))["code"] == 4013


async def test_an_event_source_without_a_descriptor_reconnects_and_other_programs_get_a_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(None, tmp_path) as service:
        url, gate = f"{service.url}/sse?topics=status", Gate()
        with monkeypatch.context() as scarcity:
            scarcity.setattr(front, "scarce", lambda *_: True)
            async with service.http.get(f"{service.url}/health/live") as answer:
                assert answer.status == 503
            host, _, port = service.url.removeprefix("http://").partition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            async with asyncio.timeout(30):  # a client that sends nothing gets its answer after a moment
                assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
            writer.close()
            async with event_source(service.http, url, gate) as source:
                await until(lambda: gate.asked)
                assert (source.state, source.statuses) == (State.CONNECTING, [])
                scarcity.undo()
                gate.turns.release()
                await until(lambda: source.state is State.OPEN)
        await until(lambda: not service.context.newcomers.refused)


async def test_a_fault_of_ours_does_not_end_an_event_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(*_: object) -> None:
        raise RuntimeError("a fault")

    async with running(None, tmp_path) as service:
        monkeypatch.setattr(service.context.door, "admit", stumble)
        async with event_source(service.http, f"{service.url}/sse?topics=status", Gate()) as source:
            assert (await refused(service, source))["code"] == 4013


async def test_a_lasting_refusal_ends_an_event_source(tmp_path: Path) -> None:
    async with running(None, tmp_path, AUTH_TOKENS=f"desk:{SECRET}") as service:
        shown = {"Authorization": f"Bearer {SECRET}"}
        for path, headers, status in (
            ("/sse?topics=status", {}, 401),
            ("/sse?topics=nope", shown, 400),
            ("/sse", shown, 400),
            ("/sse/?topics=status", shown, 404),
        ):
            async with event_source(service.http, service.url + path, Gate(), **headers) as source:
                await until(lambda source=source: source.state is State.CLOSED)  # type: ignore[misc]
                assert source.statuses == [status], path

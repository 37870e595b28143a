"""One account with one provider: what it may be asked, what its answers mean, and what is remembered of it."""

import asyncio
import logging
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator import provider_log
from orchestrator.bans import BanFile
from orchestrator.breaker import BreakerPolicy
from orchestrator.errors import (
    BadQuery,
    Banned,
    Blocked,
    Malformed,
    NotFound,
    ProviderError,
    RateLimited,
    TimedOut,
    Unauthorized,
    Unavailable,
)
from orchestrator.hosts import Hosts
from orchestrator.http import HttpRequest, HttpResponse
from orchestrator.limiter import Allowance
from orchestrator.provider import Steps
from orchestrator.sender import Throttled
from orchestrator.upstream import ProviderState, Upstream
from orchestrator.upstream_policy import UpstreamPolicy
from tests.fakes.clock import START_MS, ManualClock
from tests.fakes.transport import Asked, ScriptedTransport, reply

REQUEST = HttpRequest("/thing")
Answers = HttpResponse | ProviderError


class World:
    """An upstream of one or more hosts, on a script."""

    def __init__(
        self, *answers: Answers, hosts: int = 1, policy: UpstreamPolicy | None = None, bans: BanFile | None = None
    ) -> None:
        self.clock = bans.clock if bans is not None and isinstance(bans.clock, ManualClock) else ManualClock()
        self.answers = list(answers)
        self.transport = ScriptedTransport(self.clock, self.answer)
        self.changes = 0
        self.upstream = Upstream(
            "prov",
            Hosts([f"http://{letter}.example" for letter in "abc"[:hosts]], self.clock),
            self.transport,
            self.clock,
            random.Random(1),
            policy,
            bans=bans,
            on_change=self.changed,
        )

    def changed(self) -> None:
        self.changes += 1

    def answer(self, asked: Asked) -> Answers:
        return self.answers.pop(0) if self.answers else reply(self.clock, {})

    def give(self, status: int = 200, **headers: str) -> None:
        self.answers.append(reply(self.clock, {}, status, **headers))

    def state(self) -> ProviderState:
        return self.upstream.state

    @property
    def hosts_asked(self) -> list[str]:
        return [each.base_url[7:8] for each in self.transport.asked]

    async def fails(self, kind: type[ProviderError]) -> ProviderError:
        with pytest.raises(kind) as failed:
            await self.upstream.get(REQUEST)
        return failed.value


def down() -> ProviderError:
    return Unavailable("prov", "connection failed")


# --- one host after the other ---


async def test_hosts_are_asked_in_turn_until_one_answers_and_then_it_is_kept() -> None:
    world = World(down(), reply(ManualClock(), b"", 503), hosts=3)
    await world.upstream.get(REQUEST)
    await world.upstream.get(REQUEST)
    assert world.hosts_asked == ["a", "b", "c", "c"]


async def test_each_host_is_asked_once_and_the_last_error_is_raised() -> None:
    world = World(down(), reply(ManualClock(), b"", 500), reply(ManualClock(), b"", 451), hosts=3)
    await world.fails(Blocked)
    assert world.hosts_asked == ["a", "b", "c"]


@pytest.mark.parametrize(("status", "kind"), [(400, BadQuery), (404, NotFound)])
async def test_a_question_that_is_our_own_fault_is_asked_of_no_other_host_and_counts_for_nothing(
    status: int, kind: type[ProviderError]
) -> None:
    world = World(hosts=3)
    for _ in range(30):
        world.give(status)
        await world.fails(kind)
    assert set(world.hosts_asked) == {"a"}
    assert world.state() is ProviderState.ACTIVE
    assert world.upstream.report()["success_pct"] is None


# --- limits ---


async def test_after_a_429_nothing_is_sent_before_its_time_and_the_circuit_stays_closed() -> None:
    world = World(hosts=2)
    world.give(429, Retry_After="7")
    limited = await world.fails(RateLimited)
    assert isinstance(limited, RateLimited)
    assert limited.retry_after_s == 7
    assert world.hosts_asked == ["a"], "limits are by IP: the other host is the same provider"
    assert world.state() is ProviderState.RATE_LIMITED
    world.clock.advance(5.5)
    await world.fails(RateLimited)
    assert len(world.transport.asked) == 1
    world.clock.advance(1.3)
    waiting = asyncio.create_task(world.upstream.get(REQUEST))  # so short a rest is waited for
    await asyncio.sleep(0)
    world.clock.advance(0.19)
    await asyncio.sleep(0)
    assert len(world.transport.asked) == 1
    world.clock.advance(0.02)
    await waiting
    assert world.transport.asked[1].at - world.transport.asked[0].at >= 7
    assert world.state() is ProviderState.ACTIVE


async def test_where_hosts_belong_to_different_people_only_the_one_that_limits_us_rests() -> None:
    world = World(hosts=2, policy=UpstreamPolicy(hosts_share_limits=False))
    world.give(429, Retry_After="7")
    await world.upstream.get(REQUEST)
    await world.upstream.get(REQUEST)
    assert world.hosts_asked == ["a", "b", "b"]


async def test_a_ban_outlives_a_restart(tmp_path: Path) -> None:
    clock = ManualClock()
    world = World(bans=BanFile(tmp_path / "bans.json", clock))
    world.give(418, Retry_After="300")
    await world.fails(Banned)
    clock.advance(10)
    again = World(bans=BanFile(tmp_path / "bans.json", clock))
    assert again.state() is ProviderState.RATE_LIMITED
    await again.fails(Throttled)
    clock.advance(285)
    await again.fails(Throttled)
    assert again.transport.asked == []
    clock.advance(5.1)
    await again.upstream.get(REQUEST)


def test_a_spoiled_ban_file_is_said_and_forgotten(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "bans.json").write_text('{"prov": "soon"')
    bans = BanFile(tmp_path / "bans.json", ManualClock())
    assert bans.until_ms("prov") == 0
    assert [record.getMessage() for record in caplog.records] == ["state_unreadable"]


def test_a_ban_beyond_all_reason_is_cut_to_the_longest_known(tmp_path: Path) -> None:
    clock = ManualClock()
    BanFile(tmp_path / "bans.json", clock).keep("prov", clock.wall_ms() + 10**12)
    assert BanFile(tmp_path / "bans.json", clock).until_ms("prov") == clock.wall_ms() + 3 * 24 * 3600 * 1000


async def test_the_allowance_is_never_exceeded_and_leaves_no_mark_on_the_record() -> None:
    world = World(policy=UpstreamPolicy(allowances=(Allowance(3, 60.0),)))
    for _ in range(3):
        await world.upstream.get(REQUEST)
    for _ in range(20):
        await world.fails(Throttled)
    assert len(world.transport.asked) == 3
    assert world.upstream.report()["failures"] == 0


async def test_a_providers_own_count_of_what_is_left_wins_over_ours() -> None:
    world = World(policy=UpstreamPolicy(allowances=(Allowance(100, 60.0),)))
    world.give(200, X_RateLimit_Remaining="0", X_RateLimit_Reset="30")
    await world.upstream.get(REQUEST)
    await world.fails(Throttled)
    assert 29 < world.upstream.wait_s() < 32
    world.clock.advance(world.upstream.wait_s())
    await world.upstream.get(REQUEST)


async def test_urgent_requests_have_a_part_of_the_allowance_to_themselves() -> None:
    world = World(policy=UpstreamPolicy(allowances=(Allowance(10, 60.0),), reserve=0.5))
    for _ in range(5):
        await world.upstream.get(REQUEST)
    await world.fails(Throttled)
    for _ in range(5):
        await world.upstream.get(REQUEST, urgent=True)


# --- refusals ---


async def test_a_provider_that_blocks_us_is_left_alone_for_an_hour_and_reported_as_blocked() -> None:
    world = World()
    world.give(451)
    await world.fails(Blocked)
    assert world.state() is ProviderState.BLOCKED
    assert "451" in str(world.upstream.report()["reason"])
    world.clock.advance(3599)
    await world.fails(RateLimited)
    assert len(world.transport.asked) == 1
    world.clock.advance(2)
    await world.upstream.get(REQUEST)
    assert world.state() is ProviderState.ACTIVE


async def test_a_refused_key_switches_the_provider_off() -> None:
    world = World()
    world.upstream.keyed = True
    world.give(401)
    await world.fails(Unauthorized)
    world.clock.advance(10**6)
    await world.fails(Unauthorized)
    assert len(world.transport.asked) == 1
    assert world.state() is ProviderState.DISABLED


async def test_who_wants_a_key_where_none_is_needed_rests_an_hour() -> None:
    world = World()
    world.give(401)
    await world.fails(Unauthorized)
    assert world.state() is ProviderState.BLOCKED
    world.clock.advance(3601)
    await world.upstream.get(REQUEST)
    assert world.state() is ProviderState.ACTIVE


async def test_failures_open_the_circuit_and_one_probe_closes_it() -> None:
    world = World(policy=UpstreamPolicy(breaker=BreakerPolicy(consecutive=5, cooldown_s=15.0)))
    for _ in range(20):
        world.answers.append(reply(world.clock, b"", 500))
        await world.fails(Unavailable)
    assert len(world.transport.asked) == 5
    assert world.state() is ProviderState.COOLDOWN
    world.answers.clear()
    world.clock.advance(40)
    await asyncio.gather(*(world.upstream.get(REQUEST) for _ in range(10)), return_exceptions=True)
    assert len(world.transport.asked) == 6, "one probe only"
    await world.upstream.get(REQUEST)
    assert world.state() is ProviderState.ACTIVE


# --- conversations ---


async def test_a_reader_that_crashes_costs_its_attempt_only_and_is_loud(caplog: pytest.LogCaptureFixture) -> None:
    def crashing() -> Steps[int]:
        yield REQUEST
        raise KeyError("price")

    world = World()
    with pytest.raises(Malformed):
        await world.upstream.run(crashing())
    assert "reader_crashed" in [record.getMessage() for record in caplog.records]
    assert world.upstream.report()["outcomes"] == {"malformed": 1}


async def test_heavy_reading_is_done_off_the_loop() -> None:
    import threading

    def reading() -> Steps[str]:
        yield REQUEST
        return threading.current_thread().name

    assert await World().upstream.run(reading(), heavy=True) != threading.main_thread().name


async def test_who_stops_waiting_leaves_no_mark_and_frees_the_probes_place() -> None:
    world = World(policy=UpstreamPolicy(breaker=BreakerPolicy(consecutive=1, cooldown_s=15.0)))
    world.answers.append(down())
    await world.fails(Unavailable)
    world.clock.advance(60)
    never: asyncio.Future[HttpResponse] = asyncio.get_running_loop().create_future()
    world.transport.script = lambda asked: never
    probe = asyncio.create_task(world.upstream.get(REQUEST))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert world.state() is ProviderState.PROBING
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    world.transport.script = world.answer
    await world.upstream.get(REQUEST)
    assert world.upstream.report()["failures"] == 1


async def test_an_answer_that_takes_too_long_is_a_failure_of_the_provider() -> None:
    world = World()
    never: asyncio.Future[HttpResponse] = asyncio.get_running_loop().create_future()
    world.transport.script = lambda asked: never

    def asking() -> Steps[HttpResponse]:
        return (yield REQUEST)

    with pytest.raises(TimedOut):
        await world.upstream.run(asking(), timeout_s=0.01)
    assert world.upstream.report()["failures"] == 1


async def test_a_status_that_the_request_expects_is_an_answer() -> None:
    world = World()
    world.give(304)
    response = await world.upstream.get(HttpRequest("/feed", may_be=(304,)))
    assert response.status == 304


async def test_the_providers_clock_is_compared_with_ours() -> None:
    world = World()
    for _ in range(3):
        world.give(200, Date="Sun, 22 Nov 2026 00:05:00 GMT")
        await world.upstream.get(REQUEST)
    skew = world.upstream.report()["clock_skew_ms"]
    assert isinstance(skew, int)
    assert abs(skew - 300_000) <= 1000


async def test_what_a_providers_clock_shows_does_not_jump_with_ours() -> None:
    world = World()
    world.give(200, Date="Sun, 22 Nov 2026 00:05:00 GMT")
    await world.upstream.get(REQUEST)
    world.clock.advance(30)
    shown_ms = world.upstream.their_ms()
    world.clock.started_ms += 3_600_000
    assert world.upstream.their_ms() == shown_ms
    assert world.upstream.report()["clock_skew_ms"] == pytest.approx(300_000 - 3_600_000, abs=1000)


async def test_after_a_sleep_of_the_whole_machine_a_providers_clock_is_known_again_at_once() -> None:
    world = World()
    for date in ("00:00:00", "00:30:00"):
        world.give(200, Date=f"Sun, 22 Nov 2026 {date} GMT")
        await world.upstream.get(REQUEST)
        world.clock.started_ms = START_MS + 30 * 60_000  # the monotonic clock stood still meanwhile
    assert abs(world.upstream.their_ms() - START_MS - 30 * 60_000) <= 1000


# --- what is told ---


async def test_every_change_of_state_is_one_line_in_the_diary_of_health(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    with caplog.at_level(logging.INFO, provider_log.HEALTH):
        await world.upstream.get(REQUEST)
        world.give(429, Retry_After="7")
        await world.fails(RateLimited)
        world.clock.advance(8)
        await world.upstream.get(REQUEST)
        await world.upstream.get(REQUEST)
    lines = [(vars(each)["before"], vars(each)["after"]) for each in caplog.records if each.name == provider_log.HEALTH]
    assert lines == [("active", "rate_limited"), ("rate_limited", "active")]


def test_a_switched_off_provider_names_what_would_enable_it() -> None:
    clock = ManualClock()
    transport = ScriptedTransport(clock, lambda asked: reply(clock))
    upstream = Upstream("prov", None, transport, clock, random.Random(1), disabled="set PROV_API_KEY")
    report = upstream.report()
    assert (report["state"], report["reason"]) == ("disabled", "set PROV_API_KEY")
    assert not upstream.may_ask()


@pytest.mark.parametrize("show", [repr, str])
def test_a_request_never_shows_its_keys(show: Callable[[object], str]) -> None:
    request = HttpRequest("/x", headers={"x-key": "CANARY"}, secrets={"apikey": "CANARY"}, body=b"CANARY")
    assert "CANARY" not in show(request)

"""Which of several hosts is asked next."""

import pytest

from orchestrator.errors import Banned, Blocked, Malformed, ProviderError, RateLimited, Unauthorized, Unavailable
from orchestrator.hosts import BANNED_COOLDOWN_S, BLOCKED_COOLDOWN_S, RATE_LIMITED_COOLDOWN_S, Hosts
from tests.fakes.clock import ManualClock

URLS = ["https://a.example", "https://b.example", "https://c.example"]


def picked(hosts: Hosts) -> str | None:
    host = next(iter(hosts.in_turn()), None)
    return host.url[8] if host is not None else None


def fail(hosts: Hosts, error: ProviderError) -> None:
    hosts.failed(hosts.in_turn()[0], error)


def test_without_a_host_there_is_nothing_to_ask() -> None:
    with pytest.raises(ValueError, match="at least one host"):
        Hosts([], ManualClock())


def test_the_first_is_asked_until_it_fails_and_then_the_others_in_turn() -> None:
    hosts = Hosts(URLS, ManualClock())
    seen = []
    for _ in range(5):
        seen.append(picked(hosts))
        assert picked(hosts) == seen[-1], "asking twice is no failure"
        fail(hosts, Unavailable("binance", "down"))
    assert seen == ["a", "b", "c", "a", "b"]


def test_the_choice_stays_with_the_host_that_works() -> None:
    hosts = Hosts(URLS, ManualClock())
    fail(hosts, Unavailable("binance", "down"))
    host = hosts.in_turn()[0]
    hosts.worked(host, latency_ms=12.345)
    assert [picked(hosts) for _ in range(3)] == ["b", "b", "b"]
    assert [each.name for each in hosts.in_turn()] == ["b.example", "c.example", "a.example"]
    assert (host.state, host.latency_ms) == ("active", 12.3)


@pytest.mark.parametrize(
    ("error", "cooldown_s", "state"),
    [
        (RateLimited("binance", 7.0), 7.0, "rate_limited"),
        (RateLimited("binance", 0.0), 1.0, "rate_limited"),
        (RateLimited("binance", None), RATE_LIMITED_COOLDOWN_S, "rate_limited"),
        (Banned("binance", 259_200.0), 259_200.0, "banned"),
        (Banned("binance", None), BANNED_COOLDOWN_S, "banned"),
        (Blocked("binance", "status 451"), BLOCKED_COOLDOWN_S, "blocked"),
        (Unauthorized("binance", "status 401"), BLOCKED_COOLDOWN_S, "blocked"),
    ],
)
def test_a_host_that_refuses_us_rests_as_long_as_it_means(error: ProviderError, cooldown_s: float, state: str) -> None:
    clock = ManualClock()
    hosts = Hosts(URLS[:1], clock)
    fail(hosts, error)
    assert hosts.all[0].state == state
    assert hosts.wait_s() == cooldown_s
    clock.advance(cooldown_s - 0.001)
    assert picked(hosts) is None
    assert hosts.in_turn() == []
    clock.advance(0.001)
    assert picked(hosts) == "a"
    assert hosts.wait_s() == 0.0


@pytest.mark.parametrize("error", [Unavailable("x", "y"), Malformed("x", "y")])
def test_a_host_that_merely_failed_may_be_asked_again(error: ProviderError) -> None:
    hosts = Hosts(URLS[:1], ManualClock())
    fail(hosts, error)
    assert picked(hosts) == "a"


def test_a_resting_host_is_passed_over_and_the_earliest_to_wake_is_waited_for() -> None:
    clock = ManualClock()
    hosts = Hosts(URLS, clock)
    fail(hosts, Banned("binance", 100.0))
    fail(hosts, RateLimited("binance", 20.0))
    assert picked(hosts) == "c"
    fail(hosts, Blocked("binance", "status 403"))
    assert picked(hosts) is None
    assert hosts.wait_s() == 20.0
    clock.advance(20.0)
    assert picked(hosts) == "b"


def test_a_shorter_rest_does_not_cut_a_longer_one() -> None:
    clock = ManualClock()
    hosts = Hosts(URLS[:1], clock)
    hosts.failed(hosts.all[0], Banned("binance", 100.0))
    hosts.failed(hosts.all[0], RateLimited("binance", 5.0))
    hosts.failed(hosts.all[0], Unavailable("binance", "late answer"))
    assert hosts.wait_s() == 100.0


def test_the_report_names_hosts_without_credentials_or_paths() -> None:
    clock = ManualClock()
    hosts = Hosts(["wss://user:CANARY@stream.example:9443/stream?key=CANARY"], clock)
    hosts.failed(hosts.all[0], RateLimited("binance", 7.0))
    clock.advance(2.0)
    (row,) = hosts.report()
    assert row["host"] == "stream.example:9443"
    assert (row["state"], row["rests_s"], row["failures"]) == ("rate_limited", 5.0, 1)
    assert row["last_error_at"] == clock.wall_ms() - 2000
    assert "CANARY" not in str(hosts.report())

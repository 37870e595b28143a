"""One category's providers as one: who is asked, what is kept, and what is said of how an answer came to be."""

import asyncio
import contextlib
import gc
import itertools
import logging
import random
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from orchestrator import provider_log
from orchestrator.breaker import BreakerPolicy
from orchestrator.choice import FORCED_PROBE_EVERY_S
from orchestrator.errors import BadQuery, NotFound, ProviderError, TimedOut, Unavailable
from orchestrator.fetched import Exhausted, Fetched
from orchestrator.held import PoolPolicy
from orchestrator.hosts import Hosts
from orchestrator.http import HttpRequest, HttpResponse, json_body
from orchestrator.limiter import Allowance
from orchestrator.pool import Pool
from orchestrator.provider import Provider, Steps
from orchestrator.upstream import ProviderState, Upstream
from orchestrator.upstream_policy import UpstreamPolicy
from tests.fakes.clock import ManualClock
from tests.fakes.transport import Asked, ScriptedTransport, reply

Answer = HttpResponse | ProviderError | Callable[[], "HttpResponse | asyncio.Future[HttpResponse]"]
Value = dict[str, object]


class World:
    """A pool of the given tiers, each a word of one-letter providers, on a script of answers by provider."""

    def __init__(
        self,
        *tiers: str,
        policy: PoolPolicy | None = None,
        upstream: UpstreamPolicy | None = None,
        weights: dict[str, int] | None = None,
        disabled: str = "",
        stamped: bool = False,
        heavy: bool = False,
        serves: Callable[[str, str], bool] = lambda name, query: True,
    ) -> None:
        self.clock = ManualClock()
        self.answers: dict[str, list[Answer]] = {}
        self.always: dict[str, Callable[[], HttpResponse | ProviderError]] = {}
        self.transport = ScriptedTransport(self.clock, self.answer)
        self.heard: list[tuple[str, Fetched[Value]]] = []
        self.upstreams = {
            name: Upstream(
                name,
                Hosts([f"http://{name}.example"], self.clock),
                self.transport,
                self.clock,
                random.Random(1),
                upstream,
                disabled=f"set {name.upper()}_KEY" if name in disabled else None,
            )
            for name in "".join(tiers)
        }
        self.pool: Pool[str, Value] = Pool(
            "things",
            [
                [
                    Provider(
                        self.upstreams[name],
                        self.asking(name),
                        weight=(weights or {}).get(name, 1),
                        serves=self.serving(name, serves),
                        stamp_of=(lambda value: int(str(value["stamp"]))) if stamped else None,
                        heavy=heavy,
                    )
                    for name in tier
                ]
                for tier in tiers
            ],
            self.clock,
            random.Random(1),
            policy,
            received=lambda query, fetched: self.heard.append((query, fetched)),
        )

    @staticmethod
    def asking(name: str) -> Callable[[str], Steps[Value]]:
        def ask(query: str) -> Steps[Value]:
            value = json_body(name, (yield HttpRequest(f"/{query}")))
            assert isinstance(value, dict)
            return value

        return ask

    @staticmethod
    def serving(name: str, serves: Callable[[str, str], bool]) -> Callable[[str], bool]:
        return lambda query: serves(name, query)

    def answer(self, asked: Asked) -> "HttpResponse | ProviderError | asyncio.Future[HttpResponse]":
        script = self.answers.get(asked.provider)
        if script:
            given = script.pop(0)
            return given() if callable(given) else given
        if asked.provider in self.always:
            return self.always[asked.provider]()
        return self.fine(asked.provider)

    def fine(self, name: str) -> HttpResponse:
        return reply(self.clock, {"by": name, "number": len(self.transport.asked), "stamp": self.clock.wall_ms()})

    def give(self, names: str, status: int, **headers: str) -> None:
        """The next answer of each of these."""
        for name in names:
            self.answers.setdefault(name, []).append(reply(self.clock, {}, status, **headers))

    def fail(self, names: str, status: int | None = 500) -> None:
        """From now on, or with None no more."""
        for name in names:
            if status is None:
                self.always.pop(name, None)
            else:
                self.always[name] = lambda: reply(self.clock, {}, status)

    def hold(self, name: str) -> "asyncio.Future[HttpResponse]":
        """The next answer of a provider is given when the test says so."""
        held: asyncio.Future[HttpResponse] = asyncio.get_running_loop().create_future()
        self.answers.setdefault(name, []).append(lambda: held)
        return held

    @property
    def asked(self) -> str:
        """Who was asked so far, a letter each."""
        return "".join(each.provider for each in self.transport.asked)

    async def fetch(self, query: str = "x", max_age_s: float | None = None) -> Fetched[Value]:
        return await self.pool.fetch(query, max_age_s=max_age_s)

    async def exhausted(self, query: str = "x", max_age_s: float | None = None) -> Exhausted:
        with pytest.raises(Exhausted) as failed:
            await self.fetch(query, max_age_s)
        return failed.value

    def next_question(self) -> None:
        """Let what is cached grow old and what failed be forgotten."""
        self.clock.advance(self.pool.policy.ttl_s + 0.01)


def told(fetched: Fetched[Value] | Exhausted) -> list[str]:
    """Attempts in short: provider, outcome, and a question mark if it was not asked."""
    return [f"{each.provider} {each.outcome}{'' if each.asked else '?'}" for each in fetched.attempts]


async def settle(turns: int = 8) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


QUICK = PoolPolicy(ttl_s=1.0, negative_ttl_s=0.5)
HASTY = PoolPolicy(ttl_s=1.0, negative_ttl_s=0.5, patience_s=0)
FRAGILE = UpstreamPolicy(breaker=BreakerPolicy(consecutive=1, cooldown_s=15.0))


# --- cache ---


async def test_within_its_ttl_an_answer_is_not_asked_for_again() -> None:
    world = World("a")
    first = await world.fetch()
    world.clock.advance(60)
    again = await world.fetch()
    assert world.asked == "a"
    assert (first.cached, first.age_ms, first.stale) == (False, 0, False)
    assert (again.cached, again.age_ms, again.stale, again.version) == (True, 60_000, False, first.version)
    assert again.received_ms == first.received_ms
    world.clock.advance(0.01)
    assert (await world.fetch()).version == first.version + 1
    assert world.asked == "aa"


async def test_each_question_has_an_answer_of_its_own() -> None:
    world = World("a")
    assert (await world.fetch("x")).value != (await world.fetch("y")).value
    assert world.asked == "aa"


async def test_a_caller_may_ask_for_a_younger_answer_than_the_ttl_but_never_makes_an_older_one_do() -> None:
    world = World("a")
    await world.fetch()
    world.clock.advance(10)
    assert (await world.fetch(max_age_s=10)).cached
    assert not (await world.fetch(max_age_s=9)).cached
    world.clock.advance(61)
    assert not (await world.fetch(max_age_s=1000)).cached


async def test_the_cache_holds_so_many_answers_and_the_oldest_goes_first() -> None:
    world = World("a", policy=PoolPolicy(size=3))
    for query in "pqrs":
        await world.fetch(query)
    assert list(world.pool.held.values) == ["q", "r", "s"]


async def test_failures_are_remembered_for_so_many_questions_only() -> None:
    world = World("a", policy=PoolPolicy(size=3))
    world.fail("a", 404)
    for query in "pqrs":
        with pytest.raises(NotFound):
            await world.fetch(query)
    assert list(world.pool.held.failures) == ["q", "r", "s"]


async def test_every_new_value_is_reported_once_however_many_callers_asked() -> None:
    world = World("a")
    await asyncio.gather(*(world.fetch() for _ in range(10)))
    await world.fetch()
    world.next_question()
    await world.fetch()
    assert [(query, each.value["number"], each.cached) for query, each in world.heard] == [
        ("x", 1, False),
        ("x", 2, False),
    ]


# --- one call for all who ask the same ---


async def test_a_thousand_equal_questions_at_once_cost_one_call() -> None:
    world = World("a")
    held = world.hold("a")
    asking = [asyncio.create_task(world.fetch()) for _ in range(1000)]
    await settle()
    held.set_result(world.fine("a"))
    answers = await asyncio.gather(*asking)
    assert world.asked == "a"
    assert len({answer.version for answer in answers}) == 1
    assert world.pool.in_flight == {}


async def test_who_asked_first_may_leave_and_the_others_are_answered() -> None:
    world = World("a")
    held = world.hold("a")
    leader, *others = [asyncio.create_task(world.fetch()) for _ in range(5)]
    await settle()
    leader.cancel()
    await settle()
    held.set_result(world.fine("a"))
    assert {answer.source for answer in await asyncio.gather(*others)} == {"a"}
    assert leader.cancelled()
    assert world.asked == "a"


async def test_when_all_have_left_the_answer_is_kept_for_the_next() -> None:
    world = World("a")
    held = world.hold("a")
    asking = [asyncio.create_task(world.fetch()) for _ in range(5)]
    await settle()
    for task in asking:
        task.cancel()
    await settle()
    held.set_result(world.fine("a"))
    await settle()
    assert (await world.fetch()).cached
    assert world.asked == "a"


async def test_a_failure_is_everybodys_for_a_moment_and_no_longer() -> None:
    world = World("a", policy=PoolPolicy(negative_ttl_s=1.0))
    world.give("a", 500)
    failures = await asyncio.gather(*(world.fetch() for _ in range(1000)), return_exceptions=True)
    assert {type(each) for each in failures} == {Exhausted}
    world.clock.advance(1.0)
    await world.exhausted()
    assert world.asked == "a"
    world.clock.advance(0.01)
    assert (await world.fetch()).source == "a"


async def test_a_failure_that_is_raised_a_thousand_times_does_not_grow() -> None:
    world = World("a")
    world.fail("a")
    for _ in range(1000):
        error = await world.exhausted()
    depth, trace = 0, error.__traceback__
    while trace is not None:
        depth, trace = depth + 1, trace.tb_next
    assert depth < 10


# --- whom to ask ---


async def test_a_tier_is_asked_by_weight_under_load() -> None:
    world = World("abc", "d", policy=QUICK, weights={"a": 3, "b": 2, "c": 1})
    for _ in range(60):
        await world.fetch()
        world.next_question()
    assert Counter(world.asked) == {"a": 30, "b": 20, "c": 10}


@pytest.mark.parametrize("why", ["no_key", "allowance", "circuit", "blocked", "banned"])
async def test_what_one_tier_cannot_answer_spills_to_the_next(why: str) -> None:
    allowances = (Allowance(1, 300.0),) if why == "allowance" else ()
    policy = UpstreamPolicy(allowances=allowances, breaker=BreakerPolicy(consecutive=1, cooldown_s=300.0))
    world = World("a", "bc", policy=QUICK, upstream=policy, disabled="a" if why == "no_key" else "")
    match why:
        case "circuit":
            world.give("a", 500)
        case "blocked":
            world.give("a", 451)
        case "banned":
            world.give("a", 418, Retry_After="300")
    if why != "no_key":
        await world.fetch()
        world.next_question()
    fetched = await world.fetch()
    said = {
        "no_key": [],
        "allowance": ["a rate_limited?"],
        "circuit": ["a cooldown?"],
        "blocked": ["a blocked?"],
        "banned": ["a rate_limited?"],
    }
    assert told(fetched) == [*said[why], f"{fetched.source} ok"]
    assert fetched.source in ("b", "c")
    assert world.asked.count("a") == (0 if why == "no_key" else 1)


async def test_who_comes_after_the_one_that_answered_was_not_passed_over() -> None:
    world = World("a", "b", policy=QUICK, upstream=FRAGILE)
    world.give("ab", 500)
    await world.exhausted()
    world.clock.advance(30)
    world.upstreams["b"].breaker.admit()  # a probe that somebody else has out
    assert told(await world.fetch()) == ["a ok"]
    assert world.pool.counts.failovers == 0


async def test_one_failure_after_the_other_is_made_good_within_one_question() -> None:
    world = World("abc", "d")
    world.give("a", 500)
    world.give("b", 429, Retry_After="9")
    world.answers["c"] = [reply(world.clock, b"<html>")]
    fetched = await world.fetch()
    assert told(fetched) == ["a unavailable", "b rate_limited", "c malformed", "d ok"]
    assert (fetched.source, fetched.stale, fetched.cached) == ("d", False, False)
    assert world.pool.counts.failovers == 1
    assert told(await world.fetch()) == told(fetched), "a cached value tells how it was got"


async def test_nobody_is_asked_twice_for_one_question() -> None:
    world = World("ab", "cd")
    world.fail("abcd")
    await world.exhausted()
    assert sorted(world.asked) == ["a", "b", "c", "d"]


async def test_who_could_not_answer_the_question_at_all_is_not_mentioned() -> None:
    world = World("ab", serves=lambda name, query: name in query)
    assert told(await world.fetch("b")) == ["b ok"]
    assert not world.pool.serves("c")
    assert told(await world.exhausted("c")) == []


async def test_a_provider_that_fell_out_while_others_were_asked_is_not_asked_after_all() -> None:
    world = World("ab", upstream=FRAGILE)
    held = world.hold("a")
    asking = asyncio.create_task(world.fetch("x"))
    await settle()
    world.give("b", 500)
    assert (await world.fetch("y")).source == "a"  # b's turn, which failed; then a
    held.set_result(reply(world.clock, {}, 500))
    with pytest.raises(Exhausted) as failed:
        await asking
    assert told(failed.value) == ["b cooldown?", "a unavailable"]
    assert world.asked == "aba"


async def test_one_whose_allowance_is_too_small_for_this_question_was_not_asked() -> None:
    world = World("a", "b", upstream=UpstreamPolicy(allowances=(Allowance(3, 60.0),)))

    def costly(query: str) -> Steps[Value]:
        yield HttpRequest("/x", weight=9)
        return {}

    world.pool.providers[0] = Provider(world.upstreams["a"], costly)
    fetched = await world.fetch()
    assert told(fetched) == ["a rate_limited?", "b ok"]
    assert (world.asked, world.pool.counts.upstream) == ("b", 1)


async def test_a_conversation_waits_for_an_allowance_by_the_second_and_breaks_off_for_one_by_the_minute() -> None:
    world = World("a", "b", policy=QUICK, upstream=UpstreamPolicy(allowances=(Allowance(2, 1.05), Allowance(5, 60.0))))

    def long(query: str) -> Steps[Value]:
        for _ in range(4):
            yield HttpRequest("/x")
        return {}

    world.pool.providers[0] = Provider(world.upstreams["a"], long)
    asking = asyncio.create_task(world.fetch())
    await settle()
    assert world.asked == "aa"
    world.clock.advance(1.3)
    assert told(await asking) == ["a ok"]
    world.clock.advance(2)
    assert told(await world.fetch()) == ["a rate_limited", "b ok"], "its first step was sent"
    assert world.asked == "aaaaab"
    assert world.upstreams["a"].report()["failures"] == 0


async def test_a_moments_wait_for_an_allowance_is_better_than_no_answer() -> None:
    world = World("a", policy=QUICK, upstream=UpstreamPolicy(allowances=(Allowance(1, 2.0),)))
    await world.fetch()
    world.clock.advance(1.2)
    asking = asyncio.create_task(world.fetch())
    await settle()
    assert not asking.done()
    world.clock.advance(1.4)
    assert told(await asking) == ["a ok"]
    assert world.transport.asked[1].at - world.transport.asked[0].at >= 2.0


# --- questions that are wrong ---


@pytest.mark.parametrize(("status", "kind"), [(404, NotFound), (400, BadQuery)])
async def test_a_question_that_all_refuse_is_refused(status: int, kind: type[ProviderError]) -> None:
    world = World("a", "b")
    world.fail("ab", status)
    with pytest.raises(kind):
        await world.fetch()
    assert world.asked == "ab"
    assert {upstream.state for upstream in world.upstreams.values()} == {ProviderState.ACTIVE}


async def test_what_one_does_not_know_another_may() -> None:
    world = World("a", "b")
    world.give("a", 404)
    assert told(await world.fetch()) == ["a not_found", "b ok"]


async def test_unknown_to_one_and_unanswered_by_another_is_no_proof_that_it_does_not_exist() -> None:
    world = World("a", "b", policy=QUICK)
    world.give("a", 404)
    await world.fetch()
    world.next_question()
    world.give("a", 404)
    world.fail("b")
    kept = await world.fetch()
    assert kept.stale
    assert told(kept) == ["a not_found", "b unavailable"]


# --- old answers ---


async def test_a_value_just_past_its_ttl_is_served_at_once_while_one_refresh_runs() -> None:
    world = World("a", policy=PoolPolicy(ttl_s=10, stale_while_revalidate_s=20))
    await world.fetch()
    world.clock.advance(11)
    held = world.hold("a")
    old = await asyncio.gather(*(world.fetch() for _ in range(100)))
    assert {(each.value["number"], each.stale, each.cached, each.age_ms) for each in old} == {(1, True, True, 11_000)}
    held.set_result(world.fine("a"))
    await settle()
    assert (await world.fetch()).value["number"] == 2
    assert world.asked == "aa"
    world.clock.advance(31)
    assert not (await world.fetch()).stale


async def test_a_refresh_that_fails_is_quiet_and_not_tried_again_for_each_caller(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World("a", policy=PoolPolicy(ttl_s=10, stale_while_revalidate_s=20, negative_ttl_s=1.0))
    await world.fetch()
    world.clock.advance(11)
    world.fail("a")
    for _ in range(100):
        assert (await world.fetch()).stale
        await settle()
    assert world.asked == "aa"
    gc.collect()
    assert "asyncio" not in {record.name for record in caplog.records}, "a failure nobody fetched"
    world.clock.advance(1.1)
    await world.fetch()
    await settle()
    assert world.asked == "aaa"


async def test_a_listener_of_ours_that_crashes_during_a_refresh_is_heard_of(caplog: pytest.LogCaptureFixture) -> None:
    world = World("a", policy=PoolPolicy(ttl_s=10, stale_while_revalidate_s=20))
    await world.fetch()
    world.clock.advance(11)

    def crash(query: str, fetched: Fetched[Value]) -> None:
        raise ZeroDivisionError

    world.pool.received = crash
    await world.fetch()
    await settle()
    assert "fetch_crashed" in [record.getMessage() for record in caplog.records]


async def test_while_no_provider_answers_the_last_good_value_is_given_with_its_true_age_and_then_no_more() -> None:
    world = World("ab", policy=PoolPolicy(ttl_s=10, stale_if_error_s=100), upstream=FRAGILE)
    good = await world.fetch()
    world.fail("ab")
    world.clock.advance(100)
    kept = await world.fetch()
    assert (kept.value, kept.stale, kept.cached, kept.age_ms) == (good.value, True, True, 100_000)
    assert kept.received_ms == good.received_ms
    assert sorted(told(kept)) == ["a unavailable", "b unavailable"]
    world.clock.advance(0.2)
    error = await world.exhausted()
    assert 1 <= error.retry_after_s <= FORCED_PROBE_EVERY_S
    assert not error.late


async def test_an_error_is_not_made_good_by_what_is_older_than_the_caller_takes() -> None:
    world = World("a", policy=PoolPolicy(ttl_s=10))
    await world.fetch()
    world.fail("a")
    world.clock.advance(20)
    await world.exhausted(max_age_s=15)
    world.clock.advance(2)
    assert (await world.fetch()).age_ms == 22_000


async def test_after_an_outage_of_all_the_first_probe_ends_it_and_there_is_no_stampede() -> None:
    world = World("ab", policy=PoolPolicy(ttl_s=10, stale_if_error_s=100, patience_s=0), upstream=FRAGILE)
    world.fail("ab")
    outage_s = 300
    for _ in range(outage_s):
        await asyncio.gather(*(world.fetch() for _ in range(50)), return_exceptions=True)
        world.clock.advance(1.0 + 1e-6)
    asked = len(world.asked)
    assert asked <= 2 + outage_s / FORCED_PROBE_EVERY_S + 20, "one probe at a time, however many ask"
    world.fail("ab", None)
    recovered_s = 0.0
    while not (
        answers := [
            a
            for a in await asyncio.gather(*(world.fetch() for _ in range(50)), return_exceptions=True)
            if isinstance(a, Fetched)
        ]
    ):
        world.clock.advance(1.0 + 1e-6)
        recovered_s += 1.0
    assert recovered_s <= FORCED_PROBE_EVERY_S
    assert len(answers) == 50
    assert len(world.asked) == asked + 1


async def test_how_long_to_wait_is_the_soonest_that_any_may_be_asked() -> None:
    world = World("ab", upstream=FRAGILE)
    world.give("a", 429, Retry_After="30")
    world.give("b", 429, Retry_After="70")
    assert 29 <= (await world.exhausted()).retry_after_s <= 30
    nobody = World("a", disabled="a")
    error = await nobody.exhausted()
    assert (error.retry_after_s, str(error)) == (60.0, "no provider of things can answer (none is enabled)")


# --- circuits ---


async def test_with_every_circuit_open_the_most_promising_is_probed_now_and_then() -> None:
    world = World("abc", policy=HASTY, upstream=FRAGILE)
    world.fail("abc")
    await world.exhausted()
    assert world.asked == "abc"
    world.clock.advance(1)
    *passed, probed = told(await world.exhausted())
    assert len(world.asked) == 4
    assert (len(passed), {each[1:] for each in passed}, probed[1:]) == (2, {" cooldown?"}, " unavailable")
    for _ in range(7):
        world.clock.advance(0.6)
        await world.exhausted()
    assert len(world.asked) == 4, "not more often than every five seconds"
    world.clock.advance(1)
    await world.exhausted()
    assert len(world.asked) == 5


async def test_while_the_only_probe_is_out_no_other_is_forced() -> None:
    world = World("a", policy=HASTY, upstream=FRAGILE)
    world.give("a", 500)
    await world.exhausted()
    world.clock.advance(1)
    held = world.hold("a")
    probing = asyncio.create_task(world.fetch("y"))
    await settle()
    world.clock.advance(6)
    await world.exhausted("z")
    assert world.asked == "aa"
    held.set_result(world.fine("a"))
    await probing
    assert (await world.fetch("w")).source == "a"


async def test_flapping_is_given_longer_and_longer_rests_and_switches_stay_few() -> None:
    world = World("a", "b", policy=HASTY, upstream=UpstreamPolicy(breaker=BreakerPolicy(cooldown_s=15.0)))
    sources = []
    for second in range(600):
        world.fail("a", 500 if second % 2 else None)
        sources.append((await world.fetch()).source)
        world.clock.advance(1.01)
    switches = [sum(sources[i] != sources[i + 1] for i in range(at, at + 60)) for at in range(0, 540, 60)]
    assert world.asked.count("a") < 100
    assert max(switches[3:]) <= 12
    assert sum(switches[5:]) < sum(switches[:4])


# --- deadlines ---


async def test_a_question_has_a_deadline_after_which_no_provider_is_asked() -> None:
    world = World("abc", policy=PoolPolicy(deadline_s=10, attempt_s=8))

    def slow(seconds: float) -> Callable[[], HttpResponse]:
        def answer() -> HttpResponse:
            world.clock.advance(seconds)
            raise TimedOut("prov", "no complete answer")

        return answer

    world.answers = {"a": [slow(8)], "b": [slow(2)]}
    error = await world.exhausted()
    assert (error.late, told(error), world.asked) == (True, ["a timeout", "b timeout"], "ab")


async def test_an_attempt_is_cut_off_at_its_time() -> None:
    world = World("a", "b", policy=PoolPolicy(attempt_s=0.3))
    world.hold("a")
    assert told(await world.fetch()) == ["a timeout", "b ok"]


# --- what its own stamp says ---


async def test_a_provider_that_repeats_an_old_value_is_passed_by_and_held_for_unhealthy() -> None:
    world = World("a", "b", policy=QUICK, upstream=FRAGILE, stamped=True)
    stuck = world.clock.wall_ms()
    world.always["a"] = lambda: reply(world.clock, {"by": "a", "stamp": stuck})
    assert (await world.fetch()).source == "a"
    world.clock.advance(599)
    assert (await world.fetch()).source == "a"
    world.clock.advance(2)
    assert told(await world.fetch()) == ["a outdated", "b ok"]
    world.next_question()
    assert told(await world.fetch()) == ["a cooldown?", "b ok"]


@pytest.mark.parametrize("ahead_s", [300, 3600, -3600])
async def test_a_stamp_is_compared_with_the_providers_own_clock(ahead_s: int) -> None:
    world = World("a", "b", policy=QUICK, stamped=True)
    dates = {300: "00:05", 3600: "01:00", -3600: "23:00"}
    day = "Sat, 21" if ahead_s < 0 else "Sun, 22"
    date = f"{day} Nov 2026 {dates[ahead_s]}:00 GMT"
    stamp = world.clock.wall_ms() + ahead_s * 1000
    world.always["a"] = lambda: reply(world.clock, {"stamp": stamp}, Date=date)
    fetched = await world.fetch()
    assert fetched.source == "a"
    assert fetched.age_ms <= 500, "no more is known of a clock that tells seconds"
    stamp -= 700_000
    world.next_question()
    assert told(await world.fetch())[0] == "a outdated"


async def test_a_wall_clock_that_is_set_back_makes_no_answer_younger_or_older() -> None:
    world = World("a")
    await world.fetch()
    world.clock.advance(30)
    world.clock.started_ms -= 3_600_000
    kept = await world.fetch()
    assert (kept.age_ms, kept.stale) == (30_000, False)
    world.clock.advance(31)
    assert not (await world.fetch()).cached


# --- across restarts ---


async def test_a_value_from_before_a_restart_is_as_old_as_it_is() -> None:
    world = World("a", policy=PoolPolicy(ttl_s=60, stale_if_error_s=7200))
    world.pool.restore("x", {"by": "disk"}, "b", world.clock.wall_ms() - 3_600_000)
    assert world.heard == []
    world.fail("a")
    kept = await world.fetch()
    assert (kept.value, kept.source, kept.age_ms, kept.stale) == ({"by": "disk"}, "b", 3_600_000, True)
    world.fail("a", None)
    world.clock.advance(2)
    assert (await world.fetch()).source == "a"
    world.pool.restore("x", {"by": "disk"}, "b", world.clock.wall_ms())
    assert (await world.fetch()).source == "a", "what was fetched since is newer"


async def test_a_value_whose_stamp_is_yet_to_come_is_not_taken_for_fresh() -> None:
    world = World("a")
    world.pool.restore("x", {"by": "disk"}, "b", world.clock.wall_ms() + 10**10)
    assert (await world.fetch()).source == "a"


# --- reading off the loop ---


async def test_a_heavy_reading_that_is_cut_off_fails_its_attempt_only() -> None:
    import threading

    world = World("a", "b", policy=PoolPolicy(attempt_s=0.3))
    go = threading.Event()

    def reading(query: str) -> Steps[Value]:
        yield HttpRequest("/x")
        go.wait(5)
        return {}

    first = world.pool.providers[0]
    world.pool.providers[0] = Provider(first.upstream, reading, heavy=True)
    try:
        assert told(await world.fetch()) == ["a timeout", "b ok"]
    finally:
        go.set()


async def test_heavy_providers_are_read_like_others() -> None:
    world = World("a", heavy=True)
    assert (await world.fetch()).value["by"] == "a"


# --- what is told ---


def diary(caplog: pytest.LogCaptureFixture) -> Sequence[tuple[str, object]]:
    return [
        (each.getMessage(), vars(each).get("passed_over"))
        for each in caplog.records
        if each.name == provider_log.ROTATION
    ]


async def test_every_change_of_the_answering_provider_is_a_line_in_the_log_of_rotation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World("a", "b", policy=QUICK)
    with caplog.at_level(logging.INFO, provider_log.ROTATION):
        for status in (200, 200, 500, 500, 200):
            world.give("a", status)
            if status == 200:
                world.answers["a"] = [world.fine("a")]
            await world.fetch()
            world.next_question()
        world.give("ab", 500)
        world.pool.held.values.clear()
        await world.exhausted()
    assert diary(caplog) == [
        ("provider_rotated", ""),
        ("provider_rotated", "a unavailable"),
        ("provider_rotated", ""),
        ("pool_exhausted", "a unavailable,b unavailable"),
    ]


async def test_a_report_counts_what_became_of_the_questions() -> None:
    world = World("a", "b", policy=PoolPolicy(ttl_s=10))
    world.give("a", 500)
    await world.fetch()
    await world.fetch()
    world.clock.advance(11)
    world.fail("ab")
    await world.fetch()
    assert world.pool.report() == {
        "name": "things",
        "tiers": [["a"], ["b"]],
        "asked": 3,
        "cache_hits": 1,
        "stale_served": 1,
        "upstream_calls": 4,
        "failovers": 1,
        "exhausted": 1,
        "last_source": "b",
    }


async def test_the_last_attempts_are_known_after_a_success_and_after_a_failure() -> None:
    world = World("ab")
    assert world.pool.last_attempts("x") == ()
    await world.fetch()
    assert [each.report() for each in world.pool.last_attempts("x")] == [{"provider": "a", "outcome": "ok"}]
    world.clock.advance(61)
    world.fail("ab")
    await world.fetch()
    assert [each.outcome for each in world.pool.last_attempts("x")] == ["unavailable"] * 2


async def test_whether_a_question_would_cost_a_call_is_known_before() -> None:
    world = World("a", policy=PoolPolicy(ttl_s=10, stale_while_revalidate_s=5))
    assert world.pool.would_ask("x")
    await world.fetch()
    assert not world.pool.would_ask("x")
    assert not world.pool.would_ask("x", max_age_s=5)
    world.clock.advance(11)
    assert not world.pool.would_ask("x"), "the refresh is nobody's wait"
    assert world.pool.would_ask("x", max_age_s=5)
    world.clock.advance(5)
    assert world.pool.would_ask("x")
    world.always["a"] = lambda: Unavailable("a", "connection failed")
    await world.fetch()
    assert not world.pool.would_ask("x"), "so soon after a failure nobody asks"


async def test_closing_ends_what_is_in_flight() -> None:
    world = World("a")
    never: asyncio.Future[HttpResponse] = asyncio.get_running_loop().create_future()
    world.always["a"] = lambda: never  # type: ignore[assignment, return-value]
    asking = asyncio.create_task(world.pool.fetch("q"))
    while not world.pool.in_flight:  # noqa: ASYNC110 - a turn or two of the loop
        await asyncio.sleep(0)
    await world.pool.close()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert world.pool.in_flight == {}


async def test_the_services_own_questions_have_a_part_of_the_allowance_to_themselves() -> None:
    world = World("a", upstream=UpstreamPolicy(allowances=(Allowance(10, 60.0),), reserve=0.3))
    for number in range(20):
        with contextlib.suppress(Exhausted):
            await world.pool.fetch(f"client-{number}")
    assert len(world.transport.asked) == 7
    for number in range(3):
        await world.pool.fetch(f"own-{number}", urgent=True)
    assert len(world.transport.asked) == 10


async def test_what_a_client_may_not_have_asked_the_service_itself_still_asks_at_once() -> None:
    world = World("a", upstream=UpstreamPolicy(allowances=(Allowance(2, 60.0),), reserve=0.5))
    await world.pool.fetch("other")
    with pytest.raises(Exhausted):
        await world.pool.fetch("same")
    told = await world.pool.fetch("same", urgent=True)
    assert told.attempts[-1].outcome == "ok", "a client's failure is not remembered against the service"


async def test_the_service_joins_a_clients_call_and_asks_itself_where_that_fails() -> None:
    world = World("a", upstream=UpstreamPolicy(allowances=(Allowance(2, 60.0),), reserve=0.5))
    await world.pool.fetch("other")
    client = asyncio.create_task(world.pool.fetch("same"))
    await asyncio.sleep(0)
    own = asyncio.create_task(world.pool.fetch("same", urgent=True))
    await settle()
    assert isinstance(client.exception(), Exhausted)
    assert own.result().source == "a"


async def test_max_age_has_no_provider_asked_more_often_than_its_floor() -> None:
    world = World("a", policy=PoolPolicy(ttl_s=60.0), upstream=UpstreamPolicy(floor_s=10.0))
    await world.pool.fetch("q")
    for _ in range(19):
        world.clock.advance(5.0)
        with contextlib.suppress(Exhausted):
            await world.pool.fetch("q", max_age_s=0.0)
    gaps = [later.at - earlier.at for earlier, later in itertools.pairwise(world.transport.asked)]
    assert len(gaps) == 9
    assert min(gaps) >= 10.0
    with pytest.raises(Exhausted) as refused:
        await world.pool.fetch("q", max_age_s=0.0)
    assert refused.value.retry_after_s <= 10.0
    assert (await world.pool.fetch("q", max_age_s=10.0)).cached, "what is held still serves those whom it suits"


async def test_below_its_floor_one_provider_is_passed_over_for_the_next() -> None:
    world = World("a", "b", upstream=UpstreamPolicy(floor_s=10.0))
    assert (await world.pool.fetch("q")).source == "a"
    world.clock.advance(3.0)
    told = await world.pool.fetch("q", max_age_s=0.0)
    assert told.source == "b"
    assert [(each.provider, each.outcome, each.asked) for each in told.attempts] == [
        ("a", "rate_limited", False),
        ("b", "ok", True),
    ]


@pytest.mark.parametrize(("status", "kind"), [(404, NotFound), (400, BadQuery)])
async def test_what_a_source_does_not_know_is_not_asked_again_for_a_while(
    status: int, kind: type[ProviderError]
) -> None:
    world = World("a", policy=PoolPolicy(unknown_ttl_s=300.0))
    world.always["a"] = lambda: reply(world.clock, {}, status)
    for urgent in (False, True) * 30:
        with pytest.raises(kind):
            await world.pool.fetch("nosuchcoin", max_age_s=0.0, urgent=urgent)
        world.clock.advance(5.0)
    assert len(world.transport.asked) == 1
    world.clock.advance(1.0)
    with pytest.raises(kind):
        await world.pool.fetch("nosuchcoin")
    assert len(world.transport.asked) == 2, "it may exist by now"

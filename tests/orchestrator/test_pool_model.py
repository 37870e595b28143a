"""What holds of a pool whatever its providers answer, whenever, and whoever asks or leaves meanwhile."""

import asyncio
import math
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from orchestrator.breaker import BreakerPolicy
from orchestrator.errors import BadQuery, NotFound, ProviderError, TimedOut
from orchestrator.fetched import Exhausted, Fetched
from orchestrator.held import PoolPolicy
from orchestrator.hosts import BANNED_COOLDOWN_S, BLOCKED_COOLDOWN_S, RATE_LIMITED_COOLDOWN_S, Hosts
from orchestrator.http import HttpRequest, HttpResponse, json_body
from orchestrator.limiter import Allowance
from orchestrator.pool import Pool
from orchestrator.provider import Provider, Steps
from orchestrator.upstream import Upstream
from orchestrator.upstream_policy import UpstreamPolicy
from tests.fakes.clock import ManualClock
from tests.fakes.transport import reply

TIERS = ("ab", "cd")
ALLOWANCES = {
    "a": (Allowance(3, 10.0),),
    "b": (),
    "c": (Allowance(1, 2.0), Allowance(4, 60.0)),
    "d": (Allowance(5, 1.0),),
}
POLICY = PoolPolicy(
    ttl_s=10.0,
    stale_while_revalidate_s=5.0,
    stale_if_error_s=60.0,
    deadline_s=30.0,
    attempt_s=1000.0,  # by the real clock, of which no time passes here
    negative_ttl_s=1.0,
    patience_s=1.5,
    size=8,
)
QUERIES = ("x", "y", "z")
EPSILON = 1e-6

Ending = HttpResponse | ProviderError


@dataclass(eq=False)
class Sent:
    """One request that waits for its answer."""

    provider: str
    query: str
    probe: bool
    answer: "asyncio.Future[HttpResponse]"


class PoolModel(RuleBasedStateMachine):
    """Two tiers of two providers. Requests stay out until a rule answers them; time passes only by a rule."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.out: list[Sent] = []
        self.sent_at: dict[str, list[float]] = {name: [] for name in "abcd"}
        self.barred_until = dict.fromkeys("abcd", -math.inf)
        self.tried: dict[str, list[str]] = {query: [] for query in QUERIES}
        self.received_at: dict[int, float] = {}
        self.newest: dict[str, float] = {}
        self.numbers = 0
        self.callers: list[asyncio.Task[None]] = []
        self.answered = 0

    @initialize(seed=st.integers(0, 3))
    def begin(self, seed: int) -> None:
        rng = random.Random(seed)
        self.upstreams = {
            name: Upstream(
                name,
                Hosts([f"http://{name}.example"], self.clock),
                self,
                self.clock,
                rng,
                UpstreamPolicy(allowances=ALLOWANCES[name], breaker=BreakerPolicy(consecutive=2, cooldown_s=5.0)),
            )
            for name in "abcd"
        }
        tiers = [[Provider(self.upstreams[name], self.asking(name)) for name in tier] for tier in TIERS]
        self.pool: Pool[str, int] = Pool("things", tiers, self.clock, rng, POLICY, received=self.received)

    @staticmethod
    def asking(name: str) -> Callable[[str], Steps[int]]:
        def ask(query: str) -> Steps[int]:
            number = json_body(name, (yield HttpRequest(query)))
            assert isinstance(number, int)
            return number

        return ask

    def received(self, query: str, fetched: Fetched[int]) -> None:
        assert fetched.value not in self.received_at, "a new value is told once"
        self.received_at[fetched.value] = self.newest[query] = self.clock.now()

    # --- the transport ---

    async def send(self, provider: str, base_url: str, request: HttpRequest, timeout_s: float) -> HttpResponse:
        now = self.clock.now()
        assert now >= self.barred_until[provider] - EPSILON, "asked before its Retry-After, ban or block was over"
        self.sent_at[provider].append(now)
        for allowance in ALLOWANCES[provider]:
            window = [at for at in self.sent_at[provider] if at > now - allowance.per_s]
            assert len(window) <= allowance.weight, f"more than {allowance.weight} in {allowance.per_s} s"
        probe = self.upstreams[provider].breaker.open_until is not None
        assert not (probe and any(each.probe for each in self.out if each.provider == provider)), "a second probe"
        assert provider not in self.tried[request.path], "asked twice for one question"
        self.tried[request.path].append(provider)
        sent = Sent(provider, request.path, probe, self.loop.create_future())
        self.out.append(sent)
        return await sent.answer

    # --- what may happen ---

    @rule(query=st.sampled_from(QUERIES), max_age_s=st.sampled_from((None, None, None, 0.0, 3.0, 30.0)))
    def somebody_asks(self, query: str, max_age_s: float | None) -> None:
        pool, now = self.pool, self.clock.now()
        age_s = now - self.newest.get(query, -math.inf)
        fresh = age_s <= min(POLICY.ttl_s, math.inf if max_age_s is None else max_age_s)
        begins = query not in pool.in_flight
        failure = pool.held.failures.get(query)
        unknown = failure is not None and isinstance(failure.error, NotFound | BadQuery)
        remembered_s = POLICY.unknown_ttl_s if unknown else POLICY.negative_ttl_s
        forgotten = failure is None or now - failure.at > remembered_s
        may = any(upstream.may_ask() for upstream in self.upstreams.values())
        if begins:
            self.tried[query] = []
        before, answered = sum(map(len, self.sent_at.values())), self.answered
        self.callers.append(self.loop.create_task(self.caller(query, max_age_s)))
        self.settle()
        sent = sum(map(len, self.sent_at.values())) - before
        if fresh:
            assert (sent, self.answered) == (0, answered + 1), "a fresh answer is at hand"
        elif begins and forgotten and may:
            assert sent == 1, "somebody may be asked, and is"
        elif not begins or not forgotten:
            assert sent == 0

    async def caller(self, query: str, max_age_s: float | None) -> None:
        try:
            told = await self.pool.fetch(query, max_age_s=max_age_s)
        except Exhausted as error:
            assert 1 <= error.retry_after_s < math.inf
            assert all(each.outcome != "ok" for each in error.attempts)
            self.check_names([each.provider for each in error.attempts])
        except (NotFound, BadQuery):
            pass
        else:
            self.check(told, max_age_s)
        self.answered += 1

    def check(self, told: Fetched[int], max_age_s: float | None) -> None:
        age_s = self.clock.now() - self.received_at[told.value]
        assert told.age_ms == round(age_s * 1000), "its true age"
        on_error = told.attempts[-1].outcome != "ok"
        assert told.stale == (age_s > POLICY.ttl_s or on_error)
        assert told.cached or (age_s == 0 and not on_error)
        assert age_s <= (POLICY.stale_if_error_s if max_age_s is None else max_age_s) + EPSILON
        if not on_error:
            assert told.attempts[-1].provider == told.source
        assert all(each.outcome != "ok" for each in told.attempts[:-1])
        self.check_names([each.provider for each in told.attempts])

    @staticmethod
    def check_names(names: list[str]) -> None:
        assert len(set(names)) == len(names), "each provider is mentioned once"

    @precondition(lambda self: self.out)
    @rule(
        which=st.integers(0, 99),
        ending=st.sampled_from(
            ("ok", "ok", "ok", "429", "429 after 7", "418", "418 after 90", "451", "500", "hang", "html", "404", "400")
        ),
    )
    def one_answers(self, which: int, ending: str) -> None:
        self.end(self.out[which % len(self.out)], ending)
        self.settle()

    @rule(seconds=st.sampled_from((0.3, 1.0, 1.1, 2.5, 5.0, 7.0, 10.0, 31.0, 121.0, 3601.0)))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.settle()

    @precondition(lambda self: self.callers)
    @rule(which=st.integers(0, 99))
    def somebody_leaves(self, which: int) -> None:
        self.callers[which % len(self.callers)].cancel()
        self.settle()

    # --- how ---

    def end(self, sent: Sent, ending: str) -> None:
        self.out.remove(sent)
        status, _, wait_s = ending.partition(" after ")
        if status in ("429", "418", "451"):
            unsaid_s = {"429": RATE_LIMITED_COOLDOWN_S, "418": BANNED_COOLDOWN_S, "451": BLOCKED_COOLDOWN_S}[status]
            until = self.clock.now() + (float(wait_s) if wait_s else unsaid_s)
            self.barred_until[sent.provider] = max(self.barred_until[sent.provider], until)
        if status == "hang":
            sent.answer.set_exception(TimedOut(sent.provider, "no complete answer"))
        elif status == "html":
            sent.answer.set_result(reply(self.clock, b"<html>"))
        elif status == "ok":
            self.numbers += 1
            sent.answer.set_result(reply(self.clock, self.numbers))
        else:
            headers = {"Retry_After": wait_s} if wait_s else {}
            sent.answer.set_result(reply(self.clock, {}, int(status), **headers))

    def settle(self) -> None:
        """Let every task get as far as it can without an answer or time."""

        async def turns() -> None:
            for _ in range(12):
                await asyncio.sleep(0)

        self.run(turns())
        for task in [task for task in self.callers if task.done()]:
            self.callers.remove(task)
            if not task.cancelled():
                task.result()

    def run(self, work: Coroutine[object, object, None]) -> None:
        self.loop.run_until_complete(work)

    @invariant()
    def memory_is_bounded(self) -> None:
        assert len(self.pool.held.values) <= POLICY.size
        assert len(self.pool.held.failures) <= POLICY.size

    @invariant()
    def every_request_out_belongs_to_a_question_in_flight(self) -> None:
        assert {each.query for each in self.out} <= set(self.pool.in_flight)

    def teardown(self) -> None:
        try:
            while self.out:
                self.end(self.out[0], "ok")
                self.settle()
            self.time_passes(BLOCKED_COOLDOWN_S + 1)  # beyond every rest and cooldown, and awake are all who slept
            while self.out:
                self.end(self.out[0], "ok")
                self.settle()
            assert self.callers == []
            assert self.pool.in_flight == {}
            assert asyncio.all_tasks(self.loop) == set(), "no task is left"
            for query in QUERIES:
                self.clock.advance(2.5)
                self.somebody_asks(query, 0.0)
                assert [each.query for each in self.out] == [query], "nobody is given up for ever"
                self.end(self.out[0], "ok")
                self.settle()
                assert self.newest[query] == self.clock.now()
        finally:
            self.loop.close()


TestPool = PoolModel.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=60)

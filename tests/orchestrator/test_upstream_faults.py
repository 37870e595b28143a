"""Every fault of an upstream, end to end: a loopback server that misbehaves, the real transport, and a pool that must
answer all the same. Limits and cooldowns use a clock that the test turns; only a connection that hangs costs real time.

Two sources that disagree are in tests/feeds/test_disagreements.py.
"""

import asyncio
import contextlib
import math
import random
import re
import socket
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import orjson
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from feeds.chains import ETHEREUM
from feeds.exchange.market import ExchangeMarket
from feeds.fields import Rows
from feeds.model import Coin, Event
from feeds.news.articles import NewsQuery
from feeds.providers import alternative_me, coingecko, ethereum_rpc, etherscan, rss
from feeds.queries import MarketQuery
from feeds.symbols import Symbols
from feeds.venues.binance.description import BINANCE
from orchestrator import http
from orchestrator.bans import BanFile
from orchestrator.breaker import BreakerPolicy
from orchestrator.choice import FORCED_PROBE_EVERY_S
from orchestrator.errors import Blocked, Malformed, Outdated, ProviderError
from orchestrator.fetched import Exhausted, Fetched
from orchestrator.held import PoolPolicy
from orchestrator.hosts import Hosts
from orchestrator.http import AiohttpTransport, HttpRequest, HttpResponse, json_body
from orchestrator.pool import Pool
from orchestrator.provider import Provider, Steps
from orchestrator.sender import Throttled
from orchestrator.upstream import ProviderState, Upstream
from orchestrator.upstream_policy import UpstreamPolicy
from tests.asking import asking
from tests.fakes.alternative_me import FakeAlternativeMe
from tests.fakes.clock import ManualClock
from tests.fakes.coingecko import FakeCoinGecko
from tests.fakes.ethereum_rpc import FakeEthereumRpc
from tests.fakes.etherscan import FakeEtherscan
from tests.fakes.rss import FakeRss
from tests.fakes.upstream import Call, FakeUpstream, Fault, Reply, gzip_bomb, in_json

TLS = Path(__file__).parents[1] / "samples" / "tls"
THING = HttpRequest("/thing")
Value = dict[str, object]

QUICK = PoolPolicy(ttl_s=1.0, negative_ttl_s=0.5, patience_s=0.0, stale_if_error_s=120.0)
FRAGILE = UpstreamPolicy(breaker=BreakerPolicy(consecutive=1, cooldown_s=15.0))
IMPATIENT = PoolPolicy(ttl_s=1.0, negative_ttl_s=0.5, patience_s=0.0, attempt_s=0.25)


class Thing(FakeUpstream):
    """A provider of one thing, which says who gave it and what the time is."""

    def __init__(self, name: str, clock: ManualClock) -> None:
        super().__init__(clock.wall_ms)
        self.name = name
        self.on("GET", "/thing", self.reply)

    def reply(self, call: Call) -> Reply:
        return Reply(orjson.dumps({"by": self.name, "ts": self.wall_ms(), "filling": "x" * 2000}))


def reading(name: str) -> Callable[[str], Steps[Value]]:
    def ask(query: str) -> Steps[Value]:
        value = json_body(name, (yield THING))
        if not isinstance(value, dict) or "by" not in value:
            raise Malformed(name, "no thing in it")
        return value

    return ask


class World:
    """A pool of fakes on real sockets, in the order of their names, each a tier of its own."""

    def __init__(
        self, names: str, policy: PoolPolicy, upstream: UpstreamPolicy | None, stamped: bool, bans: BanFile | None
    ) -> None:
        self.clock = bans.clock if bans is not None and isinstance(bans.clock, ManualClock) else ManualClock()
        self.fakes = {name: Thing(name, self.clock) for name in names}
        self.policy = policy
        self.upstream_policy = upstream
        self.stamped = stamped
        self.bans = bans
        self.heard: list[Fetched[Value]] = []
        self.upstreams: dict[str, Upstream] = {}
        self.pool: Pool[str, Value]

    def begin(self, session: aiohttp.ClientSession, urls: Callable[[str], str] | None = None) -> None:
        """Also again, as after a restart."""
        transport = AiohttpTransport(session, self.clock)
        self.upstreams = {
            name: Upstream(
                name,
                Hosts([urls(name) if urls is not None else fake.url], self.clock),
                transport,
                self.clock,
                random.Random(1),
                self.upstream_policy,
                bans=self.bans,
            )
            for name, fake in self.fakes.items()
        }
        self.pool = Pool(
            "things",
            [
                [
                    Provider(
                        self.upstreams[name],
                        reading(name),
                        stamp_of=(lambda value: int(str(value["ts"]))) if self.stamped else None,
                    )
                ]
                for name in self.fakes
            ],
            self.clock,
            random.Random(1),
            self.policy,
            received=lambda query, fetched: self.heard.append(fetched),
        )

    @property
    def a(self) -> Thing:
        return self.fakes["a"]

    def calls(self) -> dict[str, int]:
        return {name: len(fake.calls) for name, fake in self.fakes.items()}

    async def fetch(self) -> Fetched[Value]:
        """A new question: the cache is too old by now."""
        self.clock.advance(self.policy.ttl_s + 0.01)
        return await self.pool.fetch("x")

    async def outcomes(self) -> list[str]:
        return [f"{each.provider} {each.outcome}{'' if each.asked else '?'}" for each in (await self.fetch()).attempts]


@contextlib.asynccontextmanager
async def world(
    names: str = "ab",
    policy: PoolPolicy = QUICK,
    upstream: UpstreamPolicy | None = None,
    *,
    stamped: bool = False,
    bans: BanFile | None = None,
    connector: aiohttp.BaseConnector | None = None,
    urls: Callable[[str], str] | None = None,
) -> AsyncIterator[World]:
    """A world, with its fakes listening."""
    made = World(names, policy, upstream, stamped, bans)
    async with contextlib.AsyncExitStack() as stack:
        for fake in made.fakes.values():
            await stack.enter_async_context(fake)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        made.begin(session, urls)
        yield made


# --- refusals ---


async def test_after_a_429_nothing_is_asked_for_its_time_and_others_answer_at_once() -> None:
    async with world() as things:
        things.a.script.append(Fault(status=429, headers={"Retry-After": "7"}))
        assert await things.outcomes() == ["a rate_limited", "b ok"]
        upstream, refused_at = things.upstreams["a"], things.clock.now()
        assert (upstream.state, upstream.breaker.failures) == (ProviderState.RATE_LIMITED, 0)
        assert upstream.report()["open_until"] == things.clock.wall_ms() + 7000
        while things.calls()["a"] == 1:
            await things.fetch()
        assert 7.0 <= things.clock.now() - refused_at <= 8.1
        assert upstream.state is ProviderState.ACTIVE


@pytest.mark.parametrize(
    ("said", "cooldown_s"),
    [
        ("Sun, 22 Nov 2026 00:05:01 GMT", 300.0),  # 300 s after the answer's own date
        (None, 30.0),
        ("soon", 30.0),
        ("-5", 30.0),
        ("99999999", 3 * 86400.0),
        ("0", 1.0),
    ],
    ids=["date", "none", "garbage", "negative", "absurd", "zero"],
)
async def test_every_form_of_retry_after_is_understood_or_replaced(said: str | None, cooldown_s: float) -> None:
    async with world() as things:
        headers = {} if said is None else {"Retry-After": said}
        things.a.script.append(Fault(status=429, headers=headers))
        assert (await things.fetch()).source == "b"
        assert things.upstreams["a"].wait_s() == pytest.approx(cooldown_s, abs=1.1 if said and "GMT" in said else 1e-6)


@pytest.mark.parametrize(
    ("reset", "unit_s", "cooldown_s"),
    [
        ("30", 1.0, 30.0),
        ("30000", 0.001, 30.0),
        ("1795305630", 1.0, 30.0),
        ("1795305630000", 1.0, 30.0),
        ("1e300", 1.0, 3600.0),
        ("-1", 1.0, 60.0),
    ],
    ids=["seconds", "milliseconds", "unix_s", "unix_ms", "absurd", "unsaid"],
)
async def test_a_provider_that_says_nothing_is_left_is_believed_in_its_own_unit(
    reset: str, unit_s: float, cooldown_s: float
) -> None:
    async with world(upstream=UpstreamPolicy(reset_unit_s=unit_s)) as things:
        headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}
        things.a.script.append(Fault(headers=headers))
        assert await things.outcomes() == ["a ok"]
        assert things.upstreams["a"].wait_s() == pytest.approx(cooldown_s, abs=1.1)
        assert await things.outcomes() == ["a rate_limited?", "b ok"]


async def test_a_ban_lasts_its_time_and_outlives_a_restart(tmp_path: Path) -> None:
    bans = BanFile(tmp_path / "bans.json", ManualClock())
    async with world(bans=bans) as things, aiohttp.ClientSession() as session:
        things.a.script.append(Fault(status=418, headers={"Retry-After": "600"}))
        assert await things.outcomes() == ["a banned", "b ok"]
        things.clock.advance(100)
        things.bans = BanFile(tmp_path / "bans.json", things.clock)
        things.begin(session)
        assert await things.outcomes() == ["a rate_limited?", "b ok"]
        things.clock.advance(495)
        assert (await things.fetch()).source == "b"
        assert things.calls()["a"] == 1
        things.clock.advance(5)
        assert (await things.fetch()).source == "a"


@pytest.mark.parametrize("status", [451, 403])
async def test_a_provider_that_blocks_us_is_asked_once_an_hour_and_its_reason_is_kept(status: int) -> None:
    async with world() as things:
        things.a.always = Fault(status=status)
        for _ in range(4 * 60):
            assert (await things.fetch()).source == "b"
            things.clock.advance(58.99)
        assert things.calls()["a"] == 4
        report = things.upstreams["a"].report()
        assert (report["state"], report["reason"]) == ("blocked", f"blocked with status {status}")


async def test_what_is_asked_of_one_that_blocks_us_is_not_sent_and_not_counted() -> None:
    clock = ManualClock()
    async with Thing("a", clock) as fake, asking("prov", [fake.url], clock, http.refusal) as upstream:
        fake.always = Fault(status=451)
        outcomes = []
        for _ in range(3):
            with pytest.raises(ProviderError) as failed:
                await upstream.get(THING)
            outcomes.append(type(failed.value))
    assert outcomes == [Blocked, Throttled, Throttled]
    assert upstream.report()["outcomes"] == {"blocked": 1}
    assert len(fake.calls) == 1


async def test_a_first_step_elsewhere_that_blocks_us_is_held_against_the_provider() -> None:
    clock = ManualClock()
    async with Thing("login", clock) as login, Thing("a", clock) as fake:
        login.always = Fault(status=403)

        def steps() -> Steps[HttpResponse]:
            yield HttpRequest("/thing", base_url=login.url)
            return (yield THING)

        async with asking("prov", [fake.url], clock, http.refusal) as upstream:
            for _ in range(20):
                with pytest.raises(ProviderError):
                    await upstream.run(steps())
    assert len(login.calls) == 5
    assert upstream.state is ProviderState.COOLDOWN


async def test_a_burst_of_500_opens_the_circuit_and_one_probe_closes_it() -> None:
    async with world() as things:
        things.a.script.extend([Fault(status=500)] * 20)
        for _ in range(14):
            assert (await things.fetch()).source == "b"
        assert things.calls()["a"] == 5
        assert things.upstreams["a"].state is ProviderState.COOLDOWN
        things.a.script.clear()
        things.clock.advance(20)
        slow = Fault(delay_s=0.05)
        things.a.script.append(slow)
        fetched = await asyncio.gather(*(things.pool.fetch(query) for query in "pqrstuvw"))
        assert Counter(each.source for each in fetched) == {"a": 1, "b": 7}
        assert things.calls()["a"] == 6
        assert (await things.fetch()).source == "a"


# --- slow and silent ---


async def test_answers_that_are_always_slow_open_the_circuit_too() -> None:
    async with world(upstream=UpstreamPolicy(breaker=BreakerPolicy(window_s=600.0))) as things:

        def slowly(call: Call) -> Reply:
            things.clock.advance(5.0)
            return things.a.reply(call)

        things.a.on("GET", "/thing", slowly)
        sources = [(await things.fetch()).source for _ in range(12)]
        assert sources == ["a"] * 10 + ["b"] * 2
    async with world(policy=IMPATIENT) as things:
        things.a.always = Fault(delay_s=60.0)
        began = time.monotonic()
        assert await things.outcomes() == ["a timeout", "b ok"]
        assert time.monotonic() - began < 30.0, "it did not wait for the answer"


@pytest.mark.parametrize("where", ["before_head", "after_head", "in_body"])
async def test_a_silence_ends_at_its_deadline_and_its_connection_is_not_used_again(where: str) -> None:
    async with world(policy=IMPATIENT) as things:
        things.a.script.append(Fault(hang=where))  # type: ignore[arg-type]  # the three of its literals
        began = time.monotonic()
        assert await things.outcomes() == ["a timeout", "b ok"]
        assert time.monotonic() - began > 0.2
        assert await things.outcomes() == ["a ok"], "a connection that hangs would answer nothing more"
        assert [each.source for each in things.heard] == ["b", "a"]


async def test_of_several_hosts_the_silent_one_uses_up_its_own_share_of_the_time_only() -> None:
    clock = ManualClock()
    async with Thing("a", clock) as silent, Thing("b", clock) as other:
        silent.always = Fault(hang="before_head")
        policy = UpstreamPolicy(timeout_s=60.0)
        async with asking("prov", [silent.url, other.url], clock, http.refusal, policy) as upstream:
            for _ in range(2):
                assert (await upstream.run(reading("prov")("x"), timeout_s=0.4))["by"] == "b"
    assert len(silent.calls) == 1, "the choice stays with the one that works"


async def test_a_drip_is_cut_off_though_it_never_pauses_for_long() -> None:
    async with world(policy=IMPATIENT) as things:
        things.a.script.append(Fault(drip_s=0.03))
        began = time.monotonic()
        assert await things.outcomes() == ["a timeout", "b ok"]
        assert time.monotonic() - began < 30.0, "2000 bytes would take a minute"


# --- crooked bodies ---


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (Fault(cut_at=1000), "unavailable"),
        (Fault(declared_longer=True), "unavailable"),
        (Fault(body=b'{"by": "a", "ts": 17'), "malformed"),
        (Fault(html=True), "malformed"),
        (Fault(body=b""), "malformed"),
        (Fault(body=b'{"error": "out of order"}'), "malformed"),
        (Fault(body=b"null"), "malformed"),
        (Fault(body=b"[" * 200_000), "malformed"),
    ],
    ids=["u9_cut", "u9_too_long", "u9_half", "u10_html", "u11_empty", "u12_error", "null", "u16_deep"],
)
async def test_a_body_that_is_none_costs_one_attempt_and_nothing_of_it_is_published(fault: Fault, outcome: str) -> None:
    async with world() as things:
        things.a.script.append(fault)
        assert await things.outcomes() == [f"a {outcome}", "b ok"]
        assert [each.value["by"] for each in things.heard] == ["b"]
        assert await things.outcomes() == ["a ok"]


async def test_of_several_hosts_one_that_answers_nonsense_is_not_asked_first_again() -> None:
    clock = ManualClock()
    async with Thing("a", clock) as captive, Thing("b", clock) as other:
        captive.always = Fault(html=True)
        async with asking("prov", [captive.url, other.url], clock, http.refusal) as upstream:
            with pytest.raises(Malformed, match="HTML instead of JSON"):
                await upstream.run(reading("prov")("x"))
            for _ in range(3):
                assert (await upstream.run(reading("prov")("x")))["by"] == "b"
    assert len(captive.calls) == 1


@pytest.mark.parametrize(
    ("who", "body", "outcome"),
    [
        ("coingecko", {"status": {"error_code": 429, "error_message": "exceeded the Rate Limit"}}, "rate_limited"),
        ("coingecko", {"error": "coin not found"}, "not_found"),
        ("etherscan", {"status": "0", "message": "NOTOK", "result": "Max rate limit reached"}, "rate_limited"),
        ("etherscan", {"status": "0", "message": "NOTOK", "result": "Invalid API Key"}, "unauthorized"),
        ("ethereum_rpc", {"jsonrpc": "2.0", "id": 1, "error": {"code": -32005, "message": "limit"}}, "rate_limited"),
        ("alternative_me", {"data": [], "metadata": {"error": "out of order"}}, "unavailable"),
    ],
    ids=["coingecko", "coingecko_unknown", "etherscan", "etherscan_key", "ethereum_rpc", "alternative_me"],
)
async def test_an_error_inside_a_200_is_what_it_says(who: str, body: object, outcome: str) -> None:
    clock = ManualClock()
    fakes: dict[str, FakeUpstream] = {
        "coingecko": FakeCoinGecko(clock.wall_ms),
        "etherscan": FakeEtherscan(clock.wall_ms),
        "ethereum_rpc": FakeEthereumRpc(clock.wall_ms),
        "alternative_me": FakeAlternativeMe(clock.wall_ms),
    }
    refusals = {
        "coingecko": coingecko.refusal,
        "etherscan": etherscan.refusal,
        "ethereum_rpc": ethereum_rpc.refusal,
        "alternative_me": alternative_me.refusal,
    }
    asks: dict[str, Callable[[], Steps[object]]] = {
        "coingecko": lambda: coingecko.CoinGecko().markets(MarketQuery(10)),
        "etherscan": lambda: etherscan.Etherscan("FAKEETHERSCANKEY").gas(ETHEREUM),
        "ethereum_rpc": lambda: ethereum_rpc.gas(ETHEREUM),
        "alternative_me": lambda: alternative_me.fear_greed(2),
    }
    async with fakes[who] as fake, asking(who, [fake.url], clock, refusals[who]) as upstream:
        fake.script.append(Fault(body=orjson.dumps(body)))
        with pytest.raises(ProviderError) as failed:
            await upstream.run(asks[who]())
        assert failed.value.outcome == outcome
        if outcome != "unauthorized":
            clock.advance(3600)
            await upstream.run(asks[who]())


# --- crooked values ---


Row = dict[str, object]


def spoiling(**by_symbol: Callable[[Row], object]) -> Callable[[bytes], bytes]:
    """A drift that changes the rows of some coins."""

    def change(rows: object) -> None:
        assert isinstance(rows, list)
        for row in rows:
            act = by_symbol.get(str(row["symbol"]))
            if act is not None:
                act(row)

    return in_json(change)


@contextlib.asynccontextmanager
async def gecko() -> AsyncIterator[tuple[FakeCoinGecko, Callable[[], "asyncio.Future[Rows[Coin]]"], ManualClock]]:
    """CoinGecko's fake and a way to ask it for the market table."""
    clock = ManualClock()
    async with (
        FakeCoinGecko(clock.wall_ms, per_minute=10_000) as fake,
        asking("coingecko", [fake.url], clock, coingecko.refusal) as upstream,
    ):

        def ask() -> "asyncio.Future[Rows[Coin]]":
            return asyncio.ensure_future(upstream.run(coingecko.CoinGecko().markets(MarketQuery(10))))

        yield fake, ask, clock


async def test_a_bad_row_costs_itself_and_is_counted_by_its_field() -> None:
    async with gecko() as (fake, ask, _clock):
        whole = (await ask()).good
        fake.script.append(
            Fault(
                drift=spoiling(
                    btc=lambda row: row.update(current_price=str(row["current_price"])),
                    eth=lambda row: row.update(current_price=None),
                    sol=lambda row: row.pop("current_price"),
                    xrp=lambda row: row.update(current_price={"usd": 1}, surprise=[]),
                )
            )
        )
        table = await ask()
    names = [coin.symbol for coin in table.good]
    assert names == [coin.symbol for coin in whole if coin.symbol not in ("ETH", "SOL", "XRP")]
    assert sum(table.rejected.values()) == 3
    assert set(table.rejected) == {"current_price"}


class Listener:
    """What a market publishes, in order."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def publish(self, event: Event) -> None:
        self.events.append(event)

    def gap(self, topic: str, start_ms: int, end_ms: int) -> None:
        raise AssertionError("there are no candles here")

    def stale(self, topic: str, reason: str) -> None:
        raise AssertionError("nothing here stops being true")

    def refuse(self, topic: str, reason: str) -> None:
        raise AssertionError("nothing is asked for that could be refused")


class Market:
    """CoinGecko's prices on their way to those who listen."""

    def __init__(self, upstream: Upstream, clock: ManualClock) -> None:
        self.upstream = upstream
        self.clock = clock
        self.heard = Listener()
        self.market = ExchangeMarket(self.heard, Symbols(), BINANCE)

    async def polled(self) -> dict[str, object]:
        """The prices that one more poll publishes, by symbol."""
        self.clock.advance(30)
        before = len(self.heard.events)
        rows = await self.upstream.run(coingecko.CoinGecko().all_quotes())
        large = [quote for quote in rows.good if quote.id in ("bitcoin", "ethereum")]
        self.market.quotes(large, "coingecko", self.clock.wall_ms())
        return {str(event.data["symbol"]): event.data["price"] for event in self.heard.events[before:]}


@contextlib.asynccontextmanager
async def market() -> AsyncIterator[tuple[FakeCoinGecko, Market]]:
    """With a first poll behind it."""
    clock = ManualClock()
    async with (
        FakeCoinGecko(clock.wall_ms, per_minute=10_000) as fake,
        asking("coingecko", [fake.url], clock, coingecko.refusal) as upstream,
    ):
        made = Market(upstream, clock)
        assert set(await made.polled()) == {"BTC", "ETH"}
        yield fake, made


@pytest.mark.parametrize(
    "price",
    [b"1e400", b"-1", b"0", b"1e-30", b"9" * 400, b'"NaN"', b"true", b"NaN", b"Infinity"],
    ids=["1e400", "negative", "zero", "1e-30", "400_digits", "nan_text", "true", "nan", "infinity"],
)
async def test_no_absurd_price_is_published(price: bytes) -> None:
    def drift(body: bytes) -> bytes:
        spoiled, count = re.subn(
            rb'("id":"bitcoin".*?"current_price":)[^,}]+', lambda found: found[1] + price, body, count=1
        )
        assert count == 1
        return spoiled

    async with market() as (fake, polling):
        fake.script.append(Fault(drift=drift))
        if price in (b"NaN", b"Infinity", b"1e400", b"9" * 400):
            with contextlib.suppress(Malformed):  # strict JSON has no such number
                assert set(await polling.polled()) == {"ETH"}
        else:
            assert set(await polling.polled()) == {"ETH"}, "the others are served"
        assert set(await polling.polled()) == {"BTC", "ETH"}
    for event in polling.heard.events:
        assert isinstance(event.data["price"], float)
        assert math.isfinite(event.data["price"])
        assert event.data["price"] > 1


@pytest.mark.parametrize("factor", [1000, 0.001])
async def test_a_leap_waits_for_a_second_tick_that_agrees(factor: float) -> None:
    def leap(body: object) -> None:
        assert isinstance(body, list)
        (bitcoin,) = [row for row in body if row["id"] == "bitcoin"]
        bitcoin["current_price"] *= factor

    async with market() as (fake, polling):
        fake.script.append(Fault(drift=in_json(leap)))
        assert set(await polling.polled()) == {"ETH"}, "one tick is not believed"
        assert set(await polling.polled()) == {"BTC", "ETH"}, "and was wrong"
        assert polling.market.rejected == {"jump": 1}
        fake.always = Fault(drift=in_json(leap))
        assert set(await polling.polled()) == {"ETH"}
        assert set(await polling.polled()) == {"BTC", "ETH"}, "two agree"


# --- more than can be swallowed ---


def memory_bytes(name: str) -> int:
    """VmRSS, or VmHWM: the most there was since `forget_peak`."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


async def test_a_bomb_is_cut_off_at_the_cap_and_never_held() -> None:
    gzip_bomb()  # made before anything is measured
    async with world(policy=PoolPolicy(ttl_s=1.0, negative_ttl_s=0.5, attempt_s=30.0)) as things:
        assert await things.outcomes() == ["a ok"]
        forget_peak()
        before = memory_bytes("VmRSS")
        things.a.script.append(Fault(bomb=True))
        assert await things.outcomes() == ["a too_large", "b ok"]
        assert memory_bytes("VmHWM") - before < 20_000_000
        things.a.script.append(Fault(body=b'{"by": "' + b"x" * 10_000_000 + b'"}'))
        assert await things.outcomes() == ["a too_large", "b ok"]
        assert await things.outcomes() == ["a ok"]


@pytest.mark.parametrize(
    ("hostile", "result"),
    [
        ("bomb", "malformed"),
        ("xxe", "malformed"),
        ("huge", "too_large"),
        ("javascript_link", ["Relative"]),
        ("html_title", ["Bitcoin & Ether"]),
    ],
)
async def test_a_hostile_feed_costs_its_attempt_and_its_text_is_plain(hostile: str, result: object) -> None:
    clock = ManualClock()
    async with FakeRss(clock.wall_ms) as fake, aiohttp.ClientSession() as session:
        feed = rss.RssFeed("coindesk", fake.feeds["coindesk"])
        account = Upstream(
            feed.name,
            Hosts([feed.base_url], clock),
            AiohttpTransport(session, clock),
            clock,
            random.Random(1),
            refusal=rss.refusal,
        )
        pool = Pool("news", [[Provider(account, feed.articles, heavy=True)]], clock, random.Random(1), QUICK)
        fake.hostile = hostile
        busy = time.process_time()
        try:
            told: object = [article.title for article in (await pool.fetch(NewsQuery())).value.good]
        except Exhausted as error:
            told = error.attempts[-1].outcome
        assert told == result
        assert time.process_time() - busy < 1.0
        fake.hostile = None
        clock.advance(61)
        assert all(str(article.url).startswith("https://") for article in (await pool.fetch(NewsQuery())).value.good)


# --- names, certificates, connections ---


class Resolver(AbstractResolver):
    """Knows where things are, while it is well."""

    def __init__(self) -> None:
        self.well = False
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked += 1
        if not self.well:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [
            ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0),
        ]

    async def close(self) -> None:
        pass


async def test_a_name_that_cannot_be_resolved_fails_fast_and_recovers() -> None:
    resolver = Resolver()
    async with world(upstream=FRAGILE, connector=aiohttp.TCPConnector(resolver=resolver)) as things:
        named = things.a.url.replace("127.0.0.1", "a.example")
        things.upstreams["a"].sender.hosts = Hosts([named], things.clock)
        assert await things.outcomes() == ["a unavailable", "b ok"]
        assert things.upstreams["a"].record.last_error == "cannot connect (host name not found)"
        for _ in range(5):
            assert await things.outcomes() == ["a cooldown?", "b ok"]
        assert resolver.asked == 1, "one that is resting is not looked up"
        resolver.well = True
        things.clock.advance(20)
        assert await things.outcomes() == ["a ok"]


@contextlib.asynccontextmanager
async def tls_server(certificate: str) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server with a certificate; its URL, and what it was told in confidence."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / f"{certificate}.pem", TLS / "key.pem")
    told: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            told.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n{"by":"a"}')
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", told
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize(
    ("certificate", "trusted", "outcome"),
    [
        ("good", True, "ok"),
        ("good", False, "unavailable"),
        ("expired", True, "unavailable"),
        ("elsewhere", True, "unavailable"),
    ],
    ids=["good", "unknown_issuer", "expired", "wrong_host"],
)
async def test_no_request_is_sent_to_a_server_with_a_bad_certificate(
    certificate: str, trusted: bool, outcome: str
) -> None:
    context = ssl.create_default_context(cafile=TLS / f"{certificate}.pem" if trusted else None)
    async with (
        tls_server(certificate) as (url, told),
        world("a", connector=aiohttp.TCPConnector(ssl=context), urls=lambda name: url) as things,
    ):
        if outcome == "ok":
            assert await things.outcomes() == ["a ok"]
            assert len(told) == 1
        else:
            with pytest.raises(Exhausted) as failed:
                await things.fetch()
            assert [each.outcome for each in failed.value.attempts] == [outcome]
            assert things.upstreams["a"].record.last_error == "TLS failed (ClientConnectorCertificateError)"
            assert told == []


async def test_a_handshake_that_stalls_ends_at_its_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        async with world(policy=IMPATIENT) as things:
            things.upstreams["a"].sender.hosts = Hosts([url], things.clock)
            assert await things.outcomes() == ["a timeout", "b ok"]


async def test_a_reset_in_the_middle_costs_the_attempt() -> None:
    async with world() as things:
        things.a.script.append(Fault(reset=True, cut_at=1000))
        assert await things.outcomes() == ["a unavailable", "b ok"]
        assert [each.value["by"] for each in things.heard] == ["b"]


async def test_a_kept_connection_that_ends_as_it_is_used_again_is_one_call_of_ours_and_two_of_theirs() -> None:
    async with world() as things:
        assert await things.outcomes() == ["a ok"]
        things.a.script.append(Fault(reset=True))
        assert await things.outcomes() == ["a ok"]
        assert things.calls() == {"a": 3, "b": 0}
        report = things.upstreams["a"].report()
        assert (report["calls"], report["failures"]) == (2, 0)
        await things.a.kill()
        await things.a.revive()
        assert await things.outcomes() == ["a ok"], "nor does one that ended in its sleep matter"


@pytest.mark.parametrize("where", ["other_host", "metadata"])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(status: int, where: str) -> None:
    clock = ManualClock()
    async with world() as things, Thing("other", clock) as other:
        target = other.url + "/thing" if where == "other_host" else "http://169.254.169.254/latest/meta-data/"
        things.a.script.append(Fault(status=status, headers={"Location": target}))
        assert await things.outcomes() == ["a malformed", "b ok"]
        assert other.calls == []
        assert things.upstreams["a"].record.last_error == f"unexpected status {status}"


# --- time ---


async def test_a_value_that_repeats_itself_for_ten_minutes_is_no_answer() -> None:
    async with world(stamped=True) as things:
        stuck = things.clock.wall_ms()
        things.a.always = Fault(drift=in_json(lambda body: {"by": "a", "ts": stuck}))
        answered_s: Counter[str] = Counter()
        for _ in range(40):
            things.clock.advance(28.99)
            answered_s[(await things.fetch()).source] += 30
        assert 540 <= answered_s["a"] <= 600
        assert sum(answered_s.values()) == 1200
        assert things.upstreams["a"].record.outcomes["outdated"] < 15, "it rests like one that fails"
        assert things.upstreams["a"].state is ProviderState.COOLDOWN
        things.a.always = None
        things.clock.advance(600)
        assert (await things.fetch()).source == "a"


async def test_the_reader_of_coingecko_sees_it_too() -> None:
    async with gecko() as (fake, ask, clock):
        fake.frozen_ms = clock.wall_ms()
        await ask()
        clock.advance(3600)
        with pytest.raises(Outdated):
            await ask()


@pytest.mark.parametrize("jump_ms", [3_600_000, -3_600_000])
async def test_neither_their_clock_nor_ours_makes_an_age_wrong(jump_ms: int) -> None:
    async with world(stamped=True, policy=PoolPolicy(ttl_s=60.0)) as things:
        began_ms, began = things.clock.wall_ms() + 300_000, things.clock.now()
        things.a.wall_ms = lambda: began_ms + round((things.clock.now() - began) * 1000)
        for _ in range(5):
            fetched = await things.fetch()
            assert fetched.source == "a"
            assert fetched.age_ms <= 500, "no more is known of a clock that tells seconds"
        assert things.upstreams["a"].skew_ms == pytest.approx(300_000, abs=1000)
        things.clock.advance(30)
        things.clock.started_ms += jump_ms
        kept = await things.pool.fetch("x")
        assert (kept.cached, kept.stale, kept.age_ms) == (True, False, fetched.age_ms + 30_000)
        things.clock.advance(31)
        again = await things.pool.fetch("x")
        assert (again.source, again.cached) == ("a", False)
        assert again.age_ms <= 500


async def test_a_provider_that_flaps_is_left_alone_for_longer_and_longer() -> None:
    policy = UpstreamPolicy(breaker=BreakerPolicy(window_s=60.0, cooldown_s=15.0))
    async with world(upstream=policy) as things:
        sources = []
        for second in range(480):
            things.a.always = Fault(status=500) if second % 2 else None
            sources.append((await things.fetch()).source)
        switches = [sum(sources[at + i] != sources[at + i + 1] for i in range(59)) for at in range(0, 480, 60)]
        assert max(switches) <= 12
        assert sum(switches) <= 36
        assert things.upstreams["a"].breaker.openings >= 4
        assert things.calls()["a"] < 50


# --- all of them, and all at once ---


async def test_with_all_down_the_last_value_is_given_with_its_age_then_none_and_recovery_is_quick() -> None:
    async with world(upstream=FRAGILE) as things:
        good = await things.fetch()
        for fake in things.fakes.values():
            await fake.kill()
        things.clock.advance(59)
        kept = await things.fetch()
        assert (kept.value, kept.stale, kept.age_ms) == (good.value, True, 60_010)
        assert [each.outcome for each in kept.attempts] == ["unavailable", "unavailable"]
        things.clock.advance(60)
        with pytest.raises(Exhausted) as failed:
            await things.fetch()
        assert 1 <= failed.value.retry_after_s <= FORCED_PROBE_EVERY_S
        for fake in things.fakes.values():
            await fake.revive()
        before = sum(things.calls().values())
        recovered_s = 0.0
        while not things.heard[1:]:
            things.clock.advance(1.0)
            recovered_s += 1.0
            await asyncio.gather(*(things.pool.fetch("x") for _ in range(200)), return_exceptions=True)
        assert recovered_s <= FORCED_PROBE_EVERY_S
        assert sum(things.calls().values()) == before + 1, "no stampede"


async def test_a_thousand_at_once_are_one_call_and_need_not_the_first_of_them() -> None:
    async with world(policy=PoolPolicy(negative_ttl_s=1.0, patience_s=0.0)) as things:
        things.a.script.append(Fault(delay_s=0.05))
        leader, *others = [asyncio.create_task(things.pool.fetch("x")) for _ in range(1000)]
        await things.a.called(1)
        leader.cancel()
        answers = await asyncio.gather(*others)
        assert {(each.source, each.version) for each in answers} == {("a", 1)}
        assert things.calls() == {"a": 1, "b": 0}
        for fake in things.fakes.values():
            fake.script.append(Fault(status=500))
        failures = await asyncio.gather(*(things.pool.fetch("y") for _ in range(1000)), return_exceptions=True)
        assert {type(each) for each in failures} == {Exhausted}
        assert things.calls() == {"a": 2, "b": 1}
        things.clock.advance(1.01)
        assert (await things.pool.fetch("y")).source == "a"

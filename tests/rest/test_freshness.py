"""No answer claims a smaller age than the truth: ages, `max_age`, clocks that differ, sources that stand still."""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.exchange.market import ExchangeMarket
from feeds.fields import Rows
from feeds.model import Candle, Event
from feeds.symbols import Symbols
from feeds.venues.binance.description import BINANCE
from orchestrator.errors import Malformed
from orchestrator.fetched import Exhausted
from orchestrator.held import PoolPolicy
from orchestrator.http import EXCERPT_BYTES, HttpRequest, HttpResponse, excerpt
from orchestrator.persistence import AnswerStore, StoredAnswer
from orchestrator.pool import Pool
from orchestrator.provider import Provider, Steps
from orchestrator.skew import TheirClock
from orchestrator.upstream import ProviderState, Upstream
from stream_server.rest.answers import Answer
from stream_server.rest.table import ENDPOINTS
from tests.fakes.clock import START_MS, ManualClock
from tests.fakes.pipe import HubRig
from tests.fakes.transport import ScriptedTransport, reply
from tests.fakes.upstream import Fault, in_json
from tests.feeding import BTC, RecordingSink, candle
from tests.harness import running, until
from tests.sources import Sourced, sourced

DT, CLEAN = "/api/new-sources/crypto-dt-source", "/api/new-sources/crypto-api-clean"
ANALYZE = "/api/sentiment/analyze"

QUESTIONS = {
    "/api/market": "/api/market?limit=5&",
    "/api/market/global": "/api/market/global?",
    "/api/market/trending": "/api/market/trending?",
    "/api/market/price": "/api/market/price?symbols=BTC,ETH&",
    "/api/market/ohlc": "/api/market/ohlc?symbol=BTC&interval=1m&limit=3&",
    "/api/news": "/api/news?limit=3&",
    "/api/sentiment/global": "/api/sentiment/global?limit=3&",
    ANALYZE: f"{ANALYZE}?",
    "/api/crypto/blockchain/gas": "/api/crypto/blockchain/gas?",
    "/api/crypto/blockchain/stats": "/api/crypto/blockchain/stats?",
    "/api/snapshot": "/api/snapshot?topics=market,price.BTC&",
    "/api/topics": "/api/topics?",
    "/api/status": "/api/status?",
    f"{CLEAN}/health": f"{CLEAN}/health?",
    f"{CLEAN}/stats": f"{CLEAN}/stats?",
    f"{CLEAN}/resources": f"{CLEAN}/resources?limit=2&",
    f"{CLEAN}/categories": f"{CLEAN}/categories?",
    f"{DT}/health": f"{DT}/health?",
    f"{DT}/status": f"{DT}/status?",
    f"{DT}/prices": f"{DT}/prices?symbols=BTC&",
    f"{DT}/klines": f"{DT}/klines?symbol=BTC&interval=1h&limit=3&",
    f"{DT}/fear-greed": f"{DT}/fear-greed?limit=2&",
    f"{DT}/sentiment": f"{DT}/sentiment?text=Bitcoin%20climbs&",
    f"{DT}/reddit": f"{DT}/reddit?limit=2&",
    f"{DT}/news": f"{DT}/news?limit=2&",
    f"{DT}/models": f"{DT}/models?",
    f"{DT}/datasets": f"{DT}/datasets?",
    "/api/new-sources/prices/unified": "/api/new-sources/prices/unified?symbols=BTC&",
    "/api/new-sources/resources/unified": "/api/new-sources/resources/unified?limit=2&",
    "/api/new-sources/status": "/api/new-sources/status?",
    "/api/new-sources/test-all": "/api/new-sources/test-all?",
}
"""Every endpoint by its route, with a question that `max_age` can be added to."""

AGELESS = {
    "/api/status": "is computed for the answer",
    "/api/topics": "is computed for the answer",
    ANALYZE: "the lexicon scores again, and needs no source",
    f"{CLEAN}/health": "the failure to answer is new",
    f"{DT}/health": "the failure to answer is new",
    "/api/new-sources/status": "the failure to answer is new",
    "/api/new-sources/test-all": "the failure to answer is new",
    "/api/new-sources/resources/unified": "falls back to the sources of this service, which it knows",
}
"""Endpoints that always have a young answer, and why."""


async def ask(every: Sourced, path: str, **headers: str) -> tuple[int, dict[str, Any], Mapping[str, str]]:
    """Return the status, body and headers of an answer."""
    http, url = every.service.http, every.service.url + path
    texts = {"texts": ["Bitcoin climbs"], "model": "lexicon"}
    asking = http.post(url, json=texts) if path.startswith(ANALYZE) else http.get(url, headers=headers)
    async with asking as answer:
        body = orjson.loads(await answer.read() or b"{}")
        return answer.status, body, answer.headers


# --- max_age ---


async def test_every_endpoint_reads_max_age_and_keeps_to_it(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        endpoints = {each.path for each in ENDPOINTS if each.path.startswith("/api/")} - {"/api/ticket"}
        assert endpoints == set(QUESTIONS), "an endpoint without its question above"
        for route, question in QUESTIONS.items():
            for nonsense in ("soon", "-1", "nan", "inf", "1_0", "0x1"):
                status, body, _ = await ask(every, f"{question}max_age={nonsense}")
                assert (status, list(body["error"]["details"])) == (400, ["max_age"]), (route, nonsense)
                assert "max_age" in body["error"]["message"], route
            for wanted_s in ("86400", "200", "0.5", "0"):
                status, body, headers = await ask(every, f"{question}max_age={wanted_s}")
                if status == 200:
                    assert body["age_ms"] <= float(wanted_s) * 1000 or wanted_s == "0", (route, wanted_s)
                    assert int(headers["Age"]) * 1000 >= body["age_ms"], route
                else:
                    assert (status, body["error"]["code"]) == (503, "too_old"), (route, wanted_s, body)
                    assert int(headers["Retry-After"]) >= 1, route
                    if wanted_s in ("86400", "200"):
                        pytest.fail(f"{route} has nothing so young: {body}")
                    # 0 asks the sources, if there are any and their allowance suffices.
                    attempts = body["error"]["details"].get("attempts", [])
                    spent = any(each["outcome"] == "rate_limited" for each in attempts)
                    assert wanted_s == "0.5" or spent or not attempts, (route, body)


async def test_every_endpoint_answers_503_instead_of_data_older_than_max_age(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        before = {route: await ask(every, question) for route, question in QUESTIONS.items()}
        assert {status for status, *_ in before.values()} == {200}
        await every.fakes.kill_all()
        clock = every.service.context.clock
        killed_at = clock.now()
        # A busy machine may need a part of this second to compute an answer.
        await until(lambda: clock.now() > killed_at + 1.1)
        for route, question in QUESTIONS.items():
            status, body, headers = await ask(every, f"{question}max_age=1")
            if route in AGELESS:
                assert (status, body.get("age_ms", 0) <= 1000) == (200, True), (route, body)
            else:
                assert (status, body.get("error", {}).get("code")) == (503, "too_old"), (route, body)
                assert int(headers["Retry-After"]) >= 1, route
                assert body["error"]["details"]["age_ms"] > 1000, route
            status, body, _ = await ask(every, question)
            assert status == 200, route
            assert route in AGELESS or body["age_ms"] >= 1100, (route, body["age_ms"])


async def test_an_answer_has_the_age_that_its_provider_states_also_when_asked_again(
    tmp_path: Path,
) -> None:
    async with sourced(tmp_path) as every:
        calls = every.fakes.coingecko.calls
        every.fakes.coingecko.always = Fault(drift=in_json(lambda body: aged(body, 100)))
        status, body, _ = await ask(every, "/api/market?limit=5&max_age=0")
        assert (status, body["age_ms"] >= 100_000) == (200, True)
        before = len(calls)
        status, body, _ = await ask(every, "/api/market?limit=5&max_age=90")
        assert (status, body["error"]["code"]) == (503, "too_old"), "by its own stamp it is older"
        assert body["error"]["details"]["age_ms"] >= 100_000
        assert [each["outcome"] for each in body["error"]["details"]["attempts"]] == ["ok"]
        assert len(calls) == before + 1, "somebody was asked whether there is a younger one"
        every.fakes.coingecko.always = None
        status, body, _ = await ask(every, "/api/market?limit=5&max_age=90")
        assert (status, body["cached"]) == (200, False), "what was held was too old"
        oldest_ms = time.time() * 1000 - min(row["ts"] for row in body["data"])
        assert oldest_ms - 1500 <= body["age_ms"] <= 90_000


def aged(body: Any, by_s: float) -> Any:
    """Return a body of CoinGecko's with all its times set back."""
    if isinstance(body, list):
        for row in body:
            then = datetime.fromisoformat(row["last_updated"])
            row["last_updated"] = datetime.fromtimestamp(then.timestamp() - by_s, UTC).isoformat()
    return body


async def test_a_304_has_the_age_of_the_answer_and_the_tag_changes_when_it_goes_stale(tmp_path: Path) -> None:
    async with sourced(tmp_path, SNAPSHOT_TTL_S="1") as every:
        context = every.service.context
        topic = context.hub.topics["price.BTC"]
        every.fakes.exchange.advance(1)
        await until(lambda: not topic.stale)
        question = "/api/market/price?symbols=BTC"
        status, _, headers = await ask(every, question)
        known = {"If-None-Match": headers["ETag"]}
        await until(lambda: topic.stale)
        status, body, headers = await ask(every, question, **known)
        assert (status, body["stale"]) == (200, True), "the old tag would hide it"
        status, body, headers = await ask(every, question, **{"If-None-Match": headers["ETag"]})
        assert (status, body) == (304, {})
        assert int(headers["Age"]) >= 1


def test_the_same_data_get_another_tag_when_they_go_stale() -> None:
    tags = {Answer(lambda: b"1", "a", true_at=99.0, stale=stale, version="e-1").tag for stale in (False, True)}
    assert len(tags) == 2


def test_max_age_zero_asks_the_sources_and_uses_no_held_value() -> None:
    held = Answer(lambda: b"1", "a", true_at=99.0, cached=True, max_age_ms=0)
    fetched = Answer(lambda: b"1", "a", true_at=99.0, cached=False, max_age_ms=0)
    assert (held.is_too_old(100.0), fetched.is_too_old(100.0)) == (True, False)
    fetched.max_age_ms = 500
    assert fetched.is_too_old(100.0), "a new answer that is older by its own time"


# --- sources that repeat themselves ---


def set_back(days: float, *names: str) -> Callable[[Any], Any]:
    """Set back every time with one of these names, anywhere in a body: seconds, ms, hex or ISO, as it is written."""

    def shifted(value: Any) -> Any:
        seconds = days * 86400
        match value:
            case str() if value.startswith("0x"):
                return hex(int(value, 16) - round(seconds))
            case str() if value.isdigit():
                return str(int(value) - round(seconds))
            case str():
                then = datetime.fromisoformat(value).timestamp() - seconds
                return datetime.fromtimestamp(then, UTC).isoformat()
            case _:
                return value - round(seconds * (1000 if value > 10**12 else 1))

    def walk(node: Any) -> Any:
        if isinstance(node, dict):
            for name, value in node.items():
                node[name] = shifted(value) if name in names and value else walk(value)
        elif isinstance(node, list):
            node[:] = [walk(each) for each in node]
        return node

    return walk


QUARTER_H, HOUR = 1 / 96, 1 / 24
FROZEN: list[tuple[str, str, float, str, str | None]] = [
    ("/api/market?limit=5", "coingecko", QUARTER_H, "last_updated", "binance"),
    ("/api/market/global", "coingecko", HOUR, "updated_at", None),
    ("/api/sentiment/global?limit=3", "alternative_me", 4.0, "timestamp", "crypto_dt_source"),
    ("/api/crypto/blockchain/gas", "node", QUARTER_H, "timestamp", "blockscout"),
    ("/api/crypto/blockchain/stats", "node", QUARTER_H, "timestamp", "blockscout"),
    (f"{DT}/prices?symbols=BTC", "dt_source", QUARTER_H, "timestamp", None),
    (f"{DT}/klines?symbol=BTC&interval=1m&limit=3", "dt_source", QUARTER_H, "timestamp", None),
    (f"{DT}/fear-greed?limit=2", "dt_source", 4.0, "timestamp", None),
]
"""Question, source that repeats itself, for how many days, in which field, and source that answers instead."""
NAMES = {"dt_source": "crypto_dt_source", "node": "ethereum_rpc"}


async def test_a_source_that_repeats_an_old_value_with_a_new_time_is_detected_and_passed_over(
    tmp_path: Path,
) -> None:
    async with sourced(tmp_path) as every:
        for question, name, days, field, instead in FROZEN:
            fake, provider = getattr(every.fakes, name), NAMES.get(name, name)
            fake.always = Fault(drift=in_json(set_back(days, field)))
            status, body, _ = await ask(every, f"{question}{'&' if '?' in question else '?'}max_age=0")
            attempts = body["attempts"] if instead else body["error"]["details"]["attempts"]
            assert {"provider": provider, "outcome": "outdated"} in attempts, question
            assert (status, body.get("source")) == ((200, instead) if instead else (503, None)), question
            fake.always = None
        _, body, _ = await ask(every, "/api/status")
        reported = {each["name"]: each for each in body["data"]["providers"]}
        assert reported["coingecko"]["outcomes"]["outdated"] == 2
        assert "old" in reported["crypto_dt_source"]["last_error"]


class Numbered:
    """Return a pool of one provider that gives no times but numbers its values."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.number = 1
        transport = ScriptedTransport(self.clock, lambda asked: reply(self.clock, {"block": self.number}))
        self.upstream = Upstream("a", None, transport, self.clock, random.Random(1))
        marked = Provider(self.upstream, self.asked, mark_of=lambda value: value, max_lag_s=180.0)
        self.pool: Pool[str, int] = Pool("things", [[marked]], self.clock, random.Random(1), PoolPolicy(ttl_s=5.0))

    def asked(self, query: str) -> Steps[int]:
        response = yield HttpRequest("/")
        return int(orjson.loads(response.body)["block"])


async def test_a_source_without_times_is_detected_by_a_number_that_does_not_change() -> None:
    world = Numbered()
    ages_s = []
    for _ in range(7):
        ages_s.append((await world.pool.fetch("x", max_age_s=0)).age_ms / 1000)
        world.clock.advance(30)
    assert ages_s == [0, 30, 60, 90, 120, 150, 180], "as old as the first sight of it"
    with pytest.raises(Exhausted, match="outdated"):
        await world.pool.fetch("x", max_age_s=0)
    world.number += 1
    world.clock.advance(30)
    assert (await world.pool.fetch("x", max_age_s=0)).age_ms == 0
    assert world.upstream.state is ProviderState.ACTIVE


# --- clocks ---


@given(
    ahead_s=st.floats(-7200, 7200),
    answers=st.lists(
        st.tuples(st.floats(0, 600), st.floats(0.001, 2), st.floats(0, 1), st.booleans(), st.floats(-1e9, 1e9)),
        min_size=3,
        max_size=20,
    ),
    jump_s=st.sampled_from([-3600, 0, 3600]),
)
def test_a_minority_of_wrong_dates_does_not_change_the_measured_clock_of_a_provider(
    ahead_s: float, answers: list[tuple[float, float, float, bool, float]], jump_s: int
) -> None:
    clock = ManualClock()
    theirs = TheirClock(clock)
    true_ahead_ms = START_MS - 1_000_000 + ahead_s * 1000
    lies: list[bool] = []
    for pause_s, round_trip_s, share, wants_to_lie, wrong_s in answers:
        clock.advance(pause_s)
        asked_at = clock.now()
        clock.advance(round_trip_s)
        # Never two in a row: a wrong date that is repeated consistently is a new clock.
        is_lie = wants_to_lie and len(lies) >= 2 and not any(lies[-3:])
        lies.append(is_lie)
        said_ms = true_ahead_ms + (asked_at + share * round_trip_s) * 1000
        date_ms = int(said_ms // 1000) * 1000 + (round(wrong_s * 1000) if is_lie else 0)
        theirs.heard(date_ms, asked_at, clock.now())
        slack_ms = 1000 + 1000 * max(each[1] for each in answers)
        assert abs(theirs.now_ms() - (true_ahead_ms + clock.now() * 1000)) <= slack_ms
    shown_ms = theirs.now_ms()
    clock.started_ms += jump_s * 1000
    assert theirs.now_ms() == shown_ms, "our own clock was set: that says nothing of theirs"


def test_an_answer_that_a_cache_repeats_with_its_old_date_does_not_set_the_clock_back() -> None:
    clock = ManualClock()
    theirs = TheirClock(clock)
    for _ in range(30):
        theirs.heard(START_MS, clock.now(), clock.now())
        clock.advance(60)
    assert abs(theirs.now_ms() - clock.wall_ms()) <= 1000


def test_a_time_in_a_body_is_believed_to_the_round_trip() -> None:
    clock = ManualClock()
    theirs = TheirClock(clock)
    for _ in range(3):
        asked_at = clock.now()
        clock.advance(0.04)
        theirs.heard(clock.wall_ms() + 300_000 - 20, asked_at, clock.now(), grain_ms=1.0)
        clock.advance(5)
    assert theirs.skew_ms == pytest.approx(300_000, abs=21)


def test_ages_do_not_jump_with_our_wall_clock() -> None:
    rig = HubRig(ttl_s=10.0)
    rig.publish("price.BTC")
    topic = rig.hub.topics["price.BTC"]
    rig.clock.advance(5)
    for jump_ms in (3_600_000, -7_200_000):
        rig.clock.started_ms += jump_ms
        assert topic.age_ms(rig.clock.now()) == 5000
        rig.hub.tick()
        assert not topic.stale


@pytest.mark.parametrize("skew_ms", [-300_000, 300_000])
def test_prices_and_closings_are_timed_by_the_exchanges_clock(skew_ms: int) -> None:
    heard = RecordingSink()
    market = ExchangeMarket(heard, Symbols(), BINANCE)
    market.pairs([BTC])
    market.skew_ms = skew_ms
    ticker = {"e": "24hrMiniTicker", "E": START_MS + skew_ms - 700, "s": "BTCUSDT"}
    ticker |= dict.fromkeys(("c", "o", "h", "l", "v", "q"), "10.0")
    market.part(BINANCE.frames.open(orjson.dumps({"stream": "!miniTicker@arr", "data": [ticker]}), START_MS))
    assert heard.events[0].lag_ms == 700
    series = market.follow(("BTCUSDT", "1m"))
    series.begin()
    forming = candle(START_MS, closed=False)
    market.candles(("BTCUSDT", "1m"), Rows([forming]), None, START_MS)
    closed = candle(START_MS)
    frame = orjson.dumps(_kline(closed, closed.close_time + 60))
    market.part(BINANCE.frames.open(frame, closed.close_time + 90 - skew_ms))
    assert list(market.close_delays_ms["1m"]) == [90]


def _kline(each: Candle, event_ms: int) -> dict[str, object]:
    k = {"t": each.open_time, "T": each.close_time, "s": each.symbol, "i": each.interval, "o": "10", "h": "10"}
    k |= {"l": "10", "c": "10", "v": "1", "q": "10", "n": 5, "x": each.closed}
    data = {"e": "kline", "E": event_ms, "s": each.symbol, "k": k}
    return {"stream": "btcusdt@kline_1m", "data": data}


# --- topics ---


def test_a_value_from_before_a_restart_keeps_its_time_and_is_stale_at_once() -> None:
    rig = HubRig(ttl_s=10.0)
    listener = rig.listener("market.global")
    received = rig.clock.wall_ms() - 3_600_000
    rig.hub.publish(Event("market.global", received - 5000, received, "coingecko", {"total_market_cap": 1.0}))
    rig.clock.turn()
    update, stale = listener.take()
    assert (update["type"], update["received"]) == ("update", received)
    assert stale == {"type": "stale", "topic": "market.global", "age_ms": 3_605_000, "reason": "no_update"}
    late = rig.client()
    late.subscribe("market.global")
    assert [each["type"] for each in late.take()] == ["subscribed", "update", "stale", "synced"]
    now_ms = rig.clock.wall_ms()
    rig.hub.publish(Event("market.global", now_ms, now_ms, "coingecko", {"total_market_cap": 1.0}))
    rig.clock.turn()
    assert [each["type"] for each in listener.take()] == ["update", "fresh"]


@given(ages_s=st.lists(st.floats(0, 9), min_size=2, max_size=6), wait_s=st.floats(0.5, 12))
def test_values_go_stale_by_their_own_age_in_any_order_of_arrival(ages_s: list[float], wait_s: float) -> None:
    rig = HubRig(ttl_s=10.0)
    for number, age_s in enumerate(ages_s):
        received = rig.clock.wall_ms() - round(age_s * 1000)
        rig.hub.publish(Event(f"price.S{number}", received, received, "disk", {}))
    rig.clock.advance(wait_s)
    rig.hub.tick()
    for number, age_s in enumerate(ages_s):
        is_stale = rig.hub.topics[f"price.S{number}"].stale
        if age_s + wait_s > 10.0 + 1.001:
            assert is_stale
        if age_s + wait_s < 10.0 - 0.001:
            assert not is_stale


async def test_values_kept_on_disk_are_published_after_a_restart_with_dead_sources(tmp_path: Path) -> None:
    received_ms = time.time_ns() // 1_000_000 - 86_400_000
    totals: dict[str, object] = {
        "total_market_cap": 3.1e12,
        "total_volume_24h": None,
        "market_cap_change_24h_pct": None,
    }
    totals |= {"btc_dominance_pct": None, "eth_dominance_pct": None, "dominance_pct": {"BTC": 55.0}}
    totals |= {"active_cryptocurrencies": None, "markets": None, "ts": received_ms - 60_000}
    AnswerStore(tmp_path / "answers").put("global", StoredAnswer(orjson.dumps(totals), "coingecko", received_ms))
    async with running(None, tmp_path) as service:
        status, body = await service.get("/api/snapshot?topics=market.global")
        reported: Any = body
        _, view = await service.get("/api/topics")
        topics: Any = view["data"]
        _, view = await service.get("/api/market/global")
        answer: Any = view
    assert (status, reported["stale"], reported["source"]) == (200, True, "coingecko")
    assert reported["data"][0]["received"] == received_ms
    assert reported["age_ms"] >= 86_460_000
    assert reported["ttl_s"]["market.global"] > 0
    (topic,) = [each for each in topics["topics"] if each["topic"] == "market.global"]
    assert (topic["ts"], topic["received"], topic["stale"]) == (received_ms - 60_000, received_ms, True)
    assert topic["age_ms"] >= reported["age_ms"]
    assert answer["age_ms"] >= 86_460_000, "the same truth"


# --- news ---


async def test_news_have_the_age_of_the_outlet_that_answered_longest_ago(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        sources = every.service.context.sources
        assert sources is not None
        heard_at = sources.desk.heard_at
        await until(lambda: len(heard_at) == 5 and sources.desk.batches.empty())
        silent = next(iter({each.source for each in sources.desk.held.values()}))
        heard_at[silent] -= 7200.0
        _, body, _ = await ask(every, "/api/news?limit=200")
        assert body["age_ms"] >= 7_200_000
        await every.fakes.rss.kill()
        _, body, _ = await ask(every, "/api/news?limit=200&max_age=3600")
        assert silent not in body["source"].split(","), "of that one there is nothing young"
        assert body["age_ms"] <= 3_600_000
        assert body["data"]


# --- excerpts of unreadable answers ---


@given(
    st.text(min_size=8, max_size=40).filter(lambda text: text.strip()),
    st.text(max_size=150),
    st.text(max_size=300),
    st.booleans(),
)
def test_the_excerpt_of_an_unreadable_answer_is_one_short_line_without_keys(
    secret: str, before: str, after: str, is_header: bool
) -> None:
    kept = {"apikey": secret}
    request = HttpRequest("/", headers=kept if is_header else {}, secrets={} if is_header else kept)
    body = f"{before}{secret}{after}".encode(errors="replace")
    shown = excerpt(request, HttpResponse(200, {}, body, START_MS))
    assert shown.isprintable() or not shown
    assert len(shown.encode()) <= EXCERPT_BYTES
    if secret.isprintable() and "…" not in secret:
        assert secret not in shown or secret in before + "…" + after


async def test_the_log_has_the_beginning_of_a_page_that_came_instead_of_data(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    page = b"<html>\r\n<title>Just a moment</title> key=s3cret-of-ours " + b"x" * 500
    transport = ScriptedTransport(clock, lambda asked: reply(clock, page))
    upstream = Upstream("a", None, transport, clock, random.Random(1))

    def asking() -> Steps[None]:
        yield HttpRequest("/", secrets={"apikey": "s3cret-of-ours"})
        raise Malformed("a", "HTML instead of JSON")

    with pytest.raises(Malformed):
        await upstream.run(asking())
    (line,) = [record for record in caplog.records if record.getMessage() == "provider_failed"]
    assert vars(line)["began"] == r"<html>\r\n<title>Just a moment</title> key=… …"
    assert "s3cret" not in caplog.text
    await asyncio.sleep(0)

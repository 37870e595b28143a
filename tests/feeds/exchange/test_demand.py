"""What clients may start upstream, in all, from one address and a second; and that names they choose are forgotten."""

import asyncio
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from feeds.exchange.backfill import HISTORY, HISTORY_ON_DEMAND, STARTS_AT_ONCE, STARTS_PER_S
from feeds.exchange.feed import ExchangeFeed
from stream_server.access.addresses import address_of, is_loopback
from stream_server.context import Context
from stream_server.delivery.demand import Demands
from tests.chaos import virtual
from tests.fakes.binance import DEFAULT_PAIRS, START_MS, FakeBinance, RestFault, synthetic_pairs
from tests.marketplace import Marketplace, marketplace, play

PAIRS = tuple(replace(pair, trades_per_s=1, listed_ms=START_MS - 3_600_000) for pair in DEFAULT_PAIRS[:4])
INTERVALS = ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h")


class Recorded:
    """Feeds that remember what they are asked for."""

    def __init__(self) -> None:
        self.wanted: set[str] = set()

    def want(self, topic: str) -> None:
        self.wanted.add(topic)

    def drop(self, topic: str) -> bool:
        self.wanted.discard(topic)
        return True


def demands(most: int, an_address: int = 0) -> Demands:
    return Demands(most, an_address, Recorded(), lambda topic: not topic.startswith("price."))


def test_topics_on_demand_are_bounded_in_all_and_by_address_until_they_are_dropped() -> None:
    demand = demands(5, 3)
    assert demand.charge(["a", "b", "price.X", "a"], "1.2.3.4") == []
    assert demand.charge(["c", "d"], "1.2.3.4") == ["d"]
    assert demand.charge(["a", "d", "e", "f"], "5.6.7.8") == ["f"], "what runs already costs nobody anything"
    assert demand.is_full()
    assert demand.charge(["price.Y"], "9.9.9.9") == []
    for topic in ("a", "b", "c"):
        demand.drop(topic)
    assert demand.by_account == {"5.6.7.8": 2}
    assert demand.charge(["f", "g", "h"], "") == [], "one without an account is bounded by the total alone"
    assert demand.charge(["i"], "") == ["i"]
    for topic in ("d", "e", "f", "g", "h"):
        demand.drop(topic)
    assert (demand.started, demand.by_account, demand.refused) == ({}, {}, 3)


@pytest.mark.parametrize(
    ("peer", "own"), [("127.0.0.1", True), ("::1", True), ("127.9.9.9", True), ("10.0.0.1", False)]
)
def test_this_machines_own_addresses_have_no_limit_of_theirs(peer: str, own: bool) -> None:
    assert is_loopback(address_of(peer, [], [])) is own


@pytest.mark.parametrize("transport", ["websocket", "sse"])
def test_over_the_limit_a_client_is_told_by_name_and_the_rest_of_its_subscription_stands(
    tmp_path: Path, transport: str
) -> None:
    async def story(market: Marketplace) -> None:
        names = ["price.BTC", "ohlcv.BTC.1m", *(f"ohlcv.ETH.{interval}" for interval in INTERVALS)]
        if transport == "websocket":
            async with market.listener(*names) as listener:
                messages = listener.messages
        else:
            messages = await heard_by_sse(market, names)
        (error,) = [each for each in messages if each["type"] == "error"]
        assert (error["code"], error["topics"]) == ("demand_limit", names[5:])
        (answer,) = [each for each in messages if each["type"] == "subscribed"]
        assert answer["topics"] == names[:5]
        await market.until(lambda: not market.context.demand.started, 30.0)
        async with market.listener(*names[5:8]) as listener:
            assert listener.of("error") == []

    play(tmp_path, story, PAIRS, MAX_DEMAND_TOPICS="3", IDLE_TOPIC_S="2")


async def heard_by_sse(market: Marketplace, names: list[str]) -> list[dict[str, object]]:
    messages: list[dict[str, object]] = []
    async with market.http.get(f"{market.url}/sse?topics={','.join(names)}") as answer:
        async for line in answer.content:
            if line.startswith(b"data: "):
                messages.append(orjson.loads(line[6:]))
            if messages and messages[-1]["type"] == "synced":
                return messages
    raise AssertionError("the stream ended")


def test_what_is_idle_gives_way_to_what_is_wanted(tmp_path: Path) -> None:
    async def story(market: Marketplace) -> None:
        async with market.listener("ohlcv.ETH.1m", "ohlcv.ETH.3m"):
            pass
        await asyncio.sleep(1)
        async with market.listener("ohlcv.SOL.1m", "ohlcv.SOL.3m") as listener:
            assert listener.of("error") == []
            await market.until(lambda: not market.exchange.subscribed("ethusdt@kline_1m"), 5)

    play(tmp_path, story, PAIRS, MAX_DEMAND_TOPICS="2", IDLE_TOPIC_S="600")


def test_four_sockets_that_name_thousands_of_series_start_few_and_those_gently(tmp_path: Path) -> None:
    pairs = tuple(replace(pair, listed_ms=START_MS - 3_600_000) for pair in synthetic_pairs(90))
    names = [f"ohlcv.{pair.base}.{interval}" for pair in pairs[13:] for interval in INTERVALS]

    async def story(market: Marketplace) -> None:
        exchange, ready = market.exchange, []
        await asyncio.sleep(5)
        before, began_s = len(exchange.requests_to("klines")), exchange.clock_s
        async with market.listener("price.BTC") as listener:
            for start in range(0, 600, 200):
                await listener.send({"op": "subscribe", "topics": names[start : start + 200]})
            for _ in range(40):
                ready.append((await market.get("/health/ready"))[0])
                await asyncio.sleep(0.25)
            await market.until(lambda: len(exchange.requests_to("klines")) >= before + 100, 60.0)
            asked = exchange.requests_to("klines")[before:]
            assert set(ready) == {200}
            assert sum("kline" in stream for stream in exchange.streams) == 101
            refused = [topic for each in listener.of("error") for topic in each["topics"]]
            assert len(refused) == 500
            assert max(int(request.query["limit"]) for request in asked) == HISTORY_ON_DEMAND
            in_one_second = sum(request.at_s < asked[0].at_s + 1.0 for request in asked)
            assert in_one_second <= STARTS_AT_ONCE + STARTS_PER_S + 1
        assert began_s < exchange.clock_s

    assert HISTORY_ON_DEMAND < HISTORY
    play(tmp_path, story, pairs, MAX_DEMAND_TOPICS="100")


def test_readiness_waits_for_configured_series_and_not_for_those_of_clients(tmp_path: Path) -> None:
    async def story(market: Marketplace) -> None:
        await asyncio.sleep(5)
        market.exchange.break_rest("klines", RestFault(delay_s=300.0))
        async with market.listener("ohlcv.ETH.1m"):
            await asyncio.sleep(3)
            code, body = await market.get("/health/ready")
            assert (code, body["categories"]["ohlcv"]) == (200, "value")

    play(tmp_path, story, PAIRS)


# --- names that clients choose ---


def sizes(context: Context) -> dict[str, int]:
    """How much is remembered by keys that clients choose."""
    demand = context.demand
    feed = context.supervisor.feeds[0]
    assert isinstance(feed, ExchangeFeed)
    return {
        **context.hub.sizes(),
        "started": len(demand.started),
        "accounts": len(demand.by_account),
        "wanted": len(feed.candles.wanted),
        "followed": len(feed.candles.keys),
        "series": len(context.exchange.series),
        "addresses": len(context.clients.by_address),
    }


@pytest.mark.parametrize("listed", [True, False], ids=["with the list", "without the list"])
def test_ten_thousand_invented_names_through_every_entry_leave_nothing_behind(tmp_path: Path, listed: bool) -> None:
    async def story(market: Marketplace) -> None:
        context = market.context
        await asyncio.sleep(3)
        before = sizes(context)
        bounded = 0
        for turn in range(12):
            names = [f"X{turn}Y{number}" for number in range(900)]
            topics = [topic for name in names for topic in (f"ohlcv.{name}.1m",)]
            async with market.listener() as listener:
                for start in range(0, 900, 300):
                    await listener.send({"op": "subscribe", "topics": topics[start : start + 300]})
                    await listener.send({"op": "snapshot", "topics": topics[start : start + 300]})
                await market.until(lambda: listener.of("snapshot") or listener.of("error"), 5.0)
                await asyncio.sleep(1)
                bounded = max(bounded, sizes(context)["topics"] - before["topics"], sizes(context)["wanted"])
            some = ",".join(f"price.{name}" for name in names[:60])
            for path in (
                f"/sse?topics={some}",
                f"/api/snapshot?topics={some}",
                f"/api/market/price?symbols={','.join(names[:60])}",
                f"/api/market/ohlc?symbol={names[0]}&interval=1m&limit={turn + 1}",
                f"/api/news?symbol={names[0]}",
                f"/api/market?symbols={names[0]}",
            ):
                async with market.http.get(market.url + path) as answer:
                    assert answer.status < 600
            async with market.http.post(market.url + "/api/ticket"):
                pass
            await asyncio.sleep(4)
        await asyncio.sleep(20)
        after = sizes(context)
        assert bounded <= 100
        assert after == before
        for pool in context.sources.pools if context.sources is not None else ():
            kept = max(len(pool.held.values), len(pool.held.failures), len(pool.lags.marks))
            assert kept <= pool.policy.size and not pool.in_flight, pool.name

    async def run() -> None:
        async with FakeBinance(PAIRS) as exchange:
            if not listed:
                exchange.break_rest("*", RestFault(status=503))
            async with marketplace(exchange, tmp_path, MAX_DEMAND_TOPICS="50", IDLE_TOPIC_S="2") as market:
                await story(market)

    virtual.run(run())

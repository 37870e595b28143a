"""A ticker is a name, not an identity: what clients get when another source has another coin of the same name.

Through the real path: fake exchange, fake CoinGecko, pools, topics, REST.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from feeds.news.articles import LATEST
from stream_server.context import Context
from stream_server.rest.status import disagreeing
from tests.clients import Message, WebSocketClient, market_start, websocket
from tests.fakes.binance import FakeBinance, Pair
from tests.fakes.binance_market import DEFAULT_PAIRS
from tests.fakes.coingecko import FakeCoinGecko, ListedCoin
from tests.fakes.cryptopanic import FakeCryptoPanic
from tests.fakes.upstream import Fault
from tests.harness import Running, running, until

PAIRS = (
    *DEFAULT_PAIRS[:2],
    Pair("NEIROUSDT", "NEIRO", "USDT", "0.00040000", tick="0.00000001", lot="1"),
    Pair("TWINUSDT", "TWIN", "USDT", "2.00000000"),
    Pair("MOVEUSDT", "MOVE", "USDT", "5.00000000"),
    Pair("1000SATSUSDT", "1000SATS", "USDT", "0.00025000", tick="0.00000001", lot="1"),
    Pair("GONEUSDT", "GONE", "USDT", "7.00000000"),
)
NEIRO = ListedCoin("neiro-on-eth", "neiro", "Neiro on ETH", 0.0052, 1e12)
TWIN = ListedCoin("twin-small", "twin", "Twin, the exchange's", 2.0, 1e8)
TWIN_LARGE = ListedCoin("twin-large", "twin", "Twin, a larger one", 40.0, 1e9)
MOVE = ListedCoin("move-coin", "move", "Move", 5.0, 1e9)
SATS = ListedCoin("sats-ordinals", "sats", "SATS", 0.00000025, 2e15)
COINS = (NEIRO, TWIN, TWIN_LARGE, MOVE, SATS)
REASON = "no_matching_source"
QUICK = {"MARKET_POLL_S": "1", "CACHE_TTL_S": "1"}


@asynccontextmanager
async def world(state_dir: Path, **settings: str) -> AsyncIterator[tuple[FakeBinance, FakeCoinGecko, Running]]:
    """An exchange, an aggregator with namesakes, and the service once coins are matched."""
    async with (
        FakeBinance(PAIRS, start_ms=market_start()) as exchange,
        FakeCoinGecko(extra=COINS, per_minute=500) as coingecko,
        running(exchange, state_dir, None, COINGECKO_URL=coingecko.url, **(QUICK | settings)) as service,
    ):
        await until(lambda: "price.GONE" in service.context.hub.topics)
        await until(lambda: matches(service.context).get("1000SATS") == "sats-ordinals")
        yield exchange, coingecko, service


def matches(context: Context) -> Mapping[str, str]:
    """The id that each served base is matched to."""
    sources = context.sources
    assert sources is not None
    sources.matching.learn_again()
    found = {base: sources.identities.match_of(base) for base in context.symbols.by_base}
    return {base: match.coin_id for base, match in found.items() if match is not None}


async def price_rows(service: Running, *bases: str) -> dict[str, dict[str, Any]]:
    status, body = await service.get(f"/api/market/price?symbols={','.join(bases)}")
    assert status == 200, body
    data: Any = body["data"]
    return {row["symbol"]: row for row in data}


async def heard_of(client: WebSocketClient, source: str, bases: Sequence[str]) -> dict[str, Message]:
    """The first update of each of these prices by a source."""
    heard: dict[str, Message] = {}
    while not set(bases) <= heard.keys():
        message = await client.next()
        if message["type"] == "update" and message["source"] == source:
            heard.setdefault(message["data"]["symbol"], message)
    return heard


def is_near(value: float, expected: float) -> bool:
    """Within the waves of the fake market."""
    return abs(value / expected - 1) < 0.06


async def test_the_exchange_dies_and_no_client_gets_the_price_of_a_namesake(tmp_path: Path) -> None:
    async with world(tmp_path) as (exchange, coingecko, service), websocket(service, "topics=price.*") as client:
        await client.until("synced")
        assert "NEIRO" not in matches(service.context)
        coingecko.list_coin(replace(MOVE, price=6.5))
        await exchange.kill()
        given = ("BTC", "ETH", "TWIN", "1000SATS")
        heard = await heard_of(client, "coingecko", given)
        for base, price in zip(given, (86_250.0, 2815.0, 2.0, 0.00025), strict=True):
            assert is_near(heard[base]["data"]["price"], price), base
            assert is_near(heard[base]["data"]["high_24h"], price), base
        await until(lambda: service.context.hub.topics["price.GONE"].stale)

        # Who comes now hears the old value and why it is stale.
        async with websocket(service, "topics=price.NEIRO,price.MOVE,price.GONE,price.BTC") as late:
            told = await late.until("synced")
        stale = {message["topic"]: message["reason"] for message in told if message["type"] == "stale"}
        assert stale == dict.fromkeys(("price.NEIRO", "price.MOVE", "price.GONE"), REASON)
        values = {message["topic"]: message for message in told if message["type"] == "update"}
        assert values["price.NEIRO"]["source"] == "binance"
        assert is_near(values["price.NEIRO"]["data"]["price"], 0.0004)
        # And who was there, too.
        already = await client.so_far()
        assert not [
            each for each in already if each["type"] == "update" and each["data"]["symbol"] in ("NEIRO", "MOVE")
        ]

        rows = await price_rows(service, "NEIRO", "MOVE", "GONE", "TWIN")
        for base, old in (("NEIRO", 0.0004), ("MOVE", 5.0), ("GONE", 7.0)):
            row = rows[base]
            assert (row["source"], row["stale"], row["reason"]) == ("binance", True, REASON)
            assert is_near(row["price"], old)
        assert (rows["TWIN"]["stale"], rows["TWIN"]["reason"]) == (False, None)

        await exchange.revive()
        await until(lambda: exchange.connections)
        exchange.advance(2)
        await client.until("fresh", topic="price.NEIRO")
        row = (await price_rows(service, "NEIRO"))["NEIRO"]
        assert (row["source"], row["stale"], row["reason"]) == ("binance", False, None)


async def test_a_client_that_listens_hears_the_reason_once(tmp_path: Path) -> None:
    async with world(tmp_path) as (exchange, _, service), websocket(service, "topics=price.NEIRO") as client:
        await client.until("synced")
        await exchange.kill()
        stale = await client.one("stale")
        assert (stale["topic"], stale["reason"]) == ("price.NEIRO", REASON)
        sources = service.context.sources
        assert sources is not None
        asked = sources.market.quotes.version
        await until(lambda: sources.market.quotes.version > asked)
        assert await client.so_far() == []


async def test_candles_of_a_namesake_are_not_given_and_those_of_the_coin_are(tmp_path: Path) -> None:
    async with world(tmp_path) as (exchange, _, service):
        await exchange.kill()
        status, body = await service.get("/api/market/ohlc?symbol=NEIRO&interval=4h&limit=5")
        assert status == 503
        error: Any = body["error"]
        outcomes = {each["provider"]: each["outcome"] for each in error["details"]["attempts"]}
        assert outcomes["coingecko"] == REASON
        assert {"provider": "coingecko", "outcome": REASON, "asked": False} in error["details"]["attempts"]
        for symbol, price in (("TWIN", 2.0), ("1000SATS", 0.00025), ("bitcoin", 86_250.0)):
            status, body = await service.get(f"/api/market/ohlc?symbol={symbol}&interval=4h&limit=5")
            assert (status, body.get("source")) == (200, "coingecko"), body
            rows: Any = body["data"]
            assert all(is_near(row[name], price) for row in rows for name in ("open", "high", "low", "close"))


async def test_the_market_table_knows_which_coin_a_ticker_of_the_exchange_means(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, _, service):
        status, body = await service.get("/api/market?symbols=TWIN,NEIRO,BTC,HYPE")
        rows: Any = body["data"]
        assert status == 200
        assert [row["id"] for row in rows] == ["twin-small", "bitcoin", "hyperliquid"]
        assert body["missing"] == ["NEIRO"]
        status, body = await service.get("/api/market?symbols=NEIRO")
        assert (status, REASON in orjson.dumps(body).decode()) == (404, True)


async def test_an_id_is_not_answered_with_another_coin_of_its_ticker(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, _, service):
        for name in ("neiro-on-eth", "twin-large"):
            for path in (f"/api/market/price?symbols={name}", f"/api/market/ohlc?symbol={name}&interval=4h"):
                status, body = await service.get(path)
                error: Any = body["error"]
                assert (status, error["code"]) == (404, "unknown_symbol"), path
                assert name in error["message"]
        assert (await price_rows(service, "twin-small")).keys() == {"TWIN"}
        assert (await price_rows(service, "hyperliquid")).keys() == {"HYPE"}


async def test_namesakes_are_no_disagreement_and_the_status_names_them(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, coingecko, service):
        coingecko.list_coin(replace(TWIN, price=2.2))

        await until(lambda: disagreeing(service.context))
        told: Any = (await service.get("/api/status"))[1]["data"]
        assert {each["symbol"] for each in told["disagreements"]} <= {"TWIN", "MOVE", "BTC", "ETH"}
        assert told["identities"]["unmatched_symbols"] == ["GONE", "NEIRO"]
        assert (told["identities"]["matched"], told["identities"]["unmatched"]) == (5, 2)


def instrument(code: str, slug: str | None, price: float | None) -> dict[str, object]:
    return {"code": code, "slug": slug, "price_in_usd": price}


async def test_news_of_a_namesake_are_not_news_of_the_coin(tmp_path: Path) -> None:
    coins = {
        "By price": (instrument("NEIRO", None, 0.0052), []),
        "By id": (instrument("NEIRO", "neiro-on-eth", None), []),
        "The coin itself": (instrument("NEIRO", None, 0.00041), ["NEIRO"]),
        "Nothing known": (instrument("NEIRO", "unheard-of", None), ["NEIRO"]),
        "Another ticker": (instrument("WIF", "neiro-on-eth", 0.0052), ["WIF"]),
    }
    posts = [
        {"title": title, "url": f"https://news.example/{number}", "instruments": [coin]}
        for number, (title, (coin, _)) in enumerate(coins.items())
    ]
    async with FakeCryptoPanic() as panic:
        settings = {"CRYPTOPANIC_URL": f"{panic.url}/api/developer/v2", "CRYPTOPANIC_API_KEY": "panic-token"}
        async with world(tmp_path, **settings) as (_, _, service):
            panic.always = Fault(body=orjson.dumps({"results": posts}))
            sources = service.context.sources
            assert sources is not None
            pool = next(outlet.pool for outlet in sources.news.outlets if outlet.pool.name == "news:cryptopanic")
            fetched = await pool.fetch(LATEST, max_age_s=0)
            told = {each.title: list(each.symbols) for each in fetched.value.good}
    assert {title: told[title] for title in coins} == {title: symbols for title, (_, symbols) in coins.items()}


@pytest.mark.parametrize("path", ["/api/market/price", "/api/new-sources/prices/unified"])
async def test_after_a_restart_with_the_exchange_dead_only_known_coins_have_a_price(tmp_path: Path, path: str) -> None:
    async with world(tmp_path):
        pass
    async with (
        FakeCoinGecko(extra=COINS, per_minute=500) as coingecko,
        running(None, tmp_path, None, COINGECKO_URL=coingecko.url, **QUICK) as service,
    ):
        hub = service.context.hub
        await until(lambda: "price.TWIN" in hub.topics)
        status, body = await service.get(f"{path}?symbols=BTC,TWIN,1000SATS,NEIRO,MOVE")
        rows: Any = body["data"]
        assert status == 200
        assert [row["symbol"] for row in rows] == ["BTC", "TWIN", "1000SATS", "MOVE"]
        assert all(map(is_near, (row["price"] for row in rows), (86_250.0, 2.0, 0.00025, 5.0)))
        assert (body["missing"], body["reasons"]) == (["NEIRO"], {"NEIRO": REASON})
        assert "price.NEIRO" not in hub.topics
        status, body = await service.get(f"{path}?symbols=NEIRO")
        error: Any = body["error"]
        assert (status, error["details"]["reasons"]) == (503, {"NEIRO": REASON})


async def test_a_first_start_with_the_exchange_dead_gives_the_coins_of_the_table_alone(tmp_path: Path) -> None:
    async with (
        FakeCoinGecko(extra=COINS) as coingecko,
        running(None, tmp_path, None, COINGECKO_URL=coingecko.url, **QUICK) as service,
    ):
        hub = service.context.hub
        await until(lambda: "price.BTC" in hub.topics)
        status, body = await service.get("/api/market/price")
        rows: Any = body["data"]
        assert status == 200
        given = {row["symbol"] for row in rows}
        assert {"BTC", "ETH", "DOGE", "SHIB"} <= given
        assert not given & {"TWIN", "NEIRO", "MOVE", "SATS", "C1"}
        status, body = await service.get("/api/market/price?symbols=TWIN")
        assert (status, REASON in orjson.dumps(body).decode()) == (503, True)
        assert (await service.get("/api/market/ohlc?symbol=TWIN&interval=4h"))[0] == 503
        assert (await service.get("/api/market/ohlc?symbol=BTC&interval=4h"))[0] == 200


async def test_a_damaged_memory_costs_its_bad_entries_alone(tmp_path: Path) -> None:
    (tmp_path / "answers").mkdir()
    kept = {"TWIN": 5, "BTC": ["batcat", 1, 86_250.0], "MOVE": ["move-coin", 1, 5.0], "SATS": [["x"], 1, 40]}
    text = orjson.dumps({"source": "identities", "received_ms": 1, "value": kept})
    (tmp_path / "answers" / "identities.json").write_bytes(text)
    async with (
        FakeCoinGecko(extra=COINS) as coingecko,
        running(None, tmp_path, None, COINGECKO_URL=coingecko.url, **QUICK) as service,
    ):
        hub = service.context.hub
        await until(lambda: "price.MOVE" in hub.topics)
        event = hub.topics["price.BTC"].event
        assert event is not None
        assert is_near(float(str(event.data["price"])), 86_250.0)
        assert not {"price.TWIN", "price.SATS"} & hub.topics.keys()

"""Every REST endpoint against the fakes of all providers: its data, and the source that it names."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from feeds.exchange.tape import open_tape
from stream_server.app import Run
from tests.clients import write_tape
from tests.fakes.crypto_api_clean import COUNTS
from tests.fakes.ethereum_rpc import newest_block
from tests.harness import running, until
from tests.sources import sourced

ENVELOPE = {
    *("success", "data", "source", "timestamp", "latency_ms", "cached", "age_ms", "stale", "attempts", "position"),
}
CLEAN, DT = "/api/new-sources/crypto-api-clean", "/api/new-sources/crypto-dt-source"
COIN = {
    *("rank", "symbol", "id", "name", "price", "change_1h_pct", "change_24h_pct", "change_7d_pct", "high_24h"),
    *("low_24h", "volume_24h", "market_cap", "circulating_supply", "ts"),
}
PRICE = {
    *("symbol", "pair", "quote", "price", "open_24h", "high_24h", "low_24h", "change_24h_pct", "volume_24h"),
    *("quote_volume_24h", "market_cap", "ts", "received", "source", "stale"),
}
CANDLE = {
    *("symbol", "pair", "quote", "interval", "open_time", "close_time", "open", "high", "low", "close", "volume"),
    *("quote_volume", "trades", "closed", "state"),
}
ARTICLE = {
    *("id", "title", "url", "outlet", "kind", "published_at", "published_estimated", "summary", "symbols"),
    *("sentiment", "votes"),
}
GAS = {"chain", "chain_id", "slow", "standard", "fast", "base_fee", "unit", "block", "ts"}
STATS = {"chain", "chain_id", "height", "block_time_s", "price_usd", "supply", "utilisation_pct", "ts"}
INDEX = {"value", "classification", "timestamp", "next_update_s", "history"}
SCORED = {"text", "label", "score", "model", "confidence"}
RESOURCE = {"category", "id", "name", "base_url", "auth", "docs_url", "endpoints", "notes"}

Check = Callable[[Any], object]


def rows_with(fields: set[str], count: int | None = None) -> Check:
    return lambda data: (
        isinstance(data, list)
        and data
        and all(row.keys() >= fields for row in data)
        and (count is None or len(data) == count)
    )


def has(fields: set[str], **values: object) -> Check:
    return lambda data: data.keys() >= fields and data.items() >= values.items()


def near_the_newest_block(data: Any) -> bool:
    return bool(abs(int(data["height"]) - newest_block(time.time_ns() // 1_000_000)) <= 2)


ENDPOINTS: list[tuple[str, str, list[str], Check]] = [
    ("/api/market", "coingecko", ["coingecko"], rows_with(COIN, 100)),
    ("/api/market?limit=250", "coingecko", ["coingecko"], rows_with(COIN, 250)),
    ("/api/market?symbols=ETH,bitcoin,BTC-USDT", "coingecko", ["coingecko"],
     lambda data: [row["id"] for row in data] == ["ethereum", "bitcoin"]),
    ("/api/market/global", "coingecko", ["coingecko"],
     has({"total_market_cap", "total_volume_24h", "eth_dominance_pct", "dominance_pct", "markets"}, currency="usd")),
    ("/api/market/trending?limit=3", "coingecko", ["coingecko"], rows_with({"symbol", "id", "name", "rank"}, 3)),
    ("/api/market/price?symbols=BTC", "binance", [], rows_with(PRICE, 1)),
    ("/api/market/price?symbols=BTC,HYPE", "binance,coingecko", ["coingecko"],
     lambda data: [(row["pair"], row["source"]) for row in data] == [("BTCUSDT", "binance"), (None, "coingecko")]),
    ("/api/market/ohlc?symbol=BTC&interval=1m&limit=3", "binance", [], rows_with(CANDLE, 3)),
    ("/api/market/ohlc?symbol=ETH&interval=1M&limit=2", "binance", ["binance"], rows_with(CANDLE, 2)),
    ("/api/market/ohlc?symbol=ETH&interval=1w&limit=2", "binance", ["binance"], rows_with(CANDLE, 2)),
    ("/api/market/ohlc?symbol=HYPE&interval=4h&limit=2", "coingecko", ["binance", "coingecko"],
     lambda data: [(row["pair"], row["quote"], row["volume"], "derived_from" in row) for row in data]
     == [(None, "USD", None, False)] * 2),
    ("/api/market/ohlc?symbol=HYPE&interval=1h&limit=2", "coingecko", ["binance", "coingecko"],
     lambda data: [row["derived_from"] for row in data] == ["30m", "30m"]),
    ("/api/news?limit=5", "", ["rss:coindesk"],
     lambda data: rows_with(ARTICLE, 5)(data)
     and [row["published_at"] for row in data] == sorted((row["published_at"] for row in data), reverse=True)),
    ("/api/news?filter=hot&symbol=btc", "", ["rss:coindesk"],
     lambda data: data and all("BTC" in row["symbols"] for row in data)),
    ("/api/news?filter=important&limit=200", "", ["rss:coindesk"],
     lambda data: all(abs(row["sentiment"]["score"]) >= 0.6 for row in data)),
    ("/api/sentiment/global", "alternative_me", ["alternative_me"], lambda data: has(INDEX)(data)
     and len(data["history"]) == 30 and data["history"][0]["timestamp"] == data["timestamp"]),
    ("/api/sentiment/global?limit=100", "alternative_me", ["alternative_me"],
     lambda data: len(data["history"]) == 100 and data["history"][0] | data == data),
    ("/api/crypto/blockchain/gas", "ethereum_rpc", ["ethereum_rpc"], has(GAS, chain="ethereum", unit="gwei")),
    ("/api/crypto/blockchain/stats?chain=eth", "ethereum_rpc", ["ethereum_rpc"], near_the_newest_block),
    (f"{CLEAN}/health", "crypto_api_clean", ["crypto_api_clean"],
     has({"server", "resources", "age_ms"}, status="healthy", categories=len(COUNTS))),
    (f"{CLEAN}/stats", "crypto_api_clean", ["crypto_api_clean"],
     has({"total_resources", "categories"}, total_categories=len(COUNTS))),
    (f"{CLEAN}/resources?category=news_apis&limit=2&offset=1", "crypto_api_clean", ["crypto_api_clean"],
     rows_with(RESOURCE, 2)),
    (f"{CLEAN}/categories", "crypto_api_clean", ["crypto_api_clean"], rows_with({"name", "count"}, len(COUNTS))),
    (f"{DT}/health", "crypto_dt_source", ["crypto_dt_source"], has({"service", "version"}, status="healthy")),
    (f"{DT}/status", "crypto_dt_source", ["crypto_dt_source"], has({"models", "datasets"}, status="operational")),
    (f"{DT}/prices?symbols=BTC,ETH", "crypto_dt_source", ["crypto_dt_source"], rows_with(PRICE, 2)),
    (f"{DT}/prices?limit=7", "crypto_dt_source", ["crypto_dt_source"], rows_with(PRICE, 7)),
    (f"{DT}/klines?symbol=BTC&interval=1h&limit=3", "crypto_dt_source", ["crypto_dt_source"], rows_with(CANDLE, 3)),
    (f"{DT}/fear-greed?limit=3", "crypto_dt_source", ["crypto_dt_source"], lambda data: len(data["history"]) == 3),
    (f"{DT}/sentiment?text=Bitcoin%20climbs", "crypto_dt_source", ["crypto_dt_source"], has(SCORED, label="positive")),
    (f"{DT}/reddit?limit=2", "crypto_dt_source", ["crypto_dt_source"], rows_with(ARTICLE, 2)),
    (f"{DT}/reddit?period=new&limit=2", "crypto_dt_source", ["crypto_dt_source"], rows_with(ARTICLE, 2)),
    (f"{DT}/news?limit=4", "crypto_dt_source", ["crypto_dt_source"], rows_with(ARTICLE, 4)),
    (f"{DT}/news?limit=2&feed=decrypt", "crypto_dt_source", ["crypto_dt_source"],
     lambda data: [row["outlet"] for row in data] == ["decrypt"] * 2),
    (f"{DT}/news?limit=1&feed=all", "crypto_dt_source", ["crypto_dt_source"], rows_with(ARTICLE, 5)),
    (f"{DT}/models", "crypto_dt_source", ["crypto_dt_source"], rows_with({"key", "id", "loaded"}, 4)),
    (f"{DT}/datasets", "crypto_dt_source", ["crypto_dt_source"], rows_with({"key", "id", "loaded"}, 2)),
    ("/api/new-sources/prices/unified?limit=3", "binance", [], rows_with(PRICE, 3)),
    ("/api/new-sources/prices/unified?symbols=HYPE", "coingecko", ["coingecko"], rows_with(PRICE, 1)),
    ("/api/new-sources/resources/unified?category=rpc_nodes", "crypto_api_clean", ["crypto_api_clean"],
     rows_with(RESOURCE, COUNTS["rpc_nodes"])),
    ("/api/new-sources/status", "stream_server", [], has({"crypto_api_clean", "crypto_dt_source"})),
    ("/api/new-sources/test-all", "stream_server", [], has({"endpoints"}, ok=13, failed=0)),
    ("/api/topics", "stream_server", [], has({"templates", "kinds", "symbols", "chains", "topics"})),
    ("/api/snapshot?topics=market,gas.*", "coingecko,ethereum_rpc", [], rows_with({"topic", "id", "data"}, 2)),
    ("/api/status", "stream_server", [], has({"providers", "pools", "disagreements", "readiness", "feeds"})),
]  # fmt: skip


async def test_every_endpoint_answers_in_our_shapes_and_lists_the_attempts(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        for path, source, asked, check in ENDPOINTS:
            body = await every.data(path)
            assert body.keys() >= ENVELOPE, path
            assert body["success"] is True, path
            assert check(body["data"]), (path, body["data"])
            assert source in body["source"] if source == "" else body["source"] == source, path
            attempts = [attempt["provider"] for attempt in body["attempts"]]
            assert attempts[: len(asked)] == asked if asked else attempts == [], (path, attempts)
            if asked and body["source"] == asked[-1]:
                assert body["attempts"][-1]["outcome"] == "ok", path
            assert body["stale"] is False, path
        assert [fake.over_limit for fake in every.fakes.upstreams if hasattr(fake, "over_limit")] == [0] * 13


async def test_with_keys_the_sources_that_need_them_answer_too(tmp_path: Path) -> None:
    async with sourced(tmp_path, keys=True) as every:
        sources = set()
        for number in range(8):
            body = await every.data(f"/api/market/ohlc?symbol=HYPE&interval=4h&limit={number + 1}")
            sources.add(body["source"])
        gas = await every.data("/api/crypto/blockchain/gas?chain=polygon")
        stats = await every.data("/api/crypto/blockchain/stats")
        every_source = every.service.context.sources
        assert every_source is not None
        desk = every_source.desk
        await until(lambda: "reddit" in {each.source for each in desk.held.values()})
        news = await every.data("/api/news?limit=200")
        answer = await every.service.http.post(
            f"{every.service.url}/api/sentiment/analyze", json={"text": "BTC rallies"}
        )
        scored = await answer.json()
    assert sources == {"coingecko", "coingecko_pro"}
    # Three calls a second are soon used up; then the other key is used.
    assert gas["source"].startswith("etherscan")
    assert gas["data"]["chain_id"] == 137
    assert stats["source"].startswith("etherscan")
    assert stats["data"]["supply"] > 1e8
    # Outlets have the same stories; the first one is the source.
    assert "reddit" in news["source"]
    asked = {attempt["provider"] for attempt in news["attempts"] if attempt["outcome"] == "ok"}
    assert asked >= {"cryptopanic", "newsapi", "reddit", "rss:decrypt"}
    assert (scored["source"], scored["data"][0]["label"]) == ("huggingface", "positive")


async def test_a_client_that_has_the_answer_gets_304(tmp_path: Path) -> None:
    paths = [path for path, *_ in ENDPOINTS if not path.endswith(("/status", "/health", "/test-all", "/topics"))]
    async with sourced(tmp_path) as every:
        http, url = every.service.http, every.service.url
        for path in paths:
            async with http.get(url + path) as first:
                tag = first.headers["ETag"]
            async with http.get(url + path, headers={"If-None-Match": tag}) as second:
                # The answers have not changed since the first round.
                assert (second.status, await second.read()) == (304, b""), path


async def test_a_tape_answers_that_it_has_no_sources(tmp_path: Path) -> None:
    tape = open_tape(write_tape(tmp_path / "market.jsonl"))
    async with running(None, tmp_path, Run(tape=tape, speed=0)) as service:
        for path in ("/api/market", "/api/news", "/api/sentiment/global", "/api/crypto/blockchain/gas", f"{DT}/models"):
            status, body = await service.get(path)
            assert status == 503, path
            assert "tape" in str(body["error"]), path
        status, body = await service.get("/api/topics")
        assert body["data"]["templates"] == ["price.<SYM>", "ohlcv.<SYM>.<interval>", "status"]  # type: ignore[index]


async def test_a_thousand_cold_questions_at_once_make_one_call_upstream(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        asked = [call for call in every.fakes.coingecko.calls if call.path == "/search/trending"]
        assert asked == []

        async def ask() -> tuple[int, bytes]:
            async with every.service.http.get(f"{every.service.url}/api/market/trending") as answer:
                body = await answer.json()
                return answer.status, body["data"][0]["symbol"]

        answers = await asyncio.gather(*(ask() for _ in range(1000)))
        asked = [call for call in every.fakes.coingecko.calls if call.path == "/search/trending"]
    assert len(asked) == 1
    assert {status for status, _ in answers} == {200}
    assert len(set(answers)) == 1

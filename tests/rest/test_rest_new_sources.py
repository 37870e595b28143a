"""`/api/new-sources/…`: the two sources alone, and their fallbacks."""

from pathlib import Path

from tests.fakes.crypto_api_clean import KEYS
from tests.harness import running
from tests.sources import fakes, sourced

CLEAN, DT = "/api/new-sources/crypto-api-clean", "/api/new-sources/crypto-dt-source"


async def test_the_catalogue_is_asked_for_once_and_pages_of_it_cost_nothing(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        everything = await every.data(f"{CLEAN}/resources")
        calls = len(every.fakes.clean.calls)
        pages = [await every.data(f"{CLEAN}/resources?limit=20&offset={offset}") for offset in (0, 20, 40, 60)]
        stats = (await every.data(f"{CLEAN}/stats"))["data"]
        categories = (await every.data(f"{CLEAN}/categories"))["data"]
        assert len(every.fakes.clean.calls) == calls
    assert [row for page in pages for row in page["data"]] == everything["data"]
    assert {page["total"] for page in pages} == {len(everything["data"])}
    assert stats["total_resources"] == len(everything["data"])
    assert {row["name"]: row["count"] for row in categories} == stats["categories"]
    assert not [key for key in KEYS.values() if key in str(everything)]


async def test_the_error_of_an_unknown_category_names_the_known_ones(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        status, refused = await every.get(f"{CLEAN}/resources?category=recipes")
    assert (status, refused["error"]["code"]) == (404, "not_found")
    assert "rpc_nodes" in refused["error"]["message"]


async def test_without_the_catalogue_our_own_sources_are_the_resources(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        await every.fakes.clean.kill()
        status, refused = await every.get(f"{CLEAN}/resources")
        assert (status, refused["error"]["details"]["attempts"][0]["outcome"]) == (503, "unavailable")
        body = await every.data("/api/new-sources/resources/unified")
        health = await every.data(f"{CLEAN}/health")
    assert body["source"] == "stream_server"
    assert body["attempts"] == [{"provider": "crypto_api_clean", "outcome": "unavailable"}]
    assert {"binance", "coingecko", "etherscan", "rss:decrypt"} <= {row["id"] for row in body["data"]}
    assert all(row["base_url"].count("/") == 2 for row in body["data"])
    assert (health["data"]["status"], health["data"]["server"]["answers"]) == ("down", False)


async def test_after_a_restart_with_dead_sources_the_last_catalogue_is_given_with_its_age(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        before = await every.data(f"{CLEAN}/stats")
    async with running(None, tmp_path) as service:
        status, after = await service.get(f"{CLEAN}/stats")
        health = (await service.get(f"{CLEAN}/health"))[1]["data"]
    assert (status, after["data"], after["source"]) == (200, before["data"], "crypto_api_clean")
    assert isinstance(health, dict)
    assert (health["status"], health["resources"]) == ("stale", before["data"]["total_resources"])


async def test_the_check_of_all_endpoints_shows_those_of_dt_source_that_fail(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        every.fakes.dt_source.binance_refused = True
        first = await every.data("/api/new-sources/test-all")
        calls = len(every.fakes.dt_source.calls)
        second = await every.data("/api/new-sources/test-all")
        assert len(every.fakes.dt_source.calls) == calls
    rows = {row["endpoint"].rpartition("/")[2]: row for row in first["data"]["endpoints"] if DT in row["endpoint"]}
    assert rows["klines"]["outcome"] == "unavailable"
    assert {row["outcome"] for name, row in rows.items() if name != "klines"} == {"ok"}
    assert (first["data"]["ok"], first["data"]["failed"]) == (12, 1)
    assert all(row["latency_ms"] >= 0 for row in first["data"]["endpoints"])
    assert (second["cached"], second["data"]) == (True, first["data"])


async def test_a_source_that_does_not_answer_is_down_in_its_health_and_503_elsewhere(tmp_path: Path) -> None:
    async with fakes() as all_fakes:
        all_fakes.dt_source.asleep = True
        async with running(all_fakes.exchange, tmp_path, None, **all_fakes.settings) as service:
            status, body = await service.get(f"{DT}/health")
            assert status == 200
            assert isinstance(body["data"], dict)
            assert (body["data"]["status"], body["data"]["answers"]) == ("down", False)
            assert "crypto_dt_source" in body["data"]["reason"]
            async with service.http.get(f"{service.url}{DT}/models") as answer:
                assert answer.status == 503
                assert int(answer.headers["Retry-After"]) >= 1


async def test_unified_prices_come_from_the_stream_the_most_traded_first(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        body = await every.data("/api/new-sources/prices/unified?limit=4")
        volumes = [row["quote_volume_24h"] for row in body["data"]]
        assert volumes == sorted(volumes, reverse=True)
        assert body["source"] == "binance"
        mixed = await every.data("/api/new-sources/prices/unified?symbols=BTC,HYPE")
        assert [row["source"] for row in mixed["data"]] == ["binance", "coingecko"]

"""`/metrics`, and the same numbers in `/api/status`."""

from pathlib import Path
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from stream_server.app import Run
from tests.clients import websocket
from tests.fakes.upstream import Fault, in_json
from tests.harness import running, until
from tests.sources import Sourced, sourced

STATES = {"active", "rate_limited", "cooldown", "probing", "blocked", "disabled"}
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def scraped(every: Sourced) -> Samples:
    """Return every sample by name and labels."""
    async with every.service.http.get(f"{every.service.url}/metrics") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text = await answer.text()
    samples: Samples = {}
    for family in read_text(text):
        assert family.documentation, family.name
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in samples, key
            samples[key] = sample.value
    return samples


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"stream_server_{name}", tuple(sorted(labels.items()))]


async def test_metrics_cover_clients_providers_and_pools(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        await every.data("/api/market/trending")
        await every.data("/api/market/trending")
        await every.fakes.coingecko.kill()
        await every.get("/api/market/global?max_age=0")
        async with websocket(every.service, "topics=price.BTC") as client:
            await client.until("synced")
            samples = await scraped(every)
        report = (await every.data("/api/status"))["data"]
    assert value(samples, "clients", transport="websocket") == 1
    assert value(samples, "clients", transport="sse") == 0
    assert value(samples, "events_total") > 10
    assert value(samples, "topics_stale") == 0
    assert value(samples, "pool_questions_total", pool="trending") == 2
    assert value(samples, "pool_cache_hits_total", pool="trending") == 1
    assert value(samples, "provider_requests_total", provider="coingecko", outcome="unavailable") == 1
    assert value(samples, "provider_state", provider="etherscan", state="disabled") == 1
    assert value(samples, "provider_state", provider="blockscout", state="active") == 1
    assert 0 < value(samples, "provider_latency_seconds", provider="coingecko", quantile="0.5") < 5
    assert value(samples, "provider_tokens_left", provider="alternative_me") > 0
    assert {row["name"] for row in report["providers"]} == {
        dict(labels)["provider"] for name, labels in samples if name == "stream_server_provider_http_requests_total"
    }
    assert {row["state"] for row in report["providers"]} <= STATES
    etherscan = next(row for row in report["providers"] if row["name"] == "etherscan")
    assert "ETHERSCAN_API_KEY" in etherscan["reason"]
    assert next(row for row in report["pools"] if row["name"] == "market")["tiers"][0] == ["coingecko_pro", "coingecko"]


async def test_a_scraper_that_asks_for_openmetrics_gets_it(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
        async with every.service.http.get(f"{every.service.url}/metrics", headers=accept) as answer:
            assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
            text = await answer.text()
    families = {family.name for family in read_openmetrics(text)}  # type: ignore[no-untyped-call]
    assert families >= {"stream_server_clients", "stream_server_events"}


async def test_prices_on_which_two_sources_differ_are_reported(tmp_path: Path) -> None:
    def doubled(rows: Any) -> None:
        for row in rows:
            if row["symbol"] == "eth":
                row["current_price"] *= 2

    async with sourced(tmp_path) as every:
        exchange = every.fakes.exchange
        sources, hub = every.service.context.sources, every.service.context.hub
        assert sources is not None
        every.fakes.coingecko.always = Fault(drift=in_json(doubled))
        await every.data("/api/market?max_age=0")
        exchange.advance(1)
        await until(lambda: hub.topics["price.ETH"].event is not None)
        flagged = {row["symbol"]: row for row in (await every.data("/api/status"))["data"]["disagreements"]}
        samples = await scraped(every)
    assert flagged["ETH"]["sources"].keys() == {"binance", "coingecko"}
    assert 80 < flagged["ETH"]["difference_pct"] < 120
    assert value(samples, "price_disagreement_pct", symbol="ETH") == flagged["ETH"]["difference_pct"]
    assert "BTC" not in flagged


async def test_rows_that_could_not_be_read_are_counted_by_their_field(tmp_path: Path) -> None:
    def spoiled(rows: Any) -> None:
        rows[3]["current_price"] = "NaN"
        rows[4]["current_price"] = -1

    async with sourced(tmp_path) as every:
        every.fakes.coingecko.always = Fault(drift=in_json(spoiled))
        body = await every.data("/api/market?limit=250&max_age=0")
        samples = await scraped(every)
    assert len(body["data"]) == 248
    assert value(samples, "rejected_rows_total", provider="coingecko", field="current_price") == 2


async def test_a_service_without_sources_has_metrics_too(tmp_path: Path) -> None:
    async with running(None, tmp_path, Run()) as service:
        samples = await scraped(Sourced(service, None))  # type: ignore[arg-type]
    assert value(samples, "provider_state", provider="coingecko", state="active") in (0.0, 1.0)

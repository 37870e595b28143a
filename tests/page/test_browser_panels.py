"""Tests of the panels of the demo page in a real Chromium, with events that the test publishes to the hub."""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page, Route, expect

from feeds import topics
from feeds.model import Event
from feeds.symbols import Symbols
from tests.browser import Complaints, is_live
from tests.harness import Running, running

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session", loop_factories=["asyncio"])]

DAY_MS = 86_400_000
PANELS = ("totals", "market", "news", "feargreed", "coinsentiment", "gas", "chain", "providers")


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class Stage:
    """A service without upstreams whose own events are suppressed: only the test publishes."""

    service: Running
    publish_event: Callable[[Event], None]

    def publish(
        self, topic: str, data: Mapping[str, object], source: str = "coingecko", *, ago_ms: int = 0, log: bool = False
    ) -> None:
        """Publish one event with a `ts` `ago_ms` ago."""
        self.publish_event(Event(topic, now_ms() - ago_ms, now_ms(), source, data, log))

    def make_stale(self, topic: str, data: Mapping[str, object]) -> None:
        """Publish a value that is stale at once."""
        hub = self.service.context.hub
        held = hub.topics[topic]
        ttl_s, held.ttl_s = held.ttl_s, 0.0
        self.publish(topic, data)
        hub.expire()
        held.ttl_s = ttl_s


@pytest_asyncio.fixture(loop_scope="session")
async def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    async with running(None, tmp_path) as service:
        hub = service.context.hub
        publish_event = hub.publish
        monkeypatch.setattr(hub, "publish", lambda event: None)
        hub.topics.clear()
        yield Stage(service, publish_event)


async def opened(page: Page, stage: Stage, **rest: Any) -> None:
    """Open the page and wait for its connection. `rest` has REST answers for `news` and `sentiment`; no candles."""
    answers = {"news": [], "sentiment": {"history": []}, **rest}
    for path, data in {"market/ohlc": [], "news": answers["news"], "sentiment/global": answers["sentiment"]}.items():
        body = {"success": True, "data": data, "source": "coingecko", "stale": False, "position": None}
        await page.route(f"**/api/{path}?*", partial(_answer, body))
    await page.goto(stage.service.url)
    await is_live(page)


async def _answer(body: dict[str, object], route: Route) -> None:
    await route.fulfill(json=body)


def coin(rank: int, symbol: str, price: float, **others: object) -> dict[str, object]:
    return {
        "rank": rank,
        "symbol": symbol,
        "id": f"{symbol.lower()}-{rank}",
        "name": f"{symbol} coin",
        "price": price,
        "change_1h_pct": 0.5,
        "change_24h_pct": -1.25,
        "change_7d_pct": None,
        "high_24h": None,
        "low_24h": None,
        "volume_24h": 3.1e10 / rank,
        "market_cap": 1.27e12 / rank,
        "circulating_supply": None,
        "ts": now_ms(),
        **others,
    }


def market(*coins: dict[str, object]) -> dict[str, object]:
    return {"currency": "usd", "coins": list(coins)}


def streamed(symbol: str, price: float) -> dict[str, object]:
    return {"symbol": symbol, "pair": f"{symbol}USDT", "quote": "USDT", "price": price, "change_24h_pct": 1.0}


def article(name: str, ago_ms: int, **others: object) -> dict[str, object]:
    return {
        "id": name,
        "title": f"Headline {name}",
        "url": f"https://example.com/{name}",
        "outlet": "coindesk",
        "kind": "news",
        "published_at": now_ms() - ago_ms,
        "published_estimated": False,
        "summary": None,
        "symbols": ["BTC"],
        "sentiment": {"label": "positive", "score": 0.62, "model": "lexicon"},
        "votes": None,
        **others,
    }


def gas(**others: object) -> dict[str, object]:
    fees = {"slow": 0.0812, "standard": 0.000123456, "fast": 12.5, "base_fee": None}
    return {"chain": "ethereum", "chain_id": 1, **fees, "unit": "gwei", "block": 21_234_567, **others}


FEAR = {"index": "fear_and_greed", "value": 28, "classification": "Fear", "timestamp": 0, "next_update_s": 7200}
TOTALS = {
    "currency": "usd",
    "total_market_cap": 2.3145e12,
    "total_volume_24h": 8.91e10,
    "market_cap_change_24h_pct": -0.42,
    "btc_dominance_pct": 55.12,
    "eth_dominance_pct": 16.2,
    "dominance_pct": {"BTC": 55.12, "ETH": 16.2, "USDT": 4.9},
    "active_cryptocurrencies": 14_621,
    "markets": None,
}
CHAIN = {
    "chain": "ethereum",
    "chain_id": 1,
    "height": 21_234_567,
    "block_time_s": 12.04,
    "price_usd": 3120.5,
    "supply": 120_450_123.4,
    "utilisation_pct": 51.3,
}
MOOD = {"label": "negative", "articles": 11, "positive": 2, "neutral": 3, "negative": 6, "window_s": 86_400}


def provider(name: str, state: str = "active", **others: object) -> dict[str, object]:
    return {
        "name": name,
        "state": state,
        "reason": None,
        "calls": 1200,
        "successes": 1180,
        "failures": 20,
        "success_pct": 98.3,
        "latency_ms": {"p50": 41.0, "p95": 1240.0, "ewma": 50.0},
        "tokens_left": 12,
        "open_until": None,
        "last_error": None,
        "last_error_at": None,
        "last_success_at": now_ms() - 3000,
        "clock_skew_ms": 4,
        "hosts": ["api.example.com"],
        **others,
    }


def status(**others: object) -> dict[str, object]:
    return {"server": {"mode": "live"}, "readiness": {}, "feeds": [], **others}


def publish_everything(stage: Stage) -> None:
    """Publish one value on every topic that a panel shows."""
    stage.publish("market", market(*(coin(rank, f"C{rank}", 100.0 / rank) for rank in range(1, 101))))
    stage.publish("market.global", TOTALS)
    stage.publish("news", article("first", 60_000), "rss:coindesk", log=True)
    stage.publish("sentiment.global", FEAR | {"timestamp": now_ms()}, "alternative_me", ago_ms=7_200_000)
    stage.publish("sentiment.ETH", {"symbol": "ETH", "score": -0.34, "model": "lexicon", **MOOD}, "lexicon")
    stage.publish("gas.ethereum", gas(), "ethereum_rpc")
    stage.publish("chain.ethereum", CHAIN, "ethereum_rpc")
    pool = {"name": "gas", "tiers": [["etherscan"], ["ethereum_rpc"]], "asked": 640, "cache_hits": 102, "failovers": 31}
    providers = [provider("ethereum_rpc"), provider("etherscan", "blocked")]
    stage.publish(
        "status", status(providers=providers, pools=[pool | {"last_source": "ethereum_rpc"}]), "stream_server"
    )


WATCH = """
    addEventListener("securitypolicyviolation", (event) => console.error(event.violatedDirective));
    window.shifted = 0;
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifted += entry.value;
    }).observe({ type: "layout-shift", buffered: true });
"""


async def test_every_panel_shows_its_value_and_source_without_layout_shift(
    stage: Stage, page: Page, complaints: Complaints
) -> None:
    await page.add_init_script(WATCH)
    past = [{"value": 30 + day, "classification": "Fear", "timestamp": now_ms() - day * DAY_MS} for day in range(31)]
    await opened(page, stage, news=[article("older", 3_600_000)], sentiment={"history": past})
    for panel in PANELS[:-1]:
        await expect(page.locator(f"#{panel}[data-state=empty]")).to_be_visible()
    await page.evaluate("window.shifted = 0")
    publish_everything(stage)
    for panel in PANELS:
        await expect(page.locator(f"#{panel}[data-state=live] .vitals")).to_contain_text(" ago")

    await expect(page.locator("#market tbody tr")).to_have_count(100)
    await expect(page.locator("#totals dl")).to_contain_text("$2.31T −0.42%")
    await expect(page.locator("#totals .shares")).to_have_text("BTC 55.1%ETH 16.2%USDT 4.9%Others 23.8%")
    await expect(page.locator("#totals [data-fact=markets]")).to_have_text("–")
    await expect(page.locator("#feargreed svg[aria-label='28 of 100, Fear']")).to_be_visible()
    await expect(page.locator("#feargreed .vitals")).to_have_text("alternative_me · 2h ago")
    await expect(page.locator("#feargreed [data-fact='30']")).to_have_text("60")
    await expect(page.locator("#feargreed svg[aria-label*='last 31 days: from 60 to 30']")).to_be_visible()
    tiles = page.locator("#gas .tiles dd")
    await expect(tiles).to_have_text(["0.08120", "0.0001235", "12.50"])
    await expect(tiles.nth(1)).to_have_attribute("title", "0.000123456 gwei")
    await expect(page.locator("#gas .columns")).to_contain_text("Base fee–Block21,234,567")
    await expect(page.locator("#chain dd")).to_have_text(["21,234,567", "12.04 s", "$3,120.50", "120.45M", "51.3%"])
    await expect(page.locator("tr[data-sentiment=ETH]")).to_contain_text("ETH−0.3411")
    await expect(page.locator("#news li .headline")).to_have_text(["Headline first", "Headline older"])
    assert (
        await page.evaluate("[...document.querySelectorAll('table')].filter((t) => !t.closest('#chart')).length") == 5
    )
    uncaptioned = "table:not(#chart table):not(:has(caption)), button:not([aria-label]):not([hidden]):empty"
    await expect(page.locator(uncaptioned)).to_have_count(0)
    assert await page.evaluate("window.shifted") < 0.005
    assert complaints == []


async def test_the_market_table_takes_prices_of_the_same_coin_from_the_stream(stage: Stage, page: Page) -> None:
    await opened(page, stage)
    stage.publish("price.BTC", streamed("BTC", 64_300.5), "binance")
    table = market(coin(1, "BTC", 64_250.1), coin(2, "ETH", 3120.0), coin(3, "XYZ", 2.0), coin(90, "BTC", 0.001))
    stage.publish("market", table)
    rows = page.locator("#market tbody tr")
    prices = rows.locator("td.price")
    await expect(prices).to_have_text(["64,300.50", "3,120.00", "2.000", "0.001000"])
    await expect(rows.nth(0).locator("td")).to_have_text(
        ["1", "64,300.50", "+0.50%", "−1.25%", "–", "$31.00B", "$1.27T"]
    )
    await expect(prices.nth(0)).to_have_attribute("title", "Source: binance")
    await expect(prices.nth(1)).to_have_attribute("title", "Source: coingecko")

    stage.publish("price.ETH", streamed("ETH", 3121.75), "binance")
    stage.publish("price.XYZ", streamed("XYZ", 900.0), "binance")  # another coin with that ticker
    await expect(prices).to_have_text(["64,300.50", "3,121.75", "2.000", "0.001000"])
    await expect(rows.locator("td.price[data-live]")).to_have_count(2)
    stage.make_stale("price.ETH", streamed("ETH", 3121.75))
    await expect(prices.nth(1)).to_have_text("3,120.00")

    await page.locator("#market th[data-sort=price] button").click()
    await expect(page.locator("#market th[data-sort=price]")).to_have_attribute("aria-sort", "descending")
    await page.locator("#market th[data-sort=price] button").press("Enter")
    await expect(prices).to_have_text(["0.001000", "2.000", "3,120.00", "64,300.50"])
    await page.locator("tr[data-coin=ETH] button").press("Enter")
    await expect(page.locator("#chart[data-symbol=ETH]")).to_be_visible()


async def test_news_are_text_with_safe_links_newest_first_and_do_not_move_while_being_read(
    stage: Stage, page: Page, complaints: Complaints
) -> None:
    hostile = "<img src=x onerror=\"document.title='owned'\"> & <b>bold</b>"
    older = [article("scored", 7_200_000, sentiment={"label": "negative", "score": -0.41, "model": "lexicon"})]
    await opened(page, stage, news=older)
    hidden = article("hidden", 1000, title=hostile, url="javascript:alert(1)", sentiment=None, published_estimated=True)
    stage.publish("news", hidden, "rss:coindesk", log=True)
    items = page.locator("#news li")
    await expect(items.locator(".headline")).to_have_text([hostile, "Headline scored"])
    await expect(items.nth(0).locator("a")).to_have_count(0)
    await expect(items.nth(0).locator("time")).to_have_text("~1s ago")
    await expect(items.nth(0).locator(".badge")).to_have_count(0)
    link = items.nth(1).locator("a")
    await expect(link).to_have_attribute("href", "https://example.com/scored")
    await expect(link).to_have_attribute("rel", "noopener noreferrer nofollow")
    await expect(link).to_have_attribute("target", "_blank")
    await expect(items.nth(1).locator(".badge[data-mood=negative]")).to_have_text("negative −0.41")
    await expect(items.nth(1).locator("time")).to_have_text("2h ago")

    await link.hover()
    stage.publish("news", article("second", 500), "cryptopanic", log=True)
    await expect(page.locator("#news .waiting")).to_have_text("1 new article")
    await expect(items).to_have_count(2)
    # Without the mouse, which would leave the list on its way to the button, so that the list would update.
    await page.locator("#news .waiting button").dispatch_event("click")
    await expect(items.locator(".headline")).to_have_text(["Headline second", hostile, "Headline scored"])
    await expect(page.locator("#news .vitals")).to_contain_text("cryptopanic, rss · ")
    scored_later = article("hidden", 1000, sentiment={"label": "neutral", "score": 0.01, "model": "lexicon"})
    scored_later["published_at"] = hidden["published_at"]
    stage.publish("news", scored_later, "rss:coindesk", log=True)
    await expect(items.nth(1).locator(".badge[data-mood=neutral]")).to_have_text("neutral +0.01")
    assert await items.count() == 3
    assert complaints == []


async def test_a_stale_panel_shows_age_and_reason_and_keeps_its_value(stage: Stage, page: Page) -> None:
    await opened(page, stage)
    stage.publish("gas.ethereum", gas())
    await expect(page.locator("#gas[data-state=live]")).to_be_visible()
    stage.make_stale("gas.ethereum", gas(fast=7.25))
    await expect(page.locator("#gas[data-state=stale] .vitals")).to_contain_text("coingecko · stale for ")
    await expect(page.locator("#gas .vitals")).to_contain_text("no update")
    await expect(page.locator("#gas .tiles dd").nth(2)).to_have_text("7.250")
    await page.reload()
    await expect(page.locator("#gas[data-state=stale] .vitals")).to_contain_text("stale for ")
    stage.publish("gas.ethereum", gas(fast=8.0), "etherscan")
    await expect(page.locator("#gas[data-state=live] .vitals")).to_contain_text("etherscan · ")


async def test_a_panel_without_a_value_shows_the_reason_of_the_server(
    stage: Stage, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    canonical = topics.canonical

    def refusing_chains(selector: str, symbols: Symbols) -> str:
        if selector.startswith("chain."):
            raise topics.UnknownTopicError(f"topic {selector!r}: no chain is known here")
        return canonical(selector, symbols)

    monkeypatch.setattr(topics, "canonical", refusing_chains)
    await opened(page, stage)
    words = {"gas.ethereum": "etherscan: answered 503", "market.global": None, "market": "value", "news": "all blocked"}
    stage.publish("status", status(readiness=words), "stream_server")
    await expect(page.locator("#gas .why")).to_have_text("No value yet: etherscan: answered 503")
    await expect(page.locator("#news .why")).to_have_text("No value yet: all blocked")
    await expect(page.locator("#totals .why")).to_have_text("No value yet: waiting for the first one")
    await expect(page.locator("#chain .why")).to_contain_text("Not served here: ")
    await expect(page.locator("#chain .why")).to_contain_text("no chain is known here")
    await expect(page.locator("#providers .summary")).to_have_text("none reported")
    stage.publish("gas.ethereum", gas())
    await expect(page.locator("#gas[data-state=live] .why")).to_be_hidden()


async def test_the_provider_panel_shows_health_pools_and_disagreements(stage: Stage, page: Page) -> None:
    await opened(page, stage)
    later = now_ms() + 90_000
    limited = provider("coingecko", "rate_limited", open_until=later, last_error="RateLimited: 429", success_pct=71.4)
    off = {"reason": "set COINGECKO_PRO_API_KEY to enable it", "calls": 0, "success_pct": None, "latency_ms": {}}
    providers = [
        provider("binance"),
        limited | {"last_error_at": now_ms()},
        provider("coingecko_pro", "disabled", **off),
    ]
    pool = {"name": "market", "tiers": [["coingecko_pro", "coingecko"], ["binance"]], "asked": 400, "cache_hits": 300}
    pools = [pool | {"failovers": 5, "last_source": "binance"}]
    apart = {"symbol": "FET", "sources": {"binance": 1.37, "coingecko": 1.412}, "difference_pct": 3.02}
    report = status(providers=providers, pools=pools, disagreements=[apart])
    stage.publish("status", report, "stream_server")
    rows = page.locator(".providers tbody tr")
    await expect(page.locator("#providers .summary")).to_have_text("1 of 2 active, 1 disabled")
    await expect(rows.nth(0).locator("td")).to_have_text(
        [" active ", "98.3%", "1,200", "41 ms", "1.24 s", "3s ago", ""], use_inner_text=False
    )
    await expect(rows.nth(1).locator("td.state")).to_contain_text("rate limited again in 1m")
    await expect(rows.nth(1).locator("td.success[data-warn]")).to_have_text("71.4%")
    await expect(rows.nth(1).locator("td.error")).to_contain_text("RateLimited: 429")
    await expect(rows.nth(2).locator("td.error")).to_have_text("set COINGECKO_PRO_API_KEY to enable it")
    route = page.locator("tr[data-pool=market]")
    await expect(route.locator(".chip")).to_contain_text(
        ["coingecko_pro (disabled)", "coingecko (rate limited)", "binance"]
    )
    await expect(route.locator(".chip[data-answered]")).to_contain_text("binance (active, gave the last answer)")
    await expect(route.locator("td").nth(2)).to_have_text("75%")
    await expect(page.locator(".disagreements li")).to_have_text("FET binance 1.370 · coingecko 1.412 3.0% apart")

    well = [
        provider("binance"),
        provider("coingecko", calls=0, success_pct=None),
        provider("coingecko_pro", "disabled", **off),
    ]
    stage.publish("status", report | {"providers": well, "disagreements": []}, "stream_server")
    await expect(page.locator("#providers .summary")).to_have_text("1 of 2 active, 1 not asked, 1 disabled")
    await expect(rows.nth(1).locator("td.state")).to_have_text("not asked")
    await expect(page.locator(".disagreements")).to_have_text("None: sources agree.")


async def test_with_full_panels_a_phone_of_360_px_scrolls_only_vertically(stage: Stage, page: Page) -> None:
    await page.set_viewport_size({"width": 360, "height": 740})
    await opened(page, stage, news=[article(f"n{number}", number * 60_000) for number in range(2, 25)])
    publish_everything(stage)
    for panel in PANELS:
        await expect(page.locator(f"#{panel}[data-state=live]")).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth") <= 360
    await expect(page.locator("#market tbody tr:visible")).to_have_count(10)
    await page.locator("#market .more").click()
    await expect(page.locator("#market tbody tr:visible")).to_have_count(100)
    await expect(page.locator("#market .more[aria-expanded=true]")).to_have_text("Show fewer")
    await expect(page.locator("#news li:visible")).to_have_count(8)
    assert await page.evaluate("document.documentElement.scrollWidth") <= 360


async def test_values_from_before_a_restart_are_shown_as_stale(stage: Stage, page: Page) -> None:
    await opened(page, stage)
    stage.publish("gas.ethereum", gas())
    stage.publish("market.global", TOTALS)
    await expect(page.locator("#totals[data-state=live]")).to_be_visible()
    hub = stage.service.context.hub
    hub.epoch = "restarted"
    hub.topics.clear()
    stage.publish("market.global", TOTALS)
    await stage.service.context.clients.dismiss(within_s=0.1)
    await expect(page.locator("#gas[data-state=stale] .vitals")).to_contain_text("the server has restarted")
    await expect(page.locator("#totals[data-state=live]")).to_be_visible()

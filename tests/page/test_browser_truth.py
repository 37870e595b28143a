"""Tests of the state that the page shows, in a real Chromium: each fault against every part that shows the state.

No title, icon, legend or table may show "live" when values are not live.
"""

import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page, Route, expect

from feeds import topics
from feeds.model import Event
from feeds.symbols import Symbols
from tests.browser import is_live
from tests.harness import Running, running

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session", loop_factories=["asyncio"])]

CANDLE_MS = 60_000
MUTED = """
    const Real = WebSocket;
    Math.random = () => 0.1;
    window.lines = [];
    // A muted line stays open, but no message passes either way.
    window.WebSocket = class extends Real {
        constructor(...address) { super(...address); lines.push(this); }
        set onmessage(heard) { super.onmessage = (event) => this.muted || heard(event); }
        send(text) { if (!this.muted) super.send(text); }
    };
"""
SHOWN_TEXTS = """() => {
    const text = (id) => document.getElementById(id).textContent;
    const dots = [...document.querySelectorAll("#feeds [data-well=true]")];
    return {
        title: document.title, icon: document.querySelector("link[rel=icon]").href.split("/").at(-1),
        quote: document.getElementById("quote").dataset.state, source: text("quote-source"), age: text("quote-age"),
        legend: document.querySelector("#chart-legend > :last-child")?.textContent ?? "", note: text("chart-note"),
        feeds: text("feeds"), wellFeeds: dots.length, pill: text("connection-state"), detail: text("connection-detail"),
        row: document.querySelector("tr[data-symbol=BTC]")?.dataset.state,
        rowText: document.querySelector("tr[data-symbol=BTC] td.age")?.textContent ?? "",
        panel: document.getElementById("market").dataset.state, trouble: text("trouble"),
        notice: document.getElementById("notice").hidden ? "" : text("notice-text"),
    };
}"""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class Scene:
    """The page on a service that publishes only the events of the test."""

    service: Running
    page: Page
    publish_event: Callable[[Event], None]
    asked: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] | None = field(default_factory=list)

    def publish(self, topic: str, data: Mapping[str, object], source: str = "binance") -> None:
        self.publish_event(Event(topic, now_ms(), now_ms(), source, data, log=topic.startswith("ohlcv.")))

    def price(self, price: float = 86_000.5, source: str = "binance", quote: str = "USDT") -> None:
        pair = f"BTC{quote}" if source == "binance" else None
        data = {"symbol": "BTC", "pair": pair, "quote": quote, "price": price, "change_24h_pct": 1.0}
        self.publish("price.BTC", data, source)

    def candle(self) -> None:
        self.publish("ohlcv.BTC.1m", candle("BTC", "live"))

    def status(self, **others: object) -> None:
        feeds: list[dict[str, object]] = [{"name": "binance", "state": "live", "last_error": None, "sockets": []}]
        report = {"server": {"mode": "live"}, "readiness": {"price": "value"}, "feeds": feeds, "providers": []}
        self.publish("status", report | others, "stream_server")

    def everything(self) -> None:
        coins = [coin("BTC", 86_001.0), coin("TRX", 0.276)]
        self.publish("market", {"currency": "usd", "coins": coins}, "coingecko")
        self.price()
        self.candle()
        self.status()

    def make_stale(self, topic: str) -> None:
        """Make a topic stale."""
        held = self.service.context.hub.topics[topic]
        assert held.event is not None
        ttl_s, held.ttl_s = held.ttl_s, 0.0
        self.publish_event(held.event)
        self.service.context.hub.expire()
        held.ttl_s = ttl_s

    async def ohlc(self, route: Route) -> None:
        """Answer a request for candles with `rows`, or with 503 if they are None."""
        self.asked.append(route.request.url)
        if self.rows is None:
            error = {"code": "unavailable", "message": "no provider of candles can answer"}
            await route.fulfill(status=503, json={"success": False, "error": error}, headers={"Retry-After": "1"})
            return
        body = {"success": True, "source": "binance", "stale": False, "age_ms": 400, "position": None}
        await route.fulfill(json=body | {"data": self.rows})

    async def shown_texts(self) -> dict[str, Any]:
        found: dict[str, Any] = await self.page.evaluate(SHOWN_TEXTS)
        return found

    async def until(self, **wanted: str) -> dict[str, Any]:
        """Wait until all of these parts match their patterns at the same time; return the texts of all parts.

        Each part of the page draws in its own animation frame, so parts that aren't in `wanted` may be outdated.
        """
        deadline = time.monotonic() + 30
        while True:
            shown_texts = await self.shown_texts()
            wrong = {
                name: shown_texts[name]
                for name, pattern in wanted.items()
                if not re.search(pattern, str(shown_texts[name]), re.DOTALL)
            }
            if not wrong:
                return shown_texts
            assert time.monotonic() < deadline, f"{wrong} against {wanted}"
            await self.page.wait_for_timeout(50)


def candle(symbol: str, state: str) -> dict[str, Any]:
    opened = now_ms() // CANDLE_MS * CANDLE_MS
    shape = {"symbol": symbol, "pair": f"{symbol}USDT", "quote": "USDT", "interval": "1m", "open_time": opened}
    prices = {"open": 1.0, "high": 2.0, "low": 0.5, "close": 1.5, "volume": 3.0}
    return shape | prices | {"close_time": opened + CANDLE_MS - 1, "closed": state != "live", "state": state}


@pytest_asyncio.fixture(loop_scope="session")
async def scene(tmp_path: Path, page: Page, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    async with running(None, tmp_path) as service:
        hub = service.context.hub
        publish_event = hub.publish
        monkeypatch.setattr(hub, "publish", lambda event: None)
        monkeypatch.setattr(service.context.supervisor, "want", lambda topic: None)
        hub.topics.clear()
        scene = Scene(service, page, publish_event, rows=[candle("BTC", "live")])
        await page.route("**/api/market/ohlc?*", lambda route: scene.ohlc(route))
        await page.add_init_script(MUTED)
        yield scene


async def opened(scene: Scene, link: str = "") -> None:
    """Open the page with a price, a candle, the table of coins and a status."""
    scene.everything()
    await scene.page.goto(f"{scene.service.url}/{link}")
    await is_live(scene.page)


def coin(symbol: str, price: float) -> dict[str, object]:
    return {"rank": 1, "symbol": symbol, "id": symbol.lower(), "name": symbol, "price": price, "ts": now_ms()}


LIVE = {
    "title": r"^86,000\.50 BTC · ", "icon": "^favicon.svg$", "quote": "^live$", "source": "^binance$",
    "legend": "^live$", "pill": "^Connected$", "row": "^live$", "rowText": r"^\d+s$", "trouble": "^$",
    "panel": "^live$",
}  # fmt: skip


def not_live(word: str) -> dict[str, str]:
    """Return the patterns of a page on which no part shows the price of BTC as live, and `word` is the reason."""
    aged = rf"^{word} \d+[smhd]"
    return {
        "title": rf"{aged} · ", "icon": r"^favicon-stale\.svg$", "quote": "^(?!live$)",
        "age": f"{aged}$", "legend": f"{aged}$", "note": word, "row": "^(stale|cut)$", "rowText": "stale|not connected",
    }  # fmt: skip


def disconnected(word: str) -> dict[str, str]:
    """Return the patterns of a page that also shows no connection and no state of feeds."""
    return not_live(word) | {"pill": "^(?!Connected$)", "wellFeeds": "^0$", "feeds": "not known", "panel": "^stale$"}


def has_one_countdown(shown_texts: dict[str, Any]) -> bool:
    return len([text for text in (shown_texts["detail"], shown_texts["notice"]) if re.search(r"\bin \d", text)]) <= 1


async def test_a_stale_price_and_candle_are_shown_as_stale_everywhere(scene: Scene) -> None:
    await opened(scene)
    await scene.until(**LIVE)
    scene.make_stale("price.BTC")
    scene.make_stale("ohlcv.BTC.1m")
    await scene.until(**not_live("stale"), pill="^Connected$")
    scene.price()
    scene.candle()
    await scene.until(**LIVE)


async def test_a_silent_line_is_detected_within_five_seconds_of_the_usual_pace_and_probed(
    scene: Scene,
) -> None:
    await scene.page.clock.install()
    await opened(scene)
    for number in range(8):
        scene.price(86_000.5 + number % 2)
        await scene.until(title=rf"^86,00{number % 2}\.50 BTC")
        await scene.page.clock.run_for(1_000)
    scene.price()
    await scene.until(title=LIVE["title"])
    await scene.page.evaluate("lines.forEach((line) => { line.muted = true; })")
    await scene.page.clock.run_for(4_000)
    assert (await scene.shown_texts())["pill"] == "Connected"
    await scene.page.clock.run_for(2_100)
    shown_texts = await scene.until(**disconnected("silent") | {"pill": "^Silent$", "detail": r"no message for \ds"})
    assert has_one_countdown(shown_texts), shown_texts
    # The probe had no answer, so the line is dead.
    await scene.page.clock.run_for(6_000)
    await scene.page.wait_for_function("() => lines.length > 1")
    await scene.until(pill="^Connected$")
    await scene.page.clock.run_for(1_000)
    await scene.until(**LIVE)


async def test_a_browser_that_goes_offline_is_shown_at_once_and_recovers(scene: Scene) -> None:
    await opened(scene)
    await scene.until(**LIVE)
    await scene.page.context.set_offline(True)
    shown_texts = await scene.until(**disconnected("offline") | {"pill": "^Offline$"})
    assert has_one_countdown(shown_texts), shown_texts
    await scene.page.context.set_offline(False)
    await scene.until(**LIVE)


async def test_without_the_server_the_page_shows_one_countdown_and_nothing_live(scene: Scene) -> None:
    await opened(scene)
    await scene.until(**LIVE)
    await scene.page.route("**/ws*", lambda route: route.abort())
    await scene.page.route_web_socket("**/ws*", lambda socket: None)  # later connections open and stay silent
    await scene.service.context.clients.dismiss(within_s=0.1)
    await scene.until(title="^disconnected", pill="^Reconnecting$|^Connecting$", legend="^disconnected", notice=".")
    shown_texts = await scene.until(**disconnected("disconnected") | {"pill": "^Reconnecting$"})
    assert has_one_countdown(shown_texts), shown_texts


async def test_a_price_from_another_source_is_shown_with_that_source(scene: Scene) -> None:
    await opened(scene)
    await scene.until(**LIVE)
    feeds = [
        {"name": "binance", "state": "waiting", "last_error": "no answer", "sockets": [{}]},
        {"name": "prices", "state": "polling", "last_error": None, "source": "coingecko"},
    ]
    scene.make_stale("ohlcv.BTC.1m")
    scene.price(86_100.25, "coingecko", "USD")
    scene.status(feeds=feeds)
    await scene.until(
        title=r"^86,100\.25 BTC", source="coingecko in USD, instead of binance in USDT", legend="^stale ",
        trouble="binance does not stream.*coingecko",
    )  # fmt: skip
    scene.price()
    scene.candle()
    scene.status()
    await scene.until(**LIVE)


async def test_a_coin_without_an_exchange_is_shown_with_source_age_and_polled_candles(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    canonical = topics.canonical

    def without_trx(selector: str, symbols: Symbols) -> str:
        if "TRX" in selector:
            raise topics.UnknownTopicError(f"topic {selector!r}: no market for symbol 'TRX'")
        return canonical(selector, symbols)

    monkeypatch.setattr(topics, "canonical", without_trx)
    scene.rows = [candle("TRX", "live")]
    await opened(scene, "#TRX/1m")
    await scene.until(
        legend=r"^as of \d+s ago$", title=r"^0\.276", note="no exchange here lists TRX", notice="^$",
        source="^coingecko, from the table of coins$",
    )  # fmt: skip
    await expect(scene.page.locator("#chart-title")).to_have_text("TRX/USD")
    scene.make_stale("market")
    await scene.until(title="^stale", icon="stale", quote="^stale$")


async def test_candles_that_are_not_streamed_show_their_age_and_are_polled(scene: Scene) -> None:
    await scene.page.clock.install()
    scene.rows = [candle("BTC", "closed")]
    scene.price()
    scene.status()
    await scene.page.goto(scene.service.url)
    await is_live(scene.page)
    await scene.until(legend="^closed$", note="binance · 1 candles")
    asked = len(scene.asked)
    for _ in range(4):
        await scene.page.clock.run_for(10_000)
        scene.price()
    await scene.until(pill="Connected", note=r"not streamed now: asked every minute, 4\ds old")
    for _ in range(2):  # with a message in between, because a page whose line is silent doesn't poll
        await scene.page.clock.run_for(11_000)
        scene.price()
        await scene.until(pill="Connected")
    await scene.until(note="binance · 1 candles")
    assert len(scene.asked) == asked + 1


async def test_without_any_network_one_line_reports_it_and_candles_are_polled_less_and_less_often(scene: Scene) -> None:
    await scene.page.clock.install()
    scene.rows = None
    cause = "cannot connect (host name not found)"
    names = [f"source{number}" for number in range(20)]
    fault = {"state": "active", "calls": 4, "last_error": cause, "last_error_at": now_ms(), "last_success_at": None}
    feeds = [{"name": name, "state": "failing", "last_error": f"no provider of {name} can answer"} for name in names]
    scene.status(feeds=feeds, providers=[fault | {"name": name} for name in names], readiness={"price": cause})
    await scene.page.goto(scene.service.url)
    await is_live(scene.page)
    await scene.until(
        trouble=r"no host name resolves.*make demo TAPE=FILE", feeds="20 failing", legend="^$", quote="^none$",
        title="^BTC · stream-server$",
    )  # fmt: skip
    assert cause not in await scene.page.locator("main").inner_text()
    await expect(scene.page.locator(".disagreements")).to_have_text("Nothing to compare: there are no prices.")

    async def minutes(count: int) -> None:
        for _ in range(4 * count):
            await scene.page.clock.run_for(15_000)
            scene.status(feeds=feeds)
            await scene.until(pill="^Connected$")

    # By then the delays have reached 5 min, and the page expects a message only every 15 s.
    await minutes(6)
    asked = len(scene.asked)
    await minutes(10)
    assert len(scene.asked) - asked <= 8, "15 s, doubled each time up to 5 min"


async def test_a_gap_that_is_repaired_is_not_announced(scene: Scene) -> None:
    await opened(scene)
    await scene.until(**LIVE)
    asked = len(scene.asked)
    hub = scene.service.context.hub
    hub.epoch = "restarted"
    hub.topics.clear()
    await scene.service.context.clients.dismiss(within_s=0.1)
    scene.everything()
    await scene.until(**LIVE, notice="^$")
    deadline = time.monotonic() + 30
    while len(scene.asked) == asked:
        assert time.monotonic() < deadline, "the candles were not fetched again"
        assert "missing" not in (await scene.shown_texts())["notice"]
        await scene.page.wait_for_timeout(50)
    assert (await scene.until(**LIVE))["notice"] == ""

"""What the page says of its own state, in a real Chromium: each kind of trouble against every place that speaks of it.

A title, an icon, a legend or a table that says live while nothing is, is the opposite of what the service promises.
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
from tests import browser as chromium
from tests.browser import is_live
from tests.harness import Running, running

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module", loop_factories=["asyncio"])]

browser, complaints, page = chromium.browser, chromium.complaints, chromium.page

CANDLE_MS = 60_000
MUTED = """
    const Real = WebSocket;
    Math.random = () => 0.1;
    window.lines = [];
    // A line that is muted stays open: nothing comes and nothing goes, and nobody says so.
    window.WebSocket = class extends Real {
        constructor(...address) { super(...address); lines.push(this); }
        set onmessage(heard) { super.onmessage = (event) => this.muted || heard(event); }
        send(text) { if (!this.muted) super.send(text); }
    };
"""
SEEN = """() => {
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
    """The page on a service that says only what the test lets it say."""

    service: Running
    page: Page
    publish: Callable[[Event], None]
    asked: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] | None = field(default_factory=list)

    def say(self, topic: str, data: Mapping[str, object], source: str = "binance") -> None:
        self.publish(Event(topic, now_ms(), now_ms(), source, data, log=topic.startswith("ohlcv.")))

    def price(self, price: float = 86_000.5, source: str = "binance", quote: str = "USDT") -> None:
        pair = f"BTC{quote}" if source == "binance" else None
        data = {"symbol": "BTC", "pair": pair, "quote": quote, "price": price, "change_24h_pct": 1.0}
        self.say("price.BTC", data, source)

    def candle(self) -> None:
        self.say("ohlcv.BTC.1m", candle("BTC", "live"))

    def status(self, **others: object) -> None:
        feeds: list[dict[str, object]] = [{"name": "binance", "state": "live", "last_error": None, "sockets": []}]
        report = {"server": {"mode": "live"}, "readiness": {"price": "value"}, "feeds": feeds, "providers": []}
        self.say("status", report | others, "stream_server")

    def everything(self) -> None:
        coins = [coin("BTC", 86_001.0), coin("TRX", 0.276)]
        self.say("market", {"currency": "usd", "coins": coins}, "coingecko")
        self.price()
        self.candle()
        self.status()

    def grow_old(self, topic: str) -> None:
        """Let the value of a topic outlive its time."""
        held = self.service.context.hub.topics[topic]
        assert held.event is not None
        ttl_s, held.ttl_s = held.ttl_s, 0.0
        self.publish(held.event)
        self.service.context.hub.expire()
        held.ttl_s = ttl_s

    async def ohlc(self, route: Route) -> None:
        """Answer for candles: `rows`, or that nobody can be asked."""
        self.asked.append(route.request.url)
        if self.rows is None:
            error = {"code": "unavailable", "message": "no provider of candles can answer"}
            await route.fulfill(status=503, json={"success": False, "error": error}, headers={"Retry-After": "1"})
            return
        body = {"success": True, "source": "binance", "stale": False, "age_ms": 400, "position": None}
        await route.fulfill(json=body | {"data": self.rows})

    async def seen(self) -> dict[str, Any]:
        found: dict[str, Any] = await self.page.evaluate(SEEN)
        return found

    async def until(self, **wanted: str) -> dict[str, Any]:
        """Wait until these places show, all at once, what these patterns match; returns what all places show.

        Each part of the page draws in a frame of its own, so what is not in `wanted` may still be from before.
        """
        deadline = time.monotonic() + 30
        while True:
            seen = await self.seen()
            wrong = {
                name: seen[name]
                for name, pattern in wanted.items()
                if not re.search(pattern, str(seen[name]), re.DOTALL)
            }
            if not wrong:
                return seen
            assert time.monotonic() < deadline, f"{wrong} against {wanted}"
            await self.page.wait_for_timeout(50)


def candle(symbol: str, state: str) -> dict[str, Any]:
    opened = now_ms() // CANDLE_MS * CANDLE_MS
    shape = {"symbol": symbol, "pair": f"{symbol}USDT", "quote": "USDT", "interval": "1m", "open_time": opened}
    prices = {"open": 1.0, "high": 2.0, "low": 0.5, "close": 1.5, "volume": 3.0}
    return shape | prices | {"close_time": opened + CANDLE_MS - 1, "closed": state != "live", "state": state}


@pytest_asyncio.fixture(loop_scope="module")
async def scene(tmp_path: Path, page: Page, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    async with running(None, tmp_path) as service:
        hub = service.context.hub
        publish = hub.publish
        monkeypatch.setattr(hub, "publish", lambda event: None)
        monkeypatch.setattr(service.context.supervisor, "want", lambda topic: None)
        hub.topics.clear()
        scene = Scene(service, page, publish, rows=[candle("BTC", "live")])
        await page.route("**/api/market/ohlc?*", lambda route: scene.ohlc(route))
        await page.add_init_script(MUTED)
        yield scene


async def opened(scene: Scene, link: str = "") -> None:
    """The page, with a price, a candle, the table of coins and a status."""
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


def honest(word: str) -> dict[str, str]:
    """Nothing that shows the price of BTC says that it holds; title, headline and legend say what is wrong."""
    aged = rf"^{word} \d+[smhd]"
    return {
        "title": rf"{aged} · ", "icon": r"^favicon-stale\.svg$", "quote": "^(?!live$)",
        "age": f"{aged}$", "legend": f"{aged}$", "note": word, "row": "^(stale|cut)$", "rowText": "stale|not connected",
    }  # fmt: skip


def cut_everywhere(word: str) -> dict[str, str]:
    """Besides, nothing at all says that it is connected, or how the feeds are."""
    return honest(word) | {"pill": "^(?!Connected$)", "wellFeeds": "^0$", "feeds": "not known", "panel": "^stale$"}


def has_one_countdown(seen: dict[str, Any]) -> bool:
    return len([text for text in (seen["detail"], seen["notice"]) if re.search(r"\bin \d", text)]) <= 1


async def test_a_stale_price_and_candle_are_said_to_be_stale_wherever_they_are_shown(scene: Scene) -> None:
    await opened(scene)
    await scene.until(**LIVE)
    scene.grow_old("price.BTC")
    scene.grow_old("ohlcv.BTC.1m")
    await scene.until(**honest("stale"), pill="^Connected$")
    scene.price()
    scene.candle()
    await scene.until(**LIVE)


async def test_a_silent_line_is_noticed_within_five_seconds_of_the_usual_pace_and_asked_whether_it_is_dead(
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
    assert (await scene.seen())["pill"] == "Connected"
    await scene.page.clock.run_for(2_100)
    seen = await scene.until(**cut_everywhere("silent") | {"pill": "^Silent$", "detail": r"no message for \ds"})
    assert has_one_countdown(seen), seen
    # Nothing answered the question, so the line is dead.
    await scene.page.clock.run_for(6_000)
    await scene.page.wait_for_function("() => lines.length > 1")
    await scene.until(pill="^Connected$")
    await scene.page.clock.run_for(1_000)
    await scene.until(**LIVE)


async def test_a_browser_that_goes_offline_says_so_at_once_and_comes_back_with_it(scene: Scene) -> None:
    await opened(scene)
    await scene.until(**LIVE)
    await scene.page.context.set_offline(True)
    seen = await scene.until(**cut_everywhere("offline") | {"pill": "^Offline$"})
    assert has_one_countdown(seen), seen
    await scene.page.context.set_offline(False)
    await scene.until(**LIVE)


async def test_a_server_that_is_gone_leaves_one_countdown_and_nothing_that_looks_alive(scene: Scene) -> None:
    await opened(scene)
    await scene.until(**LIVE)
    await scene.page.route("**/ws*", lambda route: route.abort())
    await scene.page.route_web_socket("**/ws*", lambda socket: None)  # of those to come: one that never says a word
    await scene.service.context.clients.dismiss(within_s=0.1)
    await scene.until(title="^disconnected", pill="^Reconnecting$|^Connecting$", legend="^disconnected", notice=".")
    seen = await scene.until(**cut_everywhere("disconnected") | {"pill": "^Reconnecting$"})
    assert has_one_countdown(seen), seen


async def test_a_price_from_another_source_says_so_where_the_number_stands(scene: Scene) -> None:
    await opened(scene)
    await scene.until(**LIVE)
    feeds = [
        {"name": "binance", "state": "waiting", "last_error": "no answer", "sockets": [{}]},
        {"name": "prices", "state": "polling", "last_error": None, "source": "coingecko"},
    ]
    scene.grow_old("ohlcv.BTC.1m")
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


async def test_a_coin_that_no_exchange_lists_is_shown_with_its_source_and_age_and_polled_candles(
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
    scene.grow_old("market")
    await scene.until(title="^stale", icon="stale", quote="^stale$")


async def test_candles_that_nobody_streams_now_say_how_old_they_are_and_are_asked_for_again(scene: Scene) -> None:
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
    await scene.page.clock.run_for(22_000)
    await scene.until(note="binance · 1 candles")
    assert len(scene.asked) == asked + 1


async def test_without_any_network_one_line_says_so_and_candles_are_asked_for_ever_more_seldom(scene: Scene) -> None:
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
    asked = len(scene.asked)
    for _ in range(10):  # minutes
        for _ in range(4):
            await scene.page.clock.run_for(15_000)
            scene.status(feeds=feeds)
        await scene.until(pill=".")
    assert len(scene.asked) - asked <= 8, "15 s, and twice as long each time up to 5 min"


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
        assert time.monotonic() < deadline, "the candles were not asked for again"
        assert "missing" not in (await scene.seen())["notice"]
        await scene.page.wait_for_timeout(50)
    assert (await scene.until(**LIVE))["notice"] == ""

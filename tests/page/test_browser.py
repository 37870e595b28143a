"""Tests of the demo page, and of a browser's own EventSource, in a real Chromium."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from feeds.exchange.tape import open_tape
from stream_server.app import Run
from stream_server.connections import sse as sse_shell
from tests.browser import SOON_MS, Complaints, is_live
from tests.clients import last_ts, market_start, serving, write_tape
from tests.fakes.binance import FakeBinance
from tests.harness import Running, running, until

# On one loop only: the server's loop makes no difference to a page, and a browser is slow to start.
pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session", loop_factories=["asyncio"])]


@pytest_asyncio.fixture(loop_scope="session")
async def exchange() -> AsyncIterator[FakeBinance]:
    async with FakeBinance(start_ms=market_start()) as running_exchange:
        yield running_exchange


@pytest_asyncio.fixture(loop_scope="session")
async def service(exchange: FakeBinance, tmp_path: Path) -> AsyncIterator[Running]:
    async with serving(exchange, tmp_path, SNAPSHOT_TTL_S="30") as running_service:
        yield running_service


@pytest_asyncio.fixture(loop_scope="session")
async def bare(browser: Browser, service: Running) -> AsyncIterator[Page]:
    """Open an empty page of the service's origin, without the content security policy of answers."""
    opened = await browser.new_page(bypass_csp=True)
    opened.set_default_timeout(SOON_MS)
    await opened.goto(f"{service.url}/health/live")
    yield opened
    await opened.close()


async def shows_price(page: Page, exchange: FakeBinance, symbol: str = "BTC") -> None:
    """Wait until the table shows the exchange's last price."""
    value = _as_javascript(exchange, symbol)
    await expect(page.locator(f"tr[data-symbol={symbol}] td.price")).to_have_attribute("data-value", value)


def _as_javascript(exchange: FakeBinance, symbol: str) -> str:
    price = float(exchange.price(f"{symbol}USDT"))
    return str(int(price)) if price.is_integer() else repr(price)


async def test_the_page_shows_live_prices_and_a_chart_of_500_candles_without_any_error(
    service: Running, exchange: FakeBinance, page: Page, complaints: Complaints
) -> None:
    await page.add_init_script("addEventListener('securitypolicyviolation', (e) => console.error(e.violatedDirective))")
    await page.goto(service.url)
    await is_live(page)
    chart = page.locator("#chart")
    await expect(chart).to_have_attribute("data-candles", "500")
    await expect(chart).to_have_attribute("data-symbol", "BTC")
    for _ in range(3):
        exchange.advance(1)
        await shows_price(page, exchange)
    await shows_price(page, exchange, "ETH")

    exchange.advance(120)
    await expect(chart).to_have_attribute("data-candles", "502")
    await expect(chart).to_have_attribute("data-last-state", "live")
    await expect(page.locator("#epoch")).to_have_text(service.context.hub.epoch)
    last = service.context.hub.topics["ohlcv.BTC.1m"].last
    assert last is not None
    shown = "seq => Number(document.querySelector('#last-id').textContent.split('-')[1]) >= seq"
    await page.wait_for_function(shown, arg=last.seq)
    await expect(page.locator("#feeds")).to_contain_text("binance live")
    await expect(page.locator("#mode")).to_be_hidden()
    for link in await page.locator("a[href^='/']").all():
        target = await link.get_attribute("href")
        async with service.http.get(f"{service.url}{target}") as answer:
            assert answer.status == 200, target
    assert complaints == []


async def test_another_symbol_and_interval_can_be_charted_and_opened_by_a_link(
    service: Running, exchange: FakeBinance, page: Page, complaints: Complaints
) -> None:
    await page.goto(f"{service.url}/#eth/5m")
    chart = page.locator("#chart[data-symbol=ETH][data-interval='5m']")
    await expect(chart).to_have_attribute("data-candles", "500")
    await exchange.until(lambda: exchange.subscribed("ethusdt@kline_5m"))
    exchange.advance(4)
    exchange.quiet("ETHUSDT")
    exchange.advance(2)
    close = _as_javascript(exchange, "ETH")
    await expect(chart).to_have_attribute("data-last-close", close)
    await page.locator("tr[data-symbol=SOL]").click()
    await expect(page.locator("#chart[data-symbol=SOL][data-interval='5m']")).to_have_attribute("data-candles", "500")
    await page.locator("#interval button[value='1h']").click()
    await expect(page.locator("#chart[data-interval='1h']")).to_have_attribute("data-candles", "500")
    assert complaints == []


async def test_switching_to_sse_and_back_misses_no_candle(
    service: Running, exchange: FakeBinance, page: Page, complaints: Complaints
) -> None:
    await page.goto(service.url)
    chart = page.locator("#chart")
    await expect(chart).to_have_attribute("data-candles", "500")
    await is_live(page)
    candles = 500
    exchange.advance(3)  # each minute then ends within a step, and the next candle has begun after it
    for transport in ("sse", "websocket", "sse"):
        await page.locator("#transport").select_option(transport)
        exchange.advance(60)  # during the switch
        await is_live(page, transport)
        exchange.advance(60)
        candles += 2
        await expect(chart).to_have_attribute("data-candles", str(candles))
        await shows_price(page, exchange)
    assert service.context.clients.count() == {"websocket": 0, "sse": 1}
    assert complaints == []


async def test_a_native_eventsource_resumes_after_a_cut_and_misses_nothing(
    service: Running, exchange: FakeBinance, bare: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse_shell, "RETRY_MS", (50, 100))
    first = exchange.now_ms // 60_000 * 60_000
    await bare.evaluate(
        """() => {
            window.got = []; window.subscribed = []; window.synced = 0;
            const source = new EventSource("/sse?topics=ohlcv.BTC.1m");
            source.onmessage = (event) => got.push({ id: event.lastEventId, ...JSON.parse(event.data) });
            source.addEventListener("subscribed", (event) => subscribed.push(JSON.parse(event.data)));
            source.addEventListener("synced", () => (window.synced += 1));
        }"""
    )
    await bare.wait_for_function("window.synced === 1")
    for cut in range(1, 4):
        exchange.advance(61)
        newest = exchange.candles("BTCUSDT", "1m")[-2].open_ms
        await bare.wait_for_function(f"got.some(({{ data }}) => data.closed && data.open_time === {newest})")
        for client in list(service.context.clients.connected):
            client.outbox.pipe.transport.abort()  # type: ignore[attr-defined]
        exchange.advance(125)  # while it is disconnected
        await bare.wait_for_function(f"window.synced === {cut + 1}")

    got: list[dict[str, Any]] = await bare.evaluate("got")
    answers: list[dict[str, Any]] = await bare.evaluate("subscribed")
    assert [answer["resumed"] for answer in answers] == [False, True, True, True]
    ids = [int(message["id"].rpartition("-")[2]) for message in got]
    assert ids == sorted(set(ids))
    closed = [message["data"]["open_time"] for message in got if message["data"]["state"] == "closed"]
    truth = [candle.open_ms for candle in exchange.candles("BTCUSDT", "1m", start_ms=first) if candle.closed]
    assert [opened for opened in closed if opened >= first] == truth
    assert len(truth) >= 9


async def test_while_the_exchange_is_down_values_are_stale_and_the_page_names_the_host(
    exchange: FakeBinance, tmp_path: Path, page: Page
) -> None:
    async with serving(exchange, tmp_path, SNAPSHOT_TTL_S="1") as service:
        await page.goto(service.url)
        await is_live(page)
        await exchange.kill()
        await expect(page.locator("tr[data-symbol=BTC][data-stale=true]")).to_be_visible()
        await expect(page.locator("#quote-age")).to_contain_text("stale")
        await is_live(page)
        await page.reload()
        await expect(page.locator("tr[data-symbol=BTC][data-stale=true]")).to_be_visible()
        await expect(page.locator("#feeds")).to_contain_text(f"127.0.0.1:{exchange.port}")

        await exchange.revive()
        await exchange.until(lambda: exchange.subscribed("!miniTicker@arr"))
        exchange.advance(1)
        await expect(page.locator("tr[data-symbol=BTC]:not([data-stale])")).to_be_visible()
        await shows_price(page, exchange)


async def test_without_an_exchange_from_the_start_the_page_reports_it(tmp_path: Path, page: Page) -> None:
    async with running(None, tmp_path) as service:
        await until(lambda: any(feed["last_error"] for feed in service.context.supervisor.report()))
        await page.goto(service.url)
        await is_live(page)
        await expect(page.locator("#feeds")).to_contain_text("127.0.0.1:9")
        await expect(page.locator("#chart-message")).to_contain_text("BTC")


async def test_the_page_announces_a_restart_of_the_server_and_reconnects_by_itself(
    service: Running, exchange: FakeBinance, page: Page
) -> None:
    for transport in ("websocket", "sse"):
        await page.goto(service.url)
        await is_live(page)
        await page.locator("#transport").select_option(transport)
        await is_live(page, transport)
        await service.context.clients.dismiss(within_s=1)
        await expect(page.locator("#notice")).to_contain_text("4001")
        exchange.advance(1)
        await is_live(page, transport)
        await shows_price(page, exchange)


@pytest.mark.parametrize("width", [320, 390])
async def test_on_a_phone_nothing_scrolls_sideways(service: Running, page: Page, width: int) -> None:
    await page.set_viewport_size({"width": width, "height": 844})
    await page.goto(service.url)
    await is_live(page)
    await expect(page.locator("#chart")).to_have_attribute("data-candles", "500")
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    box = await page.locator("#chart").bounding_box()
    assert box is not None
    assert box["width"] > width * 0.8
    await expect(page.locator("tr[data-symbol=BTC] td.price")).to_be_visible()


async def test_light_and_dark_follow_the_system_and_the_button(service: Running, page: Page) -> None:
    def brightness() -> Any:
        return page.evaluate(
            """() => {
                const style = getComputedStyle(document.documentElement);
                const canvas = document.createElement("canvas").getContext("2d");
                canvas.fillStyle = style.getPropertyValue("--panel");
                canvas.fillRect(0, 0, 1, 1);
                return canvas.getImageData(0, 0, 1, 1).data.slice(0, 3).reduce((a, b) => a + b) / 3;
            }"""
        )

    await page.emulate_media(color_scheme="light")
    await page.goto(service.url)
    await is_live(page)
    assert await brightness() > 200
    await page.emulate_media(color_scheme="dark")
    assert await brightness() < 80
    await page.locator("#theme").click()
    assert await brightness() > 200


async def test_the_page_marks_a_tape_as_such(tmp_path: Path, page: Page, complaints: Complaints) -> None:
    tape = open_tape(write_tape(tmp_path / "market.jsonl"))
    async with running(None, tmp_path, Run(tape=tape, speed=0)) as service:
        await until(lambda: last_ts(service, "ohlcv.COMP.1m"))
        await page.goto(f"{service.url}/#COMP/1m")
        await is_live(page)
        await expect(page.locator("#mode")).to_have_text("Tape replay")
        await expect(page.locator("#chart")).to_have_attribute("data-candles", "4")
        await expect(page.locator("#chart")).to_have_attribute("data-last-close", "293.5")
        await expect(page.locator("tr[data-symbol=COMP] td.price")).to_have_attribute("data-value", "293.5")
    assert complaints == []


# --- static/client.js, which other pages may copy

CLIENT = """async ({ transport, topics }) => {
    const { StreamClient } = await import("/static/client.js");
    window.seen = { updates: [], errors: [], states: [], subscribed: [] };
    window.stream = new StreamClient(location.origin, { transport });
    stream.on("update", (message) => seen.updates.push(message));
    stream.on("error", (message) => seen.errors.push(message));
    stream.on("state", (state) => seen.states.push(state.name));
    stream.on("subscribed", (message) => seen.subscribed.push(message));
    stream.subscribe(topics);
    stream.connect();
}"""


@pytest.mark.parametrize("transport", ["websocket", "sse"])
async def test_client_js_keeps_the_good_topics_when_one_is_refused(
    service: Running, exchange: FakeBinance, bare: Page, transport: str
) -> None:
    topics = ["price.NOPE", "price.BTC", "ohlcv.BTC.7m", "ohlcv.BTC.1m"]
    await bare.evaluate(CLIENT, {"transport": transport, "topics": topics})
    await bare.wait_for_function("stream.state.name === 'live'")
    exchange.advance(1)
    await bare.wait_for_function(f"seen.updates.some((m) => m.topic === 'price.BTC' && m.ts === {exchange.now_ms})")
    seen = await bare.evaluate("seen")
    assert await bare.evaluate("stream.topics") == ["price.BTC", "ohlcv.BTC.1m"]
    refused = [error["topics"] for error in seen["errors"]]
    assert refused == [["price.NOPE", "ohlcv.BTC.7m"]]
    assert [message["topics"] for message in seen["subscribed"]] == [["price.BTC", "ohlcv.BTC.1m"]]
    assert await bare.evaluate("stream.cursor") is not None


async def test_client_js_is_live_even_when_all_its_topics_are_refused(service: Running, bare: Page) -> None:
    await bare.evaluate(CLIENT, {"transport": "websocket", "topics": ["price.NOPE", "weather"]})
    await bare.wait_for_function("stream.state.name === 'live'")
    await bare.evaluate("stream.subscribe(['price.BTC'])")
    await bare.wait_for_function("seen.updates.length === 1")
    assert await bare.evaluate("stream.topics") == ["price.BTC"]


async def test_client_js_forgets_a_topic_that_is_refused_late(
    exchange: FakeBinance, tmp_path: Path, bare: Page
) -> None:
    await exchange.kill()
    async with running(exchange, tmp_path) as service:
        await bare.goto(f"{service.url}/health/live")
        await bare.evaluate(CLIENT, {"transport": "websocket", "topics": ["ohlcv.NOPE.1m", "ohlcv.SOL.1m"]})
        await bare.wait_for_function("stream.state.name === 'live'")
        await exchange.revive()
        await bare.wait_for_function("seen.errors.length === 1")
        assert await bare.evaluate("seen.errors[0].topics") == ["ohlcv.NOPE.1m"]
        assert await bare.evaluate("stream.topics") == ["ohlcv.SOL.1m"]


@pytest.mark.parametrize("transport", ["websocket", "sse"])
async def test_client_js_delivers_each_log_event_once_over_many_cuts(
    service: Running, exchange: FakeBinance, bare: Page, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse_shell, "RETRY_MS", (50, 100))
    await bare.evaluate(CLIENT, {"transport": transport, "topics": ["ohlcv.BTC.1m", "price.*"]})
    await bare.wait_for_function("stream.state.name === 'live'")
    first = exchange.now_ms // 60_000 * 60_000
    for _ in range(3):
        exchange.advance(65)
        for client in list(service.context.clients.connected):
            client.outbox.pipe.transport.abort()  # type: ignore[attr-defined]
        exchange.advance(65)
        await until(lambda: service.context.clients.connected)
    newest = exchange.candles("BTCUSDT", "1m")[-2].open_ms
    await bare.wait_for_function(
        f"seen.updates.some(({{ data }}) => data.closed && data.open_time === {newest}) && stream.state.name === 'live'"
    )
    updates = await bare.evaluate("seen.updates")
    closed = [message["data"]["open_time"] for message in updates if message["data"].get("state") == "closed"]
    truth = [candle.open_ms for candle in exchange.candles("BTCUSDT", "1m", start_ms=first) if candle.closed]
    assert [opened for opened in closed if opened >= first] == truth
    for topic in ("price.BTC", "ohlcv.BTC.1m"):
        ids = [int(message["id"].rpartition("-")[2]) for message in updates if message["topic"] == topic]
        assert ids == sorted(set(ids))

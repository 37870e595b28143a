"""Tests of the page with keyboard and touch, and of its contrast and memory, in a real Chromium."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, FloatRect, Page, expect

from tests.browser import Complaints, is_live
from tests.page.test_browser_panels import Stage, coin, market, opened, publish_everything, streamed
from tests.page.test_browser_panels import stage as stage_of_panels

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session", loop_factories=["asyncio"])]

stage = stage_of_panels

LOW_CONTRAST = """() => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgba = (color) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = color;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
    const light = ([r, g, b]) => {
        const [x, y, z] = [r, g, b].map((c) => ((c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
        return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const parents = (element) => (element ? [...parents(element.parentElement), element] : []);
    const low = [];
    for (const element of document.querySelectorAll("body *")) {
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!own || !element.checkVisibility({ opacityProperty: false, visibilityProperty: true })) continue;
        if (element.closest(".unseen, caption, option, svg, #chart, .skip, noscript") || element.disabled) continue;
        let ground = [255, 255, 255, 1];
        let opacity = 1;
        for (const each of parents(element)) {
            const style = getComputedStyle(each);
            const [r, g, b, a] = rgba(style.backgroundColor);
            ground = over([r, g, b, a], ground);
            opacity *= Number(style.opacity);
        }
        const [r, g, b, a] = rgba(getComputedStyle(element).color);
        const ink = over([r, g, b, a * opacity], ground);
        const [bright, dark] = [light(ink), light(ground)].sort((x, y) => y - x);
        const ratio = (bright + 0.05) / (dark + 0.05);
        const words = element.textContent.trim().slice(0, 30);
        if (ratio < 4.5) low.push(`${ratio.toFixed(2)} ${element.tagName}.${element.className} ${words}`);
    }
    return low;
}"""
"""Return texts whose contrast with their background is below 4.5 (WCAG 2.2, 1.4.3), with the ratio."""


def publish_prices(stage: Stage) -> None:
    stage.publish("market", market(coin(1, "BTC", 64_300.0) | {"name": "Bitcoin", "id": "bitcoin"}))
    for symbol, price, volume in (
        ("BTC", 64_300.5, 9e9),
        ("BTCDOM", 3.5, 1e9),
        ("SOL", 150.0, 2e9),
        ("PEPE", 8.23e-6, 1e6),
    ):
        stage.publish(f"price.{symbol}", streamed(symbol, price) | {"quote_volume_24h": volume}, "binance")


SPELLINGS = {
    **{key: ["BTC"] for key in ("BTC/USDT", "btc-usdt", "btc usdt", "bitcoin", "Bitcoin ")},
    "btc": ["BTC", "BTCDOM"],
    "sol": ["SOL"],
    "usdt": ["BTC", "SOL", "BTCDOM", "PEPE"],
    "nothing": [],
    "": ["BTC", "SOL", "BTCDOM", "PEPE"],
}


def candle(number: int) -> dict[str, object]:
    prices = {"open": 1.0, "high": 2.0, "low": 0.5, "close": 1.5, "volume": 3.0}
    shape = {"symbol": "BTC", "interval": "5m", "open_time": 1_795_000_000_000 + 300_000 * number}
    return shape | prices | {"closed": True, "state": "closed"}


async def charted(page: Page) -> FloatRect:
    """Chart 200 candles; return the chart's box."""
    candles = [candle(number) for number in range(200)]
    body = {"success": True, "data": candles, "source": "binance", "stale": False, "position": None}
    await page.route("**/api/market/ohlc?*", lambda route: route.fulfill(json=body))
    await page.locator("#interval button[value='5m']").click()
    await expect(page.locator("#chart")).to_have_attribute("data-candles", "200")
    box = await page.locator("#chart").bounding_box()
    assert box is not None
    return box


@pytest_asyncio.fixture(loop_scope="session")
async def shown(stage: Stage, page: Page) -> AsyncIterator[Page]:
    await opened(page, stage)
    publish_prices(stage)
    await expect(page.locator("#prices tbody tr")).to_have_count(4)
    yield page


async def test_search_finds_a_symbol_by_any_spelling_best_match_first(shown: Page) -> None:
    symbols = "[...document.querySelectorAll('#prices tbody tr')].map((row) => row.dataset.symbol)"
    for words, found in SPELLINGS.items():
        await shown.locator("#search").fill(words)
        assert await shown.evaluate(symbols) == found, words


async def test_the_keyboard_reaches_search_rows_and_chart_and_enter_asks_the_server(stage: Stage, shown: Page) -> None:
    search = shown.locator("#search")
    await search.fill("sol")
    await search.press("Enter")
    await expect(shown.locator("#chart[data-symbol=SOL]")).to_be_visible()
    await search.fill("")
    await search.press("ArrowDown")
    await shown.keyboard.press("ArrowDown")
    await shown.keyboard.press("ArrowDown")
    await expect(shown.locator("tr[data-symbol=BTCDOM] button")).to_be_focused()
    await shown.keyboard.press("Enter")
    await expect(shown.locator("#chart[data-symbol=BTCDOM]")).to_be_visible()
    for _ in range(3):
        await shown.keyboard.press("ArrowUp")
    await expect(search).to_be_focused()

    answer = {"success": True, "data": [{"symbol": "TRX"}], "source": "coingecko"}
    await shown.route("**/api/market/price?symbols=tron", lambda route: route.fulfill(json=answer))
    await search.fill("tron")
    await search.press("Enter")
    await expect(shown.locator("#chart[data-symbol=TRX]")).to_be_visible()
    error = {"success": False, "error": {"code": "unknown_symbol", "message": "no coin is called 'xyzzy'"}}
    await shown.route("**/api/market/price?symbols=xyzzy", lambda route: route.fulfill(status=404, json=error))
    await search.fill("xyzzy")
    await search.press("Enter")
    await expect(shown.locator("#prices-empty")).to_contain_text("no coin is called 'xyzzy'")


async def test_order_and_transport_are_remembered_and_small_prices_keep_their_own_decimals(
    stage: Stage, shown: Page
) -> None:
    await expect(shown.locator("tr[data-symbol=PEPE] td.price")).to_have_text("0.00000823")
    await shown.locator("#prices th[data-sort=symbol] button").click()
    await shown.locator("#market th[data-sort=cap] button").click()
    await shown.locator("#transport").select_option("sse")
    await is_live(shown, "sse")
    await shown.reload()
    await is_live(shown, "sse")
    await expect(shown.locator("#prices th[data-sort=symbol]")).to_have_attribute("aria-sort", "ascending")
    await expect(shown.locator("#market th[data-sort=cap]")).to_have_attribute("aria-sort", "descending")
    rows = shown.locator("#prices tbody tr")
    await expect(rows.nth(0)).to_have_attribute("data-symbol", "BTC")
    await expect(rows.nth(2)).to_have_attribute("data-symbol", "PEPE")


async def test_no_tab_stop_is_hidden_behind_the_bars_and_the_first_one_skips_the_header(
    stage: Stage, shown: Page
) -> None:
    publish_everything(stage)
    await expect(shown.locator("#market tbody tr")).to_have_count(100)
    await shown.keyboard.press("Tab")
    await shown.keyboard.press("Enter")
    await expect(shown.locator("#panels")).to_be_focused()
    assert "#" not in shown.url
    hidden = """() => {
        const foot = document.querySelector(".status").getBoundingClientRect();
        const head = document.querySelector(".bar").getBoundingClientRect();
        document.documentElement.style.scrollBehavior = "auto";
        const behind = [];
        for (const element of document.querySelectorAll("main :is(button, a, input, select, [tabindex='0'])")) {
            if (!element.checkVisibility() || element.closest("#chart")) continue;
            element.focus();
            const box = element.getBoundingClientRect();
            const seen = box.bottom <= foot.top + 1 && box.top >= head.bottom - 1;
            if (box.height < 200 && !seen) behind.push(element.outerHTML.slice(0, 80));
        }
        return behind;
    }"""
    assert await shown.evaluate(hidden) == []


async def test_every_text_has_enough_contrast_with_live_and_with_stale_values(stage: Stage, shown: Page) -> None:
    async def are_readable() -> None:
        for scheme in ("light", "dark"):
            await shown.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            assert await shown.evaluate(LOW_CONTRAST) == [], scheme

    publish_everything(stage)
    await expect(shown.locator("#market tbody tr")).to_have_count(100)
    await expect(shown.locator("tr[data-symbol=BTC][data-state=live]")).to_be_visible()
    await are_readable()
    await shown.route_web_socket("**/ws*", lambda socket: None)
    await stage.service.context.clients.dismiss(within_s=0.1)
    await expect(shown.locator("tr[data-symbol=BTC][data-state=cut]")).to_be_visible()
    await expect(shown.locator("tr[data-symbol=BTC] td.age")).to_contain_text("not connected")
    await are_readable()


async def test_a_swipe_on_the_chart_scrolls_the_page(stage: Stage, browser: Browser) -> None:
    page = await browser.new_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    await opened(page, stage)
    box = await charted(page)
    touch = await page.context.new_cdp_session(page)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for kind, moved in [("Start", 0), *(("Move", 20 * step) for step in range(1, 11)), ("End", None)]:
        points = [] if moved is None else [{"x": x, "y": y - moved}]
        await touch.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})
    await page.wait_for_function("() => scrollY > 100")
    await page.close()


async def test_a_chart_that_is_scrolled_back_offers_a_button_to_the_present(stage: Stage, page: Page) -> None:
    await opened(page, stage)
    box = await charted(page)
    back = page.locator("#back-to-live")
    await expect(back).to_be_hidden()
    await page.mouse.move(box["x"] + 200, box["y"] + 100)
    await page.mouse.down()
    await page.mouse.move(box["x"] + 500, box["y"] + 100, steps=5)
    await page.mouse.up()
    await back.click()
    await expect(back).to_be_hidden()


async def test_without_the_chart_library_everything_else_works(stage: Stage, page: Page) -> None:
    await page.route("**/vendor/lightweight-charts.js", lambda route: route.abort())
    await opened(page, stage)
    publish_everything(stage)
    publish_prices(stage)
    await expect(page.locator("#chart")).to_contain_text("library did not load")
    await expect(page.locator("#market[data-state=live] tbody tr")).to_have_count(1)
    await expect(page.locator("#quote-price")).to_have_text("64,300.50")


async def test_a_flash_ends_by_itself_without_an_animation(stage: Stage, shown: Page, complaints: Complaints) -> None:
    # The page itself notes what passes: a busy machine may look only after a flash has ended. An animation would be
    # painted in each frame: with 400 symbols it took half a core.
    await shown.evaluate("""() => {
        const cell = document.querySelector("tr[data-symbol=BTC] td.price");
        const moving = () => document.getAnimations().filter((each) => each.effect.target.closest("table")).length;
        window.flashes = [];
        new MutationObserver(() => flashes.push([cell.dataset.flash ?? "", moving()]))
            .observe(cell, {attributeFilter: ["data-flash"]});
    }""")
    stage.publish("price.BTC", streamed("BTC", 64_301.0), "binance")
    await shown.wait_for_function("() => flashes.length >= 2")
    assert await shown.evaluate("flashes") == [["up", 0], ["", 0]]
    assert complaints == []

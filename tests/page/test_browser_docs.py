"""Tests of the API documentation in a real Chromium: it lists everything, and its requests work."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from stream_server.specs import asyncapi, openapi
from tests.browser import Complaints, is_live
from tests.harness import Running, running

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session", loop_factories=["asyncio"])]

TOKEN = "t" * 32


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    async with running(None, tmp_path_factory.mktemp("state")) as served:
        yield served


async def opened(page: Page, path: str) -> None:
    """Open an endpoint's entry."""
    await page.locator(f".entry[data-path='{path}'] > summary").click()


async def test_every_path_and_message_is_listed_opens_and_fits_on_a_phone(
    service: Running, page: Page, complaints: Complaints
) -> None:
    await page.add_init_script("addEventListener('securitypolicyviolation', (e) => console.error(e.violatedDirective))")
    await page.goto(f"{service.url}/docs")
    entries = page.locator(".entry")
    messages = asyncapi.document()["components"]["messages"]
    paths = list(openapi.document()["paths"])
    await expect(entries).to_have_count(len(paths) + len(messages))
    listed = await page.locator(".entry[data-path]").evaluate_all("all => all.map(each => each.dataset.path)")
    assert sorted(listed) == sorted(paths)
    assert await page.locator("#contents ul ul a").count() == len(paths) + len(messages)

    await entries.evaluate_all("all => all.forEach(each => { each.open = true; })")
    await expect(page.locator(".entry > .entry-body")).to_have_count(len(paths) + len(messages))
    # Inner fields are created when they are opened.
    await page.evaluate("""async () => {
        for (let closed; (closed = document.querySelectorAll("[id^=message-] .inner:not([open])")).length;) {
            closed.forEach((each) => { each.open = true; });
            await new Promise((done) => setTimeout(done, 20));
        }
    }""")
    full = "() => [...document.querySelectorAll('[id^=message-] .inner')].every((each) => each.children.length > 1)"
    await page.wait_for_function(full)
    assert await page.locator("[id^=message-] .inner").count() > 30
    await page.set_viewport_size({"width": 360, "height": 740})
    assert await page.evaluate("document.documentElement.scrollWidth") == 360
    assert complaints == []


async def test_the_request_follows_the_inputs_and_its_answer_is_shown(
    service: Running, page: Page, complaints: Complaints
) -> None:
    await page.goto(f"{service.url}/docs")
    await opened(page, "/api/topics")
    entry = page.locator("[data-path='/api/topics']")
    await entry.get_by_role("button", name="Try it").click()
    await expect(entry.locator(".answer")).to_contain_text("200 OK")
    await expect(entry.locator(".answer")).to_contain_text('"templates"')
    assert page.url.endswith("#getTopics")
    assert complaints == []  # Chromium reports a refusal as an error

    await opened(page, "/api/market/ohlc")
    entry = page.locator("[data-path='/api/market/ohlc']")
    await expect(entry.locator(".command")).to_have_text(f"curl '{service.url}/api/market/ohlc?symbol=BTC'")
    await entry.get_by_label("limit").fill("it's")
    await entry.get_by_label("interval").select_option("1M")
    await expect(entry.locator(".command")).to_have_text(
        f"curl '{service.url}/api/market/ohlc?symbol=BTC&interval=1M&limit=it%27s'"
    )
    await entry.get_by_label("limit").press("Enter")
    await expect(entry.locator(".answer")).to_contain_text("400 Bad Request")
    await expect(entry.locator(".answer")).to_contain_text('"limit": "limit \\"it\'s\\" is not a whole number"')


async def test_a_stream_is_shown_as_it_arrives_until_it_is_stopped(
    service: Running, page: Page, complaints: Complaints
) -> None:
    await page.goto(f"{service.url}/docs#getSse")
    entry = page.locator("[data-path='/sse']")
    await expect(entry).to_have_attribute("open", "")
    await entry.get_by_label("topics").fill("status")
    await entry.get_by_role("button", name="Try it").click()
    await expect(entry.locator(".answer .json")).to_contain_text("event: synced")
    await entry.get_by_role("button", name="Stop").click()
    await expect(entry.get_by_role("button", name="Try it")).to_be_visible()
    assert complaints == []


async def test_a_search_shows_only_matching_entries(service: Running, page: Page, complaints: Complaints) -> None:
    await page.goto(f"{service.url}/docs")
    await page.locator("#find").fill("gas")
    shown = page.locator(".entry:visible .path")
    await expect(shown).to_have_text(["/api/crypto/blockchain/gas", "gas.<chain>"])
    await page.locator("#find").fill("")
    assert await shown.count() > 50
    assert complaints == []


async def test_a_search_without_results_reports_it(service: Running, page: Page, complaints: Complaints) -> None:
    await page.goto(f"{service.url}/docs")
    await page.locator("#find").fill("no such thing")
    await expect(page.locator("#documents")).to_have_text("Nothing found for “no such thing”.", use_inner_text=True)
    await page.locator("#find").fill("gas")
    await expect(page.get_by_text("Nothing found")).to_be_hidden()
    assert complaints == []


async def test_the_websocket_console_sends_commands_until_it_is_closed(
    service: Running, page: Page, complaints: Complaints
) -> None:
    await page.goto(f"{service.url}/docs#getWs")
    entry = page.locator("[data-path='/ws']")
    await entry.get_by_label("topics").fill("status")
    send = entry.get_by_role("button", name="Send")
    await expect(send).to_be_disabled()
    await entry.get_by_role("button", name="Connect").click()
    lines = entry.locator(".lines")
    await expect(lines).to_contain_text('"type":"synced"')
    await expect(lines).to_contain_text('"topics":["status"]')
    await entry.get_by_label("Commands").select_option(label="ping")
    await send.click()
    await expect(lines).to_contain_text('→ {"op":"ping","req":4}')
    await expect(lines).to_contain_text('"type":"pong"')
    await entry.get_by_label("Message to send").fill("{")
    await entry.get_by_label("Message to send").press("Enter")
    await expect(lines).to_contain_text('"code":"bad_json"')
    await entry.get_by_role("button", name="Disconnect").click()
    await expect(lines).to_contain_text("closed by you")
    await expect(send).to_be_disabled()
    await entry.get_by_role("button", name="Connect").click()
    await service.context.clients.dismiss(within_s=0.1)
    await expect(lines).to_contain_text("closed: 4001")
    await expect(entry.get_by_role("button", name="Connect")).to_be_visible()
    assert complaints == []


async def test_if_tokens_are_required_the_page_asks_for_one_and_adds_it_to_commands(tmp_path: Path, page: Page) -> None:
    async with running(None, tmp_path, AUTH_TOKENS=f"desk:{TOKEN}") as service:
        await page.goto(f"{service.url}/docs")
        await opened(page, "/api/topics")
        entry = page.locator("[data-path='/api/topics']")
        tried = entry.get_by_role("button", name="Try it")
        await tried.click()
        await page.locator("#token input").press("Escape")
        await expect(entry.locator(".answer")).to_contain_text("401 Unauthorized")
        await tried.click()
        await page.locator("#token input").fill(TOKEN)
        await page.locator("#token button").click()
        await expect(entry.locator(".answer")).to_contain_text("200 OK")
        command = await entry.locator(".command").text_content()
        assert command is not None
        shell = ["bash", "-c", f"{command} -s -o /dev/null -w '%{{http_code}}'"]
        run = await asyncio.create_subprocess_exec(
            *shell, env=os.environ | {"TOKEN": TOKEN}, stdout=asyncio.subprocess.PIPE
        )
        status, _ = await run.communicate()
        assert status == b"200", command

        await opened(page, "/ws")
        socket = page.locator("[data-path='/ws']")
        await expect(socket.locator(".command")).to_contain_text('websocat -H "Authorization: Bearer $TOKEN"')
        await socket.get_by_role("button", name="Connect").click()
        await expect(socket.locator(".lines")).to_contain_text('"type":"synced"')
        await opened(page, "/health/live")
        await expect(page.locator("[data-path='/health/live'] .command")).not_to_contain_text("TOKEN")


async def test_without_a_token_the_connection_is_closed_and_the_page_asks_again_on_connect(
    tmp_path: Path, page: Page
) -> None:
    async with running(None, tmp_path, AUTH_TOKENS=f"desk:{TOKEN}") as service:
        await page.goto(service.url)
        await page.locator("#token input").press("Escape")
        await expect(page.locator("#connection[data-state=closed]")).to_be_visible()
        await page.locator("#reconnect").click()
        await page.locator("#token input").fill(TOKEN)
        await page.locator("#token button").click()
        await is_live(page)

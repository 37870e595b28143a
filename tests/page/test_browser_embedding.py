"""Tests of the pages under a path of a proxy and in a frame of another site, in a real Chromium."""

import asyncio
import os
import re
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urljoin

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Page, Route, expect

from tests.browser import Complaints, is_live
from tests.connections.test_behind_proxies import ROOT, documented, listening, nginx_configuration
from tests.harness import Running, running

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session", loop_factories=["asyncio"])]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    async with running(None, tmp_path_factory.mktemp("state"), TRUSTED_PROXIES="127.0.0.1") as served:
        yield served


@pytest_asyncio.fixture(loop_scope="session")
async def below(service: Running, tmp_path: Path) -> AsyncIterator[str]:
    """Run an nginx with the configuration of docs/operations.md; yield the URL of the service under `/stream/`."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    operations = (ROOT / "docs" / "operations.md").read_text()
    found = re.search(r"```nginx\n(    location /stream/ .*?)```", operations, re.DOTALL)
    assert found is not None
    text, count = re.subn(r"    location .*(?=\n}\n)", found[1], documented("nginx"), flags=re.DOTALL)
    assert count == 1
    text = text.replace("listen 443 ssl;", f"listen 127.0.0.1:{port};")
    arguments = nginx_configuration(tmp_path, text.replace("127.0.0.1:7860", service.url.removeprefix("http://")))
    process = await asyncio.create_subprocess_exec(program, *arguments)
    try:
        await listening(process, port)
        yield f"http://127.0.0.1:{port}/stream/"
    finally:
        process.kill()
        await process.wait()


async def test_page_docs_and_contract_work_under_a_path_of_a_proxy(
    below: str, service: Running, page: Page, complaints: Complaints
) -> None:
    await page.goto(below.removesuffix("/"))
    assert page.url == below
    for transport in ("sse", "websocket"):
        await page.locator("#transport").select_option(transport)
        await is_live(page, transport)
    await expect(page.locator("#epoch")).to_have_text(service.context.hub.epoch)
    async with aiohttp.ClientSession() as http:
        for link in await page.locator("a[href]:not([href^=http])").all():
            async with http.get(urljoin(below, await link.get_attribute("href"))) as answer:
                assert answer.status == 200
        async with http.get(f"{below}openapi.json") as answer:
            (server,) = (await answer.json())["servers"]
    assert urljoin(f"{below}openapi.json", server["url"]) == below
    # Every request went to the service's path. The service has no market, so the chart asks nothing.
    asked = await page.evaluate("performance.getEntriesByType('resource').map((each) => each.name)")
    assert asked
    assert [address for address in asked if not address.startswith(below)] == []

    complaints.clear()
    await page.locator(".credits a", has_text="API").click()
    assert page.url == f"{below}docs"
    await page.locator(".entry[data-path='/api/topics'] > summary").click()
    entry = page.locator("[data-path='/api/topics']")
    await expect(entry.locator(".command")).to_have_text(f"curl '{below}api/topics'")
    await entry.get_by_role("button", name="Try it").click()
    await expect(entry.locator(".answer")).to_contain_text("200 OK")
    await page.get_by_role("link", name="Live page").click()
    assert page.url == below
    assert [each for each in complaints if "503" not in each] == []


async def framed(page: Page, site: str, service: Running) -> None:
    """Open a page of a site that shows the service in a frame."""

    async def answer(route: Route) -> None:
        await route.fulfill(
            body=f"<iframe src='{service.url}/' width=1000 height=800></iframe>", content_type="text/html"
        )

    await page.route(f"{site}/**", answer)
    await page.goto(f"{site}/spaces/somebody/stream-server")


async def test_a_hugging_face_space_can_frame_the_page_and_other_sites_cannot(service: Running, page: Page) -> None:
    await framed(page, "https://huggingface.co", service)
    frame = page.frame_locator("iframe")
    await expect(frame.locator("#connection[data-state=live]")).to_be_visible()
    await expect(frame.locator("#epoch")).to_have_text(service.context.hub.epoch)
    async with page.expect_event("console", lambda message: "frame-ancestors" in message.text):
        await framed(page, "https://elsewhere.example", service)
    await expect(page.frame_locator("iframe").locator("#connection")).to_have_count(0)

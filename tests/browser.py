"""A Chromium (the system's, or Playwright's download), and the fixtures of browser tests.

All tests of a process share one browser, and so its event loop: such a test has `loop_scope="session"`.
"""

import shutil
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, Playwright, async_playwright, expect
from playwright.async_api import Error as PlaywrightError

SOON_MS = 30_000

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Some tests put our service, on loopback, in a frame of a public site.
    "--disable-features=LocalNetworkAccessChecks",
]


class NoBrowserError(Exception):
    """No Chromium starts on this machine; the text lists the attempts."""


async def launch(playwright: Playwright) -> Browser:
    """Start a Chromium. Raises: NoBrowserError."""
    tried = []
    for name in NAMES:
        path = shutil.which(name)
        if path is None:
            continue
        try:
            return await playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        except PlaywrightError as error:
            tried.append(f"{path}: {error.message.splitlines()[0]}")
    try:
        return await playwright.chromium.launch(args=ARGUMENTS)
    except PlaywrightError as error:
        tried.append(f"Playwright's own: {error.message.splitlines()[0]}")
    raise NoBrowserError("; ".join(tried))


class NoBrowser:
    """Report at the end of the run that no Chromium starts on this machine."""

    name = "no-browser"

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("NO BROWSER TESTS RAN", red=True, bold=True)
        terminalreporter.write_line(self.reason)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(request: pytest.FixtureRequest) -> AsyncIterator[Browser]:
    plugins = request.config.pluginmanager
    if plugins.has_plugin(NoBrowser.name):
        pytest.skip("no Chromium starts here")
    async with async_playwright() as playwright:
        try:
            chromium = await launch(playwright)
        except NoBrowserError as error:
            plugins.register(NoBrowser(str(error)), NoBrowser.name)
            pytest.skip("no Chromium starts here")
        yield chromium
        await chromium.close()


class Complaints(list[str]):
    """A page's console errors and warnings, uncaught errors, CSP violations and failed requests."""

    def watch(self, page: Page) -> None:
        page.on("console", lambda message: self._console(message.type, message.text))
        page.on("pageerror", lambda error: self.append(f"uncaught: {error}"))
        page.on("requestfailed", lambda request: self._failed(request.url, request.failure or ""))

    def _failed(self, url: str, why: str) -> None:
        if "ERR_ABORTED" not in why:  # the page closes a stream when it leaves
            self.append(f"failed: {url} {why}")

    def _console(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.append(f"{kind}: {text}")


@pytest.fixture
def complaints() -> Complaints:
    return Complaints()


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser, complaints: Complaints) -> AsyncIterator[Page]:
    opened = await browser.new_page()
    opened.set_default_timeout(SOON_MS)
    expect.set_options(timeout=SOON_MS)
    complaints.watch(opened)
    yield opened
    await opened.close()


async def is_live(page: Page, transport: str = "websocket") -> None:
    await expect(page.locator(f"#connection[data-state=live][data-transport={transport}]")).to_be_visible()

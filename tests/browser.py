"""Finds a Chromium to drive: the system's own, else Playwright's download."""

import shutil

from playwright.async_api import Browser, Playwright
from playwright.async_api import Error as PlaywrightError

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class NoBrowserError(Exception):
    """No Chromium starts here; the text says what was tried."""


async def launch(playwright: Playwright) -> Browser:
    """Start a Chromium. Raises NoBrowserError."""
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

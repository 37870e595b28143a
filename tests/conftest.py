"""The event loops of all tests, the browser that they share, and the profiles of Hypothesis."""

import asyncio
import os
from collections.abc import Callable, Mapping

import pytest
from hypothesis import settings

from tests import browser as chromium

try:
    import uvloop
except ImportError:
    LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
else:
    LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

browser, complaints, page = chromium.browser, chromium.complaints, chromium.page

# The suite draws the same examples every time, so that only a change can make it fail;
# HYPOTHESIS_PROFILE=search draws new ones.
settings.register_profile("steady", derandomize=True, database=None, deadline=None)
settings.register_profile("search", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


# These tests do not depend on the event loop: a child process chooses its own, and code above the sockets, which are
# tested on every loop, does not know which one runs.
ON_ONE_LOOP = (
    "test_behind_proxies",
    "test_rest_",
    "test_logs.py",
    "test_process.py",
    "test_price_failover",
    "test_namesakes",
    "test_service_rest",
    "test_service_recovery",
    "test_binance_feed",
    "test_backfill",
    "test_stream_faults",
    "test_upstream_faults",
    "test_freshness",
    "test_asyncapi",
    "test_jwks",
    "test_hostile_requests",
    "test_fake_",
    "test_pool",
    "test_tape",
)


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return the event loops of a test: all of them, or the one that the service prefers."""
    if item.path.name.startswith(ON_ONE_LOOP):
        name = next(reversed(LOOPS))
        return {name: LOOPS[name]}
    return LOOPS

"""What all tests share: every async test runs on asyncio and, where it is installed, on uvloop."""

import asyncio
from collections.abc import Callable, Mapping

import pytest

try:
    import uvloop
except ImportError:
    LOOPS: Mapping[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
else:
    LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The event loops of the suite."""
    return LOOPS

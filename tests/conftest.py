"""What all tests share: the event loops of every async test, and how Hypothesis draws its examples."""

import asyncio
import os
from collections.abc import Callable, Mapping

import pytest
from hypothesis import settings

try:
    import uvloop
except ImportError:
    LOOPS: Mapping[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
else:
    LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

# The suite draws the same examples every time, so that a red run is a change's doing;
# HYPOTHESIS_PROFILE=search draws new ones, for a hunt by hand.
settings.register_profile("steady", derandomize=True, database=None, deadline=None)
settings.register_profile("search", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The event loops of the suite."""
    return LOOPS

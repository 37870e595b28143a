"""An `Upstream` for tests that query a provider's fake over a real socket, as the service does."""

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp

from orchestrator.clock import Clock
from orchestrator.errors import ProviderError
from orchestrator.hosts import Hosts
from orchestrator.http import AiohttpTransport, HttpResponse
from orchestrator.upstream import Upstream
from orchestrator.upstream_policy import UpstreamPolicy


@asynccontextmanager
async def asking(
    name: str,
    urls: list[str],
    clock: Clock,
    refusal: Callable[[str, HttpResponse], ProviderError | None],
    policy: UpstreamPolicy | None = None,
) -> AsyncIterator[Upstream]:
    """Open an account with a provider at these URLs."""
    async with aiohttp.ClientSession() as session:
        transport = AiohttpTransport(session, clock)
        yield Upstream(name, Hosts(urls, clock), transport, clock, random.Random(1), policy, refusal=refusal)

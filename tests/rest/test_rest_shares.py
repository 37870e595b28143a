"""Limits of the questions that clients cause upstream: little for each, and never the share of the pollers."""

import asyncio
from pathlib import Path

from tests.sources import Sourced, sourced

PROXY = {"TRUSTED_PROXIES": "127.0.0.0/8"}


async def ask(every: Sourced, path: str, address: str) -> int:
    status, _ = await every.get(path, **{"X-Forwarded-For": address})
    return status


async def test_one_address_cannot_spend_the_allowance_of_all(tmp_path: Path) -> None:
    async with sourced(tmp_path, keys=True, shares=True, **PROXY) as every:
        fakes = every.fakes
        before = {type(each).__name__: len(each.calls) for each in fakes.upstreams}
        paths = [
            *("/api/news?max_age=0", "/api/market/global?max_age=0", "/api/market?max_age=0"),
            *("/api/sentiment/global?max_age=0", "/api/new-sources/test-all?max_age=0"),
            *(f"/api/market/price?symbols=NOSUCH{number}" for number in range(10)),
        ]
        for _ in range(6):
            statuses = await asyncio.gather(*(ask(every, path, "203.0.113.7") for path in paths))
            assert 500 not in statuses
        spent = {type(each).__name__: len(each.calls) - before[type(each).__name__] for each in fakes.upstreams}
        assert spent["FakeCryptoPanic"] <= 1, "its floor is a minute"
        assert spent["FakeNewsApi"] <= 1, "its floor is a quarter of an hour"
        assert await ask(every, "/api/market/ohlc?symbol=ETH&interval=1w&limit=2", "203.0.113.7") == 429
        assert await ask(every, "/api/market/ohlc?symbol=ETH&interval=1w&limit=2", "203.0.113.8") == 200, "nobody else"
        sources = every.service.context.sources
        assert sources is not None
        for upstream in sources.upstreams.values():
            if upstream.hosts is not None and upstream.disabled is None:
                assert upstream.limiter.wait_s(urgent=True) < 2.0, f"the pollers can still ask {upstream.name}"

"""A client that is generated from `/openapi.json` can be imported and used. `make clients` tries two more languages."""

import sys
from pathlib import Path

import pytest

from tests.clients import serving
from tests.fakes.binance import FakeBinance
from tests.generators.__main__ import python_client
from tests.harness import until

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio"])


async def test_a_generated_client_imports_and_makes_three_calls(tmp_path: Path) -> None:
    async with FakeBinance() as exchange, serving(exchange, tmp_path / "state") as service:
        await until(lambda: "price.ETH" in service.context.hub.topics)
        async with service.http.get(f"{service.url}/openapi.json") as answer:
            (tmp_path / "openapi.json").write_bytes(await answer.read())
        printed = await python_client(Path(sys.executable).parent, tmp_path, service.url)
    assert "3 calls" in printed

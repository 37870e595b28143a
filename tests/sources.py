"""The whole service on the fakes of all providers, with or without keys."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from tests.clients import market_start, streaming
from tests.fakes.alternative_me import FakeAlternativeMe
from tests.fakes.binance import FakeBinance
from tests.fakes.blockscout import FakeBlockscout
from tests.fakes.coingecko import FakeCoinGecko
from tests.fakes.crypto_api_clean import FakeCryptoApiClean
from tests.fakes.crypto_dt_source import FakeCryptoDtSource
from tests.fakes.cryptopanic import FakeCryptoPanic
from tests.fakes.ethereum_rpc import FakeEthereumRpc
from tests.fakes.etherscan import FakeEtherscan
from tests.fakes.huggingface import FakeHuggingFace
from tests.fakes.newsapi import FakeNewsApi
from tests.fakes.reddit import FakeReddit
from tests.fakes.rss import FakeRss
from tests.fakes.upstream import FakeUpstream
from tests.harness import Running, running, until

KEYS = {
    "COINGECKO_PRO_API_KEY": "CG-CANARYpro0000000000000001",
    "COINGECKO_DEMO_API_KEY": "CG-CANARYdemo000000000000002",
    "CRYPTOPANIC_API_KEY": "CANARYpanic000000000000000003",
    "NEWS_API_KEY": "CANARYnews0000000000000000004",
    "ETHERSCAN_API_KEY": "CANARYETHERSCANMAIN0000000005",
    "ETHERSCAN_BACKUP_API_KEY": "CANARYETHERSCANBACKUP00000006",
    "HF_TOKEN": "hf_CANARY0000000000000000007",
    "REDDIT_CLIENT_ID": "CANARYredditid008",
    "REDDIT_CLIENT_SECRET": "CANARYredditsecret00000000009",
}
"""The keys that the fakes accept; each is unique, so that tests can search for leaks."""


@dataclass(slots=True)
class Fakes:
    """Fakes of all providers."""

    exchange: FakeBinance
    coingecko: FakeCoinGecko
    coingecko_pro: FakeCoinGecko
    dt_source: FakeCryptoDtSource
    alternative_me: FakeAlternativeMe
    etherscan: FakeEtherscan
    node: FakeEthereumRpc
    blockscout: FakeBlockscout
    clean: FakeCryptoApiClean
    rss: FakeRss
    cryptopanic: FakeCryptoPanic
    newsapi: FakeNewsApi
    reddit: FakeReddit
    huggingface: FakeHuggingFace

    @property
    def upstreams(self) -> list[FakeUpstream]:
        """Every fake but the exchange."""
        return [fake for each in fields(self) if isinstance(fake := getattr(self, each.name), FakeUpstream)]

    @property
    def settings(self) -> dict[str, str]:
        """The settings that point the service at the fakes."""
        return {
            "COINGECKO_URL": self.coingecko.url,
            "COINGECKO_PRO_URL": self.coingecko_pro.url,
            "CRYPTO_DT_SOURCE_URL": self.dt_source.url,
            "ALTERNATIVE_ME_URL": self.alternative_me.url,
            "ETHERSCAN_URL": f"{self.etherscan.url}/v2/api",
            "ETH_RPC_URLS": self.node.url,
            "BLOCKSCOUT_URL": self.blockscout.url,
            "CRYPTO_API_CLEAN_URL": self.clean.url,
            "RSS_FEEDS": ",".join(f"{name}={url}" for name, url in self.rss.feeds.items()),
            "CRYPTOPANIC_URL": f"{self.cryptopanic.url}/api/developer/v2",
            "NEWSAPI_URL": f"{self.newsapi.url}/v2",
            "REDDIT_URL": self.reddit.url,
            "HF_INFERENCE_URL": f"{self.huggingface.url}/hf-inference",
        }

    async def kill_all(self) -> None:
        """Make every provider, and the exchange, refuse connections."""
        await self.exchange.kill()
        for fake in self.upstreams:
            await fake.kill()

    async def revive_all(self) -> None:
        """Bring every provider back."""
        await self.exchange.revive()
        for fake in self.upstreams:
            await fake.revive()


@asynccontextmanager
async def fakes() -> AsyncIterator[Fakes]:
    """Start all fakes."""
    async with AsyncExitStack() as stack:
        demo, pro = KEYS["COINGECKO_DEMO_API_KEY"], KEYS["COINGECKO_PRO_API_KEY"]
        etherscan = (KEYS["ETHERSCAN_API_KEY"], KEYS["ETHERSCAN_BACKUP_API_KEY"])
        application = (KEYS["REDDIT_CLIENT_ID"], KEYS["REDDIT_CLIENT_SECRET"])
        made: dict[str, Any] = {
            "exchange": FakeBinance(start_ms=market_start()),
            "coingecko": FakeCoinGecko(keys=(demo,)),
            "coingecko_pro": FakeCoinGecko(pro=True, keys=(pro,), per_minute=500),
            "dt_source": FakeCryptoDtSource(),
            "alternative_me": FakeAlternativeMe(),
            # Two keys, which are two accounts.
            "etherscan": FakeEtherscan(keys=etherscan, calls_a_second=6),
            "node": FakeEthereumRpc(),
            "blockscout": FakeBlockscout(),
            "clean": FakeCryptoApiClean(),
            "rss": FakeRss(),
            "cryptopanic": FakeCryptoPanic(tokens=(KEYS["CRYPTOPANIC_API_KEY"],)),
            "newsapi": FakeNewsApi(keys=(KEYS["NEWS_API_KEY"],)),
            "reddit": FakeReddit(application=application),
            "huggingface": FakeHuggingFace(tokens=(KEYS["HF_TOKEN"],)),
        }
        for fake in made.values():
            await stack.enter_async_context(fake)
        yield Fakes(**made)


@dataclass(slots=True)
class Sourced:
    """A running service and its fakes."""

    service: Running
    fakes: Fakes

    async def get(self, path: str, **headers: str) -> tuple[int, dict[str, Any]]:
        """GET a path; return the status and the parsed body."""
        return await self.service.get(path, **headers)

    def without_shares(self) -> None:
        """Let one client use a provider's whole allowance, and allow repeated requests at once."""
        sources = self.service.context.sources
        assert sources is not None
        for upstream in sources.upstreams.values():
            upstream.policy = replace(upstream.policy, floor_s=0.0)
            upstream.limiter.reserve = 0.0

    async def data(self, path: str) -> Any:
        """GET a path that must succeed; return its data."""
        status, body = await self.service.get(path)
        assert status == 200, (path, body)
        return body


@asynccontextmanager
async def sourced(
    state_dir: Path, *, keys: bool = False, shares: bool = False, **settings: str
) -> AsyncIterator[Sourced]:
    """Run the service on all fakes, with `ohlcv.BTC.1m` as fixed candles; yield when every category has a value."""
    async with fakes() as all_fakes:
        values = {"OHLCV_SYMBOLS": "BTC", "OHLCV_INTERVALS": "1m"} | all_fakes.settings | (KEYS if keys else {})
        async with running(all_fakes.exchange, state_dir, None, **(values | settings)) as service:
            await streaming(all_fakes.exchange, service, "btcusdt@kline_1m")
            supervisor = service.context.supervisor
            await until(lambda: set(supervisor.readiness().values()) == {"value"})
            every = Sourced(service, all_fakes)
            if not shares:  # a test sends as many requests in a second as many clients do in a minute
                every.without_shares()
            yield every

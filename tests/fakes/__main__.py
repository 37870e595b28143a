"""`python -m tests.fakes`: every upstream on loopback ports, to develop the service against or to show it.

It prints the settings that lead the service there, as lines for a shell. Ctrl-C ends it.
"""

import argparse
import asyncio
import contextlib
import random
import sys
import time
from dataclasses import dataclass

from tests.fakes.alternative_me import FakeAlternativeMe
from tests.fakes.binance import FakeBinance, synthetic_pairs
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
from tests.fakes.upstream import FakeUpstream, Fault

ETHERSCAN_KEYS = ("FAKEETHERSCANKEY", "FAKEBACKUPKEY")
KEYS = {
    "COINGECKO_PRO_API_KEY": "CG-fakepro",
    "COINGECKO_DEMO_API_KEY": "CG-fakedemo",
    "CRYPTOPANIC_API_KEY": "panic-token",
    "NEWS_API_KEY": "news-key",
    "ETHERSCAN_API_KEY": ETHERSCAN_KEYS[0],
    "ETHERSCAN_BACKUP_API_KEY": ETHERSCAN_KEYS[1],
    "HF_TOKEN": "hf_fake",
    "REDDIT_CLIENT_ID": "reddit-id",
    "REDDIT_CLIENT_SECRET": "reddit-secret",
}
"""What the fakes take for keys."""

FAULTS = (
    ("says it is asked too often", Fault(status=429, headers={"Retry-After": "20"})),
    ("is out of order", Fault(status=503)),
    ("hangs", Fault(hang="before_head")),
    ("sends a page instead of data", Fault(html=True)),
    ("breaks off in the middle", Fault(cut_at=40)),
    ("is slow", Fault(delay_s=6.0)),
)
TROUBLE_S = (10.0, 30.0)
"""How long each trouble lasts, and how long until the next, at least and at most."""


@dataclass(frozen=True, slots=True)
class Place:
    """A fake, and the settings that lead to it: `*` stands for its URL."""

    fake: FakeUpstream
    settings: dict[str, str]


def places() -> list[Place]:
    """Every upstream that is asked over HTTP."""
    gecko_keys = (KEYS["COINGECKO_PRO_API_KEY"], KEYS["COINGECKO_DEMO_API_KEY"])
    feeds = ",".join(f"{outlet}=*/{outlet}" for outlet in ("coindesk", "cointelegraph", "decrypt"))
    return [
        Place(FakeCoinGecko(keys=gecko_keys), {"COINGECKO_URL": "*"}),
        Place(FakeCoinGecko(pro=True, keys=gecko_keys, per_minute=500), {"COINGECKO_PRO_URL": "*"}),
        Place(FakeCryptoDtSource(), {"CRYPTO_DT_SOURCE_URL": "*"}),
        Place(FakeCryptoPanic(tokens=(KEYS["CRYPTOPANIC_API_KEY"],)), {"CRYPTOPANIC_URL": "*/api/developer/v2"}),
        Place(FakeNewsApi(keys=(KEYS["NEWS_API_KEY"],)), {"NEWSAPI_URL": "*/v2"}),
        Place(FakeRss(), {"RSS_FEEDS": feeds}),
        Place(FakeReddit(application=(KEYS["REDDIT_CLIENT_ID"], KEYS["REDDIT_CLIENT_SECRET"])), {"REDDIT_URL": "*"}),
        Place(FakeAlternativeMe(), {"ALTERNATIVE_ME_URL": "*"}),
        Place(FakeEtherscan(keys=ETHERSCAN_KEYS), {"ETHERSCAN_URL": "*/v2/api"}),
        Place(FakeEthereumRpc(), {"ETH_RPC_URLS": "*"}),
        Place(FakeEthereumRpc(batches="error"), {"ETH_RPC_URLS": "*"}),
        Place(FakeBlockscout(), {"BLOCKSCOUT_URL": "*"}),
        Place(FakeCryptoApiClean(), {"CRYPTO_API_CLEAN_URL": "*"}),
        Place(FakeHuggingFace(tokens=(KEYS["HF_TOKEN"],)), {"HF_INFERENCE_URL": "*/hf-inference"}),
    ]


def settings_of(listening: list[Place], exchange: FakeBinance) -> dict[str, str]:
    """By name; where several fakes share a setting it is a list."""
    told = {"BINANCE_WS_URLS": exchange.ws_url, "BINANCE_REST_URLS": exchange.rest_url}
    for place in listening:
        for name, pattern in place.settings.items():
            value = pattern.replace("*", place.fake.url)
            told[name] = f"{told[name]},{value}" if name in told else value
    return told | KEYS


async def trouble(listening: list[Place], rng: random.Random) -> None:
    """One fake after the other misbehaves for a while."""
    while True:
        await asyncio.sleep(rng.uniform(*TROUBLE_S))
        place = rng.choice(listening)
        words, fault = rng.choice([*FAULTS, ("is dead", None)])
        print(f"{next(iter(place.settings))} {words}", file=sys.stderr, flush=True)
        if fault is None:
            await place.fake.kill()
        place.fake.always = fault
        await asyncio.sleep(rng.uniform(*TROUBLE_S))
        place.fake.always = None
        await place.fake.revive()
        print(f"{next(iter(place.settings))} is well again", file=sys.stderr, flush=True)


async def serve(port_base: int, symbols: int, seed: int, faults: bool) -> None:
    """Run them until cancelled."""
    listening = places()
    pairs = synthetic_pairs(symbols, seed)
    now_ms = time.time_ns() // 1_000_000
    async with contextlib.AsyncExitStack() as stack:
        exchange = await stack.enter_async_context(
            FakeBinance(pairs, seed=seed, start_ms=now_ms, port=port_base, seconds_kept=1_000)
        )
        for number, place in enumerate(listening, 1):
            place.fake.port = port_base + number if port_base else 0
            await stack.enter_async_context(place.fake)
        for name, value in settings_of(listening, exchange).items():
            print(f"export {name}={value}", flush=True)
        async with asyncio.TaskGroup() as group:
            if faults:
                group.create_task(trouble(listening, random.Random(seed)))
            group.create_task(exchange.run(1.0))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fakes", description="Every upstream on loopback ports.")
    parser.add_argument("--port-base", type=int, default=0, metavar="N", help="the exchange's port; the others follow")
    parser.add_argument("--symbols", type=int, default=40, help="pairs on the exchange")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", action="store_true", help="let one after the other misbehave")
    told = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(told.port_base, told.symbols, told.seed, told.faults))


if __name__ == "__main__":
    main()

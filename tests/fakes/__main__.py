"""`python -m tests.fakes`: run a fake of every upstream on loopback ports, for development and demonstrations.

It prints the settings that point the service at the fakes, as lines for a shell. Ctrl-C ends it.
"""

import argparse
import asyncio
import contextlib
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.fakes.alternative_me import FakeAlternativeMe
from tests.fakes.binance import FakeBinance, synthetic_pairs
from tests.fakes.blockscout import FakeBlockscout
from tests.fakes.coingecko import FakeCoinGecko, ListedCoin
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
"""The keys that the fakes accept."""

ODD_TEXTS = (
    *(ListedCoin(f"odd-{n}", f"odd{n}", f"{n}" + "x" * 350_000, 1e5, 1e8) for n in range(12)),
    *(ListedCoin(f"bell-{n}\x07", f"b\u202e{n}\0", f"Bell\r\n\u2028\x1b[31m{n}", 1e5, 1e8) for n in range(12)),
)
"""Coins at the top of the market with texts that must not reach a client."""

FAULTS = (
    ("is rate limiting", Fault(status=429, headers={"Retry-After": "20"})),
    ("is unavailable", Fault(status=503)),
    ("hangs", Fault(hang="before_head")),
    ("sends an HTML page instead of data", Fault(html=True)),
    ("cuts its answers off", Fault(cut_at=40)),
    ("is slow", Fault(delay_s=6.0)),
)
FAULT_S = (10.0, 30.0)
"""Shortest and longest duration of a fault, and of the pause before the next."""


@dataclass(frozen=True, slots=True)
class ConfiguredFake:
    """A fake and the settings that point at it; `*` stands for its URL."""

    fake: FakeUpstream
    settings: dict[str, str]


def configured_fakes(extra_coins: Sequence[ListedCoin] = ()) -> list[ConfiguredFake]:
    """Return a fake of every upstream with an HTTP API."""
    gecko_keys = (KEYS["COINGECKO_PRO_API_KEY"], KEYS["COINGECKO_DEMO_API_KEY"])
    feeds = ",".join(f"{outlet}=*/{outlet}" for outlet in ("coindesk", "cointelegraph", "decrypt"))
    return [
        ConfiguredFake(FakeCoinGecko(keys=gecko_keys, extra=extra_coins), {"COINGECKO_URL": "*"}),
        ConfiguredFake(
            FakeCoinGecko(pro=True, keys=gecko_keys, per_minute=500, extra=extra_coins), {"COINGECKO_PRO_URL": "*"}
        ),
        ConfiguredFake(FakeCryptoDtSource(), {"CRYPTO_DT_SOURCE_URL": "*"}),
        ConfiguredFake(
            FakeCryptoPanic(tokens=(KEYS["CRYPTOPANIC_API_KEY"],)), {"CRYPTOPANIC_URL": "*/api/developer/v2"}
        ),
        ConfiguredFake(FakeNewsApi(keys=(KEYS["NEWS_API_KEY"],)), {"NEWSAPI_URL": "*/v2"}),
        ConfiguredFake(FakeRss(), {"RSS_FEEDS": feeds}),
        ConfiguredFake(
            FakeReddit(application=(KEYS["REDDIT_CLIENT_ID"], KEYS["REDDIT_CLIENT_SECRET"])), {"REDDIT_URL": "*"}
        ),
        ConfiguredFake(FakeAlternativeMe(), {"ALTERNATIVE_ME_URL": "*"}),
        ConfiguredFake(FakeEtherscan(keys=ETHERSCAN_KEYS), {"ETHERSCAN_URL": "*/v2/api"}),
        ConfiguredFake(FakeEthereumRpc(), {"ETH_RPC_URLS": "*"}),
        ConfiguredFake(FakeEthereumRpc(batches="error"), {"ETH_RPC_URLS": "*"}),
        ConfiguredFake(FakeBlockscout(), {"BLOCKSCOUT_URL": "*"}),
        ConfiguredFake(FakeCryptoApiClean(), {"CRYPTO_API_CLEAN_URL": "*"}),
        ConfiguredFake(FakeHuggingFace(tokens=(KEYS["HF_TOKEN"],)), {"HF_INFERENCE_URL": "*/hf-inference"}),
    ]


def settings_of(upstream_fakes: list[ConfiguredFake], exchange: FakeBinance) -> dict[str, str]:
    """Return the settings by name; fakes that share a setting form a list."""
    settings = {"BINANCE_WS_URLS": exchange.ws_url, "BINANCE_REST_URLS": exchange.rest_url}
    for each in upstream_fakes:
        for name, pattern in each.settings.items():
            value = pattern.replace("*", each.fake.url)
            settings[name] = f"{settings[name]},{value}" if name in settings else value
    return settings | KEYS


async def inject_faults(upstream_fakes: list[ConfiguredFake], rng: random.Random) -> None:
    """Make one fake after another misbehave for a while."""
    while True:
        await asyncio.sleep(rng.uniform(*FAULT_S))
        each = rng.choice(upstream_fakes)
        words, fault = rng.choice([*FAULTS, ("is dead", None)])
        print(f"{next(iter(each.settings))} {words}", file=sys.stderr, flush=True)
        if fault is None:
            await each.fake.kill()
        each.fake.always = fault
        await asyncio.sleep(rng.uniform(*FAULT_S))
        each.fake.always = None
        await each.fake.revive()
        print(f"{next(iter(each.settings))} works again", file=sys.stderr, flush=True)


async def serve(port_base: int, symbols: int, seed: int, faults: bool, extra_coins: Sequence[ListedCoin]) -> None:
    """Run all fakes until cancelled."""
    upstream_fakes = configured_fakes(extra_coins)
    pairs = synthetic_pairs(symbols, seed)
    now_ms = time.time_ns() // 1_000_000
    async with contextlib.AsyncExitStack() as stack:
        exchange = await stack.enter_async_context(
            FakeBinance(pairs, seed=seed, start_ms=now_ms, port=port_base, seconds_kept=1_000)
        )
        for number, each in enumerate(upstream_fakes, 1):
            each.fake.port = port_base + number if port_base else 0
            await stack.enter_async_context(each.fake)
        for name, value in settings_of(upstream_fakes, exchange).items():
            print(f"export {name}={value}", flush=True)
        async with asyncio.TaskGroup() as group:
            if faults:
                group.create_task(inject_faults(upstream_fakes, random.Random(seed)))
            group.create_task(exchange.run(1.0))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fakes", description="Run a fake of every upstream on loopback ports."
    )
    parser.add_argument("--port-base", type=int, default=0, metavar="N", help="the exchange's port; the others follow")
    parser.add_argument("--symbols", type=int, default=40, help="pairs on the exchange")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--odd-texts", action="store_true", help="list coins with very long and unprintable names")
    parser.add_argument("--faults", action="store_true", help="make one fake after another misbehave")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(
            serve(
                options.port_base, options.symbols, options.seed, options.faults, ODD_TEXTS if options.odd_texts else ()
            )
        )


if __name__ == "__main__":
    main()

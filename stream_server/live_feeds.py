"""The feeds on the network: the exchange, the other sources, and the HTTP session that they share."""

import contextlib
import random
from pathlib import Path

import aiohttp

from feeds.catalog import Sources
from feeds.exchange.account import exchange_account
from feeds.exchange.feed import ExchangeFeed, FeedPolicy
from feeds.exchange.market import ExchangeMarket
from feeds.exchange.recorder import Recorder
from orchestrator.bans import BanFile
from orchestrator.clock import Clock
from orchestrator.hosts import Hosts
from orchestrator.http import AiohttpTransport
from stream_server import __version__
from stream_server.delivery.hub import Hub
from stream_server.policies import sources_policy
from stream_server.rest.status_topic import StatusTopic
from stream_server.settings import Settings


async def live_feeds(
    stack: contextlib.AsyncExitStack,
    settings: Settings,
    record: Path | None,
    hub: Hub,
    market: ExchangeMarket,
    clock: Clock,
    rng: random.Random,
    status: StatusTopic,
) -> tuple[ExchangeFeed, Sources]:
    """Return the feed of the exchange and the other sources. HTTP session and recording end with the stack."""
    recorder = None
    if record is not None:
        recorder = Recorder(record, settings.binance_ws_urls[0], clock.wall_ms())
        stack.callback(recorder.close)
    session = await stack.enter_async_context(
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit_per_host=8),
            timeout=aiohttp.ClientTimeout(total=None),
            headers={"User-Agent": f"stream-server/{__version__} (real-time crypto data; one client for many readers)"},
            # websockets takes proxies from the environment too, so both connect in the same way.
            trust_env=True,
            # Sources set cookies to recognise clients; no source needs them.
            cookie_jar=aiohttp.DummyCookieJar(),
        )
    )
    transport = AiohttpTransport(session, clock)
    bans = BanFile(settings.state_dir / "bans.json", clock)
    rest = exchange_account(
        market.venue,
        Hosts(list(settings.binance_rest_urls), clock),
        transport,
        clock,
        rng,
        bans=bans,
        on_change=status.touch,
    )
    feed = ExchangeFeed(
        market,
        Hosts(list(settings.binance_ws_urls), clock),
        rest,
        clock,
        rng,
        FeedPolicy(settings.ohlcv_symbols, settings.ohlcv_intervals, poll_s=settings.market_poll_s),
        settings.state_dir / "binance_pairs.json",
        recorder,
        status.touch,
    )
    sources = Sources(
        sources_policy(settings),
        market,
        rest,
        transport,
        clock,
        rng,
        state_dir=settings.state_dir,
        bans=bans,
        listened=hub.is_listened,
        prices_fail=feed.prices_fail,
        on_change=status.touch,
    )
    return feed, sources

"""Wires everything; the one module that knows them all."""

import asyncio
import contextlib
import gc
import logging
import random
import secrets
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web

from feeds import topics
from feeds.catalog import Sources
from feeds.exchange.account import exchange_account
from feeds.exchange.feed import ExchangeFeed, FeedPolicy
from feeds.exchange.market import ExchangeMarket
from feeds.exchange.playback import TapeClock, TapeFeed
from feeds.exchange.recorder import Recorder
from feeds.exchange.tape import Tape
from feeds.model import Event
from feeds.paces import Paces
from feeds.supervisor import Feed, Supervisor
from feeds.symbols import QUOTES, Symbols
from feeds.upstreams import SourcesPolicy
from feeds.venues.binance.description import binance_at
from orchestrator.bans import BanFile
from orchestrator.clock import Clock, SystemClock
from orchestrator.hosts import Hosts
from orchestrator.http import AiohttpTransport
from orchestrator.keep_alive import KeepAlive, RestartPolicy
from stream_server import __version__, specs
from stream_server.access.addresses import CONNECTIONS_PER_IP, REST_RATE_PER_S, Connections, RequestRates
from stream_server.access.jwks import KeyFile
from stream_server.access.tokens import Access
from stream_server.connections import descriptors
from stream_server.connections.envelope import envelope_errors, finish
from stream_server.connections.listener import listen, open_ports, url_of
from stream_server.connections.sse import keep_event_sources
from stream_server.context import CONTEXT, Context
from stream_server.delivery.clients import Clients
from stream_server.delivery.demand import Demands
from stream_server.delivery.hub import Hub, HubPolicy
from stream_server.observing import memory_limit
from stream_server.observing.loop_monitor import LoopMonitor
from stream_server.observing.probe import Probe
from stream_server.rest.guard import guard, only_wanted_bodies
from stream_server.rest.status import status_report
from stream_server.rest.table import add_routes
from stream_server.settings import API_KEYS, Settings

log = logging.getLogger(__name__)

RESTARTS = RestartPolicy(first_s=0.25, longest_s=30.0)
"""Of background loops: heartbeats and freshness of all clients wait for them."""
STATUS_EVERY_S = 10.0
STATUS_SETTLE_S = 0.25


@dataclass(frozen=True, slots=True)
class Run:
    """How this run gets its input: live, live and recorded, or from a tape."""

    tape: Tape | None = None
    speed: float = 1.0
    record: Path | None = None


class LoopScheduler:
    """The hub's scheduler on the running event loop."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()

    def soon(self, call: Callable[[], None]) -> None:
        self.loop.call_soon(call)

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        self.loop.call_later(delay_s, call)


class StatusTopic:
    """Publishes `status` when a feed's state changes, and every few seconds while it lives.

    A tape gets it at its beginning and end only: the same tape shall give the same events.
    """

    def __init__(self, clock: Clock, refresh: bool) -> None:
        self.clock = clock
        self.refresh = refresh
        self.changed = asyncio.Event()

    def touch(self) -> None:
        """Something may have changed."""
        self.changed.set()

    async def run(self, context: Context) -> None:
        """Publish for ever."""
        shown: object = None
        published = float("-inf")
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STATUS_EVERY_S):
                    await self.changed.wait()
            self.changed.clear()
            states = _states(context)
            due = self.refresh and self.clock.now() - published >= STATUS_EVERY_S
            if states == shown and not due:
                continue
            shown, published = states, self.clock.now()
            now_ms = self.clock.wall_ms()
            context.hub.publish(Event(topics.STATUS, now_ms, now_ms, "stream_server", status_report(context)))
            await asyncio.sleep(STATUS_SETTLE_S)


def _states(context: Context) -> list[object]:
    """What makes a new status worth telling."""
    feeds: list[object] = [(feed.get("state"), feed.get("last_error")) for feed in context.supervisor.report()]
    providers = context.sources.upstreams.values() if context.sources is not None else ()
    return feeds + [(provider.name, provider.state) for provider in providers]


def calm_the_collector() -> None:
    """Keep the garbage collector off the message path.

    Events and frames form no cycles, so counting frees them, and what is loaded by now stays: neither need be looked
    at again. A much higher threshold would let the remains of handshakes pile up between the connections that stay.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(2_000, 20, 100)


def new_epoch(now_ms: int) -> str:
    """A name for this run's counter: its start in base 36, and chance, should two starts share a millisecond."""
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    text = ""
    while now_ms:
        now_ms, digit = divmod(now_ms, 36)
        text = digits[digit] + text
    return text + "".join(secrets.choice(digits) for _ in range(2))


def ttl_of(settings: Settings) -> Callable[[str], float | None]:
    """How long a value of each topic is good: until three polls of a quiet time have brought no other.

    Every value ages but `status`, which this process itself keeps true, and `news`, whose events don't replace
    each other.
    """
    paces = Paces(settings.market_poll_s, settings.news_poll_s, settings.sentiment_poll_s, settings.gas_poll_s)

    def ttl_s(topic: str) -> float | None:
        if topics.category_of(topic) in (topics.STATUS, topics.NEWS):
            return None
        return max(settings.snapshot_ttl_s, paces.good_for_s(topic))

    return ttl_s


@contextlib.asynccontextmanager
async def service(
    settings: Settings, run: Run, clock: Clock | None = None
) -> AsyncIterator[tuple[web.Application, Context]]:
    """Everything but the listening socket. Raises OSError if a recording cannot be written."""
    clock = clock or SystemClock()
    tape_clock = TapeClock(clock) if run.tape is not None else None
    clock = tape_clock or clock
    rng = random.Random()
    demand = Demands(settings.max_demand_topics, settings.max_demand_topics_per_ip)
    policy = HubPolicy(
        ttl_of(settings),
        settings.ring_events,
        settings.outbox_bytes,
        settings.stall_s,
        settings.idle_topic_s,
        memory_limit.outboxes_within(settings.outbox_total_bytes, memory_limit.limit_bytes()),
    )
    limit = descriptors.limit_for(settings.max_connections)
    most = descriptors.connections_within(limit, settings.max_connections)
    hub = Hub(new_epoch(time.time_ns() // 1_000_000), clock, LoopScheduler(), demand, policy)
    status = StatusTopic(clock, refresh=run.tape is None)
    async with contextlib.AsyncExitStack() as stack:
        sources: Sources | None = None
        feeds: list[Feed]
        if run.tape is not None and tape_clock is not None:
            quotes = QUOTES if run.tape.foreign else ("USDT",)
            market = ExchangeMarket(hub, Symbols(settings.symbols, quotes), binance_at(run.tape.url))
            feeds = [TapeFeed(run.tape, market, tape_clock, run.speed, status.touch)]
        else:
            market = ExchangeMarket(hub, Symbols(settings.symbols), binance_at(settings.binance_ws_urls[0]))
            feed, sources = await _live_feeds(stack, settings, run, hub, market, clock, rng, status)
            feeds = [feed, *sources.feeds]
            demand.starts = feed.starts
        per_address = settings.max_connections_per_ip
        if per_address is None:
            per_address = CONNECTIONS_PER_IP
        rate_per_s = settings.rest_rate_per_s
        if rate_per_s is None:
            rate_per_s = REST_RATE_PER_S
        supervisor = demand.feeds = Supervisor(feeds, clock, rng)
        context = Context(
            settings,
            clock,
            rng,
            hub,
            Clients(hub, clock, rng, most, settings.heartbeat_s, per_address),
            market.symbols,
            market,
            sources,
            supervisor,
            started_ms=clock.wall_ms(),
            mode="live" if run.tape is None else "tape",
            access=_access(settings),
            rates=RequestRates(rate_per_s, clock),
            connections=Connections(
                per_address, settings.trusted_proxies or (), spares_near=settings.max_connections_per_ip is None
            ),
            loop_monitor=LoopMonitor(clock),
            background=KeepAlive(RESTARTS, clock, rng, _log_crash),
            probe=Probe(hub, clock, settings.probe_s),
            demand=demand,
            descriptors=limit,
        )
        yield _application(context, status), context


async def _live_feeds(
    stack: contextlib.AsyncExitStack,
    settings: Settings,
    run: Run,
    hub: Hub,
    market: ExchangeMarket,
    clock: Clock,
    rng: random.Random,
    status: StatusTopic,
) -> tuple[ExchangeFeed, Sources]:
    """The feeds on the network; the HTTP session and the recording end with the stack."""
    recorder = None
    if run.record is not None:
        recorder = Recorder(run.record, settings.binance_ws_urls[0], clock.wall_ms())
        stack.callback(recorder.close)
    session = await stack.enter_async_context(
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit_per_host=8),
            timeout=aiohttp.ClientTimeout(total=None),
            headers={"User-Agent": f"stream-server/{__version__} (real-time crypto data; one client for many readers)"},
            # websockets takes proxies from the environment too: both go the same way.
            trust_env=True,
            # Sources set cookies to tell us from others; none of them needs to.
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
        _sources_policy(settings),
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


def _sources_policy(settings: Settings) -> SourcesPolicy:
    """What the settings say of sources, by provider."""
    return SourcesPolicy(
        urls={
            "coingecko": settings.coingecko_url,
            "coingecko_pro": settings.coingecko_pro_url,
            "cryptopanic": settings.cryptopanic_url,
            "newsapi": settings.newsapi_url,
            "alternative_me": settings.alternative_me_url,
            "etherscan": settings.etherscan_url,
            "ethereum_rpc": settings.eth_rpc_urls,
            "blockscout": settings.blockscout_url,
            "reddit": settings.reddit_url,
            "crypto_api_clean": settings.crypto_api_clean_url,
            "crypto_dt_source": settings.crypto_dt_source_url,
            "huggingface": settings.hf_inference_url,
        },
        rss_feeds=settings.rss_feeds,
        keys={name.upper(): getattr(settings, name) for name in API_KEYS},
        market_poll_s=settings.market_poll_s,
        news_poll_s=settings.news_poll_s,
        sentiment_poll_s=settings.sentiment_poll_s,
        gas_poll_s=settings.gas_poll_s,
        cache_ttl_s=settings.cache_ttl_s,
        stale_if_error_s=settings.stale_if_error_s,
    )


def _access(settings: Settings) -> Access:
    return Access(
        settings.auth_tokens or {},
        settings.auth_jwt_secret,
        SystemClock(),  # the real time, also where the market's is that of a tape
        KeyFile(settings.auth_jwks_file) if settings.auth_jwks_file is not None else None,
        settings.auth_jwt_audience,
        settings.auth_jwt_issuer,
        settings.auth_jwt_endless,
    )


def _application(context: Context, status: StatusTopic) -> web.Application:
    """Every endpoint, and the background of the service from start to clean-up."""
    app = web.Application(middlewares=[keep_event_sources, envelope_errors, only_wanted_bodies, guard])
    app[CONTEXT] = context
    app.on_response_prepare.append(finish)
    add_routes(app)
    specs.publish(app)

    async def background(_: web.Application) -> AsyncIterator[None]:
        tasks = asyncio.create_task(_run_all(context, status), name="service")
        try:
            yield
        finally:
            tasks.cancel()
            await asyncio.gather(tasks, return_exceptions=True)
            if context.sources is not None:
                await context.sources.close()

    app.cleanup_ctx.append(background)
    return app


async def _run_all(context: Context, status: StatusTopic) -> None:
    loops: dict[str, Callable[[], Awaitable[None]]] = {
        "supervisor": context.supervisor.run,
        "heartbeat": context.clients.heartbeat,
        "housekeeping": lambda: _housekeeping(context),
        "status": lambda: status.run(context),
        "loop_monitor": context.loop_monitor.run,
    }
    if context.probe.every_s:
        loops["probe"] = context.probe.run
    await context.background.run(loops)


def _log_crash(name: str, fault: BaseException) -> None:
    log.error("background_crashed", extra={"task": name}, exc_info=fault)


async def _housekeeping(context: Context) -> None:
    turn = 0
    while True:
        await context.clock.sleep(0.25)
        turn += 1
        context.hub.tick()
        if turn % 4 == 0:
            context.hub.members.find_stuck()


def runner_of(app: web.Application) -> web.AppRunner:
    """Runs the application; `listen` makes its connections."""
    # Twice as much at most: a request may end by itself, and is then cancelled.
    within_s = min(1.0, app[CONTEXT].settings.shutdown_s / 8)
    return web.AppRunner(app, handler_cancellation=True, shutdown_timeout=within_s)


async def serve(settings: Settings, run: Run) -> None:
    """Run until SIGTERM or SIGINT. Raises OSError if the port is taken or a recording cannot be written."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop_or_leave, stop)
    # Before anything else: while another process has the port, nothing is asked of any source.
    ports = open_ports(settings.host, settings.port)
    async with service(settings, run) as (app, context):
        runner = runner_of(app)
        await runner.setup()
        try:
            listener = await listen(runner, context, ports)
            calm_the_collector()
            url = url_of(settings.host, listener.sockname)
            log.info("serving", extra={"url": url, "mode": context.mode})
            await stop.wait()
            log.info("stopping", extra={"clients": len(context.clients.connected)})
            context.draining = True
            # Still listening: probes shall see that we are not ready, and who comes now is told so.
            await context.clients.dismiss(within_s=max(0.4 * settings.shutdown_s, settings.shutdown_s - 3.0))
            listener.close()
        finally:
            await runner.cleanup()
    log.info("stopped")


def _stop_or_leave(stop: asyncio.Event) -> None:
    """The first signal ends the service in order; a second one means now."""
    if stop.is_set():
        raise SystemExit(0)
    stop.set()

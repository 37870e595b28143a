"""Wires everything; the one module that knows them all."""

import asyncio
import contextlib
import gc
import logging
import random
import secrets
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web

from feeds import topics
from feeds.binance import BinanceFeed, BinancePolicy
from feeds.market import BinanceMarket
from feeds.model import Event
from feeds.supervisor import Feed, Supervisor
from feeds.symbols import QUOTES, Symbols
from feeds.tape import Recorder, Tape, TapeClock, TapeFeed, venue_of
from orchestrator.clock import Clock, SystemClock
from orchestrator.hosts import Hosts
from orchestrator.http import AiohttpTransport
from stream_server import __version__, page, rest
from stream_server.clients import Clients
from stream_server.context import CONTEXT, Context
from stream_server.hub import Hub, HubPolicy
from stream_server.light import Front
from stream_server.rest import status_report
from stream_server.settings import Settings
from stream_server.sse import sse
from stream_server.websocket import websocket

log = logging.getLogger(__name__)

BACKLOG = 4096
"""The default of 128 would turn a storm of reconnects into refusals."""

STATUS_EVERY_S = 10.0
STATUS_SETTLE_S = 0.25
KEEPALIVE_S = 75.0


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


class LateDemand:
    """The hub and the feed need each other; this is the hub's end until the feed exists."""

    feed: Feed | None = None

    def want(self, topic: str) -> None:
        if self.feed is not None:
            self.feed.want(topic)

    def drop(self, topic: str) -> bool:
        return self.feed.drop(topic) if self.feed is not None else False


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
            states = [(feed.get("state"), feed.get("last_error")) for feed in context.supervisor.report()]
            due = self.refresh and self.clock.now() - published >= STATUS_EVERY_S
            if states == shown and not due:
                continue
            shown, published = states, self.clock.now()
            now_ms = self.clock.wall_ms()
            context.hub.publish(Event(topics.STATUS, now_ms, now_ms, "stream_server", status_report(context)))
            await asyncio.sleep(STATUS_SETTLE_S)


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


def ttl_of(ttl_s: float) -> Callable[[str], float | None]:
    """Every value ages but `status`, which this process itself keeps true."""
    return lambda topic: None if topic == topics.STATUS else ttl_s


@contextlib.asynccontextmanager
async def service(settings: Settings, run: Run) -> AsyncIterator[tuple[web.Application, Context]]:
    """Everything but the listening socket. Raises OSError if a recording cannot be written."""
    tape_clock = TapeClock(SystemClock()) if run.tape is not None else None
    clock: Clock = tape_clock or SystemClock()
    rng = random.Random()
    demand = LateDemand()
    policy = HubPolicy(
        ttl_of(settings.snapshot_ttl_s),
        settings.ring_events,
        settings.outbox_bytes,
        settings.stall_s,
        settings.idle_topic_s,
    )
    hub = Hub(new_epoch(time.time_ns() // 1_000_000), clock, LoopScheduler(), demand, policy)
    status = StatusTopic(clock, refresh=run.tape is None)
    async with contextlib.AsyncExitStack() as stack:
        feed: Feed
        if run.tape is not None and tape_clock is not None:
            quotes = QUOTES if run.tape.foreign else ("USDT",)
            market = BinanceMarket(hub, Symbols(settings.symbols, quotes), venue_of(run.tape.url))
            feed = TapeFeed(run.tape, market, tape_clock, run.speed, status.touch)
        else:
            market = BinanceMarket(hub, Symbols(settings.symbols), venue_of(settings.binance_ws_urls[0]))
            feed = await _live_feed(stack, settings, run, market, clock, rng, status)
        demand.feed = feed
        context = Context(
            settings,
            clock,
            rng,
            hub,
            Clients(hub, clock, rng, settings.max_connections, settings.heartbeat_s),
            market.symbols,
            market,
            feed,
            Supervisor([feed], clock, rng),
            started_ms=clock.wall_ms(),
            mode="live" if run.tape is None else "tape",
        )
        yield _application(context, status), context


async def _live_feed(
    stack: contextlib.AsyncExitStack,
    settings: Settings,
    run: Run,
    market: BinanceMarket,
    clock: Clock,
    rng: random.Random,
    status: StatusTopic,
) -> BinanceFeed:
    """The feed on the network; its HTTP session and recording end with the stack."""
    recorder = None
    if run.record is not None:
        recorder = Recorder(run.record, settings.binance_ws_urls[0], clock.wall_ms())
        stack.callback(recorder.close)
    session = await stack.enter_async_context(
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit_per_host=8),
            timeout=aiohttp.ClientTimeout(total=None),
            headers={"User-Agent": f"stream-server/{__version__}"},
            # websockets takes proxies from the environment too: both go the same way.
            trust_env=True,
        )
    )
    return BinanceFeed(
        market,
        Hosts(list(settings.binance_ws_urls), clock),
        Hosts(list(settings.binance_rest_urls), clock),
        AiohttpTransport(session, clock),
        clock,
        rng,
        BinancePolicy(settings.ohlcv_symbols, settings.ohlcv_intervals, poll_s=settings.market_poll_s),
        settings.state_dir / "binance_pairs.json",
        recorder,
        status.touch,
    )


def _application(context: Context, status: StatusTopic) -> web.Application:
    """Every endpoint, and the background of the service from start to clean-up."""
    app = web.Application(middlewares=[rest.envelope_errors], client_max_size=64 * 1024)
    app[CONTEXT] = context
    app.router.add_get("/ws", websocket)
    app.router.add_get("/sse", sse)
    rest.add_routes(app, context)
    page.add_routes(app)

    async def background(_: web.Application) -> AsyncIterator[None]:
        tasks = asyncio.create_task(_run_all(context, status), name="service")
        try:
            yield
        finally:
            tasks.cancel()
            await asyncio.gather(tasks, return_exceptions=True)

    app.cleanup_ctx.append(background)
    return app


async def _run_all(context: Context, status: StatusTopic) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(context.supervisor.run(), name="supervisor")
        group.create_task(context.clients.heartbeat(), name="heartbeat")
        group.create_task(_housekeeping(context), name="housekeeping")
        group.create_task(status.run(context), name="status")


async def _housekeeping(context: Context) -> None:
    turn = 0
    while True:
        await context.clock.sleep(0.25)
        turn += 1
        try:
            context.hub.tick()
            if turn % 4 == 0:
                context.hub.find_stuck()
        except Exception:  # a fault of ours must not end freshness for everyone
            log.exception("housekeeping_crashed")


async def listen(runner: web.AppRunner, context: Context) -> asyncio.Server:
    """Open the port. Raises OSError if it is taken."""
    settings = context.settings
    stock = runner.server
    assert stock is not None  # noqa: S101 - the runner has been set up
    factory: Callable[[], asyncio.Protocol] = (lambda: Front(context, stock)) if settings.light_connections else stock
    loop = asyncio.get_running_loop()
    return await loop.create_server(factory, settings.host, settings.port, backlog=BACKLOG)


async def serve(settings: Settings, run: Run) -> None:
    """Run until SIGTERM or SIGINT. Raises OSError if the port is taken or a recording cannot be written."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop_or_leave, stop)
    async with service(settings, run) as (app, context):
        runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,
            keepalive_timeout=KEEPALIVE_S,
            shutdown_timeout=1.0,
        )
        await runner.setup()
        try:
            server = await listen(runner, context)
            port = server.sockets[0].getsockname()[1]
            calm_the_collector()
            log.info("serving", extra={"url": f"http://{settings.host}:{port}", "mode": context.mode})
            await stop.wait()
            log.info("stopping", extra={"clients": len(context.clients.connected)})
            context.draining = True
            server.close()
            await context.clients.dismiss(within_s=max(0.5, settings.shutdown_s - 3.0))
        finally:
            await runner.cleanup()
    log.info("stopped")


def _stop_or_leave(stop: asyncio.Event) -> None:
    """The first signal ends the service in order; a second one means now."""
    if stop.is_set():
        raise SystemExit(0)
    stop.set()

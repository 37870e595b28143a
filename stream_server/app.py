"""Builds all parts of the service and connects them; the one module that knows them all."""

import asyncio
import contextlib
import random
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from feeds.catalog import Sources
from feeds.exchange.market import ExchangeMarket
from feeds.exchange.playback import TapeClock, TapeFeed
from feeds.exchange.tape import Tape
from feeds.supervisor import Feed, Supervisor
from feeds.symbols import QUOTES, Symbols
from feeds.venues.binance.description import binance_at
from orchestrator.clock import Clock, SystemClock
from orchestrator.keep_alive import KeepAlive
from stream_server import background, policies, specs
from stream_server.access.addresses import Connections, RequestRates
from stream_server.connections import descriptors
from stream_server.connections.envelope import envelope_errors, finish
from stream_server.connections.sse import keep_event_sources
from stream_server.context import CONTEXT, Context
from stream_server.delivery.clients import Clients
from stream_server.delivery.demand import Demands
from stream_server.delivery.hub import Hub
from stream_server.live_feeds import live_feeds
from stream_server.observing.loop_monitor import LoopMonitor
from stream_server.observing.probe import Probe
from stream_server.rest.guard import guard, only_wanted_bodies
from stream_server.rest.status_topic import StatusTopic
from stream_server.rest.table import add_routes
from stream_server.settings import Settings


@dataclass(frozen=True, slots=True)
class Run:
    """How this run gets its input: live, live and recorded, or from a tape."""

    tape: Tape | None = None
    speed: float = 1.0
    record: Path | None = None


class LoopScheduler:
    """Schedules the calls of the hub on the running event loop."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()

    def soon(self, call: Callable[[], None]) -> None:
        self.loop.call_soon(call)

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        self.loop.call_later(delay_s, call)


def new_epoch(now_ms: int) -> str:
    """Return a name for the counter of this run: its start in base 36, and chance in case two starts are at once."""
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    text = ""
    while now_ms:
        now_ms, digit = divmod(now_ms, 36)
        text = digits[digit] + text
    return text + "".join(secrets.choice(digits) for _ in range(2))


@contextlib.asynccontextmanager
async def service(
    settings: Settings, run: Run, clock: Clock | None = None
) -> AsyncIterator[tuple[web.Application, Context]]:
    """Build everything except the listening socket. Raises: OSError if a recording cannot be written."""
    clock = clock or SystemClock()
    tape_clock = TapeClock(clock) if run.tape is not None else None
    clock = tape_clock or clock
    rng = random.Random()
    demand = Demands(settings.max_demand_topics, settings.max_demand_topics_per_ip)
    limit = descriptors.limit_for(settings.max_connections)
    most = descriptors.connections_within(limit, settings.max_connections)
    hub = Hub(new_epoch(SystemClock().wall_ms()), clock, LoopScheduler(), demand, policies.hub_policy(settings))
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
            feed, sources = await live_feeds(stack, settings, run.record, hub, market, clock, rng, status)
            feeds = [feed, *sources.feeds]
            demand.starts = feed.starts
        # Tokens expire by the real time, also while the market has the time of a tape.
        access = policies.access_of(settings, SystemClock())
        per_address = policies.connections_per_address(settings)
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
            access=access,
            rates=RequestRates(policies.requests_per_address(settings), clock),
            connections=Connections(
                per_address, settings.trusted_proxies or (), spares_near=settings.max_connections_per_ip is None
            ),
            loop_monitor=LoopMonitor(clock),
            background=KeepAlive(background.RESTARTS, clock, rng, background.log_crash),
            probe=Probe(hub, clock, settings.probe_s),
            demand=demand,
            descriptors=limit,
        )
        yield _application(context, status), context


def _application(context: Context, status: StatusTopic) -> web.Application:
    """Return the application with every endpoint; the loops run from its start to its clean-up."""
    app = web.Application(middlewares=[keep_event_sources, envelope_errors, only_wanted_bodies, guard])
    app[CONTEXT] = context
    app.on_response_prepare.append(finish)
    add_routes(app)
    specs.publish(app)
    background.run_with(app, status)
    return app

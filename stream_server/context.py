"""The parts of the running service that request handlers use, under one typed key of the application."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from feeds.catalog import Sources
from feeds.exchange.market import ExchangeMarket
from feeds.supervisor import Supervisor
from feeds.symbols import Symbols
from orchestrator.clock import Clock
from orchestrator.keep_alive import KeepAlive
from stream_server.access.addresses import Connections, RequestRates, is_loopback
from stream_server.access.browsers import safe_headers
from stream_server.access.door import Door, DoorPolicy
from stream_server.access.tokens import Access, Claims
from stream_server.connections.bodies import Bodies
from stream_server.connections.inflow import STEPS_A_TURN
from stream_server.connections.newcomers import Newcomers
from stream_server.connections.turnstile import Turnstile
from stream_server.delivery.clients import Client, Clients
from stream_server.delivery.demand import Demands
from stream_server.delivery.hub import Hub
from stream_server.delivery.meters import Requests
from stream_server.delivery.outbox import Outbox
from stream_server.delivery.session import Session
from stream_server.observing.loop_monitor import LoopMonitor
from stream_server.observing.probe import PROBE, Probe
from stream_server.settings import Settings


@dataclass(slots=True)
class Context:
    """The running service, as connections and request handlers see it."""

    settings: Settings
    clock: Clock
    rng: random.Random
    hub: Hub
    clients: Clients
    symbols: Symbols
    exchange: ExchangeMarket
    sources: Sources | None
    """The sources that can be asked; None on a tape."""
    supervisor: Supervisor
    started_ms: int
    mode: str
    access: Access
    rates: RequestRates
    connections: Connections
    loop_monitor: LoopMonitor
    background: KeepAlive
    probe: Probe
    demand: Demands
    descriptors: int | None = None
    """The most descriptors that the process may have open; None if unknown."""
    draining: bool = False
    requests: Requests = field(default_factory=Requests)
    refusals: Counter[str] = field(default_factory=Counter)
    """The number of refusals over all transports, by code."""
    bodies: Bodies = field(default_factory=Bodies)
    newcomers: Newcomers = field(default_factory=Newcomers)
    messages: Turnstile = field(default_factory=lambda: Turnstile(STEPS_A_TURN))
    """The queue in which messages of WebSocket clients wait to be read."""
    safe_headers: dict[str, str] = field(init=False)
    """The headers by which every answer restricts browsers."""

    door: Door = field(init=False)
    """Decides which client is admitted."""

    def __post_init__(self) -> None:
        self.safe_headers = safe_headers(self.settings.frame_ancestors)
        policy = DoorPolicy(
            self.settings.allowed_origins,
            self.settings.trusted_proxies or (),
            self.settings.metrics_open,
            spares_near_streams=self.settings.max_connections_per_ip is None,
            spares_near_requests=self.settings.rest_rate_per_s is None,
        )
        self.door = Door(policy, self.access, self.rates, self.clients, lambda: self.draining, self.probe.claims_of)

    def trouble(self) -> str | None:
        """Return why this process should get no new clients now; None if it should."""
        parts = (self.background, self.loop_monitor, self.supervisor, self.probe)
        return next((trouble for part in parts if (trouble := part.trouble()) is not None), None)

    def new_client(self, outbox: Outbox, address: str, claims: Claims) -> Client:
        """Return a new client, which is dismissed when its token expires."""
        if claims is PROBE:
            self.probe.enter(outbox)
            return Client(outbox)
        # Behind an unnamed proxy on this machine all clients would share one account.
        outbox.charge_to("" if is_loopback(address) else address)
        return self.clients.join(outbox, address, self.access.left_s(claims))

    def new_session(self, outbox: Outbox, claims: Claims, *, inflates: bool) -> Session:
        """Return the session of a new WebSocket client."""
        may_read: Callable[[str], bool] | None = None if claims.everything else claims.allow
        heartbeat_s = self.settings.heartbeat_s
        return Session(self.hub, outbox, self.symbols, self.clock, heartbeat_s, inflates, may_read, self.refusals)


CONTEXT: web.AppKey[Context] = web.AppKey("context", Context)
CLAIMS = web.RequestKey("claims", Claims)
"""The rights of the client that sent a request."""

"""What every request handler may use, under one typed key of the application."""

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
from stream_server.access import origins
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
    """The running service, as its shells see it."""

    settings: Settings
    clock: Clock
    rng: random.Random
    hub: Hub
    clients: Clients
    symbols: Symbols
    exchange: ExchangeMarket
    sources: Sources | None
    """Who can be asked; nobody on a tape."""
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
    """How many the process may have open; None if unknown."""
    draining: bool = False
    requests: Requests = field(default_factory=Requests)
    refusals: Counter[str] = field(default_factory=Counter)
    """What was refused, to whomever and over whatever, by its code."""
    bodies: Bodies = field(default_factory=Bodies)
    newcomers: Newcomers = field(default_factory=Newcomers)
    messages: Turnstile = field(default_factory=lambda: Turnstile(STEPS_A_TURN))
    """Where what WebSocket clients send waits to be read."""
    safe_headers: dict[str, str] = field(init=False)
    """What every answer tells a browser."""

    door: Door = field(init=False)
    """Decides who is let in."""

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
        """Count a client in; it is sent away when its token's time is over."""
        if claims is PROBE:
            self.probe.enter(outbox)
            return Client(outbox)
        # Behind a proxy on this machine that nobody has named, every client would have one account.
        outbox.charge_to("" if is_loopback(address) else address)
        return self.clients.join(outbox, address, self.access.left_s(claims))

    def new_session(self, outbox: Outbox, claims: Claims, *, inflates: bool) -> Session:
        """The protocol of a new WebSocket client."""
        may_read: Callable[[str], bool] | None = None if claims.everything else claims.allow
        heartbeat_s = self.settings.heartbeat_s
        return Session(self.hub, outbox, self.symbols, self.clock, heartbeat_s, inflates, may_read, self.refusals)

    def allow_origin(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Let pages of the allowed origins read this answer (CORS), those that are named in the settings with cookies.

        `*` stands for pages that send none: behind a proxy that knows its users by cookies, any page could otherwise
        read what they may.
        """
        allowed = self.settings.allowed_origins
        if any(each != "*" for each in allowed) or not allowed:
            vary(response, "Origin")
        origin = request.headers.get("Origin")
        if origin is not None and origins.is_allowed(origin, allowed):
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Allow-Credentials"] = "true"
        elif "*" in allowed:
            response.headers["Access-Control-Allow-Origin"] = "*"
        response.headers["Access-Control-Expose-Headers"] = EXPOSED


def vary(response: web.StreamResponse, header: str) -> None:
    """Tell caches that this answer depends on a header of the request."""
    others = response.headers.get("Vary")
    response.headers["Vary"] = header if others is None else f"{others}, {header}"


EXPOSED = (
    "ETag, Age, Retry-After, RateLimit, RateLimit-Policy, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, "
    "WWW-Authenticate, X-Request-Id"
)
CONTEXT: web.AppKey[Context] = web.AppKey("context", Context)
CLAIMS = web.RequestKey("claims", Claims)
"""What whoever sent a request may read."""

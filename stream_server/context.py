"""What every request handler may use, under one typed key of the application."""

import random
from dataclasses import dataclass

from aiohttp import web

from feeds.market import BinanceMarket
from feeds.supervisor import Feed, Supervisor
from feeds.symbols import Symbols
from orchestrator.clock import Clock
from stream_server.clients import Clients
from stream_server.hub import Hub
from stream_server.outbox import Outbox
from stream_server.session import Session
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
    market: BinanceMarket
    feed: Feed
    supervisor: Supervisor
    started_ms: int
    mode: str
    draining: bool = False

    def new_session(self, outbox: Outbox, *, inflates: bool) -> Session:
        """The protocol of a new WebSocket client."""
        return Session(self.hub, outbox, self.symbols, self.clock, self.settings.heartbeat_s, inflates)

    def allow_origin(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Let pages of the allowed origins read this answer (CORS)."""
        allowed = self.settings.allowed_origins
        if "*" in allowed:
            response.headers["Access-Control-Allow-Origin"] = "*"
        else:
            response.headers["Vary"] = "Origin"
            origin = request.headers.get("Origin")
            if origin in allowed:
                response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = "ETag, Retry-After"


CONTEXT: web.AppKey[Context] = web.AppKey("context", Context)


def origin_allowed(origin: str | None, host: str, allowed: tuple[str, ...]) -> bool:
    """Whether a page of this origin may open a WebSocket. What is no page sends no Origin; our own page may."""
    if origin is None or "*" in allowed or origin in allowed:
        return True
    return origin.partition("://")[2] == host

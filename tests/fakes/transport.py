"""A transport that answers from a script and records its requests."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import orjson

from orchestrator.clock import Clock
from orchestrator.errors import ProviderError
from orchestrator.http import HttpRequest, HttpResponse


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: the provider's account, the base URL and the time."""

    provider: str
    base_url: str
    request: HttpRequest
    at: float


Script = Callable[[Asked], "HttpResponse | ProviderError | Awaitable[HttpResponse]"]


@dataclass(slots=True)
class ScriptedTransport:
    """Answer each request by calling `script`."""

    clock: Clock
    script: Script
    asked: list[Asked] = field(default_factory=list)

    async def send(self, provider: str, base_url: str, request: HttpRequest, timeout_s: float) -> HttpResponse:
        asked = Asked(provider, base_url, request, self.clock.now())
        self.asked.append(asked)
        await asyncio.sleep(0)
        given = self.script(asked)
        if isinstance(given, ProviderError):
            raise given
        if isinstance(given, HttpResponse):
            return given
        return await given

    def by(self, provider: str) -> list[Asked]:
        """Return the requests to one provider."""
        return [each for each in self.asked if each.provider == provider]


def reply(clock: Clock, body: object = None, status: int = 200, **headers: str) -> HttpResponse:
    """Return an answer received now; header names have `_` for `-`."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    names = {name.replace("_", "-").lower(): value for name, value in headers.items()}
    return HttpResponse(status, names, raw, clock.wall_ms())

"""Serve `/api/new-sources/status` and `/test-all`: the state of the two sources, and a check of all their endpoints."""

import asyncio
from typing import Any, cast

import orjson
from aiohttp import web

from feeds import dt_requests
from feeds.dt_requests import DtQuery
from feeds.providers import crypto_api_clean, crypto_dt_source
from feeds.queries import CATALOGUE, HEALTH, STATS
from orchestrator.pool import Pool
from orchestrator.recent import Recent
from stream_server.access.parameter_kinds import MAX_AGE
from stream_server.access.parameters import only_max_age
from stream_server.context import Context
from stream_server.delivery.status_shapes import Provider
from stream_server.rest.answers import OURS, Answer, respond
from stream_server.rest.endpoints import Endpoint, Tag
from stream_server.rest.new_sources.crypto_api_clean import PREFIX as CLEAN
from stream_server.rest.new_sources.crypto_api_clean import health_of_clean
from stream_server.rest.new_sources.crypto_dt_source import PREFIX as DT
from stream_server.rest.new_sources.crypto_dt_source import health_of_dt
from stream_server.rest.shapes import CheckedEndpoint, CheckResult, Enveloped, SourcesReport
from stream_server.rest.source_queries import Asking, asking_of, attempts_of
from stream_server.wire.refusals import Refusal

TEST_WITHIN_S = 15.0
TESTED_FOR_S = 60.0


async def sources_status(request: web.Request) -> web.Response:
    """Answer with the state of the two sources, by their own report and by our measurements."""
    asking = asking_of(request)
    max_age_ms = only_max_age(request)
    (clean, of_clean), (dt, of_dt) = await asyncio.gather(
        health_of_clean(asking, max_age_ms), health_of_dt(asking, max_age_ms)
    )
    data: SourcesReport = {
        "crypto_api_clean": {**clean, "provider": _report(asking, crypto_api_clean.NAME)},
        "crypto_dt_source": {**dt, "provider": _report(asking, crypto_dt_source.NAME)},
    }
    answer = Answer(
        lambda: orjson.dumps(data),
        source=OURS,
        true_at=min(of_clean.true_at, of_dt.true_at),
        cached=of_clean.cached or of_dt.cached,
        max_age_ms=max_age_ms,
    )
    return respond(request, asking.context, answer)


def _report(asking: Asking, name: str) -> Provider:
    return cast("Provider", asking.sources.upstreams[name].report())


class EndpointCheck:
    """Queries every endpoint of the two sources once, at most once a minute unless a client wants a newer result."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.recent: Recent[str, tuple[list[CheckedEndpoint], float]] = Recent(TESTED_FOR_S, 1, context.clock)

    async def test_all(self, request: web.Request) -> web.Response:
        """Answer with the outcome of each endpoint and the time that it took."""
        asking = asking_of(request)
        max_age_ms = only_max_age(request)
        within_s = TESTED_FOR_S if max_age_ms is None else min(TESTED_FOR_S, max_age_ms / 1000)
        cached = self.recent.fresh("all", within_s) is not None
        rows, tested_at = await self.recent.get("all", lambda: self._ask_all(asking, within_s), within_s)
        good = sum(1 for row in rows if row["outcome"] == "ok")
        result: CheckResult = {"ok": good, "failed": len(rows) - good, "endpoints": rows}
        answer = Answer(
            lambda: orjson.dumps(result),
            source=OURS,
            true_at=tested_at,
            cached=cached,
            max_age_ms=max_age_ms,
        )
        return respond(request, self.context, answer)

    async def _ask_all(self, asking: Asking, within_s: float) -> tuple[list[CheckedEndpoint], float]:
        """Return the outcomes, and when the first of them may have been; one received `within_s` counts."""
        sources, began = asking.sources, self.context.clock.now()
        questions: list[tuple[str, Pool[Any, Any], object, float]] = [
            (f"{CLEAN}/health", sources.catalogues.clean_facts, HEALTH, within_s),
            (f"{CLEAN}/stats", sources.catalogues.clean_facts, STATS, within_s),
            # It takes one call for each category, so once an hour is enough.
            (f"{CLEAN}/resources", sources.catalogues.resources, CATALOGUE, 3600.0),
            *((f"{DT}/{query.what}", sources.catalogues.dt_requests, query, within_s) for query in SAMPLES),
        ]
        rows = await asyncio.gather(*(self._ask(asking, *question) for question in questions))
        return list(rows), began

    async def _ask(
        self, asking: Asking, endpoint: str, pool: Pool[Any, Any], query: object, received_s: float
    ) -> CheckedEndpoint:
        clock = self.context.clock
        started = clock.now()
        outcome, reason, cached = "ok", None, False
        try:
            cached = (await asking.fetch(pool, query, within_s=TEST_WITHIN_S, received_s=received_s)).cached
        except Refusal as refusal:
            outcomes = [str(attempt["outcome"]) for attempt in attempts_of(refusal)]
            outcome = outcomes[-1] if outcomes else OUTCOMES.get(refusal.code, refusal.code)
            reason = refusal.message
        return {
            "endpoint": endpoint,
            "outcome": outcome,
            "reason": reason,
            "latency_ms": round((clock.now() - started) * 1000, 1),
            "cached": cached,
        }


OUTCOMES = {"deadline": "timeout", "unavailable": "disabled", "bad_parameter": "bad_query"}
"""The outcome of an endpoint by the code of a refusal without attempts."""
SAMPLES = (
    DtQuery("health"),
    DtQuery("status"),
    DtQuery("prices", symbols=("BTC", "ETH")),
    DtQuery("klines", symbols=("BTC",), limit=10),
    DtQuery("fear-greed", limit=1),
    DtQuery("sentiment", text="Bitcoin climbs to a new high"),
    DtQuery("reddit", name="cryptocurrency", limit=5),
    DtQuery("news", name=dt_requests.LATEST, limit=5),
    DtQuery("models"),
    DtQuery("datasets"),
)
"""One question of each kind to Crypto DT Source."""


ENDPOINT_CHECK = web.AppKey("endpoint_check", EndpointCheck)


async def test_all(request: web.Request) -> web.Response:
    """Answer with the outcome of each endpoint of the two sources."""
    return await request.app[ENDPOINT_CHECK].test_all(request)


ENDPOINTS = (
    Endpoint(
        path="/api/new-sources/status",
        handler=sources_status,
        summary="State of the two sources, by their own report and by our measurements",
        tag=Tag.SOURCES,
        answer=Enveloped[SourcesReport],
        parameters=(MAX_AGE,),
        asks_sources=True,
    ),
    Endpoint(
        path="/api/new-sources/test-all",
        handler=test_all,
        summary="Query every endpoint of the two sources once, at most once a minute",
        tag=Tag.SOURCES,
        answer=Enveloped[CheckResult],
        parameters=(MAX_AGE,),
        asks_sources=True,
    ),
)

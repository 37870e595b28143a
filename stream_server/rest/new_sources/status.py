"""Serve `/api/new-sources/status` and `/test-all`: the state of the two sources, and a check of all their endpoints."""

import asyncio
from typing import Any

import orjson
from aiohttp import web

from feeds import dt_requests
from feeds.dt_requests import DtQuery
from feeds.providers import crypto_api_clean, crypto_dt_source
from feeds.queries import CATALOGUE, HEALTH, STATS
from orchestrator.pool import Pool
from orchestrator.recent import Recent
from stream_server.access.parameters import only_max_age
from stream_server.context import Context
from stream_server.rest.answers import OURS, Answer, respond
from stream_server.rest.new_sources.crypto_api_clean import PREFIX as CLEAN
from stream_server.rest.new_sources.crypto_api_clean import health_of_clean
from stream_server.rest.new_sources.crypto_dt_source import PREFIX as DT
from stream_server.rest.new_sources.crypto_dt_source import health_of_dt
from stream_server.rest.source_queries import Asking, asking_of, attempts_of
from stream_server.wire.refusals import Refusal

TEST_WITHIN_S = 15.0
TESTED_FOR_S = 60.0


async def sources_status(request: web.Request) -> web.Response:
    """`GET /api/new-sources/status`: how the two sources do, by their own word and by our experience."""
    asking = asking_of(request)
    max_age_ms = only_max_age(request)
    sources = asking.sources
    (clean, of_clean), (dt, of_dt) = await asyncio.gather(
        health_of_clean(asking, max_age_ms), health_of_dt(asking, max_age_ms)
    )
    data = {
        crypto_api_clean.NAME: {**clean, "provider": sources.upstreams[crypto_api_clean.NAME].report()},
        crypto_dt_source.NAME: {**dt, "provider": sources.upstreams[crypto_dt_source.NAME].report()},
    }
    answer = Answer(
        lambda: orjson.dumps(data),
        source=OURS,
        true_at=min(of_clean.true_at, of_dt.true_at),
        cached=of_clean.cached or of_dt.cached,
        max_age_ms=max_age_ms,
    )
    return respond(request, asking.context, answer)


class EndpointCheck:
    """Asks every endpoint of the two sources once, at most once a minute unless a client wants it newer."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.recent: Recent[str, tuple[list[dict[str, object]], float]] = Recent(TESTED_FOR_S, 1, context.clock)

    async def test_all(self, request: web.Request) -> web.Response:
        """`GET /api/new-sources/test-all`: for each endpoint its outcome and how long it took."""
        asking = asking_of(request)
        max_age_ms = only_max_age(request)
        within_s = TESTED_FOR_S if max_age_ms is None else min(TESTED_FOR_S, max_age_ms / 1000)
        cached = self.recent.fresh("all", within_s) is not None
        rows, tested_at = await self.recent.get("all", lambda: self._ask_all(asking, within_s), within_s)
        good = sum(1 for row in rows if row["outcome"] == "ok")
        answer = Answer(
            lambda: orjson.dumps({"ok": good, "failed": len(rows) - good, "endpoints": rows}),
            source=OURS,
            true_at=tested_at,
            cached=cached,
            max_age_ms=max_age_ms,
        )
        return respond(request, self.context, answer)

    async def _ask_all(self, asking: Asking, within_s: float) -> tuple[list[dict[str, object]], float]:
        """The outcomes, and when the first of them may have been. An answer received `within_s` counts as one."""
        sources, began = asking.sources, self.context.clock.now()
        questions: list[tuple[str, Pool[Any, Any], object, float]] = [
            (f"{CLEAN}/health", sources.catalogues.clean_facts, HEALTH, within_s),
            (f"{CLEAN}/stats", sources.catalogues.clean_facts, STATS, within_s),
            # One call for each of its categories: once an hour will do.
            (f"{CLEAN}/resources", sources.catalogues.resources, CATALOGUE, 3600.0),
            *((f"{DT}/{query.what}", sources.catalogues.dt_requests, query, within_s) for query in SAMPLES),
        ]
        rows = await asyncio.gather(*(self._ask(asking, *question) for question in questions))
        return list(rows), began

    async def _ask(
        self, asking: Asking, endpoint: str, pool: Pool[Any, Any], query: object, received_s: float
    ) -> dict[str, object]:
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
"""What a refusal of ours without attempts says of an endpoint."""
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
"""One question of each kind."""

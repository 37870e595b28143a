"""Serve `/api/news` from the news desk, which receives the articles of every outlet."""

import asyncio
import contextlib

import orjson
from aiohttp import web

from feeds import topics
from feeds.news.articles import LATEST
from feeds.news.desk import NewsDesk
from orchestrator.fetched import Attempt
from stream_server.access.parameter_kinds import MAX_AGE, Choice, Text, Whole
from stream_server.access.parameters import Parameters
from stream_server.context import CONTEXT
from stream_server.rest.answers import ANSWERS, Answer, respond
from stream_server.rest.coins import bases
from stream_server.rest.endpoints import Endpoint, Tag
from stream_server.rest.rights import only
from stream_server.rest.shapes import Enveloped, SourcedArticle
from stream_server.rest.source_queries import Asking, asking_of
from stream_server.wire.refusals import Refusal

FILTERS = ("latest", "hot", "important")
FILTER = Choice("filter", "`important` leaves out articles without impact", choices=FILTERS, default=FILTERS[0])
SYMBOL = Text("symbol", "Only articles about this coin", example="BTC")
LIMIT = Whole("limit", "Maximum number of articles", low=1, high=200, default=50)
FIRST_WITHIN_S = 5.0
"""How long a client waits for the first articles of this process."""


async def news(request: web.Request) -> web.Response:
    """Answer with articles, the newest first; with the filter `hot` the hottest first."""
    context, asking = request.app[CONTEXT], asking_of(request)
    parameters = Parameters(request)
    chosen = parameters.read(FILTER)
    symbol = parameters.read(SYMBOL)
    limit = parameters.read(LIMIT)
    max_age_ms = parameters.read(MAX_AGE)
    parameters.check()
    base = bases(context, [symbol])[0] if symbol else None
    desk = asking.sources.desk
    asked_at = context.clock.now()
    if max_age_ms is not None:
        await _ask_outlets(asking, max_age_ms)
    await _first_articles(asking, desk)
    young = _young(desk, max_age_ms, asked_at)
    rows = desk.select(chosen, base, limit, young)
    sources = {each.source for each in rows} or young
    stale_s = asking.sources.paces.good_for_s(topics.NEWS)
    answer = Answer(
        lambda: orjson.dumps([each.row for each in rows]),
        source=",".join(sorted(sources)),
        # The oldest counts: what an outlet that went silent would publish now is unknown.
        true_at=min(desk.heard_at[source] for source in sources),
        stale=desk.from_disk or min(desk.ages_s().values()) > stale_s,
        cached=all(desk.heard_at[source] < asked_at for source in sources),
        attempts=[attempt.report() for attempt in _attempts(asking)],
        version=f"{context.hub.epoch}-{topics.NEWS}{desk.version}.{hash(frozenset(young)):x}",
        max_age_ms=max_age_ms,
    )
    return respond(request, context, request.app[ANSWERS].share((topics.NEWS, chosen, base, limit), answer))


def _young(desk: NewsDesk, max_age_ms: float | None, asked_at: float) -> set[str]:
    """Return the sources that answered within `max_age_ms`; all of them if there is none or no limit."""
    every = {each.source for each in desk.held.values()}
    if max_age_ms is None:
        return every
    oldest = min(asked_at, desk.clock.now() - max_age_ms / 1000)
    return {source for source in every if desk.heard_at[source] >= oldest} or every


def _attempts(asking: Asking) -> list[Attempt]:
    """Return the outcome of the last request to each outlet that is enabled."""
    enabled = [outlet for outlet in asking.sources.news.outlets if outlet.is_enabled]
    return [attempt for outlet in enabled for attempt in outlet.pool.last_attempts(LATEST)]


async def _ask_outlets(asking: Asking, max_age_ms: float) -> None:
    """Ask every outlet whose last answer is too old, within the limits for clients. The attempts show failures."""
    outlets = [outlet for outlet in asking.sources.news.outlets if outlet.is_asked_for_clients]
    fetches = [asking.fetch(outlet.pool, LATEST, max_age_ms, within_s=FIRST_WITHIN_S) for outlet in outlets]
    await asyncio.gather(*fetches, return_exceptions=True)


async def _first_articles(asking: Asking, desk: NewsDesk) -> None:
    """Wait until there is an article. Raises Refusal 503 with the reasons of the outlets if none comes in time."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FIRST_WITHIN_S):
            await desk.filled.wait()
            return
    attempts = _attempts(asking)
    reasons = ", ".join(f"{each.provider} {each.outcome}" for each in attempts) or "none has been asked yet"
    details: dict[str, object] = {"attempts": [attempt.report() for attempt in attempts]}
    raise Refusal("unavailable", f"no outlet has given an article yet ({reasons})", 503, details, retry_after_s=5)


ENDPOINTS = (
    Endpoint(
        path="/api/news",
        handler=news,
        summary="Articles, newest first; with `hot` the hottest first",
        tag=Tag.TEXTS,
        answer=Enveloped[list[SourcedArticle]],
        parameters=(FILTER, SYMBOL, LIMIT, MAX_AGE),
        reads=only(topics.NEWS),
        asks_sources=True,
        refuses=(404,),
    ),
)

"""`/api/news`: from the news desk, which every outlet's articles come to."""

import asyncio
import contextlib

import orjson
from aiohttp import web

from feeds import topics
from feeds.news.articles import LATEST
from feeds.news.desk import NewsDesk
from feeds.poller import IDLE
from orchestrator.fetched import Attempt
from stream_server.access.parameters import Parameters
from stream_server.context import CONTEXT
from stream_server.rest.answers import VIEWS, Answer, respond
from stream_server.rest.coins import bases
from stream_server.rest.source_queries import Asking, asking_of
from stream_server.wire.refusals import Refusal

FILTERS = ("latest", "hot", "important")
MAX_ARTICLES = 200
DEFAULT_ARTICLES = 50
FIRST_WITHIN_S = 5.0
"""How long a client waits for the first articles of this process."""
MISSED_POLLS = 3


async def news(request: web.Request) -> web.Response:
    """`GET /api/news?filter=latest&symbol=BTC&limit=50`: articles, newest first (the hottest for `hot`)."""
    context, asking = request.app[CONTEXT], asking_of(request)
    parameters = Parameters(request)
    chosen = parameters.choice("filter", FILTERS, FILTERS[0])
    symbol = parameters.text("symbol")
    limit = parameters.whole("limit", 1, MAX_ARTICLES, DEFAULT_ARTICLES)
    max_age_ms = parameters.max_age_ms()
    parameters.check()
    base = bases(context, [symbol])[0] if symbol else None
    desk = asking.sources.desk
    asked_at = context.clock.now()
    if max_age_ms is not None:
        await _ask_outlets(asking, max_age_ms)
    await _first_articles(asking, desk)
    young = _young(desk, max_age_ms, asked_at)
    rows = desk.select(chosen, base, limit, young)
    told = {each.source for each in rows} or young
    stale_s = MISSED_POLLS * IDLE * context.settings.news_poll_s
    answer = Answer(
        lambda: orjson.dumps([each.row for each in rows]),
        source=",".join(sorted(told)),
        # The oldest counts: of an outlet that is not heard any more we don't know what it says now.
        true_at=min(desk.heard_at[source] for source in told),
        stale=desk.from_disk or min(desk.ages_s().values()) > stale_s,
        cached=all(desk.heard_at[source] < asked_at for source in told),
        attempts=[attempt.report() for attempt in _attempts(asking)],
        version=f"{context.hub.epoch}-{topics.NEWS}{desk.version}.{hash(frozenset(young)):x}",
        max_age_ms=max_age_ms,
    )
    return respond(request, context, request.app[VIEWS].share((topics.NEWS, chosen, base, limit), answer))


def _young(desk: NewsDesk, max_age_ms: float | None, asked_at: float) -> set[str]:
    """The sources that were heard lately enough, or just now; all if there are none, or the client does not mind."""
    every = {each.source for each in desk.held.values()}
    if max_age_ms is None:
        return every
    oldest = min(asked_at, desk.clock.now() - max_age_ms / 1000)
    return {source for source in every if desk.heard_at[source] >= oldest} or every


def _attempts(asking: Asking) -> list[Attempt]:
    """What came of asking each outlet the last time; those that are switched off are left out."""
    enabled = [outlet for outlet in asking.sources.news.outlets if outlet.is_enabled]
    return [attempt for outlet in enabled for attempt in outlet.pool.last_attempts(LATEST)]


async def _ask_outlets(asking: Asking, max_age_ms: float) -> None:
    """Have every outlet asked that was heard too long ago, as far as clients may cause that; failures are seen in the
    attempts.
    """
    outlets = [outlet for outlet in asking.sources.news.outlets if outlet.is_asked_for_clients]
    fetches = [asking.fetch(outlet.pool, LATEST, max_age_ms, within_s=FIRST_WITHIN_S) for outlet in outlets]
    await asyncio.gather(*fetches, return_exceptions=True)


async def _first_articles(asking: Asking, desk: NewsDesk) -> None:
    """Wait until there is an article. Raises a 503 with the outlets' reasons if none comes."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FIRST_WITHIN_S):
            await desk.filled.wait()
            return
    attempts = _attempts(asking)
    reasons = ", ".join(f"{each.provider} {each.outcome}" for each in attempts) or "none has been asked yet"
    details: dict[str, object] = {"attempts": [attempt.report() for attempt in attempts]}
    raise Refusal("unavailable", f"no outlet has given an article yet ({reasons})", 503, details, retry_after_s=5)

"""Serve `/api/new-sources/crypto-api-clean/…`: the catalogue of Crypto API Clean, and whether its server answers."""

from collections import Counter
from collections.abc import Callable, Sequence

from aiohttp import web

from feeds.model import Resource
from feeds.providers import crypto_api_clean
from feeds.queries import CATALOGUE, HEALTH
from stream_server.access.parameters import SHOWN_CHARS, Parameters
from stream_server.rest.answers import VIEWS, Answer, respond
from stream_server.rest.new_sources.health import HEALTH_WITHIN_S, answer_health
from stream_server.rest.source_queries import Asking, asking_of
from stream_server.wire.refusals import Refusal

PREFIX = "/api/new-sources/crypto-api-clean"
MAX_ROWS = 1000


async def clean_health(request: web.Request) -> web.Response:
    """`GET …/crypto-api-clean/health`: whether the server answers, and what is held of its catalogue."""
    return await answer_health(request, health_of_clean)


async def health_of_clean(asking: Asking, max_age_ms: float | None) -> tuple[dict[str, object], Answer]:
    sources = asking.sources
    pool = sources.catalogues.clean_facts
    facts: dict[str, object] = {"answers": True, "status": None, "reason": None}
    try:
        fetched = await asking.fetch(pool, HEALTH, max_age_ms, within_s=HEALTH_WITHIN_S)
    except Refusal as refusal:
        facts |= {"answers": False, "reason": refusal.message}
        answer = asking.without_source(refusal, crypto_api_clean.NAME)
    else:
        answer = asking.answer([(pool, fetched)], dict)
        if isinstance(fetched.value, crypto_api_clean.Health):
            facts["status"] = fetched.value.status
        facts["answers"] = not fetched.stale
    held = sources.catalogues.resources.peek(CATALOGUE)
    if held is None and facts["answers"]:
        try:
            held = await asking.fetch(sources.catalogues.resources, CATALOGUE, within_s=HEALTH_WITHIN_S)
        except Refusal as refusal:
            facts["reason"] = refusal.message
    health: dict[str, object] = {
        "status": "healthy" if facts["answers"] else "stale" if held is not None else "down",
        "server": facts,
        "resources": None if held is None else len(held.value),
        "categories": None if held is None else len(_counts(held.value)),
        "age_ms": None if held is None else held.age_ms,
    }
    return health, answer


async def clean_stats(request: web.Request) -> web.Response:
    """`GET …/crypto-api-clean/stats`: how much the catalogue holds."""

    def counted(resources: Sequence[Resource]) -> object:
        counts = _counts(resources)
        return {"total_resources": len(resources), "total_categories": len(counts), "categories": counts}

    return await _catalogue(request, counted)


async def clean_categories(request: web.Request) -> web.Response:
    """`GET …/crypto-api-clean/categories`."""
    return await _catalogue(
        request, lambda resources: [{"name": name, "count": count} for name, count in _counts(resources).items()]
    )


async def clean_resources(request: web.Request) -> web.Response:
    """`GET …/crypto-api-clean/resources?category=&limit=&offset=`."""
    asking = asking_of(request)
    parameters = Parameters(request)
    page = Page(parameters)
    max_age_ms = parameters.max_age_ms()
    parameters.check()
    pool = asking.sources.catalogues.resources
    fetched = await asking.fetch(pool, CATALOGUE, max_age_ms)
    rows = page.of(fetched.value)
    answer = asking.answer([(pool, fetched)], lambda: page.cut(rows), max_age_ms, total=len(rows))
    return respond(request, asking.context, request.app[VIEWS].share(("resources", *page.question), answer))


async def _catalogue(request: web.Request, data_of: Callable[[Sequence[Resource]], object]) -> web.Response:
    asking = asking_of(request)
    parameters = Parameters(request)
    max_age_ms = parameters.max_age_ms()
    parameters.check()
    pool = asking.sources.catalogues.resources
    fetched = await asking.fetch(pool, CATALOGUE, max_age_ms)
    answer = asking.answer([(pool, fetched)], lambda: data_of(fetched.value), max_age_ms)
    return respond(request, asking.context, request.app[VIEWS].share((request.path,), answer))


def _counts(resources: Sequence[Resource]) -> dict[str, int]:
    """How many resources each category has, in the catalogue's order."""
    return dict(Counter(each.category for each in resources))


class Page:
    """Which part of the resources is asked for."""

    def __init__(self, parameters: Parameters) -> None:
        self.category = parameters.text("category")
        self.limit = parameters.whole("limit", 1, MAX_ROWS, MAX_ROWS)
        self.offset = parameters.whole("offset", 0, 1_000_000, 0)

    @property
    def question(self) -> tuple[object, ...]:
        return (self.category, self.limit, self.offset)

    def of(self, resources: Sequence[Resource]) -> list[Resource]:
        """Those of the category. Raises a 404 that names the categories."""
        if not self.category:
            return list(resources)
        found = [each for each in resources if each.category == self.category]
        if not found:
            names = list(_counts(resources))
            message = f"category {self.category[:SHOWN_CHARS]!r} is not one of {', '.join(names)}"
            raise Refusal("not_found", message, 404, {"category": message})
        return found

    def cut(self, rows: Sequence[Resource]) -> Sequence[Resource]:
        return rows[self.offset : self.offset + self.limit]

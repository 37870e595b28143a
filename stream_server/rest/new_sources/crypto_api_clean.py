"""Serve `/api/new-sources/crypto-api-clean/…`: the catalogue of Crypto API Clean, and whether its server answers."""

from collections import Counter
from collections.abc import Callable, Sequence

from aiohttp import web

from feeds.model import Resource
from feeds.providers import crypto_api_clean
from feeds.queries import CATALOGUE, HEALTH
from stream_server.access.parameter_kinds import MAX_AGE, Text, Whole
from stream_server.access.parameters import SHOWN_CHARS, Parameters
from stream_server.rest.answers import ANSWERS, Answer, respond
from stream_server.rest.endpoints import Endpoint, Tag
from stream_server.rest.new_sources.health import HEALTH_WITHIN_S, answer_health
from stream_server.rest.shapes import CatalogueSize, Category, CleanHealth, CleanServer, Enveloped, EnvelopedPage
from stream_server.rest.shapes import Resource as ResourceRow
from stream_server.rest.source_queries import Asking, asking_of
from stream_server.wire.refusals import Refusal

PREFIX = "/api/new-sources/crypto-api-clean"
MAX_ROWS = 1000
CATEGORY = Text("category", "Only this category", example="rpc_nodes")
LIMIT = Whole("limit", "Maximum number of entries", low=1, high=MAX_ROWS, default=MAX_ROWS)
OFFSET = Whole("offset", "Number of entries to skip", low=0, high=1_000_000, default=0)


async def clean_health(request: web.Request) -> web.Response:
    """Answer whether the server answers, and with the size of the catalogue held."""
    return await answer_health(request, health_of_clean)


async def health_of_clean(asking: Asking, max_age_ms: float | None) -> tuple[CleanHealth, Answer]:
    """Return the health of Crypto API Clean, and the answer whose envelope it gets."""
    sources = asking.sources
    pool = sources.catalogues.clean_facts
    facts: CleanServer = {"answers": True, "status": None, "reason": None}
    try:
        fetched = await asking.fetch(pool, HEALTH, max_age_ms, within_s=HEALTH_WITHIN_S)
    except Refusal as refusal:
        facts["answers"], facts["reason"] = False, refusal.message
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
    health: CleanHealth = {
        "status": "healthy" if facts["answers"] else "stale" if held is not None else "down",
        "server": facts,
        "resources": None if held is None else len(held.value),
        "categories": None if held is None else len(_counts(held.value)),
        "age_ms": None if held is None else held.age_ms,
    }
    return health, answer


async def clean_stats(request: web.Request) -> web.Response:
    """Answer with the size of the catalogue."""

    def counted(resources: Sequence[Resource]) -> CatalogueSize:
        counts = _counts(resources)
        return {"total_resources": len(resources), "total_categories": len(counts), "categories": counts}

    return await _catalogue(request, counted)


async def clean_categories(request: web.Request) -> web.Response:
    """Answer with the categories of the catalogue."""

    def counted(resources: Sequence[Resource]) -> list[Category]:
        return [{"name": name, "count": count} for name, count in _counts(resources).items()]

    return await _catalogue(request, counted)


async def clean_resources(request: web.Request) -> web.Response:
    """Answer with a page of the catalogue."""
    asking = asking_of(request)
    parameters = Parameters(request)
    page = Page(parameters)
    max_age_ms = parameters.read(MAX_AGE)
    parameters.check()
    pool = asking.sources.catalogues.resources
    fetched = await asking.fetch(pool, CATALOGUE, max_age_ms)
    rows = page.of(fetched.value)
    answer = asking.answer([(pool, fetched)], lambda: page.cut(rows), max_age_ms, total=len(rows))
    return respond(request, asking.context, request.app[ANSWERS].share(("resources", *page.question), answer))


async def _catalogue(request: web.Request, data_of: Callable[[Sequence[Resource]], object]) -> web.Response:
    asking = asking_of(request)
    parameters = Parameters(request)
    max_age_ms = parameters.read(MAX_AGE)
    parameters.check()
    pool = asking.sources.catalogues.resources
    fetched = await asking.fetch(pool, CATALOGUE, max_age_ms)
    answer = asking.answer([(pool, fetched)], lambda: data_of(fetched.value), max_age_ms)
    return respond(request, asking.context, request.app[ANSWERS].share((request.path,), answer))


def _counts(resources: Sequence[Resource]) -> dict[str, int]:
    """Return the number of resources of each category, in the catalogue's order."""
    return dict(Counter(each.category for each in resources))


class Page:
    """The part of the resources that a client asks for."""

    def __init__(self, parameters: Parameters) -> None:
        self.category = parameters.read(CATEGORY)
        self.limit = parameters.read(LIMIT)
        self.offset = parameters.read(OFFSET)

    @property
    def question(self) -> tuple[object, ...]:
        """What distinguishes this page from others."""
        return (self.category, self.limit, self.offset)

    def of(self, resources: Sequence[Resource]) -> list[Resource]:
        """Return the resources of the category. Raises Refusal 404 with the names of the categories."""
        if not self.category:
            return list(resources)
        found = [each for each in resources if each.category == self.category]
        if not found:
            names = list(_counts(resources))
            message = f"category {self.category[:SHOWN_CHARS]!r} is not one of {', '.join(names)}"
            raise Refusal("not_found", message, 404, {"category": message})
        return found

    def cut(self, rows: Sequence[Resource]) -> Sequence[Resource]:
        """Return the rows of this page."""
        return rows[self.offset : self.offset + self.limit]


ENDPOINTS = (
    Endpoint(
        path=f"{PREFIX}/health",
        handler=clean_health,
        summary="Whether Crypto API Clean answers",
        tag=Tag.SOURCES,
        answer=Enveloped[CleanHealth],
        parameters=(MAX_AGE,),
        asks_sources=True,
    ),
    Endpoint(
        path=f"{PREFIX}/stats",
        handler=clean_stats,
        summary="Size of its catalogue",
        tag=Tag.SOURCES,
        answer=Enveloped[CatalogueSize],
        parameters=(MAX_AGE,),
        asks_sources=True,
    ),
    Endpoint(
        path=f"{PREFIX}/resources",
        handler=clean_resources,
        summary="Its catalogue of data sources",
        tag=Tag.SOURCES,
        answer=EnvelopedPage[list[ResourceRow]],
        parameters=(CATEGORY, LIMIT, OFFSET, MAX_AGE),
        asks_sources=True,
        refuses=(404,),
    ),
    Endpoint(
        path=f"{PREFIX}/categories",
        handler=clean_categories,
        summary="Its categories",
        tag=Tag.SOURCES,
        answer=Enveloped[list[Category]],
        parameters=(MAX_AGE,),
        asks_sources=True,
    ),
)

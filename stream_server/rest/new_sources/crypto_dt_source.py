"""Serve `/api/new-sources/crypto-dt-source/…`: the values of Crypto DT Source in the shapes of this API."""

from collections.abc import Callable, Iterable
from typing import Any

from aiohttp import web

from feeds import dt_requests, events
from feeds.dt_requests import DtQuery
from feeds.model import Pair
from feeds.providers import crypto_dt_source
from orchestrator.fetched import Fetched
from stream_server.access.parameter_kinds import MAX_AGE, Choice, NeededText, Text, Whole
from stream_server.access.parameters import Parameters
from stream_server.context import CONTEXT
from stream_server.rest.answers import ANSWERS, Answer, respond
from stream_server.rest.candles import INTERVAL_OF, SYMBOL, candle_row
from stream_server.rest.coins import bases, coin_names
from stream_server.rest.endpoints import Endpoint, Tag
from stream_server.rest.new_sources.health import HEALTH_WITHIN_S, answer_health
from stream_server.rest.prices import quote_row
from stream_server.rest.sentiment import index_with_history, scored
from stream_server.rest.shapes import (
    MAX_TEXT_CHARS,
    Candles,
    Dataset,
    DtHealth,
    DtStatus,
    Enveloped,
    FearGreedHistory,
    PriceRow,
    ScoredText,
    SourcedArticle,
    TextModel,
)
from stream_server.rest.source_queries import Asking, asking_of
from stream_server.wire.refusals import Refusal

PREFIX = "/api/new-sources/crypto-dt-source"
PRICE_SYMBOLS = coin_names(100)
PRICE_LIMIT = Whole("limit", "Maximum number of coins", low=1, high=crypto_dt_source.MAX_COINS, default=100)
INTERVAL = Choice("interval", INTERVAL_OF, choices=crypto_dt_source.INTERVALS, default="1h", code="invalid_interval")
CANDLE_LIMIT = Whole("limit", "Maximum number of candles", low=1, high=crypto_dt_source.MAX_CANDLES, default=100)
DAY_LIMIT = Whole("limit", "Maximum number of days", low=1, high=365, default=30)
TEXT = NeededText(
    "text",
    "Text to score",
    usage="text=Bitcoin%20climbs",
    example="Bitcoin climbs to a new high",
    max_chars=MAX_TEXT_CHARS,
)
MODEL = Choice("model", "Model that scores", choices=crypto_dt_source.MODELS, default=crypto_dt_source.MODELS[0])
SUBREDDIT = Text(
    "subreddit",
    "Name of the subreddit",
    default="cryptocurrency",
    pattern="[A-Za-z0-9_]{2,21}",
    noun="a valid subreddit name",
)
PERIOD = Choice(
    "period",
    "The best posts of this period; `new` gives the newest",
    choices=dt_requests.PERIODS,
    default="day",
)
POST_LIMIT = Whole("limit", "Maximum number of posts", low=1, high=100, default=25)
FEED = Choice("feed", "One outlet, or all of them", choices=dt_requests.FEEDS, default=dt_requests.LATEST)
ARTICLE_LIMIT = Whole("limit", "Maximum number of articles", low=1, high=100, default=20)


async def dt_health(request: web.Request) -> web.Response:
    """Answer whether the source answers, and with its name and version."""
    return await answer_health(request, health_of_dt)


async def health_of_dt(asking: Asking, max_age_ms: float | None) -> tuple[DtHealth, Answer]:
    """Return the health of Crypto DT Source, and the answer whose envelope it gets."""
    pool = asking.sources.catalogues.dt_requests
    health: DtHealth = {
        "status": "down",
        "answers": False,
        "reason": None,
        "service": None,
        "version": None,
        "endpoints": None,
    }
    try:
        fetched = await asking.fetch(pool, DtQuery("health"), max_age_ms, within_s=HEALTH_WITHIN_S)
    except Refusal as refusal:
        health["reason"] = refusal.message
        return health, asking.without_source(refusal, crypto_dt_source.NAME)
    health.update(fetched.value)
    health["status"] = "stale" if fetched.stale else "healthy"
    health["answers"] = not fetched.stale
    return health, asking.answer([(pool, fetched)], dict)


async def dt_status(request: web.Request) -> web.Response:
    """Answer with the source's own report of its state, and with the numbers of loaded models and data sets."""
    parameters = Parameters(request)
    return await _dt(request, parameters, lambda: DtQuery("status"), lambda value, fetched: value)


async def dt_prices(request: web.Request) -> web.Response:
    """Answer with its prices; without `symbols` with those of the largest coins."""
    parameters = Parameters(request)
    names = parameters.read(PRICE_SYMBOLS)
    limit = parameters.read(PRICE_LIMIT)
    return await _dt(
        request,
        parameters,
        lambda: DtQuery("prices", symbols=tuple(bases(request.app[CONTEXT], names))),
        lambda value, fetched: [quote_row(each, fetched) for each in value.good[:limit]],
        limit,
        stamps_of=lambda value: [each.ts for each in value.good[:limit]],
    )


async def dt_klines(request: web.Request) -> web.Response:
    """Answer with candles against USDT, ascending."""
    parameters = Parameters(request)
    symbol = parameters.read(SYMBOL)
    interval = parameters.read(INTERVAL)
    limit = parameters.read(CANDLE_LIMIT)

    def question() -> DtQuery:
        return DtQuery("klines", tuple(bases(request.app[CONTEXT], [symbol])), interval, limit)

    def rows(value: Any, fetched: Fetched[Any]) -> object:
        return [candle_row(each, Pair(each.symbol, each.symbol.removesuffix("USDT"), "USDT")) for each in value.good]

    return await _dt(request, parameters, question, rows, stamps_of=lambda value: [each.ts for each in value.good[-1:]])


async def dt_fear_greed(request: web.Request) -> web.Response:
    """Answer with the index of today and of the last days."""
    parameters = Parameters(request)
    limit = parameters.read(DAY_LIMIT)
    return await _dt(
        request,
        parameters,
        lambda: DtQuery("fear-greed", limit=limit),
        lambda value, fetched: index_with_history(value[:limit]),
    )


async def dt_sentiment(request: web.Request) -> web.Response:
    """Answer with the score that one of its models gives a text."""
    parameters = Parameters(request)
    text, model = parameters.read(TEXT), parameters.read(MODEL)
    return await _dt(
        request,
        parameters,
        lambda: DtQuery("sentiment", text=text, model=model),
        lambda value, fetched: scored(text, value),
    )


async def dt_reddit(request: web.Request) -> web.Response:
    """Answer with the posts of a subreddit."""
    parameters = Parameters(request)
    subreddit, period = parameters.read(SUBREDDIT), parameters.read(PERIOD)
    limit = parameters.read(POST_LIMIT)
    return await _dt(
        request,
        parameters,
        lambda: DtQuery("reddit", name=subreddit.lower(), period=period, limit=limit),
        _articles,
    )


async def dt_news(request: web.Request) -> web.Response:
    """Answer with its articles, of one outlet or of all."""
    parameters = Parameters(request)
    feed, limit = parameters.read(FEED), parameters.read(ARTICLE_LIMIT)
    return await _dt(request, parameters, lambda: DtQuery("news", name=feed, limit=limit), _articles)


async def dt_models(request: web.Request) -> web.Response:
    """Answer with its text models."""
    return await _dt(request, Parameters(request), lambda: DtQuery("models"), lambda value, fetched: value)


async def dt_datasets(request: web.Request) -> web.Response:
    """Answer with its data sets."""
    return await _dt(request, Parameters(request), lambda: DtQuery("datasets"), lambda value, fetched: value)


def _articles(value: Any, fetched: Fetched[Any]) -> object:
    return [{**events.article_data(each, None), "source": fetched.source} for each in value.good]


async def _dt(
    request: web.Request,
    parameters: Parameters,
    question: Callable[[], DtQuery],
    data_of: Callable[[Any, Fetched[Any]], object],
    *cut: object,
    stamps_of: Callable[[Any], Iterable[int]] = lambda value: (),
) -> web.Response:
    """Check the parameters, ask the source, and answer.

    `cut` are the parameters that are not part of the question to the source. `stamps_of` returns the times of the rows
    in the answer, if the rows have times of their own.
    """
    asking = asking_of(request)
    max_age_ms = parameters.read(MAX_AGE)
    parameters.check()
    pool = asking.sources.catalogues.dt_requests
    query = question()
    fetched = await asking.fetch(pool, query, max_age_ms)
    answer = asking.answer(
        [(pool, fetched)],
        lambda: data_of(fetched.value, fetched),
        max_age_ms,
        row_ages_ms=[fetched.age_of(stamp_ms) for stamp_ms in stamps_of(fetched.value)],
    )
    return respond(request, asking.context, request.app[ANSWERS].share((query, *cut), answer))


ENDPOINTS = (
    Endpoint(
        path=f"{PREFIX}/health",
        handler=dt_health,
        summary="Whether Crypto DT Source answers",
        tag=Tag.SOURCES,
        answer=Enveloped[DtHealth],
        parameters=(MAX_AGE,),
        asks_sources=True,
    ),
    Endpoint(
        path=f"{PREFIX}/status",
        handler=dt_status,
        summary="Its own report of its state",
        tag=Tag.SOURCES,
        answer=Enveloped[DtStatus],
        parameters=(MAX_AGE,),
        asks_sources=True,
    ),
    Endpoint(
        path=f"{PREFIX}/prices",
        handler=dt_prices,
        summary="Its prices; those of the largest coins without `symbols`",
        tag=Tag.SOURCES,
        answer=Enveloped[list[PriceRow]],
        parameters=(PRICE_SYMBOLS, PRICE_LIMIT, MAX_AGE),
        asks_sources=True,
        refuses=(404,),
    ),
    Endpoint(
        path=f"{PREFIX}/klines",
        handler=dt_klines,
        summary="Its candles against USDT, ascending",
        tag=Tag.SOURCES,
        answer=Enveloped[Candles],
        parameters=(SYMBOL, INTERVAL, CANDLE_LIMIT, MAX_AGE),
        asks_sources=True,
        refuses=(404,),
    ),
    Endpoint(
        path=f"{PREFIX}/fear-greed",
        handler=dt_fear_greed,
        summary="Its Fear & Greed index",
        tag=Tag.SOURCES,
        answer=Enveloped[FearGreedHistory],
        parameters=(DAY_LIMIT, MAX_AGE),
        asks_sources=True,
    ),
    Endpoint(
        path=f"{PREFIX}/sentiment",
        handler=dt_sentiment,
        summary="Score of a text by one of its models",
        tag=Tag.SOURCES,
        answer=Enveloped[ScoredText],
        parameters=(TEXT, MODEL, MAX_AGE),
        asks_sources=True,
    ),
    Endpoint(
        path=f"{PREFIX}/reddit",
        handler=dt_reddit,
        summary="Posts of a subreddit",
        tag=Tag.SOURCES,
        answer=Enveloped[list[SourcedArticle]],
        parameters=(SUBREDDIT, PERIOD, POST_LIMIT, MAX_AGE),
        asks_sources=True,
        refuses=(404,),
    ),
    Endpoint(
        path=f"{PREFIX}/news",
        handler=dt_news,
        summary="Its articles",
        tag=Tag.SOURCES,
        answer=Enveloped[list[SourcedArticle]],
        parameters=(FEED, ARTICLE_LIMIT, MAX_AGE),
        asks_sources=True,
        refuses=(404,),
    ),
    Endpoint(
        path=f"{PREFIX}/models",
        handler=dt_models,
        summary="Its text models",
        tag=Tag.SOURCES,
        answer=Enveloped[list[TextModel]],
        parameters=(MAX_AGE,),
        asks_sources=True,
    ),
    Endpoint(
        path=f"{PREFIX}/datasets",
        handler=dt_datasets,
        summary="Its data sets",
        tag=Tag.SOURCES,
        answer=Enveloped[list[Dataset]],
        parameters=(MAX_AGE,),
        asks_sources=True,
    ),
)

"""Serve `/api/new-sources/crypto-dt-source/…`: the values of Crypto DT Source in the shapes of this API."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from aiohttp import web

from feeds import dt_requests, events
from feeds.dt_requests import DtQuery
from feeds.model import Pair
from feeds.providers import crypto_dt_source
from orchestrator.fetched import Fetched
from stream_server.access.parameters import SHOWN_CHARS, Parameters
from stream_server.context import CONTEXT
from stream_server.rest.answers import VIEWS, Answer, respond
from stream_server.rest.candles import candle_row
from stream_server.rest.coins import bases
from stream_server.rest.market import quote_row
from stream_server.rest.new_sources.health import HEALTH_WITHIN_S, answer_health
from stream_server.rest.sentiment import MAX_TEXT_CHARS, index_with_history, scored
from stream_server.rest.source_queries import Asking, asking_of
from stream_server.wire.refusals import Refusal

PREFIX = "/api/new-sources/crypto-dt-source"
_SUBREDDIT = re.compile(r"[A-Za-z0-9_]{2,21}")


async def dt_health(request: web.Request) -> web.Response:
    """`GET …/crypto-dt-source/health`: whether it answers, and what it says it is."""
    return await answer_health(request, health_of_dt)


async def health_of_dt(asking: Asking, max_age_ms: float | None) -> tuple[dict[str, object], Answer]:
    sources = asking.sources
    pool = sources.catalogues.dt_requests
    facts: dict[str, object] = {"service": None, "version": None, "endpoints": None}
    try:
        fetched = await asking.fetch(pool, DtQuery("health"), max_age_ms, within_s=HEALTH_WITHIN_S)
    except Refusal as refusal:
        answer = asking.without_source(refusal, crypto_dt_source.NAME)
        return {"status": "down", "answers": False, "reason": refusal.message, **facts}, answer
    facts |= fetched.value
    status = "stale" if fetched.stale else "healthy"
    health = {"status": status, "answers": not fetched.stale, "reason": None, **facts}
    return health, asking.answer([(pool, fetched)], dict)


async def dt_status(request: web.Request) -> web.Response:
    """`GET …/crypto-dt-source/status`: how it says it is; of its models and data sets how many are loaded."""
    parameters = Parameters(request)
    return await _dt(request, parameters, lambda: DtQuery("status"), lambda value, fetched: value)


async def dt_prices(request: web.Request) -> web.Response:
    """`GET …/crypto-dt-source/prices?symbols=BTC,ETH&limit=100`: its prices, of the largest without `symbols`."""
    parameters = Parameters(request)
    names = parameters.names("symbols", 100)
    limit = parameters.whole("limit", 1, crypto_dt_source.MAX_COINS, 100)
    return await _dt(
        request,
        parameters,
        lambda: DtQuery("prices", symbols=tuple(bases(request.app[CONTEXT], names))),
        lambda value, fetched: [quote_row(each, fetched) for each in value.good[:limit]],
        limit,
        stamps_of=lambda value: [each.ts for each in value.good[:limit]],
    )


async def dt_klines(request: web.Request) -> web.Response:
    """`GET …/crypto-dt-source/klines?symbol=BTC&interval=1h&limit=100`: candles against USDT, ascending."""
    parameters = Parameters(request)
    symbol = parameters.needed("symbol", "symbol=BTC&interval=1h")
    interval = parameters.interval(crypto_dt_source.INTERVALS)
    limit = parameters.whole("limit", 1, crypto_dt_source.MAX_CANDLES, 100)

    def question() -> DtQuery:
        return DtQuery("klines", tuple(bases(request.app[CONTEXT], [symbol])), interval, limit)

    def rows(value: Any, fetched: Fetched[Any]) -> object:
        return [candle_row(each, Pair(each.symbol, each.symbol.removesuffix("USDT"), "USDT")) for each in value.good]

    return await _dt(request, parameters, question, rows, stamps_of=lambda value: [each.ts for each in value.good[-1:]])


async def dt_fear_greed(request: web.Request) -> web.Response:
    """`GET …/crypto-dt-source/fear-greed?limit=30`: the index of today, and of the last days."""
    parameters = Parameters(request)
    limit = parameters.whole("limit", 1, 365, 30)
    return await _dt(
        request,
        parameters,
        lambda: DtQuery("fear-greed", limit=limit),
        lambda value, fetched: index_with_history(value[:limit]),
    )


async def dt_sentiment(request: web.Request) -> web.Response:
    """`GET …/crypto-dt-source/sentiment?text=&model=`: what one of its models reads in a text."""
    parameters = Parameters(request)
    text = parameters.needed("text", "text=Bitcoin%20climbs")
    if len(text) > MAX_TEXT_CHARS:
        parameters.wrong("text", f"text has {len(text)} characters; {MAX_TEXT_CHARS} are allowed")
    model = parameters.choice("model", crypto_dt_source.MODELS, crypto_dt_source.MODELS[0])
    return await _dt(
        request,
        parameters,
        lambda: DtQuery("sentiment", text=text, model=model),
        lambda value, fetched: scored(text, value),
    )


async def dt_reddit(request: web.Request) -> web.Response:
    """`GET …/crypto-dt-source/reddit?subreddit=cryptocurrency&period=day&limit=25`: posts; the newest for `new`."""
    parameters = Parameters(request)
    subreddit = parameters.text("subreddit") or "cryptocurrency"
    if not _SUBREDDIT.fullmatch(subreddit):
        parameters.wrong("subreddit", f"subreddit {subreddit[:SHOWN_CHARS]!r} is not a valid subreddit name")
    period = parameters.choice("period", dt_requests.PERIODS, "day")
    limit = parameters.whole("limit", 1, 100, 25)
    return await _dt(
        request,
        parameters,
        lambda: DtQuery("reddit", name=subreddit.lower(), period=period, limit=limit),
        _articles,
    )


async def dt_news(request: web.Request) -> web.Response:
    """`GET …/crypto-dt-source/news?limit=20&feed=latest`: its articles, of one outlet or of all."""
    parameters = Parameters(request)
    feed = parameters.choice("feed", dt_requests.FEEDS, dt_requests.LATEST)
    limit = parameters.whole("limit", 1, 100, 20)
    return await _dt(request, parameters, lambda: DtQuery("news", name=feed, limit=limit), _articles)


async def dt_models(request: web.Request) -> web.Response:
    """`GET …/crypto-dt-source/models`: its text models."""
    return await _dt(request, Parameters(request), lambda: DtQuery("models"), lambda value, fetched: value)


async def dt_datasets(request: web.Request) -> web.Response:
    """`GET …/crypto-dt-source/datasets`: its data sets."""
    return await _dt(request, Parameters(request), lambda: DtQuery("datasets"), lambda value, fetched: value)


def _articles(value: Any, fetched: Fetched[Any]) -> object:
    return [events.article_data(each, None) | {"source": fetched.source} for each in value.good]


async def _dt(
    request: web.Request,
    parameters: Parameters,
    question: Callable[[], DtQuery],
    data_of: Callable[[Any, Fetched[Any]], object],
    *cut: object,
    stamps_of: Callable[[Any], Iterable[int]] = lambda value: (),
) -> web.Response:
    """Check the parameters, ask, and answer; `cut` is what of the parameters is no part of the question.

    `stamps_of` gives the stamps of what is told, where its rows have stamps of their own that age.
    """
    asking = asking_of(request)
    max_age_ms = parameters.max_age_ms()
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
    return respond(request, asking.context, request.app[VIEWS].share((query, *cut), answer))

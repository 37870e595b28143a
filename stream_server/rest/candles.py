"""`/api/market/ohlc`: from the series that are kept, else from whoever has candles."""

from collections.abc import Sequence

import orjson
from aiohttp import web

from feeds import topics
from feeds.exchange.candles import CandleSeries, CandleState
from feeds.exchange.market import candle_data
from feeds.model import Candle, Pair
from feeds.queries import CandleQuery
from stream_server.access.parameters import Parameters
from stream_server.context import CONTEXT, Context
from stream_server.rest.answers import VIEWS, Answer, answer_of_topics, respond
from stream_server.rest.coins import bases
from stream_server.rest.source_queries import Asking, asking_of, attempts_of
from stream_server.wire.refusals import Refusal

DEFAULT_CANDLES = 500
MAX_CANDLES = 1000


async def ohlc(request: web.Request) -> web.Response:
    """`GET /api/market/ohlc?symbol=BTC&interval=1h&limit&start&end`, ascending; times in Unix ms."""
    context, views = request.app[CONTEXT], request.app[VIEWS]
    question = ("ohlc", request.rel_url.raw_query_string)
    answer = views.get(question)
    if answer is None or answer.is_too_old(context.clock.now()):
        parameters = Parameters(request)
        symbol = parameters.needed("symbol", "symbol=BTC&interval=1h")
        interval = parameters.interval()
        limit = parameters.whole("limit", 1, MAX_CANDLES, DEFAULT_CANDLES)
        start, end = parameters.time_ms("start"), parameters.time_ms("end")
        if start is not None and end is not None and start > end:
            parameters.wrong("start", f"start {start} is after end {end}")
        max_age_ms = parameters.max_age_ms()
        parameters.check()
        base = bases(context, [symbol])[0]
        pair = context.symbols.by_base.get(base) or Pair(f"{base}USDT", base, "USDT")
        query = CandleQuery(base, pair.symbol, interval, limit, start, end)
        kept = _from_series(context, pair, query, max_age_ms)
        if kept is not None and kept.whole:
            answer = views.put(question, kept.answer)
        else:
            answer = await _from_sources(asking_of(request), pair, query, max_age_ms, kept)
            views.share(question, answer)
    return respond(request, context, answer)


class _Kept:
    """What a series has of the candles asked for; `whole` if it is all of them, and as young as is wanted."""

    __slots__ = ("answer", "whole")

    def __init__(self, answer: Answer, whole: bool) -> None:
        self.answer = answer
        self.whole = whole


def _from_series(context: Context, pair: Pair, query: CandleQuery, max_age_ms: float | None) -> _Kept | None:
    series = context.market.series.get((pair.symbol, query.interval))
    topic = context.hub.current_topics().get(topics.ohlcv(pair.base, query.interval))
    if series is None or topic is None or topic.event is None:
        return None
    rows = _select(series, query)
    now = context.clock.now()
    answer = answer_of_topics(
        context.hub,
        [topic],
        lambda: orjson.dumps([candle_row(row, pair) for row in rows]),
        now,
    )
    if rows:
        answer.version += f".{rows[0].open_time}.{len(rows)}"
    answer.max_age_ms = max_age_ms
    young = max_age_ms is None or topic.age_ms(now) < max_age_ms
    whole = young and not topic.stale and _covers(series, rows, query)
    return _Kept(answer, whole) if rows or whole else None


async def _from_sources(
    asking: Asking, pair: Pair, query: CandleQuery, max_age_ms: float | None, kept: _Kept | None
) -> Answer:
    context = asking.context
    try:
        pool = asking.sources.market.candles
        fetched = await asking.fetch(pool, query, max_age_ms)
    except Refusal as refusal:
        if kept is None or refusal.status == 400:
            raise
        # Old but honest beats nothing: the envelope says how old. A tape has nothing newer to be asked for.
        answer = kept.answer
        answer.stale = answer.stale or context.sources is not None
        answer.attempts = attempts_of(refusal)
        return answer
    rows = fetched.value.good
    # What has closed does not age. Candles up to now do: the newest is what was known of the market.
    up_to_now = query.end is None and (query.start is None or len(rows) < query.limit)
    return asking.answer(
        [(pool, fetched)],
        lambda: [candle_row(row, pair) for row in rows],
        max_age_ms,
        row_ages_ms=[fetched.age_of(rows[-1].ts)] if rows and up_to_now else (),
    )


def candle_row(candle: Candle, pair: Pair) -> dict[str, object]:
    """A candle as clients see it. One of an aggregator is of no pair, against the US dollar."""
    row = candle_data(candle, pair, CandleState.CLOSED if candle.closed else CandleState.LIVE)
    if candle.symbol != pair.symbol:
        row |= {"pair": None, "quote": "USD"}
    if candle.derived_from is not None:
        row["derived_from"] = candle.derived_from
    return row


def _covers(series: CandleSeries, rows: Sequence[Candle], query: CandleQuery) -> bool:
    """Whether a kept series holds all that is asked for."""
    if not series.closed or series.missing_from() is not None:
        return False
    return series.closed[0].open_time <= query.start if query.start is not None else len(rows) >= query.limit


def _select(series: CandleSeries, query: CandleQuery) -> list[Candle]:
    rows = [*series.closed, *([series.live] if series.live is not None else [])]
    if query.start is not None:
        rows = [row for row in rows if row.open_time >= query.start]
    if query.end is not None:
        rows = [row for row in rows if row.open_time <= query.end]
    return rows[: query.limit] if query.start is not None else rows[-query.limit :]

"""Serve `/api/market/ohlc` from the series that the exchange feed keeps, else from the sources of candles."""

from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from aiohttp import web

from feeds import shapes, topics
from feeds.exchange.candles import CandleSeries, CandleState
from feeds.exchange.market import candle_data
from feeds.intervals import INTERVALS
from feeds.model import Candle, Pair
from feeds.queries import CandleQuery
from feeds.symbols import Symbols
from stream_server.access.parameter_kinds import MAX_AGE, Choice, NeededText, Time, Whole
from stream_server.access.parameters import Parameters
from stream_server.context import CONTEXT, Context
from stream_server.rest.answers import ANSWERS, Answer, answer_of_topics, respond
from stream_server.rest.coins import bases
from stream_server.rest.endpoints import Endpoint, Tag
from stream_server.rest.rights import resolved
from stream_server.rest.shapes import Candles, Enveloped
from stream_server.rest.source_queries import Asking, asking_of, attempts_of
from stream_server.wire.refusals import Refusal

SYMBOL = NeededText("symbol", "The coin", usage="symbol=BTC&interval=1h", example="BTC")
INTERVAL_OF = "Length of a candle, case-sensitive: `1M` is a month"
INTERVAL = Choice("interval", INTERVAL_OF, choices=INTERVALS, default="1h", code="invalid_interval")
LIMIT = Whole("limit", "Maximum number of candles", low=1, high=1000, default=500)
START = Time("start", "Earliest open time, Unix ms")
END = Time("end", "Latest open time, Unix ms")


async def ohlc(request: web.Request) -> web.Response:
    """Answer with the candles of a coin, ascending."""
    context, answers = request.app[CONTEXT], request.app[ANSWERS]
    question = ("ohlc", request.rel_url.raw_query_string)
    answer = answers.get(question)
    if answer is None or answer.is_too_old(context.clock.now()):
        parameters = Parameters(request)
        symbol, interval = parameters.read(SYMBOL), parameters.read(INTERVAL)
        limit = parameters.read(LIMIT)
        start, end = parameters.read(START), parameters.read(END)
        if start is not None and end is not None and start > end:
            parameters.wrong("start", f"start {start} is after end {end}")
        max_age_ms = parameters.read(MAX_AGE)
        parameters.check()
        base = bases(context, [symbol])[0]
        pair = context.symbols.by_base.get(base) or Pair(f"{base}USDT", base, "USDT")
        query = CandleQuery(base, pair.symbol, interval, limit, start, end)
        kept = _from_series(context, pair, query, max_age_ms)
        if kept is not None and kept.whole:
            answer = answers.put(question, kept.answer)
        else:
            answer = await _from_sources(asking_of(request), pair, query, max_age_ms, kept)
            answers.share(question, answer)
    return respond(request, context, answer)


@dataclass(frozen=True, slots=True)
class FromSeries:
    """An answer from a kept series; `whole` if it has all candles that were asked for and is young enough."""

    answer: Answer
    whole: bool


def _from_series(context: Context, pair: Pair, query: CandleQuery, max_age_ms: float | None) -> FromSeries | None:
    series = context.exchange.series.get((pair.symbol, query.interval))
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
    return FromSeries(answer, whole) if rows or whole else None


async def _from_sources(
    asking: Asking, pair: Pair, query: CandleQuery, max_age_ms: float | None, kept: FromSeries | None
) -> Answer:
    context = asking.context
    try:
        pool = asking.sources.market.candles
        fetched = await asking.fetch(pool, query, max_age_ms)
    except Refusal as refusal:
        if kept is None or refusal.status == 400:
            raise
        # An old answer is better than none, because the envelope has its age. A tape has no sources to ask.
        answer = kept.answer
        answer.stale = answer.stale or context.sources is not None
        answer.attempts = attempts_of(refusal)
        return answer
    rows = fetched.value.good
    # Closed candles do not age. Candles up to now do: the newest is the last known state of the market.
    up_to_now = query.end is None and (query.start is None or len(rows) < query.limit)
    return asking.answer(
        [(pool, fetched)],
        lambda: [candle_row(row, pair) for row in rows],
        max_age_ms,
        row_ages_ms=[fetched.age_of(rows[-1].ts)] if rows and up_to_now else (),
    )


def candle_row(candle: Candle, pair: Pair) -> shapes.Candle:
    """Return a candle as clients see it. A candle of an aggregator has no pair and is in US dollars."""
    row = candle_data(candle, pair, CandleState.CLOSED if candle.closed else CandleState.LIVE)
    if candle.symbol != pair.symbol:
        row["pair"], row["quote"] = None, "USD"
    if candle.derived_from is not None:
        row["derived_from"] = candle.derived_from
    return row


def _covers(series: CandleSeries, rows: Sequence[Candle], query: CandleQuery) -> bool:
    """Return whether a kept series holds all candles that are asked for."""
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


def _reads(parameters: Parameters, symbols: Symbols) -> list[str]:
    return resolved([topics.ohlcv(parameters.text("symbol"), parameters.text("interval", INTERVAL.default))], symbols)


ENDPOINTS = (
    Endpoint(
        path="/api/market/ohlc",
        handler=ohlc,
        summary="Candles, ascending",
        tag=Tag.MARKET,
        answer=Enveloped[Candles],
        parameters=(SYMBOL, INTERVAL, LIMIT, START, END, MAX_AGE),
        notes="With `start` the first candles since then, else the last ones. Series that are not kept are fetched.",
        reads=_reads,
        asks_sources=True,
        refuses=(404,),
    ),
)

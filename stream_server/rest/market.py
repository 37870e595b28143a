"""Serve `/api/market…`: the table of coins, totals, the coins that are searched for, and prices."""

from collections.abc import Mapping, Sequence

import orjson
from aiohttp import web

from feeds import events, topics
from feeds.fields import Rows
from feeds.identity import NO_MATCHING_SOURCE, Identities
from feeds.model import Coin, Quote
from feeds.queries import EVERYTHING, TABLE, MarketQuery
from feeds.shapes import Coin as CoinRow
from feeds.symbols import Symbols, UnknownSymbolError
from orchestrator.fetched import Fetched
from orchestrator.pool import Pool
from stream_server.access.parameter_kinds import MAX_AGE, Flag, Whole
from stream_server.access.parameters import MAX_NAMES, SHOWN_CHARS, Parameters
from stream_server.context import CONTEXT, Context
from stream_server.delivery.topic_history import NO_UPDATE, TopicHistory
from stream_server.rest.answers import ANSWERS, Answer, answer_of_topics, respond
from stream_server.rest.coins import bases, coin_names, coins_meant, refuse_ambiguous, ticker_of, unknown_symbols
from stream_server.rest.endpoints import Endpoint, Tag
from stream_server.rest.rights import only, resolved
from stream_server.rest.shapes import Enveloped, EnvelopedCoins, EnvelopedPrices, GlobalMarketNow, PriceRow, Trending
from stream_server.rest.source_queries import Asking, asking_of, attempts_of
from stream_server.wire.refusals import Refusal

MAX_COINS = TABLE.limit
LIMIT = Whole("limit", "Maximum number of coins", low=1, high=MAX_COINS, default=100)
TRENDING_LIMIT = Whole("limit", "Maximum number of coins", low=1, high=50, default=50)
MAX_SYMBOLS = 100
"""The most symbols of one question to the market table. Coins outside the largest are fetched in pages of 50."""
SYMBOLS = coin_names(MAX_SYMBOLS)
PRICE_SYMBOLS = coin_names(MAX_NAMES)
STRICT = Flag(
    "strict", "With 1, a ticker shared by several coins is refused with 409; otherwise it means the largest of them"
)

CoinPart = tuple[Pool[MarketQuery, Rows[Coin]], Fetched[Rows[Coin]]]


async def market(request: web.Request) -> web.Response:
    """Answer with the largest coins, or with those of `symbols` in their order."""
    context, asking = request.app[CONTEXT], asking_of(request)
    parameters = Parameters(request)
    limit = parameters.read(LIMIT)
    names = parameters.read(SYMBOLS)
    strict = parameters.read(STRICT)
    max_age_ms = parameters.read(MAX_AGE)
    parameters.check()
    pool = asking.sources.market.table
    table = await asking.fetch(pool, TABLE, max_age_ms)
    if names:
        answer = await _coins_named(asking, names, table, limit, max_age_ms)
        if strict:
            await refuse_ambiguous(asking, names, max_age_ms)
    else:
        coins = table.value.good[:limit]
        answer = asking.answer(
            [(pool, table)],
            lambda: [events.coin_row(coin) for coin in coins],
            max_age_ms,
            row_ages_ms=[table.age_of(coin.ts) for coin in coins],
        )
    return respond(request, context, request.app[ANSWERS].share(("market", limit, *names), answer))


async def _coins_named(
    asking: Asking, names: Sequence[str], table: Fetched[Rows[Coin]], limit: int, max_age_ms: float | None
) -> Answer:
    """Return the rows of these coins: from the table, and for tickers outside it from the sources."""
    context, pool = asking.context, asking.sources.market.table
    parts: list[CoinPart] = [(pool, table)]
    unknown: dict[str, object] = {}
    tickers: dict[str, str] = {}
    for name in names:
        try:
            tickers[name] = ticker_of(context, name)
        except UnknownSymbolError as error:
            unknown[name[:SHOWN_CHARS]] = str(error)
    if unknown:
        raise unknown_symbols(unknown)
    asking.sources.matching.learn_again()
    found = _by_ticker(asking, table)
    beyond = tuple(sorted({ticker for ticker in tickers.values() if ticker not in found}))
    refusal: Refusal | None = None
    if beyond:
        try:
            fetched = await asking.fetch(pool, MarketQuery(MAX_COINS, beyond), max_age_ms)
        except Refusal as error:
            refusal = error
        else:
            parts.append((pool, fetched))
            found |= _by_ticker(asking, fetched)
    wanted = list(dict.fromkeys(tickers.values()))
    coins = [found[ticker] for ticker in wanted if ticker in found][:limit]
    missing = [ticker for ticker in wanted if ticker not in found]
    if not coins and refusal is not None and refusal.status != 404:
        raise refusal
    if not coins:
        raise unknown_symbols({ticker[:SHOWN_CHARS]: _why_missing(asking, ticker) for ticker in missing})
    answer = asking.answer(
        parts,
        lambda: [events.coin_row(coin) for coin, _ in coins],
        max_age_ms,
        row_ages_ms=[part.age_of(coin.ts) for coin, part in coins],
    )
    if missing:
        answer.extra["missing"] = missing
        answer.version += f".{len(missing)}"
    if refusal is not None:
        answer.attempts = [*answer.attempts, *attempts_of(refusal)]
    return answer


def _why_missing(asking: Asking, ticker: str) -> str:
    if asking.context.symbols.known and asking.sources.identities.is_ours(ticker):
        return f"no coin of the sources is known to be the exchange's {ticker} ({NO_MATCHING_SOURCE})"
    return f"no coin goes by {ticker!r}"


def _by_ticker(asking: Asking, part: Fetched[Rows[Coin]]) -> dict[str, tuple[Coin, Fetched[Rows[Coin]]]]:
    """Return the coin that each ticker means, with the answer that it comes from."""
    meant = coins_meant(asking.sources.identities, part.value.good)
    return {ticker: (coin, part) for ticker, coin in meant.items()}


async def market_global(request: web.Request) -> web.Response:
    """Answer with the totals of the whole market, in US dollars."""
    context, asking = request.app[CONTEXT], asking_of(request)
    parameters = Parameters(request)
    max_age_ms = parameters.read(MAX_AGE)
    parameters.check()
    pool = asking.sources.market.totals
    fetched = await asking.fetch(pool, EVERYTHING, max_age_ms)
    value = fetched.value
    answer = asking.answer([(pool, fetched)], lambda: {**events.global_data(value), "ts": value.ts}, max_age_ms)
    return respond(request, context, request.app[ANSWERS].share(("global",), answer))


async def trending(request: web.Request) -> web.Response:
    """Answer with the coins that are searched for most, the most searched first."""
    context, asking = request.app[CONTEXT], asking_of(request)
    parameters = Parameters(request)
    limit = parameters.read(TRENDING_LIMIT)
    max_age_ms = parameters.read(MAX_AGE)
    parameters.check()
    pool = asking.sources.market.trending
    fetched = await asking.fetch(pool, EVERYTHING, max_age_ms)
    coins = fetched.value.good
    answer = asking.answer([(pool, fetched)], lambda: coins[:limit], max_age_ms)
    return respond(request, context, request.app[ANSWERS].share(("trending", limit), answer))


# --- prices ---


async def market_price(request: web.Request) -> web.Response:
    """Answer with last prices, or without `symbols` with all of them, ordered by name.

    The hub's prices come first; sources are asked for the others.
    """
    context, answers = request.app[CONTEXT], request.app[ANSWERS]
    question = ("price", request.rel_url.raw_query_string)
    answer = answers.get(question)
    if answer is None or answer.is_too_old(context.clock.now()):
        parameters = Parameters(request)
        names = parameters.read(PRICE_SYMBOLS)
        strict = parameters.read(STRICT)
        max_age_ms = parameters.read(MAX_AGE)
        parameters.check()
        wanted = bases(context, names)
        if strict:
            await refuse_ambiguous(asking_of(request), names, max_age_ms)
        answer = from_hub(context, wanted, max_age_ms)
        if answer is None:
            answer = await with_quotes(asking_of(request), wanted, max_age_ms)
        elif not strict:
            answer = answers.put(question, answer)
    return respond(request, context, answer)


def from_hub(context: Context, wanted: Sequence[str], max_age_ms: float | None) -> Answer | None:
    """Return the prices that the hub holds; None if one is missing or older than `max_age_ms`."""
    if wanted:
        held = _held(context, wanted, max_age_ms)
    else:
        prices = [topic for topic in context.hub.snapshot(["price.*"]) if topic.event is not None]
        held = sorted(prices, key=lambda topic: topic.name)
    if not held or len(held) < len(wanted):
        return None
    return _of_topics(context, held, max_age_ms)


def _held(context: Context, wanted: Sequence[str], max_age_ms: float | None) -> list[TopicHistory]:
    now = context.clock.now()
    current = context.hub.current_topics()
    found = [current.get(topics.price(base)) for base in wanted]
    return [
        topic
        for topic in found
        if topic is not None and topic.event is not None and (max_age_ms is None or topic.age_ms(now) < max_age_ms)
    ]


def _of_topics(context: Context, held: Sequence[TopicHistory], max_age_ms: float | None) -> Answer:
    now = context.clock.now()
    answer = answer_of_topics(context.hub, held, lambda: orjson.dumps([price_row(topic) for topic in held]), now)
    answer.max_age_ms = max_age_ms
    return answer


async def with_quotes(asking: Asking, wanted: Sequence[str], max_age_ms: float | None) -> Answer:
    """Return the prices of the hub, and from sources those that it lacks. Raises Refusal if there is none at all."""
    context = asking.context
    held = _held(context, wanted, max_age_ms)
    try:
        pool = asking.sources.market.quotes
        fetched = await asking.fetch(pool, EVERYTHING, max_age_ms)
    except Refusal as refusal:
        held = _held(context, wanted, None)  # `respond` refuses those that are too old, with their age
        if not held:
            raise _nothing(context, wanted, refusal, _unmatched(asking, wanted)) from None
        answer = _of_topics(context, held, max_age_ms)
        answer.attempts = attempts_of(refusal)
        quotes: dict[str, Quote] = {}
    else:
        asking.sources.matching.learn_again()
        quotes = quotes_meant(asking.sources.identities, fetched.value.good)
        theirs = [topics.base_of(topic.name) for topic in held]
        given = [base for base in wanted or quotes if base in quotes and base not in theirs]
        ages_ms = [fetched.age_of(quotes[base].ts) for base in given]
        asked = asking.answer([(pool, fetched)], list, max_age_ms, row_ages_ms=ages_ms)
        answer = _both(_of_topics(context, held, max_age_ms), asked) if held else asked
    rows: dict[str, Mapping[str, object]] = {topics.base_of(topic.name) or "": price_row(topic) for topic in held}
    for base in wanted or sorted(quotes):
        if base not in rows and base in quotes:
            rows[base] = quote_row(quotes[base], fetched)
    unmatched = _unmatched(asking, wanted)
    if not rows:
        raise _nothing(context, wanted, None, unmatched)
    missing = [base for base in wanted if base not in rows]
    if missing:
        answer.extra["missing"] = missing
        reasons = {base: NO_MATCHING_SOURCE for base in missing if base in unmatched}
        answer.extra |= {"reasons": reasons} if reasons else {}
    answer.make = lambda: orjson.dumps([rows[base] for base in wanted or rows if base in rows])
    return answer


def _both(held: Answer, asked: Answer) -> Answer:
    """Return the envelope of values of the hub together with values that sources were asked for."""
    return Answer(
        held.make,
        source=",".join(dict.fromkeys((*held.source.split(","), asked.source))),
        true_at=min(held.true_at, asked.true_at),
        stale=held.stale or asked.stale,
        cached=asked.cached,
        attempts=asked.attempts,
        version=f"{held.version}.{asked.version}",
        max_age_ms=held.max_age_ms,
    )


def quotes_meant(identities: Identities, rows: Sequence[Quote]) -> dict[str, Quote]:
    """Return the price that each ticker means, of rows by market cap. A base asset of the exchange means its coin."""
    elsewhere = {row.symbol: row for row in reversed(rows) if not identities.is_ours(row.symbol)}
    return elsewhere | identities.quotes(rows)


def _unmatched(asking: Asking, wanted: Sequence[str]) -> list[str]:
    """Return the base assets of the exchange among these that no source is known to have."""
    identities = asking.context.sources.identities if asking.context.sources is not None else None
    if identities is None:
        return []
    return [base for base in wanted if identities.is_ours(base) and identities.match_of(base) is None]


def _nothing(context: Context, wanted: Sequence[str], refusal: Refusal | None, unmatched: Sequence[str]) -> Refusal:
    symbols = ", ".join(wanted[:20]) or "any symbol"
    message = f"no source has given a price of {symbols} yet{_price_failures(context, refusal)}"
    reasons: dict[str, object] = {"reasons": dict.fromkeys(unmatched, NO_MATCHING_SOURCE)} if unmatched else {}
    if refusal is None:
        return Refusal("unavailable", message, 503, reasons, retry_after_s=5)
    if refusal.code != "unavailable":
        return refusal
    return Refusal("unavailable", message, 503, {**refusal.details, **reasons}, refusal.retry_after_s)


def _price_failures(context: Context, refusal: Refusal | None) -> str:
    """Return why there is no price, in brackets: what fails at the exchange, then at the sources that were asked."""
    exchange = context.supervisor.readiness().get("price")
    causes = [exchange] if exchange not in (None, "value") else []
    causes += [refusal.message] if refusal is not None else []
    return f" ({'; '.join(causes)})" if causes else ""


def price_row(topic: TopicHistory) -> dict[str, object]:
    """Return the last price of a topic with its times, source and state."""
    event = topic.event
    assert event is not None  # noqa: S101 - the caller has looked
    stamps = {"ts": event.ts, "received": event.received, "source": event.source, "stale": topic.stale}
    return {**event.data, **stamps, "reason": topic.stale_reason if topic.stale else None}


def quote_row(quote: Quote, fetched: Fetched[Rows[Quote]]) -> PriceRow:
    """Return a price that a source was asked for, in the same shape."""
    received = fetched.received_ms
    return {
        **events.quote_data(quote),
        "ts": min(quote.ts, received),
        "received": received,
        "source": fetched.source,
        "stale": fetched.stale,
        "reason": NO_UPDATE if fetched.stale else None,
    }


def _reads_prices(parameters: Parameters, symbols: Symbols) -> list[str]:
    named = parameters.read(PRICE_SYMBOLS)
    prices = resolved([topics.price(name) for name in named], symbols) if named else ["price.*"]
    # The error of `strict` names candidates with their prices, which come from the market table.
    return [*prices, topics.MARKET] if parameters.read(STRICT) else prices


ENDPOINTS = (
    Endpoint(
        path="/api/market/price",
        handler=market_price,
        summary="Last prices; all of them without `symbols`",
        tag=Tag.MARKET,
        answer=EnvelopedPrices[list[PriceRow]],
        parameters=(PRICE_SYMBOLS, STRICT, MAX_AGE),
        notes="Prices come from the stream if it has them, else from other sources.",
        reads=_reads_prices,
        asks_sources=True,
        refuses=(404, 409),
    ),
    Endpoint(
        path="/api/market",
        handler=market,
        summary="The largest coins, or those of `symbols` in their order",
        tag=Tag.MARKET,
        answer=EnvelopedCoins[list[CoinRow]],
        parameters=(LIMIT, SYMBOLS, STRICT, MAX_AGE),
        reads=only(topics.MARKET),
        asks_sources=True,
        refuses=(404, 409),
    ),
    Endpoint(
        path="/api/market/global",
        handler=market_global,
        summary="The whole market, in US dollars",
        tag=Tag.MARKET,
        answer=Enveloped[GlobalMarketNow],
        parameters=(MAX_AGE,),
        reads=only(topics.MARKET_GLOBAL),
        asks_sources=True,
    ),
    Endpoint(
        path="/api/market/trending",
        handler=trending,
        summary="The coins that are searched for most, most searched first",
        tag=Tag.MARKET,
        answer=Enveloped[list[Trending]],
        parameters=(TRENDING_LIMIT, MAX_AGE),
        reads=only(topics.MARKET),
        asks_sources=True,
    ),
)

"""Serve `/api/market`, `/global` and `/trending`: the table of coins, totals, and the coins that are searched for."""

from collections.abc import Sequence

from aiohttp import web

from feeds import events, topics
from feeds.fields import Rows
from feeds.identity import NO_MATCHING_SOURCE
from feeds.model import Coin
from feeds.queries import EVERYTHING, TABLE, MarketQuery
from feeds.shapes import Coin as CoinRow
from feeds.symbols import UnknownSymbolError
from orchestrator.fetched import Fetched
from orchestrator.pool import Pool
from stream_server.access.parameter_kinds import MAX_AGE, Whole
from stream_server.access.parameters import SHOWN_CHARS, Parameters
from stream_server.context import CONTEXT
from stream_server.rest.answers import ANSWERS, Answer, respond
from stream_server.rest.coins import STRICT, coin_names, coins_meant, refuse_ambiguous, ticker_of, unknown_symbols
from stream_server.rest.endpoints import Endpoint, Tag
from stream_server.rest.rights import only
from stream_server.rest.shapes import Enveloped, EnvelopedCoins, GlobalMarketNow, Trending
from stream_server.rest.source_queries import Asking, asking_of, attempts_of
from stream_server.wire.refusals import Refusal

MAX_COINS = TABLE.limit
LIMIT = Whole("limit", "Maximum number of coins", low=1, high=MAX_COINS, default=100)
TRENDING_LIMIT = Whole("limit", "Maximum number of coins", low=1, high=50, default=50)
MAX_SYMBOLS = 100
"""The most symbols of one question to the market table. Coins outside the largest are fetched in pages of 50."""
SYMBOLS = coin_names(MAX_SYMBOLS)

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


ENDPOINTS = (
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

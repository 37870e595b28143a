"""`/api/new-sources/…`: what Crypto API Clean and Crypto DT Source have, in our shapes, alone and with a fallback.

Whether a source is well is a question of its own: its health is told with a 200, whatever it is.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import orjson
from aiohttp import web

from feeds import dt_requests, events, topics
from feeds.catalog import CATALOGUE, EVERYTHING, HEALTH, STATS
from feeds.dt_requests import DtQuery
from feeds.model import Pair, Resource
from feeds.providers import crypto_api_clean, crypto_dt_source
from orchestrator.pool import Fetched, Pool
from orchestrator.recent import Recent
from stream_server.access.parameters import SHOWN_CHARS, Parameters, only_max_age
from stream_server.context import CONTEXT, Context
from stream_server.rest.answers import OURS, VIEWS, Answer, respond
from stream_server.rest.candles import candle_row
from stream_server.rest.coins import bases
from stream_server.rest.market import from_hub, quote_row, quotes_meant, with_quotes
from stream_server.rest.sentiment import MAX_TEXT_CHARS, index_with_history, scored
from stream_server.rest.source_queries import Asking, asking_of, attempts_of
from stream_server.wire.refusals import Refusal

CLEAN, DT = "/api/new-sources/crypto-api-clean", "/api/new-sources/crypto-dt-source"
HEALTH_WITHIN_S = 8.0
TEST_WITHIN_S = 15.0
TESTED_FOR_S = 60.0
MAX_ROWS = 1000
_SUBREDDIT = re.compile(r"[A-Za-z0-9_]{2,21}")


# --- Crypto API Clean ---


async def clean_health(request: web.Request) -> web.Response:
    """`GET …/crypto-api-clean/health`: whether the server answers, and what is held of its catalogue."""
    return await _health(request, _health_of_clean)


async def _health_of_clean(asking: Asking, max_age_ms: float | None) -> tuple[dict[str, object], Answer]:
    sources = asking.sources
    pool = sources.clean_facts
    facts: dict[str, object] = {"answers": True, "status": None, "reason": None}
    try:
        fetched = await asking.fetch(pool, HEALTH, max_age_ms, within_s=HEALTH_WITHIN_S)
    except Refusal as refusal:
        facts |= {"answers": False, "reason": refusal.message}
        answer = _of_refusal(asking, refusal, crypto_api_clean.NAME)
    else:
        answer = asking.answer([(pool, fetched)], dict)
        if isinstance(fetched.value, crypto_api_clean.Health):
            facts["status"] = fetched.value.status
        facts["answers"] = not fetched.stale
    held = sources.catalogue.peek(CATALOGUE)
    if held is None and facts["answers"]:
        try:
            held = await asking.fetch(sources.catalogue, CATALOGUE, within_s=HEALTH_WITHIN_S)
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
    page = _Page(parameters)
    max_age_ms = parameters.max_age_ms()
    parameters.check()
    pool = asking.sources.catalogue
    fetched = await asking.fetch(pool, CATALOGUE, max_age_ms)
    rows = page.of(fetched.value)
    answer = asking.answer([(pool, fetched)], lambda: page.cut(rows), max_age_ms, total=len(rows))
    return respond(request, asking.context, request.app[VIEWS].share(("resources", *page.question), answer))


async def _catalogue(request: web.Request, data_of: Callable[[Sequence[Resource]], object]) -> web.Response:
    asking = asking_of(request)
    parameters = Parameters(request)
    max_age_ms = parameters.max_age_ms()
    parameters.check()
    pool = asking.sources.catalogue
    fetched = await asking.fetch(pool, CATALOGUE, max_age_ms)
    answer = asking.answer([(pool, fetched)], lambda: data_of(fetched.value), max_age_ms)
    return respond(request, asking.context, request.app[VIEWS].share((request.path,), answer))


def _counts(resources: Sequence[Resource]) -> dict[str, int]:
    """How many resources each category has, in the catalogue's order."""
    return dict(Counter(each.category for each in resources))


class _Page:
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


# --- Crypto DT Source ---


async def dt_health(request: web.Request) -> web.Response:
    """`GET …/crypto-dt-source/health`: whether it answers, and what it says it is."""
    return await _health(request, _health_of_dt)


async def _health_of_dt(asking: Asking, max_age_ms: float | None) -> tuple[dict[str, object], Answer]:
    sources = asking.sources
    pool = sources.dt_requests
    facts: dict[str, object] = {"service": None, "version": None, "endpoints": None}
    try:
        fetched = await asking.fetch(pool, DtQuery("health"), max_age_ms, within_s=HEALTH_WITHIN_S)
    except Refusal as refusal:
        answer = _of_refusal(asking, refusal, crypto_dt_source.NAME)
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
    pool = asking.sources.dt_requests
    query = question()
    fetched = await asking.fetch(pool, query, max_age_ms)
    answer = asking.answer(
        [(pool, fetched)],
        lambda: data_of(fetched.value, fetched),
        max_age_ms,
        row_ages_ms=[fetched.age_of(stamp_ms) for stamp_ms in stamps_of(fetched.value)],
    )
    return respond(request, asking.context, request.app[VIEWS].share((query, *cut), answer))


# --- both, with a fallback ---


async def unified_prices(request: web.Request) -> web.Response:
    """`GET …/prices/unified?symbols=BTC&limit=100`: from the stream, else asked for; the most traded first."""
    asking = asking_of(request)
    context = asking.context
    parameters = Parameters(request)
    names = parameters.names("symbols")
    limit = parameters.whole("limit", 1, 500, 100)
    max_age_ms = parameters.max_age_ms()
    parameters.check()
    wanted = bases(context, names) or _most_traded(context)
    if not wanted:
        fetched = await asking.fetch(asking.sources.quotes, EVERYTHING, max_age_ms)
        wanted = list(quotes_meant(asking.sources.identities, fetched.value.good))
    wanted = wanted[:limit]
    answer = from_hub(context, wanted, max_age_ms) or await with_quotes(asking, wanted, max_age_ms)
    return respond(request, context, answer)


def _most_traded(context: Context) -> list[str]:
    """The bases that the hub has a price of, by what was traded of them."""
    volumes: dict[str, float] = {}
    for topic in context.hub.current_topics().values():
        if topic.event is not None and topics.category_of(topic.name) == "price":
            volume = topic.event.data.get("quote_volume_24h")
            volumes[topics.base_of(topic.name) or ""] = volume if isinstance(volume, float) else 0.0
    return sorted(volumes, key=lambda base: (-volumes[base], base))


async def unified_resources(request: web.Request) -> web.Response:
    """`GET …/resources/unified?category=&limit=&offset=`: the catalogue; without it the sources of this service."""
    asking = asking_of(request)
    parameters = Parameters(request)
    page = _Page(parameters)
    max_age_ms = parameters.max_age_ms()
    parameters.check()
    pool = asking.sources.catalogue
    try:
        fetched = await asking.fetch(pool, CATALOGUE, max_age_ms, within_s=HEALTH_WITHIN_S)
    except Refusal as refusal:
        rows = page.of(own_resources(asking))
        answer = _of_refusal(asking, refusal, OURS)
        answer.make = lambda: orjson.dumps(page.cut(rows))
    else:
        rows = page.of(fetched.value)
        answer = asking.answer([(pool, fetched)], lambda: page.cut(rows), max_age_ms)
    answer.extra["total"] = len(rows)
    return respond(request, asking.context, answer)


OWN: Mapping[str, tuple[str, str, str, str]] = {
    "binance": ("market_data_apis", "Binance", "none", "https://developers.binance.com/docs/binance-spot-api-docs"),
    "coingecko": ("market_data_apis", "CoinGecko", "apiKeyHeaderOptional", "https://docs.coingecko.com"),
    "coingecko_pro": ("market_data_apis", "CoinGecko Pro", "apiKeyHeader", "https://docs.coingecko.com"),
    "alternative_me": ("sentiment_apis", "Alternative.me", "none", "https://alternative.me/crypto/fear-and-greed-index"),
    "etherscan": ("block_explorers", "Etherscan", "apiKeyQuery", "https://docs.etherscan.io"),
    "etherscan_backup": ("block_explorers", "Etherscan, backup key", "apiKeyQuery", "https://docs.etherscan.io"),
    "ethereum_rpc": ("rpc_nodes", "Public nodes of Ethereum", "none", "https://ethereum.org/developers/docs/apis/json-rpc"),
    "blockscout": ("block_explorers", "Blockscout", "none", "https://docs.blockscout.com"),
    "cryptopanic": ("news_apis", "CryptoPanic", "apiKeyQuery", "https://cryptopanic.com/developers/api"),
    "newsapi": ("news_apis", "NewsAPI", "apiKeyHeader", "https://newsapi.org/docs"),
    "reddit": ("community_sentiment_apis", "Reddit", "oauth", "https://www.reddit.com/dev/api"),
    "huggingface": ("hf_resources", "Hugging Face", "bearer", "https://huggingface.co/docs/inference-providers"),
    "crypto_api_clean": ("catalogues", "Crypto API Clean", "none", f"{crypto_api_clean.BASE_URL}/docs"),
    "crypto_dt_source": ("market_data_apis", "Crypto DT Source", "none", "https://github.com/nimazasinich/crypto-dt-source"),
}  # fmt: skip
"""Our own sources, by provider: category, name, what it wants to be let in, documentation."""


def own_resources(asking: Asking) -> list[Resource]:
    """The sources of this service as a catalogue; of addresses only the host, for they may hold keys."""
    rows = []
    for name, upstream in asking.sources.upstreams.items():
        if upstream.hosts is None:
            continue
        host = upstream.hosts.all[0]
        outlet = name.partition(":")[2]
        category, title, auth, docs = OWN.get(name, ("news_apis", outlet or name, "none", ""))
        scheme = host.url.partition("://")[0]
        rows.append(Resource(category, name, title, f"{scheme}://{host.name}", auth, docs or None, None, None))
    return rows


async def sources_status(request: web.Request) -> web.Response:
    """`GET /api/new-sources/status`: how the two sources do, by their own word and by our experience."""
    asking = asking_of(request)
    max_age_ms = only_max_age(request)
    sources = asking.sources
    (clean, of_clean), (dt, of_dt) = await asyncio.gather(
        _health_of_clean(asking, max_age_ms), _health_of_dt(asking, max_age_ms)
    )
    data = {
        crypto_api_clean.NAME: {**clean, "provider": sources.upstreams[crypto_api_clean.NAME].report()},
        crypto_dt_source.NAME: {**dt, "provider": sources.upstreams[crypto_dt_source.NAME].report()},
    }
    answer = Answer(
        lambda: orjson.dumps(data),
        source=OURS,
        true_at=min(of_clean.true_at, of_dt.true_at),
        cached=of_clean.cached or of_dt.cached,
        max_age_ms=max_age_ms,
    )
    return respond(request, asking.context, answer)


async def _health(request: web.Request, health_of: Callable[[Asking, float | None], Any]) -> web.Response:
    asking = asking_of(request)
    max_age_ms = only_max_age(request)
    data, answer = await health_of(asking, max_age_ms)
    answer.make = lambda: orjson.dumps(data)
    answer.version = ""
    answer.max_age_ms = max_age_ms
    return respond(request, asking.context, answer)


def _of_refusal(asking: Asking, refusal: Refusal, source: str) -> Answer:
    """What the envelope says of an answer that is not the source's own. The data are for the caller to put in."""
    return Answer(
        lambda: b"null",
        source=source,
        true_at=asking.context.clock.now(),
        cached=False,
        attempts=attempts_of(refusal),
    )


# --- all of them at once ---


class Trial:
    """Asks every endpoint of the two sources once, at most once a minute unless a client wants it newer."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.recent: Recent[str, tuple[list[dict[str, object]], float]] = Recent(TESTED_FOR_S, 1, context.clock)

    async def test_all(self, request: web.Request) -> web.Response:
        """`GET /api/new-sources/test-all`: for each endpoint its outcome and how long it took."""
        asking = asking_of(request)
        max_age_ms = only_max_age(request)
        within_s = TESTED_FOR_S if max_age_ms is None else min(TESTED_FOR_S, max_age_ms / 1000)
        cached = self.recent.fresh("all", within_s) is not None
        rows, tested_at = await self.recent.get("all", lambda: self._ask_all(asking, within_s), within_s)
        good = sum(1 for row in rows if row["outcome"] == "ok")
        answer = Answer(
            lambda: orjson.dumps({"ok": good, "failed": len(rows) - good, "endpoints": rows}),
            source=OURS,
            true_at=tested_at,
            cached=cached,
            max_age_ms=max_age_ms,
        )
        return respond(request, self.context, answer)

    async def _ask_all(self, asking: Asking, within_s: float) -> tuple[list[dict[str, object]], float]:
        """The outcomes, and when the first of them may have been. An answer received `within_s` counts as one."""
        sources, began = asking.sources, self.context.clock.now()
        questions: list[tuple[str, Pool[Any, Any], object, float]] = [
            (f"{CLEAN}/health", sources.clean_facts, HEALTH, within_s),
            (f"{CLEAN}/stats", sources.clean_facts, STATS, within_s),
            # One call for each of its categories: once an hour will do.
            (f"{CLEAN}/resources", sources.catalogue, CATALOGUE, 3600.0),
            *((f"{DT}/{query.what}", sources.dt_requests, query, within_s) for query in SAMPLES),
        ]
        rows = await asyncio.gather(*(self._ask(asking, *question) for question in questions))
        return list(rows), began

    async def _ask(
        self, asking: Asking, endpoint: str, pool: Pool[Any, Any], query: object, received_s: float
    ) -> dict[str, object]:
        clock = self.context.clock
        started = clock.now()
        outcome, reason, cached = "ok", None, False
        try:
            cached = (await asking.fetch(pool, query, within_s=TEST_WITHIN_S, received_s=received_s)).cached
        except Refusal as refusal:
            outcomes = [str(attempt["outcome"]) for attempt in attempts_of(refusal)]
            outcome = outcomes[-1] if outcomes else OUTCOMES.get(refusal.code, refusal.code)
            reason = refusal.message
        return {
            "endpoint": endpoint,
            "outcome": outcome,
            "reason": reason,
            "latency_ms": round((clock.now() - started) * 1000, 1),
            "cached": cached,
        }


OUTCOMES = {"deadline": "timeout", "unavailable": "disabled", "bad_parameter": "bad_query"}
"""What a refusal of ours without attempts says of an endpoint."""
SAMPLES = (
    DtQuery("health"),
    DtQuery("status"),
    DtQuery("prices", symbols=("BTC", "ETH")),
    DtQuery("klines", symbols=("BTC",), limit=10),
    DtQuery("fear-greed", limit=1),
    DtQuery("sentiment", text="Bitcoin climbs to a new high"),
    DtQuery("reddit", name="cryptocurrency", limit=5),
    DtQuery("news", name=dt_requests.LATEST, limit=5),
    DtQuery("models"),
    DtQuery("datasets"),
)
"""One question of each kind."""


def add_routes(app: web.Application) -> None:
    """Mount the endpoints."""
    trial = Trial(app[CONTEXT])
    for path, handler in {
        f"{CLEAN}/health": clean_health,
        f"{CLEAN}/stats": clean_stats,
        f"{CLEAN}/resources": clean_resources,
        f"{CLEAN}/categories": clean_categories,
        f"{DT}/health": dt_health,
        f"{DT}/status": dt_status,
        f"{DT}/prices": dt_prices,
        f"{DT}/klines": dt_klines,
        f"{DT}/fear-greed": dt_fear_greed,
        f"{DT}/sentiment": dt_sentiment,
        f"{DT}/reddit": dt_reddit,
        f"{DT}/news": dt_news,
        f"{DT}/models": dt_models,
        f"{DT}/datasets": dt_datasets,
        "/api/new-sources/prices/unified": unified_prices,
        "/api/new-sources/resources/unified": unified_resources,
        "/api/new-sources/status": sources_status,
        "/api/new-sources/test-all": trial.test_all,
    }.items():
        app.router.add_get(path, handler)

"""Serve `/api/new-sources/…/unified`: prices and resources from all sources, with a fallback."""

from collections.abc import Mapping

import orjson
from aiohttp import web

from feeds import topics
from feeds.model import Resource
from feeds.providers import crypto_api_clean
from feeds.queries import CATALOGUE, EVERYTHING
from stream_server.access.parameter_kinds import MAX_AGE, Whole
from stream_server.access.parameters import Parameters
from stream_server.context import Context
from stream_server.rest.answers import OURS, respond
from stream_server.rest.coins import bases
from stream_server.rest.endpoints import Endpoint, Tag
from stream_server.rest.new_sources.crypto_api_clean import CATEGORY, LIMIT, OFFSET, Page
from stream_server.rest.new_sources.health import HEALTH_WITHIN_S
from stream_server.rest.prices import SYMBOLS, from_hub, quotes_meant, with_quotes
from stream_server.rest.shapes import EnvelopedPage, EnvelopedPrices, PriceRow
from stream_server.rest.shapes import Resource as ResourceRow
from stream_server.rest.source_queries import Asking, asking_of
from stream_server.wire.refusals import Refusal

PRICE_LIMIT = Whole("limit", "Maximum number of prices", low=1, high=500, default=100)


async def unified_prices(request: web.Request) -> web.Response:
    """Answer with prices, the most traded first: from the stream, else from the sources."""
    asking = asking_of(request)
    context = asking.context
    parameters = Parameters(request)
    names = parameters.read(SYMBOLS)
    limit = parameters.read(PRICE_LIMIT)
    max_age_ms = parameters.read(MAX_AGE)
    parameters.check()
    wanted = bases(context, names) or _most_traded(context)
    if not wanted:
        fetched = await asking.fetch(asking.sources.market.quotes, EVERYTHING, max_age_ms)
        wanted = list(quotes_meant(asking.sources.identities, fetched.value.good))
    wanted = wanted[:limit]
    answer = from_hub(context, wanted, max_age_ms) or await with_quotes(asking, wanted, max_age_ms)
    return respond(request, context, answer)


def _most_traded(context: Context) -> list[str]:
    """Return the base assets whose prices the hub holds, the most traded first."""
    volumes: dict[str, float] = {}
    for topic in context.hub.current_topics().values():
        if topic.event is not None and topics.category_of(topic.name) == "price":
            volume = topic.event.data.get("quote_volume_24h")
            volumes[topics.base_of(topic.name) or ""] = volume if isinstance(volume, float) else 0.0
    return sorted(volumes, key=lambda base: (-volumes[base], base))


async def unified_resources(request: web.Request) -> web.Response:
    """Answer with the catalogue, or if it is unavailable with the sources of this service."""
    asking = asking_of(request)
    parameters = Parameters(request)
    page = Page(parameters)
    max_age_ms = parameters.read(MAX_AGE)
    parameters.check()
    pool = asking.sources.catalogues.resources
    try:
        fetched = await asking.fetch(pool, CATALOGUE, max_age_ms, within_s=HEALTH_WITHIN_S)
    except Refusal as refusal:
        rows = page.of(own_resources(asking))
        answer = asking.without_source(refusal, OURS)
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
"""The sources of this service by provider: category, name, kind of authentication, documentation."""


def own_resources(asking: Asking) -> list[Resource]:
    """Return the sources of this service as a catalogue. Addresses are cut to the host, because they may hold keys."""
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


ENDPOINTS = (
    Endpoint(
        path="/api/new-sources/prices/unified",
        handler=unified_prices,
        summary="Prices from all sources that have them, most traded first",
        tag=Tag.SOURCES,
        answer=EnvelopedPrices[list[PriceRow]],
        parameters=(SYMBOLS, PRICE_LIMIT, MAX_AGE),
        asks_sources=True,
        refuses=(404,),
    ),
    Endpoint(
        path="/api/new-sources/resources/unified",
        handler=unified_resources,
        summary="The catalogue; if it is unavailable, the sources of this service",
        tag=Tag.SOURCES,
        answer=EnvelopedPage[list[ResourceRow]],
        parameters=(CATEGORY, LIMIT, OFFSET, MAX_AGE),
        asks_sources=True,
        refuses=(404,),
    ),
)

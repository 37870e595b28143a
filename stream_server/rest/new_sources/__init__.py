"""`/api/new-sources/…`: Crypto API Clean and Crypto DT Source in the shapes of this API, alone and with a fallback."""

from aiohttp import web

from stream_server.context import CONTEXT
from stream_server.rest.new_sources import crypto_api_clean, crypto_dt_source, status, unified


def add_routes(app: web.Application) -> None:
    """Mount the endpoints."""
    check = status.EndpointCheck(app[CONTEXT])
    clean, dt = crypto_api_clean.PREFIX, crypto_dt_source.PREFIX
    for path, handler in {
        f"{clean}/health": crypto_api_clean.clean_health,
        f"{clean}/stats": crypto_api_clean.clean_stats,
        f"{clean}/resources": crypto_api_clean.clean_resources,
        f"{clean}/categories": crypto_api_clean.clean_categories,
        f"{dt}/health": crypto_dt_source.dt_health,
        f"{dt}/status": crypto_dt_source.dt_status,
        f"{dt}/prices": crypto_dt_source.dt_prices,
        f"{dt}/klines": crypto_dt_source.dt_klines,
        f"{dt}/fear-greed": crypto_dt_source.dt_fear_greed,
        f"{dt}/sentiment": crypto_dt_source.dt_sentiment,
        f"{dt}/reddit": crypto_dt_source.dt_reddit,
        f"{dt}/news": crypto_dt_source.dt_news,
        f"{dt}/models": crypto_dt_source.dt_models,
        f"{dt}/datasets": crypto_dt_source.dt_datasets,
        "/api/new-sources/prices/unified": unified.unified_prices,
        "/api/new-sources/resources/unified": unified.unified_resources,
        "/api/new-sources/status": status.sources_status,
        "/api/new-sources/test-all": check.test_all,
    }.items():
        app.router.add_get(path, handler)

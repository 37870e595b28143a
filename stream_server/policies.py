"""What the settings mean for the lower modules, which know policies of their own and not the settings."""

from collections.abc import Callable

from feeds import topics
from feeds.paces import Paces
from feeds.upstreams import SourcesPolicy
from orchestrator.clock import Clock
from stream_server.access.addresses import CONNECTIONS_PER_IP, REST_RATE_PER_S
from stream_server.access.jwks import KeyFile
from stream_server.access.tokens import Access
from stream_server.delivery.hub import HubPolicy
from stream_server.observing import memory_limit
from stream_server.settings import API_KEYS, Settings


def hub_policy(settings: Settings) -> HubPolicy:
    """Return how long values are good, and what is held for slow clients."""
    return HubPolicy(
        _ttl_of(settings),
        settings.ring_events,
        settings.outbox_bytes,
        settings.stall_s,
        settings.idle_topic_s,
        memory_limit.outboxes_within(settings.outbox_total_bytes, memory_limit.limit_bytes()),
    )


def _ttl_of(settings: Settings) -> Callable[[str], float | None]:
    """Return how long a value of each topic is good: until three polls at the idle pace have brought no other.

    Every value ages except `status`, which this process itself keeps true, and `news`, whose events do not replace
    each other.
    """
    paces = Paces(settings.market_poll_s, settings.news_poll_s, settings.sentiment_poll_s, settings.gas_poll_s)

    def ttl_s(topic: str) -> float | None:
        if topics.category_of(topic) in (topics.STATUS, topics.NEWS):
            return None
        return max(settings.snapshot_ttl_s, paces.good_for_s(topic))

    return ttl_s


def connections_per_address(settings: Settings) -> int:
    """Return the most connections of one address; 0 means no limit."""
    return CONNECTIONS_PER_IP if settings.max_connections_per_ip is None else settings.max_connections_per_ip


def requests_per_address(settings: Settings) -> float:
    """Return the requests per second of one address; 0 means no limit."""
    return REST_RATE_PER_S if settings.rest_rate_per_s is None else settings.rest_rate_per_s


def sources_policy(settings: Settings) -> SourcesPolicy:
    """Return where the sources are, with which keys, and how often they are asked."""
    return SourcesPolicy(
        urls={
            "coingecko": settings.coingecko_url,
            "coingecko_pro": settings.coingecko_pro_url,
            "cryptopanic": settings.cryptopanic_url,
            "newsapi": settings.newsapi_url,
            "alternative_me": settings.alternative_me_url,
            "etherscan": settings.etherscan_url,
            "ethereum_rpc": settings.eth_rpc_urls,
            "blockscout": settings.blockscout_url,
            "reddit": settings.reddit_url,
            "crypto_api_clean": settings.crypto_api_clean_url,
            "crypto_dt_source": settings.crypto_dt_source_url,
            "huggingface": settings.hf_inference_url,
        },
        rss_feeds=settings.rss_feeds,
        keys={name.upper(): getattr(settings, name) for name in API_KEYS},
        market_poll_s=settings.market_poll_s,
        news_poll_s=settings.news_poll_s,
        sentiment_poll_s=settings.sentiment_poll_s,
        gas_poll_s=settings.gas_poll_s,
        cache_ttl_s=settings.cache_ttl_s,
        stale_if_error_s=settings.stale_if_error_s,
    )


def access_of(settings: Settings, clock: Clock) -> Access:
    """Return who may read. Raises: ValueError if the key file cannot be read."""
    return Access(
        settings.auth_tokens or {},
        settings.auth_jwt_secret,
        clock,
        KeyFile(settings.auth_jwks_file) if settings.auth_jwks_file is not None else None,
        settings.auth_jwt_audience,
        settings.auth_jwt_issuer,
        settings.auth_jwt_endless,
    )

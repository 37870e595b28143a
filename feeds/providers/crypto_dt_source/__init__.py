"""Crypto DT Source: a free proxy of CoinGecko, Binance, Alternative.me, Reddit, RSS and text models. Pure.

Its author's client and its server name parameters differently, and a server ignores those it does not know. So both
spellings are sent, and an answer counts only if it proves to be the one that was asked for. It says 0 for what it does
not know, and stamps prices with its own clock: such a stamp is the latest the value can be true of. It fails when its
sources fail, with old values before that, and sleeps when nobody asks: the last resort.

Source: the server's own code (nimazasinich/crypto-dt-source, `direct_api`), as of December 2025.
"""

from feeds.providers.crypto_dt_source.answers import NAME, refusal
from feeds.providers.crypto_dt_source.articles import (
    FEEDS,
    PERIODS,
    latest_news,
    news,
    reddit_new,
    reddit_top,
    rss,
    rss_all,
)
from feeds.providers.crypto_dt_source.candles import INTERVALS, MAX_CANDLES, candles, serves
from feeds.providers.crypto_dt_source.itself import datasets, models, service, status
from feeds.providers.crypto_dt_source.prices import IDS, MAX_COINS, all_quotes, markets, quotes, trending
from feeds.providers.crypto_dt_source.sentiment import MODELS, fear_greed, sentiment, sentiment_batch

__all__ = [
    "FEEDS",
    "IDS",
    "INTERVALS",
    "MAX_CANDLES",
    "MAX_COINS",
    "MODELS",
    "NAME",
    "PERIODS",
    "all_quotes",
    "candles",
    "datasets",
    "fear_greed",
    "latest_news",
    "markets",
    "models",
    "news",
    "quotes",
    "reddit_new",
    "reddit_top",
    "refusal",
    "rss",
    "rss_all",
    "sentiment",
    "sentiment_batch",
    "serves",
    "service",
    "status",
    "trending",
]

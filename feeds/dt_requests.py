"""The questions to Crypto DT Source alone, beside the pools in which it is one of several providers."""

from dataclasses import dataclass
from typing import Any

from feeds.providers import crypto_dt_source as dt
from feeds.queries import CandleQuery
from orchestrator.errors import BadQuery
from orchestrator.provider import Steps

NEWEST = "new"
"""The period that stands for Reddit's newest posts, which are not ranked by votes."""
PERIODS = (NEWEST, *dt.PERIODS)
LATEST, ALL_FEEDS = "latest", "all"
FEEDS = (LATEST, ALL_FEEDS, *dt.FEEDS)


@dataclass(frozen=True, slots=True)
class DtQuery:
    """A question. `what` names its kind, and each kind reads the fields that it needs."""

    what: str
    symbols: tuple[str, ...] = ()
    interval: str = "1h"
    limit: int = 1
    text: str = ""
    model: str = dt.MODELS[0]
    name: str = ""
    """The name of a subreddit or feed."""
    period: str = "day"


def ask(query: DtQuery) -> Steps[Any]:
    """Ask what `query.what` names. Raises as the functions of `feeds.providers.crypto_dt_source`."""
    match query.what:
        case "health":
            return dt.service()
        case "status":
            return dt.status()
        case "prices":
            return dt.quotes(query.symbols)
        case "klines":
            base = query.symbols[0]
            return dt.candles(CandleQuery(base, f"{base}USDT", query.interval, query.limit))
        case "fear-greed":
            return dt.fear_greed(query.limit)
        case "sentiment":
            return dt.sentiment(query.text, query.model)
        case "reddit" if query.period == NEWEST:
            return dt.reddit_new(query.name, query.limit)
        case "reddit":
            return dt.reddit_top(query.name, query.period, query.limit)
        case "news" if query.name == LATEST:
            return dt.latest_news(query.limit)
        case "news" if query.name == ALL_FEEDS:
            return dt.rss_all(query.limit)
        case "news":
            return dt.rss(query.name, query.limit)
        case "models":
            return dt.models()
        case "datasets":
            return dt.datasets()
    raise BadQuery(dt.NAME, f"no question {query.what[:40]!r}")

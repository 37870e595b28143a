"""NewsAPI: what to ask, and how to read the answer. Pure.

It knows all news, so the question names what crypto is. The free plan gives yesterday's articles, 50 questions in
12 hours, for development only.

Source: newsapi.org/docs, "Everything" and "Errors".
"""

from urllib.parse import urlsplit

from feeds.fields import Rows, mapping, maybe_iso_ms, maybe_mapping, maybe_text
from feeds.model import Article
from feeds.news.articles import NewsQuery, article, newest, outlet_name, some_articles
from feeds.news.coins import NAMES
from feeds.news.plain_text import READ_AT_MOST
from feeds.news.urls import MAX_URL
from orchestrator import http
from orchestrator.errors import BadQuery, Malformed, ProviderError, RateLimited, Unauthorized, Unavailable
from orchestrator.http import HttpRequest, HttpResponse, json_body, maybe_json
from orchestrator.provider import Steps
from orchestrator.retry import retry_after_s

NAME = "newsapi"
MAX_ARTICLES = 100
CRYPTO = "bitcoin OR ethereum OR cryptocurrency"
WINDOW_S = 12 * 3600
"""The free plan's allowance is counted by the half day."""
SMALL_BODY = 4096

SORTS = {"latest": "publishedAt", "hot": "popularity", "important": "relevancy"}

KEY_CODES = ("apiKeyInvalid", "apiKeyMissing", "apiKeyDisabled", "corsNotAllowed", "upgradeRequired")
TOO_FAST, USED_UP = "rateLimited", "apiKeyExhausted"
QUERY_CODES = (
    "maximumResultsReached",
    "parameterInvalid",
    "parametersMissing",
    "parametersIncompatible",
    "sourcesTooMany",
    "sourceDoesNotExist",
    "sourcesDoesntExist",
)


class NewsApi:
    """An account with NewsAPI."""

    def __init__(self, key: str) -> None:
        self.key = key

    def articles(self, query: NewsQuery) -> Steps[Rows[Article]]:
        """Ask for articles in English on crypto, or on one coin, newest first. One request.

        Raises: Malformed; whatever an error inside a 200 means.
        """
        params = {
            "q": CRYPTO if query.symbol is None else _named(query.symbol),
            "searchIn": "title,description",
            "language": "en",
            "sortBy": SORTS.get(query.filter, "publishedAt"),
            "pageSize": str(max(1, min(query.limit, MAX_ARTICLES))),
        }
        response = yield HttpRequest("/everything", params, headers={"X-Api-Key": self.key})
        return newest(read_articles(response), query)


def _named(symbol: str) -> str:
    name = next((name for name, each in NAMES.items() if each == symbol), None)
    return f'"{name}"' if name is not None else f'"{symbol}" AND crypto'


def read_articles(response: HttpResponse) -> Rows[Article]:
    """Read the body of `/everything` or `/top-headlines`. Withdrawn articles are left out.

    Raises: Malformed if it holds no list of articles, or the error it says instead.
    """
    body = json_body(NAME, response)
    error = _spoken(NAME, body, response)
    if error is not None:
        raise error
    found = body.get("articles") if isinstance(body, dict) else None
    if not isinstance(found, list):
        raise Malformed(NAME, "no list of articles")
    return some_articles(NAME, found, lambda row: _article(row, response.received_ms))


def _article(row: object, received_ms: int) -> Article | None:
    fields = mapping(row)
    source = maybe_mapping(fields, "source")
    url = maybe_text(fields, "url", MAX_URL + 1)
    host = _host(url or "")
    if host == "removed.com":
        return None  # withdrawn
    return article(
        title=maybe_text(fields, "title", READ_AT_MOST),
        url=url,
        outlet=outlet_name(maybe_text(source, "name"), host, NAME),
        kind="news",
        published_ms=maybe_iso_ms(fields, "publishedAt"),
        received_ms=received_ms,
        summary=maybe_text(fields, "description", READ_AT_MOST),
    )


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def refusal(provider: str, response: HttpResponse) -> ProviderError | None:
    """Return the error of an answer, sharpened by the code its body gives."""
    error = http.refusal(provider, response)
    spoken = _spoken(provider, maybe_json(response, SMALL_BODY), response)
    if spoken is not None:
        return spoken
    if isinstance(error, RateLimited) and error.retry_after_s is None:
        return RateLimited(provider, next_window_s(response))
    return error


def _spoken(provider: str, body: object, response: HttpResponse) -> ProviderError | None:
    """Return what `{"status": "error", "code": …}` means; None if the body is no such thing."""
    if not isinstance(body, dict) or body.get("status") != "error":
        return None
    code = body.get("code")
    if code in KEY_CODES:
        return Unauthorized(provider, str(code))
    if code == USED_UP:
        return RateLimited(provider, next_window_s(response))
    if code == TOO_FAST:
        after, date = response.headers.get("retry-after"), response.headers.get("date")
        asked_s = retry_after_s(after, date, response.received_ms)
        window_s = next_window_s(response)
        return RateLimited(provider, window_s if asked_s is None else min(asked_s, window_s))
    if code in QUERY_CODES:
        return BadQuery(provider, str(code))
    return Unavailable(provider, "an error without a known code")


def next_window_s(response: HttpResponse) -> float:
    """Return the seconds from the answer to the next noon or midnight, UTC, by the sender's clock where it is known."""
    now_s = (response.received_ms if response.date_ms is None else response.date_ms) // 1000
    return float(WINDOW_S - now_s % WINDOW_S)

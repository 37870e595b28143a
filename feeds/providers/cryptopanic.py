"""CryptoPanic v2: what to ask, and how to read the answer. Pure, and for whom has a paid token.

How much a row tells depends on the plan: the low ones give neither id nor link, outlet or votes. The plan is part of
the path, and the token, which is a query parameter, comes back in the answer's `next`, which is not read.

Source: client libraries and project notes of 2025-26; the official page could not be read.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from feeds.fields import Rows, mapping, maybe_iso_ms, maybe_mapping, maybe_text, maybe_whole
from feeds.model import Article
from feeds.news.articles import NewsQuery, article, newest, outlet_name, some_articles
from feeds.news.plain_text import READ_AT_MOST
from feeds.news.urls import MAX_URL
from orchestrator import http, repairs
from orchestrator.errors import Blocked, Malformed, NotFound, ProviderError, RateLimited, Unauthorized, Unavailable
from orchestrator.http import HttpRequest, HttpResponse, json_body, maybe_json
from orchestrator.provider import Steps

NAME = "cryptopanic"
PLANS = ("developer", "growth", "enterprise")
VOTES = ("positive", "negative", "important", "liked", "disliked", "lol", "toxic", "saved", "comments")
MAX_VOTES = 10**9
SOCIAL = ("twitter", "reddit", "telegram", "youtube")
_PASSING = (
    "server",
    "internal",
    "temporar",
    "try again",
    "unavailable",
    "maintenance",
    "timeout",
    "timed out",
    "api_error",
)
_KEY = ("token", "auth", "api key", "credential", "permission", "not allowed", "your plan", "upgrade", "subscri")
SMALL_BODY = 4096
"""Errors are short; only such answers are looked through for one before they are read."""


IsAnother = Callable[[str, str | None, float | None], bool]


class CryptoPanic:
    """An account with CryptoPanic. `is_another` returns whether a coin of this ticker, slug and price in dollars is
    certainly not the one that the ticker means here; posts are not counted as news of that one.
    """

    def __init__(self, token: str, plan: str = "developer", is_another: IsAnother = lambda *coin: False) -> None:
        self.token = token
        self.plan = plan
        self.is_another = is_another

    def articles(self, query: NewsQuery) -> Steps[Rows[Article]]:
        """Ask for the newest posts, of `hot` and `important` those readers have voted so. One request, one page.

        Raises: Malformed; whatever an error inside a 200 means.
        """
        params = {"public": "true", "kind": "news"}
        if query.filter in ("hot", "important"):
            params["filter"] = query.filter
        if query.symbol is not None:
            params["currencies"] = query.symbol
        response = yield HttpRequest(f"/api/{self.plan}/v2/posts/", params, secrets={"auth_token": self.token})
        read = read_posts(response, self.is_another)
        if query.symbol is None:
            return newest(read, query)
        # Low plans name no coins; what was asked for is what was given.
        return newest(Rows([_of(each, query.symbol) for each in read.good], read.rejected), query)


def _of(each: Article, symbol: str) -> Article:
    return each if symbol in each.symbols else replace(each, symbols=(*each.symbols, symbol))


def read_posts(response: HttpResponse, is_another: IsAnother = lambda *coin: False) -> Rows[Article]:
    """Read the body of `/posts/`, of any plan, v2 (`instruments`) or v1 (`currencies`).

    Raises: Malformed if it holds no list of posts; Unauthorized or RateLimited if it says so instead.
    """
    body = json_body(NAME, response)
    posts = body.get("results") if isinstance(body, dict) else None
    if not isinstance(posts, list):
        raise _spoken(NAME, body) or Malformed(NAME, "no list of posts")
    return some_articles(NAME, posts, lambda row: _post(row, response.received_ms, is_another))


def _post(row: object, received_ms: int, is_another: IsAnother) -> Article | None:
    post = mapping(row)
    source = maybe_mapping(post, "source")
    domain = maybe_text(source, "domain") or maybe_text(post, "domain")
    return article(
        title=maybe_text(post, "title", READ_AT_MOST),
        # The outlet's own link makes it the same article as in the outlet's feed.
        url=maybe_text(post, "original_url", MAX_URL + 1) or maybe_text(post, "url", MAX_URL + 1),
        outlet=outlet_name(maybe_text(source, "title"), domain, NAME),
        kind="social" if maybe_text(source, "type") in SOCIAL else "news",
        published_ms=maybe_iso_ms(post, "published_at") or maybe_iso_ms(post, "created_at"),
        received_ms=received_ms,
        summary=maybe_text(post, "description", READ_AT_MOST),
        symbols=_codes(post.get("instruments") or post.get("currencies"), is_another),
        votes=_votes(maybe_mapping(post, "votes")),
        key=_key(post),
    )


def _key(post: Mapping[str, object]) -> tuple[str, str] | None:
    post_id = post.get("id")
    if isinstance(post_id, int | str):
        return NAME, str(post_id)
    if post_id is not None:
        repairs.repaired("id")
    return None


def _codes(coins: object, is_another: IsAnother) -> list[str]:
    """Return the tickers of the coins that a post names, without those of namesakes."""
    found = []
    for coin in coins if isinstance(coins, list) else ():
        if not isinstance(coin, dict) or not isinstance(code := coin.get("code"), str):
            continue
        slug, price = coin.get("slug"), coin.get("price_in_usd")
        slug = slug if isinstance(slug, str) else None
        price = float(price) if isinstance(price, int | float) and not isinstance(price, bool) and price > 0 else None
        if not is_another(code.upper(), slug, price):
            found.append(code)
    return found


def _votes(votes: Mapping[str, object]) -> Mapping[str, int] | None:
    counts = {name: maybe_whole(votes, name) for name in VOTES}
    return {name: count for name, count in counts.items() if count is not None and count < MAX_VOTES} or None


def refusal(provider: str, response: HttpResponse) -> ProviderError | None:
    """Return the error of an answer, by its status and its body (`{"status": "Incomplete", "info": …}`)."""
    error = http.refusal(provider, response)
    spoken = None
    if error is None or isinstance(error, Blocked):
        spoken = _spoken(provider, maybe_json(response, SMALL_BODY))
    if spoken is not None and (error is None or not isinstance(spoken, Unavailable)):
        return spoken
    if isinstance(error, NotFound):
        return Blocked(provider, "status 404: the token's plan may not have this path")
    return error


def _spoken(provider: str, body: object) -> ProviderError | None:
    """Return what an error object means; None if the body is none. Its text is not repeated: it may quote the token.

    Only words about the token switch the account off: an error of the server passes.
    """
    if not isinstance(body, dict) or "results" in body:
        return None
    said = [body.get(name) for name in ("status", "info", "detail", "error")]
    words = " ".join(each for each in said if isinstance(each, str)).lower()
    if not words:
        return None
    if any(word in words for word in ("throttl", "rate limit", "too many", "limit exceeded")):
        return RateLimited(provider, None)
    if any(word in words for word in _KEY) and not any(word in words for word in _PASSING):
        return Unauthorized(provider, "token refused, or not allowed by its plan")
    return Unavailable(provider, "an error that passes, by its words")

"""Reddit's r/CryptoCurrency, by OAuth (approved applications only) or as an Atom feed (best effort). Pure.

Since 2026 the listings without a token answer 403 to everyone. The feed still exists, but refuses most calls from
data centres: at most one in ten minutes, and off unless asked for.

Source: Reddit Data API, "OAuth2" (application only) and "listings"; community notes on the feed, August 2026.
"""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass

from feeds.fields import (
    BadFieldError,
    Rows,
    mapping,
    maybe_amount,
    maybe_number,
    maybe_text,
    positive,
    text,
)
from feeds.model import Article
from feeds.news.articles import NewsQuery, article, newest, some_articles
from feeds.news.plain_text import READ_AT_MOST
from feeds.news.urls import MAX_URL
from orchestrator import http
from orchestrator.clock import Clock
from orchestrator.errors import Blocked, Malformed, NotFound, ProviderError, RateLimited, Unauthorized, Unavailable
from orchestrator.http import HttpRequest, HttpResponse, json_body
from orchestrator.provider import Steps

NAME = "reddit"
SITE_URL = "https://www.reddit.com"
"""Tokens and feeds."""
API_URL = "https://oauth.reddit.com"
SUBREDDIT = "CryptoCurrency"
MAX_POSTS = 100
MAX_VOTES = 10**9
EARLY_S = 60.0
"""A token is renewed so long before its end."""
WRONG_CREDENTIALS = (
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "access_denied",
)
"""Source: RFC 6749, section 5.2."""
LISTINGS = {"latest": "new", "hot": "hot", "important": "top"}


@dataclass(frozen=True, slots=True)
class _Token:
    """`good_until` is on the monotonic clock."""

    text: str
    good_until: float


class Reddit:
    """An application at Reddit. Its token is kept for as long as it is good."""

    def __init__(self, client_id: str, client_secret: str, clock: Clock, token_base_url: str = SITE_URL) -> None:
        self.client_id = client_id
        self.client_secret = client_secret
        self.clock = clock
        self.token_base_url = token_base_url
        self.token: _Token | None = None

    def articles(self, query: NewsQuery) -> Steps[Rows[Article]]:
        """Ask for posts, newest first, of the `new`, `hot` or day's `top` listing. Two requests without a token.

        A token that is refused is renewed once. Raises: Malformed; Unauthorized if a new token is refused too.
        """
        fresh = self.token is None or self.clock.now() >= self.token.good_until
        if fresh:
            yield from self._renew()
        response = yield self._listing(query)
        if response.status == 401 and not fresh:
            yield from self._renew()
            response = yield self._listing(query)
        if response.status == 401:
            self.token = None
            raise Unauthorized(NAME, "status 401 to a new token")
        return newest(read_listing(response), query)

    def _renew(self) -> Steps[None]:
        login = b64encode(f"{self.client_id}:{self.client_secret}".encode()).decode()
        response = yield HttpRequest(
            "/api/v1/access_token",
            method="POST",
            headers={"Authorization": f"Basic {login}", "Content-Type": "application/x-www-form-urlencoded"},
            body=b"grant_type=client_credentials",
            base_url=self.token_base_url,
        )
        self.token = read_token(response, self.clock.now())

    def _listing(self, query: NewsQuery) -> HttpRequest:
        listing = LISTINGS.get(query.filter, "new")
        # A coin's posts are picked out afterwards, so as many as there may be.
        params = {"limit": str(MAX_POSTS), "raw_json": "1"} | ({"t": "day"} if listing == "top" else {})
        bearer = self.token.text if self.token is not None else ""
        return HttpRequest(
            f"/r/{SUBREDDIT}/{listing}", params, headers={"Authorization": f"Bearer {bearer}"}, may_be=(401,)
        )


def read_token(response: HttpResponse, now: float) -> _Token:
    """Read an access token. Raises: Malformed; Unauthorized, RateLimited or Unavailable for an error inside a 200."""
    body = json_body(NAME, response)
    if isinstance(body, dict) and "error" in body:
        raise _token_refused(body["error"])
    try:
        fields = mapping(body)
        lasts_s = min(positive(fields, "expires_in"), 30 * 24 * 3600.0)
        return _Token(text(fields, "access_token"), now + max(0.0, lasts_s - EARLY_S))
    except BadFieldError as error:
        raise Malformed(NAME, f"no token ({error})") from None


def _token_refused(error: object) -> ProviderError:
    """Whether OAuth's own words name wrong credentials, which switch the account off; other words pass."""
    if error == 429:
        return RateLimited(NAME, None)
    if isinstance(error, str) and error.lower() in WRONG_CREDENTIALS:
        return Unauthorized(NAME, "client id or secret refused")
    return Unavailable(NAME, "gives no token at the moment")


def read_listing(response: HttpResponse) -> Rows[Article]:
    """Read a listing of posts. Pinned, adult and withdrawn ones are left out; they are no news and no fault.

    Raises: Malformed if it is no listing.
    """
    body = json_body(NAME, response)
    data = body.get("data") if isinstance(body, dict) else None
    children = data.get("children") if isinstance(data, dict) else None
    if not isinstance(children, list):
        raise Malformed(NAME, "not a listing")
    posts = [child.get("data") if isinstance(child, dict) else None for child in children]
    return some_articles(NAME, posts, lambda row: _post(row, response.received_ms))


def _is_left_out(post: Mapping[str, object]) -> bool:
    """Whether a post is pinned or adult, or its author, a moderator or Reddit has taken it back."""
    taken_back = any(isinstance(post.get(name), str) and post[name] for name in ("removed_by_category", "removed_by"))
    return taken_back or post.get("stickied") is True or post.get("over_18") is True


def _post(row: object, received_ms: int) -> Article | None:
    post = mapping(row)
    if _is_left_out(post):
        return None
    created_s = maybe_amount(post, "created_utc")
    votes = {shown: _count(post, name) for name, shown in (("score", "score"), ("num_comments", "comments"))}
    return article(
        title=maybe_text(post, "title", READ_AT_MOST),
        # The discussion, not what it links to: that is another outlet's article.
        url=_link(post),
        outlet=NAME,
        kind="social",
        published_ms=None if created_s is None else int(created_s * 1000),
        received_ms=received_ms,
        summary=maybe_text(post, "selftext", READ_AT_MOST),
        votes={name: count for name, count in votes.items() if count is not None} or None,
    )


def _link(post: Mapping[str, object]) -> str | None:
    permalink = maybe_text(post, "permalink", MAX_URL)
    if permalink is not None and permalink.startswith("/r/"):
        return SITE_URL + permalink
    post_id = maybe_text(post, "id")
    return f"{SITE_URL}/comments/{post_id}" if post_id is not None and post_id.isalnum() else None


def _count(post: Mapping[str, object], name: str) -> int | None:
    value = maybe_number(post, name)
    return None if value is None or abs(value) > MAX_VOTES else int(value)


def refusal(provider: str, response: HttpResponse) -> ProviderError | None:
    """Return the error of an answer.

    429 names its wait in `x-ratelimit-reset`; 404 is a place that is gone or private.
    """
    error = http.refusal(provider, response)
    if isinstance(error, RateLimited) and error.retry_after_s is None:
        return RateLimited(provider, _reset_s(response))
    if isinstance(error, Blocked) and b'"reason"' in response.body[:500]:
        return Blocked(provider, "status 403: the community is private or banned")
    if isinstance(error, NotFound):
        return Malformed(provider, "status 404: no such listing")
    return error


def _reset_s(response: HttpResponse) -> float | None:
    try:
        wait_s = float(response.headers.get("x-ratelimit-reset", ""))
    except ValueError:
        return None
    return wait_s if 0 <= wait_s <= 3600 else None

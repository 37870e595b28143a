"""Articles of news outlets and Reddit."""

from collections.abc import Mapping

from feeds.fields import (
    BadFieldError,
    Rows,
    mapping,
    maybe_amount,
    maybe_number,
    maybe_text,
)
from feeds.model import Article
from feeds.news.articles import NewsQuery, article, newest, outlet_name, told_apart
from feeds.news.plain_text import READ_AT_MOST
from feeds.news.urls import MAX_URL
from feeds.providers.crypto_dt_source.answers import NAME, answered_ms, checked, first_rows, get, rows_in
from orchestrator.errors import (
    BadQuery,
    Malformed,
)
from orchestrator.http import HttpResponse
from orchestrator.provider import Steps

MAX_VOTES = 10**9
FEEDS = ("coindesk", "cointelegraph", "bitcoinmagazine", "decrypt", "theblock")
PERIODS = ("hour", "day", "week", "month", "year", "all")
NOW_MS = 5000
"""A publication date this close to the answer stands for an unknown one."""


def news(query: NewsQuery) -> Steps[Rows[Article]]:
    """Ask for the latest of what `/news/latest` gathers, for the news pool. It knows no votes, so no other filter."""
    # A symbol is searched for in what comes, so as much as there is must come.
    found = yield from latest_news(100 if query.symbol else query.limit)
    return newest(found, query)


def latest_news(limit: int = 20) -> Steps[Rows[Article]]:
    """Ask for articles of several outlets. `/news/latest`."""
    response = yield get("/api/v1/news/latest", {"limit": str(limit)})
    return told_apart(first_rows(rows_in(response), lambda row: _news_row(row, response), limit))


def rss(feed_name: str, limit: int = 20) -> Steps[Rows[Article]]:
    """Ask for articles of one of `FEEDS`. Raises: BadQuery for another."""
    if feed_name not in FEEDS:
        raise BadQuery(NAME, f"feed {feed_name[:40]!r} is not one of {', '.join(FEEDS)}")
    response = yield get("/api/v1/rss/feed", {"feed_name": feed_name, "limit": str(limit)})
    return told_apart(first_rows(rows_in(response), lambda row: _of_feed(_rss_row(row, response), feed_name), limit))


def _of_feed(each: Article | None, feed_name: str) -> Article | None:
    """Return an article, unless it is of another feed: the server ignores the name of a feed that it doesn't
    understand.
    """
    if each is not None and each.outlet != feed_name:
        raise BadFieldError("source")
    return each


def rss_all(limit_per_feed: int = 10) -> Steps[Rows[Article]]:
    """Ask for articles of all `FEEDS`, newest first."""
    response = yield get("/api/v1/rss/all", {"limit_per_feed": str(limit_per_feed), "limit": str(limit_per_feed)})
    return told_apart(first_rows(rows_in(response), lambda row: _rss_row(row, response), limit_per_feed * len(FEEDS)))


def reddit_top(subreddit: str = "cryptocurrency", period: str = "day", limit: int = 25) -> Steps[Rows[Article]]:
    """Ask for the most voted posts of a period (`PERIODS`), with their votes. Raises: BadQuery for another period."""
    if period not in PERIODS:
        raise BadQuery(NAME, f"period {period[:40]!r} is not one of {', '.join(PERIODS)}")
    params = {"subreddit": subreddit, "time_filter": period, "t": period, "limit": str(limit)}
    response = yield get("/api/v1/reddit/top", params)
    return _posts(response, subreddit, limit)


def reddit_new(subreddit: str = "cryptocurrency", limit: int = 25) -> Steps[Rows[Article]]:
    """Ask for the newest posts, with their votes."""
    response = yield get("/api/v1/reddit/new", {"subreddit": subreddit, "limit": str(limit)})
    return _posts(response, subreddit, limit)


def _news_row(row: object, response: HttpResponse) -> Article | None:
    fields = mapping(row)
    return _article(
        fields,
        response,
        url=maybe_text(fields, "url", MAX_URL + 1),
        outlet=outlet_name(maybe_text(fields, "source"), None, "news"),
        kind="news",
        published_ms=_ms(fields, "timestamp", 1),
        summary=maybe_text(fields, "description", READ_AT_MOST),
    )


def _rss_row(row: object, response: HttpResponse) -> Article | None:
    fields = mapping(row)
    return _article(
        fields,
        response,
        url=maybe_text(fields, "link", MAX_URL + 1),
        outlet=outlet_name(maybe_text(fields, "source"), None, "rss"),
        kind="news",
        published_ms=_ms(fields, "published", 1000),
        summary=maybe_text(fields, "summary", READ_AT_MOST),
    )


def _posts(response: HttpResponse, subreddit: str, limit: int) -> Rows[Article]:
    body = checked(response)
    said = body.get("subreddit")
    if isinstance(said, str) and said.lower() != subreddit.lower():
        raise Malformed(NAME, "posts of another subreddit")
    return told_apart(first_rows(rows_in(response), lambda row: _reddit_row(row, response), limit))


def _reddit_row(row: object, response: HttpResponse) -> Article | None:
    fields = mapping(row)
    post_id = maybe_text(fields, "id")
    if post_id is not None and not post_id.isalnum():
        post_id = None
    votes = {"score": maybe_number(fields, "score"), "comments": maybe_number(fields, "num_comments")}
    return _article(
        fields,
        response,
        # A post's `url` is what it links to, often an image; the newest come without the link of the post itself.
        url=maybe_text(fields, "permalink", MAX_URL + 1)
        or (None if post_id is None else f"https://www.reddit.com/comments/{post_id}"),
        outlet="reddit",
        kind="social",
        published_ms=_ms(fields, "created_utc", 1000),
        summary=maybe_text(fields, "selftext", READ_AT_MOST),
        votes={name: int(count) for name, count in votes.items() if count is not None and abs(count) < MAX_VOTES}
        or None,
        key=None if post_id is None else ("reddit", post_id),
    )


def _article(
    fields: Mapping[str, object],
    response: HttpResponse,
    *,
    url: str | None,
    outlet: str,
    kind: str,
    published_ms: int | None,
    summary: str | None,
    votes: Mapping[str, int] | None = None,
    key: tuple[str, str] | None = None,
) -> Article | None:
    # The server sends its own time where it cannot read a feed's date.
    made_up = published_ms is not None and abs(published_ms - answered_ms(response)) <= NOW_MS
    return article(
        title=maybe_text(fields, "title", READ_AT_MOST),
        url=url,
        outlet=outlet,
        kind=kind,
        published_ms=None if made_up else published_ms,
        received_ms=response.received_ms,
        summary=summary,
        votes=votes,
        key=key,
    )


def _ms(fields: Mapping[str, object], name: str, factor: int) -> int | None:
    """Return a time as Unix milliseconds; None where there is none, or 0."""
    value = maybe_amount(fields, name)
    return int(value * factor) if value else None

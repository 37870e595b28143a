"""Articles in one form for all sources: the question, what becomes of a row's fields, and an article's id.

A source's file only finds the fields of a row; `article` decides what becomes of them. Nothing that a title or a link
holds can mark up, redirect or reorder what a reader sees: texts lose markup, control and direction characters, links
are http or https without credentials.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TypeVar

from feeds.fields import (
    BadFieldError,
    Rows,
    at_most,
    maybe,
    maybe_mapping,
    maybe_text,
    number,
    some_rows,
    text,
    whole,
)
from feeds.model import Article
from feeds.news.coins import MAX_SYMBOLS, symbols_in
from feeds.news.plain_text import cut, plain
from feeds.news.urls import MAX_URL, clean_url
from orchestrator.persistence import LATEST_MS
from orchestrator.texts import one_line

R = TypeVar("R")
MAX_TITLE = 300
MAX_SUMMARY = 600
MAX_STAND_IN = 120
"""Maximum length of a title that is made of the summary."""
FIRST_MS = 1_230_768_000_000
"""2009-01-01. No article on crypto is older; an earlier date is a broken clock or an empty field."""
SKEW_MS = 60_000
"""A date this far ahead of our clock is still taken for the source's own; one further ahead is none."""


@dataclass(frozen=True, slots=True)
class NewsQuery:
    """The articles that are asked for: `filter` is `latest`, `hot` or `important`; `symbol` an upper-case coin, None
    for all.

    A source without votes knows neither `hot` nor `important` and gives its latest.
    """

    filter: str = "latest"
    symbol: str | None = None
    limit: int = 50


LATEST = NewsQuery(limit=100)
"""The question that every outlet is asked."""


def newest(rows: Rows[Article], query: NewsQuery) -> Rows[Article]:
    """Return the articles of the question's symbol, newest first, at most `limit`, with the counts of rejected rows."""
    wanted = [each for each in rows.good if query.symbol is None or query.symbol in each.symbols]
    wanted.sort(key=lambda each: each.published_at, reverse=True)
    return Rows(wanted[: query.limit], rows.rejected)


def article(
    *,
    title: str | None,
    url: str | None,
    outlet: str,
    kind: str,
    published_ms: int | None,
    received_ms: int,
    summary: str | None = None,
    symbols: Iterable[str] = (),
    votes: Mapping[str, int] | None = None,
    key: tuple[str, str] | None = None,
) -> Article | None:
    """Make an article from the raw fields of a row. None if the source has withdrawn it.

    An article without a title is called by the beginning of its summary. `symbols` are those the source names; coins
    found in title and summary are added. A publication date ahead of `received_ms` becomes `received_ms`. `key` is who
    names the row and its lasting name there, which identifies it where a link does not.
    Raises: BadFieldError if neither title nor summary says anything.
    """
    plain_title = plain(title or "", MAX_TITLE)
    plain_summary = plain(summary, MAX_SUMMARY) if summary else ""
    if WITHDRAWN.fullmatch(plain_title):
        return None
    if WITHDRAWN.fullmatch(plain_summary):
        plain_summary = ""
    if not plain_title:
        plain_title = cut(plain_summary, MAX_STAND_IN)
    if not plain_title:
        raise BadFieldError("title")
    link = clean_url(url)
    named = None if key is None else (key[0], _digest(key[1]))
    given_ms = published_ms if published_ms is not None and published_ms >= FIRST_MS else None
    dated = given_ms is not None and given_ms <= received_ms + SKEW_MS
    return Article(
        id=article_id(link, named, plain_title, given_ms),
        title=plain_title,
        url=link,
        outlet=outlet,
        kind=kind,
        published_at=received_ms if given_ms is None else min(given_ms, received_ms),
        summary=plain_summary if plain_summary and plain_summary != plain_title else None,
        symbols=_merged((*symbols, *symbols_in(f"{plain_title}\n{plain_summary}"))),
        votes=votes,
        published_estimated=not dated,
        key=named,
    )


def kept_article(row: Mapping[str, object]) -> Article:
    """Return an article as it was written to disk. Raises: BadFieldError for one that we cannot have written."""
    identifier, kind = text(row, "id"), text(row, "kind")
    title = plain(text(row, "title", MAX_TITLE), MAX_TITLE)
    if not re.fullmatch(r"[0-9a-f]{16}", identifier):
        raise BadFieldError("id")
    if kind not in KINDS:
        raise BadFieldError("kind")
    if not title:
        raise BadFieldError("title")
    symbols, votes = row.get("symbols"), maybe_mapping(row, "votes")
    counts = {name: maybe(at_most(MAX_VOTES, number), {"votes": votes[name]}, "votes") for name in list(votes)[:20]}
    return Article(
        id=identifier,
        title=title,
        url=clean_url(maybe_text(row, "url", MAX_URL)),
        outlet=text(row, "outlet", 40),
        kind=kind,
        published_at=at_most(LATEST_MS, whole)(row, "published_at"),
        summary=plain(maybe_text(row, "summary", MAX_SUMMARY) or "", MAX_SUMMARY) or None,
        symbols=_merged(each for each in symbols if isinstance(each, str)) if isinstance(symbols, list) else (),
        votes={one_line(name, 40): int(count) for name, count in counts.items() if count is not None} or None,
        published_estimated=row.get("published_estimated") is True,
    )


KINDS = ("news", "social")
MAX_VOTES = 10**9
WITHDRAWN = re.compile(r"\[ ?(?:removed|deleted)(?: by (?:reddit|user|moderators?|author))? ?\]", re.IGNORECASE)
"""Words in place of a title or text that its author, its outlet or a moderator has withdrawn."""


def article_id(url: str | None, key: tuple[str, str] | None, title: str, published_ms: int | None) -> str:
    """Return 16 hexadecimal digits: a hash of the cleaned link, else of the source's key, else of title and time.

    Scheme, `www.` and a last slash do not tell two links apart, so that the same story by two ways is one.
    """
    if url is not None:
        text = url.partition("://")[2].removeprefix("www.")
        # The slash stands before the query where there is one.
        text = re.sub(r"/(?=\?|\Z)", "", text, count=1)
    elif key:
        text = f"key\0{':'.join(key)}"
    else:
        text = f"title\0{title}\0{published_ms}"
    return _digest(text)


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def some_articles(provider: str, raw: Collection[R], read: Callable[[R], Article | None]) -> Rows[Article]:
    """Read each row of an answer, as `some_rows`, and give those that share a link ids of their own."""
    return told_apart(some_rows(provider, raw, read))


def told_apart(rows: Rows[Article]) -> Rows[Article]:
    """Give articles of one answer that share a link, but neither key nor title, ids of their own.

    The posts of a live page, or all that a careless outlet has, lead to one address, or differ in its fragment only.
    """
    names: defaultdict[str, set[object]] = defaultdict(set)
    for each in rows.good:
        names[each.id].add(each.key or each.title)
    return Rows([each if len(names[each.id]) == 1 else by_itself(each) for each in rows.good], rows.rejected)


def by_itself(each: Article) -> Article:
    """Return the same article, known by its key, or by title and time."""
    published_ms = None if each.published_estimated else each.published_at
    return replace(each, id=article_id(None, each.key, each.title, published_ms))


def _merged(symbols: Iterable[str]) -> tuple[str, ...]:
    found = dict.fromkeys(each.upper() for each in symbols)
    return tuple(each for each in found if re.fullmatch(r"[A-Z0-9]{1,15}", each))[:MAX_SYMBOLS]


def outlet_name(name: str | None, domain: str | None, default: str) -> str:
    """Return the short name of an outlet, the same from its name and from its domain: `theblock`, `bitcoinmagazine`."""
    labels = [each for each in (domain or "").lower().split(":")[0].split(".") if each]
    if len(labels) > 1:
        labels.pop()
        if len(labels) > 1 and labels[-1] in ("co", "com", "org", "net"):
            labels.pop()
        name = labels[-1]
    return re.sub(r"[^a-z0-9]", "", (name or "").lower())[:40] or default

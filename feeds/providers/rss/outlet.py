"""One feed of an outlet: asks only for what is new, and follows a feed that has moved."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urljoin, urlsplit

from feeds.fields import Rows
from feeds.model import Article
from feeds.news.articles import NewsQuery, newest
from feeds.news.urls import MAX_URL
from feeds.providers.rss.documents import NAME
from feeds.providers.rss.items import read_feed
from orchestrator import http
from orchestrator.errors import Malformed, ProviderError
from orchestrator.http import HttpRequest, HttpResponse
from orchestrator.provider import Steps

MOVED_FOR_GOOD, MOVED_FOR_NOW = (301, 308), (302, 303, 307)
MAX_MOVES = 3


@dataclass(frozen=True, slots=True)
class _Known:
    """The last answer of a feed, and the marks by which a server recognises it."""

    etag: str | None
    last_modified: str | None
    rows: Rows[Article]


class RssFeed:
    """One feed. It asks only for what has changed since its last good answer.

    That answer is the only state, replaced as a whole, so a conversation may end in another thread than it began in.
    """

    def __init__(self, outlet: str, url: str, kind: str = "news") -> None:
        self.outlet = outlet
        self.name = f"{NAME}:{outlet}"
        self.kind = kind
        self.place = _Place.of(url)
        self.base_url = self.place.base_url
        self.known: _Known | None = None

    def articles(self, query: NewsQuery) -> Steps[Rows[Article]]:
        """Ask for the articles in the feed now, newest first. A feed knows no votes: every filter gives the latest.

        Unchanged since the last time (304), it gives the same articles again, with the times of receipt they had. A
        feed that has moved for good is read at its new place.
        Raises: Malformed for anything but a feed, TooLarge for one that is not worth reading; a move that is not
        followed is Malformed and names the new place.
        """
        known, place = self.known, self.place
        response = yield place.request(known, referred=False)
        for _ in range(MAX_MOVES):
            if response.status not in MOVED_FOR_GOOD:
                break
            place = _new_place(self.name, place, response)
            response = yield place.request(known, referred=True)
        if response.status in (*MOVED_FOR_GOOD, *MOVED_FOR_NOW):
            where = _new_place(self.name, place, response)
            raise Malformed(self.name, f"status {response.status}: the feed is at {where} now; not followed")
        if response.status == 304:
            if known is None:
                raise Malformed(self.name, "unchanged since nothing")
            return newest(known.rows, query)
        read = read_feed(response, self.name, self.outlet, self.kind, place.url)
        # Only now: an answer that could not be read must be asked for again.
        self.known = _Known(response.headers.get("etag"), response.headers.get("last-modified"), read)
        return newest(read, query)


@dataclass(frozen=True, slots=True)
class _Place:
    """The address of a feed. As a text it lacks the query, because that may hold keys."""

    base_url: str
    path: str
    params: Mapping[str, str]
    url: str

    @classmethod
    def of(cls, url: str) -> "_Place":
        """Return the place of an absolute URL. Raises: ValueError."""
        parts = urlsplit(url)
        params = dict(parse_qsl(parts.query, keep_blank_values=True))
        return cls(f"{parts.scheme}://{parts.netloc}", parts.path or "/", params, url)

    def request(self, known: "_Known | None", *, referred: bool) -> HttpRequest:
        """Ask for the feed, or for what has changed in it. `referred` if an answer led here, not a setting."""
        may_be = (304, *MOVED_FOR_GOOD, *MOVED_FOR_NOW)
        base_url = self.base_url if referred else None
        return HttpRequest(
            self.path, self.params, headers=_conditions(known), may_be=may_be, base_url=base_url, referred=referred
        )

    def __str__(self) -> str:
        return self.base_url + self.path


def _new_place(name: str, old: _Place, response: HttpResponse) -> _Place:
    """Return where a feed has moved to. Raises: Malformed if it isn't an https address without credentials."""
    location = response.headers.get("location", "")
    try:
        place = _Place.of(urljoin(old.url, location.strip()[:MAX_URL]))
        host = urlsplit(place.url).hostname
    except ValueError:
        raise Malformed(name, f"status {response.status}: moved to no address") from None
    if not place.base_url.startswith("https://") or not host or "@" in place.base_url:
        shown = place if host and "@" not in place.base_url else "no address"
        raise Malformed(name, f"status {response.status}: moved to {shown}, which isn't https; set its new address")
    return place


def _conditions(known: _Known | None) -> dict[str, str]:
    headers = {"Accept": "application/rss+xml, application/atom+xml, application/xml;q=0.9, text/xml;q=0.8"}
    if known is not None and known.etag:
        headers["If-None-Match"] = known.etag
    if known is not None and known.last_modified:
        headers["If-Modified-Since"] = known.last_modified
    return headers


def refusal(provider: str, response: HttpResponse) -> ProviderError | None:
    """Return the error of an answer. A feed that is not there is the outlet's fault, not the question's."""
    if response.status in (404, 410):
        return Malformed(provider, f"status {response.status}: no feed at this address")
    return http.refusal(provider, response)

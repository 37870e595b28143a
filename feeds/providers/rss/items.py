"""Reads the items of a feed as articles."""

import calendar
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape, quoteattr

import feedparser

from feeds.dates import with_offset
from feeds.fields import BadFieldError, Rows
from feeds.model import Article
from feeds.news.articles import article, some_articles
from feeds.news.coins import symbols_in
from feeds.news.urls import MAX_URL
from feeds.providers.rss.documents import (
    ATOM,
    CONTENT,
    DC,
    MAX_FEED_BYTES,
    MAX_MARKS,
    NAME,
    XML_BASE,
    base_of,
    decode,
    join_urls,
    local_name,
    mend,
    namespace_of,
    parse_xml,
)
from orchestrator import repairs
from orchestrator.errors import Malformed, TooLarge
from orchestrator.http import HttpResponse

MAX_ITEMS = 500
"""Articles that are read; the newest stand first."""
DCTERMS = "http://purl.org/dc/terms/"
KEPT: Mapping[tuple[str, str], tuple[str, int]] = {
    **{("", name): (name, MAX_URL) for name in ("title", "link", "guid", "id", "category")},
    **{("", name): (name, 100) for name in ("pubDate", "published", "updated")},
    **{("", name): (name, 20_000) for name in ("description", "summary", "content")},
    # Feeds of .NET give nothing but `<a10:updated>`, in Atom's namespace.
    **{(ATOM, name): (name, 100) for name in ("published", "updated")},
    **{(ATOM, name): (name, 20_000) for name in ("summary", "content")},
    **{(DCTERMS, name): ("dc:date", 100) for name in ("issued", "created", "modified")},
    (DC, "date"): ("dc:date", 100),
    (DC, "subject"): ("dc:subject", MAX_URL),
    (CONTENT, "encoded"): ("content:encoded", 20_000),
}
"""The elements an article is made of, those in the item's own namespace under an empty one: what they are called when
written again, and how much of their text is kept."""
AT_MOST: Mapping[str, int] = {"": 0, "category": 30, "dc:subject": 30, "link": 8}
"""Elements that an item may have several of; of all others the first that is not empty is read."""
ADDRESSES = ("link", "guid", "id")
DATES = ("pubDate", "published", "updated", "dc:date")
KEPT_ATTRIBUTES = ("href", "rel", "term", "isPermaLink")
MISLEADING = re.compile(r"\s*(?:(?:javascript|vbscript|data|file):|[\w+.-]*:?//[^/?#]*@)", re.IGNORECASE)
"""Links that are never the link of an article."""


def read_feed(response: HttpResponse, name: str, outlet: str, kind: str = "news", url: str = "") -> Rows[Article]:
    """Read a feed of RSS or Atom, any version. A row without text, or whose link misleads, is rejected.

    Relative links lead from the nearest `xml:base`, else from the feed's own link, else from `url`, where it was read.
    Undeclared prefixes, bare ampersands, HTML's entities, a byte order mark and space before the XML are put up with;
    a document type is not. Raises: Malformed, also if rows came and none could be read; TooLarge.
    """
    if len(response.body) > MAX_FEED_BYTES:
        raise TooLarge(name, f"feed over {MAX_FEED_BYTES} bytes")
    text = decode(name, response)
    if text.count("<") > MAX_MARKS:
        raise TooLarge(name, f"feed of over {MAX_MARKS} tags")
    if re.match(r"<!doctype html|<html", text, re.IGNORECASE):
        raise Malformed(name, "HTML instead of a feed")
    root = parse_xml(name, text)
    if root is None:
        root = parse_xml(name, mend(text))
        repairs.repaired("markup")
    if root is None:
        raise Malformed(name, "no well-formed feed")
    if local_name(root) not in ("rss", "RDF", "feed"):
        raise Malformed(name, "XML instead of a feed")
    parsed = feedparser.parse(io.BytesIO(rebuilt(root, url)), sanitize_html=False, resolve_relative_uris=False)
    return some_articles(name, parsed.entries, lambda entry: _article(entry, outlet, kind, response.received_ms))


def rebuilt(root: Element, url: str) -> bytes:
    """Return the feed with nothing in it but what articles are made of, in the same dialect."""
    if local_name(root) == "feed":
        start, item_name, end = f'<feed xmlns="{ATOM}"', "entry", "</feed>"
    else:
        start, item_name, end = '<rss version="2.0"', "item", "</channel></rss>"
    written = [f'{start} xmlns:dc="{DC}" xmlns:content="{CONTENT}">', "" if item_name == "entry" else "<channel>"]
    base = base_of(root, url)
    items = (each for each in root.iter() if local_name(each) in ("item", "entry"))
    for item in islice(items, MAX_ITEMS):
        written += [f"<{item_name}>", *kept_elements(item, base), f"</{item_name}>"]
    return "".join((*written, end)).encode()


def kept_elements(item: Element, base: str) -> Iterator[str]:
    """Yield the elements of an item that are kept, with text in them: the first of each kind, and some categories."""
    own = namespace_of(item)
    counts: Counter[str] = Counter()
    base = join_urls(base, item.get(XML_BASE, ""))
    for child in item:
        namespace = namespace_of(child)
        name, most = KEPT.get(("" if namespace == own else namespace, local_name(child)), ("", 0))
        # The words of nested markup (Atom's xhtml) stay apart.
        text = (" " if len(child) else "").join(child.itertext()).strip() if name else ""
        given = {key: child.attrib[key] for key in KEPT_ATTRIBUTES if len(child.get(key, "")) in range(1, MAX_URL)}
        if counts[name] >= AT_MOST.get(name, 1) or not (text or given):
            continue
        if len(text) > most:
            repairs.repaired(name)
            if name in ADDRESSES:
                continue  # half a link leads elsewhere
            text = text[:most]
        if name in DATES:
            zoned = with_offset(text)
            if zoned is None:
                repairs.repaired(name)
                continue
            text = zoned
        elif name == "link" or (name == "guid" and text.startswith("/")):
            there = join_urls(base, child.get(XML_BASE, ""))
            text = join_urls(there, text) if text else ""
            given |= {"href": join_urls(there, given["href"])} if "href" in given else {}
        counts[name] += 1
        attributes = "".join(f" {key}={quoteattr(value)}" for key, value in given.items())
        yield f"<{name}{attributes}>{escape(text)}</{name}>"


def _article(entry: object, outlet: str, kind: str, received_ms: int) -> Article | None:
    # Its own `get` stands in one key for another and warns about it.
    if not isinstance(entry, dict):
        raise BadFieldError("row")
    link, guid = _text(entry, "link"), _text(entry, "id")
    if MISLEADING.match(link):
        raise BadFieldError("link")
    return article(
        title=_text(entry, "title"),
        url=link,
        outlet=outlet,
        kind=kind,
        published_ms=_time_ms(entry, "published_parsed") or _time_ms(entry, "updated_parsed"),
        received_ms=received_ms,
        summary=_text(entry, "summary") or _content(entry),
        symbols=symbols_in(" | ".join(_tags(entry))),
        key=(f"{NAME}:{outlet}", guid) if guid else None,
    )


def _text(entry: dict[str, object], name: str) -> str:
    value = dict.get(entry, name)
    return value if isinstance(value, str) else ""


def _content(entry: dict[str, object]) -> str:
    parts = dict.get(entry, "content")
    first = parts[0] if isinstance(parts, list) and parts else None
    return _text(first, "value") if isinstance(first, dict) else ""


def _tags(entry: dict[str, object]) -> list[str]:
    tags = dict.get(entry, "tags")
    terms = [_text(tag, "term") for tag in tags if isinstance(tag, dict)] if isinstance(tags, list) else []
    return [term for term in terms if term][:50]


def _time_ms(entry: dict[str, object], name: str) -> int | None:
    """Return a time as Unix milliseconds; None if there is none, or none that could be read."""
    value = dict.get(entry, name)
    if not isinstance(value, tuple):
        return None
    try:
        return calendar.timegm(value) * 1000
    except (ValueError, OverflowError, TypeError):
        return None

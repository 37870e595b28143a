"""RSS and Atom feeds of news outlets: what to ask, how to read the answer, and what was read last.

A feed is the least trustworthy of all bodies: XML that may bomb, name local files, or mark up what it says, and
feedparser, which knows every dialect, takes minutes over some (a long author, many attributes), holding up every
thread. So what it reads is written anew here, from the few elements that an article is made of, each cut to length;
it is given bytes only (a text it would take for an address and open). Whatever declares a document type is refused by
defusedxml, and `feeds.news.articles` makes titles plain and links harmless. Still it takes a moment, so it runs off the
event loop.

Source: RSS 2.0 specification; RFC 4287 (Atom); RFC 9110, section 13 (conditional requests).
"""

import calendar
import html
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from urllib.parse import parse_qsl, urljoin, urlsplit
from xml.etree.ElementTree import Element, TreeBuilder
from xml.sax.saxutils import escape, quoteattr

import feedparser
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser, ParseError

from feeds.dates import with_offset
from feeds.fields import BadFieldError, Rows
from feeds.model import Article
from feeds.news.articles import MAX_URL, NewsQuery, article, newest, some_articles, symbols_in
from orchestrator import charsets, http, repairs
from orchestrator.errors import Malformed, ProviderError, TooLarge
from orchestrator.http import HttpRequest, HttpResponse
from orchestrator.provider import Steps

NAME = "rss"
MAX_FEED_BYTES = 4 * 1024 * 1024
"""The longest honest feed, with whole articles in it, has about 1 MB."""
MAX_MARKS = 100_000
"""Tags in a feed, closing ones and those of quoted HTML included."""
MAX_ITEMS = 500
"""Articles that are read; the newest stand first."""

ATOM = "http://www.w3.org/2005/Atom"
DC = "http://purl.org/dc/elements/1.1/"
DCTERMS = "http://purl.org/dc/terms/"
CONTENT = "http://purl.org/rss/1.0/modules/content/"
XML_BASE = "{http://www.w3.org/XML/1998/namespace}base"
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
written anew, and how much of their text is kept."""
AT_MOST: Mapping[str, int] = {"": 0, "category": 30, "dc:subject": 30, "link": 8}
"""Of elements that an item may have several of; of the others the first that is not empty."""
ADDRESSES = ("link", "guid", "id")
DATES = ("pubDate", "published", "updated", "dc:date")
KEPT_ATTRIBUTES = ("href", "rel", "term", "isPermaLink")
MISLEADING = re.compile(r"\s*(?:(?:javascript|vbscript|data|file):|[\w+.-]*:?//[^/?#]*@)", re.IGNORECASE)
"""What no outlet means by a link to its article."""
MOVED_FOR_GOOD, MOVED_FOR_NOW = (301, 308), (302, 303, 307)
MAX_MOVES = 3
ENCODING = re.compile(rb"""\s*<\?xml[^>]{0,100}?encoding\s*=\s*["\']([\w.:-]{1,40})["\']""")


@dataclass(frozen=True, slots=True)
class _Known:
    """What a feed said last, and by what it is recognised."""

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
        """The articles in the feed now, newest first. A feed knows no votes: every filter gives the latest.

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
    """Where a feed is. As a text it lacks the query, in which keys travel."""

    base_url: str
    path: str
    params: Mapping[str, str]
    url: str

    @classmethod
    def of(cls, url: str) -> "_Place":
        """The place of an absolute URL. Raises: ValueError."""
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
    """Where a feed has moved to. Raises: Malformed if it isn't an https address without credentials."""
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


def read_feed(response: HttpResponse, name: str, outlet: str, kind: str = "news", url: str = "") -> Rows[Article]:
    """Read a feed of RSS or Atom, any version. A row that says nothing, or whose link misleads, is rejected.

    Relative links lead from the nearest `xml:base`, else from the feed's own link, else from `url`, where it was read.
    Undeclared prefixes, bare ampersands, HTML's entities, a byte order mark and space before the XML are put up with;
    a document type is not. Raises: Malformed, also if rows came and none could be read; TooLarge.
    """
    if len(response.body) > MAX_FEED_BYTES:
        raise TooLarge(name, f"feed over {MAX_FEED_BYTES} bytes")
    text = _decoded(name, response)
    if text.count("<") > MAX_MARKS:
        raise TooLarge(name, f"feed of over {MAX_MARKS} tags")
    if re.match(r"<!doctype html|<html", text, re.IGNORECASE):
        raise Malformed(name, "HTML instead of a feed")
    root = _parsed(name, text)
    if root is None:
        root = _parsed(name, _mended(text))
        repairs.repaired("markup")
    if root is None:
        raise Malformed(name, "no well-formed feed")
    if _local(root) not in ("rss", "RDF", "feed"):
        raise Malformed(name, "XML instead of a feed")
    parsed = feedparser.parse(io.BytesIO(_anew(root, url)), sanitize_html=False, resolve_relative_uris=False)
    return some_articles(name, parsed.entries, lambda entry: _article(entry, outlet, kind, response.received_ms))


def _decoded(name: str, response: HttpResponse) -> str:
    """The text without its XML declaration: by the header's charset, the byte-order mark, the declaration, or a guess.

    A charset that the bytes contradict is passed over. A text that is sound in none is read in the first, with strays
    of the Windows charset that it looks like, and noted.
    """
    body = response.body
    marked = charsets.by_mark(body)
    bare = body if marked is None else marked[1]
    if not bare.strip():
        raise Malformed(name, "empty body")
    declared = ENCODING.match(bare)
    said = charsets.usable(declared[1].decode()) if declared is not None else None
    by_header = response.charset
    if by_header == "cp1252" and said == "utf-8":
        by_header = None  # servers add that to whatever they send
    charset_order = [by_header, None if marked is None else marked[0], said, "utf-8"]
    candidates = list(dict.fromkeys(each for each in charset_order if each is not None))
    for charset in candidates:
        text, is_sound = charsets.decode(bare if marked is not None and charset == marked[0] else body, charset)
        if is_sound and _begins_as_xml(text):
            return _undeclared(text)
    for charset in candidates:
        text, _ = charsets.decode(bare, charset)
        if _begins_as_xml(text):
            repairs.repaired("encoding")
            return _undeclared(text)
    raise Malformed(name, "no well-formed feed in an encoding that outlets use")


def _begins_as_xml(text: str) -> bool:
    return text.lstrip("\ufeff\x00 \t\r\n").startswith("<")


def _undeclared(text: str) -> str:
    return re.sub(r"\A<\?xml[^>]*\?>\s*", "", text.lstrip("\ufeff\x00 \t\r\n"))


def _parsed(name: str, text: str) -> Element | None:
    """The root; None if it is not well-formed. Raises Malformed if it declares a document type or entities."""
    # Its own builder is the one in Python, whose elements recurse; the usual one takes any depth.
    parser = DefusedXMLParser(target=TreeBuilder(), forbid_dtd=True, forbid_entities=True, forbid_external=True)
    try:
        parser.feed(text)
        root: Element = parser.close()
    except DefusedXmlException:
        raise Malformed(name, "feed with a document type or entities") from None
    except (ParseError, ValueError):
        return None
    return root


def _mended(text: str) -> str:
    """With the faults mended that outlets make: prefixes they declare nowhere, `&` for `&amp;`, HTML's entities."""
    text = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]", "", text)
    text = re.sub(r"&#(?:x[0-9a-fA-F]{1,6}|\d{1,7});", _reference, text)
    text = re.sub(r"&(?!#\d{1,7};|#x[0-9a-fA-F]{1,6};|[a-zA-Z]\w{1,30};)", "&amp;", text)
    text = re.sub(r"&(?!amp;|lt;|gt;|quot;|apos;)[a-zA-Z]\w{1,30};", _entity, text)
    used = set(re.findall(r"</?([A-Za-z_][\w.-]{0,30}):", text)) | set(
        re.findall(r"\s([A-Za-z_][\w.-]{0,30}):\w", text)
    )
    missing = used - set(re.findall(r"xmlns:([\w.-]{1,31})\s*=", text)) - {"xml", "xmlns"}
    known = {"dc": DC, "content": CONTENT, "atom": ATOM}
    declared = "".join(
        f" xmlns:{each}={quoteattr(known.get(each, f'urn:undeclared:{each}'))}" for each in sorted(missing)[:200]
    )
    return re.sub(r"<(?:rss|feed|rdf:RDF)(?=[\s>])", lambda root: root[0] + declared, text, count=1)


def _reference(found: re.Match[str]) -> str:
    """A character by its number; nothing for one that XML may not hold: a control character, half a pair."""
    digits = found[0][2:-1]
    code = int(digits[1:], 16) if digits[0] in "xX" else int(digits)
    allowed = code in (9, 10, 13) or 0x20 <= code < 0xD800 or 0xE000 <= code < 0xFFFE or 0x10000 <= code < 0x110000
    return found[0] if allowed else ""


def _entity(found: re.Match[str]) -> str:
    meant = html.unescape(found[0])
    return escape(meant) if meant != found[0] else f"&amp;{found[0][1:]}"


def _anew(root: Element, url: str) -> bytes:
    """The feed with nothing in it but what articles are made of, in the same dialect."""
    if _local(root) == "feed":
        start, item_name, end = f'<feed xmlns="{ATOM}"', "entry", "</feed>"
    else:
        start, item_name, end = '<rss version="2.0"', "item", "</channel></rss>"
    written = [f'{start} xmlns:dc="{DC}" xmlns:content="{CONTENT}">', "" if item_name == "entry" else "<channel>"]
    base = _base(root, url)
    items = (each for each in root.iter() if _local(each) in ("item", "entry"))
    for item in islice(items, MAX_ITEMS):
        written += [f"<{item_name}>", *_kept(item, base), f"</{item_name}>"]
    return "".join((*written, end)).encode()


def _base(root: Element, url: str) -> str:
    """Where the relative links of a feed lead from: its `xml:base`, else its own link, else where it was read."""
    channel = next((each for each in root if _local(each) == "channel"), root)
    bases = [value for each in (root, channel) if (value := each.get(XML_BASE))]
    if not bases:
        links = [each for each in channel if _local(each) == "link" and each.get("rel", "alternate") == "alternate"]
        bases = [value for each in links if (value := (each.text or "").strip() or each.get("href", ""))][:1]
    for base in bases:
        url = _joined(url, base)
    return url


def _joined(base: str, link: str) -> str:
    """A link in full; as it is where it cannot be joined."""
    try:
        return urljoin(base, link.strip())
    except ValueError:
        return link


def _kept(item: Element, base: str) -> Iterator[str]:
    """The elements of an item that are kept, with something in them; of one kind the first, but some categories."""
    own = _namespace(item)
    counts: Counter[str] = Counter()
    base = _joined(base, item.get(XML_BASE, ""))
    for child in item:
        namespace = _namespace(child)
        name, most = KEPT.get(("" if namespace == own else namespace, _local(child)), ("", 0))
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
            there = _joined(base, child.get(XML_BASE, ""))
            text = _joined(there, text) if text else ""
            given |= {"href": _joined(there, given["href"])} if "href" in given else {}
        counts[name] += 1
        attributes = "".join(f" {key}={quoteattr(value)}" for key, value in given.items())
        yield f"<{name}{attributes}>{escape(text)}</{name}>"


def _local(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _namespace(element: Element) -> str:
    return element.tag.rpartition("}")[0].removeprefix("{")


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
    """A time as Unix milliseconds; None if there is none, or none that could be read."""
    value = dict.get(entry, name)
    if not isinstance(value, tuple):
        return None
    try:
        return calendar.timegm(value) * 1000
    except (ValueError, OverflowError, TypeError):
        return None


def refusal(provider: str, response: HttpResponse) -> ProviderError | None:
    """The error of an answer. A feed that is not there is the outlet's fault, not the question's."""
    if response.status in (404, 410):
        return Malformed(provider, f"status {response.status}: no feed at this address")
    return http.refusal(provider, response)

"""Parses RSS and Atom of every kind and charset, and mends what careless programs write."""

import html
import re
from urllib.parse import urljoin
from xml.etree.ElementTree import Element, TreeBuilder
from xml.sax.saxutils import escape, quoteattr

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser, ParseError

from orchestrator import charsets, repairs
from orchestrator.errors import Malformed
from orchestrator.http import HttpResponse

NAME = "rss"
MAX_FEED_BYTES = 4 * 1024 * 1024
"""The longest honest feed, with whole articles in it, has about 1 MB."""
MAX_MARKS = 100_000
"""Tags in a feed, closing ones and those of quoted HTML included."""
ATOM = "http://www.w3.org/2005/Atom"
DC = "http://purl.org/dc/elements/1.1/"
CONTENT = "http://purl.org/rss/1.0/modules/content/"
XML_BASE = "{http://www.w3.org/XML/1998/namespace}base"
ENCODING = re.compile(rb"""\s*<\?xml[^>]{0,100}?encoding\s*=\s*["\']([\w.:-]{1,40})["\']""")


def decode(name: str, response: HttpResponse) -> str:
    """Return the text without its XML declaration: by the header's charset, the byte-order mark, the declaration, or a
    guess.

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


def parse_xml(name: str, text: str) -> Element | None:
    """Return the root; None if it is not well-formed. Raises Malformed if it declares a document type or entities."""
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


def mend(text: str) -> str:
    """Mend the faults that outlets make: prefixes declared nowhere, `&` for `&amp;`, HTML's entities."""
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
    """Return a character by its number; nothing for one that XML may not hold: a control character, half a pair."""
    digits = found[0][2:-1]
    code = int(digits[1:], 16) if digits[0] in "xX" else int(digits)
    allowed = code in (9, 10, 13) or 0x20 <= code < 0xD800 or 0xE000 <= code < 0xFFFE or 0x10000 <= code < 0x110000
    return found[0] if allowed else ""


def _entity(found: re.Match[str]) -> str:
    meant = html.unescape(found[0])
    return escape(meant) if meant != found[0] else f"&amp;{found[0][1:]}"


def base_of(root: Element, url: str) -> str:
    """Return where the relative links of a feed lead from: its `xml:base`, else its own link, else its address."""
    channel = next((each for each in root if local_name(each) == "channel"), root)
    bases = [value for each in (root, channel) if (value := each.get(XML_BASE))]
    if not bases:
        links = [each for each in channel if local_name(each) == "link" and each.get("rel", "alternate") == "alternate"]
        bases = [value for each in links if (value := (each.text or "").strip() or each.get("href", ""))][:1]
    for base in bases:
        url = join_urls(url, base)
    return url


def join_urls(base: str, link: str) -> str:
    """Return a link in full; as it is where it cannot be joined."""
    try:
        return urljoin(base, link.strip())
    except ValueError:
        return link


def local_name(element: Element) -> str:
    """Return the name of an element without its namespace."""
    return element.tag.rpartition("}")[2]


def namespace_of(element: Element) -> str:
    """Return the namespace of an element; empty if it has none."""
    return element.tag.rpartition("}")[0].removeprefix("{")

"""Fakes of the news outlets: one path each, a feed that grows with time, conditional requests.

`stories` is the news of all fakes, so that the same story reaches the service from several sources.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from html import escape

from tests.fakes.upstream import Call, FakeUpstream, Reply, wall_clock_ms

STORY_EVERY_MS = 7 * 60_000
OUTLETS = ("coindesk", "cointelegraph", "decrypt", "bitcoinmagazine", "theblock")
DOMAINS = {
    "coindesk": "www.coindesk.com",
    "cointelegraph": "cointelegraph.com",
    "decrypt": "decrypt.co",
    "bitcoinmagazine": "bitcoinmagazine.com",
    "theblock": "www.theblock.co",
}
COINS = (("Bitcoin", "BTC"), ("Ethereum", "ETH"), ("Solana", "SOL"), ("Dogecoin", "DOGE"), ("Cardano", "ADA"))
HEADLINES = (
    "{} rallies as funds see record inflows",
    "{} slides after exchange hack",
    "{} developers schedule their next call",
    "{} climbs for a third day",
    "Traders warn of a {} correction",
    "What to know about {} this week",
)
POLLS_A_MINUTE = 4
"""Polite number of requests for one feed; more are counted."""


@dataclass(frozen=True, slots=True)
class Story:
    """One news story."""

    number: int
    outlet: str
    title: str
    url: str
    published_ms: int
    symbol: str


def story(number: int) -> Story:
    """Return the story published at that multiple of STORY_EVERY_MS."""
    outlet = OUTLETS[number % len(OUTLETS)]
    name, symbol = COINS[number % 7 % len(COINS)]
    title = f"{HEADLINES[number % len(HEADLINES)].format(name)} ({number % 1000})"
    return Story(number, outlet, title, f"https://{DOMAINS[outlet]}/news/{number}", number * STORY_EVERY_MS, symbol)


def stories(now_ms: int, count: int, outlet: str | None = None) -> list[Story]:
    """Return the newest stories, newest first."""
    newest = now_ms // STORY_EVERY_MS
    span = count if outlet is None else count * len(OUTLETS)
    found = [story(number) for number in range(newest, newest - span, -1)]
    return [each for each in found if outlet in (None, each.outlet)]


def rss_date(ms: int) -> str:
    """Format a time as RSS does."""
    return formatdate(ms / 1000).replace("-0000", "+0000")


def rss(outlet: str, items: str, now_ms: int) -> bytes:
    """Return a channel with these items."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<rss version="2.0" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:media="http://search.yahoo.com/mrss/">'
        f"<channel><title>{outlet}</title><link>https://{DOMAINS.get(outlet, 'example.com')}/</link>"
        f"<lastBuildDate>{rss_date(now_ms)}</lastBuildDate><ttl>5</ttl>{items}</channel></rss>\n"
    ).encode()


def item(each: Story) -> str:
    """Format an item as most outlets do: the link with tracking parameters, the description as escaped HTML."""
    return (
        f"<item><title><![CDATA[{each.title}]]></title><link><![CDATA[{each.url}?utm_source=rss_feed]]></link>"
        f'<guid isPermaLink="true">{each.url}</guid><pubDate>{rss_date(each.published_ms)}</pubDate>'
        f"<description><![CDATA[<p>{escape(each.title)}, in a few more words.</p>]]></description>"
        f"<category>{each.symbol}</category></item>"
    )


LAUGHS = "".join(f'<!ENTITY lol{n} "{f"&lol{n - 1};" * 10}">' for n in range(1, 10))
HOSTILE = {
    "bomb": b'<?xml version="1.0"?><!DOCTYPE rss [<!ENTITY lol0 "lol">' + LAUGHS.encode() + b"]>"
    b'<rss version="2.0"><channel><item><title>&lol9;</title><link>https://example.com/</link></item></channel></rss>',
    "xxe": b'<?xml version="1.0"?><!DOCTYPE rss [<!ENTITY file SYSTEM "file:///etc/passwd">]>'
    b'<rss version="2.0"><channel><item><title>&file;</title><link>https://example.com/</link></item></channel></rss>',
    "javascript_link": b'<rss version="2.0"><channel><item><title>Click</title><link>javascript:alert(1)</link></item>'
    b"<item><title>Relative</title><link>/news/1</link></item></channel></rss>",
    "html_title": b'<rss version="2.0"><channel><item><title><![CDATA[<b onclick="x()">Bitcoin</b> &amp;amp; '
    b"&amp;lt;img src=x onerror=alert(1)&amp;gt;Ether\xe2\x80\xae]]></title><link>https://example.com/a</link></item>"
    b"</channel></rss>",
    "html_page": b"<!DOCTYPE html><html><head><title>Consent</title></head><body><p>Accept cookies</body></html>",
    "empty_channel": b'<rss version="2.0"><channel><title>Nothing today</title></channel></rss>',
    "cut": b'<rss version="2.0"><channel><item><title>Whole</title><link>https://example.com/whole</link></item>'
    b"<item><title>Half</title><link>https://example.com/ha",
}
"""Hostile feeds by name; `huge` is generated on request."""
HUGE_BYTES = 5 * 1024 * 1024


def huge() -> bytes:
    """Return a feed of 5 MB in one description."""
    text = b"x" * HUGE_BYTES
    return (
        b'<rss version="2.0"><channel><item><title>Long</title><link>https://example.com/long</link><description>'
        + text
        + b"</description></item></channel></rss>"
    )


class FakeRss(FakeUpstream):
    """Serve `/<outlet>` for each of OUTLETS. `hostile` names the feed that all of them send instead."""

    def __init__(self, wall_ms: Callable[[], int] = wall_clock_ms, *, items: int = 20) -> None:
        super().__init__(wall_ms)
        self.items = items
        self.hostile: str | None = None
        self.unchanged = 0
        """Number of 304 answers."""
        self.over_limit = 0
        for outlet in OUTLETS:
            self.on("GET", f"/{outlet}", self._feed)

    @property
    def feeds(self) -> dict[str, str]:
        """The URL of each outlet's feed."""
        return {outlet: f"{self.url}/{outlet}" for outlet in OUTLETS}

    def _feed(self, call: Call) -> Reply:
        if sum(each.path == call.path and each.at > call.at - 60.0 for each in self.calls) > POLLS_A_MINUTE:
            self.over_limit += 1
        outlet = call.path.strip("/")
        if self.hostile is not None:
            body = huge() if self.hostile == "huge" else HOSTILE[self.hostile]
            return Reply(body, 200, {"Content-Type": "application/rss+xml"})
        found = stories(self.wall_ms(), self.items, outlet)
        changed_ms = found[0].published_ms
        body = rss(outlet, "".join(map(item, found)), changed_ms)
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        headers = {"ETag": etag, "Last-Modified": formatdate(changed_ms / 1000, usegmt=True)}
        if call.headers.get("if-none-match") == etag:
            self.unchanged += 1
            return Reply(b"", 304, headers)
        return Reply(body, 200, {"Content-Type": "application/rss+xml; charset=utf-8", **headers})

"""RSS and Atom feeds of news outlets: what to ask, how to read the answer, and what was read last.

A feed is the least trustworthy of all bodies: XML that may bomb, name local files, or mark up what it says, and
feedparser, which knows every dialect, takes minutes over some (a long author, many attributes), holding up every
thread. So what it reads is written anew here, from the few elements that an article is made of, each cut to length;
it is given bytes only (a text it would take for an address and open). Whatever declares a document type is refused by
defusedxml, and `feeds.news.articles` makes titles plain and links harmless. Still it takes a moment, so it runs off the
event loop.

Source: RSS 2.0 specification; RFC 4287 (Atom); RFC 9110, section 13 (conditional requests).
"""

from feeds.providers.rss.documents import MAX_FEED_BYTES
from feeds.providers.rss.items import read_feed
from feeds.providers.rss.outlet import RssFeed, refusal

__all__ = ["MAX_FEED_BYTES", "RssFeed", "read_feed", "refusal"]

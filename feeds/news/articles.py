"""Articles, as all sources give them alike: what is asked for, how a text is made plain, and which are the same.

A source's file only finds the fields of a row; `article` decides what becomes of them. Nothing that a title or a link
holds can mark up, redirect or reorder what a reader sees: texts lose markup, control and direction characters, links
are http or https without credentials.
"""

import html
import re
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import blake2b
from typing import TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

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
from orchestrator.persistence import LATEST_MS
from orchestrator.texts import HIDDEN, one_line, visible

R = TypeVar("R")

MAX_TITLE = 300
MAX_SUMMARY = 600
MAX_URL = 2000
MAX_SYMBOLS = 20
READ_AT_MOST = 20_000
"""Characters of a raw text that are looked at: some feeds carry whole books in a summary."""
MAX_STAND_IN = 120
"""Of a title that is made of the summary."""
FIRST_MS = 1_230_768_000_000
"""2009-01-01. No article on crypto is older; an earlier date is a broken clock or an empty field."""
SKEW_MS = 60_000
"""A date this far ahead of our clock is still taken for the source's own; one further ahead is none."""


# --- the question ---


@dataclass(frozen=True, slots=True)
class NewsQuery:
    """Which articles: `filter` is `latest`, `hot` or `important`; `symbol` an upper-case coin, None for all.

    A source without votes knows neither `hot` nor `important` and gives its latest.
    """

    filter: str = "latest"
    symbol: str | None = None
    limit: int = 50


LATEST = NewsQuery(limit=100)
"""What every outlet is asked."""


def newest(rows: Rows[Article], query: NewsQuery) -> Rows[Article]:
    """Those of the question's symbol, newest first, at most `limit`; the counts of rejected rows are kept."""
    wanted = [each for each in rows.good if query.symbol is None or query.symbol in each.symbols]
    wanted.sort(key=lambda each: each.published_at, reverse=True)
    return Rows(wanted[: query.limit], rows.rejected)


# --- the answer ---


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
    """An article as it was written to disk. Raises: BadFieldError for one that we cannot have written."""
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
"""What stands for a title or text that its author, its outlet or a moderator has taken back."""


def article_id(url: str | None, key: tuple[str, str] | None, title: str, published_ms: int | None) -> str:
    """16 hexadecimal digits: a hash of the cleaned link, else of the source's key, else of title and time.

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
    """Read each row of an answer, as `some_rows`, and tell those apart that share a link."""
    return told_apart(some_rows(provider, raw, read))


def told_apart(rows: Rows[Article]) -> Rows[Article]:
    """Give articles of one answer that share a link, but neither key nor title, ids of their own.

    The posts of a live page, or all that a careless outlet has, lead to one address, or differ in its fragment only.
    """
    names: defaultdict[str, set[object]] = defaultdict(set)
    for each in rows.good:
        names[each.id].add(each.key or each.title)
    return Rows([each if len(names[each.id]) == 1 else _by_itself(each) for each in rows.good], rows.rejected)


def _by_itself(each: Article) -> Article:
    """The same article, known by its key, or by title and time."""
    published_ms = None if each.published_estimated else each.published_at
    return replace(each, id=article_id(None, each.key, each.title, published_ms))


def _merged(symbols: Iterable[str]) -> tuple[str, ...]:
    found = dict.fromkeys(each.upper() for each in symbols)
    return tuple(each for each in found if re.fullmatch(r"[A-Z0-9]{1,15}", each))[:MAX_SYMBOLS]


def outlet_name(name: str | None, domain: str | None, default: str) -> str:
    """The short name of an outlet, the same from its name and from its domain: `theblock`, `bitcoinmagazine`."""
    labels = [each for each in (domain or "").lower().split(":")[0].split(".") if each]
    if len(labels) > 1:
        labels.pop()
        if len(labels) > 1 and labels[-1] in ("co", "com", "org", "net"):
            labels.pop()
        name = labels[-1]
    return re.sub(r"[^a-z0-9]", "", (name or "").lower())[:40] or default


# --- links ---

TRACKING = re.compile(
    r"utm_\w*|mtm_\w*|pk_\w*|at_(?:medium|campaign|custom\d|link_\w+)|fbclid|[gy]clid|msclkid|gbraid|wbraid|dclid|twclid"
    r"|igshid|mc_[ce]id|_hs(?:enc|mi)|mkt_tok|cmpid|ncid|ref_src|ref_url|s_cid|ocid|oly_\w+_id",
    re.IGNORECASE,
)
"""Query parameters that tell how a reader came, not what they read."""

PORTS = {"http": 80, "https": 443}


def clean_url(url: str | None) -> str | None:
    """An absolute http or https link without fragment and tracking parameters; None for anything else.

    A link with credentials is refused: `https://coindesk.com@elsewhere.example/` misleads its reader.
    """
    if not url or len(url) > MAX_URL:
        return None
    try:
        parts = urlsplit(url.strip())
        scheme, host, port = parts.scheme.lower(), parts.hostname, parts.port
    except ValueError:
        return None
    if scheme not in PORTS or not host or "@" in parts.netloc or HIDDEN.search(url.strip()) or "\\" in parts.netloc:
        return None
    if not re.fullmatch(r"[\w.:%-]+", host):
        return None
    if ":" in host:
        host = f"[{host}]"
    netloc = host if port is None or port == PORTS[scheme] else f"{host}:{port}"
    kept = [each for each in parts.query.split("&") if each and not TRACKING.fullmatch(each.partition("=")[0])]
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    return urlunsplit((scheme, netloc, path, quote("&".join(kept), safe="/%:@!$&'()*+,;=~-._?[]"), ""))


# --- texts ---

# Each alternative ends at the end of the text too, so that no unclosed tag is searched for twice.
UNSHOWN = re.compile(r"<!--.*?(?:-->|\Z)|<(script|style)\b.*?(?:</\1\s*>|\Z)", re.IGNORECASE | re.DOTALL)
ELEMENTS = (
    "a|abbr|acronym|address|applet|area|article|aside|audio|b|base|basefont|bdi|bdo|bgsound|big|blink|blockquote|body|br|"
    "button|canvas|caption|center|cite|code|col|colgroup|command|content|data|datalist|dd|del|details|dfn|dialog|dir|"
    "div|dl|dt|element|em|embed|fieldset|figcaption|figure|font|footer|form|frame|frameset|h[1-6]|head|header|hgroup|hr|"
    "html|i|iframe|image|img|input|ins|isindex|kbd|keygen|label|legend|li|link|listing|main|map|mark|marquee|math|menu|"
    "menuitem|meta|meter|multicol|nav|nextid|nobr|noembed|noframes|noscript|object|ol|optgroup|option|output|p|param|"
    "picture|plaintext|pre|progress|q|rb|rbc|rp|rt|rtc|ruby|s|samp|script|search|section|select|shadow|slot|small|source|"
    "spacer|span|strike|strong|style|sub|summary|sup|svg|table|tbody|td|template|textarea|tfoot|th|thead|time|title|tr|"
    "track|tt|u|ul|var|video|wbr|xmp"
)
_ATTRIBUTES = r"\s[^<>=]*=[^>]*(?:>|\Z)"
TAG = re.compile(
    # An element of HTML, or of a vocabulary with a prefix or a hyphen; one that is cut off has an attribute.
    rf"</?((?:{ELEMENTS})(?![\w:-])|[a-z][a-z0-9]*[:-][a-z0-9:-]*)(?:[^<>]*>|{_ATTRIBUTES}|\s*/?\Z)"
    # Any other word counts where it is written as a tag: "BTC<ETH this year" and "BTC<ETH>SOL" compare.
    rf"|</?(?-i:[a-z])[a-z0-9]*(?:\s[^<>]*)?/?>|<[a-z][a-z0-9]*{_ATTRIBUTES}"
    r"|<[/!?][^>]*(?:>|\Z)",
    re.IGNORECASE,
)
INLINE = re.compile(r"a|abbr|b|bdi|bdo|cite|code|del|em|font|i|ins|kbd|mark|q|s|small|span|strong|sub|sup|u")
ROUNDS = 3
"""A title escaped once by its author, once by the feed and once by an aggregator has been seen; none beyond."""


def plain(text: str, most: int) -> str:
    """A text without markup, entities, control and direction characters, on one line, at most `most` characters.

    Escaped markup counts as markup, however often it was escaped: such titles are mistakes of the feed. A sign that
    compares stays one, apart from the word behind it, so that nothing can take both for a tag.
    """
    text = visible(text[:READ_AT_MOST])
    for _ in range(ROUNDS):
        before = text
        text = visible(html.unescape(_without_tags(text)))
        if text == before:
            break
    text = _without_tags(text)
    # What is left of markup that was nested to survive its own removal, and what compares.
    text = re.sub(r"\s*<+\s*(?=[/!?])", "", text)
    text = re.sub(r"\s*<+(?=[a-z])", " < ", text, flags=re.IGNORECASE)
    return cut(" ".join(text.split()), most)


def cut(text: str, most: int) -> str:
    """At most `most` characters of a text, up to a word, which say that there were more."""
    if len(text) <= most:
        return text
    kept = text[: most - 1]
    space = kept.rfind(" ", most // 2)
    return f"{kept[:space] if space > 0 else kept}…"


def _without_tags(text: str) -> str:
    if "<" not in text:
        return text
    return TAG.sub(_gap, UNSHOWN.sub(" ", text))


def _gap(tag: re.Match[str]) -> str:
    return "" if INLINE.fullmatch((tag[1] or "").lower()) else " "


# --- coins in a text ---

NAMES = {
    "bitcoin": "BTC",
    "bitcoin cash": "BCH",
    "bitcoin sv": "BSV",
    "ethereum": "ETH",
    "ethereum classic": "ETC",
    "ether": "ETH",
    "solana": "SOL",
    "cardano": "ADA",
    "dogecoin": "DOGE",
    "polkadot": "DOT",
    "chainlink": "LINK",
    "litecoin": "LTC",
    "stellar lumens": "XLM",
    "monero": "XMR",
    "zcash": "ZEC",
    "uniswap": "UNI",
    "toncoin": "TON",
    "shiba inu": "SHIB",
    "near protocol": "NEAR",
    "aptos": "APT",
    "filecoin": "FIL",
    "arbitrum": "ARB",
    "hedera": "HBAR",
    "algorand": "ALGO",
    "aave": "AAVE",
    "tether": "USDT",
    "hyperliquid": "HYPE",
    "bittensor": "TAO",
    "celestia": "TIA",
    "vechain": "VET",
    "tezos": "XTZ",
    "makerdao": "MKR",
    "worldcoin": "WLD",
    "decentraland": "MANA",
    "axie infinity": "AXS",
    "binance coin": "BNB",
    "pancakeswap": "CAKE",
    "thorchain": "RUNE",
    "kaspa": "KAS",
    "ethena": "ENA",
}
"""Names that mean their coin and nothing else, in any case."""

PROPER_NAMES = {
    "Ripple": "XRP",
    "Avalanche": "AVAX",
    "Tron": "TRX",
    "Sui": "SUI",
    "Pepe": "PEPE",
    "Cosmos": "ATOM",
    "Polygon": "POL",
    "Injective": "INJ",
    "Bonk": "BONK",
}
"""Names that are words too (`a ripple effect`): only capitalised. Stellar, Optimism, Maker, Near, Sandbox and the like
are missing on purpose: in a headline every word is capitalised, and these are said of other things too often."""

TICKERS = re.compile(
    r"BTC|ETH|BNB|SOL|XRP|ADA|DOGE|TRX|AVAX|LTC|BCH|XLM|XMR|ZEC|USDT|USDC|DAI|FDUSD|PYUSD|USDE|SHIB|PEPE|APT|SUI|"
    r"FIL|ARB|HBAR|ICP|AAVE|MKR|ALGO|ETC|HYPE|TAO|TIA|VET|XTZ|WLD|AXS|CAKE|RUNE|KAS|ENA|INJ|BONK|WIF|POL|MATIC|"
    r"STETH|WBTC|LDO|CRV|GRT|BSV|EOS|QNT|FET|RENDER|JUP|PYTH|ONDO|SEI|STX|IMX|FLOKI|DYDX|PENDLE|SNX|COMP|EGLD|MINA|"
    r"KSM|DASH|NEO|IOTA|XAUT|TWT|GALA|CHZ"
)
"""Tickers that count in upper case wherever they stand."""

WORD_TICKERS = re.compile(
    r"NEAR|LINK|SAND|DOT|UNI|ATOM|TON|OP|ONE|APE|FLOW|MANA|MASK|GAS|WAVES|ORDI|BLUR|STRK|TRUMP|CRO|OKB|LEO|ENS"
)
"""Tickers that are words or other people's initials. They count in upper case, but not in a text written all in it."""

COIN = re.compile(
    r"(?<![\w@$&])\$(?P<cash>[A-Za-z]{2,8})(?![\w$])"
    r"|(?<![\w@&])(?P<name>" + "|".join(sorted(NAMES, key=len, reverse=True)) + r")(?!\w)"
    r"|(?<![\w@&])(?P<proper>(?-i:" + "|".join(sorted(PROPER_NAMES)) + r"))(?!\w| (?:effects?|of)\b)"
    r"|(?<![\w@&$])(?P<ticker>(?-i:[A-Z]{2,6}))(?!\w)",
    re.IGNORECASE,
)


def symbols_in(text: str) -> tuple[str, ...]:
    """The major coins a text speaks of, in the order of their first mention.

    A coin is meant by its name (`Bitcoin`, any case), its ticker in upper case (`BTC`, `NEAR`) or its cashtag in any
    (`$btc`). So `near`, `link` and `sand` in a sentence are none, and in a text all in capitals neither are NEAR, LINK
    and SAND. What is not in the tables above is not found.
    """
    shouted = text.upper() == text
    return tuple(dict.fromkeys(_coins(text, shouted)))


def _coins(text: str, shouted: bool) -> Iterator[str]:
    for found in COIN.finditer(text):
        if (cash := found["cash"]) is not None:
            if TICKERS.fullmatch(cash.upper()) or WORD_TICKERS.fullmatch(cash.upper()):
                yield cash.upper()
        elif (name := found["name"]) is not None:
            yield NAMES[name.lower()]
        elif (proper := found["proper"]) is not None:
            yield PROPER_NAMES[proper]
        elif TICKERS.fullmatch(found["ticker"]) or (WORD_TICKERS.fullmatch(found["ticker"]) and not shouted):
            yield found["ticker"]


# --- seen before? ---


class Novelty(StrEnum):
    """What an article is to one who has read the ones before."""

    NEW = "new"
    UPDATED = "updated"
    KNOWN = "known"


@dataclass(slots=True)
class _Versions:
    titles: set[str]
    published_at: int
    keys: dict[str, str] = field(default_factory=dict)
    """By who names it: its name there."""


MAX_TITLES = 16
"""Titles remembered of one article; one that is rewritten more often is told again."""
LATER_MS = 10 * 60_000
"""Two sources date the same article some minutes apart; beyond that it was published anew."""


class SeenArticles:
    """Remembers the last `size` articles and tells which are new, which are rewritten and which are known.

    An article of the same id is updated, not new, when it has a title it has never had or a publication date well
    after its last. Every title it has had is remembered, so that two sources wording it differently do not take turns
    in updating it.
    """

    def __init__(self, size: int = 5000) -> None:
        self.size = size
        self.versions: OrderedDict[str, _Versions] = OrderedDict()

    def named(self, each: Article) -> Article:
        """The article under the id that it has among those that were there before.

        One that has shared its link since its first time keeps the id of the link. One that came alone, but under
        another key and title than the last one of its link, is another article.
        """
        if each.url is None:
            return each
        link_id = article_id(each.url, None, "", None)
        seen = self.versions.get(link_id)
        if seen is None:
            return each
        source, name = each.key or ("", "")
        known = seen.keys.get(source)
        is_known = known == name if known is not None else each.title in seen.titles
        if each.id != link_id:
            return replace(each, id=link_id) if is_known else each
        is_another = known is not None and not is_known and each.title not in seen.titles
        return _by_itself(each) if is_another else each

    def judge(self, each: Article) -> Novelty:
        """What this one is; from now on it is known."""
        novelty = self._judged(each)
        if each.key is not None:
            self.versions[each.id].keys.setdefault(*each.key)
        return novelty

    def _judged(self, each: Article) -> Novelty:
        seen = self.versions.get(each.id)
        if seen is None:
            self.versions[each.id] = _Versions({each.title}, 0 if each.published_estimated else each.published_at)
            while len(self.versions) > self.size:
                self.versions.popitem(last=False)
            return Novelty.NEW
        self.versions.move_to_end(each.id)
        changed = each.title not in seen.titles
        if changed:
            if len(seen.titles) >= MAX_TITLES:
                seen.titles.clear()
            seen.titles.add(each.title)
        if not each.published_estimated:
            changed |= 0 < seen.published_at < each.published_at - LATER_MS
            seen.published_at = max(seen.published_at, each.published_at)
        return Novelty.UPDATED if changed else Novelty.KNOWN

"""Articles made alike: texts made plain, links made harmless, the same story told once, coins found in a text."""

import re
import unicodedata
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.fields import BadFieldError, Rows
from feeds.model import Article
from feeds.news.articles import (
    MAX_STAND_IN,
    MAX_SUMMARY,
    MAX_TITLE,
    NewsQuery,
    article,
    newest,
    outlet_name,
    told_apart,
)
from feeds.news.coins import symbols_in
from feeds.news.plain_text import plain
from feeds.news.seen import MAX_TITLES, Novelty, SeenArticles
from feeds.news.urls import clean_url
from tests.fakes.clock import START_MS

HOUR_MS = 3_600_000


def made(
    title: str | None = "Bitcoin rests",
    url: str | None = "https://example.com/1",
    published_ms: int | None = START_MS - HOUR_MS,
    summary: str | None = None,
    key: tuple[str, str] | None = None,
    received_ms: int = START_MS,
) -> Article:
    """An article received at START_MS."""
    read = article(
        title=title,
        url=url,
        outlet="tested",
        kind="news",
        published_ms=published_ms,
        received_ms=received_ms,
        summary=summary,
        key=key,
    )
    assert read is not None
    return read


# --- texts ---


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("Bitcoin &amp; Ether", "Bitcoin & Ether"),
        ("Bitcoin &amp;amp; Ether", "Bitcoin & Ether"),
        ("&amp;lt;b&amp;gt;Bit&amp;lt;/b&amp;gt;coin", "Bitcoin"),
        ("<p>One.</p><p>Two.</p>", "One. Two."),
        ("See <a href='x'>this</a>.", "See this."),
        ("<script>alert(1)</script>News", "News"),
        ("<style>p{}</style><!-- hidden -->News", "News"),
        ("News <img src=x onerror=alert(1)", "News"),
        ("a\u202egnp.exe\u202c b\u200b\x00\x07", "agnp.exe b"),
        ("  one\r\n two\tthree\u2028four\u00a0five ", "one two three four five"),
        ("Price < $60k and volume > average", "Price < $60k and volume > average"),
        ("1 < 2 and 3>2", "1 < 2 and 3>2"),
        ("BTC<ETH this year", "BTC < ETH this year"),
        ("BTC<ETH>SOL", "BTC < ETH>SOL"),
        ("BTC<ETH and SOL>ADA", "BTC < ETH and SOL>ADA"),
        ("SOL <ETH-USD spread", "SOL < ETH-USD spread"),
        ("worth <a hundred", "worth < a hundred"),
        ("Old news <Tweet src='x'>", "Old news"),
        ("Old news <ETH onmouseover=alert(1)", "Old news"),
        ("It&#146;s &#147;up&#148; \x96 or so", "It’s “up” – or so"),
        ("family 👨\u200d👩\u200d👧", "family 👨\u200d👩\u200d👧"),
        ("half a pair \ud83d here", "half a pair here"),
    ],
)
def test_a_text_is_made_plain(raw: str, shown: str) -> None:
    assert plain(raw, MAX_TITLE) == shown


def test_a_long_text_ends_at_a_word_and_says_that_it_was_cut() -> None:
    cut = plain("word " * 1000, 300)
    assert len(cut) <= 300
    assert cut.endswith("word…")
    assert len(plain("x" * 1000, 300)) == 300


PIECES = st.lists(
    st.one_of(
        st.sampled_from(
            ("<", ">", "&lt;", "&gt;", "&amp;", "<b>", "</b>", "<script>", "</script>", "<img", "<!--", "-->", "&#60;")
        ),
        st.sampled_from(("\u202e", "\x00", "\ud800", "&#8238;", " ", "x")),
        st.text(max_size=5),
    ),
    max_size=30,
).map("".join)


@settings(max_examples=300)
@given(PIECES)
def test_no_plain_text_holds_markup_or_hidden_characters(raw: str) -> None:
    shown = plain(raw, 100)
    assert len(shown) <= 100
    assert shown == " ".join(shown.split())
    for here, following in pairwise(shown):
        assert not (here == "<" and re.match("[a-zA-Z/!?]", following))
    assert not any(unicodedata.category(each) in ("Cc", "Cs") for each in shown)
    assert not set(shown) & set("\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
    shown.encode()


@pytest.mark.parametrize("title", [None, "", "  ", "<p></p>", "\u200b", "&nbsp;"])
def test_an_article_without_a_title_is_called_by_its_summary(title: str | None) -> None:
    assert made(title=title, summary="<p>One. Two.</p>").title == "One. Two."
    long = made(title=title, summary="word " * 100)
    assert len(long.title) <= MAX_STAND_IN
    assert long.title.endswith("word…")
    with pytest.raises(BadFieldError):
        made(title=title, summary="<p></p>")


@pytest.mark.parametrize("text", ["[Removed]", "[removed]", "[deleted]", "[ Removed by Reddit ]", "[deleted by user]"])
def test_a_withdrawn_article_is_none_and_a_withdrawn_text_is_no_summary(text: str) -> None:
    fields = {"url": None, "outlet": "tested", "kind": "news", "published_ms": None, "received_ms": START_MS}
    assert article(title=text, summary="x", **fields) is None  # type: ignore[arg-type]
    assert made(title="Asked and answered", summary=text).summary is None


def test_titles_and_summaries_are_capped_and_a_repeated_title_is_no_summary() -> None:
    long = made(title="t " * 500, summary="s " * 1000)
    assert len(long.title) <= MAX_TITLE
    assert long.summary is not None
    assert len(long.summary) <= MAX_SUMMARY
    assert made(title="Same", summary="<p>Same</p>").summary is None


# --- links ---


@pytest.mark.parametrize(
    ("given", "clean"),
    [
        ("https://Example.COM/A?utm_source=rss&id=3&fbclid=x#top", "https://example.com/A?id=3"),
        ("HTTP://example.com:80", "http://example.com/"),
        ("https://example.com:443/a", "https://example.com/a"),
        ("https://example.com:8443/a/?UTM_Campaign=1", "https://example.com:8443/a/"),
        (" https://example.com/a b ", "https://example.com/a%20b"),
        ("https://example.com/a%20b?q=%26&r=é", "https://example.com/a%20b?q=%26&r=%C3%A9"),
        ('https://example.com/"><script>', "https://example.com/%22%3E%3Cscript%3E"),
        ("https://[2001:db8::1]/a", "https://[2001:db8::1]/a"),
    ],
)
def test_a_link_keeps_what_it_means_and_loses_the_rest(given: str, clean: str) -> None:
    assert clean_url(given) == clean
    assert clean_url(clean) == clean


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "java\nscript:alert(1)",
        "data:text/html,x",
        "file:///etc/passwd",
        "/news/1",
        "//example.com/1",
        "news",
        "https://",
        "https:///path",
        "https://user:secret@example.com/",
        "https://coindesk.com@example.com/",
        "https://example.com\\@evil.example/",
        "https://exa mple.com/",
        "https://exam\u202eple.com/",
        "https://example.com:99999/",
        "https://[broken/",
        "https://example.com/" + "a" * 3000,
    ],
)
def test_a_link_that_may_mislead_is_none(given: str | None) -> None:
    assert clean_url(given) is None


# --- which are the same ---


def test_the_same_story_by_two_ways_has_one_id() -> None:
    ways = (
        "https://www.coindesk.com/markets/a?utm_source=rss",
        "https://coindesk.com/markets/a/",
        "http://www.coindesk.com/markets/a#comments",
        "https://www.coindesk.com:443/markets/a/?fbclid=1",
    )
    assert len({made(url=url, title=url).id for url in ways}) == 1
    assert made(url="https://www.coindesk.com/markets/b").id != made(url=ways[0]).id
    assert made(url="https://example.com/?p=1").id != made(url="https://example.com/?p=2").id


def test_an_article_without_a_link_is_known_by_its_key_or_by_title_and_time() -> None:
    assert made(url=None, key=("a", "1"), title="One").id == made(url="javascript:x", key=("a", "1"), title="Two").id
    assert made(url=None).id == made(url=None).id
    assert made(url=None).id != made(url=None, published_ms=START_MS - 2 * HOUR_MS).id
    # Undated, it must not become another article with every poll.
    assert made(url=None, published_ms=None).id == made(url=None, published_ms=None, received_ms=START_MS + 1).id


@pytest.mark.parametrize(
    ("published_ms", "told", "estimated"),
    [
        (START_MS - 1, START_MS - 1, False),
        (None, START_MS, True),
        (0, START_MS, True),
        (-5, START_MS, True),
        (START_MS + 5000, START_MS, False),
        (START_MS + HOUR_MS, START_MS, True),
    ],
)
def test_no_article_is_from_the_future_or_from_before_bitcoin(
    published_ms: int | None, told: int, estimated: bool
) -> None:
    read = made(published_ms=published_ms)
    assert (read.published_at, read.published_estimated) == (told, estimated)


SHARED = "https://example.com/live"
BY_KEY = [made(f"Post {number}", f"{SHARED}#{number}", key=("rss:a", str(number))) for number in range(5)]
BY_TITLE = [replace(each, key=None) for each in BY_KEY]
ALIKE = [replace(each, title="Live") for each in BY_KEY]


@pytest.mark.parametrize("answer", [BY_KEY, BY_TITLE, ALIKE, [*BY_KEY[:2], *BY_TITLE[2:]]])
def test_articles_that_share_a_link_are_as_many_as_their_keys_or_titles(answer: list[Article]) -> None:
    read = told_apart(Rows(list(answer)))
    assert len({each.id for each in read.good}) == 5
    assert {each.url for each in read.good} == {SHARED}
    assert told_apart(Rows(answer[::-1])).good == read.good[::-1], "the order makes no difference"


def test_one_article_twice_in_an_answer_is_one() -> None:
    once = BY_KEY[0]
    for twice in (replace(once, title="Rewritten"), replace(once, summary="More")):
        assert {each.id for each in told_apart(Rows([once, twice])).good} == {once.id}
    assert {each.id for each in told_apart(Rows([BY_TITLE[0]] * 2)).good} == {once.id}


@pytest.mark.parametrize("posts", [BY_KEY, BY_TITLE])
def test_the_posts_of_a_link_are_published_once_each_however_they_come_and_go(posts: list[Article]) -> None:
    seen = SeenArticles()
    answers = [posts[:1], posts[1::-1], posts[:3], posts[1:4], posts[:4], posts]
    new = []
    for answer in answers:
        named = [seen.named(each) for each in told_apart(Rows(list(answer))).good]
        new += [each.title for each in named if seen.judge(each) is not Novelty.KNOWN]
    assert sorted(new) == [each.title for each in posts]


def test_the_next_post_of_a_link_is_no_rewriting_of_the_last() -> None:
    seen = SeenArticles()
    ids = []
    for post in BY_KEY:
        named = seen.named(post)
        assert seen.judge(named) is Novelty.NEW
        assert seen.judge(seen.named(post)) is Novelty.KNOWN
        ids.append(named.id)
    assert len(set(ids)) == 5


def test_a_source_without_lasting_names_makes_no_second_article() -> None:
    seen = SeenArticles()
    first = made(key=("rss:a", "1"))
    theirs = made("Bitcoin rests, says analyst", key=("cryptopanic", "77"))
    renamed = made(key=("rss:a", "2"))
    rewritten = made("Bitcoin rests again", key=("rss:a", "1"))
    for each in (first, theirs, renamed, rewritten, made("As told elsewhere")):
        named = seen.named(each)
        seen.judge(named)
        assert named.id == first.id


def test_a_rewritten_article_is_an_update_and_an_old_one_is_known() -> None:
    seen = SeenArticles()
    first = made("What happened today")
    assert seen.judge(first) is Novelty.NEW
    assert seen.judge(first) is Novelty.KNOWN
    assert seen.judge(replace(first, title="What happened today: more")) is Novelty.UPDATED
    assert seen.judge(made(url="https://example.com/2")) is Novelty.NEW


def test_two_sources_that_word_one_story_differently_do_not_take_turns_in_updating_it() -> None:
    seen = SeenArticles()
    ours, theirs = made("Bitcoin rests"), made("Bitcoin rests, says analyst", published_ms=START_MS - HOUR_MS + 40_000)
    assert [seen.judge(each) for each in (ours, theirs)] == [Novelty.NEW, Novelty.UPDATED]
    assert {seen.judge(each) for each in (ours, theirs, ours, theirs)} == {Novelty.KNOWN}


def test_an_article_that_is_published_again_is_an_update() -> None:
    seen = SeenArticles()
    seen.judge(made())
    assert seen.judge(made(published_ms=START_MS - HOUR_MS + 300_000)) is Novelty.KNOWN
    assert seen.judge(made(published_ms=START_MS - 1)) is Novelty.UPDATED


def test_an_undated_article_is_no_update_for_being_received_later() -> None:
    seen = SeenArticles()
    seen.judge(made(published_ms=None))
    assert seen.judge(made(published_ms=None, received_ms=START_MS + HOUR_MS)) is Novelty.KNOWN


def test_what_is_remembered_is_bounded_and_what_is_asked_for_stays() -> None:
    seen = SeenArticles(size=3)
    each = [made(url=f"https://example.com/{number}") for number in range(4)]
    for one in (each[0], each[1], each[2], each[0], each[3]):
        seen.judge(one)
    assert [seen.judge(one) for one in (each[0], each[2], each[3])] == [Novelty.KNOWN] * 3
    assert seen.judge(each[1]) is Novelty.NEW
    for number in range(100):
        seen.judge(replace(each[0], title=f"Version {number}"))
    assert max(len(versions.titles) for versions in seen.versions.values()) <= MAX_TITLES


def test_the_newest_of_a_coin_are_chosen() -> None:
    rows = Rows([made(url=f"https://example.com/{hour}", published_ms=START_MS - hour * HOUR_MS) for hour in (3, 1, 2)])
    rows.rejected["title"] = 2
    chosen = newest(rows, NewsQuery(symbol="BTC", limit=2))
    assert [each.url for each in chosen.good] == ["https://example.com/1", "https://example.com/2"]
    assert chosen.rejected == {"title": 2}
    assert newest(rows, NewsQuery(symbol="ETH")).good == []


@pytest.mark.parametrize(
    ("name", "domain", "outlet"),
    [
        ("CoinDesk", None, "coindesk"),
        ("Whatever", "www.coindesk.com", "coindesk"),
        ("The Block", "theblock.co", "theblock"),
        ("Bitcoin Magazine", None, "bitcoinmagazine"),
        (None, "news.bbc.co.uk", "bbc"),
        (None, "localhost", "default"),
        (None, None, "default"),
        ("…", None, "default"),
    ],
)
def test_an_outlet_has_one_name(name: str | None, domain: str | None, outlet: str) -> None:
    assert outlet_name(name, domain, "default") == outlet


# --- coins ---


@pytest.mark.parametrize(
    ("text", "symbols"),
    [
        ("Bitcoin and ether rise", ("BTC", "ETH")),
        ("BITCOIN CASH FORKS", ("BCH",)),
        ("Ethereum Classic, not Ethereum", ("ETC", "ETH")),
        ("BTC/USDT and (ETH)", ("BTC", "USDT", "ETH")),
        ("ETH's gas, SOL-USD", ("ETH", "SOL")),
        ("$btc and $Near but $1.5M", ("BTC", "NEAR")),
        ("Near the end, a link to the sand dunes", ()),
        ("NEAR holders link arms", ("NEAR",)),
        ("A CLICK ON THIS LINK IS NEAR", ()),
        ("CHAINLINK (LINK) IS UP, BTC TOO", ("LINK", "BTC")),
        ("A ripple effect; an avalanche of sellers", ()),
        ("Avalanche of sellers; Ripple effects", ()),
        ("Ripple and Avalanche rise", ("XRP", "AVAX")),
        ("bitcoins bitcoiner subBTC @BTC", ()),
        ("sol ada doge in small letters", ()),
        ("", ()),
    ],
)
def test_coins_are_found_by_name_ticker_and_cashtag(text: str, symbols: tuple[str, ...]) -> None:
    assert symbols_in(text) == symbols


def test_what_the_source_names_comes_first_and_nonsense_is_left_out() -> None:
    read = article(
        title="Bitcoin and Solana",
        url=None,
        outlet="tested",
        kind="news",
        published_ms=None,
        received_ms=START_MS,
        symbols=("eth", "BTC", "<b>", "", "TOOLONGFORASYMBOL1"),
    )
    assert read is not None
    assert read.symbols == ("ETH", "BTC", "SOL")

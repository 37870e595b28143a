"""News feeds: every form in which outlets publish them, and what hostile ones send."""

import asyncio
import contextlib
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.fields import Rows
from feeds.model import Article
from feeds.news.articles import NewsQuery
from feeds.providers import rss
from feeds.providers.rss import MAX_FEED_BYTES, RssFeed, read_feed
from orchestrator import repairs
from orchestrator.addresses import is_public_address
from orchestrator.errors import Blocked, Malformed, NotFound, ProviderError, RateLimited, TooLarge, Unavailable
from orchestrator.http import HttpRequest, HttpResponse
from stream_server.settings import Settings
from tests.asking import asking
from tests.conversations import answered, date_ms, drive
from tests.fakes.clock import START_MS, ManualClock
from tests.fakes.rss import HOSTILE, OUTLETS, FakeRss
from tests.fakes.upstream import Fault

SAMPLES = Path(__file__).parents[2] / "samples" / "rss"
RECEIVED_MS = START_MS + 40
LATEST = NewsQuery()


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


def read(body: bytes, content_type: str | None = None, url: str = "") -> Rows[Article]:
    headers = {} if content_type is None else {"content-type": content_type}
    return read_feed(answered(body, headers=headers), "rss:tested", "tested", url=url)


def titles(rows: Rows[Article]) -> list[str]:
    return [each.title for each in rows.good]


# --- what outlets send ---


def test_coindesk_is_read_with_its_summary_in_spite_of_the_empty_one_behind_it() -> None:
    first, second = read(sample("coindesk.xml")).good
    assert first == Article(
        id=first.id,
        title="Issuers freeze a hacker's wallet after exchange heist",
        url="https://www.coindesk.com/markets/2026/09/25/issuers-freeze-a-hacker-s-wallet",
        outlet="tested",
        kind="news",
        published_at=date_ms("Fri, 25 Sep 2026 14:41:53 +0000"),
        summary="Some of the stolen funds sit in ether, which can't be frozen.",
        symbols=("USDT", "ETH"),
    )
    assert second.summary is None
    assert second.published_at == date_ms("Fri, 25 Sep 2026 15:00:00 +0000")  # 10:00 EST


def test_cointelegraph_loses_its_tracking_and_its_pictures() -> None:
    (only,) = read(sample("cointelegraph.xml")).good
    assert only.url == "https://cointelegraph.com/news/tokenized-stock-holders"
    assert only.summary == "Over a million people hold one."


def test_a_whole_article_in_a_feed_is_cut_to_a_summary_without_its_scripts() -> None:
    (only,) = read(sample("wordpress.xml")).good
    assert only.title == "A long read – with “quotes”"
    assert only.summary is not None
    assert only.summary.startswith("The whole text. And more of it.")
    assert len(only.summary) <= 600


def test_an_article_without_a_date_that_can_be_true_is_of_the_time_of_its_receipt() -> None:
    rows = read(sample("no_dates.xml"))
    assert len(rows.good) == 4
    assert {(each.published_at, each.published_estimated) for each in rows.good} == {(RECEIVED_MS, True)}


def test_an_undeclared_prefix_and_a_bare_ampersand_are_put_up_with() -> None:
    (only,) = read(sample("undeclared_prefix.xml")).good
    assert only.title == "Prices & prefixes"
    assert only.published_at == date_ms("Sat, 15 Aug 2026 17:26:43 +0000")


@pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b"\n \n", b"\xef\xbb\xbf\n"], ids=["mark", "space", "both"])
def test_what_stands_before_the_xml_is_put_up_with(before: bytes) -> None:
    assert len(read(before + sample("cointelegraph.xml")).good) == 1


def test_an_older_encoding_is_read() -> None:
    text = sample("cointelegraph.xml").decode().replace("UTF-8", "windows-1252").replace("Tokenized", "“Tokenisé”")
    assert titles(read(text.encode("cp1252"))) == ["“Tokenisé” stocks find twice as many holders"]


def test_rss_1_and_atom_with_markup_are_read() -> None:
    rdf = (
        b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/" '
        b'xmlns:dc="http://purl.org/dc/elements/1.1/"><channel><title>x</title></channel><item><title>One</title>'
        b"<link>https://example.com/1</link><dc:date>2026-08-15T17:26:43Z</dc:date></item></rdf:RDF>"
    )
    (one,) = read(rdf).good
    assert (one.title, one.published_at) == ("One", date_ms("Sat, 15 Aug 2026 17:26:43 +0000"))
    atom = (
        b'<feed xmlns="http://www.w3.org/2005/Atom"><entry><title>Two</title><link rel="self" href="https://x.y/s"/>'
        b'<link rel="alternate" href="https://example.com/2"/><updated>2026-08-15T17:26:43Z</updated>'
        b'<content type="xhtml"><div xmlns="http://www.w3.org/1999/xhtml"><p>A.</p><p>B.</p></div></content></entry></feed>'
    )
    (two,) = read(atom).good
    assert (two.url, two.summary, two.published_at) == ("https://example.com/2", "A. B.", one.published_at)


def test_the_words_of_a_picture_do_not_replace_those_of_the_article() -> None:
    picture = b"<media:group><media:title>A chart</media:title></media:group><media:title>A chart</media:title>"
    body = sample("coindesk.xml").replace(b"<dc:creator>", picture + b"<dc:creator>")
    assert read(body).good[0].title == "Issuers freeze a hacker's wallet after exchange heist"


def test_an_empty_channel_is_no_fault() -> None:
    assert read(sample("empty_channel.xml")) == Rows()


# --- which characters, which link, which time ---

TEXT = "Биткоин растёт"


def with_title(title: str, declaration: str = '<?xml version="1.0"?>') -> str:
    item = f"<item><title>{title}</title><link>https://example.com/1</link></item>"
    return f'{declaration}<rss version="2.0"><channel>{item}</channel></rss>'


@pytest.mark.parametrize(
    ("content_type", "declared", "encoding", "mark"),
    [
        ("text/xml; charset=windows-1251", None, "cp1251", b""),
        ("text/xml;charset='KOI8-R'", None, "koi8-r", b""),
        ("text/xml; charset=windows-1251", "utf-8", "cp1251", b""),
        ("text/xml; charset=windows-1251", "koi8-r", "cp1251", b""),
        ("text/xml; charset=utf-16", None, "utf-16", b""),
        ("text/xml", None, "utf-8", b"\xef\xbb\xbf"),
        ("text/xml", "windows-1251", "utf-8", b"\xef\xbb\xbf"),
        ("text/xml; charset=windows-1251", None, "utf-8", b"\xef\xbb\xbf"),
        ("text/xml", None, "utf-16", b""),
        ("text/xml", "utf-8", "utf-16", b""),
        (None, "windows-1251", "cp1251", b""),
        (None, "utf-8", "cp1251", b""),
        (None, None, "cp1251", b""),
        (None, None, "utf-8", b""),
        ("text/xml; charset=punycode", None, "utf-8", b""),
        ("text/xml; charset=iso-8859-1", "utf-8", "utf-8", b""),
        ("text/xml; charset=utf-8", "windows-1251", "cp1251", b""),
    ],
)
def test_header_mark_declaration_and_looks_tell_the_charset(
    content_type: str | None, declared: str | None, encoding: str, mark: bytes
) -> None:
    declaration = '<?xml version="1.0"' + (f' encoding="{declared}"?>' if declared else "?>")
    assert titles(read(mark + with_title(TEXT, declaration).encode(encoding), content_type)) == [TEXT]


@pytest.mark.parametrize(
    ("labels", "encoding", "title"),
    [
        ("shift_jis sjis x-sjis windows-31j ms932 cp932", "cp932", "ビットコイン①が急騰"),
        ("euc-jp", "euc-jp", "ビットコイン"),
        ("iso-2022-jp", "iso-2022-jp", "ビットコイン"),
        ("euc-kr ks_c_5601-1987 cp949 uhc", "cp949", "비트코인 똠방"),
        ("gb2312 gbk x-gbk gb18030", "gb18030", "比特币價格"),
        ("big5", "big5", "比特幣"),
        ("cp866 ibm866", "cp866", "Биткоин"),
        ("tis-620 windows-874", "cp874", "บิตคอยน์"),
        ("koi8-u", "koi8-u", "Біткоїн"),
        ("iso-8859-15 latin-9", "iso-8859-15", "5 € für Bitcoin"),
    ],
)
def test_every_charset_that_outlets_declare_is_known_by_each_of_its_names(
    labels: str, encoding: str, title: str
) -> None:
    for label in labels.split():
        by_header = with_title(title).encode(encoding)
        assert titles(read(by_header, f"text/xml; charset={label.upper()}")) == [title], label
        declared = with_title(title, f'<?xml version="1.0" encoding="{label}"?>').encode(encoding)
        assert titles(read(declared, "text/xml")) == [title], label


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"It\x92s \x93up\x94 \x96 na\xefve \xe2\x80\x99 \xc3\xa9", "It’s “up” – naïve ’ é"),
        (b"It&#146;s &#x93;up&#148; &#150; &rsquo; &eacute; &nbsp;&amp;amp; &amp;#147;", "It’s “up” – ’ é & “"),
        (b"Cut \xf0\x9f\x98 here", "Cut � here"),
    ],
)
def test_strays_of_windows_in_a_feed_declared_utf_8_are_read_as_such(raw: bytes, shown: str) -> None:
    whole = with_title("TITLE", '<?xml version="1.0" encoding="UTF-8"?>').encode().replace(b"TITLE", raw)
    with repairs.noted() as notes:
        assert titles(read(whole, "application/rss+xml; charset=utf-8")) == [shown]
    assert notes.repaired or raw.isascii()


@pytest.mark.parametrize(
    ("channel", "item", "url", "link"),
    [
        ("", "<link>/a/1</link>", "https://example.com/feed/", "https://example.com/a/1"),
        ("", "<link>a/1?x=2</link>", "https://example.com/feed/", "https://example.com/feed/a/1?x=2"),
        (
            "<link>https://news.example/</link>",
            "<link>/a/1</link>",
            "https://cdn.example/f",
            "https://news.example/a/1",
        ),
        ("<link>/home/</link>", "<link>a</link>", "https://example.com/feed", "https://example.com/home/a"),
        ("", "<link>//example.com/b</link>", "https://example.com/feed", "https://example.com/b"),
        ("", '<guid isPermaLink="true">/a/2</guid>', "https://example.com/feed", "https://example.com/a/2"),
        ("", "<guid>12345</guid>", "https://example.com/feed", None),
        ("", "", "https://example.com/feed", None),
    ],
)
def test_a_relative_link_leads_from_the_feed(channel: str, item: str, url: str, link: str | None) -> None:
    body = f"<rss version='2.0'><channel>{channel}<item><title>x</title>{item}</item></channel></rss>"
    assert [each.url for each in read(body.encode(), url=url).good] == [link]


def test_an_xml_base_comes_before_the_feeds_own_link() -> None:
    body = (
        b'<feed xmlns="http://www.w3.org/2005/Atom" xml:base="https://base.example/a/"><link href="https://own.example/"/>'
        b'<entry xml:base="b/"><title>One</title><link href="c"/></entry>'
        b'<entry><title>Two</title><link xml:base="/d/" href="e"/></entry></feed>'
    )
    links = [each.url for each in read(body, url="https://read.example/").good]
    assert links == ["https://base.example/a/b/c", "https://base.example/d/e"]


@pytest.mark.parametrize(
    ("date", "at"),
    [
        ("<pubDate>Mon, 30 Nov 2026 17:00:00 CEST</pubDate>", "Mon, 30 Nov 2026 15:00:00 GMT"),
        ("<pubDate>Mon, 30 Nov 2026 05:00:00 PM EST</pubDate>", "Mon, 30 Nov 2026 22:00:00 GMT"),
        ("<pubDate>Mon, 30 Nov 2026 17:00:00 GMT+2</pubDate>", "Mon, 30 Nov 2026 15:00:00 GMT"),
        ("<pubDate>Mon, 30 Nov 2026 17:00:00 +0100 (CET)</pubDate>", "Mon, 30 Nov 2026 16:00:00 GMT"),
        ("<pubDate>2026-11-30T17:00:00 JST</pubDate>", "Mon, 30 Nov 2026 08:00:00 GMT"),
        ("<pubDate>Mon, 30 Nov 2026 17:00:00 XYZ</pubDate>", None),
        ("<pubDate>Mon, 30 Nov 2026 17:00:00 Europe/Berlin</pubDate>", None),
        (
            '<a10:updated xmlns:a10="http://www.w3.org/2005/Atom">2026-11-30T17:00:00Z</a10:updated>',
            "Mon, 30 Nov 2026 17:00:00 GMT",
        ),
        (
            '<dcterms:modified xmlns:dcterms="http://purl.org/dc/terms/">2026-11-30T17:00:00Z</dcterms:modified>',
            "Mon, 30 Nov 2026 17:00:00 GMT",
        ),
    ],
)
def test_a_time_is_of_its_own_zone_or_unknown(date: str, at: str | None) -> None:
    body = f"<rss version='2.0'><channel><item><title>x</title>{date}</item></channel></rss>".encode()
    received_ms = date_ms("Tue, 01 Dec 2026 12:00:00 GMT")
    (only,) = read_feed(answered(body, at_ms=received_ms), "rss:tested", "tested").good
    assert (only.published_estimated, only.published_at) == (
        (True, received_ms + 40) if at is None else (False, date_ms(at))
    )


def test_an_item_without_a_title_is_called_by_its_description() -> None:
    body = b"<rss><channel><item><description>A short &lt;b&gt;note&lt;/b&gt;.</description></item></channel></rss>"
    assert titles(read(body)) == ["A short note."]


# --- what hostile feeds send ---


@pytest.mark.parametrize(
    "name", ["bomb.xml", "external_entity.xml", "external_dtd.xml", "hidden_bomb.xml", "consent_page.html"]
)
def test_a_document_type_is_refused_before_it_costs_anything(name: str) -> None:
    started = time.process_time()
    with pytest.raises(Malformed):
        read(sample(name))
    assert time.process_time() - started < 0.2


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-7", "cp037"])
def test_no_encoding_hides_a_bomb(encoding: str) -> None:
    declared = sample("bomb.xml").decode().replace('version="1.0"', f'version="1.0" encoding="{encoding}"')
    with pytest.raises(Malformed):
        read(declared.encode(encoding))
    with pytest.raises(Malformed):
        read(declared.encode())


def feed_of(item: bytes, attributes: bytes = b"") -> bytes:
    return b'<rss version="2.0"><channel><item' + attributes + b">" + item + b"</item></channel></rss>"


@pytest.mark.parametrize(
    "body",
    [
        feed_of(b"<author>" + b"a." * 2_000_000 + b"</author>"),
        feed_of(b"<author><![CDATA[" + b"a]]><![CDATA[" * 90_000 + b"]]></author>"),
        feed_of(b"", b" " + b" ".join(b'a%d=""' % number for number in range(60_000))),
        feed_of(b"".join(b"<category>c%d</category>" % number for number in range(45_000))),
        feed_of(b"<keywords>" + b" ".join(b"k%d" % number for number in range(90_000)) + b"</keywords>"),
        feed_of(b"<title>" + b"&lt;" * 900_000 + b"</title>"),
        feed_of(b"<pubDate>" + b"1 " * 900_000 + b"</pubDate>"),
        feed_of(b"<a>" * 45_000 + b"</a>" * 45_000),
        feed_of(b"<q:a>" * 45_000 + b"</q:a>" * 45_000),
        feed_of(b"</item><item>" * 45_000),
        feed_of(b"& " * 1_900_000),
        feed_of(b"&nbsp;" * 600_000),
        feed_of(b"<" * 90_000),
    ],
    ids=[
        *("long_author", "author_in_pieces", "attributes", "categories", "keywords", "escapes", "date"),
        *("deep", "deep_undeclared", "items", "ampersands", "entities", "open_tags"),
    ],
)
def test_no_feed_takes_long(body: bytes) -> None:
    """The first would take feedparser by itself a day, holding up every thread."""
    started = time.process_time()
    with contextlib.suppress(Malformed):
        read(body)
    assert time.process_time() - started < 2.5


def test_a_local_file_is_not_read() -> None:
    with pytest.raises(Malformed) as error:
        read(sample("external_entity.xml"))
    assert "root:" not in str(error.value)
    # Bytes that look like a path are no feed, nor are they opened.
    with pytest.raises(Malformed):
        read(str(SAMPLES / "coindesk.xml").encode())


def test_links_that_could_do_harm_cost_their_rows() -> None:
    rows = read(sample("links.xml"))
    assert [(each.title, each.url) for each in rows.good] == [
        ("Relative", "https://example.com/news/1"),
        ("No scheme", "https://example.com/1"),
        ("No link", None),
        ("Fine", "https://example.com/fine"),
    ]
    assert rows.rejected == {"link": 4}
    harmful = b"<rss><channel><item><title>x</title><link>javascript:alert(1)</link></item></channel></rss>"
    with pytest.raises(Malformed, match="bad link"):
        read(harmful)


def test_titles_lose_their_markup_however_it_is_wrapped() -> None:
    assert titles(read(sample("html_in_title.xml"))) == [
        "Bitcoin & ether",
        "Solana & friends",
        "Cardano gnp.exe rises again",
        "alert(1)",
        "Price < $60k and volume > average",
    ]


def test_a_feed_of_5_mb_is_not_read() -> None:
    body = sample("cointelegraph.xml").replace(b"</channel>", b" " * 5 * 1024 * 1024 + b"</channel>")
    assert len(body) > MAX_FEED_BYTES
    with pytest.raises(TooLarge):
        read(body)


def test_a_feed_of_very_many_tags_is_not_read() -> None:
    items = b"<item><title>x</title></item>" * 30_000
    with pytest.raises(TooLarge, match="tags"):
        read(b'<rss version="2.0"><channel>' + items + b"</channel></rss>")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty body"),
        (b" \n", "empty body"),
        (sample("consent_page.html"), "HTML"),
        (b"<html><body>Hello</body></html>", "HTML"),
        (sample("sitemap.xml"), "instead of a feed"),
        (b'{"error": "not found"}', "well-formed"),
        (sample("cut_short.xml"), "well-formed"),
        (sample("coindesk.xml")[:900], "well-formed"),
        (b'<rss version="2.0"><channel><item><category>x</item</category></item></channel></rss>', "well-formed"),
    ],
    ids=["empty", "blank", "consent", "html", "sitemap", "json", "cut_in_a_link", "cut", "ends_twice"],
)
def test_what_is_no_whole_feed_is_malformed(body: bytes, reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        read(body)


@settings(max_examples=60)
@given(st.data())
def test_no_damage_to_a_feed_does_more_than_lose_rows_or_the_feed(data: st.DataObject) -> None:
    body = bytearray(sample("coindesk.xml"))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 40))] = data.draw(
            st.one_of(st.binary(max_size=12), st.sampled_from([b"<", b"]]>", b"&#0;", b"&x;", b"<item>", b"</item>"]))
        )
    try:
        rows = read(bytes(body))
    except Malformed:
        return
    for each in rows.good:
        assert each.title
        assert each.url is None or each.url.startswith(("http://", "https://"))
        assert each.published_at <= RECEIVED_MS


# --- asking again ---


def reply(body: bytes, status: int = 200, **headers: str) -> HttpResponse:
    return replace(answered(body, status), headers={name.replace("_", "-"): value for name, value in headers.items()})


def request_of(feed: RssFeed) -> HttpRequest:
    return next(feed.articles(LATEST))


def test_an_unchanged_feed_gives_its_last_articles_again() -> None:
    feed = RssFeed("tested", "https://example.com/feed/?format=xml")
    first = request_of(feed)
    assert (feed.base_url, first.path, first.params) == ("https://example.com", "/feed/", {"format": "xml"})
    assert "If-None-Match" not in first.headers
    read = drive(feed.articles(LATEST), reply(sample("no_dates.xml"), etag='W/"1"', last_modified="Sat, 15 Aug 2026"))

    again = request_of(feed)
    assert again.headers["If-None-Match"] == 'W/"1"'
    assert again.headers["If-Modified-Since"] == "Sat, 15 Aug 2026"
    assert 304 in again.may_be
    later = replace(reply(b"", 304), received_ms=RECEIVED_MS + 60_000)
    assert drive(feed.articles(LATEST), later) == read


def test_an_answer_that_could_not_be_read_is_asked_for_again() -> None:
    feed = RssFeed("tested", "https://example.com/feed")
    drive(feed.articles(LATEST), reply(sample("coindesk.xml"), etag='"1"'))
    with pytest.raises(Malformed):
        drive(feed.articles(LATEST), reply(sample("cut_short.xml"), etag='"2"'))
    assert request_of(feed).headers["If-None-Match"] == '"1"'
    drive(feed.articles(LATEST), reply(sample("cointelegraph.xml")))
    assert "If-None-Match" not in request_of(feed).headers


def test_a_304_to_an_unconditional_question_is_malformed() -> None:
    with pytest.raises(Malformed):
        drive(RssFeed("tested", "https://example.com/feed").articles(LATEST), reply(b"", 304))


@pytest.mark.parametrize(("status", "kind"), [(404, Malformed), (410, Malformed), (403, Blocked), (429, RateLimited)])
def test_a_feed_that_is_gone_is_the_outlets_fault(status: int, kind: type[ProviderError]) -> None:
    error = rss.refusal("rss:tested", answered(b"<html>no</html>", status))
    assert type(error) is kind
    assert not isinstance(error, NotFound)


def moved(status: int, to: str) -> HttpResponse:
    return reply(b"", status, location=to)


@pytest.mark.parametrize("status", [301, 308])
def test_a_feed_that_moved_for_good_is_read_at_its_new_place(status: int) -> None:
    feed = RssFeed("tested", "https://old.example/feed?key=secret")
    steps = feed.articles(LATEST)
    first = next(steps)
    assert (first.base_url, first.referred) == (None, False)
    second = steps.send(moved(status, "/feed/?format=xml"))
    assert (second.base_url, second.path, second.params) == ("https://old.example", "/feed/", {"format": "xml"})
    third = steps.send(moved(status, "https://new.example/rss"))
    assert (third.base_url, third.path, third.referred) == ("https://new.example", "/rss", True)
    relative = b"<rss><channel><item><title>x</title><link>/1</link></item></channel></rss>"
    with pytest.raises(StopIteration) as done:
        steps.send(reply(relative))
    assert [each.url for each in done.value.value.good] == ["https://new.example/1"]


@pytest.mark.parametrize(
    ("answers", "named"),
    [
        ([moved(301, "http://new.example/rss?key=secret")], "http://new.example/rss, which isn't https"),
        ([moved(301, "https://user:pw@new.example/rss")], "no address"),
        ([moved(301, "")] * 4, "https://old.example/feed now"),
        ([moved(301, "https://[broken/")], "no address"),
        ([moved(301, "javascript:alert(1)")], "isn't https"),
        ([moved(302, "https://new.example/login?key=secret")], "https://new.example/login now"),
        ([moved(308, f"https://{number}.example/") for number in range(4)], "https://3.example/ now"),
    ],
)
def test_a_move_that_is_not_followed_names_the_new_place(answers: list[HttpResponse], named: str) -> None:
    with pytest.raises(Malformed) as error:
        drive(RssFeed("tested", "https://old.example/feed").articles(LATEST), *answers)
    assert named in error.value.reason
    assert "secret" not in error.value.reason
    assert "pw" not in error.value.reason


async def test_a_move_to_a_private_address_is_reported_and_not_followed() -> None:
    clock = ManualClock()
    async with FakeRss(clock.wall_ms) as fake, FakeRss(clock.wall_ms) as inside:
        port = inside.url.rpartition(":")[2]
        for host in ("localhost", "127.0.0.1", "[::1]", "0x7f000001", "2130706433"):
            fake.script.append(Fault(status=301, headers={"Location": f"https://{host}:{port}/rss"}, body=b""))
            feed = RssFeed("decrypt", fake.feeds["decrypt"])
            async with asking(feed.name, [feed.base_url], clock, rss.refusal) as upstream:
                with pytest.raises(Unavailable):
                    await upstream.run(feed.articles(LATEST), heavy=True)
                assert upstream.report()["moved_to"] == f"https://{host}:{port}/rss"
                await upstream.run(feed.articles(LATEST), heavy=True)
                assert upstream.report()["moved_to"] is None
        assert inside.calls == []


@pytest.mark.parametrize(
    ("address", "public"),
    [
        *(("8.8.8.8", True), ("2606:4700::1111", True), ("127.0.0.1", False), ("10.1.2.3", False), ("0.0.0.0", False)),
        *(
            ("169.254.169.254", False),
            ("100.64.0.1", False),
            ("224.0.0.1", False),
            ("::1", False),
            ("fe80::1%eth0", False),
        ),
        *(("fd00::1", False), ("::ffff:10.0.0.1", False), ("2002:7f00:1::", False), ("64:ff9b::7f00:1", False)),
        *(("::ffff:8.8.8.8", True), ("here", False)),
    ],
)
def test_an_address_is_public_or_not(address: str, public: bool) -> None:
    assert is_public_address(address) is public


async def test_a_loopback_outlet_is_read_in_a_thread_and_answers_304_while_nothing_is_new() -> None:
    clock = ManualClock()
    async with FakeRss(clock.wall_ms) as fake:
        feed = RssFeed("decrypt", fake.feeds["decrypt"])
        async with asking(feed.name, [feed.base_url], clock, rss.refusal) as upstream:
            first = await upstream.run(feed.articles(LATEST), heavy=True)
            second = await upstream.run(feed.articles(LATEST), heavy=True)
            assert fake.unchanged == 1
            assert second == first
            assert len(first.good) >= 10
            assert all(each.outlet == "decrypt" and not each.published_estimated for each in first.good)
            clock.advance(3600)
            third = await upstream.run(feed.articles(LATEST), heavy=True)
            assert third.good[0].published_at > first.good[0].published_at
            assert fake.over_limit == 0


async def test_hostile_feeds_over_the_wire_cost_the_attempt_at_most() -> None:
    clock = ManualClock()
    outcomes = {}
    async with FakeRss(clock.wall_ms) as fake:
        for hostile in (*HOSTILE, "huge"):
            fake.hostile = hostile
            feed = RssFeed("coindesk", fake.feeds["coindesk"])
            async with asking(feed.name, [feed.base_url], clock, rss.refusal) as upstream:
                try:
                    rows = await upstream.run(feed.articles(LATEST), heavy=True)
                except ProviderError as error:
                    outcomes[hostile] = error.outcome
                else:
                    outcomes[hostile] = ", ".join(titles(rows)) or "nothing"
    assert outcomes == {
        "bomb": "malformed",
        "xxe": "malformed",
        "javascript_link": "Relative",
        "html_title": "Bitcoin & Ether",
        "html_page": "malformed",
        "empty_channel": "nothing",
        "cut": "malformed",
        "huge": "too_large",
    }


async def test_conversations_of_several_outlets_may_run_in_threads_at_once() -> None:
    clock = ManualClock()
    async with FakeRss(clock.wall_ms) as fake:

        async def read_one(outlet: str) -> Rows[Article]:
            feed = RssFeed(outlet, fake.feeds[outlet])
            async with asking(feed.name, [feed.base_url], clock, rss.refusal) as upstream:
                return await upstream.run(feed.articles(LATEST), heavy=True)

        found = await asyncio.gather(*(read_one(outlet) for outlet in OUTLETS))
    assert all(len(rows.good) >= 10 and not rows.rejected for rows in found)


def test_the_default_feeds_are_the_five_outlets() -> None:
    assert set(Settings().rss_feeds) == set(OUTLETS)
    assert all(url.startswith("https://") for url in Settings().rss_feeds.values())

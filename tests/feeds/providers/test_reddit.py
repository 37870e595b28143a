"""Reddit by OAuth and as a feed: a token kept while it is good, posts read, blocks told from refusals."""

from pathlib import Path

import orjson
import pytest

from feeds.fields import Rows
from feeds.model import Article
from feeds.news.articles import NewsQuery
from feeds.providers import reddit, rss
from feeds.providers.reddit import NAME, Reddit, read_listing, read_token
from feeds.providers.rss import RssFeed
from orchestrator.errors import Blocked, Malformed, ProviderError, RateLimited, Unauthorized
from orchestrator.http import HttpResponse
from tests.asking import asking
from tests.conversations import answered, asked, drive
from tests.fakes.clock import START_MS, ManualClock
from tests.fakes.reddit import FakeReddit

SAMPLES = Path(__file__).parents[2] / "samples" / "reddit"
CANARY = "canary-secret-4711"
LATEST = NewsQuery()


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


def test_posts_are_read_as_discussions_without_the_pinned_and_the_adult() -> None:
    rows = read_listing(answered(sample("listing.json")))
    first, second = rows.good
    assert first == Article(
        id=first.id,
        title="Solana & friends: what I learned in a year",
        url="https://www.reddit.com/r/CryptoCurrency/comments/abc122/a_post/",
        outlet="reddit",
        kind="social",
        published_at=1_795_305_000_000,
        symbols=("SOL",),
        votes={"score": 321, "comments": 120},
    )
    assert second.votes == {"score": -3, "comments": 120}
    assert not rows.rejected


def changed(**fields: object) -> Rows[Article]:
    body = orjson.loads(sample("listing.json"))
    children = body["data"]["children"]
    children[3]["data"] |= fields
    return read_listing(answered(body))


def test_a_post_that_says_nothing_costs_only_itself() -> None:
    rows = changed(title="", selftext=None)
    assert len(rows.good) == 1
    assert rows.rejected == {"title": 1}


@pytest.mark.parametrize("permalink", [None, "https://evil.example/", "@evil.example/", "\x00", 7, []])
def test_a_post_with_a_damaged_link_is_found_by_its_id(permalink: object) -> None:
    rows = changed(permalink=permalink, id="abc123")
    assert rows.good[1].url == "https://www.reddit.com/comments/abc123"
    assert changed(permalink=permalink, id=None).good[1].url is None


@pytest.mark.parametrize("created", [-1, "never", 1e300, []])
def test_a_damaged_date_costs_no_post(created: object) -> None:
    assert changed(created_utc=created).good[1].published_estimated


@pytest.mark.parametrize(
    "fields",
    [
        {"removed_by_category": "moderator"},
        {"removed_by_category": "deleted", "selftext": "[deleted]"},
        {"removed_by": "AutoModerator"},
        {"title": "[deleted by user]"},
        {"title": "[ Removed by Reddit ]"},
    ],
    ids=str,
)
def test_a_withdrawn_post_is_not_published(fields: dict[str, object]) -> None:
    rows = changed(**fields)
    assert len(rows.good) == 1
    assert not rows.rejected


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"data": {}}', b'{"data": {"children": {}}}'])
def test_what_is_no_listing_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        read_listing(answered(body))


def test_the_atom_feed_is_read() -> None:
    feed = feed_at("https://www.reddit.com")
    (only,) = drive(feed.articles(LATEST), answered(sample("new.atom"))).good
    assert (only.title, only.kind, only.outlet) == ("I sold & I regret it", "social", "reddit")
    assert only.summary == "I sold my Dogecoin."
    assert only.published_at == START_MS - 108_000


# --- tokens ---


def test_secrets_travel_in_headers_that_no_text_shows() -> None:
    account = Reddit("id", CANARY, ManualClock())
    steps = account.articles(LATEST)
    login = next(steps)
    assert (login.method, login.base_url, login.path) == ("POST", "https://www.reddit.com", "/api/v1/access_token")
    assert login.headers["Authorization"].startswith("Basic ")
    listing = steps.send(answered({"access_token": CANARY, "token_type": "bearer", "expires_in": 86400}))
    assert listing.headers == {"Authorization": f"Bearer {CANARY}"}
    assert CANARY not in repr(login) + repr(listing) + repr(login.params)


@pytest.mark.parametrize(
    ("filter_", "path", "more"),
    [("latest", "new", {}), ("hot", "hot", {}), ("important", "top", {"t": "day"})],
)
def test_a_filter_is_a_listing(filter_: str, path: str, more: dict[str, str]) -> None:
    steps = Reddit("id", "secret", ManualClock()).articles(NewsQuery(filter_))
    next(steps)
    request = steps.send(answered(sample("token.json")))
    assert request.path == f"/r/CryptoCurrency/{path}"
    assert request.params == {"limit": "100", "raw_json": "1", **more}


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"error": "unsupported_grant_type"}', Unauthorized),
        (b'{"access_token": "t"}', Malformed),
        (b'{"access_token": "", "expires_in": 5}', Malformed),
        (b'{"access_token": "t", "expires_in": 0}', Malformed),
        (b"[]", Malformed),
        (b"<html>", Malformed),
    ],
    ids=["error", "no_end", "no_token", "ended", "list", "html"],
)
def test_what_is_no_token_is_an_error(body: bytes, kind: type[ProviderError]) -> None:
    with pytest.raises(kind):
        read_token(answered(body), 0.0)


async def test_a_token_is_kept_until_shortly_before_its_end_and_renewed_when_it_is_revoked() -> None:
    clock = ManualClock()
    async with FakeReddit(clock.wall_ms, lasts_s=3600) as fake:
        account = Reddit("reddit-id", "reddit-secret", clock, fake.url)

        async def ask() -> Rows[Article]:
            async with asking(NAME, [fake.url], clock, reddit.refusal) as upstream:
                return await upstream.run(account.articles(NewsQuery(limit=10)))

        assert len((await ask()).good) == 10
        await ask()
        assert fake.issued == 1
        clock.advance(3545)
        await ask()
        assert fake.issued == 2
        fake.revoke()
        assert (await ask()).good
        assert fake.issued == 3
        assert fake.over_limit == 0


async def test_a_new_token_that_is_refused_too_switches_the_account_off() -> None:
    clock = ManualClock()
    async with FakeReddit(clock.wall_ms, lasts_s=3600) as fake:
        account = Reddit("reddit-id", "reddit-secret", clock, fake.url)
        await asked(fake, account.articles(LATEST), reddit.refusal)
        fake.lasts_s = 0  # what it gives out now is never good
        fake.revoke()
        with pytest.raises(Malformed):
            await asked(fake, account.articles(LATEST), reddit.refusal)
        with pytest.raises(Unauthorized):
            await asked(fake, Reddit("reddit-id", "wrong", clock, fake.url).articles(LATEST), reddit.refusal)
    steps = Reddit("id", "secret", clock).articles(LATEST)
    next(steps)
    steps.send(answered(sample("token.json")))
    with pytest.raises(Unauthorized):
        steps.send(answered(b"{}", 401))


def feed_at(url: str) -> RssFeed:
    """As `RSS_FEEDS=reddit=…` makes it."""
    return RssFeed("reddit", f"{url}/r/CryptoCurrency/new/.rss", kind="social")


async def test_the_loopback_feed_answers_or_refuses_as_the_real_one() -> None:
    clock = ManualClock()
    async with FakeReddit(clock.wall_ms) as fake:
        rows = await asked(fake, feed_at(fake.url).articles(LATEST), rss.refusal)
        assert len(rows.good) == 25
        assert {each.kind for each in rows.good} == {"social"}
        fake.feed_open = False
        with pytest.raises(RateLimited):
            await asked(fake, feed_at(fake.url).articles(LATEST), rss.refusal)


# --- refusals ---


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (403, sample("blocked_403.html"), Blocked),
        (403, sample("private_403.json"), Blocked),
        (404, b'{"reason": "banned"}', Malformed),
        (401, b"{}", Unauthorized),
        (429, sample("error_429.json"), RateLimited),
        (302, b"", Malformed),
    ],
    ids=["whoa_there", "private", "gone", "token", "429", "login_page"],
)
def test_every_kind_of_refusal_has_its_error(status: int, body: bytes, kind: type[ProviderError]) -> None:
    assert type(reddit.refusal(NAME, answered(body, status))) is kind


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"x-ratelimit-reset": "412.0"}, 412.0),
        ({"x-ratelimit-reset": "412", "retry-after": "9"}, 9.0),
        ({"x-ratelimit-reset": "-1"}, None),
        ({"x-ratelimit-reset": "nan"}, None),
        ({"x-ratelimit-reset": "soon"}, None),
        ({}, None),
    ],
    ids=["reset", "retry_after", "negative", "nan", "word", "none"],
)
def test_a_429_names_its_wait(headers: dict[str, str], wait_s: float | None) -> None:
    error = reddit.refusal(NAME, HttpResponse(429, headers, b"", START_MS))
    assert isinstance(error, RateLimited)
    assert error.retry_after_s == wait_s

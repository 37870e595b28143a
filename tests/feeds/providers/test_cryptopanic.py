"""CryptoPanic's posts read, whatever the plan, and its refusals told apart."""

from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.fields import Rows
from feeds.model import Article
from feeds.news.articles import NewsQuery
from feeds.providers import cryptopanic, rss
from feeds.providers.cryptopanic import NAME, CryptoPanic, read_posts
from feeds.providers.rss import RssFeed
from orchestrator.errors import Blocked, Malformed, ProviderError, RateLimited, Unauthorized, Unavailable
from orchestrator.judgement import judge
from tests.conversations import answered, asked, drive
from tests.fakes.clock import START_MS, ManualClock
from tests.fakes.cryptopanic import FakeCryptoPanic
from tests.fakes.rss import FakeRss, stories

SAMPLES = Path(__file__).parents[2] / "samples" / "cryptopanic"
ERRORS = orjson.loads((SAMPLES / "errors.json").read_bytes())
RECEIVED_MS = START_MS + 40
CANARY = "canary-token-4711"


def sample(name: str) -> bytes:
    return (SAMPLES / f"{name}.json").read_bytes()


def test_a_full_plan_tells_the_outlets_own_link_coins_and_votes() -> None:
    (only,) = read_posts(answered(sample("posts_v2_full_plan"))).good
    assert only == Article(
        id=only.id,
        title="Bitcoin steadies after fund outflows",
        url="https://www.coindesk.com/markets/2026/02/11/bitcoin-steadies",
        outlet="coindesk",
        kind="news",
        published_at=1_770_802_262_250,
        summary="A short summary.",
        symbols=("BTC", "SUI"),
        votes={
            "positive": 2,
            "negative": 0,
            "important": 6,
            "liked": 3,
            "disliked": 0,
            "lol": 0,
            "toxic": 0,
            "saved": 1,
            "comments": 0,
        },
    )


def test_a_low_plan_tells_no_link_and_its_posts_are_known_by_title_and_time() -> None:
    (only,) = read_posts(answered(sample("posts_v2_minimal_plan"))).good
    assert (only.url, only.votes, only.outlet) == (None, None, "cryptopanic")
    assert only.symbols == ("BTC",)
    (again,) = read_posts(answered(sample("posts_v2_minimal_plan"), at_ms=START_MS + 60_000)).good
    assert again.id == only.id


def test_version_1_is_read_too() -> None:
    (only,) = read_posts(answered(sample("posts_v1"))).good
    assert only.url is not None
    assert only.url.startswith("https://cryptopanic.com/news/1245186/")
    assert (only.outlet, only.symbols) == ("cointelegraph", ("BTC",))


def test_the_token_travels_apart_and_the_plan_in_the_path() -> None:
    steps = CryptoPanic(CANARY, "growth").articles(NewsQuery("hot", "ETH"))
    request = next(steps)
    assert request.path == "/api/growth/v2/posts/"
    assert request.params == {"public": "true", "kind": "news", "filter": "hot", "currencies": "ETH"}
    assert request.secrets == {"auth_token": CANARY}
    assert CANARY not in repr(request)
    assert "filter" not in next(CryptoPanic(CANARY).articles(NewsQuery("latest"))).params


def test_what_was_asked_of_a_coin_is_of_that_coin_though_the_plan_does_not_say_so() -> None:
    rows = drive(CryptoPanic("t").articles(NewsQuery(symbol="ETH")), answered(sample("posts_v2_minimal_plan")))
    assert [each.symbols for each in rows.good] == [("BTC", "ETH")]


@pytest.mark.parametrize(
    ("change", "rejected"),
    [
        ({"title": None, "description": None}, "title"),
        ({"title": "<p></p>", "description": ""}, "title"),
        ({"title": 7, "description": 7}, "title"),
    ],
    ids=["no_title", "empty_title", "title_a_number"],
)
def test_a_bad_row_costs_only_itself(change: dict[str, object], rejected: str) -> None:
    body = orjson.loads(sample("posts_v2_full_plan"))
    body["results"] += [body["results"][0] | change, "no row"]
    rows = read_posts(answered(body))
    assert len(rows.good) == 1
    assert rows.rejected == {rejected: 1, "row": 1}


def test_votes_and_links_that_make_no_sense_are_left_out() -> None:
    body = orjson.loads(sample("posts_v2_full_plan"))
    change = {"votes": {"positive": -1, "liked": "x", "lol": True}, "original_url": "javascript:x", "url": "/x"}
    body["results"][0] |= change
    (only,) = read_posts(answered(body)).good
    assert (only.votes, only.url) == (None, None)


UNTIL_MIDNIGHT_S = 24 * 3600 - START_MS / 1000 % (24 * 3600)


@pytest.mark.parametrize(
    ("status", "body", "kind", "wait_s"),
    [
        (401, orjson.dumps(ERRORS["bad_token"]), Unauthorized, None),
        (403, orjson.dumps(ERRORS["plan"]), Unauthorized, None),
        (403, orjson.dumps(ERRORS["too_fast"]), RateLimited, None),
        (403, orjson.dumps(ERRORS["quota"]), RateLimited, UNTIL_MIDNIGHT_S),
        (403, b"<html>Checking your browser</html>", Blocked, None),
        (404, b"<html>404</html>", Blocked, None),
        (429, b"", RateLimited, None),
        (502, b"<html>", Unavailable, None),
        (200, orjson.dumps(ERRORS["bad_token"]), Unauthorized, None),
        (200, orjson.dumps(ERRORS["too_fast"]), RateLimited, None),
    ],
    ids=[
        *("token", "plan", "throttled", "quota", "firewall", "no_such_plan", "429", "502"),
        *("token_in_a_200", "throttled_in_a_200"),
    ],
)
def test_every_kind_of_refusal_has_its_error(
    status: int, body: bytes, kind: type[ProviderError], wait_s: float | None
) -> None:
    refused = cryptopanic.refusal(NAME, answered(body, status))
    assert refused is not None
    error = judge(NAME, answered(body, status), refused)
    assert type(error) is kind
    if isinstance(error, RateLimited):
        assert error.retry_after_s == wait_s


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"results": null}', b'{"results": {}}'])
def test_what_is_no_list_of_posts_is_malformed(body: bytes) -> None:
    assert cryptopanic.refusal(NAME, answered(body)) is None
    with pytest.raises(Malformed):
        read_posts(answered(body))


def test_no_error_repeats_what_the_body_says() -> None:
    body = orjson.dumps({"status": "Incomplete", "info": f"Token {CANARY} not found"})
    assert CANARY not in str(cryptopanic.refusal(NAME, answered(body, 401)))
    with pytest.raises(Unauthorized) as error:
        read_posts(answered(body))
    assert CANARY not in str(error.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=80)
@given(st.dictionaries(st.sampled_from(list(orjson.loads(sample("posts_v2_full_plan"))["results"][0])), JSON))
def test_no_field_of_any_kind_does_more_than_cost_its_row(change: dict[str, object]) -> None:
    body = orjson.loads(sample("posts_v2_full_plan"))
    body["results"].append(body["results"][0] | change)
    try:
        raw = orjson.dumps(body)
    except TypeError:  # an integer that JSON of this library cannot hold
        return
    rows = read_posts(answered(raw))
    assert len(rows.good) + sum(rows.rejected.values()) == 2


async def test_a_loopback_cryptopanic_answers_as_the_real_one() -> None:
    clock, allowed = ManualClock(), CryptoPanic("panic-token")
    async with FakeCryptoPanic(clock.wall_ms) as fake:

        async def ask(query: NewsQuery | None = None, account: CryptoPanic = allowed) -> Rows[Article]:
            return await asked(fake, account.articles(query or NewsQuery()), cryptopanic.refusal)

        rows = await ask()
        assert len(rows.good) == 20
        assert not rows.rejected
        important = await ask(NewsQuery("important", "BTC"))
        assert important.good
        assert all("BTC" in each.symbols and (each.votes or {})["important"] for each in important.good)
        assert fake.over_limit == 0
        with pytest.raises(RateLimited):
            await ask()
        assert fake.over_limit == 1
    async with FakeCryptoPanic(clock.wall_ms, generous=False) as fake:
        assert all(each.url is None for each in (await ask()).good)
        with pytest.raises(Unauthorized):
            await ask(account=CryptoPanic("wrong"))


async def test_one_story_by_cryptopanic_and_by_its_outlets_feed_is_one() -> None:
    clock = ManualClock()
    async with FakeCryptoPanic(clock.wall_ms) as panic, FakeRss(clock.wall_ms) as outlets:
        told = await asked(panic, CryptoPanic("panic-token").articles(NewsQuery()), cryptopanic.refusal)
        ours = {each.url: each.id for each in told.good}
        assert set(ours) == {each.url for each in stories(clock.wall_ms(), 20)}
        rows = await asked(outlets, RssFeed("decrypt", outlets.feeds["decrypt"]).articles(NewsQuery()), rss.refusal)
        shared = [each for each in rows.good if each.url in ours]
        assert shared
        assert all(ours[each.url] == each.id for each in shared)

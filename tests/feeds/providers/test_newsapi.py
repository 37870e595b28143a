"""NewsAPI's articles read, and what each of its codes means."""

from pathlib import Path

import orjson
import pytest

from feeds.fields import Rows
from feeds.model import Article
from feeds.news.articles import NewsQuery
from feeds.providers import newsapi
from feeds.providers.newsapi import NAME, NewsApi, next_window_s, read_articles
from orchestrator.errors import BadQuery, Malformed, ProviderError, RateLimited, Unauthorized, Unavailable
from orchestrator.http import HttpResponse
from tests.asking import asking
from tests.conversations import answered
from tests.fakes.clock import START_MS, ManualClock
from tests.fakes.newsapi import CALLS_IN_12_H, FakeNewsApi

SAMPLES = Path(__file__).parents[2] / "samples" / "newsapi"
EVERYTHING = (SAMPLES / "everything.json").read_bytes()
ERRORS = {each["body"]["code"]: each for each in orjson.loads((SAMPLES / "errors.json").read_bytes())}
CANARY = "canary-key-4711"
HOUR_MS = 3_600_000


def test_articles_are_read_and_a_withdrawn_one_is_left_out() -> None:
    rows = read_articles(answered(EVERYTHING))
    first, second = rows.good
    assert first == Article(
        id=first.id,
        title="Ether gains as funds buy",
        url="https://www.coindesk.com/markets/2026/11/21/ether-gains/",
        outlet="coindesk",
        kind="news",
        published_at=1_795_290_672_000,
        summary="Funds bought ether for a fifth day.",
        symbols=("ETH",),
    )
    assert (second.outlet, second.summary) == ("thehill", None)
    assert not rows.rejected


def test_the_key_travels_in_a_header_and_the_question_names_what_crypto_is() -> None:
    request = next(NewsApi(CANARY).articles(NewsQuery(limit=500)))
    assert request.path == "/everything"
    assert request.headers == {"X-Api-Key": CANARY}
    assert CANARY not in repr(request)
    assert "bitcoin" in request.params["q"]
    assert (request.params["pageSize"], request.params["sortBy"]) == ("100", "publishedAt")


@pytest.mark.parametrize(("symbol", "q"), [("ADA", '"cardano"'), ("XYZ", '"XYZ" AND crypto')])
def test_a_coin_is_asked_for_by_its_name_where_it_has_one(symbol: str, q: str) -> None:
    assert next(NewsApi("k").articles(NewsQuery("hot", symbol))).params["q"] == q


CLASSES: dict[str, type[ProviderError]] = {
    "apiKeyInvalid": Unauthorized,
    "apiKeyMissing": Unauthorized,
    "apiKeyDisabled": Unauthorized,
    "upgradeRequired": Unauthorized,
    "apiKeyExhausted": RateLimited,
    "rateLimited": RateLimited,
    "maximumResultsReached": BadQuery,
    "parametersMissing": BadQuery,
    "parameterInvalid": BadQuery,
    "unexpectedError": Unavailable,
}


@pytest.mark.parametrize("code", CLASSES)
@pytest.mark.parametrize("hidden", [False, True], ids=["by_status", "in_a_200"])
def test_each_code_has_its_class_also_inside_a_200(code: str, hidden: bool) -> None:
    response = answered(ERRORS[code]["body"], 200 if hidden else ERRORS[code]["http"])
    assert type(newsapi.refusal(NAME, response)) is CLASSES[code]
    with pytest.raises(CLASSES[code]):
        read_articles(response)


@pytest.mark.parametrize(
    ("hours", "wait_h"), [(0, 12), (3, 9), (11.5, 0.5), (12, 12), (23, 1)], ids=["0h", "3h", "11h30", "12h", "23h"]
)
def test_a_used_up_allowance_rests_until_the_next_half_day(hours: float, wait_h: float) -> None:
    response = answered(ERRORS["rateLimited"]["body"], 429, at_ms=START_MS + round(hours * HOUR_MS))
    error = newsapi.refusal(NAME, response)
    assert isinstance(error, RateLimited)
    assert error.retry_after_s == wait_h * 3600
    assert next_window_s(HttpResponse(429, {}, b"", response.received_ms)) == pytest.approx(wait_h * 3600, abs=1)


def test_a_429_of_a_firewall_rests_as_long_and_one_that_names_its_wait_so_long() -> None:
    error = newsapi.refusal(NAME, answered(b"<html>", 429))
    assert isinstance(error, RateLimited)
    assert error.retry_after_s == 12 * 3600
    error = newsapi.refusal(NAME, HttpResponse(429, {"retry-after": "7"}, b"", START_MS))
    assert isinstance(error, RateLimited)
    assert error.retry_after_s == 7


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"status": "ok", "articles": null}'])
def test_what_is_no_list_of_articles_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        read_articles(answered(body))


@pytest.mark.parametrize("change", [{"title": None, "description": None}, {"title": 7, "description": []}])
def test_a_row_that_says_nothing_costs_only_itself(change: dict[str, object]) -> None:
    body = orjson.loads(EVERYTHING)
    body["articles"] = [body["articles"][0], body["articles"][1] | change, None]
    rows = read_articles(answered(body))
    assert len(rows.good) == 1
    assert rows.rejected == {"title": 1, "row": 1}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"url": None}, "url"),
        ({"url": "javascript:alert(1)"}, "url"),
        ({"url": "https://[x/"}, "url"),
        ({"publishedAt": "soon"}, "published_estimated"),
        ({"publishedAt": 5}, "published_estimated"),
    ],
)
def test_a_damaged_link_or_date_costs_no_row(change: dict[str, object], field: str) -> None:
    body = orjson.loads(EVERYTHING)
    body["articles"] = [body["articles"][0], body["articles"][1] | change]
    rows = read_articles(answered(body))
    assert not rows.rejected
    assert getattr(rows.good[1], field) in (None, True)


def test_an_article_on_the_page_of_withdrawn_ones_is_left_out() -> None:
    body = orjson.loads(EVERYTHING)
    body["articles"][1]["url"] = "https://removed.com"
    rows = read_articles(answered(body))
    assert len(rows.good) == 1
    assert not rows.rejected


def test_a_missing_source_and_date_are_put_up_with() -> None:
    body = orjson.loads(EVERYTHING)
    row = body["articles"][0] | {"source": None, "publishedAt": None, "url": "https://decrypt.co/1/x", "unknown": 1}
    (only,) = read_articles(answered({"status": "ok", "articles": [row]})).good
    assert (only.outlet, only.published_estimated) == ("decrypt", True)


async def test_a_loopback_newsapi_answers_as_the_real_one() -> None:
    clock = ManualClock()
    async with FakeNewsApi(clock.wall_ms) as fake:

        async def ask(key: str = "news-key") -> Rows[Article]:
            async with asking(NAME, [f"{fake.url}/v2"], clock, newsapi.refusal) as upstream:
                return await upstream.run(NewsApi(key).articles(NewsQuery(limit=10)))

        rows = await ask()
        assert len(rows.good) == 10
        assert not rows.rejected
        with pytest.raises(Unauthorized, match="apiKeyInvalid"):
            await ask("wrong")
        with pytest.raises(Unauthorized, match="apiKeyMissing"):
            await ask("")
        fake.used = CALLS_IN_12_H
        with pytest.raises(RateLimited, match="43200"):
            await ask()
        assert fake.over_limit == 1

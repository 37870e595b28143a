"""What Crypto DT Source says, read: believed only where it proves to answer what was asked."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import cast

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.intervals import DAY_MS, HOUR_MS, MINUTE_MS, STEP_MS
from feeds.model import Candle, Coin, FearGreed, Quote, Sentiment, Trending
from feeds.news.articles import NewsQuery
from feeds.providers import crypto_dt_source as dt
from feeds.queries import CandleQuery, MarketQuery
from orchestrator.errors import (
    BadQuery,
    Malformed,
    NotFound,
    Outdated,
    ProviderError,
    RateLimited,
    Unavailable,
)
from orchestrator.http import HttpResponse
from orchestrator.provider import Steps
from tests.conversations import answered, asked, drive
from tests.fakes.clock import START_MS
from tests.fakes.coingecko import BY_ID
from tests.fakes.crypto_dt_source import FakeCryptoDtSource
from tests.fakes.upstream import Fault
from tests.feeds.providers.test_coingecko import BAD_VALUES, MISSING, mutated, places

SAMPLES = Path(__file__).parents[2] / "samples" / "crypto_dt_source" / "shapes.json"
STAMP_MS = 1765614146000
AT_MS = STAMP_MS + 1000


@cache
def raw_samples() -> bytes:
    return SAMPLES.read_bytes()


def sample(name: str) -> dict[str, object]:
    return cast("dict[str, dict[str, object]]", orjson.loads(raw_samples()))[name]


def told(name: str, **changes: object) -> HttpResponse:
    """A sample as an answer, one second after its stamps."""
    return answered(sample(name) | changes, at_ms=AT_MS)


def query(interval: str = "1h", limit: int = 100, base: str = "BTC", **times: int) -> CandleQuery:
    return CandleQuery(base, f"{base}USDT", interval, limit, **times)


# --- prices ---


def test_prices_asked_for_by_ticker_are_read_and_stamped_with_its_clock() -> None:
    steps = dt.quotes(("BTC", "ETH"))
    params = next(steps).params
    assert (params["symbols"], params["ids"], params["vs_currencies"]) == ("BTC,ETH", "bitcoin,ethereum", "usd")
    with pytest.raises(StopIteration) as done:
        steps.send(told("price_symbols"))
    assert done.value.value.good == [Quote("BTC", 90241.0, STAMP_MS, -0.77, None, None, 69997758241.0, 1800580721557.0)]


def test_a_zero_is_its_word_for_unknown() -> None:
    row = cast("list[dict[str, object]]", sample("price_symbols")["data"])[0]
    zeros = {"change24h": 0, "changePercent24h": 0, "volume24h": 0, "marketCap": 0}
    (quote,) = drive(dt.quotes(("BTC",)), told("price_symbols", data=[row | zeros])).good
    assert quote == Quote("BTC", 90241.0, STAMP_MS)
    with pytest.raises(Malformed):
        drive(dt.quotes(("BTC",)), told("price_symbols", data=[row | {"price": 0}]))


def test_tickers_it_would_mistake_for_ids_are_looked_for_among_the_largest_coins() -> None:
    steps = dt.quotes(("BTC", "HYPE"))
    params = next(steps).params
    assert "symbols" not in params
    assert params["limit"] == "250"
    with pytest.raises(StopIteration) as done:
        steps.send(told("price_limit"))
    assert [quote.symbol for quote in done.value.value.good] == ["BTC"]


def test_prices_of_other_coins_than_asked_for_are_refused() -> None:
    with pytest.raises(Malformed, match="other coins"):
        drive(dt.quotes(("ETH",)), told("price_symbols"))
    with pytest.raises(NotFound):
        drive(dt.quotes(("ETH",)), told("price_symbols", data=[]))
    with pytest.raises(NotFound):
        drive(dt.quotes(("HYPE",)), told("price_limit"))


def test_the_market_table_is_read() -> None:
    assert drive(dt.markets(MarketQuery(1)), told("price_limit")).good == [
        Coin("BTC", "bitcoin", "Bitcoin", 1, 90241.0, None, -0.77, None, None, None, 69997758241.0, 1800580721557.0,
             19961237.0, "usd", STAMP_MS)
    ]  # fmt: skip
    with pytest.raises(NotFound):
        drive(dt.markets(MarketQuery(1, ("NOPE",))), told("price_limit"))


def test_prices_that_were_kept_somewhere_for_long_are_outdated() -> None:
    with pytest.raises(Outdated):
        drive(dt.quotes(("BTC",)), answered(sample("price_symbols"), at_ms=STAMP_MS + 11 * MINUTE_MS))


def test_a_clock_of_its_own_that_is_ahead_does_not_put_prices_into_the_future() -> None:
    (quote,) = drive(dt.quotes(("BTC",)), answered(sample("price_symbols"), at_ms=STAMP_MS - HOUR_MS)).good
    assert quote.ts == STAMP_MS - HOUR_MS


def test_trending_coins_without_a_price_have_none() -> None:
    assert drive(dt.trending(10), told("trending")).good == [
        Trending("PEPE", "pepe", "Pepe", 48, 4.2e-06, 3.1),
        Trending("NEW", "new", "New", None, None, None),
    ]


# --- candles ---


def test_candles_are_asked_for_in_both_dialects_and_read() -> None:
    steps = dt.candles(query(limit=1))
    assert next(steps).params == {"symbol": "BTCUSDT", "timeframe": "1h", "interval": "1h", "limit": "2"}
    with pytest.raises(StopIteration) as done:
        steps.send(told("klines"))
    assert done.value.value.good == [
        Candle("BTCUSDT", "1h", 1765612800000, 1765616399999, 90200.1, 90310.0, 90100.0, 90241.0, 123.4, None, None,
               False, AT_MS)
    ]  # fmt: skip
    both = drive(dt.candles(query()), told("klines")).good
    assert [candle.closed for candle in both] == [True, False]


def test_candles_of_another_interval_are_refused_whatever_the_answer_calls_them() -> None:
    for interval in ("1m", "30m", "4h", "1d"):
        with pytest.raises(Malformed, match="not spaced"):
            drive(dt.candles(query(interval)), told("klines", timeframe=interval))
    one = cast("list[object]", sample("klines")["data"])[:1]
    with pytest.raises(Malformed, match="not spaced"):
        drive(dt.candles(query()), told("klines", data=one))


def test_no_volume_where_prices_moved_is_an_unknown_volume() -> None:
    rows = cast("list[dict[str, object]]", sample("klines")["data"])
    still = {"open": 5, "high": 5, "low": 5, "close": 5, "volume": 0}
    read = drive(dt.candles(query()), told("klines", data=[rows[0] | {"volume": 0}, rows[1] | still])).good
    assert [candle.volume for candle in read] == [None, 0.0]


def test_candles_that_stopped_are_outdated() -> None:
    with pytest.raises(Outdated):
        drive(dt.candles(query()), answered(sample("klines"), at_ms=STAMP_MS + 3 * HOUR_MS))


@pytest.mark.parametrize("interval", ["3m", "2h", "6h", "8h", "12h", "3d", "1M"])
async def test_intervals_it_does_not_know_are_not_served_because_it_would_give_hours(interval: str) -> None:
    assert not dt.serves(query(interval))
    async with FakeCryptoDtSource(lambda: START_MS) as fake:
        with pytest.raises(Malformed):
            await asked(fake, dt.candles(query(interval)), dt.refusal)


@pytest.mark.parametrize("interval", dt.INTERVALS)
async def test_every_interval_served_is_answered_on_its_grid(interval: str) -> None:
    assert dt.serves(query(interval))
    now = START_MS + 7 * HOUR_MS + 17 * MINUTE_MS
    async with FakeCryptoDtSource(lambda: now) as fake:
        read = (await asked(fake, dt.candles(query(interval, 20)), dt.refusal)).good
        opens = [candle.open_time for candle in read]
        assert opens == list(range(opens[0], opens[0] + 20 * STEP_MS[interval], STEP_MS[interval]))
        assert [candle.closed for candle in read] == [True] * 19 + [False]
        assert read[0].open == BY_ID["bitcoin"].price_at(opens[0])


async def test_a_time_asked_for_is_cut_out_of_all_there_is() -> None:
    async with FakeCryptoDtSource(lambda: START_MS) as fake:
        start = START_MS - 50 * HOUR_MS
        read = (await asked(fake, dt.candles(query(limit=3, start=start)), dt.refusal)).good
        assert [candle.open_time for candle in read] == [start, start + HOUR_MS, start + 2 * HOUR_MS]
        with pytest.raises(NotFound):
            await asked(fake, dt.candles(query(end=START_MS - 2000 * HOUR_MS)), dt.refusal)


def test_only_pairs_with_usdt_are_served() -> None:
    assert not dt.serves(CandleQuery("BTC", "BTCFDUSD", "1h"))


# --- moods ---


def test_the_fear_and_greed_index_is_read() -> None:
    assert drive(dt.fear_greed(), told("fng")) == [FearGreed(29, "Fear", 1765497600000, 12345)]


def test_a_day_that_was_not_there_is_no_day() -> None:
    row = cast("list[dict[str, object]]", sample("fng")["data"])[0]
    empty = {"value": 0, "value_classification": "neutral", "timestamp": 0, "time_until_update": None}
    assert [day.value for day in drive(dt.fear_greed(2), told("fng", data=[row | empty, row]))] == [29]
    for nothing in (empty, empty | {"timestamp": row["timestamp"]}):
        with pytest.raises(Malformed):
            drive(dt.fear_greed(), told("fng", data=[row | nothing]))
    with pytest.raises(Malformed):
        drive(dt.fear_greed(), told("fng", data=[]))


def test_a_text_is_judged_by_label_and_score_of_the_model_that_did_it() -> None:
    steps = dt.sentiment("Bitcoin climbs", "cryptobert_elkulako")
    request = next(steps)
    assert (request.method, request.path) == ("POST", "/api/v1/hf/sentiment")
    assert orjson.loads(request.body or b"") == {"text": "Bitcoin climbs", "model_key": "cryptobert_elkulako"}
    with pytest.raises(StopIteration) as done:
        steps.send(told("sentiment"))
    assert done.value.value == Sentiment("positive", 0.97, "kk08/CryptoBERT", 0.97)


@pytest.mark.parametrize(
    ("model", "label", "score", "expected"),
    [
        ("cryptobert_kk08", "LABEL_0", 0.9, ("negative", -0.9)),
        ("cryptobert_kk08", "LABEL_1", 0.55, ("neutral", 0.0)),
        ("finbert", "positive", 0.8, ("positive", 0.8)),
        ("cryptobert_elkulako", "Bearish", 0.7, ("negative", -0.7)),
        ("cryptobert_elkulako", "Bullish", 0.5, ("positive", 0.5)),
        ("twitter_sentiment", "Neutral", 0.5, ("neutral", 0.0)),
    ],
)
def test_labels_are_read_by_their_words(model: str, label: str, score: float, expected: tuple[str, float]) -> None:
    read = drive(dt.sentiment("x"), told("sentiment", model=model, label=label, score=score))
    assert (read.label, read.score) == expected


@pytest.mark.parametrize(
    "changes",
    [{"label": "LABEL_7"}, {"label": "LABEL_1", "model": "finbert"}, {"label": None}, {"score": 1.5}, {"score": -0.1},
     {"score": None}, {"model": None}],
)  # fmt: skip
def test_a_judgement_of_unknown_meaning_is_none(changes: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        drive(dt.sentiment("x"), told("sentiment", **changes))


def test_several_texts_are_judged_in_their_order() -> None:
    read = drive(dt.sentiment_batch(["a", "b"]), told("sentiment_batch"))
    assert [each.label for each in read] == ["positive", "neutral"]
    with pytest.raises(Malformed, match="each text"):
        drive(dt.sentiment_batch(["a", "b", "c"]), told("sentiment_batch"))
    with pytest.raises(BadQuery):
        next(dt.sentiment("x", "gpt"))


# --- articles ---


def test_a_feeds_articles_are_plain_and_dated() -> None:
    (article,) = drive(dt.rss("coindesk"), told("rss")).good
    assert (article.title, article.outlet, article.kind) == ("Bitcoin slips below $90,000", "coindesk", "news")
    assert article.url == "https://www.coindesk.com/markets/2025/12/13/bitcoin-slips"
    assert (article.published_at, article.published_estimated) == (1765600000000, False)
    assert (article.summary, article.symbols) == ("First lines & more", ("BTC",))


def test_a_date_made_up_on_the_spot_is_marked_as_estimated() -> None:
    dated, undated = drive(dt.latest_news(), told("news")).good
    assert (dated.outlet, dated.published_at, dated.published_estimated) == ("decrypt", 1765600000000, False)
    assert (undated.outlet, undated.published_at, undated.published_estimated) == ("cryptoslate", AT_MS + 40, True)


def test_articles_of_another_feed_than_asked_for_are_refused() -> None:
    with pytest.raises(Malformed, match="bad source"):
        drive(dt.rss("decrypt"), told("rss"))
    with pytest.raises(BadQuery):
        next(dt.rss("reuters"))


def test_posts_link_to_themselves_and_carry_their_votes() -> None:
    (post,) = drive(dt.reddit_top(), told("reddit_top")).good
    assert (post.kind, post.outlet, post.votes) == ("social", "reddit", {"score": 1, "comments": 2})
    assert post.url == "https://www.reddit.com/r/cryptocurrency/comments/abc/x/"
    (newer,) = drive(dt.reddit_new(), told("reddit_new")).good
    assert newer.url == "https://www.reddit.com/comments/abd"
    with pytest.raises(Malformed, match="another subreddit"):
        drive(dt.reddit_new("bitcoin"), told("reddit_new"))
    with pytest.raises(BadQuery):
        next(dt.reddit_top(period="decade"))


# --- itself ---


def test_it_tells_what_it_is_but_is_not_believed_about_its_sources() -> None:
    service = drive(dt.service(), told("api"))
    assert (service["service"], service["version"]) == ("Unified Cryptocurrency Data API", "2.0.0")
    assert "/api/v1/binance/klines" in cast("list[str]", service["endpoints"])
    assert drive(dt.status(), told("status")) == {
        "status": "operational",
        "models": {"configured": 4, "loaded": 0},
        "datasets": {"configured": 5, "loaded": 0},
    }


def test_models_and_data_sets_are_listed() -> None:
    assert drive(dt.models(), told("models")) == [
        {"key": "cryptobert_kk08", "id": "kk08/CryptoBERT", "description": "...", "task": "sentiment-analysis",
         "loaded": True}
    ]  # fmt: skip
    assert drive(dt.datasets(), told("datasets")) == [
        {"key": "cryptocoin", "id": "linxy/CryptoCoin", "description": "CryptoCoin dataset", "loaded": False}
    ]


# --- refusals ---


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (503, "error_503", Unavailable),
        (503, "error_503_sentiment", Unavailable),
        (503, "error_503_place", Unavailable),
        (503, "error_503_symbol", NotFound),
        (422, "error_422", BadQuery),
        (503, {"detail": "Unknown feed: x. Available: []"}, BadQuery),
        (500, {"detail": "Failed to load model finbert"}, Unavailable),
        (404, {"detail": "Not Found"}, Unavailable),
        (405, {"detail": "Method Not Allowed"}, Unavailable),
        (400, {"detail": "bad"}, BadQuery),
        (429, {"detail": "slow"}, RateLimited),
        (502, b"<html>Bad Gateway</html>", Unavailable),
        (503, b"<!DOCTYPE html>Service waking up", Unavailable),
        (200, b"<!DOCTYPE html>Service waking up", Unavailable),
        (404, b"Not Found\n", Unavailable),
        (500, b"Internal Server Error", Unavailable),
        (302, b"", Malformed),
    ],
)
def test_an_error_is_of_its_kind(status: int, body: object, kind: type[ProviderError]) -> None:
    said = sample(body) if isinstance(body, str) else body
    assert type(dt.refusal(dt.NAME, answered(said, status))) is kind


def test_no_error_repeats_the_words_of_its_sources() -> None:
    leak = "503: News failed: Client error '401' for url 'https://newsapi.org/v2/everything?apiKey=canary'"
    for status in (400, 404, 422, 500, 503):
        assert "canary" not in str(dt.refusal(dt.NAME, answered({"detail": leak}, status)))


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b"", Malformed), (b"[]", Malformed), (b"{}", Malformed), ({"success": True, "data": None}, Malformed),
     ({"success": True, "data": {}}, Malformed), ({"success": False, "data": [], "error": "x"}, Unavailable),
     ({"detail": "Failed to fetch"}, Unavailable), (b"<html>", Unavailable), (b"NaN", Malformed)],
)  # fmt: skip
def test_a_200_that_holds_no_answer_is_an_error(body: object, kind: type[ProviderError]) -> None:
    asks: list[Callable[[], Steps[object]]] = [
        lambda: dt.quotes(("BTC",)), lambda: dt.markets(MarketQuery()), lambda: dt.candles(query()),
        lambda: dt.fear_greed(), lambda: dt.rss("coindesk"), lambda: dt.reddit_new(), lambda: dt.latest_news(),
        lambda: dt.trending(),
    ]  # fmt: skip
    for ask in asks:
        with pytest.raises(kind):
            drive(ask(), answered(body))


# --- over loopback ---


async def test_every_endpoint_is_answered_by_a_server_that_ignores_the_other_dialect() -> None:
    async with FakeCryptoDtSource(lambda: START_MS + 1234, loaded=("cryptobert_kk08",)) as fake:
        prices = (await asked(fake, dt.quotes(("ETH", "SOL")), dt.refusal)).good
        assert {quote.symbol for quote in prices} == {"ETH", "SOL"}
        assert prices[0].price == BY_ID["ethereum"].price_at(START_MS + 1234)
        assert [quote.symbol for quote in (await asked(fake, dt.quotes(("HYPE",)), dt.refusal)).good] == ["HYPE"]
        assert len((await asked(fake, dt.quotes(()), dt.refusal)).good) == 250
        assert [coin.rank for coin in (await asked(fake, dt.markets(MarketQuery(5)), dt.refusal)).good] == [
            1,
            2,
            3,
            4,
            5,
        ]
        assert len((await asked(fake, dt.trending(4), dt.refusal)).good) == 4
        days = await asked(fake, dt.fear_greed(3), dt.refusal)
        assert [START_MS - day.ts for day in days] == [0, DAY_MS, 2 * DAY_MS]
        assert {post.kind for post in (await asked(fake, dt.reddit_top(limit=3), dt.refusal)).good} == {"social"}
        assert len((await asked(fake, dt.reddit_new(limit=3), dt.refusal)).good) == 3
        assert len((await asked(fake, dt.rss("theblock", 4), dt.refusal)).good) == 4
        assert len((await asked(fake, dt.rss_all(2), dt.refusal)).good) == 10
        latest = (await asked(fake, dt.news(NewsQuery(symbol="SOL", limit=2)), dt.refusal)).good
        assert all("SOL" in article.symbols for article in latest)
        assert len(latest) == 2
        mood = await asked(fake, dt.sentiment("Bitcoin climbs", "finbert"), dt.refusal)
        assert (mood.label, mood.model) == ("positive", "kk08/CryptoBERT"), "the model that was there did it"
        moods = await asked(fake, dt.sentiment_batch(["outage", "rally", "today"]), dt.refusal)
        assert [each.label for each in moods] == ["negative", "positive", "neutral"]
        assert len(await asked(fake, dt.models(), dt.refusal)) == 4
        assert len(await asked(fake, dt.datasets(), dt.refusal)) == 2
        assert (await asked(fake, dt.status(), dt.refusal))["status"] == "operational"
        assert (await asked(fake, dt.service(), dt.refusal))["version"] == "2.0.0"


async def test_a_sleeping_service_an_unknown_symbol_and_an_unknown_model_are_different_errors() -> None:
    async with FakeCryptoDtSource(lambda: START_MS, loaded=()) as fake:
        with pytest.raises(NotFound):
            await asked(fake, dt.candles(query(base="NOPE")), dt.refusal)
        with pytest.raises(Unavailable):
            await asked(fake, dt.sentiment("x"), dt.refusal)
        fake.binance_refused = True
        with pytest.raises(Unavailable, match="451"):
            await asked(fake, dt.candles(query()), dt.refusal)
        fake.asleep = True
        with pytest.raises(Unavailable):
            await asked(fake, dt.quotes(("BTC",)), dt.refusal)
        fake.asleep = False
        fake.script.append(Fault(html=True))
        with pytest.raises(Unavailable, match="waking"):
            await asked(fake, dt.quotes(("BTC",)), dt.refusal)
        assert (await asked(fake, dt.quotes(("BTC",)), dt.refusal)).good


# --- mutations ---

ASKS: dict[str, Callable[[], Steps[object]]] = {
    "price_symbols": lambda: dt.quotes(("BTC",)),
    "price_limit": lambda: dt.markets(MarketQuery()),
    "klines": lambda: dt.candles(query()),
    "trending": lambda: dt.trending(),
    "fng": lambda: dt.fear_greed(),
    "reddit_top": lambda: dt.reddit_top(),
    "rss": lambda: dt.rss("coindesk"),
    "news": lambda: dt.latest_news(),
    "sentiment": lambda: dt.sentiment("x"),
    "sentiment_batch": lambda: dt.sentiment_batch(["a", "b"]),
    "models": lambda: dt.models(),
    "datasets": lambda: dt.datasets(),
    "status": lambda: dt.status(),
    "api": lambda: dt.service(),
}


@pytest.mark.parametrize("name", list(ASKS))
def test_every_sample_is_read(name: str) -> None:
    assert drive(ASKS[name](), told(name))


@settings(max_examples=400)
@given(data=st.data())
def test_no_broken_answer_does_worse_than_to_be_refused(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(list(ASKS)))
    body = sample(name)
    path = data.draw(st.sampled_from(list(places(body))))
    new = data.draw(st.just(MISSING) | st.sampled_from(BAD_VALUES) | st.text(max_size=5) | st.integers())
    try:
        value = drive(ASKS[name](), answered(json.dumps(mutated(body, path, new)).encode(), at_ms=AT_MS))
    except ProviderError:
        return
    for row in getattr(value, "good", [value]):
        price = getattr(row, "price", None)
        assert price is None or 0 < price < 1e18
        if isinstance(row, Candle):
            assert 0 < row.low <= row.high
        if isinstance(row, (Coin, Quote)):
            assert 0 < row.ts <= AT_MS
            assert datetime.fromtimestamp(row.ts / 1000, UTC).year == 2025
        if isinstance(row, Sentiment):
            assert -1 <= row.score <= 1

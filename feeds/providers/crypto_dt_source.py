"""Crypto DT Source: a free proxy of CoinGecko, Binance, Alternative.me, Reddit, RSS and text models. Pure.

Its author's client and its server name parameters differently, and a server ignores those it does not know. So both
spellings are sent, and an answer counts only if it proves to be the one that was asked for. It says 0 for what it does
not know, and stamps prices with its own clock: such a stamp is the latest the value can be true of. It fails when its
sources fail, with old values before that, and sleeps when nobody asks: the last resort.

Source: the server's own code (nimazasinich/crypto-dt-source, `direct_api`), as of December 2025.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import orjson

from feeds.derive import asked_for, regular
from feeds.fields import (
    BadFieldError,
    Rows,
    amount,
    mapping,
    maybe_amount,
    maybe_mapping,
    maybe_number,
    maybe_text,
    maybe_whole,
    positive,
    some_rows,
    text,
    whole,
)
from feeds.intervals import MINUTE_MS, STEP_MS
from feeds.model import Article, Candle, Coin, FearGreed, Quote, Sentiment, Trending
from feeds.news.articles import MAX_URL, READ_AT_MOST, NewsQuery, article, newest, outlet_name, told_apart
from feeds.queries import CandleQuery, MarketQuery
from orchestrator import http
from orchestrator.errors import (
    BadQuery,
    Malformed,
    NotFound,
    Outdated,
    ProviderError,
    RateLimited,
    Unavailable,
)
from orchestrator.http import HttpRequest, HttpResponse, begins, json_body, maybe_json
from orchestrator.provider import Steps

T = TypeVar("T")

NAME = "crypto_dt_source"

IDS = {
    "BTC": "bitcoin",
    "ETH": "ethereum",
    "BNB": "binancecoin",
    "XRP": "ripple",
    "ADA": "cardano",
    "DOGE": "dogecoin",
    "SOL": "solana",
    "TRX": "tron",
    "DOT": "polkadot",
    "LTC": "litecoin",
    "SHIB": "shiba-inu",
    "AVAX": "avalanche-2",
    "UNI": "uniswap",
    "LINK": "chainlink",
    "ATOM": "cosmos",
    "XLM": "stellar",
    "ETC": "ethereum-classic",
    "XMR": "monero",
    "BCH": "bitcoin-cash",
}
"""The tickers it knows the coin of. Any other it takes for a coin's id, which may be that of quite another coin."""

INTERVALS = ("1m", "5m", "15m", "30m", "1h", "4h", "1d", "1w")
"""For any other it gives hours and says nothing."""

MAX_COINS = 250
MAX_CANDLES = 1000
MAX_ENTRIES = 500
"""Of its own lists: endpoints, models, data sets."""
MAX_LABEL = 40
MAX_VOTES = 10**9
LONGEST_WAIT_S = 7 * 24 * 3600
MODELS = ("cryptobert_kk08", "cryptobert_elkulako", "finbert", "twitter_sentiment")
FEEDS = ("coindesk", "cointelegraph", "bitcoinmagazine", "decrypt", "theblock")
PERIODS = ("hour", "day", "week", "month", "year", "all")

OUTDATED_MS = 10 * MINUTE_MS
INDEX_OUTDATED_MS = 3 * STEP_MS["1d"]
"""It comes once a day, and has missed one."""
NOW_MS = 5000
"""A publication date this close to the answer is the server's word for an unknown one."""


# --- itself ---


def service() -> Steps[dict[str, object]]:
    """What it says it is: `service`, `version`, `endpoints` (paths). `/api`."""
    body = yield from _object("/api")
    direct = maybe_mapping(maybe_mapping(body, "endpoints"), "direct_api")
    paths = [maybe_text(direct, name) for name in list(direct)[:MAX_ENTRIES]]
    return {
        "service": maybe_text(body, "service"),
        "version": maybe_text(body, "version"),
        "endpoints": sorted({path for path in paths if path is not None}),
    }


def status() -> Steps[dict[str, object]]:
    """How it says it is: `status`, and of `models` and `datasets` how many are `configured` and `loaded`.

    What it says of its sources is left out: it calls them available whatever happens.
    """
    body = yield from _object("/api/v1/status")
    said = maybe_text(body, "status")
    if said is None:
        raise Malformed(NAME, "status without a status")
    counts = {name: _counts(maybe_mapping(body, name)) for name in ("models", "datasets")}
    return {"status": said, **counts}


# --- prices ---


def quotes(symbols: Sequence[str]) -> Steps[Rows[Quote]]:
    """Prices in US dollars of tickers, without any those of the 250 largest coins.

    Tickers it might mistake are looked for among the 250 largest, which it names rightly. Changes in percent; a
    change, volume or market cap of 0 is unknown. Raises: NotFound if none of them is there, Malformed if it answers
    of other coins only, Outdated if its own stamps are old.
    """
    asked = tuple(dict.fromkeys(symbol.upper() for symbol in symbols))
    if asked and all(symbol in IDS for symbol in asked):
        params = {"symbols": ",".join(asked), "ids": ",".join(IDS[each] for each in asked)}
    else:
        params = {"limit": str(MAX_COINS), "per_page": str(MAX_COINS)}
    response = yield _get("/api/v1/coingecko/price", params | {"vs_currencies": "usd", "vs_currency": "usd"})
    read = _read_coins(response, by_symbol="symbols" in params)
    found = _of_symbols(read.good, asked)
    if read.good and not found and "symbols" in params:
        raise Malformed(NAME, "prices of other coins than asked for")
    if not found:
        raise NotFound(NAME, f"no price of {', '.join(asked)[:100] or 'any ticker'}")
    return Rows([coin.as_quote() for coin in found], read.rejected)


def all_quotes() -> Steps[Rows[Quote]]:
    """Prices in US dollars of the 250 largest coins, each with CoinGecko's id; several may have one ticker."""
    read = yield from markets(MarketQuery(MAX_COINS))
    return Rows([coin.as_quote() for coin in read.good], read.rejected)


def markets(query: MarketQuery) -> Steps[Rows[Coin]]:
    """The largest coins, or those of the query's tickers among the 250 largest. Money in US dollars, 0 is unknown.

    Raises: NotFound if no ticker asked for is among them, Outdated if its own stamps are old.
    """
    limit = str(MAX_COINS if query.symbols else min(query.limit, MAX_COINS))
    params = {"limit": limit, "per_page": limit, "vs_currencies": "usd", "vs_currency": "usd"}
    response = yield _get("/api/v1/coingecko/price", params)
    read = _read_coins(response, by_symbol=False)
    found = _of_symbols(read.good, query.symbols) if query.symbols else read.good
    if not found:
        raise NotFound(NAME, f"no coin of {', '.join(query.symbols)[:100] or 'any ticker'}")
    return Rows(found[: query.limit], read.rejected)


def trending(limit: int = 10) -> Steps[Rows[Trending]]:
    """The coins most searched for. It does not tell their ids; the ticker in lower case stands in."""
    response = yield _get("/api/v1/coingecko/trending", {"limit": str(limit)})
    return _some(_list(response), _trending, limit)


# --- candles ---


def serves(query: CandleQuery) -> bool:
    """Whether it has candles of that interval and market; it knows pairs with USDT only."""
    return query.interval in INTERVALS and query.pair == f"{query.base}USDT"


def candles(query: CandleQuery) -> Steps[Rows[Candle]]:
    """Binance's candles, ascending, the last one perhaps still forming. `/binance/klines`.

    The newest 1000 at most, whatever time is asked for. `quote_volume` and `trades` are unknown.

    Raises: NotFound if it has none, Malformed if they are not spaced by the interval.
    """
    limit = _candle_limit(query)
    response = yield _get(
        "/api/v1/binance/klines",
        {"symbol": query.pair, "timeframe": query.interval, "interval": query.interval, "limit": limit},
    )
    return _read_candles(response, query)


# --- sentiment ---


def fear_greed(limit: int = 1) -> Steps[list[FearGreed]]:
    """The last `limit` days of the Fear & Greed index, newest first.

    Raises: Malformed if there is none, Outdated if the newest is days old.
    """
    response = yield _get("/api/v1/alternative/fng", {"limit": str(limit)})
    days = _some(_list(response), _day, limit).good
    if not days:
        raise Malformed(NAME, "no day of the index")
    age_ms = _answered_ms(response) - max(day.ts for day in days)
    if age_ms > INDEX_OUTDATED_MS:
        raise Outdated(NAME, f"the newest day of the index is {age_ms // STEP_MS['1d']} days old")
    return sorted(days, key=lambda day: day.ts, reverse=True)


def sentiment(words: str, model: str = MODELS[0]) -> Steps[Sentiment]:
    """What one of `MODELS` reads in a text; `model` of the answer is the one that did, which may be another.

    Raises: Malformed for a label of no known meaning, Unavailable if no model is loaded there.
    """
    response = yield _post("/api/v1/hf/sentiment", {"text": words, "model_key": _model(model)})
    body = _checked(response)
    try:
        return _sentiment(body, body)
    except BadFieldError as error:
        raise Malformed(NAME, f"sentiment with a {error}") from None


def sentiment_batch(texts: Sequence[str], model: str = MODELS[0]) -> Steps[list[Sentiment]]:
    """The same for several texts, in their order. Raises: as `sentiment`; Malformed if one of them is missing."""
    response = yield _post("/api/v1/hf/sentiment/batch", {"texts": list(texts), "model_key": _model(model)})
    body = _checked(response)
    results = body.get("results")
    if not isinstance(results, list) or len(results) != len(texts):
        raise Malformed(NAME, "not one sentiment for each text")
    try:
        return [_sentiment(mapping(row), body) for row in results]
    except BadFieldError as error:
        raise Malformed(NAME, f"sentiment with a {error}") from None


# --- articles ---


def news(query: NewsQuery) -> Steps[Rows[Article]]:
    """The latest of what `/news/latest` gathers, for the news pool. It knows no votes, so no other filter."""
    # A symbol is searched for in what comes, so as much as there is must come.
    found = yield from latest_news(100 if query.symbol else query.limit)
    return newest(found, query)


def latest_news(limit: int = 20) -> Steps[Rows[Article]]:
    """Articles of several outlets. `/news/latest`."""
    response = yield _get("/api/v1/news/latest", {"limit": str(limit)})
    return told_apart(_some(_list(response), lambda row: _news_row(row, response), limit))


def rss(feed_name: str, limit: int = 20) -> Steps[Rows[Article]]:
    """Articles of one of `FEEDS`. Raises: BadQuery for another."""
    if feed_name not in FEEDS:
        raise BadQuery(NAME, f"feed {feed_name[:40]!r} is not one of {', '.join(FEEDS)}")
    response = yield _get("/api/v1/rss/feed", {"feed_name": feed_name, "limit": str(limit)})
    return told_apart(_some(_list(response), lambda row: _of_feed(_rss_row(row, response), feed_name), limit))


def _of_feed(each: Article | None, feed_name: str) -> Article | None:
    """An article, unless it is of another feed: the server ignores the name of a feed that it doesn't understand."""
    if each is not None and each.outlet != feed_name:
        raise BadFieldError("source")
    return each


def rss_all(limit_per_feed: int = 10) -> Steps[Rows[Article]]:
    """Articles of all `FEEDS`, newest first."""
    response = yield _get("/api/v1/rss/all", {"limit_per_feed": str(limit_per_feed), "limit": str(limit_per_feed)})
    return told_apart(_some(_list(response), lambda row: _rss_row(row, response), limit_per_feed * len(FEEDS)))


def reddit_top(subreddit: str = "cryptocurrency", period: str = "day", limit: int = 25) -> Steps[Rows[Article]]:
    """The most voted posts of a period (`PERIODS`), with their votes. Raises: BadQuery for another period."""
    if period not in PERIODS:
        raise BadQuery(NAME, f"period {period[:40]!r} is not one of {', '.join(PERIODS)}")
    params = {"subreddit": subreddit, "time_filter": period, "t": period, "limit": str(limit)}
    response = yield _get("/api/v1/reddit/top", params)
    return _posts(response, subreddit, limit)


def reddit_new(subreddit: str = "cryptocurrency", limit: int = 25) -> Steps[Rows[Article]]:
    """The newest posts, with their votes."""
    response = yield _get("/api/v1/reddit/new", {"subreddit": subreddit, "limit": str(limit)})
    return _posts(response, subreddit, limit)


# --- models and data sets ---


def models() -> Steps[list[dict[str, object]]]:
    """Its text models: `key`, `id`, `description`, `task`, `loaded`."""
    body = yield from _object("/api/v1/hf/models")
    return _entries(body, "models", "model", ("task",))


def datasets() -> Steps[list[dict[str, object]]]:
    """Its data sets: `key`, `id`, `description`, `loaded`."""
    body = yield from _object("/api/v1/hf/datasets")
    return _entries(body, "datasets", "dataset", ())


# --- rows ---


def _read_coins(response: HttpResponse, by_symbol: bool) -> Rows[Coin]:
    return _some(_list(response), lambda row: _coin(mapping(row), response, by_symbol), MAX_COINS)


def _coin(row: Mapping[str, object], response: HttpResponse, by_symbol: bool) -> Coin:
    symbol = text(row, "symbol").strip().upper()
    name = maybe_text(row, "name")
    return Coin(
        symbol=symbol,
        id=maybe_text(row, "id"),
        # Asked by ticker it knows no name, and gives the ticker again.
        name=None if by_symbol and name == symbol else name,
        rank=maybe_whole(row, "market_cap_rank") or None,
        price=positive(row, "price"),
        change_1h_pct=None,
        change_24h_pct=maybe_number(row, "changePercent24h") or None,
        change_7d_pct=None,
        high_24h=None,
        low_24h=None,
        volume_24h=maybe_amount(row, "volume24h") or None,
        market_cap=maybe_amount(row, "marketCap") or None,
        circulating_supply=maybe_amount(row, "circulating_supply") or None,
        currency="usd",
        ts=_fresh_ts(row, response),
    )


def _of_symbols(coins: Iterable[Coin], symbols: Iterable[str]) -> list[Coin]:
    """For each ticker asked for (without any: for all) the coin of the highest market cap, in the answer's order."""
    asked = {symbol.upper() for symbol in symbols}
    best: dict[str, Coin] = {}
    for coin in coins:
        held = best.get(coin.symbol)
        if (coin.symbol in asked or not asked) and (
            held is None or (coin.market_cap or 0.0) > (held.market_cap or 0.0)
        ):
            best[coin.symbol] = coin
    return list(best.values())


def _fresh_ts(row: Mapping[str, object], response: HttpResponse) -> int:
    """The server's stamp, never later than the answer. Raises Outdated if it is old: the answer was kept somewhere."""
    answered = _answered_ms(response)
    said = maybe_whole(row, "timestamp")
    if not said:
        return answered
    stamp = min(said, answered)
    if stamp < answered - OUTDATED_MS:
        raise Outdated(NAME, f"prices of {(answered - stamp) / 60_000:.0f} min ago")
    return stamp


def _trending(row: object) -> Trending:
    fields = mapping(row)
    symbol = text(fields, "symbol").strip().upper()
    return Trending(
        symbol=symbol,
        id=maybe_text(fields, "id") or symbol.lower(),
        name=maybe_text(fields, "name") or symbol,
        rank=maybe_whole(fields, "marketCapRank") or None,
        price=maybe_amount(fields, "price") or None,
        change_24h_pct=maybe_number(fields, "change24h") or None,
    )


def _candle_limit(query: CandleQuery) -> str:
    """At least 2, which the spacing is seen by; all, where a time is asked for that it cannot be told."""
    timed = query.start is not None or query.end is not None
    return str(MAX_CANDLES if timed else max(2, min(query.limit, MAX_CANDLES)))


def _read_candles(response: HttpResponse, query: CandleQuery) -> Rows[Candle]:
    answered = _answered_ms(response)
    symbol = f"{query.base}USDT"
    read = _some(_list(response), lambda row: _candle(mapping(row), symbol, query.interval, answered), MAX_CANDLES)
    by_open = {candle.open_time: candle for candle in read.good}
    opens = sorted(by_open)
    if not opens:
        raise NotFound(NAME, f"no candles of {symbol}")
    if not regular(opens, query.interval):
        raise Malformed(NAME, f"candles are not spaced by {query.interval}")
    if opens[-1] < answered - 2 * STEP_MS[query.interval] - OUTDATED_MS:
        raise Outdated(NAME, f"the newest candle opened {(answered - opens[-1]) / 60_000:.0f} min ago")
    wanted = asked_for([by_open[open_time] for open_time in opens], query)
    if not wanted:
        raise NotFound(NAME, f"no candle of {symbol} in the time asked for")
    return Rows(wanted, read.rejected)


def _candle(row: Mapping[str, object], symbol: str, interval: str, answered_ms: int) -> Candle:
    open_time = whole(row, "timestamp")
    close_time = open_time + STEP_MS[interval] - 1
    if not 10**12 <= open_time <= answered_ms + MINUTE_MS:
        raise BadFieldError("timestamp")
    first, high, low, last = (positive(row, name) for name in ("open", "high", "low", "close"))
    if low > high:
        raise BadFieldError("low")
    volume = maybe_amount(row, "volume")
    return Candle(
        symbol=symbol,
        interval=interval,
        open_time=open_time,
        close_time=close_time,
        open=first,
        high=high,
        low=low,
        close=last,
        # Without a trade no price moves.
        volume=None if volume == 0 and low < high else volume,
        quote_volume=None,
        trades=None,
        closed=close_time < answered_ms,
        ts=min(close_time, answered_ms),
    )


def _day(row: object) -> FearGreed:
    fields = mapping(row)
    value, seconds = whole(fields, "value"), whole(fields, "timestamp")
    label = maybe_text(fields, "value_classification", MAX_LABEL)
    # An empty row becomes 0 and "neutral" there.
    if value > 100 or (value == 0 and (label or "").lower() != "extreme fear"):
        raise BadFieldError("value")
    if not 10**9 <= seconds < 10**11:
        raise BadFieldError("timestamp")
    wait_s = maybe_amount(fields, "time_until_update")
    if wait_s is not None and wait_s > LONGEST_WAIT_S:
        wait_s = None
    return FearGreed(value, label, seconds * 1000, None if wait_s is None else int(wait_s))


POSITIVE = {"positive", "bullish"}
NEGATIVE = {"negative", "bearish"}
NUMBERED = {"cryptobert_kk08": {"label_0": "negative", "label_1": "positive"}}
"""Models that number their labels. This one knows no neutral, so what it is unsure of is."""
UNSURE = 0.6


def _sentiment(row: Mapping[str, object], body: Mapping[str, object]) -> Sentiment:
    """From the label and the probability of it; the other scores it gives are under wrong names for some models."""
    key = text(body, "model")
    model = maybe_text(body, "model_id") or key
    sure = amount(row, "score")
    if sure > 1:
        raise BadFieldError("score")
    label = text(row, "label").strip().lower()
    numbered = NUMBERED.get(key)
    if numbered is not None:
        label = numbered.get(label, label)
        if sure < UNSURE:
            label = "neutral"
    if label in POSITIVE:
        return Sentiment("positive", sure, model, sure)
    if label in NEGATIVE:
        return Sentiment("negative", -sure, model, sure)
    if label == "neutral":
        return Sentiment("neutral", 0.0, model, sure)
    raise BadFieldError("label")


def _model(model: str) -> str:
    if model not in MODELS:
        raise BadQuery(NAME, f"model {model[:40]!r} is not one of {', '.join(MODELS)}")
    return model


def _news_row(row: object, response: HttpResponse) -> Article | None:
    fields = mapping(row)
    return _article(
        fields,
        response,
        url=maybe_text(fields, "url", MAX_URL + 1),
        outlet=outlet_name(maybe_text(fields, "source"), None, "news"),
        kind="news",
        published_ms=_ms(fields, "timestamp", 1),
        summary=maybe_text(fields, "description", READ_AT_MOST),
    )


def _rss_row(row: object, response: HttpResponse) -> Article | None:
    fields = mapping(row)
    return _article(
        fields,
        response,
        url=maybe_text(fields, "link", MAX_URL + 1),
        outlet=outlet_name(maybe_text(fields, "source"), None, "rss"),
        kind="news",
        published_ms=_ms(fields, "published", 1000),
        summary=maybe_text(fields, "summary", READ_AT_MOST),
    )


def _posts(response: HttpResponse, subreddit: str, limit: int) -> Rows[Article]:
    body = _checked(response)
    said = body.get("subreddit")
    if isinstance(said, str) and said.lower() != subreddit.lower():
        raise Malformed(NAME, "posts of another subreddit")
    return told_apart(_some(_list(response), lambda row: _reddit_row(row, response), limit))


def _reddit_row(row: object, response: HttpResponse) -> Article | None:
    fields = mapping(row)
    post_id = maybe_text(fields, "id")
    if post_id is not None and not post_id.isalnum():
        post_id = None
    votes = {"score": maybe_number(fields, "score"), "comments": maybe_number(fields, "num_comments")}
    return _article(
        fields,
        response,
        # A post's `url` is what it links to, often an image; the newest come without the link of the post itself.
        url=maybe_text(fields, "permalink", MAX_URL + 1)
        or (None if post_id is None else f"https://www.reddit.com/comments/{post_id}"),
        outlet="reddit",
        kind="social",
        published_ms=_ms(fields, "created_utc", 1000),
        summary=maybe_text(fields, "selftext", READ_AT_MOST),
        votes={name: int(count) for name, count in votes.items() if count is not None and abs(count) < MAX_VOTES}
        or None,
        key=None if post_id is None else ("reddit", post_id),
    )


def _article(
    fields: Mapping[str, object],
    response: HttpResponse,
    *,
    url: str | None,
    outlet: str,
    kind: str,
    published_ms: int | None,
    summary: str | None,
    votes: Mapping[str, int] | None = None,
    key: tuple[str, str] | None = None,
) -> Article | None:
    # It says "now" where a feed's date cannot be read.
    made_up = published_ms is not None and abs(published_ms - _answered_ms(response)) <= NOW_MS
    return article(
        title=maybe_text(fields, "title", READ_AT_MOST),
        url=url,
        outlet=outlet,
        kind=kind,
        published_ms=None if made_up else published_ms,
        received_ms=response.received_ms,
        summary=summary,
        votes=votes,
        key=key,
    )


def _ms(fields: Mapping[str, object], name: str, factor: int) -> int | None:
    """A time as Unix milliseconds; None where there is none, or 0."""
    value = maybe_amount(fields, name)
    return int(value * factor) if value else None


def _counts(fields: Mapping[str, object]) -> dict[str, int | None]:
    return {name: maybe_whole(fields, f"total_{name}") for name in ("configured", "loaded")}


def _entries(body: Mapping[str, object], name: str, prefix: str, more: Sequence[str]) -> list[dict[str, object]]:
    listed = body.get(name)
    if not isinstance(listed, list):
        raise Malformed(NAME, f"no list of {name}")

    def read(row: object) -> dict[str, object]:
        fields = mapping(row)
        return {
            "key": text(fields, f"{prefix}_key"),
            "id": text(fields, f"{prefix}_id"),
            "description": maybe_text(fields, "description"),
            **{each: maybe_text(fields, each) for each in more},
            "loaded": fields.get("loaded") is True,
        }

    return _some(listed, read, MAX_ENTRIES).good


# --- bodies ---


def _get(path: str, params: Mapping[str, str] | None = None) -> HttpRequest:
    return HttpRequest(path, params or {})


def _post(path: str, body: Mapping[str, object]) -> HttpRequest:
    headers = {"content-type": "application/json"}
    return HttpRequest(path, method="POST", headers=headers, body=orjson.dumps(body))


def _object(path: str) -> Steps[dict[str, object]]:
    response = yield _get(path)
    return _checked(response)


def _checked(response: HttpResponse) -> dict[str, object]:
    """The body's object. Raises the error it tells instead of an answer."""
    refused = refusal(NAME, response)
    if refused is not None:
        raise refused
    body = json_body(NAME, response)
    if not isinstance(body, dict):
        raise Malformed(NAME, "no object")
    if "detail" in body and "data" not in body:
        raise _of_detail(response.status, body["detail"])
    if body.get("success") is False:
        raise Unavailable(NAME, "says it had no success")
    return body


def _data(response: HttpResponse) -> object:
    body = _checked(response)
    if "data" not in body:
        raise Malformed(NAME, "no data in the answer")
    return body["data"]


def _list(response: HttpResponse) -> list[object]:
    data = _data(response)
    if not isinstance(data, list):
        raise Malformed(NAME, "data is no list")
    return data


def _some(listed: Sequence[object], read: Callable[[object], T | None], limit: int) -> Rows[T]:
    """The first `limit` rows that can be read. Raises Malformed if there are rows and none can."""
    found = some_rows(NAME, listed, read)
    del found.good[limit:]
    return found


def _answered_ms(response: HttpResponse) -> int:
    """When it was answered by the sender's clock, where that is known: ours may be wrong."""
    return response.date_ms or response.received_ms


# --- refusals ---


def refusal(provider: str, response: HttpResponse) -> ProviderError | None:
    """The error of an answer. A page of HTML, with whatever status, is the host waking the service up."""
    error = http.refusal(provider, response)
    page = begins(response) == b"<"
    if error is None:
        return Unavailable(provider, "a page instead of an answer: it is waking up") if page else None
    if isinstance(error, RateLimited):
        return error
    body = maybe_json(response)
    detail = body.get("detail") if isinstance(body, dict) else None
    if detail is not None:
        return _of_detail(response.status, detail)
    # What is not JSON comes from the host, which also says 404 of a service that is gone.
    return Unavailable(provider, f"status {response.status}") if response.status in (404, 405) else error


def _of_detail(status: int, detail: object) -> ProviderError:
    """What FastAPI's `detail` tells. Its words hold the addresses it asked, so none of them is passed on."""
    said = detail if isinstance(detail, str) else ""
    if status == 422:
        return BadQuery(NAME, f"refused parameter {_refused_parameter(detail)}")
    # The status of an inner failure comes as text inside a 503.
    inner = re.match(r"(\d{3}): ", said)
    meant = int(inner[1]) if inner else status
    if "Invalid symbol" in said or "Symbol not found" in said:
        return NotFound(NAME, "no such symbol")
    if "Unknown feed" in said:
        return BadQuery(NAME, "no such feed")
    if status in (404, 405):
        return Unavailable(NAME, f"its build lacks this endpoint (status {status})")
    if status == 400:
        return BadQuery(NAME, "status 400")
    return Unavailable(NAME, f"status {status}" if meant == status else f"status {status}, its own source said {meant}")


def _refused_parameter(detail: object) -> str:
    first = detail[0] if isinstance(detail, list) and detail else None
    where = first.get("loc") if isinstance(first, dict) else None
    return str(where[-1])[:40] if isinstance(where, list) and where else "(unnamed)"

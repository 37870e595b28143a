"""A fake Crypto DT Source, written after its server's code: it reads its own parameters and ignores others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import orjson

from tests.fakes.coingecko import BY_ID, DAY_MS, HOUR_MS, LARGE, MINUTE_MS, RANKED, RANKS, ListedCoin
from tests.fakes.upstream import Call, FakeUpstream, Reply, wall_clock_ms

IDS = {coin.symbol.upper(): coin.id for coin in LARGE if coin.id not in ("hyperliquid", "tether", "usd-coin")}
"""The server's short table of ids; for any other ticker it uses the lower-case ticker as the id."""
STEPS = {
    "1m": MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "1h": HOUR_MS,
    "4h": 4 * HOUR_MS,
    "1d": DAY_MS,
    "1w": 7 * DAY_MS,
}
FIRST_MONDAY_MS = 4 * DAY_MS
MODELS = {
    "cryptobert_kk08": "kk08/CryptoBERT",
    "twitter_sentiment": "cardiffnlp/twitter-roberta-base-sentiment-latest",
    "finbert": "ProsusAI/finbert",
    "cryptobert_elkulako": "ElKulako/cryptobert",
}
LABELS = {
    "cryptobert_kk08": ("LABEL_0", "LABEL_1", "LABEL_1"),
    "twitter_sentiment": ("negative", "neutral", "positive"),
    "finbert": ("negative", "neutral", "positive"),
    "cryptobert_elkulako": ("Bearish", "Neutral", "Bullish"),
}
DATASETS = {"cryptocoin": "linxy/CryptoCoin", "bitcoin_btc_usdt": "WinkingFace/CryptoLM-Bitcoin-BTC-USDT"}
FEEDS = ("coindesk", "cointelegraph", "bitcoinmagazine", "decrypt", "theblock")
HEADLINES = (
    "Bitcoin climbs as funds return",
    "Ethereum developers set a date for the next upgrade",
    "Solana outage hits exchanges",
    "XRP slips after court filing",
    "Stablecoin rules advance in parliament",
    "Miners sell Bitcoin into the rally",
)
WAKING = b"<!DOCTYPE html><html><head><title>Service waking up</title></head><body>Starting</body></html>"


class FakeCryptoDtSource(FakeUpstream):
    """Serve the endpoints of the Space.

    `asleep` answers everything with the host's page; `loaded` are its models; calls above `per_minute` are only
    counted. `binance_refused` makes its Binance paths answer 503 with a 451 inside, as in a blocked region.
    """

    def __init__(
        self,
        wall_ms: Callable[[], int] = wall_clock_ms,
        *,
        loaded: tuple[str, ...] = ("cryptobert_kk08", "finbert"),
        per_minute: int = 30,
    ) -> None:
        super().__init__(wall_ms)
        self.loaded = loaded
        self.per_minute = per_minute
        self.over_limit = 0
        self.asleep = False
        self.binance_refused = False
        routes: tuple[tuple[str, str, Callable[[Call], Reply]], ...] = (
            ("GET", "/api", self._service),
            ("GET", "/api/v1/status", self._status),
            ("GET", "/api/v1/coingecko/price", self._price),
            ("GET", "/api/v1/coingecko/trending", self._trending),
            ("GET", "/api/v1/binance/klines", self._klines),
            ("GET", "/api/v1/alternative/fng", self._fear_greed),
            ("GET", "/api/v1/reddit/top", self._reddit),
            ("GET", "/api/v1/reddit/new", self._reddit),
            ("GET", "/api/v1/rss/feed", self._rss),
            ("GET", "/api/v1/rss/all", self._rss_all),
            ("GET", "/api/v1/news/latest", self._news),
            ("POST", "/api/v1/hf/sentiment", self._sentiment),
            ("POST", "/api/v1/hf/sentiment/batch", self._sentiment_batch),
            ("GET", "/api/v1/hf/sentiment", lambda call: detail(405, "Method Not Allowed")),
            ("GET", "/api/v1/hf/models", self._models),
            ("GET", "/api/v1/hf/datasets", self._datasets),
            ("GET", "*", lambda call: detail(404, "Not Found")),
        )
        for method, path, reply in routes:
            self.on(method, path, self._guarded(reply))

    def _guarded(self, reply: Callable[[Call], Reply]) -> Callable[[Call], Reply]:
        def guarded(call: Call) -> Reply:
            if sum(each.at > call.at - 60.0 for each in self.calls) > self.per_minute:
                self.over_limit += 1
            if self.asleep:
                return Reply(WAKING, 503, {"Content-Type": "text/html"})
            return reply(call)

        return guarded

    def _json_reply(self, body: Mapping[str, object]) -> Reply:
        now = datetime.fromtimestamp(self.wall_ms() / 1000, UTC).replace(tzinfo=None)
        return Reply(orjson.dumps({"success": True, **body, "timestamp": now.isoformat(timespec="microseconds")}))

    # --- itself ---

    def _service(self, call: Call) -> Reply:
        direct = {"coingecko_price": "/api/v1/coingecko/price", "binance_klines": "/api/v1/binance/klines"}
        body = {
            "service": "Unified Cryptocurrency Data API",
            "version": "2.0.0",
            "features": {},
            "endpoints": {"direct_api": direct, "documentation": {"swagger_ui": "/docs"}},
        }
        return Reply(orjson.dumps(body))

    def _status(self, call: Call) -> Reply:
        return self._json_reply(
            {
                "status": "operational",
                "models": {"total_configured": len(MODELS), "total_loaded": len(self.loaded), "device": "cpu"},
                "datasets": {"total_configured": len(DATASETS), "total_loaded": 0},
                "external_apis": {"coingecko": "available", "binance": "available"},
            }
        )

    # --- prices ---

    def _price(self, call: Call) -> Reply:
        now = self.wall_ms()
        asked = call.query.get("symbols")
        if asked:
            ids = [IDS.get(each.upper().removesuffix("USDT"), each.lower()) for each in asked.split(",")]
            rows = [named_row(BY_ID[each], now) for each in dict.fromkeys(ids) if each in BY_ID]
        else:
            limit = min(250, int(call.query.get("limit", "100")))
            rows = [listed_row(coin, now) for coin in RANKED[:limit]]
        return self._json_reply({"data": rows, "source": "coingecko"})

    def _trending(self, call: Call) -> Reply:
        now = self.wall_ms()
        rows = [
            {
                "symbol": coin.symbol.upper(),
                "name": coin.name,
                "rank": place,
                "price": coin.price_at(now),
                "change24h": coin.change_pct(now, DAY_MS),
                "marketCapRank": RANKS[coin.id],
                "source": "coingecko",
                "timestamp": now,
            }
            for place, coin in enumerate(LARGE[: int(call.query.get("limit", "10"))], 1)
        ]
        return self._json_reply({"data": rows, "source": "coingecko"})

    # --- Binance's ---

    def _klines(self, call: Call) -> Reply:
        symbol = call.query.get("symbol")
        if symbol is None:
            return missing("symbol")
        timeframe = call.query.get("timeframe", "1h")
        answer = self._candles(symbol, timeframe, int(call.query.get("limit", "1000")))
        if isinstance(answer, Reply):
            return answer
        return self._json_reply(
            {"data": answer, "source": "binance", "symbol": symbol, "timeframe": timeframe, "count": len(answer)}
        )

    def _candles(self, symbol: str, timeframe: str, limit: int) -> list[dict[str, object]] | Reply:
        """Return candles; an unknown timeframe becomes an hour."""
        if self.binance_refused:
            return detail(503, "451: Binance API access restricted for your region.")
        coin = coin_of(symbol)
        if coin is None:
            return detail(503, f"400: Invalid symbol or parameters: {symbol}")
        now, step = self.wall_ms(), STEPS.get(timeframe, HOUR_MS)
        origin = FIRST_MONDAY_MS if timeframe == "1w" else 0
        newest = now - (now - origin) % step
        rows: list[dict[str, object]] = []
        for opened in range(newest - (min(limit, 1000) - 1) * step, newest + 1, step):
            ended = min(opened + step, now)
            high, low = coin.extremes(opened, ended)
            rows.append(
                {
                    "timestamp": opened,
                    "open": coin.price_at(opened),
                    "high": high,
                    "low": low,
                    "close": coin.price_at(ended),
                    "volume": 0.5 + (ended - opened) / MINUTE_MS,
                }
            )
        return rows

    # --- news and sentiment ---

    def _fear_greed(self, call: Call) -> Reply:
        now = self.wall_ms()
        today = now - now % DAY_MS
        rows = [
            {
                "value": 29 + back % 5,
                "value_classification": "Fear",
                "timestamp": (today - back * DAY_MS) // 1000,
                "time_until_update": str((today + DAY_MS - now) // 1000) if back == 0 else None,
                "source": "alternative.me",
            }
            for back in range(int(call.query.get("limit", "1")))
        ]
        return self._json_reply({"data": rows, "metadata": {"error": None}, "source": "alternative.me"})

    def _reddit(self, call: Call) -> Reply:
        subreddit = call.query.get("subreddit", "cryptocurrency")
        newest = self._published()
        rows: list[dict[str, object]] = []
        for place in range(min(int(call.query.get("limit", "25")), len(HEADLINES))):
            post_id = f"p{newest - place:x}"
            row: dict[str, object] = {
                "id": post_id,
                "title": HEADLINES[(newest - place) % len(HEADLINES)],
                "author": "someone",
                "score": 12 + place,
                "num_comments": 3,
                "url": "https://i.redd.it/picture.png",
                "created_utc": (newest - place) * 300,
                "source": "reddit",
            }
            if call.path.endswith("/top"):
                row["permalink"] = f"https://www.reddit.com/r/{subreddit}/comments/{post_id}/words/"
                row["selftext"] = "What do you think?"
            rows.append(row)
        return self._json_reply({"data": rows, "subreddit": subreddit, "count": len(rows), "source": "reddit"})

    def _published(self) -> int:
        """Return the number of the newest article; a new one comes every five minutes."""
        return self.wall_ms() // 300_000

    def _articles(self, outlet: str, limit: int) -> list[dict[str, object]]:
        newest = self._published()
        return [
            {
                "title": HEADLINES[number % len(HEADLINES)],
                "link": f"https://{outlet}.example/{number}",
                "summary": "<p>The first lines of it.</p>",
                "author": "Somebody",
                "published": number * 300 - 60 * FEEDS.index(outlet),
                "source": outlet,
                "feed_url": f"https://{outlet}.example/rss",
            }
            for number in range(newest, newest - min(limit, 12), -1)
        ]

    def _rss(self, call: Call) -> Reply:
        feed = call.query.get("feed_name")
        if feed is None:
            return missing("feed_name")
        if feed not in FEEDS:
            return detail(503, f"Unknown feed: {feed}. Available: {list(FEEDS)}")
        rows = self._articles(feed, int(call.query.get("limit", "20")))
        return self._json_reply({"data": rows, "feed_name": feed, "count": len(rows), "source": "rss"})

    def _rss_all(self, call: Call) -> Reply:
        limit = int(call.query.get("limit_per_feed", "10"))
        rows = [row for feed in FEEDS for row in self._articles(feed, limit)]
        rows.sort(key=lambda row: int(str(row["published"])), reverse=True)
        return self._json_reply({"data": rows, "total_articles": len(rows), "source": "rss"})

    def _news(self, call: Call) -> Reply:
        limit = int(call.query.get("limit", "20"))
        rows = [
            {
                "title": row["title"],
                "description": row["summary"],
                "url": row["link"],
                "source": feed.title(),
                "timestamp": int(str(row["published"])) * 1000,
            }
            for feed in ("coindesk", "cointelegraph", "decrypt")
            for row in self._articles(feed, limit)
        ]
        return self._json_reply({"data": rows[:limit], "count": len(rows[:limit]), "source": "aggregated"})

    # --- models ---

    def _sentiment(self, call: Call) -> Reply:
        asked = orjson.loads(call.body)
        if "text" not in asked:
            return missing("text", "body")
        wanted = asked.get("model_key") or "cryptobert_elkulako"
        order = (wanted, "cryptobert_kk08", "finbert", "twitter_sentiment")
        model = next((each for each in order if each in self.loaded), None)
        if model is None:
            return detail(
                503,
                {
                    "error": "All sentiment models unavailable",
                    "tried_models": list(order),
                    "degraded_response": {"sentiment": "neutral", "score": 0.5, "method": "fallback"},
                },
            )
        more = {} if model == wanted else {"fallback_used": True, "primary_model": wanted, "actual_model": model}
        return self._json_reply({**scored(asked["text"], model), "model": model, "model_id": MODELS[model], **more})

    def _sentiment_batch(self, call: Call) -> Reply:
        asked = orjson.loads(call.body)
        model = asked.get("model_key") or "cryptobert_elkulako"
        if model not in self.loaded:
            return detail(500, f"Failed to load model {model}: no such file")
        results = [scored(words, model) for words in asked["texts"]]
        return self._json_reply({"count": len(results), "results": results, "model": model, "model_id": MODELS[model]})

    def _models(self, call: Call) -> Reply:
        rows = [
            {
                "model_key": key,
                "model_id": model_id,
                "task": "sentiment-analysis",
                "description": f"{model_id} for sentiment",
                "loaded": key in self.loaded,
                "device": "cpu" if key in self.loaded else None,
            }
            for key, model_id in MODELS.items()
        ]
        return self._json_reply(
            {"total_configured": len(rows), "total_loaded": len(self.loaded), "device": "cpu", "models": rows}
        )

    def _datasets(self, call: Call) -> Reply:
        rows = [
            {"dataset_key": key, "dataset_id": dataset_id, "description": "Market data", "loaded": False}
            for key, dataset_id in DATASETS.items()
        ]
        return self._json_reply({"total_configured": len(rows), "total_loaded": 0, "datasets": rows})


def named_row(coin: ListedCoin, now_ms: int) -> dict[str, object]:
    """Return a price by ticker, in which the absolute change wrongly repeats the percentage."""
    change = coin.change_pct(now_ms, DAY_MS)
    symbol = next((symbol for symbol, each in IDS.items() if each == coin.id), coin.id.upper())
    return {
        "symbol": symbol,
        "name": symbol,
        "price": coin.price_at(now_ms),
        "change24h": change,
        "changePercent24h": change,
        "volume24h": coin.price * coin.supply / 30,
        "marketCap": coin.price_at(now_ms) * coin.supply,
        "source": "coingecko",
        "timestamp": now_ms,
    }


def listed_row(coin: ListedCoin, now_ms: int) -> dict[str, object]:
    """Return a price of the list of the largest coins."""
    return {
        **named_row(coin, now_ms),
        "id": coin.id,
        "symbol": coin.symbol.upper(),
        "name": coin.name,
        "image": f"https://coin-images.coingecko.com/coins/images/1/large/{coin.id}.png",
        "change24h": coin.price_at(now_ms) - coin.price_at(now_ms - DAY_MS),
        "market_cap_rank": RANKS[coin.id],
        "circulating_supply": coin.supply,
        "total_supply": coin.supply,
        "max_supply": None,
        "ath": coin.price * 1.4,
        "atl": coin.price / 50,
    }


def coin_of(symbol: str) -> ListedCoin | None:
    """Return the coin of a pair with USDT, in any spelling."""
    base = symbol.upper().removesuffix("USDT").lower()
    return next((coin for coin in LARGE if coin.symbol == base), None)


def scored(words: str, model: str) -> dict[str, object]:
    """Score a text by a few words."""
    text = words.lower()
    sign = any(each in text for each in ("climb", "rally", "bullish")) - any(
        each in text for each in ("slip", "outage", "crash", "bearish")
    )
    label, score = LABELS[model][sign + 1], 0.55 if sign == 0 else 0.93
    return {"text": words[:100], "sentiment": label, "label": label, "score": score, "confidence": score}


def detail(status: int, what: object) -> Reply:
    """Return an error in FastAPI's format."""
    return Reply(orjson.dumps({"detail": what}), status)


def missing(name: str, where: str = "query") -> Reply:
    """Return FastAPI's error for a missing parameter."""
    return detail(422, [{"loc": [where, name], "msg": "field required", "type": "value_error.missing"}])

"""A fake CoinGecko: the public host, with or without a Demo key, or the Pro host, with the shapes of its errors."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

import orjson

from tests.fakes.upstream import Call, FakeUpstream, Reply, wall_clock_ms

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


@dataclass(frozen=True, slots=True)
class ListedCoin:
    """A coin of the fake market: its mean price in US dollars and its supply."""

    id: str
    symbol: str
    name: str
    price: float
    supply: float

    def price_at(self, ms: float) -> float:
        """Return the price at a moment: two waves around the mean, so that the price depends only on the time."""
        phase = _phase(self.id)
        wave = 0.02 * math.sin(ms / DAY_MS * 2.3 + phase) + 0.004 * math.sin(ms / HOUR_MS * 1.7 + 2 * phase)
        return float(f"{self.price * (1 + wave):.8g}")

    def change_pct(self, ms: float, back_ms: float) -> float:
        """Return the change up to a moment, in percent."""
        return round((self.price_at(ms) / self.price_at(ms - back_ms) - 1) * 100, 5)

    def extremes(self, since_ms: float, until_ms: float) -> tuple[float, float]:
        """Return the highest and the lowest price of a span, including its ends."""
        prices = [self.price_at(since_ms + (until_ms - since_ms) * part / 4) for part in range(5)]
        return max(prices), min(prices)


@cache
def _phase(coin_id: str) -> int:
    """Return where the price of a coin is in its waves at time 0."""
    return sum(map(ord, coin_id))


LARGE = (
    ListedCoin("bitcoin", "btc", "Bitcoin", 86_250.0, 19_961_237.0),
    ListedCoin("ethereum", "eth", "Ethereum", 2_815.0, 120_700_000.0),
    ListedCoin("tether", "usdt", "Tether", 1.0, 184_000_000_000.0),
    ListedCoin("ripple", "xrp", "XRP", 1.94, 60_300_000_000.0),
    ListedCoin("binancecoin", "bnb", "BNB", 845.0, 137_700_000.0),
    ListedCoin("solana", "sol", "Solana", 128.0, 559_000_000.0),
    ListedCoin("usd-coin", "usdc", "USDC", 1.0, 74_000_000_000.0),
    ListedCoin("tron", "trx", "TRON", 0.27, 94_600_000_000.0),
    ListedCoin("dogecoin", "doge", "Dogecoin", 0.142, 151_600_000_000.0),
    ListedCoin("cardano", "ada", "Cardano", 0.41, 36_600_000_000.0),
    ListedCoin("chainlink", "link", "Chainlink", 12.4, 696_000_000.0),
    ListedCoin("hyperliquid", "hype", "Hyperliquid", 31.0, 270_000_000.0),
    ListedCoin("shiba-inu", "shib", "Shiba Inu", 0.0000078, 589_000_000_000_000.0),
)
SMALL = tuple(ListedCoin(f"coin-{n}", f"c{n}", f"Coin {n}", 5.0 / n, 40_000_000.0) for n in range(1, 288))
NAMESAKES = (
    ListedCoin("batcat", "btc", "batcat", 0.00002, 1_000_000_000.0),
    ListedCoin("hype-token-2", "hype", "Hype Token", 0.003, 1_000_000_000.0),
)
COINS = LARGE + SMALL + NAMESAKES
BY_ID = {coin.id: coin for coin in COINS}
RANKED = sorted(LARGE + SMALL, key=lambda coin: coin.price * coin.supply, reverse=True)
RANKS = {coin.id: rank for rank, coin in enumerate(RANKED, 1)}
DAYS = ("1", "7", "14", "30", "90", "180", "365", "max")


class FakeCoinGecko(FakeUpstream):
    """Serve CoinGecko's `/api/v3` at the root.

    `pro` makes it the Pro host. `keys` are the valid keys. Calls above `per_minute`, refused ones included, are
    answered with 429 and counted in `over_limit`. `frozen_ms` stops all timestamps, like a stuck cache. `coins` and
    `extra` are listed, and `list_coin` adds or changes one later.
    """

    def __init__(
        self,
        wall_ms: Callable[[], int] = wall_clock_ms,
        *,
        pro: bool = False,
        keys: Iterable[str] = (),
        per_minute: int = 30,
        coins: Iterable[ListedCoin] = COINS,
        extra: Iterable[ListedCoin] = (),
    ) -> None:
        super().__init__(wall_ms)
        self.coins: dict[str, ListedCoin] = {coin.id: coin for coin in (*coins, *extra)}
        self._rank()
        self.pro = pro
        self.keys = frozenset(keys)
        self.per_minute = per_minute
        self.over_limit = 0
        self.frozen_ms: int | None = None
        self._recent: deque[float] = deque()
        for path, reply in (
            ("/ping", lambda call: json_reply({"gecko_says": "(V3) To the Moon!"})),
            ("/coins/markets", self._markets),
            ("/coins/*", self._coin),
            ("/global", self._global),
            ("/search/trending", self._trending),
        ):
            self.on("GET", path, self._guarded(reply))

    def list_coin(self, coin: ListedCoin) -> None:
        """List a coin, or replace the one with its id, and update the ranks."""
        self.coins[coin.id] = coin
        self._rank()

    def delist(self, coin_id: str) -> None:
        """Remove a coin from the list."""
        self.coins.pop(coin_id, None)
        self._rank()

    def _rank(self) -> None:
        ranked = [each for each in self.coins.values() if each not in NAMESAKES]
        ranked.sort(key=lambda each: each.price * each.supply, reverse=True)
        self.ranks = {each.id: rank for rank, each in enumerate(ranked, 1)}

    @property
    def now_ms(self) -> int:
        """The time of the data."""
        return self.wall_ms() if self.frozen_ms is None else self.frozen_ms

    def _guarded(self, reply: Callable[[Call], Reply]) -> Callable[[Call], Reply]:
        def guarded(call: Call) -> Reply:
            return self._limited(call) or self._key_refused(call) or reply(call)

        return guarded

    def _limited(self, call: Call) -> Reply | None:
        while self._recent and self._recent[0] <= call.at - 60.0:
            self._recent.popleft()
        self._recent.append(call.at)
        if len(self._recent) <= self.per_minute:
            return None
        self.over_limit += 1
        wait_s = math.ceil(60.0 - (call.at - self._recent[-self.per_minute - 1]))
        words = "You've exceeded the Rate Limit. Please visit https://www.coingecko.com/en/api/pricing to subscribe."
        return coded_error(429, 429, words, {"Retry-After": str(max(1, wait_s))})

    def _key_refused(self, call: Call) -> Reply | None:
        demo, pro = call.headers.get("x-cg-demo-api-key"), call.headers.get("x-cg-pro-api-key")
        if self.pro:
            if pro is None and demo is not None:
                words = "If you are using Demo API key, please change your root URL to api.coingecko.com"
                return coded_error(400, 10011, words)
            return None if pro in self.keys else coded_error(401, 10002, "API Key Missing", stamped=True)
        if pro is not None:
            words = "If you are using Pro API key, please change your root URL to pro-api.coingecko.com"
            return coded_error(400, 10010, words)
        if demo is None or demo in self.keys:
            return None
        inner = {"status": {"error_code": 10002, "error_message": "API Key Missing"}}
        return json_reply({"error": inner}, 401)

    # --- answers ---

    def _markets(self, call: Call) -> Reply:
        currency = call.query.get("vs_currency")
        if not currency:
            return json_reply({"error": "Missing parameter vs_currency"}, 422)
        if currency != "usd":
            return json_reply({"error": "invalid vs_currency"}, 422)
        listed = self.coins.values()
        coins = sorted(named(call.query, listed), key=lambda coin: self.ranks.get(coin.id, len(listed)))
        per_page = min(250, int(call.query.get("per_page", "100")))
        first = (int(call.query.get("page", "1")) - 1) * per_page
        wanted = call.query.get("price_change_percentage", "").split(",")
        page = coins[first : first + per_page]
        return json_reply([market_row(coin, self.now_ms, wanted, self.ranks.get(coin.id)) for coin in page])

    def _coin(self, call: Call) -> Reply:
        _, _, coin_id, what = call.path.split("/", 3)
        coin = self.coins.get(coin_id)
        if coin is None or what != "ohlc":
            return json_reply({"error": "coin not found"}, 404)
        if not call.query.get("vs_currency"):
            return json_reply({"error": "Missing parameter vs_currency"}, 422)
        days = call.query.get("days")
        if days not in DAYS:
            return json_reply({"error": "Missing parameter days" if days is None else "invalid parameter days"}, 422)
        return json_reply(ohlc_rows(coin, self.now_ms, 400 if days == "max" else int(days)))

    def _global(self, call: Call) -> Reply:
        now = self.now_ms
        caps = {coin.symbol: coin.price_at(now) * coin.supply for coin in LARGE}
        total = sum(caps.values()) + sum(coin.price_at(now) * coin.supply for coin in SMALL)
        before = sum(coin.price_at(now - DAY_MS) * coin.supply for coin in LARGE + SMALL)
        data = {
            "active_cryptocurrencies": len(COINS),
            "upcoming_icos": 0,
            "ongoing_icos": 49,
            "ended_icos": 3376,
            "markets": 1297,
            "total_market_cap": {"btc": total / BY_ID["bitcoin"].price_at(now), "usd": total},
            "total_volume": {"btc": total / 30 / BY_ID["bitcoin"].price_at(now), "usd": total / 30},
            "market_cap_percentage": {symbol: cap / total * 100 for symbol, cap in list(caps.items())[:10]},
            "market_cap_change_percentage_24h_usd": (total / before - 1) * 100,
            "updated_at": now // 1000 - 120,
        }
        return json_reply({"data": data})

    def _trending(self, call: Call) -> Reply:
        now = self.now_ms
        coins = [LARGE[index % len(LARGE)] for index in range(now // HOUR_MS % 5, now // HOUR_MS % 5 + 7)]
        items = [
            {
                "id": coin.id,
                "coin_id": 1000 + place,
                "name": coin.name,
                "symbol": coin.symbol.upper(),
                "market_cap_rank": RANKS[coin.id],
                "slug": coin.id,
                "price_btc": coin.price_at(now) / BY_ID["bitcoin"].price_at(now),
                "score": place,
                "data": {
                    "price": coin.price_at(now),
                    "price_change_percentage_24h": {"btc": 0.1, "usd": coin.change_pct(now, DAY_MS)},
                    "market_cap": f"${coin.price_at(now) * coin.supply:,.0f}",
                },
            }
            for place, coin in enumerate(coins)
        ]
        return json_reply({"coins": [{"item": item} for item in items], "nfts": [], "categories": []})


def named(query: Mapping[str, str], coins: Iterable[ListedCoin] = COINS) -> list[ListedCoin]:
    """Return the coins of a query: by ids, else by symbols, else all. A symbol means its largest coin, or all."""
    if query.get("ids"):
        by_id = {coin.id: coin for coin in coins}
        return [by_id[each] for each in dict.fromkeys(query["ids"].split(",")) if each in by_id]
    if not query.get("symbols"):
        return list(coins)
    asked = set(query["symbols"].lower().split(","))
    found = [coin for coin in coins if coin.symbol in asked]
    if query.get("include_tokens") == "all":
        return found
    largest: dict[str, ListedCoin] = {}
    for coin in sorted(found, key=lambda coin: coin.price * coin.supply, reverse=True):
        largest.setdefault(coin.symbol, coin)
    return list(largest.values())


def market_row(coin: ListedCoin, now_ms: int, wanted: Iterable[str], rank: int | None) -> dict[str, object]:
    """Return a row of `/coins/markets`."""
    price = coin.price_at(now_ms)
    high, low = coin.extremes(now_ms - DAY_MS, now_ms)
    spans = {"1h": HOUR_MS, "24h": DAY_MS, "7d": 7 * DAY_MS}
    return {
        "id": coin.id,
        "symbol": coin.symbol,
        "name": coin.name,
        "image": f"https://coin-images.coingecko.com/coins/images/1/large/{coin.id}.png",
        "current_price": price,
        "market_cap": 0 if rank is None else round(price * coin.supply),
        "market_cap_rank": rank,
        "fully_diluted_valuation": None,
        "total_volume": round(coin.price * coin.supply / 30),
        "high_24h": high,
        "low_24h": low,
        "price_change_24h": price - coin.price_at(now_ms - DAY_MS),
        "price_change_percentage_24h": coin.change_pct(now_ms, DAY_MS),
        "circulating_supply": coin.supply,
        "total_supply": coin.supply,
        "max_supply": None,
        "roi": None,
        "last_updated": iso(now_ms - 20_000),
        **{
            f"price_change_percentage_{span}_in_currency": coin.change_pct(now_ms, spans[span])
            for span in wanted
            if span in spans
        },
    }


def ohlc_rows(coin: ListedCoin, now_ms: int, days: int) -> list[list[float]]:
    """Return candles stamped with their end; the window cuts the first one, and the last one still forms."""
    step = 30 * MINUTE_MS if days <= 2 else 4 * HOUR_MS if days <= 30 else 4 * DAY_MS
    since = now_ms - days * DAY_MS
    rows = []
    stamp = since - since % step + step
    while stamp < now_ms + step:
        opened, ended = max(stamp - step, since), min(stamp, now_ms)
        high, low = coin.extremes(opened, ended)
        rows.append([stamp, coin.price_at(opened), high, low, coin.price_at(ended)])
        stamp += step
    return rows


def iso(ms: int) -> str:
    """Format a time as CoinGecko does."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def json_reply(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """Return a JSON answer."""
    return Reply(orjson.dumps(body), status, {"Cache-Control": "public, max-age=30", **(headers or {})})


def coded_error(
    status: int, code: int, words: str, headers: Mapping[str, str] | None = None, *, stamped: bool = False
) -> Reply:
    """Return an error with one of CoinGecko's own codes."""
    when = {"timestamp": "2026-11-22T00:00:00.000+00:00"} if stamped else {}
    return json_reply({"status": {**when, "error_code": code, "error_message": words}}, status, headers)

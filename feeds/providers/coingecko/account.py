"""The questions of one account of CoinGecko: what to ask, and when an answer counts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import quote

from feeds.derive import asked_for, derive, regular
from feeds.fields import (
    BadFieldError,
    Rows,
    mapping,
    maybe_mapping,
    maybe_number,
    maybe_positive,
    maybe_stamp,
    maybe_whole,
    positive,
    some_rows,
)
from feeds.intervals import DAY_MS, HOUR_MS, MINUTE_MS, STEP_MS
from feeds.model import Candle, Coin, GlobalMarket, Quote, Trending
from feeds.providers.coingecko.refusals import NAME, NAME_PRO, error_in
from feeds.providers.coingecko.rows import CLOCKS_DIFFER_MS, read_candle, read_coin, read_shares, read_trending, seconds
from feeds.queries import CandleQuery, MarketQuery
from orchestrator.errors import (
    BadQuery,
    Malformed,
    NotFound,
    Outdated,
)
from orchestrator.http import HttpRequest, HttpResponse, json_body
from orchestrator.provider import Steps

T = TypeVar("T")
MAX_PAGE = 250
MAX_SYMBOLS = 50
"""Names in one `symbols=` lookup."""
GRAINS = {"30m": "30m", "1h": "30m", "2h": "30m", "4h": "4h", "8h": "4h", "12h": "4h", "1d": "4h"}
"""The intervals that are served, and the finer one that each is made of."""
PRICES_OUTDATED_MS = 10 * MINUTE_MS
GLOBAL_OUTDATED_MS = 30 * MINUTE_MS
"""They are renewed every ten minutes."""
OHLC_CACHED_MS = 15 * MINUTE_MS
"""Maximum age of an answer of `/ohlc`, whatever its date says."""
LIVELY_RANK = 1000
"""The price of a coin up to this rank moves every minute; beyond, an old one may well be the last there is."""
IDS = {
    "BTC": "bitcoin",
    "ETH": "ethereum",
    "USDT": "tether",
    "BNB": "binancecoin",
    "XRP": "ripple",
    "SOL": "solana",
    "USDC": "usd-coin",
    "DOGE": "dogecoin",
    "ADA": "cardano",
    "TRX": "tron",
    "AVAX": "avalanche-2",
    "LINK": "chainlink",
    "DOT": "polkadot",
    "LTC": "litecoin",
    "BCH": "bitcoin-cash",
    "XLM": "stellar",
    "XMR": "monero",
    "UNI": "uniswap",
    "ATOM": "cosmos",
    "TON": "the-open-network",
    "SHIB": "shiba-inu",
    "ETC": "ethereum-classic",
    "HBAR": "hedera-hashgraph",
    "NEAR": "near",
    "APT": "aptos",
    "SUI": "sui",
    "FIL": "filecoin",
    "ICP": "internet-computer",
    "AAVE": "aave",
    "ALGO": "algorand",
    "POL": "polygon-ecosystem-token",
    "PEPE": "pepe",
}
"""Coins whose id need not be looked up: large ones that nothing of the same ticker will overtake."""


def serves(query: CandleQuery) -> bool:
    """Whether there are candles of that interval, given or made of finer ones."""
    return query.interval in GRAINS


@dataclass(frozen=True, slots=True)
class CoinGecko:
    """The questions of one account: `coingecko_pro` with a Pro key, `coingecko` with a Demo key or none."""

    name: str = NAME
    key: str = field(default="", repr=False)

    # --- questions ---

    def markets(self, query: MarketQuery) -> Steps[Rows[Coin]]:
        """Ask for coins with their statistics, by market cap. `/coins/markets`.

        Money in US dollars, changes in percent. A market cap or supply of 0 is unknown. Of several coins with a ticker
        that was asked for, the one of the highest market cap. Raises: NotFound if there is none.
        """
        found: Rows[Coin] = Rows()
        if query.symbols:
            found = yield from self._coins_of(query.symbols)
            del found.good[query.limit :]
            return found
        for page in range(1, -(-query.limit // MAX_PAGE) + 1):
            per_page = min(query.limit, MAX_PAGE)
            response = yield self._markets({"per_page": str(per_page), "page": str(page)})
            read, listed = self._read_coins(response)
            found.good += read.good
            found.rejected += read.rejected
            if listed < per_page:
                break
        if not found.good:
            raise Malformed(self.name, "no coin in the market table")
        # A coin that falls in rank between two pages is on both.
        found.good = list({coin.id: coin for coin in found.good}.values())[: query.limit]
        return found

    def candidates(self, symbol: str) -> Steps[list[Coin]]:
        """Ask for every coin a ticker names, the highest market cap first; none if nothing goes by it."""
        response = yield self._markets(
            {"symbols": symbol.lower(), "include_tokens": "all", "per_page": str(MAX_PAGE), "page": "1"}
        )
        read, _ = self._read_coins(response)
        return [coin for coin in _by_market_cap(read.good) if coin.symbol == symbol.upper()]

    def all_quotes(self) -> Steps[Rows[Quote]]:
        """Ask for prices in US dollars of the 250 largest coins, each with its id; several may have one ticker."""
        response = yield self._markets({"per_page": str(MAX_PAGE), "page": "1"})
        read, _ = self._read_coins(response)
        return Rows([coin.as_quote() for coin in _by_market_cap(read.good)], read.rejected)

    def ohlc(self, query: CandleQuery, coin_id: str | None = None) -> Steps[Rows[Candle]]:
        """Ask for closed candles against the US dollar, without volume; `symbol` is the base and `USD`.

        `/coins/{id}/ohlc`.

        Given are 30m (a day back) and 4h (30 days); longer ones are made of whole runs of those and say so. A candle
        that may still have been forming, or begun before the answer's window, is left out. They are of `coin_id`;
        without one, of the largest coin that has the base for its ticker.

        Raises: BadQuery for another interval, NotFound for an unknown ticker or where no candle fits the query.
        """
        grain = GRAINS.get(query.interval)
        if grain is None:
            raise BadQuery(self.name, f"no candles of interval {query.interval!r}")
        base = query.base.upper()
        coin_id = coin_id or IDS.get(base)
        if coin_id is None:
            coins = yield from self.candidates(base)
            if not coins:
                raise NotFound(self.name, f"no coin goes by {base!r}")
            coin_id = coins[0].id or ""
        days = 1 if grain == "30m" else _days(query)
        response = yield self._get(f"/coins/{quote(coin_id, safe='')}/ohlc", {"vs_currency": "usd", "days": str(days)})
        read = self._read_ohlc(response, f"{base}USD", grain, days)
        candles = read.good if query.interval == grain else derive(read.good, grain, query.interval)
        wanted = asked_for(candles, query)
        if not wanted:
            raise NotFound(self.name, f"no {query.interval} candle of {base} in the time asked for")
        return Rows(wanted, read.rejected)

    def global_market(self) -> Steps[GlobalMarket]:
        """Ask for the whole market. `/global`, renewed every 10 minutes; `ts` is its own stamp."""
        response = yield self._get("/global", {})
        body = self._object(response).get("data")
        try:
            return self._read_global(mapping(body, "data"), response)
        except BadFieldError as error:
            raise Malformed(self.name, f"/global with a {error}") from None

    def trending(self) -> Steps[Rows[Trending]]:
        """Ask for the coins most searched for, the first one first. `/search/trending`. Prices in US dollars."""
        response = yield self._get("/search/trending", {})
        coins = self._object(response).get("coins")
        if not isinstance(coins, list):
            raise Malformed(self.name, "trending without a list of coins")
        return some_rows(self.name, coins, read_trending)

    def _get(self, path: str, params: Mapping[str, str]) -> HttpRequest:
        header = "x-cg-pro-api-key" if self.name == NAME_PRO else "x-cg-demo-api-key"
        return HttpRequest(path, params, headers={header: self.key} if self.key else {})

    def _markets(self, params: Mapping[str, str]) -> HttpRequest:
        fixed = {"vs_currency": "usd", "order": "market_cap_desc", "price_change_percentage": "1h,24h,7d"}
        return self._get("/coins/markets", {**fixed, **params})

    def _coins_of(self, symbols: Sequence[str]) -> Steps[Rows[Coin]]:
        by_id = all(symbol.upper() in IDS for symbol in symbols)
        at_once = MAX_PAGE if by_id else MAX_SYMBOLS
        found: Rows[Coin] = Rows()
        for first in range(0, len(symbols), at_once):
            some = symbols[first : first + at_once]
            named = {"ids": ",".join(IDS[each.upper()] for each in some)} if by_id else {}
            named = named or {"symbols": ",".join(each.lower() for each in some)}
            response = yield self._markets({**named, "per_page": str(MAX_PAGE), "page": "1"})
            read, _ = self._read_coins(response)
            found.good += read.good
            found.rejected += read.rejected
        found.good = _one_each(found.good, symbols)
        if not found.good:
            raise NotFound(self.name, f"no coin goes by {', '.join(symbols)[:100]}")
        return found

    # --- answers ---

    def _read_coins(self, response: HttpResponse) -> tuple[Rows[Coin], int]:
        """Return the coins of a page, and how many it lists."""
        body = self._list(response)
        answered = _answered_ms(response)
        read = some_rows(self.name, body, lambda row: read_coin(mapping(row), answered))
        lively = [coin.ts for coin in read.good if coin.rank is not None and coin.rank <= LIVELY_RANK]
        self._be_fresh(lively, answered, PRICES_OUTDATED_MS)
        return read, len(body)

    def _read_ohlc(self, response: HttpResponse, symbol: str, grain: str, days: int) -> Rows[Candle]:
        """Return the candles that are certainly whole."""
        body = self._list(response)
        read = some_rows(self.name, body, lambda row: read_candle(row, symbol, grain))
        by_open = {candle.open_time: candle for candle in read.good}
        candles = [by_open[open_time] for open_time in sorted(by_open)]
        if len(candles) < 2:
            raise NotFound(self.name, f"no candles of {symbol}")
        if not regular([candle.open_time for candle in candles], grain):
            raise Malformed(self.name, f"candles are not spaced by {grain}")
        answered = _answered_ms(response)
        newest = candles[-1]
        self._be_fresh([newest.close_time], answered, STEP_MS[grain] + HOUR_MS)
        # What is last may have been forming when the answer was made, which its date does not show.
        made_ms = answered - OHLC_CACHED_MS - _age_ms(response)
        whole = [
            candle
            for candle in candles
            if candle.open_time >= answered - days * DAY_MS and (candle is not newest or candle.close_time < made_ms)
        ]
        return Rows(whole, read.rejected)

    def _read_global(self, data: Mapping[str, object], response: HttpResponse) -> GlobalMarket:
        answered = _answered_ms(response)
        updated = maybe_stamp(data, "updated_at", answered + CLOCKS_DIFFER_MS, seconds)
        ts = answered if updated is None else updated
        self._be_fresh([ts], answered, GLOBAL_OUTDATED_MS)
        shares = read_shares(maybe_mapping(data, "market_cap_percentage"))
        volumes = maybe_mapping(data, "total_volume")
        return GlobalMarket(
            total_market_cap=positive(mapping(data.get("total_market_cap"), "total_market_cap"), "usd"),
            total_volume_24h=maybe_positive(volumes, "usd"),
            market_cap_change_24h_pct=maybe_number(data, "market_cap_change_percentage_24h_usd"),
            btc_dominance_pct=shares.get("BTC"),
            eth_dominance_pct=shares.get("ETH"),
            dominance_pct=shares,
            active_cryptocurrencies=maybe_whole(data, "active_cryptocurrencies"),
            markets=maybe_whole(data, "markets"),
            ts=ts,
        )

    def _list(self, response: HttpResponse) -> list[object]:
        body = json_body(self.name, response)
        if isinstance(body, dict):
            raise error_in(self.name, body, response) or Malformed(self.name, "an object instead of a list")
        if not isinstance(body, list):
            raise Malformed(self.name, "the answer is not a list")
        return body

    def _object(self, response: HttpResponse) -> dict[str, object]:
        body = json_body(self.name, response)
        if not isinstance(body, dict):
            raise Malformed(self.name, "the answer is not an object")
        error = error_in(self.name, body, response)
        if error is not None:
            raise error
        return body

    def _be_fresh(self, stamps: Iterable[int], answered_ms: int, limit_ms: int) -> None:
        newest = max(stamps, default=None)
        if newest is not None and newest < answered_ms - limit_ms:
            raise Outdated(self.name, f"the newest value is {(answered_ms - newest) / 60_000:.0f} min old")


def _by_market_cap(coins: Iterable[Coin]) -> list[Coin]:
    return sorted(coins, key=lambda coin: coin.market_cap or 0.0, reverse=True)


def _one_each(coins: Iterable[Coin], symbols: Iterable[str]) -> list[Coin]:
    """Return one coin for each ticker that was asked for: that of the highest market cap, the largest first."""
    asked = {symbol.upper() for symbol in symbols}
    best: dict[str, Coin] = {}
    for coin in _by_market_cap(coins):
        if coin.symbol in asked or not asked:
            best.setdefault(coin.symbol, coin)
    return list(best.values())


def _days(query: CandleQuery) -> int:
    """Return how many days of 4 h candles to ask for; with a time of its own a query may want any."""
    if query.start is not None or query.end is not None:
        return 30
    needed_ms = (query.limit + 1) * STEP_MS[query.interval] + STEP_MS["4h"]
    return next((days for days in (7, 14) if needed_ms <= days * DAY_MS), 30)


def _answered_ms(response: HttpResponse) -> int:
    """Return when it was answered by the sender's clock, where that is known: ours may be wrong."""
    return response.date_ms or response.received_ms


def _age_ms(response: HttpResponse) -> int:
    age = response.headers.get("age", "")
    return int(age[:9]) * 1000 if age.isascii() and age.isdigit() else 0

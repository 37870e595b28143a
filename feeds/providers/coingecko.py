"""CoinGecko: what to ask, and how to read the answers. Pure.

Its coins are named by slugs (`binancecoin`); a ticker may name several of them and then means the one of the highest
market cap. Its candles are stamped by their end, know no volume and come in two grains, 30 minutes and 4 hours.

Source: CoinGecko API v3, Demo and Pro references, and answers recorded in 2021 and 2024.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import quote

from feeds.derive import asked_for, derive, regular
from feeds.fields import (
    BadFieldError,
    Rows,
    mapping,
    maybe_amount,
    maybe_mapping,
    maybe_number,
    maybe_positive,
    maybe_stamp,
    maybe_text,
    maybe_whole,
    positive,
    some_rows,
    text,
)
from feeds.intervals import DAY_MS, HOUR_MS, MINUTE_MS, STEP_MS
from feeds.model import Candle, Coin, GlobalMarket, Quote, Trending
from feeds.queries import CandleQuery, MarketQuery
from orchestrator import http
from orchestrator.errors import (
    BadQuery,
    Banned,
    Blocked,
    Malformed,
    NotFound,
    Outdated,
    ProviderError,
    RateLimited,
    Unauthorized,
    Unavailable,
)
from orchestrator.http import HttpRequest, HttpResponse, begins, json_body, maybe_json
from orchestrator.provider import Steps
from orchestrator.retry import retry_after_s
from orchestrator.texts import one_line

T = TypeVar("T")

NAME = "coingecko"
NAME_PRO = "coingecko_pro"

MAX_PAGE = 250
MAX_SHARES = 100
"""Coins whose part of the market is told; there are ten."""
MAX_SYMBOL = 40
MAX_SYMBOLS = 50
"""Names in one `symbols=` lookup."""

GRAINS = {"30m": "30m", "1h": "30m", "2h": "30m", "4h": "4h", "8h": "4h", "12h": "4h", "1d": "4h"}
"""The candles we give, and the finer ones each is made of."""

PRICES_OUTDATED_MS = 10 * MINUTE_MS
GLOBAL_OUTDATED_MS = 30 * MINUTE_MS
"""They are renewed every ten minutes."""
OHLC_CACHED_MS = 15 * MINUTE_MS
"""So old may an answer of `/ohlc` be although it comes with today's date."""
CLOCKS_DIFFER_MS = DAY_MS
"""A stamp further ahead than this is nonsense."""
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
        """Coins with their statistics, by market cap. `/coins/markets`.

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
        """Every coin a ticker names, the highest market cap first; none if nothing goes by it."""
        response = yield self._markets(
            {"symbols": symbol.lower(), "include_tokens": "all", "per_page": str(MAX_PAGE), "page": "1"}
        )
        read, _ = self._read_coins(response)
        return [coin for coin in _by_market_cap(read.good) if coin.symbol == symbol.upper()]

    def all_quotes(self) -> Steps[Rows[Quote]]:
        """Prices in US dollars of the 250 largest coins, each with its id; several may have one ticker."""
        response = yield self._markets({"per_page": str(MAX_PAGE), "page": "1"})
        read, _ = self._read_coins(response)
        return Rows([coin.as_quote() for coin in _by_market_cap(read.good)], read.rejected)

    def ohlc(self, query: CandleQuery, coin_id: str | None = None) -> Steps[Rows[Candle]]:
        """Closed candles against the US dollar, without volume; `symbol` is the base and `USD`. `/coins/{id}/ohlc`.

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
        """The whole market. `/global`, renewed every 10 minutes; `ts` is its own stamp."""
        response = yield self._get("/global", {})
        body = self._object(response).get("data")
        try:
            return self._read_global(mapping(body, "data"), response)
        except BadFieldError as error:
            raise Malformed(self.name, f"/global with a {error}") from None

    def trending(self) -> Steps[Rows[Trending]]:
        """The coins most searched for, the first one first. `/search/trending`. Prices in US dollars."""
        response = yield self._get("/search/trending", {})
        coins = self._object(response).get("coins")
        if not isinstance(coins, list):
            raise Malformed(self.name, "trending without a list of coins")
        return some_rows(self.name, coins, _trending)

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
        """The coins of a page, and how many it lists."""
        body = self._list(response)
        answered = _answered_ms(response)
        read = some_rows(self.name, body, lambda row: _coin(mapping(row), answered))
        lively = [coin.ts for coin in read.good if coin.rank is not None and coin.rank <= LIVELY_RANK]
        self._be_fresh(lively, answered, PRICES_OUTDATED_MS)
        return read, len(body)

    def _read_ohlc(self, response: HttpResponse, symbol: str, grain: str, days: int) -> Rows[Candle]:
        """The candles that are certainly whole."""
        body = self._list(response)
        read = some_rows(self.name, body, lambda row: _ohlc_row(row, symbol, grain))
        by_open = {candle.open_time: candle for candle in read.good}
        candles = [by_open[open_time] for open_time in sorted(by_open)]
        if len(candles) < 2:
            raise NotFound(self.name, f"no candles of {symbol}")
        if not regular([candle.open_time for candle in candles], grain):
            raise Malformed(self.name, f"candles are not spaced by {grain}")
        answered = _answered_ms(response)
        newest = candles[-1]
        self._be_fresh([newest.close_time], answered, STEP_MS[grain] + HOUR_MS)
        # What is last may have been forming when the answer was made, which its date does not tell.
        made_ms = answered - OHLC_CACHED_MS - _age_ms(response)
        whole = [
            candle
            for candle in candles
            if candle.open_time >= answered - days * DAY_MS and (candle is not newest or candle.close_time < made_ms)
        ]
        return Rows(whole, read.rejected)

    def _read_global(self, data: Mapping[str, object], response: HttpResponse) -> GlobalMarket:
        answered = _answered_ms(response)
        updated = maybe_stamp(data, "updated_at", answered + CLOCKS_DIFFER_MS, _seconds)
        ts = answered if updated is None else updated
        self._be_fresh([ts], answered, GLOBAL_OUTDATED_MS)
        shares = _shares(maybe_mapping(data, "market_cap_percentage"))
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
            raise _said(self.name, body, response) or Malformed(self.name, "an object instead of a list")
        if not isinstance(body, list):
            raise Malformed(self.name, "no list")
        return body

    def _object(self, response: HttpResponse) -> dict[str, object]:
        body = json_body(self.name, response)
        if not isinstance(body, dict):
            raise Malformed(self.name, "no object")
        error = _said(self.name, body, response)
        if error is not None:
            raise error
        return body

    def _be_fresh(self, stamps: Iterable[int], answered_ms: int, limit_ms: int) -> None:
        newest = max(stamps, default=None)
        if newest is not None and newest < answered_ms - limit_ms:
            raise Outdated(self.name, f"the newest value is {(answered_ms - newest) / 60_000:.0f} min old")


def _coin(row: Mapping[str, object], answered_ms: int) -> Coin:
    updated = maybe_stamp(row, "last_updated", answered_ms + CLOCKS_DIFFER_MS)
    day = maybe_number(row, "price_change_percentage_24h_in_currency")
    return Coin(
        symbol=text(row, "symbol").strip().upper(),
        id=text(row, "id"),
        name=maybe_text(row, "name"),
        rank=maybe_whole(row, "market_cap_rank"),
        price=positive(row, "current_price"),
        change_1h_pct=maybe_number(row, "price_change_percentage_1h_in_currency"),
        change_24h_pct=maybe_number(row, "price_change_percentage_24h") if day is None else day,
        change_7d_pct=maybe_number(row, "price_change_percentage_7d_in_currency"),
        high_24h=maybe_positive(row, "high_24h"),
        low_24h=maybe_positive(row, "low_24h"),
        volume_24h=maybe_amount(row, "total_volume"),
        market_cap=maybe_amount(row, "market_cap") or None,
        circulating_supply=maybe_amount(row, "circulating_supply") or None,
        currency="usd",
        ts=answered_ms if updated is None else updated,
    )


def _shares(said: Mapping[str, object]) -> dict[str, float]:
    """Percent of the market by upper-case symbol, of the first MAX_SHARES that make sense."""
    shares: dict[str, float] = {}
    for symbol in list(said)[:MAX_SHARES]:
        shown = one_line(symbol, MAX_SYMBOL).upper()
        share = maybe_amount({"market_cap_percentage": said[symbol]}, "market_cap_percentage")
        if shown and share is not None and share <= 100:
            shares[shown] = share
    return shares


def _ohlc_row(row: object, symbol: str, grain: str) -> Candle:
    if not isinstance(row, list) or len(row) < 5:
        raise BadFieldError("row")
    fields = dict(zip(("stamp", "open", "high", "low", "close"), row, strict=False))
    stamp = fields["stamp"]
    if not isinstance(stamp, int) or isinstance(stamp, bool) or not 10**12 <= stamp < 10**14:
        raise BadFieldError("stamp")
    if stamp % STEP_MS[grain]:
        raise BadFieldError("stamp")  # the last point may be stamped with the moment instead of its candle's end
    first, high, low, last = (positive(fields, name) for name in ("open", "high", "low", "close"))
    if low > min(first, last):
        raise BadFieldError("low")
    if high < max(first, last):
        raise BadFieldError("high")
    return Candle(
        symbol=symbol,
        interval=grain,
        open_time=stamp - STEP_MS[grain],
        close_time=stamp - 1,
        open=first,
        high=high,
        low=low,
        close=last,
        volume=None,
        quote_volume=None,
        trades=None,
        closed=True,
        ts=stamp - 1,
    )


def _trending(row: object) -> Trending:
    item = mapping(mapping(row).get("item"), "item")
    data = maybe_mapping(item, "data")  # only newer answers have it
    return Trending(
        symbol=text(item, "symbol").strip().upper(),
        id=text(item, "id"),
        name=maybe_text(item, "name") or text(item, "symbol"),
        rank=maybe_whole(item, "market_cap_rank"),
        price=_spelled_price(data),
        change_24h_pct=maybe_number(maybe_mapping(data, "price_change_percentage_24h"), "usd"),
    )


def _spelled_price(data: Mapping[str, object]) -> float | None:
    """A number, or text such as `$1,234.5`; None for what is spelled for eyes only (`$0.0₅9`)."""
    price = data.get("price")
    if not isinstance(price, str):
        return maybe_positive(data, "price")
    return maybe_positive({"price": price.strip().removeprefix("$").replace(",", "")}, "price")


def _by_market_cap(coins: Iterable[Coin]) -> list[Coin]:
    return sorted(coins, key=lambda coin: coin.market_cap or 0.0, reverse=True)


def _one_each(coins: Iterable[Coin], symbols: Iterable[str]) -> list[Coin]:
    """For each ticker asked for (without any: for all) the coin of the highest market cap, the largest first."""
    asked = {symbol.upper() for symbol in symbols}
    best: dict[str, Coin] = {}
    for coin in _by_market_cap(coins):
        if coin.symbol in asked or not asked:
            best.setdefault(coin.symbol, coin)
    return list(best.values())


def _days(query: CandleQuery) -> int:
    """How many days of 4 h candles to ask for; with a time of its own a query may want any."""
    if query.start is not None or query.end is not None:
        return 30
    needed_ms = (query.limit + 1) * STEP_MS[query.interval] + STEP_MS["4h"]
    return next((days for days in (7, 14) if needed_ms <= days * DAY_MS), 30)


def _answered_ms(response: HttpResponse) -> int:
    """When it was answered by the sender's clock, where that is known: ours may be wrong."""
    return response.date_ms or response.received_ms


def _age_ms(response: HttpResponse) -> int:
    age = response.headers.get("age", "")
    return int(age[:9]) * 1000 if age.isascii() and age.isdigit() else 0


def _seconds(row: Mapping[str, object], name: str) -> int:
    """Unix seconds as milliseconds."""
    return int(positive(row, name) * 1000)


# --- refusals ---

KEY_CODES = {10002, 10005, 10010, 10011}
"""The key is missing or wrong, its plan has not this endpoint, or it belongs to the other host."""

_CDN_CODE = re.compile(rb"error code: (1\d{3})")
_SECRET = re.compile(r"CG-\w+|\?\S*")


def refusal(provider: str, response: HttpResponse) -> ProviderError | None:
    """The error of an answer, sharpened by what CoinGecko or its CDN says in the body."""
    error = http.refusal(provider, response)
    first = begins(response)
    if error is None and first != b"{":
        # Portals and proxies say 200 too.
        return None if first == b"[" else Malformed(provider, "HTML instead of JSON" if first == b"<" else "no JSON")
    if error is not None:
        blocked = _CDN_CODE.search(response.body[:2000])
        if blocked is not None:
            # 1015 is the CDN's own rate limit.
            return _limited(provider, response) if blocked[1] == b"1015" else Blocked(provider, "blocked by its CDN")
    body = maybe_json(response, most_bytes=4096)  # errors are short; a long object is an answer
    said = _said(provider, body, response) if isinstance(body, dict) else None
    if isinstance(error, (Banned, RateLimited)) or said is None:
        if isinstance(error, NotFound):
            return Malformed(provider, "status 404 of something else")
        return Unavailable(provider, "status 408") if response.status == 408 else error
    return said


def _limited(provider: str, response: HttpResponse) -> RateLimited:
    after, date = response.headers.get("retry-after"), response.headers.get("date")
    return RateLimited(provider, retry_after_s(after, date, response.received_ms))


def _said(provider: str, body: Mapping[str, object], response: HttpResponse) -> ProviderError | None:
    """The error that a body tells: `{"status": {…}}`, `{"error": {"status": {…}}}` or `{"error": text}`."""
    error = body.get("error")
    told = error.get("status") if isinstance(error, dict) else body.get("status")
    code = told.get("error_code") if isinstance(told, dict) else told
    if isinstance(code, int) and code:
        return _of_code(provider, code, told, response)
    if isinstance(error, str):
        return _of_status(provider, response.status, error, response)
    return None


def _of_code(provider: str, code: int, told: object, response: HttpResponse) -> ProviderError:
    words = told.get("error_message") if isinstance(told, dict) else ""
    if code in KEY_CODES:
        return Unauthorized(provider, f"error {code}")
    if code == 1020:
        return Blocked(provider, "blocked by its CDN")
    return _of_status(provider, code, words if isinstance(words, str) else "", response)


def _of_status(provider: str, status: int, words: str, response: HttpResponse) -> ProviderError:
    """What a status means that is told in a body, or goes with a text in it."""
    shown = _SECRET.sub("…", words)[:120]
    if status == 429:
        return _limited(provider, response)
    if status == 401:
        return Unauthorized(provider, "status 401")
    if status in (403, 451):
        return Blocked(provider, f"blocked with status {status}")
    if status == 404 or "not found" in words.lower():
        return NotFound(provider, shown)
    if status in (400, 422) or "parameter" in words.lower():
        return BadQuery(provider, shown)
    return Unavailable(provider, shown or f"error {status}")

"""Prices, the market table and trending coins. A number of 0 is unknown; a stamp is never later than its answer."""

from collections.abc import Iterable, Mapping, Sequence

from feeds.fields import (
    Rows,
    mapping,
    maybe_amount,
    maybe_number,
    maybe_text,
    maybe_whole,
    positive,
    text,
)
from feeds.model import Coin, Quote, Trending
from feeds.providers.crypto_dt_source.answers import NAME, OUTDATED_MS, answered_ms, first_rows, get, rows_in
from feeds.queries import MarketQuery
from orchestrator.errors import (
    Malformed,
    NotFound,
    Outdated,
)
from orchestrator.http import HttpResponse
from orchestrator.provider import Steps

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
"""The coins that it knows by ticker. It takes any other ticker for an id, which may be that of another coin."""
MAX_COINS = 250


def quotes(symbols: Sequence[str]) -> Steps[Rows[Quote]]:
    """Ask for prices in US dollars of tickers, without any those of the 250 largest coins.

    Tickers it might mistake are looked for among the 250 largest, which it names rightly. Changes in percent; a
    change, volume or market cap of 0 is unknown. Raises: NotFound if none of them is there, Malformed if it answers
    of other coins only, Outdated if its own stamps are old.
    """
    asked = tuple(dict.fromkeys(symbol.upper() for symbol in symbols))
    if asked and all(symbol in IDS for symbol in asked):
        params = {"symbols": ",".join(asked), "ids": ",".join(IDS[each] for each in asked)}
    else:
        params = {"limit": str(MAX_COINS), "per_page": str(MAX_COINS)}
    response = yield get("/api/v1/coingecko/price", params | {"vs_currencies": "usd", "vs_currency": "usd"})
    read = _read_coins(response, by_symbol="symbols" in params)
    found = _of_symbols(read.good, asked)
    if read.good and not found and "symbols" in params:
        raise Malformed(NAME, "prices of other coins than asked for")
    if not found:
        raise NotFound(NAME, f"no price of {', '.join(asked)[:100] or 'any ticker'}")
    return Rows([coin.as_quote() for coin in found], read.rejected)


def all_quotes() -> Steps[Rows[Quote]]:
    """Ask for prices in US dollars of the 250 largest coins, each with CoinGecko's id; several may have one ticker."""
    read = yield from markets(MarketQuery(MAX_COINS))
    return Rows([coin.as_quote() for coin in read.good], read.rejected)


def markets(query: MarketQuery) -> Steps[Rows[Coin]]:
    """Ask for the largest coins, or those of the query's tickers among the 250 largest.

    Money in US dollars, 0 is unknown.

    Raises: NotFound if no ticker asked for is among them, Outdated if its own stamps are old.
    """
    limit = str(MAX_COINS if query.symbols else min(query.limit, MAX_COINS))
    params = {"limit": limit, "per_page": limit, "vs_currencies": "usd", "vs_currency": "usd"}
    response = yield get("/api/v1/coingecko/price", params)
    read = _read_coins(response, by_symbol=False)
    found = _of_symbols(read.good, query.symbols) if query.symbols else read.good
    if not found:
        raise NotFound(NAME, f"no coin of {', '.join(query.symbols)[:100] or 'any ticker'}")
    return Rows(found[: query.limit], read.rejected)


def trending(limit: int = 10) -> Steps[Rows[Trending]]:
    """Ask for the coins most searched for. It does not send their ids; the ticker in lower case is taken instead."""
    response = yield get("/api/v1/coingecko/trending", {"limit": str(limit)})
    return first_rows(rows_in(response), _trending, limit)


def _read_coins(response: HttpResponse, by_symbol: bool) -> Rows[Coin]:
    return first_rows(rows_in(response), lambda row: _coin(mapping(row), response, by_symbol), MAX_COINS)


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
    """Return one coin for each ticker that was asked for: that of the highest market cap, in the answer's order."""
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
    """Return the server's stamp, never later than the answer.

    Raises Outdated if it is old: the answer was kept somewhere.
    """
    answered = answered_ms(response)
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

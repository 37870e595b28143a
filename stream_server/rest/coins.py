"""Which coins a client's spellings mean: those of the exchange, and beyond it those of the market table."""

import re
from collections.abc import Sequence

from feeds.catalog import TABLE
from feeds.model import Coin
from feeds.symbols import UnknownSymbolError
from stream_server.context import Context
from stream_server.refusals import Refusal
from stream_server.rest.answers import SHOWN_CHARS
from stream_server.rest.asking import Asking

MAX_STRICT = 10
_TICKER = re.compile(r"[A-Z0-9]{1,20}")


def base_of(context: Context, name: str) -> str:
    """The base asset that a spelling means. Raises UnknownSymbolError."""
    try:
        return context.symbols.base_of(name)
    except UnknownSymbolError:
        coin = in_table(context, name)
        if coin is None:
            raise
        return coin.symbol


def bases(context: Context, names: Sequence[str]) -> list[str]:
    """The base assets that spellings mean, each once. Raises a 404 that names all that are unknown."""
    found: dict[str, None] = {}
    unknown: dict[str, object] = {}
    for name in names:
        try:
            found[base_of(context, name)] = None
        except UnknownSymbolError as error:
            unknown[name[:SHOWN_CHARS]] = str(error)
    if unknown:
        raise unknown_symbols(unknown)
    return list(found)


def unknown_symbols(unknown: dict[str, object]) -> Refusal:
    """The 404 for names that mean no coin."""
    message = "; ".join(str(problem) for problem in unknown.values())
    return Refusal("unknown_symbol", message, status=404, details=unknown)


def in_table(context: Context, name: str) -> Coin | None:
    """The largest coin of the market table, as far as it is held, that has this ticker or id."""
    held = context.sources.market.peek(TABLE) if context.sources is not None else None
    if held is None:
        return None
    ticker, coin_id = name.strip().upper(), name.strip().lower()
    by_ticker = next((coin for coin in held.value.good if coin.symbol == ticker), None)
    return by_ticker or next((coin for coin in held.value.good if coin.id == coin_id), None)


def ticker_of(context: Context, name: str) -> str:
    """The ticker to ask for: what the spelling means, else itself if it could be one. Raises UnknownSymbolError."""
    try:
        return base_of(context, name)
    except UnknownSymbolError:
        ticker = name.strip().upper()
        if not _TICKER.fullmatch(ticker):
            raise
        return ticker


async def refuse_ambiguous(asking: Asking, names: Sequence[str], max_age_ms: float | None) -> None:
    """For `strict=1`: raise a 409 with the candidates of every ticker that names several coins.

    A pair (`BTC-USDT`) or a coin's own name (`bitcoin`) is no ticker, and cannot be mistaken.
    """
    context = asking.context
    sources = asking.sources
    tickers = [each.strip().upper() for each in names if _TICKER.fullmatch(each.strip().upper())]
    tickers = [each for each in dict.fromkeys(tickers) if ticker_of(context, each) == each]
    if len(tickers) > MAX_STRICT:
        message = f"symbols has {len(tickers)} tickers; with strict=1 {MAX_STRICT} are allowed"
        raise Refusal("bad_parameter", message, details={"symbols": message})
    candidates: dict[str, list[dict[str, object]]] = {}
    for ticker in tickers:
        fetched = await asking.fetch(sources.candidates, ticker, max_age_ms)
        if len(fetched.value) > 1:
            candidates[ticker] = [_candidate(coin) for coin in fetched.value]
    if candidates:
        message = "; ".join(f"{len(coins)} coins go by {ticker}" for ticker, coins in candidates.items())
        details: dict[str, object] = {"candidates": candidates}
        raise Refusal("ambiguous", f"{message}; without strict the largest is meant", 409, details)


def _candidate(coin: Coin) -> dict[str, object]:
    return {
        "id": coin.id,
        "symbol": coin.symbol,
        "name": coin.name,
        "rank": coin.rank,
        "market_cap": coin.market_cap,
        "price": coin.price,
    }

"""Find the coins that a client's spellings mean: those of the exchange, and beyond it those of the market table.

A ticker that the exchange lists means the exchange's coin. A coin elsewhere with the same ticker is a different coin,
unless it is known to be the same (`feeds.identity`).
"""

import re
from collections.abc import Sequence

from feeds.identity import Identities
from feeds.model import Coin
from feeds.queries import TABLE
from feeds.symbols import UnknownSymbolError
from stream_server.access.parameter_kinds import Flag, Names
from stream_server.access.parameters import SHOWN_CHARS
from stream_server.context import Context
from stream_server.rest.source_queries import Asking
from stream_server.wire.refusals import Refusal

STRICT = Flag(
    "strict", "With 1, a ticker shared by several coins is refused with 409; otherwise it means the largest of them"
)
MAX_STRICT = 10
"""The most tickers that `strict` checks, because each is a question to the sources."""
_TICKER = re.compile(r"[A-Z0-9]{1,20}")


def coin_names(most: int) -> Names:
    """Return the parameter `symbols` for at most this many coins."""
    return Names("symbols", "Coins, separated by commas or in several parameters", most=most, example=["BTC", "ETH"])


def base_of(context: Context, name: str) -> str:
    """Return the base asset that a spelling means. Raises UnknownSymbolError."""
    try:
        return context.symbols.base_of(name)
    except UnknownSymbolError:
        base = _base_in_table(context, name)
        if base is None:
            raise
        return base


def bases(context: Context, names: Sequence[str]) -> list[str]:
    """Return the base assets that spellings mean, each once. Raises Refusal 404 with all unknown ones."""
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
    """Return the refusal of names that mean no coin."""
    message = "; ".join(str(problem) for problem in unknown.values())
    return Refusal("unknown_symbol", message, status=404, details=unknown)


def _base_in_table(context: Context, name: str) -> str | None:
    """Return the ticker here of a ticker or id in the market table; None if the table is not held or has no such coin.

    Raises UnknownSymbolError for an id whose ticker means another coin here.
    """
    sources = context.sources
    held = sources.market.table.peek(TABLE) if sources is not None else None
    if sources is None or held is None:
        return None
    ticker, coin_id = name.strip().upper(), name.strip().lower()
    if any(coin.symbol == ticker for coin in held.value.good):
        return ticker
    coin = next((coin for coin in held.value.good if coin.id == coin_id), None)
    if coin is None:
        return None
    base = sources.identities.base_of_id(coin_id)
    if base is not None:
        return base
    meant = next(each for each in held.value.good if each.symbol == coin.symbol)
    if sources.identities.is_ours(coin.symbol) or meant is not coin:
        raise UnknownSymbolError(f"coin {name!r} cannot be asked for: its ticker {coin.symbol} means another coin here")
    return coin.symbol


def coins_meant(identities: Identities, rows: Sequence[Coin]) -> dict[str, Coin]:
    """Return the coin that each ticker means, of rows by market cap. A base asset of the exchange means its coin."""
    # The exchange's own rows have no ids.
    meant = {row.symbol: row for row in reversed(rows) if row.id is None or not identities.is_ours(row.symbol)}
    return meant | identities.matched(rows)


def ticker_of(context: Context, name: str) -> str:
    """Return the ticker that a spelling means, else the spelling if it may be one. Raises UnknownSymbolError."""
    try:
        return base_of(context, name)
    except UnknownSymbolError:
        ticker = name.strip().upper()
        if not _TICKER.fullmatch(ticker):
            raise
        return ticker


async def refuse_ambiguous(asking: Asking, names: Sequence[str], max_age_ms: float | None) -> None:
    """Raise Refusal 409 with the candidates of every ticker that names several coins, as `strict=1` asks.

    A pair (`BTC-USDT`) or a coin's own name (`bitcoin`) isn't a ticker and has one meaning.
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
        fetched = await asking.fetch(sources.market.candidates, ticker, max_age_ms)
        if len(fetched.value) > 1:
            candidates[ticker] = [_candidate(coin) for coin in fetched.value]
    if candidates:
        message = "; ".join(f"{ticker} is the ticker of {len(coins)} coins" for ticker, coins in candidates.items())
        details: dict[str, object] = {"candidates": candidates}
        raise Refusal(
            "ambiguous", f"{message}; without strict=1 the one with the largest market cap is used", 409, details
        )


def _candidate(coin: Coin) -> dict[str, object]:
    return {
        "id": coin.id,
        "symbol": coin.symbol,
        "name": coin.name,
        "rank": coin.rank,
        "market_cap": coin.market_cap,
        "price": coin.price,
    }

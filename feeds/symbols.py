"""Which coin and pair a name means.

A pair is split by what the exchange says (`baseAsset`, `quoteAsset`), never by its suffix: `USDCUSDT`, `1INCHUSDT`
and `BTCUPUSDT` have misled many. Two exceptions, both where no exchange can be asked: a tape without an
exchangeInfo, and a client's spelling in the first moments before one has arrived.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from feeds.model import UNLISTED, Pair

COIN_NAMES = {
    "bitcoin": "BTC",
    "ethereum": "ETH",
    "ether": "ETH",
    "binancecoin": "BNB",
    "bnb": "BNB",
    "solana": "SOL",
    "ripple": "XRP",
    "cardano": "ADA",
    "dogecoin": "DOGE",
    "tron": "TRX",
    "avalanche": "AVAX",
    "avalanche-2": "AVAX",
    "polkadot": "DOT",
    "chainlink": "LINK",
    "litecoin": "LTC",
    "bitcoin-cash": "BCH",
    "stellar": "XLM",
    "monero": "XMR",
    "uniswap": "UNI",
    "cosmos": "ATOM",
    "toncoin": "TON",
    "the-open-network": "TON",
    "shiba-inu": "SHIB",
    "pepe": "PEPE",
    "near": "NEAR",
    "aptos": "APT",
    "sui": "SUI",
    "filecoin": "FIL",
    "arbitrum": "ARB",
    "optimism": "OP",
    "ethereum-classic": "ETC",
    "hedera": "HBAR",
    "hedera-hashgraph": "HBAR",
    "internet-computer": "ICP",
    "aave": "AAVE",
    "maker": "MKR",
    "algorand": "ALGO",
    "usd-coin": "USDC",
    "tether": "USDT",
}
"""Coins people call by name (CoinGecko's ids among them). A ticker of the exchange wins over a name."""

QUOTES = (
    "USDT",
    "FDUSD",
    "USDC",
    "BUSD",
    "TUSD",
    "USD",
    "EUR",
    "GBP",
    "TRY",
    "BRL",
    "AUD",
    "BIDR",
    "RUB",
    "UAH",
    "NGN",
    "ZAR",
    "PAX",
    "DAI",
    "BTC",
    "ETH",
    "BNB",
    "TRX",
    "XRP",
    "DOGE",
    "SOL",
)
"""Quote assets, the preferred one of a base first."""

DOLLARS = frozenset(("USDT", "USDC", "FDUSD", "BUSD", "TUSD", "DAI", "USD"))
"""Quote assets worth a dollar. Aggregators give dollars, so only prices in these can be compared with theirs."""

NOT_IN_A_SYMBOL = frozenset("*>,&?# \t\r\n\0\"'<\\")
MARKS = ("-", "/", "_", ".")
"""Marks that may stand between base and quote in a client's spelling. A base may contain some of them, too."""
ENDED = "BREAK"
"""A pair in this state may never trade again, so that another one of its base goes before it."""
LONGEST_NAME = 50
"""Binance allows so many letters in a symbol."""


class UnknownSymbolError(ValueError):
    """No market has that name; the text names it."""


class Symbols:
    """The markets we serve: one pair for each base asset, whether or not it trades now.

    `wanted` holds what the settings ask for: bases or pairs, or nothing for all. `quotes` are the acceptable
    quote assets, best first. Before `learn` was called the exchange is unknown and any plausible name is accepted.
    """

    def __init__(self, wanted: Sequence[str] = (), quotes: Sequence[str] = ("USDT",)) -> None:
        self.wanted = tuple(name.upper() for name in wanted)
        self.quotes = tuple(quotes)
        self.listed: dict[str, Pair] = {}
        self.by_base: dict[str, Pair] = {}
        self.by_symbol: dict[str, Pair] = {}
        self.by_assets: dict[tuple[str, str], Pair] = {}
        self.any_trades = False

    @property
    def known(self) -> bool:
        """Whether the exchange's list has come."""
        return bool(self.listed)

    @property
    def halted(self) -> bool:
        """Whether the exchange trades nothing at all: every pair of its list rests."""
        return self.known and not self.any_trades

    @property
    def unsure(self) -> bool:
        """Whether the list lacked a pair that we serve, which the next one has to confirm."""
        return any(pair.status == UNLISTED for pair in self.by_base.values())

    def states(self) -> dict[str, int]:
        """Return how many of the pairs that we serve are in each state."""
        return dict(Counter(pair.status for pair in self.by_base.values()))

    def learn(self, pairs: Iterable[Pair]) -> None:
        """Take the exchange's whole list, and choose the pair of each base.

        A pair that we serve and that is not on the list stays, `UNLISTED`, until the next list confirms it.
        """
        listed = {pair.symbol: pair for pair in pairs if _can_be_a_topic(pair)}
        missing = [pair for pair in self.by_base.values() if pair.symbol not in listed and pair.status != UNLISTED]
        self.listed = listed | {pair.symbol: replace(pair, status=UNLISTED) for pair in missing}
        self.any_trades = any(pair.trading for pair in self.listed.values())
        self.by_assets = {(pair.base, pair.quote): pair for pair in self.listed.values()}
        rank = {quote: place for place, quote in enumerate(self.quotes)}
        best: dict[str, Pair] = {}
        for pair in self.listed.values():
            named = self._is_named(pair)
            if not (named or pair.quote in rank):
                continue
            if self.wanted and not named and pair.base not in self.wanted:
                continue
            held = best.get(pair.base)
            if held is None or self._order(pair, rank) < self._order(held, rank):
                best[pair.base] = pair
        self.by_base = best
        self.by_symbol = {pair.symbol: pair for pair in best.values()}

    def _is_named(self, pair: Pair) -> bool:
        """Whether the settings name this very pair, with or without a mark between its assets."""
        if not self.wanted or pair.symbol in self.wanted:
            return bool(self.wanted)
        return any(f"{pair.base}{mark}{pair.quote}" in self.wanted for mark in MARKS)

    def _order(self, pair: Pair, rank: dict[str, int]) -> tuple[bool, bool, int]:
        return (not self._is_named(pair), pair.status in (ENDED, UNLISTED), rank.get(pair.quote, len(rank)))

    def base_of(self, name: str) -> str:
        """Return the base asset a client's spelling means: `btc`, `BTCUSDT`, `BTC-USDT`, `BTC/USDT`, `bitcoin`.

        Raises UnknownSymbolError, naming the input, if no market we serve goes by it.
        """
        text = name.strip().upper()
        if len(text) > LONGEST_NAME or not is_plausible(text):
            raise UnknownSymbolError(f"{name if len(name) <= 40 else name[:40] + '…'!r} is not a symbol")
        if text in self.by_base:
            return text
        pair = self._pair_named(text)
        if pair is not None:
            return self._served(name, pair)
        coin = COIN_NAMES.get(name.strip().lower())
        if coin is not None and (coin in self.by_base or not self.known):
            return coin
        if self.known or "." in text:  # a topic has dots between its words: only the list can show one within a symbol
            raise UnknownSymbolError(f"no market for symbol {name!r}{self._hint(text)}")
        return text

    def _pair_named(self, text: str) -> Pair | None:
        """Return the pair that a spelling with or without a mark means: the list decides the base of `A-B-USDT`."""
        listed = self.listed.get(text)
        if listed is not None:
            return listed
        splits = list(_splits(text))
        if self.known:
            found = (self.by_assets.get(assets) for assets in splits)
            return next((pair for pair in found if pair is not None), None)
        guessed = next(((base, quote) for base, quote in splits if quote in QUOTES), None)
        return Pair("".join(guessed), *guessed) if guessed is not None else split_by_quote(text, self.quotes)

    def _served(self, name: str, pair: Pair) -> str:
        if not self.known:
            return pair.base
        served = self.by_base.get(pair.base)
        if served is None or served.symbol != pair.symbol:
            instead = f"; {pair.base} is served as {served.symbol}" if served else ""
            state = "" if pair.trading else f" ({pair.status})"
            raise UnknownSymbolError(f"pair {name!r}{state} is not served here{instead}")
        return pair.base

    def _hint(self, text: str) -> str:
        if self.wanted and text in {pair.base for pair in self.listed.values()}:
            return " among those this server is set to serve (SYMBOLS)"
        return ""


def is_plausible(text: str) -> bool:
    """Whether a text could name an asset or a pair, and be a word of a topic: dots stand within it alone."""
    return bool(text) and not NOT_IN_A_SYMBOL & set(text) and all(text.split("."))


def _can_be_a_topic(pair: Pair) -> bool:
    return is_plausible(pair.symbol) and is_plausible(pair.base) and len(pair.base) <= LONGEST_NAME


def _splits(text: str) -> Iterator[tuple[str, str]]:
    """Yield each base and quote that a mark in the text can divide, the shortest quote first."""
    for place in range(len(text) - 2, 0, -1):
        if text[place] in MARKS:
            yield text[:place], text[place + 1 :]


def split_by_quote(symbol: str, quotes: Sequence[str] = QUOTES) -> Pair | None:
    """Split a pair by the longest quote asset it ends in. Used only where no exchange can be asked."""
    for quote in sorted(quotes, key=len, reverse=True):
        if symbol.endswith(quote) and len(symbol) > len(quote):
            return Pair(symbol, symbol[: -len(quote)], quote)
    return None

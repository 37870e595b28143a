"""Do the sources of a price agree? Pure.

What clients are given stays that of the first source; that another tells something else is shown to people.
"""

from collections.abc import Mapping
from dataclasses import dataclass

OVER_PCT = 2.0
FRESH_MS = 5 * 60_000


@dataclass(frozen=True, slots=True)
class SaidPrice:
    """A price in dollars (or a coin worth one), its source, and its time in Unix ms."""

    price: float
    source: str
    ts: int


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Two sources' prices of one symbol, and by how much of the smaller they differ."""

    symbol: str
    sources: Mapping[str, float]
    difference_pct: float


def disagreements(
    one: Mapping[str, SaidPrice], other: Mapping[str, SaidPrice], now_ms: int, over_pct: float = OVER_PCT
) -> list[Disagreement]:
    """Return the symbols whose prices in two tables differ by more than `over_pct`, the greatest difference first.

    Compared are prices of the last five minutes from sources that are not the same.
    """
    found = []
    for symbol, ours in one.items():
        theirs = other.get(symbol)
        if theirs is None or _origin(ours.source) == _origin(theirs.source):
            continue
        if now_ms - min(ours.ts, theirs.ts) > FRESH_MS or min(ours.price, theirs.price) <= 0:
            continue
        difference_pct = (max(ours.price, theirs.price) / min(ours.price, theirs.price) - 1) * 100
        # Half a billionth more than the limit is the limit, in floating point.
        if difference_pct > over_pct + 1e-9:
            prices = {ours.source: ours.price, theirs.source: theirs.price}
            found.append(Disagreement(symbol, prices, round(difference_pct, 3)))
    return sorted(found, key=lambda each: (-each.difference_pct, each.symbol))


def _origin(source: str) -> str:
    """Return whose data a source gives: `coingecko_pro` is CoinGecko too, `binance:us` is Binance."""
    return source.partition(":")[0].removesuffix("_pro")

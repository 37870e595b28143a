"""Decide which ticks contradict the exchange's list of pairs, and when they count again after a list overruled them.

Pure. A pair that ticks although the list lacks it, or says that it rests, is evidence that the list is out of date. If
the next list says the same, the pair's ticks count as evidence again only later, and later each time.
"""

from collections.abc import Iterable, Set
from dataclasses import dataclass, field

KEPT = 1000


@dataclass(slots=True)
class _Overruled:
    """A pair about which a new list said the same again: its ticks count from `until` on."""

    delay_s: float
    until: float


@dataclass(slots=True)
class Doubts:
    """Pairs that a list overruled. Times in seconds: the first delay after such a list, and the longest."""

    first_s: float
    longest_s: float
    pairs: dict[str, _Overruled] = field(default_factory=dict)

    def contradict(self, symbols: Set[str], now: float) -> bool:
        """Return whether one of these pairs, which ticked since the last list, is reason enough for a new one."""
        return any(symbol not in self.pairs or now >= self.pairs[symbol].until for symbol in symbols)

    def settled(self, symbols: Iterable[str]) -> None:
        """Forget these pairs: the list agrees with their ticks now."""
        for symbol in symbols:
            self.pairs.pop(symbol, None)

    def overruled(self, symbols: Iterable[str], now: float) -> None:
        """Count these pairs' ticks only later: the list says again that they do not trade."""
        for symbol in symbols:
            known = self.pairs.pop(symbol, None)
            delay_s = self.first_s if known is None else min(2 * known.delay_s, self.longest_s)
            self.pairs[symbol] = _Overruled(delay_s, now + delay_s)
        while len(self.pairs) > KEPT:
            del self.pairs[next(iter(self.pairs))]

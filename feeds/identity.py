"""Which coin of an aggregator a base asset of the exchange is.

A ticker is a name, not an identity: the exchange's NEIRO and CoinGecko's `neiro` are two coins. So a base asset is
matched to an aggregator's id by price, while both give one; a table of known ids serves before that. A value of another
source is given for a base only by that id, and only if it fits the last price that was known.

Pure but for the store, which carries the matches over a restart. Works on whole answers, never on single ticks.
"""

import logging
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import orjson

from feeds.model import Candle, Quote
from feeds.symbols import DOLLARS, LONGEST_NAME, Symbols, is_plausible
from orchestrator.clock import Clock
from orchestrator.errors import NotFound
from orchestrator.persistence import AnswerStore, StoredAnswer

log = logging.getLogger(__name__)

NO_MATCHING_SOURCE = "no_matching_source"
"""Why a topic is stale, or a value is missing: the sources at hand know no coin that is certainly this one."""

MATCHES_WITHIN = 0.10
"""A coin whose price is this close to the exchange's, as a part of it, is the exchange's coin."""
DIFFERS_BEYOND = 0.25
"""A price further than this from the last one known is not taken for the same coin's."""
BEFORE_MS = 10 * 60_000
AFTER_MS = 60_000
"""An answer is compared with the exchange's prices if it came at most so long before, or after, the last of them."""

MULTIPLES = {"1000000": 1_000_000, "10000": 10_000, "1000": 1000, "1M": 1_000_000}
_MULTIPLE = re.compile(r"(1000000|10000|1000|1M)([A-Z][A-Z0-9]*)")
"""The exchange trades cheap coins by the thousand or million: 1000SATS, 1MBABYDOGE."""

STORED_AS = "identities"
MAX_KEPT = 5000
MAX_ID_CHARS = 200
SAVE_EVERY_MS = 10 * 60_000
"""How often matches are written to disk although only their prices have changed."""


class Unmatched(NotFound):
    """No coin of this source is known to be the exchange's."""

    outcome = NO_MATCHING_SOURCE
    asked = False


class Listed(Protocol):
    """A row of an aggregator: its own id of a coin, the coin's ticker and price in US dollars."""

    @property
    def id(self) -> str | None: ...
    @property
    def symbol(self) -> str: ...
    @property
    def price(self) -> float: ...


R = TypeVar("R", bound=Listed)


@dataclass(frozen=True, slots=True)
class Match:
    """The id that a base asset goes by elsewhere. One of the base is `multiple` of that coin.

    `price` is the exchange's when they last agreed, None where a table of ids says so.
    """

    coin_id: str
    multiple: int = 1
    price: float | None = None


def differs(price: float, reference: float, by: float) -> bool:
    """Whether a price is further from the reference than a part `by` of it. Half a billionth more is still within."""
    return abs(price - reference) > reference * by * (1 + 1e-9)


def units_of(base: str) -> list[tuple[str, int]]:
    """Return the tickers that a base may have elsewhere, each with how many of that coin one of the base is."""
    found = _MULTIPLE.fullmatch(base)
    if found is None:
        return [(base, 1)]
    multiple = MULTIPLES[found[1]]
    return [(base, 1), (base, multiple), (found[2], multiple)]


class Identities:
    """The matches, and what may be given by them.

    `known` has the ids of coins that need no match. `exchange_price` gives the exchange's price of a base while it
    counts, `last_price` the last one that was given under it, whoever gave it; both in dollars, None where unknown.
    """

    def __init__(
        self,
        symbols: Symbols,
        known: Mapping[str, str],
        exchange_price: Callable[[str], float | None],
        last_price: Callable[[str], float | None],
        clock: Clock,
        store: AnswerStore | None = None,
    ) -> None:
        self.symbols = symbols
        self.known = {base: Match(coin_id) for base, coin_id in known.items()}
        self.exchange_price = exchange_price
        self.last_price = last_price
        self.clock = clock
        self.store = store
        self.contradicted: set[str] = set()
        """Bases whose match last gave a price that cannot be theirs."""
        self.seen: dict[str, float] = {}
        """By id: the price of each coin that an answer had while the exchange was alive."""
        self.saved_ms = 0
        self.matches: dict[str, Match] = self._load()

    # --- what is known ---

    def is_ours(self, base: str) -> bool:
        """Whether a ticker means the exchange's base asset: it is listed, or the list has not come yet."""
        return not self.symbols.known or base in self.symbols.by_base

    def match_of(self, base: str) -> Match | None:
        """Return the match of a base, unless its last price contradicts it."""
        return None if base in self.contradicted else self._any_match(base)

    def base_of_id(self, coin_id: str) -> str | None:
        """Return the base asset of the exchange that this id is matched to."""
        bases = (base for base in self._bases() if (match := self.match_of(base)) and match.coin_id == coin_id)
        return next(bases, None)

    def is_another(self, ticker: str, coin_id: str | None, price: float | None) -> bool:
        """Whether a coin that a source names so is not the exchange's: its price, or that of its id, differs."""
        pair = self.symbols.by_base.get(ticker)
        ours = self.last_price(ticker) if pair is not None and pair.quote in DOLLARS else None
        theirs = price or self.seen.get(coin_id or "")
        return ours is not None and theirs is not None and differs(theirs, ours, DIFFERS_BEYOND)

    def unmatched(self) -> list[str]:
        """Return the served bases that trade and have no match, sorted."""
        return sorted(
            base for base, pair in self.symbols.by_base.items() if pair.trading and self.match_of(base) is None
        )

    def report(self, most: int) -> dict[str, object]:
        """Return how many of the served bases that trade are matched, and up to `most` names of those that are not."""
        unmatched = self.unmatched()
        trading = sum(1 for pair in self.symbols.by_base.values() if pair.trading)
        return {
            "matched": trading - len(unmatched),
            "unmatched": len(unmatched),
            "unmatched_symbols": unmatched[:most],
        }

    def _any_match(self, base: str) -> Match | None:
        return self.matches.get(base) or self.known.get(base)

    def _bases(self) -> list[str]:
        """Return the bases that may have a match: the listed ones, or the remembered ones before the list has come."""
        if self.symbols.known:
            return list(self.symbols.by_base)
        wanted = self.symbols.wanted
        return [base for base in dict.fromkeys((*self.known, *self.matches)) if not wanted or base in wanted]

    # --- learning ---

    def learn(self, rows: Iterable[Listed]) -> None:
        """Match the listed bases to the rows of one answer, by the exchange's prices of now.

        The nearest price within 10 % wins, whatever the market caps. A match that no longer fits counts no more, until
        it fits again or another does.
        """
        by_id, by_ticker = _indexed(rows)
        if len(self.seen) > MAX_KEPT:
            self.seen.clear()
        self.seen |= {coin_id: row.price for coin_id, row in by_id.items()}
        changed = False
        for base in self.symbols.by_base:
            price = self.exchange_price(base)
            if price is None or price <= 0:
                continue
            new = self._matching(base, price, by_id, by_ticker)
            if new is not None:
                old = self.matches.get(base)
                changed |= old is None or (old.coin_id, old.multiple) != (new.coin_id, new.multiple)
                self.matches[base] = new
                self.contradicted.discard(base)
                continue
            held = self._any_match(base)
            row = by_id.get(held.coin_id) if held is not None else None
            if held is None or row is None:
                continue  # this answer does not have it
            if differs(row.price * held.multiple, price, DIFFERS_BEYOND):
                changed |= base in self.matches and base not in self.contradicted
                self.contradicted.add(base)
            else:
                self.contradicted.discard(base)
        self._save(changed)

    def _matching(
        self, base: str, price: float, by_id: Mapping[str, Listed], by_ticker: Mapping[str, Sequence[Listed]]
    ) -> Match | None:
        candidates = [(row, multiple) for ticker, multiple in units_of(base) for row in by_ticker.get(ticker, ())]
        # An id keeps its coin when the ticker changes there.
        held = self._any_match(base)
        if held is not None and held.coin_id in by_id:
            candidates.append((by_id[held.coin_id], held.multiple))
        fitting = [
            (abs(row.price * multiple - price), row.id or "", multiple)
            for row, multiple in candidates
            if not differs(row.price * multiple, price, MATCHES_WITHIN)
        ]
        sure = self.known.get(base)
        if sure is not None and any(coin_id == sure.coin_id for _, coin_id, _ in fitting):
            return Match(sure.coin_id, 1, price)
        if not fitting:
            return None
        _, coin_id, multiple = min(fitting)
        return Match(coin_id, multiple, price)

    # --- giving ---

    def matched(self, rows: Iterable[R]) -> dict[str, R]:
        """Return, by base, the row of the coin that the base is matched to, where both count in the same unit."""
        return {base: row for base, row in self.compared(rows).items() if base not in self.contradicted}

    def compared(self, rows: Iterable[R]) -> dict[str, R]:
        """Return the same as `matched`, with rows whose last price contradicts the match: disagreements to be shown."""
        by_id, _ = _indexed(rows)
        found = {}
        for base in self._bases():
            match = self._any_match(base)
            if match is not None and match.multiple == 1 and match.coin_id in by_id:
                found[base] = by_id[match.coin_id]
        return found

    def quotes(self, rows: Iterable[Quote]) -> dict[str, Quote]:
        """Return, by base, the price in an answer, in the exchange's unit, without prices too far from the last one.

        A base that has no match, or whose match is contradicted by its price, is left out, and `match_of` says so.
        """
        by_id, _ = _indexed(rows)
        found = {}
        for base in self._bases():
            match = self._any_match(base)
            row = by_id.get(match.coin_id) if match is not None else None
            if match is None or row is None:
                continue
            price = row.price * match.multiple
            last = self._last_known(base, match)
            if last is not None and differs(price, last, DIFFERS_BEYOND):
                self.contradicted.add(base)
                continue
            self.contradicted.discard(base)
            found[base] = in_units(row, base, match.multiple)
        return found

    def candles(self, base: str, match: Match, candles: Sequence[Candle], *, up_to_now: bool) -> list[Candle]:
        """Return candles of the matched coin in the exchange's unit.

        Raises: ValueError if those up to now end too far from the last known price.
        """
        scaled = [_in_units(candle, match.multiple) for candle in candles]
        last = self._last_known(base, match)
        if up_to_now and scaled and last is not None and differs(scaled[-1].close, last, DIFFERS_BEYOND):
            raise ValueError(f"the last candle of {base} ends too far from its last price")
        return scaled

    def _last_known(self, base: str, match: Match) -> float | None:
        if base in self.symbols.by_base and self.symbols.by_base[base].quote not in DOLLARS:
            return None
        return self.last_price(base) or match.price

    # --- across restarts ---

    def _save(self, changed: bool) -> None:
        now_ms = self.clock.wall_ms()
        if self.store is None or not self.matches or not (changed or now_ms - self.saved_ms >= SAVE_EVERY_MS):
            return
        self.saved_ms = now_ms
        sound = {base: each for base, each in self.matches.items() if base not in self.contradicted}
        rows = {base: [each.coin_id, each.multiple, each.price] for base, each in sound.items()}
        self.store.put(STORED_AS, StoredAnswer(orjson.dumps(rows), STORED_AS, now_ms))

    def _load(self) -> dict[str, Match]:
        kept = self.store.get(STORED_AS) if self.store is not None else None
        rows = orjson.loads(kept.text) if kept is not None else {}
        if not isinstance(rows, dict):
            log.warning("state_unreadable", extra={"file": STORED_AS, "cause": type(rows).__name__})
            return {}
        found = {}
        unreadable = 0
        for base, row in list(rows.items())[:MAX_KEPT]:
            match = _read_match(base, row)
            if match is None:
                unreadable += 1
            elif base not in self.known:  # what is known needs no memory, and its old price would only forbid it
                found[base] = match
        if unreadable:
            log.warning("state_unreadable", extra={"file": STORED_AS, "cause": f"{unreadable} bad entries"})
        return found


def _read_match(base: str, row: object) -> Match | None:
    """Read what `_save` wrote about one base; None for anything else."""
    if not isinstance(row, list) or len(row) != 3 or len(base) > LONGEST_NAME or not is_plausible(base):
        return None
    coin_id, multiple, price = row
    if not isinstance(coin_id, str) or not 0 < len(coin_id) <= MAX_ID_CHARS or not coin_id.isprintable():
        return None
    if type(multiple) is not int or multiple not in {1, *MULTIPLES.values()}:
        return None
    if type(price) not in (int, float) or not math.isfinite(price) or price <= 0:
        return None
    return Match(coin_id, multiple, float(price))


def _indexed(rows: Iterable[R]) -> tuple[dict[str, R], dict[str, list[R]]]:
    """Return the rows with an id, by id and by ticker."""
    by_id: dict[str, R] = {}
    by_ticker: defaultdict[str, list[R]] = defaultdict(list)
    for row in rows:
        if row.id and row.id not in by_id:
            by_id[row.id] = row
            by_ticker[row.symbol].append(row)
    return by_id, by_ticker


def in_units(row: Quote, base: str, multiple: int) -> Quote:
    """Return an aggregator's price as that of a base, of which one is `multiple` of the coin."""
    return replace(
        row,
        symbol=base,
        price=row.price * multiple,
        high_24h=None if row.high_24h is None else row.high_24h * multiple,
        low_24h=None if row.low_24h is None else row.low_24h * multiple,
    )


def _in_units(candle: Candle, multiple: int) -> Candle:
    if multiple == 1:
        return candle
    return replace(
        candle,
        open=candle.open * multiple,
        high=candle.high * multiple,
        low=candle.low * multiple,
        close=candle.close * multiple,
        volume=None if candle.volume is None else candle.volume / multiple,
    )

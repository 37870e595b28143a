"""Compute the figures of the table from the events of the exchange and the messages of a client. Pure.

A candle counts if it closed during the trial. It is missing if the client never reported it closed, wrong if its last
reported values differ from the exchange's, and doubled if it was reported closed more than once. An explicit correction
is neither doubled nor, if it is right, wrong.

A second is blind for a market if the exchange was up and published a new price, and no price of that market reached the
client within `GRACE_MS`.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

CANDLE_MS = 60_000
GRACE_MS = 3_000
"""Price streams send once a second; a price within this time does not count as late."""

Values = tuple[float, ...]
"""Open, high, low, close, volume."""


@dataclass(frozen=True, slots=True)
class Tick:
    """One second of one market with trades: the time when its price was sent, and the ids of its trades."""

    at_ms: int
    first_trade: int
    last_trade: int

    def marks(self, by_trade: bool) -> Iterable[int]:
        """Return the marks by which a client names the events of this second."""
        return range(self.first_trade, self.last_trade + 1) if by_trade else (self.at_ms,)


@dataclass(frozen=True, slots=True)
class Truth:
    """What the exchange knows of a trial. `down` are the seconds, by their `at_ms`, in which it was away."""

    candles: Mapping[tuple[str, int], Values]
    """Values by pair and open time."""
    ticks: Mapping[str, Sequence[Tick]]
    """Ticks by pair, in order."""
    down: frozenset[int]


@dataclass(frozen=True, slots=True)
class Price:
    """A price that a client received."""

    received_ms: int
    pair: str
    mark: int


@dataclass(frozen=True, slots=True)
class Closed:
    """A candle that a client received as closed."""

    received_ms: int
    pair: str
    open_time: int
    values: Values
    corrected: bool = False


@dataclass(frozen=True, slots=True)
class Receipts:
    """All messages that a client received, in order."""

    prices: Sequence[Price]
    candles: Sequence[Closed]
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Window:
    """A half-open span of time in Unix milliseconds."""

    began_ms: int
    ended_ms: int

    def holds(self, at_ms: int) -> bool:
        """Return whether a moment lies in the span."""
        return self.began_ms <= at_ms < self.ended_ms


@dataclass(frozen=True, slots=True)
class Continuity:
    """The result of a client under a tape of faults."""

    candles: int
    missing: int
    wrong: int
    doubled: int
    doubled_prices: int
    blind_s: float
    """Mean of the markets."""
    late_s: float
    """Longest time from the end of a candle until it was received."""


def read(lines: Iterable[str]) -> Receipts:
    """Read the file of `clients/receipts.py`; an unfinished last line of a killed client is ignored."""
    prices: list[Price] = []
    candles: list[Closed] = []
    notes: list[str] = []
    for line in lines:
        if not line.endswith("\n"):
            break
        match json.loads(line):
            case ["price", received_ms, pair, mark]:
                prices.append(Price(received_ms, pair, mark))
            case ["closed" | "corrected" as kind, received_ms, pair, open_time, values]:
                candles.append(Closed(received_ms, pair, open_time, tuple(values), kind == "corrected"))
            case ["note", _, text]:
                notes.append(text)
            case other:
                raise ValueError(f"no receipt: {other}")
    return Receipts(prices, candles, notes)


def continuity(truth: Truth, receipts: Receipts, window: Window) -> Continuity:
    """Return the cost of a tape of faults."""
    expected = {key for key in truth.candles if window.holds(key[1] + CANDLE_MS)}
    reports: dict[tuple[str, int], list[Closed]] = {}
    for closed in receipts.candles:
        key = (closed.pair, closed.open_time)
        if key in expected:
            reports.setdefault(key, []).append(closed)
    first_reported = {key: min(each.received_ms for each in closes) for key, closes in reports.items()}
    return Continuity(
        candles=len(expected),
        missing=len(expected - reports.keys()),
        wrong=sum(closes[-1].values != truth.candles[key] for key, closes in reports.items()),
        doubled=sum(max(0, sum(not each.corrected for each in closes) - 1) for closes in reports.values()),
        doubled_prices=_repeated(_marks(receipts, window)),
        blind_s=_blind_s(truth, receipts, window),
        late_s=max((said_ms - key[1] - CANDLE_MS for key, said_ms in first_reported.items()), default=0) / 1000,
    )


def survived(truth: Truth, receipts: Receipts, rotations: Sequence[Window], *, by_trade: bool) -> int:
    """Return the number of windows in which every price and closed candle arrived exactly once.

    With `by_trade` the client's marks are ids of trades instead of times.
    """
    came = Counter((price.pair, price.mark) for price in receipts.prices)
    closed = Counter((each.pair, each.open_time) for each in receipts.candles)
    count = 0
    for window in rotations:
        expected = {
            (pair, mark)
            for pair, ticks in truth.ticks.items()
            for tick in ticks
            if window.holds(tick.at_ms)
            for mark in tick.marks(by_trade)
        }
        closing = {key for key in truth.candles if window.holds(key[1] + CANDLE_MS)}
        count += all(came[event] == 1 for event in expected) and all(closed[candle] == 1 for candle in closing)
    return count


def back_after_s(
    ticks: Mapping[str, Sequence[Tick]], receipts: Receipts, silent_ms: int, market_ms: int, *, by_trade: bool
) -> float | None:
    """Return how long after its connections fell silent a client had something new; None if it never did.

    `silent_ms` is the time of the silence, `market_ms` the exchange's clock at that time; older events are not new,
    however late they arrive.
    """
    news = {
        (pair, mark)
        for pair, seconds in ticks.items()
        for tick in seconds
        if tick.at_ms > market_ms
        for mark in tick.marks(by_trade)
    }
    times = (price.received_ms for price in receipts.prices if (price.pair, price.mark) in news)
    first = min(times, default=None)
    return None if first is None else (first - silent_ms) / 1000


def _marks(receipts: Receipts, window: Window) -> Counter[tuple[str, int]]:
    return Counter((price.pair, price.mark) for price in receipts.prices if window.holds(price.received_ms))


def _repeated(marks: Counter[tuple[str, int]]) -> int:
    return sum(count - 1 for count in marks.values())


def _blind_s(truth: Truth, receipts: Receipts, window: Window) -> float:
    blind = 0
    for pair, ticks in truth.ticks.items():
        seen = sorted(price.received_ms for price in receipts.prices if price.pair == pair)
        next_seen = 0
        for tick in ticks:
            while next_seen < len(seen) and seen[next_seen] < tick.at_ms:
                next_seen += 1
            is_told = next_seen < len(seen) and seen[next_seen] < tick.at_ms + GRACE_MS
            blind += window.holds(tick.at_ms) and tick.at_ms not in truth.down and not is_told
    return blind / len(truth.ticks) if truth.ticks else 0.0

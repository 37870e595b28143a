"""Makes longer candles from shorter ones, and checks that candles are as long as they should be. Pure.

A longer candle is made of a whole run of shorter ones or not at all: nothing is filled in. Its span begins where the
UTC day allows, so intervals of more than a day are not derived.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

from feeds.intervals import DAY_MS, STEP_MS
from feeds.model import Candle
from feeds.queries import CandleQuery

FIRST_MONDAY_MS = 4 * DAY_MS


def derive(candles: Iterable[Candle], from_interval: str, to_interval: str) -> list[Candle]:
    """Return the candles of `to_interval` that closed ones of `from_interval` make up, ascending.

    One of a span that misses a shorter candle is left out. All are of one market; of two with the same open time the
    later in the list counts. Volumes are sums, None where one of them is unknown.

    Raises ValueError for a pair of intervals of which one is no multiple of the other, or is longer than a day.
    """
    step, whole = STEP_MS[from_interval], STEP_MS[to_interval]
    if not (step < whole <= DAY_MS and whole % step == 0 and DAY_MS % whole == 0):
        raise ValueError(f"{to_interval} candles cannot be made of {from_interval} candles")
    spans: dict[int, dict[int, Candle]] = {}
    for candle in candles:
        if candle.closed and candle.interval == from_interval and candle.open_time % step == 0:
            start = candle.open_time - candle.open_time % whole
            spans.setdefault(start, {})[candle.open_time] = candle
    return [
        _joined([parts[open_time] for open_time in sorted(parts)], start, from_interval, to_interval)
        for start, parts in sorted(spans.items())
        if len(parts) == whole // step
    ]


def _joined(parts: Sequence[Candle], start: int, from_interval: str, to_interval: str) -> Candle:
    counts = [part.trades for part in parts if part.trades is not None]
    return Candle(
        symbol=parts[0].symbol,
        interval=to_interval,
        open_time=start,
        close_time=start + STEP_MS[to_interval] - 1,
        open=parts[0].open,
        high=max(part.high for part in parts),
        low=min(part.low for part in parts),
        close=parts[-1].close,
        volume=_sum([part.volume for part in parts]),
        quote_volume=_sum([part.quote_volume for part in parts]),
        trades=sum(counts) if len(counts) == len(parts) else None,
        closed=True,
        ts=max(part.ts for part in parts),
        derived_from=from_interval,
    )


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) if len(known) == len(values) else None


def regular(open_times: Sequence[int], interval: str) -> bool:
    """Whether ascending open times are those of an interval: on its grid, and somewhere one step apart.

    Holes are allowed; fewer than two prove nothing, so that is False. Months are not judged.
    """
    step = STEP_MS[interval]
    origin = FIRST_MONDAY_MS if interval == "1w" else 0
    on_grid = all((open_time - origin) % step == 0 for open_time in open_times)
    return on_grid and any(later - earlier == step for earlier, later in pairwise(open_times))


def asked_for(candles: Iterable[Candle], query: CandleQuery) -> list[Candle]:
    """Return the candles that a query asks for, in ascending order, at most `limit`."""
    start, end = query.start or 0, math.inf if query.end is None else query.end
    wanted = [candle for candle in candles if start <= candle.open_time <= end]
    return wanted[: query.limit] if query.start is not None else wanted[-query.limit :]

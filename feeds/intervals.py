"""Candle intervals: their names, lengths and the arithmetic of open times.

Case matters: `1m` is a minute, `1M` a month. Weeks open on Mondays, months on the first, both at 00:00 UTC.
"""

from datetime import UTC, datetime

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

STEP_MS = {
    "1m": MINUTE_MS,
    "3m": 3 * MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "1h": HOUR_MS,
    "2h": 2 * HOUR_MS,
    "4h": 4 * HOUR_MS,
    "6h": 6 * HOUR_MS,
    "8h": 8 * HOUR_MS,
    "12h": 12 * HOUR_MS,
    "1d": DAY_MS,
    "3d": 3 * DAY_MS,
    "1w": 7 * DAY_MS,
    "1M": 30 * DAY_MS,
}
"""Length of each interval; of a month only roughly, use `next_open`."""

INTERVALS = tuple(STEP_MS)


def next_open(open_time: int, interval: str) -> int:
    """Return the open time of the candle after the one that opens at `open_time`."""
    if interval != "1M":
        return open_time + STEP_MS[interval]
    then = datetime.fromtimestamp(open_time / 1000, UTC)
    year, month = (then.year + 1, 1) if then.month == 12 else (then.year, then.month + 1)
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp() * 1000)


def count_between(start: int, end: int, interval: str) -> int:
    """Return how many candles open from `start` up to, but not at, `end`; exact but for months, where it may be a few
    more.
    """
    if end <= start:
        return 0
    return -(-(end - start) // STEP_MS[interval]) + (1 if interval == "1M" else 0)

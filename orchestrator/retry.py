"""Computes how long to wait before the next attempt."""

import random
from collections.abc import Iterator
from datetime import UTC
from email.utils import parsedate_to_datetime

import backoff

MAX_RETRY_AFTER_S = 3 * 24 * 3600.0
"""The longest ban a provider documents (Binance: three days); anything above is taken for nonsense and clamped."""


class Backoff:
    """Delays that double from `first_s` to `cap_s`, each jittered to between half and the whole of its value.

    Half is kept as a floor: with jitter from zero, a peer that accepts and closes at once would meet bursts.
    `backoff.expo` gives the sequence; its decorators are not used, because they know no injected clock and
    would shorten a Retry-After.
    """

    def __init__(self, first_s: float, cap_s: float, rng: random.Random) -> None:
        self.first_s = first_s
        self.cap_s = cap_s
        self.rng = rng
        self.attempts = 0
        self.steps = self._steps()

    def _steps(self) -> Iterator[float]:
        steps = backoff.expo(base=2, factor=self.first_s, max_value=self.cap_s)
        next(steps)  # backoff's generators want to be primed
        return steps

    def next_delay_s(self) -> float:
        """Return the delay before the next attempt, in seconds."""
        self.attempts += 1
        step = next(self.steps)
        return step / 2 + self.rng.random() * step / 2

    def reset(self) -> None:
        """Begin again with the shortest delay."""
        if self.attempts:
            self.attempts = 0
            self.steps = self._steps()


def retry_after_s(value: str | None, date: str | None, wall_ms: int) -> float | None:
    """Read a `Retry-After` header in either of its forms, as seconds from now.

    A date is counted from the response's own `Date`, so that a wrong clock on either side cancels out. Nonsense
    and negative values give None or 0; the result never exceeds MAX_RETRY_AFTER_S.

    Source: RFC 9110, section 10.2.3.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), MAX_RETRY_AFTER_S)
    then = http_date_ms(text)
    if then is None:
        return None
    base = http_date_ms(date)
    wait_s = (then - (wall_ms if base is None else base)) / 1000
    return min(max(0.0, wait_s), MAX_RETRY_AFTER_S)


def http_date_ms(text: str | None) -> int | None:
    """Read an HTTP date as Unix milliseconds; None if there is none to read. Without a zone it is UTC."""
    try:
        then = parsedate_to_datetime(text) if text else None
        if then is None:
            return None
        return int((then if then.tzinfo is not None else then.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None

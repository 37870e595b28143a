"""Keep a candle series unbroken: merge stream and backfill by open time, and publish each closed candle once.

Pure. Of the closed candles that leave here, each opens where the one before it ended. A candle that closed after a
hole waits until a backfill has looked into the hole: then the hole is filled, or reported as the exchange's own. A
candle that turns up in such a hole later is published as a correction, because the series had gone on without it.
The forming candle passes at once: charts want it, and it may change anyway.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from feeds.intervals import next_open
from feeds.model import Candle


class CandleState(StrEnum):
    """The state of a candle, in the words of the contract."""

    LIVE = "live"
    CLOSED = "closed"
    CORRECTED = "corrected"


@dataclass(frozen=True, slots=True)
class Published:
    """A candle to publish."""

    candle: Candle
    state: CandleState


@dataclass(frozen=True, slots=True)
class Gap:
    """The exchange has no candle that opens from `start` up to, but not at, `end`."""

    start: int
    end: int


Outcome = Published | Gap

FROM_REST = 0
"""The event time given to a forming candle of a backfill: every frame of the stream about the same candle is newer."""

SETTLED_MS = 1000
"""An answer must be this much younger than a candle's end for its last row to be that candle's final state: the
servers that answer may be a little behind those that trade."""

UNREADABLE_MOST = 3
"""After this many answers in a row with a row that cannot be read, what is missing counts as missing there."""


KEEP = 1000


class CandleSeries:
    """The candles of one market and interval; keeps the newest `keep` closed ones."""

    def __init__(self, interval: str, keep: int = KEEP) -> None:
        self.interval = interval
        self.keep = keep
        self.closed: list[Candle] = []
        self.live: Candle | None = None
        self.live_time = 0
        self.waiting: dict[int, Candle] = {}
        self.begun = False
        self.reached_back = False
        """Whether the exchange has given the candles before the first one that we heard of."""
        self.first_heard: int | None = None
        self.resumes_at: int | None = None
        """The open time before which the exchange has nothing more: a gap ends there, or the series begins there."""
        self.gaps: list[Gap] = []
        """The gaps that were reported, as far as they are still empty."""
        self.unreadable = 0

    def expected(self) -> int | None:
        """Return the open time of the next candle to close, None while nothing is known."""
        if not self.closed:
            return self.resumes_at
        following = next_open(self.closed[-1].open_time, self.interval)
        return following if self.resumes_at is None else max(following, self.resumes_at)

    def missing_from(self) -> int | None:
        """Return the open time at which a hole begins that a backfill should look into, None if there is none."""
        expected = self.expected()
        if expected is None:
            return None
        newest = max(self.live.open_time if self.live else 0, max(self.waiting, default=0))
        return expected if newest > expected else None

    def apply(self, candle: Candle) -> list[Outcome]:
        """Merge one candle of the stream."""
        if not self.begun and (self.first_heard is None or candle.open_time < self.first_heard):
            self.first_heard = candle.open_time
        if not candle.closed:
            return self._form(candle, candle.ts)
        if self._is_history(candle):
            outcomes = self._revise(candle)
            return outcomes + self._live_again() if outcomes else []
        self.waiting[candle.open_time] = candle
        return self._settle()

    def begin(self) -> list[Outcome]:
        """Go on without history: there is none now, and what the stream closes must not wait for it."""
        self.begun = True
        return self._settle()

    def backfill(
        self, rows: Sequence[Candle], start: int | None, as_of_ms: int | None = None, whole: bool = True
    ) -> list[Outcome]:
        """Merge an answer of the exchange: ascending rows, the last of which may still be forming.

        `start` is where the question began, None if it asked for the newest. A row is closed if the same answer has
        a newer one, the last if its time was well over when the answer was true (`as_of_ms`, by the exchange's clock).
        Otherwise only the values of the last row at the time of the answer are known: the stream may have closed that
        candle since, and is then right. The first answer becomes history without being published, except for what
        closed since the stream began, and its last closed candle: a client may have seen those forming.
        An answer that could not be read as a `whole` proves no hole, and no series begins with it.
        """
        self.unreadable = 0 if whole else self.unreadable + 1
        whole = whole or self.unreadable >= UNREADABLE_MOST
        if not rows:
            return [] if self.begun or not whole else self.begin()
        if not whole and not self.begun:
            return []
        last = rows[-1]
        is_over = as_of_ms is not None and last.close_time + SETTLED_MS < as_of_ms
        final = [replace(row, closed=True) for row in (rows if is_over else rows[:-1])]
        outcomes: list[Outcome] = []
        if not self.begun or self.expected() is None:
            self.begun = True
            # The last row too: a late answer may hold as forming what closed before the stream was heard.
            known = [last.open_time, *(row.open_time for row in final[-1:]), *self.waiting]
            say_from = min(known if self.first_heard is None else [*known, self.first_heard])
            self.closed = [row for row in final if row.open_time < say_from][-self.keep :]
            if not self.closed:
                self.resumes_at = say_from
            final = [row for row in final if row.open_time >= say_from]
        if whole and self.closed and last.open_time >= self.closed[0].open_time:
            older = [row for row in final if row.open_time < self.closed[0].open_time]
            self.closed = [*older, *self.closed][-self.keep :]
        if whole and start is None and (not self.closed or last.open_time >= self.closed[0].open_time):
            self.reached_back = True
        for row in final:
            if not self._is_history(row):
                self.waiting[row.open_time] = row
            elif row.open_time >= self.closed[0].open_time:
                outcomes += self._revise(row)
        expected = self.expected()
        looked_in = whole and expected is not None and (rows[0].open_time if start is None else start) <= expected
        settled = self._settle(looked_until=last.open_time if looked_in else 0)
        settled += self._resume(last.open_time, looked_in)
        if outcomes and not settled:
            settled = self._live_again()
        return outcomes + settled + ([] if is_over else self._form(last, FROM_REST))

    def _is_history(self, candle: Candle) -> bool:
        return bool(self.closed) and candle.open_time <= self.closed[-1].open_time

    def _form(self, candle: Candle, event_time: int) -> list[Outcome]:
        if self._is_history(candle) or candle.open_time in self.waiting:
            return []  # the candle is closed already
        live = self.live
        if live is not None:
            if candle.open_time < live.open_time:
                return []
            if candle.open_time == live.open_time:
                candle = candle.filled_from(live)
            stale = event_time < self.live_time or (candle.trades or 0) < (live.trades or 0)
            if candle.open_time == live.open_time and (stale or candle.same_values(live)):
                return []
        self.live, self.live_time = candle, event_time
        return [Published(candle, CandleState.LIVE)]

    def _revise(self, candle: Candle) -> list[Outcome]:
        """Take a closed candle again: a correction if it differs, or if it turns up where a gap was reported."""
        index = bisect_left(self.closed, candle.open_time, key=_open_time)
        if self.closed[index].open_time == candle.open_time:
            candle = candle.filled_from(self.closed[index])  # a damaged field takes back nothing
            if self.closed[index].same_values(candle):
                return []
            self.closed[index] = candle
        elif index == 0:
            return []  # older than all we keep
        else:
            self.closed.insert(index, candle)
            self.gaps = [part for gap in self.gaps for part in self._without(gap, candle.open_time)]
        return [Published(candle, CandleState.CORRECTED)]

    def _without(self, gap: Gap, open_time: int) -> list[Gap]:
        """Return what is left of a gap in which a candle has turned up."""
        if not gap.start <= open_time < gap.end:
            return [gap]
        parts = (Gap(gap.start, open_time), Gap(next_open(open_time, self.interval), gap.end))
        return [part for part in parts if part.start < part.end]

    def _lacks(self, start: int, end: int) -> Gap:
        gap = Gap(start, end)
        self.gaps.append(gap)
        return gap

    def _resume(self, newest: int, looked_in: bool) -> list[Outcome]:
        """Report a gap between the history and the newest row of an answer, if there is one."""
        expected = self.expected()
        if expected is None or not looked_in or expected >= newest:
            return []
        self.resumes_at = newest
        return [self._lacks(expected, newest)]

    def _settle(self, looked_until: int = 0) -> list[Outcome]:
        """Publish the waiting candles that continue the series; holes before `looked_until` are the exchange's own."""
        if not self.begun:
            return []  # the first backfill decides where the series begins
        outcomes: list[Outcome] = []
        for open_time in sorted(self.waiting):
            expected = self.expected()
            if expected is not None and open_time > expected:
                if open_time > looked_until:
                    break
                outcomes.append(self._lacks(expected, open_time))
            candle = self.waiting.pop(open_time)
            self.closed.append(candle)
            outcomes.append(Published(candle, CandleState.CLOSED))
        if len(self.closed) > self.keep + 100:
            del self.closed[: -self.keep]
            self.gaps = [gap for gap in self.gaps if gap.start > self.closed[0].open_time]
        if outcomes and self.live is not None and self._is_history(self.live):
            self.live = None
        return outcomes + self._live_again() if outcomes else []

    def _live_again(self) -> list[Outcome]:
        """Publish the forming candle again after older ones: a snapshot shows what was published last."""
        return [Published(self.live, CandleState.LIVE)] if self.live is not None else []


def _open_time(candle: Candle) -> int:
    return candle.open_time

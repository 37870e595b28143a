"""A fake Alternative.me: one Fear & Greed index a day, newest first, every value a string."""

from collections.abc import Callable
from datetime import UTC, datetime

import orjson

from tests.fakes.upstream import Call, FakeUpstream, Reply, wall_clock_ms

DAY_S = 24 * 3600
FIRST_DAY_S = 1_517_443_200
CALLS_IN_TEN_MINUTES = 600
DATE_FORMATS = {"us": "%m-%d-%Y", "cn": "%Y-%m-%d", "kr": "%Y-%m-%d", "world": "%d-%m-%Y"}
HTML = {"Content-Type": "text/html; charset=utf-8"}


def value_of(day_s: int) -> int:
    """Return the index of a day, which depends only on the day."""
    return 20 + day_s // DAY_S * 37 % 61


def label_of(value: int) -> str:
    """Return roughly the provider's label; it does not publish the limits."""
    labels = ((25, "Extreme Fear"), (45, "Fear"), (55, "Neutral"), (75, "Greed"))
    return next((label for below, label in labels if value < below), "Extreme Greed")


class FakeAlternativeMe(FakeUpstream):
    """Serve `GET /fng/?limit=`. `error` is put inside a 200; `days_late` leaves out the newest days."""

    def __init__(self, wall_ms: Callable[[], int] = wall_clock_ms) -> None:
        super().__init__(wall_ms)
        self.over_limit = 0
        self.error: str | None = None
        self.days_late = 0
        self.on("GET", "/fng/", self._index)
        self.on("GET", "/fng", lambda call: Reply(b"", 301, {"Location": "/fng/", **HTML}))

    def _index(self, call: Call) -> Reply:
        if sum(1 for each in self.calls if each.at > call.at - 600) > CALLS_IN_TEN_MINUTES:
            self.over_limit += 1
            return Reply(b"Too Many Requests", 429, HTML)
        if self.error is not None:
            return self._body([], self.error)
        limit = call.query.get("limit", "1")
        if not limit.isdigit():
            return self._body([], "Invalid limit.")
        now_s = self.wall_ms() // 1000
        newest_s = now_s - now_s % DAY_S - self.days_late * DAY_S
        wanted = int(limit) or (newest_s - FIRST_DAY_S) // DAY_S + 1
        days = [newest_s - back * DAY_S for back in range(wanted) if newest_s - back * DAY_S >= FIRST_DAY_S]
        rows = [self._row(day_s, call.query.get("date_format")) for day_s in days]
        rows[0]["time_until_update"] = str(max(0, newest_s + DAY_S - now_s))
        return self._body(rows, None)

    def _row(self, day_s: int, date_format: str | None) -> dict[str, str]:
        value = value_of(day_s)
        pattern = DATE_FORMATS.get(date_format or "")
        stamp = str(day_s) if pattern is None else datetime.fromtimestamp(day_s, UTC).strftime(pattern)
        return {"value": str(value), "value_classification": label_of(value), "timestamp": stamp}

    def _body(self, rows: list[dict[str, str]], error: str | None) -> Reply:
        body = {"name": "Fear and Greed Index", "data": rows, "metadata": {"error": error}}
        return Reply(orjson.dumps(body, option=orjson.OPT_INDENT_2))

"""The history of one client, checked against docs/protocol.md message by message, and against other clients.

Pure, and small however long a soak lasts: it keeps the numbers of log events and only the newest values.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

FINDINGS_KEPT = 20
MINUTE_MS = 60_000
STEP_MS = {"1m": MINUTE_MS, "3m": 3 * MINUTE_MS, "5m": 5 * MINUTE_MS, "15m": 15 * MINUTE_MS, "30m": 30 * MINUTE_MS}
STEP_MS |= {"1h": 60 * MINUTE_MS, "4h": 240 * MINUTE_MS, "1d": 1440 * MINUTE_MS}

Message = Mapping[str, Any]


def matches(selectors: Iterable[str], topic: str) -> bool:
    """Whether a topic is one of these names or matches one of the patterns."""
    return any(_matches(selector.split("."), topic.split(".")) for selector in selectors)


def _matches(selector: Sequence[str], topic: Sequence[str]) -> bool:
    if selector and selector[-1] == ">":
        kept = selector[:-1]
        return len(topic) > len(kept) and _matches(kept, topic[: len(kept)])
    return len(selector) == len(topic) and all(part in ("*", name) for part, name in zip(selector, topic, strict=True))


def is_log(message: Message) -> bool:
    """Whether an update is a log event, which no later update replaces."""
    return message["topic"] == "news" or bool(message["data"].get("closed", False))


def number_of(event_id: str) -> tuple[str, int]:
    """Return the epoch and the number of an id."""
    epoch, _, number = event_id.rpartition("-")
    return epoch, int(number)


@dataclass(slots=True)
class Candles:
    """The newest closed candle of a series that a client has received."""

    open_ms: int | None = None
    number: int = 0
    excused: bool = True
    """Whether a hole may follow: the series has just begun, or a `gap` announced it."""


@dataclass(slots=True)
class History:
    """One client and all its connections. `findings` are sentences; a well-served client has none."""

    name: str
    topics: tuple[str, ...]
    findings: list[str] = field(default_factory=list)
    found: int = 0
    position: str | None = None
    """The cursor for the next connection."""
    spans: list[tuple[int, int]] = field(default_factory=list)
    """Ranges of numbers, without the first, in which the client should have every log event."""
    logs: dict[str, list[int]] = field(default_factory=dict)
    newest: dict[str, int] = field(default_factory=dict)
    closed: dict[str, dict[int, Message]] = field(default_factory=dict)
    """The newest data of closed candles, by topic and open time."""
    counts: Counter[str] = field(default_factory=Counter)
    """Counts of messages by type, resumes by outcome, goodbyes by code."""
    epoch: str | None = None
    is_live: bool = False
    _since: int | None = None
    _resumed: bool = False
    _broken: bool = True
    """Whether the snapshot of a first or failed resume is still incomplete."""
    _last: int = 0
    _owed: int | None = None
    _candles: dict[str, Candles] = field(default_factory=dict)

    def wrong(self, what: str) -> None:
        """Record a finding."""
        self.found += 1
        if len(self.findings) < FINDINGS_KEPT:
            self.findings.append(f"{self.name}: {what}")

    def begin(self) -> str | None:
        """Start a new connection and return its cursor."""
        self._since = None if self.position is None else number_of(self.position)[1]
        self._resumed = self.is_live = False
        if self._broken:  # the last connection ended before every gap was announced
            for series in self._candles.values():
                series.excused = True
        self._last, self._owed = 0, None
        self.counts["connections"] += 1
        return self.position

    def end(self) -> None:
        """End the connection."""
        self.is_live = False

    def take(self, message: Message) -> None:
        """Check and record the next message."""
        kind = str(message["type"])
        self.counts[kind] += 1
        match kind:
            case "hello":
                self._hello(str(message["epoch"]))
            case "subscribed":
                self._subscribed(message)
            case "update":
                self._update(message)
            case "synced" | "pos":
                self._positioned(kind, str(message["id"]))
            case "gap":
                self._candles.setdefault(str(message["topic"]), Candles()).excused = True
                self.counts[f"gap:{message['reason']}"] += 1
            case "error":
                self.wrong(f"was refused: {message}")
            case "goodbye":
                self.counts[f"goodbye:{message['code']}"] += 1

    def _hello(self, epoch: str) -> None:
        if self.epoch not in (None, epoch):
            self.wrong(f"epoch {epoch} after {self.epoch}, of a service that was not restarted")
        self.epoch = epoch

    def _subscribed(self, message: Message) -> None:
        self._resumed, reason = bool(message["resumed"]), message["reason"]
        self._broken = self._broken or not self._resumed
        self.counts["resumed" if self._resumed else f"not resumed:{reason}"] += 1
        self._owed = int(message["count"])
        if self._since is not None and not self._resumed and reason != "evicted":
            self.wrong(f"was not resumed after {self.position}: {reason}")
        if self._since is None and reason != "no_cursor":
            self.wrong(f"connected without a cursor and got reason {reason}")

    def _update(self, message: Message) -> None:
        topic, (epoch, number) = str(message["topic"]), number_of(str(message["id"]))
        if epoch != self.epoch:
            self.wrong(f"{message['id']} in epoch {self.epoch}")
        if number <= self._last:
            self.wrong(f"{topic}: {message['id']} came after number {self._last}")
        if self._resumed and self._since is not None and number <= self._since:
            self.wrong(f"{topic}: {message['id']} was sent again after a resume at {self._since}")
        if not matches(self.topics, topic):
            self.wrong(f"{topic} came without a subscription")
        if self._owed is not None:
            self._owed -= 1
        self._last = number
        self.newest[topic] = number
        if is_log(message):
            self.logs.setdefault(topic, []).append(number)
        if topic.startswith("ohlcv.") and message["data"]["closed"]:
            self._candle(topic, number, message["data"])
        self._moved(str(message["id"]), number)

    def _candle(self, topic: str, number: int, data: Message) -> None:
        open_ms = int(data["open_time"])
        self.closed.setdefault(topic, {})[open_ms] = data
        if data["state"] == "corrected":
            return
        series = self._candles.setdefault(topic, Candles())
        if series.open_ms is not None and number != series.number:  # a snapshot repeats the last candle
            due_ms = series.open_ms + STEP_MS[topic.rpartition(".")[2]]
            if open_ms <= series.open_ms:
                self.wrong(f"{topic}: {open_ms} closed after {series.open_ms}")
            elif open_ms != due_ms and not series.excused:
                self.wrong(f"{topic}: {open_ms} closed where {due_ms} was due, without a gap")
        series.open_ms, series.number, series.excused = open_ms, number, False

    def _positioned(self, kind: str, event_id: str) -> None:
        number = number_of(event_id)[1]
        if number < self._last:
            self.wrong(f"{kind} at {event_id} after number {self._last}")
        if kind == "synced":
            if self._owed not in (None, 0):
                self.wrong(f"{self._owed} promised values did not come before synced")
            self._owed = None
            if self._broken:
                self.spans.append((number, number))
            self._broken, self.is_live = False, True
        self._moved(event_id, number)

    def _moved(self, event_id: str, number: int) -> None:
        self.position = event_id
        if not self._broken:
            self.spans[-1] = (self.spans[-1][0], max(number, self.spans[-1][1]))


def missing(histories: Sequence[History]) -> list[str]:
    """Find log events that one client received and another, subscribed at that time, did not."""
    sent: dict[str, set[int]] = {}
    for history in histories:
        for topic, numbers in history.logs.items():
            sent.setdefault(topic, set()).update(numbers)
    found = []
    for topic, everything in sent.items():
        ordered = sorted(everything)
        for history in histories:
            if not matches(history.topics, topic):
                continue
            received = set(history.logs.get(topic, ()))
            for start, end in history.spans:
                due = ordered[bisect_right(ordered, start) : bisect_right(ordered, end)]
                lost = [number for number in due if number not in received]
                if lost:
                    found.append(f"{history.name}: {topic}: never received {lost[:5]} ({len(lost)} in all)")
    return found


def behind(histories: Sequence[History], up_to: int) -> list[str]:
    """Find connected clients whose newest value of a topic is older than the newest one up to a number.

    Call it with quick clients only, when they had time to receive everything up to that number.
    """
    newest: dict[str, int] = {}
    for history in histories:
        for topic, number in history.newest.items():
            if number <= up_to:
                newest[topic] = max(number, newest.get(topic, 0))
    return [
        f"{history.name}: {topic}: has {history.newest.get(topic)}, the newest is {number}"
        for topic, number in newest.items()
        for history in histories
        if history.is_live and matches(history.topics, topic) and history.newest.get(topic, 0) < number
    ]

"""Tests of the chaos checker with histories written by hand: it finds each fault of a service, and only faults."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from tests.chaos.checker import Expected, findings
from tests.chaos.clients import Message, Transcript, Visit

TOPIC = "ohlcv.BTC.1m"
TTL_MS = 10_000
MINUTE = 60_000
START = 1_795_305_600_000


def candle(minute: int, close: float = 1.0, state: str = "closed") -> dict[str, Any]:
    return {"open_time": START + minute * MINUTE, "close": close, "closed": state != "live", "state": state}


TRUTH = {TOPIC: {START + minute * MINUTE: orjson.dumps(candle(minute)) for minute in range(5)}}


class Timeline:
    """Build a client's transcript message by message. Time passes only in `later`."""

    def __init__(self, name: str = "steady ws", restless: bool = False) -> None:
        self.transcript = Transcript(name, (TOPIC, "price.BTC"), restless)
        self.at_ms = START
        self.seq = 0
        self.epoch = "e1"

    def later(self, ms: int) -> "Timeline":
        self.at_ms += ms
        return self

    def receive(self, **message: Any) -> "Timeline":
        text = orjson.dumps(message)
        self.transcript.visits[-1].messages.append(Message(self.at_ms, text, message))
        return self

    def visit(self, resumed: bool = False, reason: str | None = None) -> "Timeline":
        since = self.transcript.position
        if self.transcript.visits:
            self.transcript.visits[-1].is_open = False
        self.transcript.visits.append(Visit(since))
        self.receive(type="hello", epoch=self.epoch)
        return self.receive(type="subscribed", resumed=resumed, reason=reason)

    def synced(self) -> "Timeline":
        return self.receive(type="synced", id=f"{self.epoch}-{self.seq}")

    def price(self, received: int | None = None, seq: int | None = None) -> "Timeline":
        return self.update("price.BTC", {"price": 1.0}, received, seq)

    def update(
        self, topic: str, data: dict[str, Any], received: int | None = None, seq: int | None = None
    ) -> "Timeline":
        self.seq = self.seq + 1 if seq is None else seq
        received = self.at_ms if received is None else received
        return self.receive(
            type="update", topic=topic, id=f"{self.epoch}-{self.seq}", ts=received, received=received, data=data
        )

    def closed(self, minute: int, **changes: Any) -> "Timeline":
        data = candle(minute, **changes)
        self.update(TOPIC, data)
        self.transcript.closed.setdefault(TOPIC, {})[data["open_time"]] = orjson.dumps(data)
        return self

    def asked(self, *minutes: int) -> "Timeline":
        """Add candles that were fetched by REST."""
        for minute in minutes:
            self.transcript.closed.setdefault(TOPIC, {})[START + minute * MINUTE] = orjson.dumps(candle(minute))
        return self

    def ended(self) -> "Timeline":
        self.transcript.visits[-1].is_open = False
        return self


def findings_of(*stories: Timeline) -> list[str]:
    return findings([timeline.transcript for timeline in stories], Expected(TRUTH, TTL_MS, START + 5 * MINUTE))


def holding_all_but(*missing: int) -> Timeline:
    """Return a transcript of one connection with all candles but these."""
    timeline = Timeline().visit().synced()
    for minute in range(5):
        if minute not in missing:
            timeline.closed(minute)
    return timeline.ended()


def again() -> Timeline:
    """Return the flawless transcript, connected once more."""
    return good().visit(resumed=True)


def good() -> Timeline:
    """Return a transcript of two connections with each candle once."""
    timeline = Timeline().visit(reason="no_cursor").synced().closed(0).closed(1).closed(2).visit(resumed=True)
    return timeline.closed(3).synced().closed(4).ended()


def test_a_flawless_history_has_no_findings() -> None:
    assert findings_of(good()) == []


def away_after(minutes: int) -> Timeline:
    """Return the transcript of a restless client that left after so many minutes and has the first candle."""
    timeline = Timeline("restless ws", restless=True).visit().synced().later(MINUTE).closed(0)
    return timeline.later((minutes - 1) * MINUTE).price().ended()


def test_a_restless_client_needs_only_the_candles_that_closed_while_it_was_connected() -> None:
    assert findings_of(away_after(1)) == []
    assert any("has nothing after" in each for each in findings_of(away_after(4)))


BROKEN: dict[str, tuple[Callable[[], Timeline], str]] = {
    "a hole": (lambda: Timeline().visit().synced().closed(0).closed(2).asked(1, 3, 4).ended(), "without a gap"),
    "a hole that stays": (lambda: holding_all_but(2), "lacks the candle"),
    "an early end": (lambda: Timeline().visit().synced().closed(0).closed(1).ended(), "has nothing after"),
    "nothing at all": (lambda: Timeline().visit().synced().ended(), "no closed candle"),
    "a double": (lambda: again().synced().closed(4).ended(), "and again as"),
    "an untruth": (lambda: Timeline().visit().synced().closed(0, close=2.0).asked(1, 2, 3, 4).ended(), "true is"),
    "an untrue correction": (lambda: good().closed(3, close=2.0, state="corrected").asked(3), "true is"),
    "an id that falls": (lambda: again().price(seq=90).price(seq=89).synced().ended(), "after e1-90"),
    "an id of another epoch": (
        lambda: again().synced().receive(type="update", topic="status", id="e9-1", data={}).ended(),
        "on a connection of epoch",
    ),
    "a refused position": (lambda: good().visit(resumed=False, reason="evicted").synced().ended(), "resumed=False"),
    "a repetition": (lambda: again().price(seq=1).synced().ended(), "sent again after a resume"),
    "an error": (lambda: again().synced().receive(type="error", code="x").ended(), "received {"),
    "a value without stale": (lambda: again().synced().price().later(20_000).price().ended(), "and no stale"),
    "no stale until the end": (lambda: again().synced().price(), "and no stale"),
    "old as new in a snapshot": (
        lambda: again().price(received=START - 20_000).synced().ended(),
        "and no stale",
    ),
    "fresh without stale": (
        lambda: again().synced().receive(type="fresh", topic="price.BTC").ended(),
        "without having been stale",
    ),
    "stale without fresh": (
        lambda: again().synced().receive(type="stale", topic="price.BTC").price().price().ended(),
        "without fresh",
    ),
    "an invented gap": (
        lambda: again().synced().receive(
            type="gap", topic=TOPIC, reason="upstream", **{"from": START + MINUTE, "to": START + 2 * MINUTE}
        ).ended(),
        "where the exchange has 1 candles",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_each_fault_of_a_service_is_found(name: str) -> None:
    build, expected = BROKEN[name]
    found = findings_of(build())
    assert [finding for finding in found if expected in finding], found
    assert len(found) <= 2, found


def test_events_that_explain_each_other_are_not_findings() -> None:
    restarted = Timeline().visit().synced().closed(0).closed(1)
    restarted.epoch, restarted.seq = "e2", 0
    restarted.visit(reason="epoch").receive(type="gap", topic=TOPIC, reason="epoch", **{"from": "e1-2", "to": "e2-1"})
    restarted.closed(3).synced().asked(2).closed(4).ended()
    assert findings_of(restarted) == []
    aged = again().synced().price().later(10_200)
    aged.receive(type="stale", topic="price.BTC").receive(type="stale", topic=TOPIC)
    aged.later(30_000).price().receive(type="fresh", topic="price.BTC").ended()
    assert findings_of(aged) == []
    assert findings_of(good().closed(4, state="corrected").ended()) == [], (
        "a candle sent twice is marked as a correction"
    )


def test_the_checker_finds_clients_that_received_different_or_too_few_messages() -> None:
    other = good()
    other.transcript.name = "steady sse"
    assert findings_of(good(), other) == []
    changed = other.transcript.visits[0].messages[3]
    other.transcript.visits[0].messages[3] = Message(changed.at_ms, changed.text + b" ", changed.fields)
    assert [finding for finding in findings_of(good(), other) if "received different messages as e1-1" in finding]

    deaf = good()
    deaf.transcript.name = "steady sse"
    del deaf.transcript.visits[0].messages[4]
    assert "steady sse never received e1-2, which steady ws received" in findings_of(good(), deaf)

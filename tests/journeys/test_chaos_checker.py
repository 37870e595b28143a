"""What the checker of chaos finds in histories made by hand: each fault of a service, and nothing but faults."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from tests.chaos.checker import Expected, findings
from tests.chaos.clients import Heard, Told, Visit

TOPIC = "ohlcv.BTC.1m"
TTL_MS = 10_000
MINUTE = 60_000
START = 1_795_305_600_000


def candle(minute: int, close: float = 1.0, state: str = "closed") -> dict[str, Any]:
    return {"open_time": START + minute * MINUTE, "close": close, "closed": state != "live", "state": state}


TRUTH = {TOPIC: {START + minute * MINUTE: orjson.dumps(candle(minute)) for minute in range(5)}}


class Story:
    """A client's life, told line by line. Time passes where it is said to."""

    def __init__(self, name: str = "steady ws", restless: bool = False) -> None:
        self.told = Told(name, (TOPIC, "price.BTC"), restless)
        self.at_ms = START
        self.seq = 0
        self.epoch = "e1"

    def later(self, ms: int) -> "Story":
        self.at_ms += ms
        return self

    def hear(self, **message: Any) -> "Story":
        text = orjson.dumps(message)
        self.told.visits[-1].heard.append(Heard(self.at_ms, text, message))
        return self

    def visit(self, resumed: bool = False, reason: str | None = None) -> "Story":
        since = self.told.position
        if self.told.visits:
            self.told.visits[-1].is_open = False
        self.told.visits.append(Visit(since))
        self.hear(type="hello", epoch=self.epoch)
        return self.hear(type="subscribed", resumed=resumed, reason=reason)

    def synced(self) -> "Story":
        return self.hear(type="synced", id=f"{self.epoch}-{self.seq}")

    def price(self, received: int | None = None, seq: int | None = None) -> "Story":
        return self.update("price.BTC", {"price": 1.0}, received, seq)

    def update(self, topic: str, data: dict[str, Any], received: int | None = None, seq: int | None = None) -> "Story":
        self.seq = self.seq + 1 if seq is None else seq
        received = self.at_ms if received is None else received
        return self.hear(
            type="update", topic=topic, id=f"{self.epoch}-{self.seq}", ts=received, received=received, data=data
        )

    def closed(self, minute: int, **changes: Any) -> "Story":
        data = candle(minute, **changes)
        self.update(TOPIC, data)
        self.told.closed.setdefault(TOPIC, {})[data["open_time"]] = orjson.dumps(data)
        return self

    def asked(self, *minutes: int) -> "Story":
        """Fill the series from REST."""
        for minute in minutes:
            self.told.closed.setdefault(TOPIC, {})[START + minute * MINUTE] = orjson.dumps(candle(minute))
        return self

    def ended(self) -> "Story":
        self.told.visits[-1].is_open = False
        return self


def findings_of(*stories: Story) -> list[str]:
    return findings([story.told for story in stories], Expected(TRUTH, TTL_MS, START + 5 * MINUTE))


def holding_all_but(*missing: int) -> Story:
    """All candles but these, over one connection."""
    story = Story().visit().synced()
    for minute in range(5):
        if minute not in missing:
            story.closed(minute)
    return story.ended()


def again() -> Story:
    """The flawless one, connected once more."""
    return good().visit(resumed=True)


def good() -> Story:
    """All candles, each once, over two connections."""
    story = Story().visit(reason="no_cursor").synced().closed(0).closed(1).closed(2).visit(resumed=True)
    return story.closed(3).synced().closed(4).ended()


def test_a_flawless_history_has_no_findings() -> None:
    assert findings_of(good()) == []


def away_after(minutes: int) -> Story:
    """A restless client that left for good so many minutes after the start, and holds the first candle."""
    story = Story("restless ws", restless=True).visit().synced().later(MINUTE).closed(0)
    return story.later((minutes - 1) * MINUTE).price().ended()


def test_a_restless_client_holds_what_closed_while_it_was_there_and_no_more() -> None:
    assert findings_of(away_after(1)) == []
    assert any("holds nothing after" in each for each in findings_of(away_after(4)))


BROKEN: dict[str, tuple[Callable[[], Story], str]] = {
    "a hole": (lambda: Story().visit().synced().closed(0).closed(2).asked(1, 3, 4).ended(), "without a gap"),
    "a hole that stays": (lambda: holding_all_but(2), "holds no candle"),
    "an early end": (lambda: Story().visit().synced().closed(0).closed(1).ended(), "holds nothing after"),
    "nothing at all": (lambda: Story().visit().synced().ended(), "not one closed candle"),
    "a double": (lambda: again().synced().closed(4).ended(), "and again as"),
    "an untruth": (lambda: Story().visit().synced().closed(0, close=2.0).asked(1, 2, 3, 4).ended(), "true is"),
    "an untrue correction": (lambda: good().closed(3, close=2.0, state="corrected").asked(3), "true is"),
    "an id that falls": (lambda: again().price(seq=90).price(seq=89).synced().ended(), "after e1-90"),
    "an id of another epoch": (
        lambda: again().synced().hear(type="update", topic="status", id="e9-1", data={}).ended(),
        "on a connection of epoch",
    ),
    "a refused position": (lambda: good().visit(resumed=False, reason="evicted").synced().ended(), "resumed=False"),
    "a repetition": (lambda: again().price(seq=1).synced().ended(), "told again after a resume"),
    "an error": (lambda: again().synced().hear(type="error", code="x").ended(), "was told"),
    "silence on age": (lambda: again().synced().price().later(20_000).price().ended(), "and no stale"),
    "silence to the end": (lambda: again().synced().price(), "and no stale"),
    "old as new in a snapshot": (
        lambda: again().price(received=START - 20_000).synced().ended(),
        "and no stale",
    ),
    "fresh without stale": (
        lambda: again().synced().hear(type="fresh", topic="price.BTC").ended(),
        "without having been stale",
    ),
    "stale without fresh": (
        lambda: again().synced().hear(type="stale", topic="price.BTC").price().price().ended(),
        "without fresh",
    ),
    "an invented gap": (
        lambda: again().synced().hear(
            type="gap", topic=TOPIC, reason="upstream", **{"from": START + MINUTE, "to": START + 2 * MINUTE}
        ).ended(),
        "where the exchange has 1 candles",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_each_fault_of_a_service_is_found(name: str) -> None:
    tell, says = BROKEN[name]
    found = findings_of(tell())
    assert [finding for finding in found if says in finding], found
    assert len(found) <= 2, found


def test_what_is_explained_is_no_finding() -> None:
    restarted = Story().visit().synced().closed(0).closed(1)
    restarted.epoch, restarted.seq = "e2", 0
    restarted.visit(reason="epoch").hear(type="gap", topic=TOPIC, reason="epoch", **{"from": "e1-2", "to": "e2-1"})
    restarted.closed(3).synced().asked(2).closed(4).ended()
    assert findings_of(restarted) == []
    aged = again().synced().price().later(10_200)
    aged.hear(type="stale", topic="price.BTC").hear(type="stale", topic=TOPIC)
    aged.later(30_000).price().hear(type="fresh", topic="price.BTC").ended()
    assert findings_of(aged) == []
    assert findings_of(good().closed(4, state="corrected").ended()) == [], "a candle that is said again is marked so"


def test_clients_that_were_told_different_things_or_not_everything_are_found() -> None:
    other = good()
    other.told.name = "steady sse"
    assert findings_of(good(), other) == []
    changed = other.told.visits[0].heard[3]
    other.told.visits[0].heard[3] = Heard(changed.at_ms, changed.text + b" ", changed.message)
    assert [finding for finding in findings_of(good(), other) if "told different things as e1-1" in finding]

    deaf = good()
    deaf.told.name = "steady sse"
    del deaf.told.visits[0].heard[4]
    assert "steady sse never heard e1-2, which steady ws did" in findings_of(good(), deaf)

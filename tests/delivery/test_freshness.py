"""Tests of freshness: which values become stale and fresh, when, and how often that is announced."""

from collections.abc import Sequence

import orjson
import pytest

from feeds.model import Event
from stream_server.delivery.freshness import Freshness
from stream_server.delivery.topic_history import TopicHistory
from stream_server.wire import messages
from stream_server.wire.messages import Frame
from tests.fakes.clock import ManualClock

TTL_S = 10.0


class Watch:
    """A `Freshness` on a clock that the test turns, and what it announces."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.announced: list[tuple[str, str, str]] = []
        self.freshness = Freshness(self.clock, self._announce)
        self.topics: dict[str, TopicHistory] = {}

    def _announce(self, topic: str, frame: Frame) -> None:
        body = orjson.loads(frame.json)
        self.announced.append((topic, body["type"], body["reason"]))

    def take(self) -> list[tuple[str, str, str]]:
        announced, self.announced = self.announced, []
        return announced

    def update(self, name: str, waited_s: float = 0.0, ttl_s: float | None = TTL_S) -> TopicHistory:
        """Let a topic have a value that was received some time ago, as the hub does."""
        topic = self.topics.setdefault(name, TopicHistory.new(name, 5, ttl_s, 0))
        event = Event(name, 1, 1, "binance", {})
        topic.append(messages.update(event, "e-1", 1), event, self.clock.now() - waited_s)
        if not self.freshness.renew(topic, waited_s):
            self.freshness.outlive(topic)
        elif topic.stale:
            self.freshness.make_fresh(topic)
        return topic

    def expire_after(self, seconds: float) -> list[tuple[str, str, str]]:
        self.clock.advance(seconds)
        self.freshness.expire()
        return self.take()


def test_a_value_is_stale_once_its_time_is_over_and_not_before() -> None:
    watch = Watch()
    watch.update("price.A")
    assert watch.expire_after(TTL_S - 0.1) == []
    assert watch.expire_after(0.1) == [("price.A", "stale", "no_update")]
    assert watch.expire_after(TTL_S) == [], "that is announced once"


def test_a_new_value_begins_its_time_again_and_makes_a_stale_topic_fresh() -> None:
    watch = Watch()
    watch.update("price.A")
    watch.expire_after(6.0)
    watch.update("price.A")
    assert watch.expire_after(6.0) == []
    watch.expire_after(6.0)
    watch.update("price.A")
    assert watch.take() == [("price.A", "fresh", "update")]


def test_a_value_without_a_time_never_goes_stale() -> None:
    watch = Watch()
    watch.update("news", ttl_s=None)
    assert watch.expire_after(1e6) == []


@pytest.mark.parametrize(
    ("waited_s", "stale_at_once"), [(0.0, False), (TTL_S - 0.1, False), (TTL_S, True), (1e6, True)]
)
def test_a_value_that_waited_for_longer_than_its_time_is_stale_from_the_start(
    waited_s: float, stale_at_once: bool
) -> None:
    watch = Watch()
    assert watch.update("price.A", waited_s).stale is stale_at_once
    assert bool(watch.take()) is stale_at_once


@pytest.mark.parametrize("waits_s", [(0.0, 9.0, 5.0), (9.0, 5.0, 0.0), (5.0, 0.0, 9.0)])
def test_values_that_waited_expire_by_when_they_were_received(waits_s: Sequence[float]) -> None:
    watch = Watch()
    for number, waited_s in enumerate(waits_s):
        watch.update(f"price.{number}", waited_s)
    expired = [[topic for topic, _, _ in watch.expire_after(seconds)] for seconds in (1.0, 4.0, 5.0)]
    assert expired == [[f"price.{waits_s.index(waited_s)}"] for waited_s in (9.0, 5.0, 0.0)]


def test_each_reason_is_announced_once_and_outliving_keeps_the_reason_that_is_known() -> None:
    watch = Watch()
    topic = watch.update("price.A")
    for _ in range(2):
        watch.freshness.make_stale(topic, "no_matching_source")
    assert watch.take() == [("price.A", "stale", "no_matching_source")]
    assert watch.expire_after(TTL_S) == []
    watch.freshness.make_stale(topic, "source_silent")
    assert watch.take() == [("price.A", "stale", "source_silent")]


def test_a_topic_that_was_forgotten_does_not_expire() -> None:
    watch = Watch()
    watch.freshness.forget(watch.update("price.A"))
    assert watch.expire_after(TTL_S) == []


def test_the_age_in_a_message_is_null_for_a_topic_without_a_value() -> None:
    watch = Watch()
    silent = TopicHistory.new("price.A", 5, TTL_S, 0)
    assert orjson.loads(watch.freshness.message(silent, "stale", "no_update").json)["age_ms"] is None
    topic = watch.update("price.B")
    watch.clock.advance(2.0)
    assert orjson.loads(watch.freshness.message(topic, "stale", "no_update").json)["age_ms"] == 2000

"""Tests of interest: which topics the feeds are asked for, once for all clients that name them."""

from stream_server.delivery.interest import Interest
from tests.fakes.clock import ManualClock
from tests.fakes.pipe import FakeDemand

IDLE_S = 60.0


class Rig:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.demand = FakeDemand()
        self.listened: set[str] = set()
        self.interest = Interest(self.clock, self.demand, IDLE_S, lambda topic: topic in self.listened)

    def name(self, topic: str) -> bool:
        """Let one more client name a topic; return whether the feeds have to bring it again."""
        again = self.interest.gain(topic)
        self.interest.want(topic)
        return again


def test_only_the_first_client_asks_the_feeds_for_a_topic() -> None:
    rig = Rig()
    assert [rig.name("news") for _ in range(3)] == [True, False, False]
    assert rig.demand.wanted == ["news"]


def test_a_topic_is_idle_when_the_last_client_has_left_and_dropped_after_a_while() -> None:
    rig = Rig()
    rig.demand.brought = {"news"}
    for _ in range(2):
        rig.name("news")
    rig.interest.lose(["news"])
    rig.clock.advance(2 * IDLE_S)
    assert rig.interest.drop_idle(rig.clock.now()) == [], "one client is left"
    rig.interest.lose(["news"])
    rig.clock.advance(IDLE_S - 1)
    assert rig.interest.drop_idle(rig.clock.now()) == []
    rig.clock.advance(1)
    assert rig.interest.drop_idle(rig.clock.now()) == ["news"]
    assert rig.demand.dropped == ["news"]
    assert not rig.interest.idle_since


def test_a_client_that_comes_back_in_time_keeps_an_idle_topic_as_it_is() -> None:
    rig = Rig()
    rig.name("news")
    rig.interest.lose(["news"])
    rig.clock.advance(IDLE_S - 1)
    assert not rig.name("news"), "it was never dropped"
    rig.clock.advance(IDLE_S)
    assert rig.interest.drop_idle(rig.clock.now()) == []


def test_a_topic_to_which_somebody_listens_by_a_pattern_is_not_dropped() -> None:
    rig = Rig()
    rig.demand.brought = rig.listened = {"price.A"}
    rig.name("price.A")
    rig.interest.lose(["price.A"])
    rig.clock.advance(2 * IDLE_S)
    assert rig.interest.drop_idle(rig.clock.now()) == []
    rig.listened = set()
    assert rig.interest.drop_idle(rig.clock.now()) == ["price.A"]


def test_a_topic_that_the_feeds_bring_anyway_is_asked_about_once_and_stays() -> None:
    rig = Rig()
    rig.name("price.A")
    rig.interest.lose(["price.A"])
    for _ in range(2):
        rig.clock.advance(IDLE_S)
        assert rig.interest.drop_idle(rig.clock.now()) == []
    assert rig.demand.dropped == ["price.A"]


def test_losing_a_topic_that_nobody_named_is_nothing() -> None:
    rig = Rig()
    rig.interest.lose(["price.*", "news"])
    assert (rig.interest.counts, rig.interest.idle_since) == ({}, {})

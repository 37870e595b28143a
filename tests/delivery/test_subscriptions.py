"""The answers to `subscribe` and `unsubscribe`: what they hold, and what they count. See `test_hub.py` for more."""

from collections.abc import Iterable

import pytest

from tests.fakes.pipe import FakeDemand, HubRig


def test_the_selectors_of_an_answer_are_added_to_the_selection() -> None:
    rig = HubRig()
    client = rig.client()
    client.subscribe("price.A", req=7)
    client.subscribe("price.B", interval_ms=500)
    assert rig.hub.members.selection_of(client.outbox) == {"price.A": 0, "price.B": 500}
    first, _, second, _ = client.take()
    assert (first["topics"], first["req"]) == (["price.A"], 7)
    assert second["topics"] == ["price.B"] and "req" not in second


def test_an_answer_counts_the_values_it_brings_and_not_its_other_messages() -> None:
    rig = HubRig(ttl_s=10.0)
    rig.publish("price.A")
    rig.publish("price.B")
    rig.pass_time(11)
    client = rig.client()
    client.subscribe("price.*")
    answer = client.take()
    assert [message["type"] for message in answer] == ["subscribed", "update", "update", "stale", "stale", "synced"]
    assert answer[0]["count"] == 2


@pytest.mark.parametrize(
    ("since", "outcome"),
    [(None, {}), ("earliest", {}), ("e1-1", {"resumed": 1}), ("e0-1", {"epoch": 1}), ("x", {"bad_cursor": 1})],
)
def test_the_outcome_of_a_cursor_is_counted_and_a_subscription_without_one_is_not(
    since: str | None, outcome: dict[str, int]
) -> None:
    rig = HubRig()
    rig.publish("news", log=True)
    rig.client().subscribe("news", since=since)
    assert rig.hub.resumes == outcome


def test_a_gap_is_counted_once_for_each_client_and_topic() -> None:
    rig = HubRig()
    rig.publish("news", log=True)
    for _ in range(2):
        client = rig.client()
        client.subscribe("news", "ohlcv.A.1m", "price.A", since="e0-5")
        assert [message["topic"] for message in client.pipe.of_type("gap")] == ["news", "ohlcv.A.1m"]
    assert rig.hub.gaps == {"epoch": 4}


def test_a_new_name_that_a_pattern_of_before_covers_brings_no_gap() -> None:
    rig = HubRig()
    client = rig.client()
    client.subscribe("ohlcv.>", since="e0-5")
    client.subscribe("ohlcv.A.1m", "news", since="e0-5")
    assert [message["topic"] for message in client.pipe.of_type("gap")] == ["news"]


class FullDemand(FakeDemand):
    """Feeds that start none of the candles."""

    def charge(self, topics: Iterable[str], account: str) -> list[str]:
        return [topic for topic in topics if topic.startswith("ohlcv.")]


def test_topics_that_may_not_be_started_are_named_in_an_error_and_the_others_subscribed() -> None:
    rig = HubRig()
    rig.demand = rig.hub.interest.demand = FullDemand()
    client = rig.client()
    client.subscribe("ohlcv.A.1m", "price.A", "ohlcv.B.1m")
    error, subscribed, _ = client.take()
    assert (error["type"], error["code"]) == ("error", "demand_limit")
    assert error["topics"] == ["ohlcv.A.1m", "ohlcv.B.1m"]
    assert subscribed["topics"] == ["price.A"]
    assert rig.demand.wanted == ["price.A"]


def test_unsubscribing_returns_what_was_selected_each_once() -> None:
    rig = HubRig()
    client = rig.listener("price.A", "news")
    assert rig.hub.unsubscribe(client.outbox, ["news", "news", "price.B"]) == ["news"]
    assert rig.hub.unsubscribe(client.outbox, ["news"]) == []
    assert rig.hub.members.selection_of(client.outbox) == {"price.A": 0}
    assert list(rig.hub.interest.idle_since) == ["news"]

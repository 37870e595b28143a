"""Tests of the topics that are known, and of those that are forgotten once no feed brings them."""

import pytest

from feeds.model import Event
from stream_server.delivery.groups import Groups
from stream_server.delivery.policy import HubPolicy
from stream_server.delivery.topic_history import TopicHistory
from stream_server.delivery.topic_store import DROPPED_KEPT, TopicStore
from stream_server.wire import messages
from stream_server.wire.messages import Wire


def new_store() -> TopicStore:
    policy = HubPolicy(lambda name: 10.0 if name.startswith("price.") else None, ring_events=3)
    return TopicStore(policy, Groups(lambda group, interval_ms: None))


def publish(store: TopicStore, name: str, seq: int, *, log: bool = False) -> TopicHistory:
    topic = store.of(name)
    event = Event(name, 1, 1, "binance", {}, log)
    topic.append(messages.update(event, f"e1-{seq}", seq), event, 0.0)
    return topic


def test_a_topic_has_one_history_with_the_bounds_of_the_policy() -> None:
    store = new_store()
    topic = store.of("price.A")
    assert store.of("price.A") is topic
    assert (topic.ttl_s, topic.ring.maxlen) == (10.0, 3)
    assert store.of("news").ttl_s is None


def test_the_selected_topics_are_those_with_a_value_by_id_and_each_once() -> None:
    store = new_store()
    for seq, name in enumerate(("price.B", "news", "price.A"), 1):
        publish(store, name, seq)
    store.of("price.C")
    selected = store.selected(["price.A", "price.*", "news", "market"])
    assert [topic.name for topic in selected] == ["price.B", "news", "price.A"]
    assert store.selected(["market"]) == []


def test_a_dropped_topic_misses_something_until_it_is_brought_again() -> None:
    store = new_store()
    topic = publish(store, "news", 1, log=True)
    assert store.interrupt("news") is topic
    assert store.may_lack([topic], [], 1)
    store.bring_again("news", 5)
    assert not store.dropped
    assert store.may_lack([topic], [], 4)
    assert not store.may_lack([topic], [], 5)


def test_a_dropped_topic_that_never_had_an_event_is_forgotten_first() -> None:
    store = new_store()
    publish(store, "news", 1, log=True)
    for name in ("news", "ohlcv.X.1m"):
        store.interrupt(name)
    store.forget_dropped(7)
    assert set(store.by_name) == {"news"}
    assert store.forgotten_at == 7


def test_of_dropped_topics_with_a_past_the_last_thousand_are_kept() -> None:
    store = new_store()
    for number in range(DROPPED_KEPT + 3):
        publish(store, f"ohlcv.X{number}.1m", number + 1, log=True)
        store.interrupt(f"ohlcv.X{number}.1m")
    store.forget_dropped(5000)
    assert len(store.by_name) == len(store.dropped) == DROPPED_KEPT
    assert "ohlcv.X2.1m" not in store.by_name and "ohlcv.X3.1m" in store.by_name


def test_a_dropped_topic_to_which_somebody_listens_is_not_forgotten() -> None:
    store = new_store()
    store.groups.of(Wire.WEBSOCKET, {"ohlcv.X.1m": 0}, 1000.0)
    store.interrupt("ohlcv.X.1m")
    store.forget_dropped(7)
    assert "ohlcv.X.1m" in store.by_name
    assert store.forgotten_at == -1


@pytest.mark.parametrize(("name", "may_lack"), [("ohlcv.X.1m", True), ("price.X", False)])
def test_a_log_topic_that_appears_may_be_a_forgotten_one(name: str, may_lack: bool) -> None:
    store = new_store()
    store.interrupt("ohlcv.OLD.1m")
    store.forget_dropped(7)
    assert store.may_lack([], [name], 7) is may_lack
    topic = publish(store, name, 8, log=True)
    assert store.may_lack([topic], [name], 7) is may_lack
    assert not store.may_lack([topic], [name], 8)

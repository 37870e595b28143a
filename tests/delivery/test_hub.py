"""The hub's rules, one by one: §2 control messages and §3 of the design. `test_hub_model.py` mixes them all."""

import orjson
import pytest

from feeds import topics
from stream_server.delivery.rounds import WRITES_A_TURN
from stream_server.delivery.topic_store import DROPPED_KEPT
from stream_server.wire import messages
from stream_server.wire.messages import Wire
from tests.fakes.clock import START_MS
from tests.fakes.pipe import HubClient, HubRig

# --- one order, one encode ---


def test_ids_count_all_topics_in_one_order_behind_the_epoch() -> None:
    rig = HubRig(epoch="mx4k2")
    assert [rig.publish("price.BTC"), rig.publish("news", log=True), rig.publish("price.BTC")] == [
        "mx4k2-1",
        "mx4k2-2",
        "mx4k2-3",
    ]
    assert rig.hub.position == "mx4k2-3"


@pytest.mark.parametrize("clients", [0, 1, 50])
def test_an_event_is_encoded_once_whatever_the_number_of_clients(clients: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = HubRig()
    listeners = [rig.listener("price.BTC") for _ in range(clients)]
    listeners += [rig.listener("price.*", wire=Wire.SSE) for _ in range(clients)]
    encoded: list[object] = []

    class Counting:
        @staticmethod
        def dumps(value: object) -> bytes:
            encoded.append(value)
            return orjson.dumps(value)

    monkeypatch.setattr(messages, "orjson", Counting)
    rig.publish("price.BTC")
    rig.clock.turn()
    assert len(encoded) == 1
    assert all(listener.outline() == ["e1-1"] for listener in listeners)


def test_clients_with_the_same_selection_share_one_joined_payload() -> None:
    rig = HubRig()
    joined: list[bytes] = []
    listeners = [rig.listener("price.*") for _ in range(3)]
    group = rig.hub.members.by_outbox[listeners[0].outbox].group
    assert group is not None and len(group.members) == 3
    for listener in listeners:
        listener.pipe.writes = 0
        listener.pipe.write = joined.append  # type: ignore[method-assign,assignment]
    rig.publish("price.A")
    rig.publish("price.B")
    rig.clock.turn()
    assert len(joined) == 3 and joined[0] is joined[1] is joined[2]


def test_all_that_gathers_in_one_turn_is_one_write() -> None:
    rig = HubRig()
    listener = rig.listener("price.*")
    before = listener.pipe.writes
    for number in range(400):
        rig.publish(f"price.S{number}")
    assert listener.pipe.writes == before, "publish itself never writes"
    rig.clock.turn()
    assert listener.pipe.writes == before + 1
    assert len(listener.take()) == 400


def test_a_large_audience_is_served_over_several_turns_each_member_in_order() -> None:
    rig = HubRig()
    listeners = [rig.listener("price.BTC") for _ in range(WRITES_A_TURN + 10)]
    first = rig.publish("price.BTC")
    rig.clock.turn()
    second = rig.publish("price.BTC")
    assert sum(len(listener.pipe.messages) for listener in listeners) == WRITES_A_TURN
    while rig.clock.next_turn:
        rig.clock.turn()
    assert all(listener.outline() == [first, second] for listener in listeners)


def test_a_client_that_joins_or_leaves_amid_a_large_delivery_disturbs_nobody() -> None:
    rig = HubRig()
    listeners = [rig.listener("price.BTC") for _ in range(WRITES_A_TURN + 10)]
    first = rig.publish("price.BTC")
    rig.clock.turn()
    rig.hub.members.leave(listeners[-1].outbox)
    late = rig.client()
    late.subscribe("price.BTC")
    second = rig.publish("price.BTC")
    while rig.clock.next_turn:
        rig.clock.turn()
    assert all(listener.outline() == [first, second] for listener in listeners[:-1])
    assert late.outline() == ["subscribed", first, "synced", second]


def test_publishing_hands_nothing_to_the_groups_and_what_they_want_is_written_some_hundred_a_turn() -> None:
    rig = HubRig()
    names = [f"price.T{number}" for number in range(40)]
    count = WRITES_A_TURN + 100
    listeners = [rig.client(watched=True) for _ in range(count)]
    for number, listener in enumerate(listeners):
        listener.subscribe(*(names[(number * step) % 40] for step in (1, 7, 11)), f"news.{number}")
        listener.take()
    assert len(rig.hub.groups.by_key) == count
    ids = {name: rig.publish(name) for name in names}
    assert not any(group.pending for group in rig.hub.groups.by_key.values())
    rig.clock.turn()
    assert sum(bool(listener.pipe.messages) for listener in listeners) == WRITES_A_TURN
    amid = listeners[0]
    rig.hub.unsubscribe(amid.outbox, ["price.T0"])
    assert amid.outline() == [ids["price.T0"]], "a change of its selection brings what is due to it at once"
    later = rig.publish("price.T3")
    while rig.clock.next_turn:
        rig.clock.turn()
    for number, listener in enumerate(listeners[1:], 1):
        wanted = sorted({(number * step) % 40 for step in (1, 7, 11)})
        assert listener.outline() == [ids[names[each]] for each in wanted] + [later] * (3 in wanted)
    assert amid.take() == []


def test_a_group_that_listens_to_nothing_of_a_burst_is_not_written_to() -> None:
    rig = HubRig()
    first, other = rig.listener("price.A", "price.B"), rig.listener("price.C", "price.D")
    writes = other.pipe.writes
    for name in ("price.A", "price.B"):
        rig.publish(name)
    rig.clock.turn()
    assert (len(first.take()), other.pipe.writes) == (2, writes)


# --- subscribe: snapshot, then live, as one ---


def test_the_answer_to_a_subscription_is_subscribed_the_newest_values_by_id_and_synced() -> None:
    rig = HubRig()
    rig.publish("price.BTC", 1)
    eth = rig.publish("price.ETH", 2)
    btc = rig.publish("price.BTC", 3)
    client = rig.client()
    client.subscribe("price.BTC", "price.ETH", req=7)
    subscribed, *values, synced = client.take()
    assert subscribed == {
        "type": "subscribed",
        "topics": ["price.BTC", "price.ETH"],
        "resumed": False,
        "reason": "no_cursor",
        "from": None,
        "to": "e1-3",
        "count": 2,
        "req": 7,
    }
    assert [value["id"] for value in values] == [eth, btc]
    assert synced == {"type": "synced", "id": "e1-3", "req": 7}


def test_an_update_carries_times_source_and_data() -> None:
    rig = HubRig()
    listener = rig.listener("price.BTC")
    rig.publish("price.BTC", 64250.1)
    rig.clock.turn()
    assert listener.take() == [
        {
            "type": "update",
            "topic": "price.BTC",
            "id": "e1-1",
            "ts": START_MS,
            "received": START_MS,
            "source": "binance",
            "data": {"value": 64250.1},
        }
    ]


def test_a_subscription_to_nothing_yet_is_synced_too() -> None:
    rig = HubRig()
    client = rig.client()
    client.subscribe("price.BTC")
    assert client.take() == [
        {
            "type": "subscribed",
            "topics": ["price.BTC"],
            "resumed": False,
            "reason": "no_cursor",
            "from": None,
            "to": "e1-0",
            "count": 0,
        },
        {"type": "synced", "id": "e1-0"},
    ]


def test_an_event_that_waits_for_its_turn_is_in_the_snapshot_and_not_again_live() -> None:
    rig = HubRig()
    rig.listener("price.BTC")
    first = rig.publish("price.BTC")
    client = rig.client()
    client.subscribe("price.BTC")
    second = rig.publish("price.BTC")
    rig.clock.turn()
    assert client.outline() == ["subscribed", first, "synced", second]


def test_what_is_received_already_is_not_sent_again() -> None:
    rig = HubRig()
    rig.publish("price.BTC")
    eth = rig.publish("price.ETH")
    listener = rig.listener("price.BTC")
    listener.subscribe("price.*")
    assert listener.outline() == ["subscribed", eth, "synced"]


def test_a_pattern_brings_topics_that_appear_later() -> None:
    rig = HubRig()
    listener = rig.listener("price.*", "ohlcv.BTC.>")
    ids = [rig.publish("price.NEW"), rig.publish("ohlcv.BTC.1m"), rig.publish("ohlcv.ETH.1m")]
    rig.clock.turn()
    assert listener.outline() == ids[:2]


def test_a_topic_under_two_selectors_comes_once() -> None:
    rig = HubRig()
    listener = rig.listener("price.BTC", "price.*", ">")
    update = rig.publish("price.BTC")
    rig.clock.turn()
    assert listener.outline() == [update]


def test_unsubscribed_topics_stop_and_others_go_on() -> None:
    rig = HubRig()
    listener = rig.listener("price.BTC", "price.ETH")
    before = rig.publish("price.BTC")
    assert rig.hub.unsubscribe(listener.outbox, ["price.BTC", "price.SOL"]) == ["price.BTC"]
    rig.publish("price.BTC")
    after = rig.publish("price.ETH")
    rig.clock.turn()
    assert listener.outline() == [before, after]


def test_a_topic_that_a_pattern_still_covers_goes_on_after_its_own_unsubscription() -> None:
    rig = HubRig()
    listener = rig.listener("price.BTC", "price.*")
    rig.hub.unsubscribe(listener.outbox, ["price.BTC"])
    update = rig.publish("price.BTC")
    rig.clock.turn()
    assert listener.outline() == [update]


def test_a_client_that_has_left_gets_nothing_and_is_kept_nowhere() -> None:
    rig = HubRig()
    listener = rig.listener("price.BTC", "price.*", interval_ms=500)
    rig.hub.members.leave(listener.outbox)
    rig.hub.members.leave(listener.outbox)
    rig.publish("price.BTC")
    rig.clock.advance(1)
    hub = rig.hub
    assert listener.take() == []
    assert not (hub.members.by_outbox or hub.groups.by_key or hub.interest.counts or hub.lagging or hub.beats)
    assert not any(hub.groups.listeners.values())


def test_a_client_that_leaves_while_its_buffer_is_full_is_not_cut_afterwards() -> None:
    rig = HubRig(stall_s=5)
    listener = rig.listener("price.BTC")
    rig.publish("price.BTC")
    listener.pipe.clog()
    rig.hub.members.leave(listener.outbox)
    assert not rig.hub.lagging
    rig.clock.advance(60)
    assert (rig.hub.members.cut, listener.pipe.closed_times) == (0, 0)


def test_a_client_may_change_the_form_of_its_transport_in_mid_stream() -> None:
    rig = HubRig()
    listener = rig.listener("price.*", interval_ms=1000)
    ids = [rig.publish("price.A"), rig.publish("price.B")]
    rig.hub.members.rewire(listener.outbox, Wire.WEBSOCKET_BATCH)
    rig.hub.members.rewire(listener.outbox, Wire.WEBSOCKET_BATCH)
    rig.clock.advance(2)
    ids.append(rig.publish("price.A"))
    rig.clock.advance(2)
    assert listener.outline() == ids


# --- resume ---


def resumed_from(rig: HubRig, since: str | None, *selectors: str) -> tuple[dict[str, object], list[str]]:
    """Return what a new client with this cursor gets: `subscribed`, and an outline of the rest."""
    client = rig.client()
    client.subscribe(*selectors, since=since)
    messages = client.pipe.messages
    assert messages[0]["from"] == since
    return messages[0], client.outline()[1:]


def test_a_cursor_brings_only_the_newest_values_that_changed_since() -> None:
    rig = HubRig()
    rig.publish("price.ETH")
    cursor = rig.publish("price.BTC")
    rig.publish("price.BTC")
    newest = rig.publish("price.BTC")
    subscribed, rest = resumed_from(rig, cursor, "price.BTC", "price.ETH")
    assert (subscribed["resumed"], subscribed["reason"], subscribed["count"]) == (True, None, 1)
    assert rest == [newest, "synced"]


def test_a_cursor_brings_every_log_event_after_it_in_order() -> None:
    rig = HubRig()
    cursor = rig.publish("news", log=True)
    missed = [rig.publish("news", log=True), rig.publish("ohlcv.BTC.1m", log=True), rig.publish("news", log=True)]
    subscribed, rest = resumed_from(rig, cursor, "news", "ohlcv.BTC.1m")
    assert (subscribed["resumed"], subscribed["count"]) == (True, 3)
    assert rest == [*missed, "synced"]


def test_a_cursor_that_lacks_nothing_is_resumed_with_a_count_of_nought() -> None:
    rig = HubRig()
    cursor = rig.publish("price.BTC")
    subscribed, rest = resumed_from(rig, cursor, "price.BTC")
    assert (subscribed["resumed"], subscribed["reason"], subscribed["count"]) == (True, None, 0)
    assert rest == ["synced"]


@pytest.mark.parametrize("since", [None, ""])
def test_no_cursor_brings_a_full_snapshot(since: str | None) -> None:
    rig = HubRig()
    update = rig.publish("price.BTC")
    subscribed, rest = resumed_from(rig, since, "price.BTC")
    assert (subscribed["resumed"], subscribed["reason"]) == (False, "no_cursor")
    assert rest == [update, "synced"]


@pytest.mark.parametrize(
    "since",
    [
        *("e1", "e1-", "-1", "e1--1", "e1-1 ", "E1-1", "e1-1x", "e1-2", "e1-999999999999999999", "e1-1e3", "e1-١"),
        *("\r\n", "é" * 4000, "x" * 8192, "e1-" + "9" * 400),
    ],
)
def test_a_cursor_that_cannot_be_ours_is_bad_and_brings_a_full_snapshot(since: str) -> None:
    rig = HubRig()
    update = rig.publish("price.BTC")
    subscribed, rest = resumed_from(rig, since, "price.BTC")
    assert (subscribed["resumed"], subscribed["reason"], subscribed["count"]) == (False, "bad_cursor", 1)
    assert rest == [update, "synced"]


def test_a_cursor_of_another_epoch_brings_a_gap_for_log_topics_and_a_full_snapshot() -> None:
    rig = HubRig()
    state, log = rig.publish("price.BTC"), rig.publish("news", log=True)
    client = rig.client()
    client.subscribe("price.BTC", "news", since="e0-7")
    subscribed, gap, *rest = client.take()
    assert (subscribed["resumed"], subscribed["reason"], subscribed["count"]) == (False, "epoch", 2)
    assert gap == {"type": "gap", "topic": "news", "reason": "epoch", "from": "e0-7", "to": log}
    assert [message.get("id") for message in rest] == [state, log, log]


def test_in_another_epoch_there_is_a_gap_also_for_a_topic_without_an_event_or_without_a_log_event() -> None:
    rig = HubRig()
    live = rig.publish("ohlcv.BTC.1m")
    rig.publish("price.BTC")
    client = rig.client()
    client.subscribe("ohlcv.BTC.1m", "ohlcv.ETH.1m", "ohlcv.SOL.*", "price.BTC", "price.ETH", since="e0-7")
    assert {gap["topic"]: gap["to"] for gap in client.pipe.of_type("gap")} == {
        "ohlcv.BTC.1m": live,
        "ohlcv.ETH.1m": rig.hub.position,
    }


def test_an_evicted_log_event_brings_a_gap_and_a_full_snapshot_never_a_part_of_the_replay() -> None:
    rig = HubRig(ring_events=3)
    cursor = rig.publish("price.BTC")
    *_, last = [rig.publish("news", log=True) for _ in range(4)]
    client = rig.client()
    client.subscribe("price.BTC", "news", since=cursor)
    subscribed, gap, *values, synced = client.take()
    assert (subscribed["resumed"], subscribed["reason"], subscribed["count"]) == (False, "evicted", 2)
    assert gap == {"type": "gap", "topic": "news", "reason": "evicted", "from": cursor, "to": last}
    assert [value["id"] for value in values] == [cursor, last]
    assert synced["type"] == "synced"


def test_the_last_event_that_the_ring_lost_may_be_the_cursor_itself() -> None:
    rig = HubRig(ring_events=3)
    cursor, *missed = [rig.publish("news", log=True) for _ in range(4)]
    subscribed, rest = resumed_from(rig, cursor, "news")
    assert subscribed["resumed"] is True
    assert rest == [*missed, "synced"]


def test_one_evicted_topic_takes_a_gap_to_every_log_topic_that_its_snapshot_cuts_short() -> None:
    rig = HubRig(ring_events=3)
    cursor = rig.publish("price.BTC")
    for _ in range(4):
        rig.publish("news", log=True)
    for _ in range(2):
        rig.publish("ohlcv.BTC.1m", log=True)
    rig.publish("ohlcv.ETH.1m", log=True)
    client = rig.client()
    client.subscribe("news", "ohlcv.BTC.1m", "ohlcv.ETH.1m", since=cursor)
    assert {gap["topic"] for gap in client.pipe.of_type("gap")} == {"news", "ohlcv.BTC.1m"}
    assert client.pipe.of_type("subscribed")[0]["count"] == 3


def test_earliest_replays_all_that_is_held() -> None:
    rig = HubRig(ring_events=3)
    _, *held = [rig.publish("news", log=True) for _ in range(4)]
    held.append(rig.publish("price.BTC"))
    subscribed, rest = resumed_from(rig, "earliest", "news", "price.BTC")
    assert (subscribed["resumed"], subscribed["reason"], subscribed["count"]) == (False, "no_cursor", 4)
    assert rest == [*held, "synced"]


def test_a_browser_can_resume_from_synced_and_pos_as_from_any_update() -> None:
    rig = HubRig()
    rig.publish("price.BTC")
    listener = rig.client(Wire.SSE)
    listener.subscribe("price.BTC")
    rig.publish("price.ETH")
    rig.pass_time(31)
    received = listener.pipe.reader.received
    assert [(each.event, each.cursor) for each in received] == [
        ("subscribed", ""),
        ("", "e1-1"),
        ("synced", "e1-1"),
        ("pos", "e1-2"),
    ]


def test_a_value_that_was_held_back_when_the_connection_broke_is_sent_on_resume() -> None:
    rig = HubRig()
    listener = rig.client()
    listener.subscribe("price.BTC", interval_ms=1000)
    listener.subscribe("price.ETH")
    rig.publish("price.BTC", "held")
    first = rig.hub.topics["price.BTC"]
    assert first.event is not None
    cursor = rig.publish("price.ETH")
    rig.clock.turn()
    assert listener.outline()[-1] == cursor
    rig.hub.members.leave(listener.outbox)
    again = rig.client()
    again.subscribe("price.BTC", since=cursor, interval_ms=1000)
    _, value, synced = again.take()
    assert value["data"] == first.event.data and value["ts"] == first.event.ts
    assert (value["id"], synced["id"]) == (cursor, cursor), "no id is below the position that the client has"


# --- on demand ---


def test_only_the_first_listener_of_a_topic_asks_for_it() -> None:
    rig = HubRig()
    first, second = rig.listener("ohlcv.SOL.5m"), rig.listener("ohlcv.SOL.5m", "price.*")
    assert rig.demand.wanted == ["ohlcv.SOL.5m"]
    rig.hub.members.leave(first.outbox)
    rig.pass_time(100)
    assert rig.demand.dropped == []
    rig.hub.members.leave(second.outbox)
    rig.pass_time(59)
    assert rig.demand.dropped == []
    rig.pass_time(2)
    assert rig.demand.dropped == ["ohlcv.SOL.5m"]


def test_a_pattern_keeps_what_it_gets_alive() -> None:
    rig = HubRig()
    rig.demand.brought.add("ohlcv.SOL.5m")
    asker = rig.listener("ohlcv.SOL.5m")
    rig.publish("ohlcv.SOL.5m")
    watcher = rig.listener("ohlcv.>")
    rig.hub.members.leave(asker.outbox)
    rig.pass_time(100)
    assert rig.demand.dropped == []
    rig.hub.members.leave(watcher.outbox)
    rig.pass_time(1)
    assert rig.demand.dropped == ["ohlcv.SOL.5m"]


def test_a_dropped_topic_is_forgotten_and_a_cursor_from_before_is_evicted() -> None:
    rig = HubRig(ttl_s=10)
    rig.demand.brought.add("ohlcv.SOL.5m")
    asker = rig.listener("ohlcv.SOL.5m")
    cursor = rig.publish("ohlcv.SOL.5m", log=True)
    rig.hub.members.leave(asker.outbox)
    rig.pass_time(61)
    client = rig.client()
    client.subscribe("ohlcv.SOL.5m", since=cursor)
    subscribed, gap, synced = client.take()
    assert (subscribed["resumed"], subscribed["reason"], subscribed["count"]) == (False, "evicted", 0)
    assert gap == {"type": "gap", "topic": "ohlcv.SOL.5m", "reason": "evicted", "from": cursor, "to": "e1-1"}
    assert synced["type"] == "synced"
    assert rig.demand.wanted == ["ohlcv.SOL.5m"] * 2


def test_a_topic_that_was_dropped_before_its_first_event_is_not_resumed_either() -> None:
    rig = HubRig()
    rig.demand.brought.add("ohlcv.SOL.5m")
    rig.publish("price.BTC")
    asker = rig.listener("ohlcv.SOL.5m")
    rig.hub.members.leave(asker.outbox)
    rig.pass_time(61)
    subscribed, _ = resumed_from(rig, "e1-1", "ohlcv.SOL.5m")
    assert (subscribed["resumed"], subscribed["reason"]) == (False, "evicted")


def test_names_that_clients_invented_leave_nothing_behind_once_they_are_dropped() -> None:
    rig = HubRig()
    rig.publish("price.BTC")
    sizes = rig.hub.sizes()
    for turn in range(10):
        names = [f"ohlcv.X{turn}Y{number}.1m" for number in range(1000)]
        rig.demand.brought.update(names)
        asker = rig.listener(*names)
        rig.hub.members.leave(asker.outbox)
        rig.pass_time(61, step_s=10)
    assert rig.hub.sizes() == sizes
    assert rig.hub.groups.numbers.size == 1001, "numbers are given again"
    client = rig.client()
    client.subscribe("ohlcv.X1Y1.1m", since="e1-1")
    subscribed, gap, _ = client.take()
    assert (subscribed["reason"], gap["topic"]) == ("evicted", "ohlcv.X1Y1.1m"), "what it may have lacked is unknown"


def test_of_topics_with_a_past_the_last_dropped_are_remembered_and_older_ones_forgotten() -> None:
    rig = HubRig()
    names = [f"ohlcv.S{number}.1m" for number in range(DROPPED_KEPT + 300)]
    rig.demand.brought.update(names)
    asker = rig.listener(*names)
    for name in names:
        rig.publish(name, log=True)
    cursor = rig.hub.position
    rig.hub.members.leave(asker.outbox)
    rig.pass_time(62)
    assert len(rig.hub.topics) == len(rig.hub.store.dropped) == DROPPED_KEPT
    for name in (names[0], names[-1]):
        assert resumed_from(rig, cursor, name)[0]["reason"] == "evicted"


def test_a_number_that_is_given_again_takes_its_messages_to_the_new_topic_alone() -> None:
    rig = HubRig()
    rig.demand.brought.add("ohlcv.OLD.1m")
    watcher = rig.listener("price.A", "price.B")
    rig.publish("price.A")
    asker = rig.listener("ohlcv.OLD.1m")
    rig.hub.stale("ohlcv.OLD.1m", "halted")
    rig.hub.members.leave(asker.outbox)
    rig.publish("price.B")
    rig.pass_time(62)
    watcher.take()
    all_prices = rig.listener("price.*")
    said = [rig.publish("price.NEW"), rig.publish("price.A"), rig.publish("price.B")]
    rig.clock.turn()
    assert watcher.outline() == said[1:]
    assert all_prices.outline() == said


def test_a_topic_is_stale_for_the_reason_its_feed_gives_and_fresh_with_its_next_value() -> None:
    rig = HubRig(ttl_s=10)
    listener = rig.listener("price.A")
    rig.hub.stale("price.A", "halted")
    rig.hub.stale("price.A", "halted")
    rig.hub.stale("price.NOBODY", "halted")
    rig.clock.turn()
    assert listener.take() == [{"type": "stale", "topic": "price.A", "age_ms": None, "reason": "halted"}]
    assert "price.NOBODY" not in rig.hub.topics
    late = rig.client()
    late.subscribe("price.A")
    assert [message["type"] for message in late.take()] == ["subscribed", "stale", "synced"]
    update = rig.publish("price.A")
    rig.clock.turn()
    assert listener.outline() == [update, "fresh"]
    rig.pass_time(11)
    assert [message["reason"] for message in listener.take()] == ["no_update"]


def test_a_topic_that_stays_although_idle_is_remembered() -> None:
    rig = HubRig()
    asker = rig.listener("price.BTC")
    cursor = rig.publish("price.BTC")
    rig.hub.members.leave(asker.outbox)
    rig.pass_time(61)
    assert rig.demand.dropped == ["price.BTC"]
    assert resumed_from(rig, cursor, "price.BTC")[0]["resumed"] is True


def test_a_topic_that_cannot_be_fed_is_refused_to_the_clients_that_name_it() -> None:
    rig = HubRig()
    waiting, other = rig.listener("ohlcv.SOL.5m", "price.BTC"), rig.listener("price.BTC", "ohlcv.>")
    rig.hub.refuse("ohlcv.SOL.5m", "no such market")
    assert waiting.take() == [
        {
            "type": "error",
            "code": "unknown_topic",
            "message": "topic 'ohlcv.SOL.5m': no such market",
            "topics": ["ohlcv.SOL.5m"],
        }
    ]
    update = rig.publish("price.BTC")
    rig.publish("ohlcv.SOL.5m")
    rig.clock.turn()
    assert waiting.outline() == [update]
    assert len(other.take()) == 2
    rig.pass_time(61)
    assert rig.demand.dropped == ["ohlcv.SOL.5m"]


# --- freshness ---


def test_a_value_that_outlives_its_ttl_is_stale_once_and_fresh_after_its_next_update() -> None:
    rig = HubRig(ttl_s=10)
    listener = rig.listener("price.BTC")
    rig.publish("price.BTC")
    rig.pass_time(9.75)
    assert [message["type"] for message in listener.take()] == ["update"]
    rig.pass_time(5)
    assert listener.take() == [{"type": "stale", "topic": "price.BTC", "age_ms": 10_000, "reason": "no_update"}]
    rig.publish("price.BTC")
    rig.clock.turn()
    update, fresh = listener.take()
    assert update["type"] == "update"
    assert fresh == {"type": "fresh", "topic": "price.BTC", "age_ms": 0, "reason": "update"}


def test_an_update_in_time_keeps_a_value_fresh() -> None:
    rig = HubRig(ttl_s=10)
    listener = rig.listener("price.BTC", "price.ETH")
    rig.publish("price.BTC")
    rig.publish("price.ETH")
    rig.pass_time(9)
    rig.publish("price.BTC")
    rig.pass_time(9)
    assert [message["topic"] for message in listener.pipe.of_type("stale")] == ["price.ETH"]


def test_a_late_subscriber_gets_the_old_value_and_then_that_it_is_stale() -> None:
    rig = HubRig(ttl_s=10)
    old = rig.publish("price.BTC")
    rig.pass_time(12)
    client = rig.client()
    client.subscribe("price.BTC")
    assert client.outline() == ["subscribed", old, "stale", "synced"]


def test_a_topic_without_a_ttl_never_goes_stale() -> None:
    rig = HubRig(ttl_s=None)
    listener = rig.listener("status")
    rig.publish("status")
    rig.pass_time(3600, step_s=60)
    assert listener.pipe.of_type("stale") == []


# --- gap, pos ---


def test_a_hole_in_the_source_is_sent_in_its_place_among_the_events() -> None:
    rig = HubRig()
    listener, other = rig.listener("ohlcv.BTC.1m"), rig.listener("price.BTC")
    before = rig.publish("ohlcv.BTC.1m", log=True)
    rig.hub.gap("ohlcv.BTC.1m", 60_000, 180_000)
    after = rig.publish("ohlcv.BTC.1m", log=True)
    rig.clock.turn()
    assert listener.pipe.of_type("gap") == [
        {"type": "gap", "topic": "ohlcv.BTC.1m", "id": "e1-2", "reason": "upstream", "from": 60_000, "to": 180_000}
    ]
    assert listener.outline() == [before, "gap", after]
    assert other.take() == []


@pytest.mark.parametrize("wire", [Wire.WEBSOCKET, Wire.SSE])
def test_a_client_that_was_away_gets_the_hole_of_a_source_when_it_comes_back(wire: Wire) -> None:
    rig = HubRig()
    before = rig.publish("ohlcv.BTC.1m", log=True)
    rig.hub.gap("ohlcv.BTC.1m", 60_000, 180_000)
    hole = rig.hub.position
    after = rig.publish("ohlcv.BTC.1m", log=True)
    for since, outline in (
        (before, ["subscribed", "gap", after, "synced"]),
        (hole, ["subscribed", after, "synced"]),
        ("earliest", ["subscribed", before, "gap", after, "synced"]),
    ):
        client = rig.client(wire)
        client.subscribe("ohlcv.BTC.1m", since=since)
        answer = client.pipe.messages[0]
        assert answer["count"] == len([each for each in outline if each.startswith("e1-")]), "it counts values"
        assert client.outline() == outline


def test_thirty_seconds_of_silence_bring_the_position() -> None:
    rig = HubRig()
    quiet, lively = rig.listener("price.BTC"), rig.listener("price.ETH")
    for _ in range(4):
        rig.pass_time(7.25)
        eth = rig.publish("price.ETH")
        assert quiet.take() == []
    rig.pass_time(1)
    assert quiet.take() == [{"type": "pos", "id": eth}]
    rig.pass_time(29.5)
    assert quiet.take() == []
    rig.pass_time(1)
    assert quiet.take() == [{"type": "pos", "id": eth}]
    assert [message["type"] for message in lively.take()] == ["update"] * 4 + ["pos"]


def test_a_position_never_passes_over_a_value_that_is_held_back() -> None:
    rig = HubRig()
    listener = rig.listener("price.BTC", interval_ms=60_000)
    rig.pass_time(29)
    held = rig.publish("price.BTC")
    rig.publish("price.ETH")
    rig.pass_time(5)
    assert listener.take() == []
    rig.pass_time(60)
    assert listener.outline()[0] == held


# --- intervals ---


def test_an_interval_lets_one_value_a_topic_through_the_newest() -> None:
    rig = HubRig()
    listener = rig.listener("price.*", interval_ms=1000)
    for _ in range(10):
        rig.publish("price.A")
        newest = [rig.publish("price.B"), rig.publish("price.A")]
        rig.clock.advance(0.05)
    rig.clock.advance(1)
    assert listener.outline() == newest
    rig.clock.advance(5)
    assert listener.take() == []


def test_an_interval_holds_no_log_event_back_and_keeps_the_order() -> None:
    rig = HubRig()
    listener = rig.listener("ohlcv.BTC.1m", "price.BTC", interval_ms=1000)
    ids = [rig.publish("price.BTC"), rig.publish("ohlcv.BTC.1m", log=True), rig.publish("ohlcv.BTC.1m", log=True)]
    rig.clock.turn()
    assert listener.outline() == ids


def test_an_interval_is_per_subscription_and_the_shortest_counts() -> None:
    rig = HubRig()
    listener = rig.listener("price.*", interval_ms=1000)
    listener.subscribe("price.BTC")
    listener.take()
    btc, eth = rig.publish("price.BTC"), rig.publish("price.ETH")
    rig.clock.turn()
    assert listener.outline() == [btc]
    rig.clock.advance(1)
    assert listener.outline() == [eth]


def test_a_later_subscription_can_change_the_interval() -> None:
    rig = HubRig()
    listener = rig.listener("price.BTC", interval_ms=60_000)
    held = rig.publish("price.BTC")
    listener.subscribe("price.BTC")
    assert listener.outline() == [held, "subscribed", "synced"]
    live = rig.publish("price.BTC")
    rig.clock.turn()
    assert listener.outline() == [live]


def test_a_client_that_joins_a_throttled_group_does_not_get_its_held_values_twice() -> None:
    rig = HubRig()
    rig.listener("price.*", interval_ms=1000)
    held = rig.publish("price.A")
    newcomer = rig.client()
    newcomer.subscribe("price.*", interval_ms=1000)
    assert newcomer.outline() == ["subscribed", held, "synced"]
    later = rig.publish("price.B")
    rig.clock.advance(1)
    assert newcomer.outline() == [later]


def test_beats_do_not_gather_timers_however_long_they_go_on() -> None:
    rig = HubRig()
    rig.listener("price.SLOW", interval_ms=10_000)
    rig.listener("price.QUICK", interval_ms=100)
    most = 0
    for _ in range(1000):
        rig.publish("price.SLOW")
        rig.clock.advance(0.07)
        rig.publish("price.QUICK")
        rig.clock.advance(0.07)
        most = max(most, len(rig.clock.calls))
    assert most <= 4


# --- slow clients ---


def test_a_slow_client_gets_the_newest_values_in_id_order_and_then_what_was_merged() -> None:
    rig = HubRig()
    listener = rig.listener("price.*", "news")
    listener.pipe.clog()
    rig.publish("price.A")
    rig.publish("price.B")
    log1 = rig.publish("news", log=True)
    rig.clock.turn()
    a = rig.publish("price.A")
    log2 = rig.publish("news", log=True)
    rig.publish("price.B")
    b = rig.publish("price.B")
    rig.clock.turn()
    assert listener.take() == []
    listener.pipe.drain()
    rig.clock.advance(0.02)
    conflated = listener.pipe.messages[-1]
    assert listener.outline() == [log1, a, log2, b, "conflated"]
    assert conflated == {"type": "conflated", "skipped": {"price.A": 1, "price.B": 2}}
    live = rig.publish("price.A")
    rig.clock.turn()
    assert listener.outline() == [live]


def test_a_slow_client_without_merged_values_gets_no_conflated_message() -> None:
    rig = HubRig()
    listener = rig.listener("price.*")
    listener.pipe.clog()
    ids = [rig.publish("price.A"), rig.publish("price.B")]
    rig.clock.turn()
    listener.pipe.drain()
    rig.clock.advance(0.02)
    assert listener.outline() == ids


def test_a_stuck_client_changes_nothing_for_the_others() -> None:
    rig = HubRig()
    stuck, quick = rig.listener("price.*"), rig.listener("price.*")
    stuck.pipe.clog()
    ids = []
    for _ in range(50):
        ids.append(rig.publish("price.A"))
        rig.clock.advance(0.05)
    assert quick.outline() == ids
    assert stuck.take() == []


def test_a_buffer_below_the_mark_merges_nothing() -> None:
    rig = HubRig()
    listener = rig.listener("price.*")
    listener.pipe.pause()
    ids = [rig.publish("price.A") for _ in range(10)]
    rig.clock.turn()
    listener.pipe.drain()
    assert listener.outline() == ids


def test_answers_to_a_slow_client_stay_whole_and_in_their_place() -> None:
    rig = HubRig()
    rig.publish("price.B")
    listener = rig.listener("price.A")
    listener.pipe.clog()
    a = rig.publish("price.A")
    rig.clock.turn()
    listener.subscribe("price.B")
    b = rig.publish("price.B")
    rig.clock.turn()
    listener.pipe.drain()
    rig.clock.advance(0.02)
    assert listener.outline() == [a, "subscribed", "e1-1", "synced", b]


def test_what_has_no_id_keeps_its_place_among_the_events_held_for_a_slow_client() -> None:
    rig = HubRig()
    listener = rig.listener("ohlcv.BTC.1m", "price.BTC")
    listener.pipe.clog()
    first = rig.publish("ohlcv.BTC.1m", log=True)
    rig.hub.gap("ohlcv.BTC.1m", 1, 2)
    second = rig.publish("ohlcv.BTC.1m", log=True)
    third = rig.publish("price.BTC")
    rig.clock.turn()
    listener.pipe.drain()
    rig.clock.advance(0.02)
    assert listener.outline() == [first, "gap", second, third]


def test_a_slow_client_that_unsubscribes_is_not_sent_what_was_held_of_it() -> None:
    rig = HubRig()
    listener = rig.listener("price.A", "price.B")
    listener.pipe.clog()
    rig.publish("price.A")
    b = rig.publish("price.B")
    rig.clock.turn()
    rig.hub.unsubscribe(listener.outbox, ["price.A"])
    listener.pipe.drain()
    rig.clock.advance(0.02)
    assert listener.outline() == [b]
    assert listener.outbox.held_bytes == 0


def test_a_client_over_its_outbox_is_cut_with_4008_and_can_resume() -> None:
    rig = HubRig(outbox_bytes=2000)
    listener = rig.listener("news")
    cursor = rig.hub.position
    listener.pipe.clog()
    ids = [rig.publish("news", "x" * 300, log=True) for _ in range(10)]
    rig.clock.advance(0.03)
    closing = listener.pipe.closing
    assert closing is not None and (closing.code, closing.reconnect) == (4008, True)
    assert (rig.hub.members.cut, listener.outbox.held_bytes, listener.outbox.closed) == (1, 0, True)
    assert resumed_from(rig, cursor, "news")[1] == [*ids, "synced"]


def test_state_alone_does_not_fill_an_outbox() -> None:
    rig = HubRig(outbox_bytes=2000)
    listener = rig.listener("price.BTC")
    listener.pipe.clog()
    for _ in range(100):
        rig.publish("price.BTC", "x" * 300)
        rig.clock.advance(0.03)
    assert listener.pipe.close_code() is None


def test_a_client_that_takes_nothing_is_cut_when_its_time_is_over() -> None:
    rig = HubRig(stall_s=30)
    listener = rig.listener("price.BTC")
    listener.pipe.clog()
    rig.publish("price.BTC")
    rig.clock.advance(27.9)
    assert listener.pipe.close_code() is None
    rig.clock.advance(0.2)
    assert (listener.pipe.close_code(), listener.pipe.stuck_s) == (4008, 2), "together its 30 s"


def test_where_little_time_is_given_a_quarter_of_it_is_for_the_goodbye() -> None:
    rig = HubRig(stall_s=1)
    listener = rig.listener("price.BTC")
    listener.pipe.clog()
    rig.publish("price.BTC")
    rig.clock.advance(0.7)
    assert listener.pipe.close_code() is None
    rig.clock.advance(0.1)
    assert (listener.pipe.close_code(), listener.pipe.stuck_s) == (4008, 0.25)


def test_a_client_that_takes_a_little_now_and_then_is_kept() -> None:
    rig = HubRig(stall_s=30)
    listener = rig.listener("price.BTC")
    listener.pipe.clog()
    rig.publish("price.BTC")
    for _ in range(10):
        rig.clock.advance(25)
        listener.pipe.drain(100)
    assert listener.pipe.close_code() is None


def test_a_client_with_little_in_its_buffer_that_never_drains_is_found_and_cut() -> None:
    rig = HubRig(stall_s=30)
    listener = rig.listener("price.BTC")
    listener.pipe.pause()
    rig.publish("price.BTC")
    for _ in range(33):
        rig.clock.advance(1)
        rig.hub.members.find_stuck()
    assert listener.pipe.close_code() == 4008


def test_a_newcomer_to_a_throttled_group_that_is_slow_gets_its_values_in_order_and_merged() -> None:
    rig = HubRig()
    rig.listener("price.*", interval_ms=1000)
    rig.publish("price.A")
    newcomer = rig.client()
    newcomer.subscribe("price.*", interval_ms=1000)
    newcomer.take()
    newcomer.pipe.clog()
    b = rig.publish("price.B")
    rig.clock.advance(1)
    a = rig.publish("price.A")
    rig.clock.advance(1)
    newcomer.pipe.drain()
    rig.clock.advance(0.02)
    assert newcomer.outline() == [b, a]


# --- snapshot for REST ---


def test_a_snapshot_lists_the_selected_topics_that_have_a_value_by_id() -> None:
    rig = HubRig()
    for topic in ("price.B", "price.A", "news", "price.B"):
        rig.publish(topic, log=topic == "news")
    assert [topic.name for topic in rig.hub.snapshot(["price.*", "price.A", "ohlcv.X.1m"])] == ["price.A", "price.B"]
    assert [topic.name for topic in rig.hub.snapshot([">"])] == ["price.A", "news", "price.B"]


@pytest.mark.parametrize("read", ["snapshot", "current_topics", "subscribe"])
def test_after_a_standstill_every_reader_of_freshness_finds_old_values_stale(read: str) -> None:
    rig = HubRig(ttl_s=10.0)
    rig.publish("price.A")
    rig.clock.turn()
    rig.clock.seconds += 11.0  # without any housekeeping
    match read:
        case "snapshot":
            assert [topic.stale for topic in rig.hub.snapshot(["price.A"])] == [True]
        case "current_topics":
            assert rig.hub.current_topics()["price.A"].stale
        case _:
            client = rig.client()
            client.subscribe("price.A")
            assert client.outline() == ["subscribed", "e1-1", "stale", "synced"]


def test_a_pattern_means_whole_words() -> None:
    assert topics.matches("price.*", "price.BTC") and not topics.matches("price.*", "price")
    assert topics.matches("ohlcv.>", "ohlcv.BTC.1m") and not topics.matches("ohlcv.>", "ohlcv")
    assert not topics.matches("ohlcv.*", "ohlcv.BTC.1m")


# --- clients that read slowly for long ---


def slow_reader(rig: HubRig) -> HubClient:
    """A client that has fallen behind twice within half a minute, with its transport drained again."""
    client = rig.listener("price.*")
    for _ in range(2):
        client.pipe.clog()
        rig.publish("price.A")
        rig.clock.advance(0.1)
        client.pipe.drain()
        rig.clock.advance(0.1)
    return client


def test_a_client_that_falls_behind_again_is_pinged_after_each_portion() -> None:
    rig = HubRig()
    client = slow_reader(rig)
    assert client.outbox.paced
    assert client.pipe.reader.pings == 1
    client.take()
    rig.publish("price.A", 1)
    rig.publish("price.A", 2)
    rig.clock.advance(5.0)
    assert client.outline() == [], "it has not read the last portion yet"
    rig.hub.members.answered(client.outbox)
    (update, conflated) = client.take()
    assert (update["data"], conflated["skipped"]) == ({"value": 2}, {"price.A": 1})


def test_a_paced_client_that_answers_quickly_is_as_good_as_any_other_again() -> None:
    rig = HubRig()
    client = slow_reader(rig)
    for _ in range(20):
        rig.hub.members.answered(client.outbox)
        rig.publish("price.A")
        rig.clock.advance(0.05)
    assert not client.outbox.paced
    assert not client.outbox.lagging
    client.take()
    rig.publish("price.A")
    rig.clock.turn()
    assert client.outline() == [rig.hub.position]


def test_a_paced_client_that_never_answers_is_cut_after_stall_s() -> None:
    rig = HubRig(stall_s=5.0)
    client = slow_reader(rig)
    rig.publish("price.A")
    rig.pass_time(6.0)
    assert client.pipe.close_code() == 4008


def test_an_sse_client_is_never_paced_because_it_cannot_answer() -> None:
    rig = HubRig()
    client = rig.listener("price.*", wire=Wire.SSE)
    for _ in range(3):
        client.pipe.clog()
        rig.publish("price.A")
        rig.clock.advance(0.1)
        client.pipe.drain()
        rig.clock.advance(0.1)
    assert not client.outbox.paced
    assert not client.outbox.lagging


def test_a_slow_pong_alone_begins_the_pacing() -> None:
    rig = HubRig()
    client = rig.listener("price.*")
    rig.hub.members.pace(client.outbox)
    rig.publish("price.A")
    rig.clock.advance(0.1)
    assert client.outline() == [rig.hub.position]
    assert client.pipe.reader.pings == 1


def test_a_paced_client_gets_every_topic_however_often_all_of_them_change() -> None:
    rig = HubRig()
    client = slow_reader(rig)
    names = [f"price.T{number}" for number in range(500)]
    heard: set[str] = set()
    for _ in range(12):
        for name in names:
            rig.publish(name, "x" * 400)
        rig.clock.advance(1.0)
        rig.hub.members.answered(client.outbox)
        heard |= {str(message["topic"]) for message in client.take() if message["type"] == "update"}
    assert heard >= set(names)


def test_unsubscribing_takes_a_topic_out_of_what_a_paced_client_still_gets() -> None:
    rig = HubRig()
    client = slow_reader(rig)
    client.subscribe("news")
    for number in range(300):
        rig.publish(f"price.T{number}", "x" * 400)
    rig.clock.advance(1.0)
    rig.hub.members.answered(client.outbox)
    rig.hub.unsubscribe(client.outbox, ["price.*"])
    client.take()
    for _ in range(5):
        rig.hub.members.answered(client.outbox)
    assert [message for message in client.take() if message["type"] == "update"] == []
    assert client.outbox.held_bytes == 0

"""Tests that the cost of a message or a new topic does not grow with the number of clients and their patterns.

Work is counted in executed lines, because seconds depend on the machine.
"""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from stream_server.delivery import rounds
from tests.fakes.pipe import HubClient, HubRig

FEW, MANY = 20, 120
NEW = [f"ohlcv.N{number}.1m" for number in range(300)]


def lines_of(act: Callable[[], object]) -> int:
    """Return how many lines of Python a call executes; each round of a loop counts."""
    count = 0

    def local(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return local

    before = sys.gettrace()
    sys.settrace(lambda frame, event, argument: local)
    try:
        act()
    finally:
        sys.settrace(before)
    return count


def crowded(clients: int) -> tuple[HubRig, HubClient]:
    """Return a hub with this many clients of sixteen patterns each, most of them unique, and one without patterns."""
    rig = HubRig()
    for number in range(20):
        rig.publish(f"price.T{number}")
    for number in range(clients):
        own = [f"ohlcv.C{number}x{each}.>" for each in range(8)]
        wide = ["price.*", ">", "*.*", "*.>", "ohlcv.>", "ohlcv.*.*", "*.*.1m", "ohlcv.*.1m"]
        rig.client().subscribe(*own, *wide, interval_ms=1000 * (number % 3 == 0))
    turns(rig)
    return rig, rig.listener("news")


def turns(rig: HubRig) -> int:
    """Let everything be written; return the most lines of one turn."""
    most = 0
    while rig.clock.next_turn:
        most = max(most, lines_of(rig.clock.turn))
    return most


ACTS: dict[str, Callable[[HubRig, HubClient], object]] = {
    "subscribe to topics that nobody named": lambda rig, client: client.subscribe(*NEW),
    "resume them from another epoch": lambda rig, client: client.subscribe(*NEW, since="old-1"),
    "unsubscribe": lambda rig, client: rig.hub.unsubscribe(client.outbox, ["news"]),
    "snapshot": lambda rig, client: rig.hub.snapshot([">", "price.*"]),
    "a new topic": lambda rig, client: rig.publish("price.NEW"),
    "a new log event": lambda rig, client: rig.publish("ohlcv.NEW.1m", log=True),
    "a known topic": lambda rig, client: rig.publish("price.T0"),
    "a topic that is refused": lambda rig, client: rig.hub.refuse("news", "it has no market"),
    "a hole in the source": lambda rig, client: rig.hub.gap("ohlcv.C1x1.1m", 1, 2),
    "whether somebody listens": lambda rig, client: rig.hub.is_listened("gas.ethereum"),
    "leave": lambda rig, client: rig.hub.members.leave(client.outbox),
}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_the_cost_of_an_operation_does_not_grow_with_clients_and_their_patterns(
    act: Callable[[HubRig, HubClient], object],
) -> None:
    few, many = crowded(FEW), crowded(MANY)
    cost = lines_of(lambda: act(*few))
    assert lines_of(lambda: act(*many)) <= cost * 1.05 + 30
    assert cost <= 140 * len(NEW)


def test_a_turn_of_the_loop_costs_no_more_when_many_groups_learn_of_many_topics(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rounds, "WRITES_A_TURN", 40)  # so that few clients fill a turn
    most = []
    for clients in (FEW, FEW * 2):
        rig, _ = crowded(clients)
        for name in NEW[:150]:
            rig.publish(name)
        most.append(turns(rig))
    assert most[1] <= most[0] * 1.2


def test_a_client_that_names_a_thousand_topics_again_and_again_pays_for_each_in_turn() -> None:
    rig = HubRig()
    names = [f"price.T{number}" for number in range(400)]
    client = rig.client()
    client.subscribe(*names)
    cost = lines_of(lambda: rig.hub.unsubscribe(client.outbox, names))
    client.subscribe(*names * 2)
    assert lines_of(lambda: rig.hub.unsubscribe(client.outbox, names * 2)) <= 2.5 * cost
    assert cost <= 40 * len(names)

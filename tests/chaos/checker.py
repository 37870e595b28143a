"""Judges what clients were told: nothing missing, nothing doubled, nothing old shown as new.

Pure. Each finding is a sentence that names the client. The truth is the closed candles of a run of the same market
without any fault, byte for byte.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.chaos.clients import STEP_MS, Heard, Told, Visit, holes

LATE_MS = 1500
"""By so much `stale` may come after a value's time: housekeeping, and the way to the client."""

Series = Mapping[str, Mapping[int, bytes]]
"""By topic and open time: a closed candle."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a run is held against."""

    closed: Series
    ttl_ms: int
    """How long a state value is good."""
    ended_ms: int
    """When the clients were taken off; by then all had had time to heal."""
    prices: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """By symbol: the lowest and the highest price that can be true."""


def findings(clients: Sequence[Told], expected: Expected) -> list[str]:
    """Everything that is wrong; empty for a clean run."""
    found: list[str] = []
    for client in clients:
        found += [f"{client.name}: {what}" for what in _of_client(client, expected)]
    return found + list(_disagreements(clients))


def _of_client(client: Told, expected: Expected) -> Iterator[str]:
    for visit in client.visits:
        yield from _order(visit)
        yield from _refusals(visit)
        yield from _prices(visit, expected)
    yield from _resumes(client)
    yield from _freshness(client, expected)
    for topic in client.topics:
        if topic.startswith("ohlcv."):
            yield from _said_closed(client, topic, expected)
            yield from _held(client, topic, expected)


# --- ids ---


def _order(visit: Visit) -> Iterator[str]:
    """Ids rise on a connection and bear its epoch."""
    epoch, last = None, 0
    for heard in visit.heard:
        if heard.kind == "hello":
            epoch = heard.message["epoch"]
        elif heard.kind == "update":
            its_epoch, seq = _id(heard)
            if its_epoch != epoch:
                yield f"id {heard.message['id']} on a connection of epoch {epoch}"
            if seq <= last:
                yield f"id {heard.message['id']} after {epoch}-{last}"
            last = seq


def _resumes(client: Told) -> Iterator[str]:
    """In one epoch who comes back is resumed and gets nothing again; in another one no position counts."""
    for visit in client.visits:
        hello = next((heard.message for heard in visit.heard if heard.kind == "hello"), None)
        answer = next((heard.message for heard in visit.heard if heard.kind == "subscribed"), None)
        if visit.since is None or hello is None or answer is None:
            continue
        epoch, _, position = visit.since.rpartition("-")
        if answer["resumed"] is not (epoch == hello["epoch"]):
            yield f"resumed={answer['resumed']} ({answer['reason']}) at {visit.since} in epoch {hello['epoch']}"
        again = [heard for heard in visit.heard if heard.kind == "update" and _id(heard)[1] <= int(position)]
        if answer["resumed"] and again:
            yield f"{again[0].message['id']} was told again after a resume at {visit.since}"


def _id(heard: Heard) -> tuple[str, int]:
    epoch, _, seq = str(heard.message["id"]).rpartition("-")
    return epoch, int(seq)


def _refusals(visit: Visit) -> Iterator[str]:
    for heard in visit.heard:
        if heard.kind in ("error", "conflated"):
            yield f"was told {heard.text.decode()}"


# --- prices ---


def _prices(visit: Visit, expected: Expected) -> Iterator[str]:
    """No price of another coin, whoever gives it."""
    for heard in visit.heard:
        if heard.kind != "update" or not heard.topic.startswith("price."):
            continue
        price, base = heard.message["data"]["price"], heard.topic.partition(".")[2]
        low, high = expected.prices.get(base, (0.0, float("inf")))
        if not low <= price <= high:
            yield f"{heard.topic} was {price} by {heard.message['source']}: that is another coin's"


# --- freshness ---


def _freshness(client: Told, expected: Expected) -> Iterator[str]:
    """Who hears of a value hears when it has outlived its time, and when a newer one has come."""
    newest: dict[str, int] = {}
    """By topic: when its value came, as long as that is news."""
    for visit in client.visits:
        stale: set[str] = set()
        owed: set[str] = set()
        is_live = False
        for heard in visit.heard:
            match heard.kind:
                case "subscribed" if not heard.message["resumed"]:
                    newest.clear()
                case "synced":
                    is_live = True
                case "stale":
                    stale.add(heard.topic)
                    newest.pop(heard.topic, None)
                case "fresh":
                    if heard.topic not in stale:
                        yield f"{heard.topic} became fresh without having been stale"
                    stale.discard(heard.topic)
                    owed.discard(heard.topic)
                case "update" if heard.topic.partition(".")[0] in ("price", "ohlcv"):
                    if heard.topic in owed:
                        yield f"{heard.topic} went on after stale without fresh"
                    if heard.topic in stale:
                        owed.add(heard.topic)
                    # What a snapshot holds is as old as it is; what comes live is new.
                    newest[heard.topic] = heard.at_ms if is_live else int(heard.message["received"])
            if is_live:
                yield from _overdue(newest, heard.at_ms, expected.ttl_ms)
        if visit.is_open and is_live:
            yield from _overdue(newest, expected.ended_ms, expected.ttl_ms)


def _overdue(newest: dict[str, int], now_ms: int, ttl_ms: int) -> Iterator[str]:
    for topic, at_ms in list(newest.items()):
        if now_ms - at_ms > ttl_ms + LATE_MS:
            del newest[topic]
            yield f"{topic}: a value {now_ms - at_ms} ms old, and no stale, at {now_ms}"


# --- candles ---


def _said_closed(client: Told, topic: str, expected: Expected) -> Iterator[str]:
    """On the stream: in order, once an epoch, true, corrections true and different, and no hole unspoken of."""
    step_ms = STEP_MS[topic.rpartition(".")[2]]
    truth = expected.closed.get(topic, {})
    said: dict[tuple[str, int], str] = {}
    last: int | None = None
    told_of = False
    for visit in client.visits:
        for heard in visit.heard:
            if heard.topic != topic:
                continue
            if heard.kind == "gap":
                told_of = True
                if heard.message["reason"] == "upstream":
                    yield from _gap(heard, topic, truth)
            if heard.kind != "update" or not heard.message["data"]["closed"]:
                continue
            data, event_id = heard.message["data"], str(heard.message["id"])
            open_ms, epoch = int(data["open_time"]), _id(heard)[0]
            if truth.get(open_ms) != _as_closed(heard.data):
                yield f"{topic} {open_ms}: said {heard.data!r}, true is {truth.get(open_ms)!r}"
            if data["state"] == "corrected":
                continue
            if said.setdefault((epoch, open_ms), event_id) != event_id:
                yield f"{topic} {open_ms}: closed as {said[epoch, open_ms]} and again as {event_id}"
            elif last is not None and open_ms > last + step_ms and not told_of:
                yield f"{topic}: {open_ms} came after {last} without a gap"
            if last is None or open_ms > last:
                last = open_ms
            told_of = False


def _gap(heard: Heard, topic: str, truth: Mapping[int, bytes]) -> Iterator[str]:
    start, end = int(heard.message["from"]), int(heard.message["to"])
    there = [open_ms for open_ms in truth if start <= open_ms < end]
    if there:
        yield f"{topic}: a gap from {start} to {end}, where the exchange has {len(there)} candles"


def _held(client: Told, topic: str, expected: Expected) -> Iterator[str]:
    """With what it asked of REST a client holds an unbroken series up to the end."""
    step_ms = STEP_MS[topic.rpartition(".")[2]]
    known, truth = client.closed.get(topic, {}), expected.closed.get(topic, {})
    if not known:
        yield f"{topic}: not one closed candle"
        return
    for open_ms in holes(dict(known), step_ms):
        if open_ms in truth:
            yield f"{topic}: holds no candle of {open_ms}"
    ended_ms = min(expected.ended_ms, client.present_until_ms or expected.ended_ms)
    newest = max((each for each in truth if each + step_ms < ended_ms - step_ms // 2), default=0)
    if max(known) < newest:
        yield f"{topic}: holds nothing after {max(known)}, true is {newest}"
    for open_ms, data in known.items():
        if truth.get(open_ms, data) != _as_closed(data):
            yield f"{topic} {open_ms}: holds {data!r}, true is {truth[open_ms]!r}"


def _as_closed(data: bytes) -> bytes:
    """A correction without its mark: what it says has to be true all the same."""
    return data.replace(b'"state":"corrected"', b'"state":"closed"')


# --- clients among each other ---


def _disagreements(clients: Sequence[Told]) -> Iterator[str]:
    """One id is one message, whoever is told and over which transport; and who never left has heard them all."""
    texts: dict[str, tuple[str, bytes]] = {}
    for client in clients:
        for heard in _updates(client):
            first, text = texts.setdefault(str(heard.message["id"]), (client.name, heard.text))
            if text != heard.text:
                yield f"{first} and {client.name} were told different things as {heard.message['id']}"
    steady = [client for client in clients if not client.restless]
    for one in steady:
        for other in steady:
            if one.topics == other.topics:
                yield from _unheard(one, other)


def _unheard(one: Told, other: Told) -> Iterator[str]:
    """What one steady client heard while the other was connected, and the other did not."""
    heard_by_other = {str(heard.message["id"]) for heard in _updates(other)}
    spans = [
        (ids[0][0], ids[0][1], ids[-1][1])
        for visit in other.visits
        if (ids := [_id(heard) for heard in visit.heard if "id" in heard.message])
    ]
    for heard in _updates(one):
        epoch, seq = _id(heard)
        is_due = any(epoch == its and first < seq < last for its, first, last in spans)
        if is_due and heard.message["id"] not in heard_by_other and heard.message["data"].get("closed", False):
            yield f"{other.name} never heard {heard.message['id']}, which {one.name} did"


def _updates(client: Told) -> Iterator[Heard]:
    return (heard for visit in client.visits for heard in visit.heard if heard.kind == "update")

"""The checker of a chaos run: clients miss nothing, receive nothing twice, and get no old value as a new one.

Pure functions. Each finding is a sentence that names the client. Closed candles are compared, byte for byte, with
those of a run of the same market without faults.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.chaos.clients import STEP_MS, Message, Transcript, Visit, holes

LATE_MS = 1500
"""How late `stale` may arrive: the interval of the housekeeping, and the way to the client."""

Series = Mapping[str, Mapping[int, bytes]]
"""Closed candles by topic and open time."""


@dataclass(frozen=True, slots=True)
class Expected:
    """The values that a run is compared with."""

    closed: Series
    ttl_ms: int
    """TTL of a state value."""
    ended_ms: int
    """Time at which the clients stopped; everything had time to recover by then."""
    prices: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Lowest and highest plausible price by symbol."""


def findings(clients: Sequence[Transcript], expected: Expected) -> list[str]:
    """Return every finding of a run; empty for a clean one."""
    found: list[str] = []
    for client in clients:
        found += [f"{client.name}: {what}" for what in _of_client(client, expected)]
    return found + list(_disagreements(clients))


def _of_client(client: Transcript, expected: Expected) -> Iterator[str]:
    for visit in client.visits:
        yield from _order(visit)
        yield from _refusals(visit)
        yield from _prices(visit, expected)
    yield from _resumes(client)
    yield from _freshness(client, expected)
    for topic in client.topics:
        if topic.startswith("ohlcv."):
            yield from _closed_candles(client, topic, expected)
            yield from _held_candles(client, topic, expected)


# --- ids ---


def _order(visit: Visit) -> Iterator[str]:
    """Check that ids rise on a connection and carry its epoch."""
    epoch, last = None, 0
    for message in visit.messages:
        if message.kind == "hello":
            epoch = message.fields["epoch"]
        elif message.kind == "update":
            its_epoch, seq = _id(message)
            if its_epoch != epoch:
                yield f"id {message.fields['id']} on a connection of epoch {epoch}"
            if seq <= last:
                yield f"id {message.fields['id']} after {epoch}-{last}"
            last = seq


def _resumes(client: Transcript) -> Iterator[str]:
    """Check that a client resumes within an epoch and gets nothing twice, and isn't resumed in another epoch."""
    for visit in client.visits:
        hello = next((message.fields for message in visit.messages if message.kind == "hello"), None)
        answer = next((message.fields for message in visit.messages if message.kind == "subscribed"), None)
        if visit.since is None or hello is None or answer is None:
            continue
        epoch, _, position = visit.since.rpartition("-")
        if answer["resumed"] is not (epoch == hello["epoch"]):
            yield f"resumed={answer['resumed']} ({answer['reason']}) at {visit.since} in epoch {hello['epoch']}"
        again = [message for message in visit.messages if message.kind == "update" and _id(message)[1] <= int(position)]
        if answer["resumed"] and again:
            yield f"{again[0].fields['id']} was sent again after a resume at {visit.since}"


def _id(message: Message) -> tuple[str, int]:
    epoch, _, seq = str(message.fields["id"]).rpartition("-")
    return epoch, int(seq)


def _refusals(visit: Visit) -> Iterator[str]:
    for message in visit.messages:
        if message.kind in ("error", "conflated"):
            yield f"received {message.text.decode()}"


# --- prices ---


def _prices(visit: Visit, expected: Expected) -> Iterator[str]:
    """Check that no source gives the price of another coin."""
    for message in visit.messages:
        if message.kind != "update" or not message.topic.startswith("price."):
            continue
        price, base = message.fields["data"]["price"], message.topic.partition(".")[2]
        low, high = expected.prices.get(base, (0.0, float("inf")))
        if not low <= price <= high:
            yield f"{message.topic} was {price} by {message.fields['source']}: that is another coin's price"


# --- freshness ---


def _freshness(client: Transcript, expected: Expected) -> Iterator[str]:
    """Check that a client gets `stale` when a value outlives its TTL, and `fresh` when a newer one comes."""
    newest: dict[str, int] = {}
    """Time of the newest value by topic, for topics that aren't stale."""
    for visit in client.visits:
        stale: set[str] = set()
        owed: set[str] = set()
        is_live = False
        for message in visit.messages:
            match message.kind:
                case "subscribed" if not message.fields["resumed"]:
                    newest.clear()
                case "synced":
                    is_live = True
                case "stale":
                    stale.add(message.topic)
                    newest.pop(message.topic, None)
                case "fresh":
                    if message.topic not in stale:
                        yield f"{message.topic} became fresh without having been stale"
                    stale.discard(message.topic)
                    owed.discard(message.topic)
                case "update" if message.topic.partition(".")[0] in ("price", "ohlcv"):
                    if message.topic in owed:
                        yield f"{message.topic} went on after stale without fresh"
                    if message.topic in stale:
                        owed.add(message.topic)
                    # A value of a snapshot keeps its own age; a live one is new.
                    newest[message.topic] = message.at_ms if is_live else int(message.fields["received"])
            if is_live:
                yield from _overdue(newest, message.at_ms, expected.ttl_ms)
        if visit.is_open and is_live:
            yield from _overdue(newest, expected.ended_ms, expected.ttl_ms)


def _overdue(newest: dict[str, int], now_ms: int, ttl_ms: int) -> Iterator[str]:
    for topic, at_ms in list(newest.items()):
        if now_ms - at_ms > ttl_ms + LATE_MS:
            del newest[topic]
            yield f"{topic}: a value {now_ms - at_ms} ms old, and no stale, at {now_ms}"


# --- candles ---


def _closed_candles(client: Transcript, topic: str, expected: Expected) -> Iterator[str]:
    """Check the closed candles of a stream: true, in order, once an epoch, and no hole without a gap."""
    step_ms = STEP_MS[topic.rpartition(".")[2]]
    truth = expected.closed.get(topic, {})
    ids: dict[tuple[str, int], str] = {}
    last: int | None = None
    gap_seen = False
    for visit in client.visits:
        for message in visit.messages:
            if message.topic != topic:
                continue
            if message.kind == "gap":
                gap_seen = True
                if message.fields["reason"] == "upstream":
                    yield from _gap(message, topic, truth)
            if message.kind != "update" or not message.fields["data"]["closed"]:
                continue
            data, event_id = message.fields["data"], str(message.fields["id"])
            open_ms, epoch = int(data["open_time"]), _id(message)[0]
            if truth.get(open_ms) != _as_closed(message.data):
                yield f"{topic} {open_ms}: received {message.data!r}, true is {truth.get(open_ms)!r}"
            if data["state"] == "corrected":
                continue
            if ids.setdefault((epoch, open_ms), event_id) != event_id:
                yield f"{topic} {open_ms}: closed as {ids[epoch, open_ms]} and again as {event_id}"
            elif last is not None and open_ms > last + step_ms and not gap_seen:
                yield f"{topic}: {open_ms} came after {last} without a gap"
            if last is None or open_ms > last:
                last = open_ms
            gap_seen = False


def _gap(message: Message, topic: str, truth: Mapping[int, bytes]) -> Iterator[str]:
    start, end = int(message.fields["from"]), int(message.fields["to"])
    there = [open_ms for open_ms in truth if start <= open_ms < end]
    if there:
        yield f"{topic}: a gap from {start} to {end}, where the exchange has {len(there)} candles"


def _held_candles(client: Transcript, topic: str, expected: Expected) -> Iterator[str]:
    """Check that a client has an unbroken series up to the end, with the candles it fetched by REST."""
    step_ms = STEP_MS[topic.rpartition(".")[2]]
    known, truth = client.closed.get(topic, {}), expected.closed.get(topic, {})
    if not known:
        yield f"{topic}: no closed candle"
        return
    for open_ms in holes(dict(known), step_ms):
        if open_ms in truth:
            yield f"{topic}: lacks the candle of {open_ms}"
    ended_ms = min(expected.ended_ms, client.present_until_ms or expected.ended_ms)
    newest = max((each for each in truth if each + step_ms < ended_ms - step_ms // 2), default=0)
    if max(known) < newest:
        yield f"{topic}: has nothing after {max(known)}, true is {newest}"
    for open_ms, data in known.items():
        if truth.get(open_ms, data) != _as_closed(data):
            yield f"{topic} {open_ms}: has {data!r}, true is {truth[open_ms]!r}"


def _as_closed(data: bytes) -> bytes:
    """Return a candle as `closed`, so that a correction compares equal to the true candle."""
    return data.replace(b'"state":"corrected"', b'"state":"closed"')


# --- clients among each other ---


def _disagreements(clients: Sequence[Transcript]) -> Iterator[str]:
    """Check that an id is the same message for all clients and transports, and that steady clients got every one."""
    texts: dict[str, tuple[str, bytes]] = {}
    for client in clients:
        for message in _updates(client):
            first, text = texts.setdefault(str(message.fields["id"]), (client.name, message.text))
            if text != message.text:
                yield f"{first} and {client.name} received different messages as {message.fields['id']}"
    steady = [client for client in clients if not client.restless]
    for one in steady:
        for other in steady:
            if one.topics == other.topics:
                yield from _missed(one, other)


def _missed(one: Transcript, other: Transcript) -> Iterator[str]:
    """Find closed candles that one steady client received and another, connected at that time, did not."""
    received_by_other = {str(message.fields["id"]) for message in _updates(other)}
    spans = [
        (ids[0][0], ids[0][1], ids[-1][1])
        for visit in other.visits
        if (ids := [_id(message) for message in visit.messages if "id" in message.fields])
    ]
    for message in _updates(one):
        epoch, seq = _id(message)
        is_due = any(epoch == its and first < seq < last for its, first, last in spans)
        if is_due and message.fields["id"] not in received_by_other and message.fields["data"].get("closed", False):
            yield f"{other.name} never received {message.fields['id']}, which {one.name} received"


def _updates(client: Transcript) -> Iterator[Message]:
    return (message for visit in client.visits for message in visit.messages if message.kind == "update")

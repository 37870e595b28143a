"""The fuzz targets and their seeds.

A target raises if the service is at fault and returns otherwise. The suite runs each on its seeds and a few mutations,
`make fuzz` for minutes, guided by coverage.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame
from websockets.frames import Opcode as Op
from websockets.protocol import State
from websockets.server import ServerProtocol

from feeds.model import Pair
from feeds.providers.rss import read_feed
from feeds.symbols import Symbols
from orchestrator.errors import ProviderError
from orchestrator.retry import MAX_RETRY_AFTER_S, http_date_ms, retry_after_s
from stream_server.delivery.outbox import Outbox
from stream_server.delivery.session import MAX_MESSAGE_BYTES, Session
from stream_server.wire.frames import MAX_PARTS, FrameError, Opcode
from stream_server.wire.messages import Wire
from stream_server.wire.refusals import CODES
from tests.conversations import answered
from tests.fakes.clock import START_MS
from tests.fakes.pipe import FakePipe, HubRig
from tests.framing import Framing

SAMPLES = Path(__file__).resolve().parent.parent / "samples"


@dataclass(frozen=True, slots=True)
class Target:
    """A target: `run` takes any bytes; inputs longer than `most_bytes` are not interesting."""

    run: Callable[[bytes], None]
    seeds: Sequence[bytes]
    most_bytes: int = 4096


# --- messages of a client, one a line ---


def message(data: bytes) -> None:
    """Check that a session answers any input with messages of the protocol, and that another client is not affected."""
    rig = HubRig()
    symbols = Symbols()
    symbols.learn(Pair(f"{base}USDT", base, "USDT") for base in ("BTC", "ETH", "SOL"))
    pipe = FakePipe()
    session = Session(rig.hub, Outbox(pipe, Wire.WEBSOCKET), symbols, rig.clock, 20.0)
    session.open((), None, 0)
    other = rig.listener("price.BTC", "ohlcv.>")
    ids = []
    for line in data.split(b"\n")[:40]:
        try:
            line.decode()
        except UnicodeDecodeError:  # the frame layer refuses such text
            continue
        session.receive(line)
        ids += [rig.publish("price.BTC"), rig.publish("ohlcv.ETH.1m", log=True)]
        rig.clock.turn()
    for answer in pipe.take():
        assert isinstance(answer["type"], str)
        assert answer["type"] != "error" or (answer["code"] in CODES and answer["message"])
    assert [each["id"] for each in other.take() if each["type"] == "update"] == ids


# --- cursors, as WebSocket and SSE clients bring them ---

PUBLISHED = 9
RING = 4


def cursor(data: bytes) -> None:
    """Check that a session resumes from an issued position, and answers any other with a reason and a snapshot."""
    since = data.decode(errors="replace")
    for wire in (Wire.WEBSOCKET, Wire.SSE):
        rig = HubRig(ring_events=RING)
        for _ in range(PUBLISHED):
            rig.publish("price.BTC")
            rig.publish("ohlcv.BTC.1m", log=True)
        client = rig.client(wire)
        client.subscribe("price.BTC", "ohlcv.BTC.1m", since=since)
        messages = client.take()
        subscribed = next(each for each in messages if each["type"] == "subscribed")
        updates = [each["id"] for each in messages if each["type"] == "update"]
        assert messages[-1]["type"] == "synced"
        assert subscribed["count"] == len(updates)
        if since == "earliest":
            continue
        at = _position(since)
        logs = [2 * number for number in range(1, PUBLISHED + 1)]
        whole = at is not None and not [number for number in logs[:-RING] if number > at]
        assert subscribed["resumed"] is whole, since
        if at is not None and whole:
            due = [number for number in (*logs[-RING - 1 :], 2 * PUBLISHED - 1) if number > at]
            assert updates == [f"e1-{number}" for number in sorted(due)], since
        else:
            reason = subscribed["reason"]
            other_run = since.partition("-")[0] != "e1"
            allowed = ("evicted",) if at is not None else ("bad_cursor", "epoch") if other_run else ("bad_cursor",)
            assert reason in (allowed if since else ("no_cursor",)), (since, reason)
            gaps = [(each["topic"], each["reason"]) for each in messages if each["type"] == "gap"]
            assert gaps == ([("ohlcv.BTC.1m", reason)] if reason in ("evicted", "epoch") else []), since


def _position(since: str) -> int | None:
    """Return the number in a position of this run, as docs/protocol.md defines it, or None."""
    epoch, _, digits = since.rpartition("-")
    if epoch != "e1" or not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
        return None
    return int(digits) if int(digits) <= 2 * PUBLISHED else None


# --- Retry-After, and the Date it is counted from ---


def retry_after(data: bytes) -> None:
    """Check that no header makes us fail or wait for a negative or unbounded time."""
    value, _, date = data.decode("latin-1").partition("\n")
    wait_s = retry_after_s(value, date or None, START_MS)
    assert wait_s is None or (math.isfinite(wait_s) and 0 <= wait_s <= MAX_RETRY_AFTER_S), data
    at_ms = http_date_ms(date)
    assert at_ms is None or isinstance(at_ms, int)


# --- feeds of news ---


def rss(data: bytes) -> None:
    """Check that a feed is parsed or refused, and that its articles have plain text, web links and no future dates."""
    received = answered(data)
    try:
        rows = read_feed(received, "rss:fuzzed", "fuzzed")
    except ProviderError:
        return
    for each in rows.good:
        assert each.title, data
        assert each.url is None or each.url.startswith(("http://", "https://")), data
        assert 0 < each.published_at <= received.received_ms, data
        for text in (each.title, each.summary or ""):
            assert not any(ord(letter) < 32 and letter not in "\n\t" for letter in text), data


# --- WebSocket frames: ours against those of the `websockets` package ---

STRICTER_THAN_WEBSOCKETS = (
    f"message in more than {MAX_PARTS} parts",
    # `websockets` accepts a length in more bytes than it needs; the table of test_conformance.py has the others.
    "control frame that is fragmented, too long or has reserved bits",
)
"""Refusals of our reader where `websockets` is less strict."""
ReadMessages = list[tuple[int, bytes]]


def frames(data: bytes) -> None:
    """Check that both readers find the same messages in the same bytes, and stop at the same place."""
    if not data:
        return
    deflate, cut = bool(data[0] & 1), data[0] >> 1 or len(data)
    data = data[1:]
    ours, our_end = _read_by_us(data, deflate, cut)
    theirs, their_end = _read_by_them(data, deflate)
    if our_end in STRICTER_THAN_WEBSOCKETS:
        both = min(len(ours), len(theirs))
        assert ours[:both] == theirs[:both], data
        assert deflate or both == len(ours), data
        return
    if deflate and their_end == "refused":
        # `websockets` inflates a message part by part, we when it is complete; control frames may come in between.
        assert ours[: len(theirs)] == theirs, data
        assert all(kind >= Opcode.CLOSE for kind, _ in ours[len(theirs) :]), data
        return
    if our_end == "refused" and their_end == "open" and theirs == ours:
        # We refuse a frame by its head; `websockets` waits for all of it.
        theirs, their_end = _read_by_them(data + bytes(2 * MAX_MESSAGE_BYTES), deflate)
    if their_end == "closed within a message":  # an error for `websockets`, but not in the RFC
        assert (ours[:-1], our_end) == (theirs, "closed"), data
        return
    assert (ours, our_end) == (theirs, their_end), (data, deflate)


def _read_by_us(data: bytes, deflate: bool, cut: int) -> tuple[ReadMessages, str]:
    reader = Framing(MAX_MESSAGE_BYTES, deflate)
    messages: ReadMessages = []

    def collect() -> None:
        messages.extend((int(each.opcode), each.payload) for each in reader.messages)

    try:
        for at in range(0, len(data), cut):
            reader.feed(data[at : at + cut])
            collect()
            if reader.stopped:
                return messages, "closed"
    except FrameError as error:
        collect()
        assert error.code in (1002, 1007, 1009)
        return messages, error.reason if error.reason in STRICTER_THAN_WEBSOCKETS else "refused"
    return messages, "open"


def _read_by_them(data: bytes, deflate: bool) -> tuple[ReadMessages, str]:
    protocol = ServerProtocol(state=State.OPEN, max_size=MAX_MESSAGE_BYTES)
    if deflate:
        protocol.extensions = [PerMessageDeflate(True, True, 15, 15)]
    protocol.receive_data(data)
    messages: ReadMessages = []
    parts: list[bytes] = []
    kind: Op | None = None
    for event in protocol.events_received():
        assert isinstance(event, Frame)
        payload = bytes(event.data)
        if event.opcode in (Op.CLOSE, Op.PING, Op.PONG):
            messages.append((int(event.opcode), payload))
            if event.opcode is Op.CLOSE:
                return messages, "closed"
            continue
        kind = event.opcode if event.opcode is not Op.CONT else kind
        parts.append(payload)
        if event.fin and kind is not None:
            whole, parts = b"".join(parts), []
            if kind is Op.TEXT:
                try:
                    whole.decode()
                except UnicodeDecodeError:
                    return messages, "refused"
            messages.append((int(kind), whole))
    if "incomplete fragmented message" in str(protocol.parser_exc):
        return messages, "closed within a message"
    return messages, "open" if protocol.parser_exc is None else "refused"


def _frame(head: int, payload: bytes = b"") -> bytes:
    """Return a frame masked with zeros, so that mutations reach the payload."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes([head]) + length + bytes(4) + payload


MESSAGES = (
    b'{"op":"subscribe","topics":["price.BTC","ohlcv.ETH.1m"],"since":"e1-3","interval_ms":250,"req":7}',
    b'{"op":"subscribe","topics":["price.*",">"],"batch":true}\n{"op":"unsubscribe","topics":["price.*"]}',
    b'{"op":"snapshot","topics":["news","status"],"req":"a"}\n{"op":"ping","req":1}\n[]\n{"op":null}',
    b'{"op":"subscribe","topics":["gas.ethereum","sentiment.BTC","market.global"],"interval_ms":1e999}',
)
DEFLATED = b"\xaa\x56\x4a\x2d\x50\xb2\x52\x2a\xc8\xcc\x4b\x57\xaa\x05\x00"
TARGETS: Mapping[str, Target] = {
    "message": Target(message, MESSAGES),
    "cursor": Target(
        cursor,
        (b"e1-3", b"e1-18", b"e1-8", b"e1-99", b"e0-1", b"earliest", b"e1-007", b"e1--1", b"e1-3\n", b"E1-3", b""),
        80,
    ),
    "retry_after": Target(
        retry_after,
        (
            b"120\nSun, 22 Nov 2026 08:00:00 GMT",
            b"Sun, 22 Nov 2026 08:01:30 GMT\nSun, 22 Nov 2026 08:00:00 GMT",
            b"Sunday, 22-Nov-26 08:01:30 GMT",
            b"Sun Nov 22 08:01:30 2026",
            b"Mon, 01 Jan 0001 00:00:00 +2359",
            b"-5",
            b"9999999999999",
        ),
        200,
    ),
    "rss": Target(rss, tuple(path.read_bytes()[:6000] for path in sorted((SAMPLES / "rss").glob("*.xml"))), 8192),
    "frames": Target(
        frames,
        (
            b"\x00" + _frame(0x81, b'{"op":"ping"}') + _frame(0x89, b"p") + _frame(0x88, b"\x03\xe8bye"),
            b"\x04" + _frame(0x01, b"\xce") + _frame(0x8A) + _frame(0x80, b"\xba"),
            b"\x01" + _frame(0xC1, DEFLATED) + _frame(0x82, b"\xff"),
            b"\x01" + _frame(0x41, DEFLATED[:5]) + _frame(0x80, DEFLATED[5:]),
            b"\x0f" + _frame(0x81, b"x" * 300) + _frame(0x88),
            b"\x00\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
            b"\x00" + _frame(0x88, b"\x03"),
            b"\x00" + _frame(0x88, b"\x03\xed"),
            b"\x00" + _frame(0x88, b"\x03\xe8\xed\xa0\x80"),
            b"\x00" + _frame(0x89, b"x" * 126),
            b"\x00" + _frame(0x91, b"{}"),
            b"\x00\x8a\xff" + bytes(12),
            b"\x00\x89\xfe\x00\x01\x00\x00\x00\x00p",
        ),
    ),
}

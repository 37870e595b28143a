"""One client's protocol: every op, every refusal, every limit; and whatever else a client may send."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.model import Pair
from feeds.symbols import Symbols
from stream_server import __version__
from stream_server.delivery import session
from stream_server.delivery.outbox import Outbox
from stream_server.delivery.session import Session
from stream_server.wire.messages import MAX_EVENT_BYTES, MAX_MESSAGE_BYTES, Wire
from stream_server.wire.refusals import CODES, Refusal
from tests.fakes.clock import START_MS
from tests.fakes.pipe import FakePipe, HubRig, Message

BASES = ("BTC", "ETH", "SOL")


class Talk(HubRig):
    """One session on a hub, with a few markets listed."""

    def __init__(self, bases: tuple[str, ...] = BASES, inflates: bool = False, ttl_s: float | None = None) -> None:
        super().__init__(ttl_s=ttl_s)
        self.symbols = Symbols()
        self.symbols.learn(Pair(f"{base}USDT", base, "USDT") for base in bases)
        self.pipe = FakePipe()
        self.outbox = Outbox(self.pipe, Wire.WEBSOCKET)
        self.session = Session(self.hub, self.outbox, self.symbols, self.clock, 20.0, inflates)

    def opened(self, *selectors: str, since: str | None = None, interval_ms: int = 0) -> "Talk":
        self.session.open(selectors, since, interval_ms)
        return self

    def ask(self, **message: Any) -> list[Message]:
        """Send a message; return what came back."""
        return self.send(orjson.dumps(message).decode())

    def send(self, text: str) -> list[Message]:
        self.pipe.take()
        self.session.receive(text)
        return self.pipe.take()


def talk() -> Talk:
    opened = Talk().opened()
    opened.pipe.take()
    return opened


# --- the ops ---


def test_hello_comes_first_and_names_server_epoch_and_heartbeat() -> None:
    opened = Talk().opened()
    assert opened.pipe.take() == [
        {
            "type": "hello",
            "protocol": 1,
            "server": f"stream-server/{__version__}",
            "epoch": "e1",
            "heartbeat_s": 20.0,
            "now": START_MS,
        }
    ]


def test_topics_of_the_url_are_subscribed_after_hello() -> None:
    rig = Talk()
    cursor, missed = rig.publish("price.BTC"), rig.publish("price.BTC")
    rig.opened("btc-usdt", "price.btc", since=cursor, interval_ms=100)
    hello, error, subscribed, update, synced = rig.pipe.take()
    assert (hello["type"], error["code"]) == ("hello", "unknown_topic")
    assert subscribed["topics"] == ["price.BTC"]
    assert (subscribed["resumed"], update["id"], synced["id"]) == (True, missed, missed)


@pytest.mark.parametrize("req", [0, 7, -1, 2**63, "", "a", "ü" * 64])
def test_every_answer_repeats_req(req: int | str) -> None:
    rig = talk()
    answers = [
        *rig.ask(op="subscribe", topics=["price.BTC"], req=req),
        *rig.ask(op="snapshot", topics=["price.BTC"], req=req),
        *rig.ask(op="unsubscribe", topics=["price.BTC"], req=req),
        *rig.ask(op="ping", req=req),
        *rig.ask(op="nonsense", req=req),
        *rig.ask(op="subscribe", topics=["bogus"], req=req),
        *rig.ask(op="subscribe", topics="price.BTC", req=req),
    ]
    kinds = ["subscribed", "synced", "snapshot", "unsubscribed", "pong", "error", "error", "error"]
    assert [answer["type"] for answer in answers] == kinds
    assert [answer["req"] for answer in answers] == [req] * len(kinds)


@pytest.mark.parametrize("text", ["ping", " ping\n"])
@pytest.mark.parametrize("batch", [False, True])
def test_a_ping_in_plain_text_is_answered_as_plainly_however_often(text: str, batch: bool) -> None:
    rig = talk()
    rig.session.batch(batch)
    for number in range(1, 251):
        rig.pipe.flowing = False
        rig.session.receive(text)
        rig.pipe.flowing = True
        assert bytes(rig.pipe.unread) == b"\x81\x04pong" * number
        rig.clock.advance(1)
    assert rig.pipe.closing is None


def test_a_ping_may_name_itself_by_its_type() -> None:
    (pong,) = talk().ask(type="ping", req=3)
    assert (pong["type"], pong["req"]) == ("pong", 3)


def test_a_byte_order_mark_before_a_message_is_passed_over() -> None:
    rig = talk()
    assert rig.send('\ufeff{"op":"ping"}')[0]["type"] == "pong"


def test_an_answer_to_a_message_without_req_has_none() -> None:
    rig = talk()
    assert rig.ask(op="ping") == [{"type": "pong", "ts": START_MS}]
    assert rig.ask(op="ping", req=None) == [{"type": "pong", "ts": START_MS}]


def test_subscribe_takes_topics_as_people_spell_them() -> None:
    rig = talk()
    wanted = ["price.btc", "PRICE.ETH-USDT", "price.bitcoin", "ohlcv.SOLUSDT.1m", "price.*", "ohlcv.eth.>", "status"]
    subscribed, _ = rig.ask(op="subscribe", topics=wanted)
    assert subscribed["topics"] == [
        *("price.BTC", "price.ETH", "ohlcv.SOL.1m", "price.*", "ohlcv.ETH.>", "status"),
    ]


def test_subscribe_resumes_and_throttles() -> None:
    rig = talk()
    cursor = rig.publish("price.BTC")
    subscribed, _ = rig.ask(op="subscribe", topics=["price.ETH"], since=cursor, interval_ms=1000)
    assert (subscribed["resumed"], subscribed["from"]) == (True, cursor)
    rig.publish("price.ETH")
    update = rig.publish("price.ETH")
    rig.clock.turn()
    assert rig.pipe.messages == []
    rig.clock.advance(1)
    assert [message["id"] for message in rig.pipe.take()] == [update]


def test_the_good_topics_of_a_list_are_subscribed_and_the_bad_ones_named() -> None:
    rig = talk()
    error, subscribed, synced = rig.ask(op="subscribe", topics=["price.BTC", "price.NOPE", "ohlcv.BTC.7m"], req=1)
    assert (error["code"], error["req"]) == ("unknown_topic", 1)
    assert "price.NOPE" in str(error["message"]) and "7m" in str(error["message"])
    assert subscribed["topics"] == ["price.BTC"]
    assert synced["type"] == "synced"


def test_unsubscribe_names_what_it_took_off() -> None:
    rig = talk()
    rig.ask(op="subscribe", topics=["price.BTC", "price.ETH"])
    answer = rig.ask(op="unsubscribe", topics=["price.btc", "price.SOL"], req="x")
    assert answer == [{"type": "unsubscribed", "topics": ["price.BTC"], "req": "x"}]


def test_snapshot_gives_last_values_with_their_position_and_subscribes_nothing() -> None:
    rig = talk()
    rig.publish("price.ETH")
    btc = rig.publish("price.BTC", 3)
    (answer,) = rig.ask(op="snapshot", topics=["price.BTC", "price.SOL"], req=2)
    assert (answer["id"], answer["topics"], answer["stale"], answer["req"]) == (btc, ["price.BTC", "price.SOL"], [], 2)
    events: Any = answer["events"]
    assert [(event["type"], event["id"], event["data"]) for event in events] == [("update", btc, {"value": 3})]
    rig.publish("price.BTC")
    rig.clock.turn()
    assert rig.pipe.messages == []


def test_a_snapshot_of_much_comes_in_several_messages_of_which_each_fits() -> None:
    rig = Talk(many(400), ttl_s=10.0).opened()
    sizes = [MAX_EVENT_BYTES - 200, *[4000] * 300, MAX_EVENT_BYTES - 200, 10]
    ids = [rig.publish(f"price.S{number}", "x" * size) for number, size in enumerate(sizes)]
    rig.clock.seconds += 11.0
    parts = rig.ask(op="snapshot", topics=["price.*", *(f"price.S{number}" for number in range(400))], req=5)
    assert len(parts) > 4
    assert all(len(orjson.dumps(part)) <= MAX_MESSAGE_BYTES for part in parts)
    assert [part.get("more", False) for part in parts] == [True] * (len(parts) - 1) + [False]
    assert {(part["type"], part["id"], part["req"], len(list_of(part, "topics"))) for part in parts} == {
        ("snapshot", ids[-1], 5, 401)
    }
    events = [event for part in parts for event in list_of(part, "events")]
    assert [event["id"] for event in events] == ids
    for part in parts:
        assert part["stale"] == [event["topic"] for event in list_of(part, "events")]


def list_of(message: Message, field: str) -> list[Any]:
    """Return a field that is a list."""
    value = message[field]
    assert isinstance(value, list)
    return value


def test_a_snapshot_of_nothing_is_one_empty_message() -> None:
    (answer,) = talk().ask(op="snapshot", topics=["price.BTC"], req=5)
    assert (answer["events"], answer["stale"], "more" in answer) == ([], [], False)


def test_a_snapshot_after_a_standstill_names_the_stale_values() -> None:
    rig = Talk(ttl_s=10.0).opened()
    rig.publish("price.BTC")
    rig.clock.seconds += 11.0  # without any housekeeping
    (answer,) = rig.ask(op="snapshot", topics=["price.BTC"])
    assert answer["stale"] == ["price.BTC"]


def test_a_snapshot_on_a_throttled_connection_comes_after_what_is_held() -> None:
    rig = talk()
    rig.ask(op="subscribe", topics=["price.BTC"], interval_ms=60_000)
    rig.publish("price.BTC")
    update, answer = rig.ask(op="snapshot", topics=["price.ETH"])
    assert (update["type"], answer["type"]) == ("update", "snapshot")
    assert update["id"] == answer["id"] == "e1-1"


def test_batch_turns_frames_into_arrays_and_back() -> None:
    rig = talk()
    wires = []
    for wish in ({"batch": True}, {}, {"batch": False}):
        rig.ask(op="subscribe", topics=["price.*"], **wish)
        wires.append(rig.outbox.wire)
    assert wires == [Wire.WEBSOCKET_BATCH, Wire.WEBSOCKET_BATCH, Wire.WEBSOCKET]


def test_batches_are_compressed_for_a_client_that_inflates() -> None:
    rig = Talk(inflates=True).opened()
    rig.ask(op="subscribe", topics=["price.*"], batch=True)
    assert rig.outbox.wire is Wire.WEBSOCKET_DEFLATE
    ids = [rig.publish(f"price.{base}", "x" * 400) for base in BASES]
    rig.pipe.take()
    rig.clock.turn()
    assert [message["id"] for message in rig.pipe.take()] == ids


# --- refusals ---


@pytest.mark.parametrize(
    ("text", "code", "named"),
    [
        ("", "bad_json", "''"),
        ("{", "bad_json", "'{'"),
        ("nonsense", "bad_json", "nonsense"),
        ('{"op":"ping","x":NaN}', "bad_json", "NaN"),
        ('"\\ud800"', "bad_json", "ud800"),
        ("[" * 2000 + "]" * 2000, "bad_json", "[["),
        ("[]", "bad_request", "not a JSON object"),
        ("7", "bad_request", "not a JSON object"),
        ("null", "bad_request", "not a JSON object"),
        ("{}", "unknown_op", "null"),
        ('{"op":"drop"}', "unknown_op", "drop"),
        ('{"op":["ping"]}', "unknown_op", "ping"),
        ('{"op":"PING"}', "unknown_op", "subscribe, unsubscribe, snapshot, ping"),
        ('{"op":"ping","req":{}}', "bad_request", "req"),
        ('{"op":"ping","req":[1]}', "bad_request", "req"),
        ('{"op":"ping","req":true}', "bad_request", "req"),
        ('{"op":"ping","req":"%s"}' % ("x" * 65), "bad_request", "req"),
        ('{"op":"subscribe"}', "bad_request", "topics"),
        ('{"op":"subscribe","topics":[]}', "bad_request", "topics"),
        ('{"op":"subscribe","topics":"price.BTC"}', "bad_request", "topics"),
        ('{"op":"subscribe","topics":{"price.BTC":1}}', "bad_request", "topics"),
        ('{"op":"subscribe","topics":["price.BTC",1]}', "bad_request", "1"),
        ('{"op":"unsubscribe"}', "bad_request", "topics"),
        ('{"op":"snapshot","topics":null}', "bad_request", "topics"),
        ('{"op":"subscribe","topics":["price.BTC"],"since":7}', "bad_request", "since"),
        ('{"op":"subscribe","topics":["price.BTC"],"interval_ms":"1"}', "bad_request", "interval_ms"),
        ('{"op":"subscribe","topics":["price.BTC"],"interval_ms":0.5}', "bad_request", "interval_ms"),
        ('{"op":"subscribe","topics":["price.BTC"],"interval_ms":true}', "bad_request", "interval_ms"),
        ('{"op":"subscribe","topics":["price.BTC"],"interval_ms":-1}', "bad_request", "interval_ms"),
        ('{"op":"subscribe","topics":["price.BTC"],"interval_ms":3600001}', "bad_request", "interval_ms"),
        ('{"op":"subscribe","topics":["price.BTC"],"batch":1}', "bad_request", "batch"),
        ('{"op":"subscribe","topics":["price.NOPE"]}', "unknown_topic", "price.NOPE"),
        ('{"op":"subscribe","topics":["weather.BTC"]}', "unknown_topic", "weather.BTC"),
        ('{"op":"subscribe","topics":["price.B*"]}', "unknown_topic", "price.B*"),
        ('{"op":"subscribe","topics":[">.BTC"]}', "unknown_topic", ">.BTC"),
        ('{"op":"subscribe","topics":[""]}', "unknown_topic", "''"),
        ('{"op":"subscribe","topics":["price.%s"]}' % ("x" * 9000), "unknown_topic", "longer than"),
        ('{"op":"snapshot","topics":["price.NOPE"]}', "unknown_topic", "price.NOPE"),
    ],
)
def test_a_message_that_makes_no_sense_costs_one_error_that_names_it(text: str, code: str, named: str) -> None:
    rig = talk()
    (error,) = rig.send(text)
    assert (error["type"], error["code"]) == ("error", code)
    assert named in str(error["message"])
    assert len(str(error["message"])) < 500
    assert code in CODES
    assert rig.ask(op="ping")[0]["type"] == "pong"


ODD_FIELDS: dict[str, list[object]] = {
    "req": [[1], {}, True, "x" * 65],
    "topics": [None, [], "price.BTC", [7], {"price.BTC": 1}],
    "since": [7, True, ["e1-1"]],
    "Last-Event-ID": [7, {}],
    "interval_ms": ["1", 0.5, True, -1, 3_600_001, 1e300, [0]],
    "batch": [1, "yes", []],
}
"""For each field of a message, values that are refused."""
FIELDS_OF = {
    "subscribe": tuple(ODD_FIELDS),
    "unsubscribe": ("req", "topics"),
    "snapshot": ("req", "topics"),
    "ping": ("req",),
    "fly": ("req",),
}


@given(st.sampled_from(sorted(FIELDS_OF)), st.data())
def test_an_error_names_every_field_that_is_wrong(op: str, data: st.DataObject) -> None:
    rig = talk()
    wrong = data.draw(st.sets(st.sampled_from(FIELDS_OF[op])))
    odd = {name: data.draw(st.sampled_from(ODD_FIELDS[name]), label=name) for name in sorted(wrong)}
    answer = rig.ask(**{"topics": ["price.BTC"], "op": op} | odd)
    if not wrong and op != "fly":
        assert "error" not in [message["type"] for message in answer]
        return
    (error,) = answer
    assert error["code"] == ("bad_request" if wrong else "unknown_op")
    named = {sentence.split()[0] for sentence in str(error["message"]).split("; ")}
    assert named == wrong | ({"op"} if op == "fly" else set())
    assert rig.hub.members.by_outbox[rig.outbox].selection == {}


def test_a_refused_subscription_changes_nothing() -> None:
    rig = talk()
    rig.ask(op="subscribe", topics=["price.BTC"], since=7)
    rig.ask(op="subscribe", topics=["price.BTC"], interval_ms=-1, batch=True)
    assert rig.hub.members.by_outbox[rig.outbox].selection == {}
    assert rig.outbox.wire is Wire.WEBSOCKET


def test_unsubscribing_from_what_nobody_can_feed_names_it() -> None:
    rig = talk()
    error, unsubscribed = rig.ask(op="unsubscribe", topics=["price.NOPE"])
    assert (error["code"], unsubscribed["topics"]) == ("unknown_topic", [])


# --- limits ---


def test_a_burst_of_fifty_messages_is_taken_and_one_more_closes_with_4013() -> None:
    rig = talk()
    for _ in range(50):
        assert rig.ask(op="ping")
    (goodbye,) = rig.ask(op="ping")
    assert (goodbye["type"], goodbye["code"]) == ("goodbye", 4013)
    closing = rig.pipe.closing
    assert closing is not None and (closing.code, closing.reconnect) == (4013, True)
    assert goodbye["after_ms"] == 5000
    assert rig.outbox not in rig.hub.members.by_outbox
    rig.ask(op="ping")
    assert rig.pipe.closed_times == 1


def test_twenty_messages_a_second_are_accepted_forever() -> None:
    rig = talk()
    for _ in range(500):
        assert rig.ask(op="ping")
        rig.clock.advance(0.05)
    assert rig.pipe.close_code() is None


def many(count: int) -> tuple[str, ...]:
    return tuple(f"S{number}" for number in range(count))


@pytest.mark.parametrize("op", ["subscribe", "unsubscribe", "snapshot"])
def test_a_long_list_of_names_counts_as_more_messages(op: str) -> None:
    rig = talk()
    names = [f"x{number}" for number in range(999)]
    for _ in range(5):
        (error, *_) = rig.ask(op=op, topics=names)
        assert error["code"] == "unknown_topic"
    assert rig.ask(op=op, topics=names)[-1]["code"] == 4013
    assert rig.pipe.close_code() == 4013


@pytest.mark.parametrize("op", ["subscribe", "unsubscribe", "snapshot"])
def test_each_pattern_counts_as_one_more_message(op: str) -> None:
    rig = Talk(many(16)).opened()
    patterns = [f"ohlcv.S{number}.*" for number in range(15)]
    for _ in range(3):  # of 16 each: more than 48 of the burst of 50
        rig.ask(op=op, topics=patterns)
    assert rig.pipe.close_code() is None
    rig.ask(op=op, topics=patterns)
    assert rig.pipe.close_code() == 4013


def test_too_many_names_in_a_snapshot_are_refused_before_any_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Talk(many(20)).opened()
    looked_at: list[object] = []
    monkeypatch.setattr(rig.hub, "snapshot", looked_at.append)
    (error,) = rig.ask(op="snapshot", topics=[f"ohlcv.S{number}.*" for number in range(17)], req="a")
    assert (error["code"], error["req"]) == ("topic_limit", "a")
    assert looked_at == []
    assert rig.pipe.close_code() is None


def test_an_error_names_every_bad_topic_but_explains_only_the_first_ones() -> None:
    names = [f"x{number}" for number in range(99)]
    (error,) = talk().ask(op="subscribe", topics=names)
    assert error["topics"] == names
    message = str(error["message"])
    assert "'x9' is not" in message
    assert "'x10'" not in message
    assert message.endswith("; and 89 more")


def test_a_client_that_asks_for_everything_again_and_again_without_reading_is_cut_at_once() -> None:
    rig = Talk()
    rig.opened()
    for base in BASES:
        rig.publish(f"price.{base}", "x" * 300_000)
    rig.pipe.clog()
    for number in range(10):
        rig.session.receive(orjson.dumps({"op": "snapshot", "topics": [">"], "req": number}))
    assert rig.outbox.held_bytes <= rig.hub.policy.outbox_bytes + 1_000_000
    assert rig.pipe.close_code() == 4008


def test_a_number_is_a_number_however_a_client_writes_it() -> None:
    rig = talk()
    (pong,) = rig.ask(op="ping", req=1.5)
    assert pong["req"] == 1.5
    for interval_ms in (1000.0, 1e3, None):
        kinds = [each["type"] for each in rig.ask(op="subscribe", topics=["price.BTC"], interval_ms=interval_ms)]
        assert kinds == ["subscribed", "synced"]


def test_a_thousand_topics_are_taken_and_one_more_closes_with_4505() -> None:
    bases = many(1001)
    rig = Talk(bases).opened()
    topics = [f"price.{base}" for base in bases]
    assert rig.ask(op="subscribe", topics=topics[:999])[0]["type"] == "subscribed"
    assert rig.ask(op="subscribe", topics=topics[998:1000])[0]["type"] == "subscribed"
    error, goodbye = rig.ask(op="subscribe", topics=topics[1000:], req=3)
    assert (goodbye["code"], goodbye["reconnect"]) == (4505, False)
    assert (error["type"], error["code"], error["req"]) == ("error", "topic_limit", 3)
    closing = rig.pipe.closing
    assert closing is not None and (closing.code, closing.reconnect) == (4505, False)


def test_sixteen_patterns_are_taken_and_one_more_closes_with_4505() -> None:
    bases = many(17)
    rig = Talk(bases).opened()
    assert rig.ask(op="subscribe", topics=[f"ohlcv.{base}.*" for base in bases[:16]])[0]["type"] == "subscribed"
    assert rig.ask(op="subscribe", topics=["ohlcv.S0.*", "price.S0"])[0]["type"] == "subscribed"
    error, _ = rig.ask(op="subscribe", topics=["ohlcv.S16.*"])
    assert error["code"] == "topic_limit"
    assert rig.pipe.close_code() == 4505


def test_too_many_topics_in_the_url_close_with_4505() -> None:
    bases = many(1001)
    rig = Talk(bases).opened(*(f"price.{base}" for base in bases))
    assert [message["type"] for message in rig.pipe.take()] == ["hello", "error", "goodbye"]
    assert rig.pipe.close_code() == 4505


def test_unsubscribing_makes_room() -> None:
    bases = many(1001)
    rig = Talk(bases).opened(*(f"price.{base}" for base in bases[:1000]))
    rig.ask(op="unsubscribe", topics=["price.S0"])
    assert rig.ask(op="subscribe", topics=["price.S1000"])[0]["type"] == "subscribed"


def nonsense(rig: Talk, times: int, **message: object) -> None:
    for _ in range(times):
        rig.clock.advance(0.1)
        rig.ask(**message)


def test_a_hundred_messages_in_a_row_that_make_no_sense_close_with_4501() -> None:
    rig = talk()
    nonsense(rig, 99, op="nonsense")
    assert rig.pipe.close_code() is None
    nonsense(rig, 1, op="nonsense")
    closing = rig.pipe.closing
    assert closing is not None and (closing.code, closing.reconnect) == (4501, False)


def test_a_message_that_makes_sense_wipes_the_strikes_out() -> None:
    rig = talk()
    for _ in range(3):
        nonsense(rig, 99, op="nonsense")
        rig.ask(op="ping")
    assert rig.pipe.close_code() is None


@pytest.mark.parametrize("op", ["subscribe", "unsubscribe", "snapshot"])
def test_the_last_strike_may_come_from_within_an_op(op: str) -> None:
    rig = talk()
    nonsense(rig, 99, op="nonsense")
    nonsense(rig, 1, op=op, topics=["price.BTC", "price.NOPE"])
    assert rig.pipe.close_code() == 4501
    assert rig.outbox not in rig.hub.members.by_outbox


def test_a_binary_frame_is_refused_by_the_shell_with_an_error_of_the_table() -> None:
    rig = talk()
    rig.session.refuse(Refusal("binary_refused", "binary frames are refused", details={"hint": "text"}))
    assert rig.pipe.take() == [
        {"type": "error", "code": "binary_refused", "message": "binary frames are refused", "hint": "text"}
    ]


# --- whatever else ---

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
names = st.sampled_from(["price.BTC", "price.*", ">", "ohlcv.ETH.1m", "status", "price.", "*.*", "..", ""]) | st.text(
    max_size=12
)
near_misses = st.fixed_dictionaries(
    {},
    optional={
        "op": st.sampled_from(session.OPS) | anything,
        "topics": st.lists(names | anything, max_size=6) | anything,
        "since": st.sampled_from(["e1-0", "e1-3", "e0-1", "earliest", "e1-99", ""]) | anything,
        "interval_ms": st.sampled_from([0, 100, -1, 2**70]) | anything,
        "batch": st.booleans() | anything,
        "req": st.integers() | st.text(max_size=70) | anything,
    },
)


def as_json(value: object) -> str:
    return json.dumps(value)


messages = st.text(max_size=60) | anything.map(as_json) | near_misses.map(as_json)


@settings(max_examples=150)
@given(sent=st.lists(messages, max_size=12))
def test_whatever_a_client_sends_raises_nothing_and_changes_nothing_for_another(sent: list[str]) -> None:
    rig = talk()
    other = rig.listener("price.BTC", "ohlcv.>")
    ids = []
    for text in sent:
        for answer in rig.send(text):
            assert isinstance(answer["type"], str)
            if answer["type"] == "error":
                assert answer["code"] in CODES and answer["message"]
        ids += [rig.publish("price.BTC"), rig.publish("ohlcv.ETH.1m", log=True)]
        rig.clock.turn()
    assert other.outline() == ids

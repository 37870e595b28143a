"""`/asyncapi.json` describes every message that a client gets, on both transports, as it is sent."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from feeds import topics
from stream_server.connections.websocket import BINARY
from stream_server.delivery.session import OPS
from stream_server.delivery.shapes import UPDATES
from stream_server.specs import asyncapi, openapi
from stream_server.wire import refusals
from stream_server.wire.messages import Wire
from tests.clients import sse, websocket
from tests.contract import Contract
from tests.delivery.test_session import Talk
from tests.fakes.pipe import HubRig, Message
from tests.harness import running, until
from tests.sources import sourced

DOCUMENT = asyncapi.document()
NAMES = {each.__name__ for each in UPDATES.values()}
COMMANDS = {f"op.{op}" for op in OPS}
CONTRACT = Contract(DOCUMENT)
MESSAGES = DOCUMENT["components"]["messages"]
TO_WEBSOCKET = set(DOCUMENT["channels"]["websocket"]["messages"]) - COMMANDS
TO_SSE = set(DOCUMENT["channels"]["sse"]["messages"])


def described_as(message: Message) -> str:
    """Return the name of the described message that a client got. Fail if there is none or it differs."""
    fitting = []
    for name, each in MESSAGES.items():
        payload = CONTRACT.follow(each["payload"])
        if payload["properties"].get("type", {}).get("const") != message["type"]:
            continue
        if message["type"] != "update":
            assert CONTRACT.problems(each["payload"], message) == [], message
            return str(name)
        if CONTRACT.problems(payload["properties"]["topic"], message["topic"]) == []:
            assert CONTRACT.problems(each["payload"], message) == [], message
            fitting.append(name)
    assert len(fitting) == 1, (message, fitting)
    return str(fitting[0])


# --- the document itself ---


def test_every_message_has_an_example_that_fits_it() -> None:
    for name, message in MESSAGES.items():
        schema = CONTRACT.follow(message["payload"])
        Draft202012Validator.check_schema(schema)
        assert message["examples"], name
        for example in message["examples"]:
            assert CONTRACT.problems(message["payload"], example["payload"]) == [], name


def test_every_reference_leads_somewhere() -> None:
    def references(part: object) -> Iterator[dict[str, Any]]:
        match part:
            case dict() if isinstance(part.get("$ref"), str):
                yield part
            case dict():
                for each in part.values():
                    yield from references(each)
            case list():
                for each in part:
                    yield from references(each)

    for document in (DOCUMENT, openapi.document()):
        contract = Contract(document)
        found = list(references(document))
        assert len(found) > 50
        for each in found:
            assert contract.follow(each)


def test_every_topic_has_its_message_and_every_op_its_command() -> None:
    assert set(UPDATES) == set(topics.TEMPLATES)
    assert {message["title"] for name, message in MESSAGES.items() if name in NAMES} == set(topics.TEMPLATES)
    assert {name for name in MESSAGES if name.startswith("op.")} == COMMANDS


def test_every_close_code_is_listed() -> None:
    told = DOCUMENT["channels"]["websocket"]["x-close-codes"]
    assert [each["code"] for each in told] == [closing.code for closing in refusals.CLOSINGS]


# --- messages as they are sent ---


async def test_the_values_of_all_topics_are_as_described_on_both_transports(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        service = every.service
        wanted = "price.BTC,ohlcv.BTC.1m,market,market.global,news,sentiment.*,gas.*,chain.*,status"
        held = service.context.hub.topics
        # Articles are scored before they are published, and coins after that.
        await until(
            lambda: "news" in held and any(name.startswith("sentiment.") and name[10:].isupper() for name in held)
        )
        async with websocket(service, f"topics={wanted}") as ws, sse(service, f"topics={wanted}") as stream:
            expected = {*NAMES, "hello", "subscribed", "synced"}
            for heard, transport in (
                (await ws.until("synced"), TO_WEBSOCKET),
                ([event.json for event in await stream.until("synced")], TO_SSE),
            ):
                seen = {described_as(message) for message in heard}
                assert seen == expected
                assert seen <= transport
            await ws.send(op="snapshot", topics=["market", "gas.*", "news"], req="held")
            assert described_as(await ws.one("snapshot", req="held")) == "snapshot"


def test_control_messages_are_as_described() -> None:
    heard: list[Message] = []
    rig = HubRig(ring_events=2, ttl_s=60.0)
    rig.publish("price.BTC")
    for _ in range(4):
        rig.publish("news", log=True)
    listener = rig.client()
    listener.subscribe("price.BTC", "news", since="e0-7", req="a")
    rig.hub.gap("news", 60_000, 180_000)
    rig.clock.turn()
    rig.pass_time(61)
    rig.publish("price.BTC")
    rig.clock.turn()
    listener.pipe.clog()
    for _ in range(3):
        rig.publish("price.BTC")
        rig.clock.turn()
    listener.pipe.drain()
    rig.clock.advance(0.02)
    rig.pass_time(31)
    rig.hub.refuse("price.BTC", "it is no longer traded")
    rig.hub.members.close(listener.outbox, refusals.SHUTTING_DOWN, after_ms=3)
    heard += listener.pipe.messages

    # The values of this test are made up, and do not fit the shapes of topics.
    seen = {described_as(message) for message in heard if message["type"] != "update"}
    assert seen == {"subscribed", "synced", "gap", "stale", "fresh", "conflated", "pos", "error", "goodbye"}
    assert {message["reason"] for message in heard if message["type"] == "gap"} == {"epoch", "upstream"}
    assert {message["reason"] for message in heard if message["type"] in ("stale", "fresh")} == {"no_update", "update"}


@pytest.mark.parametrize("closing", refusals.CLOSINGS, ids=lambda closing: str(closing.code))
def test_every_goodbye_is_as_described(closing: refusals.Closing) -> None:
    rig = HubRig()
    client = rig.client(Wire.SSE)
    rig.hub.members.close(client.outbox, closing)
    assert described_as(client.pipe.messages[-1]) == "goodbye"


def test_the_answers_to_commands_are_as_described_and_so_are_the_commands() -> None:
    sent: list[tuple[dict[str, Any], bool]] = [
        ({"op": "subscribe", "topics": ["price.btc-usdt", "price.*"], "interval_ms": 100, "req": "a"}, True),
        ({"op": "subscribe", "topics": ["news"], "since": "e1-0", "batch": False, "req": 7}, True),
        ({"op": "subscribe", "topics": ["price.NOPE"], "since": None, "batch": None, "req": None}, True),
        ({"op": "unsubscribe", "topics": ["price.*"]}, True),
        ({"op": "snapshot", "topics": ["price.BTC"], "req": 0}, True),
        ({"op": "ping", "req": "x" * 64}, True),
        ({"op": "ping", "req": "x" * 65}, False),
        ({"op": "ping", "req": 1.5}, True),
        ({"op": "ping", "req": True}, False),
        ({"op": "nope"}, False),
        ({"op": "subscribe"}, False),
        ({"op": "subscribe", "topics": []}, False),
        ({"op": "subscribe", "topics": [1]}, False),
        ({"op": "subscribe", "topics": ["news"], "since": 7}, False),
        ({"op": "subscribe", "topics": ["news"], "interval_ms": None}, True),
        ({"op": "subscribe", "topics": ["news"], "interval_ms": 1.5}, False),
        ({"op": "subscribe", "topics": ["news"], "interval_ms": -1}, False),
        ({"op": "subscribe", "topics": ["news"], "interval_ms": 3_600_001}, False),
        ({"op": "subscribe", "topics": ["news"], "interval_ms": "0"}, False),
        ({"op": "subscribe", "topics": ["news"], "batch": 1}, False),
        ({"op": "unsubscribe", "topics": "news"}, False),
        ({"op": "snapshot", "topics": [None]}, False),
    ]
    opened = Talk().opened()
    commands = [each["payload"] for name, each in MESSAGES.items() if name in COMMANDS]
    for command, fits in sent:
        assert any(CONTRACT.problems(payload, command) == [] for payload in commands) == fits, command
        answers = opened.ask(**command)
        assert answers, command
        seen = {described_as(message) for message in answers}
        assert seen <= TO_WEBSOCKET
        refused = [message["code"] for message in answers if message["type"] == "error"]
        assert (refused in ([], ["unknown_topic"])) == fits, (command, answers)
    for text in ("", "[]", "{"):
        assert [described_as(message) for message in opened.send(text)] == ["error"]
    opened.pipe.take()
    opened.session.refuse(BINARY)
    assert [described_as(message) for message in opened.pipe.take()] == ["error"]


async def test_the_described_query_of_a_stream_is_what_is_read(tmp_path: Path) -> None:
    queries = {
        "websocket": DOCUMENT["channels"]["websocket"]["bindings"]["ws"]["query"],
        "sse": DOCUMENT["operations"]["sendOverSse"]["bindings"]["http"]["query"],
    }
    for channel, path in (("websocket", "/ws"), ("sse", "/sse")):
        said = openapi.document()["paths"][path]["get"]["parameters"]
        assert {each["name"] for each in said if each["in"] == "query"} == set(queries[channel]["properties"])
    most = queries["sse"]["properties"]["interval_ms"]["maximum"]
    async with running(None, tmp_path) as service:
        for value, status in ((0, 200), (most, 200), (-1, 400), (most + 1, 400), ("x", 400)):
            async with service.http.get(f"{service.url}/sse?topics=news&interval_ms={value}") as answer:
                assert answer.status == status, value
            async with websocket(service, f"topics=news&interval_ms={value}&since=e0-1") as ws:
                heard = {message["type"]: message for message in await ws.so_far()}
                assert ("error" in heard) == (status == 400), value
                assert heard["subscribed"]["from"] == "e0-1"
        async with sse(service, "topics=news&since=e0-1&last_event_id=earliest") as stream:
            assert (await stream.one("subscribed")).json["from"] == "earliest"
        async with sse(service, "topics=news&last_event_id=earliest", Last_Event_ID="e0-2") as stream:
            assert (await stream.one("subscribed")).json["from"] == "e0-2"

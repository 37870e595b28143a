"""Tests that `/sse` and `/ws` read their parameters by the rules of REST: lists, numbers, cursors and limits."""

import contextlib
from collections.abc import AsyncIterator
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import websockets

from stream_server.delivery.selectors import MAX_PATTERNS, MAX_TOPICS
from tests.clients import Message, last_ts, serving, sse, websocket
from tests.fakes.binance import FakeBinance
from tests.harness import Running, running, until

SPELLINGS = ("since", "last_event_id", "lastEventId", "lastEventID", "Last-Event-ID", "LAST_EVENT_ID", "lasteventid")
TOPICS = "topics=price.BTC,ohlcv.BTC.1m"
NO_INTERVALS = ("1_000", "٣", "+5", "5.0", "1e3", "0x10", "-1", "3600001", "soon", "9" * 30, " ", "½", "5;6")


@pytest.fixture(params=["1", "0"], ids=["light", "aiohttp"])
async def service(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    """Run a service without an exchange, with each of the two WebSocket layers."""
    async with running(None, tmp_path, LIGHT_CONNECTIONS=request.param) as running_service:
        yield running_service


async def over_ws(service: Running, query: str, **options: Any) -> list[Message]:
    """Return every message that a WebSocket gets at its beginning."""
    async with websocket(service, query, **options) as client:
        return await client.so_far()


async def over_sse(service: Running, query: str, **headers: str) -> list[Message]:
    """Return every message that a stream gets up to its `synced`."""
    async with sse(service, query, **headers) as client:
        return [event.json for event in await client.until("synced")]


def one(heard: list[Message], kind: str) -> Message:
    (found,) = [message for message in heard if message["type"] == kind]
    return found


@pytest.mark.parametrize(
    "query",
    ["topics=price.BTC&topics=price.ETH,news", "topics=price.BTC,&topics=&topics=+price.ETH+&topics=news,news"],
)
async def test_topics_in_several_parameters_are_one_list(service: Running, query: str) -> None:
    for heard in (await over_ws(service, query), await over_sse(service, query)):
        assert one(heard, "subscribed")["topics"] == ["price.BTC", "price.ETH", "news"]
    status, body = await service.get(f"/api/snapshot?{query}")
    assert status == 200, body


async def test_all_that_is_wrong_is_named_at_once(service: Running) -> None:
    for value in NO_INTERVALS:
        query = f"topics=price.BTC&interval_ms={quote(value)}&since=a-1&since=a-2&ticket=a&ticket=b"
        status, body = await service.get(f"/sse?{query}")
        assert status == 400, value
        error = body["error"]
        assert isinstance(error, dict)
        assert error["details"].keys() == {"interval_ms", "since", "ticket"}, value
        heard = await over_ws(service, f"{query}&batch=perhaps")
        message = one(heard, "error")
        assert message["code"] == "bad_request"
        for name in ("interval_ms", "since", "ticket", "batch"):
            assert name in message["message"], value


async def test_two_different_positions_are_a_bad_cursor(service: Running) -> None:
    here = service.context.hub.position
    answer = one(await over_ws(service, f"topics=news&since={here}&since=other-1"), "subscribed")
    assert (answer["resumed"], answer["reason"]) == (False, "bad_cursor")


async def test_an_empty_parameter_counts_as_not_given(service: Running) -> None:
    for heard in (
        await over_ws(service, "topics=news&since=&last_event_id=&interval_ms=&batch=&ticket="),
        await over_sse(service, "topics=news&since=&last_event_id=&interval_ms=&ticket="),
    ):
        assert one(heard, "subscribed")["reason"] == "no_cursor"
        assert not [message for message in heard if message["type"] == "error"]


# --- cursors


@pytest.mark.parametrize("light", ["1", "0"], ids=["light", "aiohttp"])
async def test_no_candle_is_lost_whatever_the_position_is_called(tmp_path: Path, light: str) -> None:
    async with FakeBinance() as exchange, serving(exchange, tmp_path, LIGHT_CONNECTIONS=light) as service:
        here = one(await over_sse(service, TOPICS), "synced")["id"]
        exchange.advance(125)
        await until(lambda: last_ts(service, "price.BTC") == exchange.now_ms)

        def held(heard: list[Message], how: object) -> None:
            answer = one(heard, "subscribed")
            assert (answer["resumed"], answer["from"]) == (True, here), how
            candles = [each for each in heard if each["type"] == "update" and each["topic"] == "ohlcv.BTC.1m"]
            assert [each["data"]["state"] for each in candles] == ["closed", "closed", "live"], how

        for name in SPELLINGS:
            held(await over_sse(service, f"{TOPICS}&{name}={here}"), name)
            held(await over_sse(service, f"{TOPICS}&{name}={here}", Last_Event_ID=""), name)
            held(await over_ws(service, f"{TOPICS}&{name}={here}"), name)
            async with websocket(service) as client:
                await client.send(op="subscribe", topics=["price.BTC", "ohlcv.BTC.1m"], **{name: here})
                held(await client.until("synced"), name)
        header = {"additional_headers": {"Last-Event-ID": here}}
        held(await over_sse(service, f"{TOPICS}&since=x-1&lastEventId=x-2", Last_Event_ID=here), "header")
        held(await over_ws(service, f"{TOPICS}&since=x-1&lastEventId=x-2", **header), "header")
        # A library appends its position to a URL that has one already.
        for first, last in product(SPELLINGS[:3], SPELLINGS[2:]):
            if first != last:
                held(await over_sse(service, f"{TOPICS}&{first}=x-1&{last}={here}"), (first, last))
                held(await over_ws(service, f"{TOPICS}&{first}=x-1&{last}={here}"), (first, last))


# --- limits


LISTS: list[tuple[list[str], str | None]] = [
    ([f"price.S{number}" for number in range(600)], None),
    ([f"ohlcv.S{number}.*" for number in range(MAX_PATTERNS)], None),
    ([f"ohlcv.S{number}.*" for number in range(MAX_PATTERNS + 1)], "17 patterns"),
    ([f"*.S{number}" for number in range(40)], "40 patterns"),
    ([f"{number:x}" for number in range(MAX_TOPICS + 1)], "1001 topics"),
    (["price.BTC", "*.no.such"], "'*.no.such' matches no topic"),
    (["price.BTC", "weather.>"], "'weather.>' matches no topic"),
    (["price.BTC", "price." + "x" * 100], "longer than 100"),
]
"""Lists of topics, and what is wrong with each; None for nothing."""


async def test_every_way_to_name_topics_has_the_same_limit(service: Running) -> None:
    for names, wrong in LISTS:
        query = urlencode({"topics": ",".join(names)}, safe=",*>")
        for path in ("/sse", "/api/snapshot"):
            async with service.http.get(f"{service.url}{path}?{query}") as answer:
                assert answer.status == (400 if wrong else 200), path
                if wrong:
                    assert wrong in (await answer.json())["error"]["details"]["topics"], path
        assert_as_expected(await over_ws_or_its_end(service, query), wrong)
        for op in ("subscribe", "snapshot", "unsubscribe"):
            assert_as_expected(await over_ws_or_its_end(service, "", op=op, topics=names), wrong)


async def test_patterns_count_as_requests_of_their_address(tmp_path: Path) -> None:
    patterns = ",".join(f"ohlcv.S{number}.*" for number in range(MAX_PATTERNS))
    for path in ("/api/snapshot", "/sse"):
        async with running(None, tmp_path, REST_RATE_PER_S="20") as service:
            for topics, refused in (("price.BTC", False), (patterns, True)):
                statuses = []
                for _ in range(8):
                    async with service.http.get(f"{service.url}{path}?topics={topics}") as answer:
                        statuses.append(answer.status)
                assert (429 in statuses) == refused, (path, statuses)


def assert_as_expected(heard: list[Message], wrong: str | None) -> None:
    errors = [message["message"] for message in heard if message["type"] == "error"]
    if wrong is None:
        assert errors == []
        assert {message["type"] for message in heard} & {"subscribed", "unsubscribed", "snapshot"}
    else:
        (error,) = errors
        assert wrong in error


async def over_ws_or_its_end(service: Running, query: str, **message: object) -> list[Message]:
    """Return every message up to the answer to a ping, or to the end of a connection over the limit."""
    async with websocket(service, query) as client:
        heard: list[Message] = []
        with contextlib.suppress(websockets.ConnectionClosed):
            if message:
                await client.send(**message)
            await client.send(op="ping", req="fence")
        with contextlib.suppress(websockets.ConnectionClosed):
            while not heard or heard[-1].get("req") != "fence":
                heard.append(await client.next())
        return heard

"""Tests of `/sse` and `/ws` with queries drawn from their description in `/openapi.json`, and with bad ones."""

import asyncio
import json
import random
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from websockets.asyncio.client import ClientConnection

from tests.clients import Message, websocket
from tests.harness import Running, running

QUERIES = 25
TEXTS = ("x-1", "earliest", "ü", "%", "a b", "a\n b", "\0", "💥", "x" * 300, "1,2;3")
ODD_BYTES = (b"\xff", b"\xed\xa0\x80", b"x\xc3")
"""Bytes that are not UTF-8."""
TOPICS = ("price.BTC", "news", "ohlcv.BTC.1m", "price.*", "ohlcv.*.1m,status", "price.btc", ">")
UNKNOWN_TOPICS = ("weather.BTC", "ohlcv.BTC.7m", "price.B*", ">.BTC", "price", "\0", "price." + "x" * 120)
NO_WHOLE = ("1_000", "٣", "+5", "5.0", "1e3", "-1", "soon", " ", "½")


def drawn(schema: dict[str, Any], *, good: bool, rng: random.Random) -> bytes | None:
    """Return a value of a parameter, good or bad by its schema; None if no value is bad."""
    if schema["type"] == "array":
        return rng.choice(TOPICS if good else UNKNOWN_TOPICS).encode()
    if schema["type"] == "integer":
        low, high = schema["minimum"], schema["maximum"]
        whole = rng.choice((low, high, rng.randint(low, high)))
        return (str(whole) if good else rng.choice((*NO_WHOLE, str(high + 1)))).encode()
    if "enum" in schema:
        words: list[str] = schema["enum"] if good else ["perhaps", "2", "ja", "nul\0"]
        return rng.choice(words).encode()
    return rng.choice((*ODD_BYTES, *(text.encode() for text in TEXTS))) if good else None


def drawn_query(parameters: list[dict[str, Any]], rng: random.Random) -> tuple[str, set[str]]:
    """Return a query, and the names of the parameters that are wrong in it."""
    parts, wrong = [], set()
    for each in parameters:
        if each["in"] != "query" or (not each["required"] and rng.random() < 0.4):
            continue
        name, good = each["name"], rng.random() < 0.7
        value = drawn(each["schema"], good=good, rng=rng)
        if value is None:
            # Any text is allowed, but not two different ones.
            parts.append(f"{name}=one")
            value = b"other"
        if not good:
            wrong.add(name)
        parts.append(f"{name}={quote_from_bytes(value, safe=',*>')}")
    rng.shuffle(parts)
    return "&".join(parts), wrong


@pytest.mark.parametrize("light", ["1", "0"], ids=["light", "aiohttp"])
async def test_streams_answer_every_query_as_their_description_says(tmp_path: Path, light: str) -> None:
    async with running(None, tmp_path, LIGHT_CONNECTIONS=light) as service:
        _, document = await service.get("/openapi.json")
        paths: Any = document["paths"]
        rng = random.Random(12)
        for _ in range(QUERIES):
            events = paths["/sse"]["get"]
            query, wrong = drawn_query(events["parameters"], rng)
            async with service.http.get(f"{service.url}/sse?{query}") as answer:
                assert str(answer.status) in events["responses"], query
                assert answer.status == (400 if wrong else 200), query
                if wrong:
                    assert set((await answer.json())["error"]["details"]) == wrong, query
                else:
                    assert answer.content_type == "text/event-stream"
            query, wrong = drawn_query(paths["/ws"]["get"]["parameters"], rng)
            heard = await begun(service, query)
            assert heard[0]["type"] == "hello", query
            named = {word for message in heard if message["type"] == "error" for word in named_in(message)}
            assert named == wrong, (query, heard)


async def begun(service: Running, query: str) -> list[Message]:
    """Return what a WebSocket gets at its beginning, as single messages."""
    async with websocket(service, query) as client:
        await client.connection.send('{"op":"subscribe","topics":["status"],"batch":false,"req":"fence"}')
        heard: list[Message] = []
        while not heard or heard[-1].get("req") != "fence" or heard[-1]["type"] != "synced":
            heard += await messages_of(client.connection)
        return heard


async def messages_of(connection: ClientConnection) -> list[Message]:
    """Return the next message, or those of the next array."""
    async with asyncio.timeout(10):
        content = json.loads(await connection.recv())
    return content if isinstance(content, list) else [content]


def named_in(error: Message) -> set[str]:
    """Return the parameters that an error names."""
    if error["code"] == "unknown_topic":
        return {"topics"}
    return {sentence.split()[0] for sentence in error["message"].split("; ")}

"""Tests that run each fuzz target on its seeds and a few mutations, and fuzz handshakes; `make fuzz` runs longer."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.mutations import mutated
from tests.fuzz.targets import TARGETS
from tests.harness import running


@pytest.mark.parametrize("name", TARGETS)
def test_known_odd_inputs_do_no_harm(name: str) -> None:
    for seed in TARGETS[name].seeds:
        TARGETS[name].run(seed)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_mutated_inputs_keep_to_the_contract(name: str, data: st.DataObject) -> None:
    TARGETS[name].run(data.draw(mutated(TARGETS[name])))


# --- handshakes ---

GOOD = (
    b"Host: x",
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
ODD = (
    *(b"Origin: null", b"Origin: \xff", b"X-Forwarded-For: \x80, 1", b"Authorization: Bearer \xff", b"Cookie: \xfe"),
    *(b"Sec-WebSocket-Protocol: a, b", b"Sec-WebSocket-Extensions: ,,;=", b"X-Request-Id: \xff\xfe", b"Host: \xff"),
    b"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=8",
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=99",
    *(b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Connection: keep-alive, Upgrade", b"Upgrade: h2c"),
)
WORDS = (
    b"topics=price.BTC",
    b"since=",
    b"interval_ms=",
    b"batch=1",
    b"&",
    b"%",
    b"%ff",
    b"%00",
    b"=",
    b";",
    b"[",
    b"]",
)
queries = st.lists(st.sampled_from((*WORDS, b"//", b"?", b"#", b"\x80", b"\xff", b"\\", b"\x00", b'"')), max_size=7)
printable = st.binary(max_size=4).map(lambda data: data.translate(None, b"\r\n"))
places = st.tuples(st.integers(0, 400), printable)


def handshake(query: list[bytes], odd: list[bytes], left_out: int, place: tuple[int, bytes]) -> bytes:
    """Return a request for `/ws` that is nearly valid."""
    lines = [line for number, line in enumerate(GOOD) if number != left_out]
    head = bytearray(b"GET /ws?" + b"".join(query) + b" HTTP/1.1\r\n" + b"\r\n".join([*odd, *lines]))
    at, data = place
    at = 8 + at % (len(head) - 8)
    if head[at - 1 : at] != b"\r":
        head[at:at] = data
    return bytes(head) + b"\r\n\r\n"


async def first_line(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(30):
            writer.write(request)
            return await reader.readline()
    finally:
        writer.transport.abort()


def test_no_handshake_is_answered_with_a_server_error(tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        service = runner.run(stack.enter_async_context(running(None, tmp_path, OHLCV_SYMBOLS="none")))
        port = int(service.url.rpartition(":")[2])

        @settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
        @given(queries, st.lists(st.sampled_from(ODD), max_size=3), st.integers(0, 30), places)
        def fuzz(query: list[bytes], odd: list[bytes], left_out: int, place: tuple[int, bytes]) -> None:
            request = handshake(query, odd, left_out, place)
            line = runner.run(first_line(port, request))
            assert line.split()[1] in (b"101", b"400", b"404", b"426"), (request, line)

        try:
            fuzz()
        finally:
            runner.run(stack.aclose())

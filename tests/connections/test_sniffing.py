"""Tests of how a connection is recognised by its first bytes."""

import pytest

from stream_server.connections.sniffing import MAX_HEAD_BYTES, Handshake, asks_for_events, may_become_handshake

LINES = (
    b"GET /ws?topics=price.BTC HTTP/1.1",
    b"Host: example.org",
    b"Upgrade: websocket",
    b"Connection: Upgrade",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    b"Sec-WebSocket-Version: 13",
)


def head(*lines: bytes) -> bytes:
    return b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def test_every_beginning_of_a_handshake_is_waited_for_and_the_whole_is_read() -> None:
    whole = head(*LINES)
    assert all(may_become_handshake(whole[:length]) for length in range(len(whole)))
    assert not any(Handshake.read(whole[:length]) for length in range(len(whole)))
    assert not may_become_handshake(whole)
    handshake = Handshake.read(whole + b"\x81\x80")
    assert handshake is not None
    assert handshake.url.query["topics"] == "price.BTC"
    assert handshake.rest == b"\x81\x80"
    assert handshake.answer().startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize("start", [b"GET /wsx", b"POST /ws ", b"GET /sse ", b"GET /", b"\x16\x03\x01", b"get /ws "])
def test_bytes_that_begin_in_another_way_go_to_aiohttp(start: bytes) -> None:
    data = head(start + b" HTTP/1.1", *LINES[1:])
    assert not may_become_handshake(data)
    assert Handshake.read(data) is None


@pytest.mark.parametrize("left_out", range(1, len(LINES)))
def test_a_handshake_that_lacks_a_line_goes_to_aiohttp(left_out: int) -> None:
    assert Handshake.read(head(*LINES[:left_out], *LINES[left_out + 1 :])) is None


def test_a_handshake_with_two_hosts_goes_to_aiohttp() -> None:
    assert Handshake.read(head(*LINES, b"Host: example.com")) is None


def test_a_head_that_does_not_end_is_given_up() -> None:
    start = LINES[0] + b"\r\nX-Long: "
    assert may_become_handshake(start.ljust(MAX_HEAD_BYTES, b"x"))
    assert not may_become_handshake(start.ljust(MAX_HEAD_BYTES + 1, b"x"))


@pytest.mark.parametrize(
    ("offer", "deflates", "inflates"),
    [
        (None, False, False),
        (b"permessage-deflate", True, True),
        (b"permessage-deflate; server_max_window_bits=10", True, False),
    ],
)
def test_compression_follows_the_offer_of_the_client(offer: bytes | None, deflates: bool, inflates: bool) -> None:
    extensions = () if offer is None else (b"Sec-WebSocket-Extensions: " + offer,)
    handshake = Handshake.read(head(*LINES, *extensions))
    assert handshake is not None
    assert (handshake.deflates, handshake.inflates) == (deflates, inflates)


def test_an_event_source_is_recognised_by_its_first_bytes() -> None:
    assert asks_for_events(b"GET /sse?topics=news HTTP/1.1\r\n")
    assert not asks_for_events(b"GET /sse")

"""Connect many clients at once from one loopback address, and measure answers and times.

The clients ask for no topics and stay until they are sent away. The output is one JSON object: the number of clients by
status, and how long that took.
"""

import argparse
import json
import os
import selectors
import socket
import time
from collections import Counter

IN_FLIGHT = 400
"""Clients of one process. Together they stay below the queue of a listening socket, else the kernel's retries count."""
GIVE_UP_S = 60.0
PING, PONG = b"\x89\x00", b"\x8a\x80" + bytes(4)
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: storm\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def main(port: int, source: str, count: int, after_s: float, hold_s: float) -> None:
    """Connect the clients and hold them for a while."""
    # The clients whose latency counts run on the same core.
    os.nice(5)
    time.sleep(after_s)
    plan = selectors.DefaultSelector()
    began: dict[socket.socket, float] = {}
    answers: dict[socket.socket, bytes] = {}
    took_ms: dict[str, list[float]] = {}
    inside: set[socket.socket] = set()
    started = time.monotonic()
    left = count
    while (left or began) and time.monotonic() - started < GIVE_UP_S:
        while left and len(began) < IN_FLIGHT:
            left -= 1
            plug = socket.socket()
            plug.setblocking(False)
            plug.bind((source, 0))
            plug.connect_ex(("127.0.0.1", port))
            began[plug] = time.monotonic()
            plan.register(plug, selectors.EVENT_WRITE)
        for key, _ in plan.select(1.0):
            plug = key.fileobj  # type: ignore[assignment]
            if plug in inside:
                outcome = _stay(plug)
            elif plug in answers:
                outcome = _read_answer(plug, answers)
            else:
                outcome = _ask(plug)
                answers[plug] = b""
                plan.modify(plug, selectors.EVENT_READ)
            if outcome is None:
                continue
            if plug not in inside:
                took_ms.setdefault(outcome, []).append((time.monotonic() - began.pop(plug)) * 1e3)
            if outcome == "101":
                inside.add(plug)
            else:
                inside.discard(plug)
                plan.unregister(plug)
                plug.close()
    lasted_s = time.monotonic() - started
    counts = Counter({outcome: len(times) for outcome, times in took_ms.items()})
    counts["unanswered"] += left + len(began)
    every = sorted(ms for times in took_ms.values() for ms in times)
    found = {"counts": counts, "seconds": lasted_s, "p99_ms": every[len(every) * 99 // 100], "max_ms": every[-1]}
    print(json.dumps(found), flush=True)
    time.sleep(hold_s)


def _ask(plug: socket.socket) -> str | None:
    try:
        plug.send(HANDSHAKE)
    except OSError as error:
        return type(error).__name__
    return None


def _read_answer(plug: socket.socket, answers: dict[socket.socket, bytes]) -> str | None:
    """Return the status, or the close code in its place; None if neither has arrived yet."""
    try:
        data = plug.recv(4096)
    except OSError as error:
        return type(error).__name__
    if not data:
        return "closed"
    answers[plug] = text = answers[plug] + data
    if not text.startswith(b"HTTP/1.1 101"):
        return text[9:12].decode() if len(text) >= 12 else None
    if b'"hello"' in text:
        return "101"
    return "4504" if b'"code":4504' in text else None


def _stay(plug: socket.socket) -> str | None:
    """Answer pings; return the end of the connection if it has ended."""
    try:
        data = plug.recv(4096)
        if PING in data:
            plug.send(PONG)
    except OSError as error:
        return type(error).__name__
    return None if data else "closed"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--source", required=True, help="a loopback address")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--after", type=float, default=0.0, help="seconds until they connect")
    parser.add_argument("--hold", type=float, default=0.0, help="seconds that they stay")
    options = parser.parse_args()
    main(options.port, options.source, options.count, options.after, options.hold)

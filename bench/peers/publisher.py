"""Publish to a server that is fed over the network (NATS, nchan): one loopback socket, one write per tick.

The CPU time of the server sets the pace, not that of the publisher.
"""

import argparse
import socket
import time
from pathlib import Path

from bench.pacing import Pacer, Plan, text


def cpu_s_of(pid: int) -> float:
    """Return the CPU time of a process with all its threads."""
    return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def nats_message(topic: str, stamp: int) -> bytes:
    """Return one publication in NATS's protocol."""
    payload = text(topic, stamp).encode()
    return b"PUB %b %d\r\n%b\r\n" % (topic.encode(), len(payload), payload)


def nchan_message(topic: str, stamp: int) -> bytes:
    """Return one publication as a pipelined HTTP request."""
    payload = text(topic, stamp).encode()
    head = f"POST /pub?topics={topic} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(payload)}\r\n\r\n"
    return head.encode() + payload


CONNECT_WITHIN_S = 5.0
FORMATS = {"nats": nats_message, "nchan": nchan_message}
GREETINGS = {"nats": b'CONNECT {"verbose":false,"pedantic":false}\r\n', "nchan": b""}


def main() -> None:
    """Publish until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument("--server-pid", type=int, required=True)
    options, _ = parser.parse_known_args()
    plan = Plan.from_arguments()
    message = FORMATS[options.format]
    pacer = Pacer(plan, lambda: cpu_s_of(options.server_pid))
    with connect(plan.port) as server:
        server.sendall(GREETINGS[options.format])
        while True:
            time.sleep(pacer.next_wait_s())
            stamp = pacer.begin_tick()
            server.sendall(b"".join(message(topic, stamp) for topic in plan.topics for _ in range(plan.repeat)))
            read_answers(server)


def connect(port: int) -> socket.socket:
    """Connect to a server that may still be starting."""
    deadline = time.monotonic() + CONNECT_WITHIN_S
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def read_answers(server: socket.socket) -> None:
    """Read the server's output so that it does not block, and answer the pings of NATS."""
    server.setblocking(False)
    try:
        while answer := server.recv(1 << 16):
            if b"PING\r\n" in answer:
                server.sendall(b"PONG\r\n")
    except BlockingIOError:
        pass
    finally:
        server.setblocking(True)


if __name__ == "__main__":
    main()

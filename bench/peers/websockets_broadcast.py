"""The websockets library with its `broadcast`, which frames a message once for all connections."""

import asyncio
from collections import defaultdict

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

from bench.pacing import Plan, publish_by, text, topics_of

subscribers: defaultdict[str, set[ServerConnection]] = defaultdict(set)


async def websocket(connection: ServerConnection) -> None:
    """Serve one client until it leaves."""
    assert connection.request is not None
    topics = topics_of(connection.request.path)
    for topic in topics:
        subscribers[topic].add(connection)
    try:
        await connection.wait_closed()
    finally:
        for topic in topics:
            subscribers[topic].discard(connection)


def publish(topic: str, stamp: int) -> None:
    """Send one message to every subscriber."""
    broadcast(subscribers[topic], text(topic, stamp))


async def main(plan: Plan) -> None:
    """Serve and publish until killed."""
    async with serve(websocket, "127.0.0.1", plan.port, compression=None, ping_interval=None, backlog=4096):
        await publish_by(plan, publish)
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(Plan.from_arguments()))

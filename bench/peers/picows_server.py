"""picows: a WebSocket layer in Cython on uvloop; one `send` a message and client."""

import asyncio
from collections import defaultdict

import picows  # type: ignore[import-not-found,unused-ignore]
import uvloop

from bench.pacing import Plan, publish_by, text, topics_of

subscribers: defaultdict[str, dict[picows.WSTransport, None]] = defaultdict(dict)


class Client(picows.WSListener):  # type: ignore[misc,unused-ignore]
    """One connection."""

    def __init__(self, path: str) -> None:
        self.topics = topics_of(path)

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        """Register the connection."""
        for topic in self.topics:
            subscribers[topic][transport] = None

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        """Forget the connection."""
        for topic in self.topics:
            subscribers[topic].pop(transport, None)


def publish(topic: str, stamp: int) -> None:
    """Send one message to every subscriber."""
    message = text(topic, stamp).encode()
    for transport in subscribers[topic]:
        transport.send(picows.WSMsgType.TEXT, message)


async def main(plan: Plan) -> None:
    """Serve and publish until killed."""
    await picows.ws_create_server(lambda request: Client(request.path.decode()), "127.0.0.1", plan.port, backlog=4096)
    await publish_by(plan, publish)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(Plan.from_arguments()))

"""Server-Sent Events as aiohttp-sse shows them: a queue for each client, and `send` for each message."""

import asyncio
from collections import defaultdict

import uvloop
from aiohttp import web
from aiohttp_sse import EventSourceResponse, sse_response

from bench.pacing import Plan, publish_by, text, topics_of

QUEUE_MESSAGES = 1000

queues: defaultdict[str, set[asyncio.Queue[str]]] = defaultdict(set)


async def events(request: web.Request) -> EventSourceResponse:
    """Serve one client until it leaves."""
    queue: asyncio.Queue[str] = asyncio.Queue(QUEUE_MESSAGES)
    topics = topics_of(request.path_qs)
    for topic in topics:
        queues[topic].add(queue)
    try:
        async with sse_response(request) as response:
            while response.is_connected():
                await response.send(await queue.get())
        return response
    finally:
        for topic in topics:
            queues[topic].discard(queue)


def publish(topic: str, stamp: int) -> None:
    """Put one message into the queue of every subscriber; a full queue loses it."""
    message = text(topic, stamp)
    for queue in queues[topic]:
        if not queue.full():
            queue.put_nowait(message)


async def main(plan: Plan) -> None:
    """Serve and publish until killed."""
    app = web.Application()
    app.router.add_get("/sse", events)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", plan.port, backlog=4096).start()
    await publish_by(plan, publish)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(Plan.from_arguments()))

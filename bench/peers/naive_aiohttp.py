"""The usual way with aiohttp: a queue and a task for each client, and `send_str` for each message."""

import asyncio
from collections import defaultdict

import uvloop
from aiohttp import web

from bench.pacing import Plan, publish_by, text, topics_of

QUEUE_MESSAGES = 1000

queues: defaultdict[str, set[asyncio.Queue[str]]] = defaultdict(set)


async def websocket(request: web.Request) -> web.WebSocketResponse:
    """Serve one client until it leaves."""
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    queue: asyncio.Queue[str] = asyncio.Queue(QUEUE_MESSAGES)
    topics = topics_of(request.path_qs)
    for topic in topics:
        queues[topic].add(queue)
    sender = asyncio.create_task(send_all(ws, queue))
    try:
        async for _ in ws:
            pass
    finally:
        sender.cancel()
        for topic in topics:
            queues[topic].discard(queue)
    return ws


async def send_all(ws: web.WebSocketResponse, queue: asyncio.Queue[str]) -> None:
    """Pump the queue into the socket."""
    while True:
        await ws.send_str(await queue.get())


def publish(topic: str, stamp: int) -> None:
    """Put one message into the queue of every subscriber; a full queue loses it."""
    message = text(topic, stamp)
    for queue in queues[topic]:
        if not queue.full():
            queue.put_nowait(message)


async def main(plan: Plan) -> None:
    """Serve and publish until killed."""
    app = web.Application()
    app.router.add_get("/ws", websocket)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", plan.port, backlog=4096).start()
    await publish_by(plan, publish)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(Plan.from_arguments()))

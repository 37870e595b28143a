"""socketify: uWebSockets, in C++, with its own publish and subscribe.

Its asyncio loop polls libuv without pause, which would count as the cost of messages. So it runs in its best form here:
on libuv's own loop, with libuv's timer.
"""

import time
from typing import Any

from socketify import App, OpCode  # type: ignore[import-not-found,unused-ignore]

from bench.pacing import Pacer, Plan, text

TIMER_MS = 1


class Server:
    """The app and the time of its next publication."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.pacer = Pacer(plan)
        self.due = time.monotonic()
        self.app = App()
        self.app.ws("/ws", {"upgrade": self.upgrade, "open": self.opened, "compression": 0, "idle_timeout": 960})
        self.app.listen({"port": plan.port, "host": "127.0.0.1"}, lambda _: None)

    def upgrade(self, response: Any, request: Any, context: Any) -> None:
        """Keep the topics of a client until its socket is open."""
        key = request.get_header("sec-websocket-key")
        protocol = request.get_header("sec-websocket-protocol")
        extensions = request.get_header("sec-websocket-extensions")
        response.upgrade(key, protocol, extensions, context, request.get_query("topics").split(","))

    def opened(self, ws: Any) -> None:
        """Subscribe the client."""
        for topic in ws.get_user_data():
            ws.subscribe(topic)

    def look(self, _: object) -> None:
        """Publish if it is due."""
        if time.monotonic() < self.due:
            return
        stamp = self.pacer.begin_tick()
        for topic in self.plan.topics:
            for _ in range(self.plan.repeat):
                self.app.publish(topic, text(topic, stamp), OpCode.TEXT)
        self.due = time.monotonic() + self.pacer.next_wait_s()

    def run(self) -> None:
        """Serve and publish until killed."""
        loop = self.app.loop.uv_loop
        if self.plan.period_s or self.plan.load:
            self.timer = loop.create_timer(TIMER_MS, TIMER_MS, self.look, None)
        loop.run()


if __name__ == "__main__":
    Server(Plan.from_arguments()).run()

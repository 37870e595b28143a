"""Run the whole service under load, without upstreams.

The events of the benchmark take the same path as all events: through `Hub.publish` and the real handlers.
"""

import argparse
import asyncio
import time
from pathlib import Path

from bench.pacing import Plan, publish_by
from bench.trace import Trace
from feeds.model import Event, Pair
from stream_server.__main__ import _loop_runner
from stream_server.app import Run, service
from stream_server.connections.listener import listen
from stream_server.delivery.hub import Hub
from stream_server.observing import logs
from stream_server.serving import calm_the_collector, runner_of
from stream_server.settings import Settings

NOWHERE = "127.0.0.1:9"


async def main(plan: Plan, state_dir: str, trace: Path | None, max_connections: int) -> None:
    """Serve and publish until killed."""
    values = {
        "HOST": "127.0.0.1",
        "PORT": str(plan.port),
        "STATE_DIR": state_dir,
        "BINANCE_WS_URLS": f"ws://{NOWHERE}",
        "BINANCE_REST_URLS": f"http://{NOWHERE}",
        "OHLCV_SYMBOLS": "none",
        "MARKET_POLL_S": "86400",
        "MAX_CONNECTIONS": str(max_connections),
    }
    async with service(Settings.parse(values), Run()) as (app, context):
        bases = [topic.removeprefix("price.") for topic in plan.topics]
        context.exchange.pairs([Pair(f"{base}USDT", base, "USDT") for base in bases])
        # As `serve` in serving.py does.
        runner = runner_of(app)
        await runner.setup()
        try:
            await listen(runner, context)
            calm_the_collector()
            if trace is not None:
                Trace(trace).watch_the_loop()
            await publish_by(plan, Publisher(context.hub).publish)
            await asyncio.Event().wait()  # until the process is killed
        finally:
            await runner.cleanup()


class Publisher:
    """Publishes to the hub as a feed does."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    def publish(self, topic: str, stamp: int) -> None:
        """Publish one event. Its data is short, so that with its envelope it is as long as the peers' messages."""
        now_ms = time.time_ns() // 1_000_000
        self.hub.publish(Event(topic, now_ms, now_ms, "bench", {"t": stamp, "price": 64250.12, "n": 100}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True, help="for what the service keeps")
    parser.add_argument("--trace", type=Path, help="a file for what held up the event loop")
    parser.add_argument("--max-connections", type=int, default=20_000)
    options, _ = parser.parse_known_args()
    logs.set_up("ERROR", "text")
    _loop_runner("auto")(main(Plan.from_arguments(), options.folder, options.trace, options.max_connections))

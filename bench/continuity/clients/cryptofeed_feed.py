"""cryptofeed: a `FeedHandler` with `CANDLES` and `TRADES`, which give it prices of Binance.

Its watchdog is as strict as markets that trade every second allow: 10 s of silence, checked every second, instead of
120 s checked every 30 s. It retries forever instead of ten times.
"""

import asyncio
import os

from cryptofeed import FeedHandler  # type: ignore[import-not-found,unused-ignore]
from cryptofeed.connection import RestEndpoint, Routes, WebsocketEndpoint  # type: ignore[import-not-found,unused-ignore]
from cryptofeed.defines import CANDLES, TRADES  # type: ignore[import-not-found,unused-ignore]
from cryptofeed.exchanges import Binance  # type: ignore[import-not-found,unused-ignore]
from cryptofeed.types import Candle, Trade  # type: ignore[import-not-found,unused-ignore]

from bench.continuity.clients.receipts import Task

SILENCE_S, LOOK_S = 10, 1


def main() -> None:
    """Watch until killed."""
    task = Task.from_arguments()

    async def candle(received: Candle, _received_s: float) -> None:
        values = [received.open, received.high, received.low, received.close, received.volume]
        task.closed(received.symbol.replace("-", ""), round(received.start * 1000), [float(value) for value in values])

    async def trade(received: Trade, _received_s: float) -> None:
        task.price(received.symbol.replace("-", ""), int(received.id))

    Binance.websocket_endpoints = [WebsocketEndpoint(task.ws_url)]
    Binance.rest_endpoints = [RestEndpoint(task.rest_url, routes=Routes("/api/v3/exchangeInfo"))]
    # The defaults, except for the log that it would write into the current folder.
    handler = FeedHandler({"uvloop": True, "log": {"filename": os.devnull, "level": "WARNING"}})
    asyncio.set_event_loop(asyncio.new_event_loop())  # the handler expects a loop of the kind that it chose
    handler.add_feed(
        Binance(
            symbols=[f"{symbol}-USDT" for symbol in task.symbols],
            channels=[CANDLES, TRADES],
            callbacks={CANDLES: candle, TRADES: trade},
            candle_interval="1m",
            candle_closed_only=True,
            timeout=SILENCE_S,
            timeout_interval=LOOK_S,
            retries=-1,
        )
    )
    handler.run()


if __name__ == "__main__":
    main()

"""python-binance: one multiplex socket, closed and opened again when it reports its end, as its documentation asks.

It repairs a broken connection itself, five times in a row; then its read loop ends, which `recv` reports. Its queue is
larger than the default of 100, which a busy second would overflow.
"""

import asyncio

from binance import AsyncClient, BinanceSocketManager  # type: ignore[import-not-found,unused-ignore]

from bench.continuity.clients.receipts import Task

PAUSE_S = 1.0
QUEUE = 10_000


async def watch(sockets: BinanceSocketManager, task: Task) -> None:
    """Record all messages of one socket until it ends."""
    streams = [f"{symbol.lower()}usdt@{name}" for symbol in task.symbols for name in ("kline_1m", "miniTicker")]
    async with sockets.multiplex_socket(streams) as socket:
        while True:
            message = await socket.recv()
            if message.get("e") == "error":
                task.note(f"{message.get('type')}: {message.get('m')}")
                continue
            event = message.get("data", {})
            if event.get("e") == "24hrMiniTicker":
                task.price(event["s"], event["E"])
            elif event.get("e") == "kline" and event["k"]["x"]:
                candle = event["k"]
                task.closed(event["s"], candle["t"], [float(candle[name]) for name in "ohlcv"])


async def main() -> None:
    """Watch until killed."""
    task = Task.from_arguments()
    AsyncClient.API_URL = f"{task.rest_url}/api"
    BinanceSocketManager.STREAM_URL = f"{task.ws_url}/"
    client = await AsyncClient.create()
    sockets = BinanceSocketManager(client, max_queue_size=QUEUE)
    try:
        while True:
            try:
                await watch(sockets, task)
            except Exception as error:
                task.note(f"reconnect: {type(error).__name__}: {error}")
                await asyncio.sleep(PAUSE_S)
    finally:
        await client.close_connection()


if __name__ == "__main__":
    asyncio.run(main())

"""ccxt.pro: a loop of `watch_ticker` and one of `watch_ohlcv` for each market, which retry, as its examples show.

Its `…_for_symbols` would return only the first of several markets whose messages arrive at once.

A candle of ccxt has no closed flag: it is closed when the next one begins, with the values reported last. ccxt
reconnects by itself, with its own growing delay.
"""

import asyncio

import ccxt.pro  # type: ignore[import-not-found,unused-ignore]

from bench.continuity.clients.receipts import Task

PAUSE_S = 0.2
"""Pause between two attempts, so that a loop that fails at once does not keep a core busy."""


async def prices(exchange: ccxt.pro.binance, task: Task, market: str) -> None:
    """Record each price."""
    while True:
        try:
            ticker = await exchange.watch_ticker(market, {"name": "miniTicker"})
        except ccxt.NetworkError as error:
            task.note(f"prices: {error}")
            await asyncio.sleep(PAUSE_S)
            continue
        task.price(ticker["symbol"].replace("/", ""), ticker["timestamp"])


async def candles(exchange: ccxt.pro.binance, task: Task, market: str) -> None:
    """Record a candle when a newer one has arrived."""
    latest: list[float] | None = None
    while True:
        try:
            rows = await exchange.watch_ohlcv(market, "1m")
        except ccxt.NetworkError as error:
            task.note(f"candles: {error}")
            await asyncio.sleep(PAUSE_S)
            continue
        for candle in rows:
            if latest is not None and candle[0] > latest[0]:
                task.closed(market.replace("/", ""), int(latest[0]), latest[1:])
            if latest is None or candle[0] >= latest[0]:
                latest = list(candle)


async def main() -> None:
    """Watch until killed."""
    task = Task.from_arguments()
    # The fake exchange stands for all of Binance, and has only spot markets.
    options = {"defaultType": "spot", "fetchMarkets": {"types": ["spot"]}}
    exchange = ccxt.pro.binance({"options": options, "cafile": task.certificate})
    exchange.urls["api"]["ws"]["spot"] = f"{task.ws_url}/ws"
    for name in ("public", "v1"):
        exchange.urls["api"][name] = f"{task.rest_url}/api/v3"
    markets = [f"{symbol}/USDT" for symbol in task.symbols]
    try:
        await exchange.load_markets()
        await asyncio.gather(*(watch(exchange, task, market) for market in markets for watch in (prices, candles)))
    finally:
        await exchange.close()


if __name__ == "__main__":
    asyncio.run(main())

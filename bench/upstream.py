"""Serve a simple exchange for the benchmark, with Binance's answers and frames for many pairs.

Every second it sends a frame with the tickers of all pairs. `q`, the quote volume, is CLOCK_MONOTONIC in microseconds
just before the frame was sent, and reaches the clients as a number in their messages. With `--still` only an unlisted
pair moves, so the exchange is alive and the service has nothing to publish.
"""

import argparse
import asyncio
import time

import orjson
from aiohttp import WSCloseCode, WSMsgType, web

from feeds.intervals import STEP_MS

STAMP = b"0000000001.00000000"
FRAME_EVERY_S = 1.0
KLINE_INTERVAL = "1h"


def names(pairs: int) -> list[str]:
    """Return the base assets."""
    return ["BTC", *(f"T{number:04d}" for number in range(1, pairs))][:pairs]


class Exchange:
    """The pairs of the exchange and their current values."""

    def __init__(self, bases: list[str], still: bool) -> None:
        self.bases = bases
        self.still = still
        self.turn = 0

    def mini_tickers(self) -> bytes:
        """Return one combined frame of all pairs; the stamp replaces STAMP."""
        self.turn += 1
        now_ms = time.time_ns() // 1_000_000
        moving = ["UNLISTED"] if self.still and self.turn > 1 else self.bases
        rows = [
            {
                "e": "24hrMiniTicker",
                "E": now_ms,
                "s": f"{base}USDT",
                "c": f"{(100 + number) * (1 + (self.turn % 100) / 1e4):.8f}",
                "o": f"{100.0 + number:.8f}",
                "h": f"{102.0 + number:.8f}",
                "l": f"{98.0 + number:.8f}",
                "v": f"{18234.5 + self.turn:.8f}",
                "q": STAMP.decode(),
            }
            for number, base in enumerate(moving)
        ]
        return orjson.dumps({"stream": "!miniTicker@arr", "data": rows})

    def kline(self) -> bytes:
        """Return one frame with the forming candle of the first pair."""
        now_ms = time.time_ns() // 1_000_000
        row = self.row(KLINE_INTERVAL, now_ms)
        candle = dict(zip("tohlcvTqn", row, strict=False)) | {
            "i": KLINE_INTERVAL,
            "x": False,
            "s": f"{self.bases[0]}USDT",
        }
        candle["n"] = self.turn
        data = {"e": "kline", "E": now_ms, "s": f"{self.bases[0]}USDT", "k": candle}
        return orjson.dumps({"stream": f"{self.bases[0].lower()}usdt@kline_{KLINE_INTERVAL}", "data": data})

    def row(self, interval: str, at_ms: int) -> list[object]:
        """Return the candle at a moment, as REST gives it."""
        step = STEP_MS[interval]
        opened = at_ms // step * step
        price = 100 + opened // step % 50
        texts = [f"{price + offset:.8f}" for offset in (0.0, 1.0, -1.0, 0.5)]
        return [opened, *texts, "3.25000000", opened + step - 1, "280312.50000000", 42, "1.6", "138000.0", "0"]

    # --- answers ---

    async def exchange_info(self, request: web.Request) -> web.Response:
        """Return all pairs."""
        rows = [
            {"symbol": f"{base}USDT", "status": "TRADING", "baseAsset": base, "quoteAsset": "USDT"}
            for base in self.bases
        ]
        return _json({"symbols": rows})

    async def tickers(self, request: web.Request) -> web.Response:
        """Return the statistics of all pairs."""
        closed = time.time_ns() // 1_000_000
        rows = [
            {
                "symbol": f"{base}USDT",
                **dict.fromkeys(("lastPrice", "openPrice", "highPrice", "lowPrice", "volume"), "100.00000000"),
                "quoteVolume": "1.00000000",
                "closeTime": closed - 60_000,
            }
            for base in self.bases
        ]
        return _json(rows)

    async def klines(self, request: web.Request) -> web.Response:
        """Return candles up to now."""
        interval, limit = request.query["interval"], int(request.query.get("limit", "500"))
        now_ms, step = time.time_ns() // 1_000_000, STEP_MS[interval]
        first = int(request.query.get("startTime", now_ms - (limit - 1) * step))
        times = range(-(-first // step) * step if "startTime" in request.query else first, now_ms + 1, step)
        return _json([self.row(interval, at_ms) for at_ms in times[:limit]])

    async def stream(self, request: web.Request) -> web.WebSocketResponse:
        """Serve the combined stream."""
        ws = web.WebSocketResponse(compress=False)
        await ws.prepare(request)
        sending = asyncio.create_task(self.send(ws))
        try:
            async for message in ws:
                if message.type is WSMsgType.TEXT:
                    await ws.send_str(orjson.dumps({"result": None, "id": orjson.loads(message.data)["id"]}).decode())
        finally:
            sending.cancel()
            await ws.close(code=WSCloseCode.GOING_AWAY)
        return ws

    async def send(self, ws: web.WebSocketResponse) -> None:
        """Send a frame every second, forever."""
        due = time.monotonic()
        while True:
            frame = self.mini_tickers()
            due += FRAME_EVERY_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            stamp = b"%d.00000000" % (time.monotonic_ns() // 1000)
            await ws.send_str(frame.replace(STAMP, stamp).decode())
            if not self.still:
                await ws.send_str(self.kline().decode())


def _json(body: object) -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type="application/json")


async def main(port: int, exchange: Exchange) -> None:
    """Serve until killed."""
    app = web.Application()
    app.router.add_get("/api/v3/exchangeInfo", exchange.exchange_info)
    app.router.add_get("/api/v3/ticker/24hr", exchange.tickers)
    app.router.add_get("/api/v3/klines", exchange.klines)
    app.router.add_get("/stream", exchange.stream)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pairs", type=int, required=True)
    parser.add_argument("--still", action="store_true")
    options = parser.parse_args()
    asyncio.run(main(options.port, Exchange(names(options.pairs), options.still)))

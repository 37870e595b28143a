"""The REST handlers of the service as one writes them with FastAPI, on uvicorn with uvloop and httptools."""

import argparse
import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import orjson
import uvicorn  # type: ignore[import-not-found,unused-ignore]
from fastapi import FastAPI, Header, Query, Response  # type: ignore[import-not-found,unused-ignore]

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--topics", type=int, required=True)
parser.add_argument("--form", choices=("dict", "orjson"), required=True)
parser.add_argument("--still", action="store_true")

HOUR_MS = 3_600_000


class Market:
    """The values of our service, in dicts."""

    def __init__(self, topics: int) -> None:
        self.names = ["BTC", *(f"T{number:04d}" for number in range(1, topics))]
        self.version = 0
        self.last: dict[str, dict[str, object]] = {}
        self.candles: list[dict[str, object]] = []
        self.update()

    def update(self) -> None:
        """Change all values."""
        self.version += 1
        now_ms = time.time_ns() // 1_000_000
        self.last = {f"price.{name}": self.price(name, number, now_ms) for number, name in enumerate(self.names)}
        first = now_ms // HOUR_MS * HOUR_MS - 499 * HOUR_MS
        self.candles = [self.candle(first + number * HOUR_MS, number == 499) for number in range(500)]

    def price(self, name: str, number: int, now_ms: int) -> dict[str, object]:
        """Return one message of a price topic."""
        data = {
            "symbol": name,
            "pair": f"{name}USDT",
            "quote": "USDT",
            "price": 100.5 + number + self.version / 100,
            "open_24h": 100.0 + number,
            "high_24h": 102.0 + number,
            "low_24h": 98.0 + number,
            "change_24h_pct": 0.5 + self.version / 1000,
            "volume_24h": 18234.5,
            "quote_volume_24h": 6612345678.0,
            "market_cap": None,
        }
        stamps = {"id": f"mx4k2ab-{self.version * 1000 + number}", "ts": now_ms, "received": now_ms}
        return {"type": "update", "topic": f"price.{name}", **stamps, "source": "binance", "data": data}

    def candle(self, opened: int, live: bool) -> dict[str, object]:
        """Return one candle."""
        price = 100 + opened // HOUR_MS % 50
        times = {"open_time": opened, "close_time": opened + HOUR_MS - 1}
        prices = {
            "open": price,
            "high": price + 1.0,
            "low": price - 1.0,
            "close": price + 0.5 + live * self.version / 1e3,
        }
        state = {"trades": 42, "closed": not live, "state": "live" if live else "closed"}
        names = {"symbol": "BTC", "pair": "BTCUSDT", "quote": "USDT", "interval": "1h"}
        return {**names, **times, **prices, "volume": 3.25, "quote_volume": 280312.5, **state}


def envelope(market: Market, data: object, began: float) -> dict[str, object]:
    """Return the envelope of our service."""
    return {
        "success": True,
        "data": data,
        "source": "binance",
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "latency_ms": round((time.perf_counter() - began) * 1000, 2),
        "cached": True,
        "age_ms": 0,
        "stale": False,
        "attempts": [],
        "position": f"mx4k2ab-{market.version}",
    }


def application(market: Market, form: str, still: bool) -> Any:
    """Return the app with the two endpoints."""

    async def keep_updating() -> None:
        while not still:
            await asyncio.sleep(1)
            market.update()

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        updating = asyncio.create_task(keep_updating())
        yield
        updating.cancel()

    app = FastAPI(lifespan=lifespan)

    def answer(response: Any, data: object, began: float, has: str | None) -> Any:
        tag = f'W/"{market.version}"'
        headers = {"ETag": tag, "Cache-Control": "no-cache", "Access-Control-Allow-Origin": "*"}
        if has == tag:
            return Response(status_code=304, headers=headers)
        body = envelope(market, data, began)
        if form == "orjson":
            return Response(orjson.dumps(body), media_type="application/json", headers=headers)
        response.headers.update(headers)
        return body

    async def snapshot(response: Response, topics: str = "", if_none_match: str | None = Header(None)) -> Any:
        began = time.perf_counter()
        wanted = topics.split(",") if topics else market.last
        data = [market.last[topic] for topic in wanted if topic in market.last]
        return answer(response, data, began, if_none_match)

    async def ohlc(
        response: Response,
        symbol: str,
        interval: str = "1h",
        limit: int = Query(500, ge=1, le=1000),
        if_none_match: str | None = Header(None),
    ) -> Any:
        began = time.perf_counter()
        return answer(response, market.candles[-limit:], began, if_none_match)

    app.add_api_route("/api/snapshot", snapshot, methods=["GET"])
    app.add_api_route("/api/market/ohlc", ohlc, methods=["GET"])
    return app


if __name__ == "__main__":
    options = parser.parse_args()
    app = application(Market(options.topics), options.form, options.still)
    settings = {"loop": "uvloop", "http": "httptools", "access_log": False, "log_level": "error", "backlog": 4096}
    uvicorn.run(app, host="127.0.0.1", port=options.port, **settings)

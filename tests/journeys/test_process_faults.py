"""Tests of faults that need a real process: a kill in mid-candle, and a network behind a proxy."""

import asyncio
import ssl
from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.proxy import ChaosProxy
from tests.clients import Message, updates
from tests.fakes.binance import FakeBinance
from tests.fakes.binance_market import MINUTE_MS
from tests.fakes.upstream import FakeUpstream, Fault
from tests.harness import until
from tests.journeys.test_process import connected, started

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio"])  # the loop under test is the process's own
TOPIC = "ohlcv.BTC.1m"
KLINES = "btcusdt@kline_1m"
TLS = Path(__file__).parents[1] / "samples" / "tls"
HOST = "elsewhere.example"
"""A host name that only the proxy knows."""
CANDLES = {"OHLCV_SYMBOLS": "BTC", "OHLCV_INTERVALS": "1m"}


def closed_in(messages: list[Message]) -> list[tuple[int, float, int]]:
    candles = (message["data"] for message in updates(messages, TOPIC))
    return [(each["open_time"], each["close"], each["trades"]) for each in candles if each["closed"]]


async def test_a_client_that_reconnects_after_a_kill_in_mid_candle_has_an_unbroken_series(tmp_path: Path) -> None:
    async with FakeBinance() as exchange:
        settings = {"BINANCE_WS_URLS": exchange.ws_url, "BINANCE_REST_URLS": exchange.rest_url, **CANDLES}
        received: list[Message] = []
        async with started(tmp_path, **settings) as service, connected(service, f"topics={TOPIC}") as client:
            await client.one("synced")
            await exchange.until(lambda: exchange.subscribed(KLINES))
            exchange.advance(150)
            second = exchange.now_ms // MINUTE_MS * MINUTE_MS - MINUTE_MS
            while second not in (open_time for open_time, *_ in closed_in(received)):
                received.append(await client.next())
            position = received[-1]["id"]
            service.process.kill()
            await service.process.wait()
        exchange.advance(120)
        async with started(tmp_path, **settings) as service:
            await service.until_ready()
            async with connected(service, f"topics={TOPIC}&since={position}") as client:
                hello = await client.until("subscribed")
                assert (hello[-1]["resumed"], hello[-1]["reason"]) == (False, "epoch"), "the client must start over"
            # As the protocol says: fetch the missing candles, and subscribe from that answer's position.
            known = [*dict.fromkeys(closed_in(received))]
            missing_ms = known[-1][0] + MINUTE_MS
            _, answer = await service.get(f"/api/market/ohlc?symbol=BTC&interval=1m&start={missing_ms}")
            rows = answer["data"]
            assert isinstance(rows, list)
            known += [(row["open_time"], row["close"], row["trades"]) for row in rows if row["closed"]]
            async with connected(service, f"topics={TOPIC}&since={answer['position']}") as client:
                after = await client.until("synced")
                exchange.advance(60)
                newest = exchange.candles("BTCUSDT", "1m")[-2].open_ms
                while newest not in (open_time for open_time, *_ in closed_in(after)):
                    after.append(await client.next())
        known += [each for each in closed_in(after) if each not in known]
        truth = [each for each in exchange.candles("BTCUSDT", "1m", start_ms=known[0][0]) if each.closed]
        assert known == [(each.open_ms, float(each.close), each.trades) for each in truth]
        assert len(known) >= 5


async def test_a_provider_that_banned_us_gets_no_request_after_a_kill_and_a_restart(tmp_path: Path) -> None:
    async with FakeUpstream() as provider:
        provider.always = Fault(status=418, headers={"Retry-After": "600"})
        settings = {"COINGECKO_URL": provider.url, "MARKET_POLL_S": "1"}
        async with started(tmp_path, **settings) as service:
            await provider.called(1)
            await until((tmp_path / ".state" / "bans.json").exists)
            service.process.kill()
            await service.process.wait()
        asked = len(provider.calls)
        provider.always = None
        async with started(tmp_path, **settings) as service:
            await service.until_ready()
            _, answer = await service.get("/api/market/global")
            error = answer["error"]
            assert isinstance(error, dict)
            attempts = error["details"]["attempts"]
            assert attempts == [{"provider": "coingecko", "outcome": "rate_limited", "asked": False}]
        assert len(provider.calls) == asked


class ProxyOfTheEnvironment(ChaosProxy):
    """An HTTP proxy that allows CONNECT to one port and counts its requests."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.asked: Counter[str] = Counter()

    async def route(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, int] | None:
        method, target, _ = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ", 2)
        self.asked[f"{method} {target}"] += 1
        if (method, target) != ("CONNECT", f"{HOST}:{self.target[1]}"):
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return None
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        return self.target


async def test_stream_and_rest_both_go_through_the_proxy_of_the_environment(tmp_path: Path) -> None:
    certificate = TLS / "elsewhere.pem"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, TLS / "key.pem")
    async with (
        FakeBinance(ssl_context=context) as exchange,
        ProxyOfTheEnvironment(exchange.port) as proxy,
        started(
            tmp_path,
            BINANCE_WS_URLS=f"wss://{HOST}:{exchange.port}",
            BINANCE_REST_URLS=f"https://{HOST}:{exchange.port}",
            HTTPS_PROXY=f"http://127.0.0.1:{proxy.port}",
            SSL_CERT_FILE=str(certificate),
            **CANDLES,
        ) as service,
    ):
        await exchange.until(lambda: exchange.subscribed(KLINES) and exchange.requests_to("klines"))
        exchange.advance(2)
        async with connected(service, "topics=price.BTC") as client:
            await client.one("update", topic="price.BTC")
        assert proxy.asked[f"CONNECT {HOST}:{exchange.port}"] >= 2, "one for the stream and one for REST"
        await until(lambda: len(proxy.links) == exchange.connections_made)

"""`/api` and `/health` as an HTTP client uses them."""

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.clients import last_ts, market_start, seq_of, serving, updates, websocket
from tests.fakes.binance import INTERVALS, FakeBinance, RestFault
from tests.harness import Running, running, until

KLINES = "btcusdt@kline_1m"
ENVELOPE = {
    *("success", "data", "source", "timestamp", "latency_ms", "cached", "age_ms", "stale", "attempts", "position"),
}


@pytest.fixture
async def exchange() -> AsyncIterator[FakeBinance]:
    async with FakeBinance(start_ms=market_start()) as running_exchange:
        yield running_exchange


@pytest.fixture
async def service(exchange: FakeBinance, tmp_path: Path) -> AsyncIterator[Running]:
    async with serving(exchange, tmp_path) as running_service:
        yield running_service


async def ask(service: Running, path: str, **headers: str) -> Any:
    """Return the body of a GET that must succeed."""
    status, body = await service.get(path, **headers)
    assert status == 200, body
    return body


def rows_of(exchange: FakeBinance, symbol: str, interval: str, **span: int) -> list[tuple[int, float, float]]:
    """Return the candles of the exchange: open time, close, volume."""
    return [(c.open_ms, float(c.close), float(c.volume)) for c in exchange.candles(symbol, interval, **span)]


def rows_in(body: Any) -> list[tuple[int, float, float]]:
    return [(row["open_time"], row["close"], row["volume"]) for row in body["data"]]


# --- the envelope


async def test_every_answer_has_the_envelope(service: Running) -> None:
    for path in (
        "/api/market/price",
        "/api/market/price?symbols=BTC",
        "/api/market/ohlc?symbol=BTC&interval=1m",
        "/api/market/ohlc?symbol=ETH&interval=1w",
        "/api/snapshot",
        "/api/topics",
        "/api/status",
    ):
        async with service.http.get(service.url + path) as answer:
            body = await answer.json()
            assert answer.headers["Content-Type"].startswith("application/json"), path
            assert answer.headers["X-Content-Type-Options"] == "nosniff", path
        assert body.keys() >= ENVELOPE, path
        assert body["success"] is True, path
        assert body["latency_ms"] >= 0, path
        assert abs(datetime.fromisoformat(body["timestamp"]).timestamp() - time.time()) < 60, path
        assert body["timestamp"].endswith("Z"), path
        assert body["position"].startswith(service.context.hub.epoch + "-"), path


# --- prices


async def test_prices_of_named_symbols_come_with_their_source_and_age(service: Running, exchange: FakeBinance) -> None:
    body = await ask(service, "/api/market/price?symbols=btc,ETH-USDT,bitcoin,SOLUSDT")
    rows = {row["symbol"]: row for row in body["data"]}
    assert list(rows) == ["BTC", "ETH", "SOL"]
    assert rows["BTC"]["price"] == float(exchange.price("BTCUSDT"))
    assert (rows["BTC"]["source"], rows["BTC"]["stale"], rows["BTC"]["ts"]) == ("binance", False, exchange.now_ms)
    assert body["source"] == "binance"
    assert body["age_ms"] >= 0


async def test_without_symbols_all_prices_come_ordered_by_name(service: Running) -> None:
    names = [row["symbol"] for row in (await ask(service, "/api/market/price"))["data"]]
    assert names == sorted(names)
    assert {"BTC", "ETH", "币安人生"} <= set(names)


async def test_a_symbol_without_a_price_yet_is_named_beside_the_others(tmp_path: Path) -> None:
    async with FakeBinance() as exchange:
        exchange.quiet("PEPEUSDT")
        stopped = exchange.break_rest("ticker/24hr", RestFault(status=500))
        async with serving(exchange, tmp_path) as service:
            body = await ask(service, "/api/market/price?symbols=BTC,PEPE")
            status, refused = await service.get("/api/market/price?symbols=PEPE")
        stopped.stop()
    assert [row["symbol"] for row in body["data"]] == ["BTC"]
    assert body["missing"] == ["PEPE"]
    assert (status, refused["success"]) == (503, False)


async def test_a_price_is_the_same_on_rest_and_on_the_stream(service: Running) -> None:
    async with websocket(service, "topics=price.BTC") as client:
        sent = updates(await client.until("synced"))[0]["data"]
    row = (await ask(service, "/api/market/price?symbols=BTC"))["data"][0]
    assert {name: row[name] for name in sent} == sent


# --- candles


async def test_candles_of_a_kept_series_cost_the_exchange_nothing(service: Running, exchange: FakeBinance) -> None:
    asked = len(exchange.requests)
    body = await ask(service, "/api/market/ohlc?symbol=BTC&interval=1m&limit=200")
    assert len(exchange.requests) == asked
    truth = rows_of(exchange, "BTCUSDT", "1m", limit=200)
    assert rows_in(body)[:-1] == truth[:-1]
    assert [row["closed"] for row in body["data"]] == [True] * 199 + [False]
    assert body["data"][-1]["state"] == "live"
    assert (body["source"], body["cached"]) == ("binance", True)


async def test_every_interval_of_the_exchange_is_answered_ascending(service: Running, exchange: FakeBinance) -> None:
    for interval in INTERVALS:
        if interval == "1s":
            continue
        body = await ask(service, f"/api/market/ohlc?symbol=ethereum&interval={interval}&limit=5")
        assert rows_in(body) == rows_of(exchange, "ETHUSDT", interval, limit=5), interval
        assert [row["closed"] for row in body["data"]] == [True] * 4 + [False], interval
        assert {row["interval"] for row in body["data"]} == {interval}


async def test_the_default_is_500_hours(service: Running, exchange: FakeBinance) -> None:
    body = await ask(service, "/api/market/ohlc?symbol=BTC")
    assert rows_in(body) == rows_of(exchange, "BTCUSDT", "1h", limit=500)


async def test_start_end_and_limit_choose_the_span_alike_from_series_and_exchange(
    service: Running, exchange: FakeBinance
) -> None:
    now = exchange.now_ms // 60_000 * 60_000
    for symbol in ("BTC", "ETH"):  # kept here; asked from the exchange
        pair = f"{symbol}USDT"
        path = f"/api/market/ohlc?symbol={symbol}&interval=1m"
        start, end = now - 20 * 60_000, now - 10 * 60_000
        assert rows_in(await ask(service, f"{path}&start={start}&end={end}")) == rows_of(
            exchange, pair, "1m", start_ms=start, end_ms=end
        )
        assert rows_in(await ask(service, f"{path}&start={start}&limit=3")) == rows_of(
            exchange, pair, "1m", start_ms=start, limit=3
        )
        assert rows_in(await ask(service, f"{path}&end={end}&limit=3")) == rows_of(
            exchange, pair, "1m", end_ms=end, limit=3
        )
        odd = start + 1
        assert rows_in(await ask(service, f"{path}&start={odd}&end={end - 1}")) == rows_of(
            exchange, pair, "1m", start_ms=odd, end_ms=end - 1
        )


async def test_candles_from_before_the_kept_series_are_fetched_from_the_exchange(
    service: Running, exchange: FakeBinance
) -> None:
    start = exchange.now_ms - 5000 * 60_000
    body = await ask(service, f"/api/market/ohlc?symbol=BTC&interval=1m&start={start}&limit=10")
    assert rows_in(body) == rows_of(exchange, "BTCUSDT", "1m", start_ms=start, limit=10)
    assert body["cached"] is False
    assert body["attempts"] == [{"provider": "binance", "outcome": "ok"}]


async def test_more_candles_than_are_kept_come_from_the_exchange(service: Running, exchange: FakeBinance) -> None:
    body = await ask(service, "/api/market/ohlc?symbol=BTC&interval=1m&limit=1000")
    assert len(body["data"]) == 1000


async def test_a_span_without_candles_is_an_empty_answer(service: Running) -> None:
    body = await ask(service, "/api/market/ohlc?symbol=ETH&interval=1m&start=0&end=5")
    assert body["data"] == []


async def test_identical_questions_at_once_make_one_call_upstream(service: Running, exchange: FakeBinance) -> None:
    path = "/api/market/ohlc?symbol=SOL&interval=4h&limit=7"
    bodies = await asyncio.gather(*(ask(service, path) for _ in range(50)))
    assert len(exchange.requests_to("klines", symbol="SOLUSDT")) == 1
    assert all(rows_in(body) == rows_in(bodies[0]) for body in bodies)


async def test_a_caller_that_gives_up_does_not_take_the_answer_from_the_others(
    service: Running, exchange: FakeBinance
) -> None:
    exchange.break_rest("klines", RestFault(delay_s=0.3), times=1)
    path = "/api/market/ohlc?symbol=SOL&interval=4h&limit=7"
    first = asyncio.create_task(ask(service, path))
    await exchange.until(lambda: exchange.requests_to("klines", symbol="SOLUSDT"))
    second = asyncio.create_task(ask(service, path))
    await asyncio.sleep(0.05)
    first.cancel()
    assert len((await second)["data"]) == 7
    assert len(exchange.requests_to("klines", symbol="SOLUSDT")) == 1


async def test_clients_cannot_spend_the_allowance_at_the_exchange(service: Running, exchange: FakeBinance) -> None:
    statuses = []
    for number in range(60):
        async with service.http.get(
            f"{service.url}/api/market/ohlc?symbol=ETH&interval=1h&limit=1&end={number}"
        ) as answer:
            statuses.append(answer.status)
            if answer.status == 429:
                assert int(answer.headers["Retry-After"]) >= 1
                assert (await answer.json())["error"]["code"] == "rate_limited"
    assert statuses[:30] == [200] * 30
    assert 429 in statuses


# --- wrong requests

INTERVALS_SHOWN = "1m, 3m"

BAD_REQUESTS = [
    ("/api/market/ohlc", 400, "bad_parameter", ["symbol"]),
    ("/api/market/ohlc?symbol=", 400, "bad_parameter", ["symbol"]),
    ("/api/market/ohlc?symbol=BTC&interval=7m", 400, "invalid_interval", ["7m", INTERVALS_SHOWN]),
    ("/api/market/ohlc?symbol=BTC&interval=1H", 400, "invalid_interval", ["1H"]),
    ("/api/market/ohlc?symbol=BTC&interval=1s", 400, "invalid_interval", ["1s"]),
    ("/api/market/ohlc?symbol=BTC&limit=0", 400, "bad_parameter", ["limit", "0"]),
    ("/api/market/ohlc?symbol=BTC&limit=-1", 400, "bad_parameter", ["limit", "-1"]),
    ("/api/market/ohlc?symbol=BTC&limit=1001", 400, "bad_parameter", ["limit", "1001"]),
    ("/api/market/ohlc?symbol=BTC&limit=ten", 400, "bad_parameter", ["limit", "ten"]),
    ("/api/market/ohlc?symbol=BTC&limit=1.5", 400, "bad_parameter", ["limit", "1.5"]),
    ("/api/market/ohlc?symbol=BTC&limit=1e2", 400, "bad_parameter", ["limit", "1e2"]),
    ("/api/market/ohlc?symbol=BTC&limit=%D9%A3", 400, "bad_parameter", ["limit"]),
    ("/api/market/ohlc?symbol=BTC&limit=" + "9" * 5000, 400, "bad_parameter", ["limit"]),
    ("/api/market/ohlc?symbol=BTC&start=now", 400, "bad_parameter", ["start", "now"]),
    ("/api/market/ohlc?symbol=BTC&start=-1", 400, "bad_parameter", ["start", "-1"]),
    ("/api/market/ohlc?symbol=BTC&start=999999999999999", 400, "bad_parameter", ["start"]),
    ("/api/market/ohlc?symbol=BTC&end=%00", 400, "bad_parameter", ["end"]),
    ("/api/market/ohlc?symbol=BTC&start=2000&end=1000", 400, "bad_parameter", ["start", "end"]),
    ("/api/market/ohlc?symbol=BTC&symbol=ETH", 400, "bad_parameter", ["symbol", "2 times"]),
    ("/api/market/ohlc?symbol=BTC&limit=1&limit=2", 400, "bad_parameter", ["limit", "2 times"]),
    ("/api/market/ohlc?symbol=BTC&max_age=old", 400, "bad_parameter", ["max_age", "old"]),
    ("/api/market/ohlc?symbol=BTC&max_age=nan", 400, "bad_parameter", ["max_age"]),
    ("/api/market/ohlc?symbol=BTC&max_age=-1", 400, "bad_parameter", ["max_age"]),
    ("/api/market/ohlc?symbol=BTC&max_age=inf", 400, "bad_parameter", ["max_age"]),
    ("/api/market/ohlc?interval=7m&limit=x&start=y&end=z&max_age=w", 400, "bad_parameter",
     ["symbol", "interval", "limit", "start", "end", "max_age"]),
    ("/api/market/ohlc?symbol=NOPE", 404, "unknown_symbol", ["NOPE"]),
    ("/api/market/ohlc?symbol=BTC*", 404, "unknown_symbol", ["BTC*"]),
    ("/api/market/ohlc?symbol=" + "A" * 3000, 404, "unknown_symbol", ["AAA"]),
    ("/api/market/ohlc?symbol=BTCEUR", 404, "unknown_symbol", ["BTCEUR", "BTCUSDT"]),
    ("/api/market/price?symbols=BTC,NOPE,..", 404, "unknown_symbol", ["NOPE", ".."]),
    ("/api/market/price?max_age=x", 400, "bad_parameter", ["max_age"]),
    ("/api/snapshot?topics=price.BTC,nope,ohlcv.BTC.7m", 400, "unknown_topic", ["nope", "7m"]),
    ("/api/snapshot?topics=nope&max_age=x", 400, "bad_parameter", ["nope", "max_age"]),
    ("/api/snapshot?topics=price.B*", 400, "unknown_topic", ["price.B*"]),
    ("/api/nothing", 404, "not_found", ["/api/nothing"]),
    ("/nothing", 404, "not_found", ["/nothing"]),
    ("/api/market/price/", 404, "not_found", ["/api/market/price/"]),
    ("/static/../pyproject.toml", 404, "not_found", []),
    ("/static/%2e%2e/pyproject.toml", 404, "not_found", []),
    ("/static/..%2fpyproject.toml", 404, "not_found", []),
    ("/static/%00", 404, "not_found", []),
]  # fmt: skip


async def test_the_error_of_a_bad_request_names_all_that_is_wrong(service: Running) -> None:
    for path, status, code, named in BAD_REQUESTS:
        got, head, body = await raw_request(service, "GET", path)
        answer = json.loads(body)
        assert (got, answer["success"]) == (status, False), (path, answer)
        assert answer.keys() == {"success", "error", "timestamp", "request_id"}, path
        assert answer["error"]["code"] == code, path
        for name in named:
            assert name in answer["error"]["message"], path
        assert len(answer["error"]["message"]) < 2000, path
        assert "Traceback" not in body.decode(), path
        assert head["cache-control"] == "no-store", path


async def test_details_name_each_bad_parameter(service: Running) -> None:
    _, body = await service.get("/api/market/ohlc?symbol=BTC&limit=x&start=y")
    error = body["error"]
    assert isinstance(error, dict)
    assert error["details"].keys() == {"limit", "start"}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_another_method_is_405_with_the_allowed_ones(service: Running, method: str) -> None:
    for path in ("/api/market/price", "/sse", "/ws", "/", "/health/live"):
        status, head, body = await raw_request(service, method, path)
        assert (status, json.loads(body)["error"]["code"]) == (405, "method_not_allowed"), path
        assert "GET" in head["allow"]


async def test_head_is_get_without_a_body(service: Running) -> None:
    for path in ("/api/market/price?symbols=BTC", "/health/live", "/", "/api/nothing"):
        got = await raw_request(service, "GET", path)
        status, head, body = await raw_request(service, "HEAD", path)
        assert (status, body) == (got[0], b"")
        assert head["content-type"] == got[1]["content-type"]


async def test_a_body_of_megabytes_is_not_read(service: Running) -> None:
    async with service.http.post(f"{service.url}/api/market/price", data=io.BytesIO(b"x" * 3_000_000)) as answer:
        assert answer.status in (405, 413)
    await ask(service, "/api/status")


@pytest.mark.parametrize(
    "request_text",
    [
        "GET /api/status HTTP/1.1\r\n\r\n",
        "GET /api/status HTTP/9.9\r\nHost: x\r\n\r\n",
        "GET /" + "a" * 20_000 + " HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /api/status HTTP/1.1\r\nHost: x\r\nX: " + "a" * 20_000 + "\r\n\r\n",
        "GET /api/status HTTP/1.1\r\nHost: x\r\n" + "".join(f"H{n}: v\r\n" for n in range(300)) + "\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "GARBAGE\r\n\r\n",
    ],
    ids=["no host", "bad version", "long target", "long header", "many headers", "TLS", "garbage"],
)
async def test_malformed_http_costs_its_own_connection_alone(service: Running, request_text: str) -> None:
    reader, writer = await open_raw(service)
    writer.write(request_text.encode("latin-1"))
    writer.write_eof()
    async with asyncio.timeout(30):
        answer = await reader.read()
    writer.close()
    assert b"Traceback" not in answer
    assert b" 500 " not in answer.partition(b"\r\n")[0]
    await ask(service, "/api/status")


async def open_raw(service: Running) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = service.url.removeprefix("http://").partition(":")
    return await asyncio.open_connection(host, int(port))


async def raw_request(service: Running, method: str, target: str) -> tuple[int, dict[str, str], bytes]:
    """Send a request whose path no library normalises."""
    reader, writer = await open_raw(service)
    writer.write(f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    async with asyncio.timeout(30):
        whole = await reader.read()
    writer.close()
    head, _, body = whole.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split()[1]), headers, body


# --- caching and other origins


async def test_an_etag_saves_the_body_until_the_data_changes(service: Running, exchange: FakeBinance) -> None:
    url = f"{service.url}/api/market/price?symbols=BTC"
    async with service.http.get(url) as first:
        tag = first.headers["ETag"]
    async with service.http.get(url, headers={"If-None-Match": f'"other", {tag}'}) as second:
        assert (second.status, second.headers["ETag"], await second.read()) == (304, tag, b"")
    exchange.advance(1)
    await until(lambda: last_ts(service, "price.BTC") == exchange.now_ms)
    async with service.http.get(url, headers={"If-None-Match": tag}) as third:
        assert third.status == 200
        assert third.headers["ETag"] != tag


async def test_any_page_may_read_by_default(service: Running) -> None:
    for path in ("/api/market/price", "/api/nothing", "/health/live"):
        async with service.http.get(service.url + path, headers={"Origin": "https://page.example"}) as answer:
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
    async with service.http.get(f"{service.url}/api/status", headers={"If-None-Match": "x"}) as answer:
        assert "ETag" in answer.headers["Access-Control-Expose-Headers"]


async def test_only_allowed_origins_may_read_when_they_are_named(tmp_path: Path) -> None:
    async with running(None, tmp_path, ALLOWED_ORIGINS="https://good.example") as service:
        url = f"{service.url}/api/status"
        async with service.http.get(url, headers={"Origin": "https://good.example"}) as good:
            assert good.headers["Access-Control-Allow-Origin"] == "https://good.example"
            assert "Origin" in good.headers["Vary"]
        async with service.http.get(url, headers={"Origin": "https://evil.example"}) as evil:
            assert "Access-Control-Allow-Origin" not in evil.headers
            assert "Origin" in evil.headers["Vary"]


@pytest.mark.parametrize("path", ["/api/market/price", "/sse", "/health/ready"])
async def test_a_preflight_is_answered(service: Running, path: str) -> None:
    asked = {"Origin": "https://page.example", "Access-Control-Request-Method": "GET"}
    async with service.http.options(service.url + path, headers=asked) as answer:
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "GET" in answer.headers["Access-Control-Allow-Methods"]
        assert "Last-Event-ID" in answer.headers["Access-Control-Allow-Headers"]


# --- snapshot, topics, status


async def test_a_snapshot_holds_the_messages_of_the_stream_by_id(service: Running) -> None:
    async with websocket(service, "topics=price.*,ohlcv.BTC.1m") as client:
        sent = updates(await client.until("synced"))
    body = await ask(service, "/api/snapshot?topics=price.*,ohlcv.BTC.1m")
    assert body["data"] == sent
    everything = await ask(service, "/api/snapshot")
    assert {message["topic"] for message in everything["data"]} > {message["topic"] for message in sent}


async def test_topics_list_what_can_be_subscribed(service: Running) -> None:
    data = (await ask(service, "/api/topics"))["data"]
    assert {"BTC", "ETH", "PEPE"} <= set(data["symbols"])
    assert "MATIC" in data["symbols"], "a pair that rests is served, and says so"
    assert len(data["intervals"]) == 15
    held = {topic["topic"]: topic for topic in data["topics"]}
    assert held["price.BTC"]["source"] == "binance"
    for template in data["templates"]:
        topic = template.replace("<SYM>", "BTC").replace("<interval>", "1m").replace("<chain>", "ethereum")
        async with websocket(service, f"topics={topic}") as client:
            assert (await client.one("subscribed"))["topics"] == [topic]
    for pattern in data["patterns"]:
        async with websocket(service, f"topics={pattern}") as client:
            assert (await client.one("subscribed"))["topics"] == [pattern]


async def test_status_has_the_state_of_clients_hub_and_feeds(service: Running) -> None:
    async with websocket(service) as client:
        await client.until("hello")
        data = (await ask(service, "/api/status"))["data"]
    assert (data["clients"]["websocket"], data["clients"]["sse"]) == (1, 0)
    assert data["hub"]["epoch"] == service.context.hub.epoch
    feed = data["feeds"][0]
    assert (feed["name"], feed["state"]) == ("binance", "live")
    assert feed["last_error"] is None
    assert data["readiness"].items() >= {"price": "value", "ohlcv": "value"}.items()


async def test_position_lets_a_client_get_then_subscribe_and_miss_nothing(
    service: Running, exchange: FakeBinance
) -> None:
    body = await ask(service, "/api/market/ohlc?symbol=BTC&interval=1m&limit=5")
    exchange.advance(185)
    await until(lambda: last_ts(service, "price.BTC") == exchange.now_ms)
    async with websocket(service, f"topics=ohlcv.BTC.1m&since={body['position']}") as client:
        heard = await client.until("synced")
    candles = {row["open_time"]: row for row in body["data"]}
    candles |= {message["data"]["open_time"]: message["data"] for message in updates(heard)}
    shown = [(row["open_time"], row["close"], row["volume"]) for row in candles.values() if row["closed"]]
    truth = rows_of(exchange, "BTCUSDT", "1m", limit=len(shown) + 1)[:-1]
    assert shown == truth
    assert heard[1]["resumed"] is True
    assert all(seq_of(message) > seq_of({"id": body["position"]}) for message in updates(heard))


# --- age, and upstreams that fail


async def test_max_age_answers_503_rather_than_older_data(service: Running, exchange: FakeBinance) -> None:
    path = "/api/market/price?symbols=BTC"
    assert (await service.get(f"{path}&max_age=3600"))[0] == 200
    await asyncio.sleep(0.01)
    async with service.http.get(f"{service.url}{path}&max_age=0") as answer:
        assert answer.status == 503
        assert answer.headers["Retry-After"]
        assert (await answer.json())["error"]["code"] == "too_old"


async def test_a_value_past_its_time_is_marked_stale_in_every_view(exchange: FakeBinance, tmp_path: Path) -> None:
    async with serving(exchange, tmp_path, SNAPSHOT_TTL_S="1") as service:
        fresh = await ask(service, "/api/market/price?symbols=BTC")
        await until(lambda: service.context.hub.topics["price.BTC"].stale)
        stale = await ask(service, "/api/market/price?symbols=BTC")
        snapshot = await ask(service, "/api/snapshot?topics=price.BTC")
        listed = (await ask(service, "/api/topics"))["data"]["topics"]
    assert (fresh["stale"], stale["stale"], snapshot["stale"]) == (False, True, True)
    assert stale["data"][0]["stale"] is True
    assert snapshot["stale_topics"] == ["price.BTC"]
    assert stale["age_ms"] >= 1000
    assert next(topic for topic in listed if topic["topic"] == "price.BTC")["stale"] is True


async def test_with_the_exchange_down_kept_candles_have_their_age_and_others_are_503(
    exchange: FakeBinance, tmp_path: Path
) -> None:
    async with serving(exchange, tmp_path, SNAPSHOT_TTL_S="1") as service:
        await exchange.kill()
        await until(lambda: service.context.hub.topics["ohlcv.BTC.1m"].stale)
        kept = await ask(service, "/api/market/ohlc?symbol=BTC&interval=1m&limit=5")
        async with service.http.get(f"{service.url}/api/market/ohlc?symbol=ETH&interval=1d") as answer:
            assert answer.status == 503
            assert int(answer.headers["Retry-After"]) >= 1
            refused = await answer.json()
        status, _ = await service.get("/api/market/ohlc?symbol=BTC&interval=1m&limit=5&max_age=0.5")
    assert (kept["stale"], len(kept["data"])) == (True, 5)
    assert kept["age_ms"] >= 1000
    assert kept["attempts"][0] == {"provider": "binance", "outcome": "unavailable"}
    assert refused["error"]["code"] == "unavailable"
    assert refused["error"]["details"]["attempts"][0]["provider"] == "binance"
    assert status == 503


@pytest.mark.parametrize(
    "fault",
    [
        RestFault(status=500),
        RestFault(status=429, headers={"Retry-After": "7"}),
        RestFault(status=418, headers={"Retry-After": "7"}),
        RestFault(status=451),
        RestFault(status=403, body="<html>"),
        RestFault(body="<html>captcha</html>"),
        RestFault(body=b""),
        RestFault(body={"code": -1003, "msg": "Too much"}),
        RestFault(body=[[1, 2, 3]]),
        RestFault(body="[" * 100_000),
        RestFault(cut_at=20),
        RestFault(reset=True, cut_at=0),
    ],
    ids=lambda fault: f"{fault.status} {str(fault.body)[:12]} {fault.cut_at}",
)
async def test_an_exchange_that_misbehaves_is_503_and_never_500(
    service: Running, exchange: FakeBinance, fault: RestFault
) -> None:
    exchange.break_rest("klines", fault)
    # No other source has candles of three minutes.
    async with service.http.get(f"{service.url}/api/market/ohlc?symbol=ETH&interval=3m") as answer:
        body = await answer.json()
        assert answer.status == 503, body
        retry_after = int(answer.headers["Retry-After"])
    assert body["error"]["code"] == "unavailable"
    if fault.headers.get("Retry-After"):
        assert 5 <= retry_after <= 8


async def test_a_bad_row_costs_that_row_alone(service: Running, exchange: FakeBinance) -> None:
    def spoil(body: object) -> object:
        assert isinstance(body, list)
        body[1][4] = "NaN"
        return body

    exchange.break_rest("klines", RestFault(change=spoil), times=1)
    body = await ask(service, "/api/market/ohlc?symbol=ETH&interval=1h&limit=5")
    truth = rows_of(exchange, "ETHUSDT", "1h", limit=5)
    assert rows_in(body) == [truth[0], *truth[2:]]


async def test_before_the_exchange_was_ever_reached_prices_and_candles_are_503(tmp_path: Path) -> None:
    async with running(None, tmp_path) as service:
        for path in ("/api/market/price", "/api/market/price?symbols=BTC", "/api/market/ohlc?symbol=BTC"):
            async with service.http.get(service.url + path) as answer:
                assert answer.status == 503, path
                assert int(answer.headers["Retry-After"]) >= 1
        assert (await ask(service, "/api/snapshot?topics=price.*"))["data"] == []


@pytest.mark.parametrize("query", ["", "?symbols=BTC,ETH"])
async def test_a_missing_price_names_the_sources_of_prices_and_no_other_feed(tmp_path: Path, query: str) -> None:
    async with running(None, tmp_path) as service:
        await until(lambda: all(service.context.supervisor.readiness().values()))
        status, body = await service.get(f"/api/market/price{query}")
        assert status == 503
        message = str(body["error"])
        assert "127.0.0.1:9: " in message, "the exchange"
        assert "no provider of price can answer" in message
        others = [name for name in service.context.supervisor.readiness() if name not in ("price", "ohlcv", "market")]
        assert [name for name in (*others, "catalogue") if f"no provider of {name}" in message] == []


# --- probes


async def is_ready(service: Running) -> dict[str, Any]:
    """Ask until the service is ready, and return the answer. A busy machine may pause the process, which delays it."""
    async with asyncio.timeout(30):
        while True:
            status, body = await service.get("/health/ready")
            if status == 200:
                return body
            await asyncio.sleep(0.05)


async def test_live_is_always_and_ready_only_with_values_or_a_known_failure(
    exchange: FakeBinance, tmp_path: Path
) -> None:
    exchange.break_rest("exchangeInfo", RestFault(delay_s=2.0), times=1)
    async with running(exchange, tmp_path) as service:
        assert (await service.get("/health/live"))[0] == 200
        status, body = await service.get("/health/ready")
        assert status == 503
        assert body["status"] in ("starting", "troubled"), "a machine under load may pause the process"
        await until(lambda: all(service.context.supervisor.readiness().values()))
        await is_ready(service)
        service.context.draining = True
        assert (await service.get("/health/ready"))[0] == 503
        assert (await service.get("/health/live"))[0] == 200


async def test_without_a_network_it_is_ready_with_the_hosts_it_cannot_reach(tmp_path: Path) -> None:
    async with running(None, tmp_path) as service:
        await until(lambda: all(service.context.supervisor.readiness().values()))
        exchange = service.context.supervisor.feeds[0]
        await until(lambda: "cannot connect" in orjson.dumps(exchange.report()["rest_hosts"]).decode())
        body = await is_ready(service)
        report = (await ask(service, "/api/status"))["data"]
    assert "127.0.0.1:9" in json.dumps(body)
    assert report["feeds"][0]["rest_hosts"][0]["host"] == "127.0.0.1:9"
    assert "127.0.0.1:9" in report["feeds"][0]["last_error"]
    assert "cannot connect" in report["feeds"][0]["rest_hosts"][0]["last_error"]

"""Bad parameters of many kinds at every endpoint: the error names each, and none causes a 500."""

from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.sources import Sourced, sourced

CLEAN, DT = "/api/new-sources/crypto-api-clean", "/api/new-sources/crypto-dt-source"

NO_WHOLE_NUMBERS = [
    *("0", "-1", "-0", "999999999", "9" * 17, "9" * 400, "ten", "1.5", "1e2", "1_0", "+1", "0x10", "٣", "½", "NaN"),
    *("inf", "null", "true", "[]", "{}", "'1'", "1;2", "1 2", "%00", "\x00", "\n", "..", "💥", "--1", "1,2", "-"),
]
NO_AGES = ["-1", "nan", "inf", "-inf", "old", "1s", "1_0", "٣", "1e999", "0x1", "1,5", "[]", "null", "\x00", "💥"]
NO_WORDS = ["nope", "*", ">", "..", "%", "💥", "\x00", "a" * 3000, "' OR 1=1", "<script>", "1", "BTC*", "[]", "{}"]

LIMITS = [
    "/api/market",
    "/api/market/trending",
    "/api/market/ohlc?symbol=BTC",
    "/api/news",
    "/api/sentiment/global",
    f"{CLEAN}/resources",
    f"{DT}/prices",
    f"{DT}/klines?symbol=BTC",
    f"{DT}/fear-greed",
    f"{DT}/reddit",
    f"{DT}/news",
    "/api/new-sources/prices/unified",
    "/api/new-sources/resources/unified",
]
AGED = [
    *(path for path in LIMITS),
    "/api/market/global",
    "/api/market/price",
    "/api/crypto/blockchain/gas",
    "/api/crypto/blockchain/stats",
    "/api/snapshot",
    f"{CLEAN}/health",
    f"{CLEAN}/stats",
    f"{CLEAN}/categories",
    *(f"{DT}/{each}" for each in ("health", "status", "sentiment?text=x", "models", "datasets")),
    "/api/new-sources/test-all",
]
WORDS = [
    ("/api/news", "filter", 400),
    ("/api/news", "symbol", 404),
    ("/api/market/ohlc?symbol=BTC", "interval", 400),
    ("/api/market/ohlc", "symbol", 404),
    ("/api/market/price", "symbols", 404),
    ("/api/market", "symbols", 404),
    ("/api/market", "strict", 400),
    ("/api/market/price", "strict", 400),
    ("/api/crypto/blockchain/gas", "chain", 404),
    ("/api/crypto/blockchain/stats", "chain", 404),
    ("/api/snapshot", "topics", 400),
    (f"{CLEAN}/resources", "category", 404),
    ("/api/new-sources/resources/unified", "category", 404),
    (f"{DT}/klines?symbol=BTC", "interval", 400),
    (f"{DT}/klines", "symbol", 404),
    (f"{DT}/prices", "symbols", 404),
    (f"{DT}/sentiment?text=x", "model", 400),
    (f"{DT}/reddit", "subreddit", 400),
    (f"{DT}/reddit", "period", 400),
    (f"{DT}/news", "feed", 400),
    ("/api/new-sources/prices/unified", "symbols", 404),
]
FINE = {
    ("strict", "1"),
    ("subreddit", "nope"),
    *((name, word) for name in ("topics",) for word in (">", "*")),
    # These are chains and coins by number or ticker; an empty name counts as not given.
    ("chain", "1"),
}
TOGETHER = [
    ("/api/market?limit=0&strict=maybe&max_age=x", ["limit", "strict", "max_age"]),
    ("/api/market/ohlc?interval=7m&limit=x&start=y&end=z", ["symbol", "interval", "limit", "start", "end"]),
    ("/api/news?filter=best&limit=201&max_age=-1", ["filter", "limit", "max_age"]),
    ("/api/market?limit=1&limit=2&strict=1&strict=0&max_age=1&max_age=2", ["limit", "strict", "max_age"]),
    (f"{DT}/klines?interval=3m&limit=1001", ["symbol", "interval", "limit"]),
    (f"{DT}/sentiment?model=gpt&max_age=x", ["text", "model", "max_age"]),
    (f"{DT}/reddit?subreddit=../x&period=decade&limit=0", ["subreddit", "period", "limit"]),
    (f"{CLEAN}/resources?limit=0&offset=-1", ["limit", "offset"]),
    ("/api/market?symbols=" + ",".join(f"C{number}" for number in range(101)), ["symbols"]),
    ("/api/market?" + "&".join(f"symbols=C{number}" for number in range(101)), ["symbols"]),
    ("/api/market/price?symbols=" + ",".join(f"C{number}" for number in range(501)), ["symbols"]),
]  # fmt: skip


async def refused(every: Sourced, path: str, statuses: tuple[int, ...], *names: str) -> Any:
    status, body = await every.get(path)
    assert status in statuses, (path[:200], status, str(body)[:500])
    assert body.keys() == {"success", "error", "timestamp", "request_id"}, path[:200]
    assert body["error"].keys() == {"code", "message", "details"}, path[:200]
    assert len(body["error"]["message"]) < 4000, path[:200]
    assert "Traceback" not in str(body), path[:200]
    if status == 400:
        assert set(names) <= body["error"]["details"].keys(), (path[:200], body["error"])
    return body


def with_parameter(path: str, name: str, value: str) -> str:
    return f"{path}{'&' if '?' in path else '?'}{name}={quote(value, safe='')}"


async def test_the_error_names_a_parameter_that_is_not_a_whole_number(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        for path, value in product(LIMITS, NO_WHOLE_NUMBERS):
            if value.strip():
                await refused(every, with_parameter(path, "limit", value), (400,), "limit")


async def test_the_error_names_a_max_age_that_is_not_an_age(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        for path, value in product(AGED, NO_AGES):
            await refused(every, with_parameter(path, "max_age", value), (400,), "max_age")


async def test_the_error_names_a_word_that_is_not_a_choice(tmp_path: Path) -> None:
    async with sourced(tmp_path, CACHE_TTL_S="60") as every:
        for (path, name, status), word in product(WORDS, NO_WORDS):
            if (name, word) in FINE:
                continue
            # Any ticker may be a coin's, so a source is asked for it, perhaps more often than allowed.
            allowed = (status, 429) if (path, name) == ("/api/market", "symbols") else (status,)
            body = await refused(every, with_parameter(path, name, word), allowed)
            if body["error"]["code"] != "rate_limited":
                assert body["error"]["details"], (path, name, word)


async def test_one_error_names_all_wrong_parameters(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        for path, names in TOGETHER:
            body = await refused(every, path, (400,), *names)
            assert body["error"]["details"].keys() == set(names), path


async def test_unknown_parameters_are_ignored(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        for path in ("/api/market", "/api/market/global", "/api/status", f"{DT}/models", "/api/topics"):
            await every.data(f"{path}?nope=1&x[]=2&%00=3&limi=0")

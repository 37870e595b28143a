"""Any request gets an answer in the envelope, and none causes a 500."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.rest.test_rest_endpoints import ENDPOINTS, ENVELOPE
from tests.sources import Sourced, sourced

PATHS = sorted({path.partition("?")[0] for path, *_ in ENDPOINTS} | {"/api/sentiment/analyze", "/metrics"})
NAMES = [
    *("limit", "symbols", "symbol", "interval", "start", "end", "max_age", "filter", "chain", "topics", "strict"),
    *("category", "offset", "text", "model", "subreddit", "period", "feed", "nope"),
]
VALUES = [
    *(
        "1",
        "0",
        "-1",
        "250",
        "1000",
        "99999999999999",
        "BTC",
        "btc-usdt",
        "BTC,ETH,NOPE",
        "bitcoin",
        "HYPE",
        "1h",
        "7m",
    ),
    *(
        "latest",
        "hot",
        "ethereum",
        "bsc",
        "polygon",
        ">",
        "price.*",
        "news_apis",
        "new",
        "all",
        "finbert",
        "",
        " ",
        "nan",
    ),
]
ALLOWED = {200, 304, 400, 404, 405, 408, 409, 413, 429, 503, 504}

texts = st.one_of(st.sampled_from(VALUES), st.text(max_size=30), st.integers().map(str), st.floats().map(str))
queries = st.lists(st.tuples(st.one_of(st.sampled_from(NAMES), st.text(max_size=8)), texts), max_size=5)
paths = st.one_of(
    st.sampled_from(PATHS),
    st.tuples(st.sampled_from(PATHS), st.text(max_size=10)).map(lambda each: f"{each[0]}/{quote(each[1], safe='')}"),
    st.text(max_size=20).map(lambda each: f"/api/{quote(each, safe='')}"),
)
methods = st.sampled_from(["GET"] * 6 + ["POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND"])
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)
bodies = st.one_of(
    st.binary(max_size=60),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries(
        {},
        optional={
            "texts": st.one_of(json_values, st.lists(st.text(max_size=20), max_size=4)),
            "text": json_values,
            "model": st.one_of(st.sampled_from(["lexicon", "finbert", "kk08/CryptoBERT"]), json_values),
        },
    ).map(lambda value: json.dumps(value).encode()),
)


async def send(every: Sourced, method: str, target: str, body: bytes | None) -> tuple[int, Any, bytes]:
    async with every.service.http.request(method, every.service.url + target, data=body) as answer:
        return answer.status, answer.headers, await answer.read()


def check(method: str, target: str, status: int, headers: Any, raw: bytes) -> None:
    where = (method, target, status, raw[:300])
    assert status in ALLOWED or (status, method) == (204, "OPTIONS"), where
    assert b"Traceback" not in raw, where
    if method == "HEAD" or status in (204, 304):
        assert raw == b"", where
        return
    if target.startswith("/metrics") and status == 200:
        assert raw.startswith(b"# HELP"), where
        return
    assert headers["Content-Type"].startswith("application/json"), where
    body = json.loads(raw, parse_constant=lambda word: pytest.fail(f"{word} in {where}"))
    if status == 200:
        assert body.keys() >= ENVELOPE, where
        assert body["success"] is True, where
        assert body["age_ms"] >= 0, where
        return
    assert body.keys() == {"success", "error", "timestamp", "request_id"}, where
    assert body["success"] is False, where
    assert body["error"]["code"] != "internal", where
    if status in (429, 503, 504):
        assert int(headers["Retry-After"]) >= 1, where


def test_no_request_causes_a_500(tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        every = runner.run(stack.enter_async_context(sourced(tmp_path)))

        @settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
        @given(methods, paths, queries, bodies)
        def fuzz(method: str, path: str, query: list[tuple[str, str]], body: bytes) -> None:
            encoded = urlencode([(name, value) for name, value in query], errors="surrogatepass")
            target = f"{path}?{encoded}" if query else path
            sent = body if method in ("POST", "PUT", "PATCH") else None
            check(method, target, *runner.run(send(every, method, target, sent)))

        @settings(max_examples=60)
        @given(bodies)
        def fuzz_texts(body: bytes) -> None:
            target = "/api/sentiment/analyze"
            check("POST", target, *runner.run(send(every, "POST", target, body)))

        try:
            fuzz()
            fuzz_texts()
        finally:
            runner.run(stack.aclose())

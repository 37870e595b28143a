"""The catalogue: put together whole, each row once, and none of the keys that lie about in it."""

import logging
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.model import Resource
from feeds.providers.crypto_api_clean import (
    Health,
    Stats,
    catalogue,
    from_json,
    health,
    read_categories,
    read_rows,
    refusal,
    stats,
    to_json,
)
from orchestrator.errors import Malformed, ProviderError, RateLimited, Unavailable
from orchestrator.http import HttpResponse
from tests.asking import asking
from tests.conversations import drive
from tests.fakes.clock import START_MS, ManualClock
from tests.fakes.crypto_api_clean import COUNTS, KEYS, FakeCryptoApiClean
from tests.fakes.upstream import Fault

SAMPLES = Path(__file__).parents[2] / "samples" / "crypto_api_clean"
ASLEEP = (SAMPLES / "asleep.html").read_bytes()


def answer(body: object, status: int = 200) -> HttpResponse:
    return HttpResponse(status, {}, body if isinstance(body, bytes) else orjson.dumps(body), START_MS)


def sample(name: str, status: int = 200) -> HttpResponse:
    return answer((SAMPLES / f"{name}.json").read_bytes(), status)


def one(**row: object) -> Resource:
    """The resource that is made of a row."""
    (resource,) = read_rows([("market_data_apis", {"id": "x", "name": "X", **row})]).good
    return resource


INFURA = Resource(
    "rpc_nodes",
    "infura_eth_mainnet",
    "Infura Ethereum Mainnet",
    "https://mainnet.infura.io/v3/{PROJECT_ID}",
    "apiKeyPath",
    "https://docs.infura.io",
    None,
    "Free tier: 100K req/day",
)
COMPARE = Resource(
    "market_data_apis",
    "cryptocompare",
    "CryptoCompare",
    "https://min-api.cryptocompare.com/data",
    "apiKeyQuery",
    None,
    {"price_multi": "/pricemulti?fsyms={fsyms}&tsyms={tsyms}&api_key={key}"},
    "Free: 100K calls/month",
)


def test_the_catalogue_is_put_together_category_by_category() -> None:
    whole = drive(catalogue(), sample("categories"), sample("rpc_nodes"), sample("market_data_apis"))
    assert (whole[0], whole[2]) == (INFURA, COMPARE)
    assert whole[1].endpoints == {"simple_price": "/simple/price?ids={ids}&vs_currencies={fiats}"}
    assert [resource.auth for resource in whole] == ["apiKeyPath", "none", "apiKeyQuery"]


def test_each_category_is_asked_for_by_its_name() -> None:
    steps = catalogue()
    assert next(steps).path == "/api/categories"
    request = steps.send(sample("categories"))
    assert (request.path, request.may_be) == ("/api/resources/category/rpc_nodes", (400, 404, 500))
    assert steps.send(sample("rpc_nodes")).path == "/api/resources/category/market_data_apis"


def test_what_is_no_category_is_never_asked_for() -> None:
    names = ["a", "metadata", "../health", "a?b", "", None, 5, "x" * 65, "a", "b c", "b"]
    listed = answer({"categories": [*({"name": name} for name in names), "text", None]})
    assert read_categories(listed) == ["a", "b"]


def test_a_server_cannot_make_us_ask_forever() -> None:
    listed = answer({"categories": [{"name": f"c{number}"} for number in range(10_000)]})
    assert len(read_categories(listed)) == 50


@pytest.mark.parametrize(
    "lost",
    [
        sample("not_found", 404),
        answer({"error": "Invalid category"}, 400),
        answer(b'"Internal Server Error"', 500),
        answer(b"{}"),
        answer(b""),
        answer(ASLEEP),
        answer({"resources": None}),
    ],
    ids=["404", "400", "500", "no rows", "empty", "a page", "null"],
)
def test_a_category_that_fails_costs_itself_only_and_is_reported(
    lost: HttpResponse, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        whole = drive(catalogue(), sample("categories"), lost, sample("market_data_apis"))
    assert {resource.category for resource in whole} == {"market_data_apis"}
    (record,) = caplog.records
    assert record.getMessage() == "catalogue_incomplete"
    assert list(record.__dict__["missing"]) == ["rpc_nodes"]


def test_without_any_category_there_is_no_catalogue() -> None:
    lost = sample("not_found", 404)
    with pytest.raises(Malformed, match="no category"):
        drive(catalogue(), sample("categories"), lost, lost)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (ASLEEP, Unavailable),
        (b"  \n<html>building</html>", Unavailable),
        (b"", Malformed),
        (b"[]", Malformed),
        (b"{}", Malformed),
        (b'{"categories":[]}', Malformed),
        (b'{"categories":{"a":1}}', Malformed),
        (b'{"categories":[{"na', Malformed),
    ],
)
def test_what_is_no_catalogue_is_an_error_of_its_class(body: bytes, error: type[ProviderError]) -> None:
    with pytest.raises(error) as caught:
        drive(catalogue(), answer(body))
    assert type(caught.value) is error


@pytest.mark.parametrize(("status", "error"), [(503, Unavailable), (404, Unavailable), (429, RateLimited)])
def test_a_space_that_sleeps_is_unavailable(status: int, error: type[ProviderError]) -> None:
    assert type(refusal("crypto_api_clean", answer(ASLEEP, status))) is error


def test_the_server_tells_its_health_and_counts() -> None:
    assert drive(health(), sample("health")) == Health("healthy", True, 12)
    assert drive(stats(), sample("stats")) == Stats(281, {"rpc_nodes": 24, "market_data_apis": 33})


@pytest.mark.parametrize("body", [ASLEEP, b"", b"{}", b'{"status":null,"categories":5}', b"[]"])
def test_what_is_no_health_and_no_count_is_an_error(body: bytes) -> None:
    for steps in (health, stats):
        with pytest.raises(ProviderError):
            drive(steps(), answer(body))


# --- rows ---


def test_rows_are_distinguished_by_category_and_id() -> None:
    first, again, elsewhere = {"id": "a", "name": "A"}, {"id": "a", "name": "B"}, {"id": "a", "name": "C"}
    found = read_rows([("news_apis", first), ("news_apis", again), ("rpc_nodes", elsewhere)])
    assert [(row.category, row.name) for row in found.good] == [("news_apis", "A"), ("rpc_nodes", "C")]


def test_a_bad_row_costs_itself_only_and_is_counted() -> None:
    rows: list[object] = ["text", None, {"name": "no id"}, {"id": ""}, {"id": []}, {"id": "good"}, {"id": 7}]
    found = read_rows([("news_apis", row) for row in rows])
    assert [(row.id, row.name) for row in found.good] == [("good", "good"), ("7", "7")]
    assert found.rejected == {"row": 2, "id": 3}


@pytest.mark.parametrize(
    ("row", "auth"),
    [
        ({}, "none"),
        ({"auth": None}, "none"),
        ({"auth": {"type": "apiKeyQueryOptional"}}, "apiKeyQueryOptional"),
        ({"auth_type": "apiKeyHeader"}, "apiKeyHeader"),
        ({"auth": "apiKeyPath"}, "apiKeyPath"),
        ({"auth": "abcdefghijkl"}, "unknown"),
        ({"auth": {"type": ["x"]}}, "unknown"),
    ],
)
def test_of_auth_only_the_kind_is_kept(row: dict[str, object], auth: str) -> None:
    assert one(**row).auth == auth


def test_a_kind_of_auth_is_not_taken_for_a_key() -> None:
    assert one(auth="apiKeyQuery", notes="wants an apiKeyQuery").notes == "wants an apiKeyQuery"


@pytest.mark.parametrize("address", ["javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "", None, 5])
def test_an_address_that_is_none_is_not_shown(address: object) -> None:
    resource = one(base_url=address, docs_url=address)
    assert (resource.base_url, resource.docs_url) == (None, None)


@pytest.mark.parametrize("address", ["{API_BASE}/hf/ohlcv", "https://{YOUR_ENDPOINT}", "wss://x.example/v2/{API_KEY}"])
def test_a_template_is_an_address(address: str) -> None:
    assert one(base_url=address).base_url == address


def test_endless_texts_lists_and_depths_are_cut() -> None:
    deep: Any = "end"
    for _ in range(50):
        deep = {"a": deep}
    resource = one(notes="word " * 10_000, endpoints={"deep": deep, "many": ["/x"] * 1000})
    assert 1990 <= len(resource.notes or "") <= 2000
    assert len(orjson.dumps(resource.endpoints)) < 2000


# --- keys ---

CANARY = "CanaryKey0987654321abcdef"
LETTERS = "onlylettersinthiscanary"
ODD = "p@ss/w+rd=canary=="

ROW_WITH_CANARIES: dict[str, object] = {
    "id": "canaries",
    "name": f"Canaries ({CANARY})",
    "base_url": f"https://user:{CANARY}@api.example/v1/{LETTERS}/x?apikey={CANARY}&q=btc",
    "auth": {"type": "apiKeyQuery", "key": LETTERS, "param_name": "apikey", "keys": [ODD], "value": CANARY},
    "api_key": ODD,
    "docs_url": f"https://docs.example/?token={LETTERS}#{CANARY}",
    "endpoints": {
        "list": f"/list?api_key={CANARY}&limit=5",
        "letters": f"/list/{LETTERS}",
        "proxied": f"/get?url={quote(f'https://x.example/?apikey={LETTERS}', safe='')}",
        "encoded": f"/x?y={quote(ODD, safe='')}",
        "headers": {"X-Api-Key": LETTERS, "Authorization": f"Bearer {LETTERS}", "Cookie": ODD, "Accept": "text/html"},
        "body": f'POST {{"apiKey": "{LETTERS}", "limit": 5}}',
        "nested": [{"secret": ODD, "path": f"/a/{CANARY}"}, [f"key={LETTERS}"]],
        CANARY: "/named",
        "keys": {"primary": ODD, "backup": LETTERS},
        "password": 1234567890123,
        "auth": {"type": "bearer", "token": ODD},
    },
    "headers": {"x-access-token": LETTERS},
    "notes": f"Use key {CANARY}, API key: {LETTERS} or Authorization: Bearer {LETTERS}; password={ODD}",
    "role": CANARY,
}


def test_no_key_survives_into_any_field() -> None:
    found = read_rows(
        [
            ("market_data_apis", ROW_WITH_CANARIES),
            # What one row gives away as a key is a key in every other row too.
            ("news_apis", {"id": LETTERS, "name": LETTERS, "notes": f"see {ODD}", "endpoints": f"/x/{LETTERS}"}),
        ]
    )
    assert len(found.good) == 2
    told = to_json(found.good).decode() + repr(found.good)
    for canary in (CANARY, LETTERS, ODD, quote(ODD, safe=""), "1234567890123", "p@ss", "w+rd"):
        assert canary not in told
    first = found.good[0]
    assert first.base_url == "https://api.example/v1/{key}/x?apikey={key}&q=btc"
    assert isinstance(first.endpoints, dict)
    assert first.endpoints["list"] == "/list?api_key={key}&limit=5"
    assert first.endpoints["headers"]["Accept"] == "text/html"
    assert first.endpoints["body"] == 'POST {"apiKey": "{key}", "limit": 5}'


@pytest.mark.parametrize(
    "secret",
    [
        *(key for name, key in KEYS.items() if name != "letters"),
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dBjftJeZ4CVP-mB92K",
        "AIzaSyA1-b2_C3d4E5f6G7h8I9j0KlMnOpQrStU",
    ],
)
def test_the_shape_of_a_key_is_enough(secret: str) -> None:
    resource = one(notes=f"try {secret} first", base_url=f"https://x.example/v3/{secret}", endpoints=[f"/{secret}/y"])
    assert secret not in repr(resource)
    assert resource.notes == "try {key} first"


@pytest.mark.parametrize(
    "text",
    [
        "/simple/price?ids={ids}&vs_currencies={fiats}",
        "?module=account&action=balance&address={address}&tag=latest&apikey={key}",
        "/list?api_key=YOUR_API_KEY",
        "/list?token=<TOKEN>&x=1",
        "Rate limit: 333 calls/day (free)",
        "API key: required",
        "CoinMarketCap (key #1)",
        "26 symbols x 7 timeframes = 182 CSVs",
        "/v1/contract/0xdAC17F958D2ee523a2206206994597C13D831ec7/holders",
        "hf_ds_winkingface_cryptolm_bitcoin_btc_usdt",
        "https://huggingface.co/datasets/WinkingFace/CryptoLM-Bitcoin-BTC-USDT/resolve/main",
        "cryptocurrency-market-data-2025",
        'POST with body: { "inputs": ["text"] }',
    ],
)
def test_what_is_no_key_stays_as_it_is(text: str) -> None:
    resource = one(notes=text, endpoints={"token_balance": text})
    assert resource.notes == text
    assert isinstance(resource.endpoints, dict)
    assert resource.endpoints["token_balance"] == text


def test_prose_under_the_name_of_a_key_takes_no_word_from_other_texts() -> None:
    resource = one(auth={"type": "apiKeyQuery", "key": "ask us for one (free)"}, notes="Rate limit: 5 calls/day (free)")
    assert resource.notes == "Rate limit: 5 calls/day (free)"


def test_endpoints_may_be_called_token() -> None:
    assert one(endpoints={"token": "/token/{address}", "auth": "/auth"}).endpoints == {
        "token": "/token/{address}",
        "auth": "/auth",
    }


@settings(max_examples=100)
@given(
    st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJ0123456789-_", min_size=8, max_size=40).map("Q".__add__),
    st.sampled_from(["base_url", "docs_url", "notes", "endpoints", "name"]),
    st.sampled_from(
        ["/v3/{}/x", "?apikey={}", "?a=b&token={}&c=d", "Authorization: Bearer {}", "X-API-KEY: {}", "'{}'"]
    ),
)
def test_a_key_that_auth_names_survives_nowhere(secret: str, place: str, form: str) -> None:
    row: dict[str, object] = {"id": "a", "auth": {"type": "apiKeyQuery", "key": secret}}
    value = f"https://x.example{form.format(secret)}"
    row[place] = {"list": value} if place == "endpoints" else value
    (resource,) = read_rows([("news_apis", row)]).good
    assert secret not in to_json([resource]).decode()


# --- disk ---


def test_what_is_kept_on_disk_reads_back_the_same() -> None:
    whole = drive(catalogue(), sample("categories"), sample("rpc_nodes"), sample("market_data_apis"))
    assert tuple(from_json(to_json(whole)).good) == whole


def test_a_spoiled_row_on_disk_costs_only_itself() -> None:
    whole = drive(catalogue(), sample("categories"), sample("rpc_nodes"), sample("market_data_apis"))
    read = from_json(orjson.dumps([1, {"id": "a"}, *whole]))
    assert tuple(read.good) == whole
    assert read.rejected == {"row": 1, "category": 1}


@pytest.mark.parametrize("kept", [b"", b"{}", b'[{"id"', b"\xff"])
def test_a_spoiled_file_is_a_value_error(kept: bytes) -> None:
    with pytest.raises(ValueError):
        from_json(kept)


# --- over a socket ---


async def test_over_a_socket_the_catalogue_comes_whole_and_without_keys() -> None:
    clock = ManualClock(START_MS)
    async with (
        FakeCryptoApiClean(clock.wall_ms) as fake,
        asking("crypto_api_clean", [fake.url], clock, refusal) as upstream,
    ):
        whole = await upstream.run(catalogue())
        assert len(fake.calls) == 13
        assert len(whole) == sum(COUNTS.values()) - 2  # two rows stand there twice
        assert {resource.category for resource in whole} == set(COUNTS)
        assert sum(resource.id == "coindesk_rss" for resource in whole) == 2
        told = to_json(whole).decode()
        for key in KEYS.values():
            assert key not in told
        assert (await upstream.run(health())).status == "healthy"
        assert (await upstream.run(stats())).resources == sum(COUNTS.values())
        fake.lost.add("news_apis")
        assert {resource.category for resource in await upstream.run(catalogue())} == set(COUNTS) - {"news_apis"}
        fake.asleep = 200
        with pytest.raises(Unavailable, match="asleep"):
            await upstream.run(catalogue())
        fake.asleep = 503
        with pytest.raises(Unavailable, match="503"):
            await upstream.run(health())
        assert fake.over_limit == 0


async def test_a_limit_in_the_middle_ends_the_conversation() -> None:
    clock = ManualClock(START_MS)
    async with (
        FakeCryptoApiClean(clock.wall_ms) as fake,
        asking("crypto_api_clean", [fake.url], clock, refusal) as upstream,
    ):
        fake.script.extend([Fault(), Fault(), Fault(status=429, headers={"Retry-After": "7"})])
        with pytest.raises(RateLimited):
            await upstream.run(catalogue())
        assert len(fake.calls) == 3
        assert upstream.wait_s() == 7.0

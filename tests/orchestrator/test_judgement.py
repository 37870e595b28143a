"""What a refusal means, by status, headers and body together, for every provider there is."""

import itertools
import random

import orjson
import pytest

from feeds.exchange.account import exchange_account
from feeds.upstreams import SourcesPolicy, Upstreams
from feeds.venues.binance.description import BINANCE
from orchestrator.errors import Blocked, ProviderError, RateLimited, Unauthorized, Unavailable
from orchestrator.hosts import Hosts
from orchestrator.http import HttpResponse
from orchestrator.judgement import judge, quota_cooldown_s
from orchestrator.upstream import Upstream
from tests.fakes.clock import START_MS, ManualClock
from tests.fakes.transport import ScriptedTransport

DAY_S = 24 * 3600.0
HOUR_S = 3600.0
KEYS = (
    "COINGECKO_PRO_API_KEY",
    "COINGECKO_DEMO_API_KEY",
    "CRYPTOPANIC_API_KEY",
    "NEWS_API_KEY",
    "ETHERSCAN_API_KEY",
    "ETHERSCAN_BACKUP_API_KEY",
    "HF_TOKEN",
    "REDDIT_CLIENT_ID",
    "REDDIT_CLIENT_SECRET",
)
USED_UP = {
    "You have exceeded your monthly quota.": 12 * HOUR_S,
    "You've used up your 10,000 monthly credits. Please upgrade your plan.": 12 * HOUR_S,
    "Monthly API call limit reached, visit https://example.org/pricing": 12 * HOUR_S,
    "0 calls remaining this month": 12 * HOUR_S,
    "You have exceeded the quota of requests per month of your plan; retry after 57 seconds": 12 * HOUR_S,
    "Your daily request limit has been reached": 1.0,
    "Max daily rate limit reached. 110000 (100%) of 100000 day/limit": 1.0,
    "API quota exceeded": HOUR_S,
    "Insufficient credits": HOUR_S,
    "Plan limit reached. Please upgrade your plan.": HOUR_S,
    "No API credits remaining": HOUR_S,
    "Usage cap reached; resets on the 1st": HOUR_S,
}
BURSTS = (
    "Too many requests, slow down",
    "You've exceeded the Rate Limit. Please visit https://example.org/pricing to subscribe to our API plans.",
    "More than 30 calls per minute: limit exceeded. Your plan has 10,000 calls a month.",
    "Limit of 30 requests/minute exceeded, your monthly plan is fine",
    "Max calls per sec rate limit reached (3/sec)",
    "Request was throttled. Expected available in 57 seconds.",
)
PASSING = (
    "api_error",
    "Internal Server Error",
    "Our API token service is unavailable, try again later",
    "server error",
    "Database token table locked",
    "Authentication backend is busy",
)


def _accounts() -> dict[str, Upstream]:
    clock, rng = ManualClock(), random.Random(1)
    transport = ScriptedTransport(clock, lambda asked: HttpResponse(200, {}, b"", START_MS))
    names = (
        "coingecko",
        "coingecko_pro",
        "crypto_dt_source",
        "alternative_me",
        "etherscan",
        "ethereum_rpc",
        "blockscout",
        "crypto_api_clean",
        "huggingface",
        "newsapi",
        "reddit",
    )
    urls = {name: ["https://provider.test"] for name in names}
    urls["cryptopanic"] = ["https://provider.test/api/developer/v2"]
    policy = SourcesPolicy(urls, {"outlet": "https://provider.test/rss"}, dict.fromkeys(KEYS, "key-for-tests"))
    binance = exchange_account(BINANCE, Hosts(["https://provider.test"], clock), transport, clock, rng)
    return Upstreams(policy, binance, transport, clock, rng, None, None, lambda: None).by_name


ACCOUNTS = {name: each for name, each in _accounts().items() if each.hosts is not None}


def _bodies(words: str) -> list[bytes]:
    """The words in each of the shapes in which providers wrap them."""
    shapes: list[object] = [
        {"status": "Incomplete", "info": words},
        {"status": "api_error", "info": words},
        {"status": {"error_code": 429, "error_message": words}},
        {"error": {"status": {"error_code": 429, "error_message": words}}},
        {"status": "error", "code": "unexpectedError", "message": words},
        {"status": "0", "message": "NOTOK", "result": words},
        {"error": words},
        {"detail": words},
        {"message": words, "error": 429},
        {"code": -1003, "msg": words},
    ]
    return [words.encode(), *(orjson.dumps(shape) for shape in shapes)]


def _judged(upstream: Upstream, status: int, headers: dict[str, str], body: bytes) -> ProviderError | None:
    response = HttpResponse(status, headers, body, START_MS)
    refused = upstream.sender.refusal(upstream.name, response)
    return None if refused is None else judge(upstream.name, response, refused)


@pytest.mark.parametrize("name", ACCOUNTS)
def test_a_used_up_quota_rests_until_it_can_have_come_back(name: str) -> None:
    for (words, least_s), status, after in itertools.product(USED_UP.items(), (402, 429), (None, "57", "200000")):
        for body in _bodies(words):
            headers = {} if after is None else {"retry-after": after}
            error = _judged(ACCOUNTS[name], status, headers, body)
            assert isinstance(error, RateLimited), (status, body)
            assert error.retry_after_s is not None, body
            expected_s = max(least_s, float(after or 0) if status == 429 else 0.0)
            assert expected_s <= error.retry_after_s <= max(DAY_S, expected_s), (status, after, body)


@pytest.mark.parametrize("name", ACCOUNTS)
def test_a_burst_is_not_taken_for_a_quota(name: str) -> None:
    for words in BURSTS:
        for body in _bodies(words):
            error = _judged(ACCOUNTS[name], 429, {"retry-after": "57"}, body)
            assert isinstance(error, RateLimited), body
            assert error.retry_after_s is not None and error.retry_after_s >= 57, body
            assert quota_cooldown_s(HttpResponse(429, {}, body, START_MS)) is None, body


@pytest.mark.parametrize("name", ACCOUNTS)
def test_a_burst_under_a_status_of_a_block_is_a_limit_and_not_a_block(name: str) -> None:
    for words, after in itertools.product(BURSTS, (None, "57")):
        for body in _bodies(words):
            error = _judged(ACCOUNTS[name], 403, {} if after is None else {"retry-after": after}, body)
            assert not isinstance(error, (Blocked, Unauthorized)), (body, error)
            if isinstance(error, RateLimited) and after is not None:
                assert error.retry_after_s is not None, body
                assert error.retry_after_s >= 57, body


@pytest.mark.parametrize(
    "words", ["", "Forbidden", "Your IP is blocked: too many requests", "Not offered in your region"]
)
def test_a_403_that_shuts_us_out_is_a_block(words: str) -> None:
    for name in ("etherscan", "blockscout", "alternative_me"):
        assert isinstance(_judged(ACCOUNTS[name], 403, {}, orjson.dumps({"detail": words})), Blocked), (name, words)


@pytest.mark.parametrize(("code", "after", "wait_s"), [
    ("rateLimited", "57", 57.0),
    ("rateLimited", "999999", 12 * HOUR_S),
    ("rateLimited", None, 12 * HOUR_S),
    ("apiKeyExhausted", "57", 12 * HOUR_S),
])  # fmt: skip
def test_newsapi_is_left_alone_for_what_it_asks_and_at_most_until_its_next_window(
    code: str, after: str | None, wait_s: float
) -> None:
    headers = {"date": "Wed, 21 Oct 2026 12:00:00 GMT"} | ({} if after is None else {"retry-after": after})
    for status in (200, 401, 429):
        body = orjson.dumps({"status": "error", "code": code, "message": "You have made too many requests recently."})
        error = _judged(ACCOUNTS["newsapi"], status, headers, body)
        assert isinstance(error, RateLimited)
        assert error.retry_after_s == wait_s


@pytest.mark.parametrize("name", ACCOUNTS)
def test_no_server_error_and_no_limit_switches_a_provider_off(name: str) -> None:
    wordings = (*PASSING, *BURSTS, *USED_UP, "invalid api key", "Unauthorized", "token refused", "")
    for words, status in itertools.product(wordings, (418, 429, 500, 502, 503, 504, 520)):
        for body in [*_bodies(words), orjson.dumps({"status": "error", "code": "apiKeyInvalid", "message": words})]:
            assert not isinstance(_judged(ACCOUNTS[name], status, {}, body), Unauthorized), (status, body)


@pytest.mark.parametrize("name", ACCOUNTS)
def test_a_passing_error_inside_a_200_does_not_switch_a_provider_off(name: str) -> None:
    for words in PASSING:
        for body in _bodies(words):
            assert not isinstance(_judged(ACCOUNTS[name], 200, {}, body), Unauthorized), body


@pytest.mark.parametrize("name", ACCOUNTS)
def test_a_401_whose_body_blames_the_server_passes_and_one_that_says_nothing_does_not(name: str) -> None:
    for words in ("Internal error", "Authentication service temporarily unavailable", "token database is busy"):
        assert not isinstance(_judged(ACCOUNTS[name], 401, {}, orjson.dumps({"detail": words})), Unauthorized), words
    if name == "crypto_dt_source":
        return  # it takes no key: its 401 is that of a source of its own
    for words in ("", "Invalid token", "Internal key not found", "try again with a key that is not expired"):
        assert isinstance(_judged(ACCOUNTS[name], 401, {}, orjson.dumps({"detail": words})), Unauthorized), words


@pytest.mark.parametrize("name", ACCOUNTS)
@pytest.mark.parametrize("status", [200, 403])
def test_a_plan_that_is_used_up_is_no_wrong_key(name: str, status: int) -> None:
    body = orjson.dumps({"status": "Incomplete", "info": "Plan limit reached. Please upgrade your plan."})
    assert not isinstance(_judged(ACCOUNTS[name], status, {}, body), Unauthorized)


def test_an_error_of_cryptopanics_server_under_status_200_passes() -> None:
    error = _judged(ACCOUNTS["cryptopanic"], 200, {}, b'{"status": "api_error"}')
    assert isinstance(error, Unavailable)


def test_a_wrong_key_still_switches_its_provider_off() -> None:
    for name, status, body in (
        ("cryptopanic", 401, b'{"status": "Incomplete", "info": "Token not found"}'),
        ("cryptopanic", 200, b'{"status": "Incomplete", "info": "Invalid auth_token"}'),
        ("newsapi", 401, b'{"status": "error", "code": "apiKeyInvalid", "message": "no"}'),
        ("etherscan", 200, b'{"status": "0", "message": "NOTOK", "result": "Invalid API Key"}'),
        ("coingecko_pro", 401, b'{"status": {"error_code": 10002, "error_message": "API Key Missing"}}'),
    ):
        assert isinstance(_judged(ACCOUNTS[name], status, {}, body), Unauthorized), (name, status)


def test_a_page_or_a_long_answer_is_not_searched_for_quotas() -> None:
    words = b"monthly quota exceeded "
    assert quota_cooldown_s(HttpResponse(429, {}, b"<html>" + words, START_MS)) is None
    assert quota_cooldown_s(HttpResponse(429, {}, words * 1000, START_MS)) is None


def test_a_days_quota_comes_back_at_midnight_by_the_senders_clock() -> None:
    headers = {"date": "Wed, 21 Oct 2026 22:30:00 GMT"}
    assert quota_cooldown_s(HttpResponse(429, headers, b"daily quota exceeded", START_MS)) == 1.5 * HOUR_S
    assert quota_cooldown_s(HttpResponse(429, headers, b"monthly quota exceeded", START_MS)) == 12 * HOUR_S

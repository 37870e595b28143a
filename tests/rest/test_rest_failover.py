"""Sources die one by one: a client gets another `source`, then an older answer with its age, then a Retry-After."""

from pathlib import Path

import pytest

from tests.fakes.upstream import Fault
from tests.harness import until
from tests.sources import Sourced, sourced

CATEGORIES: list[tuple[str, list[str]]] = [
    ("/api/market?limit=5", ["coingecko", "exchange", "dt_source"]),
    ("/api/market/ohlc?symbol=ETH&interval=4h&limit=5", ["exchange", "coingecko", "dt_source"]),
    ("/api/market/trending", ["coingecko", "dt_source"]),
    ("/api/sentiment/global?limit=7", ["alternative_me", "dt_source"]),
    ("/api/crypto/blockchain/gas", ["node", "blockscout"]),
    ("/api/crypto/blockchain/stats", ["node", "blockscout"]),
    ("/api/market/global", ["coingecko"]),
    ("/api/new-sources/crypto-dt-source/models", ["dt_source"]),
]
"""The sources of each question, in order."""

NAMES = {"exchange": "binance", "dt_source": "crypto_dt_source", "node": "ethereum_rpc"}


def provider(fake: str) -> str:
    return NAMES.get(fake, fake)


async def refused(every: Sourced, path: str) -> tuple[str, int, list[str]]:
    """Return the code of a 503, its Retry-After and the providers that it names."""
    async with every.service.http.get(every.service.url + path) as answer:
        body = await answer.json()
        assert answer.status == 503, (path, body)
        attempts = body["error"]["details"]["attempts"]
        return body["error"]["code"], int(answer.headers["Retry-After"]), [each["provider"] for each in attempts]


@pytest.mark.parametrize("half", [CATEGORIES[::2], CATEGORIES[1::2]], ids=["even", "odd"])
async def test_the_next_source_answers_in_the_same_request_and_the_attempts_name_the_dead_ones(
    tmp_path: Path, half: list[tuple[str, list[str]]]
) -> None:
    async with sourced(tmp_path) as every:
        for path, chain in half:
            fresh_path = f"{path}{'&' if '?' in path else '?'}max_age=0"
            dead: list[str] = []
            for fake in chain:
                body = await every.data(fresh_path)
                assert body["source"] == provider(fake), path
                outcomes = {attempt["provider"]: attempt["outcome"] for attempt in body["attempts"]}
                assert outcomes == dict.fromkeys(dead, "unavailable") | {provider(fake): "ok"}, path
                await getattr(every.fakes, fake).kill()
                dead.append(provider(fake))
            code, retry_after_s, named = await refused(every, fresh_path)
            assert (code, named, retry_after_s >= 1) == ("too_old", dead, True), path
            await every.fakes.revive_all()


async def test_with_all_sources_dead_the_last_answers_come_with_their_age_and_later_a_retry_after(
    tmp_path: Path,
) -> None:
    paths = ["/api/market?limit=3", "/api/crypto/blockchain/gas", "/api/sentiment/global?limit=3"]
    async with sourced(tmp_path, CACHE_TTL_S="1", STALE_IF_ERROR_S="3", MARKET_POLL_S="3600") as every:
        before = [await every.data(f"{path}{'&' if '?' in path else '?'}max_age=0") for path in paths]
        await every.fakes.kill_all()
        clock = every.service.context.clock
        newest = clock.now()
        await until(lambda: clock.now() > newest + 1.1)
        for path, first in zip(paths, before, strict=True):
            body = await every.data(path)
            assert body["data"] == first["data"], path
            assert (body["stale"], body["source"]) == (True, first["source"]), path
            assert body["age_ms"] >= 1000, path
        await until(lambda: clock.now() > newest + 3.2)
        for path in paths:
            code, retry_after_s, _ = await refused(every, path)
            assert (code, retry_after_s >= 1) == ("unavailable", True), path
        # No answer is held for candles that were never asked for.
        code, _, named = await refused(every, "/api/market/ohlc?symbol=SOL&interval=1h")
        assert (code, named) == ("unavailable", ["binance", "coingecko", "crypto_dt_source"])


async def test_a_recovered_source_answers_all_waiting_clients_with_one_call(tmp_path: Path) -> None:
    async with sourced(tmp_path, CACHE_TTL_S="1", NEWS_POLL_S="3600", MARKET_POLL_S="3600") as every:
        await every.fakes.node.kill()
        await every.fakes.blockscout.kill()
        gas = "/api/crypto/blockchain/gas?max_age=0"
        await refused(every, gas)
        await every.fakes.node.revive()
        before = len(every.fakes.node.calls)

        async def back() -> bool:
            return (await every.get(gas))[0] == 200

        clock = every.service.context.clock
        began = clock.now()
        while not await back():
            assert clock.now() - began < 30
            await clock.sleep(0.05)
        assert len(every.fakes.node.calls) - before <= 2


FAULTS: list[list[tuple[str, Fault]]] = [
    [
        ("unavailable", Fault(status=500)),
        ("malformed", Fault(body=b"[" * 200_000)),
        ("too_large", Fault(bomb=True)),
        ("rate_limited", Fault(status=429, headers={"Retry-After": "7"})),
    ],
    [
        ("malformed", Fault(html=True)),
        ("unavailable", Fault(cut_at=50)),
        ("unavailable", Fault(reset=True)),
        ("rate_limited", Fault(body=b'{"status":{"error_code":429,"error_message":"limit"}}')),
    ],
    [
        ("malformed", Fault(body=b'{"coins": NaN}')),
        ("malformed", Fault(status=302, headers={"Location": "http://169.254.169.254/"})),
        ("unavailable", Fault(declared_longer=True)),
        ("blocked", Fault(status=451)),
    ],
]
"""Failures of a source with their outcomes; each list in one run of the service."""


@pytest.mark.parametrize("faults", FAULTS, ids=["one", "two", "three"])
async def test_a_source_that_misbehaves_is_passed_over_and_never_causes_a_500(
    tmp_path: Path, faults: list[tuple[str, Fault]]
) -> None:
    async with sourced(tmp_path) as every:
        for outcome, fault in faults:
            every.fakes.coingecko.always = fault
            body = await every.data("/api/market/trending?max_age=0")
            assert body["source"] == "crypto_dt_source"
            assert body["attempts"][0] == {"provider": "coingecko", "outcome": outcome}, fault
        status, refusal = await every.get("/api/market/global?max_age=0")
        assert (status, refusal["error"]["code"]) == (503, "too_old")

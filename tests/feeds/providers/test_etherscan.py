"""Etherscan V2: results as they are recorded, and refusals inside a 200, each in its class."""

from dataclasses import asdict
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.chains import ETHEREUM, chain_named
from feeds.model import ChainStats, Gas
from feeds.providers import etherscan
from feeds.providers.etherscan import Etherscan
from orchestrator.errors import (
    BadQuery,
    Malformed,
    NotFound,
    ProviderError,
    RateLimited,
    Unauthorized,
    Unavailable,
)
from orchestrator.http import HttpResponse
from tests.asking import asking
from tests.conversations import drive
from tests.fakes.clock import START_MS, ManualClock
from tests.fakes.etherscan import FakeEtherscan
from tests.fakes.upstream import Fault

SAMPLES = Path(__file__).parents[2] / "samples" / "etherscan"
ACCOUNT = Etherscan("CANARYKEY0123456789")
POLYGON = chain_named("polygon")
PRICE_MS = 1_624_961_308_000
"""The stamp of the recorded price."""


def answer(body: object, received_ms: int = START_MS, headers: dict[str, str] | None = None) -> HttpResponse:
    return HttpResponse(200, headers or {}, orjson.dumps(body), received_ms)


def sample(name: str, received_ms: int = START_MS) -> HttpResponse:
    return HttpResponse(200, {}, (SAMPLES / f"{name}.json").read_bytes(), received_ms)


REFUSALS: dict[str, object] = orjson.loads((SAMPLES / "refusals.json").read_bytes())


def oracle(**changes: object) -> HttpResponse:
    body = orjson.loads(sample("gasoracle_2021").body)
    body["result"].update(changes)
    return answer(body)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gasoracle_2020", Gas("ethereum", 1, 62.0, 82.0, 89.0, None, 11145141, START_MS)),
        ("gasoracle_2021", Gas("ethereum", 1, 20.0, 22.0, 24.0, 19.230609716, 13053741, START_MS)),
        ("gasoracle_2025", Gas("ethereum", 1, 0.496839934, 0.496840168, 0.55411917, 0.496839934, 23467872, START_MS)),
    ],
)
def test_fees_are_read_to_the_last_digit(name: str, expected: Gas) -> None:
    assert drive(ACCOUNT.gas(), sample(name)) == expected


def test_the_question_names_the_chain_and_hides_the_key() -> None:
    request = next(ACCOUNT.gas(POLYGON))
    assert request.path == "/v2/api"
    assert request.params == {"chainid": "137", "module": "gastracker", "action": "gasoracle"}
    assert request.secrets == {"apikey": ACCOUNT.key}
    assert ACCOUNT.key not in repr(request) + repr(ACCOUNT)


def test_a_free_key_serves_some_chains_only() -> None:
    assert ACCOUNT.serves(ETHEREUM)
    assert ACCOUNT.serves(POLYGON)
    assert not ACCOUNT.serves(chain_named("base"))


@pytest.mark.parametrize("fee", ["-1", "NaN", "1e400", "Infinity", "1_0", 1e12, "9" * 400, True, [], "cheap"])
@pytest.mark.parametrize(("name", "field"), [("SafeGasPrice", "slow"), ("suggestBaseFee", "base_fee")])
def test_a_senseless_fee_is_never_passed_on(name: str, field: str, fee: object) -> None:
    sound = asdict(drive(ACCOUNT.gas(), oracle()))
    assert asdict(drive(ACCOUNT.gas(), oracle(**{name: fee}))) == sound | {field: None}
    with pytest.raises(Malformed, match="no fee"):
        drive(ACCOUNT.gas(), oracle(SafeGasPrice=fee, ProposeGasPrice=fee, FastGasPrice=fee))


def test_a_fee_of_nothing_is_a_fee() -> None:
    gas = drive(ACCOUNT.gas(), oracle(SafeGasPrice="0", suggestBaseFee="0"))
    assert (gas.slow, gas.base_fee) == (0.0, 0.0)


@pytest.mark.parametrize("missing", [None, ""])
def test_a_base_fee_that_is_missing_stays_unknown(missing: object) -> None:
    assert drive(ACCOUNT.gas(), oracle(suggestBaseFee=missing)).base_fee is None


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", Malformed),
        (b"<html>Just a moment...</html>", Malformed),
        (b"[]", Malformed),
        (b"{}", Malformed),
        (b'{"status":"1","message":"OK"}', Malformed),
        (b'{"status":"1","message":"OK","result":"text"}', Malformed),
        (b'{"status":"1","message":"OK","result":{}}', Malformed),
        (b'{"status":"1","message":"OK","result":null}', Malformed),
    ],
)
def test_what_is_no_result_is_malformed(body: bytes, error: type[ProviderError]) -> None:
    with pytest.raises(error):
        drive(ACCOUNT.gas(), HttpResponse(200, {}, body, START_MS))


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("per_second_old", RateLimited),
        ("per_second", RateLimited),
        ("per_second_advice", RateLimited),
        ("in_the_message", RateLimited),
        ("proxy_limit", RateLimited),
        ("daily", RateLimited),
        ("bad_keys", RateLimited),
        ("invalid_key", Unauthorized),
        ("missing_key", Unauthorized),
        ("v1", Unavailable),
        ("chain_not_free", NotFound),
        ("no_chain", NotFound),
        ("pro", NotFound),
        ("no_action", BadQuery),
        ("timeout", Unavailable),
        ("proxy_error", Unavailable),
    ],
)
def test_a_refusal_inside_a_200_has_its_class(name: str, error: type[ProviderError]) -> None:
    with pytest.raises(error) as caught:
        drive(ACCOUNT.gas(), answer(REFUSALS[name]))
    assert type(caught.value) is error
    assert type(etherscan.refusal("etherscan_backup", answer(REFUSALS[name]))) is error


def test_every_recorded_refusal_is_tested() -> None:
    assert len(REFUSALS) == 16


@pytest.mark.parametrize(
    ("name", "wait_s"), [("per_second", 1.0), ("per_second_advice", 1.0), ("bad_keys", 30.0), ("daily", 6 * 3600.0)]
)
def test_a_limit_says_how_long_to_rest(name: str, wait_s: float) -> None:
    error = etherscan.refusal("etherscan", answer(REFUSALS[name], START_MS + 18 * 3_600_000))
    assert isinstance(error, RateLimited)
    assert error.retry_after_s == wait_s


def test_the_day_ends_by_etherscans_clock() -> None:
    headers = {"date": "Sun, 22 Nov 2026 23:59:50 GMT"}
    error = etherscan.refusal("etherscan", answer(REFUSALS["daily"], START_MS, headers))
    assert isinstance(error, RateLimited)
    assert error.retry_after_s == 10.0


def test_an_empty_list_is_no_refusal() -> None:
    empty = answer({"status": "0", "message": "No transactions found", "result": []})
    assert etherscan.refusal("etherscan", empty) is None


def test_a_good_result_with_a_warning_is_a_result() -> None:
    body = orjson.loads(sample("gasoracle_2025").body)
    body["message"] = "OK-Missing/Invalid API Key, rate limit of 1/5sec applied"
    assert drive(ACCOUNT.gas(), answer(body)).block == 23467872


def test_a_text_that_repeats_the_key_is_blotted() -> None:
    error = etherscan.refusal("etherscan", answer({"status": "0", "result": f"Oops {ACCOUNT.key} went wrong"}))
    assert isinstance(error, Unavailable)
    assert str(error) == "etherscan: says: Oops … went wrong None"


@pytest.mark.parametrize(
    ("status", "error"), [(403, "Blocked"), (404, "Unavailable"), (429, "RateLimited"), (502, "Unavailable")]
)
def test_a_status_keeps_its_meaning(status: int, error: str) -> None:
    assert type(etherscan.refusal("etherscan", HttpResponse(status, {}, b"<html>", START_MS))).__name__ == error


# --- stats ---


def test_the_state_of_ethereum_takes_three_calls() -> None:
    answers = [sample(name, PRICE_MS + 60_000) for name in ("gasoracle_2021", "ethprice", "ethsupply2")]
    stats = drive(ACCOUNT.stats(), *answers)
    assert stats == ChainStats(
        "ethereum",
        1,
        height=13053741,
        block_time_s=12.0,
        price_usd=2149.18,
        supply=(122373866217800000000000000 + 2940327167090033000000000 - 4610942856337430575173814) / 10**18,
        utilisation_pct=51.6284922422228,
        ts=PRICE_MS + 60_000,
    )
    assert stats.supply == 120703250.5285526  # of mined, staked and burnt ether, to the last digit of a double


def test_without_an_oracle_the_height_is_asked_for() -> None:
    answers = [answer(REFUSALS["pro"]), sample("block_number"), answer(REFUSALS["pro"]), answer(REFUSALS["timeout"])]
    stats = drive(ACCOUNT.stats(), *answers)
    assert (stats.height, stats.price_usd, stats.supply, stats.utilisation_pct) == (0xC36B29, None, None, None)


@pytest.mark.parametrize("height", ["13053741", "0x", "0xg", "-0x1", "0x1_0", 5, None, "0x" + "f" * 40])
def test_a_height_that_is_no_hex_number_is_malformed(height: object) -> None:
    with pytest.raises(Malformed):
        drive(ACCOUNT.stats(), answer(REFUSALS["pro"]), answer({"jsonrpc": "2.0", "id": 83, "result": height}))


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize(("name", "error"), [("per_second", RateLimited), ("invalid_key", Unauthorized)])
def test_a_refusal_that_meets_every_call_ends_the_conversation(
    place: int, name: str, error: type[ProviderError]
) -> None:
    answers = [sample(each) for each in ("gasoracle_2021", "ethprice", "ethsupply2")]
    answers[place] = answer(REFUSALS[name])
    with pytest.raises(error):
        drive(ACCOUNT.stats(), *answers[: place + 1])


def test_an_old_price_is_not_shown_as_fresh() -> None:
    answers = [sample(name) for name in ("gasoracle_2021", "ethprice", "ethsupply2")]
    assert drive(ACCOUNT.stats(), *answers).price_usd is None


def test_the_price_of_another_coin_is_the_one_in_its_oracle() -> None:
    stats = drive(ACCOUNT.stats(POLYGON), oracle(UsdPrice="0.2143", suggestBaseFee=None, gasUsedRatio=None))
    assert (stats.price_usd, stats.supply, stats.block_time_s) == (0.2143, None, 2.0)


@pytest.mark.parametrize(("name", "price"), [("ethusd", None), ("maticusd", 0.2143), ("polusd", 0.2143)])
def test_the_price_of_ether_is_not_taken_for_that_of_another_coin(name: str, price: float | None) -> None:
    said = answer({"status": "1", "message": "OK", "result": {name: "0.2143"}})
    assert drive(ACCOUNT.stats(POLYGON), oracle(), said).price_usd == price


def test_ether_of_a_testnet_is_worth_nothing() -> None:
    assert drive(ACCOUNT.stats(chain_named("sepolia")), oracle(UsdPrice="2850")).price_usd is None


@pytest.mark.parametrize(
    ("said", "used_pct"),
    [
        ("0.405", 40.5),
        ("0.5,1,0", 50.0),
        (0.25, 25.0),
        ("0", None),
        ("", None),
        ("NaN", None),
        ("0.5,x", None),
        ("1.5", None),
        ("-0.1", None),
        (None, None),
        ([], None),
    ],
)
def test_utilisation_is_the_mean_in_percent(said: object, used_pct: float | None) -> None:
    answers = [oracle(gasUsedRatio=said), sample("ethprice"), sample("ethsupply2")]
    assert drive(ACCOUNT.stats(), *answers).utilisation_pct == used_pct


@pytest.mark.parametrize(
    "result",
    [
        None,
        "122373866217800000000000000",
        {"EthSupply": "1e26", "Eth2Staking": "1", "BurntFees": "1"},
        {"EthSupply": "1", "Eth2Staking": "1"},
        {"EthSupply": "1", "Eth2Staking": "1", "BurntFees": "5"},
        {"EthSupply": "9" * 60, "Eth2Staking": "1", "BurntFees": "5"},
    ],
)
def test_a_supply_that_is_not_whole_stays_unknown(result: object) -> None:
    supply = answer({"status": "1", "message": "OK", "result": result})
    assert drive(ACCOUNT.stats(), sample("gasoracle_2021"), sample("ethprice"), supply).supply is None


@settings(max_examples=150)
@given(
    st.dictionaries(
        st.sampled_from(["LastBlock", "SafeGasPrice", "ProposeGasPrice", "FastGasPrice", "suggestBaseFee"]),
        st.none() | st.booleans() | st.integers(-5, 2**60) | st.floats(allow_nan=False) | st.text(max_size=6),
    )
)
def test_whatever_the_oracle_says_gives_sense_or_malformed(changes: dict[str, object]) -> None:
    try:
        gas = drive(ACCOUNT.gas(), oracle(**changes))
    except Malformed:
        return
    assert all(fee is None or 0 <= fee <= 1e9 for fee in (gas.slow, gas.standard, gas.fast, gas.base_fee))


async def test_over_a_socket_results_and_refusals_are_distinguished() -> None:
    clock = ManualClock(START_MS)
    account = Etherscan("FAKEETHERSCANKEY")
    async with (
        FakeEtherscan(clock.wall_ms, calls_a_second=100) as fake,
        asking("etherscan", [fake.url], clock, etherscan.refusal) as upstream,
    ):
        gas, stats = await upstream.run(account.gas()), await upstream.run(account.stats())
        assert gas.slow is not None and gas.base_fee is not None and 0 < gas.base_fee < gas.slow
        assert gas.block == stats.height
        assert stats.price_usd is not None
        assert stats.supply == pytest.approx(120_703_250.5, abs=1)
        assert stats.utilisation_pct is not None and 0 < stats.utilisation_pct < 100
        assert (await upstream.run(account.stats(POLYGON))).price_usd == 0.2143
        assert len(fake.calls) == 5
        with pytest.raises(NotFound):
            await upstream.run(account.gas(chain_named("base")))
        upstream.keyed = True
        with pytest.raises(Unauthorized):
            await upstream.run(Etherscan("wrong").gas())
        assert upstream.disabled is not None and "API key" in upstream.disabled


async def test_more_than_three_calls_a_second_are_counted_and_refused() -> None:
    clock = ManualClock(START_MS)
    account = Etherscan("FAKEETHERSCANKEY")
    async with (
        FakeEtherscan(clock.wall_ms) as fake,
        asking("etherscan", [fake.url], clock, etherscan.refusal) as upstream,
    ):
        await upstream.run(account.stats())
        with pytest.raises(RateLimited):
            await upstream.run(account.gas())
        assert fake.over_limit == 1
        assert upstream.wait_s() == 1.0


async def test_a_v1_address_is_recognised() -> None:
    clock = ManualClock(START_MS)
    async with (
        FakeEtherscan(clock.wall_ms) as fake,
        asking("etherscan", [fake.url], clock, etherscan.refusal) as upstream,
    ):
        fake.always = Fault(body=orjson.dumps(REFUSALS["v1"]))
        with pytest.raises(Unavailable, match="V1"):
            await upstream.run(Etherscan("FAKEETHERSCANKEY").gas())

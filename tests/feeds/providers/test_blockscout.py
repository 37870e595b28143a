"""Blockscout's page: fees and state of Ethereum, and what it says when it has none."""

from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.chains import ETHEREUM, chain_named
from feeds.model import ChainStats, Gas
from feeds.providers import blockscout
from feeds.providers.blockscout import Blockscout
from orchestrator.errors import Malformed, Outdated, ProviderError, Unauthorized, Unavailable
from orchestrator.http import HttpRequest, HttpResponse
from tests.asking import asking
from tests.conversations import drive
from tests.fakes.blockscout import FakeBlockscout
from tests.fakes.clock import START_MS, ManualClock

BODY = (Path(__file__).parents[2] / "samples" / "blockscout" / "stats.json").read_bytes()
UPDATED_MS = START_MS - 12_825
KEYLESS = Blockscout()


def page(**changes: object) -> HttpResponse:
    return HttpResponse(200, {}, orjson.dumps({**orjson.loads(BODY), **changes}), START_MS)


def test_fees_are_in_gwei_and_as_old_as_the_page_says() -> None:
    expected = Gas("ethereum", 1, 0.1, 0.57, 1.05, base_fee=None, block=None, ts=UPDATED_MS)
    assert drive(KEYLESS.gas(), page()) == expected


def test_state_is_in_seconds_dollars_and_percent() -> None:
    expected = ChainStats(
        "ethereum",
        1,
        height=None,
        block_time_s=12.047,
        price_usd=2871.45,
        supply=None,
        utilisation_pct=50.8968948333333,
        ts=UPDATED_MS,
    )
    assert drive(KEYLESS.stats(), page()) == expected


def test_a_state_of_minutes_ago_is_outdated_and_one_without_a_stamp_is_as_of_the_answer() -> None:
    with pytest.raises(Outdated, match="s old"):
        drive(KEYLESS.stats(), page(gas_price_updated_at="2026-11-21T23:50:00Z"))
    assert drive(KEYLESS.stats(), page(gas_price_updated_at=None)).ts == START_MS


@pytest.mark.parametrize(
    "prices",
    [
        {"slow": "0.1", "average": "0.57", "fast": "1.05"},
        {"slow": {"price": 0.1}, "average": {"price": "0.57", "time": 12}, "fast": {"price": 1.05, "wei": "1"}},
    ],
    ids=["texts", "objects"],
)
def test_fees_may_be_texts_or_objects(prices: object) -> None:
    gas = drive(KEYLESS.gas(), page(gas_prices=prices))
    assert (gas.slow, gas.standard, gas.fast) == (0.1, 0.57, 1.05)


def test_a_fee_that_is_null_stays_unknown() -> None:
    gas = drive(KEYLESS.gas(), page(gas_prices={"slow": None, "average": 0.57}))
    assert (gas.slow, gas.standard, gas.fast) == (None, 0.57, None)


@pytest.mark.parametrize("prices", [None, {}, {"slow": None, "average": None, "fast": None}])
def test_without_fees_the_next_provider_is_wanted(prices: object) -> None:
    with pytest.raises(Unavailable, match="no gas prices"):
        drive(KEYLESS.gas(), page(gas_prices=prices))


@pytest.mark.parametrize("fee", [-1, "NaN", "Infinity", "1e400", 1e12, "cheap", True, []])
def test_a_senseless_fee_is_never_passed_on(fee: object) -> None:
    gas = drive(KEYLESS.gas(), page(gas_prices={"slow": 0.1, "average": fee, "fast": 1.0}))
    assert (gas.slow, gas.standard, gas.fast) == (0.1, None, 1.0)
    with pytest.raises(Malformed):
        drive(KEYLESS.gas(), page(gas_prices={"slow": fee, "average": fee, "fast": fee}))


def test_a_fee_of_nothing_is_a_fee() -> None:
    gas = drive(KEYLESS.gas(), page(gas_prices={"slow": 0, "average": 0.0, "fast": "0"}))
    assert (gas.slow, gas.standard, gas.fast) == (0.0, 0.0, 0.0)


def test_fees_of_minutes_ago_are_outdated() -> None:
    with pytest.raises(Outdated, match="s old"):
        drive(KEYLESS.gas(), page(gas_price_updated_at="2026-11-21T23:50:00Z"))


@pytest.mark.parametrize("stamp", [None, "", "yesterday", 5])
def test_a_page_without_a_readable_stamp_is_as_of_its_receipt(stamp: object) -> None:
    assert drive(KEYLESS.gas(), page(gas_price_updated_at=stamp)).ts == START_MS


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("average_block_time", 0, "block_time_s"),
        ("average_block_time", -2, "block_time_s"),
        ("coin_price", "NaN", "price_usd"),
        ("coin_price", "1e30", "price_usd"),
        ("coin_price", None, "price_usd"),
        ("network_utilization_percentage", 101, "utilisation_pct"),
        ("network_utilization_percentage", "x", "utilisation_pct"),
    ],
)
def test_a_senseless_figure_costs_itself_only(name: str, value: object, kept: str) -> None:
    stats = drive(KEYLESS.stats(), page(**{name: value}))
    figures = {
        "block_time_s": stats.block_time_s,
        "price_usd": stats.price_usd,
        "utilisation_pct": stats.utilisation_pct,
    }
    assert figures.pop(kept) is None
    assert None not in figures.values()


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'"Internal server error"', Unavailable),
        (b"", Malformed),
        (b"<html></html>", Malformed),
        (b"[]", Malformed),
        (b"{}", ProviderError),
        (b'{"gas_prices":[]}', Malformed),
    ],
)
def test_what_is_no_page_is_an_error_of_its_class(body: bytes, error: type[ProviderError]) -> None:
    response = HttpResponse(200, {}, body, START_MS)
    with pytest.raises(error):
        drive(KEYLESS.gas(), response)
    with pytest.raises(ProviderError):
        drive(KEYLESS.stats(), response)


@pytest.mark.parametrize("status", [404, 400, 500])
def test_a_page_that_is_gone_is_the_providers_failing(status: int) -> None:
    response = HttpResponse(status, {}, b'"Internal server error"', START_MS)
    assert isinstance(blockscout.refusal("blockscout", response), Unavailable)


def test_a_key_travels_in_a_header_that_no_text_shows() -> None:
    account = Blockscout(key="proapi_canary")
    request = next(account.gas())
    assert request.headers == {"Authorization": "Bearer proapi_canary"}
    assert "canary" not in repr(request) + repr(account)
    assert next(KEYLESS.gas()) == HttpRequest("/api/v2/stats")


def test_it_tells_of_ethereum_only() -> None:
    assert KEYLESS.serves(ETHEREUM)
    assert not KEYLESS.serves(chain_named("polygon"))


@settings(max_examples=100)
@given(
    st.dictionaries(
        st.sampled_from(["gas_prices", "coin_price", "average_block_time", "gas_price_updated_at"]),
        st.none() | st.integers(-5, 2**60) | st.floats(allow_nan=False) | st.text(max_size=5) | st.lists(st.none()),
    )
)
def test_whatever_the_page_holds_gives_sense_or_a_provider_error(changes: dict[str, object]) -> None:
    for steps in (KEYLESS.gas(), KEYLESS.stats()):
        try:
            drive(steps, page(**changes))
        except ProviderError:
            continue


async def test_over_a_socket_both_bases_answer() -> None:
    clock = ManualClock(START_MS)
    async with FakeBlockscout(clock.wall_ms) as fake:
        async with asking("blockscout", [fake.url], clock, blockscout.refusal) as upstream:
            gas, stats = await upstream.run(KEYLESS.gas()), await upstream.run(KEYLESS.stats())
            assert gas.slow is not None and gas.fast is not None and 0 < gas.slow < gas.fast
            assert stats.block_time_s == 12.0
            fake.has_gas_prices = False
            with pytest.raises(Unavailable, match="no gas prices"):
                await upstream.run(KEYLESS.gas())
            fake.broken = True
            with pytest.raises(Unavailable, match="500"):
                await upstream.run(KEYLESS.stats())
        fake.broken, fake.has_gas_prices = False, True
        async with asking("blockscout", [f"{fake.url}/1"], clock, blockscout.refusal) as pro:
            assert (await pro.run(Blockscout("proapi_fake").gas())).standard is not None
            with pytest.raises(Unauthorized):
                await pro.run(Blockscout("wrong").gas())

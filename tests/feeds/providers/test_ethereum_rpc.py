"""Public nodes of Ethereum: fees to the last wei, and which nodes are not believed."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.chains import ETHEREUM, chain_named
from feeds.model import ChainStats, Gas
from feeds.providers.ethereum_rpc import gas, refusal, serves, stats
from orchestrator.errors import Blocked, Malformed, Outdated, ProviderError, RateLimited, Unavailable
from orchestrator.http import HttpResponse
from orchestrator.upstream_policy import UpstreamPolicy
from tests.asking import asking
from tests.conversations import drive
from tests.fakes.clock import START_MS, ManualClock
from tests.fakes.ethereum_rpc import FakeEthereumRpc, base_fee_wei, newest_block, tips_wei

SAMPLES = Path(__file__).parents[2] / "samples" / "ethereum_rpc"
BATCH: list[Any] = orjson.loads((SAMPLES / "batch.json").read_bytes())
EARLIER: Any = orjson.loads((SAMPLES / "earlier_block.json").read_bytes())
ERRORS: dict[str, Any] = orjson.loads((SAMPLES / "errors.json").read_bytes())
BLOCK = 0x1941B80
BLOCK_MS = START_MS - 1000
POLICY = UpstreamPolicy(hosts_share_limits=False)


def answer(body: object, status: int = 200, received_ms: int = START_MS) -> HttpResponse:
    return HttpResponse(status, {}, orjson.dumps(body), received_ms)


def changed(change: Callable[[dict[int, Any]], object]) -> HttpResponse:
    """The recorded batch after a change to its replies, which are given by id."""
    batch = copy.deepcopy(BATCH)
    change({reply["id"]: reply for reply in batch})
    return answer(batch)


def single(question_id: int) -> HttpResponse:
    return answer(next(reply for reply in BATCH if reply["id"] == question_id))


EXPECTED_GAS = Gas(
    "ethereum",
    1,
    slow=(0x2292190B + 0xF4241) / 10**9,
    standard=(0x2292190B + 0x1312D01) / 10**9,
    fast=(0x2292190B + 0x3B9ACA01) / 10**9,
    base_fee=0x2292190B / 10**9,
    block=BLOCK,
    ts=BLOCK_MS,
)


def test_fees_are_the_next_base_fee_plus_median_tips() -> None:
    gas_now = drive(gas(), answer(BATCH))
    assert gas_now == EXPECTED_GAS
    assert gas_now.base_fee == 0.580000011  # below 1 gwei, and not rounded


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_replies_are_matched_by_id_and_not_by_place(order: tuple[int, ...]) -> None:
    assert drive(gas(), answer([BATCH[place] for place in order])) == EXPECTED_GAS


def test_ids_may_come_back_as_texts() -> None:
    def as_texts(replies: dict[int, Any]) -> None:
        for reply in replies.values():
            reply["id"] = str(reply["id"])

    assert drive(gas(), changed(as_texts)) == EXPECTED_GAS


def test_the_question_is_one_batch_of_three_calls() -> None:
    request = next(gas())
    asked = orjson.loads(request.body or b"")
    assert (request.method, request.path, request.weight) == ("POST", "", 3.0)
    assert request.headers == {"Content-Type": "application/json"}
    assert [call["method"] for call in asked] == ["eth_chainId", "eth_getBlockByNumber", "eth_feeHistory"]
    assert asked[2]["params"] == ["0x5", "latest", [10, 50, 90]]
    assert asked[1]["params"] == ["latest", False]


def test_the_median_of_an_even_number_of_blocks_is_exact() -> None:
    def of_two(replies: dict[int, Any]) -> None:
        replies[3]["result"].update(
            reward=[["0x1", "0x1", "0x1"], ["0x2", "0x4", "0x8"]],
            baseFeePerGas=["0x1", "0x2", "0x3b9aca00"],
            gasUsedRatio=[0, 1],
            oldestBlock=hex(BLOCK - 1),
        )

    assert drive(gas(), changed(of_two)).slow == 1.0000000015
    assert drive(gas(), changed(of_two)).standard == 1.0000000025


def test_state_is_read_from_blocks_and_their_fullness() -> None:
    assert drive(stats(), answer(BATCH), answer(EARLIER)) == ChainStats(
        "ethereum",
        1,
        height=BLOCK,
        block_time_s=12.12,
        price_usd=None,
        supply=None,
        utilisation_pct=50.0,
        ts=BLOCK_MS,
    )


@pytest.mark.parametrize(
    "earlier",
    [
        {"jsonrpc": "2.0", "id": 4, "result": None},
        {"jsonrpc": "2.0", "id": 4, "error": {"code": -32000, "message": "missing trie node"}},
        {"jsonrpc": "2.0", "id": 4, "result": {**EARLIER["result"], "number": "0x1"}},
        {"jsonrpc": "2.0", "id": 4, "result": {**EARLIER["result"], "timestamp": hex(START_MS)}},
        {"jsonrpc": "2.0", "id": 5, "result": EARLIER["result"]},
        "text",
    ],
    ids=["null", "error", "another block", "from the future", "another id", "text"],
)
def test_without_the_earlier_block_only_the_block_time_is_unknown(earlier: object) -> None:
    told = drive(stats(), answer(BATCH), answer(earlier))
    assert (told.height, told.block_time_s) == (BLOCK, None)


def test_a_node_of_another_chain_is_not_believed() -> None:
    other = changed(lambda replies: replies[1].update(result="0x38"))
    with pytest.raises(Blocked, match="chain 56"):
        drive(gas(), other)
    assert isinstance(refusal("ethereum_rpc", other), Blocked)


@pytest.mark.parametrize(("age_s", "fresh"), [(0, True), (59, True), (60, False), (3600, False)])
def test_a_node_that_lags_a_minute_is_outdated(age_s: int, fresh: bool) -> None:
    late = answer(BATCH, received_ms=BLOCK_MS + age_s * 1000)
    assert (refusal("ethereum_rpc", late) is None) is fresh
    if fresh:
        assert drive(gas(), late) == EXPECTED_GAS
    else:
        with pytest.raises(Outdated, match=f"{age_s} s old"):
            drive(gas(), late)


def test_age_is_measured_by_the_nodes_own_clock() -> None:
    headers = {"date": "Sun, 22 Nov 2026 00:00:05 GMT"}
    ours_is_wrong = HttpResponse(200, headers, orjson.dumps(BATCH), START_MS - 3_600_000)
    assert drive(gas(), ours_is_wrong) == EXPECTED_GAS


def test_a_block_from_the_future_is_malformed() -> None:
    with pytest.raises(Malformed, match="future"):
        drive(gas(), answer(BATCH, received_ms=BLOCK_MS - 60_000))


def test_a_history_that_ends_elsewhere_is_outdated() -> None:
    with pytest.raises(Outdated, match="blocks away"):
        drive(gas(), changed(lambda replies: replies[3]["result"].update(oldestBlock=hex(BLOCK - 50))))


@pytest.mark.parametrize(
    "refused",
    [answer(ERRORS["no_batches"]), answer([ERRORS["no_batches"]]), HttpResponse(400, {}, b"Bad Request", START_MS)],
    ids=["an error", "an error in a list", "a status"],
)
def test_a_node_that_takes_no_batches_is_asked_one_by_one(refused: HttpResponse) -> None:
    assert drive(gas(), refused, single(1), single(2), single(3)) == EXPECTED_GAS
    assert drive(stats(), refused, single(1), single(2), single(3), answer(EARLIER)).block_time_s == 12.12


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("wants_a_key", Blocked),
        ("dead_gateway", Blocked),
        ("limit", RateLimited),
        ("limit_without_code", RateLimited),
        ("no_method", Unavailable),
        ("generic", Unavailable),
    ],
)
def test_an_error_in_a_reply_has_its_class(name: str, error: type[ProviderError]) -> None:
    reply = ERRORS[name]
    batch = answer([*(each for each in BATCH if each["id"] != (reply["id"] or 3)), reply])
    with pytest.raises(error) as caught:
        drive(gas(), batch)
    assert type(caught.value) is error
    assert type(refusal("ethereum_rpc", batch)) is error


@pytest.mark.parametrize("name", ["wants_a_key", "dead_gateway", "limit", "limit_without_code"])
def test_one_error_for_the_whole_batch_is_no_question_of_batches(name: str) -> None:
    for body in (ERRORS[name], [{**ERRORS[name], "id": None}]):
        with pytest.raises((Blocked, RateLimited)):
            drive(gas(), answer(body))
        assert isinstance(refusal("ethereum_rpc", answer(body)), Blocked | RateLimited)
    with pytest.raises((Blocked, RateLimited)):
        drive(gas(), answer(ERRORS[name], status=400))


def test_no_text_of_a_node_is_repeated() -> None:
    error = refusal("ethereum_rpc", answer(ERRORS["wants_a_key"]))
    assert str(error) == "ethereum_rpc: wants a key now"


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, b"", Malformed),
        (200, b"<html>", Malformed),
        (200, b"[]", Malformed),
        (200, b'"x"', Malformed),
        (400, b"Bad Request", Unavailable),
        (404, b"<html>", Unavailable),
        (403, b"<html>", Blocked),
        (429, b"{}", RateLimited),
        (502, b"<html>", Unavailable),
        (400, b'{"id":1,"error":{"code":-32005,"message":"limit exceeded"}}', RateLimited),
    ],
)
def test_a_status_is_read_with_its_body(status: int, body: bytes, error: type[ProviderError]) -> None:
    assert type(refusal("ethereum_rpc", HttpResponse(status, {}, body, START_MS))) is error


def test_good_answers_and_refused_batches_are_no_refusal() -> None:
    assert refusal("ethereum_rpc", answer(BATCH)) is None
    assert refusal("ethereum_rpc", answer(ERRORS["no_batches"])) is None
    assert refusal("ethereum_rpc", answer(EARLIER)) is None
    assert refusal("ethereum_rpc", answer({"id": 4, "error": {"code": -32000, "message": "pruned"}})) is None


@pytest.mark.parametrize(
    "hexadecimal",
    ["1", "0x", "0X1", "0xg", " 0x1", "0x1 ", "-0x1", "0x-1", "0x_1", 1, 1.0, True, None, [], "0x" + "f" * 65],
)
@pytest.mark.parametrize("place", ["chain", "number", "timestamp", "base fee", "tip"])
def test_what_is_no_hex_number_is_never_read_as_one(place: str, hexadecimal: object) -> None:
    def spoil(replies: dict[int, Any]) -> None:
        match place:
            case "chain":
                replies[1]["result"] = hexadecimal
            case "number" | "timestamp":
                replies[2]["result"][place] = hexadecimal
            case "base fee":
                replies[3]["result"]["baseFeePerGas"][-1] = hexadecimal
            case "tip":
                replies[3]["result"]["reward"] = [[hexadecimal] * 3] * 5

    with pytest.raises(Malformed):
        drive(gas(), changed(spoil))


@pytest.mark.parametrize(
    "change",
    [
        {"reward": None},
        {"reward": []},
        {"reward": [None, None]},
        {"reward": [["0x1"]]},
        {"baseFeePerGas": []},
        {"baseFeePerGas": ["0x1"]},
        {"baseFeePerGas": ["0x1"] * 5},
        {"baseFeePerGas": ["0x1"] * 5 + ["0x" + "f" * 30]},
        {"oldestBlock": None},
    ],
    ids=str,
)
def test_a_history_without_fees_is_malformed(change: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        drive(gas(), changed(lambda replies: replies[3]["result"].update(change)))


def test_a_block_without_tips_costs_itself_only() -> None:
    def spoil(replies: dict[int, Any]) -> None:
        replies[3]["result"]["reward"][0] = None

    assert drive(gas(), changed(spoil)).base_fee == EXPECTED_GAS.base_fee


def test_nodes_are_of_ethereum_only() -> None:
    assert serves(ETHEREUM)
    assert not serves(chain_named("polygon"))


@settings(max_examples=150)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-5, 2**60) | st.sampled_from(["0x1", "0x", "x", "", "0x1941b80"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["id", "result", "error", "code", "number", "message"]), inner, max_size=4
            )
        ),
        max_leaves=8,
    )
)
def test_whatever_a_node_says_is_a_provider_error_or_sense(body: object) -> None:
    for spoiled in (answer(body), answer([*BATCH[:2], body]), changed(lambda replies: replies[3].update(result=body))):
        error = refusal("ethereum_rpc", spoiled)
        assert error is None or isinstance(error, ProviderError)
        try:
            drive(gas(), spoiled, *[answer(body)] * 3)
        except ProviderError:
            continue


async def test_over_a_socket_fees_and_state_are_read() -> None:
    clock = ManualClock(START_MS)
    async with (
        FakeEthereumRpc(clock.wall_ms) as fake,
        asking("ethereum_rpc", [fake.url], clock, refusal, POLICY) as upstream,
    ):
        newest = newest_block(START_MS)
        told = await upstream.run(gas())
        assert told.block == newest
        assert told.base_fee == base_fee_wei(newest + 1) / 10**9
        assert told.slow is not None and told.fast is not None and told.base_fee < told.slow < told.fast
        assert (
            told.slow < (base_fee_wei(newest + 1) + max(tips_wei(newest - back)[0] for back in range(5))) / 1e9 + 1e-9
        )
        state = await upstream.run(stats())
        assert (state.height, state.block_time_s) == (newest, 12.0)
        assert len(fake.calls) == 3


@pytest.mark.parametrize("batches", ["error", "status_400"])
async def test_over_a_socket_a_node_without_batches_serves_too(batches: Any) -> None:
    clock = ManualClock(START_MS)
    async with (
        FakeEthereumRpc(clock.wall_ms, batches=batches) as fake,
        asking("ethereum_rpc", [fake.url], clock, refusal, POLICY) as upstream,
    ):
        assert (await upstream.run(gas())).block == newest_block(START_MS)
        assert len(fake.calls) == 4


@pytest.mark.parametrize(
    "bad",
    [{"chain_id": 56}, {"behind_s": 600.0}, {"refuses": "unauthorized"}, {"refuses": "dead"}, {"calls_a_second": 0}],
    ids=str,
)
async def test_the_next_node_stands_in_for_one_that_is_not_believed(bad: dict[str, Any]) -> None:
    clock = ManualClock(START_MS)
    async with (
        FakeEthereumRpc(clock.wall_ms, **bad) as first,
        FakeEthereumRpc(clock.wall_ms) as second,
        asking("ethereum_rpc", [first.url, second.url], clock, refusal, POLICY) as upstream,
    ):
        assert (await upstream.run(gas())).block == newest_block(START_MS)
        assert (await upstream.run(gas())).block == newest_block(START_MS)
        assert (len(first.calls), len(second.calls)) == (1, 2)

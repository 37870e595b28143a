"""The two questions: fees from the fee history, and the state of the chain from its newest block."""

from collections.abc import Mapping

from feeds.chains import ETHEREUM, Chain
from feeds.fields import BadFieldError, amount, at_most, rows
from feeds.model import ChainStats, Gas
from feeds.providers.ethereum_rpc.calls import NAME, Question, ask, of_single, request_for
from feeds.providers.ethereum_rpc.heads import (
    CHAIN_ID,
    EARLIER_ID,
    LATEST,
    QUANTITY,
    Block,
    newest_block,
    read_block,
    read_list,
    read_mapping,
    read_quantity,
)
from orchestrator.errors import (
    Blocked,
    Malformed,
    Outdated,
    ProviderError,
    RateLimited,
)
from orchestrator.http import HttpResponse
from orchestrator.provider import Steps

FEE_BLOCKS = 5
PERCENTILES = (10, 50, 90)
SPAN_BLOCKS = 100
"""The block time is the mean over so many."""
GWEI = 10**9
LARGEST_WEI = 10**18
"""Maximum price of one unit of gas: a whole coin."""
_FEES = Question(3, "eth_feeHistory", (hex(FEE_BLOCKS), "latest", PERCENTILES))


def serves(chain: Chain) -> bool:
    """Whether these nodes are of this chain."""
    return chain == ETHEREUM


def gas(chain: Chain = ETHEREUM) -> Steps[Gas]:
    """Ask for fees in gwei: the base fee of the next block plus the median tip of the last five at their 10th, 50th and
    90th percentile. Stamped with the time of the newest block. One request, or four where batches are refused.

    Raises: Outdated, Malformed, and what a JSON-RPC error means (RateLimited, Blocked, Unavailable).
    """
    replies = yield from ask((CHAIN_ID, LATEST, _FEES))
    block = newest_block(replies, chain)
    fees = read_mapping(replies[_FEES.id], "fee history")
    base_fee = _next_base_fee(fees, block)
    slow, standard, fast = (_with_median_tip(fees, place, base_fee) for place in range(len(PERCENTILES)))
    if slow is None and standard is None and fast is None:
        raise Malformed(NAME, "no tips in the history")
    return Gas(chain.name, chain.chain_id, slow, standard, fast, base_fee / GWEI, block.number, block.ts)


def stats(chain: Chain = ETHEREUM) -> Steps[ChainStats]:
    """Ask for height, block time over the last hundred blocks, utilisation over the last five.

    Price and supply are unknown.

    Raises: as `gas`.
    """
    replies = yield from ask((CHAIN_ID, LATEST, _FEES))
    block = newest_block(replies, chain)
    used_pct = _utilisation_pct(replies[_FEES.id])
    block_time_s = None
    if block.number > SPAN_BLOCKS:
        earlier = Question(EARLIER_ID, "eth_getBlockByNumber", (hex(block.number - SPAN_BLOCKS), False))
        response = yield request_for(earlier)
        block_time_s = _block_time_s(response, earlier, block)
    return ChainStats(
        chain.name,
        chain.chain_id,
        height=block.number,
        block_time_s=block_time_s,
        price_usd=None,
        supply=None,
        utilisation_pct=used_pct,
        ts=block.ts,
    )


def _next_base_fee(fees: Mapping[str, object], block: Block) -> int:
    """Return the next base fee in wei.

    The history must end at the newest block, or near: behind one address there are nodes of several ages.
    """
    history = read_list(fees.get("baseFeePerGas"), "base fees")
    ratios = fees.get("gasUsedRatio")
    blocks = len(ratios) if isinstance(ratios, list) else FEE_BLOCKS
    if len(history) != blocks + 1:
        raise Malformed(NAME, "the base fee of the next block is not in the history")
    last = read_quantity(fees.get("oldestBlock"), "oldest block") + blocks - 1
    if abs(last - block.number) > FEE_BLOCKS:
        raise Outdated(NAME, f"fee history is {abs(last - block.number)} blocks away from the newest block")
    return read_quantity(history[-1], "base fee", LARGEST_WEI)


def _with_median_tip(fees: Mapping[str, object], place: int, base_fee: int) -> float | None:
    """Return base fee and median tip in gwei; None without a readable tip.

    They are added up in whole wei, so that nothing is lost before the one division.
    """
    listed = fees.get("reward")
    read = rows(listed if isinstance(listed, list) else [listed], lambda row: _tip(row, place))
    tips = sorted(read.good)
    if not tips:
        return None
    middle = tips[(len(tips) - 1) // 2] + tips[len(tips) // 2]
    return (2 * base_fee + middle) / (2 * GWEI)


def _tip(row: object, place: int) -> int:
    value = row[place] if isinstance(row, list) and len(row) == len(PERCENTILES) else None
    if not isinstance(value, str) or QUANTITY.fullmatch(value) is None or int(value, 16) > LARGEST_WEI:
        raise BadFieldError("reward")
    return int(value, 16)


def _utilisation_pct(fees: object) -> float | None:
    listed = fees.get("gasUsedRatio") if isinstance(fees, dict) else None
    read = rows(listed if isinstance(listed, list) else [listed], _ratio)
    return 100 * sum(read.good) / len(read.good) if read.good else None


def _ratio(value: object) -> float:
    return at_most(1, amount)({"gasUsedRatio": value}, "gasUsedRatio")


def _block_time_s(response: HttpResponse, question: Question, newest: Block) -> float | None:
    """Return the mean time between blocks; None from a node that does not keep or give the earlier one."""
    try:
        earlier = read_block(NAME, of_single(response, question))
    except (RateLimited, Blocked):
        raise
    except ProviderError:
        return None
    if earlier.number != newest.number - SPAN_BLOCKS or earlier.ts >= newest.ts:
        return None
    return (newest.ts - earlier.ts) / 1000 / SPAN_BLOCKS

"""Public JSON-RPC nodes of Ethereum: fees from the fee history, state from the newest block. Pure.

Nodes belong to strangers, so each answer is believed only if the node says that it is on the right chain, and its
newest block is fresh. `refusal` checks that already, so that the next node gets its turn; the conversation does again.

Source: ethereum.org JSON-RPC API, execution-apis `eth_feeHistory`; JSON-RPC 2.0 (batches come back in any order).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import orjson

from feeds.chains import ETHEREUM, Chain
from feeds.fields import BadFieldError, amount, at_most, rows
from feeds.model import ChainStats, Gas
from orchestrator import http
from orchestrator.errors import (
    BadQuery,
    Blocked,
    Malformed,
    NotFound,
    Outdated,
    ProviderError,
    RateLimited,
    Unavailable,
)
from orchestrator.http import HttpRequest, HttpResponse, json_body, maybe_json
from orchestrator.provider import Steps

NAME = "ethereum_rpc"

FRESH_MS = 60_000
"""Five blocks; a node further behind is not following the chain."""

FEE_BLOCKS = 5
PERCENTILES = (10, 50, 90)
SPAN_BLOCKS = 100
"""The block time is the mean over so many."""

GWEI = 10**9
LARGEST_WEI = 10**18
"""Maximum price of one unit of gas: a whole coin."""

NO_BATCH = (400, 405, 413, 415, 422, 501)
"""Statuses by which nodes say that they take no batches."""

_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,64}")


@dataclass(frozen=True, slots=True)
class _Question:
    """One call. The id names the question, so that a node's answers are recognised by it."""

    id: int
    method: str
    params: Sequence[object] = ()

    def as_json(self) -> Mapping[str, object]:
        return {"jsonrpc": "2.0", "id": self.id, "method": self.method, "params": list(self.params)}


_CHAIN_ID = _Question(1, "eth_chainId")
_LATEST = _Question(2, "eth_getBlockByNumber", ("latest", False))
_FEES = _Question(3, "eth_feeHistory", (hex(FEE_BLOCKS), "latest", PERCENTILES))
_EARLIER_ID = 4


def serves(chain: Chain) -> bool:
    """Whether these nodes are of this chain."""
    return chain == ETHEREUM


def gas(chain: Chain = ETHEREUM) -> Steps[Gas]:
    """Ask for fees in gwei: the base fee of the next block plus the median tip of the last five at their 10th, 50th and
    90th percentile. Stamped with the time of the newest block. One request, or four where batches are refused.

    Raises: Outdated, Malformed, and what a JSON-RPC error means (RateLimited, Blocked, Unavailable).
    """
    replies = yield from _ask((_CHAIN_ID, _LATEST, _FEES))
    block = _newest_block(replies, chain)
    fees = _mapping(replies[_FEES.id], "fee history")
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
    replies = yield from _ask((_CHAIN_ID, _LATEST, _FEES))
    block = _newest_block(replies, chain)
    used_pct = _utilisation_pct(replies[_FEES.id])
    block_time_s = None
    if block.number > SPAN_BLOCKS:
        earlier = _Question(_EARLIER_ID, "eth_getBlockByNumber", (hex(block.number - SPAN_BLOCKS), False))
        response = yield _request(earlier)
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


def refusal(provider: str, response: HttpResponse) -> ProviderError | None:
    """Return the error of an answer: of its status, of a JSON-RPC error in it, of another chain, of a block that is
    old.

    That a node takes no batches is none: the conversation goes on in single calls. A method that a node lacks is its
    failing, not our question's fault: the next node has it.
    """
    error = http.refusal(provider, response)
    if error is not None and not isinstance(error, NotFound | BadQuery):
        return error
    body: object = maybe_json(response)
    replies = [reply for reply in (body if isinstance(body, list) else [body]) if isinstance(reply, dict)]
    if error is None and not replies:
        return Malformed(provider, "no JSON-RPC reply in the body")
    try:
        for reply in replies:
            _check_reply(provider, reply, response)
    except ProviderError as found:
        return found
    return None if error is None else Unavailable(provider, error.reason)


def _check_reply(provider: str, reply: Mapping[str, object], response: HttpResponse) -> None:
    said, question_id = _error_of(provider, reply), _id_of(reply)
    if said is not None:
        # Without an id it is about a batch as such, and the earlier block is not needed that much.
        if isinstance(said, RateLimited | Blocked) or question_id not in (None, _EARLIER_ID):
            raise said
    elif question_id == _CHAIN_ID.id:
        _check_chain(provider, reply.get("result"), ETHEREUM)
    elif question_id == _LATEST.id:
        _check_fresh(provider, _block(provider, reply.get("result")), response)


# --- asking ---


@dataclass(frozen=True, slots=True)
class _Replies:
    """Results by id, and the last response, whose clock shows how old a block is."""

    results: Mapping[int, object]
    response: HttpResponse

    def __getitem__(self, question_id: int) -> object:
        return self.results[question_id]


def _request(*questions: _Question, batch: bool = False) -> HttpRequest:
    body: object = [each.as_json() for each in questions] if batch else questions[0].as_json()
    return HttpRequest(
        "",
        method="POST",
        headers={"Content-Type": "application/json"},
        body=orjson.dumps(body),
        weight=float(len(questions)),
        may_be=NO_BATCH if batch else (),
    )


def _ask(questions: Sequence[_Question]) -> Steps[_Replies]:
    """Ask for the results of the questions, by id: in one batch, or one by one from a node that takes none."""
    response = yield _request(*questions, batch=True)
    results = _of_batch(response, questions)
    if results is None:
        results = {}
        for question in questions:
            response = yield _request(question)
            results[question.id] = _of_single(response, question)
    return _Replies(results, response)


def _of_batch(response: HttpResponse, questions: Sequence[_Question]) -> dict[int, object] | None:
    """Return the results by id; None if the node takes no batches."""
    if response.status in NO_BATCH:
        body: object = maybe_json(response)
        if body is None:
            return None
    else:
        body = json_body(NAME, response)
    replies = [reply for reply in body if isinstance(reply, dict)] if isinstance(body, list) else None
    if replies is None or (len(replies) == 1 and replies[0].get("id") is None):
        # One error for all: about batches, unless single calls would meet it too.
        error = _error_of(NAME, replies[0] if replies else body)
        if isinstance(error, RateLimited | Blocked):
            raise error
        if error is None and response.status not in NO_BATCH:
            raise Malformed(NAME, "a batch was answered by neither replies nor an error")
        return None
    by_id = {_id_of(reply): reply for reply in replies}
    results: dict[int, object] = {}
    for question in questions:
        reply = by_id.get(question.id)
        if reply is None:
            raise _first_error(replies) or Malformed(NAME, f"no reply to {question.method}")
        results[question.id] = _result_of(reply, question)
    return results


def _of_single(response: HttpResponse, question: _Question) -> object:
    body = json_body(NAME, response)
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    if not isinstance(body, dict):
        raise Malformed(NAME, f"{question.method} was answered by no object")
    return _result_of(body, question)


def _result_of(reply: Mapping[str, object], question: _Question) -> object:
    error = _error_of(NAME, reply)
    if error is not None:
        raise error
    if _id_of(reply) != question.id:
        raise Malformed(NAME, f"{question.method} was answered under another id")
    if reply.get("result") is None:
        raise Malformed(NAME, f"no result of {question.method}")
    return reply["result"]


def _id_of(reply: Mapping[str, object]) -> int | None:
    said = reply.get("id")
    if isinstance(said, str) and said.isascii() and said.isdigit():
        return int(said[:9])
    return said if isinstance(said, int) and not isinstance(said, bool) else None


def _first_error(replies: Iterable[Mapping[str, object]]) -> ProviderError | None:
    return next((error for error in (_error_of(NAME, reply) for reply in replies) if error is not None), None)


def _error_of(provider: str, reply: object) -> ProviderError | None:
    """Return what the `error` member means.

    A node that wants a key is Blocked: there is no key to set, others want none.
    """
    said = reply.get("error") if isinstance(reply, dict) else None
    if said is None:
        return None
    code = said.get("code") if isinstance(said, dict) else None
    message = str(said.get("message") if isinstance(said, dict) else said)
    words = message.lower()
    if code in (-32005, -32016, -32029, 429) or any(
        phrase in words for phrase in ("rate limit", "too many requests", "limit exceeded", "usage limit", "quota")
    ):
        return RateLimited(provider, None)
    if code == -32046 or "cannot fulfill" in words:
        return Blocked(provider, "no longer serves (cannot fulfil requests)")
    if code in (401, 403) or any(
        phrase in words for phrase in ("unauthorized", "api key", "apikey", "authenticate", "forbidden")
    ):
        return Blocked(provider, "wants a key now")
    return Unavailable(provider, f"JSON-RPC error {code if isinstance(code, int) else 'without a code'}")


# --- reading ---


@dataclass(frozen=True, slots=True)
class _Block:
    number: int
    ts: int
    """Unix ms."""


def _quantity(value: object, what: str, largest: int = 2**63) -> int:
    """Return a hex number such as `0x1dfd14000`, and nothing like it."""
    if not isinstance(value, str) or _QUANTITY.fullmatch(value) is None:
        raise Malformed(NAME, f"{what} is no hex number")
    number = int(value, 16)
    if number > largest:
        raise Malformed(NAME, f"{what} is absurd")
    return number


def _mapping(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise Malformed(NAME, f"{what} is no object")
    return value


def _list(value: object, what: str) -> list[object]:
    if not isinstance(value, list) or not value:
        raise Malformed(NAME, f"{what} is no list")
    return cast(list[object], value)


def _newest_block(replies: _Replies, chain: Chain) -> _Block:
    _check_chain(NAME, replies[_CHAIN_ID.id], chain)
    block = _block(NAME, replies[_LATEST.id])
    _check_fresh(NAME, block, replies.response)
    return block


def _check_chain(provider: str, chain_id: object, chain: Chain) -> None:
    found = _quantity(chain_id, "chain id", 2**255)
    if found != chain.chain_id:
        raise Blocked(provider, f"is a node of chain {found}, not of {chain.chain_id}")


def _check_fresh(provider: str, block: _Block, response: HttpResponse) -> None:
    now_ms = response.received_ms if response.date_ms is None else response.date_ms
    if now_ms - block.ts >= FRESH_MS:
        raise Outdated(provider, f"newest block is {(now_ms - block.ts) // 1000} s old")
    if block.ts - now_ms >= FRESH_MS:
        raise Malformed(provider, f"newest block is {(block.ts - now_ms) // 1000} s in the future")


def _block(provider: str, value: object) -> _Block:
    if not isinstance(value, dict):
        raise Malformed(provider, "block is no object")
    number = _quantity(value.get("number"), "block number")
    return _Block(number, 1000 * _quantity(value.get("timestamp"), "block time", 10**11))


def _next_base_fee(fees: Mapping[str, object], block: _Block) -> int:
    """Return the next base fee in wei.

    The history must end at the newest block, or near: behind one address there are nodes of several ages.
    """
    history = _list(fees.get("baseFeePerGas"), "base fees")
    ratios = fees.get("gasUsedRatio")
    blocks = len(ratios) if isinstance(ratios, list) else FEE_BLOCKS
    if len(history) != blocks + 1:
        raise Malformed(NAME, "the base fee of the next block is not in the history")
    last = _quantity(fees.get("oldestBlock"), "oldest block") + blocks - 1
    if abs(last - block.number) > FEE_BLOCKS:
        raise Outdated(NAME, f"fee history is {abs(last - block.number)} blocks away from the newest block")
    return _quantity(history[-1], "base fee", LARGEST_WEI)


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
    if not isinstance(value, str) or _QUANTITY.fullmatch(value) is None or int(value, 16) > LARGEST_WEI:
        raise BadFieldError("reward")
    return int(value, 16)


def _utilisation_pct(fees: object) -> float | None:
    listed = fees.get("gasUsedRatio") if isinstance(fees, dict) else None
    read = rows(listed if isinstance(listed, list) else [listed], _ratio)
    return 100 * sum(read.good) / len(read.good) if read.good else None


def _ratio(value: object) -> float:
    return at_most(1, amount)({"gasUsedRatio": value}, "gasUsedRatio")


def _block_time_s(response: HttpResponse, question: _Question, newest: _Block) -> float | None:
    """Return the mean time between blocks; None from a node that does not keep or give the earlier one."""
    try:
        earlier = _block(NAME, _of_single(response, question))
    except (RateLimited, Blocked):
        raise
    except ProviderError:
        return None
    if earlier.number != newest.number - SPAN_BLOCKS or earlier.ts >= newest.ts:
        return None
    return (newest.ts - earlier.ts) / 1000 / SPAN_BLOCKS

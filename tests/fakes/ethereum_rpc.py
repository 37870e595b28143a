"""A fake JSON-RPC node of Ethereum, and the chain that all fakes of Ethereum share."""

import math
from collections.abc import Callable
from typing import Literal

import orjson

from tests.fakes.upstream import Call, FakeUpstream, Reply, wall_clock_ms

BLOCK_MS = 12_000
KNOWN_BLOCK = 23_467_872
KNOWN_BLOCK_MS = 1_759_140_000_000
GWEI = 10**9
GAS_LIMIT = 60_000_000

CALLS_A_SECOND = 20
"""Nodes do not publish their limits; this one is as strict as the strictest that was measured."""

ANKR_WANTS_A_KEY = (
    "Unauthorized: You must authenticate your request with an API key. Create an account on "
    "https://www.ankr.com/rpc/ and generate your personal API key for free."
)


def newest_block(now_ms: int) -> int:
    """Return the number of the newest block at a time."""
    return KNOWN_BLOCK + (now_ms - KNOWN_BLOCK_MS) // BLOCK_MS


def block_ms(number: int) -> int:
    """Return the time of a block in Unix ms."""
    return KNOWN_BLOCK_MS + (number - KNOWN_BLOCK) * BLOCK_MS


def base_fee_wei(number: int) -> int:
    """Return the base fee of a block: a wave of an hour around 0.6 gwei."""
    return int(0.58 * GWEI * (1 + 0.3 * math.sin(number / 48))) + number % 997


def used_ratio(number: int) -> float:
    """Return the share of the gas limit that a block used."""
    return round(0.5 + 0.4 * math.sin(number * 1.7), 6)


def tips_wei(number: int) -> tuple[int, int, int]:
    """Return the priority fees of a block at the percentiles 10, 50 and 90."""
    low = 1_000_000 + number % 89 * 1_000
    return low, low * 20, low * 900


class FakeEthereumRpc(FakeUpstream):
    """Serve `POST /`, single requests and batches, which it answers in reverse order.

    `chain_id` selects another chain; `behind_s` makes the node lag; `batches` is how it treats batches; `refuses` makes
    it a node that needs a key, or a dead gateway.
    """

    def __init__(
        self,
        wall_ms: Callable[[], int] = wall_clock_ms,
        *,
        chain_id: int = 1,
        behind_s: float = 0.0,
        batches: Literal["yes", "error", "status_400"] = "yes",
        refuses: Literal["unauthorized", "dead"] | None = None,
        calls_a_second: int = CALLS_A_SECOND,
    ) -> None:
        super().__init__(wall_ms)
        self.chain_id = chain_id
        self.behind_s = behind_s
        self.batches = batches
        self.refuses = refuses
        self.calls_a_second = calls_a_second
        self.over_limit = 0
        self.on("POST", "/", self._post)

    def _post(self, call: Call) -> Reply:
        if call.headers.get("content-type", "").partition(";")[0] != "application/json":
            return Reply(
                b"invalid content type, only application/json is supported", 415, {"Content-Type": "text/plain"}
            )
        try:
            asked = orjson.loads(call.body)
        except orjson.JSONDecodeError:
            return self._json_reply({"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "parse error"}})
        if sum(1 for each in self.calls if each.at > call.at - 1.0) > self.calls_a_second:
            self.over_limit += 1
            return self._json_reply(self._error(None, -32005, "limit exceeded"))
        if self.refuses == "unauthorized":
            return self._json_reply(self._error(None, -32000, ANKR_WANTS_A_KEY))
        if isinstance(asked, list):
            if self.batches == "status_400":
                return Reply(b"Bad Request", 400, {"Content-Type": "text/plain"})
            if self.batches == "error":
                return self._json_reply(self._error(None, -32600, "batch requests are not supported"))
            return self._json_reply([self._reply(each) for each in reversed(asked)])
        return self._json_reply(self._reply(asked))

    def _json_reply(self, body: object) -> Reply:
        return Reply(orjson.dumps(body))

    def _error(self, question_id: object, code: int, message: str) -> dict[str, object]:
        return {"jsonrpc": "2.0", "id": question_id, "error": {"code": code, "message": message}}

    def _reply(self, asked: object) -> dict[str, object]:
        if not isinstance(asked, dict) or asked.get("jsonrpc") != "2.0" or not isinstance(asked.get("method"), str):
            return self._error(None, -32600, "invalid request")
        question_id, params = asked.get("id"), asked.get("params", [])
        if self.refuses == "dead":
            return self._error(question_id, -32046, "Cannot fulfill request")
        newest = newest_block(self.wall_ms() - round(self.behind_s * 1000))
        match asked["method"], params:
            case "eth_chainId", _:
                result: object = hex(self.chain_id)
            case "eth_blockNumber", _:
                result = hex(newest)
            case "eth_gasPrice", _:
                result = hex(base_fee_wei(newest + 1) + tips_wei(newest)[1])
            case "eth_getBlockByNumber", [str(which), bool()]:
                number = newest if which == "latest" else int(which, 16)
                result = self._block(number) if number <= newest else None
            case "eth_feeHistory", [str(count), "latest", list(percentiles)]:
                result = self._fee_history(newest, int(count, 16), len(percentiles))
            case (("eth_getBlockByNumber" | "eth_feeHistory"), _):
                return self._error(question_id, -32602, "invalid argument 0: missing value")
            case method, _:
                message = f"the method {method} does not exist/is not available"
                return self._error(question_id, -32601, message)
        return {"jsonrpc": "2.0", "id": question_id, "result": result}

    def _block(self, number: int) -> dict[str, object]:
        return {
            "number": hex(number),
            "timestamp": hex(block_ms(number) // 1000),
            "baseFeePerGas": hex(base_fee_wei(number)),
            "gasLimit": hex(GAS_LIMIT),
            "gasUsed": hex(round(GAS_LIMIT * used_ratio(number))),
            "transactions": [],
        }

    def _fee_history(self, newest: int, count: int, percentiles: int) -> dict[str, object]:
        blocks = range(newest - count + 1, newest + 1)
        history: dict[str, object] = {
            "oldestBlock": hex(blocks[0]),
            "baseFeePerGas": [hex(base_fee_wei(number)) for number in (*blocks, newest + 1)],
            "gasUsedRatio": [used_ratio(number) for number in blocks],
            "baseFeePerBlobGas": ["0x1"] * (count + 1),
            "blobGasUsedRatio": [0] * count,
        }
        if percentiles:
            history["reward"] = [[hex(tip) for tip in tips_wei(number)[:percentiles]] for number in blocks]
        return history

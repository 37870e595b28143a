"""A fake of Etherscan's API V2: errors with status 200, and three calls a second for a free account."""

from collections.abc import Callable, Collection

import orjson

from tests.fakes.ethereum_rpc import GWEI, base_fee_wei, newest_block, tips_wei, used_ratio
from tests.fakes.upstream import Call, FakeUpstream, Reply, wall_clock_ms

CALLS_A_SECOND = 3
CALLS_A_DAY = 100_000
FREE_CHAINS = ("1", "11155111", "560048", "137", "42161", "59144", "81457", "199", "42220", "252", "100")
PAID_CHAINS = ("56", "8453", "10", "43114")
DEPRECATED = "You are using a deprecated V1 endpoint, switch to Etherscan API V2."
NOT_FREE = "Free API access is not supported for this chain. Please upgrade your api plan for full chain coverage."
NO_CHAIN = (
    "Missing or unsupported chainid parameter (required for v2 api), please see "
    "https://api.etherscan.io/v2/chainlist for the list of supported chainids"
)
MINED_WEI = 122_373_866_217_800_000_000_000_000


class FakeEtherscan(FakeUpstream):
    """Serve `GET /v2/api?chainid=&module=&action=&apikey=`. The keys belong to one account and share its limits."""

    def __init__(
        self,
        wall_ms: Callable[[], int] = wall_clock_ms,
        *,
        keys: Collection[str] = ("FAKEETHERSCANKEY",),
        calls_a_second: int = CALLS_A_SECOND,
        calls_a_day: int = CALLS_A_DAY,
    ) -> None:
        super().__init__(wall_ms)
        self.keys = set(keys)
        self.calls_a_second = calls_a_second
        self.calls_a_day = calls_a_day
        self.over_limit = 0
        self.bad_keys_at: list[float] = []
        self.on("GET", "/v2/api", self._v2)
        self.on("GET", "/api", lambda call: self._refused(DEPRECATED))

    def _v2(self, call: Call) -> Reply:
        refused = self._key_refused(call) or self._limit_refused(call)
        if refused is not None:
            return refused
        chain = call.query.get("chainid", "")
        if chain in PAID_CHAINS:
            return self._refused(NOT_FREE)
        if chain not in FREE_CHAINS:
            return self._refused(NO_CHAIN)
        newest = newest_block(self.wall_ms())
        match call.query.get("module"), call.query.get("action"):
            case "gastracker", "gasoracle":
                return self._ok(self._oracle(newest, chain))
            case "stats", "ethprice":
                return self._ok(self._price(newest))
            case "stats", "ethsupply":
                return self._ok(str(MINED_WEI))
            case "stats", "ethsupply2":
                return self._ok(
                    {
                        "EthSupply": str(MINED_WEI),
                        "Eth2Staking": "2940327167090033000000000",
                        "BurntFees": str(4_610_942_856_337_430_575_173_814 + newest),
                        "WithdrawnTotal": "7618584348954597000000000",
                    }
                )
            case "proxy", "eth_blockNumber":
                return Reply(orjson.dumps({"jsonrpc": "2.0", "id": 83, "result": hex(newest)}))
            case "account", "txlist":
                return Reply(orjson.dumps({"status": "0", "message": "No transactions found", "result": []}))
            case (("gastracker" | "stats" | "proxy" | "account"), _):
                return self._refused("Error! Missing Or invalid Action name")
        return self._refused("Error! Missing Or invalid Module name")

    def _key_refused(self, call: Call) -> Reply | None:
        key = call.query.get("apikey")
        if key in self.keys:
            return None
        self.bad_keys_at = [*(at for at in self.bad_keys_at if at > call.at - 30.0), call.at]
        if len(self.bad_keys_at) > 5:
            return self._refused("Too many invalid api key attempts, please try again later")
        return self._refused("Invalid API Key" if key else "Missing/Invalid API Key")

    def _limit_refused(self, call: Call) -> Reply | None:
        if len(self.calls) > self.calls_a_day:
            self.over_limit += 1
            return self._refused(f"Max daily rate limit reached. {len(self.calls)} of {self.calls_a_day} day/limit")
        recent = [each for each in self.calls if each.at > call.at - 1.0]
        if sum(each.query.get("apikey") == call.query.get("apikey") for each in recent) > self.calls_a_second:
            self.over_limit += 1
            return self._refused(f"Max calls per sec rate limit reached ({self.calls_a_second}/sec)")
        return None

    def _ok(self, result: object) -> Reply:
        return Reply(orjson.dumps({"status": "1", "message": "OK", "result": result}))

    def _refused(self, result: str) -> Reply:
        return Reply(orjson.dumps({"status": "0", "message": "NOTOK", "result": result}))

    def _oracle(self, newest: int, chain: str) -> dict[str, str]:
        base_fee = base_fee_wei(newest + 1)
        slow, standard, fast = ((base_fee + tip) / GWEI for tip in tips_wei(newest))
        oracle = {
            "LastBlock": str(newest),
            "SafeGasPrice": str(slow),
            "ProposeGasPrice": str(standard),
            "FastGasPrice": str(fast),
        }
        if chain == "1":
            ratios = (used_ratio(number) for number in range(newest - 4, newest + 1))
            return oracle | {"suggestBaseFee": str(base_fee / GWEI), "gasUsedRatio": ",".join(map(str, ratios))}
        return oracle | {"UsdPrice": "0.2143"}

    def _price(self, newest: int) -> dict[str, str]:
        now_s = str(self.wall_ms() // 1000 - 30)
        return {
            "ethbtc": "0.0331",
            "ethbtc_timestamp": now_s,
            "ethusd": f"{2850 + newest % 100 / 10:.2f}",
            "ethusd_timestamp": now_s,
        }

"""A fake of Blockscout's statistics, without a key, and below `/1` with a key as in the PRO API."""

from collections.abc import Callable, Collection
from datetime import UTC, datetime

import orjson

from tests.fakes.ethereum_rpc import GWEI, base_fee_wei, newest_block, tips_wei, used_ratio
from tests.fakes.upstream import Call, FakeUpstream, Reply, wall_clock_ms

CALLS_A_SECOND = 10
PRO_CALLS_A_SECOND = 5


class FakeBlockscout(FakeUpstream):
    """Serve `GET /api/v2/stats` and `GET /1/api/v2/stats`. `gas_prices` can be null, as after a real restart."""

    def __init__(
        self, wall_ms: Callable[[], int] = wall_clock_ms, *, pro_keys: Collection[str] = ("proapi_fake",)
    ) -> None:
        super().__init__(wall_ms)
        self.pro_keys = set(pro_keys)
        self.has_gas_prices = True
        self.broken = False
        self.over_limit = 0
        self.on("GET", "/api/v2/stats", lambda call: self._stats(call, CALLS_A_SECOND))
        self.on("GET", "/1/api/v2/stats", self._pro)

    def _pro(self, call: Call) -> Reply:
        key = call.query.get("apikey") or call.headers.get("authorization", "").removeprefix("Bearer ")
        if key not in self.pro_keys:
            return Reply(b'{"message":"Invalid API key"}', 401)
        return self._stats(call, PRO_CALLS_A_SECOND)

    def _stats(self, call: Call, calls_a_second: int) -> Reply:
        if sum(1 for each in self.calls if each.at > call.at - 1.0) > calls_a_second:
            self.over_limit += 1
            return Reply(b'{"message":"429 Too Many Requests"}', 429)
        if self.broken:
            return Reply(b'"Internal server error"', 500)
        now_ms = self.wall_ms()
        newest = newest_block(now_ms)
        updated = datetime.fromtimestamp((now_ms - now_ms % 30_000) / 1000, UTC)
        slow, average, fast = (
            round((base_fee_wei(newest + 1) + tip) / GWEI, 2) for tip in tips_wei(newest)
        )  # Blockscout rounds, unlike other sources
        body = {
            "average_block_time": 12000.0,
            "coin_image": "https://example.org/ethereum.png",
            "coin_price": f"{2850 + newest % 100 / 10:.2f}",
            "coin_price_change_percentage": -0.42,
            "gas_price_updated_at": updated.isoformat().replace("+00:00", "Z"),
            "gas_prices": {"slow": slow, "average": average, "fast": fast} if self.has_gas_prices else None,
            "gas_prices_update_in": 30_000 - now_ms % 30_000,
            "gas_used_today": "147032238744",
            "market_cap": "343209228486.984",
            "network_utilization_percentage": 100 * used_ratio(newest),
            "static_gas_price": None,
            "total_addresses": "386024001",
            "total_blocks": str(newest + 1),
            "total_gas_used": "0",
            "total_transactions": "3005606580",
            "transactions_today": "1221320",
            "tvl": None,
        }
        return Reply(orjson.dumps(body))

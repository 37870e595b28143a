"""Blockscout: fees and state of Ethereum from one keyless page, `/api/v2/stats`. Pure.

The page does not say at which block it stands (`total_blocks` counts what is indexed), so the height stays unknown.

Source: Blockscout REST API v2, "stats" (2026-10). The keyless page is to give way to the PRO API, which has the same
path below https://api.blockscout.com/1 and wants a key.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from feeds.chains import ETHEREUM, Chain
from feeds.fields import (
    amount,
    at_most,
    maybe,
    maybe_iso_ms,
    positive,
)
from feeds.model import ChainStats, Gas
from orchestrator import http
from orchestrator.errors import BadQuery, Malformed, NotFound, Outdated, ProviderError, Unavailable
from orchestrator.http import HttpRequest, HttpResponse, json_body
from orchestrator.provider import Steps

NAME = "blockscout"
PATH = "/api/v2/stats"

OUTDATED_AFTER_MS = 5 * 60 * 1000
"""Its gas prices are renewed every half minute or so."""

LARGEST_GWEI = 1e9
"""A whole coin for one unit of gas."""
LARGEST_PRICE_USD = 1e9
LONGEST_BLOCK_MS = 24 * 3600 * 1000.0


@dataclass(frozen=True, slots=True)
class Blockscout:
    """An account; `key` (PRO) is optional."""

    key: str | None = field(default=None, repr=False)
    name: str = NAME

    def serves(self, chain: Chain) -> bool:
        """Whether the page shows this chain: that of one instance shows its own only."""
        return chain == ETHEREUM

    def gas(self, chain: Chain = ETHEREUM) -> Steps[Gas]:
        """Ask for fees in gwei; there is no base fee and no block.

        Raises: Unavailable while the page has no gas prices, Outdated if they are minutes old, Malformed.
        """
        response = yield self._request()
        return read_gas(self.name, response, chain)

    def stats(self, chain: Chain = ETHEREUM) -> Steps[ChainStats]:
        """Ask for block time, price in US dollars and utilisation.

        Raises: Malformed if the page tells none of them, Outdated if it is minutes old by the stamp of its gas prices.
        """
        response = yield self._request()
        return read_stats(self.name, response, chain)

    def _request(self) -> HttpRequest:
        return HttpRequest(PATH, headers={"Authorization": f"Bearer {self.key}"} if self.key else {})


def read_gas(provider: str, response: HttpResponse, chain: Chain) -> Gas:
    """Read `gas_prices` of the page. Raises: as `Blockscout.gas`."""
    page = _page(provider, response)
    prices = page.get("gas_prices")
    if prices is None:
        raise Unavailable(provider, "has no gas prices now")
    if not isinstance(prices, dict):
        raise Malformed(provider, "gas prices are not an object")
    slow, standard, fast = (_gwei(prices, name) for name in ("slow", "average", "fast"))
    if slow is None and standard is None and fast is None:
        if any(value is not None for value in prices.values()):
            raise Malformed(provider, "no readable gas price")
        raise Unavailable(provider, "has no gas prices now")
    ts = _renewed_ms(provider, page, response)
    return Gas(chain.name, chain.chain_id, slow, standard, fast, base_fee=None, block=None, ts=ts)


def read_stats(provider: str, response: HttpResponse, chain: Chain) -> ChainStats:
    """Read the state of the chain off the page. Raises: as `Blockscout.stats`."""
    page = _page(provider, response)
    block_time_ms = maybe(at_most(LONGEST_BLOCK_MS, positive), page, "average_block_time")
    price_usd = maybe(at_most(LARGEST_PRICE_USD, positive), page, "coin_price")
    used_pct = maybe(at_most(100.0, amount), page, "network_utilization_percentage")
    if block_time_ms is None and price_usd is None and used_pct is None:
        raise Malformed(provider, "no readable figure")
    return ChainStats(
        chain.name,
        chain.chain_id,
        height=None,
        block_time_s=None if block_time_ms is None else block_time_ms / 1000,
        price_usd=price_usd,
        supply=None,
        utilisation_pct=used_pct,
        ts=_renewed_ms(provider, page, response),
    )


def _renewed_ms(provider: str, page: Mapping[str, object], response: HttpResponse) -> int:
    """Return when the page was made, by its own clock: its gas prices are stamped.

    Raises: Outdated if that was minutes ago.
    """
    now_ms = response.received_ms if response.date_ms is None else response.date_ms
    updated_ms = maybe_iso_ms(page, "gas_price_updated_at")
    if updated_ms is None:
        return now_ms
    if now_ms - updated_ms > OUTDATED_AFTER_MS:
        raise Outdated(provider, f"gas prices are {(now_ms - updated_ms) // 1000} s old")
    return min(updated_ms, now_ms)


def refusal(provider: str, response: HttpResponse) -> ProviderError | None:
    """Return the error of an answer.

    A page that is gone is the provider's doing: there is one question, and it was right.
    """
    error = http.refusal(provider, response)
    return Unavailable(provider, error.reason) if isinstance(error, NotFound | BadQuery) else error


def _page(provider: str, response: HttpResponse) -> Mapping[str, object]:
    body = json_body(provider, response)
    if isinstance(body, str):
        raise Unavailable(provider, f"says: {body[:100]}")
    if not isinstance(body, dict):
        raise Malformed(provider, "not a JSON object")
    return body


def _gwei(prices: Mapping[str, object], name: str) -> float | None:
    """Return a number, or the object with a `price` that newer versions give. 0 is a fee."""
    value = prices.get(name)
    if isinstance(value, dict):
        prices = {name: value.get("price", value)}
    return maybe(at_most(LARGEST_GWEI, amount), prices, name)

"""Etherscan V2: fees and state of a chain, one key for all chains. What to ask, how to read the answers. Pure.

Etherscan says 200 also when it refuses (`{"status":"0","message":"NOTOK","result":"<why>"}`), so `refusal` reads
bodies. The reader of every answer applies it too. Texts of theirs are repeated only with whatever could be a key
blotted out.

Source: docs.etherscan.io, API V2 (2026-11).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from feeds.chains import ETHEREUM, Chain
from feeds.fields import BadFieldError, amount, at_most, maybe, maybe_whole, positive
from feeds.model import ChainStats, Gas
from orchestrator import http
from orchestrator.errors import (
    BadQuery,
    Malformed,
    NotFound,
    ProviderError,
    RateLimited,
    Unauthorized,
    Unavailable,
)
from orchestrator.http import HttpRequest, HttpResponse, json_body, maybe_json
from orchestrator.provider import Steps

NAME = "etherscan"
BACKUP_NAME = "etherscan_backup"
PATH = "/v2/api"

DAY_MS = 24 * 3600 * 1000
PER_SECOND_COOLDOWN_S = 1.0
BAD_KEYS_COOLDOWN_S = 30.0
"""The time for which an address is shut out because of bad keys; the other key may have been the bad one."""

LARGEST_GWEI = 1e9
"""A whole coin for one unit of gas."""

LARGEST_PRICE_USD = 1e9
PRICE_OUTDATED_AFTER_MS = 3600 * 1000

_WEI = re.compile(r"[0-9]{1,40}")
_HEX = re.compile(r"0x[0-9a-fA-F]{1,16}")
_MAYBE_A_KEY = re.compile(r"[A-Za-z0-9]{16,}")
_EMPTY = ("no transactions found", "no records found")
_PRICE_FIELDS = {"POL": ("polusd", "maticusd"), "XDAI": ("xdaiusd", "daiusd")}


@dataclass(frozen=True, slots=True)
class Etherscan:
    """An account. Its key travels apart from the other parameters, so that nothing logs or records it."""

    key: str = field(repr=False)
    name: str = NAME

    def serves(self, chain: Chain) -> bool:
        """Whether a free key reads this chain."""
        return chain.free_on_etherscan

    def gas(self, chain: Chain = ETHEREUM) -> Steps[Gas]:
        """Ask for fees in gwei, as the oracle suggests them. Some chains have no base fee there. One call.

        Raises: as `refusal`, or Malformed if there is no fee in the answer.
        """
        response = yield self._request(chain, "gastracker", "gasoracle")
        return _gas(self.name, _oracle(self.name, response), chain, response.received_ms)

    def stats(self, chain: Chain = ETHEREUM) -> Steps[ChainStats]:
        """Ask for height, price in US dollars, supply in whole coins, utilisation.

        Three calls for Ethereum: a second's worth.

        The height is the block of the oracle, or asked for apart where the oracle names none; the block time is what
        the chain's protocol aims at. Price and supply may fail alone, which leaves them None.
        Raises: as `refusal`.
        """
        # `may_be`: that there is no oracle, price or supply is for this conversation to judge.
        response = yield self._request(chain, "gastracker", "gasoracle", may_be=(200,))
        oracle: Mapping[str, object]
        try:
            oracle = _oracle(self.name, response)
            height = maybe_whole(oracle, "LastBlock")
        except (NotFound, BadQuery, Malformed):
            oracle, height = {}, None
        if height is None:
            response = yield self._request(chain, "proxy", "eth_blockNumber")
            height = _block_number(self.name, response)
        price_usd = _price_in_oracle(oracle, chain)
        if price_usd is None and not chain.testnet:
            response = yield self._request(chain, "stats", "ethprice", may_be=(200,))
            price_usd = _price(self.name, response, chain)
        supply = None
        if chain == ETHEREUM:
            response = yield self._request(chain, "stats", "ethsupply2", may_be=(200,))
            supply = _supply(self.name, response)
        return ChainStats(
            chain.name,
            chain.chain_id,
            height=height,
            block_time_s=chain.block_time_s,
            price_usd=price_usd,
            supply=supply,
            utilisation_pct=_utilisation_pct(oracle),
            ts=response.received_ms,
        )

    def _request(self, chain: Chain, module: str, action: str, may_be: tuple[int, ...] = ()) -> HttpRequest:
        params = {"chainid": str(chain.chain_id), "module": module, "action": action}
        return HttpRequest(PATH, params, secrets={"apikey": self.key}, may_be=may_be)


def refusal(provider: str, response: HttpResponse) -> ProviderError | None:
    """Return the error of an answer, by its status, or by its body under status 200; None for a result.

    RateLimited for asking too often (until midnight UTC when the day's calls are used up), Unauthorized for the key,
    NotFound for a chain or module that the plan has not, BadQuery for a question it does not understand, Unavailable
    for troubles of its own and for a V1 address, which gives no data ever again.
    """
    error = http.refusal(provider, response)
    if isinstance(error, NotFound):
        return Unavailable(provider, "status 404")  # Etherscan answers 200 for what it does not have
    if error is not None:
        return error
    body = maybe_json(response)  # a body that is not JSON is reported by the reader
    if not isinstance(body, dict):
        return None
    if "error" in body:
        said = body["error"]
        return _meant(provider, str(said.get("message") if isinstance(said, dict) else said), response)
    if str(body.get("status", "1")) != "0":
        return None
    said = f"{body.get('result')} {body.get('message')}"
    if any(words in said.lower() for words in _EMPTY):
        return None
    return _meant(provider, said, response)


def _meant(provider: str, said: str, response: HttpResponse) -> ProviderError:
    words = said.lower()

    def told(*phrases: str) -> bool:
        return any(phrase in words for phrase in phrases)

    # First: the text of a limit may end in advice on V1 and V2 or on keys.
    if told("rate limit", "daily limit", "limit reached"):
        if told("daily", "per day", "day/limit"):
            now_ms = response.received_ms if response.date_ms is None else response.date_ms
            return RateLimited(provider, (DAY_MS - now_ms % DAY_MS) / 1000)
        return RateLimited(provider, PER_SECOND_COOLDOWN_S)
    if told("too many invalid api key"):
        return RateLimited(provider, BAD_KEYS_COOLDOWN_S)
    if told("deprecated v1"):
        return Unavailable(provider, "the address is of the dead V1 API; V2 is at /v2/api")
    if told("not supported for this chain", "free api access", "free tier", "api pro", "upgrade your", "chainid"):
        return NotFound(provider, "not in this key's plan, or no such chain")
    if told("api key") and not told("try again", "temporar", "internal", "unavailable", "timeout", "timed out"):
        return Unauthorized(provider, "missing or invalid API key")
    if told("invalid action", "invalid module", "missing or invalid", "method not found", "invalid parameter"):
        return BadQuery(provider, "does not know this question")
    return Unavailable(provider, f"says: {_MAYBE_A_KEY.sub('…', said)[:120]}")


def _result(provider: str, response: HttpResponse) -> object:
    refused = refusal(provider, response)
    if refused is not None:
        raise refused
    body = json_body(provider, response)
    if not isinstance(body, dict) or "result" not in body:
        raise Malformed(provider, "no result in the body")
    return body["result"]


def _oracle(provider: str, response: HttpResponse) -> Mapping[str, object]:
    result = _result(provider, response)
    if not isinstance(result, dict):
        raise Malformed(provider, "the gas oracle's result is not an object")
    return result


def _gas(provider: str, oracle: Mapping[str, object], chain: Chain, ts: int) -> Gas:
    slow, standard, fast, base_fee = (
        _gwei(oracle, name) for name in ("SafeGasPrice", "ProposeGasPrice", "FastGasPrice", "suggestBaseFee")
    )
    block = maybe_whole(oracle, "LastBlock")
    if slow is None and standard is None and fast is None:
        raise Malformed(provider, "the gas oracle names no fee")
    return Gas(chain.name, chain.chain_id, slow, standard, fast, base_fee, block, ts)


def _gwei(oracle: Mapping[str, object], name: str) -> float | None:
    """Return a fee; 0 is one, an empty text is none."""
    return maybe(at_most(LARGEST_GWEI, amount), oracle, name) if oracle.get(name) != "" else None


def _block_number(provider: str, response: HttpResponse) -> int:
    result = _result(provider, response)
    if not isinstance(result, str) or _HEX.fullmatch(result) is None:
        raise Malformed(provider, "the block number is not a hex number")
    return int(result, 16)


def _price_in_oracle(oracle: Mapping[str, object], chain: Chain) -> float | None:
    """Read `UsdPrice`, the price of the chain's coin, which the oracles of chains other than Ethereum add."""
    return None if chain.testnet else maybe(at_most(LARGEST_PRICE_USD, positive), oracle, "UsdPrice")


def _price(provider: str, response: HttpResponse, chain: Chain) -> float | None:
    """Return the price of the chain's coin.

    Of a chain whose coin is not ether, `ethusd` may mean either: it is not taken.
    """
    names = _PRICE_FIELDS.get(chain.symbol, (f"{chain.symbol.lower()}usd",))
    try:
        result = _result(provider, response)
        if not isinstance(result, dict):
            return None
        name = next((name for name in names if result.get(name) is not None), None)
        if name is None:
            return None
        stamp = f"{name}_timestamp"
        told_s = maybe_whole(result, stamp)
        now_ms = response.received_ms if response.date_ms is None else response.date_ms
        if told_s is not None and now_ms - told_s * 1000 > PRICE_OUTDATED_AFTER_MS:
            return None
        return maybe(at_most(LARGEST_PRICE_USD, positive), result, name)
    except (NotFound, BadQuery, Malformed, Unavailable):
        return None


def _supply(provider: str, response: HttpResponse) -> float | None:
    """Read the supply of ether: what was issued to miners, plus the rewards of staking, less what was burnt.

    `ethsupply` alone is the first of the three, more than there is by some 2 %.
    """
    try:
        result = _result(provider, response)
    except (NotFound, BadQuery, Malformed, Unavailable):
        return None
    if not isinstance(result, dict):
        return None
    mined, staking, burnt = (maybe(_wei, result, name) for name in ("EthSupply", "Eth2Staking", "BurntFees"))
    if mined is None or staking is None or burnt is None or mined + staking - burnt <= 0:
        return None
    return (mined + staking - burnt) / 10**18  # of integers, so the result is the nearest double


def _wei(row: Mapping[str, object], name: str) -> int:
    value = row.get(name)
    if not isinstance(value, str) or not _WEI.fullmatch(value):
        raise BadFieldError(name)
    return int(value)


def _utilisation_pct(oracle: Mapping[str, object]) -> float | None:
    return maybe(_mean_pct, oracle, "gasUsedRatio") or None  # a bare 0 is what chains without this figure say


def _mean_pct(oracle: Mapping[str, object], name: str) -> float:
    """Return the mean of one to five fractions in one text, in percent."""
    said = oracle[name]
    if not isinstance(said, str | int | float) or isinstance(said, bool):
        raise BadFieldError(name)
    parts = str(said).split(",", 5)[:5]
    return 100 * sum(at_most(1, amount)({name: part.strip()}, name) for part in parts) / len(parts)

"""The chains that have a name here: `ethereum`, its id, its coin, and the sources that serve it without a key. Pure.

Source: Etherscan API V2, supported chains and free plan (2026-11); block times from each chain's own documentation.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain. `symbol` is the coin that pays its fees."""

    name: str
    chain_id: int
    symbol: str
    free_on_etherscan: bool
    """One Etherscan key reads every chain, but a free key only some of them."""
    block_time_s: float | None
    """The block time that its protocol aims at; None where that varies or changes often."""
    aliases: tuple[str, ...] = ()
    testnet: bool = False
    """Its coin is worth nothing, whatever it is called."""


class UnknownChainError(ValueError):
    """No chain has this name; the text repeats it and lists those there are."""

    def __init__(self, text: str) -> None:
        super().__init__(f"chain {text[:40]!r} is not one of {', '.join(chain.name for chain in CHAINS)}")
        self.text = text


ETHEREUM = Chain("ethereum", 1, "ETH", True, 12.0, ("eth", "mainnet", "ether", "homestead"))

CHAINS = (
    ETHEREUM,
    Chain("polygon", 137, "POL", True, 2.0, ("matic", "pol")),
    Chain("arbitrum", 42161, "ETH", True, 0.25, ("arb", "arbitrumone")),
    Chain("linea", 59144, "ETH", True, None),
    Chain("blast", 81457, "ETH", True, 2.0),
    Chain("bttc", 199, "BTT", True, 2.0, ("btt", "bittorrent")),
    Chain("celo", 42220, "CELO", True, 1.0),
    Chain("fraxtal", 252, "FRAX", True, 2.0, ("frax",)),
    Chain("gnosis", 100, "XDAI", True, 5.0, ("xdai", "gno")),
    Chain("sepolia", 11155111, "ETH", True, 12.0, testnet=True),
    Chain("hoodi", 560048, "ETH", True, 12.0, testnet=True),
    Chain("bsc", 56, "BNB", False, None, ("bnb", "binance", "bnbchain", "binancesmartchain")),
    Chain("base", 8453, "ETH", False, 2.0),
    Chain("optimism", 10, "ETH", False, 2.0, ("op", "opmainnet")),
    Chain("avalanche", 43114, "AVAX", False, None, ("avax", "avalanchec", "cchain")),
)

_BY_SPELLING = {
    spelling: chain for chain in CHAINS for spelling in (chain.name, str(chain.chain_id), hex(chain.chain_id))
} | {alias: chain for chain in CHAINS for alias in chain.aliases}


def chain_named(text: str) -> Chain:
    """Return the chain that a name, an id (`1`, `0x1`) or a common other name (`eth`, `Arbitrum One`) means, in any
    case.

    Raises: UnknownChainError.
    """
    spelling = text.strip().lower()
    for mark in (" ", "-", "_"):
        spelling = spelling.replace(mark, "")
    try:
        return _BY_SPELLING[spelling]
    except KeyError:
        raise UnknownChainError(text) from None

"""Which chain a word means."""

import pytest

from feeds.chains import CHAINS, ETHEREUM, UnknownChainError, chain_named


@pytest.mark.parametrize("spelling", ["ethereum", "Ethereum", " ETH ", "eth", "1", "0x1", "mainnet"])
def test_ethereum_goes_by_many_names(spelling: str) -> None:
    assert chain_named(spelling) is ETHEREUM


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("matic", "polygon"),
        ("POL", "polygon"),
        ("137", "polygon"),
        ("Arbitrum One", "arbitrum"),
        ("arbitrum-one", "arbitrum"),
        ("bnb_chain", "bsc"),
        ("op", "optimism"),
        ("avax", "avalanche"),
        ("0xaa36a7", "sepolia"),
    ],
)
def test_a_chain_is_found_by_alias_id_and_spelling(spelling: str, name: str) -> None:
    assert chain_named(spelling).name == name


@pytest.mark.parametrize("spelling", ["", "nochain", "2", "ethereum2", "gas.ethereum", "1.0", "x" * 500])
def test_an_unknown_chain_is_refused_by_name(spelling: str) -> None:
    with pytest.raises(UnknownChainError) as caught:
        chain_named(spelling)
    assert repr(spelling[:40]) in str(caught.value)
    assert "ethereum, polygon" in str(caught.value)
    assert len(str(caught.value)) < 300


def test_no_two_chains_share_a_name_an_id_or_an_alias() -> None:
    spellings = [each for chain in CHAINS for each in (chain.name, str(chain.chain_id), *chain.aliases)]
    assert len(set(spellings)) == len(spellings)
    assert all(chain_named(chain.name) is chain for chain in CHAINS)


def test_names_are_words_that_a_topic_can_hold() -> None:
    assert all(chain.name.isascii() and chain.name.isalpha() and chain.name.islower() for chain in CHAINS)


def test_the_chains_a_free_etherscan_key_does_not_read_are_known() -> None:
    paid = {chain.name for chain in CHAINS if not chain.free_on_etherscan}
    assert paid == {"bsc", "base", "optimism", "avalanche"}

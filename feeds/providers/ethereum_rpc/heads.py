"""Reads blocks, and checks that a node is on the right chain and that its newest block is fresh."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from feeds.chains import Chain
from feeds.providers.ethereum_rpc.calls import NAME, Question, Replies
from orchestrator.errors import (
    Blocked,
    Malformed,
    Outdated,
)
from orchestrator.http import HttpResponse

FRESH_MS = 60_000
"""Five blocks; a node further behind is not following the chain."""
QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,64}")
CHAIN_ID = Question(1, "eth_chainId")
LATEST = Question(2, "eth_getBlockByNumber", ("latest", False))
EARLIER_ID = 4


@dataclass(frozen=True, slots=True)
class Block:
    """A block's number and time."""

    number: int
    ts: int
    """Unix ms."""


def read_quantity(value: object, what: str, largest: int = 2**63) -> int:
    """Return a hex number such as `0x1dfd14000`, and nothing like it."""
    if not isinstance(value, str) or QUANTITY.fullmatch(value) is None:
        raise Malformed(NAME, f"{what} is not a hex number")
    number = int(value, 16)
    if number > largest:
        raise Malformed(NAME, f"{what} is absurd")
    return number


def read_mapping(value: object, what: str) -> Mapping[str, object]:
    """Return an object of a reply. Raises Malformed for anything else."""
    if not isinstance(value, dict):
        raise Malformed(NAME, f"{what} is not an object")
    return value


def read_list(value: object, what: str) -> list[object]:
    """Return a list of a reply. Raises Malformed for an empty one and anything else."""
    if not isinstance(value, list) or not value:
        raise Malformed(NAME, f"{what} is not a list")
    return cast(list[object], value)


def newest_block(replies: Replies, chain: Chain) -> Block:
    """Read the newest block of the right chain. Raises as `check_chain` and `check_fresh`."""
    check_chain(NAME, replies[CHAIN_ID.id], chain)
    block = read_block(NAME, replies[LATEST.id])
    check_fresh(NAME, block, replies.response)
    return block


def check_chain(provider: str, chain_id: object, chain: Chain) -> None:
    """Raise Blocked if a node is on another chain."""
    found = read_quantity(chain_id, "chain id", 2**255)
    if found != chain.chain_id:
        raise Blocked(provider, f"is a node of chain {found}, not of {chain.chain_id}")


def check_fresh(provider: str, block: Block, response: HttpResponse) -> None:
    """Raise Outdated if a node's newest block is old, Malformed if it is from the future."""
    now_ms = response.received_ms if response.date_ms is None else response.date_ms
    if now_ms - block.ts >= FRESH_MS:
        raise Outdated(provider, f"newest block is {(now_ms - block.ts) // 1000} s old")
    if block.ts - now_ms >= FRESH_MS:
        raise Malformed(provider, f"newest block is {(block.ts - now_ms) // 1000} s in the future")


def read_block(provider: str, value: object) -> Block:
    """Read a block. Raises Malformed."""
    if not isinstance(value, dict):
        raise Malformed(provider, "block is not an object")
    number = read_quantity(value.get("number"), "block number")
    return Block(number, 1000 * read_quantity(value.get("timestamp"), "block time", 10**11))

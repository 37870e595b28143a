"""Public JSON-RPC nodes of Ethereum: fees from the fee history, state from the newest block. Pure.

Nodes belong to strangers, so each answer is believed only if the node says that it is on the right chain, and its
newest block is fresh. `refusal` checks that already, so that the next node gets its turn; the conversation does again.

Source: ethereum.org JSON-RPC API, execution-apis `eth_feeHistory`; JSON-RPC 2.0 (batches come back in any order).
"""

from feeds.providers.ethereum_rpc.calls import NAME
from feeds.providers.ethereum_rpc.questions import gas, serves, stats
from feeds.providers.ethereum_rpc.refusals import refusal

__all__ = ["NAME", "gas", "refusal", "serves", "stats"]

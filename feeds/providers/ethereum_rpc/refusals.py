"""The errors that a node's answer means, so that the next node gets its turn."""

from collections.abc import Mapping

from feeds.chains import ETHEREUM
from feeds.providers.ethereum_rpc.calls import error_of, id_of
from feeds.providers.ethereum_rpc.heads import CHAIN_ID, EARLIER_ID, LATEST, check_chain, check_fresh, read_block
from orchestrator import http
from orchestrator.errors import (
    BadQuery,
    Blocked,
    Malformed,
    NotFound,
    ProviderError,
    RateLimited,
    Unavailable,
)
from orchestrator.http import HttpResponse, maybe_json


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
    said, question_id = error_of(provider, reply), id_of(reply)
    if said is not None:
        # Without an id it is about a batch as such, and the earlier block is not needed that much.
        if isinstance(said, RateLimited | Blocked) or question_id not in (None, EARLIER_ID):
            raise said
    elif question_id == CHAIN_ID.id:
        check_chain(provider, reply.get("result"), ETHEREUM)
    elif question_id == LATEST.id:
        check_fresh(provider, read_block(provider, reply.get("result")), response)

"""Asks nodes JSON-RPC questions, in one batch or one by one, and reads the errors in their replies."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import orjson

from orchestrator.errors import (
    Blocked,
    Malformed,
    ProviderError,
    RateLimited,
    Unavailable,
)
from orchestrator.http import HttpRequest, HttpResponse, json_body, maybe_json
from orchestrator.provider import Steps

NAME = "ethereum_rpc"
NO_BATCH = (400, 405, 413, 415, 422, 501)
"""Statuses by which nodes say that they take no batches."""


@dataclass(frozen=True, slots=True)
class Question:
    """One call. The id names the question, so that a node's answers are recognised by it."""

    id: int
    method: str
    params: Sequence[object] = ()

    def as_json(self) -> Mapping[str, object]:
        return {"jsonrpc": "2.0", "id": self.id, "method": self.method, "params": list(self.params)}


@dataclass(frozen=True, slots=True)
class Replies:
    """Results by id, and the last response, whose clock shows how old a block is."""

    results: Mapping[int, object]
    response: HttpResponse

    def __getitem__(self, question_id: int) -> object:
        return self.results[question_id]


def request_for(*questions: Question, batch: bool = False) -> HttpRequest:
    """Return the request of one question, or of a batch."""
    body: object = [each.as_json() for each in questions] if batch else questions[0].as_json()
    return HttpRequest(
        "",
        method="POST",
        headers={"Content-Type": "application/json"},
        body=orjson.dumps(body),
        weight=float(len(questions)),
        may_be=NO_BATCH if batch else (),
    )


def ask(questions: Sequence[Question]) -> Steps[Replies]:
    """Ask for the results of the questions, by id: in one batch, or one by one from a node that takes none."""
    response = yield request_for(*questions, batch=True)
    results = _of_batch(response, questions)
    if results is None:
        results = {}
        for question in questions:
            response = yield request_for(question)
            results[question.id] = of_single(response, question)
    return Replies(results, response)


def _of_batch(response: HttpResponse, questions: Sequence[Question]) -> dict[int, object] | None:
    """Return the results by id; None if the node takes no batches."""
    if response.status in NO_BATCH:
        body: object = maybe_json(response)
        if body is None:
            return None
    else:
        body = json_body(NAME, response)
    replies = [reply for reply in body if isinstance(reply, dict)] if isinstance(body, list) else None
    if replies is None or (len(replies) == 1 and replies[0].get("id") is None):
        # One error for all: about batches, unless single calls would meet it too.
        error = error_of(NAME, replies[0] if replies else body)
        if isinstance(error, RateLimited | Blocked):
            raise error
        if error is None and response.status not in NO_BATCH:
            raise Malformed(NAME, "a batch was answered by neither replies nor an error")
        return None
    by_id = {id_of(reply): reply for reply in replies}
    results: dict[int, object] = {}
    for question in questions:
        reply = by_id.get(question.id)
        if reply is None:
            raise _first_error(replies) or Malformed(NAME, f"no reply to {question.method}")
        results[question.id] = _result_of(reply, question)
    return results


def of_single(response: HttpResponse, question: Question) -> object:
    """Return the result of one question that was asked alone. Raises ProviderError."""
    body = json_body(NAME, response)
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    if not isinstance(body, dict):
        raise Malformed(NAME, f"{question.method} was not answered by an object")
    return _result_of(body, question)


def _result_of(reply: Mapping[str, object], question: Question) -> object:
    error = error_of(NAME, reply)
    if error is not None:
        raise error
    if id_of(reply) != question.id:
        raise Malformed(NAME, f"{question.method} was answered under another id")
    if reply.get("result") is None:
        raise Malformed(NAME, f"no result of {question.method}")
    return reply["result"]


def id_of(reply: Mapping[str, object]) -> int | None:
    """Return the id of a reply; None if it is not a whole number."""
    said = reply.get("id")
    if isinstance(said, str) and said.isascii() and said.isdigit():
        return int(said[:9])
    return said if isinstance(said, int) and not isinstance(said, bool) else None


def _first_error(replies: Iterable[Mapping[str, object]]) -> ProviderError | None:
    return next((error for error in (error_of(NAME, reply) for reply in replies) if error is not None), None)


def error_of(provider: str, reply: object) -> ProviderError | None:
    """Return what the `error` member means.

    A node that wants a key is Blocked: there is no key to set, others want none.
    """
    said = reply.get("error") if isinstance(reply, dict) else None
    if said is None:
        return None
    code = said.get("code") if isinstance(said, dict) else None
    message = str(said.get("message") if isinstance(said, dict) else said)
    words = message.lower()
    if code in (-32005, -32016, -32029, 429) or any(
        phrase in words for phrase in ("rate limit", "too many requests", "limit exceeded", "usage limit", "quota")
    ):
        return RateLimited(provider, None)
    if code == -32046 or "cannot fulfill" in words:
        return Blocked(provider, "no longer serves (cannot fulfil requests)")
    if code in (401, 403) or any(
        phrase in words for phrase in ("unauthorized", "api key", "apikey", "authenticate", "forbidden")
    ):
        return Blocked(provider, "wants a key now")
    return Unavailable(provider, f"JSON-RPC error {code if isinstance(code, int) else 'without a code'}")

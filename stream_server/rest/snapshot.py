"""Serve `/api/snapshot`: the last message of each topic, byte for byte as the streams carry it."""

from collections.abc import Sequence

import orjson
from aiohttp import web

from feeds.symbols import Symbols
from stream_server.access.parameter_kinds import MAX_AGE, topics_parameter
from stream_server.access.parameters import Parameters
from stream_server.context import CONTEXT, Context
from stream_server.delivery.shapes import Update
from stream_server.rest.answers import ANSWERS, Answer, answer_of_topics, respond
from stream_server.rest.endpoints import Endpoint, Tag
from stream_server.rest.rights import EVERYTHING, resolved
from stream_server.rest.shapes import EnvelopedSnapshot

TOPICS = topics_parameter("; all topics if absent")


async def snapshot(request: web.Request) -> web.Response:
    """Answer with the last message of each topic, ordered by id; of all topics without `topics`.

    While nothing happens the same answer is given again, without a look at any topic.
    """
    context, answers = request.app[CONTEXT], request.app[ANSWERS]
    question = ("snapshot", request.rel_url.raw_query_string)
    answer = answers.get(question)
    if answer is None:
        parameters = Parameters(request)
        selectors = parameters.selectors(context.symbols, otherwise=EVERYTHING)
        max_age_ms = parameters.read(MAX_AGE)
        parameters.check()
        answer = answers.put(question, _answer(context, selectors, max_age_ms))
    return respond(request, context, answer)


def _answer(context: Context, selectors: Sequence[str], max_age_ms: float | None) -> Answer:
    held = context.hub.snapshot(selectors)
    frames = [topic.last.json for topic in held if topic.last is not None]
    answer = answer_of_topics(context.hub, held, lambda: b"[%b]" % b",".join(frames), context.clock.now())
    answer.max_age_ms = max_age_ms
    answer.extra["stale_topics"] = [topic.name for topic in held if topic.stale]
    # Encoded once: the same answer is given as long as nothing happens.
    answer.extra["ttl_s"] = orjson.Fragment(orjson.dumps({topic.name: topic.ttl_s for topic in held}))
    return answer


def _reads(parameters: Parameters, symbols: Symbols) -> list[str]:
    return resolved(parameters.read(TOPICS) or EVERYTHING, symbols)


ENDPOINTS = (
    Endpoint(
        path="/api/snapshot",
        handler=snapshot,
        summary="The last message of each topic, as the streams carry it",
        tag=Tag.STREAMS,
        answer=EnvelopedSnapshot[list[Update]],
        parameters=(TOPICS, MAX_AGE),
        reads=_reads,
    ),
)

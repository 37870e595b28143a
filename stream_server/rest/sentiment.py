"""Serve `/api/sentiment/…`: the Fear & Greed index with its history, and the scores of a client's texts."""

import codecs
from collections.abc import Sequence

import orjson
from aiohttp import web

from feeds import topics
from feeds.model import FearGreed, Sentiment
from feeds.news.scores import Texts
from feeds.queries import HISTORY_DAYS
from orchestrator.upstream import ProviderState
from stream_server.access.parameter_kinds import MAX_AGE, Whole
from stream_server.access.parameters import SHOWN_CHARS, Parameters
from stream_server.connections.bodies import BODY
from stream_server.context import CONTEXT
from stream_server.rest.answers import ANSWERS, respond
from stream_server.rest.endpoints import Body, Endpoint, Tag
from stream_server.rest.rights import only
from stream_server.rest.shapes import (
    MAX_TEXT_CHARS,
    MAX_TEXTS,
    MODELS,
    Enveloped,
    FearGreedHistory,
    OneText,
    ScoredText,
    SeveralTexts,
)
from stream_server.rest.source_queries import Asking, asking_of
from stream_server.wire.refusals import Refusal

MAX_DAYS = 3000
HISTORIES = (HISTORY_DAYS, 90, 365, 1000, MAX_DAYS)
"""Numbers of days that sources are asked for: few different questions serve all clients."""

LIMIT = Whole("limit", "Maximum number of days", low=1, high=MAX_DAYS, default=HISTORY_DAYS)

MAX_BODY_BYTES = MAX_TEXTS * MAX_TEXT_CHARS * 6 + 4096
"""The limit of a body. JSON may take six bytes for a character."""
PROBLEMS_NAMED = 20


async def fear_and_greed(request: web.Request) -> web.Response:
    """Answer with the index of today and of the last days, the newest first."""
    context, asking = request.app[CONTEXT], asking_of(request)
    parameters = Parameters(request)
    limit = parameters.read(LIMIT)
    max_age_ms = parameters.read(MAX_AGE)
    parameters.check()
    pool = asking.sources.sentiment.fear_greed
    fetched = await asking.fetch(pool, next(days for days in HISTORIES if days >= limit), max_age_ms)
    days = fetched.value[:limit]
    answer = asking.answer([(pool, fetched)], lambda: index_with_history(days), max_age_ms)
    return respond(request, context, request.app[ANSWERS].share(("fear_greed", limit), answer))


def index_with_history(days: Sequence[FearGreed]) -> FearGreedHistory:
    """Return the index with its history, of at least one day, the newest first."""
    return {
        "index": "fear_and_greed",
        "value": days[0].value,
        "classification": days[0].classification,
        "timestamp": days[0].ts,
        "next_update_s": days[0].next_update_s,
        "history": [{"value": day.value, "classification": day.classification, "timestamp": day.ts} for day in days],
    }


# --- texts ---


async def analyze(request: web.Request) -> web.Response:
    """Answer with a score for each text of the body, in their order."""
    context, asking = request.app[CONTEXT], asking_of(request)
    parameters = Parameters(request)
    max_age_ms = parameters.read(MAX_AGE)
    parameters.check()
    query = _read(request[BODY])
    pool = asking.sources.sentiment.scorer
    if not pool.serves(query):
        raise _not_served(asking, query)
    fetched = await asking.fetch(pool, query, max_age_ms)
    scores = fetched.value
    answer = asking.answer(
        [(pool, fetched)],
        lambda: [scored(text, score) for text, score in zip(query.texts, scores, strict=True)],
        max_age_ms,
    )
    return respond(request, context, answer)


def scored(text: str, score: Sentiment) -> ScoredText:
    """Return a text with its score."""
    return {
        "text": text,
        "label": score.label,
        "score": score.score,
        "model": score.model,
        "confidence": score.confidence,
    }


def _read(body: bytes) -> Texts:
    """Return the texts and the model of a body. Raises Refusal with all that is wrong in it."""
    try:
        asked = orjson.loads(body.removeprefix(codecs.BOM_UTF8))
    except orjson.JSONDecodeError:
        raise Refusal("bad_json", 'the body is not JSON such as {"texts": ["Bitcoin climbs"], "model": null}') from None
    if not isinstance(asked, dict):
        raise Refusal("bad_request", 'the body is not an object such as {"texts": ["Bitcoin climbs"]}')
    problems: dict[str, object] = {}
    texts = asked.get("texts")
    if texts is None and "text" in asked:
        texts = [asked["text"]]
    if not isinstance(texts, list) or not 1 <= len(texts) <= MAX_TEXTS:
        problems["texts"] = f"texts is not a list of 1 to {MAX_TEXTS} texts"
        texts = []
    for place, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            problems[f"texts[{place}]"] = f"texts[{place}] is not a text"
        elif len(text) > MAX_TEXT_CHARS:
            problems[f"texts[{place}]"] = f"texts[{place}] has {len(text)} characters; {MAX_TEXT_CHARS} are allowed"
    model = asked.get("model")
    if model is not None and model not in MODELS:
        problems["model"] = f"model {str(model)[:SHOWN_CHARS]!r} is not one of {', '.join(MODELS)}"
    if problems:
        named = dict(list(problems.items())[:PROBLEMS_NAMED])
        if "model" in problems:
            named["model"] = problems["model"]
        raise Refusal("bad_parameter", "; ".join(str(problem) for problem in named.values()), details=named)
    return Texts(tuple(texts), model)


def _not_served(asking: Asking, query: Texts) -> Refusal:
    """Return the refusal of a model that exists and that no enabled provider has."""
    disabled = {
        each.name: each.upstream.disabled
        for each in asking.sources.sentiment.scorer.providers
        if each.upstream.state is ProviderState.DISABLED and each.serves(query)
    }
    reasons = "; ".join(f"{name}: {reason}" for name, reason in disabled.items()) or "no provider has it"
    details: dict[str, object] = {"disabled": disabled}
    return Refusal("unavailable", f"model {query.model!r} is not served here ({reasons})", 503, details, 60)


ENDPOINTS = (
    Endpoint(
        path="/api/sentiment/global",
        handler=fear_and_greed,
        summary="Fear & Greed today and on the last days",
        tag=Tag.TEXTS,
        answer=Enveloped[FearGreedHistory],
        parameters=(LIMIT, MAX_AGE),
        reads=only(topics.SENTIMENT_GLOBAL),
        asks_sources=True,
    ),
    Endpoint(
        path="/api/sentiment/analyze",
        handler=analyze,
        summary="Sentiment scores of your texts, in their order",
        tag=Tag.TEXTS,
        answer=Enveloped[list[ScoredText]],
        parameters=(MAX_AGE,),
        method="POST",
        body=Body(MAX_BODY_BYTES, SeveralTexts | OneText, {"texts": ["Bitcoin climbs to a new high"], "model": None}),
        reads=only(),
        asks_sources=True,
        headers=("Age",),
    ),
)

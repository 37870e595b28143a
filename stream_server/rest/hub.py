"""`/api/snapshot` and `/api/topics`: what the hub holds and what can be subscribed."""

from collections.abc import Sequence

import orjson
from aiohttp import web

from feeds import topics
from feeds.chains import CHAINS
from feeds.intervals import INTERVALS
from stream_server.access.parameters import Parameters, only_max_age
from stream_server.access.tokens import Claims
from stream_server.context import CLAIMS, CONTEXT, Context
from stream_server.rest.answers import OURS, VIEWS, Answer, answer_of_topics, respond

PATTERNS = ("price.*", "ohlcv.*.1m", "ohlcv.BTC.>", "sentiment.*", "gas.*", ">")
OF_A_SYMBOL = ("price", "ohlcv", "sentiment")
ON_A_TAPE = ("price", "ohlcv", topics.STATUS)
"""The categories that a recording of the exchange feeds."""


async def snapshot(request: web.Request) -> web.Response:
    """`GET /api/snapshot?topics=price.BTC,ohlcv.>`: the last message of each topic, byte for byte, by id.

    All topics without `topics`. While nothing happens the same answer is given again, without a look at any topic.
    """
    context, views = request.app[CONTEXT], request.app[VIEWS]
    question = ("snapshot", request.rel_url.raw_query_string)
    answer = views.get(question)
    if answer is None:
        parameters = Parameters(request)
        selectors = parameters.selectors(context.symbols, otherwise=[">"])
        max_age_ms = parameters.max_age_ms()
        parameters.check()
        answer = views.put(question, _snapshot(context, selectors, max_age_ms))
    return respond(request, context, answer)


def _snapshot(context: Context, selectors: Sequence[str], max_age_ms: float | None) -> Answer:
    held = context.hub.snapshot(selectors)
    frames = [topic.last.json for topic in held if topic.last is not None]
    answer = answer_of_topics(context.hub, held, lambda: b"[%b]" % b",".join(frames), context.clock.now())
    answer.max_age_ms = max_age_ms
    answer.extra["stale_topics"] = [topic.name for topic in held if topic.stale]
    # Encoded once: the same answer is given as long as nothing happens.
    answer.extra["ttl_s"] = orjson.Fragment(orjson.dumps({topic.name: topic.ttl_s for topic in held}))
    return answer


async def list_topics(request: web.Request) -> web.Response:
    """`GET /api/topics`: what this client can subscribe to, and what of it has a value."""
    context, claims = request.app[CONTEXT], request[CLAIMS]
    max_age_ms = only_max_age(request)
    now = context.clock.now()
    held = [
        {
            "topic": topic.name,
            "kind": topics.kind_of(topic.name),
            "id": topic.last.cursor,
            "source": topic.event.source,
            "ts": topic.event.ts,
            "received": topic.event.received,
            "age_ms": topic.age_ms(now),
            "ttl_s": topic.ttl_s,
            "stale": topic.stale,
            "reason": topic.stale_reason if topic.stale else None,
            "events": topic.events,
            "held_log_events": len(topic.ring),
        }
        for topic in sorted(context.hub.current_topics().values(), key=lambda topic: topic.name)
        if topic.last is not None and topic.event is not None and claims.allow(topic.name)
    ]
    fed = [
        template
        for template in topics.TEMPLATES
        if (context.sources is not None or topics.category_of(template) in ON_A_TAPE)
        and claims.meets(topics.category_of(template))
    ]
    data = {
        "templates": fed,
        "kinds": {template: topics.kind_of(template) for template in fed},
        "patterns": [pattern for pattern in PATTERNS if claims.allow(pattern)],
        "symbols": [base for base in sorted(context.symbols.by_base) if _may_read_of(claims, base)],
        "intervals": INTERVALS,
        "chains": [chain.name for chain in CHAINS] if context.sources is not None else [],
        "topics": held,
    }
    answer = Answer(lambda: orjson.dumps(data), source=OURS, true_at=now, cached=False, max_age_ms=max_age_ms)
    return respond(request, context, answer)


def _may_read_of(claims: Claims, base: str) -> bool:
    """Whether anything of a symbol may be read."""
    return claims.everything or any(claims.meets(f"{category}.{base}") for category in OF_A_SYMBOL)

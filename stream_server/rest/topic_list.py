"""Serve `/api/topics`: the topics that a client can subscribe to, and those that have a value."""

import orjson
from aiohttp import web

from feeds import topics
from feeds.chains import CHAINS
from feeds.intervals import INTERVALS
from stream_server.access.parameter_kinds import MAX_AGE
from stream_server.access.parameters import only_max_age
from stream_server.access.tokens import Claims
from stream_server.context import CLAIMS, CONTEXT
from stream_server.rest.answers import OURS, Answer, respond
from stream_server.rest.endpoints import Endpoint, Tag
from stream_server.rest.rights import only
from stream_server.rest.shapes import Enveloped, HeldTopic, TopicList

PATTERNS = ("price.*", "ohlcv.*.1m", "ohlcv.BTC.>", "sentiment.*", "gas.*", ">")
OF_A_SYMBOL = ("price", "ohlcv", "sentiment")
ON_A_TAPE = ("price", "ohlcv", topics.STATUS)
"""The categories that a recording of the exchange feeds."""


async def list_topics(request: web.Request) -> web.Response:
    """Answer with the topics that the client may subscribe to, and with those of them that have a value."""
    context, claims = request.app[CONTEXT], request[CLAIMS]
    max_age_ms = only_max_age(request)
    now = context.clock.now()
    held: list[HeldTopic] = [
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
    data: TopicList = {
        "templates": fed,
        "kinds": {template: topics.kind_of(template) for template in fed},
        "patterns": [pattern for pattern in PATTERNS if claims.allow(pattern)],
        "symbols": [base for base in sorted(context.symbols.by_base) if _may_read_of(claims, base)],
        "intervals": list(INTERVALS),
        "chains": [chain.name for chain in CHAINS] if context.sources is not None else [],
        "topics": held,
    }
    answer = Answer(lambda: orjson.dumps(data), source=OURS, true_at=now, cached=False, max_age_ms=max_age_ms)
    return respond(request, context, answer)


def _may_read_of(claims: Claims, base: str) -> bool:
    """Return whether a token allows any topic of a symbol."""
    return claims.everything or any(claims.meets(f"{category}.{base}") for category in OF_A_SYMBOL)


ENDPOINTS = (
    Endpoint(
        path="/api/topics",
        handler=list_topics,
        summary="Topics you can subscribe to, and those that have a value",
        tag=Tag.STREAMS,
        answer=Enveloped[TopicList],
        parameters=(MAX_AGE,),
        reads=only(),
    ),
)

"""Answer whether a source is well. The answer is a 200 whatever the health is, because health is the question."""

from collections.abc import Awaitable, Callable, Mapping

import orjson
from aiohttp import web

from stream_server.access.parameters import only_max_age
from stream_server.rest.answers import Answer, respond
from stream_server.rest.source_queries import Asking, asking_of

HEALTH_WITHIN_S = 8.0

HealthOf = Callable[[Asking, float | None], Awaitable[tuple[Mapping[str, object], Answer]]]


async def answer_health(request: web.Request, health_of: HealthOf) -> web.Response:
    """Return the health of a source in the envelope of the answer that it comes from."""
    asking = asking_of(request)
    max_age_ms = only_max_age(request)
    data, answer = await health_of(asking, max_age_ms)
    answer.make = lambda: orjson.dumps(data)
    answer.version = ""
    answer.max_age_ms = max_age_ms
    return respond(request, asking.context, answer)

"""Wrap answers in their envelope, and keep the answers to recent questions.

Nothing is encoded for a client that has the answer already, or twice for two clients that ask the same.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import orjson
from aiohttp import web

from stream_server.connections.envelope import STARTED, iso_time
from stream_server.context import Context
from stream_server.delivery.hub import Hub
from stream_server.delivery.topic_history import TopicHistory
from stream_server.wire.headers import is_known
from stream_server.wire.refusals import Refusal

OURS = "stream_server"
"""The source of values that this service itself computes."""
ANSWERS_KEPT = 64


@dataclass(slots=True)
class Answer:
    """The data of an answer and the facts of its envelope. `make` returns the JSON text of the data; it is called once.

    `true_at` is when the oldest value in it was true at its source (monotonic seconds), `max_age_ms` the greatest age
    that the client accepts. `version` names the data if that is possible without reading them: equal versions mean
    equal data.
    """

    make: Callable[[], bytes]
    source: str
    true_at: float
    stale: bool = False
    cached: bool = True
    attempts: Sequence[dict[str, object]] = ()
    extra: dict[str, object] = field(default_factory=dict)
    version: str = ""
    max_age_ms: float | None = None
    written: bytes | None = None

    @property
    def data(self) -> bytes:
        """The JSON text of the data."""
        if self.written is None:
            self.written = self.make()
        return self.written

    @property
    def tag(self) -> str:
        """The ETag."""
        version = self.version or hashlib.blake2b(self.data, digest_size=9).hexdigest()
        return f'W/"{version}{"-stale" if self.stale else ""}"'

    def age_ms(self, now: float) -> int:
        """Return the age of the oldest value."""
        return max(0, round((now - self.true_at) * 1000))

    def is_too_old(self, now: float) -> bool:
        """Return whether the client does not accept values of this age."""
        if self.max_age_ms is None:
            return False
        # No value has age 0: 0 asks for what the sources return now, however old that is by their own account.
        is_bound = self.cached or self.max_age_ms > 0
        return is_bound and self.age_ms(now) > self.max_age_ms


def respond(request: web.Request, context: Context, answer: Answer) -> web.Response:
    """Return the response with an answer in its envelope, or 304 if the client has it.

    Raises Refusal 503 if it is older than the client allows. `Age` is rounded up to whole seconds, also of a 304.
    """
    now = context.clock.now()
    age_ms = answer.age_ms(now)
    if answer.is_too_old(now):
        raise too_old(age_ms, answer.attempts)
    headers = {"Cache-Control": "no-cache", "Age": str(-(-age_ms // 1000))}
    if request.method != "POST":
        headers["ETag"] = tag = answer.tag
        if is_known(request.headers, tag):
            return web.Response(status=304, headers=headers)
    body = {
        "success": True,
        "data": orjson.Fragment(answer.data),
        "source": answer.source,
        "timestamp": iso_time(context.clock.wall_ms()),
        "latency_ms": round((time.perf_counter() - request[STARTED]) * 1000, 2),
        "cached": answer.cached,
        "age_ms": age_ms,
        "stale": answer.stale,
        "attempts": answer.attempts,
        "position": context.hub.position,
        **answer.extra,
    }
    return web.Response(body=orjson.dumps(body), content_type="application/json", headers=headers)


def too_old(age_ms: int, attempts: Sequence[dict[str, object]] = (), retry_after_s: float = 1.0) -> Refusal:
    """Return the refusal of an answer older than `max_age`."""
    message = f"the newest answer is {age_ms / 1000:.1f} s old, older than max_age allows"
    details: dict[str, object] = {"age_ms": age_ms}
    if attempts:
        details["attempts"] = list(attempts)
    return Refusal("too_old", message, status=503, details=details, retry_after_s=retry_after_s)


# --- what the hub holds ---


def answer_of_topics(hub: Hub, held: Sequence[TopicHistory], make: Callable[[], bytes], now: float) -> Answer:
    """Return the answer with the last values of these topics.

    Its version is the newest id and the number of topics: any update of any of them has a newer id.
    """
    sources: set[str] = set()
    newest, stale, true_at = 0, 0, now
    for topic in held:
        event, last = topic.event, topic.last
        if event is not None:
            sources.add(event.source)
            true_at = min(true_at, topic.true_at)
        if last is not None and last.seq > newest:
            newest = last.seq
        stale += topic.stale
    return Answer(
        make,
        source=",".join(sorted(sources)),
        true_at=true_at,
        stale=stale > 0,
        version=f"{hub.epoch}-{newest}.{len(held)}.{stale}",
    )


class AnswerCache:
    """The answers to the most recent questions: whole until the hub publishes again, their text while equal."""

    def __init__(self, hub: Hub, size: int = ANSWERS_KEPT) -> None:
        self.hub = hub
        self.size = size
        self.kept: dict[tuple[object, ...], tuple[tuple[int, int] | None, Answer]] = {}

    def get(self, question: tuple[object, ...]) -> Answer | None:
        """Return the answer to this question, if nothing was published since it was given."""
        kept = self.kept.get(question)
        return kept[1] if kept is not None and kept[0] == (self.hub.seq, self.hub.freshness.aged) else None

    def put(self, question: tuple[object, ...], answer: Answer) -> Answer:
        """Keep an answer until the hub publishes again."""
        return self._keep(question, answer, (self.hub.seq, self.hub.freshness.aged))

    def share(self, question: tuple[object, ...], answer: Answer) -> Answer:
        """Keep the text of an answer that does not come from the hub."""
        return self._keep(question, answer, None)

    def _keep(self, question: tuple[object, ...], answer: Answer, state: tuple[int, int] | None) -> Answer:
        before = self.kept.pop(question, None)
        if before is not None and answer.version and before[1].version == answer.version:
            answer.written = before[1].written if answer.written is None else answer.written
        self.kept[question] = (state, answer)
        if len(self.kept) > self.size:
            del self.kept[next(iter(self.kept))]
        return answer


ANSWERS: web.AppKey[AnswerCache] = web.AppKey("answers", AnswerCache)

"""Read what the URL of a WebSocket asks for, and begin its session with that."""

from collections.abc import Iterable
from dataclasses import dataclass

from stream_server.access.parameter_kinds import BATCH, INTERVAL_MS
from stream_server.access.parameters import Asked, Parameters
from stream_server.delivery.session import Session
from stream_server.wire.refusals import Refusal


@dataclass(frozen=True, slots=True)
class Opening:
    """What the URL of a WebSocket asks for, and the refusal of what is wrong in it."""

    topics: list[str]
    since: str | None
    interval_ms: int
    batch: bool
    problem: Refusal | None

    @classmethod
    def read(cls, asked: Asked, last_event_id: Iterable[str] = ()) -> "Opening":
        """Read `?topics=…&since=…&interval_ms=…&batch=1` and the `Last-Event-ID` headers, which programs may send."""
        parameters = Parameters(asked)
        topics, interval_ms, batch = parameters.topics(), parameters.read(INTERVAL_MS), parameters.read(BATCH)
        since = parameters.cursor(last_event_id)
        parameters.text("ticket")  # the door has read it; a problem with it is reported here
        problem = None
        try:
            parameters.check()
        except Refusal as refusal:
            problem = Refusal("bad_request", refusal.message)
        return cls(topics, since, interval_ms, batch, problem)

    def begin(self, session: Session) -> None:
        """Greet the client, subscribe to what it asked for, and report what was wrong."""
        session.batch(self.batch)
        session.open(self.topics, self.since, self.interval_ms)
        if self.problem is not None:
            session.refuse(self.problem)

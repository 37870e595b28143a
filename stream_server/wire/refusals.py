"""The one table of every error code and close code that a client can get, with its sentence."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Closing:
    """The reason why we close a connection. Codes below 4500 mean that reconnecting helps."""

    code: int
    reason: str

    @property
    def reconnect(self) -> bool:
        """Whether the client should come back."""
        return self.code < 4500


FAULT = Closing(1011, "an internal error; the client can resume from its last id")
SHUTTING_DOWN = Closing(4001, "the server is shutting down")
TOO_SLOW = Closing(4008, "the client does not read fast enough; it can resume from its last id")
NO_PONG = Closing(4012, "no pong arrived in time")
TOO_MANY_REQUESTS = Closing(4013, "too many requests or streams now; try again later")
UNAUTHORISED = Closing(4500, "not authorised, or the token has expired")
PROTOCOL_ABUSE = Closing(4501, "too many invalid messages")
CONNECTION_LIMIT = Closing(4504, "the server has reached its limit of connections")
TOPIC_LIMIT = Closing(4505, "too many topics or patterns on this connection")

CLOSINGS = (
    FAULT,
    SHUTTING_DOWN,
    TOO_SLOW,
    NO_PONG,
    TOO_MANY_REQUESTS,
    UNAUTHORISED,
    PROTOCOL_ABUSE,
    CONNECTION_LIMIT,
    TOPIC_LIMIT,
)


class Refusal(Exception):
    """A request that is refused: `code` for programs, the text for people, `status` and `headers` for HTTP."""

    def __init__(
        self,
        code: str,
        message: str,
        status: int = 400,
        details: dict[str, object] | None = None,
        retry_after_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.details = details or {}
        self.retry_after_s = retry_after_s
        self.headers = headers or {}


CODES = {
    "bad_json": "a WebSocket message or the body of a request is not JSON",
    "bad_request": "a message, a body or its fields have the wrong shape",
    "upgrade_required": "the path serves WebSocket only, and the request asked for something else or another version",
    "binary_refused": "a binary WebSocket frame; messages are JSON text",
    "unknown_op": "an op that is not subscribe, unsubscribe, snapshot or ping",
    "unknown_topic": "a topic or pattern that no feed can supply",
    "topic_limit": "more topics or patterns than one connection may have",
    "demand_limit": "the limit of topics started on demand is reached, in total or for one address; try again later",
    "rate_limited": "more requests than allowed",
    "unauthorised": "a token is required, or the token is not valid",
    "forbidden": "the token may not read that, or pages of this origin may not connect",
    "body_timeout": "the body of the request did not arrive in time",
    "bad_parameter": "one or more parameters are invalid; `details` names each",
    "invalid_interval": "a candle interval that does not exist",
    "unknown_symbol": "no market has that symbol",
    "unknown_chain": "no chain has that name",
    "ambiguous": "several coins share that ticker, and `strict` was set; `details` names them",
    "not_found": "the path does not exist, or has nothing to return",
    "method_not_allowed": "the path does not allow that method",
    "too_old": "the data is older than `max_age` allows",
    "unavailable": "no source can answer now",
    "deadline": "no source answered in time",
    "connection_limit": "the server has reached its limit of connections",
    "shutting_down": "the server is shutting down",
    "internal": "an internal error of the server",
}
"""Error codes with their meaning, for the documentation and for the test that checks that none is missing."""

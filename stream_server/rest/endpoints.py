"""Define an endpoint: one entry of the table from which router, guard, body limits and `/openapi.json` are made.

Each file of a subject declares its own endpoints; `table.py` puts them together.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from aiohttp import web

from stream_server.access.parameter_kinds import Parameter, Topics
from stream_server.rest.rights import Reads, everything

JSON = "application/json"
HTML = "text/html"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Tag(StrEnum):
    """The chapters of the documentation."""

    MARKET = "Market"
    TEXTS = "News and sentiment"
    CHAIN = "Chains"
    STREAMS = "Streams and topics"
    SOURCES = "New sources"
    HEALTH = "Health"
    PAGES = "Documentation"


@dataclass(frozen=True, slots=True)
class Body:
    """The JSON body that an endpoint takes."""

    max_bytes: int
    shape: Any = None
    """The type of the body; None if it is ignored. Some libraries send an empty object with every POST."""
    example: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A path, who may ask it for what, and what it answers."""

    path: str
    handler: Handler
    summary: str
    tag: Tag
    answer: Any = None
    """The type of the JSON answer, or of the text of other media; None for no body."""
    parameters: Sequence[Parameter[Any]] = ()
    method: str = "GET"
    notes: str = ""
    body: Body | None = None
    reads: Reads = everything
    """The topics that a request reads, which a token must allow."""
    asks_sources: bool = False
    """Whether sources are asked, which may be unable to answer."""
    refuses: Sequence[int] = ()
    """Further statuses of refusals, which do not follow from the other fields."""
    is_public: bool = False
    """Whether it needs no token."""
    is_private: bool = False
    """Whether only this machine may ask, unless there are tokens or `METRICS_OPEN` is set."""
    guards_itself: bool = False
    """Whether its handler admits clients and reports wrong parameters, because it can do so in two ways."""
    is_stream: bool = False
    """Whether the answer is a stream of events. It takes one of the places for streams, and a ticket may open it."""
    status: int = 200
    media: Sequence[str] = (JSON,)
    headers: Sequence[str] = ("ETag", "Age")
    """The headers of the answer, besides those that every answer has."""
    also: Mapping[int, str] = field(default_factory=dict)
    """Other statuses of the same answer, each with its description."""
    is_described: bool = True
    """Whether the documents describe it; parts of pages are left out."""

    @property
    def names_topics(self) -> bool:
        """Whether a request names topics, so that its work grows with them."""
        return any(isinstance(each, Topics) for each in self.parameters)

    @property
    def max_body_bytes(self) -> int | None:
        """The most bytes of a body; None if it takes none."""
        return self.body.max_bytes if self.body is not None else None

"""Describes a provider: which upstream to ask and how to read its answer, without doing either.

A provider's knowledge is a generator: it yields requests, is sent their answers, and returns the value. It is pure, so
a test drives it with recorded bodies, and a conversation of several steps (a token first, then the list) reads from
top to bottom. `Pool` and `Upstream` do the asking.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Generic, TypeVar

from orchestrator.http import HttpRequest, HttpResponse
from orchestrator.upstream import Upstream

Q = TypeVar("Q")
T = TypeVar("T")

Steps = Generator[HttpRequest, HttpResponse, T]
"""Yields requests, is sent 2xx answers, returns the value. Raises Malformed, Outdated, NotFound or BadQuery; an error
that an answer's status means is raised by the asker and never reaches it."""


def anything(query: object) -> bool:
    """Return True: every question is served."""
    return True


@dataclass(frozen=True, slots=True)
class Provider(Generic[Q, T]):
    """One member of a pool."""

    upstream: Upstream
    ask: Callable[[Q], Steps[T]]
    weight: int = 1
    """Its share of the questions inside its tier."""
    serves: Callable[[Q], bool] = anything
    """Whether it could answer this question at all; one that could not is passed over in silence."""
    heavy: bool = False
    """Reading its answers takes long enough to be done off the event loop."""
    stamp_of: Callable[[T], int | None] | None = None
    """When its value was true by the provider's own stamp, in Unix ms; for providers that may repeat an old value."""
    mark_of: Callable[[T], int | None] | None = None
    """A number that changes whenever the value is renewed, of a provider that does not stamp it: a block's height."""
    max_lag_s: float = 600.0
    """An answer whose stamp is older than this, or whose mark has stood still for so long, is Outdated."""
    source_of: Callable[[T], str] | None = None
    """A finer name of where a value came from; the provider's own if not given."""

    @property
    def name(self) -> str:
        """Return the upstream's name, which is the `source` of its values."""
        return self.upstream.name

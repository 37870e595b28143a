"""Name the topics that a request reads, so that the guard can hold them to the rights of a token."""

from collections.abc import Callable, Sequence

from feeds.symbols import Symbols
from stream_server.access.parameters import Parameters
from stream_server.delivery.selectors import resolve
from stream_server.wire.refusals import Refusal

EVERYTHING = [">"]
Reads = Callable[[Parameters, Symbols], list[str]]
"""Returns the topics and patterns that a request reads."""


def everything(parameters: Parameters, symbols: Symbols) -> list[str]:
    """Return the pattern of all topics."""
    return EVERYTHING


def only(*selectors: str) -> Reads:
    """Return a function that names the same topics for each request; none if the answer has nothing of a topic."""
    return lambda parameters, symbols: list(selectors)


def resolved(selectors: Sequence[str], symbols: Symbols) -> list[str]:
    """Return these topics in canonical spelling; all topics if one of them is unknown."""
    try:
        good, bad = resolve(selectors, symbols)
    except Refusal:
        return EVERYTHING
    return EVERYTHING if bad else good

"""Read the topics and patterns that a client names, within one limit for all ways to name them.

Subscriptions, snapshots, `/sse`, the URL of `/ws` and REST all read here, so that all accept the same.
"""

from collections.abc import Collection, Iterable, Mapping

from feeds import topics
from feeds.symbols import Symbols
from feeds.topics import UnknownTopicError
from stream_server.wire.refusals import Refusal

MAX_TOPICS = 1000
MAX_PATTERNS = 16
NAMES_AN_OP = 100
"""This many topics in one request cost as much as another request; each pattern costs one."""
SENTENCES = 10


def resolve(wanted: Iterable[str], symbols: Symbols) -> tuple[list[str], dict[str, str]]:
    """Return canonical selectors, each once, and a sentence for each that nobody can feed.

    Raises Refusal `topic_limit`, before any of them is looked at, if there are too many.
    """
    named = dict.fromkeys(wanted)
    check_limit(named)
    good: dict[str, None] = {}
    bad: dict[str, str] = {}
    for selector in named:
        try:
            good[topics.canonical(selector, symbols)] = None
        except UnknownTopicError as error:
            bad[selector] = str(error)
    return list(good), bad


def check_limit(selectors: Collection[str]) -> None:
    """Raise Refusal `topic_limit` if one client may not have all of these."""
    patterns = _patterns(selectors)
    if patterns > MAX_PATTERNS or len(selectors) - patterns > MAX_TOPICS:
        counted = f"{len(selectors) - patterns} topics and {patterns} patterns"
        raise Refusal("topic_limit", f"{counted} are too many: {MAX_TOPICS} and {MAX_PATTERNS} are allowed")


def extra_cost(selectors: Collection[str]) -> int:
    """Return what naming these costs beyond the request itself, in requests."""
    return len(selectors) // NAMES_AN_OP + _patterns(selectors)


def _patterns(selectors: Iterable[str]) -> int:
    return sum(1 for selector in selectors if topics.is_pattern(selector))


def sentences(bad: Mapping[str, str]) -> str:
    """Return what is wrong with the first bad topics: a sentence for each of many would make a very long answer."""
    more = f"; and {len(bad) - SENTENCES} more" if len(bad) > SENTENCES else ""
    return "; ".join(list(bad.values())[:SENTENCES]) + more

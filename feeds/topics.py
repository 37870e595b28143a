"""The only place where a topic name is spelled or read.

A topic is words joined by dots: `price.BTC`, `ohlcv.BTC.1m`, `status`. A pattern may hold `*` for one word and end
in `>` for the rest.
"""

from dataclasses import dataclass

from feeds.intervals import INTERVALS
from feeds.symbols import Symbols, UnknownSymbolError

STATUS = "status"
CATEGORIES = ("price", "ohlcv", "status")
MAX_TOPIC_CHARS = 100


class UnknownTopicError(ValueError):
    """Nobody can feed this topic; the text says why."""


@dataclass(frozen=True, slots=True)
class CandleTopic:
    """What an `ohlcv` topic names."""

    base: str
    interval: str


def price(base: str) -> str:
    """The topic of the prices of a base asset."""
    return f"price.{base}"


def ohlcv(base: str, interval: str) -> str:
    """The topic of the candles of a base asset."""
    return f"ohlcv.{base}.{interval}"


def candle_topic(topic: str) -> CandleTopic | None:
    """Read an `ohlcv` topic in its canonical form; None for any other topic."""
    words = topic.split(".")
    if len(words) == 3 and words[0] == "ohlcv" and words[2] in INTERVALS:
        return CandleTopic(words[1], words[2])
    return None


def base_of(topic: str) -> str | None:
    """The base asset that a price or candle topic is about."""
    words = topic.split(".")
    return words[1] if len(words) >= 2 and words[0] in ("price", "ohlcv") else None


def is_pattern(selector: str) -> bool:
    """Whether it can match more than one topic."""
    return "*" in selector or ">" in selector


def matches(pattern: str, topic: str) -> bool:
    """Whether a topic is among those a pattern means."""
    wanted = pattern.split(".")
    words = topic.split(".")
    if wanted[-1] == ">":
        wanted.pop()
        if len(words) <= len(wanted):
            return False
        words = words[: len(wanted)]
    return len(wanted) == len(words) and all(want in ("*", word) for want, word in zip(wanted, words, strict=True))


def canonical(selector: str, symbols: Symbols) -> str:
    """Spell a topic or pattern as we do: `price.btc-usdt` becomes `price.BTC`.

    Raises UnknownTopicError, which names the selector, for one that nobody can feed.
    """
    if len(selector) > MAX_TOPIC_CHARS:
        raise UnknownTopicError(f"topic {selector[:40]!r}… is longer than {MAX_TOPIC_CHARS} characters")
    words = selector.strip().split(".")
    category = words[0].lower()
    if is_pattern(selector):
        return _canonical_pattern(selector, words, symbols)
    if category == "status" and len(words) == 1:
        return STATUS
    try:
        if category == "price" and len(words) == 2:
            return price(symbols.base_of(words[1]))
        if category == "ohlcv" and len(words) == 3:
            if words[2] not in INTERVALS:
                raise UnknownTopicError(
                    f"topic {selector!r}: interval {words[2]!r} is not one of {', '.join(INTERVALS)}"
                )
            return ohlcv(symbols.base_of(words[1]), words[2])
    except UnknownSymbolError as error:
        raise UnknownTopicError(f"topic {selector!r}: {error}") from None
    raise UnknownTopicError(
        f"topic {selector!r} is not one of price.<SYM>, ohlcv.<SYM>.<interval>, status or a pattern of them"
    )


def _canonical_pattern(selector: str, words: list[str], symbols: Symbols) -> str:
    malformed = any(len(word) != 1 and ("*" in word or ">" in word) for word in words)
    if malformed or "" in words or ">" in words[:-1]:
        raise UnknownTopicError(f"pattern {selector!r}: '*' stands for one whole word, '>' for the rest at the end")
    if words[0] not in ("*", ">"):
        words[0] = words[0].lower()
        lengths = {"price": 2, "ohlcv": 3, "status": 1}
        if words[0] not in lengths:
            raise UnknownTopicError(f"pattern {selector!r} matches no topic: no category {words[0]!r}")
        length = lengths[words[0]]
        if len(words) > length or (words[-1] != ">" and len(words) != length):
            raise UnknownTopicError(f"pattern {selector!r} matches no topic: {words[0]} has {length} words")
        if len(words) > 1 and words[1] not in ("*", ">"):
            try:
                words[1] = symbols.base_of(words[1])
            except UnknownSymbolError as error:
                raise UnknownTopicError(f"pattern {selector!r}: {error}") from None
        if len(words) == 3 and words[2] not in ("*", ">") and words[2] not in INTERVALS:
            raise UnknownTopicError(f"pattern {selector!r}: no interval {words[2]!r}")
    return ".".join(words)

"""The only place where a topic name is spelled or read.

A topic is words joined by dots: `price.BTC`, `ohlcv.BTC.1m`, `status`. A pattern may hold `*` for one word and end
in `>` for the rest. An asset is one word, even one that has dots in its name: `ohlcv.A.B.1m` are the candles of `A.B`.
"""

from dataclasses import dataclass

from feeds.chains import UnknownChainError, chain_named
from feeds.intervals import INTERVALS
from feeds.symbols import Symbols, UnknownSymbolError

STATUS = "status"
PROBE = "$probe"
"""The service's own topic: no pattern matches it, no client can subscribe to it, and no feed brings it."""
MARKET = "market"
MARKET_GLOBAL = "market.global"
NEWS = "news"
SENTIMENT_GLOBAL = "sentiment.global"
WORDS = {
    "price": (2,),
    "ohlcv": (3,),
    "market": (1, 2),
    "news": (1,),
    "sentiment": (2,),
    "gas": (2,),
    "chain": (2,),
    "status": (1,),
}
"""The numbers of words that the topics of each category may have."""

TEMPLATES = (
    "price.<SYM>",
    "ohlcv.<SYM>.<interval>",
    MARKET,
    MARKET_GLOBAL,
    NEWS,
    SENTIMENT_GLOBAL,
    "sentiment.<SYM>",
    "gas.<chain>",
    "chain.<chain>",
    STATUS,
)
MAX_TOPIC_CHARS = 100


class UnknownTopicError(ValueError):
    """No provider can feed this topic; the text is the reason."""


@dataclass(frozen=True, slots=True)
class CandleTopic:
    """The base asset and interval that an `ohlcv` topic names."""

    base: str
    interval: str


def price(base: str) -> str:
    """Return the topic of the prices of a base asset."""
    return f"price.{base}"


def ohlcv(base: str, interval: str) -> str:
    """Return the topic of the candles of a base asset."""
    return f"ohlcv.{base}.{interval}"


def sentiment(base: str) -> str:
    """Return the topic of what news say of a base asset."""
    return f"sentiment.{base}"


def gas(chain: str) -> str:
    """Return the topic of a chain's fees."""
    return f"gas.{chain}"


def chain(name: str) -> str:
    """Return the topic of a chain's state."""
    return f"chain.{name}"


def words_of(selector: str) -> list[str]:
    """Return the words of a topic or pattern: all that is between the category and the interval is the asset."""
    words = selector.split(".")
    after = {"price": 0, "sentiment": 0, "ohlcv": 1}.get(words[0].lower())
    if after is None or len(words) <= 2 + after:
        return words
    end = len(words) - after
    asset = words[1:end]
    return words if "*" in asset or ">" in asset else [words[0], ".".join(asset), *words[end:]]


def chain_of(topic: str) -> str | None:
    """Return the chain that a `gas` or `chain` topic is about."""
    words = topic.split(".")
    return words[1] if len(words) == 2 and words[0] in ("gas", "chain") else None


def category_of(topic: str) -> str:
    """Return the first word of a topic."""
    return topic.partition(".")[0]


def kind_of(topic: str) -> str:
    """Return `log` where every event counts, `state` where only the newest does, `mixed` for candles."""
    return {"ohlcv": "mixed", "news": "log"}.get(category_of(topic), "state")


def candle_topic(topic: str) -> CandleTopic | None:
    """Read an `ohlcv` topic in its canonical form; None for any other topic."""
    words = words_of(topic)
    if len(words) == 3 and words[0] == "ohlcv" and words[2] in INTERVALS:
        return CandleTopic(words[1], words[2])
    return None


def base_of(topic: str) -> str | None:
    """Return the base asset that a price or candle topic is about."""
    words = words_of(topic)
    return words[1] if len(words) >= 2 and words[0] in ("price", "ohlcv") else None


def is_pattern(selector: str) -> bool:
    """Whether it can match more than one topic."""
    return "*" in selector or ">" in selector


def is_fed(selector: str) -> bool:
    """Whether it names one topic that a feed may bring."""
    return not is_pattern(selector) and selector != PROBE


def matches(pattern: str, topic: str) -> bool:
    """Whether a topic is among those a pattern means."""
    if topic == PROBE:
        return False
    wanted, words = words_of(pattern), words_of(topic)
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
    words = words_of(selector.strip())
    category = words[0].lower()
    if is_pattern(selector):
        return _canonical_pattern(selector, words, symbols)
    try:
        if len(words) in WORDS.get(category, ()):
            return _spelled(category, words, symbols)
    except (UnknownSymbolError, UnknownChainError, UnknownTopicError) as error:
        raise UnknownTopicError(f"topic {selector!r}: {error}") from None
    raise UnknownTopicError(f"topic {selector!r} is not one of {', '.join(TEMPLATES)} or a pattern of them")


def _spelled(category: str, words: list[str], symbols: Symbols) -> str:
    """Return the spelled topic. Raises UnknownSymbolError, UnknownChainError or UnknownTopicError."""
    match category:
        case "price":
            return price(symbols.base_of(words[1]))
        case "ohlcv" if words[2] not in INTERVALS:
            raise UnknownTopicError(f"interval {words[2]!r} is not one of {', '.join(INTERVALS)}")
        case "ohlcv":
            return ohlcv(symbols.base_of(words[1]), words[2])
        case "market" if len(words) == 2 and words[1].lower() != "global":
            raise UnknownTopicError("of the market there is only market and market.global")
        case "sentiment" if words[1].lower() == "global":
            return SENTIMENT_GLOBAL
        case "sentiment":
            return sentiment(symbols.base_of(words[1]))
        case "gas" | "chain":
            return f"{category}.{chain_named(words[1]).name}"
    return ".".join(words).lower()


def _canonical_pattern(selector: str, words: list[str], symbols: Symbols) -> str:
    malformed = any(len(word) != 1 and ("*" in word or ">" in word) for word in words)
    if malformed or "" in words or ">" in words[:-1]:
        raise UnknownTopicError(f"pattern {selector!r}: '*' stands for one whole word, '>' for the rest at the end")
    if words == [">"]:
        return ">"
    category = words[0].lower()
    if category != "*" and category not in WORDS:
        raise UnknownTopicError(f"pattern {selector!r} matches no topic: no category {words[0]!r}")
    fitting: list[list[str]] = []
    problems: list[str] = []
    for each in WORDS if category == "*" else (category,):
        try:
            fitting.append(_spelled_pattern(each, words, symbols))
        except (UnknownSymbolError, UnknownChainError, UnknownTopicError) as error:
            problems.append(str(error))
    if not fitting:
        why = problems[0] if category != "*" else "no category has such topics"
        raise UnknownTopicError(f"pattern {selector!r} matches no topic: {why}")
    # A word may mean a coin and a chain: `*.ethereum` is the chain, which is spelled so, and `*.eth` the coin.
    rest = words[1:]
    fitting.sort(key=lambda spelled: (spelled != rest, _lowered(spelled) != _lowered(rest)))
    return ".".join([category, *fitting[0]])


def _lowered(words: list[str]) -> list[str]:
    return [word.lower() for word in words]


def _spelled_pattern(category: str, words: list[str], symbols: Symbols) -> list[str]:
    """Return a pattern's words after the first one, as they are spelled in topics of this category.

    Raises UnknownSymbolError, UnknownChainError or UnknownTopicError if the pattern matches none of them.
    """
    lengths, count = WORDS[category], len(words)
    if not (lengths[-1] >= count if words[-1] == ">" else count in lengths):
        raise UnknownTopicError(f"{category} has {lengths[-1]} words")
    rest = words[1:]
    if rest and rest[0] not in ("*", ">"):
        rest[0] = _spelled_second(category, rest[0], symbols)
    if len(rest) == 2 and rest[1] not in ("*", ">") and rest[1] not in INTERVALS:
        raise UnknownTopicError(f"no interval {rest[1]!r}")
    return rest


def _spelled_second(category: str, word: str, symbols: Symbols) -> str:
    match category:
        case "market" if word.lower() != "global":
            raise UnknownTopicError("of the market there is only market and market.global")
        case "market":
            return "global"
        case "sentiment" if word.lower() == "global":
            return "global"
        case "gas" | "chain":
            return chain_named(word).name
    return symbols.base_of(word)

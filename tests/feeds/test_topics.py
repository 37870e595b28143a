"""Topic names: spelled, read, matched and refused in one place."""

import re
from itertools import chain, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds import topics
from feeds.chains import CHAINS
from feeds.intervals import INTERVALS
from feeds.model import Pair
from feeds.symbols import Symbols
from feeds.topics import CandleTopic, UnknownTopicError, candle_topic, canonical, is_pattern, matches


@pytest.fixture
def symbols() -> Symbols:
    known = Symbols()
    known.learn([Pair("BTCUSDT", "BTC", "USDT"), Pair("1INCHUSDT", "1INCH", "USDT"), Pair("币USDT", "币", "USDT")])
    return known


@pytest.mark.parametrize(
    ("selector", "spelled"),
    [
        ("price.BTC", "price.BTC"),
        ("price.btc", "price.BTC"),
        ("PRICE.btc-usdt", "price.BTC"),
        ("price.BTC/USDT", "price.BTC"),
        ("price.bitcoin", "price.BTC"),
        (" price.BTCUSDT ", "price.BTC"),
        ("price.币", "price.币"),
        ("ohlcv.btc.1m", "ohlcv.BTC.1m"),
        ("ohlcv.BTC.1M", "ohlcv.BTC.1M"),
        ("status", "status"),
        ("Status", "status"),
        ("price.*", "price.*"),
        ("Price.>", "price.>"),
        ("ohlcv.btcusdt.>", "ohlcv.BTC.>"),
        ("ohlcv.*.1h", "ohlcv.*.1h"),
        ("ohlcv.bitcoin.*", "ohlcv.BTC.*"),
        ("ohlcv.>", "ohlcv.>"),
        ("*.BTC", "*.BTC"),
        ("*.btc", "*.BTC"),
        ("*.btcusdt.1m", "*.BTC.1m"),
        ("*.bitcoin.>", "*.BTC.>"),
        ("*.Global", "*.global"),
        ("*.Polygon", "*.polygon"),
        ("*.*.1m", "*.*.1m"),
        ("*.>", "*.>"),
        ("*.*.>", "*.*.>"),
        (">", ">"),
        ("*", "*"),
        ("Market", "market"),
        ("market.GLOBAL", "market.global"),
        ("market.*", "market.*"),
        ("news", "news"),
        ("sentiment.Global", "sentiment.global"),
        ("sentiment.bitcoin", "sentiment.BTC"),
        ("sentiment.*", "sentiment.*"),
        ("gas.Ethereum", "gas.ethereum"),
        ("gas.*", "gas.*"),
        ("chain.ethereum", "chain.ethereum"),
    ],
)
def test_a_selector_is_spelled_our_way(selector: str, spelled: str, symbols: Symbols) -> None:
    assert canonical(selector, symbols) == spelled
    assert canonical(spelled, symbols) == spelled


@pytest.mark.parametrize(
    ("selector", "why"),
    [
        ("", "is not one of"),
        (".", "is not one of"),
        ("price", "is not one of"),
        ("price.", "is not a symbol"),
        ("price.NOPE", "no market for symbol 'NOPE'"),
        ("price.BTC.1m", "no market for symbol 'BTC.1m'"),
        ("prices.BTC", "is not one of"),
        ("ohlcv.BTC", "is not one of"),
        ("ohlcv.BTC.7m", "interval '7m' is not one of 1m, 3m"),
        ("ohlcv.BTC.1H", "interval '1H' is not one of"),
        ("ohlcv.NOPE.1m", "no market"),
        ("status.x", "is not one of"),
        ("news.BTC", "is not one of"),
        ("market.local", "only market and market.global"),
        ("sentiment", "is not one of"),
        ("sentiment.NOPE", "no market for symbol 'NOPE'"),
        ("gas", "is not one of"),
        ("gas.nochain", "'nochain'"),
        ("price.B*", "'*' stands for one whole word"),
        ("price.**", "'*' stands for one whole word"),
        ("price.>.BTC", "'>' for the rest at the end"),
        ("price..*", "'*' stands for one whole word"),
        ("ohlcv.*", "ohlcv has 3 words"),
        ("price.*.*", "price has 2 words"),
        ("price.BTC.>", "price has 2 words"),
        ("status.*", "status has 1 words"),
        ("gass.*", "no category 'gass'"),
        ("news.*", "news has 1 words"),
        ("gas.*.*", "gas has 2 words"),
        ("ohlcv.*.7m", "no interval '7m'"),
        ("*.NOPE", "no category has such topics"),
        ("*.NOPE.>", "no category has such topics"),
        ("*.BTC.7m", "no category has such topics"),
        ("*.*.7m", "no category has such topics"),
        ("*.global.>", "no category has such topics"),
        ("*.*.*.*", "no category has such topics"),
        ("*.*.*.>", "no category has such topics"),
        ("ohlcv.NOPE.*", "no market for symbol 'NOPE'"),
        ("price." + "B" * 100, "longer than 100"),
    ],
)
def test_a_refusal_names_what_was_asked_and_why(selector: str, why: str, symbols: Symbols) -> None:
    with pytest.raises(UnknownTopicError) as refused:
        canonical(selector, symbols)
    assert why in str(refused.value)
    assert repr(selector[:40])[:-1] in str(refused.value)


@given(selector=st.text(alphabet="priceohlvstau.*>BTC1mM-/ ", max_size=30) | st.text(max_size=120))
def test_any_text_is_spelled_our_way_or_refused(selector: str) -> None:
    known = Symbols()
    known.learn([Pair("BTCUSDT", "BTC", "USDT")])
    try:
        spelled = canonical(selector, known)
    except UnknownTopicError:
        return
    assert is_pattern(spelled) or spelled in {"status", "price.BTC", *(f"ohlcv.BTC.{each}" for each in INTERVALS)}
    assert canonical(spelled, known) == spelled


SPELLED = ("*", ">", "price", "ohlcv", "market", "news", "status", "sentiment", "gas", "chain")
SECOND = ("*", ">", "BTC", "btc", "bitcoin", "NOPE", "global", "ethereum", "polygon", "1m")
LAST = ("*", ">", "1m", "7m", "BTC")


def test_a_pattern_is_taken_if_and_only_if_a_topic_can_match_it(symbols: Symbols) -> None:
    every = [
        *("news", "status", "market", "market.global", "sentiment.global"),
        *(f"{kind}.{base}" for kind in ("price", "sentiment") for base in ("BTC", "1INCH", "币")),
        *(f"ohlcv.{base}.{interval}" for base in ("BTC", "1INCH", "币") for interval in INTERVALS),
        *(f"{kind}.{each.name}" for kind in ("gas", "chain") for each in CHAINS),
    ]
    lists = (product(SPELLED), product(SPELLED, SECOND), product(SPELLED, SECOND, LAST), product("*", "*", "*", "*>"))
    for parts in chain(*lists):
        pattern = ".".join(parts)
        if not is_pattern(pattern) or ">" in parts[:-1]:
            continue
        try:
            spelled = canonical(pattern, symbols)
        except UnknownTopicError:
            assert not any(matches(pattern, topic) for topic in every), pattern
        else:
            assert any(matches(spelled, topic) for topic in every), (pattern, spelled)


def naive(pattern: str, topic: str) -> bool:
    """The same rule as a regular expression."""
    words = [r"[^.]*" if word == "*" else re.escape(word) for word in pattern.split(".")]
    if pattern.split(".")[-1] == ">":
        words[-1] = r"[^.]*(\.[^.]*)*"
    return re.fullmatch(r"\.".join(words), topic) is not None


words = st.sampled_from(["price", "ohlcv", "BTC", "ETH", "1m", "status", "a"])
topic_names = st.lists(words, min_size=1, max_size=4).map(".".join)
patterns = st.tuples(
    st.lists(words | st.just("*"), min_size=0, max_size=4), st.sampled_from([[], [">"]])
).map(lambda parts: ".".join(parts[0] + parts[1])).filter(bool)  # fmt: skip


@given(pattern=patterns, topic=topic_names)
def test_a_pattern_matches_word_by_word(pattern: str, topic: str) -> None:
    assert matches(pattern, topic) == naive(pattern, topic)


@pytest.mark.parametrize(
    ("pattern", "topic", "matching"),
    [
        ("price.*", "price.BTC", True),
        ("price.*", "price", False),
        ("price.*", "ohlcv.BTC", False),
        ("ohlcv.BTC.>", "ohlcv.BTC.1m", True),
        ("ohlcv.BTC.>", "ohlcv.BTC", False),
        ("ohlcv.BTC.>", "ohlcv.BTCUP.1m", False),
        (">", "status", True),
        (">", "ohlcv.BTC.1m", True),
        ("*", "status", True),
        ("*", "price.BTC", False),
    ],
)
def test_a_star_is_one_word_and_an_arrow_the_rest_but_not_nothing(pattern: str, topic: str, matching: bool) -> None:
    assert matches(pattern, topic) is matching


def test_topics_are_read_back_as_they_were_spelled() -> None:
    assert topics.ohlcv("BTC", "1m") == "ohlcv.BTC.1m"
    assert candle_topic("ohlcv.BTC.1m") == CandleTopic("BTC", "1m")
    assert candle_topic("price.BTC") is None
    assert candle_topic("ohlcv.BTC.7m") is None
    assert topics.base_of(topics.price("BTC")) == "BTC"
    assert topics.base_of("ohlcv.ETH.1m") == "ETH"
    assert topics.base_of("status") is None

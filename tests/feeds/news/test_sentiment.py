"""What a coin's news come to: a mean of scores in which newer articles weigh more."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.model import Sentiment
from feeds.news.scores import MAX_OPINIONS, SymbolSentiment, label_of
from tests.fakes.clock import START_MS

WINDOW_S = 86_400
QUARTER_MS = WINDOW_S * 1000 // 4


def said(score: float, model: str = "lexicon") -> Sentiment:
    return Sentiment(label_of(score), score, model)


@pytest.mark.parametrize(
    ("score", "label"),
    [
        (1.0, "positive"),
        (0.2, "positive"),
        (0.19, "neutral"),
        (0.0, "neutral"),
        (-0.19, "neutral"),
        (-0.2, "negative"),
        (-1.0, "negative"),
    ],
)
def test_a_label_is_the_sign_of_a_score_that_is_not_near_0(score: float, label: str) -> None:
    assert label_of(score) == label


def test_a_coin_without_articles_has_no_sentiment() -> None:
    window = SymbolSentiment(WINDOW_S)
    assert window.value("BTC", START_MS) is None
    assert window.symbols(START_MS) == []


def test_the_data_of_a_coin_are_complete() -> None:
    window = SymbolSentiment(WINDOW_S)
    for score in (0.9, 0.5, 0.0, -0.2):
        window.add("BTC", START_MS, said(score))
    assert window.value("BTC", START_MS) == {
        "symbol": "BTC",
        "score": 0.3,
        "label": "positive",
        "articles": 4,
        "positive": 2,
        "neutral": 1,
        "negative": 1,
        "window_s": WINDOW_S,
        "model": "lexicon",
    }


def test_an_article_a_quarter_of_the_window_older_weighs_half() -> None:
    window = SymbolSentiment(WINDOW_S)
    window.add("BTC", START_MS, said(1.0))
    window.add("BTC", START_MS - QUARTER_MS, said(-1.0))
    value = window.value("BTC", START_MS)
    assert value is not None
    assert value["score"] == pytest.approx((1 - 0.5) / 1.5, abs=1e-4)


def test_an_article_leaves_with_the_window_and_takes_its_coin_along() -> None:
    window = SymbolSentiment(WINDOW_S)
    window.add("BTC", START_MS, said(1.0))
    window.add("ETH", START_MS + 1000, said(1.0))
    end_ms = START_MS + WINDOW_S * 1000
    assert window.value("BTC", end_ms - 1) is not None
    assert window.value("BTC", end_ms) is None
    assert window.symbols(end_ms) == ["ETH"]
    assert window.symbols(end_ms + 1000) == []
    assert not window.coins


def test_an_article_that_comes_again_is_counted_once_as_it_is_now() -> None:
    window = SymbolSentiment(WINDOW_S)
    window.add("BTC", START_MS, said(1.0), "a")
    window.add("BTC", START_MS, said(-1.0), "a")
    value = window.value("BTC", START_MS)
    assert value is not None
    assert (value["articles"], value["score"], value["label"]) == (1, -1.0, "negative")


def test_several_models_are_said_to_be_mixed() -> None:
    window = SymbolSentiment(WINDOW_S)
    window.add("BTC", START_MS, said(1.0, "a"))
    window.add("BTC", START_MS, said(1.0, "b"))
    value = window.value("BTC", START_MS)
    assert value is not None
    assert value["model"] == "mixed"


def test_the_oldest_articles_give_way_to_very_many_new_ones() -> None:
    window = SymbolSentiment(WINDOW_S)
    for number in range(MAX_OPINIONS + 50):
        window.add("BTC", START_MS + number, said(-1.0 if number < 50 else 1.0), str(number))
    value = window.value("BTC", START_MS + MAX_OPINIONS)
    assert value is not None
    assert (value["articles"], value["negative"], value["score"]) == (MAX_OPINIONS, 0, 1.0)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, WINDOW_S * 1000 - 1), st.floats(-1, 1)), min_size=1, max_size=20))
def test_the_mean_lies_between_its_articles_and_the_counts_add_up(given: list[tuple[int, float]]) -> None:
    window = SymbolSentiment(WINDOW_S)
    for age_ms, score in given:
        window.add("BTC", START_MS - age_ms, said(score))
    value = window.value("BTC", START_MS)
    assert value is not None
    scores = [score for _, score in given]
    assert min(scores) - 1e-4 <= value["score"] <= max(scores) + 1e-4
    assert value["positive"] + value["neutral"] + value["negative"] == value["articles"] == len(given)

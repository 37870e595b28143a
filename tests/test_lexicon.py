"""The word list that always answers: how often it agrees with an editor, and that nothing takes it long."""

import csv
import time
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from feeds.providers import lexicon
from feeds.providers.lexicon import NAME, PHRASE, PHRASES, WORDS, sentiment
from feeds.sentiment import Texts, label_of
from orchestrator.provider import drive

HEADLINES = Path(__file__).parent / "samples" / "headlines" / "headlines.tsv"
PARTS = ("development", "held_out")


@cache
def headlines(part: str) -> list[tuple[str, str]]:
    """Labels and headlines."""
    with HEADLINES.open(encoding="utf-8", newline="") as lines:
        next(lines)  # says what it is
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [(row["label"], row["headline"]) for row in rows if row["part"] == part]


@cache
def plain_vader() -> SentimentIntensityAnalyzer:
    return SentimentIntensityAnalyzer()


def accuracy(part: str) -> float:
    rows = headlines(part)
    return sum(sentiment(text).label == label for label, text in rows) / len(rows)


def plain_accuracy(part: str) -> float:
    rows = headlines(part)
    found = [label_of(plain_vader().polarity_scores(text)["compound"], 0.05) for _, text in rows]
    return sum(label == one for (label, _), one in zip(rows, found, strict=True)) / len(rows)


def test_the_headlines_are_balanced_and_none_is_in_both_halves() -> None:
    both = [headlines(part) for part in PARTS]
    assert sum(map(len, both)) >= 150
    assert not {text for _, text in both[0]} & {text for _, text in both[1]}
    for half in both:
        for label in ("positive", "neutral", "negative"):
            assert sum(each == label for each, _ in half) == len(half) / 3


@pytest.mark.parametrize("part", PARTS)
def test_it_agrees_with_an_editor_far_oftener_than_plain_vader(part: str) -> None:
    assert accuracy(part) >= 0.85
    assert accuracy(part) >= plain_accuracy(part) + 0.15


def test_the_module_states_what_was_measured() -> None:
    said = [line.split() for line in (lexicon.__doc__ or "").splitlines()]
    (plain,) = [line for line in said if line[:2] == ["plain", "VADER"]]
    (ours,) = [line for line in said if line[:3] == ["with", "this", "list"]]
    assert plain[2:4] == [f"{plain_accuracy(part):.2f}" for part in PARTS]
    assert ours[3:5] == [f"{accuracy(part):.2f}" for part in PARTS]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Rug pull", "negative"),
        ("Developers pulled the rug: it was rugged", "negative"),
        ("BTC hits a new ATH", "positive"),
        ("bitcoin at all-time high", "positive"),
        ("bitcoin at all-time low", "negative"),
        ("SEC lawsuit against exchange", "negative"),
        ("SEC drops its lawsuit against exchange", "positive"),
        ("Spot ETF approval", "positive"),
        ("Spot ETF rejected", "negative"),
        ("$500 million liquidated", "negative"),
        ("Shorts worth $500 million liquidated", "positive"),
        ("The next halving", "neutral"),
        ("Crypto Fear and Greed index", "neutral"),
        ("BTC 🚀", "positive"),
        ("Up 4.5%", "positive"),
        ("Down 12%", "negative"),
        ("Shares, security and interest", "neutral"),
        ("", "neutral"),
    ],
)
def test_the_market_has_its_own_words(text: str, label: str) -> None:
    assert sentiment(text).label == label


def test_every_phrase_is_found_by_its_own_pattern_and_every_word_is_weighed_once() -> None:
    names = [name for name, _, _ in PHRASES]
    assert set(names) == set(PHRASE.groupindex)
    words = [word for _, _, row in WORDS for word in row.split()]
    assert len(words) == len(set(words))
    assert all(word == word.lower() for word in (*words, *names))
    assert all(-4 <= valence <= 4 for valence in (*(row[1] for row in PHRASES), *(row[0] for row in WORDS)))


def test_it_answers_in_order_without_asking_anybody() -> None:
    found = drive(lexicon.score(Texts(("Bitcoin soars", "Ether plunges", "A calendar"))))
    assert [each.label for each in found] == ["positive", "negative", "neutral"]
    assert {(each.model, each.confidence) for each in found} == {(NAME, None)}
    assert drive(lexicon.score(Texts(()))) == []


def test_it_serves_whoever_asks_for_it_or_does_not_mind() -> None:
    assert lexicon.serves(Texts(("x",)))
    assert lexicon.serves(Texts(("x",), NAME))
    assert not lexicon.serves(Texts(("x",), "ProsusAI/finbert"))


@settings(max_examples=80)
@given(st.text(max_size=200))
def test_any_text_has_a_score_from_minus_1_to_1(text: str) -> None:
    found = sentiment(text)
    assert -1 <= found.score <= 1
    assert found.label == label_of(found.score)


@pytest.mark.parametrize(
    "text",
    ["😀" * 10_000, "approves " + "a-" * 10_000, "lost user " * 2000, "not good " * 3000, "!" * 50_000, "x" * 100_000],
    ids=["emoji", "hyphens", "phrases", "negations", "marks", "one_word"],
)
def test_no_text_takes_it_long(text: str) -> None:
    started = time.process_time()
    sentiment(text)
    assert time.process_time() - started < 0.5

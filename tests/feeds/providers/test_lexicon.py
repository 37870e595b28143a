"""The word list that always answers: how often it agrees with an editor, and that nothing takes it long."""

import csv
import threading
import time
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from feeds.news.scores import Texts, label_of
from feeds.providers import lexicon
from feeds.providers.lexicon import NAME, PHRASE, PHRASES, WORDS, sentiment
from orchestrator.errors import Malformed, TimedOut
from orchestrator.provider import Steps
from orchestrator.upstream import ProviderState
from tests.conversations import drive
from tests.harness import running

HEADLINES = Path(__file__).parents[2] / "samples" / "headlines"
SETS = ("headlines", "turns")
PARTS = ("development", "held_out")


@cache
def headlines(name: str, part: str) -> list[tuple[str, str]]:
    """Labels and headlines of one half of a set."""
    with (HEADLINES / f"{name}.tsv").open(encoding="utf-8", newline="") as lines:
        next(lines)  # says what it is
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [(row["label"], row["headline"]) for row in rows if row["part"] == part]


@cache
def plain_vader() -> SentimentIntensityAnalyzer:
    return SentimentIntensityAnalyzer()


def accuracy(name: str, part: str) -> float:
    rows = headlines(name, part)
    return sum(sentiment(text).label == label for label, text in rows) / len(rows)


def plain_accuracy(name: str, part: str) -> float:
    rows = headlines(name, part)
    found = [label_of(plain_vader().polarity_scores(text)["compound"], 0.05) for _, text in rows]
    return sum(label == one for (label, _), one in zip(rows, found, strict=True)) / len(rows)


def test_the_headlines_are_balanced_and_none_is_in_two_parts() -> None:
    parts = [headlines(name, part) for name in SETS for part in PARTS]
    assert [len(part) for part in parts] == [90, 90, 42, 42]
    assert len({text for part in parts for _, text in part}) == sum(map(len, parts))
    for part in parts:
        for label in ("positive", "neutral", "negative"):
            assert sum(each == label for each, _ in part) == len(part) / 3


@pytest.mark.parametrize(
    ("name", "part", "least"),
    [
        ("headlines", "development", 0.90),
        ("headlines", "held_out", 0.90),
        ("turns", "development", 0.90),
        ("turns", "held_out", 0.75),
    ],
)
def test_it_agrees_with_an_editor_far_oftener_than_plain_vader(name: str, part: str, least: float) -> None:
    assert accuracy(name, part) >= least
    assert accuracy(name, part) >= plain_accuracy(name, part) + 0.15


def test_the_module_states_what_was_measured() -> None:
    said = [line.split() for line in (lexicon.__doc__ or "").splitlines()]
    (plain,) = [line for line in said if line[:2] == ["plain", "VADER"]]
    (ours,) = [line for line in said if line[:3] == ["with", "this", "list"]]
    halves = [(name, part) for name in SETS for part in PARTS]
    assert plain[2:6] == [f"{plain_accuracy(*half):.2f}" for half in halves]
    assert ours[3:7] == [f"{accuracy(*half):.2f}" for half in halves]


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


def test_it_serves_questions_for_it_and_those_that_name_no_model() -> None:
    assert lexicon.serves(Texts(("x",)))
    assert lexicon.serves(Texts(("x",), NAME))
    assert not lexicon.serves(Texts(("x",), "ProsusAI/finbert"))


@settings(max_examples=80)
@given(st.text(max_size=200))
def test_any_text_has_a_score_from_minus_1_to_1(text: str) -> None:
    found = sentiment(text)
    assert -1 <= found.score <= 1
    assert found.label == label_of(found.score)


HARD = (
    *("a", "a-", "a ", "- ", "1,", "$1 ", "+1", "up 1", "approves ", "approves a-", "clears a ", "halts ", "drop a-"),
    *("recovers all lost ", "shorts a ", "rate cut", "not good ", "never so good ", "good ", "bad but ", "despite "),
    *("after ", "!", "?", "😀", "😀 ", "İ", "word, ", "fees fall ", "rally fades ", "cannot erase losses ", "a-week "),
    *("pump and ", "proof of a", "no longer a ", "kind of ", "strategic a ", "lost the ", "\n", ":( "),
)
"""What could be read again and again: beginnings of phrases, words that are looked at with others, marks."""


def seconds(text: str) -> float:
    """Process time, the best of three: a loaded machine disturbs it little."""
    taken = []
    for _ in range(3):
        started = time.process_time()
        lexicon.compound(text)
        taken.append(time.process_time() - started)
    return min(taken)


@pytest.mark.parametrize("unit", HARD)
def test_the_time_grows_with_the_length_of_a_text_whatever_is_in_it(unit: str) -> None:
    short, long = (unit * 4000)[:500], (unit * 4000)[:4000]
    # Eight times the text takes eight times as long; were it the square, it would be 64 times.
    assert seconds(long) < 24 * max(seconds(short), 0.0002)


@pytest.mark.parametrize("unit", HARD)
def test_of_a_text_only_the_beginning_is_read(unit: str) -> None:
    text = unit * 4000
    assert sentiment(text) == sentiment(text[: lexicon.READ_AT_MOST])


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Solana rally cools", "negative"),
        ("Selling cools as fears subside", "positive"),
        ("Ripple snaps losing streak", "positive"),
        ("Tron snaps winning streak", "negative"),
        ("Pepe erases losses", "positive"),
        ("Pepe cannot erase losses", "negative"),
        ("Aave surges despite outage", "positive"),
        ("Despite rally, miners are bankrupt", "negative"),
        ("Near plunges but analysts are bullish", "positive"),
        ("Uniswap soars, but then it crashed", "negative"),
        ("Will Aptos crash?", "neutral"),
        ("How hackers steal", "neutral"),
        ("Sui soars after hack", "positive"),
        ("Gas fees drop", "positive"),
        ("Gas fees soar", "negative"),
        ("", "neutral"),
        (",", "neutral"),
        ("but", "neutral"),
        ("despite", "neutral"),
    ],
)
def test_a_headline_turns_on_its_small_words(text: str, label: str) -> None:
    assert sentiment(text).label == label


async def test_texts_that_take_too_long_do_not_take_the_list_from_everybody(tmp_path: Path) -> None:
    async with running(None, tmp_path) as service:
        sources = service.context.sources
        assert sources is not None
        upstream = sources.upstreams[NAME]

        def crashes() -> Steps[None]:
            yield from ()
            raise RuntimeError("a text that nobody foresaw")

        async def takes_too_long() -> None:
            never = threading.Event()

            def read() -> Steps[None]:
                yield from ()
                never.wait(5)

            try:
                await upstream.run(read(), timeout_s=0.01, heavy=True)
            finally:
                never.set()

        for _ in range(20):
            with pytest.raises(TimedOut):
                await takes_too_long()
            with pytest.raises(Malformed):
                await upstream.run(crashes())
        assert upstream.state is ProviderState.ACTIVE
        async with service.http.post(
            f"{service.url}/api/sentiment/analyze", json={"texts": ["Bitcoin soars"]}
        ) as answer:
            body = await answer.json()
        assert (answer.status, body["data"][0]["label"], body["source"]) == (200, "positive", NAME)

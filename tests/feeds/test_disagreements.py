"""Where two sources of a price differ."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.disagreements import FRESH_MS, SaidPrice, disagreements

NOW_MS = 1_795_000_000_000


def said(price: float, source: str, age_ms: int = 0) -> SaidPrice:
    return SaidPrice(price, source, NOW_MS - age_ms)


def test_sources_that_differ_by_more_than_two_percent_are_named_the_worst_first() -> None:
    ours = {"BTC": said(100.0, "binance"), "ETH": said(10.0, "binance"), "SOL": said(5.0, "binance")}
    theirs = {"BTC": said(103.0, "coingecko"), "ETH": said(5.0, "coingecko"), "SOL": said(5.05, "coingecko")}
    found = disagreements(ours, theirs, NOW_MS)
    assert [(each.symbol, each.difference_pct) for each in found] == [("ETH", 100.0), ("BTC", 3.0)]
    assert found[1].sources == {"binance": 100.0, "coingecko": 103.0}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (said(100.0, "binance"), said(102.0, "coingecko")),
        (said(100.0, "coingecko"), said(200.0, "coingecko_pro")),
        (said(100.0, "binance"), said(200.0, "binance:us")),
        (said(100.0, "binance", FRESH_MS + 1), said(200.0, "coingecko")),
        (said(100.0, "binance"), said(200.0, "coingecko", FRESH_MS + 1)),
    ],
    ids=["two percent", "one aggregator", "one exchange", "ours is old", "theirs is old"],
)
def test_nothing_is_said_of_prices_that_agree_or_cannot_be_compared(ours: SaidPrice, theirs: SaidPrice) -> None:
    assert disagreements({"BTC": ours}, {"BTC": theirs}, NOW_MS) == []


def test_a_symbol_that_only_one_source_knows_is_no_disagreement() -> None:
    assert disagreements({"BTC": said(1.0, "binance")}, {"ETH": said(2.0, "coingecko")}, NOW_MS) == []


@settings(max_examples=200)
@given(prices=st.tuples(st.floats(1e-12, 1e15), st.floats(1e-12, 1e15)))
def test_it_does_not_matter_which_source_is_named_first(prices: tuple[float, float]) -> None:
    one, other = {"X": said(prices[0], "binance")}, {"X": said(prices[1], "coingecko")}

    def told(found: list[Any]) -> list[tuple[str, float]]:
        return [(each.symbol, each.difference_pct) for each in found]

    assert told(disagreements(one, other, NOW_MS)) == told(disagreements(other, one, NOW_MS))

"""How long a polled value is good."""

import pytest

from feeds.paces import Paces
from feeds.poller import IDLE

PACES = Paces(market_s=30.0, news_s=120.0, index_s=600.0, gas_s=15.0)


@pytest.mark.parametrize(
    ("topic", "every_s"),
    [
        ("market", 30.0),
        ("market.global", 300.0),
        ("news", 120.0),
        ("sentiment.global", 600.0),
        ("gas.ethereum", 15.0),
        ("chain.base", 60.0),
        ("price.BTC", 0.0),
        ("ohlcv.BTC.1m", 0.0),
    ],
)
def test_a_value_is_good_until_three_polls_of_a_quiet_time_were_missed(topic: str, every_s: float) -> None:
    assert PACES.good_for_s(topic) == 3 * IDLE * every_s


def test_the_score_of_a_coin_is_good_for_as_long_as_its_articles_count() -> None:
    assert PACES.good_for_s("sentiment.BTC") == 24 * 3600

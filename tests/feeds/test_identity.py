"""Which coin a base asset is: matched by price, dropped when it does not fit, and never another coin's value."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.identity import Identities, differs, units_of
from feeds.model import Candle, Pair, Quote
from feeds.symbols import Symbols
from orchestrator.persistence import AnswerStore, StoredAnswer
from tests.fakes.clock import START_MS, ManualClock


@dataclass
class World:
    """An exchange's prices, and identities that look at them. `last` is what was given last under a base."""

    prices: dict[str, float]
    known: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    quote: str = "USDT"

    def __post_init__(self) -> None:
        self.last = dict(self.prices)
        self.alive = True
        self.symbols = Symbols((), (self.quote,))
        self.symbols.learn([Pair(f"{base}{self.quote}", base, self.quote) for base in self.prices])
        self.restart()

    def restart(self) -> None:
        store = AnswerStore(self.folder) if self.folder is not None else None
        self.identities = Identities(
            self.symbols,
            self.known,
            lambda base: self.prices.get(base) if self.alive and self.quote == "USDT" else None,
            self.last.get,
            ManualClock(START_MS),
            store,
        )

    def give(self, *rows: Quote) -> dict[str, float]:
        """The prices that are given of an answer while the exchange is dead."""
        given = {base: quote.price for base, quote in self.identities.quotes(rows).items()}
        self.last |= given
        return given


def row(symbol: str, coin_id: str | None, price: float) -> Quote:
    return Quote(symbol, price, START_MS, id=coin_id)


def candle_at(price: float) -> Candle:
    return Candle("XUSD", "4h", 0, 1, price, price, price, price, None, None, None, True, 1)


def test_the_nearest_price_within_ten_percent_is_the_coin_whatever_its_place_in_the_answer() -> None:
    world = World({"TWIN": 2.0})
    rows = (row("TWIN", "large", 40.0), row("TWIN", "near", 2.15), row("TWIN", "nearest", 1.99))
    world.identities.learn(rows)
    assert world.give(*rows) == {"TWIN": 1.99}
    world.identities.learn((row("TWIN", "large", 40.0),))
    assert world.give(row("TWIN", "large", 2.0), row("OTHER", "nearest", 2.01)) == {"TWIN": 2.01}, (
        "by id, not by ticker"
    )


@pytest.mark.parametrize(("factor", "fits"), [(1.1, True), (0.9, True), (1.11, False), (0.89, False)])
def test_ten_percent_is_the_limit_of_a_match(factor: float, fits: bool) -> None:
    world = World({"X": 3.0})
    world.identities.learn([row("X", "x", 3.0 * factor)])
    assert (world.identities.match_of("X") is not None) == fits


@pytest.mark.parametrize(("factor", "given_then"), [(1.25, True), (0.75, True), (1.26, False), (0.74, False)])
def test_a_quarter_is_the_limit_of_a_value(factor: float, given_then: bool) -> None:
    for known in ({}, {"X": "x"}):
        world = World({"X": 3.0}, known)
        world.identities.learn([row("X", "x", 3.0)])
        assert bool(world.give(row("X", "x", 3.0 * factor))) == given_then
        assert (world.identities.match_of("X") is not None) == given_then
        fitting = world.last["X"] * 1.1
        assert world.give(row("X", "x", fitting)) == {"X": fitting}, "once it fits again it is given again"


def test_a_price_that_wanders_is_followed_from_answer_to_answer() -> None:
    world = World({"X": 100.0})
    world.identities.learn([row("X", "x", 100.0)])
    price = 100.0
    for _ in range(10):
        price *= 1.2
        assert world.give(row("X", "x", price)) == {"X": price}


def test_a_match_that_stops_fitting_counts_no_more_and_another_is_found(tmp_path: Path) -> None:
    world = World({"X": 2.0}, folder=tmp_path)
    world.identities.learn([row("X", "old", 2.0)])
    world.prices["X"] = 0.002  # the pair was denominated anew, or is another coin's now
    world.identities.learn([row("X", "old", 2.0)])
    assert world.identities.match_of("X") is None
    assert world.identities.unmatched() == ["X"]
    world.last.update(world.prices)
    assert world.give(row("X", "old", 2.0)) == {}
    world.identities.learn([row("X", "old", 2.0), row("Y", "other", 0.002), row("X", "new", 0.0021)])
    assert world.give(row("X", "new", 0.0021), row("X", "old", 2.0)) == {"X": 0.0021}


def test_a_known_coin_needs_no_match_unless_its_price_contradicts_the_table() -> None:
    world = World({"BTC": 86_000.0}, {"BTC": "bitcoin"})
    rows = (row("BTC", "batcat", 0.00002), row("BTC", "bitcoin", 87_000.0))
    assert world.give(*rows) == {"BTC": 87_000.0}
    other = World({"BTC": 0.00002}, {"BTC": "bitcoin"})
    other.identities.learn(rows)
    assert other.give(*rows) == {"BTC": 0.00002}, "the exchange's BTC is the other coin"


@pytest.mark.parametrize(
    ("base", "units"),
    [
        ("BTC", [("BTC", 1)]),
        ("1000SATS", [("1000SATS", 1), ("1000SATS", 1000), ("SATS", 1000)]),
        ("1MBABYDOGE", [("1MBABYDOGE", 1), ("1MBABYDOGE", 10**6), ("BABYDOGE", 10**6)]),
        ("1INCH", [("1INCH", 1)]),
        ("1000", [("1000", 1)]),
    ],
)
def test_what_is_traded_by_the_thousand_is_known(base: str, units: list[tuple[str, int]]) -> None:
    assert units_of(base) == units


@pytest.mark.parametrize("base", ["1000SATS", "1MSATS"])
def test_a_multiple_is_given_in_the_exchanges_unit_and_never_in_the_coins(base: str) -> None:
    multiple = units_of(base)[-1][1]
    world = World({base: 0.25, "SATS": 7.0})
    rows = (Quote("SATS", 0.25 / multiple, START_MS, high_24h=0.3 / multiple, id="sats"), row(base, "unit", 0.25 / 500))
    world.identities.learn(rows)
    found = world.identities.quotes(rows)
    assert found.keys() == {base}
    assert found[base].symbol == base
    assert found[base].high_24h == pytest.approx(0.3)
    assert found[base].price == pytest.approx(0.25)
    match = world.identities.match_of(base)
    assert match is not None
    (scaled,) = world.identities.candles(base, match, [candle_at(0.25 / multiple)], up_to_now=True)
    assert scaled.close == pytest.approx(0.25)


def test_candles_that_end_far_from_the_last_price_are_refused_but_for_the_past() -> None:
    world = World({"X": 2.0}, {"X": "x"})
    match = world.identities.match_of("X")
    assert match is not None
    candles = [candle_at(9.0)]
    with pytest.raises(ValueError, match="X ends too far"):
        world.identities.candles("X", match, candles, up_to_now=True)
    assert world.identities.candles("X", match, candles, up_to_now=False) == candles


def test_prices_in_other_money_than_dollars_are_not_compared() -> None:
    world = World({"BTC": 74_000.0, "X": 5.0}, {"BTC": "bitcoin"}, quote="EUR")
    world.last["BTC"] = 3_500_000.0  # a price in lira
    world.identities.learn([row("X", "x", 5.0)])
    assert world.give(row("BTC", "bitcoin", 87_000.0), row("X", "x", 5.0)) == {"BTC": 87_000.0}


def test_rows_without_an_id_match_no_coin() -> None:
    world = World({"BTC": 5.0, "X": 5.0}, {"BTC": "bitcoin"})
    world.identities.learn([row("X", None, 5.0), row("BTC", "", 5.0)])
    assert world.give(row("X", None, 5.0), row("BTC", None, 5.0)) == {}


def test_matches_survive_a_restart_and_their_prices_still_bound_what_is_given(tmp_path: Path) -> None:
    world = World({"X": 2.0, "Y": 3.0}, folder=tmp_path)
    world.identities.learn([row("X", "x", 2.0), row("Y", "y", 3.0)])
    world.alive = False
    world.last.clear()
    world.restart()
    assert world.give(row("X", "x", 2.2), row("Y", "y", 30.0), row("X", "namesake", 2.0)) == {"X": 2.2}


GOOD = ["x", 1, 2.0]
BAD_PRICES: list[object] = [None, True, "2", -2.0, 0, [2.0], {}]


@pytest.mark.parametrize(
    "kept",
    [
        *([], None, 5, "X", {}, {"X": None}, {"X": []}, {"X": GOOD[:2]}, {"X": [*GOOD, 1]}),
        *({"X": ["x", 1, price]} for price in BAD_PRICES),
        *({"X": ["x", multiple, 2.0]} for multiple in (None, True, "1", 7, -1, 1.0, [1])),
        *({"X": [coin_id, 1, 2.0]} for coin_id in (None, "", "a\nb", "x" * 201, 5, ["x"])),
        *({base: GOOD} for base in ("", ".B", "A>", "x" * 51, "A\0")),
    ],
)
@pytest.mark.parametrize("beside", [True, False])
def test_what_cannot_be_read_of_the_memory_is_left_out_and_the_rest_is_kept(
    tmp_path: Path, kept: object, beside: bool
) -> None:
    value = kept | {"GOOD": GOOD} if beside and isinstance(kept, dict) else kept
    AnswerStore(tmp_path).put("identities", StoredAnswer(orjson.dumps(value), "identities", START_MS))
    world = World({"X": 2.0}, folder=tmp_path)
    expected = {"GOOD"} if isinstance(value, dict) and "GOOD" in value else set()
    assert world.identities.matches.keys() == expected


def test_learning_asks_each_base_once_an_answer_and_ticks_ask_nothing() -> None:
    asked: list[str] = []
    symbols = Symbols()
    symbols.learn([Pair(f"S{n}USDT", f"S{n}", "USDT") for n in range(400)])

    def price(base: str) -> float:
        asked.append(base)
        return 1.0

    identities = Identities(symbols, {}, price, lambda _: None, ManualClock(START_MS))
    identities.learn([row(f"S{n}", f"s-{n}", 1.0) for n in range(250)])
    assert len(asked) == 400
    assert len(identities.matches) == 250


# --- any world ---

TICKERS = ("AA", "BB", "1000AA", "CC")


@dataclass(frozen=True, slots=True)
class Real:
    """A coin that really is: its number, which no source sees, its ticker, id and price."""

    number: int
    ticker: str
    coin_id: str
    price: float

    def row(self) -> Quote:
        # The market cap tells the test which coin it was; nothing may look at it.
        return Quote(self.ticker, self.price, START_MS, market_cap=float(self.number), id=self.coin_id)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_in_no_world_is_the_value_of_another_coin_given(data: st.DataObject) -> None:
    """Coins whose prices are far apart share tickers, are renamed, denominated anew, listed and left out; the exchange
    dies and returns. What is given for a base is always its own coin's price, in the exchange's unit."""
    count = data.draw(st.integers(2, 7))
    coins = [
        Real(
            n,
            data.draw(st.sampled_from((*TICKERS[:2], "CC"))),
            f"id-{n}",
            10.0 ** (n - 3) * data.draw(st.floats(1.0, 1.5)),
        )
        for n in range(count)
    ]
    traded: dict[str, tuple[int, int]] = {}
    for base in TICKERS:
        multiple = 1000 if base == "1000AA" else 1
        fitting = [coin for coin in coins if coin.ticker == base.removeprefix("1000")]
        if data.draw(st.booleans()) and fitting:
            traded[base] = (data.draw(st.sampled_from([coin.number for coin in fitting])), multiple)
    if not traded:
        return

    def exchange() -> dict[str, float]:
        return {base: coins[number].price * multiple for base, (number, multiple) in traded.items()}

    # Prices may not wander into each other's.
    at_first = [coin.price for coin in coins]
    world = World(exchange())
    for _ in range(data.draw(st.integers(1, 10))):
        coins = [replace(coin, price=coin.price * data.draw(st.floats(0.97, 1.03))) for coin in coins]
        coins = [
            coin if 0.8 < coin.price / at_first[coin.number] < 1.25 else replace(coin, price=at_first[coin.number])
            for coin in coins
        ]
        event = data.draw(st.sampled_from(("nothing", "nothing", "dies", "returns", "renamed", "denominated")))
        if event == "dies":
            world.alive = False
        elif event == "returns":
            world.alive = True
        elif event == "renamed":
            which = data.draw(st.integers(0, count - 1))
            coins[which] = replace(coins[which], ticker=data.draw(st.sampled_from(("AA", "BB", "CC", "DD"))))
        listed = [coin.row() for coin in coins if data.draw(st.booleans())]
        if event == "denominated" and listed:  # at the source alone: its numbers are not the exchange's any more
            listed[0] = replace(listed[0], price=listed[0].price * 10**10)
        if world.alive:
            world.prices.update(exchange())
            world.last.update(exchange())
            world.identities.learn(listed)
        for base, (number, _) in traded.items():
            match = world.identities.match_of(base)
            assert match is None or match.coin_id == f"id-{number}", "matched to another coin"
        for base, quote in world.identities.quotes(listed).items():
            number, multiple = traded[base]
            assert quote.market_cap == float(number), "the value of another coin"
            assert not differs(quote.price, coins[number].price * multiple, 0.3), "in another unit"
            if not world.alive:
                world.last[base] = quote.price
        assert all(math.isfinite(price) for price in world.last.values())

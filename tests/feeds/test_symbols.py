"""Which coin and pair a name means: by what the exchange lists, never by its suffix."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.model import UNLISTED, Pair
from feeds.symbols import MARKS, QUOTES, Symbols, UnknownSymbolError, split_by_quote

LISTED = (
    Pair("BTCUSDT", "BTC", "USDT"),
    Pair("BTCEUR", "BTC", "EUR"),
    Pair("ETHBTC", "ETH", "BTC"),
    Pair("ETHUSDT", "ETH", "USDT"),
    Pair("USDCUSDT", "USDC", "USDT"),
    Pair("1INCHUSDT", "1INCH", "USDT"),
    Pair("BTCUPUSDT", "BTCUP", "USDT"),
    Pair("币安人生USDT", "币安人生", "USDT"),
    Pair("MATICUSDT", "MATIC", "USDT", "BREAK"),
    Pair("PAXGBTC", "PAXG", "BTC"),
)


def learned(*wanted: str, quotes: tuple[str, ...] = ("USDT",)) -> Symbols:
    symbols = Symbols(wanted, quotes)
    symbols.learn(LISTED)
    return symbols


@pytest.mark.parametrize(
    "name",
    [
        "BTC", "btc", " btc ", "BTCUSDT", "btcusdt", "BTC-USDT", "BTC/USDT", "btc_usdt", "bitcoin", "Bitcoin",
    ],
)  # fmt: skip
def test_a_coin_goes_by_many_names(name: str) -> None:
    assert learned().base_of(name) == "BTC"


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("USDCUSDT", "USDC"),
        ("usdc", "USDC"),
        ("1INCHUSDT", "1INCH"),
        ("1inch-usdt", "1INCH"),
        ("BTCUPUSDT", "BTCUP"),
        ("BTCUP", "BTCUP"),
        ("币安人生USDT", "币安人生"),
        ("币安人生", "币安人生"),
        ("币安人生/USDT", "币安人生"),
        ("ethereum", "ETH"),
    ],
)
def test_pairs_are_split_as_the_exchange_splits_them(name: str, base: str) -> None:
    assert learned().base_of(name) == base


def test_pairs_in_the_wanted_quote_are_served_whether_they_trade_or_rest() -> None:
    assert sorted(learned().by_base) == ["1INCH", "BTC", "BTCUP", "ETH", "MATIC", "USDC", "币安人生"]
    assert learned().states() == {"TRADING": 6, "BREAK": 1}
    assert not learned().halted
    assert learned().by_base["ETH"].symbol == "ETHUSDT"
    assert sorted(learned().by_symbol) == [
        "1INCHUSDT", "BTCUPUSDT", "BTCUSDT", "ETHUSDT", "MATICUSDT", "USDCUSDT", "币安人生USDT",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("BTCEUR", "'BTCEUR' is not served here; BTC is served as BTCUSDT"),
        ("BTC-EUR", "BTC is served as BTCUSDT"),
        ("BTC-GBP", "no market for symbol 'BTC-GBP'"),
        ("PAXG", "no market for symbol 'PAXG'"),
        ("cardano", "no market for symbol 'cardano'"),
        ("NOPE", "no market for symbol 'NOPE'"),
        ("", "'' is not a symbol"),
        ("   ", "is not a symbol"),
        ("B*C", "'B*C' is not a symbol"),
        ("a.b", "no market for symbol 'a.b'"),
        ("a..b", "'a..b' is not a symbol"),
        (".a", "'.a' is not a symbol"),
        ("B" * 51, "is not a symbol"),
        ("BTC\n", "BTC"),
    ],
)
def test_a_name_that_is_not_served_is_refused_by_name(name: str, says: str) -> None:
    symbols = learned()
    if name.strip() == "BTC":
        assert symbols.base_of(name) == "BTC"
        return
    with pytest.raises(UnknownSymbolError) as refused:
        symbols.base_of(name)
    assert says in str(refused.value)


def test_a_ticker_wins_over_a_coin_of_that_name() -> None:
    symbols = Symbols()
    symbols.learn([*LISTED, Pair("SOLANAUSDT", "SOLANA", "USDT"), Pair("SOLUSDT", "SOL", "USDT")])
    assert symbols.base_of("solana") == "SOLANA"


def test_the_settings_may_name_bases() -> None:
    symbols = learned("eth", "1INCH")
    assert sorted(symbols.by_base) == ["1INCH", "ETH"]
    with pytest.raises(UnknownSymbolError, match="among those this server is set to serve"):
        symbols.base_of("BTC")
    with pytest.raises(UnknownSymbolError, match=r"no market for symbol 'NOPE'$"):
        symbols.base_of("NOPE")


def test_the_settings_may_name_pairs_which_then_stand_for_their_base() -> None:
    symbols = learned("BTCEUR", "ETHBTC", "USDC")
    assert {base: pair.symbol for base, pair in symbols.by_base.items()} == {
        "BTC": "BTCEUR",
        "ETH": "ETHBTC",
        "USDC": "USDCUSDT",
    }
    assert symbols.base_of("btc/eur") == "BTC"
    with pytest.raises(UnknownSymbolError, match="BTC is served as BTCEUR"):
        symbols.base_of("BTCUSDT")


def test_a_pair_that_is_named_wins_over_its_base_in_any_order_of_listing() -> None:
    for listed in (LISTED, LISTED[::-1]):
        symbols = Symbols(("BTC", "BTCEUR"))
        symbols.learn(listed)
        assert symbols.by_base["BTC"].symbol == "BTCEUR"


@pytest.mark.parametrize("base", ["A-B", "A_B", "A.B", "A-B_C.D", "币.安", "1-2", "X.USDT", "USDT-X"])
def test_a_base_with_marks_in_it_goes_by_every_spelling_that_others_go_by(base: str) -> None:
    symbols = Symbols()
    symbols.learn([*LISTED, Pair(f"{base}USDT", base, "USDT")])
    for spelling in (base, f"{base}USDT", *(f"{base}{mark}USDT" for mark in MARKS)):
        assert symbols.base_of(spelling) == symbols.base_of(f" {spelling.lower()} ") == base
        chosen = Symbols([spelling, "ETH-BTC"])
        chosen.learn([*LISTED, Pair(f"{base}USDT", base, "USDT"), Pair(f"{base}EUR", base, "EUR")])
        assert {name: pair.symbol for name, pair in chosen.by_base.items()} == {base: f"{base}USDT", "ETH": "ETHBTC"}


def test_of_several_quotes_the_first_is_preferred() -> None:
    for listed in (LISTED, LISTED[::-1]):
        symbols = Symbols((), ("EUR", "USDT", "BTC"))
        symbols.learn(listed)
        served = {base: pair.symbol for base, pair in symbols.by_base.items()}
        assert (served["BTC"], served["ETH"], served["PAXG"]) == ("BTCEUR", "ETHUSDT", "PAXGBTC")


@pytest.mark.parametrize(
    ("name", "base"),
    [("NEWCOIN", "NEWCOIN"), ("newcoinusdt", "NEWCOIN"), ("NEW-EUR", "NEW"), ("bitcoin", "BTC"), ("USDCUSDT", "USDC")],
)
def test_before_the_exchange_has_spoken_any_plausible_name_is_taken(name: str, base: str) -> None:
    symbols = Symbols()
    assert not symbols.known
    assert symbols.base_of(name) == base


def test_a_pair_that_a_list_lacks_is_gone_once_the_next_one_lacks_it_too() -> None:
    symbols = learned()
    new = [Pair("NEWUSDT", "NEW", "USDT")]
    symbols.learn(new)
    assert symbols.base_of("NEW-USDT") == "NEW"
    assert symbols.base_of("BTC-USDT") == "BTC"
    assert symbols.by_base["BTC"].status == UNLISTED
    symbols.learn([*new, *LISTED])
    assert symbols.by_base["BTC"] == LISTED[0]
    symbols.learn(new)
    symbols.learn(new)
    assert not symbols.unsure
    with pytest.raises(UnknownSymbolError):
        symbols.base_of("BTC-USDT")


def test_pairs_whose_names_would_break_a_topic_are_not_listed() -> None:
    symbols = Symbols()
    odd = ["A.", ".B", "C*", "D>", "E..F", "G H", "I,J"]
    symbols.learn([*(Pair(f"{base}USDT", base, "USDT") for base in odd), *LISTED])
    assert symbols.by_base.keys().isdisjoint(odd)


def test_a_thousand_names_are_read_at_once_however_many_pairs_there_are() -> None:
    symbols = Symbols()
    symbols.learn(Pair(f"C{number}USDT", f"C{number}", "USDT") for number in range(4000))
    started = time.process_time()
    for number in range(1000):
        symbols.base_of(f"C{number + 2999}-USDT")
    assert time.process_time() - started < 0.5


@given(name=st.text(max_size=60))
def test_any_text_is_a_base_we_serve_or_is_refused(name: str) -> None:
    symbols = learned()
    try:
        assert symbols.base_of(name) in symbols.by_base
    except UnknownSymbolError as refused:
        assert repr(name[:40])[:-1] in str(refused)


@pytest.mark.parametrize(
    ("symbol", "base", "quote"),
    [("USDCUSDT", "USDC", "USDT"), ("OMGBUSD", "OMG", "BUSD"), ("BLZETH", "BLZ", "ETH"), ("LTCBRL", "LTC", "BRL")],
)
def test_without_a_list_the_longest_known_quote_splits(symbol: str, base: str, quote: str) -> None:
    assert split_by_quote(symbol) == Pair(symbol, base, quote)


def test_a_symbol_that_is_all_quote_or_has_none_is_not_split() -> None:
    assert split_by_quote("USDT", ("USDT",)) is None
    assert split_by_quote("XYZ", QUOTES) is None

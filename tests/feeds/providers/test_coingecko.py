"""What CoinGecko says, read: recorded answers, its errors, its candles, and every way in which a row may be broken."""

import copy
import json
import math
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import cast

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.intervals import DAY_MS, HOUR_MS, MINUTE_MS, STEP_MS
from feeds.model import Candle, Coin, GlobalMarket, Quote, Trending
from feeds.providers.coingecko import NAME_PRO, CoinGecko, refusal, serves
from feeds.queries import CandleQuery, MarketQuery
from orchestrator.errors import (
    BadQuery,
    Blocked,
    Malformed,
    NotFound,
    Outdated,
    ProviderError,
    RateLimited,
    Unauthorized,
    Unavailable,
)
from orchestrator.http import HttpResponse
from orchestrator.provider import Steps
from orchestrator.upstream import T
from tests.conversations import answered, asked, date_ms, drive
from tests.fakes.clock import START_MS
from tests.fakes.coingecko import BY_ID, COINS, FakeCoinGecko
from tests.fakes.upstream import Fault

SAMPLES = Path(__file__).parents[2] / "samples" / "coingecko"
GECKO = CoinGecko()
NOW_MS = START_MS + 10_000
"""The date of the market samples of 2026."""


@cache
def raw_sample(name: str) -> bytes:
    return (SAMPLES / f"{name}.json").read_bytes()


def sample(name: str) -> dict[str, object]:
    return cast("dict[str, object]", orjson.loads(raw_sample(name)))


def recorded(name: str) -> HttpResponse:
    """A recorded answer, of the moment it was recorded."""
    whole = sample(name)
    return answered(whole["body"], at_ms=date_ms(str(whole.get("date", "Sun, 22 Nov 2026 00:00:10 GMT"))))


def query(interval: str, limit: int = 500, base: str = "BTC", **times: int) -> CandleQuery:
    return CandleQuery(base, f"{base}USDT", interval, limit, **times)


BITCOIN = Coin(
    "BTC", "bitcoin", "Bitcoin", 1, 86250.0, -0.0521, 1.470728, -3.25, 87000.0, 84500.5, 57388556375.0,
    1721656691250.0, 19961237.0, "usd", 1795305571736,
)  # fmt: skip


# --- the market table ---


def test_the_market_table_is_read_with_its_unknowns_unknown() -> None:
    read = drive(GECKO.markets(MarketQuery(100)), recorded("coins_markets"))
    assert not read.rejected
    bitcoin, ether, batcat = read.good
    assert bitcoin == BITCOIN
    assert (ether.change_24h_pct, ether.change_7d_pct, ether.change_1h_pct) == (None, None, -0.0521)
    assert (batcat.market_cap, batcat.circulating_supply, batcat.rank, batcat.high_24h) == (None, None, None, None)


def test_a_row_of_2021_without_the_newer_changes_is_read_too() -> None:
    (bitcoin,) = drive(GECKO.markets(MarketQuery(100)), recorded("coins_markets_2021")).good
    assert bitcoin == Coin(
        "BTC", "bitcoin", "Bitcoin", 1, 49053.0, None, -4.37931, None, 51300.0, 48019.0, 61679663434.0,
        917825524991.0, 18710831.0, "usd", 1621094383867,
    )  # fmt: skip


def test_the_market_table_is_asked_for_with_all_changes_in_pages() -> None:
    steps = GECKO.markets(MarketQuery(300))
    first = next(steps)
    assert first.path == "/coins/markets"
    assert first.params == {
        "vs_currency": "usd", "order": "market_cap_desc", "price_change_percentage": "1h,24h,7d",
        "per_page": "250", "page": "1",
    }  # fmt: skip
    row = cast("list[dict[str, object]]", sample("coins_markets")["body"])[0]
    second = steps.send(answered([row | {"id": f"coin-{n}"} for n in range(250)], at_ms=NOW_MS))
    assert second.params["page"] == "2"
    with pytest.raises(StopIteration) as done:
        steps.send(answered([row | {"id": f"coin-{n}"} for n in range(249, 400)], at_ms=NOW_MS))
    coins = done.value.value.good
    assert [coin.id for coin in coins] == [f"coin-{n}" for n in range(300)], "one on both pages counts once"


def test_coins_are_asked_for_by_id_where_that_is_known_and_else_by_symbol() -> None:
    assert next(GECKO.markets(MarketQuery(10, ("BTC", "ETH")))).params["ids"] == "bitcoin,ethereum"
    params = next(GECKO.markets(MarketQuery(10, ("BTC", "WIF")))).params
    assert params["symbols"] == "btc,wif"
    assert "ids" not in params, "it ignores symbols beside ids"


def test_of_several_coins_with_a_ticker_the_largest_is_meant() -> None:
    body = cast("list[object]", sample("coins_markets")["body"])
    read = drive(GECKO.markets(MarketQuery(10, ("BTC",))), answered(body[::-1], at_ms=NOW_MS))
    assert [coin.id for coin in read.good] == ["bitcoin"]
    candidates = drive(GECKO.candidates("btc"), answered(body[::-1], at_ms=NOW_MS))
    assert [coin.id for coin in candidates] == ["bitcoin", "batcat"]


def test_a_ticker_that_nothing_goes_by_is_not_found() -> None:
    for body in ([], sample("coins_markets")["body"]):
        with pytest.raises(NotFound):
            drive(GECKO.markets(MarketQuery(10, ("NOPE",))), answered(body, at_ms=NOW_MS))
    assert drive(GECKO.candidates("nope"), answered([])) == []
    with pytest.raises(NotFound):
        drive(GECKO.ohlc(query("4h", base="NOPE")), answered([]))


# --- old values ---


@pytest.mark.parametrize("minutes", [5, 11])
def test_values_that_stopped_ten_minutes_ago_are_outdated_by_their_own_stamps(minutes: int) -> None:
    at_ms = BITCOIN.ts + 8000 + minutes * MINUTE_MS

    def outcome(steps: Steps[T], name: str) -> T:
        return drive(steps, answered(sample(name)["body"], at_ms=at_ms))

    for ask in (GECKO.all_quotes, lambda: GECKO.markets(MarketQuery())):
        if minutes == 5:
            assert outcome(ask(), "coins_markets")
        else:
            with pytest.raises(Outdated):
                outcome(ask(), "coins_markets")


def test_age_is_measured_by_the_senders_clock_not_by_ours() -> None:
    response = recorded("coins_markets")
    ours_is_ahead = HttpResponse(200, response.headers, response.body, response.received_ms + HOUR_MS)
    assert drive(GECKO.markets(MarketQuery()), ours_is_ahead).good
    undated = HttpResponse(200, {}, response.body, response.received_ms + HOUR_MS)
    with pytest.raises(Outdated):
        drive(GECKO.markets(MarketQuery()), undated)


def test_an_old_price_of_a_small_coin_says_nothing_of_the_provider() -> None:
    row = cast("list[dict[str, object]]", sample("coins_markets")["body"])[2]
    read = drive(GECKO.markets(MarketQuery(5, ("BTC",))), answered([row], at_ms=NOW_MS))
    assert [coin.ts for coin in read.good] == [1795136400000]


# --- candles ---


def test_candles_of_2021_open_a_step_before_their_stamp_and_the_forming_one_is_left_out() -> None:
    response = recorded("ohlc_4h_2021")
    read = drive(GECKO.ohlc(query("4h")), response)
    assert len(read.good) == 41, "of 42 rows the last was still forming at 15:34"
    assert read.good[0] == Candle(
        "BTCUSD", "4h", 1620489600000, 1620503999999, 57945.79, 59122.18, 57945.79, 59122.18,
        None, None, None, True, 1620503999999,
    )  # fmt: skip
    assert read.good[-1].close_time == date_ms("Sat, 15 May 2021 12:00:00 GMT") - 1
    steps = [later.open_time - earlier.open_time for earlier, later in zip(read.good, read.good[1:], strict=False)]
    assert set(steps) == {4 * HOUR_MS}


def test_a_last_candle_is_whole_only_when_an_answer_kept_for_long_would_know_it_whole() -> None:
    rows = cast("list[list[float]]", sample("ohlc_4h_2021")["body"])
    ended = int(rows[-1][0])

    def last(late_ms: int, age: str = "0") -> int:
        read = drive(GECKO.ohlc(query("4h")), answered(rows, at_ms=ended + late_ms, headers={"age": age}))
        return read.good[-1].close_time + 1

    assert last(60_000) == ended - 4 * HOUR_MS, "the answer may have been made before it ended"
    assert last(16 * MINUTE_MS) == ended
    assert last(16 * MINUTE_MS, age="600") == ended - 4 * HOUR_MS
    assert last(26 * MINUTE_MS, age="600") == ended


def test_a_first_candle_that_began_before_the_window_is_left_out() -> None:
    at_ms = START_MS + 10 * MINUTE_MS
    rows = [[START_MS - DAY_MS + n * 30 * MINUTE_MS, 10.0, 12.0, 9.0, 11.0] for n in range(1, 49)]
    read = drive(GECKO.ohlc(query("30m")), answered(rows, at_ms=at_ms))
    assert read.good[0].open_time == START_MS - DAY_MS + 30 * MINUTE_MS, "the one from 00:00 was cut at 00:10"


@pytest.mark.parametrize(
    ("interval", "grain"),
    [("30m", None), ("1h", "30m"), ("2h", "30m"), ("4h", None), ("8h", "4h"), ("12h", "4h"), ("1d", "4h")],
)
async def test_each_interval_served_is_on_its_grid_whole_and_says_what_it_is_made_of(
    interval: str, grain: str | None
) -> None:
    assert serves(query(interval))
    now = START_MS + 7 * HOUR_MS + 50 * MINUTE_MS
    async with FakeCoinGecko(lambda: now) as fake:
        read = await asked(fake, GECKO.ohlc(query(interval)), refusal)
    step = STEP_MS[interval]
    opens = [candle.open_time for candle in read.good]
    assert opens == list(range(opens[0], opens[-1] + 1, step)), "without a hole"
    assert all(open_time % step == 0 for open_time in opens)
    assert opens[-1] + step <= now
    assert now - (opens[-1] + step) < step + 15 * MINUTE_MS, "nothing is lost that is known to be whole"
    bitcoin = BY_ID["bitcoin"]
    for candle in read.good:
        assert (candle.interval, candle.derived_from, candle.closed) == (interval, grain, True)
        assert (candle.volume, candle.quote_volume, candle.trades) == (None, None, None)
        assert (candle.open, candle.close) == (
            bitcoin.price_at(candle.open_time),
            bitcoin.price_at(candle.open_time + step),
        )


@pytest.mark.parametrize("interval", ["1m", "3m", "5m", "15m", "6h", "3d", "1w", "1M"])
def test_other_intervals_are_not_served(interval: str) -> None:
    assert not serves(query(interval))
    with pytest.raises(BadQuery):
        next(GECKO.ohlc(query(interval)))


@pytest.mark.parametrize(
    ("interval", "limit", "start", "end", "days"),
    [("30m", 10, None, None, "1"), ("2h", 500, None, None, "1"), ("4h", 10, None, None, "7"),
     ("4h", 60, None, None, "14"), ("1d", 5, None, None, "7"), ("1d", 12, None, None, "14"),
     ("1d", 30, None, None, "30"), ("4h", 10, 1, None, "30"), ("4h", 10, None, 1, "30")],
)  # fmt: skip
def test_no_more_days_are_asked_for_than_are_needed(
    interval: str, limit: int, start: int | None, end: int | None, days: str
) -> None:
    request = next(GECKO.ohlc(CandleQuery("BTC", "BTCUSDT", interval, limit, start, end)))
    assert (request.path, request.params) == ("/coins/bitcoin/ohlc", {"vs_currency": "usd", "days": days})


def test_candles_of_another_spacing_are_not_taken_for_those_asked_for() -> None:
    rows = cast("list[list[float]]", sample("ohlc_4h_2021")["body"])
    at_ms = int(rows[-1][0])
    with pytest.raises(Malformed, match="30m"):
        drive(GECKO.ohlc(query("30m")), answered(rows, at_ms=at_ms))
    wide = [[row[0] - row[0] % (4 * DAY_MS) + n * 4 * DAY_MS, *row[1:]] for n, row in enumerate(rows)]
    with pytest.raises(Malformed):
        drive(GECKO.ohlc(query("4h")), answered(wide, at_ms=int(wide[-1][0])))


def test_a_point_off_the_grid_and_a_row_that_contradicts_itself_cost_only_themselves() -> None:
    rows = cast("list[list[object]]", sample("ohlc_4h_2021")["body"])
    now = date_ms("Sat, 15 May 2021 15:34:27 GMT")
    rows[5][2], rows[6][3], rows[7][4] = 1.0, 1e9, None
    rows[-1][0] = now - 1000
    rows.append(["x"])
    read = drive(GECKO.ohlc(query("4h")), answered(rows, at_ms=now))
    assert read.rejected == {"high": 1, "low": 1, "close": 1, "stamp": 1, "row": 1}
    # The forming one is off the grid now, so what was before it is last, and long over.
    assert len(read.good) == 38


def test_candles_that_stopped_are_outdated_and_none_at_all_not_found() -> None:
    rows = sample("ohlc_4h_2021")["body"]
    with pytest.raises(Outdated):
        drive(GECKO.ohlc(query("4h")), answered(rows, at_ms=date_ms("Sun, 16 May 2021 15:34:27 GMT")))
    for body in ([], cast("list[object]", rows)[:1]):
        with pytest.raises(NotFound):
            drive(GECKO.ohlc(query("4h")), answered(body))
    with pytest.raises(NotFound):
        drive(GECKO.ohlc(query("4h", start=NOW_MS)), recorded("ohlc_4h_2021"))


def test_an_unknown_ticker_is_looked_up_before_its_candles_are_asked_for() -> None:
    steps = GECKO.ohlc(query("4h", base="WIF"))
    assert next(steps).params["symbols"] == "wif"
    row = cast("list[dict[str, object]]", sample("coins_markets")["body"])[0] | {"symbol": "wif"}
    request = steps.send(
        answered([row | {"id": "../dogwifcoin", "market_cap": 9}, row | {"market_cap": 3}], at_ms=NOW_MS)
    )
    assert request.path == "/coins/..%2Fdogwifcoin/ohlc", "an id is no path"


# --- the whole market, and what people look for ---


def test_the_whole_market_is_read() -> None:
    assert drive(GECKO.global_market(), recorded("global_2021")) == GlobalMarket(
        2142953338976.9612, 290548797852.028, -0.9554088490358789, 38.259132842486686, 18.555868478228195,
        {"BTC": 38.259132842486686, "ETH": 18.555868478228195, "BNB": 3.7183165449671693, "XRP": 3.4653227295636126,
         "ADA": 3.060792573051515, "DOGE": 2.9510624870337234, "USDT": 2.652530102969678, "DOT": 1.8165220265611126,
         "BCH": 0.9732382844468698, "LTC": 0.9582886668174445},
        7362, 616, 1621346159000,
    )  # fmt: skip


def test_totals_that_are_old_or_make_no_sense_are_refused() -> None:
    with pytest.raises(Outdated):
        drive(GECKO.global_market(), answered(sample("global_2024")["body"], at_ms=(1744025333 + 4000) * 1000))
    assert drive(
        GECKO.global_market(), answered(sample("global_2024")["body"], at_ms=(1744025333 + 900) * 1000)
    ).btc_dominance_pct == pytest.approx(60.7086, abs=1e-4)
    for body in (
        b"{}",
        b'{"data":null}',
        b'{"data":{"total_market_cap":{"usd":-1}}}',
        b'{"data":{"total_market_cap":{}}}',
    ):
        with pytest.raises(Malformed):
            drive(GECKO.global_market(), answered(body))


def test_trending_coins_of_2024_have_prices_and_those_of_2021_none() -> None:
    assert drive(GECKO.trending(), recorded("search_trending_2024")).good[0] == Trending(
        "QUBIC", "qubic-network", "Qubic", 368, 9.04766669820536e-07, -6.386464466210091
    )
    assert drive(GECKO.trending(), recorded("search_trending_2021")).good[0] == Trending(
        "MATIC", "matic-network", "Polygon", 16, None, None
    )


@pytest.mark.parametrize(
    ("spelled", "price"),
    [("$0.12", 0.12), ("$1,234.50", 1234.5), (0.12, 0.12), ("$0.0<sub>4</sub>12", None), (None, None), ("", None)],
)
def test_a_trending_price_may_be_spelled_for_people(spelled: object, price: float | None) -> None:
    body = cast("dict[str, list[dict[str, dict[str, object]]]]", sample("search_trending_2024")["body"])
    cast("dict[str, object]", body["coins"][0]["item"]["data"])["price"] = spelled
    assert drive(GECKO.trending(), answered(body)).good[0].price == price


# --- refusals ---

ERRORS: list[tuple[str, type[ProviderError]]] = [
    ("429_rate_limited", RateLimited),
    ("10005_plan_restricted", Unauthorized),
    ("10002_missing_or_bad_key", Unauthorized),
    ("10010_10011_wrong_host", Unauthorized),
    ("nested_variant", Unauthorized),
    ("flat_404", NotFound),
    ("non_json_cdn_block", Blocked),
    ("recorded_422", BadQuery),
    ("recorded_500", Unavailable),
]


@pytest.mark.parametrize(("name", "kind"), ERRORS)
def test_each_documented_or_recorded_error_is_of_its_kind(name: str, kind: type[ProviderError]) -> None:
    error = cast("dict[str, object]", sample("errors")[name])
    body = error["body"] if "body" in error else str(error["body_text"]).encode()
    headers = cast("dict[str, str]", error.get("headers", {}))
    refused = refusal("coingecko", answered(body, int(str(error["http"])), headers=headers))
    assert type(refused) is kind
    if isinstance(refused, RateLimited):
        assert refused.retry_after_s == 119.0


@pytest.mark.parametrize(("name", "kind"), [each for each in ERRORS if each[0] != "non_json_cdn_block"])
def test_an_error_inside_a_200_is_that_error(name: str, kind: type[ProviderError]) -> None:
    body = cast("dict[str, object]", sample("errors")[name])["body"]
    assert type(refusal("coingecko", answered(body))) is kind
    asks: list[Callable[[], Steps[object]]] = [
        lambda: GECKO.markets(MarketQuery()), lambda: GECKO.all_quotes(), lambda: GECKO.ohlc(query("4h")),
        lambda: GECKO.global_market(), lambda: GECKO.trending(),
    ]  # fmt: skip
    for ask in asks:
        with pytest.raises(kind):
            drive(ask(), answered(body))


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (403, b"<html>Attention Required! | Cloudflare</html>", Blocked),
        (429, b"<html>slow down</html>", RateLimited),
        (403, b"error code: 1015", RateLimited),
        (200, b"<!DOCTYPE html><title>Just a moment...</title>", Malformed),
        (200, b"", Malformed),
        (200, b"error", Malformed),
        (401, b"{}", Unauthorized),
        (404, b"<html>not here</html>", Malformed),
        (400, b"{}", BadQuery),
        (408, b"", Unavailable),
        (500, b"", Unavailable),
        (503, b"<html>", Unavailable),
        (302, b"", Malformed),
    ],
)
def test_an_error_without_words_of_its_own_is_what_its_status_says(
    status: int, body: bytes, kind: type[ProviderError]
) -> None:
    assert type(refusal("coingecko", answered(body, status))) is kind


def test_an_answer_is_no_refusal() -> None:
    for body in (b" [1]", b'{"bitcoin":{"usd":1}}', b'{"data":{}}', b'{"gecko_says":"(V3) To the Moon!"}', b'{"a":'):
        assert refusal("coingecko", answered(body)) is None


def test_no_error_repeats_a_key() -> None:
    for words in ("bad key CG-abcDEF123 sent", "see /x?x_cg_pro_api_key=CG-abc"):
        for status in (400, 404, 422, 500):
            refused = refusal("coingecko", answered({"error": words}, status))
            assert refused is not None
            assert "abc" not in str(refused)


# --- keys and limits, over loopback ---


def test_keys_travel_in_headers_that_no_text_shows() -> None:
    for name, header in (("coingecko", "x-cg-demo-api-key"), (NAME_PRO, "x-cg-pro-api-key")):
        account = CoinGecko(name, "CG-canary")
        request = next(account.global_market())
        assert request.headers == {header: "CG-canary"}
        assert "canary" not in f"{request} {account}"
    assert next(GECKO.global_market()).headers == {}


@pytest.mark.parametrize(
    ("pro_host", "account", "welcome"),
    [
        (False, CoinGecko(), True),
        (False, CoinGecko("coingecko", "CG-demo"), True),
        (False, CoinGecko("coingecko", "CG-other"), False),
        (False, CoinGecko(NAME_PRO, "CG-demo"), False),
        (True, CoinGecko(NAME_PRO, "CG-demo"), True),
        (True, CoinGecko(NAME_PRO, "CG-other"), False),
        (True, CoinGecko("coingecko", "CG-demo"), False),
        (True, CoinGecko(), False),
    ],
    ids=["keyless", "demo", "bad-demo", "pro-on-public", "pro", "bad-pro", "demo-on-pro", "keyless-on-pro"],
)
async def test_a_key_that_does_not_fit_its_host_is_unauthorized(
    pro_host: bool, account: CoinGecko, welcome: bool
) -> None:
    async with FakeCoinGecko(lambda: START_MS, pro=pro_host, keys=["CG-demo"]) as fake:
        if welcome:
            assert (await asked(fake, account.markets(MarketQuery(3)), refusal)).good
        else:
            with pytest.raises(Unauthorized):
                await asked(fake, account.markets(MarketQuery(3)), refusal)


async def test_every_question_is_answered_by_a_live_looking_market() -> None:
    async with FakeCoinGecko(lambda: START_MS) as fake:
        table = await asked(fake, GECKO.markets(MarketQuery(260)), refusal)
        assert (len(table.good), len({coin.id for coin in table.good})) == (260, 260)
        assert [coin.rank for coin in table.good] == list(range(1, 261))
        prices = await asked(fake, GECKO.all_quotes(), refusal)
        assert {quote.symbol: quote.price for quote in prices.good}["BTC"] == table.good[0].price
        some = await asked(fake, GECKO.markets(MarketQuery(10, ("HYPE", "C3"))), refusal)
        assert [coin.symbol for coin in some.good] == ["HYPE", "C3"]
        assert [coin.id for coin in await asked(fake, GECKO.candidates("HYPE"), refusal)] == [
            "hyperliquid", "hype-token-2",
        ]  # fmt: skip
        market = await asked(fake, GECKO.global_market(), refusal)
        assert sum(market.dominance_pct.values()) < 100
        assert market.active_cryptocurrencies == len(COINS)
        assert len((await asked(fake, GECKO.trending(), refusal)).good) == 7
        hype = await asked(fake, GECKO.ohlc(query("1d", base="HYPE")), refusal)
        assert hype.good[-1].symbol == "HYPEUSD"
        assert fake.over_limit == 0


async def test_a_refusal_for_asking_too_fast_has_a_time_to_wait() -> None:
    async with FakeCoinGecko(lambda: START_MS, per_minute=3) as fake:
        for _ in range(3):
            await asked(fake, GECKO.global_market(), refusal)
        with pytest.raises(RateLimited) as limited:
            await asked(fake, GECKO.global_market(), refusal)
        assert limited.value.retry_after_s is not None
        assert 50 <= limited.value.retry_after_s <= 60
        assert fake.over_limit == 1


async def test_a_cache_that_is_stuck_is_noticed() -> None:
    async with FakeCoinGecko(lambda: START_MS) as fake:
        fake.frozen_ms = START_MS - 11 * MINUTE_MS
        with pytest.raises(Outdated):
            await asked(fake, GECKO.markets(MarketQuery(10)), refusal)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(html=True), Malformed),
        (Fault(body=b""), Malformed),
        (Fault(cut_at=40), Unavailable),
        (Fault(drift=lambda body: body[:-9]), Malformed),
        (Fault(drift=lambda body: body.replace(b'"symbol":"', b'"sign":"')), Malformed),
        (Fault(status=403, html=True), Blocked),
    ],
    ids=["html", "empty", "cut", "half", "drifted", "blocked"],
)
async def test_a_broken_answer_is_no_market_table(fault: Fault, kind: type[ProviderError]) -> None:
    async with FakeCoinGecko(lambda: START_MS) as fake:
        fake.always = fault
        with pytest.raises(kind):
            await asked(fake, GECKO.markets(MarketQuery(10)), refusal)


async def test_an_unknown_coin_or_a_missing_parameter_is_refused_in_its_own_words() -> None:
    async with FakeCoinGecko(lambda: START_MS) as fake:
        fake.script.append(Fault(drift=lambda body: body.replace(b'"hyperliquid"', b'"gone"')))
        with pytest.raises(NotFound, match="coin not found"):
            await asked(fake, GECKO.ohlc(query("4h", base="HYPE")), refusal)
        assert [call.path for call in fake.calls] == ["/coins/markets", "/coins/gone/ohlc"]


# --- mutations ---

BAD_VALUES: list[object] = [
    None, True, [], {}, "", "NaN", "-Infinity", "1e400", "-1", "0", -1, 0, 1.5, 10**18, 10**30, 1e308, 5e-324, "\x00",
    "2026-13-45T99:00:00Z", "9999-12-31T23:59:59Z",
]  # fmt: skip
LITERALS = ["NaN", "Infinity", "-Infinity", "1e400", "9" * 400, "1.0E+2"]
MARK = "@literal@"
MISSING = object()
NAMES = ("coins_markets", "ohlc_4h_2021", "global_2021", "search_trending_2024")


def places(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every value in a JSON document."""
    yield path
    for key, each in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(each, (*path, key))


def mutated(document: object, path: tuple[str | int, ...], new: object) -> object:
    if not path:
        return None if new is MISSING else new
    document = copy.deepcopy(document)
    parent = document
    for step in path[:-1]:
        parent = parent[step]  # type: ignore[index]
    if new is MISSING:
        del parent[path[-1]]  # type: ignore[attr-defined]
    else:
        parent[path[-1]] = new  # type: ignore[index]
    return document


def numbers_of(value: object) -> Iterator[float]:
    """Every number in a value."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return
    if isinstance(value, (int, float)):
        yield value
    else:
        for each in value.values() if isinstance(value, dict) else cast("list[object]", value):
            yield from numbers_of(each)


@settings(max_examples=400)
@given(data=st.data())
def test_no_broken_answer_does_worse_than_to_be_refused(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(NAMES))
    whole = sample(name)
    body = whole["body"]
    if name == "ohlc_4h_2021":
        body = cast("list[object]", body)[-4:]
    path = data.draw(st.sampled_from(list(places(body))))
    literal = data.draw(st.none() | st.sampled_from(LITERALS))
    if literal is not None:
        raw = json.dumps(mutated(body, path, MARK)).replace(f'"{MARK}"', literal).encode()
    else:
        new = data.draw(st.just(MISSING) | st.sampled_from(BAD_VALUES) | st.text(max_size=5) | st.integers())
        raw = json.dumps(mutated(body, path, new)).encode()
    asks: dict[str, Callable[[], Steps[object]]] = {
        "coins_markets": lambda: GECKO.markets(MarketQuery()),
        "ohlc_4h_2021": lambda: GECKO.ohlc(query("4h")),
        "global_2021": lambda: GECKO.global_market(),
        "search_trending_2024": lambda: GECKO.trending(),
    }
    at_ms = date_ms(str(whole["date"])) if "date" in whole else NOW_MS
    try:
        value = drive(asks[name](), answered(raw, at_ms=at_ms))
    except ProviderError:
        return
    told = orjson.loads(orjson.dumps(value, default=lambda left: left.good))
    assert all(math.isfinite(number) for number in numbers_of(told))
    for row in getattr(value, "good", []):
        price = getattr(row, "price", None)
        assert price is None or 0 < price < 1e18
        if isinstance(row, Candle):
            assert 0 < row.low <= min(row.open, row.close) <= max(row.open, row.close) <= row.high
        if isinstance(row, (Coin, Quote)):
            assert 0 < row.ts <= at_ms + DAY_MS
            assert row.symbol == row.symbol.upper()


@settings(max_examples=150)
@given(data=st.data())
def test_a_broken_row_costs_only_itself(data: st.DataObject) -> None:
    body = sample("coins_markets")["body"]
    inside = [path for path in places(body) if path[:1] == (1,) and path]
    new = data.draw(st.just(MISSING) | st.sampled_from(BAD_VALUES) | st.text(max_size=5) | st.integers())
    raw = json.dumps(mutated(body, data.draw(st.sampled_from(inside)), new)).encode()
    read = drive(GECKO.markets(MarketQuery()), answered(raw, at_ms=NOW_MS))
    assert read.good[0] == BITCOIN
    assert len(read.good) + read.rejected.total() in (2, 3)

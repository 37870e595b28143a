"""A sweep of the providers' parsers: each field of each recorded answer is set to bad values, one at a time.

    $ .venv/bin/python -m tests.sweep

prints the figures. A new provider is swept as soon as its answer is listed in CASES;
`tests/feeds/providers/test_sweep.py` fails while a module of `feeds/providers` has none.
"""

import copy
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import orjson

from feeds.dt_requests import DtQuery, ask
from feeds.exchange.venue import Prices
from feeds.fields import BadFieldError, Rows
from feeds.news.articles import NewsQuery
from feeds.news.scores import Texts
from feeds.providers import (
    alternative_me,
    blockscout,
    coingecko,
    crypto_api_clean,
    cryptopanic,
    ethereum_rpc,
    etherscan,
    huggingface,
    newsapi,
    reddit,
    rss,
)
from feeds.queries import CandleQuery, MarketQuery
from feeds.venues.binance import rest
from orchestrator import repairs
from orchestrator.errors import ProviderError
from orchestrator.http import HttpResponse
from orchestrator.provider import Steps
from orchestrator.texts import HIDDEN
from tests.conversations import answered, date_ms, drive
from tests.fakes.clock import START_MS
from tests.feeding import read_frame

SAMPLES = Path(__file__).parent / "samples"
LONGEST_ROW_BYTES = 64 * 1024
ROWS_SWEPT = 1
"""Rows of an answer to change; the others have the same fields."""

VALUES: Mapping[str, object] = {
    "null": None,
    "empty": "",
    "zero": 0,
    "minus one": -1,
    "1e300": 1e300,
    "NaN": float("nan"),
    "lone surrogate": "a\ud83d\u202eb\x00c",
    "1 MB": "x\u202e" * 50 + "y" * 1_000_000,
    "list": [1, "a"],
    "object": {"a": 1},
}
SILENT = ("null", "empty", "zero", "minus one")
"""Values that a source may mean: nothing, or a number."""


def as_json(body: object) -> bytes:
    """Encode a body as a careless program does: lone surrogates escaped, NaN without quotes."""
    return json.dumps(body).encode()


@dataclass(frozen=True, slots=True)
class Case:
    """One answer of one provider. `rows` is the path of its list of rows; None means that the whole body is one row.

    Only the dotted fields in `essential` (`source.title`), and those inside them, may cost a row.
    """

    provider: str
    name: str
    body: Any
    read: Callable[[HttpResponse], Sequence[object]]
    essential: frozenset[str]
    rows: tuple[str | int, ...] | None = ()
    at_ms: int = START_MS
    encode: Callable[[object], bytes] = as_json

    def __str__(self) -> str:
        return f"{self.provider} {self.name}"

    def response(self, body: object) -> HttpResponse:
        """Return the answer with this body."""
        return answered(self.encode(body), at_ms=self.at_ms)


@dataclass(slots=True)
class Figures:
    """Results of a sweep."""

    mutations: int = 0
    rows_lost: int = 0
    """Rows that were lost for an essential field."""
    became_null: int = 0
    noted: int = 0
    findings: list[str] = field(default_factory=list)

    def __add__(self, other: "Figures") -> "Figures":
        return Figures(
            self.mutations + other.mutations,
            self.rows_lost + other.rows_lost,
            self.became_null + other.became_null,
            self.noted + other.noted,
            self.findings + other.findings,
        )


def sweep(case: Case) -> Figures:
    """Set each field of the first rows to each of VALUES, and compare the result with that of the sound answer."""
    figures = Figures()
    sound = [_plain(each) for each in case.read(case.response(case.body))]
    for number in range(ROWS_SWEPT):
        for path in list(_paths(_row(case, case.body, number))):
            for label, value in VALUES.items():
                figures.mutations += 1
                row = _row(case, case.body, number)
                before = _set(row, path, value)
                _check(case, sound, path, label, case.response(case.body), before, figures)
                _set(row, path, before)
    return figures


def _check(
    case: Case,
    sound: list[object],
    path: tuple[str | int, ...],
    label: str,
    response: HttpResponse,
    before: object,
    figures: Figures,
) -> None:
    where = f"{case}: {'.'.join(map(str, path))} = {label}"
    essential = _is_essential(case, path)
    with repairs.noted() as notes:
        try:
            read = [_plain(each) for each in case.read(response)]
        except (ProviderError, BadFieldError) as error:
            figures.rows_lost += 1
            if not essential:
                figures.findings.append(f"{where}: the answer is lost ({error})")
            elif case.rows is not None and len(sound) > 1:
                figures.findings.append(f"{where}: the answer is lost for one row ({error})")
            return
    noted = notes.repaired.total() + notes.rejected.total()
    figures.noted += bool(noted)
    lost = len(sound) - len(read)
    figures.rows_lost += max(0, lost)
    if lost > essential:
        figures.findings.append(f"{where}: {lost} rows are lost")
    nulls = _nulls(read) - _nulls(sound) if not lost else 0
    figures.became_null += nulls > 0
    silent = label in SILENT or (label == "object" and isinstance(before, dict))  # an object with unknown fields
    if (nulls > 0 or lost > 0) and not silent and not noted:
        figures.findings.append(f"{where}: a loss without a repair note")
    for row in read:
        if len(orjson.dumps(row)) > LONGEST_ROW_BYTES:
            figures.findings.append(f"{where}: a row of {len(orjson.dumps(row))} bytes")
        if any(HIDDEN.search(text) for text in _texts(row)):
            figures.findings.append(f"{where}: an unclean text")


def _row(case: Case, body: Any, number: int) -> Any:
    if case.rows is None:
        return body
    for step in case.rows:
        body = body[step]
    return body[number]


def _is_essential(case: Case, path: Sequence[str | int]) -> bool:
    dotted = ".".join(map(str, path))
    return any(
        dotted == each or dotted.startswith(f"{each}.") or each.startswith(f"{dotted}.") for each in case.essential
    )


def _paths(value: object) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of every field, also of outer ones; of a list only the first two elements."""
    steps: Sequence[str | int] = ()
    if isinstance(value, dict):
        steps = list(value)
    elif isinstance(value, list):
        steps = range(len(value) if value and not isinstance(value[0], dict) else min(2, len(value)))
    for step in steps:
        yield (step,)
        inner: Any = value
        yield from ((step, *rest) for rest in _paths(inner[step]))


def _set(row: Any, path: Sequence[str | int], value: object) -> object:
    """Set a field; return its previous value."""
    for step in path[:-1]:
        row = row[step]
    before: object = row[path[-1]]
    row[path[-1]] = value
    return before


def _plain(value: object) -> object:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _nulls(value: object) -> int:
    match value:
        case None:
            return 1
        case dict():
            return sum(map(_nulls, value.values()))
        case list() | tuple():
            return sum(map(_nulls, value))
    return 0


def _texts(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for name, inner in value.items():
                yield from _texts(name)
                yield from _texts(inner)
        case list() | tuple():
            for inner in value:
                yield from _texts(inner)


# --- the answers ---


def _load(path: str) -> Any:
    return orjson.loads((SAMPLES / path).read_bytes())


def _steps(conversation: Callable[[], Steps[Any]], *more: object) -> Callable[[HttpResponse], Sequence[object]]:
    """Return a reader that runs a conversation on the answer, and on sound further answers."""

    def read(response: HttpResponse) -> Sequence[object]:
        return _listed(drive(conversation(), response, *(answered(each) for each in more)))

    return read


def _listed(value: Any) -> Sequence[object]:
    match value:
        case Rows(good=good):
            return good
        case list() | tuple():
            return value
    return [value]


def _frame(response: HttpResponse) -> Sequence[object]:
    frame = read_frame(response.body, response.received_ms)
    return frame.rows.good if isinstance(frame, Prices) else [frame]


def _at_least_two(rows: list[Any], **changes: object) -> list[Any]:
    """Return a list of at least two rows, so that one of them can be lost."""
    return rows if len(rows) > 1 else [*rows, {**copy.deepcopy(rows[0]), **changes}]


def _case(
    provider: str, name: str, body: Any, read: Callable[[HttpResponse], Sequence[object]], essential: str, **more: Any
) -> Case:
    return Case(provider, name, body, read, frozenset(essential.split()), **more)


GECKO = coingecko.CoinGecko()
GECKO_MS = date_ms("Sun, 22 Nov 2026 00:00:10 GMT")
DT_MS = 1_765_614_150_000
SCAN = etherscan.Etherscan("k")
NEWS = NewsQuery()


def _xml_feed(body: object) -> bytes:
    """Encode items as RSS. Lists and objects become markup."""

    def xml(value: object) -> str:
        match value:
            case None:
                return ""
            case dict():
                return "".join(f"<{name}>{xml(inner)}</{name}>" for name, inner in value.items())
            case list():
                return "".join(f"<li>{xml(inner)}</li>" for inner in value)
        return escape(str(value).replace("\ud83d", "&#xd83d;").replace("\x00", "&#0;")).replace("&amp;#", "&#")

    assert isinstance(body, list)
    return (
        f"<rss version='2.0'><channel>{''.join(f'<item>{xml(each)}</item>' for each in body)}</channel></rss>".encode()
    )


FEED = [
    {
        "title": f"Ether gains {number}",
        "link": f"https://example.com/{number}",
        "guid": f"id-{number}",
        "pubDate": "Sat, 21 Nov 2026 17:00:00 CET",
        "description": "Funds buy ether.",
        "category": "ETH",
    }
    for number in range(2)
]


@cache
def cases() -> tuple[Case, ...]:
    """Return every answer of the sweep."""
    dt = _load("crypto_dt_source/shapes.json")
    gecko = {name: _load(f"coingecko/{name}.json")["body"] for name in ("coins_markets", "global_2024")}
    trending = _load("coingecko/search_trending_2024.json")
    ohlc = _load("coingecko/ohlc_4h_2021.json")
    batch = _load("ethereum_rpc/batch.json")
    block_ms = 1000 * int(next(each for each in batch if each["id"] == 2)["result"]["timestamp"], 16)
    scored = [[{"label": "positive", "score": 0.9}, {"label": "neutral", "score": 0.1}]]
    resources = {"resources": _load("crypto_api_clean/market_data_apis.json")["resources"]}
    categories = _load("crypto_api_clean/categories.json")

    days = _load("alternative_me/three_days.json")
    listed = _load("reddit/listing.json")["data"]["children"]
    posts = [each for each in listed if not each["data"].get("stickied") and not each["data"].get("over_18")]
    full = _load("cryptopanic/posts_v2_full_plan.json")["results"]
    panic = _at_least_two(full, id=9, title="Other", url="https://cryptopanic.com/9", original_url=None)
    one_category = answered({"categories": [{"name": "a"}]})
    hour_ms = 3_600_000

    def dt_case(name: str, query: DtQuery, essential: str, rows: tuple[str | int, ...] | None = ("data",)) -> Case:
        body = copy.deepcopy(dt[name])
        if name == "klines":
            row = body["data"][0]
            body["data"] = [row | {"timestamp": row["timestamp"] - number * hour_ms} for number in (3, 2, 1, 0)]
        elif rows == ("data",):
            body["data"] = _at_least_two(body["data"], symbol="ETH", id="other2")
        return _case("crypto_dt_source", name, body, _steps(lambda: ask(query)), essential, rows=rows, at_ms=DT_MS)

    return (
        _case(
            "coingecko",
            "coins",
            gecko["coins_markets"],
            _steps(lambda: GECKO.markets(MarketQuery(100))),
            "id symbol current_price",
            at_ms=GECKO_MS,
        ),
        _case(
            "coingecko",
            "global",
            gecko["global_2024"],
            _steps(GECKO.global_market),
            "data.total_market_cap.usd",
            rows=None,
            at_ms=1000 * gecko["global_2024"]["data"]["updated_at"] + 5000,
        ),
        _case(
            "coingecko",
            "trending",
            trending["body"],
            _steps(GECKO.trending),
            "item.id item.symbol",
            rows=("coins",),
            at_ms=GECKO_MS,
        ),
        _case(
            "coingecko",
            "ohlc",
            ohlc["body"],
            _steps(lambda: GECKO.ohlc(CandleQuery("BTC", "BTCUSDT", "4h", 500))),
            "0 1 2 3 4",
            at_ms=ohlc["body"][-1][0] + 1_200_000,
        ),
        _case(
            "alternative_me",
            "days",
            days,
            _steps(lambda: alternative_me.fear_greed(3)),
            "value timestamp",
            rows=("data",),
            at_ms=1000 * int(days["data"][0]["timestamp"]) + hour_ms,
        ),
        _case(
            "blockscout",
            "gas",
            _load("blockscout/stats.json"),
            _steps(blockscout.Blockscout().gas),
            "gas_prices",
            rows=None,
            at_ms=date_ms("Sun, 22 Nov 2026 00:00:00 GMT"),
        ),
        _case(
            "blockscout", "stats", _load("blockscout/stats.json"), _steps(blockscout.Blockscout().stats), "", rows=None
        ),
        _case(
            "etherscan",
            "gas",
            _load("etherscan/gasoracle_2025.json"),
            _steps(SCAN.gas),
            "status message result",
            rows=None,
        ),
        _case(
            "ethereum_rpc",
            "gas",
            batch,
            lambda response: _listed(drive(ethereum_rpc.gas(), response)),
            "0.id 0.result 1.id 1.result.number 1.result.timestamp 2.id 2.result.oldestBlock 2.result.baseFeePerGas",
            rows=None,
            at_ms=block_ms + 4000,
        ),
        _case(
            "huggingface",
            "scores",
            scored,
            _steps(lambda: huggingface.HuggingFace("t").score(Texts(("a",)))),
            "0",
            rows=None,
        ),
        _case(
            "cryptopanic",
            "posts",
            {"results": panic},
            _steps(lambda: cryptopanic.CryptoPanic("t").articles(NEWS)),
            "",
            rows=("results",),
        ),
        _case(
            "newsapi",
            "everything",
            _load("newsapi/everything.json"),
            _steps(lambda: newsapi.NewsApi("k").articles(NEWS)),
            "",
            rows=("articles",),
        ),
        _case(
            "reddit",
            "listing",
            {"data": {"children": posts}},
            lambda response: reddit.read_listing(response).good,
            "data removed_by_category removed_by",
            rows=("data", "children"),
        ),
        _case(
            "rss",
            "items",
            FEED,
            lambda response: rss.read_feed(response, "rss:t", "t", url="https://example.com/f").good,
            "",
            encode=_xml_feed,
        ),
        _case(
            "crypto_api_clean",
            "resources",
            resources,
            lambda response: _listed(drive(crypto_api_clean.catalogue(), one_category, response)),
            "id",
            rows=("resources",),
        ),
        _case(
            "crypto_api_clean",
            "categories",
            categories,
            lambda response: crypto_api_clean.read_categories(response),
            "name",
            rows=("categories",),
        ),
        _case(
            "crypto_api_clean",
            "health",
            _load("crypto_api_clean/health.json"),
            _steps(crypto_api_clean.health),
            "status",
            rows=None,
        ),
        _case(
            "crypto_api_clean",
            "stats",
            _load("crypto_api_clean/stats.json"),
            _steps(crypto_api_clean.stats),
            "categories",
            rows=None,
        ),
        _case(
            "binance",
            "klines",
            _load("binance/rest_klines.json"),
            _steps(lambda: rest.candles(CandleQuery("BTC", "BTCUSDT", "1m", 10))),
            "0 1 2 3 4 6",
        ),
        _case(
            "binance",
            "tickers",
            _load("binance/rest_tickers_mini.json"),
            lambda response: rest.read_tickers_24h(response).good,
            "symbol lastPrice",
        ),
        _case(
            "binance",
            "pairs",
            _load("binance/rest_exchange_info.json"),
            lambda response: rest.read_exchange_info(response),
            "symbol baseAsset quoteAsset",
            rows=("symbols",),
        ),
        _case(
            "binance", "mini tickers", _load("binance/ws_mini_tickers_combined.json"), _frame, "s c E", rows=("data",)
        ),
        _case(
            "binance",
            "kline",
            _load("binance/ws_kline_combined.json"),
            _frame,
            "data.e data.E data.s data.k.t data.k.T data.k.s data.k.i data.k.o data.k.c data.k.h data.k.l data.k.x",
            rows=None,
        ),
        dt_case("price_limit", DtQuery("prices"), "symbol price timestamp"),
        dt_case("price_symbols", DtQuery("prices", symbols=("BTC", "ETH")), "symbol price timestamp"),
        dt_case("klines", DtQuery("klines", symbols=("BTC",), limit=100), "timestamp open high low close"),
        dt_case("fng", DtQuery("fear-greed", limit=30), "value timestamp"),
        dt_case("reddit_top", DtQuery("reddit", name="cryptocurrency", limit=100), ""),
        dt_case("rss", DtQuery("news", name="coindesk", limit=100), "source"),
        dt_case("news", DtQuery("news", name="latest", limit=100), ""),
        dt_case("models", DtQuery("models"), "model_key model_id", ("models",)),
        dt_case("datasets", DtQuery("datasets"), "dataset_key dataset_id", ("datasets",)),
        dt_case("sentiment", DtQuery("sentiment", text="x"), "success label score model", None),
        dt_case("status", DtQuery("status"), "success status", None),
        dt_case("api", DtQuery("health"), "", None),
    )


def main() -> None:
    """Print the figures of each answer."""
    total, of_provider = Figures(), Counter[str]()
    print(f"{'answer':32} {'mutations':>9} {'rows lost':>9} {'nulled':>7} {'noted':>6} findings")
    for case in cases():
        figures = sweep(case)
        of_provider[case.provider] += figures.mutations
        total += figures
        print(
            f"{case!s:32} {figures.mutations:9} {figures.rows_lost:9} {figures.became_null:7} {figures.noted:6}"
            f" {len(figures.findings)}"
        )
        for finding in figures.findings:
            print(f"    {finding[:160]}")
    print(
        f"{len(of_provider)} providers, {total.mutations} mutations, {total.rows_lost} rows lost for an essential"
        f" field, {total.became_null} nulled, {total.noted} noted, {len(total.findings)} findings"
    )


if __name__ == "__main__":
    main()

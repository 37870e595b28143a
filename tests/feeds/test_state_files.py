"""Files of an earlier run with anything in them: they stop no start, break no answer, and what is bad is named."""

import asyncio
import copy
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from feeds import events
from feeds.catalog import Sources
from feeds.fields import rows
from feeds.model import FearGreed, GlobalMarket, Resource, Sentiment
from feeds.news.articles import article
from feeds.news.desk import Held, kept_held
from feeds.providers import alternative_me, crypto_api_clean
from orchestrator.bans import BanFile
from orchestrator.clock import SystemClock
from orchestrator.persistence import AnswerStore, StoredAnswer
from stream_server.rest import news
from tests.harness import running

NOW_MS = SystemClock().wall_ms()
ARTICLE = article(
    title="Ether gains", url="https://example.com/1", outlet="tested", kind="news", published_ms=NOW_MS - 60_000,
    received_ms=NOW_MS, summary="Funds buy.", votes={"liked": 3},
)  # fmt: skip
assert ARTICLE is not None

SOUND: Mapping[str, bytes] = {
    "news": orjson.dumps([Held(ARTICLE, Sentiment("positive", 0.5, "lexicon", 0.5), "rss:tested", NOW_MS)]),
    "global": events.global_json(GlobalMarket(1e12, 1e10, 1.0, 50.0, 10.0, {"BTC": 50.0}, 10, 20, NOW_MS)),
    "fear_greed": alternative_me.to_json([FearGreed(40, "Fear", NOW_MS, 60)]),
    "catalogue": crypto_api_clean.to_json(
        [Resource("prices", "one", "One", "https://one.example", "none", None, {"all": "/x"}, None)]
    ),
    "identities": orjson.dumps({"NEIRO": ["neiro-3", 1, 0.0004]}),
}
SOURCES = {"news": "rss:tested", "global": "coingecko", "fear_greed": "alternative_me", "catalogue": "crypto_api_clean"}
BANS = {"binance": NOW_MS + 3_600_000}
WRONG: tuple[object, ...] = (
    None,
    "",
    "text",
    0,
    -1,
    1.5,
    10**30,
    True,
    [],
    [1],
    {},
    {"a": 1},
    "\x00\u202e",
    "y" * 70_000,
)
NOT_JSON = (b"\xff\xfe{", b"[" * 100_000)
ENDPOINTS = (
    "/api/news", "/api/market/global", "/api/sentiment/global", "/api/status", "/health/live", "/api/topics",
    "/api/new-sources/crypto-api-clean/resources", "/api/snapshot?topics=>",
)  # fmt: skip


def write(folder: Path) -> None:
    """The files as a sound run leaves them."""
    store = AnswerStore(folder / "answers")
    for name, text in SOUND.items():
        store.put(name, StoredAnswer(text, SOURCES.get(name, name), NOW_MS))
    (folder / "bans.json").write_bytes(orjson.dumps(BANS))
    (folder / "binance_pairs.json").write_bytes(orjson.dumps([["BTCUSDT", "BTC", "USDT", "TRADING"]]))


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.json"))


def paths(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in a document, itself included; of a long list the first ones."""
    yield at
    if isinstance(value, dict):
        for name in value:
            yield from paths(value[name], (*at, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value[:4]):
            yield from paths(inner, (*at, number))


def changed(document: Any, at: tuple[str | int, ...], value: object) -> Any:
    if not at:
        return value
    document = copy.deepcopy(document)
    place = document
    for step in at[:-1]:
        place = place[step]
    place[at[-1]] = value
    return document


def spoilt(folder: Path, choose: Callable[[list[tuple[str | int, ...]]], tuple[str | int, ...]], value: object) -> None:
    """Write one wrong value into each file, at the place that is chosen among all."""
    for path in files(folder):
        document = orjson.loads(path.read_bytes())
        path.write_text(json.dumps(changed(document, choose(list(paths(document))), value)))


def aside(folder: Path) -> set[str]:
    """The files that were set aside."""
    return {path.name for path in folder.rglob("*.bad")}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news, "FIRST_WITHIN_S", 0.1)


async def hold(folder: Path) -> Sources:
    """Start a service on the folder, all of whose sources are dead, and ask what it can be asked."""
    async with running(None, folder, None, CACHE_TTL_S="1") as service:

        async def ask(endpoint: str) -> None:
            async with service.http.get(service.url + endpoint) as answer:
                assert answer.status in (200, 404, 503), (endpoint, answer.status, await answer.text())
                orjson.loads(await answer.read())

        await asyncio.gather(*(ask(endpoint) for endpoint in ENDPOINTS))
        assert service.context.sources is not None
        return service.context.sources


async def test_a_sound_folder_is_read_without_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path)
    with caplog.at_level(logging.WARNING):
        sources = await hold(tmp_path)
    assert [each for each in caplog.messages if each.startswith("state_")] == []
    assert [each.article for each in sources.desk.held.values()] == [ARTICLE]
    assert all(
        pool.held.values for pool in (sources.market.totals, sources.sentiment.fear_greed, sources.catalogues.resources)
    )
    assert aside(tmp_path) == set()


@pytest.mark.parametrize("raw", NOT_JSON)
async def test_files_that_are_no_json_are_set_aside(
    tmp_path: Path, raw: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path)
    for path in files(tmp_path):
        path.write_bytes(raw)
    with caplog.at_level(logging.WARNING):
        await hold(tmp_path)
    names = aside(tmp_path)
    assert {f"{name}.json.bad" for name in ("bans", "news", "global", "fear_greed", "catalogue")} <= names
    assert caplog.messages.count("state_unreadable") >= len(names)


@pytest.mark.parametrize("number", (1, 6, 11))
async def test_wrong_values_in_every_file_at_once_stop_no_start(tmp_path: Path, number: int) -> None:
    write(tmp_path)
    spoilt(tmp_path, lambda places: places[number % len(places)], WRONG[number % len(WRONG)])
    await hold(tmp_path)


@pytest.mark.parametrize("name", SOUND)
def test_each_entry_of_each_answer_is_judged_by_itself(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Every place of every file takes every wrong value: the entry is sound or gone, and the others are there."""
    if name == "identities":
        return  # its own test has them
    read: Callable[[bytes], object] = {
        "news": _news,
        "global": lambda kept: [events.global_from_json(kept)],
        "fear_greed": lambda kept: alternative_me.from_json(kept).good,
        "catalogue": lambda kept: crypto_api_clean.from_json(kept).good,
    }[name]
    document = orjson.loads(SOUND[name])
    if isinstance(document, list):
        document.append(copy.deepcopy(document[0]))
    for place in paths(document):
        for value in WRONG:
            raw = json.dumps(changed(document, place, value)).encode()
            try:
                found = read(orjson.dumps(json.loads(raw))) if value != 10**30 else []
            except ValueError:
                assert name == "global" or len(place) == 0, (place, value)
                continue
            text = orjson.dumps(found)
            assert len(text) < 64 * 1024, (place, value)
            assert b"\\u0000" not in text
            if isinstance(document, list) and place[:1] == (0,) and value != 10**30:
                assert isinstance(found, list)
                assert found, (place, value)


def _news(kept: bytes) -> list[Held]:
    listed = orjson.loads(kept)
    if not isinstance(listed, list):
        raise ValueError("no list")
    return rows(listed, kept_held).good


@pytest.mark.parametrize("value", WRONG)
def test_a_ban_of_a_wrong_type_costs_no_other(tmp_path: Path, value: object) -> None:
    path = tmp_path / "bans.json"
    path.write_text(json.dumps({"coingecko": value, **BANS}))
    bans = BanFile(path, SystemClock())
    assert bans.until_ms("binance") == BANS["binance"]
    assert bans.until_ms("coingecko") <= NOW_MS + 10**12
    bans.keep("etherscan", NOW_MS + 1000)

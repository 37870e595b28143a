"""`/api/news`: sources of articles, failed outlets, and ages."""

from pathlib import Path

import pytest
from orjson import loads

from stream_server.rest import news
from tests.harness import running, until
from tests.sources import fakes, sourced


async def test_the_attempts_name_an_outlet_that_fails(tmp_path: Path) -> None:
    async with sourced(tmp_path, NEWS_POLL_S="1") as every:
        outlets = (await every.data("/api/news"))["attempts"]
        assert {attempt["outcome"] for attempt in outlets} == {"ok"}
        await every.fakes.rss.kill()
        body = await every.data("/api/news?limit=3")
        assert len(body["data"]) == 3
        status, refused = await every.get("/api/news?max_age=0")
        assert (status, refused["error"]["code"]) == (503, "too_old")
        outcomes = {attempt["provider"]: attempt["outcome"] for attempt in refused["error"]["details"]["attempts"]}
        assert outcomes["rss:coindesk"] == "unavailable"
        assert (await every.data("/api/news?limit=3"))["attempts"] == refused["error"]["details"]["attempts"]


async def test_max_age_makes_the_service_ask_the_outlets_again(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        before = len(every.fakes.rss.calls)
        await every.data("/api/news?max_age=3600")
        assert len(every.fakes.rss.calls) == before
        await every.get("/api/news?max_age=0")
        assert len(every.fakes.rss.calls) == before + 5


async def test_without_articles_the_answer_waits_a_moment_and_then_names_the_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "FIRST_WITHIN_S", 0.3)
    async with fakes() as all_fakes:
        await all_fakes.rss.kill()
        await all_fakes.dt_source.kill()
        async with running(all_fakes.exchange, tmp_path, None, **all_fakes.settings) as service:
            async with service.http.get(f"{service.url}/api/news") as answer:
                assert answer.status == 503
                assert int(answer.headers["Retry-After"]) >= 1
                error = (await answer.json())["error"]
            assert "rss:decrypt unavailable" in error["message"]


async def test_after_a_restart_with_dead_outlets_the_last_articles_are_given_as_stale(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        sources = every.service.context.sources
        assert sources is not None
        kept, desk = sources.desk.store, sources.desk
        assert kept is not None
        await until(lambda: (news := kept.get("news")) is not None and len(loads(news.text)) == len(desk.held))
        before = await every.data("/api/news?limit=5")
        assert before["stale"] is False
        await every.fakes.kill_all()
    async with running(None, tmp_path, NEWS_POLL_S="1") as service:
        status, after = await service.get("/api/news?limit=5")
    assert status == 200
    assert after["data"] == before["data"]
    assert after["stale"] is True


async def test_hot_and_important_are_chosen_and_a_symbol_filters(tmp_path: Path) -> None:
    async with sourced(tmp_path, keys=True) as every:
        questions = ("filter=latest", "filter=hot", "filter=important", "symbol=bitcoin", "symbol=PEPE")
        sources = every.service.context.sources
        assert sources is not None
        desk, version = sources.desk, -1
        while version != desk.version:  # articles that arrive between two questions make their answers differ
            version = desk.version
            answers = [(await every.data(f"/api/news?{each}&limit=200"))["data"] for each in questions]
        latest, hot, important, bitcoin, none = answers
    assert {row["id"] for row in hot} == {row["id"] for row in latest}
    assert [row["id"] for row in hot] != [row["id"] for row in latest]
    assert {row["id"] for row in important} < {row["id"] for row in latest}
    assert bitcoin
    assert {row["id"] for row in bitcoin} == {row["id"] for row in latest if "BTC" in row["symbols"]}
    assert none == []

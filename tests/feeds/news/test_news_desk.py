"""The news desk: every article once, scored, oldest first; what coins' news come to; what survives a restart."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from feeds.fields import Rows
from feeds.model import Article, Sentiment
from feeds.news.articles import article
from feeds.news.desk import NewsDesk
from feeds.news.scores import Texts
from feeds.providers import lexicon
from orchestrator.fetched import Attempt, Fetched
from orchestrator.persistence import AnswerStore
from orchestrator.pool import Pool
from orchestrator.provider import Provider
from orchestrator.upstream import Upstream
from tests.fakes.clock import START_MS, ManualClock
from tests.fakes.transport import ScriptedTransport, reply
from tests.feeding import RecordingSink

HOUR_MS = 3_600_000


def story(title: str, age_h: float = 1.0, **more: object) -> Article:
    facts: dict[str, object] = {
        "url": f"https://news.example/{title.replace(' ', '-').lower()}",
        "outlet": "example",
        "kind": "news",
        "published_ms": START_MS - round(age_h * HOUR_MS),
        "received_ms": START_MS,
        **more,
    }
    made = article(title=title, **facts)  # type: ignore[arg-type]
    assert made is not None
    return made


class World:
    """A desk whose articles are scored by the lexicon."""

    def __init__(self, folder: Path | None = None, scorer: bool = True) -> None:
        self.clock = ManualClock()
        self.sink = RecordingSink()
        transport = ScriptedTransport(self.clock, lambda asked: reply(self.clock))
        upstream = Upstream("lexicon", None, transport, self.clock, random.Random(1))
        upstream.disabled = None if scorer else "off"
        pool: Pool[Texts, list[Sentiment]] = Pool(
            "sentiment", [[Provider(upstream, lexicon.score)]], self.clock, random.Random(1)
        )
        self.desk = NewsDesk(self.sink, pool, self.clock, AnswerStore(folder) if folder is not None else None)

    def arrive(self, *articles: Article, source: str = "rss:example", stale: bool = False) -> None:
        attempts = (Attempt(source, "ok"),)
        rows = Rows(list(articles))
        self.desk.arrived(Fetched(rows, source, self.clock.wall_ms(), 0, False, stale, attempts, 1))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.desk.run())
        try:
            yield
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def published(self, count: int) -> list[str]:
        """The titles of the news events, once there are so many."""
        async with asyncio.timeout(30):
            while len(self.sink.of("news")) < count:  # noqa: ASYNC110 - the lexicon works in a thread
                await asyncio.sleep(0.001)
        return [str(event.data["title"]) for event in self.sink.of("news")]


async def test_articles_are_published_oldest_first_each_as_a_log_event_with_its_score() -> None:
    world = World()
    async with world.running():
        world.arrive(story("Bitcoin crashes after exchange hack", 1), story("Bitcoin surges to an all-time high", 2))
        titles = await world.published(2)
    assert titles == ["Bitcoin surges to an all-time high", "Bitcoin crashes after exchange hack"]
    rise, fall = world.sink.of("news")
    assert rise.log
    assert rise.source == "rss:example"
    assert rise.ts == START_MS - 2 * HOUR_MS
    assert rise.data["symbols"] == ["BTC"]
    scores = [dict(event.data["sentiment"])["score"] for event in (rise, fall)]  # type: ignore[call-overload]
    assert scores[0] > 0 > scores[1]


async def test_an_article_is_published_once_from_whichever_outlet_and_again_when_it_is_rewritten() -> None:
    world = World()
    first = story("Bitcoin holds steady", url="https://news.example/a?utm_source=rss")
    async with world.running():
        world.arrive(first)
        world.arrive(first, source="cryptopanic")
        world.arrive(story("Bitcoin no longer holds steady", url="https://news.example/a"))
        titles = await world.published(2)
    assert titles == ["Bitcoin holds steady", "Bitcoin no longer holds steady"]
    assert [held.article.title for held in world.desk.select("latest", None, 10)] == ["Bitcoin no longer holds steady"]


async def test_each_coins_sentiment_follows_its_news() -> None:
    world = World()
    async with world.running():
        world.arrive(story("Bitcoin soars on ETF approval"), story("Ethereum plunges after exploit"))
        await world.published(2)
    (bitcoin,), (ether,) = world.sink.of("sentiment.BTC"), world.sink.of("sentiment.ETH")
    assert (bitcoin.data["label"], ether.data["label"]) == ("positive", "negative")
    assert bitcoin.data["articles"] == 1
    assert bitcoin.data["model"] == "lexicon"


async def test_without_any_model_articles_still_come_unscored() -> None:
    world = World(scorer=False)
    async with world.running():
        world.arrive(story("Bitcoin soars"))
        await world.published(1)
    assert world.sink.of("news")[0].data["sentiment"] is None
    assert world.sink.of("sentiment.BTC") == []


async def test_an_old_answer_is_no_news() -> None:
    world = World()
    world.arrive(story("Bitcoin soars"), stale=True)
    assert world.desk.batches.empty()
    assert world.desk.ages_s() == {}


async def test_news_are_selected_by_coin_by_heat_and_by_weight() -> None:
    world = World()
    async with world.running():
        world.arrive(
            story("Quiet day for markets", 0.5),
            story("Bitcoin crashes in brutal selloff after devastating hack", 3),
            story("Ethereum upgrade ships", 2, votes={"important": 3, "positive": 40}),
        )
        await world.published(3)
    select = world.desk.select
    assert [held.article.symbols for held in select("latest", None, 10)] == [(), ("ETH",), ("BTC",)]
    assert [held.article.symbols for held in select("latest", "BTC", 10)] == [("BTC",)]
    assert select("hot", None, 1)[0].article.symbols == ("ETH",)
    assert {held.article.symbols for held in select("important", None, 10)} == {("ETH",), ("BTC",)}


async def test_the_latest_articles_survive_a_restart_and_are_known_to_be_old(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.running():
        world.arrive(story("Bitcoin soars"))
        await world.published(1)
        async with asyncio.timeout(30):
            while not (tmp_path / "news.json").exists():  # noqa: ASYNC110
                await asyncio.sleep(0.001)
    again = World(tmp_path)
    (held,) = again.desk.select("latest", None, 10)
    assert held.article == story("Bitcoin soars")
    assert held.sentiment is not None
    assert again.desk.from_disk
    assert again.desk.ages_s() == {"rss:example": 0.0}
    assert again.sink.events == [], "known articles are not published again"
    again.arrive(story("Ethereum soars"))
    assert not again.desk.from_disk


def test_a_spoiled_file_of_articles_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "news.json").write_text('{"source":"news","received_ms":1,"value":[{"article":{}}]}')
    assert World(tmp_path).desk.held == {}

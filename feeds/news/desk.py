"""The news desk: every outlet's articles as one stream, each scored once, and what they say of each coin.

Articles arrive in batches from the pools of the outlets. The desk tells new from known, has their texts scored by the
sentiment pool, publishes them oldest first, and keeps the latest for REST. A batch waits for its scores a moment at
most: the lexicon always answers.
"""

import asyncio
import logging
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import orjson

from feeds import events, topics
from feeds.fields import Rows, at_most, mapping, rows, text, whole
from feeds.model import Article, Event, Sentiment, Sink
from feeds.news.articles import kept_article
from feeds.news.scores import SymbolSentiment, Texts, kept_sentiment
from feeds.news.seen import Novelty, SeenArticles
from orchestrator.clock import Clock
from orchestrator.errors import ProviderError
from orchestrator.fetched import Exhausted, Fetched
from orchestrator.persistence import LATEST_MS, AnswerStore, StoredAnswer, entries_skipped, set_aside
from orchestrator.pool import Pool

log = logging.getLogger(__name__)

HELD = 1000
"""Articles kept for REST, the latest ones."""
WINDOW_S = 24 * 3600
BATCH = 100
"""Texts scored in one question."""
COMPUTED = "stream_server"
"""The source of what is computed here; the data name the model."""
RECOUNT_S = 300.0
"""Articles age, so a coin's sentiment moves without news; it is published again this often."""


@dataclass(frozen=True, slots=True)
class Held:
    """An article with its score and where it came from. Times are Unix ms."""

    article: Article
    sentiment: Sentiment | None
    source: str
    received_ms: int

    @property
    def row(self) -> dict[str, object]:
        """Return the article as clients see it."""
        return {**events.article_data(self.article, self.sentiment), "source": self.source}


class NewsDesk:
    """A feed of `news` and `sentiment.<SYM>`. `arrived` is called by the outlets' pools."""

    name = "news"

    def __init__(
        self, sink: Sink, scorer: Pool[Texts, list[Sentiment]], clock: Clock, store: AnswerStore | None = None
    ):
        self.sink = sink
        self.scorer = scorer
        self.clock = clock
        self.store = store
        self.seen = SeenArticles()
        self.by_symbol = SymbolSentiment(WINDOW_S)
        self.held: dict[str, Held] = {}
        self.batches: asyncio.Queue[tuple[Sequence[Article], str, int]] = asyncio.Queue(maxsize=256)
        self.heard_at: dict[str, float] = {}
        """By source: when it answered last, new articles or not, in monotonic seconds."""
        self.published = 0
        self.from_disk = False
        self.version = 0
        self.filled = asyncio.Event()
        """Set once there is an article."""
        self._load()

    # --- what arrives ---

    def arrived(self, fetched: Fetched[Rows[Article]]) -> None:
        """Take an outlet's answer: new articles in it are scored next."""
        if fetched.stale:
            return
        self.heard_at[fetched.source] = self.clock.now()
        self.from_disk = False
        named = [self.seen.named(each) for each in fetched.value.good]
        news = [each for each in named if self.seen.judge(each) is not Novelty.KNOWN]
        if news:
            try:
                self.batches.put_nowait((news, fetched.source, fetched.received_ms))
            except asyncio.QueueFull:
                log.error("news_overflow", extra={"articles": len(news), "source": fetched.source})

    async def run(self) -> None:
        """Score and publish until cancelled."""
        recounted = self.clock.now()
        while True:
            try:
                async with asyncio.timeout(RECOUNT_S):
                    articles, source, received_ms = await self.batches.get()
            except TimeoutError:
                self._tell_sentiment(self.by_symbol.symbols(self.clock.wall_ms()))
                continue
            for start in range(0, len(articles), BATCH):
                await self._publish(articles[start : start + BATCH], source, received_ms)
            if self.clock.now() - recounted >= RECOUNT_S:
                recounted = self.clock.now()
                self._tell_sentiment(self.by_symbol.symbols(self.clock.wall_ms()))
            if self.batches.empty():
                self._save()

    async def _publish(self, articles: Sequence[Article], source: str, received_ms: int) -> None:
        ordered = sorted(articles, key=lambda each: each.published_at)
        scores = await self._scores([_text(each) for each in ordered])
        touched: set[str] = set()
        for each, sentiment in zip(ordered, scores, strict=True):
            self._keep(Held(each, sentiment, source, received_ms))
            self.sink.publish(
                Event(
                    topics.NEWS,
                    min(each.published_at, received_ms),
                    received_ms,
                    source,
                    events.article_data(each, sentiment),
                    log=True,
                )
            )
            self.published += 1
            if sentiment is not None:
                for symbol in each.symbols:
                    self.by_symbol.add(symbol, each.published_at, sentiment, each.id)
                    touched.add(symbol)
        self._tell_sentiment(sorted(touched))

    async def _scores(self, texts: list[str]) -> list[Sentiment | None]:
        try:
            fetched = await self.scorer.fetch(Texts(tuple(texts)), urgent=True)
        except (Exhausted, ProviderError) as error:
            log.warning("articles_unscored", extra={"articles": len(texts), "cause": str(error)})
            return [None] * len(texts)
        return list(fetched.value)

    def _tell_sentiment(self, symbols: Sequence[str]) -> None:
        now_ms = self.clock.wall_ms()
        # It is as old as the last answer of any outlet, however often it is computed again.
        lag_ms = round(min(self.ages_s().values(), default=0.0) * 1000)
        for symbol in symbols:
            value = self.by_symbol.value(symbol, now_ms)
            if value is not None:
                self.sink.publish(Event(topics.sentiment(symbol), now_ms, now_ms, COMPUTED, dict(value), lag_ms=lag_ms))

    def _keep(self, held: Held) -> None:
        self.version += 1
        self.filled.set()
        self.held.pop(held.article.id, None)
        self.held[held.article.id] = held
        if len(self.held) > HELD:
            oldest = min(self.held.values(), key=lambda each: each.article.published_at)
            del self.held[oldest.article.id]

    # --- what is asked ---

    def ages_s(self) -> dict[str, float]:
        """Return the seconds since each source last answered."""
        now = self.clock.now()
        return {source: now - heard_at for source, heard_at in self.heard_at.items()}

    def select(
        self,
        filter: str,  # noqa: A002 - the contract's word
        symbol: str | None,
        limit: int,
        sources: Collection[str] | None = None,
    ) -> list[Held]:
        """Return articles for REST, newest first, of all sources or of some. `hot` is what readers voted for, or what
        is loudest among the last day's; `important` what readers marked so, or what speaks strongly of a coin.
        """
        rows = [
            each
            for each in self.held.values()
            if (symbol is None or symbol in each.article.symbols) and (sources is None or each.source in sources)
        ]
        rows.sort(key=lambda each: (each.article.published_at, each.article.id), reverse=True)
        if filter == "important":
            rows = [each for each in rows if _is_important(each)]
        elif filter == "hot":
            now_ms = self.clock.wall_ms()
            rows.sort(key=lambda each: _heat(each, now_ms), reverse=True)
        return rows[:limit]

    # --- across restarts ---

    def _load(self) -> None:
        kept = self.store.get("news") if self.store is not None else None
        if self.store is None or kept is None:
            return
        listed = orjson.loads(kept.text)
        if not isinstance(listed, list):
            set_aside(self.store.path("news"), "no list of articles")
            return
        read = rows(listed, kept_held)
        entries_skipped(self.store.path("news"), read.rejected)
        if not read.good:
            return
        self.held = {each.article.id: each for each in read.good[-HELD:]}
        self.from_disk = True
        now, wall_ms = self.clock.now(), self.clock.wall_ms()
        for each in self.held.values():
            age_s = (wall_ms - each.received_ms) / 1000
            if age_s < 0:  # a clock was set: its age is unknown, so it is not young
                age_s = WINDOW_S
            self.heard_at[each.source] = max(self.heard_at.get(each.source, -math.inf), now - age_s)
        if self.held:
            self.filled.set()

    def _save(self) -> None:
        if self.store is None or not self.held:
            return
        latest = sorted(self.held.values(), key=lambda each: each.article.published_at)[-HELD // 4 :]
        self.store.put("news", StoredAnswer(orjson.dumps(latest), "news", max(each.received_ms for each in latest)))

    # --- as a feed ---

    def want(self, topic: str) -> None:
        """Do nothing: the sentiment of a coin comes with the news."""

    def drop(self, topic: str) -> bool:
        """Return False: there is nothing to stop."""
        return False

    def readiness(self) -> dict[str, str | None]:
        """Return nothing: the outlets' pollers report their readiness."""
        return {}

    def report(self) -> dict[str, object]:
        """Return the state of the desk."""
        return {
            "name": self.name,
            "state": "publishing" if self.published else "waiting",
            "last_error": None,
            "articles_held": len(self.held),
            "articles_published": self.published,
            "scored_by": self.scorer.last_source,
        }


def kept_held(kept: object) -> Held:
    """Return an article as an earlier run wrote it, each field judged as if it were a stranger's.

    Raises: BadFieldError.
    """
    row = mapping(kept)
    said = row.get("sentiment")
    return Held(
        kept_article(mapping(row.get("article"), "article")),
        None if said is None else kept_sentiment(mapping(said, "sentiment")),
        text(row, "source"),
        at_most(LATEST_MS, whole)(row, "received_ms"),
    )


def _text(article: Article) -> str:
    return article.title if article.summary is None else f"{article.title}. {article.summary}"


def _is_important(held: Held) -> bool:
    votes = held.article.votes or {}
    strong = held.sentiment is not None and abs(held.sentiment.score) >= 0.6
    return votes.get("important", 0) > 0 or (strong and bool(held.article.symbols))


def _heat(held: Held, now_ms: int) -> float:
    """Return votes and strength of feeling, halved every six hours."""
    votes = sum((held.article.votes or {}).values())
    strength = abs(held.sentiment.score) if held.sentiment is not None else 0.0
    age_h = max(0, now_ms - held.article.published_at) / 3_600_000
    return float((1 + votes + strength) * 0.5 ** (age_h / 6))

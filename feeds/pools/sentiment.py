"""Pools of the market's mood: the Fear & Greed index, and the scores of texts."""

from collections.abc import Callable
from dataclasses import dataclass

from feeds.model import FearGreed, Sentiment
from feeds.news.scores import Texts
from feeds.pools import stamps
from feeds.pools.planner import PoolPlanner
from feeds.providers import alternative_me, crypto_dt_source, huggingface, lexicon
from orchestrator.fetched import Fetched
from orchestrator.pool import Pool
from orchestrator.provider import Provider, Steps


@dataclass(frozen=True, slots=True)
class SentimentPools:
    """The pools of the market's mood, by what they answer."""

    fear_greed: Pool[int, list[FearGreed]]
    scorer: Pool[Texts, list[Sentiment]]


def sentiment_pools(
    plan: PoolPlanner, *, fear_greed_received: Callable[[int, Fetched[list[FearGreed]]], None]
) -> SentimentPools:
    """Make the pools. The lexicon in this process scores texts when no model does."""
    index, dt = plan.upstream(alternative_me.NAME), plan.upstream(crypto_dt_source.NAME)
    faces = huggingface.HuggingFace(plan.key("HF_TOKEN"))
    return SentimentPools(
        fear_greed=plan.pool(
            "sentiment.global",
            [
                [Provider(index, alternative_me.fear_greed, stamp_of=stamps.end_of_day, max_lag_s=stamps.INDEX_LATE_S)],
                [Provider(dt, crypto_dt_source.fear_greed, stamp_of=stamps.end_of_day, max_lag_s=stamps.INDEX_LATE_S)],
            ],
            plan.ttl_s,
            fear_greed_received,
            slow=True,
        ),
        scorer=plan.pool(
            "sentiment",
            [
                [Provider(plan.upstream(huggingface.NAME), faces.score, serves=huggingface.serves)],
                [Provider(dt, _dt_scores, serves=_dt_has_model)],
                [Provider(plan.upstream(lexicon.NAME), lexicon.score, serves=lexicon.serves, heavy=True)],
            ],
            plan.ttl_s,
            deadline_s=15.0,
            attempt_s=5.0,
            size=32,
        ),
    )


def _dt_scores(query: Texts) -> Steps[list[Sentiment]]:
    return crypto_dt_source.sentiment_batch(query.texts, query.model or crypto_dt_source.MODELS[0])


def _dt_has_model(query: Texts) -> bool:
    return query.model is None or query.model in crypto_dt_source.MODELS

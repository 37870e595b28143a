"""The Fear & Greed index, and the moods that text models read."""

from collections.abc import Mapping, Sequence

from feeds.fields import (
    BadFieldError,
    amount,
    mapping,
    maybe_amount,
    maybe_text,
    text,
    whole,
)
from feeds.intervals import STEP_MS
from feeds.model import FearGreed, Sentiment
from feeds.providers.crypto_dt_source.answers import NAME, answered_ms, checked, first_rows, get, post, rows_in
from orchestrator.errors import (
    BadQuery,
    Malformed,
    Outdated,
)
from orchestrator.provider import Steps

MAX_LABEL = 40
LONGEST_WAIT_S = 7 * 24 * 3600
MODELS = ("cryptobert_kk08", "cryptobert_elkulako", "finbert", "twitter_sentiment")
INDEX_OUTDATED_MS = 3 * STEP_MS["1d"]
"""It comes once a day, and has missed one."""


def fear_greed(limit: int = 1) -> Steps[list[FearGreed]]:
    """Ask for the last `limit` days of the Fear & Greed index, newest first.

    Raises: Malformed if there is none, Outdated if the newest is days old.
    """
    response = yield get("/api/v1/alternative/fng", {"limit": str(limit)})
    days = first_rows(rows_in(response), _day, limit).good
    if not days:
        raise Malformed(NAME, "no day of the index")
    age_ms = answered_ms(response) - max(day.ts for day in days)
    if age_ms > INDEX_OUTDATED_MS:
        raise Outdated(NAME, f"the newest day of the index is {age_ms // STEP_MS['1d']} days old")
    return sorted(days, key=lambda day: day.ts, reverse=True)


def sentiment(words: str, model: str = MODELS[0]) -> Steps[Sentiment]:
    """Ask what one of `MODELS` reads in a text; `model` of the answer is the one that did, which may be another.

    Raises: Malformed for a label of no known meaning, Unavailable if no model is loaded there.
    """
    response = yield post("/api/v1/hf/sentiment", {"text": words, "model_key": _model(model)})
    body = checked(response)
    try:
        return _sentiment(body, body)
    except BadFieldError as error:
        raise Malformed(NAME, f"sentiment with a {error}") from None


def sentiment_batch(texts: Sequence[str], model: str = MODELS[0]) -> Steps[list[Sentiment]]:
    """Ask what a model reads in several texts, in their order. Raises as `sentiment`; Malformed if one is missing."""
    response = yield post("/api/v1/hf/sentiment/batch", {"texts": list(texts), "model_key": _model(model)})
    body = checked(response)
    results = body.get("results")
    if not isinstance(results, list) or len(results) != len(texts):
        raise Malformed(NAME, "not one sentiment for each text")
    try:
        return [_sentiment(mapping(row), body) for row in results]
    except BadFieldError as error:
        raise Malformed(NAME, f"sentiment with a {error}") from None


def _day(row: object) -> FearGreed:
    fields = mapping(row)
    value, seconds = whole(fields, "value"), whole(fields, "timestamp")
    label = maybe_text(fields, "value_classification", MAX_LABEL)
    # An empty row becomes 0 and "neutral" there.
    if value > 100 or (value == 0 and (label or "").lower() != "extreme fear"):
        raise BadFieldError("value")
    if not 10**9 <= seconds < 10**11:
        raise BadFieldError("timestamp")
    wait_s = maybe_amount(fields, "time_until_update")
    if wait_s is not None and wait_s > LONGEST_WAIT_S:
        wait_s = None
    return FearGreed(value, label, seconds * 1000, None if wait_s is None else int(wait_s))


POSITIVE = {"positive", "bullish"}
NEGATIVE = {"negative", "bearish"}
NUMBERED = {"cryptobert_kk08": {"label_0": "negative", "label_1": "positive"}}
"""Models that number their labels. This one knows no neutral, so what it is unsure of is."""
UNSURE = 0.6


def _sentiment(row: Mapping[str, object], body: Mapping[str, object]) -> Sentiment:
    """Read a sentiment from its label and probability; other scores are under wrong names for some models."""
    key = text(body, "model")
    model = maybe_text(body, "model_id") or key
    sure = amount(row, "score")
    if sure > 1:
        raise BadFieldError("score")
    label = text(row, "label").strip().lower()
    numbered = NUMBERED.get(key)
    if numbered is not None:
        label = numbered.get(label, label)
        if sure < UNSURE:
            label = "neutral"
    if label in POSITIVE:
        return Sentiment("positive", sure, model, sure)
    if label in NEGATIVE:
        return Sentiment("negative", -sure, model, sure)
    if label == "neutral":
        return Sentiment("neutral", 0.0, model, sure)
    raise BadFieldError("label")


def _model(model: str) -> str:
    if model not in MODELS:
        raise BadQuery(NAME, f"model {model[:40]!r} is not one of {', '.join(MODELS)}")
    return model

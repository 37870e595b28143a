"""Text classification by Hugging Face's serverless inference: what to ask, and how to read the answer. Pure.

Labels are read by their text, never by their place, which differs from model to model. Texts are cut to what the model
can take in, since a longer one fails the whole batch.

Source: huggingface.co/docs/inference-providers, "Text Classification"; the models' cards.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from feeds.fields import BadFieldError, amount, mapping, maybe_amount, text
from feeds.model import Sentiment
from feeds.news.scores import Texts, label_of
from orchestrator import http
from orchestrator.errors import (
    BadQuery,
    Blocked,
    Malformed,
    NotFound,
    ProviderError,
    RateLimited,
    Unauthorized,
    Unavailable,
)
from orchestrator.http import HttpRequest, HttpResponse, begins, json_body, maybe_json
from orchestrator.provider import Steps

NAME = "huggingface"


@dataclass(frozen=True, slots=True)
class Model:
    """A model and what it can take in: `max_tokens` of its tokenizer."""

    id: str
    max_tokens: int

    @property
    def max_chars(self) -> int:
        """Return the characters that a text is cut to: a token of English news has over four, one of digits two."""
        return self.max_tokens * 5 // 2


MODELS: Mapping[str, Model] = {
    model.id: model
    for model in (
        Model("cardiffnlp/twitter-roberta-base-sentiment-latest", 512),
        Model("kk08/CryptoBERT", 512),
        Model("ProsusAI/finbert", 512),
        # Trained at 128; more fits, and is advised against.
        Model("ElKulako/cryptobert", 128),
    )
}
DEFAULT_MODEL = "cardiffnlp/twitter-roberta-base-sentiment-latest"
LABELS = {
    "positive": 1.0,
    "bullish": 1.0,
    "label_1": 1.0,
    "neutral": 0.0,
    "negative": -1.0,
    "bearish": -1.0,
    "label_0": -1.0,
}
"""What labels mean, in lower case. `label_…` are kk08/CryptoBERT's, the only one of MODELS without names."""
NO_CREDIT_COOLDOWN_S = 6 * 3600.0
"""Credits come back with the month; asked four times a day in case someone buys some."""
LOADING_AT_MOST_S = 300.0
SMALL_BODY = 4096


def serves(query: Texts) -> bool:
    """Whether it has the model that is asked for."""
    return query.model is None or query.model in MODELS


class HuggingFace:
    """An account with Hugging Face; `model` reads what is asked of no model by name."""

    def __init__(self, token: str, model: str = DEFAULT_MODEL) -> None:
        self.token = token
        self.model = model

    def score(self, query: Texts) -> Steps[list[Sentiment]]:
        """Ask what a model reads in each text, in their order. One request for all.

        Raises: NotFound if the model asked for by name is not served; Malformed. That our own choice of model is no
        longer served is the provider's failure.
        """
        if not query.texts:
            return []
        model = MODELS.get(query.model or self.model)
        if model is None:
            raise NotFound(NAME, "no such model")
        inputs = [_prepared(each, model) for each in query.texts]
        response = yield HttpRequest(
            f"/hf-inference/models/{model.id}",
            method="POST",
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
            body=orjson.dumps({"inputs": inputs, "parameters": {"top_k": 3}}),
            may_be=(400, 404, 410),
        )
        if response.status >= 400:
            raise _refused_model(response, by_name=query.model is not None)
        return read_scores(response, len(inputs), model.id)


def _prepared(raw: str, model: Model) -> str:
    """Cut to length; people and links as placeholders, which is how the models on tweets have met them."""
    words = re.sub(r"https?://\S+", "http", re.sub(r"(?<!\w)@\w+", "@user", raw[: model.max_chars * 2]))
    # An empty input fails the batch.
    return words[: model.max_chars].strip() or "."


def _refused_model(response: HttpResponse, by_name: bool) -> ProviderError:
    if response.status == 400 and not re.search(rb"support|not found|exist", response.body[:SMALL_BODY], re.IGNORECASE):
        return BadQuery(NAME, "status 400")
    reason = f"status {response.status}: model not served"
    return NotFound(NAME, reason) if by_name else Unavailable(NAME, reason)


def read_scores(response: HttpResponse, texts: int, model: str) -> list[Sentiment]:
    """Read the classes of so many texts.

    For one text `[[{label, score}…]]` or flat `[{label, score}…]`; for several a list of such lists, or of the top
    class alone. A score is the probability of the good classes less that of the bad ones, a label its sign beyond
    `NEUTRAL_BELOW`, the confidence the probability of the likeliest class.

    Raises: Malformed for any other shape or label, RateLimited if the model says that it is still loading.
    """
    body = json_body(NAME, response)
    if isinstance(body, dict):
        raise _loading(NAME, body) or Malformed(NAME, "an object instead of classes")
    if not isinstance(body, list) or not body:
        raise Malformed(NAME, "no list of classes")
    flat = isinstance(body[0], dict)
    each_text: Sequence[object] = [body] if flat and texts == 1 else [[row] for row in body] if flat else body
    if len(each_text) != texts:
        raise Malformed(NAME, f"{len(each_text)} answers to {texts} texts")
    try:
        return [_sentiment(classes, model) for classes in each_text]
    except BadFieldError as error:
        raise Malformed(NAME, f"classes with a {error}") from None


def _sentiment(classes: object, model: str) -> Sentiment:
    if not isinstance(classes, list) or not classes:
        raise BadFieldError("classes")
    score, confidence = 0.0, 0.0
    for each in classes:
        row = mapping(each)
        meaning = LABELS.get(text(row, "label").strip().lower())
        probability = amount(row, "score")
        if meaning is None:
            raise BadFieldError("label")
        if probability > 1.0 + 1e-6:
            raise BadFieldError("score")
        score += meaning * probability
        confidence = max(confidence, probability)
    score = round(max(-1.0, min(1.0, score)), 4)
    return Sentiment(label_of(score), score, model, round(min(1.0, confidence), 4))


def refusal(provider: str, response: HttpResponse) -> ProviderError | None:
    """Return the error of an answer. A model that is loading names the wait; used up credits mean hours."""
    if response.status == 402:
        return RateLimited(provider, NO_CREDIT_COOLDOWN_S)
    error = http.refusal(provider, response)
    if response.status == 503:
        return _loading(provider, maybe_json(response, SMALL_BODY)) or error
    if isinstance(error, Blocked) and begins(response) == b"{":
        return Unauthorized(provider, "status 403: the token may not call inference providers")
    return error


def _loading(provider: str, body: object) -> RateLimited | None:
    if not isinstance(body, dict) or "estimated_time" not in body:
        return None
    wait_s = maybe_amount(body, "estimated_time")
    if wait_s is None:
        return RateLimited(provider, None)
    return RateLimited(provider, float(math.ceil(min(wait_s, LOADING_AT_MOST_S))))

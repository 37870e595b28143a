"""A fake of Hugging Face's inference API: tokens, models that load first, each model's labels, nested answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import orjson

from tests.fakes.upstream import Call, FakeUpstream, Reply, wall_clock_ms

PATH = "/hf-inference/models/"
LABELS = {
    "cardiffnlp/twitter-roberta-base-sentiment-latest": ("negative", "neutral", "positive"),
    "ProsusAI/finbert": ("negative", "neutral", "positive"),
    "ElKulako/cryptobert": ("Bearish", "Neutral", "Bullish"),
    "kk08/CryptoBERT": ("LABEL_0", None, "LABEL_1"),
}
"""Each model's labels for negative, neutral and positive; kk08's has none for neutral."""
GOOD = ("rall", "climb", "surge", "record", "gain", "jump", "bull")
BAD = ("slide", "hack", "crash", "plunge", "warn", "correction", "bear")
CALLS_A_MINUTE = 60


def refused(status: int, error: str, **more: object) -> Reply:
    """Return an error in the provider's format."""
    return Reply(orjson.dumps({"error": error, **more}), status)


class FakeHuggingFace(FakeUpstream):
    """Serve `POST /hf-inference/models/{id}`. `loading` models answer 503 with a wait; without `credit` all answer 402.

    `flat` drops the outer list of an answer to a single text, as some model servers do.
    """

    def __init__(
        self,
        wall_ms: Callable[[], int] = wall_clock_ms,
        *,
        tokens: Collection[str] = ("hf_fake",),
        served: Iterable[str] = tuple(LABELS),
    ) -> None:
        super().__init__(wall_ms)
        self.tokens = frozenset(tokens)
        self.served = set(served)
        self.loading: dict[str, float] = {}
        self.credit = True
        self.flat = False
        self.over_limit = 0
        self.on("POST", f"{PATH}*", self._classify)

    def _classify(self, call: Call) -> Reply:
        if call.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return refused(401, "Invalid username or password.")
        model = call.path.removeprefix(PATH)
        if model not in self.served:
            return refused(400, f"Model not supported by provider hf-inference: {model}")
        if not self.credit:
            return refused(402, "You have exceeded your monthly included credits for Inference Providers.")
        if sum(each.at > call.at - 60.0 for each in self.calls) > CALLS_A_MINUTE:
            self.over_limit += 1
            return refused(429, "Too many requests")
        if model in self.loading:
            return refused(503, f"Model {model} is currently loading", estimated_time=self.loading[model])
        try:
            inputs = orjson.loads(call.body)["inputs"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return refused(400, "Body needs to provide a inputs key")
        texts = [inputs] if isinstance(inputs, str) else inputs
        answers = [_classes(each, model) for each in texts]
        return Reply(orjson.dumps(answers[0] if self.flat and len(answers) == 1 else answers))


def _classes(text: str, model: str) -> list[dict[str, object]]:
    words = text.lower()
    leaning = any(each in words for each in GOOD) - any(each in words for each in BAD)
    bad, neutral, good = LABELS[model]
    if neutral is None:
        chances = {bad: 0.5 - 0.45 * leaning, good: 0.5 + 0.45 * leaning}
    else:
        sides = {1: (0.04, 0.06, 0.9), 0: (0.1, 0.8, 0.1), -1: (0.9, 0.06, 0.04)}[leaning]
        chances = dict(zip((bad, neutral, good), sides, strict=True))
    ordered = sorted(chances.items(), key=lambda each: each[1], reverse=True)
    return [{"label": label, "score": round(chance, 4)} for label, chance in ordered]

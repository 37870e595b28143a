"""The sentiment of texts: the question to a model, the label of a score, and the mean of a coin's articles.

A model is a provider like any other, in one file of `feeds/providers` with three names:

    NAME                                            as `source` tells it
    serves(query: Texts) -> bool                    whether it has the model that is asked for
    score(query: Texts) -> Steps[list[Sentiment]]   one for each text, in their order

`huggingface` asks over the network; `lexicon` reckons by itself, so its conversation has no request in it. A local
model is the latter kind too (and `heavy`, which takes it off the event loop): one file, and its place in the pool.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from feeds.fields import BadFieldError, amount, at_most, maybe, number, text
from feeds.model import Sentiment
from feeds.shapes import CoinSentiment

NEUTRAL_BELOW = 0.2
"""A score nearer to 0 is neutral. Of two classes, where there is no third for it, 60 to 40 is a toss of a coin."""
HALF_LIVES = 4
"""In a window: what is a quarter of it older weighs half."""
MAX_OPINIONS = 500
"""Articles of one coin that count, the latest ones."""


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts to be read, by the model of that name, or by any for None."""

    texts: tuple[str, ...]
    model: str | None = None


def label_of(score: float, neutral_below: float = NEUTRAL_BELOW) -> str:
    """Return `positive`, `neutral` or `negative` for a score from -1 to 1."""
    if score >= neutral_below:
        return "positive"
    return "negative" if score <= -neutral_below else "neutral"


def kept_sentiment(row: Mapping[str, object]) -> Sentiment:
    """Return what a model read, as it was written to disk. Raises: BadFieldError for what we cannot have written."""
    label, score = text(row, "label"), at_most(1, number)(row, "score")
    if label not in LABELS:
        raise BadFieldError("label")
    if score < -1:
        raise BadFieldError("score")
    return Sentiment(label, score, text(row, "model"), maybe(at_most(1, amount), row, "confidence"))


LABELS = ("positive", "neutral", "negative")


@dataclass(frozen=True, slots=True)
class _Opinion:
    published_ms: int
    sentiment: Sentiment


@dataclass(slots=True)
class _Coin:
    opinions: dict[object, _Opinion] = field(default_factory=dict)
    unnamed: int = 0


class SymbolSentiment:
    """The mean score of each coin's articles of the last `window_s`, the newer ones weighing more.

    An article of age a weighs 0.5 ** (a / (window_s / 4)): at the end of the window a sixteenth of a new one. Counts
    are not weighted. An article that comes again, by its `key`, replaces what it was.
    """

    def __init__(self, window_s: int) -> None:
        self.window_s = window_s
        self.coins: dict[str, _Coin] = {}

    def add(self, symbol: str, published_ms: int, sentiment: Sentiment, key: str | None = None) -> None:
        """Take what a model reads in one article on this coin. `key` is the article's id."""
        coin = self.coins.setdefault(symbol, _Coin())
        if key is None:
            coin.unnamed += 1
        place: object = coin.unnamed if key is None else key
        coin.opinions[place] = _Opinion(published_ms, sentiment)
        if len(coin.opinions) > MAX_OPINIONS:
            del coin.opinions[min(coin.opinions, key=lambda each: coin.opinions[each].published_ms)]

    def symbols(self, now_ms: int) -> list[str]:
        """Return the coins with an article in the window, sorted, and forget older articles."""
        oldest_ms = now_ms - self.window_s * 1000
        for symbol, coin in list(self.coins.items()):
            coin.opinions = {key: each for key, each in coin.opinions.items() if each.published_ms > oldest_ms}
            if not coin.opinions:
                del self.coins[symbol]
        return sorted(self.coins)

    def value(self, symbol: str, now_ms: int) -> CoinSentiment | None:
        """Return the mean sentiment of a coin's articles in the window; None if there are none."""
        coin = self.coins.get(symbol)
        oldest_ms = now_ms - self.window_s * 1000
        held = [each for each in coin.opinions.values() if each.published_ms > oldest_ms] if coin is not None else []
        if not held:
            return None
        half_life_ms = self.window_s * 1000 / HALF_LIVES
        weights = [0.5 ** (max(0, now_ms - each.published_ms) / half_life_ms) for each in held]
        weighted = sum(weight * each.sentiment.score for weight, each in zip(weights, held, strict=True))
        score = round(weighted / sum(weights), 4)
        labels = [each.sentiment.label for each in held]
        models = {each.sentiment.model for each in held}
        return {
            "symbol": symbol,
            "score": score,
            "label": label_of(score),
            "articles": len(held),
            "positive": labels.count("positive"),
            "neutral": labels.count("neutral"),
            "negative": labels.count("negative"),
            "window_s": self.window_s,
            "model": models.pop() if len(models) == 1 else "mixed",
        }

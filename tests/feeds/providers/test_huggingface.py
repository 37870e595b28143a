"""Hugging Face's classes read by the text of their labels, in every nesting, and its refusals told apart."""

from pathlib import Path

import orjson
import pytest

from feeds.model import Sentiment
from feeds.news.scores import Texts
from feeds.providers import huggingface
from feeds.providers.huggingface import DEFAULT_MODEL, MODELS, NAME, NO_CREDIT_COOLDOWN_S, HuggingFace, read_scores
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
from tests.conversations import answered, asked, drive
from tests.fakes.huggingface import FakeHuggingFace

SAMPLES = Path(__file__).parents[2] / "samples" / "huggingface"
ANSWERS = orjson.loads((SAMPLES / "answers.json").read_bytes())
ERRORS = orjson.loads((SAMPLES / "errors.json").read_bytes())
CANARY = "hf_canary4711"


def scores(name: str, texts: int = 1) -> list[Sentiment]:
    return read_scores(answered(ANSWERS[name]), texts, "m")


@pytest.mark.parametrize(
    ("name", "texts", "read"),
    [
        ("nested_single", 1, [("positive", 0.87, 0.92)]),
        ("flat_single", 1, [("positive", 0.87, 0.92)]),
        ("batch", 2, [("positive", 0.87, 0.9), ("negative", -0.86, 0.88)]),
        ("top_only", 2, [("positive", 0.92, 0.92), ("negative", -0.88, 0.88)]),
        ("elkulako", 1, [("positive", 0.8478, 0.8734)]),
        ("kk08", 1, [("positive", 0.94, 0.97)]),
        ("kk08_coin_flip", 1, [("neutral", -0.06, 0.53)]),
    ],
)
def test_answers_of_every_nesting_and_naming_are_read(
    name: str, texts: int, read: list[tuple[str, float, float]]
) -> None:
    assert scores(name, texts) == [Sentiment(label, score, "m", sure) for label, score, sure in read]


def test_the_place_of_a_label_means_nothing() -> None:
    turned = [list(reversed(ANSWERS["nested_single"][0]))]
    assert read_scores(answered(turned), 1, "m") == scores("nested_single")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b"[[]]",
        b'["positive"]',
        b'[[{"label": "LABEL_7", "score": 0.5}]]',
        b'[[{"label": null, "score": 0.5}]]',
        b'[[{"label": "positive"}]]',
        b'[[{"label": "positive", "score": 1.7}]]',
        b'[[{"label": "positive", "score": -0.1}]]',
        b'[[{"label": "positive", "score": "nan"}]]',
        b'[[{"label": "positive", "score": 0.5}], [{"label": "positive", "score": 0.5}]]',
        b'{"error": "something"}',
    ],
)
def test_anything_else_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        read_scores(answered(body), 1, "m")


def test_a_question_is_one_post_with_all_texts_cut_to_what_the_model_takes() -> None:
    account = HuggingFace(CANARY)
    long = "BTC " * 1000
    query = Texts(("Up @satoshi https://t.co/x", long, "  "), "ElKulako/cryptobert")
    request = next(account.score(query))
    assert (request.method, request.path) == ("POST", "/hf-inference/models/ElKulako/cryptobert")
    assert request.headers["Authorization"] == f"Bearer {CANARY}"
    assert CANARY not in repr(request)
    assert request.body is not None
    inputs = orjson.loads(request.body)["inputs"]
    assert inputs[0] == "Up @user http"
    assert len(inputs[1]) <= MODELS["ElKulako/cryptobert"].max_chars
    assert inputs[2] == "."
    assert DEFAULT_MODEL in next(account.score(Texts(("x",)))).path


def test_no_text_is_no_question() -> None:
    assert drive(HuggingFace("t").score(Texts(()))) == []


def test_it_serves_its_four_models_and_questions_that_name_none() -> None:
    assert len(MODELS) == 4
    assert all(huggingface.serves(Texts(("x",), model)) for model in (*MODELS, None))
    assert not huggingface.serves(Texts(("x",), "lexicon"))
    with pytest.raises(NotFound):
        drive(HuggingFace("t").score(Texts(("x",), "someone/else")))


@pytest.mark.parametrize("name", ["old_host", "unsupported"])
def test_a_model_that_is_not_served_is_the_questions_fault_only_if_it_was_asked_for_by_name(name: str) -> None:
    response = answered(ERRORS[name]["body"], ERRORS[name]["http"])
    with pytest.raises(NotFound):
        drive(HuggingFace("t").score(Texts(("x",), "kk08/CryptoBERT")), response)
    with pytest.raises(Unavailable):
        drive(HuggingFace("t").score(Texts(("x",))), response)


def test_a_question_that_it_does_not_understand_is_ours() -> None:
    with pytest.raises(BadQuery):
        drive(HuggingFace("t").score(Texts(("x",))), answered(ERRORS["bad_input"]["body"], 400))


@pytest.mark.parametrize(
    ("status", "body", "kind", "wait_s"),
    [
        (401, ERRORS["no_token"]["body"], Unauthorized, None),
        (403, ERRORS["no_scope"]["body"], Unauthorized, None),
        (403, b"<html>", Blocked, None),
        (402, ERRORS["no_credit"]["body"], RateLimited, NO_CREDIT_COOLDOWN_S),
        (503, ERRORS["loading"]["body"], RateLimited, 20.0),
        (503, {"error": "loading", "estimated_time": 1e9}, RateLimited, 300.0),
        (503, {"error": "loading", "estimated_time": "?"}, RateLimited, None),
        (503, b"<html>", Unavailable, None),
        (502, b"<!DOCTYPE html>...", Unavailable, None),
        (429, {"error": "rate"}, RateLimited, None),
    ],
    ids=["token", "scope", "firewall", "credit", "loading", "long", "unsaid", "503", "502", "429"],
)
def test_every_kind_of_refusal_has_its_error(
    status: int, body: object, kind: type[ProviderError], wait_s: float | None
) -> None:
    error = huggingface.refusal(NAME, answered(body, status))
    assert type(error) is kind
    if isinstance(error, RateLimited):
        assert error.retry_after_s == wait_s


def test_a_model_that_loads_may_say_so_in_a_200() -> None:
    with pytest.raises(RateLimited, match="20 s"):
        read_scores(answered(ERRORS["loading"]["body"]), 1, "m")


async def test_a_loopback_hugging_face_answers_as_the_real_one() -> None:
    async with FakeHuggingFace() as fake:

        async def ask(*texts: str, model: str | None = None) -> list[str]:
            query = Texts(texts, model)
            found = await asked(fake, HuggingFace("hf_fake").score(query), huggingface.refusal)
            assert {each.model for each in found} == {model or DEFAULT_MODEL}
            return [each.label for each in found]

        for model in MODELS:
            labels = await ask("Bitcoin rallies", "Ether after the hack", "A calendar", model=model)
            assert labels == ["positive", "negative", "neutral"]
        fake.flat = True
        assert await ask("Bitcoin rallies") == ["positive"]
        with pytest.raises(Unauthorized):
            await asked(fake, HuggingFace("hf_wrong").score(Texts(("x",))), huggingface.refusal)
        fake.loading[DEFAULT_MODEL] = 20.0
        with pytest.raises(RateLimited, match="20 s"):
            await ask("x")
        fake.served.discard("kk08/CryptoBERT")
        with pytest.raises(NotFound):
            await ask("x", model="kk08/CryptoBERT")
        fake.credit = False
        with pytest.raises(RateLimited, match="43200"):
            await ask("x")
        assert fake.over_limit == 0

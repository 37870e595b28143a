"""`/api/sentiment…`: the index and its history, and scores of a client's own texts."""

import io
from pathlib import Path
from typing import Any

import orjson

from stream_server.rest import sentiment
from tests.sources import Sourced, sourced

ANALYZE = "/api/sentiment/analyze"


async def post(every: Sourced, **sent: Any) -> tuple[int, dict[str, Any]]:
    async with every.service.http.post(every.service.url + ANALYZE, **sent) as answer:
        return answer.status, await answer.json()


async def test_histories_of_all_lengths_cost_few_calls(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        before = len(every.fakes.alternative_me.calls)
        for limit in (1, 7, 30, 31, 45, 90, 91, 365):
            body = await every.data(f"/api/sentiment/global?limit={limit}")
            assert len(body["data"]["history"]) == limit
        asked = [call.query["limit"] for call in every.fakes.alternative_me.calls[before:]]
        assert asked == ["90", "365"]


async def test_texts_are_scored_in_their_order_by_the_model_asked_for(tmp_path: Path) -> None:
    texts = ["Bitcoin rallies to a record", "Exchange hacked, funds stolen", "Bitcoin rallies to a record", "Wow 🚀"]
    async with sourced(tmp_path, keys=True) as every:
        for model, source in (
            ("lexicon", "lexicon"),
            ("finbert", "crypto_dt_source"),
            ("ProsusAI/finbert", "huggingface"),
            (None, "huggingface"),
        ):
            status, body = await post(every, json={"texts": texts, "model": model})
            assert (status, body["source"]) == (200, source), model
            assert [row["text"] for row in body["data"]] == texts
            assert all(-1 <= row["score"] <= 1 for row in body["data"])
        status, body = await post(every, json={"texts": texts, "model": "lexicon"})
        assert [row["label"] for row in body["data"]][:3] == ["positive", "negative", "positive"]
        status, body = await post(every, json={"text": "Bitcoin crashes"})
        assert (status, len(body["data"])) == (200, 1)


async def test_when_models_fail_the_lexicon_answers_and_the_attempts_give_the_reasons(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        await every.fakes.dt_source.kill()
        status, body = await post(every, json={"texts": ["Bitcoin crashes after a hack"]})
    assert (status, body["source"], body["data"][0]["label"]) == (200, "lexicon", "negative")
    assert [attempt["provider"] for attempt in body["attempts"]] == ["crypto_dt_source", "lexicon"]


BAD = [
    (b"", "bad_json"),
    (b"{", "bad_json"),
    (b"\xff\xfe", "bad_json"),
    (b'{"texts": [NaN]}', "bad_json"),
    (b'{"texts": ["\\ud800"]}', "bad_json"),
    (b"[" * 100_000, "bad_json"),
    (b"[]", "bad_request"),
    (b'"text"', "bad_request"),
    (b"null", "bad_request"),
    (b"{}", "bad_parameter"),
    (b'{"texts": []}', "bad_parameter"),
    (b'{"texts": "Bitcoin"}', "bad_parameter"),
    (b'{"texts": {"0": "Bitcoin"}}', "bad_parameter"),
    (b'{"texts": [1]}', "bad_parameter"),
    (b'{"texts": [null, ""]}', "bad_parameter"),
    (b'{"texts": ["   "]}', "bad_parameter"),
    (b'{"text": 5}', "bad_parameter"),
    (b'{"texts": ["x"], "model": "gpt"}', "bad_parameter"),
    (b'{"texts": ["x"], "model": 5}', "bad_parameter"),
    (b'{"texts": ["x"], "model": ["lexicon"]}', "bad_parameter"),
    (b'{"texts": ["x"], "model": {}}', "bad_parameter"),
    (b'{"texts": ["' + b"x" * 5001 + b'"]}', "bad_parameter"),
    (b'{"texts": [' + b",".join([b'"x"'] * 51) + b"]}", "bad_parameter"),
]


async def test_a_body_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        status, body = await post(every, data='\ufeff{"texts": ["Bitcoin climbs"], "model": "lexicon"}'.encode())
        assert (status, body["data"][0]["text"]) == (200, "Bitcoin climbs")
        status, refused = await post(every, data="\ufeff\ufeff{}".encode())
        assert (status, refused["error"]["code"]) == (400, "bad_json")


async def test_the_error_of_a_bad_body_names_what_is_wrong(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        for body, code in BAD:
            status, refused = await post(every, data=body)
            assert (status, refused["error"]["code"]) == (400, code), body[:60]
        _, refused = await post(every, json={"texts": ["", 5, "fine"], "model": "gpt"})
        assert refused["error"]["details"].keys() == {"texts[0]", "texts[1]", "model"}
        assert "lexicon" in refused["error"]["message"]
        status, refused = await post(every, data=io.BytesIO(b"x" * (sentiment.MAX_BODY_BYTES + 1)))
        assert (status, refused["error"]["code"]) == (413, "bad_request")
        status, refused = await post(every, json={"texts": ["x"]}, params={"max_age": "old"})
        assert (status, refused["error"]["details"].keys()) == (400, {"max_age"})
        longest = {"texts": ["€" * 5000] * 50, "model": "lexicon"}
        assert (await post(every, data=io.BytesIO(orjson.dumps(longest))))[0] == 200


async def test_a_model_whose_key_is_missing_names_the_setting(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        status, refused = await post(every, json={"texts": ["x"], "model": "kk08/CryptoBERT"})
    assert status == 503
    assert "HF_TOKEN" in refused["error"]["message"]
    assert "HF_TOKEN" in refused["error"]["details"]["disabled"]["huggingface"]


async def test_a_page_elsewhere_may_send_texts(tmp_path: Path) -> None:
    async with sourced(tmp_path) as every:
        async with every.service.http.options(every.service.url + ANALYZE) as answer:
            assert answer.status == 204
            assert "POST" in answer.headers["Access-Control-Allow-Methods"]
        async with every.service.http.get(every.service.url + ANALYZE) as answer:
            assert answer.status == 405
            assert "POST" in answer.headers["Allow"]

"""The Fear & Greed index: every documented shape of it, and every way in which it may be broken."""

from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.model import FearGreed
from feeds.providers import alternative_me
from feeds.providers.alternative_me import DAY_MS, fear_greed, from_json, read_fear_greed, to_json
from orchestrator.errors import Malformed, Outdated, ProviderError, RateLimited, Unavailable
from orchestrator.http import HttpRequest, HttpResponse
from tests.asking import asking
from tests.conversations import drive
from tests.fakes.alternative_me import FakeAlternativeMe
from tests.fakes.clock import START_MS, ManualClock
from tests.fakes.upstream import Fault

SAMPLES = Path(__file__).parents[2] / "samples" / "alternative_me"
NOW_MS = START_MS + 5 * 3600 * 1000

TODAY = FearGreed(40, "Fear", START_MS, 68499)
YESTERDAY = FearGreed(47, "Neutral", START_MS - DAY_MS)
BEFORE = FearGreed(24, "Extreme Fear", START_MS - 2 * DAY_MS)


def answer(body: bytes, status: int = 200, received_ms: int = NOW_MS) -> HttpResponse:
    return HttpResponse(status, {}, body, received_ms)


def sample(name: str) -> HttpResponse:
    return answer((SAMPLES / f"{name}.json").read_bytes())


def days(*rows: object) -> HttpResponse:
    return answer(orjson.dumps({"data": rows, "metadata": {"error": None}}))


def row(**changes: object) -> dict[str, object]:
    return {"value": "40", "value_classification": "Fear", "timestamp": str(START_MS // 1000), **changes}


def test_the_question_wants_neither_dates_as_text_nor_csv() -> None:
    assert next(fear_greed(30)) == HttpRequest("/fng/", {"limit": "30"})


def test_the_newest_day_says_when_the_next_is_due() -> None:
    assert drive(fear_greed(), sample("one_day")) == [TODAY]


def test_days_come_newest_first() -> None:
    assert drive(fear_greed(3), sample("three_days")) == [TODAY, YESTERDAY, BEFORE]
    assert drive(fear_greed(0), sample("three_days")) == [TODAY, YESTERDAY, BEFORE]


def test_no_more_days_than_asked_are_given() -> None:
    assert drive(fear_greed(2), sample("three_days")) == [TODAY, YESTERDAY]


def test_order_and_doubles_of_the_answer_do_not_matter() -> None:
    yesterday = row(value=47, value_classification="Neutral", timestamp=START_MS // 1000 - 86400)
    assert drive(fear_greed(9), days(yesterday, row(), yesterday, row(value="99"))) == [
        FearGreed(40, "Fear", START_MS),
        YESTERDAY,
    ]


def test_numbers_are_read_like_their_texts() -> None:
    assert drive(fear_greed(), days(row(value=40, timestamp=START_MS // 1000, time_until_update=68499))) == [TODAY]


@pytest.mark.parametrize(
    "bad",
    [
        {"value": "101"},
        {"value": "-1"},
        {"value": "NaN"},
        {"value": "40.5"},
        {"value": None},
        {"value": True},
        {"timestamp": "02-26-2019"},
        {"timestamp": "1e400"},
        {"timestamp": "0"},
        {"timestamp": str(START_MS)},
        {"timestamp": str(START_MS // 1000 + 3 * 86400)},
    ],
    ids=str,
)
def test_a_bad_day_costs_itself_only_and_is_counted(bad: dict[str, object]) -> None:
    good = row(timestamp=str(START_MS // 1000 - 86400))
    found = read_fear_greed(days(row(**bad), good, "no row"))
    assert found.good == [FearGreed(40, "Fear", START_MS - DAY_MS)]
    assert found.rejected == {next(iter(bad)): 1, "row": 1}


@pytest.mark.parametrize(
    ("said", "shown"),
    [("", None), (None, None), (7, None), ("x" * 41, "x" * 40), ("Fe\x00ar\u202e", "Fear"), ("Fe\nar", "Fe ar")],
)
def test_a_damaged_label_does_not_cost_the_day(said: object, shown: str | None) -> None:
    (day,) = read_fear_greed(days(row(value_classification=said))).good
    assert (day.value, day.classification) == (40, shown)


@pytest.mark.parametrize("announced", ["", "soon", "-5", "NaN", "99999999", None, [], {}])
def test_a_senseless_announcement_costs_itself_only(announced: object) -> None:
    assert drive(fear_greed(), days(row(time_until_update=announced))) == [FearGreed(40, "Fear", START_MS)]


def test_an_index_of_days_ago_is_outdated() -> None:
    late = answer((SAMPLES / "one_day.json").read_bytes(), received_ms=START_MS + 4 * DAY_MS)
    with pytest.raises(Outdated, match="4 days old"):
        drive(fear_greed(), late)


def test_age_is_measured_by_the_providers_own_clock() -> None:
    body = (SAMPLES / "one_day.json").read_bytes()
    ours_is_wrong = HttpResponse(200, {"date": "Sun, 22 Nov 2026 05:00:00 GMT"}, body, START_MS + 40 * DAY_MS)
    assert drive(fear_greed(), ours_is_wrong) == [TODAY]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", Malformed),
        (b"<html>Bad Gateway</html>", Malformed),
        (b"[]", Malformed),
        (b"null", Malformed),
        (b'"text"', Malformed),
        (b'{"data":{}}', Malformed),
        (b'{"data":[],"metadata":{"error":null}}', Malformed),
        (b'{"data":[{"value":NaN}]}', Malformed),
        (b'{"name":"Fear', Malformed),
        ((SAMPLES / "error.json").read_bytes(), Unavailable),
        ((SAMPLES / "dates_as_text.json").read_bytes(), Malformed),
        (b'{"data":[],"metadata":{"error":"Too many requests, rate exceeded"}}', RateLimited),
    ],
)
def test_what_is_no_index_is_an_error_of_its_class(body: bytes, error: type[ProviderError]) -> None:
    with pytest.raises(error) as caught:
        drive(fear_greed(), answer(body))
    assert type(caught.value) is error


def test_a_missing_page_is_the_providers_failing() -> None:
    assert isinstance(alternative_me.refusal("alternative_me", answer(b"", 404)), Unavailable)


def test_what_is_kept_on_disk_reads_back_the_same() -> None:
    kept = [TODAY, YESTERDAY, BEFORE]
    assert from_json(to_json(kept)).good == kept


def test_a_spoiled_day_on_disk_costs_only_itself() -> None:
    read = from_json(orjson.dumps([1, {"value": 140}, TODAY]))
    assert read.good == [TODAY]
    assert read.rejected == {"row": 1, "ts": 1}


@pytest.mark.parametrize("kept", [b"", b"{}", b'{"data"', b"\xff\x00"])
def test_a_spoiled_file_is_a_value_error(kept: bytes) -> None:
    with pytest.raises(ValueError):
        from_json(kept)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150)
@given(
    st.dictionaries(st.sampled_from(["value", "value_classification", "timestamp", "time_until_update"]), json_values)
)
def test_whatever_stands_in_a_row_gives_sense_or_nothing(changes: dict[str, object]) -> None:
    try:
        body = orjson.dumps({"data": [row(**changes), row(timestamp=START_MS // 1000 - 86400)]})
    except TypeError:  # an integer that JSON does not hold here
        return
    found = read_fear_greed(answer(body))
    assert len(found.good) + found.rejected.total() == 2
    assert all(0 <= day.value <= 100 and day.ts <= NOW_MS + DAY_MS for day in found.good)


async def test_over_a_socket_the_index_is_read_and_refusals_are_classed() -> None:
    clock = ManualClock(NOW_MS)
    async with (
        FakeAlternativeMe(clock.wall_ms) as fake,
        asking("alternative_me", [fake.url], clock, alternative_me.refusal) as upstream,
    ):
        newest, second = await upstream.run(fear_greed(2))
        assert (newest.ts, second.ts) == (START_MS, START_MS - DAY_MS)
        assert newest.next_update_s == 19 * 3600
        assert second.next_update_s is None
        assert len(await upstream.run(fear_greed(0))) > 3000
        fake.script.append(Fault(html=True))
        with pytest.raises(Malformed):
            await upstream.run(fear_greed())
        fake.error = "Something went wrong."
        with pytest.raises(Unavailable):
            await upstream.run(fear_greed())
        assert fake.over_limit == 0

"""Damaged text from upstreams: one damaged character costs no answer, no frame and no row, and is counted."""

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from feeds.venues.binance import frames
from feeds.venues.binance.refusals import refusal
from orchestrator import repairs
from orchestrator.errors import Malformed, ProviderError
from orchestrator.http import HttpResponse, json_body, maybe_json
from orchestrator.texts import MAX_NAME, one_line
from tests.clients import streaming
from tests.conversations import answered
from tests.damage import Alternating, Damage, damaged
from tests.fakes.binance import FakeBinance, Frame, RestFault
from tests.fakes.upstream import Fault
from tests.feeding import read_frame
from tests.harness import running, until
from tests.sources import KEYS, fakes

BODY = orjson.dumps({"rows": [{"id": 1, "text": "naïve 😀"}, {"id": 2.5}], "note": None})


@pytest.mark.parametrize("kind", Damage)
def test_a_damaged_body_is_read_and_the_repair_is_noted(kind: Damage) -> None:
    with repairs.noted() as notes:
        read = json_body("tested", answered(damaged(BODY, kind)))
    assert isinstance(read, dict)
    read.pop("damaged", None)
    assert read == orjson.loads(BODY)
    assert notes.repaired.total() == 1
    orjson.dumps(read)  # nothing that we could not send on


def test_a_body_is_parsed_and_its_repairs_are_noted_once() -> None:
    response = answered(damaged(BODY, Damage.NAN))
    with repairs.noted() as notes:
        assert maybe_json(response) is json_body("tested", response)
    assert notes.repaired == {"not_a_number": 1}


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b'{"a":"\\\\ud83d \\ud83d\\ude00 \\ude00"}', {"a": "\\ud83d 😀 �"}),
        (b"[NaN, Infinity, 1e400, -1e999, undefined]", [None] * 5),
        (b"[" + b"9" * 5000 + b", 123456789012345678901, NaN]", [None, 123456789012345678901.0, None]),
        (b'\x00{"a":1}\x00', {"a": 1}),
        ('{"a":"ä"}'.encode("utf-16-le"), {"a": "ä"}),
        ('{"a":"ä"}'.encode("utf-16-be"), {"a": "ä"}),
        (b"[" * 100_000, None),
        (b"<html>NaN</html>", None),
        (b'{"a":NaN', None),
        (b"", None),
        (b"\xef\xbb\xbf", None),
    ],
)
def test_what_has_no_outline_of_json_is_malformed_all_the_same(raw: bytes, value: object) -> None:
    if value is None:
        with pytest.raises(Malformed):
            json_body("tested", answered(raw))
    else:
        assert json_body("tested", answered(raw)) == value


def test_a_declared_charset_counts_where_the_bytes_are_not_utf_8() -> None:
    headers = {"content-type": "application/json; charset=windows-1251"}
    response = answered('{"a":"Привет"}'.encode("cp1251"), headers=headers)
    assert json_body("tested", response) == {"a": "Привет"}
    assert json_body("tested", answered('{"a":"Привет"}'.encode(), headers=headers)) == {"a": "Привет"}


@pytest.mark.parametrize("kind", Damage)
def test_a_damaged_frame_of_the_exchange_is_read(kind: Damage) -> None:
    sound = (Path(__file__).parents[2] / "samples/binance/ws_kline_combined.json").read_bytes()
    assert read_frame(damaged(sound, kind), 0) == read_frame(sound, 0)
    event = frames.event_of(frames.open_frame(damaged(sound, kind), 0))
    assert event == frames.event_of(frames.open_frame(sound, 0))


HOSTILE = "a\x00b\x1b[31mc\u202edef\u2066\u200b\ud800\ue000"


@pytest.mark.parametrize("most", [5, MAX_NAME])
def test_a_text_of_an_upstream_is_one_clean_line_that_ends(most: int) -> None:
    shown = one_line(HOSTILE + "\n x\t" + "y" * 400_000, most)
    assert len(shown) <= most
    assert not {"\x00", "\x1b", "\u202e", "\u2066", "\u200b", "\ud800", "\n", "\t"} & set(shown)
    reason = ProviderError("tested", f"says: {HOSTILE}{'z' * 400_000}").reason
    assert len(reason) <= 300
    assert reason.startswith("says: ab[31mcdef")


def whole(frame: Frame) -> bytes:
    return b'{"stream":%b,"data":%b}' % (orjson.dumps(frame.stream), frame.payload)


async def test_damage_in_every_answer_and_frame_costs_nothing_and_is_counted(tmp_path: Path) -> None:
    """All providers at once: whatever they say is damaged, each time in another way."""
    async with fakes() as every:
        for fake in every.upstreams:
            if fake is not every.rss:
                fake.always = Fault(drift=Alternating())
        damage = Alternating()
        exchange: FakeBinance = every.exchange
        exchange.break_rest("*", RestFault(change=lambda body: damage(orjson.dumps(body))))
        exchange.tamper(lambda frames: [replace(frame, text=damage(whole(frame))) for frame in frames])
        settings = {"OHLCV_SYMBOLS": "BTC", "OHLCV_INTERVALS": "1m"} | every.settings | KEYS
        async with running(exchange, tmp_path, None, **settings) as service:
            await streaming(exchange, service, "btcusdt@kline_1m")
            supervisor, sources = service.context.supervisor, service.context.sources
            await until(lambda: set(supervisor.readiness().values()) == {"value"})
            assert sources is not None
            records = [each.record for each in sources.upstreams.values() if not each.name.startswith("rss:")]
            asked = [each for each in records if each.requests]
            assert len(asked) >= 9
            assert {each.name: each.last_error for each in asked if each.last_error} == {}
            assert all(each.repaired for each in asked), [each.name for each in asked if not each.repaired]
            status = (await service.get("/api/status"))[1]["data"]
            assert isinstance(status, dict)
            assert status["rejected_rows"] == {}
            assert {each.name for each in asked} <= {name.partition(".")[0] for name in status["repaired"]}
            async with service.http.get(f"{service.url}/metrics") as answer:
                assert 'stream_server_repairs_total{provider="binance"' in await answer.text()
            assert service.context.exchange.repaired.total() > 0


def test_the_first_character_is_found_behind_a_mark() -> None:
    assert refusal("binance", HttpResponse(200, {}, b"\xef\xbb\xbf\r\n [1]", 0)) is None

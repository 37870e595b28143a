"""Log lines: readable by people or by machines, bounded in size and number, and no way in for what clients send."""

import asyncio
import json
import logging
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream_server.delivery.hub import Hub
from stream_server.observing import logs
from stream_server.observing.logs import FloodFilter, JsonLines, TextLines
from tests.connections.test_hostile_clients import logged_to, raw
from tests.harness import Running, running

AT = 1_795_305_600.123


def record(name: str, at: float = AT, **facts: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "tests", "levelname": "WARNING", "msg": name, "created": at, "msecs": 123})
    vars(made).update(facts)
    return made


def test_a_line_for_people_is_a_time_a_level_a_name_and_its_facts() -> None:
    line = TextLines().format(record("stream_lost", host="a.example:443", cause="connection closed", tries=3))
    assert line == ("2026-11-22T00:00:00.123Z WARNING stream_lost host=a.example:443 cause='connection closed' tries=3")


def test_a_line_for_machines_is_one_object_with_the_same_in_it() -> None:
    line = JsonLines().format(record("unauthorised", address="192.0.2.1", request_id="abc"))
    assert json.loads(line) == {
        "time": "2026-11-22T00:00:00.123Z",
        "level": "warning",
        "event": "unauthorised",
        "logger": "tests",
        "address": "192.0.2.1",
        "request_id": "abc",
    }


def test_a_traceback_stays_in_the_one_line_of_a_machine() -> None:
    try:
        raise RuntimeError("a fault of ours")
    except RuntimeError as error:
        made = record("request_crashed", exc_info=(RuntimeError, error, error.__traceback__))
    line = JsonLines().format(made)
    assert "\n" not in line
    assert "RuntimeError: a fault of ours" in json.loads(line)["traceback"]


@pytest.mark.parametrize(
    "value",
    ["first\n2026-11-22T00:00:00.000Z ERROR forged", "\x1b[2Jcleared", "a b", "x" * 20_000, "\ud800", 1 << 80, {1: 2}],
    ids=["line break", "escape", "space", "long", "half a character", "large", "odd keys"],
)
def test_what_clients_send_neither_makes_lines_of_its_own_nor_loses_one(value: object) -> None:
    for lines in (TextLines(), JsonLines()):
        line = lines.format(record("request_crashed", path=value))
        assert len(line.splitlines()) == 1
        assert line.isprintable()
        assert len(line) < 1000
        assert "request_crashed" in line


def let_through(flood: FloodFilter, count: int, at: float, name: str = "unauthorised") -> list[logging.LogRecord]:
    records = [record(name, at + each / count) for each in range(count)]
    return [each for each in records if flood.filter(each)]


UNSEEN = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) in ("Cc", "Cf", "Zl", "Zp", "Cs")]


def test_no_character_that_a_terminal_acts_upon_is_in_any_line_and_others_are_as_they_were() -> None:
    assert {"\x7f", "\x85", "\u200f", "\u202e", "\u2028", "\u2066", "\ufeff", "\U000e0041"} <= set(UNSEEN)
    for start in range(0, len(UNSEEN), 200):
        text = "ü".join(UNSEEN[start : start + 200]) + "币 €"
        try:
            raise RuntimeError(text)
        except RuntimeError as error:
            made = record(text, path=text, exc_info=(RuntimeError, error, error.__traceback__))
        for lines in (TextLines(), JsonLines()):
            line = lines.format(made)
            assert not set(line.replace("\n", "")) & set(UNSEEN)
            assert "币 €" in line or "\\u5e01" in line
            if isinstance(lines, JsonLines) and "\ud800" not in text:
                assert json.loads(line)["event"] == text


def test_a_flood_is_cut_short_and_the_next_line_says_by_how_much() -> None:
    flood = FloodFilter(lines=50, per_s=10.0)
    assert len(let_through(flood, 5000, AT)) == 50
    assert len(let_through(flood, 5, AT, "another")) == 5, "others are heard meanwhile"
    after = let_through(flood, 2, AT + 11)
    assert [vars(each).get("more") for each in after] == [4950, None]
    assert len(let_through(flood, 100, AT - 3600)) == 50, "a clock that was set back keeps nothing back for an hour"


def test_names_without_end_cost_bounded_memory() -> None:
    flood = FloodFilter()
    for number in range(5 * logs.NAMES_KEPT):
        flood.filter(record(f"name {number}"))
    assert len(flood.windows) <= logs.NAMES_KEPT


# --- a flood of bad requests ---

FLOOD = 500


async def pipelined(service: Running, request: bytes, count: int = FLOOD) -> None:
    """Send a request many times on one connection, and read as many answers."""
    async with raw(service) as client:
        for _ in range(0, count, 50):
            client.send(request * 50)
            answers = 0
            while answers < 50:
                answers += (await asyncio.wait_for(client.reader.read(1 << 20), 30)).count(b"HTTP/1.1 ")


def lines(path: Path) -> Iterator[dict[str, object]]:
    return (json.loads(line) for line in path.read_text().splitlines())


def broken(*_: object) -> None:
    raise RuntimeError("a fault of ours")


async def test_thousands_of_bad_requests_are_some_dozen_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = b"GET %b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n\r\n"
    written = tmp_path / "log"
    with written.open("w") as stream, logged_to(stream, monkeypatch, "json"):
        async with running(None, tmp_path, None, AUTH_TOKENS="alice:sesame") as service:
            monkeypatch.setattr(Hub, "snapshot", broken)
            await pipelined(service, request % (b"/api/topics", b"wrong"))
            await pipelined(service, request % (b"/api/snapshot?" + b"x" * 4000, b"sesame"))
            await pipelined(service, request % (b"/nothing/here", b"sesame"))
            refusals = dict(service.context.refusals)
    assert refusals["unauthorised"] == refusals["internal"] == refusals["not_found"] == FLOOD
    names = [line["event"] for line in lines(written)]
    assert names.count("unauthorised") <= 3 * logs.LINES_A_BURST
    assert names.count("request_crashed") <= 3 * logs.LINES_A_BURST
    assert written.stat().st_size < 1_000_000

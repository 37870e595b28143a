"""Tests of tapes of faults: drawn from a seed, written, read, and played in real or in manual time."""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
import websockets
from websockets.asyncio.client import connect

from tests.chaos import virtual
from tests.chaos.faults import EXCHANGE_KINDS, GONE, Fault, How, Kind, dump, fault_tape, load
from tests.chaos.player import Player
from tests.chaos.proxy import ChaosProxy
from tests.fakes.binance import FakeBinance
from tests.fakes.coingecko import FakeCoinGecko

STREAMS = ("!miniTicker@arr", "btcusdt@kline_1m")
KLINES = STREAMS[1]
AT_S = 9.75
"""A moment between two seconds; the market trades on full seconds."""


def test_a_seed_gives_one_tape_in_order_and_within_its_span() -> None:
    tape = fault_tape(7, 3600.0, STREAMS)
    assert tape == fault_tape(7, 3600.0, STREAMS)
    assert tape != fault_tape(8, 3600.0, STREAMS)
    assert list(tape) == sorted(tape, key=lambda fault: fault.at_s)
    assert all(fault.at_s > 0 and fault.end_s <= 3600.0 for fault in tape)
    assert {fault.stream for fault in tape} == {None, *STREAMS}


def test_a_tape_of_some_hours_contains_every_kind_of_fault() -> None:
    tape = fault_tape(1, 6 * 3600.0, STREAMS)
    assert {fault.kind for fault in tape} == set(EXCHANGE_KINDS)
    assert {fault.status for fault in tape if fault.kind is Kind.REFUSE} == {429, 418, 451, 503}
    assert {fault.how for fault in tape if fault.kind is Kind.REST} == {None, *How}
    assert {fault.kind for fault in fault_tape(1, 6 * 3600.0, STREAMS, [Kind.CUT])} == {Kind.CUT}


def test_a_tape_survives_being_written_and_read(tmp_path: Path) -> None:
    tape = fault_tape(3, 3600.0, STREAMS, list(Kind))
    dump(tape, tmp_path / "faults.jsonl")
    assert load(tmp_path / "faults.jsonl") == tape
    assert len((tmp_path / "faults.jsonl").read_text().splitlines()) == len(tape)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("nonsense", "line 2"),
        ("[]", "line 2"),
        ('{"at_s": 1}', "kind"),
        ('{"at_s": 1, "kind": "rain"}', "rain"),
        ('{"kind": "cut"}', "at_s"),
        ('{"at_s": 1, "kind": "cut", "when": 2}', "unknown when"),
    ],
)
def test_an_invalid_line_of_a_tape_is_named(tmp_path: Path, line: str, expected: str) -> None:
    path = tmp_path / "faults.jsonl"
    path.write_text('{"at_s": 1.5, "kind": "cut"}\n' + line + "\n")
    with pytest.raises(ValueError, match=expected):
        load(path)


class Listener:
    """A client of the exchange's streams that records messages and the end of its connection."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.seen: list[str] = []

    async def listen(self) -> None:
        """Record until the connection ends."""
        url = f"{self.url}/stream?streams={'/'.join(STREAMS)}"
        try:
            async with connect(url, proxy=None, ping_interval=None, compression=None, close_timeout=0.1) as connection:
                while True:
                    text = await connection.recv()
                    self.seen.append(str(text))
        except websockets.InvalidStatus as error:
            self.seen.append(f"status {error.response.status_code}")
        except websockets.ConnectionClosed as closed:
            self.seen.append("torn" if closed.rcvd is None else f"closed {closed.rcvd.code}")
        except (OSError, websockets.InvalidHandshake):
            self.seen.append("refused")

    def take(self) -> list[str]:
        seen, self.seen = self.seen, []
        return seen


async def played(fault: Fault, proxied: bool) -> tuple[list[str], list[str]]:
    """Play a fault at `AT_S`; return what clients receive during it, and the player's log."""
    async with FakeBinance() as exchange, ChaosProxy(exchange.port) as proxy, asyncio.TaskGroup() as group:
        player = Player(exchange, [fault], proxy if proxied else None)
        market = group.create_task(exchange.run())
        playing = group.create_task(player.run())
        listener = Listener(player.ws_url)
        listening = group.create_task(listener.listen())
        await asyncio.sleep(9.5)
        assert len(listener.take()) >= 9, "the stream works before the fault"
        await asyncio.sleep(8.0)
        during = listener.take()
        if listening.done():
            listening = group.create_task(listener.listen())
            await asyncio.sleep(1.4)
            during += listener.take()
        await asyncio.sleep(20.0)
        assert player.is_over
        listening.cancel()
        listener.take()
        again = group.create_task(listener.listen())
        await asyncio.sleep(5.0)
        assert len(listener.take()) >= 5, "the stream works after the fault"
        again.cancel()
        market.cancel()
        await playing
        return during, [word for _, word, _ in player.log]


def klines_in(seen: list[str]) -> list[str]:
    return [text for text in seen if KLINES in text]


@pytest.mark.parametrize("proxied", [True, False], ids=["proxied", "direct"])
@pytest.mark.parametrize("kind", EXCHANGE_KINDS)
def test_every_kind_of_fault_affects_clients_while_it_lasts_and_not_after(kind: Kind, proxied: bool) -> None:
    fault = Fault(AT_S, kind, 10.0, status=503)
    if kind in (Kind.HALF_OPEN, Kind.CUT, Kind.RESET):
        fault = Fault(AT_S, kind, after_bytes=1)
    during, log = virtual.run(played(fault, proxied))
    assert log == (["begins", "ends"] if fault.for_s else ["begins"])
    match kind:
        case Kind.DROP | Kind.STALL | Kind.FREEZE | Kind.HALF_OPEN:
            assert during == []
        case Kind.LISTED:
            assert any("NEW1USDT" in text for text in during)
        case Kind.DUPLICATE:
            assert len(during) > 20
            assert during[::2] == during[1::2]
        case Kind.REORDER:
            assert len(during) > 8
            assert during != sorted(during, key=lambda text: text.partition('"E":')[2])
        case Kind.LOST_CLOSES:
            assert len(during) > 8
        case Kind.CUT:
            assert during[0] == "closed 1001"
            assert len(during) > 1, "the client may reconnect at once"
        case Kind.SHUTDOWN:
            assert "serverShutdown" in during[0]
            assert len(during) > 8, "data goes on until the close"
        case Kind.RESET:
            assert during[0] == "torn"
        case Kind.REFUSE:
            assert during == ["torn", "status 503"]
        case Kind.DOWN:
            assert during == ["torn", "refused"]
        case Kind.REST:
            assert len(during) > 8, "the streams go on"
        case Kind.DAMAGE:
            assert len(during) > 8
            assert all('"damaged":NaN' in text for text in during)


def test_a_fault_can_affect_one_stream_only() -> None:
    during, _ = virtual.run(played(Fault(AT_S, Kind.DROP, 10.0, KLINES), proxied=False))
    assert len(during) >= 8
    assert klines_in(during) == []


def test_lost_closes_drop_only_the_closing_frames() -> None:
    async def journey(tape: list[Fault]) -> list[str]:
        async with FakeBinance() as exchange, asyncio.TaskGroup() as group:
            market = group.create_task(exchange.run())
            listener = Listener(exchange.ws_url)
            listening = group.create_task(listener.listen())
            playing = group.create_task(Player(exchange, tape).run())
            await asyncio.sleep(64.0)
            for task in (listening, market, playing):
                task.cancel()
            return klines_in(listener.seen)

    closing = [text for text in virtual.run(journey([])) if '"x":true' in text]
    assert len(closing) == 1
    assert [text for text in virtual.run(journey([Fault(1.0, Kind.LOST_CLOSES, 64.0)])) if '"x":true' in text] == []


class FakeService:
    """A service that records when it is killed and started."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def kill(self) -> None:
        self.seen.append("killed")

    async def start(self) -> None:
        self.seen.append("started")


async def test_a_player_in_manual_time_applies_what_is_due_and_no_more() -> None:
    tape = [Fault(1.0, Kind.DOWN, 5.0), Fault(2.0, Kind.DOWN, 1.0), Fault(4.0, Kind.CRASH, 2.5)]
    service = FakeService()
    async with FakeBinance() as exchange:
        player = Player(exchange, tape, service=service)
        seen: list[tuple[bool, list[str]]] = []
        for at_s in (0.9, 1.0, 3.5, 5.9, 6.0, 6.4, 6.5):
            waiting: Awaitable[None] = player.advance_to(at_s)
            await waiting
            seen.append((exchange.is_up, list(service.seen)))
        assert player.is_over
        assert player.active == []
    assert seen == [
        (True, []),
        (False, []),
        (False, []),  # the shorter of two faults is over, the longer isn't
        (False, ["killed"]),
        (True, ["killed"]),
        (True, ["killed"]),
        (True, ["killed", "started"]),
    ]
    assert [(at_s, word, fault.kind) for at_s, word, fault in player.log][-1] == (6.5, "ends", Kind.CRASH)


async def test_a_namesake_is_listed_at_rank_1_while_the_fault_lasts() -> None:
    tape = [Fault(1.0, Kind.NAMESAKE, 5.0, coin="BTC")]
    async with FakeBinance() as exchange, FakeCoinGecko() as aggregator:
        player = Player(exchange, tape, aggregator=aggregator)
        await player.advance_to(1.0)
        namesake = aggregator.coins["btc-namesake"]
        assert (namesake.symbol, aggregator.ranks[namesake.id]) == ("btc", 1)
        assert namesake.price > 10 * aggregator.coins["bitcoin"].price
        await player.advance_to(6.0)
        assert "btc-namesake" not in aggregator.coins


def test_the_list_of_pairs_is_wrong_for_a_while_and_a_new_pair_comes_and_goes() -> None:
    async def lists() -> list[dict[str, str]]:
        listed = []
        async with FakeBinance() as exchange, aiohttp.ClientSession() as http:
            fault = Fault(5.0, Kind.LISTED, 10.0, pair="BTCUSDT", listed=GONE)
            player = Player(exchange, [fault, replace(fault, at_s=20.0, pair=None, listed="HALT")])
            for at_s in (0.0, 6.0, 16.0, 21.0, 40.0):
                await player.advance_to(at_s)
                async with http.get(f"{exchange.rest_url}/api/v3/exchangeInfo") as answer:
                    listed.append({row["symbol"]: row["status"] for row in (await answer.json())["symbols"]})
        return listed

    before, gone, back, halted, after = asyncio.run(lists())
    assert before["BTCUSDT"] == back["BTCUSDT"] == after["BTCUSDT"] == "TRADING"
    assert "BTCUSDT" not in gone and gone["NEW1USDT"] == "TRADING"
    assert set(halted.values()) == {"HALT"} and "NEW2USDT" in halted
    assert before == back == after

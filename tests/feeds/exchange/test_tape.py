"""Raw upstream traffic, recorded and played again."""

import asyncio
import gzip
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest

from feeds.exchange.market import ExchangeMarket
from feeds.exchange.playback import TapeClock, TapeFeed
from feeds.exchange.recorder import Recorder
from feeds.exchange.tape import Connection, Tape, TapeError, open_tape
from feeds.model import Event
from feeds.symbols import QUOTES, Symbols
from feeds.venues.binance.description import binance_at
from feeds.venues.binance.hosts import site_of
from orchestrator.clock import SystemClock
from orchestrator.http import HttpRequest, HttpResponse
from tests.fakes.binance import FakeBinance, RestFault, Spoil
from tests.fakes.clock import ManualClock
from tests.feeding import RecordingSink, answer, limits, live, series_in_backfill
from tests.harness import until

START = 1_795_305_600_000
MINUTE = 60_000
URL = "wss://stream.binance.us:9443/stream?streams=crvusdt@aggTrade/omgbusd@kline_1m/crvusdt@bookTicker/btcusdt@depth@100ms"


@asynccontextmanager
async def playing(
    tape: Tape, speed: float = 0.0, clock: TapeClock | None = None, changes: list[str] | None = None
) -> AsyncIterator[tuple[TapeFeed, RecordingSink]]:
    """A tape at play, in a market as the service makes it."""
    sink = RecordingSink()
    symbols = Symbols((), QUOTES if tape.foreign else ("USDT",))
    market = ExchangeMarket(sink, symbols, binance_at(tape.url))
    feed = TapeFeed(
        tape,
        market,
        clock or TapeClock(SystemClock()),
        speed,
        lambda: changes.append(feed.state) if changes is not None else None,
    )
    task = asyncio.create_task(feed.run())
    try:
        yield feed, sink
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def played(path: Path) -> tuple[TapeFeed, RecordingSink]:
    """A whole tape, as fast as can be."""
    async with playing(open_tape(path)) as (feed, sink):
        await until(lambda: feed.state == "ended")
    return feed, sink


def foreign(path: Path, *frames: tuple[float, object], url: str = URL) -> Path:
    lines = [{"url": url}, *({"received_at": at, "raw": orjson.dumps(frame).decode()} for at, frame in frames)]
    raw = b"".join(orjson.dumps(line) + b"\n" for line in lines)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def kline(at_ms: int, open_time: int, closed: bool, close: str, trades: int) -> dict[str, object]:
    k = {
        "t": open_time, "T": open_time + 59_999, "s": "OMGBUSD", "i": "1m", "o": "13.70", "c": close, "h": "13.90",
        "l": "13.60", "v": "10", "n": trades, "x": closed, "q": "137",
    }  # fmt: skip
    return {"stream": "omgbusd@kline_1m", "data": {"e": "kline", "E": at_ms, "s": "OMGBUSD", "k": k}}


BOOK = {"stream": "crvusdt@bookTicker", "data": {"u": 1, "s": "CRVUSDT", "b": "2.40", "B": "1", "a": "2.50", "A": "1"}}
TRADE = {
    "stream": "crvusdt@aggTrade",
    "data": {"e": "aggTrade", "E": START + 200, "s": "CRVUSDT", "a": 1, "p": "2.46", "q": "1", "T": START + 199},
}
DEPTH = {"stream": "btcusdt@depth@100ms", "data": {"e": "depthUpdate", "E": START, "s": "BTCUSDT", "b": [], "a": []}}
SECONDS = START / 1000
FRAMES: list[tuple[float, object]] = [
    (SECONDS + 0.1, BOOK),
    (SECONDS + 0.15, DEPTH),
    (SECONDS + 0.25, TRADE),
    (SECONDS + 0.3, BOOK),
    (SECONDS + 1.0, kline(START + 900, START, False, "13.75", 3)),
    (SECONDS + 60.1, kline(START + MINUTE + 4, START, True, "13.80", 5)),
    (SECONDS + 62.1, kline(START + MINUTE + 2000, START + MINUTE, False, "13.81", 1)),
]


# --- record and play ---


@pytest.mark.parametrize("name", ["session.jsonl", "session.jsonl.gz"])
async def test_a_recorded_session_gives_the_same_events_whenever_it_is_played(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    async with FakeBinance(limits=limits()) as exchange:
        recorder = Recorder(path, exchange.ws_url, exchange.now_ms)
        async with live(exchange, recorder=recorder) as it:
            await until(lambda: it.market.series and it.market.series["BTCUSDT", "1m"].reached_back)
            for second in range(0, 240, 5):
                if second == 30:
                    it.feed.want("ohlcv.ETH.1m")
                if second == 90:
                    exchange.abort_all()
                if second == 120:
                    it.feed.sockets[0].rotate("a test")
                if second == 150:
                    exchange.spoil(Spoil.BAD_UTF8)
                if second == 180:
                    it.feed.drop("ohlcv.ETH.1m")
                exchange.advance(5)
                await asyncio.sleep(0.03)
            await until(lambda: START + 3 * MINUTE in it.sink.opens("ohlcv.BTC.1m"))
            await until(lambda: not series_in_backfill(it))
        recorder.close()
        lived = it.sink

    feed, first = await played(path)
    _, second_time = await played(path)
    assert first.events == second_time.events
    assert first.gaps == second_time.gaps == []
    assert feed.tape.skipped == 0
    assert feed.played == recorder.lines - 1
    for topic in ("ohlcv.BTC.1m", "ohlcv.ETH.1m"):
        assert first.opens(topic) == lived.opens(topic) != []
    assert first.events == lived.events, "live and tape go through the same market"


async def test_a_session_that_began_with_pairs_from_disk_plays_too(tmp_path: Path) -> None:
    async with FakeBinance(limits=limits()) as exchange:
        async with live(exchange, tmp_path) as it:
            await until(lambda: it.market.prices)
        exchange.break_rest("*", RestFault(status=503))
        recorder = Recorder(tmp_path / "t.jsonl", exchange.ws_url, exchange.now_ms)
        async with live(exchange, tmp_path, recorder) as it:
            await exchange.until(lambda: exchange.subscribed("btcusdt@kline_1m", "!miniTicker@arr"))
            await until(lambda: it.market.series["BTCUSDT", "1m"].begun)
            exchange.advance(4)
            await until(lambda: it.sink.of("price.BTC") and it.sink.of("ohlcv.BTC.1m"))
        recorder.close()
    _, again = await played(tmp_path / "t.jsonl")
    assert again.events == it.sink.events


async def test_faults_are_on_the_tape_and_play_as_what_they_were(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    async with FakeBinance(limits=limits()) as exchange:
        recorder = Recorder(path, exchange.ws_url, exchange.now_ms)
        async with live(exchange, recorder=recorder) as it:
            await until(lambda: it.market.series and it.market.series["BTCUSDT", "1m"].reached_back)
            exchange.advance(30)
            exchange.refuse_handshakes(503, times=1)
            exchange.abort_all()
            await until(lambda: len(exchange.connections) == 1 and len(exchange.handshakes) == 3)
            await exchange.until(lambda: exchange.subscribed("btcusdt@kline_1m"))
            exchange.advance(70)
            await until(lambda: START in it.sink.opens("ohlcv.BTC.1m"))
            it.feed.sockets[0].rotate("a test")
            while it.feed.sockets[0].report.rotations < 1:
                exchange.advance(1)
                await asyncio.sleep(0.01)
        recorder.close()
    lived = [record.connection for record in open_tape(path).records() if record.connection is not None]
    host = exchange.ws_url.removeprefix("ws://")
    assert [(each.socket, each.host, each.cause) for each in lived] == [
        ("binance-1", host, None),
        ("binance-1", host, "connection closed (no close frame)"),
        ("binance-1", host, "status 503"),
        ("binance-1", host, None),
        ("binance-1", host, None),
    ]

    changes: list[str] = []
    async with playing(open_tape(path), speed=10_000.0) as (feed, _):
        feed.on_change = lambda: changes.append(str(feed.report()["last_error"]))
        await until(lambda: feed.state == "ended")
        assert feed.report()["sockets"] == [{"name": "binance-1", "state": "live", "host": host}]
    told = [each for number, each in enumerate(changes) if number == 0 or each != changes[number - 1]]
    assert told == ["None", f"{host}: connection closed (no close frame)", f"{host}: status 503", "None"]


async def test_a_frame_that_is_no_text_is_kept_as_it_came(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "t.jsonl", "wss://x", START)
    recorder.frame(b'{"e":"\xff\xfe"}', START + 1)
    recorder.frame('{"e":"币"}'.encode(), START + 2)
    asked = HttpRequest("/api/v3/klines", {"symbol": "BTCUSDT"})
    recorder.answer(asked, answer([1], received_ms=START + 3), START + 2)
    recorder.subscribed(["a", "b"], START + 4)
    recorder.dropped("a", START + 5)
    recorder.connection("binance-1", "x:443", None, START + 6)
    recorder.connection("binance-1", "x:443", "code 1001", START + 7)
    recorder.close()
    records = list(open_tape(tmp_path / "t.jsonl").records())
    assert [record.at for record in records] == [START + number for number in range(1, 8)]
    assert [record.frame for record in records[:2]] == [b'{"e":"\xff\xfe"}', '{"e":"币"}'.encode()]
    assert records[2].answer == (asked, HttpResponse(200, {}, b"[1]", START + 3), START + 2)
    assert (records[3].subscribed, records[4].dropped) == (("a", "b"), "a")
    assert [record.connection for record in records[5:]] == [
        Connection("binance-1", "x:443", None),
        Connection("binance-1", "x:443", "code 1001"),
    ]


def test_a_recorder_on_a_full_disk_gives_up_and_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    recorder = Recorder(full, "wss://x", START)
    with caplog.at_level(logging.ERROR):
        for _ in range(100):
            recorder.frame(b"x" * 1000, START)
        recorder.close()
    assert recorder.file is None
    assert [record.getMessage() for record in caplog.records].count("recording_stopped") == 1


def test_a_recorder_that_cannot_begin_says_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no_such"):
        Recorder(tmp_path / "no_such" / "t.jsonl", "wss://x", START)


# --- tapes of others ---


@pytest.mark.parametrize("name", ["tape.jsonl", "tape.jsonl.gz", "tape_without_a_suffix"])
async def test_a_foreign_tape_gives_prices_of_its_finest_streams_and_its_candles(tmp_path: Path, name: str) -> None:
    feed, sink = await played(foreign(tmp_path / name, *FRAMES))
    assert [(event.data["price"], event.source, event.ts) for event in sink.of("price.CRV")] == [
        (2.45, "binance:us.book", START + 100),
        (2.46, "binance:us.trade", START + 200),
    ]
    assert [(event.data["price"], event.source) for event in sink.of("price.OMG")] == [
        (13.75, "binance:us.candle"), (13.8, "binance:us.candle"), (13.81, "binance:us.candle"),
    ]  # fmt: skip
    assert [(event.data["state"], event.data["close"]) for event in sink.of("ohlcv.OMG.1m")] == [
        ("live", 13.75), ("closed", 13.8), ("live", 13.81),
    ]  # fmt: skip
    assert sink.of("price.CRV")[0].data["quote"] == "USDT"
    assert sink.of("price.OMG")[0].data["quote"] == "BUSD"
    assert sink.of("price.CRV")[0].received == START + 100
    assert feed.played == len(FRAMES)


async def test_frames_may_stand_in_a_foreign_tape_as_objects(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    lines: list[object] = [{"url": URL}, {"received_at": SECONDS, "raw": BOOK}]
    path.write_bytes(b"\n".join(orjson.dumps(line) for line in lines))
    _, sink = await played(path)
    assert len(sink.of("price.CRV")) == 1


@pytest.mark.parametrize(
    ("url", "site"),
    [
        ("wss://stream.binance.com:9443/ws", ""),
        ("wss://stream.binance.us:9443/stream", "us"),
        ("wss://stream-cloud.trbinance.com/stream", "tr"),
        ("wss://binance.us.example.com", ""),
        ("wss://notbinance.us", ""),
        ("ws://127.0.0.1:9", ""),
        ("", ""),
    ],
)
def test_a_sister_exchange_is_known_by_its_domain(url: str, site: str) -> None:
    assert site_of(url) == site


# --- tapes that are damaged, or none ---


def damaged(line: object) -> bytes:
    return line if isinstance(line, bytes) else orjson.dumps(line)


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense", b"\xff\xff", b"5", b'"text"', b"null", b"[]", b"{}", {"at": START}, {"at": None, "frame": "x"},
        {"at": "soon", "frame": "x"}, {"frame": "x"}, {"at": START, "frame_b64": "!"}, {"at": START, "answer": 5},
        {"at": START, "answer": {"path": "/x", "params": [], "body": ""}},
        {"at": START, "answer": {"path": "/x", "params": None, "body": ""}}, {"at": START, "answer": {}},
        {"at": START, "subscribed": 5}, {"at": START, "opened": 5}, {"at": START, "lost": {"socket": "a", "host": "x"}},
        b"{" * 5000,
    ],
)  # fmt: skip
async def test_a_line_that_cannot_be_read_is_skipped_and_counted(
    tmp_path: Path, line: object, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "t.jsonl"
    ticker = {
        "e": "24hrMiniTicker",
        "E": START,
        "s": "BTCUSDT",
        "c": "1",
        "o": "1",
        "h": "1",
        "l": "1",
        "v": "1",
        "q": "1",
    }
    pairs = {"symbols": [{"symbol": "BTCUSDT", "baseAsset": "BTC", "quoteAsset": "USDT"}]}
    lines: list[object] = [
        {"tape": 1, "recorded_at": START, "url": "wss://x"},
        {"at": START, "answer": {"path": "/api/v3/exchangeInfo", "params": {}, "body": orjson.dumps(pairs).decode()}},
        line,
        b"",
        {"at": START, "frame": orjson.dumps(ticker).decode()},
    ]
    path.write_bytes(b"\n".join(damaged(each) for each in lines))
    with caplog.at_level(logging.WARNING):
        feed, sink = await played(path)
    assert feed.tape.skipped == 1
    assert len(sink.of("price.BTC")) == 1
    (skipped,) = [record for record in caplog.records if record.getMessage() == "tape_line_skipped"]
    assert skipped.__dict__["line"] == 3


@pytest.mark.parametrize(
    "line",
    [{"received_at": "1e400", "raw": "{}"}, {"received_at": "nan", "raw": "{}"}, {"raw": "{}"}, {"received_at": 1}],
)
async def test_a_foreign_line_that_cannot_be_read_is_skipped_too(tmp_path: Path, line: dict[str, object]) -> None:
    path = foreign(tmp_path / "t.jsonl", *FRAMES[:1])
    path.write_bytes(
        path.read_bytes()
        + orjson.dumps(line)
        + b"\n"
        + orjson.dumps({"received_at": SECONDS + 1, "raw": orjson.dumps(TRADE).decode()})
    )
    feed, sink = await played(path)
    assert feed.tape.skipped == 1
    assert len(sink.of("price.CRV")) == 2


async def test_answers_that_were_never_good_are_skipped(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "t.jsonl", "wss://x", START)
    for path, params in (
        ("/api/v3/exchangeInfo", {}),
        ("/api/v3/klines", {}),
        ("/api/v3/klines", {"symbol": "BTCUSDT", "interval": "1m", "startTime": "x"}),
        ("/api/v3/ticker/24hr", {}),
        ("/elsewhere", {}),
    ):
        recorder.answer(HttpRequest(path, params), answer(b"<html>"))
    recorder.close()
    feed, sink = await played(tmp_path / "t.jsonl")
    assert feed.played == 5
    assert sink.events == []


@pytest.mark.parametrize("spoil", ["truncated", "corrupted"])
async def test_what_came_before_the_damage_of_a_packed_tape_is_played(
    tmp_path: Path, spoil: str, caplog: pytest.LogCaptureFixture
) -> None:
    frames: list[tuple[float, object]] = []
    for number in range(4000):
        data = TRADE["data"]
        assert isinstance(data, dict)
        frames.append((SECONDS + number, TRADE | {"data": data | {"E": START + number * 1000, "a": number * 7919}}))
    path = foreign(tmp_path / "t.jsonl.gz", *frames)
    raw = path.read_bytes()
    half = len(raw) // 2
    path.write_bytes(raw[:half] if spoil == "truncated" else raw[:half] + b"\xff" * 64 + raw[half + 64 :])
    with caplog.at_level(logging.WARNING):
        feed, sink = await played(path)
    assert 500 < len(sink.of("price.CRV")) < 4000
    assert feed.state == "ended"
    assert [record.getMessage() for record in caplog.records].count("tape_cut_short") == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "its first line is not JSON"),
        (b"nonsense", "its first line is not JSON"),
        (b"[]", 'neither "tape" nor "url"'),
        (b'{"received_at":1}', 'neither "tape" nor "url"'),
        (b'{"tape":2,"url":"wss://x"}', "version 2 is newer"),
        (b"\x1f\x8b", ""),
        (gzip.compress(b'{"tape":1}' * 50, mtime=0)[:20], ""),
        (gzip.compress(b"{}", mtime=0)[:10] + b"\xff" * 30, ""),
    ],
    ids=["empty", "text", "list", "headless", "newer", "bare gzip magic", "cut gzip", "spoiled gzip"],
)
def test_a_file_that_is_no_tape_is_refused_by_name(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "thing.jsonl"
    path.write_bytes(content)
    with pytest.raises(TapeError) as refused:
        open_tape(path)
    assert str(refused.value).startswith(f"tape {path}: ")
    assert says in str(refused.value)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()], ids=["missing", "directory"])
def test_a_tape_that_cannot_be_opened_is_refused_by_name(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "nowhere.jsonl"
    make(path)
    with pytest.raises(TapeError, match=r"nowhere\.jsonl: (No such file|Is a directory)"):
        open_tape(path)


# --- playing ---


async def test_a_tape_is_played_at_its_own_pace_or_a_multiple_of_it(tmp_path: Path) -> None:
    hands = ManualClock()
    clock = TapeClock(hands)
    path = foreign(tmp_path / "t.jsonl", *FRAMES)
    async with playing(open_tape(path), speed=10.0, clock=clock) as (feed, _):
        await until(lambda: feed.played == 1)
        hands.advance(0.0149)
        await asyncio.sleep(0.01)
        assert feed.played == 2, "0.05 s of the tape are 5 ms of ours, 0.15 s are 15 ms"
        hands.advance(0.001)
        await until(lambda: feed.played == 3)
        hands.advance(6.0)
        await until(lambda: feed.played == 6)
        hands.advance(1.0)
        await until(lambda: feed.state == "ended")


def test_the_clock_of_a_tape_tells_its_time_and_never_goes_back() -> None:
    hands = ManualClock()
    clock = TapeClock(hands)
    assert clock.wall_ms() == hands.wall_ms(), "before it begins there is only our own time"
    clock.turn_to(START + 1000)
    assert clock.wall_ms() == START + 1000
    hands.advance(0.5)
    assert clock.wall_ms() == START + 1500
    clock.turn_to(START + 1200)
    assert clock.wall_ms() == START + 1500
    clock.turn_to(START + 5000)
    assert clock.wall_ms() == START + 5000
    assert clock.now() == hands.now()


async def test_a_tape_has_what_it_has(tmp_path: Path) -> None:
    changes: list[str] = []
    path = foreign(tmp_path / "t.jsonl", *FRAMES)
    async with playing(open_tape(path), changes=changes) as (feed, sink):
        await until(lambda: feed.state == "ended")
        feed.want("ohlcv.OMG.1m")
        feed.want("price.CRV")
        assert sink.refused == []
        feed.want("ohlcv.OMG.5m")
        assert sink.refused == [("ohlcv.OMG.5m", "not on this tape")]
        assert not feed.drop("ohlcv.OMG.1m")
        feed.want("news")
        assert sink.refused[1:] == [("news", "not on this tape")]
        assert feed.readiness() == {"tape": "ended"}
        report = feed.report()
        assert (report["state"], report["file"], report["played"]) == ("ended", "t.jsonl", len(FRAMES))
    assert changes == ["playing", "ended"]


async def test_a_tape_without_records_ends_at_once(tmp_path: Path) -> None:
    feed, sink = await played(foreign(tmp_path / "t.jsonl"))
    events: list[Event] = sink.events
    assert (feed.played, events) == (0, [])

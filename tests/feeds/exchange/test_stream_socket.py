"""One long-lived socket, against an exchange that keeps its limits and misbehaves on demand."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from feeds.exchange.link import MAX_FRAME_BYTES, SocketPolicy
from feeds.exchange.slices import SlicedWork, Work
from feeds.exchange.stream_socket import StreamSocket
from feeds.exchange.venue import Ack, Opened
from feeds.venues.binance import frames, streams
from feeds.venues.binance.description import BINANCE
from orchestrator import tolerant
from orchestrator.hosts import Hosts
from tests.fakes.binance import FakeBinance, HandshakeFault, Limits, Spoil, Stall, SubscribeFault
from tests.fakes.clock import ManualClock
from tests.harness import until

ALL = streams.ALL_MINI_TICKERS
KLINES = "btcusdt@kline_1m"
STEP_S = 0.05


class World:
    """Sockets on exchanges, and a clock that turns for all of them."""

    def __init__(self, *exchanges: FakeBinance, urls: list[str] | None = None) -> None:
        self.exchanges = exchanges
        self.venue = BINANCE
        self.clock = ManualClock()
        self.hosts = Hosts(urls or [exchange.ws_url for exchange in exchanges], self.clock)
        self.frames: list[bytes] = []
        self.confirmed: Counter[str] = Counter()
        self.lively: set[str] = set()
        self.states: list[str] = []
        self.sockets: list[StreamSocket] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.trading = False

    def socket(self, *streams: str, policy: SocketPolicy | None = None) -> StreamSocket:
        """A running socket that wants these streams."""

        def on_frame(frame: Opened) -> Work:
            assert isinstance(frame.raw, bytes)
            self.frames.append(frame.raw)
            return iter(())

        socket = StreamSocket(
            f"test-{len(self.tasks) + 1}",
            self.venue,
            self.hosts,
            self.clock,
            random.Random(len(self.tasks)),
            SlicedWork(),
            on_frame,
            self.confirmed.update,
            lambda stream, within_s: stream in self.lively,
            policy or SocketPolicy(paused_s=1e6),
            lambda: self.states.append(socket.report.state),
        )
        for stream in streams:
            socket.want(stream)
        self.sockets.append(socket)
        self.tasks.append(asyncio.create_task(socket.run()))
        return socket

    def market_reads(self, on_frame: Callable[[Opened], Work]) -> Callable[[Opened], Work]:
        """Have every frame read that counts, as the market does."""

        def read(frame: Opened) -> Work:
            frames.read_opened(frame)
            return on_frame(frame)

        return read

    async def pass_time(self, seconds: float, step_s: float = STEP_S) -> None:
        """Let time pass for us and for the exchanges, with room for bytes to travel at every step.

        While `trading` there is market data all the while.
        """
        end = self.clock.now() + seconds - 1e-9
        while self.clock.now() < end:
            step_s = min(step_s, end + 1e-9 - self.clock.now())
            self.clock.advance(step_s)
            for exchange in self.exchanges:
                exchange.pass_time(step_s)
                if self.trading:
                    exchange.advance(step_s)
            await self.breathe()

    async def breathe(self) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        await asyncio.sleep(0.001)

    async def until(self, holds: Callable[[], object], most_s: float = 30.0) -> float:
        """Let time pass until something holds; returns how long it took. Fails if it does not come in time."""
        began = self.clock.now()
        for _ in range(20):  # what only has to travel needs no time
            if holds():
                return 0.0
            await asyncio.sleep(0.001)
        while not holds():
            assert self.clock.now() - began < most_s, f"not within {most_s} s"
            await self.pass_time(STEP_S)
        return self.clock.now() - began


@asynccontextmanager
async def world(*exchanges: FakeBinance, urls: list[str] | None = None) -> AsyncIterator[World]:
    made = World(*exchanges, urls=urls)
    try:
        yield made
        crashed = [task for task in made.tasks if task.done() and not task.cancelled()]
        assert not crashed, "a socket's task must never end by itself"
    finally:
        for task in made.tasks:
            task.cancel()
        await asyncio.gather(*made.tasks, return_exceptions=True)


@pytest.fixture
async def exchange() -> AsyncIterator[FakeBinance]:
    async with FakeBinance(limits=Limits(time_scale=1e-6)) as running:
        yield running


def attempts(exchange: FakeBinance) -> int:
    return len(exchange.handshakes)


# --- subscriptions ---


async def test_the_first_streams_travel_in_the_url_and_the_rest_is_subscribed(exchange: FakeBinance) -> None:
    wanted = [f"s{number:03}usdt@kline_1m" for number in range(450)]
    async with world(exchange) as it:
        socket = it.socket(*wanted)
        await it.until(lambda: socket.active == set(wanted))
        (connection,) = exchange.connections
        assert connection.target.count("@kline_1m") == 100
        methods = [(message.request["method"], len(message.request["params"])) for message in connection.controls]  # type: ignore[arg-type]
        assert methods == [("SUBSCRIBE", 200), ("SUBSCRIBE", 150)]
        assert it.confirmed == Counter(wanted), "each stream is confirmed once"
        assert set(connection.streams) == set(wanted)


async def test_fifteen_hundred_streams_on_two_sockets_never_break_a_limit(exchange: FakeBinance) -> None:
    wanted = [f"s{number:04}usdt@kline_1m" for number in range(1499)]
    async with world(exchange) as it:
        first = it.socket(ALL, *wanted[:1023])
        second = it.socket(*wanted[1023:])
        await it.until(lambda: len(first.active) + len(second.active) == 1500)
        for stream in wanted[:500]:
            first.drop(stream)
        await it.until(lambda: len(first.active) == 524)
        for number in range(500):
            first.want(f"t{number:04}usdt@kline_1m")
        await it.until(lambda: len(first.active) == 1024)
        it.trading = True
        await it.pass_time(45.0, step_s=0.25)
        assert exchange.busiest_second <= 5
        assert exchange.violations == []
        assert sorted(len(connection.streams) for connection in exchange.connections) == [476, 1024]


async def test_streams_come_and_go_one_by_one_without_breaking_a_limit(exchange: FakeBinance) -> None:
    async with world(exchange) as it:
        socket = it.socket(ALL)
        await it.until(lambda: ALL in socket.active)
        for number in range(60):
            socket.want(f"s{number}usdt@kline_1m")
            if number >= 3:
                socket.drop(f"s{number - 3}usdt@kline_1m")
            await it.pass_time(0.07)
        await it.until(lambda: socket.active == socket.wanted)
        assert exchange.violations == []
        assert exchange.busiest_second <= 5
        assert set(exchange.connections[0].streams) == {ALL, *(f"s{number}usdt@kline_1m" for number in (57, 58, 59))}


async def test_a_dropped_stream_is_unsubscribed_and_says_nothing_more(exchange: FakeBinance) -> None:
    async with world(exchange) as it:
        socket = it.socket(ALL, KLINES)
        await it.until(lambda: exchange.subscribed(KLINES))
        socket.drop(KLINES)
        await it.until(lambda: not exchange.subscribed(KLINES))
        it.frames.clear()
        exchange.advance(4)
        await it.pass_time(0.5)
        assert it.frames
        assert not any(b"kline" in frame for frame in it.frames)
        assert attempts(exchange) == 1


async def test_with_nothing_wanted_it_leaves_and_rests_until_something_is(exchange: FakeBinance) -> None:
    async with world(exchange) as it:
        socket = it.socket(KLINES)
        await it.until(lambda: exchange.subscribed(KLINES))
        socket.drop(KLINES)
        await it.until(lambda: not exchange.connections and socket.report.state == "idle")
        await it.pass_time(120.0, step_s=1.0)
        assert attempts(exchange) == 1

        socket.want(KLINES)
        await it.until(lambda: it.confirmed[KLINES] == 2)
        assert exchange.subscribed(KLINES)


@pytest.mark.parametrize("fault", [SubscribeFault.SWALLOW, SubscribeFault.DENY])
async def test_a_subscription_that_is_refused_or_ignored_is_asked_for_again(
    exchange: FakeBinance, fault: SubscribeFault
) -> None:
    exchange.break_subscribe(fault, times=2)
    async with world(exchange) as it:
        socket = it.socket(ALL)
        await it.until(lambda: ALL in socket.active)
        socket.want(KLINES)
        await it.until(lambda: socket.report.last_error is not None)
        assert (socket.report.last_error or "").startswith("SUBSCRIBE: ")
        assert it.confirmed[KLINES] == 0

        it.trading = True
        took_s = await it.until(lambda: it.confirmed[KLINES], most_s=60.0)
        assert took_s >= 5.0, "not at once: a refusal repeated is a refusal deserved"
        assert socket.report.last_error is None
        assert exchange.violations == []


async def test_a_frame_is_as_good_as_the_answer_that_does_not_come(exchange: FakeBinance) -> None:
    exchange.break_subscribe(SubscribeFault.NO_ACK)
    async with world(exchange) as it:
        socket = it.socket(ALL)
        await it.until(lambda: ALL in socket.active)
        it.trading = True
        socket.want(KLINES)
        took_s = await it.until(lambda: it.confirmed[KLINES])
        assert took_s <= 3.0, "the first frame comes within 2 s; the answer is waited for 10 s"
        await it.pass_time(20.0, step_s=0.25)
        assert (it.confirmed[KLINES], socket.report.last_error) == (1, None)
        assert len(exchange.connections[0].controls) == 1, "it is not asked for again"


async def test_an_error_without_an_id_is_the_oldest_questions(exchange: FakeBinance) -> None:
    async with world(exchange) as it:
        it.socket(ALL)
        await it.until(lambda: it.confirmed[ALL])
        socket = it.sockets[0].link
        assert socket is not None
        first: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        second: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        socket.acks = {1: first, 2: second}
        socket.acknowledged(Ack(None, "2 Invalid request"))
        assert first.result() == "2 Invalid request"
        socket.acknowledged(Ack(7, "not ours"))
        socket.acknowledged(Ack(2, None))
        assert second.result() is None
        socket.acknowledged(Ack(2, None))


async def test_after_a_reconnect_every_stream_is_confirmed_anew(exchange: FakeBinance) -> None:
    wanted = [ALL, *(f"s{number:03}usdt@kline_1m" for number in range(150))]
    async with world(exchange) as it:
        socket = it.socket(*wanted)
        await it.until(lambda: len(socket.active) == 151)
        exchange.abort_all()
        await it.until(lambda: it.confirmed.total() == 302)
        assert set(it.confirmed.values()) == {2}
        assert len(exchange.connections) == 1


# --- connections that fail ---


@pytest.mark.parametrize("code", [None, 1000, 1013])
async def test_a_peer_that_accepts_and_closes_is_not_asked_ten_times_a_minute(
    exchange: FakeBinance, code: int | None
) -> None:
    exchange.close_on_accept(code)
    async with world(exchange) as it:
        it.socket(ALL)
        for _ in range(3):
            before = attempts(exchange)
            await it.pass_time(60.0, step_s=0.25)
            assert 1 <= attempts(exchange) - before < 10


async def test_the_delay_is_forgiven_only_after_a_stretch_of_real_data(exchange: FakeBinance) -> None:
    async with world(exchange) as it:
        socket = it.socket(ALL)

        async def live_for(seconds: float) -> None:
            await it.until(lambda: exchange.subscribed(ALL))
            it.trading = True
            await it.pass_time(seconds, step_s=1.0)
            it.trading = False

        for _ in range(4):
            await live_for(5)
            exchange.abort_all()
            await it.until(lambda: socket.report.state == "waiting")
        assert socket.report.retry_in_s is not None
        assert socket.report.retry_in_s >= 4.0

        await live_for(20)
        exchange.abort_all()
        await it.until(lambda: socket.report.state == "waiting")
        assert socket.report.retry_in_s is not None
        assert socket.report.retry_in_s <= 1.0


@pytest.mark.parametrize(
    ("status", "retry_after", "rest_s"),
    [
        (429, "7", 7.0),
        (418, "300", 300.0),
        (429, None, 30.0),
        (418, None, 120.0),
        (451, None, 3600.0),
        (403, "5", 3600.0),
    ],
)
async def test_a_refused_handshake_is_not_repeated_before_its_time(
    exchange: FakeBinance, status: int, retry_after: str | None, rest_s: float
) -> None:
    exchange.refuse_handshakes(status, times=1, retry_after=retry_after)
    async with world(exchange) as it:
        socket = it.socket(ALL)
        await it.until(lambda: socket.report.state == "waiting")
        await it.pass_time(2.0)  # the ordinary delay has run out by now
        assert attempts(exchange) == 1
        it.clock.advance(it.hosts.wait_s() - 0.2)
        await it.pass_time(0.1)
        assert attempts(exchange) == 1
        await it.until(lambda: exchange.subscribed(ALL), most_s=1.0)
        assert attempts(exchange) == 2
        assert it.clock.now() - 1000.0 >= rest_s


async def test_a_host_that_refuses_leaves_the_stage_to_the_next(exchange: FakeBinance) -> None:
    async with FakeBinance(limits=Limits(time_scale=1e-6)) as other:
        exchange.refuse_handshakes(451)
        async with world(exchange, other) as it:
            socket = it.socket(ALL)
            took_s = await it.until(lambda: other.subscribed(ALL))
            assert took_s <= 1.5
            assert [host.state for host in it.hosts.all] == ["blocked", "unknown"]
            other.advance(1)
            await it.until(lambda: it.hosts.all[1].state == "active")
            other.abort_all()
            await it.until(lambda: it.confirmed[ALL] == 2)
            assert attempts(exchange) == 1, "an hour has not passed"
            assert socket.report.host == it.hosts.all[1].name


@pytest.mark.parametrize("status", [500, 503, 404, 400])
async def test_any_other_refusal_is_retried_ever_later(exchange: FakeBinance, status: int) -> None:
    exchange.refuse_handshakes(status, times=3)
    async with world(exchange) as it:
        it.socket(ALL)
        took_s = await it.until(lambda: exchange.subscribed(ALL))
        assert 3.0 <= took_s <= 8.0, "half of 1 + 2 + 4 seconds at least, all of them at most"
        assert attempts(exchange) == 4


async def test_no_handshake_at_all_is_given_up(exchange: FakeBinance) -> None:
    exchange.stage_handshake(HandshakeFault(hang=True), times=1)
    async with world(exchange) as it:
        socket = it.socket(ALL, policy=SocketPolicy(open_timeout_s=0.05))
        await until(lambda: it.hosts.all[0].failures)
        await it.until(lambda: socket.report.connects == 1)
        assert exchange.subscribed(ALL)
        assert it.hosts.all[0].failures == 1


async def test_a_closed_port_and_a_name_that_is_none_are_failures_like_others() -> None:
    async with world(urls=["ws://127.0.0.1:9", "nonsense://", "ws://"]) as it:
        socket = it.socket(ALL)
        await it.until(lambda: all(host.failures for host in it.hosts.all))
        assert socket.report.state in ("waiting", "connecting")
        assert socket.report.connects == 0


@pytest.mark.parametrize("spoken", [True, False])
async def test_a_peer_that_does_not_even_answer_a_ping_is_left(exchange: FakeBinance, spoken: bool) -> None:
    async with world(exchange) as it:
        socket = it.socket(KLINES)
        await it.until(lambda: exchange.subscribed(KLINES))
        if spoken:
            exchange.advance(2)
            await it.until(lambda: it.frames)
        exchange.stall = Stall.ALL
        took_s = await it.until(lambda: socket.report.last_error is not None)
        assert took_s <= 10.5, "5 s without a frame, then 5 s without a pong"
        assert "no sign of life" in (socket.report.last_error or "")
        exchange.stall = Stall.NONE
        await it.until(lambda: it.confirmed[KLINES] == 2)
        assert len(exchange.connections) == 1, "the dead one was left for good"


async def test_a_peer_that_rests_and_answers_pings_is_kept(exchange: FakeBinance) -> None:
    async with world(exchange) as it:
        it.socket(KLINES)
        await it.until(lambda: exchange.subscribed(KLINES))
        await it.pass_time(120.0, step_s=0.5)
        assert attempts(exchange) == 1
        assert len(exchange.connections[0].pings) >= 20


@pytest.mark.parametrize("how", ["abort", "mid_frame", "1006", "1001", "1011", "1012", "1013"])
async def test_a_lost_connection_is_made_anew(exchange: FakeBinance, how: str) -> None:
    async with world(exchange) as it:
        socket = it.socket(ALL)
        await it.until(lambda: exchange.subscribed(ALL))
        exchange.advance(1)
        await it.until(lambda: it.frames)
        (connection,) = exchange.connections
        if how == "mid_frame":
            connection.reset_mid_frame()
        elif how == "abort":
            connection.abort()
        else:
            connection.close(int(how), "because")
        await it.until(lambda: socket.report.last_error is not None)
        assert socket.report.last_error is not None
        wanted = f'code {how} "because"' if how.startswith("10") and how != "1006" else "no close frame"
        assert wanted in socket.report.last_error
        await it.until(lambda: it.confirmed[ALL] == 2)
        assert not connection.is_open


# --- successors ---


async def test_before_its_day_is_over_a_connection_has_a_successor(exchange: FakeBinance) -> None:
    async with world(exchange) as it:
        it.lively = {ALL, KLINES}
        socket = it.socket(ALL, KLINES)
        await it.until(lambda: exchange.subscribed(ALL, KLINES))
        (old,) = exchange.connections
        it.clock.advance(22.5 * 3600 - 1)
        await it.pass_time(0.5)
        assert attempts(exchange) == 1
        it.clock.advance(3600)
        await it.until(lambda: attempts(exchange) == 2)
        await it.pass_time(5.0)
        assert old.is_open, "the successor has delivered nothing yet"
        it.trading = True
        await it.until(lambda: not old.is_open, most_s=3.0)
        assert socket.report.rotations == 1
        assert socket.report.last_rotation == "old age"
        assert it.confirmed == Counter([ALL, KLINES]), "nothing was missing, so nothing is asked for"


async def test_an_announced_shutdown_is_followed_to_another_host_without_a_break(exchange: FakeBinance) -> None:
    async with FakeBinance(limits=Limits(time_scale=1e-6)) as other, world(exchange, other) as it:
        it.lively = {ALL}
        it.trading = True
        socket = it.socket(ALL)
        await it.until(lambda: it.frames)
        exchange.announce_shutdown()
        await it.until(lambda: socket.report.rotations == 1, most_s=3.0)
        assert (attempts(exchange), attempts(other)) == (1, 1)
        assert socket.report.host == it.hosts.all[1].name
        await it.until(lambda: not exchange.connections)


async def test_when_the_old_connection_ends_too_early_the_successor_takes_over_and_the_span_is_looked_into(
    exchange: FakeBinance,
) -> None:
    async with world(exchange) as it:
        it.lively = {ALL}
        socket = it.socket(ALL)
        await it.until(lambda: it.confirmed[ALL])
        exchange.announce_shutdown()
        await it.until(lambda: len(exchange.connections) == 2)
        exchange.connections[0].abort()
        await it.until(lambda: socket.report.rotations == 1, most_s=1.0)
        assert it.confirmed[ALL] == 2
        assert socket.report.state == "live"
        assert attempts(exchange) == 2


@pytest.mark.parametrize("fault", ["refused", "deaf", "ended"])
async def test_a_successor_that_fails_costs_nothing_and_another_is_made(exchange: FakeBinance, fault: str) -> None:
    async with world(exchange) as it:
        it.lively = {KLINES}
        it.trading = True
        socket = it.socket(KLINES)
        await it.until(lambda: it.frames)
        (old,) = exchange.connections
        if fault == "refused":
            exchange.refuse_handshakes(503, times=2)
        elif fault == "ended":
            exchange.close_on_accept(1012, times=2)
        socket.rotate("a test")
        if fault == "deaf":
            await it.until(lambda: len(exchange.connections) == 2)
            exchange.connections[1].stall = Stall.DATA
            await it.until(lambda: len(exchange.connections) == 1, most_s=12.0)
        else:
            await it.until(lambda: attempts(exchange) == 3, most_s=12.0)
        assert old.is_open
        assert socket.report.last_error is not None
        await it.until(lambda: socket.report.rotations == 1, most_s=12.0)
        await it.until(lambda: old not in exchange.connections)  # it hears of its end a moment after us
        assert it.confirmed[KLINES] == 1
        assert len(it.frames) == len(set(it.frames)), "no frame counted twice"


async def test_a_frame_is_parsed_once_also_while_two_connections_overlap(
    exchange: FakeBinance, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: Counter[str] = Counter()

    def counted(raw: bytes) -> object:
        parsed["frames"] += 1
        return tolerant.read_json(raw)

    monkeypatch.setattr(frames, "read_json", counted)
    async with world(exchange) as it:
        socket = it.socket(ALL, KLINES)
        socket.on_frame = it.market_reads(socket.on_frame)
        await it.until(lambda: it.confirmed[KLINES])
        it.lively, it.trading = {ALL, KLINES}, True
        socket.rotate("a test")
        await it.until(lambda: socket.handover is not None and socket.handover.held)
        await it.until(lambda: socket.report.rotations == 1)
        await it.pass_time(socket.policy.overlap_s + 1)
        assert socket.handover is None
        assert parsed["frames"] == socket.report.frames > 20


async def test_streams_that_rest_do_not_hold_a_successor_up(exchange: FakeBinance) -> None:
    async with world(exchange) as it:
        socket = it.socket(ALL, KLINES)
        await it.until(lambda: exchange.subscribed(KLINES))
        socket.rotate("a test")
        took_s = await it.until(lambda: socket.report.rotations == 1)
        assert took_s <= 1.0
        assert it.confirmed[KLINES] == 1


async def test_rotating_without_a_connection_or_twice_does_nothing_more(exchange: FakeBinance) -> None:
    async with world(exchange) as it:
        socket = it.socket()
        socket.rotate("a test")
        socket.want(ALL)
        await it.until(lambda: it.confirmed[ALL])
        socket.rotate("a test")
        socket.rotate("a test")
        await it.until(lambda: socket.report.rotations == 1)
        await it.pass_time(5.0)
        assert attempts(exchange) == 2


# --- frames ---


async def test_bad_frames_cost_only_themselves(exchange: FakeBinance) -> None:
    async with world(exchange) as it:
        it.socket(ALL, KLINES)
        await it.until(lambda: exchange.subscribed(ALL, KLINES))
        (connection,) = exchange.connections
        for kind in Spoil:
            exchange.spoil(kind, KLINES)
            exchange.advance(2)
            await it.breathe()
        connection.send_text(b"x" * (MAX_FRAME_BYTES - 1))
        exchange.advance(2)
        sent = connection.frames_sent
        await it.until(lambda: len(it.frames) == sent)
        assert attempts(exchange) == 1
        assert connection.is_open


async def test_a_frame_beyond_all_measure_costs_the_connection_and_no_more(exchange: FakeBinance) -> None:
    async with world(exchange) as it:
        socket = it.socket(ALL)
        await it.until(lambda: exchange.subscribed(ALL))
        exchange.connections[0].send_text(b"x" * (MAX_FRAME_BYTES + 1))
        await it.until(lambda: it.confirmed[ALL] == 2)
        assert socket.report.connects == 2
        assert it.frames == []


async def test_a_flood_neither_kills_the_link_nor_starves_others() -> None:
    async with FakeBinance(limits=Limits(time_scale=1e-6)) as exchange, world(exchange) as it:
        socket = it.socket(ALL, KLINES)
        await it.until(lambda: it.confirmed[KLINES])
        take = socket.on_frame
        most = 0

        def slowly(frame: Opened) -> Work:
            end = time.perf_counter() + 0.0002  # a fast machine must not take all of them in one turn
            while time.perf_counter() < end:
                pass
            return take(frame)

        async def neighbour() -> None:
            nonlocal most
            before = len(it.frames)
            while True:
                await asyncio.sleep(0)
                most, before = max(most, len(it.frames) - before), len(it.frames)

        socket.on_frame = slowly
        exchange.flood(KLINES, 1500)
        beside = asyncio.create_task(neighbour())
        async with asyncio.timeout(30):
            while len(it.frames) < 1500:  # noqa: ASYNC110 - counted by the socket under test
                await asyncio.sleep(0.01)
        beside.cancel()
        assert attempts(exchange) == 1
        assert exchange.connections
        assert most < 500, "in portions, with a turn for others between"


async def test_pings_are_answered_through_days_of_data(exchange: FakeBinance) -> None:
    async with world(exchange) as it:
        it.socket(ALL)
        await it.until(lambda: exchange.subscribed(ALL))
        for _ in range(60):
            exchange.pass_time(20.0)
            exchange.advance(1)
            await it.pass_time(0.1)
        (connection,) = exchange.connections
        assert len(connection.pongs) >= 55
        assert exchange.violations == []


# --- being stopped ---


@pytest.mark.parametrize("when", ["connecting", "waiting", "live", "idle"])
async def test_it_can_be_stopped_at_any_moment_and_leaves_no_connection(exchange: FakeBinance, when: str) -> None:
    if when == "connecting":
        exchange.hang_handshakes()
    if when == "waiting":
        exchange.refuse_handshakes(503)
    async with world(exchange) as it:
        socket = it.socket(*[] if when == "idle" else [ALL])
        await it.until(lambda: socket.report.state == when)
        await it.breathe()
        task = it.tasks.pop()
        task.cancel()
        async with asyncio.timeout(30):
            await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        await exchange.until(lambda: not exchange.connections)
        others = {each for each in asyncio.all_tasks() if each.get_name().startswith("test-")}
        assert not others

"""Run one contestant against one exchange with faults, and record the result.

Each contestant has its own exchange behind its own proxy. The exchanges of one seed trade identically, to the last
digit, and fail at the same moments. Time is real: market time follows the wall clock, second by second.
"""

import asyncio
import random
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.continuity import score
from bench.continuity.contestants import SYMBOLS, Contestant, Place
from bench.continuity.score import Receipts, Tick, Truth, Window
from bench.processes import ROOT, Failed, last_line
from tests.chaos.faults import Fault, fault_tape
from tests.chaos.player import Player
from tests.chaos.proxy import ChaosProxy
from tests.chaos.proxy import Path as Way
from tests.fakes.binance import DEFAULT_PAIRS, FakeBinance, Stall
from tests.fakes.binance_connection import Connection

TLS = ROOT / "tests" / "samples" / "tls"
PAIRS = [f"{symbol}USDT" for symbol in SYMBOLS]
READY_WITHIN_S = 120.0
LATENCY_S, JITTER_S = 0.03, 0.02
"""Latency each way, as across a continent; over bare loopback a new connection would fit between two frames."""
TAPES = 3
"""Number of fault tapes played at once; a single one affects only few candles."""
ROTATION_S = 12.0
NOTICE_S = (4.5, 5.5)
"""Time from the announcement of a connection's end to its close, at no fixed point of the second."""
LAST_FRAMES_S = 5.0


@dataclass(frozen=True, slots=True)
class Effort:
    """The lengths of a trial. A candle ends within `tape_s` if that is at least a minute; reports of it count for
    `settle_s` more."""

    tape_s: float
    calm_s: float
    rotations: int
    watched_s: float
    settle_s: float


@dataclass(slots=True)
class Trial:
    """One trial: an exchange with one client, and the trades since the start."""

    contestant: Contestant
    seed: int
    exchange: FakeBinance
    proxy: ChaosProxy
    place: Place
    began_ms: int
    newcomers_stalled: int = 0
    """Number of coming connections that stay silent."""
    known: list[Connection] = field(default_factory=list)
    ticks: dict[str, list[Tick]] = field(default_factory=lambda: {pair: [] for pair in PAIRS})
    down: set[int] = field(default_factory=set)
    behind_ms: int = 0
    """Maximum delay of the market behind the wall clock."""

    async def keep_time(self) -> None:
        """Let the market follow the wall clock, forever."""
        while True:
            while self.exchange.now_ms + 1000 <= wall_ms():
                self.behind_ms = max(self.behind_ms, wall_ms() - self.exchange.now_ms - 1000)
                self._stall_newcomers()
                self._trade()
            await asyncio.sleep((self.exchange.now_ms + 1000 - wall_ms()) / 1000)

    def _trade(self) -> None:
        instruments = self.exchange.market.instruments
        before = {pair: instruments[pair].next_id for pair in PAIRS}
        self.exchange.advance(1.0)
        for pair, first in before.items():
            after = instruments[pair].next_id
            if after > first:
                self.ticks[pair].append(Tick(self.exchange.now_ms, first, after - 1))
        if not self.exchange.is_up:
            self.down.add(self.exchange.now_ms)

    def _stall_newcomers(self) -> None:
        """Silence connections just before the market sends, so that a mute connection has sent nothing yet."""
        for connection in self.exchange.connections:
            if self.newcomers_stalled and connection not in self.known:
                connection.stall = Stall.DATA
                self.known.append(connection)
                self.newcomers_stalled -= 1

    def receipts(self) -> Receipts:
        """Return the messages that the client has received so far."""
        if not self.place.receipts.exists():
            return Receipts([], [])
        with self.place.receipts.open(encoding="utf-8") as lines:
            return score.read(lines)

    def truth(self) -> Truth:
        """Return the truth of the exchange, without its far past, which is costly and irrelevant."""
        candles = {
            (pair, candle.open_ms): tuple(
                float(text) for text in (candle.open, candle.high, candle.low, candle.close, candle.volume)
            )
            for pair in PAIRS
            for candle in self.exchange.candles(pair, "1m", start_ms=self.began_ms - score.CANDLE_MS)
            if candle.closed
        }
        return Truth(candles, self.ticks, frozenset(self.down))

    def has_begun(self) -> bool:
        """Return whether the client has a price of every market."""
        return {price.pair for price in self.receipts().prices} >= set(PAIRS)


@asynccontextmanager
async def running_trial(
    contestant: Contestant, seed: int, folder: Path, start_ms: int, starting: asyncio.Semaphore
) -> AsyncIterator[Trial]:
    """Run an exchange that trades from `start_ms` on, and its client, ready once it has prices. Raises Failed.

    `starting` is held while the client starts, so that only a few start at once.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "good.pem", TLS / "key.pem")
    pairs = [pair for pair in DEFAULT_PAIRS if pair.symbol in PAIRS]
    async with (
        FakeBinance(pairs, seed=seed, start_ms=start_ms, ssl_context=context) as exchange,
        ChaosProxy(exchange.port, seed=seed, path=Way(LATENCY_S, JITTER_S)) as proxy,
    ):
        trial = Trial(contestant, seed, exchange, proxy, Place(proxy.port, TLS / "good.pem", folder), start_ms)
        clock = asyncio.create_task(trial.keep_time())
        try:
            with ExitStack() as processes:
                async with starting:
                    processes.enter_context(contestant.started(trial.place))
                    await _begun(trial)
                yield trial
        finally:
            clock.cancel()


async def _begun(trial: Trial) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while not trial.has_begun():
        if time.monotonic() > deadline:
            log_lines = "; ".join(last_line(log) for log in sorted(trial.place.folder.glob("*.log")))
            raise Failed(f"no prices within {READY_WITHIN_S:.0f} s: {log_lines}")
        await asyncio.sleep(0.5)


# --- trials ---


def tape_of(seed: int, effort: Effort) -> tuple[Fault, ...]:
    """Return the faults of a seed."""
    streams = [f"{pair.lower()}@kline_1m" for pair in PAIRS]
    tapes = (fault_tape(seed * TAPES + number, effort.tape_s, streams) for number in range(TAPES))
    return tuple(sorted((fault for tape in tapes for fault in tape), key=lambda fault: fault.at_s))


async def tape(trial: Trial, effort: Effort) -> score.Continuity:
    """Play the faults of the seed, then leave some time to recover."""
    return await _play(trial, tape_of(trial.seed, effort), effort.tape_s, effort.settle_s)


async def calm(trial: Trial, effort: Effort) -> score.Continuity:
    """Do nothing, to show that the faults cause the other figures."""
    return await _play(trial, (), effort.calm_s, effort.settle_s)


async def _play(trial: Trial, faults: Sequence[Fault], for_s: float, settle_s: float) -> score.Continuity:
    player = Player(trial.exchange, faults, trial.proxy)
    began_ms = wall_ms()
    await asyncio.gather(player.run(), asyncio.sleep(for_s))
    window = Window(began_ms, wall_ms())
    await asyncio.sleep(settle_s)
    return score.continuity(trial.truth(), trial.receipts(), window)


async def rotations(trial: Trial, effort: Effort) -> int:
    """Announce the end of the current connections, close them, and repeat."""
    rng = random.Random(f"rotations:{trial.seed}")
    windows: list[Window] = []
    for _ in range(effort.rotations):
        notice_s = rng.uniform(*NOTICE_S)
        began_ms = wall_ms()
        leaving = trial.exchange.connections
        trial.exchange.announce_shutdown(*leaving)
        await asyncio.sleep(notice_s)
        for connection in leaving:
            connection.close(1001, "server shutdown")
        await asyncio.sleep(ROTATION_S - notice_s)
        windows.append(Window(began_ms, wall_ms()))
    await asyncio.sleep(LAST_FRAMES_S)
    return score.survived(trial.truth(), trial.receipts(), windows, by_trade=trial.contestant.by_trade)


async def stall(trial: Trial, effort: Effort) -> float | None:
    """Let the current connections fall silent forever; pings and new connections are answered."""
    for connection in trial.exchange.connections:
        connection.stall = Stall.DATA
    return await _back_after_s(trial, effort)


async def mute(trial: Trial, effort: Effort) -> float | None:
    """Close the current connections; the ones that replace them stay silent, the ones after work."""
    leaving = trial.exchange.connections
    trial.known = list(leaving)
    trial.newcomers_stalled = len(leaving)
    trial.exchange.close_all(1001, "server shutdown")
    return await _back_after_s(trial, effort)


async def _back_after_s(trial: Trial, effort: Effort) -> float | None:
    silent_ms, market_ms, by_trade = wall_ms(), trial.exchange.now_ms, trial.contestant.by_trade
    deadline = time.monotonic() + effort.watched_s
    while True:
        await asyncio.sleep(2.0)
        back_s = score.back_after_s(trial.ticks, trial.receipts(), silent_ms, market_ms, by_trade=by_trade)
        if back_s is not None or time.monotonic() > deadline:
            return back_s


Figure = score.Continuity | int | float | None
TRIALS: dict[str, Callable[[Trial, Effort], Awaitable[Figure]]] = {
    "calm": calm,
    "tape": tape,
    "rotations": rotations,
    "stall": stall,
    "mute": mute,
}
"""Trials by name."""


def wall_ms() -> int:
    """Return the time of the clients' clock."""
    return time.time_ns() // 1_000_000

"""Runs of the whole service on an exchange with faults, in virtual time, and their findings.

A seed gives a market, a tape of faults and the timing of the clients. Service, exchange, proxies and clients share one
process and one loop with virtual time: every duration is the real one, and minutes pass in a second. Faults happen in
the first part of a run; in the last part there are none, and everything has to recover.
"""

import asyncio
import contextlib
import logging
import random
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import aiohttp
import orjson

from feeds.venues.binance.streams import ALL_MINI_TICKERS, kline_stream
from stream_server.app import Run, service
from stream_server.connections.listener import listen
from stream_server.serving import runner_of
from stream_server.settings import Settings
from tests.chaos import virtual
from tests.chaos.checker import Expected, Series, findings
from tests.chaos.clients import STEP_MS, Client, Profile, Transcript
from tests.chaos.faults import Fault, Kind, fault_tape
from tests.chaos.player import Player
from tests.chaos.proxy import ChaosProxy
from tests.fakes.binance import DEFAULT_PAIRS, START_MS, FakeBinance, Pair, Rule, Status
from tests.fakes.coingecko import LARGE, NAMESAKES, FakeCoinGecko, ListedCoin
from tests.harness import ELSEWHERE

BASES = ("BTC", "ETH")
LISTED_S = 3600
PAIRS = tuple(
    # Listed recently: fetching a long history would be most of the work.
    replace(pair, trades_per_s=1, listed_ms=START_MS - LISTED_S * 1000)
    for pair in DEFAULT_PAIRS[:2]
)
NAMED_PAIRS = tuple(
    Pair(f"{base}USDT", base, "USDT", price, tick="0.00000001", listed_ms=START_MS - LISTED_S * 1000)
    for base, price in (("NEIRO", "0.00040000"), ("TWIN", "2.00000000"))
)
"""Coins that share their tickers with others. The aggregator lists only the second."""
LISTED = (*LARGE, *NAMESAKES, ListedCoin("twin-small", "twin", "Twin", 2.0, 1e8))
"""The coins of the aggregator: hundreds more would be a third of the work of a run."""
PRICED_WITHIN = 1.3
"""A price is plausible if it is at most this many times higher or lower than the first one."""
INTERVALS = ("1m", "3m")
TOPICS = ("price.BTC", "price.ETH", "price.NEIRO", "price.TWIN", "ohlcv.BTC.1m", "ohlcv.BTC.3m", "ohlcv.ETH.1m")
STREAMS = (ALL_MINI_TICKERS, *(kline_stream(pair.symbol, interval) for pair in PAIRS for interval in INTERVALS))
PRICES = {
    pair.base: (float(pair.price) / PRICED_WITHIN, float(pair.price) * PRICED_WITHIN) for pair in (*PAIRS, *NAMED_PAIRS)
}
MARKETS = 3
"""Number of different markets; one run without faults serves all seeds of a market."""
HOLES_MS = {2: (120_000, 180_000)}
"""Span, by market, in which the exchange itself lost the candles of its first pair."""
HALTS_MS = {1: (120_000, 180_000)}
"""Span, by market, in which the exchange halted its second pair."""
TTL_S = 10
WARM_UP_S = 15.0
HEAL_S = 80.0
SERVICE_KINDS = tuple(Kind)


@dataclass(frozen=True, slots=True)
class Plan:
    """Plan of one run. Times are seconds of market time."""

    seed: int
    span_s: float = 300.0
    faults: tuple[Fault, ...] | None = None
    """Faults to play instead of those of the seed."""

    @property
    def market(self) -> int:
        """The seed of the exchange's market."""
        return self.seed % MARKETS

    @property
    def skew_ms(self) -> int:
        """How far the service's clock is ahead of the exchange's."""
        return random.Random(f"skew:{self.seed}").choice((0, 0, -3000, 700, 5000)) if self.tape else 0

    @property
    def tape(self) -> tuple[Fault, ...]:
        """The faults of this run."""
        return fault_tape(self.seed, self.span_s, STREAMS, SERVICE_KINDS) if self.faults is None else self.faults


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a run. It was clean if there are no findings."""

    plan: Plan
    findings: tuple[str, ...]
    transcripts: tuple[Transcript, ...]

    @property
    def messages(self) -> int:
        """Number of messages that were checked."""
        return sum(len(visit.messages) for transcript in self.transcripts for visit in transcript.visits)


PROFILES = (Profile("ws"), Profile("sse"), Profile("ws", restless=True), Profile("sse", restless=True))


class Service:
    """The service in this process, behind a proxy that keeps its address over restarts."""

    def __init__(self, settings: dict[str, str], state_dir: Path, clock: virtual.VirtualClock) -> None:
        self.settings = Settings.parse({**settings, "HOST": "127.0.0.1", "PORT": "0", "STATE_DIR": str(state_dir)})
        self.state_dir = state_dir
        self.clock = clock
        self.proxy = ChaosProxy(0)
        self.life = contextlib.AsyncExitStack()

    @property
    def url(self) -> str:
        """URL of the service for clients."""
        return f"http://127.0.0.1:{self.proxy.port}"

    async def start(self) -> None:
        """Start from what is on disk."""
        app, context = await self.life.enter_async_context(service(self.settings, Run(), self.clock))
        runner = runner_of(app)
        await runner.setup()
        self.life.push_async_callback(runner.cleanup)
        listener = await listen(runner, context)
        self.life.callback(listener.close)
        self.proxy.target = ("127.0.0.1", listener.sockname[1])
        await self.proxy.up()

    async def kill(self) -> None:
        """Stop as on SIGKILL: send nothing, and discard the last writes."""
        await self.proxy.down()
        with tempfile.TemporaryDirectory() as kept:
            shutil.copytree(self.state_dir, kept, dirs_exist_ok=True)
            await self.life.aclose()
            shutil.rmtree(self.state_dir)
            shutil.copytree(kept, self.state_dir)


class ErrorLog(logging.Handler):
    """Collect the errors that the service logs."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        cause = f": {record.exc_info[1]!r}" if record.exc_info else ""
        self.errors.append(f"the service logged {record.getMessage()}{cause}")


@asynccontextmanager
async def _running(plan: Plan, tape: Sequence[Fault]) -> AsyncIterator[tuple[Service, Player, virtual.VirtualClock]]:
    """Run the exchange and the service, both up and healthy."""
    clock = virtual.VirtualClock(START_MS + plan.skew_ms)
    async with contextlib.AsyncExitStack() as stack:
        exchange = await stack.enter_async_context(FakeBinance((*PAIRS, *NAMED_PAIRS), seed=plan.market))
        if plan.market in HOLES_MS:
            begins_ms, ends_ms = HOLES_MS[plan.market]
            exchange.lose_candles(PAIRS[0].symbol, START_MS + begins_ms, START_MS + ends_ms)
        proxy = await stack.enter_async_context(ChaosProxy(exchange.port, seed=plan.seed))
        aggregator = await stack.enter_async_context(FakeCoinGecko(clock.wall_ms, per_minute=500, coins=LISTED))
        player = Player(exchange, tape, proxy, aggregator=aggregator)
        settings = {
            **ELSEWHERE,
            "BINANCE_WS_URLS": f"{player.ws_url},{player.ws_url.replace('127.0.0.1', 'localhost')}",
            "BINANCE_REST_URLS": player.rest_url,
            "OHLCV_SYMBOLS": ",".join(BASES),
            "OHLCV_INTERVALS": ",".join(INTERVALS),
            "SNAPSHOT_TTL_S": str(TTL_S),
            "COINGECKO_URL": aggregator.url,
            "MARKET_POLL_S": "5",
            "CACHE_TTL_S": "2",
            # These feeds are not tested here.
            **{f"{name}_POLL_S": "3600" for name in ("NEWS", "SENTIMENT", "GAS")},
        }
        state_dir = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        subject = Service(settings, state_dir, clock)
        await stack.enter_async_context(subject.proxy)
        player.service = subject
        stack.push_async_callback(lambda: subject.life.aclose())
        await subject.start()
        pump = asyncio.create_task(_trade(exchange, HALTS_MS.get(plan.market)))
        stack.callback(pump.cancel)
        await asyncio.sleep(WARM_UP_S)
        yield subject, player, clock


async def _trade(exchange: FakeBinance, halted_ms: tuple[int, int] | None) -> None:
    """Trade in real time until cancelled; halt the second pair for a while."""
    halt_ms, resume_ms = halted_ms or (None, None)
    loop = asyncio.get_running_loop()
    due_s = loop.time()
    while True:
        due_s += 1.0
        await asyncio.sleep(max(0.0, due_s - loop.time()))
        passed_ms = exchange.now_ms - START_MS
        if passed_ms in (halt_ms, resume_ms):
            exchange.set_status(PAIRS[1].symbol, Status.HALT if passed_ms == halt_ms else Status.TRADING)
        exchange.advance(1.0)


async def _run(plan: Plan, tape: Sequence[Fault], profiles: Sequence[Profile]) -> tuple[list[Transcript], list[str]]:
    """Run once; return what clients received, and what else went wrong."""
    wrong = ErrorLog()
    rng = random.Random(f"clients:{plan.seed}")
    logging.getLogger().addHandler(wrong)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: wrong.errors.append(f"unhandled error {context}"))
    try:
        async with _running(plan, tape) as (subject, player, clock), aiohttp.ClientSession() as http:
            clients = [
                Client(profile, TOPICS, subject.url, http, clock.wall_ms, random.Random(rng.random()))
                for profile in profiles
            ]
            tasks = [asyncio.create_task(client.run()) for client in clients]
            try:
                await player.run()
                await asyncio.sleep(max(0.0, plan.span_s - player.at_s) + HEAL_S)
                wrong.errors += await _rest_findings(subject.url, player.exchange, http)
            finally:
                for task in tasks:
                    task.cancel()
                ends = await asyncio.gather(*tasks, return_exceptions=True)
            wrong.errors += [
                f"a client crashed: {end!r}" for end in ends if not isinstance(end, asyncio.CancelledError)
            ]
            wrong.errors += [
                f"a limit of the exchange was exceeded: {each}"
                for each in player.exchange.violations
                if each.rule is not Rule.PONG  # a silent connection cannot answer
            ]
    finally:
        logging.getLogger().removeHandler(wrong)
        loop.set_exception_handler(None)
    return [client.transcript for client in clients], wrong.errors


async def _rest_findings(url: str, exchange: FakeBinance, http: aiohttp.ClientSession) -> list[str]:
    """Check that REST agrees with the exchange after everything has recovered."""
    wrong: list[str] = []
    for base in BASES:
        for interval in INTERVALS:
            limit = LISTED_S * 1000 // STEP_MS[interval]
            asked = f"symbol={base}&interval={interval}&limit={limit}"
            async with http.get(f"{url}/api/market/ohlc?{asked}") as answer:
                body = orjson.loads(await answer.read())
            if answer.status != 200 or body["stale"]:
                wrong.append(f"REST: {base} {interval} {answer.status}, stale={body.get('stale')}")
                continue
            answered = [(row["open_time"], row["close"], row["trades"]) for row in body["data"] if row["closed"]]
            truth = [
                (each.open_ms, float(each.close), each.trades)
                for each in exchange.candles(f"{base}USDT", interval)
                if each.closed
            ]
            if answered != truth[-len(answered) :] or len(answered) < limit - 1:
                wrong.append(f"REST: {base} {interval} differs from the exchange")
    async with http.get(f"{url}/api/status") as answer:
        feeds = orjson.loads(await answer.read())["data"]["feeds"]
    states = next(feed["pair_states"] for feed in feeds if feed["name"] == "binance")
    if states.keys() - {"TRADING", "UNLISTED"}:  # a pair that has just been delisted may still be expected
        wrong.append(f"/api/status: every pair trades, and is reported as {states}")
    async with http.get(f"{url}/api/market/price?symbols=BTC") as answer:
        body = orjson.loads(await answer.read())
    # With all stream hosts blocked prices are polled, and may be stale; then the answer must be marked so.
    age_ms = exchange.now_ms - body["data"][0]["ts"] if answer.status == 200 else 0
    if answer.status != 200 or (age_ms > TTL_S * 1000 and not body["stale"]):
        wrong.append(f"REST: at {exchange.now_ms} the price is {body}")
    return wrong


@cache
def truth_of(plan: Plan) -> Series:
    """Return the closed candles that a client has at the end of a run of the same market without faults."""
    transcripts, wrong = virtual.run(_run(plan, (), [Profile("ws", restless=False, wants_history=True)]))
    if wrong:
        raise RuntimeError(f"a run without faults went wrong: {wrong}")
    return transcripts[0].closed


def run(plan: Plan) -> Outcome:
    """Run one seed and check it."""
    faultless = Plan(plan.market, plan.span_s, ())
    truth = truth_of(faultless)
    transcripts, wrong = virtual.run(_run(plan, plan.tape, PROFILES))
    ended_ms = START_MS + plan.skew_ms + round((WARM_UP_S + plan.span_s + HEAL_S) * 1000)
    found = findings(transcripts, Expected(truth, TTL_S * 1000, ended_ms, PRICES))
    return Outcome(plan, (*wrong, *found), tuple(transcripts))

"""A live feed on fake exchanges whose clocks the test advances, so that durations can be measured exactly."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from feeds.venues.binance.streams import kline_stream
from tests.fakes.binance import START_MS, FakeBinance, Limits
from tests.fakes.clock import ManualClock
from tests.feeding import Live, live

KLINES = kline_stream("BTCUSDT", "1m")
TOPIC = "ohlcv.BTC.1m"
STEP_S = 0.25
SOUND = {"ticker_cadence_s": 1.0, "candle_cadence_s": 2.0, "silence_s": 15.0}


@dataclass(slots=True)
class Lab:
    """A feed on fake exchanges, all on clocks that the test advances."""

    exchanges: Sequence[FakeBinance]
    clock: ManualClock
    it: Live

    @property
    def exchange(self) -> FakeBinance:
        return self.exchanges[0]

    @property
    def asked_anew(self) -> list[list[str]]:
        """The streams of each UNSUBSCRIBE, on all connections."""
        controls = (message.request for each in self.exchange.all_connections for message in each.controls)
        return [list(each["params"]) for each in controls if each["method"] == "UNSUBSCRIBE"]  # type: ignore[call-overload]

    async def pass_time(self, seconds: float, trading: bool = True, step_s: float = STEP_S) -> None:
        """Advance all clocks step by step; messages arrive and requests are answered in each step."""
        end = self.clock.now() + seconds - 1e-9
        while self.clock.now() < end:
            for exchange in self.exchanges:
                exchange.pass_time(step_s)
                exchange.advance(step_s, step_s=step_s, only=None if trading else ())
            self.clock.advance(step_s)
            await self.settle()

    async def settle(self) -> None:
        """Wait until everything in flight has arrived."""
        for _ in range(4):
            await asyncio.sleep(0)
        await asyncio.sleep(0.0005)
        while self.it.transport.in_flight:  # noqa: ASYNC110 - counted by the transport itself
            await asyncio.sleep(0.0005)

    async def until(self, holds: Callable[[], object], most_s: float = 60.0) -> float:
        """Advance the market until a condition holds; return the seconds it took. Fails after `most_s`."""
        began = self.clock.now()
        while not holds():
            assert self.clock.now() - began < most_s, f"not within {most_s} s"
            await self.pass_time(STEP_S)
        return self.clock.now() - began

    def check(self, topic: str = TOPIC, symbol: str = "BTCUSDT") -> None:
        """Check that closed candles are true, complete, in order, and published once."""
        published = self.it.sink.rows(topic, "closed")
        truth = [
            each
            for each in self.exchange.candles(symbol, "1m", start_ms=int(str(published[0]["open_time"])))
            if each.closed and each.open_ms <= int(str(published[-1]["open_time"]))
        ]
        assert [(row["open_time"], row["trades"], row["close"]) for row in published] == [
            (each.open_ms, each.trades, float(each.close)) for each in truth
        ]
        assert self.it.sink.rows(topic, "corrected") == []
        assert self.it.sink.gaps == []


@asynccontextmanager
async def lab(others: int = 0, **policy: object) -> AsyncIterator[Lab]:
    """Run a healthy feed with live streams and history. `others` more exchanges serve streams; REST is the first's."""
    async with AsyncExitStack() as stack:
        exchanges = [
            await stack.enter_async_context(FakeBinance(limits=Limits(time_scale=1e-6))) for _ in range(1 + others)
        ]
        hosts = [other.ws_url for other in exchanges[1:]]
        clock = ManualClock(START_MS)
        it = await stack.enter_async_context(live(exchanges[0], clock=clock, hosts=hosts, **{**SOUND, **policy}))  # type: ignore[arg-type]
        made = Lab(exchanges, clock, it)
        await made.until(lambda: it.market.series and all(each.reached_back for each in it.market.series.values()))
        await made.until(
            lambda: KLINES in it.feed.judge.watchdog.streams and it.feed.judge.watchdog.streams[KLINES].heard
        )
        await made.pass_time(4.0)
        yield made

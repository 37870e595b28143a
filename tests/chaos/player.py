"""The player of a tape of faults on a running fake Binance.

    async with FakeBinance() as exchange, ChaosProxy(exchange.port) as proxy:
        player = Player(exchange, fault_tape(17, 600.0, ["btcusdt@kline_1m"]), proxy)
        start(ws=player.ws_url, rest=player.rest_url)  # through the proxy
        async with asyncio.TaskGroup() as group:
            group.create_task(exchange.run(speed=1.0))  # endless
            await player.run(speed=1.0)  # until the last fault is over

There are two ways to drive it:

* `await run(speed)` follows the event loop's clock, `speed` seconds of the tape a second: for real clients in real
  time, and for a loop whose time is virtual;
* `await advance_to(at_s)` applies everything that is due up to a moment of the tape: for tests with a `ManualClock`.

`active` lists the current faults, `log` the starts and ends in order. Without a proxy the exchange plays `half_open`
(it sends and reads nothing) and `reset` cuts a frame at a fixed place. `crash` kills and restarts `service`, and
`namesake` needs an `aggregator`; without these two the player skips such faults.
"""

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import orjson

from tests.chaos.faults import GONE, Fault, How, Kind
from tests.chaos.proxy import ChaosProxy, Link
from tests.damage import Damage, damaged
from tests.fakes.binance import (
    FakeBinance,
    Frame,
    Hang,
    Pair,
    RestFault,
    Stall,
    Status,
    Swap,
    duplicate,
    withhold_closes,
)
from tests.fakes.binance_connection import Connection
from tests.fakes.binance_faults import HTML_BODY, Tamper
from tests.fakes.coingecko import FakeCoinGecko, ListedCoin

SILENT = {Kind.STALL: Stall.DATA, Kind.FREEZE: Stall.ALL, Kind.HALF_OPEN: Stall.ALL}

NAMESAKE_FACTOR = 13.0
"""How many times higher the price of a namesake is."""
NEWCOMER = Pair("NEWUSDT", "NEW", "USDT", "1.5")
RESET_WITHIN_S = 3.0
"""A connection that carries too few bytes for a reset within a frame is reset after this time."""


class Killable(Protocol):
    """A service that can be killed."""

    async def kill(self) -> None:
        """Stop as on SIGKILL: nothing is sent, nothing is saved."""

    async def start(self) -> None:
        """Start again from what is on disk."""


@dataclass(order=True, slots=True)
class _Change:
    """An action at a moment of the tape."""

    at_s: float
    number: int
    act: Callable[[], Awaitable[None] | None] = field(compare=False)


class Player:
    """Apply a tape of faults to an exchange and to the connections to it."""

    def __init__(
        self,
        exchange: FakeBinance,
        tape: Sequence[Fault],
        proxy: ChaosProxy | None = None,
        service: Killable | None = None,
        aggregator: FakeCoinGecko | None = None,
    ) -> None:
        self.exchange = exchange
        self.proxy = proxy
        self.service = service
        self.aggregator = aggregator
        self.at_s = 0.0
        self.active: list[Fault] = []
        self.log: list[tuple[float, str, Fault]] = []
        self.changes: list[_Change] = []
        self.number = 0
        self.downs = 0
        self.newcomers = 0
        for fault in tape:
            self._at(fault.at_s, lambda fault=fault: self._begin(fault))  # type: ignore[misc]

    @property
    def ws_url(self) -> str:
        """URL of the exchange's streams for clients, through the proxy if there is one."""
        return self.exchange.ws_url if self.proxy is None else f"ws://127.0.0.1:{self.proxy.port}"

    @property
    def rest_url(self) -> str:
        """URL of the exchange's REST for clients, through the proxy if there is one."""
        return self.exchange.rest_url if self.proxy is None else f"http://127.0.0.1:{self.proxy.port}"

    @property
    def is_over(self) -> bool:
        """Whether every fault has ended."""
        return not self.changes

    # --- time ---

    async def advance_to(self, at_s: float) -> None:
        """Apply everything that is due up to this moment of the tape."""
        while self.changes and self.changes[0].at_s <= at_s:
            change = heapq.heappop(self.changes)
            self.at_s = max(self.at_s, change.at_s)
            waiting = change.act()
            if waiting is not None:
                await waiting
        self.at_s = max(self.at_s, at_s)

    async def run(self, speed: float = 1.0) -> None:
        """Play the tape to its end, `speed` seconds of it a second."""
        loop = asyncio.get_running_loop()
        began = loop.time() - self.at_s / speed
        while self.changes:
            due = began + self.changes[0].at_s / speed
            await asyncio.sleep(max(0.0, due - loop.time()))
            await self.advance_to(max((loop.time() - began) * speed, self.changes[0].at_s))

    def _at(self, at_s: float, act: Callable[[], Awaitable[None] | None]) -> None:
        self.number += 1
        heapq.heappush(self.changes, _Change(at_s, self.number, act))

    # --- faults ---

    def _begin(self, fault: Fault) -> Awaitable[None] | None:
        self.log.append((self.at_s, "begins", fault))
        match fault.kind:
            case Kind.DROP:
                self._tamper(fault, lambda _: [])
            case Kind.DUPLICATE:
                self._tamper(fault, duplicate)
            case Kind.REORDER:
                self._tamper(fault, Swap())
            case Kind.LOST_CLOSES:
                self._tamper(fault, withhold_closes)
            case Kind.HALF_OPEN if self.proxy is not None:
                self.proxy.black_hole()
            case Kind.STALL | Kind.FREEZE | Kind.HALF_OPEN:
                self._silence(fault)
            case Kind.CUT:
                self.exchange.close_all(1001, "24h")
            case Kind.SHUTDOWN:
                self._shut_down(fault)
            case Kind.RESET:
                self._reset(fault)
            case Kind.REFUSE:
                self._refuse(fault)
            case Kind.REST:
                self._break_rest(fault)
            case Kind.DAMAGE:
                self._damage(fault)
            case Kind.DOWN:
                return self._down(fault)
            case Kind.NAMESAKE if self.aggregator is not None:
                self._namesake(fault, self.aggregator)
            case Kind.LISTED:
                self._lie_about_pairs(fault)
            case Kind.CRASH if self.service is not None:
                self._end_after(fault, self.service.start)
                return self.service.kill()
        return None

    def _namesake(self, fault: Fault, aggregator: FakeCoinGecko) -> None:
        ticker = fault.coin or ""
        price = float(self.exchange.price(f"{ticker}USDT")) * NAMESAKE_FACTOR
        namesake = ListedCoin(f"{ticker.lower()}-namesake", ticker.lower(), f"Another {ticker}", price, 1e15 / price)
        aggregator.list_coin(namesake)
        self._end_after(fault, lambda: aggregator.delist(namesake.id))

    def _end_after(self, fault: Fault, end: Callable[[], Awaitable[None] | None]) -> None:
        """Mark a fault as active, and call `end` when it is over."""
        self.active.append(fault)

        def over() -> Awaitable[None] | None:
            self.active.remove(fault)
            self.log.append((self.at_s, "ends", fault))
            return end()

        self._at(fault.end_s, over)

    def _tamper(self, fault: Fault, tamper: Tamper) -> None:
        staged = self.exchange.tamper(_on(fault.stream, tamper))
        self._end_after(fault, staged.stop)

    def _silence(self, fault: Fault) -> None:
        touched = self.exchange.connections
        for connection in touched:
            connection.stall = SILENT[fault.kind]

        def resume() -> None:
            for connection in touched:
                connection.stall = Stall.NONE

        if fault.kind is not Kind.HALF_OPEN:
            self._end_after(fault, resume)

    def _shut_down(self, fault: Fault) -> None:
        touched: list[Connection] = self.exchange.connections
        if touched:
            self.exchange.announce_shutdown(*touched)

        def close() -> None:
            for connection in touched:
                connection.close(1001, "server shutdown")

        self._end_after(fault, close)

    def _reset(self, fault: Fault) -> None:
        if self.proxy is not None:
            torn = self.proxy.open_links
            self.proxy.reset(after_bytes=fault.after_bytes or 0)
            self._at(fault.at_s + RESET_WITHIN_S, lambda: _reset_all(torn))
            return
        for connection in self.exchange.connections:
            connection.reset_mid_frame()

    def _refuse(self, fault: Fault) -> None:
        status = fault.status or 503
        staged = self.exchange.refuse_handshakes(status, times=fault.times, retry_after=fault.retry_after_s)
        self.exchange.abort_all()
        self._end_after(fault, staged.stop)

    def _break_rest(self, fault: Fault) -> None:
        headers = {} if fault.retry_after_s is None else {"Retry-After": str(fault.retry_after_s)}
        match fault.how:
            case How.HANG:
                answer = RestFault(hang=Hang.IN_BODY)
            case How.CUT:
                answer = RestFault(cut_at=100)
            case How.RESET:
                answer = RestFault(cut_at=100, reset=True)
            case How.HTML:
                answer = RestFault(body=HTML_BODY)
            case _:
                answer = RestFault(status=fault.status or 500, headers=headers, body=b"{}")
        self._end_after(fault, self.exchange.break_rest("klines", answer).stop)

    def _lie_about_pairs(self, fault: Fault) -> None:
        """List wrong states, and a new pair that makes every client fetch the list."""
        self.newcomers += 1
        newcomer = replace(NEWCOMER, symbol=f"NEW{self.newcomers}USDT", base=f"NEW{self.newcomers}")
        self.exchange.list_pair(replace(newcomer, listed_ms=self.exchange.now_ms))
        listed = None if fault.listed == GONE else Status(fault.listed or Status.HALT)
        self.exchange.list_as(listed, *([fault.pair] if fault.pair else []))

        def over() -> None:
            self.exchange.list_truly()
            self.exchange.delist(newcomer.symbol)

        self._end_after(fault, over)

    def _damage(self, fault: Fault) -> None:
        kind = fault.damage or Damage.NAN

        def spoil(frames: Sequence[Frame]) -> Iterable[Frame]:
            return [replace(frame, text=damaged(_combined(frame), kind)) for frame in frames]

        frames = self.exchange.tamper(_on(fault.stream, spoil))
        answers = self.exchange.break_rest(
            "*", RestFault(change=lambda body: damaged(body if isinstance(body, bytes) else orjson.dumps(body), kind))
        )

        def restore() -> None:
            frames.stop()
            answers.stop()

        self._end_after(fault, restore)

    async def _down(self, fault: Fault) -> None:
        self.downs += 1
        await self.exchange.kill()

        async def up() -> None:
            self.downs -= 1
            if not self.downs:
                await self.exchange.revive()

        self._end_after(fault, up)


def _reset_all(links: Sequence[Link]) -> None:
    for link in links:
        if link.is_open:
            link.reset()


def _combined(frame: Frame) -> bytes:
    """Return the text of a frame on a combined stream."""
    return frame.text or b'{"stream":%b,"data":%b}' % (orjson.dumps(frame.stream), frame.payload)


def _on(stream: str | None, tamper: Tamper) -> Tamper:
    """Return a tamper for one stream only, which keeps the frames of all others."""
    if stream is None:
        return tamper

    def on_stream(frames: Sequence[Frame]) -> Iterable[Frame]:
        own = [frame for frame in frames if frame.stream == stream]
        others = [frame for frame in frames if frame.stream != stream]
        return [*others, *tamper(own)]

    return on_stream

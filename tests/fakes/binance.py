"""A loopback Binance Spot: WebSocket streams and REST on one port of 127.0.0.1, faults included.

    async with FakeBinance() as exchange:
        service = start(ws=exchange.ws_url, rest=exchange.rest_url)
        await exchange.until(lambda: exchange.subscribed("btcusdt@kline_1m"))
        exchange.advance(60)  # one minute of market: frames leave at once
        assert exchange.candles("BTCUSDT", "1m")[-2].closed

Two times run here, and neither is the wall clock:

* **market time** (`now_ms`; in every event, `/time` and the `Date` header) moves only by `advance` or `run`;
* **the connection clock** (`clock_s`; pings, message rates, bans, the 24 h life) is the loop's clock times
  `Limits.time_scale`, and `pass_time(seconds)` turns it on without waiting.

This module decides who is connected and who hears what. What happens in the market is `binance_market`, what
REST says is `binance_rest`, what the streams say is `binance_streams`, what can go wrong is `binance_faults`,
what one client's connection does is `binance_connection`, and what bytes look like is `binance_wire`.

By hand: `python -m tests.fakes.binance --port 9443 --symbols 400 --speed 1`.

Not modelled: `@depth`, `@trade`, `@ticker`, `@avgPrice`, `timeUnit=MICROSECOND`, candles in other time zones
(those streams are accepted and stay silent, as any unknown stream), user data.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import re
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self, TypeVar, cast

import orjson

from tests.fakes.binance_connection import (
    FAITHFUL,
    Connection,
    Handshake,
    Limits,
    Message,
    RestRequest,
    Rule,
    Violation,
)
from tests.fakes.binance_faults import (
    GEO_BLOCK_BODY,
    HTML_BODY,
    Frame,
    HandshakeFault,
    Hang,
    RestFault,
    Spoil,
    SpoilFrames,
    Staged,
    Stall,
    SubscribeFault,
    Swap,
    Tamper,
    duplicate,
    reverse,
    silence,
    withhold_closes,
)
from tests.fakes.binance_market import (
    DEFAULT_PAIRS,
    INTERVALS,
    START_MS,
    Candle,
    Market,
    Pair,
    Status,
    Step,
    Trade,
    decimal,
    synthetic_pairs,
)
from tests.fakes.binance_rest import Answer, answer
from tests.fakes.binance_streams import (
    METHODS,
    MINI_TICKERS,
    Encoded,
    Topic,
    agg_trade,
    book_ticker,
    complaint,
    decimal_text,
    legal_id,
    mini_ticker,
    property_reply,
    read_stream,
    stream_of,
)
from tests.fakes.binance_wire import websocket_frame
from tests.fakes.http_wire import HttpRequest

__all__ = [
    "DEFAULT_PAIRS",
    "GEO_BLOCK_BODY",
    "HTML_BODY",
    "INTERVALS",
    "START_MS",
    "Candle",
    "Connection",
    "FakeBinance",
    "Frame",
    "HandshakeFault",
    "Hang",
    "Limits",
    "Pair",
    "RestFault",
    "Rule",
    "Spoil",
    "SpoilFrames",
    "Stall",
    "Status",
    "SubscribeFault",
    "Swap",
    "duplicate",
    "reverse",
    "silence",
    "synthetic_pairs",
    "withhold_closes",
]

SHUTDOWN_STREAM = "!serverShutdown"

F = TypeVar("F")


class FakeBinance:
    """The exchange: a server to connect to, a market to move, a stage for faults, a witness to ask.

    `port` 0 takes a free one. `ssl_context` serves wss and https instead.
    """

    def __init__(
        self,
        pairs: Iterable[Pair] = DEFAULT_PAIRS,
        *,
        seed: int = 0,
        start_ms: int = START_MS,
        limits: Limits | None = None,
        port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
        seconds_kept: int = 3_600,
    ) -> None:
        self.market = Market(pairs, seed, start_ms, seconds_kept)
        self.limits = limits or Limits()
        self.port = port
        self.stall = Stall.NONE
        self.handshakes: list[Handshake] = []
        self.requests: list[RestRequest] = []
        self.violations: list[Violation] = []
        self.all_connections: list[Connection] = []  # every WebSocket that was opened, gone or not
        self.connections_made = 0  # TCP
        self._ssl = ssl_context
        self._server: asyncio.Server | None = None
        self._reservation: socket.socket | None = None
        self._sockets: set[Connection] = set()
        self._audience: dict[str, dict[Connection, None]] = {}
        self._topics: dict[str, Topic] = {}
        self._tampers: list[Staged[Tamper]] = []
        self._handshake_faults: list[Staged[HandshakeFault]] = []
        self._subscribe_faults: list[Staged[SubscribeFault]] = []
        self._rest_faults: list[Staged[tuple[str, RestFault]]] = []
        self._told: dict[str, tuple[int, int]] = {}
        self._changed_symbols: set[str] = set()
        self._news = asyncio.Event()
        self._skipped_s = 0.0
        self._upkeep: asyncio.TimerHandle | None = None
        self._weight = WeightMeter()

    # Coming up, going down

    async def __aenter__(self) -> Self:
        self._reserve_port()
        await self.revive()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.kill()
        if self._reservation is not None:
            self._reservation.close()

    @property
    def is_up(self) -> bool:
        return self._server is not None

    async def kill(self) -> None:
        """Take the whole exchange down: refuse connections, reset those that exist."""
        server, self._server = self._server, None
        if self._upkeep is not None:
            self._upkeep.cancel()
            self._upkeep = None
        if server is not None:
            server.close()
        for connection in tuple(self._sockets):
            connection.abort()
        await self.until(lambda: not self._sockets)
        if server is not None:
            await server.wait_closed()
        self.changed()

    async def revive(self) -> None:
        """Bring it up again, on the same port. Market time may have moved meanwhile."""
        if self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(
                self._accept, "127.0.0.1", self.port, ssl=self._ssl, reuse_address=True, backlog=1024
            )
            self.port = self._server.sockets[0].getsockname()[1]
            self._arm_upkeep()
            self.changed()

    def _reserve_port(self) -> None:
        """Hold the port while the exchange is down, so that nobody else can take it."""
        if sys.platform == "linux":  # elsewhere a second bind may be refused
            self._reservation = socket.socket()
            self._reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._reservation.bind(("127.0.0.1", self.port))
            self.port = self._reservation.getsockname()[1]

    def _accept(self) -> Connection:
        self.connections_made += 1
        return Connection(self, self.connections_made)

    @property
    def ws_url(self) -> str:
        """Where WebSockets connect, without a path."""
        return f"{'wss' if self._ssl else 'ws'}://127.0.0.1:{self.port}"

    @property
    def rest_url(self) -> str:
        """Where `/api/v3/...` lives."""
        return f"{'https' if self._ssl else 'http'}://127.0.0.1:{self.port}"

    # Time

    @property
    def now_ms(self) -> int:
        """Market time."""
        return self.market.now_ms

    @property
    def clock_s(self) -> float:
        """The connection clock."""
        return asyncio.get_running_loop().time() * self.limits.time_scale + self._skipped_s

    def pass_time(self, seconds: float) -> None:
        """Turn the connection clock on: pings, pong deadlines, lives, windows and bans notice at once."""
        self._skipped_s += seconds
        self._tend_all()

    def advance(self, seconds: float = 1.0, *, step_s: float = 1.0, only: Iterable[str] | None = None) -> None:
        """Let the market trade for so many seconds of market time, and send every frame due.

        Pairs that are not quiet trade in every step (`only` these, if given). Frames are written before this
        returns; they arrive when the event loop runs. Real time does not pass.
        """
        chosen = None if only is None else tuple(only)
        left_ms = round(seconds * 1000)
        while left_ms > 0:
            step_ms = min(left_ms, round(step_s * 1000))
            self._publish(self.market.step(step_ms / 1000, chosen))
            left_ms -= step_ms
        self.changed()

    async def run(self, speed: float = 1.0, tick_s: float = 1.0) -> None:
        """Advance in real time, `speed` market seconds a second, until cancelled."""
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            due_s += tick_s / speed
            await asyncio.sleep(max(0.0, due_s - loop.time()))
            self.advance(tick_s, step_s=tick_s)

    # The market

    def candles(
        self,
        symbol: str,
        interval: str,
        *,
        start_ms: int | None = None,
        end_ms: int | None = None,
        limit: int = 1000,
    ) -> list[Candle]:
        """The truth, oldest first; the last one is unfinished. See `Market.candles`."""
        return self.market.candles(symbol, interval, start_ms, end_ms, limit)

    def price(self, symbol: str) -> str:
        """The last price."""
        return decimal(self.market.instruments[symbol].price)

    def trade(self, symbol: str, price: str, quantity: str = "1", *, buyer_is_maker: bool = False) -> None:
        """Make one trade now: aggTrade and bookTicker leave at once, the rest with the next `advance`."""
        trade = self.market.trade(symbol, price, quantity, buyer_is_maker)
        self._changed_symbols.add(symbol)
        self._push(list(self._trade_frames((trade,))))
        self.changed()

    def quiet(self, *symbols: str) -> None:
        """These pairs stop trading by themselves (their status stays TRADING)."""
        for symbol in symbols:
            self.market.instruments[symbol].quiet = True

    def lively(self, *symbols: str) -> None:
        """These pairs trade again."""
        for symbol in symbols:
            self.market.instruments[symbol].quiet = False

    def list_pair(self, pair: Pair) -> None:
        """Start a new pair now; give it `listed_ms=exchange.now_ms` if it has no past."""
        self.market.list_pair(pair)
        for stream in tuple(self._audience):  # streams asked for before there was anything to send
            self._attach(stream)

    def delist(self, *symbols: str) -> None:
        """These pairs are gone: REST knows them no longer, and their streams say nothing."""
        for symbol in symbols:
            self.market.delist(symbol)

    def list_as(self, status: Status | None, *symbols: str) -> None:
        """Let `exchangeInfo` list this state of pairs (all without names), or leave them out, while they trade on."""
        self.market.listed_as.update(dict.fromkeys(symbols or self.market.instruments, status))

    def list_truly(self) -> None:
        """`exchangeInfo` lists the true states again."""
        self.market.listed_as.clear()

    def set_status(self, symbol: str, status: Status) -> None:
        """Stop a pair (BREAK, HALT...): no trades, no frames, no candles from now on. Or start it again."""
        self.market.set_status(symbol, status)

    def lose_candles(self, symbol: str, from_ms: int, to_ms: int) -> None:
        """The exchange itself has no candles that opened in `[from_ms, to_ms)`, at any interval."""
        self.market.instruments[symbol].holes.append((from_ms, to_ms))

    def correct(self, symbol: str, interval: str, open_ms: int, **fields: str) -> Candle:
        """Change a closed candle afterwards (`close="1.5"`).

        REST has the new candle and the stream sends the candle again; other intervals are not recomputed.
        """
        instrument = self.market.instruments[symbol]
        candle = instrument.candle(interval, open_ms, self.now_ms)
        if candle is None or not candle.closed:
            raise ValueError(f"no closed candle {symbol} {interval} at {open_ms}")
        texts = {name: decimal_text(value) for name, value in fields.items()}
        corrected = replace(candle, **texts)  # type: ignore[arg-type]
        instrument.corrections[interval, open_ms] = corrected
        self._push([self._candle_frame(corrected)])
        self.changed()
        return corrected

    # What a test may ask

    @property
    def connections(self) -> list[Connection]:
        """The WebSockets open now, oldest first."""
        return [connection for connection in self.all_connections if connection.is_open]

    def subscribed(self, *streams: str) -> bool:
        """Whether each of these streams has an open subscriber."""
        return all(self.subscribers(stream) for stream in streams)

    def subscribers(self, stream: str) -> list[Connection]:
        return [connection for connection in self._audience.get(stream, ()) if connection.is_open]

    @property
    def streams(self) -> set[str]:
        """Every stream somebody hears."""
        return set(self._audience)

    @property
    def handshakes_refused(self) -> int:
        return sum(handshake.status != 101 for handshake in self.handshakes)

    @property
    def busiest_second(self) -> int:
        """The most frames any one connection sent us within a second."""
        return max((connection.busiest_second for connection in self.all_connections), default=0)

    def requests_to(self, path: str, **query: str) -> list[RestRequest]:
        """The REST requests to `path` (`/api/v3/` may be left out) whose query holds these values."""
        full = path if path.startswith("/") else f"/api/v3/{path}"
        return [
            request
            for request in self.requests
            if request.path == full and all(request.query.get(name) == value for name, value in query.items())
        ]

    async def until(self, holds: Callable[[], object], timeout_s: float = 30.0) -> None:
        """Return once `holds()` is true; it is asked again at every event of the exchange.

        Raises: TimeoutError, with what the exchange saw, after `timeout_s` real seconds.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not holds():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise TimeoutError(
                f"not within {timeout_s} s: {len(self.handshakes)} handshakes "
                f"({self.handshakes_refused} refused), {len(self.connections)} open connections, "
                f"{len(self.requests)} REST requests, streams {sorted(self.streams)[:20]}, "
                f"violations {self.violations}"
            ) from None

    def changed(self) -> None:
        """Something happened that `until` may be waiting for."""
        self._news.set()

    # Faults of handshakes and connections

    def refuse_handshakes(
        self,
        status: int = 503,
        *,
        times: int | None = None,
        retry_after: str | int | None = None,
        body: str | bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> Staged[HandshakeFault]:
        """Answer the next `times` handshakes (None: all) with `status`."""
        merged = dict(headers or {})
        if retry_after is not None:
            merged["Retry-After"] = str(retry_after)
        raw = body.encode() if isinstance(body, str) else body
        return self.stage_handshake(HandshakeFault(status, merged, raw), times=times)

    def close_on_accept(self, code: int | None = None, *, times: int | None = None) -> Staged[HandshakeFault]:
        """Accept, then close at once with `code` (None: reset)."""
        return self.stage_handshake(HandshakeFault(close_code=code), times=times)

    def hang_handshakes(self, *, times: int | None = None) -> Staged[HandshakeFault]:
        """Take the connection and never answer its handshake."""
        return self.stage_handshake(HandshakeFault(hang=True), times=times)

    def stage_handshake(self, fault: HandshakeFault, *, times: int | None = None) -> Staged[HandshakeFault]:
        return _stage(self._handshake_faults, fault, times)

    def abort_all(self) -> None:
        """Reset every WebSocket; the exchange stays up."""
        for connection in self.connections:
            connection.abort()

    def close_all(self, code: int = 1001, reason: str = "") -> None:
        """Close every WebSocket with a code."""
        for connection in self.connections:
            connection.close(code, reason)

    def announce_shutdown(self, *connections: Connection) -> None:
        """Send `serverShutdown` (to all, unless some are named). Closing them is up to the test."""
        event = {"e": "serverShutdown", "E": self.now_ms}
        for connection in connections or self.connections:
            wrapped = {"stream": SHUTDOWN_STREAM, "data": event}
            connection.send_json(wrapped if connection.combined else event)

    def inject(self, text: str | bytes) -> None:
        """Send one text frame to every connection, exactly as given."""
        frame = websocket_frame(text.encode() if isinstance(text, str) else text)
        for connection in self.connections:
            connection.send_frame(frame)

    def inject_event(self, stream: str, event: object) -> None:
        """Send an event to the subscribers of `stream`, wrapped as each of them wants it."""
        self._push([Frame(stream, orjson.dumps(event))])

    def flood(self, stream: str, count: int) -> None:
        """Send the newest event of `stream` `count` times in a row."""
        self._push([frame for frame in self._current_frames(stream) for _ in range(count)])

    # Faults of subscriptions, events and REST

    def break_subscribe(self, fault: SubscribeFault, *, times: int | None = 1) -> Staged[SubscribeFault]:
        """Mistreat the next `times` SUBSCRIBE requests (None: all)."""
        return _stage(self._subscribe_faults, fault, times)

    def tamper(self, tamper: Tamper) -> Staged[Tamper]:
        """Change every event on its way out; tampers apply in the order they were staged.

        Ready: `silence("BTCUSDT")`, `withhold_closes`, `duplicate`, `reverse`, `Swap()`, `SpoilFrames(...)`.
        """
        return _stage(self._tampers, tamper, None)

    def spoil(self, kind: Spoil, stream: str | None = None, *, times: int | None = 1) -> Staged[Tamper]:
        """Make the next `times` events (of `stream`) bad in one way."""
        return self.tamper(SpoilFrames(kind, stream, times))

    def break_rest(self, path: str, fault: RestFault, *, times: int | None = None) -> Staged[tuple[str, RestFault]]:
        """Answer the next `times` requests to `path` (`"*"`: any; `/api/v3/` may be left out) with `fault`.

        Of several faults for a path the one staged first is played until it is used up.
        """
        full = path if path.startswith(("/", "*")) else f"/api/v3/{path}"
        return _stage(self._rest_faults, (full, fault), times)

    def heal(self) -> None:
        """End every fault of the exchange and of its connections."""
        self.stall = Stall.NONE
        stages: tuple[list[Staged[object]], ...] = (
            cast("list[Staged[object]]", self._tampers),
            cast("list[Staged[object]]", self._handshake_faults),
            cast("list[Staged[object]]", self._subscribe_faults),
            cast("list[Staged[object]]", self._rest_faults),
        )
        for stage in stages:
            for staged in stage:
                staged.stop()
            stage.clear()
        for connection in self.all_connections:
            connection.stall = Stall.NONE
            connection.tampers.clear()

    # Called by connections

    def connected(self, connection: Connection) -> None:
        self._sockets.add(connection)
        if not self.is_up:  # it slipped in while we were going down
            connection.abort()

    def disconnected(self, connection: Connection) -> None:
        self._sockets.discard(connection)
        self._unsubscribe(connection, list(connection.streams), keep=True)
        self.changed()

    def violated(self, rule: Rule, detail: str) -> None:
        self.violations.append(Violation(self.clock_s, rule, detail))

    def handshake(self, connection: Connection, request: HttpRequest, head: bytes) -> None:
        """Admit, refuse, ignore or betray a WebSocket."""
        refused = self._refusal(request)
        fault = refused or _take(self._handshake_faults)
        if fault is not None and fault.hang:
            self.handshakes.append(Handshake(self.clock_s, request.target, 0))
        elif fault is not None and fault.status is not None:
            self.handshakes.append(Handshake(self.clock_s, request.target, fault.status))
            connection.reply(fault.status, {"Connection": "close"} | fault.headers, fault.body)
        else:
            self._open(connection, request, head)
            if fault is not None:
                connection.close(fault.close_code or 1006)
        self.changed()

    def _open(self, connection: Connection, request: HttpRequest, head: bytes) -> None:
        status = connection.open_websocket(head)
        self.handshakes.append(Handshake(self.clock_s, request.target, status))
        if status != 101:
            return
        connection.target, connection.path = request.target, request.path
        connection.combined = request.path.startswith("/stream")
        connection.opened_s = self.clock_s
        connection.next_ping_s = self.clock_s + self.limits.ping_every_s
        self.all_connections.append(connection)
        self._subscribe(connection, streams_of(request))
        self._arm_upkeep()
        connection.read_the_rest()

    def _refusal(self, request: HttpRequest) -> HandshakeFault | None:
        now_s = self.clock_s
        recent = [each for each in self.handshakes if now_s - each.at_s < self.limits.handshakes_within_s]
        if len(recent) >= self.limits.handshakes:
            self.violated(Rule.HANDSHAKES, request.target)
            wait_s = recent[0].at_s + self.limits.handshakes_within_s - now_s
            return HandshakeFault(429, {"Retry-After": str(max(1, math.ceil(wait_s)))}, b"Too many connection attempts")
        if not re.fullmatch(r"/ws(/.*)?|/stream/?", request.path):
            return HandshakeFault(404, {}, HTML_BODY.encode())
        if len(streams_of(request)) > self.limits.streams:
            self.violated(Rule.STREAMS_PER_CONNECTION, request.target[:80])
            return HandshakeFault(400, {}, b'{"code":2,"msg":"Invalid request: too many streams"}')
        return None

    # Control messages

    def control(self, connection: Connection, message: Message) -> None:
        """Act on one JSON request and answer it."""
        reply = self._controlled(connection, message.payload)
        if reply is not None:
            connection.send_json(reply)
        self.changed()

    def _controlled(self, connection: Connection, payload: bytes) -> dict[str, object] | None:
        try:
            request = orjson.loads(payload)
        except orjson.JSONDecodeError:
            return complaint(3, "Invalid JSON: expected value at line 1 column 1")
        if not isinstance(request, dict):
            return complaint(2, "Invalid request: expected an object at line 1 column 1")
        request_id = request.get("id")
        if not legal_id(request_id):
            return complaint(2, "Invalid request: request ID must be an unsigned integer")
        method, params = request.get("method"), request.get("params", [])
        if method is None:
            return complaint(2, f"Invalid request: missing field `method` at line 1 column {len(payload)}")
        if method not in METHODS:
            known = ", ".join(f"`{name}`" for name in METHODS)
            return complaint(
                2, f"Invalid request: unknown variant {method}, expected one of {known} at line 1 column 28"
            )
        if not isinstance(params, list):
            return complaint(2, "Invalid request: params must be an array")
        ok: dict[str, object] = {"result": None, "id": request_id}
        match method:
            case "SUBSCRIBE" | "UNSUBSCRIBE":
                if not params or not all(isinstance(name, str) and name for name in params):
                    return complaint(2, "Invalid request: stream names must be strings", request_id)
                if method == "UNSUBSCRIBE":
                    self._unsubscribe(connection, params)
                    return ok
                return self._subscribe_asked(connection, params, ok)
            case "LIST_SUBSCRIPTIONS":
                return ok | {"result": list(connection.streams)}
            case _:
                reply = property_reply(connection.combined, method, params, ok)
                if method == "SET_PROPERTY" and reply is ok:
                    connection.combined = params[1]
                return reply

    def _subscribe_asked(
        self, connection: Connection, names: list[str], ok: dict[str, object]
    ) -> dict[str, object] | None:
        fault = _take(self._subscribe_faults)
        if fault is SubscribeFault.SWALLOW:
            return None
        if fault is SubscribeFault.PRETEND:
            return ok
        if fault is SubscribeFault.DENY:
            return complaint(2, "Invalid request: subscription refused", ok["id"])
        if len(connection.streams.keys() | set(names)) > self.limits.streams:
            self.violated(Rule.STREAMS_PER_CONNECTION, f"connection {connection.number}")
            return complaint(2, "Invalid request: too many streams", ok["id"])
        self._subscribe(connection, names)
        return None if fault is SubscribeFault.NO_ACK else ok

    def _subscribe(self, connection: Connection, names: Iterable[str]) -> None:
        for name in names:
            connection.streams[name] = None
            self._audience.setdefault(name, {})[connection] = None
            self._attach(name)

    def _attach(self, stream: str) -> None:
        """Feed a stream that somebody hears, if there is anything to feed it with."""
        topic = read_stream(stream)
        if topic is not None and (topic.symbol in self.market.instruments or not topic.symbol):
            self._topics[stream] = topic
            if topic.kind == "kline":
                self.market.watch(topic.symbol, topic.interval)

    def _unsubscribe(self, connection: Connection, names: Iterable[str], *, keep: bool = False) -> None:
        """Stop the streams; `keep` leaves them listed on the connection, for a test to look at."""
        for name in names:
            if not keep:
                connection.streams.pop(name, None)
            audience = self._audience.get(name, {})
            audience.pop(connection, None)
            if not audience:
                self._audience.pop(name, None)
                self._topics.pop(name, None)
                self._told.pop(name, None)

    # Events

    def _publish(self, step: Step) -> None:
        """Send what Binance would send after this step: trades, closes, then what changed."""
        self._changed_symbols.update(trade.symbol for trade in step.trades)
        if self._topics:
            frames = list(self._trade_frames(step.trades))
            frames += [self._candle_frame(each) for each in step.closed if stream_of(each) in self._topics]
            if step.crossed(2_000):
                frames += self._kline_updates()
            if step.crossed(1_000):
                frames += self._ticker_frames(self._changed_symbols)
            self._push(frames)
        if step.crossed(1_000):
            self._changed_symbols = set()

    def _trade_frames(self, trades: Iterable[Trade]) -> Iterable[Frame]:
        if not any(topic.kind in ("aggTrade", "bookTicker") for topic in self._topics.values()):
            return
        for trade in trades:
            symbol = trade.symbol.lower()
            if f"{symbol}@aggTrade" in self._topics:
                yield Frame(f"{symbol}@aggTrade", orjson.dumps(agg_trade(trade)))
            if f"{symbol}@bookTicker" in self._topics:
                instrument = self.market.instruments[trade.symbol]
                yield Frame(f"{symbol}@bookTicker", orjson.dumps(book_ticker(instrument, trade)))

    def _candle_frame(self, candle: Candle) -> Frame:
        return Frame(stream_of(candle), orjson.dumps(candle.event(self.now_ms)), closes_candle=candle.closed)

    def _kline_updates(self) -> list[Frame]:
        """The running candles that changed since they were last sent."""
        frames = []
        for stream, topic in self._topics.items():
            if topic.kind != "kline" or topic.interval == "1s":
                continue
            bar = self.market.instruments[topic.symbol].running.get(topic.interval)
            if bar is None or not bar.trades or self._told.get(stream) == (bar.open_ms, bar.trades):
                continue
            self._told[stream] = (bar.open_ms, bar.trades)
            candle = self.market.candle(topic.symbol, topic.interval)
            if candle is not None:
                frames.append(self._candle_frame(candle))
        return frames

    def _ticker_frames(self, symbols: set[str]) -> list[Frame]:
        """The mini tickers of `symbols`, alone and as one array."""
        wanted = symbols if MINI_TICKERS in self._topics else ()
        alone = {
            topic.symbol: stream
            for stream, topic in self._topics.items()
            if topic.kind == "miniTicker" and topic.symbol in symbols
        }
        payloads = {
            symbol: orjson.dumps(mini_ticker(instrument, self.now_ms))
            for symbol, instrument in self.market.instruments.items()
            if symbol in alone or symbol in wanted
        }
        frames = [Frame(stream, payloads[symbol]) for symbol, stream in alone.items()]
        if wanted:
            frames.append(Frame(MINI_TICKERS, b"[" + b",".join(payloads.values()) + b"]"))
        return frames

    def _current_frames(self, stream: str) -> list[Frame]:
        topic = read_stream(stream)
        if topic is None:
            raise ValueError(f"nothing is ever sent on {stream}")
        if topic.kind == "kline":
            candle = self.market.candle(topic.symbol, topic.interval)
            return [] if candle is None else [self._candle_frame(candle)]
        instruments = self.market.instruments
        if topic.kind == "miniTickers":
            symbols = [symbol for symbol, each in instruments.items() if each.trading]
            payloads = [mini_ticker(instruments[symbol], self.now_ms) for symbol in symbols]
            return [Frame(stream, orjson.dumps(payloads))]
        instrument = instruments[topic.symbol]
        last = Trade(
            topic.symbol,
            instrument.next_id - 1,
            self.now_ms,
            instrument.price,
            instrument.last_quantity,
            False,
        )
        event = {
            "miniTicker": lambda: mini_ticker(instrument, self.now_ms),
            "aggTrade": lambda: agg_trade(last),
            "bookTicker": lambda: book_ticker(instrument, last),
        }[topic.kind]()
        return [Frame(stream, orjson.dumps(event))]

    def _push(self, frames: Iterable[Frame]) -> None:
        """Send frames to their subscribers; each is encoded once, however many listen."""
        self._tampers = [staged for staged in self._tampers if staged.active]
        for staged in self._tampers:
            frames = list(staged.fault(list(frames)))
        apart: dict[Connection, list[Frame]] = {}
        for frame in frames:
            encoded = Encoded(frame)
            for connection in tuple(self._audience.get(frame.stream, ())):
                if connection.tampers:
                    apart.setdefault(connection, []).append(frame)
                elif connection.stalled is Stall.NONE:
                    connection.send_frame(encoded.for_one(connection.combined))
        for connection, own in apart.items():
            for staged in connection.tampers:
                if staged.active:
                    own = list(staged.fault(own))
            if connection.stalled is Stall.NONE:
                for frame in own:
                    connection.send_frame(Encoded(frame).for_one(connection.combined))

    # REST

    def rest(self, connection: Connection, request: HttpRequest) -> None:
        """Answer a REST request, truly or as staged."""
        reply, headers = self._answer(request)
        staged = next(
            (each for each in self._rest_faults if each.active and each.fault[0] in ("*", request.path)), None
        )
        fault = FAITHFUL if staged is None else staged.use()[1]
        status = fault.status or reply.status
        body = fault.body_bytes(reply.body)
        seen = 0 if fault.hang is Hang.BEFORE_HEAD else status
        self.requests.append(
            RestRequest(self.clock_s, request.method, request.path, dict(request.query), request.headers, seen)
        )
        if fault.delay_s:
            connection.later(fault.delay_s, lambda: connection.reply(status, headers | fault.headers, body, fault))
        else:
            connection.reply(status, headers | fault.headers, body, fault)
        self.changed()

    def _answer(self, request: HttpRequest) -> tuple[Answer, dict[str, str]]:
        now_s = self.clock_s
        limits = self.limits
        banned_s = self._weight.banned_for_s(now_s)
        if banned_s:
            until_ms = self.now_ms + round(banned_s * 1000)
            body = complaint(
                -1003,
                f"Way too much request weight used; IP banned until {until_ms}. "
                "Please use WebSocket Streams for live updates to avoid bans.",
            )
            return Answer(418, body, 0), self._weight.headers(now_s) | {"Retry-After": str(max(1, math.ceil(banned_s)))}
        if request.method != "GET":
            return Answer(405, HTML_BODY.encode(), 0), self._weight.headers(now_s)
        found = answer(self.market, limits.weight_per_minute, request.path, request.query)
        reply = found or Answer(404, HTML_BODY.encode(), 0)
        if self._weight.spend(reply.weight, now_s, limits):
            headers = self._weight.headers(now_s)
            return reply, headers if found else headers | {"Content-Type": "text/html"}
        self.violated(Rule.REQUEST_WEIGHT, request.target[:80])
        if self._weight.banned_for_s(now_s):
            return self._answer(request)
        body = complaint(
            -1003,
            f"Too much request weight used; current limit is {limits.weight_per_minute} request weight per "
            "1 MINUTE. Please use WebSocket Streams for live updates to avoid polling the API.",
        )
        wait_s = 60 - now_s % 60
        return Answer(429, body, 0), self._weight.headers(now_s) | {"Retry-After": str(max(1, math.ceil(wait_s)))}

    # Upkeep

    def _tend_all(self) -> None:
        now_s = self.clock_s
        for connection in self.connections:
            connection.tend(now_s)
        self._arm_upkeep()
        self.changed()

    def _arm_upkeep(self) -> None:
        """Wake up when the next connection needs care."""
        if self._upkeep is not None:
            self._upkeep.cancel()
            self._upkeep = None
        due_s = min((each.next_due_s() for each in self.connections), default=None)
        if due_s is not None and self.is_up:
            delay_s = max(0.0, due_s - self.clock_s) / self.limits.time_scale
            self._upkeep = asyncio.get_running_loop().call_later(delay_s, self._tend_all)


@dataclass(slots=True)
class WeightMeter:
    """Request weight used in the running minute, and the bans that follow from ignoring 429."""

    minute: int = 0
    used: int = 0
    refusals: int = 0
    banned_until_s: float = field(default=float("-inf"))

    def spend(self, weight: int, now_s: float, limits: Limits) -> bool:
        """Count a request; False if it is one too many."""
        self._turn(now_s)
        self.used += weight
        if self.used <= limits.weight_per_minute:
            return True
        self.refusals += 1
        if self.refusals > limits.refusals_before_ban:
            self.banned_until_s = now_s + limits.ban_s
        return False

    def banned_for_s(self, now_s: float) -> float:
        return max(0.0, self.banned_until_s - now_s)

    def headers(self, now_s: float) -> dict[str, str]:
        self._turn(now_s)
        return {"X-MBX-USED-WEIGHT": str(self.used), "X-MBX-USED-WEIGHT-1M": str(self.used)}

    def _turn(self, now_s: float) -> None:
        if int(now_s // 60) != self.minute:
            self.minute = int(now_s // 60)
            self.used = self.refusals = 0


def _stage(stage: list[Staged[F]], fault: F, times: int | None) -> Staged[F]:
    staged = Staged(fault, times)
    stage.append(staged)
    return staged


def _take(stage: list[Staged[F]]) -> F | None:
    return next((staged.use() for staged in stage if staged.active), None)


def streams_of(request: HttpRequest) -> list[str]:
    """The streams a handshake asks for in its URL."""
    if request.path.startswith("/ws/"):
        joined = request.path.removeprefix("/ws/")
    else:
        joined = dict(request.query).get("streams", "")
    return [name for name in joined.split("/") if name]


async def serve(port: int, symbols: int, speed: float, seed: int) -> None:
    """Run the exchange until cancelled, starting at the wall clock's time."""
    pairs = synthetic_pairs(symbols, seed)
    now_ms = int(time.time() * 1000)
    async with FakeBinance(pairs, seed=seed, start_ms=now_ms, port=port, seconds_kept=1_000) as exchange:
        print(f"export BINANCE_WS_URLS={exchange.ws_url}")
        print(f"export BINANCE_REST_URLS={exchange.rest_url}", flush=True)
        await exchange.run(speed)


def main() -> None:
    parser = argparse.ArgumentParser(description="A fake Binance Spot on 127.0.0.1, to develop against.")
    parser.add_argument("--port", type=int, default=9443)
    parser.add_argument("--symbols", type=int, default=len(DEFAULT_PAIRS))
    parser.add_argument("--speed", type=float, default=1.0, help="market seconds a second")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(arguments.port, arguments.symbols, arguments.speed, arguments.seed))


if __name__ == "__main__":
    main()

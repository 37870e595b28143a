"""Follow an exchange live: decide which streams are wanted, on which sockets, and what REST must add.

The stream carries everything it can. REST gives what a stream cannot: the list of pairs (`pair_list`), prices before
the first frame, the candles that passed while nobody listened (`backfill`), and a second opinion on a stream that sends
nothing (`stream_judge`). Answers and frames alike go to `ExchangeMarket`.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median_high
from typing import TypeVar

from feeds import topics
from feeds.exchange.awake import AwakeTime
from feeds.exchange.backfill import BackfillPolicy, Backfills, log_failure
from feeds.exchange.candles import KEEP
from feeds.exchange.link import SocketPolicy
from feeds.exchange.market import HALTED, ExchangeMarket
from feeds.exchange.pair_list import PairList, PairListPolicy
from feeds.exchange.recorder import Recorder
from feeds.exchange.slices import SLICE_ROWS, SlicedWork, Work
from feeds.exchange.stream_judge import JudgePolicy, StreamJudge
from feeds.exchange.stream_socket import StreamSocket
from feeds.exchange.venue import Key, Opened, Prices
from feeds.fields import Rows
from feeds.model import Candle, Price
from orchestrator.clock import Clock
from orchestrator.errors import NotFound, ProviderError
from orchestrator.hosts import Hosts
from orchestrator.http import HttpRequest, HttpResponse
from orchestrator.provider import Steps
from orchestrator.retry import Backoff
from orchestrator.upstream import Upstream, just

log = logging.getLogger(__name__)

T = TypeVar("T")

SKEWS_KEPT = 15
KEEP_ON_DEMAND = 200
"""Closed candles of a series that a client has started; older ones are fetched from the exchange when asked for."""
EXCHANGE_HALTED = "the exchange is halted: it trades none of its pairs"


@dataclass(frozen=True, slots=True)
class FeedPolicy:
    """What the feed carries, and how often REST is asked. Times in seconds."""

    candle_bases: Sequence[str] = ()
    candle_intervals: Sequence[str] = ()
    poll_s: float = 30.0
    """Time between two polls of all prices while no stream delivers."""
    pairs_refresh_s: float = 3600.0
    doubted_refresh_s: float = 30.0
    """Least time between two fetches of the list of pairs when something contradicts it."""
    doubted_longest_s: float = 60.0
    """Longest time after which a pair that ticks counts again, although each new list says that it rests."""
    first_delay_s: float = 1.0
    longest_delay_s: float = 60.0
    silence_s: float = 15.0
    """A ticker stream that is silent for so long is dead if REST can't tell; prices are polled after half of it."""
    watch_s: float = 0.25
    """Time between two looks for dead streams."""
    backfill: BackfillPolicy = field(default_factory=BackfillPolicy)
    socket: SocketPolicy = field(default_factory=SocketPolicy)


class ExchangeFeed:
    """Runs until cancelled. `want` and `drop` start and stop candles that somebody listens to."""

    def __init__(
        self,
        market: ExchangeMarket,
        stream_hosts: Hosts,
        rest: Upstream,
        clock: Clock,
        rng: random.Random,
        policy: FeedPolicy,
        pairs_file: Path | None = None,
        recorder: Recorder | None = None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.market = market
        self.venue = market.venue
        self.name = self.venue.name
        self.symbols = market.symbols
        self.stream_hosts = stream_hosts
        self.rest = rest
        self.clock = clock
        self.rng = rng
        self.policy = policy
        self.recorder = recorder
        self.on_change = on_change
        self.sockets: list[StreamSocket] = []
        self.wanted: set[str] = set()
        self.always: set[str] = set()
        self.followed: dict[str, Key] = {}
        """Each series that is followed, by the name of its stream."""
        self.keys: dict[str, Key] = {}
        """Each series that is followed, by its topic; also of a pair that is not listed any more."""
        self.awake = AwakeTime(clock)
        """The clock that measures silence."""
        self.judge = StreamJudge(
            self.venue,
            self.sockets,
            self.followed,
            market.symbols,
            rest,
            self._get,
            clock,
            self.awake,
            JudgePolicy(
                policy.silence_s,
                policy.watch_s,
                policy.first_delay_s,
            ),
        )
        self.work = SlicedWork()
        """The frames that have come, in their order; everything else that reaches the market comes after them."""
        self.group: asyncio.TaskGroup | None = None
        self.backfills: Backfills | None = None
        self.tickers_failed = False
        self.last_prices = float("-inf")
        self.pairs = PairList(
            market,
            rest,
            self._get,
            self._record,
            self._is_silent,
            clock,
            rng,
            PairListPolicy(
                policy.pairs_refresh_s,
                policy.doubted_refresh_s,
                policy.doubted_longest_s,
                policy.first_delay_s,
                policy.longest_delay_s,
            ),
            pairs_file,
            self._want_all,
            on_change,
        )
        self.warned: set[str] = set()
        self.ticker_skews_ms: deque[int] = deque(maxlen=SKEWS_KEPT)
        """How far the stamps of the last ticker frames were ahead of our clock."""

    # --- what is wanted ---

    def want(self, topic: str) -> None:
        """Bring the candles of this topic; before the pairs are known the topic is remembered."""
        base = topics.base_of(topic)
        if base is None:
            return
        self.wanted.add(topic)
        pair = self.symbols.by_base.get(base)
        if pair is None:
            if self.symbols.known:
                self.wanted.discard(topic)
                self._unfollow(topic)
                self.market.sink.refuse(topic, f"no market for symbol {base!r}")
            return
        if not pair.trading:
            self.market.sink.stale(topic, HALTED)
        candle = topics.candle_topic(topic)
        if candle is None:
            self.wanted.discard(topic)  # prices of every pair come anyway
        elif candle.interval not in self.venue.intervals:
            self.wanted.discard(topic)
            self.market.sink.refuse(topic, f"{self.name} has no candles of {candle.interval}")
        else:
            self._follow(topic, (pair.symbol, candle.interval))

    def _follow(self, topic: str, key: Key) -> None:
        self.work.finish()
        if self.keys.get(topic, key) != key:
            self._unfollow(topic)  # another pair serves this base now
        self.keys[topic] = key
        is_new = key not in self.market.series
        self.market.follow(key, KEEP if topic in self.always else KEEP_ON_DEMAND)
        stream = self.venue.streams.candle_stream(*key)
        if stream is None:
            if is_new and self.backfills is not None:
                self.backfills.start(key)
            return
        self.followed[stream] = key
        if is_new and self.recorder is not None:
            # Recorded now and not when the exchange confirms it: frames may come before that, and count from here on.
            self.recorder.subscribed([stream], self.clock.wall_ms())
        if self.group is not None:
            socket = self._socket_for(stream)
            socket.want(stream)
            if is_new and stream in socket.active:
                self._subscribed({stream})  # dropped a moment ago, and not unsubscribed from yet

    def starts(self, topic: str) -> bool:
        """Return whether bringing this topic starts a stream: one of candles that the settings do not name."""
        candle = topics.candle_topic(topic)
        if candle is None:
            return False
        return candle.base not in self.policy.candle_bases or candle.interval not in self.policy.candle_intervals

    def drop(self, topic: str) -> bool:
        """Stop candles that nobody listens to. Returns False for a topic that goes on: prices, and set candles."""
        candle = topics.candle_topic(topic)
        if topic not in self.always:
            self.wanted.discard(topic)
        if candle is None or topic in self.always:
            return False
        self._unfollow(topic)
        return True

    def _unfollow(self, topic: str) -> None:
        """End the stream and the series of a topic; nothing where it is not followed."""
        key = self.keys.pop(topic, None)
        if key is None:
            return
        self.work.finish()
        self.market.unfollow(key)
        stream = self.venue.streams.candle_stream(*key)
        if stream is None:
            return
        self.followed.pop(stream, None)
        self.judge.watchdog.forget(stream)
        if self.recorder is not None:
            self.recorder.dropped(stream, self.clock.wall_ms())
        for socket in self.sockets:
            socket.drop(stream)

    def _topic_of(self, key: Key) -> str | None:
        """Return the topic of a series; None for a pair that is not listed."""
        pair = self.symbols.listed.get(key[0])
        return topics.ohlcv(pair.base, key[1]) if pair is not None else None

    def _socket_for(self, stream: str) -> StreamSocket:
        for socket in self.sockets:
            if stream in socket.wanted:
                return socket
        for socket in self.sockets:
            if len(socket.wanted | socket.active) < self.venue.streams.streams_per_connection:
                return socket
        return self._open_socket()

    def _open_socket(self) -> StreamSocket:
        name = f"{self.name}-{len(self.sockets) + 1}"
        socket = StreamSocket(
            name,
            self.venue,
            self.stream_hosts,
            self.clock,
            self.rng,
            self.work,
            self._frame,
            self._subscribed,
            self.judge.is_lively,
            self.policy.socket,
            self.on_change,
            lambda host, cause: self._connection(name, host, cause),
        )
        self.sockets.append(socket)
        if self.group is not None:
            self.group.create_task(socket.run(), name=socket.name)
        return socket

    # --- running ---

    async def run(self) -> None:
        """Learn the pairs and stream, with REST to fill in. Failures of the exchange are handled, and never raised."""
        self.sockets.clear()
        self.judge.begin()
        self.work = SlicedWork()
        async with asyncio.TaskGroup() as group:
            self.group = group
            self.backfills = Backfills(
                self.market,
                self.rest,
                self._get,
                self.judge.answered,
                self._exchange_ms,
                self.clock,
                self.rng,
                self.policy.backfill,
                self.recorder,
                group,
                lambda key: self._topic_of(key) in self.always,
            )
            try:
                group.create_task(self.work.run(), name=f"{self.name}:frames")
                self._open_socket().want(self.venue.streams.all_tickers)
                await self.pairs.first()
                self._want_all()
                group.create_task(self._poll_prices(), name=f"{self.name}:prices")
                group.create_task(self.pairs.refresh(), name=f"{self.name}:pairs")
                group.create_task(self.backfills.mend(), name=f"{self.name}:holes")
                group.create_task(self.judge.watch(), name=f"{self.name}:watch")
                group.create_task(self.judge.question(), name=f"{self.name}:question")
                await asyncio.Event().wait()  # the sockets run until cancelled
            finally:
                self.work.finish()
                self.group = self.backfills = None

    def _want_all(self) -> None:
        """Want what the settings name and what clients asked for. A name that the exchange lacks is logged once."""
        before = self.always
        listed = [base for base in self.policy.candle_bases if base in self.symbols.by_base]
        self.always = {topics.ohlcv(base, interval) for base in listed for interval in self.policy.candle_intervals}
        for base in set(self.policy.candle_bases) - set(listed) - self.warned:
            log.warning("candles_unlisted", extra={"symbol": base})
        self.warned = set(self.policy.candle_bases) - set(listed)
        for topic in sorted(self.always | self.wanted | (before - self.always)):
            self.want(topic)

    def _is_silent(self) -> bool:
        """Return whether a connection to the exchange is open and brings no tickers."""
        return bool(self.sockets) and self.sockets[0].link is not None and not self._stream_delivers()

    # --- prices by REST while no stream delivers ---

    async def _poll_prices(self) -> None:
        """Ask for all prices once, as the stream has only pairs that move, and then whenever the stream is silent."""
        backoff = Backoff(self.policy.first_delay_s, self.policy.poll_s, self.rng)
        asked = False
        while True:
            if asked and self._stream_delivers():
                await self.clock.sleep(min(5.0, self.policy.poll_s))
                continue
            try:
                response, rows = await self._ask(self.venue.rest.all_prices())
            except ProviderError as error:
                log_failure(self.rest, "tickers", error)
                self.tickers_failed = True
                self.on_change()
                await self.clock.sleep(max(backoff.next_delay_s(), self.rest.back_in_s()))
                continue
            backoff.reset()
            asked = True
            self.tickers_failed = False
            self.work.put(self._polled(response, rows.good))
            self.judge.polled(rows.good)
            await self.clock.sleep(self.policy.poll_s)

    def _polled(self, response: HttpResponse, prices: Sequence[Price]) -> Work:
        """Take the prices of all pairs, some at a time. A price that the stream has brought meanwhile stays."""
        self._record(self.venue.rest.prices(()), response)
        for start in range(0, len(prices), SLICE_ROWS):
            if start:
                yield
            # Rows that could not be read have been counted by the account.
            self.market.tickers(Rows(list(prices[start : start + SLICE_ROWS])), response.received_ms)

    def prices_fail(self) -> bool:
        """Return whether neither stream nor REST gives prices, so that another source must."""
        return (self.tickers_failed or self.pairs.failed or self.symbols.halted) and not self._stream_delivers()

    def _stream_delivers(self) -> bool:
        socket = self.sockets[0] if self.sockets else None
        quiet_s = self.awake.now() - self.last_prices
        return socket is not None and socket.link is not None and quiet_s < self.policy.silence_s / 2

    # --- what the streams bring ---

    def _subscribed(self, streams: set[str]) -> None:
        """Fetch what passed before the exchange began to send these."""
        self.work.finish()
        if self.recorder is not None:
            self.recorder.subscribed(sorted(streams), self.clock.wall_ms())
        for stream in streams:
            self.judge.subscribed(stream)
            key = self.followed.get(stream)
            if stream == self.venue.streams.all_tickers:
                self.market.new_connection()
            elif key is not None and self.backfills is not None:
                self.backfills.start(key)
        self.on_change()

    def _connection(self, socket: str, host: str, cause: str | None) -> None:
        self.work.finish()
        if self.recorder is not None:
            self.recorder.connection(socket, host, cause, self.clock.wall_ms())

    def _frame(self, opened: Opened) -> Work:
        """Take one frame, some rows at a time."""
        if self.recorder is not None:
            self.recorder.frame(opened.raw, opened.received_ms)
        self._compare_clocks()
        prices: list[Price] = []
        for start in range(0, max(1, opened.rows), SLICE_ROWS):
            if start:
                yield
            match self.market.part(opened, start, start + SLICE_ROWS):
                case Prices(rows):
                    prices += rows.good
                case Candle() as candle:
                    self.judge.heard_candle(candle)
        if prices:
            self._heard_prices(prices, opened.received_ms)

    def _heard_prices(self, prices: Sequence[Price], received_ms: int) -> None:
        # Not the newest: one row with a wild stamp would stay the newest forever.
        event_ms = median_high(price.ts for price in prices)
        self._compare_clocks(event_ms, received_ms)
        if self.judge.heard_prices(prices, event_ms):
            self.last_prices = self.awake.now()

    # --- reports ---

    def readiness(self) -> dict[str, str | None]:
        """Return for each category what it had first: a value, a known failure, or None for neither yet."""
        streaming, known = self._stream_delivers(), self.symbols.known
        errors = [*self.rest.errors(), *self.stream_hosts.errors()]
        failure = "; ".join(errors) if errors and (self.pairs.failed or self.tickers_failed or not known) else None
        if self.symbols.halted:
            return {"price": EXCHANGE_HALTED, "ohlcv": EXCHANGE_HALTED}
        # Only what the settings name: clients may start candles at any time, and those wait for their turn.
        configured = [self.market.series.get(key) for topic, key in self.keys.items() if topic in self.always]
        begun = known and all(series is not None and series.begun for series in configured)
        return {
            "price": "value" if self.market.prices or streaming else failure,
            "ohlcv": "value" if begun and bool(self.sockets) else failure,
        }

    def report(self) -> dict[str, object]:
        """Return the state of this feed, for people to read."""
        states = {socket.report.state for socket in self.sockets}
        if self.symbols.halted:
            state = "halted"
        elif self._stream_delivers():
            state = "live"
        elif self.market.prices and not self.tickers_failed:
            state = "polling"
        else:
            state = next((name for name in ("connecting", "waiting", "live") if name in states), "starting")
        errors = [*self.stream_hosts.errors(), *self.rest.errors()]
        return {
            "name": self.name,
            "state": state,
            "last_error": "; ".join(errors) or None,
            "pairs": len(self.symbols.by_base),
            "pair_states": self.symbols.states(),
            "dropped_ticks": dict(self.market.dropped),
            "candle_series": len(self.market.series),
            "candle_series_on_demand": len(self.keys.keys() - self.always),
            "close_delay_ms": {
                interval: _quantiles(delays) for interval, delays in sorted(self.market.close_delays_ms.items())
            },
            "clock_skew_ms": self.market.skew_ms,
            "upstream_gaps": sum(len(series.gaps) for series in self.market.series.values()),
            "sockets": [
                {"name": socket.name, "streams": len(socket.wanted), **asdict(socket.report)} for socket in self.sockets
            ],
            "stream_hosts": self.stream_hosts.report(),
            "rest_hosts": self.rest.report()["hosts"],
            "rejected": dict(self.market.rejected),
        }

    # --- plumbing ---

    def _exchange_ms(self) -> int:
        """Return what the exchange's clock shows now, as far as is known: never less than its newest event."""
        return max(self.rest.their_ms(), self.judge.watchdog.newest_ms)

    async def _get(self, request: HttpRequest, urgent: bool = True) -> HttpResponse:
        return await self._ask(just(request), urgent)

    async def _ask(self, steps: Steps[T], urgent: bool = True) -> T:
        try:
            answer = await self.rest.run(steps, urgent=urgent)
        except ProviderError as error:
            if isinstance(error, NotFound):
                self.pairs.contradict()  # we ask only for what is listed
            await self.work.done()
            raise
        finally:
            self._compare_clocks()
            self.on_change()
        await self.work.done()  # the caller's use of the answer comes after the frames that came before it
        return answer

    def _compare_clocks(self, event_ms: int | None = None, received_ms: int = 0) -> None:
        """Set how far the exchange's clock is ahead of ours: by its answers, else by the stamps of its tickers."""
        skew_ms = self.rest.skew_ms
        if skew_ms is None and event_ms is not None:
            self.ticker_skews_ms.append(event_ms - received_ms)
            skew_ms = median_high(self.ticker_skews_ms)
        if skew_ms is not None:
            self.market.skew_ms = skew_ms

    def _record(self, request: HttpRequest, response: HttpResponse) -> None:
        """Record an answer that is applied now: a tape has nothing else, in the order it was applied."""
        if self.recorder is not None:
            self.recorder.answer(request, response)


def _quantiles(delays_ms: Sequence[int]) -> dict[str, int]:
    ordered = sorted(delays_ms)
    return {"p50": ordered[len(ordered) // 2], "p95": ordered[len(ordered) * 95 // 100], "max": ordered[-1]}

"""Follow an exchange live: run its parts together, and pass what the streams bring to the market.

The streams carry everything they can, of the series that `wanted_candles` chooses, over the sockets of `socket_pool`.
REST gives what a stream cannot: the list of pairs (`pair_list`), prices before the first frame (`price_poll`), the
candles that passed while nobody listened (`backfill`), and a second opinion on a stream that sends nothing
(`stream_judge`). Answers and frames alike go to `ExchangeMarket`.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median_high

from feeds.exchange.awake import AwakeTime
from feeds.exchange.backfill import BackfillPolicy, Backfills
from feeds.exchange.link import SocketPolicy
from feeds.exchange.market import ExchangeMarket
from feeds.exchange.pair_list import PairList, PairListPolicy
from feeds.exchange.price_poll import PricePoll
from feeds.exchange.questions import Questions
from feeds.exchange.recorder import Recorder
from feeds.exchange.slices import SLICE_ROWS, SlicedWork, Work
from feeds.exchange.socket_pool import SocketPool
from feeds.exchange.stream_judge import JudgePolicy, StreamJudge
from feeds.exchange.stream_socket import StreamSocket
from feeds.exchange.venue import Key, Opened, Prices
from feeds.exchange.wanted_candles import WantedCandles
from feeds.model import Candle, Price
from orchestrator.clock import Clock
from orchestrator.hosts import Hosts
from orchestrator.http import HttpRequest, HttpResponse
from orchestrator.upstream import Upstream

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
    """Follows an exchange until cancelled. `want` and `drop` start and stop candles that clients listen to."""

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
        self.followed: dict[str, Key] = {}
        """Each series that is followed, by the name of its stream."""
        self.price_streams: dict[str, str] = {}
        """The symbol of the pair whose prices a stream brings, by the name of the stream."""
        self.awake = AwakeTime(clock)
        """The clock that measures silence."""
        self.work = SlicedWork()
        """The frames that have come, in their order; everything else that reaches the market comes after them."""
        self.backfills: Backfills | None = None
        self.last_prices = float("-inf")
        self.questions = Questions(rest, market, self.work, lambda: self.pairs.contradict(), on_change)
        self.pool = SocketPool(
            self.venue,
            stream_hosts,
            clock,
            rng,
            self.work,
            self._frame,
            self._subscribed,
            lambda stream, within_s: self.judge.is_lively(stream, within_s),
            policy.socket,
            on_change,
            self._connection,
        )
        self.judge = StreamJudge(
            self.venue,
            self.pool.sockets,
            self.followed,
            self.price_streams,
            market.symbols,
            rest,
            self.questions.get,
            clock,
            self.awake,
            JudgePolicy(policy.silence_s, policy.watch_s, policy.first_delay_s),
        )
        self.candles = WantedCandles(
            market,
            policy.candle_bases,
            policy.candle_intervals,
            self._begin_series,
            self._end_series,
            self.work.finish,
        )
        self.pairs = PairList(
            market,
            rest,
            self.questions.get,
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
        self.polls = PricePoll(
            market,
            rest,
            self.questions.ask,
            self._stream_delivers,
            self._record,
            self.judge.polled,
            on_change,
            self.work,
            clock,
            rng,
            policy.first_delay_s,
            policy.poll_s,
        )

    @property
    def sockets(self) -> Sequence[StreamSocket]:
        """The sockets of the streams; the first one brings the tickers."""
        return self.pool.sockets

    # --- what is wanted ---

    def want(self, topic: str) -> None:
        """Bring the candles of this topic; before the pairs are known the topic is remembered."""
        self.candles.want(topic)

    def starts(self, topic: str) -> bool:
        """Return whether bringing this topic starts a stream: one of candles that the settings do not name."""
        return self.candles.starts(topic)

    def drop(self, topic: str) -> bool:
        """Stop candles that nobody listens to. Returns False for a topic that goes on: prices, and set candles."""
        return self.candles.drop(topic)

    def _want_all(self) -> None:
        """Bring what is wanted of the pairs that the exchange lists now."""
        self._want_prices()
        self.candles.want_all()

    def _want_prices(self) -> None:
        """Bring the prices of all pairs that we serve."""
        wanted = self.venue.streams.price_streams(self.symbols.by_symbol)
        for stream in self.price_streams.keys() - wanted.keys():
            del self.price_streams[stream]
            self.judge.watchdog.forget(stream)
            self.pool.drop(stream)
        self.price_streams.update(wanted)
        for stream in wanted:
            self.pool.want(stream)

    def _begin_series(self, key: Key, is_new: bool) -> None:
        """Bring a series by its stream, or by REST alone if the exchange has no stream of it."""
        stream = self.venue.streams.candle_stream(*key)
        if stream is None:
            if is_new and self.backfills is not None:
                self.backfills.start(key)
            return
        self.followed[stream] = key
        if is_new and self.recorder is not None:
            # Recorded now and not when the exchange confirms it: frames may come before that, and count from here on.
            self.recorder.subscribed([stream], self.clock.wall_ms())
        socket = self.pool.want(stream)
        if is_new and socket is not None and stream in socket.active:
            self._subscribed({stream})  # dropped a moment ago, and not unsubscribed from yet

    def _end_series(self, key: Key) -> None:
        stream = self.venue.streams.candle_stream(*key)
        if stream is None:
            return
        self.followed.pop(stream, None)
        self.judge.watchdog.forget(stream)
        if self.recorder is not None:
            self.recorder.dropped(stream, self.clock.wall_ms())
        self.pool.drop(stream)

    # --- running ---

    async def run(self) -> None:
        """Learn the pairs and stream, with REST to fill in. Failures of the exchange are handled, and never raised."""
        self.judge.begin()
        async with asyncio.TaskGroup() as group:
            self.pool.begin(group)
            self.backfills = Backfills(
                self.market,
                self.rest,
                self.questions.get,
                self.judge.answered,
                self._exchange_ms,
                self.clock,
                self.rng,
                self.policy.backfill,
                self.recorder,
                group,
                self.candles.is_configured,
            )
            try:
                group.create_task(self.work.run(), name=f"{self.name}:frames")
                self._want_prices()
                await self.pairs.first()
                self._want_all()
                group.create_task(self.polls.run(), name=f"{self.name}:prices")
                group.create_task(self.pairs.refresh(), name=f"{self.name}:pairs")
                group.create_task(self.backfills.mend(), name=f"{self.name}:holes")
                group.create_task(self.judge.watch(), name=f"{self.name}:watch")
                group.create_task(self.judge.question(), name=f"{self.name}:question")
                await asyncio.Event().wait()  # the sockets run until cancelled
            finally:
                self.work.finish()
                self.pool.end()
                self.backfills = None

    # --- what the streams bring ---

    def _subscribed(self, streams: set[str]) -> None:
        """Fetch what passed before the exchange began to send these."""
        self.work.finish()
        if self.recorder is not None:
            self.recorder.subscribed(sorted(streams), self.clock.wall_ms())
        for stream in streams:
            self.judge.subscribed(stream)
            key, symbol = self.followed.get(stream), self.price_streams.get(stream)
            if symbol is not None:
                self.market.new_connection(symbol)
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
        self.questions.compare_clocks()
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
            self._heard_prices(opened.stream, prices, opened.received_ms)

    def _heard_prices(self, stream: str, prices: Sequence[Price], received_ms: int) -> None:
        # Not the newest: one row with a wild stamp would stay the newest forever.
        event_ms = median_high(price.ts for price in prices)
        self.questions.compare_clocks(event_ms, received_ms)
        if self.judge.heard_prices(stream, prices, event_ms):
            self.last_prices = self.awake.now()

    def _is_connected(self) -> bool:
        """Return whether the socket of the tickers has a connection."""
        socket = self.pool.first
        return socket is not None and socket.link is not None

    def _stream_delivers(self) -> bool:
        """Return whether the stream has brought new prices lately."""
        return self._is_connected() and self.awake.now() - self.last_prices < self.policy.silence_s / 2

    def _is_silent(self) -> bool:
        """Return whether a connection to the exchange is open and brings no tickers."""
        return self._is_connected() and not self._stream_delivers()

    # --- reports ---

    def prices_fail(self) -> bool:
        """Return whether neither stream nor REST gives prices, so that another source must."""
        return (self.polls.failed or self.pairs.failed or self.symbols.halted) and not self._stream_delivers()

    def readiness(self) -> dict[str, str | None]:
        """Return for each category what it had first: a value, a known failure, or None for neither yet."""
        if self.symbols.halted:
            return {"price": EXCHANGE_HALTED, "ohlcv": EXCHANGE_HALTED}
        errors, known = self._errors(), self.symbols.known
        failure = "; ".join(errors) if errors and (self.pairs.failed or self.polls.failed or not known) else None
        return {
            "price": "value" if self.market.prices or self._stream_delivers() else failure,
            "ohlcv": "value" if known and self.sockets and self.candles.have_begun() else failure,
        }

    def report(self) -> dict[str, object]:
        """Return the state of this feed, for people to read."""
        states = {socket.report.state for socket in self.sockets}
        if self.symbols.halted:
            state = "halted"
        elif self._stream_delivers():
            state = "live"
        elif self.market.prices and not self.polls.failed:
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
            "candle_series_on_demand": self.candles.on_demand,
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

    def _errors(self) -> list[str]:
        """Return what each host of REST and of the streams had last."""
        return [*self.rest.errors(), *self.stream_hosts.errors()]

    # --- what its parts ask ---

    def _exchange_ms(self) -> int:
        """Return what the exchange's clock shows now, as far as is known: never less than its newest event."""
        return max(self.rest.their_ms(), self.judge.watchdog.newest_ms)

    def _record(self, request: HttpRequest, response: HttpResponse) -> None:
        """Record an answer that is applied now: a tape has nothing else, in the order it was applied."""
        if self.recorder is not None:
            self.recorder.answer(request, response)


def _quantiles(delays_ms: Sequence[int]) -> dict[str, int]:
    ordered = sorted(delays_ms)
    return {"p50": ordered[len(ordered) // 2], "p95": ordered[len(ordered) * 95 // 100], "max": ordered[-1]}

"""The market behind the fake Binance: pure, deterministic, without I/O.

Two halves that join at `start_ms`:

* **History** is a function of the seed. A day is drawn first, then split into hours, minutes and seconds on
  demand, so that every interval agrees with every other one to the last digit and nothing has to be stored.
* **Live** trading is made second by second by `Market.step` (or trade by trade by `Market.trade`) and kept.

Inside, prices, quantities and amounts are integers in units of 1e-8 ("atoms"); outside they are the decimal
strings of Binance. Simplifications, on purpose: in history takers bought exactly half of everything, and the
24 h ticker window slides by the hour (it covers 24 full hours and the running one).
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

SECOND_MS = 1_000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
WEEK_MS = 7 * DAY_MS
FIRST_MONDAY_MS = 4 * DAY_MS  # 1970-01-05

START_MS = 1_795_305_600_000  # 2026-11-22 00:00:00 UTC, a Sunday
BINANCE_OPENED_MS = 1_502_928_000_000  # 2017-08-17, the first candle Binance has

ATOMS = 10**8
FLAT = -1  # the trade id of a candle without trades


class Status(StrEnum):
    """What may be done with a pair now."""

    TRADING = "TRADING"
    HALT = "HALT"
    BREAK = "BREAK"
    CANCEL_ONLY = "CANCEL_ONLY"


FIXED_MS = {
    "1s": SECOND_MS,
    "1m": MINUTE_MS,
    "3m": 3 * MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "1h": HOUR_MS,
    "2h": 2 * HOUR_MS,
    "4h": 4 * HOUR_MS,
    "6h": 6 * HOUR_MS,
    "8h": 8 * HOUR_MS,
    "12h": 12 * HOUR_MS,
    "1d": DAY_MS,
    "3d": 3 * DAY_MS,
}
INTERVALS = (*FIXED_MS, "1w", "1M")


def open_of(interval: str, at_ms: int) -> int:
    """When the candle that holds `at_ms` opened (weeks open on Monday, months on the 1st, all in UTC)."""
    if interval == "1M":
        day = datetime.fromtimestamp(at_ms // 1000, UTC)
        return int(datetime(day.year, day.month, 1, tzinfo=UTC).timestamp()) * 1000
    if interval == "1w":
        return (at_ms - FIRST_MONDAY_MS) // WEEK_MS * WEEK_MS + FIRST_MONDAY_MS
    width_ms = FIXED_MS[interval]
    return at_ms // width_ms * width_ms


def next_open(interval: str, open_ms: int) -> int:
    """When the candle after the one opened at `open_ms` opens."""
    if interval == "1M":
        return open_of("1M", open_ms + 32 * DAY_MS)
    return open_ms + (WEEK_MS if interval == "1w" else FIXED_MS[interval])


def decimal(atoms: int) -> str:
    """`atoms` as Binance writes a number: eight decimals, in a string."""
    sign, atoms = ("-", -atoms) if atoms < 0 else ("", atoms)
    return f"{sign}{atoms // ATOMS}.{atoms % ATOMS:08d}"


def atoms_of(text: str) -> int:
    """The exact integer behind a decimal string of at most eight decimals."""
    whole, _, fraction = text.partition(".")
    return int(whole) * ATOMS + int(f"{fraction:0<8}"[:8])


# --- values


@dataclass(frozen=True, slots=True)
class Pair:
    """One trading pair and the temper of its market."""

    symbol: str
    base: str
    quote: str
    price: str
    tick: str = "0.01000000"
    lot: str = "0.00001000"
    day_volume: int = 20_000  # of the base asset, roughly
    trades_per_s: int = 1
    activity: float = 1.0  # the share of seconds in which it trades
    status: Status = Status.TRADING
    listed_ms: int = BINANCE_OPENED_MS
    stopped_ms: int | None = None  # its last candle ended here (a pair in BREAK)


def _stopped(pair: Pair, at_ms: int) -> Pair:
    return dataclasses.replace(pair, status=Status.BREAK, stopped_ms=at_ms)


DEFAULT_PAIRS = (
    Pair("BTCUSDT", "BTC", "USDT", "86250.00", trades_per_s=3),
    Pair("ETHUSDT", "ETH", "USDT", "2815.40", lot="0.00010000", day_volume=400_000, trades_per_s=3),
    Pair("BNBUSDT", "BNB", "USDT", "842.10", lot="0.00100000", day_volume=150_000, trades_per_s=2),
    Pair("SOLUSDT", "SOL", "USDT", "131.25", lot="0.00100000", day_volume=3_000_000, trades_per_s=2),
    Pair("XRPUSDT", "XRP", "USDT", "2.0540", tick="0.0001", lot="0.10000000", day_volume=150_000_000),
    Pair("1INCHUSDT", "1INCH", "USDT", "0.1874", tick="0.0001", lot="0.10000000", day_volume=9_000_000),
    Pair("USDCUSDT", "USDC", "USDT", "0.99980", tick="0.00001", lot="1.00000000", day_volume=900_000_000),
    Pair("BTCUPUSDT", "BTCUP", "USDT", "21.500", tick="0.001", lot="0.01000000", day_volume=500_000),
    Pair("ETHBTC", "ETH", "BTC", "0.03264", tick="0.00001", lot="0.00010000", day_volume=30_000),
    Pair("BTCEUR", "BTC", "EUR", "74870.00", day_volume=600),
    Pair("PEPEUSDT", "PEPE", "USDT", "0.00000431", tick="0.00000001", lot="1", day_volume=9 * 10**12),
    Pair("币安人生USDT", "币安人生", "USDT", "0.1213", tick="0.0001", lot="0.1", day_volume=80_000_000),
    _stopped(
        Pair("MATICUSDT", "MATIC", "USDT", "0.3794", tick="0.0001", lot="0.1", day_volume=30_000_000),
        1_725_933_600_000,  # 2024-09-10 02:00 UTC, when it became POL
    ),
)


def synthetic_pairs(count: int, seed: int = 0) -> tuple[Pair, ...]:
    """`count` pairs in all: the default ones first, then invented ones (`S0000USDT`, `S0001USDT`...).

    As on Binance most invented pairs are slow: few of them trade in every second.
    """
    rng = random.Random(f"pairs:{seed}")
    invented = (
        Pair(
            symbol=f"S{number:04d}USDT",
            base=f"S{number:04d}",
            quote="USDT",
            price=decimal(int(10 ** rng.uniform(6.5, 10.5)) * 100),
            tick="0.000001",
            lot="0.1",
            day_volume=int(10 ** rng.uniform(5.5, 8)),
            activity=rng.uniform(0.05, 1.0) ** 2,
        )
        for number in range(max(0, count - len(DEFAULT_PAIRS)))
    )
    return (*DEFAULT_PAIRS[:count], *invented)


@dataclass(frozen=True, slots=True)
class Candle:
    """One candle as the exchange sends it, by REST and by the stream alike."""

    symbol: str
    interval: str
    open_ms: int
    close_ms: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    quote_volume: str
    trades: int
    taker_volume: str
    taker_quote: str
    first_trade_id: int
    last_trade_id: int
    closed: bool

    def row(self) -> list[int | str]:
        """The 12 elements of `/api/v3/klines`."""
        return [
            self.open_ms,
            self.open,
            self.high,
            self.low,
            self.close,
            self.volume,
            self.close_ms,
            self.quote_volume,
            self.trades,
            self.taker_volume,
            self.taker_quote,
            "0",
        ]

    def event(self, now_ms: int) -> dict[str, object]:
        """The payload of `<symbol>@kline_<interval>`."""
        return {
            "e": "kline",
            "E": now_ms,
            "s": self.symbol,
            "k": {
                "t": self.open_ms,
                "T": self.close_ms,
                "s": self.symbol,
                "i": self.interval,
                "f": self.first_trade_id,
                "L": self.last_trade_id,
                "o": self.open,
                "c": self.close,
                "h": self.high,
                "l": self.low,
                "v": self.volume,
                "n": self.trades,
                "x": self.closed,
                "q": self.quote_volume,
                "V": self.taker_volume,
                "Q": self.taker_quote,
                "B": "0",
            },
        }


class Trade(NamedTuple):
    """One trade; numbers in atoms."""

    symbol: str
    trade_id: int
    at_ms: int
    price: int
    quantity: int
    buyer_is_maker: bool


@dataclass(frozen=True, slots=True)
class Step:
    """What happened in the market between two moments."""

    from_ms: int
    to_ms: int
    trades: tuple[Trade, ...]
    closed: tuple[Candle, ...]  # of the watched intervals, oldest first

    def crossed(self, period_ms: int) -> bool:
        """Whether a multiple of `period_ms` was reached."""
        return self.from_ms // period_ms != self.to_ms // period_ms


class Bar:
    """A candle under construction, in atoms."""

    __slots__ = (
        "close",
        "first_id",
        "high",
        "last_id",
        "low",
        "next_ms",
        "open",
        "open_ms",
        "quote",
        "taker_quote",
        "taker_volume",
        "trades",
        "volume",
    )

    def __init__(self, open_ms: int, next_ms: int, price: int) -> None:
        self.open_ms = open_ms
        self.next_ms = next_ms
        self.open = self.high = self.low = self.close = price
        self.volume = self.quote = self.trades = self.taker_volume = self.taker_quote = 0
        self.first_id = self.last_id = FLAT

    def add(self, trade: Trade, quote: int) -> None:
        """Take one trade in."""
        price = trade.price
        if not self.trades:
            self.open = self.high = self.low = price
            self.first_id = trade.trade_id
        elif price > self.high:
            self.high = price
        elif price < self.low:
            self.low = price
        self.close = price
        self.last_id = trade.trade_id
        self.trades += 1
        self.volume += trade.quantity
        self.quote += quote
        if not trade.buyer_is_maker:
            self.taker_volume += trade.quantity
            self.taker_quote += quote

    def merge(self, later: Bar) -> None:
        """Take in the bar that follows; a bar without trades adds nothing."""
        if not later.trades:
            return
        if not self.trades:
            self.open, self.high, self.low = later.open, later.high, later.low
            self.first_id = later.first_id
        else:
            self.high = max(self.high, later.high)
            self.low = min(self.low, later.low)
        self.close = later.close
        self.last_id = later.last_id
        self.trades += later.trades
        self.volume += later.volume
        self.quote += later.quote
        self.taker_volume += later.taker_volume
        self.taker_quote += later.taker_quote


# --- history


class History:
    """The past of one pair, drawn from the seed: days, split into hours, minutes, seconds."""

    def __init__(self, pair: Pair, seed: int, start_day: int) -> None:
        self._pair = pair
        self._key = f"{seed}:{pair.symbol}"
        self._tick = atoms_of(pair.tick)
        self._lot = 2 * atoms_of(pair.lot)  # an even number of lots: takers bought half of them
        self._base_price = atoms_of(pair.price)
        self._start_day = start_day
        self._blocks: dict[tuple[int, int], list[Bar]] = {}
        rng = random.Random(f"{self._key}:waves")
        self._waves = [  # period in days, phase, height
            (rng.uniform(8, 900), rng.uniform(0, math.tau), rng.uniform(0.01, 0.1)) for _ in range(4)
        ]

    def span(self, from_ms: int, to_ms: int) -> Bar:
        """All trading in `[from_ms, to_ms)`, both multiples of a second, as one bar."""
        whole: Bar | None = None
        at_ms = from_ms
        while at_ms < to_ms:
            for width_ms in (DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS):
                if at_ms % width_ms == 0 and at_ms + width_ms <= to_ms:
                    break
            piece = self._piece(at_ms, width_ms)
            if whole is None:
                whole = Bar(from_ms, to_ms, piece.open)
            whole.merge(piece)
            at_ms += width_ms
        return whole or Bar(from_ms, to_ms, self.price_at(from_ms))

    def price_at(self, at_ms: int) -> int:
        """The last price before `at_ms`, in atoms."""
        return next(
            self._piece(at_ms, width_ms).open
            for width_ms in (DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS)
            if at_ms % width_ms == 0
        )

    def trades_before(self, at_ms: int) -> int:
        """How many trades were made before `at_ms`: the id of the next one."""
        return (at_ms - self._pair.listed_ms) // SECOND_MS * self._pair.trades_per_s

    def _piece(self, at_ms: int, width_ms: int) -> Bar:
        if width_ms == DAY_MS:
            return self._block(at_ms, DAY_MS)[0]
        parent_ms = {HOUR_MS: DAY_MS, MINUTE_MS: HOUR_MS, SECOND_MS: MINUTE_MS}[width_ms]
        return self._block(at_ms // parent_ms * parent_ms, width_ms)[at_ms % parent_ms // width_ms]

    def _block(self, at_ms: int, width_ms: int) -> list[Bar]:
        block = self._blocks.get((at_ms, width_ms))
        if block is None:
            if len(self._blocks) > 2_000:
                self._blocks.clear()
            if width_ms == DAY_MS:
                block = [self._day(at_ms // DAY_MS)]
            else:
                parent_ms = {HOUR_MS: DAY_MS, MINUTE_MS: HOUR_MS, SECOND_MS: MINUTE_MS}[width_ms]
                block = self._split(self._piece(at_ms, parent_ms), width_ms)
            self._blocks[at_ms, width_ms] = block
        return block

    def _snap(self, price: float) -> int:
        return max(self._tick, round(price / self._tick) * self._tick)

    def _boundary(self, day: int) -> int:
        """The price at midnight: slow waves around the pair's base price, and a little noise."""
        today = self._start_day
        if day == today:
            return self._snap(self._base_price)
        bend = sum(
            height * (math.sin(phase + math.tau * day / period) - math.sin(phase + math.tau * today / period))
            for period, phase, height in self._waves
        )
        noise = random.Random(f"{self._key}:midnight:{day}").uniform(-0.01, 0.01)
        return self._snap(self._base_price * math.exp(bend + noise))

    def _day(self, day: int) -> Bar:
        rng = random.Random(f"{self._key}:day:{day}")
        first, last = self._boundary(day), self._boundary(day + 1)
        bar = Bar(day * DAY_MS, (day + 1) * DAY_MS, first)
        bar.close = last
        bar.high = self._snap(max(first, last) * (1 + rng.uniform(0.002, 0.03)))
        bar.low = self._snap(min(first, last) * (1 - rng.uniform(0.002, 0.03)))
        lots = max(20 * 86_400, round(self._pair.day_volume * ATOMS * rng.uniform(0.6, 1.6) / self._lot))
        bar.volume = lots * self._lot
        bar.quote = bar.volume * ((first + last) // 2) // ATOMS // 2 * 2
        return self._finish(bar)

    def _finish(self, bar: Bar) -> Bar:
        bar.taker_volume = bar.volume // 2
        bar.taker_quote = bar.quote // 2
        bar.first_id = self.trades_before(bar.open_ms)
        bar.last_id = self.trades_before(bar.next_ms) - 1
        bar.trades = bar.last_id - bar.first_id + 1
        return bar

    def _split(self, parent: Bar, width_ms: int) -> list[Bar]:
        """Children that together make exactly `parent`."""
        count = (parent.next_ms - parent.open_ms) // width_ms
        rng = random.Random(f"{self._key}:{width_ms}:{parent.open_ms}")
        breadth = parent.high - parent.low
        volumes = [
            lots * self._lot
            for lots in shares(parent.volume // self._lot, [rng.randint(50, 150) for _ in range(count)])
        ]
        path = self._path(parent, volumes, rng)
        bars = []
        for number in range(count):
            open_ms = parent.open_ms + number * width_ms
            bar = Bar(open_ms, open_ms + width_ms, path[number])
            bar.close = path[number + 1]
            bar.high = min(parent.high, self._snap(max(bar.open, bar.close) + rng.random() * breadth * 0.1))
            bar.low = max(parent.low, self._snap(min(bar.open, bar.close) - rng.random() * breadth * 0.1))
            bar.volume = volumes[number]
            bar.quote = bar.volume * ((bar.open + bar.close) // 2) // ATOMS // 2 * 2
            bars.append(bar)
        bars[rng.randrange(count)].high = parent.high
        bars[rng.randrange(count)].low = parent.low

        missing = (parent.quote - sum(bar.quote for bar in bars)) // 2
        # Each gives or takes in proportion to its room, so that no average leaves the parent's range.
        room = [
            parent.high - (bar.open + bar.close) // 2 if missing > 0 else (bar.open + bar.close) // 2 - parent.low
            for bar in bars
        ]
        weights = [bar.volume * each + 1 for bar, each in zip(bars, room, strict=True)]
        for bar, halves in zip(bars, shares(missing, weights), strict=True):
            bar.quote += 2 * halves
            average = self._snap(bar.quote * ATOMS / bar.volume)
            bar.high = min(parent.high, max(bar.high, average + self._tick))
            bar.low = max(parent.low, min(bar.low, average - self._tick))
        return [self._finish(bar) for bar in bars]

    def _path(self, parent: Bar, volumes: list[int], rng: random.Random) -> list[int]:
        """Prices at the seams: within the parent's range, and about its average price on average."""
        count = len(volumes)
        breadth = parent.high - parent.low
        path = [
            parent.open + (parent.close - parent.open) * number / count + (rng.random() - 0.5) * breadth * 0.5
            for number in range(count + 1)
        ]
        path[0], path[count] = parent.open, parent.close
        for _ in range(4):
            amount = sum(volume * (path[n] + path[n + 1]) / 2 for n, volume in enumerate(volumes))
            shift = parent.quote / parent.volume * ATOMS - amount / parent.volume
            for number in range(1, count):
                path[number] = min(parent.high, max(parent.low, path[number] + shift))
        return [self._snap(price) for price in path]


@lru_cache(maxsize=1000)
def history_of(pair: Pair, seed: int, start_day: int) -> History:
    """Return the past of a pair, which all exchanges of a process share: drawing it is most of the work of a start."""
    return History(pair, seed, start_day)


def shares(total: int, weights: list[int]) -> Iterator[int]:
    """`total` in parts about as large as their weights, and exactly `total` together."""
    whole = sum(weights)
    reached = given = 0
    for weight in weights:
        reached += weight
        share = total * reached // whole - given
        given += share
        yield share


# --- the live market


class Instrument:
    """One pair while the exchange runs: its price, its candles, its past."""

    def __init__(self, pair: Pair, seed: int, start_ms: int, seconds_kept: int) -> None:
        self.pair = pair
        self.history = history_of(pair, seed, (pair.stopped_ms or start_ms) // DAY_MS)
        self.quiet = False
        self.tick = atoms_of(pair.tick)
        self.lot = atoms_of(pair.lot)
        self.corrections: dict[tuple[str, int], Candle] = {}
        self.holes: list[tuple[int, int]] = []
        self._rng = random.Random(f"{seed}:{pair.symbol}:live")
        self._seconds_kept = seconds_kept
        self._start_ms = start_ms
        self._typical_lots = max(10, pair.day_volume * ATOMS // self.lot // 86_400 // pair.trades_per_s)
        end_ms = pair.stopped_ms or start_ms
        self.price = self.history.price_at(end_ms)
        self.next_id = self.history.trades_before(end_ms)
        self.last_quantity = self.lot
        self._seconds: dict[int, Bar] = {}
        self._minutes: dict[int, Bar] = {}
        self._hours: dict[int, Bar] = {}
        self._kept: dict[str, dict[int, Bar]] = {"1m": self._minutes, "1h": self._hours}
        self._first_ms = {"1m": open_of("1m", start_ms), "1h": open_of("1h", start_ms)}
        self.running: dict[str, Bar] = {}
        self._window: Bar | None = None
        if self.trading:
            for interval in ("1m", "1h"):
                self.watch(interval, start_ms)

    @property
    def trading(self) -> bool:
        return self.pair.status is Status.TRADING

    # Making candles

    def watch(self, interval: str, now_ms: int) -> None:
        """Keep the running candle of `interval` up to date from now on."""
        if interval not in self.running and interval != "1s":
            bar = self._bar(interval, open_of(interval, now_ms), now_ms)
            self.running[interval] = bar
            if interval in self._kept:
                self._kept[interval][bar.open_ms] = bar

    def roll(self, interval: str, now_ms: int) -> list[Bar]:
        """The bars of a watched interval that ended by `now_ms`, oldest first; the running one is renewed."""
        ended = []
        bar = self.running[interval]
        while bar.next_ms <= now_ms:
            ended.append(bar)
            bar = Bar(bar.next_ms, next_open(interval, bar.next_ms), bar.close)
            self.running[interval] = bar
            if interval in self._kept:
                self._kept[interval][bar.open_ms] = bar
        return ended

    def trade(self, at_ms: int, price: int, quantity: int, buyer_is_maker: bool) -> Trade:
        """Make one trade in every running candle."""
        trade = Trade(self.pair.symbol, self.next_id, at_ms, price, quantity, buyer_is_maker)
        self.next_id += 1
        self.price = price
        self.last_quantity = quantity
        quote = price * quantity // ATOMS
        second_ms = at_ms // SECOND_MS * SECOND_MS
        second = self._seconds.get(second_ms)
        if second is None:
            second = self._seconds[second_ms] = Bar(second_ms, second_ms + SECOND_MS, price)
            if len(self._seconds) > self._seconds_kept:
                del self._seconds[next(iter(self._seconds))]
        second.add(trade, quote)
        for bar in self.running.values():
            bar.add(trade, quote)
        return trade

    def wander(self, from_ms: int, to_ms: int) -> Iterator[Trade]:
        """The trades that chance makes between two moments (none in a quiet second)."""
        rng = self._rng
        count = self.pair.trades_per_s
        if self.pair.activity < 1.0 and rng.random() > self.pair.activity:
            return
        for number in range(count):
            reach = self.price * 0.0001 + self.tick
            moved = round((rng.random() - 0.5) * 2 * reach / self.tick) * self.tick
            lots = 1 + int(rng.random() * 2 * self._typical_lots)
            at_ms = from_ms + (to_ms - from_ms) * number // count
            yield self.trade(at_ms, max(self.tick, self.price + moved), lots * self.lot, rng.random() < 0.5)

    # Telling candles

    def first_open(self, interval: str) -> int:
        """When the oldest candle of `interval` opened."""
        return open_of(interval, self.pair.listed_ms)

    def candle(self, interval: str, open_ms: int, now_ms: int) -> Candle | None:
        """The candle opened at `open_ms` as it stands at `now_ms`; None if the exchange has none."""
        last_ms = now_ms if self.pair.stopped_ms is None else min(now_ms, self.pair.stopped_ms - 1)
        if open_ms < self.first_open(interval) or open_ms > last_ms:
            return None
        if any(from_ms <= open_ms < to_ms for from_ms, to_ms in self.holes):
            return None
        corrected = self.corrections.get((interval, open_ms))
        if corrected is not None:
            return corrected
        return self.candle_of(interval, self._bar(interval, open_ms, now_ms), now_ms)

    def candle_of(self, interval: str, bar: Bar, now_ms: int) -> Candle:
        """A bar in the words of the exchange."""
        return Candle(
            symbol=self.pair.symbol,
            interval=interval,
            open_ms=bar.open_ms,
            close_ms=bar.next_ms - 1,
            open=decimal(bar.open),
            high=decimal(bar.high),
            low=decimal(bar.low),
            close=decimal(bar.close),
            volume=decimal(bar.volume),
            quote_volume=decimal(bar.quote),
            trades=bar.trades,
            taker_volume=decimal(bar.taker_volume),
            taker_quote=decimal(bar.taker_quote),
            first_trade_id=bar.first_id,
            last_trade_id=bar.last_id,
            closed=bar.next_ms <= now_ms,
        )

    def day_window(self, now_ms: int) -> Bar:
        """Trading in the 24 full hours before this one and in the running hour."""
        hour = self.running["1h"]
        window = self._window
        if window is None or window.next_ms != hour.open_ms:
            from_ms = hour.open_ms - DAY_MS
            window = Bar(from_ms, hour.open_ms, self._bar("1h", from_ms, now_ms).open)
            for open_ms in range(from_ms, hour.open_ms, HOUR_MS):
                window.merge(self._bar("1h", open_ms, now_ms))
            self._window = window
        day = Bar(window.open_ms, now_ms, window.open)
        day.merge(window)
        day.merge(hour)
        return day

    def _bar(self, interval: str, open_ms: int, now_ms: int) -> Bar:
        running = self.running.get(interval)
        if running is not None and running.open_ms == open_ms:
            return running
        next_ms = next_open(interval, open_ms)
        if interval == "1s":
            return self._second(open_ms)
        end_ms = min(next_ms, self.pair.stopped_ms or next_ms)
        if not self.running or end_ms <= self._start_ms:
            bar = self.history.span(max(open_ms, self._listed_open_ms()), min(end_ms, self._start_ms))
            return self._framed(bar, open_ms, next_ms)
        grain = "1h" if interval not in ("1m", "3m", "5m", "15m", "30m") else "1m"
        first_ms = self._first_ms[grain]
        live = self._kept[grain]
        if interval == grain and open_ms in live:
            return live[open_ms]
        # History up to the grain in which the exchange started, then the grains it has kept since.
        if open_ms < first_ms:
            past = self.history.span(max(open_ms, self._listed_open_ms()), first_ms)
            bar = self._framed(past, open_ms, next_ms)
        elif first_ms in live:
            bar = Bar(open_ms, next_ms, live[max(first_ms, open_ms)].open)
        else:
            return self._framed(self.history.span(open_ms, self._start_ms), open_ms, next_ms)
        for grain_ms in range(max(open_ms, first_ms), min(next_ms, now_ms + 1), FIXED_MS[grain]):
            if grain_ms in live:
                bar.merge(live[grain_ms])
        return bar

    def _second(self, open_ms: int) -> Bar:
        if open_ms < self._start_ms:
            return self.history.span(open_ms, open_ms + SECOND_MS)
        bar = self._seconds.get(open_ms)
        if bar is not None:
            return bar
        earlier = (known for known in reversed(self._seconds) if known < open_ms)
        before = next(earlier, None)
        price = self.history.price_at(self._start_ms) if before is None else self._seconds[before].close
        return Bar(open_ms, open_ms + SECOND_MS, price)

    def _listed_open_ms(self) -> int:
        return self.pair.listed_ms // SECOND_MS * SECOND_MS

    @staticmethod
    def _framed(bar: Bar, open_ms: int, next_ms: int) -> Bar:
        bar.open_ms, bar.next_ms = open_ms, next_ms
        return bar


class Market:
    """All pairs and the exchange's own time."""

    def __init__(
        self,
        pairs: Iterable[Pair] = DEFAULT_PAIRS,
        seed: int = 0,
        start_ms: int = START_MS,
        seconds_kept: int = 3_600,
    ) -> None:
        self.start_ms = self.now_ms = start_ms // SECOND_MS * SECOND_MS
        self._seed = seed
        self._seconds_kept = seconds_kept
        self.instruments = {pair.symbol: Instrument(pair, seed, self.start_ms, seconds_kept) for pair in pairs}
        self.listed_as: dict[str, Status | None] = {}
        """States that the list of pairs has although they are not true; None for a pair that it leaves out."""
        self._watched: dict[str, set[str]] = {"1m": set(), "1h": set()}
        self._next_close = {interval: next_open(interval, open_of(interval, self.now_ms)) for interval in INTERVALS}

    def delist(self, symbol: str) -> None:
        """Remove a pair for good."""
        del self.instruments[symbol]
        for watched in self._watched.values():
            watched.discard(symbol)

    def list_pair(self, pair: Pair) -> None:
        """Add a pair; the part of its past before now is invented."""
        self.instruments[pair.symbol] = Instrument(pair, self._seed, self.now_ms, self._seconds_kept)

    def set_status(self, symbol: str, status: Status) -> None:
        """Stop a pair now (any status but TRADING), or let it trade again. Whole minutes without trading stay empty."""
        instrument = self.instruments[symbol]
        if status is Status.TRADING and instrument.running and instrument.pair.stopped_ms is not None:
            began_ms = next_open("1m", open_of("1m", instrument.pair.stopped_ms - 1))
            instrument.holes.append((began_ms, open_of("1m", self.now_ms)))
        stopped_ms = None if status is Status.TRADING else self.now_ms
        instrument.pair = dataclasses.replace(instrument.pair, status=status, stopped_ms=stopped_ms)
        if instrument.trading and not instrument.running:  # it had stopped before we started
            self.list_pair(instrument.pair)

    def watch(self, symbol: str, interval: str) -> None:
        """Report the closed candles of a symbol in every later `Step`."""
        instrument = self.instruments.get(symbol)
        if instrument is not None and instrument.trading:
            instrument.watch(interval, self.now_ms)
            self._watched.setdefault(interval, set()).add(symbol)

    def step(self, seconds: float = 1.0, only: Iterable[str] | None = None) -> Step:
        """Move time on, let pairs trade (`only` these, else all that are not quiet), close candles."""
        from_ms = self.now_ms
        to_ms = from_ms + round(seconds * 1000)
        chosen = (
            [each for each in self.instruments.values() if not each.quiet]
            if only is None
            else [self.instruments[symbol] for symbol in only]
        )
        trades: list[Trade] = []
        for instrument in chosen:
            if instrument.trading:
                trades.extend(instrument.wander(from_ms, to_ms))
        self.now_ms = to_ms
        return Step(from_ms, to_ms, tuple(trades), tuple(self._close_candles(from_ms)))

    def trade(self, symbol: str, price: str, quantity: str, buyer_is_maker: bool = False) -> Trade:
        """Make one trade now."""
        instrument = self.instruments[symbol]
        return instrument.trade(self.now_ms, atoms_of(price), atoms_of(quantity), buyer_is_maker)

    def _close_candles(self, from_ms: int) -> Iterator[Candle]:
        for symbol in sorted(self._watched.get("1s", ())):
            first_ms, end_ms = open_of("1s", from_ms), open_of("1s", self.now_ms)
            for open_ms in range(first_ms, end_ms, SECOND_MS):
                instrument = self.instruments[symbol]
                candle = instrument.candle("1s", open_ms, self.now_ms)
                if candle is not None and instrument.trading:
                    yield candle
        for interval, close_ms in self._next_close.items():
            if interval == "1s" or close_ms > self.now_ms:
                continue
            self._next_close[interval] = next_open(interval, open_of(interval, self.now_ms))
            asked = self._watched.get(interval, set())
            for symbol, instrument in self.instruments.items():
                if interval not in instrument.running:
                    continue
                for bar in instrument.roll(interval, self.now_ms):
                    if not instrument.trading:
                        continue
                    if symbol in asked and not any(a <= bar.open_ms < b for a, b in instrument.holes):
                        yield instrument.candle_of(interval, bar, self.now_ms)

    def candle(self, symbol: str, interval: str) -> Candle | None:
        """The running candle."""
        return self.instruments[symbol].candle(interval, open_of(interval, self.now_ms), self.now_ms)

    def candles(
        self,
        symbol: str,
        interval: str,
        start_ms: int | None = None,
        end_ms: int | None = None,
        limit: int = 1000,
    ) -> list[Candle]:
        """The truth, oldest first: the first `limit` from `start_ms`, else the last `limit` until `end_ms`.

        The last one is unfinished if the time asked reaches to now.
        """
        instrument = self.instruments[symbol]
        last_ms = self.now_ms if end_ms is None else min(end_ms, self.now_ms)
        if instrument.pair.stopped_ms is not None:
            last_ms = min(last_ms, instrument.pair.stopped_ms - 1)
        found: list[Candle] = []
        if start_ms is None:
            at_ms = open_of(interval, last_ms)
            while len(found) < limit and at_ms >= instrument.first_open(interval):
                candle = instrument.candle(interval, at_ms, self.now_ms)
                if candle is not None:
                    found.append(candle)
                at_ms = open_of(interval, at_ms - 1)
            return found[::-1]
        at_ms = open_of(interval, max(start_ms, instrument.first_open(interval)))
        if at_ms < start_ms:
            at_ms = next_open(interval, at_ms)
        while len(found) < limit and at_ms <= last_ms:
            candle = instrument.candle(interval, at_ms, self.now_ms)
            if candle is not None:
                found.append(candle)
            at_ms = next_open(interval, at_ms)
        return found

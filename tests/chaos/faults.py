"""Faults of an exchange and their schedule (a tape), drawn from a seed or read from a file.

A tape is a tuple of faults in order of time; in a file it is JSON lines, one fault a line. This module defines what
each fault means; `player` makes it happen.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path

import orjson

from tests.damage import Damage


class Kind(StrEnum):
    """What goes wrong. A fault lasts for its `for_s`, or happens once."""

    DROP = "drop"
    """Events (of one stream) are lost, on every connection."""
    DUPLICATE = "duplicate"
    """Events (of one stream) arrive twice."""
    REORDER = "reorder"
    """Each pair of consecutive batches (of one stream) arrives in the wrong order."""
    LOST_CLOSES = "lost_closes"
    """The closing event of each candle (of one stream) is lost."""
    STALL = "stall"
    """Open connections send no more data, but answer pings and commands. Ends with them, or after `for_s`."""
    FREEZE = "freeze"
    """Open connections send nothing at all, not even a pong."""
    HALF_OPEN = "half_open"
    """The far end of open connections has vanished: TCP stays up, and no byte passes either way."""
    CUT = "cut"
    """Every connection is closed with 1001, as after 24 h."""
    SHUTDOWN = "shutdown"
    """`serverShutdown` is announced on open connections; they are closed after `for_s`."""
    RESET = "reset"
    """Every connection is reset within a frame, after `after_bytes` more bytes."""
    REFUSE = "refuse"
    """Every connection is reset, and handshakes are refused with `status` for `for_s`, at most `times` of them."""
    REST = "rest"
    """REST requests for candles fail: with `status`, with half a body, or with none (`how`)."""
    DAMAGE = "damage"
    """Every frame (of one stream) and every REST answer has one damaged part (`damage`)."""
    DOWN = "down"
    """The exchange is down: connections are reset, new ones refused."""
    NAMESAKE = "namesake"
    """The aggregator lists another coin with the ticker `coin`, at another price and at rank 1."""
    CRASH = "crash"
    """The service itself is killed, and restarted after `for_s`."""
    LISTED = "listed"
    """The list of pairs has a wrong state (`listed`) for one pair or all, or lacks the pair (`GONE`). A new pair trades
    meanwhile, so that the service fetches the list, and is then delisted."""


class How(StrEnum):
    """How a REST answer fails other than by an error status."""

    HANG = "hang"
    CUT = "cut"
    RESET = "reset"
    HTML = "html"


EXCHANGE_KINDS = tuple(kind for kind in Kind if kind not in (Kind.CRASH, Kind.NAMESAKE, Kind.LISTED, Kind.DAMAGE))
"""Faults that any client of an exchange can meet, also one that doesn't read the list of pairs."""

GONE = "GONE"
LISTINGS = ("HALT", "BREAK", "CANCEL_ONLY", GONE)
"""Wrong states that the list may have for a trading pair."""
LONGEST_LIE_S = 25.0
"""The service drops a pair that two lists lack, and these may be half a minute apart."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: from `at_s`, seconds of market time after the beginning, for `for_s` seconds.

    `stream` narrows it to one stream (`btcusdt@kline_1m`), None means all.
    """

    at_s: float
    kind: Kind
    for_s: float = 0.0
    stream: str | None = None
    status: int | None = None
    retry_after_s: int | None = None
    times: int | None = None
    how: How | None = None
    damage: Damage | None = None
    after_bytes: int | None = None
    coin: str | None = None
    pair: str | None = None
    listed: str | None = None

    @property
    def end_s(self) -> float:
        """Second of market time at which the fault ends."""
        return self.at_s + self.for_s

    def __str__(self) -> str:
        details = ", ".join(
            f"{name}={value}"
            for name in (
                "stream",
                "status",
                "retry_after_s",
                "times",
                "how",
                "damage",
                "after_bytes",
                "coin",
                "pair",
                "listed",
            )
            if (value := getattr(self, name)) is not None
        )
        length = f" for {self.for_s:g} s" if self.for_s else ""
        return f"{self.at_s:7.2f} s  {self.kind}{length}" + (f" ({details})" if details else "")


COINS = ("BTC", "NEIRO", "TWIN")
"""Tickers that a namesake may take: of a coin in the table of known pairs, of one that the aggregator lacks, and of
one that is matched by its price."""
FIRST_AT_S = 5.0
PAUSE_S = 22.0
"""Average time between the starts of two faults; some faults overlap."""


def fault_tape(
    seed: int, span_s: float, streams: Sequence[str], kinds: Sequence[Kind] = EXCHANGE_KINDS
) -> tuple[Fault, ...]:
    """Return the faults of a seed, all within `span_s` seconds. The same arguments give the same tape."""
    rng = random.Random(f"faults:{seed}")
    faults: list[Fault] = []
    at_s = FIRST_AT_S + rng.uniform(0.0, PAUSE_S)
    while at_s < span_s:
        fault = _draw(rng, round(at_s, 2), rng.choice(kinds), streams)
        if fault.end_s <= span_s:
            faults.append(fault)
        at_s += rng.expovariate(1 / PAUSE_S)
    return tuple(faults)


def _draw(rng: random.Random, at_s: float, kind: Kind, streams: Sequence[str]) -> Fault:
    stream = rng.choice([None, *streams])
    lasting = round(rng.uniform(2.0, 30.0), 2)
    match kind:
        case Kind.DROP | Kind.DUPLICATE | Kind.REORDER | Kind.LOST_CLOSES:
            return Fault(at_s, kind, lasting, stream)
        case Kind.STALL | Kind.FREEZE | Kind.DOWN | Kind.SHUTDOWN:
            return Fault(at_s, kind, lasting)
        case Kind.RESET:
            return Fault(at_s, kind, after_bytes=rng.randint(1, 4000))
        case Kind.REFUSE:
            status = rng.choice([429, 418, 451, 503])
            retry_after_s = rng.randint(1, 10) if status in (429, 418) else None
            # The service avoids a host that blocks it for an hour, so only one of several hosts does.
            return Fault(at_s, kind, lasting, None, status, retry_after_s, 1 if status == 451 else None)
        case Kind.REST:
            if rng.random() < 0.5:
                status = rng.choice([429, 500, 503])
                return Fault(at_s, kind, lasting, None, status, rng.randint(1, 5) if status == 429 else None)
            return Fault(at_s, kind, lasting, how=rng.choice(list(How)))
        case Kind.NAMESAKE:
            return Fault(at_s, kind, round(rng.uniform(30.0, 120.0), 2), coin=rng.choice(COINS))
        case Kind.LISTED:
            symbols = sorted({each.partition("@")[0].upper() for each in streams if "@kline" in each})
            listed = rng.choice(LISTINGS)
            pair = rng.choice(symbols if listed == GONE else [None, *symbols])
            return Fault(at_s, kind, min(lasting, LONGEST_LIE_S), pair=pair, listed=listed)
        case Kind.DAMAGE:
            return Fault(at_s, kind, lasting, stream, damage=rng.choice(list(Damage)))
        case Kind.CRASH:
            return Fault(at_s, kind, round(rng.choice([rng.uniform(0.0, 5.0), rng.uniform(60.0, 150.0)]), 2))
        case _:
            return Fault(at_s, kind)


def dump(faults: Iterable[Fault], path: Path) -> None:
    """Write a tape of faults as JSON lines, without the fields that are None."""
    lines = ({name: value for name, value in asdict(fault).items() if value is not None} for fault in faults)
    path.write_bytes(b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines))


def load(path: Path) -> tuple[Fault, ...]:
    """Read a tape of faults. Raises: ValueError that names the line."""
    known = {field.name for field in fields(Fault)}
    faults: list[Fault] = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            row = orjson.loads(line)
            if unknown := row.keys() - known:
                raise ValueError(f"unknown {', '.join(sorted(unknown))}")
            how = How(row["how"]) if "how" in row else None
            damage = Damage(row["damage"]) if "damage" in row else None
            faults.append(Fault(**{**row, "kind": Kind(row["kind"]), "how": how, "damage": damage}))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
    return tuple(sorted(faults, key=lambda fault: fault.at_s))

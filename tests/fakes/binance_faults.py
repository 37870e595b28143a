"""The ways in which the fake Binance can misbehave: values, and pure changes to frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import TracebackType
from typing import Generic, Self, TypeVar

import orjson

T = TypeVar("T")

GEO_BLOCK_BODY = (
    '{"code":0,"msg":"Service unavailable from a restricted location according to '
    "'b. Eligibility' in https://www.binance.com/en/terms. Please contact customer service if you believe "
    'you received this message in error."}'
)
HTML_BODY = "<html><head><title>Attention Required!</title></head><body>captcha</body></html>"
TOO_BIG_BYTES = 2 * 1024 * 1024


class Stall(StrEnum):
    """How much of a connection stands still while TCP stays up."""

    NONE = "none"
    DATA = "data"  # no events; pings, pongs and acks go on
    ALL = "all"  # nothing at all, in either direction


class SubscribeFault(StrEnum):
    """What goes wrong with a SUBSCRIBE."""

    SWALLOW = "swallow"  # no ack, no data
    NO_ACK = "no_ack"  # data comes, the ack does not
    PRETEND = "pretend"  # acked, but no data ever
    DENY = "deny"  # an error reply, no data


class Hang(StrEnum):
    """Where a REST reply stops forever."""

    NO = "no"
    BEFORE_HEAD = "before_head"
    AFTER_HEAD = "after_head"
    IN_BODY = "in_body"


class Spoil(StrEnum):
    """How one frame is bad."""

    BAD_JSON = "bad_json"
    HTML = "html"
    BAD_UTF8 = "bad_utf8"
    TOO_BIG = "too_big"
    NAN_TEXT = "nan_text"  # "NaN" where a number belongs
    NAN_LITERAL = "nan_literal"  # NaN without quotes: not JSON
    NEGATIVE = "negative"
    HUGE = "huge"  # "1e400"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"  # a list where a number belongs
    NULL = "null"
    UNKNOWN_EVENT = "unknown_event"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class HandshakeFault:
    """What a WebSocket handshake meets instead of a connection.

    `status` None: accepted, then at once closed with `close_code` (None: reset). `hang`: never answered.
    """

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    close_code: int | None = None
    hang: bool = False


@dataclass(frozen=True, slots=True)
class RestFault:
    """How a REST reply differs from the true one. Every part is optional, and they combine.

    `body` replaces the true body (bytes and str as they are, anything else as JSON); `change` edits it as a
    parsed value. `cut_at` sends only so many bytes of the promised body, then closes; `reset` makes that (or
    the whole reply) end in a TCP reset. `drip_s` sends one byte each so many real seconds.
    """

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: object = None
    change: Callable[[object], object] | None = None
    delay_s: float = 0.0
    hang: Hang = Hang.NO
    drip_s: float | None = None
    cut_at: int | None = None
    reset: bool = False

    def body_bytes(self, true_body: object) -> bytes:
        """The body to send instead of `true_body`."""
        if isinstance(self.body, bytes):
            return self.body
        if isinstance(self.body, str):
            return self.body.encode()
        body = true_body if self.body is None else self.body
        if self.change is not None:
            body = self.change(body)
        return body if isinstance(body, bytes) else orjson.dumps(body)


@dataclass(frozen=True, slots=True)
class Frame:
    """One event on its way to the subscribers of `stream`.

    `text` replaces the whole frame as it is, without combined wrapping.
    """

    stream: str
    payload: bytes
    closes_candle: bool = False
    text: bytes | None = None


Tamper = Callable[[Sequence[Frame]], Iterable[Frame]]


class Staged(Generic[T]):
    """A fault on stage, until `stop()`, the end of its `with` block, or the last of its `times`."""

    def __init__(self, fault: T, times: int | None = None) -> None:
        self.fault = fault
        self.left = times

    @property
    def active(self) -> bool:
        return self.left is None or self.left > 0

    def use(self) -> T:
        """Play it once."""
        if self.left is not None:
            self.left -= 1
        return self.fault

    def stop(self) -> None:
        self.left = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()


def silence(*symbols: str) -> Tamper:
    """Nothing arrives about these symbols; all others go on."""
    dead = {symbol.upper() for symbol in symbols}

    def tamper(frames: Sequence[Frame]) -> Iterable[Frame]:
        for frame in frames:
            if frame.stream.startswith("!"):
                rows = orjson.loads(frame.payload)
                kept = [row for row in rows if row["s"] not in dead]
                if kept:
                    yield replace(frame, payload=orjson.dumps(kept))
            elif frame.stream.partition("@")[0].upper() not in dead:
                yield frame

    return tamper


def withhold_closes(frames: Sequence[Frame]) -> Iterable[Frame]:
    """No kline frame with `x:true` arrives."""
    return [frame for frame in frames if not frame.closes_candle]


def duplicate(frames: Sequence[Frame]) -> Iterable[Frame]:
    """Every frame arrives twice."""
    return [frame for frame in frames for _ in range(2)]


def reverse(frames: Sequence[Frame]) -> Iterable[Frame]:
    """The frames of one moment arrive last first: of a kline, an update before the close it follows."""
    return frames[::-1]


class Swap:
    """Every two moments arrive in the wrong order."""

    def __init__(self) -> None:
        self._held: list[Frame] | None = None

    def __call__(self, frames: Sequence[Frame]) -> Iterable[Frame]:
        if not frames:
            return []
        if self._held is None:
            self._held = list(frames)
            return []
        earlier, self._held = self._held, None
        return [*frames, *earlier]


class SpoilFrames:
    """The next `times` frames (of `stream`, if given) arrive bad."""

    def __init__(self, kind: Spoil, stream: str | None = None, times: int | None = 1) -> None:
        self._kind = kind
        self._stream = stream
        self._left = times

    def __call__(self, frames: Sequence[Frame]) -> Iterable[Frame]:
        for frame in frames:
            if self._left == 0 or self._stream not in (None, frame.stream):
                yield frame
                continue
            if self._left is not None:
                self._left -= 1
            yield spoiled(frame, self._kind)


def spoiled(frame: Frame, kind: Spoil) -> Frame:
    """A bad version of `frame`."""
    match kind:
        case Spoil.BAD_JSON:
            return replace(frame, text=frame.payload[: len(frame.payload) // 2])
        case Spoil.HTML:
            return replace(frame, text=HTML_BODY.encode())
        case Spoil.BAD_UTF8:
            return replace(frame, text=b'{"e":"\xff\xfe"}')
        case Spoil.EMPTY:
            return replace(frame, text=b"")
        case Spoil.TOO_BIG:
            return replace(frame, text=b'{"e":"' + b"x" * TOO_BIG_BYTES + b'"}')
        case _:
            return replace(frame, payload=_mutated(frame.payload, kind))


_VALUES: dict[Spoil, object] = {
    Spoil.NAN_TEXT: "NaN",
    Spoil.NAN_LITERAL: "@NaN@",
    Spoil.NEGATIVE: "-1.00000000",
    Spoil.HUGE: "1e400",
    Spoil.WRONG_TYPE: [1, 2],
    Spoil.NULL: None,
}


def _mutated(payload: bytes, kind: Spoil) -> bytes:
    """The payload with its price field (`k.c`, `c`, `p` or `b`) made bad; of an array, the first row's."""
    event = orjson.loads(payload)
    row = event[0] if isinstance(event, list) else event
    if kind is Spoil.UNKNOWN_EVENT:
        row["e"] = "somethingNew"
        return orjson.dumps(event)
    fields = row.get("k", row)
    name = next(name for name in ("c", "p", "b") if name in fields)
    if kind is Spoil.MISSING_FIELD:
        del fields[name]
    else:
        fields[name] = _VALUES[kind]
    return orjson.dumps(event).replace(b'"@NaN@"', b"NaN")

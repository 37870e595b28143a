"""Damaged JSON texts that a strict parser refuses although no value in them is lost."""

import codecs
from collections.abc import Callable, Mapping
from enum import StrEnum


class Damage(StrEnum):
    """How a JSON text is damaged."""

    BOM = "bom"
    CONTROL = "control"
    """A raw control character inside a text."""
    LINE_BREAK = "line_break"
    LONE_SURROGATE = "lone_surrogate"
    BAD_BYTE = "bad_byte"
    """A byte inside a text that is not UTF-8."""
    NAN = "nan"
    INFINITY = "infinity"
    BAD_ESCAPE = "bad_escape"
    LOWER_NAN = "lower_nan"
    UTF_16 = "utf_16"


_INSERTED: Mapping[Damage, bytes] = {
    Damage.CONTROL: b'"a\x01b\x00"',
    Damage.LINE_BREAK: b'"a\nb"',
    Damage.LONE_SURROGATE: b'"\\ud83d"',
    Damage.BAD_BYTE: b'"\xff\xf0\x9f"',
    Damage.NAN: b"NaN",
    Damage.INFINITY: b"-Infinity",
    Damage.BAD_ESCAPE: b'"\\x41"',
    Damage.LOWER_NAN: b"nan",
}


def damaged(body: bytes, kind: Damage) -> bytes:
    """Add one damaged field to the first object of a JSON text, or replace an unused last element.

    All values that a reader uses stay intact.
    """
    match kind:
        case Damage.BOM:
            return codecs.BOM_UTF8 + body
        case Damage.UTF_16:
            return body.decode().encode("utf-16")
    value = _INSERTED[kind]
    head, brace, rest = body.partition(b"{")
    if brace:
        comma = b"" if rest.lstrip().startswith(b"}") else b","
        return head + b'{"damaged":' + value + comma + rest
    return body.replace(b'"0"]', value + b"]", 1)  # the unused last element of Binance's candles


class Alternating:
    """Damage each body in the next way."""

    def __init__(self, kinds: tuple[Damage, ...] = tuple(Damage)) -> None:
        self.kinds = kinds
        self.count = 0

    def __call__(self, body: bytes) -> bytes:
        self.count += 1
        return damaged(body, self.kinds[self.count % len(self.kinds)])


Drift = Callable[[bytes], bytes]

"""JSON from upstreams, read strictly first and then with patience.

A strict parser refuses a whole answer for one damaged character. What it refuses is repaired here as far as the damage
does not touch the outline, and read again; rows are judged one by one afterwards. Each kind of repair is noted once an
answer, in `repairs`. Every step is linear in the length of the body.
"""

import json
import math
import re

import orjson

from orchestrator import charsets, repairs

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
_SURROGATE = re.compile(
    r"(?<!\\)((?:\\\\)*+)(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
"""An escaped pair of surrogates or half of one, behind an even number of backslashes."""
_HALF_PAIR_CHARS = len(r"\ud83d")
_BAD_ESCAPE = re.compile(r'(?<!\\)((?:\\\\)*+)\\(?!["\\/bfnrt]|u[0-9a-fA-F]{4})')
_NO_NUMBER = re.compile(
    r"(?<=[\[,:\s])[-+]?(?:nan|inf|infinity|undefined|none)(?=\s*[,\]}]|\s*\Z)", re.IGNORECASE | re.ASCII
)
"""Spellings of other languages for what is not a number; Python's parser knows `NaN` and `Infinity` itself."""
_WHOLE_DIGITS = 18
"""A longer whole number may not fit into 64 bits and is read as a float, as the strict parser does."""
_REPAIRS = 200_000
"""Maximum number of repairs of one kind in one answer; a text with more damage is not JSON."""
_WIDE = {(False, True, False, True): "utf-16-le", (True, False, True, False): "utf-16-be"}
"""Charsets without a mark, by which of the first four bytes are 0. Source: RFC 4627, section 3."""
_SPACE = "".join(map(chr, range(0x21)))
_OUTLINE = '{["-0123456789tfnNI'
"""The characters with which a JSON value begins, damaged ones included."""


def read_json(raw: bytes | str, charset: str | None = None) -> object:
    """Return the value of a JSON text, repaired where it is damaged; what is not a finite number becomes None.

    `charset` is the one that the answer declares; it counts where the bytes are not UTF-8.
    Raises: ValueError for what has no outline of JSON even so.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return _Damaged(raw, charset).value()


class _Damaged:
    """A text that the strict parser refuses, and what has been repaired in it."""

    def __init__(self, raw: bytes | str, charset: str | None) -> None:
        self.found: set[str] = set()
        self.text = raw if isinstance(raw, str) else self._decoded(raw, charset)

    def value(self) -> object:
        """Return the value. Raises: ValueError."""
        first = self.text.lstrip(_SPACE)[:1]
        if not first or first not in _OUTLINE:
            raise ValueError("not JSON")  # a page, most often: not worth the repairs
        self._replace(_CONTROL, " ", "control_character")
        self.text = _SURROGATE.sub(self._whole_pairs, self.text)
        try:
            value = self._parsed()
        except ValueError:
            self._replace(_BAD_ESCAPE, r"\1\\\\", "escape")
            self._replace(_NO_NUMBER, "null", "not_a_number")
            value = self._parsed()
        for kind in self.found or ("control_character",):  # a line break inside a text leaves no other trace
            repairs.repaired(kind)
        return value

    def _decoded(self, raw: bytes, charset: str | None) -> str:
        marked = charsets.by_mark(raw)
        if marked is not None:
            self.found.add("bom")
            charset, raw = marked
            return raw.decode(charset, "replace")
        for places, wide in _WIDE.items():
            if tuple(byte == 0 for byte in raw[:4]) == places:
                self.found.add("encoding")
                return raw.decode(wide, "replace")
        try:
            return raw.decode()
        except UnicodeDecodeError:
            self.found.add("encoding")
        try:
            return raw.decode(charset or "utf-8")
        except UnicodeDecodeError:
            return raw.decode(errors="replace")

    def _replace(self, pattern: re.Pattern[str], by: str, kind: str) -> None:
        self.text, count = pattern.subn(by, self.text, count=_REPAIRS)
        if count:
            self.found.add(kind)

    def _whole_pairs(self, escape: re.Match[str]) -> str:
        if len(escape[2]) > _HALF_PAIR_CHARS:
            return escape[0]
        self.found.add("lone_surrogate")
        return escape[1] + r"\ufffd"

    def _parsed(self) -> object:
        try:
            strict: object = orjson.loads(self.text)
        except (orjson.JSONDecodeError, UnicodeEncodeError):
            pass
        else:
            return strict
        try:
            patient: object = json.loads(
                self.text, strict=False, parse_constant=self._no_number, parse_float=self._real, parse_int=self._whole
            )
        except RecursionError:
            raise ValueError("JSON nested too deep") from None
        return patient

    def _no_number(self, spelling: str) -> float | None:
        self.found.add("not_a_number")
        return None

    def _real(self, digits: str) -> float | None:
        value = float(digits)
        return value if math.isfinite(value) else self._no_number(digits)

    def _whole(self, digits: str) -> float | None:
        return int(digits) if len(digits) <= _WHOLE_DIGITS else self._real(digits)


def begins(raw: bytes) -> bytes:
    """Return the first character of a body behind byte-order marks, spaces and control characters; empty if none."""
    head = raw[:256]
    marked = charsets.by_mark(head)
    if marked is not None:
        head = marked[1].decode(marked[0], "replace").encode()
    return head.lstrip(_SPACE.encode())[:1]

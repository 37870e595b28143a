"""Read the query parameters of REST, `/sse` and `/ws`, and refuse with all problems at once."""

import math
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from multidict import MultiMapping

from feeds.symbols import Symbols
from stream_server.delivery.fields import is_last_event_id
from stream_server.delivery.selectors import resolve, sentences
from stream_server.wire.refusals import Refusal

MAX_NAMES = 500
SHOWN_CHARS = 40
"""The most characters of a client's own words that an error repeats."""
MAX_TIME_MS = 10**14
YES, NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


T_co = TypeVar("T_co", covariant=True)


class Readable(Protocol[T_co]):
    """A declared parameter; `parameter_kinds.py` has the kinds."""

    def read(self, parameters: "Parameters") -> T_co:
        """Return the value that a client gave, or the default."""
        ...


class Asked(Protocol):
    """A request or a URL."""

    @property
    def query(self) -> MultiMapping[str]:
        """The query parameters, in order."""
        ...


class Parameters:
    """Read query parameters, and refuse all wrong ones at once. Unknown parameters are ignored.

    An empty parameter counts as not given. A list may come in parts, as `symbols=BTC&symbols=ETH`. Any other parameter
    may be repeated with the same value only.
    """

    def __init__(self, asked: Asked) -> None:
        self.query = asked.query
        self.problems: dict[str, tuple[str, str]] = {}

    def read(self, parameter: Readable[T_co]) -> T_co:
        """Return the value of a declared parameter."""
        return parameter.read(self)

    def wrong(self, name: str, message: str, code: str = "bad_parameter") -> None:
        """Note a problem with one parameter; the first problem counts."""
        self.problems.setdefault(name, (code, message))

    def text(self, name: str, default: str = "") -> str:
        """Return a text. It is refused if it has several values, or only blanks."""
        text = self._once(name)
        if text and not text.strip():
            self.wrong(name, f"{name} is blank")
        return text.strip() or default

    def _once(self, name: str) -> str:
        values = dict.fromkeys(value for value in self.query.getall(name, []) if value)
        if len(values) > 1:
            self.wrong(name, f"{name} is given {len(values)} times with different values")
        # Joined they are not a valid value, so that none of them is used by mistake.
        return ", ".join(values)

    def needed(self, name: str, example: str) -> str:
        """Return a text that must be given."""
        text = self.text(name)
        if not text and name not in self.problems:
            self.wrong(name, f"{name} is missing, as in ?{example}")
        return text

    def listed(self, name: str) -> list[str]:
        """Return the parts of a list, which may stand between commas, in several parameters of this name, or both."""
        given = [value for value in self.query.getall(name, []) if value]
        if given and not any(value.strip() for value in given):
            self.wrong(name, f"{name} is blank")
        return [part for value in given for part in value.split(",")]

    def names(self, name: str, most: int = MAX_NAMES) -> list[str]:
        """Return a list of names, each once."""
        parts = self.listed(name)
        if len(parts) > most:
            self.wrong(name, f"{name} has {len(parts)} names; {most} are allowed")
        return _each_once(parts)

    def topics(self) -> list[str]:
        """Return the topics and patterns of `topics` as the client spelled them."""
        return _each_once(self.listed("topics"))

    def selectors(self, symbols: Symbols, otherwise: Sequence[str] = ()) -> list[str]:
        """Return the topics and patterns of `topics` in canonical spelling, or `otherwise` if there are none."""
        try:
            selectors, bad = resolve(self.topics() or otherwise, symbols)
        except Refusal as refusal:
            self.wrong("topics", refusal.message)
            return []
        if bad:
            self.wrong("topics", sentences(bad), "unknown_topic")
        elif not selectors:
            self.wrong("topics", "topics must name at least one topic, as in ?topics=price.BTC")
        return selectors

    def cursor(self, headers: Iterable[str] = ()) -> str | None:
        """Return the position to resume from: a `Last-Event-ID` header, the same in the query, or `since`.

        Of several spellings in the query the last one counts: libraries append what they know to the URL they were
        given.
        """
        since = self._once("since")
        named = [self._once(name) for name in dict.fromkeys(self.query) if is_last_event_id(name)]
        return next((header for header in (*headers, *reversed(named), since) if header), None)

    def choice(self, name: str, choices: Sequence[str], default: str, code: str = "bad_parameter") -> str:
        """Return one of several words."""
        text = self.text(name, default) or default
        if text not in choices:
            self.wrong(name, f"{name} {text[:SHOWN_CHARS]!r} is not one of {', '.join(choices)}", code)
        return text

    def flag(self, name: str) -> bool:
        """Return whether a flag is set; False if it is not given."""
        text = self.text(name).lower()
        if text and text not in YES + NO:
            self.wrong(name, f"{name} {text[:SHOWN_CHARS]!r} is not 1 or 0")
        return text in YES

    def whole(self, name: str, low: int, high: int, default: int) -> int:
        """Return a whole number within bounds."""
        number = self.maybe_whole(name, low, high)
        return default if number is None else number

    def maybe_whole(self, name: str, low: int, high: int) -> int | None:
        """Return a whole number within bounds; None if it is not given."""
        text = self.text(name)
        if not text:
            return None
        if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) <= 16):
            self.wrong(name, f"{name} {text[:SHOWN_CHARS]!r} is not a whole number")
            return None
        number = int(text)
        if not low <= number <= high:
            self.wrong(name, f"{name} {number} is not from {low} to {high}")
            return None
        return number

    def max_age_ms(self) -> float | None:
        """Return `max_age`, which is given in seconds, in milliseconds; None if it is not given."""
        text = self.text("max_age")
        if not text:
            return None
        try:
            seconds = float(text) if text.isascii() and "_" not in text else math.nan
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds < math.inf:
            self.wrong("max_age", f"max_age {text[:SHOWN_CHARS]!r} is not a number of seconds")
            return None
        return seconds * 1000

    def check(self) -> None:
        """Raise one Refusal for all problems."""
        if not self.problems:
            return
        codes = {code for code, _ in self.problems.values()}
        code = codes.pop() if len(codes) == 1 else "bad_parameter"
        details: dict[str, object] = {name: message for name, (_, message) in self.problems.items()}
        raise Refusal(code, "; ".join(str(message) for message in details.values()), details=details)


def _each_once(parts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in parts if part.strip()))


def only_max_age(asked: Asked) -> float | None:
    """Return `max_age` in milliseconds, for a request that takes nothing else. Raises Refusal if it is not valid."""
    parameters = Parameters(asked)
    max_age_ms = parameters.max_age_ms()
    parameters.check()
    return max_age_ms

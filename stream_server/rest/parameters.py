"""What clients ask with: query parameters and the one JSON body. All that is wrong is told at once."""

import math
from collections.abc import Sequence

from aiohttp import web

from feeds.intervals import INTERVALS
from stream_server.refusals import Refusal
from stream_server.rest.answers import SHOWN_CHARS
from stream_server.session import split_topics

MAX_NAMES = 500
MAX_TIME_MS = 10**14
YES, NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


class Parameters:
    """Reads query parameters, and refuses with all that are wrong at once. One that is not known is not looked at."""

    def __init__(self, request: web.Request) -> None:
        self.query = request.query
        self.problems: dict[str, tuple[str, str]] = {}

    def wrong(self, name: str, message: str, code: str = "bad_parameter") -> None:
        """Note a problem with one parameter."""
        self.problems[name] = (code, message)

    def text(self, name: str, default: str = "") -> str:
        """A text; refused if it is given twice, or nothing but blanks. An empty one is not given."""
        values = self.query.getall(name, [])
        if len(values) > 1:
            self.wrong(name, f"{name} is given {len(values)} times")
        text = values[0].strip() if values else default
        if values and values[0] and not text:
            self.wrong(name, f"{name} is blank")
        return text

    def needed(self, name: str, example: str) -> str:
        """A text that must be there."""
        text = self.text(name)
        if not text and name not in self.problems:
            self.wrong(name, f"{name} is missing, as in ?{example}")
        return text

    def names(self, name: str, most: int = MAX_NAMES) -> list[str]:
        """Names with commas between them, each once."""
        text = self.text(name)
        count = text.count(",") + 1
        if count > most:
            self.wrong(name, f"{name} has {count} names; {most} are allowed")
        return list(dict.fromkeys(split_topics(text)))

    def choice(self, name: str, choices: Sequence[str], default: str, code: str = "bad_parameter") -> str:
        """One of several words."""
        text = self.text(name, default) or default
        if text not in choices:
            self.wrong(name, f"{name} {text[:SHOWN_CHARS]!r} is not one of {', '.join(choices)}", code)
        return text

    def interval(self, choices: Sequence[str] = INTERVALS) -> str:
        """The interval of candles."""
        return self.choice("interval", choices, "1h", code="invalid_interval")

    def flag(self, name: str) -> bool:
        """Yes or no; no if it is not given."""
        text = self.text(name).lower()
        if text and text not in YES + NO:
            self.wrong(name, f"{name} {text[:SHOWN_CHARS]!r} is not 1 or 0")
        return text in YES

    def whole(self, name: str, low: int, high: int, default: int) -> int:
        """A whole number within bounds."""
        number = self.maybe_whole(name, low, high)
        return default if number is None else number

    def maybe_whole(self, name: str, low: int, high: int) -> int | None:
        """A whole number within bounds; None if it is not given."""
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

    def time_ms(self, name: str) -> int | None:
        """A time in Unix milliseconds."""
        return self.maybe_whole(name, 0, MAX_TIME_MS)

    def max_age_ms(self) -> float | None:
        """`max_age` in seconds, as milliseconds."""
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


def only_max_age(request: web.Request) -> float | None:
    """`max_age` of a question that takes nothing else, in milliseconds. Raises Refusal if it is none."""
    parameters = Parameters(request)
    max_age_ms = parameters.max_age_ms()
    parameters.check()
    return max_age_ms

"""Declare query parameters: name, description, bounds and default of each, once for the code and the documents.

Handlers read a declared parameter with `Parameters.read`; `/openapi.json` and `/asyncapi.json` describe it by its
schema.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Generic, TypeVar

from stream_server.access.parameters import MAX_TIME_MS, NO, SHOWN_CHARS, YES, Parameters
from stream_server.delivery.fields import MAX_INTERVAL_MS
from stream_server.delivery.selectors import MAX_PATTERNS, MAX_TOPICS

T = TypeVar("T")

NOT_BLANK = r"\S"
"""The pattern of a text that isn't blank."""


@dataclass(frozen=True, slots=True)
class Parameter(ABC, Generic[T]):
    """A query parameter. `example` is a value to try, `needed` whether the parameter must be given."""

    name: str
    description: str
    _: KW_ONLY
    example: object = None
    needed: bool = False

    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of its values."""

    @abstractmethod
    def read(self, parameters: Parameters) -> T:
        """Return the value that a client gave, or the default. Note in `parameters` what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole(Parameter[int]):
    """A whole number from `low` to `high`."""

    low: int
    high: int
    default: int

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.low, "maximum": self.high, "default": self.default}

    def read(self, parameters: Parameters) -> int:
        return parameters.whole(self.name, self.low, self.high, self.default)


@dataclass(frozen=True, slots=True)
class Time(Parameter[int | None]):
    """A time in Unix milliseconds; None if it is not given."""

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": 0, "maximum": MAX_TIME_MS}

    def read(self, parameters: Parameters) -> int | None:
        return parameters.maybe_whole(self.name, 0, MAX_TIME_MS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice(Parameter[str]):
    """One of several words. Any other word is refused with `code`."""

    choices: Sequence[str]
    default: str
    code: str = "bad_parameter"

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.choices), "default": self.default}

    def read(self, parameters: Parameters) -> str:
        return parameters.choice(self.name, self.choices, self.default, self.code)


@dataclass(frozen=True, slots=True)
class Flag(Parameter[bool]):
    """Yes or no; no if it is not given."""

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": [*YES, *NO]}

    def read(self, parameters: Parameters) -> bool:
        return parameters.flag(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Names(Parameter[list[str]]):
    """A list of at most `most` names, between commas or in several parameters of this name."""

    most: int

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": {"type": "string"}, "maxItems": self.most}

    def read(self, parameters: Parameters) -> list[str]:
        return parameters.names(self.name, self.most)


@dataclass(frozen=True, slots=True)
class Topics(Parameter[list[str]]):
    """Topics and patterns as the client spelled them. `Parameters.selectors` gives their canonical spelling."""

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": {"type": "string", "description": "A topic or a pattern"}}

    def read(self, parameters: Parameters) -> list[str]:
        return parameters.topics()


@dataclass(frozen=True, slots=True, kw_only=True)
class Text(Parameter[str]):
    """A text. If there is a `pattern`, the whole text must match it; `noun` names such a text in the error."""

    default: str = ""
    examples: Sequence[str] = ()
    pattern: str = ""
    noun: str = ""

    def schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "string"}
        schema |= {"pattern": f"^{self.pattern}$"} if self.pattern else {}
        schema |= {"default": self.default} if self.default else {}
        return schema | ({"examples": list(self.examples)} if self.examples else {})

    def read(self, parameters: Parameters) -> str:
        text = parameters.text(self.name) or self.default
        if text and self.pattern and not re.fullmatch(self.pattern, text):
            parameters.wrong(self.name, f"{self.name} {text[:SHOWN_CHARS]!r} is not {self.noun}")
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class NeededText(Parameter[str]):
    """A text that must be given. `usage` shows in the error how, as it stands in a URL."""

    usage: str
    max_chars: int | None = None
    needed: bool = True

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": NOT_BLANK} | ({"maxLength": self.max_chars} if self.max_chars else {})

    def read(self, parameters: Parameters) -> str:
        text = parameters.needed(self.name, self.usage)
        if self.max_chars is not None and len(text) > self.max_chars:
            parameters.wrong(self.name, f"{self.name} has {len(text)} characters; {self.max_chars} are allowed")
        return text


@dataclass(frozen=True, slots=True)
class Age(Parameter[float | None]):
    """An age, which clients give in seconds, in milliseconds; None if it is not given."""

    def schema(self) -> dict[str, Any]:
        return {"type": "number", "minimum": 0}

    def read(self, parameters: Parameters) -> float | None:
        return parameters.max_age_ms()


MAX_AGE = Age("max_age", "Maximum age in seconds; older data are refused with 503, and 0 asks the sources now")


def topics_parameter(more: str = "", *, needed: bool = False) -> Topics:
    """Return the parameter `topics`; `more` continues the sentence that describes it."""
    limits = f"at most {MAX_TOPICS} topics and {MAX_PATTERNS} patterns"
    description = f"Topics and patterns, separated by commas or in several parameters; {limits}{more}"
    return Topics("topics", description, example=["price.BTC"], needed=needed)


# --- streams ---

TOPICS = topics_parameter()
TOPICS_NEEDED = topics_parameter(needed=True)
INTERVAL_MS = Whole(
    "interval_ms",
    "At most one value per topic in this time, in milliseconds; the newest wins, log events are never held back",
    low=0,
    high=MAX_INTERVAL_MS,
    default=0,
)
BATCH = Flag("batch", "With 1, messages arrive in JSON arrays, one per write")
SINCE = Text("since", "Your position: the last id you received; `earliest` replays everything that is held")
LAST_EVENT_ID = Text(
    "last_event_id",
    "Your position; wins over `since`. A `Last-Event-ID` header that isn't empty wins over both. May be spelled "
    "`lastEventId`, `lastEventID` or `Last-Event-ID`; of several spellings the last one counts. Two different values "
    "under one name are refused",
)
TICKET = Text("ticket", "A ticket from `POST /api/ticket`, for clients that need a token and cannot set headers")

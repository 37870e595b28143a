"""Reading one field of an upstream's row: strict about sense, lenient about form.

A number may come as a number or as decimal text. What makes no sense (NaN, infinite, negative where nothing can be) is
a BadFieldError, which costs its row only; `maybe_…` takes a missing or null field for None and still refuses nonsense.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Generic, TypeVar

T = TypeVar("T")

LARGEST = 1e18
"""Nothing we read is larger: a market's value in the smallest currency stays below. What is above is a broken row."""


class BadFieldError(ValueError):
    """One field is missing or says nothing sensible; only its row is lost."""

    def __init__(self, name: str) -> None:
        super().__init__(f"bad field {name!r}")
        self.name = name


@dataclass(slots=True)
class Rows(Generic[T]):
    """What could be read, and how many rows could not, by the field at fault."""

    good: list[T] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)


def rows(raw: Iterable[object], read: Callable[[object], T]) -> Rows[T]:
    """Read each row; those that cannot be read are counted by the field at fault."""
    result: Rows[T] = Rows()
    for row in raw:
        try:
            result.good.append(read(row))
        except BadFieldError as error:
            result.rejected[error.name] += 1
    return result


def mapping(value: object, name: str = "row") -> Mapping[str, object]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise BadFieldError(name)
    return value


def text(row: Mapping[str, object], name: str) -> str:
    """A text with something in it."""
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise BadFieldError(name)
    return value


def maybe_text(row: Mapping[str, object], name: str) -> str | None:
    """A text; None for a missing, null, empty or other value."""
    value = row.get(name)
    return value if isinstance(value, str) and value.strip() else None


def number(row: Mapping[str, object], name: str) -> float:
    """A finite number of either sign."""
    value = row.get(name)
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        raise BadFieldError(name)
    if isinstance(value, str) and "_" in value:
        raise BadFieldError(name)  # Python would read 1_000
    try:
        result = float(value)
    except (ValueError, OverflowError):
        raise BadFieldError(name) from None
    if not -LARGEST <= result <= LARGEST:  # NaN and infinity are not either
        raise BadFieldError(name)
    return result


def amount(row: Mapping[str, object], name: str) -> float:
    """A finite number, 0 or more."""
    result = number(row, name)
    if result < 0:
        raise BadFieldError(name)
    return result


def positive(row: Mapping[str, object], name: str) -> float:
    """A finite number above 0."""
    result = number(row, name)
    if result <= 0:
        raise BadFieldError(name)
    return result


def maybe_number(row: Mapping[str, object], name: str) -> float | None:
    """A finite number of either sign; None if missing or null."""
    return None if row.get(name) is None else number(row, name)


def maybe_amount(row: Mapping[str, object], name: str) -> float | None:
    """A finite number, 0 or more; None if missing or null."""
    return None if row.get(name) is None else amount(row, name)


def maybe_positive(row: Mapping[str, object], name: str) -> float | None:
    """A finite number above 0; None if missing or null."""
    return None if row.get(name) is None else positive(row, name)


def whole(row: Mapping[str, object], name: str) -> int:
    """A whole number, 0 or more."""
    result = amount(row, name)
    if result != int(result):
        raise BadFieldError(name)
    return int(result)


def maybe_whole(row: Mapping[str, object], name: str) -> int | None:
    """A whole number, 0 or more; None if missing or null."""
    return None if row.get(name) is None else whole(row, name)


def iso_ms(row: Mapping[str, object], name: str) -> int:
    """An ISO 8601 time as Unix milliseconds; without a zone it is UTC."""
    value = row.get(name)
    if not isinstance(value, str):
        raise BadFieldError(name)
    try:
        then = datetime.fromisoformat(value.strip())
        return int((then if then.tzinfo is not None else then.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise BadFieldError(name) from None


def maybe_iso_ms(row: Mapping[str, object], name: str) -> int | None:
    """An ISO 8601 time as Unix milliseconds; None if missing or null."""
    return None if row.get(name) is None else iso_ms(row, name)

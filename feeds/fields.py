"""Reading one field of an upstream's row: strict about sense, lenient about form.

A number may come as a number or as decimal text. A field without which the row means nothing (its symbol, its price)
is read by its type's own function: what makes no sense there is a BadFieldError, which costs the row. All other fields
are decoration and read by `maybe_…`: what makes no sense there is None, and noted as repaired. Texts come out on one
line, without hidden characters, and end somewhere.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Generic, TypeVar

from feeds.dates import with_offset
from orchestrator import repairs
from orchestrator.errors import Malformed
from orchestrator.texts import HIDDEN, MAX_NAME, one_line

T = TypeVar("T")
R = TypeVar("R")
N = TypeVar("N", int, float)

Reader = Callable[[Mapping[str, object], str], T]
"""Reads the field of a row by its name. Raises: BadFieldError."""

LARGEST = 1e18
"""Nothing we read is larger: a market's value in the smallest currency stays below. What is above is damaged."""
_SPACE_BEFORE_OFFSET = re.compile(r"\s+(?=[+-]\d)")
MAX_DIGITS = 64
"""Characters of a number that comes as text."""


class BadFieldError(ValueError):
    """A field without which its row has no meaning is missing or nonsense; only the row is lost."""

    def __init__(self, name: str) -> None:
        super().__init__(f"bad field {name!r}")
        self.name = name


@dataclass(slots=True)
class Rows(Generic[T]):
    """The rows that could be read, and the number of those that could not, by the field at fault."""

    good: list[T] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)


def rows(raw: Iterable[R], read: Callable[[R], T | None]) -> Rows[T]:
    """Read each row. Those that cannot be read are counted by the field at fault; None is a row that isn't for us."""
    result: Rows[T] = Rows()
    for row in raw:
        try:
            value = read(row)
        except BadFieldError as error:
            result.rejected[error.name] += 1
        else:
            if value is not None:
                result.good.append(value)
    for name, count in result.rejected.items():
        repairs.rejected(name, count)
    return result


def some_rows(provider: str, raw: Collection[R], read: Callable[[R], T | None]) -> Rows[T]:
    """Read each row of an answer. Raises: Malformed if rows came, and not one of them could be read."""
    result = rows(raw, read)
    if result.rejected and result.rejected.total() == len(raw):
        raise Malformed(provider, f"no readable row (bad {', '.join(sorted(result.rejected))})")
    return result


def mapping(value: object, name: str = "row") -> Mapping[str, object]:
    """Return a JSON object."""
    if not isinstance(value, dict):
        raise BadFieldError(name)
    return value


def maybe_mapping(row: Mapping[str, object], name: str) -> Mapping[str, object]:
    """Return a JSON object inside the row; an empty one where there is none."""
    value = row.get(name)
    if isinstance(value, dict):
        return value
    if value is not None:
        repairs.repaired(name)
    return {}


def text(row: Mapping[str, object], name: str, most: int = MAX_NAME) -> str:
    """Return a text with something to see in it, cut to `most` characters."""
    value = row.get(name)
    shown = _shown(value, name, most) if isinstance(value, str) else ""
    if not shown:
        raise BadFieldError(name)
    return shown


def maybe_text(row: Mapping[str, object], name: str, most: int = MAX_NAME) -> str | None:
    """Return a text with something to see in it, cut to `most` characters; None without one."""
    value = row.get(name)
    if isinstance(value, str):
        return _shown(value, name, most) or None
    if value is not None:
        repairs.repaired(name)
    return None


def _shown(value: str, name: str, most: int) -> str:
    if len(value) > most or ((not value.isascii() or not value.isprintable()) and HIDDEN.search(value)):
        repairs.repaired(name)
    return one_line(value, most)


def number(row: Mapping[str, object], name: str) -> float:
    """Return a finite number of either sign."""
    value = row.get(name)
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        raise BadFieldError(name)
    if isinstance(value, str) and ("_" in value or len(value) > MAX_DIGITS):
        raise BadFieldError(name)  # Python would read 1_000
    try:
        result = float(value)
    except (ValueError, OverflowError):
        raise BadFieldError(name) from None
    if not -LARGEST <= result <= LARGEST:  # NaN and infinity are not either
        raise BadFieldError(name)
    return result


def amount(row: Mapping[str, object], name: str) -> float:
    """Return a finite number, 0 or more."""
    result = number(row, name)
    if result < 0:
        raise BadFieldError(name)
    return result


def positive(row: Mapping[str, object], name: str) -> float:
    """Return a finite number above 0."""
    result = number(row, name)
    if result <= 0:
        raise BadFieldError(name)
    return result


def whole(row: Mapping[str, object], name: str) -> int:
    """Return a whole number, 0 or more."""
    result = amount(row, name)
    if result != int(result):
        raise BadFieldError(name)
    return int(result)


def flag(row: Mapping[str, object], name: str) -> bool:
    """Return true or false."""
    value = row.get(name)
    if not isinstance(value, bool):
        raise BadFieldError(name)
    return value


def iso_ms(row: Mapping[str, object], name: str) -> int:
    """Return an ISO 8601 time as Unix milliseconds; without a zone it is UTC."""
    value = row.get(name)
    zoned = with_offset(value.strip()) if isinstance(value, str) and len(value) <= MAX_DIGITS else None
    if zoned is None:
        raise BadFieldError(name)
    try:
        then = datetime.fromisoformat(_SPACE_BEFORE_OFFSET.sub("", zoned))
        return int((then if then.tzinfo is not None else then.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise BadFieldError(name) from None


def at_most(largest: float, read: Reader[N]) -> Reader[N]:
    """Return a reader of the same field that takes what is larger for nonsense."""

    def bounded(row: Mapping[str, object], name: str) -> N:
        value = read(row, name)
        if value > largest:
            raise BadFieldError(name)
        return value

    return bounded


def maybe(read: Reader[T], row: Mapping[str, object], name: str) -> T | None:
    """Return a decorative field; None where it is missing or null, and, noted as repaired, where it makes no sense."""
    if row.get(name) is None:
        return None
    try:
        return read(row, name)
    except BadFieldError:
        repairs.repaired(name)
        return None


def maybe_number(row: Mapping[str, object], name: str) -> float | None:
    """Return a finite number of either sign, or None."""
    return maybe(number, row, name)


def maybe_amount(row: Mapping[str, object], name: str) -> float | None:
    """Return a finite number, 0 or more, or None."""
    return maybe(amount, row, name)


def maybe_positive(row: Mapping[str, object], name: str) -> float | None:
    """Return a finite number above 0, or None."""
    return maybe(positive, row, name)


def maybe_whole(row: Mapping[str, object], name: str) -> int | None:
    """Return a whole number, 0 or more, or None."""
    return maybe(whole, row, name)


def maybe_iso_ms(row: Mapping[str, object], name: str) -> int | None:
    """Return an ISO 8601 time as Unix milliseconds, or None."""
    return maybe(iso_ms, row, name)


def maybe_stamp(
    row: Mapping[str, object],
    name: str,
    latest_ms: int,
    read: Reader[int] = iso_ms,
) -> int | None:
    """Return when a row was true by its own account, in Unix ms; None without a stamp, or with one later than
    `latest_ms`.
    """
    ts = maybe(at_most(latest_ms, read), row, name)
    return ts if ts is None or ts > 0 else None

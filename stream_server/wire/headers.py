"""Read the headers of requests that are lists: members stand on one line or on several. Source: RFC 9110, 5.6.1."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

_MEMBER = re.compile(r'(?:[^,"]+|"[^"]*"?)+')
"""What lies between two commas; a comma in quotes does not end a member."""


class Headers(Protocol):
    """All values of each header, as aiohttp has them."""

    def getall(self, key: str, default: list[str], /) -> Sequence[str]:
        """Return the lines of a header."""
        ...


def members(headers: Headers, name: str) -> Iterator[str]:
    """Yield the members of a list, without those that are empty."""
    return members_of(headers.getall(name, []))


def members_of(lines: Iterable[str]) -> Iterator[str]:
    """Yield the members of a list that stands on these lines, without those that are empty."""
    for line in lines:
        yield from (member for each in _MEMBER.findall(line) if (member := each.strip()))


def words(headers: Headers, name: str) -> list[str]:
    """Return the members of a case-insensitive list, in lower case and without their parameters."""
    return words_of(headers.getall(name, []))


def words_of(lines: Iterable[str]) -> list[str]:
    """Return the members of a list on these lines, in lower case and without their parameters."""
    # Beyond ASCII a letter in lower case may be another letter: the sign for kelvin becomes a k.
    return [member.partition(";")[0].rstrip().lower() for member in members_of(lines) if member.isascii()]


def is_known(headers: Headers, tag: str) -> bool:
    """Return whether the client's `If-None-Match` names this `ETag`; weak and strong tags are equal."""
    known = {member.removeprefix("W/") for member in members(headers, "If-None-Match")}
    return "*" in known or tag.removeprefix("W/") in known

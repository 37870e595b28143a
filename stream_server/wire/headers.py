"""Headers of requests that are lists: their members may stand on one line or on several."""

from collections.abc import Iterator, Sequence
from typing import Protocol


class Headers(Protocol):
    """All values of each header, as aiohttp has them."""

    def getall(self, key: str, default: list[str], /) -> Sequence[str]:
        """Return the lines of a header."""
        ...


def members(headers: Headers, name: str) -> Iterator[str]:
    """Yield the members of a list, without those that are empty."""
    for line in headers.getall(name, []):
        yield from (member for each in line.split(",") if (member := each.strip()))


def words(headers: Headers, name: str) -> list[str]:
    """Return the members of a list that is read in any case, in lower case and without their parameters."""
    return [member.partition(";")[0].rstrip().lower() for member in members(headers, name)]


def is_known(headers: Headers, tag: str) -> bool:
    """Return whether the client has what this `ETag` names, by its `If-None-Match`; weak and strong tags are alike."""
    known = {member.removeprefix("W/") for member in members(headers, "If-None-Match")}
    return "*" in known or tag.removeprefix("W/") in known

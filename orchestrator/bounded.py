"""Dictionaries with a bound: what was put in longest ago goes first."""

from collections.abc import Hashable
from typing import TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def put_newest(known: dict[K, V], key: K, value: V, most: int) -> None:
    """Put an entry in as the newest one, and drop the oldest ones beyond `most`."""
    known.pop(key, None)
    known[key] = value
    while len(known) > most:
        del known[next(iter(known))]

"""Find out how many descriptors this process may open, and keep some of them for everything but clients.

The system gives out the lowest free descriptor, so the number of a new connection's descriptor shows how many are open.
"""

import asyncio
import logging
import sys

log = logging.getLogger(__name__)

HEADROOM = 128
"""Descriptors for sources, logs and the state on disk."""
ACCEPTS_A_TURN = 16
"""New connections that asyncio accepts in one turn of its loop, before any can be refused."""
TURNS_TO_REFUSE = 4
"""Turns from the acceptance of a connection to its end if it is refused."""
NO_DESCRIPTOR = "no_descriptor"
"""The code that counts connections which were refused for want of descriptors."""
KEPT = HEADROOM + ACCEPTS_A_TURN * TURNS_TO_REFUSE


def limit_for(wanted: int) -> int | None:
    """Raise the limit of descriptors for this many connections; return the limit now, None if it is unknown."""
    if sys.platform == "win32":
        return None
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    needed = wanted + KEPT
    most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if most > soft:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        except (OSError, ValueError):
            return soft
        return most
    return soft


def connections_within(limit: int | None, wanted: int) -> int:
    """Return how many clients fit, which is logged if it is less than `wanted`."""
    if limit is None:
        return wanted
    room = max(1, limit - _kept(limit))
    if room < wanted:
        log.warning("connections_capped", extra={"wanted": wanted, "taken": room, "descriptors": limit})
    return min(wanted, room)


def scarce(transport: asyncio.BaseTransport, limit: int | None) -> bool:
    """Return whether this new connection took a descriptor that is kept for other things."""
    connection = transport.get_extra_info("socket")
    return limit is not None and connection is not None and connection.fileno() >= limit - _kept(limit)


def getting_scarce(transport: asyncio.BaseTransport, limit: int | None) -> bool:
    """Return whether less than a quarter of the descriptors is left after this new connection."""
    connection = transport.get_extra_info("socket")
    return limit is not None and connection is not None and connection.fileno() >= (limit - _kept(limit)) * 3 // 4


def _kept(limit: int) -> int:
    return min(KEPT, limit // 2)

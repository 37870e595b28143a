"""How many connections the system lets this process have, and keeping some of them for what keeps it alive.

The system gives out the lowest free descriptor. So the number of a new connection tells how many are open, and none
need be counted.
"""

import asyncio
import logging
import sys

log = logging.getLogger(__name__)

HEADROOM = 128
"""Kept for sources, logs and the state on disk."""
ACCEPTS_A_TURN = 16
"""asyncio takes as many new connections in one turn of its loop, before any can be refused."""
TURNS_TO_REFUSE = 4
"""From the turn that takes a connection to the one that has closed it."""
NO_DESCRIPTOR = "no_descriptor"
"""What connections are counted by that got no descriptor."""
KEPT = HEADROOM + ACCEPTS_A_TURN * TURNS_TO_REFUSE


def limit_for(wanted: int) -> int | None:
    """Ask the system for room for so many connections; how many descriptors there may be now, None if unknown."""
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
    """How many clients are taken: what is wanted, or what the limit has room for, and says so."""
    if limit is None:
        return wanted
    room = max(1, limit - _kept(limit))
    if room < wanted:
        log.warning("connections_capped", extra={"wanted": wanted, "taken": room, "descriptors": limit})
    return min(wanted, room)


def scarce(transport: asyncio.BaseTransport, limit: int | None) -> bool:
    """Whether this new connection took a descriptor that is kept for other things."""
    connection = transport.get_extra_info("socket")
    return limit is not None and connection is not None and connection.fileno() >= limit - _kept(limit)


def getting_scarce(transport: asyncio.BaseTransport, limit: int | None) -> bool:
    """Whether less than a quarter of the descriptors is left behind this new connection."""
    connection = transport.get_extra_info("socket")
    return limit is not None and connection is not None and connection.fileno() >= (limit - _kept(limit)) * 3 // 4


def _kept(limit: int) -> int:
    return min(KEPT, limit // 2)

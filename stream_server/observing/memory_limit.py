"""How much memory the system lets this process have, and how much of it slow clients may take."""

import logging
from pathlib import Path

log = logging.getLogger(__name__)

GROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
SHARE = 4
"""Of a limit, one part in so many is for slow clients; the rest is for the service and for those that keep up."""


def limit_bytes(groups: Path = GROUPS, membership: Path = MEMBERSHIP) -> int | None:
    """The smallest limit of the control groups that we are in, as containers and systemd set them; None for none.

    Source: Linux, Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    limits: list[int] = []
    for line in lines:
        _, _, rest = line.partition(":")
        kinds, _, path = rest.partition(":")
        if kinds and "memory" not in kinds.split(","):
            continue
        root, name = (groups / "memory", "memory.limit_in_bytes") if kinds else (groups, "memory.max")
        # In a container the path may be the host's, and then only the root of what is mounted here is ours.
        folder = root / path.strip("/")
        limits += [limit for each in (folder, *folder.parents) if (limit := _read(each / name)) is not None]
    return min(limits, default=None)


def outboxes_within(wanted: int, limit: int | None) -> int:
    """How many bytes may be held for all slow clients: what is wanted, or what the limit has room for, and says so."""
    if limit is None or wanted <= limit // SHARE:
        return wanted
    log.warning("outboxes_capped", extra={"wanted": wanted, "taken": limit // SHARE, "memory": limit})
    return limit // SHARE


def _read(file: Path) -> int | None:
    try:
        value = int(file.read_text())
    except (OSError, ValueError):  # no such group, or `max`
        return None
    return value if value < 1 << 60 else None  # the older groups say so that there is none

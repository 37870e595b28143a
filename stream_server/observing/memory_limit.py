"""Find the memory limit of this process, and the part of it that slow clients may take."""

import logging
from pathlib import Path

log = logging.getLogger(__name__)

GROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
SHARE = 4
"""One part in so many of a limit is for slow clients; the rest is for the service and for clients that keep up."""


def limit_bytes(groups: Path = GROUPS, membership: Path = MEMBERSHIP) -> int | None:
    """Return the smallest limit of our control groups, which containers and systemd set; None if there is none.

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
        # In a container the path may be that of the host. Then only the root of what is mounted here is ours.
        folder = root / path.strip("/")
        limits += [limit for each in (folder, *folder.parents) if (limit := _read(each / name)) is not None]
    return min(limits, default=None)


def outboxes_within(wanted: int, limit: int | None) -> int:
    """Return how many bytes may be held for all slow clients: `wanted`, or less if the limit has no room for it."""
    if limit is None or wanted <= limit // SHARE:
        return wanted
    log.warning("outboxes_capped", extra={"wanted": wanted, "taken": limit // SHARE, "memory": limit})
    return limit // SHARE


def _read(file: Path) -> int | None:
    try:
        value = int(file.read_text())
    except (OSError, ValueError):  # the group does not exist, or its limit is `max`
        return None
    return value if value < 1 << 60 else None  # cgroup v1 writes such a number for no limit

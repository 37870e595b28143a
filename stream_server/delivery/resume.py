"""Find what a client lacks that comes back with the position it has reached."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from feeds import topics
from stream_server.delivery.topic_history import TopicHistory
from stream_server.wire import messages
from stream_server.wire.messages import Frame

EARLIEST = "earliest"
_CURSOR = re.compile(r"([0-9a-z]{1,20})-([0-9]{1,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Cursor:
    """The position of a client, or the reason why it is not known."""

    seq: int | None
    reason: str | None

    @classmethod
    def read(cls, since: str | None, epoch: str, newest: int) -> "Cursor":
        """Read the position that a client gives; `newest` is the newest one of the epoch."""
        if since is None or since == "":
            return cls(None, "no_cursor")
        if since == EARLIEST:
            return cls(0, "no_cursor")
        match = _CURSOR.fullmatch(since)
        if match is None:
            return cls(None, "bad_cursor")
        if match[1] != epoch:
            return cls(None, "epoch")
        seq = int(match[2])
        return cls(None, "bad_cursor") if seq > newest else cls(seq, None)

    @property
    def or_start(self) -> int:
        """The position, or the one before all events if it is not known."""
        return self.seq or 0


def since(added: Iterable[TopicHistory], listens: Mapping[str, int], epoch: str, seq: int) -> list[Frame]:
    """Return what a client lacks that has seen everything up to `seq`, and values that were held back below that.

    A value that was held back gets the client's own position as its id, because an older id would take the client back
    there. `listens` holds the interval in ms of each topic.
    """
    frames: list[Frame] = []
    for topic in added:
        lacking = topic.since(seq)
        last, event = topic.last, topic.event
        if not lacking and last is not None and last.overtaken and event is not None and listens[topic.name]:
            lacking = [messages.update(event, f"{epoch}-{seq}", seq)]
        frames += lacking
    return frames


def first_after_gap(
    added: Sequence[TopicHistory], unheard: Iterable[str], cursor: Cursor, position: str, forgotten_at: int
) -> dict[str, str]:
    """Return the topics of which a log event may be missing, with the id at which each goes on.

    `unheard` are the topics without an event in this epoch, and forgotten ones.
    """
    firsts = {
        topic.name: topic.last.cursor if topic.last is not None else position
        for topic in added
        if cursor.seq is None or topic.snapshot_skips(cursor.seq)
    }
    if cursor.seq is None or cursor.seq <= forgotten_at:
        firsts |= dict.fromkeys(unheard, position)
    return {name: first for name, first in firsts.items() if topics.kind_of(name) != "state"}

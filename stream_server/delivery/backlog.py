"""What is held for a client that lags, until its transport has room. Gives frames; writes nothing.

Of each state topic only the newest value is held. Log events and answers are queued in order. Everything comes out in
id order, with a `conflated` message that counts the values that newer ones have replaced.

A paced client gets portions, and ids must rise: an id that is sent bars all lower ones. If each portion took the newest
values with the lowest ids, the topics that come last in each of a feed's bursts would never be sent. So topics take
turns. A topic whose turn it is may send the value that its newest one has just replaced (`passed`): what that bars has
been replaced, too.
"""

from collections.abc import Container, Iterable
from dataclasses import dataclass

from stream_server.wire import messages
from stream_server.wire.messages import Frame

Entry = tuple[int, Frame]
"""A place in the order, and the frame that is sent there."""


@dataclass(frozen=True, slots=True)
class Portion:
    """Frames to send at once; `merged` is the number of values that were replaced and are counted in them."""

    frames: list[Frame]
    merged: int


class Backlog:
    """The frames held for one client, with the order in which topics take turns."""

    __slots__ = ("bytes", "newest", "passed", "queue", "skipped", "turn_due")

    def __init__(self) -> None:
        self.newest: dict[str, Frame] = {}
        """The newest value of each topic; the topic that has waited longest for its turn comes first."""
        self.passed: dict[str, Frame] = {}
        """The value that the newest one has replaced, for a client whose topics take turns."""
        self.turn_due = False
        """Whether values have been replaced since the last turn."""
        self.queue: list[Entry] = []
        self.skipped: dict[str, int] = {}
        """Number of replaced values of each topic that no `conflated` message has counted yet."""
        self.bytes = 0

    def __len__(self) -> int:
        """Return the number of frames held."""
        return len(self.newest) + len(self.passed) + len(self.queue)

    def hold(self, frames: Iterable[Frame], *, in_turns: bool) -> None:
        """Keep state by its newest value and everything else in order. With `in_turns` replaced values wait, too."""
        for frame in frames:
            if frame.topic and not frame.log:
                old = self.newest.get(frame.topic)
                if old is not None and in_turns:
                    self._skip(self.passed.get(frame.topic))
                    self.passed[frame.topic] = old
                    self.turn_due = True
                else:
                    self._skip(old)
                self.newest[frame.topic] = frame
            else:
                self.queue.append((frame.seq, frame))
            self.bytes += len(frame.json)

    def hold_together(self, frames: Iterable[Frame], seq: int) -> None:
        """Keep the frames of one answer together at a place in the order: none of them is merged or moved."""
        for frame in frames:
            self.queue.append((seq, frame))
            self.bytes += len(frame.json)

    def keep_only(self, wanted: Container[str]) -> None:
        """Drop the held values of all topics but these."""
        gone = [frame for frame in (*self.newest.values(), *self.passed.values()) if frame.topic not in wanted]
        self.newest = {topic: frame for topic, frame in self.newest.items() if topic in wanted}
        self.passed = {topic: frame for topic, frame in self.passed.items() if topic in wanted}
        self.bytes -= sum(len(frame.json) for frame in gone)

    def clear(self) -> None:
        """Drop everything."""
        self.newest = {}
        self.passed = {}
        self.queue.clear()
        self.skipped = {}
        self.bytes = 0

    def take(self, most_bytes: int | None = None) -> Portion:
        """Take out what is held, in id order, followed by the count of what was merged.

        With a limit, take one portion of about that size: after new values the turn of some topics, then the newest.
        """
        newest = [(frame.seq, frame) for frame in self.newest.values()]
        entries = sorted([*newest, *self.queue], key=_place)
        if most_bytes is not None and sum(len(frame.json) for _, frame in entries) > most_bytes:
            if self.turn_due:
                self.turn_due = False
                entries = self._turn(entries, most_bytes)
            entries = entries[: _portion_length(entries, most_bytes)]
        self._remove(entries)
        frames = [frame for _, frame in entries]
        skipped = self._count_skipped(frames)
        if skipped:
            frames.append(messages.control("conflated", {"skipped": skipped}))
        return Portion(frames, sum(skipped.values()))

    def _turn(self, entries: list[Entry], most_bytes: int) -> list[Entry]:
        """Return the values of the topics whose turn it is, and those of all `entries` that they would bar."""
        turn: list[Frame] = []
        size = 0
        for topic, newest in self.newest.items():
            frame = self.passed.get(topic, newest)
            size += len(frame.json)
            if size > most_bytes and turn:
                break
            turn.append(frame)
        if not turn:
            return entries
        last = max(frame.seq for frame in turn)
        replaced = [(frame.seq, frame) for frame in turn if self.newest[frame.topic].seq > last]
        return sorted([*replaced, *(entry for entry in entries if entry[0] <= last)], key=_place)

    def _remove(self, entries: list[Entry]) -> None:
        """Remove entries that are about to be sent, and the replaced values that their ids bar."""
        queued = 0
        for _, frame in entries:
            self.bytes -= len(frame.json)
            if self.newest.get(frame.topic) is frame:
                del self.newest[frame.topic]
            elif self.passed.get(frame.topic) is frame:
                del self.passed[frame.topic]
                self.newest[frame.topic] = self.newest.pop(frame.topic)  # its next turn comes after everyone else's
            else:
                queued += 1
        del self.queue[:queued]
        if entries:
            for barred in [frame for frame in self.passed.values() if frame.seq <= entries[-1][0]]:
                self._skip(self.passed.pop(barred.topic))

    def _count_skipped(self, sent: Iterable[Frame]) -> dict[str, int]:
        """Return how many values were replaced, by topic, and count from zero again.

        While something is still held, only topics among those sent are counted: the list of all topics, repeated in
        each portion, would be larger than the values.
        """
        named = [frame.topic for frame in sent] if self.newest or self.queue else list(self.skipped)
        return {topic: self.skipped.pop(topic) for topic in named if topic in self.skipped}

    def _skip(self, frame: Frame | None) -> None:
        if frame is not None:
            self.skipped[frame.topic] = self.skipped.get(frame.topic, 0) + 1
            self.bytes -= len(frame.json)


def _place(entry: Entry) -> int:
    return entry[0]


def _portion_length(entries: list[Entry], most_bytes: int) -> int:
    """Return the number of entries in one portion: at least one, and never a part of an answer."""
    size = 0
    for count, (seq, frame) in enumerate(entries):
        size += len(frame.json)
        if size > most_bytes and count and seq != entries[count - 1][0]:
            return count
    return len(entries)

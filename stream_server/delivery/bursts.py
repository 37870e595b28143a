"""Collect what was published since the last round of writes, so that each group can pick its own.

An event is not handed to the groups that want it: with thousands of them that would hold up the loop. It is added to
a burst, and a group picks from the burst when its turn comes.
"""

from collections.abc import Mapping

from stream_server.wire.messages import Frame


class Numbers(dict[str, int]):
    """The number of each topic that has appeared. A topic that is forgotten gives its number to the next new one.

    It is a `dict` itself, because a burst looks up the number of every event.
    """

    def __init__(self) -> None:
        super().__init__()
        self.free: list[int] = []
        self.given = 0
        """Number of topics that have got a number so far."""

    @property
    def size(self) -> int:
        """One more than the highest number in use."""
        return len(self) + len(self.free)

    def give(self, topic: str) -> None:
        """Number a topic, if it has no number yet."""
        if topic not in self:
            self[topic] = self.free.pop() if self.free else len(self)
            self.given += 1

    def take_back(self, topic: str) -> None:
        """Free the number of a topic."""
        number = self.pop(topic, None)
        if number is not None:
            self.free.append(number)


class Burst:
    """What was published, in order. Places count from the start of all bursts.

    Topics have numbers in the order in which they appeared. A feed that publishes them in the same order again makes a
    `rising` burst: a group takes its frames from a table by number, without a search and without sorting.
    """

    __slots__ = (
        "began_at",
        "calm",
        "first",
        "frames",
        "highest",
        "looked_at",
        "newest",
        "numbers",
        "placed",
        "places",
        "rising",
        "table",
        "topics",
    )

    def __init__(self, first: int, numbers: Numbers) -> None:
        self.first = first
        self.began_at: float | None = None
        """When the first of what is written with the burst was published; None while there is nothing."""
        self.numbers = numbers
        self.frames: list[Frame] = []
        self.topics: list[str] = []
        self.rising = True
        self.highest = -1
        self.places: dict[str, list[int]] = {}
        self.placed = 0
        self.table: list[bytes] = []
        self.newest: dict[str, Frame] = {}
        self.calm = True
        self.looked_at = 0

    @property
    def end(self) -> int:
        """The place after the last one."""
        return self.first + len(self.frames)

    def begin(self, now: float) -> None:
        """Note that the first of what is written with the burst is published now."""
        self.began_at = now

    def add(self, topic: str, frame: Frame) -> None:
        """Add a frame for all that listen to a topic."""
        number = self.numbers.get(topic, -1)
        self.rising = self.rising and number > self.highest
        self.highest = number
        self.frames.append(frame)
        self.topics.append(topic)

    def wanted(self, listens: Mapping[str, int], place: int) -> list[Frame]:
        """Return the frames from a place on whose topics somebody listens to, in order."""
        start = max(0, place - self.first)
        frames = self.frames
        if start or len(frames) <= 2 * len(listens):
            published = zip(self.topics[start:], frames[start:], strict=True)
            return [frame for topic, frame in published if topic in listens]
        places = self._places()
        return [frames[each] for each in sorted([each for topic in listens for each in places.get(topic, ())])]

    def _places(self) -> dict[str, list[int]]:
        """Return where in the frames each topic is."""
        for index in range(self.placed, len(self.topics)):
            self.places.setdefault(self.topics[index], []).append(index)
        self.placed = len(self.topics)
        return self.places

    def newest_values(self) -> dict[str, Frame] | None:
        """Return the newest value of each topic; None if there is anything that may not be merged or held back."""
        if self.looked_at < len(self.frames):
            self.looked_at = len(self.frames)
            self.newest = dict(zip(self.topics, self.frames, strict=True))
            self.calm = True
            for frame in self.frames:  # bursts of one frame are frequent, and `all` would take longer
                if frame.log or not frame.topic:
                    self.calm = False
                    break
        return self.newest if self.calm else None

    def by_number(self) -> list[bytes]:
        """Return the WebSocket frame of each topic by its number. Only for a rising burst to which nothing is added."""
        if len(self.table) < self.numbers.size:
            self.table = [b""] * self.numbers.size
            for topic, frame in zip(self.topics, self.frames, strict=True):
                self.table[self.numbers[topic]] = frame.websocket()
        return self.table

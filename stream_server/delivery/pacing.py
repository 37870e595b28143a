"""Pacing: a client that reads slowly gets its next portion when its pong shows that it has read the last one.

An empty buffer on our side proves little: the peer's kernel takes hundreds of kilobytes for a client that has not read
them, and values grow old there. So a paced client is pinged after each portion, and the time until its pong decides
how large the next portion may be.
"""

LEAST_PORTION_BYTES = 8 * 1024
MOST_PORTION_BYTES = 64 * 1024
PORTION_S = 0.25
"""A portion that takes longer to read halves the next one, and one that takes less than half of it lets it grow."""

PACE_AGAIN_S = 30.0
"""A client that lags twice within this time reads slowly; once may be a hiccup."""
SLOW_PONG_S = 1.0
QUICK_PONG_S = 0.25
QUICK_PONGS = 20
"""Number of quick pongs in a row that end the pacing."""


class Pacer:
    """Decides for one client whether it is paced, and how large its portions are."""

    __slots__ = ("asked_at", "best_pong_s", "paced", "portion_bytes", "quick_pongs")

    def __init__(self) -> None:
        self.paced = False
        self.portion_bytes = LEAST_PORTION_BYTES
        self.asked_at: float | None = None
        """When the ping went out that has no pong yet, in monotonic seconds."""
        self.quick_pongs = 0
        self.best_pong_s = float("inf")

    @property
    def is_waiting(self) -> bool:
        """Whether a pong is still to come."""
        return self.asked_at is not None

    def begin(self) -> None:
        """Pace the client from now on."""
        self.paced = True

    def ask(self, now: float) -> None:
        """Note that a ping goes out now, to learn when the client has read all that was sent before it."""
        self.asked_at = now

    def forget(self) -> None:
        """Expect no pong any more."""
        self.asked_at = None

    def answered(self, now: float) -> bool:
        """Take a pong; return False if none was expected. A run of quick ones ends the pacing."""
        if self.asked_at is None:
            return False
        took_s = now - self.asked_at
        self.asked_at = None
        # The quickest pong shows how long the way alone takes: a distant client is not a slow one.
        self.best_pong_s = min(self.best_pong_s, took_s)
        reading_s = took_s - self.best_pong_s
        if reading_s > PORTION_S:
            self.portion_bytes = max(LEAST_PORTION_BYTES, self.portion_bytes // 2)
        elif reading_s < PORTION_S / 2:
            self.portion_bytes = min(MOST_PORTION_BYTES, self.portion_bytes + LEAST_PORTION_BYTES)
        self.quick_pongs = self.quick_pongs + 1 if took_s < QUICK_PONG_S else 0
        if self.quick_pongs >= QUICK_PONGS:
            self.paced, self.quick_pongs = False, 0
        return True

"""Find streams that have died on a living connection: learn how often each one sends, and judge on evidence only.

Pure. A market may rest, so silence alone proves nothing: it makes a stream *suspect*, and the feed asks elsewhere
whether anything happened. Evidence is a trade that the stream should have sent: another stream of the same market sent
it, or REST has it. A stream that still owes it after the longest time between two of its frames is *dead*.

With `c` the cadence of a stream, it is suspect after 1.5 c of silence, and dead 1.25 of its shortest cadences after
the first evidence: before 3 c, if the answer to the question comes within a quarter. A frame with nothing new in it,
such as the same one again, counts as silence.
"""

from dataclasses import dataclass

SUSPECT_AFTER = 1.5
GRACE = 1.25
LONGEST_CADENCE_S = 300.0
MOST_DOUBT = 64


@dataclass(slots=True)
class StreamHealth:
    """What is known about one stream. Times are monotonic seconds, except `event_ms`."""

    subject: str
    """The market of the stream; streams of one market are evidence against each other."""
    shortest_s: float
    longest_s: float
    """Longest time between two questions about the stream, however often it proved to be quiet."""
    cadence_s: float
    since: float
    """Time of its last news, or of its confirmation."""
    check_at: float
    event_ms: int
    """Event time up to which the stream has delivered."""
    mark: tuple[int, ...] = ()
    """Grows with what the stream delivers; a frame whose mark has not grown isn't news."""
    known: tuple[int, ...] | None = None
    """The mark up to which the stream owes nothing; None before it could be compared with another source."""
    heard: bool = False
    doubt: int = 1
    """Factor of the patience with a stream that proved to be quiet, or that could not be cured."""
    owed_since: float | None = None
    renewed: bool = False
    """Whether the stream was found dead and treated, and has sent nothing since."""


class Watchdog:
    """Follows the streams that the exchange has confirmed."""

    def __init__(self) -> None:
        self.streams: dict[str, StreamHealth] = {}
        self.of_subject: dict[str, set[str]] = {}
        self.trades: dict[str, tuple[float, float]] = {}
        """By subject: its last price and volume in the tickers."""
        self.newest_ms = 0
        """The newest event time of all streams."""

    # --- what is watched ---

    def follow(self, stream: str, subject: str, shortest_s: float, longest_s: float, now: float) -> None:
        """Follow a stream that the exchange sends from now on; what it owed before is forgotten."""
        health = self.streams.get(stream)
        if health is None:
            health = StreamHealth(subject, shortest_s, longest_s, shortest_s, now, now, self.newest_ms)
            self.streams[stream] = health
            self.of_subject.setdefault(subject, set()).add(stream)
        health.event_ms = max(health.event_ms, self.newest_ms)
        health.since = now
        health.known = None
        health.heard = False
        health.owed_since = None
        health.check_at = now + self._patience_s(health)

    def forget(self, stream: str) -> None:
        """Forget a stream that is not wanted any more."""
        health = self.streams.pop(stream, None)
        if health is not None:
            self.of_subject[health.subject].discard(stream)
            if not self.of_subject[health.subject]:
                del self.of_subject[health.subject]
                self.trades.pop(health.subject, None)

    # --- what the streams bring ---

    def heard(self, stream: str, mark: tuple[int, ...], event_ms: int, now: float) -> bool:
        """Take a frame of a stream. Returns whether there is anything new in it."""
        self.newest_ms = max(self.newest_ms, event_ms)
        health = self.streams.get(stream)
        if health is None:
            return True
        if mark <= health.mark:
            return False
        health.mark = mark
        health.known = mark if health.known is None else max(health.known, mark)
        health.event_ms = max(health.event_ms, event_ms)
        if health.heard:
            # Quick to grow and slow to shrink, so that the longest usual silence of a stream isn't suspect. It grows
            # twofold at most, so that one stall does not teach patience.
            gap_s = min(now - health.since, 2 * health.cadence_s, LONGEST_CADENCE_S)
            health.cadence_s = max(health.shortest_s, gap_s, 0.9 * health.cadence_s + 0.1 * gap_s)
        health.heard = True
        health.since = now
        health.doubt = 1
        health.owed_since = None
        health.renewed = False
        health.check_at = now + self._patience_s(health)
        return True

    def ticked(self, subject: str, price: float, volume: float, event_ms: int, now: float) -> None:
        """Take a market's statistics, which come when they change: only a new price or more volume means a trade.

        In a window of 24 h the volume also changes by the trades that leave it.
        """
        if subject in self.of_subject:
            last = self.trades.get(subject)
            self.trades[subject] = (price, volume)
            if last is not None and (price != last[0] or volume > last[1]):
                self.traded(subject, event_ms, now)

    def traded(self, subject: str, event_ms: int, now: float) -> None:
        """Note a trade shortly before `event_ms`. A stream of its market that stopped well before that owes it."""
        for stream in self.of_subject.get(subject, ()):
            health = self.streams[stream]
            if not health.event_ms:
                health.event_ms = event_ms
            elif event_ms - health.event_ms > GRACE * health.shortest_s * 1000 and health.owed_since is None:
                health.owed_since = now

    # --- what other sources answer ---

    def known(self, stream: str) -> tuple[int, ...] | None:
        """Return the mark up to which a stream has delivered; None if nothing is known since it was confirmed."""
        health = self.streams.get(stream)
        return health.known if health is not None else None

    def may_know(self, stream: str, mark: tuple[int, ...]) -> None:
        """Expect of a stream that has sent nothing yet only what comes after this mark of another source."""
        health = self.streams.get(stream)
        if health is not None and health.known is None:
            health.known = mark

    def missed(self, stream: str, now: float) -> None:
        """Note that a stream has kept back what happened."""
        health = self.streams.get(stream)
        if health is not None and health.owed_since is None:
            health.owed_since = now

    def quiet(self, stream: str, now: float) -> None:
        """Ask later again about a stream and its siblings: nothing has happened that they should have sent."""
        health = self.streams.get(stream)
        for sibling in self.of_subject.get(health.subject, ()) if health is not None else ():
            each = self.streams[sibling]
            if each.check_at <= now:
                self._doubt(each, now)

    def unsure(self, stream: str, now: float) -> None:
        """Ask again soon about a stream: there was no answer yet."""
        health = self.streams.get(stream)
        if health is not None:
            health.check_at = now + health.cadence_s / 2

    def treated(self, stream: str, now: float) -> None:
        """Give a dead stream that was treated time to recover, more each time."""
        health = self.streams.get(stream)
        if health is not None:
            health.renewed = True
            health.owed_since = None
            health.since = now
            self._doubt(health, now)

    # --- judgement ---

    def suspects(self, now: float) -> list[str]:
        """Return the streams to ask about, one of each market, the longest silent first."""
        late = [
            (health.since, stream)
            for stream, health in self.streams.items()
            if health.check_at <= now and health.owed_since is None
        ]
        chosen: dict[str, str] = {}
        for _, stream in sorted(late):
            chosen.setdefault(self.streams[stream].subject, stream)
        return list(chosen.values())

    def dead(self, now: float) -> list[str]:
        """Return the streams that owe something for longer than they may."""
        return [
            stream
            for stream, health in self.streams.items()
            if health.owed_since is not None and now - health.owed_since >= GRACE * health.shortest_s
        ]

    def is_lively(self, stream: str, within_s: float, now: float) -> bool:
        """Return whether a stream will send something within that time, by its cadence; a dead one will not."""
        health = self.streams.get(stream)
        return (
            health is not None
            and health.heard
            and not health.renewed
            and SUSPECT_AFTER * health.cadence_s <= within_s
            and now - health.since < SUSPECT_AFTER * health.cadence_s
        )

    def silent_s(self, stream: str, now: float) -> float:
        """Return for how long a stream has sent nothing new; 0 for one that is not followed."""
        health = self.streams.get(stream)
        return now - health.since if health is not None else 0.0

    def _doubt(self, health: StreamHealth, now: float) -> None:
        health.doubt = min(2 * health.doubt, MOST_DOUBT)
        health.check_at = now + self._patience_s(health)

    def _patience_s(self, health: StreamHealth) -> float:
        return min(
            SUSPECT_AFTER * health.cadence_s * health.doubt, max(health.longest_s, SUSPECT_AFTER * health.cadence_s)
        )

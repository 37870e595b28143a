"""Which streams have died on a connection that lives: learns how often each speaks, and judges on evidence only.

Pure. A market may rest, so silence alone convicts nobody: it makes a stream *suspect*, and the feed asks elsewhere
whether anything happened. Evidence is a trade that the stream should have told: another stream of the same market told
it, or REST did. A stream that still owes it after the time in which it speaks at the latest is *dead*.

With `c` the cadence of a stream, it is suspect after 1.5 c of silence, and dead 1.25 of its shortest cadences after
the first evidence: before 3 c, if the answer to the question comes within a quarter. A frame that tells nothing new,
such as the same one again, is silence.
"""

from dataclasses import dataclass

SUSPECT_AFTER = 1.5
GRACE = 1.25
LONGEST_CADENCE_S = 300.0
MOST_DOUBT = 64


@dataclass(slots=True)
class StreamHealth:
    """What is known of one stream's life. Times are monotonic seconds, but for `event_ms`."""

    subject: str
    """The market it tells of; streams of one market are evidence against each other."""
    shortest_s: float
    longest_s: float
    """So often it is worth a question, however often it has proved quiet."""
    cadence_s: float
    since: float
    """When it said its last news, or was confirmed."""
    check_at: float
    event_ms: int
    """It has told what happened up to here."""
    mark: tuple[int, ...] = ()
    """Grows with what the stream tells; a frame whose mark has not grown is no news."""
    known: tuple[int, ...] | None = None
    """What the stream had told, or need not tell any more, when it was compared with others; None before."""
    heard: bool = False
    doubt: int = 1
    """By how much more patiently a stream is suspected that has proved quiet, or could not be cured."""
    owed_since: float | None = None
    renewed: bool = False
    """It was found dead, something was done about it, and it has said nothing since."""


class Watchdog:
    """Follows the streams that the exchange has confirmed."""

    def __init__(self) -> None:
        self.streams: dict[str, StreamHealth] = {}
        self.of_subject: dict[str, set[str]] = {}
        self.trades: dict[str, tuple[float, float]] = {}
        """By subject: its last price and volume, by the tickers."""
        self.newest_ms = 0
        """The newest event time that any stream has told."""

    # --- what is watched ---

    def follow(self, stream: str, subject: str, shortest_s: float, longest_s: float, now: float) -> None:
        """The exchange sends it from now on; what it owed before is forgotten."""
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
        """It is not wanted any more."""
        health = self.streams.pop(stream, None)
        if health is not None:
            self.of_subject[health.subject].discard(stream)
            if not self.of_subject[health.subject]:
                del self.of_subject[health.subject]
                self.trades.pop(health.subject, None)

    # --- what it hears ---

    def heard(self, stream: str, mark: tuple[int, ...], event_ms: int, now: float) -> bool:
        """Take a frame of a stream; whether it told anything new."""
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
            # Quick to grow and slow to shrink, so that a stream's longest usual silence is no news; but no faster than
            # twofold, so that one stall does not teach patience.
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

        In a window of 24 h the volume also changes by what leaves it.
        """
        if subject in self.of_subject:
            last = self.trades.get(subject)
            self.trades[subject] = (price, volume)
            if last is not None and (price != last[0] or volume > last[1]):
                self.traded(subject, event_ms, now)

    def traded(self, subject: str, event_ms: int, now: float) -> None:
        """There was a trade shortly before `event_ms`: whoever has told nothing since well before owes it."""
        for stream in self.of_subject.get(subject, ()):
            health = self.streams[stream]
            if not health.event_ms:
                health.event_ms = event_ms
            elif event_ms - health.event_ms > GRACE * health.shortest_s * 1000 and health.owed_since is None:
                health.owed_since = now

    # --- what it was told when it asked ---

    def known(self, stream: str) -> tuple[int, ...] | None:
        """What a stream has told so far, for comparison; None if nothing is known since it was confirmed."""
        health = self.streams.get(stream)
        return health.known if health is not None else None

    def may_know(self, stream: str, mark: tuple[int, ...]) -> None:
        """Another source has told this; from a stream that has not spoken yet only what comes after is expected."""
        health = self.streams.get(stream)
        if health is not None and health.known is None:
            health.known = mark

    def missed(self, stream: str, now: float) -> None:
        """It has kept back what happened."""
        health = self.streams.get(stream)
        if health is not None and health.owed_since is None:
            health.owed_since = now

    def quiet(self, stream: str, now: float) -> None:
        """Nothing has happened that it or its siblings should have told: it is not asked about again for longer."""
        health = self.streams.get(stream)
        for sibling in self.of_subject.get(health.subject, ()) if health is not None else ():
            each = self.streams[sibling]
            if each.check_at <= now:
                self._doubt(each, now)

    def unsure(self, stream: str, now: float) -> None:
        """The question found no answer yet."""
        health = self.streams.get(stream)
        if health is not None:
            health.check_at = now + health.cadence_s / 2

    def treated(self, stream: str, now: float) -> None:
        """Something was done about a dead stream; give it time, each time more."""
        health = self.streams.get(stream)
        if health is not None:
            health.renewed = True
            health.owed_since = None
            health.since = now
            self._doubt(health, now)

    # --- how it judges ---

    def suspects(self, now: float) -> list[str]:
        """Streams that are worth a question, one of each market, the longest silent first."""
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
        """Streams that owe something for longer than they may."""
        return [
            stream
            for stream, health in self.streams.items()
            if health.owed_since is not None and now - health.owed_since >= GRACE * health.shortest_s
        ]

    def is_lively(self, stream: str, within_s: float, now: float) -> bool:
        """Whether a stream is going to speak within that time, by all that is known of it; a dead one is not."""
        health = self.streams.get(stream)
        return (
            health is not None
            and health.heard
            and not health.renewed
            and SUSPECT_AFTER * health.cadence_s <= within_s
            and now - health.since < SUSPECT_AFTER * health.cadence_s
        )

    def silent_s(self, stream: str, now: float) -> float:
        """How long a stream has told nothing new; 0 for one that is not followed."""
        health = self.streams.get(stream)
        return now - health.since if health is not None else 0.0

    def _doubt(self, health: StreamHealth, now: float) -> None:
        health.doubt = min(2 * health.doubt, MOST_DOUBT)
        health.check_at = now + self._patience_s(health)

    def _patience_s(self, health: StreamHealth) -> float:
        return min(
            SUSPECT_AFTER * health.cadence_s * health.doubt, max(health.longest_s, SUSPECT_AFTER * health.cadence_s)
        )

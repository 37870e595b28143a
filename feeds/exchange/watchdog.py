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
class Pulse:
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
        self.pulses: dict[str, Pulse] = {}
        self.of_subject: dict[str, set[str]] = {}
        self.trades: dict[str, tuple[float, float]] = {}
        """By subject: its last price and volume, by the tickers."""
        self.newest_ms = 0
        """The newest event time that any stream has told."""

    # --- what is watched ---

    def follow(self, stream: str, subject: str, shortest_s: float, longest_s: float, now: float) -> None:
        """The exchange sends it from now on; what it owed before is forgotten."""
        pulse = self.pulses.get(stream)
        if pulse is None:
            pulse = Pulse(subject, shortest_s, longest_s, shortest_s, now, now, self.newest_ms)
            self.pulses[stream] = pulse
            self.of_subject.setdefault(subject, set()).add(stream)
        pulse.event_ms = max(pulse.event_ms, self.newest_ms)
        pulse.since = now
        pulse.known = None
        pulse.heard = False
        pulse.owed_since = None
        pulse.check_at = now + self._patience_s(pulse)

    def forget(self, stream: str) -> None:
        """It is not wanted any more."""
        pulse = self.pulses.pop(stream, None)
        if pulse is not None:
            self.of_subject[pulse.subject].discard(stream)
            if not self.of_subject[pulse.subject]:
                del self.of_subject[pulse.subject]
                self.trades.pop(pulse.subject, None)

    # --- what it hears ---

    def heard(self, stream: str, mark: tuple[int, ...], event_ms: int, now: float) -> bool:
        """Take a frame of a stream; whether it told anything new."""
        self.newest_ms = max(self.newest_ms, event_ms)
        pulse = self.pulses.get(stream)
        if pulse is None:
            return True
        if mark <= pulse.mark:
            return False
        pulse.mark = mark
        pulse.known = mark if pulse.known is None else max(pulse.known, mark)
        pulse.event_ms = max(pulse.event_ms, event_ms)
        if pulse.heard:
            # Quick to grow and slow to shrink, so that a stream's longest usual silence is no news; but no faster than
            # twofold, so that one stall does not teach patience.
            gap_s = min(now - pulse.since, 2 * pulse.cadence_s, LONGEST_CADENCE_S)
            pulse.cadence_s = max(pulse.shortest_s, gap_s, 0.9 * pulse.cadence_s + 0.1 * gap_s)
        pulse.heard = True
        pulse.since = now
        pulse.doubt = 1
        pulse.owed_since = None
        pulse.renewed = False
        pulse.check_at = now + self._patience_s(pulse)
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
            pulse = self.pulses[stream]
            if not pulse.event_ms:
                pulse.event_ms = event_ms
            elif event_ms - pulse.event_ms > GRACE * pulse.shortest_s * 1000 and pulse.owed_since is None:
                pulse.owed_since = now

    # --- what it was told when it asked ---

    def known(self, stream: str) -> tuple[int, ...] | None:
        """What a stream has told so far, for comparison; None if nothing is known since it was confirmed."""
        pulse = self.pulses.get(stream)
        return pulse.known if pulse is not None else None

    def may_know(self, stream: str, mark: tuple[int, ...]) -> None:
        """Another source has told this; from a stream that has not spoken yet only what comes after is expected."""
        pulse = self.pulses.get(stream)
        if pulse is not None and pulse.known is None:
            pulse.known = mark

    def missed(self, stream: str, now: float) -> None:
        """It has kept back what happened."""
        pulse = self.pulses.get(stream)
        if pulse is not None and pulse.owed_since is None:
            pulse.owed_since = now

    def quiet(self, stream: str, now: float) -> None:
        """Nothing has happened that it or its siblings should have told: it is not asked about again for longer."""
        pulse = self.pulses.get(stream)
        for sibling in self.of_subject.get(pulse.subject, ()) if pulse is not None else ():
            each = self.pulses[sibling]
            if each.check_at <= now:
                self._doubt(each, now)

    def unsure(self, stream: str, now: float) -> None:
        """The question found no answer yet."""
        pulse = self.pulses.get(stream)
        if pulse is not None:
            pulse.check_at = now + pulse.cadence_s / 2

    def treated(self, stream: str, now: float) -> None:
        """Something was done about a dead stream; give it time, each time more."""
        pulse = self.pulses.get(stream)
        if pulse is not None:
            pulse.renewed = True
            pulse.owed_since = None
            pulse.since = now
            self._doubt(pulse, now)

    # --- how it judges ---

    def suspects(self, now: float) -> list[str]:
        """Streams that are worth a question, one of each market, the longest silent first."""
        late = [
            (pulse.since, stream)
            for stream, pulse in self.pulses.items()
            if pulse.check_at <= now and pulse.owed_since is None
        ]
        chosen: dict[str, str] = {}
        for _, stream in sorted(late):
            chosen.setdefault(self.pulses[stream].subject, stream)
        return list(chosen.values())

    def dead(self, now: float) -> list[str]:
        """Streams that owe something for longer than they may."""
        return [
            stream
            for stream, pulse in self.pulses.items()
            if pulse.owed_since is not None and now - pulse.owed_since >= GRACE * pulse.shortest_s
        ]

    def is_lively(self, stream: str, within_s: float, now: float) -> bool:
        """Whether a stream is going to speak within that time, by all that is known of it; a dead one is not."""
        pulse = self.pulses.get(stream)
        return (
            pulse is not None
            and pulse.heard
            and not pulse.renewed
            and SUSPECT_AFTER * pulse.cadence_s <= within_s
            and now - pulse.since < SUSPECT_AFTER * pulse.cadence_s
        )

    def silent_s(self, stream: str, now: float) -> float:
        """How long a stream has told nothing new; 0 for one that is not followed."""
        pulse = self.pulses.get(stream)
        return now - pulse.since if pulse is not None else 0.0

    def _doubt(self, pulse: Pulse, now: float) -> None:
        pulse.doubt = min(2 * pulse.doubt, MOST_DOUBT)
        pulse.check_at = now + self._patience_s(pulse)

    def _patience_s(self, pulse: Pulse) -> float:
        return min(SUSPECT_AFTER * pulse.cadence_s * pulse.doubt, max(pulse.longest_s, SUSPECT_AFTER * pulse.cadence_s))

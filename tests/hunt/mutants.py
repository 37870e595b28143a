"""Break the hub on purpose, to prove that the programs find such faults. Each breakage is a small edit of its source.

Each runs in a copy of the tree until a program finds it or its share of the time is over. An edit that does not apply
exactly once, because the source has changed, is an error: write it again for the new source.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.hunt import programs

ROOT = Path(__file__).resolve().parent.parent.parent
PARTS = ("stream_server", "feeds", "orchestrator", "tests", "static", "pyproject.toml")
LEAST_S = 20.0


@dataclass(frozen=True, slots=True)
class Mutant:
    """One edit: `before` becomes `after` in a file. `item` is the line of issue 10 that it brings back, if any."""

    name: str
    file: str
    before: str
    after: str
    item: str = ""
    more: tuple[tuple[str, str], ...] = ()
    """Further edits of the same file, where two guards hold the same rule."""
    profile: str = ""
    """The kind of programs that reach it; empty for all kinds."""
    equivalent: str = ""
    """Why no client can see the edit, if none can."""

    def apply(self, tree: Path) -> None:
        """Break a tree. Raises ValueError if the source has changed."""
        path = tree / "stream_server" / self.file
        path.write_text(self.broken(path.read_text(encoding="utf-8")), encoding="utf-8")

    def broken(self, text: str) -> str:
        """Return the text of the file with the edit. Raises ValueError if it does not apply exactly once."""
        for before, after in ((self.before, self.after), *self.more):
            found = text.count(before)
            if found != 1:
                raise ValueError(f"mutant {self.name}: its text is {found} times in {self.file}, not once")
            text = text.replace(before, after)
        return text


MUTANTS = (
    Mutant(
        "a throttled group picks without its interval",
        "delivery/throttling.py",
        "            elif interval_ms := self.listens[frame.topic]:\n                self.hold(frame, interval_ms)\n",
        "            elif (interval_ms := self.listens[frame.topic]) and len(self.members) > 1:\n"
        "                self.hold(frame, interval_ms)\n",
        "1",
    ),
    Mutant(
        "one interval of a mixed selection is not asked",
        "delivery/group.py",
        "if listens.get(name, interval_ms) >= interval_ms:",
        "if listens.get(name, interval_ms) <= interval_ms:",
        "1",
    ),
    Mutant(
        "a write contains only what a lost peer raises",
        "delivery/deliveries.py",
        "                except Exception as error:",
        "                except LookupError as error:",
        "3",
    ),
    Mutant(
        "nobody who is blamed is ended", "delivery/faults.py", "            self.end(outbox)", "            pass", "3"
    ),
    Mutant(
        "an interrupted delivery takes the place of the one before",
        "delivery/deliveries.py",
        "            self.unfinished.append(delivery)",
        "            self.unfinished.clear()\n            self.unfinished.append(delivery)",
        "5",
    ),
    Mutant(
        "an interrupted delivery is forgotten when its group changes",
        "delivery/deliveries.py",
        "            self._deliver(delivery, ALL_WRITES)\n            self.unfinished.remove(delivery)",
        "            self.unfinished.remove(delivery)",
        "5",
    ),
    Mutant(
        "patience is measured while nothing is owed",
        "delivery/outbox.py",
        "        if owes_nothing or buffered < self.last_buffered:",
        "        if buffered < self.last_buffered:",
        "6",
    ),
    Mutant(
        "a pong of a client that has left raises",
        "delivery/members.py",
        "        if outbox in self.by_outbox:\n            self.laggards.answered(outbox)",
        "        if self.by_outbox[outbox] is not None:\n            self.laggards.answered(outbox)",
        "7",
    ),
    Mutant(
        "positions pass over what is held when a snapshot is given",
        "delivery/session.py",
        "        self.hub.members.let_out(self.outbox)\n",
        "",
        "10",
        profile="throttled",
    ),
    Mutant(
        "what was held back is sent under its old id",
        "delivery/resume.py",
        'lacking = [messages.update(event, f"{epoch}-{seq}", seq)]',
        "lacking = [last]",
        "10",
    ),
    Mutant(
        "what was held back is not sent on a resume",
        "delivery/resume.py",
        "last is not None and last.overtaken and event",
        "last is not None and last.log and event",
        "10",
    ),
    Mutant(
        "a snapshot says what was fresh a while ago",
        "delivery/hub.py",
        'that have a value, by id, with their freshness brought up to date."""\n        self.expire()\n',
        'that have a value, by id, with their freshness brought up to date."""\n',
        "11",
    ),
    Mutant(
        "an early timer lets out at once, and beats again",
        "delivery/beats.py",
        "        if last is not None and number <= last:\n            number = last + 1\n",
        "",
        "9",
        (("self.heap[0].due <= now + SAME_TIME_S:", "self.heap[0].due <= now + 0.001:"),),
        profile="throttled",
    ),
    Mutant(
        "each event adds a beat",
        "delivery/beats.py",
        "        if interval_ms in beats:\n            return\n",
        "",
        "8",
        (("        self._remove(group, beat.interval_ms)\n", "        self.to_come.pop(group, None)\n"),),
        profile="memory",
    ),
    Mutant(
        "beats outlive their group",
        "delivery/beats.py",
        "            beat.die()\n            self.dead += 1",
        "            pass",
        "8",
        (("        self._remove(group, beat.interval_ms)\n", "        self.to_come.pop(group, None)\n"),),
        profile="memory",
    ),
    Mutant(
        "timers gather",
        "delivery/beats.py",
        "if not self.wakeups or min(self.wakeups) > now + delay_s + SAME_TIME_S:",
        "if True:",
        "8",
        profile="memory",
    ),
    Mutant(
        "a newcomer gets what its snapshot had",
        "delivery/deliveries.py",
        "if not frame.topic or frame.seq > seen]",
        "if not frame.topic or frame.seq > 0]",
    ),
    Mutant(
        "a newcomer is taken for any other member",
        "delivery/deliveries.py",
        "        if newcomers:\n            aside",
        "        if len(newcomers) > 1:\n            aside",
    ),
    Mutant(
        "newcomers stay newcomers",
        "delivery/group.py",
        "            self.newcomers.clear()",
        "            pass",
        equivalent="what is published after a newcomer joined has a higher number than it has seen, so it gets all",
    ),
    Mutant(
        "the only member has no pending",
        "delivery/picking.py",
        "or self.pending or self.place > burst.first",
        "or self.place > burst.first",
        profile="fast",
    ),
    Mutant(
        "a group that joined late gets the whole burst",
        "delivery/picking.py",
        "or self.pending or self.place > burst.first",
        "or self.pending",
        profile="fast",
    ),
    Mutant(
        "every burst rises",
        "delivery/bursts.py",
        "self.rising = self.rising and number > self.highest",
        "self.rising = self.rising and number >= 0",
    ),
    Mutant(
        "a burst rises that repeats a topic",
        "delivery/bursts.py",
        "self.rising = self.rising and number > self.highest",
        "self.rising = self.rising and number >= self.highest",
    ),
    Mutant(
        "a picker is kept when a topic appears",
        "delivery/picking.py",
        "        self.picker = None\n        return True",
        "        return True",
        profile="fast",
    ),
    Mutant(
        "a log event overtakes what is held",
        "delivery/throttling.py",
        "                self.release()  # what may not wait must not overtake lower ids either\n",
        "",
    ),
    Mutant(
        "what is held goes out unsorted",
        "delivery/throttling.py",
        "        self.pending += sorted(frames, key=_seq)",
        "        self.pending += reversed(sorted(frames, key=_seq))",
    ),
    Mutant(
        "log events count as values in a burst",
        "delivery/bursts.py",
        "if frame.log or not frame.topic:\n                    self.calm",
        "if not frame.topic:\n                    self.calm",
    ),
    Mutant(
        "of the places of a burst the last is left out",
        "delivery/bursts.py",
        "        self.placed = len(self.topics)\n        return",
        "        self.placed = len(self.topics) - 1\n        return",
    ),
    Mutant(
        "a burst starts a place too late",
        "delivery/bursts.py",
        "start = max(0, place - self.first)",
        "start = max(0, place - self.first + (place > self.first))",
    ),
    Mutant(
        "a turn ends a round",
        "delivery/rounds.py",
        "        if not self.deliveries.unfinished and not self.due:\n",
        "        if not self.deliveries.unfinished:\n",
    ),
    Mutant(
        "an unfinished delivery does not ask for a turn",
        "delivery/rounds.py",
        "            if self.deliveries.unfinished or self.due or self.dirty",
        "            if self.due or self.dirty",
    ),
    Mutant(
        "a round forgets who has something of its own",
        "delivery/rounds.py",
        "self.due, self.dirty = self.dirty | self.groups.wanting(self.round), {}",
        "self.due, self.dirty = dict(self.groups.wanting(self.round)), {}",
    ),
    Mutant(
        "a member that left late is not settled",
        "delivery/members.py",
        "        self.rounds.deliver_now(group)\n        group.join(outbox, self.order.seq)",
        "        group.join(outbox, self.order.seq)",
    ),
    Mutant(
        "what was held is lost with the selection",
        "delivery/members.py",
        "        self.laggards.send_or_hold(outbox, wanted)\n        return group",
        "        return group",
        profile="throttled",
    ),
    Mutant(
        "an answer overtakes what came before",
        "delivery/members.py",
        "            self.rounds.deliver_now(member.group)\n        self.laggards.send_or_hold",
        "            pass\n        self.laggards.send_or_hold",
        profile="mixed",
    ),
    Mutant(
        "a resume begins one too early",
        "delivery/topic_history.py",
        "frames = [frame for frame in self.ring if frame.seq > seq]",
        "frames = [frame for frame in self.ring if frame.seq >= seq]",
    ),
    Mutant(
        "a resume does not know of what was evicted",
        "delivery/topic_history.py",
        "            self.evicted = self.ring[0].seq",
        "            self.evicted = 0",
    ),
    Mutant(
        "what was merged is miscounted",
        "delivery/backlog.py",
        "self.skipped[frame.topic] = self.skipped.get(frame.topic, 0) + 1",
        "self.skipped[frame.topic] = 1",
        profile="patience",
    ),
    Mutant(
        "a laggard's values are not sorted",
        "delivery/backlog.py",
        "entries = sorted([*newest, *self.queue], key=_place)",
        "entries = [*newest, *self.queue]",
    ),
    Mutant(
        "a paced client's turns bar nothing",
        "delivery/backlog.py",
        "        replaced = [(frame.seq, frame) for frame in turn if self.newest[frame.topic].seq > last]",
        "        replaced = [(frame.seq, frame) for frame in turn if self.newest[frame.topic].seq >= last]",
        profile="patience",
    ),
    Mutant(
        "old values are shown as fresh",
        "delivery/freshness.py",
        "                if now - topic.updated_at < ttl_s:",
        "                if now - topic.updated_at < 2 * ttl_s:",
    ),
    Mutant(
        "what was received out of order ages in that order",
        "delivery/freshness.py",
        "        if waited_s > IN_ORDER_S:\n            self.disordered.add(ttl_s)\n",
        "",
    ),
)


def report(names: Sequence[str], seconds: float) -> int:
    """Break the hub in all ways, or in those whose name has one of the words; return the exit status."""
    chosen = [mutant for mutant in MUTANTS if not names or any(name in mutant.name for name in names)]
    share_s = max(LEAST_S, seconds / max(1, len(chosen)))
    killed, broken, equivalent = 0, 0, 0
    print(f"{len(chosen)} mutants, at most {share_s:.0f} s each", flush=True)
    for mutant in chosen:
        if mutant.equivalent:
            equivalent += 1
            print(f"equal     {mutant.name}: {mutant.equivalent}", flush=True)
            continue
        started = time.monotonic()
        try:
            found = _found(mutant, share_s)
        except ValueError as error:
            broken += 1
            print(f"ERROR     {error}", flush=True)
            continue
        killed += found is not None
        item = f" [item {mutant.item}]" if mutant.item else ""
        took_s = time.monotonic() - started
        print(f"{'killed  ' if found else 'SURVIVED'}  {mutant.name}{item}, {took_s:.1f} s: {found}", flush=True)
    print(f"{killed} of {len(chosen)} killed, {equivalent} change nothing, {broken} could not be tried")
    return 0 if killed + equivalent == len(chosen) else 1


def _found(mutant: Mutant, seconds: float) -> str | None:
    """Hunt a mutant; return what was found first, or None."""
    with TemporaryDirectory() as folder:
        tree = Path(folder)
        for part in PARTS:
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / part, tree / part)
        mutant.apply(tree)
        command = [sys.executable, "-m", "tests.hunt", "--seed", "0", "--no-sockets", "--quick"]
        if mutant.profile:
            command += ["--profile", mutant.profile]
        ran = subprocess.run(
            [*command, "--minutes", str(seconds / 60)], cwd=tree, capture_output=True, text=True, check=False
        )
        if ran.returncode == 0:
            return None
        lines = [line for line in ran.stdout.splitlines() if line.startswith("seed ")]
        if lines and programs.hunt(int(lines[0].split()[1].rstrip(":")), shrink=False) is not None:
            raise ValueError(f"mutant {mutant.name}: {lines[0][:60]}… fails without it, too")
        return lines[0][:150] if lines else f"status {ran.returncode}: {ran.stderr.strip()[-150:]}"

"""Draw random programs from seeds, run them, and shorten those that fail."""

import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.hunt.judge import Violation
from tests.hunt.timing import Endless
from tests.hunt.wire import Undecodable
from tests.hunt.world import HOUR_MS, LONG_TTL_S, TTL_S, Config, Step, World

SHRINK_S = 20.0
FAILURES = (Violation, Undecodable, Endless)


@dataclass(frozen=True, slots=True)
class Program:
    """A program: its seed draws the same one again."""

    seed: int
    profile: str
    config: Config
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        """Return the program as Python, to be pasted into a test."""
        steps = "\n".join(f"    {step!r}," for step in self.steps)
        return f"# seed {self.seed}, {self.profile}\nconfig = {self.config!r}\nsteps = [\n{steps}\n]"


@dataclass(frozen=True, slots=True)
class Failure:
    """A broken contract, and the program that shows it."""

    program: Program
    text: str

    def __str__(self) -> str:
        """Return the failure for a terminal."""
        return f"seed {self.program.seed}: {self.text}\n{self.program}"


def drawn(seed: int) -> Program:
    """Draw the program of a seed."""
    rng = random.Random(seed)
    name = profile_of(seed)
    config, steps = PROFILES[name](rng)
    return Program(seed, name, config, tuple(steps))


def profile_of(seed: int) -> str:
    """Return the kind of program that a seed draws."""
    return list(PROFILES)[seed % len(PROFILES)]


def outcome(program: Program) -> str | None:
    """Run a program; return what is wrong, or None."""
    try:
        World(program.config).run(program.steps)
    except FAILURES as failure:
        return str(failure)
    return None


def hunt(seed: int, shrink: bool = True) -> Failure | None:
    """Run the program of a seed, and make it shorter if it fails."""
    program = drawn(seed)
    text = outcome(program)
    if text is None:
        return None
    return shrunk(program, text) if shrink else Failure(program, text)


def kind_of(text: str) -> str:
    """Return the kind of failure that a text names, without client, topic and numbers."""
    published = re.sub(r"^client \d+ \([^)]*\): ", "", text)
    return " ".join(re.sub(r"[^a-z ]+", " ", published).split()[:4])


def shrunk(program: Program, text: str) -> Failure:
    """Drop steps as long as the program still fails in the same way, the larger parts first."""
    kind = kind_of(text)
    until = time.monotonic() + SHRINK_S
    steps = list(program.steps)
    size = max(1, len(steps) // 2)
    while size and time.monotonic() < until:
        place, dropped = 0, False
        while place < len(steps) and time.monotonic() < until:
            fewer = steps[:place] + steps[place + size :]
            found = outcome(Program(program.seed, program.profile, program.config, tuple(fewer)))
            if found is not None and kind_of(found) == kind:
                steps, text, dropped = fewer, found, True
            else:
                place += size
        if not dropped or size > len(steps):
            size //= 2
    return Failure(Program(program.seed, program.profile, program.config, tuple(steps)), text)


# --- what programs are drawn from ---

Draw = Callable[[random.Random], Step]

INTERVALS = (0, 0, 0, 100, 250, 400, 1000)


def _client(rng: random.Random, **fixed: int) -> Step:
    drawn = {
        "wire": rng.choice((0, 0, 0, 1, 2, 3, 4)),
        "selection": rng.randrange(15),
        "interval": rng.choice(INTERVALS),
        "watched": rng.randrange(2),
        "prompt": rng.randrange(2),
        "portion": rng.choice((1, 400, 8192)),
        "remembers": 1,
        "count": 1,
    } | fixed
    return ("client", *drawn.values())


def _who(rng: random.Random) -> int:
    return rng.randrange(1000)


def _choice(rng: random.Random) -> int | None:
    return None if rng.random() < 0.5 else rng.randrange(100_000)


STEPS: dict[str, Draw] = {
    "publish": lambda rng: (
        "publish",
        rng.randrange(40),
        rng.randrange(2),
        rng.choice((0, 0, 200, 20_000, 40_000)),
        rng.choice((0, 0, 0, 0, 2000, 5000, 9999, 30_000)),
    ),
    "log": lambda rng: ("log", rng.randrange(4)),
    "hole": lambda rng: ("hole", rng.randrange(2)),
    "burst": lambda rng: (
        "burst",
        rng.randrange(50),
        rng.randrange(2, 14),
        rng.randrange(4),
        rng.choice((0, 0, 2, 5)),
        rng.choice((0, 0, 300)),
    ),
    "feed": lambda rng: ("feed", rng.randrange(1, 4), rng.choice((0, 0, 300)), rng.choice((0, 1, 1))),
    "quiet": lambda rng: ("quiet", rng.randrange(1, 3)),
    "turn": lambda rng: ("turn", rng.randrange(1, 4)),
    "rest": lambda _: ("rest",),
    "advance": lambda rng: ("advance", rng.choice((1, 20, 50, 100, 250, 400, 1000, 1500)), rng.randrange(5)),
    "wait": lambda rng: ("advance", rng.choice((4000, 9000, 11_000, 12_000, 31_000)), rng.randrange(5)),
    "ticks": lambda rng: (
        "ticks",
        rng.randrange(3, 25),
        rng.choice((20, 50, 100)),
        rng.randrange(1, 5),
        rng.randrange(5),
    ),
    "standstill": lambda rng: ("standstill", rng.choice((900, 1500, 4000, 11_000, 30_000))),
    "lose": lambda rng: ("lose", _who(rng)),
    "resume": lambda rng: ("resume", _who(rng), _choice(rng)),
    "bounce": lambda rng: ("bounce", _who(rng), _choice(rng)),
    "subscribe": lambda rng: (
        "subscribe",
        _who(rng),
        rng.randrange(15),
        rng.choice(INTERVALS),
        rng.choice(("none", "none", "own", "any", "earliest", "epoch", "garbage", "future")),
    ),
    "unsubscribe": lambda rng: ("unsubscribe", _who(rng), rng.randrange(15)),
    "snapshot": lambda rng: ("snapshot", _who(rng), rng.randrange(15)),
    "rewire": lambda rng: ("rewire", _who(rng), rng.randrange(3)),
    "refuse": lambda _: ("refuse", 11),
    "pause": lambda rng: ("pause", _who(rng), rng.randrange(2)),
    "drain": lambda rng: ("drain", _who(rng), rng.choice((1, 150, 400, 5000, 70_000, None, None))),
    "pace": lambda rng: ("pace", _who(rng)),
    "pong": lambda rng: ("pong", _who(rng)),
    "fault": lambda rng: ("fault", _who(rng), rng.randrange(5), rng.randrange(9)),
    "close": lambda rng: ("close", _who(rng), rng.randrange(2)),
    "dismiss": lambda rng: ("dismiss", _who(rng)),
    "after": lambda rng: ("after", _who(rng), rng.randrange(12)),
    "settle": lambda _: ("settle",),
    "hammer": lambda rng: ("hammer", rng.randrange(100, 400), rng.randrange(3)),
    "churn": lambda rng: ("churn", _who(rng), rng.randrange(20, 120)),
    "deserted": lambda rng: ("deserted", rng.choice((5, 31)), rng.randrange(1000)),
    "appear": lambda rng: ("appear", rng.choice((0, 200))),
    "woken": lambda rng: ("woken", rng.choice((900, 9000, 11_000)), _who(rng), rng.randrange(3)),
    "stale": lambda rng: ("stale", rng.randrange(40)),
    "client": _client,
}


def _steps(rng: random.Random, count: int, weights: Mapping[str, float]) -> list[Step]:
    names = list(weights)
    return [STEPS[name](rng) for name in rng.choices(names, list(weights.values()), k=count)]


EVERYDAY: dict[str, float] = {
    "publish": 12,
    "log": 8,
    "hole": 1,
    "appear": 0.7,
    "burst": 6,
    "turn": 10,
    "rest": 4,
    "advance": 10,
    "ticks": 2,
    "bounce": 5,
    "lose": 3,
    "resume": 4,
    "subscribe": 6,
    "unsubscribe": 3,
    "snapshot": 3,
    "rewire": 2,
    "settle": 1,
    "client": 1,
}


def _mixed(rng: random.Random) -> tuple[Config, list[Step]]:
    """Draw a dozen clients of every kind, and every kind of step."""
    weights = EVERYDAY | {
        "wait": 1,
        "standstill": 0.7,
        "pause": 4,
        "drain": 8,
        "pace": 2,
        "pong": 5,
        "fault": 0.6,
        "close": 1,
        "dismiss": 1,
        "after": 3,
        "refuse": 0.5,
        "deserted": 0.7,
        "stale": 0.7,
    }
    config = Config(prices=rng.choice((3, 6)), ring=rng.choice((2, 4, 50)), writes_a_turn=rng.choice((1, 2, 3, 500)))
    clients = [_client(rng) for _ in range(rng.randrange(5, 12))]
    return config, clients + _steps(rng, rng.randrange(40, 140), weights)


def _fast(rng: random.Random) -> tuple[Config, list[Step]]:
    """Draw clients that keep up: whatever the others do, they get every event and every value."""
    config = Config(
        prices=rng.choice((4, 8, 20)),
        ring=rng.choice((4, 50)),
        writes_a_turn=rng.choice((1, 2, 5, 500)),
        ttl_s=rng.choice((TTL_S, LONG_TTL_S)),
    )
    clients = [_client(rng, prompt=1) for _ in range(rng.randrange(4, 14))]
    return config, clients + _steps(
        rng,
        rng.randrange(40, 120),
        EVERYDAY
        | {
            "feed": 5,
            "quiet": 0.5,
            "appear": 2,
            "standstill": 0.3,
            "woken": 0.7,
            "wait": 0.3,
            "deserted": 0.5,
            "stale": 0.5,
        },
    )


def _crowds(rng: random.Random) -> tuple[Config, list[Step]]:
    """Draw large groups, bursts of many kilobytes and a budget that does not last for one group."""
    prices = rng.choice((60, 200, 400))
    config = Config(
        prices=prices,
        ring=500,
        writes_a_turn=rng.choice((7, 40, 100, 500)),
        bytes_a_write=rng.choice((256, 2048, 8192)),
        names=rng.choice((2, 40, 300)),
    )
    clients = [
        _client(
            rng, prompt=1, remembers=0, selection=rng.choice((0, 1, 2, 9, 10)), interval=0, count=rng.choice((60, 130))
        )
        for _ in range(rng.randrange(1, 3))
    ]
    clients += [
        _client(rng, prompt=1, selection=rng.choice((0, 1, 2, 9, 10)), count=rng.randrange(1, 3)) for _ in range(4)
    ]
    clients += [_client(rng) for _ in range(3)]
    clients.append(_client(rng, prompt=1, remembers=0, selection=rng.choice((1, 2)), interval=0, count=2))
    steps: list[Step] = []
    for _ in range(rng.randrange(3, 6)):
        steps.append(
            ("burst", 0, rng.choice((60, 200, 400)), rng.randrange(4), rng.choice((0, 0, 60)), rng.choice((0, 150)))
        )
        some = {
            "turn": 8,
            "publish": 3,
            "log": 3,
            "bounce": 2,
            "subscribe": 1,
            "lose": 1,
            "pause": 1,
            "close": 0.5,
            "after": 1,
        }
        steps += _steps(rng, rng.randrange(1, 10), some)
    return config, clients + steps


def _throttled(rng: random.Random) -> tuple[Config, list[Step]]:
    """Draw throttled clients beside others on the same topics, with prices that come faster than their intervals."""
    config = Config(prices=rng.choice((3, 6)), writes_a_turn=rng.choice((2, 500)))
    clients = [
        _client(
            rng,
            interval=rng.choice((0, 100, 250, 1000)),
            prompt=int(rng.random() < 0.8),
            selection=rng.choice((0, 1, 2, 5, 6, 12)),
        )
        for _ in range(rng.randrange(3, 9))
    ]
    weights = {
        "ticks": 8,
        "advance": 6,
        "publish": 4,
        "log": 3,
        "snapshot": 2,
        "subscribe": 2,
        "bounce": 3,
        "unsubscribe": 1,
        "turn": 2,
        "standstill": 0.3,
        "woken": 0.7,
        "rewire": 0.5,
        "settle": 0.5,
        "pause": 0.5,
        "drain": 1,
        "dismiss": 0.5,
        "burst": 2,
    }
    return config, clients + _steps(rng, rng.randrange(20, 60), weights)


def _patience(rng: random.Random) -> tuple[Config, list[Step]]:
    """Draw slow, stuck and paced clients, quiet times, and bounds that are reached."""
    config = Config(
        prices=rng.choice((3, 20)),
        outbox_bytes=rng.choice((4 << 20, 4 << 20, 30_000)),
        total_bytes=rng.choice((512 << 20, 512 << 20, 200_000)),
    )
    clients = [
        _client(rng, portion=rng.choice((1, 8192)), prompt=int(rng.random() < 0.4)) for _ in range(rng.randrange(3, 8))
    ]
    weights = {
        "publish": 8,
        "log": 5,
        "burst": 4,
        "advance": 6,
        "wait": 5,
        "standstill": 1,
        "pause": 4,
        "drain": 5,
        "pace": 5,
        "pong": 5,
        "dismiss": 2,
        "after": 3,
        "close": 1,
        "resume": 5,
        "turn": 3,
        "snapshot": 4,
        "ticks": 3,
        "bounce": 1,
        "settle": 0.5,
        "subscribe": 1,
    }
    return config, clients + _steps(rng, rng.randrange(30, 90), weights)


def _faults(rng: random.Random) -> tuple[Config, list[Step]]:
    """Draw transports that raise anything, in groups with clients whose transports do not."""
    config = Config(prices=4, writes_a_turn=rng.choice((1, 3, 500)))
    clients = []
    for _ in range(rng.randrange(2, 5)):
        alike = {"selection": rng.randrange(15), "interval": rng.choice(INTERVALS), "wire": rng.randrange(5)}
        clients += [
            _client(rng, **alike, prompt=0),
            _client(rng, **alike, prompt=1),
            _client(rng, **alike, prompt=rng.randrange(2)),
        ]
        if rng.random() < 0.5:
            clients.append(_client(rng, **alike, prompt=0))
    rng.shuffle(clients)
    weights = {
        "fault": 4,
        "publish": 10,
        "log": 6,
        "burst": 5,
        "turn": 8,
        "advance": 6,
        "pause": 3,
        "drain": 3,
        "pace": 2,
        "pong": 2,
        "subscribe": 2,
        "unsubscribe": 1,
        "bounce": 2,
        "resume": 3,
        "close": 1,
        "dismiss": 1,
        "after": 2,
        "wait": 0.5,
        "rewire": 1,
        "settle": 0.3,
    }
    return config, clients + _steps(rng, rng.randrange(20, 70), weights)


def _memory(rng: random.Random) -> tuple[Config, list[Step]]:
    """Draw many events and many changes of selection, of which nothing may be kept."""
    config = Config(prices=3)
    clients = [
        _client(
            rng,
            prompt=1,
            remembers=0,
            interval=rng.choice((0, 400, 1000, HOUR_MS, HOUR_MS)),
            selection=rng.choice((0, 1, 2, 6, 12)),
        )
        for _ in range(rng.randrange(1, 5))
    ]
    weights = {
        "hammer": 3,
        "churn": 3,
        "publish": 2,
        "advance": 2,
        "subscribe": 1,
        "bounce": 2,
        "lose": 1,
        "log": 1,
        "rewire": 1,
    }
    return config, clients + _steps(rng, rng.randrange(3, 12), weights)


PROFILES: dict[str, Callable[[random.Random], tuple[Config, list[Step]]]] = {
    "mixed": _mixed,
    "crowds": _crowds,
    "throttled": _throttled,
    "fast": _fast,
    "patience": _patience,
    "faults": _faults,
    "memory": _memory,
}


def all_fine(seeds: Sequence[int]) -> list[Failure]:
    """Run the programs of seeds; return those that fail."""
    return [failure for seed in seeds if (failure := hunt(seed)) is not None]

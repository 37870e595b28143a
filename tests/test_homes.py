"""What only named places may do: catch everything, make tasks without a group, and read clocks, chance and environment.

Each place has its reason here. A new one needs a line, and a place that no longer needs its line loses it.
"""

import ast
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = {
    str(path.relative_to(ROOT)): ast.parse(path.read_text())
    for package in ("orchestrator", "feeds", "stream_server")
    for path in sorted((ROOT / package).rglob("*.py"))
}
EVERYTHING = {"Exception", "BaseException"}
Rule = Callable[[ast.AST], Iterator[ast.AST]]

CATCH_ALL = {
    "stream_server/delivery/deliveries.py": "a block around each write would show in the time of a round",
    "stream_server/delivery/laggards.py": "as above, in the fan-out to SSE clients",
}
"""Places with one `except Exception` each. All others use `Contained`, or name the errors that they expect."""
CONTAINERS = {
    "orchestrator/containment.py": "the one place for all who are not delivered to",
    "stream_server/delivery/faults.py": "the same for a client, who is blamed for the fault",
}
"""Context managers that stop exceptions of every kind."""
TASKS_WITHOUT_A_GROUP = {
    "orchestrator/pool.py": "a call belongs to no single caller; the pool cancels and awaits it in `close`",
    "orchestrator/recent.py": "as above; the end of the loop cancels it",
    "orchestrator/waiting.py": "a group waits for all tasks, these functions for the first; they await the others",
    "stream_server/background.py": "the root of all groups: a generator that aiohttp resumes cannot hold one open",
    "feeds/exchange/link.py": "a link outlives the step that opens it; its socket awaits its end",
    "feeds/exchange/stream_socket.py": "a timer that the step which made it cancels",
}
WALL_CLOCK = {"orchestrator/clock.py": "the machine's clocks; all others are given a Clock"}
WALL_READS = {
    "time": {"time", "time_ns", "ctime"},
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
}
SECRETS_READS = {"choice", "randbelow", "randbits", "token_bytes", "token_hex", "token_urlsafe"}
CHANCE = {
    "stream_server/app.py": "the generator that all parts are given, and the name of a run",
    "stream_server/access/tokens.py": "the key of tickets and their ids",
    "stream_server/observing/probe.py": "the word of a probe",
}
ENVIRONMENT = {"stream_server/settings/declared.py": "pydantic-settings reads the environment and `.env`"}
ENVIRONMENT_READERS = {"environ", "getenv", "EnvSettingsSource", "DotEnvSettingsSource", "dotenv_values", "load_dotenv"}


def catches_everything(tree: ast.AST) -> Iterator[ast.AST]:
    """Find `except Exception` and its like, and `contextlib.suppress(Exception)`."""
    for node in ast.walk(tree):
        match node:
            case ast.ExceptHandler(type=None):
                yield node
            case ast.ExceptHandler(type=ast.expr() as caught) if names_in(caught) & EVERYTHING:
                yield node
            case ast.Call(ast.Attribute(attr="suppress") | ast.Name("suppress"), arguments):
                if any(names_in(each) & EVERYTHING for each in arguments):
                    yield node


def contains_everything(tree: ast.AST) -> Iterator[ast.AST]:
    """Find context managers that ask whether what ends their block is an Exception."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in ("__exit__", "__aexit__"):
            yield from (
                each
                for each in ast.walk(node)
                if isinstance(each, ast.Call)
                and names_in(each.func) == {"isinstance"}
                and names_in(each.args[1]) & EVERYTHING
            )


def tasks_without_a_group(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(ast.Attribute(ast.Name("group") | ast.Attribute(attr="group"), "create_task")):
                pass
            case ast.Call(ast.Attribute(attr="create_task" | "ensure_future")):
                yield node


def wall_clock_reads(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(ast.Name(owner) | ast.Attribute(attr=owner), attribute):
                if attribute in WALL_READS.get(owner, ()):
                    yield node
            case ast.ImportFrom("time", names):
                yield from (name for name in names if name.name in WALL_READS["time"])


def chance(tree: ast.AST) -> Iterator[ast.AST]:
    """Find what makes randomness; the type `random.Random` in a signature makes none."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(ast.Attribute(ast.Name("random" | "uuid")) | ast.Attribute(attr="urandom")):
                yield node
            case ast.Call(ast.Attribute(ast.Name("secrets"), name)) if name in SECRETS_READS:
                yield node
            case ast.ImportFrom("random" | "secrets" | "uuid"):
                yield node


def environment_reads(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name) | ast.Call(ast.Name(name)) if name in ENVIRONMENT_READERS:
                yield node
            case ast.ImportFrom("os", names):
                yield from (name for name in names if name.name in ENVIRONMENT_READERS)


def names_in(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


RULES = [
    pytest.param(catches_everything, CATCH_ALL, id="catches everything"),
    pytest.param(contains_everything, CONTAINERS, id="contains everything"),
    pytest.param(tasks_without_a_group, TASKS_WITHOUT_A_GROUP, id="makes tasks without a group"),
    pytest.param(wall_clock_reads, WALL_CLOCK, id="reads the wall clock"),
    pytest.param(chance, CHANCE, id="makes randomness"),
    pytest.param(environment_reads, ENVIRONMENT, id="reads the environment"),
]


@pytest.mark.parametrize(("found_in", "homes"), RULES)
def test_only_the_named_places_do_it(found_in: Rule, homes: dict[str, str]) -> None:
    found = {path for path, tree in MODULES.items() if any(found_in(tree))}
    assert found == set(homes)
    assert all(homes.values()), "every place has its reason"


def test_everything_is_caught_in_three_places_at_most() -> None:
    found = Counter({path: len(list(catches_everything(tree))) for path, tree in MODULES.items()})
    assert found.total() <= 3
    assert max(found.values()) == 1


@pytest.mark.parametrize(
    ("found_in", "code"),
    [
        (catches_everything, "try: f()\nexcept Exception as error: pass"),
        (catches_everything, "try: f()\nexcept (ValueError, BaseException): pass"),
        (catches_everything, "try: f()\nexcept: pass"),
        (catches_everything, "with contextlib.suppress(Exception): f()"),
        (contains_everything, "class A:\n def __exit__(self, *of):\n  return isinstance(of[1], Exception)"),
        (tasks_without_a_group, "asyncio.create_task(f())"),
        (tasks_without_a_group, "loop.create_task(f())"),
        (tasks_without_a_group, "asyncio.ensure_future(f())"),
        (wall_clock_reads, "time.time()"),
        (wall_clock_reads, "datetime.datetime.now(UTC)"),
        (wall_clock_reads, "key = datetime.now"),
        (wall_clock_reads, "from time import time_ns"),
        (chance, "random.random()"),
        (chance, "random.Random(1)"),
        (chance, "from secrets import choice"),
        (chance, "os.urandom(16)"),
        (environment_reads, "os.environ['HOME']"),
        (environment_reads, "from os import getenv"),
        (environment_reads, "dotenv_values('.env')"),
    ],
)
def test_it_would_be_found_elsewhere(found_in: Rule, code: str) -> None:
    assert any(found_in(ast.parse(code)))


@pytest.mark.parametrize(
    ("found_in", "code"),
    [
        (catches_everything, "try: f()\nexcept (OSError, ValueError): pass"),
        (tasks_without_a_group, "self.group.create_task(f())\ngroup.create_task(f())"),
        (wall_clock_reads, "clock.now()\nself.clock.wall_ms()\ntime.monotonic()\ndatetime.fromtimestamp(1)"),
        (chance, "def f(rng: random.Random) -> float:\n return rng.random()"),
    ],
)
def test_what_is_like_it_is_allowed(found_in: Rule, code: str) -> None:
    assert not any(found_in(ast.parse(code)))

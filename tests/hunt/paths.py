"""Record which ways events take through the hub while programs run. Each way that has a name has to be taken.

A fast path that no program takes is a fast path that nobody checks. What delivers is found by the names of its modules,
and a way by a piece of its source, so code may move. `Reached.missing` lists every line that was not reached.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

from tests.hunt import programs
from tests.hunt.world import World

PARTS = ("stream_server.delivery",)
"""The packages that deliver, with all their modules."""


def delivery_modules() -> list[ModuleType]:
    """Return the modules that deliver."""
    found = [
        module
        for name, module in sorted(sys.modules.items())
        if any(name == part or name.startswith(f"{part}.") for part in PARTS)
    ]
    if "stream_server.delivery.hub" not in {module.__name__ for module in found}:
        raise RuntimeError("the hub is elsewhere now: name its module in paths.PARTS")
    return found


def functions(modules: Sequence[ModuleType]) -> dict[CodeType, str]:
    """Return the names of all functions in modules by their code, also of methods and inner functions."""
    found: dict[CodeType, str] = {}
    for module in modules:
        assert module.__file__ is not None
        whole = compile(Path(module.__file__).read_text(encoding="utf-8"), module.__file__, "exec")
        for code in _within(whole):
            if code.co_flags & 0x2:  # of a function; a class body and the module have none
                found[code] = f"{module.__name__}.{code.co_qualname}"
    return found


def _within(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _within(constant)


def lines_of(code: CodeType) -> set[int]:
    """Return the lines of a function that run when it is called, without those of inner functions."""
    inner = {line for each in _within(code) for _, _, line in each.co_lines()}
    lines = {line for _, _, line in code.co_lines() if line is not None}
    return {line for line in lines - inner if line != code.co_firstlineno}


class Reached:
    """The lines that ran, and how often each function was called."""

    def __init__(self) -> None:
        self.files = {module.__file__ for module in delivery_modules()}
        self.lines: set[tuple[str, int]] = set()
        self.calls: Counter[str] = Counter()

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Record what runs meanwhile."""
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            yield
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, event: str, _: Any) -> Any:
        code = frame.f_code
        if event != "call" or code.co_filename not in self.files:
            return None
        self.calls[f"{frame.f_globals['__name__']}.{code.co_qualname}"] += 1
        lines, name = self.lines, code.co_filename

        def step(frame: FrameType, event: str, _: Any) -> Any:
            if event == "line":
                lines.add((name, frame.f_lineno))
            return step

        return step

    def missing(self) -> list[str]:
        """Return the lines that did not run, as `module.function:line: source`."""
        missing: list[str] = []
        for code, name in functions(delivery_modules()).items():
            if any(name.endswith(ending) for ending in NOT_DELIVERY) or _is_stub(code):
                continue
            lines = [line for line in sorted(lines_of(code)) if (code.co_filename, line) not in self.lines]
            missing += [f"{name}:{line}: {_source(code.co_filename, line)}" for line in lines]
        return missing

    def untaken(self) -> list[str]:
        """Return the ways that were not taken, or whose piece of source does not exist any more."""
        sources = {file: Path(file).read_text(encoding="utf-8").split("\n") for file in self.files if file}
        found: set[str] = set()
        for way, piece in WAYS.items():
            for file, lines in sources.items():
                if any(piece in text and (file, number) in self.lines for number, text in enumerate(lines, 1)):
                    found.add(way)
        return [f"{way}: {piece}" for way, piece in WAYS.items() if way not in found]


WAYS = {
    "joined from the table of a rising burst": "parts = picker(burst.by_number())",
    "alone, and joined": "payload, count = joined",
    "alone, and lagging": "self.laggards.send_or_hold(outbox, frames, payload)",
    "shared by a group": "written = end - start - len(aside)",
    "interrupted by the end of a turn": "self.unfinished.append(delivery)",
    "interrupted, and gone on with": "delivery = self.unfinished[0]",
    "interrupted, and settled": "self.unfinished.remove(delivery)",
    "to a newcomer": "unseen = [frame for frame in delivery.frames",
    "few of a large burst": "places = self._places()",
    "held at once": "held[topic] = newest[topic]",
    "held one by one": "self.hold(frame, interval_ms)",
    "released by what may not wait": "self.release()  # what may not wait",
    "released by a beat": "self.ripe.add(interval_ms)",
    "a beat without a group": "self.dead -= 1",
    "a portion of a paced client": "outbox.ask(now)",
    "a turn of topics": "replaced = [(frame.seq, frame) for frame in turn",
    "caught up": "outbox.keep_up(now)",
    "cut": "self.close(outbox, TOO_SLOW)",
    "resumed under the cursor": "lacking = [messages.update(",
    "what was held comes with a new selection": "self.laggards.send_or_hold(outbox, wanted)",
    "a fault of one of a group": "self.faults.blame(outbox, error)",
}
"""Ways, and a piece of the source of each. If the source changes, give the way its new piece."""


NOT_DELIVERY = (
    ".sizes",
    ".delivered",
    ".is_listened",
    ".held_messages",
)
"""Functions for `/metrics`, `/api/status` or feeds, which deliver nothing."""


SITUATIONS = frozenset(
    {
        "called after the end",
        "cut",
        "deserted",
        "dismissed",
        "paced",
        "resumed",
        "snapshot",
        "stood still",
        "stopped reading",
        "buffered raises",
        "close raises",
        "write raises",
    }
)
"""Situations that the programs have to bring about."""


def _is_stub(code: CodeType) -> bool:
    """Return whether a function has only a docstring, as those of a Protocol."""
    return not any(True for _ in _instructions(code))


def _instructions(code: CodeType) -> Iterator[int]:
    return iter(
        sorted(lines_of(code))[1:] or [each for each in lines_of(code) if _source(code.co_filename, each)[:3] != '"""']
    )


def _source(file: str, line: int) -> str:
    return Path(file).read_text(encoding="utf-8").split("\n")[line - 1].strip()


def reached_by(seeds: Sequence[int]) -> tuple[Reached, Counter[str]]:
    """Run the programs of seeds; return what they reached, and which situations they brought about."""
    reached, situations = Reached(), Counter[str]()
    for seed in seeds:
        program = programs.drawn(seed)
        world = World(program.config)
        with reached.watch():
            world.run(program.steps)
        situations += world.situations
    return reached, situations

"""A study: one question about the service that a single figure does not answer."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import median

from bench.processes import Cores


@dataclass(frozen=True, slots=True)
class Lab:
    """Where and how thoroughly."""

    cores: Cores
    quick: bool
    say: Callable[[str], None]
    minutes: float = 0.0
    """For how long at least to look at what may grow with time."""

    def seconds(self, full: float, quick: float) -> float:
        """How long to look."""
        return quick if self.quick else full


@dataclass(frozen=True, slots=True)
class Verdict:
    """One goal, and what was reached."""

    text: str
    goal: str
    reached: str
    met: bool


@dataclass(slots=True)
class Findings:
    """A table, goals, remarks, and everything that was seen."""

    head: list[str]
    rows: list[list[str]] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    raw: list[dict[str, object]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Study:
    """`run` may raise Absent or Failed."""

    key: str
    title: str
    about: str
    run: Callable[[Lab], Findings]


def number(value: float) -> str:
    """Three figures that count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def spread(values: Iterable[float]) -> str:
    """Median, and the range if there is one."""
    seen = sorted(values)
    middle = number(median(seen))
    return middle if len(seen) == 1 else f"{middle} ({number(seen[0])}–{number(seen[-1])})"
